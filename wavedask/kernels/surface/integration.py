"""Two slope maps -> the surface that has them; one map at a time."""

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.linalg
import scipy.ndimage
import scipy.sparse

from wavedask.errors import InputError
from wavedask.kernels.surface.poisson import (
    RELATIVE_TOLERANCE,
    BoolArray,
    FloatArray,
    edge_means,
    solve_rectangle,
    solve_weighted,
    weighted_edges,
)


class Solution(NamedTuple):
    """A surface and what there is to say about it.

    Attributes
    ----------
    surface : numpy.ndarray of float64, shape (y, x)
        The surface, of zero mean over the pixels with data; NaN where there are none.
    iterations : int
        Iterations of conjugate gradients; 0 where the solution is direct.
    remarks : tuple of str
        What the user must know: no data, separate pieces, no convergence.
    """

    surface: FloatArray
    iterations: int = 0
    remarks: tuple[str, ...] = ()


def least_squares(
    slope_y: FloatArray,
    slope_x: FloatArray,
    *,
    spacing: tuple[float, float] = (1.0, 1.0),
    weights: FloatArray | None = None,
) -> Solution:
    """Surface whose differences between neighbours fit the slopes best.

    Minimises the sum over all pairs of neighbours of ``w * ((W[i+1] - W[i]) / h - g)**2``, where
    ``g`` is the mean slope between the two pixels. The boundary is free (Neumann). On a full
    rectangle the normal equations are a Poisson equation, which the cosine transform diagonalises;
    elsewhere that solution preconditions conjugate gradients (Ghiglia and Romero, J. Opt. Soc.
    Am. A 11, 107, 1994).

    Parameters
    ----------
    slope_y, slope_x : numpy.ndarray of float64, shape (y, x)
        Slopes at the pixels; NaN where there are no data.
    spacing : (float, float), default (1.0, 1.0)
        Distance of neighbouring pixels along y and x.
    weights : numpy.ndarray of float64, shape (y, x), optional
        Inverse variance of the slopes of a pixel, in any unit; 0 or NaN where there are no data.

    Returns
    -------
    Solution
        Surface in units of slope times spacing.

    Raises
    ------
    InputError
        If a weight is negative or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> solution = least_squares(np.zeros((3, 4)), np.ones((3, 4)))
    >>> solution.surface[0].round(6)
    array([-1.5, -0.5,  0.5,  1.5])
    """
    valid = np.isfinite(slope_y) & np.isfinite(slope_x)
    if weights is not None:
        valid &= _positive(weights)
    box = _bounding_box(valid)
    if box is None:
        return _no_data(slope_y.shape)
    inside = valid[box]
    slopes = [np.where(inside, slope[box], 0.0) for slope in (slope_y, slope_x)]
    if weights is not None:
        weight = np.where(inside, weights[box], 0.0)
        weight /= weight.max()
        means, edges = zip(
            *(weighted_edges(slope, weight, axis=axis) for axis, slope in enumerate(slopes)),
            strict=True,
        )
        solution = _solve_pieces(means, spacing, weight, edges=edges)
    else:
        means = tuple(edge_means(slope, inside, axis=axis) for axis, slope in enumerate(slopes))
        if inside.all():
            solution = Solution(solve_rectangle(*means, spacing=spacing))
        else:
            solution = _solve_pieces(means, spacing, inside.astype(np.float64), edges=None)
    return solution._replace(surface=_uncropped(solution.surface, box, slope_y.shape))


def frankot_chellappa(
    slope_y: FloatArray, slope_x: FloatArray, *, spacing: tuple[float, float] = (1.0, 1.0)
) -> Solution:
    """Periodic surface whose derivatives fit the slopes best, by Fourier transform.

    Frankot and Chellappa, IEEE Trans. Pattern Anal. Mach. Intell. 10, 439 (1988), eq. 22. The
    surface is taken to be periodic: a mean slope is lost, and slopes that do not match at opposite
    borders bend the surface.

    Parameters
    ----------
    slope_y, slope_x : numpy.ndarray of float64, shape (y, x)
        Slopes at the pixels; NaN where there are no data, which may be a border only.
    spacing : (float, float), default (1.0, 1.0)
        Distance of neighbouring pixels along y and x.

    Returns
    -------
    Solution
        Surface in units of slope times spacing.

    Raises
    ------
    InputError
        If pixels without data lie inside the rectangle that holds the data.

    Examples
    --------
    >>> import numpy as np
    >>> x = 2 * np.pi * np.arange(8) / 8
    >>> solution = frankot_chellappa(np.zeros((3, 8)), np.tile(np.cos(x), (3, 1)))
    >>> bool(np.allclose(solution.surface, np.sin(x) * 8 / (2 * np.pi)))
    True
    """
    return _on_rectangle(_fourier_surface, slope_y, slope_x, spacing)


