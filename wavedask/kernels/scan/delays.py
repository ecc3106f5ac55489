"""Sub-step refinement of delays by Gauss-Newton, pixel by pixel."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.jit import INLINED, JIT, njit
from wavedask.kernels.scan.lags import Mask, Pair, overlap

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

ITERATIONS: Final = 12
"""Largest number of iterations; three to five are usual."""
CONVERGED: Final = 1e-3
"""Change of the delay, in steps or pixels, at which the iteration has converged."""
LONGEST_STEP: Final = 0.5
"""Largest change of the delay in one iteration, in steps or pixels."""
NEAR: Final = 0.75
"""Distance from the whole delay at which the overlap of the two scans is chosen again."""
LEAST_COVERED: Final = 0.25
"""Smallest fraction of the window that must have data."""
UNEXPLAINED: Final = 3
"""Fitted parameters per window: two delays and a gain; each pixel adds one offset."""
SINGULAR: Final = 1e-6
"""Ratio of determinant to product of the diagonal below which a window has a pattern along one
axis only."""

# Rows of the result for a pixel: delay, gain, convergence, then sums over its window: samples,
# pixels, levels of both images, and covariances.
DELAY_1, DELAY_2, GAIN, SETTLED, COUNT, PIXELS, LEVEL_S, LEVEL_W = range(8)
SS, WW, WS, S1, S2, W1, W2, H11, H12, H22 = range(8, 18)
ROWS: Final = 18
# Sums over one pixel: samples, sums of s, w and the two derivatives of s; then products as above.
SUM_N, SUM_S, SUM_W, SUM_1, SUM_2 = range(5)


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _cubic(t: float) -> tuple[Any, Any, Any, Any]:
    """Weights of the four cubic B-splines around a position at `t` between two samples."""
    u = 1 - t
    return (
        np.float32(u * u * u / 6),
        np.float32(2 / 3 - t * t * (1 - t / 2)),
        np.float32(2 / 3 - u * u * (1 - u / 2)),
        np.float32(t * t * t / 6),
    )


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _add_row(
    c0: Floats,
    c1: Floats,
    c2: Floats,
    c3: Floats,
    down: tuple[Any, Any, Any, Any],
    along: tuple[Any, Any, Any, Any],
    s: Floats,
    s1: Floats,
    s2: Floats,
    room: Floats,
    sums: Doubles,
) -> None:
    """Delay the reference along a row of the scan; add the products to the sums of a pixel."""
    n = s.size
    a0, a1, a2, a3 = down
    b0, b1, b2, b3 = along
    for j in range(n + 3):
        room[j] = a0 * c0[j] + a1 * c1[j] + a2 * c2[j] + a3 * c3[j]
    zero = np.float32(0)
    t_s, t_w, t_1, t_2 = zero, zero, zero, zero
    ss, ww, ws, p_1, p_2, q_1, q_2, h_11, h_12, h_22 = (
        zero, zero, zero, zero, zero, zero, zero, zero, zero, zero,
    )  # fmt: skip
    for j in range(n):
        w = b0 * room[j] + b1 * room[j + 1] + b2 * room[j + 2] + b3 * room[j + 3]
        v, d, e = s[j], s1[j], s2[j]
        t_s += v
        t_w += w
        t_1 += d
        t_2 += e
        ss += v * v
        ww += w * w
        ws += w * v
        p_1 += v * d
        p_2 += v * e
        q_1 += w * d
        q_2 += w * e
        h_11 += d * d
        h_12 += d * e
        h_22 += e * e
    sums[SUM_N] += n
    sums[SUM_S] += t_s
    sums[SUM_W] += t_w
    sums[SUM_1] += t_1
    sums[SUM_2] += t_2
    sums[SS] += ss
    sums[WW] += ww
    sums[WS] += ws
    sums[S1] += p_1
    sums[S2] += p_2
    sums[W1] += q_1
    sums[W2] += q_2
    sums[H11] += h_11
    sums[H12] += h_12
    sums[H22] += h_22


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _close_pixel(sums: Doubles, level_s: float, level_w: float, total: Doubles) -> None:
    """Centre the products of a pixel, and add them to the sums of the window."""
    n = sums[SUM_N]
    s, w, d, e = sums[SUM_S], sums[SUM_W], sums[SUM_1], sums[SUM_2]
    total[COUNT] += n
    total[PIXELS] += 1
    total[LEVEL_S] += level_s + s / n
    total[LEVEL_W] += level_w + w / n
    total[SS] += sums[SS] - s * s / n
    total[WW] += sums[WW] - w * w / n
    total[WS] += sums[WS] - w * s / n
    total[S1] += sums[S1] - s * d / n
    total[S2] += sums[S2] - s * e / n
    total[W1] += sums[W1] - w * d / n
    total[W2] += sums[W2] - w * e / n
    total[H11] += sums[H11] - d * d / n
    total[H12] += sums[H12] - d * e / n
    total[H22] += sums[H22] - e * e / n


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _spare(change_y: float, change_x: float) -> int:
    """Count the samples to leave out at either end of the overlap of two scans.

    At least one: the derivative there is one-sided, and the refinement needs room of up to one
    step. More where the delay changes over the window.
    """
    beyond = NEAR + abs(change_y) + abs(change_x)
    return max(int(np.ceil(beyond)), 1)


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _window_sums(
    s: Floats,
    s1: Floats,
    s2: Floats,
    splines: Floats,
    level_s: Floats,
    level_r: Floats,
    known_s: Mask,
    known_r: Mask,
    y: int,
    x: int,
    lag: Pair,
    delay_1: float,
    delay_2: float,
    slopes: Floats,
    window: Pair,
    line: bool,
    room: Floats,
    sums: Doubles,
    total: Doubles,
) -> None:
    """Compute the sums over a window for one Gauss-Newton step."""
    rows, columns, first, second = s.shape
    half_y, half_x = window[0] // 2, window[1] // 2
    total[:] = 0.0
    start, stop = overlap(lag[0], first)
    begin, end = overlap(lag[1], second)
    less = _spare(slopes[2] * half_y, slopes[3] * half_x)
    begin, end = begin + less, end - less
    if line:
        start, stop = 0, 1
    else:
        less = _spare(slopes[0] * half_y, slopes[1] * half_x)
        start, stop = start + less, stop - less
    if stop <= start or end <= begin:
        return
    for q in range(max(y - half_y, 0), min(y + half_y + 1, rows)):
        for p in range(max(x - half_x, 0), min(x + half_x + 1, columns)):
            own_1 = -delay_1 - slopes[0] * (q - y) - slopes[1] * (p - x)
            own_2 = -delay_2 - slopes[2] * (q - y) - slopes[3] * (p - x)
            floor_1, floor_2 = int(np.floor(own_1)), int(np.floor(own_2))
            down, along = _cubic(own_1 - floor_1), _cubic(own_2 - floor_2)
            left, right = begin + floor_2, end + floor_2 + 3
            above = q + floor_1 if line else q
            if above < 0 or above + line >= rows:
                continue
            nearest = q + int(np.rint(own_1)) if line else q
            if not (known_s[q, p] and known_r[above, p] and known_r[above + line, p]):
                continue
            sums[:] = 0.0
            for i in range(start, stop):
                if line:
                    c0, c1 = splines[above, p, 0], splines[above + 1, p, 0]
                    c2, c3 = splines[above + 2, p, 0], splines[above + 3, p, 0]
                else:
                    c0, c1 = splines[q, p, i + floor_1], splines[q, p, i + floor_1 + 1]
                    c2, c3 = splines[q, p, i + floor_1 + 2], splines[q, p, i + floor_1 + 3]
                _add_row(
                    c0[left:right],
                    c1[left:right],
                    c2[left:right],
                    c3[left:right],
                    down,
                    along,
                    s[q, p, i, begin:end],
                    s1[q, p, i, begin:end],
                    s2[q, p, i, begin:end],
                    room,
                    sums,
                )
            _close_pixel(sums, level_s[q, p], level_r[nearest, p], total)


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _at(table: Doubles, delay: float) -> float:
    """Interpolate a table at the fractional part of a delay."""
    place = (delay - np.floor(delay)) * (table.size - 1)
    k = min(int(place), table.size - 2)
    return float(table[k] + (place - k) * (table[k + 1] - table[k]))


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _gain(total: Doubles, passed: float) -> float:
    """Gain of the window, corrected for the noise of the reference; 0 without a pattern.

    Noise in the reference increases its variance and makes the gain too small. The rest of the
    pattern would then correlate with its derivative at the ends of a scan. Half of the noise is
    attributed to the reference, of which the spline passes a part.
    """
    freedom = total[COUNT] - total[PIXELS] - UNEXPLAINED
    if not (total[WW] > 0 and total[SS] > 0 and freedom > 0):
        return 0.0
    power = total[WS] * total[WS] / total[WW]
    noise = max(total[SS] - power, 0.0) * total[COUNT] / freedom * passed / (1 + passed)
    # Reliability of the reference: at most half of its power is noise.
    reliable = max(1 - noise / max(power, 1e-30), 0.5)
    return float(total[WS] / (total[WW] * reliable))


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _step(total: Doubles, gain: float) -> tuple[bool, float, float]:
    """Gauss-Newton step of both delays, and whether the pattern of the window determines them."""
    determinant = total[H11] * total[H22] - total[H12] * total[H12]
    if gain == 0 or not determinant > SINGULAR * total[H11] * total[H22]:
        return False, 0.0, 0.0
    right_1 = gain * total[W1] - total[S1]
    right_2 = gain * total[W2] - total[S2]
    return (
        True,
        (total[H22] * right_1 - total[H12] * right_2) / determinant,
        (total[H11] * right_2 - total[H12] * right_1) / determinant,
    )


@njit(**JIT)  # type: ignore[untyped-decorator]
def refine(
    s: Floats,
    s1: Floats,
    s2: Floats,
    splines: Floats,
    level_s: Floats,
    level_r: Floats,
    known_s: Mask,
    known_r: Mask,
    start: Floats,
    started: Mask,
    slopes: Floats,
    displaced: Doubles,
    window: Pair,
    search: Pair,
    centre: Pair,
    line: bool,
) -> Floats:
    """Refine whole delays by Gauss-Newton, one pixel at a time.

    Parameters
    ----------
    s, s1, s2 : ndarray of float32, shape (rows, columns, first, second)
        Sample and its derivatives along the two axes.
    splines : ndarray of float32
        Spline coefficients of the reference: like `s`, with one more at both ends of the two axes;
        the first axis of a line is the rows of the detector.
    level_s, level_r : ndarray of float32, shape (rows, columns)
        Means over the scan that were subtracted.
    known_s, known_r : ndarray of bool, shape (rows, columns)
        Pixels with data.
    start : ndarray of float32, shape (2, rows, columns)
        Delays along both axes from which the iteration starts.
    started : ndarray of bool, shape (rows, columns)
        Pixels with a start value.
    slopes : ndarray of float32, shape (4, rows, columns)
        Change of the delay along the first axis per row and per column, then along the second:
        each pixel of a window has its own delay.
    displaced : ndarray of float64
        As in `SplineNoise`.
    window, search, centre, line
        As in `ScanMatch`.

    Returns
    -------
    ndarray of float32, shape (18, rows, columns)
        Delay along both axes; gain; 1 where the iteration converged within the search on enough
        data; sums over the window. Zero without a start value.
    """
    rows, columns, _, second = s.shape
    out = np.zeros((ROWS, rows, columns), np.float32)
    room = np.empty(second + 3, np.float32)
    sums, total = np.empty(ROWS, np.float64), np.empty(ROWS, np.float64)
    wanted = LEAST_COVERED * window[0] * window[1]
    for y in range(rows):
        for x in range(columns):
            if not started[y, x]:
                continue
            delay_1, delay_2 = float(start[0, y, x]), float(start[1, y, x])
            lag_1, lag_2 = int(np.rint(delay_1)), int(np.rint(delay_2))
            settled, gain = False, 0.0
            for _ in range(ITERATIONS):
                _window_sums(
                    s, s1, s2, splines, level_s, level_r, known_s, known_r, y, x, (lag_1, lag_2),
                    delay_1, delay_2, slopes[:, y, x], window, line, room, sums, total,
                )  # fmt: skip
                gain = _gain(total, _at(displaced, delay_1) * _at(displaced, delay_2))
                patterned, step_1, step_2 = _step(total, gain)
                if not patterned:
                    break
                delay_1 += min(max(step_1, -LONGEST_STEP), LONGEST_STEP)
                delay_2 += min(max(step_2, -LONGEST_STEP), LONGEST_STEP)
                inside = (
                    abs(delay_1 - centre[0]) < search[0] and abs(delay_2 - centre[1]) < search[1]
                )
                if not inside:
                    break
                if max(abs(step_1), abs(step_2)) < CONVERGED:
                    settled = total[PIXELS] >= wanted
                    break
                if abs(delay_1 - lag_1) > NEAR:
                    lag_1 = int(np.rint(delay_1))
                if abs(delay_2 - lag_2) > NEAR:
                    lag_2 = int(np.rint(delay_2))
            out[DELAY_1, y, x] = delay_1
            out[DELAY_2, y, x] = delay_2
            out[GAIN, y, x] = gain
            out[SETTLED, y, x] = np.float32(1) if settled else np.float32(0)
            for q in range(COUNT, ROWS):
                out[q, y, x] = total[q]
    return out
