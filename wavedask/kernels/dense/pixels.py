"""From the nodes to the pixels: the fields of a tracking, and why a pixel has none."""

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.dense.judge import Level
from wavedask.kernels.dense.nodes import (
    PAD,
    NodeGrid,
    keys_weights,
    linear_weights,
    padded,
    pixels_from_nodes,
)
from wavedask.kernels.dense.prepare import Prepared, means
from wavedask.kernels.fields import NO_MATCH, Fields, Reason
from wavedask.kernels.grids import largest_around
from wavedask.kernels.visibility import noise_share, visibility_gain

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Codes = NDArray[np.uint8]

CUBIC: Final = 2
"""Fields, the first of them, that are interpolated by a cubic: errors must not overshoot."""
ERRORS: Final = (2, 3)
"""Fields that are standard errors."""


def dense_fields(
    level: Level,
    used: Floats,
    grid: NodeGrid,
    pair: Prepared,
    reason: Codes,
    *,
    window: int,
    inner: tuple[slice, slice],
) -> Floats:
    """Interpolate a solution from the nodes to the pixels, and mark what is no measurement.

    Parameters
    ----------
    level : Level
        The solution at the nodes.
    used : ndarray of float32, shape (node rows, node columns)
        Side of the windows, in pixels.
    grid : NodeGrid
        The nodes.
    pair : Prepared
        The stack of pairs.
    reason : ndarray of uint8, shape (node rows, node columns)
        Why a node is no measurement; 0 where it is one.
    window : int
        Side of the window in which the noise of the sample is measured, in pixels.
    inner : (slice, slice)
        Rows and columns of the block that are wanted.

    Returns
    -------
    ndarray of float32, shape (9, rows, columns)
        The fields of `Fields` in their order.
    """
    weights = keys_weights(grid.step)
    linear = linear_weights(grid.step)
    first = tuple(node - part.start for node, part in zip(grid.first, inner, strict=True))
    out = np.empty((len(Fields._fields), *(part.stop - part.start for part in inner)), np.float32)
    fields = Fields(*out)
    mean_s, mean_w = means(level, pair)
    with np.errstate(divide="ignore", invalid="ignore"):
        transmission = np.where(mean_w != 0, mean_s / mean_w, np.nan)
        share = noise_share(
            pair.s, pair.m, window=window, rows=grid.coordinates(0), columns=grid.coordinates(1)
        )
        gain = visibility_gain(
            level.gain * np.float32(pair.scale_s / pair.scale_r),
            level.correlation,
            share,
            (mean_s, mean_w),
            (level.u_y, level.u_x),
            order=pair.order,
        )
        dark_field = gain / transmission
    # Next to a node without a ratio a pixel is marked; it must not spoil those beyond.
    ratios = [
        np.nan_to_num(part, posinf=0, neginf=0).astype(np.float32)
        for part in (transmission, dark_field)
    ]
    nodes = (
        level.u_y,
        level.u_x,
        level.error_y,
        level.error_x,
        level.correlation,
        used,
        *ratios,
    )
    for index, values in enumerate(nodes):
        kernel = weights if index < CUBIC else linear
        wide = padded(values)
        if index in ERRORS:
            # Beyond the outermost nodes an error may grow, but a falling line would lead to zero.
            wide = np.maximum(wide, np.pad(values, PAD, mode="edge"))
        pixels_from_nodes(wide, grid.step, kernel, *first, out[index])
    np.clip(fields.correlation, -1, 1, out=fields.correlation)
    fields.reason[:] = Reason.MATCHED
    if reason.any():
        fields.reason[:] = largest_around(
            reason,
            rows=grid.coordinates(0),
            columns=grid.coordinates(1),
            pixel_rows=np.arange(inner[0].start, inner[0].stop),
            pixel_columns=np.arange(inner[1].start, inner[1].stop),
        )
        marked = fields.reason > 0
        for field, blank in zip(fields[:-1], NO_MATCH[:-1], strict=True):
            if field is not fields.correlation:
                field[marked] = blank
    return out


def node_reasons(refined: Codes, start: Codes, known: Mask) -> Codes:
    """Say of each node why it is no measurement: the refinement knows, or else the start.

    Parameters
    ----------
    refined, start : ndarray of uint8, shape (node rows, node columns)
        Reasons of the refinement and of the start, 0 where there is none.
    known : ndarray of bool, shape (node rows, node columns)
        Nodes that are measurements.

    Returns
    -------
    ndarray of uint8, shape (node rows, node columns)
        0 where the node is known.

    Examples
    --------
    >>> refined = np.array([0, 2, 7, 0, 0], np.uint8)
    >>> start = np.array([0, 0, 4, 5, 0], np.uint8)
    >>> node_reasons(refined, start, np.array([True, False, False, False, False])).tolist()
    [0, 2, 4, 5, 8]
    """
    # Without a start the refinement ends somewhere: why there was none says more.
    vague = np.isin(refined, (Reason.MATCHED, Reason.NOT_CONVERGED, Reason.UNCORRELATED))
    reason = np.where(vague & (start > 0), start, refined)
    reason = np.where(reason == Reason.MATCHED, Reason.OUTLIER, reason)
    return np.where(known, Reason.MATCHED, reason).astype(np.uint8)


def at_border(
    samples: Floats, references: Floats, grid: NodeGrid, u: tuple[Floats, Floats], *, window: int
) -> Mask:
    """Tell which windows lack data for the border of the frame rather than for a mask.

    Parameters
    ----------
    samples, references : ndarray of float32, shape (images, rows, columns)
        Pairs; NaN is masked, and minus infinity lies outside of the frame.
    grid : NodeGrid
        The nodes.
    u : (ndarray, ndarray)
        Displacement (y, x) at the nodes, in pixels.
    window : int
        Side of the windows in pixels.

    Returns
    -------
    ndarray of bool, shape (node rows, node columns)
    """
    size = (window, window)

    def total(values: NDArray[Any], border: int = cv2.BORDER_CONSTANT) -> Floats:
        counted = values.astype(np.float32)
        return np.asarray(cv2.boxFilter(counted, -1, size, normalize=False, borderType=border))

    nodes = np.ix_(grid.coordinates(0), grid.coordinates(1))
    # The match of a window is about where its node came from; far outside, nothing is there.
    source = tuple(
        np.clip(np.rint(line - component).astype(np.intp), -window, rows - 1 + window) + window
        for line, component, rows in zip(nodes, u, grid.shape, strict=True)
    )
    cut = len(samples) * (window**2 - total(np.ones(grid.shape))[nodes])
    masked = np.zeros_like(cut)
    for sample, reference in zip(samples, references, strict=True):
        absent = np.pad(np.isneginf(reference), window, constant_values=True)
        cut += total(absent, cv2.BORDER_REPLICATE)[source]
        masked += total(~np.isfinite(sample))[nodes]
        masked += total(np.pad(np.isnan(reference), window))[source]
    return np.asarray(cut > masked, np.bool_)
