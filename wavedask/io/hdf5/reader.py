"""A scan of an HDF5 file: which layout it has, and what belongs to its frames."""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

import h5py

from wavedask.conventions import NOT_READ
from wavedask.errors import FileError, InputError
from wavedask.io.columns import Column
from wavedask.io.facts import NO_FACTS, Facts
from wavedask.io.hdf5.access import check_sources, files_behind, holds_frames, is_numeric, opened
from wavedask.io.hdf5.axes import check_grey, declared_names, pixel_axes
from wavedask.io.hdf5.bliss import BlissEntry
from wavedask.io.hdf5.detector import facts_of
from wavedask.io.hdf5.dxfile import DxEntry
from wavedask.io.hdf5.eiger import EigerEntry
from wavedask.io.hdf5.given import (
    LISTED,
    all_datasets,
    file_motors,
    find_all_frames,
    within,
)
from wavedask.io.hdf5.layout import Camera, Entry, address, unwritten
from wavedask.io.hdf5.links import Obstacles, follow, members
from wavedask.io.hdf5.nexus import POSITION_NAMES, NexusEntry, is_bare
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

MOST_SCANS: Final = 2000
"""Scans of a file that are looked at, where none is named."""
BLOCK_NUMBER: Final = re.compile(r"(?<=/data)_\d+$")
"""Number at the end of a block of DECTRIS: blocks are of one camera."""
MAY_BE_CAMERA: Final = re.compile(
    r"/(image|data|data_\d+)$|/(instrument|measurement)/[^/]+$|/exchange/", re.IGNORECASE
)
"""Paths at which frames may be expected."""
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
    facts : Facts
        What the file states about the detector.
    """

    stack: Hdf5Stack
    columns: list[Column]
    constants: dict[str, str]
    camera: str
    behind: frozenset[Path]
    facts: Facts = NO_FACTS


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
    obstacles : tuple of str
        What cannot be looked at, and why.
    images : dict of str to str
        Datasets that could be frames, where no layout says so: shape by the path for ``image=``.
    others : dict of str to str
        Datasets that could be positions, and that no layout takes, likewise.
    """

    name: str
    title: str
    cameras: dict[str, str]
    moving: tuple[str, ...]
    running: bool = False
    missing: bool = False
    obstacles: tuple[str, ...] = ()
    images: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    @property
    def broken(self) -> str:
        """Why no camera can be opened, where something is in the way; else empty."""
        return "" if self.cameras or not self.obstacles else self.obstacles[0]


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
        entries, broken = _entries(file, path)
        listed = [_summary(file, entry) for entry in entries]
        absent = [
            ScanSummary(name.strip("/"), "", {}, (), missing=True, obstacles=(str(error),))
            for name, error in broken.items()
        ]
        if not any(scan.cameras for scan in listed):
            rest = _suggested(file, {})
            if not listed:
                listed = [ScanSummary("/", "", {}, (), images=rest)]
            elif not any(scan.images for scan in listed):
                listed[0] = replace(listed[0], images=rest)
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
        entries, broken = _entries(file, path, scan or image)
        if image is None:
            entry, camera = _chosen(file, entries, broken, scan, path)
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
        facts, stated = facts_of(entry, camera)
        known = {column.name for column in columns}
        columns += [column for column in stated if column.name not in known]
        not_read = _not_read(entry, camera, columns)
        if not_read:
            constants[NOT_READ] = not_read
        return Hdf5Scan(
            Hdf5Stack(path, camera.datasets, frames=frames, axes=camera.axes),
            columns,
            constants,
            BLOCK_NUMBER.sub("", camera.name.removeprefix(f"{entry.name}/")),
            frozenset().union(*(files_behind(item, path) for item in camera.datasets.values())),
            facts,
        )


def _summary(file: h5py.File, entry: Entry) -> ScanSummary:
    name = entry.name or "/"
    cameras = [camera for camera in entry.cameras() if _is_whole(entry, camera)]
    shapes = {camera.name: _shape(camera) for camera in cameras}
    others = {}
    moving: Sequence[str] = ()
    if cameras:
        # The positions of BLISS are known without reading all that was measured.
        columns = [] if isinstance(entry, BlissEntry) else entry.columns(cameras[0])[0]
        moving = entry.moving(columns)
        others = _untaken(entry, cameras[0], {column.name for column in columns})
    obstacles = tuple(dict.fromkeys(map(str, entry.obstacles.values())))
    images = {} if cameras else _suggested(file, shapes, entry)
    return ScanSummary(
        name,
        entry.title,
        shapes,
        tuple(moving),
        entry.running,
        obstacles=obstacles,
        images=images,
        others=others,
    )


