"""The lens that fits one wavefront map best, and the errors of what it says."""

import math
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from wavedask.conventions import AZIMUTH, CENTER_X, CENTER_Y, CURVATURE_X, CURVATURE_Y
from wavedask.errors import InputError
from wavedask.optics.figure import Figure, tangents
from wavedask.optics.lens_residual import levelled, noise_of, range_of, rms_of
from wavedask.optics.pieces import numbered_pieces
from wavedask.optics.shapes import (
    Beam,
    Cylinder,
    General,
    Quadric,
    Shape,
    Sphere,
    errors_of,
    lens_path,
)
from wavedask.optics.slopes import Slopes

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MIN_PIXELS: Final = 6
"""Pixels with data that a fit of five parameters and its residual need."""
LEAST_SIDE: Final = 3
"""Pixels along an axis that a derivative of second order needs."""
MOST_STEPS: Final = 30
"""Steps of Gauss and Newton."""
SETTLED: Final = 1e-6
"""Change of a parameter, in standard errors or parts of it, that is not worth another step."""
POOR: Final = 0.9
"""Part of the variance of the slopes that a lens explains at least."""
UNLIKE: Final = 0.9
"""Difference of the slopes from the derivatives of the wavefront, over the slopes, at most."""


class NoFitError(InputError):
    """A map without enough data for a fit."""


class Verdict(IntEnum):
    """Whether a fit can be a lens; where several hold, the largest counts."""

    PLAUSIBLE = 0
    """It looks like a focusing lens."""
    DEFOCUSING = 1
    """It spreads the beam; X-ray lenses focus: were sample and reference interchanged?"""
    POOR_FIT = 2
    """It explains less than 90 % of the variance of the slopes."""
    TOO_WIDE = 3
    """The aperture is wider than the lens."""
    NOT_FITTED = 4
    """There is no fit."""


class LensFit(NamedTuple):
    """A fitted lens; lengths in m, curvatures of the wavefront in 1/m, and standard errors.

    The curvatures `curvature_y` and `curvature_x` are those of a fit with one for each axis; along
    the axes of the lens for crossed cylinders. `residual_noise` is the rms of the noise in the
    residual. What a shape does not have is NaN.
    """

    curvature: float = math.nan
    curvature_y: float = math.nan
    curvature_x: float = math.nan
    azimuth: float = math.nan
    center_y: float = math.nan
    center_x: float = math.nan
    residual_rms: float = math.nan
    residual_range: float = math.nan
    curvature_error: float = math.nan
    curvature_y_error: float = math.nan
    curvature_x_error: float = math.nan
    azimuth_uncertainty: float = math.nan
    center_uncertainty_y: float = math.nan
    center_uncertainty_x: float = math.nan
    residual_rms_uncertainty: float = math.nan
    residual_range_uncertainty: float = math.nan
    residual_noise: float = math.nan
    explained_variance: float = math.nan
    aperture_center_y: float = math.nan
    aperture_center_x: float = math.nan
    aperture_width_y: float = math.nan
    aperture_width_x: float = math.nan
    spread_y: float = math.nan
    spread_x: float = math.nan
    verdict: float = float(Verdict.NOT_FITTED)


class Wanted(NamedTuple):
    """What to fit.

    Attributes
    ----------
    shape : str
        ``paraboloid``, ``sphere``, ``cylinder`` or ``crossed``.
    azimuth : float
        Angle in rad of an axis of a cylinder; NaN to fit it.
    beam : Beam
        Where the lens stands.
    width : float
        Geometric aperture of the lens in m; infinite if it is not known.
    """

    shape: str = "paraboloid"
    azimuth: float = math.nan
    beam: Beam = Beam(math.nan)
    width: float = math.inf


