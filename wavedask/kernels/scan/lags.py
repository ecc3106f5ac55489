"""Search for the whole delay between two stacks: the highest correlation in each window."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.jit import INLINED, JIT, njit

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Pair = tuple[int, int]

NOWHERE: Final = np.iinfo(np.int32).min
"""Marks a pixel without a whole delay."""


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _add_products(s: Floats, r: Floats, out: Floats) -> None:
    for x in range(s.size):
        out[x] += s[x] * r[x]


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _integrals(images: Floats, power: int) -> Floats:
    """Cumulative sums of the frames, or of their squares, along both axes of a scan."""
    first, second, rows, columns = images.shape
    out = np.zeros((first + 1, second + 1, rows, columns), np.float32)
    for i in range(first):
        for j in range(second):
            for y in range(rows):
                for x in range(columns):
                    value = images[i, j, y, x]
                    if power == 2:
                        value *= value
                    out[i + 1, j + 1, y, x] = (
                        value + out[i, j + 1, y, x] + out[i + 1, j, y, x] - out[i, j, y, x]
                    )
    return out


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _part(
    integrals: Floats, start: int, stop: int, begin: int, end: int, y: int, out: Floats
) -> None:
    """Sum over a part of the scan for a row of pixels, from cumulative sums."""
    a, b = integrals[stop, end, y], integrals[start, end, y]
    c, d = integrals[stop, begin, y], integrals[start, begin, y]
    for x in range(out.size):
        out[x] = a[x] - b[x] - c[x] + d[x]


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _centre_products(sums: Floats, count: int, s: Mask, r: Mask, out: Floats) -> None:
    """Variances and covariance of a row of pixels, times the samples; 0 where data are missing."""
    inverse = np.float32(1) / np.float32(count)
    for x in range(s.size):
        weight = np.float32(1) if s[x] and r[x] else np.float32(0)
        a, b = sums[0, x], sums[1, x]
        out[0, x] = weight * (sums[2, x] - a * a * inverse)
        out[1, x] = weight * (sums[3, x] - b * b * inverse)
        out[2, x] = weight * (sums[4, x] - a * b * inverse)


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _box(image: Floats, half_y: int, half_x: int, room: Floats, out: Floats) -> None:
    """Sum over the window around every pixel; windows are cut at the border."""
    rows, columns = image.shape
    for y in range(rows):
        line = room[y]
        line[:] = image[y]
        for k in range(1, min(half_x, columns - 1) + 1):
            for x in range(columns - k):
                line[x] += image[y, x + k]
            for x in range(k, columns):
                line[x] += image[y, x - k]
    for y in range(rows):
        line = out[y]
        line[:] = np.float32(0)
        for j in range(max(y - half_y, 0), min(y + half_y + 1, rows)):
            other = room[j]
            for x in range(columns):
                line[x] += other[x]


@njit(**INLINED)  # type: ignore[untyped-decorator]
def overlap(lag: int, n: int) -> tuple[int, int]:
    """Range (first, end) of the samples whose counterpart lies within a scan of `n`."""
    return max(lag, 0), n + min(lag, 0)


@njit(**JIT)  # type: ignore[untyped-decorator]
def whole_delays(
    s: Floats,
    r: Floats,
    known_s: Mask,
    known_r: Mask,
    window: Pair,
    search: Pair,
    centre: Pair,
    line: bool,
) -> NDArray[np.int32]:
    """Find the whole delay with the highest correlation in the window of every pixel.

    Parameters
    ----------
    s, r : ndarray of float32, shape (first, second, rows, columns)
        Sample and reference, finite. The mean of a pixel over the scan has no effect.
    known_s, known_r : ndarray of bool, shape (rows, columns)
        Pixels with data.
    window, search, centre, line
        As in `ScanMatch`.

    Returns
    -------
    ndarray of int32, shape (2, rows, columns)
        Delays along both axes; `NOWHERE` where there is no data, or where the highest correlation
        lies at the edge of the search.
    """
    first, second, rows, columns = s.shape
    best = np.full((rows, columns), -2, np.float32)
    lags = np.full((2, rows, columns), NOWHERE, np.int32)
    sums = np.empty((5, columns), np.float32)
    sums_s, squares_s = _integrals(s, 1), _integrals(s, 2)
    sums_r, squares_r = _integrals(r, 1), _integrals(r, 2)
    centred = np.zeros((3, rows, columns), np.float32)
    boxed = np.empty((3, rows, columns), np.float32)
    row = np.empty((3, columns), np.float32)
    room = np.empty((rows, columns), np.float32)
    for k in range(centre[0] - search[0], centre[0] + search[0] + 1):
        start, stop = (0, 1) if line else overlap(k, first)
        for m in range(centre[1] - search[1], centre[1] + search[1] + 1):
            begin, end = overlap(m, second)
            for y in range(rows):
                away = y - k if line else y
                centred[:, y] = np.float32(0)
                if away < 0 or away >= rows:
                    continue
                lag = 0 if line else k
                _part(sums_s, start, stop, begin, end, y, sums[0])
                _part(squares_s, start, stop, begin, end, y, sums[2])
                _part(sums_r, start - lag, stop - lag, begin - m, end - m, away, sums[1])
                _part(squares_r, start - lag, stop - lag, begin - m, end - m, away, sums[3])
                sums[4] = np.float32(0)
                for i in range(start, stop):
                    for j in range(begin, end):
                        _add_products(s[i, j, y], r[i - lag, j - m, away], sums[4])
                _centre_products(
                    sums, (stop - start) * (end - begin), known_s[y], known_r[away], row
                )
                centred[:, y] = row
            for q in range(3):
                _box(centred[q], window[0] // 2, window[1] // 2, room, boxed[q])
            edge = abs(k - centre[0]) == search[0] or abs(m - centre[1]) == search[1]
            for y in range(rows):
                for x in range(columns):
                    power = boxed[0, y, x] * boxed[1, y, x]
                    if power > 0:
                        correlation = boxed[2, y, x] / np.sqrt(power)
                        if correlation > best[y, x]:
                            best[y, x] = correlation
                            lags[0, y, x] = NOWHERE if edge else k
                            lags[1, y, x] = NOWHERE if edge else m
    return lags
