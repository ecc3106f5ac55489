"""The grid of nodes on which the displacement lives, and interpolation from it to the pixels."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.jit import INLINED, JIT, njit

Floats = NDArray[np.float32]

PAD: Final = 2
"""Nodes added on every side, for interpolation beyond the outermost ones."""


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

    def part_around(self, where: NDArray[np.bool_], reach: int) -> "Part":
        """Find the rectangle that holds the nodes told, and so many nodes around it.

        Examples
        --------
        >>> grid = NodeGrid((100, 50), 4, (2, 0))
        >>> where = np.zeros(grid.nodes, np.bool_)
        >>> where[12, 3] = True
        >>> grid.part_around(where, 2)
        Part(grid=NodeGrid(shape=(17, 17), step=4, first=(0, 0)), origin=(42, 4), \
nodes=(slice(10, 15, None), slice(1, 6, None)))
        """
        shape, first, origin, nodes = [], [], [], []
        for axis in (0, 1):
            line = np.flatnonzero(where.any(axis=1 - axis))
            low, high = max(line[0] - reach, 0), min(line[-1] + reach + 1, self.nodes[axis])
            # The block is not cut where its own nodes end.
            start = self.first[axis] + self.step * int(low) if low else 0
            whole = high == self.nodes[axis]
            stop = self.shape[axis] if whole else self.first[axis] + self.step * int(high - 1) + 1
            shape.append(stop - start)
            first.append(0 if low else self.first[axis])
            origin.append(start)
            nodes.append(slice(int(low), int(high)))
        return Part(
            NodeGrid((shape[0], shape[1]), self.step, (first[0], first[1])),
            (origin[0], origin[1]),
            (nodes[0], nodes[1]),
        )


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a block and of its nodes.

    Attributes
    ----------
    grid : NodeGrid
        Its nodes.
    origin : (int, int)
        Its first pixel in the block.
    nodes : (slice, slice)
        Its nodes among those of the block.
    """

    grid: NodeGrid
    origin: tuple[int, int]
    nodes: tuple[slice, slice]

    @property
    def pixels(self) -> tuple[slice, slice, slice]:
        """Its pixels in a stack of images of the block."""
        rows, columns = (
            slice(first, first + size)
            for first, size in zip(self.origin, self.grid.shape, strict=True)
        )
        return slice(None), rows, columns


def node_step(window: int) -> int:
    """Pixels between nodes: as wide as the low-pass allows.

    Examples
    --------
    >>> [node_step(window) for window in (5, 7, 11, 15, 21, 41)]
    [1, 3, 3, 3, 4, 4]
    """
    if window < 7:
        return 1
    return 3 if window < 20 else 4


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


