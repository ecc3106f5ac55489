"""EDF files of the ESRF: single frames, multi-frame files, compressed files, SPEC headers."""

import bz2
import gzip
import io
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

import numpy as np

from wavedask.conventions import COUNTER, MOTOR
from wavedask.errors import CorruptFileError, FileError
from wavedask.io.frames import FrameRecord, Pixels, RawFrame, check_expansion, reading
from wavedask.io.quiet_fabio import EdfImage

Stream: TypeAlias = IO[bytes] | gzip.GzipFile | bz2.BZ2File

BLOCK = 512
"""EDF headers, and in some writers images, are padded to a multiple of this many bytes."""
LARGEST_HEADER = 512 * BLOCK
"""No header is longer (fabio's own limit)."""
PIECE = 2**20
"""Bytes that are decompressed at a time to count them."""
DIMENSION = re.compile(r"dim_(\d+)", re.IGNORECASE)
"""Header item: the length of a dimension."""
BLANK = b" \t\r\n\v\f\0"
"""What may stand around keys and values of a header."""
STRUCTURAL = frozenset({"HEADERID", "IMAGE", "BYTEORDER", "DATATYPE", "SIZE", "COMPRESSION"})
"""Header items, in capitals, that describe the layout of the file and not the measurement."""


@dataclass(frozen=True, slots=True)
class CompressedEdfFrame(RawFrame):
    """A frame of an ``.edf.gz`` or ``.edf.bz2`` file; its offset is in the uncompressed stream."""

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Decompress up to the last row of the region, and keep the region."""
        width = self.shape[1]
        row_bytes = width * self.dtype.itemsize
        wanted = (rows.stop - rows.start) * row_bytes
        with reading(self.path), _decompressed(self.path) as stream:
            stream.seek(self.offset + rows.start * row_bytes)
            content = stream.read(wanted)
        if len(content) < wanted:
            raise CorruptFileError(
                f"{self.path} is truncated: frame {self.index} ends {wanted - len(content)} bytes"
                " early",
                "It has changed since the scan was opened: open it again.",
            )
        return np.frombuffer(content, self.dtype).reshape(-1, width)[:, cols]

    def read_into(self, pixels: Pixels, rows: slice, cols: slice) -> None:
        """Decompress a contiguous region into an array."""
        pixels[...] = self.read(rows, cols)


def read_edf(path: Path) -> list[FrameRecord]:
    """Read the headers of an EDF file, and check that its images are all there.

    Parameters
    ----------
    path : pathlib.Path
        The file; ``.gz`` and ``.bz2`` are decompressed. A ``.gz`` of one frame is checked by the
        length in its trailer, any other compressed file has to be decompressed whole.

    Returns
    -------
    list of FrameRecord
        One per frame, in the order of the file.

    Raises
    ------
    FileError
        If it is no EDF file of two-dimensional images.
    CorruptFileError
        If header and contents disagree: truncated, trailing bytes, or a wrong size.
    """
    compressed = path.suffix.lower() in {".gz", ".bz2"}
    with reading(path):
        blocks = _compressed_blocks(path) if compressed else _plain_blocks(path)
    # Every block of a file of the ESRF carries its whole header, so nothing is inherited from the
    # first one: a motor that a block lacks is not known there. (What the format's own general
    # block holds has been merged by fabio.)
    kind = CompressedEdfFrame if compressed else RawFrame
    records = []
    for index, block in enumerate(blocks):
        header = dict(block.header)
        frame = kind(path, index, block.start, *_layout(block, path))
        motors, unread = _spec_list(header, MOTOR)
        counters, uncounted = _spec_list(header, COUNTER)
        rest = {key: text for key, text in header.items() if not _is_structural(key)}
        records.append(FrameRecord(frame, motors, counters, rest, unread | uncounted))
    return records


def _plain_blocks(path: Path) -> list[Any]:
    with path.open("rb") as stream:
        blocks = _blocks(stream, path)
        _check_end(stream, blocks, stream.seek(0, io.SEEK_END), path)
    return blocks


class _Head(io.BytesIO):
    """The first bytes of a file; fabio wants every stream to have a name."""

    name = "head"


def _compressed_blocks(path: Path) -> list[Any]:
    with _decompressed(path) as stream:
        # fabio looks for the next header behind each image. Given the first bytes alone it finds
        # none, and the image stays compressed.
        first = _blocks(_Head(stream.read(LARGEST_HEADER)), path)[0]
    end = first.start + first.blobsize
    if path.suffix.lower() == ".gz" and _stated_size(path) == end:
        return [first]
    size = _counted_size(path)
    if size == end:
        return [first]
    with _decompressed(path) as stream:
        blocks = [first] if size < end else _blocks(stream, path)
        _check_end(stream, blocks, size, path)
    return blocks


class _Recorder:
    """A stream that keeps what was read of it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.content = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def read(self, size: int = -1) -> bytes:
        content: bytes = self._stream.read(size)
        self.content += content
        return content


