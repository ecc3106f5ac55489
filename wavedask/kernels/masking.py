"""Pixels without a count: the masks of NumPy, and the codes that detectors write into images."""

import math
from collections.abc import Iterator
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

LARGEST: Final = (2**16 - 1, 2**32 - 1)
"""Counts that mark a masked or saturated pixel, if nothing in the image is larger."""
SMALLEST: Final = -2
"""Counts from here to -1 mark a masked pixel, if nothing in the image is smaller."""
LONGEST_RUN: Final = 63
"""Zeros in a row, or in a column, that are a gap; in a narrower frame it is a full line."""
BLOCK: Final = 15
"""Side of a square of zeros that is a gap; a shorter line of zeros is none."""
CHANCE: Final = 1e-3
"""Gaps per image, at most, that single counts of zero may make by chance."""


def filled(values: Any) -> NDArray[Any]:
    """Return a plain array, with NaN where a masked array is masked.

    Parameters
    ----------
    values : array_like
        Any array; a `numpy.ma.MaskedArray` of integers becomes one of floats.

    Returns
    -------
    ndarray
        The same array where nothing is masked.

    Examples
    --------
    >>> filled(np.ma.array([1, 2], mask=[False, True], dtype="u2"))
    array([ 1., nan], dtype=float32)
    """
    if not isinstance(values, np.ma.MaskedArray):
        return np.asarray(values)
    if not np.ma.is_masked(values):
        return np.asarray(values.data)
    return np.where(
        np.ma.getmaskarray(values), np.nan, values.data.astype(np.result_type(values, np.float32))
    )


def code_pixels(image: NDArray[Any], *, gaps: bool = True) -> Iterator[tuple[int, Mask]]:
    """Find the pixels of an image of integers that hold a code and no count.

    The codes that detectors are known to write: the largest number of 16 or 32 bits, if nothing in
    the image is larger; -1 and -2, if nothing in the image is smaller (an image from which a dark
    was subtracted has other negative values); and 0 where an area of modules or the space between
    them is zero. A single count of zero is no gap: as many zeros must be together as hardly ever
    come by chance, in a row, in a column or in a square.

    Parameters
    ----------
    image : ndarray, shape (y, x)
        One whole frame: a part of it may look different.
    gaps : bool, default True
        Whether to look for areas of zeros. Frames without beam are zero in many detectors.

    Yields
    ------
    code : int
        What the pixels hold.
    where : ndarray of bool, shape (y, x)
        These pixels.

    Examples
    --------
    >>> image = np.array([[5, 7, 65535]], np.uint16)
    >>> [(code, int(where.sum())) for code, where in code_pixels(image)]
    [(65535, 1)]
    """
    if image.dtype.kind not in "iu" or not image.size:
        return
    largest = int(image.max())
    if largest in LARGEST or (image.dtype.kind == "u" and _is_maximum(largest, image.dtype)):
        yield largest, image == image.dtype.type(largest)
    if image.dtype.kind == "i":
        smallest = int(image.min())
        if SMALLEST <= smallest < 0:
            for code in range(smallest, 0):
                where = image == code
                if where.any():
                    yield code, where
    if gaps:
        empty = zero_gaps(image)
        if empty is not None:
            yield 0, empty


def _is_maximum(value: int, dtype: np.dtype[Any]) -> bool:
    # 255 is an intensity like others: cameras of 8 bits have no masked pixels.
    return dtype.itemsize > 1 and value == np.iinfo(dtype).max


def zero_gaps(image: NDArray[Any]) -> Mask | None:
    """Find areas of zeros that are too large to be counts.

    Parameters
    ----------
    image : ndarray of integers, shape (y, x)
        One whole frame.

    Returns
    -------
    ndarray of bool, shape (y, x), or None
        None where there are none, or where the whole image is zero.

    Examples
    --------
    >>> image = np.ones((20, 30), np.uint16)
    >>> image[8:10] = 0
    >>> image[3, 3] = 0
    >>> np.flatnonzero(zero_gaps(image).any(axis=1)).tolist()
    [8, 9]
    """
    zero = (image == 0).view(np.uint8)
    count = cv2.countNonZero(zero)
    if count in (0, zero.size):
        return None
    rows, columns = zero.shape
    # The median of lines is that of the pixels between gaps, as long as gaps are not the most.
    odds = min(float(np.median(zero.mean(axis=axis))) for axis in (0, 1))
    needed = math.ceil(math.log(CHANCE / zero.size) / math.log(odds)) if 0 < odds < 1 else 1
    if odds == 1:
        return None
    along_x = max(needed, BLOCK, min(LONGEST_RUN, columns - 1))
    along_y = max(needed, BLOCK, min(LONGEST_RUN, rows - 1))
    side = max(BLOCK, math.ceil(math.sqrt(needed)))
    found = np.zeros_like(zero)
    # An opening with an even side would be shifted by a pixel.
    for height, width in ((1, along_x | 1), (along_y | 1, 1), (side | 1, side | 1)):
        if height <= rows and width <= columns:
            found |= cv2.morphologyEx(
                zero,
                cv2.MORPH_OPEN,
                np.ones((height, width), np.uint8),
                borderType=cv2.BORDER_CONSTANT,
                borderValue=0,
            )
    where = found.view(np.bool_)
    return where if where.any() else None
