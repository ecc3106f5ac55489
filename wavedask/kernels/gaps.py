"""Images of zero mean and unit deviation, without single wrong pixels, their gaps filled."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.jit import JIT, njit

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

SPIKE: Final = 7.0
"""Distance of a pixel from the median around it that makes a spike, over the rms distance..."""
SURROUNDINGS: Final = 31
"""... within so many pixels along each axis."""
LEAST_USUAL: Final = 0.1
"""Mean distance around a pixel over that of the image, at least."""
SAMPLED: Final = 4
"""One pixel in so many, along each axis, gives the mean over the image."""
RELAXATIONS: Final = 12
"""Sweeps that fill the gaps of an image."""


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


def without_spikes(image: Floats) -> Floats:
    """Mark single pixels that stand out of their surroundings: hot, dead or hit by a cosmic ray.

    A pixel is compared with the median of the three by three around it, in units of how far the
    pixels around are from theirs. Speckle is smooth over a pixel, and its grains do not stand out.

    Parameters
    ----------
    image : ndarray of float32, shape (rows, columns)
        Intensities; what is not finite is a gap.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        The same with NaN there; the same array where nothing stands out.

    Examples
    --------
    >>> image = np.random.default_rng(0).poisson(100, (64, 64)).astype(np.float32)
    >>> image[20, 30] = 1000
    >>> np.argwhere(np.isnan(without_spikes(image))).tolist()
    [[20, 30]]
    """
    known = np.isfinite(image)
    if not known.any():
        return image
    values = image
    if not known.all():
        values = np.where(known, image, np.float32(image[known].mean(dtype=np.float64)))
    away = np.abs(values - cv2.medianBlur(values, 3))
    if not known.all():
        away[~known] = 0
    usual = np.float32(away[::SAMPLED, ::SAMPLED].mean())
    if not usual > 0:
        return image
    away /= usual
    # A spike must not hide its neighbours: it counts no more than others do.
    square = np.square(np.minimum(away, SPIKE))
    around = cv2.blur(square, (SURROUNDINGS, SURROUNDINGS))
    spikes = np.square(away) > SPIKE**2 * np.maximum(around, LEAST_USUAL**2)
    if not spikes.any():
        return image
    return np.where(spikes, np.float32(np.nan), image)


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
