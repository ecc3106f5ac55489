"""Metadata of each frame, converted to coordinates of a scan."""

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from wavedask.conventions import (
    COUNTER,
    FRAME,
    HEADER,
    LONG_NAME,
    MOTOR,
    NOT_READ,
    RESERVED_NAMES,
    ROLE,
    UNITS,
    UNKNOWN_UNIT,
)
from wavedask.errors import FileError, InputError, MotorError
from wavedask.io.frames import FrameRecord

MOST_COLUMNS: Final = 2000
"""Motors, counters and header items of a scan. Facilities record some hundreds."""


@dataclass(frozen=True, slots=True)
class Column:
    """Values of one motor, counter or header item over a scan.

    Attributes
    ----------
    name : str
        Its name in the file.
    role : str
        One of the roles of `wavedask.conventions`.
    values : numpy.ndarray
        One value for the whole scan (no axis), or one per frame.
    units : str
        Unit of the values.
    """

    name: str
    role: str
    values: npt.NDArray[Any]
    units: str = UNKNOWN_UNIT


def gather(
    records: Sequence[FrameRecord], *, replaced: Collection[str] = ()
) -> tuple[list[Column], dict[str, str]]:
    """Turn the headers of the frames into columns.

    Parameters
    ----------
    records : sequence of FrameRecord
        One per frame.
    replaced : collection of str
        Motors whose positions are given otherwise, so that those of the headers do not matter.

    Returns
    -------
    columns : list of Column
        Motors, counters, and the header items that vary.
    constants : dict of str to str
        Header items that are the same in every frame, as written; and what cannot be read.

    Raises
    ------
    MotorError
        If a motor or a counter is in the headers of some frames only.
    FileError
        If a header has more than `MOST_COLUMNS` items.
    """
    names = len(records[0].motors) + len(records[0].counters) + len(records[0].header)
    if names > MOST_COLUMNS:
        raise FileError(
            f"{records[0].frame.path}: its header has {names} items, more than {MOST_COLUMNS}",
            "Is it the header of an image? Write the file again with the items that matter.",
        )
    unread = _unread(records, replaced)
    columns = [
        Column(name, role, _numbers_of(name, role, records, tables))
        for role, tables in (
            (MOTOR, [record.motors for record in records]),
            (COUNTER, [record.counters for record in records]),
        )
        for name in _names(tables)
        if role != MOTOR or name not in replaced
    ]
    constants = {NOT_READ: unread} if unread else {}
    headers = [record.header for record in records]
    for name in _names(headers):
        texts = [header.get(name) for header in headers]
        if texts[0] is not None and all(text == texts[0] for text in texts):
            constants[name] = texts[0]
        else:
            columns.append(Column(name, HEADER, parsed_texts(texts)))
    return columns, constants


def _unread(records: Sequence[FrameRecord], replaced: Collection[str]) -> str:
    """Name the motors and counters that headers list and that cannot be read, with a warning."""
    first: dict[tuple[str, str], tuple[FrameRecord, str]] = {}
    for record in records:
        for place, reason in record.unread.items():
            first.setdefault(place, (record, reason))
    # Given positions replace those of the header.
    words = [
        f"{role} {name or 'list'} ({reason})"
        for (role, name), (_, reason) in first.items()
        if role != MOTOR or not (name in replaced if name else replaced)
    ]
    if words:
        path = next(iter(first.values()))[0].frame.path
        warnings.warn(
            f"{path}: the header lists what cannot be read: {', '.join(words)}. Other frames may"
            " lack it, too; give motors={name: values} for the motors that matter.",
            stacklevel=2,
        )
    return ", ".join(words)


