"""Averages of dark and flat frames: right, and in the memory of a few frames."""

import tracemalloc
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client
from numpy.typing import NDArray
from support.laziness import forbid_computing

from wavedask.detector.averaging import Average, averaged

SHAPE = (30, 20)
CHUNKS: list[tuple[int, ...] | None] = [None, (1, 30, 20), (3, 30, 20), (2, 11, 20)]


def frames(number: int = 11) -> NDArray[Any]:
    values = np.random.default_rng(0).normal(1000, 30, (number, *SHAPE)).astype("f4")
    values[:4, 3, 3] = np.nan
    values[:7, 4, 4] = np.nan
    return values


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("number", [1, 2, 11, 70])
@pytest.mark.parametrize("average", ["mean", "median"])
def test_averages_of_what_is_known(
    average: Average, number: int, chunks: tuple[int, ...] | None
) -> None:
    values = frames(number)
    lazy = values if chunks is None else da.from_array(values, chunks=chunks)
    with forbid_computing():
        result = averaged(lazy, average)
    known = np.isfinite(values).sum(axis=0)
    everywhere = np.where(known > 0, values, 0.0)
    expected = (np.nanmean if average == "mean" else np.nanmedian)(everywhere, axis=0)
    expected[known < number / 2] = np.nan
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.compute(), expected, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e20])
def test_any_scale(scale: float) -> None:
    values = frames()
    for average in ("mean", "median"):
        one, other = (averaged(v, average).compute() for v in (values, values * np.float32(scale)))
        np.testing.assert_allclose(other, one * scale, rtol=1e-5)


def peak(number: int, average: Average) -> float:
    """Largest memory while so many frames are averaged, in frames of single precision."""
    side = 256

    def made(block: NDArray[Any], block_id: tuple[int, ...]) -> NDArray[Any]:
        return np.full((1, side, side), block_id[0], np.float32)

    lazy = da.map_blocks(
        made,
        da.zeros((number, 1, 1), chunks=1),
        chunks=(1, side, side),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    result = averaged(lazy, average)
    tracemalloc.start()
    with dask.config.set(scheduler="threads", num_workers=4):
        value = result.compute()
    largest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert value[0, 0] == (number - 1) / 2
    return largest / (4 * side**2)


@pytest.mark.parametrize(("average", "more"), [("mean", 2.0), ("median", 6.0)])
def test_many_frames_cost_what_two_do(average: Average, more: float) -> None:
    peak(2, average)  # what is imported by the way
    assert peak(24, average) < peak(2, average) + more


def test_frames_in_the_memory_of_a_cluster() -> None:
    values = frames(4)
    with Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
    ) as client:
        kept = client.persist(da.from_array(values, chunks=(1, *SHAPE)))
        found = averaged(kept, "mean").compute()
        there = averaged(da.from_array(values, chunks=(1, *SHAPE)), "mean").compute()
    np.testing.assert_array_equal(found, averaged(values, "mean").compute())
    np.testing.assert_array_equal(there, found)


def test_an_error_of_a_reader_comes_through() -> None:
    def broken(block: NDArray[Any]) -> NDArray[Any]:
        raise OSError("disk is gone")

    lazy = da.map_blocks(broken, da.zeros((2, 4, 4), chunks=(1, 4, 4)), meta=np.empty((0, 0, 0)))
    with pytest.raises(OSError, match="disk is gone"):
        averaged(lazy, "mean").compute()
