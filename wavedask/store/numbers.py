"""The small variables of a store: the process that drives the run writes them for many frames."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr
from numpy.typing import NDArray

from wavedask.conventions import COMPLETE, DIGEST
from wavedask.store.arrays import open_array, unit_of
from wavedask.store.durable import DeferredStore
from wavedask.store.layout import COVERED, checked_store
from wavedask.store.places import Place

REQUESTS: Final = 8
"""Chunks that are sent to an object store at one time."""
Values = Mapping[str, NDArray[Any]]
"""Values of some frames, by variable."""


class Numbers:
    """The numbers of each frame of a store, while frames are written.

    Tasks return them, and this process writes them in chunks of many frames, before the ledger says
    that the frames are complete. A file for each number of each frame would be most of a store.

    Parameters
    ----------
    place : Place
        The store.
    axes : mapping of str to int
        The variables, with their axis of the frames.
    durable : bool, default True
        Whether chunks in a folder get their names by `publish`, after a flush of the disk.
    """

    def __init__(self, place: Place, axes: Mapping[str, int], *, durable: bool = True) -> None:
        self._place = place
        self._axes = dict(axes)
        store = None if place.remote or not durable else DeferredStore(place.path)
        self._deferred = store
        group = (
            place.group()
            if store is None
            else zarr.open_group(store, mode="r+", use_consolidated=False)
        )
        self._arrays = {name: open_array(group, name) for name in axes}
        self._known: dict[str, zarr.Array[Any]] = {}
        self._blocks: dict[tuple[str, int], NDArray[Any]] = {}
        self._before: NDArray[np.bool_] = np.zeros(0, bool)
        if axes:
            self._before = np.asarray(open_array(group, COMPLETE.name)[:], bool)

    def __bool__(self) -> bool:
        return bool(self._axes)

    def __contains__(self, name: str) -> bool:
        return name in self._axes

    @property
    def arrays(self) -> dict[str, zarr.Array[Any]]:
        """The arrays of the store, by name."""
        return self._arrays

    def take(self, frames: NDArray[np.intp], values: Values) -> None:
        """Keep values of frames until they are written.

        Parameters
        ----------
        frames : ndarray of int
            Frames of the store.
        values : mapping of str to ndarray
            Their values, in the layout of the arrays.
        """
        for name, given in values.items():
            size, along = self._size(name), np.moveaxis(given, self._axes[name], 0)
            for block in np.unique(frames // size).tolist():
                here = frames // size == block
                self._block(name, block)[frames[here] - block * size] = along[here]

    def digests(self, frames: NDArray[np.intp]) -> NDArray[np.uint32]:
        """Compute a digest of the values of each frame."""
        values = {}
        for name in self._axes:
            size = self._size(name)
            values[name] = np.stack([self._block(name, f // size)[f % size] for f in frames])
        return digests_of(values, frames.size)

    def write(self, frames: NDArray[np.intp]) -> None:
        """Write the chunks that hold some frames; in a folder they get their names later.

        Parameters
        ----------
        frames : ndarray of int
            Frames whose values are known.
        """
        chunks = [
            (name, block)
            for name in self._arrays
            for block in np.unique(frames // self._size(name)).tolist()
        ]
        if not self._place.remote:
            for name, block in chunks:
                self._write(name, block)
            return
        # A request takes tens of milliseconds, for most of which it waits.
        with ThreadPoolExecutor(REQUESTS) as pool:
            for written in [pool.submit(self._write, *chunk) for chunk in chunks]:
                written.result()

    def _write(self, name: str, block: int) -> None:
        array, size, axis = self._arrays[name], self._size(name), self._axes[name]
        part = slice(block * size, min((block + 1) * size, array.shape[axis]))
        where: list[Any] = [slice(None)] * array.ndim
        where[axis] = part
        values = self._block(name, block)[: part.stop - part.start]
        array[tuple(where)] = np.moveaxis(values, 0, axis)

    def drafts(self) -> list[Path]:
        """List the files that have no names yet."""
        return [] if self._deferred is None else self._deferred.drafts()

    def publish(self, complete: NDArray[np.bool_]) -> None:
        """Give what was written its names, and keep only what may change.

        Parameters
        ----------
        complete : ndarray of bool
            Which frames of the store need no more values.
        """
        if self._deferred is not None:
            self._deferred.publish()
        for name, block in list(self._blocks):
            size = self._size(name)
            if complete[block * size : (block + 1) * size].all():
                del self._blocks[name, block]

    def _size(self, name: str) -> int:
        return unit_of(self._arrays[name])[self._axes[name]]

    def _block(self, name: str, block: int) -> NDArray[Any]:
        """Return the values of a chunk, with the frames as the first axis."""
        found = self._blocks.get((name, block))
        if found is None:
            size = self._size(name)
            part = slice(block * size, (block + 1) * size)
            if self._before[part].any():
                found = np.moveaxis(self._stored(name, part), self._axes[name], 0)
                found = np.concatenate([found, self._blank(name, size - len(found))])
            else:
                found = self._blank(name, size)
            self._blocks[name, block] = found
        return found

    def _stored(self, name: str, part: slice) -> NDArray[Any]:
        """Read what an earlier run has written; refuse what is damaged."""
        if not self._known:
            store = checked_store(self._place)
            self._known = {n: zarr.open_array(store, path=n, mode="r") for n in self._axes}
        where: list[Any] = [slice(None)] * self._known[name].ndim
        where[self._axes[name]] = part
        return np.asarray(self._known[name][tuple(where)])

    def _blank(self, name: str, frames: int) -> NDArray[Any]:
        array = self._arrays[name]
        shape = [n for axis, n in enumerate(array.shape) if axis != self._axes[name]]
        return np.full((frames, *shape), array.fill_value, array.dtype)


def digests_of(values: Values, frames: int) -> NDArray[np.uint32]:
    """Compute a digest of the numbers of each frame.

    Parameters
    ----------
    values : mapping of str to ndarray
        Their values by variable, along the frames and perhaps one more axis.
    frames : int
        Number of frames.

    Returns
    -------
    ndarray of uint32, shape (frames,)

    Examples
    --------
    >>> one, other, same = digests_of({"radius": np.array([1.0, 2.0, 1.0])}, 3).tolist()
    >>> one == same, one == other
    (True, False)
    """
    found = np.zeros(frames, np.uint32)
    for frame in range(frames):
        mixed = hashlib.blake2b(digest_size=4)
        for name in sorted(values):
            mixed.update(name.encode() + b"\0" + values[name][frame].tobytes())
        found[frame] = int.from_bytes(mixed.digest(), "little")
    return found


def numbers_of(place: Place, axes: Mapping[str, int]) -> dict[str, int]:
    """Select the variables that a store holds in chunks of many frames.

    Parameters
    ----------
    place : Place
        The store.
    axes : mapping of str to int
        Its variables that are written frame by frame, with their axis of the frames.

    Returns
    -------
    dict of str to int
        Some of them. None in a store of an older version.
    """
    group = place.group()
    if DIGEST.name not in group:
        return {}
    covered: Any = open_array(group, DIGEST.name).attrs.get(COVERED, list(axes))
    return {name: axis for name, axis in axes.items() if name not in covered}
