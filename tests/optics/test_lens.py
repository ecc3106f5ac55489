"""Lenses of known focal length, radius and figure, from their displacements and wavefronts."""

import logging
from typing import Any

import numpy as np
import pytest
import xarray as xr
import xraydb
from numpy.polynomial import legendre
from support.laziness import forbid_computing

from wavedask.conventions import QUANTITIES
from wavedask.errors import InputError
from wavedask.optics import fit_lens
from wavedask.wavefront.physical import wavefront

DISTANCE, PIXEL = 0.8, 0.65e-6
FOCAL_LENGTHS = np.array([3.0, 25.0, -7.0])
CENTER = (70.0, 52.0)
HEIGHT, WIDTH = 120, 140
untyped_fit_lens: Any = fit_lens
"""For arguments that a type checker would refuse, too."""


def ideal_lenses() -> xr.Dataset:
    """Tracking of ideal thin lenses, one per frame, whose axis meets the detector at CENTER.

    A ray that meets the lens at X arrives at x = X (1 - d/f); its speckle sits at u = x - X from
    where it would be without the lens.
    """
    magnification = (1 - DISTANCE / FOCAL_LENGTHS)[:, np.newaxis, np.newaxis]
    y, x = np.mgrid[:HEIGHT, :WIDTH] - np.array(CENTER)[:, np.newaxis, np.newaxis]
    dims = ("frame", "y", "x")
    return xr.Dataset(
        {
            "displacement_y": (dims, y - y / magnification),
            "displacement_x": (dims, x - x / magnification),
        },
        {"lens_x": ("frame", [0.0, 1.0, 2.0], {"units": "mm"})},
    )


def ideal_wavefront(**arguments: Any) -> xr.Dataset:
    return wavefront(ideal_lenses(), distance=DISTANCE, pixel_size=PIXEL, **arguments)


