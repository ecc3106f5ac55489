"""Largest errors of a wavefront from its slopes, as smooth functions that are independent."""

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.fft
from numpy.polynomial import legendre

from wavedask.errors import InputError
from wavedask.kernels.surface import AREA, mean_window, surface_noise
from wavedask.optics.slopes import Slopes

Floats = npt.NDArray[np.float64]

DEGREES: Final = (8, 6, 4, 2)
"""Degrees of the polynomials in which the errors are described; the first that the data allow."""
POINTS_PER_FUNCTION: Final = 20
"""Cells with data for each polynomial, at least."""
MOST_MODES: Final = 20
"""Number of errors, at most."""
TILTS: Final = 3
"""Piston and tilts."""
SEED: Final = 0
"""Of the example of fine errors."""
WANTED: Final = 0.98
"""Part of the variance of the polynomials that the errors hold, unless there are too many."""


class NoiseModes(NamedTuple):
    """Errors of a wavefront without piston and tilts.

    Attributes
    ----------
    coefficients : ndarray, shape (modes, degree + 1, degree + 1)
        Coefficients of products of Legendre polynomials in y and x, which run from -1 to 1 over
        the map. Each mode is one standard error; modes are independent.
    rest : float
        Variance of the wavefront that the modes do not hold, in m2.
    shape : (int, int)
        Rows and columns of the map.
    finest : float
        Highest frequency of the errors, in cycles per pixel.
    """

    coefficients: Floats
    rest: float
    shape: tuple[int, int]
    finest: float

    def maps(self, y: Floats, x: Floats) -> Floats:
        """Evaluate the modes on a grid.

        Parameters
        ----------
        y, x : ndarray, shapes (rows,) and (columns,)
            Positions in the map, from -1 to 1.

        Returns
        -------
        ndarray, shape (modes + 1, rows, columns)
            In m. The last is a random example of the errors that the modes do not hold, always the
            same; these are too fine to be described one by one, and scatter the beam.
        """
        degree = self.coefficients.shape[1] - 1
        down, across = (legendre.legvander(line, degree) for line in (y, x))
        modes = down @ self.coefficients @ across.T
        return np.concatenate([modes, self._fine(y, x)[None]])

    def _fine(self, y: Floats, x: Floats) -> Floats:
        """Draw errors between the modes and the low-pass of the tracker."""
        cycles = [
            scipy.fft.fftfreq(line.size, abs(float(line[1] - line[0])) / 2) for line in (y, x)
        ]
        coarse = np.hypot(cycles[0][:, None], cycles[1])
        pixel = np.hypot(cycles[0][:, None] / self.shape[0], cycles[1] / self.shape[1])
        # Below a frequency of n half waves, a map has about n^2 pi / 4 independent waves.
        lowest = math.sqrt((len(self.coefficients) + TILTS) * 4 / math.pi) / 2
        passed = (coarse > lowest) & (pixel <= self.finest)
        white = np.random.default_rng(SEED).standard_normal(coarse.shape)
        spectrum = np.divide(
            scipy.fft.fft2(white), pixel, out=np.zeros(white.shape, complex), where=passed
        )
        fine = scipy.fft.ifft2(spectrum).real
        size = float(np.sqrt(np.mean(fine**2)))
        return np.asarray(fine * math.sqrt(self.rest) / size) if size else fine


