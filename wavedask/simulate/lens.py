"""A lens with a known figure, and the rays from it to a detector."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavedask.errors import InputError

Floats = NDArray[np.float64]


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
        Half the side of the square on which the Legendre polynomials are defined, m.
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
        Position where that ray crossed the lens, m from its axis.
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
        Pixel size, m.
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
