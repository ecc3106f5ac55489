"""The arrays of a result store: how they are created, chunked, compressed and found again."""

import uuid
import warnings
from collections.abc import Mapping
from typing import Any, Final

import dask
import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec
from zarr.errors import ZarrUserWarning

from wavedask.conventions import COMPLETE, FRAME
from wavedask.errors import StoreError
from wavedask.store.places import Place
from wavedask.store.provenance import as_json
from wavedask.store.writer import os_errors

FORMAT: Final = "wavedask_store"
"""Attribute that tells a result store from any other Zarr group; its value is the version."""
FORMAT_VERSION: Final = 1
DRAFT: Final = "wavedask_draft"
"""Attribute of a group that was begun in an object store and is no store yet."""
STILL: Final = "stands_still"
"""Attribute of a coordinate that had one value for all frames when it was written.

In a store that may grow it lies along frame: the next scan may have another value.
"""
BLANK_NAME: Final = "coordinate_with_blank"
"""Attribute of a coordinate whose name holds blanks, which divide the list of the others."""
SETTINGS: Final = "settings"
INPUTS: Final = "inputs"
SHARED: Final = "shared"
"""Attribute of a store: raw frames that all of its frames depend on, by what they are for."""
RUNS: Final = "runs"
VERSION: Final = "wavedask_version"
VERSIONS: Final = "versions"
CREATED: Final = "created"

COMPRESSOR: Final = BloscCodec(cname="lz4", clevel=1, shuffle="shuffle")
"""For noisy float32 maps: nearly as fast as without compression, and much smaller."""
EPOCH: Final = "1970-01-01"
SMALL_CHUNK: Final = 4096
"""Frames per chunk of what is one number per frame, at least: a store may begin with one frame."""


def attributes_of(place: Place) -> dict[str, Any] | None:
    """Attributes of the store at a place; None if something else is there, or nothing.

    Raises
    ------
    StoreError
        A store that a newer wavedask wrote, or that cannot be read.
    """
    with os_errors(f"store {place} cannot be read"):
        document = place.document()
    attributes = (document or {}).get("attributes", {})
    version = attributes.get(FORMAT)
    if not isinstance(version, int):
        return None
    if version > FORMAT_VERSION:
        raise StoreError(
            f"store {place} has format {version}, and this wavedask reads up to {FORMAT_VERSION}",
            f"Update wavedask; the store was written by {attributes.get(VERSION)}.",
        )
    return dict(attributes)


def is_draft(place: Place) -> bool:
    """Whether a creation in an object store was killed here, and nothing else is there."""
    return DRAFT in ((place.document() or {}).get("attributes", {}))


def read_arrays(place: Place) -> xr.Dataset:
    """Open the arrays of a store as they are; coordinates are in memory."""
    with os_errors(f"store {place} cannot be read"):
        consolidated = "consolidated_metadata" in (place.document() or {})
        dataset: xr.Dataset = xr.open_zarr(
            place.open(read_only=True), consolidated=consolidated, chunks={}
        )
        apart = [name for name, v in dataset.variables.items() if v.attrs.pop(BLANK_NAME, False)]
        dataset = dataset.set_coords([COMPLETE.name, *apart])
        # Small, and needed here: a cluster would only be in the way.
        with dask.config.set(scheduler="synchronous"):
            for coordinate in dataset.coords.values():
                coordinate.load()
    return dataset


def settled(stored: xr.Dataset) -> xr.Dataset:
    """Give coordinates that have stood still in all scans one value again."""
    changed = {}
    for name, coord in stored.coords.items():
        if STILL in coord.attrs:
            variable = coord.variable.copy(deep=False)
            if all(variable[:1].equals(variable[k : k + 1]) for k in _samples(variable)):
                variable = variable[0]
            variable.attrs = {key: value for key, value in coord.attrs.items() if key != STILL}
            changed[name] = variable
    return stored.drop_vars(list(changed)).assign_coords(changed)


def _samples(variable: xr.Variable) -> list[int]:
    """Frames at which a coordinate differs from the frame before, and the first."""
    values = variable.values
    differs = values[1:] != values[:-1]
    if values.dtype.kind == "f":
        differs &= ~(np.isnan(values[1:]) & np.isnan(values[:-1]))
    return [0, *(np.flatnonzero(differs) + 1).tolist()]


def has_blank(name: str) -> bool:
    """Whether a name cannot stand in a list that is divided by blanks."""
    return name.split() != [name]


