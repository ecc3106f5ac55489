"""Nodes: where they lie, pixels between them, weights."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wavedask.kernels.dense.nodes import NodeGrid, keys_weights, padded, pixels_from_nodes, weigh


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(20, 60),
    step=st.integers(1, 4),
    origin=st.integers(0, 1000),
)
def test_nodes_are_anchored_to_the_frame(rows: int, step: int, origin: int) -> None:
    grid = NodeGrid((rows, rows + 3), step, (-origin % step, -(origin + 1) % step))
    for axis, first in ((0, origin), (1, origin + 1)):
        nodes = grid.coordinates(axis)
        assert ((nodes + first) % step == 0).all()
        assert nodes.size == grid.nodes[axis]
        assert 0 <= nodes[0] < step
        assert grid.shape[axis] - step <= nodes[-1] < grid.shape[axis]


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_pixels_between_nodes_follow_a_quadratic(step: int) -> None:
    first, shape = (step - 1, 1 % step), (41, 53)
    grid = NodeGrid(shape, step, first)

    def surface(y: Any, x: Any) -> NDArray[np.float64]:
        return np.asarray(0.3 + 0.02 * y - 0.03 * x + 1e-3 * y * x - 5e-4 * x * x + 0 * y)

    nodes = surface(grid.coordinates(0)[:, None], grid.coordinates(1)[None])
    out = np.empty(shape, np.float32)
    pixels_from_nodes(padded(nodes.astype(np.float32)), step, keys_weights(step), *first, out)
    truth = surface(*np.mgrid[: shape[0], : shape[1]])
    inside = np.s_[2 * step : -3 * step, 2 * step : -3 * step]
    assert np.abs(out - truth)[inside].max() < 1e-5
    assert np.abs(out - truth).max() < 0.01 * step


def test_pixels_from_outside_the_reference_have_no_weight() -> None:
    shape = (40, 50)
    sample, reference = np.ones(shape, np.bool_), np.ones(shape, np.bool_)
    sample[5, 20] = False
    reference[10, 20] = False
    grid = NodeGrid(shape, 2, (0, 0))
    u_y = padded(np.full(grid.nodes, 3.0, np.float32))
    u_x = padded(np.full(grid.nodes, -6.0, np.float32))
    weight = np.empty(shape, np.float32)
    weigh(sample, reference, False, u_y, u_x, 2, keys_weights(2), 0, 0, weight)
    expected = np.ones(shape)
    expected[:3] = 0  # from above the reference
    expected[:, -6:] = 0  # from right of it
    expected[5, 20] = 0
    expected[13, 14] = 0  # where the reference has none
    assert np.array_equal(weight, expected)
    sample[:], reference[:] = True, True
    weigh(sample, reference, True, u_y, u_x, 2, keys_weights(2), 0, 0, weight)
    expected[:] = 1
    expected[:3] = expected[:, -6:] = 0
    assert np.array_equal(weight, expected)