class Fitted(NamedTuple):
    """Result of the fit of one map.

    Attributes
    ----------
    lens : LensFit
    residual : ndarray of float64, shape (y, x)
        Wavefront without the lens, m; of zero mean over the pixels of each piece, and NaN where no
        pixel was fitted.
    path : ndarray of float64, shape (y, x)
        Path that the fitted lens adds, from its apex, m; NaN where no pixel was fitted.
    inside : ndarray of bool, shape (y, x)
        Pixels that were fitted.
    """

    lens: LensFit
    residual: Floats
    path: Floats
    inside: Mask


def fitted_lens(
    surface: Floats,
    slopes: tuple[Floats, Floats],
    *,
    y: Floats,
    x: Floats,
    sigma: tuple[Floats, Floats] | None = None,
    window: float = 1.0,
    inside: Mask | None = None,
    wanted: Wanted | None = None,
    power: float = math.nan,
) -> Fitted:
    """Fit a lens to the slopes of a map.

    Parameters
    ----------
    surface : ndarray of float64, shape (y, x)
        Wavefront in m; NaN where there is none.
    slopes : (ndarray, ndarray)
        Its slopes along y and x in rad.
    y, x : ndarray of float64
        Coordinates in m.
    sigma : (ndarray, ndarray), optional
        Standard errors of the slopes in rad. Without them the noise is estimated from what the fit
        leaves.
    window : float
        Side in pixels of the windows within which these errors are the same.
    inside : ndarray of bool, shape (y, x), optional
        Pixels that may be used.
    wanted : Wanted, optional
        By default a paraboloid.
    power : float
        Of a sphere: focal length times this is the radius.

    Returns
    -------
    Fitted

    Raises
    ------
    NoFitError
        Too few pixels, or pixels that do not span a plane.
    """
    wanted = Wanted() if wanted is None else wanted
    known = np.isfinite(surface)
    valid = known if inside is None else known & inside
    if np.count_nonzero(valid) < MIN_PIXELS:
        raise NoFitError(
            f"a map has fewer than {MIN_PIXELS} pixels with data", "Choose another region."
        )
    points = Slopes(*slopes, y=y, x=x, inside=valid, sigma=sigma, window=window)
    if points.y.size < MIN_PIXELS or not (np.ptp(points.y) and np.ptp(points.x)):
        raise NoFitError(
            "the pixels with data of a map do not span a plane", "Choose another region."
        )
    origin = float(np.mean(points.y)), float(np.mean(points.x))
    # Pixels without slopes, or without their errors, are not fitted.
    valid = points.valid
    shape, parameters = _start(points, origin, wanted, power)
    parameters, covariance, left = _solved(points, shape, parameters)
    numbers, errors = errors_of(shape, parameters, covariance)
    if wanted.shape == "paraboloid":
        axes = Quadric(_forms(0.0, both=True), origin, (CURVATURE_Y.name, CURVATURE_X.name))
        more, more_errors = errors_of(axes, *_solved(points, axes, np.zeros(axes.count))[:2])
        for name in axes.names:
            numbers[name], errors[name] = more[name], more_errors[name]
    rows, columns = np.nonzero(known)
    place = y[rows], x[columns]
    # Refuses a lens without heights at the points, before these are computed.
    changes = tangents(shape, parameters, *place)
    left_heights = levelled(
        surface[known] - shape.heights(parameters, *place),
        changes,
        numbered_pieces(known)[known],
        valid[known],
    )
    residual = _filled(left_heights, known)
    path = np.full(surface.shape, np.nan)
    apex = np.array([numbers[CENTER_Y.name]]), np.array([numbers[CENTER_X.name]])
    if math.isfinite(wanted.beam.distance) and np.isfinite(apex).all():
        paths = lens_path(shape, parameters, wanted.beam, *place)
        if not isinstance(shape, Sphere):
            paths -= lens_path(shape, parameters, wanted.beam, *apex)
        path = _filled(paths, known)
    step = abs(float(y[1] - y[0])), abs(float(x[1] - x[0]))
    noise = noise_of(residual, valid, sigma, window, step)
    white = math.sqrt(noise.scatter)
    rms, rms_error, noise_rms = rms_of(residual, valid, noise.surface, step, white=white)
    spread, spread_error = range_of(residual, valid, noise.surface, white)
    ends = [(float(line.min()), float(line.max())) for line in (points.y, points.x)]
    widths = [high - low + one for (low, high), one in zip(ends, step, strict=True)]
    found = LensFit(
        **{name: value for name, value in numbers.items() if name in LensFit._fields},
        curvature_error=errors["curvature"],
        curvature_y_error=errors.get(CURVATURE_Y.name, math.nan),
        curvature_x_error=errors.get(CURVATURE_X.name, math.nan),
        azimuth_uncertainty=errors[AZIMUTH.name],
        center_uncertainty_y=errors[CENTER_Y.name],
        center_uncertainty_x=errors[CENTER_X.name],
        residual_rms=rms,
        residual_rms_uncertainty=rms_error,
        residual_noise=noise_rms,
        residual_range=spread,
        residual_range_uncertainty=spread_error,
        explained_variance=points.explained(left),
        aperture_center_y=sum(ends[0]) / 2,
        aperture_center_x=sum(ends[1]) / 2,
        aperture_width_y=widths[0],
        aperture_width_x=widths[1],
        spread_y=float(np.std(points.y)),
        spread_x=float(np.std(points.x)),
    )
    cut = isinstance(shape, Sphere) and shape.is_cut(parameters, points.y, points.x, points.values)
    found = found._replace(verdict=_verdict(found, wanted, cut=cut))
    # Beyond the aperture there is no lens, or one that was not asked for.
    residual, path = (np.where(valid, part, np.nan) for part in (residual, path))
    return Fitted(found, residual, path, valid)


