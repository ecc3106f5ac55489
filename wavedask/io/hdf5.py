"""HDF5 files: scans of BLISS (ESRF), and others laid out like them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the filters of facilities, in every worker
import numpy as np
import numpy.typing as npt

from wavedask.conventions import COUNTER, MOTOR, UNITS, UNKNOWN_UNIT
from wavedask.errors import CorruptFileError, FileError, InputError
from wavedask.io.columns import Column
from wavedask.io.frames import Pixels, Stack, reading

CAMERA_DATASETS = ("image", "data")
"""Names under which a detector keeps its frames; the first one is preferred."""
SCAN_TEXTS = ("title", "start_time", "end_time")
"""Texts of a scan that become attributes."""


class Hdf5Stack(Stack):
    """Frames in one three-dimensional dataset.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    dataset : str
        Path of the dataset within it.
    shape : tuple of int
        Frames, rows, columns.
    dtype : numpy.dtype
        Type of a pixel.
    """

    def __init__(
        self, path: Path, dataset: str, shape: tuple[int, int, int], dtype: np.dtype[Any]
    ) -> None:
        super().__init__(shape, dtype)
        self._path = path
        self._dataset = dataset

    @property
    def origins(self) -> list[tuple[Path, int]]:
        """File, and number within it, of each frame."""
        return [(self._path, index) for index in range(self.shape[0])]

    def read(self, frames: npt.NDArray[np.intp], rows: slice, cols: slice) -> Pixels:
        """Read a contiguous region of some frames, in native byte order."""
        if not frames.size:
            return np.empty((0, rows.stop - rows.start, cols.stop - cols.start), self.dtype)
        with _opened(self._path) as file:
            dataset = file.get(self._dataset)
            if getattr(dataset, "shape", None) != self.shape:
                raise CorruptFileError(
                    f"{self._path}: {self._dataset} is no longer of the shape {self.shape}",
                    "The file has changed since the scan was opened: open it again.",
                )
            if np.all(np.diff(frames) == 1):
                # One call: a chunk of the file that holds several frames is decompressed once.
                pixels = dataset[frames[0] : frames[-1] + 1, rows, cols]
            else:
                pixels = np.stack([dataset[frame, rows, cols] for frame in frames])
        native: Pixels = pixels.astype(self.dtype, copy=False)
        return native


@dataclass(frozen=True, slots=True)
class Hdf5Scan:
    """What is known of a scan before its pixels are read.

    Attributes
    ----------
    stack : Hdf5Stack
        Where the pixels are.
    columns : list of Column
        Motors and counters.
    constants : dict of str to str
        Title, start and end, and positioners that are text.
    """

    stack: Hdf5Stack
    columns: list[Column]
    constants: dict[str, str]


def read_hdf5(path: Path, *, scan: str | None) -> Hdf5Scan:
    """Find the camera, the motors and the counters of a scan.

    Parameters
    ----------
    path : pathlib.Path
        The file; it is opened for reading without a lock, so that the writer is not disturbed.
    scan : str or None
        Name of the scan (``"1.1"``), or of a dataset within it where there are several cameras
        (``"1.1/instrument/pco/image"``). By default the only scan that has images.

    Returns
    -------
    Hdf5Scan
        A positioner that was also recorded frame by frame has the recorded positions.

    Raises
    ------
    FileError
        If the file is no HDF5 file, has no images, or links to files that are not there.
    InputError
        If there is no such scan, or the choice is not unique.
    """
    with _opened(path) as file:
        cameras = {
            f"{name}/{inner}": dataset
            for name, entry in file.items()
            if isinstance(entry, h5py.Group)
            for inner, dataset in _cameras(entry, path)
        }
        chosen = _chosen(file, cameras, scan, path)
        dataset = cameras[chosen]
        _check_sources(dataset, path)
        n_frames = dataset.shape[0]
        entry = file[chosen.split("/")[0]]
        columns, texts = _columns(entry, n_frames)
        titles = {name: _text(entry[name]) for name in SCAN_TEXTS if name in entry}
        return Hdf5Scan(
            Hdf5Stack(path, chosen, dataset.shape, dataset.dtype), columns, texts | titles
        )


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    with reading(path), _unlocked(path) as file:
        yield file


def _unlocked(path: Path) -> h5py.File:
    """Open a file without a lock, or as this very process has it open already.

    HDF5 allows a process one way of locking per file, so that the user's own open file decides.
    """
    for locking in (False, None):
        try:
            return h5py.File(path, "r", locking=locking)
        except OSError as error:
            if "flag values don't match" not in str(error):
                raise
    return h5py.File(path, "r", locking=True)


def _cameras(entry: h5py.Group, path: Path) -> Iterator[tuple[str, h5py.Dataset]]:
    """Frames of a scan, with their paths within it."""
    found = False
    for detector, group in _members(entry, "instrument", path):
        if not isinstance(group, h5py.Group):
            continue
        named = [(name, _resolved(group, name, path)) for name in CAMERA_DATASETS if name in group]
        for name, item in named:
            if _holds_frames(item):
                found = True
                yield f"instrument/{detector}/{name}", item
                break
    if not found:
        for name, item in _members(entry, "measurement", path):
            if _holds_frames(item):
                yield f"measurement/{name}", item


def _members(entry: h5py.Group, name: str, path: Path) -> Iterator[tuple[str, Any]]:
    group = entry.get(name)
    if isinstance(group, h5py.Group):
        for member in group:
            yield member, _resolved(group, member, path)


def _resolved(group: h5py.Group, name: str, path: Path) -> Any:
    """Return a member of a group; a link to a file that is missing is an error."""
    link = group.get(name, getlink=True)
    try:
        return group[name]
    except (KeyError, OSError) as error:
        if not isinstance(link, h5py.ExternalLink):
            return None
        raise FileError(
            f"{path}: {group.name}/{name} is kept in {link.filename}, which cannot be opened",
            "Copy that file along, keeping its place relative to this one.",
        ) from error


def _holds_frames(item: Any) -> bool:
    return (
        isinstance(item, h5py.Dataset)
        and item.ndim == 3
        and item.dtype.kind in "iuf"
        and 0 not in item.shape
    )


def _chosen(
    file: h5py.File, cameras: Mapping[str, h5py.Dataset], scan: str | None, path: Path
) -> str:
    matching = [
        name
        for name in cameras
        if scan is None or name == scan.strip("/") or name.startswith(f"{scan.strip('/')}/")
    ]
    if len(matching) == 1:
        return matching[0]
    if not cameras:
        raise FileError(
            f"{path} has no images in any of its scans ({', '.join(file) or 'none'})",
            "Looked for: <scan>/instrument/<detector>/image or data, and <scan>/measurement, of"
            " three dimensions.",
        )
    listing = "; ".join(
        f"{name} ({_title(file, name)}, {dataset.shape[0]} frames)"
        for name, dataset in cameras.items()
    )
    problem = "several scans or cameras" if scan is None else f"no single camera for scan={scan!r}"
    raise InputError(
        f"{path} has {problem}",
        f"Choose with scan='<name>', of a scan or a whole path, among: {listing}.",
    )


def _title(file: h5py.File, camera: str) -> str:
    title = file[camera.split("/")[0]].get("title")
    return _text(title) if isinstance(title, h5py.Dataset) else "no title"


def _check_sources(dataset: h5py.Dataset, path: Path) -> None:
    """Refuse a virtual dataset whose files are missing: HDF5 would read zeros."""
    if not dataset.is_virtual:
        return
    home = Path(dataset.file.filename).parent
    names = dict.fromkeys(source.file_name for source in dataset.virtual_sources())
    missing = [name for name in names if name != "." and not (home / name).exists()]
    if missing:
        raise FileError(
            f"{path}: {len(missing)} of {len(names)} files behind {dataset.name} are missing,"
            f" the first is {missing[0]}",
            "Copy them along, keeping their place relative to this one.",
        )


def _columns(entry: h5py.Group, n_frames: int) -> tuple[list[Column], dict[str, str]]:
    """Motors and counters of a scan, and the positioners that are text."""
    measured = _datasets(entry.get("measurement"))
    recorded = {name: item for name, item in measured.items() if _is_recorded(item, n_frames)}
    columns = []
    texts = {}
    positioners = _datasets(entry.get("instrument/positioners"))
    for name, item in positioners.items():
        if item.dtype.kind in "iufb":
            # A continuous scan keeps only the first position here, and the others as measured.
            columns.append(_column(name, MOTOR, recorded.get(name, item), like=item))
        elif item.shape == ():
            texts[name] = _text(item)
    columns += [
        _column(name, COUNTER, item, like=item)
        for name, item in recorded.items()
        if name not in positioners
    ]
    return columns, texts


def _datasets(group: Any) -> dict[str, h5py.Dataset]:
    if not isinstance(group, h5py.Group):
        return {}
    items = ((name, group.get(name)) for name in group)
    return {name: item for name, item in items if isinstance(item, h5py.Dataset)}


def _is_recorded(item: h5py.Dataset, n_frames: int) -> bool:
    return item.shape == (n_frames,) and item.dtype.kind in "iuf"


def _column(name: str, role: str, item: h5py.Dataset, *, like: h5py.Dataset) -> Column:
    unit = item.attrs.get(UNITS, like.attrs.get(UNITS, UNKNOWN_UNIT))
    unit = unit.decode() if isinstance(unit, bytes) else str(unit)
    return Column(name, role, np.asarray(item[()], dtype=np.float64), unit)


def _text(dataset: h5py.Dataset) -> str:
    content = dataset[()]
    return content.decode(errors="replace") if isinstance(content, bytes) else str(content)
