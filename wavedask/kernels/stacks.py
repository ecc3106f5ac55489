"""Stacks of images that are not copied without need."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def stacked(images: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Stack images as `numpy.stack` does; one image alone is not copied.

    Examples
    --------
    >>> image = np.zeros((2, 3))
    >>> np.shares_memory(stacked([image]), image), stacked([image, image]).shape
    (True, (2, 2, 3))
    """
    return images[0][None] if len(images) == 1 else np.stack(images)