def _filled(values: Floats, known: Mask) -> Floats:
    """Put values of the known pixels on the map, NaN elsewhere."""
    filled = np.full(known.shape, np.nan)
    filled[known] = values
    return filled


def _forms(azimuth: float, *, both: bool) -> Floats:
    """Quadratic forms of crossed cylinders (near y, near x), or of that near x alone."""
    sine, cosine = math.sin(azimuth), math.cos(azimuth)
    along, beside = np.array([sine, cosine]), np.array([cosine, -sine])
    pair = [np.outer(beside, beside), np.outer(along, along)]
    return np.stack(pair if both else pair[1:])


def _start(
    points: Slopes, origin: tuple[float, float], wanted: Wanted, power: float
) -> tuple[Shape, Floats]:
    """Choose a shape, and the parameters from which it is fitted."""
    round_lens = Quadric(np.eye(2)[None], origin, ("curvature",))
    if wanted.shape == "paraboloid":
        return round_lens, np.zeros(round_lens.count)
    if wanted.shape == "sphere":
        plain = _solved(points, round_lens, np.zeros(round_lens.count))[0]
        bent = wanted.beam.power(float(plain[2])) / power
        apex = round_lens.summary(plain)
        start = [apex[CENTER_Y.name], apex[CENTER_X.name]]
        if not np.isfinite(start).all():
            start = list(origin)
        return Sphere(wanted.beam, power), np.array([bent, *start, 0.0, 0.0])
    if math.isfinite(wanted.azimuth):
        both = wanted.shape == "crossed"
        names = (CURVATURE_Y.name, CURVATURE_X.name) if both else ("curvature",)
        fixed = Quadric(_forms(wanted.azimuth, both=both), origin, names, wanted.azimuth)
        return fixed, np.zeros(fixed.count)
    general = General(origin, cylinder=wanted.shape == "cylinder")
    if wanted.shape == "crossed":
        return general, np.zeros(general.count)
    plain = _solved(points, general, np.zeros(general.count))[0]
    axis = general.summary(plain)
    return Cylinder(origin), np.array([*plain[:2], axis["curvature"], axis[AZIMUTH.name]])


