"""Figure of a grazing mirror from the beam that it reflects."""

import math
from dataclasses import dataclass
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
from wavedask.kernels.surface import AREA
from wavedask.optics.reflection import (
    LEAST,
    Ellipse,
    Fit,
    Rays,
    fit_circle,
    fit_ellipse,
    fit_plane,
    mirror_slopes,
)
from wavedask.optics.spectrum import spectrum_of
from wavedask.optics.surface import surface_of
from wavedask.units import DISTANCE, MODE, SOURCE_DISTANCE, in_range

Floats = npt.NDArray[np.float64]
Shape = Literal["plane", "cylinder", "ellipse"]

SHAPES: Final = ("plane", "cylinder", "ellipse")
FREE: Final = ("p", "q", "theta")
RADIUS_NAME: Final = "curve"
"""Name of the radius in the fit of a circle."""
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
    sure : str or sequence of str, optional
        ``"source_distance"`` or ``"distance"`` confirms that the given one counts although `wf`
        states another.

    Returns
    -------
    xarray.Dataset
        Computed, frame by frame. Along ``mirror_position`` in m, from the middle of the mirror
        downstream:

        * ``mirror_slope``, ``mirror_height``: slope in rad and height in m of the surface,
        * ``slope_error``, ``slope_error_uncertainty``: slope without the shape and its tilt, and
          its standard error, in rad,
        * ``height_error``: height without the shape, tilt and mean, in m,
        * ``local_radius``: radius of curvature in m, positive where the mirror is concave,

        numbers per frame: ``slope_error_rms``, ``height_error_rms``, ``height_error_pv``;
        ``mirror_radius`` of a cylinder; ``ellipse_p``, ``ellipse_q``, ``ellipse_theta``, each with
        its standard error (zero where it was kept); and ``psd_height`` along ``mirror_frequency``
        in m3.

    Raises
    ------
    InputError
        No slopes or curvatures, no distances, a value out of range, rays that cross between mirror
        and detector, or slopes that do not tell the free numbers apart.

    Notes
    -----
    Slopes are averaged across the mirror, weighted by their errors. Errors of neighbouring pixels
    are one within the window of the tracker; this is counted.

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
    values, errors = _slopes(wf, axis)
    positions = np.asarray(values[axis].values, np.float64)
    if positions.size < LEAST:
        raise InputError(
            f"the beam has {positions.size} pixels along {axis!r}", f"At least {LEAST} are needed."
        )
    curved = values.name == CURVED[axis][0].name
    # A self-reference measures the whole curvature, and absolute mode the whole slope.
    whole = curved or wf.attrs.get(MODE) == "absolute"
    setup = _Setup(
        positions=positions,
        curved=curved,
        beam=0.0 if whole else 1 / (source + away),
        window=_window(wf),
        p=source,
        q=q,
        theta=angle,
        distance=away,
        center=center,
        sign=int(sign),
        shape=shape,
        free=tuple(free),
    )
    stack = [part if FRAME in part.dims else part.expand_dims(FRAME) for part in (values, errors)]
    frames = [
        _profile(_lines(stack[0], frame, axis), _lines(stack[1], frame, axis), setup)
        for frame in range(stack[0].sizes[FRAME])
    ]
    known = [profile.along for profile in frames if profile is not None]
    if not known:
        raise InputError("wf has no frame with slopes", "Look at its maps.")
    # The part of the mirror that all frames saw, at as many positions as pixels saw it.
    ends = max(along[0] for along in known), min(along[-1] for along in known)
    even = np.linspace(*ends, min(along.size for along in known))
    result = _labelled(frames, even, shape)
    if FRAME not in values.dims:
        return result.isel({FRAME: 0}).assign_attrs(wf.attrs)
    motors = {name: coord for name, coord in wf.coords.items() if coord.dims == (FRAME,)}
    return result.assign_coords(motors).assign_attrs(wf.attrs)


@dataclass(frozen=True, slots=True)
class _Setup:
    """What `mirror` was told, checked."""

    positions: Floats
    curved: bool
    beam: float
    window: float
    p: float
    q: float | None
    theta: float
    distance: float
    center: float | None
    sign: int
    shape: str
    free: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Profile:
    """A mirror as one frame shows it, along its own positions."""

    along: Floats
    slope: Floats
    error: Floats
    sigma: Floats
    values: dict[str, float]
    errors: dict[str, float]