def linear_weights(step: int) -> Floats:
    """Weights of a linear interpolation at each of the `step` phases between two nodes."""
    phase = np.arange(step, dtype=np.float32) / np.float32(step)
    return np.stack([0 * phase, 1 - phase, phase, 0 * phase], axis=1)


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _spread_pixel(nodes: Floats, step: int, weights: Floats, position: int) -> Any:
    k, phase = position // step + PAD - 1, position % step
    return (
        weights[phase, 0] * nodes[k]
        + weights[phase, 1] * nodes[k + 1]
        + weights[phase, 2] * nodes[k + 2]
        + weights[phase, 3] * nodes[k + 3]
    )


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _spread_by_three(nodes: Floats, weights: Floats, out: Floats) -> None:
    p, q, r = weights[0], weights[1], weights[2]
    for k in range(nodes.size - 3):
        a, b, c, d = nodes[k], nodes[k + 1], nodes[k + 2], nodes[k + 3]
        out[3 * k] = p[0] * a + p[1] * b + p[2] * c + p[3] * d
        out[3 * k + 1] = q[0] * a + q[1] * b + q[2] * c + q[3] * d
        out[3 * k + 2] = r[0] * a + r[1] * b + r[2] * c + r[3] * d


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _spread_by_four(nodes: Floats, weights: Floats, out: Floats) -> None:
    p, q, r, t = weights[0], weights[1], weights[2], weights[3]
    for k in range(nodes.size - 3):
        a, b, c, d = nodes[k], nodes[k + 1], nodes[k + 2], nodes[k + 3]
        out[4 * k] = p[0] * a + p[1] * b + p[2] * c + p[3] * d
        out[4 * k + 1] = q[0] * a + q[1] * b + q[2] * c + q[3] * d
        out[4 * k + 2] = r[0] * a + r[1] * b + r[2] * c + r[3] * d
        out[4 * k + 3] = t[0] * a + t[1] * b + t[2] * c + t[3] * d


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _spread_row(nodes: Floats, step: int, weights: Floats, first: int, out: Floats) -> None:
    """Interpolate a padded row of nodes to pixels, the first of them `first` from node 0."""
    begin = end = 0
    if step in (3, 4):
        # Cells between two nodes, whole ones, become vector instructions.
        begin = min(-first % step, out.size)
        cells = (out.size - begin) // step
        end = begin + step * cells
        k = (first + begin) // step + PAD - 1
        if step == 3:
            _spread_by_three(nodes[k : k + cells + 3], weights, out[begin:end])
        else:
            _spread_by_four(nodes[k : k + cells + 3], weights, out[begin:end])
    for i in range(begin):
        out[i] = _spread_pixel(nodes, step, weights, first + i)
    for i in range(end, out.size):
        out[i] = _spread_pixel(nodes, step, weights, first + i)


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _blend_rows(weights: Floats, a: Floats, b: Floats, c: Floats, d: Floats, out: Floats) -> None:
    p, q, r, t = weights[0], weights[1], weights[2], weights[3]
    for i in range(out.size):
        out[i] = p * a[i] + q * b[i] + r * c[i] + t * d[i]


@njit(**INLINED)  # type: ignore[untyped-decorator]
def pixel_row(
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
        pixel_row(nodes, step, weights, y - first_y, -first_x, spread, held, out[y])


@njit(**JIT)  # type: ignore[untyped-decorator]
def weigh(
    sample: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    complete: bool,
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
    complete : bool
        Whether that is everywhere.
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
    last_row, last_column = np.float32(rows - 1), np.float32(columns - 1)
    one, zero = np.float32(1), np.float32(0)
    for y in range(rows):
        pixel_row(u_y, step, weights, y - first_y, -first_x, spread_y, held_y, v_y)
        pixel_row(u_x, step, weights, y - first_y, -first_x, spread_x, held_x, v_x)
        if complete:
            for x in range(columns):
                source_y = np.rint(np.float32(y) - v_y[x])
                source_x = np.rint(np.float32(x) - v_x[x])
                low, high = (
                    min(source_y, source_x),
                    max(source_y - last_row, source_x - last_column),
                )
                out[y, x] = one if low >= zero and high <= zero else zero
            continue
        for x in range(columns):
            row, column = int(np.rint(y - v_y[x])), int(np.rint(x - v_x[x]))
            known = sample[y, x] and 0 <= row < rows and 0 <= column < columns
            out[y, x] = one if known and reference[row, column] else zero


@njit(**JIT)  # type: ignore[untyped-decorator]
def clear_unweighted(weight: Floats, a: Floats, b: Floats, c: Floats) -> None:
    """Set three fields to zero where the weight is, in place; rows of full weight stay unread."""
    for y in range(weight.shape[0]):
        least = np.float32(1)
        for x in range(weight.shape[1]):
            least = min(least, weight[y, x])
        if least > 0:
            continue
        for x in range(weight.shape[1]):
            a[y, x] *= weight[y, x]
            b[y, x] *= weight[y, x]
            c[y, x] *= weight[y, x]


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


def padded(values: Floats) -> Floats:
    """Extend a grid of nodes by two on every side, linearly."""
    return np.asarray(_extended(np.ascontiguousarray(values, np.float32), PAD))
