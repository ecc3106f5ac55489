"""Frames that are paired in their order: whether two stacks were taken in the same order."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import FRAME, MOTOR, RESERVED_NAMES, ROLE
from wavedask.errors import MotorError
from wavedask.statements import STATING, read_labels

Floats = NDArray[np.float64]

SAME_POSITION: Final = 0.1
"""Part of the smallest step of a motor by which two readings of one position may differ."""
MOSTLY: Final = 0.5
"""Part of the positions that two stacks share at least if they were taken along one scan."""


def in_the_same_order(sample: xr.DataArray, reference: xr.DataArray) -> xr.DataArray:
    """Return the frames of a reference in the order of those of a sample.

    Two stacks are paired in their order. Where a motor, or the coordinate ``frame``, shows that
    both went through the same positions in another order, the reference is sorted; where some
    positions have no partner, the pairs cannot be right. A motor that only jitters, that stood
    elsewhere for the reference, or that takes a position twice, tells nothing.

    Parameters
    ----------
    sample, reference : xarray.DataArray, dims ([frame], y, x)
        Two stacks.

    Returns
    -------
    xarray.DataArray
        The frames of `reference`, lazy if it was.

    Raises
    ------
    MotorError
        Frames that were taken along the same scan, of which some have no partner.

    Examples
    --------
    >>> def stack(positions):
    ...     coords = {"diffuser": ("frame", positions)}
    ...     return xr.DataArray(np.zeros((3, 1, 1)), coords, ("frame", "y", "x"))
    >>> in_the_same_order(stack([0.0, 1.0, 2.0]), stack([2.0, 0.0, 1.0])).diffuser.values
    array([0., 1., 2.])
    """
    count = sample.sizes.get(FRAME, 1)
    if count < 2 or reference.sizes.get(FRAME, 1) != count:
        return reference
    for name in _labels(sample, reference):
        wanted, there = (
            read_labels(images[name]).astype(np.float64) for images in (sample, reference)
        )
        near = SAME_POSITION * _smallest_step(there)
        if not near or (np.abs(wanted - there) <= near).all():
            continue
        partner, found = _partners(wanted, there, near)
        if found.mean() < MOSTLY:
            continue
        if not found.all():
            lost = int(np.argmin(found))
            raise MotorError(
                f"frames are paired in their order, and {name!r} of the sample goes from"
                f" {wanted[0]:g} to {wanted[-1]:g}, that of the reference from {there[0]:g} to"
                f" {there[-1]:g}: the reference has no frame at {wanted[lost]:g} (frame {lost})",
                f"Select the frames that belong together, or pair them by motors={name!r}; if it"
                f" does not matter, drop it: drop_vars({name!r}).",
            )
        reference = reference.isel({FRAME: partner})
    return reference


def _labels(sample: xr.DataArray, reference: xr.DataArray) -> Iterator[str]:
    """Names of the coordinates that tell the frames of both stacks apart."""
    for name, coord in sample.coords.items():
        if name not in reference.coords or name in STATING:
            continue
        both = (coord, reference.coords[name])
        if any(part.dims != (FRAME,) or part.dtype.kind not in "iuf" for part in both):
            continue
        own = name == FRAME or name not in RESERVED_NAMES
        if own and all(part.attrs.get(ROLE, MOTOR) == MOTOR for part in both):
            yield str(name)


def _partners(
    wanted: Floats, there: Floats, near: float
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Find the nearest position for each that is wanted, and whether it is near enough."""
    order = np.argsort(there)
    after = np.clip(np.searchsorted(there[order], wanted), 1, there.size - 1)
    both = np.stack([order[after - 1], order[after]])
    distance = np.abs(there[both] - wanted)
    return both[distance.argmin(axis=0), np.arange(wanted.size)], distance.min(axis=0) <= near


def _smallest_step(positions: Floats) -> float:
    """Return the smallest step between positions; 0 if one is unknown or repeated."""
    steps = np.diff(np.sort(positions))
    return float(steps.min(initial=np.inf)) if np.isfinite(positions).all() else 0.0
