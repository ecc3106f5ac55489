"""A round optic in a map of few windows: a disc with a lens inside, and none outside."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

RADII: Final = (0.15, 0.48)
"""Radii that are tried, in parts of the shorter side."""
TRIED: Final = 8
"""Radii, and places along each axis, of the first search."""
ROUNDS: Final = 3
"""Searches with half of the steps, about the best disc."""
BETTER: Final = 0.25
"""Squares that a lens inside and another one outside leave, over those of one lens, at most."""
FLAT: Final = 0.25
"""Curvature outside over that inside, at most."""
CALM: Final = 0.15
"""Variance of the slopes outside over that inside, at most: a strong aberration has both."""
LEAST: Final = 30
"""Cells inside, and outside, at least."""
RIM: Final = 0.75
"""Width on either side of the edge that is not used, in windows of the tracker: they see both."""
LEAST_RADIUS: Final = 2.5
"""Radius of the best disc in windows, at least: of smaller lenses all windows see the edge, and the
radius of curvature is wrong."""


class _Fits(NamedTuple):
    """Round lenses that were fitted to some cells each: what is left, curvature, and variance."""

    left: Floats
    curvature: Floats
    variance: Floats


class _Compared(NamedTuple):
    """Discs: what two lenses leave over what one leaves; curvature and variance, out over in."""

    ratio: Floats
    flat: Floats
    calm: Floats


def found_disc(slope_y: Floats, slope_x: Floats, *, window: float) -> Mask | None:
    """Find the disc in which slopes are those of a lens, and outside of which they are not.

    The classes of curvature of `found_aperture` need many windows. In a map of few windows the
    slopes themselves tell a lens from its surroundings.

    Parameters
    ----------
    slope_y, slope_x : ndarray of float64, shape (y, x)
        Slopes of the cells of a map; NaN where there are none.
    window : float
        Side of the windows of the tracker, in cells.

    Returns
    -------
    ndarray of bool, shape (y, x), or None
        Cells in the disc; None where no disc differs enough from its surroundings, or only one of a
        few windows.

    Examples
    --------
    >>> y, x = np.mgrid[-20:20.0, -20:20.0]
    >>> inside = np.hypot(y, x) < 12
    >>> found = found_disc(np.where(inside, -y, 0), np.where(inside, -x, 0), window=2)
    >>> bool((found == inside).mean() > 0.95)
    True
    """
    known = np.isfinite(slope_y) & np.isfinite(slope_x)
    sides = np.array(known.shape, np.float64)
    rows, columns = np.nonzero(known)
    if rows.size < 2 * LEAST:
        return None
    rim = RIM * window
    place = np.stack([rows, columns]).astype(np.float64)
    products = _products(place / sides.max() - 0.5, np.stack([slope_y[known], slope_x[known]]))
    radii = np.linspace(*RADII, TRIED) * sides.min()
    steps = np.array([*(sides / TRIED), radii[1] - radii[0]])
    discs = np.array(
        [
            (y, x, radius)
            for radius in radii[radii > rim + 1]
            for y in np.linspace(0.2 * sides[0], 0.8 * sides[0], TRIED)
            for x in np.linspace(0.2 * sides[1], 0.8 * sides[1], TRIED)
        ]
    )
    best = None
    for _ in range(1 + ROUNDS):
        if not len(discs):
            return None
        found = _compared(discs, place, products, rim)
        chosen = int(np.argmin(found.ratio))
        best = discs[chosen]
        ratio, flat, calm = (float(part[chosen]) for part in found)
        if not (ratio < BETTER and flat < FLAT and calm < CALM):
            return None
        steps = steps / 2
        shifts = np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 3), axis=-1).reshape(-1, 3)
        discs = best + shifts * steps
        discs = discs[discs[:, 2] > rim + 1]
    assert best is not None  # there is at least one search
    if best[2] < LEAST_RADIUS * window:
        return None
    y, x = np.ogrid[: known.shape[0], : known.shape[1]]
    return np.asarray(np.hypot(y - best[0], x - best[1]) <= best[2], np.bool_)


def _products(place: Floats, slopes: Floats) -> Floats:
    """Products of which the normal equations of a round lens are sums, shape (cells, 8).

    Of a round lens ``slope = (a, b) + c (y, x)``.
    """
    y, x = place
    return np.stack(
        [
            *(np.ones_like(y), y, x, y**2 + x**2),
            *(slopes[0], slopes[1], y * slopes[0] + x * slopes[1], (slopes**2).sum(axis=0)),
        ],
        axis=1,
    )


def _compared(discs: Floats, place: Floats, products: Floats, rim: float) -> _Compared:
    """Compare two lenses, inside and outside of each disc, with one lens for all."""
    away = np.hypot(*(place[:, None, :] - discs.T[:2, :, None])) - discs[:, 2, None]
    inside, outside = (away < -rim).astype(np.float64), (away > rim).astype(np.float64)
    sums = inside @ products, outside @ products
    within, beyond, both = _fitted(sums[0]), _fitted(sums[1]), _fitted(sums[0] + sums[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = (within.left + beyond.left) / both.left
        flat = np.abs(beyond.curvature / within.curvature)
        calm = beyond.variance / within.variance
    refused = np.minimum(sums[0][:, 0], sums[1][:, 0]) < LEAST
    return _Compared(np.where(refused | ~np.isfinite(ratio), np.inf, ratio), flat, calm)


def _fitted(sums: Floats) -> _Fits:
    """Fit round lenses, from sums of `_products`, shape (discs, 8)."""
    count, y, x, square, one, other, both, whole = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = square - (y**2 + x**2) / count
        together = both - (y * one + x * other) / count
        curvature = together / spread
        moved = whole - (one**2 + other**2) / count
        left = moved - curvature * together
        variance = moved / count
    # Rounding of an exact fit.
    return _Fits(np.maximum(left, 1e-12 * whole), curvature, variance)
