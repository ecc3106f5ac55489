"""Graphs of many blocks that are expanded where the blocks are computed, not where they begin."""

import uuid
from collections.abc import Collection, Hashable, Mapping, Sequence
from copy import copy
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

import dask.array as da
import numpy as np
from dask._task_spec import DataNode, Task, TaskRef
from dask.array.optimization import optimize
from dask.base import compute
from dask.blockwise import Blockwise, fuse_roots, optimize_blockwise
from dask.core import keys_in_tasks
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.local import get_sync
from numpy.typing import NDArray

from wavedask.compute.progress import run_each

Graph = dict[Any, Any]

MOST_REPEATED: Final = 0.5
"""Share of the tasks of a block that may be tasks of the next block, too, and be computed twice."""
MOST_TASKS: Final = 2**10
"""Tasks in which `compute_blocks` computes all blocks."""


class BlockGraph:
    """The graph of lazy arrays, of which one block along an axis is computed at a time.

    Dask makes every task of a graph on the client and hands each to the scheduler: about thirty for
    each frame of a result, at 2 ms. This graph keeps the layers, which describe how the tasks of a
    block are made. It is small for any number of blocks. A worker expands the block that it
    computes, and runs it as one task of the scheduler.

    Parameters
    ----------
    arrays : sequence of dask.array.Array
        Arrays with the same blocks along one axis, and one block along the others.
    axes : sequence of int
        This axis of each array.

    Examples
    --------
    >>> import numpy as np
    >>> squares = da.arange(4, chunks=1) ** 2
    >>> BlockGraph([squares, squares + 1], [0, 0]).compute([3])
    [[array([9]), array([10])]]
    """

    def __init__(self, arrays: Sequence[da.Array], axes: Sequence[int]) -> None:
        self._roots = [(a.name, axis, a.ndim) for a, axis in zip(arrays, axes, strict=True)]
        self._count = arrays[0].numblocks[axes[0]]
        first = self.keys(0)
        whole = HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays))
        self._layers = fuse_roots(optimize_blockwise(whole, keys=first), keys=first).layers
        self._token = uuid.uuid4().hex

    def __dask_tokenize__(self) -> tuple[str, str]:
        # A client of Dask hashes every graph that it submits. To hash the tasks in here, again with
        # each window of tasks, would take longer than to compute small frames.
        return type(self).__name__, self._token

    def __getstate__(self) -> dict[str, Any]:
        # What can be made again is not sent.
        return {key: value for key, value in vars(self).items() if key != "_layer_of"}

    def keys(self, number: int) -> list[Any]:
        """List the keys of a block, one for each array."""
        return [
            (name, *(number if dim == axis else 0 for dim in range(ndim)))
            for name, axis, ndim in self._roots
        ]

    @cached_property
    def _layer_of(self) -> dict[Hashable, Any]:
        """Layer of the name that its keys have."""
        found: dict[Hashable, Any] = {}
        for layer in self._layers.values():
            names = [layer.output] if isinstance(layer, Blockwise) else map(_name_of, layer)
            found.update(dict.fromkeys(names, layer))
        return found

    def only(self, numbers: Collection[int]) -> "BlockGraph":
        """Leave out the tasks of other blocks, where Dask has made tasks already.

        Some operations of Dask, such as reductions, make a task for each block at once. A worker
        that computes some of the blocks does not need the others.

        Parameters
        ----------
        numbers : collection of int
            Numbers of the blocks that are still wanted.

        Returns
        -------
        BlockGraph
            With the same numbers of blocks.
        """
        wanted = frozenset(numbers)
        found = copy(self)
        vars(found).pop("_layer_of", None)
        found._token = uuid.uuid4().hex
        found._layers = {name: self._part(layer, wanted) for name, layer in self._layers.items()}
        return found

    def _part(self, layer: Any, wanted: frozenset[int]) -> Any:
        if isinstance(layer, Blockwise) or len(layer) < self._count:
            return layer
        keys = list(layer)
        if len({len(key) if isinstance(key, tuple) else 0 for key in keys}) > 1:
            return layer
        all_blocks = set(range(self._count))
        along = [p for p in range(1, len(keys[0])) if {key[p] for key in keys} == all_blocks]
        if len(along) != 1:
            return layer
        return MaterializedLayer({key: layer[key] for key in keys if key[along[0]] in wanted})

    def expand(self, keys: Sequence[Any], given: Collection[Any] = ()) -> Graph:
        """Make the tasks that some keys need.

        Parameters
        ----------
        keys : sequence
            Keys of blocks.
        given : collection, optional
            Keys whose values are known: what only these need is left out.

        Returns
        -------
        dict
            Tasks by key.
        """
        tasks: Graph = {}
        wanted = {key for key in keys if key not in given}
        while wanted:
            by_layer: dict[int, tuple[Any, set[Any]]] = {}
            for key in wanted:
                layer = self._layer_of[_name_of(key)]
                by_layer.setdefault(id(layer), (layer, set()))[1].add(key)
            fresh: Graph = {}
            for layer, own in by_layer.values():
                # In a time that does not depend on the number of blocks.
                of_keys = layer.cull(own, ())[0] if isinstance(layer, Blockwise) else layer
                fresh.update({key: of_keys[key] for key in own})
            tasks.update(fresh)
            needed = {key for task in fresh.values() for key in self._needed(task)}
            wanted = {key for key in needed if key not in tasks and key not in given}
        return tasks

    def __contains__(self, key: Any) -> bool:
        layer = self._layer_of.get(_name_of(key))
        return layer is not None and (isinstance(layer, Blockwise) or key in layer)

    def _needed(self, task: Any) -> Collection[Any]:
        """Keys that a task needs; some layers of Dask hold tasks in its older form, tuples."""
        known = getattr(task, "dependencies", None)
        names: Any = self
        found: Collection[Any] = keys_in_tasks(names, [task]) if known is None else known
        return found

    def shared(self) -> list[Any] | None:
        """Find what the blocks have in common, such as an averaged flat field.

        Returns
        -------
        list or None
            Keys to compute once, for all blocks. None where blocks have more in common than that,
            so that each cannot be computed by itself.
        """
        if self._count < 2:
            return None
        numbers = sorted({0, 1, self._count // 2, self._count - 1})
        graphs = [self.expand(self.keys(number)) for number in numbers]
        common = set.intersection(*map(set, graphs))
        used = [
            {
                dependency
                for key in graph.keys() - common
                for dependency in self._needed(graph[key])
                if dependency in common
            }
            for graph in graphs
        ]
        shared = set.intersection(*used)
        try:
            own = [set(self.only([n]).expand(self.keys(n), shared)) for n in numbers]
        except KeyError:
            return None
        repeated = max(len(one & next_) / len(next_) for one, next_ in pairwise(own))
        if (own[0] & own[-1] and len(numbers) > 2) or repeated > MOST_REPEATED:
            return None
        return sorted(shared, key=str)

    def tasks(self, keys: Sequence[Any]) -> Graph:
        """Make the optimized graph of some keys."""
        return dict(optimize(self.expand(keys), list(keys)))

    def compute(
        self, numbers: Sequence[int], given: Mapping[Any, Any] | None = None
    ) -> list[list[Any]]:
        """Compute blocks of all arrays, in this thread.

        Parameters
        ----------
        numbers : sequence of int
            Numbers of the blocks along the axis.
        given : mapping, optional
            Values of the keys that the blocks share.

        Returns
        -------
        list of list of ndarray
            For each number, the block of each array.
        """
        given = given or {}
        keys = [self.keys(number) for number in numbers]
        flat = [key for block in keys for key in block]
        graph = self.expand(flat, given)
        graph |= {key: DataNode(key, value) for key, value in given.items()}
        nested: Any = keys
        found: Any = get_sync(optimize(graph, flat), nested)
        return [list(block) for block in found]


def _name_of(key: Any) -> Hashable:
    found: Hashable = key[0] if isinstance(key, tuple) else key
    return found


def compute_blocks(
    arrays: Sequence[da.Array], axes: Sequence[int], *, label: str, show: bool | None = None
) -> list[NDArray[Any]]:
    """Compute arrays that are small, but have many blocks, with a bounded number of tasks.

    A result of 100 000 frames has as many blocks of each number. As a task for each, they would
    all wait in the scheduler at the same time. Here a task computes consecutive blocks of all
    arrays.

    Parameters
    ----------
    arrays : sequence of dask.array.Array
        Arrays with the same blocks along one axis, and one block along the others.
    axes : sequence of int
        This axis of each array.
    label : str
        What is being done, left of the progress bar.
    show : bool, optional
        Whether to show the bar; by default as in `progress_bar`.

    Returns
    -------
    list of ndarray
        The computed arrays.

    Examples
    --------
    >>> squares = da.arange(4, chunks=1) ** 2
    >>> compute_blocks([squares, squares + 1], [0, 0], label="squaring", show=False)
    [array([0, 1, 4, 9]), array([ 1,  2,  5, 10])]
    """
    blocks = BlockGraph(arrays, axes)
    shared = blocks.shared()
    if shared is None:
        # One block, or blocks that cannot be computed by themselves.
        return [np.asarray(values) for values in compute(*arrays)]
    count = arrays[0].numblocks[axes[0]]
    size = -(-count // MOST_TASKS)
    run = uuid.uuid4().hex
    graph = blocks.tasks(shared)
    graph[f"blocks-{run}"] = DataNode(f"blocks-{run}", blocks)
    references = [TaskRef(key) for key in (f"blocks-{run}", *shared)]
    keys = [(f"values-{run}", begin) for begin in range(0, count, size)]
    for key in keys:
        numbers = range(key[1], min(key[1] + size, count))
        graph[key] = Task(key, _values, numbers, tuple(axes), shared, *references)
    found: dict[int, list[NDArray[Any]]] = {}
    run_each(
        [Delayed(key, graph) for key in keys],
        label=label,
        on_done=lambda index, values: found.update({index: values}),
        show=show,
    )
    parts = zip(*(found[index] for index in range(len(keys))), strict=True)
    return [np.concatenate(part, axis) for part, axis in zip(parts, axes, strict=True)]


def _values(
    numbers: range, axes: Sequence[int], keys: Sequence[Any], blocks: BlockGraph, *given: Any
) -> list[NDArray[Any]]:
    """Compute blocks of all arrays, and join those of each."""
    computed = blocks.compute(numbers, dict(zip(keys, given, strict=True)))
    parts = zip(*computed, strict=True)
    return [np.concatenate(part, axis) for part, axis in zip(parts, axes, strict=True)]
