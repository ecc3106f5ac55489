"""Roles: which frames of a scan are dark, flat, reference or sample, by declared conditions."""

import difflib
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from wavedask.conventions import FRAME, MOTOR, ROLE, SOURCE_FILE
from wavedask.errors import InputError, MotorError

Condition: TypeAlias = float | str | tuple[float, float]
"""A number, ``"number ± tolerance"``, a range, or a text with wildcards."""
Conditions: TypeAlias = Mapping[str, Condition]
"""Condition by the name of a coordinate; all of them must hold."""

FILES: Final = "files"
"""Name of the condition on the name of the file that a frame is in."""
TOLERANCE: Final = re.compile(r"\s*(?P<value>[^±]+?)\s*(?:±|\+-|\+/-)\s*(?P<tolerance>\S+)\s*")
ROUNDING: Final = 1e-9
"""Relative difference of numbers that are written as the same."""

Mask: TypeAlias = npt.NDArray[np.bool_]


def select_roles(scan: xr.Dataset, roles: Mapping[str, Conditions]) -> dict[str, xr.Dataset]:
    """Split a scan into the frames of each role.

    Parameters
    ----------
    scan : xarray.Dataset
        As of `wavedask.open_scan`.
    roles : mapping of str to mapping
        Conditions by role. A condition is on a coordinate (a motor, a counter, a header item,
        ``image_key``), or under the name ``files`` on the name of the frame's file. It is a
        number; a text ``"5 ± 0.1"`` (or ``"5 +- 0.1"``), for a motor with noise; a pair
        ``(low, high)``, both included; or for texts a pattern with the wildcards ``*`` and ``?``.

    Returns
    -------
    dict of str to xarray.Dataset
        Frames of each role in the order of the scan, lazy. A motor that stood still among them is
        a scalar, as if they had been a scan of their own.

    Raises
    ------
    InputError
        If a condition names no coordinate, fits no frame, or cannot be read, or if a frame fits
        two roles.
    MotorError
        If the position that decides is not known.

    Examples
    --------
    >>> import tempfile, numpy as np, tifffile
    >>> from wavedask.io import open_scan
    >>> folder = tempfile.TemporaryDirectory()
    >>> for number in range(4):
    ...     tifffile.imwrite(f"{folder.name}/{number}.tif", np.zeros((4, 5), "uint16"))
    >>> scan = open_scan(folder.name, motors={"lens_x": [-8.0, 0.01, 0.51, 1.0]})
    >>> found = select_roles(scan, {"reference": {"lens_x": -8}, "sample": {"lens_x": (0, 1)}})
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
    if not conditions:
        raise InputError(f"roles.{role} has no condition", "Give one: the name of a motor, say.")
    mask: Mask = np.ones(scan.sizes[FRAME], bool)
    for name, condition in conditions.items():
        where = f"roles.{role}.{name}"
        values = _values(scan, name, where)
        fits = _fits(values, condition, where)
        if not fits.any():
            raise InputError(
                f"{where} is {condition!r}, which no frame fits", f"There are {_found(values)}."
            )
        mask &= fits
    if not mask.any():
        raise InputError(
            f"roles.{role}: no frame fits all of {dict(conditions)!r}", "Each alone fits some."
        )
    return mask


def _values(scan: xr.Dataset, name: str, where: str) -> npt.NDArray[Any]:
    """Value of a coordinate or header item for every frame."""
    if name == FILES:
        return np.array([Path(path).name for path in scan[SOURCE_FILE].values.tolist()])
    if name in scan.coords and scan[name].dims in ((), (FRAME,)):
        coord = scan[name]
        values = np.broadcast_to(coord.values, (scan.sizes[FRAME],))
        if coord.attrs.get(ROLE) == MOTOR and np.isnan(values).any():
            raise MotorError(
                f"{where}: the position of {name!r} is unknown in {np.isnan(values).sum()} frames,"
                f" the first is frame {np.flatnonzero(np.isnan(values))[0]}",
                "Give the positions with motors, or use a condition on something else.",
            )
        return values
    if name in scan.attrs:
        return np.full(scan.sizes[FRAME], str(scan.attrs[name]))
    known = [str(key) for key in (*scan.coords, *scan.attrs) if key not in scan.dims]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    raise InputError(
        f"{where}: the scan has no {name!r}",
        f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(sorted(known))} and {FILES}.",
    )


def _fits(values: npt.NDArray[Any], condition: Condition, where: str) -> Mask:
    numeric = values.dtype.kind in "iufb"
    if isinstance(condition, str):
        match = TOLERANCE.fullmatch(condition)
        if not numeric:
            return np.array([fnmatchcase(str(value), condition) for value in values])
        if match is None:
            raise InputError(
                f"{where} is {condition!r}, but its values are numbers",
                "Give a number, 'number ± tolerance', or a pair [low, high].",
            )
        value, tolerance = (_number(match[part], where) for part in ("value", "tolerance"))
        # 1.1 is within 0.1 of 1, although its last bit says otherwise.
        slack = ROUNDING * tolerance + 4 * np.spacing(abs(value))
        return np.asarray(np.abs(values - value) <= tolerance + slack)
    if not numeric:
        raise InputError(
            f"{where} is {condition!r}, but its values are texts: {_found(values)}",
            "Give a text, which may have the wildcards * and ?.",
        )
    if isinstance(condition, tuple | list):
        low, high = condition
        return np.asarray((values >= low) & (values <= high))
    return np.asarray(np.isclose(values, condition, rtol=ROUNDING, atol=0), bool)


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{where}: {text!r} is no number", "Write '5 ± 0.1'.") from error


def _found(values: npt.NDArray[Any]) -> str:
    """Values of the frames, some of them, for a message."""
    if values.dtype.kind in "iufb":
        known = np.unique(values[np.isfinite(values)])
        several = ", ".join(f"{value:g}" for value in known[:5])
        return several if len(known) <= 5 else f"{several}, ... {known[-1]:g}"
    words = list(dict.fromkeys(map(str, values)))
    return ", ".join(map(repr, words[:5])) + (", ..." if len(words) > 5 else "")


def _collapsed(scan: xr.Dataset) -> xr.Dataset:
    """Make scalars of the numbers that are the same in all frames, as `open_scan` does."""
    constant = {
        name: coord.variable.isel({FRAME: 0})
        for name, coord in scan.coords.items()
        if coord.dims == (FRAME,)
        and ROLE in coord.attrs
        and coord.dtype.kind == "f"
        and (coord.values == coord.values[0]).all()
    }
    return scan.drop_vars(constant).assign_coords(constant)