class _EdfImage(EdfImage):  # type: ignore[misc]  # fabio has no types
    """EDF as fabio reads it, with the header items that are no ASCII, which fabio drops."""

    @staticmethod
    def _read_header_block(infile: Any, frame_id: int) -> Any:
        recorder = _Recorder(infile)
        block = EdfImage._read_header_block(recorder, frame_id)
        if block.header is not None and not recorder.content.isascii():
            block.header.update(_foreign_items(recorder.content))
        for key in block.header or ():
            # fabio makes a list as long as the number of the dimension.
            if (named := DIMENSION.fullmatch(key)) and len(named[1]) > 1:
                raise ValueError(f"the header has the dimension {key}")
        return block


def _foreign_items(content: bytes) -> dict[str, str]:
    """Header items that are no ASCII: UTF-8, or Latin-1 of older programs."""
    end = re.search(rb"}\r?\n", content)
    inside = content[content.find(b"{") + 1 : end.start() if end else None]
    found = {}
    for line in inside.split(b";"):
        key, equals, text = line.partition(b"=")
        if equals and not line.isascii():
            try:
                found[key.strip(BLANK).decode()] = text.strip(BLANK).decode()
            except UnicodeDecodeError:
                found[key.strip(BLANK).decode("latin-1")] = text.strip(BLANK).decode("latin-1")
    return found


def _blocks(stream: Stream, path: Path) -> list[Any]:
    """Blocks of a file as frames of fabio; nothing is kept of them but what their header says."""
    try:
        blocks = list(_EdfImage().read(stream).frames())
    except Exception as error:  # fabio raises the bare class, too
        raise FileError(
            f"{path} is not a readable EDF file: {error!r}",
            "Check that its suffix is right, or copy it again from its source.",
        ) from error
    if not blocks:
        raise FileError(f"{path} holds no image", "Leave it out of the scan.")
    for index, block in enumerate(blocks):
        _check_block(block, index, path)
    return blocks


def _check_block(block: Any, index: int, path: Path) -> None:
    items = {key.upper(): text for key, text in block.header.items()}
    missing = [key for key in ("DIM_1", "DIM_2", "DATATYPE", "BYTEORDER") if key not in items]
    if missing:
        raise FileError(
            f"{path}: the header of frame {index} lacks {', '.join(missing)}",
            "It is no EDF image, or a damaged one: copy it again from its source.",
        )
    if block.bfname is not None or items.get("COMPRESSION", "NO").upper()[:2] != "NO":
        raise FileError(
            f"{path}: the pixels of frame {index} are compressed within the file or in another one",
            "Write it again as plain EDF, for instance with fabio.",
        )
    shape = block.shape
    if len(shape) != 2 or 0 in shape:
        raise FileError(
            f"{path}: frame {index} has the shape {shape}", "A frame has rows and columns."
        )
    wanted = shape[0] * shape[1] * block.dtype.itemsize
    # `Size` counts the pixels, in some programs with their padding to whole blocks. The younger
    # `EDF_BinarySize` may include any padding.
    padded = "SIZE" not in items or block.blobsize % BLOCK == 0
    padding = BLOCK if padded else 1
    if not 0 <= block.blobsize - wanted < padding:
        raise CorruptFileError(
            f"{path}: the header of frame {index} gives a size of {block.blobsize} bytes, but"
            f" {shape[0]} x {shape[1]} pixels of {block.dtype.name} are {wanted}",
            "Header and image do not belong together: copy the file again from its source.",
        )


