"""HDF5 files of BLISS and alike: the camera, the motors that moved, or a reason why not."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from wavedask.conventions import COUNTER, MOTOR
from wavedask.errors import CorruptFileError, FileError, InputError
from wavedask.io.hdf5 import Hdf5Scan, read_hdf5

IMAGES = np.random.default_rng(7).integers(0, 60000, (4, 8, 9)).astype("uint16")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write a file with a scan of a camera and, as BLISS does, one of its counters alone."""
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        file["1.1/title"] = "ascan lens 0 3 3 0.1"
        file["1.1/instrument/pco/data"] = IMAGES
        file["1.1/instrument/positioners/lens"] = [0.0, 1.0, 2.0, 3.0]
        file["1.1/instrument/positioners/lens"].attrs["units"] = "mm"
        file["1.1/instrument/positioners/rot"] = -5.0
        file["1.1/instrument/positioners/shutter"] = "OPEN"
        file["1.1/measurement/rot"] = [-5.0, -4.0, -3.0, -2.0]
        file["1.1/measurement/diode"] = [10.0, 11.0, 12.0, 13.0]
        file["1.1/measurement/raw_trigger"] = np.zeros(9)
        file["1.2/title"] = "timescan"
        file["1.2/measurement/diode"] = np.zeros(30)
    return path


def column(found: Hdf5Scan, name: str) -> tuple[str, list[float] | float, str]:
    (only,) = [column for column in found.columns if column.name == name]
    return only.role, only.values.tolist(), only.units


def test_the_only_scan_with_images_is_found(path: Path) -> None:
    found = read_hdf5(path, scan=None)
    np.testing.assert_array_equal(found.stack[:], IMAGES)
    np.testing.assert_array_equal(found.stack[2, 3:6, 8], IMAGES[2, 3:6, 8])
    np.testing.assert_array_equal(found.stack[::-2], IMAGES[::-2])
    assert found.stack.origins[3] == (path, 3)
    assert found.constants == {"title": "ascan lens 0 3 3 0.1", "shutter": "OPEN"}


def test_motors_and_counters(path: Path) -> None:
    found = read_hdf5(path, scan="1.1")
    assert column(found, "lens") == (MOTOR, [0.0, 1.0, 2.0, 3.0], "mm")
    assert column(found, "rot") == (MOTOR, [-5.0, -4.0, -3.0, -2.0], "unknown")
    assert column(found, "diode") == (COUNTER, [10.0, 11.0, 12.0, 13.0], "unknown")
    assert {column.name for column in found.columns} == {"lens", "rot", "diode"}


