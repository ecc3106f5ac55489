"""Numbers of a frame: how much of it was matched, and how large its wavefront is."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import (
    LONG_NAME,
    MATCHED,
    PUPIL,
    REASON,
    REGION,
    WAVEFRONT,
    WAVEFRONT_PV,
    WAVEFRONT_RMS,
    X,
    Y,
)
from wavedask.kernels.fields import Reason
from wavedask.units import relabelled

Number = Callable[[xr.DataArray], xr.DataArray]
"""A function of maps that gives a number for each."""

MAP: Final = (Y, X)


def frame_numbers(result: xr.Dataset, *, pupil: xr.DataArray | None = None) -> xr.Dataset:
    """Compute the numbers that tell at a glance what a frame shows.

    Parameters
    ----------
    result : xarray.Dataset, dims ([frame], y, x)
        Result of `wavedask.track` or `wavedask.wavefront`.
    pupil : xarray.DataArray of bool, dims ([frame], y, x), optional
        Pixels whose wavefront counts. By default all.

    Returns
    -------
    xarray.Dataset
        Along ``frame``, where `result` has it, lazy if `result` is. As far as `result` has the maps
        for them:

        * ``matched_share``: fraction of the pixels that have a displacement; pixels outside of a
          pupil do not count,
        * ``wavefront_rms``: root mean square of the wavefront about its mean, in m,
        * ``wavefront_pv``: its largest minus its smallest value, in m.

        A frame without any pixel is NaN. With a pupil, the numbers of the wavefront have the
        attribute ``region``.

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
    numbers = xr.Dataset()
    if REASON.name in result:
        numbers[MATCHED.name] = relabelled(_per_map(_matched, result[REASON.name]), MATCHED)
    if WAVEFRONT.name not in result:
        return numbers
    surface = result[WAVEFRONT.name]
    region = {}
    if pupil is not None:
        surface = surface.where(pupil)
        region = {REGION: PUPIL}
    for quantity, number in ((WAVEFRONT_RMS, _rms), (WAVEFRONT_PV, _range)):
        found = relabelled(_per_map(number, surface), quantity)
        if pupil is not None:
            found.attrs[LONG_NAME] = f"{quantity.long_name} in the {PUPIL}"
        numbers[quantity.name] = found.assign_attrs(region)
    return numbers


def _per_map(number: Number, maps: xr.DataArray) -> xr.DataArray:
    """Compute a number of each map; of whole maps in one task a block, and one layer of the graph.

    A sum of xarray over y and x is several layers, with an entry for each frame: half a millisecond
    and four kilobytes of the client for each of 100 000 frames.
    """
    dims = [dim for dim in maps.dims if dim not in MAP]
    maps = maps.transpose(*dims, *MAP)
    if maps.chunks is None or max(maps.data.numblocks[-2:]) > 1:
        return number(maps)
    data = maps.data.map_blocks(
        partial(_of_block, number=number, dims=maps.dims),
        dtype=np.float64,
        drop_axis=list(range(len(dims), maps.ndim)),
        meta=np.empty((0,) * len(dims), np.float64),
    )
    coords = {name: c for name, c in maps.coords.items() if not {*MAP} & {*c.dims}}
    return xr.DataArray(data, dims=dims, coords=coords)


def _of_block(block: NDArray[Any], *, number: Number, dims: Any) -> NDArray[np.float64]:
    return np.asarray(number(xr.DataArray(block, dims=dims)).values, np.float64)


def _matched(reason: xr.DataArray) -> xr.DataArray:
    inside = reason != Reason.OUTSIDE_PUPIL
    return _ratio((reason == Reason.MATCHED).sum(MAP), inside.sum(MAP))


def _rms(surface: xr.DataArray) -> xr.DataArray:
    surface = surface.astype(np.float64)
    known = surface.notnull()
    count = known.sum(MAP)
    heights = surface.where(known, 0.0)
    mean = _ratio(heights.sum(MAP), count)
    # About the mean, and not by the mean of squares: a piston may be large.
    square: xr.DataArray = ((heights - mean) ** 2).where(known, 0.0).sum(MAP)
    return _ratio(square, count) ** 0.5


def _range(surface: xr.DataArray) -> xr.DataArray:
    surface = surface.astype(np.float64)
    known = surface.notnull()
    high = surface.where(known, -np.inf).max(MAP)
    low = surface.where(known, np.inf).min(MAP)
    return (high - low).where(known.any(MAP))


def _ratio(part: xr.DataArray, whole: xr.DataArray) -> xr.DataArray:
    """Divide; NaN where there is nothing."""
    return (part / whole.where(whole > 0, 1)).where(whole > 0)
