"""What is exported opens plotted elsewhere, holds the same numbers, and is whole or not there."""

import csv
import json
import tracemalloc
from pathlib import Path
from typing import Any, cast

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import silx.io
import tifffile
import xarray as xr
import zarr
from silx.io.nxdata import NXdata, get_default
from support.limits import largest_file

import wavedask as wd
from wavedask.errors import InputError, StoreError
from wavedask.export.files import export_store, to_csv, to_tiff
from wavedask.export.nexus import to_nexus

VALUES = np.random.default_rng(0).standard_normal((3, 6, 5)).astype("f4")


def result(*, motors: int = 1) -> xr.Dataset:
    """A small result: two maps, a number per frame, a map of all, and coordinates of all kinds."""
    lazy = da.from_array(VALUES, chunks=(1, 6, 5))
    role = {"units": "mm", "role": "motor", "long_name": "lens x"}
    moved = {f"lens_{'xy'[k]}": ("frame", [0.0, 0.5, 1.0 - k], role) for k in range(motors)}
    return xr.Dataset(
        {
            "slope_y": (("frame", "y", "x"), lazy * 2, {"units": "rad", "long_name": "slope"}),
            "wavefront": (("frame", "y", "x"), lazy, {"units": "m", "long_name": "wavefront"}),
            "flat": (("y", "x"), VALUES[0]),
            "radius": ("frame", [1.0, 2.0, 3.0], {"units": "m", "long_name": "radius"}),
        },
        {
            **moved,
            "y": ("y", np.arange(6) * 1e-6, {"units": "m", "long_name": "row"}),
            "x": ("x", np.arange(5) * 1e-6, {"units": "m", "long_name": "column"}),
            "name": ("frame", np.array(["a", "b", "c"], dtype=object)),
            "time": ("frame", np.datetime64("2026-11-22T10:00", "ns") + np.arange(3)),
            "complete": ("frame", [True, True, False]),
            "energy": ((), 17.0, {"units": "keV", "role": "motor"}),
        },
        {"settings": {"window": 21}, "title": "a lens"},
    )


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_silx_opens_it_plotted(compression: str | None, tmp_path: Path) -> None:
    path = to_nexus(result(), tmp_path / "out.h5", compression=compression)
    with silx.io.open(str(path)) as file:
        plot = get_default(file)
        assert plot.is_valid
        assert plot.signal_dataset_name == "wavefront"
        np.testing.assert_array_equal(plot.signal[()], VALUES)
        assert plot.axes_dataset_names == ["lens_x", "y", "x"]
        np.testing.assert_array_equal(plot.axes[0][()], [0.0, 0.5, 1.0])
        assert plot.signal.attrs["units"] == "m"
        assert plot.signal.attrs["long_name"] == "wavefront [m]"
        np.testing.assert_array_equal(plot.axes[2][()], np.arange(5) * 1e-6)
        for name in ("slope_y", "flat", "radius"):
            other = NXdata(file[f"entry/{name}"])
            assert other.is_valid, other.issues
            np.testing.assert_array_equal(other.signal[()], result()[name].values)


def test_provenance_and_motors_are_in_the_file(tmp_path: Path) -> None:
    path = result().wave.to_nexus(tmp_path / "out.h5")
    with h5py.File(path) as file:
        assert file.attrs["default"] == "entry"
        assert file["entry/title"].asstr()[()] == "a lens"
        note = json.loads(file["entry/process/provenance/data"].asstr()[()])
        assert note["settings"] == {"window": 21}
        motors = file["entry/instrument/positioners"]
        assert motors["energy"][()] == 17.0
        assert motors["energy"].attrs["units"] == "keV"
        assert motors["name"].asstr()[()].tolist() == ["a", "b", "c"]
        assert motors["time"].asstr()[0].startswith("2026-11-22T10:00")
        assert motors["complete"][()].tolist() == [1, 1, 0]
        # Every NXdata that shares the axis has the other coordinates of the frame, too.
        assert file["entry/radius"].attrs["complete_indices"] == 0


def test_an_exported_scan_opens_as_one(tmp_path: Path) -> None:
    counts = (1000 * VALUES).astype("i2")
    frames = xr.Dataset({"image": (("frame", "y", "x"), da.from_array(counts, chunks=(1, 6, 5)))})
    scan = frames.assign_coords(result()[["lens_x", "energy"]].coords)
    again = wd.open_scan(scan.wave.to_nexus(tmp_path / "scan.h5"))
    assert again.image.dtype == counts.dtype
    np.testing.assert_array_equal(again.image, counts)
    for name in ("lens_x", "energy"):
        np.testing.assert_array_equal(again[name], scan[name])
        for attribute in ("role", "units"):
            assert again[name].attrs[attribute] == scan[name].attrs[attribute]


