"""What `info` says of a result store, in words."""

from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
from support.experiments import FRAMES, campaign, load

import wavedask as wd
from wavedask.cli.stores import describe_store, is_store
from wavedask.errors import StoreError
from wavedask.experiment.pipeline import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = campaign(tmp_path_factory.mktemp("campaign"))
    with dask.config.set(scheduler="threads", num_workers=2):
        run(load(folder))
        yield folder


def test_a_store_in_words(folder: Path) -> None:
    rows = describe_store(folder / "results.zarr")
    values = dict(rows)
    assert values["frames"] == f"{FRAMES}, {FRAMES} complete (finished)"
    assert values["lens_x"] == "0 … 0.01 mm (3 values)"
    assert values["axis y"] == "0 … 82.55 µm, 128 px"
    assert values["slope_y"] == "vertical wavefront slope [rad]"
    assert values["correlation"] == "zero-normalised cross-correlation"
    assert values["settings, sample"] == "files raw/sample_*.edf, units {'lens_x': 'mm'}"
    assert values["settings, track"].startswith("engine dense, window 15, search 8")
    assert "distance 1.0, pixel_size 6.5e-07, energy 17.0" in values["settings, wavefront"]
    assert values["first frame, decorrelation"].endswith(" % of the speckle")
    assert values["first frame, blur of noise"].endswith(" px")
    assert values["input"] == "14 files"
    assert values["written by"].startswith(f"wavedask {wd.__version__}, 20")
    names = [name for name, _ in rows]
    assert names.index("displacement_y") < names.index("correlation") < names.index("slope_y")
    assert names.index("slope_x") < names.index("wavefront") < names.index("curvature_y")
    assert len(names) == len(set(names))


def test_what_is_no_variable_of_ours_comes_last(tmp_path: Path) -> None:
    zeros = ("frame", np.zeros(1))
    result = xr.Dataset({"zebra": zeros, "ape": zeros, "radius": zeros, "focal_length": zeros})
    wd.write_store(tmp_path / "r.zarr", result, settings={"n": 1, "track": {}})
    names = [name for name, _ in describe_store(tmp_path / "r.zarr")]
    assert names[1:5] == ["focal_length", "radius", "ape", "zebra"]
    assert dict(describe_store(tmp_path / "r.zarr"))["ape"] == "(frame)"


def test_a_store_that_is_not_finished(folder: Path, tmp_path: Path) -> None:
    def fail(block: np.ndarray) -> np.ndarray:
        raise RuntimeError

    maps = xr.DataArray(np.zeros((3, 4, 4)), dims=("frame", "y", "x")).chunk({"frame": 1})
    lazy = maps.copy(data=maps.data.map_blocks(fail, dtype=float, meta=np.empty((0, 0, 0))))
    with pytest.raises(RuntimeError):
        wd.write_store(tmp_path / "r.zarr", lazy.to_dataset(name="phase"), settings={})
    rows = dict(describe_store(tmp_path / "r.zarr"))
    assert rows["frames"] == "3, 0 complete (not finished: run the same command again to resume)"
    assert "axis y" not in rows


def test_a_store_is_known_from_raw_frames(folder: Path, tmp_path: Path) -> None:
    assert is_store(folder / "results.zarr")
    assert not is_store(folder / "raw")
    assert not is_store(folder / "raw" / "sample_0000.edf")
    assert not is_store(tmp_path / "none")
    (tmp_path / "zarr.json").write_text("{}")
    with pytest.raises(StoreError, match="not a wavedask result store"):
        describe_store(tmp_path)
