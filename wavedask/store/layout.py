"""The arrays of a result store: how they are created, chunked, compressed and opened."""

import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import dask
import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.errors import ZarrUserWarning

from wavedask.conventions import COMPLETE, DIGEST, FRAME
from wavedask.errors import StoreError, WavedaskError
from wavedask.store.arrays import open_array
from wavedask.store.checked import CheckedStore, RecordingStore
from wavedask.store.durable import barrier, sync_folder
from wavedask.store.faults import is_object_error, os_errors
from wavedask.store.metadata import (
    CHECKSUM,
    CONSOLIDATED,
    CONTENTS,
    DAMAGED,
    check_document,
    layouts_of,
    names_of,
)
from wavedask.store.places import METADATA, Place
from wavedask.store.provenance import as_json

FORMAT: Final = "wavedask_store"
"""Attribute that identifies a result store; its value is the version of the format."""
FORMAT_VERSION: Final = 2
"""Since 2 the numbers of each frame are in chunks of many frames, and in the digests by value."""
DRAFT: Final = "wavedask_draft"
"""Attribute of a group in an object store whose creation has not finished."""
STILL: Final = "stands_still"
"""Attribute of a coordinate that had the same value for all frames when it was written.

In a store that can grow it has a value for every frame: the next scan may have another one.
"""
BLANK_NAME: Final = "coordinate_with_blank"
"""Attribute of a coordinate whose name holds a blank; blanks separate the names in the list."""
COVERED: Final = "covered"
"""Attribute of the digests of the frames: the arrays whose chunks they cover.

The others that are written frame by frame are numbers, whose values the digests cover.
"""
NUMBERS_BYTES: Final = 2**10
"""Bytes of a frame up to which a variable without image axes is kept in chunks of many frames."""
NUMBERS_CHUNK: Final = 2**13
"""Bytes of such a chunk. It is written again each time that a frame in it is finished, and if it is
damaged, all of its frames are computed again."""
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
    check_document(document or {}, place)
    return {name: value for name, value in attributes.items() if name not in (CHECKSUM, CONTENTS)}


def is_draft(place: Place) -> bool:
    """Whether a run was killed here while it created a store in an object store."""
    return DRAFT in ((place.document() or {}).get("attributes", {}))


def read_arrays(place: Place) -> xr.Dataset:
    """Open the arrays of a store without further changes; coordinates are in memory."""
    document = place.document()
    try:
        return _read_arrays(place)
    except StoreError:
        # A run that lengthens the store may have replaced metadata and chunks meanwhile.
        if place.document() == document:
            raise
        return _read_arrays(place)


def _read_arrays(place: Place) -> xr.Dataset:
    with os_errors(f"store {place} cannot be read"), _readable(place):
        store = checked_store(place)
        dataset: xr.Dataset = xr.open_zarr(
            store, consolidated=CONSOLIDATED in (place.document() or {}), chunks={}
        )
        for name in (CHECKSUM, CONTENTS):
            dataset.attrs.pop(name, None)
        dataset = dataset.drop_vars(DIGEST.name, errors="ignore")
        apart = [name for name, v in dataset.variables.items() if v.attrs.pop(BLANK_NAME, False)]
        dataset = dataset.set_coords([COMPLETE.name, *apart])
        # They are small and needed in this process: do not send the tasks to a cluster.
        with dask.config.set(scheduler="synchronous"):
            for coordinate in dataset.coords.values():
                coordinate.load()
    return dataset