def along_frames(dataset: xr.Dataset) -> xr.Dataset:
    """Give coordinates that stand still a value for every frame."""
    frames = dataset.sizes[FRAME]
    spread = {
        name: xr.Variable(
            (FRAME,), np.full(frames, coord.values, coord.dtype), {**coord.attrs, STILL: True}
        )
        for name, coord in dataset.coords.items()
        if not coord.dims
    }
    return dataset.drop_vars(list(spread)).assign_coords(spread)


def create(
    place: Place,
    eager: xr.Dataset,
    lazy: Mapping[str, xr.Variable],
    attributes: Mapping[str, Any],
    *,
    frames: int,
) -> None:
    """Create a store whose frames are all missing, in full or not at all.

    Parameters
    ----------
    place : Place
        Where; nothing is there, or what `is_draft` tells.
    eager : xarray.Dataset
        Everything that is not written block by block, in memory.
    lazy : mapping of str to xarray.Variable
        What is.
    attributes : mapping
        Attributes of the store.
    frames : int
        Number of frames.
    """
    eager = eager.copy()
    eager.attrs = {DRAFT: uuid.uuid4().hex}
    for name, variable in eager.variables.items():
        variable.attrs = as_json(variable.attrs, where=f"attributes of {name}")
    apart = [name for name in map(str, eager.coords) if has_blank(name) and name not in eager.dims]
    for name in apart:
        eager[name].attrs[BLANK_NAME] = True
    eager = eager.reset_coords(apart)
    # A folder is renamed when it is whole; in an object store the attributes are written last.
    hidden = f"{place.parent}/.{place.name}.{uuid.uuid4().hex}.draft"
    draft = place if place.remote else Place(hidden)
    with os_errors(f"store {place} cannot be created"):
        try:
            if place.remote:
                place.clear()
            else:
                place.path.parent.mkdir(parents=True, exist_ok=True)
            with warnings.catch_warnings():
                # Of what was cleared, some servers keep the empty folders.
                warnings.filterwarnings("ignore", "Object at", ZarrUserWarning)
                eager.to_zarr(
                    draft.open(),
                    mode="w-",
                    zarr_format=3,
                    consolidated=False,
                    encoding=encodings(eager),
                )
            group = draft.group()
            for name, variable in lazy.items():
                allocate(group, name, variable)
            # Nothing to compute is complete from the start. One chunk, so that one atomic rename
            # replaces the whole ledger.
            ledger = xr.Variable((FRAME,), np.full(frames, not lazy), COMPLETE.attrs)
            chunk = max(frames, SMALL_CHUNK)
            allocate(group, COMPLETE.name, ledger, chunks=(chunk,))[:] = ledger.values
            draft.commit(attributes, [*map(str, eager.variables), *lazy, COMPLETE.name])
            if draft is not place:
                draft.path.rename(place.path)
        except BaseException:
            draft.clear()
            raise


def encodings(eager: xr.Dataset) -> dict[Any, dict[str, Any]]:
    """Choose chunks and units of time for what is written at once, for `Dataset.to_zarr`.

    Chunks leave room for frames to come; times count nanoseconds, because xarray would otherwise
    choose days for one that is alone, and round those that follow.
    """
    chosen: dict[Any, dict[str, Any]] = {}
    for name, variable in eager.variables.items():
        if variable.dims == (FRAME,):
            chosen.setdefault(name, {})["chunks"] = (max(variable.size, SMALL_CHUNK),)
        if variable.dtype.kind == "M":
            chosen.setdefault(name, {}).update(units=f"nanoseconds since {EPOCH}", dtype="int64")
        if variable.dtype.kind == "m":
            chosen.setdefault(name, {}).update(units="nanoseconds", dtype="int64")
    return chosen


def allocate(
    group: zarr.Group,
    name: str,
    variable: xr.Variable,
    *,
    chunks: tuple[int, ...] | None = None,
) -> zarr.Array[Any]:
    """Create the metadata of one array; its chunks are the blocks of `variable`."""
    blocks = tuple(max(sizes) for sizes in variable.chunks or ((n,) for n in variable.shape))
    return group.create_array(
        name,
        shape=variable.shape,
        chunks=chunks or blocks,
        dtype=variable.dtype,
        fill_value=np.nan if variable.dtype.kind in "fc" else 0,
        compressors=COMPRESSOR,
        dimension_names=[str(dim) for dim in variable.dims],
        attributes=as_json(variable.attrs, where=f"attributes of {name}"),
    )


def array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Open an array to be written; a block of nothing but the fill value is stored as well."""
    # open_array() takes a `config` too, and ignores it where the array exists.
    with zarr.config.set({"array.write_empty_chunks": True}):
        return zarr.open_array(group.store, path=name, mode="r+")
