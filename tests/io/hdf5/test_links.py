"""Links between files: broken, moved, in circles, and to files that are open already."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.nexus import FRAMES, group, nexus

from wavedask.errors import FileError
from wavedask.io import list_scans, open_scan
from wavedask.io.hdf5.links import located


def position(file: h5py.File) -> None:
    group(file, "entry/instrument/th", "NXpositioner")["value"] = h5py.ExternalLink("gone.h5", "/x")


def monitor(file: h5py.File) -> None:
    group(file, "entry/temperature", "NXmonitor")["data"] = h5py.ExternalLink("gone.h5", "/x")


def second_camera(file: h5py.File) -> None:
    group(file, "entry/instrument/basler", "NXdetector")["data"] = h5py.ExternalLink("gone.h5", "x")


def group_of_it(file: h5py.File) -> None:
    file["entry/instrument/basler"] = h5py.ExternalLink("gone.h5", "x")


@pytest.mark.parametrize("add", [position, monitor, second_camera, group_of_it])
def test_a_broken_link_to_something_else_hides_no_camera(
    tmp_path: Path, add: Callable[[h5py.File], None]
) -> None:
    path = tmp_path / "scan.nxs"
    with nexus(path) as file:
        add(file)
    for scan in (None, "entry/instrument/pco", "entry"):
        opened = open_scan(path, scan=scan)
        np.testing.assert_array_equal(opened.image, FRAMES)
        np.testing.assert_allclose(opened.sx, np.linspace(0, 1, 4))
        assert "is kept in gone.h5" in opened.attrs["not_read"]
    (listed,) = list_scans(path)
    assert list(listed.cameras) == ["entry/instrument/pco/data"]
    assert any("gone.h5" in said for said in listed.obstacles)


@pytest.mark.parametrize("place", ["instrument/mca", "instrument/basler/image", "measurement/mca"])
def test_a_broken_link_in_a_scan_of_bliss_hides_no_camera(tmp_path: Path, place: str) -> None:
    path = tmp_path / "bliss.h5"
    with h5py.File(path, "w") as file:
        scan = group(file, "1.1", "NXentry")
        scan["instrument/pco/image"] = FRAMES
        scan["measurement/sx"] = scan["instrument/positioners/sx"] = np.linspace(0, 1, 4)
        scan[place] = h5py.ExternalLink("gone.h5", "/x")
    opened = open_scan(path)
    np.testing.assert_array_equal(opened.image, FRAMES)
    assert "sx" in opened.coords
    assert "gone.h5" in opened.attrs["not_read"]


def test_a_position_whose_virtual_source_is_missing_is_not_zero(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource("gone.h5", "/th", (4,))
    path = tmp_path / "scan.nxs"
    with nexus(path) as file:
        group(file, "entry/instrument/th", "NXpositioner").create_virtual_dataset("value", layout)
    opened = open_scan(path)
    assert "th" not in opened.coords
    assert "gone.h5" in opened.attrs["not_read"]


def write_behind(folder: Path, kind: str) -> Path:
    """Write frames in raw/frames.h5, and a file that shows them by its absolute path."""
    raw = folder / "raw" / "frames.h5"
    raw.parent.mkdir(parents=True)
    with h5py.File(raw, "w") as file:
        file["entry/data/data"] = FRAMES
    path = folder / "master.h5"
    with h5py.File(path, "w") as file:
        group(file, "entry", "NXentry")
        detector = group(file, "entry/detector", "NXdetector")
        if kind == "link":
            detector["data"] = h5py.ExternalLink(str(raw), "/entry/data/data")
        else:
            layout = h5py.VirtualLayout(FRAMES.shape, "u2")
            layout[:] = h5py.VirtualSource(str(raw), "/entry/data/data", FRAMES.shape)
            detector.create_virtual_dataset("data", layout)
    return path


@pytest.mark.parametrize("kind", ["link", "virtual"])
def test_files_that_were_moved_together_are_found_together(tmp_path: Path, kind: str) -> None:
    write_behind(tmp_path / "beamline", kind)
    (tmp_path / "beamline").rename(tmp_path / "home")
    scan = open_scan(tmp_path / "home" / "master.h5")
    np.testing.assert_array_equal(scan.image, FRAMES)
    np.testing.assert_array_equal(scan.image[1:3, 2:4], FRAMES[1:3, 2:4])


def test_a_bare_name_higher_up_is_another_file(tmp_path: Path) -> None:
    (tmp_path / "scan").mkdir()
    (tmp_path / "frames.h5").touch()
    assert located("/old/frames.h5", tmp_path / "scan" / "master.h5") is None
    (tmp_path / "scan" / "frames.h5").touch()
    found = located("/old/frames.h5", tmp_path / "scan" / "master.h5")
    assert found == tmp_path / "scan" / "frames.h5"


@pytest.mark.parametrize("locking", [True, False, None])
@pytest.mark.parametrize("kind", ["link", "virtual"])
def test_frames_behind_that_the_user_has_open(
    tmp_path: Path, kind: str, locking: bool | None
) -> None:
    path = write_behind(tmp_path / "run", kind)
    before = open_scan(path)
    with h5py.File(tmp_path / "run" / "raw" / "frames.h5", "r", locking=locking):
        np.testing.assert_array_equal(before.image, FRAMES)
        scan = open_scan(path)
        # Each of many threads finds out how the file is open.
        for _ in range(10):
            found = scan.image.compute(scheduler="threads", num_workers=8)
            np.testing.assert_array_equal(found, FRAMES)


def test_frames_behind_that_are_open_in_two_ways_are_never_zeros(tmp_path: Path) -> None:
    path = write_behind(tmp_path / "run", "virtual")
    scan = open_scan(path)
    with (
        h5py.File(tmp_path / "run" / "raw" / "frames.h5", "r", locking=True),
        h5py.File(path, "r", locking=False),
        pytest.raises(FileError, match=r"this process has them open with another file locking"),
    ):
        scan.image.compute(scheduler="sync")


def test_raw_files_are_read_where_they_were_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 itself looks for them in the working directory."""
    path = tmp_path / "run" / "scan.h5"
    path.parent.mkdir()
    FRAMES.tofile(path.parent / "frames.raw")
    np.zeros_like(FRAMES).tofile(tmp_path / "frames.raw")
    with h5py.File(path, "w") as file:
        group(file, "1.1/measurement")
        file["1.1"].create_dataset(
            "instrument/pco/image",
            FRAMES.shape,
            "u2",
            external=[("frames.raw", 0, FRAMES.nbytes)],
        )
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(open_scan("run/scan.h5").image, FRAMES)


