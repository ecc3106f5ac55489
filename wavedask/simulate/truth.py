"""The result of perfect tracking: the rays of one exposure against those of another."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavedask.simulate.detector import Detector, turned
from wavedask.simulate.elements import Pair
from wavedask.simulate.rays import OpticalSystem

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BeamTruth:
    """The result of perfect tracking on a perfect detector, at each true pixel.

    Vectors are along the rows and columns of the detector. Everything is exact in geometric optics.
    Pixels that no single ray reaches (behind the rim of an aperture) are NaN.

    Attributes
    ----------
    displacement_y, displacement_x : ndarray, shape (y, x)
        Displacement u in px: the grain of the membrane that the sample shows at p is at p - u in
        the reference. NaN if sample and reference are of two detectors.
    reference_y, reference_x : ndarray, shape (y, x)
        True pixel of the reference detector that shows this grain.
    slope_y, slope_x : ndarray, shape (y, x)
        Slope of the ray that arrives in the sample, rad. It is absolute: from the curvature of
        the source and all optics.
    wavefront : ndarray, shape (y, x)
        Wavefront in the plane of the detector, m, zero mean; its gradient is the slope.
    difference_slope_y, difference_slope_x : ndarray, shape (y, x)
        Slope of the ray in the sample minus the slope of the ray in the reference that arrives at
        the same position. If no optic stays in the beam,
        ``u * pixel_size = difference_slope * L z / (z - L)``. Here L is the distance to the
        detector from the optic or the membrane, whichever is later, and z the distance from source
        to detector.
    difference : ndarray, shape (y, x)
        Wavefront of the sample minus wavefront of the reference, m, zero mean; its gradient is the
        difference of the slopes.
    """

    displacement_y: Floats
    displacement_x: Floats
    reference_y: Floats
    reference_x: Floats
    slope_y: Floats
    slope_x: Floats
    wavefront: Floats
    difference_slope_y: Floats
    difference_slope_x: Floats
    difference: Floats


@dataclass(frozen=True)
class View:
    """One exposure of a detector.

    Attributes
    ----------
    system : OpticalSystem
        Source and optics.
    detector : Detector
        The detector.
    place : (float, float)
        Displacement (y, x) of the detector, m.
    membrane : (float, float)
        Displacement (y, x) of the membrane, m.
    """

    system: OpticalSystem
    detector: Detector
    place: Pair
    membrane: Pair


def beam_truth(sample: View, reference: View, *, marker: float) -> BeamTruth:
    """Trace rays to every true pixel of the sample, and find their grains in the reference.

    Parameters
    ----------
    sample, reference : View
        The two exposures.
    marker : float
        Distance from the source to the membrane whose grains are tracked, m.

    Returns
    -------
    BeamTruth

    Raises
    ------
    InputError
        Rays cross.
    """
    detector, plain = sample.detector, reference.system
    pixel_y, pixel_x = detector.pixels()
    y, x = detector.lab(pixel_y, pixel_x, motors=sample.place)
    grain, ray = sample.system.trace(
        *sample.system.reaching(y, x, detector.position), [marker, detector.position]
    )
    (bare,) = plain.trace(*plain.reaching(y, x, detector.position), [detector.position])
    moved_y, moved_x = np.subtract(reference.membrane, sample.membrane)
    (found,) = plain.trace(
        *plain.reaching(grain.y + moved_y, grain.x + moved_x, marker),
        [reference.detector.position],
        paths=False,
    )
    reference_y, reference_x = reference.detector.pixel(found.y, found.x, motors=reference.place)
    comparable = 0.0 if reference.detector is detector else np.nan
    slope_y, slope_x = turned(ray.slope_y, ray.slope_x, detector.rotation)
    bare_y, bare_x = turned(bare.slope_y, bare.slope_x, detector.rotation)
    difference = ray.path - bare.path
    return BeamTruth(
        displacement_y=pixel_y - reference_y + comparable,
        displacement_x=pixel_x - reference_x + comparable,
        reference_y=reference_y,
        reference_x=reference_x,
        slope_y=slope_y,
        slope_x=slope_x,
        wavefront=ray.path - np.nanmean(ray.path),
        difference_slope_y=slope_y - bare_y,
        difference_slope_x=slope_x - bare_x,
        difference=difference - np.nanmean(difference),
    )
