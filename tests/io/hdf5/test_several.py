"""Several HDF5 files as one scan: frames and motors one behind the other, or a reason why not."""

import pickle
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

from wavedask.cli import main
from wavedask.conventions import ROLE
from wavedask.errors import (
    CorruptFileError,
    FileError,
    FrameMismatchError,
    InputError,
    MotorError,
    WavedaskError,
)
from wavedask.io import input_files, open_scan, refresh
from wavedask.io.backend import WavedaskBackendEntrypoint
from wavedask.io.hdf5 import list_scans

FRAMES = np.random.default_rng(9).integers(0, 60000, (9, 6, 7)).astype("uint16")
COUNTS = (2, 3, 4)
"""Frames of the files."""
ENGINE = WavedaskBackendEntrypoint


def pieces() -> list[np.ndarray]:
    return np.split(FRAMES, np.cumsum(COUNTS)[:-1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write three files of BLISS: one motor per frame, one per file, and one that stands still."""
    first = 0
    for number, frames in enumerate(pieces()):
        with h5py.File(tmp_path / f"lens_{number + 8}.h5", "w") as file:
            file["1.1/title"] = f"ascan lens {number}"
            file["1.1/start_time"] = file["1.1/end_time"] = "2026-05-01T10:00:00"
            file["1.1/instrument/pco/data"] = frames
            positioners = file.create_group("1.1/instrument/positioners")
            positioners["lens"] = 0.5 * np.arange(first, first + len(frames))
            positioners["lens"].attrs["units"] = "mm"
            positioners["tilt"] = float(number)
            positioners["rot"] = 90.0
            file["1.1/measurement/diode"] = 10.0 + np.arange(first, first + len(frames))
        first += len(frames)
    return tmp_path


def edit(folder: Path, number: int) -> h5py.File:
    return h5py.File(folder / f"lens_{number}.h5", "a")


def test_frames_and_motors_follow_each_other(folder: Path) -> None:
    # Natural order: lens_8 and lens_9 before lens_10.
    scan = open_scan(folder / "lens_*.h5")
    np.testing.assert_array_equal(scan.image, FRAMES)
    assert (scan.lens.values.tolist(), scan.lens.units) == ([0.5 * n for n in range(9)], "mm")
    assert scan.tilt.values.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert (float(scan.rot), scan.rot.dims) == (90.0, ())
    assert (scan.diode.values[-1], scan.diode.attrs[ROLE]) == (18.0, "counter")
    assert scan.title.values.tolist() == [
        f"ascan lens {number}" for number, count in enumerate(COUNTS) for _ in range(count)
    ]
    assert scan.attrs["start_time"] == "2026-05-01T10:00:00"
    assert scan.source_index.values.tolist() == [0, 1, 0, 1, 2, 0, 1, 2, 3]
    assert [path.name for path in input_files(scan)] == ["lens_8.h5", "lens_9.h5", "lens_10.h5"]


def test_a_list_keeps_its_order_and_a_folder_is_sorted(folder: Path) -> None:
    backward = [folder / f"lens_{number}.h5" for number in (10, 9, 8)]
    np.testing.assert_array_equal(open_scan(backward).image, np.concatenate(pieces()[::-1]))
    xr.testing.assert_identical(open_scan(folder).load(), open_scan(backward[::-1]).load())


def test_regions_lists_and_steps_are_read(folder: Path) -> None:
    image = open_scan(folder).image
    np.testing.assert_array_equal(image[[8, 0, 3], 1:4, ::-2], FRAMES[[8, 0, 3], 1:4, ::-2])
    np.testing.assert_array_equal(image[::-3, 2], FRAMES[::-3, 2])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(image))[4], FRAMES[4])


def test_the_engine_does_the_same(folder: Path) -> None:
    files = [str(folder / f"lens_{number}.h5") for number in (8, 9, 10)]
    sources: tuple[Any, ...] = (files, str(folder / "lens_*.h5"), folder)
    for source in sources:
        scan = xr.open_dataset(source, engine=ENGINE)
        assert scan.image.chunks is None
        xr.testing.assert_identical(scan.load(), open_scan(files).load())
    chunked = xr.open_dataset(folder, engine=ENGINE, chunks={})
    np.testing.assert_array_equal(chunked.image, FRAMES)


def test_only_the_files_asked_for_are_read(folder: Path) -> None:
    scan = xr.open_dataset(folder, engine=ENGINE)
    (folder / "lens_8.h5").unlink()
    np.testing.assert_array_equal(scan.image.isel(frame=slice(2, 6)), FRAMES[2:6])
    with pytest.raises(FileError, match=r"lens_8\.h5 does not exist"):
        scan.image.isel(frame=1).load()


def test_no_block_spans_two_files(tmp_path: Path) -> None:
    for number, frames in enumerate(pieces()):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file.create_dataset(
                "1.1/instrument/pco/data", data=frames, chunks=(2, 6, 7), **hdf5plugin.Bitshuffle()
            )
    scan = open_scan(tmp_path)
    assert scan.image.chunks[0] == (2, 2, 1, 2, 2)
    chunked = xr.open_dataset(tmp_path, engine=ENGINE, chunks={})
    assert chunked.image.chunks[0] == (2, 2, 1, 2, 2)
    for opened in (scan, chunked, open_scan(tmp_path, chunks={"frame": 4})):
        np.testing.assert_array_equal(opened.image, FRAMES)


def test_positions_are_given_for_all_files_or_by_a_path_in_each(folder: Path) -> None:
    with edit(folder, 9) as file:
        del file["1.1/instrument/positioners/lens"]
        file["1.1/instrument/positioners/lens"] = [1.0, 2.0]
        file["1.1/instrument/positioners/lens"].attrs["units"] = "mm"
    with pytest.raises(MotorError, match=r"'lens' of \S+lens_9\.h5 has 2 values.* 3 frames"):
        open_scan(folder)
    given = open_scan(folder, motors={"lens": np.arange(9.0), "lens_y": "1.1/measurement/diode"})
    # The unit is still that of the files.
    assert (given.lens.values.tolist(), given.lens.units) == (list(range(9)), "mm")
    assert given.lens_y.values.tolist() == [10.0 + n for n in range(9)]
    with pytest.raises(MotorError, match=r"8 values, but the scan has 9 frames"):
        open_scan(folder, motors={"lens": np.arange(8.0)})


def test_a_sidecar_has_a_row_for_every_frame_of_all_files(folder: Path) -> None:
    rows = "\n".join(["lens_z [um]", *map(str, range(9))])
    (folder / "motors.csv").write_text(rows)
    scan = open_scan(folder, motors=folder / "motors.csv")
    assert (scan.lens_z.values.tolist(), scan.lens_z.units) == (list(range(9)), "um")


def test_a_file_that_changes_makes_another_graph(folder: Path) -> None:
    first = open_scan(folder)
    assert open_scan(folder).image.data.name == first.image.data.name
    with edit(folder, 10) as file:
        file["1.1/instrument/pco/data"][3] = 0
    assert refresh(first).image.data.name != first.image.data.name
    assert not refresh(first).image[8].any()


def test_a_file_that_is_still_written_is_named(folder: Path) -> None:
    with edit(folder, 10) as file:
        del file["1.1/end_time"]
        lens = file["1.1/instrument/positioners/lens"][:3]
        file["1.1/measurement/lens"] = lens
    scan = open_scan(folder)
    assert scan.sizes["frame"] == 8
    assert scan.attrs["unfinished"] == "lens_10.h5: 3 of 4 frames with all their motors"
    assert scan.lens.values.tolist() == [0.5 * n for n in range(8)]


def move(name: str) -> Any:
    """Make an edit that moves a group of a file."""

    def change(file: h5py.File) -> None:
        file.move("1.1/instrument/pco", f"1.1/instrument/{name}")

    return change


def replace(name: str, content: Any, **attributes: str) -> Any:
    """Make an edit that replaces a dataset of a file, or removes it."""

    def change(file: h5py.File) -> None:
        del file[name]
        if content is not None:
            file[name] = content
            file[name].attrs.update(attributes)

    return change


PCO = "1.1/instrument/pco/data"
LENS = "1.1/instrument/positioners/lens"


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (
            move("basler"),
            FrameMismatchError,
            r"instrument/pco/data in \S+lens_8\.h5, but instrument/basler/data in \S+lens_9\.h5",
        ),
        (
            replace(PCO, FRAMES[:3, :5]),
            FrameMismatchError,
            r"lens_8\.h5 has 6 x 7 uint16, but \S+lens_9\.h5 has 5 x 7 uint16",
        ),
        (
            replace(PCO, FRAMES[:3].astype("f4")),
            FrameMismatchError,
            r"lens_8\.h5 has 6 x 7 uint16, but \S+lens_9\.h5 has 6 x 7 float32",
        ),
        (
            replace(LENS, None),
            MotorError,
            r"motor 'lens' is in \S+lens_8\.h5, but not in \S+lens_9\.h5",
        ),
        (
            replace("1.1/measurement/diode", None),
            MotorError,
            r"counter 'diode' is in \S+lens_8\.h5, but not in \S+lens_9\.h5",
        ),
        (
            replace(LENS, [1.0, 1.5, 2.0], units="um"),
            MotorError,
            r"'lens' is in mm in \S+lens_8\.h5, but in um in \S+lens_9\.h5",
        ),
        (replace(PCO, None), FileError, r"lens_9\.h5 has no images in any of its scans"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    folder: Path, change: Any, error: type[WavedaskError], said: str
) -> None:
    with edit(folder, 9) as file:
        change(file)
    with pytest.raises(error, match=said):
        open_scan(folder)


def test_a_file_that_is_given_twice_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"lens_9\.h5 is given 2 times"):
        open_scan([folder / "lens_*.h5", folder / "lens_9.h5"])


def test_a_motor_that_a_file_lacks_can_be_given(folder: Path) -> None:
    with edit(folder, 9) as file:
        del file[LENS]
    scan = open_scan(folder, motors={"lens": np.arange(9.0)})
    assert scan.lens.values.tolist() == list(range(9))


@pytest.mark.parametrize(
    ("kept", "said"), [(0.0, r"lens_9\.h5 is empty"), (0.5, r"lens_9\.h5 is truncated")]
)
def test_a_damaged_file_among_others_is_named(folder: Path, kept: float, said: str) -> None:
    path = folder / "lens_9.h5"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CorruptFileError, match=said):
        open_scan(folder)


def test_a_position_that_one_file_does_not_know_stays_unknown(folder: Path) -> None:
    with edit(folder, 9) as file:
        del file["1.1/instrument/positioners/tilt"]
        file["1.1/instrument/positioners/tilt"] = np.nan
    scan = open_scan(folder)
    np.testing.assert_array_equal(scan.tilt, [0, 0, np.nan, np.nan, np.nan, 2, 2, 2, 2])


def test_a_scan_that_one_file_lacks_is_said_with_the_file(folder: Path) -> None:
    with edit(folder, 9) as file:
        file.move("1.1", "2.1")
    with pytest.raises(InputError, match=r"lens_9\.h5 has no images for scan='1\.1'"):
        open_scan(folder, scan="1.1")
    # Without a name each file has one scan.
    assert open_scan(folder).sizes["frame"] == 9


def test_files_behind_a_virtual_dataset_are_not_opened_twice(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(FRAMES.shape, FRAMES.dtype)
    first = 0
    for number, frames in enumerate(pieces()):
        with h5py.File(tmp_path / f"lima_{number}.h5", "w") as file:
            file["entry/instrument/pco/data"] = frames
        source = h5py.VirtualSource(f"lima_{number}.h5", "entry/instrument/pco/data", frames.shape)
        layout[first : first + len(frames)] = source
        first += len(frames)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_virtual_dataset("1.1/instrument/pco/data", layout)
    scan = open_scan(tmp_path)
    np.testing.assert_array_equal(scan.image, FRAMES)
    assert [path.name for path in input_files(scan)] == ["scan.h5"]


def test_an_image_key_that_a_file_lacks_is_unknown(tmp_path: Path) -> None:
    for name, keys in (("a.nx", [1.0, 2.0]), ("b.nx", None)):
        with h5py.File(tmp_path / name, "w") as file:
            detector = file.create_group("entry/instrument/detector")
            file["entry"].attrs["NX_class"] = "NXentry"
            detector.attrs["NX_class"] = "NXdetector"
            detector["data"] = FRAMES[:2]
            if keys:
                detector["image_key"] = keys
    scan = open_scan(tmp_path)
    np.testing.assert_array_equal(scan.image_key, [1.0, 2.0, np.nan, np.nan])


@pytest.fixture
def collection(folder: Path) -> Path:
    """Write a file that only links to the scans of the others, as BLISS does for a sample."""
    path = folder / "sample.h5"
    with h5py.File(path, "w") as file:
        for number in (8, 9, 10):
            file[f"lens_{number}_1.1"] = h5py.ExternalLink(f"lens_{number}.h5", "/1.1")
    return path


def test_scans_that_are_links_to_other_files(collection: Path) -> None:
    listed = list_scans(collection)
    assert [scan.name for scan in listed] == ["lens_10_1.1", "lens_8_1.1", "lens_9_1.1"]
    scan = open_scan(collection, scan="lens_9_1.1")
    np.testing.assert_array_equal(scan.image, pieces()[1])
    assert scan.lens.values.tolist() == [1.0, 1.5, 2.0]
    by_path = open_scan(collection, image="lens_9_1.1/instrument/pco/data")
    xr.testing.assert_identical(by_path.load(), scan.load())
    with pytest.raises(InputError, match=r"several scans.*lens_10_1\.1/instrument/pco/data \(asc"):
        open_scan(collection)


def test_a_linked_scan_whose_file_is_missing(collection: Path) -> None:
    for number in (9, 10):
        (collection.parent / f"lens_{number}.h5").unlink()
    assert [(scan.name, scan.missing) for scan in list_scans(collection)] == [
        ("lens_8_1.1", False),
        ("lens_10_1.1", True),
        ("lens_9_1.1", True),
    ]
    assert open_scan(collection, scan="lens_8_1.1").sizes["frame"] == 2
    with pytest.raises(FileError, match=r"/lens_9_1\.1 is kept in lens_9\.h5.*Copy that file"):
        open_scan(collection, scan="lens_9_1.1")
    # The only scan that is there need not be the one that is meant.
    with pytest.raises(FileError, match=r"/lens_10_1\.1 is kept in .* Or choose .* scan='<name>'"):
        open_scan(collection)


@pytest.fixture
def bliss(tmp_path: Path) -> Path:
    """Write one file with three scans, of which the last is of another camera."""
    path = tmp_path / "bliss.h5"
    with h5py.File(path, "w") as file:
        for number, frames in enumerate(pieces(), 1):
            camera = "pco" if number < len(COUNTS) else "basler"
            file[f"{number}.1/title"] = f"loopscan {number}"
            file[f"{number}.1/instrument/{camera}/data"] = frames
            file[f"{number}.1/instrument/positioners/lens"] = 0.5 * number
    return path


def test_several_scans_of_a_file_follow_each_other(bliss: Path) -> None:
    scan = open_scan(bliss, scan=["2.1", "1.1"])
    first, second, _ = pieces()
    np.testing.assert_array_equal(scan.image, np.concatenate([second, first]))
    assert scan.lens.values.tolist() == [1.0] * 3 + [0.5] * 2
    assert scan.title.values.tolist() == ["loopscan 2"] * 3 + ["loopscan 1"] * 2
    ends = scan.source_dataset.values[[0, -1]].tolist()
    assert ends == ["/2.1/instrument/pco/data", "/1.1/instrument/pco/data"]
    assert input_files(scan) == [bliss]
    xr.testing.assert_identical(refresh(scan).load(), scan.load())
    same = xr.open_dataset(bliss, engine=ENGINE, scan=iter(["2.1", "1.1"]))
    xr.testing.assert_identical(same.load(), scan)
    motors = open_scan(bliss, scan=("1.1", "2.1"), motors={"stage": np.arange(5)})
    assert motors.stage.values.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "scan is an empty list"),
        (["1.1", 2.1], r"scan=2\.1 is no text. Write it in quotes: scan='2\.1'"),
        (["1.1", "/1.1/"], r"1\.1 is given 2 times. Name every scan once"),
        (["1.1", "4.1"], r"no images for scan='4\.1'"),
        ({"1.1", "2.1"}, "is no text. Give one name"),
    ],
)
def test_scans_that_cannot_be_joined(names: Any, message: str, bliss: Path) -> None:
    with pytest.raises(InputError, match=message):
        open_scan(bliss, scan=names)


def test_scans_of_different_cameras_are_refused(bliss: Path) -> None:
    with pytest.raises(FrameMismatchError, match="different cameras: instrument/pco/data in "):
        open_scan(bliss, scan=["1.1", "3.1"])


def test_several_scans_on_the_command_line(bliss: Path) -> None:
    shown = CliRunner().invoke(main, ["info", str(bliss), "--scan", "1.1", "--scan", "2.1"])
    assert shown.exit_code == 0, shown.output
    assert "0.5 … 1 (2 values)" in shown.output
