"""A scan of an HDF5 file: which layout it has, and what belongs to its frames."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import h5py

from wavedask.errors import FileError, InputError
from wavedask.io.columns import Column
from wavedask.io.hdf5.access import check_sources, files_behind, holds_frames, opened, resolved
from wavedask.io.hdf5.bliss import BlissEntry
from wavedask.io.hdf5.dxfile import DxEntry
from wavedask.io.hdf5.eiger import EigerEntry
from wavedask.io.hdf5.given import LISTED, all_datasets, file_motors, find_frames, within
from wavedask.io.hdf5.layout import Camera, Entry, unwritten
from wavedask.io.hdf5.nexus import NexusEntry, is_bare
from wavedask.io.hdf5.stack import Hdf5Stack

LAYOUTS: Final[tuple[Callable[[h5py.Group, Path, str], Entry | None], ...]] = (
    DxEntry.recognise,
    BlissEntry.recognise,
    EigerEntry.recognise,
    NexusEntry.recognise,
)
"""Layouts in the order in which they are tried; the last one takes every group."""
UNFINISHED: Final = "unfinished"
"""Attribute of a scan that was running when it was opened, or was stopped: how far it was."""

OTHER_SCAN: Final = "Or choose a scan that is there: scan='<name>'."


@dataclass(frozen=True, slots=True)
class Hdf5Scan:
    """What is known of a scan before its pixels are read.

    Attributes
    ----------
    stack : Hdf5Stack
        Where the pixels are.
    columns : list of Column
        Motors, counters and keys.
    constants : dict of str to str
        Title, start and end, positioners that are text, and whether the scan is still running.
    camera : str
        Where the scan has its frames, from the scan itself: the same in files of one camera.
    behind : frozenset of pathlib.Path
        Other files that hold frames of the scan.
    """

    stack: Hdf5Stack
    columns: list[Column]
    constants: dict[str, str]
    camera: str
    behind: frozenset[Path]


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """A scan of a file in words.

    Attributes
    ----------
    name : str
        What chooses it.
    title : str
        As the file has it; may be empty.
    cameras : dict of str to str
        Shape and type of the frames by the path that chooses them.
    moving : tuple of str
        Motors that were scanned.
    running : bool
        Whether it is still being written.
    missing : bool
        Whether it is kept in another file, which cannot be opened.
    broken : str
        Why its cameras cannot be looked at, where parts of it are in another file; else empty.
    """

    name: str
    title: str
    cameras: dict[str, str]
    moving: tuple[str, ...]
    running: bool = False
    missing: bool = False
    broken: str = ""


def list_scans(path: Path) -> list[ScanSummary]:
    """List the scans of a file, also those without images.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    list of ScanSummary
        In the order of the file.

    Raises
    ------
    FileError
        If the file cannot be read.
    """
    with opened(path) as file:
        listed = [_summary(entry) for entry in _entries(file, path)]
        absent = [ScanSummary(name, "", {}, (), missing=True) for name in _missing(file, path)]
        return listed + absent


def read_hdf5(
    path: Path,
    *,
    scan: str | None = None,
    image: str | None = None,
    motors: Mapping[str, str] | None = None,
) -> Hdf5Scan:
    """Find the camera, the motors and the counters of a scan.

    Parameters
    ----------
    path : pathlib.Path
        The file; it is opened for reading without a lock, so that the writer is not disturbed.
    scan : str, optional
        Name of the scan (``"1.1"``), or of a dataset within it where there are several cameras
        (``"1.1/instrument/pco/image"``). By default the only scan that has images.
    image : str, optional
        Path of the dataset that holds the frames, where no known layout says it; from the root
        or, if `scan` is given, from there.
    motors : mapping of str to str, optional
        Paths of datasets with positions, by the name of the motor; from the scan or the root.

    Returns
    -------
    Hdf5Scan
        A positioner that was also recorded frame by frame has the recorded positions. Of a scan
        that is still running the frames whose motors are all there.

    Raises
    ------
    FileError
        If the file is no HDF5 file, has no images, or links to files that are not there.
    InputError
        If there is no such scan or dataset, or the choice is not unique.
    """
    with opened(path) as file:
        entries = _entries(file, path)
        if image is None:
            entry, camera = _chosen(file, entries, scan, path)
        else:
            entry, camera = _given(file, entries, scan, image, path)
        for dataset in camera.datasets.values():
            check_sources(dataset, path)
        columns, texts = entry.columns(camera)
        constants = texts | entry.texts
        frames = entry.recorded(camera)
        if not frames:
            raise FileError(
                f"{path}: the scan {entry.name} has begun, but no frame has all its motors yet",
                "Open it again when there are some.",
            )
        unfinished = entry.unfinished(camera) or unwritten(camera)
        if unfinished:
            constants[UNFINISHED] = unfinished
        columns += file_motors(file, motors or {}, path, scan=scan)
        return Hdf5Scan(
            Hdf5Stack(path, camera.datasets, frames=frames),
            columns,
            constants,
            camera.name.removeprefix(f"{entry.name}/"),
            frozenset().union(*(files_behind(item, path) for item in camera.datasets.values())),
        )


def _summary(entry: Entry) -> ScanSummary:
    name = entry.name or "/"
    try:
        cameras = {camera.name: _shape(camera) for camera in entry.cameras()}
        return ScanSummary(name, entry.title, cameras, tuple(entry.moving()), entry.running)
    except FileError as error:
        # No harm to the other scans.
        return ScanSummary(name, entry.title, {}, (), entry.running, broken=error.problem)


def _entries(file: h5py.File, path: Path) -> list[Entry]:
    """Top-level groups as the first layout sees them that recognises them, or the root."""
    found: list[Entry] = []
    for name in file:
        group = file.get(name)
        if isinstance(group, h5py.Group):
            entries = (recognise(group, path, name) for recognise in LAYOUTS)
            found.append(next(entry for entry in entries if entry is not None))
    if is_bare(file) and all(type(entry) is NexusEntry for entry in found):
        return [NexusEntry(file, path, "")]
    return found


def _given(
    file: h5py.File, entries: Sequence[Entry], scan: str | None, image: str, path: Path
) -> tuple[Entry, Camera]:
    """Frames at a path that the user gives, and the scan that they are in."""
    full = within(file, scan, image)
    given = f"image={image!r}" if scan is None else f"scan={scan!r}, image={image!r}"
    camera = Camera(full, {full: find_frames(file, full, path, argument=given)})
    holding = (entry for entry in entries if full.startswith(f"{entry.name}/"))
    return next(holding, NexusEntry(file, path, "")), camera


def _chosen(
    file: h5py.File, entries: Sequence[Entry], scan: str | None, path: Path
) -> tuple[Entry, Camera]:
    # The root is the only scan of a file without entries, and has no name.
    name = None if scan is None else scan.strip("/") or None
    if name is not None and holds_frames(file.get(name)):
        # The path of frames themselves, whatever else of their scan is missing.
        return _given(file, entries, None, name, path)
    found = _cameras(entries, name)
    matching = [
        (entry, camera)
        for entry, camera in found
        if name is None or camera.name == name or camera.name.startswith(f"{name}/")
    ]
    if len(matching) < 2 and (name is None or not matching):
        # What is missing might be the scan that is meant.
        _check_links(file, name, path)
    if len(matching) == 1:
        return matching[0]
    if not matching:
        _check_begun(file, name, path)
    if not found:
        raise _no_images(file, entries, path)
    listing = "; ".join(
        f"{camera.name} ({entry.title or 'no title'}, {camera.frames} frames)"
        for entry, camera in found
    )
    if name is None:
        problem = "several scans or cameras"
    elif matching:
        problem = f"several cameras for scan={scan!r}"
    else:
        names = [name for entry, camera in found for name in (entry.name, camera.name)]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        problem = f"no images for scan={scan!r}{hint}"
    raise InputError(
        f"{path} has {problem}",
        f"Choose with scan='<name>', of a scan or a whole path, among: {listing}.",
    )


def _cameras(entries: Sequence[Entry], name: str | None) -> list[tuple[Entry, Camera]]:
    """Cameras of the scan that is meant; of all scans, where it has none or none is named.

    Frames of another scan may be in files that are not there: no harm to those of this one.
    """
    meant = [entry for entry in entries if f"{name}/".startswith(f"{entry.name}/")]
    found = [(entry, camera) for entry in meant for camera in entry.cameras()]
    if found:
        return found
    for entry in entries:
        try:
            found += [(entry, camera) for camera in entry.cameras()]
        except FileError as error:
            if name is None and len(entries) > 1:
                raise FileError(error.problem, f"{error.remedy} {OTHER_SCAN}") from error
            if name is None:
                raise
    return found


def _missing(file: h5py.File, path: Path) -> dict[str, FileError]:
    """Find links to other files that cannot be opened, and what is to be said of each."""
    found = {}
    for name in file:
        try:
            resolved(file, name, path)
        except FileError as error:
            found[name] = error
    return found


def _check_links(file: h5py.File, scan: str | None, path: Path) -> None:
    for name, error in _missing(file, path).items():
        if scan is None or name == scan.partition("/")[0]:
            raise FileError(error.problem, f"{error.remedy} {OTHER_SCAN}") from error


def _no_images(file: h5py.File, entries: Sequence[Entry], path: Path) -> FileError:
    others = [name for name, shape in all_datasets(file).items() if len(shape) >= 3][:LISTED]
    remedy = f" of {', '.join(others)}" if others else ""
    return FileError(
        f"{path} has no images in any of its scans"
        f" ({', '.join(entry.name or '/' for entry in entries) or 'none'})",
        "Looked for datasets of three axes in <scan>/instrument/<detector>, <scan>/measurement,"
        f" NXdetector, NXdata and /exchange. Give the path{remedy}: image='<path>';"
        " 'wavedask info FILE' lists the scans.",
    )


def _check_begun(file: h5py.File, scan: str | None, path: Path) -> None:
    """Say of cameras that have no frame that they have none yet."""
    empty = [
        name
        for name, shape in all_datasets(file).items()
        if len(shape) >= 3 and 0 in shape and (scan is None or name.startswith(f"/{scan}/"))
    ]
    if empty:
        raise FileError(
            f"{path} has no frames yet in {', '.join(empty[:LISTED])}",
            "Open it again when there are some.",
        )


def _shape(camera: Camera) -> str:
    first = next(iter(camera.datasets.values()))
    rows, columns = first.shape[-2:]
    words = [f"{camera.frames} frames of {rows} x {columns} px", first.dtype.name]
    return ", ".join([*words, *filter(None, [_compression(first)])])


def _compression(dataset: h5py.Dataset) -> str:
    """Name the compression of a dataset; empty, if it has none or it is that of other files."""
    settings = dataset.id.get_create_plist()
    names = [settings.get_filter(place)[3].decode() for place in range(settings.get_nfilters())]
    # The filters of a facility describe themselves at length: "bitshuffle; see ...".
    return {"deflate": "gzip"}.get(names[-1], names[-1].split(";")[0]) if names else ""
