"""The dense tracker on one block: start, refinement, and how good each pixel is."""

from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

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
    blended,
    border_inflation,
    judged,
    like_neighbours,
    merged,
    unusable_nodes,
    without_islands,
)
from wavedask.kernels.dense.lowpass import SIGMA, bridged, passed_noise, smoothed
from wavedask.kernels.dense.nodes import (
    NodeGrid,
    clear_unweighted,
    keys_weights,
    linear_weights,
    node_step,
    padded,
    pixels_from_nodes,
    weigh,
)
from wavedask.kernels.dense.noise import Noise
from wavedask.kernels.dense.spectra import measured_noise, residual_rows, stated_noise
from wavedask.kernels.dense.transmission import beside_edges, local_transmission
from wavedask.kernels.fields import NO_MATCH, Fields, Reason
from wavedask.kernels.gaps import centred, without_spikes
from wavedask.kernels.grids import largest_around
from wavedask.kernels.spline import Order, SplineFilters, coefficients, gradient
from wavedask.kernels.stacks import stacked
from wavedask.kernels.start import start_field, start_reach, start_step
from wavedask.kernels.threads import one_opencv_thread
from wavedask.kernels.tile import Tile
from wavedask.kernels.visibility import noise_share, visibility_gain

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Codes = NDArray[np.uint8]

