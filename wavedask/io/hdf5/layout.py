"""The protocol between the layouts of HDF5 files and what opens them."""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from wavedask.conventions import MOTOR
from wavedask.errors import FileError
from wavedask.io.columns import MOST_COLUMNS, Column
from wavedask.io.hdf5.access import check_sources, text_of, unit_of, values_of
from wavedask.io.hdf5.axes import PixelAxes
from wavedask.io.hdf5.links import MOST_OBJECTS, Obstacles, follow, members
from wavedask.io.hdf5.stack import frame_count, image_shape, last_axes, lead_of

Address: TypeAlias = tuple[int, int]
"""Number of an open file, and place of an object in it."""

DEPTH: Final = 4
"""Groups within groups that are looked into."""
IMAGE_KEY: Final = "image_key"
"""Header item that says what a frame is: 0 sample, 1 flat, 2 dark, 3 invalid (NXtomo)."""
SCAN_TEXTS: Final = ("title", "start_time", "end_time")
"""Texts of a scan that become attributes."""


@dataclass(frozen=True, slots=True)
class Camera:
    """Frames of one camera in one scan.

    Attributes
    ----------
    name : str
        What chooses it: a path from the root of the file.
    datasets : mapping of str to h5py.Dataset
        Open datasets that hold the frames, in order, by their path in the file.
    axes : mapping of str to (int, int)
        Axes of rows and columns by the same path, where the file says that they are not the last.
    """

    name: str
    datasets: Mapping[str, h5py.Dataset]
    axes: Mapping[str, PixelAxes] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return sum(frame_count(item, self.axes.get(name)) for name, item in self.datasets.items())

    @property
    def lead(self) -> tuple[int, ...]:
        """Shape of the frames: all axes but rows and columns; of several datasets a row."""
        (first, *others) = self.datasets.values()
        return (self.frames,) if others else lead_of(first.shape, self.pixel_axes)

    @property
    def pixel_axes(self) -> PixelAxes:
        """Axes of rows and columns of the first dataset."""
        name, first = next(iter(self.datasets.items()))
        return self.axes.get(name) or last_axes(first)

    @property
    def image_shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return image_shape(next(iter(self.datasets.values())).shape, self.pixel_axes)


class Entry(ABC):
    """One scan of an open file, as its layout sees it.

    Parameters
    ----------
    group : h5py.Group
        The scan.
    path : pathlib.Path
        The file.
    name : str
        Path of the scan in that file, where it may be a link to another: the group itself only
        knows what it is called there.
    """

    def __init__(self, group: h5py.Group, path: Path, name: str) -> None:
        self.group = group
        self.path = path
        self.name = name
        self.obstacles: Obstacles = {}
        """What could not be looked at, by its path from the root, as far as the scan was."""
        self.taken: set[Address] = set()
        """Datasets that became columns."""
        self._inside: dict[Address, dict[str, Any]] = {}

    def get(self, name: str, group: h5py.Group | None = None) -> Any:
        """Return what is at a path in the scan, or in one of its groups.

        None where nothing is, or where its file is missing: that is kept among the obstacles.
        """
        start = self.group if group is None else group
        try:
            return follow(start, name)
        except FileError as error:
            self.obstacles.setdefault(f"{(start.name or '').rstrip('/')}/{name}", error)
            return None

    def inside(self, group: h5py.Group) -> dict[str, Any]:
        """Members of a group of the scan by name; each group is looked at once."""
        place = address(group)
        if place not in self._inside:
            self._inside[place] = dict(members(group, self.obstacles))
        return self._inside[place]

    def datasets(self, group: h5py.Group) -> dict[str, h5py.Dataset]:
        """Datasets of a group of the scan by name."""
        found = self.inside(group).items()
        return {name: item for name, item in found if isinstance(item, h5py.Dataset)}

    def column(
        self, name: str, role: str, item: h5py.Dataset, *like: h5py.Dataset
    ) -> Column | None:
        """Read a column; its unit is its own, or that of the next dataset that has one.

        None, where its values are in a file that is missing, or need a filter that is.
        """
        if len(self.taken) > MOST_COLUMNS:
            self.obstacles[f"/{self.name}"] = FileError(
                f"{self.path}: {self.name or '/'} has more than {MOST_COLUMNS} motors and counters,"
                " of which only the first ones are read",
                "Choose the motors that matter with motors={name: '<path>'}.",
            )
            return None
        self.taken |= {address(one) for one in (item, *like)}
        try:
            check_sources(item, self.path)
            values = np.asarray(values_of(item), dtype=np.float64)
        except FileError as error:
            self.obstacles.setdefault(str(item.name), error)
            return None
        unit = unit_of(item, *like)
        return Column(name, role, values.reshape(()) if values.size == 1 else values, unit)

    @cached_property
    def groups(self) -> list[tuple[str, h5py.Group]]:
        """Groups of the scan and below by their path, each once."""
        found: list[tuple[str, h5py.Group]] = []
        pending = deque([(self.name, self.group, 0)])
        seen = set()
        while pending:
            name, group, depth = pending.popleft()
            if address(group) in seen:
                continue
            seen.add(address(group))
            found.append((name, group))
            if depth == DEPTH:
                continue
            inner = [
                (f"{name}/{member}".lstrip("/"), item, depth + 1)
                for member, item in self.inside(group).items()
                if isinstance(item, h5py.Group)
            ]
            if len(found) + len(pending) + len(inner) > MOST_OBJECTS:
                self.obstacles[f"/{self.name}"] = FileError(
                    f"{self.path}: {self.name or '/'} has more than {MOST_OBJECTS} groups, not all"
                    " of which are looked at",
                    "Choose the frames with image='<path>'.",
                )
                break
            pending += inner
        return found

    @property
    def title(self) -> str:
        """Title of the scan; empty, if it has none."""
        return text_of(self.get("title"))

    @property
    def texts(self) -> dict[str, str]:
        """Title, start and end, as far as they are there."""
        items = ((name, self.get(name)) for name in SCAN_TEXTS)
        return {name: text_of(item) for name, item in items if isinstance(item, h5py.Dataset)}

    @cached_property
    def running(self) -> bool:
        """Whether the scan is still being written."""
        started = "start_time" in self.group and "end_time" not in self.group
        return bool(self.group.file.swmr_mode) or started

    @abstractmethod
    def cameras(self) -> list[Camera]:
        """Cameras whose frames are in the scan."""

    @abstractmethod
    def columns(self, camera: Camera) -> tuple[list[Column], dict[str, str]]:
        """Motors, counters and keys of the frames of a camera, and what is text."""

    def recorded(self, camera: Camera) -> int:
        """Count the frames of a camera that can be used by now."""
        return camera.frames

    def unfinished(self, camera: Camera) -> str:
        """Say how far a scan is that has not ended; empty, if it has."""
        if not self.running:
            return ""
        return f"{self.recorded(camera)} of {camera.frames} frames with all their motors"

    def moving(self, columns: Sequence[Column]) -> list[str]:
        """Names of the motors that were scanned, of the columns of the scan."""
        return [column.name for column in columns if has_moved(column)]