def _solved(points: Slopes, shape: Shape, parameters: Floats) -> tuple[Floats, Floats, Floats]:
    """Fit by Gauss and Newton: parameters, their covariance, and the slopes that are left.

    Figure errors are fitted, too; they are part of what is left.
    """
    _check_rays(points, shape, parameters)
    figure = Figure(points, shape, parameters)
    count = shape.count + figure.count
    inverse = np.zeros((count, count))
    change = np.zeros(count)

    def gradients(block: slice) -> Floats:
        place = points.y[block], points.x[block]
        lens = shape.jacobian(parameters, *place, points.values[:, block])
        if not figure.count:
            return lens
        return np.concatenate([lens, figure.gradients(block)], axis=1)

    for _ in range(1 if shape.linear else MOST_STEPS):
        left = points.values - shape.slopes(parameters, points.y, points.x, points.values)
        normal, right = points.normal(gradients, count, left)
        inverse = points.inverse(normal)
        change = inverse @ right
        parameters = parameters + change[: shape.count]
        _check_rays(points, shape, parameters)
        error = np.sqrt(np.diag(inverse))[: shape.count]
        floor = SETTLED * np.maximum(np.abs(parameters), error)
        if (np.abs(change[: shape.count]) <= floor).all():
            break
    left = points.values - shape.slopes(parameters, points.y, points.x, points.values)
    figured = np.append(np.zeros(shape.count), change[shape.count :])
    noise = left + points.left(gradients, figured) - points.values
    return parameters, points.covariance(gradients, inverse, noise, shape.count), left


def _check_rays(points: Slopes, shape: Shape, parameters: Floats) -> None:
    """Refuse a lens whose rays have no slopes at the points, such as one in a caustic."""
    if shape.linear:
        return
    with np.errstate(all="ignore"):
        parts = (
            shape.slopes(parameters, points.y, points.x, points.values),
            shape.jacobian(parameters, points.y, points.x, points.values),
        )
    if not all(np.isfinite(part).all() for part in parts):
        raise NoFitError(
            "no lens of this shape makes these slopes: its rays cross before the detector, or miss"
            " the lens",
            "Check the distance and the refractive index, or fit a paraboloid.",
        )


def _verdict(lens: LensFit, wanted: Wanted, *, cut: bool) -> float:
    """Say whether the fit can be a lens."""
    if not math.isfinite(lens.curvature):
        return float(Verdict.NOT_FITTED)
    beam = wanted.beam if math.isfinite(wanted.beam.distance) else Beam(0.0)
    width = max(lens.aperture_width_y, lens.aperture_width_x) * abs(beam.scale(lens.curvature))
    if cut or width > wanted.width:
        return float(Verdict.TOO_WIDE)
    if lens.explained_variance < POOR:
        return float(Verdict.POOR_FIT)
    return float(Verdict.DEFOCUSING if beam.power(lens.curvature) < 0 else Verdict.PLAUSIBLE)


def derived_slopes(surface: Floats, y: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Derive slopes from a wavefront that comes without, by central differences."""
    known = np.where(np.isfinite(surface), surface, np.nan)
    down, across = (
        np.asarray(np.gradient(known, line, axis=axis, edge_order=2), np.float64)
        for axis, line in enumerate((y, x))
    )
    return down, across


def check_slopes(surface: Floats, slopes: tuple[Floats, Floats], y: Floats, x: Floats) -> None:
    """Refuse slopes of another wavefront, which a later change of the wavefront has left behind."""
    derived = derived_slopes(surface, y, x)
    known = np.isfinite(derived[0]) & np.isfinite(derived[1])
    known &= np.isfinite(slopes[0]) & np.isfinite(slopes[1])
    if not known.any():
        return
    size, difference = (
        float(np.median(np.hypot(*(part[known] for part in pair))))
        for pair in (
            [part - np.median(part[known]) for part in slopes],
            [one - other for one, other in zip(slopes, derived, strict=True)],
        )
    )
    whole = float(np.median(np.hypot(*(part[known] for part in derived))))
    if difference > UNLIKE * max(size, whole):
        raise InputError(
            "the slopes are not the derivatives of the wavefront",
            "Change them with the wavefront, or drop them: wf.drop_vars(['slope_y', 'slope_x']).",
        )
