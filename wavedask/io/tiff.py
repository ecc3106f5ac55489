"""TIFF files: single images, many pages, BigTIFF, ImageJ stacks, compressed pages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from wavedask.errors import CorruptFileError, FileError, FrameMismatchError, InputError
from wavedask.io.frames import (
    Frame,
    FrameRecord,
    Pixels,
    RawFrame,
    check_expansion,
    decoding,
)

HEADER_TAGS = ("DateTime", "ImageDescription", "Make", "Model", "GDAL_NODATA")
"""Tags that say something about the measurement."""
PACKED_BYTES = 24
"""Bits of an integer that is no type of NumPy, though it is made of whole bytes."""


@dataclass(frozen=True, slots=True)
class TiffPage:
    """A page that has to be decoded: compressed, tiled or in scattered strips.

    Attributes
    ----------
    path : pathlib.Path
        File that holds the page.
    index : int
        Number of the page.
    shape : tuple of int
        Rows and columns.
    dtype : numpy.dtype
        Type of a pixel once decoded.
    """

    path: Path
    index: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Decode the page and keep the region."""
        with decoding(self.path), tifffile.TiffFile(self.path) as tif:
            page = tif.pages[self.index]
            # tifffile fills what is missing with zeros.
            _check_extent(page, self.index, tif.filehandle.size, self.path)
            pixels: Pixels = page.asarray()
            if pixels.shape != self.shape:
                raise CorruptFileError(
                    f"{self.path}: page {self.index} is {pixels.shape}, not {self.shape}",
                    "It has changed since the scan was opened: open it again.",
                )
        return pixels[rows, cols]


def read_tiff(path: Path) -> list[FrameRecord]:
    """Read the directories of a TIFF file, and check that its images are all there.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    list of FrameRecord
        One per image, in the order of the file.

    Raises
    ------
    FileError
        If it is no TIFF file of grey images, or needs a codec that is not installed.
    CorruptFileError
        If it is truncated.
    FrameMismatchError
        If its images differ in shape or data type.
    """
    with decoding(path), tifffile.TiffFile(path) as tif:
        pages = list(tif.pages)
        if not pages:
            raise CorruptFileError(f"{path} has no page", "Copy it again from its source.")
        _check_chain(tif, path)
        for index, page in enumerate(pages):
            _check_page(page, index, path)
            _check_extent(page, index, tif.filehandle.size, path)
            if (page.shape, page.dtype) != (pages[0].shape, pages[0].dtype):
                raise FrameMismatchError(
                    f"{path}: page 0 is {pages[0].shape} {pages[0].dtype}, but page {index} is"
                    f" {page.shape} {page.dtype}",
                    "Split the file into scans of one camera and one binning each.",
                )
        frames = _stacked(tif, path) if len(pages) == 1 else _paged(pages, tif.byteorder, path)
        headers = [_header(page) for page in pages]
    headers *= len(frames) // len(headers)
    return [
        FrameRecord(frame, {}, {}, header) for frame, header in zip(frames, headers, strict=True)
    ]


def read_plane(path: Path) -> Pixels:
    """Read a TIFF file with one page, of any type: masks of one bit are common.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    numpy.ndarray
        The whole page.

    Raises
    ------
    FileError
        If it cannot be read.
    InputError
        If it has several images.
    """
    with decoding(path), tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        shape = tif.series[0].shape if len(tif.pages) == 1 else (len(tif.pages), *page.shape)
        if math.prod(shape) != math.prod(page.shape):
            raise InputError(f"{path} has shape {shape}", "Give a file with a single image.")
        _check_extent(page, 0, tif.filehandle.size, path)
        pixels: Pixels = page.asarray()
        return pixels


def _check_chain(tif: Any, path: Path) -> None:
    """Refuse a file whose list of pages is cut or leads beyond its end (tifffile only logs it)."""
    link = tif.pages.next_page_offset
    tif.filehandle.seek(link)
    following = tif.filehandle.read(tif.tiff.offsetsize)
    if len(following) < tif.tiff.offsetsize or any(following):
        raise CorruptFileError(
            f"{path} is truncated: its list of pages goes on after page {len(tif.pages) - 1}, but"
            f" the file ends at {tif.filehandle.size} bytes",
            "Copy it again from its source.",
        )


