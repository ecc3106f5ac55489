"""Every step of a correction is done once, on frames that belong together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import wavedask as wd
from wavedask.errors import InputError

SHAPE = (32, 40)
RANDOM = np.random.default_rng(0)
GAIN = 1 + 0.2 * RANDOM.random(SHAPE)
TRUTH = RANDOM.uniform(0.5, 1.5, SHAPE)
OFFSET, RATE, BEAM = 100.0, 30.0, 5000.0


def frames(image: Any, number: int = 3, exposure: Any = None) -> xr.DataArray:
    stack = np.broadcast_to(np.asarray(image, np.float64), (number, *SHAPE)).copy()
    made = xr.DataArray(stack, dims=("frame", "y", "x"), attrs={"units": "counts"})
    return made if exposure is None else made.assign_coords(exposure_time=exposure)


def recorded(image: Any, exposure: float, *, known: bool = True) -> xr.DataArray:
    """What a camera with an offset and a dark current records in an exposure, in s."""
    counts = OFFSET + exposure * (RATE + BEAM * GAIN * np.asarray(image))
    return frames(counts, exposure=exposure if known else None)


RAW, FLAT, DARK = recorded(TRUTH, 1.0), recorded(1.0, 1.0), recorded(0.0, 1.0)
CALIBRATION = xr.Dataset(
    {name: (("y", "x"), np.zeros(SHAPE)) for name in ("distortion_y", "distortion_x")}
)


def test_a_correction_says_what_it_did() -> None:
    image = wd.correct(
        RAW, dark=DARK, flat=FLAT, average="median", hot_pixels=0.5, distortion=CALIBRATION
    )
    assert image.attrs["dark_subtracted"] == "median of 3 frames"
    assert image.attrs["flat_divided"] == "median of 3 frames"
    assert image.attrs["hot_pixels_replaced"] == 0.5
    assert image.attrs["undistorted"] == "quintic B-spline"
    alone = wd.correct(RAW)
    assert not {"dark_subtracted", "flat_divided", "undistorted"} & set(alone.attrs)
    assert (alone.attrs["units"], alone.attrs["long_name"]) == ("counts", "intensity")
    assert wd.correct(RAW, dark=DARK).attrs["long_name"] == "intensity above the dark level"


STEPS: dict[str, Callable[[xr.DataArray], xr.DataArray]] = {
    "dark": lambda image: wd.correct(image, dark=DARK),
    "flat": lambda image: wd.correct(image, flat=FLAT),
    "both": lambda image: wd.correct(image, dark=DARK, flat=FLAT),
    "own dark": lambda image: wd.correct(image, flat=FLAT, flat_dark=DARK),
    "subtracted flat": lambda image: wd.correct(image, flat=wd.correct(FLAT, dark=DARK)),
    "distortion": lambda image: wd.correct(image, distortion=CALIBRATION),
    "hot pixels": lambda image: wd.correct(image, hot_pixels=5.0),
}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4))
def test_no_order_of_steps_gives_another_intensity(names: list[str]) -> None:
    """What is not refused is right: relative intensities are those of the object."""
    image = RAW
    for name in names:
        try:
            image = STEPS[name](image)
        except InputError:
            return
    dark = "dark" in names or "both" in names
    if image.attrs["units"] == "counts":
        expected = RAW[0] - DARK[0] * dark
    elif dark:
        expected = xr.DataArray(TRUTH, dims=("y", "x"))
    else:
        expected = RAW[0] / FLAT[0]
    np.testing.assert_allclose(image.values[0], expected.values, rtol=1e-4)


CORRECTED = wd.correct(RAW, dark=DARK, flat=FLAT)
SUBTRACTED = wd.correct(RAW, dark=DARK)


@pytest.mark.parametrize(
    ("correction", "words"),
    [
        (lambda: wd.correct(CORRECTED, dark=DARK, flat=FLAT), ["relative", "dark and flat are"]),
        (lambda: wd.correct(CORRECTED, flat=FLAT), ["flat_divided: mean of 3 frames", "flat is"]),
        (lambda: wd.correct(CORRECTED.drop_attrs().assign_attrs(units="1"), dark=DARK), ["units"]),
        (
            lambda: wd.correct(SUBTRACTED, dark=DARK),
            ["dark_subtracted: mean of 3 frames", "dark is"],
        ),
        (lambda: wd.correct(SUBTRACTED, flat=FLAT), ["images, and none from the flat"]),
        (lambda: wd.correct(RAW, flat=SUBTRACTED), ["flat, and none from the images"]),
        (lambda: wd.correct(RAW, dark=DARK, flat=SUBTRACTED), ["flat frames already", "dark is"]),
        (lambda: wd.correct(RAW, flat=SUBTRACTED, flat_dark=DARK), ["flat_dark is given"]),
        (lambda: wd.correct(RAW, dark=SUBTRACTED), ["from the dark frames"]),
        (lambda: wd.correct(RAW, flat=CORRECTED), ["flat frames are relative"]),
        (lambda: wd.correct(RAW, dark=DARK, flat_dark=DARK), ["flat_dark is given without flat"]),
        (lambda: wd.correct(CORRECTED, saturation=6e4), ["saturation is 60000.0, in raw counts"]),
        (lambda: wd.correct(SUBTRACTED, bad=[-1]), ["bad is"]),
        (lambda: wd.correct(RAW, dark=DARK[:0]), ["dark has no frames"]),
        (lambda: wd.correct(RAW, flat=FLAT[:0]), ["flat has no frames"]),
        (lambda: wd.blind_pixels(FLAT[:0]), ["flat has no frames"]),
        (lambda: wd.blind_pixels(CORRECTED), ["relative"]),
    ],
)
def test_corrections_that_are_refused(
    correction: Callable[[], xr.DataArray], words: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        correction()
    assert all(part in str(caught.value) for part in words)


def test_undistorted_images_are_not_undistorted_or_corrected_again() -> None:
    straight = wd.correct(RAW, distortion=CALIBRATION)
    for again in ({"distortion": CALIBRATION}, {"dark": DARK}, {"dark": DARK, "flat": FLAT}):
        with pytest.raises(InputError, match="on undistorted pixels already"):
            wd.correct(straight, **again)
    with pytest.raises(InputError, match="flat frames are on undistorted pixels"):
        wd.correct(RAW, flat=wd.correct(FLAT, distortion=CALIBRATION))


def test_what_was_done_is_known_after_selections_and_from_a_store(tmp_path: Path) -> None:
    for kept in (CORRECTED.isel(frame=1), CORRECTED.mean("frame"), CORRECTED[:, 3:20], -CORRECTED):
        with pytest.raises(InputError, match="relative to a flat field already"):
            wd.correct(kept, dark=DARK[:, : kept.sizes["y"]])
    scan = xr.Dataset({"image": SUBTRACTED.chunk({"frame": 1})})
    wd.write_store(tmp_path / "frames.zarr", scan, settings={})
    stored = wd.open_store(tmp_path / "frames.zarr")
    with pytest.raises(InputError, match="dark_subtracted: mean of 3 frames"):
        wd.correct(stored, dark=DARK)


def test_a_flat_of_another_exposure_with_a_dark_of_its_own() -> None:
    flat, own = recorded(1.0, 0.2), recorded(0.0, 0.2)
    image = wd.correct(RAW, dark=DARK, flat=flat, flat_dark=own)
    np.testing.assert_allclose(image.values[0], TRUTH, rtol=1e-5)
    # Where no exposure is known, there is none to scale by.
    unknown = [part.drop_vars("exposure_time") for part in (RAW, DARK, flat, own)]
    raw, dark, flat_only, dark_only = unknown
    image = wd.correct(raw, dark=dark, flat=flat_only, flat_dark=dark_only)
    np.testing.assert_allclose(image.values[0], 5 * TRUTH, rtol=1e-5)


def test_exposures_of_each_frame() -> None:
    times = np.array([0.5, 1.0, 2.0])
    counts = times[:, None, None] * BEAM * GAIN * TRUTH
    raw = frames(counts, exposure=("frame", times))
    flat = frames(0.1 * BEAM * GAIN, exposure=((), 100.0, {"units": "ms"}))
    for scan in (raw, raw.chunk({"frame": 2, "x": 7})):
        np.testing.assert_allclose(wd.correct(scan, flat=flat).values, [TRUTH] * 3, rtol=1e-5)
    single = wd.correct(raw.isel(frame=2), flat=flat)
    np.testing.assert_allclose(single.values, TRUTH, rtol=1e-5)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"dark": recorded(0.0, 0.5)}, "exposure of the dark is 0.5 s, that of the scan 1 s"),
        ({"dark": DARK, "flat": recorded(1.0, 0.2)}, "dark is 1 s, that of the flat 0.2 s"),
        (
            {"dark": DARK, "flat": recorded(1.0, 0.2), "flat_dark": recorded(0.0, 0.3)},
            "flat_dark is 0.3 s, that of the flat 0.2 s",
        ),
        (
            {"dark": frames(OFFSET, exposure=("frame", [1.0, 1.0, 2.0]))},
            "dark frames have exposures of 1 to 2 s",
        ),
        (
            {"dark": frames(OFFSET, exposure=((), 1.0, {"units": "lines"}))},
            "'exposure_time' of the dark is in 'lines', which does not convert to s",
        ),
    ],
)
def test_exposures_that_differ(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        wd.correct(RAW, **parts)


def test_exposures_that_are_not_known_are_not_compared() -> None:
    for unknown in (0.0, np.nan):
        dark = frames(DARK[0], exposure=unknown)
        np.testing.assert_array_equal(
            wd.correct(RAW, dark=dark).values, wd.correct(RAW, dark=DARK).values
        )
    with pytest.raises(InputError, match=r"dark is 0\.5 s"):
        wd.blind_pixels(FLAT, dark=recorded(0.0, 0.5))


def test_a_pair_is_corrected_alike(caplog: pytest.LogCaptureFixture) -> None:
    speckle = wd.simulate.displaced_pair((64, 64), displacement_x=1.0, seed=1)
    sample, reference = (
        xr.DataArray(100 + image, dims=("y", "x"), attrs={"units": "counts"})
        for image in (speckle.sample, speckle.reference)
    )
    dark, flat = xr.full_like(sample, 100), xr.full_like(sample, 5000)
    options: dict[str, Any] = {"window": 15, "search": 4}
    subtracted = wd.correct(sample, dark=dark)
    for one, other, words in (
        (subtracted, reference, "subtracted from the sample"),
        (sample, wd.correct(reference, dark=dark), "subtracted from the reference"),
        (
            wd.correct(sample, dark=dark, flat=flat),
            wd.correct(reference, flat=flat),
            "subtracted from the sample",
        ),
    ):
        with pytest.raises(InputError, match=words):
            wd.track(one, other, **options)
    wd.track(subtracted, wd.correct(reference, dark=dark), **options)
    assert not caplog.records
    maps = {name: (("y", "x"), np.zeros((64, 64))) for name in CALIBRATION}
    wd.track(wd.correct(sample, distortion=xr.Dataset(maps)), reference, **options)
    assert "the sample is on undistorted pixels (undistorted: quintic B-spline)" in caplog.text
