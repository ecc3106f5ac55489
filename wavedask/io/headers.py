"""A compact cache of headers, so that an unchanged file is not read twice."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wavedask.io.frames import Frame, FrameRecord, reading

Stamp: TypeAlias = tuple[str, int, int]
"""Path, size and time of change of a file: another stamp means another content."""


def stamp_of(path: Path) -> Stamp:
    """Look at a file.

    Raises
    ------
    FileError
        If it is not there.
    """
    with reading(path):
        status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


@dataclass(frozen=True, slots=True)
class _Packed:
    """One `FrameRecord`, its names and unchanging texts shared with those of other frames."""

    frame: Frame
    motors: tuple[tuple[str, ...], NDArray[np.float64]]
    counters: tuple[tuple[str, ...], NDArray[np.float64]]
    header: tuple[tuple[str, ...], tuple[str, ...]]
    unread: Mapping[tuple[str, str], str]

    def unpacked(self) -> FrameRecord:
        motors, counters = (
            dict(zip(names, values.tolist(), strict=True))
            for names, values in (self.motors, self.counters)
        )
        header = dict(zip(*self.header, strict=True))
        return FrameRecord(self.frame, motors, counters, header, self.unread)


class Headers:
    """Headers of files by their stamps; immutable.

    A frame of 140 motors takes a kilobyte and a half, a tenth of what its records do. It is neither
    copied nor pickled with the dataset that it belongs to: a copy shares it, and a pickle is
    without it.

    Parameters
    ----------
    read : iterable of (Stamp, sequence of FrameRecord)
        What was read of each file, which was looked at before.

    Examples
    --------
    >>> frame = FrameRecord("a frame", {"lens_x": 0.5}, {}, {"title": "lens"})
    >>> headers = Headers([(("a.edf", 512, 7), [frame])])
    >>> headers.records(("a.edf", 512, 7))[0].motors, headers.records(("a.edf", 513, 8))
    ({'lens_x': 0.5}, None)
    """

    def __init__(self, read: Iterable[tuple[Stamp, list[FrameRecord]]] = ()) -> None:
        texts: dict[str, str] = {}
        names: dict[tuple[str, ...], tuple[str, ...]] = {}

        def keys(table: Mapping[str, Any]) -> tuple[str, ...]:
            own = tuple(table)
            return names.setdefault(own, own)

        def numbers(table: Mapping[str, float]) -> tuple[tuple[str, ...], NDArray[np.float64]]:
            return keys(table), np.fromiter(table.values(), np.float64, len(table))

        def packed(record: FrameRecord) -> _Packed:
            header = tuple(texts.setdefault(text, text) for text in record.header.values())
            return _Packed(
                record.frame,
                numbers(record.motors),
                numbers(record.counters),
                (keys(record.header), header),
                record.unread,
            )

        self._files = {stamp: [packed(record) for record in records] for stamp, records in read}

    def records(self, stamp: Stamp) -> list[FrameRecord] | None:
        """Return the records of a file that is what it was; None of any other."""
        known = self._files.get(stamp)
        return None if known is None else [record.unpacked() for record in known]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()
