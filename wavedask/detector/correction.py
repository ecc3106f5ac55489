"""Dark, flat, hot pixels and distortion: raw counts to relative intensity on perfect pixels."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import DIMENSIONLESS, FRAME, IMAGE, Quantity, X, Y, labelled
from wavedask.detector.undistort import undistorted
from wavedask.errors import InputError
from wavedask.frames import for_correction, image_of
from wavedask.kernels.grids import median_of, neighbours

logger = logging.getLogger(__name__)

Average = Literal["mean", "median"]
AVERAGES: Final = ("mean", "median")

NORMALISED: Final = Quantity(IMAGE.name, DIMENSIONLESS, "intensity relative to the flat field")
SUBTRACTED: Final = Quantity(IMAGE.name, IMAGE.units, "intensity above the dark level")
BLIND: Final = Quantity("blind", DIMENSIONLESS, "pixel whose flat field is not above its dark")

Images = xr.DataArray | xr.Dataset


def correct(
    scan: Images,
    *,
    dark: Images | None = None,
    flat: Images | None = None,
    average: Average = "mean",
    hot_pixels: float | None = None,
    distortion: xr.Dataset | None = None,
) -> xr.DataArray:
    """Correct raw frames for the dark current, the flat field and the distortion.

    ``I = (raw - dark) / (flat - dark)``, equation 3.3 of the M7.5 report, with the dark and flat
    frames averaged. Without `flat` only the dark is subtracted; without either the frames are only
    converted. With `distortion` the result is then resampled, by equation 3.4, to the pixels of an
    undistorted detector.

    Parameters
    ----------
    scan : Dataset or DataArray, dims ([frame], y, x)
        Raw frames in counts.
    dark : Dataset or DataArray, dims ([frame], y, x), optional
        Frames without beam, of the same exposure.
    flat : Dataset or DataArray, dims ([frame], y, x), optional
        Frames with beam and without membrane.
    average : "mean" or "median", default "mean"
        How dark and flat frames are combined; the median forgives a stray hit.
    hot_pixels : float, optional
        Replace a pixel that departs from the median of its eight neighbours by more than this
        fraction of it by that median. A grain of speckle departs by less than its contrast: 0.5 is
        a safe choice. By default nothing is replaced.
    distortion : Dataset, optional
        Calibration of the same detector, from `detector_distortion`. Frames are resampled by a
        quintic B-spline, each in one chunk along y and x: the value at a true pixel q is that at
        the distorted p with ``p + f(p) = q``. An intensity relative to the flat field does not
        change when pixels change their size, and is not scaled.

    Returns
    -------
    xarray.DataArray
        Relative intensity (units ``1``), float32, lazy and chunked as `scan`, with its coordinates.
        Pixels whose flat field is not above their dark are NaN: they see no beam, and nothing can
        be said there. How many they are is logged when they are computed (as a warning if `scan` is
        in memory, else as information); `blind_pixels` tells where. Pixels that a `distortion` does
        not know or brings in from outside are NaN too, as is what a spline reaches around others.

    Raises
    ------
    InputError
        Shapes that differ, an unknown average, a `hot_pixels` that is not positive, or a
        `distortion` that is no calibration.
    FrameMismatchError
        A `distortion` of another shape, binning or region.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> def frames(value):
    ...     return xr.DataArray(np.full((1, 2, 3), value), dims=("frame", "y", "x"))
    >>> image = correct(frames(300), dark=frames(100), flat=frames(500))
    >>> float(image[0, 0, 0]), image.units
    (0.5, '1')
    """
    given = {"dark": dark, "flat": flat}
    raw, (dark, flat), distortion = for_correction(
        image_of(scan, "scan"),
        {name: None if part is None else image_of(part, name) for name, part in given.items()},
        distortion=distortion,
    )
    if hot_pixels is not None and not hot_pixels > 0:
        raise InputError(
            f"hot_pixels is {hot_pixels}", "Give a positive fraction, 0.5 say, or None."
        )
    level, gain = _level_and_gain(raw, dark, flat, average)
    frames = _lazy(raw.data)
    corrected = da.map_blocks(
        _corrected_block,
        frames,
        _against(level, frames),
        _against(gain, frames),
        dtype=np.float32,
        meta=np.empty((0,) * frames.ndim, np.float32),
    )
    if hot_pixels is not None:
        corrected = _without_hot_pixels(corrected, hot_pixels)
    if distortion is not None:
        corrected = undistorted(corrected, raw, distortion)
    if not isinstance(raw.data, da.Array):
        corrected = corrected.compute()
    return labelled(
        corrected,
        SUBTRACTED if flat is None else NORMALISED,
        dims=tuple(map(str, raw.dims)),
        coords=raw.coords,
        attrs=raw.attrs,
    )


def blind_pixels(
    flat: Images, *, dark: Images | None = None, average: Average = "mean"
) -> xr.DataArray:
    """Tell which pixels have a flat field that is not above their dark.

    Parameters
    ----------
    flat, dark, average
        As in `correct`.

    Returns
    -------
    xarray.DataArray of bool, dims (y, x)
        Lazy where `flat` is.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> flat = xr.DataArray(np.array([[5.0, 0.0]]), dims=("y", "x"))
    >>> int(blind_pixels(flat).sum())
    1
    """
    bright, (dark,), _ = for_correction(
        image_of(flat, "flat"), {"dark": None if dark is None else image_of(dark, "dark")}
    )
    _, gain = _level_and_gain(bright, dark, flat, average)
    blind = da.isnan(gain)
    if not isinstance(bright.data, da.Array):
        blind = blind.compute()
    return labelled(blind, BLIND, dims=(Y, X))


def _level_and_gain(
    raw: xr.DataArray, dark: Images | None, flat: Images | None, average: Average
) -> tuple[da.Array, da.Array]:
    """Averaged dark, and averaged flat above it with NaN where there is no beam; lazy (y, x)."""
    if average not in AVERAGES:
        raise InputError(f"average is {average!r}", f"Choose one of: {', '.join(AVERAGES)}.")
    shape = raw.shape[-2:]
    level = da.zeros(shape, dtype=np.float32, chunks=-1)
    gain = da.ones(shape, dtype=np.float32, chunks=-1)
    if dark is not None:
        level = _averaged(image_of(dark, "dark"), "dark", shape, average)
    if flat is not None:
        bright = _averaged(image_of(flat, "flat"), "flat", shape, average)
        gain = da.map_blocks(
            _gain_block,
            bright,
            level,
            # A cluster runs this in several processes, each with a standard error of its own.
            severity=logging.INFO if isinstance(raw.data, da.Array) else logging.WARNING,
            dtype=np.float32,
            meta=np.empty((0, 0), np.float32),
        )
    return level, gain


def _averaged(
    images: xr.DataArray, name: str, shape: tuple[int, ...], average: Average
) -> da.Array:
    if images.shape[-2:] != shape:
        raise InputError(
            f"{name} frames are {images.shape[-2:]}, the scan's {shape} (y, x)",
            "Use frames of the same detector region and binning.",
        )
    frames = _lazy(images.data)
    if images.dims[0] != FRAME:
        frames = frames[None]
    # One task for all frames of a tile: the mean of float32 counts needs a float64 sum, and the
    # median needs all frames at once.
    frames = frames.rechunk({0: -1})
    combine: Callable[..., Any] = np.mean if average == "mean" else np.median
    combined: da.Array = da.map_blocks(
        partial(_combined_block, combine=combine),
        frames,
        drop_axis=0,
        dtype=np.float32,
        meta=np.empty((0, 0), np.float32),
    )
    whole: da.Array = combined.rechunk(-1)
    return whole


def _combined_block(frames: NDArray[Any], *, combine: Callable[..., Any]) -> NDArray[np.float32]:
    return np.asarray(combine(frames.astype(np.float64), axis=0), np.float32)


def _gain_block(
    flat: NDArray[np.float32], level: NDArray[np.float32], *, severity: int
) -> NDArray[np.float32]:
    gain = flat - level
    blind = ~(gain > 0)
    if blind.any():
        logger.log(
            severity,
            "%d of %d pixels have a flat field not above their dark: they are NaN from here on",
            np.count_nonzero(blind),
            blind.size,
        )
    return np.where(blind, np.nan, gain).astype(np.float32)


def _corrected_block(
    raw: NDArray[Any], level: NDArray[np.float32], gain: NDArray[np.float32]
) -> NDArray[np.float32]:
    return (raw.astype(np.float32) - level) / gain


def _against(field: da.Array, frames: da.Array) -> da.Array:
    """Chunk a (y, x) field as the frames are, so that blocks meet."""
    chunked: da.Array = field.rechunk(frames.chunks[-2:])[(None,) * (frames.ndim - 2)]
    return chunked


def _lazy(data: Any) -> da.Array:
    lazy: da.Array = data if isinstance(data, da.Array) else da.from_array(data, chunks=-1)
    return lazy


def _without_hot_pixels(frames: da.Array, fraction: float) -> da.Array:
    depth = {
        axis: int(frames.numblocks[axis] > 1 and axis >= frames.ndim - 2)
        for axis in range(frames.ndim)
    }
    replaced: da.Array = da.map_overlap(
        partial(_replace_hot, fraction=fraction),
        frames,
        depth=depth,
        boundary="none",
        allow_rechunk=False,
        dtype=np.float32,
        meta=np.empty((0,) * frames.ndim, np.float32),
    )
    return replaced


def _replace_hot(frames: NDArray[np.float32], *, fraction: float) -> NDArray[np.float32]:
    out = frames.copy()
    for image in out.reshape(-1, *out.shape[-2:]):
        median = median_of(neighbours(image))
        with np.errstate(invalid="ignore"):
            hot = np.abs(image - median) > fraction * np.abs(median)
        image[hot] = median[hot]
    return np.asarray(out)
