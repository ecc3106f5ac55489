"""From the nodes to the pixels."""

import numpy as np

from wavedask.kernels.dense.judge import Level
from wavedask.kernels.dense.nodes import NodeGrid
from wavedask.kernels.dense.pixels import dense_fields
from wavedask.kernels.dense.prepare import prepare
from wavedask.kernels.fields import Fields
from wavedask.simulate import displaced_pair


def test_a_stated_error_that_falls_toward_the_border_does_not_become_zero() -> None:
    grid = NodeGrid((63, 63), 4, (3, 3))
    pair = displaced_pair(grid.shape, seed=1)
    start = np.zeros((2, *grid.nodes), np.float32)
    images = pair.sample[None].astype(np.float32), pair.reference[None].astype(np.float32)
    prepared = prepare(*images, grid, start, order=3)
    error = np.full(grid.nodes, 4.0, np.float32)
    error[0], error[:, -1] = 0.1, 0.2
    one, zero = np.ones(grid.nodes, np.float32), np.zeros(grid.nodes, np.float32)
    reason = np.zeros(grid.nodes, np.uint8)
    level = Level(zero, zero, error, error, one, one, one, one, reason, reason > 0)
    inner = slice(0, 63), slice(0, 63)
    found = Fields(*dense_fields(level, one, grid, prepared, reason, window=21, inner=inner))
    assert found.uncertainty_y.min() >= np.float32(0.1)
    assert found.uncertainty_y[:3].max() <= 4
