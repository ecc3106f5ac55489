"""open_scan(): files, headers and motors become one labelled, lazy dataset."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from wavedask.conventions import (
    DIMENSIONLESS,
    FRAME,
    IMAGE,
    LONG_NAME,
    POSITION_X,
    POSITION_Y,
    SOURCE_FILE,
    SOURCE_INDEX,
    UNITS,
    X,
    Y,
    labelled,
)
from wavedask.errors import CorruptFileError, InputError
from wavedask.io.columns import Column, coordinates, gather
from wavedask.io.edf import read_edf
from wavedask.io.files import Format, Source, find_files
from wavedask.io.frames import FrameRecord, FrameStack, Stack, lazy, reading
from wavedask.io.hdf5 import read_hdf5
from wavedask.io.motors import Motors, given_columns
from wavedask.io.tiff import read_tiff
from wavedask.progress import progress_bar

READERS = {Format.EDF: read_edf, Format.TIFF: read_tiff}
"""Readers of formats whose frames may be spread over many files."""
THREADS = 8
"""Headers read at a time: enough to hide the latency of a file server."""


def open_scan(
    source: Source,
    *,
    motors: Motors | None = None,
    units: Mapping[str, str] | None = None,
    scan: str | None = None,
    chunks: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Open the frames of a scan, with everything their headers say, without reading a pixel.

    Parameters
    ----------
    source : path, or sequence of paths
        A file, a glob, a folder, or a list of those. EDF (also ``.edf.gz``, ``.edf.bz2``; one or
        many frames per file), TIFF (one or many pages), or one HDF5 file. The files of a glob or
        a folder are taken in natural order (``frame_2`` before ``frame_10``), a list in its own.
    motors : mapping of str to array_like, or path, optional
        Positions by name, one number or one per frame, that add to those of the header or replace
        them; what `mesh` returns; or a CSV file whose first row names the motors and which has
        one row per frame below. A name may carry a unit: ``"detx [mm]"``.
    units : mapping of str to str, optional
        Units by name of a coordinate, where the file names none or a wrong one.
    scan : str, optional
        HDF5 only: name of the scan, such as ``"1.1"``, or the path of one camera in it. By
        default the only one with images.
    chunks : mapping of str to int, optional
        Chunk size by dimension; by default one whole frame each. For a compressed HDF5 file whose
        chunks hold several frames, choose that number of frames.
    progress : bool, optional
        Whether to show a bar while headers are read; by default in a terminal only.

    Returns
    -------
    xarray.Dataset
        ``image(frame, y, x)``, counts, lazy; ``y`` and ``x`` in px. Coordinates with the
        attributes ``units``, ``long_name`` and ``role``: every motor and counter, on ``frame`` if
        it changes, else a scalar; and header items that change (text that a frame lacks is
        empty). Header items that do not change are attributes, as written. ``source_file`` and
        ``source_index`` say where each frame comes from.

    Raises
    ------
    FileError
        If a file is missing or not what its suffix says; `CorruptFileError` if it is truncated or
        damaged.
    FrameMismatchError
        If frames differ in shape or data type.
    MotorError
        If positions are missing, of the wrong number, or not numbers.
    InputError
        If an argument is wrong otherwise.

    See Also
    --------
    mesh : positions of a mesh scan.
    input_files : files that a scan was opened from.

    Notes
    -----
    A motor called like a dimension or a variable of this package (``x``, ``image``), and a counter
    or header item called like a motor, is given its role as a prefix: ``motor_x``,
    ``counter_mono``, ``header_energy``; a slash in a name becomes an underscore.

    A file is checked against its header when it is opened; if it changes afterwards, the
    computation raises a `FileError` that names it.

    Examples
    --------
    >>> import tempfile, numpy as np, tifffile
    >>> folder = tempfile.TemporaryDirectory()
    >>> for i in range(3):
    ...     tifffile.imwrite(f"{folder.name}/frame_{i}.tif", np.full((4, 5), i, "uint16"))
    >>> scan = open_scan(folder.name, motors={"lens_x [mm]": [0.0, 0.5, 1.0]})
    >>> dict(scan.sizes), scan.image.dtype, scan.lens_x.units
    ({'frame': 3, 'y': 4, 'x': 5}, dtype('uint16'), 'mm')
    >>> float(scan.image.isel(frame=2).mean())
    2.0
    >>> folder.cleanup()
    """
    files, format_ = find_files(source)
    if format_ is Format.HDF5:
        stack, columns, constants = _open_hdf5(files, scan)
    else:
        if scan is not None:
            raise InputError(
                f"scan={scan!r} with {format_.name} files", "Only HDF5 files hold several scans."
            )
        stack, columns, constants = _open_frames(files, format_, progress)
    if motors is not None:
        columns += given_columns(motors, n_frames=stack.shape[0])
    coords = {
        **_own_coordinates(stack),
        **coordinates(columns, n_frames=stack.shape[0], units=units or {}),
    }
    # An HDF5 file holds many scans: without its name, dask would take them for one.
    stamp = ([_stamp(path) for path in files], scan)
    image = labelled(lazy(stack, stamp=stamp, chunks=chunks), IMAGE, coords=coords)
    return xr.Dataset({IMAGE.name: image}, attrs=constants)


