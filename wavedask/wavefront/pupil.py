"""Select a region of the detector and a pupil from a tracking."""

from typing import Any, Final

import numpy as np
import xarray as xr

from wavedask.conventions import (
    CORRELATION,
    DISPLACEMENT_X,
    DISPLACEMENT_Y,
    PIXEL,
    REASON,
    UNCERTAINTY_X,
    UNCERTAINTY_Y,
    UNITS,
    WINDOW,
    X,
    Y,
)
from wavedask.errors import InputError
from wavedask.frames import common_pixels
from wavedask.kernels.fields import Reason
from wavedask.maps import one_chunk_per_map
from wavedask.units import pixel_numbers

Roi = tuple[slice, slice]
Circle = tuple[float, float, float]

MIN_PIXELS: Final = 3
"""Pixels along an axis that a derivative of second order needs at a border."""

COMPONENTS: Final = ((DISPLACEMENT_Y, UNCERTAINTY_Y), (DISPLACEMENT_X, UNCERTAINTY_X))
"""Each component of the displacement with its standard error."""


def selected(
    tracking: xr.Dataset, *, roi: Roi | None = None, pupil: xr.DataArray | Circle | None = None
) -> xr.Dataset:
    """Check a tracking, cut it to a region, and mask pixels without a match or outside the pupil.

    Parameters
    ----------
    tracking : xarray.Dataset
        As of `track`.
    roi : (slice, slice), optional
        Pixel numbers along (y, x), half-open.
    pupil : DataArray of bool, dims (y, x), or (float, float, float), optional
        Where to look: a circle, its centre (y, x) and its radius in pixels; or a mask. A mask with
        coordinates ``y`` and ``x`` is placed by them, and holds nothing outside of them; one
        without is of the detector, or of the region if it has its shape.

    Returns
    -------
    xarray.Dataset
        Displacements, with one chunk per map if they are lazy, NaN where masked; with their
        uncertainties, the correlation, the window and the reason if `tracking` has them.

    Raises
    ------
    InputError
        Displacements that are missing, or not in px; a region or a pupil without pixels, or a mask
        of another shape.

    Examples
    --------
    >>> u = ("y", "x"), np.ones((5, 6))
    >>> tracking = xr.Dataset({"displacement_y": u, "displacement_x": u})
    >>> kept = selected(tracking, roi=(slice(1, 4), slice(None)), pupil=(2.0, 3.0, 1.0))
    >>> int(kept.displacement_y.notnull().sum()), kept.displacement_y.shape
    (5, (3, 6))
    """
    names = {displacement: _checked(tracking, displacement.name) for displacement, _ in COMPONENTS}
    kept = {displacement.name: values for displacement, values in names.items()}
    for quantity in (UNCERTAINTY_Y, UNCERTAINTY_X, CORRELATION, WINDOW, REASON):
        if quantity.name in tracking:
            kept[quantity.name] = tracking[quantity.name].transpose(..., Y, X)
    whole = xr.Dataset(kept, attrs=tracking.attrs)
    region = whole if roi is None else _region(whole, roi)
    mask = None if pupil is None else _mask(whole, region, pupil)
    variables = {}
    for displacement, uncertainty in COMPONENTS:
        values = region[displacement.name]
        if uncertainty.name in region:
            # The tracker marks a point without a match by an infinite uncertainty.
            values = values.where(~np.isinf(region[uncertainty.name]))
        variables[displacement.name] = values if mask is None else values.where(mask)
    if mask is not None and REASON.name in region:
        outside = np.uint8(Reason.OUTSIDE_PUPIL)
        variables[REASON.name] = region[REASON.name].where(mask, outside)
    return region.assign(variables).map(one_chunk_per_map, keep_attrs=True)


def _checked(tracking: xr.Dataset, name: str) -> xr.DataArray:
    if name not in tracking:
        raise InputError(
            f"tracking has no {name!r}; it has {', '.join(map(str, tracking))}",
            f"Give the result of track, with {DISPLACEMENT_Y.name} and {DISPLACEMENT_X.name}.",
        )
    values = tracking[name]
    unit = values.attrs.get(UNITS, PIXEL)
    if unit != PIXEL:
        raise InputError(f"{name} is in {unit!r}", f"It must be in {PIXEL!r}.")
    _check_size(values, name)
    return values.transpose(..., Y, X)


def _check_size(values: xr.DataArray, name: str) -> None:
    if any(values.sizes.get(dim, 0) < MIN_PIXELS for dim in (Y, X)):
        raise InputError(
            f"{name} has the dimensions {dict(values.sizes)}",
            f"It needs {Y!r} and {X!r}, each of {MIN_PIXELS} pixels or more.",
        )


