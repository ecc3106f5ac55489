"""Frames in datasets of one HDF5 file, read when they are needed."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt

from wavedask.errors import CorruptFileError, FileError, FrameMismatchError
from wavedask.io.frames import Pixels, Stack
from wavedask.io.hdf5.handles import held

LARGEST_BLOCK: Final = 32 * 2**20
"""Bytes of raw frames that are read together, where a chunk of the file holds several."""


class Hdf5Stack(Stack):
    """Frames of one or several datasets, one behind the other.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    datasets : mapping of str to h5py.Dataset
        Open datasets by their path in the file; the last two axes are rows and columns, all others
        are frames. Only their description is kept.
    frames : int, optional
        Number of frames, where not all of them are wanted yet.

    Raises
    ------
    FrameMismatchError
        If the datasets hold frames of different shapes or types.
    """

    def __init__(
        self, path: Path, datasets: Mapping[str, h5py.Dataset], *, frames: int | None = None
    ) -> None:
        (first_name, first), *others = datasets.items()
        for name, other in others:
            if (other.shape[-2:], other.dtype) != (first.shape[-2:], first.dtype):
                raise FrameMismatchError(
                    f"{path}: {first_name} has frames of {first.shape[-2:]} {first.dtype}, but"
                    f" {name} of {other.shape[-2:]} {other.dtype}",
                    "Open each by its own path: image='<path>'.",
                )
        self._parts = tuple((name, dataset.shape) for name, dataset in datasets.items())
        counts = [frame_count(dataset) for dataset in datasets.values()]
        self._starts = np.cumsum([0, *counts])
        total = int(self._starts[-1]) if frames is None else frames
        super().__init__((total, *first.shape[-2:]), first.dtype)
        self._path = path
        self._sources = tuple(_sources(dataset) for dataset in datasets.values())
        self.frames_per_block = _frames_per_block(first)

    @property
    def origins(self) -> list[tuple[Path, int]]:
        """File, and number within it, of each frame."""
        return [(self._path, index) for index in range(self.shape[0])]

    @property
    def datasets(self) -> list[str] | None:
        """Path of the dataset of each frame in the file."""
        parts = np.searchsorted(self._starts, np.arange(self.shape[0]), side="right") - 1
        # By one name, whether it was given from the root or from a scan.
        return [f"/{self._parts[part][0].strip('/')}" for part in parts]

    def read(self, frames: npt.NDArray[np.intp], rows: slice, cols: slice) -> Pixels:
        """Read a contiguous region of some frames, in native byte order."""
        shape = (len(frames), rows.stop - rows.start, cols.stop - cols.start)
        if 0 in shape:
            return np.empty(shape, self.dtype)
        with held(self._path) as file:
            found = [
                # One call for what is contiguous: a chunk that holds several frames is then
                # decompressed once.
                self._dataset(file, part)[(*where, rows, cols)].reshape(-1, *shape[1:])
                for part, where in self._runs(frames)
            ]
        self._check_sources(frames)
        pixels = found[0] if len(found) == 1 else np.concatenate(found)
        native: Pixels = pixels.astype(self.dtype, copy=False)
        return native

    def _check_sources(self, frames: npt.NDArray[np.intp]) -> None:
        """Refuse frames of a virtual dataset whose files have gone: HDF5 reads zeros there."""
        for part, sources in enumerate(self._sources):
            if not sources:
                continue
            start, end = self._starts[part], self._starts[part + 1]
            mine = frames[(frames >= start) & (frames < end)] - start
            if not mine.size:
                continue
            lowest, highest = int(mine.min()), int(mine.max())
            names = (name for first, last, name in sources if first <= highest and lowest <= last)
            for name in dict.fromkeys(names):
                if not h5py.is_hdf5(name):
                    raise FileError(
                        f"{name}, which holds frames of {self._path}, can no longer be opened",
                        "Was it moved or deleted? Bring it back, or open the scan again.",
                    )

    def _dataset(self, file: h5py.File, part: int) -> h5py.Dataset:
        name, shape = self._parts[part]
        dataset = file.get(name)
        now: tuple[int, ...] = getattr(dataset, "shape", ())
        # A scan that is still running may have grown.
        if now[1:] != shape[1:] or now < shape:
            raise CorruptFileError(
                f"{self._path}: {name} is no longer of the shape {shape}",
                "The file has changed since the scan was opened: open it again.",
            )
        return dataset

    def _runs(self, frames: npt.NDArray[np.intp]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Contiguous runs of frames, each as a part and an index of its leading axes."""
        parts = np.searchsorted(self._starts, frames, side="right") - 1
        within = frames - self._starts[parts]
        breaks = np.flatnonzero((np.diff(frames) != 1) | (np.diff(parts) != 0)) + 1
        for run in np.split(np.arange(len(frames)), breaks):
            part = int(parts[run[0]])
            lead = self._parts[part][1][:-2]
            first, last = int(within[run[0]]), int(within[run[-1]])
            if not lead:
                # A single image without an axis of frames.
                yield part, ()
                continue
            if len(lead) == 1:
                yield part, (slice(first, last + 1),)
                continue
            *outer, inner = lead
            while first <= last:
                # What shares all axes but the last of these shares a chunk, too.
                place, start = divmod(first, inner)
                stop = min(start + last + 1 - first, inner)
                where = (int(i) for i in np.unravel_index(place, outer))
                yield part, (*where, slice(start, stop))
                first += stop - start


def frame_count(dataset: h5py.Dataset) -> int:
    """Count the frames of a dataset: all axes but the last two."""
    shape: tuple[int, ...] = dataset.shape
    return math.prod(shape[:-2])


def _sources(dataset: h5py.Dataset) -> tuple[tuple[int, int, str], ...]:
    """First and last frame, and file, of each source of a virtual dataset in another file."""
    if not dataset.is_virtual:
        return ()
    home = Path(dataset.file.filename).parent
    lead = dataset.shape[:-2]
    found = []
    for source in dataset.virtual_sources():
        # A name with %b stands for a series of files that grows with the scan.
        if source.file_name == "." or "%b" in source.file_name:
            continue
        try:
            corners = [corner[: len(lead)] for corner in source.vspace.get_select_bounds()]
            first, last = (int(np.ravel_multi_index(at, lead)) if lead else 0 for at in corners)
        except RuntimeError:
            # Without bounds: it may hold any frame.
            first, last = 0, frame_count(dataset) - 1
        found.append((first, last, str(home / source.file_name)))
    return tuple(found)


def _frames_per_block(dataset: h5py.Dataset) -> int:
    """Frames that share a chunk of the file, as far as they fit into a block of sensible size."""
    # A virtual dataset has chunks of its own only where its sources have: it says none.
    if dataset.chunks is None or dataset.ndim != 3:
        return 1
    frame: int = math.prod(dataset.shape[-2:]) * dataset.dtype.itemsize
    return max(1, min(int(dataset.chunks[0]), LARGEST_BLOCK // frame))
