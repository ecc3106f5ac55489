"""Errors of modes and lenses hold: the scatter of repeated measurements is what they state."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from support.laziness import forbid_computing
from support.noise import tracker_noise

import wavedask as wd
from wavedask.errors import InputError
from wavedask.optics import evaluate_modes, fit_lens, fit_modes, fit_wavefront, gradient_modes

SIDE = 200
WINDOW = 15
PIXEL = 1e-6
DISTANCE = 0.8
SIGMA = 0.02
HALF = (SIDE - 1) / 2 * PIXEL
COUNT = 15

Floats = NDArray[np.float64]
Shape = Callable[[Floats, Floats], Any]


def everywhere(y: Floats, x: Floats) -> Any:
    return y < 9


def two_pieces(y: Floats, x: Floats) -> Any:
    return np.abs(x - 0.1 - 0.1 * y) > 0.06


def alike(y: Floats, x: Floats) -> Any:
    return 1.0 + 0 * y


def uneven(y: Floats, x: Floats) -> Any:
    return 0.5 + 2 * (x + 1) ** 2


def measured(
    rng: np.random.Generator,
    truth: Floats,
    *,
    pupil: Shape = everywhere,
    noise: Shape = alike,
) -> xr.Dataset:
    """A wavefront of given Zernike modes in m, from displacements with a tracker's errors."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    sigma = SIGMA * noise(y, x)
    inside = pupil(y, x)
    fields: dict[str, Any] = {"window": (("y", "x"), np.full(y.shape, WINDOW))}
    gradients = gradient_modes(truth, y, x, basis="zernike")
    for axis, gradient in zip("yx", gradients, strict=True):
        u = gradient / HALF * DISTANCE / PIXEL + sigma * tracker_noise(y.shape, WINDOW, rng)
        fields[f"displacement_{axis}"] = ("y", "x"), np.where(inside, u, np.nan)
        fields[f"uncertainty_{axis}"] = ("y", "x"), np.where(inside, sigma, np.inf)
    return wd.wavefront(xr.Dataset(fields), distance=DISTANCE, pixel_size=PIXEL)


def draws(count: int, truth: Floats, **options: Any) -> Iterator[xr.Dataset]:
    rng = np.random.default_rng(5)
    for _ in range(count):
        yield measured(rng, truth, **options)


def modes(seed: int = 3) -> Floats:
    """Modes without piston, that displace by some pixels."""
    return np.append(0.0, 3e-11 * np.random.default_rng(seed).standard_normal(COUNT - 1))


def rms(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.parametrize(
    ("pupil", "noise"), [(everywhere, alike), (everywhere, uneven), (two_pieces, alike)]
)
def test_modes_of_slopes_and_their_covariance(pupil: Shape, noise: Shape) -> None:
    truth = modes()
    pulls, whitened = [], []
    for wf in draws(12, truth, pupil=pupil, noise=noise):
        fit = fit_wavefront(wf, count=COUNT)
        error = fit.coefficient.values - truth[1:]
        pulls.append(error / fit.coefficient_uncertainty.values)
        root = np.linalg.cholesky(fit.coefficient_covariance.values)
        whitened.append(np.linalg.solve(root, error))
    assert 0.8 < rms(pulls) < 1.25
    assert 0.8 < rms(whitened) < 1.25


def test_modes_of_slopes_without_stated_errors() -> None:
    truth = modes()
    pulls = []
    for wf in draws(8, truth):
        bare = wf.drop_vars(["slope_uncertainty_y", "slope_uncertainty_x"])
        fit = fit_wavefront(bare, count=COUNT)
        pulls.append((fit.coefficient.values - truth[1:]) / fit.coefficient_uncertainty.values)
    assert 0.75 < rms(pulls) < 1.35


@pytest.mark.parametrize("pupil", [everywhere, two_pieces])
def test_modes_of_an_integrated_wavefront(pupil: Shape) -> None:
    """The residual is far from white: taken as such, errors were 70 times too small."""
    truth = modes()
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    pulls = []
    for wf in draws(8, truth, pupil=pupil):
        fit = fit_modes(wf.wavefront.values, y, x, basis="zernike", count=COUNT)
        pulls.append((fit.coefficients - truth)[1:] / fit.errors[1:])
        np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance)), fit.errors)
    assert 0.75 < rms(pulls) < 1.3


