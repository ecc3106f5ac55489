"""Numbers of each frame lie in chunks of many frames, and are as safe as maps."""

import shutil
from itertools import product
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

import wavedask as wd
from wavedask.compute import local_client
from wavedask.errors import StoreError
from wavedask.store import layout
from wavedask.store import ledger as ledger_module
from wavedask.store.durable import barrier
from wavedask.store.integrity import lost_frames
from wavedask.store.layout import NUMBERS_BYTES
from wavedask.store.numbers import Numbers

DIMS = ("frame", "y", "x")


def numbered(frames: int, block: int = 1, *, maps: bool = True, begin: int = 0) -> xr.Dataset:
    """A map, two numbers and three coefficients for each frame, and where each comes from."""
    number = da.arange(begin, begin + frames, chunks=block)
    whole = da.broadcast_to(number[:, None, None], (frames, 2, 2), (number.chunks[0], 2, 2))
    data = {
        "slope_y": (DIMS, whole.astype("f4")),
        "radius": ("frame", number / 7),
        "count": ("frame", number * 3),
        "coefficient": (("mode_number", "frame"), da.stack([number, -number, number / 3])),
    }
    return xr.Dataset(
        data if maps else {name: data[name] for name in data if name != "slope_y"},
        {
            "source_file": ("frame", np.array(["/raw/a.h5"] * frames, dtype=object)),
            "source_index": ("frame", np.arange(begin, begin + frames)),
        },
    )


def write(path: Path, data: xr.Dataset, **options: Any) -> wd.StoreReport:
    return wd.write_store(path, data, settings={}, grow=["sample"], progress=False, **options)


def assert_holds(path: Path, frames: int) -> None:
    stored = wd.open_store(path)
    expected = numbered(frames).compute()
    assert bool(stored.complete.all())
    for name in stored.data_vars:
        np.testing.assert_array_equal(stored[name], expected[name])
        assert stored[name].dtype == expected[name].dtype
    assert lost_frames(path) == {}


def files(path: Path, name: str) -> list[Path]:
    return [file for file in (path / name / "c").rglob("*") if file.is_file()]


def test_on_a_cluster(tmp_path: Path) -> None:
    with local_client(2, memory_limit=0):
        for maps, block in product([True, False], [1, 3]):
            path = tmp_path / f"{maps}{block}.zarr"
            write(path, numbered(8, block, maps=maps))
            assert_holds(path, 8)


