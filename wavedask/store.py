"""The result store: create, write frame by frame, resume after a crash, open.

A store is one Zarr v3 group that holds one dataset along ``frame``. Each dask block is one Zarr
chunk, written by one task. The boolean variable ``complete`` is the ledger: only the process that
drives the run writes it, and only after all chunks of a frame have landed.
"""

import datetime
import logging
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec

from wavedask.conventions import COMPLETE, FRAME
from wavedask.errors import InputError, StoreError, StoreExistsError
from wavedask.provenance import as_json, differences, fingerprints, versions
from wavedask.writer import METADATA, Ledger, os_errors, write_missing

FORMAT: Final = "wavedask_store"
"""Attribute that tells a result store from any other Zarr group; its value is the version."""
FORMAT_VERSION: Final = 1
SETTINGS: Final = "settings"
INPUTS: Final = "inputs"
VERSION: Final = "wavedask_version"
VERSIONS: Final = "versions"
CREATED: Final = "created"

COMPRESSOR: Final = BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")
"""For noisy float32 maps: written as fast as without compression, read faster, a fifth smaller."""

_logger = logging.getLogger("wavedask")


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What :func:`write_store` did.

    Attributes
    ----------
    path : Path
        The store, as an absolute path.
    frames : int
        Frames in the store, all complete.
    written : int
        Frames computed and written by this call.
    """

    path: Path
    frames: int
    written: int

    @property
    def kept(self) -> int:
        """Frames that an earlier run had written."""
        return self.frames - self.written


def write_store(
    path: str | Path,
    dataset: xr.Dataset,
    *,
    settings: Mapping[str, Any],
    inputs: Sequence[str | Path] = (),
    progress: bool | None = None,
) -> StoreReport:
    """Compute a lazy dataset frame by frame into a store, or finish one that was begun.

    If nothing stands at `path`, a store is created there in one step. If a store with the same
    settings and inputs stands there, only the frames that it lacks are computed. Whatever else
    stands there is left alone. A run may be killed at any moment: the store opens, and running
    the same again completes it.

    The computation runs on the current Dask client or local scheduler. Memory is bounded by the
    blocks in flight, not by the number of frames.

    Parameters
    ----------
    path : str or Path
        The store, a folder that all workers see under this path; by habit its name ends in
        ``.zarr``.
    dataset : xarray.Dataset
        The result, with the dimension ``frame``. Lazy variables on ``frame`` are computed block
        by block; coordinates, and variables without ``frame``, are computed at once when the
        store is created. The frame blocks of the largest variable are used for all.
    settings : mapping
        The resolved settings, see :func:`wavedask.provenance.as_json`.
    inputs : sequence of str or Path, optional
        Input files.
    progress : bool, optional
        Whether to show a progress bar; by default only on a terminal.

    Returns
    -------
    StoreReport
        Frames in the store, and how many of them were computed now.

    Raises
    ------
    StoreExistsError
        Something else stands at `path`: a store of other settings, inputs, shape or coordinates,
        another folder, or a file.
    StoreError
        The store cannot be written, or an operating-system error stopped the computation.
    InputError
        A dataset that has no frames or holds what Zarr cannot, or settings that JSON cannot.
    FileError
        An input file that is not there.

    Examples
    --------
    >>> import dask.array as da, tempfile, xarray as xr
    >>> slope = da.ones((4, 8, 8), chunks=(1, 8, 8))
    >>> result = xr.Dataset({"slope_y": (("frame", "y", "x"), slope)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first = write_store(f"{folder}/r.zarr", result, settings={"window": 21})
    ...     again = write_store(f"{folder}/r.zarr", result, settings={"window": 21})
    >>> first.written, again.written, again.kept
    (4, 0, 4)
    """
    target = Path(path).absolute()
    dataset = _storable(dataset)
    lazy = _lazy_variables(dataset)
    provenance = {
        FORMAT: FORMAT_VERSION,
        SETTINGS: as_json(settings, where=SETTINGS),
        INPUTS: fingerprints(inputs),
    }
    if os.path.lexists(target):
        _check_same(target, dataset, provenance)
    else:
        _create(target, dataset, lazy, provenance)
    with os_errors(f"store {target} cannot be opened for writing"):
        group = zarr.open_group(target, mode="r+")
        ledger = Ledger(_array(group, COMPLETE.name), target)
    missing = int((~ledger.complete).sum())
    if missing:
        arrays = {name: _array(group, name) for name in lazy}
        write_missing(target, lazy, arrays, ledger, progress)
    return StoreReport(path=target, frames=ledger.complete.size, written=missing)


def open_store(path: str | Path) -> xr.Dataset:
    """Open a result store.

    Parameters
    ----------
    path : str or Path
        The store.

    Returns
    -------
    xarray.Dataset
        The result. Variables are lazy, in blocks as they were written; coordinates are in memory.
        The coordinate ``complete`` tells which frames have been written; the others hold NaN (or
        zero, for integers). The attributes hold ``settings``, ``inputs``, ``created`` and
        ``versions``.

    Raises
    ------
    StoreError
        Nothing there, something that is not a result store, or one that a newer wavedask wrote.

    Examples
    --------
    >>> import dask.array as da, tempfile, xarray as xr
    >>> slope = da.ones((4, 8, 8), chunks=(1, 8, 8))
    >>> result = xr.Dataset({"slope_y": (("frame", "y", "x"), slope)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_store(f"{folder}/r.zarr", result, settings={"window": 21})
    ...     stored = open_store(f"{folder}/r.zarr")
    ...     stored.attrs["settings"], bool(stored.complete.all())
    ({'window': 21}, True)
    """
    target = Path(path).absolute()
    if not target.exists():
        raise StoreError(f"there is no store at {target}", "Check the path.")
    if _attributes(target) is None:
        raise StoreError(
            f"{target} is not a wavedask result store",
            "Give the folder that was written as a result; open other Zarr data with xarray.",
        )
    with os_errors(f"store {target} cannot be read"):
        dataset: xr.Dataset = xr.open_zarr(target, consolidated=False, chunks={})
        dataset = dataset.set_coords(COMPLETE.name)
        for coordinate in dataset.coords.values():
            coordinate.load()
    complete = dataset[COMPLETE.name]
    if not complete.all():
        missing = int((~complete).sum())
        _logger.info("%s: %d of %d frames are not complete", target, missing, complete.size)
    return dataset


def _attributes(target: Path) -> dict[str, Any] | None:
    """Attributes of the store at `target`; None if it is something else."""
    if not (target / METADATA).is_file():
        return None
    try:
        attributes = dict(zarr.open_group(target, mode="r").attrs)
    except OSError as error:
        raise StoreError(f"store {target} cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError):
        return None
    version = attributes.get(FORMAT)
    if not isinstance(version, int):
        return None
    if version > FORMAT_VERSION:
        raise StoreError(
            f"store {target} has format {version}, and this wavedask reads up to {FORMAT_VERSION}",
            f"Update wavedask; the store was written by {attributes.get(VERSION)}.",
        )
    return attributes


def _storable(dataset: xr.Dataset) -> xr.Dataset:
    """Check `dataset`, and drop the traces of the files it came from."""
    if not dataset.sizes.get(FRAME):
        raise InputError(
            f"the dataset has no frames: its dimensions are {dict(dataset.sizes)}",
            f"Give it the dimension {FRAME!r}, for one result with expand_dims({FRAME!r}).",
        )
    # A ledger that came with the data, out of another store, says nothing about this one.
    dataset = dataset.drop_vars(COMPLETE.name, errors="ignore").drop_encoding()
    for name, variable in dataset.variables.items():
        if variable.dtype.kind == "U":
            # Text of fixed length has no Zarr v3 type; text of any length has.
            dataset[name] = dataset[name].astype(object)
        elif variable.dtype.kind == "O" and not all(
            isinstance(i, str) for i in variable.values.flat
        ):
            raise InputError(f"variable {name!r} holds Python objects", "Give numbers or texts.")
    return dataset


def _lazy_variables(dataset: xr.Dataset) -> dict[str, xr.Variable]:
    """Variables to be written block by block, in a regular grid with the same frames per block."""
    lazy = {
        str(name): array.variable
        for name, array in dataset.data_vars.items()
        if FRAME in array.dims and isinstance(array.data, da.Array)
    }
    for name, variable in lazy.items():
        if variable.dtype.kind not in "biufc":
            raise InputError(
                f"variable {name!r} is lazy and has data type {variable.dtype}",
                "Give numbers, or load it.",
            )
    if not lazy:
        return {}
    largest = max(lazy.values(), key=lambda variable: variable.nbytes)
    frames = max(largest.chunksizes[FRAME])
    return {
        name: variable.chunk(
            {dim: max(sizes) for dim, sizes in variable.chunksizes.items()} | {FRAME: frames}
        )
        for name, variable in lazy.items()
    }


def _create(
    target: Path,
    dataset: xr.Dataset,
    lazy: Mapping[str, xr.Variable],
    provenance: Mapping[str, Any],
) -> None:
    """Create a store whose frames are all missing, in full or not at all."""
    eager = dataset.drop_vars(list(lazy)).compute()
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    package = versions()
    eager.attrs = {
        **as_json(dict(dataset.attrs), where="attributes"),
        **provenance,
        VERSION: package["wavedask"],
        VERSIONS: package,
        CREATED: now,
    }
    for name, variable in eager.variables.items():
        variable.attrs = as_json(variable.attrs, where=f"attributes of {name}")
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}.draft")
    with os_errors(f"store {target} cannot be created"):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            eager.to_zarr(draft, mode="w-", zarr_format=3, consolidated=False)
            group = zarr.open_group(draft, mode="r+")
            for name, variable in lazy.items():
                _allocate(group, name, variable)
            frames = dataset.sizes[FRAME]
            # Nothing to compute is complete from the start. One chunk, so that one atomic rename
            # replaces the whole ledger.
            ledger = xr.Variable((FRAME,), np.full(frames, not lazy), COMPLETE.attrs)
            _allocate(group, COMPLETE.name, ledger)[:] = ledger.values
            draft.rename(target)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


def _allocate(group: zarr.Group, name: str, variable: xr.Variable) -> zarr.Array[Any]:
    """Create the metadata of one array; its chunks are the blocks of `variable`."""
    chunks = tuple(max(sizes) for sizes in variable.chunks or ((n,) for n in variable.shape))
    return group.create_array(
        name,
        shape=variable.shape,
        chunks=chunks,
        dtype=variable.dtype,
        fill_value=np.nan if variable.dtype.kind in "fc" else 0,
        compressors=COMPRESSOR,
        dimension_names=[str(dim) for dim in variable.dims],
        attributes=as_json(variable.attrs, where=f"attributes of {name}"),
    )


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Open an array to be written; a block of nothing but the fill value is stored as well."""
    # open_array() takes a `config` too, and ignores it where the array exists.
    with zarr.config.set({"array.write_empty_chunks": True}):
        return zarr.open_array(group.store, path=name, mode="r+")


def _check_same(target: Path, dataset: xr.Dataset, provenance: Mapping[str, Any]) -> None:
    """Refuse what stands at `target` unless it is a store that `dataset` would complete."""
    attributes = _attributes(target)
    if attributes is None:
        raise StoreExistsError(
            f"{target} exists and is not a wavedask result store",
            "It was left as it is: give another path, or move it away.",
        )
    found = differences(_comparable(attributes), _comparable(provenance))
    if not found:
        stored = open_store(target).drop_vars(COMPLETE.name)
        values: Mapping[Any, Any] = stored.variables
        found = differences(_layout(stored), _layout(dataset)) or [
            f"{name} has other values there than here"
            for name, variable in dataset.variables.items()
            if not variable.chunks and not values[name].equals(variable)
        ]
    if found:
        more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
        raise StoreExistsError(
            f"{target} holds another result: {'; '.join(found[:3])}{more}",
            "It was left as it is: give another path, or remove it to compute it anew.",
        )


def _comparable(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Keep settings and inputs, the latter by path."""
    inputs = {item["path"]: {**item} for item in provenance[INPUTS]}
    return {SETTINGS: provenance[SETTINGS], INPUTS: inputs}


def _layout(dataset: xr.Dataset) -> dict[str, Any]:
    """Dimensions, shape and data type of each variable, alike before and after storage."""
    return {
        str(name): {
            "shape": {str(dim): size for dim, size in variable.sizes.items()},
            "data type": "text" if variable.dtype.kind in "OT" else variable.dtype.name,
        }
        for name, variable in sorted(dataset.variables.items(), key=lambda item: str(item[0]))
    }
