"""What an experiment fits to each wavefront: lens, modes, mirror, focus."""

import difflib
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import (
    ABERRATION,
    ABERRATION_PV,
    ABERRATION_RMS,
    APERTURE,
    APERTURE_CENTER_X,
    APERTURE_CENTER_Y,
    APERTURE_WIDTH_X,
    APERTURE_WIDTH_Y,
    COEFFICIENT,
    CURVATURE_UNCERTAINTY_X,
    CURVATURE_UNCERTAINTY_Y,
    CURVATURE_X,
    CURVATURE_Y,
    FIGURE_ERROR,
    FOCUSING_MODES,
    FRAME,
    LOCAL_RADIUS,
    MIRROR_POINT,
    MIRROR_POSITION,
    MODE_NAME,
    MODES_RESIDUAL_RMS,
    QUANTITIES,
    RESIDUAL,
    RESIDUAL_RMS,
    SLOPE_UNCERTAINTY_X,
    SLOPE_UNCERTAINTY_Y,
    SLOPE_X,
    SLOPE_Y,
    THICKNESS,
    TILT_MODES,
    TRANSMISSION,
    WAVEFRONT,
    WAVEFRONT_UNCERTAINTY,
    WINDOW,
    X,
    Y,
    labelled,
)
from wavedask.errors import InputError
from wavedask.experiment.model import Experiment
from wavedask.experiment.naming import naming
from wavedask.experiment.optic_sections import Focus, Lens, Mirror, Modes, Pupil
from wavedask.experiment.pupils import pupil_mask
from wavedask.facts import agreed_energy, agreed_number
from wavedask.maps import Output, map_by_map
from wavedask.optics import find_focus, fit_lens, legendre, mirror, remove, zernike
from wavedask.units import (
    DISTANCE,
    ENERGY,
    SOURCE_DISTANCE,
    WAVELENGTH,
    relabelled,
)

Evaluate = Callable[[xr.Dataset], xr.Dataset]
"""A function of the maps of one frame."""

INSIDE: Final = "inside"
"""Name of the pupil among the maps of a frame."""
SLOPES: Final = (SLOPE_Y, SLOPE_X, SLOPE_UNCERTAINTY_Y, SLOPE_UNCERTAINTY_X, WINDOW)
SURFACE: Final = (WAVEFRONT, WAVEFRONT_UNCERTAINTY, *SLOPES)
CURVATURES: Final = (CURVATURE_Y, CURVATURE_X, CURVATURE_UNCERTAINTY_Y, CURVATURE_UNCERTAINTY_X)
FOUND: Final = (
    *(APERTURE, APERTURE_CENTER_Y, APERTURE_CENTER_X),
    *(APERTURE_WIDTH_Y, APERTURE_WIDTH_X),
)
"""What tells where an optic was found."""
FARTHEST: Final = 10
"""Lengths of the map that the middle of a mirror may lie outside of it."""

logger = logging.getLogger("wavedask")


def evaluated(result: xr.Dataset, experiment: Experiment, pupil: xr.DataArray | None) -> xr.Dataset:
    """Add what the sections of the optic ask for to a result.

    Parameters
    ----------
    result : xarray.Dataset
        Wavefronts, or curvatures without a wavefront.
    experiment : Experiment
        The experiment with its sections.
    pupil : xarray.DataArray of bool, dims (y, x), optional
        Pixels to use; None for all, or those where the optic is found.

    Returns
    -------
    xarray.Dataset
        `result` with maps, profiles and numbers per frame; lazy if `result` is.

    Raises
    ------
    InputError
        Settings that do not fit the result; the message names the section.
    """
    inside = pupil
    section = experiment.pupil
    if experiment.lens is not None:
        with naming("lens"):
            found = _lens(result, experiment.lens, section, pupil)
        result = result.assign(found.data_vars).assign_coords(found.coords)
        result = result.assign_attrs(found.attrs)
    elif section is not None and section.auto:
        with naming("pupil"):
            found = fit_lens(result)[[quantity.name for quantity in FOUND]]
        found[APERTURE.name].attrs.update(APERTURE.attrs)
        result = result.assign(found.data_vars)
    if section is not None and section.auto:
        inside = result[APERTURE.name]
    if experiment.modes is not None:
        with naming("modes"):
            found = _modes(result, experiment.modes, section, inside)
        result = result.assign(found.data_vars).assign_coords(found.coords)
        result = result.assign_attrs(found.attrs)
    if experiment.mirror is not None:
        with naming("mirror"):
            result = result.assign(_mirror(result, experiment.mirror, inside).data_vars)
    if experiment.focus is not None:
        with naming("focus"):
            result = result.assign(_focus(result, experiment.focus, inside).data_vars)
    return result


