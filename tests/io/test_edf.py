"""EDF files are read as fabio reads them, and refused where fabio would guess."""

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path

import fabio
import numpy as np
import pytest
from fabio.edfimage import EdfImage

from wavedask.errors import CorruptFileError, FileError
from wavedask.io import frames
from wavedask.io.edf import CompressedEdfFrame, read_edf
from wavedask.io.frames import RawFrame

IMAGES = np.random.default_rng(3).integers(0, 60000, (3, 20, 31)).astype("uint16")
ALL = (slice(0, 20), slice(0, 31))
HEADER = {"motor_mne": "lens detx", "motor_pos": "1.5 -2e-3", "title": "flat field"}


def write_edf(path: Path, *images: np.ndarray, header: dict[str, str] | None = None) -> bytes:
    """Write images with fabio and return the bytes of the file."""
    edf = EdfImage(data=images[0], header=header or HEADER)
    for image in images[1:]:
        edf.append_frame(data=image, header=header or HEADER)
    edf.write(str(path))
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "frame.edf"


def test_header_and_pixels_of_a_single_frame(path: Path) -> None:
    write_edf(path, IMAGES[0])
    (record,) = read_edf(path)
    assert isinstance(record.frame, RawFrame)
    assert record.motors == {"lens": 1.5, "detx": -2e-3}
    assert record.counters == {}
    assert record.header == {"title": "flat field"}
    np.testing.assert_array_equal(record.frame.read(*ALL), IMAGES[0])
    np.testing.assert_array_equal(
        record.frame.read(slice(3, 9), slice(30, 31)), IMAGES[0, 3:9, 30:31]
    )


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2"])
def test_frames_of_one_file_have_their_own_headers(tmp_path: Path, suffix: str) -> None:
    edf = EdfImage(data=IMAGES[0], header={"motor_mne": "m", "motor_pos": "0"})
    for number in (1, 2):
        header = {"motor_mne": "m", "motor_pos": f"{number}"}
        edf.append_frame(data=IMAGES[number], header=header)
    path = tmp_path / f"multi.edf{suffix}"
    edf.write(str(path))
    records = read_edf(path)
    assert [record.motors["m"] for record in records] == [0, 1, 2]
    assert [record.frame.index for record in records] == [0, 1, 2]
    for record, image in zip(records, IMAGES, strict=True):
        np.testing.assert_array_equal(
            record.frame.read(slice(2, 11), slice(4, 30)), image[2:11, 4:30]
        )


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "float32", "f8"])
def test_pixel_types(path: Path, dtype: str) -> None:
    image = IMAGES[0].astype(dtype)
    write_edf(path, image)
    (record,) = read_edf(path)
    np.testing.assert_array_equal(record.frame.read(*ALL), image)
    assert record.frame.dtype == image.dtype


def test_big_endian_pixels(path: Path) -> None:
    content = write_edf(path, IMAGES[0]).replace(b"LowByteFirst ;\n", b"HighByteFirst;\n")
    path.write_bytes(content)
    (record,) = read_edf(path)
    np.testing.assert_array_equal(record.frame.read(*ALL), IMAGES[0].byteswap())


def test_a_region_of_a_compressed_file_needs_no_more_than_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "frame.edf.gz"
    images = np.random.default_rng(0).integers(0, 60000, (1, 400, 400)).astype("uint16")
    write_edf(path, images[0])
    (record,) = read_edf(path)
    assert isinstance(record.frame, CompressedEdfFrame)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    rows = record.frame.read(slice(0, 100), slice(0, 400))
    np.testing.assert_array_equal(rows, images[0, :100])
    with pytest.raises(CorruptFileError, match=r"frame\.edf\.gz is damaged or truncated"):
        record.frame.read(slice(0, 400), slice(0, 400))


