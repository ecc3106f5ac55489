"""Accuracy of the trackers on speckle whose displacement is known, against the photon limit.

Run ``python benchmarks/accuracy.py``. The limit is the Cramer-Rao bound for a window with a
constant displacement and unknown gain and offset, from the gradients and the photon noise of the
same images. A tracker that averages over more than its window can be slightly below it. Every case
uses several patterns; none of them was used to choose settings.
"""

import argparse
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from figures import add_write_option, show
from scipy import ndimage

import wavedask as wd
from wavedask.simulate import speckle_field

FloatArray = npt.NDArray[np.float64]
Field = Callable[[FloatArray, FloatArray, int], tuple[Any, Any]]

BORDER = 32
"""Pixels left out at the border of the frame."""
STEP = 4
"""Pixels between the points at which engine opencv is measured, and the bound is computed."""
SHIFT = (0.37, -1.62)
FIRST_SEED = 1000
"""Tests, and whoever tunes, use lower ones."""


def rigid(y: FloatArray, x: FloatArray, size: int) -> tuple[Any, Any]:
    """Shift all pixels by the same displacement."""
    return SHIFT


def wave(y: FloatArray, x: FloatArray, size: int) -> tuple[Any, Any]:
    """Displace by 2 sin cos px with a period of 96 px."""
    k = 2 * np.pi / 96
    return 2 * np.sin(k * y) * np.cos(k * x), 2 * np.cos(k * y) * np.sin(k * x)


def lens(gradient: float) -> Field:
    """Magnify about the middle of the frame."""

    def field(y: FloatArray, x: FloatArray, size: int) -> tuple[Any, Any]:
        return gradient * (y - size / 2), gradient * (x - size / 2)

    return field


@dataclass(frozen=True)
class Case:
    """A simulated measurement and how it is tracked."""

    name: str
    field: Field = rigid
    images: int = 1
    window: int = 15
    search: int = 6
    grain: float = 4.0
    contrast: float = 0.25
    counts: float = 8000.0
    noise: bool = True
    dead: float = 0.0
    order: Any = 3


CASES = (
    Case("rigid (0.37, -1.62) px"),
    Case("rigid, 3 % dead pixels", dead=0.03),
    Case("rigid, without noise", noise=False),
    Case("2 sin cos px, period 96 px", field=wave),
    Case("lens, gradient 0.03", field=lens(0.03), search=12),
    Case("lens, gradient 0.1", field=lens(0.1), search=32),
    Case("lens, gradient 0.03, window 7", field=lens(0.03), search=12, window=7),
    Case("lens, gradient 0.03, window 31", field=lens(0.03), search=12, window=31),
    Case("rigid, 16 images, window 5", images=16, window=5),
    Case("rigid, grain 2.5 px", grain=2.5),
    Case("rigid, grain 2.5 px, order 5", grain=2.5, order=5),
    Case("rigid, contrast 0.06", contrast=0.06),
    Case("rigid, 500 counts", counts=500),
)
SWEEP = tuple(0.1 * tenth for tenth in range(10))
"""Parts of a pixel by which the bias is swept."""


class Row(NamedTuple):
    """One line of the table, in pixels; NaN if unknown or not measured."""

    label: str
    rms: float
    bias: float
    worst: float
    marked: float
    score: float
    bound: float
    opencv_rms: float
    opencv_bias: float
    opencv_score: float


class Errors(NamedTuple):
    """Errors of both components inside the border, and as multiples of their uncertainty."""

    pixels: FloatArray
    scores: FloatArray

    @property
    def rms(self) -> float:
        """Root mean square in pixels."""
        return float(np.sqrt(np.nanmean(self.pixels**2)))

    @property
    def bias(self) -> float:
        """Larger mean of the two components, over the patterns."""
        return float(np.abs(np.nanmean(self.pixels, axis=(0, 2, 3))).max())

    @property
    def score(self) -> float:
        """Root mean square of error over uncertainty: one, if the uncertainty is right."""
        return float(np.sqrt(np.nanmean(self.scores**2)))


class Scene(NamedTuple):
    """Images of a case with their truth, and the inputs of the bound."""

    samples: npt.NDArray[np.float32]
    references: npt.NDArray[np.float32]
    truth: tuple[FloatArray, FloatArray]
    clean: FloatArray
    gradients: tuple[FloatArray, FloatArray]


def simulate(
    case: Case, size: int, *, pattern: int = 0, displacement: tuple[Any, Any] | None = None
) -> Scene:
    """Draw the images of a case from a pattern; the truth is exact."""
    y, x = np.mgrid[:size, :size].astype(np.float64)
    u_y, u_x = displacement or case.field(y, x, size)
    margin = int(np.ceil(max(np.abs(u_y).max(), np.abs(u_x).max()))) + 1
    first = FIRST_SEED + pattern * case.images
    rng = np.random.default_rng(first)
    stacks: tuple[list[FloatArray], ...] = ([], [], [], [], [])
    little = 0.01
    for seed in range(first, first + case.images):
        speckle = speckle_field(
            size + 2 * margin, grain=case.grain, contrast=case.contrast, seed=seed
        )
        fine, coarse = y - u_y, x - u_x
        sample, reference = case.counts * speckle(fine, coarse), case.counts * speckle(y, x)
        stacks[2].append(sample)
        for stack, (dy, dx) in zip(stacks[3:], ((little, 0), (0, little)), strict=True):
            ahead, behind = (speckle(fine + s * dy, coarse + s * dx) for s in (1, -1))
            stack.append(case.counts * (ahead - behind) / (2 * little))
        if case.noise:
            sample = rng.poisson(sample).astype(np.float64)
            reference = rng.poisson(reference).astype(np.float64)
        if case.dead:
            dead = rng.random((size, size)) < case.dead
            sample, reference = sample.copy(), reference.copy()
            sample[dead] = reference[dead] = np.nan
        stacks[0].append(sample)
        stacks[1].append(reference)
    samples, references = (np.asarray(stack, np.float32) for stack in stacks[:2])
    truth = np.broadcast_to(u_y, y.shape), np.broadcast_to(u_x, x.shape)
    clean, along_y, along_x = map(np.asarray, stacks[2:])
    return Scene(samples, references, truth, clean, (along_y, along_x))


