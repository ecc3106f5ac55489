"""Refractive lens: focal length, radius and figure error from its wavefront."""

import logging
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from wavedask.conventions import (
    CENTER_UNCERTAINTY_X,
    CENTER_UNCERTAINTY_Y,
    CENTER_X,
    CENTER_Y,
    DIMENSIONLESS,
    FIGURE_ERROR,
    FOCAL_LENGTH,
    FOCAL_LENGTH_UNCERTAINTY,
    FRAME,
    LONG_NAME,
    METRE,
    RADIUS,
    RADIUS_UNCERTAINTY,
    RADIUS_UNCERTAINTY_X,
    RADIUS_UNCERTAINTY_Y,
    RADIUS_X,
    RADIUS_Y,
    RESIDUAL,
    RESIDUAL_NOISE,
    RESIDUAL_RMS,
    RESIDUAL_RMS_UNCERTAINTY,
    SLOPE_UNCERTAINTY_X,
    SLOPE_UNCERTAINTY_Y,
    SURE,
    UNITS,
    WAVEFRONT,
    WINDOW,
    X,
    Y,
)
from wavedask.errors import InputError
from wavedask.facts import Names, agreed_energy, agreed_number, confirmed_facts, with_energy
from wavedask.geometry import Errors, Geometry, radius_effects
from wavedask.kernels.surface import mean_window
from wavedask.optics.material import refractive_decrement
from wavedask.optics.paraboloid import (
    MIN_PIXELS,
    Paraboloid,
    fitted_paraboloid,
    nothing,
)
from wavedask.units import (
    DISTANCE,
    MEMBRANE_DISTANCE,
    MODE,
    SOURCE_DISTANCE,
    in_range,
    number_of,
    one_chunk_per_map,
    relabelled,
)

FloatArray = npt.NDArray[np.float64]

DELTA: Final = "delta"
"""Attribute: refractive index decrement of the lens."""
MATERIAL: Final = "material"
"""Attribute: material of the lens, if it was given."""
LENSES: Final = "lenses"
"""Attribute: number of lenses in the stack."""
SURFACES: Final = "surfaces"
"""Attribute: number of parabolic surfaces of each lens."""

PARAMETER: Final = "paraboloid"
"""Dimension of the fitted parameters, inside `apply_ufunc`."""
PLAIN: Final = (
    CENTER_Y,
    CENTER_UNCERTAINTY_Y,
    CENTER_X,
    CENTER_UNCERTAINTY_X,
    RESIDUAL_RMS,
    RESIDUAL_RMS_UNCERTAINTY,
    RESIDUAL_NOISE,
)
"""Fields of a paraboloid that are given out as they are, by their names."""

logger = logging.getLogger("wavedask")


