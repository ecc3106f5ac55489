"""Frames and motors at paths that the user gives, and what is said of a wrong path."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from wavedask.errors import FileError, InputError, MotorError
from wavedask.io import open_scan

FRAMES = np.random.default_rng(6).integers(0, 60000, (3, 6, 5)).astype("uint16")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write a file of no known layout."""
    path = tmp_path / "home_made.h5"
    with h5py.File(path, "w") as file:
        file["run/camera_frames"] = FRAMES
        file["run/stage/across"] = [0.0, 0.5, 1.0]
        file["run/stage/across"].attrs["units"] = "mm"
        file["run/stage/up"] = [[7.0]]
        file["run/stage/name"] = "hexapod"
        file["run/stage/short"] = [1.0, 2.0]
        file["calibration"] = np.zeros((2, 2, 2))
    return path


def test_frames_and_motors_by_path(path: Path) -> None:
    motors: dict[str, Any] = {
        "lens_x": "/run/stage/across",
        "lens_y [um]": "run/stage/up",
        "energy": 17.0,
    }
    scan = open_scan(path, image="/run/camera_frames", motors=motors)
    np.testing.assert_array_equal(scan.image, FRAMES)
    assert (scan.lens_x.values.tolist(), scan.lens_x.units) == ([0.0, 0.5, 1.0], "mm")
    assert (float(scan.lens_y), scan.lens_y.units) == (7.0, "um")
    assert float(scan.energy) == 17.0


def test_paths_from_a_scan_or_from_the_root(path: Path) -> None:
    for image in ("camera_frames", "/run/camera_frames"):
        for where in ("stage/across", "/run/stage/across", "run/stage/across"):
            scan = open_scan(path, scan="run", image=image, motors={"lens_x": where})
            np.testing.assert_array_equal(scan.image, FRAMES)
            assert scan.lens_x.values.tolist() == [0.0, 0.5, 1.0]


def test_a_single_image_is_a_scan_of_one(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    for number, each in enumerate((path, other)):
        with h5py.File(each, "a") as file:
            file["flat"] = FRAMES[number]
            file["stage"] = 0.5 * number
    scan = open_scan([path, other], image="flat", motors={"lens_x": "stage"})
    np.testing.assert_array_equal(scan.image, FRAMES[:2])
    np.testing.assert_array_equal(scan.image[1, 2:4, ::-1], FRAMES[1, 2:4, ::-1])
    assert scan.lens_x.values.tolist() == [0.0, 0.5]
    assert open_scan(other, image="flat").sizes["frame"] == 1


def test_a_single_image_of_a_virtual_dataset(path: Path, tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(FRAMES.shape[1:], FRAMES.dtype)
    layout[...] = h5py.VirtualSource(path, "run/camera_frames", FRAMES.shape)[1]
    with h5py.File(tmp_path / "view.h5", "w") as file:
        file.create_virtual_dataset("image", layout)
    scan = open_scan(tmp_path / "view.h5", image="image")
    np.testing.assert_array_equal(scan.image[0], FRAMES[1])
    path.unlink()
    with pytest.raises(FileError, match=r"home_made\.h5, which holds frames of .*view\.h5"):
        scan.image.compute()


def test_frames_at_the_root(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["frames"] = FRAMES
        file["dose"] = [1.0, 2.0, 3.0]
    scan = open_scan(path, image="frames")
    np.testing.assert_array_equal(scan.image, FRAMES)
    assert scan.dose.values.tolist() == [1, 2, 3]


def test_only_what_can_be_frames_is_suggested_for_them(path: Path) -> None:
    with pytest.raises(InputError, match=r"Did you mean /run/camera_frames \(3, 6, 5\)\?$"):
        open_scan(path, image="/run/camera_fram")


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("/run/camera_frame", r"is not there\. Did you mean /run/camera_frames \(3, 6, 5\)"),
        ("camera_frames", r"is not there\. Did you mean /run/camera_frames"),
        ("/run", r"is a group\. Did you mean /run/camera_frames"),
        ("/zzz", r"is not there\. Datasets with three axes: /calibration.*/run/camera_frames"),
        ("/run/stage/across", r"is of shape \(3,\) .* at least three axes"),
    ],
)
def test_a_wrong_path_suggests_the_right_one(path: Path, image: str, said: str) -> None:
    with pytest.raises(InputError, match=rf"home_made\.h5: image='{image}' {said}"):
        open_scan(path, image=image)


def test_motors_that_cannot_be_positions(path: Path) -> None:
    def opened(where: str) -> None:
        open_scan(path, image="/run/camera_frames", motors={"lens_x": where})

    with pytest.raises(InputError, match=r"motors\['lens_x'\]='/run/stage/acros'.*stage/across"):
        opened("/run/stage/acros")
    with pytest.raises(InputError, match=r"'/run/stage/name' is of type object.*are numbers"):
        opened("/run/stage/name")
    with pytest.raises(MotorError, match=r"'lens_x' has 2 values, but the scan has 3 frames"):
        opened("/run/stage/short")


def test_a_path_into_a_file_that_is_missing(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["elsewhere"] = h5py.ExternalLink("gone.h5", "/frames")
    with pytest.raises(FileError, match=r"image='elsewhere' is kept in gone\.h5"):
        open_scan(path, image="elsewhere")
