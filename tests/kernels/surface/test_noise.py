"""The standard error of a surface is the scatter of surfaces integrated from noisy slopes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.noise import tracker_noise

from wavedask.kernels.surface import least_squares, surface_noise, surface_uncertainty

SIDE = 144
WINDOW = 11
DRAWS = 40

Shape = Callable[[Any, Any], Any]


def alike(y: Any, x: Any) -> Any:
    return 1.0 + 0 * y


def uneven(y: Any, x: Any) -> Any:
    return 0.3 + 3 * x**2 + 2 * y


def everywhere(y: Any, x: Any) -> Any:
    return y >= 0


def disc(y: Any, x: Any) -> Any:
    return np.hypot(y - 0.5, x - 0.5) < 0.45


def two_pieces(y: Any, x: Any) -> Any:
    """A gap much narrower than a cell divides the frame."""
    return np.abs(x - 0.55 - 0.1 * y) > 0.015


@pytest.mark.parametrize(
    ("sigma", "pupil", "weighted"),
    [
        (alike, everywhere, False),
        (uneven, everywhere, False),
        (uneven, everywhere, True),
        (uneven, disc, False),
        (alike, two_pieces, False),
    ],
)
def test_the_error_is_the_scatter_of_surfaces(sigma: Shape, pupil: Shape, weighted: bool) -> None:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    inside = pupil(y, x)
    spread = np.where(inside, sigma(y, x), np.inf)
    weights = 1 / spread**2 if weighted else None
    squares = np.zeros((SIDE, SIDE))
    for _ in range(DRAWS):
        slopes = [
            np.where(inside, spread, np.nan) * tracker_noise(y.shape, WINDOW, rng) for _ in "yx"
        ]
        squares += least_squares(*slopes, spacing=(2.0, 2.0), weights=weights).surface ** 2
    scatter = np.sqrt(squares / DRAWS)
    stated = surface_uncertainty(spread, spread, window=WINDOW, spacing=(2.0, 2.0), weights=weights)
    assert np.isinf(stated[~inside]).all()
    ratio = np.sqrt(np.mean(scatter[inside] ** 2) / np.mean(stated[inside] ** 2))
    assert ratio == pytest.approx(1, abs=0.1)
    # Where it is large and where it is small, too: in the corners and in the middle.
    local = scatter[inside] / stated[inside]
    assert np.percentile(local, 10) > 0.75
    assert np.percentile(local, 90) < 1.3


def test_errors_that_are_independent_average_out() -> None:
    rng = np.random.default_rng(1)
    sigma = np.ones((64, 64))
    scatter = np.sqrt(
        np.mean([least_squares(*rng.standard_normal((2, 64, 64))).surface ** 2 for _ in range(30)])
    )
    stated = surface_uncertainty(sigma, sigma, window=1)
    assert scatter == pytest.approx(np.sqrt(np.mean(stated**2)), rel=0.1)
    wide = surface_uncertainty(sigma, sigma, window=11)
    assert wide.min() > 5 * stated.max()


def test_pixels_without_a_height_have_no_error() -> None:
    sigma = np.full((60, 60), np.inf)
    assert surface_noise(sigma, sigma, window=9) is None
    assert np.isinf(surface_uncertainty(sigma, sigma, window=9)).all()
    sigma[30, 30] = 1.0
    assert np.isinf(surface_uncertainty(sigma, sigma, window=9)).all()
    sigma[10:50, 5:25] = 1.0
    sigma[3, 40:44] = 1.0  # a piece that is a small part of its cell
    stated = surface_uncertainty(sigma, sigma, window=9)
    assert np.isfinite(stated[10:50, 5:25]).all()
    assert np.isfinite(stated[3, 40:44]).all()
    assert np.isinf(stated[30, 30])


def test_rough_weights_reach_generalised_least_squares() -> None:
    """Against the best use of the mean slopes between neighbours, with the noise they share."""
    side, rng = 28, np.random.default_rng(0)
    sigma = rng.uniform(1, 10, (side, side))
    pairs = [np.diff(np.eye(side), axis=0), (np.eye(side)[1:] + np.eye(side)[:-1]) / 2]
    differences, means = ([np.kron(one, np.eye(side)), np.kron(np.eye(side), one)] for one in pairs)
    normal, right = np.zeros((side**2, side**2)), []
    for difference, mean in zip(differences, means, strict=True):
        weighted = np.linalg.solve(mean * sigma.ravel() ** 2 @ mean.T, difference).T
        normal += weighted @ difference
        right.append(weighted @ mean)
    best = np.linalg.pinv(normal) @ np.hstack(right)
    ours, others = [], []
    for _ in range(60):
        slopes = sigma * rng.standard_normal((2, side, side))
        ours.append(least_squares(*slopes, weights=1 / sigma**2).surface.ravel())
        surface = best @ slopes.ravel()
        others.append(surface - surface.mean())
    assert np.std(ours) < 1.02 * np.std(others)


def test_rough_weights_leave_a_smooth_surface_as_it_is() -> None:
    y, x = np.mgrid[:120, :120].astype(float)
    k = 2 * np.pi / 60
    true = 30 * np.sin(k * y) * np.cos(k * x)
    slopes = 30 * k * np.cos(k * y) * np.cos(k * x), -30 * k * np.sin(k * y) * np.sin(k * x)
    weights = 1 / np.random.default_rng(0).uniform(1, 10, y.shape) ** 2
    weights[50:60, 20:90] = 0
    found = least_squares(*slopes, weights=weights).surface
    known = np.isfinite(found)
    error = (found - true)[known]
    assert np.std(error) < 2e-4 * 30
