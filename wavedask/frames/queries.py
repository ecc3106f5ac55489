"""Find frames by motor positions: conditions, nearest positions, a table of motors."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import COUNTER, FRAME, MOTOR, ROLE, UNITS, UNKNOWN_UNIT
from wavedask.errors import InputError, MotorError
from wavedask.frames.conditions import coordinate_of, frames_where
from wavedask.frames.motors import listed, rounded
from wavedask.frames.picking import pick_frames

Labelled = TypeVar("Labelled", xr.Dataset, xr.DataArray)


def select(data: Labelled, condition: str) -> Labelled:
    """Pick the frames for which a condition on their coordinates holds.

    The condition is parsed by wavedask; nothing in it is executed.

    Parameters
    ----------
    data : xarray.Dataset or xarray.DataArray
        A scan or a result, with the dimension ``frame``.
    condition : str
        For example ``"17 < energy < 18 and lens_x > 0"``. Allowed are comparisons, also chained;
        ``and``, ``or``, ``not``; ``in`` a list; ``+ - * /`` and ``abs()``; parentheses. Names are
        coordinates, and variables with one number per frame such as the ``radius`` of a lens, in
        their own units; put a name that is not a word in backquotes. Write texts and times in
        quotes. Numbers compare in the precision of the coordinate: a motor in single precision at
        0.1 equals 0.1.

    Returns
    -------
    same type as `data`
        The frames for which it holds, in their order; possibly none. Lazy if `data` is: only
        coordinates, and the numbers that the condition names, are read.

    Raises
    ------
    InputError
        A condition that cannot be read, an unknown coordinate (the message names the nearest), or
        two sides that cannot be compared, such as times with and without a time zone.

    Examples
    --------
    >>> scan = xr.Dataset(
    ...     coords={"energy": ("frame", [17.0, 17.5, 18.0]), "lens_x": ("frame", [1.0, 1.0, -1.0])}
    ... )
    >>> select(scan, "17 < energy <= 18 and lens_x > 0").energy.values
    array([17.5])
    """
    _check_frames(data)
    mask, _ = frames_where(data, condition)
    return pick_frames(data, np.flatnonzero(mask))


def nearest(
    data: Labelled, /, *, tolerance: float | Mapping[str, float] | None = None, **positions: float
) -> Labelled:
    """Pick the frame that was taken nearest to a position.

    Parameters
    ----------
    data : xarray.Dataset or xarray.DataArray
        A scan or a result, with the dimension ``frame``.
    tolerance : float or mapping of str to float, optional
        Largest difference, in the unit of the motors: for all of them, or by name.
    **positions : float
        Position of one motor or several, in the unit of its coordinate.

    Returns
    -------
    same type as `data`
        One frame, without the dimension ``frame``; the first of several at the same distance. Lazy
        if `data` is.

    Raises
    ------
    MotorError
        A motor that is not there or is not a number, or no frame within the tolerance: the
        message names the nearest.
    InputError
        No motor, no frame, a position that is not a finite number, or a tolerance that is not
        positive.

    Notes
    -----
    With several motors the squared distances are added, each in units of its tolerance. Without a
    tolerance, motors of one unit have equal weight; otherwise each is divided by its range.

    Examples
    --------
    >>> scan = xr.Dataset(coords={"lens_x": ("frame", [0.0, 0.101, 0.199])})
    >>> nearest(scan, lens_x=0.1, tolerance=0.01).lens_x.item()
    0.101
    """
    _check_frames(data)
    if not positions or not data.sizes[FRAME]:
        raise InputError(
            f"nearest to {positions or 'nothing'} in {data.sizes[FRAME]} frames",
            "Name a motor and its position, as in lens_x=0.1, and give data with frames.",
        )
    there = {name: _numbers(data, name) for name in positions}
    positions = {
        name: float(rounded(np.asarray(_finite(name, position)), data.coords[name].dtype))
        for name, position in positions.items()
    }
    limits = _limits(tolerance, positions)
    differences = {name: there[name] - position for name, position in positions.items()}
    scales = limits or _scales(data, there)
    distances = np.sqrt(sum((differences[name] / scales[name]) ** 2 for name in positions))
    if np.isnan(distances).all():
        raise MotorError(f"{', '.join(positions)}: no position in any frame", "Give other motors.")
    best = int(np.nanargmin(distances))
    if any(abs(differences[name][best]) > limit for name, limit in limits.items()):
        wanted = listed([*positions.values()], [*positions])
        found = listed([there[name][best] for name in positions], [*positions])
        raise MotorError(
            f"no frame is within {limits} of {wanted}",
            f"The nearest is frame {best} at {found}: give that, or a larger tolerance.",
        )
    return data.isel({FRAME: best})


def where_motors(data: xr.Dataset | xr.DataArray) -> pd.DataFrame:
    """List the motors and counters of a scan or a result, with their ranges.

    Parameters
    ----------
    data : xarray.Dataset or xarray.DataArray
        A scan or a result.

    Returns
    -------
    pandas.DataFrame
        One row for each motor and counter; those that changed come first. Columns:
        ``units``, ``role``, ``first``, ``last`` (of the frames), ``lowest``, ``highest`` (NaN
        where no position is known) and ``values``, the number of different positions.

    Examples
    --------
    >>> attrs = {"units": "mm", "role": "motor"}
    >>> scan = xr.Dataset(
    ...     coords={"lens_y": ((), 2.0, attrs), "lens_x": ("frame", [0.0, 0.1, 0.2], attrs)}
    ... )
    >>> print(where_motors(scan)[["units", "lowest", "highest", "values"]])
           units  lowest  highest  values
    lens_x    mm     0.0      0.2       3
    lens_y    mm     2.0      2.0       1
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, coord in data.coords.items():
        if coord.attrs.get(ROLE) not in (MOTOR, COUNTER) or coord.dtype.kind not in "biuf":
            continue
        values = np.asarray(coord.values, np.float64).ravel()
        known = np.unique(values[np.isfinite(values)])
        rows[str(name)] = {
            "units": str(coord.attrs.get(UNITS, UNKNOWN_UNIT)),
            "role": str(coord.attrs[ROLE]),
            "first": values[0] if values.size else np.nan,
            "last": values[-1] if values.size else np.nan,
            "lowest": known[0] if known.size else np.nan,
            "highest": known[-1] if known.size else np.nan,
            "values": known.size,
        }
    columns = ["units", "role", "first", "last", "lowest", "highest", "values"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return table.loc[sorted(table.index, key=lambda name: (rows[name]["values"] < 2, name))]


def _check_frames(data: xr.Dataset | xr.DataArray) -> None:
    if FRAME not in data.dims:
        raise InputError(
            f"the data has no dimension {FRAME!r}: its dimensions are {tuple(map(str, data.dims))}",
            "Query a scan or a result before a single frame is taken, or before it is a grid.",
        )


def _finite(name: str, position: Any) -> float:
    """Check a position that was asked for."""
    try:
        number = float(position)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise InputError(f"{name} is {position!r}", "Give one finite number, in its unit.")
    return number


def _numbers(data: xr.Dataset | xr.DataArray, name: str) -> NDArray[np.float64]:
    """Positions of a motor at every frame."""
    coord = coordinate_of(data, name)
    if coord.dtype.kind not in "biuf":
        raise MotorError(
            f"coordinate {name!r} is {coord.dtype}, not a number", "Give a motor or a counter."
        )
    return np.broadcast_to(np.asarray(coord.values, np.float64), (data.sizes[FRAME],))


def _limits(
    tolerance: float | Mapping[str, float] | None, positions: Mapping[str, float]
) -> dict[str, float]:
    """Tolerance of each motor; empty if there is none."""
    if tolerance is None:
        return {}
    by_name = tolerance if isinstance(tolerance, Mapping) else dict.fromkeys(positions, tolerance)
    try:
        limits = {name: float(limit) for name, limit in by_name.items()}
    except (TypeError, ValueError):
        limits = {}
    if set(limits) != set(positions) or not all(limit > 0 for limit in limits.values()):
        raise InputError(
            f"tolerance is {tolerance!r} for {', '.join(positions)}",
            "Give a positive number, or one for each of these motors: {'lens_x': 0.01, ...}.",
        )
    return limits


def _scales(
    data: xr.Dataset | xr.DataArray, there: Mapping[str, NDArray[np.float64]]
) -> dict[str, float]:
    """Find the scales that make different motors comparable without a tolerance."""
    units = {data.coords[name].attrs.get(UNITS, UNKNOWN_UNIT) for name in there}
    if len(units) == 1:
        return dict.fromkeys(there, 1.0)
    ranges = {
        name: float(np.nanmax(values) - np.nanmin(values)) if np.isfinite(values).any() else 0.0
        for name, values in there.items()
    }
    return {name: width or 1.0 for name, width in ranges.items()}
