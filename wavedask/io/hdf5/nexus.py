"""NeXus files: NXdetector, NXdata and NXtomo, and detectors that no class is given for.

A scan is an NXentry, or in a file without one the root itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from wavedask.conventions import COUNTER, HEADER, MOTOR
from wavedask.errors import FileError
from wavedask.io.columns import Column
from wavedask.io.hdf5.access import class_of, holds_frames, is_numeric, text_of
from wavedask.io.hdf5.axes import SEPARATORS, declared_names, pixel_axes
from wavedask.io.hdf5.bliss import CAMERA_DATASETS, detector_cameras, is_grey
from wavedask.io.hdf5.layout import IMAGE_KEY, Camera, Entry, address, per_frame
from wavedask.io.hdf5.links import members

POSITIONS: Final = frozenset({"NXsample", "NXtransformations", "NXgoniometer"})
"""Classes whose numbers are positions of motors."""
POSITION_NAMES: Final = ("value", "readback", "rbv", "position", "raw_value", "data")
"""Names under which an NXpositioner keeps its positions; the first one is preferred."""
MONITOR: Final = "NXmonitor"
TOMO_MOTORS: Final = frozenset(
    {"rotation_angle", "x_translation", "y_translation", "z_translation"}
)
"""Positions of a sample that NXtomo has for every frame."""
BARE: Final = frozenset({"NXdata", "NXdetector", "NXinstrument"})
"""Classes of which one at the root of a file, without an entry, makes the file a scan."""
KEYS: Final = frozenset({IMAGE_KEY, f"{IMAGE_KEY}_control"})
ATTRIBUTES: Final = "NDAttributes"
"""Group in which the areaDetector of EPICS keeps one value per frame of each process variable."""
DRIVER: Final = ("NDArray", "ColorMode", "BayerPattern", "FilePath", "FileName", "Bin", "Offset")
"""How the attributes begin that the driver of an areaDetector adds by itself."""
PROCESS_VARIABLE: Final = "EPICSPV"
"""What the source type of an attribute contains that was read from a device."""
SOLEIL_DATA: Final = "scan_data"
"""Group in which the beamlines of SOLEIL keep all that was recorded in a scan."""
ACTUATORS: Final = ("actuator", "trajectory")
"""How the positions of the motors are named there; everything else was measured."""


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
            for name, group in self.groups:
                if _kind(group) == kind:
                    for key, item in self._frames(group):
                        full = f"{name}/{key}".lstrip("/")
                        if address(item) not in found and is_grey(self, item, full, group):
                            found[address(item)] = self.camera(full, item)
        stacks = [camera for camera in found.values() if camera.lead]
        # Beside frames, a single image is a flat field or a mask.
        return stacks or list(found.values()) or detector_cameras(self) or self._plain_data()

    def camera(self, full: str, item: h5py.Dataset) -> Camera:
        """Return the camera of one dataset, with its axes as they are declared."""
        names = declared_names(item, self._plots(item))
        axes = pixel_axes(names, item.ndim) if item.ndim > 2 else (0, 1)
        return Camera(full, {full: item}, {full: axes})

    def columns(self, camera: Camera) -> tuple[list[Column], dict[str, str]]:
        """Positions, monitors and keys that have one value per frame, or a single one.

        Of a mesh that keeps its frames as an array, steps along an axis are spread over it. A
        position of another number of values is returned unchanged: the caller raises an error,
        unless `motors` gives its positions.
        """
        columns: dict[str, Column] = {}
        for candidate in self._candidates(camera):
            planned = self.planned(camera)
            if candidate.item.size > planned and not candidate.certain:
                continue
            column = self.column(candidate.name, candidate.role, candidate.item)
            if column is None:
                continue
            stated = column.values
            if stated.shape == (planned,):
                # Of an acquisition that was stopped, positions of frames that never came.
                stated = stated[: camera.frames]
            values = per_frame(stated, camera.lead, candidate.axis)
            if values is None and candidate.certain:
                values = column.values.reshape(-1)
            if values is not None and (values.ndim or candidate.role == MOTOR):
                columns.setdefault(candidate.name, replace(column, values=values))
        return list(columns.values()), {}

    def _note_offset(self, item: h5py.Dataset) -> None:
        """Say of a transformation with an offset that its position is read without it."""
        offset = item.attrs.get("offset")
        if offset is not None and np.any(np.asarray(offset, dtype=np.float64)):
            self.obstacles[f"{item.name}@offset"] = FileError(
                f"{self.path}: the offset {np.ravel(offset).tolist()} of {item.name} is not added"
                " to its positions",
                "Add it, if the absolute position matters.",
            )

    def planned(self, camera: Camera) -> int:
        """Count the frames that were asked for; those that there are, where nothing says more."""
        return camera.frames

    def _plain_data(self) -> list[Camera]:
        """Frames of a data file of DECTRIS, which are in a group without a class."""
        item = self.get("data/data")
        full = f"{self.name}/data/data".lstrip("/")
        if not holds_frames(item) or not is_grey(self, item, full):
            return []
        return [self.camera(full, item)]

    def _frames(self, group: h5py.Group) -> Iterator[tuple[str, Any]]:
        if _kind(group) == "NXdata":
            names = [text_of(group.attrs.get("signal"))]
            # Before 2014 the signal was marked itself.
            inside = self.datasets(group)
            names += [key for key, item in inside.items() if "signal" in item.attrs]
            if not any(names):
                # SOLEIL marks none of its signals.
                names = list(inside)
        else:
            names = [text_of(group.attrs.get("signal")), *CAMERA_DATASETS]
        for name in dict.fromkeys(filter(None, names)):
            item = self.get(name, group)
            if holds_frames(item) or _is_single_image(item):
                yield name, item

    def _plots(self, item: h5py.Dataset) -> Iterator[h5py.Group]:
        """Yield the plots whose signal a dataset is."""
        for _, group in self.groups:
            if _kind(group) == "NXdata":
                signal = text_of(group.attrs.get("signal"))
                shown = self.get(signal, group) if signal else None
                if isinstance(shown, h5py.Dataset) and address(shown) == address(item):
                    yield group

    def _candidates(self, camera: Camera) -> Iterator["_Candidate"]:
        """Yield what may belong to the frames, the surest first."""
        groups = self.groups
        for name, group in groups:
            own = name.rpartition("/")[2]
            kind = class_of(group)
            if kind == MONITOR and is_numeric(item := self.get("data", group)):
                yield _Candidate(own, COUNTER, item)
            elif kind == "NXpositioner":
                item = _position(self.datasets(group), own)
                if item is not None:
                    yield _Candidate(own, MOTOR, item, certain=True)
        addresses = {address(item) for item in camera.datasets.values()}
        for _, group in groups:
            # Only the plot of these very frames says what their axes are.
            inside = self.datasets(group) if _kind(group) == "NXdata" else {}
            if not addresses.isdisjoint(map(address, inside.values())):
                yield from _axes(group, inside, camera)
        for _, group in groups:
            if class_of(group) in POSITIONS:
                for name, item in self.datasets(group).items():
                    if is_numeric(item) and item.ndim <= len(camera.lead):
                        self._note_offset(item)
                        yield _Candidate(name, MOTOR, item, certain=name in TOMO_MOTORS)
        for name, group in groups:
            if name.rpartition("/")[2] == ATTRIBUTES:
                yield from _attributes(self.datasets(group))
        beside = {full.rpartition("/")[0] for full in camera.datasets}
        for name, group in groups:
            if name not in beside:
                continue
            if name.rpartition("/")[2] == SOLEIL_DATA:
                yield from _recorded_by_soleil(self.datasets(group), camera)
            if _kind(group) != "NXdata":
                for key, item in self.datasets(group).items():
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
    kinds = {class_of(item) for _, item in members(file)}
    return "NXentry" not in kinds and (_kind(file) == "NXdata" or not BARE.isdisjoint(kinds))


def _kind(group: h5py.Group) -> str:
    """Class of a group; the root of a file, which can have none of its own, may be a plot."""
    return "NXdata" if group.name == "/" and "signal" in group.attrs else class_of(group)


def _is_single_image(item: Any) -> bool:
    """Whether a dataset of two axes says that it is an image: it could be a table of spectra."""
    if not is_numeric(item) or item.ndim != 2 or 0 in item.shape or item.dtype.kind == "b":
        return False
    marks = (text_of(item.attrs.get(name)).lower() for name in ("interpretation", "CLASS"))
    return "image" in marks


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


def _position(inside: Mapping[str, h5py.Dataset], own: str) -> h5py.Dataset | None:
    """Positions of an NXpositioner: under one of the usual names, its own, or the only numbers."""
    numeric = {name: item for name, item in inside.items() if is_numeric(item)}
    lower = {name.lower(): item for name, item in numeric.items()}
    for name in (*POSITION_NAMES, own.lower()):
        if name in lower:
            return lower[name]
    return next(iter(numeric.values())) if len(numeric) == 1 else None


def _axes(
    group: h5py.Group, inside: dict[str, h5py.Dataset], camera: Camera
) -> Iterator[_Candidate]:
    """Axes of a plot that run over frames."""
    frames = next(iter(camera.datasets.values()))
    # Which axis of the frames each axis of the dataset is.
    order = [place for place in range(frames.ndim) if place not in camera.pixel_axes]
    names = declared_names(frames, [group])
    if not names:
        given = [text_of(axis) for axis in np.atleast_1d(group.attrs.get("axes", ()))]
        names = SEPARATORS.split(given[0]) if len(given) == 1 else given
    for place, name in enumerate(names):
        item = inside.get(name)
        if is_numeric(item) and place in order:
            yield _Candidate(name, MOTOR, item, axis=order.index(place), certain=True)
    for name, item in inside.items():
        if not is_numeric(item) or name in names or item.ndim > len(order):
            continue
        if f"{name}_indices" in group.attrs:
            places = np.atleast_1d(group.attrs[f"{name}_indices"]).tolist()
        elif is_numeric_scalar(item.attrs.get("axis")):
            # Before 2014 the axes were marked themselves, counted from one.
            places = [int(np.ravel(item.attrs["axis"])[0]) - 1]
        else:
            continue
        if all(place in order for place in places):
            axis = order.index(places[0]) if len(places) == 1 else None
            yield _Candidate(name, MOTOR, item, axis=axis, certain=True)


def is_numeric_scalar(value: Any) -> bool:
    """Whether an attribute is one number, or a text of digits."""
    return value is not None and text_of(value).isdigit()


def _attributes(inside: Mapping[str, h5py.Dataset]) -> Iterator[_Candidate]:
    """Process variables that an areaDetector recorded with its frames."""
    for name, item in inside.items():
        if is_numeric(item) and item.ndim == 1:
            kind = text_of(item.attrs.get("NDAttrSourceType"))
            device = PROCESS_VARIABLE in kind.upper().replace("_", "") if kind else True
            is_motor = device and not name.startswith(DRIVER)
            yield _Candidate(name, MOTOR if is_motor else COUNTER, item)


def _recorded_by_soleil(inside: Mapping[str, h5py.Dataset], camera: Camera) -> Iterator[_Candidate]:
    """Positions and counters that stand beside the frames."""
    for name, item in inside.items():
        if is_numeric(item) and item.ndim <= max(1, len(camera.lead)):
            is_motor = name.startswith(ACTUATORS)
            # Of a mesh, an actuator has a step per line or per column, or one value per frame.
            axis = next(
                (place for place, size in enumerate(camera.lead) if item.shape == (size,)), None
            )
            ambiguous = len(camera.lead) > 1 and len(set(camera.lead)) < len(camera.lead)
            yield _Candidate(
                name, MOTOR if is_motor else COUNTER, item, axis=None if ambiguous else axis
            )
