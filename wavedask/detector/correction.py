"""Dark, flat, hot pixels and distortion: raw counts to relative intensity on perfect pixels."""

import logging
import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import (
    COUNTS,
    DARK_SUBTRACTED,
    DIMENSIONLESS,
    FLAT_DIVIDED,
    FRAME,
    HOT_PIXELS_REPLACED,
    IMAGE,
    UNDISTORTED,
    UNITS,
    Quantity,
    X,
    Y,
    labelled,
)
from wavedask.detector.averaging import AVERAGES, Average, averaged
from wavedask.detector.steps import check_steps, flat_scale, is_relative, is_subtracted
from wavedask.detector.undistort import RESAMPLING, undistorted
from wavedask.errors import InputError
from wavedask.frames import BadValues, GivenMask, for_correction, image_of, masked_images
from wavedask.kernels.grids import median_of, neighbours
from wavedask.units import number_of

logger = logging.getLogger(__name__)

NORMALISED: Final = Quantity(IMAGE.name, DIMENSIONLESS, "intensity relative to the flat field")
SUBTRACTED: Final = Quantity(IMAGE.name, COUNTS, "intensity above the dark level")
BLIND: Final = Quantity("blind", DIMENSIONLESS, "pixel whose flat field is not above its dark")

Images = xr.DataArray | xr.Dataset


def correct(
    scan: Images,
    *,
    dark: Images | None = None,
    flat: Images | None = None,
    flat_dark: Images | None = None,
    average: Average = "mean",
    mask: GivenMask | None = None,
    saturation: float | None = None,
    bad: BadValues | None = None,
    hot_pixels: float | None = None,
    distortion: xr.Dataset | None = None,
) -> xr.DataArray:
    """Correct raw frames for masked pixels, dark current, flat field and distortion.

    ``I = (raw - dark) / (flat - dark)``, equation 3.3 of the M7.5 report, with the dark and flat
    frames averaged. Without `flat` only the dark is subtracted; without either the frames are only
    masked and converted. With `distortion` the result is then resampled, by equation 3.4, to the
    pixels of an undistorted detector. What was done is kept in the attributes of the result.

    Parameters
    ----------
    scan : Dataset or DataArray, dims ([frame], y, x)
        Raw frames in counts. Frames that were corrected already can take the steps that are
        missing, and no step twice.
    dark : Dataset or DataArray, dims ([frame], y, x), optional
        Frames without beam, of the same exposure.
    flat : Dataset or DataArray, dims ([frame], y, x), optional
        Frames with beam and without membrane.
    flat_dark : Dataset or DataArray, dims ([frame], y, x), optional
        Frames without beam, of the exposure of `flat`, where that is another one; by default `dark`
        is subtracted from the flat, too. Exposure times are compared where the frames have a
        coordinate ``exposure_time``. A dark must have the exposure of its frames: it cannot be
        scaled, because a part of it does not grow with the time. A flat above its own dark is
        scaled to the exposure of the scan.
    average : "mean" or "median", default "mean"
        How dark and flat frames are combined; the median forgives a stray hit. A pixel that is
        masked in some of the frames is averaged over the others, if these are half of them.
    mask : array of bool or path, shape (y, x), optional
        Bad pixels (True, or not zero), or a file with such an image: TIFF, EDF, HDF5
        (``file.h5::/path``) or NumPy.
    saturation : float, optional
        Count from which a pixel is saturated, in scan, dark and flat.
    bad : sequence of float or False, optional
        Counts that mark a masked pixel. The codes that detectors are known to write into integers
        are found without it, and logged: the largest number of 16 or 32 bits, -1 and -2, and 0 in
        the gaps of modules. So are the pixels and values that the files declare (``pixel_mask``,
        ``bad_values``) applied. With False no code is searched for.
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
        Relative intensity (units ``1``), lazy and chunked as `scan`, with its coordinates. Single
        precision; double where the raw counts have more than 24 bits. Masked pixels are NaN, as are
        pixels whose flat field is not above their dark: they see no beam, and nothing can be said
        there. How many the latter are is logged when they are computed (as a warning if `scan` is
        in memory, else as information); `blind_pixels` tells where. Pixels that a `distortion` does
        not know or brings in from outside are NaN too, as is what a spline reaches around others.

        Attributes: ``dark_subtracted``, ``flat_divided``, ``hot_pixels_replaced`` and
        ``undistorted``, where this was done; ``masked_by``, and ``masked``, the fraction of the
        pixels, where `scan` is in memory.

    Raises
    ------
    InputError
        Shapes or exposure times that differ, a step that was done before, dark or flat frames that
        are corrected themselves, no dark or flat frames, an unknown average, a `mask`,
        `saturation`, `bad` or `hot_pixels` that makes no sense, or a `distortion` that is no
        calibration.
    FrameMismatchError
        A `distortion` of another shape, binning or region.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> def frames(value):
    ...     return xr.DataArray(np.full((1, 2, 3), value), dims=("frame", "y", "x"))
    >>> image = correct(frames(300), dark=frames(100), flat=frames(500))
    >>> float(image[0, 0, 0]), image.units, image.dark_subtracted
    (0.5, '1', 'mean of 1 frame')
    """
    if distortion is not None and not isinstance(distortion, xr.Dataset):
        raise InputError(
            f"distortion is a {type(distortion).__name__}",
            "Give the result of detector_distortion(), or open_store() of its store.",
        )
    given = {"dark": dark, "flat": flat, "flat_dark": flat_dark}
    raw, (black, bright, black_of_flat), distortion = for_correction(
        image_of(scan, "scan"),
        {name: None if part is None else image_of(part, name) for name, part in given.items()},
        distortion=distortion,
    )
    fraction = _checked_fraction(hot_pixels)
    check_steps(
        raw,
        dark=black,
        flat=bright,
        flat_dark=black_of_flat,
        undistorts=distortion is not None,
        counts={"saturation": saturation, "bad": bad},
    )
    scale = flat_scale(raw, dark=black, flat=bright, flat_dark=black_of_flat)
    codes: dict[str, Any] = {"saturation": saturation, "bad": bad}
    images = masked_images(raw, "scan", mask=mask, **codes)
    fields = _Fields(raw.shape[-2:], average, codes)
    level = fields.dark(black, "dark")
    gain = fields.gain(
        bright,
        level if black_of_flat is None else fields.dark(black_of_flat, "flat_dark"),
        # A cluster runs this in several processes, each with a standard error of its own.
        severity=logging.INFO if isinstance(raw.data, da.Array) else logging.WARNING,
    )
    corrected = _corrected(_lazy(images.data), level, gain, scale)
    attrs = {**images.attrs, **_steps(black, bright, average)}
    if fraction is not None:
        corrected = _without_hot_pixels(corrected, fraction)
        attrs[HOT_PIXELS_REPLACED] = fraction
    if distortion is not None:
        corrected = undistorted(corrected, raw, distortion)
        attrs[UNDISTORTED] = RESAMPLING
    if not isinstance(raw.data, da.Array):
        corrected = corrected.compute()
    quantity, units = _quantity(raw, black, bright)
    return labelled(
        corrected,
        quantity,
        dims=tuple(map(str, raw.dims)),
        coords=images.coords,
        units=units,
        attrs=attrs,
    )


