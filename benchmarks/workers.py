"""Speed of a batch: points per second of one worker process, and of one per core.

Run ``python benchmarks/workers.py``. Pairs are read from EDF files, corrected and tracked by worker
processes; only one number per frame comes back. One core and all cores take turns, so that a drift
of the machine affects both; the medians are compared. One worker also returns freed memory to the
system, as Dask does by default; see `wavedask.compute.memory`.
"""

import argparse
import ctypes
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

import xarray as xr
from distributed import Client
from figures import add_write_option, show

import wavedask as wd
from wavedask.compute import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, cores, local_client
from wavedask.simulate import Lens, write_campaign
from wavedask.tracking import ENGINES, Engine


class Row(NamedTuple):
    """One line of the table."""

    engine: str
    workers: int
    keeps_memory: bool
    seconds: float
    points_per_second: float
    efficiency: float


def mean_displacement(folder: str, engine: Engine, arguments: argparse.Namespace) -> xr.DataArray:
    """Express the tracking of a campaign's samples; a number per frame is the result."""
    dark, flat, reference, sample = (
        wd.open_scan(f"{folder}/{role}_*.edf") for role in ("dark", "flat", "reference", "sample")
    )
    image, target = (wd.correct(scan, dark=dark, flat=flat) for scan in (sample, reference))
    tracked = wd.track(
        image,
        target,
        engine=engine,
        window=arguments.window,
        search=arguments.search,
        step=arguments.step if engine == "opencv" else None,
    )
    mean: xr.DataArray = tracked.displacement_x.mean(("y", "x"))
    return mean


def give_memory_back() -> None:
    """Undo `keep_freed_memory` in a worker: what ``MALLOC_TRIM_THRESHOLD_=65536`` sets."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 65536)
        mallopt(M_MMAP_THRESHOLD, 131072)


def seconds_for(client: Client, work: xr.DataArray) -> float:
    """Time one computation on the workers of a client."""
    begin = time.perf_counter()
    client.compute(work).result()
    return time.perf_counter() - begin


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Time the batch on one worker and on all, in turns, by each engine."""
    side = arguments.size
    lens = Lens(radius=200e-6, delta=1.2e-6)
    counts = sorted({1, arguments.workers})
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        write_campaign(
            folder,
            lens=lens,
            shape=(side, side),
            centers=[(0.0, number * 5e-6) for number in range(arguments.frames)],
        )
        clients = {(1, False): stack.enter_context(local_client(1))}
        clients[1, False].run(give_memory_back)
        clients |= {(count, True): stack.enter_context(local_client(count)) for count in counts}
        rows = []
        for engine in arguments.engines:
            work = mean_displacement(folder, engine, arguments)
            times: dict[tuple[int, bool], list[float]] = {key: [] for key in clients}
            for turn in range(arguments.repeat + 1):
                for key, client in clients.items():
                    seconds = seconds_for(client, work)
                    if turn > 0:  # the first turn imports and compiles
                        times[key].append(seconds)
            points = arguments.frames * (-(-side // step_of(engine, arguments))) ** 2
            median = {key: statistics.median(values) for key, values in times.items()}
            rows += [
                Row(engine, *key, value, points / value, median[1, True] / value / key[0])
                for key, value in median.items()
            ]
    return rows


def step_of(engine: str, arguments: argparse.Namespace) -> int:
    """Pixels between two points: the dense engine finds every one."""
    return int(arguments.step) if engine == "opencv" else 1


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Print the table and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="pixels a side")
    parser.add_argument("--frames", type=int, default=8, help="pairs in the batch")
    parser.add_argument("--window", type=int, default=21)
    parser.add_argument("--search", type=int, default=8)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=("dense", "opencv"))
    parser.add_argument("--step", type=int, default=4, help="pixels between points, of opencv")
    parser.add_argument("--workers", type=int, default=cores(), help="processes, against one")
    parser.add_argument("--repeat", type=int, default=5, help="number of turns; the median counts")
    add_write_option(parser)
    arguments = parser.parse_args(argv)
    rows = measure(arguments)
    show(
        f"Tracking {arguments.frames} pairs of {arguments.size} x {arguments.size} px, window "
        f"{arguments.window}, search {arguments.search}; opencv: a point every {arguments.step} px",
        ("engine and processes", "time / s", "points / s", "against one", "efficiency"),
        [
            (
                f"{row.engine}, {row.workers}{'' if row.keeps_memory else ', memory given back'}",
                f"{row.seconds:.2f}",
                f"{row.points_per_second:,.0f}",
                f"{row.efficiency * row.workers:.2f}",
                f"{100 * row.efficiency:.0f} %",
            )
            for row in rows
        ],
        write=arguments.write,
    )
    return rows


if __name__ == "__main__":
    main()
