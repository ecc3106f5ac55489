"""Roles: frames found by motor, header item, key and file name; and what is no choice."""

from pathlib import Path
from typing import Any

import fabio.edfimage
import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from support.laziness import forbid_computing

from wavedask.errors import InputError, MotorError
from wavedask.frames.queries import select
from wavedask.frames.roles import Conditions, select_roles
from wavedask.io import input_files, open_scan

NAMES = ["dark_0", "flat_0", "ref_0", "lens_0", "lens_1"]
LENS_X = [0.0, 0.0, -5.04, 1.0, 2.0]
SHUTTERS = ["CLOSED", "OPEN", "OPEN", "OPEN", "OPEN"]


@pytest.fixture
def scan(tmp_path: Path) -> xr.Dataset:
    for number, name in enumerate(NAMES):
        header = {
            "motor_mne": "lens_x mem_y",
            "motor_pos": f"{LENS_X[number]} {3.5 if number > 1 else 0}",
            "shutter": SHUTTERS[number],
            "energy_set": "17.0",
        }
        image = np.full((4, 5), number, "uint16")
        fabio.edfimage.EdfImage(data=image, header=header).write(str(tmp_path / f"{name}.edf"))
    return open_scan([tmp_path / f"{name}.edf" for name in NAMES])


def numbers(scan: xr.Dataset) -> list[int]:
    return [int(value) for value in scan.image[:, 0, 0].values]


@pytest.mark.parametrize(
    ("conditions", "frames"),
    [
        ({"shutter": "CLOSED"}, [0]),
        ({"shutter": "OP*"}, [1, 2, 3, 4]),
        ({"shutter": "OPEN", "mem_y": 0}, [1]),
        ("abs(lens_x + 5) < 0.1", [2]),
        ("0.5 <= lens_x <= 2 and shutter == 'OPEN'", [3, 4]),
        ("mem_y == 0 or lens_x < -1", [0, 1, 2]),
        # A header item that never changes, as the text that it is.
        ("energy_set == '17.0' and source_index == 0 and lens_x > 1", [4]),
        ({"where": "lens_x >= 0.5", "files": "*_0.edf"}, [3]),
        ({"lens_x": 2}, [4]),
        ({"files": "lens_*.edf"}, [3, 4]),
        ({"energy_set": "17*", "files": "flat_?.edf"}, [1]),
    ],
)
def test_frames_are_found(scan: xr.Dataset, conditions: Conditions, frames: list[int]) -> None:
    with forbid_computing():
        found = select_roles(scan, {"sample": conditions})
    assert numbers(found["sample"]) == frames


def test_files_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for number, folder in enumerate(["dark", "lens_1", "lens_2"]):
        (tmp_path / folder).mkdir()
        image = np.full((4, 5), number, "uint16")
        fabio.edfimage.EdfImage(data=image).write(str(tmp_path / folder / "0001.edf"))
    scan = open_scan(tmp_path / "*" / "*.edf")
    roles: dict[str, Conditions] = {
        "dark": {"files": "./dark/*.edf"},
        "sample": {"files": "lens_?/0001.edf"},
        "flat": {"files": str(tmp_path / "*_2" / "*")},
    }
    with pytest.raises(InputError, match=r"roles\.flat and roles\.sample both fit 1 frames"):
        select_roles(scan, roles)
    roles["sample"] = {"files": "*_1/*"}
    found = select_roles(scan, roles)
    assert {role: numbers(part) for role, part in found.items()} == {
        "dark": [0],
        "sample": [1],
        "flat": [2],
    }
    with pytest.raises(InputError, match=r"files is 'gone/\*', .*There are 'dark/0001\.edf'"):
        select_roles(scan, {"sample": {"files": "gone/*"}})


def test_a_role_is_as_if_it_were_a_scan_of_its_own(scan: xr.Dataset) -> None:
    roles: dict[str, Conditions] = {"sample": {"files": "lens_*"}, "dark": "shutter == 'CLOSED'"}
    found = select_roles(scan, roles)
    for role, names in (("sample", NAMES[3:]), ("dark", NAMES[:1])):
        alone = open_scan([input_files(scan)[NAMES.index(name)] for name in names])
        assert set(found[role].coords) - set(alone.coords) <= {"shutter"}
        for name in alone.coords:
            xr.testing.assert_identical(found[role][name].variable, alone[name].variable)


