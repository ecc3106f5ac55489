"""Turn the frames of a mesh scan into two dimensions, one for each motor."""

import logging
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import (
    COMPLETE,
    FRAME,
    FRAME_COUNT,
    FRAME_NUMBER,
    LONG_NAME,
    UNITS,
    UNKNOWN_UNIT,
)
from wavedask.errors import InputError, MotorError
from wavedask.frames.images import dataset_of
from wavedask.frames.motors import listed, positions
from wavedask.frames.picking import pick_frames
from wavedask.frames.scangrid import SPLIT, lines

NO_FRAME: Final = -1

_logger = logging.getLogger("wavedask")


@dataclass(frozen=True, slots=True)
class _Cells:
    """Positions of frames on the mesh."""

    centers: tuple[NDArray[np.float64], ...]
    number: NDArray[np.intp]
    count: NDArray[np.intp]


def grid(
    data: xr.Dataset,
    motor_y: str,
    motor_x: str,
    *,
    tolerance: float | tuple[float, float] | None = None,
) -> xr.Dataset:
    """Turn the frames of a mesh scan into two dimensions, named by its motors.

    The lines need not be equally spaced, and frames may come in any order. If several frames have
    one position, the last is taken. A position without a frame holds NaN (an empty text, False in
    ``complete``). Both cases are logged as warnings and counted in the result.

    Parameters
    ----------
    data : xarray.Dataset
        A scan or a result, with the dimension ``frame``.
    motor_y, motor_x : str
        Motors of the mesh: coordinates along ``frame``.
    tolerance : float or (float, float), optional
        Readings of a motor that are farther apart than this belong to different lines, in the unit
        of the motor; one value for both or one for each. By default 0.3 of the widest gap between
        neighbouring readings, which suits lines at about equal distances.

    Returns
    -------
    xarray.Dataset
        Variables with the dimensions (`motor_y`, `motor_x`) instead of ``frame``. Lazy variables
        stay lazy; nothing is computed or read. The coordinates of the two dimensions are the mean
        readings of the motors on each line. ``frame_number`` is the number of the frame at each
        position, -1 for none, and ``frame_count`` the number of frames there. Integers become
        floating point if a position has no frame.

    Raises
    ------
    MotorError
        A motor that is missing, is not a number, did not move, or has no position in some frame.
    InputError
        No dataset, one without frames, one motor given twice, or a tolerance that is not positive.

    Examples
    --------
    >>> scan = xr.Dataset(
    ...     {"tilt": ("frame", [1.0, 2.0, 3.0])},
    ...     {"lens_y": ("frame", [0.0, 0.01, 1.0]), "lens_x": ("frame", [0.0, 5.0, 5.01])},
    ... )
    >>> mesh = grid(scan, "lens_y", "lens_x")
    >>> mesh.tilt.values
    array([[ 1.,  2.],
           [nan,  3.]])
    >>> mesh.frame_number.values.tolist()
    [[0, 1], [-1, 2]]
    """
    names = (motor_y, motor_x)
    if motor_y == motor_x or not dataset_of(data).sizes.get(FRAME):
        raise InputError(
            f"a grid of {motor_y!r} and {motor_x!r} of {data.sizes.get(FRAME, 0)} frames",
            "Name two motors, and give data with frames.",
        )
    cells = _cells(data, names, tolerance)
    _report(cells, names)
    order = np.maximum(cells.number.ravel(), 0)
    gap = xr.Variable(names, cells.number == NO_FRAME)
    shape = dict(zip(names, cells.number.shape, strict=True))
    picked = pick_frames(data.drop_vars(names), order)
    variables = {
        name: _filled(_folded(variable, shape), gap) if FRAME in variable.dims else variable
        for name, variable in picked.variables.items()
    }
    result = xr.Dataset(variables, attrs=data.attrs).set_coords(
        [name for name in picked.coords if name in variables]
    )
    return result.assign_coords(
        {
            **{
                name: xr.Variable((name,), values, _attrs(data[name]))
                for name, values in zip(names, cells.centers, strict=True)
            },
            FRAME_NUMBER.name: (names, cells.number, FRAME_NUMBER.attrs),
            FRAME_COUNT.name: (names, cells.count, FRAME_COUNT.attrs),
        }
    )


def _attrs(motor: xr.DataArray) -> dict[str, Any]:
    return {UNITS: UNKNOWN_UNIT, LONG_NAME: str(motor.name), **motor.attrs}


def _cells(data: xr.Dataset, names: tuple[str, str], tolerance: Any) -> _Cells:
    """Sort frames into the cells of a mesh."""
    limits = tuple(tolerance) if isinstance(tolerance, (tuple, list)) else (tolerance, tolerance)
    if len(limits) != 2 or not all(limit is None or _is_positive(limit) for limit in limits):
        raise InputError(
            f"tolerance is {tolerance!r}", f"Give a positive number, or one each for {names}."
        )
    read = positions(data, names, name="the data")
    lined, centers = [], []
    for axis, (name, limit) in enumerate(zip(names, limits, strict=True)):
        widest = float(np.diff(np.sort(read[:, axis])).max(initial=0.0))
        if not widest:
            raise MotorError(f"motor {name!r} did not move", "Name a motor of the mesh.")
        line = lines(read[:, axis], apart=SPLIT * widest if limit is None else limit)
        lined.append(line)
        centers.append(np.bincount(line, read[:, axis]) / np.bincount(line))
    shape = tuple(center.size for center in centers)
    number = np.full(shape, NO_FRAME, np.intp)
    count = np.zeros(shape, np.intp)
    np.add.at(count, tuple(lined), 1)
    # One by one, so that of several frames in a cell the last stays.
    for frame, cell in enumerate(zip(*lined, strict=True)):
        number[cell] = frame
    return _Cells(tuple(centers), number, count)


def _is_positive(limit: Any) -> bool:
    try:
        return float(limit) > 0
    except (TypeError, ValueError):
        return False


def _report(cells: _Cells, names: tuple[str, str]) -> None:
    """Log positions without a frame, and those with several."""
    for found, words in ((cells.count == 0, "no frame"), (cells.count > 1, "several frames")):
        places = np.argwhere(found)
        if len(places):
            at = [[centers[k] for centers, k in zip(cells.centers, p, strict=True)] for p in places]
            _logger.warning(
                "%d of %d positions have %s: %s",
                len(places),
                found.size,
                words,
                listed(at, names),
            )


def _folded(variable: xr.Variable, shape: dict[str, int]) -> xr.Variable:
    """Replace the dimension frame by the two dimensions of the mesh."""
    order = [new for dim in variable.dims for new in ([*shape] if dim == FRAME else [dim])]
    # A coordinate called frame is an index, which has one dimension: only its values are kept.
    return variable.to_base_variable().unstack({FRAME: shape}).transpose(*order)


def _filled(variable: xr.Variable, gap: xr.Variable) -> xr.Variable:
    """Fill the positions without a frame."""
    if not gap.values.any():
        return variable
    order = variable.dims
    kind = variable.dtype.kind
    fill: Any = np.nan
    if kind in "OTU":
        fill = ""
    elif kind == "M":
        fill = np.datetime64("NaT")
    elif kind == "b" and variable.attrs.get(LONG_NAME) == COMPLETE.long_name:
        fill = False
    # xarray leaves the method untyped.
    filled: xr.Variable = variable.where(~gap, fill)  # type: ignore[no-untyped-call]
    return filled.transpose(*order)
