"""Masked pixels: what a user, a file or a detector marks as bad becomes NaN, lazily."""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import (
    BAD_VALUES,
    MASKED,
    MASKED_BY,
    PIXEL_MASK,
    SATURATION_VALUE,
    UNDERLOAD_VALUE,
    X,
    Y,
)
from wavedask.errors import InputError
from wavedask.frames.labels import covering
from wavedask.io import read_mask
from wavedask.kernels.masking import code_pixels, filled

logger = logging.getLogger(__name__)

Array = NDArray[Any] | da.Array
Mask = NDArray[np.bool_]
GivenMask = xr.DataArray | Array | str | Path
BadValues = Iterable[float] | Literal[False]

DECLARED: Final = (BAD_VALUES, SATURATION_VALUE, UNDERLOAD_VALUE)
"""Attributes by which the file of raw frames declares counts that are none."""
MOSTLY: Final = 0.5
"""Fraction of the pixels above which a mask is worth a warning."""
LONGEST_MEMORY: Final = 1000
"""Codes that are remembered as told."""

_told: set[tuple[str, str, int]] = set()
_calls = count()


@dataclass(frozen=True, slots=True)
class MaskRule:
    """Which pixels of a raw frame have no count, by what they hold.

    Attributes
    ----------
    codes : tuple of float
        Values that mark a pixel.
    saturation : float or None
        Smallest count that is saturated.
    largest, smallest : float or None
        Counts beyond these are none, by what the file declares.
    search : bool
        Whether to look for the codes that detectors are known to write.
    gaps : bool
        Whether areas of zeros are gaps; not in frames without beam.
    """

    codes: tuple[float, ...] = ()
    saturation: float | None = None
    largest: float | None = None
    smallest: float | None = None
    search: bool = True
    gaps: bool = True

    def searches(self, dtype: np.dtype[Any]) -> bool:
        """Whether images of a data type are searched for codes."""
        return self.search and dtype.kind in "iu"

    def found(self, image: NDArray[Any], name: str, call: str) -> Mask | None:
        """Find codes that nobody named in one whole frame; log each once per call."""
        if not self.searches(image.dtype):
            return None
        where: Mask | None = None
        for code, pixels in code_pixels(image, gaps=self.gaps):
            where = pixels if where is None else where | pixels
            if code not in self.codes:
                _tell(call, name, code, pixels)
        return where

    def named(self, image: NDArray[Any]) -> Mask | None:
        """Find the pixels that hold a code, or are saturated, by what was named."""
        found = [
            image == image.dtype.type(code) for code in self.codes if _can_be(code, image.dtype)
        ]
        if self.saturation is not None:
            found.append(image >= self.saturation)
        if self.largest is not None:
            found.append(image > self.largest)
        # What is below zero in real numbers may be a count from which a dark was subtracted.
        if self.smallest is not None and image.dtype.kind in "iu":
            found.append(image < self.smallest)
        return reduce(np.logical_or, found) if found else None


def masked_images(
    images: xr.DataArray,
    name: str,
    *,
    mask: GivenMask | None = None,
    saturation: float | None = None,
    bad: BadValues | None = None,
    gaps: bool = True,
) -> xr.DataArray:
    """Make the masked pixels of images NaN.

    Masked are: the pixels of `mask`; the pixels that the files of a scan declare as bad (its
    coordinate ``pixel_mask``, and the attributes ``bad_values``, ``saturation_value`` and
    ``underload_value`` of its images, which are the largest and the smallest valid count); the
    pixels that a `numpy.ma` array masks, in memory or in the blocks of Dask; saturated pixels; and,
    in images of integers, the codes that detectors are known to write (see `code_pixels`).

    Parameters
    ----------
    images : xarray.DataArray, dims ([frame], y, x)
        Images, as of `image_of`.
    name : str
        What they are, for messages.
    mask : array of bool or path, shape (y, x), optional
        True, or not zero, is bad. Or the path of a file, as of `wavedask.io.read_mask`.
    saturation : float, optional
        Count from which a pixel is saturated.
    bad : sequence of float or False, optional
        Further codes. With False no code is searched for: every count is an intensity.
    gaps : bool, default True
        Whether areas of zeros are gaps. In frames without beam they are not.

    Returns
    -------
    xarray.DataArray
        Lazy if `images` is. Images of integers become single precision, or double where single is
        too short; in memory only if a pixel is masked. Without the coordinate and the attribute of
        the file: they have been applied. The attribute ``masked_by`` says what is masked, and
        ``masked`` which fraction of the pixels, where the images are in memory.

    Raises
    ------
    InputError
        Images that are not real numbers, a mask of another shape or of all pixels, a saturation or
        a code that is not a number.

    Examples
    --------
    >>> image = xr.DataArray(np.array([[1, 2, 65535]], np.uint16), dims=("y", "x"))
    >>> masked_images(image, "sample").values.tolist()
    [[1.0, 2.0, nan]]
    """
    if np.isnan(images.shape).any():
        raise InputError(
            f"{name} has an unknown number of frames: {images.shape}",
            "Compute its chunk sizes first: images.data.compute_chunk_sizes().",
        )
    declared = {key: _declared(images, key, name) for key in DECLARED}
    largest, smallest = (
        declared[key][0] if declared[key] else None for key in (SATURATION_VALUE, UNDERLOAD_VALUE)
    )
    rule = MaskRule(
        codes=(*declared[BAD_VALUES], *_given_codes(bad)),
        saturation=_checked_saturation(saturation),
        largest=largest,
        smallest=smallest,
        search=bad is not False,
        gaps=gaps,
    )
    fixed, words = _fixed_mask(images, name, mask)
    if rule.codes:
        words.append(f"values {', '.join(f'{code:.10g}' for code in rule.codes)}")
    if rule.saturation is not None:
        words.append(f"counts from {rule.saturation:.10g}")
    if largest is not None:
        words.append(f"counts above {largest:.10g}")
    if smallest is not None:
        words.append(f"counts below {smallest:.10g}")
    if rule.searches(images.dtype):
        words.append("codes of detectors")
    data = masked_array(images.data, name, rule=rule, fixed=fixed)
    attrs = {key: value for key, value in images.attrs.items() if key not in DECLARED}
    if words:
        attrs[MASKED_BY] = ", ".join(words)
        if not isinstance(data, da.Array) and data.size:
            attrs[MASKED] = float(np.isnan(data).mean()) if data.dtype.kind == "f" else 0.0
    result = images.copy(data=data).drop_vars(PIXEL_MASK, errors="ignore")
    result.attrs = attrs
    return result


