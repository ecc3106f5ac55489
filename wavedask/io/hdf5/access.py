"""HDF5 files opened without a lock, and the files and filters that their datasets need."""

import glob
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import h5py
import hdf5plugin  # noqa: F401 - registers the filters of facilities, in every worker
import numpy as np

from wavedask.conventions import UNITS, UNKNOWN_UNIT
from wavedask.errors import CorruptFileError, FileError
from wavedask.io.frames import reading
from wavedask.io.hdf5.links import Obstacles, follow, linked_files, located, members
from wavedask.io.hdf5.locking import open_file

PLUGIN_FILTERS: Final = frozenset(
    {305, 307, 32000, 32001, 32004, 32008, 32013, 32015, 32017, 32018, 32024, 32026, 32028, 32034}
)
"""Numbers of the filters that hdf5plugin has in its newest version."""
FILTER_REMEDY: Final = (
    "Install the filter: 'pip install --upgrade hdf5plugin' if it has it, else the plugin of the"
    " detector's maker, in a folder that HDF5_PLUGIN_PATH names."
)

LARGEST_VALUES: Final = 2**27
"""Bytes of a dataset that is read whole: positions, texts, masks. Frames are read in blocks."""
MOST_TEXTS: Final = 1000
"""Values of a dataset that is taken for one text."""

