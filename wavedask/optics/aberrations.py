"""Named Zernike and Legendre modes of a wavefront over its pupil, kept or removed."""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from wavedask.conventions import (
    COEFFICIENT,
    COEFFICIENT_UNCERTAINTY,
    COEFFICIENT_WAVES,
    COEFFICIENT_WAVES_UNCERTAINTY,
    CURVATURE_X,
    CURVATURE_Y,
    DIMENSIONLESS,
    FRAME,
    METRE,
    MODE_DEGREE,
    MODE_MIX,
    MODE_NUMBER,
    MODE_ORDER,
    OTHER_MODE,
    PHASE,
    RADIAN,
    SLOPE_X,
    SLOPE_Y,
    UNITS,
    WAVEFRONT,
    X,
    Y,
)
from wavedask.errors import InputError
from wavedask.facts import agreed_energy
from wavedask.maps import Output, map_by_map, one_chunk_per_map
from wavedask.optics.mode_names import INDICES, LEGENDRE, Index, zernike_orders
from wavedask.optics.modes import mode_orders
from wavedask.optics.wavefront_modes import (
    BASIS,
    CENTER,
    HALF_WIDTH,
    INDEX,
    Modes,
    check_wavefront,
    fitted_modes,
)
from wavedask.units import HC_KEV_M, number_of, relabelled

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

HIGHEST_ORDER: Final = 40
"""Order of a mode from which its recurrence loses accuracy."""
PIXELS_PER_ORDER: Final = 2
"""Pixels across the pupil that a degree needs, at least."""
MEASURES: Final = ((WAVEFRONT, METRE), (SLOPE_Y, RADIAN), (SLOPE_X, RADIAN))
"""Maps that hold modes, and their units."""


def zernike(
    wf: xr.Dataset,
    *,
    order: int,
    pupil: tuple[float, float, float] | xr.DataArray | None = None,
    index: Index = "noll",
    orthonormal: bool = False,
) -> xr.Dataset:
    """Fit Zernike modes to the slopes of a wavefront.

    All modes up to a radial order are fitted together, each slope weighted by its standard error.
    Piston has no slope and is left out.

    Parameters
    ----------
    wf : xarray.Dataset
        Result of `wavefront`.
    order : int
        Highest radial order n: 4 has the modes up to spherical aberration.
    pupil : (float, float, float) or DataArray of bool, optional
        Unit disc: its centre (y, x) and radius in m; or a mask with the dimensions (y, x), in whose
        smallest circle about its middle the modes are defined, and which may have any shape: an
        annulus, a hole, a rectangle. By default the largest circle in the map.
    index : {"noll", "osa", "fringe"}, default "noll"
        By what modes are numbered: Noll from 1, OSA/ANSI from 0, Fringe from 1. Noll and OSA modes
        have an rms of 1 over the disc, so that a coefficient is the rms that its mode adds. Fringe
        modes have the value 1 at the rim.
    orthonormal : bool, default False
        Whether the modes are made orthonormal over the pixels with data, in the order of their
        numbers (Gram and Schmidt). Coefficients then do not depend on which modes are fitted, and
        their squares add to the mean square of the modes. Over a full disc this changes nothing.

    Returns
    -------
    xarray.Dataset
        Lazy if `wf` is. Along ``mode_number``:

        * ``coefficient``, ``coefficient_uncertainty``: in m,
        * ``coefficient_waves``, ``coefficient_waves_uncertainty``: in wavelengths, if the photon
          energy is known,
        * ``coefficient_covariance``: along ``mode_number`` and ``other_mode``, in m2,
        * ``mode_name``: coordinate, such as "defocus", "coma x" (cosine), "astigmatism 45°",
        * ``mode_degree``, ``mode_order``: coordinates, n and m, negative for the sine,
        * ``mode_mix``: polynomials in each orthonormal mode, only then,

        and ``residual``, the wavefront without them, and ``residual_rms``, both in m. The angle of
        a mode counts from x toward y, that is toward larger row numbers.

        A frame of a stack with too few slopes is NaN, and a warning is logged.

    Raises
    ------
    InputError
        An order that is no whole number, or beyond what the pixels can tell; a pupil without
        pixels; units that do not fit. When a single map is computed: slopes that do not tell the
        modes apart.

    See Also
    --------
    remove : take modes out of a wavefront.
    legendre : modes of a rectangle.

    Examples
    --------
    >>> y, x = np.mgrid[-1e-3:1e-3:41j, -1e-3:1e-3:41j]
    >>> wf = xr.Dataset(
    ...     {
    ...         "wavefront": (("y", "x"), (y**2 + x**2) / 80.0),
    ...         "slope_y": (("y", "x"), y / 40.0),
    ...         "slope_x": (("y", "x"), x / 40.0),
    ...     },
    ...     {"y": y[:, 0], "x": x[0]},
    ... )
    >>> modes = zernike(wf, order=2)
    >>> for name, value in zip(modes.mode_name.values, modes.coefficient.values):
    ...     print(f"{name}: {abs(1e9 * value):.2f} nm")
    tilt x: 0.00 nm
    tilt y: 0.00 nm
    defocus: 3.61 nm
    astigmatism 45°: 0.00 nm
    astigmatism 0°: 0.00 nm
    """
    if index not in INDICES:
        raise InputError(f"index is {index!r}", f"Use one of {', '.join(map(repr, INDICES))}.")
    highest = _checked_order(order)
    _check_units(wf)
    y, x = _places(wf)
    mask, ends = _pupil(wf, pupil, round_pupil=True)
    center, radius = (ends[0], ends[1]), ends[2]
    _check_support(highest, radius, y, x)
    listed = zernike_orders(highest, index)[1:]
    modes = Modes(
        "zernike",
        tuple(one for _, one in listed),
        tuple(number for number, _ in listed),
        center,
        (radius, radius),
        index,
        mask,
        orthonormal,
    )
    return _with_waves(fitted_modes(wf, modes, strict=True), wf)


