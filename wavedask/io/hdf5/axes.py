"""Which axes of a dataset are rows and columns; colours and spectra are refused."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import h5py
import numpy as np

from wavedask.errors import FileError
from wavedask.io.hdf5.access import is_numeric, text_of, values_of
from wavedask.io.hdf5.links import follow

PixelAxes: TypeAlias = tuple[int, int]
"""Places of the axes of rows and of columns in the shape of a dataset."""

SEPARATORS: Final = re.compile(r"[:,;\[\]\s]+")
"""What stands between the names of axes that are one text."""
NAME_OF_ROWS: Final = re.compile(
    r"((image|detector|det|pixel|pix|px)_?)?(y|rows?|height|v|vertical)"
    r"_?((pixel|pix|px|axis)(_?offset)?)?",
    re.IGNORECASE,
)
NAME_OF_COLUMNS: Final = re.compile(
    r"((image|detector|det|pixel|pix|px)_?)?(x|cols?|columns?|width|h|horizontal)"
    r"_?((pixel|pix|px|axis)(_?offset)?)?",
    re.IGNORECASE,
)
UNLABELLED: Final = frozenset({"", "."})
"""Names of an axis that has none."""
COLOURS: Final = frozenset({"rgba-image", "rgb-image", "rgb", "rgba", "hsla-image", "cmyk-image"})
"""Interpretations (NeXus) of images in colour."""
NO_IMAGES: Final = frozenset({"scalar", "scaler", "spectrum", "vertex"})
"""Interpretations of data that are no images."""
SAVE_GREY: Final = "A frame is grey: save one channel."


def declared_names(dataset: h5py.Dataset, plots: Iterable[h5py.Group] = ()) -> list[str]:
    """Names of the axes of a dataset, as it or a plot of it has them; empty, if none does.

    Parameters
    ----------
    dataset : h5py.Dataset
        The frames.
    plots : iterable of h5py.Group
        Groups of the class NXdata whose signal the dataset is.

    Returns
    -------
    list of str
        One per axis, in the order of the shape.
    """
    for owner in (dataset, *plots):
        given = owner.attrs.get("axes")
        if given is None:
            continue
        texts = [text_of(text) for text in np.atleast_1d(given)]
        if len(texts) == 1:
            texts = [text for text in SEPARATORS.split(texts[0]) if text]
        if len(texts) == dataset.ndim:
            return texts
    return []


def pixel_axes(names: Sequence[str], ndim: int) -> PixelAxes:
    """Find the axes of rows and columns: the last two, unless others are named so.

    Parameters
    ----------
    names : sequence of str
        Names of the axes; may be empty.
    ndim : int
        Number of axes.

    Returns
    -------
    (int, int)
        Rows, then columns.

    Examples
    --------
    >>> pixel_axes(["y", "theta", "x"], 3)
    (0, 2)
    >>> pixel_axes(["y", "x", ".", "."], 4)  # a mesh of two motors
    (2, 3)
    """
    last = (ndim - 2, ndim - 1)
    if len(names) != ndim:
        return last
    rows = [place for place, name in enumerate(names) if NAME_OF_ROWS.fullmatch(name)]
    columns = [place for place, name in enumerate(names) if NAME_OF_COLUMNS.fullmatch(name)]
    if not rows or not columns or all(names[place] in UNLABELLED for place in last):
        return last
    # Of two pairs, the later one: motors may be called x and y, too.
    return rows[-1], columns[-1]


def check_grey(dataset: h5py.Dataset, full: str, path: Path, nearby: Iterable[Any] = ()) -> None:
    """Refuse a dataset that says that it is in colour, or no image.

    Parameters
    ----------
    dataset : h5py.Dataset
        The frames.
    full : str
        Its path in the file.
    path : pathlib.Path
        The file.
    nearby : iterable of h5py.Group
        Groups that may have the attributes of an areaDetector (``NDAttributes``).

    Raises
    ------
    FileError
        If its ``interpretation`` (NeXus), ``IMAGE_SUBCLASS`` (HDF5 image) or ``ColorMode``
        (areaDetector) is that of something else than grey images.
    """
    kind = text_of(dataset.attrs.get("interpretation")).lower()
    if kind in NO_IMAGES:
        raise FileError(
            f"{path}: {full} holds no images: its interpretation is {kind!r}",
            "Choose another dataset: image='<path>'.",
        )
    subclass = text_of(dataset.attrs.get("IMAGE_SUBCLASS")).upper()
    if kind in COLOURS or subclass == "IMAGE_TRUECOLOR":
        raise FileError(f"{path}: {full} holds colour images ({kind or subclass})", SAVE_GREY)
    for group in nearby:
        mode = follow(group, "NDAttributes/ColorMode") if isinstance(group, h5py.Group) else None
        if not isinstance(mode, h5py.Dataset) or not mode.size:
            continue
        modes = np.ravel(values_of(mode))
        if is_numeric(mode):
            coloured = bool(np.any(modes))
            shown = str(np.max(modes))
        else:
            shown = text_of(modes[0])
            coloured = not shown.lower().startswith("mono")
        if coloured:
            raise FileError(
                f"{path}: {full} holds colour images (areaDetector, ColorMode {shown})", SAVE_GREY
            )
