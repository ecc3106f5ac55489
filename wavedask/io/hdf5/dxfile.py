"""Data Exchange files (APS): ``/exchange/data``, ``data_white``, ``data_dark`` and ``theta``."""

from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from wavedask.conventions import COUNTER, HEADER, MOTOR
from wavedask.io.columns import Column
from wavedask.io.hdf5.access import datasets, holds_frames, is_numeric, resolved, unit_of
from wavedask.io.hdf5.layout import IMAGE_KEY, Camera, Entry
from wavedask.io.hdf5.stack import frame_count

DATA: Final = "data"
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
        items = {suffix: self._item(f"{DATA}{suffix}") for suffix in KEY_OF}
        found = {
            f"{self.name}/{DATA}{suffix}": item
            for suffix, item in items.items()
            if holds_frames(item) or (suffix and _is_average(item, items[""]))
        }
        return [Camera(self.name, found)] if found else []

    def columns(self, camera: Camera) -> tuple[list[Column], dict[str, str]]:
        """Return the keys, the angles (NaN, where the file has none) and what was counted."""
        suffixes = [name.rpartition("/")[2].removeprefix(DATA) for name in camera.datasets]
        counts = [frame_count(dataset) for dataset in camera.datasets.values()]
        keys = np.repeat([float(KEY_OF.get(suffix, 0)) for suffix in suffixes], counts)
        columns = [Column(IMAGE_KEY, HEADER, keys)]
        others = {
            name: item
            for name, item in datasets(self.group).items()
            if is_numeric(item) and item.ndim == 1 and not name.endswith(("_white", "_dark"))
        }
        for name, item in others.items():
            pieces = [
                self._values(f"{name}{suffix}", count)
                for suffix, count in zip(suffixes, counts, strict=True)
            ]
            known = [piece for piece in pieces if piece is not None]
            if name != "theta" and len(known) < len(pieces):
                continue
            values = [
                np.full(count, np.nan) if piece is None else piece
                for piece, count in zip(pieces, counts, strict=True)
            ]
            role = MOTOR if name == "theta" else COUNTER
            columns.append(Column(name, role, np.concatenate(values), unit_of(item)))
        return columns, {}

    def _item(self, name: str) -> h5py.Dataset | None:
        return resolved(self.group, name, self.path) if name in self.group else None

    def _values(self, name: str, count: int) -> np.ndarray | None:
        item = self.group.get(name)
        if not is_numeric(item) or item.ndim != 1 or (name != "theta" and item.size != count):
            return None
        return np.asarray(item[()], np.float64)


def _is_average(item: Any, data: Any) -> bool:
    """Whether flat or dark frames are kept as a single image, without an axis of frames."""
    return is_numeric(item) and holds_frames(data) and item.shape == data.shape[-2:]
