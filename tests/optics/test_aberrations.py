"""Named modes against another implementation, over pupils of several shapes, kept and removed."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from prysm.polynomials import fringe_to_nm, noll_to_nm, zernike_nm
from support.laziness import forbid_computing
from support.noise import tracker_noise

import wavedask as wd
from wavedask.errors import InputError
from wavedask.optics import evaluate_modes, gradient_modes, legendre, mode_orders, remove, zernike
from wavedask.optics.mode_names import zernike_number

Floats = NDArray[np.float64]
SIDE, WINDOW, SIGMA, PIXEL, DISTANCE = 140, 15, 0.02, 1e-6, 0.5
HALF = (SIDE - 1) / 2 * PIXEL
Y, X = np.meshgrid(*(np.linspace(-1, 1, SIDE),) * 2, indexing="ij")
TRUTH = np.append(0.0, 1e-10 * np.random.default_rng(1).standard_normal(14))


def measured(
    truth: Floats = TRUTH, *, basis: Any = "zernike", sigma: float = 0.0, seed: int = 0
) -> xr.Dataset:
    """Wavefront of known modes in m, from displacements with a tracker's errors."""
    rng = np.random.default_rng(seed)
    fields: dict[str, Any] = {"window": (("y", "x"), np.full(Y.shape, WINDOW))}
    for axis, gradient in zip("yx", gradient_modes(truth, Y, X, basis=basis), strict=True):
        u = gradient / HALF * DISTANCE / PIXEL
        if sigma:
            u = u + sigma * tracker_noise(Y.shape, WINDOW, rng)
            fields[f"uncertainty_{axis}"] = ("y", "x"), np.full(Y.shape, sigma)
        fields[f"displacement_{axis}"] = ("y", "x"), u
    return wd.wavefront(xr.Dataset(fields), distance=DISTANCE, pixel_size=PIXEL, energy=17.0)


def mask(pupil: str) -> xr.DataArray:
    away = np.hypot(Y, X)
    inside = {
        "disc": away <= 1,
        "annulus": (away <= 1) & (away > 0.4),
        "hole": (away <= 1) & (np.hypot(Y - 0.3, X) > 0.25),
        "rectangle": (np.abs(Y) <= 0.5) & (np.abs(X) <= 0.8),
    }[pupil]
    return xr.DataArray(inside, dims=("y", "x"))


@pytest.mark.parametrize("index", ["noll", "osa", "fringe"])
def test_modes_are_those_of_prysm(index: Any) -> None:
    """Numbers, norms, angles and signs."""
    radius, angle = np.hypot(Y, X), np.arctan2(Y, X)
    fit = zernike(measured(), order=4, index=index)
    known = {(n, m): float(c) for (n, m), c in zip(mode_orders("zernike", 15), TRUTH, strict=True)}
    surface = np.zeros(Y.shape)
    for number, value in zip(fit.mode_number.values, fit.coefficient.values, strict=True):
        if index == "noll":
            n, m = noll_to_nm(int(number))
        elif index == "fringe":
            n, m = fringe_to_nm(int(number))
        else:
            n, m = next(one for one in known if zernike_number(*one, "osa") == number)
        surface += value * zernike_nm(n, m, radius, angle, norm=index != "fringe")
        norm = float(np.abs(zernike_nm(n, m, 1.0, np.pi / 4 if m % 4 == 2 else 0.0, norm=True)))
        if index != "fringe":
            assert value == pytest.approx(known[n, m], abs=1e-16, rel=2e-3)
        elif m == 0:
            assert value == pytest.approx(known[n, m] * norm, abs=1e-16, rel=2e-3)
    disc = mask("disc").values
    right = evaluate_modes(TRUTH, Y, X, basis="zernike")
    np.testing.assert_allclose(surface[disc], right[disc], atol=3e-3 * right.std())


def test_names() -> None:
    fit = zernike(measured(), order=4)
    names = dict(zip(fit.mode_number.values, fit.mode_name.values, strict=True))
    assert names[4] == "defocus"
    assert names[8] == "coma x"
    assert names[11] == "spherical"
    # A wavefront that rises with the cube of x is coma x and tilt x.
    assert float(fit.set_xindex("mode_name").coefficient.sel(mode_name="defocus")) == (
        pytest.approx(TRUTH[4], rel=1e-3)
    )
    np.testing.assert_allclose(
        fit.coefficient_waves, fit.coefficient / fit.attrs["wavelength"], rtol=1e-6
    )


@pytest.mark.parametrize("pupil", ["annulus", "hole", "rectangle"])
def test_orthonormal_over_the_mask(pupil: str) -> None:
    wf, inside = measured(), mask(pupil)
    plain = zernike(wf, order=4, pupil=inside)
    fit = zernike(wf, order=4, pupil=inside, orthonormal=True)
    few = zernike(wf, order=3, pupil=inside, orthonormal=True)
    # The same surface, told in other modes.
    np.testing.assert_allclose(fit.residual_rms, plain.residual_rms, atol=1e-14)
    radius = fit.attrs["half_width"][0]
    places = [wf[dim].values - c for dim, c in zip("yx", fit.attrs["center"], strict=True)]
    rows, columns = np.meshgrid(*(place / radius for place in places), indexing="ij")
    used = inside.values
    modes = []
    for row in fit.mode_mix.values:
        orders = zip(fit.mode_degree.values, fit.mode_order.values, strict=True)
        coefficients = np.zeros(15)
        for (n, m), value in zip(orders, row, strict=True):
            coefficients[zernike_number(int(n), int(m), "osa")] = value
        modes.append(evaluate_modes(coefficients, rows, columns, basis="zernike")[used])
    products = np.cov(np.array(modes), bias=True)
    np.testing.assert_allclose(products, np.eye(len(modes)), atol=1e-9)
    # Squares add up to the mean square, without the level.
    square = float((fit.coefficient**2).sum())
    assert square == pytest.approx(float(np.var(wf.wavefront.values[used])), rel=2e-3)
    assert few.sizes["mode_number"] < fit.sizes["mode_number"]
    # Removed, they leave nothing.
    left = remove(wf, fit).wavefront.values[used]
    assert np.std(left) < 1e-3 * np.std(wf.wavefront.values[used])


