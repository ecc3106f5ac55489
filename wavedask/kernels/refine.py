"""Dense refinement: the displacement of every pixel by window-deforming Gauss-Newton steps.

In a window around each node of a grid, ``sample(p) = g reference(p - u(p)) + o`` with free gain g
and offset o. The unknown field u is smooth: it lives on a grid of nodes and is interpolated to the
pixels, where the reference is displaced by each pixel's own u. Per iteration and node

    H du = g cov(w, grad s) - cov(s, grad s),    H = cov(grad s, grad s),

with w the displaced reference, covariances over the window, and g = cov(w, s) / var(w). The step is
added to the node's own u, and the field is then low-passed. Adding to the own u removes the
window's attenuation of fine structure; the low-pass keeps the iteration stable (the response of a
box window is negative at some wavelengths) and sets the noise.

Low-pass: ``K = 1 - (1 - G)^n`` with a Gaussian G, applied by cosine transform. It is flat where the
signal is and steep beyond, so that little but noise is lost: with n = 40 and a sigma of 1.68 half
windows the noise is 0.95 of that of the window itself (the Cramer-Rao bound of a box), and 90 % of
the amplitude passes at a period of 2.2 windows.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import fft

from wavedask.kernels.spline import (
    JIT,
    displaced_row,
)

Floats = NDArray[np.float32]

SHARPNESS: Final = 40
"""The n of the low-pass."""
SIGMA: Final = 1.68
"""Standard deviation of the low-pass's Gaussian, in half windows."""
TREND_NODES: Final = 4096
"""Nodes, about, from which the trend of a field is found."""
ITERATIONS: Final = 8
"""Most iterations; four to six is usual."""
CONVERGED: Final = 5e-3
"""A tile whose nodes moved less than this, in pixels, and whose neighbours did, is finished."""
LONGEST_STEP: Final = 1.0
"""Pixels a node may move in one iteration."""
RELAXATION: Final = 1.25
"""Part of a step that is taken. The window sees wavelengths of two windows at half their amplitude:
a longer step than theirs halves the iterations, and costs little where the response is one."""
TILE: Final = 512
"""Pixels along the side of a working tile: its buffers stay in the cache of a core."""
PAD: Final = 2
"""Nodes added on every side, for interpolation beyond the outermost ones."""
NOISE: Final = 0.95
"""Standard deviation of the low-passed solution over that of the window alone."""
MARGIN: Final = 16
"""Pixels that a displacement may grow beyond its start, plus half the support of the spline."""

# Rows of the window statistics.
COUNT, MEAN_S, MEAN_Y, MEAN_X, VAR_S, COV_SY, COV_SX, H_YY, H_YX, H_XX = range(10)
# Rows of what is matched in an iteration.
STEP_Y, STEP_X, RHO, GAIN, MEAN_W = range(5)


@dataclass(frozen=True, slots=True)
class NodeGrid:
    """Nodes on which the displacement lives, anchored to the frame.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns of the block in pixels.
    step : int
        Pixels between nodes.
    first : (int, int)
        Pixel coordinates of the first node in the block.
    """

    shape: tuple[int, int]
    step: int
    first: tuple[int, int]

    @property
    def nodes(self) -> tuple[int, int]:
        """Rows and columns of nodes."""
        return (
            (self.shape[0] - 1 - self.first[0]) // self.step + 1,
            (self.shape[1] - 1 - self.first[1]) // self.step + 1,
        )

    def coordinates(self, axis: int) -> NDArray[np.intp]:
        """Pixel coordinates of the nodes along an axis."""
        return np.asarray(self.first[axis] + self.step * np.arange(self.nodes[axis]), np.intp)


