"""A measured field, as a sphere for each axis and the rest, ready to be propagated."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from wavedask.conventions import X, Y
from wavedask.errors import InputError
from wavedask.optics.diffraction import (
    LARGEST_STEP,
    field_at_rim,
    scaled,
    transformed,
)
from wavedask.optics.pieces import numbered_pieces

Floats = npt.NDArray[np.float64]
Field = npt.NDArray[np.complex128]

AXES: Final = (0, 1)
"""Axes y and x of a field."""
LEAST: Final = 16
"""Pixels with beam below which there is no field."""
FARTHEST: Final = 1e9
"""Distance in m from which a focus counts as none."""
FEWEST: Final = 129
"""Positions along an axis of a plane near the focus, at least."""
AROUND: Final = 12.0
"""Widths of the smallest possible spot on either side of the axis that a plane shows."""


@dataclass(frozen=True, slots=True)
class Beam:
    """A measured field, as a sphere for each axis and what is left of it.

    Attributes
    ----------
    field : ndarray of complex, shape (rows, columns)
        Amplitude and phase without the two curvatures; its power is 1, in 1/m.
    axes : tuple of ndarray
        Positions along y and x about the middle of the beam, m.
    focus : (float, float)
        Distance from the detector to the focus of each axis, m; negative upstream.
    wavelength : float
        m.
    """

    field: Field
    axes: tuple[Floats, Floats]
    focus: tuple[float, float]
    wavelength: float

    def step(self, axis: int) -> float:
        """Return the pixel size along an axis, m."""
        return float(self.axes[axis][1] - self.axes[axis][0])

    def half(self, axis: int) -> float:
        """Return half the aperture along an axis, m."""
        lit = np.flatnonzero(np.abs(self.field).max(axis=1 - axis) > 0)
        positions = self.axes[axis]
        return float(positions[lit[-1]] - positions[lit[0]] + self.step(axis)) / 2

    def angle(self, axis: int) -> float:
        """Return the numerical aperture along an axis.

        Raises
        ------
        InputError
            A beam without a focus.
        """
        if abs(self.focus[axis]) > FARTHEST:
            raise InputError(
                f"the wavefront has no curvature along {(Y, X)[axis]}: the beam has no focus",
                "Check that wf is not flat; without a focus its size is that of the aperture.",
            )
        return self.half(axis) / abs(self.focus[axis])

    def spot(self, axis: int) -> float:
        """Return the width of the smallest possible spot of a slit, m."""
        return self.wavelength / (2 * self.angle(axis))

    def depth(self, axis: int) -> float:
        """Return the depth of focus, m: at half of it the rim is a quarter of a wave off."""
        return float(self.wavelength / self.angle(axis) ** 2)

    def blur(self, axis: int, distance: float) -> float:
        """Return half the width of the beam by rays at a distance, m."""
        return self.half(axis) * abs(1 - distance / self.focus[axis])

    def along(self, axis: int, distance: float, out: Floats, field: Field | None = None) -> Field:
        """Propagate along one axis to chosen positions near the focus."""
        return transformed(
            self.field if field is None else field,
            positions=self.axes[axis],
            focus=self.focus[axis],
            distance=distance,
            wavelength=self.wavelength,
            out=out,
            axis=axis,
        )

    def at(self, distance: float) -> tuple[Field, tuple[Floats, Floats]]:
        """Propagate to a plane: near a focus by a transform, elsewhere on scaled pixels.

        Where pixels do not sample the one, they sample the other: N s^2 |1/z - 1/q| is below the
        wavelength for the transform, and above it for scaled pixels.

        Returns
        -------
        field : ndarray of complex
            Up to a phase that depends on y alone and x alone, in 1/m.
        positions : (ndarray, ndarray)
            Along y and x, m.
        """
        field, places = self.field, []
        for axis in AXES:
            bend = 1 / self.focus[axis] - 1 / distance
            if field_at_rim(bend, self.axes[axis], self.wavelength) <= LARGEST_STEP:
                # Odd, so that the axis itself is among the positions.
                size = max(self.axes[axis].size, FEWEST) | 1
                half = AROUND * self.spot(axis) + 1.2 * self.blur(axis, distance)
                out = np.linspace(-half, half, size)
                field = self.along(axis, distance, out, field)
            else:
                field, scale = scaled(
                    field,
                    step=self.step(axis),
                    focus=self.focus[axis],
                    distance=distance,
                    wavelength=self.wavelength,
                    axis=axis,
                )
                out = self.axes[axis] * scale
                if scale < 0:
                    # Behind the focus the beam is upside down; positions increase.
                    out, field = out[::-1], np.flip(field, axis)
            places.append(out)
        return field, (places[0], places[1])


def beam_of(
    surface: Floats,
    intensity: Floats,
    *,
    y: Floats,
    x: Floats,
    wavelength: float,
    curvature: float = 0.0,
) -> Beam | None:
    """Take the two curvatures out of a measured wavefront.

    Parameters
    ----------
    surface : ndarray, shape (rows, columns)
        Wavefront in m, NaN where there is no beam.
    intensity : ndarray, shape (rows, columns)
        Intensity; not finite and negative values are no beam.
    y, x : ndarray
        Positions, of equal steps, m.
    wavelength : float
        m.
    curvature : float, default 0
        Curvature of the beam that the wavefront lacks, 1/m; positive if the beam diverges.

    Returns
    -------
    Beam or None
        None without a beam.

    Raises
    ------
    InputError
        A wavefront in several pieces, or one that changes by more than half a wave from pixel to
        pixel beside its two spheres.

    Examples
    --------
    >>> x = np.linspace(-1e-4, 1e-4, 21)
    >>> surface = -(x[:, None] ** 2) / (2 * 1.5) - x**2 / (2 * 2.0)
    >>> beam = beam_of(surface, np.ones((21, 21)), y=x, x=x, wavelength=1e-10)
    >>> print(f"{beam.focus[0]:.3f} m, {beam.focus[1]:.3f} m")
    1.500 m, 2.000 m
    """
    lit = np.isfinite(surface) & np.isfinite(intensity)
    lit &= np.where(lit, intensity, 0.0) > 0
    if np.count_nonzero(lit) < LEAST:
        return None
    pieces = int(numbered_pieces(lit)[lit].max()) + 1
    if pieces > 1:
        raise InputError(
            f"the wavefront lies in {pieces} pieces whose relative heights are not known",
            "Give one piece: a pupil to wavefront, or wf.where(...) of one of them.",
        )
    power = np.where(lit, intensity, 0.0)
    middle = [float(power.sum(axis=1 - axis) @ p / power.sum()) for axis, p in ((0, y), (1, x))]
    y, x = y - middle[0], x - middle[1]
    rows, columns = np.nonzero(lit)
    weights = np.sqrt(power[rows, columns])
    spans = float(np.ptp(y[rows])) or 1.0, float(np.ptp(x[columns])) or 1.0
    v, u = y[rows] / spans[0], x[columns] / spans[1]
    terms = np.stack([np.ones_like(v), v, u, v * v, u * u], axis=1)
    if np.linalg.matrix_rank(terms) < terms.shape[1]:
        return None
    fit = np.linalg.lstsq(terms * weights[:, None], surface[rows, columns] * weights, rcond=None)[0]
    rest = np.zeros(surface.shape)
    rest[rows, columns] = surface[rows, columns] - terms @ fit
    check_smooth(rest, lit, wavelength)
    # W = -x^2 / 2 q.
    bends = [-2 * fit[3] / spans[0] ** 2 - curvature, -2 * fit[4] / spans[1] ** 2 - curvature]
    focus = [1 / bend if bend else math.inf for bend in bends]
    steps = abs(y[1] - y[0]), abs(x[1] - x[0])
    amplitude = np.sqrt(power / (power.sum() * steps[0] * steps[1]))
    field = amplitude * np.exp(2j * math.pi * rest / wavelength)
    return Beam(field, (y, x), (float(focus[0]), float(focus[1])), wavelength)


def check_smooth(rest: Floats, lit: npt.NDArray[np.bool_], wavelength: float) -> None:
    """Refuse a wavefront whose phase the pixels do not sample.

    Parameters
    ----------
    rest : ndarray, shape (rows, columns)
        Wavefront without its spheres, m.
    lit : ndarray of bool
        Pixels with beam.
    wavelength : float
        m.

    Raises
    ------
    InputError
        A change of more than half a wave from pixel to pixel.

    Examples
    --------
    >>> check_smooth(np.zeros((2, 2)), np.ones((2, 2), bool), 1e-10)
    """
    largest = 0.0
    for axis in AXES:
        both = np.logical_and(
            np.take(lit, range(1, lit.shape[axis]), axis),
            np.take(lit, range(lit.shape[axis] - 1), axis),
        )
        change = np.abs(np.diff(rest, axis=axis))[both]
        largest = max(largest, float(change.max(initial=0.0)) / wavelength)
    if largest > LARGEST_STEP:
        raise InputError(
            f"the wavefront changes by {largest:.3g} waves from pixel to pixel beside its two "
            f"spheres, and {LARGEST_STEP} is the most that pixels sample",
            "Give a smaller pupil, without its outliers.",
        )
