"""Masters of DECTRIS detectors: the frames of all their data files are one scan."""

from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from wavedask.conventions import MOTOR
from wavedask.errors import FileError, FrameMismatchError
from wavedask.io import open_scan
from wavedask.io.hdf5 import list_scans, read_hdf5

FRAMES = np.random.default_rng(12).integers(0, 60000, (7, 6, 5)).astype("uint32")
BLOCK = 2
"""Frames per data file; the last has fewer."""


@pytest.fixture
def master(tmp_path: Path) -> Path:
    """Write a master and its data files as the file writer of the detector does."""
    path = tmp_path / "lens_12_master.h5"
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        data = entry.create_group("data")
        data.attrs["NX_class"] = "NXdata"
        detector = entry.create_group("instrument/detector")
        entry["instrument"].attrs["NX_class"] = "NXinstrument"
        detector.attrs["NX_class"] = "NXdetector"
        detector["count_time"] = 0.5
        specific = detector.create_group("detectorSpecific")
        specific["nimages"] = len(FRAMES)
        specific["ntrigger"] = 1
        specific["pixel_mask"] = np.zeros((6, 5), "u4")
        omega = entry.create_group("sample/goniometer")
        omega.attrs["NX_class"] = "NXgoniometer"
        omega["omega"] = 0.1 * np.arange(len(FRAMES))
        omega["omega"].attrs["units"] = "degree"
        for number, first in enumerate(range(0, len(FRAMES), BLOCK), 1):
            name = f"lens_12_data_{number:06}.h5"
            with h5py.File(tmp_path / name, "w") as part:
                group = part.create_group("entry/data")
                part["entry"].attrs["NX_class"] = "NXentry"
                group.attrs["NX_class"] = "NXdata"
                block = FRAMES[first : first + BLOCK]
                group.create_dataset(
                    "data", data=block, chunks=(1, 6, 5), **hdf5plugin.Bitshuffle()
                )
            data[f"data_{number:06}"] = h5py.ExternalLink(name, "/entry/data/data")
    return path


def test_all_blocks_are_one_scan(master: Path) -> None:
    scan = open_scan(master)
    np.testing.assert_array_equal(scan.image, FRAMES)
    np.testing.assert_array_equal(scan.image[[5, 0], 2:4, ::-1], FRAMES[[5, 0], 2:4, ::-1])
    np.testing.assert_allclose(scan.omega, 0.1 * np.arange(7))
    assert (scan.omega.units, scan.omega.attrs["role"]) == ("degree", MOTOR)
    assert "unfinished" not in scan.attrs
    assert read_hdf5(master).behind == {
        master.parent / f"lens_12_data_{number:06}.h5" for number in (1, 2, 3, 4)
    }


def test_they_are_listed_as_one_camera(master: Path) -> None:
    (only,) = list_scans(master)
    assert only.cameras == {"entry/data": "7 frames of 6 x 5 px, uint32, bitshuffle"}
    assert only.moving == ("omega",)


def test_a_folder_of_a_master_and_its_files_is_that_scan(master: Path) -> None:
    scan = open_scan(master.parent)
    np.testing.assert_array_equal(scan.image, FRAMES)
    assert set(scan.source_file.values.tolist()) == {str(master)}


def test_blocks_come_in_the_order_of_their_numbers(master: Path) -> None:
    with h5py.File(master, "a") as file:
        data = file["entry/data"]
        # As text, 1000000 comes before 2.
        data.move("data_000001", "data_1000000")
    order = [2, 3, 4, 5, 6, 0, 1]
    np.testing.assert_array_equal(open_scan(master).image, FRAMES[order])


def test_one_block_can_be_opened_alone(master: Path) -> None:
    scan = open_scan(master, image="entry/data/data_000002")
    np.testing.assert_array_equal(scan.image, FRAMES[2:4])
    assert "unfinished" not in scan.attrs


def test_a_data_file_that_is_missing_is_named(master: Path) -> None:
    (master.parent / "lens_12_data_000003.h5").unlink()
    with pytest.raises(FileError, match=r"master\.h5: .*data_000003 is kept in lens_12_data_0+3"):
        open_scan(master)
    there = open_scan(master, image="entry/data/data_000002")
    np.testing.assert_array_equal(there.image, FRAMES[2:4])


def test_a_detector_that_was_stopped(master: Path) -> None:
    """Files at the end never came: the frames that are there open, with their positions."""
    for number in (3, 4):
        (master.parent / f"lens_12_data_{number:06}.h5").unlink()
    scan = open_scan(master)
    np.testing.assert_array_equal(scan.image, FRAMES[:4])
    np.testing.assert_allclose(scan.omega, 0.1 * np.arange(4))
    assert scan.attrs["unfinished"] == "4 of 7 frames that were asked for"
    with h5py.File(master, "a") as file:
        del file["entry/instrument/detector/detectorSpecific/nimages"]
    assert open_scan(master).attrs["unfinished"] == "4 frames in 2 of 4 files"


def test_data_files_and_blocks_without_their_master(master: Path) -> None:
    master.rename(master.with_suffix(".other"))
    np.testing.assert_array_equal(open_scan(f"{master.parent}/*_data_*.h5").image, FRAMES)
    master.with_suffix(".other").rename(master)
    blocks = [f"entry/data/data_{number:06}" for number in (1, 2)]
    np.testing.assert_array_equal(open_scan(master, scan=blocks).image, FRAMES[:4])


def test_the_number_of_frames_is_that_of_the_files(master: Path) -> None:
    with h5py.File(master, "a") as file:
        del file["entry/data/data_000004"]
        del file["entry/sample/goniometer/omega"]
    scan = open_scan(master)
    np.testing.assert_array_equal(scan.image, FRAMES[:6])
    assert scan.attrs["unfinished"] == "6 of 7 frames that were asked for"


@pytest.mark.parametrize(("name", "triggers"), [("ntrigger", 3), ("nimages", None)])
def test_triggers_multiply_and_need_not_be_known(
    master: Path, name: str, triggers: int | None
) -> None:
    with h5py.File(master, "a") as file:
        specific = file["entry/instrument/detector/detectorSpecific"]
        del specific[name]
        if triggers:
            specific[name] = triggers
    expected = "7 of 21 frames that were asked for" if triggers else None
    assert open_scan(master).attrs.get("unfinished") == expected


def test_a_data_file_of_another_shape_is_refused(master: Path) -> None:
    with h5py.File(master.parent / "lens_12_data_000002.h5", "a") as file:
        del file["entry/data/data"]
        file["entry/data/data"] = FRAMES[:2, :4]
    with pytest.raises(FrameMismatchError, match=r"data_000001 has frames of .*data_000002 of"):
        open_scan(master)


def test_a_block_without_frames_is_refused(master: Path) -> None:
    with h5py.File(master.parent / "lens_12_data_000004.h5", "a") as file:
        del file["entry/data/data"]
        file["entry/data/data"] = np.zeros((0, 6, 5), "u4")
    with pytest.raises(FileError, match=r"data_000004 holds no frames.*image='entry/data/<block>'"):
        open_scan(master)


def test_a_data_file_that_changes_makes_another_graph(master: Path) -> None:
    first = open_scan(master).image.data.name
    with h5py.File(master.parent / "lens_12_data_000002.h5", "a") as file:
        file["entry/data/data"][0] = 1
    assert open_scan(master).image.data.name != first