HALO_WINDOWS: Final = 4
"""Windows beyond which what happens at the border of a block is not felt."""
LEAST_REACH: Final = 2.0
"""Nodes over which the misfit of a match is averaged, at least."""
CUBIC: Final = 2
"""Fields, the first of them, that are interpolated by a cubic: errors must not overshoot."""
NEAR_STARTS: Final = 1.5
"""Steps of the start's grid that a field leads on beyond the last start."""


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
        known = _disturbance(
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


def _residuals(
    pair: Prepared, grid: NodeGrid, nodes: list[Floats], rows: NDArray[np.intp]
) -> Floats:
    """Take a match (displacement, gain and offset at padded nodes) out of rows of the samples."""
    residuals = np.empty((len(pair.s), rows.size, grid.shape[1]), np.float32)
    for n in range(len(pair.s)):
        residual_rows(
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
            residuals[n],
        )
    return residuals


def _disturbance(
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
    residuals = _residuals(pair, grid, nodes, rows.ravel())
    lines = np.arange(rows.size).reshape(rows.shape)
    left = spectra_of(cut(residuals, lines, cells), m)
    seen = spectra_of(cut(pair.s, rows, cells), m)
    where = u[0], u[1]
    counts = _counts(pair, statistics[rf.MEAN_S], out[rf.MEAN_W])
    options: dict[str, Any] = {"order": pair.order, "window": window}
    if stated is None:
        ratio = _photon_ratio(pair, gain, counts)
        noise = measured_noise(left, seen, m, where, ratio, grid, cells, **options)
    else:
        absorbed = np.float32(1) if transmission is None else transmission
        counts = counts[0] * absorbed, counts[1]
        # The gain of the match makes the noise of the reference that of the normalised sample.
        scales = (
            np.float32(pair.scale_s) * absorbed * np.ones_like(gain),
            np.float32(pair.scale_r) / np.maximum(np.abs(gain), np.float32(1e-6)),
        )
        noise = stated_noise(left, seen, m, where, stated, counts, scales, grid, cells, **options)
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


def pixel_transmission(
    pair: Prepared, grid: NodeGrid, u: Floats, quiet: Mask, *, reach: int
) -> Floats:
    """Estimate the transmission of every pixel.

    Parameters
    ----------
    pair : Prepared
        The stack of pairs.
    grid : NodeGrid
        The nodes.
    u : ndarray of float32, shape (2, node rows, node columns)
        Displacement (y, x) in pixels.
    quiet : ndarray of bool, shape (node rows, node columns)
        Nodes with a strong match and no edge.
    reach : int
        Nodes from an edge to those with which its details are compared.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
    """
    one = np.ones(grid.nodes, np.float32)
    nodes = [padded(values) for values in (*u, one, 0 * one)]
    displaced = _residuals(pair, grid, nodes, np.arange(grid.shape[0]))
    known = pair.m.sum(axis=0) > 0
    sample = (pair.m * pair.offset_s + pair.scale_s * pair.s).sum(axis=0)
    reference = (pair.m * pair.offset_r + pair.scale_r * (pair.s - displaced)).sum(axis=0)
    known &= reference > 0
    ratio = np.where(known, sample / np.where(known, reference, 1), 1)
    return local_transmission(ratio, known, grid, quiet, reach)


def _counts(pair: Prepared, mean_s: Floats, mean_w: Floats) -> tuple[Floats, Floats]:
    """Convert normalised means of sample and displaced reference to counts."""
    return pair.offset_s + pair.scale_s * mean_s, pair.offset_r + pair.scale_r * mean_w


def _means(level: Level, pair: Prepared) -> tuple[Floats, Floats]:
    """Mean counts of sample and displaced reference in the windows."""
    return _counts(pair, level.mean_s, level.mean)


def _tolerance(statistics: Floats) -> Floats:
    """Change of a node, in pixels, that is not worth another iteration if all is left unexplained.

    It is that times ``sqrt(1 - rho^2)``, but `rf.CONVERGED` at least.
    """
    precision = statistics[rf.COUNT] * (statistics[rf.H_YY] + statistics[rf.H_XX]) / 2
    power = np.maximum(statistics[rf.VAR_S], 0)
    return np.asarray(rf.NEGLIGIBLE * np.sqrt(power / np.maximum(precision, np.float32(1e-6))))


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
    mean_s, mean_w = _means(level, pair)
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
        pixels_from_nodes(padded(values), grid.step, kernel, *first, out[index])
    # Beyond the outermost nodes a line may lead too far.
    for error in (fields.uncertainty_y, fields.uncertainty_x):
        np.maximum(error, 0, out=error)
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


@dataclass(frozen=True, slots=True)
class Dense:
    """Settings of the dense tracker.

    Attributes
    ----------
    windows : tuple of int
        Sides of the windows in pixels, odd and increasing.
    search : int
        Largest displacement looked for, in pixels.
    good : float
        Correlation that a window must reach lest the next larger one is used.
    order : int
        Order of the B-spline, 3 or 5.
    noise : DetectorNoise, optional
        Noise of the detector; by default the residual tells it.
    """

    windows: tuple[int, ...]
    search: int
    good: float
    order: Order
    noise: DetectorNoise | None = None

    @property
    def halo(self) -> int:
        """Pixels around a tile without which its result would depend on the tiling."""
        largest = max(self.windows)
        return max(start_reach(largest, self.search), HALO_WINDOWS * largest)

    def track(
        self, samples: NDArray[Any], references: NDArray[Any], tile: Tile
    ) -> NDArray[np.float32]:
        """Track one tile of a stack of pairs that share their displacement.

        Parameters
        ----------
        samples, references : ndarray, shape (images, rows, columns)
            The pairs, references already shifted rigidly onto the samples; NaN is missing data.
        tile : Tile
            Where the block lies in the frame.

        Returns
        -------
        ndarray of float32, shape (9, rows, columns)
            The fields of `Fields` in their order, for the inner part of the tile.
        """
        with one_opencv_thread():
            return self._track(samples, references, tile)

    def _track(
        self, samples: NDArray[Any], references: NDArray[Any], tile: Tile
    ) -> NDArray[np.float32]:
        images = np.ascontiguousarray(samples, np.float32)
        targets = np.ascontiguousarray(references, np.float32)
        images, targets = (
            stacked([without_spikes(image) for image in stack]) for stack in (images, targets)
        )
        step = node_step(self.windows[0])
        first = (-tile.top % step, -tile.left % step)
        grid = NodeGrid((images.shape[1], images.shape[2]), step, first)
        start, lost = start_field(
            images,
            targets,
            window=max(self.windows),
            search=self.search,
            origin=(tile.top, tile.left),
            rows=grid.coordinates(0),
            columns=grid.coordinates(1),
        )
        started = lost == Reason.MATCHED
        reach = max(self.windows) / step
        start = np.stack([bridged(np.nan_to_num(u), started, reach) for u in start])
        pair = prepare(images, targets, grid, start, order=self.order)
        origin = (tile.top, tile.left)
        level, used = self._refined(pair, grid, start, origin, tile.shift)
        level = self._without_edges(level, pair, (images, targets), grid, started, tile)
        spacing = start_step(max(self.windows)) // step
        strong = ~level.drowned & (level.correlation >= self.good)
        core = without_islands(level.valid & started, weak=~strong, side=2 * spacing)
        # A start is found where a whole template fits, and alone finds the right peak. The field
        # leads on from there, into a gap and to the edge of the frame: a match that is strong, or
        # as strong as those that have a start, tells that it led right.
        known = core
        if core.any() and not core.all():
            reach = NEAR_STARTS * spacing
            near = ndimage.distance_transform_edt(~core) <= reach
            led = strong | like_neighbours(level.correlation, core, reach=reach)
            known = core | (level.valid & led & near)
        reason = node_reasons(level.reason, lost, known)
        if (reason == Reason.MASKED).any():
            borders = at_border(
                images, targets, grid, (level.u_y, level.u_x), window=max(self.windows)
            )
            reason[borders & (reason == Reason.MASKED)] = Reason.BORDER
        return dense_fields(
            level, used, grid, pair, reason, window=self.windows[0], inner=tile.inner
        )

    def _without_edges(
        self,
        level: Level,
        pair: Prepared,
        images: tuple[Floats, Floats],
        grid: NodeGrid,
        started: Mask,
        tile: Tile,
    ) -> Level:
        """Refine once more beside edges of the transmission, which are divided out."""
        window = max(self.windows) // grid.step
        strong = started & level.valid & ~level.drowned & (level.correlation >= self.good)
        usable = (level.reason != Reason.NO_STRUCTURE) & (level.reason != Reason.MASKED)
        means = _means(level, pair)
        edges = beside_edges(*means, strong, usable, window)
        if not edges.any():
            return level
        # Beside an edge the first solution is wrong: that of its surroundings leads on.
        u = np.stack([bridged(part, ~edges, 2 * window) for part in (level.u_y, level.u_x)])
        around = np.ones((2 * window + 1, 2 * window + 1), np.uint8)
        changed = usable & (cv2.dilate(edges.astype(np.uint8), around) > 0)
        reach = HALO_WINDOWS * window + int(np.abs(u).max()) // grid.step
        part = grid.part_around(changed, reach)
        images = images[0][part.pixels], images[1][part.pixels]
        u = np.ascontiguousarray(u[:, *part.nodes])
        uneven = prepare(*images, part.grid, u, order=self.order)
        quiet = (strong & ~edges)[part.nodes]
        transmission = pixel_transmission(uneven, part.grid, u, quiet, reach=2 * window)
        flat = prepare(images[0] / transmission, images[1], part.grid, u, order=self.order)
        origin = tile.top + part.origin[0], tile.left + part.origin[1]
        nodes = np.ix_(part.grid.coordinates(0), part.grid.coordinates(1))
        again = self._refined(flat, part.grid, u, origin, tile.shift, transmission[nodes])[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            absorbed = (means[0] / means[1])[part.nodes]
            gain = again.gain * absorbed / np.divide(*_means(again, flat))
            gain *= np.float32(flat.scale_s / pair.scale_s * pair.scale_r / flat.scale_r)
        again = replace(
            again,
            gain=np.nan_to_num(gain, posinf=0, neginf=0),
            mean=(flat.offset_r - pair.offset_r + flat.scale_r * again.mean) / pair.scale_r,
            mean_s=level.mean_s[part.nodes],
        )
        return merged(again, level, part.nodes, changed[part.nodes])

    def _refined(
        self,
        pair: Prepared,
        grid: NodeGrid,
        start: Floats,
        origin: tuple[int, int],
        shift: tuple[int, int],
        transmission: Floats | None = None,
    ) -> tuple[Level, Floats]:
        """Refine with all windows, the largest first; which one was used where, in pixels."""
        levels: list[Level] = []
        known: Disturbance | None = None
        for window in reversed(self.windows):
            level, known = refined(
                pair,
                grid,
                start,
                window=window,
                origin=origin,
                shift=shift,
                known=known,
                stated=self.noise,
                transmission=transmission,
            )
            levels.insert(0, level)
            start = np.stack([level.u_y, level.u_x])
        return blended(levels, list(self.windows), good=self.good, step=grid.step)
