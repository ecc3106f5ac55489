"""A virtual beamline with exact truth: displaced speckle, a camera, a lens.

The geometric mode: speckle is a band-limited random field that is evaluated, not resampled, at the
displaced coordinates, so the truth of a tracked displacement is known to a few parts in a million.
"""

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

    White noise smoothed by a Gaussian grain and cut at the Nyquist frequency of the detector, kept
    as quintic B-spline coefficients on a grid of three points per pixel.

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
            self.coefficients, coordinates, order=SPLINE_ORDER, mode="grid-wrap", prefilter=False
        )
        return np.maximum(1 + self.contrast * pattern, 0)


def speckle_field(
    size: int, *, grain: float = 4.0, contrast: float = 0.25, seed: int = 0
) -> SpeckleField:
    """Make a random speckle pattern.

    Parameters
    ----------
    size : int
        Smallest period in pixels: the frame and whatever is displaced into it.
    grain : float, default 4.0
        Full width at half maximum of a grain in pixels, at least 2.
    contrast : float, default 0.25
        Standard deviation of the intensity over its mean, 0 to 0.3: a Gaussian pattern of more
        would be clipped at zero and no longer band-limited.
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
    >>> field = speckle_field(64, seed=3)
    >>> field(0.5, [1.25, 1.25 + field.period]).round(6).tolist() == [field(0.5, 1.25).round(6)] * 2
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
    """Simulate a reference image and the sample image that a displacement makes of it.

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


@dataclass(frozen=True)
class Lens:
    """A thin parabolic lens with a known thickness error, seen by a parallel beam.

    Attributes
    ----------
    radius : float
        Apex radius of curvature of each parabolic surface, m.
    delta : float
        Refractive index decrement of the material.
    surfaces : int
        Number of parabolic surfaces in the stack: two for a biconcave lens.
    error : ndarray, shape (n, m)
        Coefficients in m of the Legendre products ``L_i(y / half_aperture) L_j(x / half_aperture)``
        that add up to the thickness error.
    half_aperture : float
        Half the side of the square on which the Legendre polynomials live, m.
    """

    radius: float
    delta: float
    surfaces: int = 2
    error: Floats = field(default_factory=lambda: np.zeros((1, 1)))
    half_aperture: float = 1.0

    @property
    def focal_length(self) -> float:
        """Focal length ``f = R / (surfaces delta)`` in m."""
        return self.radius / (self.surfaces * self.delta)

    def thickness_error(self, y: Any, x: Any) -> Floats:
        """Thickness error in m at ``(y, x)`` in m from the axis."""
        scaled = np.asarray(y) / self.half_aperture, np.asarray(x) / self.half_aperture
        return np.asarray(np.polynomial.legendre.legval2d(*scaled, self.error))

    def wavefront(self, y: Any, x: Any) -> Floats:
        """Wavefront behind the lens in m, ``-r^2 / 2f - delta * thickness error``."""
        y, x = np.asarray(y, np.float64), np.asarray(x, np.float64)
        ideal = -(y**2 + x**2) / (2 * self.focal_length)
        return np.asarray(ideal - self.delta * self.thickness_error(y, x))

    def slope(self, y: Any, x: Any) -> tuple[Floats, Floats]:
        """Gradient (y, x) of the wavefront in rad at ``(y, x)`` in m from the axis."""
        y, x = np.asarray(y, np.float64), np.asarray(x, np.float64)
        scaled = y / self.half_aperture, x / self.half_aperture
        slopes = []
        for axis, position in enumerate((y, x)):
            derivative = np.polynomial.legendre.legder(self.error, axis=axis)
            error = np.polynomial.legendre.legval2d(*scaled, derivative) / self.half_aperture
            slopes.append(np.asarray(-position / self.focal_length - self.delta * error))
        return slopes[0], slopes[1]


@dataclass(frozen=True, slots=True)
class Truth:
    """What a detector behind a lens would measure if it were perfect.

    Attributes
    ----------
    displacement_y, displacement_x : ndarray, shape (y, x)
        Displacement at each detector pixel, px.
    slope_y, slope_x : ndarray, shape (y, x)
        Slope of the ray that arrives at the pixel, rad.
    wavefront : ndarray, shape (y, x)
        Wavefront in the plane of the detector, m, zero mean.
    origin_y, origin_x : ndarray, shape (y, x)
        Where that ray crossed the lens, m from its axis.
    """

    displacement_y: Floats
    displacement_x: Floats
    slope_y: Floats
    slope_x: Floats
    wavefront: Floats
    origin_y: Floats
    origin_x: Floats


