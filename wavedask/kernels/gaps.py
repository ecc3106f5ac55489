"""Images of zero mean and unit deviation, without single wrong pixels, their gaps filled."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.jit import INLINED, JIT, njit

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

SPIKE: Final = 7.0
"""Distance of a pixel from the median around it that makes a spike, over the rms distance..."""
SURROUNDINGS: Final = 31
"""... within so many pixels along each axis."""
BLOCK: Final = 8
"""Side in pixels of blocks: three by three of them lie within the surroundings of a pixel of the
middle one."""
LEAST_USUAL: Final = 0.1
"""Mean distance around a pixel over that of the image, at least."""
SAMPLED: Final = 4
"""One pixel in so many, along each axis, gives the mean over the image."""
RELAXATIONS: Final = 12
"""Sweeps that fill the gaps of an image."""


def centred(images: Floats, known: Mask) -> tuple[Floats, float, float]:
    """Shift and scale images to zero mean and unit deviation, with gaps filled from around.

    Sums over windows of float32 then hold: 60000 counts of pedestal would drown a contrast of a few
    per cent.
    """
    offset, scale = _moments(np.ascontiguousarray(images), known)
    if not scale > 0:
        scale = 1.0
    out = np.empty(images.shape, np.float32)
    _shift_and_scale(images, known, np.float32(offset), np.float32(1 / scale), out)
    if not known.all():
        for image, there in zip(out, known, strict=True):
            # Faster than `np.nonzero` of two axes.
            rows, columns = np.divmod(np.flatnonzero(~there), there.shape[1])
            if rows.size:
                fill_gaps(image, rows, columns, RELAXATIONS)
    return out, offset, scale


@njit(**JIT)  # type: ignore[untyped-decorator]
def _moments(images: Floats, known: Mask) -> tuple[float, float]:
    """Mean and standard deviation of what is known: 0 and 1 of nothing."""
    count, total, square = 0, 0.0, 0.0
    for n in range(images.shape[0]):
        for y in range(images.shape[1]):
            for x in range(images.shape[2]):
                if known[n, y, x]:
                    count += 1
                    total += np.float64(images[n, y, x])
    if count == 0:
        return 0.0, 1.0
    mean = total / count
    for n in range(images.shape[0]):
        for y in range(images.shape[1]):
            for x in range(images.shape[2]):
                if known[n, y, x]:
                    departure = np.float64(images[n, y, x]) - mean
                    square += departure * departure
    return mean, np.sqrt(square / count)


@njit(**JIT)  # type: ignore[untyped-decorator]
def _shift_and_scale(
    images: Floats, known: Mask, offset: np.float32, factor: np.float32, out: Floats
) -> None:
    zero = np.float32(0)
    for n in range(images.shape[0]):
        for y in range(images.shape[1]):
            for x in range(images.shape[2]):
                value = (images[n, y, x] - offset) * factor
                out[n, y, x] = value if known[n, y, x] else zero


def without_spikes(image: Floats) -> Floats:
    """Mark single pixels that stand out of their surroundings: hot, dead or hit by a cosmic ray.

    A pixel is compared with the median of the three by three around it, in units of how far the
    pixels around are from theirs. Speckle is smooth over a pixel, and its grains do not stand out.

    Parameters
    ----------
    image : ndarray of float32, shape (rows, columns)
        Intensities; what is not finite is a gap.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        The same with NaN there; the same array where nothing stands out.

    Examples
    --------
    >>> image = np.random.default_rng(0).poisson(100, (64, 64)).astype(np.float32)
    >>> image[20, 30] = 1000
    >>> np.argwhere(np.isnan(without_spikes(image))).tolist()
    [[20, 30]]
    """
    known = np.isfinite(image)
    complete = bool(known.all())
    values = image
    if not complete:
        if not known.any():
            return image
        values = np.where(known, image, np.float32(image[known].mean(dtype=np.float64)))
    away = cv2.medianBlur(values, 3)
    cv2.absdiff(values, away, dst=away)
    if not complete:
        away[~known] = 0
    usual = float(away[::SAMPLED, ::SAMPLED].mean())
    if not usual > np.finfo(np.float32).tiny:
        return image
    found = _spikes(away, np.float32(1 / usual))
    if not found.size:
        return image
    out = np.array(image, np.float32)
    out[found[:, 0], found[:, 1]] = np.nan
    return out


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _reflected(i: int, size: int) -> int:
    """Reflect an index at the border, whose own pixel is not repeated, as often as needed."""
    if size == 1:
        return 0
    period = 2 * size - 2
    i = i % period
    return i if i < size else period - i


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _mean_square(away: Floats, factor: np.float32, row: int, column: int) -> np.float32:
    """Mean square distance around a pixel; a spike counts no more than others may do."""
    half, total = SURROUNDINGS // 2, np.float32(0)
    for y in range(row - half, row + half + 1):
        line = away[_reflected(y, away.shape[0])]
        for x in range(column - half, column + half + 1):
            distance = min(line[_reflected(x, away.shape[1])] * factor, np.float32(SPIKE))
            total += distance * distance
    return total / np.float32(SURROUNDINGS**2)


@njit(**JIT)  # type: ignore[untyped-decorator]
def _spikes(away: Floats, factor: np.float32) -> NDArray[np.intp]:
    """Find the pixels (row, column) whose distance from the median is that of a spike.

    The nine blocks around a pixel lie within its surroundings: their sum tells of nearly all pixels
    that they are none, and only of few the surroundings have to be summed.
    """
    rows, columns = away.shape
    limit, least = np.float32(SPIKE), np.float32(LEAST_USUAL**2)
    down, across = -(-rows // BLOCK), -(-columns // BLOCK)
    sums, most = np.zeros((down + 2, across + 2), np.float32), np.zeros(across, np.float32)
    highest = np.empty((down, across), np.float32)
    for i in range(down):
        most[:] = np.float32(0)
        for y in range(i * BLOCK, min((i + 1) * BLOCK, rows)):
            for j in range(across):
                total, high = np.float32(0), np.float32(0)
                for x in range(j * BLOCK, min((j + 1) * BLOCK, columns)):
                    distance = away[y, x] * factor
                    high = max(high, distance)
                    distance = min(distance, limit)
                    total += distance * distance
                sums[i + 1, j + 1] += total
                most[j] = max(most[j], high)
        highest[i] = most
    found = [(0, 0) for _ in range(0)]
    for i in range(down):
        for j in range(across):
            near = np.float32(0)
            for k in range(3):
                near += sums[i + k, j] + sums[i + k, j + 1] + sums[i + k, j + 2]
            bound = limit * np.sqrt(max(near / np.float32(SURROUNDINGS**2), least))
            if not highest[i, j] > bound:
                continue
            for y in range(i * BLOCK, min((i + 1) * BLOCK, rows)):
                for x in range(j * BLOCK, min((j + 1) * BLOCK, columns)):
                    distance = away[y, x] * factor
                    if not distance > bound:
                        continue
                    around = max(_mean_square(away, factor, y, x), least)
                    if distance * distance > limit * limit * around:
                        found.append((y, x))
    out = np.empty((len(found), 2), np.intp)
    for k in range(len(found)):
        out[k, 0], out[k, 1] = found[k]
    return out


@njit(**JIT)  # type: ignore[untyped-decorator]
def fill_gaps(
    image: Floats, rows: NDArray[np.intp], columns: NDArray[np.intp], sweeps: int
) -> None:
    """Fill pixels by a surface of least bending (biharmonic), in place.

    An isolated dead pixel gets nearly what it would have read, so that the splines beside it stay
    true; inside a wide gap the values do not matter, for nothing there has weight.
    """
    height, width = image.shape
    for sweep in range(sweeps):
        for k in range(rows.size):
            y, x = rows[k], columns[k]
            if 2 <= y < height - 2 and 2 <= x < width - 2 and sweep > 1:
                near = image[y - 1, x] + image[y + 1, x] + image[y, x - 1] + image[y, x + 1]
                diagonal = (
                    image[y - 1, x - 1]
                    + image[y - 1, x + 1]
                    + image[y + 1, x - 1]
                    + image[y + 1, x + 1]
                )
                far = image[y - 2, x] + image[y + 2, x] + image[y, x - 2] + image[y, x + 2]
                image[y, x] = (np.float32(8) * near - np.float32(2) * diagonal - far) * np.float32(
                    1 / 20
                )
            else:
                up, down = max(y - 1, 0), min(y + 1, height - 1)
                left, right = max(x - 1, 0), min(x + 1, width - 1)
                image[y, x] = np.float32(0.25) * (
                    image[up, x] + image[down, x] + image[y, left] + image[y, right]
                )
