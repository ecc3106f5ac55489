"""Noise of a fitted surface, estimated from what the fit leaves: white, or that of an integration.

The noise of a wavefront that was integrated from slopes is far from white: its spectral density
falls with the square of the frequency, and most of it lies in the modes of a fit. What the fit
leaves shows it beyond the frequencies of the modes.
"""

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.fft

from wavedask.kernels.surface import SurfaceNoise, surface_noise

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

WIDE: Final = 2 * math.sqrt(2)
"""Highest frequency at which the kind of the noise is decided, in units of that of the modes."""
NARROW: Final = (math.sqrt(2), 2.0)
"""Frequencies up to which the level of falling noise is measured, in the same units. The larger
level counts, because the low-pass of the tracker may end in between."""
LEAST_CELLS: Final = 40
"""Fourier coefficients that are needed to decide on a spectrum."""
CERTAIN: Final = 3.0
"""Standard errors by which a spectrum must differ from that of white noise."""


FAVOUR: Final = 1.0
"""Logarithm of the likelihood ratio above which a density counts as flat. A wavefront was usually
integrated; if its noise counted as flat, its errors would be far too small."""


class Grid(NamedTuple):
    """Regular grid of points.

    Attributes
    ----------
    step_y, step_x : float
        Distance of neighbours, in units of the radius or half the side.
    """

    step_y: float
    step_x: float


class Noise(NamedTuple):
    """What the residual of a fit shows.

    Attributes
    ----------
    scatter : float
        Its variance at low frequencies, for one point: white noise has it everywhere.
    surface : SurfaceNoise or None
        Covariance of the surface, where it is that of integrated slopes.
    """

    scatter: float
    surface: SurfaceNoise | None


def regular_grid(y: Floats, x: Floats) -> Grid | None:
    """Find the steps of two-dimensional arrays of positions; None where they are no regular grid.

    Examples
    --------
    >>> regular_grid(*np.mgrid[-1:1:5j, -1:1:9j])
    Grid(step_y=0.5, step_x=0.25)
    """
    if y.ndim != 2 or min(y.shape) < 2:
        return None
    steps = []
    for positions in (y, x.T):
        line = positions[:, 0]
        step = float(line[-1] - line[0]) / (line.size - 1)
        exact = line[0] + step * np.arange(line.size)
        if step == 0 or np.abs(positions - exact[:, None]).max() > 1e-3 * abs(step):
            return None
        steps.append(step)
    return Grid(*steps)


def residual_noise(residual: Floats, used: Mask, grid: Grid, *, degree: int, freedom: int) -> Noise:
    """Estimate the noise of a surface from the residual of a fit.

    Parameters
    ----------
    residual : ndarray of float64, shape (y, x)
        Surface without the modes.
    used : ndarray of bool, shape (y, x)
        Points that were fitted.
    grid : Grid
        Their distances.
    degree : int
        Highest degree of the modes.
    freedom : int
        Points less fitted parameters.

    Returns
    -------
    Noise
    """
    values = np.where(used, residual, 0.0)
    scatter = float(np.square(values).sum()) / max(freedom, 1)
    power = np.abs(scipy.fft.fft2(values, workers=1)) ** 2 / np.count_nonzero(used)
    frequency = np.hypot(
        scipy.fft.fftfreq(values.shape[0], grid.step_y)[:, None],
        scipy.fft.fftfreq(values.shape[1], grid.step_x),
    )
    # A mode of degree n has (n + 1) / 4 waves per radius, about.
    highest = (degree + 1) / 4
    beyond = (frequency >= highest) & (frequency < WIDE * highest)
    cells = int(np.count_nonzero(beyond))
    if cells < LEAST_CELLS or scatter == 0:
        return Noise(scatter, None)
    seen, level = power[beyond], float(power[beyond].mean())
    # Opposite frequencies of a real map are the same.
    if level < scatter * (1 + CERTAIN * math.sqrt(2 / cells)):
        return Noise(scatter, None)
    # Whittle's likelihood of a density that is flat, and of one that falls with the square.
    square = frequency[beyond] ** 2
    flat, falling = -math.log(level), float(np.log(square).mean() - np.log((seen * square).mean()))
    if (flat - falling) * cells / 2 > FAVOUR:
        return Noise(level, None)
    slopes = (2 * np.pi * frequency) ** 2 * power
    density = max(float(slopes[beyond & (frequency < bound * highest)].mean()) for bound in NARROW)
    sigma = np.where(used, math.sqrt(density), np.inf)
    surface = surface_noise(sigma, sigma, window=1.0, spacing=(abs(grid.step_y), abs(grid.step_x)))
    return Noise(level, surface)
