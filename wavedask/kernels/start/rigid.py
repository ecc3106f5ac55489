"""The rigid translation between two whole frames, in whole pixels."""

import logging
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from wavedask.kernels.box import box_row
from wavedask.kernels.jit import INLINED, JIT, njit
from wavedask.kernels.start.correlation import correlate_compiled
from wavedask.kernels.start.images import MaskedImage, level_and_scale
from wavedask.kernels.start.matching import match_points

EVEN: Final = 31
"""Side in pixels of the boxes in which the mean and the contrast are made even."""
FLAT: Final = np.float32(1e-12)
"""Variance below which there is no contrast to be made even; images have about unit range."""
PROBES: Final = 7
"""Points along each axis at which a candidate shift is tried."""
PEAKS: Final = 5
"""Peaks of the correlation that are looked at..."""
SIMILAR: Final = 0.5
"""... and their height over that of the highest, at least."""
ALIKE: Final = 0.85
"""Height of the last of them over that of the highest from which the pattern may be periodic..."""
PERIODIC: Final = 0.5
"""... and is, if its correlation with itself has a second peak of this height."""
SPREAD_PEAKS: Final = 3
"""Peaks of the spread correlation that are looked at."""
HIGHEST: Final = 3.0
"""Standard deviations at which the spread correlation is cut off: one high value is no plateau."""

Floats = NDArray[np.float32]

logger = logging.getLogger(__name__)


