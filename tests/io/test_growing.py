"""Files that a running scan still writes: read without a lock, and seen to grow by refresh()."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fabio.edfimage
import h5py
import numpy as np
import pytest
import tifffile
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from wavedask.errors import FileError, InputError
from wavedask.io import input_files, open_scan, opening, refresh
from wavedask.io.backend import WavedaskBackendEntrypoint
from wavedask.io.files import Format
from wavedask.io.frames import FrameRecord, RawFrame
from wavedask.io.headers import Headers

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


def test_a_generator_of_paths_can_be_refreshed(tmp_path: Path) -> None:
    write_edf(tmp_path, 0)
    paths: Any = tmp_path.glob("*.edf")
    scan = open_scan(paths)
    assert refresh(scan).sizes == scan.sizes


def test_a_relative_path_means_the_same_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for number, folder in enumerate((here, elsewhere)):
        folder.mkdir()
        write_tiff(folder, 0)
        (folder / "motors.csv").write_text(f"lens_x\n{number}\n")
    monkeypatch.chdir(here)
    scans = [open_scan(source, motors="motors.csv") for source in ("*.tif", ["f_0.tif"])]
    monkeypatch.chdir(elsewhere)
    for scan in scans:
        fresh = refresh(scan)
        assert float(fresh.lens_x) == 0
        assert fresh.source_file.values.tolist() == [str(here / "f_0.tif")]


def test_what_was_computed_does_not_know_its_source() -> None:
    with pytest.raises(InputError, match=r"does not say how it was opened.*open_scan"):
        refresh(xr.Dataset())


def write_tiff(folder: Path, number: int) -> None:
    tifffile.imwrite(folder / f"f_{number}.tif", np.full((4, 5), number, "uint16"))


def read_by(monkeypatch: pytest.MonkeyPatch, format_: Format) -> list[str]:
    """Names of the files whose headers are read from now on."""
    names: list[str] = []
    reader = opening.READERS[format_]

    def counted(path: Path) -> list[FrameRecord]:
        names.append(path.name)
        return reader(path)

    monkeypatch.setitem(opening.READERS, format_, counted)
    return names


@pytest.mark.parametrize("format_", [Format.EDF, Format.TIFF])
@pytest.mark.parametrize("opener", [by_open_scan, by_engine])
def test_only_headers_of_new_and_changed_files_are_read(
    opener: Callable[[str], xr.Dataset],
    format_: Format,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = write_edf if format_ is Format.EDF else write_tiff
    pattern = str(tmp_path / f"f_*{format_.value[0]}")
    for number in range(4):
        write(tmp_path, number)
    scan = opener(pattern)
    first, second, third, *_ = input_files(scan)
    names = read_by(monkeypatch, format_)
    assert refresh(scan).sizes["frame"] == 4
    assert names == []
    # One comes, one goes, and one is another now, of the same size.
    write(tmp_path, 7)
    first.unlink()
    third.write_bytes(second.read_bytes())
    status = third.stat()
    os.utime(third, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    fresh = refresh(scan)
    assert sorted(names) == sorted([third.name, f"f_7{format_.value[0]}"])
    assert fresh.image[:, 0, 0].values.tolist() == [1, 1, 3, 7]
    xr.testing.assert_identical(fresh.load(), opener(pattern).load())
    assert fresh.image.attrs == opener(pattern).image.attrs
    # What is known is known to the next one, too, and to a copy.
    names.clear()
    refresh(fresh.copy(deep=True))
    assert names == []


def test_a_pickled_scan_is_small_and_reads_its_headers_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        header = {f"item_{k}": f"{number} {k}" for k in range(100)}
        image = np.full((4, 5), number, "uint16")
        fabio.edfimage.EdfImage(data=image, header=header).write(str(tmp_path / f"{number}.edf"))
    scan = by_open_scan(str(tmp_path))
    names = read_by(monkeypatch, Format.EDF)
    again = pickle.loads(pickle.dumps(scan.encoding))
    assert len(pickle.dumps(scan.encoding)) < 2000
    assert again["wavedask_again"]().stack.shape == (30, 4, 5)
    assert len(names) == 30


@given(
    values=st.dictionaries(st.text(min_size=1), st.floats(), max_size=5),
    texts=st.dictionaries(st.text(min_size=1), st.text(), max_size=5),
)
def test_a_header_is_kept_as_it_was(values: dict[str, float], texts: dict[str, str]) -> None:
    frame = RawFrame(Path("a.edf"), 0, 512, (4, 5), np.dtype("<u2"))
    records = [FrameRecord(frame, values, {}, texts), FrameRecord(frame, {}, values, {})]
    known = Headers([(("a.edf", 1, 2), records)]).records()["a.edf", 1, 2]
    assert repr(known) == repr(records)
