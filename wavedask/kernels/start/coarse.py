"""The start of the dense tracker: strided template matching, on a reduced image where it can be."""

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.fields import Reason
from wavedask.kernels.grids import anchored, interpolate
from wavedask.kernels.jit import WITH_NAN, njit
from wavedask.kernels.start.correlation import correlate_compiled
from wavedask.kernels.start.images import MaskedImage
from wavedask.kernels.start.matching import Matches, match_points
from wavedask.kernels.start.outliers import without_outliers

Floats = NDArray[np.floating]

LEAST_WINDOW: Final = 15
"""Smallest template: a start must be right, not sharp."""
LEAST_STEP: Final = 24
"""Smallest distance of points: half a grain of error is small enough for a start."""
LEAST_REDUCED: Final = 11
"""Smallest template on a reduced image."""
REDUCE_BEYOND: Final = 4
"""Search in pixels beyond which the image is reduced by two."""
REDUCE_FURTHER: Final = 40
"""Search in pixels beyond which it is reduced by four, and the full image searched after that."""
SECOND_SEARCH: Final = 4
"""Pixels searched in the full image around what a strongly reduced one gave."""
PATCHED: Final = 0.7
"""Part of the 5 x 5 pixels around a gap that must have data for the gap to be patched."""
GAUSSIAN: Final = np.exp(-(np.arange(-2, 3, dtype=np.float32) ** 2) / 2)
"""Weights of these pixels, along each axis."""
MISSING: Final = 0.2
"""Largest fraction of a template that may be without data: its gaps are filled with local means,
which is near enough for a start, and one gap then does not cost the starts all around it."""
IMAGES: Final = 4
"""Images of a stack that the start is found from."""


def start_step(window: int) -> int:
    """Pixels between the points of the start: about a window, and a multiple of four.

    Examples
    --------
    >>> [start_step(window) for window in (5, 15, 21, 41)]
    [24, 24, 24, 40]
    """
    return max(window, LEAST_STEP) // 4 * 4


def start_reach(window: int, search: int) -> int:
    """Pixels around a tile on which its start depends: match, median test, replacement."""
    return 3 * start_step(window) + max(window, 4 * LEAST_REDUCED) // 2 + search + 8