def test_opening_one_compressed_frame_leaves_its_pixels_compressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "frame.edf.gz"
    write_edf(path, np.zeros((2000, 2000), "uint16"))
    read = 0
    original = gzip.GzipFile.read

    def counted(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        nonlocal read
        content = original(self, size)
        read += len(content)
        return content

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    read_edf(path)
    assert 0 < read < 500_000


def test_a_file_of_several_gzip_members_is_read(tmp_path: Path) -> None:
    content = write_edf(tmp_path / "plain.edf", IMAGES[0])
    path = tmp_path / "members.edf.gz"
    path.write_bytes(gzip.compress(content[:700]) + gzip.compress(content[700:]))
    (record,) = read_edf(path)
    np.testing.assert_array_equal(record.frame.read(*ALL), IMAGES[0])


@pytest.mark.parametrize("missing", [1, 500, 1240])
@pytest.mark.parametrize("compress", [None, gzip.compress, bz2.compress])
def test_truncated_file(
    tmp_path: Path, missing: int, compress: Callable[[bytes], bytes] | None
) -> None:
    content = write_edf(tmp_path / "plain.edf", IMAGES[0])[:-missing]
    suffix = "" if compress is None else ".gz" if compress is gzip.compress else ".bz2"
    path = tmp_path / f"cut.edf{suffix}"
    path.write_bytes(compress(content) if compress else content)
    with pytest.raises(
        CorruptFileError,
        match=rf"cut\.edf.* is truncated: .* {len(content) + missing} bytes, it holds "
        rf"{len(content)}.*Copy it again",
    ):
        read_edf(path)


def test_truncated_within_the_last_of_many_frames(path: Path) -> None:
    content = write_edf(path, *IMAGES)
    path.write_bytes(content[:-10])
    with pytest.raises(CorruptFileError, match="truncated"):
        read_edf(path)
    path.write_bytes(content[: -IMAGES[0].nbytes - 100])
    with pytest.raises(CorruptFileError, match=r"bytes that are no header follow"):
        read_edf(path)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_cut_compressed_stream(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    content = compress(write_edf(tmp_path / "plain.edf", IMAGES[0]))
    path = tmp_path / f"cut.edf{'.gz' if compress is gzip.compress else '.bz2'}"
    path.write_bytes(content[:-200])
    with pytest.raises(CorruptFileError, match=r"cut\.edf.* damaged or truncated"):
        read_edf(path)


@pytest.mark.parametrize("suffix", [".edf", ".edf.gz"])
@pytest.mark.parametrize("extra", [b"abc", b"\0" * 600])
def test_trailing_bytes(tmp_path: Path, suffix: str, extra: bytes) -> None:
    content = write_edf(tmp_path / "plain.edf", IMAGES[0]) + extra
    path = tmp_path / f"long{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    with pytest.raises(
        CorruptFileError, match=rf"long\.edf.* {len(extra)} bytes that are no header.*copy it again"
    ):
        read_edf(path)


def test_padding_to_the_end_of_a_block_is_no_damage(path: Path) -> None:
    path.write_bytes(write_edf(path, IMAGES[0]) + b"\0" * 300)
    assert len(read_edf(path)) == 1


def test_size_that_is_not_that_of_the_image(path: Path) -> None:
    content = write_edf(path, IMAGES[0])
    path.write_bytes(content.replace(b"Dim_1 = 31", b"Dim_1 = 30"))
    with pytest.raises(
        CorruptFileError, match=r"frame\.edf: .* size of 1240 bytes, but 20 x 30 .* are 1200"
    ):
        read_edf(path)


@pytest.mark.parametrize(
    ("item", "instead"),
    [(b"DataType", b"DatoType"), (b"Dim_2", b"Dum_2"), (b"ByteOrder", b"BiteOrder")],
)
def test_header_without_a_layout(path: Path, item: bytes, instead: bytes) -> None:
    path.write_bytes(write_edf(path, IMAGES[0]).replace(item, instead))
    with pytest.raises(FileError, match=r"frame\.edf"):
        read_edf(path)


@pytest.mark.parametrize("item", [{"Compression": "GZIP"}, {"EDF_BinaryFileName": "elsewhere.bin"}])
def test_pixels_that_are_not_plain_are_refused(path: Path, item: dict[str, str]) -> None:
    write_edf(path, IMAGES[0], header=item)
    with pytest.raises(FileError, match=r"frame\.edf: the pixels of frame 0.*plain EDF"):
        read_edf(path)


@pytest.mark.parametrize("content", [b"a text, and no image\n" * 100, b"{\n no end"])
@pytest.mark.parametrize("suffix", [".edf", ".edf.gz", ".edf.bz2"])
def test_what_is_no_edf_file(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"text\.edf"):
        read_edf(path)


def test_not_a_number_is_a_value_of_spec(path: Path) -> None:
    write_edf(path, IMAGES[0], header={"counter_mne": "foc", "counter_pos": "-nan"})
    assert np.isnan(read_edf(path)[0].counters["foc"])


@pytest.mark.parametrize(
    ("name", "frames", "shape", "motors", "counters"),
    [
        ("edf_id06/strain_0000.edf.gz", 1, (2048, 2048), 83, 29),
        ("edf_silx_training/ID16B_diatomee.edf", 6, (540, 640), 138, 67),
        ("edf_silx_training/ID16_diatomee_data.edf", 1, (540, 640), 0, 0),
        ("edf_silx_training/ID16_diatomee_dark.edf", 1, (540, 640), 0, 0),
        ("edf_silx_training/ID16_diatomee_flat.edf", 1, (540, 640), 0, 0),
        ("edf_silx_training/medipix.edf", 1, (256, 256), 50, 44),
    ],
)
def test_real_files(
    data_dir: Callable[[str], Path],
    name: str,
    frames: int,
    shape: tuple[int, int],
    motors: int,
    counters: int,
) -> None:
    path = data_dir("esrf_loaders") / name
    records = read_edf(path)
    assert len(records) == frames
    with fabio.open(str(path)) as truth:
        for record in records:
            assert len(record.motors) == motors
            assert len(record.counters) == counters
            assert (record.frame.shape, record.frame.dtype) == (shape, np.dtype("uint16"))
            pixels = record.frame.read(slice(0, shape[0]), slice(0, shape[1]))
            np.testing.assert_array_equal(pixels, truth.get_frame(record.frame.index).data)


def test_real_damaged_file_is_refused(data_dir: Callable[[str], Path]) -> None:
    path = data_dir("esrf_loaders") / "edf_id06" / "strain_0001.edf.gz"
    with pytest.raises(CorruptFileError, match=r"strain_0001\.edf\.gz is damaged: 11570 bytes"):
        read_edf(path)


def test_a_compressed_file_that_becomes_gigabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "SMALL", 2**22)
    path = tmp_path / "frame.edf.bz2"
    whole = tmp_path / "frame.edf"
    EdfImage(data=np.ones((4, 5), "u2")).write(str(whole))
    packer = bz2.BZ2Compressor()
    zeros = bytes(2**20)
    pieces = [packer.compress(whole.read_bytes()), *(packer.compress(zeros) for _ in range(8))]
    path.write_bytes(b"".join(pieces) + packer.flush())
    with pytest.raises(CorruptFileError, match=r"what is compressed in it would take .* GiB"):
        read_edf(path)