@pytest.mark.parametrize("block", [1, 3])
@pytest.mark.parametrize("maps", [True, False])
def test_frames_share_the_files_of_their_numbers(maps: bool, block: int, tmp_path: Path) -> None:
    report = write(tmp_path / "r.zarr", numbered(20, block, maps=maps))
    path = tmp_path / "r.zarr"
    assert report.written == 20
    assert_holds(path, 20)
    assert [len(files(path, name)) for name in ("radius", "count", "coefficient")] == [1, 1, 1]
    assert len(files(path, "slope_y")) == (-(-20 // block) if maps else 0)


def test_tiled_maps_have_numbers_too(tmp_path: Path) -> None:
    data = numbered(6)
    data["slope_y"] = data.slope_y.chunk(y=1)
    write(tmp_path / "r.zarr", data)
    assert_holds(tmp_path / "r.zarr", 6)


def test_more_frames_than_a_chunk_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "NUMBERS_CHUNK", 64)
    path = tmp_path / "r.zarr"
    for frames in (13, 21):
        write(path, numbered(frames))
        assert_holds(path, frames)
    assert [len(files(path, name)) for name in ("radius", "coefficient")] == [3, 11]


def test_what_is_large_or_has_image_axes_is_written_by_tasks(tmp_path: Path) -> None:
    data = numbered(3)
    length = NUMBERS_BYTES // 8 + 1
    data["profile"] = (("frame", "x_line"), da.ones((3, length), chunks=(1, length)))
    write(tmp_path / "r.zarr", data)
    assert [len(files(tmp_path / "r.zarr", name)) for name in ("slope_y", "profile")] == [3, 3]
    assert lost_frames(tmp_path / "r.zarr") == {}


@pytest.mark.parametrize("maps", [True, False])
def test_a_store_grows_within_a_chunk_of_numbers(maps: bool, tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    for frames in (3, 5, 11):
        write(path, numbered(frames, maps=maps))
        assert_holds(path, frames)


def test_a_run_that_failed_keeps_the_numbers_of_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    data = numbered(8)

    def fails(values: np.ndarray) -> np.ndarray:
        if values.flat[0] == 5:
            raise ValueError("no speckle")
        return values

    broken = data.assign(slope_y=(DIMS, data.slope_y.data.map_blocks(fails, meta=np.ones(1, "f4"))))
    with pytest.raises(ValueError, match="no speckle"):
        write(path, broken)
    stored = wd.open_store(path)
    assert np.flatnonzero(~stored.complete.values).tolist() == [5]
    np.testing.assert_array_equal(np.flatnonzero(stored.radius.isnull()), [5])
    assert lost_frames(path) == {}
    assert write(path, data).written == 1
    assert_holds(path, 8)


def test_damaged_numbers_are_named_and_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    write(path, numbered(5))
    (file,) = files(path, "radius")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(StoreError, match=r"radius, frame 0 to 4 .* damaged.*--repair"):
        wd.open_store(path).radius.load()
    assert lost_frames(path) == {"radius": [0, 1, 2, 3, 4]}
    # A run that adds frames would write that chunk again, and must not do so without its values.
    with pytest.raises(StoreError, match=r"radius, frame 0 to 5 .* damaged"):
        write(path, numbered(6))
    assert write(path, numbered(6), repair=True).written == 6
    assert_holds(path, 6)


def test_numbers_of_another_time_are_noticed(tmp_path: Path) -> None:
    path, old = tmp_path / "r.zarr", tmp_path / "old"
    write(path, numbered(3))
    (file,) = files(path, "radius")
    shutil.copy(file, old)
    write(path, numbered(5))
    # What a copy holds that was made while the store grew: valid, and without the new frames.
    shutil.copy(old, file)
    assert lost_frames(path) == {"digest": [3, 4]}
    assert write(path, numbered(5), repair=True).written == 2
    assert_holds(path, 5)


@pytest.mark.parametrize("maps", [True, False])
def test_every_changed_number_is_noticed(maps: bool, tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    write(path, numbered(5, maps=maps))
    for name, where in (("radius", 2), ("count", 0), ("coefficient", (1, 4))):
        array = zarr.open_array(path / name, mode="r+")
        before = np.asarray(array[where])
        array[where] = before + 1
        assert lost_frames(path) == {"digest": [where[1] if isinstance(where, tuple) else where]}
        array[where] = before
    assert lost_frames(path) == {}


def test_a_store_of_an_older_version_goes_on(tmp_path: Path) -> None:
    """Its numbers lie in a chunk for each frame, which its digests cover."""
    path = tmp_path / "r.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wavedask.store.layout.chunks_of_numbers", lambda variable: None)
        write(path, numbered(4))
    assert len(files(path, "radius")) == 4
    write(path, numbered(6))
    assert len(files(path, "radius")) == 6
    assert_holds(path, 6)


def test_numbers_get_their_names_when_they_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.zarr"
    write(path, numbered(3))
    order: list[str] = []
    publish = Numbers.publish

    def flushed(folder: Path, listed: Any) -> None:
        drafts = [file for file in listed() if file.name.endswith(".partial")]
        if drafts:
            assert len(drafts) == 3
            # The values of frames that are complete are not touched before.
            np.testing.assert_array_equal(wd.open_store(path).radius[:3], np.arange(3) / 7)
            order.append("flushed")
        barrier(folder, listed)

    def published(self: Numbers, complete: np.ndarray) -> None:
        order.append("named" if self.drafts() else "")
        publish(self, complete)

    monkeypatch.setattr(ledger_module, "barrier", flushed)
    monkeypatch.setattr(Numbers, "publish", published)
    write(path, numbered(6))
    assert [step for step in order if step] in (n * ["flushed", "named"] for n in range(1, 7))
    assert_holds(path, 6)


def test_a_disk_that_fails_once_loses_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first flush fails when some of the numbers have been written; the last one does not."""
    path = tmp_path / "r.zarr"
    write(path, numbered(3))
    whole = Numbers.write
    failed: list[np.ndarray] = []

    def write_some(self: Numbers, frames: np.ndarray) -> None:
        whole(self, frames)
        if not failed:
            failed.append(frames)
            raise OSError("no space left")

    monkeypatch.setattr(Numbers, "write", write_some)
    monkeypatch.setattr(ledger_module, "FLUSH_SECONDS", 0.0)
    with pytest.raises(StoreError, match="no space left"):
        write(path, numbered(40))
    stored = wd.open_store(path)
    done = np.flatnonzero(stored.complete)
    assert done.size >= 3
    np.testing.assert_array_equal(stored.radius[done], numbered(40).radius[done])
    assert lost_frames(path) == {}
    write(path, numbered(40))
    assert_holds(path, 40)
