"""Standard errors of a focus hold: repeated measurements scatter about the truth as they state."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from support.laziness import forbid_computing
from support.noise import tracker_noise

import wavedask as wd
from wavedask.conventions import uncertainty_name
from wavedask.optics import find_focus, gradient_modes

SIDE, WINDOW = 41, 7
PIXEL, DISTANCE, FOCUS = 6e-6, 0.8, 1.5
SIGMA = 0.02
HALF = (SIDE - 1) / 2 * PIXEL
WAVELENGTH = 1e-10
NUMBERS = (
    *("focus_distance_y", "focus_distance_x", "astigmatic_difference"),
    *("focus_fwhm_y", "focus_width_y", "focus_width_x", "focus_rms_x", "strehl"),
)


def measured(rng: np.random.Generator | None, waves: dict[int, float], **errors: Any) -> xr.Dataset:
    """A focused beam with Zernike aberrations in waves, with a tracker's errors if `rng` is one."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    modes = np.zeros(15)
    for number, value in waves.items():
        modes[number] = value * WAVELENGTH
    fields: dict[str, Any] = {"window": (("y", "x"), np.full(y.shape, WINDOW))}
    gradients = gradient_modes(modes, y, x, basis="zernike")
    for axis, place, gradient in zip("yx", (y, x), gradients, strict=True):
        u = (gradient / HALF - place * HALF / FOCUS) * DISTANCE / PIXEL
        if rng is not None:
            u = u + SIGMA * tracker_noise(y.shape, WINDOW, rng)
        fields[f"displacement_{axis}"] = ("y", "x"), u
        fields[f"uncertainty_{axis}"] = ("y", "x"), np.full(y.shape, SIGMA)
    return wd.wavefront(
        xr.Dataset(fields), distance=DISTANCE, pixel_size=PIXEL, energy=12.39842, **errors
    )


@pytest.mark.parametrize("waves", [{}, {7: 0.05, 12: 0.04}])
def test_the_scatter_is_what_the_errors_state(waves: dict[int, float]) -> None:
    """Without aberrations all but the distances change by the square of the noise: a bias."""
    truth = find_focus(measured(None, waves))
    rng = np.random.default_rng(1)
    scores = []
    for _ in range(6):
        found = find_focus(measured(rng, waves))
        scores.append([float((found[n] - truth[n]) / found[uncertainty_name(n)]) for n in NUMBERS])
    rms = np.sqrt(np.mean(np.square(scores), axis=0))
    assert 0.8 < np.sqrt(np.mean(np.square(rms))) < 1.25
    assert rms.max() < 2


def test_an_error_of_the_distance_is_one_of_the_focus() -> None:
    rng = np.random.default_rng(2)
    error = 8e-3
    wf = measured(rng, {}, distance_error=error)
    plain, wrong = (
        float(find_focus(part).focus_distance_uncertainty_x)
        for part in (wf.drop_attrs(deep=False).assign_attrs(energy_keV=12.39842), wf)
    )
    # The slope is the displacement over the distance, and so is the curvature.
    expected = FOCUS * error / DISTANCE
    assert np.sqrt(wrong**2 - plain**2) == pytest.approx(expected, rel=0.02)


def test_errors_frame_by_frame_and_without_those_of_the_slopes() -> None:
    rng = np.random.default_rng(3)
    one = measured(rng, {})
    stack = xr.concat([one, one], "frame").chunk({"frame": 1})
    stack = stack.assign_coords(bender=("frame", [0.0, 1.0], {"units": "V"}))
    with forbid_computing():
        found = find_focus(stack)
    assert found.strehl_uncertainty.attrs["units"] == "1"
    assert found.bender.attrs["units"] == "V"
    alone = find_focus(one)
    name = "focus_distance_uncertainty_y"
    np.testing.assert_array_equal(found[name].values, [float(alone[name])] * 2)
    bare = find_focus(one.drop_vars(["slope_uncertainty_y", "slope_uncertainty_x"]))
    assert np.isnan(bare[name])
    assert float(bare.strehl) == float(alone.strehl)