def figure(shape: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Legendre polynomials of order three and more, orthogonal to every paraboloid; unit rms."""
    y, x = (2 * (np.arange(n) + 0.5) / n - 1 for n in shape)
    third, fourth = [0, 0, 0, 1], [0, 0, 0, 0, 1]
    shape_error = np.outer(legendre.legval(y, third), legendre.legval(x, third))
    shape_error += np.outer(np.ones_like(y), legendre.legval(x, fourth))
    return np.asarray(shape_error / np.sqrt(np.mean(shape_error**2)), dtype=np.float64)


def test_an_ideal_lens_gives_back_focal_length_radius_and_axis() -> None:
    lens = fit_lens(ideal_wavefront(), delta=1.2e-6, lenses=4)
    np.testing.assert_allclose(lens["focal_length"], FOCAL_LENGTHS, rtol=1e-6)
    # f = R / (surfaces lenses delta)
    for name in ("radius", "radius_y", "radius_x"):
        np.testing.assert_allclose(lens[name], 2 * 4 * 1.2e-6 * FOCAL_LENGTHS, rtol=1e-6)
    np.testing.assert_allclose(lens["center_y"], CENTER[0] * PIXEL, rtol=1e-6)
    np.testing.assert_allclose(lens["center_x"], CENTER[1] * PIXEL, rtol=1e-6)
    assert (lens["residual_rms"] < 1e-15).all()


def test_a_figure_error_comes_back_as_thickness() -> None:
    delta, rms = 2e-6, 0.3e-6
    wf = ideal_wavefront()
    # More material shortens the path: W = -delta * thickness.
    thickness = rms * figure((HEIGHT, WIDTH))
    wf["wavefront"] = wf["wavefront"] - delta * thickness
    with pytest.raises(InputError, match="slopes are not the derivatives"):
        fit_lens(wf.isel(frame=0).assign(wavefront=-wf["wavefront"][0]))
    lens = fit_lens(wf.drop_vars(["slope_y", "slope_x"]), delta=delta)
    np.testing.assert_allclose(lens["figure_error"][1], thickness, atol=0.01 * rms)
    np.testing.assert_allclose(lens["residual"][1], -delta * thickness, atol=0.01 * delta * rms)
    np.testing.assert_allclose(lens["residual_rms"], delta * rms, rtol=1e-3)


def test_maps_and_numbers_are_those_of_the_aperture() -> None:
    wf = ideal_wavefront()
    rough = 1e-12 * figure((HEIGHT, WIDTH))
    wf["wavefront"] = wf["wavefront"] + rough
    circle = (CENTER[0] * PIXEL, CENTER[1] * PIXEL, 12 * PIXEL)
    lens = fit_lens(wf.drop_vars(["slope_y", "slope_x"]), delta=2e-6, aperture=circle)
    inside = np.hypot(wf.y - circle[0], wf.x - circle[1]) <= circle[2]
    assert 0 < int(lens.aperture[0].sum()) < lens.aperture[0].size
    for name in ("residual", "figure_error", "thickness"):
        np.testing.assert_array_equal(np.isfinite(lens[name]), lens.aperture, err_msg=name)
        assert not (np.isfinite(lens[name][0]) & ~inside).any()
    for name in ("residual", "figure_error"):
        here = lens[name]
        np.testing.assert_allclose(lens[f"{name}_rms"], (here**2).mean(("y", "x")) ** 0.5)
        np.testing.assert_allclose(
            lens[f"{name}_range"], here.max(("y", "x")) - here.min(("y", "x"))
        )


def test_a_figure_error_survives_tracking_and_integration() -> None:
    delta, rms = 2e-6, 0.3e-6
    thickness = rms * figure((HEIGHT, WIDTH))
    tracking = ideal_lenses()
    for axis, name in enumerate(("displacement_y", "displacement_x")):
        slope = -delta * np.gradient(thickness, PIXEL, axis=axis, edge_order=2)
        tracking[name] = tracking[name] + slope * DISTANCE / PIXEL
    lens = fit_lens(wavefront(tracking, distance=DISTANCE, pixel_size=PIXEL), delta=delta)
    difference = lens["figure_error"][0] - thickness
    assert float(difference.std()) < 0.02 * rms
    np.testing.assert_allclose(lens["focal_length"], FOCAL_LENGTHS, rtol=1e-3)


def test_astigmatism_shows_in_the_radii_of_the_axes() -> None:
    y, x = np.mgrid[-50:51, -50:51] * 1e-6
    surface = -(y**2) / (2 * 9.0) - x**2 / (2 * 11.0)
    axis = np.arange(-50, 51) * 1e-6
    wf = xr.Dataset({"wavefront": (("y", "x"), surface)}, {"y": axis, "x": axis}, {"distance": 1.0})
    lens = fit_lens(wf, delta=1e-6, surfaces=1)
    np.testing.assert_allclose(lens["radius_y"], 10e-6, rtol=1e-9)
    np.testing.assert_allclose(lens["radius_x"], 12e-6, rtol=1e-9)
    # The mean curvature counts for a round fit of a square field.
    np.testing.assert_allclose(lens["focal_length"], 1 + 2 / (1 / 9 + 1 / 11), rtol=1e-9)


def test_gaps_and_a_round_pupil_leave_the_fit_as_it_is() -> None:
    wf = ideal_wavefront()
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pupil = np.hypot(y - 55, x - 60) < 50
    cut = fit_lens(wf.where(xr.DataArray(pupil, dims=("y", "x"))))
    np.testing.assert_allclose(cut["focal_length"], FOCAL_LENGTHS, rtol=1e-6)
    assert np.isnan(cut["residual"].to_numpy()[:, ~pupil]).all()
    assert np.isfinite(cut["residual"].to_numpy()[:, pupil]).all()


def test_the_material_gives_the_refractive_index_at_the_energy() -> None:
    wf = ideal_wavefront(energy=17.0)
    delta = float(xraydb.xray_delta_beta("Be", 1.85, 17000.0)[0])
    lens = fit_lens(wf, material="Be")
    np.testing.assert_allclose(lens["radius"], 2 * delta * FOCAL_LENGTHS, rtol=1e-6)
    assert lens.attrs["material"] == "Be"
    assert lens.attrs["delta"] == delta
    np.testing.assert_allclose(fit_lens(wf, material="beryllium").attrs["delta"], delta)
    np.testing.assert_allclose(fit_lens(wf, material="Be", density=0.925).attrs["delta"], delta / 2)
    # Far from absorption edges delta falls with the square of the energy.
    twice = fit_lens(wf, material="Be", energy=34.0, sure="energy").attrs["delta"]
    np.testing.assert_allclose(twice, delta / 4, rtol=1e-3)


def test_without_material_there_is_no_radius() -> None:
    lens = fit_lens(ideal_wavefront())
    assert not {"radius", "figure_error", "thickness"} & set(lens)


def test_results_are_labelled_and_lazy() -> None:
    wf = ideal_wavefront()

    with forbid_computing():
        lens = fit_lens(wf.chunk({"frame": 1, "y": 50}), delta=1e-6)
        assert all(lens[name].chunks is not None for name in lens)
    for name in lens:
        codes = {"flag_values", "flag_meanings"}
        attrs = {key: value for key, value in lens[name].attrs.items() if key not in codes}
        assert attrs == QUANTITIES[str(name)].attrs
        xr.testing.assert_equal(lens[name]["lens_x"], wf["lens_x"])
    assert lens["residual"].dims == ("frame", "y", "x")
    assert lens["radius"].dims == ("frame",)
    xr.testing.assert_identical(lens.compute(), fit_lens(wf, delta=1e-6))


def test_single_precision_is_kept() -> None:
    wf = ideal_wavefront().astype(np.float32)
    lens = fit_lens(wf)
    assert lens["residual"].dtype == np.float32
    np.testing.assert_allclose(lens["focal_length"], FOCAL_LENGTHS, rtol=1e-4)


@pytest.mark.parametrize(
    ("alive", "message"),
    [
        ((slice(0, 1), slice(0, 5)), "fewer than 6 pixels"),
        ((slice(7, 8), slice(None)), "do not span a plane"),
    ],
)
def test_a_dead_frame_is_logged_and_stops_nothing(
    alive: tuple[slice, slice], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    wf = ideal_wavefront()
    left = np.full((HEIGHT, WIDTH), np.nan)
    left[alive] = 1e-9
    wf["wavefront"][1] = left
    with caplog.at_level(logging.WARNING, "wavedask"):
        lens = fit_lens(wf, delta=1e-6)
    assert message in caplog.text
    assert np.isnan(lens["focal_length"][1])
    assert np.isnan(lens["residual_rms"][1])
    np.testing.assert_allclose(lens["focal_length"][::2], FOCAL_LENGTHS[::2], rtol=1e-6)


def test_no_lens_has_an_infinite_focal_length() -> None:
    wf = ideal_wavefront()
    flat = {name: 0.0 * wf[name] for name in ("wavefront", "slope_y", "slope_x")}
    lens = fit_lens(wf.assign(flat), delta=1e-6)
    assert np.isinf(lens["focal_length"]).all()
    assert np.isnan(lens["center_x"]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"material": "Be"}, "needs the photon energy"),
        ({"material": "Be", "delta": 1e-6}, "material is 'Be' and delta is 1e-06"),
        ({"material": "Be", "energy": 17000.0}, "energy is 17000 keV"),
        ({"material": "unobtainium", "energy": 17.0}, "material is 'unobtainium'.*'SiO2'"),
        ({"material": "", "energy": 17.0}, "material is ''"),
        ({"material": "Be2Al3", "energy": 17.0}, "density of 'Be2Al3' is unknown"),
        ({"material": "Be", "energy": 17.0, "density": -1.0}, "density is -1 g/cm3"),
        ({"density": 1.85}, "density is 1.85 without a material"),
        ({"delta": -1e-6}, "delta is -1e-06"),
        ({"lenses": 0}, "lenses is 0"),
        ({"surfaces": 1.5}, "surfaces is 1.5"),
    ],
)
def test_values_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        untyped_fit_lens(ideal_wavefront(), **change)


@pytest.mark.parametrize(
    ("wf", "message"),
    [
        (ideal_wavefront().drop_vars("wavefront"), "no 'wavefront'; it has slope_y"),
        (ideal_wavefront().drop_vars("y"), "no coordinate 'y'"),
        (ideal_wavefront().drop_attrs(deep=False), "no attribute 'distance'"),
        (
            ideal_wavefront().assign_coords(x=("x", np.arange(WIDTH), {"units": "px"})),
            "coordinate 'x' is in 'px'",
        ),
    ],
)
def test_a_dataset_that_is_no_wavefront_is_refused(wf: xr.Dataset, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_lens(wf)


def test_frames_have_the_decrement_of_their_own_energy() -> None:
    tracking = ideal_lenses().assign_coords(energy=("frame", [8.0, 12.0, 17.0], {"units": "keV"}))
    wf = wavefront(tracking, distance=DISTANCE, pixel_size=PIXEL)
    lens = fit_lens(wf, material="Be")
    for frame, energy in enumerate((8.0, 12.0, 17.0)):
        alone = fit_lens(ideal_wavefront(energy=energy), material="Be").isel(frame=frame)
        np.testing.assert_allclose(lens.radius[frame], alone.radius, rtol=1e-9)
        np.testing.assert_allclose(lens.delta[frame], alone.attrs["delta"], rtol=1e-9)
        np.testing.assert_allclose(lens.figure_error[frame], alone.figure_error, atol=1e-12)
    assert lens.delta.attrs == {"units": "1", "long_name": "refractive index decrement"}
    assert lens.figure_error.dims == ("frame", "y", "x")


def test_a_lens_has_the_beam_of_its_wavefront() -> None:
    parallel, diverging = ideal_wavefront(), ideal_wavefront(source_distance=40.0)
    with pytest.raises(InputError, match=r"was computed for a parallel beam.*to wavefront, too"):
        fit_lens(parallel, source_distance=40.0)
    with pytest.raises(InputError, match="source_distance is 50 m as given and 40 m in"):
        fit_lens(diverging, source_distance=50.0)
    xr.testing.assert_identical(fit_lens(diverging), fit_lens(diverging, source_distance=40.0))
    with pytest.raises(InputError, match=r"energy is 12 keV as given and 17 keV in"):
        fit_lens(ideal_wavefront(energy=17.0), material="Be", energy=12.0)
    with pytest.raises(InputError, match="lenses is '2'"):
        untyped_fit_lens(parallel, delta=1e-6, lenses="2")
