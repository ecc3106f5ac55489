"""Positions at the places where facilities keep them: taken, or named as not taken."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.nexus import FRAMES, group, nexus

from wavedask.conventions import COUNTER, MOTOR
from wavedask.errors import MotorError
from wavedask.io import list_scans, open_scan

STEPS = np.linspace(0, 1, 4)


@pytest.mark.parametrize("name", ["readback", "RBV", "position", "raw_value", "th", "odd_name"])
def test_a_positioner_without_value(tmp_path: Path, name: str) -> None:
    path = tmp_path / "scan.nxs"
    with nexus(path) as file:
        group(file, "entry/instrument/th", "NXpositioner")[name] = STEPS
    scan = open_scan(path)
    np.testing.assert_allclose(scan.th, STEPS)
    assert scan.th.attrs["role"] == MOTOR


@pytest.mark.parametrize("place", ["entry/instrument", "entry/instrument/pco"])
def test_process_variables_of_areadetector(tmp_path: Path, place: str) -> None:
    path = tmp_path / "scan.nxs"
    with nexus(path) as file:
        attributes = group(file, f"{place}/NDAttributes", "NXcollection")
        for name, source in (("th", "NDAttrSourceEPICSPV"), ("NDArrayUniqueId", "Driver")):
            attributes[name] = STEPS
            attributes[name].attrs["NDAttrSourceType"] = source
    scan = open_scan(path)
    np.testing.assert_allclose(scan.th, STEPS)
    assert scan.th.attrs["role"] == MOTOR
    assert scan.NDArrayUniqueId.attrs["role"] == COUNTER


def test_axes_of_an_older_plot(tmp_path: Path) -> None:
    """Before 2014, signal and axes were marked themselves."""
    path = tmp_path / "old.nxs"
    with h5py.File(path, "w") as file:
        group(file, "entry", "NXentry")
        plot = group(file, "entry/data", "NXdata")
        plot["counts"], plot["th"] = FRAMES, STEPS
        plot["counts"].attrs["signal"] = 1
        plot["th"].attrs["axis"] = 1
        plot["th"].attrs["primary"] = 1
    np.testing.assert_allclose(open_scan(path).th, STEPS)


def test_a_scan_of_soleil(tmp_path: Path) -> None:
    path = tmp_path / "soleil.nxs"
    with h5py.File(path, "w") as file:
        group(file, "scan_0001", "NXentry")
        data = group(file, "scan_0001/scan_data", "NXdata")
        data["data_01"], data["data_02"] = FRAMES, np.arange(4.0)
        data["actuator_1_1"] = STEPS
    scan = open_scan(path)
    np.testing.assert_array_equal(scan.image, FRAMES)
    np.testing.assert_allclose(scan.actuator_1_1, STEPS)
    assert scan.actuator_1_1.attrs["role"] == MOTOR
    assert scan.data_02.attrs["role"] == COUNTER


def test_motors_of_bliss_in_groups_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "bliss.h5"
    with h5py.File(path, "w") as file:
        scan = group(file, "1.1", "NXentry")
        scan["instrument/pco/image"] = FRAMES
        scan["measurement/diode"] = np.arange(4.0)
        motor = group(file, "1.1/instrument/sx", "NXpositioner")
        motor["value"] = STEPS
        motor["value"].attrs["units"] = "mm"
    scan = open_scan(path)
    np.testing.assert_allclose(scan.sx, STEPS)
    assert (scan.sx.units, scan.sx.attrs["role"]) == ("mm", MOTOR)
    (listed,) = list_scans(path)
    assert listed.moving == ("sx",)


def test_shifts_of_data_exchange(tmp_path: Path) -> None:
    path = tmp_path / "dx.h5"
    with h5py.File(path, "w") as file:
        file["exchange/data"], file["exchange/data_white"] = FRAMES, FRAMES[:1]
        file["exchange/theta"] = np.arange(4.0)
        file["exchange/data_shift_x"] = STEPS
    np.testing.assert_allclose(open_scan(path).data_shift_x, [*STEPS, np.nan])


def test_what_is_not_taken_is_named_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "scan.nxs"
    with nexus(path) as file:
        file["entry/somewhere/th"] = STEPS
        file["entry/somewhere/else"] = np.arange(5.0)
    scan = open_scan(path)
    assert "/entry/somewhere/th" in scan.attrs["not_read"]
    assert "/entry/somewhere/else" not in scan.attrs["not_read"]
    (listed,) = list_scans(path)
    assert listed.others == {"/entry/somewhere/th": "4 values"}
    taken = open_scan(path, motors={"th": "/entry/somewhere/th"})
    np.testing.assert_allclose(taken.th, STEPS)


def test_the_offset_of_a_transformation_is_told(tmp_path: Path) -> None:
    path = tmp_path / "scan.nxs"
    with nexus(path) as file:
        axes = group(file, "entry/sample/transformations", "NXtransformations")
        axes["th"] = STEPS
        axes["th"].attrs["offset"] = [0.0, 0.0, 0.5]
    scan = open_scan(path)
    np.testing.assert_allclose(scan.th, STEPS)
    assert (
        "the offset [0.0, 0.0, 0.5] of /entry/sample/transformations/th" in scan.attrs["not_read"]
    )


def bliss(path: Path, images: int, positions: int, **texts: str) -> None:
    with h5py.File(path, "w") as file:
        scan = group(file, "1.1", "NXentry")
        for name, text in ({"start_time": "2026-01-01T00:00:00"} | texts).items():
            scan[name] = text
        scan["instrument/pco/image"] = FRAMES[:images]
        scan["measurement/sx"] = scan["instrument/positioners/sx"] = np.linspace(0, 1, positions)
        scan["measurement/diode"] = np.arange(float(positions))


@pytest.mark.parametrize(
    ("images", "positions", "said"),
    [
        (3, 4, r"3 of 4 positions have a frame (USER_ABORT)"),
        (4, 3, r"3 of 4 frames with all their motors (USER_ABORT)"),
        (4, 4, None),
    ],
)
def test_a_scan_of_bliss_that_was_stopped(
    tmp_path: Path, images: int, positions: int, said: str | None
) -> None:
    path = tmp_path / "bliss.h5"
    bliss(path, images, positions, end_time="2026-01-01T00:01:00", end_reason="USER_ABORT")
    scan = open_scan(path)
    frames = min(images, positions)
    np.testing.assert_array_equal(scan.image, FRAMES[:frames])
    np.testing.assert_allclose(scan.sx, np.linspace(0, 1, positions)[:frames])
    assert scan.sizes["frame"] == scan.diode.size == frames
    assert scan.attrs.get("unfinished") == said


def test_a_scan_of_bliss_that_ended_well_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "bliss.h5"
    bliss(path, 3, 4, end_time="2026-01-01T00:01:00", end_reason="SUCCESS")
    with pytest.raises(MotorError, match="'sx' has 4 values, but the scan has 3 frames"):
        open_scan(path)


def one_image(file: h5py.File) -> None:
    file["entry/camera/picture"] = FRAMES[0]


def image_per_dataset(file: h5py.File) -> None:
    for number in (0, 1, 2, 10):
        file[f"entry/frames/image_{number}"] = FRAMES[min(number, 3)]


def behind_a_link(file: h5py.File) -> None:
    with h5py.File(Path(file.filename).parent / "raw.h5", "w") as raw:
        raw["frames"] = FRAMES
    file["entry/raw"] = h5py.ExternalLink("raw.h5", "/")


@pytest.mark.parametrize(
    ("write", "place", "frames"),
    [
        (one_image, "/entry/camera/picture", FRAMES[:1]),
        (image_per_dataset, "/entry/frames/*", FRAMES),
        (behind_a_link, "/entry/raw/frames", FRAMES),
    ],
)
def test_images_that_no_layout_knows_are_suggested_by_path(
    tmp_path: Path, write: Callable[[h5py.File], None], place: str, frames: np.ndarray
) -> None:
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        write(file)
    with pytest.raises(Exception, match=rf"Give the path of {place.replace('*', '[*]')}: image="):
        open_scan(path)
    (listed,) = list_scans(path)
    assert list(listed.images) == [place]
    np.testing.assert_array_equal(open_scan(path, image=place).image, frames)


def test_a_single_image_that_says_so_opens(tmp_path: Path) -> None:
    path = tmp_path / "flat.nxs"
    with h5py.File(path, "w") as file:
        group(file, "entry", "NXentry")
        plot = group(file, "entry/data", "NXdata", signal="data")
        plot["data"] = FRAMES[0]
        plot["data"].attrs["interpretation"] = "image"
    np.testing.assert_array_equal(open_scan(path).image, FRAMES[:1])
