"""Files that a running scan still writes: read without a lock, and seen to grow by refresh()."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import fabio.edfimage
import h5py
import numpy as np
import pytest
import xarray as xr

from wavedask.errors import FileError, InputError
from wavedask.io import open_scan, refresh
from wavedask.io.backend import WavedaskBackendEntrypoint

WRITER = """
import sys, h5py, numpy as np

def extend(dataset, values):
    dataset.resize(dataset.shape[0] + len(values), axis=0)
    dataset[-len(values):] = values

path, swmr = sys.argv[1], sys.argv[2] == "swmr"
with h5py.File(path, "w", libver="latest" if swmr else None, locking=True) as file:
    entry = file.create_group("1.1")
    entry["title"] = "ascan lens 0 1 10"
    entry["start_time"] = "2026-05-01T10:00:00"
    entry["instrument/positioners_start/lens"] = 0.0
    entry["instrument/positioners/lens"] = 0.0
    frames = entry.create_dataset(
        "instrument/pco/data", (0, 4, 5), maxshape=(None, 4, 5), chunks=(1, 4, 5), dtype="u2"
    )
    lens = entry.create_dataset("measurement/lens", (0,), maxshape=(None,), chunks=(8,))
    file.flush()
    if swmr:
        file.swmr_mode = True
    print("ready", flush=True)
    for line in sys.stdin:
        images, motors = (int(word) for word in line.split())
        first = frames.shape[0]
        if images:
            extend(frames, [np.full((4, 5), first + k) for k in range(images)])
        if motors:
            extend(lens, [lens.shape[0] + float(k) for k in range(motors)])
        for dataset in (frames, lens):
            dataset.flush()
        file.flush()
        print("ready", flush=True)
    if not swmr:
        entry["end_time"] = "2026-05-01T10:01:00"
"""


class Acquisition:
    """Another process that writes a scan as it is told, and holds its lock all the while."""

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._wait()

    def _wait(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def take(self, images: int, motors: int) -> None:
        """Take some images, and record some positions of the motor."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{images} {motors}\n")
        self.process.stdin.flush()
        self._wait()

    def end(self) -> None:
        """Close the file."""
        self.process.communicate()
        assert self.process.returncode == 0


@pytest.fixture(params=["swmr", "plain"])
def acquisition(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Acquisition]:
    writing = Acquisition(tmp_path / "run.h5", request.param)
    yield writing
    if writing.process.poll() is None:
        writing.process.communicate()


def test_new_frames_are_seen_while_the_scan_runs(acquisition: Acquisition) -> None:
    acquisition.take(3, 3)
    first = open_scan(acquisition.path)
    assert first.lens.values.tolist() == [0, 1, 2]
    acquisition.take(2, 2)
    # What was opened before is still valid: its frames are all there.
    assert first.image[:, 0, 0].values.tolist() == [0, 1, 2]
    second = refresh(first)
    assert second.image[:, 0, 0].values.tolist() == [0, 1, 2, 3, 4]
    assert second.lens.values.tolist() == [0, 1, 2, 3, 4]
    assert first.sizes["frame"] == 3
    acquisition.end()
    assert refresh(second).sizes["frame"] == 5


def test_frames_wait_for_their_motors_and_say_so(acquisition: Acquisition) -> None:
    acquisition.take(3, 0)
    with pytest.raises(FileError, match=r"1\.1 has begun, but no frame has all its motors yet"):
        open_scan(acquisition.path)
    acquisition.take(0, 2)
    scan = open_scan(acquisition.path)
    assert scan.sizes["frame"] == 2
    assert scan.attrs["unfinished"] == "2 of 3 frames with all their motors"
    acquisition.take(0, 4)
    ahead = refresh(scan)
    assert ahead.sizes["frame"] == 3
    assert ahead.lens.values.tolist() == [0, 1, 2]


def test_no_reader_holds_a_lock(acquisition: Acquisition) -> None:
    acquisition.take(1, 1)
    scan = open_scan(acquisition.path)
    scan.image.compute()
    acquisition.end()
    # A reader with a lock would refuse the next writer.
    with h5py.File(acquisition.path, "a", locking=True) as file:
        file["2.1/title"] = "next"


def test_a_writer_that_lets_nobody_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "held.h5"
    writer = (
        "import sys, h5py\n"
        "with h5py.File(sys.argv[1], 'w', libver='latest') as file:\n"
        "    file['a'] = 1\n"
        "    file.flush()\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", writer, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(FileError, match=r"held\.h5 is being written by a program .*SWMR mode"):
            open_scan(path)
        process.communicate()


def write_edf(folder: Path, number: int) -> None:
    image = np.full((4, 5), number, "uint16")
    fabio.edfimage.EdfImage(data=image, header={}).write(str(folder / f"f_{number}.edf"))


def by_open_scan(source: str) -> xr.Dataset:
    return open_scan(source, chunks={"y": 2})


def by_engine(source: str) -> xr.Dataset:
    return xr.open_dataset(source, engine=WavedaskBackendEntrypoint)


@pytest.mark.parametrize("opener", [by_open_scan, by_engine])
def test_new_files_of_a_glob_are_seen(tmp_path: Path, opener: Callable[[str], xr.Dataset]) -> None:
    for number in (0, 1):
        write_edf(tmp_path, number)
    scan = opener(str(tmp_path / "f_*.edf"))
    write_edf(tmp_path, 2)
    fresh = refresh(scan)
    assert fresh.image[:, 0, 0].values.tolist() == [0, 1, 2]
    assert fresh.image.data.chunksize == ((1, 2, 5) if opener is by_open_scan else (1, 4, 5))


def test_what_was_computed_does_not_know_its_source() -> None:
    with pytest.raises(InputError, match=r"does not say how it was opened.*open_scan"):
        refresh(xr.Dataset())
