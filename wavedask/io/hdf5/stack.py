"""Frames in datasets of HDF5 files, read when they are needed."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt

from wavedask.errors import CorruptFileError, FileError, FrameMismatchError
from wavedask.io.frames import Pixels, Stack
from wavedask.io.hdf5.access import virtual_prefix
from wavedask.io.hdf5.axes import PixelAxes
from wavedask.io.hdf5.handles import held
from wavedask.io.hdf5.links import located

LARGEST_BLOCK: Final = 32 * 2**20
"""Bytes of raw frames that are read together, where a chunk of the file holds several."""
LARGEST_CHUNK_HEADER: Final = 2**16
"""Bytes that a filter of HDF5 may add to a chunk."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A dataset with frames, as it was when the scan was opened.

    Attributes
    ----------
    place : str
        What the user calls it: its path in the file that was opened.
    file : pathlib.Path
        File that it is in; another one, where `place` is a link.
    name : str
        Its path in that file.
    shape : tuple of int
        Its shape.
    axes : (int, int)
        Its axes of rows and columns; the others are frames.
    sources : tuple of (int, int, pathlib.Path)
        First and last frame, and file, of each source of a virtual dataset in another file.
    prefix : pathlib.Path or None
        Folder of sources that were moved.
    external : bool
        Whether its values are in raw files.
    """

    place: str
    file: Path
    name: str
    shape: tuple[int, ...]
    axes: PixelAxes
    sources: tuple[tuple[int, int, Path], ...]
    prefix: Path | None
    external: bool

    @property
    def lead(self) -> tuple[int, ...]:
        """Shape of the frames: all axes but those of rows and columns."""
        return lead_of(self.shape, self.axes)

    def opened(self, file: h5py.File) -> h5py.Dataset:
        """Return the dataset of an open file."""
        if self.name not in file:
            dataset = None
        elif self.external or self.prefix:
            settings = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
            # Without it, HDF5 looks for raw files in the working directory.
            settings.set_efile_prefix(b"${ORIGIN}")
            if self.prefix:
                settings.set_virtual_prefix(os.fsencode(self.prefix))
            dataset = h5py.Dataset(h5py.h5d.open(file.id, self.name.encode(), settings))
        else:
            dataset = file[self.name]
        now: tuple[int, ...] = getattr(dataset, "shape", ())
        # A scan that is still running may have grown.
        if now[1:] != self.shape[1:] or now < self.shape:
            raise CorruptFileError(
                f"{self.file}: {self.name.strip('/')} is no longer of the shape {self.shape}",
                "The file has changed since the scan was opened: open it again.",
            )
        return dataset

    def cut(self, dataset: h5py.Dataset, where: tuple[Any, ...], rows: slice, cols: slice) -> Any:
        """Read a region of some frames, with the axes in the order frame, row, column."""
        index: list[Any] = list(where)
        # The one that comes first in the shape has to be put in first.
        for place, region in sorted(zip(self.axes, (rows, cols), strict=True)):
            index.insert(place, region)
        self._check_chunks(dataset, index)
        pixels = dataset[tuple(index)]
        kept = [place for place, item in enumerate(index) if isinstance(item, slice)]
        moved = np.moveaxis(pixels, [kept.index(axis) for axis in self.axes], (-2, -1))
        return moved.reshape(-1, rows.stop - rows.start, cols.stop - cols.start)

    def _check_chunks(self, dataset: h5py.Dataset, index: list[Any]) -> None:
        """Refuse chunks that hold more than their shape: HDF5 decompresses all of it."""
        chunks = dataset.chunks
        if chunks is None or not dataset.id.get_create_plist().get_nfilters():
            return
        shape = math.prod(chunks) * dataset.dtype.itemsize
        # What cannot be compressed grows by less than an eighth.
        most = shape + shape // 8 + LARGEST_CHUNK_HEADER
        spans = [
            (item.start, item.stop) if isinstance(item, slice) else (item, item + 1)
            for item in index
        ]
        grid = [
            range(first // size * size, stop, size)
            for (first, stop), size in zip(spans, chunks, strict=True)
        ]
        for corner in product(*grid):
            stored = dataset.id.get_chunk_info_by_coord(corner).size
            if stored > most:
                raise CorruptFileError(
                    f"{self.file}: the chunk of {dataset.name} at {corner} has {stored} bytes, and"
                    f" {shape} bytes before it was compressed",
                    "It is damaged, or was made to fill the memory: copy it again from its source.",
                )


class Hdf5Stack(Stack):
    """Frames of one or several datasets, one behind the other.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    datasets : mapping of str to h5py.Dataset
        Open datasets by their path in the file. Only their description is kept.
    frames : int, optional
        Number of frames, where not all of them are wanted yet.
    axes : mapping of str to (int, int), optional
        Axes of rows and columns by the path of the dataset, where they are not the last two. All
        other axes are frames.

    Raises
    ------
    FrameMismatchError
        If the datasets hold frames of different shapes or types.
    """

    def __init__(
        self,
        path: Path,
        datasets: Mapping[str, h5py.Dataset],
        *,
        frames: int | None = None,
        axes: Mapping[str, PixelAxes] | None = None,
    ) -> None:
        self._path = path
        self._parts = tuple(
            _part(name, dataset, (axes or {}).get(name)) for name, dataset in datasets.items()
        )
        kinds = [
            (image_shape(part.shape, part.axes), item.dtype)
            for part, item in zip(self._parts, datasets.values(), strict=True)
        ]
        (first_shape, first_dtype), *_ = kinds
        for part, (shape, dtype) in zip(self._parts, kinds, strict=True):
            if (shape, dtype) != kinds[0]:
                raise FrameMismatchError(
                    f"{path}: {self._parts[0].place} has frames of {first_shape} {first_dtype},"
                    f" but {part.place} of {shape} {dtype}",
                    "Open each by its own path: image='<path>'.",
                )
        counts = [math.prod(part.lead) for part in self._parts]
        self._starts = np.cumsum([0, *counts])
        total = int(self._starts[-1]) if frames is None else frames
        super().__init__((total, *first_shape), first_dtype)
        self.frames_per_block = _frames_per_block(next(iter(datasets.values())), self._parts[0])

    @property
    def origins(self) -> list[tuple[str, int]]:
        """Path of the file, and number within it, of each frame."""
        path = str(self._path)
        return [(path, index) for index in range(self.shape[0])]

    @property
    def datasets(self) -> list[str] | None:
        """Path of the dataset of each frame in the file."""
        parts = np.searchsorted(self._starts, np.arange(self.shape[0]), side="right") - 1
        # By one name, whether it was given from the root or from a scan.
        return [f"/{self._parts[part].place.strip('/')}" for part in parts]

    def read(self, frames: npt.NDArray[np.intp], rows: slice, cols: slice) -> Pixels:
        """Read a contiguous region of some frames, in native byte order."""
        shape = (len(frames), rows.stop - rows.start, cols.stop - cols.start)
        if 0 in shape:
            return np.empty(shape, self.dtype)
        numbers = np.searchsorted(self._starts, frames, side="right") - 1
        found = []
        with ExitStack() as files:
            open_parts: dict[int, h5py.Dataset] = {}
            # One call for what is contiguous: a chunk that holds several frames is then
            # decompressed once.
            for number, where in self._runs(frames):
                part = self._parts[number]
                if number not in open_parts:
                    mine = frames[numbers == number] - self._starts[number]
                    file = files.enter_context(held(part.file, beside=self._beside(part, mine)))
                    open_parts[number] = part.opened(file)
                found.append(part.cut(open_parts[number], where, rows, cols))
        pixels = found[0] if len(found) == 1 else np.concatenate(found)
        native: Pixels = pixels.astype(self.dtype, copy=False)
        return native

    def _beside(self, part: _Part, frames: npt.NDArray[np.intp]) -> tuple[Path, ...]:
        """Files behind some frames of a virtual dataset; HDF5 reads zeros for one that has gone."""
        if not part.sources:
            return ()
        lowest, highest = int(frames.min()), int(frames.max())
        names = (name for first, last, name in part.sources if first <= highest and lowest <= last)
        found = tuple(dict.fromkeys(names))
        for name in found:
            if not name.is_file() or not h5py.is_hdf5(name):
                raise FileError(
                    f"{name}, which holds frames of {self._path}, can no longer be opened",
                    "Was it moved or deleted? Bring it back, or open the scan again.",
                )
        return found

    def _runs(self, frames: npt.NDArray[np.intp]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Contiguous runs of frames, each as a part and an index of its leading axes."""
        parts = np.searchsorted(self._starts, frames, side="right") - 1
        within = frames - self._starts[parts]
        breaks = np.flatnonzero((np.diff(frames) != 1) | (np.diff(parts) != 0)) + 1
        for run in np.split(np.arange(len(frames)), breaks):
            part = int(parts[run[0]])
            lead = self._parts[part].lead
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


