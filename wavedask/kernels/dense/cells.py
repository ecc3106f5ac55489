"""Cells of an image, in which spectra are taken.

They are anchored to the frame, one in every square of `STRIDE` pixels: a quarter of the pixels is
enough, and the time is that of a quarter.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Floats = NDArray[np.float32]
Complex = NDArray[np.complex64]

CELL: Final = 48
"""Pixels along the side of a cell."""
STRIDE: Final = 96
"""Pixels from one cell to the next."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells along one axis of a block.

    Attributes
    ----------
    first : int
        First pixel of the first cell.
    size : int
        Pixels of a cell, an even number.
    count : int
        Cells.
    """

    first: int
    size: int
    count: int

    @classmethod
    def along(cls, length: int, origin: int) -> "Cells":
        """Lay cells out in a block of so many pixels, the first of them `origin` in the frame.

        Examples
        --------
        >>> Cells.along(300, 0)
        Cells(first=24, size=48, count=3)
        >>> Cells.along(200, 100)
        Cells(first=20, size=48, count=2)
        >>> Cells.along(31, 0)
        Cells(first=0, size=30, count=1)
        """
        first = ((STRIDE - CELL) // 2 - origin) % STRIDE
        if first + CELL > length:
            size = min(CELL, length // 2 * 2)
            return cls((length - size) // 2, size, 1)
        return cls(first, CELL, (length - first - CELL) // STRIDE + 1)

    @property
    def pixels(self) -> NDArray[np.intp]:
        """Pixels in cells, shape (count, size)."""
        return self.first + STRIDE * np.arange(self.count)[:, None] + np.arange(self.size)

    @property
    def centres(self) -> NDArray[np.intp]:
        """Pixels in the middle of the cells."""
        return self.first + self.size // 2 + STRIDE * np.arange(self.count)

    @property
    def share(self) -> Floats:
        """Weights that make the mean over all frequencies from the half that is kept."""
        weights = np.full(self.size // 2 + 1, 2 / self.size, np.float32)
        weights[0] = weights[-1] = 1 / self.size
        return weights


def cut(images: Floats, rows: NDArray[np.intp], cells: tuple[Cells, Cells]) -> Floats:
    """Cut the cells out of images.

    Parameters
    ----------
    images : ndarray of float32, shape (images, any rows, columns)
    rows : ndarray of int, shape (cell rows, rows)
        Where the rows of the cells are in `images`; they follow one another in each cell.
    cells : (Cells, Cells)
        The cells along y and x.

    Returns
    -------
    ndarray of float32, shape (images, cell rows, cell columns, rows, columns)
    """
    size = cells[0].size, cells[1].size
    out = np.empty((len(images), cells[0].count, cells[1].count, *size), np.float32)
    for i, top in enumerate(rows[:, 0].tolist()):
        for j, left in enumerate(cells[1].pixels[:, 0].tolist()):
            out[:, i, j] = images[:, top : top + size[0], left : left + size[1]]
    return out


def spectra_of(values: Floats, weights: Floats) -> Complex:
    """Fourier transform of cells whose border fades out; half of the frequencies are left out.

    Parameters
    ----------
    values, weights : ndarray of float32, shape (images, cell rows, cell columns, rows, columns)
        Weighted values, and the weights.

    Returns
    -------
    ndarray of complex64, shape (images, cell rows, cell columns, rows, columns // 2 + 1)
    """
    taper = np.outer(*(np.hanning(size + 2)[1:-1] for size in weights.shape[-2:]))
    total = np.maximum(weights.sum(axis=(3, 4), keepdims=True), 1)
    centred = values - weights * (values.sum(axis=(3, 4), keepdims=True) / total)
    return np.asarray(fft.rfft2(centred * taper.astype(np.float32), workers=1), np.complex64)
