"""How well the frames of the virtual beamline follow its rays, and what a frame costs.

Each row tracks two noise-free frames and compares with the traced rays. The residual is
diffraction: the optic changes the path on which speckle forms, and so the speckle itself. Run
``OMP_NUM_THREADS=1 python benchmarks/beamline.py``.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from figures import add_write_option, show

import wavedask as wd
from wavedask.optics import ModalSurface
from wavedask.simulate import (
    REFERENCE,
    SAMPLE,
    Beamline,
    Crl,
    Membrane,
    Setting,
    absolute_beamline,
    differential_beamline,
)

PIXEL = 0.65e-6
MARGIN = 24
"""Pixels at the border that are not compared."""
FIGURE = ModalSurface((0, 0, 0, 2e-7, 0, -3e-7, 1e-7, 2e-7, 0, 3e-7), half_width=3e-4)


class Case(NamedTuple):
    """Two exposures that are compared."""

    label: str
    beamline: Beamline
    sample: Setting
    reference: Setting
    detectors: tuple[int, int] = (0, 0)


class Row(NamedTuple):
    """One line of the table."""

    label: str
    reach: float
    rms_error: float
    gain_error: float
    correlation: float
    seconds: float


def cases(size: int) -> list[Case]:
    """Beamlines with a lens, a membrane before, at or behind it, and moving parts."""
    shape = (size, size)
    lens = Crl(40.0, radius=60e-6, delta=1.2e-6)
    width = 2 * size * PIXEL + 3e-4

    def with_membrane(optic: Crl, place: float) -> Beamline:
        membrane = Membrane(40.0 + place, size=width)
        return differential_beamline(optic=optic, membrane=membrane, distance=0.8, shape=shape)

    at_lens = with_membrane(lens, 0.0)
    moved = replace(REFERENCE, membrane=(2.3 * PIXEL, -1.7 * PIXEL))
    tilted = replace(REFERENCE, source=(60e-6, -90e-6))
    two = absolute_beamline(shape=shape)
    return [
        Case("membrane moved", at_lens, moved, REFERENCE),
        Case("source moved", at_lens, tilted, REFERENCE),
        Case("lens at the membrane", at_lens, SAMPLE, REFERENCE),
        Case("lens behind the membrane", with_membrane(lens, -0.2), SAMPLE, REFERENCE),
        Case("lens before the membrane", with_membrane(lens, 0.2), SAMPLE, REFERENCE),
        Case(
            "lens with figure error",
            with_membrane(replace(lens, error=FIGURE), 0.0),
            SAMPLE,
            REFERENCE,
        ),
        Case("cylindrical lens", with_membrane(replace(lens, axis=1), 0.0), SAMPLE, REFERENCE),
        Case("two detectors, no lens", two, REFERENCE, REFERENCE, (1, 0)),
    ]


def measure(case: Case) -> Row:
    """Track a case and compare with its rays."""
    far, near = case.detectors
    case.beamline.intensity(case.reference, detector=near)  # draws the membrane
    start = time.perf_counter()
    sample = case.beamline.intensity(case.sample, detector=far)
    seconds = time.perf_counter() - start
    reference = case.beamline.intensity(case.reference, detector=near)
    truth = case.beamline.truth(case.sample, case.reference, detector=far, reference_detector=near)
    pixels = case.beamline.detectors[far].pixels()
    true = np.stack([pixels[0] - truth.reference_y, pixels[1] - truth.reference_x])
    found = wd.cross_spot(sample, reference, window=21, search=16)
    inner = (slice(None), slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    measured = np.stack([found.displacement_y, found.displacement_x])[inner]
    true = true[inner]
    error = measured - true
    return Row(
        case.label,
        float(np.abs(true).max()),
        float(np.sqrt(np.nanmean(error**2))),
        float(np.nansum(error * true) / np.nansum(true**2)),
        float(np.nanmean(np.asarray(found.correlation)[inner[1:]])),
        seconds,
    )


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Print the table and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="pixels a side")
    add_write_option(parser)
    arguments = parser.parse_args(argv)
    rows = [measure(case) for case in cases(arguments.size)]
    show(
        f"Tracked speckle against rays, {arguments.size} x {arguments.size} pixels, window 21",
        (
            "frames compared",
            "largest u / px",
            "rms error / px",
            "error along u / %",
            "correlation",
            "time per frame / s",
        ),
        [
            (
                row.label,
                f"{row.reach:.2f}",
                f"{row.rms_error:.3f}",
                f"{100 * row.gain_error:+.2f}",
                f"{row.correlation:.4f}",
                f"{row.seconds:.2f}",
            )
            for row in rows
        ],
        write=arguments.write,
    )
    return rows


if __name__ == "__main__":
    main()
