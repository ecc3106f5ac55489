"""A scan of an HDF5 file: which layout it has, and what belongs to its frames."""

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wavedask.conventions import NOT_READ
from wavedask.errors import FileError
from wavedask.io.columns import Column
from wavedask.io.facts import NO_FACTS, Facts
from wavedask.io.frames import check_expansion
from wavedask.io.hdf5.access import check_sources, files_behind, opened
from wavedask.io.hdf5.choice import chosen, given_frames
from wavedask.io.hdf5.detector import facts_of
from wavedask.io.hdf5.entries import entries_of
from wavedask.io.hdf5.given import LISTED, file_motors
from wavedask.io.hdf5.layout import Camera, Entry, unwritten
from wavedask.io.hdf5.links import files_linked
from wavedask.io.hdf5.listing import untaken
from wavedask.io.hdf5.stack import Hdf5Stack

UNFINISHED: Final = "unfinished"
"""Attribute of a scan that was running when it was opened, or was stopped: how far it was."""

BLOCK_NUMBER: Final = re.compile(r"(?<=/data)_\d+$")
"""Number at the end of a block of DECTRIS: blocks are of one camera."""
MOST_FRAMES: Final = 10**7
"""Frames of a scan: with more, the list of frames alone would fill the memory."""

_logger = logging.getLogger("wavedask")


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
        entries, broken = entries_of(file, path, scan or image)
        if image is None:
            entry, camera = chosen(file, entries, broken, scan, path)
        else:
            entry, camera = given_frames(file, entries, scan, image, path)
        for dataset in camera.datasets.values():
            check_sources(dataset, path)
        _check_sizes(camera, path)
        behind = {one for item in camera.datasets.values() for one in files_behind(item, path)}
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
        _tell_of_others(path, behind | files_linked())
        return Hdf5Scan(
            Hdf5Stack(path, camera.datasets, frames=frames, axes=camera.axes),
            columns,
            constants,
            BLOCK_NUMBER.sub("", camera.name.removeprefix(f"{entry.name}/")),
            frozenset(behind),
            facts,
        )


def _check_sizes(camera: Camera, path: Path) -> None:
    """Refuse frames that are too many or too large for what the file holds."""
    if camera.frames > MOST_FRAMES:
        raise FileError(
            f"{path}: {camera.name} announces {camera.frames} frames, more than {MOST_FRAMES}",
            "The file is damaged, or holds something else than frames.",
        )
    rows, columns = camera.image_shape
    for name, dataset in camera.datasets.items():
        stored = dataset.id.get_storage_size()
        if dataset.is_virtual or dataset.external:
            stored = sum(file.stat().st_size for file in files_behind(dataset, path))
            # A virtual dataset may have its sources in its own file.
            stored += path.stat().st_size
        frame = rows * columns * dataset.dtype.itemsize
        check_expansion(path, f"a frame of {name}", size=frame, stored=stored)
        chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
        check_expansion(path, f"a chunk of {name}", size=chunk, stored=stored)


def _tell_of_others(path: Path, files: Iterable[Path]) -> None:
    """Log a warning of files that a scan is read from, and that are not below its own folder."""
    homes = {path.parent.absolute(), path.resolve().parent}
    outside = sorted(file for file in files if not any(file.is_relative_to(home) for home in homes))
    if outside:
        more = f" and {len(outside) - LISTED} more" if len(outside) > LISTED else ""
        _logger.warning(
            "%s leads to files outside of its folder: %s%s",
            *(path, ", ".join(map(str, outside[:LISTED])), more),
        )


def _not_read(entry: Entry, camera: Camera, columns: Sequence[Column]) -> str:
    """Say what could not be read, and which positions were not taken; empty, if nothing."""
    rest = list(untaken(entry, camera, {column.name for column in columns}))
    shown = rest[:LISTED] + ([f"{len(rest) - LISTED} more"] if len(rest) > LISTED else [])
    words = list(dict.fromkeys(error.problem for error in entry.obstacles.values()))
    if shown:
        words.append(f"not taken, one value per frame: {', '.join(shown)}")
    return "; ".join(words)
