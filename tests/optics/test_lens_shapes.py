"""Lenses of several shapes, smaller than the frame or in stacks, from exact rays."""

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from support.laziness import forbid_computing
from support.noise import tracker_noise

import wavedask as wd
from wavedask.errors import InputError
from wavedask.optics import evaluate_modes, fit_lens, gradient_modes, lens_contributions

Floats = NDArray[np.float64]
SIDE, PIXEL, DISTANCE, WINDOW = 180, 1e-6, 0.8, 15
HALF = (SIDE - 1) / 2 * PIXEL
Y, X = np.meshgrid(*(np.linspace(-HALF, HALF, SIDE),) * 2, indexing="ij")
DELTA = 2e-6


def wavefront_of(
    slope_y: Floats, slope_x: Floats, *, sigma: float = 0.0, seed: int = 0, **options: Any
) -> xr.Dataset:
    """Wavefront that a tracker with errors of `sigma` pixels measures."""
    rng = np.random.default_rng(seed)
    fields: dict[str, Any] = {"window": (("y", "x"), np.full(Y.shape, WINDOW))}
    for axis, slope in (("y", slope_y), ("x", slope_x)):
        u = slope * DISTANCE / PIXEL
        if sigma:
            u = u + sigma * tracker_noise(Y.shape, WINDOW, rng)
            error = np.where(np.isfinite(u), sigma, np.inf)
            fields[f"uncertainty_{axis}"] = ("y", "x"), error
        fields[f"displacement_{axis}"] = ("y", "x"), u
    wf = wd.wavefront(xr.Dataset(fields), distance=DISTANCE, pixel_size=PIXEL, **options)
    return wf.assign_coords(y=Y[:, 0], x=X[0])


def spheres(radius: float) -> tuple[Floats, Floats]:
    """Slopes behind a double sphere, by rays from the lens to the detector."""
    start = np.linspace(0, 0.97 * radius, 20_001)
    slope = -2 * DELTA * start / np.sqrt(radius**2 - start**2)
    arrived = start + DISTANCE * slope
    away = np.hypot(Y, X)
    found = np.interp(away, arrived, slope, right=np.nan)
    with np.errstate(invalid="ignore"):
        return found * Y / away, found * X / away


def test_a_sphere_and_the_paraboloid_that_it_is_not() -> None:
    radius = 200e-6
    wf = wavefront_of(*spheres(radius), sigma=0.01)
    lens = fit_lens(wf, shape="sphere", delta=DELTA)
    error = float(lens.radius_uncertainty)
    assert float(lens.radius) == pytest.approx(radius, rel=0.005)
    assert abs(float(lens.radius) - radius) < 3 * error
    assert int(lens.verdict) == 0
    assert float(lens.explained_variance) > 0.95
    bent = fit_lens(wf, delta=DELTA)
    assert abs(float(bent.radius) - radius) > 5 * error
    assert float(bent.residual_rms) > 2 * float(lens.residual_rms)
    start = np.linspace(0, 0.97 * radius, 20_001)
    arrived = start - DISTANCE * 2 * DELTA * start / np.sqrt(radius**2 - start**2)
    away = np.interp(np.hypot(Y, X), arrived, start)
    right = 2 * (radius - np.sqrt(radius**2 - away**2))
    np.testing.assert_allclose(lens.thickness, right, atol=0.03 * right.max())


