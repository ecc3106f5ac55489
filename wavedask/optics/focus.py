"""Where and how small the focus of a measured beam is, by diffraction."""

import logging
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from wavedask.conventions import (
    ASTIGMATIC_DIFFERENCE,
    ASTIGMATIC_DIFFERENCE_UNCERTAINTY,
    CAUSTIC_DISTANCE_X,
    CAUSTIC_DISTANCE_Y,
    CAUSTIC_POSITION_X,
    CAUSTIC_POSITION_Y,
    CAUSTIC_X,
    CAUSTIC_Y,
    FOCUS_DEPTH_X,
    FOCUS_DEPTH_Y,
    FOCUS_DISTANCE_UNCERTAINTY_X,
    FOCUS_DISTANCE_UNCERTAINTY_Y,
    FOCUS_DISTANCE_X,
    FOCUS_DISTANCE_Y,
    FOCUS_FWHM_UNCERTAINTY_X,
    FOCUS_FWHM_UNCERTAINTY_Y,
    FOCUS_FWHM_X,
    FOCUS_FWHM_Y,
    FOCUS_RMS_UNCERTAINTY_X,
    FOCUS_RMS_UNCERTAINTY_Y,
    FOCUS_RMS_X,
    FOCUS_RMS_Y,
    FOCUS_WIDTH_UNCERTAINTY_X,
    FOCUS_WIDTH_UNCERTAINTY_Y,
    FOCUS_WIDTH_X,
    FOCUS_WIDTH_Y,
    INTENSITY,
    METRE,
    PLANE,
    POINT,
    POSITION_X,
    POSITION_Y,
    PROPAGATED,
    SLOPE_UNCERTAINTY_X,
    SLOPE_UNCERTAINTY_Y,
    STREHL,
    STREHL_UNCERTAINTY,
    TRANSMISSION,
    WINDOW,
    Quantity,
    X,
    Y,
    labelled,
)
from wavedask.errors import InputError
from wavedask.facts import Names, agreed_energy, agreed_number
from wavedask.geometry import Errors, Geometry
from wavedask.maps import Output, map_by_map, one_chunk_per_map
from wavedask.optics.beam import Beam, beam_of
from wavedask.optics.caustic import PLANES, POINTS, Axis, Peak, along, strehl
from wavedask.optics.focus_errors import SetUp, focus_errors
from wavedask.optics.noise_modes import noise_modes
from wavedask.optics.surface import equal_steps, surface_of
from wavedask.units import (
    DISTANCE,
    HC_KEV_M,
    MEMBRANE_DISTANCE,
    MODE,
    SOURCE_DISTANCE,
    in_range,
    relabelled,
)

Floats = npt.NDArray[np.float64]

NUMBERS: Final[tuple[Quantity, ...]] = (
    FOCUS_DISTANCE_Y,
    FOCUS_DISTANCE_X,
    ASTIGMATIC_DIFFERENCE,
    FOCUS_FWHM_Y,
    FOCUS_FWHM_X,
    FOCUS_RMS_Y,
    FOCUS_RMS_X,
    FOCUS_WIDTH_Y,
    FOCUS_WIDTH_X,
    FOCUS_DEPTH_Y,
    FOCUS_DEPTH_X,
    STREHL,
)
"""Numbers of a focus, in the order of the vector that a map gives."""
ERRORS: Final[tuple[Quantity, ...]] = (
    FOCUS_DISTANCE_UNCERTAINTY_Y,
    FOCUS_DISTANCE_UNCERTAINTY_X,
    ASTIGMATIC_DIFFERENCE_UNCERTAINTY,
    FOCUS_FWHM_UNCERTAINTY_Y,
    FOCUS_FWHM_UNCERTAINTY_X,
    FOCUS_RMS_UNCERTAINTY_Y,
    FOCUS_RMS_UNCERTAINTY_X,
    FOCUS_WIDTH_UNCERTAINTY_Y,
    FOCUS_WIDTH_UNCERTAINTY_X,
    STREHL_UNCERTAINTY,
)
"""Their standard errors, in the order of `focus_errors`."""
STATED: Final = (SLOPE_UNCERTAINTY_Y, SLOPE_UNCERTAINTY_X, WINDOW)
NUMBER: Final = "number"
"""Dimension of the numbers, inside `map_by_map`."""
CAUSTIC: Final = ((PLANE, POINT), (PLANE,), (POINT,))
"""Dimensions of a caustic: power, distances and positions."""

