"""HDF5 files opened without a lock, and the links in them followed or refused with a reason."""

import glob
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the filters of facilities, in every worker
import numpy as np

from wavedask.conventions import UNITS, UNKNOWN_UNIT
from wavedask.errors import CorruptFileError, FileError
from wavedask.io.frames import reading

Missing = tuple[str, str]
"""A file that is needed and why it cannot be used."""


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading in a way that no writer is disturbed by.

    Parameters
    ----------
    path : pathlib.Path
        The file; another process may be writing it.

    Yields
    ------
    h5py.File

    Raises
    ------
    CorruptFileError
        If the file ends before what it announces.
    FileError
        If it is no HDF5 file, or is held by a writer that lets nobody read.
    """
    with reading_hdf5(path), open_file(path) as file:
        yield file


@contextmanager
def reading_hdf5(path: Path) -> Iterator[None]:
    """Turn what h5py raises of a file whose inner tables are damaged into a `CorruptFileError`."""
    with reading(path):
        try:
            yield
        except (RuntimeError, KeyError) as error:
            if isinstance(error, KeyError) and "Unable to" not in str(error):
                raise
            raise CorruptFileError(
                f"{path} is damaged: {error}", "Copy it again from its source."
            ) from error


def open_file(path: Path) -> h5py.File:
    """Open a file as `opened` does, for who closes it himself.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    h5py.File

    Raises
    ------
    CorruptFileError, FileError
        As of `opened`.
    """
    with reading(path):
        try:
            return _unlocked(path)
        except OSError as error:
            if "truncated file" in str(error):
                raise CorruptFileError(
                    f"{path} is truncated: {error}", "Copy it again from its source."
                ) from error
            if "already open for" in str(error):
                raise FileError(
                    f"{path} is being written by a program that lets nobody read: {error}",
                    "Wait until it has closed the file, or make it write in SWMR mode. If it has"
                    " crashed, 'h5clear -s' on a copy of the file lets it open again.",
                ) from error
            if path.is_file() and h5py.is_hdf5(path):
                raise CorruptFileError(
                    f"{path} is damaged: {error}", "Copy it again from its source."
                ) from error
            raise


def _unlocked(path: Path) -> h5py.File:
    """Open a file without a lock, or as this very process has it open already.

    HDF5 allows a process one way of locking per file, so that the user's own open file decides;
    and a file that is written in SWMR mode opens only in that mode.
    """
    ways: list[dict[str, Any]] = [{"locking": False}, {"locking": None}, {"locking": True}]
    for way in ways:
        try:
            return h5py.File(path, "r", **way)
        except OSError as error:
            if "already open for write" in str(error):
                return h5py.File(path, "r", swmr=True, **way)
            if "flag values don't match" not in str(error) or way is ways[-1]:
                raise
    raise AssertionError("one of the ways returns or raises")


def resolved(group: h5py.Group, name: str, path: Path) -> Any:
    """Return a member of a group, or None where a link within the file leads nowhere.

    Parameters
    ----------
    group : h5py.Group
        The group.
    name : str
        Name of the member.
    path : pathlib.Path
        File that the group is in.

    Returns
    -------
    h5py.Group, h5py.Dataset or None

    Raises
    ------
    FileError
        If the member is in another file, which is missing.
    """
    link = group.get(name, getlink=True)
    try:
        return group[name]
    except (KeyError, OSError) as error:
        if not isinstance(link, h5py.ExternalLink):
            return None
        raise FileError(
            f"{path}: {group.name.rstrip('/')}/{name} is kept in {link.filename}, which cannot be"
            f" opened or has no {link.path}",
            "Copy that file along, keeping its place relative to this one.",
        ) from error


def datasets(group: Any) -> dict[str, h5py.Dataset]:
    """Datasets of a group by name, without links that lead nowhere; none, if it is no group."""
    if not isinstance(group, h5py.Group):
        return {}
    items = ((name, group.get(name)) for name in group)
    return {name: item for name, item in items if isinstance(item, h5py.Dataset)}


def holds_frames(item: Any) -> bool:
    """Whether something is a dataset of frames: numbers, and at least one axis before y and x."""
    return (
        isinstance(item, h5py.Dataset)
        and item.ndim >= 3
        and item.dtype.kind in "iuf"
        and 0 not in item.shape
    )


def is_numeric(item: Any) -> bool:
    """Whether something is a dataset of numbers or truth values, and not an empty one."""
    return isinstance(item, h5py.Dataset) and item.shape is not None and item.dtype.kind in "iufb"


def text_of(item: Any) -> str:
    """Text of a dataset or of an attribute; empty, if there is none."""
    content = item[()] if isinstance(item, h5py.Dataset) else item
    if isinstance(content, np.ndarray) and content.size == 1:
        # Some writers keep every text in an array of one.
        content = content.reshape(-1)[0]
    if isinstance(content, str):
        # What is no UTF-8, h5py gives in surrogates, which nobody can write.
        content = content.encode(errors="surrogateescape")
    if isinstance(content, bytes):
        try:
            return content.decode()
        except UnicodeDecodeError:
            # Units such as µm of older writers.
            return content.decode("latin-1")
    return "" if content is None or isinstance(content, h5py.Empty) else str(content)


def class_of(group: Any) -> str:
    """NeXus class of a group; empty, if it has none."""
    return text_of(group.attrs.get("NX_class")) if isinstance(group, h5py.Group) else ""


def unit_of(*items: h5py.Dataset) -> str:
    """Return the unit of the first of some datasets that has one."""
    units = (text_of(item.attrs.get(UNITS)) for item in items)
    return next((unit for unit in units if unit), UNKNOWN_UNIT)


def check_sources(dataset: h5py.Dataset, path: Path) -> None:
    """Refuse a dataset of which parts are in other files that are missing or too short.

    HDF5 would read zeros there.

    Parameters
    ----------
    dataset : h5py.Dataset
        The frames.
    path : pathlib.Path
        File that was opened.

    Raises
    ------
    FileError
        The message names the first such file.
    """
    bad, total = _bad_sources(dataset)
    if bad:
        name, reason = bad[0]
        raise FileError(
            f"{path}: {len(bad)} of {total} files behind {dataset.name} are missing or incomplete,"
            f" the first is {name}: {reason}",
            "Copy them along, keeping their place relative to this one.",
        )


def files_behind(dataset: h5py.Dataset, path: Path) -> set[Path]:
    """Other files that the values of a dataset are in.

    Parameters
    ----------
    dataset : h5py.Dataset
        The frames; all its files are there.
    path : pathlib.Path
        File that was opened.

    Returns
    -------
    set of pathlib.Path
        Files that a link to the dataset, its external storage or its virtual sources lead to.
    """
    home = Path(dataset.file.filename)
    found = {home}
    if dataset.external:
        found |= {home.parent / name for name, _, _ in dataset.external}
    elif dataset.is_virtual:
        for name in {source.file_name for source in dataset.virtual_sources()} - {"."}:
            # A name with %b stands for a series of files that grows with the scan.
            series = glob.escape(str(home.parent / name)).replace("%b", "[0-9]*")
            found |= {Path(file) for file in glob.glob(series)}  # noqa: PTH207 (may be absolute)
    return {file.resolve() for file in found} - {path.resolve()}


def files_behind_each(path: Path, names: Iterable[str]) -> list[Path]:
    """Other files that the values of some datasets of a file are in.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    names : iterable of str
        Paths of datasets in it; those that are no longer there are left out.

    Returns
    -------
    list of pathlib.Path
        As of `files_behind`, in order.
    """
    with opened(path) as file:
        items = [item for name in names if isinstance(item := file.get(name), h5py.Dataset)]
        return sorted(set().union(*(files_behind(item, path) for item in items)))


def _bad_sources(dataset: h5py.Dataset) -> tuple[list[Missing], int]:
    home = Path(dataset.file.filename).parent
    if dataset.external:
        return _bad_storage(dataset, home), len({name for name, _, _ in dataset.external})
    if not dataset.is_virtual:
        return [], 0
    bad: dict[str, str] = {}
    sources = [source for source in dataset.virtual_sources() if source.file_name != "."]
    for source in sources:
        # A name with %b stands for a series of files that grows with the scan.
        if source.file_name in bad or "%b" in source.file_name:
            continue
        reason = _why_unusable(home / source.file_name, source)
        if reason:
            bad[source.file_name] = reason
    return list(bad.items()), len({source.file_name for source in sources})


def _bad_storage(dataset: h5py.Dataset, home: Path) -> list[Missing]:
    """Raw files, one behind the other, that are missing or end too early."""
    bad = []
    remaining = dataset.size * dataset.dtype.itemsize
    for name, offset, size in dataset.external:
        here = min(size, remaining)
        remaining -= here
        if not (home / name).exists():
            bad.append((name, "not there"))
        elif (home / name).stat().st_size < offset + here:
            bad.append((name, f"{offset + here} bytes are needed"))
    return bad


def _why_unusable(path: Path, source: Any) -> str:
    """Say why a file cannot serve as a source of a virtual dataset; empty, if it can."""
    if not path.exists():
        return "not there"
    try:
        with opened(path) as file:
            shape = getattr(file.get(source.dset_name), "shape", None)
    except FileError as error:
        return str(error)
    if shape is None:
        return f"it has no dataset {source.dset_name}"
    if source.src_space.get_select_type() == h5py.h5s.SEL_ALL:
        # All of a source whose shape is not noted: as many values as they are mapped to.
        missing = math.prod(shape) < source.vspace.get_select_npoints()
    else:
        try:
            needed = source.src_space.get_select_bounds()[1]
        except RuntimeError:
            # Without bounds: the dataset is as long as its sources are.
            return ""
        missing = any(size <= last for size, last in zip(shape, needed, strict=True))
    return f"{source.dset_name} is only {shape}" if missing else ""
