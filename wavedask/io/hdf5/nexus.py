"""NeXus files: NXdetector, NXdata and NXtomo, and detectors that no class is given for.

A scan is an NXentry, or in a file without one the root itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from wavedask.conventions import COUNTER, HEADER, MOTOR
from wavedask.io.columns import Column
from wavedask.io.hdf5.access import class_of, datasets, holds_frames, is_numeric, resolved, text_of
from wavedask.io.hdf5.bliss import CAMERA_DATASETS, detector_cameras
from wavedask.io.hdf5.layout import IMAGE_KEY, Camera, Entry, column_of, per_frame

DEPTH: Final = 4
"""Groups within groups that are looked into."""
POSITIONS: Final = frozenset({"NXsample", "NXtransformations", "NXgoniometer"})
"""Classes whose numbers are positions of motors."""
NAMED_BY_GROUP: Final = {"NXpositioner": ("value", MOTOR), "NXmonitor": ("data", COUNTER)}
"""Classes that hold one motor or counter under a common name, which is the name of the group."""
TOMO_MOTORS: Final = frozenset(
    {"rotation_angle", "x_translation", "y_translation", "z_translation"}
)
"""Positions of a sample that NXtomo has for every frame."""
BARE: Final = frozenset({"NXdata", "NXdetector", "NXinstrument"})
"""Classes of which one at the root of a file, without an entry, makes the file a scan."""
KEYS: Final = frozenset({IMAGE_KEY, f"{IMAGE_KEY}_control"})


class NexusEntry(Entry):
    """A scan of a NeXus file."""

    @staticmethod
    def recognise(group: h5py.Group, path: Path, name: str) -> "NexusEntry | None":
        """Return the scan: any group may be one, those without cameras are of no use."""
        return NexusEntry(group, path, name)

    def cameras(self) -> list[Camera]:
        """Frames of detectors, then those that only NXdata has; each once, whatever links to it."""
        found: dict[tuple[int, int], Camera] = {}
        for kind in ("NXdetector", "NXdata"):
            for name, group in self._groups(complete=True):
                if _kind(group) == kind:
                    for key, item in self._frames(group):
                        full = f"{name}/{key}".lstrip("/")
                        found.setdefault(_address(item), Camera(full, {full: item}))
        if not found:
            return detector_cameras(self.group, self.path, self.name)
        return list(found.values())

    def columns(self, camera: Camera) -> tuple[list[Column], dict[str, str]]:
        """Positions, monitors and keys that have one value per frame, or a single one.

        Of a mesh that keeps its frames as an array, steps along an axis are spread over it. A
        position of another number of values is given as it is: who opens the scan refuses it,
        unless its positions are given otherwise.
        """
        columns: dict[str, Column] = {}
        for candidate in self._candidates(camera):
            column = column_of(candidate.name, candidate.role, candidate.item)
            values = per_frame(column.values, camera.lead, candidate.axis)
            if values is None and candidate.certain:
                values = column.values.reshape(-1)
            if values is not None and (values.ndim or candidate.role == MOTOR):
                columns.setdefault(candidate.name, replace(column, values=values))
        return list(columns.values()), {}

    def _frames(self, group: h5py.Group) -> Iterator[tuple[str, Any]]:
        if _kind(group) == "NXdata":
            names = [text_of(group.attrs.get("signal"))]
            # Before 2014 the signal was marked itself.
            names += [key for key, item in datasets(group).items() if "signal" in item.attrs]
        else:
            names = [text_of(group.attrs.get("signal")), *CAMERA_DATASETS]
        for name in dict.fromkeys(name for name in names if name in group):
            item = resolved(group, name, self.path)
            if holds_frames(item):
                yield name, item

    def _groups(self, *, complete: bool = False) -> Iterator[tuple[str, h5py.Group]]:
        """Yield the groups of the scan and below by their path, each once.

        Where all are wanted, a link to a file that is missing is an error.
        """
        pending = [(self.name, self.group, 0)]
        seen = set()
        while pending:
            name, group, depth = pending.pop(0)
            if _address(group) in seen:
                continue
            seen.add(_address(group))
            yield name, group
            if depth < DEPTH:
                inner = (
                    (member, resolved(group, member, self.path) if complete else group.get(member))
                    for member in group
                )
                pending += [
                    (f"{name}/{member}".lstrip("/"), item, depth + 1)
                    for member, item in inner
                    if isinstance(item, h5py.Group)
                ]

    def _candidates(self, camera: Camera) -> Iterator["_Candidate"]:
        """Yield what may belong to the frames, the surest first."""
        groups = list(self._groups())
        for name, group in groups:
            value, role = NAMED_BY_GROUP.get(class_of(group), ("", ""))
            if value and is_numeric(group.get(value)):
                yield _Candidate(name.rpartition("/")[2], role, group[value], certain=role == MOTOR)
        addresses = {_address(item) for item in camera.datasets.values()}
        for _, group in groups:
            # Only the plot of these very frames says what their axes are.
            inside = map(_address, datasets(group).values())
            if _kind(group) == "NXdata" and not addresses.isdisjoint(inside):
                yield from _axes(group, len(camera.lead))
        for _, group in groups:
            if class_of(group) in POSITIONS:
                for name, item in datasets(group).items():
                    if is_numeric(item) and item.ndim <= len(camera.lead):
                        yield _Candidate(name, MOTOR, item, certain=name in TOMO_MOTORS)
        beside = {full.rpartition("/")[0] for full in camera.datasets}
        for name, group in groups:
            if name in beside and _kind(group) != "NXdata":
                for key, item in datasets(group).items():
                    if is_numeric(item) and item.ndim == 1 and item.size > 1:
                        role = HEADER if key in KEYS else COUNTER
                        # Without its keys a dark frame would be taken for any other.
                        yield _Candidate(key, role, item, certain=key == IMAGE_KEY)


def is_bare(file: h5py.File) -> bool:
    """Whether a file has no NXentry: what is at its root is one scan.

    Parameters
    ----------
    file : h5py.File
        The open file.
    """
    kinds = {class_of(file.get(name)) for name in file}
    return "NXentry" not in kinds and (_kind(file) == "NXdata" or not BARE.isdisjoint(kinds))


def _kind(group: h5py.Group) -> str:
    """Class of a group; the root of a file, which can have none of its own, may be a plot."""
    return "NXdata" if group.name == "/" and "signal" in group.attrs else class_of(group)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A dataset that may have values for the frames.

    Attributes
    ----------
    name, role : str
        What it would be.
    item : h5py.Dataset
        The values.
    axis : int or None
        Axis of a mesh that it belongs to.
    certain : bool
        Whether it does belong to the frames, so that another number of values is a mistake.
    """

    name: str
    role: str
    item: h5py.Dataset
    axis: int | None = None
    certain: bool = False


def _axes(group: h5py.Group, lead: int) -> Iterator[_Candidate]:
    """Axes of a plot that run over frames."""
    axes = group.attrs.get("axes", ())
    names = [text_of(axis) for axis in np.atleast_1d(axes)]
    for place, name in enumerate(names[:lead]):
        item = group.get(name)
        if is_numeric(item):
            yield _Candidate(name, MOTOR, item, axis=place, certain=True)
    for name, item in datasets(group).items():
        places = np.atleast_1d(group.attrs.get(f"{name}_indices", lead))
        if is_numeric(item) and name not in names and (places < lead).all():
            axis = int(places[0]) if places.size == 1 else None
            yield _Candidate(name, MOTOR, item, axis=axis, certain=True)


def _address(item: h5py.Group | h5py.Dataset) -> tuple[int, int]:
    """Where an object is, whatever the path that led to it."""
    info = h5py.h5o.get_info(item.id)
    return int(info.fileno), int(info.addr)
