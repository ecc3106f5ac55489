"""The rigid drift between fields that are otherwise equal, by robust weighted means."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

CHANNELS: Final = 5
"""Channels of an exposure before the others: two components, their errors, the window."""
# Rows of the sums of a setting, of which the first is the number of exposures; WEIGHTS, SUMS and
# SQUARES have one for each component, and the last row of all is the largest window.
WEIGHTS, SUMS, SQUARES, OTHERS = 1, 3, 5, 7

SWEEPS: Final = 4
"""Rounds in which a field and the drifts of its exposures are found in turn."""
REWEIGHTINGS: Final = 6
"""Rounds of the robust mean."""
TAIL: Final = 4.685
"""Standard deviations beyond which a pixel has no weight (Tukey's biweight): wrong matches do not
move the mean, and of a normal distribution 95 % of the efficiency is left."""
LEAST_SCALE: Final = 1e-6
"""Scatter over standard errors, at least: exposures may agree to the last bit."""
NORMAL: Final = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


def known_pixels(values: NDArray[Any], errors: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell where there is a value with a standard error that says something."""
    return np.asarray(np.isfinite(values) & np.isfinite(errors) & (errors > 0))


def robust_mean(values: Floats, errors: Floats, sides: Floats) -> tuple[float, float]:
    """Take the mean of values by their standard errors, and let outliers count less.

    Parameters
    ----------
    values, errors : ndarray of float64, shape (n,)
        Finite values and their positive standard errors.
    sides : ndarray of float64, shape (n,)
        Pixels along the side of the window of each value: those in one window share their error.

    Returns
    -------
    mean, error : float
        NaN and infinite of no values. The error is scaled to the scatter that the values have,
        where that is larger than their standard errors say.

    Examples
    --------
    >>> mean, error = robust_mean(np.array([1.0, 1.1, 0.9, 50.0]), np.full(4, 0.1), np.ones(4))
    >>> print(f"{mean:.1f}")
    1.0
    """
    if not values.size:
        return np.nan, np.inf
    mean = float(np.median(values))
    scale = max(NORMAL * float(np.median(np.abs(values - mean) / errors)), LEAST_SCALE)
    for _ in range(REWEIGHTINGS):
        score = np.abs(values - mean) / (scale * errors)
        weights = (np.maximum(1 - (score / TAIL) ** 2, 0) / errors) ** 2
        mean = float(np.sum(weights * values) / np.sum(weights))
    shared = np.minimum(sides**2, values.size)
    error = max(scale, 1.0) * float(
        np.sqrt(np.sum(shared * (weights * errors) ** 2)) / np.sum(weights)
    )
    return mean, error


def drift(
    values: NDArray[Any], errors: NDArray[Any], sides: NDArray[Any], field: NDArray[Any]
) -> tuple[float, float]:
    """Rigid shift of one exposure against a field, and its standard error.

    Parameters
    ----------
    values, errors, sides : ndarray, shape (y, x)
        The exposure, its standard errors, and the side of its windows in pixels.
    field : ndarray, shape (y, x)
        What it is compared with; NaN where it is not known.

    Returns
    -------
    drift, error : float
        NaN and infinite where the two have no pixel in common.
    """
    both = known_pixels(values, errors) & np.isfinite(field)
    parts = (np.asarray(part[both], np.float64) for part in (values, errors, sides, field))
    value, error, side, expected = parts
    return robust_mean(value - expected, error, side)


def common_field(values: NDArray[Any], errors: NDArray[Any], sides: NDArray[Any]) -> Floats:
    """Find the field that a few exposures share up to a rigid drift of each.

    Field and drifts are found in turn: with pixels missing here and there, the mean of drifting
    exposures would have steps where one of them ends.

    Parameters
    ----------
    values, errors, sides : ndarray, shape (exposures, y, x)
        As in `drift`.

    Returns
    -------
    ndarray of float64, shape (y, x)
        Up to a constant; NaN where no exposure is known.
    """
    known = known_pixels(values, errors)
    weights = np.where(known, np.where(known, errors, 1.0).astype(np.float64) ** -2, 0.0)
    total = weights.sum(axis=0)
    exposures = np.where(known, values, 0.0)
    shifts = np.array(
        [np.median(v[k]) if k.any() else 0.0 for v, k in zip(values, known, strict=True)]
    )
    field = np.full(total.shape, np.nan)
    for _ in range(SWEEPS if len(values) > 1 else 1):
        moved = np.sum(weights * (exposures - shifts[:, None, None]), axis=0)
        np.divide(moved, total, out=field, where=total > 0)
        found = [drift(v, e, s, field)[0] for v, e, s in zip(values, errors, sides, strict=True)]
        shifts = np.nan_to_num(np.array(found))
    return field


def weighted_sums(planes: NDArray[Any], fields: Floats32, shifts: Floats) -> Floats32:
    """Compute what an exposure adds to the sums of its setting.

    Parameters
    ----------
    planes : ndarray, shape (channels, y, x)
        Two components, their standard errors, the side of the windows, and others.
    fields : ndarray of float32, shape (2, y, x)
        Field of both components, taken out where it is known: what is left is small, and its
        square holds in single precision.
    shifts : ndarray, shape (2,)
        Rigid shift of both components, taken out too.

    Returns
    -------
    ndarray of float32, shape (8 + others, y, x)
        Whether a pixel has data; weights, weighted values and weighted squares of both components;
        the others; the side of the window. Zero where there is no data.
    """
    known = known_pixels(planes[0], planes[2]) & known_pixels(planes[1], planes[3])
    part = np.nan_to_num(fields)
    rows = [known]
    weights = [np.where(known, np.where(known, planes[2 + k], 1.0) ** -2, 0.0) for k in (0, 1)]
    values = [np.where(known, planes[k] - part[k] - shifts[k], 0.0) for k in (0, 1)]
    rows += weights
    rows += [w * v for w, v in zip(weights, values, strict=True)]
    rows += [w * v**2 for w, v in zip(weights, values, strict=True)]
    rows += [np.where(known, plane, 0.0) for plane in planes[CHANNELS:]]
    rows.append(np.where(known, planes[4], 0.0))
    return np.stack(rows).astype(np.float32)


def joined(sums: NDArray[Any], axis: Any = 0, keepdims: bool = False) -> Any:
    """Add the sums of exposures along the first axis; of the last row keep the largest.

    Examples
    --------
    >>> joined(np.array([[1.0, 5.0], [2.0, 3.0]]))
    array([3., 5.])
    """
    total = np.concatenate(
        [sums[:, :-1].sum(axis=0, keepdims=True), sums[:, -1:].max(axis=0, keepdims=True)], axis=1
    )
    return total if keepdims else total[0]
