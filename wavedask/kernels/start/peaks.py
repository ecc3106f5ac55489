"""Peaks of a correlation: where they lie between the candidates, and whether they can be used."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.fields import Reason
from wavedask.kernels.jit import INLINED_WITH_NAN, WITH_NAN, njit

Floats = NDArray[np.float32]
Scores = NDArray[np.floating]

EXCLUDED: Final = np.float32(-2)
"""Correlation of a candidate window with too little data; below any real value."""
AMBIGUOUS: Final = np.float32(0.9)
"""A second peak above this fraction of the first makes a match ambiguous."""
SAMPLED: Final = np.float32(0.7)
"""A second peak between two candidates is measured above this fraction of the first."""
_SLOPE: Final = np.float32(0.1)
"""Fall of a completed peak per pixel: any fall puts its maximum in the middle."""
_MATCHED, _MASKED = int(Reason.MATCHED), int(Reason.MASKED)
_SEARCH_LIMIT, _AMBIGUOUS = int(Reason.SEARCH_LIMIT), int(Reason.AMBIGUOUS)


@njit(**INLINED_WITH_NAN)  # type: ignore[untyped-decorator]
def _quadratic(v: Scores) -> tuple[float, float, float]:
    """Maximum (y, x) and height of the quadratic through a 3x3 patch; NaN where it has none."""
    top = np.float64(v[0, 0]) + v[0, 1] + v[0, 2]
    middle = np.float64(v[1, 0]) + v[1, 1] + v[1, 2]
    bottom = np.float64(v[2, 0]) + v[2, 1] + v[2, 2]
    left = np.float64(v[0, 0]) + v[1, 0] + v[2, 0]
    centre = np.float64(v[0, 1]) + v[1, 1] + v[2, 1]
    right = np.float64(v[0, 2]) + v[1, 2] + v[2, 2]
    slope_y, slope_x = (bottom - top) / 6, (right - left) / 6
    bend_yy, bend_xx = (top + bottom - 2 * middle) / 6, (left + right - 2 * centre) / 6
    bend_yx = (np.float64(v[0, 0]) - v[0, 2] - v[2, 0] + v[2, 2]) / 4
    determinant = 4 * bend_yy * bend_xx - bend_yx * bend_yx
    if not (bend_yy < 0 and determinant > 0):
        return np.nan, np.nan, np.nan
    y = (bend_yx * slope_x - 2 * bend_xx * slope_y) / determinant
    x = (bend_yx * slope_y - 2 * bend_yy * slope_x) / determinant
    if not (abs(y) <= 1 and abs(x) <= 1):
        return np.nan, np.nan, np.nan
    level = (5 * (top + middle + bottom) - 3 * (top + bottom + left + right)) / 9
    height = level + (slope_y * y + slope_x * x) / 2
    return y, x, min(height, (1 + np.float64(v[1, 1])) / 2)


@njit(**WITH_NAN)  # type: ignore[untyped-decorator]
def _quadratics(patches: Floats, out: Floats) -> None:
    for k in range(len(patches)):
        out[0, k], out[1, k], out[2, k] = _quadratic(patches[k])


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
        quadratic overshoots, the match is not perfect yet. NaN where there is no maximum.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[-1:2, -1:2]
    >>> patch = 0.9 - 0.1 * (y - 0.25) ** 2 - 0.2 * (x + 0.4) ** 2
    >>> [round(float(v[0]), 4) for v in quadratic_peak(patch[None].astype(np.float32))]
    [0.25, -0.4, 0.9]
    """
    out = np.empty((3, len(patches)), np.float32)
    _quadratics(np.asarray(patches, np.float32), out)
    return out[0], out[1], out[2]


