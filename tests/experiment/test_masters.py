"""Inputs of a result whose frames are in files behind an HDF5 master: they are inputs as well."""

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

import wavedask as wd
from wavedask.cli.stores import describe_history
from wavedask.errors import StoreExistsError
from wavedask.experiment.pipeline import plan
from wavedask.experiment.stages import Stages
from wavedask.frames.sources import sources_of
from wavedask.store.integrity import verify
from wavedask.store.results import StoreReport, open_store, write_store

SIDE = 8
PER_FILE = 2


def master(folder: Path, *, files: int, name: str = "run") -> Path:
    """A BLISS file that shows the frames of some files of LIMA; those there are left alone."""
    path = folder / f"{name}.h5"
    layout = h5py.VirtualLayout((files * PER_FILE, SIDE, SIDE), np.uint16)
    for number in range(files):
        lima = folder / f"{name}_lima_{number}.h5"
        if not lima.exists():
            with h5py.File(lima, "w") as file:
                file["images"] = np.full((PER_FILE, SIDE, SIDE), number + 1, np.uint16)
        source = h5py.VirtualSource(lima.name, "images", (PER_FILE, SIDE, SIDE))
        layout[number * PER_FILE : (number + 1) * PER_FILE] = source
    with h5py.File(path, "w") as file:
        file["1.1/title"] = "ascan"
        file.create_virtual_dataset("1.1/instrument/pco/data", layout)
        file["1.1/instrument/pco"].attrs["NX_class"] = "NXdetector"
        file["1.1"].attrs["NX_class"] = "NXentry"
    return path


def store(path: Path, scan: xr.Dataset, **options: Any) -> StoreReport:
    """Store the frames themselves."""
    result = scan.image.to_dataset(name="slope_y")
    given: dict[str, Any] = {"settings": {}, "inputs": wd.input_files(scan)}
    return write_store(path, result, **{**given, **options}, progress=False)


def behind(path: Path) -> dict[str, str]:
    """Names of the inputs of a store, and what leads to them."""
    inputs = open_store(path).attrs["inputs"]
    return {Path(item["path"]).name: Path(item.get("of", "-")).name for item in inputs}


def test_files_behind_a_master_are_inputs(tmp_path: Path) -> None:
    scan = wd.open_scan(master(tmp_path, files=2))
    path = tmp_path / "r.zarr"
    store(path, scan, hashed=True)
    assert behind(path) == {"run.h5": "-", "run_lima_0.h5": "run.h5", "run_lima_1.h5": "run.h5"}
    assert all("sha256" in item for item in open_store(path).attrs["inputs"])
    assert any("run_lima_1.h5, behind run.h5, " in text for _, text in describe_history(path))
    assert verify(path).sound
    # The same again is the same.
    assert store(path, scan, hashed=True).written == 0
    assert len(open_store(path).attrs["runs"]) == 1


def test_a_plan_counts_the_files_behind_a_master(tmp_path: Path) -> None:
    scan = wd.open_scan(master(tmp_path, files=2))
    result = scan.image.to_dataset(name="slope_y")
    inputs = tuple(wd.input_files(scan))
    asked = plan(Stages(scan.image, "first", result, inputs, (), None, {}, ""))
    assert asked.files == 3
    assert asked.bytes_input == sum(file.stat().st_size for file in tmp_path.glob("*.h5"))


def test_other_images_behind_the_same_master_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    scan = wd.open_scan(master(tmp_path, files=2))
    store(path, scan)
    lima = tmp_path / "run_lima_1.h5"
    os.utime(lima, ns=(0, lima.stat().st_mtime_ns + 1))
    refused = r"run_lima_1\.h5\.mtime_ns is \d+ there and \d+ here"
    with pytest.raises(StoreExistsError, match=refused):
        store(path, scan)
    (changed,) = verify(path).changed
    assert "run_lima_1.h5 has mtime_ns" in changed


def test_a_store_grows_by_the_files_of_a_scan_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    store(path, wd.open_scan(master(tmp_path, files=1)), grow=["sample"])
    report = store(path, wd.open_scan(master(tmp_path, files=3)), grow=["sample"])
    assert (report.frames, report.written) == (6, 4)
    assert list(behind(path).values()) == ["-", "run.h5", "run.h5", "run.h5"]
    np.testing.assert_array_equal(open_store(path).slope_y[:, 0, 0], [1, 1, 2, 2, 3, 3])


def test_frames_that_all_others_share_are_looked_behind(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    scan, dark = (wd.open_scan(master(tmp_path, files=1, name=name)) for name in ("run", "dark"))
    options: dict[str, Any] = {
        "inputs": [*wd.input_files(scan), *wd.input_files(dark)],
        "shared": {"far": {"dark": sources_of(dark)}},
        "grow": ["sample"],
    }
    store(path, scan, **options)
    assert behind(path)["dark_lima_0.h5"] == "dark.h5"
    lima = tmp_path / "dark_lima_0.h5"
    os.utime(lima, ns=(0, lima.stat().st_mtime_ns + 1))
    with pytest.raises(StoreExistsError, match=r"dark_lima_0\.h5"):
        store(path, scan, **options)


def test_a_series_of_files_without_an_end_is_looked_behind(tmp_path: Path) -> None:
    # As of a virtual dataset that was described before its files were there.
    master(tmp_path, files=3)
    path = tmp_path / "series.h5"
    whole = h5py.h5s.create_simple((6, SIDE, SIDE), (h5py.h5s.UNLIMITED, SIDE, SIDE))
    block = (PER_FILE, SIDE, SIDE)
    whole.select_hyperslab((0, 0, 0), (h5py.h5s.UNLIMITED, 1, 1), (PER_FILE, 1, 1), block)
    created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    created.set_virtual(whole, b"run_lima_%b.h5", b"images", h5py.h5s.create_simple(block))
    with h5py.File(path, "w") as file:
        camera = file.create_group("1.1/instrument/pco")
        h5py.h5d.create(camera.id, b"data", h5py.h5t.NATIVE_UINT16, whole, dcpl=created)
    scan = wd.open_scan(path)
    np.testing.assert_array_equal(scan.image[:, 0, 0], [1, 1, 2, 2, 3, 3])
    store(tmp_path / "r.zarr", scan)
    assert len(behind(tmp_path / "r.zarr")) == 4


def test_a_result_may_be_stored_after_its_files_have_gone(tmp_path: Path) -> None:
    scan = wd.open_scan(master(tmp_path, files=1)).compute()
    (tmp_path / "run.h5").unlink()
    store(tmp_path / "r.zarr", scan, inputs=())
    assert behind(tmp_path / "r.zarr") == {}
