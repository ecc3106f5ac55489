"""Self-reference: the curvature of a wavefront from images of one beam."""

from typing import Any, Final

import numpy as np
import xarray as xr

from wavedask.conventions import (
    CORRELATION,
    CURVATURE_UNCERTAINTY_X,
    CURVATURE_UNCERTAINTY_Y,
    CURVATURE_X,
    CURVATURE_Y,
    FRAME,
    SURE,
    X,
    Y,
)
from wavedask.errors import InputError
from wavedask.facts import Names, agreed_number, agreed_pixels, confirmed_facts
from wavedask.statements import FACTS
from wavedask.tracking.xss.axes import ScanAxes
from wavedask.tracking.xss.blocks import matched
from wavedask.tracking.xss.plan import (
    DISPLACEMENTS,
    Pair,
    checked_magnification,
    delays_of,
    maps,
    scan_plan,
)
from wavedask.units import (
    DISTANCE,
    MEMBRANE_DISTANCE,
    PIXEL_SIZE,
    in_metres,
    relabelled,
    whole_number,
)

CURVATURES: Final = ((CURVATURE_Y, CURVATURE_UNCERTAINTY_Y), (CURVATURE_X, CURVATURE_UNCERTAINTY_X))
SEPARATION: Final = 2
"""Default distance of the two pixels that are compared, px."""
CERTAIN: Final = 3
"""Smallest displacement from which a curvature is computed, in its standard errors."""


