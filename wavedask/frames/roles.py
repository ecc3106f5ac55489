"""Roles: which frames of a scan are dark, flat, reference or sample, by declared conditions."""

import difflib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from wavedask.conventions import FRAME, MOTOR, ROLE, SOURCE_FILE
from wavedask.errors import InputError, MotorError
from wavedask.frames.conditions import Mask, frames_where
from wavedask.frames.motors import ROUNDING, rounded

Value: TypeAlias = float | str
"""What a header item or a coordinate is: a number, or a text that may have wildcards."""
Conditions: TypeAlias = str | Mapping[str, Value]
"""A condition as of `wavedask.select`; or values by name, all of which must be met."""

WHERE: Final = "where"
"""Name, among values, of a condition as of `wavedask.select`."""
FILES: Final = "files"
"""Name, among values, of a pattern for the name of the file that a frame is in."""


def select_roles(scan: xr.Dataset, roles: Mapping[str, Conditions]) -> dict[str, xr.Dataset]:
    """Split a scan into the frames of each role.

    Parameters
    ----------
    scan : xarray.Dataset
        As of `wavedask.open_scan`.
    roles : mapping of str to (str or mapping)
        Conditions by role. A text is a condition for `wavedask.select`, such as
        ``"abs(lens_x + 8) < 0.01 and shutter == 'OPEN'"``, on motors, counters and header items.
        A mapping holds values by name, and a frame must meet all: a number for a coordinate or
        ``image_key``, a text with the wildcards ``*`` and ``?`` for a header item, under ``files``
        such a text for the name of the frame's file, with as many of its folders as the text has
        (``dark/*.edf``), and under ``where`` a condition.

    Returns
    -------
    dict of str to xarray.Dataset
        Frames of each role in the order of the scan, lazy. A motor that did not move within a role
        is a scalar, as in a separate scan.

    Raises
    ------
    InputError
        If a condition fits no frame or cannot be read, if a named item does not exist, or if a
        frame fits two roles.
    MotorError
        If a condition names an unknown coordinate, or a position that it needs is not known.

    Examples
    --------
    >>> import tempfile, numpy as np, tifffile
    >>> from wavedask.io import open_scan
    >>> folder = tempfile.TemporaryDirectory()
    >>> for number in range(4):
    ...     tifffile.imwrite(f"{folder.name}/{number}.tif", np.zeros((4, 5), "uint16"))
    >>> scan = open_scan(folder.name, motors={"lens_x": [-8.0, 0.01, 0.51, 1.0]})
    >>> found = select_roles(scan, {"reference": {"lens_x": -8}, "sample": "0 <= lens_x <= 1"})
    >>> {role: part.sizes["frame"] for role, part in found.items()}
    {'reference': 1, 'sample': 3}
    >>> folder.cleanup()
    """
    masks = {role: _mask(scan, conditions, role) for role, conditions in roles.items()}
    taken = np.full(scan.sizes[FRAME], "", dtype=object)
    for role, mask in masks.items():
        both = np.flatnonzero(mask & (taken != ""))
        if both.size:
            raise InputError(
                f"roles.{role} and roles.{taken[both[0]]} both fit {both.size} frames, the first is"
                f" frame {both[0]}",
                "Add a condition to one of them: a frame has one role.",
            )
        taken[mask] = role
    return {role: _collapsed(scan.isel({FRAME: mask})) for role, mask in masks.items()}


def _mask(scan: xr.Dataset, conditions: Conditions, role: str) -> Mask:
    """Frames that fit all conditions of a role; at least one."""
    given = {WHERE: conditions} if isinstance(conditions, str) else conditions
    if not given:
        raise InputError(f"roles.{role} has no condition", "Give one: the name of a motor, say.")
    mask: Mask = np.ones(scan.sizes[FRAME], bool)
    for name, wanted in given.items():
        where = f"roles.{role}" if isinstance(conditions, str) else f"roles.{role}.{name}"
        fits, found = (
            _that_hold(scan, str(wanted), where)
            if name == WHERE
            else _that_are(scan, name, wanted, where)
        )
        if not fits.any():
            raise InputError(f"{where} is {wanted!r}, which no frame fits", found)
        mask = mask & fits
    if not mask.any():
        raise InputError(
            f"roles.{role}: no frame fits all of {dict(given)!r}", "Each alone fits some."
        )
    return mask


