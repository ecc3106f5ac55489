"""What a function accepts as images: a scan, or a labelled array."""

import xarray as xr

from wavedask.conventions import FRAME, IMAGE, X, Y
from wavedask.errors import InputError


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
