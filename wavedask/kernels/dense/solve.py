"""The solution of one window: iterations, what disturbs them, and how good the result is."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.dense import refine as rf
from wavedask.kernels.dense.activity import rectangles
from wavedask.kernels.dense.cells import Cells, cut, spectra_of
from wavedask.kernels.dense.detectornoise import DetectorNoise
from wavedask.kernels.dense.fixed import FixedPattern, fixed_pattern, pull_of
from wavedask.kernels.dense.judge import (
    AT_BORDER,
    LOBE,
    MISFIT_AT_BORDER,
    Level,
    border_inflation,
    judged,
    unusable_nodes,
)
from wavedask.kernels.dense.lowpass import SIGMA, bridged, passed_noise, smoothed
from wavedask.kernels.dense.measurednoise import measured_noise
from wavedask.kernels.dense.nodes import NodeGrid, keys_weights, padded
from wavedask.kernels.dense.noise import Noise
from wavedask.kernels.dense.prepare import Prepared, counts_of, residuals
from wavedask.kernels.dense.statednoise import stated_noise
from wavedask.kernels.fields import Reason

Floats = NDArray[np.float32]

LEAST_REACH: Final = 2.0
"""Nodes over which the misfit of a match is averaged, at least."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What disturbs a match: noise, and what stays with the detector.

    Attributes
    ----------
    noise : Noise
        At the nodes.
    fixed : FixedPattern or None
        In the cells; None where there is none.
    cells : (Cells, Cells)
        Along y and x.
    """

    noise: Noise
    fixed: FixedPattern | None
    cells: tuple[Cells, Cells]


def refined(
    pair: Prepared,
    grid: NodeGrid,
    start: Floats,
    *,
    window: int,
    origin: tuple[int, int],
    shift: tuple[int, int] = (0, 0),
    known: Disturbance | None = None,
    stated: DetectorNoise | None = None,
    transmission: Floats | None = None,
) -> tuple[Level, Disturbance]:
    """Refine the displacement at the nodes with one window.

    Parameters
    ----------
    pair : Prepared
        The stack of pairs.
    grid : NodeGrid
        The nodes.
    start : ndarray of float32, shape (2, node rows, node columns)
        Displacement (y, x) to start from, in pixels.
    window : int
        Side of the window in pixels, odd.
    origin : (int, int)
        Frame coordinates (y, x) of the first pixel.
    shift : (int, int)
        Pixels (y, x) by which the references were moved before.
    known : Disturbance, optional
        What disturbs a match, where it is known from another window.
    stated : DetectorNoise, optional
        Noise of the detector, where it is known.
    transmission : ndarray of float32, shape (node rows, node columns), optional
        What the samples were divided by.

    Returns
    -------
    Level
        The solution.
    Disturbance
        As given, or measured at the solution.
    """
    half, step = window // 2, grid.step
    rows, columns = grid.nodes
    statistics = np.empty((10, rows, columns), np.float32)
    longest = max(1, rf.TILE // step)
    for start_column in range(0, columns, longest):
        stop_column = min(start_column + longest, columns)
        rf.window_statistics(
            pair.m,
            pair.s,
            pair.g_y,
            pair.g_x,
            half,
            step,
            *grid.first,
            start_column,
            stop_column,
            statistics,
        )
    unusable = unusable_nodes(statistics, images=len(pair.s), window=window)
    reliable = unusable == Reason.MATCHED
    tolerance = _tolerance(statistics)
    sigma = SIGMA * half / step
    weights = keys_weights(step)
    u = np.stack([smoothed(component, sigma) for component in start])
    v = u.copy()
    change = np.zeros_like(u)
    out = np.zeros((5, rows, columns), np.float32)
    active = np.ones(grid.nodes, np.bool_)
    # A node feels others through its window and the low-pass, whose main lobe is not wider.
    reach = np.ones((2 * (window // step) + 1,) * 2, np.uint8)
    square = max(rf.LEAST_TILE, rf.TILE_WINDOWS * window) // step
    for _ in range(rf.ITERATIONS):
        u_y, u_x = padded(u[0]), padded(u[1])
        for rectangle in rectangles(active, side=square, longest=longest):
            rf.match_tile(
                pair.splines,
                pair.margin,
                pair.order,
                pair.m,
                pair.s,
                pair.g_y,
                pair.g_x,
                statistics,
                half,
                step,
                weights,
                *grid.first,
                *rectangle,
                u_y,
                u_x,
                v[0],
                v[1],
                out,
            )
        moved = [
            smoothed(bridged(new, reliable, window / step, now=old), sigma)
            for new, old in zip(v, u, strict=True)
        ]
        np.subtract(moved, u, out=change)
        np.abs(change, out=change)
        u = np.stack(moved)
        settled = tolerance * np.sqrt(np.maximum(1 - out[rf.RHO] ** 2, 0))
        restless = reliable & (change.max(axis=0) > np.maximum(settled, rf.CONVERGED))
        active = cv2.dilate(restless.astype(np.uint8), reach) > 0
        if not active.any():
            break
    if known is None:
        known = disturbance_of(
            pair,
            grid,
            u,
            out,
            statistics,
            window=window,
            origin=origin,
            shift=shift,
            stated=stated,
            transmission=transmission,
        )
    pull = None
    if known.fixed is not None:
        pull = pull_of(known.fixed, (u[0], u[1]), grid, known.cells, order=pair.order, shift=shift)
    lines = grid.coordinates(0), grid.coordinates(1)
    inflation = (
        border_inflation(*lines, grid.shape, reach=half, part=AT_BORDER),
        border_inflation(*lines, grid.shape, reach=window, part=MISFIT_AT_BORDER),
    )
    level = judged(
        u,
        change,
        out,
        statistics,
        unusable,
        noise=known.noise,
        pull=pull,
        inflation=inflation,
        passes=passed_noise(window),
        lobe=LOBE * sigma,
        reach=max(half / step, LEAST_REACH),
    )
    return level, known


def disturbance_of(
    pair: Prepared,
    grid: NodeGrid,
    u: Floats,
    out: Floats,
    statistics: Floats,
    *,
    window: int,
    origin: tuple[int, int],
    shift: tuple[int, int],
    stated: DetectorNoise | None,
    transmission: Floats | None,
) -> Disturbance:
    """Measure noise and fixed pattern in what a solution leaves unexplained."""
    gain = out[rf.GAIN]
    offset = statistics[rf.MEAN_S] - gain * out[rf.MEAN_W]
    nodes = [padded(values) for values in (*u, gain, offset)]
    cells = Cells.along(grid.shape[0], origin[0]), Cells.along(grid.shape[1], origin[1])
    rows = cells[0].pixels
    m = cut(pair.m, rows, cells)
    unexplained = residuals(pair, grid, nodes, rows.ravel())
    lines = np.arange(rows.size).reshape(rows.shape)
    left = spectra_of(cut(unexplained, lines, cells), m)
    seen = spectra_of(cut(pair.s, rows, cells), m)
    where = u[0], u[1]
    counts = counts_of(pair, statistics[rf.MEAN_S], out[rf.MEAN_W])
    order = pair.order
    if stated is None:
        ratio = _photon_ratio(pair, gain, counts)
        noise = measured_noise(left, seen, m, where, ratio, grid, cells, order=order, window=window)
    else:
        absorbed = np.float32(1) if transmission is None else transmission
        counts = counts[0] * absorbed, counts[1]
        # The gain of the match makes the noise of the reference that of the normalised sample.
        scales = (
            np.float32(pair.scale_s) * absorbed * np.ones_like(gain),
            np.float32(pair.scale_r) / np.maximum(np.abs(gain), np.float32(1e-6)),
        )
        noise = stated_noise(
            left, seen, m, where, stated, counts, scales, grid, cells, order=order, window=window
        )
    images = cut(pair.references, rows, cells)
    there = np.isfinite(images)
    images = np.where(there, (images - np.float32(pair.offset_r)) / np.float32(pair.scale_r), 0)
    references = spectra_of(images.astype(np.float32), there.astype(np.float32))
    fixed = fixed_pattern(
        left, references, m, where, gain, grid, cells, order=pair.order, shift=shift
    )
    return Disturbance(noise, fixed if fixed is not None and fixed.found else None, cells)


def _photon_ratio(pair: Prepared, gain: Floats, counts: tuple[Floats, Floats]) -> Floats:
    """Noise of the reference times the squared gain over that of the sample, if both are photons'.

    One where the means of the images do not tell, for they are not positive.
    """
    told = (counts[0] > 0) & (counts[1] > 0)
    quotient = np.where(told, counts[1], 1) / np.where(told, counts[0], 1)
    squared = (gain * np.float32(pair.scale_s / pair.scale_r)) ** 2
    return np.where(told, squared * quotient, 1).astype(np.float32)


def _tolerance(statistics: Floats) -> Floats:
    """Change of a node, in pixels, that is not worth another iteration if all is left unexplained.

    It is that times ``sqrt(1 - rho^2)``, but `rf.CONVERGED` at least.
    """
    precision = statistics[rf.COUNT] * (statistics[rf.H_YY] + statistics[rf.H_XX]) / 2
    power = np.maximum(statistics[rf.VAR_S], 0)
    return np.asarray(rf.NEGLIGIBLE * np.sqrt(power / np.maximum(precision, np.float32(1e-6))))
