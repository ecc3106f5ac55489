"""Which scan and camera of an HDF5 file are meant, or why the choice is not unique."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import h5py

from wavedask.errors import FileError, InputError
from wavedask.io.hdf5.access import holds_frames
from wavedask.io.hdf5.axes import check_grey, declared_names, pixel_axes
from wavedask.io.hdf5.entries import follow_or_none
from wavedask.io.hdf5.given import LISTED, all_datasets, find_all_frames, within
from wavedask.io.hdf5.layout import Camera, Entry
from wavedask.io.hdf5.links import Obstacles
from wavedask.io.hdf5.listing import suggested
from wavedask.io.hdf5.nexus import NexusEntry

MAY_BE_CAMERA: Final = re.compile(
    r"/(image|data|data_\d+)$|/(instrument|measurement)/[^/]+$|/exchange/", re.IGNORECASE
)
"""Paths at which frames may be expected."""
OTHER_SCAN: Final = "Or choose a scan that is there: scan='<name>'."


def given_frames(
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


def chosen(
    file: h5py.File, entries: Sequence[Entry], broken: Obstacles, scan: str | None, path: Path
) -> tuple[Entry, Camera]:
    """Find the only camera of the scan that is meant, or of all scans, or say what is there."""
    # The root is the only scan of a file without entries, and has no name.
    name = None if scan is None else scan.strip("/") or None
    if name is not None and holds_frames(follow_or_none(file, name)):
        # The path of frames themselves, whatever else of their scan is missing.
        return given_frames(file, entries, None, name, path)
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
    others = list(suggested(file, ()))[:LISTED]
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
