"""Neighbour differences that fit slopes best: the Poisson equation with a free boundary."""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.ndimage

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

RELATIVE_TOLERANCE: Final = 1e-9
"""Conjugate gradients stop where the slopes still missed are this part of the slopes, rms."""
MAX_ITERATIONS: Final = 500
"""Conjugate gradients give up after this many iterations."""
ROUGH: Final = 2.0
"""Standard deviation in pixels of the Gaussian that tells noise of the slopes from the slopes."""
FULL: Final = 0.999
"""Share of the neighbours of this Gaussian that must have data."""
SCALE_SIGMA: Final = 8.0
"""Width in pixels of the mean over the weights that scales the preconditioner."""


def edge_means(slope: FloatArray, valid: BoolArray, *, axis: int) -> FloatArray:
    """Mean slope between neighbours along an axis; meaningful where both are valid."""
    # The trapezoidal rule misses h^2 g''/12. With that term, by the second differences at the two
    # ends, the interior rule is the fourth-order (-1, 13, 13, -1)/24; at the ends of a run of
    # valid pixels the second difference is extrapolated.
    g, v = np.moveaxis(slope, axis, 0), np.moveaxis(valid, axis, 0)
    bend = np.zeros_like(g)
    inner = np.zeros_like(v)
    if len(g) > 2:
        inner[1:-1] = v[:-2] & v[1:-1] & v[2:]
        bend[1:-1] = np.where(inner[1:-1], g[:-2] - 2 * g[1:-1] + g[2:], 0.0)
        _extrapolate_first(bend, inner)
        _extrapolate_first(bend[::-1], inner[::-1])
    mean = 0.5 * (g[:-1] + g[1:]) - (bend[:-1] + bend[1:]) / 24
    return np.moveaxis(mean, 0, axis)


def weighted_edges(
    slope: FloatArray, weight: FloatArray, *, axis: int
) -> tuple[FloatArray, FloatArray]:
    """Mean slope between neighbours along an axis, and its weight, for weights that are rough.

    The mean of two slopes by their weights a and b has the weight a + b, and the plain one no more
    than 4ab / (a + b). But it is the slope off the middle, by a part of the difference of the two.
    So only that part of the difference counts which is noise: what is left of it by a smooth one.

    Parameters
    ----------
    slope, weight : numpy.ndarray of float64, shape (y, x)
        Zero weight where there are no data.
    axis : int
        Along which neighbours lie.

    Returns
    -------
    mean, weight : numpy.ndarray of float64
        One shorter along `axis`.
    """
    valid = weight > 0
    plain = edge_means(np.where(valid, slope, 0.0), valid, axis=axis)
    g, w = np.moveaxis(np.where(valid, slope, 0.0), axis, 0), np.moveaxis(weight, axis, 0)
    a, b = w[:-1], w[1:]
    both = (a > 0) & (b > 0)
    total = np.where(both, a + b, 1.0)
    product = np.where(both, 4 * a * b / total, 0.0)
    change = np.where(both, g[1:] - g[:-1], 0.0)
    share = scipy.ndimage.gaussian_filter(both.astype(np.float64), ROUGH, mode="constant")
    # Where all neighbours have data, the smooth part is that of a cubic and better.
    whole = both & (share > FULL)
    rough = change - _smooth(change, product)
    mean = np.moveaxis(plain, axis, 0) + np.where(whole, (b - a) / (2 * total) * rough, 0.0)
    return np.moveaxis(mean, 0, axis), np.moveaxis(np.where(whole, total, product), 0, axis)


def _smooth(values: FloatArray, weight: FloatArray) -> FloatArray:
    """Smooth by a Gaussian, twice, so that curvature is kept; values count by their weight."""

    def once(part: FloatArray) -> FloatArray:
        total, share = (
            scipy.ndimage.gaussian_filter(array, ROUGH, mode="constant")
            for array in (weight * part, weight)
        )
        return np.divide(total, share, out=np.zeros_like(total), where=share > 0)

    first = once(values)
    return first + once(values - first)


def _extrapolate_first(bend: FloatArray, inner: BoolArray) -> None:
    """Extend second differences to the first pixel of each run, in place."""
    i, j = np.nonzero(~inner[:-2] & inner[1:-1])
    beyond = np.where(inner[i + 2, j], bend[i + 2, j], bend[i + 1, j])
    bend[i, j] = 2 * bend[i + 1, j] - beyond


def solve_rectangle(
    gradient_y: FloatArray, gradient_x: FloatArray, *, spacing: tuple[float, float]
) -> FloatArray:
    """Surface whose differences fit the slopes between neighbours best, on a full rectangle.

    Parameters
    ----------
    gradient_y, gradient_x : numpy.ndarray of float64, shapes (y - 1, x) and (y, x - 1)
        Mean slopes between neighbours.
    spacing : (float, float)
        Distance of neighbouring pixels along y and x.

    Returns
    -------
    numpy.ndarray, shape (y, x)
        The surface, of zero mean.
    """
    shape = (gradient_x.shape[0], gradient_y.shape[1])
    return _poisson_solver(shape, spacing)(
        _divergence(gradient_y / spacing[0], gradient_x / spacing[1])
    )


