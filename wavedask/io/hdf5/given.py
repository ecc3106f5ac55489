"""Datasets that the user names by their path, and what was probably meant where there is none."""

import difflib
import fnmatch
import glob
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from wavedask.conventions import UNKNOWN_UNIT
from wavedask.errors import FileError, InputError
from wavedask.io.columns import Column
from wavedask.io.files import natural_key
from wavedask.io.hdf5.access import is_numeric, unit_of, values_of
from wavedask.io.hdf5.links import MOST_OBJECTS, Obstacles, follow, members
from wavedask.io.motors import titled_column

LISTED: Final = 5
"""Datasets that a message names."""


def within(file: h5py.File, scan: str | None, name: str) -> str:
    """Path from the root of what is named from a scan, or from the root.

    Parameters
    ----------
    file : h5py.File
        The open file.
    scan : str or None
        The scan, if one is chosen.
    name : str
        Path from there; one from the root is left as it is, where there is something.

    Returns
    -------
    str
        Without slashes at its ends.
    """
    full = name.strip("/")
    inside = scan is not None and f"/{full}/".startswith(f"/{scan.strip('/')}/")
    if scan is None or (inside and _is_there(file, full)):
        return full
    return f"{scan.strip('/')}/{full}"


def find_dataset(
    file: h5py.File, name: str, path: Path, *, argument: str, axes: int = 0
) -> h5py.Dataset:
    """Return a dataset by its path.

    Parameters
    ----------
    file : h5py.File
        The open file.
    name : str
        Path of the dataset from the root.
    path : pathlib.Path
        The file.
    argument : str
        What was given, such as ``image='/data'``, for the message.
    axes : int, default 0
        Axes that a dataset has at least that may have been meant.

    Returns
    -------
    h5py.Dataset

    Raises
    ------
    FileError
        If the path leads to another file, which is missing.
    InputError
        If there is no such dataset; the message names the nearest ones.
    """
    try:
        item = follow(file, name)
    except FileError as error:
        _, kept, where = error.problem.partition(" is kept in ")
        raise FileError(f"{path}: {argument}{kept}{where}", error.remedy) from error
    if isinstance(item, h5py.Dataset):
        return item
    what = "is a group" if item is not None else "is not there"
    known = {
        path: item.shape for path, item in all_datasets(file).items() if len(item.shape) >= axes
    }
    raise InputError(f"{path}: {argument} {what}", _suggestion(name, known, item))


def find_frames(file: h5py.File, name: str, path: Path, *, argument: str) -> h5py.Dataset:
    """Return a dataset that can be frames.

    Parameters
    ----------
    file : h5py.File
        The open file.
    name : str
        Path of the dataset from the root.
    path : pathlib.Path
        The file.
    argument : str
        What was given, for the message.

    Returns
    -------
    h5py.Dataset

    Raises
    ------
    InputError
        If there is no such dataset, or its values are no frames.
    FileError
        If it is in another file, which is missing, or has no frames yet.
    """
    item = find_dataset(file, name, path, argument=argument, axes=2)
    if item.ndim < 2 or item.dtype.kind not in "iuf":
        raise InputError(
            f"{path}: {argument} is of shape {item.shape} and type {item.dtype}",
            "Frames are numbers with at least three axes, frames, rows, columns; or two, if it is"
            " a single one.",
        )
    if 0 in item.shape:
        raise FileError(
            f"{path}: {argument} has no frames yet: its shape is {item.shape}",
            "Open it again when there are some.",
        )
    return item


