"""Write each block of a lazy dataset in a task, and mark each finished frame in the ledger."""

import logging
import math
import platform
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from itertools import product
from typing import Any, Final, Self

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from dask._task_spec import DataNode, Task, TaskRef
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from wavedask.compute import BlockGraph, check_here, run_each
from wavedask.conventions import FRAME
from wavedask.errors import ClusterError, StoreError
from wavedask.frames import pick_frames
from wavedask.store.arrays import keys_of, remove_unfinished, unit_of
from wavedask.store.durable import machine, sync_files
from wavedask.store.faults import os_errors
from wavedask.store.ledger import Ledger
from wavedask.store.lock import Right
from wavedask.store.numbers import Numbers
from wavedask.store.places import METADATA

BATCH_FRAMES: Final = 2**12
"""Frames whose tasks are in one graph.

What all frames share, such as an averaged flat field, is computed once per batch.
"""
MOST_FAILED: Final = 8
"""Frames that fail before a run stops: then it is not a matter of single frames."""
Answer = tuple[int, dict[str, NDArray[Any]]]
"""Answer of a task that writes: a digest of its chunks, and the numbers of its frames."""
Parts = list[tuple[NDArray[np.intp], NDArray[np.intp]]]
"""Blocks of frames: their numbers in the store, and in the dataset."""

_logger = logging.getLogger("wavedask")


