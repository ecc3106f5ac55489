"""Compare a result with the one that a store holds, and describe the differences."""

import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import COMPLETE, FRAME, SCAN, STACK_FRAMES, UNITS
from wavedask.errors import StoreExistsError
from wavedask.frames import without_keys
from wavedask.io import Format, format_of
from wavedask.store.layout import INPUTS, SETTINGS, SHARED
from wavedask.store.places import Place
from wavedask.store.provenance import differences

Attributes = Mapping[str, Any]

ANEW: Final = "It was left as it is: give another path, or remove it to compute it anew."
"""Remedy for another result."""
SHARED_REMEDY: Final = (
    "Every frame depends on them, so the store was left as it is: give another path, or select "
    "the same frames as before, by their files (in the same order) or, in roles, by a narrower "
    "condition such as 'source_index < 10'."
)


def refuse(place: Place, found: list[str], remedy: str = ANEW) -> None:
    """Raise an error if there are differences."""
    if found:
        more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
        raise StoreExistsError(
            f"{place} holds another result: {'; '.join(found[:3])}{more}", remedy
        )


def comparable(
    provenance: Attributes, *, without: Sequence[str] = (), own: Set[str] = frozenset()
) -> dict[str, Any]:
    """Select settings, shared frames, and inputs by path, without the files in `own`.

    Files behind another file are left out, too: `changed_files` compares them.
    """
    inputs = {
        item["path"]: stamp(item)
        for item in provenance[INPUTS]
        if item["path"] not in own and "of" not in item
    }
    return {
        SETTINGS: without_keys(provenance[SETTINGS], without),
        SHARED: provenance.get(SHARED, {}),
        INPUTS: inputs,
    }


def changed_files(
    attributes: Attributes,
    provenance: Attributes,
    *,
    own: Set[str] = frozenset(),
    gaining: Set[str] = frozenset(),
) -> list[str]:
    """List changed files: those in `own`, and the files behind them.

    A file in `own` with many frames may have grown: an HDF5 file while its scan runs or when it is
    closed, any other file if it has new frames. The same holds for the files behind it.
    """
    there, here = (
        {item["path"]: item for item in side[INPUTS]} for side in (attributes, provenance)
    )
    changed = {}
    for path in there.keys() & here.keys():
        owner = here[path].get("of", path)
        if owner not in own and "of" not in here[path]:
            continue
        longer = owner in own and (format_of(Path(path)) is Format.HDF5 or owner in gaining)
        before, now = stamp(there[path]), stamp(here[path])
        if before != now and not (longer and now["size"] >= before["size"]):
            changed[path] = before, now
    return differences(*({INPUTS: {p: c[side] for p, c in changed.items()}} for side in (0, 1)))


def stamp(item: Attributes) -> dict[str, Any]:
    """Select path, size and time of change: a hash is extra evidence, not an identity."""
    return {key: item[key] for key in ("path", "size", "mtime_ns")}


def _layout(variable: xr.Variable, *, whole: bool) -> dict[str, Any]:
    """Describe shape and data type of a variable, in the same way before and after storage."""
    return {
        "shape": {str(d): size for d, size in variable.sizes.items() if whole or d != FRAME},
        "data type": "text" if variable.dtype.kind in "OTU" else variable.dtype.name,
    }


def differing(
    stored: xr.Dataset, new: xr.Dataset, lazy: Mapping[str, xr.Variable], *, whole: bool
) -> list[str]:
    """List differences of the layout, or of the values of variables in memory.

    With `whole` all variables are compared, otherwise only those with other dimensions than frame.
    """
    sides: list[dict[Any, xr.Variable]] = [{**stored.variables}, {**new.variables, **lazy}]
    there, here = (
        {
            name: variable
            for name, variable in sorted(side.items(), key=lambda item: str(item[0]))
            if name != COMPLETE.name and (whole or name in lazy or variable.dims != (FRAME,))
        }
        for side in sides
    )
    layouts = (
        {str(name): _layout(variable, whole=whole) for name, variable in side.items()}
        for side in (there, here)
    )
    return differences(*layouts) or [
        f"{name} has other values there than here"
        for name, variable in here.items()
        if name not in lazy
        and (whole or FRAME not in variable.dims)
        and not _equal(there[name], variable)
    ]


def _equal(one: xr.Variable, other: xr.Variable) -> bool:
    """Whether dimensions and values are equal; two unknown values are."""
    # xarray leaves the method untyped.
    return bool(one.equals(other))  # type: ignore[no-untyped-call]


def moved(
    stored: xr.Dataset,
    new: xr.Dataset,
    positions: NDArray[np.intp],
    *,
    lazy: Set[str],
    growing: bool,
) -> list[str]:
    """List differences of existing frames, and values that do not fit the stored array."""
    known = np.flatnonzero(positions < stored.sizes[FRAME])
    found = []
    for name, variable in new.variables.items():
        if FRAME not in variable.dims or name in (SCAN, COMPLETE.name):
            continue
        there = stored.variables.get(name)
        if there is None:
            if not growing:
                found.append(f"{name} is absent there")
            continue
        here = variable.isel({FRAME: known})
        before = there.isel({FRAME: positions[known]})
        if not _equal(before, here):
            found.append(_otherwise(str(name), before, here))
        elif _other_unit(variable, there):
            units = [v.attrs.get(UNITS) for v in (there, variable)]
            found.append(f"{name} is in {units[0]} there and in {units[1]} here")
        elif not _fits(variable, there):
            found.append(f"{name} is {there.dtype} there and {variable.dtype} here")
    if growing:
        found += [
            f"{name} is {variable.dtype} there and absent here"
            for name, variable in stored.variables.items()
            if variable.dims == (FRAME,)
            and name not in {SCAN, COMPLETE.name, *new.variables, *lazy}
            and variable.dtype.kind in "biu"
        ]
    return found


def _otherwise(name: str, there: xr.Variable, here: xr.Variable) -> str:
    """Describe different values; for a stack, name the frames."""
    if name != STACK_FRAMES:
        return f"{name} has other values there than here"
    at = int(np.flatnonzero(there.values != here.values)[0])
    stacks = [json.loads(side.values[at] or "{}") for side in (there, here)]
    return "; ".join(differences(*({name: stack} for stack in stacks))) or (
        f"{name} are in another order there than here"
    )


def _other_unit(variable: xr.Variable, there: xr.Variable) -> bool:
    return variable.attrs.get(UNITS) != there.attrs.get(UNITS)


def _fits(variable: xr.Variable, there: xr.Variable) -> bool:
    """Whether new values can be written to the stored array without conversion."""
    if variable.dtype.kind in "OTU" or there.dtype.kind in "OTU":
        return variable.dtype.kind in "OTU" and there.dtype.kind in "OTU"
    return bool(np.can_cast(variable.dtype, there.dtype, "same_kind"))
