"""A train of X-ray pulses, from an HDF5 file to a result store."""

import argparse
import time
from pathlib import Path
from typing import Final

import h5py
import numpy as np
import yaml
from scale_rows import Row, forget_peak, peak_memory, workers_peak
from scale_speed import grains, pattern

import wavedask as wd
from wavedask.compute import local_client
from wavedask.experiment import load_experiment, run

ROWS, COLUMNS = 250, 400
DISTINCT: Final = 64
"""Pulses that differ; the train repeats them."""
REPORT: Final = (
    # E.-R. Cojocaru et al., EUCALL M7.5 (2018), chapters 4.3, 5 and 6.
    Row("report: template matches for 10 pairs", 22.5e6),
    Row("report: use of its processors", 19.6, "%"),
    Row("report: largest gain by MPI, on up to 24 cores", 40, "times"),
)


def write_train(path: Path, pulses: int) -> np.ndarray:
    """Write a train whose pattern wanders by a pixel or two; return its displacements (y, x)."""
    random = np.random.default_rng(0)
    moved = random.normal(0, 1, (min(DISTINCT, pulses), 2))
    images = np.stack([pattern((y, x))[:ROWS, :COLUMNS] for y, x in moved.tolist()])
    frames = random.poisson(images).astype(np.uint16)
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "exchange/data", (pulses, ROWS, COLUMNS), "u2", chunks=(1, ROWS, COLUMNS)
        )
        for begin in range(0, pulses, len(frames)):
            data[begin : begin + len(frames)] = frames[: pulses - begin]
    return moved[np.arange(pulses) % len(moved)]


def section(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """Track each pulse in the first one, and compare with what was written."""
    pulses = arguments.pulses
    moved = write_train(folder / "train.h5", pulses)
    file = folder / "train.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "sample": "train.h5",
                "train": "first",
                "track": {"window": 21, "search": 8},
                "wavefront": {"distance": 1.0, "pixel_size": 30e-6, "energy": 9.3},
                "keep": ["displacement_y", "displacement_x", "uncertainty_y", "uncertainty_x"],
                "output": "train.zarr",
            }
        )
    )
    # The patterns are not part of the run, nor is the noise that was made.
    grains.cache_clear()
    forget_peak()
    with local_client(arguments.workers, memory_limit=0) as client:
        begin = time.perf_counter()
        run(load_experiment(file), progress=False)
        seconds = time.perf_counter() - begin
        worker, driver = workers_peak(client), peak_memory()
    stored = wd.open_store(folder / "train.zarr")
    some = np.linspace(0, pulses - 2, 5).astype(int)
    # The first pulse is the reference: it is not in the result.
    expected = (moved[1:] - moved[0])[some]
    found = np.stack(
        [
            stored[name].isel(frame=some, y=slice(30, -30), x=slice(30, -30)).median(("y", "x"))
            for name in ("displacement_y", "displacement_x")
        ],
        axis=1,
    )
    size = sum(part.stat().st_size for part in (folder / "train.zarr").rglob("*"))
    points = (pulses - 1) * ROWS * COLUMNS
    return [
        Row("pulses", pulses),
        Row("time", seconds, "s"),
        Row("pulses per second", pulses / seconds),
        Row("points per second", points / seconds),
        Row("points matched", points),
        Row("peak memory of a worker", worker, "MB"),
        Row("peak memory of the driver", driver, "MB"),
        Row("raw file", (folder / "train.h5").stat().st_size / 1e6, "MB"),
        Row("store, four maps", size / 1e6, "MB"),
        Row("largest error of the median displacement", float(abs(found - expected).max()), "px"),
        *REPORT,
    ]