def write_missing(
    right: Right,
    lazy: Mapping[str, xr.Variable],
    arrays: Mapping[str, zarr.Array[Any]],
    numbers: Numbers,
    ledger: Ledger,
    positions: NDArray[np.intp],
    progress: bool | None,
) -> None:
    """Compute and write the frames that the ledger lacks.

    Parameters
    ----------
    right : Right
        The right to write the store. Each task checks that it is still valid.
    lazy : mapping of str to xarray.Variable
        Variables to compute, each with the dimension ``frame``.
    arrays : mapping of str to zarr.Array
        Where tasks write them.
    numbers : Numbers
        The variables that are not in `arrays`: tasks return them.
    ledger : Ledger
        The ledger; frames are marked when they have been written.
    positions : ndarray of int
        Frame of the store for each frame of the variables.
    progress : bool, optional
        Whether to show a progress bar; by default on a terminal and in a notebook.
    """
    place = right.place
    wanted = np.flatnonzero(~ledger.complete[positions])
    wanted = wanted[np.argsort(positions[wanted], kind="stable")]
    rows = positions[wanted]
    # One task writes all frames that share a chunk of any array.
    together = math.lcm(*(unit_of(a)[_frame_axis(lazy[n])] for n, a in arrays.items()))
    # Where there are only numbers, a task may compute any frames.
    blocks = together if arrays else max(max(v.chunksizes[FRAME]) for v in lazy.values())
    starts = np.flatnonzero(np.diff(rows // blocks, prepend=-1))
    if not place.remote:
        with os_errors(f"what a killed run has left in {place} cannot be removed"):
            remove_unfinished(place, ledger.array, 0, rows)
            for name, array in {**arrays, **numbers.arrays}.items():
                remove_unfinished(place, array, _frame_axis(lazy[name]), rows)
    batches = _batches(starts, rows.size)
    failed: list[Exception] = []
    single = SingleBlocks.of(right, lazy, arrays)
    with os_errors(f"writing {place} was interrupted"), ledger:
        for number, batch in enumerate(batches):
            label = f"writing {place.name}" + (
                f" ({number + 1} of {len(batches)})" if len(batches) > 1 else ""
            )
            # Not of all frames at once: an array for each block is as large as its task.
            pairs = [(rows[block], wanted[block]) for block in batch]

            def write(some: Parts, label: str = label) -> None:
                rows = [block for block, _ in some]
                tasks = None if single is None else single.tasks(some)
                if tasks is None:
                    picked = _picked(lazy, np.concatenate([part for _, part in some]))
                    tasks = _write_tasks(right, picked, arrays, rows)
                _write_batch(*tasks, numbers, ledger, rows, together, label, progress)

            _write_around(write, pairs, ledger, failed)
        if failed:
            raise failed[0]


def _write_around(
    write: Callable[[Parts], None], parts: Parts, ledger: Ledger, failed: list[Exception]
) -> None:
    """Write blocks of frames; if some cannot be computed, write all the others.

    Parameters
    ----------
    write : callable
        Writes some of the blocks; it ends with the first error.
    parts : list of (ndarray of int, ndarray of int)
        Blocks: frames of the store, and the same frames of the dataset.
    ledger : Ledger
        It knows which frames have been written.
    failed : list of Exception
        Errors of frames are added here, and logged with the numbers of the frames.
    """
    try:
        write(parts)
    except (OSError, MemoryError, StoreError, ClusterError):
        # Not of a frame: the next one would meet it, too.
        raise
    except Exception as error:
        left = [part for part in parts if not ledger.complete[part[0]].all()]
        if len(parts) > 1:
            middle = (len(left) + 1) // 2
            for half in (left[:middle], left[middle:]):
                if half:
                    _write_around(write, half, ledger, failed)
            return
        failed.append(error)
        frames = ", ".join(map(str, parts[0][0]))
        _logger.warning("frame %s cannot be computed, and stays incomplete: %s", frames, error)
        if len(failed) == MOST_FAILED:
            raise


def _batches(starts: NDArray[np.intp], frames: int) -> list[Iterator[slice]]:
    """Divide blocks of frames into batches, so that no graph has the tasks of all frames."""
    ends = np.append(starts[1:], frames)
    number = (ends - 1) // BATCH_FRAMES
    cuts = np.flatnonzero(np.diff(number)) + 1
    return [
        map(slice, first.tolist(), last.tolist())
        for first, last in zip(np.split(starts, cuts), np.split(ends, cuts), strict=True)
    ]


def _write_batch(
    tasks: Sequence[Delayed],
    block_of: Sequence[int],
    numbers: Numbers,
    ledger: Ledger,
    blocks: Sequence[NDArray[np.intp]],
    together: int,
    label: str,
    progress: bool | None,
) -> None:
    """Compute and write some blocks of frames."""
    outstanding = np.bincount(block_of)
    digests = np.zeros(len(blocks), np.uint32)
    of_frames: dict[int, dict[str, NDArray[Any]]] = {}

    def landed(index: int, answer: Answer) -> None:
        block = block_of[index]
        digest, values = answer
        digests[block] ^= digest
        of_frames.setdefault(block, {}).update(values)
        outstanding[block] -= 1
        if outstanding[block] == 0:
            # Not before: of a frame that fails, nothing is kept.
            numbers.take(blocks[block], of_frames.pop(block))
            ledger.mark(blocks[block], int(digests[block]), together)

    run_each(tasks, label=label, on_done=landed, show=progress)


def _frame_axis(variable: xr.Variable) -> int:
    return variable.dims.index(FRAME)


def _picked(lazy: Mapping[str, xr.Variable], frames: NDArray[np.intp]) -> dict[str, xr.Variable]:
    """Select frames of all variables, in the given order."""
    if np.array_equal(frames, np.arange(next(iter(lazy.values())).sizes[FRAME])):
        return dict(lazy)
    picked = pick_frames(xr.Dataset(dict(lazy)), frames)
    return {name: picked[name].variable for name in lazy}


def _write_tasks(
    right: Right,
    lazy: Mapping[str, xr.Variable],
    arrays: Mapping[str, zarr.Array[Any]],
    frames: Sequence[NDArray[np.intp]],
) -> tuple[list[Delayed], list[int]]:
    """Make the tasks that write blocks of `frames`, and list the block of each task."""
    # A unique name: a cluster must not reuse the result of an earlier write, into a store that has
    # since been removed.
    run = uuid.uuid4().hex
    written: list[da.Array] = []
    keys: list[list[Any]] = [[] for _ in frames]
    for number, names in enumerate(_alike(lazy, arrays)):
        axis = _frame_axis(lazy[names[0]])
        targets = {name: arrays[name] for name in names if name in arrays}
        chunks: list[Any] = list(_block_of(lazy[names[0]], targets.get(names[0])))
        chunks[axis] = tuple(block.size for block in frames)
        blocks = [lazy[name].data.rechunk(tuple(chunks)) for name in names]
        acknowledged = da.map_blocks(
            _write_blocks,
            *blocks,
            _rows(frames, axis=axis, ndim=len(chunks), name=f"rows-{number}-{run}"),
            names=names,
            targets=targets,
            right=right,
            axis=axis,
            name=f"write-{number}-{run}",
            # The answers are no arrays, and only their keys are used.
            dtype=object,
            chunks=tuple((1,) * count for count in blocks[0].numblocks),
            meta=np.empty((0,) * blocks[0].ndim, dtype=object),
        )
        written.append(acknowledged)
        for position in range(len(frames)):
            grid = [range(count) for count in acknowledged.numblocks]
            grid[axis] = range(position, position + 1)
            keys[position] += [(acknowledged.name, *index) for index in product(*grid)]
    # All together: dask.optimize() treats each array separately, and would compute twice what two
    # of them need.
    whole = HighLevelGraph.merge(*(array.__dask_graph__() for array in written))
    graph = dict(written[0].__dask_optimize__(whole, [key for frame in keys for key in frame]))
    tasks = [Delayed(key, graph) for frame in keys for key in frame]
    return tasks, [block for block, frame in enumerate(keys) for _ in frame]


class SingleBlocks:
    """Frames that are computed and written by themselves, one task of the scheduler per chunk.

    For whole frames, whose blocks are those of the store. A worker expands the graph of a frame by
    itself, see `wavedask.compute.BlockGraph`.
    """

    def __init__(
        self,
        right: Right,
        lazy: Mapping[str, xr.Variable],
        arrays: Mapping[str, zarr.Array[Any]],
        graph: BlockGraph,
        shared: list[Any],
    ) -> None:
        names = list(lazy)
        self._right = right
        self._groups = [
            (
                group,
                [names.index(name) for name in group],
                {name: arrays[name] for name in group if name in arrays},
                _frame_axis(lazy[group[0]]),
            )
            for group in _alike(lazy, arrays)
        ]
        self._graph = graph
        self._shared = shared
        self._ends = np.cumsum([0, *lazy[names[0]].chunksizes[FRAME]])

    def __dask_tokenize__(self) -> object:
        # What else is in here is the same for all frames of a store.
        return type(self).__name__, self._right.place.text, self._graph.__dask_tokenize__()

    @classmethod
    def of(
        cls,
        right: Right,
        lazy: Mapping[str, xr.Variable],
        arrays: Mapping[str, zarr.Array[Any]],
    ) -> Self | None:
        """Return None where frames are in tiles, or depend on each other."""
        tiled = any(
            dim != FRAME and (count > 1 or unit < length)
            for name, variable in lazy.items()
            for dim, count, unit, length in zip(
                variable.dims,
                variable.data.numblocks,
                _block_of(variable, arrays.get(name)),
                variable.shape,
                strict=True,
            )
        )
        if tiled or len({variable.chunksizes[FRAME] for variable in lazy.values()}) > 1:
            return None
        graph = BlockGraph(
            [variable.data for variable in lazy.values()], list(map(_frame_axis, lazy.values()))
        )
        shared = graph.shared()
        return None if shared is None else cls(right, lazy, arrays, graph, shared)

    def tasks(self, parts: Parts) -> tuple[list[Delayed], list[int]] | None:
        """Make one task for each part; None where a part is not a block of the dataset."""
        numbers = [self._blocks_of(frames) for _, frames in parts]
        if any(blocks is None for blocks in numbers):
            return None
        run = uuid.uuid4().hex
        all_frames = f"frames-{run}"
        graph = self._graph.tasks(self._shared)
        here = copy(self)
        here._ends = self._ends[:0]  # only the driver divides the frames
        here._graph = self._graph.only({block for blocks in numbers for block in blocks or ()})
        graph[all_frames] = DataNode(all_frames, here)
        references = [TaskRef(key) for key in (all_frames, *self._shared)]
        keys = [(f"write-{run}", number) for number in range(len(parts))]
        for key, blocks, (rows, _) in zip(keys, numbers, parts, strict=True):
            graph[key] = Task(key, _write_frames, blocks, rows, *references)
        return [Delayed(key, graph) for key in keys], list(range(len(parts)))

    def _blocks_of(self, frames: NDArray[np.intp]) -> list[int] | None:
        """Find the blocks of the dataset that frames are; None where they are parts of blocks."""
        blocks: list[int] = np.unique(np.searchsorted(self._ends, frames, "right") - 1).tolist()
        whole = [np.arange(self._ends[block], self._ends[block + 1]) for block in blocks]
        return blocks if np.array_equal(np.concatenate(whole), frames) else None

    def write(
        self, numbers: Sequence[int], rows: NDArray[np.intp], shared: Sequence[Any]
    ) -> Answer:
        """Compute and write frames that share their chunks; return a digest, and their numbers."""
        blocks = self._graph.compute(numbers, dict(zip(self._shared, shared, strict=True)))
        digest, found = 0, {}
        for names, positions, targets, axis in self._groups:
            values = [
                np.concatenate([block[position] for block in blocks], axis=axis)
                if len(blocks) > 1
                else blocks[0][position]
                for position in positions
            ]
            first = (0,) * values[0].ndim
            part, of_frames = _write_blocks(
                *values,
                rows,
                names=names,
                targets=targets,
                right=self._right,
                axis=axis,
                block_id=first,
            )
            digest ^= part
            found.update(of_frames)
        return digest, found


def _write_frames(
    numbers: Sequence[int], rows: NDArray[np.intp], frames: SingleBlocks, *shared: Any
) -> Answer:
    return frames.write(numbers, rows, shared)


def _rows(frames: Sequence[NDArray[np.intp]], *, axis: int, ndim: int, name: str) -> da.Array:
    """Make an array with the store's frame numbers of each block; it is passed with the values."""
    shape = [1] * ndim
    shape[axis] = -1
    layer: Any = {
        (name, *(k if dim == axis else 0 for dim in range(ndim))): block.reshape(shape)
        for k, block in enumerate(frames)
    }
    sizes: list[tuple[int, ...]] = [(1,)] * ndim
    sizes[axis] = tuple(block.size for block in frames)
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[])
    return da.Array(graph, name, tuple(sizes), meta=np.empty((0,) * ndim, np.intp))


def _alike(
    lazy: Mapping[str, xr.Variable], arrays: Mapping[str, zarr.Array[Any]]
) -> list[list[str]]:
    """Group the variables with the same grid: one task writes a block of all of them."""
    groups: dict[Any, list[str]] = {}
    for name, variable in lazy.items():
        unit = unit_of(arrays[name]) if name in arrays else None
        groups.setdefault((variable.dims, variable.shape, unit), []).append(name)
    return list(groups.values())


def _block_of(variable: xr.Variable, target: zarr.Array[Any] | None) -> tuple[int, ...]:
    """Shape of what a task writes at once; numbers have no array to which a task writes."""
    return variable.shape if target is None else unit_of(target)


def _write_blocks(
    *blocks: NDArray[Any],
    names: Sequence[str],
    targets: Mapping[str, zarr.Array[Any]],
    right: Right,
    axis: int,
    block_id: tuple[int, ...],
) -> Answer:
    """Write blocks to the store, in the process that computed them; return a digest of them.

    The last block holds the frame numbers in the store. No other task writes to the same chunks.
    Numbers of frames, which have no targets, are returned instead: those of many frames share a
    chunk.
    """
    *values, rows = blocks
    if not targets:
        return 0, dict(zip(names, values, strict=True))
    frames = rows.ravel()
    place = right.place
    # Without this check, a worker that does not see the store would create a new folder.
    if not place.remote and not (place.path / METADATA).is_file():
        raise StoreError(
            f"a worker on {platform.node()} does not find the store {place}",
            "Put the store on a file system that all workers see under the same path.",
        )
    check_here(right.software)
    with os_errors(f"the lock of {place} cannot be read"):
        right.check()
    digest = 0
    for block, target in zip(values, targets.values(), strict=True):
        where: list[Any] = [
            slice(index * size, min(length, (index + 1) * size))
            for index, size, length in zip(block_id, unit_of(target), target.shape, strict=True)
        ]
        where[axis] = slice(int(frames[0]), int(frames[-1]) + 1)
        expected = tuple(
            frames.size if dim == axis else part.stop - part.start for dim, part in enumerate(where)
        )
        if block.shape != expected:
            raise StoreError(
                f"block {block_id} of {target.path!r} has shape {block.shape}, not {expected}",
                "The function that computes it returns other chunks than it declares.",
            )
        with os_errors(f"block {block_id} of {target.path!r} cannot be written to {place}"):
            if where[axis].stop - where[axis].start == frames.size:
                target[tuple(where)] = block
            else:
                where[axis] = frames
                target.oindex[tuple(where)] = block
            keys = keys_of(target, axis, block_id, frames)
            recorder: Any = target.store
            digest ^= recorder.digest(keys)
            if right.durable and not place.remote and machine() != right.machine:
                # The barrier of the driver does not reach the memory of this machine.
                sync_files(place.path / key for key in keys)
    return digest, {}
