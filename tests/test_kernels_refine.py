"""Pieces of the refinement: nodes, window sums, low-pass, weights."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from wavedask.kernels import refine as rf

Floats = NDArray[np.float32]


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(20, 60),
    step=st.integers(1, 4),
    origin=st.integers(0, 1000),
)
def test_nodes_are_anchored_to_the_frame(rows: int, step: int, origin: int) -> None:
    grid = rf.NodeGrid((rows, rows + 3), step, (-origin % step, -(origin + 1) % step))
    for axis, first in ((0, origin), (1, origin + 1)):
        nodes = grid.coordinates(axis)
        assert ((nodes + first) % step == 0).all()
        assert nodes.size == grid.nodes[axis]
        assert 0 <= nodes[0] < step
        assert grid.shape[axis] - step <= nodes[-1] < grid.shape[axis]


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_pixels_between_nodes_follow_a_quadratic(step: int) -> None:
    first, shape = (step - 1, 1 % step), (41, 53)
    grid = rf.NodeGrid(shape, step, first)

    def surface(y: Any, x: Any) -> NDArray[np.float64]:
        return np.asarray(0.3 + 0.02 * y - 0.03 * x + 1e-3 * y * x - 5e-4 * x * x + 0 * y)

    nodes = surface(grid.coordinates(0)[:, None], grid.coordinates(1)[None])
    out = np.empty(shape, np.float32)
    rf.pixels_from_nodes(
        rf.padded(nodes.astype(np.float32)), step, rf.keys_weights(step), *first, out
    )
    truth = surface(*np.mgrid[: shape[0], : shape[1]])
    inside = np.s_[2 * step : -3 * step, 2 * step : -3 * step]
    assert np.abs(out - truth)[inside].max() < 1e-5
    assert np.abs(out - truth).max() < 0.01 * step


@pytest.mark.parametrize(("half", "step"), [(2, 1), (7, 3), (10, 4)])
def test_statistics_are_those_of_the_windows(half: int, step: int) -> None:
    random = np.random.default_rng(4)
    shape = (2, 50, 64)
    m = (random.random(shape) > 0.1).astype(np.float32)
    s, g_y, g_x = (random.standard_normal(shape).astype(np.float32) * m for _ in range(3))
    grid = rf.NodeGrid(shape[1:], step, (1 % step, 2 % step))
    out = np.empty((10, *grid.nodes), np.float32)
    middle = grid.nodes[1] // 2
    for start, stop in ((0, middle), (middle, grid.nodes[1])):
        rf.window_statistics(m, s, g_y, g_x, half, step, *grid.first, start, stop, out)
    for i, y in enumerate(grid.coordinates(0)):
        for j, x in enumerate(grid.coordinates(1)):
            window = np.s_[:, max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
            there = m[window] > 0
            values = np.stack([field[window][there] for field in (s, g_y, g_x)]).astype(float)
            covariance = np.cov(values, bias=True)
            expected = [
                there.sum(),
                *values.mean(axis=1),
                covariance[0, 0],
                covariance[0, 1],
                covariance[0, 2],
                covariance[1, 1],
                covariance[1, 2],
                covariance[2, 2],
            ]
            assert np.allclose(out[:, i, j], expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("sigma", [1.5, 2.7])
def test_the_low_pass_is_that_of_its_formula(sigma: float) -> None:
    impulse = np.zeros((120, 130), np.float32)
    impulse[60, 65] = 1
    found = rf.smoothed(impulse, rf.low_pass(impulse.shape, sigma))
    # Far from the border the mirror image is as good as a period.
    spectrum = np.fft.fft2(impulse)
    rest = spectrum.copy()
    for _ in range(rf.SHARPNESS):
        rest = rest - ndimage.fourier_gaussian(rest, sigma)
    expected = np.fft.ifft2(spectrum - rest).real
    assert np.abs(found - expected).max() < 1e-4


def test_the_low_pass_keeps_what_is_wide_and_drops_what_is_narrow() -> None:
    half, step = 7, 3
    response = rf.low_pass((200, 200), rf.SIGMA * half / step)
    nodes = np.arange(200) * step
    passed = {}
    for windows in (1.0, 6.0):
        wave = np.sin(2 * np.pi * nodes / (windows * 15))
        image = np.broadcast_to(wave, (200, 200)).astype(np.float32)
        found = rf.smoothed(np.ascontiguousarray(image), response)
        passed[windows] = float((found[100, 50:150] @ wave[50:150]) / (wave[50:150] @ wave[50:150]))
    assert passed[6.0] == pytest.approx(1, abs=1e-3)
    assert passed[1.0] < 0.05


@pytest.mark.parametrize("gradient", [0.0, 0.1])
def test_a_field_with_a_trend_stays_as_it_is(gradient: float) -> None:
    y, x = np.mgrid[:90, :110].astype(np.float32)
    field = 3 + gradient * y - gradient * x + 1e-3 * (y - 45) ** 2
    found = rf.smoothed(field, rf.low_pass((90, 110), 2.6))
    assert np.abs(found - field).max() < 1e-3


def test_pixels_from_outside_the_reference_have_no_weight() -> None:
    shape = (40, 50)
    sample, reference = np.ones(shape, np.bool_), np.ones(shape, np.bool_)
    sample[5, 20] = False
    reference[10, 20] = False
    grid = rf.NodeGrid(shape, 2, (0, 0))
    u_y = rf.padded(np.full(grid.nodes, 3.0, np.float32))
    u_x = rf.padded(np.full(grid.nodes, -6.0, np.float32))
    weight = np.empty(shape, np.float32)
    rf.weigh(sample, reference, u_y, u_x, 2, rf.keys_weights(2), 0, 0, weight)
    expected = np.ones(shape)
    expected[:3] = 0  # from above the reference
    expected[:, -6:] = 0  # from right of it
    expected[5, 20] = 0
    expected[13, 14] = 0  # where the reference has none
    assert np.array_equal(weight, expected)