def unwritten(camera: Camera) -> str:
    """Say how much of the frames was never written; empty, if all of them were.

    A detector that makes room for all frames at once and is stopped leaves the others behind as
    zeros, as far as HDF5 is concerned.

    Parameters
    ----------
    camera : Camera
        The camera; frames in other files are not looked at.

    Returns
    -------
    str
    """
    for dataset in camera.datasets.values():
        if dataset.is_virtual or dataset.external:
            continue
        if dataset.chunks is None:
            if not dataset.id.get_storage_size():
                return "none of the frames was written"
            continue
        pairs = zip(dataset.shape, dataset.chunks, strict=True)
        chunks = math.prod(-(-size // chunk) for size, chunk in pairs)
        written = dataset.id.get_num_chunks()
        if written < chunks:
            return f"{written} of {chunks} chunks of the frames were written, the others read zero"
    return ""


def has_moved(column: Column) -> bool:
    """Whether a column is a motor that took more than one position."""
    values = column.values
    return column.role == MOTOR and values.ndim > 0 and len(np.unique(values)) > 1


def per_frame(
    values: npt.NDArray[Any], lead: Sequence[int], axis: int | None = None
) -> npt.NDArray[Any] | None:
    """Spread values over the frames of a mesh.

    Parameters
    ----------
    values : numpy.ndarray
        One value, one per frame in the shape of the mesh or flat, or one per step of an axis.
    lead : sequence of int
        Shape of the mesh: steps along each axis.
    axis : int, optional
        The axis that the values belong to, where they are one per step.

    Returns
    -------
    numpy.ndarray or None
        One value, or one per frame; None, if they are of another number.

    Examples
    --------
    >>> per_frame(np.array([1.0, 2.0]), (2, 3), axis=0)
    array([1., 1., 1., 2., 2., 2.])
    """
    frames = math.prod(lead)
    if values.size == 1 and frames != 1:
        return values.reshape(())
    if values.shape == tuple(lead) or values.shape == (frames,):
        return values.reshape(frames)
    if axis is not None and values.shape == (lead[axis],):
        shape = [1] * len(lead)
        shape[axis] = -1
        return np.broadcast_to(values.reshape(shape), tuple(lead)).reshape(frames)
    return None


def address(item: h5py.Group | h5py.Dataset) -> Address:
    """Where an object is, whatever the path that led to it."""
    info = h5py.h5o.get_info(item.id)
    return int(info.fileno), int(info.addr)