def _layout(block: Any, path: Path) -> tuple[tuple[int, int], np.dtype[Any]]:
    rows, columns = block.shape
    order = next(text for key, text in block.header.items() if key.upper() == "BYTEORDER").lower()
    if "high" not in order and "low" not in order:
        raise FileError(
            f"{path}: ByteOrder is {order!r}", "Known are HighByteFirst and LowByteFirst."
        )
    return _shared_layout(int(rows), int(columns), block.dtype, ">" if "high" in order else "<")


@lru_cache
def _shared_layout(
    rows: int, columns: int, dtype: np.dtype[Any], order: Literal["<", ">"]
) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Return one object for all frames alike: otherwise each of 100 000 keeps its own."""
    return (rows, columns), dtype.newbyteorder(order)


def _check_end(stream: Stream, blocks: list[Any], size: int, path: Path) -> None:
    """Refuse a file whose last image is cut off, or followed by what is no padding."""
    last = blocks[-1]
    end = last.start + last.blobsize
    if size < end:
        raise CorruptFileError(
            f"{path} is truncated: its headers announce {end} bytes, it holds {size}",
            "Copy it again from its source, or leave it out of the scan.",
        )
    stream.seek(end)
    rest = stream.read(BLOCK)
    if len(rest) == BLOCK or rest.strip(b"\0 \t\r\n"):
        raise CorruptFileError(
            f"{path} is damaged: {size - end} bytes that are no header follow the last image"
            f" ({end} bytes expected, {size} found)",
            "Its pixels cannot be trusted: copy it again from its source, in binary mode.",
        )


def _decompressed(path: Path) -> gzip.GzipFile | bz2.BZ2File:
    return bz2.open(path) if path.suffix.lower() == ".bz2" else gzip.open(path)


def _stated_size(path: Path) -> int:
    """Length of the uncompressed stream modulo 2**32, as the trailer of a ``.gz`` file gives it."""
    with path.open("rb") as file:
        file.seek(-4, io.SEEK_END)
        return int.from_bytes(file.read(4), "little")


def _counted_size(path: Path) -> int:
    size, stored = 0, path.stat().st_size
    with _decompressed(path) as stream:
        while content := stream.read(PIECE):
            size += len(content)
            check_expansion(path, "what is compressed in it", size=size, stored=stored)
    return size


def _spec_list(
    header: dict[str, str], kind: str
) -> tuple[dict[str, float], dict[tuple[str, str], str]]:
    """Take the two parallel lists of SPEC, ``<kind>_mne`` and ``<kind>_pos``, from a header.

    Returns what can be read, and why the rest cannot. As in silx, names and values belong together
    in their order, also where there are more of one than of the other.
    """
    names = header.pop(f"{kind}_mne", "").split()
    texts = header.pop(f"{kind}_pos", "").split()
    values: dict[str, float] = {}
    unread: dict[tuple[str, str], str] = {}
    if len(texts) > len(names):
        unread[kind, ""] = f"{len(names)} names in {kind}_mne, but {len(texts)} values"
    for place, name in enumerate(names):
        if place >= len(texts):
            unread[kind, name] = f"{len(names)} names in {kind}_mne, but {len(texts)} values"
            continue
        try:
            value = float(texts[place])
        except ValueError:
            unread[kind, name] = f"its value is {texts[place]!r}, which is no number"
            continue
        former = values.setdefault(name, value)
        # A counter that counted nothing may be no number, and is known.
        if former != value and not (math.isnan(former) and math.isnan(value)):
            unread[kind, name] = f"{kind}_mne names it twice, with different values"
    return {name: value for name, value in values.items() if (kind, name) not in unread}, unread


def _is_structural(key: str) -> bool:
    capitals = key.upper()
    return capitals in STRUCTURAL or capitals.startswith(("EDF_", "DIM_"))