def noise_modes(
    sigma: tuple[Floats, Floats], window: npt.NDArray[np.float64], step: tuple[float, float]
) -> NoiseModes | None:
    """Find the largest independent errors of a wavefront.

    The covariance of an integrated wavefront is dominated by large waves, so that a few smooth
    functions hold most of it. They are the principal components, over the pixels, of the
    covariance of polynomials that are fitted to the slopes.

    Parameters
    ----------
    sigma : (ndarray, ndarray), shapes (rows, columns)
        Standard errors of the slopes along (y, x), rad; not finite where there are no data.
    window : ndarray, shape (rows, columns)
        Side in pixels of the windows within which errors are the same.
    step : (float, float)
        Pixel size along (y, x), m.

    Returns
    -------
    NoiseModes or None
        None with too few slopes.

    Examples
    --------
    >>> sigma = np.full((90, 90), 1e-6)
    >>> modes = noise_modes((sigma, sigma), np.full((90, 90), 9.0), (1e-6, 1e-6))
    >>> line = np.linspace(-1, 1, 30)
    >>> modes.maps(line, line).shape
    (21, 30, 30)
    """
    side = mean_window(window, sigma[0])
    whole = surface_noise(sigma[0], sigma[1], window=side, spacing=step)
    rows, columns = sigma[0].shape
    if whole is None or min(rows, columns) < 2:
        return None
    level = np.zeros((rows, columns))
    points = Slopes(
        level,
        level,
        y=np.linspace(-1.0, 1.0, rows),
        x=np.linspace(-1.0, 1.0, columns),
        sigma=sigma,
        window=side,
    )
    half = np.array([step[0] * (rows - 1), step[1] * (columns - 1)]) / 2
    for degree in DEGREES:
        orders = _orders(degree)
        if points.y.size < POINTS_PER_FUNCTION * len(orders):
            continue
        try:
            covariance = _covariance(points, degree, half)
        except InputError:
            continue  # The pixels do not tell so many polynomials apart.
        table, held = _components(points, degree, covariance)
        plane = np.stack([np.ones_like(whole.y), whole.y, whole.x], axis=1)
        rest = max(whole.without(plane).rms ** 2 - held, 0.0)
        finest = min(1 / (math.sqrt(math.pi * AREA) * side), 0.5)
        return NoiseModes(table, rest, (rows, columns), finest)
    return None


def _orders(degree: int) -> list[tuple[int, int]]:
    """List the degrees (y, x) of all products up to a total degree, without piston."""
    return [(i, k) for i in range(degree + 1) for k in range(degree + 1 - i) if i + k]


def _covariance(points: Slopes, degree: int, half: Floats) -> Floats:
    """Compute the covariance of polynomials that are fitted to the slopes."""
    rows, columns = (list(part) for part in zip(*_orders(degree), strict=True))
    derive = legendre.legder(np.eye(degree + 1)).T

    def gradients(block: slice) -> Floats:
        down, across = (legendre.legvander(line[block], degree).T for line in (points.y, points.x))
        slopes = [
            (derive @ down[:degree])[rows] * across[columns] / half[0],
            down[rows] * (derive @ across[:degree])[columns] / half[1],
        ]
        return np.stack(slopes)

    normal, _ = points.normal(gradients, len(rows), points.values)
    return points.covariance(gradients, points.inverse(normal), points.values)


def _components(points: Slopes, degree: int, covariance: Floats) -> tuple[Floats, float]:
    """Find the largest components over the pixels, without tilts, and the variance they hold."""
    orders = _orders(degree)
    down, across = (legendre.legvander(line, degree) for line in (points.y, points.x))
    heights = np.stack([down[:, i] * across[:, k] for i, k in orders], axis=1)
    root = np.sqrt(points.count / points.count.sum())[:, None]
    plane = np.linalg.qr(np.stack([np.ones_like(points.y), points.y, points.x], axis=1) * root)[0]
    weighted = heights * root
    weighted -= plane @ (plane.T @ weighted)
    sizes, vectors = np.linalg.eigh(covariance)
    factor = vectors * np.sqrt(np.maximum(sizes, 0.0))
    _, sizes, right = np.linalg.svd(weighted @ factor, full_matrices=False)
    held = np.cumsum(sizes**2)
    kept = min(int(np.searchsorted(held, WANTED * held[-1])) + 1, MOST_MODES)
    table = np.zeros((kept, degree + 1, degree + 1))
    for number, (i, k) in enumerate(orders):
        table[:, i, k] = (factor[number] @ right.T)[:kept]
    return table, float(held[kept - 1])
