"""Writing: each block of a lazy dataset by its own task, each finished frame in the ledger."""

import platform
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
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
    """Compute and write the blocks of the frames that the ledger lacks.

    Parameters
    ----------
    target : Path
        The store.
    lazy : mapping of str to xarray.Variable
        Variables to compute, each with the dimension ``frame``.
    arrays : mapping of str to zarr.Array
        Where to write them; all have the same number of frames per chunk.
    ledger : Ledger
        What is complete; updated as frames land.
    progress : bool, optional
        Whether to show a progress bar; by default only on a terminal.
    """
    name, variable = next(iter(lazy.items()))
    per_block = arrays[name].chunks[variable.dims.index(FRAME)]
    missing = np.unique(np.flatnonzero(~ledger.complete) // per_block)
    tasks, block_of = _write_tasks(target, lazy, arrays, missing)
    outstanding = np.bincount(block_of)

    def landed(index: int, _: Any) -> None:
        block = block_of[index]
        outstanding[block] -= 1
        if outstanding[block] == 0:
            ledger.mark(block * per_block, per_block)

    with os_errors(f"writing {target} was interrupted"), ledger:
        run_each(tasks, label=f"writing {target.name}", on_done=landed, show=progress)


def _write_tasks(
    store: Path,
    lazy: Mapping[str, xr.Variable],
    arrays: Mapping[str, zarr.Array[Any]],
    missing: NDArray[np.integer[Any]],
) -> tuple[list[Delayed], list[int]]:
    """Tasks that write the `missing` blocks of frames, and the block of frames of each."""
    # A name of this run alone: a cluster must not take a write of an earlier run, into a store
    # since removed, for this one.
    run = uuid.uuid4().hex
    written: list[da.Array] = []
    keys: list[list[Any]] = [[] for _ in missing]
    for number, names in enumerate(_alike(lazy, arrays)):
        blocks = [lazy[name].data.rechunk(arrays[name].chunks) for name in names]
        acknowledged = da.map_blocks(
            _write_blocks,
            *blocks,
            targets=[arrays[name] for name in names],
            store=store,
            name=f"write-{number}-{run}",
            dtype=bool,
            chunks=tuple((1,) * count for count in blocks[0].numblocks),
            meta=np.empty((0,) * blocks[0].ndim, dtype=bool),
        )
        written.append(acknowledged)
        axis = lazy[names[0]].dims.index(FRAME)
        for position, block in enumerate(missing):
            grid = [range(count) for count in acknowledged.numblocks]
            grid[axis] = range(block, block + 1)
            keys[position] += [(acknowledged.name, *index) for index in product(*grid)]
    # All at once: dask.optimize() treats each array by itself, and what two of them need would
    # be computed twice.
    whole = HighLevelGraph.merge(*(array.__dask_graph__() for array in written))
    graph = dict(written[0].__dask_optimize__(whole, [key for frame in keys for key in frame]))
    tasks = [Delayed(key, graph) for frame in keys for key in frame]
    return tasks, [int(block) for block, frame in zip(missing, keys, strict=True) for _ in frame]


def _alike(
    lazy: Mapping[str, xr.Variable], arrays: Mapping[str, zarr.Array[Any]]
) -> list[list[str]]:
    """Names of the variables with the same grid: one task writes a block of all of them."""
    groups: dict[Any, list[str]] = {}
    for name, variable in lazy.items():
        grid = (variable.dims, variable.shape, arrays[name].chunks)
        groups.setdefault(grid, []).append(name)
    return list(groups.values())


def _write_blocks(
    *blocks: NDArray[Any],
    targets: list[zarr.Array[Any]],
    store: Path,
    block_id: tuple[int, ...],
) -> NDArray[np.bool_]:
    """Write blocks as the chunks that they are; runs where they were computed."""
    for block, target in zip(blocks, targets, strict=True):
        expected = tuple(
            min(size, length - index * size)
            for index, size, length in zip(block_id, target.chunks, target.shape, strict=True)
        )
        if block.shape != expected:
            raise StoreError(
                f"block {block_id} of {target.path!r} has shape {block.shape}, not {expected}",
                "The function that computes it returns other chunks than it declares.",
            )
        # Without this, a worker that does not see the store would make a folder of its own.
        if not (store / target.path / METADATA).is_file():
            raise StoreError(
                f"a worker on {platform.node()} does not find the store {store}",
                "Put the store on a file system that all workers see under the same path.",
            )
        with os_errors(f"block {block_id} of {target.path!r} cannot be written to {store}"):
            target.blocks[block_id] = block
    return np.ones((1,) * len(block_id), dtype=bool)


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
