"""A small tracking job that shows whether a cluster computes what this process computes."""

from typing import Final

import numpy as np
import xarray as xr

from wavedask.conventions import FRAME, X, Y
from wavedask.simulate import displaced_pair
from wavedask.tracking import track

SIDE: Final = 96
FRAMES: Final = 4
WINDOW: Final = 11
SEARCH: Final = 4


def trial() -> xr.Dataset:
    """Make a lazy tracking of simulated frames, each of them one block.

    Returns
    -------
    xarray.Dataset
        As of `wavedask.track`; nothing is computed yet.

    Examples
    --------
    >>> trial().displacement_y.chunks[0]
    (1, 1, 1, 1)
    """
    pairs = [
        displaced_pair((SIDE, SIDE), displacement_x=0.5 * frame, seed=frame)
        for frame in range(FRAMES)
    ]
    sample, reference = (
        xr.DataArray(np.stack(images), dims=(FRAME, Y, X)).chunk({FRAME: 1})
        for images in (
            [pair.sample for pair in pairs],
            [pair.reference for pair in pairs],
        )
    )
    return track(sample, reference, window=WINDOW, search=SEARCH)


def same_bits(found: xr.Dataset, expected: xr.Dataset) -> bool:
    """Whether two results are equal to the last bit, gaps included.

    Parameters
    ----------
    found, expected : xarray.Dataset
        Computed results.

    Returns
    -------
    bool

    Examples
    --------
    >>> import dask
    >>> with dask.config.set(scheduler="threads"):
    ...     same_bits(trial().compute(), trial().compute())
    True
    """
    return set(found) == set(expected) and all(
        found[name].values.tobytes() == expected[name].values.tobytes() for name in expected
    )
