"""Results survive: a store is written whole, resumed to the bit, and never overwritten."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.limits import largest_file

from wavedask.compute.connection import connect
from wavedask.errors import CorruptFileError, FileError, InputError, StoreError, StoreExistsError
from wavedask.store.layout import FORMAT_VERSION
from wavedask.store.results import StoreReport, open_store, write_store

SETTINGS = {"track": {"window": 21, "search": 16}, "energy": 17.0}
Block = Callable[[tuple[int, ...]], np.ndarray[Any, Any]]


def noise(block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """A 1x16x16 block of noise that depends on its position only."""
    return np.random.default_rng(block_id).standard_normal((1, 16, 16)).astype("f4")


def scan(block: Block = noise, *, frames: int = 6, tiles: int = 2) -> xr.Dataset:
    """Two maps that are computed together, and a number for each frame."""
    maps = da.map_blocks(
        lambda block_id: block(block_id),
        chunks=((1,) * frames, (16,) * tiles, (16,) * tiles),
        dtype="f4",
        meta=np.empty((0, 0, 0), "f4"),
    )
    return xr.Dataset(
        {
            "slope_y": (("frame", "y", "x"), maps, {"units": "rad"}),
            "slope_x": (("frame", "y", "x"), maps * 2, {"units": "rad"}),
            "tilt": ("frame", maps.mean(axis=(1, 2))),
            "flat": (("y", "x"), np.arange(256.0 * tiles**2).reshape(16 * tiles, -1)),
        },
        coords={
            "lens_x": ("frame", np.linspace(0, 1, frames), {"units": "mm", "role": "motor"}),
            "name": ("frame", np.array([f"frame {n}" for n in range(frames)])),
            "time": ("frame", np.datetime64("2026-11-22T10:00", "ns") + np.arange(frames)),
            "sample": "lens",
            "energy": 17.0,
        },
        attrs={"title": "a scan"},
    )


def assert_same(stored: xr.Dataset, expected: xr.Dataset) -> None:
    assert set(stored.variables) == {*expected.variables, "complete"}
    for name, variable in expected.variables.items():
        assert stored[name].dims == variable.dims
        np.testing.assert_array_equal(stored[name].values, variable.values)
        assert stored[name].attrs == variable.attrs


def never(block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
    pytest.fail(f"block {block_id} was computed")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("where", ["synchronous", "threads", "cluster"])
def test_what_is_read_is_what_was_written(where: str, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "r.zarr"
    source = scan()
    expected = source.compute()
    with connect(None, workers=2) if where == "cluster" else dask.config.set(scheduler=where):
        report = write_store(path, source, settings=SETTINGS)
    assert report == StoreReport(path=path, frames=6, written=6)
    assert report.kept == 0
    stored = open_store(path)
    assert_same(stored, expected)
    assert stored.complete.values.all()
    assert [f.name for f in path.parent.iterdir()] == ["r.zarr"]


def test_opened_lazily_in_the_blocks_of_the_store(tmp_path: Path) -> None:
    write_store(tmp_path / "r.zarr", scan(), settings=SETTINGS)
    stored = open_store(tmp_path / "r.zarr")
    assert stored.slope_y.chunks == ((1,) * 6, (16, 16), (16, 16))
    assert "complete" in stored.coords
    assert not any(coordinate.chunks for coordinate in stored.coords.values())


def test_provenance_is_stored(tmp_path: Path) -> None:
    source = tmp_path / "a.edf"
    source.write_bytes(b"12345")
    write_store(tmp_path / "r.zarr", scan(), settings=SETTINGS, inputs=[source])
    attributes = json.loads((tmp_path / "r.zarr" / "zarr.json").read_text())["attributes"]
    assert attributes["wavedask_store"] == FORMAT_VERSION
    assert attributes["settings"] == SETTINGS
    assert attributes["title"] == "a scan"
    assert attributes["inputs"] == [
        {"path": str(source), "size": 5, "mtime_ns": source.stat().st_mtime_ns}
    ]
    assert attributes["created"].endswith("+00:00")
    assert {"numpy", "dask", "xarray", "zarr", "opencv"} <= set(attributes["versions"])
    assert open_store(tmp_path / "r.zarr").attrs["settings"] == SETTINGS


@given(
    frames=st.integers(1, 7),
    block=st.integers(1, 4),
    tile=st.integers(1, 9),
    other=st.integers(1, 4),
    missing=st.sets(st.integers(0, 6)),
)
@settings(max_examples=15, deadline=None)
def test_any_chunking_and_any_gap_is_filled(
    tmp_path_factory: pytest.TempPathFactory,
    frames: int,
    block: int,
    tile: int,
    other: int,
    missing: set[int],
) -> None:
    path = tmp_path_factory.mktemp("store") / "r.zarr"
    values = np.random.default_rng(0).standard_normal((frames, 9, 5))
    dataset = xr.Dataset(
        {
            "wavefront": (("frame", "y", "x"), da.from_array(values, chunks=(block, tile, 5))),
            "turned": (("x", "frame"), da.from_array(values[:, 0].T, chunks=(2, other))),
        }
    )
    with dask.config.set(scheduler="synchronous"):
        write_store(path, dataset, settings={})
        gaps = [frame for frame in missing if frame < frames]
        # A ledger of nothing but False is a chunk like any other.
        with zarr.config.set({"array.write_empty_chunks": True}):
            ledger = zarr.open_array(path, path="complete", mode="r+")
            ledger[:] = ~np.isin(np.arange(frames), gaps)
        for frame in gaps:
            zarr.open_array(path, path="wavefront", mode="r+")[frame] = -1
        assert write_store(path, dataset, settings={}).written == len(gaps)
    np.testing.assert_array_equal(open_store(path).wavefront, values)
    np.testing.assert_array_equal(open_store(path).turned, values[:, 0].T)
    assert open_store(path).complete.values.all()


def test_blocks_within_a_frame_that_are_irregular_are_made_regular(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((4, 12, 6))
    blocks = da.from_array(values, chunks=((1, 3), (3, 5, 4), (6,)))
    write_store(tmp_path / "r.zarr", xr.Dataset({"w": (("frame", "y", "x"), blocks)}), settings={})
    stored = open_store(tmp_path / "r.zarr")
    assert stored.w.chunks == ((3, 1), (5, 5, 2), (6,))
    np.testing.assert_array_equal(stored.w, values)


def test_a_complete_store_is_not_computed_again(tmp_path: Path) -> None:
    write_store(tmp_path / "r.zarr", scan(), settings=SETTINGS)
    before = files_of(tmp_path)
    report = write_store(tmp_path / "r.zarr", scan(never), settings=SETTINGS)
    assert (report.frames, report.written, report.kept) == (6, 0, 6)
    assert files_of(tmp_path) == before


def test_writing_may_go_on_with_other_blocks(tmp_path: Path) -> None:
    write_store(tmp_path / "r.zarr", scan(), settings=SETTINGS)
    zarr.open_array(tmp_path / "r.zarr", path="complete", mode="r+")[2:4] = False
    report = write_store(tmp_path / "r.zarr", scan().chunk(frame=6, y=-1), settings=SETTINGS)
    assert report.written == 2
    assert_same(open_store(tmp_path / "r.zarr"), scan().compute())


def test_a_failure_keeps_what_is_done_and_can_be_resumed(tmp_path: Path) -> None:
    computed: list[int] = []

    def fails_at_4(block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
        if block_id[0] == 4:
            raise CorruptFileError("frame_4.edf is truncated", "Copy it again.")
        return noise(block_id)

    def counted(block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
        computed.append(block_id[0])
        return noise(block_id)

    with dask.config.set(scheduler="synchronous"):
        with pytest.raises(CorruptFileError, match="frame_4"):
            write_store(tmp_path / "r.zarr", scan(fails_at_4), settings=SETTINGS)
        done = open_store(tmp_path / "r.zarr").complete.values
        assert done.any()
        assert not done[4]
        report = write_store(tmp_path / "r.zarr", scan(counted), settings=SETTINGS)
    assert report.written == (~done).sum()
    assert set(computed) == set(np.flatnonzero(~done))
    assert_same(open_store(tmp_path / "r.zarr"), scan().compute())


def test_files_that_a_killed_run_had_no_time_to_rename_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"

    def fails(block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
        if block_id[0] == 2:
            raise RuntimeError
        return noise(block_id)

    with dask.config.set(scheduler="synchronous"), pytest.raises(RuntimeError):
        write_store(path, scan(fails), settings=SETTINGS)
    left = [
        path / f"{key}.c0ffee.partial"
        for key in ("zarr", "slope_y/zarr", "complete/c/0", "slope_x/c/2/0/1", "tilt/c/2")
    ]
    for file in left:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    write_store(path, scan(), settings=SETTINGS)
    assert not list(path.rglob("*.partial"))
    np.testing.assert_array_equal(open_store(path).slope_y, scan().slope_y)


def test_an_unfinished_store_opens_and_says_how_much_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
        raise OSError(2, "No such file or directory", "frame_0.edf")

    with pytest.raises(StoreError, match=r"r\.zarr.*frame_0\.edf") as caught:
        write_store(tmp_path / "r.zarr", scan(fails), settings=SETTINGS)
    assert "run the same command again" in caught.value.remedy
    with caplog.at_level(logging.INFO, logger="wavedask"):
        stored = open_store(tmp_path / "r.zarr")
    assert "6 of 6 frames are not complete" in caplog.text
    assert not stored.complete.any()
    assert stored.slope_y.isnull().all()


def test_a_block_of_nan_is_stored(tmp_path: Path) -> None:
    blank = scan(lambda _: np.full((1, 16, 16), np.nan, "f4"), frames=2, tiles=1)
    write_store(tmp_path / "r.zarr", blank, settings={})
    assert (tmp_path / "r.zarr" / "slope_y" / "c" / "1" / "0" / "0").is_file()


def test_a_frame_is_in_the_ledger_while_the_next_one_still_runs(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    seen: list[bool] = []

    def waits(block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
        for _ in range(1000 if block_id[0] else 0):
            if zarr.open_array(path, path="complete", mode="r")[0]:
                seen.append(True)
                break
            time.sleep(0.02)
        return noise(block_id)

    with dask.config.set(scheduler="threads", num_workers=2):
        write_store(path, scan(waits, frames=2, tiles=1), settings={})
    assert seen == [True]


def test_what_variables_share_is_computed_once(tmp_path: Path) -> None:
    computed: list[tuple[int, ...]] = []

    def counted(block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
        computed.append(block_id)
        return noise(block_id)

    write_store(tmp_path / "r.zarr", scan(counted, frames=3), settings={})
    assert sorted(computed) == list(np.ndindex(3, 2, 2))


def test_nothing_lazy_is_complete_at_once(tmp_path: Path) -> None:
    expected = scan().compute()
    first = write_store(tmp_path / "r.zarr", expected, settings={})
    assert (first.written, first.kept) == (6, 0)
    assert write_store(tmp_path / "r.zarr", expected, settings={}).written == 0
    assert_same(open_store(tmp_path / "r.zarr"), expected)


@pytest.mark.parametrize("name", ["lens x", " lens", "lens\nx", "µ", "2theta", "a.b", "in"])
def test_a_motor_of_any_name_stays_a_coordinate(name: str, tmp_path: Path) -> None:
    motor = ("frame", [0.0, 1.0, 2.0], {"units": "mm", "role": "motor"})
    data = scan(frames=3).assign_coords({name: motor})
    write_store(tmp_path / "r.zarr", data, settings={})
    stored = open_store(tmp_path / "r.zarr")
    assert_same(stored, data)
    assert stored[name].attrs == motor[2]
    assert stored.wave.query(f"`{name}` > 0.5").sizes["frame"] == 2
    assert write_store(tmp_path / "r.zarr", data, settings={}).written == 0


@pytest.mark.parametrize("name", ["stage/x", "", ".", "..", "zarr.json", 3])
def test_a_name_that_zarr_cannot_hold_is_refused(name: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a name that Zarr cannot hold"):
        write_store(
            tmp_path / "r.zarr", scan().assign_coords({name: ("frame", np.arange(6))}), settings={}
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_durations_and_times_are_found_again(unit: str, tmp_path: Path) -> None:
    since = (np.arange(6) * 1000).astype(f"timedelta64[{unit}]")
    times = np.datetime64("2026-11-22T10:00").astype(f"datetime64[{unit}]") + since
    data = scan().assign_coords(since=("frame", since), at=("frame", times))
    write_store(tmp_path / "r.zarr", data, settings={})
    stored = open_store(tmp_path / "r.zarr")
    np.testing.assert_array_equal(stored["since"], since)
    np.testing.assert_array_equal(stored["at"], times)
    assert write_store(tmp_path / "r.zarr", data, settings={}).written == 0


def test_one_input_is_as_good_as_a_list_of_one(tmp_path: Path) -> None:
    file = tmp_path / "a.edf"
    file.write_text("raw")
    given: list[Any] = [file, str(file), [file], iter([file])]
    for number, inputs in enumerate(given):
        write_store(tmp_path / f"{number}.zarr", scan(frames=1), settings={}, inputs=inputs)
        (entry,) = open_store(tmp_path / f"{number}.zarr").attrs["inputs"]
        assert entry["path"] == str(file)


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert write_store("~/r.zarr", scan(frames=1), settings={}).path == tmp_path / "r.zarr"
    assert open_store("~/r.zarr").sizes["frame"] == 1


def test_a_result_read_from_a_store_can_be_stored(tmp_path: Path) -> None:
    write_store(tmp_path / "a.zarr", scan(), settings={"from": "scratch"})
    write_store(tmp_path / "b.zarr", open_store(tmp_path / "a.zarr"), settings={"from": "a"})
    copy = open_store(tmp_path / "b.zarr")
    assert_same(copy, scan().compute())
    assert copy.attrs["settings"] == {"from": "a"}


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    write_store(tmp_path / "r.zarr", scan(), settings=SETTINGS)
    before = files_of(tmp_path)
    other = {"track": {"window": 15, "search": 16}, "energy": 17.0}
    with pytest.raises(StoreExistsError, match=r"settings\.track\.window is 21 there and 15 here"):
        write_store(tmp_path / "r.zarr", scan(never), settings=other)
    assert files_of(tmp_path) == before


def test_a_changed_input_is_refused_by_name(tmp_path: Path) -> None:
    source = tmp_path / "a.edf"
    source.write_bytes(b"12345")
    write_store(tmp_path / "r.zarr", scan(), settings={}, inputs=[source])
    source.write_bytes(b"123456")
    with pytest.raises(StoreExistsError, match=r"a\.edf\.size is 5 there and 6 here"):
        write_store(tmp_path / "r.zarr", scan(never), settings={}, inputs=[source])
    source.unlink()
    with pytest.raises(FileError, match=r"a\.edf"):
        write_store(tmp_path / "r.zarr", scan(never), settings={}, inputs=[source])


def test_another_shape_or_coordinate_is_refused_by_name(tmp_path: Path) -> None:
    write_store(tmp_path / "r.zarr", scan(), settings={})
    with pytest.raises(StoreExistsError, match=r"lens_x\.shape\.frame is 6 there and 7 here"):
        write_store(tmp_path / "r.zarr", scan(never, frames=7), settings={})
    moved = scan(never).assign_coords(lens_x=("frame", np.arange(6.0)))
    with pytest.raises(StoreExistsError, match="lens_x has other values"):
        write_store(tmp_path / "r.zarr", moved, settings={})
    with pytest.raises(StoreExistsError, match=r"slope_y\.data type is 'float32' there"):
        write_store(tmp_path / "r.zarr", scan(never).astype("f8"), settings={})


@pytest.mark.parametrize("kind", ["file", "folder", "empty folder", "zarr", "dangling link"])
def test_what_is_not_ours_is_left_alone(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    if kind == "file":
        path.write_text("notes")
    elif kind == "folder":
        path.mkdir()
        (path / "notes").write_text("notes")
    elif kind == "empty folder":
        path.mkdir()
    elif kind == "zarr":
        zarr.create_group(path)
    else:
        path.symlink_to(tmp_path / "gone")
    before = files_of(tmp_path)
    with pytest.raises(StoreExistsError, match=r"r\.zarr exists and is not"):
        write_store(path, scan(never), settings={})
    assert files_of(tmp_path) == before
    assert [f.name for f in tmp_path.iterdir()] == ["r.zarr"]
    with pytest.raises(StoreError, match=r"r\.zarr"):
        open_store(path)


def test_no_store_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no store at .*gone\.zarr"):
        open_store(tmp_path / "gone.zarr")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    write_store(tmp_path / "r.zarr", scan(), settings={})
    zarr.open_group(tmp_path / "r.zarr").attrs["wavedask_store"] = FORMAT_VERSION + 1
    for use in (open_store, lambda path: write_store(path, scan(never), settings={})):
        with pytest.raises(StoreError, match=f"format {FORMAT_VERSION + 1}") as caught:
            use(tmp_path / "r.zarr")
        assert "Update wavedask" in caught.value.remedy


def test_a_full_disk_leaves_no_half_store(tmp_path: Path) -> None:
    with largest_file(100), pytest.raises(StoreError, match=r"r\.zarr cannot be created"):
        write_store(tmp_path / "r.zarr", scan(), settings={})
    assert not list(tmp_path.iterdir())


def test_a_block_that_cannot_be_written_is_not_complete(tmp_path: Path) -> None:
    blocks = da.map_blocks(
        lambda block_id: np.random.default_rng(block_id).standard_normal((1, 64, 64)),
        chunks=((1,) * 6, (64,), (64,)),
        dtype="f8",
        meta=np.empty((0, 0, 0)),
    )
    large = xr.Dataset({"slope_y": (("frame", "y", "x"), blocks)})
    with largest_file(8000), pytest.raises(StoreError, match=r"'slope_y' cannot be written"):
        write_store(tmp_path / "r.zarr", large, settings={})
    assert not open_store(tmp_path / "r.zarr").complete.any()
    write_store(tmp_path / "r.zarr", large, settings={})
    assert_same(open_store(tmp_path / "r.zarr"), large.compute())


def test_a_place_that_cannot_hold_a_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"r\.zarr"):
        write_store(tmp_path / "file" / "r.zarr", scan(), settings={})


def test_a_store_that_vanishes_is_not_made_anew_by_a_worker(tmp_path: Path) -> None:
    def moves_it_away(block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
        if block_id[0] == 2 and (tmp_path / "r.zarr").exists():
            (tmp_path / "r.zarr").rename(tmp_path / "moved.zarr")
        return noise(block_id)

    with (
        dask.config.set(scheduler="synchronous"),
        pytest.raises(StoreError, match="does not find the store"),
    ):
        write_store(tmp_path / "r.zarr", scan(moves_it_away, tiles=1), settings={})


def test_a_block_of_another_shape_than_declared(tmp_path: Path) -> None:
    wrong = scan(lambda _: np.ones((1, 1, 1), "f4"), tiles=1)[["slope_y"]]
    with pytest.raises(StoreError, match=r"has shape \(1, 1, 1\), not \(1, 16, 16\)"):
        write_store(tmp_path / "r.zarr", wrong, settings={})


def test_datasets_that_cannot_be_stored(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    with pytest.raises(InputError, match="no frames"):
        write_store(path, scan().isel(frame=0), settings={})
    with pytest.raises(InputError, match="no frames"):
        write_store(path, scan().isel(frame=slice(0)), settings={})
    with pytest.raises(InputError, match="'thing' holds Python objects"):
        write_store(path, scan().assign(thing=("frame", np.array([{}] * 6))), settings={})
    word = da.from_array(np.array(["a"] * 6), chunks=1)
    with pytest.raises(InputError, match="'word' is lazy"):
        write_store(path, scan().assign(word=("frame", word)), settings={})
    with pytest.raises(InputError, match="reference is a object"):
        write_store(path, scan(), settings={"reference": object()})
    untyped: Any = write_store
    with pytest.raises(InputError, match="settings is a list"):
        untyped(path, scan(), settings=["window"])
    with pytest.raises(InputError, match="the data is a DataArray"):
        untyped(path, scan().slope_y, settings={})
    assert not list(tmp_path.iterdir())


KILLED = """
import sys, time
import dask.array as da, numpy as np, xarray as xr
from wavedask.compute.connection import connect
from wavedask.store.results import write_store

