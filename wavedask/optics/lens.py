"""Refractive lens: focal length, radius, figure error and thickness from its wavefront."""

import math
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from wavedask import conventions as cv
from wavedask.conventions import DIMENSIONLESS, FRAME, LONG_NAME, METRE, SURE, UNITS
from wavedask.errors import InputError
from wavedask.facts import Names, agreed_energy, agreed_number, confirmed_facts, with_energy
from wavedask.optics.lens_frames import fit_maps
from wavedask.optics.lens_map import LEAST_SIDE, Verdict, Wanted
from wavedask.optics.lens_numbers import MATTER, lens_numbers
from wavedask.optics.material import refractive_decrement
from wavedask.optics.shapes import Beam
from wavedask.optics.surface import surface_of
from wavedask.units import (
    DISTANCE,
    MODE,
    SOURCE_DISTANCE,
    in_range,
    number_of,
    relabelled,
)

FloatArray = npt.NDArray[np.float64]
LensShape = Literal["paraboloid", "sphere", "cylinder", "crossed"]

SHAPES: Final = ("paraboloid", "sphere", "cylinder", "crossed")
DELTA: Final = "delta"
"""Attribute: refractive index decrement of the lens."""
MATERIAL: Final = "material"
"""Attribute: material of the lens, if it was given."""
LENSES: Final = "lenses"
"""Attribute: number of lenses in the stack."""
SURFACES: Final = "surfaces"
"""Attribute: number of curved surfaces of each lens."""
SHAPE: Final = "shape"
"""Attribute: shape that was fitted."""


