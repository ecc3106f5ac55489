"""Template matching: where each point of a sample image came from in the reference.

The displacement ``u`` at a point ``p`` of the sample obeys ``sample(p) = reference(p - u)``: the
template is cut from the sample around ``p`` and searched for in the reference around ``p - start``.
Everything here works on one pair of plain arrays; a NaN is a pixel without data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wavedask.kernels.fields import Reason
from wavedask.kernels.grids import continued, median_of, neighbours

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Codes = NDArray[np.uint8]

MAX_MISSING: Final = 0.05
"""Largest fraction of a window that may be without data."""
FLAT: Final = 1e-4
"""A window whose standard deviation is below this fraction of its mean magnitude has no pattern."""
AMBIGUOUS: Final = 0.9
"""A second peak above this fraction of the first makes a match ambiguous."""
CHANCE: Final = 0.5
"""Correlation that the best of many unrelated windows reaches: below it a peak means nothing."""
SAMPLED: Final = 0.7
"""A second peak between two candidates is measured above this fraction of the first."""
ABSENT: Final = (Reason.BORDER, Reason.MASKED, Reason.NO_STRUCTURE)
"""Reasons of points where nothing could be measured: they neither confirm nor contradict."""
OUTLIER: Final = 3.0
"""Normalised-median residual above which a vector is an outlier (Westerweel & Scarano use 2)."""
OUTLIER_FLOOR: Final = 0.5
"""Pixels added to the median residual: the precision that a first pass is expected to have."""
MAX_GRADIENT: Final = 0.15
"""Displacement per pixel beyond which neighbours contradict each other instead of varying."""
_EXCLUDED: Final = -2.0
"""Correlation written where a candidate window has too little data; below any real value."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Matches at the points of a grid; every array has the shape ``(rows, columns)``.

    Attributes
    ----------
    displacement_y, displacement_x : ndarray of float32
        Displacement in pixels; NaN where there is no match that deserves the name.
    correlation : ndarray of float32
        Height of the correlation peak, -1 to 1; NaN where nothing could be compared.
    window : ndarray of int16
        Side in pixels of the window that gave the match; 0 where there is none.
    reason : ndarray of uint8
        Why there is no match, a value of `Reason`; 0 where there is one.
    """

    displacement_y: Floats
    displacement_x: Floats
    correlation: Floats
    window: NDArray[np.int16]
    reason: Codes

    @classmethod
    def none(cls, shape: tuple[int, int]) -> Self:
        """Return a grid without any match: nothing has been looked at."""
        return cls(
            np.full(shape, np.nan, np.float32),
            np.full(shape, np.nan, np.float32),
            np.full(shape, np.nan, np.float32),
            np.zeros(shape, np.int16),
            np.full(shape, Reason.BORDER, np.uint8),
        )

    @property
    def valid(self) -> Mask:
        """Where there is a match."""
        return np.isfinite(self.displacement_y)

    def without_isolated(self) -> Self:
        """Drop the matches that are not part of a square of three by three.

        Chance matches stand alone, and a field in pieces cannot be integrated.
        """
        alone = self.valid & ~ndimage.binary_opening(self.valid, np.ones((3, 3), np.bool_))
        return type(self)(
            np.where(alone, np.float32(np.nan), self.displacement_y),
            np.where(alone, np.float32(np.nan), self.displacement_x),
            self.correlation,
            np.where(alone, np.int16(0), self.window),
            np.where(alone, np.uint8(Reason.OUTLIER), self.reason),
        )


class MaskedImage:
    """An image prepared for matching: gaps filled, margins added, data counted.

    Parameters
    ----------
    image : ndarray of float, shape (rows, columns)
        Intensities; NaN marks a pixel without data, minus infinity one outside of the frame.
    margin : int
        Pixels without data added on every side, so that windows may reach over the border.
    window : int
        Side of the neighbourhood whose mean fills a gap.
    """

    def __init__(self, image: NDArray[np.floating], *, margin: int, window: int) -> None:
        missing = ~np.isfinite(image)
        # matchTemplate sums squares in single precision: without a level near zero, 60000 counts
        # of pedestal would drown a contrast of a few per cent, and 1e20 counts would overflow.
        level, self.scale = level_and_scale(image, ~missing)
        centred = np.where(missing, 0.0, (image - np.float64(level)) / self.scale)
        centred = centred.astype(np.float32)
        if missing.any():
            weight = cv2.blur((~missing).astype(np.float32), (window, window))
            mean = cv2.blur(centred, (window, window)) / np.maximum(weight, 1e-6)
            centred[missing] = mean[missing]
        self.margin = margin
        self.level = level
        self.pixels = _pad(centred, margin)
        gaps = cv2.copyMakeBorder(
            missing.astype(np.uint8), *(margin,) * 4, borderType=cv2.BORDER_CONSTANT, value=1
        )
        self._gaps = cv2.integral(gaps)
        outside = np.isneginf(image).astype(np.uint8)
        beyond = cv2.copyMakeBorder(
            outside, *(margin,) * 4, borderType=cv2.BORDER_CONSTANT, value=1
        )
        self._beyond = cv2.integral(beyond)

    def moments(
        self, rows: NDArray[np.intp], columns: NDArray[np.intp], window: int
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Mean and standard deviation of the windows around some points of the image."""
        at = (rows + self.margin, columns + self.margin)
        mean = cv2.blur(self.pixels, (window, window))[at]
        square = cv2.sqrBoxFilter(self.pixels, cv2.CV_32F, (window, window))[at]
        deviation = np.sqrt(np.maximum(square - mean**2, 0))
        return self.level + self.scale * mean, self.scale * deviation

    def missing_pixels(
        self, top: NDArray[np.intp], left: NDArray[np.intp], side: int
    ) -> NDArray[np.int32]:
        """Count the pixels without data in square windows, given their corners (padded frame)."""
        return _boxes(self._gaps, top, left, side)

    def why_missing(self, top: NDArray[np.intp], left: NDArray[np.intp], side: int) -> Codes:
        """Tell whether square windows lack data for the border of the frame or for a mask."""
        beyond, missing = (_boxes(total, top, left, side) for total in (self._beyond, self._gaps))
        return np.where(2 * beyond >= missing, Reason.BORDER, Reason.MASKED).astype(np.uint8)

    def missing_candidates(self, top: int, left: int, side: int, candidates: int) -> Floats | None:
        """Count missing pixels in each candidate window of a search area; None if there are none.

        `top` and `left` are the corner of the area; there are ``candidates x candidates`` windows.
        """
        total = self._gaps
        bottom, right = top + side + candidates - 1, left + side + candidates - 1
        if (total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]) == 0:
            return None
        rows = slice(top, top + candidates)
        ends = slice(top + side, top + side + candidates)
        columns = slice(left, left + candidates)
        sides = slice(left + side, left + side + candidates)
        counts = total[ends, sides] - total[rows, sides] - total[ends, columns]
        return np.asarray(counts + total[rows, columns], np.float32)