def test_several_motors_leave_the_number_of_the_frame_as_the_axis(tmp_path: Path) -> None:
    with h5py.File(to_nexus(result(motors=2), tmp_path / "out.h5")) as file:
        group = file["entry/wavefront"]
        assert group.attrs["axes"].tolist() == ["frame", "y", "x"]
        assert group["frame"][()].tolist() == [0, 1, 2]
        assert group.attrs["lens_y_indices"] == 0


def test_a_mesh_and_a_single_frame_are_exported(tmp_path: Path) -> None:
    data = xr.concat(
        [result(motors=2)] * 2,
        "frame",
        data_vars="all",
        coords="minimal",
        compat="override",
        join="override",
    ).drop_vars(["flat", "name", "time"])
    data = data.assign_coords(
        lens_y=("frame", [0.0, 0, 0, 1, 1, 1]), lens_x=("frame", [0.0, 1, 2, 0, 1, 2])
    )
    mesh = data.wave.grid("lens_y", "lens_x")
    with silx.io.open(str(to_nexus(mesh, tmp_path / "mesh.h5"))) as file:
        plot = get_default(file)
        assert plot.axes_dataset_names == ["lens_y", "lens_x", "y", "x"]
        np.testing.assert_array_equal(plot.signal[()], np.stack([VALUES, VALUES]))
    with silx.io.open(str(to_nexus(result().isel(frame=1), tmp_path / "one.h5"))) as file:
        plot = get_default(file)
        assert plot.axes_dataset_names == ["y", "x"]
        np.testing.assert_array_equal(plot.signal[()], VALUES[1])


def test_it_is_written_frame_by_frame_and_what_is_shared_is_computed_once(tmp_path: Path) -> None:
    computed: list[int] = []

    def block(block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
        computed.append(block_id[0])
        return np.full((1, 256, 256), block_id[0], "f8")

    maps = da.map_blocks(
        lambda block_id: block(block_id),
        chunks=((1,) * 40, (256,), (256,)),
        dtype="f8",
        meta=np.empty((0, 0, 0)),
    )
    large = xr.Dataset({n: (("frame", "y", "x"), maps + k) for k, n in enumerate(("w", "s"))})
    with dask.config.set(scheduler="synchronous"):
        tracemalloc.start()
        path = to_nexus(large, tmp_path / "out.h5")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert computed == list(range(40))
    # Of 40 MB in all, a few frames of half a megabyte.
    assert peak < 8e6
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["entry/s/s"][:, 3, 3], np.arange(40) + 1)


