"""Correlation of templates with their search areas, and the peaks that it has.

Two functions do the same. `correlate_opencv` is the loop of the M7.5 report, with OpenCV's
``TM_CCOEFF_NORMED`` (equations 3.1 and 3.2, with T the template from the sample and A the search
area of the reference). `correlate_compiled` computes this coefficient for all points in one
compiled loop: for the small templates of a start, calls from Python would take most of the time.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.fields import Reason
from wavedask.kernels.jit import INLINED, JIT, njit
from wavedask.kernels.start.images import MaskedImage
from wavedask.kernels.start.peaks import EXCLUDED, judge_scores, judged_scores

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]
Codes = NDArray[np.uint8]
Pairs = Sequence[tuple[MaskedImage, MaskedImage]]

_FLAT: Final = np.float32(1e-10)
"""Mean square of an area over its square sum below which rounding makes a pattern of it."""
_BORDER, _NOT_CONVERGED = int(Reason.BORDER), int(Reason.NOT_CONVERGED)


class Areas(NamedTuple):
    """What is to be correlated: templates and the areas in which they are searched for.

    Attributes
    ----------
    window, search : int
        Side of the templates, and pixels searched on either side.
    most : float
        Pixels of a candidate window that may be without data.
    demand_unique : bool
        Whether a second peak nearly as high makes a peak unusable.
    tops, lefts, area_tops, area_lefts : ndarray of int, shape (points,)
        First row and column of the templates and of the areas, in the padded images.
    """

    window: int
    search: int
    most: float
    demand_unique: bool
    tops: Indices
    lefts: Indices
    area_tops: Indices
    area_lefts: Indices


class Peaks(NamedTuple):
    """Peaks of correlations.

    Attributes
    ----------
    offsets : ndarray of int, shape (points, 2)
        Offset (y, x) of the peak from the centre of the search.
    patches : ndarray of float32, shape (points, 3, 3)
        The correlation around the peak; NaN around the centre where the peak cannot be used.
    reasons : ndarray of uint8, shape (points,)
        Why it cannot be used, a value of `Reason`. A usable peak has `Reason.NOT_CONVERGED`, which
        holds if there is no maximum within one pixel: it then stands on a flank.
    """

    offsets: Indices
    patches: Floats
    reasons: Codes

    @classmethod
    def none(cls, points: int) -> "Peaks":
        """Return peaks of which none has been looked at."""
        return cls(
            np.zeros((points, 2), np.intp),
            np.full((points, 3, 3), np.nan, np.float32),
            np.full(points, _NOT_CONVERGED, np.uint8),
        )


Correlator = Callable[[Pairs, Areas], Peaks]
"""Finds the peaks of pairs that share a displacement: their correlations are averaged."""


def correlate_opencv(pairs: Pairs, areas: Areas) -> Peaks:
    """Correlate each template with its search area: the loop of the report."""
    peaks = Peaks.none(areas.tops.size)
    window, search = areas.window, areas.search
    candidates, side = 2 * search + 1, window + 2 * search
    limit_y, limit_x = (length - side for length in pairs[0][1].pixels.shape)
    images = [(sample.pixels, reference.pixels) for sample, reference in pairs]
    corners = (line.tolist() for line in areas[-4:])
    for index, (top, left, y, x) in enumerate(zip(*corners, strict=True)):
        if not (0 <= y <= limit_y and 0 <= x <= limit_x):
            peaks.reasons[index] = Reason.BORDER
            continue
        scores: NDArray[Any] | float = 0.0
        for template, area in images:
            scores = scores + cv2.matchTemplate(
                area[y : y + side, x : x + side],
                template[top : top + window, left : left + window],
                cv2.TM_CCOEFF_NORMED,
            )
        scores = np.asarray(scores, np.float32) / np.float32(len(pairs))
        for _, target in pairs:
            gaps = target.missing_candidates(y, x, window, candidates)
            if gaps is not None:
                scores[gaps > areas.most] = EXCLUDED
        row, column, reason = judged_scores(scores, areas.demand_unique, peaks.patches[index])
        peaks.offsets[index] = row - search, column - search
        if reason:
            peaks.reasons[index] = reason
    return peaks


def correlate_compiled(pairs: Pairs, areas: Areas) -> Peaks:
    """Correlate all templates with their search areas in one compiled loop."""
    peaks = Peaks.none(areas.tops.size)
    templates, references = (
        np.stack([pair[k].pixels for pair in pairs]) if len(pairs) > 1 else pairs[0][k].pixels[None]
        for k in (0, 1)
    )
    gaps = np.stack([reference.gaps for _, reference in pairs])
    _correlate(
        np.ascontiguousarray(templates),
        np.ascontiguousarray(references),
        gaps,
        areas.tops,
        areas.lefts,
        areas.area_tops,
        areas.area_lefts,
        areas.window,
        areas.search,
        areas.most,
        areas.demand_unique,
        peaks.offsets,
        peaks.patches,
        peaks.reasons,
    )
    return peaks


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _cut(image: Floats, top: int, left: int, side: int, width: int, out: Floats) -> None:
    """Cut a square out of an image into rows of some width, with zeros beside it.

    The mean is taken out, so that sums of float32 hold.
    """
    total = 0.0
    for y in range(side):
        row = image[top + y, left : left + side]
        for x in range(side):
            total += row[x]
    mean = np.float32(total / side**2)
    for y in range(side):
        row = image[top + y, left : left + side]
        line = out[y * width : (y + 1) * width]
        for x in range(side):
            line[x] = row[x] - mean
        line[side:] = np.float32(0)


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _window_sums(area: Floats, side: int, window: int, first: Floats, second: Floats) -> None:
    """Compute sums and sums of squares over all windows of an area of ``side x side`` pixels."""
    candidates = side - window + 1
    row_sums = np.zeros((2, candidates), np.float64)
    lines = np.empty((2, side, candidates), np.float64)
    for y in range(side):
        line = area[y * side : (y + 1) * side]
        total, square = 0.0, 0.0
        for x in range(side):
            v = np.float64(line[x])
            total += v
            square += v * v
            if x >= window:
                o = np.float64(line[x - window])
                total -= o
                square -= o * o
            if x >= window - 1:
                lines[0, y, x - window + 1] = total
                lines[1, y, x - window + 1] = square
        for k in range(2):
            for x in range(candidates):
                row_sums[k, x] += lines[k, y, x]
                if y >= window:
                    row_sums[k, x] -= lines[k, y - window, x]
        if y >= window - 1:
            for x in range(candidates):
                first[y - window + 1, x] = row_sums[0, x]
                second[y - window + 1, x] = row_sums[1, x]


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _add_scores(template: Floats, area: Floats, window: int, side: int, scores: Floats) -> None:
    """Add the correlation of a template with all windows of an area.

    Both are flat, with rows of ``side`` values, the template with zeros beside its own: then one
    product of two contiguous vectors gives the sum over a window.
    """
    candidates = side - window + 1
    length = (window - 1) * side + window
    power = np.float32(0)
    for i in range(length):
        power += template[i] * template[i]
    first = np.empty((candidates, candidates), np.float64)
    second = np.empty((candidates, candidates), np.float64)
    _window_sums(area, side, window, first, second)
    whole = np.float64(0)
    for i in range(side * side):
        whole += np.float64(area[i]) * np.float64(area[i])
    for y in range(candidates):
        for x in range(candidates):
            part = area[y * side + x : y * side + x + length]
            total = np.float32(0)
            for i in range(length):
                total += template[i] * part[i]
            spread = second[y, x] - first[y, x] * first[y, x] / window**2
            # A flat window resembles nothing.
            if spread > _FLAT * whole:
                score = total / np.sqrt(np.float64(power) * spread)
                scores[y, x] += np.float32(min(max(score, -1.0), 1.0))


@njit(**JIT)  # type: ignore[untyped-decorator]
def _correlate(
    templates: Floats,
    references: Floats,
    gaps: NDArray[np.int32],
    tops: Indices,
    lefts: Indices,
    area_tops: Indices,
    area_lefts: Indices,
    window: int,
    search: int,
    most: float,
    demand_unique: bool,
    offsets: Indices,
    patches: Floats,
    reasons: Codes,
) -> None:
    """Find the peaks of all points; arguments as of `Areas` and `Peaks`."""
    side, candidates = window + 2 * search, 2 * search + 1
    images, rows, columns = references.shape
    template, area = np.zeros(side * side, np.float32), np.zeros(side * side, np.float32)
    scores = np.empty((candidates, candidates), np.float32)
    for k in range(tops.size):
        top, left = area_tops[k], area_lefts[k]
        if not (0 <= top <= rows - side and 0 <= left <= columns - side):
            reasons[k] = _BORDER
            continue
        scores[:] = np.float32(0)
        for n in range(images):
            _cut(templates[n], tops[k], lefts[k], window, side, template)
            _cut(references[n], top, left, side, side, area)
            _add_scores(template, area, window, side, scores)
        for y in range(candidates):
            for x in range(candidates):
                scores[y, x] /= np.float32(images)
        for n in range(images):
            total = gaps[n]
            bottom, right = top + side, left + side
            if total[bottom, right] - total[top, right] == total[bottom, left] - total[top, left]:
                continue
            for y in range(top, top + candidates):
                for x in range(left, left + candidates):
                    lower = total[y + window, x + window] - total[y + window, x]
                    if lower - total[y, x + window] + total[y, x] > most:
                        scores[y - top, x - left] = EXCLUDED
        row, column, reason = judge_scores(scores, demand_unique, patches[k])
        offsets[k, 0], offsets[k, 1] = row - search, column - search
        if reason:
            reasons[k] = reason
