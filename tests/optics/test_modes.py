"""Zernike and Legendre modes: known polynomials, orthonormal, exact gradients, fitted truly."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedask.errors import InputError
from wavedask.optics.modes import (
    Basis,
    ModalSurface,
    evaluate_modes,
    fit_modes,
    gradient_modes,
    mode_orders,
)

COUNT = 21


def single(mode: int) -> np.ndarray:
    return np.asarray(np.eye(COUNT)[mode])


def quadrature(basis: Basis) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points and weights that integrate polynomials of degree 23 exactly; the weights sum to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    if basis == "legendre":
        y, x = np.meshgrid(nodes, nodes, indexing="ij")
        return y, x, np.outer(weights, weights) / 4
    radius = np.sqrt((nodes + 1) / 2)[:, None]
    angle = 2 * np.pi * np.arange(24)[None] / 24
    y, x = radius * np.sin(angle), radius * np.cos(angle)
    return y, x, np.broadcast_to(weights[:, None] / 2 / 24, y.shape)


@pytest.mark.parametrize("basis", ["zernike", "legendre"])
def test_the_modes_are_orthonormal(basis: Basis) -> None:
    y, x, weights = quadrature(basis)
    modes = np.stack([evaluate_modes(single(j), y, x, basis=basis) for j in range(COUNT)])
    products = np.einsum("iab,jab,ab->ij", modes, modes, weights)
    np.testing.assert_allclose(products, np.eye(COUNT), atol=1e-12)


def test_zernike_modes_are_the_polynomials_of_the_books() -> None:
    y, x = np.random.default_rng(0).uniform(-1, 1, (2, 40))
    r2 = x**2 + y**2
    expected = {
        0: np.ones(40),
        1: 2 * y,
        2: 2 * x,
        3: np.sqrt(6) * 2 * x * y,
        4: np.sqrt(3) * (2 * r2 - 1),
        5: np.sqrt(6) * (x**2 - y**2),
        7: np.sqrt(8) * (3 * r2 - 2) * y,
        8: np.sqrt(8) * (3 * r2 - 2) * x,
        9: np.sqrt(8) * (x**3 - 3 * x * y**2),
        12: np.sqrt(5) * (6 * r2**2 - 6 * r2 + 1),
    }
    for mode, values in expected.items():
        found = evaluate_modes(single(mode), y, x, basis="zernike")
        np.testing.assert_allclose(found, values, atol=1e-13)
    assert mode_orders("zernike", 13)[8] == (3, 1)
    assert mode_orders("zernike", 13)[12] == (4, 0)


def test_legendre_products_stand_by_degree() -> None:
    y, x = 0.3, -0.7
    assert mode_orders("legendre", 10)[7] == (2, 1)
    found = float(evaluate_modes(single(7), y, x, basis="legendre"))
    assert found == pytest.approx(np.sqrt(15) * (3 * y**2 - 1) / 2 * x)


@settings(max_examples=25, deadline=None)
@given(
    basis=st.sampled_from(["zernike", "legendre"]),
    seed=st.integers(0, 1000),
    y=st.floats(-1, 1),
    x=st.floats(-1, 1),
)
def test_the_gradient_is_that_of_the_surface(basis: Basis, seed: int, y: float, x: float) -> None:
    coefficients = np.random.default_rng(seed).normal(size=COUNT)
    # A polynomial of degree 5: the five-point difference is exact but for rounding.
    step = 1e-2
    offsets, taps = np.array([-2, -1, 1, 2]) * step, np.array([1, -8, 8, -1]) / (12 * step)
    down = taps @ evaluate_modes(coefficients, y + offsets, x, basis=basis)
    across = taps @ evaluate_modes(coefficients, y, x + offsets, basis=basis)
    found = gradient_modes(coefficients, y, x, basis=basis)
    # Its error is that of the fifth derivative, which is constant here.
    np.testing.assert_allclose(found, [down, across], atol=2e-4)


@pytest.mark.parametrize("basis", ["zernike", "legendre"])
def test_a_fit_finds_the_modes_and_their_errors(basis: Basis) -> None:
    random = np.random.default_rng(3)
    y, x = np.mgrid[-1:1:90j, -1:1:110j]
    truth = random.normal(size=COUNT)
    sigma = np.where(x > 0, 0.3, 0.1)
    surface = evaluate_modes(truth, y, x, basis=basis)
    surface[40:60, 30:50] = np.nan
    exact = fit_modes(surface, y, x, basis=basis, count=COUNT)
    np.testing.assert_allclose(exact.coefficients, truth, atol=1e-10)
    assert np.nanmax(np.abs(exact.residual)) < 1e-9
    np.testing.assert_array_equal(np.isnan(exact.residual), np.isnan(surface))
    noisy = surface + sigma * random.normal(size=surface.shape)
    weighted = fit_modes(noisy, y, x, basis=basis, count=COUNT, weights=1 / sigma**2)
    plain = fit_modes(noisy, y, x, basis=basis, count=COUNT)
    pulls = (weighted.coefficients - truth) / weighted.errors
    assert 0.6 < np.sqrt(np.mean(pulls**2)) < 1.4
    assert weighted.errors.mean() < 0.9 * plain.errors.mean()


def test_fits_that_cannot_be_done() -> None:
    y, x = np.mgrid[-1:1:20j, -1:1:20j]
    with pytest.raises(InputError, match=r"basis is 'hermite'"):
        fit_modes(y, y, x, basis="hermite", count=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="0 modes"):
        fit_modes(y, y, x, basis="zernike", count=0)
    with pytest.raises(InputError, match="weights"):
        fit_modes(y, y, x, basis="zernike", count=3, weights=-np.ones_like(y))
    with pytest.raises(InputError, match="6 modes for 0 points"):
        fit_modes(y, 5 + y, x, basis="zernike", count=6)
    with pytest.raises(InputError, match="do not tell 6 modes apart"):
        fit_modes(x, 0 * y, x, basis="legendre", count=6)


@pytest.mark.parametrize("basis", ["zernike", "legendre"])
def test_a_surface_goes_on_beyond_its_rim(basis: Basis) -> None:
    surface = ModalSurface(tuple(np.random.default_rng(1).normal(size=15) * 1e-6), 2e-4, basis)
    y, x = np.random.default_rng(2).uniform(-5e-4, 5e-4, (2, 200))
    if basis == "zernike":
        stretch = np.maximum(np.hypot(y, x) / 2e-4, 1)
        rim_y, rim_x = y / stretch, x / stretch
    else:
        rim_y, rim_x = np.clip(y, -2e-4, 2e-4), np.clip(x, -2e-4, 2e-4)
    scaled = rim_y / 2e-4, rim_x / 2e-4
    expected = evaluate_modes(surface.coefficients, *scaled, basis=basis)
    np.testing.assert_allclose(surface(y, x), expected, atol=1e-18)
    step = 1e-9
    down, across = surface.gradient(y, x)
    smooth = np.abs(np.hypot(y, x) - 2e-4) > 1e-6
    if basis == "legendre":
        smooth = (np.abs(np.abs(y) - 2e-4) > 1e-6) & (np.abs(np.abs(x) - 2e-4) > 1e-6)
    numeric_y = (surface(y + step, x) - surface(y - step, x)) / (2 * step)
    numeric_x = (surface(y, x + step) - surface(y, x - step)) / (2 * step)
    np.testing.assert_allclose(down[smooth], numeric_y[smooth], atol=1e-6)
    np.testing.assert_allclose(across[smooth], numeric_x[smooth], atol=1e-6)


def test_a_surface_without_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"half_width is 0"):
        ModalSurface((1.0,), 0.0)


def test_labelled_maps_are_fitted_by_their_labels() -> None:
    labels = {"y": np.linspace(-1, 1, 40), "x": np.linspace(-0.9, 0.9, 31)}
    y, x = xr.DataArray(labels["y"], dims="y"), xr.DataArray(labels["x"], dims="x")
    bowl = (3 * (y**2 + x**2) + 0.3 * x).assign_coords(labels)
    rows, columns = labels["y"][:, None], labels["x"]
    plain = fit_modes(bowl.values, rows, columns, basis="zernike", count=6)
    turned = bowl.transpose("x", "y")
    for surface, places in (
        (bowl, (bowl.y, bowl.x)),
        (turned, (turned.y, turned.x)),
        (turned, (rows, columns)),
        (bowl.values, (y, x)),
        (bowl, tuple(xr.broadcast(y, x))),
    ):
        found = fit_modes(surface, *places, basis="zernike", count=6, weights=xr.ones_like(turned))
        np.testing.assert_allclose(found.coefficients, plain.coefficients, atol=1e-12)
        np.testing.assert_allclose(found.residual, plain.residual, atol=1e-12)
    model = evaluate_modes(plain.coefficients, bowl.y, bowl.x, basis="zernike")
    np.testing.assert_allclose(model, bowl.values - plain.residual, atol=1e-12)
    down, across = gradient_modes([0, 1.0], bowl.y, bowl.x, basis="zernike")
    assert down.shape == across.shape == (40, 31)
    with pytest.raises(InputError, match=r"dimensions \('frame', 'y', 'x'\).*select a frame"):
        fit_modes(bowl.expand_dims(frame=2), y, x, basis="zernike", count=6)


def test_masked_arrays_are_gaps() -> None:
    y, x = np.mgrid[-1:1:30j, -1:1:30j]
    hidden = np.zeros(y.shape, bool)
    hidden[3:9, 12:20] = True
    surface = np.where(hidden, 1e6, 3 * (x**2 + y**2))
    expected = fit_modes(np.where(hidden, np.nan, surface), y, x, basis="zernike", count=6)
    assert expected.coefficients[4] == pytest.approx(3 / np.sqrt(12), rel=1e-6)

    def masked(values: Any) -> Any:
        return np.ma.array(values, mask=hidden)

    for found in (
        fit_modes(masked(surface), y, x, basis="zernike", count=6),
        fit_modes(surface, masked(y), x, basis="zernike", count=6),
        fit_modes(surface, y, x, basis="zernike", count=6, weights=masked(np.ones(y.shape))),
    ):
        np.testing.assert_allclose(found.coefficients, expected.coefficients, atol=1e-9)
