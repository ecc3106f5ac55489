"""The rigid shift under Dask: found from whole frames, or tile by tile where frames are large."""

from functools import partial
from typing import Any, Final, TypeVar

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from wavedask.errors import InputError
from wavedask.kernels.start import moved_in_frame

LARGE: Final = 4096
"""Side of a frame in pixels above which no task holds a whole frame.

The rigid shift is then found from this many pixels in the middle, whether or not there are tiles.
"""
REACH: Final = 512
"""Largest rigid shift of a large frame that is found: so far a tile reads beyond its border."""

Array = TypeVar("Array", NDArray[Any], da.Array)


def is_large(shape: tuple[int, ...]) -> bool:
    """Whether the frames of an array are too large for one task."""
    return max(shape[-2:]) > LARGE


def middle(images: Array) -> Array:
    """Cut frames to the part that the rigid shift is found from: all of it, if they are small.

    Examples
    --------
    >>> middle(np.zeros((1, 100, 5000))).shape
    (1, 100, 4096)
    """
    rows, columns = (
        slice(max(size - LARGE, 0) // 2, max(size - LARGE, 0) // 2 + min(size, LARGE))
        for size in images.shape[-2:]
    )
    part: Array = images[..., rows, columns]
    return part


def check_reach(shift: tuple[int, int], shape: tuple[int, ...]) -> None:
    """Refuse a shift of large frames that is beyond the reach of a tile.

    Raises
    ------
    InputError
        It is.
    """
    if is_large(shape) and max(map(abs, shift)) > REACH:
        raise InputError(
            f"the rigid shift (y, x) of frames of {shape[-2:]} pixels is {shift} pixels, and at "
            f"most {REACH} are supported in frames larger than {LARGE} pixels",
            "Move the frames against each other by whole pixels before, or give other frames.",
        )


def moved_frames(references: da.Array, shift: da.Array, *, frames: tuple[int, ...]) -> da.Array:
    """Move frames that are one block each, by their shifts.

    Parameters
    ----------
    references : dask.array.Array, shape (frame, y, x)
        The frames; one serves for all shifts.
    shift : dask.array.Array, shape (frame, 2, 1)
        Whole pixels (y, x); one serves for all frames.
    frames : tuple of int
        Chunks of the result along its frames.

    Returns
    -------
    dask.array.Array, float32
    """
    moved: da.Array = da.map_blocks(
        _move_block,
        references,
        shift,
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
        chunks=(frames, *references.chunks[1:]),
    )
    return moved


def moved_tiles(references: da.Array, shift: da.Array, *, frames: tuple[int, ...]) -> da.Array:
    """Move frames in tiles, each at least as large as `REACH`, by their shifts.

    Parameters and result are those of `moved_frames`.
    """
    depth = {0: 0} | {axis: REACH * (references.numblocks[axis] > 1) for axis in (1, 2)}
    moved: da.Array = da.map_overlap(
        partial(_move_tile, tiles=references.chunks[1:], depth=(depth[1], depth[2])),
        references,
        shift,
        depth=[depth, {0: 0, 1: 0, 2: 0}],
        boundary="none",
        allow_rechunk=False,
        align_arrays=False,
        trim=False,
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
        chunks=(frames, *references.chunks[1:]),
    )
    return moved


def inner_part(
    block_id: tuple[int, ...], tiles: tuple[tuple[int, ...], ...], depth: tuple[int, int]
) -> tuple[list[int], tuple[slice, slice]]:
    """Find where a block with its halo begins in the frame, and its part without the halo."""
    origins, inner = [], []
    for sizes, index, halo in zip(tiles, block_id[-2:], depth, strict=True):
        before = halo if index > 0 else 0
        origins.append(sum(sizes[:index]) - before)
        inner.append(slice(before, before + sizes[index]))
    return origins, (inner[0], inner[1])


def _move_block(reference: NDArray[Any], shift: NDArray[np.int64]) -> NDArray[np.float32]:
    count = max(len(reference), len(shift))
    images = np.broadcast_to(reference, (count, *reference.shape[1:]))
    shifts = np.broadcast_to(shift[:, :, 0], (count, 2))
    return np.stack(
        [moved_in_frame(image, (y, x)) for image, (y, x) in zip(images, shifts, strict=True)]
    )


def _move_tile(
    reference: NDArray[Any],
    shift: NDArray[np.int64],
    *,
    tiles: tuple[tuple[int, ...], ...],
    depth: tuple[int, int],
    block_id: tuple[int, ...],
) -> NDArray[np.float32]:
    """Move a tile with what is around it; a tile at the border of the frame has nothing there."""
    return _move_block(reference, shift)[:, *inner_part(block_id, tiles, depth)[1]]
