"""A store remembers how it was made well enough to be made again to the same bits."""

import os
import shutil
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner, Result
from support.experiments import FRAMES, assert_equal, campaign, copied, load, write

import wavedask as wd
from wavedask.cli import main
from wavedask.errors import ExperimentError, FileError, StoreError
from wavedask.experiment.pipeline import run
from wavedask.experiment.reproduce import experiments_of
from wavedask.store.provenance import changes, fingerprints


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw frames and a store that was made by two experiments."""
    folder = campaign(tmp_path_factory.mktemp("campaign"))
    with dask.config.set(scheduler="threads", num_workers=2):
        run(load(folder, sample={"files": ["raw/sample_0000.edf"]}), hashed=True)
        run(load(folder, sample={"files": ["raw/sample_0002.edf", "raw/sample_0001.edf"]}))
    return folder


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_a_grown_store_is_made_again_to_the_same_bits(grown: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zarr"
    # From another folder: relative paths are those of the experiment file.
    result = invoke(
        "run", "--from", grown / "results.zarr", "--output", again, "--address", "threads"
    )
    assert result.exit_code == 0, result.output
    first, second = wd.open_store(grown / "results.zarr"), wd.open_store(again)
    assert_equal(second, first)
    assert second.sizes["frame"] == FRAMES
    for name in first.coords:
        np.testing.assert_array_equal(first[name].values, second[name].values)
    assert [r["settings"] for r in second.attrs["runs"]] == [
        r["settings"] for r in first.attrs["runs"]
    ]
    result = invoke("run", "--plan", "--from", grown / "results.zarr", "--output", tmp_path / "p")
    assert "of 128 x 128 px" in result.output
    assert not (tmp_path / "p").exists()


def test_the_history_is_told(grown: Path) -> None:
    result = invoke("history", grown / "results.zarr", "--verify")
    assert result.exit_code == 0, result.output
    for words in (
        "1 frame, adds scan 0",
        "3 frames, adds scan 1",
        "sample.files is ['raw/sample_0000.edf'] there",
        "window 15",
        "sample_0001.edf",
        "with SHA-256",
        "numpy 2",
        "unchanged",
    ):
        assert words in result.output, words


def test_changed_inputs_are_named(grown: Path, tmp_path: Path) -> None:
    folder = copied(grown, tmp_path)
    with dask.config.set(scheduler="threads", num_workers=2):
        store = run(load(folder, sample={"files": "raw/sample_000*.edf"})).store.path
    dark = next((folder / "raw").glob("dark*"))
    kept = dark.read_bytes()
    dark.write_bytes(kept + b" ")
    with pytest.raises(ExperimentError, match=rf"{dark.name} has size"):
        experiments_of(store, output=str(tmp_path / "again.zarr"))
    verified = invoke("history", store, "--verify")
    assert f"{dark.name} has size" in verified.output
    assert verified.exit_code == 1
    dark.unlink()
    with pytest.raises(ExperimentError, match=dark.name):
        experiments_of(store, output=str(tmp_path / "again.zarr"))
    shutil.copy2(next((grown / "raw").glob("dark*")), dark)
    # A pattern that now matches more: made again, it would be another result.
    shutil.copy2(folder / "raw" / "sample_0000.edf", folder / "raw" / "sample_0009.edf")
    result = invoke("run", "--from", store, "--output", tmp_path / "again.zarr")
    assert result.exit_code == 2
    assert "was not made from" in result.output
    assert "sample_0009.edf" in result.output


def test_hashes_see_what_size_and_time_do_not(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"12345")
    plain, hashed = fingerprints([file]), fingerprints([file], hashed=True)
    status = file.stat()
    file.write_bytes(b"54321")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert changes(plain) == []
    assert "has sha256" in changes(hashed)[0]
    file.write_bytes(b"12345")
    assert changes(hashed) == []
    file.unlink()
    assert "cannot be read" in changes(hashed)[0]
    with pytest.raises(FileError):
        fingerprints([file], hashed=True)


def test_what_was_not_written_by_run_says_so(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    data = xr.Dataset({"w": (("frame", "y", "x"), np.ones((1, 4, 4)))})
    wd.write_store(path, data, settings={"material": "Be"})
    with pytest.raises(StoreError, match="not written by 'wavedask run'") as caught:
        experiments_of(path, output="x")
    assert "Be" in caught.value.remedy
    with pytest.raises(StoreError, match="not a wavedask result store"):
        experiments_of(tmp_path, output="x")
    with pytest.raises(StoreError, match=r"r\.zarr is the store itself"):
        experiments_of(path, output=f"{tmp_path}/../{tmp_path.name}/r.zarr")
    with pytest.raises(StoreError, match=r"none\.zarr is not there"):
        experiments_of(tmp_path / "none.zarr", output="x")
    assert "Be" in invoke("history", path).output
    assert invoke("run").exit_code == 2
    assert invoke("run", "--from", path).exit_code == 2


def test_a_store_is_exported_by_command(grown: Path, tmp_path: Path) -> None:
    store = grown / "results.zarr"
    result = invoke("export", store, tmp_path / "out.h5", "--where", "scan == 1")
    assert result.exit_code == 0, result.output
    assert "2 of 3" in result.output
    result = invoke("export", store, tmp_path / "maps", "--variable", "wavefront")
    assert len(list((tmp_path / "maps").glob("wavefront_*.tif"))) == FRAMES
    invoke("export", store, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().count("\n") == FRAMES + 1
    assert "nexus" in invoke("export", store, tmp_path / "a.dat", "--format", "nexus").output
    for words, message in (
        (("--variable", "gone"), "has no variable gone"),
        (("--where", "scan == 7"), "no complete frame"),
        (("--where", "scam == 1"), "Did you mean 'scan'"),
        ((), "exists"),
    ):
        result = invoke("export", store, tmp_path / "out.h5", *words)
        assert result.exit_code == 2
        assert message in result.output


def test_what_a_copy_has_lost_is_computed_again_on_demand(grown: Path, tmp_path: Path) -> None:
    experiment = write(copied(grown, tmp_path))
    store = tmp_path / "results.zarr"
    assert invoke("run", experiment, "--address", "threads").exit_code == 0
    chunk = next((store / "slope_y/c").glob("1/*/*"))
    whole = chunk.read_bytes()
    chunk.unlink()
    assert invoke("history", store, "--verify").exit_code == 1
    result = invoke("run", experiment, "--repair", "--address", "threads")
    assert result.exit_code == 0, result.output
    assert "(1 computed now, " in " ".join(result.output.split())
    assert chunk.read_bytes() == whole
    assert invoke("history", store, "--verify").exit_code == 0
