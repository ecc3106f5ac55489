"""What a function accepts: images or a whole dataset; and what makes two images a pair."""

from typing import Final

import numpy as np
import xarray as xr

from wavedask.conventions import FRAME, IMAGE, PHOTON_ENERGY, UNITS, X, Y
from wavedask.errors import InputError

SAME_ENERGY: Final = 1e-3
"""Relative difference of two photon energies beyond which speckle is not the same."""


def image_of(images: xr.DataArray | xr.Dataset, name: str) -> xr.DataArray:
    """Return the frames of a scan or the images themselves, with dims ([frame], y, x).

    Raises
    ------
    InputError
        Neither a labelled image nor a dataset that holds one.

    Examples
    --------
    >>> import numpy as np
    >>> image_of(xr.DataArray(np.ones((2, 3)), dims=("x", "y")), "flat").dims
    ('y', 'x')
    """
    if isinstance(images, xr.Dataset):
        if IMAGE.name not in images:
            raise InputError(
                f"{name} is a dataset without {IMAGE.name!r}; it has {sorted(map(str, images))}",
                "Give a scan from open_scan(), or a DataArray.",
            )
        images = images[IMAGE.name]
    if not isinstance(images, xr.DataArray):
        raise InputError(
            f"{name} is a {type(images).__name__}",
            "Give a scan or a DataArray; for bare arrays there is wavedask.cross_spot().",
        )
    if set(images.dims) not in ({Y, X}, {FRAME, Y, X}):
        raise InputError(
            f"{name} has dimensions {images.dims}",
            f"Rename them to ({Y}, {X}) or ({FRAME}, {Y}, {X}).",
        )
    return images.transpose(..., Y, X)


def dataset_of(data: object) -> xr.Dataset:
    """Return a dataset, and refuse what is none: an array alone says nothing of what it belongs to.

    Raises
    ------
    InputError
        Something else.

    Examples
    --------
    >>> dataset_of(xr.DataArray([1.0], dims="frame", name="radius"))
    Traceback (most recent call last):
        ...
    wavedask.errors.InputError: the data is a DataArray. Give a dataset: data.to_dataset(...) ...
    """
    if isinstance(data, xr.Dataset):
        return data
    raise InputError(
        f"the data is a {type(data).__name__}",
        "Give a dataset: data.to_dataset(name=...) makes one of a DataArray.",
    )


def check_alike(sample: xr.DataArray, reference: xr.DataArray) -> None:
    """Refuse a sample and a reference that were not taken or not corrected alike.

    Parameters
    ----------
    sample, reference : xarray.DataArray, dims ([frame], y, x)
        A pair of stacks, or a stack and one reference for all its frames.

    Raises
    ------
    InputError
        One is corrected for the flat field and the other is not, or the photon energies of the
        frames differ: the speckle does, too.

    Examples
    --------
    >>> raw = xr.DataArray([[1.0]], dims=("y", "x"), attrs={"units": "counts"})
    >>> check_alike(raw, raw.assign_attrs(units="1"))
    Traceback (most recent call last):
        ...
    wavedask.errors.InputError: sample is in 'counts', reference in '1'. Correct both alike ...
    """
    units = [images.attrs.get(UNITS) for images in (sample, reference)]
    if None not in units and units[0] != units[1]:
        raise InputError(
            f"sample is in {units[0]!r}, reference in {units[1]!r}",
            "Correct both alike for dark and flat field.",
        )
    if not all(PHOTON_ENERGY in images.coords for images in (sample, reference)):
        return
    energies = [np.atleast_1d(images[PHOTON_ENERGY].to_numpy()) for images in (sample, reference)]
    # Stacks of other lengths are refused by who pairs their frames.
    if 1 in (energies[0].size, energies[1].size) or energies[0].size == energies[1].size:
        one, other = np.broadcast_arrays(*energies)
        differs = np.abs(one - other) > SAME_ENERGY * np.abs(other)
        if differs.any():
            first = int(differs.argmax())
            raise InputError(
                f"{PHOTON_ENERGY} is {one[first]:g} in the sample and {other[first]:g} in the "
                "reference",
                "Take both at the same photon energy: the speckle is another one.",
            )
