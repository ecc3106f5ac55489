"""HDF5 files that announce more than they hold, or lead elsewhere: told, within time and memory."""

import logging
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mutation import READ, REFUSED, SECONDS, Reader
from support.nexus import FRAMES, group, nexus

from wavedask.errors import CorruptFileError, FileError
from wavedask.io import list_scans, open_scan

PCO = "entry/instrument/pco"
SX = "entry/instrument/sx"
HUGE = 10**13

Change = Callable[[h5py.File], object]


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as found:
        yield found


def frames(file: h5py.File, shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
    del file[f"{PCO}/data"]
    file[PCO].create_dataset("data", shape, "u2", chunks=chunks)


def values(file: h5py.File, place: str, kind: object = "f8") -> None:
    if place in file:
        del file[place]
    file.create_dataset(place, (HUGE,), kind, chunks=(1000,))


def references(file: h5py.File, place: str, count: int, *, regions: bool = False) -> None:
    target = file[f"{PCO}/data"]
    if place in file:
        del file[place]
    if regions:
        content = [target.regionref[:1]] * count
        file.create_dataset(place, data=content, dtype=h5py.regionref_dtype)
    else:
        file.create_dataset(place, data=[target.ref] * count, dtype=h5py.ref_dtype)


def bomb(file: h5py.File) -> None:
    """Chunks of 144 bytes that become 256 MiB."""
    del file[f"{PCO}/data"]
    options = {"chunks": (1, 8, 9), "compression": "gzip"}
    data = file[PCO].create_dataset("data", FRAMES.shape, "u2", **options)
    packer = zlib.compressobj(9)
    block = bytes(2**20)
    content = b"".join([*(packer.compress(block) for _ in range(256)), packer.flush()])
    for frame in range(len(FRAMES)):
        data.id.write_direct_chunk((frame, 0, 0), content)


CASES: dict[str, tuple[Change, str]] = {
    "very many frames": (lambda f: frames(f, (10**15, 8, 9), (1, 8, 9)), REFUSED),
    "very many frames in large chunks": (
        lambda f: frames(f, (10**9, 8, 9), (10**6, 8, 9)),
        REFUSED,
    ),
    "very large frames": (lambda f: frames(f, (4, 10**7, 10**7), (1, 512, 512)), REFUSED),
    "frames of 20 GB": (lambda f: frames(f, (4, 10**5, 10**5), (1, 512, 512)), REFUSED),
    "a very long motor": (lambda f: values(f, f"{SX}/value"), READ),
    "a very long title": (lambda f: values(f, "entry/title", h5py.string_dtype()), READ),
    "a very long title of fixed size": (lambda f: values(f, "entry/title", "S99"), READ),
    "a very long start": (lambda f: values(f, "entry/start_time"), READ),
    "very many keys": (lambda f: values(f, f"{PCO}/image_key", "i4"), READ),
    "a very long distance": (lambda f: values(f, f"{PCO}/distance"), READ),
    "chunks that become gigabytes": (bomb, REFUSED),
    "a motor of references": (lambda f: references(f, f"{SX}/value", 4), READ),
    "a motor of regions": (lambda f: references(f, f"{SX}/value", 4, regions=True), READ),
    "a reference as a title": (lambda f: references(f, "entry/title", 1), READ),
    "references as frames": (lambda f: references(f, f"{PCO}/data", 4), REFUSED),
    "references as axes": (
        lambda f: f[PCO].attrs.create("axes", [f[PCO].ref] * 3, dtype=h5py.ref_dtype),
        READ,
    ),
    "a reference as a class": (lambda f: f["entry"].attrs.update(NX_class=f[PCO].ref), READ),
    "a reference as a unit": (lambda f: f[f"{SX}/value"].attrs.update(units=f[PCO].ref), READ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_file_announces_is_bounded(case: str, reader: Reader, tmp_path: Path) -> None:
    change, expected = CASES[case]
    whole, path = tmp_path / "whole.nxs", tmp_path / "changed.nxs"
    for each in (whole, path):
        with nexus(each) as file:
            if each == path:
                change(file)
    seconds, said = reader.read("hdf5", path, whole)
    # A reference as a class or a unit is no text, and says nothing.
    assert said in (expected, "equal" if expected == READ else expected)
    assert seconds < SECONDS


def test_a_motor_that_is_too_long_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scan.nxs"
    with nexus(path) as file:
        values(file, f"{SX}/value")
    scan = open_scan(path)
    assert "/sx/value announces 10000000000000 values" in scan.attrs["not_read"]
    assert "sx" not in scan.coords
    assert list_scans(path)[0].cameras


def test_a_table_of_texts_that_does_not_end(tmp_path: Path) -> None:
    """HDF5 itself would read it for ever."""
    path = tmp_path / "scan.nxs"
    with nexus(path):
        pass
    content = bytearray(path.read_bytes())
    start = content.index(b"GCOL")
    # The free space behind five texts of at most 24 bytes with their headers.
    content[start + 16 + 24 : start + 4096] = bytes(4096 - 40)
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"the table of texts at byte .* does not end"):
        open_scan(path)


def linked(path: Path, target: Path, kind: str) -> None:
    with h5py.File(path, "w") as file:
        pco = group(file, "1.1/instrument/pco")
        group(file, "1.1/measurement")
        if kind == "link":
            pco["image"] = h5py.ExternalLink(str(target), "frames")
        elif kind == "virtual":
            layout = h5py.VirtualLayout(FRAMES.shape, "u2")
            layout[:] = h5py.VirtualSource(str(target), "frames", FRAMES.shape)
            pco.create_virtual_dataset("image", layout)
        else:
            raw = [(str(target), 0, FRAMES.nbytes)]
            pco.create_dataset("image", FRAMES.shape, "u2", external=raw)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("kind", ["link", "virtual", "raw"])
def test_files_outside_of_the_folder_are_told(
    kind: str, inside: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run" / "scan.h5"
    target = (path.parent / "raw" if inside else tmp_path / "other") / "frames"
    for each in (path, target):
        each.parent.mkdir(parents=True, exist_ok=True)
    if kind == "raw":
        FRAMES.tofile(target)
    else:
        with h5py.File(target, "w") as file:
            file["frames"] = FRAMES
    linked(path, target, kind)
    with caplog.at_level(logging.WARNING, "wavedask"):
        np.testing.assert_array_equal(open_scan(path).image, FRAMES)
    told = f"{path} leads to files outside of its folder: {target}"
    assert caplog.messages == ([] if inside else [told])


def test_a_motor_of_another_folder_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "motors.h5"
    with h5py.File(target, "w") as file:
        file["sy"] = np.arange(4.0)
    path = tmp_path / "run" / "scan.nxs"
    path.parent.mkdir()
    with nexus(path) as file:
        group(file, "entry/instrument/sy", "NXpositioner")["value"] = h5py.ExternalLink(
            "../motors.h5", "sy"
        )
    with caplog.at_level(logging.WARNING, "wavedask"):
        np.testing.assert_array_equal(open_scan(path).sy, np.arange(4.0))
    assert caplog.messages == [f"{path} leads to files outside of its folder: {target}"]


def test_a_file_that_leads_to_a_device(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    linked(path, Path("/dev/zero"), "raw")
    with pytest.raises(FileError, match="/dev/zero"):
        open_scan(path)
