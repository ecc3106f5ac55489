"""From displacements to a wavefront: a known lens, units, coordinates, laziness and errors."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from laziness import forbid_computing

from wavedask.conventions import QUANTITIES
from wavedask.errors import InputError
from wavedask.wavefront import HC_KEV_M, in_range, wavefront

DISTANCE, PIXEL, FOCAL_LENGTH = 0.8, 0.65e-6, 3.0
FRAMES, HEIGHT, WIDTH = 3, 24, 31
untyped_wavefront: Any = wavefront
"""For arguments that a type checker would refuse, too."""


def lens_tracking(*, uncertainty: bool = True, frames: int = FRAMES) -> xr.Dataset:
    """Displacements that an ideal lens makes, as of `track`: x = X (1 - d/f), u = x - X."""
    y = np.arange(100, 100 + HEIGHT)
    x = np.arange(40, 40 + WIDTH)
    magnification = 1 - DISTANCE / FOCAL_LENGTH
    uy, ux = ((1 - 1 / magnification) * (n - 110.0) for n in (y, x))
    shape = (frames, HEIGHT, WIDTH)
    dims = ("frame", "y", "x")
    pixels = {"units": "px"}
    variables = {
        "displacement_y": (dims, np.broadcast_to(uy[:, np.newaxis], shape).copy(), pixels),
        "displacement_x": (dims, np.broadcast_to(ux, shape).copy(), pixels),
        "correlation": (dims, np.full(shape, 0.9), {"units": "1"}),
    }
    if uncertainty:
        variables |= {
            name: (dims, np.full(shape, 0.01), pixels)
            for name in ("uncertainty_y", "uncertainty_x")
        }
    coords = {
        "y": ("y", y, {"units": "px"}),
        "x": ("x", x, {"units": "px"}),
        "lens_x": ("frame", np.linspace(0, 1, frames), {"units": "mm"}),
        "detz": ((), 12.5, {"units": "mm"}),
    }
    return xr.Dataset(variables, coords, {"window": 21})


def test_a_thin_lens_has_the_wavefront_of_its_radius_at_the_detector() -> None:
    result = wavefront(lens_tracking(), distance=DISTANCE, pixel_size=PIXEL, energy=17.0)
    radius = FOCAL_LENGTH - DISTANCE
    centre = 110 * PIXEL
    y, x = result["y"] - centre, result["x"] - centre
    expected = -(y**2 + x**2) / (2 * radius)
    expected -= expected.mean()
    np.testing.assert_allclose(
        result["wavefront"].isel(frame=1), expected, atol=1e-9 * float(np.ptp(expected.to_numpy()))
    )
    np.testing.assert_allclose(result["slope_x"].isel(frame=0, y=0), -x / radius, atol=1e-15)
    np.testing.assert_allclose(result["curvature_y"], -1 / radius)
    np.testing.assert_allclose(result["curvature_x"], -1 / radius)
    np.testing.assert_allclose(result["phase"], 2 * np.pi / (HC_KEV_M / 17.0) * result["wavefront"])


def test_the_slope_is_the_gradient_of_the_wavefront() -> None:
    result = wavefront(lens_tracking(), distance=DISTANCE, pixel_size=PIXEL)
    gradient = np.gradient(result["wavefront"].to_numpy(), PIXEL, axis=1, edge_order=2)
    np.testing.assert_allclose(gradient, result["slope_y"], atol=1e-12)


def test_every_result_is_labelled_and_carries_the_motors() -> None:
    result = wavefront(lens_tracking(), distance=DISTANCE, pixel_size=PIXEL, wavelength=7e-11)
    for name in result:
        assert result[name].attrs == QUANTITIES[str(name)].attrs
    assert set(result) == {
        "slope_y",
        "slope_x",
        "wavefront",
        "phase",
        "curvature_y",
        "curvature_x",
        "correlation",
    }
    np.testing.assert_allclose(result["y"], np.arange(100, 124) * PIXEL)
    assert result["y"].attrs["units"] == result["x"].attrs["units"] == "m"
    assert result["lens_x"].attrs["units"] == "mm"
    assert float(result["detz"]) == 12.5
    assert result.attrs["window"] == 21
    assert result.attrs["distance"] == DISTANCE
    assert result.attrs["pixel_size"] == [PIXEL, PIXEL]
    assert result.attrs["wavelength"] == 7e-11
    np.testing.assert_allclose(result.attrs["energy_keV"], 12.398419843 / 0.7, rtol=1e-9)


def test_without_energy_there_is_no_phase() -> None:
    result = wavefront(lens_tracking(), distance=DISTANCE, pixel_size=PIXEL)
    assert "phase" not in result
    assert not {"energy_keV", "wavelength"} & set(result.attrs)


def test_pixels_may_be_oblong_and_frames_single() -> None:
    tracking = lens_tracking().isel(frame=0).drop_vars(["y", "x"])
    result = wavefront(tracking, distance=DISTANCE, pixel_size=(2e-6, 1e-6))
    assert result["wavefront"].dims == ("y", "x")
    np.testing.assert_allclose(result["y"], 2e-6 * np.arange(HEIGHT))
    # The same displacement in pixels is twice the angle, on twice the length.
    np.testing.assert_allclose(result["curvature_y"], result["curvature_x"].mean())


def test_the_result_is_lazy_and_independent_of_the_chunks() -> None:
    tracking = lens_tracking()

    chunked = tracking.chunk({"frame": 2, "y": 7, "x": 9})
    with forbid_computing():
        result = wavefront(chunked, distance=DISTANCE, pixel_size=PIXEL, energy=17.0)
    for name in result:
        assert result[name].chunks == ((1,) * FRAMES, (HEIGHT,), (WIDTH,))
    expected = wavefront(tracking, distance=DISTANCE, pixel_size=PIXEL, energy=17.0)
    xr.testing.assert_identical(result.compute(), expected)


@pytest.mark.parametrize("mark", ["displacement_y", "uncertainty_x"])
def test_a_marked_pixel_has_no_slope_and_bends_nothing(mark: str) -> None:
    tracking = lens_tracking()
    expected = wavefront(tracking, distance=DISTANCE, pixel_size=PIXEL)["wavefront"][0]
    tracking["displacement_x"][0, 5, 6] = 17.0 if mark == "uncertainty_x" else np.nan
    tracking[mark][0, 5, 6] = np.inf if mark == "uncertainty_x" else np.nan
    result = wavefront(tracking, distance=DISTANCE, pixel_size=PIXEL)
    surface = result["wavefront"][0]
    assert np.isnan(surface[5, 6])
    assert int(np.isnan(surface).sum()) == 1
    difference = surface - expected
    assert float(difference.std()) < 1e-8 * float(np.ptp(expected.to_numpy()))
    assert np.isnan(result["curvature_x"][0, 5, 5:8]).all()
    assert np.isfinite(result["curvature_x"][0, 5, :5]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "absolute"}, "mode is 'absolute'.*'differential'"),
        ({"energy": 17000.0}, "energy is 17000 keV.*another unit"),
        ({"wavelength": 0.73}, "wavelength is 0.73 m.*another unit"),
        ({"energy": 17.0, "wavelength": 7e-11}, "energy is 17 keV and wavelength is 7e-11 m"),
        ({"pixel_size": 0.65}, "pixel_size is 0.65 m.*another unit"),
        ({"pixel_size": (1e-6, -1e-6)}, "pixel_size is -1e-06 m"),
        ({"pixel_size": (1e-6, 1e-6, 1e-6)}, "pixel_size is .*one along y and one along x"),
        ({"distance": 0.0}, "distance is 0 m"),
        ({"distance": np.nan}, "distance is nan m"),
        ({"method": "fourier"}, "method is 'fourier'"),
    ],
)
def test_values_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"distance": DISTANCE, "pixel_size": PIXEL} | change
    with pytest.raises(InputError, match=message):
        untyped_wavefront(lens_tracking(), **arguments)


@pytest.mark.parametrize(
    ("tracking", "message"),
    [
        (lens_tracking().drop_vars("displacement_x"), "no 'displacement_x'; it has displacement_y"),
        (lens_tracking().isel(y=slice(2)), "3 pixels or more"),
        (lens_tracking().isel(x=0), "3 pixels or more"),
        (
            lens_tracking().assign(
                displacement_y=lambda d: d.displacement_y.assign_attrs(units="m")
            ),
            "displacement_y is in 'm'",
        ),
        (
            lens_tracking().assign_coords(x=("x", np.arange(WIDTH) * 1e-6, {"units": "m"})),
            "coordinate 'x' is in 'm'",
        ),
    ],
)
def test_a_dataset_that_is_no_tracking_is_refused(tracking: xr.Dataset, message: str) -> None:
    with pytest.raises(InputError, match=message):
        wavefront(tracking, distance=DISTANCE, pixel_size=PIXEL)


def test_a_range_excludes_its_ends() -> None:
    assert in_range("value", 1.5, low=1.0, high=2.0, unit="m") == 1.5
    for end in (1.0, 2.0):
        with pytest.raises(InputError, match=f"value is {end:g} m"):
            in_range("value", end, low=1.0, high=2.0, unit="m")
