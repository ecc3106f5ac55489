"""A detector with a known distortion, and the mesh scan that calibrates it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import FRAME, IMAGE, LONG_NAME, METRE, MOTOR, ROLE, UNITS, labelled
from wavedask.errors import InputError
from wavedask.kernels.mesh import without_affine
from wavedask.simulate.speckle import speckle_field
from wavedask.simulate.writers import Exposure, FrameWriter

Floats = NDArray[np.float64]

MOTORS: Final = ("dety", "detx")
"""Motors that move the detector along y and along x."""
STEEPEST: Final = 0.5
"""Gradient of a distortion in px/px above which it might fold."""
FWHM: Final = 2 * np.sqrt(2 * np.log(2))
"""Full width at half maximum of a Gaussian, in standard deviations."""


@dataclass(frozen=True)
class Feature:
    """A local distortion: a Gaussian bump of displacement.

    Attributes
    ----------
    center : (float, float)
        Position (y, x) of its centre, px.
    shift : (float, float)
        Distortion (y, x) at its centre, px.
    width : float
        Full width at half maximum, px.
    """

    center: tuple[float, float]
    shift: tuple[float, float]
    width: float


@dataclass(frozen=True)
class Distortion:
    """A distortion of a detector: ``true = distorted + f(distorted)``, equation 3.4 of the report.

    A call gives ``(f_y, f_x)`` in px at the coordinates ``(y, x)`` of a distorted image.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns of the detector.
    barrel : float
        Radial distortion of third order: each component of f reaches this many px, of either sign,
        in the corners.
    features : tuple of Feature
        Local distortions that are added.

    Raises
    ------
    InputError
        A distortion so steep that it might fold the image over itself.

    Examples
    --------
    >>> bent = Distortion((101, 201), barrel=3.0)
    >>> f_y, f_x = bent(np.array([50.0, 100.0]), np.array([100.0, 200.0]))
    >>> f_y, f_x
    (array([0., 3.]), array([0., 3.]))
    """

    shape: tuple[int, int]
    barrel: float = 0.0
    features: tuple[Feature, ...] = field(default=())

    def __post_init__(self) -> None:
        # Largest gradients: 3 r^2 of the cubic in the corner, and the inflection of a Gaussian.
        steepness = 6 * abs(self.barrel) / min(self.shape)
        for feature in self.features:
            if not feature.width > 0:
                raise InputError(f"a feature is {feature.width} px wide", "Give more than 0.")
            steepness += float(np.hypot(*feature.shift)) * FWHM * np.exp(-0.5) / feature.width
        if not steepness < STEEPEST:
            raise InputError(
                f"the distortion changes by up to {steepness:.2g} px per px",
                f"Give smaller or wider features: above {STEEPEST} px per px the image may fold.",
            )

    def __call__(self, y: Any, x: Any) -> tuple[Floats, Floats]:
        """Distortion ``(f_y, f_x)`` in px at coordinates ``(y, x)``, arrays that broadcast."""
        y, x = np.broadcast_arrays(np.asarray(y, np.float64), np.asarray(x, np.float64))
        half_y, half_x = ((length - 1) / 2 for length in self.shape)
        v, w = (y - half_y) / half_y, (x - half_x) / half_x
        radius = ((y - half_y) ** 2 + (x - half_x) ** 2) / (half_y**2 + half_x**2)
        f_y, f_x = self.barrel * radius * v, self.barrel * radius * w
        for feature in self.features:
            sigma = feature.width / FWHM
            away = (y - feature.center[0]) ** 2 + (x - feature.center[1]) ** 2
            bump = np.exp(-away / (2 * sigma**2))
            f_y, f_x = f_y + feature.shift[0] * bump, f_x + feature.shift[1] * bump
        return np.asarray(f_y), np.asarray(f_x)

    def distorted(self, y: Any, x: Any) -> tuple[Floats, Floats]:
        """Position in the distorted image of true coordinates ``(y, x)``, px: the inverse."""
        y, x = np.asarray(y, np.float64), np.asarray(x, np.float64)
        at_y, at_x = y, x
        # The gradient is below STEEPEST, so that each round at least halves the misfit.
        for _ in range(60):
            f_y, f_x = self(at_y, at_x)
            left = max(np.abs(y - f_y - at_y).max(), np.abs(x - f_x - at_x).max())
            at_y, at_x = y - f_y, x - f_x
            if left < 1e-10:
                break
        return np.asarray(at_y), np.asarray(at_x)


@dataclass(frozen=True)
class MeshScan:
    """A simulated mesh scan of a detector and the truth behind it.

    Attributes
    ----------
    scan : xarray.Dataset
        Frames ``image(frame, y, x)`` in counts with the motors ``dety`` and ``detx`` in m.
    distortion : Distortion
        Of the detector.
    matrix : ndarray, shape (2, 2)
        Movement of the detector in pixels (y, x) per metre of each motor (y, x). The pixels are
        those of an undistorted detector.
    positions : ndarray, shape (frame, 2)
        True position (y, x) of the detector in each frame, in undistorted pixels: the requested
        position plus the error of the stage.
    """

    scan: xr.Dataset
    distortion: Distortion
    matrix: Floats
    positions: Floats

    def truth(self, valid: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
        """Distortion and matrix in the gauge of a calibration: no affine part in the maps.

        Parameters
        ----------
        valid : ndarray of bool, shape (y, x)
            Pixels over which the affine part is fitted and taken out.

        Returns
        -------
        f_y, f_x : ndarray, shape (y, x)
            Distortion in px.
        matrix : ndarray, shape (2, 2)
            Movement of the detector in px per metre, in this gauge.
        """
        y, x = np.mgrid[: self.distortion.shape[0], : self.distortion.shape[1]]
        f_y, f_x, change = without_affine(*self.distortion(y, x), valid)
        return f_y, f_x, change @ self.matrix

    def write(self, folder: str | Path) -> None:
        """Write the frames as EDF files ``mesh_0000.edf``, with the motors in mm in the headers.

        Parameters
        ----------
        folder : path
            Folder to write to. It is created, and must not hold EDF files.

        Raises
        ------
        FileError
            The folder already holds EDF files.
        """
        motors = {name: 1e3 * self.scan[name].values for name in MOTORS}
        frames = np.clip(self.scan[IMAGE.name].values, 0, np.iinfo(np.uint16).max)
        FrameWriter(folder, file_format="edf").write(
            "mesh",
            (
                Exposure(image, {name: float(motors[name][number]) for name in MOTORS})
                for number, image in enumerate(np.rint(frames).astype(np.uint16))
            ),
        )


def mesh_scan(
    distortion: Distortion,
    *,
    positions: tuple[int, int] = (5, 5),
    step: float | tuple[float, float] = 20.0,
    pixel_size: float | tuple[float, float] = 0.65e-6,
    rotation: float = 0.0,
    shear: float = 0.0,
    backward: tuple[bool, bool] = (False, False),
    jitter: float = 0.0,
    readback: bool = True,
    grain: float = 4.0,
    contrast: float = 0.25,
    counts: float = 8000.0,
    noise: bool = True,
    frames: Sequence[int] | None = None,
    seed: int = 0,
) -> MeshScan:
    """Simulate a mesh scan: the detector moves through a fixed speckle pattern.

    A frame is the speckle at ``p + f(p) + d``, where d is the position of the detector. The
    pattern is evaluated there and not resampled, so that the distortion is known exactly.

    Parameters
    ----------
    distortion : Distortion
        Distortion of the detector; it also gives the shape of the frames.
    positions : (int, int), default (5, 5)
        Positions of the grid along the motors (y, x); the motor x is the fast one.
    step : float or (float, float), default 20
        Step of the grid in px of an undistorted detector.
    pixel_size : float or (float, float), default 0.65e-6
        Pitch of the undistorted pixels along (y, x), m.
    rotation : float, default 0
        Angle of the motor axes against the pixel axes, rad; positive turns +x toward +y.
    shear : float, default 0
        Angle of the motor x beyond that of the motor y, rad.
    backward : (bool, bool), default (False, False)
        Whether the motors (y, x) run against their axes.
    jitter : float, default 0
        Standard deviation of the error of the stage along both axes, px.
    readback : bool, default True
        Whether the recorded motors are the true positions (an encoder); otherwise they are the
        requested positions.
    grain, contrast, counts, noise
        As in `displaced_pair`.
    frames : sequence of int, optional
        Numbers of the grid positions to record, in this order; by default all, row by row.
    seed : int, default 0
        Seed of the random numbers.

    Returns
    -------
    MeshScan

    Examples
    --------
    >>> mesh = mesh_scan(Distortion((32, 32)), positions=(2, 2), step=3.0, noise=False)
    >>> mesh.scan.image.shape
    (4, 32, 32)
    """
    pitch = np.broadcast_to(np.asarray(pixel_size, np.float64), 2)
    steps = np.broadcast_to(np.asarray(step, np.float64), 2)
    turn_y, turn_x = rotation - shear / 2, rotation + shear / 2
    axes = np.array([[np.cos(turn_y), np.sin(turn_x)], [-np.sin(turn_y), np.cos(turn_x)]])
    matrix = axes / pitch[:, None] * np.where(backward, -1.0, 1.0)
    places = np.stack(
        [index.ravel() for index in np.meshgrid(*map(np.arange, positions), indexing="ij")], axis=1
    )
    # In metres along the motors, about the middle of the grid.
    asked = (places - (np.array(positions) - 1) / 2) * steps * pitch
    missed = np.random.default_rng([seed, 2]).normal(0, jitter, asked.shape)
    shifts = asked @ matrix.T + missed
    recorded = shifts @ np.linalg.inv(matrix).T if readback else asked
    order = np.arange(len(places)) if frames is None else np.asarray(frames, np.intp)
    reach = np.abs(shifts).max() + max(abs(part) for part in _reach(distortion))
    speckle = speckle_field(
        max(distortion.shape) + 2 * int(np.ceil(reach)) + 2,
        grain=grain,
        contrast=contrast,
        seed=seed,
    )
    y, x = np.mgrid[: distortion.shape[0], : distortion.shape[1]].astype(np.float64)
    f_y, f_x = distortion(y, x)
    images = np.empty((len(order), *distortion.shape), np.float32)
    for image, number in zip(images, order, strict=True):
        d_y, d_x = shifts[number]
        expected = counts * speckle(y + f_y + d_y, x + f_x + d_x)
        rng = np.random.default_rng([seed, 1, int(number)])
        image[...] = rng.poisson(expected) if noise else expected
    motors = {
        name: (FRAME, recorded[order, axis], {UNITS: METRE, LONG_NAME: name, ROLE: MOTOR})
        for axis, name in enumerate(MOTORS)
    }
    scan = xr.Dataset({IMAGE.name: labelled(images, IMAGE)}, coords=motors)
    return MeshScan(scan, distortion, matrix, shifts[order])


def _reach(distortion: Distortion) -> tuple[float, ...]:
    """Distortions in the corners and at the features: about the largest values."""
    rows, columns = distortion.shape
    corners = distortion(np.array([0.0, rows - 1]), np.array([0.0, columns - 1]))
    bumps = [part for feature in distortion.features for part in feature.shift]
    return (*np.ravel(corners).tolist(), *bumps)