def _that_hold(scan: xr.Dataset, condition: str, where: str) -> tuple[Mask, str]:
    """Frames for which a condition holds, and what there is for a message."""
    # Header items that do not change are attributes of the scan.
    constant = {
        str(name): str(value)
        for name, value in scan.attrs.items()
        if name not in scan.variables and name not in scan.dims
    }
    searched = scan.assign_coords(constant)
    try:
        mask, names = frames_where(searched, condition)
    except InputError as error:
        raise type(error)(f"{where}: {error.problem}", error.remedy) from None
    values = {name: _known(searched, name, where) for name in sorted(names)}
    found = (f"{name} is one of {_found(its)}" for name, its in values.items())
    return mask, f"There, {'; '.join(found)}."


def _that_are(scan: xr.Dataset, name: str, wanted: Value, where: str) -> tuple[Mask, str]:
    """Frames with a value, and what there is for a message."""
    depth = 1
    if name == FILES and isinstance(wanted, str):
        # As many folders of each file as the pattern has.
        wanted, depth = str(PurePath(wanted)), max(len(PurePath(wanted).parts), 1)
    values = _values(scan, name, where, depth=depth)
    return _fits(values, name, wanted, where), f"There are {_found(values)}."


def _known(scan: xr.Dataset, name: str, where: str) -> npt.NDArray[Any]:
    """Return a coordinate for every frame, and refuse unknown positions."""
    coord = scan[name]
    values = np.broadcast_to(coord.values, (scan.sizes[FRAME],))
    if coord.attrs.get(ROLE) == MOTOR and np.isnan(values).any():
        raise MotorError(
            f"{where}: the position of {name!r} is unknown in {np.isnan(values).sum()} frames,"
            f" the first is frame {np.flatnonzero(np.isnan(values))[0]}",
            "Give the positions with motors, or use a condition on something else.",
        )
    return values


def _values(scan: xr.Dataset, name: str, where: str, *, depth: int = 1) -> npt.NDArray[Any]:
    """Value of a coordinate or header item for every frame; of a file the end of its path."""
    if name == FILES:
        paths = map(PurePath, scan[SOURCE_FILE].values.tolist())
        return np.array([str(PurePath(*path.parts[-depth:])) for path in paths])
    if name in scan.coords and scan[name].dims in ((), (FRAME,)):
        return _known(scan, name, where)
    if name in scan.attrs:
        return np.full(scan.sizes[FRAME], str(scan.attrs[name]))
    known = [str(key) for key in (*scan.coords, *scan.attrs) if key not in scan.dims]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    raise InputError(
        f"{where}: the scan has no {name!r}",
        f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(sorted(known))} and {FILES}.",
    )


def _fits(values: npt.NDArray[Any], name: str, wanted: Value, where: str) -> Mask:
    numeric = values.dtype.kind in "iufb"
    if isinstance(wanted, str) and not numeric:
        return np.array([fnmatchcase(str(value), wanted) for value in values])
    if numeric and not isinstance(wanted, str):
        asked = rounded(np.asarray(wanted, np.float64), values.dtype)
        return np.asarray(np.isclose(values, asked, rtol=ROUNDING, atol=0), bool)
    if numeric:
        raise InputError(
            f"{where} is {wanted!r}, but its values are numbers",
            f"Give a number, or a condition: where: 'abs({name} - 5) <= 0.1'.",
        )
    raise InputError(
        f"{where} is {wanted!r}, but its values are texts: {_found(values)}",
        "Give a text, which may have the wildcards * and ?.",
    )


def _found(values: npt.NDArray[Any]) -> str:
    """Format some of the values for a message."""
    if values.dtype.kind in "iufb":
        known = np.unique(values[np.isfinite(values)])
        several = ", ".join(f"{value:g}" for value in known[:5])
        return several if len(known) <= 5 else f"{several}, ... {known[-1]:g}"
    words = list(dict.fromkeys(map(str, values)))
    return ", ".join(map(repr, words[:5])) + (", ..." if len(words) > 5 else "")


def _collapsed(scan: xr.Dataset) -> xr.Dataset:
    """Turn numbers that are equal in all frames into scalars, as `open_scan` does."""
    constant = {
        name: coord.variable.isel({FRAME: 0})
        for name, coord in scan.coords.items()
        if coord.dims == (FRAME,)
        and ROLE in coord.attrs
        and coord.dtype.kind == "f"
        and (coord.values == coord.values[0]).all()
    }
    return scan.drop_vars(constant).assign_coords(constant)
