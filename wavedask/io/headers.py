"""A compact cache of headers, so that an unchanged file is not read twice."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from pathlib import Path
from typing import Any, Self, TypeAlias

from wavedask.io.frames import Frame, FrameRecord, reading
from wavedask.io.packed import Rows, packed, texts_of

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


Table: TypeAlias = Mapping[str, Any]


class _Tables:
    """One table for each frame, with values by name, held name by name."""

    def __init__(self, tables: Sequence[Table], absent: Any) -> None:
        self._names = packed([tuple(table) for table in tables])
        every = dict.fromkeys(name for names in dict.fromkeys(self._names) for name in names)
        self._columns = {
            name: packed([table.get(name, absent) for table in tables]) for name in every
        }

    def __iter__(self) -> Iterator[dict[str, Any]]:
        every = tuple(self._columns)
        rows = zip(*self._columns.values(), strict=True) if every else repeat(())
        for names, values in zip(self._names, rows, strict=False):
            row = dict(zip(every, values, strict=True))
            yield row if names == every else {name: row[name] for name in names}


class Headers:
    """Headers of files by their stamps; immutable.

    What is the same in all frames takes no memory for each of them, and a motor that moves takes
    8 bytes. It is neither copied nor pickled with the dataset that it belongs to: a copy shares it,
    and a pickle is without it.

    Parameters
    ----------
    read : iterable of (Stamp, sequence of FrameRecord)
        What was read of each file, which was looked at before; at least one frame of each, with
        the path of the stamp.

    Attributes
    ----------
    frames : Rows of Frame
        Where the pixels of all frames are, in the order of `read`.

    Examples
    --------
    >>> from wavedask.io.frames import RawFrame
    >>> frame = RawFrame(Path("a.edf"), 0, 512, (4, 5), "<u2")
    >>> record = FrameRecord(frame, {"lens_x": 0.5}, {}, {"title": "lens"})
    >>> headers = Headers([(("a.edf", 512, 7), [record])])
    >>> headers.records()["a.edf", 512, 7][0].motors
    {'lens_x': 0.5}
    """

    def __init__(self, read: Iterable[tuple[Stamp, Sequence[FrameRecord]]] = ()) -> None:
        files = list(read)
        records = [record for _, of_file in files for record in of_file]
        self.frames: Rows[Frame] = Rows([record.frame for record in records])
        self._counts = packed([len(of_file) for _, of_file in files])
        self._sizes = packed([size for (_, size, _), _ in files])
        self._times = packed([time for (_, _, time), _ in files])
        self._motors = _Tables([record.motors for record in records], math.nan)
        self._counters = _Tables([record.counters for record in records], math.nan)
        self._header = _Tables([record.header for record in records], "")
        self._unread = packed([tuple(record.unread.items()) for record in records])

    def records(self) -> dict[Stamp, list[FrameRecord]]:
        """Return the records of each file that was what its stamp says."""
        columns = (self.frames, self._motors, self._counters, self._header, self._unread)
        records = (
            FrameRecord(frame, motors, counters, header, dict(unread))
            for frame, motors, counters, header, unread in zip(*columns, strict=True)
        )
        paths = iter(texts_of(self.frames.column("path")))
        found = {}
        for count, size, time in zip(self._counts, self._sizes, self._times, strict=True):
            path, *_ = islice(paths, count)
            found[path, size, time] = list(islice(records, count))
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()
