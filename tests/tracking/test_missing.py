"""Every pixel without a displacement has a reason, and every result says how many there are."""

import logging
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from support.laziness import forbid_computing

import wavedask as wd
from wavedask.errors import InputError
from wavedask.kernels.fields import Fields, Reason
from wavedask.simulate import Pair, displaced_pair

SHAPE = (128, 144)
SETTINGS: dict[str, Any] = {"window": 15, "search": 6}


@pytest.fixture(scope="module")
def pair() -> Pair:
    return displaced_pair(SHAPE, displacement_y=0.6, displacement_x=-1.3, seed=4)


def image(values: NDArray[Any]) -> xr.DataArray:
    return xr.DataArray(values, dims=("frame", "y", "x")[-values.ndim :])


def names(found: Fields) -> set[str]:
    """Names of the reasons in a result, after a look at whether they are where they must be."""
    assert found.reason.dtype == np.uint8
    np.testing.assert_array_equal(found.reason == 0, np.isfinite(found.displacement_y))
    np.testing.assert_array_equal(found.reason == 0, np.isfinite(found.uncertainty_x))
    return {Reason(code).name for code in np.unique(found.reason)}


@pytest.mark.parametrize("engine", ["dense", "opencv"])
def test_a_mask_and_the_border(pair: Pair, engine: Any) -> None:
    sample = pair.sample.copy()
    sample[40:90, 30:80] = np.nan
    found = wd.cross_spot(sample, pair.reference, engine=engine, **SETTINGS)
    assert names(found) <= {"MATCHED", "BORDER", "MASKED", "OUTLIER"}
    assert (found.reason[55:75, 45:65] == Reason.MASKED).all()
    assert (found.reason[20:30, 100:120] == Reason.MATCHED).all()


@pytest.mark.parametrize("engine", ["dense", "opencv"])
def test_what_moved_in_from_outside_is_no_mask(engine: Any) -> None:
    far = displaced_pair(SHAPE, displacement_x=40.0, seed=4)
    found = wd.cross_spot(far.sample, far.reference, engine=engine, **SETTINGS)
    assert "MASKED" not in names(found)
    assert (found.reason[30:-30, :20] == Reason.BORDER).all()


@pytest.mark.parametrize("engine", ["dense", "opencv"])
def test_no_structure(pair: Pair, engine: Any) -> None:
    sample = pair.sample.copy()
    sample[:, :70] = 5000.0
    found = wd.cross_spot(sample, pair.reference, engine=engine, **SETTINGS)
    assert (found.reason[20:-20, 20:50] == Reason.NO_STRUCTURE).all()
    assert "MATCHED" in names(found)


def test_nothing_in_common(pair: Pair) -> None:
    random = np.random.default_rng(1)
    for engine in ("dense", "opencv"):
        noise = random.normal(100, 10, SHAPE)
        found = wd.cross_spot(noise, pair.reference, engine=engine, rigid=None, **SETTINGS)
        assert names(found) <= {"BORDER", "UNCORRELATED", "OUTLIER", "SEARCH_LIMIT"}
        unlike = np.isin(found.reason, (Reason.UNCORRELATED, Reason.OUTLIER))
        assert unlike[16:-16, 16:-16].mean() > 0.8


def test_a_periodic_pattern_is_ambiguous() -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    mesh = 1000 * (3 + np.sin(2 * np.pi * x / 8.8) + np.sin(2 * np.pi * y / 8.8))
    for engine in ("dense", "opencv"):
        found = wd.cross_spot(
            mesh, np.roll(mesh, 1, 1), window=15, search=12, engine=engine, rigid=None
        )
        assert names(found) <= {"BORDER", "AMBIGUOUS"}


def test_a_search_that_is_too_short_names_one_that_does() -> None:
    columns = np.arange(320.0)
    field = np.broadcast_to(9.0 * (columns / 160 - 1), (96, 320))
    lens = displaced_pair((96, 320), displacement_x=field, seed=2)
    sample, reference = image(lens.sample), image(lens.reference)
    short = wd.track(sample, reference, window=15, search=4)
    report = wd.why_missing(short)
    assert report.counts[Reason.SEARCH_LIMIT] > 0
    assert report.search == 4
    assert 7 <= report.needed <= 16
    assert any(f"try search={report.needed}" in line for line in report.warnings)
    longer = wd.why_missing(wd.track(sample, reference, window=15, search=report.needed))
    assert longer.share > report.share + 0.2
    assert longer.needed == 0
    assert not longer.warnings