def scan_curvatures(
    images: xr.DataArray,
    axes: ScanAxes,
    *,
    window: int | Pair,
    search: int | Pair | None,
    pixel_size: float | tuple[float, float] | None,
    magnification: float,
    distance: float | None,
    separation: int,
    least: float,
    sure: Names = (),
) -> xr.Dataset:
    """Compare neighbouring pixels of one scan; the part of `track_scan` without a reference.

    Two pixels at a distance of n pixels see the same grains with a delay: the distance between the
    feet of their rays on the membrane. Its difference from n pixels shows how much the rays diverge
    between membrane and detector.

    Parameters
    ----------
    images : xarray.DataArray, dims (frame, y, x)
        Frames of the scan, in any order.
    axes : ScanAxes
        Its motors.
    window, search, pixel_size, magnification, distance, separation, least, sure
        As of `track_scan`.

    Returns
    -------
    xarray.Dataset, dims (y, x)

    Raises
    ------
    InputError
        No pixel size or no distance, or a separation that is not even.
    """
    data = {"the sample": images}
    pixels = agreed_pixels(pixel_size, data, sure=sure)
    length = agreed_number(MEMBRANE_DISTANCE, distance, data, sure=sure)
    if pixels is None or length is None:
        raise InputError(
            "there is no reference, and no " + (PIXEL_SIZE if pixels is None else "distance"),
            "Give a reference; or, for a self-reference, pixel_size and distance in m.",
        )
    remedy = "Give an even number of pixels: the curvature is that of the one in the middle."
    apart_px = whole_number("separation", separation, remedy=remedy)
    if apart_px < 2 or apart_px % 2:
        raise InputError(f"separation is {separation!r}", remedy)
    frames = images.isel({FRAME: axes.order}).data
    variables: dict[str, Any] = {}
    for axis in axes.scanned:
        apart = apart_px * pixels[axis]
        flat = round(apart / (magnification * axes.steps[axis]))
        along = (axis == 0, axis == 1)
        plan = scan_plan(
            axes,
            window=window,
            search=search,
            least=least,
            centre=(flat * along[0], flat * along[1]),
            apart=(apart_px // 2 * along[0], apart_px // 2 * along[1]),
        )
        fields = matched(frames, None, plan)
        delay, error = delays_of(fields)[axis]
        scale = magnification * axes.steps[axis] / apart
        curvature, spread = CURVATURES[axis]
        variables[curvature.name] = (1 - scale * delay) / length
        variables[spread.name] = error * (abs(scale) / length)
        former = variables.get(CORRELATION.name)
        variables[CORRELATION.name] = (
            fields.correlation if former is None else np.fmin(former, fields.correlation)
        )
    attrs: dict[str, Any] = {PIXEL_SIZE: list(pixels), MEMBRANE_DISTANCE: length}
    if confirmed := confirmed_facts(sure, data):
        attrs[SURE] = confirmed
    result = maps(variables, like=images, attrs=attrs)
    return result.map(in_metres, keep_attrs=True, pixels=pixels)


def self_reference(
    tracking: xr.Dataset,
    *,
    step: tuple[float, float],
    pixel_size: float | tuple[float, float] | None = None,
    distance: float | None = None,
    magnification: float = 1.0,
    sure: Names = (),
) -> xr.Dataset:
    r"""Convert the displacement by a step of the membrane to the curvature of the wavefront.

    Two images of one beam, between which the membrane has moved by a known step h, show the same
    grains a displacement u apart. Where rays diverge between membrane and detector, u is larger
    than the step: ``curvature = (1 - magnification * h / (u * pixel_size)) / distance``.

    Parameters
    ----------
    tracking : xarray.Dataset
        Result of `track`, with the image after the step as sample and the one before as reference.
    step : (float, float)
        Step of the membrane along (y, x), m, positive toward larger index; one of them is 0.
    pixel_size : float or (float, float), optional
        Pixel size of the detector (y, x), m; by default that which the tracking states.
    distance : float, optional
        From the membrane to the detector, m; by default the tracking's ``membrane_distance``.
    magnification : float, default 1.0
        With the default, the result is the curvature of the wavefront at the detector, including
        the beam's own. To get the curvature that an optic between membrane and detector adds, give
        the magnification of the membrane on the detector without the optic, and the `distance` from
        the optic.
    sure : str or sequence of str, optional
        ``"pixel_size"`` or ``"distance"`` confirms an unusual value, and that the given one counts
        although the tracking states another.

    Returns
    -------
    xarray.Dataset
        ``curvature_y`` or ``curvature_x`` (1/m) along the step with its standard error
        ``curvature_uncertainty_...``, and ``correlation``; lazy if `tracking` is. A beam from a
        point at the distance R has 1/R, a beam that converges to one -1/R. Coordinates y and x in
        m: a value belongs to the middle between the two positions of a grain, half the step away
        from the pixel. NaN and infinite where there is no match, or where the displacement is below
        three standard errors.

    Raises
    ------
    InputError
        A step along both axes or none, a tracking without displacement, or a value out of range.

    See Also
    --------
    track_scan : the same from a scan, without a reference: finer than a pixel.

    References
    ----------
    H. Wang, Y. Kashyap and K. Sawhney, Opt. Express 23, 23310 (2015).

    Examples
    --------
    A beam from a source 40 m before the detector, 1 m behind the membrane: a step of 40 um is seen
    as 40 / 39 of it.

    >>> u = xr.DataArray(np.full((4, 4), 40 * 40 / 39), dims=("y", "x"))
    >>> tracking = xr.Dataset({"displacement_x": u, "displacement_y": 0 * u})
    >>> found = self_reference(tracking, step=(0, 40e-6), pixel_size=1e-6, distance=1.0)
    >>> print(f"{1 / found.curvature_x[0, 0]:.1f} m")
    40.0 m
    """
    scale = checked_magnification(magnification)
    pixels, distance = _setup(tracking, pixel_size, distance, sure)
    axis = _axis_of(step)
    displacement, uncertainty = DISPLACEMENTS[axis]
    if displacement.name not in tracking:
        raise InputError(
            f"tracking has no {displacement.name!r}; it has {', '.join(map(str, tracking))}",
            "Give the result of track.",
        )
    u = tracking[displacement.name]
    error = tracking.get(uncertainty.name)
    if error is not None:
        u = u.where(np.abs(u) > CERTAIN * error)
    ratio = scale * step[axis] / (u * pixels[axis])
    curvature, spread = CURVATURES[axis]
    variables = [relabelled((1 - ratio) / distance, curvature)]
    if error is not None:
        doubt = abs(ratio / u) * error / distance
        variables.append(relabelled(doubt.where(u.notnull(), np.inf), spread))
    if CORRELATION.name in tracking:
        variables.append(tracking[CORRELATION.name])
    attrs = {**tracking.attrs, PIXEL_SIZE: list(pixels)}
    if confirmed := confirmed_facts(sure, {"the tracking": tracking}):
        attrs[SURE] = confirmed
    result = xr.Dataset({v.name: in_metres(v, pixels) for v in variables}, attrs=attrs)
    dim = (Y, X)[axis]
    middle = result[dim] - scale * step[axis] / 2
    return result.assign_coords({dim: middle.assign_attrs(result[dim].attrs)})


def _setup(
    tracking: xr.Dataset, pixel_size: Any, distance: Any, sure: Names
) -> tuple[tuple[float, float], float]:
    """Return the pixel size, and the distance to the detector from membrane or optic."""
    data = {"the tracking": tracking}
    pixels = agreed_pixels(pixel_size, data, sure=sure)
    # With an optic behind the membrane its distance is meant: one of the two must agree.
    stated = [agreed_number(name, None, data) for name in (MEMBRANE_DISTANCE, DISTANCE)]
    known = [value for value in stated if value is not None]
    length = agreed_number(DISTANCE, distance, sure=sure) if distance is not None else stated[0]
    if pixels is None or length is None:
        raise InputError(
            f"{PIXEL_SIZE if pixels is None else DISTANCE} is not given, and the tracking does not"
            " state it",
            "Give it, in m.",
        )
    same = np.isclose(known, length, rtol=FACTS[DISTANCE].tolerance, atol=0)
    if known and not same.any() and DISTANCE not in confirmed_facts(sure, data):
        raise InputError(
            f"distance is {length:g} m as given, and the tracking states"
            f" {' and '.join(f'{value:g} m' for value in known)}",
            f"Correct the one that is wrong; or add sure={DISTANCE!r}.",
        )
    return pixels, length


def _axis_of(step: tuple[float, float]) -> int:
    moved = np.flatnonzero(np.asarray(step, np.float64))
    if np.shape(step) != (2,) or not np.isfinite(step).all() or moved.size != 1:
        raise InputError(
            f"step is {step!r}",
            "Give the step along (y, x) in m, one of them 0: a step along both tells less.",
        )
    return int(moved[0])
