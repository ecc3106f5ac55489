"""Growth of a store: which frames it has, which are new, and why it cannot grow."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from wavedask.conventions import COMPLETE, DIGEST, FRAME, SCAN, SOURCE_FILE, SOURCE_INDEX
from wavedask.errors import InputError
from wavedask.frames import ORIGIN, frame_files, origins_of, positions_of
from wavedask.store.arrays import chunk_keys, open_array, unit_of
from wavedask.store.checked import RecordingStore
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
from wavedask.store.durable import barrier
from wavedask.store.faults import os_errors
from wavedask.store.layout import (
    BLANK_NAME,
    INPUTS,
    RUNS,
    SETTINGS,
    SHARED,
    STILL,
    along_frames,
    attributes_of,
    encodings,
    has_blank,
    settled,
)
from wavedask.store.places import Place
from wavedask.store.provenance import as_json, differences

Attributes = Mapping[str, Any]

SCAN_ATTRS: Final = {"units": "1", "long_name": "run that added the frame"}


@dataclass(frozen=True)
class Match:
    """The positions in a store at which the frames of a dataset are, or will be.

    Attributes
    ----------
    positions : ndarray of int, shape (frames,)
        Index along the store for each frame of the dataset. New frames come after the existing
        ones.
    gained : int
        Number of new frames.
    """

    positions: NDArray[np.intp]
    gained: int


def can_grow(dataset: xr.Dataset) -> bool:
    """Whether each frame of a dataset has the coordinates of its source."""
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
    """Find the frames of a result in an existing store.

    Parameters
    ----------
    place : Place
        The store.
    stored : xarray.Dataset
        Its arrays, as `read_arrays` returns them.
    attributes, provenance : mapping
        Settings, inputs and shared frames of the store, and of the result.
    eager : xarray.Dataset
        The result without the variables that are written block by block.
    lazy : mapping These variables.
    grow : sequence of str, optional
        Settings that only select the frames; None if the frames must be the same as in the store.
    joined : str, default ""
        Why the frames depend on each other, if they do.

    Raises
    ------
    StoreExistsError
        The store holds another result: the message names what differs.
    InputError
        A frame is in the dataset twice.
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
    # Files of shared frames are inputs, too. The role of a file says more than its path.
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
    durable: bool = True,
) -> None:
    """Append the new frames to a store; frames with lazy variables are marked as incomplete.

    Each array is lengthened and filled separately. A reader sees the change only when the
    consolidated metadata is replaced, at the end. If the run is killed before, the store is
    unchanged.

    Parameters
    ----------
    place, stored, eager, found
        As of `match`.
    attributes : mapping
        New attributes of the store; the last of its runs gives the coordinate ``scan``.
    lazy : set of str
        Variables that are written block by block afterwards.
    durable : bool, default True
        Whether all of it must be on the disk before it becomes visible.
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
        contents = _settled_contents(place, group, written, before)
        for name, variable in stored.variables.items():
            if FRAME in variable.dims:
                own = open_array(group, str(name))
                own.resize(
                    tuple(
                        total if dim == FRAME else size
                        for dim, size in zip(variable.dims, own.shape, strict=True)
                    )
                )
        part = xr.Dataset(
            {name: (variable.dims, variable.values) for name, variable in written.items()}
        )
        recorder = RecordingStore(place.open())
        part.to_zarr(
            recorder,
            mode="r+",
            region={FRAME: slice(before, total)},
            consolidated=False,
            write_empty_chunks=True,
        )
        # Without lazy variables the new frames are complete.
        known = place.array_names()
        if DIGEST.name in known:
            digests = open_array(group, DIGEST.name)
            digests.resize((total,))
            digests[before:total] = np.zeros(found.gained, np.uint32)
        open_array(group, COMPLETE.name)[before:total] = np.full(found.gained, not lazy)
        contents |= recorder.contents() | _add_arrays(place, xr.Dataset(unknown))
        added_names = list(map(str, unknown))
        if durable and not place.remote:
            barrier(place.path, place.files)
        place.commit(
            attributes,
            [*known, *added_names],
            coordinates=[name for name in added_names if not has_blank(name)],
            contents=contents,
        )


def _settled_contents(
    place: Place, group: zarr.Group, written: Mapping[Any, xr.Variable], before: int
) -> dict[str, str]:
    """Return the checksums of chunks that stay, and forget those that will be rewritten.

    New frames go into the last chunk of an array, if there is space. A run that is killed between
    leaves the old frames as they were, in a chunk with another checksum.
    """
    contents = place.contents() or {}
    for name in map(str, written):
        array = open_array(group, name)
        axis = written[name].dims.index(FRAME)
        size = unit_of(array)[axis]
        if before % size:
            for key in chunk_keys(array, axis, before // size):
                contents.pop(f"{name}/{key}", None)
    if contents != (place.contents() or {}):
        attributes = attributes_of(place) or {}
        place.commit(attributes, place.array_names(), contents=contents)
    return contents


def merged_inputs(there: list[Any], here: list[Any]) -> list[Any]:
    """Merge the inputs of a store and of a run: the existing ones first, then the new ones.

    A file that has changed its size is listed with its present state.
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
    """Return unknown values: NaN, NaT or empty texts."""
    return xr.Variable((FRAME,), np.full(size, _unknown(like), _stored_type(like)))


def _unknown(like: xr.Variable) -> Any:
    if like.dtype.kind == "M":
        return np.datetime64("NaT")
    return "" if like.dtype.kind in "OTU" else np.nan


def _spread(variable: xr.Variable, positions: NDArray[np.intp], total: int) -> xr.Variable:
    """Extend a coordinate that is new in the store to all frames of the store."""
    dtype = np.float64 if variable.dtype.kind in "biu" else variable.dtype
    values = np.full(total, _unknown(variable), dtype)
    values[positions] = variable.values
    return xr.Variable((FRAME,), values, {k: v for k, v in variable.attrs.items() if k != STILL})


def _add_arrays(place: Place, dataset: xr.Dataset) -> dict[str, str]:
    """Add arrays, and return the checksums of their chunks.

    The attributes of the group stay: `Dataset.to_zarr` would change them.
    """
    for name, variable in dataset.variables.items():
        variable.attrs = as_json(variable.attrs, where=f"attributes of {name}")
        if has_blank(str(name)):
            variable.attrs[BLANK_NAME] = True
    memory = MemoryStore()
    recorder = RecordingStore(memory)
    dataset.to_zarr(
        recorder,
        zarr_format=3,
        consolidated=False,
        encoding=encodings(dataset),
        write_empty_chunks=True,
    )

    async def copied() -> dict[str, bytes]:
        found = {}
        async for key in memory.list():
            content = await memory.get(key, default_buffer_prototype())
            if content is not None and "/" in key:
                found[key] = content.to_bytes()
        return found

    for key, content in sync(copied()).items():
        place.write(key, content)
    return recorder.contents()
