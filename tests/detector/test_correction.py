"""Dark, flat and hot pixels."""

import logging

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from wavedask import blind_pixels, correct
from wavedask.errors import InputError

DIMS = ("frame", "y", "x")


def frames(values: np.ndarray, chunks: int | tuple[int, ...] | None = None) -> xr.DataArray:
    data = values if chunks is None else da.from_array(values, chunks=chunks)
    return xr.DataArray(data, dims=DIMS, coords={"lens_x": ("frame", np.arange(len(values)) * 0.1)})


@pytest.fixture
def beam() -> np.ndarray:
    """Structured beam of some thousand counts, one pixel of it dead and one inverted."""
    beam = np.random.default_rng(0).uniform(2000, 4000, (8, 10))
    beam[2, 3], beam[5, 1] = 0, -20
    return beam


def test_equation_3_3_gives_the_intensity_back(beam: np.ndarray) -> None:
    truth = np.random.default_rng(1).uniform(0.5, 1.5, (3, 8, 10))
    random = np.random.default_rng(2)
    dark = frames(100 + random.normal(0, 3, (400, 8, 10)))
    flat = frames(100 + beam + random.normal(0, 3, (400, 8, 10)))
    raw = frames(100 + beam * truth, chunks=(1, 4, 5))
    image = correct(raw, dark=dark, flat=flat)
    assert image.name == "image"
    assert image.attrs["units"] == "1"
    assert image.dtype == np.float32
    assert image.chunks == raw.chunks
    assert "lens_x" in image.coords
    seen = beam > 0
    np.testing.assert_allclose(image.values[:, seen], truth[:, seen], rtol=1e-3)
    assert np.isnan(image.values[:, ~seen]).all()


def test_blind_pixels_are_counted_and_reported(
    beam: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    dark, flat = frames(np.full((1, 8, 10), 100.0)), frames((100 + beam)[None])
    blind = blind_pixels(flat, dark=dark)
    assert np.array_equal(blind.values, beam <= 0)
    with caplog.at_level(logging.WARNING, logger="wavedask"):
        correct(flat, dark=dark, flat=flat)
    assert "2 of 80 pixels" in caplog.text


def test_the_median_forgives_a_stray_hit(beam: np.ndarray) -> None:
    dark = np.full((5, 8, 10), 100.0)
    dark[3, 4, 4] = 60000
    flat = frames((100 + np.abs(beam) + 1)[None])
    raw = flat.isel(frame=[0])
    spoiled = correct(raw, dark=frames(dark), flat=flat)
    saved = correct(raw, dark=frames(dark), flat=flat, average="median")
    np.testing.assert_allclose(saved.values, 1, rtol=1e-5)
    assert abs(spoiled.values[0, 4, 4] - 1) > 0.1 or np.isnan(spoiled.values[0, 4, 4])


def test_without_flat_or_dark(beam: np.ndarray) -> None:
    raw = frames(beam[None] + 100)
    assert correct(raw, dark=frames(np.full((1, 8, 10), 100.0))).attrs["units"] == "counts"
    np.testing.assert_allclose(correct(raw).values, raw.values, rtol=1e-6)


@pytest.mark.parametrize("chunks", [None, (1, 20, 20), (2, 9, 7)])
def test_hot_pixels_take_the_median_of_their_neighbours(chunks: tuple[int, ...] | None) -> None:
    y, x = np.mgrid[:20, :20]
    smooth = 1 + 0.2 * np.sin(y / 3) * np.cos(x / 4)
    spoiled = np.stack([smooth, smooth])
    hot = [(0, 0), (5, 8), (5, 9), (19, 3), (9, 7)]
    for place in hot:
        spoiled[(1, *place)] = 12
    spoiled[0, 12, 12] = np.nan
    image = correct(frames(spoiled, chunks=chunks), hot_pixels=0.5).values
    assert np.abs(image[1] - smooth).max() < 0.1
    assert np.isnan(image[0, 12, 12])
    untouched = np.isfinite(spoiled[0])
    np.testing.assert_allclose(image[0][untouched], smooth[untouched], rtol=1e-6)


def test_nothing_is_computed_until_asked() -> None:
    def never(block: np.ndarray) -> np.ndarray:
        raise AssertionError("computed")

    lazy = da.map_blocks(never, da.zeros((2, 8, 8), chunks=(1, 8, 8)), meta=np.empty((0, 0, 0)))
    scan = xr.DataArray(lazy, dims=DIMS)
    image = correct(scan, dark=scan, flat=scan, average="median", hot_pixels=0.5)
    assert isinstance(image.data, da.Array)
    assert isinstance(blind_pixels(scan, dark=scan).data, da.Array)


def test_bad_input() -> None:
    scan = frames(np.ones((1, 8, 8)))
    with pytest.raises(InputError, match=r"flat frames are \(8, 9\)"):
        correct(scan, flat=frames(np.ones((1, 8, 9))))
    with pytest.raises(InputError, match="average is 'mode'"):
        correct(scan, dark=scan, average="mode")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="hot_pixels is -1"):
        correct(scan, hot_pixels=-1)
    with pytest.raises(InputError, match="scan is a ndarray"):
        correct(np.ones((8, 8)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="without 'image'"):
        correct(xr.Dataset({"picture": scan}))
    with pytest.raises(InputError, match="dimensions"):
        correct(xr.DataArray(np.ones((8, 8)), dims=("row", "column")))
