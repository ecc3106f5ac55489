"""A smooth field as a cubic B-spline on a coarse grid, and equations for its differences."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from wavedask.kernels.jit import INLINED, JIT, njit
from wavedask.kernels.mesh.points import Points

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ControlGrid:
    """Control points of a cubic B-spline over a frame.

    Attributes
    ----------
    frame : (int, int)
        Rows and columns of the frame.
    spacing : float
        Pixels between control points.
    """

    frame: tuple[int, int]
    spacing: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of control points; the first is one spacing before the frame."""
        rows, columns = (int((length - 1) // self.spacing) + 4 for length in self.frame)
        return rows, columns

    @property
    def size(self) -> int:
        """Number of control points."""
        return self.shape[0] * self.shape[1]

    def matrix(self, positions: Any, axis: int) -> sparse.csr_array:
        """Matrix from control points along an axis to positions (px) along it."""
        at = np.asarray(positions, np.float64) / self.spacing
        first = np.clip(np.floor(at), 0, self.shape[axis] - 4).astype(np.intp)
        weights = np.stack(_cubic(at - first), axis=1)
        columns = first[:, None] + np.arange(4)
        starts = 4 * np.arange(at.size + 1)
        return sparse.csr_array(
            (weights.ravel(), columns.ravel(), starts), shape=(at.size, self.shape[axis])
        )

    def on_lattice(self, coefficients: Floats, rows: Any, columns: Any) -> Floats:
        """Evaluate a field on the lattice of some rows and columns, in px."""
        down, across = self.matrix(rows, 0), self.matrix(columns, 1)
        return np.asarray((across @ (down @ coefficients.reshape(self.shape)).T).T)

    def sums(self, values: Floats, rows: Any, columns: Any) -> Floats:
        """Sum values on a lattice, weighted by each control point: the adjoint of `on_lattice`."""
        down, across = self.matrix(rows, 0), self.matrix(columns, 1)
        return np.asarray((across.T @ (down.T @ values).T).T).ravel()

    def offsets(self, u_y: Floats, u_x: Floats) -> frozenset[tuple[int, int]]:
        """Set of displacements (y, x) in whole spacings, rounded down."""
        if u_y.size == 0:
            return frozenset()
        down, across = (np.floor(u / self.spacing).astype(np.intp) for u in (u_y, u_x))
        top, left = int(down.min()), int(across.min())
        present = np.zeros((down.max() - top + 1, across.max() - left + 1), np.bool_)
        present[down - top, across - left] = True
        return frozenset((y + top, x + left) for y, x in np.argwhere(present).tolist())

    def differences(self, points: Points, coefficients: Floats) -> Floats:
        """Differences ``f(p) - f(p - u)`` of fields at the points of a pair.

        Parameters
        ----------
        points : Points
            Points p and displacements u.
        coefficients : ndarray, shape (size, m)
            Coefficients of several fields.

        Returns
        -------
        ndarray, shape (n, m)
        """
        out = np.zeros((points.y.size, coefficients.shape[1]))
        rows, columns = self.shape
        _differences(
            points.y,
            points.x,
            points.u_y,
            points.u_x,
            coefficients,
            self.spacing,
            rows,
            columns,
            out,
        )
        return out

    def gathered(self, points: Points, values: Floats) -> Floats:
        """Sum values at the points of a pair by control point: the adjoint of `differences`.

        Parameters
        ----------
        points : Points
            Points p and displacements u.
        values : ndarray, shape (n, m)
            Values at the points, one column per field.

        Returns
        -------
        ndarray, shape (size, m)
        """
        values = np.ascontiguousarray(values)
        out = np.zeros((self.size, values.shape[1]))
        rows, columns = self.shape
        _gather(
            points.y, points.x, points.u_y, points.u_x, values, self.spacing, rows, columns, out
        )
        return out

    def bending(self) -> sparse.csr_array:
        """Matrix of the bending energy, by second differences of the coefficients.

        A penalised spline (Eilers & Marx, Statist. Sci. 11, 89, 1996): an affine field has no
        bending energy.
        """
        identity = [sparse.eye_array(n, format="csr") for n in self.shape]
        first = [
            sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(n - 1, n)) for n in self.shape
        ]
        second = [
            sparse.diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(n - 2, n))
            for n in self.shape
        ]
        down, both, across = (
            sparse.csr_array(part)
            for part in (
                sparse.kron(second[0], identity[1]),
                sparse.kron(first[0], first[1]),
                sparse.kron(identity[0], second[1]),
            )
        )
        return sparse.csr_array(down.T @ down + 2 * (both.T @ both) + across.T @ across)


