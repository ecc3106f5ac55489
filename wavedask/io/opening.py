"""Find the frames and headers of a source without reading a pixel."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from wavedask.compute import progress_bar
from wavedask.conventions import (
    DIMENSIONLESS,
    FRAME,
    HEADER,
    IMAGE,
    LONG_NAME,
    PIXEL_SIZE_X,
    PIXEL_SIZE_Y,
    POSITION_X,
    POSITION_Y,
    SOURCE_DATASET,
    SOURCE_FILE,
    SOURCE_INDEX,
    UNITS,
    X,
    Y,
)
from wavedask.errors import CorruptFileError, InputError
from wavedask.io.columns import Column, coordinates, gather
from wavedask.io.edf import read_edf
from wavedask.io.euxfel import is_run_file, read_run
from wavedask.io.facts import (
    FACT_ITEMS,
    NO_FACTS,
    Facts,
    header_columns,
    header_facts,
    joined_facts,
)
from wavedask.io.files import Format, Scans, Source, checked_source, find_files, split_scan
from wavedask.io.frames import FrameRecord, FrameStack, Stack
from wavedask.io.hdf5 import join_files, read_files
from wavedask.io.headers import Headers, Stamp, stamp_of
from wavedask.io.joining import JoinedStack
from wavedask.io.motors import Motors, given_columns
from wavedask.io.tiff import read_tiff
from wavedask.paths import expanded

READERS = {Format.EDF: read_edf, Format.TIFF: read_tiff}
"""Readers of formats whose frames may be spread over many files."""
THREADS = 8
"""Headers read at a time: enough to hide the latency of a file server."""
SIZES: Final = (PIXEL_SIZE_Y.name, PIXEL_SIZE_X.name)
"""Facts about the pixels that hold for the whole scan, also where no frame is at hand."""
AGAIN: Final = "wavedask_again"
"""Item of the encoding of a scan: what opens its source again."""

Found = tuple[Stack, list[Column], dict[str, str], Facts]
"""Where pixels are, what is known of each frame, of all, and what is stated of the detector."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A scan before it is decided whether its pixels are a dask array or a lazy array of xarray.

    Attributes
    ----------
    stack : Stack
        Where the pixels are.
    coords : dict of str to xarray.Variable
        Motors, counters, header items, origins and pixel numbers.
    attrs : dict of str to str
        Header items that do not change.
    image_attrs : dict
        What the files state about the pixels: codes, valid counts, sizes.
    stamp : object
        What changes when the files change.
    again : callable
        Opens the same source with the same arguments again; headers of files that are what they
        were are not read again.
    """

    stack: Stack
    coords: dict[str, xr.Variable]
    attrs: dict[str, Any]
    image_attrs: dict[str, Any]
    stamp: Any
    again: Callable[..., "Opened"]


def open_source(
    source: Source,
    *,
    motors: Motors | None = None,
    units: Mapping[str, str] | None = None,
    scan: Scans | None = None,
    image: str | None = None,
    progress: bool | None = None,
    known: Headers | None = None,
) -> Opened:
    """Find the frames of a source and read what its headers say.

    Parameters
    ----------
    source, motors, units, scan, image, progress
        As of `open_scan`.
    known : Headers, optional
        Headers that have been read before.

    Returns
    -------
    Opened

    Raises
    ------
    FileError, FrameMismatchError, MotorError, InputError
        As `open_scan`.
    """
    source = checked_source(source)
    scan = _checked_scans(scan)
    if image is not None:
        _check_name(IMAGE.name, image)
    where, table = _absolute(source), _absolute(motors)
    again = partial(
        open_source, where, motors=table, units=units, scan=scan, image=image, progress=progress
    )
    headers: Headers | None = None
    source, scan = split_scan(source, scan)
    files, format_ = find_files(source)
    if format_ is Format.HDF5:
        stamps = [stamp_of(path) for path in files]
        for path, stamp in zip(files, stamps, strict=True):
            _check_not_empty(path, stamp)
        (stack, columns, constants, facts), behind = _open_hdf5(
            files, scan, image, motors, progress
        )
        stamps += [stamp_of(path) for path in behind]
    else:
        _check_not_given(format_, scan=scan, image=image)
        read = _read_headers(files, format_, progress, known or Headers())
        stamps, headers = [stamp for stamp, _ in read], Headers(read)
        records = [record for _, of_file in read for record in of_file]
        stack = FrameStack(headers.frames)
        given = _given(motors, stack)
        columns, constants = gather(records, replaced={column.name for column in given})
        columns += given
        recorded = {column.name for column in columns if column.role != HEADER}
        stated = header_columns(columns, constants)
        columns += [column for column in stated if column.name not in recorded]
        facts = _header_facts(records)
    coords = {
        **_own_coordinates(stack),
        **facts.coords,
        **coordinates(columns, n_frames=stack.shape[0], units=units or {}, where=files[0]),
    }
    attrs = constants | {name: facts.attrs[name] for name in SIZES if name in facts.attrs}
    # An HDF5 file holds many scans: without their names, dask would take them for one.
    named = (stamps, scan, image)
    return Opened(stack, coords, attrs, facts.attrs, named, partial(again, known=headers))


def _absolute(given: Any) -> Any:
    """Make paths absolute, so that the working directory may change; leave the rest unchanged."""
    if isinstance(given, list):
        return [_absolute(item) for item in given]
    is_path = isinstance(given, str | os.PathLike)
    return str(expanded(given).absolute()) if is_path else given


def _checked_scans(scans: Any) -> Scans | None:
    """Names of scans, several as a list, as a list that can be iterated again."""
    several = isinstance(scans, Iterable) and not isinstance(scans, str | bytes | Mapping | Set)
    names: list[Any] = list(scans) if several else [scans]
    if not names:
        raise InputError("scan is an empty list", "Give at least one name, or leave it out.")
    for name in names:
        if several or name is not None:
            _check_name("scan", name)
    return names if several else names[0]


def _check_name(argument: str, name: Any) -> None:
    if not isinstance(name, str):
        # As a number, 1.10 could not be told from 1.1.
        quoted = f"Write it in quotes: {argument}='{name}'."
        raise InputError(
            f"{argument}={name!r} is no text",
            quoted if isinstance(name, int | float) else "Give one name.",
        )


def _check_not_given(format_: Format, **arguments: Scans | None) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise InputError(
                f"{name}={value!r} with {format_.name} files",
                "Only HDF5 files hold several scans and cameras.",
            )


def _read_headers(
    files: Sequence[Path], format_: Format, progress: bool | None, known: Headers
) -> list[tuple[Stamp, list[FrameRecord]]]:
    """Read the headers of files, but of those that are known as they are."""
    reader = READERS[format_]
    records_of = known.records()

    def read(path: Path) -> tuple[Stamp, list[FrameRecord]]:
        # Before it is read: a file that changes meanwhile is read again the next time.
        stamp = stamp_of(path)
        _check_not_empty(path, stamp)
        records = records_of.get(stamp)
        return stamp, reader(path) if records is None else records

    found: list[tuple[Stamp, list[FrameRecord]]] = []
    workers = ThreadPoolExecutor(THREADS)
    try:
        with progress_bar("reading headers", len(files), show=progress) as advance:
            for of_file in workers.map(read, files):
                found.append(of_file)
                advance(1)
    finally:
        # After an error the remaining files are of no interest.
        workers.shutdown(cancel_futures=True)
    return found


def _open_hdf5(
    files: Sequence[Path],
    scan: Scans | None,
    image: str | None,
    motors: Motors | None,
    progress: bool | None,
) -> tuple[Found, list[Path]]:
    """Open a scan with the motors that are given, and name the files behind those of the source."""
    in_file, others = _split(motors)
    if is_run_file(files[0]):
        if scan is not None:
            raise InputError(
                f"scan={scan!r} with a run of the European XFEL",
                "A run is one scan: choose a camera with image='SOURCE[key]'.",
            )
        stack, columns, constants = read_run(files, image=image, motors=in_file)
        return (stack, columns + _given(others, stack), constants, NO_FACTS), []
    names = [scan] if scan is None or isinstance(scan, str) else scan
    scans = read_files(files, scans=names, image=image, motors=in_file, progress=progress)
    behind = sorted({file for _, found in scans for file in found.behind})
    if len(scans) == 1:
        ((_, found),) = scans
        columns = found.columns + _given(others, found.stack)
        return (found.stack, columns, found.constants, found.facts), behind
    joined = JoinedStack([found.stack for _, found in scans])
    given = _given(others, joined)
    columns, constants = join_files(scans, replaced={column.name for column in given})
    facts = joined_facts((path, found.facts) for path, found in scans)
    return (joined, columns + given, constants, facts), behind


def _header_facts(records: Sequence[FrameRecord]) -> Facts:
    """Read what the headers state; of headers that are alike, one is looked at."""
    alike = {
        (tuple(record.header.get(name) for name in FACT_ITEMS), record.frame.dtype): record
        for record in records
    }
    return joined_facts(
        (record.frame.path, header_facts(record.header, record.frame.dtype))
        for record in alike.values()
    )


def _given(motors: Motors | None, stack: Stack) -> list[Column]:
    return [] if motors is None else given_columns(motors, n_frames=stack.shape[0])


def _split(motors: Motors | None) -> tuple[dict[str, str], Motors | None]:
    """Motors that are given as a place in the file, and those that are given as numbers."""
    if not isinstance(motors, Mapping):
        return {}, motors
    places = {name: where for name, where in motors.items() if isinstance(where, str)}
    return places, {name: values for name, values in motors.items() if name not in places}


def _check_not_empty(path: Path, stamp: Stamp) -> None:
    if stamp[1] == 0:
        raise CorruptFileError(f"{path} is empty (0 bytes)", "Leave it out of the scan.")


def _own_coordinates(stack: Stack) -> dict[str, xr.Variable]:
    names, numbers = zip(*stack.origins, strict=True)
    paths, indices = np.array(names, dtype=np.dtypes.StringDType()), np.array(numbers)
    datasets = {}
    if stack.datasets is not None:
        datasets[SOURCE_DATASET] = xr.Variable(
            (FRAME,),
            np.array(stack.datasets, dtype=np.dtypes.StringDType()),
            {UNITS: DIMENSIONLESS, LONG_NAME: "dataset of the frame in its file"},
        )
    return {
        SOURCE_FILE: xr.Variable(
            (FRAME,), paths, {UNITS: DIMENSIONLESS, LONG_NAME: "file of the frame"}
        ),
        **datasets,
        SOURCE_INDEX: xr.Variable(
            (FRAME,), indices, {UNITS: DIMENSIONLESS, LONG_NAME: "number of the frame in its file"}
        ),
        Y: xr.Variable((Y,), np.arange(stack.shape[1]), POSITION_Y.attrs),
        X: xr.Variable((X,), np.arange(stack.shape[2]), POSITION_X.attrs),
    }