def fit_lens(
    wf: xr.Dataset,
    *,
    material: str | None = None,
    delta: float | None = None,
    density: float | None = None,
    energy: float | None = None,
    lenses: int = 1,
    surfaces: int = 2,
    source_distance: float | None = None,
    sure: Names = (),
) -> xr.Dataset:
    r"""Fit a paraboloid to a wavefront; return focal length, radius and figure error.

    The fit is linear least squares over the pixels with data,

    .. math:: W = c_0 + c_y y + c_x x - (y^2 + x^2) / 2 q,

    with a level :math:`c_0` for each separate piece: their relative heights are not known.

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
        Result of `wavefront`: ``wavefront`` in m with coordinates ``y`` and ``x`` in m, and the
        attributes ``distance`` (and ``mode`` and ``source_distance``, where it has them).
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
        Number n of parabolic surfaces of each lens.
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
        Lazy if `wf` is. Per frame:

        * ``focal_length``: f in m; positive for a focusing lens,
        * ``center_y``, ``center_x``: position at which the fitted wavefront has no slope, in m. A
          tilt of the beam, or a shift between sample and reference image, moves it,
        * ``residual``: wavefront without the fitted paraboloid, tilt and piston, in m,
        * ``residual_rms``: its root mean square over the pixels with data, in m,
        * ``residual_noise``: what noise of matching alone would make of it, in m,
        * ``focal_length_uncertainty``, ``center_uncertainty_y``, ``center_uncertainty_x``,
          ``residual_rms_uncertainty``: standard errors in m.

        And, if `material` or `delta` is given:

        * ``radius``: apex radius R of one surface in m, if all are alike,
        * ``radius_y``, ``radius_x``: the same with a separate curvature for each axis; they differ
          by astigmatism,
        * ``radius_uncertainty``, ``radius_uncertainty_y``, ``radius_uncertainty_x``: standard
          errors in m,
        * ``figure_error``: excess thickness in m along the beam, summed over all surfaces, at the
          position where its ray meets the detector.

        Standard errors count the noise of matching, correlated as integration leaves it, and the
        ``distance_error`` and ``pixel_size_error`` that were given to `wavefront`. Without standard
        errors of the slopes in `wf`, the noise is estimated from the residual. The error of
        ``residual_rms`` includes what noise adds to it: the figure of the lens is smaller, by about
        ``residual_noise**2 / (2 residual_rms)``. `wavedask.budget` tells the radius of the mean
        curvature, which is another one where there are aberrations.

        A frame with fewer than six pixels with data, or with all in one line, is NaN, and a
        warning is logged.

    Raises
    ------
    InputError
        If the wavefront, its coordinates or a distance is missing, if a value is outside its
        range or differs from what `wf` states, if `material` and `delta` are both given, or if the
        material is unknown.

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
    for name, count in (("lenses", lenses), ("surfaces", surfaces)):
        if number_of(name, count, unit=DIMENSIONLESS) < 1 or count != int(count):
            raise InputError(f"{name} is {count}", "It must be a whole number, at least 1.")
    attrs: dict[str, Any] = {**wf.attrs, LENSES: int(lenses), SURFACES: int(surfaces)}
    decrement, keV = _decrement(wf, material, delta, density, energy, sure)
    if material is not None:
        attrs[MATERIAL] = material

    source, before = _beam(wf, source_distance, distance, sure)
    if np.isfinite(source):
        attrs[SOURCE_DISTANCE] = source

    def focal_length(radius: xr.DataArray) -> xr.DataArray:
        focal: xr.DataArray = xr.apply_ufunc(
            _focal_length,
            radius,
            kwargs={"distance": distance, "source": source, "before": before},
            dask="parallelized",
            output_dtypes=[np.float64],
        )
        return focal

    fit, residual = _fit(wf, surface)
    relative = _radius_errors(wf, fit, distance, source)

    def with_error(part: str) -> tuple[xr.DataArray, xr.DataArray]:
        """Focal length of a curvature, and its standard error."""
        curvature = fit[f"curvature{part}"]
        error = np.hypot(fit[f"curvature{part}_error"], curvature * relative[part])
        # A flat wavefront has an infinite radius.
        focal, ahead, behind = (
            focal_length(-1 / c) for c in (curvature, curvature + error / 2, curvature - error / 2)
        )
        return focal, abs(ahead - behind)

    focal, focal_error = with_error("")
    variables = [
        relabelled(focal, FOCAL_LENGTH),
        relabelled(focal_error, FOCAL_LENGTH_UNCERTAINTY),
        relabelled(residual, RESIDUAL),
    ]
    variables += [relabelled(fit[quantity.name], quantity) for quantity in PLAIN]
    if confirmed := confirmed_facts(sure, {"wf": wf}):
        attrs[SURE] = confirmed
    if decrement is not None:
        power = surfaces * lenses * decrement
        for part, radius, uncertainty in (
            ("", RADIUS, RADIUS_UNCERTAINTY),
            ("_y", RADIUS_Y, RADIUS_UNCERTAINTY_Y),
            ("_x", RADIUS_X, RADIUS_UNCERTAINTY_X),
        ):
            focal, error = with_error(part)
            variables.append(relabelled(focal * power, radius))
            variables.append(relabelled(error * power, uncertainty))
        variables.append(relabelled(-residual / decrement, FIGURE_ERROR))
    result = xr.Dataset({v.name: v for v in variables}, attrs=attrs)
    return with_energy(_with_decrement(result, decrement), keV, sure=sure)


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
    if WAVEFRONT.name not in wf:
        raise InputError(
            f"wf has no {WAVEFRONT.name!r}; it has {', '.join(map(str, wf))}",
            "Give the result of wavefront.",
        )
    surface = wf[WAVEFRONT.name]
    for dim in (Y, X):
        if dim not in surface.dims or dim not in surface.coords:
            raise InputError(
                f"{WAVEFRONT.name} has the dimensions {surface.dims} and no coordinate {dim!r}",
                f"It needs the coordinates {Y!r} and {X!r} in {METRE}.",
            )
        unit = surface[dim].attrs.get(UNITS, METRE)
        if unit != METRE:
            raise InputError(f"coordinate {dim!r} is in {unit!r}", f"It must be in {METRE!r}.")
    if DISTANCE not in wf.attrs:
        raise InputError(
            f"wf has no attribute {DISTANCE!r}",
            "Give the result of wavefront, or set the distance from the optic to the detector in"
            " m: wf.assign_attrs(distance=...).",
        )
    distance = in_range(DISTANCE, wf.attrs[DISTANCE], low=1e-4, high=1e4, unit=METRE)
    if surface.chunks is not None:
        # Of the variable: DataArray.chunk() would make the coordinates lazy, too.
        surface = surface.copy(deep=False, data=surface.variable.chunk({Y: -1, X: -1}).data)
    return surface.transpose(..., Y, X), distance


def _beam(wf: xr.Dataset, given: Any, distance: float, sure: Names) -> tuple[float, float]:
    """Return the source distance, and the curvature of the beam that the wavefront lacks."""
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
    return source, 0.0 if mode == "absolute" else 1 / (source + distance)


def _focal_length(radius: Any, *, distance: float, source: float, before: float) -> Any:
    """Return the focal length of a lens from the radius q of its wavefront at a distance."""
    # A wavefront without curvature belongs to a lens without power.
    with np.errstate(divide="ignore"):
        curvature = before - 1 / radius
        return 1 / (1 / source - curvature / (1 - curvature * distance))


def _radius_errors(
    wf: xr.Dataset, fit: dict[str, xr.DataArray], distance: float, source: float
) -> dict[str, Any]:
    """Relative error of the radius of the wavefront by the set-up: of both axes together, y and x.

    As far as the errors were given to `wavefront`; an error of a pixel size does nothing to the
    radius of a differential wavefront.
    """
    errors = Errors.from_attrs(wf.attrs)
    if wf.attrs.get(MODE) == "absolute":
        setup = Geometry.from_attrs(wf.attrs)
        along = []
        for axis, name in enumerate(("y", "x")):
            with np.errstate(divide="ignore"):
                radius = 1 / fit[f"curvature_{name}"]
            effects = radius_effects(
                radius, fit[f"spread_{name}"], axis=axis, setup=setup, errors=errors
            )
            along.append(np.sqrt(sum((effect**2 for effect in effects.values()), start=0.0)))
        return {"": np.hypot(*along) / np.sqrt(2), "_y": along[0], "_x": along[1]}
    change = 0.0
    if errors.distance:
        # The detector moves: its lever and its distance to the source change.
        lever = min(distance, float(wf.attrs.get(MEMBRANE_DISTANCE, np.inf)))
        change = errors.distance[0] * (1 / lever + 1 / (source + distance))
    return {"": change, "_y": change, "_x": change}


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


def _fit(wf: xr.Dataset, surface: xr.DataArray) -> tuple[dict[str, xr.DataArray], xr.DataArray]:
    """Fit every map: numbers by the fields of `Paraboloid`, and the residual."""
    stated = [SLOPE_UNCERTAINTY_Y.name, SLOPE_UNCERTAINTY_X.name, WINDOW.name]
    arrays = [surface]
    if all(name in wf for name in stated):
        arrays += [wf[name] for name in stated]
    numbers, residual = xr.apply_ufunc(
        _fit_map,
        *map(one_chunk_per_map, arrays),
        kwargs={"y": surface[Y].to_numpy(), "x": surface[X].to_numpy()},
        input_core_dims=[[Y, X]] * len(arrays),
        output_core_dims=[[PARAMETER], [Y, X]],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[np.float64, surface.dtype],
        dask_gufunc_kwargs={"output_sizes": {PARAMETER: len(Paraboloid._fields)}},
        keep_attrs="override",
    )
    fields = {
        name: numbers.isel({PARAMETER: number}) for number, name in enumerate(Paraboloid._fields)
    }
    return fields, residual.assign_coords({Y: surface[Y], X: surface[X]})


def _fit_map(
    surface: npt.NDArray[Any], *others: Any, y: FloatArray, x: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Fit one map; return the fields of `Paraboloid` and the residual."""
    if np.count_nonzero(np.isfinite(surface)) < MIN_PIXELS:
        logger.warning("fit_lens: a frame has fewer than %d pixels with data", MIN_PIXELS)
        return np.array(nothing()), np.full(surface.shape, np.nan)
    heights, *maps = (np.asarray(part, np.float64) for part in (surface, *others))
    sigma = (maps[0], maps[1]) if maps else None
    window = mean_window(maps[2], maps[0]) if maps else np.nan
    found = fitted_paraboloid(heights, y=y, x=x, sigma=sigma, window=window)
    if found is None:
        logger.warning("fit_lens: the pixels with data of a frame do not span a plane")
        return np.array(nothing()), np.full(surface.shape, np.nan)
    numbers, residual = found
    return np.array(numbers), residual