def masked_array(
    data: Array,
    name: str,
    *,
    rule: MaskRule | None = None,
    fixed: Array | None = None,
) -> Array:
    """Make the masked pixels of bare arrays NaN; the part of `masked_images` without labels.

    Parameters
    ----------
    data : ndarray or dask.array.Array, shape ([frame], y, x)
        Images, also `numpy.ma` arrays and blocks of them.
    name : str
        What they are, for messages.
    rule : MaskRule, optional
        By default the codes that detectors are known to write are searched for in integers.
    fixed : array of bool, shape (y, x), optional
        True for pixels that are masked in all frames.

    Returns
    -------
    ndarray or dask.array.Array
        Of the shape and the chunks of `data`; the same object if nothing is masked in memory.

    Raises
    ------
    InputError
        Data that are not real numbers.

    Examples
    --------
    >>> masked_array(np.ma.array([[1.0, 9.0]], mask=[[False, True]]), "sample")
    array([[ 1., nan]])
    """
    if data.dtype.kind not in "iuf":
        raise InputError(f"{name} has data type {data.dtype}", "Give real numbers.")
    rule = MaskRule() if rule is None else rule
    if not isinstance(data, da.Array):
        return _masked(
            data, fixed, rule=rule, what=name, call=f"call {next(_calls)}", search=rule.search
        )
    settings = {"rule": rule, "what": name, "call": data.name}
    known: list[da.Array] = []
    if fixed is not None:
        lazy = fixed if isinstance(fixed, da.Array) else da.from_array(fixed, chunks=-1)
        known.append(lazy.rechunk(data.chunks[-2:])[(None,) * (data.ndim - 2)])
    search = rule.searches(data.dtype)
    if search and any(blocks > 1 for blocks in data.numblocks[-2:]):
        # A code is recognised by its whole frame: the result must not depend on the tiles.
        found = da.map_blocks(
            _found_block,
            data.rechunk((*data.chunks[:-2], -1, -1)),
            **settings,
            dtype=np.bool_,
            meta=np.empty((0,) * data.ndim, np.bool_),
        ).rechunk(data.chunks)
        known = [known[0] | found if known else found]
        search = False
    dtype = np.result_type(data.dtype, np.float32)
    masked: da.Array = da.map_blocks(
        _masked_block,
        data,
        *known,
        **settings,
        search=search,
        dtype=dtype,
        meta=np.empty((0,) * data.ndim, dtype),
    )
    return masked


def _masked_block(block: Any, known: Mask | None = None, **settings: Any) -> NDArray[Any]:
    out = _masked(block, known, **settings)
    return out.astype(np.result_type(out.dtype, np.float32), copy=False)


def _found_block(block: Any, *, rule: MaskRule, what: str, call: str) -> Mask:
    """Find the codes of the whole frames of a block."""
    frames = filled(block)
    out = np.zeros(frames.shape, np.bool_)
    for index in np.ndindex(frames.shape[:-2]):
        where = rule.found(frames[index], what, call)
        if where is not None:
            out[index] = where
    return out


def _masked(
    values: Any, known: Any, *, rule: MaskRule, what: str, call: str, search: bool
) -> NDArray[Any]:
    """Make pixels of frames in memory NaN; the frames as they are if there are none."""
    frames = filled(values)
    if frames.dtype.itemsize < 4 and frames.dtype.kind == "f":
        # Sums of half precision end at 65504.
        frames = frames.astype(np.float32)
    fixed = None if known is None else np.broadcast_to(np.asarray(known, np.bool_), frames.shape)
    out: NDArray[Any] | None = None
    for index in np.ndindex(frames.shape[:-2]):
        image = frames[index]
        parts = [
            None if fixed is None else fixed[index],
            rule.found(image, what, call) if search else None,
            rule.named(image),
        ]
        for where in parts:
            if where is not None and where.any():
                if out is None:
                    out = frames.astype(np.result_type(frames.dtype, np.float32))
                out[index][where] = np.nan
    return frames if out is None else out


