"""Scans, stores and plans in words: rows of a name and a value, for tables."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from wavedask.conventions import (
    COMPLETE,
    COUNTER,
    DIMENSIONLESS,
    FRAME,
    IMAGE,
    LONG_NAME,
    MOTOR,
    PIXEL,
    QUANTITIES,
    ROLE,
    SCAN,
    UNITS,
    UNKNOWN_UNIT,
    X,
    Y,
)
from wavedask.experiment import BLIND_PIXELS, REGISTRATION, Stages, plan, recorded
from wavedask.io import UNFINISHED, Format, ScanSummary, format_of, is_run_file
from wavedask.paths import expanded
from wavedask.prefixes import prefixed
from wavedask.store import (
    CREATED,
    INPUTS,
    METADATA,
    RUNS,
    SETTINGS,
    URL,
    VERSION,
    VERSIONS,
    Soundness,
    differences,
    open_store,
    place_of,
)

Rows = list[tuple[str, str]]

SEVERAL: Final = 8
"""Names in a row, where there are many: a line of a terminal or two."""
BARE: Final = frozenset({UNKNOWN_UNIT, DIMENSIONLESS})
"""Units that are not worth a word."""


def is_store(path: str | Path) -> bool:
    """Whether a path is a Zarr group rather than raw frames.

    Examples
    --------
    >>> is_store("sample_0000.edf")
    False
    """
    try:
        if URL.match(str(path)):
            return place_of(str(path)).document() is not None
        return (expanded(path) / METADATA).is_file()
    except OSError:
        # Who opens it next tells why.
        return False


def describe_scan(scan: xr.Dataset, *, everything: bool = False) -> Rows:
    """Describe raw frames: how many, how large, which motors moved, how they are chunked.

    Parameters
    ----------
    scan : xarray.Dataset
        As of `wavedask.open_scan`.
    everything : bool, default False
        Whether to list the motors that stand still and all counters, too.

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
        ("size", _bytes(image.nbytes)),
        (
            "chunks",
            f"{image.data.npartitions} of {' x '.join(map(str, block))} "
            f"({FRAME}, {Y}, {X}), {_bytes(int(np.prod(block)) * size)} each",
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
    described += [(name, _range(coord)) for name, coord in motors]
    counters = [name for name, coord in moving if coord.attrs[ROLE] == COUNTER]
    if counters:
        shown = counters if everything else counters[:SEVERAL]
        more = len(counters) - len(shown)
        words = ", ".join(shown) + (f" and {more} more" if more else "")
        described.append(("counters that changed", words))
    described.append(("motors that stood still", str(len(still))))
    if everything:
        described += [(name, f"{float(coord):g}{_unit(coord)}") for name, coord in still]
    return described


def hdf5_file(path: str | Path) -> bool:
    """Whether a path is an HDF5 file that holds scans; a run of the European XFEL is one itself.

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
        As of `wavedask.io.hdf5.list_scans`.

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


def describe_store(path: str | Path) -> Rows:
    """Describe a result store: what is complete, motors, axes, variables, settings, origin.

    Parameters
    ----------
    path : path
        The store.

    Returns
    -------
    list of (str, str)

    Raises
    ------
    StoreError
        Not a result store.
    """
    stored = open_store(path)
    frames = stored.sizes[FRAME]
    complete = int(stored[COMPLETE.name].sum())
    state = "finished" if complete == frames else "not finished: run the same again to resume"
    described: Rows = [("frames", f"{frames}, {complete} complete ({state})")]
    described += [
        (str(name), _range(coord))
        for name, coord in stored.coords.items()
        if coord.attrs.get(ROLE) == MOTOR and coord.dims == (FRAME,)
    ]
    described += [(f"axis {dim}", _axis(stored[dim])) for dim in (Y, X) if dim in stored.coords]
    described += [
        (name, _meaning(stored[name]))
        for name in sorted(map(str, stored.data_vars), key=_place_of(QUANTITIES))
    ]
    described += _settings(stored.attrs[SETTINGS])
    if REGISTRATION in stored.attrs:
        described.append(("near detector on the far one", stored.attrs[REGISTRATION]))
    if BLIND_PIXELS in stored.attrs:
        described.append(("flat pixels without beam", str(stored.attrs[BLIND_PIXELS])))
    return [
        *described,
        ("input", _counted(len(stored.attrs[INPUTS]), "file")),
        ("written by", f"wavedask {stored.attrs[VERSION]}, {stored.attrs[CREATED]}"),
    ]


def describe_history(path: str | Path) -> Rows:
    """Describe how a result store came about: runs, settings, versions, inputs, calibration.

    Parameters
    ----------
    path : path or URL
        The store.

    Returns
    -------
    list of (str, str)

    Raises
    ------
    StoreError
        Not a result store.
    """
    attributes = recorded(path)
    described: Rows = []
    settings: Mapping[str, Any] = {}
    for number, entry in enumerate(attributes.get(RUNS, [attributes])):
        scan = f", adds scan {entry[SCAN]}" if SCAN in entry else ", resumes"
        frames = _counted(entry["frames"], FRAME) if "frames" in entry else "frames unknown"
        started = entry.get("started", attributes[CREATED])
        described.append((f"run {number}", f"{started}, {frames}{scan}"))
        changed = differences(settings, entry[SETTINGS]) if number else []
        described += [("  changed", line) for line in changed]
        settings = entry[SETTINGS]
        libraries = ", ".join(f"{name} {v}" for name, v in entry.get(VERSIONS, {}).items())
        described.append(("  versions", libraries))
    described += _settings(attributes[SETTINGS])
    inputs = attributes[INPUTS]
    size = sum(item["size"] for item in inputs)
    hashed = sum("sha256" in item for item in inputs)
    kept = f", {hashed} with SHA-256" if hashed else ""
    described.append(("inputs", f"{_counted(len(inputs), 'file')}, {_bytes(size)}{kept}"))
    described += [("  input", _input(item)) for item in inputs]
    return described


def describe_soundness(found: Soundness) -> Rows:
    """Describe what has changed or been lost since a store was written.

    Parameters
    ----------
    found : Soundness
        As of `wavedask.store.integrity.verify`.

    Returns
    -------
    list of (str, str)
    """
    rows = [("inputs now", "; ".join(found.changed) or "unchanged")]
    if not found.lost:
        rows.append(("results now", "all there"))
    for name, frames in found.lost.items():
        shown = ", ".join(map(str, frames[:SEVERAL])) + (", ..." if len(frames) > SEVERAL else "")
        of = _counted(len(frames), FRAME)
        remedy = "copy the store again, or compute them anew by 'wavedask run --repair'"
        rows.append(("LOST", f"{name} of {of} ({shown}): {remedy}"))
    return rows


def _settings(settings: Mapping[str, Any]) -> Rows:
    """Describe settings, a row for each section; what is not set is left out."""
    return [(f"settings, {key}", _setting(value)) for key, value in settings.items() if value]


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return _listed(value) if isinstance(value, Mapping) else str(value)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _input(item: Mapping[str, Any]) -> str:
    when = np.datetime64(item["mtime_ns"], "ns").astype("datetime64[s]")
    digest = f", sha256 {item['sha256']}" if "sha256" in item else ""
    behind = f", behind {Path(item['of']).name}" if "of" in item else ""
    return f"{item['path']}{behind}, {item['size']} bytes, {when}Z{digest}"


def describe_plan(prepared: Stages) -> Rows:
    """Describe what a run will take, before it starts.

    Parameters
    ----------
    prepared : Stages
        As of `wavedask.experiment.stages_of`.

    Returns
    -------
    list of (str, str)
    """
    asked = plan(prepared)
    return [
        ("frames", f"{asked.frames} of {asked.shape[0]} x {asked.shape[1]} px"),
        ("input", f"{_bytes(asked.bytes_input)} in {_counted(asked.files, 'file')}"),
        ("blocks", f"{asked.blocks} of {' x '.join(map(str, asked.block_shape))}"),
        ("tasks", f"about {asked.tasks:,}"),
        (
            "memory",
            f"about {_bytes(asked.bytes_per_task)} per block at work, one per worker, and "
            f"{_bytes(asked.bytes_libraries)} for the libraries of each process",
        ),
        ("output", f"{_bytes(asked.bytes_output)} before compression"),
        ("variables", ", ".join(map(str, prepared.result.data_vars))),
    ]


def _place_of(names: Iterable[str]) -> Callable[[str], tuple[int, str]]:
    """Key that sorts as `names` are, and what is not among them behind, by name."""
    places = {name: place for place, name in enumerate(names)}
    return lambda name: (places.get(name, len(places)), name)


def _meaning(variable: xr.DataArray) -> str:
    """Say what a variable is, its unit, and its dimensions where they are not those of a stack."""
    unit = str(variable.attrs.get(UNITS, UNKNOWN_UNIT))
    words = [str(variable.attrs.get(LONG_NAME, "")), "" if unit in BARE else f"[{unit}]"]
    if variable.ndim == 0 and variable.dtype.kind == "f":
        scale, prefixed_unit = prefixed(abs(float(variable)), unit)
        return f"{words[0]}: {float(variable) * scale:.6g} {'' if unit in BARE else prefixed_unit}"
    if variable.dims != (FRAME, Y, X):
        words.append(f"({', '.join(map(str, variable.dims))})")
    return " ".join(filter(None, words))


def _axis(positions: xr.DataArray) -> str:
    """Range and number of the pixels along an axis."""
    values = np.asarray(positions.values, np.float64)
    scale, unit = prefixed(float(np.abs(values).max()), str(positions.attrs.get(UNITS, PIXEL)))
    return f"{values[0] * scale:.4g} … {values[-1] * scale:.4g} {unit}, {values.size} px"


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items() if value not in (None, {}))


def _unit(array: xr.DataArray) -> str:
    unit = array.attrs.get(UNITS, UNKNOWN_UNIT)
    return "" if unit in BARE else f" {unit}"


def _range(coord: xr.DataArray) -> str:
    values = np.unique(coord.values[np.isfinite(coord.values)])
    if not values.size:
        return "no number"
    unknown = int((~np.isfinite(coord.values)).sum())
    gaps = f", unknown in {unknown} frames" if unknown else ""
    return f"{values[0]:g} … {values[-1]:g}{_unit(coord)} ({values.size} values{gaps})"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
