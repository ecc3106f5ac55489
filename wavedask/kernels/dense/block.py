"""The dense tracker on one block: start, refinement, and how good each pixel is."""

from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wavedask.kernels.dense.detectornoise import DetectorNoise
from wavedask.kernels.dense.judge import (
    Level,
    blended,
    like_neighbours,
    merged,
    without_islands,
)
from wavedask.kernels.dense.lowpass import bridged
from wavedask.kernels.dense.nodes import NodeGrid, node_step
from wavedask.kernels.dense.pixels import at_border, dense_fields, node_reasons
from wavedask.kernels.dense.prepare import Prepared, means, prepare
from wavedask.kernels.dense.solve import Disturbance, refined
from wavedask.kernels.dense.transmission import beside_edges, pixel_transmission
from wavedask.kernels.fields import Reason
from wavedask.kernels.gaps import without_spikes
from wavedask.kernels.spline import Order
from wavedask.kernels.stacks import stacked
from wavedask.kernels.start import start_field, start_reach, start_step
from wavedask.kernels.threads import one_opencv_thread
from wavedask.kernels.tile import Tile

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

HALO_WINDOWS: Final = 4
"""Windows beyond which what happens at the border of a block is not felt."""
NEAR_STARTS: Final = 1.5
"""Steps of the start's grid that a field leads on beyond the last start."""


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
        pair = pair.solved()
        del images, targets
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
        levels = means(level, pair)
        edges = beside_edges(*levels, strong, usable, window)
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
            absorbed = (levels[0] / levels[1])[part.nodes]
            gain = again.gain * absorbed / np.divide(*means(again, flat))
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