def _can_be(code: float, dtype: np.dtype[Any]) -> bool:
    """Whether an image of a data type can hold a code: a list may serve several detectors."""
    if dtype.kind == "f":
        return True
    limits = np.iinfo(dtype)
    return code == int(code) and limits.min <= code <= limits.max


def _tell(call: str, name: str, code: int, pixels: Mask) -> None:
    """Log that a code was found, once for all frames of a call."""
    key = (call, name, code)
    if key in _told:
        return
    if len(_told) > LONGEST_MEMORY:
        _told.clear()
    _told.add(key)
    number = int(np.count_nonzero(pixels))
    logger.warning(
        "%s: %d of %d pixels of a frame (%.2g %%) hold %s; they are masked (NaN)."
        " If these are intensities: correct(..., bad=False)",
        name,
        number,
        pixels.size,
        100 * number / pixels.size,
        f"{code}, a code of masked pixels" if code else "0 in whole lines or areas, as gaps do",
    )


def _declared(images: xr.DataArray, key: str, name: str) -> tuple[float, ...]:
    """Read the counts that an attribute of the file declares."""
    declared = images.attrs.get(key, ())
    try:
        return tuple(float(code) for code in np.ravel(declared))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"attribute {key} of {name} is {declared!r}", "It must be a number, or a list of those."
        ) from error


def _given_codes(bad: Any) -> tuple[float, ...]:
    if bad is None or bad is False:
        return ()
    codes = bad if isinstance(bad, list | tuple | set | frozenset | np.ndarray) else None
    if codes is None or not all(_is_number(code) for code in codes):
        raise InputError(
            f"bad is {bad!r}",
            "Give a list of the values that mark a pixel, such as [-1, 4294967295]; or False, to"
            " take every count for an intensity.",
        )
    return tuple(float(code) for code in codes)


def _checked_saturation(saturation: Any) -> float | None:
    if saturation is None:
        return None
    if not _is_number(saturation) or not 0 < saturation < math.inf:
        raise InputError(
            f"saturation is {saturation!r}", "Give the count from which a pixel is saturated."
        )
    return float(saturation)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _fixed_mask(
    images: xr.DataArray, name: str, mask: GivenMask | None
) -> tuple[Array | None, list[str]]:
    """Join the mask that was given with that of the file, and say which there are."""
    shape = (int(images.sizes[Y]), int(images.sizes[X]))
    given: list[Array] = []
    words: list[str] = []
    if mask is not None:
        if isinstance(mask, xr.DataArray):
            mask = covering(images, mask, names=(name, "mask"))
        given.append(_checked_mask(_mask_array(mask), shape, "mask", name))
        words.append("mask")
    if PIXEL_MASK in images.coords:
        declared = images.coords[PIXEL_MASK]
        given.append(_checked_mask(_plane(declared), shape, PIXEL_MASK, name))
        words.append("mask of the file")
    if not given:
        return None, words
    return (given[0] if len(given) == 1 else given[0] | given[1]), words


def _mask_array(mask: Any) -> Array:
    """Return a mask as an array (y, x): as it is, or as it stands in a file."""
    if isinstance(mask, str | Path):
        return read_mask(mask)
    if isinstance(mask, xr.DataArray):
        return _plane(mask)
    if isinstance(mask, np.ndarray | da.Array):
        return mask
    raise InputError(
        f"mask is a {type(mask).__name__}",
        "Give an array of booleans (True is bad), or the path of an image.",
    )


def _plane(mask: xr.DataArray) -> Array:
    if set(mask.dims) != {Y, X}:
        raise InputError(f"mask has dimensions {mask.dims}", f"Rename them to ({Y}, {X}).")
    return mask.transpose(Y, X).data  # type: ignore[no-any-return] # xarray leaves it open


def _checked_mask(mask: Array, shape: tuple[int, int], what: str, name: str) -> Array:
    if tuple(mask.shape) != shape:
        raise InputError(
            f"{what} is {tuple(mask.shape)}, {name} frames are {shape} (y, x)",
            "Use a mask of the same detector region and binning.",
        )
    if mask.dtype.kind not in "biuf":
        raise InputError(f"{what} has data type {mask.dtype}", "Give booleans: True is bad.")
    # What has no value in the mask, NaN, differs from 0: it is bad.
    bad = mask if mask.dtype.kind == "b" else mask != 0
    if isinstance(bad, da.Array):
        return bad
    bad = np.asarray(bad)
    share = float(bad.mean()) if bad.size else 0.0
    if share == 1:
        raise InputError(
            f"{what} masks every pixel of {name}", "True, or not zero, is bad: is it inverted?"
        )
    if share > MOSTLY:
        logger.warning(
            "%s masks %.0f %% of the pixels of %s: True, or not zero, is bad",
            what,
            100 * share,
            name,
        )
    return bad
