"""A detector in a beam: the positions of its pixels, its blur, and its frames."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from wavedask.errors import InputError
from wavedask.simulate.camera import Camera
from wavedask.simulate.elements import Pair, above_zero
from wavedask.simulate.propagation import both

Floats = NDArray[np.float64]
DistortionLike = Callable[[Any, Any], tuple[Any, Any]]
"""``(y, x) -> (f_y, f_x)`` in px, with true = distorted + f(distorted)."""

SAMPLING_ORDER: Final = 5
"""Order of the spline that is evaluated at the pixels."""


@dataclass(frozen=True)
class Detector:
    """An area detector.

    The pixel ``p = (row, column)`` of a frame sees the true pixel ``q = p + f(p)``, where f is the
    distortion. The true pixel q is at ``c + R [s (q - q0)]`` in the lab. Here s is the pixel size,
    q0 the middle of the frame, c the `center`, and
    ``R (y, x) = (y cos a - x sin a, x cos a + y sin a)`` the rotation by the angle a. Motors move
    along the lab axes. `correct` gives images on true pixels, and the truth of a beamline refers to
    them.

    Attributes
    ----------
    position : float
        Distance from the source, m.
    pixel_size : float or (float, float)
        Of a true pixel, along rows and columns (y, x), m.
    camera : Camera
        Shape, counts, scintillator, noise and bad pixels.
    psf : float, default 0.0
        Standard deviation of the Gaussian point spread, m. The square pixels add their own blur.
    rotation : float, default 0.0
        Angle of the motor axes against the pixel axes, rad; positive turns +x toward +y.
    center : (float, float), default (0, 0)
        Lab position (y, x) of the middle of the frame when its motors are at zero, m.
    distortion : callable, optional
        ``(y, x) -> (f_y, f_x)`` in px.

    Raises
    ------
    InputError
        A position or pixel size that is not above zero, or a negative point spread.
    """

    position: float
    pixel_size: float | Pair
    camera: Camera = field(
        default_factory=lambda: Camera((512, 512), vignetting=0.0, structure=0.02)
    )
    psf: float = 0.0
    rotation: float = 0.0
    center: Pair = (0.0, 0.0)
    distortion: DistortionLike | None = None

    def __post_init__(self) -> None:
        above_zero("position of the detector", self.position, "m")
        for size in both(self.pixel_size):
            above_zero("pixel_size", size, "m")
        if self.psf < 0:
            raise InputError(f"psf is {self.psf} m", "Give zero or more.")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.camera.shape

    def pixels(self, *, step: int = 1) -> tuple[Floats, Floats]:
        """Row and column of every `step`-th pixel, and of the last one."""
        rows, columns = (
            np.unique(np.append(np.arange(0, length, step), length - 1)) for length in self.shape
        )
        y, x = np.meshgrid(rows, columns, indexing="ij")
        return y.astype(np.float64), x.astype(np.float64)

    def undistorted(self, y: Floats, x: Floats) -> tuple[Floats, Floats]:
        """Find the true pixel that the pixel (y, x) of a frame sees."""
        if self.distortion is None:
            return y, x
        f_y, f_x = self.distortion(y, x)
        return y + f_y, x + f_x

    def lab(self, y: Floats, x: Floats, *, motors: Pair = (0.0, 0.0)) -> tuple[Floats, Floats]:
        """Lab position in m of the true pixel (y, x), with the motors at a position (y, x) in m."""
        size_y, size_x = both(self.pixel_size)
        down = size_y * (np.asarray(y) - (self.shape[0] - 1) / 2)
        across = size_x * (np.asarray(x) - (self.shape[1] - 1) / 2)
        lab_y, lab_x = turned(down, across, -self.rotation)
        return lab_y + self.center[0] + motors[0], lab_x + self.center[1] + motors[1]

    def pixel(self, y: Floats, x: Floats, *, motors: Pair = (0.0, 0.0)) -> tuple[Floats, Floats]:
        """Find the true pixel at the lab position (y, x) in m: the inverse of `lab`."""
        size_y, size_x = both(self.pixel_size)
        down, across = turned(
            np.asarray(y) - self.center[0] - motors[0],
            np.asarray(x) - self.center[1] - motors[1],
            self.rotation,
        )
        return (
            down / size_y + (self.shape[0] - 1) / 2,
            across / size_x + (self.shape[1] - 1) / 2,
        )

    def blurred(self, intensity: NDArray[Any], *, spacing: Pair, blur: Pair) -> Floats:
        """Blur an intensity as the detector does, and prepare it for `sampled`.

        Parameters
        ----------
        intensity : ndarray, shape (rows, columns)
            Intensity on a periodic grid in the lab.
        spacing : (float, float)
            Distance of its points, m.
        blur : (float, float)
            Standard deviation of the image of the source, a further Gaussian blur, m.

        Returns
        -------
        ndarray of float64, shape (rows, columns)
            Spline coefficients of the intensity seen by a pixel centred at each point.
        """
        rows, columns = intensity.shape
        down = fft.fftfreq(rows, spacing[0])[:, None]
        across = fft.rfftfreq(columns, spacing[1])[None, :]
        widths = [2 * np.pi**2 * (self.psf**2 + width**2) for width in blur]
        spread = np.exp(-widths[0] * down**2) * np.exp(-widths[1] * across**2)
        along_y, along_x = turned(down, across, self.rotation)
        size_y, size_x = both(self.pixel_size)
        spread = spread * np.sinc(size_y * along_y) * np.sinc(size_x * along_x)
        spectrum = fft.rfft2(intensity, workers=1) * spread.astype(intensity.dtype)
        seen = fft.irfft2(spectrum, s=(rows, columns), workers=1)
        return np.asarray(
            ndimage.spline_filter(seen, order=SAMPLING_ORDER, output=np.float64, mode="grid-wrap")
        )

    def sampled(
        self, coefficients: Floats, *, origin: Pair, spacing: Pair, motors: Pair
    ) -> NDArray[np.float32]:
        """Intensity that each pixel of a frame sees.

        Parameters
        ----------
        coefficients : ndarray
            As in `blurred`.
        origin, spacing : (float, float)
            Lab position of the first point of the grid and distance of its points, m.
        motors : (float, float)
            Displacement (y, x) of the detector, m.

        Returns
        -------
        ndarray of float32, shape (y, x)
        """
        y, x = self.lab(*self.undistorted(*self.pixels()), motors=motors)
        places = np.stack([(y - origin[0]) / spacing[0], (x - origin[1]) / spacing[1]])
        seen = ndimage.map_coordinates(
            coefficients, places, order=SAMPLING_ORDER, mode="grid-wrap", prefilter=False
        )
        return np.maximum(seen, 0).astype(np.float32)


def turned(y: Any, x: Any, angle: float) -> tuple[Any, Any]:
    """Turn a vector (y, x) by an angle; positive turns +x toward +y."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return y * cosine + x * sine, x * cosine - y * sine
