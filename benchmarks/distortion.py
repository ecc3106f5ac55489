"""Calibration of a detector: both methods against a known distortion, and what it costs.

Run ``python benchmarks/distortion.py``; ``--large`` adds the time and the peak memory of a mesh of
7 x 7 frames of 2048 x 2048 pixels, from a file on disk.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import dask
import dask.array as da
import numpy as np
import xarray as xr
from figures import add_write_option, show

import wavedask as wd
from wavedask.detector import METHODS, Method
from wavedask.kernels.mesh import motor_axes
from wavedask.simulate import Distortion, Feature, MeshScan, mesh_scan

CENTRAL: Final = 0.9
"""Part of the frame, along both axes, over which maps are compared."""
THREADS: Final = 2


class Row(NamedTuple):
    """One line of the table: errors against the truth, and the standard errors stated."""

    label: str
    error: float
    stated: float
    pixel_size: float
    pixel_size_stated: float
    rotation: float
    rotation_stated: float
    seconds: float


def detector(side: int) -> Distortion:
    """Return a barrel of 3 px at 1024 x 1024 with a local feature of 0.3 px, 60 px wide."""
    feature = Feature((0.4 * side, 0.6 * side), (0.3, -0.2), 60.0)
    return Distortion((side, side), barrel=3.0 * side / 1024, features=(feature,))


def simulated(side: int, positions: int, *, readback: bool) -> MeshScan:
    """Scan a detector in steps of 20 px, turned by 0.2 degrees; the stage error is 0.2 px."""
    return mesh_scan(
        detector(side),
        positions=(positions, positions),
        step=20.0,
        rotation=float(np.deg2rad(0.2)),
        jitter=0.2,
        readback=readback,
        seed=3,
    )


def calibrated(scan: xr.Dataset, method: Method) -> tuple[xr.Dataset, float]:
    """Calibrate, and measure the time."""
    started = time.perf_counter()
    found = wd.detector_distortion(
        scan, motor_y="dety", motor_x="detx", method=method, progress=False
    )
    return found, time.perf_counter() - started


def measured(mesh: MeshScan, method: Method, label: str) -> Row:
    """Compare a calibration with the truth, in its gauge."""
    found, seconds = calibrated(mesh.scan, method)
    maps = np.stack([found.distortion_y.values, found.distortion_x.values])
    valid = np.isfinite(maps).all(0)
    f_y, f_x, matrix = mesh.truth(valid)
    rim = round((1 - CENTRAL) / 2 * len(valid))
    inner = (slice(None), slice(rim, -rim), slice(rim, -rim))
    errors = (maps - np.stack([f_y, f_x]))[inner]
    truth = motor_axes(matrix)

    def stated(name: str) -> float:
        return float(np.sqrt(np.nanmean(found[name] ** 2))) if name in found else np.nan

    return Row(
        label,
        float(np.sqrt(np.nanmean(errors**2))),
        stated("distortion_y_error"),
        float(found.pixel_size_x) / truth.pixel_size_x - 1,
        stated("pixel_size_x_error") / truth.pixel_size_x,
        float(np.rad2deg(float(found.rotation) - truth.rotation)),
        float(np.rad2deg(stated("rotation_error"))),
        seconds,
    )


def write_large(folder: Path, side: int, positions: int) -> None:
    """Simulate a mesh scan and write its frames and motors to disk."""
    mesh = simulated(side, positions, readback=True)
    np.save(folder / "frames.npy", mesh.scan.image.values.astype(np.uint16))
    np.save(folder / "motors.npy", [mesh.scan.dety, mesh.scan.detx])


def cost_of_large(folder: Path, answers: Any) -> None:
    """Calibrate from disk in a separate process; return seconds and peak memory."""
    frames = np.load(folder / "frames.npy", mmap_mode="r")
    lazy = da.from_array(frames, chunks=(1, -1, -1))
    scan = xr.Dataset({"image": (("frame", "y", "x"), lazy)}).assign_coords(
        {
            name: ("frame", positions, {"units": "m"})
            for name, positions in zip(
                ("dety", "detx"), np.load(folder / "motors.npy"), strict=True
            )
        }
    )
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        _, seconds = calibrated(scan, "global")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    answers.put((seconds, peak, int(frames.shape[0])))


def large(side: int, positions: int) -> tuple[float, float, int]:
    """Return time in s, peak memory in bytes and frames of a large calibration."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = spawn.Process(target=write_large, args=(folder, side, positions))
        writer.start()
        writer.join()
        answers = spawn.Queue()
        worker = spawn.Process(target=cost_of_large, args=(folder, answers))
        worker.start()
        answer: tuple[float, float, int] = answers.get()
        worker.join()
    return answer


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Print the table and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="pixels a side")
    parser.add_argument("--positions", type=int, default=5, help="positions a side of the mesh")
    parser.add_argument("--large", action="store_true", help="cost of 7 x 7 frames of 2048 x 2048")
    add_write_option(parser)
    arguments = parser.parse_args(argv)
    read, unread = (
        simulated(arguments.size, arguments.positions, readback=readback)
        for readback in (True, False)
    )
    rows = [measured(read, method, f"{method}, encoder read") for method in METHODS]
    rows.append(measured(unread, "global", "global, stage not read"))

    def text(value: float, form: str) -> str:
        return "–" if np.isnan(value) else format(value, form)

    forms = (".4f", ".4f", "+.1e", ".1e", "+.5f", ".5f", ".1f")
    lines = [
        (row.label, *(text(value, form) for value, form in zip(row[1:], forms, strict=True)))
        for row in rows
    ]
    title = (
        f"Calibration of {arguments.size} x {arguments.size} pixels from "
        f"{arguments.positions} x {arguments.positions} frames, 20 px apart; errors of the maps "
        "over the central 90 % (px rms), of the pixel size (relative), of the rotation (degrees)"
    )
    if arguments.large:
        seconds, peak, frames = large(2048, 7)
        title += (
            f"; {frames} frames of 2048 x 2048 took {seconds:.0f} s on {THREADS} threads and "
            f"{peak / 2**30:.2f} GiB at the peak"
        )
    headings = ("method", "map", "stated", "pixel", "stated", "angle", "stated", "time / s")
    show(title, headings, lines, write=arguments.write)
    return rows


if __name__ == "__main__":
    main()
