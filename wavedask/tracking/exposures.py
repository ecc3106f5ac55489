"""Sums over exposures that pass one by one, in memory or under Dask."""

from collections.abc import Sequence
from functools import reduce
from typing import Any, Final, NamedTuple

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.averaging import (
    CHANNELS,
    OTHERS,
    SQUARES,
    SUMS,
    WEIGHTS,
    common_field,
    drift,
    joined,
    weighted_sums,
)
from wavedask.kernels.masking import filled

Array = NDArray[Any] | da.Array
Floats = NDArray[np.float32]

ANCHORS: Final = 8
"""Largest number of exposures in the field against which drifts are measured. They are in memory
together; all others pass one by one."""
FAN_IN: Final = 4
"""Number of sums that one task adds."""


class Combined(NamedTuple):
    """Averages of exposures, arrays (y, x).

    Attributes
    ----------
    mean, error : tuple of array
        Weighted mean of both components, and its standard error; NaN and infinite without data.
    chi2 : array
        Reduced chi-squared of both components; NaN for fewer than two exposures.
    count : array
        Number of exposures that have data.
    others : tuple of array
        Plain means of the other channels.
    window : array
        Largest window.
    """

    mean: tuple[Any, Any]
    error: tuple[Any, Any]
    chi2: Any
    count: Any
    others: tuple[Any, ...]
    window: Any


def exposure_sums(
    parts: Sequence[Array], *, align: bool, shared: bool = False
) -> tuple[Combined, Array, Array]:
    """Combine exposures of one field, each rigidly shifted.

    Parameters
    ----------
    parts : sequence of array, shape (exposures, y, x)
        Two components, their standard errors, the side of the windows, and any others.
    align : bool
        Whether the shifts are removed.
    shared : bool, default False
        Whether the exposures share part of their noise, that of a common reference.

    Returns
    -------
    combined : Combined
    shifts, errors : array, shape (exposures, 2)
        Rigid shift of each exposure with zero mean, and its standard error; NaN and infinite for
        one without data.
    """
    count = parts[0].shape[0]
    anchors = np.unique(np.linspace(0, count - 1, ANCHORS).astype(int))
    lazy = any(isinstance(part, da.Array) for part in parts)
    fields, found, total = (_lazy if lazy else _eager)(parts, anchors, align=align)
    shifts, errors = found[:, :2], found[:, 2:]
    there = np.isfinite(shifts)
    number = np.maximum(there.sum(axis=0), 1)
    middle = np.where(there, shifts, 0).sum(axis=0) / number
    # The error of the difference to the mean, which contains the exposure itself.
    own = np.where(there, errors, 0) ** 2
    spread = np.maximum(own * (1 - 2 / number) + own.sum(axis=0) / number**2, 0)
    errors = np.where(there, np.sqrt(spread), np.inf)
    return _finished(fields[0], total, middle * align, shared=shared), shifts - middle, errors


def _finished(fields: Any, total: Any, middle: Any, *, shared: bool) -> Combined:
    """Compute means, errors and chi-squared from sums."""
    count = total[0]
    means, errors, scatter = [], [], 0.0
    for k in (0, 1):
        weight, moment, square = (total[row + k] for row in (WEIGHTS, SUMS, SQUARES))
        known, safe = weight > 0, np.maximum(weight, np.float32(1e-30))
        residual = moment / safe
        means.append(np.where(known, np.nan_to_num(fields[k]) + residual + middle[k], np.nan))
        errors.append(np.where(known, 1 / np.sqrt(safe), np.inf))
        scatter = scatter + square - moment * residual
    freedom = 2 * (count - 1)
    chi2 = np.where(freedom > 0, np.maximum(scatter, 0) / np.maximum(freedom, 1), np.nan)
    if shared:
        # What scatters averages out; what the exposures have in common does not.
        seen = count > 1
        scatter = np.where(seen, chi2, 0).sum() / np.maximum(seen.sum(), 1)
        common = np.clip(1 - scatter, 0, 1)
        errors = [error * np.sqrt(1 - common + common * np.maximum(count, 1)) for error in errors]
    others = tuple(
        np.where(count > 0, total[row] / np.maximum(count, 1), np.nan)
        for row in range(OTHERS, total.shape[0] - 1)
    )
    return Combined((means[0], means[1]), (errors[0], errors[1]), chi2, count, others, total[-1])