def legendre(
    wf: xr.Dataset,
    *,
    order: int,
    pupil: tuple[float, float, float, float] | xr.DataArray | None = None,
    orthonormal: bool = False,
) -> xr.Dataset:
    """Fit Legendre modes to the slopes of a wavefront: those of a rectangle.

    Parameters
    ----------
    wf : xarray.Dataset
        Result of `wavefront`.
    order : int
        Highest total degree of the products ``P_i(y) P_k(x)``.
    pupil : (float, float, float, float) or DataArray of bool, optional
        Rectangle: its centre (y, x) and half widths (y, x) in m; or a mask with the dimensions (y,
        x), in whose bounding rectangle the modes are defined. By default the map.
    orthonormal : bool, default False
        As of `zernike`.

    Returns
    -------
    xarray.Dataset
        As of `zernike`. Every mode has an rms of 1 over the rectangle; ``mode_number`` counts by
        total degree, then by falling degree in y; ``mode_name`` is "tilt y", "curvature x", "twist"
        or "P3(y) P1(x)"; ``mode_degree`` and ``mode_order`` are the degrees in y and x.

    Raises
    ------
    InputError
        As of `zernike`.

    Examples
    --------
    >>> y, x = np.mgrid[-1e-3:1e-3:41j, -2e-3:2e-3:81j]
    >>> wf = xr.Dataset(
    ...     {
    ...         "wavefront": (("y", "x"), x**2 / 80.0),
    ...         "slope_y": (("y", "x"), 0 * y),
    ...         "slope_x": (("y", "x"), x / 40.0),
    ...     },
    ...     {"y": y[:, 0], "x": x[0]},
    ... )
    >>> modes = legendre(wf, order=2).set_xindex("mode_name")
    >>> print(f"{1e9 * float(modes.coefficient.sel(mode_name='curvature x')):.2f} nm")
    14.91 nm
    """
    highest = _checked_order(order)
    _check_units(wf)
    y, x = _places(wf)
    mask, ends = _pupil(wf, pupil, round_pupil=False)
    _check_support(highest, min(ends[2:]), y, x)
    orders = mode_orders("legendre", (highest + 1) * (highest + 2) // 2)[1:]
    modes = Modes(
        "legendre",
        tuple(orders),
        tuple(range(1, len(orders) + 1)),
        (ends[0], ends[1]),
        (ends[2], ends[3]),
        LEGENDRE,
        mask,
        orthonormal,
    )
    return _with_waves(fitted_modes(wf, modes, strict=True), wf)


def remove(wf: xr.Dataset, modes: xr.Dataset) -> xr.Dataset:
    """Take modes out of a wavefront.

    Parameters
    ----------
    wf : xarray.Dataset
        Result of `wavefront`.
    modes : xarray.Dataset
        Result of `zernike`, `legendre` or `fit_wavefront`. Select those that are to be removed,
        ``modes.sel(mode_number=[2, 3, 4])``; all others are kept.

    Returns
    -------
    xarray.Dataset
        `wf` with ``wavefront``, ``slope_y``, ``slope_x``, ``phase``, ``curvature_y`` and
        ``curvature_x``, as far as it has them, without the modes; NaN outside the disc or rectangle
        of the modes. Lazy if `wf` or `modes` is. Standard errors stay as they are: those of the
        modes are not added.

    Raises
    ------
    InputError
        A dataset that holds no modes, or other frames than `wf`.

    Examples
    --------
    >>> y, x = np.mgrid[-1e-3:1e-3:41j, -1e-3:1e-3:41j]
    >>> wf = xr.Dataset(
    ...     {
    ...         "wavefront": (("y", "x"), (y**2 + x**2) / 80.0 + 1e-6 * x),
    ...         "slope_y": (("y", "x"), y / 40.0),
    ...         "slope_x": (("y", "x"), x / 40.0 + 1e-6),
    ...     },
    ...     {"y": y[:, 0], "x": x[0]},
    ... )
    >>> modes = zernike(wf, order=2)
    >>> level = remove(wf, modes.sel(mode_number=[2, 3]))
    >>> bool(abs(level.slope_x.mean()) < 1e-15)
    True
    """
    _check_units(wf)
    missing = [name for name in (BASIS, CENTER, HALF_WIDTH, INDEX) if name not in modes.attrs]
    if COEFFICIENT.name not in modes or missing:
        raise InputError(
            f"modes has no {COEFFICIENT.name!r} with the attributes {', '.join(missing)}",
            "Give the result of zernike, legendre or fit_wavefront.",
        )
    if MODE_NUMBER.name not in modes.dims:
        modes = modes.expand_dims(MODE_NUMBER.name)
    coefficient = modes[COEFFICIENT.name]
    if FRAME in coefficient.dims and coefficient.sizes[FRAME] != wf.sizes.get(FRAME):
        raise InputError(
            f"modes has {coefficient.sizes[FRAME]} frames and wf {wf.sizes.get(FRAME, 'none')}",
            "Give the modes of the same frames.",
        )
    orders, mixed = _removed(modes)
    half = np.broadcast_to(np.asarray(modes.attrs[HALF_WIDTH], np.float64), 2)
    known = Modes(
        modes.attrs[BASIS],
        orders,
        tuple(range(len(orders))),
        (float(modes.attrs[CENTER][0]), float(modes.attrs[CENTER][1])),
        (float(half[0]), float(half[1])),
    )
    y, x = _places(wf)
    (model,) = map_by_map(
        _model,
        mixed,
        dims=["polynomial"],
        settings={Y: y, X: x, "modes": known},
        outputs=[Output(("map", Y, X))],
        sizes={"map": 5, Y: y.size, X: x.size},
    )
    quantities = (WAVEFRONT, SLOPE_Y, SLOPE_X, CURVATURE_Y, CURVATURE_X)
    changed = {}
    for number, quantity in enumerate(quantities):
        if quantity.name in wf:
            before = one_chunk_per_map(wf[quantity.name])
            part = model.isel(map=number)
            after = (before - part.astype(before.dtype)).transpose(*before.dims)
            changed[quantity.name] = relabelled(after.assign_coords(before.coords), quantity)
    keV = agreed_energy(None, None, {"wf": wf})
    if PHASE.name in wf and keV is not None:
        waves = xr.DataArray(keV / HC_KEV_M, dims=(FRAME,) if keV.ndim else ())
        phase = changed[WAVEFRONT.name] * (2 * np.pi * waves)
        phase = phase.transpose(*changed[WAVEFRONT.name].dims).astype(wf[PHASE.name].dtype)
        changed[PHASE.name] = relabelled(phase, PHASE)
    return wf.assign(changed)


def _removed(modes: xr.Dataset) -> tuple[tuple[tuple[int, int], ...], xr.DataArray]:
    """Orders of polynomials, and their coefficients along the dimension ``polynomial``."""
    degrees = [modes[part.name].to_numpy() for part in (MODE_DEGREE, MODE_ORDER)]
    orders = [(int(n), int(m)) for n, m in zip(*degrees, strict=True)]
    coefficient = modes[COEFFICIENT.name]
    number, other = MODE_NUMBER.name, OTHER_MODE.name
    if MODE_MIX.name in modes:
        listed = _all_orders(modes)
        plain = (coefficient * modes[MODE_MIX.name]).sum(number)
        kept = tuple(listed[int(one)] for one in modes[other].to_numpy())
        return kept, plain.rename({other: "polynomial"}).drop_vars("polynomial")
    factors = Modes(
        modes.attrs[BASIS], tuple(orders), (), (0.0, 0.0), (1.0, 1.0), modes.attrs[INDEX]
    )
    plain = coefficient * xr.DataArray(factors.scales, dims=(number,))
    names = [name for name, coord in plain.coords.items() if number in coord.dims]
    return tuple(orders), plain.drop_vars(names).rename({number: "polynomial"})


def _all_orders(modes: xr.Dataset) -> dict[int, tuple[int, int]]:
    """Orders of all modes by their numbers."""
    highest = HIGHEST_ORDER
    if modes.attrs[BASIS] == "zernike":
        return dict(zernike_orders(highest, modes.attrs[INDEX]))
    return dict(enumerate(mode_orders("legendre", (highest + 1) * (highest + 2) // 2)))


def _model(coefficients: Floats, *, y: Floats, x: Floats, modes: Modes) -> Floats:
    """Sum of modes: heights, slopes and curvatures; NaN outside of the disc or rectangle."""
    down, across = (y - modes.center[0]) / modes.half[0], (x - modes.center[1]) / modes.half[1]
    maps = np.full((5, y.size, x.size), np.nan)
    if not np.isfinite(coefficients).all():
        return maps
    rows, columns = np.meshgrid(down, across, indexing="ij")
    maps[0] = modes.heights(coefficients, rows, columns)
    maps[1:3] = modes.slopes(coefficients, rows, columns) / np.reshape(modes.half, (2, 1, 1))
    maps[3] = np.gradient(maps[1], y, axis=0)
    maps[4] = np.gradient(maps[2], x, axis=1)
    return np.where(modes.inside(rows, columns), maps, np.nan)


def _checked_order(order: Any) -> int:
    value = number_of("order", order, unit=DIMENSIONLESS)
    if value != int(value) or not 1 <= value <= HIGHEST_ORDER:
        raise InputError(f"order is {order!r}", f"Give a whole number from 1 to {HIGHEST_ORDER}.")
    return int(value)


def _check_units(wf: xr.Dataset) -> None:
    check_wavefront(wf)
    for quantity, unit in MEASURES:
        stated = wf[quantity.name].attrs.get(UNITS, unit)
        if stated != unit:
            raise InputError(f"{quantity.name} is in {stated!r}", f"It must be in {unit!r}.")


def _check_support(order: int, half: float, y: Floats, x: Floats) -> None:
    """Refuse modes that are finer than the pixels."""
    step = max(abs(float(line[1] - line[0])) for line in (y, x))
    across = 2 * half / step
    if across < PIXELS_PER_ORDER * order:
        raise InputError(
            f"order is {order} and the pupil {across:.0f} pixels wide",
            f"An order needs {PIXELS_PER_ORDER} pixels: ask for order="
            f"{max(int(across) // PIXELS_PER_ORDER, 1)} or less, or give the pupil in m.",
        )


def _places(wf: xr.Dataset) -> tuple[Floats, Floats]:
    y, x = (wf[dim].to_numpy().astype(np.float64) for dim in (Y, X))
    return y, x


def _pupil(
    wf: xr.Dataset, pupil: Any, *, round_pupil: bool
) -> tuple[Mask | None, tuple[float, ...]]:
    """Return the mask of a pupil, and its centre (y, x) and radius or half widths (y, x) in m."""
    y, x = _places(wf)
    mask = None
    if isinstance(pupil, xr.DataArray):
        if set(pupil.dims) != {Y, X} or pupil.dtype != np.bool_:
            raise InputError(
                f"pupil has dimensions {pupil.dims} and data type {pupil.dtype}",
                f"Give a mask of bool with dimensions ({Y}, {X}).",
            )
        mask = pupil.transpose(Y, X).to_numpy()
        if mask.shape != (y.size, x.size):
            raise InputError(
                f"pupil has {mask.shape} pixels (y, x), and the wavefront {(y.size, x.size)}",
                "Give a mask on the pixels of the wavefront.",
            )
        rows, columns = np.nonzero(mask)
        if not rows.size:
            raise InputError("pupil holds no pixel", "Give a mask with pixels that are True.")
        place_y, place_x = y[rows], x[columns]
    else:
        place_y, place_x = np.meshgrid(y, x, indexing="ij")
    ends = [(float(line.min()), float(line.max())) for line in (place_y, place_x)]
    middle = [(low + high) / 2 for low, high in ends]
    half = [(high - low) / 2 for low, high in ends]
    if pupil is None or mask is not None:
        if not round_pupil:
            return mask, (*middle, *half)
        if mask is None:
            return None, (*middle, min(half))
        away = np.hypot(place_y - middle[0], place_x - middle[1])
        return mask, (*middle, float(away.max()))
    count = 3 if round_pupil else 4
    words = "its radius" if round_pupil else "half widths (y, x)"
    try:
        given = tuple(float(value) for value in pupil)
    except (TypeError, ValueError):
        given = ()
    usable = len(given) == count and all(map(math.isfinite, given))
    if not usable or not all(0 < value < 10 for value in given[2:]):
        raise InputError(
            f"pupil is {pupil!r}", f"Give a mask, or its centre (y, x) and {words}, in m."
        )
    if round_pupil:
        inside = np.hypot(place_y - given[0], place_x - given[1]) <= given[2]
    else:
        inside = (np.abs(place_y - given[0]) <= given[2]) & (np.abs(place_x - given[1]) <= given[3])
    if not inside.any():
        raise InputError(
            f"pupil {given} m holds no pixel: the map goes from {ends[0][0]:g} to {ends[0][1]:g} m"
            f" along y and from {ends[1][0]:g} to {ends[1][1]:g} m along x",
            "Give it in m, in the coordinates of the wavefront.",
        )
    return None, given


def _with_waves(fit: xr.Dataset, wf: xr.Dataset) -> xr.Dataset:
    """Add the coefficients in wavelengths, where the photon energy is known."""
    keV = agreed_energy(None, None, {"wf": wf})
    if keV is None:
        return fit
    waves = xr.DataArray(keV / HC_KEV_M, dims=(FRAME,) if keV.ndim else ())
    pairs = (
        (COEFFICIENT, COEFFICIENT_WAVES),
        (COEFFICIENT_UNCERTAINTY, COEFFICIENT_WAVES_UNCERTAINTY),
    )
    return fit.assign(
        {
            counted.name: relabelled(
                (fit[length.name] * waves).transpose(*fit[length.name].dims), counted
            )
            for length, counted in pairs
        }
    )
