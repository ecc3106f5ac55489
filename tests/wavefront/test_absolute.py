"""Absolute mode: known beams, seen by two cameras that nobody has aligned."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from support.laziness import forbid_computing
from support.two_detectors import (
    FAR,
    NEAR,
    Beam,
    Camera,
    absolute,
    exact_tracking,
    tracked,
    without_plane,
)

import wavedask as wd
from wavedask.conventions import QUANTITIES
from wavedask.errors import InputError

SOURCE = 40.0
untyped_wavefront: Any = wd.wavefront
"""For arguments that a type checker would refuse, too."""

PER_FRAME = {
    "radius_of_curvature_y",
    "radius_of_curvature_x",
    "radius_of_curvature_uncertainty_y",
    "radius_of_curvature_uncertainty_x",
    "tilt_y",
    "tilt_x",
    "detector_rotation",
}


@cache
def diverging() -> xr.Dataset:
    """Tracking of the beam of a source at 40 m from the plane of the membrane, z = 0."""
    return tracked(Beam(1 / SOURCE, 1 / SOURCE), NEAR, FAR)


def test_exact_rays_give_the_exact_wavefront() -> None:
    beam = Beam(1 / 30, -1 / 12, bump=0.01)
    near, far = replace(NEAR, turn=0.03), replace(FAR, shape=(90, 110))
    result = absolute(exact_tracking(beam, near, far, offset=(31.0, -8.0)), near, far).isel(frame=1)
    slope_y, slope_x, height = beam.at(*far.places(), far.z)
    np.testing.assert_allclose(result.slope_y, slope_y - slope_y.mean(), atol=2e-10)
    np.testing.assert_allclose(result.slope_x, slope_x - slope_x.mean(), atol=2e-10)
    np.testing.assert_allclose(
        without_plane(result.wavefront.to_numpy()), without_plane(height), atol=1e-14
    )
    assert float(result.detector_rotation) == pytest.approx(0.03, abs=1e-5)


@pytest.mark.parametrize("curvature", [1 / 40, -1 / 3, 0.3])
def test_radii_are_those_at_the_far_detector(curvature: float) -> None:
    beam = Beam(curvature, curvature / 2)
    far = replace(FAR, shape=(64, 64))
    result = absolute(exact_tracking(beam, NEAR, far), NEAR, far)
    assert result.radius_of_curvature_y.dims == ("frame",)
    np.testing.assert_allclose(result.radius_of_curvature_y, 1 / curvature + 1.0, rtol=1e-6)
    np.testing.assert_allclose(result.radius_of_curvature_x, 2 / curvature + 1.0, rtol=1e-6)


def test_tilt_is_what_the_shift_of_the_detectors_makes_of_the_beam() -> None:
    """A detector shifted by 100 um at a gap of half a metre: 200 urad, and no other change."""
    beam = Beam(1 / SOURCE, 1 / SOURCE)
    far = replace(FAR, shape=(64, 64))
    here, there = (
        absolute(exact_tracking(beam, replace(NEAR, middle=(shift, 0.0), turn=0), far), NEAR, far)
        for shift in (0.0, 100e-6)
    )
    np.testing.assert_allclose(there.tilt_y - here.tilt_y, 100e-6 / 0.5, rtol=1e-6)
    np.testing.assert_allclose(there.tilt_x, here.tilt_x, atol=1e-12)
    np.testing.assert_allclose(there.wavefront, here.wavefront, atol=1e-16)
    np.testing.assert_allclose(there.slope_y.mean(), 0, atol=1e-12)


def test_errors_of_the_displacement_become_errors_of_the_slope() -> None:
    result = absolute(exact_tracking(Beam(0.1, 0.1), NEAR, FAR), NEAR, FAR)
    # 0.01 px of the far detector, 1 um each, over the gap.
    np.testing.assert_allclose(result.slope_uncertainty_y, 0.01 * 1e-6 / 0.5, rtol=1e-5)
    np.testing.assert_allclose(result.slope_uncertainty_x, 0.02 * 1e-6 / 0.5, rtol=1e-5)


def test_the_radius_of_a_beam_from_40_m_is_right_within_half_a_per_cent() -> None:
    result = absolute(diverging(), NEAR, FAR, energy=17.0)
    for axis in "yx":
        radius = float(result[f"radius_of_curvature_{axis}"])
        error = float(result[f"radius_of_curvature_uncertainty_{axis}"])
        assert radius == pytest.approx(SOURCE + FAR.z, rel=0.002)
        assert abs(radius - (SOURCE + FAR.z)) < 4 * error
        assert error < 0.002 * radius
    assert float(result.detector_rotation) == pytest.approx(0.015, abs=1e-4)
    height = Beam(1 / SOURCE, 1 / SOURCE).at(*FAR.places(), FAR.z)[2]
    deviation = without_plane(result.wavefront.to_numpy() - height)
    assert np.nanstd(deviation) < 0.01 * np.nanstd(without_plane(height))


def test_the_stated_error_of_the_radius_is_its_scatter() -> None:
    pulls = []
    for seed in range(4):
        far, near = replace(FAR, shape=(160, 160)), replace(NEAR, shape=(220, 220))
        result = absolute(tracked(Beam(1 / SOURCE, 1 / SOURCE), near, far, seed=seed), near, far)
        pulls += [
            float(
                (result[f"radius_of_curvature_{axis}"] - SOURCE - far.z)
                / result[f"radius_of_curvature_uncertainty_{axis}"]
            )
            for axis in "yx"
        ]
    assert 0.3 < np.sqrt(np.mean(np.square(pulls))) < 2


def test_a_lens_behind_a_source_gives_back_its_radius_and_figure() -> None:
    """Both detectors behind a lens of 50 um radius, in the beam of a source at 40 m."""
    delta = wd.optics.refractive_decrement("Be", energy=17.0)
    radius = 50e-6
    power = 2 * delta / radius
    beam = Beam(1 / SOURCE - power, 1 / SOURCE - power, bump=4e-3, wave=2 * np.pi / 180e-6)
    near = Camera(0.3, 0.65e-6, (420, 420), middle=(8e-6, -5e-6), turn=0.012)
    far = Camera(0.9, 0.65e-6, (320, 320))
    result = absolute(tracked(beam, near, far), near, far, energy=17.0, source_distance=SOURCE)
    lens = wd.optics.fit_lens(result, material="Be")
    # Figure and paraboloid overlap: the truth is fitted as the measurement is.
    height = beam.at(*far.places(), far.z)[2]
    whole = result.wavefront.copy(data=height)
    truth = result.assign(wavefront=whole.where(result.wavefront.notnull()))
    expected = wd.optics.fit_lens(truth, material="Be")
    assert float(expected.radius) == pytest.approx(radius, rel=1e-3)
    assert float(lens.radius) == pytest.approx(radius, rel=0.003)
    assert float(lens.focal_length) == pytest.approx(1 / power, rel=0.003)
    difference = lens.residual - expected.residual
    assert float(difference.std()) < 0.1 * float(expected.residual_rms)


def test_a_lens_in_absolute_mode_needs_the_distance_of_the_source() -> None:
    beam = Beam(-0.2, -0.2)
    result = absolute(exact_tracking(beam, NEAR, FAR), NEAR, FAR)
    with pytest.raises(InputError, match=r"absolute wavefront.*math\.inf"):
        wd.optics.fit_lens(result, delta=1e-6)
    parallel = wd.optics.fit_lens(result, delta=1e-6, source_distance=math.inf)
    np.testing.assert_allclose(parallel.focal_length, 5.0, rtol=1e-5)
    from_40_m = wd.optics.fit_lens(result, delta=1e-6, source_distance=SOURCE)
    np.testing.assert_allclose(from_40_m.focal_length, 1 / (0.2 + 1 / SOURCE), rtol=1e-5)
    assert from_40_m.attrs["source_distance"] == SOURCE


def test_the_result_is_labelled_lazy_and_carries_the_set_up() -> None:
    tracking = exact_tracking(Beam(0.1, 0.1), NEAR, FAR)
    chunked = tracking.chunk({"frame": 2, "y": 100, "x": 100})
    options = {"distance_error": 1e-3, "pixel_size_error": (1e-10, (1e-10, 2e-10))}
    with forbid_computing():
        result = absolute(chunked, NEAR, FAR, **options)
    for name, values in result.items():
        assert values.attrs == QUANTITIES[str(name)].attrs
        assert values.chunks is not None
        assert values.dims == (("frame",) if name in PER_FRAME else ("frame", "y", "x"))
    assert set(result) >= PER_FRAME
    np.testing.assert_allclose(result.y, np.arange(256) * FAR.pixel)
    assert {name: result.attrs[name] for name in ("mode", "distance", "near_distance")} == {
        "mode": "absolute",
        "distance": 1.0,
        "near_distance": 0.5,
    }
    assert result.attrs["near_pixel_size"] == [0.8e-6, 0.8e-6]
    assert result.attrs["pixel_size_error"] == [1e-10, 1e-10, 1e-10, 2e-10]
    assert list(result.energy.values) == [17.0, 18.0]
    xr.testing.assert_allclose(result.compute(), absolute(tracking, NEAR, FAR, **options))


def test_the_pointing_of_a_beam_is_its_tilt() -> None:
    """A prism of 3 urad before the membrane tilts all rays, and changes nothing else."""
    far = replace(FAR, shape=(64, 64))
    straight = exact_tracking(Beam(1 / SOURCE, 1 / SOURCE), NEAR, far)
    bent = straight.copy(deep=True)
    # p1 = matrix @ (p - u): a near position moved by -angle * gap has u larger by as much.
    bent["displacement_x"] = bent["displacement_x"] + 3e-6 * 0.5 / FAR.pixel
    one, other = (absolute(tracking, NEAR, far) for tracking in (straight, bent))
    np.testing.assert_allclose(other.tilt_x - one.tilt_x, 3e-6, rtol=1e-6)
    np.testing.assert_allclose(other.tilt_y, one.tilt_y, atol=1e-13)
    np.testing.assert_allclose(other.wavefront, one.wavefront, atol=1e-16)


def test_a_result_is_stored_with_its_set_up(tmp_path: Path) -> None:
    tracking = exact_tracking(Beam(0.1, 0.1), NEAR, replace(FAR, shape=(40, 50)))
    lazy = absolute(tracking.chunk({"frame": 1}), NEAR, FAR, distance_error=(1e-3, 2e-3))
    wd.write_store(tmp_path / "a.zarr", lazy, settings={})
    stored = wd.open_store(tmp_path / "a.zarr")
    assert stored.attrs["distance_error"] == [1e-3, 2e-3]
    np.testing.assert_allclose(stored.radius_of_curvature_x, 10 + FAR.z, rtol=1e-6)
    one, other = (wd.budget(result.isel(frame=1)) for result in (stored, lazy))
    assert str(one) == str(other)


def test_a_region_and_a_pupil_leave_the_rest_out() -> None:
    tracking = exact_tracking(Beam(0.1, 0.2), NEAR, FAR)
    result = absolute(
        tracking, NEAR, FAR, roi=(slice(20, 220), slice(50, None)), pupil=(120.0, 150.0, 60.0)
    )
    assert dict(result.sizes) == {"frame": 2, "y": 200, "x": 206}
    np.testing.assert_allclose(result.x[0], 50e-6)
    y, x = np.mgrid[:256, :256]
    whole = xr.DataArray((y - 120) ** 2 + (x - 150) ** 2 <= 60**2, dims=("y", "x"))
    inside = whole[20:220, 50:].to_numpy()
    assert (result.slope_y.notnull() == inside).all()
    assert (np.isfinite(result.slope_uncertainty_y) == inside).all()
    np.testing.assert_allclose(result.radius_of_curvature_x, 5.0 + FAR.z, rtol=1e-6)
    for mask in (whole, whole[20:220, 50:]):
        again = absolute(tracking, NEAR, FAR, roi=(slice(20, 220), slice(50, None)), pupil=mask)
        xr.testing.assert_allclose(again.wavefront, result.wavefront)


def test_given_errors_add_to_that_of_the_radius() -> None:
    tracking = exact_tracking(Beam(1 / 39.0, 1 / 39.0), NEAR, FAR)
    alone = absolute(tracking, NEAR, FAR)
    both = absolute(
        tracking, NEAR, FAR, pixel_size_error=(0.8e-10, 1e-10), distance_error=(0.0, 1e-3)
    )
    # 40 m: 1e-4 of each pixel size, enlarged 79 times, and 2e-3 of the gap.
    expected = 40 * math.hypot(math.sqrt(2) * 79e-4, 2e-3)
    expected = np.hypot(alone.radius_of_curvature_uncertainty_y, expected)
    np.testing.assert_allclose(both.radius_of_curvature_uncertainty_y, expected, rtol=1e-3)


def test_a_frame_without_matches_is_nan_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    tracking = exact_tracking(Beam(0.1, 0.1), NEAR, replace(FAR, shape=(40, 40))).copy(deep=True)
    tracking["displacement_y"][0] = np.nan
    result = absolute(tracking, NEAR, FAR)
    assert np.isnan(result.slope_x[0]).all()
    assert np.isinf(result.slope_uncertainty_x[0]).all()
    assert np.isnan(result.radius_of_curvature_y[0])
    assert np.isfinite(result.radius_of_curvature_y[1])
    assert "span a plane" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distance": 1.0}, "distance is 1.0 with mode 'absolute'.*two distances"),
        ({"distance": (1.0, 1.0)}, r"distance is \(1, 1\) m.*far one larger"),
        ({"distance": (1.0, 0.5)}, r"distance is \(1, 0.5\) m.*far one larger"),
        ({"distance": (1.0, np.nan)}, "distance to the far detector is nan m"),
        ({"distance": ("a", 2.0)}, "distance to the near detector is 'a'.*a number"),
        ({"pixel_size": 1e-6}, "pixel_size is 1e-06 with mode 'absolute'.*the near and far"),
        ({"pixel_size": (1e-6, 1.0)}, "pixel_size of the far detector is 1 m.*another unit"),
        ({"membrane_distance": 0.3}, "membrane_distance is 0.3 with mode 'absolute'"),
        ({"distance_error": -1.0}, "distance_error is -1 m.*standard error"),
        ({"distance_error": (1.0, 1.0, 1.0)}, "distance_error is .*one for both"),
        ({"pixel_size_error": 1e-3}, "pixel_size_error is 0.001 m.*not a fraction"),
        ({"distortion_error": np.nan}, "distortion_error is nan px"),
        ({"source_distance": -40.0}, "source_distance is -40 m"),
        ({"roi": slice(3)}, "roi is slice.*two slices"),
        ({"roi": (slice(300, 400), slice(None))}, "roi leaves 0 pixels along y: it is 300 to 400"),
        ({"pupil": (1.0, 2.0)}, "pupil is .*centre along y"),
        (
            {"pupil": (1e4, 1e4, 3.0)},
            r"pupil \(10000.0, 10000.0, 3.0\) px holds no pixel.*rows 0 to 255 and the columns",
        ),
        ({"pupil": xr.DataArray(np.ones((3, 3), bool), dims=("y", "x"))}, r"pupil has \(3, 3\)"),
        ({"pupil": xr.DataArray(np.ones((256, 256)), dims=("y", "x"))}, "mask of bool"),
    ],
)
def test_values_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "mode": "absolute",
        "distance": (0.5, 1.0),
        "pixel_size": (0.8e-6, 1e-6),
    } | change
    with pytest.raises(InputError, match=message):
        untyped_wavefront(exact_tracking(Beam(0.1, 0.1), NEAR, FAR), **arguments)


def test_a_tracking_of_one_detector_is_refused() -> None:
    tracking = exact_tracking(Beam(0.1, 0.1), NEAR, FAR)
    bare = tracking.drop_attrs()
    with pytest.raises(InputError, match="no registration, and absolute mode needs"):
        absolute(bare, NEAR, FAR)
    with pytest.raises(InputError, match=r"no 'uncertainty_x'.*whole result of track"):
        absolute(tracking.drop_vars("uncertainty_x"), NEAR, FAR)
    with pytest.raises(InputError, match="registered, that is of two detectors"):
        wd.wavefront(tracking, distance=1.0, pixel_size=1e-6)
