"""Labelled tracking: where the speckle of a sample came from in its reference."""

import json
from collections.abc import Sequence
from typing import Final

import xarray as xr

from wavedask.conventions import (
    COMMON_REFERENCE,
    CORRELATION,
    DARK_FIELD,
    DETECTOR_NOISE,
    DISPLACEMENT_X,
    DISPLACEMENT_Y,
    FRAME,
    LONG_NAME,
    REASON,
    SPLINE_ORDER,
    TRANSMISSION,
    UNCERTAINTY_X,
    UNCERTAINTY_Y,
    UNITS,
    WINDOW,
    labelled,
)
from wavedask.errors import InputError
from wavedask.frames import (
    DECLARED,
    TrainReference,
    image_of,
    masked_images,
    matched_pair,
    paired_frames,
    reference_coordinates,
    train_pairs,
)
from wavedask.kernels.dense import DetectorNoise
from wavedask.kernels.fields import Fields
from wavedask.tracking.crossspot import cross_spot
from wavedask.tracking.matching import DEFAULT_ORDER, Engine, Noise, Rigid, Splines
from wavedask.tracking.missing import is_lazy, reason_attrs, why_missing
from wavedask.tracking.registration import Registration
from wavedask.tracking.resampling import registered
from wavedask.tracking.residual import residual_attrs
from wavedask.tracking.speckle import measured_order

FIELDS: Final = Fields(
    displacement_y=DISPLACEMENT_Y,
    displacement_x=DISPLACEMENT_X,
    uncertainty_y=UNCERTAINTY_Y,
    uncertainty_x=UNCERTAINTY_X,
    correlation=CORRELATION,
    window=WINDOW,
    transmission=TRANSMISSION,
    dark_field=DARK_FIELD,
    reason=REASON,
)
"""The quantity that each field of the tracker is."""


