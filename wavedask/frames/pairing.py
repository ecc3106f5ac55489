"""Pairs of sample and reference frames: by motor positions, or within a train of pulses."""

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import FRAME, UNKNOWN_UNIT
from wavedask.errors import InputError, MotorError
from wavedask.frames.motors import ROUNDING, listed, names_of, positions, rounded, unit_of
from wavedask.units import conversion

Floats = NDArray[np.float64]
TrainReference = Literal["first", "mean", "previous"]

TRAIN_REFERENCES: Final = ("first", "mean", "previous")
"""What the pulses of a train can be tracked against."""
SAFE: Final = 0.25
"""Default tolerance, in distances of the two nearest positions of the reference."""


def paired_frames(
    sample: xr.DataArray,
    reference: xr.DataArray,
    *,
    motors: str | Sequence[str],
    tolerance: float | Sequence[float] | None = None,
    one_to_one: bool = False,
) -> xr.DataArray:
    """Pick the reference frame at the same motor positions for every sample frame.

    Parameters
    ----------
    sample, reference : xarray.DataArray, dims ([frame], y, x)
        Frames in any order, each with a coordinate per motor.
    motors : str or sequence of str
        Motors whose positions must agree within a pair, usually those of the membrane.
    tolerance : float or sequence of float, optional
        Largest difference within a pair, in the unit of the motors: one for all, or one for each.
        By default a quarter of the distance of the two nearest positions of the reference.
    one_to_one : bool, default False
        Whether every reference frame must also have exactly one sample frame.

    Returns
    -------
    xarray.DataArray, dims (frame, y, x)
        A frame of `reference` for each frame of `sample`, in its order. Lazy if `reference` is.

    Raises
    ------
    MotorError
        Positions of `sample` without a counterpart or with several, and with `one_to_one`
        positions taken twice or never; the message lists them. A motor that one of the two does
        not have, or has in a unit that does not convert.
    InputError
        A tolerance that is not positive, or not one per motor.

    Examples
    --------
    >>> def frames(*positions):
    ...     coords = {"diffuser": ("frame", list(positions))}
    ...     data = np.array(positions).reshape(-1, 1, 1)
    ...     return xr.DataArray(data, dims=("frame", "y", "x"), coords=coords)
    >>> paired = paired_frames(frames(2.01, 0.99), frames(0.0, 1.0, 2.0), motors="diffuser")
    >>> paired.values.ravel()
    array([2., 1.])
    """
    names = names_of(motors, argument="motors")
    wanted = positions(sample, names, name="sample")
    there = positions(reference, names, name="reference")
    for number, motor in enumerate(names):
        there[:, number] *= _unit_factor(sample, reference, motor)
        # One of the two may hold single precision: then 0.1 is not 0.1 to the last digit.
        kinds = [images[motor].dtype for images in (sample, reference)]
        wanted[:, number] = rounded(wanted[:, number], *kinds)
        there[:, number] = rounded(there[:, number], *kinds)
    limits = _tolerances(tolerance, there, len(names))
    close = np.all(np.abs(wanted[:, None] - there[None]) <= limits, axis=2)
    problems = _mismatches(close, wanted, there, names, one_to_one=one_to_one)
    if problems:
        raise MotorError(
            f"sample and reference do not pair by {', '.join(names)} within"
            f" {', '.join(f'{limit:g}' for limit in limits)}: {'; '.join(problems)}",
            "Select the frames that belong together, or give another tolerance.",
        )
    frames = reference if FRAME in reference.dims else reference.expand_dims(FRAME)
    return frames.isel({FRAME: close.argmax(axis=1)})


def _unit_factor(sample: xr.DataArray, reference: xr.DataArray, motor: str) -> float:
    """Return what brings the positions of a reference to the unit of the sample."""
    mine, theirs = (unit_of(images, motor) for images in (sample, reference))
    if UNKNOWN_UNIT in (mine, theirs):
        return 1.0
    factor = conversion(theirs, mine)
    if factor is None:
        raise MotorError(
            f"motor {motor!r} is in {mine!r} in the sample and in {theirs!r} in the reference",
            "Give both in units of one quantity.",
        )
    return factor


def _tolerances(tolerance: float | Sequence[float] | None, places: Floats, motors: int) -> Floats:
    if tolerance is None:
        distance = np.abs(places[:, None] - places[None]).max(axis=2)
        apart = distance[~np.eye(len(places), dtype=bool)]
        nearest = float(apart.min(initial=np.inf))
        if np.isfinite(nearest):
            return np.full(motors, SAFE * nearest)
        # A single reference leaves nothing to compare: the positions must be equal.
        return np.asarray(ROUNDING * np.abs(places).max(axis=0, initial=0.0))
    limits = np.asarray(tolerance, np.float64)
    if limits.shape not in ((), (motors,)) or not (limits > 0).all() or np.isinf(limits).any():
        raise InputError(
            f"tolerance is {tolerance!r}",
            "Give one positive number in the unit of the motors, or one for each motor.",
        )
    return np.broadcast_to(limits, (motors,))


def _mismatches(
    close: NDArray[np.bool_],
    wanted: Floats,
    there: Floats,
    motors: Sequence[str],
    *,
    one_to_one: bool,
) -> list[str]:
    """Describe the positions that do not pair."""
    partners, takers = close.sum(axis=1), close.sum(axis=0)
    cases = [
        ("the reference has no frame at", wanted[partners == 0]),
        ("the reference has several frames at", wanted[partners > 1]),
    ]
    if one_to_one:
        cases += [
            ("the sample has no frame at", there[takers == 0]),
            ("the sample has several frames at", there[takers > 1]),
        ]
    return [f"{words} {listed(places, motors)}" for words, places in cases if len(places)]


def train_pairs(
    images: xr.DataArray, reference: TrainReference
) -> tuple[xr.DataArray, xr.DataArray]:
    """Pair the pulses of a train with each other.

    Parameters
    ----------
    images : xarray.DataArray, dims (frame, y, x)
        Pulses in their order of arrival.
    reference : "first", "mean" or "previous"
        The first pulse, the mean of all pulses, or the pulse before each.

    Returns
    -------
    samples : xarray.DataArray, dims (frame, y, x)
        Pulses to track. ``first`` and ``previous`` leave out the first pulse: it would be tracked
        in itself, or has no pulse before it.
    references : xarray.DataArray, dims ([frame], y, x)
        One reference for all pulses, or one for each.

    Raises
    ------
    InputError
        Another name, or fewer than two pulses.

    Examples
    --------
    >>> train = xr.DataArray(np.arange(3.0).reshape(3, 1, 1), dims=("frame", "y", "x"))
    >>> samples, references = train_pairs(train, "previous")
    >>> samples.values.ravel().tolist(), references.values.ravel().tolist()
    ([1.0, 2.0], [0.0, 1.0])
    """
    if reference not in TRAIN_REFERENCES:
        raise InputError(
            f"reference is {reference!r}",
            f"Give images, or for a train one of: {', '.join(TRAIN_REFERENCES)}.",
        )
    if images.sizes.get(FRAME, 1) < 2:
        raise InputError(
            f"reference is {reference!r}, and the sample has a single frame",
            "Give a train of two pulses or more.",
        )
    if reference == "mean":
        # A pixel that is missing in one pulse is missing in the mean. Otherwise neighbouring pixels
        # would be means of different pulses.
        return images, images.mean(FRAME, skipna=False)
    late, early = images.isel({FRAME: slice(1, None)}), images.isel({FRAME: slice(None, -1)})
    return late, early if reference == "previous" else images.isel({FRAME: 0})