def test_the_reasons_do_not_depend_on_the_chunks(pair: Pair) -> None:
    sample = pair.sample.copy()
    sample[50:54] = np.nan
    sample[80:, 100:] = 7.0
    whole = wd.cross_spot(sample, pair.reference, **SETTINGS)
    lazy = wd.cross_spot(
        da.from_array(sample, chunks=(70, 80)), da.from_array(pair.reference), **SETTINGS
    )
    assert lazy.reason.dtype == np.uint8
    np.testing.assert_array_equal(lazy.reason.compute(), whole.reason)


def test_an_eager_track_says_it_and_a_lazy_one_waits(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="wavedask")
    sample, reference = image(pair.sample), image(pair.reference)
    wd.track(sample, reference, **SETTINGS)
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    assert "pixels with a displacement: 18,4" in caplog.text
    caplog.clear()
    wd.track(sample.where(sample.x < 60), reference, **SETTINGS)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "of the pixels have no displacement (masked" in caplog.text
    caplog.clear()
    with forbid_computing():
        lazy = wd.track(sample.chunk(), reference, **SETTINGS)
    assert not caplog.records
    report = wd.why_missing(lazy)
    assert report.share > 0.999
    assert report.rows[0] == ("pixels with a displacement", f"{report.matched:,} (above 99.9 %)")


def test_flags_go_with_the_map_to_the_wavefront_and_the_store(pair: Pair, tmp_path: Any) -> None:
    sample = np.stack([pair.sample, pair.sample])
    sample[1] = np.nan
    tracked = wd.track(image(sample).chunk({"frame": 1}), image(pair.reference), **SETTINGS)
    assert tracked.reason.attrs["flag_values"] == [reason.value for reason in Reason]
    assert len(tracked.reason.attrs["flag_meanings"].split()) == len(Reason)
    physical = wd.wavefront(tracked, distance=1.0, pixel_size=1e-6, pupil=(64.0, 70.0, 50.0))
    wd.write_store(tmp_path / "r.zarr", physical, settings={})
    stored = wd.open_store(tmp_path / "r.zarr")
    assert stored.reason.dtype == np.uint8
    assert stored.reason.attrs["flag_meanings"] == tracked.reason.attrs["flag_meanings"]
    report = wd.why_missing(stored)
    inside = (np.hypot(*np.ogrid[-64:64, -70:74]) <= 50).sum()
    assert report.pixels == 2 * inside
    assert report.matched == inside
    assert report.counts[Reason.MASKED] + report.counts[Reason.BORDER] == inside
    assert report.empty_frames == (1,)
    assert dict(report.rows)["frames without any"] == "1 of 2 (1)"
    assert "50.0 % of the pixels have no displacement" in report.warnings[0]


def test_an_average_is_matched_where_one_exposure_is(pair: Pair) -> None:
    sample = np.stack([pair.sample, pair.sample])
    sample[0, 40:90, 30:80] = np.nan
    mean = wd.combine(wd.track(image(sample), image(pair.reference), **SETTINGS))
    assert (mean.reason == 0)[30:-30, 30:-30].all()
    np.testing.assert_array_equal(mean.reason == 0, mean.exposures > 0)
    assert mean.reason.attrs["flag_values"]


def test_a_scan_says_why() -> None:
    from wavedask.simulate import speckle_field

    speckle = speckle_field(96, seed=1)
    y, x = np.mgrid[:24.0, :24.0]
    steps = 0.25 * np.arange(40)
    coords = {"m_x": ("frame", steps, {"units": "um"})}
    frames = np.stack([speckle(y, x - step) for step in steps])
    sample = frames.copy()
    sample[:, :8] = np.nan
    sample[:, 16:] = 3.0
    scans = (
        xr.DataArray(part, dims=("frame", "y", "x"), coords=coords) for part in (sample, frames)
    )
    found = wd.track_scan(*scans, motor="m_x", search=2)
    reason = found.reason.values
    assert reason.dtype == np.uint8
    np.testing.assert_array_equal(reason == 0, np.isfinite(found.delay_x))
    assert (reason[:6, 4:-4] == Reason.MASKED).all()
    assert (reason[18:, 4:-4] == Reason.NO_STRUCTURE).all()
    assert (reason[10:14, 4:-4] == Reason.MATCHED).all()
    assert wd.why_missing(found).counts[Reason.MASKED] > 0


def test_a_result_without_reasons_is_refused() -> None:
    with pytest.raises(InputError, match="the result has no 'reason'"):
        wd.why_missing(xr.Dataset({"displacement_x": ("x", [1.0])}))


