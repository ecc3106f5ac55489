"""Tables of texts in HDF5 files that would keep HDF5 busy for ever."""

from pathlib import Path
from typing import Final

from wavedask.errors import CorruptFileError

LOOKED_AT: Final = 2**20
"""Bytes at the beginning of a file that are looked at: there are the names and texts of a scan."""
SIGNATURE: Final = b"GCOL"
"""Beginning of a global heap collection (HDF5 File Format Specification, III.E)."""
HEADER: Final = 16
"""Bytes of the header of a collection, and of each object in it."""


def check_heaps(path: Path) -> None:
    """Refuse a file with a heap that HDF5 would read for ever, which nothing could interrupt.

    In a heap, an object with the index zero stands for the free space behind it, header included.
    If its size is zero, HDF5 (2.0 and before) does not move on.

    Parameters
    ----------
    path : pathlib.Path
        The file; its first MiB is looked at.

    Raises
    ------
    CorruptFileError
        It has such a heap.
    OSError
        It cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(LOOKED_AT)
    start = content.find(SIGNATURE)
    while start >= 0:
        if _is_endless(content, start):
            raise CorruptFileError(
                f"{path} is damaged: the table of texts at byte {start} does not end",
                "Copy it again from its source.",
            )
        start = content.find(SIGNATURE, start + 1)


def _is_endless(content: bytes, start: int) -> bool:
    """Whether a heap has free space of no size."""
    end = start + _number(content, start + 8, 8)
    place = start + HEADER
    while place + HEADER <= min(end, len(content)):
        index, size = _number(content, place, 2), _number(content, place + 8, 8)
        if not index:
            return not size
        # Objects are padded to eight bytes.
        place += HEADER + -(-size // 8) * 8
    return False


def _number(content: bytes, place: int, size: int) -> int:
    return int.from_bytes(content[place : place + size], "little")
