"""Scans of BLISS (ESRF): ``1.1``, ``1.2`` and so on, with measurement, instrument, positioners."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from wavedask.conventions import COUNTER, MOTOR
from wavedask.errors import FileError
from wavedask.io.columns import Column
from wavedask.io.hdf5.access import class_of, datasets, holds_frames, is_numeric, text_of, values_of
from wavedask.io.hdf5.axes import check_grey
from wavedask.io.hdf5.layout import Camera, Entry
from wavedask.io.hdf5.links import members

CAMERA_DATASETS: Final = ("image", "data")
"""Names under which a detector keeps its frames; the first one is preferred."""
END_REASON: Final = "end_reason"
"""Text that says why a scan ended."""
WHOLE: Final = "SUCCESS"
"""What it is, where the scan was not stopped."""


class BlissEntry(Entry):
    """A scan of BLISS, or of a program that writes the same layout."""

    @staticmethod
    def recognise(group: h5py.Group, path: Path, name: str) -> "BlissEntry | None":
        """Return the scan, if this is one."""
        is_one = "measurement" in group or "instrument/positioners" in group
        return BlissEntry(group, path, name) if is_one else None

    @cached_property
    def stopped(self) -> bool:
        """Whether the scan ended before its time (Ctrl-C, or an error)."""
        return text_of(self.get(END_REASON)).upper() not in ("", WHOLE)

    @cached_property
    def groups(self) -> list[tuple[str, h5py.Group]]:
        """The scan and its devices: what belongs to the frames is at places that are known."""
        devices = members(self.get("instrument"), self.obstacles)
        return [(self.name, self.group)] + [
            (f"{self.name}/instrument/{name}", group)
            for name, group in devices
            if isinstance(group, h5py.Group)
        ]

    def cameras(self) -> list[Camera]:
        """Frames of detectors; where there are none, those that only measurement links to."""
        found = detector_cameras(self)
        if not found:
            for name, item in members(self.get("measurement"), self.obstacles):
                if holds_frames(item):
                    full = f"{self.name}/measurement/{name}"
                    found.append(Camera(full, {full: item}))
        return found

    def moving(self, columns: Sequence[Column]) -> list[str]:
        """Names of positioners that were kept or measured at several positions."""
        return [
            name
            for name, item in self._positioners.items()
            if any(map(_has_several, (item, self._measured.get(name))))
        ]

    def columns(self, camera: Camera) -> tuple[list[Column], dict[str, str]]:
        """Motors and counters, and the positioners that are text.

        A motor that was recorded another number of times than there are frames is given as it is:
        the caller raises an error, unless `motors` gives its positions.
        """
        frames = self.recorded(camera)
        columns = []
        texts = {}
        for name, item in self._positioners.items():
            if is_numeric(item):
                # A continuous scan keeps only the first position here, the others as measured.
                chosen = _best([self._measured.get(name), item], frames)
                columns.append(self._cut(self.column(name, MOTOR, chosen, item), frames))
            elif item.shape == ():
                texts[name] = text_of(item)
        for name, item in self._measured.items():
            if name not in self._positioners and is_numeric(item) and item.ndim == 1:
                column = self._cut(self.column(name, COUNTER, item), frames)
                if column is not None and column.values.shape in ((), (frames,)):
                    columns.append(column)
        return [column for column in columns if column is not None], texts

    def recorded(self, camera: Camera) -> int:
        """Count the frames of a camera; of a scan that did not end well, those with all motors."""
        frames = camera.frames
        if not (self.running or self.stopped):
            return frames
        return min([frames, *self._recorded_positions])

    def unfinished(self, camera: Camera) -> str:
        """Say how far a scan is that runs or was stopped; empty, if it has ended."""
        if self.running:
            return super().unfinished(camera)
        frames = self.recorded(camera)
        planned = max([camera.frames, *self._recorded_positions])
        if not self.stopped or frames == planned:
            return ""
        reason = text_of(self.get(END_REASON))
        if frames < camera.frames:
            return f"{frames} of {camera.frames} frames with all their motors ({reason})"
        return f"{frames} of {planned} positions have a frame ({reason})"

    @cached_property
    def _recorded_positions(self) -> list[int]:
        """How many positions of each motor were measured."""
        return [
            item.shape[0]
            for name, item in self._measured.items()
            if name in self._positioners and is_numeric(item) and item.ndim == 1
        ]

    @cached_property
    def _measured(self) -> dict[str, h5py.Dataset]:
        return datasets(self.get("measurement"), self.obstacles)

    @cached_property
    def _positioners(self) -> dict[str, h5py.Dataset]:
        """Motors by name, the best source last: a group of its own, the start, the scan."""
        found = {
            name.rpartition("/")[2]: value
            for name, group in self.groups[1:]
            if class_of(group) == "NXpositioner"
            and isinstance(value := self.get("value", group), h5py.Dataset)
        }
        for place in ("instrument/positioners_start", "instrument/positioners"):
            found |= datasets(self.get(place), self.obstacles)
        return found

    def _cut(self, column: Column | None, frames: int) -> Column | None:
        """Leave out what was recorded ahead of the images, where a scan has not ended well."""
        if column is None or column.values.ndim == 0 or not (self.running or self.stopped):
            return column
        return Column(column.name, column.role, column.values[:frames], column.units)


def detector_cameras(entry: Entry) -> list[Camera]:
    """Frames under ``instrument/<detector>``.

    Parameters
    ----------
    entry : Entry
        The scan; it keeps what cannot be looked at.

    Returns
    -------
    list of Camera
    """
    found = []
    for detector, group in members(entry.get("instrument"), entry.obstacles):
        if not isinstance(group, h5py.Group):
            continue
        for name in CAMERA_DATASETS:
            item = entry.get(name, group)
            full = f"{entry.name}/instrument/{detector}/{name}".lstrip("/")
            if holds_frames(item) and is_grey(entry, item, full, group):
                found.append(Camera(full, {full: item}))
                break
    return found


def is_grey(entry: Entry, item: h5py.Dataset, full: str, *nearby: Any) -> bool:
    """Whether frames are grey; if they are not, the entry keeps why."""
    # The file writer of areaDetector puts its attributes beside the detector, too.
    around = (*nearby, entry.get("instrument"), entry.group)
    try:
        check_grey(item, full, entry.path, around)
    except FileError as error:
        entry.obstacles[f"/{full}"] = error
        return False
    return True


def _best(items: list[Any], frames: int) -> h5py.Dataset:
    """Choose what has one value per frame, else what has several, else the first."""
    there = [item for item in items if is_numeric(item)]
    fitting = [item for item in there if item.shape == (frames,)]
    several = [item for item in there if item.ndim and item.size != 1]
    # Of two single positions that of the positioners, which is there for every motor.
    return (fitting or several or there[-1:])[0]


def _has_several(item: Any) -> bool:
    return is_numeric(item) and item.ndim == 1 and len(np.unique(values_of(item))) > 1
