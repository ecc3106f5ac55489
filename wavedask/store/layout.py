"""The arrays of a result store: how they are created, chunked, compressed and opened."""

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
"""Attribute that identifies a result store; its value is the version of the format."""
FORMAT_VERSION: Final = 1
DRAFT: Final = "wavedask_draft"
"""Attribute of a group in an object store whose creation has not finished."""
STILL: Final = "stands_still"
"""Attribute of a coordinate that had the same value for all frames when it was written.

In a store that can grow it has a value for every frame: the next scan may have another one.
"""
BLANK_NAME: Final = "coordinate_with_blank"
"""Attribute of a coordinate whose name holds a blank; blanks separate the names in the list."""
SETTINGS: Final = "settings"
INPUTS: Final = "inputs"
SHARED: Final = "shared"
"""Attribute of a store: raw frames that all of its frames depend on, by their role."""
RUNS: Final = "runs"
VERSION: Final = "wavedask_version"
VERSIONS: Final = "versions"
CREATED: Final = "created"

COMPRESSOR: Final = BloscCodec(cname="lz4", clevel=1, shuffle="shuffle")
"""For noisy float32 maps this is nearly as fast as no compression, and much smaller."""
EPOCH: Final = "1970-01-01"
SMALL_CHUNK: Final = 4096
"""Smallest number of frames per chunk of a one-dimensional array: a store may begin with one."""


def attributes_of(place: Place) -> dict[str, Any] | None:
    """Return the attributes of a store; None if there is no store at the place.

    Raises
    ------
    StoreError
        A newer wavedask wrote the store, or it cannot be read.
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
    """Whether a run was killed here while it created a store in an object store."""
    return DRAFT in ((place.document() or {}).get("attributes", {}))


def read_arrays(place: Place) -> xr.Dataset:
    """Open the arrays of a store without further changes; coordinates are in memory."""
    with os_errors(f"store {place} cannot be read"):
        consolidated = "consolidated_metadata" in (place.document() or {})
        dataset: xr.Dataset = xr.open_zarr(
            place.open(read_only=True), consolidated=consolidated, chunks={}
        )
        apart = [name for name, v in dataset.variables.items() if v.attrs.pop(BLANK_NAME, False)]
        dataset = dataset.set_coords([COMPLETE.name, *apart])
        # They are small and needed in this process: do not send the tasks to a cluster.
        with dask.config.set(scheduler="synchronous"):
            for coordinate in dataset.coords.values():
                coordinate.load()
    return dataset


def settled(stored: xr.Dataset) -> xr.Dataset:
    """Replace coordinates that are the same for all frames by one value."""
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
    """Find the frames at which a coordinate changes, and the first frame."""
    values = variable.values
    differs = values[1:] != values[:-1]
    if values.dtype.kind == "f":
        differs &= ~(np.isnan(values[1:]) & np.isnan(values[:-1]))
    return [0, *(np.flatnonzero(differs) + 1).tolist()]


def has_blank(name: str) -> bool:
    """Whether a name holds a blank and cannot be part of a list that blanks separate."""
    return name.split() != [name]


def along_frames(dataset: xr.Dataset) -> xr.Dataset:
    """Expand scalar coordinates to a value for every frame."""
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
    """Create a store whose frames are all incomplete, completely or not at all.

    Parameters
    ----------
    place : Place
        Where to create it. Nothing exists there, or an unfinished creation, see `is_draft`.
    eager : xarray.Dataset
        Everything that is not written block by block; it is in memory.
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
    # A folder gets its name when it is complete. In an object store the attributes come last.
    hidden = f"{place.parent}/.{place.name}.{uuid.uuid4().hex}.draft"
    draft = place if place.remote else Place(hidden)
    with os_errors(f"store {place} cannot be created"):
        try:
            if place.remote:
                place.clear()
            else:
                place.path.parent.mkdir(parents=True, exist_ok=True)
            with warnings.catch_warnings():
                # Some servers keep the empty folders of deleted objects.
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
            # Without lazy variables all frames are complete. The ledger is one chunk, so that one
            # atomic rename replaces all of it.
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
    """Choose chunks and units of time of the eager variables, for `Dataset.to_zarr`.

    Chunks have space for further frames. Times are stored in nanoseconds: xarray would choose days
    for a single time, and round the times that follow.
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
    """Open an array for writing; a block that holds only the fill value is stored, too."""
    # open_array() takes a `config` too, and ignores it where the array exists.
    with zarr.config.set({"array.write_empty_chunks": True}):
        return zarr.open_array(group.store, path=name, mode="r+")
