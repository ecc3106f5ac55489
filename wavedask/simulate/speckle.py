"""Speckle with exact truth: a band-limited random field evaluated at displaced coordinates."""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from wavedask.errors import InputError

Floats = NDArray[np.float64]

OVERSAMPLING: Final = 3
"""Points per pixel of the grid that carries the spline of a speckle field."""
SPLINE_ORDER: Final = 5


@dataclass(frozen=True)
class SpeckleField:
    """A random, periodic, band-limited intensity pattern that can be evaluated anywhere.

    It is white noise, smoothed by a Gaussian grain and cut at the Nyquist frequency of the
    detector, and kept as quintic B-spline coefficients on a grid of three points per pixel.

    Attributes
    ----------
    period : int
        Pixels after which the pattern repeats, along both axes.
    contrast : float
        Standard deviation of the intensity, whose mean is 1.
    coefficients : ndarray of float64, shape (3 period, 3 period)
        B-spline coefficients of the pattern, mean 0 and standard deviation 1.
    spectrum : ndarray of complex128, shape (period, period // 2 + 1)
        Fourier coefficients of the pattern on the pixel grid, as ``scipy.fft.rfft2`` orders them.
    """

    period: int
    contrast: float
    coefficients: Floats = field(repr=False)
    spectrum: NDArray[np.complex128] = field(repr=False)

    def __call__(self, y: Any, x: Any) -> Floats:
        """Evaluate the intensity at pixel coordinates ``(y, x)``, arrays that broadcast."""
        coordinates = np.stack(np.broadcast_arrays(y, x)).astype(np.float64) * OVERSAMPLING
        pattern = ndimage.map_coordinates(
            self.coefficients,
            coordinates.reshape(2, -1),
            order=SPLINE_ORDER,
            mode="grid-wrap",
            prefilter=False,
        )
        return np.maximum(1 + self.contrast * pattern, 0).reshape(coordinates.shape[1:])


def speckle_field(
    size: int, *, grain: float = 4.0, contrast: float = 0.25, seed: int = 0
) -> SpeckleField:
    """Make a random speckle pattern.

    Parameters
    ----------
    size : int
        Smallest period in pixels: the frame plus a margin for displacements.
    grain : float, default 4.0
        Full width at half maximum of a grain in pixels, at least 2.
    contrast : float, default 0.25
        Standard deviation of the intensity over its mean, 0 to 0.3. With more contrast, a Gaussian
        pattern is clipped at zero and no longer band-limited.
    seed : int, default 0
        Seed of the random numbers.

    Returns
    -------
    SpeckleField

    Raises
    ------
    InputError
        Grain or contrast out of range.

    Examples
    --------
    >>> speckle = speckle_field(64, seed=3)
    >>> here, one_period_on = speckle(0.5, [1.25, 1.25 + speckle.period])
    >>> bool(np.isclose(here, one_period_on))
    True
    """
    if grain < 2:
        raise InputError(f"grain is {grain} px", "Give at least 2: finer speckle aliases.")
    if not 0 < contrast <= 0.3:
        raise InputError(f"contrast is {contrast}", "Give a number above 0, up to 0.3.")
    period = fft.next_fast_len(size + size % 2, real=True)
    period += period % 2
    sigma = grain / np.sqrt(8 * np.log(2))
    noise = np.random.default_rng(seed).standard_normal((period, period))
    frequency_y = fft.fftfreq(period)[:, None]
    frequency_x = fft.rfftfreq(period)[None]
    spectrum = fft.rfft2(noise) * np.exp(
        -2 * (np.pi * sigma) ** 2 * (frequency_y**2 + frequency_x**2)
    )
    spectrum[0, 0] = 0
    spectrum[period // 2] = 0  # the Nyquist rows have no conjugate on the finer grid
    spectrum[:, -1] = 0
    spectrum /= fft.irfft2(spectrum, s=(period, period)).std()
    half = period // 2
    fine = np.zeros((OVERSAMPLING * period, OVERSAMPLING * half + 1), np.complex128)
    fine[:half, : half + 1] = spectrum[:half]
    fine[-half:, : half + 1] = spectrum[half:]
    pattern = fft.irfft2(fine, s=(OVERSAMPLING * period,) * 2) * OVERSAMPLING**2
    coefficients = ndimage.spline_filter(
        pattern, order=SPLINE_ORDER, output=np.float64, mode="grid-wrap"
    )
    return SpeckleField(period, contrast, coefficients, spectrum)


@dataclass(frozen=True, slots=True)
class Pair:
    """A sample and a reference image with the true displacement between them.

    Attributes
    ----------
    sample, reference : ndarray of float32, shape (y, x)
        Images in counts.
    displacement_y, displacement_x : ndarray of float64, shape (y, x)
        The truth in pixels: ``sample(p) = reference(p - u)``.
    """

    sample: NDArray[np.float32]
    reference: NDArray[np.float32]
    displacement_y: Floats
    displacement_x: Floats


def displaced_pair(
    shape: tuple[int, int],
    *,
    displacement_y: Any = 0.0,
    displacement_x: Any = 0.0,
    grain: float = 4.0,
    contrast: float = 0.25,
    counts: float = 8000.0,
    noise: bool = True,
    seed: int = 0,
) -> Pair:
    """Simulate a reference image and a sample image that is displaced against it.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    displacement_y, displacement_x : float or array_like, shape (y, x)
        Displacement at each pixel of the sample, in pixels; positive toward larger index.
    grain, contrast : float
        As in `speckle_field`.
    counts : float, default 8000
        Mean counts of a pixel.
    noise : bool, default True
        Whether both images have photon (Poisson) noise.
    seed : int, default 0
        Seed of the random numbers.

    Returns
    -------
    Pair

    Examples
    --------
    >>> pair = displaced_pair((32, 48), displacement_x=2.0, noise=False)
    >>> bool(np.allclose(pair.sample[:, 2:], pair.reference[:, :-2], rtol=1e-5))
    True
    """
    u_y = np.broadcast_to(np.asarray(displacement_y, np.float64), shape)
    u_x = np.broadcast_to(np.asarray(displacement_x, np.float64), shape)
    margin = int(np.ceil(max(np.abs(u_y).max(), np.abs(u_x).max()))) + 1
    speckle = speckle_field(max(shape) + 2 * margin, grain=grain, contrast=contrast, seed=seed)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    images = [counts * speckle(y - u_y, x - u_x), counts * speckle(y, x)]
    if noise:
        rng = np.random.default_rng([seed, 1])
        images = [rng.poisson(image).astype(np.float64) for image in images]
    return Pair(images[0].astype(np.float32), images[1].astype(np.float32), u_y, u_x)
