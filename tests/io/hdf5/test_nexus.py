"""NeXus files: NXtomo with its keys, NXdata with its axes, meshes, and what is no position."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from wavedask.conventions import COUNTER, HEADER, MOTOR
from wavedask.errors import InputError, MotorError
from wavedask.io import open_scan
from wavedask.io.hdf5 import Hdf5Scan, list_scans, read_hdf5

IMAGES = np.random.default_rng(3).integers(0, 60000, (6, 8, 9)).astype("uint16")


def group(parent: h5py.Group, name: str, kind: str, **attributes: Any) -> h5py.Group:
    made = parent.create_group(name)
    made.attrs["NX_class"] = kind
    made.attrs.update(attributes)
    return made


def columns(found: Hdf5Scan) -> dict[str, tuple[str, Any, str]]:
    return {c.name: (c.role, c.values.tolist(), c.units) for c in found.columns}


@pytest.fixture
def tomo(tmp_path: Path) -> Path:
    """Write an NXtomo file as nxtomomill does: detector, keys, angles, and a plot of links."""
    path = tmp_path / "tomo.nx"
    with h5py.File(path, "w") as file:
        entry = group(file, "entry0000", "NXentry")
        entry["definition"] = "NXtomo"
        entry["title"] = "a lens"
        instrument = group(entry, "instrument", "NXinstrument")
        detector = group(instrument, "detector", "NXdetector")
        detector["data"] = IMAGES
        detector["image_key"] = [2, 1, 0, 0, 0, 1]
        detector["image_key_control"] = [2, 1, 0, 0, -1, 1]
        detector["count_time"] = np.full(6, 0.1)
        detector["x_pixel_size"] = 1e-6
        sample = group(entry, "sample", "NXsample")
        sample["name"] = "Be"
        sample["rotation_angle"] = [0.0, 0.0, 0.0, 90.0, 180.0, 180.0]
        sample["rotation_angle"].attrs["units"] = "degree"
        sample["x_translation"] = np.zeros(6)
        sample["unit_cell"] = np.arange(5.0)
        group(entry, "control", "NXmonitor")["data"] = np.arange(6.0)
        plot = group(entry, "data", "NXdata", signal="data")
        plot["data"] = h5py.SoftLink("/entry0000/instrument/detector/data")
        plot["rotation_angle"] = h5py.SoftLink("/entry0000/sample/rotation_angle")
    return path


def test_tomo_has_keys_angles_and_monitor(tomo: Path) -> None:
    found = read_hdf5(tomo)
    np.testing.assert_array_equal(found.stack[:], IMAGES)
    by_name = columns(found)
    assert by_name["image_key"] == (HEADER, [2.0, 1.0, 0.0, 0.0, 0.0, 1.0], "unknown")
    assert by_name["rotation_angle"] == (MOTOR, [0.0, 0.0, 0.0, 90.0, 180.0, 180.0], "degree")
    assert by_name["control"] == (COUNTER, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "unknown")
    assert by_name["count_time"][0] == COUNTER
    assert "unit_cell" not in by_name
    assert found.constants["title"] == "a lens"


def test_frames_of_a_key_are_selected_lazily(tomo: Path) -> None:
    scan = open_scan(tomo)
    flats = scan.image.isel(frame=scan.image_key == 1)
    np.testing.assert_array_equal(flats, IMAGES[[1, 5]])
    assert scan.x_translation.ndim == 0


def test_angles_of_another_number_are_refused_or_replaced(tomo: Path) -> None:
    with h5py.File(tomo, "a") as file:
        del file["entry0000/sample/rotation_angle"]
        file["entry0000/sample/rotation_angle"] = np.arange(4.0)
    with pytest.raises(MotorError, match=r"'rotation_angle' has 4 values.* 6 frames.*motors="):
        open_scan(tomo)
    scan = open_scan(tomo, motors={"rotation_angle [deg]": np.arange(6.0)})
    assert scan.rotation_angle.values.tolist() == [0, 1, 2, 3, 4, 5]


def test_keys_of_another_number_are_refused(tomo: Path) -> None:
    with h5py.File(tomo, "a") as file:
        del file["entry0000/instrument/detector/image_key"]
        file["entry0000/instrument/detector/image_key"] = [2, 1, 0]
    with pytest.raises(MotorError, match=r"tomo\.nx: header 'image_key' has 3 values.* 6 frames"):
        open_scan(tomo)


def test_an_unknown_angle_stays_unknown(tomo: Path) -> None:
    with h5py.File(tomo, "a") as file:
        file["entry0000/sample/rotation_angle"][3] = np.nan
    values = open_scan(tomo).rotation_angle.values
    assert np.isnan(values).tolist() == [False, False, False, True, False, False]


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    """Write a mesh of 2 x 3 frames with an axis each, as a plot and nothing else."""
    path = tmp_path / "mesh.nxs"
    with h5py.File(path, "w") as file:
        entry = group(file, "entry", "NXentry")
        plot = group(
            entry, "plot", "NXdata", signal="frames", axes=["pz", "py", ".", "."], energy_indices=0
        )
        plot["frames"] = IMAGES.reshape(2, 3, 8, 9)
        plot["pz"] = [10.0, 20.0]
        plot["py"] = [1.0, 2.0, 3.0]
        plot["py"].attrs["units"] = "um"
        plot["energy"] = [17.0, 18.0]
        positioner = group(entry, "lens_x", "NXpositioner")
        positioner["value"] = np.arange(6.0).reshape(2, 3)
        group(entry, "table", "NXpositioner")["value"] = 4.5
    return path


def test_a_mesh_of_frames_becomes_a_row(mesh: Path) -> None:
    found = read_hdf5(mesh)
    np.testing.assert_array_equal(found.stack[:], IMAGES)
    np.testing.assert_array_equal(found.stack[[4, 1], 2:4], IMAGES[[4, 1], 2:4])
    by_name = columns(found)
    assert by_name["pz"][1] == [10.0, 10.0, 10.0, 20.0, 20.0, 20.0]
    assert by_name["py"][1:] == ([1.0, 2.0, 3.0, 1.0, 2.0, 3.0], "um")
    assert by_name["energy"][1] == [17.0, 17.0, 17.0, 18.0, 18.0, 18.0]
    assert by_name["lens_x"][1] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert by_name["table"] == (MOTOR, 4.5, "unknown")


def test_axes_of_another_number_are_refused(mesh: Path) -> None:
    with h5py.File(mesh, "a") as file:
        del file["entry/plot/py"]
        file["entry/plot/py"] = np.arange(5.0)
    with pytest.raises(MotorError, match=r"'py' has 5 values, but the scan has 6 frames"):
        open_scan(mesh)


def test_rows_and_columns_are_no_axes_of_frames(tmp_path: Path) -> None:
    path = tmp_path / "square.nxs"
    with h5py.File(path, "w") as file:
        plot = group(
            group(file, "entry", "NXentry"), "d", "NXdata", signal="s", axes=["n", "v", "h"]
        )
        plot["s"] = np.zeros((4, 4, 4), "uint16")
        for axis, factor in (("n", 1.0), ("v", 2.0), ("h", 3.0)):
            plot[axis] = factor * np.arange(4)
    assert set(columns(read_hdf5(path))) == {"n"}


def test_an_old_plot_marks_its_signal(tmp_path: Path) -> None:
    path = tmp_path / "old.nxs"
    with h5py.File(path, "w") as file:
        plot = group(group(file, "entry", "NXentry"), "d", "NXdata")
        plot["counts"] = IMAGES
        plot["counts"].attrs["signal"] = 1
        plot["mask"] = IMAGES
    np.testing.assert_array_equal(read_hdf5(path).stack[:], IMAGES)


def test_two_detectors_are_a_choice(tmp_path: Path) -> None:
    path = tmp_path / "two.nxs"
    with h5py.File(path, "w") as file:
        entry = group(file, "entry", "NXentry")
        for name in ("near", "far"):
            group(entry, name, "NXdetector")["data"] = IMAGES
        entry["loop"] = h5py.SoftLink("/entry")
    with pytest.raises(InputError, match=r"several .*entry/far/data .*6 frames.*entry/near/data"):
        read_hdf5(path)
    np.testing.assert_array_equal(read_hdf5(path, scan="entry/far").stack[5], IMAGES[5])


def test_a_plot_at_the_root_needs_no_entry(tmp_path: Path) -> None:
    path = tmp_path / "bare.nxs"
    with h5py.File(path, "w") as file:
        plot = group(file, "plot", "NXdata", signal="counts", axes=["lens_x", ".", "."])
        plot["counts"] = IMAGES
        plot["lens_x"] = np.arange(6.0)
        plot["lens_x"].attrs["units"] = "mm"
        group(file, "lens_y", "NXpositioner")["value"] = 3.5
        group(file, "ring", "NXmonitor")["data"] = 200.0 - np.arange(6.0)
        file["title"] = "no entry"
    found = read_hdf5(path)
    np.testing.assert_array_equal(found.stack[:], IMAGES)
    by_name = columns(found)
    assert by_name["lens_x"] == (MOTOR, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "mm")
    assert by_name["lens_y"] == (MOTOR, 3.5, "unknown")
    assert by_name["ring"][0] == COUNTER
    assert found.constants == {"title": "no entry"}
    (only,) = list_scans(path)
    assert (only.name, only.moving) == ("/", ("lens_x",))
    assert only.cameras == {"plot/counts": "6 frames of 8 x 9 px, uint16"}
    for scan in ("/", "plot", "plot/counts"):
        assert read_hdf5(path, scan=scan).stack.shape == (6, 8, 9)


def test_the_root_itself_may_be_the_plot(tmp_path: Path) -> None:
    path = tmp_path / "root.nxs"
    with h5py.File(path, "w") as file:
        file.attrs.update({"signal": "counts", "axes": ["lens_x", "row", "column"]})
        file["counts"] = IMAGES
        file["mask"] = IMAGES
        for axis, size in (("lens_x", 6), ("row", 8), ("column", 9)):
            file[axis] = np.arange(float(size))
    found = read_hdf5(path)
    np.testing.assert_array_equal(found.stack[1:3], IMAGES[1:3])
    assert columns(found) == {"lens_x": (MOTOR, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "unknown")}
    assert next(iter(list_scans(path)[0].cameras)) == "counts"


def test_two_plots_at_the_root_are_a_choice(tmp_path: Path) -> None:
    path = tmp_path / "two.nxs"
    with h5py.File(path, "w") as file:
        for name, last in (("near", 6), ("far", 4)):
            plot = group(file, name, "NXdata", signal="counts", axes=["lens_x", ".", "."])
            plot["counts"] = IMAGES[:last]
            plot["lens_x"] = np.arange(float(last))
    with pytest.raises(InputError, match=r"several .*far/counts .*4 frames.*near/counts"):
        read_hdf5(path)
    assert columns(read_hdf5(path, scan="far"))["lens_x"][1] == [0.0, 1.0, 2.0, 3.0]


def test_axes_of_a_plot_at_the_root_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "bad.nxs"
    with h5py.File(path, "w") as file:
        plot = group(file, "plot", "NXdata", signal="counts", axes=["lens_x", ".", "."])
        plot["counts"] = IMAGES
        plot["lens_x"] = np.arange(5.0)
    with pytest.raises(MotorError, match=r"'lens_x' has 5 values, but the scan has 6 frames"):
        open_scan(path)