def _is_whole(entry: Entry, camera: Camera) -> bool:
    """Whether all files and filters of a camera are there; the entry keeps what is not."""
    for name, dataset in camera.datasets.items():
        try:
            check_sources(dataset, entry.path)
        except FileError as error:
            entry.obstacles[f"/{name}"] = FileError(error.problem, error.remedy)
            return False
    return True


def _untaken(entry: Entry, camera: Camera, names: Collection[str]) -> dict[str, str]:
    """Datasets with one number per frame that became no column, and their sizes."""
    frames = camera.frames
    if frames < 2 or isinstance(entry, BlissEntry):
        # BLISS keeps positions and counters at places that are known.
        return {}
    found = {}
    for full, item in all_datasets(entry.group, entry.inside).items():
        *_, group, name = ("", *full.strip("/").split("/"))
        known = name in names or (name in POSITION_NAMES and group in names)
        fits = is_numeric(item) and item.shape == (frames,)
        if fits and not known and address(item) not in entry.taken:
            found[f"/{entry.name}{full}" if entry.name else full] = f"{frames} values"
    return found


def _not_read(entry: Entry, camera: Camera, columns: Sequence[Column]) -> str:
    """Say what could not be read, and which positions were not taken; empty, if nothing."""
    untaken = list(_untaken(entry, camera, {column.name for column in columns}))
    shown = untaken[:LISTED] + ([f"{len(untaken) - LISTED} more"] if len(untaken) > LISTED else [])
    words = list(dict.fromkeys(error.problem for error in entry.obstacles.values()))
    if shown:
        words.append(f"not taken, one value per frame: {', '.join(shown)}")
    return "; ".join(words)


def _suggested(
    file: h5py.File, known: Collection[str], entry: Entry | None = None
) -> dict[str, str]:
    """Datasets that could be frames by the path that opens them, and their shapes.

    Where a group holds many images of one shape, the path is one for all of them.
    """
    group = file if entry is None else entry.group
    start = "" if entry is None or not entry.name else f"/{entry.name}"
    found: dict[str, str] = {}
    single: dict[str, list[tuple[str, h5py.Dataset]]] = {}
    for full, item in all_datasets(group).items():
        place = f"{start}{full}"
        if not is_numeric(item) or item.ndim < 2 or 0 in item.shape or place.strip("/") in known:
            continue
        if item.ndim >= 3:
            found[place] = f"{' x '.join(map(str, item.shape))}, {item.dtype}"
        else:
            single.setdefault(place.rpartition("/")[0], []).append((place, item))
    for folder, images in single.items():
        (_, item), *others = images
        shape = " x ".join(map(str, item.shape))
        alike = [place for place, other in images if other.shape == item.shape]
        if others and len(alike) == len(images):
            found[f"{folder}/*"] = f"{len(images)} images of {shape}, {item.dtype}"
        else:
            found |= {
                place: f"one image of {' x '.join(map(str, other.shape))}, {other.dtype}"
                for place, other in images
            }
    return found


def _entries(
    file: h5py.File, path: Path, place: str | None = None
) -> tuple[list[Entry], Obstacles]:
    """Top-level groups as the first layout sees them that recognises them, or the root.

    Of a file with very many, only the one that a place is in. Also the links to other files that
    cannot be opened.
    """
    broken: Obstacles = {}
    wanted = (place or "").strip("/").partition("/")[0]
    many = len(file) > MOST_SCANS
    if many and wanted and isinstance(follow_or_none(file, wanted), h5py.Group):
        named: Iterable[tuple[str, Any]] = [(wanted, follow(file, wanted))]
    else:
        named = members(file, broken)
    groups = [
        (name, item) for name, item in islice(named, MOST_SCANS) if isinstance(item, h5py.Group)
    ]
    if many and not wanted:
        names = ", ".join(name for name, _ in groups[:LISTED])
        raise InputError(
            f"{path} has {len(file)} groups at its root, too many to look at them all",
            f"Choose a scan: scan='<name>' or 'FILE::<name>'; it has {names} and others.",
        )
    found: list[Entry] = []
    for name, group in groups:
        entries = (recognise(group, path, name) for recognise in LAYOUTS)
        found.append(next(entry for entry in entries if entry is not None))
    if not many and is_bare(file) and all(type(entry) is NexusEntry for entry in found):
        return [NexusEntry(file, path, "")], broken
    return found, broken


def follow_or_none(file: h5py.File, name: str) -> Any:
    """Return what is at a path; None also where it is in a file that is missing."""
    try:
        return follow(file, name)
    except FileError:
        return None


