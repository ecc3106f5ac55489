"""The distortion of a detector from displacements between the frames of a mesh scan.

A fixed feature of the beam is seen at distorted pixels p such that ``p + f(p) + d`` is the same in
every frame, where d is the position of the detector. A pair tracked as ``sample(p) =
reference(p - u)`` therefore gives, at every point, one equation that is linear in f and d::

    f(p) - f(p - u) + d_sample - d_reference = -u
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, cg

from wavedask.kernels.mesh.control import ControlGrid, Normal
from wavedask.kernels.mesh.points import Lattice, Points, TrackedPair, covered, points_of

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Mask = NDArray[np.bool_]

HUBER: Final = 2.5
"""Misfit, in robust standard deviations, above which the weight of a point decreases."""
ROUNDS: Final = 3
"""Number of solutions; each one uses weights from the misfit of the one before."""
TOLERANCE: Final = 1e-7
"""Relative residual at which conjugate gradients stop."""
MAX_ITERATIONS: Final = 2000
DRAWS: Final = 16
"""Number of perturbed solutions for the standard errors."""


@dataclass(frozen=True, slots=True)
class MeshSolution:
    """Distortion and positions that fit the pairs best.

    Attributes
    ----------
    coefficients : ndarray, shape (size, 2)
        B-spline coefficients of the distortion (y, x), px.
    positions : ndarray, shape (frames, 2)
        Position (y, x) of the detector in each frame, px; NaN for a frame without a pair. Frames
        of one `component` have zero mean.
    components : ndarray of int, shape (frames,)
        Connected component of each frame; pairs connect frames.
    residual : list of ndarray of float32, shape (2, rows, columns)
        Misfit of each pair on the lattice, px; NaN where it has no point.
    rms : ndarray, shape (pairs,)
        Robust root mean square misfit of each pair, px.
    errors : ndarray, shape (2, rows, columns)
        Standard error of the distortion on the lattice, px.
    position_draws : ndarray, shape (draws, frames, 2)
        Errors of the positions in each perturbed solution, px.
    """

    coefficients: Floats
    positions: Floats
    components: NDArray[np.intp]
    residual: list[Singles]
    rms: Floats
    errors: Floats
    position_draws: Floats


def solve_mesh(
    pairs: list[TrackedPair],
    *,
    frames: int,
    lattice: Lattice,
    spacing: float,
    smoothing: float,
    block: int,
    seed: int = 0,
) -> MeshSolution:
    """Find the distortion and the positions of all frames at once.

    Weighted least squares with Huber weights and a weak penalty on bending. The distortion has no
    affine part and no mean over the cells that were seen.

    Parameters
    ----------
    pairs : list of TrackedPair
        The pairs.
    frames : int
        Number of frames.
    lattice : Lattice
        Points on which the pairs are sampled.
    spacing : float
        Pixels between control points.
    smoothing : float
        Weight of the bending energy, in units of the mean weight of a control point.
    block : int
        Side of the squares within which errors are correlated, px.
    seed : int, default 0
        Seed of the perturbations for the standard errors.

    Returns
    -------
    MeshSolution
    """
    grid = ControlGrid(lattice.frame, spacing)
    points = [points_of(pair, lattice) for pair in pairs]
    seen = covered(pairs, lattice)
    # The first round uses the stated errors; the later rounds also use the misfit.
    weights = [1 / point.error**2 for point in points]
    system = _System(grid, lattice, pairs, points, frames, seen, smoothing)
    for _ in range(ROUNDS):
        equations = system.equations(weights)
        values = [-np.stack([point.u_y, point.u_x], axis=1) for point in points]
        coefficients, positions = equations.solve(values)
        residual = equations.misfits(values, coefficients, positions)
        weights = _huber(residual, points)
    errors, draws = _perturbed(equations, residual, lattice=lattice, block=block, seed=seed)
    linked = np.isin(np.arange(frames), system.ends)
    return MeshSolution(
        coefficients,
        np.where(linked[:, None], positions, np.nan),
        system.components,
        [_on_lattice(values, point.there) for values, point in zip(residual, points, strict=True)],
        np.array([_robust_rms(values) for values in residual]),
        errors,
        draws,
    )


def _on_lattice(values: Floats, there: Mask) -> Singles:
    out = np.full((2, *there.shape), np.nan, np.float32)
    out[:, there] = values.T
    return out


def _robust_rms(values: Floats) -> float:
    """Root mean square of both components; large misfits are cut as by the Huber weights."""
    if values.size == 0:
        return np.nan
    length = np.hypot(values[:, 0], values[:, 1])
    limit = HUBER * 1.4826 * np.median(length)
    return float(np.sqrt(np.mean(np.minimum(length, limit) ** 2)))


def _huber(residual: list[Floats], points: list[Points]) -> list[Floats]:
    """Weights of the next round: 1/error², reduced where the misfit is large."""
    scaled = [
        np.hypot(values[:, 0], values[:, 1]) / point.error
        for values, point in zip(residual, points, strict=True)
    ]
    scale = HUBER * 1.4826 * float(np.median(np.concatenate(scaled)))
    return [
        np.minimum(1.0, scale / np.maximum(misfit, 1e-12)) / point.error**2
        for misfit, point in zip(scaled, points, strict=True)
    ]


class _System:
    """The part of the problem that does not depend on the weights."""

    def __init__(
        self,
        grid: ControlGrid,
        lattice: Lattice,
        pairs: list[TrackedPair],
        points: list[Points],
        frames: int,
        seen: Mask,
        smoothing: float,
    ) -> None:
        self.grid, self.lattice, self.points, self.smoothing = grid, lattice, points, smoothing
        self.frames = frames
        self.ends = np.array([(pair.sample, pair.reference) for pair in pairs])
        self.steps = np.array([(np.median(point.u_y), np.median(point.u_x)) for point in points])
        self.offsets = frozenset[tuple[int, int]]().union(
            *(grid.offsets(point.u_y, point.u_x) for point in points)
        )
        ones = np.ones(len(pairs))
        links = sparse.coo_array((ones, tuple(self.ends.T)), shape=(frames, frames))
        self.components = connected_components(links, directed=False)[1].astype(np.intp)
        rows, columns = lattice.coordinates(0), lattice.coordinates(1)
        terms = [
            seen.astype(np.float64),
            np.asarray(seen * (rows[:, None] / lattice.frame[0] - 0.5), np.float64),
            np.asarray(seen * (columns[None, :] / lattice.frame[1] - 0.5), np.float64),
        ]
        affine = np.stack([grid.sums(term, rows, columns) for term in terms], axis=1)
        self.affine, _ = np.linalg.qr(affine)
        self.bending = grid.bending()

    def equations(self, weights: list[Floats]) -> "_Equations":
        """Build the normal equations for some weights of the points."""
        grid = self.grid
        normal = Normal.for_offsets(grid, self.offsets)
        coupling = np.zeros((grid.size, self.frames))
        totals = np.array([weight.sum() for weight in weights])
        for point, weight, (sample, reference) in zip(
            self.points, weights, self.ends.tolist(), strict=True
        ):
            normal.add(point, weight)
            column = grid.gathered(point, weight[:, None])[:, 0]
            coupling[:, sample] += column
            coupling[:, reference] -= column
        laplacian = np.zeros((self.frames, self.frames))
        for total, (sample, reference) in zip(totals, self.ends.tolist(), strict=True):
            laplacian[[sample, reference], [sample, reference]] += total
            laplacian[[sample, reference], [reference, sample]] -= total
        penalty = self.smoothing * 2 * totals.sum() / grid.size
        matrix = normal.matrix() + penalty * self.bending
        inverse = np.asarray(np.linalg.pinv(laplacian), np.float64)
        return _Equations(self, weights, matrix, coupling, inverse, penalty)


@dataclass(slots=True)
class _Equations:
    """Normal equations for given weights, without the positions and the affine part."""

    system: _System
    weights: list[Floats]
    matrix: sparse.csr_array
    coupling: Floats
    inverse: Floats
    penalty: float

    def solve(self, values: list[Floats]) -> tuple[Floats, Floats]:
        """Solve for right-hand sides (n, 2) at the points of each pair.

        Returns
        -------
        coefficients : ndarray, shape (size, 2)
        positions : ndarray, shape (frames, 2)
        """
        system = self.system
        right = np.zeros((system.grid.size, 2))
        pulls = np.zeros((system.frames, 2))
        for point, weight, value, (sample, reference) in zip(
            system.points, self.weights, values, system.ends.tolist(), strict=True
        ):
            weighted = weight[:, None] * value
            right += system.grid.gathered(point, weighted)
            pulls[sample] += weighted.sum(0)
            pulls[reference] -= weighted.sum(0)
        right -= self.coupling @ (self.inverse @ pulls)
        operator = LinearOperator((system.grid.size,) * 2, matvec=self._reduced, dtype=np.float64)
        inverse = self._preconditioner()
        coefficients = np.stack(
            [
                cg(
                    operator,
                    self._without_affine(column),
                    M=inverse,
                    rtol=TOLERANCE,
                    maxiter=MAX_ITERATIONS,
                )[0]
                for column in right.T
            ],
            axis=1,
        )
        positions = self.inverse @ (pulls - self.coupling.T @ coefficients)
        return coefficients, positions

    def misfits(
        self, values: list[Floats], coefficients: Floats, positions: Floats
    ) -> list[Floats]:
        """Compute the residual of the values at the points of each pair, px."""
        grid = self.system.grid
        left = []
        for point, value, (sample, reference) in zip(
            self.system.points, values, self.system.ends.tolist(), strict=True
        ):
            change = grid.differences(point, coefficients)
            left.append(value - change - (positions[sample] - positions[reference]))
        return left

    def _without_affine(self, field: Floats) -> Floats:
        affine = self.system.affine
        return np.asarray(field - affine @ (affine.T @ field))

    def _reduced(self, field: Floats) -> Floats:
        inner = self._without_affine(field)
        product = self.matrix @ inner
        product -= self.coupling @ (self.inverse @ (self.coupling.T @ inner))
        return self._without_affine(product)

    def _preconditioner(self) -> LinearOperator:
        """Inverse of the equations of an infinite frame, by cosine transform."""
        grid = self.system.grid
        theta = [np.pi * np.arange(n) / n for n in grid.shape]
        down, across = theta[0][:, None], theta[1][None, :]
        spline = ((2 + np.cos(down)) / 3 * (2 + np.cos(across)) / 3) ** 2
        change = np.zeros(grid.shape)
        for weight, step in zip(self.weights, self.system.steps / grid.spacing, strict=True):
            change += weight.sum() * (1 - np.cos(down * step[0]) * np.cos(across * step[1]))
        bend = (2 - 2 * np.cos(down)) + (2 - 2 * np.cos(across))
        symbol = 2 * spline * change / grid.size + self.penalty * bend**2
        symbol[0, 0] = np.inf  # the mean is part of the affine gauge
        symbol = np.maximum(symbol, 1e-12 * symbol[np.isfinite(symbol)].max())

        def apply(field: Floats) -> Floats:
            inner = self._without_affine(field).reshape(grid.shape)
            solved = fft.idctn(fft.dctn(inner, norm="ortho") / symbol, norm="ortho")
            return self._without_affine(solved.ravel())

        return LinearOperator((grid.size,) * 2, matvec=apply, dtype=np.float64)


def _perturbed(
    equations: _Equations, residual: list[Floats], *, lattice: Lattice, block: int, seed: int
) -> tuple[Floats, Floats]:
    """Estimate standard errors: solve again for the misfit with random signs per block.

    This is the wild bootstrap (Wu, Ann. Statist. 14, 1261, 1986). It uses blocks because windows
    overlap, and is valid for misfits of any size and any correlation within a block.
    """
    system = equations.system
    random = np.random.default_rng(seed)
    rows, columns = lattice.coordinates(0), lattice.coordinates(1)
    squares = np.zeros((2, *lattice.shape))
    draws = np.empty((DRAWS, system.frames, 2))
    across = -(-lattice.frame[1] // block) + 1
    count = across * (-(-lattice.frame[0] // block) + 1)
    for draw in range(DRAWS):
        flipped = []
        for values, point in zip(residual, system.points, strict=True):
            signs = random.choice([-1.0, 1.0], size=count)
            place = (point.y // block).astype(np.intp) * across + (point.x // block).astype(np.intp)
            flipped.append(values * signs[place][:, None])
        coefficients, draws[draw] = equations.solve(flipped)
        for axis in (0, 1):
            squares[axis] += system.grid.on_lattice(coefficients[:, axis], rows, columns) ** 2
    # Sixteen draws scatter by about 20 %. Neighbours have similar errors: average over them.
    sigma = 2 * system.grid.spacing / lattice.stride
    smooth = [ndimage.gaussian_filter(square / DRAWS, sigma) for square in squares]
    return np.sqrt(np.stack(smooth)), draws
