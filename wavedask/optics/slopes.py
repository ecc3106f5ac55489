"""Functions fitted to the slopes of one map.

The slopes are what was measured. A fit to them needs no integration, and the relative heights of
separate pieces do not matter.
"""

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.fft

from wavedask.errors import InputError
from wavedask.kernels.surface import AREA
from wavedask.optics.pieces import WORST_CONDITION, numbered_pieces

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

POINTS: Final = 100_000
"""Number of points whose gradients are in memory at a time."""
CELLS_PER_WINDOW: Final = 4
"""Cells along a window, at least."""
LEAST_CELLS: Final = 64
"""Cells along a map, at least, in which smooth functions are seen."""
LEAST_BLOCKS: Final = 40
"""Blocks from whose means noise of large waves is estimated."""
LEAST_VARIANCE: Final = 1e-6
"""No slope counts more than one whose variance is this part of the mean one."""


Gradients = Callable[[slice], Floats]
"""Gradients of functions at some of the points: shape (2, functions, points)."""


class SlopeFit(NamedTuple):
    """Functions fitted to slopes.

    Attributes
    ----------
    coefficients : ndarray of float64, shape (count,)
        In the unit of the slopes over that of the gradients.
    covariance : ndarray of float64, shape (count, count)
    explained : float
        Part of the variance of the slopes about their mean that the functions explain.
    """

    coefficients: Floats
    covariance: Floats
    explained: float