logger = logging.getLogger("wavedask")


def find_focus(
    wf: xr.Dataset,
    *,
    energy: float | None = None,
    source_distance: float | None = None,
    intensity: xr.DataArray | None = None,
    sure: Names = (),
) -> xr.Dataset:
    r"""Propagate a measured wavefront to its focus; return place and size of the focus.

    The field has the measured phase, and the square root of the intensity as its amplitude. Its
    two curvatures are taken out as spheres, one for each axis (astigmatic form), and the rest is
    propagated by a Fresnel integral to planes around each focus. The profile along y, integrated
    over x, needs a transform along y only, because free space keeps the power of each line.

    Parameters
    ----------
    wf : xarray.Dataset
        Result of `wavefront`, in one piece.
    energy : float, optional
        Photon energy in keV; by default the one that `wf` states.
    source_distance : float, optional
        Distance from the source to the optic in m; by default that of `wf`. A differential
        wavefront lacks the curvature of the beam before the optic, and this gives it; without it
        the beam is taken as parallel.
    intensity : xarray.DataArray, optional
        Intensity of the beam on the detector, any unit, on the pixels of `wf`. By default the
        ``transmission`` of `wf`, or else a uniform beam.
    sure : str or sequence of str, optional
        ``"energy"`` or ``"source_distance"`` confirms an unusual value, and that the given one
        counts although `wf` states another.

    Returns
    -------
    xarray.Dataset
        Lazy if `wf` is. Per frame, for y and for x:

        * ``focus_distance_y``, ``focus_distance_x``: from the detector to the plane in which 80 %
          of the power lie in the smallest width, in m; positive downstream,
        * ``astigmatic_difference``: the first minus the second, in m,
        * ``focus_fwhm_...``, ``focus_rms_...``, ``focus_width_...``: full width at half maximum,
          rms width, and width with 80 % of the power (between the 10th and the 90th percentile), of
          the profile in this plane, in m. The rms width of a beam with sharp edges grows with the
          field that is looked at, here 24 widths of the smallest spot on either side,
        * ``focus_depth_...``: depth of focus, ``wavelength / NA**2``, in m,
        * ``strehl``: largest intensity of any plane between the foci, over that of the same
          amplitude with perfect spheres,
        * the same with ``_uncertainty`` (``focus_distance_uncertainty_y``): standard errors of all
          these except the depth; NaN if `wf` does not state those of its slopes,
        * ``caustic_y``, ``caustic_x``: profile in 61 planes, over six depths of focus on either
          side, as power per length in 1/m; along ``caustic_plane`` and ``caustic_point``, whose
          distances and positions are ``caustic_distance_...`` and ``caustic_position_...``, in m.

    Raises
    ------
    InputError
        No energy, a wavefront in several pieces (their relative heights are not known), or pixels
        that do not sample the field: the message has the numbers.

    Notes
    -----
    The beam is taken as coherent. The size of the source adds to the width of the profile.

    Standard errors count the noise of matching, correlated as integration leaves it, and the
    ``distance_error``, ``pixel_size_error`` and ``distortion_error`` that were given to
    `wavefront`. The largest independent errors of the wavefront are added to the field and taken
    from it, and the focus is computed again. Noise makes a focus wider and the Strehl ratio
    smaller; the standard errors include this bias.

    Examples
    --------
    A Gaussian beam with a waist of 1 um, 2 m downstream of the detector:

    >>> wavelength, waist, away = 1e-10, 1e-6, 2.0
    >>> rayleigh = np.pi * waist**2 / wavelength
    >>> x = np.linspace(-2e-4, 2e-4, 161)
    >>> square = x[:, None] ** 2 + x**2
    >>> radius = away * (1 + (rayleigh / away) ** 2)
    >>> width = waist * np.sqrt(1 + (away / rayleigh) ** 2)
    >>> wf = xr.Dataset(
    ...     {
    ...         "wavefront": (("y", "x"), -square / (2 * radius)),
    ...         "transmission": (("y", "x"), np.exp(-2 * square / width**2)),
    ...     },
    ...     {"y": x, "x": x},
    ... )
    >>> focus = find_focus(wf, energy=12.39842)
    >>> fwhm = waist * np.sqrt(2 * np.log(2))
    >>> print(f"{float(focus.focus_distance_x):.3f} m, {float(focus.focus_fwhm_x) / fwhm:.3f}")
    2.000 m, 1.000
    """
    surface, power, wavelength, curvature = _prepared(wf, energy, source_distance, intensity, sure)
    stated = [quantity.name for quantity in STATED]
    if not all(name in wf for name in stated):
        stated = []
    errors = [wf[name].transpose(..., Y, X) for name in stated]
    sizes = {NUMBER: len(NUMBERS) + len(ERRORS), PLANE: PLANES, POINT: POINTS}
    numbers, *caustics = map_by_map(
        _focus_of_map,
        surface,
        power,
        wavelength,
        *errors,
        settings={**_positions(surface), "setup": _setup(wf, curvature)},
        outputs=[Output(dims) for dims in ((NUMBER,), *CAUSTIC, *CAUSTIC)],
        sizes=sizes,
    )
    found = {
        quantity.name: relabelled(numbers.isel({NUMBER: place}), quantity)
        for place, quantity in enumerate((*NUMBERS, *ERRORS))
    }
    quantities = (
        *(CAUSTIC_Y, CAUSTIC_DISTANCE_Y, CAUSTIC_POSITION_Y),
        *(CAUSTIC_X, CAUSTIC_DISTANCE_X, CAUSTIC_POSITION_X),
    )
    for array, quantity in zip(caustics, quantities, strict=True):
        found[quantity.name] = relabelled(array, quantity)
    return xr.Dataset(found, attrs=wf.attrs)


