"""A store that lost some of its chunks says which frames they were."""

import shutil
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner

import wavedask as wd
from wavedask.cli import main
from wavedask.errors import StoreError
from wavedask.store.integrity import lost_frames, verify

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
