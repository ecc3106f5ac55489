"""The corrected image behind a frame of a result store, made again from its raw frames."""

from pathlib import Path

import numpy as np
import xarray as xr

from wavedask.conventions import (
    FRAME,
    SOURCE_DATASET,
    SOURCE_FILE,
    SOURCE_INDEX,
)
from wavedask.errors import WavedaskError
from wavedask.experiment.reproduce import experiments_of
from wavedask.experiment.stages import corrected_images
from wavedask.report import first_complete
from wavedask.store import open_store

ORIGIN = (SOURCE_FILE, SOURCE_INDEX, SOURCE_DATASET)
"""Coordinates that say which raw frame a frame of a result was made of."""


def corrected_frame(
    store: str | Path, frame: int | None = None, *, images: xr.DataArray | None = None
) -> tuple[xr.DataArray | None, str]:
    """Make the corrected image of a frame again, from the inputs that the store names.

    Of a frame that was made of several images, such as a stack, it is the first one.

    Parameters
    ----------
    store : path or URL
        A result store.
    frame : int, optional
        Number of the frame; negative numbers count from the end. By default the first complete
        one.
    images : xarray.DataArray, dims (frame, y, x), optional
        Corrected images that are open already. The inputs are opened if the image is not one of
        them.

    Returns
    -------
    image : xarray.DataArray, dims (y, x), or None
        The image, lazy.
    reason : str
        Why there is none; empty if there is one.

    Raises
    ------
    StoreError
        Not a result store.
    """
    stored = open_store(store)
    frames = stored.sizes[FRAME]
    frame = first_complete(stored) if frame is None else frame
    if not -frames <= frame < frames:
        return None, f"the store has the frames 0 to {frames - 1}"
    single = stored.isel({FRAME: frame})
    if SOURCE_FILE not in single.coords:
        return None, "the store does not name its raw frames"
    image = None if images is None else _behind(single, images)
    try:
        experiments = [] if image is not None else experiments_of(store, output="another.zarr")
        for experiment in experiments:
            image = _behind(single, corrected_images(experiment, progress=False))
            if image is not None:
                break
    except WavedaskError as error:
        return None, str(error)
    if image is None:
        return None, f"the inputs have no frame {single[SOURCE_FILE].item()} any more"
    return image, ""


def _behind(single: xr.Dataset, images: xr.DataArray) -> xr.DataArray | None:
    """Select the image that a frame of a result was made of."""
    same = np.ones(images.sizes[FRAME], np.bool_)
    for name in ORIGIN:
        if name in single.coords and name in images.coords:
            same &= np.broadcast_to(images[name].values == single[name].item(), same.shape)
    return images.isel({FRAME: int(np.argmax(same))}) if same.any() else None