def propagate(
    wf: xr.Dataset,
    distance: float,
    *,
    energy: float | None = None,
    source_distance: float | None = None,
    intensity: xr.DataArray | None = None,
    sure: Names = (),
) -> xr.Dataset:
    """Propagate the measured field of one frame to another plane; return the intensity there.

    Parameters
    ----------
    wf : xarray.Dataset, dims (y, x)
        Result of `wavefront` of one frame, in one piece. It is computed.
    distance : float
        From the detector to the plane, m; positive downstream.
    energy, source_distance, intensity, sure : optional
        As of `find_focus`.

    Returns
    -------
    xarray.Dataset
        ``intensity``: power per area in 1/m2, of a total power of 1, on coordinates in m about the
        middle of the beam.

    Raises
    ------
    InputError
        As of `find_focus`, or more than one frame.

    Notes
    -----
    The intensity has no standard errors: the errors of neighbouring pixels of a spot are
    correlated, and a map of them says little. `find_focus` states the errors of the position and
    the sizes of the focus.

    Examples
    --------
    >>> x = np.linspace(-1e-4, 1e-4, 64)
    >>> surface = -(x[:, None] ** 2 + x**2) / (2 * 1.5)
    >>> wf = xr.Dataset({"wavefront": (("y", "x"), surface)}, {"y": x, "x": x})
    >>> spot = propagate(wf, 1.5, energy=12.0).intensity
    >>> print(f"{float(spot.x[1] - spot.x[0]):.1e} m, {float(spot.max()):.1e} 1/m2")
    1.4e-07 m, 1.7e+12 1/m2
    """
    surface, power, wavelength, curvature = _prepared(wf, energy, source_distance, intensity, sure)
    if surface.ndim != 2 or wavelength.ndim:
        raise InputError(
            f"wf has the dimensions {surface.dims}", "Give one frame, as wf.isel(frame=0)."
        )
    away = float(distance)
    in_range("distance to propagate", abs(away), low=1e-9, high=1e6, unit=METRE)
    beam = beam_of(
        np.asarray(surface.values, np.float64),
        np.asarray(power.values, np.float64),
        wavelength=float(wavelength),
        curvature=curvature,
        **_positions(surface),
    )
    if beam is None:
        raise InputError("wf has no pixels with data", "Look at its wavefront.")
    field, places = beam.at(away)
    coords = {
        quantity.name: labelled(place, quantity, dims=(quantity.name,), units=METRE)
        for quantity, place in zip((POSITION_Y, POSITION_X), places, strict=True)
    }
    shown = labelled(np.abs(field) ** 2, INTENSITY, dims=(Y, X), coords=coords)
    return xr.Dataset({INTENSITY.name: shown}, attrs={**wf.attrs, PROPAGATED: away})


def _positions(surface: xr.DataArray) -> dict[str, Floats]:
    return {dim: np.asarray(surface[dim].values, np.float64) for dim in (Y, X)}


