"""Noise of an integrated surface, from the standard errors of its slopes.

Errors of the slopes of one tracked image are white noise that a low-pass has passed: flat up to the
frequency ``1 / (1.85 window)``, nothing beyond. Their spectral density is ``S = AREA * window^2 *
sigma^2``, and that of the surface ``S / (2 pi f)^2``: large waves dominate, and every octave adds
the same variance. So a coarse grid of cells holds nearly all of it, and a matrix on that grid gives
the variance of every cell; what is left of the octaves between the cells and the low-pass is local,
``S / 2 pi`` per unit of the logarithm of the frequency.
"""

import math
from functools import lru_cache
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.ndimage
import scipy.sparse

from wavedask.kernels.surface.poisson import FloatArray

AREA: Final = 1.1
"""Pixels whose errors are one, in squares of the window: the variance of the errors of the dense
tracker over their spectral density, measured on simulated speckle."""
MOST_CELLS: Final = 200
"""Cells of the coarse grid, about: the matrices are square in them."""
PIXELS_PER_CELL: Final = 300
"""Pixels of the frame per cell, at least: small frames are integrated fast."""
LEAST_SHARE: Final = 0.02
"""Share of the pixels of a cell that must have data."""


class SurfaceNoise(NamedTuple):
    """Noise of a surface on cells.

    Attributes
    ----------
    factor : numpy.ndarray, shape (cells, sources)
        The covariance of the cells is ``factor @ factor.T``.
    local : numpy.ndarray, shape (cells,)
        Variance within a cell that the matrix does not hold.
    pixels : numpy.ndarray, shape (cells,)
        Pixels with data in each cell.
    y, x : numpy.ndarray, shape (cells,)
        Mean row and column of these pixels.
    node : numpy.ndarray of int, shape (rows, columns)
        Cell of each pixel; -1 where there are no data.
    """

    factor: FloatArray
    local: FloatArray
    pixels: FloatArray
    y: FloatArray
    x: FloatArray
    node: npt.NDArray[np.intp]

    @property
    def rms(self) -> float:
        """Root mean square over the pixels with data."""
        return float(np.sqrt(self.pixels @ self.variance / self.pixels.sum()))

    @property
    def variance(self) -> FloatArray:
        """Variance of each cell, shape (cells,)."""
        return np.asarray(np.square(self.factor).sum(axis=1) + self.local)

    def without(self, basis: FloatArray) -> "SurfaceNoise":
        """Take out what a fit of functions on the cells, shape (cells, count), takes out."""
        weighted = basis * self.pixels[:, None]
        fitted = np.linalg.lstsq(weighted.T @ basis, weighted.T @ self.factor, rcond=None)[0]
        return self._replace(factor=self.factor - basis @ fitted)