def rigid_shift(
    sample: NDArray[Any], reference: NDArray[Any], *, window: int, search: int
) -> tuple[int, int]:
    """Find the displacement common to all pixels of a sample image.

    The correlation of the frames proposes shifts. One is kept where templates searched for around
    it correlate better than around no shift at all. If the field varies by more than a grain over
    the frame, the correlation has no single peak, but a plateau: then the places around which it is
    high on average are tried, too.

    Parameters
    ----------
    sample, reference : ndarray, shape (rows, columns)
        The pair; NaN is missing data.
    window : int
        Side of the templates in pixels, odd.
    search : int
        Pixels searched on either side of a candidate.

    Returns
    -------
    (int, int)
        Displacement (y, x) of the sample in pixels: ``sample(p) = reference(p - u)``.
    """
    flat = [_flattened(image) for image in (sample, reference)]
    proposals, periodic = _correlated(
        flat[0], flat[1], apart=window // 2, spread=max(search / 3, 1)
    )
    if periodic or all(max(map(abs, shift)) <= search // 4 for shift in proposals):
        # A periodic pattern has no single shift. Or the search around zero covers the shift, and
        # not to shift keeps the whole frame.
        return 0, 0
    # A displacement near the edge of the search would be lost where it varies, or the image is
    # reduced: such a match is no reason to stay.
    near = max(3 * search // 4, 1)
    candidates = [(0, 0), *proposals]
    image = MaskedImage(sample, margin=window // 2, window=window)
    reach = window + near + max(max(map(abs, shift)) for shift in candidates)
    target = MaskedImage(reference, margin=reach, window=window)
    quality = [_probe((image, target), shift, window=window, search=near) for shift in candidates]
    logger.debug("rigid shifts %s: correlations %s", candidates, quality)
    # Of equals the first, which is no shift at all if that does as well: rounding must not decide.
    return candidates[int(np.argmax(np.round(quality, 4)))]


def _correlated(
    sample: NDArray[np.float32], reference: NDArray[np.float32], *, apart: int, spread: float
) -> tuple[list[tuple[int, int]], bool]:
    """Shifts (y, x) at which two whole images correlate best, and whether the pattern is periodic.

    Not their phases: where grains are large, all high frequencies are noise, and that of the flat
    field is the same in both images.

    Parameters
    ----------
    sample, reference : ndarray of float32, shape (rows, columns)
        The images, without their slow variation.
    apart : int
        Pixels around a peak where there is no second one.
    spread : float
        Pixels over which a field may spread the peak.

    Returns
    -------
    shifts : list of (int, int)
        Up to `PEAKS` of similar height; if there are two or more, those of the spread correlation
        follow.
    periodic : bool
    """
    rows, columns = sample.shape
    hanning = cv2.createHanningWindow((columns, rows), cv2.CV_32F)
    spectra = [fft.rfft2(image * hanning, workers=1) for image in (sample, reference)]
    product = spectra[0]
    product *= np.conjugate(spectra[1], out=spectra[1])
    correlation = _inverse(product, sample.shape)
    found, heights = _peaks(correlation, most=PEAKS, apart=apart, similar=SIMILAR)
    if len(found) < 2:
        return found, False
    if len(found) == PEAKS and heights[-1] > ALIKE * heights[0]:
        power = np.square(np.abs(spectra[1]))
        _, own = _peaks(_inverse(power, sample.shape), most=2, apart=apart)
        if len(own) == 2 and own[1] > PERIODIC * own[0]:
            return found, True
    above = np.clip(correlation / correlation.std(), 0, HIGHEST) ** 2
    above = ndimage.gaussian_filter(above, spread, mode="wrap", truncate=3)
    wide, _ = _peaks(above, most=SPREAD_PEAKS, apart=max(apart, round(2 * spread)))
    return found + [shift for shift in wide if shift not in found], False


def _inverse(spectrum: NDArray[Any], shape: tuple[int, ...]) -> Floats:
    """Transform half a spectrum of single precision, and overwrite it."""
    return np.asarray(fft.irfft2(spectrum, s=shape, workers=1, overwrite_x=True), np.float32)


def _peaks(
    correlation: NDArray[np.floating], *, most: int, apart: int, similar: float = 0.0
) -> tuple[list[tuple[int, int]], list[float]]:
    """Highest peaks of a periodic correlation: their shifts (y, x), and their heights."""
    correlation = correlation.copy()
    rows, columns = correlation.shape
    found: list[tuple[int, int]] = []
    heights: list[float] = []
    around = np.arange(-apart, apart + 1)
    while len(found) < most:
        place = [int(k) for k in np.unravel_index(int(correlation.argmax()), correlation.shape)]
        height = float(correlation[place[0], place[1]])
        if not height > similar * max(heights, default=0.0):
            break
        heights.append(height)
        # A shift by more than half of the frame is one in the other direction.
        y, x = (
            k - size if k >= size - size // 2 else k
            for k, size in zip(place, correlation.shape, strict=True)
        )
        found.append((y, x))
        correlation[np.ix_((y + around) % rows, (x + around) % columns)] = -np.inf
    return found, heights


def _flattened(image: NDArray[Any]) -> Floats:
    """Take the slow variation out, which would hold the peak of the correlation at zero."""
    values = np.asarray(image, np.float32)
    known = np.isfinite(values)
    complete = bool(known.all())
    # Only ratios count: squares of any intensity must fit into single precision.
    level, scale = level_and_scale(values, known)
    if not complete:
        values = np.where(known, values, np.float32(level))
    out = np.empty(values.shape, np.float32)
    _flatten(values, known, complete, np.float32(level), np.float32(1 / scale), EVEN // 2, out)
    return out


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _box_sums(
    columns: NDArray[np.float64], half: int, wide: Floats, even: Floats, odd: Floats, out: Floats
) -> None:
    """Sum what stands in the columns over boxes along the row; nothing lies beyond its ends."""
    for x in range(columns.size):
        wide[half + x] = columns[x]
    box_row(wide, 2 * half + 1, even, odd, out)


@njit(**JIT)  # type: ignore[untyped-decorator]
def _flatten(
    image: Floats,
    known: NDArray[np.bool_],
    complete: bool,
    level: np.float32,
    factor: np.float32,
    half: int,
    out: Floats,
) -> None:
    """Divide the departure from the mean around each pixel by the deviation around it.

    An image is read and written once, row by row: the sums over boxes around a row follow from
    those of the row before. The mean of a row is known `half` rows after the row was read, and the
    deviation as many rows later.
    """
    rows, columns = image.shape
    side, zero = 2 * half + 1, np.float32(0)
    value, there = np.zeros(columns, np.float64), np.zeros(columns, np.float64)
    square = np.zeros(columns, np.float64)
    squares = np.zeros((side, columns), np.float32)
    counts = np.empty((half + 1, columns), np.float32)
    wide = np.zeros(columns + 2 * half, np.float32)
    even, odd, sums = np.empty_like(wide), np.empty_like(wide), np.empty(columns, np.float32)
    across = np.empty(columns, np.float32)
    for x in range(columns):
        across[x] = min(x + half, columns - 1) - max(x - half, 0) + 1
    for y in range(rows + 2 * half):
        if y < rows:
            for x in range(columns):
                value[x] += np.float64((image[y, x] - level) * factor)
        old = y - side
        if 0 <= old < rows:
            for x in range(columns):
                value[x] -= np.float64((image[old, x] - level) * factor)
        if not complete:
            if y < rows:
                for x in range(columns):
                    there[x] += known[y, x]
            if 0 <= old < rows:
                for x in range(columns):
                    there[x] -= known[old, x]
        middle = y - half
        if middle < 0:
            continue
        ring = squares[middle % side]
        for x in range(columns):
            square[x] -= np.float64(ring[x])
            ring[x] = zero
        if middle < rows:
            count = counts[middle % (half + 1)]
            if complete:
                down = np.float32(min(y, rows - 1) - max(middle - half, 0) + 1)
                for x in range(columns):
                    count[x] = down * across[x]
            else:
                _box_sums(there, half, wide, even, odd, count)
            _box_sums(value, half, wide, even, odd, sums)
            for x in range(columns):
                mean = sums[x] / max(count[x], np.float32(1))
                departure = (image[middle, x] - level) * factor - mean
                if not complete and not known[middle, x]:
                    departure = zero
                out[middle, x] = departure
                ring[x] = departure * departure
                square[x] += np.float64(ring[x])
        last = middle - half
        if last >= 0:
            count = counts[last % (half + 1)]
            _box_sums(square, half, wide, even, odd, sums)
            for x in range(columns):
                variance = max(sums[x], zero) / max(count[x], np.float32(1))
                out[last, x] *= np.float32(1) / np.sqrt(variance) if variance > FLAT else zero


def _probe(
    pair: tuple[MaskedImage, MaskedImage], shift: tuple[int, int], *, window: int, search: int
) -> float:
    """Mean correlation of some templates around a candidate shift, unmatched ones as zero."""
    shape = pair[0].shape
    grid = [np.linspace(0, length - 1, PROBES + 2)[1:-1].astype(np.intp) for length in shape]
    start = np.broadcast_to(np.array(shift, np.float32)[:, None, None], (2, PROBES, PROBES))
    matches = match_points(
        [pair],
        rows=grid[0],
        columns=grid[1],
        start_y=start[0],
        start_x=start[1],
        windows=[window],
        search=search,
        good=1.0,
        demand_unique=False,
        correlate=correlate_compiled,
    )
    return float(np.where(matches.valid, matches.correlation, 0).mean())


def shifted(image: NDArray[Any], shift: tuple[int, int]) -> NDArray[np.float32]:
    """Move an image by whole pixels; NaN where nothing moves in.

    Examples
    --------
    >>> import numpy as np
    >>> shifted(np.arange(4.0).reshape(2, 2), (0, 1))
    array([[nan,  0.],
           [nan,  2.]], dtype=float32)
    """
    rows, columns = image.shape
    y, x = (
        max(-size, min(size, int(step))) for step, size in zip(shift, (rows, columns), strict=True)
    )
    values = np.asarray(image, np.float32)
    if y == x == 0:
        return values
    out = np.full_like(values, np.nan)
    out[max(y, 0) : rows + min(y, 0), max(x, 0) : columns + min(x, 0)] = values[
        max(-y, 0) : rows - max(y, 0), max(-x, 0) : columns - max(x, 0)
    ]
    return out


def moved_part(
    image: NDArray[Any], corner: tuple[int, int], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Cut a part out of an image; minus infinity where it lies beyond the border of the frame.

    So the trackers tell pixels beyond the border from masked ones, which are NaN. To move an image
    by whole pixels is to cut a part that begins elsewhere. Nothing is copied that need not be.

    Parameters
    ----------
    image : ndarray, shape (rows, columns)
        The frame, or a piece of it that contains all of the part that lies in the frame.
    corner : (int, int)
        Row and column of the image at which the part begins; negative ones lie beyond its border.
    shape : (int, int)
        Rows and columns of the part.

    Returns
    -------
    ndarray of float32, shape `shape`

    Examples
    --------
    >>> import numpy as np
    >>> image = np.array([[0.0, np.nan], [2.0, 3.0]], np.float32)
    >>> moved_part(image, (0, -1), (2, 2))
    array([[-inf,   0.],
           [-inf,   2.]], dtype=float32)
    >>> np.shares_memory(moved_part(image, (1, 0), (1, 2)), image)
    True
    """
    starts = [min(max(first, 0), size) for first, size in zip(corner, image.shape, strict=True)]
    stops = [
        min(max(first + length, start), size)
        for first, length, start, size in zip(corner, shape, starts, image.shape, strict=True)
    ]
    values = np.asarray(image[starts[0] : stops[0], starts[1] : stops[1]], np.float32)
    if np.isneginf(values).any():
        values = np.where(np.isneginf(values), np.float32(np.nan), values)
    if values.shape == shape:
        return values
    out = np.full(shape, -np.inf, np.float32)
    top, left = (start - first for start, first in zip(starts, corner, strict=True))
    out[top : top + values.shape[0], left : left + values.shape[1]] = values
    return out