@pytest.mark.parametrize("height", [21, 24, 27, 39, 44, 48])
def test_strips_of_every_height_that_holds_a_window(height: int) -> None:
    strip = displaced_pair((height, 300), displacement_x=1.5, seed=3)
    found = wd.cross_spot(strip.sample, strip.reference, window=21, search=16)
    known = np.isfinite(found.displacement_x)
    assert known.mean() > 0.98
    assert np.abs(found.displacement_x[known] - 1.5).max() < 0.25


@pytest.mark.parametrize("search", [4, 8])
@pytest.mark.parametrize("side", [48, 56, 64])
def test_small_squares(side: int, search: int) -> None:
    square = displaced_pair((side, side), displacement_x=1.5, seed=3)
    found = wd.cross_spot(square.sample, square.reference, window=15, search=search)
    assert np.isfinite(found.displacement_x).mean() > 0.97


@pytest.mark.parametrize(("window", "search"), [(15, 8), (21, 16), (31, 8), (21, 50)])
@pytest.mark.parametrize("top", [60, 97, 132])
def test_a_gap_between_modules_costs_itself_at_most(window: int, search: int, top: int) -> None:
    shape, gap = (200, 160), 4
    pair = displaced_pair(shape, displacement_y=-1.3, displacement_x=0.7, seed=3)
    settings: dict[str, Any] = {"window": window, "search": search}
    whole = wd.cross_spot(pair.sample, pair.reference, **settings)
    sample, reference = pair.sample.copy(), pair.reference.copy()
    sample[top : top + gap] = reference[top : top + gap] = np.nan
    found = wd.cross_spot(sample, reference, **settings)
    lost = np.isnan(found.displacement_y) & np.isfinite(whole.displacement_y)
    near = np.zeros(shape, np.bool_)
    near[top - window // 2 : top + gap + window // 2 + 1] = True
    assert not lost[~near].any()
    far = np.zeros(shape, np.bool_)
    far[window : max(top - 3 * window, 0)] = far[top + gap + 3 * window : -window] = True
    change = np.abs(found.displacement_y - whole.displacement_y)
    # The iteration ends where nodes move by less than 0.005 px.
    assert np.nanmax(change[far], initial=0.0) < 0.01


@pytest.mark.parametrize("engine", ["dense", "opencv"])
@pytest.mark.parametrize("scale", [1e-20, 1e-12, 1e20])
def test_intensities_of_any_scale(pair: Pair, engine: Any, scale: float) -> None:
    usual = wd.cross_spot(pair.sample, pair.reference, engine=engine, **SETTINGS)
    found = wd.cross_spot(
        pair.sample.astype(float) * scale,
        pair.reference * np.float32(scale),
        engine=engine,
        **SETTINGS,
    )
    np.testing.assert_allclose(found.displacement_y, usual.displacement_y, atol=1e-5)
    np.testing.assert_allclose(found.uncertainty_x, usual.uncertainty_x, rtol=1e-3)
    np.testing.assert_allclose(found.transmission, usual.transmission, rtol=1e-3)


def test_half_precision_loses_its_own_digits_only(pair: Pair) -> None:
    usual = wd.cross_spot(pair.sample, pair.reference, **SETTINGS)
    half = (image_.astype(np.float16) for image_ in (pair.sample, pair.reference))
    found = wd.cross_spot(*half, **SETTINGS)
    assert np.nanmax(np.abs(found.displacement_y - usual.displacement_y)) < 0.01


def test_opencv_keeps_its_threads(pair: Pair) -> None:
    import cv2

    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        for engine in ("dense", "opencv"):
            wd.cross_spot(pair.sample, pair.reference, engine=engine, window=15, search=3)
            assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("chunks", [None, (1, 8, 8), (2, 8, 8), (1, 5, 4), (4, 3, 8)])
def test_counts_do_not_depend_on_the_chunks(chunks: tuple[int, ...] | None) -> None:
    codes = np.random.default_rng(2).integers(0, len(Reason), (5, 8, 8)).astype(np.uint8)
    codes[3] = Reason.MASKED
    complete = np.array([True, True, False, True, True])
    reason = xr.DataArray(codes, dims=("frame", "y", "x"), name="reason")
    if chunks is not None:
        reason = reason.chunk(dict(zip(reason.dims, chunks, strict=True)))
    report = wd.why_missing(reason.to_dataset().assign_coords(complete=("frame", complete)))
    expected = np.bincount(codes[complete].ravel(), minlength=len(Reason))
    assert list(report.counts.values()) == expected.tolist()
    assert report.empty_frames == (3,)
    assert report.frames == 4
