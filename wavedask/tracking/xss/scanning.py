"""Speckle scanning (XSS): delays of pixel signals along a scan of the membrane."""

from typing import Any, Final

import xarray as xr

from wavedask.conventions import (
    CORRELATION,
    DARK_FIELD,
    DELAY_UNCERTAINTY_X,
    DELAY_UNCERTAINTY_Y,
    DELAY_X,
    DELAY_Y,
    FRAME,
    LONG_NAME,
    REASON,
    SURE,
    TRANSMISSION,
    UNITS,
    WINDOW,
)
from wavedask.errors import InputError
from wavedask.facts import Names, agreed_pixels, confirmed_facts
from wavedask.frames import matched_pair
from wavedask.tracking.missing import reason_attrs
from wavedask.tracking.xss.axes import counterparts, scan_axes
from wavedask.tracking.xss.blocks import matched
from wavedask.tracking.xss.plan import (
    DISPLACEMENTS,
    Images,
    Pair,
    checked_magnification,
    delays_of,
    maps,
    scan_plan,
    stack_of,
)
from wavedask.tracking.xss.selfreference import SEPARATION, scan_curvatures
from wavedask.units import PIXEL_SIZE

DELAYS: Final = ((DELAY_Y, DELAY_UNCERTAINTY_Y), (DELAY_X, DELAY_UNCERTAINTY_X))