def solve_weighted(
    gradient_y: FloatArray,
    gradient_x: FloatArray,
    *,
    spacing: tuple[float, float],
    weight: FloatArray,
    uniform: bool,
    edges: tuple[FloatArray, FloatArray] | None = None,
) -> tuple[FloatArray, int, float]:
    """Surface whose differences fit the slopes best where each pixel has its weight.

    Parameters
    ----------
    gradient_y, gradient_x : numpy.ndarray of float64, shapes (y - 1, x) and (y, x - 1)
        Mean slopes between neighbours.
    spacing : (float, float)
        Distance of neighbouring pixels along y and x.
    weight : numpy.ndarray of float64, shape (y, x)
        Inverse variances, at most 1; 0 where there are no data.
    uniform : bool
        Whether the weights are 0 and 1 only.
    edges : (numpy.ndarray, numpy.ndarray), optional
        Weights of the mean slopes; by default those of plain means of two slopes.

    Returns
    -------
    surface : numpy.ndarray, shape (y, x)
        The surface; of arbitrary mean on each piece, and meaningless outside them.
    iterations : int
        Iterations of conjugate gradients.
    missed : float
        Part of the slopes that the surface still misses, rms.
    """
    if edges is None:
        edge_y = _harmonic_mean(weight[:-1], weight[1:])
        edge_x = _harmonic_mean(weight[:, :-1], weight[:, 1:])
    else:
        edge_y, edge_x = edges[0] / 2, edges[1] / 2
    size = float(np.vdot(edge_y, gradient_y**2) + np.vdot(edge_x, gradient_x**2))
    right = _divergence(edge_y * gradient_y / spacing[0], edge_x * gradient_x / spacing[1])
    edge_y /= spacing[0] ** 2
    edge_x /= spacing[1] ** 2
    poisson = _poisson_solver(weight.shape, spacing)
    scale = None if uniform else _smooth_scale(weight)

    def normal_matrix(surface: FloatArray) -> FloatArray:
        return _divergence(edge_y * np.diff(surface, axis=0), edge_x * np.diff(surface, axis=1))

    def precondition(residual: FloatArray) -> FloatArray:
        return poisson(residual) if scale is None else scale * poisson(scale * residual)

    return _conjugate_gradients(normal_matrix, precondition, right, size=size)


def _divergence(flux_y: FloatArray, flux_x: FloatArray) -> FloatArray:
    """Transpose of the differences between neighbours, applied to a value on every pair."""
    result = np.zeros((flux_x.shape[0], flux_y.shape[1]))
    result[1:] += flux_y
    result[:-1] -= flux_y
    result[:, 1:] += flux_x
    result[:, :-1] -= flux_x
    return result


def _poisson_solver(
    shape: tuple[int, ...], spacing: tuple[float, float]
) -> Callable[[FloatArray], FloatArray]:
    along_y, along_x = (
        (2 * np.sin(np.pi * np.arange(n) / (2 * n)) / h) ** 2
        for n, h in zip(shape, spacing, strict=True)
    )
    eigenvalues = along_y[:, np.newaxis] + along_x
    # The constant surface is undetermined: zero mean.
    eigenvalues[0, 0] = np.inf

    def solve(divergence: FloatArray) -> FloatArray:
        spectrum = scipy.fft.dctn(divergence, workers=1)
        spectrum /= eigenvalues
        solution: FloatArray = scipy.fft.idctn(spectrum, overwrite_x=True, workers=1)
        return solution

    return solve


def _harmonic_mean(a: FloatArray, b: FloatArray) -> FloatArray:
    """Inverse variance of the mean of two slopes, from their own, up to a factor."""
    total = a + b
    return np.divide(2 * a * b, total, out=np.zeros_like(total), where=total > 0)


def _smooth_scale(weight: FloatArray) -> FloatArray:
    """One over the square root of the local mean weight.

    Where the weights vary slowly, the weighted Laplacian is nearly the plain one between two such
    scalings (Concus and Golub, SIAM J. Numer. Anal. 10, 1103, 1973): a Gaussian beam of
    512 x 512 pixels takes 17 iterations with it and more than 150 without. The scaling by rough
    weights themselves diverges: hence their mean.
    """
    inside = weight > 0
    mean = scipy.ndimage.gaussian_filter(weight, SCALE_SIGMA)
    share = scipy.ndimage.gaussian_filter(inside.astype(np.float64), SCALE_SIGMA)
    return np.sqrt(np.divide(share, mean, out=np.zeros_like(mean), where=inside & (mean > 0)))


def _conjugate_gradients(
    matrix: Callable[[FloatArray], FloatArray],
    precondition: Callable[[FloatArray], FloatArray],
    rhs: FloatArray,
    *,
    size: float,
) -> tuple[FloatArray, int, float]:
    """Solve ``matrix(W) = rhs``; return W, the iterations, and the part of `size` still missed.

    scipy's solver stops on the norm of the residual, which the noise of single pixels dominates.
    This one stops on its norm in the preconditioner, which is the slope that W still misses.
    """
    surface, residual = np.zeros_like(rhs), rhs
    direction = precondition(residual)
    missed = float(np.vdot(residual, direction))
    goal = RELATIVE_TOLERANCE**2 * size
    iterations = 0
    while missed > goal and iterations < MAX_ITERATIONS:
        image = matrix(direction)
        step = missed / float(np.vdot(direction, image))
        surface += step * direction
        residual = residual - step * image
        correction = precondition(residual)
        previous, missed = missed, float(np.vdot(residual, correction))
        direction *= missed / previous
        direction += correction
        iterations += 1
    return surface, iterations, float(np.sqrt(max(missed, 0.0) / size)) if size else 0.0