@dataclass(slots=True)
class Normal:
    """Normal equations of the differences ``f(p) - f(p - u)``, stored by diagonals.

    Two control points share an equation only if they lie within the support of the spline, or
    within it around the displacement. So there are few distances, each a diagonal of the matrix.

    Attributes
    ----------
    grid : ControlGrid
        The control points.
    table : ndarray of int64, shape (2 reach_y + 1, 2 reach_x + 1)
        Row of `diagonals` by distance (y, x) of two control points; -1 where they never meet.
    diagonals : ndarray, shape (distances, size)
        Entries by distance, and by the control point from which it is measured.
    """

    grid: ControlGrid
    table: NDArray[np.int64]
    diagonals: Floats

    @classmethod
    def for_offsets(cls, grid: ControlGrid, offsets: frozenset[tuple[int, int]]) -> "Normal":
        """Allocate empty equations for displacements with these offsets."""
        # Every distance of two supports of four, where the displacement is rounded down or up.
        centers = {(0, 0)} | {
            (y + down, x + across) for y, x in offsets for down in (0, 1) for across in (0, 1)
        }
        near = range(-3, 4)
        distances = {
            (sign * y + dy, sign * x + dx)
            for y, x in centers
            for sign in (1, -1)
            for dy in near
            for dx in near
        }
        reach_y, reach_x = (max(abs(distance[axis]) for distance in distances) for axis in (0, 1))
        table = np.full((2 * reach_y + 1, 2 * reach_x + 1), -1, np.int64)
        for number, (y, x) in enumerate(sorted(distances)):
            table[y + reach_y, x + reach_x] = number
        return cls(grid, table, np.zeros((len(distances), grid.size)))

    def add(self, points: Points, weight: Floats) -> None:
        """Add the equations of the points of a pair; p and p - u must both lie in the frame."""
        rows, columns = self.grid.shape
        _add_normal(
            points.y,
            points.x,
            points.u_y,
            points.u_x,
            weight,
            self.grid.spacing,
            rows,
            columns,
            self.table,
            self.diagonals,
        )

    def matrix(self) -> sparse.csr_array:
        """Assemble the diagonals into a symmetric matrix."""
        reach_y, reach_x = (length // 2 for length in self.table.shape)
        places = np.argwhere(self.table >= 0)
        numbers = self.table[places[:, 0], places[:, 1]]
        steps = (places[:, 0] - reach_y) * self.grid.shape[1] + places[:, 1] - reach_x
        node = np.arange(self.grid.size)
        entries = []
        for number, step in zip(numbers.tolist(), steps.tolist(), strict=True):
            row = node[max(-step, 0) : self.grid.size - max(step, 0)]
            values = self.diagonals[number][row]
            kept = values != 0
            entries.append((values[kept], row[kept], row[kept] + step))
        data, row, column = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        return sparse.csr_array((data, (row, column)), shape=(self.grid.size,) * 2)


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _cubic(t: Any) -> Any:
    s = 1 - t
    return (
        s * s * s / 6,
        2 / 3 - t * t * (1 - t / 2),
        2 / 3 - s * s * (1 - s / 2),
        t * t * t / 6,
    )


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _support(at: float, size: int, weights: Floats) -> int:
    """First of the four control points around a coordinate, in spacings, and their weights."""
    first = min(max(int(np.floor(at)), 0), size - 4)
    weights[0], weights[1], weights[2], weights[3] = _cubic(at - first)
    return first


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _add_products(
    i: int,
    j: int,
    v_y: Floats,
    v_x: Floats,
    k: int,
    m: int,
    w_y: Floats,
    w_x: Floats,
    factor: float,
    columns: int,
    table: NDArray[np.int64],
    diagonals: Floats,
) -> None:
    reach_y, reach_x = table.shape[0] // 2, table.shape[1] // 2
    for a in range(4):
        for b in range(4):
            value = factor * v_y[a] * v_x[b]
            node = (i + a) * columns + j + b
            for c in range(4):
                line = table[k + c - i - a + reach_y]
                for d in range(4):
                    diagonals[line[m + d - j - b + reach_x], node] += value * w_y[c] * w_x[d]


@njit(**JIT)  # type: ignore[untyped-decorator]
def _add_normal(
    y: Floats,
    x: Floats,
    u_y: Floats,
    u_x: Floats,
    weight: Floats,
    spacing: float,
    rows: int,
    columns: int,
    table: NDArray[np.int64],
    diagonals: Floats,
) -> None:
    here_y, here_x = np.empty(4), np.empty(4)
    there_y, there_x = np.empty(4), np.empty(4)
    for n in range(y.size):
        i = _support(y[n] / spacing, rows, here_y)
        j = _support(x[n] / spacing, columns, here_x)
        k = _support((y[n] - u_y[n]) / spacing, rows, there_y)
        m = _support((x[n] - u_x[n]) / spacing, columns, there_x)
        w = weight[n]
        _add_products(i, j, here_y, here_x, i, j, here_y, here_x, w, columns, table, diagonals)
        _add_products(k, m, there_y, there_x, k, m, there_y, there_x, w, columns, table, diagonals)
        _add_products(i, j, here_y, here_x, k, m, there_y, there_x, -w, columns, table, diagonals)
        _add_products(k, m, there_y, there_x, i, j, here_y, here_x, -w, columns, table, diagonals)


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _apply(
    adjoint: bool,
    y: Floats,
    x: Floats,
    u_y: Floats,
    u_x: Floats,
    at_nodes: Floats,
    at_points: Floats,
    spacing: float,
    rows: int,
    columns: int,
) -> None:
    """Add ``f(p) - f(p - u)`` to the points, or its adjoint to the control points.

    `adjoint` is a constant where this is inlined, so that the choice costs nothing.
    """
    w_y, w_x = np.empty(4), np.empty(4)
    for n in range(y.size):
        for end in range(2):
            i = _support((y[n] - end * u_y[n]) / spacing, rows, w_y)
            j = _support((x[n] - end * u_x[n]) / spacing, columns, w_x)
            for a in range(4):
                for b in range(4):
                    node = (i + a) * columns + j + b
                    weight = (1 - 2 * end) * w_y[a] * w_x[b]
                    for kind in range(at_nodes.shape[1]):
                        if adjoint:
                            at_nodes[node, kind] += weight * at_points[n, kind]
                        else:
                            at_points[n, kind] += weight * at_nodes[node, kind]


@njit(**JIT)  # type: ignore[untyped-decorator]
def _gather(
    y: Floats,
    x: Floats,
    u_y: Floats,
    u_x: Floats,
    values: Floats,
    spacing: float,
    rows: int,
    columns: int,
    out: Floats,
) -> None:
    _apply(True, y, x, u_y, u_x, out, values, spacing, rows, columns)


@njit(**JIT)  # type: ignore[untyped-decorator]
def _differences(
    y: Floats,
    x: Floats,
    u_y: Floats,
    u_x: Floats,
    coefficients: Floats,
    spacing: float,
    rows: int,
    columns: int,
    out: Floats,
) -> None:
    _apply(False, y, x, u_y, u_x, coefficients, out, spacing, rows, columns)