def _eager(
    parts: Sequence[Array], anchors: NDArray[np.intp], *, align: bool
) -> tuple[Any, Any, Any]:
    """Compute fields, drifts and sums of exposures in memory."""
    planes = np.stack([np.asarray(part, np.float32) for part in parts], axis=1)
    fields = _fields(planes[anchors])
    found = _drifts(planes, fields)
    single = (
        _sums(planes[k : k + 1], fields, found[k : k + 1, :, None, None], align=align)
        for k in range(len(planes))
    )
    return (
        fields,
        found,
        reduce(lambda a, b: joined(np.concatenate([a, b]), keepdims=True), single)[0],
    )


def _lazy(
    parts: Sequence[Array], anchors: NDArray[np.intp], *, align: bool
) -> tuple[Any, Any, Any]:
    """Build the graph of fields, drifts and sums: an exposure is released once it is added."""
    singles = [
        da.map_blocks(_single, da.asarray(part), dtype=np.float32, meta=np.empty((0, 0, 0), "f4"))
        for part in parts
    ]
    planes = da.stack(singles, axis=1)
    planes = planes.rechunk({0: 1, 1: -1, 2: -1, 3: -1})
    chosen = planes[anchors].rechunk(-1)
    fields = da.map_blocks(
        _fields,
        chosen,
        chunks=((1,), (2,), *chosen.chunks[2:]),
        dtype=np.float32,
        meta=np.empty((0, 0, 0, 0), np.float32),
    )
    found = da.map_blocks(
        _drifts,
        planes,
        fields,
        chunks=(planes.chunks[0], (4,)),
        drop_axis=(2, 3),
        dtype=np.float64,
        meta=np.empty((0, 0)),
    )
    rows = OTHERS + len(parts) - CHANNELS + 1
    sums = da.map_blocks(
        _sums,
        planes,
        fields,
        found[:, :, None, None],
        align=align,
        chunks=(planes.chunks[0], (rows,), *planes.chunks[2:]),
        dtype=np.float32,
        meta=np.empty((0, 0, 0, 0), np.float32),
    )
    total = da.reduction(
        sums,
        chunk=joined,
        aggregate=joined,
        axis=0,
        split_every=FAN_IN,
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    return fields, found, total


def _single(part: Any) -> Floats:
    """Convert to single precision; what is masked becomes NaN, for which there is no data."""
    return filled(part).astype(np.float32, copy=False)


def _fields(planes: NDArray[Any]) -> Floats:
    """Compute the field that some exposures have in common, for both components."""
    fields = [common_field(planes[:, k], planes[:, 2 + k], planes[:, 4]) for k in (0, 1)]
    return np.stack(fields)[None].astype(np.float32)


def _drifts(planes: NDArray[Any], fields: Floats) -> NDArray[np.float64]:
    """Compute the rigid shift of each exposure against the fields, and its error."""
    found = [
        [drift(plane[k], plane[2 + k], plane[4], fields[0, k]) for k in (0, 1)] for plane in planes
    ]
    return np.array(found).swapaxes(1, 2).reshape(len(planes), 4)


def _sums(
    planes: NDArray[Any], fields: Floats, drifts: NDArray[np.float64], *, align: bool
) -> Floats:
    """Compute what a single exposure adds to the sums."""
    shifts = np.nan_to_num(drifts[0, :2, 0, 0]) * align
    return weighted_sums(planes[0], fields[0], shifts)[None]
