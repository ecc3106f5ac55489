"""Pixel sizes and angles from how a detector moves with its motors."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavedask.errors import InputError

Floats = NDArray[np.float64]


class MotorAxes(NamedTuple):
    """Pixel sizes and angles in the matrix between motors and pixels.

    Attributes
    ----------
    pixel_size_y, pixel_size_x : float
        Effective pixel size, in the unit of the motors.
    rotation : float
        Angle of the motor axes against the pixel axes, the mean of both, rad; positive turns the
        +x axis toward the +y axis.
    shear : float
        Angle of the motor x beyond that of the motor y, rad.
    """

    pixel_size_y: float
    pixel_size_x: float
    rotation: float
    shear: float


def motor_axes(matrix: Floats) -> MotorAxes:
    """Decompose a matrix of pixels (y, x) per unit of the motors (y, x).

    It is assumed that the pixel axes are at a right angle and that the motors read true lengths.
    The four entries then give two pixel sizes and two angles, one for each motor. A motor may run
    against its axis.

    Raises
    ------
    InputError
        A motor moves the detector more along the other axis than along its own.

    Examples
    --------
    >>> axes = motor_axes(np.array([[2.0, 0.0], [0.0, -4.0]]))
    >>> axes.pixel_size_y, axes.pixel_size_x
    (0.5, 0.25)
    """
    squares = matrix**2
    # Not quite the limit of 45 degrees, where the two equations below become one.
    if squares[1, 0] > 0.8 * squares[0, 0] or squares[0, 1] > 0.8 * squares[1, 1]:
        raise InputError(
            "motor_y moves the detector along x, or motor_x along y: pixels (y, x) per unit of the"
            f" motors (y, x) are {matrix.tolist()}",
            "Exchange motor_y and motor_x, or turn the images by a right angle.",
        )
    # A unit step of either motor is one unit long: (M_yk s_y)^2 + (M_xk s_x)^2 = 1.
    pitch_y, pitch_x = np.sqrt(np.linalg.solve(squares.T, np.ones(2))).tolist()
    lengths = matrix * np.array([[pitch_y], [pitch_x]])
    forward = np.sign(np.diag(matrix))
    turn_y = np.arctan2(-lengths[1, 0] * forward[0], lengths[0, 0] * forward[0])
    turn_x = np.arctan2(lengths[0, 1] * forward[1], lengths[1, 1] * forward[1])
    return MotorAxes(pitch_y, pitch_x, float(turn_y + turn_x) / 2, float(turn_x - turn_y))


def motor_axes_errors(matrix: Floats, covariance: Floats) -> MotorAxes:
    """Propagate errors of the matrix to pixel sizes and angles.

    Parameters
    ----------
    matrix : ndarray, shape (2, 2)
        As in `motor_axes`.
    covariance : ndarray, shape (4, 4)
        Covariance of its entries, row by row.

    Returns
    -------
    MotorAxes
        Standard errors instead of values.
    """
    step = 1e-6 * float(np.abs(np.diag(matrix)).min())
    slopes = np.empty((4, 4))
    for entry in range(4):
        change = np.zeros(4)
        change[entry] = step
        high, low = (np.array(motor_axes(matrix + sign * change.reshape(2, 2))) for sign in (1, -1))
        slopes[:, entry] = (high - low) / (2 * step)
    return MotorAxes(*np.sqrt(np.diag(slopes @ covariance @ slopes.T)).tolist())


def fit_matrix(
    positions: Floats, motors: Floats, components: NDArray[np.intp]
) -> tuple[Floats, Floats, Floats]:
    """Fit the positions of a detector as a linear function of its motor readings.

    Parameters
    ----------
    positions : ndarray, shape (frames, 2)
        Positions (y, x) of the detector, px; NaN where unknown.
    motors : ndarray, shape (frames, 2)
        Motor readings (y, x).
    components : ndarray of int, shape (frames,)
        Group of each frame: the positions of a group share one unknown offset.

    Returns
    -------
    matrix : ndarray, shape (2, 2)
        Pixels (y, x) per unit of the motors (y, x).
    covariance : ndarray, shape (4, 4)
        Covariance of its entries, row by row, from the residual.
    left : ndarray, shape (frames, 2)
        Residual: position minus fitted position, px.
    """
    left = np.full_like(positions, np.nan)
    known = np.isfinite(positions).all(axis=1)
    groups = np.unique(components[known])
    moved, read = np.zeros_like(positions), np.zeros_like(positions)
    for group in groups.tolist():
        own = known & (components == group)
        moved[own] = positions[own] - positions[own].mean(0)
        read[own] = motors[own] - motors[own].mean(0)
    inverse: Floats = np.linalg.inv(read.T @ read).astype(np.float64)
    matrix = np.asarray((inverse @ (read.T @ moved)).T, np.float64)
    left[known] = (moved - read @ matrix.T)[known]
    freedom = max(int(known.sum()) - groups.size - 2, 1)
    variance = (left[known] ** 2).sum(0) / freedom
    return matrix, np.asarray(np.kron(np.diag(variance), inverse), np.float64), left
