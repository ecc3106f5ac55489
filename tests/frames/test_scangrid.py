"""The grid of a mesh scan: found in noise, in any order, with holes; and refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wavedask.errors import MotorError
from wavedask.frames.scangrid import scan_grid

NAMES = ("dety", "detx")


def mesh(rows: int, columns: int, step: tuple[float, float] = (0.2, 0.1)) -> NDArray[np.float64]:
    y, x = np.mgrid[:rows, :columns]
    return np.stack([y.ravel() * step[0] - 3, x.ravel() * step[1] + 5], axis=1)


@given(
    rows=st.integers(2, 6),
    columns=st.integers(2, 6),
    seed=st.integers(0, 100),
    backward=st.booleans(),
)
def test_a_grid_in_any_order_with_noise(rows: int, columns: int, seed: int, backward: bool) -> None:
    random = np.random.default_rng(seed)
    order = random.permutation(rows * columns)
    motors = mesh(rows, columns, (-0.2, 0.1) if backward else (0.2, 0.1))[order]
    grid = scan_grid(motors + random.uniform(-0.004, 0.004, motors.shape), names=NAMES)
    assert grid.shape == (rows, columns)
    places = np.stack(np.divmod(order, columns), axis=1)
    if backward:
        places[:, 0] = rows - 1 - places[:, 0]
    assert np.array_equal(grid.places, places)
    assert grid.step == pytest.approx((0.2, 0.1), rel=0.1)
    assert len(grid.neighbours(0)) == (rows - 1) * columns
    assert len(grid.neighbours(1)) == rows * (columns - 1)
    for axis in (0, 1):
        for farther, nearer in grid.neighbours(axis):
            apart = grid.places[farther] - grid.places[nearer]
            assert apart.tolist() == [1 - axis, axis]


def test_the_usual_orders_are_in_order() -> None:
    raster = mesh(3, 4)
    snake = raster.reshape(3, 4, 2).copy()
    snake[1] = snake[1, ::-1]
    columns_first = raster.reshape(3, 4, 2).transpose(1, 0, 2).reshape(-1, 2)
    for motors in (raster, raster[::-1], snake.reshape(-1, 2), columns_first):
        assert scan_grid(motors, names=NAMES).disordered == ()
    swapped = raster.copy()
    swapped[[2, 7]] = swapped[[7, 2]]
    assert scan_grid(swapped, names=NAMES).disordered


def test_holes_and_repetitions_are_found() -> None:
    motors = np.delete(mesh(3, 4), [1, 6], axis=0)
    motors = np.concatenate([motors, motors[:1] + 1e-4])
    grid = scan_grid(motors, names=NAMES)
    assert grid.missing == ((0, 1), (1, 2))
    assert grid.repeated == (10,)
    # Both frames of the position that was taken twice have their neighbour below.
    assert {(3, 0), (3, 10)} <= set(grid.neighbours(0))


def test_a_whole_line_may_be_missing() -> None:
    motors = mesh(3, 5)
    grid = scan_grid(motors[motors[:, 1] != motors[2, 1]], names=NAMES)
    assert grid.shape == (3, 5)
    assert grid.missing == ((0, 2), (1, 2), (2, 2))


@pytest.mark.parametrize(
    ("motors", "words"),
    [
        (mesh(1, 4), "1 x 4 positions of 'dety' and 'detx'"),
        (mesh(4, 1), "4 x 1 positions"),
        (np.random.default_rng(1).random((20, 2)), "grid"),
        (np.stack([np.arange(6.0)] * 2, axis=1), "take 6 of the 6 x 6 positions"),
        (mesh(3, 3) * np.nan, "no position in frame 0"),
    ],
    ids=["row", "column", "random", "diagonal", "nan"],
)
def test_what_is_no_grid(motors: NDArray[np.float64], words: str) -> None:
    with pytest.raises(MotorError, match=words):
        scan_grid(motors, names=NAMES)


def test_a_frame_between_the_lines() -> None:
    motors = mesh(4, 4)
    motors[5, 1] += 0.04
    with pytest.raises(MotorError, match="'detx' is not on an equally spaced grid: frame"):
        scan_grid(motors, names=NAMES)
