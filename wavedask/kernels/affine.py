"""The affine map that fits values at points best, by weighted least squares or robustly."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDS: Final = 30
"""Rounds of reweighting at most; a few suffice."""
TUKEY: Final = 4.685
"""Residual in units of the scatter beyond which a point has no weight (95 % efficiency)."""
LEAST_SCATTER: Final = 0.05
"""Scatter below which residuals are taken as noise of the matches, in the unit of the values."""
SETTLED: Final = 1e-10
"""Relative change of the weights' sum at which the rounds end."""


class Affine(NamedTuple):
    """An affine map: ``values = mean + matrix @ (p - center)`` at a point p = (y, x).

    Attributes
    ----------
    matrix : ndarray, shape (k, 2)
        Derivative of each value along y and x.
    mean : ndarray, shape (k,)
        Weighted mean of the values.
    center : ndarray, shape (2,)
        Weighted mean of the points.
    moments : ndarray, shape (2, 2)
        Weighted sums of the squares and products of ``p - center``.
    """

    matrix: Floats
    mean: Floats
    center: Floats
    moments: Floats

    def at(self, y: Any, x: Any) -> Floats:
        """Evaluate at points; shape (k, ...)."""
        away = (np.asarray(y) - self.center[0], np.asarray(x) - self.center[1])
        return np.stack(
            [
                mean + row[0] * away[0] + row[1] * away[1]
                for mean, row in zip(self.mean, self.matrix, strict=True)
            ]
        )

    @property
    def origin(self) -> Floats:
        """Values at (0, 0), shape (k,)."""
        return self.at(0.0, 0.0)


def affine_fit(values: Floats, y: Floats, x: Floats, weights: Floats) -> Affine | None:
    """Fit values at points by an affine map, by weighted least squares.

    Parameters
    ----------
    values : ndarray, shape (k, n)
    y, x, weights : ndarray, shape (n,)
        Points and their weights, not negative.

    Returns
    -------
    Affine or None
        None where the points with weight do not span a plane.

    Examples
    --------
    >>> y, x = (axis.ravel() for axis in np.mgrid[:3.0, :4.0])
    >>> fit = affine_fit(np.stack([2 * y - x + 5]), y, x, np.ones(12))
    >>> fit.matrix.round(6).tolist(), fit.origin.round(6).tolist()
    ([[2.0, -1.0]], [5.0])
    """
    total = weights.sum()
    if not total > 0:
        return None
    # Sums, not products of matrices: they are the same in every process, whatever its BLAS.
    center = np.array([(weights * y).sum(), (weights * x).sum()]) / total
    mean = np.array([(weights * value).sum() for value in values]) / total
    down, across = y - center[0], x - center[1]
    weighted = weights * down, weights * across
    moments = np.array(
        [[(part * other).sum() for other in (down, across)] for part in weighted], np.float64
    )
    determinant = moments[0, 0] * moments[1, 1] - moments[0, 1] ** 2
    if not determinant > 1e-12 * max(moments[0, 0], moments[1, 1]) ** 2:
        return None
    products = np.array([[(part * value).sum() for part in weighted] for value in values])
    inverse = np.array([[moments[1, 1], -moments[0, 1]], [-moments[0, 1], moments[0, 0]]])
    matrix = (products[:, :, None] * inverse[None]).sum(1) / determinant
    return Affine(matrix, mean, center, moments)


def robust_affine_fit(values: Floats, y: Floats, x: Floats) -> tuple[Affine | None, Floats]:
    """Fit values at points by an affine map that outliers do not pull.

    Iteratively reweighted least squares with Tukey's biweight, from the median of the maps through
    random triples of points: up to nearly half of the points may be wrong.

    Parameters
    ----------
    values : ndarray, shape (k, n)
    y, x : ndarray, shape (n,)

    Returns
    -------
    Affine or None
        None where no map fits.
    weights : ndarray, shape (n,)
        0 for an outlier, up to 1.

    Examples
    --------
    >>> y, x = (axis.ravel() for axis in np.mgrid[:5.0, :5.0])
    >>> values = np.stack([1.5 * y, 1.5 * x + 3])
    >>> values[:, ::4] += 40
    >>> fit, weights = robust_affine_fit(values, y, x)
    >>> fit.matrix.round(6).tolist(), int((weights == 0).sum())
    ([[1.5, 0.0], [0.0, 1.5]], 7)
    """
    fit = _consensus(values, y, x)
    weights = np.ones(y.size)
    for _ in range(ROUNDS):
        if fit is None:
            return None, np.zeros(y.size)
        residual = np.sqrt(np.square(values - fit.at(y, x)).sum(0))
        # The median length of a two-dimensional normal error is 1.18 of its scatter.
        scatter = max(float(np.median(residual)) / 1.18, LEAST_SCATTER)
        new = np.square(np.maximum(1 - np.square(residual / (TUKEY * scatter)), 0))
        settled = abs(new.sum() - weights.sum()) <= SETTLED * y.size
        weights = new
        fit = affine_fit(values, y, x, weights)
        if settled:
            break
    return fit, weights


def _consensus(values: Floats, y: Floats, x: Floats) -> Affine | None:
    """Of the maps through some triples of points, the one whose median residual is smallest."""
    rng = np.random.default_rng(0)
    best, least = None, np.inf
    for _ in range(200):
        chosen = rng.choice(y.size, 3, replace=False)
        fit = affine_fit(values[:, chosen], y[chosen], x[chosen], np.ones(3))
        if fit is None:
            continue
        median = float(np.median(np.square(values - fit.at(y, x)).sum(0)))
        if median < least:
            best, least = fit, median
    return best
