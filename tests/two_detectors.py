"""Two detectors in a known beam, by geometry: speckle evaluated where the rays come from."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavedask.simulate import SpeckleField, speckle_field

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
        """Where the rays that arrive at (y, x) in the plane z come from."""
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
