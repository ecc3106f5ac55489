"""Scans of BLISS (ESRF): ``1.1``, ``1.2`` and so on, with measurement, instrument, positioners."""

from functools import cached_property
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from wavedask.conventions import COUNTER, MOTOR
from wavedask.io.columns import Column
from wavedask.io.hdf5.access import datasets, holds_frames, is_numeric, resolved, text_of
from wavedask.io.hdf5.layout import Camera, Entry, column_of, members

CAMERA_DATASETS: Final = ("image", "data")
"""Names under which a detector keeps its frames; the first one is preferred."""


class BlissEntry(Entry):
    """A scan of BLISS, or of a program that lays its files out alike."""

    @staticmethod
    def recognise(group: h5py.Group, path: Path, name: str) -> "BlissEntry | None":
        """Return the scan, if this is one."""
        is_one = "measurement" in group or "instrument/positioners" in group
        return BlissEntry(group, path, name) if is_one else None

    def cameras(self) -> list[Camera]:
        """Frames of detectors; where there are none, those that only measurement links to."""
        found = list(detector_cameras(self.group, self.path, self.name))
        if not found:
            for name, item in members(self.group, "measurement", self.path):
                if holds_frames(item):
                    full = f"{self.name}/measurement/{name}"
                    found.append(Camera(full, {full: item}))
        return found

    def moving(self) -> list[str]:
        """Names of positioners that were kept or measured at several positions."""
        return [
            name
            for name, item in self._positioners.items()
            if any(map(_has_several, (item, self._measured.get(name))))
        ]

    def columns(self, camera: Camera) -> tuple[list[Column], dict[str, str]]:
        """Motors and counters, and the positioners that are text.

        A motor that was recorded another number of times than there are frames is given as it is:
        who opens the scan refuses it, unless its positions are given otherwise.
        """
        frames = self.recorded(camera)
        columns = []
        texts = {}
        for name, item in self._positioners.items():
            if is_numeric(item):
                # A continuous scan keeps only the first position here, the others as measured.
                chosen = _best([self._measured.get(name), item], frames)
                columns.append(self._cut(column_of(name, MOTOR, chosen, item), frames))
            elif item.shape == ():
                texts[name] = text_of(item)
        for name, item in self._measured.items():
            if name not in self._positioners and is_numeric(item) and item.ndim == 1:
                column = self._cut(column_of(name, COUNTER, item), frames)
                if column.values.shape in ((), (frames,)):
                    columns.append(column)
        return columns, texts

    def recorded(self, camera: Camera) -> int:
        """Count the frames of a camera; of a running scan, those with all motors recorded."""
        frames = camera.frames
        if not self.running:
            return frames
        lengths: list[int] = [
            item.shape[0]
            for name, item in self._measured.items()
            if name in self._positioners and is_numeric(item) and item.ndim == 1
        ]
        return min([frames, *lengths])

    @cached_property
    def _measured(self) -> dict[str, h5py.Dataset]:
        return datasets(self.group.get("measurement"))

    @cached_property
    def _positioners(self) -> dict[str, h5py.Dataset]:
        groups = ("instrument/positioners_start", "instrument/positioners")
        return {
            name: item for group in groups for name, item in datasets(self.group.get(group)).items()
        }

    def _cut(self, column: Column, frames: int) -> Column:
        """Leave out what a running scan has recorded ahead of its images."""
        if not self.running or column.values.ndim == 0:
            return column
        return Column(column.name, column.role, column.values[:frames], column.units)


def detector_cameras(entry: h5py.Group, path: Path, scan: str) -> list[Camera]:
    """Frames under ``instrument/<detector>``.

    Parameters
    ----------
    entry : h5py.Group
        The scan.
    path : pathlib.Path
        The file.
    scan : str
        Path of the scan in that file.

    Returns
    -------
    list of Camera
    """
    found = []
    for detector, group in members(entry, "instrument", path):
        if not isinstance(group, h5py.Group):
            continue
        for name in CAMERA_DATASETS:
            item = resolved(group, name, path) if name in group else None
            if holds_frames(item):
                full = f"{scan}/instrument/{detector}/{name}".lstrip("/")
                found.append(Camera(full, {full: item}))
                break
    return found


def _best(items: list[Any], frames: int) -> h5py.Dataset:
    """Choose what has one value per frame, else what has several, else the first."""
    there = [item for item in items if is_numeric(item)]
    fitting = [item for item in there if item.shape == (frames,)]
    several = [item for item in there if item.ndim and item.size != 1]
    # Of two single positions that of the positioners, which is there for every motor.
    return (fitting or several or there[-1:])[0]


def _has_several(item: Any) -> bool:
    return is_numeric(item) and item.ndim == 1 and len(np.unique(item[()])) > 1
