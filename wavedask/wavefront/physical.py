"""Displacements -> slopes, wavefront, phase and curvature, in physical units."""

import math
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import xarray as xr

from wavedask.conventions import (
    CORRELATION,
    CURVATURE_X,
    CURVATURE_Y,
    METRE,
    PHASE,
    WINDOW,
    Quantity,
    X,
    Y,
)
from wavedask.errors import InputError
from wavedask.geometry import each, errors_of, geometry
from wavedask.units import (
    DISTANCE,
    ENERGY,
    HC_KEV_M,
    MEMBRANE_DISTANCE,
    MODE,
    PIXEL_SIZE,
    SOURCE_DISTANCE,
    WAVELENGTH,
    in_metres,
    in_range,
    pixel_sizes,
    relabelled,
    source_distance_of,
    wavelength_of,
)
from wavedask.wavefront.absolute import absolute_slopes
from wavedask.wavefront.differential import differential_slopes, slope_per_length
from wavedask.wavefront.integration import Method, equal_step, integrate
from wavedask.wavefront.noise import surface_uncertainty
from wavedask.wavefront.pupil import Circle, Roi, selected

MODES: Final = ("differential", "absolute")


def wavefront(
    tracking: xr.Dataset,
    *,
    mode: Literal["differential", "absolute"] = "differential",
    distance: float | tuple[float, float],
    pixel_size: float | tuple[Any, Any],
    source_distance: float | None = None,
    membrane_distance: float | None = None,
    energy: float | None = None,
    wavelength: float | None = None,
    roi: Roi | None = None,
    pupil: xr.DataArray | Circle | None = None,
    distance_error: float | tuple[float, float] | None = None,
    pixel_size_error: float | tuple[Any, Any] | None = None,
    distortion_error: float | tuple[float, float] | None = None,
    method: Method = "least_squares",
) -> xr.Dataset:
    r"""Turn tracked displacements into the wavefront, in physical units.

    Rays are straight: what is tracked at a detector pixel is the slope of the wavefront *in the
    plane of the detector*.

    *Differential*: one detector, with and without the optic; what the optic adds to the beam. A ray
    that it deflects by an angle a arrives ``a * distance`` off the place of its reference, so that
    ``slope = displacement * pixel_size / distance`` in a parallel beam. In a beam that diverges
    from a source, ``slope = displacement * pixel_size * (1/l - 1/t)``, with t the distance from
    source to detector, and l that to the detector from the optic, or from the membrane if it stands
    downstream of the optic. A thin lens of focal length f, at a distance d in a parallel beam, has
    at the detector a wavefront of radius f - d, that is :math:`W = -r^2 / 2 (f - d)`, and not
    :math:`-r^2 / 2 f`.

    *Absolute*: two detectors at once, one behind the other; the whole beam. A grain that lies at p1
    on the near detector and at p2 on the far one has travelled along the ray of slope ``(p2 s2 - p1
    s1) / (z2 - z1)``. How the detectors are shifted and turned against each other is not known to
    so small an angle: the tilt that a shift makes and the curl that a turn makes are taken out of
    the slopes, and returned. Their difference in scale is the curvature of the beam, and stays.

    Parameters
    ----------
    tracking : xarray.Dataset
        Result of `track`, with the dimensions (y, x) or (frame, y, x). Pixels that have no
        displacement, or an infinite ``uncertainty_y`` or ``uncertainty_x``, have no slope. Without
        coordinates ``y`` and ``x`` the pixels count from 0. For absolute mode, the tracking of the
        far detector's images in the near one's, with their `registration`.
    mode : {"differential", "absolute"}, default "differential"
        How it was measured.
    distance : float or (float, float)
        Distance from the optic to the detector in m; in absolute mode (z1, z2), to the near and to
        the far one.
    pixel_size : float or (float, float)
        Step of the detector's pixels, or the steps along (y, x), in m; in absolute mode (s1, s2),
        of the near and the far detector, each one step or a pair (y, x).
    source_distance : float, optional
        Distance from the source to the optic in m; without it the beam is taken as parallel. In
        absolute mode only `fit_lens` needs it.
    membrane_distance : float, optional
        Distance from the membrane to the detector in m, if it stands downstream of the optic.
        Differential mode only: in absolute mode it does not matter where the membrane stands.
    energy : float, optional
        Photon energy in keV.
    wavelength : float, optional
        Wavelength in m, instead of `energy`. Without either there is no phase.
    roi : (slice, slice), optional
        Region of pixel numbers along (y, x), half-open, to which the result is cut.
    pupil : DataArray of bool, dims (y, x), or (float, float, float), optional
        Where there is a wavefront: a mask of the detector's shape or the region's, or a circle, its
        centre (y, x) and its radius in pixels. There are no slopes outside.
    distance_error, pixel_size_error, distortion_error : optional
        Standard errors of `distance` (m) and `pixel_size` (m, not relative), and, in absolute mode,
        the rms error of undistorted positions (px); in absolute mode one for both detectors, or a
        pair. They go into the uncertainty of the radius of curvature, and into `budget`.
    method : {"least_squares", "frankot_chellappa", "grad2surf"}, default "least_squares"
        Method of integration; see `integrate`.

    Returns
    -------
    xarray.Dataset
        Lazy if `tracking` is, in one chunk per frame; coordinates ``y`` and ``x`` in m:

        * ``slope_y``, ``slope_x``: wavefront slopes in rad,
        * ``slope_uncertainty_y``, ``slope_uncertainty_x``: their standard errors from matching,
          pixel by pixel, if `tracking` has any; infinite where there is no slope,
        * ``wavefront``: W in m, of zero mean over the pixels with data; grad W = slope,
        * ``wavefront_uncertainty``: its standard error from matching in m, if `tracking` has
          uncertainties and ``window``; see `surface_uncertainty`. It is that of a wavefront of
          zero mean, with the tilt,
        * ``phase``: 2 pi W / wavelength in rad, if `energy` or `wavelength` is given,
        * ``curvature_y``, ``curvature_x``: derivatives of ``slope_y`` along y and of ``slope_x``
          along x in 1/m, by central differences; NaN at and beside pixels without slope,
        * ``correlation`` and ``window`` (px), if `tracking` has them: within a window, errors of
          neighbouring pixels are one.

        In absolute mode also, one number per frame:

        * ``radius_of_curvature_y``, ``radius_of_curvature_x``: of the wavefront at the far
          detector, from a fit to all slopes, in m; positive for a beam that diverges from a source
          so far upstream, negative for one that converges to a focus downstream,
        * ``radius_of_curvature_uncertainty_y``, ``..._x``: their standard errors in m, from
          matching and from the errors that were given, all other things taken as exact,
        * ``tilt_y``, ``tilt_x``: mean slope in rad that was taken out, if the first pixels of both
          detectors lie on a line along the beam,
        * ``detector_rotation``: rotation in rad of the near detector against the far one that was
          taken out, positive from y toward x.

        All other coordinates (the motors) are carried over. The attributes ``mode``, ``distance``
        (to the plane of the wavefront), ``pixel_size`` (y, x), ``energy_keV`` and ``wavelength``
        hold what was given.

    Raises
    ------
    InputError
        If displacements are missing or not in px, if a value is outside its physical range (the
        usual cause is its unit), if both `energy` and `wavelength` are given, if the far detector
        is not farther, if an absolute tracking has no registration or a differential one has, or
        if an argument belongs to the other mode.

    See Also
    --------
    wavedask.register : the two detectors of absolute mode.
    wavedask.budget : what each error does to the result.

    References
    ----------
    S. Berujon et al., Phys. Rev. Lett. 108, 158102 (2012): X-ray speckle tracking. S. Berujon et
    al., J. Synchrotron Rad. 22, 886 (2015): absolute mode with two detectors. E.-R. Cojocaru et
    al., EUCALL milestone M7.5 (2018), chapter 2.

    Examples
    --------
    A lens of 2 m focal length, 0.5 m before a detector with pixels of 1 um:

    >>> import numpy as np
    >>> import xarray as xr
    >>> y, x = np.mgrid[-8.0:9.0, -8.0:9.0]
    >>> magnification = 1 - 0.5 / 2.0
    >>> tracking = xr.Dataset(
    ...     {
    ...         "displacement_y": (("y", "x"), y - y / magnification),
    ...         "displacement_x": (("y", "x"), x - x / magnification),
    ...     }
    ... )
    >>> result = wavefront(tracking, distance=0.5, pixel_size=1e-6, energy=17.0)
    >>> print(round(float(-1 / result.curvature_x.mean()), 6), "m =", 2.0 - 0.5, "m")
    1.5 m = 1.5 m
    """
    if mode not in MODES:
        raise InputError(f"mode is {mode!r}", f"Use one of {', '.join(map(repr, MODES))}.")
    source = source_distance_of(source_distance)
    wavelength = wavelength_of(energy, wavelength)
    kept = selected(tracking, roi=roi, pupil=pupil)
    given = {
        "distance": distance_error,
        "pixel_size": pixel_size_error,
        "distortion": distortion_error,
    }
    if mode == "absolute":
        _refuse(mode, membrane_distance=membrane_distance)
        measured = _absolute(kept, distance, pixel_size, given)
    else:
        _refuse(mode, distortion_error=distortion_error)
        measured = _differential(kept, distance, pixel_size, source, membrane_distance, given)
    slope_y, slope_x = measured.maps[:2]
    surface = integrate(slope_y, slope_x, method=method)
    variables = [*measured.maps, surface]
    if len(measured.maps) > 2 and WINDOW.name in kept:
        window = kept[WINDOW.name].where(np.isfinite(slope_y.data)).mean((Y, X))
        sigma_y, sigma_x = measured.maps[2:4]
        variables.append(surface_uncertainty(sigma_y, sigma_x, window=window))
    if wavelength is not None:
        variables.append(relabelled(surface * (2 * np.pi / wavelength), PHASE))
    variables += [_derivative(slope_y, CURVATURE_Y, Y), _derivative(slope_x, CURVATURE_X, X)]
    for quantity in (CORRELATION, WINDOW):
        if quantity.name in kept:
            seen = in_metres(kept[quantity.name], measured.pixels)
            variables.append(relabelled(seen, quantity))
    attrs = {**tracking.attrs, MODE: mode, **measured.attrs}
    if math.isfinite(source):
        attrs[SOURCE_DISTANCE] = source
    if wavelength is not None:
        attrs |= {ENERGY: HC_KEV_M / wavelength, WAVELENGTH: wavelength}
    return xr.Dataset({v.name: v for v in (*variables, *measured.numbers)}, attrs=attrs)


