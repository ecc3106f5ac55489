"""Images that belong together: the same facts, the same pixels, and what one knows alone."""

import logging
from typing import Any

import numpy as np
import pytest
import xarray as xr

import wavedask as wd
from wavedask.errors import FrameMismatchError, InputError
from wavedask.frames import for_correction, image_of, matched_pair


def stack(frames: int = 2, **attrs: Any) -> xr.DataArray:
    coords = {"y": np.arange(6), "x": np.arange(8)}
    return xr.DataArray(np.ones((frames, 6, 8)), coords, ("frame", "y", "x"), attrs=attrs)


def test_the_frames_of_a_scan_keep_what_the_scan_states() -> None:
    image = stack(units="counts", binning=[2, 2])
    scan = xr.Dataset({"image": image}, attrs={"energy": "17 keV", "title": "a", "binning": [1, 1]})
    assert image_of(scan, "sample").attrs == {
        "units": "counts",
        "energy": "17 keV",
        "binning": [2, 2],
    }


@pytest.mark.parametrize(
    ("mine", "others", "message"),
    [
        ({"pixel_size": 1e-6}, {"pixel_size": 2e-6}, "pixel_size is 1e-06 m in attribute"),
        ({"pixel_size": 1e-6}, {"pixel_size_y": 1e-6, "pixel_size_x": 2e-6}, "1e-06 m .* 2e-06 m"),
        ({"binning": [1, 2]}, {"binning": [1, 1]}, "binning is 2 1 in attribute"),
        ({"detector_distance": 1.0}, {"distance": 1.5}, "distance is 1 m in .* 1.5 m in"),
        ({"source_distance": 40.0}, {"source_distance": 45.0}, "source_distance is 40 m in"),
        ({"energy_keV": 8.0}, {"wavelength": 1e-10}, "energy is 8 keV in .* 12.3984 keV in"),
    ],
)
def test_a_pair_that_states_different_facts_is_refused(
    mine: dict[str, Any], others: dict[str, Any], message: str
) -> None:
    for one, other in ((mine, others), (others, mine)):
        with pytest.raises(InputError, match=message if one is mine else "is .* and "):
            matched_pair(stack(**one), stack(**other))
    # Of two detectors only the beam is the same.
    if "energy_keV" not in mine and "source_distance" not in mine:
        matched_pair(stack(**mine), stack(**others), one_detector=False)


def test_what_only_the_reference_states_the_sample_states_then() -> None:
    reference = stack(pixel_size=[1e-6, 2e-6], detector_distance=0.5, energy="8000 eV")
    sample, _ = matched_pair(stack(), reference)
    assert sample.attrs["pixel_size"] == [1e-6, 2e-6]
    assert sample.attrs["distance"] == 0.5
    assert sample.attrs["energy_keV"] == 8.0
    each = stack().assign_coords(energy=("frame", [8.0, 12.0], {"units": "keV"}))
    sample, _ = matched_pair(stack(), each)
    assert sample.energy.values.tolist() == [8.0, 12.0]
    sample, _ = matched_pair(stack(), each[:1])
    assert sample.attrs["energy_keV"] == 8.0


def test_counts_of_other_exposures_are_told(caplog: pytest.LogCaptureFixture) -> None:
    sample, reference = stack(exposure_time=0.5), stack(exposure_time=2.0)
    with caplog.at_level(logging.WARNING):
        matched_pair(sample, reference)
    assert "exposure time is 0.5 s in the sample and 2 s in the reference" in caplog.text
    caplog.clear()
    matched_pair(sample.assign_attrs(units="1"), reference.assign_attrs(units="1"))
    matched_pair(sample, sample)
    matched_pair(sample, stack())
    assert not caplog.text


def test_a_region_is_corrected_by_the_same_pixels_of_a_flat() -> None:
    structure = 100 + np.random.default_rng(0).random((6, 8))
    whole = stack(1).copy(data=structure[None])
    true = 1 + np.add.outer(np.arange(6.0), np.arange(8.0))
    scan = (stack(3) * true * structure).isel(y=slice(1, 5), x=slice(2, 8))
    image = wd.correct(scan, flat=whole)
    np.testing.assert_allclose(image, np.broadcast_to(true[1:5, 2:], (3, 4, 6)), rtol=1e-6)
    with pytest.raises(
        FrameMismatchError, match=r"x of the scan is 2 to 7 .*x of the flat is 3 to"
    ):
        wd.correct(scan, flat=whole.isel(x=slice(3, None)))
    dark = stack(2).isel(x=slice(None, None, -1)) * np.arange(8.0)[::-1]
    above = wd.correct(scan, dark=dark)
    np.testing.assert_allclose(above[0], scan[0] - np.arange(2.0, 8.0), rtol=1e-6)


def test_a_calibration_gives_its_pixel_size_and_is_cut_to_the_region() -> None:
    labels = {"y": np.arange(6), "x": np.arange(8)}
    zero = xr.DataArray(np.zeros((6, 8)), labels, ("y", "x"))
    calibration = xr.Dataset(
        {
            "distortion_y": zero,
            "distortion_x": zero,
            "pixel_size_y": 0.65e-6,
            "pixel_size_x": 0.66e-6,
        }
    )
    region = stack(pixel_size_y=0.64e-6, pixel_size_x=0.64e-6).isel(x=slice(2, 7))
    scan, _, cut = for_correction(region, {}, distortion=calibration)
    assert scan.attrs["pixel_size"] == [0.65e-6, 0.66e-6]
    assert cut is not None
    assert cut.sizes["x"] == 5
    with pytest.raises(InputError, match="the calibration of this detector and binning"):
        for_correction(stack(pixel_size=1.3e-6), {}, distortion=calibration)
    with pytest.raises(FrameMismatchError, match="calibration is 0 to 7"):
        for_correction(region.assign_coords(x=region.x + 4), {}, distortion=calibration)


@pytest.mark.parametrize(
    ("scan", "flat", "message"),
    [
        ({"binning": 1}, {"binning": 2}, "binning is 1 1 in attribute 'binning' of the scan"),
        ({"pixel_size": 1e-6}, {"pixel_size": 2e-6}, "pixel_size is 1e-06 m"),
        ({"energy": 8.0}, {"energy": 12.0}, "energy is 8 keV in .* and 12 keV in .*the flat"),
    ],
)
def test_a_flat_of_another_set_up_is_refused(
    scan: dict[str, Any], flat: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        wd.correct(stack(**scan), flat=stack(**flat))


def test_a_scan_over_the_energy_may_share_a_flat() -> None:
    scan = stack().assign_coords(energy=("frame", [8.0, 12.0], {"units": "keV"}))
    assert wd.correct(scan, flat=stack(energy=8.0)).energy.values.tolist() == [8.0, 12.0]
