"""Writing: each block of a lazy dataset by its own task, each finished frame in the ledger."""

import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from operator import and_
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from dask.base import optimize
from dask.delayed import Delayed
from numpy.typing import NDArray

from wavedask.conventions import FRAME
from wavedask.errors import StoreError, WavedaskError
from wavedask.progress import run_each

FLUSH_SECONDS: Final = 0.5
"""Time between two writes of the ledger: what a killed run must do again."""

METADATA: Final = "zarr.json"
"""File that every Zarr group and array has."""


def write_missing(
    target: Path,
    lazy: Mapping[str, xr.Variable],
    arrays: Mapping[str, zarr.Array[Any]],
    ledger: "Ledger",
    progress: bool | None,
) -> None:
    """Compute and write the blocks of frames that the ledger lacks."""
    name, variable = next(iter(lazy.items()))
    per_block = arrays[name].chunks[variable.dims.index(FRAME)]
    blocks = np.unique(np.flatnonzero(~ledger.complete) // per_block)
    tasks = _block_tasks(target, lazy, arrays, blocks)
    with os_errors(f"writing {target} was interrupted"), ledger:
        run_each(
            tasks,
            label=f"writing {target.name}",
            on_done=lambda index, _: ledger.mark(int(blocks[index]) * per_block, per_block),
            show=progress,
        )


def _block_tasks(
    store: Path,
    lazy: Mapping[str, xr.Variable],
    arrays: Mapping[str, zarr.Array[Any]],
    blocks: NDArray[np.integer[Any]],
) -> list[Delayed]:
    """One task per block of frames, which writes that block of all variables."""
    run = uuid.uuid4().hex
    landed = []
    for name, variable in lazy.items():
        data = variable.data.rechunk(arrays[name].chunks)
        written = da.map_blocks(
            _write_block,
            data,
            target=arrays[name],
            store=store,
            # A name of this run alone: a cluster must not take a write of an earlier run, into a
            # store since removed, for this one.
            name=f"write-{name}-{run}",
            dtype=bool,
            chunks=tuple((1,) * blocks_along for blocks_along in data.numblocks),
            meta=np.empty((0,) * data.ndim, dtype=bool),
        )
        others = tuple(axis for axis, dim in enumerate(variable.dims) if dim != FRAME)
        landed.append(written.all(axis=others))
    # Optimised once and as a whole, so that the variables of one block share its computation.
    (whole,) = optimize(reduce(and_, landed).blocks[blocks])
    return list(whole.to_delayed(optimize_graph=False).ravel())


def _write_block(
    block: NDArray[Any], *, target: zarr.Array[Any], store: Path, block_id: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Write one block as the chunk that it is; runs where the block was computed."""
    expected = tuple(
        min(size, length - index * size)
        for index, size, length in zip(block_id, target.chunks, target.shape, strict=True)
    )
    if block.shape != expected:
        raise StoreError(
            f"block {block_id} of {target.path!r} has shape {block.shape}, not {expected}",
            "The function that computes it declares other chunks than it returns.",
        )
    # Without this, a worker that does not see the store would write into a folder of its own.
    if not (store / target.path / METADATA).is_file():
        raise StoreError(
            f"a worker on {os.uname().nodename} does not find the store {store}",
            "Put the store on a file system that all workers see under the same path.",
        )
    with os_errors(f"block {block_id} of {target.path!r} cannot be written to {store}"):
        target.blocks[block_id] = block
    return np.ones((1,) * block.ndim, dtype=bool)


class Ledger:
    """The variable ``complete`` of a store while its frames are being written.

    Marks are flushed by a thread every half second, so that their cost does not grow with the
    number of frames, and none waits for the next frame to end.
    """

    def __init__(self, array: zarr.Array[Any], target: Path) -> None:
        self._array = array
        self._target = target
        self.complete: NDArray[np.bool_] = np.asarray(array[:], dtype=bool)
        self._changed = False
        self._failure: WavedaskError | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._flush_regularly, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._flush()

    def mark(self, first: int, count: int) -> None:
        """Mark frames as complete; raise what the flushing thread ran into."""
        if self._failure is not None:
            raise self._failure
        with self._lock:
            self.complete[first : first + count] = True
            self._changed = True

    def _flush_regularly(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            try:
                self._flush()
            except WavedaskError as error:
                self._failure = error
                return

    def _flush(self) -> None:
        with self._lock:
            if not self._changed:
                return
            marks = self.complete.copy()
            self._changed = False
        with os_errors(f"the ledger of store {self._target} cannot be written"):
            # Zarr writes a chunk beside the old one and renames it: there is always a whole one.
            self._array[:] = marks


@contextmanager
def os_errors(problem: str) -> Iterator[None]:
    """Turn an error of the operating system into one that names the store."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{problem}: {error}",
            "Check permissions, free space and quota, and that the files are still there; then "
            "run the same again: frames already complete are kept.",
        ) from error
