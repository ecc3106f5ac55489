"""How well two detectors measure a beam and a lens, on frames of the virtual beamline.

The frames have wave optics, camera noise, dark and flat; the near detector is rotated and off the
axis. Pixel sizes are exactly known unless a mesh scan measures them. Run
``OMP_NUM_THREADS=1 python benchmarks/absolute.py``.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr
from figures import add_write_option, show

import wavedask as wd
from wavedask.optics import ModalSurface
from wavedask.simulate import (
    DARK,
    FLAT,
    SAMPLE,
    Beamline,
    Crl,
    Distortion,
    Setting,
    Source,
    absolute_beamline,
    detector_mesh,
    membrane_scan,
)

SOURCE = 40.0
DISTANCES = (0.3, 0.8)
ENERGY = 9.1
PIXEL = 1.6e-6
RADIUS = 300e-6
WINDOW = 21
MESH_STEP = 16e-6
JITTER = 5e-9
"""Rms error of the positions of a mesh scan, m: an encoder."""


class Case(NamedTuple):
    """One measurement.

    Attributes
    ----------
    label : str
        Name of the case.
    lens : bool
        Whether a lens is in the beam.
    positions : int
        Positions of the membrane along each axis; matched together.
    wrong : float
        Relative error of the near detector's pixel size.
    distorted, calibrated : bool
        Whether the detectors are distorted, and whether mesh scans calibrate them.
    """

    label: str
    lens: bool = False
    positions: int = 3
    wrong: float = 0.0
    distorted: bool = False
    calibrated: bool = False


class Row(NamedTuple):
    """One line of the table; errors relative, NaN where there is no lens."""

    label: str
    beam_error: float
    stated: float
    lens_error: float
    figure_error: float
    correlation: float
    seconds: float


CASES = (
    Case("beam of a source at 40 m, one position", positions=1),
    Case("the same, nine positions of the membrane"),
    Case("near pixel size wrong by 1e-4", wrong=1e-4),
    Case("detectors distorted by 1.5 px", distorted=True),
    Case("the same, calibrated by mesh scans", distorted=True, calibrated=True),
    Case("lens of 300 µm, one position", lens=True, positions=1),
    Case("the same, nine positions of the membrane", lens=True),
)


def beamline_of(case: Case, size: int) -> Beamline:
    """Set up two detectors, the near one turned and off the axis, and a lens with a flaw."""
    delta = wd.optics.refractive_decrement("Be", energy=ENERGY)
    figure = ModalSurface(
        (0.0,) * 6 + (5e-6, 3e-6, -4e-6, 4e-6, 0.0, 4e-6), half_width=size * PIXEL * 0.8
    )
    beamline = absolute_beamline(
        optic=Crl(SOURCE, radius=RADIUS, delta=delta, error=figure) if case.lens else None,
        source_distance=SOURCE,
        distances=DISTANCES,
        shape=(size, size),
        pixel_sizes=(PIXEL, PIXEL),
        source=Source(energy=ENERGY, size=(15e-6, 40e-6)),
    )
    near, far = beamline.detectors
    near = replace(near, rotation=np.deg2rad(0.8), center=(25e-6, -40e-6))
    if case.distorted:
        near = replace(near, distortion=Distortion((size, size), barrel=1.5))
        far = replace(far, distortion=Distortion((size, size), barrel=-1.0))
    return replace(beamline, detectors=(near, far))


class Images(NamedTuple):
    """Corrected frames of one detector, with its pixel size and its error."""

    frames: xr.DataArray
    sizes: tuple[float, float]
    errors: tuple[float, float]


def images_of(case: Case, beamline: Beamline, number: int) -> Images:
    """Take and correct the frames of a detector, and calibrate it if asked to."""
    dark, flat = (
        beamline.expose([setting] * 3, detector=number, first=first)
        for setting, first in ((DARK, 100), (FLAT, 200))
    )

    def corrected(scan: list[Setting], calibration: xr.Dataset | None = None) -> xr.DataArray:
        frames = beamline.expose(scan, detector=number).chunk({"frame": 1})
        return wd.correct(frames, dark=dark, flat=flat, distortion=calibration).compute()

    scan = membrane_scan(case.positions, case.positions, 30e-6)
    if not case.calibrated:
        size = PIXEL * (1 + case.wrong * (number == 0))
        return Images(corrected(scan), (size, size), (1e-4 * PIXEL, 1e-4 * PIXEL))
    mesh = corrected(detector_mesh(5, 5, MESH_STEP, jitter=JITTER, seed=number))
    calibration = wd.detector_distortion(mesh, motor_y="dety", motor_x="detx", progress=False)
    sizes, errors = (
        (float(calibration[f"pixel_size_y{end}"]), float(calibration[f"pixel_size_x{end}"]))
        for end in ("", "_error")
    )
    return Images(corrected(scan, calibration), sizes, errors)


def measured(case: Case, size: int) -> tuple[Row, xr.Dataset]:
    """Simulate, correct, register, track and compare."""
    beamline = beamline_of(case, size)
    near, far = (images_of(case, beamline, number) for number in (0, 1))
    begin = time.perf_counter()
    found = wd.register(far.frames, near.frames, pixel_size=(far.sizes, near.sizes))
    tracking = wd.track(
        far.frames, near.frames, window=WINDOW, search=6, over="frame", registration=found
    )
    result = wd.wavefront(
        tracking,
        mode="absolute",
        distance=DISTANCES,
        pixel_size=(near.sizes, far.sizes),
        pixel_size_error=(near.errors, far.errors),
        energy=ENERGY,
        source_distance=SOURCE,
    )
    seconds = time.perf_counter() - begin
    correlation = float(result.correlation.median())
    if not case.lens:
        radius = float(result.radius_of_curvature_x)
        return Row(
            case.label,
            radius / (SOURCE + DISTANCES[1]) - 1,
            float(result.radius_of_curvature_uncertainty_x) / abs(radius),
            np.nan,
            np.nan,
            correlation,
            seconds,
        ), result
    truth = beamline.truth(detector=1, reference=SAMPLE, reference_detector=0).wavefront
    known = result.wavefront.copy(data=truth.astype(result.wavefront.dtype))
    true = result.assign(wavefront=known.where(result.wavefront.notnull()))
    lens, exact = (wd.optics.fit_lens(wf, material="Be") for wf in (result, true))
    inside = {dim: slice(WINDOW // 2, -(WINDOW // 2)) for dim in ("y", "x")}
    difference = (lens.residual - exact.residual).isel(inside)
    return Row(
        case.label,
        np.nan,
        np.nan,
        float(lens.radius / exact.radius) - 1,
        float(difference.std() / exact.residual.isel(inside).std()),
        correlation,
        seconds,
    ), result


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Print the table, and write it and the budget of the first row if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=320, help="side of the frames in pixels")
    parser.add_argument(
        "--write-budget", type=Path, metavar="FILE.md", help="also write the first row's budget"
    )
    add_write_option(parser)
    options = parser.parse_args(arguments)
    rows = []
    for number, case in enumerate(CASES):
        row, result = measured(case, options.size)
        rows.append(row)
        if number == 0 and options.write_budget is not None:
            table = wd.budget(result, window=WINDOW)
            options.write_budget.write_text(f"```text\n{table}\n```\n", encoding="utf-8")
    show(
        f"Two detectors, 0.5 m apart, {options.size} x {options.size} pixels of 1.6 µm, 9.1 keV,"
        f" window {WINDOW}",
        (
            "measurement",
            "radius of beam / %",
            "stated / %",
            "radius of lens / %",
            "residual figure / %",
            "correlation",
            "time / s",
        ),
        [
            (
                row.label,
                *(
                    "" if np.isnan(value) else f"{100 * value:{layout}}"
                    for value, layout in (
                        (row.beam_error, "+.2f"),
                        (row.stated, ".2f"),
                        (row.lens_error, "+.2f"),
                        (row.figure_error, ".1f"),
                    )
                ),
                f"{row.correlation:.4f}",
                f"{row.seconds:.2f}",
            )
            for row in rows
        ],
        write=options.write,
    )
    return rows


if __name__ == "__main__":
    main()
