"""Matching in (scan, pixel) space: the delay between the signals of two pixels along a scan.

A membrane is scanned in small steps, and each pixel records a signal along the scan. With the
signals of the pixels in a window around each pixel,

    sample(i) = g reference(i - d) + o,

where `i` are positions in a plane of two axes: both motors of a mesh, or, for a scan of one motor,
the detector pixels across it and the motor. Each window has its own gain g and each pixel its own
offset o, so that structure that does not move with the membrane (stripes of the beam, dirt on the
screen) has no effect. A search over whole delays comes first, then Gauss-Newton steps,

    H dd = g cov(w, grad s) - cov(s, grad s),    H = cov(grad s, grad s),

where w is the reference, delayed by a cubic spline. The gradient is taken from the sample: its
noise is independent of the noise of w, so that the smoothing of the spline does not bias the delay.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded

from wavedask.kernels.fields import NO_MATCH, Reason
from wavedask.kernels.gaps import RELAXATIONS, fill_gaps
from wavedask.kernels.grids import median_of
from wavedask.kernels.jit import JIT, njit
from wavedask.kernels.scan.delays import (
    COUNT,
    DELAY_1,
    DELAY_2,
    GAIN,
    H11,
    H12,
    H22,
    LEAST_COVERED,
    LEVEL_S,
    LEVEL_W,
    PIXELS,
    SETTLED,
    SS,
    UNEXPLAINED,
    WS,
    WW,
    refine,
)
from wavedask.kernels.scan.lags import NOWHERE, whole_delays
from wavedask.kernels.spline import NEGLIGIBLE
from wavedask.kernels.start import shifted
from wavedask.kernels.uncertainty import SplineNoise, refined_uncertainty

Floats = NDArray[np.float32]
CORRELATION: Final = 4
"""Row of `Fields` that keeps what was seen where there is no match."""
Mask = NDArray[np.bool_]

SPLINE_REACH: Final = 14
"""Distance in pixels beyond which a sample has no effect on a spline."""
STEEPEST: Final = 0.5
"""Largest change of the delay per pixel, in steps or pixels, that a window follows."""
OUTLIER: Final = 1.0
"""Distance of an outlier from the median of its neighbours, in steps or pixels, on top of five
standard errors."""
GRADIENT_REACH: Final = 3
"""Samples on either side that a derivative uses."""
ROUNDING: Final = 2e-7
"""Relative rounding error of sums in float32."""
LEAST_POSITIONS: Final = 5
"""Smallest number of positions along an axis of a scan."""
LEAST_OVERLAP: Final = 3
"""Smallest number of positions, along each axis, that both signals must share."""


@cache
def derivative_filter(reach: int) -> NDArray[np.float64]:
    """Weights of the samples around one for its derivative (Savitzky & Golay 1964, third order).

    Examples
    --------
    >>> derivative_filter(1)
    array([-0.5,  0. ,  0.5])
    """
    # The slope, at its centre, of the polynomial that fits the samples best.
    powers = np.vander(np.arange(-reach, reach + 1), min(3, 2 * reach) + 1, increasing=True)
    weights = np.linalg.pinv(powers)[1]
    return np.asarray((weights - weights[::-1]) / 2)


@dataclass(frozen=True, slots=True)
class ScanMatch:
    """Settings of a match in (scan, pixel) space.

    Attributes
    ----------
    line : bool
        Whether one motor was scanned, along the columns; the first axis is then the rows of the
        detector. Otherwise the two axes are the motors of a mesh.
    window : (int, int)
        Rows and columns of pixels that share one delay, odd.
    search : (int, int)
        Largest delays of the search along the two axes, in steps (first axis of a line: px).
    centre : (int, int), default (0, 0)
        Delay at the centre of the search.
    least : float, default 0.5
        Correlation below which there is no match.
    """

    line: bool
    window: tuple[int, int]
    search: tuple[int, int]
    centre: tuple[int, int] = (0, 0)
    least: float = 0.5

    @property
    def halo(self) -> tuple[int, int]:
        """Rows and columns around a block that its result depends on."""
        # Three rounds look at neighbours: outliers, the slope of a window, and outliers again.
        rows, columns = (3 * side + side // 2 for side in self.window)
        if self.line:
            rows += self.search[0] + abs(self.centre[0]) + SPLINE_REACH
        return rows, columns

    def match(self, sample: Floats, reference: Floats) -> Floats:
        """Find the delay of every pixel of a block.

        Parameters
        ----------
        sample, reference : ndarray of float32, shape (first, second, rows, columns)
            Frames by their position in the scan; `first` is 1 for a line. A pixel that is NaN in
            any frame has no data.

        Returns
        -------
        ndarray of float32, shape (9, rows, columns)
            The rows are those of `Fields`, with ``sample(i) = g reference(i - delay) + o``: delay
            and its standard error along the first and the second axis, in steps or px,
            correlation, the side of a square as large as the window, transmission and dark field.
        """
        known_s, known_r = (
            np.ascontiguousarray(np.isfinite(images).all(axis=(0, 1)))
            for images in (sample, reference)
        )
        s, level_s = _centred(sample, known_s, fill=self.line)
        r, level_r = _centred(reference, known_r, fill=self.line)
        lags = whole_delays(
            s, r, known_s, known_r, self.window, self.search, self.centre, self.line
        )
        axis = 2 if self.line else 0
        first, second = s.shape[axis], s.shape[1]
        gradients = [_along(s, derivative(n), axis=a) for n, a in ((first, axis), (second, 1))]
        splines = _along(
            _along(r, spline_coefficients(second), axis=1), spline_coefficients(first), axis=axis
        )
        stacks = [_by_pixel(images) for images in (s, *gradients, splines)]

        def refined(start: Floats, started: Mask, slopes: Floats) -> Floats:
            found = refine(
                *stacks,
                level_s,
                level_r,
                known_s,
                known_r,
                start,
                started,
                slopes,
                SplineNoise.of_order(3).displaced,
                self.window,
                self.search,
                self.centre,
                self.line,
            )
            return self._fields(found)

        started = lags[0] != NOWHERE
        before = np.where(started, Reason.MATCHED, self._why_not_started(s, known_s))
        level = np.zeros((4, *started.shape), np.float32)
        fields = refined(np.where(started, lags, 0).astype(np.float32), started, level)
        if self.window != (1, 1):
            # Again, with windows that follow the change of the delay across them.
            started = np.isfinite(fields[0])
            slopes = [self._slope(fields[k], started, axis) for k in (0, 1) for axis in (0, 1)]
            start = np.where(started, fields[:2], np.float32(0))
            before = np.where(started, Reason.MATCHED, np.maximum(before, fields[-1]))
            fields = refined(start, started, np.stack(slopes))
        missing = fields[-1] > 0
        fields[-1][missing] = np.where(before > 0, before, fields[-1])[missing]
        return fields

    def _why_not_started(self, sample: Floats, known: Mask) -> NDArray[np.uint8]:
        """Tell where a window has no data, or is flat; elsewhere the search was too short."""
        box = self.window[::-1]
        empty = cv2.blur(known.astype(np.float32), box) == 0
        flat = cv2.blur(np.abs(sample).max(axis=(0, 1)), box) == 0
        reason = np.where(flat, Reason.NO_STRUCTURE, Reason.SEARCH_LIMIT)
        return np.where(empty, Reason.MASKED, reason).astype(np.uint8)

    def _slope(self, delay: Floats, known: Mask, axis: int) -> Floats:
        """Change of a delay per pixel along an axis, by a line fit around every pixel."""
        size = (2 * self.window[1] + 1, 2 * self.window[0] + 1)

        def total(values: NDArray[Any]) -> NDArray[np.float64]:
            box = cv2.boxFilter(
                values.astype(np.float64), -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT
            )
            return np.asarray(box, np.float64)

        place = np.arange(delay.shape[axis], dtype=np.float64)
        place = np.where(known, place[:, None] if axis == 0 else place[None], 0)
        values = np.where(known, delay, 0)
        count, mean_p, mean_d = total(known), total(place), total(values)
        spread = count * total(place**2) - mean_p**2
        common = count * total(place * values) - mean_p * mean_d
        slope = np.where(spread > 0, common / np.maximum(spread, 1), 0)
        return np.clip(slope, -STEEPEST, STEEPEST).astype(np.float32)

    def _fields(self, found: Floats) -> Floats:
        """Convert the result of `refine` to fields, and mark the pixels without a match."""
        count, pixels = found[COUNT], found[PIXELS]
        delays = found[DELAY_1], found[DELAY_2]
        with np.errstate(divide="ignore", invalid="ignore"):
            correlation = found[WS] / np.sqrt(found[SS] * found[WW])
            transmission = found[LEVEL_S] / found[LEVEL_W]
            freedom = count - pixels - UNEXPLAINED
            # For images without noise, the residual is the rounding error of the sums.
            unexplained = found[SS] - found[WS] ** 2 / found[WW]
            residual = np.maximum(unexplained, ROUNDING * found[SS]) / freedom
            error_1, error_2, drowned = refined_uncertainty(
                residual,
                count,
                (found[H11] / count, found[H12] / count, found[H22] / count),
                delays,
                order=3,
                blur=1,
                gradient=float(np.sum(derivative_filter(GRADIENT_REACH) ** 2)),
            )
            fields = np.stack(
                [
                    *delays,
                    error_1,
                    error_2,
                    correlation,
                    np.full_like(count, np.sqrt(self.window[0] * self.window[1])),
                    transmission,
                    found[GAIN] / transmission,
                ]
            )
        scarce = pixels < LEAST_COVERED * self.window[0] * self.window[1]
        reason = np.select(
            [scarce, drowned, found[SETTLED] == 0, ~(correlation >= self.least)],
            [Reason.MASKED, Reason.NO_STRUCTURE, Reason.NOT_CONVERGED, Reason.UNCORRELATED],
            Reason.MATCHED,
        )
        finite = (freedom > 0) & np.isfinite(fields[:4]).all(axis=0)
        reason = np.where((reason == Reason.MATCHED) & ~finite, Reason.NO_STRUCTURE, reason)
        known = reason == Reason.MATCHED
        reason[self._outliers(fields, known)] = Reason.OUTLIER
        known = reason == Reason.MATCHED
        for field, mark in zip(fields, NO_MATCH[:-1], strict=True):
            field[~known] = mark
        fields[CORRELATION] = correlation  # kept for rejected pixels too
        return np.concatenate([fields, reason[None].astype(np.float32)])

    def _outliers(self, fields: Floats, known: Mask) -> Mask:
        """Mark pixels that disagree with neighbours whose windows do not overlap theirs."""
        rows, columns = self.window
        far = np.zeros_like(known)
        for delay, error in zip(fields[:2], fields[2:4], strict=True):
            there = np.where(known, delay, np.float32(np.nan))
            around = [
                shifted(there, (y * rows, x * columns))
                for y in (-1, 0, 1)
                for x in (-1, 0, 1)
                if (y, x) != (0, 0)
            ]
            distance = np.abs(there - median_of(np.stack(around)))
            far |= distance > OUTLIER + 5 * error
        return far


def _centred(images: Floats, known: Mask, *, fill: bool) -> tuple[Floats, Floats]:
    """Subtract the mean over the scan from every pixel; return both."""
    with np.errstate(invalid="ignore"):
        level = images.mean(axis=(0, 1), dtype=np.float64)
        out = np.ascontiguousarray(np.where(known, images - level, 0), np.float32)
    if fill and not known.all():
        rows, columns = np.nonzero(~known)
        for image in out.reshape(-1, *known.shape):
            fill_gaps(image, rows, columns, RELAXATIONS)
    return out, np.ascontiguousarray(np.where(known, level, 0), np.float32)


def _by_pixel(images: Floats) -> Floats:
    return np.ascontiguousarray(images.transpose(2, 3, 0, 1))


@cache
def spline_coefficients(n: int) -> NDArray[np.float32]:
    """Matrix from `n` samples to the `n + 2` coefficients of their cubic spline.

    The end condition is "not a knot": one cubic over the first and one over the last two intervals.
    A scan has no symmetry that another end condition could assume.

    Parameters
    ----------
    n : int
        Samples, at least 4.

    Returns
    -------
    ndarray of float32, shape (n + 2, n)
        Row k belongs to the B-spline around sample k - 1. Negligible entries are zero.

    Examples
    --------
    >>> wanted = np.arange(-1.0, 10.0)
    >>> bool(np.allclose(spline_coefficients(9) @ np.arange(9.0), wanted, atol=1e-5))
    True
    """
    # Bands of the system, from the third above the diagonal to the third below.
    bands = np.zeros((9, n + 2))
    middle = np.arange(1, n + 1)
    for offset, value in ((-1, 1 / 6), (0, 4 / 6), (1, 1 / 6)):
        bands[4 - offset, middle + offset] = value
    for offset, value in enumerate((1.0, -4.0, 6.0, -4.0, 1.0)):
        bands[4 - offset, offset] = value
        bands[4 + offset, n + 1 - offset] = value
    right = np.zeros((n + 2, n))
    right[middle, middle - 1] = 1
    matrix = solve_banded((4, 4), bands, right)
    matrix[np.abs(matrix) < NEGLIGIBLE] = 0
    return np.ascontiguousarray(matrix, np.float32)


@cache
def derivative(n: int) -> NDArray[np.float32]:
    """Matrix from `n` samples to their derivatives, by antisymmetric filters.

    The filters are those of Savitzky and Golay with seven points and third order. The steps of a
    scan are much finer than a grain, and the derivative of a spline has five times the noise. Near
    the ends, the filters shrink to the samples that exist on both sides; the first and the last
    sample have no derivative. A filter that is not antisymmetric would correlate the noise of a
    sample with its own derivative and bias the delay. The filters need not be exact, because they
    weight a residual that vanishes at the true delay.

    Parameters
    ----------
    n : int
        Samples.

    Returns
    -------
    ndarray of float32, shape (n, n)

    Examples
    --------
    >>> bool(np.allclose(derivative(9) @ np.arange(9.0), [0, 1, 1, 1, 1, 1, 1, 1, 0]))
    True
    """
    matrix = np.zeros((n, n))
    for row in range(1, n - 1):
        reach = min(row, n - 1 - row, GRADIENT_REACH)
        matrix[row, row - reach : row + reach + 1] = derivative_filter(reach)
    return np.asarray(matrix, np.float32)


def _along(images: Floats, matrix: Floats, *, axis: int) -> Floats:
    """Apply a banded matrix along an axis of a stack of frames."""
    before = int(np.prod(images.shape[:axis]))
    shape = (*images.shape[:axis], len(matrix), *images.shape[axis + 1 :])
    out = np.zeros((before, len(matrix), int(np.prod(images.shape[axis + 1 :]))), np.float32)
    _multiply(matrix, images.reshape(before, images.shape[axis], -1), out)
    return out.reshape(shape)


@njit(**JIT)  # type: ignore[untyped-decorator]
def _multiply(matrix: Floats, values: Floats, out: Floats) -> None:
    for n in range(values.shape[0]):
        for j in range(matrix.shape[0]):
            row = out[n, j]
            for k in range(matrix.shape[1]):
                q = matrix[j, k]
                if q != 0:
                    column = values[n, k]
                    for i in range(row.size):
                        row[i] += q * column[i]
