"""Resampling of frames from distorted to undistorted pixels (equation 3.4)."""

from typing import Any, Final

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import DISTORTION_X, DISTORTION_Y, X, Y
from wavedask.errors import FrameMismatchError, InputError
from wavedask.kernels.resample import inverse_shift, resampled
from wavedask.kernels.spline import Order

ORDER: Final[Order] = 5
"""Order of the B-spline: a cubic one blurs grains of three pixels visibly, a quintic does not."""
RESAMPLING: Final = "quintic B-spline"
"""How frames are resampled, as an attribute of the result."""


def undistorted(frames: da.Array, raw: xr.DataArray, calibration: xr.Dataset) -> da.Array:
    """Resample frames to undistorted pixels.

    Parameters
    ----------
    frames : dask.array.Array, shape ([frame], y, x)
        Frames, corrected for dark and flat.
    raw : xarray.DataArray, dims ([frame], y, x)
        The raw frames of these.
    calibration : xarray.Dataset
        Result of `detector_distortion`, on the same pixels.

    Returns
    -------
    dask.array.Array of float32, shape ([frame], y, x)
        Lazy; a chunk has whole frames. NaN where the calibration or the image has no value.

    Raises
    ------
    InputError
        A dataset that is not a calibration; when computed, a distortion that has no inverse.
    FrameMismatchError
        A calibration of another shape or binning.
    """
    maps = _maps_of(calibration, raw)
    shift = da.map_blocks(
        _shift_block,
        *maps,
        new_axis=0,
        chunks=((2,), *maps[0].chunks),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    single = frames.ndim == 2
    whole = (frames[None] if single else frames).rechunk({1: -1, 2: -1})
    resampled_frames: da.Array = da.map_blocks(
        _resample_block,
        whole,
        *(shift[axis][None] for axis in (0, 1)),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    return resampled_frames[0] if single else resampled_frames


def _maps_of(calibration: xr.Dataset, raw: xr.DataArray) -> list[da.Array]:
    """Check a calibration, and return its distortion as two lazy maps (y, x) of one chunk."""
    if not isinstance(calibration, xr.Dataset):
        raise InputError(
            f"distortion is a {type(calibration).__name__}",
            "Give the result of detector_distortion(), or open_store() of its store.",
        )
    names = (DISTORTION_Y.name, DISTORTION_X.name)
    missing = [name for name in names if name not in calibration]
    if missing:
        raise InputError(
            f"distortion is not a calibration: it has no {' and no '.join(missing)}",
            "Give the result of detector_distortion().",
        )
    shape = tuple(raw.sizes[dim] for dim in (Y, X))
    for name in names:
        calibrated = tuple(calibration[name].sizes.get(dim, 0) for dim in (Y, X))
        if calibrated != shape:
            raise FrameMismatchError(
                f"frames are {shape}, the calibration is {calibrated} (y, x)"
                + _binning(calibrated, shape),
                "Calibrate with the same detector, region and binning.",
            )
    return [
        da.asarray(calibration[name].transpose(Y, X).data).rechunk(-1).astype(np.float32)
        for name in names
    ]


def _binning(calibrated: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Name the binning that explains two shapes, if there is one."""
    ratios = {max(a, b) / max(min(a, b), 1) for a, b in zip(calibrated, shape, strict=True)}
    (ratio, *others) = ratios
    return f": a binning of {ratio:g}" if not others and ratio == int(ratio) else ""


def _shift_block(f_y: NDArray[Any], f_x: NDArray[Any]) -> NDArray[np.float32]:
    return np.stack(inverse_shift(f_y, f_x))


def _resample_block(
    frames: NDArray[np.float32], shift_y: NDArray[np.float32], shift_x: NDArray[np.float32]
) -> NDArray[np.float32]:
    y = np.arange(frames.shape[1])[:, None] + shift_y[0].astype(np.float64)
    x = np.arange(frames.shape[2])[None, :] + shift_x[0].astype(np.float64)
    return np.stack([resampled(image, y, x, order=ORDER) for image in frames])
