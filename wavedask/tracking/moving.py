"""The rigid shift under Dask: found from the middle of a frame, followed by each tile."""

from typing import Any, Final, TypeVar

import dask.array as da
from numpy.typing import NDArray

from wavedask.errors import InputError

LARGE: Final = 4096
"""Side of a frame in pixels above which no task holds a whole frame."""
MIDDLE: Final = 2048
"""Pixels in the middle of a large frame from which its rigid shift is found, with or without tiles.

All tiles wait for the shift: what it is found from is read first, and is in memory until then.
"""
REACH: Final = 512
"""Largest rigid shift of a large frame that is found: so far a tile reads beyond its halo."""

Array = TypeVar("Array", NDArray[Any], da.Array)


def is_large(shape: tuple[int, ...]) -> bool:
    """Whether the frames of an array are too large for one task."""
    return max(shape[-2:]) > LARGE


def middle(images: Array) -> Array:
    """Cut frames to the part that the rigid shift is found from: all of it, if they are small.

    Examples
    --------
    >>> import numpy as np
    >>> middle(np.zeros((1, 100, 4000))).shape, middle(np.zeros((1, 100, 5000))).shape
    ((1, 100, 4000), (1, 100, 2048))
    """
    if not is_large(images.shape):
        return images
    rows, columns = (
        slice(max(size - MIDDLE, 0) // 2, max(size - MIDDLE, 0) // 2 + min(size, MIDDLE))
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


def inner_part(
    block_id: tuple[int, ...], tiles: tuple[tuple[int, ...], ...], depth: tuple[int, int]
) -> tuple[tuple[int, int], tuple[slice, slice]]:
    """Find where a block with its halo begins in the frame, and its part without the halo."""
    (top, rows), (left, columns) = (
        _inner_line(sizes, index, halo)
        for sizes, index, halo in zip(tiles, block_id[-2:], depth, strict=True)
    )
    return (top, left), (rows, columns)


def _inner_line(sizes: tuple[int, ...], index: int, halo: int) -> tuple[int, slice]:
    before = halo if index > 0 else 0
    return sum(sizes[:index]) - before, slice(before, before + sizes[index])
