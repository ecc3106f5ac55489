"""A file with one image that says which pixels are bad."""

import math
import os
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from wavedask.conventions import IMAGE
from wavedask.errors import FileError, InputError
from wavedask.io.files import WITHIN, Format, format_of
from wavedask.io.frames import check_expansion, decoding
from wavedask.io.hdf5.access import opened, reading_hdf5
from wavedask.io.scan import open_scan
from wavedask.io.tiff import read_plane
from wavedask.paths import expanded

NUMPY: Final = ".npy"
LISTED: Final = 8
"""Datasets that a message lists at most."""


def read_mask(path: str | os.PathLike[str]) -> NDArray[np.bool_]:
    """Read a mask: an image whose pixels are bad where they are not zero.

    Parameters
    ----------
    path : path
        A file with a single image: TIFF, EDF, HDF5 or NumPy (``.npy``). In an HDF5 file the mask is
        the only dataset with two axes longer than one, or ``file.h5::/path`` names it.

    Returns
    -------
    ndarray of bool, shape (y, x)
        True for bad pixels.

    Raises
    ------
    FileError
        A file that is missing or cannot be read.
    InputError
        No image, or more than one.

    Examples
    --------
    >>> import tempfile, tifffile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tifffile.imwrite(f"{folder}/mask.tif", np.array([[0, 0, 1]], np.uint8))
    ...     print(read_mask(f"{folder}/mask.tif"))
    [[False False  True]]
    """
    file, inside = split_mask(path)
    if not file.is_file():
        raise FileError(f"mask {file} does not exist", "Check the path.")
    kind = format_of(file)
    if kind is Format.HDF5:
        values = _from_hdf5(file, inside)
    elif inside:
        raise InputError(f"mask {path} names a dataset", "Only HDF5 files have datasets.")
    elif file.suffix.lower() == NUMPY:
        with decoding(file):
            _check_npy(file)
            values = np.load(file, allow_pickle=False)
    elif kind is Format.TIFF:
        values = read_plane(file)
    else:
        values = open_scan(file, progress=False)[IMAGE.name].to_numpy()
    return np.asarray(_plane(values, str(path)) != 0)


def _check_npy(file: Path) -> None:
    """Refuse an array that is longer than its file, before there is memory for it."""
    with file.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        check_expansion(
            file, "the mask", size=math.prod(shape) * dtype.itemsize, stored=file.stat().st_size
        )


def split_mask(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """Split the path of a mask into its file and the path of a dataset in it.

    Examples
    --------
    >>> split_mask("mask.h5::/entry/mask")[1], split_mask("mask.tif")[1]
    ('/entry/mask', '')
    """
    named, _, inside = os.fspath(path).partition(WITHIN)
    return expanded(named), inside


def _plane(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Return the only image of an array; axes of length one before it do not count."""
    plane = values.reshape(values.shape[-2:]) if values.ndim > 2 and _is_plane(values) else values
    if plane.ndim != 2 or plane.dtype.kind not in "biuf" or not plane.size:
        raise InputError(
            f"mask {name} has shape {values.shape} and type {values.dtype}",
            "Give a file with a single image of booleans or numbers.",
        )
    return plane


def _is_plane(item: Any) -> bool:
    return len(item.shape) >= 2 and all(size == 1 for size in item.shape[:-2])


def _from_hdf5(file: Path, inside: str) -> NDArray[Any]:
    """Read the dataset that is named, or the only one that is an image."""
    with opened(file) as content, reading_hdf5(file):
        found: dict[str, h5py.Dataset] = {}

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and _is_plane(item) and item.dtype.kind in "biuf":
                found[name] = item

        if inside:
            item = content.get(inside)
            if not isinstance(item, h5py.Dataset):
                raise InputError(
                    f"mask {file} has no dataset {inside!r}",
                    "'wavedask info FILE' shows its paths.",
                )
            return _values(item, file)
        content.visititems(visit)
        if len(found) != 1:
            names = [f"{file.name}{WITHIN}/{name}" for name in list(found)[:LISTED]]
            raise InputError(
                f"mask {file} has {len(found)} images",
                f"Name one of them: {', '.join(names)}." if names else "Give a file with a mask.",
            )
        return _values(next(iter(found.values())), file)


def _values(dataset: h5py.Dataset, file: Path) -> NDArray[Any]:
    size, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
    check_expansion(file, str(dataset.name), size=size, stored=stored)
    return np.asarray(dataset[()])