def fit_lens(
    wf: xr.Dataset,
    *,
    shape: LensShape = "paraboloid",
    aperture: Literal["auto"] | tuple[float, float, float] | xr.DataArray | None = "auto",
    azimuth: float | None = None,
    geometric_aperture: float | None = None,
    material: str | None = None,
    delta: float | None = None,
    density: float | None = None,
    energy: float | None = None,
    lenses: int = 1,
    surfaces: int = 2,
    source_distance: float | None = None,
    sure: Names = (),
) -> xr.Dataset:
    r"""Fit a lens to the slopes of a wavefront; return focal length, radius and figure error.

    The fit is least squares over the slopes inside the aperture, each weighted with its standard
    error. A paraboloid is

    .. math:: W = c_y y + c_x x - (y^2 + x^2) / 2 q.

    Relative heights of separate pieces do not matter, because the slopes do not depend on them.

    Rays are straight, so that a lens of focal length f at the distance d in a parallel beam makes
    at the detector a wavefront of radius q = f - d; hence f = q + d. In a beam from a source at the
    distance L before the lens, the whole wavefront at the detector has the curvature

    .. math:: k = 1 / (L + d) - 1 / q \quad\text{(differential)}, \qquad
              k = -1 / q \quad\text{(absolute)},

    and :math:`k / (1 - k d)` directly behind the lens. The lens adds -1/f to the incident 1/L:
    :math:`1 / f = 1 / L - k / (1 - k d)`. A stack of N thin lenses, each with n parabolic
    surfaces of apex radius R, has f = R / (n N delta) (Lengeler et al., J. Synchrotron Rad. 6,
    1153, 1999, with n = 2); hence R.

    Material of thickness t has the path length W = -delta t relative to vacuum. The residual of W
    after the fit, divided by -delta, is therefore the excess of material.

    Parameters
    ----------
    wf : xarray.Dataset
        Result of `wavefront`: ``wavefront`` in m with coordinates ``y`` and ``x`` in m, ``slope_y``
        and ``slope_x`` in rad, and the attributes ``distance`` (and ``mode`` and
        ``source_distance``, where it has them). Without slopes they are derived from the wavefront.
    shape : {"paraboloid", "sphere", "cylinder", "crossed"}, default "paraboloid"
        * ``paraboloid``: surfaces of revolution,
        * ``sphere``: spherical surfaces; needs `material` or `delta`. Rays are traced from the lens
          to the detector,
        * ``cylinder``: a lens that focuses along one axis,
        * ``crossed``: two cylinders at a right angle, or any lens with astigmatism.
    aperture : "auto", (float, float, float), DataArray of bool or None, default "auto"
        Where the optic is: a circle, its centre (y, x) and radius in m; a mask with the dimensions
        (y, x); or None for the whole map. ``"auto"`` looks for a region whose curvature differs
        from that of its surroundings, without its rim of about one window; if there is none, the
        optic fills the map. The search needs a map about ten windows of the tracker wide: give the
        circle of a lens in a smaller one.
    azimuth : float, optional
        Angle in rad, from x toward y, of the direction in which a cylinder is curved, or of one
        axis of crossed cylinders. By default it is fitted.
    geometric_aperture : float, optional
        Width of the lens in m, to compare with the aperture.
    material : str, optional
        Chemical formula or name ("Be", "Al", "kapton"), for the refractive index by xraydb.
    delta : float, optional
        Refractive index decrement, instead of `material`.
    density : float, optional
        Density of `material` in g/cm3; by default that of xraydb.
    energy : float, optional
        Photon energy in keV, for `material`; by default the one that `wf` states, frame by frame if
        it changes.
    lenses : int, default 1
        Number N of lenses in the stack.
    surfaces : int, default 2
        Number n of curved surfaces of each lens.
    source_distance : float, optional
        Distance L from the source to the lens in m, infinite for a parallel beam; by default the
        attribute of `wf`. An absolute wavefront needs it, for the beam's own curvature is in it; a
        differential one has the source that `wavefront` was given, or else a parallel beam.
    sure : str or sequence of str, optional
        ``"energy"`` or ``"source_distance"`` confirms an unusual value, and that the given one
        counts although `wf` states another.

    Returns
    -------
    xarray.Dataset
        Lazy if `wf` is. Per frame, in m unless said otherwise:

        * ``focal_length``: f; positive for a focusing lens; of crossed cylinders that of the mean
          curvature, with ``focal_length_y`` and ``focal_length_x`` for the axes near y and x,
        * ``center_y``, ``center_x``: position at which the fitted wavefront has no slope (of a
          sphere, its apex in the plane of the lens). A tilt of the beam, or a shift between sample
          and reference image, moves it,
        * ``azimuth`` in rad, of cylinders: direction of the curvature, or of the axis near x,
        * ``residual``: wavefront without the fitted lens, tilt and piston; NaN outside of the
          aperture, as all maps of the lens,
        * ``residual_rms``, ``residual_range``: its root mean square and peak to valley over the
          aperture,
        * ``residual_noise``: rms that noise of matching alone would make of it,
        * the same with ``_uncertainty``: standard errors,
        * ``aperture``: pixels that were fitted (bool); ``aperture_center_y/_x`` and
          ``aperture_width_y/_x``: the middle and the extent of these,
        * ``explained_variance``: part of the variance of the slopes that the lens explains, 0 to 1,
        * ``verdict``: 0 if the fit can be a lens, else why not; the attributes ``flag_values`` and
          ``flag_meanings`` list the codes.

        And, if `material` or `delta` is given:

        * ``radius``: apex radius R of one surface, if all are alike,
        * ``radius_y``, ``radius_x``, of a paraboloid and of crossed cylinders: the same with a
          separate curvature for each axis; they differ by astigmatism,
        * ``figure_error``: excess thickness along the beam, summed over all surfaces, at the
          position where its ray meets the detector, with ``figure_error_rms`` and
          ``figure_error_range`` (peak to valley),
        * ``thickness``: of the lens above its apex, at the same position,
        * standard errors of all numbers.

        Standard errors count the noise of matching, correlated as the tracker leaves it, and the
        ``distance_error`` and ``pixel_size_error`` that were given to `wavefront`. Without standard
        errors of the slopes in `wf`, the noise is estimated from the residual. The error of
        ``residual_rms`` includes what noise adds to it: the figure of the lens is smaller, by about
        ``residual_noise**2 / (2 residual_rms)``. The peak to valley of noise alone is several times
        its standard error.

        A frame with fewer than six pixels with data, or with all in one line, or with several
        regions that could be the optic, is NaN, and a warning is logged.

    Raises
    ------
    InputError
        If the wavefront, its coordinates or a distance is missing, if a value is outside its
        range or differs from what `wf` states, if `material` and `delta` are both given, or if the
        material is unknown. When a single map is computed: if several regions could be the optic,
        or if the slopes are not those of the wavefront.

    See Also
    --------
    lens_contributions : focal length and radius of each lens of a stack that was built up.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> x = np.linspace(-2e-4, 2e-4, 21)
    >>> surface = -(x[:, np.newaxis] ** 2 + x**2) / (2 * (20.0 - 1.0))
    >>> wf = xr.Dataset(
    ...     {"wavefront": (("y", "x"), surface)}, {"y": x, "x": x}, {"distance": 1.0}
    ... )
    >>> lens = fit_lens(wf, delta=5e-6)
    >>> print(f"f = {float(lens.focal_length):.3f} m, R = {1e6 * float(lens.radius):.1f} um")
    f = 20.000 m, R = 200.0 um
    """
    surface, distance = _checked(wf)
    _check_choice(shape, azimuth)
    for name, count in (("lenses", lenses), ("surfaces", surfaces)):
        if number_of(name, count, unit=DIMENSIONLESS) < 1 or count != int(count):
            raise InputError(f"{name} is {count}", "It must be a whole number, at least 1.")
    attrs: dict[str, Any] = {
        **wf.attrs,
        LENSES: int(lenses),
        SURFACES: int(surfaces),
        SHAPE: shape,
    }
    decrement, keV = _decrement(wf, material, delta, density, energy, sure)
    if shape == "sphere" and decrement is None:
        raise InputError(
            "a sphere needs its refractive index: its aberration depends on the radius",
            "Give material or delta; or fit a paraboloid.",
        )
    if material is not None:
        attrs[MATERIAL] = material
    source = _source(wf, source_distance, sure)
    if np.isfinite(source):
        attrs[SOURCE_DISTANCE] = source
    beam = Beam(distance, source, absolute=wf.attrs.get(MODE) == "absolute")
    width = math.inf
    if geometric_aperture is not None:
        width = in_range("geometric_aperture", geometric_aperture, low=1e-9, high=10, unit=METRE)
    wanted = Wanted(shape, math.nan if azimuth is None else float(azimuth), beam, width)
    power = None if decrement is None else surfaces * lenses * decrement
    fit, maps = fit_maps(wf, surface, wanted, power, aperture)
    variables = list(lens_numbers(wf, fit, beam, power, shape))
    variables.append(relabelled(maps[cv.RESIDUAL.name], cv.RESIDUAL))
    variables.append(relabelled(maps["inside"], cv.APERTURE))
    verdict = relabelled(fit[cv.VERDICT.name].astype(np.uint8), cv.VERDICT)
    codes = {
        cv.FLAG_VALUES: [int(code) for code in Verdict],
        cv.FLAG_MEANINGS: " ".join(code.name.lower() for code in Verdict),
    }
    variables.append(verdict.assign_attrs(codes))
    if confirmed := confirmed_facts(sure, {"wf": wf}):
        attrs[SURE] = confirmed
    if decrement is not None:
        variables.append(relabelled(-maps[cv.RESIDUAL.name] / decrement, cv.FIGURE_ERROR))
        shape_and_figure = (maps["path"] + maps[cv.RESIDUAL.name]) / -decrement
        variables.append(relabelled(shape_and_figure.astype(surface.dtype), cv.THICKNESS))
        variables += [relabelled(fit[of.name] / decrement, what) for what, of in MATTER]
    result = xr.Dataset({v.name: v for v in variables}, attrs=attrs)
    return with_energy(_with_decrement(result, decrement), keV, sure=sure)