def checked_store(place: Place) -> CheckedStore:
    """Open a store for reading: its metadata is checked now, and each chunk when it is read.

    Parameters
    ----------
    place : Place
        The store.

    Returns
    -------
    CheckedStore

    Raises
    ------
    StoreError
        Metadata that this package does not write, or a ledger that is damaged.
    """
    document = place.document() or {}
    check_document(document, place)
    store = place.open(read_only=True)
    if CONSOLIDATED in document:
        consolidated = document[CONSOLIDATED]
        documents = consolidated.get("metadata") if isinstance(consolidated, dict) else None
    else:
        names = names_of(place.objects(), METADATA)
        documents = {name: place.metadata_of(name) for name in names}
    layouts = layouts_of(documents if isinstance(documents, dict) else {}, place)
    contents = place.contents()
    known = CheckedStore(store, place.text, {COMPLETE.name: layouts[COMPLETE.name]})
    complete = np.asarray(zarr.open_array(known, path=COMPLETE.name, mode="r")[:], dtype=bool)
    return CheckedStore(store, place.text, layouts, complete, contents)


@contextmanager
def _readable(place: Place) -> Iterator[None]:
    """Convert what Zarr and xarray raise of damaged metadata into a StoreError."""
    try:
        yield
    except (WavedaskError, OSError, ImportError):
        raise
    except Exception as error:
        if is_object_error(error):
            raise
        said = f"{type(error).__name__}: {error}".strip().split("\n", maxsplit=1)[0][:200]
        raise StoreError(f"store {place} is damaged: {said}", DAMAGED) from error


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
    durable: bool = True,
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
    durable : bool, default True
        Whether all of it must be on the disk before the store gets its name.
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
                written = RecordingStore(draft.open())
                eager.to_zarr(
                    written,
                    mode="w-",
                    zarr_format=3,
                    consolidated=False,
                    encoding=encodings(eager),
                    # A chunk that is not there is one that was lost.
                    write_empty_chunks=True,
                )
            group = draft.group()
            chunks_of = {name: chunks_of_numbers(variable) for name, variable in lazy.items()}
            for name, variable in lazy.items():
                allocate(group, name, variable, chunks=chunks_of[name])
            # Without lazy variables all frames are complete. The ledger is one chunk, so that one
            # atomic rename replaces all of it.
            chunk = max(frames, SMALL_CHUNK)
            for quantity, values in (
                (COMPLETE, np.full(frames, not lazy)),
                (DIGEST, np.zeros(frames, np.uint32)),
            ):
                of_tasks = [name for name in lazy if chunks_of[name] is None]
                covered = {COVERED: of_tasks} if quantity is DIGEST else {}
                ledger = xr.Variable((FRAME,), values, {**quantity.attrs, **covered})
                allocate(group, quantity.name, ledger, chunks=(chunk,))
                open_array(group, quantity.name)[:] = values
            draft.commit(
                attributes,
                [*map(str, eager.variables), *lazy, COMPLETE.name, DIGEST.name],
                contents=written.contents(),
            )
            if draft is not place:
                if durable:
                    barrier(draft.path, draft.files)
                draft.path.rename(place.path)
                if durable:
                    sync_folder(place.path.parent)
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
        chosen[name] = {"compressors": (ZstdCodec(), Crc32cCodec())}
        if variable.dims == (FRAME,):
            chosen.setdefault(name, {})["chunks"] = (max(variable.size, SMALL_CHUNK),)
        if variable.dtype.kind == "M":
            chosen.setdefault(name, {}).update(units=f"nanoseconds since {EPOCH}", dtype="int64")
        if variable.dtype.kind == "m":
            chosen.setdefault(name, {}).update(units="nanoseconds", dtype="int64")
    return chosen


def chunks_of_numbers(variable: xr.Variable) -> tuple[int, ...] | None:
    """Choose the chunks of numbers of each frame; None for maps, whose chunks are their blocks."""
    if variable.ndim > 2:
        return None
    axis = variable.dims.index(FRAME)
    each = variable.dtype.itemsize * variable.size // max(1, variable.sizes[FRAME])
    if not 0 < each <= NUMBERS_BYTES:
        return None
    chunks = list(variable.shape)
    chunks[axis] = NUMBERS_CHUNK // each
    return tuple(chunks)


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
        compressors=(COMPRESSOR, Crc32cCodec()),
        dimension_names=[str(dim) for dim in variable.dims],
        attributes=as_json(variable.attrs, where=f"attributes of {name}"),
    )