def test_the_truth_of_a_lens_with_a_figure() -> None:
    """Radius within 0.5 % and its error, rms of the figure within 10 %."""
    radius, scores = 80e-6, []
    modes = np.zeros(28)
    modes[[7, 9, 12, 17, 24]] = 2e-12 * np.array([1.5, -1.0, 2.0, 0.5, -0.7])
    figure = evaluate_modes(modes, Y / HALF, X / HALF, basis="zernike")
    down, across = (g / HALF for g in gradient_modes(modes, Y / HALF, X / HALF, basis="zernike"))
    near = radius / (2 * DELTA) - DISTANCE
    disc = xr.DataArray(np.hypot(Y, X) <= HALF, dims=("y", "x"))
    right = float(np.std(figure[disc.values]))
    for seed in range(10):
        wf = wavefront_of(down - Y / near, across - X / near, sigma=0.01, seed=seed)
        lens = fit_lens(wf.where(disc), delta=DELTA)
        assert float(lens.radius) == pytest.approx(radius, rel=0.005)
        assert float(lens.residual_rms) == pytest.approx(right, rel=0.1)
        scores.append(float((lens.radius - radius) / lens.radius_uncertainty))
    assert 0.5 < np.sqrt(np.mean(np.square(scores))) < 1.6


@pytest.mark.parametrize("given", [False, True])
def test_a_cylinder_at_any_azimuth(given: bool) -> None:
    azimuth, near = 0.35, 15.0
    along = (Y - 2e-5) * math.sin(azimuth) + X * math.cos(azimuth)
    wf = wavefront_of(
        -along * math.sin(azimuth) / near, -along * math.cos(azimuth) / near, sigma=0.01
    )
    lens = fit_lens(wf, shape="cylinder", delta=DELTA, azimuth=azimuth if given else None)
    assert float(lens.focal_length) == pytest.approx(near + DISTANCE, rel=0.005)
    assert abs(float(lens.azimuth) - azimuth) < 3 * float(lens.azimuth_uncertainty) + 1e-12
    assert float(lens.explained_variance) > 0.95
    assert "radius_y" not in lens
    # A round lens does not explain it.
    assert float(fit_lens(wf).explained_variance) < 0.6
    assert int(fit_lens(wf).verdict) == 2


def test_crossed_cylinders() -> None:
    azimuth, near_x, near_y = -0.2, 12.0, 25.0
    sine, cosine = math.sin(azimuth), math.cos(azimuth)
    along, beside = sine * Y + cosine * X, cosine * Y - sine * X
    wf = wavefront_of(
        -along * sine / near_x - beside * cosine / near_y,
        -along * cosine / near_x + beside * sine / near_y,
    )
    for given in (None, azimuth):
        lens = fit_lens(wf, shape="crossed", delta=DELTA, azimuth=given)
        assert float(lens.focal_length_x) == pytest.approx(near_x + DISTANCE, rel=1e-6)
        assert float(lens.focal_length_y) == pytest.approx(near_y + DISTANCE, rel=1e-6)
        assert float(lens.azimuth) == pytest.approx(azimuth, abs=1e-6)


def small_lens(center: tuple[float, float], radius: float, near: float) -> tuple[Floats, Floats]:
    """A lens within a circle, and nothing outside."""
    inside = np.hypot(Y - center[0], X - center[1]) < radius
    return (
        np.where(inside, -(Y - center[0]) / near, 0.0),
        np.where(inside, -(X - center[1]) / near, 0.0),
    )


def test_a_lens_smaller_than_the_frame_is_found() -> None:
    center, radius, near = (1e-5, -1.5e-5), 5e-5, 20.0
    wf = wavefront_of(*small_lens(center, radius, near), sigma=0.01)
    lens = fit_lens(wf)
    assert float(lens.focal_length) == pytest.approx(near + DISTANCE, rel=0.02)
    used = lens.aperture.values
    assert np.hypot(Y - center[0], X - center[1])[used].max() < radius
    assert used.sum() > 0.35 * np.pi * (radius / PIXEL) ** 2
    assert float(lens.aperture_center_y) == pytest.approx(center[0], abs=3e-6)
    assert float(lens.aperture_width_x) == pytest.approx(2 * radius, rel=0.4)
    # The whole frame is another lens, and fits badly.
    whole = fit_lens(wf, aperture=None)
    assert float(whole.focal_length) > 2 * near
    assert int(whole.verdict) == 2
    given = fit_lens(wf, aperture=(*center, 4e-5), geometric_aperture=5e-5)
    assert float(given.focal_length) == pytest.approx(near + DISTANCE, rel=0.02)
    assert int(given.verdict) == 3
    mask = fit_lens(wf, aperture=lens.aperture)
    assert float(mask.focal_length) == pytest.approx(float(lens.focal_length), rel=1e-9)