def surface_noise(
    sigma_y: FloatArray,
    sigma_x: FloatArray,
    *,
    window: float,
    spacing: tuple[float, float] = (1.0, 1.0),
    weights: FloatArray | None = None,
) -> SurfaceNoise | None:
    """Find the covariance of a surface that is integrated from slopes by least squares.

    Parameters
    ----------
    sigma_y, sigma_x : numpy.ndarray of float64, shape (y, x)
        Standard errors of the slopes; not finite where there are no data.
    window : float
        Side in pixels of the windows within which errors are one; 1 for independent errors.
    spacing : (float, float), default (1.0, 1.0)
        Distance of neighbouring pixels along y and x.
    weights : numpy.ndarray of float64, shape (y, x), optional
        Weights of the integration; 0 or NaN where there are no data.

    Returns
    -------
    SurfaceNoise or None
        In units of slope times spacing; None where there are no two neighbours with data.
    """
    valid = np.isfinite(sigma_y) & np.isfinite(sigma_x)
    if weights is not None:
        valid &= weights > 0
    pieces, _ = scipy.ndimage.label(valid)
    # A pixel without neighbours has no height.
    valid &= np.bincount(pieces.ravel())[pieces] > 1
    pixels = int(np.count_nonzero(valid))
    if pixels < 2:
        return None
    correlated = AREA * window**2 if window > 1 else 1.0
    least = max(math.sqrt(correlated), math.sqrt(pixels / MOST_CELLS), math.sqrt(PIXELS_PER_CELL))
    rows, columns = (max(1, round(size / least)) for size in valid.shape)
    rows, columns = min(rows, valid.shape[0]), min(columns, valid.shape[1])
    cell_y = np.arange(valid.shape[0]) * rows // valid.shape[0]
    cell_x = np.arange(valid.shape[1]) * columns // valid.shape[1]
    # A cell that a gap divides is one cell on each side.
    key = (pieces * rows + cell_y[:, None]) * columns + cell_x
    count = (int(pieces.max()) + 1) * rows * columns
    flat = key.ravel()
    inside = valid.astype(np.float64).ravel()

    def summed(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(flat, values.ravel(), count), np.float64)

    filled = summed(inside)
    full = valid.size / (rows * columns)
    kept = np.flatnonzero(filled > LEAST_SHARE * full)
    if kept.size < 2:
        return None
    number = np.full(count, -1, np.intp)
    number[kept] = np.arange(kept.size)
    here = filled[kept]
    share = np.minimum(here / full, 1.0)

    def mean(values: FloatArray) -> FloatArray:
        return np.asarray(summed(np.where(valid, values, 0.0))[kept] / here)

    density = [
        correlated * mean(np.square(np.where(valid, sigma, 0.0))) for sigma in (sigma_y, sigma_x)
    ]
    weight = share if weights is None else share * mean(weights)
    y, x = (
        np.asarray(summed(valid * line)[kept] / here)
        for line in (
            np.arange(valid.shape[0], dtype=np.float64)[:, None],
            np.arange(valid.shape[1], dtype=np.float64),
        )
    )
    height, width = valid.shape[0] / rows * spacing[0], valid.shape[1] / columns * spacing[1]
    # Independent noise of a cell: its density over the pixels with data.
    sources = [np.sqrt(part / (share * full)) for part in density]
    factor = _cell_factor(kept, number, columns, weight, sources, (height, width))
    piece = kept // (rows * columns)
    _level(factor, piece, here)
    both = (density[0] + density[1]) / 2 * abs(spacing[0] * spacing[1])
    octaves = max(math.log(math.sqrt(full / correlated)), 0.0) / (2 * math.pi)
    local = both * (octaves + _missing())
    node = np.where(valid, number[key], -1)
    lost = valid & (node < 0)
    if lost.any():
        nearest = scipy.ndimage.distance_transform_edt(
            node < 0, return_distances=False, return_indices=True
        )
        node[lost] = node[tuple(nearest)][lost]
    return SurfaceNoise(factor, local, here, y, x, node)


def surface_uncertainty(
    sigma_y: FloatArray,
    sigma_x: FloatArray,
    *,
    window: float,
    spacing: tuple[float, float] = (1.0, 1.0),
    weights: FloatArray | None = None,
) -> FloatArray:
    """Find the standard error of every pixel of an integrated surface whose mean is zero.

    Parameters
    ----------
    sigma_y, sigma_x, window, spacing, weights
        As of `surface_noise`.

    Returns
    -------
    numpy.ndarray of float64, shape (y, x)
        Infinite where there are no data.

    Examples
    --------
    >>> sigma = np.full((100, 100), 1e-6)
    >>> error = surface_uncertainty(sigma, sigma, window=11, spacing=(1e-6, 1e-6))
    >>> print(f"{error[50, 50]:.1e}")
    6.7e-12
    """
    noise = surface_noise(sigma_y, sigma_x, window=window, spacing=spacing, weights=weights)
    if noise is None:
        return np.full(sigma_y.shape, np.inf)
    # Rounded: with other threads, LAPACK gives another last bit, and results must not.
    return np.sqrt(spread(noise, noise.variance.astype(np.float32).astype(np.float64)))


def mean_window(window: npt.NDArray[Any], sigma: npt.NDArray[Any]) -> float:
    """Mean side of the windows of the pixels that have a standard error; 1 without any.

    A pixel whose window has no size was not matched.

    Examples
    --------
    >>> mean_window(np.array([21.0, 0.0]), np.array([0.1, np.inf]))
    21.0
    """
    known = np.isfinite(sigma) & np.isfinite(window) & (window > 0)
    return float(window[known].mean()) if known.any() else 1.0


