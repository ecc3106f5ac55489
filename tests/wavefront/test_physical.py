"""From displacements to a wavefront: a known lens, units, coordinates, laziness and errors."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from support.laziness import forbid_computing

from wavedask.conventions import QUANTITIES
from wavedask.errors import InputError
from wavedask.optics import fit_lens
from wavedask.units import HC_KEV_M, in_range
from wavedask.wavefront.physical import wavefront

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
        "slope_uncertainty_y",
        "slope_uncertainty_x",
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


def test_motors_stay_in_memory_so_that_a_query_computes_nothing() -> None:
    tracking = lens_tracking()
    lazy = tracking.assign(
        {
            name: array.copy(data=array.variable.chunk({"frame": 1}).data)
            for name, array in tracking.data_vars.items()
        }
    )
    with forbid_computing():
        result = wavefront(lazy, distance=DISTANCE, pixel_size=PIXEL, energy=17.0)
        lens = fit_lens(result, delta=1e-6)
        assert lens.wave.query("lens_x > 0.4").sizes["frame"] == (tracking.lens_x > 0.4).sum()
        assert result.wave.nearest(lens_x=1.0, tolerance=0.01).lens_x == 1.0


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
        ({"mode": "relative"}, "mode is 'relative'.*'differential', 'absolute'"),
        ({"energy": 17000.0}, "energy is 17000 keV.*another unit"),
        ({"wavelength": 0.73}, "wavelength is 0.73 m.*another unit"),
        ({"energy": 17.0, "wavelength": 7e-11}, "energy is 17 keV as given and 17.7"),
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


def through_a_lens(*, source: float, membrane: float | None = None, bump: float = 0.0) -> Any:
    """Displacements of a thin lens in the beam of a source, ray by ray, and the true slopes.

    The optic stands at z = 0, the source at -source, the detector at DISTANCE; the membrane as far
    before the detector as it says, or upstream of the optic.
    """
    z = 0.0 if membrane is None else DISTANCE - membrane
    total = source + DISTANCE
    pixels = np.arange(-60.0, 61.0)
    at = pixels * 1e-6

    def total_slope(origin: Any) -> Any:
        return origin / source - origin / FOCAL_LENGTH + bump * np.sin(origin / 20e-6)

    # The ray that arrives at each pixel, by where it crosses the optic.
    origin = at / (1 + DISTANCE * (1 / source - 1 / FOCAL_LENGTH))
    for _ in range(60):
        origin = origin - (origin + DISTANCE * total_slope(origin) - at)
    slope = total_slope(origin)
    grain = origin + max(z, 0.0) * slope
    # Without the optic, the ray through that grain comes straight from the source.
    reference = grain * total / (source + max(z, 0.0))
    u = (at - reference) / 1e-6
    shape = (pixels.size, pixels.size)
    tracking = xr.Dataset(
        {
            "displacement_y": (("y", "x"), np.broadcast_to(u[:, None], shape)),
            "displacement_x": (("y", "x"), np.broadcast_to(u, shape)),
        },
        {"y": ("y", pixels, {"units": "px"}), "x": ("x", pixels, {"units": "px"})},
    )
    return tracking, slope - at / total


@pytest.mark.parametrize("membrane", [None, 1.0, 0.5])
@pytest.mark.parametrize("source", [40.0, 5.0])
def test_a_diverging_beam_is_magnified(source: float, membrane: float | None) -> None:
    """Slopes are those that the optic adds at the detector, wherever the membrane stands."""
    tracking, expected = through_a_lens(source=source, membrane=membrane, bump=2e-6)
    result = wavefront(
        tracking,
        distance=DISTANCE,
        pixel_size=1e-6,
        source_distance=source,
        membrane_distance=membrane,
    )
    np.testing.assert_allclose(result["slope_y"][:, 7], expected, atol=1e-12)
    np.testing.assert_allclose(result["slope_x"][7], expected, atol=1e-12)
    assert result.attrs["source_distance"] == source


@pytest.mark.parametrize("source", [40.0, 5.0])
def test_a_lens_has_its_own_focal_length_in_a_diverging_beam(source: float) -> None:
    tracking, _ = through_a_lens(source=source)
    result = wavefront(tracking, distance=DISTANCE, pixel_size=1e-6, source_distance=source)
    lens = fit_lens(result, delta=1e-6)
    np.testing.assert_allclose(lens["focal_length"], FOCAL_LENGTH, rtol=1e-6)
    # Taken as parallel, the beam would make another lens of it.
    parallel = wavefront(tracking, distance=DISTANCE, pixel_size=1e-6)
    wrong = float(fit_lens(parallel, delta=1e-6)["focal_length"])
    assert abs(wrong / FOCAL_LENGTH - 1) > 0.01


def test_a_source_at_infinity_is_a_parallel_beam() -> None:
    parallel, infinite = (
        wavefront(lens_tracking(), distance=DISTANCE, pixel_size=PIXEL, source_distance=source)
        for source in (None, np.inf)
    )
    xr.testing.assert_identical(parallel, infinite)


def test_a_region_and_a_pupil_cut_the_result() -> None:
    whole = wavefront(lens_tracking(), distance=DISTANCE, pixel_size=PIXEL)
    result = wavefront(
        lens_tracking().chunk({"frame": 1}),
        distance=DISTANCE,
        pixel_size=PIXEL,
        roi=(slice(103, 120), slice(None, 65)),
        pupil=(111.0, 52.0, 7.05),
    )
    assert dict(result.sizes) == {"frame": FRAMES, "y": 17, "x": 25}
    np.testing.assert_allclose(result["y"], np.arange(103, 120) * PIXEL)
    inside = (result["y"] / PIXEL - 111) ** 2 + (result["x"] / PIXEL - 52) ** 2 <= 49.5
    expected = whole["slope_x"].isel(y=slice(3, 20), x=slice(25)).where(inside)
    np.testing.assert_array_equal(result["slope_x"], expected)
    assert float(abs(result["wavefront"].mean(("y", "x"))).max()) < 1e-20
    assert np.isinf(result["slope_uncertainty_y"].where(~inside, np.inf)).all()


def test_errors_of_displacements_become_errors_of_slopes() -> None:
    result = wavefront(lens_tracking(), distance=DISTANCE, pixel_size=(PIXEL, 2 * PIXEL))
    np.testing.assert_allclose(result["slope_uncertainty_y"], 0.01 * PIXEL / DISTANCE)
    np.testing.assert_allclose(result["slope_uncertainty_x"], 0.02 * PIXEL / DISTANCE)
    assert "slope_uncertainty_y" not in wavefront(
        lens_tracking(uncertainty=False), distance=DISTANCE, pixel_size=PIXEL
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distance": (0.5, 1.0)}, "distance is .* with mode 'differential'.*mode='absolute'"),
        ({"distortion_error": 0.1}, "distortion_error is 0.1 with mode 'differential'"),
        ({"distance_error": 1.5}, "distance_error is 1.5 m, and distance is "),
        ({"distance_error": (1e-3, 1e-3)}, "distance_error is .1e-03|distance_error is .0.001"),
        ({"source_distance": 0.0}, "source_distance is 0 m"),
        ({"membrane_distance": -1.0}, "membrane_distance is -1 m"),
        (
            {"membrane_distance": 6.0, "source_distance": 5.0},
            "membrane_distance is 6 m, and the source is 5.8 m from",
        ),
    ],
)
def test_a_setup_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"distance": DISTANCE, "pixel_size": PIXEL} | change
    with pytest.raises(InputError, match=message):
        untyped_wavefront(lens_tracking(), **arguments)


def phase_energies(result: xr.Dataset) -> Any:
    """Photon energies (keV) that the phase was computed with."""
    ratio = (result.phase / result.wavefront).isel(y=3, x=4)
    return ratio.values * HC_KEV_M / (2 * np.pi)


def test_frames_have_the_phase_of_their_own_energy() -> None:
    energies = [8.0, 12.0, 17.0]
    tracking = lens_tracking().assign_coords(energy=("frame", energies, {"units": "keV"}))
    stated = wavefront(tracking, distance=DISTANCE, pixel_size=PIXEL)
    given = wavefront(
        lens_tracking(), distance=DISTANCE, pixel_size=PIXEL, energy=np.array(energies)
    )
    for result in (stated, given):
        np.testing.assert_allclose(phase_energies(result), energies, rtol=1e-12)
        assert result.phase.dims == ("frame", "y", "x")
        assert result.energy.values.tolist() == energies
        assert result.energy.attrs["units"] == "keV"
        assert not {"energy_keV", "wavelength"} & set(result.attrs)
    with pytest.raises(InputError, match="energy is 17 keV as given and 8 keV in coordinate"):
        wavefront(tracking, distance=DISTANCE, pixel_size=PIXEL, energy=17.0)
    sure = wavefront(tracking, distance=DISTANCE, pixel_size=PIXEL, energy=17.0, sure="energy")
    np.testing.assert_allclose(phase_energies(sure), 17.0, rtol=1e-12)
    assert sure.attrs["sure"] == ["energy"]
    # What was confirmed once holds afterwards.
    assert fit_lens(sure, material="Be").attrs["energy_keV"] == 17.0


def test_the_set_up_comes_from_the_tracking_where_it_states_it() -> None:
    stated = lens_tracking().assign_attrs(
        pixel_size=[PIXEL, PIXEL], distance=DISTANCE, source_distance=40.0, membrane_distance=0.5
    )
    given = wavefront(
        lens_tracking(),
        distance=DISTANCE,
        pixel_size=PIXEL,
        source_distance=40.0,
        membrane_distance=0.5,
    )
    xr.testing.assert_identical(wavefront(stated), given)
    for missing in ("distance", "pixel_size"):
        kept = {name: value for name, value in stated.attrs.items() if name != missing}
        tracking = stated.copy()
        tracking.attrs = kept
        with pytest.raises(InputError, match=f"{missing} is not given, and the tracking does not"):
            wavefront(tracking)


def test_an_unusual_set_up_needs_a_word() -> None:
    with pytest.raises(InputError, match=r"distance is 250 m as given, which is unusual.*sure="):
        wavefront(lens_tracking(), distance=250.0, pixel_size=PIXEL)
    result = wavefront(lens_tracking(), distance=250.0, pixel_size=PIXEL, sure=["distance"])
    assert result.attrs["distance"] == 250.0
    assert result.attrs["sure"] == ["distance"]


@pytest.mark.parametrize("transposed", [False, True])
def test_a_labelled_pupil_lies_where_its_labels_say(transposed: bool) -> None:
    """The tracking counts rows from 100 and columns from 40, the mask from 90 and 30."""
    mask = xr.DataArray(
        np.zeros((30, 30), bool), {"y": np.arange(90, 120), "x": np.arange(30, 60)}, ("y", "x")
    )
    mask.loc[{"y": slice(105, 115), "x": slice(45, 55)}] = True
    if transposed:
        mask = mask.transpose("x", "y")[::-1]
    for roi in (None, (slice(103, 124), slice(None, 66))):
        result = wavefront(
            lens_tracking(), distance=DISTANCE, pixel_size=PIXEL, pupil=mask, roi=roi
        )
        inside = np.isfinite(result.slope_x.isel(frame=0))
        rows, columns = (np.rint(result[dim].values / PIXEL) for dim in "yx")
        assert rows[inside.any("x").values].tolist() == list(range(105, 116))
        assert columns[inside.any("y").values].tolist() == list(range(45, 56))
    elsewhere = mask.assign_coords(y=mask.y + 500)
    with pytest.raises(InputError, match="has no pixel in common"):
        wavefront(lens_tracking(), distance=DISTANCE, pixel_size=PIXEL, pupil=elsewhere)