def start_field(
    samples: NDArray[Any],
    references: NDArray[Any],
    *,
    window: int,
    search: int,
    origin: tuple[int, int],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Find the displacement that the refinement starts from.

    Parameters
    ----------
    samples, references : ndarray of float, shape (images, rows, columns)
        Pairs; NaN is missing.
    window : int
        Side of the template in pixels.
    search : int
        Pixels searched on either side of zero.
    origin : (int, int)
        Frame coordinates (y, x) of the first pixel, to which the points are anchored.
    rows, columns : ndarray of int, shapes (n,) and (m,)
        Pixel coordinates at which the start is wanted.

    Returns
    -------
    start : ndarray of float32, shape (2, n, m)
        Displacement (y, x) in pixels; NaN where there is no start.
    reason : ndarray of uint8, shape (n, m)
        Why there is no start, a value of `Reason`; 0 where there is one.
    """
    samples, references = patched(samples[:IMAGES]), patched(references[:IMAGES])
    step, side = start_step(window), max(window, LEAST_WINDOW)
    grid = [
        anchored(first, first + length, step=step, offset=step // 2) - first
        for first, length in zip(origin, samples.shape[1:], strict=True)
    ]
    factor = 1
    if search > REDUCE_BEYOND:
        factor = 4 if search > REDUCE_FURTHER else 2
    while factor > 1 and factor * LEAST_REDUCED > min(samples.shape[1:]):
        factor //= 2  # else the template would not fit into the image
    matches = _reduced_matches(samples, references, grid, factor, side, search, origin)
    *u, reason = without_outliers(matches, spacing=step)
    if factor == 4:
        first = reason
        matches = _matches(
            samples, references, grid, np.stack(u), side, SECOND_SEARCH, unique=False
        )
        *u, reason = without_outliers(matches, spacing=step)
        reason = np.where(reason > 0, np.maximum(reason, first), reason)
    start = np.stack(
        [
            interpolate(
                field,
                rows=grid[0],
                columns=grid[1],
                pixel_rows=rows,
                pixel_columns=columns,
                cubic=False,
                bridge=True,
            ).astype(np.float32)
            for field in u
        ]
    )
    if min(reason.shape) == 0:
        return start, np.full(start.shape[1:], Reason.BORDER, np.uint8)
    nearest = np.ix_(
        *(
            np.clip((wanted - line[0] + step // 2) // step, 0, line.size - 1)
            for wanted, line in ((rows, grid[0]), (columns, grid[1]))
        )
    )
    reason = np.where(np.isnan(start[0]), np.maximum(reason[nearest], 1), 0).astype(np.uint8)
    return start, reason


def patched(images: NDArray[Any]) -> NDArray[Any]:
    """Fill dead pixels that stand nearly alone from around them; wide gaps stay.

    A template may lack a twentieth of its pixels, a cell of a reduced image none: a few per cent of
    dead pixels, each of little weight, would leave nothing to start from.

    Parameters
    ----------
    images : ndarray of float, shape (images, rows, columns)
        What is not finite is a gap.

    Returns
    -------
    ndarray of float32, shape (images, rows, columns)
        `images` itself where there are no gaps.
    """
    out = images
    for n in range(len(images)):
        if not np.isfinite(images[n]).all():
            out = np.array(images, np.float32) if out is images else out
            _patch(np.asarray(images[n], np.float32), GAUSSIAN, out[n])
    return out


@njit(**WITH_NAN)  # type: ignore[untyped-decorator]
def _patch(image: NDArray[np.float32], weights: NDArray[np.float32], out: Floats) -> None:
    """Write Gaussian means into the gaps of an image that have enough data around them."""
    rows, columns = image.shape
    half = weights.size // 2
    for y in range(rows):
        for x in range(columns):
            if np.isfinite(image[y, x]):
                continue
            inside, known = 0, 0
            total, weight = np.float64(0), np.float64(0)
            for i in range(max(y - half, 0), min(y + half + 1, rows)):
                for j in range(max(x - half, 0), min(x + half + 1, columns)):
                    inside += 1
                    if np.isfinite(image[i, j]):
                        known += 1
                        share = weights[i - y + half] * weights[j - x + half]
                        weight += share
                        total += share * image[i, j]
            if known >= PATCHED * inside:
                out[y, x] = total / weight


def _reduced_matches(
    samples: NDArray[Any],
    references: NDArray[Any],
    grid: list[NDArray[np.intp]],
    factor: int,
    side: int,
    search: int,
    origin: tuple[int, int],
) -> Matches:
    """Match on images reduced by a factor; the result is in pixels of the full image."""
    nowhere = np.zeros((2, grid[0].size, grid[1].size), np.float32)
    if factor == 1:
        unique = search > SECOND_SEARCH
        return _matches(samples, references, grid, nowhere, side, search, unique=unique)
    # Cells of the reduced image are anchored to the frame, as the points are.
    skip = [-first % factor for first in origin]
    small, target = (_reduced(images, factor, skip) for images in (samples, references))
    points = [(line - first) // factor for line, first in zip(grid, skip, strict=True)]
    inside = [(line >= 0) & (line < n) for line, n in zip(points, small.shape[1:], strict=True)]
    kept = [line[there] for line, there in zip(points, inside, strict=True)]
    window = max(side // factor // 2 * 2 + 1, LEAST_REDUCED)
    found = _matches(
        small,
        target,
        kept,
        np.zeros((2, kept[0].size, kept[1].size), np.float32),
        window,
        -(-search // factor),
        unique=True,
    )
    whole = Matches.none((grid[0].size, grid[1].size))
    place = np.ix_(*inside)
    whole.displacement_y[place] = factor * found.displacement_y
    whole.displacement_x[place] = factor * found.displacement_x
    whole.correlation[place] = found.correlation
    whole.window[place] = found.window
    whole.reason[place] = found.reason
    return whole


def _reduced(images: NDArray[Any], factor: int, skip: list[int]) -> NDArray[np.float32]:
    """Average cells of ``factor x factor`` pixels; one with a gap is a gap."""
    cut = images[:, skip[0] :, skip[1] :]
    rows, columns = (length // factor for length in cut.shape[1:])
    cut = np.ascontiguousarray(cut[:, : rows * factor, : columns * factor], np.float32)
    return np.stack(
        [cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA) for image in cut]
    ).astype(np.float32)


def _matches(
    samples: NDArray[Any],
    references: NDArray[Any],
    grid: list[NDArray[np.intp]],
    start: Floats,
    side: int,
    search: int,
    *,
    unique: bool,
) -> Matches:
    grid = [
        _fitting(line, side, length) for line, length in zip(grid, samples.shape[1:], strict=True)
    ]
    far = np.nan_to_num(np.abs(start)).max(initial=0)
    reach = side + search + int(np.ceil(far))
    pairs = [
        (
            MaskedImage(sample, margin=side // 2, window=side),
            MaskedImage(reference, margin=reach, window=side),
        )
        for sample, reference in zip(samples, references, strict=True)
    ]
    return match_points(
        pairs,
        rows=grid[0],
        columns=grid[1],
        start_y=start[0],
        start_x=start[1],
        windows=[side],
        search=search,
        good=1.0,
        demand_unique=unique,
        missing=MISSING,
        correlate=correlate_compiled,
    )


def _fitting(line: NDArray[np.intp], side: int, length: int) -> NDArray[np.intp]:
    """Move the templates of a narrow frame to where they fit, if none fits at its own point."""
    half = side // 2
    first, last = half, length - 1 - half
    if first > last or ((line >= first) & (line <= last)).any():
        return line
    return np.clip(line, first, last)