@njit(**INLINED_WITH_NAN)  # type: ignore[untyped-decorator]
def _completed(patch: Floats) -> bool:
    """Complete the neighbourhood of a peak where windows on both sides of it lack data.

    In a frame as narrow as the window there is one candidate across it. The peak is then taken to
    stand in the middle, which is near enough for a start. False where one side has data and the
    other does not: the true peak may lie on that side.
    """
    for y in range(3):
        for x in range(3):
            if (patch[y, x] <= EXCLUDED) != (patch[2 - y, 2 - x] <= EXCLUDED):
                return False
    for y in range(3):
        for x in range(3):
            if patch[y, x] <= EXCLUDED:
                patch[y, x] = patch[1, 1] - _SLOPE * np.float32(abs(y - 1) + abs(x - 1))
    return True


@njit(**INLINED_WITH_NAN)  # type: ignore[untyped-decorator]
def _summit(scores: Scores, row: int, column: int) -> bool:
    """Whether no neighbour of a candidate is higher."""
    here = scores[row, column]
    for y in range(max(row - 1, 0), min(row + 2, scores.shape[0])):
        for x in range(max(column - 1, 0), min(column + 2, scores.shape[1])):
            if scores[y, x] > here:
                return False
    return True


@njit(**INLINED_WITH_NAN)  # type: ignore[untyped-decorator]
def _ambiguous(scores: Scores, row: int, column: int) -> bool:
    """Whether another local maximum stands nearly as high as the peak.

    Between two candidates a narrow maximum is higher than at either: quadratics tell how high.
    """
    height = scores[row, column]
    rows, columns = scores.shape
    first = np.float64(height)
    measured = False
    for y in range(rows):
        for x in range(columns):
            if not scores[y, x] > SAMPLED * height or (abs(y - row) <= 1 and abs(x - column) <= 1):
                continue
            if not _summit(scores, y, x):
                continue
            if scores[y, x] > AMBIGUOUS * height:
                return True
            if not measured:
                peak = _quadratic(scores[row - 1 : row + 2, column - 1 : column + 2])[2]
                first = max(first, peak) if peak == peak else first
                measured = True
            i, k = min(max(y, 1), rows - 2), min(max(x, 1), columns - 2)
            other = _quadratic(scores[i - 1 : i + 2, k - 1 : k + 2])[2]
            if other > AMBIGUOUS * first:
                return True
    return False


@njit(**INLINED_WITH_NAN)  # type: ignore[untyped-decorator]
def judge_scores(scores: Scores, demand_unique: bool, patch: Floats) -> tuple[int, int, int]:
    """Find the peak of a correlation, and whether it can be used.

    Parameters
    ----------
    scores : ndarray, shape (candidates, candidates)
        Correlation of each candidate window; `EXCLUDED` where it lacks data.
    demand_unique : bool
        Whether a second peak nearly as high makes the peak unusable.
    patch : ndarray of float32, shape (3, 3), full of NaN
        Where the neighbourhood of the peak goes; if it cannot be used, the peak alone.

    Returns
    -------
    row, column : int
        The highest candidate.
    reason : int
        Why it cannot be used, a value of `Reason`; 0 where it can be.
    """
    row, column = 0, 0
    for y in range(scores.shape[0]):
        for x in range(scores.shape[1]):
            if scores[y, x] > scores[row, column]:
                row, column = y, x
    height = scores[row, column]
    if height <= EXCLUDED:
        return row, column, _MASKED
    patch[1, 1] = height
    if not (0 < row < scores.shape[0] - 1 and 0 < column < scores.shape[1] - 1):
        return row, column, _SEARCH_LIMIT
    reason = _MATCHED
    patch[:] = scores[row - 1 : row + 2, column - 1 : column + 2]
    if not _completed(patch):
        reason = _MASKED
    elif demand_unique and _ambiguous(scores, row, column):
        reason = _AMBIGUOUS
    if reason != _MATCHED:
        patch[:] = np.float32(np.nan)
        patch[1, 1] = height
    return row, column, reason


@njit(**WITH_NAN)  # type: ignore[untyped-decorator]
def judged_scores(scores: Scores, demand_unique: bool, patch: Floats) -> Any:
    """Call `judge_scores` from Python."""
    return judge_scores(scores, demand_unique, patch)
