"""Worker processes keep files open between tasks, but never a changed or an idle one."""

import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from wavedask.io import open_scan
from wavedask.io.hdf5 import handles
from wavedask.io.hdf5.handles import held


def write(path: Path, value: int, *, age: float) -> None:
    """Write a file that seems to have been changed some seconds ago, in place of the former."""
    other = path.with_suffix(".new")
    with h5py.File(other, "w") as file:
        file["1.1/instrument/pco/data"] = np.full((4, 5, 6), value, "u2")
    os.utime(other, (time.time() - age, time.time() - age))
    other.rename(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.h5"
    write(path, 1, age=60)
    return path


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process look like one that was started for the work."""
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: object())


def open_files(path: Path) -> int:
    """Count the descriptors of this process that lead to a file."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found += str(entry.readlink()) == str(path)
        except FileNotFoundError:
            continue
    return found


def test_a_users_own_process_keeps_nothing_open(path: Path) -> None:
    open_scan(path).image.compute(scheduler="sync")
    assert open_files(path) == 0
    with h5py.File(path, "a") as file:
        file["note"] = "written"


def test_a_worker_keeps_a_file_until_it_is_idle(
    path: Path, worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handles, "IDLE", 0.2)
    with held(path) as first:
        pass
    with held(path) as second:
        assert second is first
    assert open_files(path) == 1
    deadline = time.monotonic() + 10
    while open_files(path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert open_files(path) == 0


def test_a_file_that_changed_is_opened_again(path: Path, worker: None) -> None:
    def value(file: h5py.File) -> int:
        return int(file["1.1/instrument/pco/data"][0, 0, 0])

    with held(path) as first:
        write(path, 2, age=30)
        with held(path) as second:
            assert (value(first), value(second)) == (1, 2)
    # The former one was closed when its last user had gone.
    assert not first
    assert second


def test_a_file_that_is_being_written_is_not_kept(path: Path, worker: None) -> None:
    write(path, 3, age=0)
    with held(path) as file:
        assert file
    assert not file


def test_many_threads_share_one_file(path: Path, worker: None) -> None:
    image = open_scan(path).image.data
    together = threading.Barrier(4, timeout=30)

    def read(number: int) -> int:
        if number < 4:
            together.wait()
        return int(image[number % 4].sum().compute(scheduler="sync"))

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(read, range(40))) == {30}
    assert open_files(path) == 1


def test_a_forked_process_has_files_of_its_own(path: Path, worker: None) -> None:
    with held(path):
        pass
    process = os.fork()
    if process == 0:
        os._exit(len(handles._HANDLES.files))
    assert os.waitpid(process, 0)[1] == 0
    assert handles._HANDLES.files
