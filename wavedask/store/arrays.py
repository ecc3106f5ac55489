"""The arrays of a store while it is written: how they are opened, and the keys of their chunks."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr
from numpy.typing import NDArray

from wavedask.store.checked import RecordingStore
from wavedask.store.places import Place

UNFINISHED: Final = ".partial"
"""End of the name of a file that Zarr has not finished and renamed yet."""


def open_array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Open an array for writing; a block that holds only the fill value is stored, too."""
    # open_array() has an argument `config`, and ignores it if the array exists.
    with zarr.config.set({"array.write_empty_chunks": True}):
        return zarr.open_array(RecordingStore(group.store), path=name, mode="r+")


def unit_of(array: zarr.Array[Any]) -> tuple[int, ...]:
    """Return the shape of a shard, or of a chunk if the array has no shards."""
    return array.shards or array.chunks


def chunk_keys(array: zarr.Array[Any], axis: int, block: int) -> Iterator[str]:
    """List the keys of all chunks (or shards) in one block along the axis of the frames."""
    sizes = unit_of(array)
    grid = [range(-(-length // size)) for length, size in zip(array.shape, sizes, strict=True)]
    grid[axis] = range(block, block + 1)
    return map(array.metadata.encode_chunk_key, product(*grid))


def keys_of(
    target: zarr.Array[Any], axis: int, block_id: tuple[int, ...], frames: NDArray[np.intp]
) -> list[str]:
    """List the keys of the chunks that hold frames of one block."""
    keys = []
    for number in np.unique(frames // unit_of(target)[axis]).tolist():
        index = (*block_id[:axis], number, *block_id[axis + 1 :])
        keys.append(f"{target.path}/{target.metadata.encode_chunk_key(index)}")
    return keys


def files_of(
    place: Place, arrays: Mapping[str, zarr.Array[Any]], axes: Mapping[str, int]
) -> Callable[[NDArray[np.intp]], list[Path]]:
    """Return a function that lists the files of given frames of a store in a folder."""

    def files(frames: NDArray[np.intp]) -> list[Path]:
        return [
            place.path / array.path / key
            for name, array in arrays.items()
            for block in np.unique(frames // unit_of(array)[axes[name]]).tolist()
            for key in chunk_keys(array, axes[name], block)
        ]

    return files


def remove_unfinished(
    place: Place, array: zarr.Array[Any], axis: int, frames: NDArray[np.intp]
) -> None:
    """Remove files of `frames` that a killed run wrote and did not rename.

    No reader sees them, but nothing else would remove them, and each may be as large as a chunk.
    """
    folder = place.path / array.path
    _remove_from(place.path)
    _remove_from(folder)
    with os.scandir(folder) as entries:
        if not any(entry.is_dir() for entry in entries):
            # Nothing has been written. A look for the folder of each of 100 000 frames of each
            # array would take half a minute.
            return
    last = ""
    for block in np.unique(frames // unit_of(array)[axis]).tolist():
        for key in chunk_keys(array, axis, block):
            beside = key.rpartition("/")[0]
            if beside != last:
                # Not a Path: Python keeps the parts of each, which the scan has thousands of.
                _remove_from(f"{folder}/{beside}")
                last = beside


def _remove_from(folder: str | Path) -> None:
    """Remove the unfinished files of a folder, if it exists."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(UNFINISHED):
                Path(entry.path).unlink(missing_ok=True)
