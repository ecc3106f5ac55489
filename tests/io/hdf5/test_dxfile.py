"""Data Exchange files: projections, flat and dark frames as one scan with keys."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from wavedask.errors import FrameMismatchError, MotorError
from wavedask.io import open_scan

FRAMES = np.random.default_rng(5).integers(0, 60000, (7, 6, 5)).astype("uint16")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write four projections, two flat frames and a dark one."""
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["implements"] = "exchange:measurement"
        file["exchange/data"] = FRAMES[:4]
        file["exchange/data_white"] = FRAMES[4:6]
        file["exchange/data_dark"] = FRAMES[6:]
        file["exchange/theta"] = [0.0, 45.0, 90.0, 135.0]
        file["exchange/theta"].attrs["units"] = "deg"
        file["measurement/instrument/detector/model"] = "Oryx"
    return path


def test_all_frames_are_one_scan_with_keys(path: Path) -> None:
    scan = open_scan(path)
    np.testing.assert_array_equal(scan.image, FRAMES)
    assert scan.image_key.values.tolist() == [0, 0, 0, 0, 1, 1, 2]
    np.testing.assert_array_equal(scan.theta, [0, 45, 90, 135, np.nan, np.nan, np.nan])
    assert scan.theta.attrs["units"] == "deg"
    # A run over the seam of two datasets, in the order asked for.
    np.testing.assert_array_equal(scan.image[[6, 3, 4]], FRAMES[[6, 3, 4]])


def test_an_average_of_dark_frames_is_one_frame(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["exchange/data_dark"]
        file["exchange/data_dark"] = FRAMES[6]
    scan = open_scan(path)
    np.testing.assert_array_equal(scan.image, FRAMES)
    assert scan.image_key.values.tolist() == [0, 0, 0, 0, 1, 1, 2]


def test_angles_of_flat_frames_are_used_where_they_are_known(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["exchange/theta_white"] = [0.0, 135.0]
    assert open_scan(path).theta.values[4:6].tolist() == [0, 135]


def test_one_kind_of_frames_is_chosen_by_its_path(path: Path) -> None:
    flats = open_scan(path, image="/exchange/data_white")
    np.testing.assert_array_equal(flats.image, FRAMES[4:6])
    assert float(flats.image_key) == 1
    projections = open_scan(path, scan="exchange", image="data")
    assert projections.theta.values.tolist() == [0, 45, 90, 135]


def test_angles_of_another_number_are_refused(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["exchange/theta"]
        file["exchange/theta"] = [0.0, 1.0]
    with pytest.raises(MotorError, match=r"'theta' has 5 values, but the scan has 7 frames"):
        open_scan(path)


def test_dark_frames_of_another_shape_are_refused(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["exchange/data_dark"]
        file["exchange/data_dark"] = FRAMES[:1, :3]
    with pytest.raises(FrameMismatchError, match=r"scan\.h5: exchange/data has.*data_dark of"):
        open_scan(path)