def _check_choice(shape: str, azimuth: float | None) -> None:
    if shape not in SHAPES:
        raise InputError(f"shape is {shape!r}", f"Use one of {', '.join(map(repr, SHAPES))}.")
    if azimuth is None:
        return
    if shape not in ("cylinder", "crossed"):
        raise InputError(
            f"azimuth is {azimuth!r} and shape is {shape!r}",
            "Only shape='cylinder' and shape='crossed' have one.",
        )
    if abs(number_of(cv.AZIMUTH.name, azimuth, unit=cv.RADIAN)) > 2 * math.pi:
        raise InputError(f"azimuth is {azimuth:g}", "Give an angle in rad: numpy.deg2rad(...).")


def _with_decrement(result: xr.Dataset, decrement: xr.DataArray | None) -> xr.Dataset:
    """State the decrement: an attribute, or a coordinate where it changes from frame to frame."""
    if decrement is None:
        return result
    if not decrement.ndim:
        return result.assign_attrs({DELTA: float(decrement)})
    attrs = {UNITS: DIMENSIONLESS, LONG_NAME: "refractive index decrement"}
    return result.assign_coords({DELTA: (decrement.dims, decrement.data, attrs)})


def _checked(wf: xr.Dataset) -> tuple[xr.DataArray, float]:
    """Return the wavefront, whole in y and x, and the distance."""
    surface = surface_of(wf)
    sides = surface.sizes[cv.Y], surface.sizes[cv.X]
    if min(sides) < LEAST_SIDE:
        raise InputError(
            f"the wavefront has {sides[0]} x {sides[1]} pixels",
            f"A fit of a lens needs at least {LEAST_SIDE} along each axis.",
        )
    if DISTANCE not in wf.attrs:
        raise InputError(
            f"wf has no attribute {DISTANCE!r}",
            "Give the result of wavefront, or set the distance from the optic to the detector in"
            " m: wf.assign_attrs(distance=...).",
        )
    distance = in_range(DISTANCE, wf.attrs[DISTANCE], low=1e-4, high=1e4, unit=METRE)
    return surface, distance


