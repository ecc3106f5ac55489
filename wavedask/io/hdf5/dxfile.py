"""Data Exchange files (APS): ``/exchange/data``, ``data_white``, ``data_dark`` and ``theta``."""

from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from wavedask.conventions import COUNTER, HEADER, MOTOR
from wavedask.io.columns import Column
from wavedask.io.hdf5.access import datasets, holds_frames, is_numeric, unit_of
from wavedask.io.hdf5.axes import declared_names, pixel_axes
from wavedask.io.hdf5.bliss import is_grey
from wavedask.io.hdf5.layout import IMAGE_KEY, Camera, Entry
from wavedask.io.hdf5.stack import frame_count, image_shape

DATA: Final = "data"
ANGLE: Final = "theta"
SHIFT: Final = "data_shift"
"""How the names begin of the positions of the sample in each projection, in pixels."""
KEY_OF: Final = {"": 0, "_white": 1, "_dark": 2}
"""Key of the frames of ``data<suffix>``, as in NXtomo."""


class DxEntry(Entry):
    """The group ``exchange`` of a Data Exchange file.

    All its frames are one scan, the flat and dark ones behind the others, told apart by their key.
    """

    @staticmethod
    def recognise(group: h5py.Group, path: Path, name: str) -> "DxEntry | None":
        """Return the scan, if this is one."""
        is_one = name == "exchange" and DATA in group
        return DxEntry(group, path, name) if is_one else None

    def cameras(self) -> list[Camera]:
        """Return the one camera: projections, flat frames, dark frames."""
        items = {suffix: self.get(f"{DATA}{suffix}") for suffix in KEY_OF}
        found = {
            suffix: item
            for suffix, item in items.items()
            if holds_frames(item) or (suffix and _is_average(item, items[""]))
        }
        places = {suffix: f"{self.name}/{DATA}{suffix}" for suffix in found}
        for suffix, item in found.items():
            if not is_grey(self, item, places[suffix]):
                return []
        common = declared_names(found[""]) if "" in found else []
        axes = {
            places[suffix]: pixel_axes(
                declared_names(item) or (common if item.ndim == 3 else []), item.ndim
            )
            for suffix, item in found.items()
        }
        datasets = {places[suffix]: item for suffix, item in found.items()}
        return [Camera(self.name, datasets, axes)] if found else []

    def columns(self, camera: Camera) -> tuple[list[Column], dict[str, str]]:
        """Return the keys, and what has one value per projection (NaN for other frames)."""
        suffixes = [name.rpartition("/")[2].removeprefix(DATA) for name in camera.datasets]
        counts = [
            frame_count(item, camera.axes.get(name)) for name, item in camera.datasets.items()
        ]
        keys = np.repeat([float(KEY_OF.get(suffix, 0)) for suffix in suffixes], counts)
        columns = [Column(IMAGE_KEY, HEADER, keys)]
        others = {
            name: item
            for name, item in datasets(self.group, self.obstacles).items()
            if is_numeric(item) and item.ndim == 1 and not name.endswith(("_white", "_dark"))
        }
        for name, item in others.items():
            pieces = [
                self._values(f"{name}{suffix}", count)
                for suffix, count in zip(suffixes, counts, strict=True)
            ]
            if name != ANGLE and pieces[0] is None:
                continue
            values = [
                np.full(count, np.nan) if piece is None else piece
                for piece, count in zip(pieces, counts, strict=True)
            ]
            role = MOTOR if name == ANGLE or name.startswith(SHIFT) else COUNTER
            columns.append(Column(name, role, np.concatenate(values), unit_of(item)))
        return columns, {}

    def _values(self, name: str, count: int) -> np.ndarray | None:
        item = self.get(name)
        if not is_numeric(item) or item.ndim != 1 or (name != ANGLE and item.size != count):
            return None
        column = self.column(name, COUNTER, item)
        return None if column is None else column.values.reshape(-1)


def _is_average(item: Any, data: Any) -> bool:
    """Whether flat or dark frames are kept as a single image, without an axis of frames."""
    if not is_numeric(item) or not holds_frames(data):
        return False
    return bool(item.shape == image_shape(data.shape, pixel_axes(declared_names(data), data.ndim)))