def test_a_camera_behind_a_link_in_measurement(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["1.1/instrument/pco"]
        file["raw/images"] = IMAGES
        file["1.1/measurement/pco"] = h5py.SoftLink("/raw/images")
    np.testing.assert_array_equal(read_hdf5(path, scan=None).stack[1], IMAGES[1])


def test_big_endian_images_become_native(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["1.1/instrument/pco/data"]
        file["1.1/instrument/pco/image"] = IMAGES.astype(">u2")
    stack = read_hdf5(path, scan=None).stack
    assert stack.dtype.isnative
    np.testing.assert_array_equal(stack[0], IMAGES[0])


def test_a_scan_or_camera_is_chosen_by_name(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["2.1/instrument/pco/image"] = IMAGES[:2]
        file["2.1/instrument/basler/image"] = IMAGES[:3]
    assert read_hdf5(path, scan="1.1").stack.shape[0] == 4
    assert read_hdf5(path, scan="2.1/instrument/basler/image").stack.shape[0] == 3
    for scan in (None, "2.1"):
        with pytest.raises(
            InputError, match=r"run\.h5 has .*1\.1/\S+ \(ascan .*, 4 frames\).*basler.*3 frames"
        ):
            read_hdf5(path, scan=scan)


@pytest.mark.parametrize("scan", ["9.1", "1.2", "1"])
def test_a_scan_that_is_not_there_lists_those_that_are(path: Path, scan: str) -> None:
    with pytest.raises(
        InputError, match=rf"run\.h5.*scan='{scan}'.*ascan lens 0 3 3 0\.1, 4 frames"
    ):
        read_hdf5(path, scan=scan)


def test_no_images(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["1.1/instrument/pco"]
    with pytest.raises(
        FileError, match=r"run\.h5 has no images in any of its scans \(1\.1, 1\.2\)"
    ):
        read_hdf5(path, scan=None)


def test_what_is_no_hdf5_file(tmp_path: Path) -> None:
    path = tmp_path / "text.h5"
    path.write_text("a text")
    with pytest.raises(FileError, match=r"text\.h5 cannot be read"):
        read_hdf5(path, scan=None)


def test_images_in_a_file_that_is_missing(path: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "lima.h5", "w") as file:
        file["images"] = IMAGES
    with h5py.File(path, "a") as file:
        del file["1.1/instrument/pco/data"]
        file["1.1/instrument/pco/data"] = h5py.ExternalLink("lima.h5", "images")
    np.testing.assert_array_equal(read_hdf5(path, scan=None).stack[:], IMAGES)
    (tmp_path / "lima.h5").unlink()
    with pytest.raises(FileError, match=r"run\.h5: .*pco/data is kept in lima\.h5"):
        read_hdf5(path, scan=None)


def test_virtual_images_whose_files_are_missing(path: Path, tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(IMAGES.shape, IMAGES.dtype)
    for number in range(2):
        half = IMAGES[2 * number : 2 * number + 2]
        with h5py.File(tmp_path / f"part_{number}.h5", "w") as file:
            file["images"] = half
        source = h5py.VirtualSource(f"part_{number}.h5", "images", half.shape)
        layout[2 * number : 2 * number + 2] = source
    with h5py.File(path, "a") as file:
        del file["1.1/instrument/pco/data"]
        file.create_virtual_dataset("1.1/instrument/pco/data", layout)
    np.testing.assert_array_equal(read_hdf5(path, scan=None).stack[:], IMAGES)
    (tmp_path / "part_1.h5").unlink()
    with pytest.raises(FileError, match=r"1 of 2 files behind .*pco/data are missing.*part_1\.h5"):
        read_hdf5(path, scan=None)


@pytest.mark.parametrize("locking", [False, None, True])
def test_a_file_that_the_user_has_open(path: Path, locking: bool | None) -> None:
    with h5py.File(path, "r", locking=locking):
        np.testing.assert_array_equal(read_hdf5(path, scan=None).stack[0], IMAGES[0])


def test_a_writer_that_holds_the_lock_is_not_in_the_way(path: Path) -> None:
    writer = (
        "import sys, h5py\n"
        "with h5py.File(sys.argv[1], 'a', locking=True) as file:\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", writer, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        np.testing.assert_array_equal(read_hdf5(path, scan=None).stack[0], IMAGES[0])
        process.communicate()
    assert process.returncode == 0


def test_a_file_that_changes_after_it_was_opened(path: Path) -> None:
    stack = read_hdf5(path, scan=None).stack
    with h5py.File(path, "a") as file:
        del file["1.1/instrument/pco/data"]
        file["1.1/instrument/pco/data"] = IMAGES[:3]
    with pytest.raises(CorruptFileError, match=r"run\.h5: 1\.1/instrument/pco/data is no longer"):
        stack[0]


def test_real_bliss_file(data_dir: Callable[[str], Path]) -> None:
    path = data_dir("esrf_loaders") / "bliss_id03" / "motor_drift.h5"
    found = read_hdf5(path, scan=None)
    motors = {column.name: column.values for column in found.columns if column.role == MOTOR}
    with h5py.File(path, "r") as file:
        entry = file["1.1"]
        np.testing.assert_array_equal(
            found.stack[200:330, 10:90], entry["instrument/pco_ff/image"][200:330, 10:90]
        )
        assert set(motors) == set(entry["instrument/positioners"])
        np.testing.assert_array_equal(motors["diffry"], entry["measurement/diffry"])
        np.testing.assert_array_equal(motors["chi"], entry["instrument/positioners/chi"])
    assert found.stack.shape == (962, 100, 100)
    assert {name for name, values in motors.items() if values.ndim} == {"chi", "diffry"}
    assert found.constants["title"] == "fscan2d chi -0.58 0.08 26 diffry 7.12 0.06 37 0.6 0.600413"
    assert set(found.constants) == {"title", "start_time", "end_time"}


def test_real_file_without_classes(data_dir: Callable[[str], Path]) -> None:
    path = data_dir("esrf_loaders") / "hdf5_darfix" / "strain.hdf5"
    found = read_hdf5(path, scan=None)
    with h5py.File(path, "r") as file:
        np.testing.assert_array_equal(found.stack[:], file["1.1/instrument/my_detector/data"])
        assert len(found.columns) == len(file["1.1/instrument/positioners"])
    assert found.stack.shape == (2, 512, 512)