def _source(wf: xr.Dataset, given: Any, sure: Names) -> float:
    """Return the distance of the source; infinite for a parallel beam."""
    mode = wf.attrs.get(MODE)
    stated = agreed_number(SOURCE_DISTANCE, given, {"wf": wf}, sure=sure)
    if mode == "absolute" and stated is None:
        raise InputError(
            "wf is an absolute wavefront: it holds the curvature of the beam before the lens, too",
            "Give source_distance, from the source to the lens in m; math.inf if it is parallel.",
        )
    source = np.inf if stated is None else stated
    if mode == "differential" and SOURCE_DISTANCE not in wf.attrs and np.isfinite(source):
        raise InputError(
            f"source_distance is {source:g} m as given, and the wavefront was computed for a"
            " parallel beam",
            "Give it to wavefront, too: the slopes depend on it.",
        )
    return source


def _decrement(
    wf: xr.Dataset, material: Any, delta: Any, density: Any, energy: Any, sure: Names
) -> tuple[xr.DataArray | None, FloatArray | None]:
    """Return the refractive index decrement and the photon energy in keV, where known."""
    keV = agreed_energy(energy, None, {"wf": wf}, sure=sure)
    if delta is not None:
        if material is not None:
            raise InputError(f"material is {material!r} and delta is {delta!r}", "Give one.")
        checked = in_range(DELTA, delta, low=1e-12, high=0.1, unit=DIMENSIONLESS)
        return xr.DataArray(checked), keV
    if material is None:
        if density is not None:
            raise InputError(f"density is {density!r} without a material", "Give the material.")
        return None, keV
    if keV is None:
        raise InputError(
            f"the refractive index of {material!r} needs the photon energy",
            "Give energy in keV, here or to wavefront; or give delta.",
        )
    found = [
        refractive_decrement(material, energy=value, density=density)
        if np.isfinite(value)
        else np.nan
        for value in np.atleast_1d(keV)
    ]
    return xr.DataArray(np.reshape(found, keV.shape), dims=(FRAME,) if keV.ndim else ()), keV