def lead_of(shape: tuple[int, ...], axes: PixelAxes) -> tuple[int, ...]:
    """Return the shape of the frames: all axes but those of rows and columns."""
    return tuple(size for place, size in enumerate(shape) if place not in axes)


def image_shape(shape: tuple[int, ...], axes: PixelAxes) -> tuple[int, int]:
    """Rows and columns of a dataset."""
    return shape[axes[0]], shape[axes[1]]


def last_axes(dataset: h5py.Dataset) -> PixelAxes:
    """Axes of rows and columns of a dataset that says nothing about them: the last two."""
    return dataset.ndim - 2, dataset.ndim - 1


def frame_count(dataset: h5py.Dataset, axes: PixelAxes | None = None) -> int:
    """Count the frames of a dataset: all axes but two."""
    return math.prod(lead_of(dataset.shape, axes or last_axes(dataset)))


def _part(place: str, dataset: h5py.Dataset, axes: PixelAxes | None) -> _Part:
    chosen = axes or last_axes(dataset)
    return _Part(
        place,
        Path(dataset.file.filename).absolute(),
        str(dataset.name),
        dataset.shape,
        chosen,
        _sources(dataset, chosen),
        virtual_prefix(dataset) if dataset.is_virtual else None,
        bool(dataset.external),
    )