def node_step(window: int) -> int:
    """Pixels between nodes: as wide as the low-pass allows.

    Examples
    --------
    >>> [node_step(window) for window in (5, 7, 11, 15, 21, 41)]
    [1, 2, 3, 3, 4, 4]
    """
    return min(window // 3, 4 if window >= 20 else 3)


def keys_weights(step: int) -> Floats:
    """Weights of cubic convolution (Keys 1981) at each of the `step` phases between two nodes."""
    t = np.arange(step) / step
    weights = [
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    ]
    return np.stack(weights, axis=1).astype(np.float32)


@njit(**JIT)  # type: ignore[untyped-decorator]
def _copy(out: Floats, a: Floats) -> None:
    for i in range(out.size):
        out[i] = a[i]


@njit(**JIT)  # type: ignore[untyped-decorator]
def _add(out: Floats, a: Floats) -> None:
    for i in range(out.size):
        out[i] += a[i]


@njit(**JIT)  # type: ignore[untyped-decorator]
def _sum(out: Floats, a: Floats, b: Floats) -> None:
    for i in range(out.size):
        out[i] = a[i] + b[i]


@njit(**JIT)  # type: ignore[untyped-decorator]
def _box_row(values: Floats, side: int, even: Floats, odd: Floats, out: Floats) -> None:
    """``out[i] = sum(values[i : i + side])`` by doubling: log2(side) vector additions.

    A running sum would be one chain of additions, each waiting for the last, and would drift.
    """
    current, spare = values, even
    length, size, offset, rest = values.size, 1, 0, side
    started = False
    while True:
        if rest & 1:
            if started:
                _add(out, current[offset : offset + out.size])
            else:
                _copy(out, current[offset : offset + out.size])
                started = True
            offset += size
        rest >>= 1
        if rest == 0:
            break
        length -= size
        _sum(spare[:length], current[:length], current[size : size + length])
        if size == 1:
            current, spare = even, odd
        else:
            current, spare = spare, current
        size *= 2


@njit(**JIT)  # type: ignore[untyped-decorator]
def _enter(sums: Floats, w: Floats, s: Floats, g_y: Floats, g_x: Floats) -> None:
    a, b, c, d, e = sums[0], sums[1], sums[2], sums[3], sums[4]
    for i in range(w.size):
        v = w[i]
        a[i] += v
        b[i] += v * v
        c[i] += v * s[i]
        d[i] += v * g_y[i]
        e[i] += v * g_x[i]


@njit(**JIT)  # type: ignore[untyped-decorator]
def _leave(sums: Floats, w: Floats, s: Floats, g_y: Floats, g_x: Floats) -> None:
    a, b, c, d, e = sums[0], sums[1], sums[2], sums[3], sums[4]
    for i in range(w.size):
        v = w[i]
        a[i] -= v
        b[i] -= v * v
        c[i] -= v * s[i]
        d[i] -= v * g_y[i]
        e[i] -= v * g_x[i]


@njit(**JIT)  # type: ignore[untyped-decorator]
def _exchange(
    sums: Floats,
    w: Floats,
    s: Floats,
    g_y: Floats,
    g_x: Floats,
    w_old: Floats,
    s_old: Floats,
    g_y_old: Floats,
    g_x_old: Floats,
) -> None:
    """Let one row enter the window and another leave it."""
    a, b, c, d, e = sums[0], sums[1], sums[2], sums[3], sums[4]
    for i in range(w.size):
        v, o = w[i], w_old[i]
        a[i] += v - o
        b[i] += v * v - o * o
        c[i] += v * s[i] - o * s_old[i]
        d[i] += v * g_y[i] - o * g_y_old[i]
        e[i] += v * g_x[i] - o * g_x_old[i]


@njit(**JIT)  # type: ignore[untyped-decorator]
def _moments(
    sums: Floats, sign: np.float32, m: Floats, s: Floats, g_y: Floats, g_x: Floats
) -> None:
    for i in range(m.size):
        v, y, x = sign * s[i], sign * g_y[i], sign * g_x[i]
        sums[0, i] += sign * m[i]
        sums[1, i] += v
        sums[2, i] += y
        sums[3, i] += x
        sums[4, i] += v * s[i]
        sums[5, i] += v * g_y[i]
        sums[6, i] += v * g_x[i]
        sums[7, i] += y * g_y[i]
        sums[8, i] += y * g_x[i]
        sums[9, i] += x * g_x[i]


@njit(**JIT)  # type: ignore[untyped-decorator]
def _pick(row: Floats, step: int, out: Floats) -> None:
    for i in range(out.size):
        out[i] = row[i * step]


@njit(**JIT)  # type: ignore[untyped-decorator]
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
    inner = sums[:, cut : cut + high - low]
    even, odd = np.empty(sums.shape[1], np.float32), np.empty(sums.shape[1], np.float32)
    line = np.empty(reach, np.float32)
    box = np.empty((10, count), np.float32)
    last = first_y + (out.shape[1] - 1) * step
    for y in range(first_y - half, last + half + 1):
        if 0 <= y < rows:
            for n in range(images):
                _moments(
                    inner,
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
                    inner,
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
            _box_row(sums[k], 2 * half + 1, even, odd, line)
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


@njit(**JIT)  # type: ignore[untyped-decorator]
def _spread_row(nodes: Floats, step: int, weights: Floats, first: int, out: Floats) -> None:
    """Interpolate a padded row of nodes to pixels, the first of them `first` from node 0."""
    for i in range(min(step, out.size)):
        position = first + i
        k = position // step + PAD - 1
        phase = weights[position % step]
        a, b, c, d = phase[0], phase[1], phase[2], phase[3]
        for x in range(i, out.size, step):
            out[x] = a * nodes[k] + b * nodes[k + 1] + c * nodes[k + 2] + d * nodes[k + 3]
            k += 1


@njit(**JIT)  # type: ignore[untyped-decorator]
def _blend_rows(weights: Floats, a: Floats, b: Floats, c: Floats, d: Floats, out: Floats) -> None:
    p, q, r, t = weights[0], weights[1], weights[2], weights[3]
    for i in range(out.size):
        out[i] = p * a[i] + q * b[i] + r * c[i] + t * d[i]


@njit(**JIT)  # type: ignore[untyped-decorator]
def _pixel_row(
    nodes: Floats,
    step: int,
    weights: Floats,
    y: int,
    first: int,
    spread: Floats,
    held: NDArray[np.int64],
    out: Floats,
) -> None:
    """Interpolate nodes to a row of pixels at `y` from node row 0; keeps the rows it has spread."""
    k = y // step + PAD - 1
    for j in range(4):
        slot = (k + j) % 4
        if held[slot] != k + j:
            _spread_row(nodes[k + j], step, weights, first, spread[slot])
            held[slot] = k + j
    _blend_rows(
        weights[y % step],
        spread[k % 4],
        spread[(k + 1) % 4],
        spread[(k + 2) % 4],
        spread[(k + 3) % 4],
        out,
    )


@njit(**JIT)  # type: ignore[untyped-decorator]
def pixels_from_nodes(
    nodes: Floats, step: int, weights: Floats, first_y: int, first_x: int, out: Floats
) -> None:
    """Interpolate a padded grid of nodes to all pixels of a block.

    Parameters
    ----------
    nodes : ndarray of float32, shape (node rows + 4, node columns + 4)
        Values, padded by `padded`.
    step, first_y, first_x : int
        The grid, in pixels.
    weights : ndarray of float32, shape (step, 4)
        As of `keys_weights`.
    out : ndarray of float32, shape (rows, columns)
        Where the values go.
    """
    spread = np.empty((4, out.shape[1]), np.float32)
    held = np.full(4, -1, np.int64)
    for y in range(out.shape[0]):
        _pixel_row(nodes, step, weights, y - first_y, -first_x, spread, held, out[y])


@njit(**JIT)  # type: ignore[untyped-decorator]
def weigh(
    sample: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    u_y: Floats,
    u_x: Floats,
    step: int,
    weights: Floats,
    first_y: int,
    first_x: int,
    out: Floats,
) -> None:
    """Weight of each pixel: 1 where the sample has data, and the reference where it came from.

    Parameters
    ----------
    sample, reference : ndarray of bool, shape (rows, columns)
        Where there are data.
    u_y, u_x : ndarray of float32
        Displacement at the nodes, padded.
    step, weights, first_y, first_x
        The grid, as in `pixels_from_nodes`.
    out : ndarray of float32, shape (rows, columns)
        Where the weights go.
    """
    rows, columns = out.shape
    spread_y, spread_x = np.empty((4, columns), np.float32), np.empty((4, columns), np.float32)
    held_y, held_x = np.full(4, -1, np.int64), np.full(4, -1, np.int64)
    v_y, v_x = np.empty(columns, np.float32), np.empty(columns, np.float32)
    for y in range(rows):
        _pixel_row(u_y, step, weights, y - first_y, -first_x, spread_y, held_y, v_y)
        _pixel_row(u_x, step, weights, y - first_y, -first_x, spread_x, held_x, v_x)
        for x in range(columns):
            row, column = int(np.rint(y - v_y[x])), int(np.rint(x - v_x[x]))
            known = sample[y, x] and 0 <= row < rows and 0 <= column < columns
            out[y, x] = np.float32(1) if known and reference[row, column] else np.float32(0)


@njit(**JIT)  # type: ignore[untyped-decorator]
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
    inner = sums[:, cut : cut + width]
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
            _pixel_row(u_y, step, weights, y - first_y, low - first_x, spread_y, held_y, row_y)
            _pixel_row(u_x, step, weights, y - first_y, low - first_x, spread_x, held_x, row_x)
        for n in range(images):
            if enters:
                w = ring[n, y % (side + 1)]
                displaced_row(splines[n], margin, order, y, low, row_y, row_x, whole, w)
                weight = m[n, y, low:high]
                for i in range(width):
                    w[i] *= weight[i]
            if enters and leaves:
                _exchange(
                    inner,
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
                    inner,
                    ring[n, y % (side + 1)],
                    s[n, y, low:high],
                    g_y[n, y, low:high],
                    g_x[n, y, low:high],
                )
            elif leaves:
                _leave(
                    inner,
                    ring[n, old % (side + 1)],
                    s[n, old, low:high],
                    g_y[n, old, low:high],
                    g_x[n, old, low:high],
                )
        centre = y - half - first_y
        if centre < top * step or centre % step:
            continue
        for k in range(5):
            _box_row(sums[k], side, even, odd, line)
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


@njit(**JIT)  # type: ignore[untyped-decorator]
def _extended(values: Floats, r: int) -> Floats:
    """Extend a grid by point reflection at its border, which continues a gradient."""
    rows, columns = values.shape
    out = np.empty((rows + 2 * r, columns + 2 * r), np.float32)
    out[r : r + rows, r : r + columns] = values
    for i in range(1, r + 1):
        k = min(i, columns - 1)
        for y in range(rows):
            out[r + y, r - i] = 2 * values[y, 0] - values[y, k]
            out[r + y, r + columns - 1 + i] = (
                2 * values[y, columns - 1] - values[y, columns - 1 - k]
            )
    for i in range(1, r + 1):
        k = min(i, rows - 1)
        for x in range(columns + 2 * r):
            out[r - i, x] = 2 * out[r, x] - out[r + k, x]
            out[r + rows - 1 + i, x] = 2 * out[r + rows - 1, x] - out[r + rows - 1 - k, x]
    return out


@lru_cache(maxsize=16)
def low_pass(shape: tuple[int, int], sigma: float) -> Floats:
    """Response of the low-pass at the frequencies of a cosine transform.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of nodes.
    sigma : float
        Standard deviation of the Gaussian G in nodes.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        ``1 - (1 - G)^n``, one at zero frequency.
    """
    square = [(np.arange(size) / (2 * size)) ** 2 for size in shape]
    gaussian = np.exp(-2 * (np.pi * sigma) ** 2 * np.add.outer(*square))
    response = (1 - (1 - gaussian) ** SHARPNESS).astype(np.float32)
    response.setflags(write=False)
    return np.asarray(response)


def quadratic_surface(values: Floats, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Floats:
    """Fit a quadratic surface to some nodes of a grid, and evaluate it at all.

    Parameters
    ----------
    values : ndarray of float32, shape (rows, columns)
        The field at the nodes.
    rows, columns : ndarray of int, shape (n,)
        Nodes that count.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
    """
    y, x = (np.linspace(-1, 1, size, dtype=np.float32) for size in values.shape)
    v, u = y[rows], x[columns]
    terms = np.stack([np.ones_like(u), v, u, v * v, v * u, u * u]).astype(np.float64)
    # Sums without a BLAS, whose threads would change the last bit from process to process; a
    # little damping, for nodes that lie on one line.
    normal = np.einsum("in,jn->ij", terms, terms) + 1e-6 * rows.size * np.eye(len(terms))
    right = np.einsum("in,n->i", terms, values[rows, columns].astype(np.float64))
    c = np.linalg.solve(normal, right).astype(np.float32)
    down, across = c[0] + c[1] * y + c[3] * y * y, c[2] * x + c[5] * x * x
    return np.asarray(down[:, None] + across[None] + c[4] * np.outer(y, x), np.float32)


def smoothed(values: Floats, response: Floats) -> Floats:
    """Low-pass a field that may have a trend, by cosine transform.

    A quadratic surface is taken out and put back: the low-pass would keep it anyway, but for the
    border, where the mirror image that the transform implies has no gradient (and where a point
    reflection, which has one, doubles the noise and keeps the iteration from settling).

    Parameters
    ----------
    values : ndarray of float32, shape (rows, columns)
        The field at the nodes.
    response : ndarray of float32, shape (rows, columns)
        As of `low_pass`.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
    """
    side = int(np.sqrt(TREND_NODES))
    lines = (np.arange(0, size, max(1, size // side)) for size in values.shape)
    rows, columns = (line.ravel() for line in np.meshgrid(*lines, indexing="ij"))
    trend = quadratic_surface(values, rows, columns)
    spectrum = fft.dctn(np.asarray(values - trend, np.float32), workers=1, overwrite_x=True)
    spectrum *= response
    return np.asarray(trend + fft.idctn(spectrum, workers=1, overwrite_x=True), np.float32)


def padded(values: Floats) -> Floats:
    """Extend a grid of nodes by two on every side, linearly."""
    return np.asarray(_extended(np.ascontiguousarray(values, np.float32), PAD))
