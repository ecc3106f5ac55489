"""Template matching: where each point of a sample image came from in the reference.

The displacement ``u`` at a point ``p`` of the sample obeys ``sample(p) = reference(p - u)``: the
template is cut from the sample around ``p`` and searched for in the reference around ``p - start``.
Everything here works on plain arrays; a NaN is a pixel without data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wavedask.kernels.fields import Reason
from wavedask.kernels.start.correlation import Areas, Correlator, correlate_opencv
from wavedask.kernels.start.images import MaskedImage
from wavedask.kernels.start.peaks import quadratic_peak

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Codes = NDArray[np.uint8]

MAX_MISSING: Final = 0.05
"""Largest fraction of a window that may be without data."""
FLAT: Final = 1e-4
"""A window whose standard deviation is below this fraction of its mean magnitude has no pattern."""
CHANCE: Final = 0.5
"""Correlation that the best of many unrelated windows reaches: below it a peak means nothing."""
ABSENT: Final = (Reason.BORDER, Reason.MASKED, Reason.NO_STRUCTURE)
"""Reasons of points where nothing could be measured: they neither confirm nor contradict."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Matches at the points of a grid; every array has the shape ``(rows, columns)``.

    Attributes
    ----------
    displacement_y, displacement_x : ndarray of float32
        Displacement in pixels; NaN where there is no match that deserves the name.
    correlation : ndarray of float32
        Height of the correlation peak, -1 to 1; NaN where nothing could be compared.
    window : ndarray of int16
        Side in pixels of the window that gave the match; 0 where there is none.
    reason : ndarray of uint8
        Why there is no match, a value of `Reason`; 0 where there is one.
    """

    displacement_y: Floats
    displacement_x: Floats
    correlation: Floats
    window: NDArray[np.int16]
    reason: Codes

    @classmethod
    def none(cls, shape: tuple[int, int]) -> Self:
        """Return a grid without any match: nothing has been looked at."""
        return cls(
            np.full(shape, np.nan, np.float32),
            np.full(shape, np.nan, np.float32),
            np.full(shape, np.nan, np.float32),
            np.zeros(shape, np.int16),
            np.full(shape, Reason.BORDER, np.uint8),
        )

    @property
    def valid(self) -> Mask:
        """Where there is a match."""
        return np.isfinite(self.displacement_y)

    def without_isolated(self) -> Self:
        """Drop the matches that are not part of a square of three by three.

        Chance matches stand alone, and a field in pieces cannot be integrated.
        """
        alone = self.valid & ~ndimage.binary_opening(self.valid, np.ones((3, 3), np.bool_))
        return type(self)(
            np.where(alone, np.float32(np.nan), self.displacement_y),
            np.where(alone, np.float32(np.nan), self.displacement_x),
            self.correlation,
            np.where(alone, np.int16(0), self.window),
            np.where(alone, np.uint8(Reason.OUTLIER), self.reason),
        )


def windows_between(smallest: int, largest: int) -> list[int]:
    """Sides of the growing template, from the smallest to the largest, about doubling its area.

    Parameters
    ----------
    smallest, largest : int
        Odd numbers of pixels.

    Returns
    -------
    list of int
        Odd numbers, increasing.

    Examples
    --------
    >>> windows_between(11, 41)
    [11, 15, 21, 29, 41]
    >>> windows_between(21, 21)
    [21]
    """
    sides = [smallest]
    while sides[-1] < largest:
        sides.append(min(largest, int(sides[-1] * np.sqrt(2) / 2) * 2 + 1))
    return sides


def match_points(
    pairs: Sequence[tuple[MaskedImage, MaskedImage]],
    *,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    start_y: NDArray[np.floating],
    start_x: NDArray[np.floating],
    windows: list[int],
    search: int,
    good: float,
    demand_unique: bool,
    missing: float = MAX_MISSING,
    correlate: Correlator = correlate_opencv,
) -> Matches:
    """Match the points of a grid, with a template that grows where the peak is weak.

    A point is matched with the smallest window; where the peak is below `good`, or there is none,
    with the next larger one, until the largest.

    Parameters
    ----------
    pairs : sequence of (MaskedImage, MaskedImage)
        Sample and reference, with a margin of at least half the largest window, plus, in the
        reference, the search and the largest start. Of several pairs that share a displacement,
        the correlations are averaged.
    rows, columns : ndarray of int, shapes (n,) and (m,)
        Pixel coordinates of the grid.
    start_y, start_x : ndarray of float, shape (n, m)
        Displacement around which to search; NaN for a point that is not to be matched.
    windows : list of int
        Odd sides of the template, increasing.
    search : int
        Pixels searched on either side of the start.
    good : float
        Correlation at which the template stops growing.
    demand_unique : bool
        Whether a second peak nearly as high makes the point invalid.
    missing : float, default 0.05
        Largest fraction of a window that may be without data.
    correlate : callable, default `correlate_opencv`
        What finds the peaks.

    Returns
    -------
    Matches
        With shape (n, m). A peak on the edge of the search range or beside missing data, a window
        without pattern, and, on demand, an ambiguous peak are no match.
    """
    grid_y, grid_x = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    centre_y, centre_x = np.rint(start_y).ravel(), np.rint(start_x).ravel()
    best = Matches.none((grid_y.size, 1))
    pending = np.flatnonzero(np.isfinite(centre_y) & np.isfinite(centre_x))
    for window in windows:
        empty = np.zeros(pending.size, np.uint8)
        for sample, _ in pairs:
            empty = np.maximum(
                empty, _empty(sample, grid_y[pending], grid_x[pending], window, missing)
            )
        waits = ~best.valid[pending, 0]
        best.reason[pending[waits], 0] = empty[waits]
        usable = pending[empty == Reason.MATCHED]
        sample, reference = pairs[0]
        corner, shift = sample.margin - window // 2, reference.margin - window // 2 - search
        at_y, at_x = grid_y[usable], grid_x[usable]
        areas = Areas(
            window,
            search,
            missing * window**2,
            demand_unique,
            at_y + corner,
            at_x + corner,
            at_y - centre_y[usable].astype(np.intp) + shift,
            at_x - centre_x[usable].astype(np.intp) + shift,
        )
        peaks, patches, reasons = correlate(pairs, areas)
        masked = reasons == Reason.MASKED
        reasons[masked] = reference.why_missing(
            (areas.area_tops + search + peaks[:, 0])[masked],
            (areas.area_lefts + search + peaks[:, 1])[masked],
            window,
        )
        offset_y, offset_x, height = quadratic_peak(patches)
        found = np.isfinite(offset_y)
        index = usable[found]
        best.displacement_y[index, 0] = centre_y[index] - (peaks[found, 0] + offset_y[found])
        best.displacement_x[index, 0] = centre_x[index] - (peaks[found, 1] + offset_x[found])
        best.correlation[index, 0] = height[found]
        best.window[index, 0] = window
        best.reason[index, 0] = Reason.MATCHED
        fails = ~found & ~best.valid[usable, 0]
        lost, height = usable[fails], patches[fails, 1, 1]
        best.correlation[lost, 0] = height
        weak = (height < CHANCE) & ~np.isin(reasons[fails], ABSENT)
        best.reason[lost, 0] = np.where(weak, Reason.UNCORRELATED, reasons[fails])
        done = best.valid[pending, 0] & (best.correlation[pending, 0] >= good)
        pending = pending[~done]
        if pending.size == 0:
            break
    shape = start_y.shape
    return Matches(
        best.displacement_y.reshape(shape),
        best.displacement_x.reshape(shape),
        best.correlation.reshape(shape),
        best.window.reshape(shape),
        best.reason.reshape(shape),
    )


def _empty(
    image: MaskedImage,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    window: int,
    most: float,
) -> Codes:
    """Why the windows around these points hold no pattern; 0 where they hold one."""
    corner = image.margin - window // 2
    gaps = image.missing_pixels(rows + corner, columns + corner, window)
    # OpenCV gives a flat template a correlation of 1 everywhere.
    mean, deviation = image.moments(rows, columns, window)
    floor = FLAT * (np.abs(mean) + np.abs(mean - image.level))
    flat = np.where(deviation > floor, Reason.MATCHED, Reason.NO_STRUCTURE)
    lacking = image.why_missing(rows + corner, columns + corner, window)
    return np.where(gaps > most * window**2, lacking, flat).astype(np.uint8)