def lens_truth(
    lens: Lens,
    *,
    shape: tuple[int, int],
    pixel_size: float,
    distance: float,
    center: tuple[float, float] = (0.0, 0.0),
) -> Truth:
    """Trace the rays of a parallel beam from a lens to each pixel of a detector.

    A ray that leaves the lens at X arrives at ``x = X + distance * slope(X)``; this is inverted by
    Newton's iteration for every pixel. The wavefront there is the path along the ray,
    ``W(x) = W_lens(X) + distance * |slope(X)|^2 / 2``, whose gradient is the slope of the ray.

    Parameters
    ----------
    lens : Lens
        The lens.
    shape : (int, int)
        Rows and columns of the detector.
    pixel_size : float
        m.
    distance : float
        From the lens to the detector, m; less than the focal length.
    center : (float, float), default (0, 0)
        Position (y, x) of the lens axis from the middle of the detector, m.

    Returns
    -------
    Truth

    Raises
    ------
    InputError
        The detector is behind the focus, or rays cross before they reach it.

    Examples
    --------
    >>> lens = Lens(radius=50e-6, delta=1.2e-6)
    >>> truth = lens_truth(lens, shape=(8, 8), pixel_size=1e-6, distance=1.0)
    >>> bool(truth.displacement_x[0, -1] < 0)  # toward the axis
    True
    """
    if not 0 < distance < lens.focal_length:
        raise InputError(
            f"distance is {distance} m, focal length {lens.focal_length:.4g} m",
            "Put the detector between the lens and its focus: behind it, rays have crossed.",
        )
    y, x = (
        (np.arange(length) - (length - 1) / 2) * pixel_size - middle
        for length, middle in zip(shape, center, strict=True)
    )
    y, x = np.broadcast_arrays(y[:, None], x[None, :])
    gain = 1 / (1 - distance / lens.focal_length)
    origin_y, origin_x = y * gain, x * gain
    for _ in range(50):
        slope_y, slope_x = lens.slope(origin_y, origin_x)
        step_y = (y - origin_y - distance * slope_y) * gain
        step_x = (x - origin_x - distance * slope_x) * gain
        origin_y, origin_x = origin_y + step_y, origin_x + step_x
        if max(np.abs(step_y).max(), np.abs(step_x).max()) < 1e-9 * pixel_size:
            break
    else:
        raise InputError(
            "rays cross between the lens and the detector",
            "Give a smaller thickness error or a shorter distance.",
        )
    slope_y, slope_x = lens.slope(origin_y, origin_x)
    wavefront = lens.wavefront(origin_y, origin_x) + distance / 2 * (slope_y**2 + slope_x**2)
    return Truth(
        displacement_y=distance * slope_y / pixel_size,
        displacement_x=distance * slope_x / pixel_size,
        slope_y=slope_y,
        slope_x=slope_x,
        wavefront=wavefront - wavefront.mean(),
        origin_y=origin_y,
        origin_x=origin_x,
    )


@dataclass(frozen=True)
class Camera:
    """An imperfect camera: offset, structure of the scintillator, bad pixels, noise.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns.
    counts : float
        Mean counts of a pixel in the flat field.
    offset : float
        Mean counts without beam.
    readout : float
        Standard deviation of the readout noise, counts.
    bad_fraction : float
        Fraction of pixels that are dead (read only the offset), and of those that are hot.
    seed : int
        Seed of the random numbers.
    """

    shape: tuple[int, int]
    counts: float = 8000.0
    offset: float = 100.0
    readout: float = 2.0
    bad_fraction: float = 1e-4
    seed: int = 0

    def _random(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *stream])

    @property
    def _bad(self) -> Floats:
        """Random numbers that tell dead (low) and hot (high) pixels from the rest."""
        return self._random(0).random(self.shape)

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Pixels that do not see the beam."""
        return self._bad < self.bad_fraction

    @property
    def hot(self) -> NDArray[np.bool_]:
        """Pixels with a large and noisy dark current."""
        return self._bad > 1 - self.bad_fraction

    @property
    def flat_field(self) -> Floats:
        """Expected counts of the beam without membrane: its profile times the scintillator's."""
        rows, columns = self.shape
        y = np.linspace(-1, 1, rows)[:, None]
        x = np.linspace(-1, 1, columns)[None, :]
        profile = np.exp(-0.25 * ((y - 0.1) ** 2 + (x + 0.05) ** 2))
        structure = speckle_field(max(self.shape), grain=12.0, contrast=0.03, seed=self.seed + 1)
        structured = structure(*np.mgrid[:rows, :columns])
        return np.where(self.dead, 0.0, self.counts * profile * structured)

    def expose(self, intensity: Any, *, frame: int) -> NDArray[np.uint16]:
        """Take a frame.

        Parameters
        ----------
        intensity : array_like, shape (y, x)
            Beam relative to that of the flat field: 0 is dark, 1 is flat.
        frame : int
            Number of the frame, which decides its noise.

        Returns
        -------
        ndarray of uint16, shape (y, x)
            Counts.
        """
        random = self._random(1, frame)
        signal = random.poisson(self.flat_field * intensity)
        signal = signal + self.offset + random.normal(0, self.readout, self.shape)
        signal[self.hot] += 5 * self.offset + random.normal(0, self.offset, self.hot.sum())
        signal[self.dead] = self.offset
        return np.clip(np.rint(signal), 0, np.iinfo(np.uint16).max).astype(np.uint16)
