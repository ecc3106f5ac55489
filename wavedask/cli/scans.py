"""Raw frames as tables: the output of `wavedask info` for a scan."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from wavedask.cli.words import SEVERAL, counted, file_size, setting, unit_suffix, value_range
from wavedask.conventions import (
    BAD_VALUES,
    BINNING,
    COUNTER,
    DETECTOR_DISTANCE,
    EXPOSURE_TIME,
    FRAME,
    HEADER,
    IMAGE,
    METRE,
    MOTOR,
    NOT_READ,
    PHOTON_ENERGY,
    PIXEL_MASK,
    PIXEL_SIZE_X,
    PIXEL_SIZE_Y,
    ROLE,
    SATURATION_VALUE,
    UNDERLOAD_VALUE,
    X,
    Y,
)
from wavedask.io import UNFINISHED, Format, ScanSummary, format_of, is_run_file
from wavedask.prefixes import prefixed
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
    described += _stated(scan)
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


def _stated(scan: xr.Dataset) -> Rows:
    """Describe what the files state about the detector and the photons."""
    rows: Rows = []
    attrs = scan[IMAGE.name].attrs
    sizes = [attrs[size.name] for size in (PIXEL_SIZE_Y, PIXEL_SIZE_X) if size.name in attrs]
    if sizes:
        factor, unit = prefixed(max(sizes), METRE)
        rows.append(("pixel size", " x ".join(f"{size * factor:g}" for size in sizes) + f" {unit}"))
    facts = (PHOTON_ENERGY, EXPOSURE_TIME, DETECTOR_DISTANCE)
    rows += [
        (name.replace("_", " "), f"{float(scan[name]):g}{unit_suffix(scan[name])}")
        for name in facts
        if name in scan.coords and scan[name].ndim == 0 and scan[name].attrs.get(ROLE) == HEADER
    ]
    if PIXEL_MASK in scan.coords:
        bad = int(scan[PIXEL_MASK].sum())
        rows.append(("pixel mask", counted(bad, "bad pixel")))
    rows += [
        (name.replace("_", " "), setting(attrs[name]))
        for name in (BAD_VALUES, SATURATION_VALUE, UNDERLOAD_VALUE, BINNING)
        if name in attrs
    ]
    if NOT_READ in scan.attrs:
        rows.append((NOT_READ.replace("_", " "), scan.attrs[NOT_READ]))
    return rows


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
        The name of a scan and its title, then its cameras and motors, obstacles, and what else
        could be opened, with the option that opens it.

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
    listed = list(scans)
    described: Rows = []
    for scan in listed:
        if scan.missing:
            described.append((scan.name, "in another file, which is missing"))
        elif scan.name != "/" or scan.cameras or scan.obstacles or scan.images:
            state = " (still running)" if scan.running else ""
            described.append((scan.name, f"{scan.title or 'no title'}{state}"))
            described += scan.cameras.items() or [("cameras", scan.broken or "none")]
        if scan.cameras:
            described.append(("motors that moved", ", ".join(scan.moving) or "none"))
        shown = 1 if scan.broken and not scan.missing else 0
        described += [("in the way", problem) for problem in scan.obstacles[shown:]]
        described += _offered("could be frames", scan.images, "--image '{}'")
        described += _offered("not taken", scan.others, "--motor NAME={}")
    cameras = [name for scan in listed for name in scan.cameras]
    if len(cameras) > 1:
        described.append(("open one with", f"--scan {cameras[0]}"))
    return described or [("scans", "none")]


def _offered(noun: str, places: Mapping[str, str], option: str) -> Rows:
    """Name datasets of a file, each with the option that uses it."""
    rows = [
        (noun, f"{place} ({shape}): {option.format(place)}")
        for place, shape in list(places.items())[:SEVERAL]
    ]
    more = len(places) - len(rows)
    return [*rows, (noun, f"{more} more")] if more else rows