def _names(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every key, in the order in which they first come."""
    return list(dict.fromkeys(name for table in tables for name in table))


def _numbers_of(
    name: str, role: str, records: Sequence[FrameRecord], tables: Sequence[Mapping[str, float]]
) -> npt.NDArray[np.float64]:
    known = [
        name in table or (role, name) in record.unread
        for table, record in zip(tables, records, strict=True)
    ]
    if not all(known):
        with_it, without_it = (records[known.index(state)].frame for state in (True, False))
        raise MotorError(
            f"{role} {name!r} is in the header of {with_it.path} (frame {with_it.index}), but not"
            f" of {without_it.path} (frame {without_it.index})",
            "Open the frames of one scan only"
            + (f", or give motors={{{name!r}: values}}." if role == MOTOR else "."),
        )
    # Where a header has the name and no number, the position is unknown.
    return np.array([table.get(name, np.nan) for table in tables], dtype=np.float64)


def parsed_texts(texts: Sequence[str | None]) -> npt.NDArray[Any]:
    """Numbers if every text is one; else the texts, empty where a frame has none.

    Examples
    --------
    >>> parsed_texts(["1", "2.5"])
    array([1. , 2.5])
    >>> parsed_texts(["ascan", None]).tolist()
    ['ascan', '']
    """
    try:
        # float() takes "1_000", which no instrument writes: that is a name.
        return np.array([float((text or "").replace("_", "?")) for text in texts])
    except ValueError:
        # The one type of text that Zarr 3 stores without a warning.
        return np.array([text or "" for text in texts], dtype=np.dtypes.StringDType())


def latest_columns(columns: Sequence[Column]) -> dict[tuple[str, str], Column]:
    """Columns by role and name; of two, the later one counts, with the unit of the former.

    Examples
    --------
    >>> header = Column("lens", MOTOR, np.array(1.0), "mm")
    >>> given = Column("lens", MOTOR, np.array(2.0))
    >>> found = latest_columns([header, given])[MOTOR, "lens"]
    >>> float(found.values), found.units
    (2.0, 'mm')
    """
    latest: dict[tuple[str, str], Column] = {}
    for column in columns:
        former = latest.get((column.role, column.name))
        if former is not None and column.units == UNKNOWN_UNIT:
            column = replace(column, units=former.units)
        latest[column.role, column.name] = column
    return latest


def coordinates(
    columns: Sequence[Column],
    *,
    n_frames: int,
    units: Mapping[str, str],
    where: Path | None = None,
) -> dict[str, xr.Variable]:
    """Turn columns into coordinates with their final names, units and roles.

    Parameters
    ----------
    columns : sequence of Column
        What is known of each frame; of two with one name and role, the later one counts.
    n_frames : int
        Frames of the scan.
    units : mapping of str to str
        Units by name of the coordinate (or of the motor), which go before those of the file.
    where : pathlib.Path, optional
        File of the first frame, for messages.

    Returns
    -------
    dict of str to xarray.Variable
        What varies is one-dimensional on ``frame``, what does not is a scalar. A name that
        something else has is given its role as a prefix.

    Raises
    ------
    MotorError
        If a column has neither one value nor one per frame.
    InputError
        If `units` names what is not there.
    """
    variables: dict[str, xr.Variable] = {}
    used: set[str] = set()
    # Motors first: a counter or a header item of the same name makes way.
    order = (MOTOR, COUNTER, HEADER)
    for column in sorted(
        latest_columns(columns).values(), key=lambda column: order.index(column.role)
    ):
        # A slash would be a folder in a Zarr store; a space cannot be written into a condition.
        name = re.sub(r"[/\s]", "_", column.name)
        while name in RESERVED_NAMES or name in variables:
            name = f"{column.role}_{name}"
        keys = [name, column.name] if column.role == MOTOR else [name]
        used.update(keys)
        unit = next((units[key] for key in keys if key in units), column.units)
        attrs = {UNITS: unit, LONG_NAME: f"{column.role} {column.name}", ROLE: column.role}
        values = _collapsed(column, n_frames, where)
        variables[name] = xr.Variable((FRAME,) if values.ndim else (), values, attrs)
    unknown = sorted(set(units) - used)
    if unknown:
        raise InputError(
            f"units names {unknown}, which the scan does not have",
            f"It has: {', '.join(sorted(variables)) or 'no motors; give them with motors='}.",
        )
    return variables


def _collapsed(column: Column, n_frames: int, where: Path | None) -> npt.NDArray[Any]:
    """Values of a column, reduced to a single one where it never changes."""
    values = column.values
    if values.ndim == 0:
        return values
    if values.shape != (n_frames,):
        place = "" if where is None else f"{where}: "
        counted = " x ".join(map(str, values.shape))
        remedy = (
            f"Give motors={{{column.name!r}: values}} with one value per frame, or a single one."
        )
        raise MotorError(
            f"{place}{column.role} {column.name!r} has {counted} values, but the scan has"
            f" {n_frames} frames",
            remedy if column.role == MOTOR else "The file is damaged, or still being written.",
        )
    is_number = values.dtype.kind == "f"
    constant = np.array_equal(values, np.full_like(values, values[0]), equal_nan=is_number)
    return values[0].reshape(()) if constant and is_number else values
