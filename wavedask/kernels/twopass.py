"""The report's two-pass tracker (crossSpot) on one tile of one pair."""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.fields import NO_MATCH, Fields, Reason
from wavedask.kernels.grids import anchored, interpolate, largest_around
from wavedask.kernels.start import MaskedImage, Matches, match_points, without_outliers
from wavedask.kernels.threads import one_opencv_thread
from wavedask.kernels.tile import Tile
from wavedask.kernels.uncertainty import displacement_uncertainty

SECOND_SEARCH: Final = 3
"""Pixels searched around the first pass by the second."""
SUPPORT: Final = 3
"""Coarse steps on which the start of a point depends: interpolation, replacement, median test."""
GRID_SUPPORT: Final = 5
"""Fine steps on which a pixel depends: cubic interpolation, a gap filled in it, isolation."""
SMOOTH: Final = 2
"""Fields, the first of them, that are interpolated by a cubic: errors must not overshoot."""


@dataclass(frozen=True, slots=True)
class TwoPass:
    """Settings of the two-pass tracker.

    Attributes
    ----------
    windows : tuple of int
        Sides of the growing template in pixels, odd and increasing.
    search : int
        Pixels searched by the first pass on either side of zero.
    step : int
        Pixels between the points of the second pass.
    good : float
        Correlation at which the template stops growing.
    """

    windows: tuple[int, ...]
    search: int
    step: int
    good: float

    @property
    def coarse_step(self) -> int:
        """Pixels between the points of the first pass: about a window."""
        return self.windows[0]

    @property
    def reach(self) -> int:
        """Pixels between a point and the farthest pixel of the pair that its match looks at."""
        return max(self.windows) // 2 + self.search + SECOND_SEARCH

    @property
    def halo(self) -> int:
        """Pixels around a tile without which its result would depend on the tiling."""
        return SUPPORT * self.coarse_step + GRID_SUPPORT * self.step + self.reach

    def track(self, samples: NDArray[Any], references: NDArray[Any], tile: Tile) -> NDArray[Any]:
        """Track one tile of one pair; see `track_two_pass`."""
        with one_opencv_thread():
            return track_two_pass(samples[0], references[0], settings=self, tile=tile)


