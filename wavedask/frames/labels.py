"""Pixel labels: images whose coordinates y and x name the same pixels are brought together."""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import PIXEL, UNITS, X, Y
from wavedask.errors import FrameMismatchError

Labelled = TypeVar("Labelled", xr.Dataset, xr.DataArray)

SAME_PIXEL: Final = 0.01
"""Part of a pixel by which two labels of one pixel may differ."""


def aligned(images: Mapping[str, Labelled]) -> list[Labelled]:
    """Cut images to the pixels that all of them have, by their labels.

    Parameters
    ----------
    images : mapping of str to xarray.Dataset or xarray.DataArray
        Data with the dimensions ``y`` and ``x``, by their names in a message. What has no
        coordinate along a dimension is left as it is: it says nothing of its pixels.

    Returns
    -------
    list of xarray.Dataset or xarray.DataArray
        The same in the same order, lazy where they were; with the labels of the first.

    Raises
    ------
    FrameMismatchError
        Labels that are not pixels of one grid (half a pixel apart, or of another binning), that do
        not rise or fall, or that have nothing in common: the message shows both ranges.

    Examples
    --------
    >>> image = xr.DataArray(np.arange(6.0), coords={"x": np.arange(6)}, dims="x")
    >>> left, right = aligned({"sample": image[:4], "reference": image[2:]})
    >>> left.values.tolist(), right.values.tolist()
    ([2.0, 3.0], [2.0, 3.0])
    """
    names, cut = list(images), list(images.values())
    for dim in (Y, X):
        labelled = [k for k, image in enumerate(cut) if dim in image.coords]
        for k in labelled[1:]:
            whole = cut[labelled[0]]
            mine, _ = common_pixels(whole, cut[k], dim, names=(names[labelled[0]], names[k]))
            cut[labelled[0]] = _picked(whole, dim, mine)
        for k in labelled[1:]:
            whole = cut[labelled[0]]
            _, others = common_pixels(whole, cut[k], dim, names=(names[labelled[0]], names[k]))
            cut[k] = _picked(cut[k], dim, others).assign_coords({dim: whole[dim]})
    return cut


def covering(image: xr.DataArray, other: Labelled, *, names: tuple[str, str]) -> Labelled:
    """Cut what an image needs to the pixels of that image, by their labels.

    Parameters
    ----------
    image : xarray.DataArray, dims (..., y, x)
        Its pixels count.
    other : xarray.Dataset or xarray.DataArray, dims (..., y, x)
        A dark, flat or calibration: of the same region of the detector, or of a larger one.
    names : (str, str)
        What the two are, for the message.

    Returns
    -------
    same type as `other`
        With the labels of `image`, lazy if it was; `other` itself where either has no labels.

    Raises
    ------
    FrameMismatchError
        As `aligned`; and an `other` that lacks some pixels of `image`.

    Examples
    --------
    >>> flat = xr.DataArray(np.arange(6.0), coords={"x": np.arange(6)}, dims="x")
    >>> covering(flat[2:4], flat, names=("scan", "flat")).values.tolist()
    [2.0, 3.0]
    """
    for dim in (Y, X):
        if dim not in image.coords or dim not in other.coords:
            continue
        mine, others = common_pixels(image, other, dim, names=names)
        if mine.size < image.sizes[dim]:
            raise _mismatch(image, other, dim, names, "does not have all pixels of the first")
        other = _picked(other, dim, others).assign_coords({dim: image[dim]})
    return other


def common_pixels(
    one: xr.Dataset | xr.DataArray,
    other: xr.Dataset | xr.DataArray,
    dim: str,
    *,
    names: tuple[str, str],
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the pixels that two images have in common along a dimension, in the order of the first.

    Parameters
    ----------
    one, other : xarray.Dataset or xarray.DataArray
        Both with a coordinate along `dim`.
    dim : str
        The dimension.
    names : (str, str)
        What the two are, for the message.

    Returns
    -------
    ndarray of int, ndarray of int
        Positions of the same pixels in both.

    Raises
    ------
    FrameMismatchError
        As `aligned`.

    Examples
    --------
    >>> image = xr.DataArray(np.zeros(6), coords={"x": np.arange(6)}, dims="x")
    >>> mine, others = common_pixels(image[:4], image[2:], "x", names=("sample", "reference"))
    >>> mine.tolist(), others.tolist()
    ([2, 3], [0, 1])
    """
    units = [part[dim].attrs.get(UNITS, PIXEL) for part in (one, other)]
    if units[0] != units[1]:
        raise _mismatch(one, other, dim, names, f"is in {units[1]!r}, the first in {units[0]!r}")
    mine, others = (np.asarray(part[dim].to_numpy(), np.float64) for part in (one, other))
    if np.array_equal(mine, others):
        return np.arange(mine.size), np.arange(mine.size)
    for labels in (mine, others):
        steps = np.diff(labels)
        if not labels.size or not ((steps > 0).all() or (steps < 0).all()):
            raise _mismatch(one, other, dim, names, "differs, and one does not rise or fall")
    step = min(float(np.abs(np.diff(labels)).min(initial=np.inf)) for labels in (mine, others))
    # Single pixels have no step of their own: then those of whole numbers count.
    near = SAME_PIXEL * (step if np.isfinite(step) else 1.0)
    low, high = max(mine.min(), others.min()), min(mine.max(), others.max())
    inside = [
        np.flatnonzero((labels >= low - near) & (labels <= high + near))
        for labels in (mine, others)
    ]
    if not inside[0].size or not inside[1].size:
        raise _mismatch(one, other, dim, names, "has no pixel in common with the first")
    first, second = mine[inside[0]], others[inside[1]]
    if (first[0] > first[-1]) != (second[0] > second[-1]):
        inside[1], second = inside[1][::-1], second[::-1]
    if first.size != second.size or not (np.abs(first - second) <= near).all():
        raise _mismatch(one, other, dim, names, "numbers other pixels than the first")
    return inside[0], inside[1]


def _picked(image: Labelled, dim: str, positions: NDArray[np.intp]) -> Labelled:
    """Pick neighbouring pixels, as a slice that costs nothing."""
    if np.array_equal(positions, np.arange(image.sizes[dim])):
        return image
    first, last = int(positions[0]), int(positions[-1])
    if first <= last:
        return image.isel({dim: slice(first, last + 1)})
    return image.isel({dim: slice(first, None if last == 0 else last - 1, -1)})


def _mismatch(
    one: Any, other: Any, dim: str, names: tuple[str, str], problem: str
) -> FrameMismatchError:
    ranges = [
        f"{labels[0]:g} to {labels[-1]:g} ({labels.size} pixels)"
        if (labels := part[dim].to_numpy()).size
        else "empty"
        for part in (one, other)
    ]
    return FrameMismatchError(
        f"{dim} of the {names[0]} is {ranges[0]}, {dim} of the {names[1]} is {ranges[1]}: the"
        f" second {problem}",
        "Take the same region of the detector for both; or, if the labels are wrong and both are"
        f" the same pixels, drop them: drop_vars({dim!r}).",
    )
