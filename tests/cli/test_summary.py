"""What `info` and `plan` say, in words."""

from collections.abc import Iterator
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import tifffile
import xarray as xr
from support.experiments import FRAMES, SIDE, campaign, load
from support.laziness import forbid_computing

import wavedask as wd
from wavedask.cli.summary import describe_plan, describe_scan, describe_store, is_store
from wavedask.errors import StoreError
from wavedask.experiment.pipeline import run
from wavedask.experiment.stages import stages_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = campaign(tmp_path_factory.mktemp("campaign"))
    with dask.config.set(scheduler="threads", num_workers=2):
        run(load(folder))
        yield folder


def test_many_counters_are_a_row_of_some() -> None:
    names = [f"diode{number}" for number in range(11)]
    counters = {name: ("frame", [0.0, 1.0], {"role": "counter"}) for name in names}
    frames = da.zeros((2, 4, 4), chunks=(1, 4, 4), dtype="u2")
    scan = xr.Dataset({"image": (("frame", "y", "x"), frames)}, counters)
    said, whole = (
        dict(describe_scan(scan, everything=everything))["counters that changed"]
        for everything in (False, True)
    )
    assert said == f"{', '.join(names[:8])} and 3 more"
    assert whole == ", ".join(names)


def test_a_scan_in_words(folder: Path) -> None:
    with forbid_computing():
        scan = wd.open_scan(folder / "raw/sample_*.edf", units={"lens_x": "mm"})
        rows = dict(describe_scan(scan))
    assert rows["frames"] == str(FRAMES)
    assert rows["frame size"] == f"{SIDE} x {SIDE} px, uint16"
    assert rows["size"] == f"{FRAMES * SIDE * SIDE * 2 / 1024:.1f} KiB"
    assert rows["chunks"] == f"{FRAMES} of 1 x {SIDE} x {SIDE} (frame, y, x), 32.0 KiB each"
    assert rows["motors that moved"] == "1"
    assert rows["lens_x"] == "0 … 0.01 mm (3 values)"
    assert rows["counters that changed"] == "srcur"
    assert rows["motors that stood still"] == "4"
    assert "detz" not in rows
    assert dict(describe_scan(scan, everything=True))["detz"] == "1000"


def test_a_scan_with_nothing_but_pixels(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), "u2"))
    assert describe_scan(wd.open_scan(tmp_path / "a.tif")) == [
        ("frames", "1"),
        ("frame size", "4 x 5 px, uint16"),
        ("size", "40 B"),
        ("chunks", "1 of 1 x 4 x 5 (frame, y, x), 40 B each"),
        ("motors that moved", "0"),
        ("motors that stood still", "0"),
    ]


def test_motors_without_a_number(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 4, 5), "u2"))
    scan = wd.open_scan(tmp_path / "a.tif", motors={"a [mm]": [0.0, 1.0]})
    scan["a"] = scan["a"].copy(data=[np.nan, np.nan])
    assert dict(describe_scan(scan))["a"] == "no number"


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
    assert rows["frames"] == "3, 0 complete (not finished: run the same again to resume)"
    assert "axis y" not in rows


def test_a_store_is_known_from_raw_frames(folder: Path, tmp_path: Path) -> None:
    assert is_store(folder / "results.zarr")
    assert not is_store(folder / "raw")
    assert not is_store(folder / "raw" / "sample_0000.edf")
    assert not is_store(tmp_path / "none")
    (tmp_path / "zarr.json").write_text("{}")
    with pytest.raises(StoreError, match="not a wavedask result store"):
        describe_store(tmp_path)


def test_a_plan_in_words(folder: Path) -> None:
    with forbid_computing():
        rows = dict(describe_plan(stages_of(load(folder))))
    assert rows["frames"] == f"{FRAMES} of {SIDE} x {SIDE} px"
    assert rows["input"].endswith(" KiB in 14 files")
    assert rows["blocks"] == f"{FRAMES} of 1 x {SIDE} x {SIDE}"
    assert rows["output"] == f"{17 * FRAMES * SIDE * SIDE * 4 / 2**20:.1f} MiB before compression"
    assert rows["memory"].startswith("about 2.0 MiB per block")
    assert "wavefront" in rows["variables"]
