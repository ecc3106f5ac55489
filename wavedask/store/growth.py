"""Growth of a store: which frames it has already, which it gains, and why not."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from wavedask.conventions import COMPLETE, FRAME, SCAN, SOURCE_FILE, SOURCE_INDEX
from wavedask.errors import InputError
from wavedask.frames import ORIGIN, frame_files, origins_of, positions_of
from wavedask.store.comparison import (
    ANEW,
    SHARED_REMEDY,
    changed_files,
    comparable,
    differing,
    moved,
    refuse,
    stamp,
)
from wavedask.store.layout import (
    BLANK_NAME,
    INPUTS,
    RUNS,
    SETTINGS,
    SHARED,
    STILL,
    along_frames,
    array,
    encodings,
    has_blank,
    settled,
)
from wavedask.store.places import Place
from wavedask.store.provenance import as_json, differences
from wavedask.store.writer import os_errors

Attributes = Mapping[str, Any]

SCAN_ATTRS: Final = {"units": "1", "long_name": "run that added the frame"}


@dataclass(frozen=True)
class Match:
    """Frames of a dataset in a store.

    Attributes
    ----------
    positions : ndarray of int, shape (frames,)
        Frame of the store for each frame of the dataset; new ones follow those that are there.
    gained : int
        How many are new.
    """

    positions: NDArray[np.intp]
    gained: int


def can_grow(dataset: xr.Dataset) -> bool:
    """Whether each frame of a dataset tells where it comes from."""
    return all(
        name in dataset.coords and dataset[name].dims == (FRAME,)
        for name in (SOURCE_FILE, SOURCE_INDEX)
    )


def match(
    place: Place,
    stored: xr.Dataset,
    attributes: Attributes,
    eager: xr.Dataset,
    lazy: Mapping[str, xr.Variable],
    provenance: Attributes,
    *,
    grow: Sequence[str] | None,
    joined: str = "",
) -> Match:
    """Find the frames of a result in the store that is to hold them.

    Parameters
    ----------
    place : Place
        The store.
    stored : xarray.Dataset
        Its arrays, as they are.
    attributes, provenance : mapping
        Settings, inputs and shared frames: of the store, and of the result.
    eager : xarray.Dataset
        The result without what is written block by block.
    lazy : mapping
        What is.
    grow : sequence of str, optional
        Settings that only say which frames there are; None if the frames must be those there.
    joined : str, default ""
        What makes frames depend on each other, where they do.

    Raises
    ------
    StoreExistsError
        Another result: the message names what differs.
    InputError
        A frame that is in the dataset twice.
    """
    frames = eager.sizes[FRAME] if FRAME in eager.sizes else _frames(lazy)
    if grow is None or not can_grow(eager) or not can_grow(stored):
        found = differences(comparable(attributes), comparable(provenance))
        found = found or changed_files(attributes, provenance)
        there = settled(stored).drop_vars(COMPLETE.name)
        if SCAN not in eager.coords:
            there = there.drop_vars(SCAN, errors="ignore")
        found = found or differing(there, eager, lazy, whole=True)
        refuse(place, found, f"{joined[:1].upper()}{joined[1:]}. {ANEW}" if joined else ANEW)
        return Match(np.arange(frames), 0)
    own = frame_files(stored) | frame_files(eager)
    sides = [comparable(side, without=grow, own=own) for side in (attributes, provenance)]
    settings, shared, inputs = (
        differences(*({part: side[part]} for side in sides)) for part in (SETTINGS, SHARED, INPUTS)
    )
    # Files of shared frames are among the inputs, too: what they are for says more.
    refuse(place, settings + shared or inputs, SHARED_REMEDY if shared and not settings else ANEW)
    new = along_frames(eager)
    refuse(place, differing(stored, new, lazy, whole=False))
    origin = [name for name in ORIGIN if name in stored.coords and name in new.coords]
    keys = origins_of(new, origin)
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InputError(
            f"frame {twice[-1]} of {twice[0]} is in the dataset twice", "Give each frame once."
        )
    positions, fresh = positions_of(origins_of(stored, origin), keys)
    refuse(place, moved(stored, new, positions, lazy=set(lazy), growing=bool(fresh)))
    gaining = set(new[SOURCE_FILE].values[positions >= stored.sizes[FRAME]].tolist())
    refuse(place, changed_files(attributes, provenance, own=own, gaining=gaining))
    return Match(positions, fresh)


def grow_store(
    place: Place,
    stored: xr.Dataset,
    eager: xr.Dataset,
    found: Match,
    attributes: Attributes,
    *,
    lazy: Set[str],
) -> None:
    """Lengthen a store by the frames that it lacks, as missing if there is anything to compute.

    Every array is lengthened and filled by itself; who reads the store sees nothing of it until
    the consolidated metadata is replaced at the end. Killed before, it is as it was.

    Parameters
    ----------
    place, stored, eager, found
        As of `match`.
    attributes : mapping
        New attributes of the store; the last of its runs gives the coordinate ``scan``.
    lazy : set of str
        Variables that are written block by block, later.
    """
    before = stored.sizes[FRAME]
    total = before + found.gained
    new = along_frames(eager)
    added = new.isel({FRAME: np.flatnonzero(found.positions >= before)})
    if SCAN not in new.coords:
        number = attributes[RUNS][-1][SCAN]
        scan = xr.Variable((FRAME,), np.full(found.gained, number), SCAN_ATTRS)
        added = added.assign_coords({SCAN: scan})
    written = {}
    for name, variable in stored.variables.items():
        if FRAME in variable.dims and name != COMPLETE.name and name not in lazy:
            given = added.variables.get(name)
            written[name] = _blank(variable, found.gained) if given is None else given
            written[name] = written[name].astype(_stored_type(variable))
    unknown = {
        name: _spread(variable, found.positions, total)
        for name, variable in new.variables.items()
        if FRAME in variable.dims and name not in stored.variables
    }
    with os_errors(f"store {place} cannot be lengthened"):
        group = place.group()
        for name, variable in stored.variables.items():
            if FRAME in variable.dims:
                own = array(group, str(name))
                own.resize(
                    tuple(
                        total if dim == FRAME else size
                        for dim, size in zip(variable.dims, own.shape, strict=True)
                    )
                )
        part = xr.Dataset(
            {name: (variable.dims, variable.values) for name, variable in written.items()}
        )
        part.to_zarr(
            place.open(), mode="r+", region={FRAME: slice(before, total)}, consolidated=False
        )
        # Where nothing is computed, nothing is missing.
        array(group, COMPLETE.name)[before:total] = np.full(found.gained, not lazy)
        _add_arrays(place, xr.Dataset(unknown))
        added_names = list(map(str, unknown))
        place.commit(
            attributes,
            [*map(str, stored.variables), *added_names],
            coordinates=[name for name in added_names if not has_blank(name)],
        )


def merged_inputs(there: list[Any], here: list[Any]) -> list[Any]:
    """List the inputs of a store that has grown: those there, and the new ones behind them.

    A file that has grown, too, is listed as it is now.
    """
    known = {item["path"]: item for item in there}
    for item in here:
        path = item["path"]
        if path not in known or stamp(known[path]) != stamp(item):
            known[path] = item
    return list(known.values())


def _frames(lazy: Mapping[str, xr.Variable]) -> int:
    return int(next(iter(lazy.values())).sizes[FRAME])


def _stored_type(there: xr.Variable) -> Any:
    return object if there.dtype.kind in "OTU" else there.dtype


def _blank(like: xr.Variable, size: int) -> xr.Variable:
    """Values that nobody knows."""
    return xr.Variable((FRAME,), np.full(size, _unknown(like), _stored_type(like)))


def _unknown(like: xr.Variable) -> Any:
    if like.dtype.kind == "M":
        return np.datetime64("NaT")
    return "" if like.dtype.kind in "OTU" else np.nan


def _spread(variable: xr.Variable, positions: NDArray[np.intp], total: int) -> xr.Variable:
    """Values of a coordinate that the store did not have, at all of its frames."""
    dtype = np.float64 if variable.dtype.kind in "biu" else variable.dtype
    values = np.full(total, _unknown(variable), dtype)
    values[positions] = variable.values
    return xr.Variable((FRAME,), values, {k: v for k, v in variable.attrs.items() if k != STILL})


def _add_arrays(place: Place, dataset: xr.Dataset) -> None:
    """Add arrays without touching the attributes of the group, as `Dataset.to_zarr` would."""
    for name, variable in dataset.variables.items():
        variable.attrs = as_json(variable.attrs, where=f"attributes of {name}")
        if has_blank(str(name)):
            variable.attrs[BLANK_NAME] = True
    memory = MemoryStore()
    dataset.to_zarr(memory, zarr_format=3, consolidated=False, encoding=encodings(dataset))

    async def copied() -> dict[str, bytes]:
        found = {}
        async for key in memory.list():
            content = await memory.get(key, default_buffer_prototype())
            if content is not None and "/" in key:
                found[key] = content.to_bytes()
        return found

    for key, content in sync(copied()).items():
        place.write(key, content)
