"""Convert displacements to slopes, wavefront, phase and curvature in physical units."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Literal, NamedTuple

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from wavedask.conventions import (
    CORRELATION,
    CURVATURE_X,
    CURVATURE_Y,
    FLAGS,
    FRAME,
    PHASE,
    REASON,
    SURE,
    WINDOW,
    Quantity,
    X,
    Y,
)
from wavedask.errors import InputError
from wavedask.facts import (
    Names,
    agreed_energy,
    agreed_number,
    agreed_pixels,
    confirmed_facts,
    with_energy,
)
from wavedask.geometry import each, errors_of, geometry
from wavedask.maps import one_chunk_per_map
from wavedask.tracking import check_scale, registration_of
from wavedask.units import (
    DISTANCE,
    HC_KEV_M,
    MEMBRANE_DISTANCE,
    MODE,
    PIXEL_SIZE,
    SOURCE_DISTANCE,
    in_metres,
    relabelled,
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
    distance: float | tuple[float, float] | None = None,
    pixel_size: float | tuple[Any, Any] | None = None,
    source_distance: float | None = None,
    membrane_distance: float | None = None,
    energy: float | npt.NDArray[Any] | xr.DataArray | None = None,
    wavelength: float | npt.NDArray[Any] | None = None,
    roi: Roi | None = None,
    pupil: xr.DataArray | Circle | None = None,
    distance_error: float | tuple[float, float] | None = None,
    pixel_size_error: float | tuple[Any, Any] | None = None,
    distortion_error: float | tuple[float, float] | None = None,
    method: Method = "least_squares",
    sure: Names = (),
) -> xr.Dataset:
    r"""Convert tracked displacements to the wavefront, in physical units.

    Rays are straight: the displacement at a detector pixel gives the slope of the wavefront *in the
    plane of the detector*.

    *Differential*: one detector, with and without the optic, shows what the optic adds to the beam.
    A ray that is deflected by an angle a arrives ``a * distance`` away from its reference, so that
    ``slope = displacement * pixel_size / distance`` in a parallel beam. In a beam that diverges
    from a source, ``slope = displacement * pixel_size * (1/l - 1/t)``, with t the distance from
    source to detector, and l that to the detector from the optic, or from the membrane if it stands
    downstream of the optic. A thin lens of focal length f, at a distance d in a parallel beam, has
    at the detector a wavefront of radius f - d, that is :math:`W = -r^2 / 2 (f - d)`, and not
    :math:`-r^2 / 2 f`.

    *Absolute*: two detectors at once, one behind the other, show the whole beam. A grain at p1 on
    the near detector and at p2 on the far one has travelled along the ray of slope ``(p2 s2 - p1
    s1) / (z2 - z1)``. The shift and the rotation of the detectors against each other are not known
    accurately enough: the tilt from a shift and the curl from a rotation are removed from the
    slopes, and returned. The difference in scale is the curvature of the beam, and is kept.

    Parameters
    ----------
    tracking : xarray.Dataset
        Result of `track`, with the dimensions (y, x) or (frame, y, x). Pixels that have no
        displacement, or an infinite ``uncertainty_y`` or ``uncertainty_x``, have no slope. Without
        coordinates ``y`` and ``x`` the pixels count from 0. For absolute mode, the tracking of the
        far detector's images in the near one's, with their `registration`.
    mode : {"differential", "absolute"}, default "differential"
        How it was measured.
    distance : float or (float, float), optional
        Distance from the optic to the detector in m; in absolute mode (z1, z2), to the near and to
        the far one. Optional if the tracking states it.
    pixel_size : float or (float, float), optional
        Step of the detector's pixels, or the steps along (y, x), in m; in absolute mode (s1, s2),
        of the near and the far detector, each one step or a pair (y, x). Optional if the tracking
        states it, from a calibration, `register`, `track_scan` or the files.
    source_distance : float, optional
        Distance from the source to the optic in m; without it the beam is taken as parallel. In
        absolute mode only `fit_lens` needs it.
    membrane_distance : float, optional
        Distance from the membrane to the detector in m, if it stands downstream of the optic.
        Differential mode only: in absolute mode it does not matter where the membrane stands.
    energy : float or array, shape (frames,), optional
        Photon energy in keV; by default the one that the tracking states, frame by frame if it
        changes.
    wavelength : float or array, shape (frames,), optional
        Wavelength in m, instead of `energy`. Where nobody states either, there is no phase.
    roi : (slice, slice), optional
        Region of pixel numbers along (y, x), half-open, to which the result is cut.
    pupil : DataArray of bool, dims (y, x), or (float, float, float), optional
        Where there is a wavefront: a mask of the detector's shape or the region's, or a circle, its
        centre (y, x) and its radius in pixels. There are no slopes outside. A mask with
        coordinates ``y`` and ``x`` is placed by them.
    distance_error, pixel_size_error, distortion_error : optional
        Standard errors of `distance` (m) and `pixel_size` (m, not relative), and, in absolute mode,
        the rms error of undistorted positions (px); in absolute mode one for both detectors, or a
        pair. They go into the uncertainty of the radius of curvature, and into `budget`.
    method : {"least_squares", "frankot_chellappa", "grad2surf"}, default "least_squares"
        Method of integration; see `integrate`.
    sure : str or sequence of str, optional
        Arguments whose values you confirm, such as ``sure="distance"``: an unusual value is
        accepted (an energy outside 1 to 200 keV, a pixel size outside 10 nm to 1 mm, a distance
        above 100 m, a source farther than 2 km), and the given value counts although the data state
        another. The result keeps the names in its attribute ``sure``.

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
        * ``phase``: 2 pi W / wavelength in rad, if the photon energy is known,
        * ``curvature_y``, ``curvature_x``: derivatives of ``slope_y`` along y and of ``slope_x``
          along x in 1/m, by central differences; NaN at and beside pixels without slope,
        * ``correlation``, ``reason`` and ``window``, if `tracking` has them: ``reason`` says why a
          pixel has no slope; errors of neighbouring pixels are correlated within ``window``, px,

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
        hold what was used; an energy that changes from frame to frame is the coordinate ``energy``.

    Raises
    ------
    InputError
        If displacements are missing or not in px; if a value is outside its physical or its usual
        range (the usual cause is its unit); if an argument and the data, or two places in the data,
        state different values; if the far detector is not farther; if an absolute tracking has no
        registration or a differential one has; or if an argument belongs to the other mode.

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
    data = {"the tracking": tracking}
    source = agreed_number(SOURCE_DISTANCE, source_distance, data, sure=sure)
    keV = agreed_energy(energy, wavelength, data, sure=sure)
    kept = selected(tracking, roi=roi, pupil=pupil)
    given = {
        "distance": distance_error,
        "pixel_size": pixel_size_error,
        "distortion": distortion_error,
    }
    if mode == "absolute":
        _refuse(mode, membrane_distance=membrane_distance)
        measured = _absolute(kept, distance, pixel_size, given, sure)
    else:
        _refuse(mode, distortion_error=distortion_error)
        lengths = (distance, math.inf if source is None else source, membrane_distance)
        measured = _differential(kept, lengths, pixel_size, given, sure)
    slope_y, slope_x = measured.maps[:2]
    surface = integrate(slope_y, slope_x, method=method)
    variables = [*measured.maps, surface]
    if len(measured.maps) > 2 and WINDOW.name in kept:
        sigma_y, sigma_x = measured.maps[2:4]
        window = in_metres(kept[WINDOW.name], measured.pixels)
        variables.append(surface_uncertainty(sigma_y, sigma_x, window=window))
    if keV is not None:
        # In the order of the surface's own dimensions, whatever those of the energy are.
        waves = xr.DataArray(keV / HC_KEV_M, dims=(FRAME,) if keV.ndim else ())
        phase = surface * (2 * np.pi * waves)
        variables.append(relabelled(phase.astype(surface.dtype), PHASE))
    variables += [_derivative(slope_y, CURVATURE_Y, Y), _derivative(slope_x, CURVATURE_X, X)]
    for quantity in (CORRELATION, WINDOW, REASON):
        if quantity.name in kept:
            seen = in_metres(kept[quantity.name], measured.pixels)
            codes = {name: seen.attrs[name] for name in FLAGS if name in seen.attrs}
            variables.append(relabelled(seen, quantity).assign_attrs(codes))
    attrs = {**tracking.attrs, MODE: mode, **measured.attrs}
    if source is not None and math.isfinite(source):
        attrs[SOURCE_DISTANCE] = source
    if confirmed := confirmed_facts(sure, data):
        attrs[SURE] = confirmed
    result = xr.Dataset({v.name: v for v in (*variables, *measured.numbers)}, attrs=attrs)
    return with_energy(result, keV, sure=sure)


