"""The frames of a scan, matched block by block under Dask."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.fields import Fields
from wavedask.kernels.scan import ScanMatch
from wavedask.kernels.start import shifted

Array = NDArray[Any] | da.Array
Floats = NDArray[np.float32]

BLOCK_BYTES: Final = 3e8
"""Memory that a task may take, about: all positions of the scan, a few times over."""
COPIES: Final = 14
"""Arrays of the size of the frames that a task holds at once."""
LEAST_TILE: Final = 64
"""Pixels along the side of a block, at least: below that it is mostly halo."""


@dataclass(frozen=True, slots=True)
class ScanPlan:
    """How the frames of a scan are matched.

    Attributes
    ----------
    match : ScanMatch
        Settings; its axes are (y, x), or (x, y) if `turned`.
    shape : (int, int)
        Positions of a mesh along (y, x); (1, n) for a scan of one motor.
    turned : bool, default False
        Whether one motor was scanned along y.
    apart : (int, int), default (0, 0)
        Half the distance (y, x), in pixels, of the two pixels of one stack that are compared; the
        farther one is the sample.
    """

    match: ScanMatch
    shape: tuple[int, int]
    turned: bool = False
    apart: tuple[int, int] = (0, 0)

    @property
    def halo(self) -> tuple[int, int]:
        """Rows and columns around a block that its result depends on."""
        rows, columns = self.match.halo[::-1] if self.turned else self.match.halo
        return rows + self.apart[0], columns + self.apart[1]

    def fields(self, sample: NDArray[Any], reference: NDArray[Any] | None) -> Floats:
        """Match a block.

        Parameters
        ----------
        sample, reference : ndarray, shape (frames, y, x)
            Frames in the order of the positions; without a reference, pixels of the sample are
            compared with each other.

        Returns
        -------
        ndarray of float32, shape (9, y, x)
            As of `ScanMatch.match`, with the delays along (y, x).
        """
        if reference is None:
            y, x = self.apart
            sample, reference = (
                np.stack([shifted(image, (sign * y, sign * x)) for image in sample])
                for sign in (-1, 1)
            )
        stacks = [
            np.asarray(images, np.float32).reshape(*self.shape, *images.shape[1:])
            for images in (sample, reference)
        ]
        if not self.turned:
            return self.match.match(*stacks)
        found = self.match.match(*(images.swapaxes(2, 3) for images in stacks)).swapaxes(1, 2)
        # The first axis of a line is that across it.
        return np.ascontiguousarray(found[[1, 0, 3, 2, 4, 5, 6, 7, 8]])


def matched(sample: Array, reference: Array | None, plan: ScanPlan) -> Fields:
    """Match the frames of a scan, lazily if one of the stacks is lazy.

    Parameters
    ----------
    sample, reference : ndarray or dask.array.Array, shape (frames, y, x)
        Frames in the order of the positions; no reference to compare pixels of the sample.
    plan : ScanPlan

    Returns
    -------
    Fields
        Arrays (y, x), chunked in tiles of which each has all positions.
    """
    lazy = any(isinstance(images, da.Array) for images in (sample, reference))
    if not lazy:
        alone = None if reference is None else np.asarray(reference)
        return _fields(plan.fields(np.asarray(sample), alone))
    side = (BLOCK_BYTES / (4 * COPIES * sample.shape[0])) ** 0.5
    tiles = tuple(
        _tiles(length, max(round(side), halo, LEAST_TILE))
        for length, halo in zip(sample.shape[1:], plan.halo, strict=True)
    )
    stacks = [
        da.asarray(images).rechunk((-1, *tiles))
        for images in (sample, reference)
        if images is not None
    ]
    depth = {0: 0} | {axis: plan.halo[axis - 1] * (len(tiles[axis - 1]) > 1) for axis in (1, 2)}
    found = da.map_overlap(
        partial(_block, plan=plan, tiles=tiles, depth=(depth[1], depth[2])),
        *stacks,
        depth=[depth] * len(stacks),
        boundary="none",
        allow_rechunk=False,
        trim=False,  # a block gives back its inner part only
        chunks=((len(Fields._fields),), *tiles),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    return _fields(found)


def _fields(found: Any) -> Fields:
    """Name the rows of an array; reasons are whole numbers."""
    rows = [found[row] for row in range(len(Fields._fields))]
    return Fields(*[*rows[:-1], rows[-1].astype(np.uint8)])


def _tiles(length: int, side: int) -> tuple[int, ...]:
    """Cut a length into equal parts of at least `side`."""
    return tuple(len(part) for part in np.array_split(np.arange(length), max(1, length // side)))


def _block(
    sample: NDArray[Any],
    reference: NDArray[Any] | None = None,
    *,
    plan: ScanPlan,
    tiles: tuple[tuple[int, ...], ...],
    depth: tuple[int, int],
    block_info: Any = None,
) -> Floats:
    location = block_info[0]["chunk-location"][1:]
    before = [halo * (index > 0) for halo, index in zip(depth, location, strict=True)]
    inner = tuple(
        slice(first, first + sizes[index])
        for first, sizes, index in zip(before, tiles, location, strict=True)
    )
    return plan.fields(sample, reference)[:, *inner]
