"""The dense tracker on one block: start, refinement, and how good each pixel is."""

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from wavedask.kernels import refine as rf
from wavedask.kernels.coarse import start_field, start_reach, start_step
from wavedask.kernels.fields import NO_MATCH, Fields
from wavedask.kernels.spline import JIT, Order, SplineFilters, coefficients, gradient
from wavedask.kernels.tile import Tile
from wavedask.kernels.uncertainty import FREE_PARAMETERS, refined_uncertainty

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

LEAST_COVER: Final = 0.25
"""Fraction of a window that must have data."""
LEAST_CORRELATION: Final = 0.15
"""Correlation below which a window and its match have nothing in common."""
FARTHEST: Final = 0.25
"""A node whose last step is longer than this, in pixels, has not settled."""
LOBE: Final = 0.4
"""Standard deviation of the main lobe of the low-pass over that of its Gaussian."""
PRECISE: Final = 0.1
"""Standard error, in pixels, above which a larger window is used if there is one."""
HALO_WINDOWS: Final = 4
"""Windows beyond which what happens at the border of a block is not felt."""
NEAR_STARTS: Final = 2
"""Steps of the start's grid that a field leads on beyond the last start."""
RELAXATIONS: Final = 12
"""Sweeps that fill the gaps of an image."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A stack of pairs made ready for one start: centred, filled, weighted, with its splines.

    Attributes
    ----------
    m, s, g_y, g_x : ndarray of float32, shape (images, rows, columns)
        Weight, sample and its gradient; the last three zero where the weight is.
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
    splines: Floats
    margin: int
    order: Order
    offset_s: float
    scale_s: float
    offset_r: float
    scale_r: float


def centred(images: Floats, known: Mask) -> tuple[Floats, float, float]:
    """Shift and scale images to zero mean and unit deviation, with gaps filled from around.

    Sums over windows of float32 then hold: 60000 counts of pedestal would drown a contrast of a few
    per cent.
    """
    values = images[known]
    offset = float(values.mean(dtype=np.float64)) if values.size else 0.0
    scale = float(values.std(dtype=np.float64)) if values.size else 1.0
    if not scale > 0:
        scale = 1.0
    out = np.where(known, images - np.float32(offset), np.float32(0)) * np.float32(1 / scale)
    for image, there in zip(out, known, strict=True):
        rows, columns = np.nonzero(~there)
        if rows.size:
            fill_gaps(image, rows, columns, RELAXATIONS)
    return out, offset, scale


@njit(**JIT)  # type: ignore[untyped-decorator]
def fill_gaps(
    image: Floats, rows: NDArray[np.intp], columns: NDArray[np.intp], sweeps: int
) -> None:
    """Fill pixels by a surface of least bending (biharmonic), in place.

    An isolated dead pixel gets nearly what it would have read, so that the splines beside it stay
    true; inside a wide gap the values do not matter, for nothing there has weight.
    """
    height, width = image.shape
    for sweep in range(sweeps):
        for k in range(rows.size):
            y, x = rows[k], columns[k]
            if 2 <= y < height - 2 and 2 <= x < width - 2 and sweep > 1:
                near = image[y - 1, x] + image[y + 1, x] + image[y, x - 1] + image[y, x + 1]
                diagonal = (
                    image[y - 1, x - 1]
                    + image[y - 1, x + 1]
                    + image[y + 1, x - 1]
                    + image[y + 1, x + 1]
                )
                far = image[y - 2, x] + image[y + 2, x] + image[y, x - 2] + image[y, x + 2]
                image[y, x] = (np.float32(8) * near - np.float32(2) * diagonal - far) * np.float32(
                    1 / 20
                )
            else:
                up, down = max(y - 1, 0), min(y + 1, height - 1)
                left, right = max(x - 1, 0), min(x + 1, width - 1)
                image[y, x] = np.float32(0.25) * (
                    image[up, x] + image[down, x] + image[y, left] + image[y, right]
                )


def prepare(
    samples: Floats, references: Floats, grid: rf.NodeGrid, start: Floats, *, order: Order
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
    splines = np.stack([coefficients(image, filters.prefilter, margin) for image in r])
    m, g_y, g_x = np.empty_like(s), np.empty_like(s), np.empty_like(s)
    weights = rf.keys_weights(grid.step)
    u_y, u_x = rf.padded(start[0]), rf.padded(start[1])
    for n in range(len(s)):
        gradient(s[n], filters.gradient, g_y[n], g_x[n])
        rf.weigh(known_s[n], known_r[n], u_y, u_x, grid.step, weights, *grid.first, m[n])
        for field in (s[n], g_y[n], g_x[n]):
            field *= m[n]
    return Prepared(m, s, g_y, g_x, splines, margin, order, offset_s, scale_s, offset_r, scale_r)


@dataclass(frozen=True, slots=True)
class Level:
    """Result of one window at the nodes; every array has the shape (node rows, node columns).

    Attributes
    ----------
    u_y, u_x : ndarray of float32
        Displacement in pixels, low-passed; defined everywhere.
    error_y, error_x : ndarray of float32
        Standard error in pixels.
    correlation, gain, mean : ndarray of float32
        Correlation at the solution, gain, and mean of the displaced reference.
    mean_s : ndarray of float32
        Mean of the sample.
    valid : ndarray of bool
        Whether the node has data, a pattern and a settled match.
    drowned : ndarray of bool
        Whether noise could explain the pattern in some direction.
    """

    u_y: Floats
    u_x: Floats
    error_y: Floats
    error_x: Floats
    correlation: Floats
    gain: Floats
    mean: Floats
    mean_s: Floats
    valid: Mask
    drowned: Mask


def refined(pair: Prepared, grid: rf.NodeGrid, start: Floats, *, window: int) -> Level:
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

    Returns
    -------
    Level
    """
    half, step = window // 2, grid.step
    rows, columns = grid.nodes
    statistics = np.empty((10, rows, columns), np.float32)
    span = max(1, rf.TILE // step)
    bands = [(i, min(i + span, rows)) for i in range(0, rows, span)]
    strips = [(i, min(i + span, columns)) for i in range(0, columns, span)]
    for strip in strips:
        rf.window_statistics(
            pair.m, pair.s, pair.g_y, pair.g_x, half, step, *grid.first, *strip, statistics
        )
    reliable = _reliable(statistics, images=len(pair.s), window=window)
    response = rf.low_pass(grid.nodes, rf.SIGMA * half / step)
    weights = rf.keys_weights(step)
    u = np.stack([rf.smoothed(component, response) for component in start])
    v = u.copy()
    out = np.zeros((5, rows, columns), np.float32)
    active = np.ones((len(bands), len(strips)), np.bool_)
    for _ in range(rf.ITERATIONS):
        u_y, u_x = rf.padded(u[0]), rf.padded(u[1])
        for i, j in zip(*np.nonzero(active), strict=True):
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
                *bands[i],
                *strips[j],
                u_y,
                u_x,
                v[0],
                v[1],
                out,
            )
        moved = [
            rf.smoothed(_bridged(component, reliable, window / step), response) for component in v
        ]
        change = np.maximum(np.abs(moved[0] - u[0]), np.abs(moved[1] - u[1])) * reliable
        u = np.stack(moved)
        moving = np.array(
            [
                [change[band[0] : band[1], strip[0] : strip[1]].max() for strip in strips]
                for band in bands
            ]
        )
        active = ndimage.binary_dilation(moving > rf.CONVERGED, np.ones((3, 3), np.bool_))
        if not active.any():
            break
    return _judged(
        u,
        out,
        statistics,
        reliable,
        order=pair.order,
        blur=max(1, round(window / step)),
        lobe=LOBE * rf.SIGMA * half / step,
    )


