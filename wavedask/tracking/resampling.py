"""The reference of another detector on the pixels of a sample."""

from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import LONG_NAME, PIXEL, UNITS, X, Y
from wavedask.errors import InputError
from wavedask.facts import agreed_number, agreed_pixels
from wavedask.kernels.start import onto_sample
from wavedask.tracking.registration import Registration
from wavedask.units import (
    DISTANCE,
    NEAR_DISTANCE,
    NEAR_PIXEL_SIZE,
    PIXEL_SIZE,
    pixel_numbers,
)

Floats = NDArray[np.float64]


def registered(
    reference: xr.DataArray, sample: xr.DataArray, registration: Registration
) -> tuple[xr.DataArray, xr.DataArray]:
    """Resample a reference onto the pixels of a sample, and number the pixels.

    Parameters
    ----------
    reference, sample : xarray.DataArray, dims ([frame], y, x)
        Images, as of `wavedask.frames.images.image_of`.
    registration : Registration
        From the pixels of the sample to those of the reference.

    Returns
    -------
    sample : xarray.DataArray
        The same, with the coordinates ``y`` and ``x`` as pixel numbers, which the registration
        refers to.
    reference : xarray.DataArray
        On the pixels of the sample. Lazy if it was, with one block per frame.

    Raises
    ------
    InputError
        Images that differ from the registered ones in shape or pixel size.

    Examples
    --------
    >>> near = xr.DataArray(np.arange(36.0).reshape(6, 6), dims=("y", "x"))
    >>> shift = Registration(np.eye(2), np.array([1.0, 0.0]))
    >>> _, moved = registered(near, near, shift)
    >>> bool(np.allclose(moved[:5], near[1:])), bool(np.isnan(moved[5]).all())
    (True, True)
    """
    for image, shape, name in (
        (sample, registration.shape, "sample"),
        (reference, registration.reference_shape, "reference"),
    ):
        if shape is not None and image.shape[-2:] != tuple(shape):
            raise InputError(
                f"{name} frames are {image.shape[-2:]}, those of the registration {tuple(shape)} "
                "(y, x)",
                "Register images of the same detector region and binning.",
            )
    first = np.array([pixel_numbers(reference, dim)[0] for dim in (Y, X)])
    rows, columns = (pixel_numbers(sample, dim) for dim in (Y, X))
    resample = partial(
        _resampled_frames,
        matrix=registration.matrix,
        offset=registration.offset - first,
        rows=rows,
        columns=columns,
    )
    data = reference.data
    if isinstance(data, da.Array):
        whole = data.rechunk((*data.chunks[:-2], -1, -1))
        moved = da.map_blocks(
            resample,
            whole,
            chunks=(*whole.chunks[:-2], (rows.size,), (columns.size,)),
            dtype=np.float32,
            meta=np.empty((0,) * whole.ndim, np.float32),
        )
    else:
        moved = resample(np.asarray(data))
    sample = _stating_both(sample, reference, registration)
    words = {Y: "detector row", X: "detector column"}
    numbers = {
        dim: (dim, values, {UNITS: PIXEL, LONG_NAME: words[dim]})
        for dim, values in ((Y, rows), (X, columns))
    }
    others = {name: coord for name, coord in reference.coords.items() if name not in (Y, X)}
    return sample.assign_coords(numbers), xr.DataArray(
        moved, dims=reference.dims, coords={**others, **numbers}, attrs=reference.attrs
    )


def _stating_both(
    sample: xr.DataArray, reference: xr.DataArray, registration: Registration
) -> xr.DataArray:
    """Let a sample state what is known of both detectors."""
    facts: dict[str, Any] = {}
    for name, image, size, words in (
        (PIXEL_SIZE, sample, registration.pixel_size, "sample"),
        (NEAR_PIXEL_SIZE, reference, registration.reference_pixel_size, "reference"),
    ):
        label = f"{PIXEL_SIZE} of the {words}"
        registered_size = xr.Dataset(attrs={} if size is None else {PIXEL_SIZE: list(size)})
        stated = {f"the {words}": image.coords.to_dataset().assign_attrs(image.attrs)}
        if PIXEL_SIZE in registration.sure:
            stated = {}
        known = agreed_pixels(
            None,
            {"the registration": registered_size, **stated},
            sure=registration.sure,
            label=label,
        )
        if known is not None:
            facts[name] = list(known)
    near = agreed_number(DISTANCE, None, {"the reference": reference})
    if near is not None:
        facts[NEAR_DISTANCE] = near
    return sample.assign_attrs(facts)


def _resampled_frames(
    frames: NDArray[Any], *, matrix: Floats, offset: Floats, rows: Floats, columns: Floats
) -> NDArray[np.float32]:
    """Resample the frames of one block."""
    out = np.empty((*frames.shape[:-2], rows.size, columns.size), np.float32)
    for index in np.ndindex(frames.shape[:-2]):
        out[index] = onto_sample(frames[index], matrix, offset, rows, columns)
    return out
