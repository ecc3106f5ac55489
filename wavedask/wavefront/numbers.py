"""Numbers of a frame: how much of it was matched, and how large its wavefront is."""

from typing import Final

import numpy as np
import xarray as xr

from wavedask.conventions import (
    MATCHED,
    REASON,
    WAVEFRONT,
    WAVEFRONT_PV,
    WAVEFRONT_RMS,
    Quantity,
    X,
    Y,
)
from wavedask.kernels.fields import Reason
from wavedask.units import relabelled

MAP: Final = (Y, X)


def frame_numbers(result: xr.Dataset) -> xr.Dataset:
    """Compute the numbers that tell at a glance what a frame shows.

    Parameters
    ----------
    result : xarray.Dataset, dims ([frame], y, x)
        Result of `wavedask.track` or `wavedask.wavefront`.

    Returns
    -------
    xarray.Dataset
        Along ``frame``, where `result` has it, lazy if `result` is. As far as `result` has the maps
        for them:

        * ``matched_share``: fraction of the pixels that have a displacement; pixels outside of a
          pupil do not count,
        * ``wavefront_rms``: root mean square of the wavefront about its mean, in m,
        * ``wavefront_pv``: its largest minus its smallest value, in m.

        A frame without any pixel is NaN.

    Examples
    --------
    >>> maps = {
    ...     "wavefront": (("y", "x"), [[1e-9, -1e-9], [1e-9, np.nan]]),
    ...     "reason": (("y", "x"), np.array([[0, 0], [0, 4]], np.uint8)),
    ... }
    >>> numbers = frame_numbers(xr.Dataset(maps))
    >>> float(numbers.matched_share), float(numbers.wavefront_pv)
    (0.75, 2e-09)
    """
    numbers: dict[str, xr.DataArray] = {}

    def add(array: xr.DataArray, quantity: Quantity) -> None:
        numbers[quantity.name] = relabelled(array, quantity)

    if REASON.name in result:
        reason = result[REASON.name]
        add(_ratio((reason == Reason.MATCHED).sum(MAP), _inside(reason).sum(MAP)), MATCHED)
    if WAVEFRONT.name in result:
        surface = result[WAVEFRONT.name].astype(np.float64)
        known = surface.notnull()
        count = known.sum(MAP)
        heights = surface.where(known, 0.0)
        mean = _ratio(heights.sum(MAP), count)
        # About the mean, and not by the mean of squares: a piston may be large.
        square = _ratio(((heights - mean) ** 2).where(known, 0.0).sum(MAP), count)
        add(square**0.5, WAVEFRONT_RMS)
        high = surface.where(known, -np.inf).max(MAP)
        low = surface.where(known, np.inf).min(MAP)
        add((high - low).where(count > 0), WAVEFRONT_PV)
    return xr.Dataset(numbers)


def _inside(reason: xr.DataArray) -> xr.DataArray:
    return reason != Reason.OUTSIDE_PUPIL


def _ratio(part: xr.DataArray, whole: xr.DataArray) -> xr.DataArray:
    """Divide; NaN where there is nothing."""
    return (part / whole.where(whole > 0, 1)).where(whole > 0)