def test_two_lenses_in_one_frame_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    left, right = (small_lens((0.0, x), 3.6e-5, 20.0) for x in (-4.5e-5, 4.5e-5))
    wf = wavefront_of(left[0] + right[0], left[1] + right[1])
    with pytest.raises(InputError, match=r"2 regions of similar size.*aperture="):
        fit_lens(wf)
    frames = fit_lens(xr.concat([wf, wf], "frame"))
    assert np.isnan(frames.focal_length).all()
    assert "2 regions" in caplog.text
    one = fit_lens(wf, aperture=(0.0, -4.5e-5, 3e-5))
    assert float(one.center_x) == pytest.approx(-4.5e-5, abs=1e-6)


def test_each_lens_of_a_stack_of_frames() -> None:
    """Frames with one to three lenses, over a motor, as a table."""
    focal = 1 / np.cumsum([1 / 20.0, 1 / 25.0, 1 / 30.0])
    stack = [wavefront_of(-Y / (f - DISTANCE), -X / (f - DISTANCE), sigma=0.01) for f in focal]
    frames = xr.concat(stack[::-1], "frame").assign_coords(count=("frame", [3, 2, 1]))
    with forbid_computing():
        fits = fit_lens(frames.chunk({"frame": 1}), delta=DELTA)
        lens_contributions(fits)
    parts = lens_contributions(fits, along="count")
    np.testing.assert_allclose(parts.focal_length, [20.0, 25.0, 30.0], rtol=0.01)
    np.testing.assert_allclose(parts.radius, 2 * DELTA * parts.focal_length)
    table = fits.drop_dims(["y", "x"]).to_dataframe()
    assert list(table["count"]) == [3, 2, 1]
    assert {"radius", "radius_uncertainty", "figure_error_rms"} <= set(table)
    with pytest.raises(InputError, match="less than two frames"):
        lens_contributions(fits.isel(frame=[0]))
    with pytest.raises(InputError, match="no coordinate 'energy'"):
        lens_contributions(fits, along="energy")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": "cone"}, "shape is 'cone'"),
        ({"shape": "sphere"}, "a sphere needs its refractive index"),
        ({"azimuth": 0.1}, "azimuth is 0.1 and shape is 'paraboloid'"),
        ({"shape": "cylinder", "azimuth": 45.0}, "azimuth is 45"),
        ({"aperture": "round"}, "aperture is 'round'"),
        ({"aperture": (0.0, 0.0, -1.0)}, "aperture is"),
        ({"aperture": (1.0, 0.0, 1e-5)}, "aperture holds no pixel"),
        ({"aperture": xr.DataArray(np.ones((3, 3), bool), dims=("y", "x"))}, "3, 3. pixels"),
        ({"geometric_aperture": -1.0}, "geometric_aperture is -1"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_lens(wavefront_of(-Y / 20, -X / 20), **change)


def test_the_outline_of_a_lens_does_not_hide_it() -> None:
    """At the rim, windows see both sides, and what they find there scatters."""
    radius, power = 6e-5, 0.05
    away = np.hypot(Y, X)
    width = 1.5 * WINDOW * PIXEL / 2
    inside = np.clip((radius + width - away) / (2 * width), 0.0, 1.0)
    lumps = np.sin(7 * np.arctan2(Y, X)) * np.exp(-(((away - radius) / width) ** 2))
    wf = wavefront_of(-power * Y * (inside + lumps), -power * X * (inside + lumps))
    lens = fit_lens(wf)
    assert int(lens.verdict) == 0
    assert float(lens.aperture_width_x) < 2 * radius
    assert float(lens.focal_length) == pytest.approx(1 / power + DISTANCE, rel=0.02)