@pytest.mark.parametrize("orthonormal", [False, True])
def test_the_errors_hold(orthonormal: bool) -> None:
    options: dict[str, Any] = {"order": 4, "pupil": mask("annulus"), "orthonormal": orthonormal}
    right = zernike(measured(), **options).coefficient
    pulls = []
    for seed in range(16):
        fit = zernike(measured(sigma=SIGMA, seed=seed), **options)
        pulls.append((fit.coefficient - right) / fit.coefficient_uncertainty)
    assert 0.8 < np.sqrt(np.mean(np.square(pulls))) < 1.25
    errors = np.sqrt(np.diag(fit.coefficient_covariance))
    np.testing.assert_allclose(errors, fit.coefficient_uncertainty)


def test_legendre_modes_of_a_rectangle() -> None:
    truth = np.append(0.0, 1e-10 * np.random.default_rng(2).standard_normal(9))
    wf = measured(truth, basis="legendre")
    fit = legendre(wf, order=3)
    np.testing.assert_allclose(fit.coefficient, truth[1:], rtol=2e-3)
    part = wf.isel(y=slice(20, 90))
    cut = legendre(part, order=3)
    assert cut.attrs["half_width"][0] == pytest.approx(34.5e-6)
    assert cut.attrs["half_width"][1] == pytest.approx(HALF)
    assert np.nanstd(remove(part, cut).wavefront) < 1e-3 * np.nanstd(part.wavefront)
    inside = legendre(wf, order=3, pupil=(HALF, HALF, 2e-5, 4e-5))
    assert float(inside.residual_rms) < 1e-3 * np.nanstd(wf.wavefront)
    assert set(fit.mode_name.values) >= {"tilt y", "curvature x", "twist", "P3(y) P0(x)"}


def test_modes_are_removed_or_kept() -> None:
    wf = measured()
    fit = zernike(wf, order=4)
    left = remove(wf, fit.sel(mode_number=[2, 3, 4]))
    again = zernike(left, order=4)
    np.testing.assert_allclose(again.coefficient[:3], 0, atol=1e-14)
    np.testing.assert_allclose(again.coefficient[3:], fit.coefficient[3:], atol=1e-14)
    fringe = zernike(wf, order=4, index="fringe")
    assert np.nanstd(remove(wf, fringe).slope_x) < 1e-3 * np.nanstd(wf.slope_x)
    gone = remove(wf, fit)
    np.testing.assert_allclose(gone.curvature_x.values[60:80, 60:80], 0, atol=1e-3)
    np.testing.assert_allclose(
        gone.phase, gone.wavefront * 2 * np.pi / wf.attrs["wavelength"], rtol=1e-6, atol=1e-12
    )
    outside = ~mask("disc").values
    assert np.isnan(left.wavefront.values[outside]).mean() > 0.95


def test_frames_are_lazy() -> None:
    wf = measured()
    frames = xr.concat([wf, wf * 1.0], "frame").assign_attrs(wf.attrs)
    with forbid_computing():
        fit = zernike(frames.chunk({"frame": 1}), order=3, orthonormal=True)
        left = remove(frames.chunk({"frame": 1}), fit)
    assert fit.coefficient.dims == ("frame", "mode_number")
    alone = zernike(wf, order=3, orthonormal=True)
    np.testing.assert_allclose(fit.coefficient[1], alone.coefficient)
    np.testing.assert_allclose(left.wavefront[1], remove(wf, alone).wavefront, atol=1e-20)
    assert all(part.attrs["units"] for part in fit.variables.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": 0}, "order is 0"),
        ({"order": 2.5}, "order is 2.5"),
        ({"order": 3, "index": "zemax"}, "index is 'zemax'"),
        ({"order": 30, "pupil": (HALF, HALF, 1e-5)}, "pupil 20 pixels wide"),
        ({"order": 3, "pupil": (1.0, 1.0, 1e-4)}, "holds no pixel"),
        ({"order": 3, "pupil": (0.0, 0.0, 100.0)}, "in m"),
        ({"order": 3, "pupil": mask("disc") & False}, "pupil holds no pixel"),
        ({"order": 3, "pupil": mask("disc")[:9]}, "pupil has"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        zernike(measured(), **change)


def test_units_and_datasets_that_do_not_fit() -> None:
    wf = measured()
    wrong = wf.assign(slope_y=wf.slope_y.assign_attrs(units="deg"))
    with pytest.raises(InputError, match="slope_y is in 'deg'"):
        zernike(wrong, order=2)
    with pytest.raises(InputError, match="coordinate 'y' is in 'px'"):
        legendre(wf.assign_coords(y=("y", np.arange(SIDE), {"units": "px"})), order=2)
    with pytest.raises(InputError, match="modes has no 'coefficient'"):
        remove(wf, wf)
    few = wf.where(xr.DataArray(np.hypot(Y, X) < 0.02, dims=("y", "x")))
    with pytest.raises(InputError, match="modes for"):
        zernike(few, order=4)
