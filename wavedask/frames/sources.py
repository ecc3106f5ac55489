"""Raw frames that a result was made from: frame by frame, or as a summary."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import (
    DIMENSIONLESS,
    FRAME,
    LONG_NAME,
    REFERENCE_DATASET,
    REFERENCE_FILE,
    REFERENCE_INDEX,
    SOURCE_DATASET,
    SOURCE_FILE,
    SOURCE_INDEX,
    STACK_FRAMES,
    UNITS,
)
from wavedask.io import Format, files_behind_each, format_of

Labelled: TypeAlias = xr.Dataset | xr.DataArray
Sources: TypeAlias = dict[str, Any]
"""Numbers of frames, as ``"0-9, 12"``, by file; in an HDF5 file by dataset below it."""

ORIGIN: Final = (SOURCE_FILE, SOURCE_DATASET, SOURCE_INDEX)
"""Coordinates that identify a raw frame; the second exists for HDF5 files only."""
REFERENCE_NAMES: Final = {
    SOURCE_FILE: REFERENCE_FILE,
    SOURCE_DATASET: REFERENCE_DATASET,
    SOURCE_INDEX: REFERENCE_INDEX,
}


def sources_of(scan: Labelled) -> Sources:
    """Summarise the files and frame numbers that a scan comes from.

    Parameters
    ----------
    scan : xarray.Dataset or xarray.DataArray
        A scan, with its coordinates ``source_file`` and ``source_index``.

    Returns
    -------
    dict
        Frame numbers by file, in the order of the scan; for HDF5 files by dataset.

    Examples
    --------
    >>> files = np.array(["a.edf", "b.edf", "b.edf", "b.edf"])
    >>> scan = xr.Dataset(
    ...     coords={"source_file": ("frame", files), "source_index": ("frame", [0, 0, 1, 7])}
    ... )
    >>> sources_of(scan)
    {'a.edf': '0', 'b.edf': '0-1, 7'}
    """
    files, datasets, indices = (
        np.atleast_1d(scan[name].values).tolist() if name in scan.coords else None
        for name in ORIGIN
    )
    numbers: dict[tuple[str, ...], list[int]] = {}
    for k, (file, index) in enumerate(zip(files or (), indices or (), strict=True)):
        place = (str(file),) if datasets is None else (str(file), str(datasets[k]))
        numbers.setdefault(place, []).append(index)
    found: Sources = {}
    for (file, *dataset), own in numbers.items():
        if dataset:
            found.setdefault(file, {})[dataset[0]] = _ranges(own)
        else:
            found[file] = _ranges(own)
    return found


def _ranges(numbers: list[int]) -> str:
    """Format numbers in their order, with ranges for consecutive ones."""
    ordered = np.asarray(numbers)
    runs = np.split(ordered, np.flatnonzero(np.diff(ordered) != 1) + 1)
    return ", ".join(f"{run[0]}" if run.size == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def reference_coordinates(references: Labelled) -> dict[str, xr.Variable]:
    """Return coordinates that name the reference frame of each tracked frame.

    Parameters
    ----------
    references : xarray.Dataset or xarray.DataArray, dims (frame, ...)
        One reference for each frame.

    Returns
    -------
    dict of str to xarray.Variable
        ``reference_file`` and ``reference_index``; empty if `references` do not have them.
    """
    words = {SOURCE_FILE: "file", SOURCE_DATASET: "dataset", SOURCE_INDEX: "number in its file"}
    return {
        new: xr.Variable(
            (FRAME,),
            references[old].values,
            {UNITS: DIMENSIONLESS, LONG_NAME: f"{words[old]} of the reference"},
        )
        for old, new in REFERENCE_NAMES.items()
        if old in references.coords and references[old].dims == (FRAME,)
    }


def stack_coordinates(scan: Labelled) -> dict[str, xr.Variable]:
    """Return coordinates that name the raw frames of a stack, which is one frame of a result.

    Parameters
    ----------
    scan : xarray.Dataset or xarray.DataArray
        Frames of the stack.

    Returns
    -------
    dict of str to xarray.Variable
        Coordinates along ``frame``, of length 1: the origin of the first frame, and
        ``stack_frames``, all frames as the JSON of `sources_of`.
    """
    first = {
        name: scan[name].variable[:1].copy(deep=False)
        for name in ORIGIN
        if name in scan.coords and scan[name].dims == (FRAME,)
    }
    text = np.array([json.dumps(sources_of(scan))], dtype=object)
    attrs = {UNITS: DIMENSIONLESS, LONG_NAME: "frames of the stack"}
    return {**first, STACK_FRAMES: xr.Variable((FRAME,), text, attrs)}


def frame_files(result: xr.Dataset) -> set[str]:
    """Find the files with the raw frames of the single frames of a result.

    Parameters
    ----------
    result : xarray.Dataset
        A result or a store. Files that all frames share, such as a flat, are not included.

    Returns
    -------
    set of str
        Paths.
    """
    found: set[str] = set()
    for name in (SOURCE_FILE, REFERENCE_FILE):
        if name in result.coords:
            found |= set(map(str, np.atleast_1d(result[name].values).tolist()))
    if STACK_FRAMES in result.coords:
        for text in np.atleast_1d(result[STACK_FRAMES].values).tolist():
            # Empty where a scan without stacks was added.
            found |= set(json.loads(text or "{}"))
    return found


def behind_inputs(
    inputs: Iterable[str | Path], result: xr.Dataset, shared: Mapping[str, Sources]
) -> dict[Path, list[Path]]:
    """Find the files behind HDF5 masters that hold the frames.

    Parameters
    ----------
    inputs : iterable of str or Path
        Files that a result was made from.
    result : xarray.Dataset
        A result with the coordinates of its raw frames.
    shared : mapping
        Raw frames that all frames depend on, by role: each from `sources_of`.

    Returns
    -------
    dict of pathlib.Path to list of pathlib.Path
        Targets of links and virtual datasets, in order, by master.

    Raises
    ------
    FileError
        A master that can no longer be read.
    """
    datasets = _datasets_of(result, shared)
    return {
        path: files_behind_each(path, datasets[str(path)])
        for path in {Path(path).absolute() for path in inputs}
        if str(path) in datasets and format_of(path) is Format.HDF5 and path.is_file()
    }


def _datasets_of(result: xr.Dataset, shared: Mapping[str, Sources]) -> dict[str, set[str]]:
    """Datasets that hold the frames of a result, by file."""
    found: dict[str, set[str]] = {}
    for names in ((SOURCE_FILE, SOURCE_DATASET), (REFERENCE_FILE, REFERENCE_DATASET)):
        if all(name in result.coords for name in names):
            columns = (np.atleast_1d(result[name].values).tolist() for name in names)
            for file, dataset in zip(*columns, strict=True):
                found.setdefault(str(file), set()).add(str(dataset))
    stacks = result[STACK_FRAMES].values.tolist() if STACK_FRAMES in result.coords else []
    # Roles may be nested; below them are files, then datasets, then frame numbers.
    nested = [shared, *(json.loads(text or "{}") for text in stacks)]
    for sources in nested:
        for file, below in sources.items():
            if isinstance(below, Mapping):
                nested.append(below)
                found.setdefault(file, set()).update(map(str, below))
    return found


def origins_of(result: xr.Dataset, names: Iterable[str]) -> list[tuple[Any, ...]]:
    """List the values that identify each frame of a result."""
    columns = [result[name].values.tolist() for name in names]
    return list(zip(*columns, strict=True))


def without_keys(nested: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return nested settings without some keys.

    Parameters
    ----------
    nested : mapping
        Settings.
    names : iterable of str
        Keys; a dot leads into a section.

    Examples
    --------
    >>> without_keys({"near": {"files": "*.edf", "dark": "d.edf"}, "a": 1}, ["near.files", "a"])
    {'near': {'dark': 'd.edf'}}
    """
    kept = dict(nested)
    for name in names:
        key, _, rest = name.partition(".")
        if rest and isinstance(kept.get(key), Mapping):
            kept[key] = without_keys(kept[key], [rest])
        elif not rest:
            kept.pop(key, None)
    return kept


def positions_of(
    there: list[tuple[Any, ...]], here: list[tuple[Any, ...]]
) -> tuple[NDArray[np.intp], int]:
    """Find the position of each frame in a store; new frames follow at the end and are counted."""
    at = {key: position for position, key in enumerate(there)}
    fresh = [key for key in here if key not in at]
    at |= {key: len(there) + k for k, key in enumerate(fresh)}
    return np.array([at[key] for key in here], np.intp), len(fresh)