Missing = tuple[str, str]
"""A file that is needed and why it cannot be used."""


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading in a way that disturbs no writer.

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
        If it is no HDF5 file, or is locked by a writer against reading.
    """
    with reading_hdf5(path), linked_files(), open_file(path) as file:
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


def datasets(group: Any, obstacles: Obstacles | None = None) -> dict[str, h5py.Dataset]:
    """Datasets of a group by name, without links that lead nowhere; none, if it is no group."""
    return {
        name: item for name, item in members(group, obstacles) if isinstance(item, h5py.Dataset)
    }


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


def values_of(dataset: h5py.Dataset) -> Any:
    """Read all values of a dataset that is no stack of frames.

    Raises
    ------
    FileError
        They would take more memory than any list of positions does.
    """
    size = (dataset.size or 0) * dataset.dtype.itemsize
    if size > LARGEST_VALUES:
        raise FileError(
            f"{dataset.file.filename}: {dataset.name} announces {dataset.size} values,"
            f" {size} bytes",
            "Is it what its name says? A scan has one value per frame.",
        )
    return dataset[()]


def text_of(item: Any) -> str:
    """Text of a dataset or of an attribute; empty, if there is none."""
    if isinstance(item, h5py.Dataset):
        if item.size is not None and item.size > MOST_TEXTS:
            return f"{item.size} values"
        item = values_of(item)
    content = item
    if isinstance(content, np.ndarray) and content.size == 1:
        # Some writers keep every text in an array of one.
        content = content.reshape(-1)[0]
    if isinstance(content, str):
        # h5py returns text that is not UTF-8 with surrogates, which cannot be encoded.
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
    """Refuse a dataset that cannot be read whole.

    Where a part of it is in another file that is missing or too short, HDF5 would read zeros.

    Parameters
    ----------
    dataset : h5py.Dataset
        The frames.
    path : pathlib.Path
        File that was opened.

    Raises
    ------
    FileError
        The message names the first such file, or the filter that is not installed.
    """
    missing = missing_filter(dataset)
    if missing:
        raise FileError(f"{path}: {dataset.name} {missing}", FILTER_REMEDY)
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
            place = located(name, home) or home.parent / name
            series = glob.escape(str(place)).replace("%b", "[0-9]*")
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
        found = (follow(file, name) for name in names)
        items = [item for item in found if isinstance(item, h5py.Dataset)]
        return sorted(set().union(*(files_behind(item, path) for item in items)))


def missing_filter(dataset: h5py.Dataset) -> str:
    """Say which filter of HDF5 a dataset needs that is not installed; empty, if it has all."""
    settings = dataset.id.get_create_plist()
    for place in range(settings.get_nfilters()):
        code, _, _, title = settings.get_filter(place)
        if not h5py.h5z.filter_avail(code):
            maker = ", a filter of hdf5plugin," if code in PLUGIN_FILTERS else ""
            named = f" ({text_of(title)})" if title else ""
            return (
                f"is compressed with the HDF5 filter {code}{named},{maker} which is not installed"
            )
    return ""


def virtual_prefix(dataset: h5py.Dataset) -> Path | None:
    """Folder that HDF5 must be told, to find the sources of a virtual dataset that were moved.

    Parameters
    ----------
    dataset : h5py.Dataset
        The virtual dataset; all its sources can be found.

    Returns
    -------
    pathlib.Path or None
        None where HDF5 finds the sources by itself.
    """
    home = Path(dataset.file.filename)
    for name in {source.file_name for source in dataset.virtual_sources()} - {"."}:
        place = located(name, home)
        if place is not None and place not in (home.parent / name, home.parent / Path(name).name):
            # HDF5 keeps of a path that is absolute no more than the name of the file.
            kept = Path(Path(name).name) if Path(name).is_absolute() else Path(name)
            return Path(*place.parts[: -len(kept.parts)])
    return None


def _bad_sources(dataset: h5py.Dataset) -> tuple[list[Missing], int]:
    home = Path(dataset.file.filename)
    if dataset.external:
        return _bad_storage(dataset, home.parent), len({name for name, _, _ in dataset.external})
    if not dataset.is_virtual:
        return [], 0
    bad: dict[str, str] = {}
    sources = [source for source in dataset.virtual_sources() if source.file_name != "."]
    prefix = virtual_prefix(dataset)
    for source in sources:
        # A name with %b stands for a series of files that grows with the scan.
        if source.file_name in bad or "%b" in source.file_name:
            continue
        place = located(source.file_name, home)
        reason = "not there" if place is None else _why_unusable(place, source)
        if not reason and prefix and not _reached(source.file_name, prefix, place):
            reason = f"found at {place}, but not all such files are in one folder"
        if reason:
            bad[source.file_name] = reason
    return list(bad.items()), len({source.file_name for source in sources})


def _reached(name: str, prefix: Path, place: Path | None) -> bool:
    """Whether HDF5 finds a source at its place, if it is told a folder."""
    return place == Path(name) or place in (prefix / name, prefix / Path(name).name)


def _bad_storage(dataset: h5py.Dataset, home: Path) -> list[Missing]:
    """Raw files, one behind the other, that are missing or end too early."""
    bad = []
    remaining = dataset.size * dataset.dtype.itemsize
    for name, offset, size in dataset.external:
        here = min(size, remaining)
        remaining -= here
        # A pipe or a device has no end that could be checked.
        if not (home / name).is_file():
            bad.append((name, "not there"))
        elif (home / name).stat().st_size < offset + here:
            bad.append((name, f"{offset + here} bytes are needed"))
    return bad


def _why_unusable(path: Path, source: Any) -> str:
    """Say why a file cannot serve as a source of a virtual dataset; empty, if it can."""
    try:
        with opened(path) as file:
            dataset = follow(file, source.dset_name)
            if not isinstance(dataset, h5py.Dataset):
                return f"it has no dataset {source.dset_name}"
            shape = dataset.shape
            missing = missing_filter(dataset)
    except FileError as error:
        return str(error)
    if missing:
        return f"{source.dset_name} {missing}. {FILTER_REMEDY}"
    if source.src_space.get_select_type() == h5py.h5s.SEL_ALL:
        # All of a source whose shape is not noted: as many values as they are mapped to.
        short = math.prod(shape) < source.vspace.get_select_npoints()
    else:
        try:
            needed = source.src_space.get_select_bounds()[1]
        except RuntimeError:
            # Without bounds: the dataset is as long as its sources are.
            return ""
        short = any(size <= last for size, last in zip(shape, needed, strict=True))
    return f"{source.dset_name} is only {shape}" if short else ""