def _check_page(page: Any, index: int, path: Path) -> None:
    coloured = page.photometric == tifffile.PHOTOMETRIC.PALETTE and not _is_grey_map(page)
    if page.samplesperpixel != 1 or coloured:
        raise FileError(
            f"{path}: page {index} is a colour image", "A frame is grey: save one channel."
        )
    if page.dtype is None or page.dtype.kind not in "iuf" or len(page.shape) != 2:
        raise FileError(
            f"{path}: page {index} has shape {page.shape} and {page.bitspersample} bits per pixel"
            f" of type {page.dtype}",
            "A frame has rows and columns of integers or real numbers.",
        )
    try:
        tifffile.TIFF.DECOMPRESSORS[page.compression]
        tifffile.TIFF.UNPREDICTORS[page.predictor]
        if page.bitspersample % 8 or page.bitspersample == PACKED_BYTES:
            # One pixel that is not in the file shows whether such pixels can be unpacked.
            packed = bytes(-(-page.bitspersample // 8))
            codecs = tifffile.tifffile.imagecodecs  # type: ignore[attr-defined]  # or its own
            codecs.packints_decode(packed, page.dtype, page.bitspersample, runlen=1)
    except (KeyError, NotImplementedError, ImportError) as error:
        raise FileError(
            f"{path}: page {index} ({page.bitspersample} bits per pixel) cannot be decoded:"
            f" {error.args[0]}",
            "Install the package imagecodecs (pip install 'wavedask[tiff]'), or save the file with"
            " 8, 16 or 32 bits per pixel and without compression.",
        ) from error


def _is_grey_map(page: Any) -> bool:
    """Whether the colour map of a page only sets how its counts are shown: a ramp of grey."""
    red, green, blue = page.colormap
    grey = np.array_equal(red, green) and np.array_equal(green, blue)
    return grey and bool((np.diff(red.astype(np.int64)) >= 0).all()) and red[0] < red[-1]


def _check_extent(page: Any, index: int, size: int, path: Path) -> None:
    offsets, counts = page.dataoffsets, page.databytecounts
    ends = [offset + count for offset, count in zip(offsets, counts, strict=False)]
    incomplete = len(offsets) != len(counts) or not all(counts)
    # Strips or tiles that the file does not list are no pixels, and there may be billions of them.
    incomplete |= math.prod(page.chunked) > len(offsets)
    if incomplete or max(ends, default=size + 1) > size:
        raise CorruptFileError(
            f"{path} is truncated: pixels of page {index} are missing (they end at"
            f" {max(ends, default=0)} bytes, the file at {size})",
            "Copy it again from its source.",
        )
    plain = page.compression == tifffile.COMPRESSION.NONE
    needed = math.prod(page.shape) * page.bitspersample // 8
    if not page.shape or min(page.shape) < 1 or (plain and needed > sum(counts)):
        raise CorruptFileError(
            f"{path} is damaged: page {index} has the shape {page.shape} and {sum(counts)} bytes",
            "Copy it again from its source.",
        )
    check_expansion(path, f"page {index}", size=page.nbytes, stored=sum(counts))


def _paged(pages: Sequence[Any], byteorder: str, path: Path) -> list[Frame]:
    return [
        RawFrame(path, index, page.dataoffsets[0], page.shape, page.dtype.newbyteorder(byteorder))
        if page.is_final
        else TiffPage(path, index, page.shape, page.dtype)
        for index, page in enumerate(pages)
    ]


def _stacked(tif: Any, path: Path) -> list[Frame]:
    """Frames of a file with one page; ImageJ and others put a whole stack behind it."""
    page = tif.pages.first
    if tif.is_ome or tif.series[0].is_multifile:
        # The description counts the pages of all files of the series: here is one of them.
        return _paged([page], tif.byteorder, path)
    images = math.prod(tif.series[0].shape) // math.prod(page.shape)
    announced = int((tif.imagej_metadata or {}).get("images", 1))
    nbytes = page.nbytes
    start = page.dataoffsets[0]
    end = start + max(images, announced) * nbytes
    if max(images, announced) == 1:
        return _paged([page], tif.byteorder, path)
    if not page.is_final:
        raise FileError(
            f"{path}: a compressed stack in a single page", "Save it with one page per image."
        )
    if images < announced or end > tif.filehandle.size:
        raise CorruptFileError(
            f"{path} is truncated: its stack of {max(images, announced)} images ends at {end}"
            f" bytes, the file at {tif.filehandle.size}",
            "Copy it again from its source.",
        )
    dtype = page.dtype.newbyteorder(tif.byteorder)
    return [
        RawFrame(path, index, start + index * nbytes, page.shape, dtype) for index in range(images)
    ]


def _header(page: Any) -> dict[str, str]:
    # These programs describe the layout of the file in the text of its first page.
    structural = page.is_shaped or page.is_imagej or page.is_ome
    tags = {name: page.tags.valueof(name) for name in HEADER_TAGS}
    return {
        name: str(text).strip()
        for name, text in tags.items()
        if text and not (structural and name == "ImageDescription")
    }
