"""HDF5 files of BLISS and alike: the camera, the motors that moved, or a reason why not."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from wavedask.conventions import COUNTER, MOTOR
from wavedask.errors import CorruptFileError, FileError, InputError, MotorError
from wavedask.io import open_scan, refresh
from wavedask.io.hdf5 import Hdf5Scan, list_scans, read_hdf5

IMAGES = np.random.default_rng(7).integers(0, 60000, (4, 8, 9)).astype("uint16")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write a file with a scan of a camera and, as BLISS does, one of its counters alone."""
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        file["1.1/title"] = "ascan lens 0 3 3 0.1"
        file["1.1/instrument/pco/data"] = IMAGES
        file["1.1/instrument/positioners/lens"] = [0.0, 1.0, 2.0, 3.0]
        file["1.1/instrument/positioners/lens"].attrs["units"] = "mm"
        file["1.1/instrument/positioners/rot"] = -5.0
        file["1.1/instrument/positioners/shutter"] = "OPEN"
        file["1.1/measurement/rot"] = [-5.0, -4.0, -3.0, -2.0]
        file["1.1/measurement/diode"] = [10.0, 11.0, 12.0, 13.0]
        file["1.1/measurement/raw_trigger"] = np.zeros(9)
        file["1.2/title"] = "timescan"
        file["1.2/measurement/diode"] = np.zeros(30)
    return path


def column(found: Hdf5Scan, name: str) -> tuple[str, list[float] | float, str]:
    (only,) = [column for column in found.columns if column.name == name]
    return only.role, only.values.tolist(), only.units


def test_the_only_scan_with_images_is_found(path: Path) -> None:
    found = read_hdf5(path, scan=None)
    np.testing.assert_array_equal(found.stack[:], IMAGES)
    np.testing.assert_array_equal(found.stack[2, 3:6, 8], IMAGES[2, 3:6, 8])
    np.testing.assert_array_equal(found.stack[::-2], IMAGES[::-2])
    assert found.stack.origins[3] == (str(path), 3)
    assert found.constants == {"title": "ascan lens 0 3 3 0.1", "shutter": "OPEN"}


def test_motors_and_counters(path: Path) -> None:
    found = read_hdf5(path, scan="1.1")
    assert column(found, "lens") == (MOTOR, [0.0, 1.0, 2.0, 3.0], "mm")
    assert column(found, "rot") == (MOTOR, [-5.0, -4.0, -3.0, -2.0], "unknown")
    assert column(found, "diode") == (COUNTER, [10.0, 11.0, 12.0, 13.0], "unknown")
    assert {column.name for column in found.columns} == {"lens", "rot", "diode"}


