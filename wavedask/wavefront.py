"""Displacements -> slopes, wavefront, phase and curvature, in physical units."""

from typing import Any, Final, Literal

import numpy as np
import scipy.constants
import xarray as xr

from wavedask.conventions import (
    CORRELATION,
    CURVATURE_X,
    CURVATURE_Y,
    DISPLACEMENT_X,
    DISPLACEMENT_Y,
    LONG_NAME,
    METRE,
    PHASE,
    PIXEL,
    SLOPE_X,
    SLOPE_Y,
    UNCERTAINTY_X,
    UNCERTAINTY_Y,
    UNITS,
    Quantity,
    X,
    Y,
    labelled,
)
from wavedask.errors import InputError
from wavedask.integrate import Method, equal_step, integrate

DISTANCE: Final = "distance"
"""Attribute: distance from the optic to the detector, in m."""
PIXEL_SIZE: Final = "pixel_size"
"""Attribute: step of the detector's pixels along y and x, in m."""
ENERGY: Final = "energy_keV"
"""Attribute: photon energy, in keV; only where it is known."""
WAVELENGTH: Final = "wavelength"
"""Attribute: wavelength, in m; only where it is known."""

HC_KEV_M: Final = scipy.constants.h * scipy.constants.c / (1e3 * scipy.constants.e)
"""Photon energy times wavelength, in keV m."""

MIN_PIXELS: Final = 3
"""Pixels along an axis that a derivative of second order needs at a border."""