def track(
    sample: xr.DataArray | xr.Dataset,
    reference: xr.DataArray | xr.Dataset | TrainReference,
    *,
    over: str | None = None,
    motors: str | Sequence[str] | None = None,
    tolerance: float | Sequence[float] | None = None,
    engine: Engine = "dense",
    window: int | tuple[int, int] = 21,
    search: int = 16,
    good: float = 0.8,
    rigid: Rigid = "auto",
    step: int | None = None,
    order: Splines | None = None,
    detector_noise: Noise | None = None,
    registration: Registration | None = None,
) -> xr.Dataset:
    """Track the speckle of sample images in reference images (X-ray speckle tracking).

    Each sample frame against its reference (XST), or all frames of a stack together (XSVT, UMPA).

    Parameters
    ----------
    sample : xarray.DataArray or Dataset, dims ([frame], y, x)
        Images with the optic; of a dataset, its variable ``image``.
    reference : xarray.DataArray or Dataset, dims ([frame], y, x), or str
        Images without the optic: one for all samples, or one for each, paired in their order or by
        `motors`. For a train of pulses, a word: ``"first"`` tracks each pulse but the first in the
        first one, ``"previous"`` in the one before it, and ``"mean"`` each pulse in the mean of
        all.
    over : str, optional
        Dimension whose frames share one displacement and are matched jointly: ``"frame"``. By
        default each frame is matched alone.
    motors : str or sequence of str, optional
        Motors of the membrane by which frames are paired: each sample frame is matched with the
        reference frame at the same positions, in any order. With `over`, each reference must also
        have its sample.
    tolerance : float or sequence of float, optional
        Largest difference of the positions of a pair, in the unit of the motors: one for all or one
        for each. By default a quarter of the distance of the two nearest reference positions.
    engine : "dense" or "opencv", default "dense"
        ``dense``: Gauss-Newton in deforming windows around every pixel, with B-splines.
        ``opencv``: the two passes of the report, a loop of template matches.
    window : int or (int, int), default 21
        Side of the window in px, odd. A pair lets it grow from the smallest to the largest where
        the match is weaker than `good` (and, with ``dense``, less certain than 0.1 px).
    search : int, default 16
        Largest displacement that is looked for, beyond the rigid shift, in px.
    good : float, default 0.8
        Correlation at which the window stops growing, from 0 to 1.
    rigid : "auto", (int, int) or None, default "auto"
        Displacement (y, x) that all pixels have in common, in px: found from the whole frames,
        given, or none.
    step : int, optional
        ``opencv`` only: distance in px between the points of the second pass, 4 by default.
    order : 3, 5 or "auto", optional
        ``dense`` only: order of the B-spline, 3 by default. The quintic spline has less bias for
        grains below 3 px, and is slower. ``"auto"`` chooses by the grain in the middle of the first
        reference, which is computed for it.
    detector_noise : DetectorNoise or mapping, optional
        ``dense`` only: gain, readout noise and PSF of the detector, as in `wavedask.cross_spot`.
        By default the residual of the match tells the noise.
    registration : Registration, optional
        Result of `register` for two detectors: `sample` is the far one, `reference` the near one.
        The reference is resampled onto the pixels of the sample, and smoothed first where these are
        larger, so that ``sample(p) = reference(matrix @ (p - u) + offset)``. The attributes of the
        result keep the registration for `wavefront`.

    Returns
    -------
    xarray.Dataset
        Lazy where the images are, on the pixels that both have by their labels ``y`` and ``x``,
        with the coordinates of `sample` and the variables

        ``displacement_y``, ``displacement_x`` (px)
            ``u`` with ``sample(p) = reference(p - u)``, positive toward larger index; NaN where
            there is no match.
        ``uncertainty_y``, ``uncertainty_x`` (px)
            Standard error of the displacement; infinite where there is no match.
        ``correlation`` (1)
            Zero-normalised cross-correlation at the match.
        ``window`` (px)
            Side of the window that gave the match; 0 where there is none.
        ``transmission``, ``dark_field`` (1)
            Ratio of the local means, and of the relative visibilities, sample to reference.
        ``reason`` (uint8)
            Why a pixel has no displacement, 0 where it has one. The attributes ``flag_values`` and
            ``flag_meanings`` (CF conventions) list the codes; `why_missing` counts them.

        Where the images are in memory, the counts are logged, as a warning where a third of the
        pixels has no displacement.

        Where each frame has a reference of its own, the coordinates ``reference_file`` and
        ``reference_index`` say which.

        Where the images are in memory, have a million pixels or more, and the engine is ``dense``,
        attributes say what the match leaves of the middle of the first frame:
        ``effective_counts``, ``noise_blur_px``, ``decorrelation`` and ``fixed_pattern``.
        `describe_residual` finds them for other images. With `detector_noise`, which is an
        attribute, too, images in memory of any size have them, and ``residual_over_noise``: the
        variance that the match leaves over that of the noise of the detector. Beyond 1.3 or below
        1/1.3 there is a warning.

        The attribute ``spline_order`` is the order of the B-splines, as given or chosen.

        A joint tracking has no ``frame``, and no coordinates along it; a sample without ``frame``
        gives maps without it, too.

    Raises
    ------
    InputError
        An unknown engine, images of other dimensions, unequal shapes, a sample and a reference that
        were not corrected alike or state different facts (photon energy, pixel size, distance,
        binning), pixel labels of other grids, or settings that make no sense.
    MotorError
        Frames that do not pair by `motors`, or that are paired in their order and were not taken in
        the same order; the message lists their positions.

    See Also
    --------
    wavedask.cross_spot : the same on bare arrays.
    wavedask.track_scan : frames at finely stepped positions of the membrane.
    wavedask.why_missing : how many pixels have a displacement, and why the others have none.
    wavedask.combine : the mean of several exposures, and the drift of a train.
    wavedask.wavefront : what to do with the displacement.
    wavedask.register : where the pixels of one detector lie on another.

    Examples
    --------
    >>> import xarray as xr
    >>> from wavedask.simulate import displaced_pair
    >>> pair = displaced_pair((96, 96), displacement_x=2.3, seed=1)
    >>> sample, reference = (
    ...     xr.DataArray(image, dims=("y", "x")) for image in (pair.sample, pair.reference)
    ... )
    >>> tracked = track(sample, reference, window=15, search=4)
    >>> print(f"{tracked.displacement_x[48, 48]:.1f} {tracked.displacement_x.units}")
    2.3 px
    """
    images = masked_images(image_of(sample, "sample"), "sample")
    if isinstance(reference, str):
        if over is not None or motors is not None:
            raise InputError(
                f"reference is {reference!r}, and {'over' if over is not None else 'motors'} is"
                " given, too",
                "Pulses of a train are tracked in each other one by one: leave it out.",
            )
        images, targets = train_pairs(images, reference)
    else:
        targets = masked_images(image_of(reference, "reference"), "reference")
    if over is not None and (over != FRAME or over not in images.dims):
        raise InputError(
            f"over is {over!r}, the sample has dimensions {images.dims}",
            f"Give {FRAME!r}, and a stack of frames; or leave it out.",
        )
    if motors is not None:
        targets = paired_frames(
            images, targets, motors=motors, tolerance=tolerance, one_to_one=over is not None
        )
    elif tolerance is not None:
        raise InputError(
            f"tolerance is {tolerance!r} without motors", "Name the motors that it belongs to."
        )
    images, targets = matched_pair(
        images,
        targets,
        one_detector=registration is None,
        in_order=motors is None and not isinstance(reference, str),
        joint=over is not None,
    )
    # A single reference is one for all, unless something else says that the two are a pair.
    paired = motors is not None or registration is not None or isinstance(reference, str)
    origins = {}
    if over is None and (paired or targets.sizes.get(FRAME) != 1) and _as_many(targets, images):
        origins = reference_coordinates(targets)
    if registration is not None:
        if isinstance(reference, str):
            raise InputError(
                f"reference is {reference!r}, of one detector, and registration is given",
                "Give the near detector's images as reference, or leave the registration out.",
            )
        images, targets = registered(targets, images, registration)
    if order == "auto" and engine == "dense":
        order = measured_order(targets.data)
    fields = cross_spot(
        images.data,
        targets.data,
        engine=engine,
        window=window,
        search=search,
        good=good,
        rigid=rigid,
        joint=over is not None,
        step=step,
        order=order,
        detector_noise=detector_noise,
    )
    kept = (
        images
        if over is None
        else images.isel({FRAME: 0}, drop=True).drop_vars(
            [name for name, coord in images.coords.items() if FRAME in coord.dims], errors="ignore"
        )
    )
    variables = {
        quantity.name: labelled(
            field, quantity, dims=tuple(map(str, kept.dims)), coords={**kept.coords, **origins}
        )
        for quantity, field in zip(FIELDS, fields, strict=True)
    }
    variables[REASON.name].attrs.update(reason_attrs(search))
    # A unit is that of the image, not of the tracking.
    others = (UNITS, LONG_NAME, *DECLARED)
    stated = {**sample.attrs, **images.attrs}
    attrs = {name: value for name, value in stated.items() if name not in others}
    attrs |= _shared(images, targets, reference)
    if engine == "dense":
        attrs[SPLINE_ORDER] = order or DEFAULT_ORDER
    if detector_noise is not None:
        attrs[DETECTOR_NOISE] = json.dumps(DetectorNoise.of(detector_noise).settings)
    if registration is not None:
        attrs |= registration.attrs
    tracked = xr.Dataset(variables, attrs=attrs)
    if not is_lazy(tracked):
        why_missing(tracked).log("track")
        if engine == "dense" and registration is None:
            tracked.attrs |= residual_attrs(tracked, images, targets)
    return tracked


def _shared(images: xr.DataArray, targets: xr.DataArray, reference: object) -> dict[str, int]:
    """State that frames share their reference, whose noise is then common to them."""
    several = images.sizes.get(FRAME, 1) > 1
    one = (
        reference in ("first", "mean")
        if isinstance(reference, str)
        else (targets.sizes.get(FRAME, 1) == 1)
    )
    return {COMMON_REFERENCE: 1} if several and one else {}


def _as_many(references: xr.DataArray, samples: xr.DataArray) -> bool:
    return FRAME in references.dims and references.sizes[FRAME] == samples.sizes.get(FRAME)