def _lens(
    result: xr.Dataset, lens: Lens, section: Pupil | None, pupil: xr.DataArray | None
) -> xr.Dataset:
    """Fit a lens to each wavefront: its numbers, and the map of its residual."""
    given = dict(lens)
    if lens.material is not None and agreed_energy(None, None, {"the wavefront": result}) is None:
        raise InputError(
            f"the refractive index of {lens.material!r} needs the photon energy",
            "Give wavefront.energy in keV, or lens.delta.",
        )
    if isinstance(lens.aperture, tuple):
        pupil_mask(Pupil(circle=lens.aperture), result, key=APERTURE.name)
    if pupil is not None:
        circle = None if section is None else section.circle
        given.update(aperture=pupil if circle is None else circle)
    found = fit_lens(result, **given)
    if FIGURE_ERROR.name in found:
        # The figure error is the residual in metres of material, and the thickness that of the lens
        # with it.
        found = found.drop_vars([RESIDUAL.name, THICKNESS.name])
    return found


def _modes(
    result: xr.Dataset, section: Modes, pupil: Pupil | None, inside: xr.DataArray | None
) -> xr.Dataset:
    """Fit modes to each wavefront: coefficients, and the wavefront without some modes."""
    # A circle or rectangle is that of the modes themselves, also where it leaves the map.
    shape: Any = None if pupil is None else pupil.circle
    if section.basis == "legendre":
        shape = None if pupil is None else pupil.rectangle
    fixed = shape
    if fixed is None and pupil is not None and not pupil.auto:
        fixed = inside
    fit = _fitted(result, section, fixed)
    names = [str(name) for name in fit[MODE_NAME.name].values]
    removed = _removed(section, names)
    template = fit.drop_vars(RESIDUAL.name).rename({RESIDUAL_RMS.name: MODES_RESIDUAL_RMS.name})
    surface, number = result[WAVEFRONT.name], fit[RESIDUAL_RMS.name]
    template = template.assign(
        {
            ABERRATION.name: surface,
            ABERRATION_RMS.name: number,
            ABERRATION_PV.name: number,
        }
    )
    evaluate = partial(_modes_of_frame, section=section, shape=shape, removed=removed)
    found = by_frame(result, template, evaluate, maps=SURFACE, inside=inside, section="modes")
    coords = {
        name: coord for name, coord in fit.coords.items() if name not in (Y, X, *result.coords)
    }
    own = {key: value for key, value in fit.attrs.items() if key not in result.attrs}
    if pupil is not None and pupil.auto:
        # The disc of each frame is its own.
        own = {key: value for key, value in own.items() if not isinstance(value, list)}
    return found.assign_coords(coords).assign_attrs(own)


def _fitted(wf: xr.Dataset, section: Modes, pupil: Any) -> xr.Dataset:
    options: dict[str, Any] = {
        "order": section.order,
        "pupil": pupil,
        "orthonormal": section.orthonormal,
    }
    if section.basis == "legendre":
        return legendre(wf, **options)
    return zernike(wf, **options, index=section.index)


def _removed(section: Modes, names: list[str]) -> NDArray[np.bool_]:
    """Tell which modes are removed."""
    chosen = section.remove
    if chosen is None:
        chosen = tuple(name for name in (*TILT_MODES, *FOCUSING_MODES) if name in names)
    for name in chosen:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise InputError(
                f"remove names {name!r}, which is no mode up to order {section.order}",
                f"{hint}The modes are: {', '.join(names)}.",
            )
    return np.array([name in chosen for name in names])


