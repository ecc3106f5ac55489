"""B-splines of an image: coefficients, gradient, and rows of the displaced image.

All filters are short and symmetric, so that a pixel depends on its neighbourhood only and a tile
with a halo gives what the frame gives. The inner loops run over contiguous rows and hold no branch:
the compiler turns them into vector instructions.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.jit import INLINED, JIT, njit

Floats = NDArray[np.float32]
Order = Literal[3, 5]

NEGLIGIBLE: Final = 1e-7
"""Filter coefficients below this are cut off: the resolution of float32."""
RUN: Final = 16
"""Pixels that are evaluated at once: a multiple of what fits into a vector register."""
# Sampled B-splines (at 0, 1, 2) and their derivatives (at 1, 2), by order.
VALUES: Final = {3: (4 / 6, 1 / 6, 0.0), 5: (66 / 120, 26 / 120, 1 / 120)}
DERIVATIVES: Final = {3: (1 / 2, 0.0), 5: (10 / 24, 1 / 24)}


@dataclass(frozen=True, slots=True)
class SplineFilters:
    """Filters of a spline order.

    Attributes
    ----------
    prefilter : ndarray of float32
        Centre and one side of the symmetric filter that turns samples into coefficients
        (Unser, Aldroubi & Eden, IEEE Trans. Signal Process. 41, 821, 1993).
    gradient : ndarray of float32
        One side (from one pixel on; the centre is zero) of the antisymmetric filter that gives the
        derivative at the pixels from the samples.
    """

    prefilter: Floats
    gradient: Floats

    @classmethod
    def of_order(cls, order: Order) -> "SplineFilters":
        """Compute the filters of cubic (3) or quintic (5) splines."""
        size = 256
        angle = 2 * np.pi * np.fft.fftfreq(size)
        value, first, second = VALUES[order]
        sampled = value + 2 * first * np.cos(angle) + 2 * second * np.cos(2 * angle)
        near, far = DERIVATIVES[order]
        slope = 2j * (near * np.sin(angle) + far * np.sin(2 * angle))
        prefilter = np.fft.ifft(1 / sampled).real[: size // 2]
        gradient = np.fft.ifft(slope / sampled).real[: size // 2]
        radius = int(np.flatnonzero(np.abs(prefilter) > NEGLIGIBLE).max())
        # derivative = sum_k g_k (f[x + k] - f[x - k])
        return cls(
            prefilter[: radius + 1].astype(np.float32),
            -gradient[: radius + 1].astype(np.float32),
        )


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _scale(out: Floats, q: np.float32, a: Floats) -> None:
    for i in range(out.size):
        out[i] = q * a[i]


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _add_pair(out: Floats, q: np.float32, a: Floats, b: Floats) -> None:
    for i in range(out.size):
        out[i] += q * (a[i] + b[i])


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _add_pairs(
    out: Floats, q: np.float32, a: Floats, b: Floats, r: np.float32, c: Floats, d: Floats
) -> None:
    for i in range(out.size):
        out[i] += q * (a[i] + b[i]) + r * (c[i] + d[i])


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _subtract_pair(out: Floats, q: np.float32, a: Floats, b: Floats) -> None:
    for i in range(out.size):
        out[i] += q * (a[i] - b[i])


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _mirrored(i: int, n: int) -> int:
    if i < 0:
        i = -i
    if i >= n:
        i = 2 * n - 2 - i
    return int(min(max(i, 0), n - 1))


@njit(**INLINED)  # type: ignore[untyped-decorator]
def filter_columns(image: Floats, y: int, taps: Floats, out: Floats) -> None:
    """Row `y` of an image filtered along the columns by symmetric taps; mirrored borders."""
    n = image.shape[0]
    radius = taps.size - 1
    _scale(out, taps[0], image[y])
    k = 1
    while k < radius:
        _add_pairs(
            out,
            taps[k],
            image[_mirrored(y - k, n)],
            image[_mirrored(y + k, n)],
            taps[k + 1],
            image[_mirrored(y - k - 1, n)],
            image[_mirrored(y + k + 1, n)],
        )
        k += 2
    if k == radius:
        _add_pair(out, taps[k], image[_mirrored(y - k, n)], image[_mirrored(y + k, n)])


@njit(**INLINED)  # type: ignore[untyped-decorator]
def filter_row(padded: Floats, taps: Floats, out: Floats) -> None:
    """Filter a row, padded by the radius of the symmetric taps on both sides."""
    r = taps.size - 1
    n = out.size
    _scale(out, taps[0], padded[r : r + n])
    k = 1
    while k < r:
        _add_pairs(
            out,
            taps[k],
            padded[r - k : r - k + n],
            padded[r + k : r + k + n],
            taps[k + 1],
            padded[r - k - 1 : r - k - 1 + n],
            padded[r + k + 1 : r + k + 1 + n],
        )
        k += 2
    if k == r:
        _add_pair(out, taps[k], padded[r - k : r - k + n], padded[r + k : r + k + n])


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _pad_mirrored(row: Floats, r: int, out: Floats) -> None:
    n = row.size
    for i in range(n):
        out[r + i] = row[i]
    for i in range(r):
        out[r - 1 - i] = row[_mirrored(-1 - i, n)]
        out[r + n + i] = row[_mirrored(n + i, n)]


@njit(**JIT)  # type: ignore[untyped-decorator]
def coefficients(image: Floats, prefilter: Floats, margin: int) -> Floats:
    """B-spline coefficients of an image, with the edge repeated in a margin.

    Parameters
    ----------
    image : ndarray of float32, shape (rows, columns)
    prefilter : ndarray of float32
        As of `SplineFilters`.
    margin : int
        Pixels added on every side.

    Returns
    -------
    ndarray of float32, shape (rows + 2 margin, columns + 2 margin)
    """
    rows, columns = image.shape
    r = prefilter.size - 1
    out = np.empty((rows + 2 * margin, columns + 2 * margin), np.float32)
    line = np.empty(columns, np.float32)
    padded = np.empty(columns + 2 * r, np.float32)
    for y in range(rows):
        filter_columns(image, y, prefilter, line)
        _pad_mirrored(line, r, padded)
        row = out[y + margin]
        filter_row(padded, prefilter, row[margin : margin + columns])
        row[:margin] = row[margin]
        row[margin + columns :] = row[margin + columns - 1]
    for y in range(margin):
        out[y] = out[margin]
        out[margin + rows + y] = out[margin + rows - 1]
    return out


@njit(**JIT)  # type: ignore[untyped-decorator]
def gradient(image: Floats, taps: Floats, out_y: Floats, out_x: Floats) -> None:
    """Take the derivatives of the spline of an image at its pixels.

    Parameters
    ----------
    image : ndarray of float32, shape (rows, columns)
    taps : ndarray of float32
        The gradient filter of `SplineFilters`.
    out_y, out_x : ndarray of float32, shape (rows, columns)
        Where the derivatives along the columns and the rows go.
    """
    rows, columns = image.shape
    r = taps.size - 1
    padded = np.empty(columns + 2 * r, np.float32)
    for y in range(rows):
        _pad_mirrored(image[y], r, padded)
        down, across = out_y[y], out_x[y]
        down[:] = np.float32(0)
        across[:] = np.float32(0)
        for k in range(1, r + 1):
            _subtract_pair(
                down, taps[k], image[_mirrored(y + k, rows)], image[_mirrored(y - k, rows)]
            )
            _subtract_pair(
                across, taps[k], padded[r + k : r + k + columns], padded[r - k : r - k + columns]
            )


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _cubic_run(
    r0: Floats,
    r1: Floats,
    r2: Floats,
    r3: Floats,
    u_y: Floats,
    u_x: Floats,
    y: np.float32,
    x: np.float32,
    out: Floats,
) -> None:
    one, half, sixth, third2 = np.float32(1), np.float32(0.5), np.float32(1 / 6), np.float32(2 / 3)
    for i in range(out.size):
        t, s = y - u_y[i], x - u_x[i]
        p, q = one - t, one - s
        a0, a3 = sixth * p * p * p, sixth * t * t * t
        a1, a2 = third2 - t * t * (one - half * t), third2 - p * p * (one - half * p)
        b0, b3 = sixth * q * q * q, sixth * s * s * s
        b1, b2 = third2 - s * s * (one - half * s), third2 - q * q * (one - half * q)
        out[i] = (
            a0 * (b0 * r0[i] + b1 * r0[i + 1] + b2 * r0[i + 2] + b3 * r0[i + 3])
            + a1 * (b0 * r1[i] + b1 * r1[i + 1] + b2 * r1[i + 2] + b3 * r1[i + 3])
            + a2 * (b0 * r2[i] + b1 * r2[i + 1] + b2 * r2[i + 2] + b3 * r2[i + 3])
            + a3 * (b0 * r3[i] + b1 * r3[i + 1] + b2 * r3[i + 2] + b3 * r3[i + 3])
        )


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _quintic_ends(t: Any) -> Any:
    square = t * t
    return np.float32(1 / 120) * square * square * t


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _quintic_shoulders(t: np.float32) -> np.float32:
    """Weight at a distance 1 + (1 - t) from a sample: (1 + 5t + 10t2 + 10t3 + 5t4 - 5t5) / 120."""
    a, b, c = np.float32(1 / 120), np.float32(5 / 120), np.float32(10 / 120)
    return a + t * (b + t * (c + t * (c + t * (b - b * t))))


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _quintic_centre(t: np.float32) -> np.float32:
    """Weight at a distance t from a sample: (66 - 60t2 + 30t4 - 10t5) / 120."""
    a, b = np.float32(66 / 120), np.float32(60 / 120)
    c, d = np.float32(30 / 120), np.float32(10 / 120)
    square = t * t
    return a - square * (b - square * (c - d * t))


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _quintic_line(
    row: Floats,
    i: int,
    b0: np.float32,
    b1: np.float32,
    b2: np.float32,
    b3: np.float32,
    b4: np.float32,
    b5: np.float32,
) -> Any:
    return (
        b0 * row[i]
        + b1 * row[i + 1]
        + b2 * row[i + 2]
        + b3 * row[i + 3]
        + b4 * row[i + 4]
        + b5 * row[i + 5]
    )


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _quintic_run(
    r0: Floats,
    r1: Floats,
    r2: Floats,
    r3: Floats,
    r4: Floats,
    r5: Floats,
    u_y: Floats,
    u_x: Floats,
    y: np.float32,
    x: np.float32,
    out: Floats,
) -> None:
    one = np.float32(1)
    for i in range(out.size):
        t, s = y - u_y[i], x - u_x[i]
        p, q = one - t, one - s
        b0, b5 = _quintic_ends(q), _quintic_ends(s)
        b1, b4 = _quintic_shoulders(q), _quintic_shoulders(s)
        b2, b3 = _quintic_centre(s), _quintic_centre(q)
        out[i] = (
            _quintic_ends(p) * _quintic_line(r0, i, b0, b1, b2, b3, b4, b5)
            + _quintic_shoulders(p) * _quintic_line(r1, i, b0, b1, b2, b3, b4, b5)
            + _quintic_centre(t) * _quintic_line(r2, i, b0, b1, b2, b3, b4, b5)
            + _quintic_centre(p) * _quintic_line(r3, i, b0, b1, b2, b3, b4, b5)
            + _quintic_shoulders(t) * _quintic_line(r4, i, b0, b1, b2, b3, b4, b5)
            + _quintic_ends(t) * _quintic_line(r5, i, b0, b1, b2, b3, b4, b5)
        )


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _displaced_row(
    spline: Floats,
    margin: int,
    order: int,
    y: int,
    left: int,
    u_y: Floats,
    u_x: Floats,
    whole: NDArray[np.int32],
    out: Floats,
) -> None:
    """Evaluate a spline along a row, run by run; arguments as of `displaced_row`."""
    n = out.size
    reach = order // 2
    row = np.float32(y)
    above, aside = whole[0], whole[1]
    for i in range(n):
        above[i] = np.int32(np.floor(row - u_y[i]))
        aside[i] = np.int32(np.floor(-u_x[i]))
    last_row = spline.shape[0] - margin - reach - 2
    last_column = spline.shape[1] - margin - reach - 2
    start = 0
    while start < n:
        top, shift = above[start], aside[start]
        stop = start + 1
        while stop + RUN <= n:
            differs = np.int32(0)
            for i in range(stop, stop + RUN):
                differs |= (above[i] ^ top) | (aside[i] ^ shift)
            if differs:
                break
            stop += RUN
        while stop < n and above[stop] == top and aside[stop] == shift:
            stop += 1
        first = min(max(top, reach - margin), last_row) + margin - reach
        column = left + start + shift
        # Whole vectors, where there is room: the next run writes over what is too much.
        size = min(-(-(stop - start) // RUN) * RUN, n - start)
        if not (reach - margin <= column and column + size - 1 <= last_column):
            size = stop - start
            column = min(max(column, reach - margin), last_column - size + 1)
        column += margin - reach
        v, w, o = u_y[start : start + size], u_x[start : start + size], out[start : start + size]
        t, s = np.float32(y - top), np.float32(-shift)
        end = column + size + order
        if order == 3:
            _cubic_run(
                spline[first, column:end],
                spline[first + 1, column:end],
                spline[first + 2, column:end],
                spline[first + 3, column:end],
                v,
                w,
                t,
                s,
                o,
            )
        else:
            _quintic_run(
                spline[first, column:end],
                spline[first + 1, column:end],
                spline[first + 2, column:end],
                spline[first + 3, column:end],
                spline[first + 4, column:end],
                spline[first + 5, column:end],
                v,
                w,
                t,
                s,
                o,
            )
        start = stop


@njit(**INLINED)  # type: ignore[untyped-decorator]
def displaced_row(
    spline: Floats,
    margin: int,
    order: int,
    y: int,
    left: int,
    u_y: Floats,
    u_x: Floats,
    whole: NDArray[np.int32],
    out: Floats,
) -> None:
    """Evaluate a spline along a row of pixels, each at its own displacement.

    ``out[i] = image(y - u_y[i], left + i - u_x[i])``. Where the whole part of the displacement is
    the same for a run of pixels, as in a smooth field it is for long, the coefficients of the run
    are contiguous.

    Parameters
    ----------
    spline : ndarray of float32
        Coefficients of the image with its margin.
    margin : int
        Pixels of the margin; at least 3 more than the longest displacement out of the image. What
        lies beyond takes the nearest row or column that is there.
    order : int
        3 or 5.
    y, left : int
        Image coordinates of the first pixel of the row.
    u_y, u_x : ndarray of float32, shape (n,)
        Displacement in pixels.
    whole : ndarray of int32, shape (2, n)
        Room to work.
    out : ndarray of float32, shape (n,)
        Where the values go.
    """
    # Each order is compiled by itself: loops that learn the order late take twice the time.
    if order == 3:
        _displaced_row(spline, margin, 3, y, left, u_y, u_x, whole, out)
    else:
        _displaced_row(spline, margin, 5, y, left, u_y, u_x, whole, out)
