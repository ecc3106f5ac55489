"""Masks in files of every kind that users keep them in."""

from pathlib import Path

import fabio
import h5py
import numpy as np
import pytest
import tifffile

from wavedask.errors import FileError, InputError
from wavedask.io import read_mask

MASK = np.zeros((12, 15), bool)
MASK[3, 4:7] = True


def test_masks_of_every_kind(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "bytes.tif", 255 * MASK.astype("u1"))
    tifffile.imwrite(tmp_path / "bits.tif", MASK)
    fabio.edfimage.EdfImage(data=MASK.astype("u1")).write(tmp_path / "mask.edf")
    np.save(tmp_path / "mask.npy", MASK)
    with h5py.File(tmp_path / "alone.h5", "w") as file:
        file["entry/mask"] = MASK
        file["entry/energy"] = 17.0
    with h5py.File(tmp_path / "several.h5", "w") as file:
        file["flat"] = np.ones(MASK.shape)
        file["mask"] = MASK[None].astype("u4")
    names = ("bytes.tif", "bits.tif", "mask.edf", "mask.npy", "alone.h5", "several.h5::/mask")
    for name in names:
        found = read_mask(str(tmp_path / name))
        assert found.dtype == bool, name
        assert np.array_equal(found, MASK), name


def test_files_that_are_no_masks(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="does not exist"):
        read_mask(tmp_path / "mask.tif")
    (tmp_path / "text.tif").write_text("no image")
    with pytest.raises(FileError, match="cannot be read"):
        read_mask(tmp_path / "text.tif")
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((3, 12, 15), "u1"), photometric="minisblack")
    with pytest.raises(InputError, match=r"has shape \(3, 12, 15\)"):
        read_mask(tmp_path / "stack.tif")
    with pytest.raises(InputError, match="Only HDF5 files"):
        read_mask(f"{tmp_path / 'stack.tif'}::/mask")
    with h5py.File(tmp_path / "several.h5", "w") as file:
        file["flat"], file["mask"] = np.ones(MASK.shape), MASK
    with pytest.raises(InputError, match=r"has 2 images\. Name one of them: several.h5::/flat"):
        read_mask(tmp_path / "several.h5")
    with pytest.raises(InputError, match="no dataset '/masks'"):
        read_mask(f"{tmp_path / 'several.h5'}::/masks")
