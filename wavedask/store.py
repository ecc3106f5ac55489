"""The result store: create, write frame by frame, resume after a crash, open.

A store is one Zarr v3 group that holds one dataset along ``frame``. Each dask block is one Zarr
chunk, written by one task. The boolean variable ``complete`` is the ledger: only the process that
drives the run writes it, and only after all chunks of a frame have landed.
"""

import datetime
import logging
import math
import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import and_
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import dask
import dask.array as da
import numpy as np
import xarray as xr
import zarr
from dask.delayed import Delayed
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from wavedask.conventions import COMPLETE, FRAME
from wavedask.errors import InputError, StoreError, StoreExistsError, WavedaskError
from wavedask.progress import run_each
from wavedask.provenance import as_json, differences, fingerprints, versions

FORMAT: Final = "wavedask_store"
"""Attribute that tells a result store from any other Zarr group; its value is the version."""
FORMAT_VERSION: Final = 1
SETTINGS: Final = "settings"
INPUTS: Final = "inputs"
VERSION: Final = "wavedask_version"
VERSIONS: Final = "versions"
CREATED: Final = "created"

FLUSH_SECONDS: Final = 0.5
"""Time between two writes of the ledger: what a killed run must do again."""

COMPRESSOR: Final = BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")
"""For noisy float32 maps: written as fast as without compression, read faster, a fifth smaller."""

_logger = logging.getLogger("wavedask")
_METADATA: Final = "zarr.json"


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
    with _os_errors(f"store {target} cannot be opened for writing"):
        group = zarr.open_group(target, mode="r+")
        ledger = _Ledger(_array(group, COMPLETE.name), target)
    missing = int((~ledger.complete).sum())
    if missing:
        arrays = {name: _array(group, name) for name in lazy}
        _write_missing(target, lazy, arrays, ledger, progress)
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
    with _os_errors(f"store {target} cannot be read"):
        dataset = xr.open_zarr(target, consolidated=False, chunks={}).set_coords(COMPLETE.name)
        for coordinate in dataset.coords.values():
            coordinate.load()
    complete = dataset[COMPLETE.name]
    if not complete.all():
        missing = int((~complete).sum())
        _logger.info("%s: %d of %d frames are not complete", target, missing, complete.size)
    return dataset


def _attributes(target: Path) -> dict[str, Any] | None:
    """Attributes of the store at `target`; None if it is something else."""
    if not (target / _METADATA).is_file():
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
    # Fixed-length text has no Zarr v3 type; that of variable length has.
    texts = {
        name: variable.astype(object)
        for name, variable in dataset.variables.items()
        if variable.dtype.kind == "U"
    }
    return dataset.assign({name: dataset[name].copy(data=text) for name, text in texts.items()})


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
