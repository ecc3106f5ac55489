"""Files with structures that no facility writes end soon, with frames or with a reason."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from support.nexus import FRAMES, group

from wavedask.errors import InputError, MotorError
from wavedask.io import list_scans, open_scan

SOON = 15.0
"""Seconds that each may take here: three times what it may where nothing else runs."""
MANY = 20_000


@contextmanager
def soon() -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < SOON


def deep(file: h5py.File) -> None:
    inner = group(file, "entry", "NXentry")
    group(file, "entry/instrument/pco", "NXdetector")["data"] = FRAMES
    for _ in range(3000):
        inner = inner.create_group("g")


def many_groups(file: h5py.File) -> None:
    group(file, "entry", "NXentry")
    group(file, "entry/instrument/pco", "NXdetector")["data"] = FRAMES
    for number in range(MANY):
        file.create_group(f"entry/collection/g{number}")


def many_counters(file: h5py.File) -> None:
    file["1.1/instrument/pco/image"] = FRAMES
    file["1.1/instrument/positioners/sx"] = np.arange(4.0)
    for number in range(MANY):
        file[f"1.1/measurement/c{number}"] = 1.0


@pytest.mark.parametrize("write", [deep, many_groups, many_counters])
def test_frames_are_found_among_very_much_else(
    tmp_path: Path, write: Callable[[h5py.File], None]
) -> None:
    path = tmp_path / "huge.h5"
    with h5py.File(path, "w", libver="latest") as file:
        write(file)
    with soon():
        scan = open_scan(path)
    np.testing.assert_array_equal(scan.image, FRAMES)
    if write is not deep:
        assert "only the first 2000 are looked at" in scan.attrs["not_read"]
    with soon():
        assert len(list_scans(path)) == 1


def test_one_of_very_many_scans_is_named(tmp_path: Path) -> None:
    path = tmp_path / "huge.h5"
    with h5py.File(path, "w", libver="latest") as file:
        for number in range(MANY):
            file.create_group(f"{number}.1")
        file["777.1/instrument/pco/image"] = FRAMES
        file["777.1/measurement/sx"] = np.arange(4.0)
    with soon(), pytest.raises(InputError, match=r"20000 groups at its root.*scan='<name>'"):
        open_scan(path)
    with soon(), pytest.raises(InputError, match=r"20000 groups at its root"):
        list_scans(path)
    with soon():
        np.testing.assert_array_equal(open_scan(path, scan="777.1").image, FRAMES)
        place = "777.1/instrument/pco/image"
        np.testing.assert_array_equal(open_scan(path, image=place).image, FRAMES)


def test_a_table_of_very_many_motors(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "0.tif", FRAMES[0])
    row = ",".join(["1"] * MANY)
    names = ",".join(f"m{number}" for number in range(MANY))
    (tmp_path / "motors.csv").write_text(f"{names}\n{row}\n")
    with soon(), pytest.raises(MotorError, match="20000 motors, more than 2000"):
        open_scan(tmp_path / "0.tif", motors=tmp_path / "motors.csv")
