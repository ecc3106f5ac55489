"""Datasets that the user names by their path, and what was probably meant where there is none."""

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from wavedask.conventions import UNKNOWN_UNIT
from wavedask.errors import FileError, InputError
from wavedask.io.columns import Column
from wavedask.io.hdf5.access import is_numeric, unit_of
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
    if scan is None or (full in file and f"/{full}/".startswith(f"/{scan.strip('/')}/")):
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
        item = file.get(name)
    except (KeyError, OSError) as error:
        raise FileError(
            f"{path}: {argument} is kept in another file, which cannot be opened: {error}",
            "Copy that file along, keeping its place relative to this one.",
        ) from error
    if isinstance(item, h5py.Dataset):
        return item
    link = _broken_link(file, name)
    if link is not None:
        raise FileError(
            f"{path}: {argument} is kept in {link}, which cannot be opened",
            "Copy that file along, keeping its place relative to this one.",
        )
    what = "is a group" if item is not None else "is not there"
    known = {path: shape for path, shape in all_datasets(file).items() if len(shape) >= axes}
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
        place = where if where.startswith("/") or inside not in file else inside
        item = find_dataset(file, place, path, argument=f"motors[{title!r}]={where!r}")
        if not is_numeric(item):
            raise InputError(
                f"{path}: motors[{title!r}]={where!r} is of type {item.dtype}",
                "Positions are numbers.",
            )
        column = titled_column(title, np.asarray(item[()], np.float64).squeeze())
        if column.units == UNKNOWN_UNIT:
            column = replace(column, units=unit_of(item))
        columns.append(column)
    return columns


def _broken_link(file: h5py.File, name: str) -> str | None:
    """File that the first broken link on a path leads to, or None."""
    group: Any = file
    for step in name.strip("/").split("/"):
        link = group.get(step, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            return None
        group = group.get(step)
        if group is None and isinstance(link, h5py.ExternalLink):
            return str(link.filename)
    return None


def all_datasets(file: h5py.File) -> dict[str, tuple[int, ...]]:
    """Shape of every dataset by its path from the root; behind soft links are only repetitions."""
    found = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            found[f"/{name}"] = item.shape

    file.visititems(note)
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
