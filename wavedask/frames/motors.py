"""Positions of motors, read from the coordinates of frames."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import FRAME, METRE, UNITS, UNKNOWN_UNIT
from wavedask.errors import InputError, MotorError
from wavedask.units import conversion

Floats = NDArray[np.float64]

ROUNDING: Final = 1e-9
"""Relative difference of numbers that are written as the same."""


def names_of(motors: str | Sequence[str], *, argument: str) -> tuple[str, ...]:
    """Return the names of one motor or several.

    Raises
    ------
    InputError
        No name, or one of them twice.

    Examples
    --------
    >>> names_of("detx", argument="motors"), names_of(("dety", "detx"), argument="motors")
    (('detx',), ('dety', 'detx'))
    """
    try:
        names = (motors,) if isinstance(motors, str) else tuple(motors)
    except TypeError:
        names = ()
    if not names or len(set(names)) < len(names):
        raise InputError(f"{argument} is {motors!r}", "Name one motor, or several different ones.")
    return names


def positions(images: xr.DataArray | xr.Dataset, motors: Sequence[str], *, name: str) -> Floats:
    """Read the positions of motors at every frame.

    Parameters
    ----------
    images : xarray.DataArray or xarray.Dataset, dims ([frame], y, x)
        Frames, with a coordinate per motor: along ``frame``, or one value for all.
    motors : sequence of str
        Names of the motors.
    name : str
        What the images are, for the message.

    Returns
    -------
    ndarray of float64, shape (frames, motors)
        In the units of the coordinates.

    Raises
    ------
    MotorError
        A motor that the images do not have, that is not a number, or that has no finite position in
        some frame.

    Examples
    --------
    >>> frames = xr.DataArray(
    ...     np.zeros((2, 1, 1)), dims=("frame", "y", "x"), coords={"detx": ("frame", [0.5, 1.0])}
    ... )
    >>> positions(frames, ["detx"], name="sample").tolist()
    [[0.5], [1.0]]
    """
    count = images.sizes.get(FRAME, 1)
    columns = []
    for motor in motors:
        if motor not in images.coords or set(images[motor].dims) - {FRAME}:
            known = sorted(
                str(key)
                for key, coord in images.coords.items()
                if not set(coord.dims) - {FRAME} and coord.dtype.kind in "iuf"
            )
            raise MotorError(
                f"{name} has no motor {motor!r}; it has: {', '.join(known) or 'none'}",
                "Name one of these, or give positions: open_scan(..., motors={...}).",
            )
        if images[motor].dtype.kind not in "biuf":
            raise MotorError(
                f"coordinate {motor!r} of {name} is {images[motor].dtype}, not a number",
                "Name a motor or a counter.",
            )
        values = np.asarray(images[motor].to_numpy(), np.float64)
        if not np.isfinite(values).all():
            raise MotorError(
                f"motor {motor!r} of {name} has no position in some frame",
                "Leave that frame out, or give its position.",
            )
        columns.append(np.broadcast_to(values, (count,)))
    return np.stack(columns, axis=1)


def unit_of(images: xr.DataArray, motor: str) -> str:
    """Return the unit of a motor, ``unknown`` where there is none."""
    return str(images[motor].attrs.get(UNITS, UNKNOWN_UNIT))


def metres_per_unit(images: xr.DataArray, motor: str, *, name: str) -> float:
    """Return the length in m of one unit of a motor.

    Raises
    ------
    MotorError
        A unit that is not a length.

    Examples
    --------
    >>> scan = xr.DataArray(0.0, coords={"detx": ((), 1.0, {"units": "mm"})})
    >>> metres_per_unit(scan, "detx", name="scan")
    0.001
    """
    unit = unit_of(images, motor)
    factor = conversion(unit, METRE)
    if factor is None:
        raise MotorError(
            f"motor {motor!r} of {name} has the unit {unit!r}",
            "It must be a length, such as m, mm, um or nm: open_scan(..., units={...}).",
        )
    return factor


def rounded(readings: Floats, *kinds: np.dtype[Any]) -> Floats:
    """Round readings to the coarsest of some data types: 0.1 is another number in each.

    Parameters
    ----------
    readings : ndarray of float64
        Readings.
    *kinds : numpy.dtype
        Data types of what is compared.

    Returns
    -------
    ndarray of float64

    Examples
    --------
    >>> print(rounded(np.array(0.1), np.dtype("f8"), np.dtype("f4")))
    0.10000000149011612
    """
    floating = [kind for kind in kinds if kind.kind == "f"]
    if not floating:
        return readings
    coarsest = min(floating, key=lambda kind: np.finfo(kind).nmant)
    with np.errstate(over="ignore"):
        return readings.astype(coarsest).astype(np.float64)


def listed(places: Any, motors: Sequence[str]) -> str:
    """Format positions for a message; at most eight.

    Examples
    --------
    >>> listed([[0.5, 1.0], [2.0, 3.0]], ["dety", "detx"])
    '(dety 0.5, detx 1), (dety 2, detx 3)'
    """
    rows = np.asarray(places, np.float64).reshape(-1, len(motors)).tolist()
    shown = [
        "(" + ", ".join(f"{m} {value:g}" for m, value in zip(motors, row, strict=True)) + ")"
        for row in rows[:8]
    ]
    return ", ".join(shown) + (f" and {len(rows) - 8} more" if len(rows) > 8 else "")