def _modes_of_frame(
    single: xr.Dataset, *, section: Modes, shape: Any, removed: NDArray[np.bool_]
) -> xr.Dataset:
    """Fit modes to one wavefront, and take some of them out of it."""
    inside = single.get(INSIDE)
    wf = single.drop_vars(INSIDE, errors="ignore")
    fit = _fitted(wf, section, inside if shape is None else shape)
    taken = xr.DataArray(removed, dims=fit[COEFFICIENT.name].dims)
    part = fit.assign({COEFFICIENT.name: fit[COEFFICIENT.name].where(taken, 0.0)})
    left = remove(wf, part)[WAVEFRONT.name]
    if inside is not None:
        left = left.where(inside)
    left = left - left.mean()
    found = fit.drop_vars(RESIDUAL.name).rename({RESIDUAL_RMS.name: MODES_RESIDUAL_RMS.name})
    return found.assign(
        {
            ABERRATION.name: left,
            ABERRATION_RMS.name: (left**2).mean() ** 0.5,
            ABERRATION_PV.name: left.max() - left.min(),
        }
    )


def _mirror(result: xr.Dataset, section: Mirror, inside: xr.DataArray | None) -> xr.Dataset:
    """Compute profiles and numbers of a mirror, at as many positions as the map has pixels."""
    data = {"the wavefront": result}
    for name, given, key in (
        (DISTANCE, section.distance, "distance"),
        (SOURCE_DISTANCE, section.p, "p"),
    ):
        if agreed_number(name, given, data) is None:
            raise InputError(f"{name} is not known", f"Give mirror.{key}, or wavefront.{name}.")
    line = result[section.axis].values
    first, last = float(line.min()), float(line.max())
    length = FARTHEST * (last - first)
    if section.center is not None and not first - length < section.center < last + length:
        raise InputError(
            f"center is {section.center:g} m, and the map goes from {first:.4g} to {last:.4g} m "
            f"along {section.axis}",
            "Give the position on the detector of the ray from the middle of the mirror, in m.",
        )
    profiles, numbers = _names_of_mirror(section)
    points = result.sizes[section.axis]
    along, single = (MIRROR_POINT,), np.float64
    template = xr.Dataset(
        {name: (along, np.empty(points, single)) for name in profiles}
        | {name: ((), single(0)) for name in numbers}
    )
    evaluate = partial(_mirror_of_frame, section=section, points=points, profiles=profiles)
    return by_frame(
        result,
        template,
        evaluate,
        maps=(*SLOPES, *CURVATURES) if WAVEFRONT.name not in result else SLOPES,
        inside=inside,
        section="mirror",
    )


def _names_of_mirror(section: Mirror) -> tuple[list[str], list[str]]:
    """List the profiles and the numbers of a mirror, as `mirror` gives them for a perfect one."""
    place = np.linspace(-1e-4, 1e-4, 41)
    slopes = labelled(-np.tile(place / 0.4, (3, 1)), SLOPE_X, dims=(Y, X))
    perfect = xr.Dataset({SLOPE_X.name: slopes}, {Y: place[:3], X: place})
    found = mirror(perfect, axis=X, theta=3e-3, p=40.0, distance=0.1, shape=section.shape)
    along = (MIRROR_POSITION.name,)
    profiles = [str(name) for name, array in found.data_vars.items() if array.dims == along]
    numbers = [str(name) for name, array in found.data_vars.items() if not array.dims]
    return [*profiles, MIRROR_POSITION.name], numbers


def _mirror_of_frame(
    single: xr.Dataset, *, section: Mirror, points: int, profiles: list[str]
) -> xr.Dataset:
    """Compute a mirror from one frame, at a given number of positions."""
    inside = single.get(INSIDE)
    wf = single.drop_vars(INSIDE, errors="ignore")
    found = mirror(wf if inside is None else wf.where(inside), **dict(section))
    own = found[MIRROR_POSITION.name].values
    even = np.linspace(own[0], own[-1], points)
    lines = {
        # A radius is infinite where the mirror is flat; its curvature is zero there.
        name: 1 / np.interp(even, own, 1 / found[name].values)
        if name == LOCAL_RADIUS.name
        else np.interp(even, own, found[name].values)
        for name in profiles
    }
    numbers = {str(name): array for name, array in found.data_vars.items() if not array.dims}
    return xr.Dataset({**numbers, **{name: (MIRROR_POINT, line) for name, line in lines.items()}})


def _focus(result: xr.Dataset, section: Focus, inside: xr.DataArray | None) -> xr.Dataset:
    """Find the focus of each wavefront: numbers and caustics."""
    evaluate = partial(_focus_of_frame, section=section)
    return by_frame(
        result,
        evaluate(result),
        evaluate,
        maps=(*SURFACE, TRANSMISSION) if section.intensity == "measured" else SURFACE,
        inside=inside,
        section="focus",
    )


