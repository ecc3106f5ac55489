"""Detail that the trackers resolve: amplitude recovered of waves of displacement, by their period.

Run ``python benchmarks/resolution.py``. The displacement is a wave of half a pixel along y, on
speckle whose displacement is exact; the amplitude is the regression of the result on the
truth. A rigid template averages over its window, and cannot see a wave with the period of a window.
"""

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from figures import add_write_option, show

import wavedask as wd
from wavedask.simulate import displaced_pair

WINDOWS = (7, 15, 31)
PERIODS = (1.0, 1.5, 2.0, 2.2, 2.5, 3.0, 4.0, 6.0)
"""Periods of the waves in windows."""
AMPLITUDE = 0.5
BORDER = 64
STEP = 4
"""Pixels between the points at which engine opencv is measured."""
FIRST_SEED = 2000


class Row(NamedTuple):
    """Amplitude recovered, by window, at one period."""

    period: float
    dense: tuple[float, ...]
    opencv: tuple[float, ...]


def amplitudes(window: int, period: float, size: int, seed: int) -> tuple[float, float]:
    """Part of the amplitude that dense and opencv recover."""
    y = np.arange(size)[:, None] + np.zeros(size)
    wave = AMPLITUDE * np.cos(2 * np.pi * y / (period * window) + seed)
    pair = displaced_pair((size, size), displacement_y=wave, seed=seed)
    inside = np.s_[BORDER:-BORDER:STEP, BORDER:-BORDER:STEP]
    parts = []
    for options in ({"engine": "dense"}, {"engine": "opencv", "step": STEP}):
        found = wd.cross_spot(pair.sample, pair.reference, window=window, search=4, **options)
        u, truth = found.displacement_y[inside], wave[inside]
        known = np.isfinite(u)
        parts.append(float(np.sum(u[known] * truth[known]) / np.sum(truth[known] ** 2)))
    return parts[0], parts[1]


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Print the table and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="pixels a side")
    add_write_option(parser)
    arguments = parser.parse_args(argv)
    rows = []
    for number, period in enumerate(PERIODS):
        parts = [
            amplitudes(window, period, arguments.size, FIRST_SEED + number) for window in WINDOWS
        ]
        rows.append(Row(period, tuple(p[0] for p in parts), tuple(p[1] for p in parts)))
    show(
        f"Part recovered of the amplitude of a wave of {AMPLITUDE} px, {arguments.size} x "
        f"{arguments.size} px, grains of 4 px, contrast 0.25, 8000 counts",
        ("period, windows", *(f"{e}, window {w}" for e in ("dense", "opencv") for w in WINDOWS)),
        [
            (f"{row.period:.1f}", *(f"{part:.2f}" for part in (*row.dense, *row.opencv)))
            for row in rows
        ],
        write=arguments.write,
    )
    return rows


if __name__ == "__main__":
    main()
