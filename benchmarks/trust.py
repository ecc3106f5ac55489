"""Whether the stated uncertainties hold: error over stated, on scenes of a real detector.

Run ``python benchmarks/trust.py``. Every row is a situation in which the noise is not white, or the
field not smooth, or the images not those of one another: `benchmarks/scenes.py` makes them. The
column *error / stated* is the root mean square of the quotient over the pixels that count and have
a displacement: one, if the uncertainty is right. A pixel that is marked has none: `marked` is their
share. Every situation is run with several sets of patterns: the table has the mean and, in
brackets, the extremes. ``--data FOLDER`` adds real measurements (by default the environment
variable WAVEDASK_TEST_DATA): their truth is that the four membrane positions must agree.
"""

import argparse
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scenes as sc
from downstream import results
from figures import add_write_option, show
from scenes import Scene

import wavedask as wd

Floats = npt.NDArray[np.float64]

FIRST_SEEDS = (3000, 5000, 7000)
"""Seeds of the first pattern of each run; tests, and whoever tunes, use lower ones."""
FAR_OFF = 5.0
"""Multiple of the stated error beyond which a displacement misleads."""


class Row(NamedTuple):
    """One line of the table; what is not measured is NaN.

    Attributes
    ----------
    label : str
        The situation.
    ratio : float
        Rms of error over stated error.
    low, high : float
        Target of `ratio`.
    rms, bias : float
        Error in px: root mean square, and the larger mean of the two components.
    marked : float
        Share of the pixels that count without displacement.
    misleading : float
        Share of those with one whose error is more than five times the stated one.
    most_marked : float
        Target of `marked`.
    least, most : float
        Extreme `ratio` of several runs.
    """

    label: str
    ratio: float
    low: float
    high: float
    rms: float = np.nan
    bias: float = np.nan
    marked: float = np.nan
    misleading: float = np.nan
    most_marked: float = 1.0
    least: float = np.nan
    most: float = np.nan

    @property
    def holds(self) -> bool:
        """Whether the targets are met; nothing measured is right where marking all is."""
        fits = self.low <= self.ratio <= self.high
        return (fits or self.marked == 1) and not self.marked > self.most_marked


@dataclass(frozen=True)
class Situation:
    """A scene, how it is tracked, and what is asked for.

    Attributes
    ----------
    label : str
        What it is.
    scene : callable
        Of seed and size.
    low, high : float
        Target of error over stated.
    most_marked : float
        Target of the share of marked pixels.
    enlarged : float
        Side of the frame over that of the others.
    options : dict
        For `cross_spot`.
    """

    label: str
    scene: Callable[[int, int], Scene]
    low: float = 0.8
    high: float = 1.25
    most_marked: float = 0.02
    enlarged: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)


def known_noise() -> Iterable[Situation]:
    """Few photons behind a scintillator, with and without the noise of the detector; and more."""
    for blur in (2.0, 3.0):
        scene = partial(sc.blurred, blur=blur, counts=200.0)
        label = f"200 counts, blur {blur} px"
        yield Situation(label, scene, 0.9, 1.15)
        noise = wd.DetectorNoise(gain=1.0, psf=blur)
        options: dict[str, Any] = {"detector_noise": noise}
        yield Situation(f"{label}, detector noise given", scene, 0.9, 1.15, options=options)
    scene = partial(sc.blurred, blur=2.0, counts=800.0, longer=10.0)
    yield Situation("reference exposed 10 times longer, blur 2 px", scene, 0.9, 1.15)
    for window in (5, 7):
        for given in (None, wd.DetectorNoise(gain=1.0)):
            label = f"window {window}" + ", detector noise given" * (given is not None)
            options = {"window": window, "detector_noise": given}
            yield Situation(label, partial(sc.drawn), 0.9, 1.15, options=options)