def test_links_in_circles(tmp_path: Path) -> None:
    path = tmp_path / "scan.nxs"
    with nexus(path) as file:
        entry = file["entry"]
        entry["self"] = h5py.SoftLink("/entry")
        entry["loop"] = h5py.SoftLink("loop")
        entry["hard"] = entry
        entry["me"] = h5py.ExternalLink("scan.nxs", "/entry")
        entry["there"] = h5py.ExternalLink("other.h5", "/back")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["back"] = h5py.ExternalLink("scan.nxs", "/entry/there")
    start = time.monotonic()
    np.testing.assert_array_equal(open_scan(path).image, FRAMES)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("kind", ["link", "virtual", "raw"])
def test_a_pipe_behind_a_file_does_not_block(tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        pco = group(file, "1.1/instrument/pco")
        group(file, "1.1/measurement")
        if kind == "link":
            pco["image"] = h5py.ExternalLink("pipe", "/x")
        elif kind == "virtual":
            layout = h5py.VirtualLayout(FRAMES.shape, "u2")
            layout[:] = h5py.VirtualSource("pipe", "/x", FRAMES.shape)
            pco.create_virtual_dataset("image", layout)
        else:
            pco.create_dataset("image", FRAMES.shape, "u2", external=[("pipe", 0, FRAMES.nbytes)])
    with pytest.raises(FileError, match=r"pipe"):
        open_scan(path)


@pytest.mark.parametrize("kind", ["member", "soft link", "external link", "camera"])
def test_names_that_are_no_utf8(kind: str, tmp_path: Path) -> None:
    """h5py returns such a name as bytes: old programs wrote Latin-1, and bits change."""
    path = tmp_path / "a.nxs"
    with nexus(path) as file:
        entry = file["entry"]
        entry["memberQQ"] = np.arange(4.0)
        entry["soft"] = h5py.SoftLink("/entry/softQQ")
        entry["external"] = h5py.ExternalLink("other.h5", "/externalQQ")
        if kind == "camera":
            entry.move("instrument/pco", "instrument/cameraQQ")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = 1
    name = f"{kind.partition(' ')[0]}Q".encode()
    content = path.read_bytes()
    assert name in content
    path.write_bytes(content.replace(name + b"Q", name + b"\xff"))
    if kind == "camera":
        with pytest.raises(FileError, match=r"a member called b'cameraQ\\xff', which is no UTF-8"):
            open_scan(path)
    else:
        assert open_scan(path).sizes["frame"] == 4