def test_a_correlated_surface_is_no_white_one() -> None:
    """Height errors that are alike over a few points, and known ones that are independent."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[-1:1:120j, -1:1:120j]
    pulls, white = [], []
    for _ in range(20):
        fit = fit_modes(tracker_noise(y.shape, 5, rng), y, x, basis="legendre", count=10)
        pulls.append(fit.coefficients / fit.errors)
        plain = fit_modes(rng.standard_normal(y.shape), y, x, basis="legendre", count=10)
        white.append(plain.coefficients / plain.errors)
    assert 0.8 < rms(pulls) < 1.25
    assert 0.85 < rms(white) < 1.15


def lens_modes(radius: float) -> Floats:
    """W = -r^2 / 2 q as Zernike modes: its defocus."""
    truth = np.zeros(COUNT)
    truth[4] = -(HALF**2) / (4 * np.sqrt(3) * radius)
    return truth


@pytest.mark.parametrize("pupil", [everywhere, two_pieces])
@pytest.mark.parametrize("stated", [True, False])
def test_the_errors_of_a_lens(pupil: Shape, stated: bool) -> None:
    """One piece or two, from the errors of the slopes or from the residual."""
    truth = lens_modes(20.0)
    pulls = []
    for wf in draws(16, truth, pupil=pupil):
        if not stated:
            wf = wf.drop_vars(["slope_uncertainty_y", "slope_uncertainty_x"])
        lens = fit_lens(wf, delta=1e-6)
        pulls.append(
            [
                float((lens[name] - right) / lens[f"{name}_uncertainty"])
                for name, right in (("focal_length", 20.8), ("radius", 20.8 * 2e-6))
            ]
            + [
                float(lens[f"radius_{axis}"] - 20.8 * 2e-6)
                / float(lens[f"radius_uncertainty_{axis}"])
                for axis in "yx"
            ]
        )
    assert 0.65 < rms(pulls) < 1.4
    assert float(lens.focal_length_uncertainty) < 0.5


def test_a_lens_in_two_pieces_is_the_lens() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-HALF : HALF : SIDE * 1j, -HALF : HALF : SIDE * 1j]
    surface = -((y - 2e-5) ** 2 + (x + 1e-5) ** 2) / (2 * 20.0)
    surface[:, 80:90] = np.nan
    surface[:, :80] += 3e-8
    surface[:, 90:] += rng.normal() * 1e-8
    wf = xr.Dataset(
        {"wavefront": (("y", "x"), surface)}, {"y": y[:, 0], "x": x[0]}, {"distance": DISTANCE}
    )
    lens = fit_lens(wf)
    assert float(lens.focal_length) == pytest.approx(20.8, rel=1e-9)
    assert float(lens.center_y) == pytest.approx(2e-5, rel=1e-6)
    assert float(lens.center_x) == pytest.approx(-1e-5, rel=1e-6)
    assert float(lens.residual_rms) < 1e-15
    left = fit_modes(surface, y / HALF, x / HALF, basis="legendre", count=6)
    assert np.nanmax(np.abs(left.residual)) < 1e-15


def test_the_figure_and_its_error() -> None:
    """The rms without the lens scatters, and is raised by noise, as its error says."""
    truth = lens_modes(20.0)
    truth[8], truth[12] = 1.5e-10, 1e-10
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    figure = truth.copy()
    figure[4] = 0
    down, across = gradient_modes(figure, y, x, basis="zernike")
    bare = xr.Dataset(
        {
            "wavefront": (("y", "x"), evaluate_modes(figure, y, x, basis="zernike")),
            "slope_y": (("y", "x"), down / HALF),
            "slope_x": (("y", "x"), across / HALF),
        },
        {"y": y[:, 0] * HALF, "x": x[0] * HALF},
        {"distance": DISTANCE},
    )
    right = float(fit_lens(bare).residual_rms)
    found = [fit_lens(wf) for wf in draws(16, truth)]
    values = np.array([float(lens.residual_rms) for lens in found])
    errors = np.array([float(lens.residual_rms_uncertainty) for lens in found])
    noise = np.array([float(lens.residual_noise) for lens in found])
    assert 0.5 < rms((values - right) / errors) < 1.5
    assert np.sqrt(np.mean(values**2 - noise**2)) == pytest.approx(right, rel=0.2)


def test_an_error_of_the_distance_is_one_of_the_focal_length() -> None:
    rng = np.random.default_rng(1)
    wf = measured(rng, lens_modes(20.0))
    shifted = wf.assign_attrs(distance_error=[8e-3])
    plain, wrong = (float(fit_lens(part).focal_length_uncertainty) for part in (wf, shifted))
    # A hundredth of the distance is a hundredth of the radius.
    assert np.sqrt(wrong**2 - plain**2) == pytest.approx(0.2, rel=0.05)


def test_a_fit_of_modes_is_labelled_and_lazy() -> None:
    rng = np.random.default_rng(1)
    one = measured(rng, modes())
    frames = xr.concat([one, one], "frame").chunk({"frame": 1})
    with forbid_computing():
        fit = fit_wavefront(frames, count=4, basis="legendre")
    assert fit.coefficient.dims == ("frame", "mode_number")
    assert fit.coefficient_covariance.dims == ("frame", "mode_number", "other_mode")
    assert list(fit.mode_number.values) == [1, 2, 3]
    assert list(fit.mode_degree.values) == [1, 0, 2]
    assert all(part.attrs["units"] for part in fit.variables.values())
    alone = fit_wavefront(one, count=4, basis="legendre")
    np.testing.assert_allclose(fit.coefficient.values[1], alone.coefficient.values, rtol=1e-6)
    assert fit.attrs["half_width"] == pytest.approx(HALF)


def test_modes_that_cannot_be_fitted(caplog: pytest.LogCaptureFixture) -> None:
    wf = measured(np.random.default_rng(1), modes())
    with pytest.raises(InputError, match="piston has no slope"):
        fit_wavefront(wf, count=1)
    with pytest.raises(InputError, match="wf has no slope_y"):
        fit_wavefront(wf.drop_vars("slope_y"), count=5)
    with pytest.raises(InputError, match="half_width is -1"):
        fit_wavefront(wf, count=5, half_width=-1.0)
    with pytest.raises(InputError, match="center is"):
        fit_wavefront(wf, count=5, center=(1.0, np.nan))
    empty = fit_wavefront(wf, count=5, center=(1.0, 1.0))
    assert np.isnan(empty.coefficient).all()
    assert "5 modes for 0 points" in caplog.text
