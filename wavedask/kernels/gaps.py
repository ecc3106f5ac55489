"""Images of zero mean and unit deviation, with their gaps filled from around."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.jit import JIT, njit

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

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