def blind_pixels(
    flat: Images, *, dark: Images | None = None, average: Average = "mean"
) -> xr.DataArray:
    """Tell which pixels have a flat field that is not above their dark.

    Parameters
    ----------
    flat, dark, average
        As in `correct`; `dark` of the exposure of `flat`.

    Returns
    -------
    xarray.DataArray of bool, dims (y, x)
        Lazy where `flat` is. A masked pixel is not blind: nothing is known of it.

    Raises
    ------
    InputError
        As of `correct`.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> flat = xr.DataArray(np.array([[5.0, 0.0]]), dims=("y", "x"))
    >>> int(blind_pixels(flat).sum())
    1
    """
    bright, (black,), _ = for_correction(
        image_of(flat, "flat"), {"dark": None if dark is None else image_of(dark, "dark")}
    )
    check_steps(bright, dark=black, flat=bright, flat_dark=None, undistorts=False, counts={})
    flat_scale(bright, dark=black, flat=bright, flat_dark=None)
    fields = _Fields(bright.shape[-2:], average, {})
    # NaN is not below anything.
    blind = fields.flat(bright) <= fields.dark(black, "dark")
    if not isinstance(bright.data, da.Array):
        blind = blind.compute()
    return labelled(blind, BLIND, dims=(Y, X))


