"""Check that a result store holds what its ledger says: every chunk, with the right checksum."""

import errno
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr
from dask.delayed import Delayed, delayed
from numpy.typing import NDArray

from wavedask.compute import run_each
from wavedask.conventions import COMPLETE, DIGEST, FRAME
from wavedask.errors import StoreError
from wavedask.store.arrays import open_array
from wavedask.store.checked import CRC_BYTES, chunks_of, combined, most_bytes, problem_of
from wavedask.store.faults import os_errors
from wavedask.store.layout import COVERED, INPUTS, attributes_of, checked_store, read_arrays
from wavedask.store.metadata import ArrayLayout
from wavedask.store.numbers import digests_of
from wavedask.store.places import Place, place_of
from wavedask.store.provenance import changes

CHUNKS_PER_TASK: Final = 256
"""Chunks that one task checks."""
NUMBERS_AT_ONCE: Final = 1024
"""Frames whose numbers are read at once."""


@dataclass(frozen=True, slots=True)
class Soundness:
    """The differences that `verify` found in the inputs and the frames of a store.

    Attributes
    ----------
    changed : list of str
        A line for each input that is missing or has changed.
    lost : dict of str to list of int
        As `lost_frames` returns it.
    sound : bool
        Whether nothing is wrong.
    """

    changed: list[str]
    lost: dict[str, list[int]]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.changed or self.lost)


