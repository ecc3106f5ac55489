"""Figure errors that are fitted beside a lens, so that they do not count as its curvature.

The slopes of an aberration are not orthogonal to those of a paraboloid, even where its heights are:
fitted alone, a lens would take a part of every aberration for focus. So polynomials are fitted with
it whose heights are orthogonal to those of the lens, of a tilt, and of the level of each piece. The
lens is then the one that fits the *heights* best, from slopes and with their covariance.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.polynomial import legendre

from wavedask.errors import InputError
from wavedask.optics.shapes import Shape
from wavedask.optics.slopes import Slopes

Floats = npt.NDArray[np.float64]

DEGREES: Final = (8, 6, 4)
"""Degrees of the polynomials that are tried, in turn."""
POINTS_PER_FUNCTION: Final = 20
"""Cells with data for each polynomial, at least."""
TINY: Final = 1e-300
"""Sum of squares of a function that is none."""
LEAST_PART: Final = 1e-4
"""Rms of a polynomial without the lens, over the largest: less is one that the lens has."""


class Figure:
    """Polynomials whose heights are orthogonal to a lens over the pixels with data.

    Parameters
    ----------
    points : Slopes
        Where there are data.
    shape : Shape
        The lens.
    parameters : ndarray of float64, shape (shape.count,)
        About where it is fitted.

    Attributes
    ----------
    count : int
        Number of polynomials.
    """

    def __init__(self, points: Slopes, shape: Shape, parameters: Floats) -> None:
        self.count = 0
        for degree in DEGREES:
            functions = (degree + 1) * (degree + 2) // 2
            if points.y.size >= POINTS_PER_FUNCTION * functions:
                heights, slopes = _polynomials(points.y, points.x, degree)
                self._orthogonalise(points, shape, parameters, heights, slopes)
                return

    def _orthogonalise(
        self, points: Slopes, shape: Shape, parameters: Floats, heights: Floats, slopes: Floats
    ) -> None:
        changes = tangents(shape, parameters, points.y, points.x)
        levels = np.equal.outer(np.arange(int(points.piece.max()) + 1), points.piece)
        known = np.concatenate([levels.astype(np.float64), changes])
        root = np.sqrt(points.count / points.count.sum())
        scale = np.sqrt(np.maximum(np.square(known * root).sum(axis=1), TINY))
        basis, mixed = np.linalg.qr((known / scale[:, None] * root).T)
        shares = (heights * root) @ basis
        rest = heights * root - shares @ basis.T
        # Polynomials that the lens has are left out.
        squares, mixes = np.linalg.eigh(rest @ rest.T)
        kept = squares > LEAST_PART**2 * squares[-1]
        mix = (mixes[:, kept] / np.sqrt(squares[kept])).T
        # Of the functions that were taken out, those after the levels have slopes.
        inverse = np.linalg.pinv(mixed, rcond=1e-9)
        taken = (mix @ (shares @ inverse.T) / scale)[:, len(levels) :]
        of_lens = shape.jacobian(parameters, points.y, points.x, points.values)
        self._gradients = np.stack(
            [mix @ part - taken @ lens for part, lens in zip(slopes, of_lens, strict=True)]
        )
        self.count = len(mix)

    def gradients(self, block: slice) -> Floats:
        """Gradients of the polynomials, shape (2, count, points)."""
        return np.asarray(self._gradients[:, :, block])


def _polynomials(y: Floats, x: Floats, degree: int) -> tuple[Floats, Floats]:
    """Legendre products up to a degree, shape (functions, points), and their gradients."""
    values, slopes = [], []
    derive = legendre.legder(np.eye(degree + 1)).T
    for line in (y, x):
        low, high = float(line.min()), float(line.max())
        table = legendre.legvander((line - (low + high) / 2) / ((high - low) / 2), degree).T
        values.append(table)
        slopes.append(derive @ table[:degree] / ((high - low) / 2))
    orders = [(i, k) for i in range(degree + 1) for k in range(degree + 1 - i)]
    rows, columns = (list(part) for part in zip(*orders, strict=True))
    down = slopes[0][rows] * values[1][columns]
    across = values[0][rows] * slopes[1][columns]
    return values[0][rows] * values[1][columns], np.stack([down, across])


def tangents(shape: Shape, parameters: Floats, y: Floats, x: Floats) -> Floats:
    """Compute the change of the heights of a lens with its parameters, at points.

    Parameters
    ----------
    shape : Shape
    parameters : ndarray of float64, shape (shape.count,)
    y, x : ndarray of float64, shape (points,)
        Positions in m.

    Returns
    -------
    ndarray of float64, shape (shape.count, points)

    Raises
    ------
    InputError
        A lens without heights at some of the points.
    """
    rows = []
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        for number, step in enumerate(shape.steps(parameters)):
            change = np.zeros(shape.count)
            change[number] = step / 2
            ends = [shape.heights(parameters + sign * change, y, x) for sign in (1, -1)]
            rows.append((ends[0] - ends[1]) / step)
    changes = np.stack(rows)
    if not np.isfinite(changes).all():
        raise InputError(
            "no lens of this shape makes this wavefront: it is flat, or the rays of the lens cross",
            "Check the distance and the refractive index, or fit a paraboloid.",
        )
    return changes
