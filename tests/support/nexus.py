"""Small NeXus files for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

FRAMES = np.random.default_rng(0).integers(1, 1000, (4, 8, 9)).astype("u2")


def group(file: h5py.Group, path: str, nx_class: str = "", **attributes: Any) -> h5py.Group:
    """Make a group of a class, or take it if it is there."""
    made = file.require_group(path)
    if nx_class:
        made.attrs["NX_class"] = nx_class
    made.attrs.update(attributes)
    return made


@contextmanager
def nexus(path: Path) -> Iterator[h5py.File]:
    """Write a file with one camera, pco, and one motor that moved, sx; the caller adds to it."""
    with h5py.File(path, "w") as file:
        group(file, "entry", "NXentry")
        group(file, "entry/instrument", "NXinstrument")
        group(file, "entry/instrument/pco", "NXdetector")["data"] = FRAMES
        group(file, "entry/instrument/sx", "NXpositioner")["value"] = np.linspace(0, 1, 4)
        yield file
