"""The distortion of a detector by the method of the report: mean displacements, integrated."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavedask.errors import InputError
from wavedask.kernels.mesh.points import Lattice, TrackedPair, mean_map
from wavedask.kernels.surface import least_squares

Floats = NDArray[np.float64]


class GradientSolution(NamedTuple):
    """Distortion by equations 3.5 to 3.8 of the report.

    Attributes
    ----------
    distortion : ndarray, shape (2, rows, columns)
        Distortion (y, x) on the lattice, px, of zero mean; NaN where no pair of either direction
        has a match.
    step_y, step_x : float
        Mean lengths of the displacement between neighbours along y and x, px; negative where the
        speckle moves toward larger index.
    """

    distortion: Floats
    step_y: float
    step_x: float


def gradient_distortion(
    along_y: list[TrackedPair], along_x: list[TrackedPair], lattice: Lattice
) -> GradientSolution:
    """Find the distortion from the mean displacement between neighbours of a mesh scan.

    Parameters
    ----------
    along_y, along_x : list of TrackedPair
        Pairs that are one step apart along an axis; the sample is the farther frame.
    lattice : Lattice
        Points on which the pairs are sampled.

    Returns
    -------
    GradientSolution

    Raises
    ------
    InputError
        Too few points have a match in both directions.
    """
    gradients, steps = [], []
    for axis, pairs in enumerate((along_y, along_x)):
        mean = mean_map([pair.u for pair in pairs])
        # The detector moves by minus the displacement: v in the report, with the sign of eq. 3.4.
        v = -mean
        known = np.isfinite(v).all(0)
        toward = float(v[:, known].mean(1)[axis])
        length = float(np.hypot(*v[:, known]).mean()) * np.sign(toward)
        deviation = v.copy()
        deviation[axis] -= toward
        gradients.append(-deviation / length)
        steps.append(length)
    slope_y, slope_x = gradients
    surfaces = []
    for component in (0, 1):
        known = np.isfinite(slope_y[component]) & np.isfinite(slope_x[component])
        if known.sum() < 4:
            raise InputError(
                "neighbours along y and along x match in no common region",
                "Take a mesh with smaller steps.",
            )
        surfaces.append(
            least_squares(
                np.where(known, slope_y[component], np.nan),
                np.where(known, slope_x[component], np.nan),
                spacing=(float(lattice.stride), float(lattice.stride)),
            ).surface
        )
    return GradientSolution(np.stack(surfaces), *steps)