@dataclass(frozen=True, slots=True)
class _Fields:
    """Averages of dark and flat frames, all lazy and (y, x), for frames of a shape.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of the frames to correct.
    average : str
        How frames are combined.
    codes : dict
        Arguments of `masked_images` that say what masked pixels hold.
    """

    shape: tuple[int, ...]
    average: Any
    codes: dict[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.average, str) or self.average not in AVERAGES:
            raise InputError(
                f"average is {self.average!r}", f"Choose one of: {', '.join(AVERAGES)}."
            )

    def dark(self, images: xr.DataArray | None, name: str) -> da.Array:
        """Average dark frames; zero if there are none."""
        if images is None:
            none: da.Array = da.zeros(self.shape, dtype=np.float32, chunks=-1)
            return none
        return self._averaged(images, name, gaps=False)

    def flat(self, images: xr.DataArray) -> da.Array:
        """Average flat frames."""
        return self._averaged(images, "flat", gaps=True)

    def gain(self, images: xr.DataArray | None, level: da.Array, *, severity: int) -> da.Array:
        """Average flat frames above a dark, NaN where no beam is seen; one if there are none."""
        if images is None:
            even: da.Array = da.ones(self.shape, dtype=np.float32, chunks=-1)
            return even
        flat = self.flat(images)
        dtype = np.result_type(flat.dtype, level.dtype)
        gain: da.Array = da.map_blocks(
            _gain_block,
            flat,
            level,
            severity=severity,
            dtype=dtype,
            meta=np.empty((0, 0), dtype),
        )
        return gain

    def _averaged(self, images: xr.DataArray, name: str, *, gaps: bool) -> da.Array:
        if images.shape[-2:] != self.shape:
            raise InputError(
                f"{name} frames are {images.shape[-2:]}, the scan's {self.shape} (y, x)",
                "Use frames of the same detector region and binning.",
            )
        frames = masked_images(images, name, gaps=gaps, **self.codes).data
        return averaged(frames if images.dims[0] == FRAME else frames[None], self.average)


def _checked_fraction(hot_pixels: Any) -> float | None:
    if hot_pixels is None:
        return None
    fraction = number_of("hot_pixels", hot_pixels, unit=DIMENSIONLESS)
    if not 0 < fraction < math.inf:
        raise InputError(f"hot_pixels is {hot_pixels!r}", "Give a positive fraction such as 0.5.")
    return fraction


def _quantity(
    raw: xr.DataArray, dark: xr.DataArray | None, flat: xr.DataArray | None
) -> tuple[Quantity, str]:
    """Tell what the corrected images are, and in which unit."""
    if flat is not None or is_relative(raw):
        return NORMALISED, DIMENSIONLESS
    subtracted = dark is not None or is_subtracted(raw)
    return SUBTRACTED if subtracted else IMAGE, str(raw.attrs.get(UNITS, COUNTS))


def _steps(
    dark: xr.DataArray | None, flat: xr.DataArray | None, average: Average
) -> dict[str, str]:
    """Say what is subtracted from images, and by what they are divided, as attributes."""
    given = {DARK_SUBTRACTED: dark, FLAT_DIVIDED: flat}
    counts = {
        key: images.sizes.get(FRAME, 1) for key, images in given.items() if images is not None
    }
    return {
        key: f"{average} of {number} frame{'s' if number != 1 else ''}"
        for key, number in counts.items()
    }


def _gain_block(flat: NDArray[Any], level: NDArray[Any], *, severity: int) -> NDArray[Any]:
    gain = flat - level
    blind = gain <= 0
    if blind.any():
        logger.log(
            severity,
            "%d of %d pixels have a flat field not above their dark: they are NaN from here on",
            np.count_nonzero(blind),
            blind.size,
        )
    return np.where(blind, np.nan, gain).astype(gain.dtype)


def _corrected(
    frames: da.Array, level: da.Array, gain: da.Array, scale: NDArray[np.float64] | None
) -> da.Array:
    """Take frames relative to the gain above the level, times one number for each frame."""
    fields = [_against(level, frames), _against(gain, frames)]
    if scale is not None:
        if frames.ndim == 3 and scale.size > 1:
            factors = da.from_array(scale[:, None, None], chunks=(frames.chunks[0], 1, 1))
            fields.append(factors)
        else:
            fields[1] = fields[1] / scale[0]
    corrected: da.Array = da.map_blocks(
        _corrected_block,
        frames,
        *fields,
        dtype=np.float32,
        meta=np.empty((0,) * frames.ndim, np.float32),
    )
    return corrected


def _corrected_block(
    raw: NDArray[Any], level: NDArray[Any], gain: NDArray[Any], scale: NDArray[Any] | None = None
) -> NDArray[np.float32]:
    counts = raw.astype(np.result_type(raw.dtype, np.float32), copy=False)
    out = counts - level
    out /= gain
    if scale is not None:
        out *= scale
    return np.asarray(out, np.float32)


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
