"""The numbers behind a calibration: normal equations, solution, gauge, axes of the motors."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wavedask.errors import InputError
from wavedask.kernels.mesh.control import ControlGrid, Normal
from wavedask.kernels.mesh.gauge import without_affine
from wavedask.kernels.mesh.gradient import gradient_distortion
from wavedask.kernels.mesh.motor_axes import fit_matrix, motor_axes, motor_axes_errors
from wavedask.kernels.mesh.points import Lattice, Points, TrackedPair, covered, mean_map
from wavedask.kernels.mesh.solve import solve_mesh
from wavedask.simulate import Distortion, Feature

Floats = NDArray[np.float64]
FRAME = (180, 220)
LATTICE = Lattice(FRAME, 6)
BENT = Distortion(FRAME, barrel=0.6, features=(Feature((80.0, 120.0), (0.2, -0.15), 60.0),))


def exact_pairs(
    positions: Floats, *, noise: float = 0.0, links: int = 2, seed: int = 0
) -> list[TrackedPair]:
    """Displacements on a 3 x 3 mesh as a perfect tracker would find them, and their noise."""
    y, x = np.meshgrid(LATTICE.coordinates(0), LATTICE.coordinates(1), indexing="ij")
    f_y, f_x = BENT(y, x)
    random = np.random.default_rng(seed)
    pairs = []
    for frame in range(9):
        for other in ([frame + 1] if frame % 3 < 2 else []) + ([frame + 3] if frame < 6 else []):
            move = positions[other] - positions[frame]
            # p + f(p) + move = q + f(q)
            q_y, q_x = BENT.distorted(y + f_y + move[0], x + f_x + move[1])
            u = np.stack([y - q_y, x - q_x]) + random.normal(0, noise, (2, *LATTICE.shape))
            inside = (q_y >= 0) & (q_y < FRAME[0]) & (q_x >= 0) & (q_x < FRAME[1])
            u[:, ~inside] = np.nan
            error = np.where(inside, max(noise, 0.01), np.inf)
            pairs.append(TrackedPair(other, frame, u.astype(np.float32), error.astype(np.float32)))
    return pairs


def mesh_positions(step: float = 14.0, jitter: float = 0.3, seed: int = 1) -> Floats:
    y, x = np.divmod(np.arange(9), 3)
    places = np.stack([y, x], axis=1) * step
    found: Floats = places + np.random.default_rng(seed).normal(0, jitter, places.shape)
    return found


def solved(pairs: list[TrackedPair], **settings: Any) -> Any:
    chosen = {"spacing": 15.0, "smoothing": 1e-3, "block": 30} | settings
    return solve_mesh(pairs, frames=9, lattice=LATTICE, **chosen)


def maps_of(solution: Any, spacing: float = 15.0) -> list[Floats]:
    grid = ControlGrid(FRAME, spacing)
    rows, columns = (np.arange(length) for length in FRAME)
    return [grid.on_lattice(solution.coefficients[:, axis], rows, columns) for axis in (0, 1)]


def truth(valid: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    y, x = np.mgrid[: FRAME[0], : FRAME[1]]
    return without_affine(*BENT(y, x), valid)


def test_normal_equations_are_the_square_of_the_differences() -> None:
    grid = ControlGrid((40, 50), 9.0)
    random = np.random.default_rng(3)
    y, x = random.uniform(14, 36, 200), random.uniform(0, 30, 200)
    u_y, u_x = random.normal(12, 1.5, 200).clip(6, 13), random.normal(-13, 3, 200).clip(-18, 0)
    weight = random.uniform(0.5, 2, 200)
    points = Points(np.ones((20, 10), np.bool_), y, x, u_y, u_x, np.ones(200))
    dense = grid.differences(points, np.eye(grid.size))
    normal = Normal.for_offsets(grid, grid.offsets(u_y, u_x))
    normal.add(points, weight)
    assert np.allclose(normal.matrix().toarray(), dense.T @ (weight[:, None] * dense))
    assert np.allclose(grid.gathered(points, weight[:, None])[:, 0], dense.T @ weight)


def test_a_control_grid_holds_a_quadratic_and_bends_only_what_is_bent() -> None:
    grid = ControlGrid((40, 50), 9.0)
    i, j = np.mgrid[: grid.shape[0], : grid.shape[1]] - 1.0
    affine = (2 * i - 3 * j + 1).ravel()
    rows, columns = np.arange(40), np.arange(50)
    expected = 2 * rows[:, None] / 9 - 3 * columns[None, :] / 9 + 1
    assert np.allclose(grid.on_lattice(affine, rows, columns), expected)
    assert np.abs(grid.bending() @ affine).max() < 1e-9
    assert (i * i).ravel() @ grid.bending() @ (i * i).ravel() > 1


def test_the_solution_is_the_truth_in_its_gauge() -> None:
    positions = mesh_positions()
    pairs = exact_pairs(positions)
    solution = solved(pairs)
    valid = LATTICE.cells(covered(pairs, LATTICE))
    f_y, f_x, change = truth(valid)
    for found, f in zip(maps_of(solution), (f_y, f_x), strict=True):
        assert (found - f)[valid].std() < 4e-3
        assert np.abs(found - f)[valid].max() < 0.03
    places = (positions - positions.mean(0)) @ change.T
    assert np.abs(solution.positions - places).max() < 2e-3
    assert solution.rms.max() < 2e-3


def test_noise_is_stated() -> None:
    scatter, stated = [], []
    for seed in range(4):
        pairs = exact_pairs(mesh_positions(), noise=0.03, seed=seed)
        solution = solved(pairs, block=6)  # this noise is white
        valid = covered(pairs, LATTICE)
        f = truth(LATTICE.cells(valid))[:2]
        rows, columns = LATTICE.coordinates(0), LATTICE.coordinates(1)
        for axis, found in enumerate(maps_of(solution)):
            error = (found - f[axis])[np.ix_(rows, columns)][valid]
            scatter.append(np.mean(error**2))
            stated.append(np.mean(solution.errors[axis][valid] ** 2))
    assert np.sqrt(np.mean(stated) / np.mean(scatter)) == pytest.approx(1, abs=0.25)


def test_wrong_matches_do_not_count() -> None:
    pairs = exact_pairs(mesh_positions(), noise=0.01)
    valid = LATTICE.cells(covered(pairs, LATTICE))
    random = np.random.default_rng(5)
    for pair in pairs:
        wrong = random.random(LATTICE.shape) < 0.05
        pair.u[:, wrong] += random.normal(0, 3, (2, np.count_nonzero(wrong)))
    f_y, _, _ = truth(valid)
    error = (maps_of(solved(pairs))[0] - f_y)[valid]
    assert error.std() < 0.02


def test_frames_in_two_pieces_have_a_place_each() -> None:
    positions = mesh_positions()
    pairs = [pair for pair in exact_pairs(positions) if (pair.sample < 6) == (pair.reference < 6)]
    solution = solved(pairs)
    assert len(set(solution.components.tolist())) == 2
    matrix, _, left = fit_matrix(solution.positions, positions, solution.components)
    _, _, change = truth(LATTICE.cells(covered(pairs, LATTICE)))
    assert np.allclose(matrix, change, atol=2e-4)
    assert np.abs(left).max() < 5e-3
    alone = [pair for pair in pairs if 8 not in (pair.sample, pair.reference)]
    assert np.isnan(solved(alone).positions[8]).all()


def test_a_ripple_of_the_period_of_the_step_is_left_flat() -> None:
    # No difference over a step shows it, whatever its size: what is returned must not invent it.
    positions = mesh_positions(step=15.0, jitter=0.0)
    pairs = exact_pairs(positions, noise=0.02)
    found = maps_of(solved(pairs, spacing=6.0), spacing=6.0)[0][30:-30, 30:-30]
    period = np.exp(-2j * np.pi * np.arange(found.shape[1]) / 15)
    assert np.abs((found @ period) / found.shape[1]).mean() < 0.02


def test_mean_differences_are_taken_for_derivatives() -> None:
    positions = mesh_positions(jitter=0.0, step=8.0)
    pairs = exact_pairs(positions)
    along = [[pair for pair in pairs if pair.sample - pair.reference == gap] for gap in (3, 1)]
    solution = gradient_distortion(along[0], along[1], LATTICE)
    known = np.isfinite(solution.distortion).all(0)
    rows, columns = LATTICE.coordinates(0), LATTICE.coordinates(1)
    padded = np.zeros((2, *FRAME))
    valid = np.zeros(FRAME, np.bool_)
    padded[:, rows[:, None], columns[None, :]] = np.nan_to_num(solution.distortion)
    valid[np.ix_(rows, columns)] = known
    f_y, f_x, _ = without_affine(padded[0], padded[1], valid)
    g_y, g_x, _ = truth(valid)
    # A shift by half a step, and the sign of equation 3.4.
    for found, f in ((f_y, g_y), (f_x, g_x)):
        assert (found - f)[valid].std() < 0.35 * f[valid].std()
        assert np.corrcoef(found[valid], f[valid])[0, 1] > 0.9
    assert solution.step_y == pytest.approx(8.0, rel=0.02)


def test_mean_of_maps_with_gaps() -> None:
    maps = [np.array([[1.0, np.nan, np.nan]], np.float32), np.array([[2.0, 4.0, np.nan]], "f4")]
    assert np.array_equal(mean_map(maps), [[1.5, 4.0, np.nan]], equal_nan=True)


@given(
    pitch=st.tuples(st.floats(0.9, 1.1), st.floats(0.9, 1.1)),
    turn=st.tuples(st.floats(-0.4, 0.4), st.floats(-0.1, 0.1)),
    forward=st.tuples(st.sampled_from([-1.0, 1.0]), st.sampled_from([-1.0, 1.0])),
)
@settings(deadline=None)
def test_axes_of_the_motors(
    pitch: tuple[float, float], turn: tuple[float, float], forward: tuple[float, float]
) -> None:
    rotation, shear = turn
    turn_y, turn_x = rotation - shear / 2, rotation + shear / 2
    axes = np.array([[np.cos(turn_y), np.sin(turn_x)], [-np.sin(turn_y), np.cos(turn_x)]])
    matrix = axes / np.reshape(pitch, (2, 1)) * np.array(forward)
    assert motor_axes(matrix) == pytest.approx((*pitch, rotation, shear), abs=1e-9)


def test_motors_that_were_exchanged() -> None:
    with pytest.raises(InputError, match="Exchange motor_y and motor_x"):
        motor_axes(np.array([[0.1, 2.0], [2.0, 0.1]]))


def test_errors_of_the_axes() -> None:
    random = np.random.default_rng(2)
    motors = np.stack(np.divmod(np.arange(25.0), 5), axis=1)
    matrix = np.array([[20.0, 0.1], [-0.1, -25.0]])
    found, stated = [], []
    for _ in range(200):
        positions = motors @ matrix.T + random.normal(0, 0.2, (25, 2))
        fitted, covariance, _ = fit_matrix(positions, motors, np.zeros(25, np.intp))
        found.append(motor_axes(fitted))
        stated.append(motor_axes_errors(fitted, covariance))
    ratio = np.std(found, axis=0) / np.sqrt(np.mean(np.square(stated), axis=0))
    assert np.allclose(ratio, 1, atol=0.2)