def _prepared(
    wf: xr.Dataset, energy: Any, source_distance: Any, intensity: xr.DataArray | None, sure: Names
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray, float]:
    """Return wavefront, intensity, wavelength, and the curvature of the beam that it lacks."""
    surface = surface_of(wf)
    equal_steps(surface)
    keV = agreed_energy(energy, None, {"wf": wf}, sure=sure)
    if keV is None:
        raise InputError(
            "the photon energy is not known", "Give energy in keV, here or to wavefront."
        )
    wavelength = xr.DataArray(HC_KEV_M / keV, dims=surface.dims[:-2] if np.ndim(keV) else ())
    source = agreed_number(SOURCE_DISTANCE, source_distance, {"wf": wf}, sure=sure)
    curvature = 0.0
    if wf.attrs.get(MODE) != "absolute" and source is not None and np.isfinite(source):
        curvature = 1 / (source + float(wf.attrs.get(DISTANCE, 0.0)))
    power = intensity
    if power is None:
        power = wf[TRANSMISSION.name] if TRANSMISSION.name in wf else xr.ones_like(surface)
    shape = {dim: surface.sizes[dim] for dim in (Y, X)}
    if {dim: power.sizes.get(dim) for dim in (Y, X)} != shape:
        raise InputError(
            f"intensity has the sizes {dict(power.sizes)}",
            f"It needs those of the wavefront: {shape}.",
        )
    power = one_chunk_per_map(power.transpose(..., Y, X)).drop_vars([Y, X], errors="ignore")
    return surface, power, wavelength, curvature


def _setup(wf: xr.Dataset, curvature: float) -> SetUp:
    """Return what errors of the set-up do."""
    absolute = wf.attrs.get(MODE) == "absolute"
    errors = Errors.from_attrs(wf.attrs)
    detectors = Geometry.from_attrs(wf.attrs) if absolute and errors.attrs else None
    if absolute and detectors is None:
        errors = Errors()
    lever = min(float(wf.attrs.get(name, np.inf)) for name in (DISTANCE, MEMBRANE_DISTANCE))
    return SetUp(errors, detectors, lever, curvature)


def _focus_of_map(
    surface: Floats,
    power: Floats,
    wavelength: float,
    *stated: npt.NDArray[Any],
    y: Floats,
    x: Floats,
    setup: SetUp,
) -> tuple[Floats, ...]:
    """Numbers with their errors, and caustics, of one map."""
    beam = beam_of(
        np.asarray(surface, np.float64),
        np.asarray(power, np.float64),
        y=y,
        x=x,
        wavelength=float(wavelength),
        curvature=setup.curvature,
    )
    if beam is None:
        logger.warning("find_focus: a frame has no beam: its pixels span no surface")
        plane, point = np.full(PLANES, np.nan), np.full(POINTS, np.nan)
        caustic = np.full((PLANES, POINTS), np.nan)
        return (np.full(len(NUMBERS) + len(ERRORS), np.nan), *((caustic, plane, point) * 2))
    parts = along(beam, 0), along(beam, 1)
    highest = strehl(beam, (parts[0].distance, parts[1].distance))
    numbers = np.array(_numbers(beam, *parts, highest))
    errors = _errors(beam, parts, highest, stated, setup)
    maps = [(part.caustic, part.distances, part.positions) for part in parts]
    return (np.concatenate([numbers, errors]), *maps[0], *maps[1])


def _numbers(beam: Beam, y: Axis, x: Axis, highest: Peak) -> list[float]:
    """List the numbers of a focus in the order of `NUMBERS`."""
    return [
        *(y.distance, x.distance, y.distance - x.distance),
        *(y.spot.fwhm, x.spot.fwhm, y.spot.rms, x.spot.rms, y.spot.width, x.spot.width),
        *(beam.depth(0), beam.depth(1), highest.strehl),
    ]


def _errors(
    beam: Beam,
    parts: tuple[Axis, Axis],
    highest: Peak,
    stated: tuple[npt.NDArray[Any], ...],
    setup: SetUp,
) -> Floats:
    """Return the standard errors of a focus; NaN where those of the slopes are not known."""
    unknown = np.full(len(ERRORS), np.nan)
    if not stated or not np.isfinite([highest.strehl, *(part.distance for part in parts)]).all():
        return unknown
    lit = np.abs(beam.field) > 0
    down, across = (np.where(lit, np.asarray(part, np.float64), np.inf) for part in stated[:2])
    step = beam.step(0), beam.step(1)
    noise = noise_modes((down, across), np.asarray(stated[2], np.float64), step)
    if noise is None:
        return unknown
    return focus_errors(beam, parts, highest, noise, setup.bends(beam))