def track_two_pass(
    sample: NDArray[Any],
    reference: NDArray[Any],
    *,
    settings: TwoPass,
    tile: Tile,
) -> NDArray[np.float32]:
    """Track one tile of one pair: both passes of the report's crossSpot. A pure function.

    Parameters
    ----------
    sample, reference : ndarray, shape (rows, columns)
        The pair, reference already shifted rigidly onto the sample; NaN is missing data.
    settings : TwoPass
        Windows, search and step.
    tile : Tile
        Where the block lies in the frame.

    Returns
    -------
    ndarray of float32, shape (9, rows, columns)
        The fields of `Fields` in their order, for the inner part of the tile.
    """
    largest = max(settings.windows)
    image = MaskedImage(sample, margin=largest // 2, window=settings.windows[0])
    target = MaskedImage(reference, margin=2 * settings.reach + largest, window=settings.windows[0])

    def points(step: int, offset: int, margin: int | None) -> list[NDArray[np.intp]]:
        grids = []
        for origin, length, inner in zip(
            (tile.top, tile.left), sample.shape, tile.inner, strict=True
        ):
            first, last = (0, length)
            if margin is not None:
                first, last = max(0, inner.start - margin), min(length, inner.stop + margin)
            grids.append(anchored(first + origin, last + origin, step=step, offset=offset) - origin)
        return grids

    def matched(
        grid: list[NDArray[np.intp]], start: NDArray[Any], search: int, *, first_pass: bool
    ) -> Matches:
        return match_points(
            [(image, target)],
            rows=grid[0],
            columns=grid[1],
            start_y=start[0],
            start_x=start[1],
            windows=list(settings.windows),
            search=search,
            good=settings.good,
            demand_unique=first_pass,
        )

    coarse = points(settings.coarse_step, settings.coarse_step // 2, None)
    fine = points(settings.step, 0, GRID_SUPPORT * settings.step)
    nowhere = np.zeros((2, coarse[0].size, coarse[1].size), np.float32)
    *first, lost = without_outliers(
        matched(coarse, nowhere, settings.search, first_pass=True), spacing=settings.coarse_step
    )
    start = np.stack(
        [
            interpolate(
                field,
                rows=coarse[0],
                columns=coarse[1],
                pixel_rows=fine[0],
                pixel_columns=fine[1],
                cubic=False,
                bridge=True,
            )
            for field in first
        ]
    )
    second = matched(fine, start, SECOND_SEARCH, first_pass=False).without_isolated()
    before = largest_around(
        lost, rows=coarse[0], columns=coarse[1], pixel_rows=fine[0], pixel_columns=fine[1]
    )
    second = replace(second, reason=np.where(np.isnan(start[0]), before, second.reason))
    return _to_pixels(second, (image, target), fine, tile, settings.step)


def _to_pixels(
    matches: Matches,
    pair: tuple[MaskedImage, MaskedImage],
    grid: list[NDArray[np.intp]],
    tile: Tile,
    step: int,
) -> NDArray[np.float32]:
    """Interpolate the second pass to the inner pixels of the tile and attach the uncertainty."""
    image, target = pair
    errors = np.full((2, *matches.valid.shape), np.nan, np.float32)
    ratios = np.full((2, *matches.valid.shape), np.nan, np.float32)
    for window in np.unique(matches.window[matches.valid]).tolist():
        matched = matches.valid & (matches.window == window)
        rows, columns = np.nonzero(matched)
        errors[:, matched] = displacement_uncertainty(
            image.pixels,
            matches.correlation[matched],
            window=window,
            rows=grid[0][rows] + image.margin,
            columns=grid[1][columns] + image.margin,
        )
        source_rows = np.rint(grid[0][rows] - matches.displacement_y[matched]).astype(np.intp)
        source_columns = np.rint(grid[1][columns] - matches.displacement_x[matched]).astype(np.intp)
        ratios[:, matched] = _ratios(
            image.moments(grid[0][rows], grid[1][columns], window),
            target.moments(source_rows, source_columns, window),
            matches.correlation[matched],
        )
    fields = Fields(
        matches.displacement_y,
        matches.displacement_x,
        np.where(np.isfinite(errors[0]), errors[0], np.nan),
        np.where(np.isfinite(errors[1]), errors[1], np.nan),
        matches.correlation,
        np.where(matches.valid, matches.window, np.nan).astype(np.float32),
        ratios[0],
        ratios[1],
        matches.reason,
    )
    pixels = [np.arange(inner.start, inner.stop) for inner in tile.inner]
    out = np.empty((len(fields), pixels[0].size, pixels[1].size), np.float32)
    reason = largest_around(
        fields.reason,
        rows=grid[0],
        columns=grid[1],
        pixel_rows=pixels[0],
        pixel_columns=pixels[1],
    )
    for index, field in enumerate(fields[:-1]):
        if step == 1:
            values = field[np.ix_(pixels[0] - grid[0][0], pixels[1] - grid[1][0])]
        else:
            values = interpolate(
                field,
                rows=grid[0],
                columns=grid[1],
                pixel_rows=pixels[0],
                pixel_columns=pixels[1],
                cubic=index < SMOOTH,
            )
        out[index] = np.where(np.isnan(values), NO_MATCH[index], values)
    out[-1] = np.where(np.isnan(out[0]), np.maximum(reason, Reason.BORDER), Reason.MATCHED)
    return out


def _ratios(
    sample: tuple[NDArray[Any], NDArray[Any]],
    reference: tuple[NDArray[Any], NDArray[Any]],
    correlation: NDArray[Any],
) -> NDArray[np.float32]:
    """Transmission and dark field from the mean and the deviation of matched windows."""
    with np.errstate(divide="ignore", invalid="ignore"):
        transmission = sample[0] / reference[0]
        gain = correlation * sample[1] / reference[1]
        return np.stack([transmission, gain / transmission]).astype(np.float32)