def photon_limit(scene: Scene, window: int) -> float:
    """Cramer-Rao bound: rms over the frame and both components, in pixels.

    The Fisher matrix of displacement, gain and offset, summed over each window; both images have
    the photon noise of the counts, never less than one count. Dead pixels carry no information.
    """
    products: Any = 0.0
    for n, image in enumerate(scene.clean):
        weight = np.isfinite(scene.samples[n]) / np.maximum(2 * image, 1)
        mean = image.mean()
        # Derivatives of the image by displacement, gain and offset.
        basis = (
            scene.gradients[0][n],
            scene.gradients[1][n],
            image - mean,
            np.full_like(image, mean),
        )
        products = products + np.array([[weight * a * b for b in basis] for a in basis])
    sums = window**2 * ndimage.uniform_filter(products, (0, 0, window, window))
    points = sums[:, :, BORDER:-BORDER:STEP, BORDER:-BORDER:STEP]
    covariance = np.linalg.inv(np.moveaxis(points, (0, 1), (-2, -1)))
    return float(np.sqrt((covariance[..., 0, 0] + covariance[..., 1, 1]).mean() / 2))


def track(case: Case, scenes: Sequence[Scene], *, step: int = 1, **options: Any) -> Errors:
    """Errors inside the border, every `step` pixels; marked pixels are NaN."""
    inside = np.s_[BORDER:-BORDER:step, BORDER:-BORDER:step]
    errors, scores = [], []
    for scene in scenes:
        joint = case.images > 1
        samples, references = (
            stack if joint else stack[0] for stack in (scene.samples, scene.references)
        )
        found = wd.cross_spot(
            samples, references, window=case.window, search=case.search, joint=joint, **options
        )
        error = np.stack(
            [(u - true)[inside] for u, true in zip(found[:2], scene.truth, strict=True)]
        )
        errors.append(error)
        scores.append(error / np.stack([sigma[inside] for sigma in found[2:4]]))
    return Errors(np.stack(errors), np.stack(scores))


def by_opencv(case: Case, scene: Scene) -> Errors:
    """Errors of the report's tracker, which matches every STEP pixels; no stacks."""
    if case.images > 1:
        nothing = np.full((1, 2, 1, 1), np.nan)
        return Errors(nothing, nothing)
    return track(case, [scene], step=STEP, engine="opencv")


def row_of(label: str, dense: Errors, opencv: Errors, bound: float) -> Row:
    """Summarise a case."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing was measured: NaN
        return Row(
            label,
            dense.rms,
            dense.bias,
            float(np.nanmax(np.abs(dense.pixels))),
            float(np.isnan(dense.pixels[:, 0]).mean()),
            dense.score,
            bound,
            opencv.rms,
            opencv.bias,
            opencv.score,
        )


def measure(case: Case, size: int, patterns: int) -> Row:
    """Track one case with both engines, if both can."""
    scenes = [simulate(case, size, pattern=pattern) for pattern in range(patterns)]
    bound = photon_limit(scenes[0], case.window) if case.noise else np.nan
    dense = track(case, scenes, order=case.order)
    return row_of(case.name, dense, by_opencv(case, scenes[0]), bound)


def sweep(size: int) -> Row:
    """Worst bias of rigid shifts by parts of a pixel, without noise."""
    case = Case("rigid, 0 to 0.9 px, without noise", noise=False)
    rows = []
    for part in SWEEP:
        scene = simulate(case, size, displacement=(part, -part))
        rows.append(row_of(case.name, track(case, [scene]), by_opencv(case, scene), np.nan))
    columns = dict(zip(Row._fields, zip(*rows, strict=True), strict=True))
    for rms in ("rms", "opencv_rms"):
        columns[rms] = (float(np.sqrt(np.mean(np.square(columns[rms])))),)
    return Row(*(values[0] if key == "label" else max(values) for key, values in columns.items()))


def number(value: float, digits: int = 4) -> str:
    """Format a number; NaN is a dash."""
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Print the table and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="pixels a side")
    parser.add_argument("--patterns", type=int, default=4, help="speckle patterns of every case")
    add_write_option(parser)
    arguments = parser.parse_args(argv)
    rows = [measure(case, arguments.size, arguments.patterns) for case in CASES]
    rows.append(sweep(arguments.size))
    show(
        f"Errors in px, {arguments.patterns} patterns of {arguments.size} x {arguments.size} px "
        f"without the outer {BORDER}, both components; unless said otherwise window 15, grains of "
        "4 px, contrast 0.25, 8000 counts",
        (
            "case",
            "dense, rms",
            "bias",
            "worst",
            "marked",
            "photon limit",
            "rms / limit",
            "error / uncertainty",
            "opencv, rms",
            "bias",
            "error / uncertainty",
        ),
        [
            (
                row.label,
                number(row.rms),
                number(row.bias),
                number(row.worst, 3),
                f"{100 * row.marked:.1f} %",
                number(row.bound),
                number(row.rms / row.bound, 2),
                number(row.score if row.bound > 0 else np.nan, 2),
                number(row.opencv_rms),
                number(row.opencv_bias),
                number(row.opencv_score if row.bound > 0 else np.nan, 2),
            )
            for row in rows
        ],
        write=arguments.write,
    )
    return rows


if __name__ == "__main__":
    main()