def spread(noise: SurfaceNoise, values: FloatArray) -> FloatArray:
    """Interpolate values of the cells to the pixels; infinite where there are no data.

    Parameters
    ----------
    noise : SurfaceNoise
        The cells.
    values : numpy.ndarray, shape (cells,)

    Returns
    -------
    numpy.ndarray of float64, shape (y, x)
    """
    valid = noise.node >= 0
    plain = np.append(values, np.inf)[noise.node]
    known = valid.astype(np.float32)
    # The mean over a cell's area of the steps between cells is linear in between.
    side = max(1, round(math.sqrt(valid.size / max(len(values), 1))))
    size = (side | 1, side | 1)
    total = cv2.blur(
        np.where(valid, plain / values.max(), 0.0), size, borderType=cv2.BORDER_REFLECT
    )
    share = cv2.blur(known, size, borderType=cv2.BORDER_REFLECT)
    smooth = np.full(valid.shape, np.inf)
    np.divide(total * values.max(), share, out=smooth, where=valid)
    return smooth


def _cell_factor(
    kept: npt.NDArray[np.intp],
    number: npt.NDArray[np.intp],
    columns: int,
    weight: FloatArray,
    sources: list[FloatArray],
    step: tuple[float, float],
) -> FloatArray:
    """Heights of the cells for one standard error of the slope (y, then x) of each."""
    cells = kept.size
    normal = np.zeros((cells, cells))
    right = np.zeros((cells, 2 * cells))
    for axis, (ahead, length) in enumerate(zip((columns, 1), step, strict=True)):
        # Keys of neighbours differ by one row or one column; both must exist in the same piece.
        following = kept + ahead
        exists = following < number.size
        if axis == 1:
            exists &= kept % columns < columns - 1
        first = np.flatnonzero(exists)
        second = number[following[first]]
        first, second = first[second >= 0], second[second >= 0]
        a, b = weight[first], weight[second]
        edge = 2 * a * b / (a + b) / length**2
        np.add.at(normal, (first, first), edge)
        np.add.at(normal, (second, second), edge)
        np.add.at(normal, (first, second), -edge)
        np.add.at(normal, (second, first), -edge)
        # The slope of an edge is the mean of its two cells.
        for end in (first, second):
            push = edge * length * sources[axis][end] / 2
            np.add.at(right, (second, axis * cells + end), push)
            np.add.at(right, (first, axis * cells + end), -push)
    return np.asarray(_solved(normal, right))


def _solved(normal: FloatArray, right: FloatArray) -> FloatArray:
    """Solve equations whose matrix is positive but for a constant on each piece."""
    # A little of the identity fixes these; the level of each piece is taken out later.
    scale = float(np.trace(normal)) / len(normal) or 1.0
    ridge = normal + 1e-9 * scale * np.eye(len(normal))
    return np.asarray(
        scipy.linalg.solve(ridge, right, assume_a="pos", check_finite=False), np.float64
    )


def _level(factor: FloatArray, piece: npt.NDArray[np.intp], pixels: FloatArray) -> None:
    """Give each piece zero mean over its pixels, in place."""
    for one in np.unique(piece):
        cells = piece == one
        share = pixels[cells] / pixels[cells].sum()
        factor[cells] -= share @ factor[cells]


@lru_cache(maxsize=1)
def _missing() -> float:
    """Variance that differences between cells lose against waves, over the spectral density.

    The mean slope of two cells over their difference answers to a wave of frequency f by
    ``cos(pi f) / (2 sin(pi f))`` in place of ``1 / (2 pi f)``.
    """
    line = (np.arange(256) + 0.5) / 512
    y, x = np.meshgrid(line, line, indexing="ij")
    exact = 1 / (4 * np.pi**2 * (y**2 + x**2))
    sine_y, sine_x = 4 * np.sin(np.pi * y) ** 2, 4 * np.sin(np.pi * x) ** 2
    passed = (sine_y * np.cos(np.pi * y) ** 2 + sine_x * np.cos(np.pi * x) ** 2) / (
        sine_y + sine_x
    ) ** 2
    return float((exact - passed).mean())