def grad2surf(
    slope_y: FloatArray, slope_x: FloatArray, *, spacing: tuple[float, float] = (1.0, 1.0)
) -> Solution:
    """Surface whose numerical derivatives fit the slopes best, by two eigen-decompositions.

    Minimises ``|Dy W - Gy|**2 + |W Dx' - Gx|**2``, with five-point formulas for the derivatives
    (Harker and O'Leary, CVPR 2008; O'Leary and Harker, IEEE Trans. Instrum. Meas. 61, 2012). The
    normal equations are a Sylvester equation of the symmetric matrices ``Dy' Dy`` and ``Dx' Dx``.
    Their eigenvectors depend on the size only and are kept for the next map.

    Parameters
    ----------
    slope_y, slope_x, spacing
        As of `frankot_chellappa`.

    Returns
    -------
    Solution
        Surface in units of slope times spacing.

    Raises
    ------
    InputError
        If pixels without data lie inside the rectangle that holds the data.

    Examples
    --------
    >>> import numpy as np
    >>> solution = grad2surf(np.zeros((3, 4)), np.ones((3, 4)))
    >>> solution.surface[0].round(6)
    array([-1.5, -0.5,  0.5,  1.5])
    """
    return _on_rectangle(_sylvester_surface, slope_y, slope_x, spacing)


def _positive(weights: FloatArray) -> BoolArray:
    """Pixels whose weight counts."""
    if np.any(weights < 0) or np.any(np.isinf(weights)):
        extreme = float(np.nanmin(weights)) if np.any(weights < 0) else np.inf
        raise InputError(
            f"weights hold the value {extreme:g}",
            "A weight is an inverse variance: finite and at least 0; 0 or NaN mean no data.",
        )
    return weights > 0


def _bounding_box(valid: BoolArray) -> tuple[slice, slice] | None:
    """Smallest rectangle that holds all valid pixels; None if there are none."""
    rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    if not rows.size:
        return None
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _no_data(shape: tuple[int, ...]) -> Solution:
    return Solution(np.full(shape, np.nan), remarks=("no pixel has data: the surface is NaN",))


def _uncropped(surface: FloatArray, box: tuple[slice, slice], shape: tuple[int, ...]) -> FloatArray:
    if surface.shape == shape:
        return surface
    whole = np.full(shape, np.nan)
    whole[box] = surface
    return whole


def _on_rectangle(
    surface_of: Callable[[FloatArray, FloatArray, tuple[float, float]], FloatArray],
    slope_y: FloatArray,
    slope_x: FloatArray,
    spacing: tuple[float, float],
) -> Solution:
    """Apply a method that needs a full rectangle to the rectangle that holds the data."""
    valid = np.isfinite(slope_y) & np.isfinite(slope_x)
    box = _bounding_box(valid)
    if box is None:
        return _no_data(slope_y.shape)
    missing = int(np.count_nonzero(~valid[box]))
    if missing:
        height, width = valid[box].shape
        raise InputError(
            f"{missing} pixels without data lie inside the {height} x {width} pixels that hold"
            " the slopes",
            'This method needs a full rectangle: use method="least_squares", or fill them.',
        )
    surface = surface_of(slope_y[box], slope_x[box], spacing)
    return Solution(_uncropped(surface, box, slope_y.shape))


def _solve_pieces(
    means: tuple[FloatArray, ...],
    spacing: tuple[float, float],
    weight: FloatArray,
    *,
    edges: tuple[FloatArray, ...] | None,
) -> Solution:
    """Fit by least squares on the pixels of positive weight; without weights of edges all alike."""
    pieces, count = scipy.ndimage.label(weight > 0)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    # A pixel without neighbours has a slope but no difference to fit: its height is unknown.
    pieces[sizes[pieces] == 1] = 0
    count = int(np.count_nonzero(sizes[1:] > 1))
    if not count:
        return _no_data(weight.shape)
    surface, iterations, missed = solve_weighted(
        means[0],
        means[1],
        spacing=spacing,
        weight=weight,
        uniform=edges is None,
        edges=None if edges is None else (edges[0], edges[1]),
    )
    remarks = []
    if missed > RELATIVE_TOLERANCE:
        remarks.append(
            f"conjugate gradients stopped after {iterations} iterations: the surface still misses"
            f" {missed:.1e} of the slopes (rms); {RELATIVE_TOLERANCE:.0e} is asked for"
        )
    if count > 1:
        remarks.append(
            f"the pixels with data form {count} separate pieces: each has zero mean, for their"
            " relative heights are unknown"
        )
    return Solution(_levelled(surface, pieces), iterations, tuple(remarks))