SITUATIONS = (
    Situation("white noise, rigid shift", partial(sc.drawn), 0.9, 1.15),
    *(
        Situation(f"scintillator blur {blur} px", partial(sc.blurred, blur=blur), 0.9, 1.15)
        for blur in (1.5, 2.0, 3.0, 4.0)
    ),
    *(
        Situation(f"blur {blur} px, by rays", partial(sc.blurred_splat, blur=blur), 0.9, 1.15)
        for blur in (1.5, 3.0)
    ),
    *known_noise(),
    *(
        Situation(
            f"{100 * lost:.0f} % of the speckle lost", partial(sc.decorrelated, lost=lost), 0.8, 1.2
        )
        for lost in (0.05, 0.1, 0.3)
    ),
    Situation("diffraction between two detectors, waves", sc.diffracted, 0.8, 1.2),
    *(
        Situation(
            f"grain {grain} px",
            partial(sc.fine_grain, grain=grain),
            0.8,
            1.15,
            options={"order": "auto"},
        )
        for grain in (2.5, 2.0)
    ),
    Situation("absorbing edge", sc.edge),
    Situation("absorbing edge, divided by the true T", sc.edge_divided),
    Situation("absorbing edge, by rays", sc.edge_splat),
    Situation("textured absorber", sc.textured, 0.8, 1.5),
    *(
        Situation(
            f"outline of a lens, jump {jump} px", partial(sc.outline, jump=jump), 0.7, 2.0, 1.0
        )
        for jump in (1, 3, 7)
    ),
    *(
        Situation(
            f"outline, jump {jump} px, by rays", partial(sc.outline_splat, jump=jump), 0.7, 2.0, 1.0
        )
        for jump in (3, -3)
    ),
    Situation("curved field at the border", sc.curved_border, 0.7, 1.5, 0.1),
    Situation("wave of three windows", sc.waves, 0.8, 1.25),
    Situation("wave of three windows, at the border", sc.waves_at_border, 0.7, 1.5, 0.1),
    Situation("fixed pattern, 3 %", sc.fixed_pattern),
    Situation("hot pixels, 1 %", sc.hot_pixels, 0.8, 1.1),
    *(
        Situation(
            f"grain 10 px, {100 * lost:.0f} % lost", partial(sc.coarse_grain, lost=lost), 0.7, 1.3
        )
        for lost in (0.1, 0.3)
    ),
    Situation("periodic pattern", sc.grating, 0.7, 1.3, 1.0, options={"search": 5}),
    Situation("Talbot fringes on weak speckle", sc.fringes, 0.7, 1.5, 1.0),
    Situation(
        "(57, 21) ± 17 px behind a fixed frame",
        sc.far_field,
        0.7,
        2.0,
        0.1,
        enlarged=1.25,
        options={"search": 20},
    ),
)
"""What the tracker is measured on; the labels are those of the table."""


def measure(
    situation: Situation, size: int, patterns: int, *, first: int = FIRST_SEEDS[0], **options: Any
) -> Row:
    """Track a situation and compare with the truth.

    Parameters
    ----------
    situation : Situation
        What is measured.
    size, patterns : int
        Side of the frames in pixels; how many are drawn.
    first : int
        Seed of the first pattern.
    **options
        For `cross_spot`, before those of the situation.

    Returns
    -------
    Row
    """
    settings = {"window": sc.WINDOW, "search": 8, **options, **situation.options}
    errors, stated = [], []
    for seed in range(first, first + patterns):
        scene = situation.scene(seed, int(size * situation.enlarged))
        found = wd.cross_spot(scene.sample, scene.reference, **settings)
        there = scene.counted & np.isfinite(scene.true_y) & np.isfinite(scene.true_x)
        truth = scene.true_y, scene.true_x
        errors.append(
            np.stack([(u - true)[there] for u, true in zip(found[:2], truth, strict=True)])
        )
        stated.append(np.stack([sigma[there] for sigma in found[2:4]]))
    return row_of(situation, np.concatenate(errors, axis=1), np.concatenate(stated, axis=1))