class _Measured(NamedTuple):
    """Result of a mode: maps with the slopes first, numbers per frame, pixel sizes, attributes."""

    maps: list[xr.DataArray]
    numbers: list[xr.DataArray]
    pixels: tuple[float, float]
    attrs: dict[str, Any]


def _differential(
    tracking: xr.Dataset,
    lengths: tuple[Any, float, Any],
    pixel_size: Any,
    given: Mapping[str, Any],
    sure: Names,
) -> _Measured:
    """Measure with one detector; `lengths` are those of distance, source and membrane."""
    distance, source, membrane = lengths
    data = {"the tracking": tracking}
    if distance is not None and len(each(distance)) != 1:
        raise InputError(
            f"distance is {distance!r} with mode 'differential'",
            "Give one, from the optic to the detector, in m; or use mode='absolute'.",
        )
    length = agreed_number(DISTANCE, distance, data, sure=sure)
    pixels = agreed_pixels(pixel_size, data, sure=sure)
    if length is None or pixels is None:
        found = {DISTANCE: length, PIXEL_SIZE: pixels}
        missing = [name for name, value in found.items() if value is None]
        verb, it = ("is", "it") if len(missing) == 1 else ("are", "them")
        raise InputError(
            f"{' and '.join(missing)} {verb} not given, and the tracking does not state {it}",
            f"Give {it}, in m.",
        )
    membrane = agreed_number(MEMBRANE_DISTANCE, membrane, data, sure=sure)
    errors = errors_of(detectors=1, **given)
    for name, values in ((DISTANCE, length), (PIXEL_SIZE, pixels)):
        error = given[name]
        if error is not None and np.max(error) >= np.min(values):
            raise InputError(
                f"{name}_error is {error!r} m, and {name} is {values!r} m",
                "Give the standard error in m; it is smaller than the value.",
            )
    factor = slope_per_length(length, source_distance=source, membrane_distance=membrane)
    attrs = {DISTANCE: length, PIXEL_SIZE: list(pixels), **errors.attrs}
    if membrane is not None:
        attrs[MEMBRANE_DISTANCE] = membrane
    return _Measured(differential_slopes(tracking, pixels, factor=factor), [], pixels, attrs)


