"""Masked pixels are NaN before anything is computed, whoever declares them."""

import logging
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import xarray as xr
from numpy.typing import NDArray
from support.laziness import forbid_computing

from wavedask.errors import InputError
from wavedask.frames import masked_array, masked_images

SHAPE = (40, 48)
DIMS = ("frame", "y", "x")
MASK = np.zeros(SHAPE, bool)
MASK[5, 6:9] = True
CHUNKS: list[tuple[int, ...] | None] = [None, (1, 40, 48), (2, 17, 20)]


def counts(dtype: str = "u2", frames: int = 3) -> NDArray[Any]:
    return np.random.default_rng(0).integers(100, 4000, (frames, *SHAPE)).astype(dtype)


def scan(data: Any, chunks: tuple[int, ...] | None = None, **attrs: Any) -> xr.DataArray:
    lazy = data if chunks is None else da.from_array(data, chunks=chunks)
    return xr.DataArray(lazy, dims=DIMS, attrs={"units": "counts", **attrs})


@pytest.mark.parametrize("chunks", CHUNKS)
def test_every_way_of_declaring_a_pixel(
    chunks: tuple[int, ...] | None, caplog: pytest.LogCaptureFixture
) -> None:
    data = counts()
    expected = data.astype("f4")
    places = {"code": 65535, "bad": 77, "file": 88, "saturated": 60000, "above": 61000}
    for row, value in enumerate(places.values()):
        data[1, 10 + row, 3:7] = value
        expected[1, 10 + row, 3:7] = np.nan
    expected[:, MASK] = np.nan
    declared = np.zeros(SHAPE, bool)
    declared[30, 30] = True
    expected[:, declared] = np.nan
    data[2, 20:24] = 0  # a gap over the whole frame
    expected[2, 20:24] = np.nan
    raw = scan(data, chunks, bad_values=[88], saturation_value=60999).assign_coords(
        pixel_mask=(("y", "x"), declared)
    )
    with forbid_computing(), caplog.at_level(logging.WARNING, logger="wavedask"):
        images = masked_images(raw, "sample", mask=MASK, saturation=60000, bad=[77])
    assert (chunks is None) == isinstance(images.data, np.ndarray)
    with caplog.at_level(logging.WARNING, logger="wavedask"):
        np.testing.assert_array_equal(images.values, expected)
    assert images.dtype == np.float32
    assert images.chunks == raw.chunks
    assert "pixel_mask" not in images.coords
    assert not {"bad_values", "saturation_value"} & set(images.attrs)
    for words in ("mask", "values 88, 77", "counts from 60000", "counts above 60999", "codes"):
        assert words in images.attrs["masked_by"]
    for words in ("sample: 4 of 1920 pixels", "hold 65535", "hold 0 in whole lines"):
        assert words in caplog.text
    assert "77" not in caplog.text
    if chunks is None:
        assert images.attrs["masked"] == pytest.approx(np.isnan(expected).mean())


def test_a_code_is_told_once_for_all_frames(caplog: pytest.LogCaptureFixture) -> None:
    data = counts(frames=6)
    data[:, 0, 0] = 65535
    with caplog.at_level(logging.WARNING, logger="wavedask"):
        masked_images(scan(data, (1, *SHAPE)), "flat").compute(scheduler="synchronous")
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().startswith("flat: 1 of 1920 pixels of a frame (0.052 %)")


def test_every_count_can_be_an_intensity(caplog: pytest.LogCaptureFixture) -> None:
    data = counts()
    data[0, 0, 0] = 65535
    for chunks in CHUNKS:
        images = masked_images(scan(data, chunks), "sample", bad=False)
        np.testing.assert_array_equal(images.values, data)
    assert not caplog.records