def row_of(situation: Situation, errors: Floats, stated: Floats) -> Row:
    """Sum up errors and stated errors, shape (component, pixels); NaN is marked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all may be marked
        scores = np.where(np.isfinite(errors), errors / stated, np.nan)
        return Row(
            situation.label,
            float(np.sqrt(np.nanmean(scores**2))),
            situation.low,
            situation.high,
            float(np.sqrt(np.nanmean(errors**2))),
            float(np.abs(np.nanmean(errors, axis=1)).max()),
            float(np.isnan(scores).any(axis=0).mean()),
            float(np.nanmean(np.where(np.isnan(scores), np.nan, np.abs(scores) > FAR_OFF))),
            situation.most_marked,
        )


# Columns of the four-rod frames, which are 2220 wide.
REGIONS = {
    "in air": (slice(1410, 1560),),
    "behind PMMA": (slice(600, 1000),),
    "behind wood": (slice(60, 440), slice(1650, 2080)),
}
POSITIONS = {"membrane [um]": 207.5 * np.arange(4)}


def together(runs: Sequence[Row]) -> Row:
    """Sum up one situation in several runs: means, the rms of the rms, and the largest bias.

    Parameters
    ----------
    runs : sequence of Row
        The situation, with different seeds.

    Returns
    -------
    Row
    """
    first, ratios = runs[0], [row.ratio for row in runs]
    return first._replace(
        ratio=float(np.mean(ratios)),
        rms=float(np.sqrt(np.mean([row.rms**2 for row in runs]))),
        bias=max(row.bias for row in runs),
        marked=float(np.mean([row.marked for row in runs])),
        misleading=float(np.mean([row.misleading for row in runs])),
        least=min(ratios),
        most=max(ratios),
    )


def four_rods(folder: Path) -> Iterable[Row]:
    """Compare four membrane positions of a real measurement: each must find the same."""
    data = folder / "xray_fourrod"
    flat = wd.open_scan(data / "Flatfield.tif")
    reference, sample = (
        wd.correct(wd.open_scan(data / f"{name}_*.tif", motors=POSITIONS), flat=flat).values
        for name in ("ReferenceSpeckle", "SamplePlusSpeckle")
    )
    found = wd.cross_spot(sample, reference, window=sc.WINDOW, search=6)
    for label, columns in REGIONS.items():
        yield from _scatter(f"four rods, {label}", found, columns)
    steps = wd.cross_spot(reference[1:], reference[:-1], window=sc.WINDOW, search=6)
    inside = (slice(2 * sc.WINDOW + 40, -2 * sc.WINDOW - 40),)
    yield from _scatter("four rods, reference against reference", steps, inside)


def _scatter(label: str, found: Any, columns: tuple[slice, ...]) -> Iterable[Row]:
    rows = slice(sc.BORDER, -sc.BORDER)
    for axis, component in enumerate("yx"):
        values, stated = (
            np.concatenate([found[k][:, rows, part] for part in columns], axis=2)
            for k in (axis, axis + 2)
        )
        known = np.isfinite(values).all(axis=0)
        u, sigma = values[:, known].astype(np.float64), stated[:, known].astype(np.float64)
        # The membrane does not come back to the same place: a rigid shift per position.
        u = u - np.median(u, axis=1, keepdims=True)
        frames = u.shape[0]
        errors = (u - u.mean(axis=0)) * np.sqrt(frames / (frames - 1))
        scores = errors / sigma
        yield Row(
            f"{label}, {component}",
            float(np.sqrt(np.mean(scores**2))),
            0.8,
            1.25,
            float(np.sqrt(np.mean(errors**2))),
            np.nan,
            float(1 - known.mean()),
            float(np.mean(np.abs(scores) > FAR_OFF)),
        )


def number(value: float, digits: int = 2) -> str:
    """Format a number; what is not there is a dash."""
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def percent(value: float) -> str:
    """Format a share; what is not there is a dash."""
    return "–" if np.isnan(value) else f"{100 * value:.1f} %"


def spread(row: Row) -> str:
    """Format the extreme ratios of several runs."""
    return "" if not row.least < row.most else f" ({row.least:.2f} to {row.most:.2f})"


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Print the table and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="pixels a side, at least 160")
    parser.add_argument("--patterns", type=int, default=4, help="speckle patterns of every row")
    parser.add_argument(
        "--first-seed",
        type=int,
        nargs="+",
        default=FIRST_SEEDS,
        help="seeds of the first pattern; the table has the mean over them",
    )
    parser.add_argument(
        "--only",
        nargs="*",
        metavar="WORD",
        help="rows whose label has a word; 'downstream' has those behind the tracker",
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("WAVEDASK_TEST_DATA") or None)
    add_write_option(parser)
    arguments = parser.parse_args(argv)

    def wanted(label: str) -> bool:
        return not arguments.only or any(word in label for word in arguments.only)

    runs = []
    for first in arguments.first_seed:
        run = [
            measure(situation, arguments.size, arguments.patterns, first=first)
            for situation in SITUATIONS
            if wanted(situation.label)
        ]
        if wanted("downstream"):
            seeds = range(first, first + 2 * arguments.patterns)
            run += [Row(*result) for result in results(arguments.size, seeds)]
        runs.append(run)
    rows = [together(same) for same in zip(*runs, strict=True)]
    if arguments.data is not None and wanted("four rods"):
        rows += four_rods(Path(arguments.data))
    show(
        f"Error over stated error, mean (least to most) of {len(arguments.first_seed)} runs with "
        f"{arguments.patterns} patterns of {arguments.size} x {arguments.size} px each, "
        f"window {sc.WINDOW}; unless said otherwise grains of 4 px, contrast 0.25, 8000 counts",
        (
            "situation",
            "error / stated",
            "target",
            "rms / px",
            "bias / px",
            "marked",
            "beyond 5 stated",
            "holds",
        ),
        [
            (
                row.label,
                number(row.ratio) + spread(row),
                f"{row.low:g} to {row.high:g}",
                number(row.rms, 4),
                number(row.bias, 4),
                percent(row.marked),
                percent(row.misleading),
                "yes" if row.holds else "no",
            )
            for row in rows
        ],
        write=arguments.write,
    )
    return rows


if __name__ == "__main__":
    main()