def find_all_frames(
    file: h5py.File, name: str, path: Path, *, argument: str
) -> dict[str, h5py.Dataset]:
    """Return the datasets that a path means, which may be a pattern such as ``/images/*``.

    Parameters
    ----------
    file, name, path, argument
        As of `find_frames`.

    Returns
    -------
    dict of str to h5py.Dataset
        By their paths from the root, in natural order.

    Raises
    ------
    InputError, FileError
        As of `find_frames`, of each.
    """
    folder, _, pattern = name.rpartition("/")
    if not glob.has_magic(pattern) or name in file:
        return {name: find_frames(file, name, path, argument=argument)}
    obstacles: Obstacles = {}
    names = [
        f"{folder}/{member}".lstrip("/")
        for member, item in members(follow(file, folder or "/"), obstacles, most=None)
        if isinstance(item, h5py.Dataset) and fnmatch.fnmatchcase(member, pattern)
    ]
    for error in obstacles.values():
        # A missing frame must be noticed.
        raise error
    if not names:
        raise InputError(
            f"{path}: {argument} matches no dataset", "'wavedask info FILE' lists what is there."
        )
    names.sort(key=lambda full: natural_key(Path(full)))
    return {full: find_frames(file, full, path, argument=argument) for full in names}


def file_motors(
    file: h5py.File, motors: Mapping[str, str], path: Path, *, scan: str | None
) -> list[Column]:
    """Read the motors that are given as paths of datasets.

    Parameters
    ----------
    file : h5py.File
        The open file.
    motors : mapping of str to str
        Path of a dataset by the name of a motor, which may carry its unit: ``detx [mm]``.
    path : pathlib.Path
        The file.
    scan : str or None
        The scan that paths without a slash in front may start from.

    Returns
    -------
    list of Column
        The unit is the one of the dataset, where the name carries none.

    Raises
    ------
    InputError
        If there is no such dataset, or it holds no numbers.
    """
    columns = []
    for title, where in motors.items():
        inside = f"{(scan or '').strip('/')}/{where}"
        place = where if where.startswith("/") or not _is_there(file, inside) else inside
        item = find_dataset(file, place, path, argument=f"motors[{title!r}]={where!r}")
        if not is_numeric(item):
            raise InputError(
                f"{path}: motors[{title!r}]={where!r} is of type {item.dtype}",
                "Positions are numbers.",
            )
        column = titled_column(title, np.asarray(values_of(item), np.float64).squeeze())
        if column.units == UNKNOWN_UNIT:
            column = replace(column, units=unit_of(item))
        columns.append(column)
    return columns


def _is_there(file: h5py.File, name: str) -> bool:
    """Whether something is at a path, be it in a file that is missing."""
    try:
        return follow(file, name) is not None
    except FileError:
        return True


def all_datasets(
    group: h5py.Group, inside: Callable[[h5py.Group], Mapping[str, Any]] | None = None
) -> dict[str, h5py.Dataset]:
    """Datasets by their path from a group, also those behind links, each once.

    Of a file with very many groups, only the first ones are looked at. `inside` gives the members
    of a group, where they are known already.
    """
    found: dict[str, h5py.Dataset] = {}
    seen = set()
    pending = deque([("", group)])
    looked_at = 0
    while pending and looked_at < MOST_OBJECTS:
        name, here = pending.popleft()
        for member, item in dict(members(here)).items() if inside is None else inside(here).items():
            looked_at += 1
            info = h5py.h5o.get_info(item.id)
            place = (int(info.fileno), int(info.addr))
            if place in seen:
                continue
            seen.add(place)
            if isinstance(item, h5py.Group):
                pending.append((f"{name}/{member}", item))
            elif isinstance(item, h5py.Dataset) and item.shape is not None:
                found[f"{name}/{member}"] = item
    return found


def _suggestion(name: str, known: Mapping[str, tuple[int, ...]], item: Any) -> str:
    wanted = f"/{name.strip('/')}"
    inside = [path for path in known if item is not None and path.startswith(f"{wanted}/")]
    near = difflib.get_close_matches(wanted, known, n=LISTED, cutoff=0.6)
    last = wanted.rpartition("/")[2]
    same = [path for path in known if path.rpartition("/")[2] == last]
    names = list(dict.fromkeys([*inside, *near, *same]))[:LISTED]
    if names:
        return f"Did you mean {' or '.join(f'{path} {known[path]}' for path in names)}?"
    frames = [f"{path} {shape}" for path, shape in known.items() if len(shape) >= 3][:LISTED]
    return f"Datasets with three axes: {', '.join(frames) or 'none'}."
