"""Dense refinement: the displacement of every pixel by window-deforming Gauss-Newton steps.

In a window around each node of a grid, ``sample(p) = g reference(p - u(p)) + o`` with free gain g
and offset o. The unknown field u is smooth: it lives on a grid of nodes and is interpolated to the
pixels, where the reference is displaced by each pixel's own u. Per iteration and node

    H du = g cov(w, grad s) - cov(s, grad s),    H = cov(grad s, grad s),

with w the displaced reference, covariances over the window, and g = cov(w, s) / var(w). The step is
added to the node's own u, and the field is then low-passed. Adding to the own u removes the
window's attenuation of fine structure; the low-pass keeps the iteration stable (the response of a
box window is negative at some wavelengths) and sets the noise.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.box import box_row
from wavedask.kernels.dense.nodes import PAD, pixel_row
from wavedask.kernels.jit import INLINED, JIT, njit
from wavedask.kernels.spline import displaced_row

Floats = NDArray[np.float32]

ITERATIONS: Final = 6
"""Most iterations; four to six is usual."""
CONVERGED: Final = 5e-3
"""A node that moves less than this, in pixels, has settled..."""
NEGLIGIBLE: Final = 0.1
"""... and so has one that moves less than this part of its standard error."""
LONGEST_STEP: Final = 1.0
"""Pixels a node may move in one iteration."""
RELAXATION: Final = 1.25
"""Part of a step that is taken. The window sees wavelengths of two windows at half their amplitude:
a longer step than theirs halves the iterations, and costs little where the response is one."""
TILE: Final = 512
"""Pixels along the side of a working tile: its buffers stay in the cache of a core."""
LEAST_TILE: Final = 64
"""Pixels along the side of the smallest tile..."""
TILE_WINDOWS: Final = 4
"""... and windows: at its border a tile computes sums that are not its own."""
MARGIN: Final = 16
"""Pixels that a displacement may grow beyond its start, plus half the support of the spline."""

# Rows of the window statistics.
COUNT, MEAN_S, MEAN_Y, MEAN_X, VAR_S, COV_SY, COV_SX, H_YY, H_YX, H_XX = range(10)
# Rows of what is matched in an iteration.
STEP_Y, STEP_X, RHO, GAIN, MEAN_W = range(5)


# Rows are handed over one by one: rows of a part of an array have a stride that the compiler does
# not know, and their loops would not become vector instructions.


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _enter(
    a: Floats,
    b: Floats,
    c: Floats,
    d: Floats,
    e: Floats,
    w: Floats,
    s: Floats,
    g_y: Floats,
    g_x: Floats,
) -> None:
    """Let one row enter the sums over the window."""
    for i in range(w.size):
        v = w[i]
        a[i] += v
        b[i] += v * v
        c[i] += v * s[i]
        d[i] += v * g_y[i]
        e[i] += v * g_x[i]


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _leave(
    a: Floats,
    b: Floats,
    c: Floats,
    d: Floats,
    e: Floats,
    w: Floats,
    s: Floats,
    g_y: Floats,
    g_x: Floats,
) -> None:
    """Let one row leave the sums over the window."""
    for i in range(w.size):
        v = w[i]
        a[i] -= v
        b[i] -= v * v
        c[i] -= v * s[i]
        d[i] -= v * g_y[i]
        e[i] -= v * g_x[i]


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _exchange(
    a: Floats,
    b: Floats,
    c: Floats,
    d: Floats,
    e: Floats,
    w: Floats,
    s: Floats,
    g_y: Floats,
    g_x: Floats,
    w_old: Floats,
    s_old: Floats,
    g_y_old: Floats,
    g_x_old: Floats,
) -> None:
    """Let one row enter the sums over the window and another leave them."""
    for i in range(w.size):
        v, o = w[i], w_old[i]
        a[i] += v - o
        b[i] += v * v - o * o
        c[i] += v * s[i] - o * s_old[i]
        d[i] += v * g_y[i] - o * g_y_old[i]
        e[i] += v * g_x[i] - o * g_x_old[i]


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _first_moments(
    a: Floats,
    b: Floats,
    c: Floats,
    d: Floats,
    sign: np.float32,
    m: Floats,
    s: Floats,
    g_y: Floats,
    g_x: Floats,
) -> None:
    for i in range(m.size):
        a[i] += sign * m[i]
        b[i] += sign * s[i]
        c[i] += sign * g_y[i]
        d[i] += sign * g_x[i]


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _second_moments(
    a: Floats,
    b: Floats,
    c: Floats,
    d: Floats,
    e: Floats,
    f: Floats,
    sign: np.float32,
    s: Floats,
    g_y: Floats,
    g_x: Floats,
) -> None:
    for i in range(s.size):
        v, y, x = sign * s[i], sign * g_y[i], sign * g_x[i]
        a[i] += v * s[i]
        b[i] += v * g_y[i]
        c[i] += v * g_x[i]
        d[i] += y * g_y[i]
        e[i] += y * g_x[i]
        f[i] += x * g_x[i]


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _moments(
    sums: Floats, cut: int, sign: np.float32, m: Floats, s: Floats, g_y: Floats, g_x: Floats
) -> None:
    """Add a row to the sums from column `cut` on, or take it out again."""
    end = cut + m.size
    _first_moments(
        sums[0][cut:end],
        sums[1][cut:end],
        sums[2][cut:end],
        sums[3][cut:end],
        sign,
        m,
        s,
        g_y,
        g_x,
    )
    _second_moments(
        sums[4][cut:end],
        sums[5][cut:end],
        sums[6][cut:end],
        sums[7][cut:end],
        sums[8][cut:end],
        sums[9][cut:end],
        sign,
        s,
        g_y,
        g_x,
    )


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _pick(row: Floats, step: int, out: Floats) -> None:
    for i in range(out.size):
        out[i] = row[i * step]


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _extent(
    first: int, step: int, start: int, stop: int, half: int, size: int
) -> tuple[int, int, int]:
    """Pixels ``low`` to ``high`` under the windows of nodes start to stop, and what is cut off."""
    left = first + start * step - half
    low = max(left, 0)
    high = min(first + (stop - 1) * step + half + 1, size)
    return low, high, low - left


@njit(**JIT)  # type: ignore[untyped-decorator]
def window_statistics(
    m: Floats,
    s: Floats,
    g_y: Floats,
    g_x: Floats,
    half: int,
    step: int,
    first_y: int,
    first_x: int,
    start: int,
    stop: int,
    out: Floats,
) -> None:
    """Statistics of the sample in the windows around the nodes of columns start to stop.

    Parameters
    ----------
    m, s, g_y, g_x : ndarray of float32, shape (images, rows, columns)
        Weight (0 or 1), sample and its gradient, the last three zero where the weight is.
    half, step, first_y, first_x : int
        Half window, and the grid of nodes, in pixels.
    start, stop : int
        Columns of nodes.
    out : ndarray of float32, shape (10, node rows, node columns)
        Where the statistics go.
    """
    images, rows, _ = s.shape
    low, high, cut = _extent(first_x, step, start, stop, half, s.shape[2])
    count = stop - start
    reach = (count - 1) * step + 1
    sums = np.zeros((10, reach + 2 * half), np.float32)
    even, odd = np.empty(sums.shape[1], np.float32), np.empty(sums.shape[1], np.float32)
    line = np.empty(reach, np.float32)
    box = np.empty((10, count), np.float32)
    last = first_y + (out.shape[1] - 1) * step
    for y in range(first_y - half, last + half + 1):
        if 0 <= y < rows:
            for n in range(images):
                _moments(
                    sums,
                    cut,
                    np.float32(1),
                    m[n, y, low:high],
                    s[n, y, low:high],
                    g_y[n, y, low:high],
                    g_x[n, y, low:high],
                )
        old = y - 2 * half - 1
        if old >= 0 and old >= first_y - half:
            for n in range(images):
                _moments(
                    sums,
                    cut,
                    np.float32(-1),
                    m[n, old, low:high],
                    s[n, old, low:high],
                    g_y[n, old, low:high],
                    g_x[n, old, low:high],
                )
        centre = y - half - first_y
        if centre < 0 or centre % step:
            continue
        for k in range(10):
            box_row(sums[k], 2 * half + 1, even, odd, line)
            _pick(line, step, box[k])
        node = out[:, centre // step, start:stop]
        for i in range(count):
            total = box[0, i]
            inverse = np.float32(1) / max(total, np.float32(1))
            mean, mean_y, mean_x = box[1, i] * inverse, box[2, i] * inverse, box[3, i] * inverse
            node[0, i] = total
            node[1, i] = mean
            node[2, i] = mean_y
            node[3, i] = mean_x
            node[4, i] = box[4, i] * inverse - mean * mean
            node[5, i] = box[5, i] * inverse - mean * mean_y
            node[6, i] = box[6, i] * inverse - mean * mean_x
            node[7, i] = box[7, i] * inverse - mean_y * mean_y
            node[8, i] = box[8, i] * inverse - mean_y * mean_x
            node[9, i] = box[9, i] * inverse - mean_x * mean_x


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _solve_row(
    box: Floats, statistics: Floats, v_y: Floats, v_x: Floats, u_y: Floats, u_x: Floats, out: Floats
) -> None:
    """Gauss-Newton step of a row of nodes, from the sums over their windows."""
    longest, tiny = np.float32(LONGEST_STEP), np.float32(1e-12)
    for i in range(v_y.size):
        inverse = np.float32(1) / max(statistics[0, i], np.float32(1))
        mean = box[0, i] * inverse
        var_w = box[1, i] * inverse - mean * mean
        cov_ws = box[2, i] * inverse - mean * statistics[1, i]
        g = cov_ws / max(var_w, tiny)
        b_y = g * (box[3, i] * inverse - mean * statistics[2, i]) - statistics[5, i]
        b_x = g * (box[4, i] * inverse - mean * statistics[3, i]) - statistics[6, i]
        h_yy, h_yx, h_xx = statistics[7, i], statistics[8, i], statistics[9, i]
        determinant = max(h_yy * h_xx - h_yx * h_yx, tiny)
        step_y = (h_xx * b_y - h_yx * b_x) / determinant
        step_x = (h_yy * b_x - h_yx * b_y) / determinant
        step_y = min(max(step_y, -longest), longest)
        step_x = min(max(step_x, -longest), longest)
        v_y[i] = u_y[i] + np.float32(RELAXATION) * step_y
        v_x[i] = u_x[i] + np.float32(RELAXATION) * step_x
        out[0, i] = step_y
        out[1, i] = step_x
        out[2, i] = cov_ws / np.sqrt(max(var_w * statistics[4, i], tiny))
        out[3, i] = g
        out[4, i] = mean


@njit(**JIT)  # type: ignore[untyped-decorator]
def match_tile(
    splines: Floats,
    margin: int,
    order: int,
    m: Floats,
    s: Floats,
    g_y: Floats,
    g_x: Floats,
    statistics: Floats,
    half: int,
    step: int,
    weights: Floats,
    first_y: int,
    first_x: int,
    top: int,
    bottom: int,
    start: int,
    stop: int,
    u_y: Floats,
    u_x: Floats,
    v_y: Floats,
    v_x: Floats,
    out: Floats,
) -> None:
    """One iteration for the nodes of rows top to bottom and columns start to stop.

    The reference of every image is displaced once per pixel; products with the sample and its
    gradient enter running sums down the columns, and are summed along a row where nodes are.

    Parameters
    ----------
    splines : ndarray of float32, shape (images, rows + 2 margin, columns + 2 margin)
        Spline coefficients of the references.
    margin, order : int
        Their margin and order.
    m, s, g_y, g_x : ndarray of float32, shape (images, rows, columns)
        Weight, sample and gradient.
    statistics : ndarray of float32, shape (10, node rows, node columns)
        As of `window_statistics`.
    half, step, weights, first_y, first_x
        Half window and grid.
    top, bottom, start, stop : int
        The tile, in nodes.
    u_y, u_x : ndarray of float32, shape (node rows + 4, node columns + 4)
        Displacement now, padded.
    v_y, v_x : ndarray of float32, shape (node rows, node columns)
        Where the displacement with the step added goes.
    out : ndarray of float32, shape (5, node rows, node columns)
        Where step, correlation, gain, and mean of the displaced reference go.
    """
    images, rows, columns = s.shape
    low, high, cut = _extent(first_x, step, start, stop, half, columns)
    width, count, side = high - low, stop - start, 2 * half + 1
    reach = (count - 1) * step + 1
    sums = np.zeros((5, reach + 2 * half), np.float32)
    end = cut + width
    a, b, c = sums[0][cut:end], sums[1][cut:end], sums[2][cut:end]
    d, e = sums[3][cut:end], sums[4][cut:end]
    even, odd = np.empty(sums.shape[1], np.float32), np.empty(sums.shape[1], np.float32)
    line = np.empty(reach, np.float32)
    box = np.empty((5, count), np.float32)
    ring = np.empty((images, side + 1, width), np.float32)
    whole = np.empty((2, width), np.int32)
    row_y, row_x = np.empty(width, np.float32), np.empty(width, np.float32)
    spread_y, spread_x = np.empty((4, width), np.float32), np.empty((4, width), np.float32)
    held_y, held_x = np.full(4, -1, np.int64), np.full(4, -1, np.int64)
    begin = first_y + top * step - half
    for y in range(begin, first_y + (bottom - 1) * step + half + 1):
        old = y - side
        leaves = old >= max(begin, 0)
        enters = 0 <= y < rows
        if enters:
            pixel_row(u_y, step, weights, y - first_y, low - first_x, spread_y, held_y, row_y)
            pixel_row(u_x, step, weights, y - first_y, low - first_x, spread_x, held_x, row_x)
        for n in range(images):
            if enters:
                w = ring[n, y % (side + 1)]
                displaced_row(splines[n], margin, order, y, low, row_y, row_x, whole, w)
                weight = m[n, y, low:high]
                for i in range(width):
                    w[i] *= weight[i]
            if enters and leaves:
                _exchange(
                    a,
                    b,
                    c,
                    d,
                    e,
                    ring[n, y % (side + 1)],
                    s[n, y, low:high],
                    g_y[n, y, low:high],
                    g_x[n, y, low:high],
                    ring[n, old % (side + 1)],
                    s[n, old, low:high],
                    g_y[n, old, low:high],
                    g_x[n, old, low:high],
                )
            elif enters:
                _enter(
                    a,
                    b,
                    c,
                    d,
                    e,
                    ring[n, y % (side + 1)],
                    s[n, y, low:high],
                    g_y[n, y, low:high],
                    g_x[n, y, low:high],
                )
            elif leaves:
                _leave(
                    a,
                    b,
                    c,
                    d,
                    e,
                    ring[n, old % (side + 1)],
                    s[n, old, low:high],
                    g_y[n, old, low:high],
                    g_x[n, old, low:high],
                )
        centre = y - half - first_y
        if centre < top * step or centre % step:
            continue
        for k in range(5):
            box_row(sums[k], side, even, odd, line)
            _pick(line, step, box[k])
        j = centre // step
        _solve_row(
            box,
            statistics[:, j, start:stop],
            v_y[j, start:stop],
            v_x[j, start:stop],
            u_y[j + PAD, start + PAD : stop + PAD],
            u_x[j + PAD, start + PAD : stop + PAD],
            out[:, j, start:stop],
        )