class Slopes:
    """Slopes of one map in cells, with their weights and errors.

    Functions that are fitted are smooth, and errors of neighbouring slopes are correlated. Means
    over cells hold all that matters, and take much less time than pixels.

    Parameters
    ----------
    slope_y, slope_x : ndarray of float64, shape (y, x)
        NaN where there are none.
    y, x : ndarray of float64, shapes (y,) and (x,)
        Positions, in any unit.
    inside : ndarray of bool, shape (y, x), optional
        Points that may be used.
    sigma : (ndarray, ndarray), optional
        Standard errors of the slopes; without them the noise is estimated from what a fit leaves.
    window : float
        Side in pixels of the window within which errors are the same.
    cells : int
        Cells along the shorter side of the map, at least, where it has as many pixels.

    Attributes
    ----------
    valid : ndarray of bool, shape (y, x)
        Pixels that are used.
    y, x : ndarray of float64, shape (points,)
        Mean positions of the pixels of each cell.
    values : ndarray of float64, shape (2, points)
        Mean slopes.
    count : ndarray of float64, shape (points,)
        Pixels in each cell.
    piece : ndarray of int, shape (points,)
        Number of the separate piece of the map in which a cell lies.
    """

    def __init__(
        self,
        slope_y: Floats,
        slope_x: Floats,
        *,
        y: Floats,
        x: Floats,
        inside: Mask | None = None,
        sigma: tuple[Floats, Floats] | None = None,
        window: float = 1.0,
        cells: int = LEAST_CELLS,
    ) -> None:
        valid = np.isfinite(slope_y) & np.isfinite(slope_x)
        if inside is not None:
            valid &= inside
        if sigma is not None:
            valid &= np.isfinite(sigma[0]) & np.isfinite(sigma[1])
        self.valid: Mask = valid
        rows, columns = np.nonzero(valid)
        pieces = numbered_pieces(valid)[rows, columns]
        span = [int(np.ptp(part)) + 1 if part.size else 1 for part in (rows, columns)]
        side = max(int(window) // CELLS_PER_WINDOW, min(span) // (2 * cells))
        self._side = max(1, min(side, min(span) // cells))
        shape = tuple(-(-size // self._side) for size in valid.shape)
        number = (rows // self._side) * shape[1] + columns // self._side
        # A cell that a gap divides is one on each side.
        kept, first, where = np.unique(
            pieces * (shape[0] * shape[1]) + number, return_index=True, return_inverse=True
        )
        self._place, self._shape = number[first], shape
        self.piece = pieces[first]
        self.count = np.bincount(where, minlength=kept.size).astype(np.float64)

        def mean(values: Floats) -> Floats:
            return np.asarray(np.bincount(where, values, kept.size) / self.count, np.float64)

        self.y, self.x = mean(y[rows]), mean(x[columns])
        pixels = np.stack([part[valid] for part in (slope_y, slope_x)])
        self.values: Floats = np.stack([mean(part) for part in pixels])
        if sigma is None:
            self._variance = None
            self._weights = np.broadcast_to(self.count, self.values.shape)
        else:
            self._variance = np.stack([mean(np.square(part[valid])) for part in sigma])
            least = LEAST_VARIANCE * self._variance.max(axis=1, keepdims=True, initial=0)
            least = np.where(least > 0, least, 1.0)
            self._weights = self.count / np.maximum(self._variance, least)
        self._window = window

    def normal(self, gradients: Gradients, count: int, values: Floats) -> tuple[Floats, Floats]:
        """Sum up the normal equations of `count` functions for slopes `values`."""
        normal, right = np.zeros((count, count)), np.zeros(count)
        for block in self._blocks():
            for modes, slope, weight in zip(
                gradients(block),
                values[:, block],
                self._weights[:, block],
                strict=True,
            ):
                weighted = modes * weight
                normal += weighted @ modes.T
                right += weighted @ slope
        return normal, right

    def explained(self, left: Floats) -> float:
        """Part of the variance of the slopes about their mean that is not in `left`."""
        weights = self._weights
        mean = (weights * self.values).sum(axis=1, keepdims=True) / weights.sum(
            axis=1, keepdims=True
        )
        whole = float((weights * (self.values - mean) ** 2).sum())
        return 1 - float((weights * left**2).sum()) / whole if whole > 0 else math.nan

    def fit(self, gradients: Gradients, count: int) -> SlopeFit:
        """Fit functions by least squares, weighted with the errors of the slopes.

        Errors have the spectrum of the tracker: flat, of the density ``AREA * window^2`` variances,
        up to its low-pass. For functions that are smooth on that scale, weights of one over the
        variance are those of generalised least squares; the covariance counts the low-pass at the
        rim, too.

        Raises
        ------
        InputError
            Slopes that do not tell the functions apart.
        """
        normal, right = self.normal(gradients, count, self.values)
        inverse = self.inverse(normal)
        coefficients = inverse @ right
        left = self.left(gradients, coefficients)
        covariance = self.covariance(gradients, inverse, left)
        return SlopeFit(coefficients, covariance, self.explained(left))

    def inverse(self, normal: Floats) -> Floats:
        """Invert normal equations."""
        scale = 1 / np.sqrt(np.maximum(np.diag(normal), np.finfo(np.float64).tiny))
        scaled = normal * np.outer(scale, scale)
        if not np.isfinite(normal).all() or np.linalg.cond(scaled) > WORST_CONDITION:
            raise InputError(
                f"{self.y.size} points with slopes do not tell {len(normal)} modes apart",
                "Ask for fewer modes, or give center and half_width of the pupil in m.",
            )
        return np.asarray(np.linalg.inv(scaled) * np.outer(scale, scale), np.float64)

    def left(self, gradients: Gradients, coefficients: Floats) -> Floats:
        """Slopes without the functions, shape (2, points)."""
        left = self.values.copy()
        for block in self._blocks():
            left[:, block] -= np.einsum("m,amp->ap", coefficients, gradients(block))
        return left

    def covariance(
        self, gradients: Gradients, inverse: Floats, left: Floats, first: int | None = None
    ) -> Floats:
        """Compute the covariance of the `first` coefficients, by default of all."""
        if self._variance is not None:
            density = self._variance * max(AREA * self._window**2, 1.0)
        else:
            known = np.bincount(self._place, self.count, math.prod(self._shape))
            sums = [
                np.bincount(self._place, part * self.count, math.prod(self._shape)) for part in left
            ]
            level = sum(
                _long_variance(part.reshape(self._shape), known.reshape(self._shape))
                for part in sums
            )
            density = np.full(left.shape, level / 2)
        # What independent sources of unit density do to the coefficients, cell by cell.
        moved = inverse[:first]
        pushed = np.zeros((2, len(moved), math.prod(self._shape)))
        strength = self._weights * np.sqrt(density)
        for block in self._blocks():
            values = np.einsum("cm,amp->acp", moved, gradients(block)) * strength[:, None, block]
            for axis, mode in np.ndindex(pushed.shape[:2]):
                pushed[axis, mode] += np.bincount(
                    self._place[block], values[axis, mode], pushed.shape[2]
                )
        covariance = np.zeros((len(moved), len(moved)))
        for part in pushed:
            # The density is that of pixels, and a cell has more of them.
            cells = part.reshape(-1, *self._shape)
            covariance += _passed(cells, self._window / self._side) / self._side**2
        return covariance

    def _blocks(self) -> list[slice]:
        return [slice(start, start + POINTS) for start in range(0, self.y.size, POINTS)]


def _passed(pushed: Floats, window: float) -> Floats:
    """Sum products of maps, shape (modes, y, x), over the frequencies that a tracker passes.

    White noise of unit density that a low-pass with sides of `window` cells has passed, multiplied
    with the maps and summed up: the covariance of the sums.
    """
    if window <= 1:
        flat = pushed.reshape(len(pushed), -1)
        return np.asarray(flat @ flat.T)
    # Padded by one window, so that noise of one side does not wrap around to the other.
    shape = tuple(scipy.fft.next_fast_len(size + int(window) + 1) for size in pushed.shape[1:])
    frequency = np.hypot(scipy.fft.fftfreq(shape[0])[:, None], scipy.fft.fftfreq(shape[1]))
    inside = frequency < 1 / (math.sqrt(math.pi * AREA) * window)
    spectra = np.stack([scipy.fft.fft2(one, shape, workers=1)[inside] for one in pushed])
    return np.asarray((spectra @ spectra.conj().T).real / math.prod(shape))


def _doubled(values: Floats) -> Floats:
    """Sum over squares of two by two; those at the far end may be cut."""
    rows, columns = (np.arange(0, size, 2) for size in values.shape)
    return np.asarray(np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1))


def _long_variance(sums: Floats, count: Floats) -> float:
    """Spectral density of noise at low frequencies, from sums over pixels and their number.

    Of independent values it is their variance; of correlated ones it is as much larger as they are
    fewer. Blocks are doubled as long as there are enough of them, and the largest counts.
    """
    largest = 0.0
    while True:
        full = count > count.max() / 2
        if np.count_nonzero(full) < LEAST_BLOCKS:
            return largest
        largest = max(largest, float((sums[full] ** 2 / count[full]).mean()))
        sums, count = _doubled(sums), _doubled(count)
