"""A store that lost some of its chunks says which frames they were."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from distributed import Client, LocalCluster

import wavedask as wd
from wavedask.cli import main
from wavedask.compute import task_needs
from wavedask.errors import StoreError
from wavedask.store import layout
from wavedask.store.integrity import lost_frames, verify
from wavedask.store.layout import encodings

DIMS = ("frame", "y", "x")


def stored(folder: Path, frames_per_chunk: int = 1, **options: Any) -> Path:
    """Write five frames in tiles, beside numbers that are nothing but NaN and one of no frame."""
    maps = da.full((5, 8, 8), np.nan, chunks=(frames_per_chunk, 4, 8), dtype="f4")
    result = xr.Dataset(
        {
            "slope_y": (DIMS, maps),
            "slope_x": (DIMS, maps + 1),
            "radius": ("frame", np.full(5, np.nan)),
            "weight": (("y", "x"), np.zeros((8, 8))),
        }
    )
    path = wd.write_store(folder / "r.zarr", result, settings={}, **options).path
    assert isinstance(path, Path)
    return path


def test_a_whole_store_has_lost_nothing(tmp_path: Path) -> None:
    assert lost_frames(stored(tmp_path)) == {}


def test_what_is_missing_is_named_by_variable_and_frame(tmp_path: Path) -> None:
    path = stored(tmp_path)
    (path / "slope_y/c/3/1/0").unlink()
    shutil.rmtree(path / "slope_x/c/0")
    (path / "slope_x/c/4/0/0").unlink()
    assert lost_frames(path) == {"slope_y": [3], "slope_x": [0, 4]}
    shown = CliRunner().invoke(main, ["history", str(path), "--verify"])
    assert shown.exit_code == 1
    assert "slope_x of 2 frames (0, 4)" in " ".join(shown.output.split())


def test_frames_that_no_run_has_finished_are_not_lost(tmp_path: Path) -> None:
    path = stored(tmp_path, frames_per_chunk=2)
    complete = zarr.open_array(path / "complete", mode="r+")
    complete[2] = False
    (path / "slope_y/c/1/0/0").unlink()
    assert lost_frames(path) == {"slope_y": [3]}
    complete[3] = False
    assert lost_frames(path) == {}


@pytest.mark.parametrize("frames_per_chunk", [1, 2])
def test_what_was_lost_is_computed_again(frames_per_chunk: int, tmp_path: Path) -> None:
    path = stored(tmp_path, frames_per_chunk)
    lost = [path / f"slope_{axis}/c/1/1/0" for axis in "yx"]
    whole = [file.read_bytes() for file in lost]
    for file in lost:
        file.unlink()
    # Without being asked, a run takes the ledger's word, and reads nothing.
    stored(tmp_path, frames_per_chunk)
    assert lost_frames(path)
    stored(tmp_path, frames_per_chunk, repair=True)
    assert [file.read_bytes() for file in lost] == whole
    assert verify(path).sound
    assert wd.open_store(path).complete.all()
    assert len(wd.open_store(path).attrs["runs"]) == 2


def test_a_repair_of_what_is_whole_computes_nothing(tmp_path: Path) -> None:
    before = (stored(tmp_path) / "slope_y/c/0/0/0").stat().st_mtime_ns
    after = (stored(tmp_path, repair=True) / "slope_y/c/0/0/0").stat().st_mtime_ns
    assert before == after


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a wavedask result store"):
        lost_frames(tmp_path)


def flip(file: Path, chance: random.Random) -> None:
    """Change one bit."""
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def random_maps(folder: Path, **options: Any) -> Path:
    values = np.random.default_rng(0).standard_normal((6, 32, 32)).astype("f4")
    maps = da.from_array(values, chunks=(1, 32, 32))
    result = xr.Dataset(
        {"slope_y": (DIMS, maps), "slope_x": (DIMS, -maps)},
        {"lens_x": ("frame", np.arange(6.0)), "name": ("frame", list("abcdef"))},
    )
    path = wd.write_store(folder / "r.zarr", result, settings={}, progress=False, **options).path
    assert isinstance(path, Path)
    return path


def test_a_flipped_bit_is_noticed_named_and_mended(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    path = random_maps(tmp_path)
    files = sorted(path.glob("slope_*/c/*/*/*"))
    for _ in range(40):
        file = chance.choice(files)
        whole = file.read_bytes()
        name, frame = file.parts[-5], int(file.parts[-3])
        flip(file, chance)
        with pytest.raises(
            StoreError, match=f"{name}, frame {frame} of store .* is damaged"
        ) as told:
            wd.open_store(path)[name].load()
        assert "--repair" in told.value.remedy
        assert lost_frames(path) == {name: [frame]}
        file.write_bytes(whole)
    flip(file, chance)
    random_maps(tmp_path, repair=True)
    assert file.read_bytes() == whole
    assert verify(path).sound


def test_a_missing_chunk_is_an_error_and_not_nan(tmp_path: Path) -> None:
    path = random_maps(tmp_path)
    (path / "slope_y/c/2/0/0").unlink()
    with pytest.raises(StoreError, match=r"slope_y, frame 2 of store .* is missing"):
        wd.open_store(path).slope_y.load()
    # The other frames can be read.
    assert np.isfinite(wd.open_store(path).slope_y[3]).all()


@pytest.mark.parametrize("name", ["lens_x", "name", "complete"])
@pytest.mark.parametrize("how", ["gone", "flipped"])
def test_a_coordinate_that_is_lost_is_an_error(name: str, how: str, tmp_path: Path) -> None:
    path = random_maps(tmp_path)
    file = path / name / "c" / "0"
    if how == "gone":
        file.unlink()
    else:
        flip(file, random.Random(1))
    with pytest.raises(StoreError, match=rf"{name} of store .* is (missing|damaged)"):
        wd.open_store(path)


def test_a_valid_chunk_of_another_frame_is_noticed(tmp_path: Path) -> None:
    path = random_maps(tmp_path)
    (path / "slope_y/c/2/0/0").write_bytes((path / "slope_y/c/3/0/0").read_bytes())
    assert lost_frames(path) == {"digest": [2]}
    random_maps(tmp_path, repair=True)
    assert verify(path).sound


@pytest.mark.parametrize("frames_per_chunk", [1, 2])
def test_the_digests_of_a_store_that_grew_or_was_resumed(
    frames_per_chunk: int, tmp_path: Path
) -> None:
    path = stored(tmp_path, frames_per_chunk)
    digests = np.asarray(zarr.open_array(path / "digest", mode="r")[:])
    assert (digests != 0).all()
    zarr.open_array(path / "complete", mode="r+")[2] = False
    stored(tmp_path, frames_per_chunk)
    again = np.asarray(zarr.open_array(path / "digest", mode="r")[:])
    # Of a chunk that is written in parts the digest is not known.
    expected = digests * np.array([1, 1, frames_per_chunk == 1, frames_per_chunk == 1, 1])
    expected[2:4] = digests[2:4] if frames_per_chunk == 1 else 0
    np.testing.assert_array_equal(again, expected)
    assert verify(path).sound


def test_verify_uses_the_cluster(tmp_path: Path) -> None:
    path = random_maps(tmp_path)
    (path / "slope_y/c/2/0/0").unlink()
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster),
    ):
        assert lost_frames(path) == {"slope_y": [2]}
    shown = CliRunner().invoke(main, ["history", str(path), "--verify", "--workers", "1"])
    assert shown.exit_code == 1
    assert "slope_y" in shown.output


def test_a_store_of_an_older_version_is_read_and_continued(tmp_path: Path) -> None:
    """Without checksums, without digests, and with empty chunks left out."""
    path = random_maps(tmp_path)
    document = json.loads((path / "zarr.json").read_text())
    arrays = document["consolidated_metadata"]["metadata"]
    del document["attributes"]["wavedask_checksum"], arrays["digest"]
    shutil.rmtree(path / "digest")
    for name, array in arrays.items():
        array["codecs"] = array["codecs"][:-1]
        (path / name / "zarr.json").write_text(json.dumps(array))
        for file in (path / name).rglob("*"):
            if file.is_file() and file.name != "zarr.json":
                file.write_bytes(file.read_bytes()[:-4])
    (path / "zarr.json").write_text(json.dumps(document))
    expected = wd.open_store(path).load()
    assert verify(path).sound
    (path / "slope_y/c/2/0/0").unlink()
    assert lost_frames(path) == {"slope_y": [2]}
    random_maps(tmp_path, repair=True)
    xr.testing.assert_equal(wd.open_store(path).load(), expected)


MOVED = {
    "another motor": ("lens_y/c/0", "lens_x/c/0"),
    "another part of the scan": ("lens_x/c/1", "lens_x/c/0"),
    "another map that all frames share": ("flat/c/0/0", "blind/c/0/0"),
}


@pytest.mark.parametrize("case", MOVED)
def test_a_valid_chunk_in_the_place_of_another_one(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "SMALL_CHUNK", 4)
    monkeypatch.setattr(layout, "encodings", in_parts)
    motors = {name: ("frame", np.arange(8.0) + k) for k, name in enumerate(("lens_x", "lens_y"))}
    maps = {name: (("y", "x"), np.full((4, 4), k)) for k, name in enumerate(("flat", "blind"))}
    slope = da.ones((8, 4, 4), chunks=(1, 4, 4))
    result = xr.Dataset({"slope": (("frame", "y", "x"), slope), **maps}, motors)
    path = tmp_path / "r.zarr"
    wd.write_store(path, result, settings={})
    assert verify(path).sound
    one, other = (path / key for key in MOVED[case])
    contents = one.read_bytes(), other.read_bytes()
    assert contents[0] != contents[1]
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    # Both are wrong, and either may be read first.
    names = "|".join(key.partition("/")[0] for key in MOVED[case])
    with pytest.raises(StoreError, match=f"({names}) of store .* another valid chunk"):
        wd.open_store(path).load()
    with pytest.raises(StoreError, match="another valid chunk"):
        verify(path)


def in_parts(eager: xr.Dataset) -> dict[Any, dict[str, Any]]:
    """Chunks of four frames, where a store would have some thousands."""
    found = encodings(eager)
    for name, variable in eager.variables.items():
        if variable.dims == ("frame",):
            found[name]["chunks"] = (4,)
    return found


def test_a_run_that_is_out_of_memory_says_so(tmp_path: Path) -> None:
    def hoard(block: np.ndarray) -> np.ndarray:
        return np.empty(2**60, np.uint8)[: block.size]

    slope = da.map_blocks(
        hoard, da.ones((2, 4, 4), chunks=(1, 4, 4)), dtype="f4", meta=np.empty((0, 0, 0), "f4")
    )
    result = xr.Dataset({"slope": (DIMS, slope)})
    with task_needs(2**30), pytest.raises(StoreError, match="out of memory: ") as caught:
        wd.write_store(tmp_path / "r.zarr", result, settings={})
    assert "It needs 1.29 GiB" in caught.value.remedy
