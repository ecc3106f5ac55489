"""Axes of a membrane scan: its motors, the order of frames, and the steps along the detector."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import X, Y
from wavedask.errors import InputError, MotorError
from wavedask.frames import listed, metres_per_unit, names_of, paired_frames, positions, scan_grid

Pair = tuple[int, int]
Floats = NDArray[np.float64]

AXES: Final = (Y, X)
LEAST_POSITIONS: Final = 7
"""Smallest number of positions along a motor: with fewer, a delay leaves no overlap."""
SAME_POSITION: Final = 0.25
"""Default tolerance of a pair of frames, in steps."""


@dataclass(frozen=True, slots=True)
class ScanAxes:
    """A scan along one or both axes of the detector.

    Attributes
    ----------
    motors : tuple of str
        One motor, or those along (y, x).
    order : ndarray of int, shape (frames,)
        Frames in the order of the positions, those along x first.
    shape : (int, int)
        Number of positions along (y, x); 1 for an axis that was not scanned.
    steps : (float, float)
        Steps of the membrane along (y, x), m: negative if a motor runs against the axis, 0 for an
        axis that was not scanned.
    lengths : tuple of float
        Length of the unit of each motor, m.
    signs : (int, int)
        Direction of the motors.
    """

    motors: tuple[str, ...]
    order: NDArray[np.intp]
    shape: Pair
    steps: tuple[float, float]
    lengths: tuple[float, ...]
    signs: Pair

    @property
    def scanned(self) -> tuple[int, ...]:
        """The axes that were scanned: 0 for y, 1 for x."""
        return tuple(axis for axis in (0, 1) if self.shape[axis] > 1)

    @property
    def line(self) -> bool:
        """Whether one motor was scanned."""
        return len(self.scanned) == 1


def scan_axes(
    images: xr.DataArray,
    *,
    motor: str | tuple[str, str],
    axis: str | None = None,
    direction: int | Pair = 1,
) -> ScanAxes:
    """Find the order and the steps of a scan.

    Parameters
    ----------
    images : xarray.DataArray, dims (frame, y, x)
        Frames, with their motors as coordinates.
    motor, axis, direction
        As of `wavedask.track_scan`.

    Returns
    -------
    ScanAxes

    Raises
    ------
    MotorError
        Positions that are not equally spaced, missing, repeated or too few; a unit that is not a
        length.
    InputError
        An axis that is unknown or not y or x; a direction that is not 1 or -1.

    Examples
    --------
    >>> coords = {"diffuser_x": ("frame", np.arange(8.0)[::-1], {"units": "um"})}
    >>> frames = xr.DataArray(np.zeros((8, 1, 1)), dims=("frame", "y", "x"), coords=coords)
    >>> axes = scan_axes(frames, motor="diffuser_x")
    >>> axes.shape, axes.order[:2].tolist(), f"{axes.steps[1]:g} m"
    ((1, 8), [7, 6], '1e-06 m')
    """
    motors = names_of(motor, argument="motor")
    if len(motors) > 2:
        raise InputError(f"motor is {motor!r}", "Name one motor, or two: along (y, x).")
    read = positions(images, motors, name="scan")
    lengths = tuple(metres_per_unit(images, name, name="scan") for name in motors)
    signs = _signs(direction)
    if len(motors) == 1:
        along = _axis(motors[0], axis)
        # scan_grid needs two motors: repeat the line at two positions of another.
        mesh = np.stack([np.repeat(read[:, 0], 2), np.tile([0.0, 1.0], len(read))], axis=1)
        grid = scan_grid(mesh, names=(motors[0], ""))
        places = grid.places[::2, :1]
    else:
        if axis is not None:
            raise InputError(f"axis is {axis!r} with two motors", "Leave it out: they are (y, x).")
        along = 0
        grid = scan_grid(read, names=(motors[0], motors[1]))
        places = grid.places
    counts, found = grid.shape[: len(motors)], grid.step[: len(motors)]
    _check_complete(read, places, counts, motors)
    shape, steps = [1, 1], [0.0, 0.0]
    for number, (count, step, length) in enumerate(zip(counts, found, lengths, strict=True)):
        shape[along + number] = count
        steps[along + number] = step * length * signs[along + number]
    order = np.lexsort(places.T[::-1])
    return ScanAxes(motors, order, (shape[0], shape[1]), (steps[0], steps[1]), lengths, signs)


def counterparts(
    sample: xr.DataArray,
    reference: xr.DataArray,
    axes: ScanAxes,
    *,
    tolerance: float | Sequence[float] | None = None,
) -> tuple[xr.DataArray, tuple[float, float]]:
    """Pick the reference frames of a scan, in the order of those of the sample.

    Parameters
    ----------
    sample, reference : xarray.DataArray, dims (frame, y, x)
        Two scans over the same positions.
    axes : ScanAxes
        Of the sample.
    tolerance : float or sequence of float, optional
        As of `wavedask.track_scan`.

    Returns
    -------
    reference : xarray.DataArray, dims (frame, y, x)
    offset : (float, float)
        Mean position of the sample minus that of the reference along (y, x), m of the motors.

    Raises
    ------
    MotorError
        Positions that the two do not share.
    """
    if tolerance is None:
        steps = [abs(axes.steps[axis]) for axis in axes.scanned]
        tolerance = [
            SAME_POSITION * step / length for step, length in zip(steps, axes.lengths, strict=True)
        ]
    others = paired_frames(
        sample, reference, motors=axes.motors, tolerance=tolerance, one_to_one=True
    )
    both = [positions(images, axes.motors, name="scan") for images in (sample, others)]
    mean = (both[0] - both[1]).mean(axis=0)
    offset = [0.0, 0.0]
    for axis, value, length in zip(axes.scanned, mean.tolist(), axes.lengths, strict=True):
        offset[axis] = value * length
    return others, (offset[0], offset[1])


def _axis(motor: str, axis: str | None) -> int:
    """Return the axis along which a single motor moves the membrane."""
    named = motor[-1] if axis is None else axis
    if named in AXES:
        return AXES.index(named)
    if axis is None:
        raise InputError(
            f"motor {motor!r} does not say along which axis of the detector it moves the membrane",
            f"Give axis={Y!r} or axis={X!r}.",
        )
    raise InputError(f"axis is {axis!r}", f"Give {Y!r} or {X!r}.")


def _signs(direction: Any) -> Pair:
    signs = np.asarray(direction)
    if signs.shape not in ((), (2,)) or not np.isin(signs, (-1, 1)).all():
        raise InputError(
            f"direction is {direction!r}", "Give 1 or -1, or one for each axis (y, x)."
        )
    along_y, along_x = np.broadcast_to(signs, 2).tolist()
    return int(along_y), int(along_x)


def _check_complete(
    read: Floats, places: NDArray[np.intp], counts: tuple[int, ...], motors: tuple[str, ...]
) -> None:
    for motor, count in zip(motors, counts, strict=True):
        if count < LEAST_POSITIONS:
            raise MotorError(
                f"motor {motor!r} has {count} positions",
                f"A scan needs {LEAST_POSITIONS} or more along each motor.",
            )
    number = np.ravel_multi_index(tuple(places.T), counts)
    taken = np.bincount(number, minlength=int(np.prod(counts)))
    if (taken > 1).any():
        twice = read[np.isin(number, np.flatnonzero(taken > 1))]
        raise MotorError(
            f"the scan has several frames at {listed(twice, motors)}",
            "Leave one for each position; wavedask.combine averages exposures.",
        )
    if (taken == 0).any():
        lost = np.stack(np.unravel_index(np.flatnonzero(taken == 0), counts), axis=1)
        fit = [np.polyfit(places[:, k], read[:, k], 1) for k in range(len(motors))]
        where = np.stack([np.polyval(line, lost[:, k]) for k, line in enumerate(fit)], axis=1)
        raise MotorError(
            f"the scan has no frame at {listed(where, motors)}",
            "Give a scan over all positions of its grid, or the part of it that is whole.",
        )
