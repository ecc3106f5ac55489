"""The rigid translation between two whole frames, in whole pixels."""

import logging
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from wavedask.kernels.start.matching import MaskedImage, level_and_scale, match_points

PROBES: Final = 7
"""Points along each axis at which a candidate shift is tried."""
PEAKS: Final = 5
"""Peaks of the correlation that are looked at..."""
SIMILAR: Final = 0.5
"""... and their height over that of the highest, at least."""
ALIKE: Final = 0.85
"""Height of the last of them over that of the highest that makes the pattern periodic."""

logger = logging.getLogger(__name__)


def rigid_shift(
    sample: NDArray[Any], reference: NDArray[Any], *, window: int, search: int
) -> tuple[int, int]:
    """Find the displacement common to all pixels of a sample image.

    The correlation of the frames proposes a shift; it is kept where templates searched for around
    it correlate better than around no shift at all. A field that varies by more than a grain over
    the frame has no single peak, and the proposal is then worth nothing.

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
    proposals, periodic = _correlated(flat[0], flat[1], apart=window // 2)
    if periodic or not proposals or max(map(abs, proposals[0])) <= search // 4:
        # A periodic pattern has no single shift. Or the search around zero covers the shift, and
        # not to shift keeps the whole frame.
        return 0, 0
    # A displacement near the edge of the search would be lost where it varies, or the image is
    # reduced: such a match is no reason to stay.
    near = max(3 * search // 4, 1)
    candidates = [(0, 0), *proposals]
    quality = [_probe(sample, reference, shift, window=window, search=near) for shift in candidates]
    logger.debug("rigid shifts %s: correlations %s", candidates, quality)
    return candidates[int(np.argmax(quality))]


def _correlated(
    sample: NDArray[np.float32], reference: NDArray[np.float32], *, apart: int
) -> tuple[list[tuple[int, int]], bool]:
    """Shifts (y, x) at which two whole images correlate best, and whether the pattern is periodic.

    Up to `PEAKS` shifts of similar height; if so many are nearly as high as the highest, it is.

    Not their phases: where grains are large, all high frequencies are noise, and that of the flat
    field is the same in both images.
    """
    rows, columns = sample.shape
    hanning = cv2.createHanningWindow((columns, rows), cv2.CV_32F)
    spectra = [fft.rfft2(image * hanning, workers=1) for image in (sample, reference)]
    product = spectra[0] * spectra[1].conj()
    correlation = fft.irfft2(product, s=sample.shape, workers=1, overwrite_x=True)
    correlation = np.roll(correlation, (rows // 2, columns // 2), (0, 1))
    highest = float(correlation.max())
    found: list[tuple[int, int]] = []
    lowest = highest
    while len(found) < PEAKS:
        y, x = (int(k) for k in np.unravel_index(int(correlation.argmax()), sample.shape))
        if not correlation[y, x] > SIMILAR * highest:
            break
        lowest = float(correlation[y, x])
        found.append((y - rows // 2, x - columns // 2))
        around = slice(max(y - apart, 0), y + apart + 1), slice(max(x - apart, 0), x + apart + 1)
        correlation[around] = -np.inf
    return found, len(found) == PEAKS and lowest > ALIKE * highest


def _flattened(image: NDArray[Any]) -> NDArray[np.float32]:
    """Take the slow variation out, which would hold the peak of the correlation at zero."""
    values = np.asarray(image, np.float32)
    missing = ~np.isfinite(values)
    # Only ratios count: squares of any intensity must fit into single precision.
    scale = np.float32(level_and_scale(values, ~missing)[1])
    filled = np.where(missing, 0, values / scale)
    size = (31, 31)
    weight = cv2.blur((~missing).astype(np.float32), size)
    mean = cv2.blur(filled, size) / np.maximum(weight, 1e-6)
    deviation = np.where(missing, 0, filled - mean).astype(np.float32)
    variance = cv2.blur(deviation**2, size)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, deviation / np.sqrt(variance), 0).astype(np.float32)


def _probe(
    sample: NDArray[Any],
    reference: NDArray[Any],
    shift: tuple[int, int],
    *,
    window: int,
    search: int,
) -> float:
    """Mean correlation of some templates around a candidate shift, unmatched ones as zero."""
    image = MaskedImage(sample, margin=window // 2, window=window)
    reach = window + search + max(map(abs, shift))
    target = MaskedImage(reference, margin=reach, window=window)
    grid = [np.linspace(0, length - 1, PROBES + 2)[1:-1].astype(np.intp) for length in sample.shape]
    start = np.broadcast_to(np.array(shift, np.float32)[:, None, None], (2, PROBES, PROBES))
    matches = match_points(
        [(image, target)],
        rows=grid[0],
        columns=grid[1],
        start_y=start[0],
        start_x=start[1],
        windows=[window],
        search=search,
        good=1.0,
        demand_unique=False,
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


def moved_in_frame(image: NDArray[Any], shift: tuple[int, int]) -> NDArray[np.float32]:
    """Move an image by whole pixels; minus infinity where nothing moves in.

    So the trackers tell pixels beyond the border of the frame from masked ones (NaN).

    Examples
    --------
    >>> import numpy as np
    >>> moved_in_frame(np.array([[0.0, np.nan], [2.0, 3.0]]), (0, 1))
    array([[-inf,   0.],
           [-inf,   2.]], dtype=float32)
    """
    values = np.asarray(image, np.float32)
    if np.isneginf(values).any():
        values = np.where(np.isneginf(values), np.float32(np.nan), values)
    out = shifted(values, shift)
    (rows, columns), (y, x) = image.shape, shift
    if y:
        out[slice(0, y) if y > 0 else slice(max(rows + y, 0), rows)] = -np.inf
    if x:
        out[:, slice(0, x) if x > 0 else slice(max(columns + x, 0), columns)] = -np.inf
    return out
