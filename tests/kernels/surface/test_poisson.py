"""Neighbour differences: the half-point rule on runs of any length, and the two solvers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedask.kernels.surface.poisson import edge_means, solve_rectangle, solve_weighted


@pytest.mark.parametrize(("length", "degree"), [(2, 1), (3, 2), (4, 3), (5, 3), (9, 3)])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_mean_between_pixels_is_exact_for_what_a_run_can_tell(
    length: int, degree: int, axis: int
) -> None:
    position = np.arange(14.0)
    valid = np.zeros((14, 3), bool)
    valid[4 : 4 + length] = True
    slope = np.where(valid, (position[:, np.newaxis] - 6.0) ** degree, 0.0)
    integral = (position - 6.0) ** (degree + 1) / (degree + 1)
    if axis == 1:
        slope, valid = slope.T, valid.T
    means = np.moveaxis(edge_means(slope, valid, axis=axis), axis, 0)
    inside = slice(4, 3 + length)
    np.testing.assert_allclose(means[inside, 1], np.diff(integral)[inside], atol=1e-12)


@given(seed=st.integers(0, 10_000), height=st.integers(1, 9), width=st.integers(2, 9))
@settings(max_examples=30, deadline=None)
def test_differences_of_a_surface_give_the_surface(seed: int, height: int, width: int) -> None:
    random = np.random.default_rng(seed)
    surface = random.normal(size=(height, width))
    surface -= surface.mean()
    dy, dx = random.uniform(0.1, 5.0, 2)
    gradients = np.diff(surface, axis=0) / dy, np.diff(surface, axis=1) / dx
    direct = solve_rectangle(*gradients, spacing=(dy, dx))
    np.testing.assert_allclose(direct, surface, atol=1e-11)
    # Differences without contradiction leave nothing for the weights to decide.
    weight = random.uniform(0.05, 1.0, (height, width))
    weighted, _, missed = solve_weighted(*gradients, spacing=(dy, dx), weight=weight, uniform=False)
    assert missed <= 1e-9
    np.testing.assert_allclose(weighted - weighted.mean(), surface, atol=1e-6)


def test_equal_weights_give_the_direct_solution_at_once() -> None:
    random = np.random.default_rng(3)
    gradients = random.normal(size=(19, 30)), random.normal(size=(20, 29))
    surface, iterations, _ = solve_weighted(
        *gradients, spacing=(1.0, 0.5), weight=np.ones((20, 30)), uniform=True
    )
    assert iterations == 1
    np.testing.assert_allclose(surface, solve_rectangle(*gradients, spacing=(1.0, 0.5)), atol=1e-10)
