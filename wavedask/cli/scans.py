"""Raw frames as tables: the output of `wavedask info` for a scan."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xarray as xr

from wavedask.cli.words import SEVERAL, file_size, unit_suffix, value_range
from wavedask.conventions import (
    COUNTER,
    FRAME,
    IMAGE,
    MOTOR,
    ROLE,
    X,
    Y,
)
from wavedask.io import UNFINISHED, Format, ScanSummary, format_of, is_run_file
from wavedask.tables import Rows


def describe_scan(scan: xr.Dataset, *, everything: bool = False) -> Rows:
    """Describe raw frames: number, size, motors that moved, chunks.

    Parameters
    ----------
    scan : xarray.Dataset
        As from `wavedask.open_scan`.
    everything : bool, default False
        Whether to list also the fixed motors and all counters.

    Returns
    -------
    list of (str, str)

    Examples
    --------
    >>> import tempfile
    >>> from wavedask.simulate import Lens, write_campaign
    >>> from wavedask.io import open_scan
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     campaign = write_campaign(folder, lens=Lens(50e-6, 1.2e-6), shape=(32, 32))
    ...     dict(describe_scan(open_scan(campaign.sample)))["lens_x"]
    '0 … 0.02 (2 values)'
    """
    image = scan[IMAGE.name]
    unfinished = [(UNFINISHED, scan.attrs[UNFINISHED])] if UNFINISHED in scan.attrs else []
    frames, rows, columns = image.shape
    block = image.data.chunksize
    size = image.dtype.itemsize
    described: Rows = [
        ("frames", str(frames)),
        *unfinished,
        ("frame size", f"{rows} x {columns} px, {image.dtype.name}"),
        ("size", file_size(image.nbytes)),
        (
            "chunks",
            f"{image.data.npartitions} of {' x '.join(map(str, block))} "
            f"({FRAME}, {Y}, {X}), {file_size(int(np.prod(block)) * size)} each",
        ),
    ]
    moving = [
        (str(name), coord)
        for name, coord in scan.coords.items()
        if coord.attrs.get(ROLE) in (MOTOR, COUNTER) and coord.dims == (FRAME,)
    ]
    still = [
        (str(name), coord)
        for name, coord in scan.coords.items()
        if coord.attrs.get(ROLE) == MOTOR and coord.ndim == 0
    ]
    motors = [item for item in moving if item[1].attrs[ROLE] == MOTOR]
    described.append(("motors that moved", str(len(motors))))
    described += [(name, value_range(coord)) for name, coord in motors]
    counters = [name for name, coord in moving if coord.attrs[ROLE] == COUNTER]
    if counters:
        shown = counters if everything else counters[:SEVERAL]
        more = len(counters) - len(shown)
        words = ", ".join(shown) + (f" and {more} more" if more else "")
        described.append(("counters that changed", words))
    described.append(("motors that stood still", str(len(still))))
    if everything:
        described += [(name, f"{float(coord):g}{unit_suffix(coord)}") for name, coord in still]
    return described


def hdf5_file(path: str | Path) -> bool:
    """Whether a path is an HDF5 file with scans. A European XFEL file belongs to one run.

    Examples
    --------
    >>> hdf5_file("sample_0000.edf")
    False
    """
    file = Path(path)
    return format_of(file) is Format.HDF5 and file.is_file() and not is_run_file(file)


def describe_scans(scans: Iterable[ScanSummary]) -> Rows:
    """Describe the scans of an HDF5 file: titles, cameras, motors that moved.

    Parameters
    ----------
    scans : iterable of ScanSummary
        As from `wavedask.io.list_scans`.

    Returns
    -------
    list of (str, str)
        The name of a scan and its title, then its cameras and motors.

    Examples
    --------
    >>> import tempfile
    >>> from wavedask.io.hdf5 import list_scans
    >>> from wavedask.simulate.writers import Exposure, FrameWriter
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     frame = np.zeros((8, 9), "uint16")
    ...     frames = [Exposure(frame, {"lens_x": n}) for n in range(3)]
    ...     source = FrameWriter(folder, file_format="hdf5").write("lens scan", frames).source
    ...     for name, value in describe_scans(list_scans(Path(source))):
    ...         print(f"{name}: {value}")
    1.1: lens scan
    1.1/instrument/pco/data: 3 frames of 8 x 9 px, uint16, bitshuffle
    motors that moved: lens_x
    """
    described: Rows = []
    for scan in scans:
        if scan.missing:
            described.append((scan.name, "in another file, which is missing"))
            continue
        state = " (still running)" if scan.running else ""
        described.append((scan.name, f"{scan.title or 'no title'}{state}"))
        described += scan.cameras.items() or [("cameras", scan.broken or "none")]
        if not scan.broken:
            described.append(("motors that moved", ", ".join(scan.moving) or "none"))
    return described or [("scans", "none")]