def test_without_beam_a_zero_is_a_count() -> None:
    data = counts()
    data[:, 20:24] = 0
    assert not np.isnan(masked_images(scan(data), "dark", gaps=False).values).any()


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4", "f8"])
def test_masked_arrays_never_give_what_lies_under_the_mask(dtype: str) -> None:
    data = counts(dtype)
    mask = np.broadcast_to(MASK, data.shape)
    hidden: Any = np.ma.array(np.where(mask, 99, data), mask=mask, dtype=dtype)
    expected = np.where(mask, np.nan, data)
    np.testing.assert_array_equal(masked_array(hidden, "sample"), expected)
    lazy = da.from_array(hidden, chunks=(1, 20, 20))
    np.testing.assert_array_equal(np.asarray(masked_array(lazy, "sample")), expected)
    # Dask may not know what its blocks are.
    unknown = da.from_array(data, chunks=(1, 20, 20)).map_blocks(
        lambda block: np.ma.masked_less(block, 1000), meta=np.empty((0, 0, 0), dtype)
    )
    plain = np.asarray(masked_array(unknown, "sample"))
    assert np.array_equal(np.isnan(plain), data < 1000)


def test_numbers_are_kept() -> None:
    clean = counts()
    assert masked_array(clean, "sample") is clean
    large = np.full((1, *SHAPE), 2**24 + 1, "u4")
    large[0, 0, 0] = 2**32 - 1
    kept = masked_images(scan(large), "sample").values
    assert kept[0, 1, 1] == 2**24 + 1
    half = masked_array(np.ones(SHAPE, "f2"), "sample")
    assert half.dtype == np.float32
    # Codes that an image cannot hold are those of another detector.
    assert masked_images(scan(clean), "sample", bad=[-1, 2**32 - 1, 0.5]).attrs["masked"] == 0


def test_masks_of_other_kinds(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "mask.tif", MASK.astype("u1"))
    images = scan(counts())
    expected = masked_images(images, "sample", mask=MASK)
    turned = xr.DataArray(MASK.T.astype(int), dims=("x", "y"))
    for mask in (tmp_path / "mask.tif", str(tmp_path / "mask.tif"), turned, MASK * 0.5):
        assert masked_images(images, "sample", mask=mask).identical(expected)
    lazy = masked_images(images.chunk({"y": 9}), "sample", mask=da.from_array(MASK))
    np.testing.assert_array_equal(lazy.values, expected.values)


def test_a_mask_of_nearly_everything_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="wavedask"):
        masked_images(scan(counts()), "sample", mask=~MASK)
    assert "mask masks 100 % of the pixels of sample" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask": np.ones(SHAPE)}, "mask masks every pixel of sample"),
        ({"mask": MASK[1:]}, r"mask is \(39, 48\), sample frames are \(40, 48\)"),
        ({"mask": MASK.tolist()}, "mask is a list"),
        ({"mask": np.full(SHAPE, "x")}, "mask has data type <U1"),
        ({"mask": xr.DataArray(MASK)}, "mask has dimensions"),
        ({"saturation": "6e4"}, "saturation is '6e4'"),
        ({"saturation": True}, "saturation is True"),
        ({"saturation": np.nan}, "saturation is nan"),
        ({"bad": 5}, "bad is 5"),
        ({"bad": "5"}, "bad is '5'"),
        ({"bad": True}, "bad is True"),
        ({"bad": ["x"]}, r"bad is \['x'\]"),
    ],
)
def test_bad_input(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        masked_images(scan(counts()), "sample", **arguments)


def test_data_that_are_no_images() -> None:
    with pytest.raises(InputError, match="sample has data type bool"):
        masked_images(scan(counts() > 0), "sample")
    with pytest.raises(InputError, match="attribute bad_values of sample is 'none'"):
        masked_images(scan(counts(), bad_values="none"), "sample")
    lazy = da.from_array(counts(), chunks=(1, *SHAPE))
    unknown = xr.DataArray(lazy[lazy[:, 0, 0] > 0], dims=DIMS)
    with pytest.raises(InputError, match="unknown number of frames"):
        masked_images(unknown, "sample")
