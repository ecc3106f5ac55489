"""Compilation of the kernels before they are needed."""

import numpy as np

from wavedask.kernels.dense import Dense
from wavedask.kernels.tile import Tile

SIDE = 48


def warm() -> None:
    """Compile the kernels, or load them from the disk, where the first call left them.

    The first call after an installation takes some twenty seconds, one in a new process half of
    one. Numba writes its files in one step each: processes that start together do no harm.

    Examples
    --------
    >>> warm()
    """
    image = np.random.default_rng(0).random((1, SIDE, SIDE), np.float32)
    Dense((11,), 2, 0.8, 3).track(image, image, Tile.whole(image.shape))