def wavefront(
    tracking: xr.Dataset,
    *,
    mode: Literal["differential"] = "differential",
    distance: float,
    pixel_size: float | tuple[float, float],
    energy: float | None = None,
    wavelength: float | None = None,
    method: Method = "least_squares",
) -> xr.Dataset:
    r"""Turn tracked displacements into the wavefront, in physical units.

    A ray that the optic deflects by an angle `s` arrives ``s * distance`` off the place of its
    reference, so that ``slope = displacement * pixel_size / distance``. Rays are straight: what is
    tracked at a detector pixel is the slope of the wavefront *in the plane of the detector*,
    relative to the reference beam. A thin lens of focal length f, at a distance d, has there a
    wavefront of radius f - d, that is :math:`W = -r^2 / 2 (f - d)`, and not
    :math:`-r^2 / 2 f`.

    Parameters
    ----------
    tracking : xarray.Dataset
        ``displacement_y`` and ``displacement_x`` in px, with the dimensions (y, x) or (frame, y,
        x), as of ``track``. Pixels that have no displacement, or an infinite ``uncertainty_y`` or
        ``uncertainty_x``, have no slope. Without coordinates ``y`` and ``x`` the pixels count
        from 0.
    mode : {"differential"}, default "differential"
        Sample and reference were recorded by the same detector, with and without the optic.
    distance : float
        Distance from the optic to the detector, in m.
    pixel_size : float or (float, float)
        Step of the detector's pixels, or the steps along (y, x), in m.
    energy : float, optional
        Photon energy in keV.
    wavelength : float, optional
        Wavelength in m, instead of `energy`. Without either there is no phase.
    method : {"least_squares", "frankot_chellappa", "grad2surf"}, default "least_squares"
        Method of integration; see `integrate`.

    Returns
    -------
    xarray.Dataset
        Lazy if `tracking` is, in one chunk per frame; coordinates ``y`` and ``x`` in m:

        * ``slope_y``, ``slope_x``: wavefront slopes in rad,
        * ``wavefront``: W in m, of zero mean over the pixels with data; grad W = slope,
        * ``phase``: 2 pi W / wavelength in rad, if `energy` or `wavelength` is given,
        * ``curvature_y``, ``curvature_x``: derivatives of ``slope_y`` along y and of ``slope_x``
          along x in 1/m, by central differences; NaN at and beside pixels without slope,
        * ``correlation``, if `tracking` has it.

        All other coordinates (the motors) are carried over. The attributes ``distance``,
        ``pixel_size`` (y, x), ``energy_keV`` and ``wavelength`` hold what was given.

    Raises
    ------
    InputError
        If displacements are missing or not in px, if a value is outside its physical range (the
        usual cause is its unit), or if both `energy` and `wavelength` are given.

    References
    ----------
    S. Berujon et al., Phys. Rev. Lett. 108, 158102 (2012): X-ray speckle tracking.

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
    if mode != "differential":
        raise InputError(f"mode is {mode!r}", "Use mode='differential'.")
    distance = in_range("distance", distance, low=1e-4, high=1e4, unit=METRE)
    pixels = _pixel_sizes(pixel_size)
    wavelength = _wavelength(energy, wavelength)
    slope_y = _slope(tracking, DISPLACEMENT_Y, UNCERTAINTY_Y, SLOPE_Y, pixels, distance=distance)
    slope_x = _slope(tracking, DISPLACEMENT_X, UNCERTAINTY_X, SLOPE_X, pixels, distance=distance)
    surface = integrate(slope_y, slope_x, method=method)
    variables = [slope_y, slope_x, surface]
    if wavelength is not None:
        variables.append(relabelled(surface * (2 * np.pi / wavelength), PHASE))
    variables += [_derivative(slope_y, CURVATURE_Y, Y), _derivative(slope_x, CURVATURE_X, X)]
    if CORRELATION.name in tracking:
        correlation = _one_chunk_per_map(tracking[CORRELATION.name])
        variables.append(relabelled(_in_metres(correlation, pixels), CORRELATION))
    given: dict[str, Any] = {DISTANCE: distance, PIXEL_SIZE: list(pixels)}
    if wavelength is not None:
        given |= {ENERGY: HC_KEV_M / wavelength, WAVELENGTH: wavelength}
    return xr.Dataset({v.name: v for v in variables}, attrs={**tracking.attrs, **given})


def in_range(name: str, value: float, *, low: float, high: float, unit: str) -> float:
    """Check that a physical value lies in its range.

    Parameters
    ----------
    name : str
        What the value is, for the message.
    value : float
        The value.
    low, high : float
        It lies between these, exclusive.
    unit : str
        Unit of all three, for the message.

    Returns
    -------
    float
        The value.

    Raises
    ------
    InputError
        If it lies outside.

    Examples
    --------
    >>> in_range("energy", 17000.0, low=0.01, high=1000.0, unit="keV")
    Traceback (most recent call last):
        ...
    wavedask.errors.InputError: energy is 17000 keV. It must lie between 0.01 and 1000 keV: ...
    """
    # NaN is not between anything.
    if not low < value < high:
        raise InputError(
            f"{name} is {value:g} {unit}",
            f"It must lie between {low:g} and {high:g} {unit}: is it given in another unit?",
        )
    return float(value)


def relabelled(array: xr.DataArray, quantity: Quantity) -> xr.DataArray:
    """Name an array anew: what was computed from one quantity is another.

    Parameters
    ----------
    array : xarray.DataArray
        Values; their own name and attributes are dropped.
    quantity : Quantity
        What they are.

    Returns
    -------
    xarray.DataArray
        The same values, dimensions and coordinates.

    Examples
    --------
    >>> relabelled(xr.DataArray([1.0], attrs={"units": "px"}), SLOPE_Y).attrs["units"]
    'rad'
    """
    dims = tuple(str(dim) for dim in array.dims)
    return labelled(array.data, quantity, dims=dims, coords=array.coords)


def _pixel_sizes(pixel_size: float | tuple[float, float]) -> tuple[float, float]:
    sizes = np.asarray(pixel_size, dtype=np.float64)
    if sizes.shape not in ((), (2,)):
        raise InputError(
            f"pixel_size is {pixel_size!r}", "Give one size, or one along y and one along x, in m."
        )
    along_y, along_x = (
        in_range("pixel_size", size, low=1e-9, high=1e-3, unit=METRE)
        for size in np.broadcast_to(sizes, 2).tolist()
    )
    return along_y, along_x


def _wavelength(energy: float | None, wavelength: float | None) -> float | None:
    if energy is not None and wavelength is not None:
        raise InputError(
            f"energy is {energy:g} keV and wavelength is {wavelength:g} m",
            "Give one of them; the other follows.",
        )
    if energy is not None:
        return HC_KEV_M / in_range("energy", energy, low=0.01, high=1000.0, unit="keV")
    if wavelength is not None:
        return in_range("wavelength", wavelength, low=1e-12, high=1.3e-7, unit=METRE)
    return None


def _slope(
    tracking: xr.Dataset,
    displacement: Quantity,
    uncertainty: Quantity,
    slope: Quantity,
    pixels: tuple[float, float],
    *,
    distance: float,
) -> xr.DataArray:
    """Slope of the wavefront from one component of the displacement."""
    values = _displacement(tracking, displacement)
    if uncertainty.name in tracking:
        # The tracker marks a point that it could not match by an infinite uncertainty.
        values = values.where(~np.isinf(tracking[uncertainty.name]))
    pixel = pixels[0] if displacement is DISPLACEMENT_Y else pixels[1]
    physical = _one_chunk_per_map(values) * (pixel / distance)
    return relabelled(_in_metres(physical, pixels), slope)


def _displacement(tracking: xr.Dataset, displacement: Quantity) -> xr.DataArray:
    if displacement.name not in tracking:
        raise InputError(
            f"tracking has no {displacement.name!r}; it has {', '.join(map(str, tracking))}",
            f"Give the result of track, with {DISPLACEMENT_Y.name} and {DISPLACEMENT_X.name}.",
        )
    values = tracking[displacement.name]
    unit = values.attrs.get(UNITS, PIXEL)
    if unit != PIXEL:
        raise InputError(f"{displacement.name} is in {unit!r}", f"It must be in {PIXEL!r}.")
    if any(values.sizes.get(dim, 0) < MIN_PIXELS for dim in (Y, X)):
        raise InputError(
            f"{displacement.name} has the dimensions {dict(values.sizes)}",
            f"It needs {Y!r} and {X!r}, each of {MIN_PIXELS} pixels or more.",
        )
    return values.transpose(..., Y, X)


def _one_chunk_per_map(array: xr.DataArray) -> xr.DataArray:
    """Put each map into one chunk, if the array is lazy: integration needs it whole."""
    if array.chunks is None:
        return array
    return array.chunk({dim: -1 if dim in (Y, X) else 1 for dim in array.dims})


def _in_metres(array: xr.DataArray, pixels: tuple[float, float]) -> xr.DataArray:
    """Give an array its coordinates y and x in metres, from its pixel numbers."""
    metres = {}
    for dim, pixel, words in ((Y, pixels[0], "vertical"), (X, pixels[1], "horizontal")):
        numbers = array[dim]
        if numbers.attrs.get(UNITS, PIXEL) != PIXEL:
            raise InputError(
                f"coordinate {dim!r} is in {numbers.attrs[UNITS]!r}",
                "Give the result of track, whose coordinates count pixels.",
            )
        attrs = {UNITS: METRE, LONG_NAME: f"{words} position on the detector"}
        metres[dim] = (dim, numbers.to_numpy() * pixel, attrs)
    return array.assign_coords(metres)


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