def test_scanned_motors_are_started_and_measured(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["1.1/instrument/positioners_start/eta"] = 3.0
        file["1.1/instrument/positioners_start/lens"] = 0.0
        file["1.1/measurement/eta"] = [3.0, 3.5, 4.0, 4.5]
        file["1.1/measurement/eta"].attrs["units"] = "deg"
    assert column(read_hdf5(path), "eta") == (MOTOR, [3.0, 3.5, 4.0, 4.5], "deg")
    (first, second) = list_scans(path)
    assert (first.name, first.title, first.running) == ("1.1", "ascan lens 0 3 3 0.1", False)
    assert first.cameras == {"1.1/instrument/pco/data": "4 frames of 8 x 9 px, uint16"}
    assert set(first.moving) == {"eta", "lens", "rot"}
    assert (second.name, second.cameras, second.moving) == ("1.2", {}, ())


def test_a_motor_of_another_length_is_refused_or_replaced(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["1.1/measurement/rot"]
        file["1.1/measurement/rot"] = [-5.0, -4.0, -3.0]
    with pytest.raises(MotorError, match=r"motor 'rot' has 3 values, but the scan has 4 frames"):
        open_scan(path)
    scan = open_scan(path, motors={"rot": [1.0, 2.0, 3.0, 4.0]})
    assert scan.rot.values.tolist() == [1, 2, 3, 4]


def test_a_position_that_was_not_recorded_stays_unknown(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["1.1/measurement/rot"][1:3] = np.nan
    values = open_scan(path).rot.values
    np.testing.assert_array_equal(values, [-5.0, np.nan, np.nan, -2.0])


@pytest.mark.parametrize(
    "compression",
    [hdf5plugin.Bitshuffle(), hdf5plugin.Bitshuffle(cname="none"), {"compression": "gzip"}],
    ids=["bitshuffle-lz4", "bitshuffle", "gzip"],
)
@pytest.mark.parametrize("chunks", [(1, 8, 9), (3, 4, 3)])
def test_compressed_chunks_are_read_once(
    path: Path, compression: Any, chunks: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(path, "a") as file:
        del file["1.1/instrument/pco/data"]
        file.create_dataset("1.1/instrument/pco/data", data=IMAGES, chunks=chunks, **compression)
    calls: list[Any] = []
    original = h5py.Dataset.__getitem__

    def note(self: h5py.Dataset, index: Any, **options: Any) -> Any:
        if self.ndim == 3:
            calls.append(index[0])
        return original(self, index, **options)

    scan = open_scan(path)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", note)
    np.testing.assert_array_equal(scan.image.compute(scheduler="sync"), IMAGES)
    step = chunks[0]
    calls.sort(key=lambda part: part.start)
    assert calls == [slice(first, min(first + step, 4)) for first in range(0, 4, step)]


def test_a_chunk_of_very_many_frames_is_not_one_block(tmp_path: Path) -> None:
    path = tmp_path / "deep.h5"
    with h5py.File(path, "w") as file:
        # Nothing is written: only its description counts.
        file.create_dataset("1.1/instrument/pco/data", (64, 2048, 2048), "u2", chunks=(64, 16, 16))
    assert open_scan(path).image.data.chunksize == (4, 2048, 2048)


def test_several_processes_read_one_file(path: Path) -> None:
    reader = (
        "import sys, wavedask\n"
        "print(int(wavedask.open_scan(sys.argv[1]).image.astype('i8').sum()))\n"
    )
    command = [sys.executable, "-c", reader, str(path)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    with h5py.File(path, "r", locking=False):
        sums = [int(process.communicate()[0]) for process in readers]
    assert sums == [int(IMAGES.astype("i8").sum())] * 2


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.999])
def test_a_truncated_file(path: Path, kept: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CorruptFileError, match=r"run\.h5 is truncated.*Copy it again"):
        open_scan(path)


def test_a_file_that_is_cut_after_it_was_opened(path: Path) -> None:
    image = open_scan(path).image
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CorruptFileError, match=r"run\.h5 is truncated"):
        image.compute(scheduler="sync")


@pytest.mark.parametrize("compression", [hdf5plugin.Bitshuffle(), {"compression": "gzip"}])
def test_a_frame_that_cannot_be_decompressed(path: Path, compression: Any) -> None:
    name = "1.1/instrument/pco/data"
    with h5py.File(path, "a") as file:
        del file[name]
        file.create_dataset(name, data=IMAGES, chunks=(1, 8, 9), **compression)
        info = file[name].id.get_chunk_info(2)
    content = bytearray(path.read_bytes())
    content[info.byte_offset : info.byte_offset + info.size] = b"\xff" * info.size
    path.write_bytes(content)
    image = open_scan(path).image
    np.testing.assert_array_equal(image[:2], IMAGES[:2])
    with pytest.raises(FileError, match=r"run\.h5 cannot be read"):
        image[2].compute(scheduler="sync")


def test_frames_in_raw_files_that_are_missing(path: Path, tmp_path: Path) -> None:
    IMAGES.tofile(tmp_path / "frames.raw")
    with h5py.File(path, "a") as file:
        del file["1.1/instrument/pco/data"]
        file.create_dataset(
            "1.1/instrument/pco/data",
            IMAGES.shape,
            "u2",
            external=[("frames.raw", 0, IMAGES.nbytes)],
        )
    assert read_hdf5(path).stack.shape == IMAGES.shape
    # HDF5 would read zeros for what is cut off.
    (tmp_path / "frames.raw").write_bytes(IMAGES.tobytes()[:-2])
    with pytest.raises(FileError, match=rf"frames\.raw: {IMAGES.nbytes} bytes are needed"):
        read_hdf5(path)
    (tmp_path / "frames.raw").unlink()
    with pytest.raises(FileError, match=r"1 of 1 files behind .*frames\.raw: not there"):
        read_hdf5(path)


@pytest.mark.parametrize(
    ("chunks", "written", "said"),
    [
        ((1, 8, 9), 3, "3 of 4 chunks of the frames were written, the others read zero"),
        ((2, 4, 9), 2, "2 of 4 chunks of the frames were written, the others read zero"),
        (None, 0, "none of the frames was written"),
        ((1, 8, 9), 4, None),
        (None, 1, None),
    ],
)
def test_frames_that_were_never_written(
    path: Path, chunks: tuple[int, int, int] | None, written: int, said: str | None
) -> None:
    with h5py.File(path, "a") as file:
        del file["1.1/instrument/pco/data"]
        images = file.create_dataset("1.1/instrument/pco/data", IMAGES.shape, "u2", chunks=chunks)
        images[:written] = IMAGES[:written]
    assert open_scan(path).attrs.get("unfinished") == said


def test_a_camera_behind_a_link_in_measurement(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["1.1/instrument/pco"]
        file["raw/images"] = IMAGES
        file["1.1/measurement/pco"] = h5py.SoftLink("/raw/images")
    np.testing.assert_array_equal(read_hdf5(path, scan=None).stack[1], IMAGES[1])


def test_big_endian_images_become_native(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["1.1/instrument/pco/data"]
        file["1.1/instrument/pco/image"] = IMAGES.astype(">u2")
    stack = read_hdf5(path, scan=None).stack
    assert stack.dtype.isnative
    np.testing.assert_array_equal(stack[0], IMAGES[0])


def test_a_scan_or_camera_is_chosen_by_name(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["2.1/instrument/pco/image"] = IMAGES[:2]
        file["2.1/instrument/basler/image"] = IMAGES[:3]
    assert read_hdf5(path, scan="1.1").stack.shape[0] == 4
    assert read_hdf5(path, scan="2.1/instrument/basler/image").stack.shape[0] == 3
    both = r"2\.1/\S+basler/image \(no title, 3 frames\); 2\.1/\S+pco/image \(no title, 2 frames\)"
    for scan, listed in (
        (None, r"several scans or cameras\..*1\.1/\S+ \(ascan .*, 4 frames\).*" + both),
        ("2.1", rf"several cameras for scan='2\.1'\..*among: {both}"),
    ):
        with pytest.raises(InputError, match=rf"run\.h5 has {listed}"):
            read_hdf5(path, scan=scan)


@pytest.mark.parametrize("scan", ["9.1", "1.2", "1"])
def test_a_scan_that_is_not_there_lists_those_that_are(path: Path, scan: str) -> None:
    with pytest.raises(
        InputError, match=rf"run\.h5.*scan='{scan}'.*ascan lens 0 3 3 0\.1, 4 frames"
    ):
        read_hdf5(path, scan=scan)


def test_no_images(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["1.1/instrument/pco"]
    with pytest.raises(
        FileError, match=r"run\.h5 has no images in any of its scans \(1\.1, 1\.2\)"
    ):
        read_hdf5(path, scan=None)


def test_no_images_but_what_could_be_some(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.move("1.1/instrument/pco/data", "raw/frames")
    with pytest.raises(FileError, match=r"Give the path of /raw/frames: image="):
        read_hdf5(path)


def test_another_camera_of_the_scan_that_is_missing_hides_none(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["1.1/instrument/basler/image"] = h5py.ExternalLink("gone.h5", "images")
        file["nx/pco/data"] = IMAGES
        file["nx/pco"].attrs["NX_class"] = "NXdetector"
        file["nx/basler"] = h5py.ExternalLink("gone.h5", "images")
    for whole in ("1.1", "nx"):
        scan = open_scan(path, scan=whole)
        np.testing.assert_array_equal(scan.image, IMAGES)
        assert "basler" in scan.attrs["not_read"]
        assert "is kept in gone.h5" in scan.attrs["not_read"]
    for place in ("1.1/instrument/pco/data", "nx/pco/data"):
        np.testing.assert_array_equal(open_scan(path, scan=place).image, IMAGES)
        np.testing.assert_array_equal(open_scan(path, image=place).image, IMAGES)
    assert open_scan(path, scan="1.1/instrument/pco/data").lens.values.tolist() == [0, 1, 2, 3]


def test_texts_of_older_writers(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["1.1/title"]
        file["1.1/title"] = np.bytes_("Schlüssel".encode("latin-1"))
        file["1.1/instrument/positioners/lens"].attrs["units"] = np.bytes_(b"\xb5m")
        attributes = file["1.1/instrument/positioners/rot"].attrs
        attributes.create("units", b"\xb5m", dtype=h5py.string_dtype())
    scan = open_scan(path)
    assert (scan.attrs["title"], scan.lens.units, scan.rot.units) == ("Schlüssel", "µm", "µm")


def test_a_scan_that_has_no_frame_yet(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["2.1/instrument/pco/image"] = IMAGES[:0]
    assert open_scan(path).sizes["frame"] == 4
    said = r"run\.h5 has no frames yet in /2\.1/instrument/pco/image\. Open it again"
    with pytest.raises(FileError, match=said):
        open_scan(path, scan="2.1")
    with pytest.raises(FileError, match=r"image='/2\.1/\S+' has no frames yet.*Open it again"):
        open_scan(path, image="/2.1/instrument/pco/image")
    with h5py.File(path, "a") as file:
        del file["1.1"]
    with pytest.raises(FileError, match=said):
        open_scan(path)


def test_positioners_and_titles_that_are_empty(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["1.1/title"]
        file["1.1/title"] = h5py.Empty("S1")
        file["1.1/instrument/positioners/nothing"] = h5py.Empty("f8")
    scan = open_scan(path)
    assert scan.attrs["title"] == ""
    assert "nothing" not in scan.coords


@pytest.mark.parametrize("size", [8, 10, 100])
def test_a_file_that_ends_in_its_head(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CorruptFileError, match=r"run\.h5 is (damaged|truncated)"):
        open_scan(path)


def test_tables_that_are_damaged(path: Path) -> None:
    content = path.read_bytes()
    # Of the names of the members of each group.
    assert content.count(b"HEAP") > 1
    path.write_bytes(content.replace(b"HEAP", b"HELP"))
    with pytest.raises(CorruptFileError, match=r"run\.h5 is damaged: .*heap"):
        open_scan(path)


def test_what_is_no_hdf5_file(tmp_path: Path) -> None:
    path = tmp_path / "text.h5"
    path.write_text("a text")
    with pytest.raises(FileError, match=r"text\.h5 cannot be read"):
        read_hdf5(path, scan=None)


def test_images_in_a_file_that_is_missing(path: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "lima.h5", "w") as file:
        file["images"] = IMAGES
    with h5py.File(path, "a") as file:
        del file["1.1/instrument/pco/data"]
        file["1.1/instrument/pco/data"] = h5py.ExternalLink("lima.h5", "images")
    np.testing.assert_array_equal(read_hdf5(path, scan=None).stack[:], IMAGES)
    (tmp_path / "lima.h5").unlink()
    with pytest.raises(FileError, match=r"run\.h5: .*pco/data is kept in lima\.h5"):
        read_hdf5(path, scan=None)


def test_images_of_another_scan_that_are_missing(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["2.1/title"] = "purged"
        file["2.1/instrument/pco/data"] = h5py.ExternalLink("gone.h5", "images")
    np.testing.assert_array_equal(open_scan(path, scan="1.1").image, IMAGES)
    with pytest.raises(FileError, match=r"2\.1.* is kept in gone\.h5"):
        open_scan(path, scan="2.1")
    with pytest.raises(FileError, match=r"gone\.h5.*choose a scan that is there: scan="):
        open_scan(path)
    with pytest.raises(InputError, match=r"no images for scan='3\.1'"):
        open_scan(path, scan="3.1")
    first, _, last = list_scans(path)
    assert (list(first.cameras), first.broken) == (["1.1/instrument/pco/data"], "")
    assert (last.name, last.title, last.cameras) == ("2.1", "purged", {})
    assert "gone.h5" in last.broken


def test_virtual_images_whose_files_are_missing(path: Path, tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(IMAGES.shape, IMAGES.dtype)
    for number in range(2):
        half = IMAGES[2 * number : 2 * number + 2]
        with h5py.File(tmp_path / f"part_{number}.h5", "w") as file:
            file["images"] = half
        source = h5py.VirtualSource(f"part_{number}.h5", "images", half.shape)
        layout[2 * number : 2 * number + 2] = source
    with h5py.File(path, "a") as file:
        del file["1.1/instrument/pco/data"]
        file.create_virtual_dataset("1.1/instrument/pco/data", layout)
    np.testing.assert_array_equal(read_hdf5(path, scan=None).stack[:], IMAGES)
    with h5py.File(tmp_path / "part_1.h5", "w") as file:
        file["images"] = IMAGES[2:3]
    # HDF5 would read zeros for the frame that is not there.
    with pytest.raises(FileError, match=r"part_1\.h5: images is only \(1, 8, 9\)"):
        read_hdf5(path)
    with h5py.File(tmp_path / "part_1.h5", "w") as file:
        file["pictures"] = IMAGES[2:]
    with pytest.raises(FileError, match=r"part_1\.h5: it has no dataset images"):
        read_hdf5(path)
    (tmp_path / "part_1.h5").unlink()
    with pytest.raises(FileError, match=r"1 of 2 files behind .*pco/data are missing.*part_1\.h5"):
        read_hdf5(path, scan=None)


def test_a_file_behind_virtual_images_that_vanishes_after_they_are_opened(
    path: Path, tmp_path: Path
) -> None:
    layout = h5py.VirtualLayout(IMAGES.shape, IMAGES.dtype)
    for number, image in enumerate(IMAGES):
        with h5py.File(tmp_path / f"part_{number}.h5", "w") as file:
            file["image"] = image
        layout[number] = h5py.VirtualSource(f"part_{number}.h5", "image", image.shape)
    with h5py.File(path, "a") as file:
        del file["1.1/instrument/pco/data"]
        file.create_virtual_dataset("1.1/instrument/pco/data", layout)
    scan = open_scan(path)
    (tmp_path / "part_2.h5").unlink()
    # Frames of the other files can still be read.
    np.testing.assert_array_equal(scan.image[[0, 1]], IMAGES[:2])
    np.testing.assert_array_equal(scan.image[3], IMAGES[3])
    with pytest.raises(FileError, match=r"part_2\.h5, which holds frames of .*run\.h5"):
        scan.image[1:3].compute()


@pytest.mark.parametrize("locking", [False, None, True])
def test_a_file_that_the_user_has_open(path: Path, locking: bool | None) -> None:
    with h5py.File(path, "r", locking=locking):
        np.testing.assert_array_equal(read_hdf5(path, scan=None).stack[0], IMAGES[0])


def test_a_writer_that_holds_the_lock_is_not_in_the_way(path: Path) -> None:
    writer = (
        "import sys, h5py\n"
        "with h5py.File(sys.argv[1], 'a', locking=True) as file:\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", writer, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        np.testing.assert_array_equal(read_hdf5(path, scan=None).stack[0], IMAGES[0])
        process.communicate()
    assert process.returncode == 0


def test_a_file_that_changes_after_it_was_opened(path: Path) -> None:
    stack = read_hdf5(path, scan=None).stack
    with h5py.File(path, "a") as file:
        del file["1.1/instrument/pco/data"]
        file["1.1/instrument/pco/data"] = IMAGES[:3]
    with pytest.raises(CorruptFileError, match=r"run\.h5: 1\.1/instrument/pco/data is no longer"):
        stack[0]


def test_a_scan_within_its_source(tmp_path: Path) -> None:
    path = tmp_path / "two.h5"
    with h5py.File(path, "w") as file:
        for number in (1, 2):
            file[f"{number}.1/instrument/pco/image"] = np.full((number, 4, 5), number, "u2")
            file[f"{number}.1/measurement/dummy"] = np.zeros(number)
    for name in ("2.1", "/2.1", "2.1/instrument/pco/image"):
        opened = open_scan(f"{path}::{name}")
        assert opened.sizes["frame"] == 2
        assert refresh(opened).identical(open_scan(path, scan="2.1"))
    with pytest.raises(InputError, match=r"scan='1\.1' with the source .*::2\.1"):
        open_scan(f"{path}::2.1", scan="1.1")
    with pytest.raises(InputError, match=r"no images for scan='3\.1'"):
        open_scan(f"{path}::3.1")
    with pytest.raises(FileError, match=r"none\.h5 does not exist"):
        open_scan(f"{tmp_path}/none.h5::2.1")


def test_real_bliss_file(data_dir: Callable[[str], Path]) -> None:
    path = data_dir("esrf_loaders") / "bliss_id03" / "motor_drift.h5"
    found = read_hdf5(path, scan=None)
    motors = {column.name: column.values for column in found.columns if column.role == MOTOR}
    with h5py.File(path, "r") as file:
        entry = file["1.1"]
        np.testing.assert_array_equal(
            found.stack[200:330, 10:90], entry["instrument/pco_ff/image"][200:330, 10:90]
        )
        assert set(motors) == set(entry["instrument/positioners"])
        np.testing.assert_array_equal(motors["diffry"], entry["measurement/diffry"])
        np.testing.assert_array_equal(motors["chi"], entry["instrument/positioners/chi"])
    assert found.stack.shape == (962, 100, 100)
    assert {name for name, values in motors.items() if values.ndim} == {"chi", "diffry"}
    assert found.constants["title"] == "fscan2d chi -0.58 0.08 26 diffry 7.12 0.06 37 0.6 0.600413"
    assert set(found.constants) == {"title", "start_time", "end_time"}


def test_real_file_without_classes(data_dir: Callable[[str], Path]) -> None:
    path = data_dir("esrf_loaders") / "hdf5_darfix" / "strain.hdf5"
    found = read_hdf5(path, scan=None)
    with h5py.File(path, "r") as file:
        np.testing.assert_array_equal(found.stack[:], file["1.1/instrument/my_detector/data"])
        assert len(found.columns) == len(file["1.1/instrument/positioners"])
    assert found.stack.shape == (2, 512, 512)