def verify(
    path: str | Path,
    *,
    storage_options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> Soundness:
    """Check that the inputs of a result store are unchanged, and that its frames are intact.

    Parameters
    ----------
    path, storage_options, progress
        As of `lost_frames`.

    Returns
    -------
    Soundness
        If the store holds hashes of the inputs, the inputs are read and compared with them.

    Raises
    ------
    StoreError
        Not a result store, or one that cannot be read.

    Examples
    --------
    >>> import dask.array as da, tempfile, wavedask as wd, xarray as xr
    >>> slope = xr.DataArray(da.ones((3, 8, 8), chunks=(1, 8, 8)), dims=("frame", "y", "x"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = wd.write_store(f"{folder}/r.zarr", slope.to_dataset(name="slope"), settings={})
    ...     verify(report.path).sound
    True
    """
    lost = lost_frames(path, storage_options=storage_options, progress=progress)
    attributes = attributes_of(place_of(path, storage_options)) or {}
    return Soundness(changes(attributes.get(INPUTS, ())), lost)


def lost_frames(
    path: str | Path,
    *,
    storage_options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> dict[str, list[int]]:
    """Find complete frames of which a chunk is missing or damaged.

    A copy that was interrupted and a file that was deleted leave chunks out. A disk or a network
    may change bits. All chunks are read, on the current Dask client or local scheduler: their
    checksums are compared with their contents, and those of each frame with the ledger. Stores of
    older versions have no checksums; there only missing chunks are found.

    Parameters
    ----------
    path : str or Path
        A result store, a folder or a URL.
    storage_options : mapping, optional
        Options of a URL: credentials, endpoint.
    progress : bool, optional
        Whether to show a progress bar; by default on a terminal and in a notebook.

    Returns
    -------
    dict of str to list of int
        Numbers of the frames by variable; empty for an intact store. ``digest`` has frames whose
        chunks are valid, but are not those that the run has written.

    Raises
    ------
    StoreError
        Not a result store, or one that cannot be read.

    Examples
    --------
    >>> import dask.array as da, tempfile, wavedask as wd, xarray as xr
    >>> slope = xr.DataArray(da.ones((3, 8, 8), chunks=(1, 8, 8)), dims=("frame", "y", "x"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = wd.write_store(f"{folder}/r.zarr", slope.to_dataset(name="slope"), settings={})
    ...     (report.path / "slope/c/1/0/0").unlink()
    ...     lost_frames(report.path)
    {'slope': [1]}
    """
    place = place_of(path, storage_options)
    if attributes_of(place) is None:
        raise StoreError(f"{place} is not a wavedask result store", "Check the path.")
    lost, _ = _search(place, progress)
    return lost


def forget_lost(place: Place, progress: bool | None = None) -> dict[str, list[int]]:
    """Mark lost frames as incomplete, so that the next run computes them.

    Damaged chunks are removed: a part of one must not be read to write the rest of it.

    Parameters
    ----------
    place : Place
        A result store that no other run is writing.
    progress : bool, optional
        As of `lost_frames`.

    Returns
    -------
    dict of str to list of int
        As `lost_frames` returns it.
    """
    lost, damaged = _search(place, progress)
    if lost:
        ledger = open_array(place.group(durable=True), COMPLETE.name)
        complete = np.asarray(ledger[:])
        complete[np.unique(np.concatenate(list(lost.values())))] = False
        ledger[:] = complete
        for key in damaged:
            place.delete(key)
    return lost


@dataclass(frozen=True)
class _Answer:
    """What a task found in one block of frames: lost ones by array, and keys of bad chunks."""

    lost: dict[str, list[int]]
    damaged: list[str]


def _search(place: Place, progress: bool | None) -> tuple[dict[str, list[int]], list[str]]:
    """Find lost frames, and the keys of damaged chunks."""
    with os_errors(f"store {place} cannot be read"):
        store = checked_store(place)
        # Coordinates are checked when they are read.
        arrays = read_arrays(place)
        complete = arrays[COMPLETE.name].to_numpy()
        at_once = {key.partition("/")[0] for key in place.contents() or {}}
        for name in sorted(at_once - set(map(str, arrays.coords))):
            # They cannot be computed again: a wrong chunk is an error.
            _ = zarr.open_array(store, path=name, mode="r")[...]
        layouts = {
            name: layout
            for name, layout in store.layouts.items()
            # Older versions left out empty chunks.
            if FRAME in layout.dims and (len(layout.dims) > 1 or layout.summed)
            if name not in at_once
        }
        digests, covered = _digests(store)
        found = {name: layouts[name] for name in covered if name in layouts}
        rest = {name: layouts[name] for name in layouts.keys() - found.keys()}
        numbers = [name for name in sorted(rest) if name in arrays.data_vars]
        if digests is not None and numbers:
            digests = _of_chunks(store, numbers, digests, complete)
        tasks = _tasks(place, complete, digests, found)
        for name, layout in rest.items():
            tasks += _tasks(place, complete, None, {name: layout})
        lost: dict[str, set[int]] = {}
        damaged: list[str] = []

        def collect(_: int, answer: _Answer) -> None:
            for name, frames in answer.lost.items():
                lost.setdefault(name, set()).update(frames)
            damaged.extend(answer.damaged)

        if digests is not None and not found:
            # Of numbers alone, nothing may be left.
            lost[DIGEST.name] = set(np.flatnonzero(digests * complete).tolist())
        run_each(tasks, label=f"checking {place.name}", on_done=collect, show=progress)
    return {name: sorted(lost[name]) for name in [*layouts, DIGEST.name] if lost.get(name)}, damaged


def _digests(store: Any) -> tuple[NDArray[np.uint32] | None, list[str]]:
    """Read the digests of the frames, and the names of the arrays that they cover."""
    if DIGEST.name not in store.layouts:
        return None, []
    array = zarr.open_array(store, path=DIGEST.name, mode="r")
    covered: Any = array.attrs.get(COVERED, [])
    return np.asarray(array[:]), [str(name) for name in covered]


def _of_chunks(
    store: Any, numbers: Sequence[str], digests: NDArray[np.uint32], complete: NDArray[np.bool_]
) -> NDArray[np.uint32]:
    """Take the numbers of the frames out of the digests, so that those of the chunks are left.

    Zero, for unknown, where numbers cannot be read.
    """
    found = digests.copy()
    arrays = {name: zarr.open_array(store, path=name, mode="r") for name in numbers}
    axes = {name: store.layouts[name].dims.index(FRAME) for name in numbers}
    for begin in range(0, found.size, NUMBERS_AT_ONCE):
        part = slice(begin, min(begin + NUMBERS_AT_ONCE, found.size))
        if not complete[part].any():
            continue
        try:
            values = {
                name: np.moveaxis(
                    np.asarray(array.oindex[(slice(None),) * axes[name] + (part,)]), axes[name], 0
                )
                for name, array in arrays.items()
            }
        except StoreError:
            # Their own check tells what is wrong with them.
            found[part] = 0
            continue
        known = found[part] != 0
        found[part] = np.where(known, found[part] ^ digests_of(values, part.stop - begin), 0)
    return found


def _tasks(
    place: Place,
    complete: NDArray[np.bool_],
    digests: NDArray[np.uint32] | None,
    layouts: Mapping[str, ArrayLayout],
) -> list[Delayed]:
    """Make tasks that check arrays together, each for some complete frames."""
    if not layouts:
        return []
    together = math.lcm(*(one.chunks[one.dims.index(FRAME)] for one in layouts.values()))
    chunks = sum(len(chunks_of(one, 0)) for one in layouts.values())
    starts = [
        start
        for start in range(0, complete.size, together)
        if complete[start : start + together].any()
    ]
    each = max(1, CHUNKS_PER_TASK // max(1, chunks))
    check = delayed(_check, pure=False)
    return [
        check(place, complete, digests, layouts, together, starts[first : first + each])
        for first in range(0, len(starts), each)
    ]


def _check(
    place: Place,
    complete: NDArray[np.bool_],
    digests: NDArray[np.uint32] | None,
    layouts: Mapping[str, ArrayLayout],
    together: int,
    starts: Sequence[int],
) -> _Answer:
    """Check all chunks of some groups of frames."""
    lost: dict[str, list[int]] = {}
    damaged: list[str] = []
    for start in starts:
        group = slice(start, min(start + together, complete.size))
        checksums: dict[str, bytes] = {}
        whole = True
        for name, layout in layouts.items():
            size = layout.chunks[layout.dims.index(FRAME)]
            for block in range(start // size, -(-group.stop // size)):
                frames = slice(block * size, (block + 1) * size)
                if not complete[frames].any():
                    whole = False
                    continue
                found, bad = _read(place, name, layout, block)
                checksums.update(found)
                if bad is not None:
                    whole = False
                    damaged += bad
                    lost.setdefault(name, []).extend(_complete_in(complete, frames))
        # Zero stands for unknown, as of chunks that were written in parts.
        if whole and digests is not None:
            wrong = (digests[group] != 0) & (digests[group] != combined(checksums))
            found_wrong = (start + np.flatnonzero(wrong & complete[group])).tolist()
            if found_wrong:
                lost.setdefault(DIGEST.name, []).extend(found_wrong)
    return _Answer(lost, damaged)


def _read(
    place: Place, name: str, layout: ArrayLayout, block: int
) -> tuple[dict[str, bytes], list[str] | None]:
    """Read the chunks of an array in one block of frames.

    Returns their checksums, and the keys of damaged ones; None instead of these if all are there
    and valid.
    """
    checksums, bad, missing = {}, [], False
    for index in chunks_of(layout, block):
        key = "/".join((name, "c", *map(str, index)))
        try:
            content = place.read(key, largest=most_bytes(layout))
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EFBIG):
                raise
            # A pipe, a device, or a file that is larger than any such chunk.
            bad.append(key)
            continue
        if content is None:
            missing = True
        elif problem_of(content, layout):
            bad.append(key)
        else:
            checksums[key] = content[-CRC_BYTES:]
    return checksums, bad if bad or missing else None


def _complete_in(complete: NDArray[np.bool_], frames: slice) -> Iterable[int]:
    """List the complete frames in a range."""
    return [int(frame) + frames.start for frame in np.flatnonzero(complete[frames])]
