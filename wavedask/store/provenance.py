"""Provenance of a result as JSON: equal for equal settings and inputs."""

import dataclasses
import datetime
import enum
import functools
import hashlib
import importlib.metadata
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from wavedask.errors import FileError, InputError

LIBRARIES: Final = ("numpy", "dask", "xarray", "zarr", "numba", "scipy")
"""Libraries, besides OpenCV, whose versions are stored with a result."""


def as_json(value: Any, *, where: str = "settings") -> Any:
    """Convert settings to JSON types: dictionaries, lists, texts, numbers, true, false, none.

    Equal settings give equal JSON, independent of their Python types.

    Parameters
    ----------
    value : object
        Mapping, dataclass, sequence, set, small array, number, text, path, date or enumeration;
        they may be nested.
    where : str, default "settings"
        Name of `value` in error messages.

    Returns
    -------
    object
        The same value in JSON types. NaN and infinities become texts: JSON has none.

    Raises
    ------
    InputError
        A value of another type, or a key that is not a text.

    Examples
    --------
    >>> as_json({"search": np.int64(16), "files": (Path("a.edf"),), "clip": float("inf")})
    {'search': 16, 'files': ['a.edf'], 'clip': 'inf'}
    """
    if isinstance(value, enum.Enum):
        return as_json(value.value, where=where)
    if isinstance(value, (np.generic, np.ndarray)) and value.dtype.kind not in "mM":
        return as_json(value.tolist(), where=where)
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (Path, np.datetime64, np.timedelta64)):
        return str(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        own = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return as_json(own, where=where)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InputError(f"{where} has the key {key!r}", "Give keys that are texts.")
        return {key: as_json(item, where=f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((as_json(item, where=where) for item in value), key=repr)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return [as_json(item, where=f"{where}[{index}]") for index, item in enumerate(value)]
    raise InputError(
        f"{where} is a {type(value).__name__}, which cannot be stored",
        "Give numbers, texts, paths, dates, and lists or dictionaries of these.",
    )


def fingerprints(
    inputs: Iterable[str | Path],
    *,
    behind: Mapping[Path, Sequence[Path]] | None = None,
    hashed: bool = False,
) -> list[dict[str, Any]]:
    """Record path, size and time of modification of the input files.

    Parameters
    ----------
    inputs : iterable of str or Path
        Files.
    behind : mapping of Path to sequence of Path, optional
        For each file the files that it links to, as `wavedask.frames.behind_inputs` returns them:
        an HDF5 master does not change when its linked images do.
    hashed : bool, default False
        Whether to add the SHA-256 of the contents, for which the files are read.

    Returns
    -------
    list of dict
        ``path`` (absolute), ``size`` (bytes) and ``mtime_ns`` of each file, once and in the given
        order; with `hashed` also ``sha256``. The files `behind` the inputs follow, with ``of``, the
        path of the file that links to them.

    Raises
    ------
    FileError
        A file does not exist or cannot be read.

    Examples
    --------
    >>> sorted(fingerprints([__file__])[0])
    ['mtime_ns', 'path', 'size']
    """
    found = []
    # One file may hold frames of several roles.
    leads: dict[Path, Path | None] = {Path(path).absolute(): None for path in inputs}
    for master in list(leads):
        for path in (behind or {}).get(master, ()):
            leads.setdefault(path, master)
    for path, leading in leads.items():
        try:
            status = path.stat()
            entry: dict[str, Any] = {
                "path": str(path),
                "size": status.st_size,
                "mtime_ns": status.st_mtime_ns,
            }
            if hashed:
                with path.open("rb") as file:
                    entry["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise FileError(
                f"input file {path} cannot be read: {error.strerror}",
                "Check that it is still there and that you may read it.",
            ) from error
        if leading is not None:
            entry["of"] = str(leading)
        found.append(entry)
    return found


def changes(stored: Iterable[Mapping[str, Any]]) -> list[str]:
    """List the input files that have changed.

    Parameters
    ----------
    stored : iterable of mapping
        The result of `fingerprints`. If it holds a hash, contents are compared instead of times.

    Returns
    -------
    list of str
        A line for each file that is missing or has changed.

    Examples
    --------
    >>> changes(fingerprints([__file__]))
    []
    """
    found = []
    for item in stored:
        hashed = "sha256" in item
        try:
            (now,) = fingerprints([item["path"]], hashed=hashed)
        except FileError as error:
            found.append(error.problem)
            continue
        keys = ("size", "sha256") if hashed else ("size", "mtime_ns")
        found += [
            f"{item['path']} has {key} {now[key]}, not {item[key]}"
            for key in keys
            if now[key] != item[key]
        ][:1]
    return found


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python, and of the libraries that affect a result.

    Returns
    -------
    dict
        Version by name.

    Examples
    --------
    >>> versions()["numpy"] == np.__version__
    True
    """
    # OpenCV is distributed under several names.
    return {**_installed(), "opencv": cv2.__version__, "python": platform.python_version()}


@functools.cache
def _installed() -> Mapping[str, str]:
    """Read the versions once: they are those of what this process has imported."""
    return {name: importlib.metadata.version(name) for name in ("wavedask", *LIBRARIES)}


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """List the differences between two nested dictionaries, one line each.

    Parameters
    ----------
    stored : mapping The existing values.
    asked : mapping The requested values.

    Returns
    -------
    list of str
        ``"key.inner is 1 there and 2 here"``, in the order of the keys; empty if all is equal.

    Examples
    --------
    >>> differences({"track": {"window": 21}}, {"track": {"window": 15}, "energy": 17.0})
    ['track.window is 21 there and 15 here', 'energy is absent there and 17.0 here']
    """
    there, here = _flat(stored), _flat(asked)
    return [
        f"{key} is {_shown(there, key)} there and {_shown(here, key)} here"
        for key in {**there, **here}
        if key not in there or key not in here or there[key] != here[key]
    ]


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Map dotted keys to values; an empty dictionary is a value."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _shown(flat: Mapping[str, Any], key: str) -> str:
    return repr(flat[key]) if key in flat else "absent"
