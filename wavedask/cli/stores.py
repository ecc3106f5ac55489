"""Result stores as tables: the output of `wavedask info` and `wavedask history`."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from wavedask.cli.words import (
    BARE,
    SEVERAL,
    axis_range,
    counted,
    file_size,
    setting,
    value_range,
)
from wavedask.conventions import (
    COMPLETE,
    FRAME,
    LONG_NAME,
    MOTOR,
    QUANTITIES,
    ROLE,
    SCAN,
    UNITS,
    UNKNOWN_UNIT,
    X,
    Y,
)
from wavedask.experiment import BLIND_PIXELS, REGISTRATION, recorded
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
from wavedask.tables import Rows
from wavedask.tracking import ResidualReport


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
        # The next step opens the path, and its error says why this failed.
        return False


def describe_store(path: str | Path) -> Rows:
    """Describe a result store: complete frames, motors, axes, variables, settings, inputs.

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
    stored = open_store(path)
    frames = stored.sizes[FRAME]
    complete = int(stored[COMPLETE.name].sum())
    state = (
        "finished" if complete == frames else "not finished: run the same command again to resume"
    )
    described: Rows = [("frames", f"{frames}, {complete} complete ({state})")]
    described += [
        (str(name), value_range(coord))
        for name, coord in stored.coords.items()
        if coord.attrs.get(ROLE) == MOTOR and coord.dims == (FRAME,)
    ]
    described += [
        (f"axis {dim}", axis_range(stored[dim])) for dim in (Y, X) if dim in stored.coords
    ]
    described += [
        (name, _meaning(stored[name]))
        for name in sorted(map(str, stored.data_vars), key=_place_of(QUANTITIES))
    ]
    described += _settings(stored.attrs[SETTINGS])
    residual = ResidualReport.of_attrs(stored.attrs)
    if residual is not None:
        described += [(f"first frame, {name}", value) for name, value in residual.rows]
    if REGISTRATION in stored.attrs:
        described.append(("near detector on the far one", stored.attrs[REGISTRATION]))
    if BLIND_PIXELS in stored.attrs:
        described.append(("flat pixels without beam", str(stored.attrs[BLIND_PIXELS])))
    return [
        *described,
        ("input", counted(len(stored.attrs[INPUTS]), "file")),
        ("written by", f"wavedask {stored.attrs[VERSION]}, {stored.attrs[CREATED]}"),
    ]


def describe_history(path: str | Path) -> Rows:
    """Describe the history of a result store: runs, settings, versions, inputs.

    Parameters and errors are those of `describe_store`.
    """
    attributes = recorded(path)
    described: Rows = []
    settings: Mapping[str, Any] = {}
    for number, entry in enumerate(attributes.get(RUNS, [attributes])):
        scan = f", adds scan {entry[SCAN]}" if SCAN in entry else ", resumes"
        frames = counted(entry["frames"], FRAME) if "frames" in entry else "frames unknown"
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
    described.append(("inputs", f"{counted(len(inputs), 'file')}, {file_size(size)}{kept}"))
    described += [("  input", _input(item)) for item in inputs]
    return described


def describe_soundness(found: Soundness) -> Rows:
    """Describe what has changed or is lost since a store was written.

    Parameters
    ----------
    found : Soundness
        As from `wavedask.store.verify`.

    Returns
    -------
    list of (str, str)
    """
    rows = [("inputs now", "; ".join(found.changed) or "unchanged")]
    if not found.lost:
        rows.append(("results now", "nothing is lost"))
    for name, frames in found.lost.items():
        shown = ", ".join(map(str, frames[:SEVERAL])) + (", ..." if len(frames) > SEVERAL else "")
        of = counted(len(frames), FRAME)
        remedy = "copy the store again, or compute these frames again with 'wavedask run --repair'"
        rows.append(("LOST", f"{name} of {of} ({shown}): {remedy}"))
    return rows


def _settings(settings: Mapping[str, Any]) -> Rows:
    """Describe settings, one row per section; unset ones are left out."""
    return [(f"settings, {key}", setting(value)) for key, value in settings.items() if value]


def _input(item: Mapping[str, Any]) -> str:
    when = np.datetime64(item["mtime_ns"], "ns").astype("datetime64[s]")
    digest = f", sha256 {item['sha256']}" if "sha256" in item else ""
    behind = f", behind {Path(item['of']).name}" if "of" in item else ""
    return f"{item['path']}{behind}, {item['size']} bytes, {when}Z{digest}"


def _place_of(names: Iterable[str]) -> Callable[[str], tuple[int, str]]:
    """Sort key: the order of `names` first, then all other names in alphabetical order."""
    places = {name: place for place, name in enumerate(names)}
    return lambda name: (places.get(name, len(places)), name)


def _meaning(variable: xr.DataArray) -> str:
    """Describe a variable: name, unit, and dimensions where they are not (frame, y, x)."""
    unit = str(variable.attrs.get(UNITS, UNKNOWN_UNIT))
    words = [str(variable.attrs.get(LONG_NAME, "")), "" if unit in BARE else f"[{unit}]"]
    if variable.ndim == 0 and variable.dtype.kind == "f":
        scale, prefixed_unit = prefixed(abs(float(variable)), unit)
        return f"{words[0]}: {float(variable) * scale:.6g} {'' if unit in BARE else prefixed_unit}"
    if variable.dims != (FRAME, Y, X):
        words.append(f"({', '.join(map(str, variable.dims))})")
    return " ".join(filter(None, words))
