"""Surfaces from slopes, one map at a time: truth, gaps, weights and what is said about them."""

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedask.errors import InputError
from wavedask.kernels.surface import integration, poisson
from wavedask.kernels.surface.integration import (
    Solution,
    frankot_chellappa,
    grad2surf,
    least_squares,
)

FloatArray = npt.NDArray[np.float64]
FREE_BOUNDARY = (least_squares, grad2surf)
ALL = (*FREE_BOUNDARY, frankot_chellappa)


def waves(
    shape: tuple[int, int], spacing: tuple[float, float] = (1.0, 1.0), seed: int = 0
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Three random plane waves of 24 px or more that no border fits, and their derivatives."""
    random = np.random.default_rng(seed)
    y, x = np.ogrid[: shape[0], : shape[1]]
    surface, slope_y, slope_x = np.zeros((3, *shape))
    for ky, kx in 2 * np.pi / 34 * random.uniform(-1, 1, (3, 2)):
        phase = random.uniform(0, 2 * np.pi)
        angle = ky * y + kx * x + phase
        surface += np.cos(angle)
        slope_y -= ky / spacing[0] * np.sin(angle)
        slope_x -= kx / spacing[1] * np.sin(angle)
    return surface, slope_y, slope_x


def error(solution: Solution, surface: FloatArray) -> float:
    """Rms difference to a surface, over the pixels with data, but for a constant."""
    return float(np.nanstd(solution.surface - surface))


def disc(size: int) -> npt.NDArray[np.bool_]:
    axis = np.arange(size) - (size - 1) / 2
    inside: npt.NDArray[np.bool_] = np.hypot(axis[:, np.newaxis], axis) <= size / 2
    return inside


@pytest.mark.parametrize("method", FREE_BOUNDARY)
@pytest.mark.parametrize("shape", [(96, 96), (97, 64), (50, 111)])
def test_an_open_surface_is_recovered(
    method: Callable[..., Solution], shape: tuple[int, int]
) -> None:
    surface, slope_y, slope_x = waves(shape)
    solution = method(slope_y, slope_x)
    assert error(solution, surface) < 1e-3
    assert abs(solution.surface.mean()) < 1e-12
    assert solution.remarks == ()


def test_the_half_point_rule_is_of_fourth_order() -> None:
    # Half the step at the same surface: the error falls 16-fold and more, where the trapezoidal
    # rule gives 4.
    coarse, fine = (
        error(least_squares(*slopes, spacing=(h, h)), surface)
        for h, (surface, *slopes) in (
            (h, polynomial_and_slopes(round(1 / h) + 1)) for h in (1 / 40, 1 / 80)
        )
    )
    assert coarse / fine > 12


def polynomial_and_slopes(size: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    axis = np.linspace(0, 1, size)
    y, x = axis[:, np.newaxis], axis
    return y**6 * x**5 + x**6, 6 * y**5 * x**5, 5 * y**6 * x**4 + 6 * x**5 + 0 * y


@pytest.mark.parametrize("method", FREE_BOUNDARY)
@given(coefficients=st.lists(st.floats(-1, 1), min_size=8, max_size=8), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_a_cubic_is_recovered_exactly_on_any_grid(
    method: Callable[..., Solution], coefficients: list[float], seed: int
) -> None:
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(5, 20, 2))
    dy, dx = random.uniform(0.1, 3.0, 2)
    y, x = dy * np.arange(shape[0])[:, np.newaxis] - 2.0, dx * np.arange(shape[1]) - 1.0
    a, b, c, d, e, f, g, h = coefficients
    surface = a * y + b * x + c * y**2 + d * x * y + e * x**2 + f * y**3 + g * x**3 + h * x**2 * y
    slope_y = a + 2 * c * y + d * x + 3 * f * y**2 + h * x**2
    slope_x = b + d * y + 2 * e * x + 3 * g * x**2 + 2 * h * x * y
    solution = method(slope_y, slope_x, spacing=(dy, dx))
    assert error(solution, surface) < 1e-9 * (1 + np.abs(surface).max())


@pytest.mark.parametrize("method", ALL)
@given(seed=st.integers(0, 10_000), factor=st.floats(-5, 5))
@settings(max_examples=15, deadline=None)
def test_integration_is_linear(method: Callable[..., Solution], seed: int, factor: float) -> None:
    one, two = np.random.default_rng(seed).normal(size=(2, 2, 9, 12))
    together = method(*(one + factor * two)).surface
    apart = method(*one).surface + factor * method(*two).surface
    np.testing.assert_allclose(together, apart, atol=1e-10)


@pytest.mark.parametrize("method", FREE_BOUNDARY)
@given(seed=st.integers(0, 10_000), tilt_y=st.floats(-3, 3), tilt_x=st.floats(-3, 3))
@settings(max_examples=15, deadline=None)
def test_constant_slopes_add_a_plane(
    method: Callable[..., Solution], seed: int, tilt_y: float, tilt_x: float
) -> None:
    slope_y, slope_x = np.random.default_rng(seed).normal(size=(2, 8, 11))
    y, x = np.ogrid[-3.5:4, -5.0:6]
    tilted = method(slope_y + tilt_y, slope_x + tilt_x).surface
    plane = tilt_y * y + tilt_x * x
    np.testing.assert_allclose(tilted, method(slope_y, slope_x).surface + plane, atol=1e-10)


@pytest.mark.parametrize("method", ALL)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_exchanging_the_axes_transposes_the_surface(
    method: Callable[..., Solution], seed: int
) -> None:
    slope_y, slope_x = np.random.default_rng(seed).normal(size=(2, 8, 11))
    surface = method(slope_y, slope_x, spacing=(2.0, 0.5)).surface
    transposed = method(slope_x.T, slope_y.T, spacing=(0.5, 2.0)).surface
    np.testing.assert_allclose(transposed.T, surface, atol=1e-10)


@pytest.mark.parametrize("method", ALL)
@given(seed=st.integers(0, 10_000), border=st.tuples(*[st.integers(0, 3)] * 4))
@settings(max_examples=10, deadline=None)
def test_a_border_without_data_is_cropped(
    method: Callable[..., Solution], seed: int, border: tuple[int, int, int, int]
) -> None:
    slopes = np.random.default_rng(seed).normal(size=(2, 8, 11))
    top, bottom, left, right = border
    widths = ((top, bottom), (left, right))
    padded = method(*(np.pad(slope, widths, constant_values=np.nan) for slope in slopes)).surface
    np.testing.assert_array_equal(
        padded, np.pad(method(*slopes).surface, widths, constant_values=np.nan)
    )


def test_a_periodic_surface_is_recovered_by_frankot_and_chellappa() -> None:
    for shape in ((16, 24), (15, 24), (15, 25)):
        y, x = (2 * np.pi * np.arange(n) / n for n in shape)
        surface = np.sin(3 * y[:, np.newaxis] + 0.3) * np.cos(2 * x)
        slope_y = 6 * np.pi / shape[0] * np.cos(3 * y[:, np.newaxis] + 0.3) * np.cos(2 * x)
        slope_x = -4 * np.pi / shape[1] * np.sin(3 * y[:, np.newaxis] + 0.3) * np.sin(2 * x)
        assert error(frankot_chellappa(slope_y, slope_x), surface) < 1e-12


def test_the_surface_of_least_squares_cannot_be_bettered() -> None:
    random = np.random.default_rng(4)
    slopes, weights = random.normal(size=(2, 7, 9)), random.uniform(0.1, 1, (7, 9))
    spacing = (0.7, 1.9)

    def misfit(surface: FloatArray) -> float:
        total = 0.0
        for axis, h in enumerate(spacing):
            first = [slice(None)] * 2
            last = [slice(None)] * 2
            first[axis], last[axis] = slice(None, -1), slice(1, None)
            one, two = weights[tuple(first)], weights[tuple(last)]
            mean = poisson.edge_means(slopes[axis], np.ones((7, 9), bool), axis=axis)
            edge = 1 / (0.5 / one + 0.5 / two)
            total += float(np.sum(edge * (np.diff(surface, axis=axis) / h - mean) ** 2))
        return total

    best = least_squares(*slopes, spacing=spacing, weights=weights).surface
    for _ in range(20):
        other = best + 1e-3 * random.normal(size=best.shape)
        assert misfit(best) < misfit(other)


def test_a_round_pupil_costs_no_accuracy() -> None:
    surface, slope_y, slope_x = waves((160, 160), seed=3)
    pupil = disc(160)
    whole = least_squares(slope_y, slope_x)
    cut = least_squares(np.where(pupil, slope_y, np.nan), slope_x)
    assert error(cut, surface) < 1.5 * error(whole, surface)
    assert 0 < cut.iterations < 30
    assert np.array_equal(np.isfinite(cut.surface), pupil)
    assert abs(np.nanmean(cut.surface)) < 1e-12


def test_scattered_gaps_are_bridged() -> None:
    surface, slope_y, slope_x = waves((120, 140), seed=5)
    gaps = np.random.default_rng(0).random((120, 140)) < 0.05
    solution = least_squares(np.where(gaps, np.inf, slope_y), slope_x)
    assert error(solution, surface) < 2e-3
    assert np.isnan(solution.surface[gaps]).all()


def test_weights_of_one_and_zero_are_gaps() -> None:
    _, slope_y, slope_x = waves((60, 60))
    pupil = disc(60)
    weighted = least_squares(slope_y, slope_x, weights=np.where(pupil, 7.0, 0.0))
    cut = least_squares(np.where(pupil, slope_y, np.nan), slope_x)
    np.testing.assert_allclose(weighted.surface, cut.surface, atol=1e-7)


def test_weights_beat_none_where_the_noise_varies() -> None:
    surface, slope_y, slope_x = waves((80, 80))
    random = np.random.default_rng(2)
    deviation = np.where(random.random((80, 80)) < 0.3, 1.0, 0.01)
    noisy = [slope + deviation * random.normal(size=(80, 80)) for slope in (slope_y, slope_x)]
    weighted = least_squares(*noisy, weights=1 / deviation**2)
    assert error(weighted, surface) < 0.3 * error(least_squares(*noisy), surface)


def test_the_weights_of_a_beam_converge_fast() -> None:
    surface, slope_y, slope_x = waves((128, 128))
    axis = np.arange(128) - 63.5
    beam = np.exp(-(axis[:, np.newaxis] ** 2 + axis**2) / (2 * 25.0**2))
    solution = least_squares(slope_y, slope_x, weights=beam)
    assert solution.iterations < 60
    assert solution.remarks == ()
    assert error(solution, surface) < 1e-3


def test_separate_pieces_are_levelled_and_reported() -> None:
    _, slope_y, slope_x = waves((20, 30))
    slope_y[:, 12] = np.nan
    solution = least_squares(slope_y, slope_x)
    assert abs(solution.surface[:, :12].mean()) < 1e-12
    assert abs(solution.surface[:, 13:].mean()) < 1e-12
    assert "2 separate pieces" in solution.remarks[0]


def test_a_pixel_without_neighbours_has_no_height() -> None:
    slope_y = np.full((9, 9), np.nan)
    slope_y[:4] = 0.0
    slope_y[7, 7] = 0.0
    solution = least_squares(slope_y, np.zeros((9, 9)))
    assert np.isnan(solution.surface[7, 7])
    assert (solution.surface[:4] == 0.0).all()
    assert solution.remarks == ()


@pytest.mark.parametrize("method", ALL)
def test_a_map_without_data_is_reported(method: Callable[..., Solution]) -> None:
    solution = method(np.full((4, 5), np.nan), np.zeros((4, 5)))
    assert np.isnan(solution.surface).all()
    assert "no pixel has data" in solution.remarks[0]


def test_an_iteration_that_stops_early_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poisson, "MAX_ITERATIONS", 2)
    _, slope_y, slope_x = waves((60, 60))
    solution = least_squares(np.where(disc(60), slope_y, np.nan), slope_x)
    assert "stopped after 2 iterations" in solution.remarks[0]


@pytest.mark.parametrize("method", [frankot_chellappa, grad2surf])
def test_a_gap_is_refused_by_a_method_that_needs_a_rectangle(
    method: Callable[..., Solution],
) -> None:
    slope = np.zeros((6, 7))
    slope[2, 2:4] = np.nan
    with pytest.raises(InputError, match=r"2 pixels without data .* 6 x 7 .*least_squares"):
        method(slope, np.zeros((6, 7)))


@pytest.mark.parametrize("bad", [-1.0, np.inf])
def test_impossible_weights_are_refused(bad: float) -> None:
    weights = np.ones((4, 4))
    weights[1, 1] = bad
    with pytest.raises(InputError, match=f"{bad:g}"):
        least_squares(np.zeros((4, 4)), np.zeros((4, 4)), weights=weights)


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 1), (2, 2), (3, 4)])
def test_the_smallest_maps_work(method: Callable[..., Solution], shape: tuple[int, int]) -> None:
    solution = method(np.zeros(shape), np.ones(shape))
    assert solution.surface.shape == shape
    if method is not frankot_chellappa:
        assert np.allclose(np.diff(solution.surface, axis=1), 1.0)


def test_threads_share_one_set_of_eigenvectors() -> None:
    integration._computed_basis.cache_clear()
    slopes = np.random.default_rng(1).normal(size=(2, 61, 61))
    expected = grad2surf(*slopes).surface
    integration._computed_basis.cache_clear()
    results: list[FloatArray] = []
    threads = [
        threading.Thread(target=lambda: results.append(grad2surf(*slopes).surface))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert integration._computed_basis.cache_info().misses == 1
    for result in results:
        np.testing.assert_array_equal(result, expected)
    with pytest.raises(ValueError, match="read-only"):
        integration._derivative_basis(61).vectors[0, 0] = 1.0