def test_nothing_is_overwritten_and_nothing_half_is_left(tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    path.write_text("notes")
    for write in (to_nexus, to_tiff, to_csv):
        with pytest.raises(StoreError, match=r"out\.h5 exists"):
            write(result(), path)
    assert path.read_text() == "notes"
    path.unlink()
    with largest_file(200):
        for write in (to_nexus, to_tiff, to_csv):
            with pytest.raises(StoreError, match=r"out\.h5 cannot be written"):
                write(result(), path)
    failing = result().assign(
        wavefront=(
            ("frame", "y", "x"),
            da.map_blocks(lambda _: 1 / 0, result().slope_y.data, dtype="f4"),
        )
    )
    for write in (to_nexus, to_tiff):
        with pytest.raises(ZeroDivisionError):
            write(failing, path)
    assert not list(tmp_path.iterdir())


def test_coordinates_may_lie_in_other_blocks_than_maps(tmp_path: Path) -> None:
    lazy = result()
    motor = lazy.lens_x.copy(data=lazy.lens_x.variable.chunk({"frame": 3}).data)
    to_nexus(lazy.assign_coords(lens_x=motor), tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["entry/wavefront/lens_x"][:].tolist() == [0.0, 0.5, 1.0]
        np.testing.assert_array_equal(file["entry/wavefront/wavefront"][:], VALUES)


def test_maps_are_tiff_with_their_meaning(tmp_path: Path) -> None:
    files = to_tiff(result(), tmp_path / "maps", variables=["wavefront", "flat"])
    assert sorted(f.name for f in files) == [
        "flat.tif",
        "wavefront_0000.tif",
        "wavefront_0001.tif",
        "wavefront_0002.tif",
    ]
    assert set(files) == set((tmp_path / "maps").iterdir())
    with tifffile.TiffFile(tmp_path / "maps" / "wavefront_0002.tif") as tiff:
        np.testing.assert_array_equal(tiff.asarray(), VALUES[2])
        about = json.loads(tiff.pages.first.description)
    assert about["units"] == "m"
    assert (about["lens_x"], about["name"], about["energy"]) == (1.0, "c", 17.0)
    # What was written is a scan that opens.
    assert wd.open_scan(str(tmp_path / "maps" / "wavefront_*.tif")).sizes["frame"] == 3
    assert len(result().wave.to_tiff(tmp_path / "all")) == 7


def test_scalars_are_a_table_that_opens_as_motors(tmp_path: Path) -> None:
    path = result().wave.to_csv(tmp_path / "table.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert next(iter(rows[0])) == "frame"
    assert [row["radius [m]"] for row in rows] == ["1.0", "2.0", "3.0"]
    assert [row["lens_x [mm]"] for row in rows] == ["0.0", "0.5", "1.0"]
    assert [row["complete"] for row in rows] == ["1", "1", "0"]
    assert rows[1]["name"] == "b"
    assert rows[2]["energy [keV]"] == "17.0"
    assert rows[0]["time"].startswith("2026-11-22T10:00")


def test_durations_are_text_in_every_format(tmp_path: Path) -> None:
    data = result().assign_coords(since=("frame", np.arange(3) * np.timedelta64(90, "s")))
    table = to_csv(data, tmp_path / "a.csv").read_text().splitlines()
    assert "P0DT0H1M30S" in table[2]
    with h5py.File(to_nexus(data, tmp_path / "a.h5")) as file:
        assert file["entry/instrument/positioners/since"].asstr()[1] == "P0DT0H1M30S"
    (first, *_) = to_tiff(data, tmp_path / "maps", variables="wavefront")
    assert first.name == "wavefront_0000.tif"


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert to_nexus(result(), "~/a.h5") == tmp_path / "a.h5"
    assert to_csv(result(), "~/a.csv") == tmp_path / "a.csv"
    assert to_tiff(result(), "~/maps")[0].parent == tmp_path / "maps"
    assert (tmp_path / "a.h5").exists()


def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"a\.h5 cannot be written"):
        to_nexus(result(), tmp_path / "file" / "a.h5")


def exported(store: Path, output: Path, **options: Any) -> dict[str, str]:
    return dict(export_store(str(store), output, **options))


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """A store whose last frame is not complete."""
    path = tmp_path / "half.zarr"
    wd.write_store(path, result().drop_vars("complete"), settings={})
    ledger = zarr.open_array(str(path), path="complete", mode="r+")
    ledger[2] = False
    return path


def test_no_condition_lets_a_frame_in_that_is_not_complete(half: Path, tmp_path: Path) -> None:
    rows = exported(half, tmp_path / "a.csv", where="lens_x >= 0 or lens_x < 2")
    assert rows["frames"] == "2 of 3"
    for where in ("lens_x > 9) or (lens_x < 9", ""):
        with pytest.raises(InputError, match="condition '"):
            exported(half, tmp_path / "b.csv", where=where)


@pytest.mark.parametrize("output", ["a.h5", "maps"])
def test_a_damaged_block_is_said_and_leaves_nothing(tmp_path: Path, output: str) -> None:
    store = tmp_path / "r.zarr"
    ramps = da.arange(2 * 64 * 64, chunks=64 * 64).reshape(2, 64, 64)
    wd.write_store(store, xr.Dataset({"slope_y": (("frame", "y", "x"), ramps)}), settings={})
    (block,) = (store / "slope_y").glob("c/1/*/*")
    block.write_bytes(block.read_bytes()[: block.stat().st_size // 2])
    with pytest.raises(StoreError, match=r"slope_y, frame 1 of store .* is damaged"):
        exported(store, tmp_path / output)
    assert [path.name for path in tmp_path.iterdir()] == [store.name]


def test_only_what_a_format_holds_is_said_to_be_written(half: Path, tmp_path: Path) -> None:
    assert exported(half, tmp_path / "a.csv")["variables"] == "radius"
    assert exported(half, tmp_path / "a")["variables"] == "flat, slope_y, wavefront"
    with pytest.raises(InputError, match="wavefront cannot be exported as csv"):
        exported(half, tmp_path / "b.csv", variables=["wavefront", "radius"])
    with pytest.raises(InputError, match="radius cannot be exported as tiff"):
        exported(half, tmp_path / "b", variables=["wavefront", "radius"])


@pytest.mark.parametrize("name", ["a.tif", "a.txt", "run_0.5mm"])
def test_an_ending_of_another_format_is_not_given_to_nexus(
    half: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(InputError, match="names no format"):
        exported(half, tmp_path / name)
    assert exported(half, tmp_path / name, file_format="tiff")["format"] == "tiff"


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    for export in (to_nexus, to_tiff, to_csv):
        with pytest.raises(InputError, match="the data is a DataArray"):
            export(cast("xr.Dataset", result().wavefront), tmp_path / "a")
    with pytest.raises(InputError, match="the maps have sizes"):
        to_tiff(result().isel(frame=slice(0)), tmp_path / "a")
    with pytest.raises(InputError, match="nothing to plot"):
        to_nexus(result()[["time"]], tmp_path / "a")
    with pytest.raises(InputError, match="nothing to plot"):
        to_nexus(result().isel(frame=slice(0)), tmp_path / "a")
    with pytest.raises(InputError, match="compression is 'lzf'"):
        to_nexus(result(), tmp_path / "a", compression="lzf")
    with pytest.raises(InputError, match=r"variables are \['radius'\]"):
        to_tiff(result(), tmp_path / "a", variables=["radius"])
    with pytest.raises(InputError, match="no frames"):
        to_csv(result().isel(frame=0), tmp_path / "a")
    assert not list(tmp_path.iterdir())