def _region(tracking: xr.Dataset, roi: Any) -> xr.Dataset:
    if (
        not isinstance(roi, tuple)
        or len(roi) != 2
        or not all(isinstance(part, slice) and part.step in (None, 1) for part in roi)
    ):
        raise InputError(
            f"roi is {roi!r}", "Give two slices of pixel numbers without a step, along y and x."
        )
    chosen = {}
    for dim, part in zip((Y, X), roi, strict=True):
        numbers = pixel_numbers(tracking, dim)
        start = numbers.min() if part.start is None else part.start
        stop = numbers.max() + 1 if part.stop is None else part.stop
        inside = np.flatnonzero((numbers >= start) & (numbers < stop))
        if inside.size < MIN_PIXELS:
            raise InputError(
                f"roi leaves {inside.size} pixels along {dim}: it is {start:g} to {stop:g}, the "
                f"tracking {numbers.min():g} to {numbers.max():g}",
                f"Give {MIN_PIXELS} pixels or more; negative numbers do not count from the end.",
            )
        chosen[dim] = slice(int(inside[0]), int(inside[-1]) + 1)
    # Without coordinates, the pixels of the region would count from 0 again.
    numbered = tracking.assign_coords(
        {dim: (dim, pixel_numbers(tracking, dim), {UNITS: PIXEL}) for dim in (Y, X)}
    )
    return numbered.isel(chosen)


def _mask(whole: xr.Dataset, region: xr.Dataset, pupil: Any) -> xr.DataArray:
    """Return the pupil as a mask on the region."""
    if isinstance(pupil, xr.DataArray):
        if set(pupil.dims) != {Y, X} or pupil.dtype != np.bool_:
            raise InputError(
                f"pupil has dimensions {pupil.dims} and data type {pupil.dtype}",
                f"Give a mask of bool with dimensions ({Y}, {X}).",
            )
        inside = pupil.transpose(Y, X)
        if all(dim in inside.coords for dim in (Y, X)):
            inside = _placed(inside, region)
        else:
            inside = _by_shape(inside, whole, region)
        mask = xr.DataArray(inside.data, dims=(Y, X), coords=_maps_coords(region))
    else:
        mask = _disc(region, pupil)
    if mask.chunks is None and not mask.any():
        if isinstance(pupil, xr.DataArray):
            raise InputError("pupil holds no pixel of the region", "Give a mask with True in it.")
        rows, columns = (pixel_numbers(region, dim) for dim in (Y, X))
        raise InputError(
            f"pupil {tuple(float(value) for value in pupil)} px holds no pixel of the region: it "
            f"has the rows {rows[0]:g} to {rows[-1]:g} and the columns {columns[0]:g} to "
            f"{columns[-1]:g}",
            "Give its centre along y and along x and its radius in pixels, not in m.",
        )
    return mask


def _placed(mask: xr.DataArray, region: xr.Dataset) -> xr.DataArray:
    """Put a mask on the pixels of the region, by its labels."""
    numbered = region.assign_coords(
        {dim: (dim, pixel_numbers(region, dim), {UNITS: PIXEL}) for dim in (Y, X)}
    )
    for dim in (Y, X):
        here, there = common_pixels(numbered, mask, dim, names=("tracking", "pupil"))
        part = mask.isel({dim: there}).drop_vars(dim)
        missing = numbered.sizes[dim] - here.size
        # What the mask does not tell is not in the pupil.
        mask = part.pad({dim: (int(here[0]), missing - int(here[0]))}, constant_values=False)
    return mask


def _by_shape(mask: xr.DataArray, whole: xr.Dataset, region: xr.Dataset) -> xr.DataArray:
    """Put a mask on the pixels of the region, by its shape."""
    shapes = {
        "detector": (whole.sizes[Y], whole.sizes[X]),
        "region": (region.sizes[Y], region.sizes[X]),
    }
    if mask.shape not in shapes.values():
        raise InputError(
            f"pupil has {mask.shape} pixels (y, x), "
            + ", ".join(f"the {name} {shape}" for name, shape in shapes.items()),
            "Give a mask of the detector that was tracked, of the sample's shape.",
        )
    if mask.shape == shapes["region"]:
        return mask
    start = {
        dim: int(np.searchsorted(pixel_numbers(whole, dim), pixel_numbers(region, dim)[0]))
        for dim in (Y, X)
    }
    return mask.isel({dim: slice(first, first + region.sizes[dim]) for dim, first in start.items()})


def _disc(region: xr.Dataset, pupil: Any) -> xr.DataArray:
    try:
        center_y, center_x, radius = (float(value) for value in pupil)
    except (TypeError, ValueError):
        center_y = center_x = radius = np.nan
    if not (np.isfinite([center_y, center_x]).all() and radius > 0):
        raise InputError(
            f"pupil is {pupil!r}",
            "Give a mask, or three numbers in pixels: centre along y, along x, and radius above 0.",
        )
    y, x = pixel_numbers(region, Y), pixel_numbers(region, X)
    inside = (y[:, None] - center_y) ** 2 + (x - center_x) ** 2 <= radius**2
    return xr.DataArray(inside, dims=(Y, X), coords=_maps_coords(region))


def _maps_coords(region: xr.Dataset) -> dict[str, Any]:
    """Return the coordinates along y and x, if there are any, for a mask."""
    return {dim: region[dim] for dim in (Y, X) if dim in region.coords}
