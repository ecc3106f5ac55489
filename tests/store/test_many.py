"""Very many small frames: several share a chunk, and no graph holds them all."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

from wavedask.compute import progress
from wavedask.store import storable, writer
from wavedask.store.arrays import open_array
from wavedask.store.integrity import verify
from wavedask.store.places import place_of
from wavedask.store.results import open_store, write_store

SIDE = 8


def block(block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.full((1, SIDE, SIDE), float(block_id[0]), "f4")


def scan(frames: int) -> xr.Dataset:
    maps = da.map_blocks(
        lambda block_id: block(block_id),
        chunks=((1,) * frames, (SIDE,), (SIDE,)),
        dtype="f4",
        meta=np.empty((0, 0, 0), "f4"),
    )
    dims = ("frame", "y", "x")
    motor = ("frame", np.arange(frames) / 8)
    return xr.Dataset({"slope_y": (dims, maps), "slope_x": (dims, -maps)}, {"lens_x": motor})


@pytest.mark.parametrize("batch", [3, 4, 100])
def test_batches_give_what_one_graph_gives(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BATCH_FRAMES", batch)
    path = tmp_path / "r.zarr"
    with dask.config.set(scheduler="synchronous"):
        assert write_store(path, scan(10), settings={}).written == 10
        ledger = open_array(place_of(path).group(), "complete")
        marks = np.array(ledger[:])
        marks[[1, 5, 8]] = False
        ledger[:] = marks
        assert write_store(path, scan(10), settings={}).written == 3
    np.testing.assert_array_equal(open_store(path).slope_y[:, 0, 0], np.arange(10.0))
    assert verify(path).sound


def test_small_frames_share_chunks_where_there_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storable, "MANY_FRAMES", 20)
    monkeypatch.setattr(storable, "SMALL_BLOCK", 7 * SIDE * SIDE * 4)
    few, many = (tmp_path / name for name in ("few.zarr", "many.zarr"))
    write_store(few, scan(19), settings={}, progress=False)
    write_store(many, scan(20), settings={}, progress=False)
    assert open_store(few).slope_y.chunks[0] == (1,) * 19
    assert open_store(many).slope_y.chunks[0] == (7, 7, 6)
    np.testing.assert_array_equal(open_store(many).slope_x[:, 0, 0], -np.arange(20.0))
    # The chunks stay what they are when the same is asked again.
    assert write_store(many, scan(20), settings={}, progress=False).written == 0


def test_a_small_frame_costs_little(tmp_path: Path) -> None:
    frames = 6000
    result = scan(frames)
    begin = time.process_time()
    with dask.config.set(scheduler="threads", num_workers=2):
        write_store(tmp_path / "r.zarr", result, settings={}, progress=False)
    assert time.process_time() - begin < 0.002 * frames
    begin = time.process_time()
    stored = open_store(tmp_path / "r.zarr")
    assert time.process_time() - begin < 0.5
    assert stored.wave.query("lens_x > 100 and complete").sizes["frame"] == frames - 801


@pytest.mark.parametrize(("chunks", "tasks"), [({"frame": 1}, 6), ({"frame": 2}, 3)])
def test_a_block_of_frames_is_one_task(
    chunks: dict[str, int], tasks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def run_each(given: Sequence[Any], **options: Any) -> None:
        seen.append(len(dict(given[0].__dask_graph__())))
        progress.run_each(given, **options)

    monkeypatch.setattr(writer, "run_each", run_each)
    result = scan(6).chunk(chunks)
    flat = result.slope_y.isel(frame=slice(0, 2)).mean("frame") + 1
    write_store(tmp_path / "r.zarr", result / flat, settings={}, progress=False)
    # The mean is computed once, in some tasks of its own, and one value describes all frames.
    assert tasks < seen[0] < tasks + 12
    np.testing.assert_allclose(
        open_store(tmp_path / "r.zarr").slope_x[:, 0, 0], -np.arange(6) / 1.5
    )


def test_frames_in_tiles_are_not_one_task(tmp_path: Path) -> None:
    result = scan(3).chunk({"y": 4})
    write_store(tmp_path / "r.zarr", result, settings={}, progress=False)
    np.testing.assert_array_equal(open_store(tmp_path / "r.zarr").slope_y, result.slope_y)