def _focus_of_frame(single: xr.Dataset, *, section: Focus) -> xr.Dataset:
    """Find the focus of one wavefront, or of a stack."""
    wf = single.drop_vars(INSIDE, errors="ignore")
    power = None
    if section.intensity == "uniform":
        power = xr.ones_like(wf[WAVEFRONT.name])
    if INSIDE in single:
        wf = wf.assign({WAVEFRONT.name: wf[WAVEFRONT.name].where(single[INSIDE])})
    return find_focus(wf, source_distance=section.source_distance, intensity=power)


def by_frame(
    result: xr.Dataset,
    template: xr.Dataset,
    evaluate: Evaluate,
    *,
    maps: Any,
    inside: xr.DataArray | None,
    section: str,
) -> xr.Dataset:
    """Evaluate each frame by itself; one that cannot be evaluated is NaN, and logged.

    Parameters
    ----------
    result : xarray.Dataset
        The maps.
    template : xarray.Dataset
        Variables of the outcome, with the dimensions and data types that each has for a frame; a
        dimension ``frame`` does not matter.
    evaluate : callable
        Takes the maps of one frame, with the attributes of `result`; and the map ``inside`` where
        there is a pupil.
    maps : sequence of Quantity
        Maps that it takes, as far as `result` has them.
    inside : xarray.DataArray of bool, optional
        Pupil: of all frames, or of each.
    section : str
        What is evaluated, for the log.

    Returns
    -------
    xarray.Dataset
        Lazy if `result` is.
    """
    names = [quantity.name for quantity in maps if quantity.name in result]
    arrays = [result[name] for name in names]
    if inside is not None:
        names.append(INSIDE)
        arrays.append(inside)
    arrays = [array.transpose(..., Y, X) for array in arrays]
    energy = agreed_energy(None, None, {"the wavefront": result})
    if energy is not None:
        names.append(ENERGY)
        arrays.append(xr.DataArray(energy, dims=(FRAME,) if np.ndim(energy) else ()))
    outputs = [str(name) for name in template.data_vars]
    dims = [[str(dim) for dim in template[name].dims if dim != FRAME] for name in outputs]
    sizes = {str(dim): size for dim, size in template.sizes.items() if dim != FRAME}
    dtypes = [template[name].dtype for name in outputs]
    found = map_by_map(
        _one_frame,
        *arrays,
        settings={
            "names": names,
            "axes": {dim: result[dim].to_numpy().astype(np.float64) for dim in (Y, X)},
            "attrs": {k: v for k, v in result.attrs.items() if k not in (ENERGY, WAVELENGTH)},
            "evaluate": evaluate,
            "outputs": {
                name: (tuple(sizes[dim] for dim in own), dtype)
                for name, own, dtype in zip(outputs, dims, dtypes, strict=True)
            },
            "section": section,
        },
        outputs=[Output(own, dtype) for own, dtype in zip(dims, dtypes, strict=True)],
        sizes=sizes,
    )
    return xr.Dataset(
        {
            name: relabelled(array, QUANTITIES[name])
            for name, array in zip(outputs, found, strict=True)
        }
    )


def _one_frame(
    *values: Any,
    names: list[str],
    axes: Mapping[str, NDArray[np.float64]],
    attrs: Mapping[str, Any],
    evaluate: Evaluate,
    outputs: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
    section: str,
) -> tuple[NDArray[Any], ...]:
    """Evaluate one frame: the arrays of the outcome."""
    given = dict(zip(names, values, strict=True))
    known = dict(attrs)
    if ENERGY in given:
        known[ENERGY] = float(given.pop(ENERGY))
    single = xr.Dataset(
        {name: ((Y, X), np.asarray(value)) for name, value in given.items()}, dict(axes), known
    )
    try:
        found = evaluate(single)
    except InputError as error:
        logger.warning("%s: a frame is not evaluated: %s", section, error)
        return tuple(np.full(shape, np.nan, dtype) for shape, dtype in outputs.values())
    return tuple(
        np.asarray(found[name].values, dtype).reshape(shape)
        for name, (shape, dtype) in outputs.items()
    )
