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


Names: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Packed:
    """One `FrameRecord`; what does not change is one object for all frames that have it."""

    frame: Frame
    names: tuple[Names, Names, Names]
    """Of motors, counters and the rest of the header."""
    numbers: NDArray[np.float64]
    """Of the motors, then of the counters."""
    texts: tuple[str, ...]
    unread: Mapping[tuple[str, str], str] | None

    def unpacked(self) -> FrameRecord:
        motors, counters, rest = self.names
        numbers = self.numbers.tolist()
        return FrameRecord(
            self.frame,
            dict(zip(motors, numbers[: len(motors)], strict=True)),
            dict(zip(counters, numbers[len(motors) :], strict=True)),
            dict(zip(rest, self.texts, strict=True)),
            self.unread or {},
        )


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
        kept: dict[Any, Any] = {}

        def same(value: Any) -> Any:
            return kept.setdefault(value, value)

        def packed(record: FrameRecord) -> _Packed:
            tables = (record.motors, record.counters, record.header)
            numbers = [*record.motors.values(), *record.counters.values()]
            return _Packed(
                record.frame,
                same(tuple(map(tuple, tables))),
                np.array(numbers, np.float64),
                same(tuple(map(same, record.header.values()))),
                record.unread or None,
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
