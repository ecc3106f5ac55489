"""The lattice on which the pairs of a mesh scan are sampled, and their displacements."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Lattice:
    """Pixels at which pairs are sampled, in equally spaced rows and columns.

    Attributes
    ----------
    frame : (int, int)
        Rows and columns of the frame.
    stride : int
        Pixels between neighbouring points.
    """

    frame: tuple[int, int]
    stride: int

    def coordinates(self, axis: int) -> NDArray[np.intp]:
        """Rows or columns of the lattice: the middle of every cell of `stride` pixels."""
        return np.arange(self.stride // 2, self.frame[axis], self.stride)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of lattice points."""
        return self.coordinates(0).size, self.coordinates(1).size

    def cells(self, mask: Mask) -> Mask:
        """Spread a mask from the lattice to the pixels of its cells."""
        rows, columns = (
            np.minimum(np.arange(length) // self.stride, size - 1)
            for length, size in zip(self.frame, self.shape, strict=True)
        )
        return np.asarray(mask[rows[:, None], columns[None, :]])


@dataclass(frozen=True, slots=True)
class TrackedPair:
    """Displacements of one pair on the lattice.

    Attributes
    ----------
    sample, reference : int
        The frames.
    u : ndarray of float32, shape (2, rows, columns)
        Displacement (y, x) in px; NaN where there is no match.
    error : ndarray of float32, shape (rows, columns)
        Its standard error in px.
    """

    sample: int
    reference: int
    u: Singles
    error: Singles


@dataclass(frozen=True, slots=True)
class Points:
    """Points of a pair that have a match within the frame.

    Attributes
    ----------
    there : ndarray of bool, shape (rows, columns)
        Mask of these points on the lattice.
    y, x : ndarray, shape (n,)
        Their coordinates in the sample, px.
    u_y, u_x : ndarray, shape (n,)
        Displacements, px.
    error : ndarray, shape (n,)
        Standard errors, px.
    """

    there: Mask
    y: Floats
    x: Floats
    u_y: Floats
    u_x: Floats
    error: Floats


def points_of(pair: TrackedPair, lattice: Lattice) -> Points:
    """Select the points of a pair that have a match within the frame."""
    y, x = np.meshgrid(lattice.coordinates(0), lattice.coordinates(1), indexing="ij")
    with np.errstate(invalid="ignore"):
        q_y, q_x = y - pair.u[0], x - pair.u[1]
        there = (
            np.isfinite(pair.error)
            & (q_y >= 0)
            & (q_y <= lattice.frame[0] - 1)
            & (q_x >= 0)
            & (q_x <= lattice.frame[1] - 1)
        )
    u_y, u_x = pair.u[:, there].astype(np.float64)
    error = pair.error[there].astype(np.float64)
    # An error far below the median is chance; such a point must not outweigh its neighbours.
    error = np.maximum(error, 0.5 * np.median(error)) if error.size else error
    at_y, at_x = y[there].astype(np.float64), x[there].astype(np.float64)
    return Points(there, at_y, at_x, u_y, u_x, error)


def covered(pairs: list[TrackedPair], lattice: Lattice) -> Mask:
    """Lattice cells that contain a point or its match of any pair."""
    seen = np.zeros(lattice.shape, np.bool_)
    for pair in pairs:
        points = points_of(pair, lattice)
        seen |= points.there
        ends = [
            np.minimum((at - u).astype(np.intp) // lattice.stride, size - 1)
            for at, u, size in (
                (points.y, points.u_y, lattice.shape[0]),
                (points.x, points.u_x, lattice.shape[1]),
            )
        ]
        seen[ends[0], ends[1]] = True
    return seen


def mean_map(maps: list[Singles]) -> Floats:
    """Mean of maps without NaN; NaN where all maps are NaN."""
    total = np.zeros(maps[0].shape, np.float64)
    count = np.zeros(maps[0].shape, np.intp)
    for values in maps:
        known = np.isfinite(values)
        total[known] += values[known]
        count += known
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, total / np.where(count > 0, count, 1), np.nan)
