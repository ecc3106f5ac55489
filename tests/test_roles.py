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
from laziness import forbid_computing

from wavedask.errors import InputError, MotorError
from wavedask.io import input_files, open_scan
from wavedask.roles import Conditions, select_roles

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
        ({"lens_x": "-5 ± 0.1"}, [2]),
        ({"lens_x": "-5 +- 0.1"}, [2]),
        ({"lens_x": "1.5 ± 0.5"}, [3, 4]),
        ({"lens_x": (0.5, 2.0)}, [3, 4]),
        ({"lens_x": 2}, [4]),
        ({"files": "lens_*.edf"}, [3, 4]),
        ({"energy_set": "17*", "files": "flat_?.edf"}, [1]),
    ],
)
def test_frames_are_found(scan: xr.Dataset, conditions: Conditions, frames: list[int]) -> None:
    with forbid_computing():
        found = select_roles(scan, {"sample": conditions})
    assert numbers(found["sample"]) == frames


def test_a_role_is_as_if_it_were_a_scan_of_its_own(scan: xr.Dataset) -> None:
    roles: dict[str, Conditions] = {"sample": {"files": "lens_*"}, "dark": {"shutter": "CLOSED"}}
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
        ({"lens_x": "OPEN"}, r"its values are numbers\. Give a number, 'number ± tolerance'"),
        ({"lens_x": "5 ± much"}, r"'much' is no number"),
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
        select_roles(scan, {"sample": {"lens_x": (1, 2)}, "flat": {"files": "lens*"}})


def test_an_unknown_position_decides_nothing(scan: xr.Dataset) -> None:
    unknown: Any = scan.lens_x.copy(data=[0.0, np.nan, 1.0, np.nan, 2.0])
    with pytest.raises(MotorError, match=r"'lens_x' is unknown in 2 frames, the first is frame 1"):
        select_roles(scan.assign_coords(lens_x=unknown), {"sample": {"lens_x": 1.0}})


@given(
    value=st.floats(-1e6, 1e6),
    tolerance=st.floats(1e-3, 1e3),
    inside=st.floats(-1, 1),
    outside=st.floats(1.01, 100),
)
def test_a_tolerance_is_a_tolerance(
    value: float, tolerance: float, inside: float, outside: float
) -> None:
    positions = np.array([value + inside * tolerance, value + outside * tolerance])
    scan = xr.Dataset(
        {"image": (("frame", "y", "x"), np.zeros((2, 1, 1)))},
        coords={"lens_x": ("frame", positions, {"role": "motor"})},
    )
    found = select_roles(scan, {"sample": {"lens_x": f"{value!r} ± {tolerance!r}"}})
    assert found["sample"].lens_x.values.tolist() == positions[0]
