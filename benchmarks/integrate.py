"""Accuracy and speed of the methods of integration, on a surface with an open boundary.

Run ``python benchmarks/integrate.py --size 2048``. For figures of one core, set
``OMP_NUM_THREADS=1`` first: the matrix products of ``grad2surf`` use all cores otherwise.
"""

import argparse
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from figures import add_write_option, show

from wavedask.wavefront import Method, integrate

FloatArray = npt.NDArray[np.float64]

AMPLITUDE = 30.0
WAVES = (
    # amplitude, periods along y, periods along x, phase: none fits the frame.
    (1.0, 1.3, 0.7, 0.4),
    (0.5, 2.2, -3.1, 1.1),
    (0.2, 5.3, 4.2, 2.0),
    (0.8, 0.4, 1.9, 0.3),
)


class Row(NamedTuple):
    """One line of the table."""

    label: str
    rms_error: float
    seconds: float


def analytic_surface(size: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return a sum of waves that the frame cuts, and its exact derivatives along y and x."""
    position = np.linspace(0.0, 1.0, size)
    surface, slope_y, slope_x = np.zeros((3, size, size))
    for amplitude, periods_y, periods_x, phase in WAVES:
        ky, kx = 2 * np.pi * periods_y, 2 * np.pi * periods_x
        angle = ky * position[:, np.newaxis] + kx * position + phase
        surface += amplitude * np.cos(angle)
        steepness = -amplitude * np.sin(angle) / (size - 1)
        slope_y += ky * steepness
        slope_x += kx * steepness
    factor = AMPLITUDE / np.abs(surface).max()
    return factor * surface, factor * slope_y, factor * slope_x


def measure(size: int, repeat: int) -> list[Row]:
    """Time each method on one map; the fastest of `repeat` calls counts."""
    surface, slope_y, slope_x = analytic_surface(size)
    axis = np.arange(size) - (size - 1) / 2
    pupil = np.where(np.hypot(axis[:, np.newaxis], axis) <= size / 2, slope_y, np.nan)

    def row(label: str, method: Method, slope: FloatArray, calls: int) -> Row:
        seconds = np.inf
        for _ in range(calls):
            start = time.perf_counter()
            result = integrate(slope, slope_x, method=method)
            seconds = min(seconds, time.perf_counter() - start)
        return Row(label, float(np.nanstd(result - surface)), seconds)

    return [
        row("least_squares", "least_squares", slope_y, repeat),
        row("least_squares, circular pupil", "least_squares", pupil, repeat),
        row("frankot_chellappa", "frankot_chellappa", slope_y, repeat),
        row("grad2surf, first map of a size", "grad2surf", slope_y, 1),
        row("grad2surf", "grad2surf", slope_y, repeat),
    ]


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Print the table and return its last rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs="+", default=[512, 2048], help="pixels a side")
    parser.add_argument("--repeat", type=int, default=3, help="number of calls; the fastest counts")
    add_write_option(parser)
    arguments = parser.parse_args(argv)
    rows: list[Row] = []
    lines = []
    for size in arguments.size:
        rows = measure(size, arguments.repeat)
        lines += [
            (
                row.label,
                f"{size} x {size}",
                f"{row.rms_error:.1e}",
                f"{1e3 * row.seconds:.1f}",
                f"{row.seconds / rows[0].seconds:.2f}",
            )
            for row in rows
        ]
    show(
        f"Integration of two slope maps, surface of amplitude {AMPLITUDE:g}",
        ("method", "size", "rms error", "time / ms", "time / least_squares"),
        lines,
        write=arguments.write,
    )
    return rows


if __name__ == "__main__":
    main()