def level_and_scale(image: NDArray[Any], known: Mask) -> tuple[float, float]:
    """Mean of an image, and a power of two near its largest departure from that.

    To divide by a power of two costs no digit, so that the result of a tile does not depend on it.

    Parameters
    ----------
    image : ndarray of float
        Intensities of any type.
    known : ndarray of bool
        Where there are data.

    Returns
    -------
    (float, float)
        The scale is 1 where the image is flat or has no data.

    Examples
    --------
    >>> level_and_scale(np.array([1e20, 3e20, np.nan]), np.array([True, True, False]))
    (2e+20, 7.378697629483821e+19)
    """
    if not known.any():
        return 0.0, 1.0
    values = image[known]
    level = float(values.mean(dtype=np.float64))
    most = max(float(values.max()) - level, level - float(values.min()))
    if not most > 0:
        return level, 1.0
    return level, float(2.0 ** np.floor(np.log2(most)))


def _boxes(
    total: NDArray[Any], top: NDArray[np.intp], left: NDArray[np.intp], side: int
) -> NDArray[np.int32]:
    """Sum over squares, from the integral image."""
    counts = total[top + side, left + side] - total[top, left + side]
    counts -= total[top + side, left] - total[top, left]
    return np.asarray(counts, np.int32)


def _pad(image: Floats, margin: int) -> Floats:
    if margin == 0:
        return image
    # Repeating the edge, not the mean of the block: that would depend on the tiling.
    padded = cv2.copyMakeBorder(image, *(margin,) * 4, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(padded, np.float32)


def windows_between(smallest: int, largest: int) -> list[int]:
    """Sides of the growing template, from the smallest to the largest, about doubling its area.

    Parameters
    ----------
    smallest, largest : int
        Odd numbers of pixels.

    Returns
    -------
    list of int
        Odd numbers, increasing.

    Examples
    --------
    >>> windows_between(11, 41)
    [11, 15, 21, 29, 41]
    >>> windows_between(21, 21)
    [21]
    """
    sides = [smallest]
    while sides[-1] < largest:
        sides.append(min(largest, int(sides[-1] * np.sqrt(2) / 2) * 2 + 1))
    return sides


def match_points(
    pairs: Sequence[tuple[MaskedImage, MaskedImage]],
    *,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    start_y: NDArray[np.floating],
    start_x: NDArray[np.floating],
    windows: list[int],
    search: int,
    good: float,
    demand_unique: bool,
    missing: float = MAX_MISSING,
) -> Matches:
    """Match the points of a grid, with a template that grows where the peak is weak.

    The correlation is OpenCV's ``TM_CCOEFF_NORMED`` (equations 3.1 and 3.2 of the M7.5 report, with
    T the template from the sample and A the search area of the reference). A point is matched with
    the smallest window; where the peak is below `good`, or there is none, with the next larger one,
    until the largest.

    Parameters
    ----------
    pairs : sequence of (MaskedImage, MaskedImage)
        Sample and reference, with a margin of at least half the largest window, plus, in the
        reference, the search and the largest start. Of several pairs that share a displacement,
        the correlations are averaged.
    rows, columns : ndarray of int, shapes (n,) and (m,)
        Pixel coordinates of the grid.
    start_y, start_x : ndarray of float, shape (n, m)
        Displacement around which to search; NaN for a point that is not to be matched.
    windows : list of int
        Odd sides of the template, increasing.
    search : int
        Pixels searched on either side of the start.
    good : float
        Correlation at which the template stops growing.
    demand_unique : bool
        Whether a second peak nearly as high makes the point invalid.
    missing : float, default 0.05
        Largest fraction of a window that may be without data.

    Returns
    -------
    Matches
        With shape (n, m). A peak on the edge of the search range or beside missing data, a window
        without pattern, and, on demand, an ambiguous peak are no match.
    """
    grid_y, grid_x = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    centre_y, centre_x = np.rint(start_y).ravel(), np.rint(start_x).ravel()
    best = Matches.none((grid_y.size, 1))
    pending = np.flatnonzero(np.isfinite(centre_y) & np.isfinite(centre_x))
    for window in windows:
        empty = np.zeros(pending.size, np.uint8)
        for sample, _ in pairs:
            empty = np.maximum(
                empty, _empty(sample, grid_y[pending], grid_x[pending], window, missing)
            )
        waits = ~best.valid[pending, 0]
        best.reason[pending[waits], 0] = empty[waits]
        usable = pending[empty == Reason.MATCHED]
        peaks, patches, reasons = _correlate(
            pairs,
            (grid_y[usable], grid_x[usable]),
            (centre_y[usable].astype(np.intp), centre_x[usable].astype(np.intp)),
            window=window,
            search=search,
            demand_unique=demand_unique,
            missing=missing,
        )
        offset_y, offset_x, height = quadratic_peak(patches)
        found = np.isfinite(offset_y)
        index = usable[found]
        best.displacement_y[index, 0] = centre_y[index] - (peaks[found, 0] + offset_y[found])
        best.displacement_x[index, 0] = centre_x[index] - (peaks[found, 1] + offset_x[found])
        best.correlation[index, 0] = height[found]
        best.window[index, 0] = window
        best.reason[index, 0] = Reason.MATCHED
        fails = ~found & ~best.valid[usable, 0]
        lost, height = usable[fails], patches[fails, 1, 1]
        best.correlation[lost, 0] = height
        weak = (height < CHANCE) & ~np.isin(reasons[fails], ABSENT)
        best.reason[lost, 0] = np.where(weak, Reason.UNCORRELATED, reasons[fails])
        done = best.valid[pending, 0] & (best.correlation[pending, 0] >= good)
        pending = pending[~done]
        if pending.size == 0:
            break
    shape = start_y.shape
    return Matches(
        best.displacement_y.reshape(shape),
        best.displacement_x.reshape(shape),
        best.correlation.reshape(shape),
        best.window.reshape(shape),
        best.reason.reshape(shape),
    )


def _empty(
    image: MaskedImage,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    window: int,
    most: float,
) -> Codes:
    """Why the windows around these points hold no pattern; 0 where they hold one."""
    corner = image.margin - window // 2
    gaps = image.missing_pixels(rows + corner, columns + corner, window)
    # OpenCV gives a flat template a correlation of 1 everywhere.
    mean, deviation = image.moments(rows, columns, window)
    floor = FLAT * (np.abs(mean) + np.abs(mean - image.level))
    flat = np.where(deviation > floor, Reason.MATCHED, Reason.NO_STRUCTURE)
    lacking = image.why_missing(rows + corner, columns + corner, window)
    return np.where(gaps > most * window**2, lacking, flat).astype(np.uint8)


def _correlate(
    pairs: Sequence[tuple[MaskedImage, MaskedImage]],
    points: tuple[NDArray[np.intp], NDArray[np.intp]],
    starts: tuple[NDArray[np.intp], NDArray[np.intp]],
    *,
    window: int,
    search: int,
    demand_unique: bool,
    missing: float,
) -> tuple[NDArray[np.intp], Floats, Codes]:
    """Correlate each point's template with its search area: the loop of the report.

    Returns the integer offsets of the peaks from the centre, shape (points, 2), the 3x3
    neighbourhoods of the peaks, NaN around the centre where the peak cannot be used, and why.
    """
    peaks = np.zeros((points[0].size, 2), np.intp)
    patches = np.full((points[0].size, 3, 3), np.nan, np.float32)
    # A peak without a maximum within one pixel stands on a flank.
    reasons = np.full(points[0].size, Reason.NOT_CONVERGED, np.uint8)
    candidates = 2 * search + 1
    sample, reference = pairs[0]
    corner = sample.margin - window // 2
    shift = reference.margin - window // 2 - search
    side = window + 2 * search
    limit_y, limit_x = (length - side for length in reference.pixels.shape)
    image, area = sample.pixels, reference.pixels
    others = [(first.pixels, second.pixels) for first, second in pairs[1:]]
    tops, lefts = (points[0] + corner).tolist(), (points[1] + corner).tolist()
    area_tops = (points[0] - starts[0] + shift).tolist()
    area_lefts = (points[1] - starts[1] + shift).tolist()
    for index, (top, left, y, x) in enumerate(zip(tops, lefts, area_tops, area_lefts, strict=True)):
        if not (0 <= y <= limit_y and 0 <= x <= limit_x):
            reasons[index] = Reason.BORDER
            continue
        scores: NDArray[Any] = cv2.matchTemplate(
            area[y : y + side, x : x + side],
            image[top : top + window, left : left + window],
            cv2.TM_CCOEFF_NORMED,
        )
        for template, field in others:
            more = cv2.matchTemplate(
                field[y : y + side, x : x + side],
                template[top : top + window, left : left + window],
                cv2.TM_CCOEFF_NORMED,
            )
            scores = scores + more
        if others:
            scores = scores / np.float32(len(pairs))
        for _, target in pairs:
            gaps = target.missing_candidates(y, x, window, candidates)
            if gaps is not None:
                scores[gaps > missing * window**2] = _EXCLUDED
        _, height, _, (column, row) = cv2.minMaxLoc(scores)
        peaks[index] = row - search, column - search
        if height <= _EXCLUDED:
            reasons[index] = Reason.MASKED
            continue
        patches[index, 1, 1] = height
        if not (0 < row < candidates - 1 and 0 < column < candidates - 1):
            reasons[index] = Reason.SEARCH_LIMIT
            continue
        patch = _completed(scores[row - 1 : row + 2, column - 1 : column + 2])
        if patch is None:
            reasons[index] = Reason.MASKED
        elif demand_unique and _ambiguous(scores, row, column, height):
            reasons[index] = Reason.AMBIGUOUS
        else:
            patches[index] = patch
    masked = reasons == Reason.MASKED
    tops, lefts = ((points[k] - starts[k] + shift + search + peaks[:, k])[masked] for k in (0, 1))
    reasons[masked] = reference.why_missing(tops, lefts, window)
    return peaks, patches, reasons


def _completed(patch: NDArray[Any]) -> NDArray[Any] | None:
    """Complete the neighbourhood of a peak where windows on both sides of it lack data.

    In a frame as narrow as the window there is one candidate across it. The peak is then taken to
    stand in the middle, which is near enough for a start. None where one side has data and the
    other has not: the true peak may lie on that side.
    """
    missing = patch <= _EXCLUDED
    if not missing.any():
        return patch
    if not (missing == missing[::-1, ::-1]).all():
        return None
    y, x = np.nonzero(missing)
    away = (np.abs(y - 1) + np.abs(x - 1)).astype(patch.dtype)
    whole = patch.copy()
    whole[missing] = patch[1, 1] - np.float32(0.1) * away
    return np.asarray(whole)


_NEIGHBOURHOOD: Final = np.ones((3, 3), np.uint8)


def _ambiguous(scores: NDArray[Any], row: int, column: int, height: float) -> bool:
    """Whether another local maximum stands nearly as high as the peak.

    Between two candidates a narrow maximum is higher than at either: quadratics tell how high.
    """
    summits = (scores >= cv2.dilate(scores, _NEIGHBOURHOOD)) & (scores > SAMPLED * height)
    summits[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = False
    rows, columns = np.nonzero(summits)
    if not rows.size:
        return False
    if (scores[rows, columns] > AMBIGUOUS * height).any():
        return True
    y, x = np.clip(rows, 1, scores.shape[0] - 2), np.clip(columns, 1, scores.shape[1] - 2)
    patches = [scores[i - 1 : i + 2, k - 1 : k + 2] for i, k in zip(y, x, strict=True)]
    first = quadratic_peak(scores[None, row - 1 : row + 2, column - 1 : column + 2])[2][0]
    others = quadratic_peak(np.stack(patches))
    there = np.isfinite(others[0])
    return bool((others[2][there] > AMBIGUOUS * max(first, height)).any())


def quadratic_peak(patches: Floats) -> tuple[Floats, Floats, Floats]:
    """Fit a 2-D quadratic to the 3x3 neighbourhood of each peak by least squares.

    Parameters
    ----------
    patches : ndarray, shape (n, 3, 3)
        Correlation around the highest value; NaN where there is no peak.

    Returns
    -------
    offset_y, offset_x : ndarray of float32, shape (n,)
        Position of the maximum from the centre, within one pixel; NaN where the quadratic has no
        maximum there.
    height : ndarray of float32, shape (n,)
        The value at the maximum, at most halfway from the highest of the nine values to 1: where a
        quadratic overshoots, the match is not perfect yet.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[-1:2, -1:2]
    >>> patch = 0.9 - 0.1 * (y - 0.25) ** 2 - 0.2 * (x + 0.4) ** 2
    >>> [round(float(v[0]), 4) for v in quadratic_peak(patch[None].astype(np.float32))]
    [0.25, -0.4, 0.9]
    """
    values = patches.astype(np.float64)
    y, x = np.mgrid[-1:2, -1:2]
    total = values.sum((1, 2))
    slope_y, slope_x = (values * y).sum((1, 2)) / 6, (values * x).sum((1, 2)) / 6
    bend_yy = (values * y**2).sum((1, 2)) / 2 - total / 3
    bend_xx = (values * x**2).sum((1, 2)) / 2 - total / 3
    bend_yx = (values * y * x).sum((1, 2)) / 4
    centre = (5 * total - 3 * (values * (y**2 + x**2)).sum((1, 2))) / 9
    determinant = 4 * bend_yy * bend_xx - bend_yx**2
    with np.errstate(divide="ignore", invalid="ignore"):
        offset_y = (bend_yx * slope_x - 2 * bend_xx * slope_y) / determinant
        offset_x = (bend_yx * slope_y - 2 * bend_yy * slope_x) / determinant
        height = centre + (slope_y * offset_y + slope_x * offset_x) / 2
        usable = (bend_yy < 0) & (determinant > 0) & (np.abs(offset_y) <= 1)
        usable &= np.abs(offset_x) <= 1
    offset_y[~usable] = np.nan
    offset_x[~usable] = np.nan
    return (
        offset_y.astype(np.float32),
        offset_x.astype(np.float32),
        np.minimum(height, (1 + values[:, 1, 1]) / 2).astype(np.float32),
    )


def without_outliers(matches: Matches, *, spacing: int) -> tuple[Floats, Floats, Codes]:
    """Replace outliers and gaps of a displacement field by what their neighbours lead to.

    The normalised-median test of Westerweel & Scarano (Exp. Fluids 39, 1096, 2005): a vector is
    compared with the median of its eight neighbours, in units of their median residual.

    Parameters
    ----------
    matches : Matches
        A grid of matches, shape (n, m).
    spacing : int
        Pixels between the points of the grid.

    Returns
    -------
    displacement_y, displacement_x : ndarray of float32, shape (n, m)
        NaN where fewer than half of the neighbours, and than three, are left to confirm or replace
        a vector, or where they contradict each other. Points without data (masked, beyond the
        border, flat) are not counted among the neighbours.
    reason : ndarray of uint8, shape (n, m)
        Why there is no vector; 0 where there is one.
    """
    fields = (matches.displacement_y, matches.displacement_x)
    kept = matches.valid.copy()
    for field in fields:
        around = neighbours(field)
        median = median_of(around)
        residual = median_of(np.abs(around - median))
        with np.errstate(invalid="ignore"):
            kept &= ~(np.abs(field - median) > OUTLIER * (residual + OUTLIER_FLOOR))
            kept &= ~(residual > MAX_GRADIENT * spacing + OUTLIER_FLOOR)
    # What too few confirm must not lead the gaps beside it astray.
    absent = np.isin(matches.reason, ABSENT)
    kept &= _confirmed(kept, absent)
    near = _confirmed(kept, absent)
    cleaned = []
    for field in fields:
        clean = np.where(kept, field, np.nan)
        clean = np.where(kept, clean, np.where(near, continued(clean), np.nan))
        cleaned.append(clean.astype(np.float32))
    dropped = np.where(matches.valid, np.uint8(Reason.OUTLIER), matches.reason)
    reason = np.where(np.isnan(cleaned[0]), dropped, np.uint8(Reason.MATCHED))
    return cleaned[0], cleaned[1], reason


def _confirmed(kept: Mask, absent: Mask) -> Mask:
    """Where half of the neighbours that have data are kept, or three: those of a corner."""
    around = neighbours(np.where(absent, np.nan, np.where(kept, 1.0, 0.0)))
    needed = np.minimum(np.isfinite(around).sum(0) / 2, 3)
    return np.asarray(np.nansum(around, axis=0) >= needed, np.bool_)