def _given(
    file: h5py.File, entries: Sequence[Entry], scan: str | None, image: str, path: Path
) -> tuple[Entry, Camera]:
    """Frames at a path that the user gives, and the scan that they are in."""
    full = within(file, scan, image)
    given = f"image={image!r}" if scan is None else f"scan={scan!r}, image={image!r}"
    found = find_all_frames(file, full, path, argument=given)
    holding = (entry for entry in entries if full.startswith(f"{entry.name}/"))
    entry = next(holding, NexusEntry(file, path, ""))
    for name, item in found.items():
        check_grey(item, name, path, [item.parent, entry.get("instrument"), entry.group])
    if len(found) > 1:
        return entry, Camera(full, found)
    if isinstance(entry, NexusEntry):
        return entry, entry.camera(full, found[full])
    named = declared_names(found[full])
    axes = pixel_axes(named, found[full].ndim)
    return entry, Camera(full, found, {full: axes})


def _chosen(
    file: h5py.File, entries: Sequence[Entry], broken: Obstacles, scan: str | None, path: Path
) -> tuple[Entry, Camera]:
    # The root is the only scan of a file without entries, and has no name.
    name = None if scan is None else scan.strip("/") or None
    if name is not None and holds_frames(follow_or_none(file, name)):
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
        _check_links(broken, name)
    if len(matching) == 1:
        return matching[0]
    if not matching:
        _check_obstacles(entries, name)
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
    """Cameras of the scan that is meant; of all scans, where it has none or none is named."""
    meant = [entry for entry in entries if f"{name}/".startswith(f"{entry.name}/")]
    found = [(entry, camera) for entry in meant for camera in entry.cameras()]
    if found:
        return found
    for entry in entries:
        cameras = entry.cameras()
        found += [(entry, camera) for camera in cameras]
        blocking = [] if cameras else _blocking(entry)
        if name is None and blocking:
            # The scan whose frames are not there might be the one that is meant.
            remedy = f"{blocking[0].remedy} {OTHER_SCAN if len(entries) > 1 else ''}".strip()
            raise type(blocking[0])(blocking[0].problem, remedy)
    return found


def _blocking(entry: Entry) -> list[FileError]:
    """List what is in the way in a scan without cameras, as far as it may be one."""
    return [
        error
        for place, error in entry.obstacles.items()
        if MAY_BE_CAMERA.search(place) or holds_frames(follow_or_none(entry.group.file, place))
    ]


def _check_obstacles(entries: Sequence[Entry], name: str | None) -> None:
    """Say of the scan that is meant why it has no camera."""
    for entry in entries:
        if name is None or f"{name}/".startswith(f"{entry.name}/"):
            for error in _blocking(entry) or list(entry.obstacles.values()):
                raise error


def _check_links(broken: Obstacles, scan: str | None) -> None:
    """Refuse to choose where a whole scan is in a file that is missing."""
    for place, error in broken.items():
        if scan is None or place.strip("/") == scan.strip("/").partition("/")[0]:
            raise FileError(error.problem, f"{error.remedy} {OTHER_SCAN}") from error


def _no_images(file: h5py.File, entries: Sequence[Entry], path: Path) -> FileError:
    others = list(_suggested(file, ()))[:LISTED]
    remedy = f" of {', '.join(others)}" if others else ""
    return FileError(
        f"{path} has no images in any of its scans"
        f" ({', '.join(entry.name or '/' for entry in entries[:LISTED]) or 'none'})",
        "Looked for datasets of three axes in <scan>/instrument/<detector>, <scan>/measurement,"
        f" NXdetector, NXdata and /exchange. Give the path{remedy}: image='<path>';"
        " 'wavedask info FILE' lists the scans.",
    )


def _check_begun(file: h5py.File, scan: str | None, path: Path) -> None:
    """Say of cameras that have no frame that they have none yet."""
    empty = [
        name
        for name, item in all_datasets(file).items()
        if len(item.shape) >= 3
        and 0 in item.shape
        and (scan is None or name.startswith(f"/{scan}/"))
    ]
    if empty:
        raise FileError(
            f"{path} has no frames yet in {', '.join(empty[:LISTED])}",
            "Open it again when there are some.",
        )


def _shape(camera: Camera) -> str:
    first = next(iter(camera.datasets.values()))
    rows, columns = camera.image_shape
    words = [f"{camera.frames} frames of {rows} x {columns} px", first.dtype.name]
    return ", ".join([*words, *filter(None, [_compression(first)])])


def _compression(dataset: h5py.Dataset) -> str:
    """Name the compression of a dataset; empty, if it has none or it is that of other files."""
    settings = dataset.id.get_create_plist()
    names = [settings.get_filter(place)[3].decode() for place in range(settings.get_nfilters())]
    # The filters of a facility describe themselves at length: "bitshuffle; see ...".
    return {"deflate": "gzip"}.get(names[-1], names[-1].split(";")[0]) if names else ""
