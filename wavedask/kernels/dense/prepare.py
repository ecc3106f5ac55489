"""A stack of pairs made ready for the refinement."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.dense import refine as rf
from wavedask.kernels.dense.judge import Level
from wavedask.kernels.dense.nodes import (
    NodeGrid,
    clear_unweighted,
    keys_weights,
    linear_weights,
    padded,
    pixel_row,
    weigh,
)
from wavedask.kernels.gaps import centred
from wavedask.kernels.jit import JIT, njit
from wavedask.kernels.spline import Order, SplineFilters, coefficients, displaced_row, gradient
from wavedask.kernels.stacks import stacked

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A stack of pairs made ready for one start: centred, filled, weighted, with its splines.

    Attributes
    ----------
    m, s, g_y, g_x : ndarray of float32, shape (images, rows, columns)
        Weight, sample and its gradient; the last three zero where the weight is.
    references : ndarray of float32, shape (images, rows, columns)
        In counts; not finite where they are missing.
    splines : ndarray of float32, shape (images, rows + 2 margin, columns + 2 margin)
        Coefficients of the references.
    margin, order : int
        Of the splines.
    offset_s, scale_s, offset_r, scale_r : float
        ``counts = offset + scale * value`` of samples and references.
    """

    m: Floats
    s: Floats
    g_y: Floats
    g_x: Floats
    references: Floats
    splines: Floats
    margin: int
    order: Order
    offset_s: float
    scale_s: float
    offset_r: float
    scale_r: float

    def solved(self) -> "Prepared":
        """Keep what is needed after the last refinement: neither splines nor gradients.

        The result takes as much memory as half of all before it, which can be free by then.
        """
        nothing = np.empty((0, 0, 0), np.float32)
        return replace(self, g_y=nothing, g_x=nothing, references=nothing, splines=nothing)


def prepare(
    samples: Floats, references: Floats, grid: NodeGrid, start: Floats, *, order: Order
) -> Prepared:
    """Make a stack of pairs ready for refinement from a start.

    Parameters
    ----------
    samples, references : ndarray of float32, shape (images, rows, columns)
        Pairs; NaN is missing.
    grid : NodeGrid
        The nodes.
    start : ndarray of float32, shape (2, node rows, node columns)
        Displacement (y, x) at the nodes, in pixels.
    order : int
        3 or 5.

    Returns
    -------
    Prepared
    """
    filters = SplineFilters.of_order(order)
    known_s, known_r = np.isfinite(samples), np.isfinite(references)
    s, offset_s, scale_s = centred(samples, known_s)
    r, offset_r, scale_r = centred(references, known_r)
    margin = rf.MARGIN + int(np.ceil(np.abs(start).max(initial=0)))
    splines = stacked([coefficients(image, filters.prefilter, margin) for image in r])
    m, g_y, g_x = np.empty_like(s), np.empty_like(s), np.empty_like(s)
    weights = keys_weights(grid.step)
    u_y, u_x = padded(start[0]), padded(start[1])
    for n in range(len(s)):
        gradient(s[n], filters.gradient, g_y[n], g_x[n])
        complete = bool(known_s[n].all() and known_r[n].all())
        weigh(known_s[n], known_r[n], complete, u_y, u_x, grid.step, weights, *grid.first, m[n])
        clear_unweighted(m[n], s[n], g_y[n], g_x[n])
    return Prepared(
        m, s, g_y, g_x, references, splines, margin, order,
        offset_s, scale_s, offset_r, scale_r,
    )  # fmt: skip


def residuals(
    pair: Prepared, grid: NodeGrid, nodes: list[Floats], rows: NDArray[np.intp]
) -> Floats:
    """Take a match (displacement, gain and offset at padded nodes) out of rows of the samples."""
    out = np.empty((len(pair.s), rows.size, grid.shape[1]), np.float32)
    for n in range(len(pair.s)):
        _residual_rows(
            pair.splines[n],
            pair.margin,
            pair.order,
            pair.m[n],
            pair.s[n],
            *nodes,
            grid.step,
            keys_weights(grid.step),
            linear_weights(grid.step),
            *grid.first,
            rows,
            out[n],
        )
    return out


@njit(**JIT)  # type: ignore[untyped-decorator]
def _residual_rows(
    spline: Floats,
    margin: int,
    order: int,
    m: Floats,
    s: Floats,
    u_y: Floats,
    u_x: Floats,
    gain: Floats,
    offset: Floats,
    step: int,
    weights: Floats,
    linear: Floats,
    first_y: int,
    first_x: int,
    rows: NDArray[np.intp],
    out: Floats,
) -> None:
    """Take the match out of a sample: ``s - gain * reference(p - u) - offset``, 0 where no data is.

    Parameters
    ----------
    spline : ndarray of float32, shape (rows + 2 margin, columns + 2 margin)
        Coefficients of the reference.
    margin, order : int
        Of the spline.
    m, s : ndarray of float32, shape (rows, columns)
        Weight, and weighted sample.
    u_y, u_x, gain, offset : ndarray of float32, shape (node rows + 4, node columns + 4)
        The match at the nodes, padded.
    step, weights, first_y, first_x
        The grid of nodes, and the interpolation of the displacement.
    linear : ndarray of float32, shape (step, 4)
        Weights of a linear interpolation, for gain and offset.
    rows : ndarray of int, shape (n,)
        Rows that are wanted.
    out : ndarray of float32, shape (n, columns)
        Where the residual goes.
    """
    columns = s.shape[1]
    spread = np.empty((4, 4, columns), np.float32)
    held = np.full((4, 4), -1, np.int64)
    row = np.empty((5, columns), np.float32)
    whole = np.empty((2, columns), np.int32)
    for k in range(rows.size):
        y = rows[k]
        at = y - first_y
        pixel_row(u_y, step, weights, at, -first_x, spread[0], held[0], row[0])
        pixel_row(u_x, step, weights, at, -first_x, spread[1], held[1], row[1])
        pixel_row(gain, step, linear, at, -first_x, spread[2], held[2], row[2])
        pixel_row(offset, step, linear, at, -first_x, spread[3], held[3], row[3])
        displaced_row(spline, margin, order, y, 0, row[0], row[1], whole, row[4])
        for x in range(columns):
            out[k, x] = s[y, x] - m[y, x] * (row[2, x] * row[4, x] + row[3, x])


def counts_of(pair: Prepared, mean_s: Floats, mean_w: Floats) -> tuple[Floats, Floats]:
    """Convert normalised means of sample and displaced reference to counts."""
    return pair.offset_s + pair.scale_s * mean_s, pair.offset_r + pair.scale_r * mean_w


def means(level: Level, pair: Prepared) -> tuple[Floats, Floats]:
    """Mean counts of sample and displaced reference in the windows."""
    return counts_of(pair, level.mean_s, level.mean)
