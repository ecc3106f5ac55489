"""Sums over windows."""

import numpy as np
import pytest

from wavedask.kernels.dense.nodes import NodeGrid
from wavedask.kernels.dense.refine import window_statistics


@pytest.mark.parametrize(("half", "step"), [(2, 1), (7, 3), (10, 4)])
def test_statistics_are_those_of_the_windows(half: int, step: int) -> None:
    random = np.random.default_rng(4)
    shape = (2, 50, 64)
    m = (random.random(shape) > 0.1).astype(np.float32)
    s, g_y, g_x = (random.standard_normal(shape).astype(np.float32) * m for _ in range(3))
    grid = NodeGrid(shape[1:], step, (1 % step, 2 % step))
    out = np.empty((10, *grid.nodes), np.float32)
    middle = grid.nodes[1] // 2
    for start, stop in ((0, middle), (middle, grid.nodes[1])):
        window_statistics(m, s, g_y, g_x, half, step, *grid.first, start, stop, out)
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
