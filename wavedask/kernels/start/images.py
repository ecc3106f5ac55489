"""Images prepared for template matching: gaps filled, margins added, data counted."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.fields import Reason

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Codes = NDArray[np.uint8]


class MaskedImage:
    """An image prepared for matching: gaps filled, margins added, data counted.

    Parameters
    ----------
    image : ndarray of float, shape (rows, columns)
        Intensities; NaN marks a pixel without data, minus infinity one outside of the frame.
    margin : int
        Pixels without data added on every side, so that windows may reach over the border.
    window : int
        Side of the neighbourhood whose mean fills a gap.
    """

    def __init__(self, image: NDArray[np.floating], *, margin: int, window: int) -> None:
        missing = ~np.isfinite(image)
        # matchTemplate sums squares in single precision: without a level near zero, 60000 counts
        # of pedestal would drown a contrast of a few per cent, and 1e20 counts would overflow.
        level, self.scale = level_and_scale(image, ~missing)
        centred = np.empty(image.shape, np.float32)
        # In double precision, but without an array of it.
        np.subtract(image, np.float64(level), out=centred, dtype=np.float64, casting="same_kind")
        centred *= np.float32(1 / self.scale)
        if missing.any():
            centred[missing] = 0
            weight = cv2.blur((~missing).astype(np.float32), (window, window))
            mean = cv2.blur(centred, (window, window)) / np.maximum(weight, 1e-6)
            centred[missing] = mean[missing]
        self.shape = image.shape
        self.margin = margin
        self.level = level
        self.pixels = _pad(centred, margin)
        gaps = cv2.copyMakeBorder(
            missing.astype(np.uint8), *(margin,) * 4, borderType=cv2.BORDER_CONSTANT, value=1
        )
        self.gaps = cv2.integral(gaps)
        outside = np.isneginf(image).astype(np.uint8)
        beyond = cv2.copyMakeBorder(
            outside, *(margin,) * 4, borderType=cv2.BORDER_CONSTANT, value=1
        )
        self._beyond = cv2.integral(beyond)

    def moments(
        self, rows: NDArray[np.intp], columns: NDArray[np.intp], window: int
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Mean and standard deviation of the windows around some points of the image."""
        at = (rows + self.margin, columns + self.margin)
        mean = cv2.blur(self.pixels, (window, window))[at]
        square = cv2.sqrBoxFilter(self.pixels, cv2.CV_32F, (window, window))[at]
        deviation = np.sqrt(np.maximum(square - mean**2, 0))
        return self.level + self.scale * mean, self.scale * deviation

    def missing_pixels(
        self, top: NDArray[np.intp], left: NDArray[np.intp], side: int
    ) -> NDArray[np.int32]:
        """Count the pixels without data in square windows, given their corners (padded frame)."""
        return _boxes(self.gaps, top, left, side)

    def why_missing(self, top: NDArray[np.intp], left: NDArray[np.intp], side: int) -> Codes:
        """Tell whether square windows lack data for the border of the frame or for a mask."""
        beyond, missing = (_boxes(total, top, left, side) for total in (self._beyond, self.gaps))
        return np.where(2 * beyond >= missing, Reason.BORDER, Reason.MASKED).astype(np.uint8)

    def missing_candidates(self, top: int, left: int, side: int, candidates: int) -> Floats | None:
        """Count missing pixels in each candidate window of a search area; None if there are none.

        `top` and `left` are the corner of the area; there are ``candidates x candidates`` windows.
        """
        total = self.gaps
        bottom, right = top + side + candidates - 1, left + side + candidates - 1
        if (total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]) == 0:
            return None
        rows = slice(top, top + candidates)
        ends = slice(top + side, top + side + candidates)
        columns = slice(left, left + candidates)
        sides = slice(left + side, left + side + candidates)
        counts = total[ends, sides] - total[rows, sides] - total[ends, columns]
        return np.asarray(counts + total[rows, columns], np.float32)


def level_and_scale(image: NDArray[Any], known: Mask) -> tuple[float, float]:
    """Mean of an image, and a power of two near its largest departure from that.

    To divide by a power of two costs no digit, so that the result of a tile does not depend on it.

    Parameters
    ----------
    image : ndarray of float
        Intensities of any type.
    known : ndarray of bool
        Where there are data.

    Returns
    -------
    (float, float)
        The scale is 1 where the image is flat or has no data.

    Examples
    --------
    >>> level_and_scale(np.array([1e20, 3e20, np.nan]), np.array([True, True, False]))
    (2e+20, 7.378697629483821e+19)
    """
    values = image if known.all() else image[known]
    if not values.size:
        return 0.0, 1.0
    level = float(values.mean(dtype=np.float64))
    most = max(float(values.max()) - level, level - float(values.min()))
    if not most > 0:
        return level, 1.0
    return level, float(2.0 ** np.floor(np.log2(most)))


def _boxes(
    total: NDArray[Any], top: NDArray[np.intp], left: NDArray[np.intp], side: int
) -> NDArray[np.int32]:
    """Sum over squares, from the integral image."""
    counts = total[top + side, left + side] - total[top, left + side]
    counts -= total[top + side, left] - total[top, left]
    return np.asarray(counts, np.int32)


def _pad(image: Floats, margin: int) -> Floats:
    if margin == 0:
        return image
    # Repeating the edge, not the mean of the block: that would depend on the tiling.
    padded = cv2.copyMakeBorder(image, *(margin,) * 4, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(padded, np.float32)
