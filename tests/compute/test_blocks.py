"""A block of many is computed from a small graph, and what blocks share is computed once."""

from typing import Any

import dask.array as da
import numpy as np
import pytest
from dask.base import tokenize
from dask.local import get_sync
from distributed.protocol.pickle import dumps, loads

from wavedask.compute import BlockGraph, blocks, compute_blocks, run_each


def frames(count: int) -> da.Array:
    numbers = da.arange(count, chunks=1, dtype="f4")[:, None, None]
    images: da.Array = numbers + da.ones((1, 3, 4), dtype="f4")
    return images


def computed(graph: BlockGraph, number: int) -> list[Any]:
    """A block, from what a worker gets."""
    shared = graph.shared()
    assert shared is not None
    values = get_sync(graph.tasks(shared), shared)
    sent = loads(dumps(graph.only([number])))
    found: list[Any] = sent.compute([number], dict(zip(shared, values, strict=True)))[0]
    return found


def test_blocks_are_those_of_the_arrays() -> None:
    images = frames(5)
    corrected = images - images.mean(axis=0)
    # A reduction makes a task for each block, in the older form of Dask.
    arrays = [corrected, corrected.sum(axis=(1, 2)), da.moveaxis(images, 0, 2)]
    graph = BlockGraph(arrays, [0, 0, 2])
    for number in (0, 3, 4):
        one, total, last = computed(graph, number)
        np.testing.assert_array_equal(one, corrected[number : number + 1].compute())
        np.testing.assert_array_equal(total, corrected.sum(axis=(1, 2))[number].compute())
        np.testing.assert_array_equal(last, images[number].compute()[:, :, None])


def test_what_is_shared_is_found() -> None:
    images = frames(6)
    flat = images[:2].mean(axis=0)
    shared = BlockGraph([images / flat], [0]).shared()
    assert shared is not None
    assert len(shared) == 1
    assert "mean" in shared[0][0]


@pytest.mark.parametrize(
    "array", [frames(4).cumsum(axis=0), frames(8).rechunk({0: 4}).rechunk({0: 1}), frames(1)]
)
def test_blocks_that_need_each_other(array: da.Array) -> None:
    assert BlockGraph([array], [0]).shared() is None


def test_the_graph_does_not_grow() -> None:
    def size(count: int) -> int:
        images = frames(count)
        graph = BlockGraph([images * 2, images.sum(axis=(1, 2))], [0, 0])
        return len(dumps(graph.only(range(10))))

    assert size(20_000) - size(2000) < 3 * 18_000


def test_many_blocks_are_computed_in_few_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = []

    def counted(given: Any, **options: Any) -> None:
        tasks.append(len(given))
        run_each(given, **options)

    monkeypatch.setattr(blocks, "run_each", counted)
    monkeypatch.setattr(blocks, "MOST_TASKS", 4)
    images = frames(11)
    corrected = images / images.mean(axis=0)
    arrays = [corrected.sum(axis=(1, 2)), da.moveaxis(images, 0, 2)]
    found = compute_blocks(arrays, [0, 2], label="test", show=False)
    assert tasks == [4]
    for values, array in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(values, array.compute())


def test_blocks_that_need_each_other_are_computed_together() -> None:
    sums = frames(4).cumsum(axis=0)
    (found,) = compute_blocks([sums], [0], label="test", show=False)
    np.testing.assert_array_equal(found, sums.compute())


def test_a_graph_is_hashed_without_its_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = BlockGraph([frames(4)], [0])
    part = graph.only([1])

    def refuse(_: BlockGraph) -> None:
        raise AssertionError("pickled")

    monkeypatch.setattr(BlockGraph, "__getstate__", refuse)
    assert tokenize(graph) == tokenize(graph) != tokenize(part)