def _lines(stack: xr.DataArray, frame: int, axis: str) -> Floats:
    """Return the map of a frame with the axis of the mirror last."""
    other = X if axis == Y else Y
    return np.asarray(stack.isel({FRAME: frame}).transpose(other, axis).values, np.float64)


def _labelled(frames: list[_Profile | None], even: Floats, shape: str) -> xr.Dataset:
    """Collect the profiles of all frames at common positions, with their numbers."""
    rows: dict[Quantity, list[Any]] = {}

    def add(quantity: Quantity, value: Any) -> None:
        rows.setdefault(quantity, []).append(value)

    step = float(even[1] - even[0])
    for profile in frames:
        if profile is None:
            for quantity in (*PROFILES, PSD_HEIGHT):
                size = even.size // 2 if quantity is PSD_HEIGHT else even.size
                add(quantity, np.full(size, np.nan))
            for quantity in _numbers_of(shape):
                add(quantity, np.nan)
            continue
        slope, error, sigma = (
            np.interp(even, profile.along, part)
            for part in (profile.slope, profile.error, profile.sigma)
        )
        curve = interpolate.CubicSpline(even, slope)
        bend = curve(even, 1)
        height = curve.antiderivative()(even) - curve.antiderivative()(0.0)
        left = _integrated(even, error)
        add(MIRROR_SLOPE, slope)
        add(MIRROR_HEIGHT, height)
        add(SLOPE_ERROR, error)
        add(SLOPE_ERROR_UNCERTAINTY, sigma)
        add(HEIGHT_ERROR, left)
        add(LOCAL_RADIUS, np.divide(1.0, bend, out=np.full(even.size, np.inf), where=bend != 0))
        add(PSD_HEIGHT, spectrum_of(left[None], np.ones((1, even.size), np.bool_), step))
        add(SLOPE_ERROR_RMS, float(np.sqrt(np.mean(error**2))))
        add(HEIGHT_ERROR_RMS, float(np.sqrt(np.mean(left**2))))
        add(HEIGHT_ERROR_PV, float(np.ptp(left)))
        for name, (quantity, uncertainty) in FITTED[shape].items():
            add(quantity, profile.values[name])
            add(uncertainty, profile.errors[name])
    dims = dict.fromkeys(PROFILES, (FRAME, MIRROR_POSITION.name))
    dims[PSD_HEIGHT] = (FRAME, MIRROR_FREQUENCY.name)
    parts = {
        quantity.name: labelled(np.array(values), quantity, dims=dims.get(quantity, (FRAME,)))
        for quantity, values in rows.items()
    }
    axes = {
        MIRROR_POSITION: even,
        MIRROR_FREQUENCY: np.fft.rfftfreq(even.size, step)[1:],
    }
    return xr.Dataset(parts).assign_coords(
        {q.name: labelled(values, q, dims=(q.name,)) for q, values in axes.items()}
    )


def _numbers_of(shape: str) -> list[Quantity]:
    """List the numbers per frame of a shape."""
    fitted = [quantity for pair in FITTED[shape].values() for quantity in pair]
    return [SLOPE_ERROR_RMS, HEIGHT_ERROR_RMS, HEIGHT_ERROR_PV, *fitted]