def _absolute(
    tracking: xr.Dataset, distance: Any, pixel_size: Any, given: Mapping[str, Any], sure: Names
) -> _Measured:
    setup = geometry(distance, pixel_size, {"the tracking": tracking}, sure=sure)
    if PIXEL_SIZE not in confirmed_facts(sure, {"the tracking": tracking}):
        check_scale(registration_of(tracking), setup.pixel_far, setup.pixel_near)
    errors = errors_of(detectors=2, **given)
    maps, numbers = absolute_slopes(tracking, setup, errors)
    return _Measured(maps, numbers, setup.pixel_far, {**setup.attrs, **errors.attrs})


def _refuse(mode: str, **arguments: object) -> None:
    """Refuse arguments that the mode does not use."""
    for name, value in arguments.items():
        if value is not None:
            raise InputError(
                f"{name} is {value!r} with mode {mode!r}",
                "Leave it out: it does not enter this mode.",
            )


def _derivative(slope: xr.DataArray, quantity: Quantity, dim: str) -> xr.DataArray:
    """Differentiate along `dim` by central differences, of second order at the borders too."""
    gradient = partial(_gradient, step=equal_step(slope, dim), axis=slope.dims.index(dim))
    values = one_chunk_per_map(slope).data
    lazy = isinstance(values, da.Array)
    # `apply_ufunc` would make a task for each frame at once.
    meta = np.empty((0,) * slope.ndim, slope.dtype)
    found = values.map_blocks(gradient, meta=meta) if lazy else gradient(values)
    return relabelled(slope.copy(deep=False, data=found), quantity)


def _gradient(slope: npt.NDArray[Any], *, step: float, axis: int) -> npt.NDArray[Any]:
    found = np.gradient(slope, step, axis=axis, edge_order=2)
    # A central difference does not use its own pixel: without a slope there, it has no curvature.
    gradient: npt.NDArray[Any] = np.where(np.isfinite(slope), found, np.nan)
    return gradient