def input_files(scan: xr.Dataset | xr.DataArray) -> list[Path]:
    """Files that the frames of a scan come from, each once, in order of their first frame.

    Parameters
    ----------
    scan : xarray.Dataset or xarray.DataArray
        A scan, or a part of it, or what was computed frame by frame from it.

    Returns
    -------
    list of pathlib.Path
        Absolute paths.

    Raises
    ------
    InputError
        If `scan` does not say (``source_file`` is lost when frames are averaged).

    Examples
    --------
    >>> import tempfile, numpy as np, tifffile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tifffile.imwrite(f"{folder}/stack.tif", np.zeros((2, 4, 5), "uint16"))
    ...     [path.name for path in input_files(open_scan(folder))]
    ['stack.tif']
    """
    if SOURCE_FILE not in scan.coords:
        raise InputError(
            f"the scan has no coordinate {SOURCE_FILE!r}",
            "Ask before its frames are averaged, or open it with open_scan().",
        )
    return [Path(name) for name in dict.fromkeys(np.atleast_1d(scan[SOURCE_FILE].values).tolist())]


def _open_frames(
    files: Sequence[Path], format_: Format, progress: bool | None
) -> tuple[Stack, list[Column], dict[str, str]]:
    reader = READERS[format_]

    def read(path: Path) -> list[FrameRecord]:
        _check_not_empty(path)
        return reader(path)

    records: list[FrameRecord] = []
    workers = ThreadPoolExecutor(THREADS)
    try:
        with progress_bar("reading headers", len(files), show=progress) as advance:
            for of_file in workers.map(read, files):
                records += of_file
                advance(1)
    finally:
        # After an error the remaining files are of no interest.
        workers.shutdown(cancel_futures=True)
    return FrameStack([record.frame for record in records]), *gather(records)


def _open_hdf5(
    files: Sequence[Path], scan: str | None
) -> tuple[Stack, list[Column], dict[str, str]]:
    if len(files) > 1:
        raise InputError(
            f"{len(files)} HDF5 files, from {files[0]} to {files[-1]}",
            "Open one at a time, and join the scans with xarray.concat.",
        )
    _check_not_empty(files[0])
    found = read_hdf5(files[0], scan=scan)
    return found.stack, found.columns, found.constants


def _stamp(path: Path) -> tuple[str, int, int]:
    """Path, size and time of change: another stamp means another content."""
    with reading(path):
        status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


def _check_not_empty(path: Path) -> None:
    with reading(path):
        if path.stat().st_size == 0:
            raise CorruptFileError(f"{path} is empty (0 bytes)", "Leave it out of the scan.")


def _own_coordinates(stack: Stack) -> dict[str, xr.Variable]:
    paths = np.array([str(path) for path, _ in stack.origins], dtype=np.dtypes.StringDType())
    indices = np.array([index for _, index in stack.origins])
    return {
        SOURCE_FILE: xr.Variable(
            (FRAME,), paths, {UNITS: DIMENSIONLESS, LONG_NAME: "file of the frame"}
        ),
        SOURCE_INDEX: xr.Variable(
            (FRAME,), indices, {UNITS: DIMENSIONLESS, LONG_NAME: "number of the frame in its file"}
        ),
        Y: xr.Variable((Y,), np.arange(stack.shape[1]), POSITION_Y.attrs),
        X: xr.Variable((X,), np.arange(stack.shape[2]), POSITION_X.attrs),
    }
