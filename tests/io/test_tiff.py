"""TIFF files of every layout give the same frames, or a reason why not."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from wavedask.errors import CorruptFileError, FileError, FrameMismatchError
from wavedask.io.frames import FrameStack, RawFrame
from wavedask.io.tiff import TiffPage, read_tiff

IMAGES = np.random.default_rng(5).integers(0, 60000, (6, 50, 40)).astype("uint16")

LAYOUTS: dict[str, tuple[dict[str, Any], type]] = {
    "plain": ({}, RawFrame),
    "bigtiff": ({"bigtiff": True}, RawFrame),
    "big endian": ({"byteorder": ">"}, RawFrame),
    "imagej": ({"imagej": True}, RawFrame),
    "one page": ({"truncate": True}, RawFrame),
    "ome": ({"ome": True}, RawFrame),
    "strips": ({"rowsperstrip": 7}, RawFrame),
    "deflate": ({"compression": "zlib"}, TiffPage),
    "compressed strips": ({"compression": "zlib", "rowsperstrip": 7}, TiffPage),
    "tiles": ({"tile": (16, 16)}, TiffPage),
}


def write_pages(path: Path, *images: np.ndarray, **options: Any) -> None:
    with tifffile.TiffWriter(path) as writer:
        for image in images:
            writer.write(
                image, contiguous=False, metadata=None, photometric="minisblack", **options
            )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stack.tif"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_stack_in_one_file(path: Path, layout: str) -> None:
    options, kind = LAYOUTS[layout]
    tifffile.imwrite(path, IMAGES, photometric="minisblack", **options)
    records = read_tiff(path)
    assert {type(record.frame) for record in records} == {kind}
    assert [record.frame.index for record in records] == list(range(6))
    stack = pickle.loads(pickle.dumps(FrameStack([record.frame for record in records])))
    np.testing.assert_array_equal(stack[:], IMAGES)
    np.testing.assert_array_equal(stack[4, 10:20, 3:5], IMAGES[4, 10:20, 3:5])


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"byteorder": ">"}])
def test_separate_pages_and_single_images(path: Path, options: dict[str, Any]) -> None:
    byteorder = options.pop("byteorder", None)
    with tifffile.TiffWriter(path, byteorder=byteorder) as writer:
        for image in IMAGES:
            writer.write(image, contiguous=False, metadata=None, **options)
    frames = [record.frame for record in read_tiff(path)]
    np.testing.assert_array_equal(FrameStack(frames)[:], IMAGES)
    tifffile.imwrite(path, IMAGES[0], byteorder=byteorder, **options)
    (record,) = read_tiff(path)
    np.testing.assert_array_equal(FrameStack([record.frame])[0], IMAGES[0])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float32", "float64"])
def test_pixel_types(path: Path, dtype: str) -> None:
    tifffile.imwrite(path, IMAGES[0].astype(dtype))
    (record,) = read_tiff(path)
    np.testing.assert_array_equal(FrameStack([record.frame])[0], IMAGES[0].astype(dtype))


def test_tags_that_describe_the_measurement_are_kept(path: Path) -> None:
    tifffile.imwrite(
        path, IMAGES[0], description="lens 3", datetime="2024:06:27 23:34:29", metadata=None
    )
    assert read_tiff(path)[0].header == {
        "DateTime": "2024:06:27 23:34:29",
        "ImageDescription": "lens 3",
    }
    tifffile.imwrite(path, IMAGES, photometric="minisblack")
    assert read_tiff(path)[0].header == {}


@pytest.mark.parametrize("part", [0.0002, 0.4, 0.9])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_truncated_stack(path: Path, layout: str, part: float) -> None:
    options, _ = LAYOUTS[layout]
    tifffile.imwrite(path, IMAGES, photometric="minisblack", **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(FileError, match=r"stack\.tif"):
        read_tiff(path)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("missing", [1, 5, 20, 45, 60, 100, 250])
def test_last_bytes_missing_is_an_error_unless_all_pixels_are_there(
    path: Path, layout: str, missing: int
) -> None:
    options, _ = LAYOUTS[layout]
    tifffile.imwrite(path, IMAGES, photometric="minisblack", **options)
    path.write_bytes(path.read_bytes()[:-missing])
    try:
        frames = [record.frame for record in read_tiff(path)]
    except FileError:
        return
    np.testing.assert_array_equal(FrameStack(frames)[:], IMAGES)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}])
@pytest.mark.parametrize("part", [0.4, 0.9])
def test_truncated_pages(path: Path, part: float, options: dict[str, Any]) -> None:
    write_pages(path, *IMAGES, **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(CorruptFileError, match=r"stack\.tif is truncated.*Copy it again"):
        read_tiff(path)


def test_imagej_stack_that_announces_more_than_there_is(path: Path) -> None:
    description = "ImageJ=1.53\nimages=6\nslices=6\n"
    tifffile.imwrite(path, IMAGES[0], description=description, metadata=None)
    with pytest.raises(CorruptFileError, match="stack of 6 images"):
        read_tiff(path)


def test_imagej_stack_behind_a_single_page(path: Path) -> None:
    description = "ImageJ=1.53\nimages=6\nslices=6\n"
    tifffile.imwrite(path, IMAGES[0], description=description, metadata=None, byteorder=">")
    path.write_bytes(path.read_bytes() + IMAGES[1:].astype(">u2").tobytes())
    frames = [record.frame for record in read_tiff(path)]
    np.testing.assert_array_equal(FrameStack(frames)[:], IMAGES)


def test_file_that_shrinks_after_it_was_opened(path: Path) -> None:
    write_pages(path, *IMAGES, compression="zlib")
    records = read_tiff(path)
    path.write_bytes(path.read_bytes()[:-30])
    np.testing.assert_array_equal(FrameStack([records[0].frame])[0], IMAGES[0])
    with pytest.raises(CorruptFileError, match="pixels of page 5 are missing"):
        FrameStack([records[5].frame])[0]


def test_colour_is_refused(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((50, 40, 3), "uint8"), photometric="rgb")
    with pytest.raises(FileError, match=r"stack\.tif: page 0 is a colour image"):
        read_tiff(path)
    palette = np.zeros((3, 256), "uint16")
    tifffile.imwrite(path, np.zeros((50, 40), "uint8"), photometric="palette", colormap=palette)
    with pytest.raises(FileError, match="colour"):
        read_tiff(path)


@pytest.mark.parametrize("image", [np.zeros((50, 40), bool), np.zeros((50, 40), "complex64")])
def test_pixels_that_are_no_counts_are_refused(path: Path, image: np.ndarray) -> None:
    tifffile.imwrite(path, image)
    with pytest.raises(FileError, match=r"stack\.tif: page 0 has shape"):
        read_tiff(path)


def test_pages_of_unequal_shape(path: Path) -> None:
    write_pages(path, IMAGES[0], IMAGES[1], IMAGES[2, :10])
    with pytest.raises(FrameMismatchError, match=r"stack\.tif: page 0 .*50, 40.* page 2 .*10, 40"):
        read_tiff(path)


def test_what_is_no_tiff_file(path: Path) -> None:
    path.write_text("a text")
    with pytest.raises(FileError, match=r"stack\.tif cannot be read: not a TIFF file"):
        read_tiff(path)
