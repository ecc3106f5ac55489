"""Dark, flat and hot pixels."""

import logging

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from wavedask import blind_pixels, correct, track
from wavedask.errors import InputError
from wavedask.simulate import displaced_pair

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
    for fraction in (-1, 0, "0.5", True, np.nan, [0.5]):
        with pytest.raises(InputError, match="hot_pixels is"):
            correct(scan, hot_pixels=fraction)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="distortion is a str"):
        correct(scan, distortion="camera.zarr")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="scan is a ndarray"):
        correct(np.ones((8, 8)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="without 'image'"):
        correct(xr.Dataset({"picture": scan}))
    with pytest.raises(InputError, match="dimensions"):
        correct(xr.DataArray(np.ones((8, 8)), dims=("row", "column")))


CODES = [("u4", 2**32 - 1), ("u2", 65535), ("i4", -1), ("u4", 0)]


@pytest.mark.parametrize(("dtype", "code"), CODES)
@pytest.mark.parametrize("chunks", [None, (1, 96, 96), (1, 40, 50)])
def test_gaps_of_detectors_are_tracked_as_if_they_were_nan(
    dtype: str, code: int, chunks: tuple[int, ...] | None
) -> None:
    pair = displaced_pair((96, 96), displacement_x=2.3, seed=1)
    gain = 1 + 0.05 * np.random.default_rng(0).random((96, 96))
    gap = np.zeros((96, 96), bool)
    gap[:, 60:64] = True

    def recorded(image: np.ndarray) -> xr.DataArray:
        counts = (image / image.mean() * 5000 * gain).astype(dtype)
        return frames(np.where(gap, np.array(code, dtype), counts)[None], chunks=chunks)

    images = [recorded(part) for part in (pair.sample, pair.reference, np.ones((96, 96)))]
    flat = images.pop()
    found = track(*(correct(image, flat=flat) for image in images), window=15, search=4)
    by_hand = [image.where(~gap) for image in images]
    expected = track(
        *(correct(image, flat=flat.where(~gap)) for image in by_hand), window=15, search=4
    )
    np.testing.assert_array_equal(found.displacement_x.values, expected.displacement_x.values)
    known = np.isfinite(found.displacement_x.values)
    assert known.mean() > 0.7
    assert np.abs(found.displacement_x.values[known] - 2.3).max() < 0.2


def test_masks_of_raw_frames_that_are_corrected(beam: np.ndarray) -> None:
    mask = np.zeros((8, 10), bool)
    mask[6, 6] = True
    counts = (100 + np.abs(beam) + 1).astype("u2")
    flat = frames(counts[None])
    raw = frames(np.stack([counts, counts]))
    raw[1, 4, 4] = 60000
    declared = raw.assign_coords(pixel_mask=(("y", "x"), np.roll(mask, -3)))
    dark = frames(np.full((1, 8, 10), 100, "u2"))
    image = correct(declared, dark=dark, flat=flat, mask=mask, saturation=50000)
    expected = np.broadcast_to(mask | np.roll(mask, -3), raw.shape).copy()
    expected[1, 4, 4] = True
    assert np.array_equal(np.isnan(image.values), expected)
    assert image.attrs["masked"] == pytest.approx(expected.mean())
    assert "pixel_mask" not in image.coords
    np.testing.assert_allclose(image.values[~expected], 1, rtol=1e-5)


def test_masked_pixels_are_not_blind(caplog: pytest.LogCaptureFixture) -> None:
    flat = np.full((1, 8, 10), 500, "u2")
    flat[0, 2, 2], flat[0, 3, 3] = 65535, 90
    dark = frames(np.full((1, 8, 10), 100, "u2"))
    blind = blind_pixels(frames(flat), dark=dark)
    assert np.argwhere(blind.values).tolist() == [[3, 3]]
    with caplog.at_level(logging.WARNING, logger="wavedask"):
        image = correct(frames(flat), dark=dark, flat=frames(flat))
    assert "1 of 80 pixels have a flat field not above" in caplog.text
    assert np.isnan(image.values).sum() == 2


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "i8", "f2", "f4", "f8"])
def test_every_type_of_number(dtype: str) -> None:
    raw, dark, flat = (np.full((40, 8, 10), value, dtype) for value in (60, 20, 120))
    for average in ("mean", "median"):
        image = correct(frames(raw), dark=frames(dark), flat=frames(flat), average=average)
        assert image.dtype == np.float32
        np.testing.assert_allclose(image.values, 0.4, rtol=1e-6)


def test_differences_of_large_counts_are_kept() -> None:
    raw, dark, flat = (np.full((1, 8, 10), 2**28 + value, "u4") for value in (30, 10, 50))
    image = correct(frames(raw), dark=frames(dark), flat=frames(flat))
    np.testing.assert_allclose(image.values, 0.5, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-12, 1e20])
def test_any_scale_of_the_counts(scale: float, beam: np.ndarray) -> None:
    parts = [(np.abs(beam) + 1)[None] * factor for factor in (3.0, 1.0, 5.0)]
    raw, dark, flat = (frames(part * scale) for part in parts)
    image = correct(raw, dark=dark, flat=flat)
    np.testing.assert_allclose(image.values, 0.5, rtol=1e-5)
