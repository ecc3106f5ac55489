"""Figure of a grazing mirror from the beam that it reflects."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import interpolate

from wavedask.conventions import (
    CURVATURE_UNCERTAINTY_X,
    CURVATURE_UNCERTAINTY_Y,
    CURVATURE_X,
    CURVATURE_Y,
    ELLIPSE_P,
    ELLIPSE_P_UNCERTAINTY,
    ELLIPSE_Q,
    ELLIPSE_Q_UNCERTAINTY,
    ELLIPSE_THETA,
    ELLIPSE_THETA_UNCERTAINTY,
    FRAME,
    HEIGHT_ERROR,
    HEIGHT_ERROR_PV,
    HEIGHT_ERROR_RMS,
    LOCAL_RADIUS,
    METRE,
    MIRROR_FREQUENCY,
    MIRROR_HEIGHT,
    MIRROR_POSITION,
    MIRROR_RADIUS,
    MIRROR_RADIUS_UNCERTAINTY,
    MIRROR_SLOPE,
    PSD_HEIGHT,
    RADIAN,
    SLOPE_ERROR,
    SLOPE_ERROR_RMS,
    SLOPE_ERROR_UNCERTAINTY,
    SLOPE_UNCERTAINTY_X,
    SLOPE_UNCERTAINTY_Y,
    SLOPE_X,
    SLOPE_Y,
    WINDOW,
    AxisName,
    Quantity,
    X,
    Y,
    labelled,
)
from wavedask.errors import InputError
from wavedask.facts import Names, agreed_number
from wavedask.maps import Output, map_by_map, one_chunk_per_map
from wavedask.optics.mirror_profile import (
    FREE,
    RADIUS_NAME,
    MirrorSetup,
    integrated,
    mirror_profile,
)
from wavedask.optics.reflection import LEAST
from wavedask.optics.spectrum import spectrum_of
from wavedask.optics.surface import check_values, surface_of
from wavedask.units import (
    DISTANCE,
    MODE,
    SOURCE_DISTANCE,
    in_range,
    relabelled,
)

Floats = npt.NDArray[np.float64]
Shape = Literal["plane", "cylinder", "ellipse"]

SHAPES: Final = ("plane", "cylinder", "ellipse")
ROUNDING: Final = 1e-6
"""Part of a step by which a position may lie outside of what a frame saw."""
PROFILE: Final = "profile"
NUMBER: Final = "number"
"""Dimensions of what a map is given, inside `map_by_map`."""
FITTED: Final[dict[str, dict[str, tuple[Quantity, Quantity]]]] = {
    "plane": {},
    "cylinder": {RADIUS_NAME: (MIRROR_RADIUS, MIRROR_RADIUS_UNCERTAINTY)},
    "ellipse": {
        "p": (ELLIPSE_P, ELLIPSE_P_UNCERTAINTY),
        "q": (ELLIPSE_Q, ELLIPSE_Q_UNCERTAINTY),
        "theta": (ELLIPSE_THETA, ELLIPSE_THETA_UNCERTAINTY),
    },
}
"""Numbers of each shape, with their standard errors."""
PROFILES: Final = (
    *(MIRROR_SLOPE, MIRROR_HEIGHT, SLOPE_ERROR),
    *(SLOPE_ERROR_UNCERTAINTY, HEIGHT_ERROR, LOCAL_RADIUS),
)
"""Profiles along the mirror."""
ALONG: Final = {Y: (SLOPE_Y, SLOPE_UNCERTAINTY_Y), X: (SLOPE_X, SLOPE_UNCERTAINTY_X)}
CURVED: Final = {
    Y: (CURVATURE_Y, CURVATURE_UNCERTAINTY_Y),
    X: (CURVATURE_X, CURVATURE_UNCERTAINTY_X),
}

Map = npt.NDArray[Any]

logger = logging.getLogger("wavedask")


def mirror(
    wf: xr.Dataset,
    *,
    axis: AxisName,
    theta: float,
    p: float | None = None,
    q: float | None = None,
    shape: Shape = "ellipse",
    free: tuple[str, ...] = ("q",),
    distance: float | None = None,
    center: float | None = None,
    sign: Literal[1, -1] = 1,
    positions: npt.ArrayLike | None = None,
    sure: Names = (),
) -> xr.Dataset:
    r"""Compute slope and height errors of a grazing mirror from the beam that it reflects.

    Each ray is traced from the detector back to the mirror. There its direction and that of the ray
    from the source give the normal of the surface, so that grazing angle and magnification are
    accounted for along the whole length. The slopes of the surface give its height, and the best
    plane, circle or ellipse is taken out of them.

    Close to the ideal shape, an error s of the surface turns a ray by 2 s, and at the same place on
    the detector the slope of the beam differs by :math:`2 s \, q / (q - d)`.

    Parameters
    ----------
    wf : xarray.Dataset
        Slopes of the reflected beam: result of `wavefront` in absolute mode, or with mode
        differential where the reference was taken with the same beam without the mirror; or
        curvatures of the beam from `track_scan` or `self_reference`, which are integrated. In
        differential mode the curvature of the beam, 1 / (p + d), is added.
    axis : "y" or "x"
        Axis of the detector along which the mirror reflects. A KB pair has one mirror for each.
    theta : float
        Grazing angle at the middle of the mirror, rad.
    p : float, optional
        Distance from the source to the mirror in m, infinite for a parallel beam; by default
        ``source_distance`` of `wf`.
    q : float, optional
        Distance from the mirror to the focus in m, kept where `free` does not name it; by default
        the best one.
    shape : "plane", "cylinder" or "ellipse", default "ellipse"
        Shape that the mirror should have.
    free : tuple of str, default ("q",)
        Numbers of the ellipse that are fitted: of "p", "q", "theta". The source of the beam and the
        angle by which rays are traced stay `p` and `theta`.
    distance : float, optional
        From the middle of the mirror to the detector, m; by default ``distance`` of `wf`.
    center : float, optional
        Position on the detector of the ray from the middle of the mirror, m; by default the middle
        of the pixels with data.
    sign : 1 or -1, default 1
        1 if rays of the downstream end of the mirror, close behind it, lie at larger positions.
    positions : array_like, optional
        Positions along the mirror, of equal steps, m. By default as many as there are pixels, over
        the part that the first frame with slopes shows: of a lazy stack, this frame is computed.
    sure : str or sequence of str, optional
        ``"source_distance"`` or ``"distance"`` confirms that the given one counts although `wf`
        states another.

    Returns
    -------
    xarray.Dataset
        Lazy if `wf` is. Along ``mirror_position`` in m, from the middle of the mirror downstream;
        NaN where a frame did not see the mirror:

        * ``mirror_slope``, ``mirror_height``: slope in rad and height in m of the surface,
        * ``slope_error``, ``slope_error_uncertainty``: slope without the shape and its tilt, and
          its standard error, in rad,
        * ``height_error``: height without the shape, tilt and mean, in m,
        * ``local_radius``: radius of curvature in m, positive where the mirror is concave,

        numbers per frame: ``slope_error_rms``, ``height_error_rms``, ``height_error_pv``;
        ``mirror_radius`` of a cylinder; ``ellipse_p``, ``ellipse_q``, ``ellipse_theta``, each with
        its standard error (zero where it was kept); and ``psd_height`` along ``mirror_frequency``
        in m3.

        A frame whose rays fit no mirror, or that has too few slopes, is NaN, and a warning is
        logged.

    Raises
    ------
    InputError
        No slopes or curvatures, no distances, a value out of range, rays that cross between mirror
        and detector, or slopes that do not tell the free numbers apart.

    Notes
    -----
    Slopes are averaged across the mirror, weighted by their errors. Errors of pixels within
    the window of the tracker count as one error.

    Examples
    --------
    A perfect ellipse focuses to a point, 0.4 m behind the detector:

    >>> x = np.linspace(-1e-4, 1e-4, 101)
    >>> wf = xr.Dataset(
    ...     {"slope_x": (("y", "x"), np.tile(-x / 0.4, (5, 1)))},
    ...     {"y": x[:5], "x": x},
    ...     {"mode": "absolute", "distance": 0.1, "source_distance": 40.0},
    ... )
    >>> found = mirror(wf, axis="x", theta=3e-3)
    >>> print(f"q = {float(found.ellipse_q):.4f} m, {1e9 * float(found.height_error_pv):.2f} nm")
    q = 0.5000 m, 0.00 nm
    """
    if axis not in ALONG:
        raise InputError(f"axis is {axis!r}", "Choose 'y' or 'x'.")
    if shape not in SHAPES:
        raise InputError(f"shape is {shape!r}", f"Choose from {', '.join(SHAPES)}.")
    if sign not in (1, -1):
        raise InputError(f"sign is {sign!r}", "Give 1 or -1.")
    if not {*free} <= {*FREE} or len({*free}) != len(free):
        raise InputError(f"free is {free!r}", f"Give names of {', '.join(FREE)}, each once.")
    angle = in_range("theta", theta, low=1e-4, high=1.0, unit=RADIAN)
    data = {"wf": wf}
    away = agreed_number(DISTANCE, distance, data, sure=sure)
    source = agreed_number(SOURCE_DISTANCE, p, data, sure=sure)
    if away is None:
        raise InputError("the distance is not known", "Give distance, from mirror to detector.")
    if source is None:
        raise InputError(
            "the distance of the source is not known", "Give p; math.inf for a parallel beam."
        )
    if q is not None:
        in_range("q", q, low=1e-3, high=1e5, unit=METRE)
    arrays = _slopes(wf, axis)
    values = arrays[0]
    across = np.asarray(values[axis].values, np.float64)
    if across.size < LEAST:
        raise InputError(
            f"the beam has {across.size} pixels along {axis!r}", f"At least {LEAST} are needed."
        )
    curved = values.name == CURVED[axis][0].name
    # A self-reference measures the whole curvature, and absolute mode the whole slope.
    whole = curved or wf.attrs.get(MODE) == "absolute"
    setup = MirrorSetup(
        positions=across,
        curved=curved,
        beam=0.0 if whole else 1 / (source + away),
        p=source,
        q=q,
        theta=angle,
        distance=away,
        center=center,
        sign=int(sign),
        shape=shape,
        free=tuple(free),
    )
    even = _positions(positions, arrays, setup)
    numbers = _numbers_of(shape)
    sizes = {PROFILE: len(PROFILES), MIRROR_POSITION.name: even.size, NUMBER: len(numbers)}
    sizes[MIRROR_FREQUENCY.name] = even.size // 2
    profiles, spectrum, row = map_by_map(
        _mirror_of_map,
        *arrays,
        settings={"even": even, "setup": setup, "strict": values.ndim == 2},
        outputs=[
            Output((PROFILE, MIRROR_POSITION.name)),
            Output((MIRROR_FREQUENCY.name,)),
            Output((NUMBER,)),
        ],
        sizes=sizes,
    )
    parts = [
        *(relabelled(profiles.isel({PROFILE: n}), one) for n, one in enumerate(PROFILES)),
        relabelled(spectrum, PSD_HEIGHT),
        *(relabelled(row.isel({NUMBER: n}), one) for n, one in enumerate(numbers)),
    ]
    step = float(even[1] - even[0])
    axes = {MIRROR_POSITION: even, MIRROR_FREQUENCY: np.fft.rfftfreq(even.size, step)[1:]}
    return xr.Dataset({str(part.name): part for part in parts}, attrs=wf.attrs).assign_coords(
        {q.name: labelled(line, q, dims=(q.name,)) for q, line in axes.items()}
    )


def _numbers_of(shape: str) -> list[Quantity]:
    """List the numbers per frame of a shape."""
    fitted = [quantity for pair in FITTED[shape].values() for quantity in pair]
    return [SLOPE_ERROR_RMS, HEIGHT_ERROR_RMS, HEIGHT_ERROR_PV, *fitted]


def _positions(given: Any, arrays: list[xr.DataArray], setup: MirrorSetup) -> Floats:
    """Return the positions along the mirror: those given, or those of the first frame."""
    if given is not None:
        even = np.asarray(given, np.float64)
        if even.ndim != 1 or even.size < LEAST or not np.isfinite(even).all():
            raise InputError(
                f"positions is {given!r}", f"Give at least {LEAST} numbers along the mirror, in m."
            )
        apart = np.diff(even)
        if not apart.min() > 0 or np.ptp(apart) > 1e-3 * apart.mean():
            raise InputError(
                "positions have no equal, increasing steps", "Give numpy.linspace(first, last, n)."
            )
        return even
    for frame in _frames(arrays):
        try:
            profile = mirror_profile(*_checked_maps(frame), setup)
        except InputError:
            if FRAME not in arrays[0].dims:
                raise
            continue
        if profile is not None:
            return np.linspace(profile.along[0], profile.along[-1], profile.along.size)
    raise InputError("wf has no frame with slopes of a mirror", "Look at its maps.")


def _frames(arrays: list[xr.DataArray]) -> Iterator[list[Map]]:
    """Compute the maps of one frame after the other."""
    for number in range(arrays[0].sizes.get(FRAME, 1)):
        one = [part.isel({FRAME: number}) if FRAME in part.dims else part for part in arrays]
        yield [part.to_numpy() for part in one]


def _checked_maps(maps: Sequence[Map]) -> tuple[Floats, Floats, float]:
    """Return slopes, their errors, and the side of the window of the tracker in pixels."""
    values, errors = (np.asarray(part, np.float64) for part in maps[:2])
    check_values(values, "the map of slopes or curvatures")
    window = 1.0
    if len(maps) > 2:
        sides = maps[2][maps[2] > 0]
        window = max(1.0, float(np.median(sides))) if sides.size else 1.0
    return values, errors, window


def _mirror_of_map(
    *maps: Map,
    even: Floats,
    setup: MirrorSetup,
    strict: bool,
) -> tuple[Floats, Floats, Floats]:
    """Compute the profiles of one map, the spectrum of its height error, and its numbers."""
    numbers = np.full(len(_numbers_of(setup.shape)), np.nan)
    rows = np.full((len(PROFILES), even.size), np.nan)
    spectrum = np.full(even.size // 2, np.nan)
    try:
        profile = mirror_profile(*_checked_maps(maps), setup)
    except InputError as refusal:
        if strict:
            raise
        logger.warning("mirror: a frame is not fitted: %s", refusal)
        return rows, spectrum, numbers
    if profile is None:
        logger.warning("mirror: a frame is not fitted: it has fewer than %d slopes", LEAST)
        return rows, spectrum, numbers
    step = float(even[1] - even[0])
    # Where the frame did not see the mirror there is nothing.
    seen = (even >= profile.along[0] - ROUNDING * step) & (
        even <= profile.along[-1] + ROUNDING * step
    )
    if np.count_nonzero(seen) < LEAST:
        logger.warning("mirror: a frame shows fewer than %d of the positions", LEAST)
        return rows, spectrum, numbers
    there = even[seen]
    slope, error, sigma = (
        np.interp(there, profile.along, part)
        for part in (profile.slope, profile.error, profile.sigma)
    )
    curve = interpolate.CubicSpline(there, slope)
    bend = curve(there, 1)
    height = curve.antiderivative()
    level = height(np.clip(0.0, there[0], there[-1]))
    left = integrated(there, error)
    radius = np.divide(1.0, bend, out=np.full(there.size, np.inf), where=bend != 0)
    rows[:, seen] = slope, height(there) - level, error, sigma, left, radius
    whole = np.zeros((1, even.size))
    whole[0, seen] = left
    spectrum = spectrum_of(whole, seen[None], step)
    fitted = [
        part
        for name in FITTED[setup.shape]
        for part in (profile.values[name], profile.errors[name])
    ]
    numbers[:] = [
        float(np.sqrt(np.mean(error**2))),
        float(np.sqrt(np.mean(left**2))),
        float(np.ptp(left)),
        *fitted,
    ]
    return rows, spectrum, numbers


def _slopes(wf: xr.Dataset, axis: str) -> list[xr.DataArray]:
    """Return slopes or curvatures along the axis, their errors (NaN where none), and the window.

    The axis of the mirror is the last of each.
    """
    other = X if axis == Y else Y
    for quantity, error in (ALONG[axis], CURVED[axis]):
        if quantity.name in wf:
            values = surface_of(wf, quantity.name)
            names = [name for name in (error.name, WINDOW.name) if name in wf]
            maps = [one_chunk_per_map(wf[name]) for name in names]
            if error.name not in names:
                maps.insert(0, xr.full_like(values, np.nan))
            return [part.transpose(..., other, axis) for part in (values, *maps)]
    raise InputError(
        f"wf has no {ALONG[axis][0].name!r} and no {CURVED[axis][0].name!r}; it has "
        f"{', '.join(map(str, wf)) or 'no variables'}",
        "Give the result of wavefront, track_scan or self_reference.",
    )