def test_frames_of_a_tomography_file_by_their_key(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["exchange/data"] = np.full((3, 4, 5), 0, "u2")
        file["exchange/data_white"] = np.full((2, 4, 5), 1, "u2")
        file["exchange/data_dark"] = np.full((1, 4, 5), 2, "u2")
    keys = {"sample": 0, "flat": 1, "dark": 2}
    found = select_roles(open_scan(path), {role: {"image_key": key} for role, key in keys.items()})
    assert {role: numbers(part) for role, part in found.items()} == {
        "sample": [0, 0, 0],
        "flat": [1, 1],
        "dark": [2],
    }


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({"lens_y": 1.0}, r"roles\.sample\.lens_y: the scan has no 'lens_y'\. .*'lens_x'"),
        ({"zzz": 1.0}, r"the scan has no 'zzz'\. It has .*lens_x.* and files"),
        ({"lens_x": 7.0}, r"lens_x is 7\.0, which no frame fits\. There are -5\.04, 0, 1, 2"),
        ({"lens_x": "5 ± 1"}, r"its values are numbers\. .* where: 'abs\(lens_x - 5\) <= 0\.1'"),
        ("lens_x > 7", r"roles\.sample is 'lens_x > 7', which no frame fits.*-5\.04, 0, 1, 2"),
        ({"where": "lens_x > 7"}, r"roles\.sample\.where is 'lens_x > 7', which no frame fits"),
        ("lens_y > 7", r"roles\.sample: there is no coordinate 'lens_y'\. Did you mean 'lens_x'"),
        ("lens_x = 7", r"roles\.sample: condition 'lens_x = 7' cannot be read.* ==\."),
        ("shutter > 7", r"roles\.sample: condition .* compares a text with a number"),
        ("lens_x", r"neither true nor false"),
        ({"shutter": 1.0}, r"its values are texts: 'CLOSED', 'OPEN'"),
        ({"shutter": "CLOSED", "lens_x": 2.0}, r"no frame fits all of"),
        ({}, r"roles\.sample has no condition"),
    ],
)
def test_a_condition_that_is_none(scan: xr.Dataset, conditions: Conditions, said: str) -> None:
    with pytest.raises(InputError, match=said):
        select_roles(scan, {"sample": conditions})


def test_a_frame_has_one_role(scan: xr.Dataset) -> None:
    with pytest.raises(InputError, match=r"roles\.flat and roles\.sample both fit 2 frames.*3"):
        select_roles(scan, {"sample": "lens_x >= 1", "flat": {"files": "lens*"}})


@pytest.mark.parametrize("conditions", [{"lens_x": 1.0}, "shutter == 'OPEN' and lens_x == 1"])
def test_an_unknown_position_decides_nothing(scan: xr.Dataset, conditions: Conditions) -> None:
    unknown: Any = scan.lens_x.copy(data=[0.0, np.nan, 1.0, np.nan, 2.0])
    with pytest.raises(MotorError, match=r"'lens_x' is unknown in 2 frames, the first is frame 1"):
        select_roles(scan.assign_coords(lens_x=unknown), {"sample": conditions})


@given(
    positions=st.lists(st.floats(-10, 10), min_size=1, max_size=8),
    low=st.floats(-10, 10),
    high=st.floats(-10, 10),
)
def test_a_role_is_what_a_query_finds(positions: list[float], low: float, high: float) -> None:
    scan = xr.Dataset(
        {"image": (("frame", "y", "x"), np.zeros((len(positions), 1, 1)))},
        coords={"lens_x": ("frame", positions, {"role": "motor"})},
    )
    condition = f"{low!r} <= lens_x <= {high!r}"
    expected = select(scan, condition).lens_x.values
    if expected.size:
        found = select_roles(scan, {"sample": condition})["sample"]
        assert np.broadcast_to(found.lens_x.values, expected.shape).tolist() == expected.tolist()
    else:
        with pytest.raises(InputError, match="no frame fits"):
            select_roles(scan, {"sample": condition})


def test_a_motor_in_single_precision_is_found(scan: xr.Dataset) -> None:
    single = scan.assign_coords(lens_x=scan.lens_x.astype("f4"))
    assert numbers(select_roles(single, {"reference": {"lens_x": -5.04}})["reference"]) == [2]
