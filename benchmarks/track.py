"""Speed of the trackers on one core: every pixel of one pair, at equal settings.

Run ``python benchmarks/track.py``. All processes are pinned to one core, with single-threaded
libraries, in one run: compare ratios, not seconds of two runs. For batches on
several processes see ``benchmarks/workers.py``.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onecore
from figures import add_write_option, show

WINDOWS = (7, 11, 21, 31, 41)
STACKS = (1, 4, 16)
WINDOW = 21
"""The window at which size and stack are varied."""
PARTS = ("trackers", "scaling", "task", "start", "roofline")
BYTES = 25
"""Memory traffic per pixel and iteration: five images are read once, and a little for the nodes."""
OPERATIONS = 116
"""Floating-point operations per pixel and iteration: 71 for the cubic spline at the displaced
place, 18 for the displacement itself, 1 for the weight, 18 for running sums, 8 for sums at nodes.
"""


class Row(NamedTuple):
    """One line of the table: the quantity, its value with unit, and the comparison."""

    label: str
    value: str
    ratio: float
    against: str


def trackers(file: str, size: int, window: int, search: int, calls: int) -> list[Row]:
    """Compare the trackers at the same window."""
    with onecore.process_on(min(os.sched_getaffinity(0))) as measured_there:
        dense = measured_there(onecore.dense_speed, file, size, window, search, calls)
        others = [
            measured_there(onecore.opencv_speed, file, size, window, search),
            measured_there(onecore.ilk_speed, file, size, window),
        ]
    measured = [dense, *(speed for speed in others if speed is not None)]
    return [
        Row(
            speed.label,
            f"{speed.rate:,.0f} points/s, rms error {speed.rms:.4f} px",
            dense.rate / speed.rate,
            "dense is so many times faster",
        )
        for speed in measured
    ]


def scaling(file: str, size: int, search: int, calls: int) -> list[Row]:
    """Time per pixel against window, size of the frame, and images of a stack."""
    quarter, half = size // 4, size // 2
    with onecore.process_on(min(os.sched_getaffinity(0))) as measured_there:

        def seconds(side: int, window: int) -> float:
            speed: onecore.Speed = measured_there(
                onecore.dense_speed, file, side, window, search, calls
            )
            return 1 / speed.rate

        by_window = {window: seconds(half, window) for window in WINDOWS}
        by_size = {side: seconds(side, WINDOW) for side in (quarter, half, size)}
        by_images = {
            images: 1
            / images
            / measured_there(onecore.stack_speed, file, quarter, images, WINDOW, search, calls).rate
            for images in STACKS
        }

    def rows(label: str, times: dict[int, float], reference: int, against: str) -> list[Row]:
        return [
            Row(label.format(key), f"{1e9 * time:.0f} ns", time / times[reference], against)
            for key, time in times.items()
        ]

    return [
        *rows(
            f"time per pixel, window {{0}}, {half} x {half} px",
            by_window,
            WINDOW,
            f"window {WINDOW}",
        ),
        *rows(f"time per pixel, {{0}} x {{0}} px, window {WINDOW}", by_size, size, "largest frame"),
        *rows(
            f"time per pixel and image, stack of {{0}}, window {WINDOW}", by_images, 1, "1 image"
        ),
    ]


def task(file: str, size: int, window: int, search: int, calls: int) -> list[Row]:
    """Memory of a task, and of two tasks at a time."""
    cores = sorted(os.sched_getaffinity(0))
    with onecore.process_on(cores[0]) as measured_there:
        spare = measured_there(onecore.memory, file, size, window, search)
    rows = [
        Row("peak memory beyond input and output", f"{spare:.0f} bytes per pixel", float("nan"), "")
    ]
    if len(cores) > 1:
        half = size // 2
        alone = onecore.together(file, half, window, search, calls, cores[:1])
        both = onecore.together(file, half, window, search, calls, cores[:2])
        rows.append(
            Row("two tasks on two cores", f"{both:,.0f} points/s", both / alone, "one on one core")
        )
    return rows


def start() -> list[Row]:
    """Measure the time of first calls."""
    fresh, warm = onecore.first_calls()
    return [
        Row(label, f"{seconds:.{digits}f} s", float("nan"), "")
        for label, seconds, digits in (
            ("import", warm.imports, 1),
            ("first call after installation (compiles)", fresh.first, 1),
            ("first call of a new process (loads)", warm.first, 2),
            ("second call, 96 x 96 px", warm.second, 3),
        )
    ]


def roofline(file: str, size: int, window: int, search: int) -> list[Row]:
    """Compare an iteration with what the core could move and multiply at most."""
    with onecore.process_on(min(os.sched_getaffinity(0))) as measured_there:
        roof: onecore.Roofline = measured_there(onecore.roofline, file, size, window, search)
    times = (
        (f"refinement, one of {roof.passes:.1f} iterations, per pixel", roof.nanoseconds),
        (
            f"its {BYTES} bytes at the speed of a copy, {roof.bytes_per_second / 1e9:.1f} GB/s",
            1e9 * BYTES / roof.bytes_per_second,
        ),
        (
            f"its {OPERATIONS} operations at {roof.operations_per_second / 1e9:.0f} GFLOP/s of "
            "multiply-add",
            1e9 * OPERATIONS / roof.operations_per_second,
        ),
    )
    return [
        Row(label, f"{time:.1f} ns", time / roof.nanoseconds, "the iteration")
        for label, time in times
    ]


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Print the table and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048, help="pixels a side")
    parser.add_argument("--window", type=int, default=WINDOW)
    parser.add_argument("--search", type=int, default=8)
    parser.add_argument("--calls", type=int, default=3, help="number of calls; the fastest counts")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure; all by default"
    )
    add_write_option(parser)
    arguments = parser.parse_args(argv)
    size, window, search, calls = (
        arguments.size,
        arguments.window,
        arguments.search,
        arguments.calls,
    )
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "pair.npy")
        np.save(file, onecore.simulated_pair(size))
        measurements: dict[str, Callable[[], list[Row]]] = {
            "trackers": lambda: trackers(file, size, window, search, calls),
            "scaling": lambda: scaling(file, size, search, calls),
            "task": lambda: task(file, size, window, search, calls),
            "start": start,
            "roofline": lambda: roofline(file, size // 2, window, search),
        }
        rows = [row for part in PARTS if part in arguments.parts for row in measurements[part]()]
    show(
        f"Tracking on one core: {size} x {size} px, window {window}, search {search}",
        ("what", "measured", "ratio", "against"),
        [
            (row.label, row.value, "–" if np.isnan(row.ratio) else f"{row.ratio:.2f}", row.against)
            for row in rows
        ],
        write=arguments.write,
    )
    return rows


if __name__ == "__main__":
    main()
