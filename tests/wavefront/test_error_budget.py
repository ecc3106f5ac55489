"""The budget of errors: each line is what a set-up with that error would have measured."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xarray as xr
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
from wavedask.errors import InputError
from wavedask.geometry import Errors, Geometry, errors_of, geometry
from wavedask.wavefront.error_budget import Budget, Contribution

BEAM = Beam(1 / 39.0, 1 / 39.0)
RADIUS = 40.0
SMALL = replace(FAR, shape=(120, 120))


def lines(table: Budget) -> dict[str, Contribution]:
    return {part.source: part for part in table.contributions}


def of_the_beam(**options: Any) -> Budget:
    return wd.budget(
        absolute(exact_tracking(BEAM, NEAR, SMALL), NEAR, SMALL, **options)[{"frame": 0}]
    )


def remeasured(near: Camera, far: Camera) -> xr.Dataset:
    """The same images, taken to come from other pixel sizes and distances."""
    return absolute(exact_tracking(BEAM, NEAR, SMALL), near, far).isel(frame=0)


@pytest.mark.parametrize(
    ("near", "far", "source", "options"),
    [
        (
            replace(NEAR, pixel=NEAR.pixel * 1.0001),
            SMALL,
            "pixel size, near detector",
            {"pixel_size_error": (1e-4 * NEAR.pixel, 0.0)},
        ),
        (
            NEAR,
            replace(SMALL, pixel=SMALL.pixel * 1.0001),
            "pixel size, far detector",
            {"pixel_size_error": (0.0, 1e-4 * SMALL.pixel)},
        ),
        (
            replace(NEAR, z=NEAR.z + 1e-3),
            SMALL,
            "distance, near detector",
            {"distance_error": (1e-3, 0.0)},
        ),
        (
            NEAR,
            replace(SMALL, z=SMALL.z + 1e-3),
            "distance, far detector",
            {"distance_error": (0.0, 1e-3)},
        ),
    ],
)
def test_a_line_is_what_the_error_does(
    near: Camera, far: Camera, source: str, options: dict[str, Any]
) -> None:
    right, wrong = remeasured(NEAR, SMALL), remeasured(near, far)
    part = lines(of_the_beam(**options))[source]
    change = float(wrong.radius_of_curvature_y / right.radius_of_curvature_y) - 1
    assert part.given
    assert part.radius_y == pytest.approx(abs(change), rel=0.02)
    assert part.radius_x == pytest.approx(abs(change), rel=0.02)
    difference = wrong.wavefront.to_numpy() - right.wavefront.to_numpy()
    # One error along both axes here; the budget takes those of y and x as independent.
    together = math.sqrt(2) if source.startswith("pixel") else 1.0
    assert part.wavefront * together == pytest.approx(np.std(difference), rel=0.5)
    assert part.wavefront == pytest.approx(np.std(difference), rel=0.5)


def test_a_pixel_size_is_enlarged_by_the_ratio_of_radius_and_gap() -> None:
    """The number that a user must see: 1e-4 is 0.8 % of 40 m at a gap of half a metre."""
    table = of_the_beam()
    part = lines(table)["pixel size, near detector"]
    assert not part.given
    assert part.radius_y == pytest.approx(1e-4 * (RADIUS / 0.5 - 1), rel=1e-3)
    assert "0.790" in str(table)
    assert "* not given" in str(table)
    assert table.radius_of_curvature_y == pytest.approx(RADIUS, rel=1e-4)


def test_the_total_counts_what_is_known_and_agrees_with_the_stated_error() -> None:
    options = {
        "pixel_size_error": (0.8e-10, 1e-10),
        "distance_error": 1e-3,
        "distortion_error": (0.01, 0.02),
    }
    result = absolute(exact_tracking(BEAM, NEAR, SMALL), NEAR, SMALL, **options).isel(frame=0)
    table = wd.budget(result)
    assert all(part.given for part in table.contributions)
    assert "not given" not in str(table)
    for axis, total in zip("yx", (table.total.radius_y, table.total.radius_x), strict=True):
        stated = float(
            result[f"radius_of_curvature_uncertainty_{axis}"]
            / result[f"radius_of_curvature_{axis}"]
        )
        assert total == pytest.approx(stated, rel=0.01)
    effects = [max(part.radius_y, part.radius_x) for part in table.contributions]
    assert effects == sorted(effects, reverse=True)
    bare = of_the_beam()
    assert [part.source for part in bare.contributions if part.given] == ["matching"]
    assert bare.total.radius_y == bare.contributions[0].radius_y


def test_distortion_is_bounded_by_a_change_of_scale() -> None:
    """An error of 0.05 px rms that is all scale, put into the images: the line is what it does."""
    rows = np.arange(120) - 59.5
    tracking = exact_tracking(BEAM, NEAR, SMALL)
    scaled = tracking.copy(deep=True)
    stretch = 0.05 * rows / rows.std()
    scaled["displacement_y"] = scaled["displacement_y"] + xr.DataArray(stretch, dims="y")
    one, other = (absolute(t, NEAR, SMALL).isel(frame=0) for t in (tracking, scaled))
    # A displacement of the far pixel by u is one of the far position, for slopes alike.
    change = abs(float(other.radius_of_curvature_y / one.radius_of_curvature_y) - 1)
    part = lines(of_the_beam(distortion_error=(0.0, 0.05)))["distortion, far detector"]
    assert part.radius_y == pytest.approx(change, rel=0.3)


def test_the_noise_of_matching_is_that_of_the_wavefront() -> None:
    near, far = Camera(0.5, 0.8e-6, (290, 290)), Camera(1.0, 0.8e-6, (230, 230))
    result = absolute(tracked(BEAM, near, far), near, far)
    part = lines(wd.budget(result))["matching"]
    height = BEAM.at(*far.places(), far.z)[2]
    noise = float(np.nanstd(without_plane(result.wavefront.to_numpy() - height)))
    assert 0.6 * noise < part.wavefront < 1.6 * noise


def test_one_detector_has_a_budget_too() -> None:
    y, x = np.mgrid[-30.0:31.0, -30.0:31.0]
    tracking = xr.Dataset(
        {
            "displacement_y": (("y", "x"), -0.2 * y),
            "displacement_x": (("y", "x"), -0.2 * x),
        }
    )

    def measured(**options: Any) -> xr.Dataset:
        return wd.wavefront(
            tracking,
            **{"distance": 1.0, "pixel_size": 1e-6, "source_distance": 40.0} | options,
        )

    table = wd.budget(measured(distance_error=1e-3, pixel_size_error=1e-10))
    parts = lines(table)
    assert set(parts) == {"distance", "pixel size"}
    wrong = wd.budget(measured(distance=1.001))
    change = wrong.radius_of_curvature_y / table.radius_of_curvature_y - 1
    assert parts["distance"].radius_y == pytest.approx(change, rel=1e-2)
    assert parts["pixel size"].radius_y == 0
    wider = measured(pixel_size=1.0001e-6)
    difference = float(np.std(wider.wavefront.to_numpy() - measured().wavefront.to_numpy()))
    assert parts["pixel size"].wavefront == pytest.approx(difference, rel=1e-2)
    assert not lines(wd.budget(measured()))["distance"].given


def test_the_radius_is_that_of_the_lens() -> None:
    """Budget and lens fit tell the same radius, with aberration, too."""
    y, x = np.mgrid[-40.0:41.0, -40.0:41.0]
    square = (y**2 + x**2) / 1600
    for aberration in (0.0, 0.02):
        tracking = xr.Dataset(
            {
                "displacement_y": (("y", "x"), y * (-0.1 + aberration * square)),
                "displacement_x": (("y", "x"), x * (-0.1 + aberration * square)),
            }
        )
        wf = wd.wavefront(tracking, distance=1.0, pixel_size=1e-6)
        table, lens = wd.budget(wf), wd.optics.fit_lens(wf)
        mean = 2 / (1 / table.radius_of_curvature_y + 1 / table.radius_of_curvature_x)
        assert float(lens.focal_length) == pytest.approx(1.0 - mean, rel=1e-9)
        if not aberration:
            assert table.radius_of_curvature_y == pytest.approx(-10.0, rel=1e-6)


def test_errors_travel_with_the_result() -> None:
    given = errors_of(
        detectors=2, distance=1e-3, pixel_size=(1e-10, (2e-10, 3e-10)), distortion=0.1
    )
    assert Errors.from_attrs(given.attrs) == given
    assert Errors.from_attrs({}) == Errors()
    setup = geometry((0.5, 1.0), (1e-6, (2e-6, 3e-6)))
    assert Geometry.from_attrs(setup.attrs) == setup


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda wf: wf.drop_vars("slope_x"), "wf has no 'slope_x'"),
        (lambda wf: wf.drop_attrs(), "wf has no attribute 'mode'"),
        (lambda wf: wf.assign(wavefront=wf.wavefront * np.nan), "no pixels with data"),
    ],
)
def test_what_is_no_wavefront_is_refused(change: Any, message: str) -> None:
    one = absolute(exact_tracking(BEAM, NEAR, SMALL), NEAR, SMALL).isel(frame=0)
    with pytest.raises(InputError, match=message):
        wd.budget(change(one))


def test_a_budget_is_that_of_one_frame() -> None:
    with pytest.raises(InputError, match=r"one frame.*isel\(frame=0\)"):
        wd.budget(absolute(exact_tracking(BEAM, NEAR, SMALL), NEAR, SMALL))