def _reliable(statistics: Floats, *, images: int, window: int) -> Mask:
    """Nodes whose windows have data and a pattern with structure in both directions."""
    h_yy, h_yx, h_xx = statistics[rf.H_YY], statistics[rf.H_YX], statistics[rf.H_XX]
    mean, spread = (h_yy + h_xx) / 2, np.hypot((h_yy - h_xx) / 2, h_yx)
    enough = statistics[rf.COUNT] >= LEAST_COVER * images * window**2
    # Images have unit variance: what is flat to a ten thousandth of that has no pattern.
    patterned = (statistics[rf.VAR_S] > 1e-4) & (mean - spread > 1e-2 * (mean + spread))
    return np.asarray(enough & patterned & (mean - spread > 1e-5), np.bool_)


def _bridged(values: Floats, reliable: Mask, reach: float) -> Floats:
    """Replace the values of unreliable nodes by those of reliable ones around them.

    What is averaged is the departure from a quadratic surface: a level continuation of a gradient
    would have a kink, which the low-pass spreads inward.
    """
    if reliable.all() or not reliable.any():
        return values
    rows, columns = np.nonzero(reliable)
    chosen = slice(None, None, max(1, rows.size // rf.TREND_NODES))
    trend = rf.quadratic_surface(values, rows[chosen], columns[chosen])
    weight = reliable.astype(np.float32)
    departure, share = np.where(reliable, values - trend, np.float32(0)), weight
    sigma = max(reach / 2, 1.0)
    kept = np.zeros_like(values)
    waiting = ~reliable
    for _ in range(3):
        smooth = cv2.GaussianBlur(share, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
        filled = cv2.GaussianBlur(departure, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
        near = waiting & (smooth > 1e-3)
        kept[near] = filled[near] / smooth[near]
        waiting &= ~near
        sigma *= 3
    return np.ascontiguousarray(np.where(reliable, values, trend + kept), np.float32)


def _shared(errors: Floats, reliable: Mask, sigma: float) -> Floats:
    """Average standard errors over the nodes that the low-pass mixes.

    The windows of such nodes overlap, so that their errors are not independent.
    """
    weight = reliable.astype(np.float32)
    total, share = (
        cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
        for values in (np.where(reliable, errors, np.float32(0)), weight)
    )
    return np.where(reliable, total / np.maximum(share, np.float32(1e-6)), errors)


def _judged(
    u: Floats,
    out: Floats,
    statistics: Floats,
    reliable: Mask,
    *,
    order: Order,
    blur: int,
    lobe: float,
) -> Level:
    """Attach uncertainty and validity to a solution."""
    count = np.maximum(statistics[rf.COUNT], FREE_PARAMETERS + 1)
    rho = out[rf.RHO]
    # The variance of the residual, with the degrees of freedom that the fit has taken.
    freedom = count / (count - FREE_PARAMETERS)
    residual = np.maximum(statistics[rf.VAR_S] * (1 - rho**2), 0) * freedom
    *errors, drowned = refined_uncertainty(
        residual,
        count,
        (statistics[rf.H_YY], statistics[rf.H_YX], statistics[rf.H_XX]),
        (u[0], u[1]),
        order=order,
        blur=blur,
    )
    error_y, error_x = (rf.NOISE * _shared(error, reliable, lobe) for error in errors)
    settled = np.maximum(np.abs(out[rf.STEP_Y]), np.abs(out[rf.STEP_X])) < FARTHEST
    return Level(
        u[0],
        u[1],
        error_y,
        error_x,
        rho,
        out[rf.GAIN],
        out[rf.MEAN_W],
        statistics[rf.MEAN_S],
        reliable & settled & (rho > LEAST_CORRELATION),
        drowned,
    )


def blended(
    levels: list[Level], windows: list[int], *, good: float, step: int
) -> tuple[Level, Floats]:
    """Take from each node the smallest window that is good enough, without seams.

    Parameters
    ----------
    levels : list of Level
        Results by window, the smallest first.
    windows : list of int
        The windows.
    good : float
        Correlation that is good enough.
    step : int
        Pixels between nodes.

    Returns
    -------
    level : Level
        The blend.
    window : ndarray of float32, shape (node rows, node columns)
        Side of the window used, in pixels.
    """
    if len(levels) == 1:
        return levels[0], np.full(levels[0].u_y.shape, windows[0], np.float32)
    enough = np.stack(
        [
            level.valid
            & (level.correlation >= good)
            & (np.maximum(level.error_y, level.error_x) <= PRECISE)
            for level in levels
        ]
    )
    enough[-1] = True
    wanted = enough.argmax(axis=0).astype(np.float32)
    sigma = windows[0] / (2 * step)
    wanted = cv2.GaussianBlur(wanted, (0, 0), max(sigma, 0.5), borderType=cv2.BORDER_REFLECT)
    below = np.clip(np.floor(wanted).astype(int), 0, len(levels) - 2)
    share = wanted - below

    def pick(values: list[Floats]) -> Floats:
        stack = np.stack(values)
        low = np.take_along_axis(stack, below[None], 0)[0]
        high = np.take_along_axis(stack, below[None] + 1, 0)[0]
        return np.asarray((1 - share) * low + share * high, np.float32)

    valid = np.stack([level.valid for level in levels])
    low, high = (np.take_along_axis(valid, below[None] + k, 0)[0] for k in (0, 1))
    used = np.interp(wanted, np.arange(len(windows)), windows).astype(np.float32)
    level = Level(
        u_y=pick([level.u_y for level in levels]),
        u_x=pick([level.u_x for level in levels]),
        error_y=pick([level.error_y for level in levels]),
        error_x=pick([level.error_x for level in levels]),
        correlation=pick([level.correlation for level in levels]),
        gain=pick([level.gain for level in levels]),
        mean=pick([level.mean for level in levels]),
        mean_s=pick([level.mean_s for level in levels]),
        valid=(low | (share > 0.5)) & (high | (share < 0.5)),
        drowned=np.take_along_axis(
            np.stack([level.drowned for level in levels]), np.rint(wanted).astype(int)[None], 0
        )[0],
    )
    return level, used


def without_islands(valid: Mask, *, weak: Mask, side: int) -> Mask:
    """Drop weak matches that are not part of a square of so many nodes.

    A template finds something everywhere, but chance starts do not agree with their neighbours.
    """
    # Beyond the border of the block lies more of the same, for all that is known.
    wide = np.pad(valid, side, mode="edge")
    square = np.ones((side, side), np.uint8)
    opened = cv2.morphologyEx(wide.astype(np.uint8), cv2.MORPH_OPEN, square)
    return np.asarray(valid & (~weak | (opened[side:-side, side:-side] > 0)), np.bool_)


def dense_fields(
    level: Level, used: Floats, grid: rf.NodeGrid, pair: Prepared, known: Mask
) -> Fields:
    """Interpolate a solution from the nodes to the pixels, and mark what is no measurement."""
    weights = rf.keys_weights(grid.step)
    phase = np.arange(grid.step, dtype=np.float32) / np.float32(grid.step)
    linear = np.stack([0 * phase, 1 - phase, phase, 0 * phase], axis=1)

    def pixels(values: Floats, kernel: Floats) -> Floats:
        out = np.empty(grid.shape, np.float32)
        rf.pixels_from_nodes(rf.padded(values), grid.step, kernel, *grid.first, out)
        return out

    marked = pixels((~known).astype(np.float32), linear) > 0
    mean_s = pair.offset_s + pair.scale_s * level.mean_s
    mean_w = pair.offset_r + pair.scale_r * level.mean
    with np.errstate(divide="ignore", invalid="ignore"):
        transmission = np.where(mean_w != 0, mean_s / mean_w, np.nan)
        dark_field = level.gain * (pair.scale_s / pair.scale_r) / transmission
    fields = Fields(
        pixels(level.u_y, weights),
        pixels(level.u_x, weights),
        np.maximum(pixels(level.error_y, linear), 0),
        np.maximum(pixels(level.error_x, linear), 0),
        np.clip(pixels(level.correlation, linear), -1, 1),
        pixels(used, linear),
        pixels(np.nan_to_num(transmission).astype(np.float32), linear),
        pixels(np.nan_to_num(dark_field).astype(np.float32), linear),
    )
    for field, blank in zip(fields, NO_MATCH, strict=True):
        if field is not fields.correlation:
            field[marked] = blank
    return fields


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
    """

    windows: tuple[int, ...]
    search: int
    good: float
    order: Order

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
        ndarray of float32, shape (8, rows, columns)
            The fields of `Fields` in their order, for the inner part of the tile.
        """
        if cv2.getNumThreads() != 1:
            cv2.setNumThreads(1)  # the cores belong to Dask
        images = np.ascontiguousarray(samples, np.float32)
        targets = np.ascontiguousarray(references, np.float32)
        step = rf.node_step(self.windows[0])
        first = (-tile.top % step, -tile.left % step)
        grid = rf.NodeGrid((images.shape[1], images.shape[2]), step, first)
        start = start_field(
            images,
            targets,
            window=max(self.windows),
            search=self.search,
            origin=(tile.top, tile.left),
            rows=grid.coordinates(0),
            columns=grid.coordinates(1),
        )
        started = np.isfinite(start[0])
        reach = max(self.windows) / step
        start = np.stack([_bridged(np.nan_to_num(u), started, reach) for u in start])
        pair = prepare(images, targets, grid, start, order=self.order)
        levels: list[Level] = []
        for window in reversed(self.windows):
            levels.insert(0, refined(pair, grid, start, window=window))
            start = np.stack([levels[0].u_y, levels[0].u_x])
        level, used = blended(levels, list(self.windows), good=self.good, step=step)
        spacing = start_step(max(self.windows)) // step
        strong = ~level.drowned & (level.correlation >= self.good)
        core = without_islands(level.valid & started, weak=~strong, side=2 * spacing)
        # A start is found where a whole template fits; the field leads on from there, to the edge
        # of a gap or of the frame, and a strong match tells that it led right.
        far = ndimage.distance_transform_edt(~core) if core.any() else np.inf
        known = core | (level.valid & strong & (far <= NEAR_STARTS * spacing))
        fields = dense_fields(level, used, grid, pair, known)
        return np.stack([field[tile.inner] for field in fields])