def _levelled(surface: FloatArray, pieces: npt.NDArray[np.signedinteger]) -> FloatArray:
    """Give each piece (1, 2, ...) zero mean; NaN outside the pieces."""
    sizes = np.bincount(pieces.ravel())
    sums = np.bincount(pieces.ravel(), weights=surface.ravel())
    means: FloatArray = sums / np.maximum(sizes, 1)
    means[0] = np.nan
    levelled: FloatArray = surface - means[pieces]
    return levelled


def _fourier_surface(
    slope_y: FloatArray, slope_x: FloatArray, spacing: tuple[float, float]
) -> FloatArray:
    (height, width), (dy, dx) = slope_y.shape, spacing
    ky = 2 * np.pi * scipy.fft.fftfreq(height, dy)[:, np.newaxis]
    kx = 2 * np.pi * scipy.fft.rfftfreq(width, dx)
    # A real map at the Nyquist frequency has a derivative of zero at the pixels.
    if height % 2 == 0:
        ky[height // 2] = 0.0
    if width % 2 == 0:
        kx[width // 2] = 0.0
    square = ky**2 + kx**2
    square[square == 0.0] = np.inf
    spectrum = ky * scipy.fft.rfft2(slope_y, workers=1)
    spectrum += kx * scipy.fft.rfft2(slope_x, workers=1)
    spectrum *= -1j / square
    surface: FloatArray = scipy.fft.irfft2(spectrum, s=(height, width), workers=1)
    return surface


class _DerivativeBasis(NamedTuple):
    """Derivative along an axis of unit step, and the eigenvectors of its square."""

    derivative: scipy.sparse.csr_array
    eigenvalues: FloatArray
    vectors: FloatArray


_BASIS_LOCK = threading.Lock()


def _derivative_basis(size: int) -> _DerivativeBasis:
    # Threads that need the same size wait for the first instead of repeating its work.
    with _BASIS_LOCK:
        return _computed_basis(size)


@lru_cache(maxsize=8)
def _computed_basis(size: int) -> _DerivativeBasis:
    derivative = _derivative_matrix(size)
    eigenvalues, vectors = scipy.linalg.eigh(
        (derivative.T @ derivative).toarray(), overwrite_a=True, driver="evd"
    )
    for array in (derivative.data, derivative.indices, derivative.indptr, eigenvalues, vectors):
        array.setflags(write=False)
    return _DerivativeBasis(derivative, eigenvalues, vectors)


def _derivative_matrix(size: int) -> scipy.sparse.csr_array:
    """Five-point formulas for the first derivative, one-sided at the ends."""
    support = min(5, size)
    points, row = np.arange(support), np.arange(size)[:, np.newaxis]
    columns = np.clip(row - support // 2, 0, size - support) + points
    # Exact for polynomials of degree < support: sum_k c_k (x_k - x)^p = [p == 1].
    powers = (columns - row)[:, np.newaxis, :].astype(np.float64) ** points[:, np.newaxis]
    first = (points == 1).astype(np.float64)[:, np.newaxis]
    coefficients = np.linalg.solve(powers, np.broadcast_to(first, (size, support, 1)))
    starts = np.arange(0, size * support + 1, support)
    return scipy.sparse.csr_array(
        (coefficients.ravel(), columns.ravel(), starts), shape=(size, size)
    )


def _sylvester_surface(
    slope_y: FloatArray, slope_x: FloatArray, spacing: tuple[float, float]
) -> FloatArray:
    (height, width), (dy, dx) = slope_y.shape, spacing
    along_y, along_x = _derivative_basis(height), _derivative_basis(width)
    right = along_y.derivative.T @ slope_y / dy + (along_x.derivative.T @ slope_x.T).T / dx
    eigenvalues = along_y.eigenvalues[:, np.newaxis] / dy**2 + along_x.eigenvalues / dx**2
    # The smallest belongs to the constant surface, which is undetermined: zero mean.
    eigenvalues[0, 0] = np.inf
    spectrum = along_y.vectors.T @ right @ along_x.vectors / eigenvalues
    surface: FloatArray = along_y.vectors @ spectrum @ along_x.vectors.T
    return surface