def _slopes(wf: xr.Dataset, axis: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Return slopes or curvatures along the axis, and their errors; NaN where none are stated."""
    for quantity, error in (ALONG[axis], CURVED[axis]):
        if quantity.name in wf:
            values = surface_of(wf, quantity.name)
            if error.name in wf:
                return values, surface_of(wf, error.name)
            return values, xr.full_like(values, np.nan)
    raise InputError(
        f"wf has no {ALONG[axis][0].name!r} and no {CURVED[axis][0].name!r}; it has "
        f"{', '.join(map(str, wf)) or 'no variables'}",
        "Give the result of wavefront, track_scan or self_reference.",
    )


def _window(wf: xr.Dataset) -> float:
    """Side of the window of the tracker, px; 1 where it is not known."""
    if WINDOW.name not in wf:
        return 1.0
    window = wf[WINDOW.name]
    first = window.isel({dim: 0 for dim in window.dims if dim not in (Y, X)})
    # Computed first: Dask has no median over all dimensions.
    return max(1.0, float(first.where(first > 0).compute().median().fillna(1.0)))


def _profile(values: Floats, errors: Floats, setup: _Setup) -> _Profile | None:
    """Compute the mirror that one map shows; None where it has no slopes."""
    line, error = _mean_line(values, errors, setup.window)
    known = np.isfinite(line)
    if np.count_nonzero(known) < LEAST:
        return None
    first, last = np.flatnonzero(known)[[0, -1]]
    used = setup.positions[first : last + 1]
    line, error = (np.interp(used, setup.positions[known], part[known]) for part in (line, error))
    place = used - (float(used.mean()) if setup.center is None else setup.center)
    if setup.curved:
        # Errors of a sum of curvatures grow like a random walk.
        error = error * (place[1] - place[0]) * math.sqrt(place.size * setup.window / 3)
        line = interpolate.CubicSpline(place, line).antiderivative()(place)
    line = line + setup.beam * place
    # Slopes count from the ray from the middle of the mirror.
    smooth = np.polynomial.Polynomial.fit(place, line, min(5, place.size // 4))
    line = line - smooth(0.0)
    rays = mirror_slopes(
        place, line, p=setup.p, theta=setup.theta, distance=setup.distance, sign=setup.sign
    )
    sigma = rays.lever * error[rays.order]
    stated = np.isfinite(sigma).all() and (sigma > 0).all()
    fit = _fitted(rays, sigma if stated else np.ones(sigma.size), setup)
    left = rays.slope - fit.slope
    grown = math.sqrt(min(math.sqrt(AREA) * setup.window, left.size))
    if not stated:
        # What the shape leaves is taken as the error, for the numbers of the shape.
        scatter = float(np.std(left))
        sigma, grown = np.full(sigma.size, np.nan), grown * scatter
    # Errors within a window are one.
    errors_of = {name: value * grown for name, value in fit.errors.items()}
    return _Profile(rays.along, rays.slope, left, sigma, fit.values, errors_of)


def _mean_line(values: Floats, errors: Floats, window: float) -> tuple[Floats, Floats]:
    """Average across the mirror, by the errors where they are known."""
    known = np.isfinite(values)
    stated = known & np.isfinite(errors) & (errors > 0)
    weights = known.astype(np.float64)
    if stated.any():
        known = stated
        weights = np.divide(1.0, errors**2, out=np.zeros_like(errors), where=known)
    total = weights.sum(axis=0)
    # A line that few pixels saw is one of the border.
    there = (total > 0) & (known.sum(axis=0) >= known.sum(axis=0).max() / 4)
    mean = np.full(total.size, np.nan)
    mean[there] = (np.where(known, values, 0.0) * weights).sum(axis=0)[there] / total[there]
    error = np.full(total.size, np.nan)
    if stated.any():
        # Pixels within a window have one error.
        error[there] = np.sqrt(math.sqrt(AREA) * window / total[there])
        single = np.sqrt(1 / weights.max(axis=0)[there])
        error[there] = np.minimum(error[there], single)
    return mean, error


def _fitted(rays: Rays, sigma: Floats, setup: _Setup) -> Fit:
    """Fit the shape; with the distance to the focus that was not given found first."""
    weights = 1 / sigma**2
    if setup.shape == "plane":
        return fit_plane(rays.along, rays.slope, weights)
    if setup.shape == "cylinder":
        return fit_circle(rays.along, rays.slope, weights, RADIUS_NAME)
    focus = setup.q
    if focus is None:
        # Of a circle of radius R: 1 / p + 1 / q = 2 / (R sin(theta)).
        circle = fit_circle(rays.along, rays.slope, weights, RADIUS_NAME)
        power = 2 / (circle.values[RADIUS_NAME] * math.sin(setup.theta)) - 1 / setup.p
        if not power > 0:
            raise InputError(
                "the reflected beam does not focus, and an ellipse focuses",
                "Check p, theta, sign and the mode; or choose shape='cylinder' or 'plane'.",
            )
        focus = 1 / power
    start = Ellipse(setup.p, focus, setup.theta)
    free = setup.free if setup.q is not None or "q" in setup.free else ("q", *setup.free)
    if not free:
        slope = start.slope(rays.along)
        tilt = float(np.average(rays.slope - slope, weights=weights))
        fit = Fit(slope + tilt, {}, {})
    else:
        fit = fit_ellipse(rays.along, rays.slope, weights, start, free)
    # Numbers that were kept have no error.
    return Fit(
        fit.slope, {**start._asdict(), **fit.values}, {**dict.fromkeys(FREE, 0.0), **fit.errors}
    )


def _integrated(along: Floats, slope: Floats) -> Floats:
    """Integrate slopes to heights without mean and tilt."""
    heights = interpolate.CubicSpline(along, slope).antiderivative()(along)
    line = np.polynomial.Polynomial.fit(along, heights, 1)
    return np.asarray(heights - line(along))