def track_scan(
    sample: Images,
    reference: Images | None = None,
    *,
    motor: str | tuple[str, str],
    axis: str | None = None,
    window: int | Pair = 3,
    search: int | Pair | None = None,
    pixel_size: float | tuple[float, float] | None = None,
    magnification: float = 1.0,
    direction: int | Pair = 1,
    tolerance: float | tuple[float, float] | None = None,
    distance: float | None = None,
    separation: int | None = None,
    least: float = 0.5,
    sure: Names = (),
) -> xr.Dataset:
    r"""Track speckle along a scan of the membrane (X-ray speckle scanning, XSS).

    The membrane is moved in equal steps, with the optic and without. A pixel records the same
    signal along both scans, but shifted by a delay :math:`\tau` with ``sample(position) =
    reference(position - delay)``. The delay is how far the optic moves the foot of the pixel's ray
    on the membrane. The sensitivity depends on the step, not on the pixel size. With one motor, the
    displacement across the scan is found in pixels, as in `track`.

    Parameters
    ----------
    sample : xarray.DataArray or Dataset, dims (frame, y, x)
        Frames with the optic, one for each position of the membrane, in any order; of a dataset,
        its variable ``image``.
    reference : xarray.DataArray or Dataset, dims (frame, y, x), optional
        Frames without the optic at the same positions. If omitted, each pixel of `sample` is
        compared with its neighbour (self-reference).
    motor : str or (str, str)
        The motor of a linear scan, or the motors (y, x) of a mesh: coordinates of the frames, in a
        unit of length.
    axis : str, optional
        Axis of the detector, ``"y"`` or ``"x"``, along which a single motor moves the membrane. By
        default the last letter of its name.
    window : int or (int, int), default 3
        Rows and columns of pixels that share one delay, odd.
    search : int or (int, int), optional
        Largest delay to look for along (y, x): in steps along a motor, in pixels along an axis that
        was not scanned. By default a quarter of the scan, at most 16 steps, and 4 px. For a
        self-reference, in addition to the delay of a beam without curvature.
    pixel_size : float or (float, float), optional
        Pixel size of the detector (y, x), m; by default that of the frames, if they state it. With
        it, delays are displacements too. The result keeps it for `wavedask.wavefront`.
    magnification : float, default 1.0
        Of the membrane on the detector, in the beam without the optic: distance from the source to
        the detector over that to the membrane.
    direction : int or (int, int), default 1
        -1 for a motor that moves the membrane against the axis of the detector.
    tolerance : float or (float, float), optional
        Largest difference between the positions of a pair of frames, in the unit of the motors. By
        default a quarter of a step. The mean difference is part of the delay.
    distance : float, optional
        For a self-reference only: from the membrane to the detector, m.
    separation : int, optional
        For a self-reference only: distance between the two pixels, an even number; 2 by default.
    least : float, default 0.5
        Correlation below which there is no match.
    sure : str or sequence of str, optional
        ``"pixel_size"`` or ``"membrane_distance"``, the `distance` here, confirms an unusual value,
        and that the given one counts although the frames state another.

    Returns
    -------
    xarray.Dataset, dims (y, x)
        Lazy if the frames are, in tiles that each have all positions. It has the coordinates of
        `sample` that do not change over the scan, and:

        ``delay_y``, ``delay_x`` (m of the motor), ``delay_uncertainty_y``, ``delay_uncertainty_x``
            The delay and its standard error, along each motor; NaN and infinite without a match.
        ``displacement_y``, ``displacement_x`` (px), ``uncertainty_y``, ``uncertainty_x``
            As of `track`: ``u = -magnification * delay / pixel_size`` along a motor, if
            the pixel size is known; across a linear scan always. `wavedask.wavefront` takes them.
        ``correlation``, ``window`` (px), ``transmission``, ``dark_field``, ``reason``
            As of `track`; for a window that is not square, the side of a square of the same area.

        A self-reference gives the delays, ``correlation``, and on coordinates in m:

        ``curvature_y``, ``curvature_x`` (1/m), ``curvature_uncertainty_y``, ...
            Curvature of the wavefront at the detector along each motor, the beam's own included:
            ``(1 - magnification * delay / (separation * pixel_size)) / distance``. A beam from a
            point at the distance R has 1/R.

    Raises
    ------
    MotorError
        Positions that are not equally spaced, missing or repeated, or that sample and reference do
        not share: the message lists them. A motor without a unit of length.
    InputError
        Images of other dimensions, pixel labels of other grids, a sample and a reference that state
        different facts, or invalid settings.

    See Also
    --------
    wavedask.wavefront : the slope, ``displacement * pixel_size / distance``.
    self_reference : the curvature from two positions of the membrane only.

    Notes
    -----
    A pixel is marked, by NaN and an infinite uncertainty, if the best match lies at the edge of the
    search or correlates by less than `least`, if less than a quarter of its window has data, if the
    window has no pattern along some direction, if the iteration does not settle, or if its
    neighbours agree on something else. A pixel that is NaN in one frame has no data.

    References
    ----------
    S. Berujon, H. Wang and K. Sawhney, Phys. Rev. A 86, 063813 (2012). H. Wang, Y. Kashyap and
    K. Sawhney, Opt. Express 23, 23310 (2015), for the self-reference.

    Examples
    --------
    A wedge that shifts the foot of all rays by 0.3 um, scanned in steps of 0.25 um:

    >>> import numpy as np
    >>> from wavedask.simulate import speckle_field
    >>> speckle = speckle_field(96, seed=1)
    >>> y, x = np.mgrid[:16.0, :16.0]
    >>> def scan(foot):
    ...     steps = 0.25 * np.arange(40)
    ...     images = np.stack([speckle(y, x + foot - step) for step in steps])
    ...     coords = {"diffuser_x": ("frame", steps, {"units": "um"})}
    ...     return xr.DataArray(images, dims=("frame", "y", "x"), coords=coords)
    >>> tracked = track_scan(scan(0.3), scan(0.0), motor="diffuser_x", pixel_size=1e-6)
    >>> print(f"{1e6 * tracked.delay_x[8, 8]:.2f} um, {tracked.displacement_x[8, 8]:.2f} px")
    0.30 um, -0.30 px
    """
    images = stack_of(sample, "sample")
    scale = checked_magnification(magnification)
    axes = scan_axes(images, motor=motor, axis=axis, direction=direction)
    if reference is None:
        curvatures = scan_curvatures(
            images,
            axes,
            window=window,
            search=search,
            pixel_size=pixel_size,
            magnification=scale,
            distance=distance,
            separation=SEPARATION if separation is None else separation,
            least=least,
            sure=sure,
        )
        return curvatures.assign_attrs({**sample.attrs, **_settings(images), **curvatures.attrs})
    for name, value in (("distance", distance), ("separation", separation)):
        if value is not None:
            raise InputError(
                f"{name} is {value}, and there is a reference",
                "Leave it out; wavedask.wavefront takes the result and the distance.",
            )
    targets = stack_of(reference, "reference")
    images, targets = matched_pair(images, targets, in_order=False, joint=True)
    if images.shape[1:] != targets.shape[1:]:
        raise InputError(
            f"sample frames are {images.shape[1:]}, reference frames {targets.shape[1:]} (y, x)",
            "Crop both to the same region of the detector.",
        )
    pixels = agreed_pixels(pixel_size, {"the sample": images}, sure=sure)
    attrs = _settings(images)
    if pixels is not None:
        attrs[PIXEL_SIZE] = list(pixels)
    if confirmed := confirmed_facts(sure, {"the sample": images}):
        attrs[SURE] = confirmed
    targets, offset = counterparts(images, targets, axes, tolerance=tolerance)
    plan = scan_plan(axes, window=window, search=search, least=least)
    samples, references = (stack.isel({FRAME: axes.order}) for stack in (images, targets))
    fields = matched(samples.data, references.data, plan)
    variables: dict[str, Any] = {}
    for axis_number, (found, error) in enumerate(delays_of(fields)):
        displacement, uncertainty = DISPLACEMENTS[axis_number]
        if axis_number not in axes.scanned:
            variables |= {displacement.name: found, uncertainty.name: error}
            continue
        delay, spread = DELAYS[axis_number]
        step = abs(axes.steps[axis_number])
        late, doubt = found * step + offset[axis_number], error * step
        variables |= {delay.name: late, spread.name: doubt}
        if pixels is not None:
            length = scale / pixels[axis_number]
            variables |= {
                displacement.name: late * (-length * axes.signs[axis_number]),
                uncertainty.name: doubt * length,
            }
    variables |= {
        CORRELATION.name: fields.correlation,
        WINDOW.name: fields.window,
        TRANSMISSION.name: fields.transmission,
        DARK_FIELD.name: fields.dark_field,
        REASON.name: fields.reason,
    }
    found = maps(variables, like=images, attrs={**sample.attrs, **attrs})
    found[REASON.name].attrs.update(reason_attrs(max(plan.match.search)))
    return found


def _settings(images: xr.DataArray) -> dict[Any, Any]:
    """Return the attributes of frames without those of an intensity."""
    return {name: value for name, value in images.attrs.items() if name not in (UNITS, LONG_NAME)}