class _Measured(NamedTuple):
    """What a mode gives: maps with the slopes first, numbers per frame, pixel sizes, attributes."""

    maps: list[xr.DataArray]
    numbers: list[xr.DataArray]
    pixels: tuple[float, float]
    attrs: dict[str, Any]


def _differential(
    tracking: xr.Dataset,
    distance: Any,
    pixel_size: Any,
    source: float,
    membrane: float | None,
    given: Mapping[str, Any],
) -> _Measured:
    if len(each(distance)) != 1:
        raise InputError(
            f"distance is {distance!r} with mode 'differential'",
            "Give one, from the optic to the detector, in m; or use mode='absolute'.",
        )
    length = in_range(DISTANCE, distance, low=1e-4, high=1e4, unit=METRE)
    pixels = pixel_sizes(pixel_size)
    errors = errors_of(detectors=1, **given)
    factor = slope_per_length(length, source_distance=source, membrane_distance=membrane)
    attrs = {DISTANCE: length, PIXEL_SIZE: list(pixels), **errors.attrs}
    if membrane is not None:
        attrs[MEMBRANE_DISTANCE] = float(membrane)
    return _Measured(differential_slopes(tracking, pixels, factor=factor), [], pixels, attrs)


def _absolute(
    tracking: xr.Dataset, distance: Any, pixel_size: Any, given: Mapping[str, Any]
) -> _Measured:
    setup = geometry(distance, pixel_size)
    errors = errors_of(detectors=2, **given)
    maps, numbers = absolute_slopes(tracking, setup, errors)
    return _Measured(maps, numbers, setup.pixel_far, {**setup.attrs, **errors.attrs})


def _refuse(mode: str, **arguments: object) -> None:
    """Refuse an argument that has no meaning in a mode."""
    for name, value in arguments.items():
        if value is not None:
            raise InputError(
                f"{name} is {value!r} with mode {mode!r}",
                "Leave it out: it does not enter this mode.",
            )


def _derivative(slope: xr.DataArray, quantity: Quantity, dim: str) -> xr.DataArray:
    """Differentiate along `dim` by central differences, of second order at the borders too."""
    curvature = xr.apply_ufunc(
        np.gradient,
        slope,
        equal_step(slope, dim),
        input_core_dims=[[dim], []],
        output_core_dims=[[dim]],
        kwargs={"axis": -1, "edge_order": 2},
        dask="parallelized",
        output_dtypes=[slope.dtype],
    )
    # A central difference skips its own pixel: without a slope there, it has no curvature either.
    curvature = curvature.transpose(*slope.dims).where(np.isfinite(slope))
    return relabelled(curvature, quantity)
