"""Two detectors in a known beam, by geometry: speckle evaluated at the origin of the rays."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import wavedask as wd
from wavedask.simulate import SpeckleField, speckle_field
from wavedask.tracking.registration import Registration

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Beam:
    """A wavefront in the plane z = 0, where a membrane marks the rays.

    ``W = (ky y^2 + kx x^2) / 2 + bump * sin(q y) cos(q x) / q^2``, positions in m.
    """

    curvature_y: float
    curvature_x: float
    bump: float = 0.0
    wave: float = 2 * np.pi / 150e-6

    def slope(self, y: Any, x: Any) -> tuple[Any, Any]:
        q = self.wave
        return (
            self.curvature_y * y + self.bump * np.cos(q * y) * np.cos(q * x) / q,
            self.curvature_x * x - self.bump * np.sin(q * y) * np.sin(q * x) / q,
        )

    def height(self, y: Any, x: Any) -> Any:
        q = self.wave
        bump = self.bump * np.sin(q * y) * np.cos(q * x) / q**2
        return (self.curvature_y * y**2 + self.curvature_x * x**2) / 2 + bump

    def origin(self, y: Floats, x: Floats, z: float) -> tuple[Floats, Floats]:
        """Origin of the rays that arrive at (y, x) in the plane z."""
        gain = 1 / (1 + z * self.curvature_y), 1 / (1 + z * self.curvature_x)
        from_y, from_x = y * gain[0], x * gain[1]
        for _ in range(60):
            slope_y, slope_x = self.slope(from_y, from_x)
            step_y = (y - from_y - z * slope_y) * gain[0]
            step_x = (x - from_x - z * slope_x) * gain[1]
            from_y, from_x = from_y + step_y, from_x + step_x
            if max(np.abs(step_y).max(), np.abs(step_x).max()) < 1e-17:
                break
        return from_y, from_x

    def at(self, y: Floats, x: Floats, z: float) -> tuple[Floats, Floats, Floats]:
        """Slopes and wavefront in the plane z."""
        from_y, from_x = self.origin(y, x, z)
        slope_y, slope_x = self.slope(from_y, from_x)
        return slope_y, slope_x, self.height(from_y, from_x) + z / 2 * (slope_y**2 + slope_x**2)


@dataclass(frozen=True)
class Camera:
    """A detector at z: pixel size (m), shape, position of its middle (m), rotation (rad)."""

    z: float
    pixel: float
    shape: tuple[int, int] = (256, 256)
    middle: tuple[float, float] = (0.0, 0.0)
    turn: float = 0.0

    def places(self) -> tuple[Floats, Floats]:
        """Lab positions of the pixels, m."""
        rows, columns = np.mgrid[: self.shape[0], : self.shape[1]].astype(np.float64)
        y, x = (
            (axis - (length - 1) / 2) * self.pixel
            for axis, length in zip((rows, columns), self.shape, strict=True)
        )
        cosine, sine = np.cos(self.turn), np.sin(self.turn)
        return (
            self.middle[0] + cosine * y - sine * x,
            self.middle[1] + sine * y + cosine * x,
        )

    def numbers(self, y: Floats, x: Floats) -> tuple[Floats, Floats]:
        """Pixel numbers of lab positions."""
        cosine, sine = np.cos(self.turn), np.sin(self.turn)
        away_y, away_x = y - self.middle[0], x - self.middle[1]
        return (
            (cosine * away_y + sine * away_x) / self.pixel + (self.shape[0] - 1) / 2,
            (cosine * away_x - sine * away_y) / self.pixel + (self.shape[1] - 1) / 2,
        )


@cache
def speckle(seed: int) -> SpeckleField:
    return speckle_field(600, grain=4.0, contrast=0.25, seed=seed)


def images(
    beam: Beam, *cameras: Camera, grain: float = 4.0, counts: float = 8000.0, seed: int = 0
) -> list[NDArray[np.float32]]:
    """What each camera records; a grain is so many pixels of the first one wide."""
    unit = cameras[0].pixel * grain / 4.0
    rng = np.random.default_rng([seed, 7])
    frames = []
    for camera in cameras:
        y, x = beam.origin(*camera.places(), camera.z)
        frame = counts * speckle(seed)(y / unit, x / unit)
        frames.append(rng.poisson(frame).astype(np.float32))
    return frames


NEAR = Camera(0.5, 0.8e-6, (330, 340), middle=(12e-6, -20e-6), turn=0.015)
FAR = Camera(1.0, 1e-6, (256, 256))


def tracked(beam: Beam, near: Camera, far: Camera, *, seed: int = 0, search: int = 5) -> xr.Dataset:
    """Register and track one pair of images, far against near."""
    on_near, on_far = (
        xr.DataArray(image, dims=("y", "x")) for image in images(beam, near, far, seed=seed)
    )
    found = wd.register(on_far, on_near, pixel_size=(far.pixel, near.pixel))
    return wd.track(on_far, on_near, window=21, search=search, registration=found)


def absolute(tracking: xr.Dataset, near: Camera, far: Camera, **options: Any) -> xr.Dataset:
    return wd.wavefront(
        tracking,
        mode="absolute",
        distance=(near.z, far.z),
        pixel_size=(near.pixel, far.pixel),
        **options,
    )


@cache
def exact_tracking(
    beam: Beam, near: Camera, far: Camera, *, offset: tuple[float, float] = (0.0, 0.0)
) -> xr.Dataset:
    """Noiseless displacements, as of `track` with some registration: two frames, not to change."""
    y, x = beam.origin(*far.places(), far.z)
    slope_y, slope_x = beam.slope(y, x)
    seen = np.stack(near.numbers(y + near.z * slope_y, x + near.z * slope_x))
    ratio = far.pixel / near.pixel
    registration = Registration(ratio * np.eye(2), np.array(offset))
    numbers = np.mgrid[: far.shape[0], : far.shape[1]]
    u = numbers - (seen - registration.offset[:, None, None]) / ratio
    dims, shape = ("frame", "y", "x"), (2, *far.shape)
    px = {"units": "px"}
    variables = {
        name: (dims, np.broadcast_to(values, shape).copy(), px)
        for name, values in (
            ("displacement_y", u[0]),
            ("displacement_x", u[1]),
            ("uncertainty_y", 0.01),
            ("uncertainty_x", 0.02),
            ("window", 21),
            ("correlation", 0.9),
        )
    }
    coords = {"energy": ("frame", [17.0, 18.0], {"units": "keV"})}
    return xr.Dataset(variables, coords, registration.attrs)


def without_plane(values: Any) -> Any:
    """A map without its mean and tilt."""
    known = np.isfinite(values)
    y, x = np.nonzero(known)
    columns = np.stack([np.ones(y.size), y, x], axis=1)
    plane = columns @ np.linalg.lstsq(columns, values[known], rcond=None)[0]
    left = np.full(values.shape, np.nan)
    left[known] = values[known] - plane
    return left