def _sources(dataset: h5py.Dataset, axes: PixelAxes) -> tuple[tuple[int, int, Path], ...]:
    """First and last frame, and file, of each source of a virtual dataset in another file."""
    if not dataset.is_virtual:
        return ()
    home = Path(dataset.file.filename).absolute()
    lead = lead_of(dataset.shape, axes)
    found = []
    for source in dataset.virtual_sources():
        # A name with %b stands for a series of files that grows with the scan.
        if source.file_name == "." or "%b" in source.file_name:
            continue
        try:
            corners = [lead_of(corner, axes) for corner in source.vspace.get_select_bounds()]
            first, last = (int(np.ravel_multi_index(at, lead)) if lead else 0 for at in corners)
        except RuntimeError:
            # Without bounds: it may hold any frame.
            first, last = 0, math.prod(lead) - 1
        path = located(source.file_name, home) or home.parent / source.file_name
        found.append((first, last, path))
    return tuple(found)


def _frames_per_block(dataset: h5py.Dataset, part: _Part) -> int:
    """Frames that share a chunk of the file, as far as they fit into a block of sensible size."""
    # A virtual dataset has chunks of its own only where its sources have: it says none.
    if dataset.chunks is None or dataset.ndim != 3:
        return 1
    frame: int = math.prod(image_shape(part.shape, part.axes)) * dataset.dtype.itemsize
    (chunk,) = lead_of(dataset.chunks, part.axes)
    return max(1, min(int(chunk), LARGEST_BLOCK // frame))