def block(block_id):
    time.sleep(0.02)
    return np.random.default_rng(block_id).standard_normal((1, 32, 32)).astype("f4")

if __name__ == "__main__":
    path, where = sys.argv[1:]
    maps = da.map_blocks(block, chunks=((1,) * 60, (32,), (32, 32)), dtype="f4",
                         meta=np.empty((0, 0, 0), "f4"))
    result = xr.Dataset({"slope_y": (("frame", "y", "x"), maps),
                         "slope_x": (("frame", "y", "x"), maps - 1)})
    with connect(None if where == "cluster" else where, workers=2):
        report = write_store(path, result, settings={"window": 21})
    print(report.written, report.kept)
"""


@pytest.mark.parametrize(("where", "blocks"), [("threads", 1), ("threads", 90), ("cluster", 80)])
def test_killed_and_resumed_is_equal_to_the_bit(where: str, blocks: int, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    path = tmp_path / "r.zarr"
    command = [sys.executable, str(script), str(path), where]
    # A session of its own, so that the workers of a cluster are killed with their driver.
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while len(list(path.glob("slope_x/c/*/0/*"))) < blocks and time.monotonic() < deadline:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL

    undisturbed = [
        [np.random.default_rng((n, 0, m)).standard_normal((32, 32)).astype("f4") for m in (0, 1)]
        for n in range(60)
    ]
    expected = np.array([np.hstack(tiles) for tiles in undisturbed])
    killed = open_store(path)
    complete = killed.complete.values
    assert not complete.all()
    np.testing.assert_array_equal(killed.slope_y.values[complete], expected[complete])
    np.testing.assert_array_equal(killed.slope_x.values[complete], expected[complete] - 1)
    if blocks > 60:
        assert complete.any()

    again = subprocess.run(
        [*command[:-1], "threads"], capture_output=True, text=True, timeout=60, check=False
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout == f"{60 - complete.sum()} {complete.sum()}\n"
    finished = open_store(path)
    assert finished.complete.values.all()
    np.testing.assert_array_equal(finished.slope_y, expected)
    np.testing.assert_array_equal(finished.slope_x, expected - 1)


@pytest.mark.parametrize("when", ["0001-01-01", "1601-01-01", "3000-01-01"])
def test_a_time_that_nanoseconds_cannot_hold_is_refused(when: str, tmp_path: Path) -> None:
    times = np.array([when] * 6, "M8[s]")
    with pytest.raises(InputError, match=f"'time' holds {when}") as caught:
        write_store(tmp_path / "r.zarr", scan().assign_coords(time=("frame", times)), settings={})
    assert "NaT" in caught.value.remedy
    assert not list(tmp_path.iterdir())


def test_times_in_seconds_and_unknown_times_are_stored(tmp_path: Path) -> None:
    times = np.array(["1700-01-01", "2262-01-01", "NaT", *["2026-01-01"] * 3], "M8[s]")
    source = scan().assign_coords(time=("frame", times))
    report = write_store(tmp_path / "r.zarr", source, settings={}, progress=False)
    np.testing.assert_array_equal(open_store(report.path).time.values, times)


def stored_mean(path: str) -> float:
    """Write a store and read it: a task that needs other tasks."""
    slope = da.full((4, 8, 8), 7.0, chunks=(1, 8, 8))
    write_store(path, xr.Dataset({"slope": (("frame", "y", "x"), slope)}), settings={})
    return float(open_store(path).slope.mean())


def test_a_store_is_written_inside_a_task_of_a_cluster_with_one_thread(tmp_path: Path) -> None:
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        # Two at once: each gives its thread free while it waits.
        tasks = client.map(stored_mean, [str(tmp_path / name) for name in ("a.zarr", "b.zarr")])
        assert [task.result(timeout=60) for task in tasks] == [7.0, 7.0]


@pytest.mark.parametrize("frames", [12, 5])
def test_a_frame_that_fails_is_named_and_the_others_go_on(
    frames: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {3, 4}

    def block(values: NDArray[Any], block_info: Any = None) -> NDArray[Any]:
        number = int(block_info[0]["chunk-location"][0])
        if number in bad:
            raise FileError(f"raw_{number}.edf is damaged", "Copy it again.")
        return values

    raw = da.ones((frames, 8, 8), chunks=(1, 8, 8))
    slope = da.map_blocks(block, raw, dtype=float, meta=np.empty((0, 0, 0)))
    dataset = xr.Dataset({"slope_y": (("frame", "y", "x"), slope)})
    with pytest.raises(FileError, match=r"raw_[34]\.edf is damaged"):
        write_store(tmp_path / "r.zarr", dataset, settings={}, progress=False)
    complete = open_store(tmp_path / "r.zarr").complete.values
    assert set(np.flatnonzero(~complete)) == bad
    told = " ".join(caplog.messages)
    assert all(f"frame {number} cannot be computed" in told for number in bad)
    bad.clear()
    again = write_store(tmp_path / "r.zarr", dataset, settings={}, progress=False)
    assert (again.written, again.kept) == (2, frames - 2)


def test_a_run_of_which_every_frame_fails_stops(tmp_path: Path) -> None:
    tried: list[int] = []

    def block(values: NDArray[Any], block_info: Any = None) -> NDArray[Any]:
        tried.append(int(block_info[0]["chunk-location"][0]))
        raise InputError("the window is wrong")

    raw = da.ones((200, 4, 4), chunks=(1, 4, 4))
    slope = da.map_blocks(block, raw, dtype=float, meta=np.empty((0, 0, 0)))
    dataset = xr.Dataset({"slope_y": (("frame", "y", "x"), slope)})
    with dask.config.set(scheduler="sync"), pytest.raises(InputError, match="window is wrong"):
        write_store(tmp_path / "r.zarr", dataset, settings={}, progress=False)
    assert len(set(tried)) < 20
