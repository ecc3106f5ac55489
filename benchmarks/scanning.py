"""Accuracy and cost of speckle scanning, on exactly displaced speckle.

Run ``python benchmarks/scanning.py``.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import xarray as xr
from figures import add_write_option, show

import wavedask as wd
from wavedask.simulate import SpeckleField, speckle_field

PIXEL: Final = 1.0
"""Pixel size and unit of length of the membrane, um."""
STEP: Final = 0.25
GRAIN: Final = 4.0
BORDER: Final = 12


class Case(NamedTuple):
    """What is measured: positions along (y, x), window, counts, and change of the delay per um."""

    label: str
    positions: tuple[int, int]
    window: int
    counts: float
    step: float = STEP
    gradient: float = 0.0


class Row(NamedTuple):
    """One line of the table."""

    label: str
    error: float
    step: float
    quotient: float
    marked: float
    seconds: float


CASES: Final = (
    Case("linear, 64 positions, 3 px, 8000 counts", (1, 64), 3, 8000),
    Case("linear, 64 positions, 5 px, 8000 counts", (1, 64), 5, 8000),
    Case("linear, 64 positions, 5 px, 1000 counts", (1, 64), 5, 1000),
    Case("linear, 64 positions, 5 px, 8000 counts, lens of 0.02", (1, 64), 5, 8000, STEP, 0.02),
    Case("mesh, 20 x 20 positions, 1 px, 8000 counts", (20, 20), 1, 8000, 0.5),
    Case("mesh, 20 x 20 positions, 3 px, 8000 counts", (20, 20), 3, 8000, 0.5),
    Case("mesh, 20 x 20 positions, 3 px, 1000 counts", (20, 20), 3, 1000, 0.5),
)


def delay(case: Case, x: np.ndarray) -> np.ndarray:
    """Return the true delay along x, um."""
    return np.asarray(0.31 + case.gradient * (x - x.mean()))


def scan(case: Case, speckle: SpeckleField, side: int, *, moved: bool) -> xr.DataArray:
    """Simulate the frames of a scan, with the optic or without."""
    y, x = np.indices((side, side), np.float64)
    foot = x + (delay(case, x) if moved else 0)
    at_y, at_x = (
        part.ravel()
        for part in np.meshgrid(*(case.step * np.arange(n) for n in case.positions), indexing="ij")
    )
    random = np.random.default_rng([int(moved), 5])
    frames = [
        random.poisson(case.counts * speckle(y - down, foot - along)).astype(np.float32)
        for down, along in zip(at_y, at_x, strict=True)
    ]
    coords = {
        name: ("frame", place, {"units": "um"}) for name, place in (("m_y", at_y), ("m_x", at_x))
    }
    return xr.DataArray(np.stack(frames), dims=("frame", "y", "x"), coords=coords)


def measured(case: Case, side: int) -> Row:
    """Track a case and compare it with the truth."""
    speckle = speckle_field(side + 40, grain=GRAIN, seed=4)
    stacks = [scan(case, speckle, side, moved=moved) for moved in (True, False)]
    motor = "m_x" if case.positions[0] == 1 else ("m_y", "m_x")
    # Compilation does not count.
    wd.track_scan(*(stack[:, :24, :24] for stack in stacks), motor=motor, window=case.window)
    started = time.process_time()
    tracked = wd.track_scan(*stacks, motor=motor, window=case.window)
    seconds = time.process_time() - started
    inner = np.s_[BORDER:-BORDER, BORDER:-BORDER]
    truth = delay(case, np.indices((side, side))[1])[inner]
    error = tracked.delay_x.values[inner] * 1e6 - truth
    score = error / (tracked.delay_uncertainty_x.values[inner] * 1e6)
    rms = float(np.sqrt(np.nanmean(error**2)))
    return Row(
        case.label,
        rms,
        rms / case.step,
        float(np.sqrt(np.nanmean(score**2))),
        float(np.isnan(error).mean()),
        seconds / side**2,
    )


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Measure all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128, help="pixels along the side of a frame")
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first few")
    add_write_option(parser)
    options = parser.parse_args(arguments)
    rows = [measured(case, options.size) for case in CASES[: options.cases]]
    show(
        f"Delay along x, steps of {STEP:g} um (mesh: 0.5), {PIXEL:g} um pixels, grains of"
        f" {GRAIN:g} um of contrast 0.25, {options.size} x {options.size} px, one core",
        ["case", "rms, nm", "rms / step", "error / uncertainty", "marked", "us per pixel"],
        [
            (
                row.label,
                f"{1e3 * row.error:.1f}",
                f"{100 * row.step:.2f} %",
                f"{row.quotient:.2f}",
                f"{100 * row.marked:.1f} %",
                f"{1e6 * row.seconds:.0f}",
            )
            for row in rows
        ],
        write=options.write,
    )
    return rows


if __name__ == "__main__":
    main()
