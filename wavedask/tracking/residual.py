"""What a tracking leaves unexplained: photons, blur, lost speckle, a fixed pattern."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr

from wavedask.conventions import (
    DARK_FIELD,
    DECORRELATION,
    DETECTOR_NOISE,
    DISPLACEMENT_X,
    DISPLACEMENT_Y,
    EFFECTIVE_COUNTS,
    FIXED_PATTERN,
    FRAME,
    NOISE_BLUR,
    RESIDUAL_OVER_NOISE,
    SPLINE_ORDER,
    TRANSMISSION,
    WINDOW,
    X,
    Y,
)
from wavedask.errors import InputError
from wavedask.frames import image_of
from wavedask.geometry import each
from wavedask.kernels.dense import DetectorNoise, residual_parts
from wavedask.tables import Rows
from wavedask.tracking.crossspot import cross_spot
from wavedask.tracking.speckle import measured_order

SIDE: Final = 192
"""Pixels along the sides of the middle of a frame that is looked at."""
MARGIN: Final = 4
"""Windows around this middle that are tracked with it."""
LEAST_SIDE: Final = 64
"""Pixels along a side that a frame needs."""
LEAST_STATED: Final = 2**20
"""Pixels of a frame of which `track` says by itself what the residual is made of."""
DIGITS: Final = 3
"""Significant digits of the attributes."""
CONSISTENT: Final = 1.3
"""Variance of a residual over that of the noise of the detector, and its inverse, at most."""
NAMES: Final = (EFFECTIVE_COUNTS, NOISE_BLUR, DECORRELATION, FIXED_PATTERN, RESIDUAL_OVER_NOISE)
"""Attributes of a tracking that state what its residual is made of."""

_logger = logging.getLogger("wavedask")


@dataclass(frozen=True, slots=True)
class ResidualReport:
    """What the residual of a match is made of; `print` shows it.

    Attributes
    ----------
    counts : float
        Effective counts: photons per pixel of the sample that would make the noise. NaN where noise
        does not show.
    blur : float
        Full width at half maximum, in pixels, of the light of one photon.
    decorrelation : float
        Part of the speckle that is not the same in both images: one minus the correlation of the
        two patterns without their noise.
    fixed_pattern : float
        Relative standard deviation of a pattern that both images share at the same pixels of the
        detector, such as the noise of a flat field; 0 where none stands out.
    over_noise : float
        Variance of the residual over that of the noise that `track` was given; NaN without.
    """

    counts: float
    blur: float
    decorrelation: float
    fixed_pattern: float
    over_noise: float = math.nan

    @property
    def rows(self) -> Rows:
        """Names and values, for a table."""
        shows = not math.isnan(self.counts)
        rows = [
            ("effective counts", f"{self.counts:.3g} photons a pixel" if shows else "do not show"),
            ("blur of noise", f"{self.blur:.1f} px" if shows else "does not show"),
            ("decorrelation", f"{100 * self.decorrelation:.1f} % of the speckle"),
            ("fixed pattern", f"{100 * self.fixed_pattern:.1f} % of the intensity"),
        ]
        if not math.isnan(self.over_noise):
            verdict = "consistent" if self.consistent else "inconsistent"
            rows.append(
                (
                    "residual variance",
                    f"{self.over_noise:.2f} of the stated detector noise ({verdict})",
                )
            )
        return rows

    @property
    def consistent(self) -> bool:
        """Whether the residual agrees with the stated noise within 30 %, or none was stated."""
        return math.isnan(self.over_noise) or 1 / CONSISTENT <= self.over_noise <= CONSISTENT

    @property
    def attrs(self) -> dict[str, float]:
        """Attributes that state this in a tracking."""
        values = (
            self.counts,
            self.blur,
            self.decorrelation,
            self.fixed_pattern,
            self.over_noise,
        )
        return {
            name: float(f"{value:.{DIGITS}g}")
            for name, value in zip(NAMES, values, strict=True)
            if not math.isnan(value)
        }

    def log(self, name: str) -> None:
        """Warn of stated noise that the residual contradicts.

        Parameters
        ----------
        name : str
            What was tracked.
        """
        if not self.consistent:
            _logger.warning(
                "%s: the match leaves %.2f of the variance of the stated detector_noise. %s",
                name,
                self.over_noise,
                "Look at gain, readout and psf; of the rest, what has the frequencies of the"
                " pattern counts in the uncertainty, as speckle that is lost does"
                if self.over_noise > 1
                else "The stated noise is too large, and the uncertainty with it: look at gain,"
                " readout and psf, and divide gain and readout by the mean of the flat if the"
                " images were divided by it",
            )

    @classmethod
    def of_attrs(cls, attrs: Mapping[Any, Any]) -> "ResidualReport | None":
        """Read a report from the attributes of a tracking; None where they do not state it.

        Examples
        --------
        >>> print(ResidualReport.of_attrs({"effective_counts": 8e3, "noise_blur_px": 2.0}).rows[1])
        ('blur of noise', '2.0 px')
        """
        if not any(name in attrs for name in NAMES):
            return None
        defaults = (math.nan, math.nan, 0.0, 0.0, math.nan)
        values = zip(NAMES, defaults, strict=True)
        return cls(*(float(attrs.get(name, default)) for name, default in values))

    def __str__(self) -> str:
        """Draw the table."""
        width = max(len(name) for name, _ in self.rows)
        return "\n".join(f"{name.ljust(width)}  {value}" for name, value in self.rows)

    __repr__ = __str__


def describe_residual(
    tracking: xr.Dataset,
    sample: xr.DataArray | xr.Dataset,
    reference: xr.DataArray | xr.Dataset,
) -> ResidualReport:
    """Tell what a tracking leaves of its images: photons, blur, lost speckle, a fixed pattern.

    The middle of the first frame is computed here.

    Parameters
    ----------
    tracking : xarray.Dataset
        As of `track`, by the engine ``dense``.
    sample, reference : xarray.DataArray or Dataset, dims ([frame], y, x)
        The images that were tracked.

    Returns
    -------
    ResidualReport

    Raises
    ------
    InputError
        Maps that are missing, images of another shape, or too few pixels with a displacement.

    Notes
    -----
    The spectrum of the residual is fitted by that of noise with a Gaussian blur and that of the
    pattern, which lost speckle has. A fixed pattern is what residual and reference have in common
    at the same pixels. Counts hold within 30 %, and 60 % for a blur as wide as the grains; blur
    within 0.3 px. Where blur and grain are alike, small losses and noise cannot be told apart, and
    count as noise.

    Where `track` was given the noise of the detector, the variance of the residual is compared with
    it. What the match itself has taken of the noise is taken into account.

    Examples
    --------
    >>> import xarray as xr
    >>> from wavedask.simulate import displaced_pair
    >>> from wavedask.tracking import track
    >>> pair = displaced_pair((192, 192), displacement_x=0.4, counts=2000.0, seed=1)
    >>> sample, reference = (
    ...     xr.DataArray(image, dims=("y", "x")) for image in (pair.sample, pair.reference)
    ... )
    >>> report = describe_residual(track(sample, reference, search=4), sample, reference)
    >>> 1600 < report.counts < 2400, report.fixed_pattern
    (True, 0.0)
    """
    parts = (DISPLACEMENT_Y, DISPLACEMENT_X, TRANSMISSION, DARK_FIELD, WINDOW)
    missing = [part.name for part in parts if part.name not in tracking]
    if missing:
        raise InputError(
            f"tracking has no {', '.join(missing)}; it has {', '.join(map(str, tracking))}",
            "Give the whole result of track.",
        )
    images = [image_of(one, role) for one, role in ((sample, "sample"), (reference, "reference"))]
    shape = tuple(tracking.sizes[name] for name in (Y, X))
    for role, image in zip(("sample", "reference"), images, strict=True):
        if image.shape[-2:] != shape:
            raise InputError(
                f"{role} has frames of {image.shape[-2:]} pixels and the tracking of {shape}",
                "Give the images that were tracked.",
            )
    report = _middle_of(
        [tracking[part.name].transpose(..., Y, X).data for part in parts],
        [image.data for image in images],
        order=int(tracking.attrs.get(SPLINE_ORDER, 3)),
        noise=stated_noise(tracking.attrs),
    )
    if report is None:
        raise InputError(
            "the middle of the first frame has too few pixels with a displacement",
            f"Give a frame of which half the pixels are matched, {LEAST_SIDE} or more a side.",
        )
    return report


def first_residual(
    sample: xr.DataArray, reference: xr.DataArray | object, options: Mapping[str, Any]
) -> ResidualReport | None:
    """Tell what tracking the middle of the first frame leaves; the middle is tracked here.

    For results that are computed frame by frame: it takes one pair of frames, and a second.

    Parameters
    ----------
    sample, reference : xarray.DataArray, dims ([frame], y, x)
        As of `track`.
    options : mapping
        Arguments of `track`.

    Returns
    -------
    ResidualReport or None
        None where frames are paired by motors, tracked jointly or by the engine ``opencv``, are of
        two detectors or of a train; and where too few pixels have a displacement.
    """
    special = ("motors", "over", "registration")
    if not isinstance(reference, xr.DataArray) or any(options.get(name) for name in special):
        return None
    if options.get("engine", "dense") != "dense":
        return None
    largest = max(each(options.get(WINDOW.name, 21)))
    images = []
    for one in (sample, reference):
        first = one.isel({FRAME: 0}, drop=True) if FRAME in one.dims else one
        wide = SIDE + 2 * MARGIN * int(largest)
        middle = {
            dim: slice(max(first.sizes[dim] - wide, 0) // 2, (first.sizes[dim] + wide + 1) // 2)
            for dim in (Y, X)
        }
        values = np.ma.filled(np.ma.asarray(first.isel(middle).to_numpy(), np.float64), np.nan)
        images.append(values)
    named = (WINDOW.name, "search", "good", "rigid", "order", "detector_noise")
    settings = {name: options[name] for name in named if name in options}
    order = settings.get("order")
    if order == "auto":
        settings["order"] = order = measured_order(images[1])
    try:
        fields = cross_spot(*images, **settings)
    except InputError:
        # The tracking itself says what is wrong.
        return None
    noise = settings.get("detector_noise")
    return _middle_of(
        [
            fields.displacement_y,
            fields.displacement_x,
            fields.transmission,
            fields.dark_field,
            fields.window,
        ],
        images,
        order=order or 3,
        noise=None if noise is None else DetectorNoise.of(noise),
    )


def stated_noise(attrs: Mapping[Any, Any]) -> DetectorNoise | None:
    """Read the noise of the detector from the attributes of a tracking.

    Examples
    --------
    >>> stated_noise({"detector_noise": '{"gain": 2.0}'})
    DetectorNoise(gain=2.0, readout=0.0, psf=0.0)
    """
    if DETECTOR_NOISE not in attrs:
        return None
    return DetectorNoise.of(json.loads(attrs[DETECTOR_NOISE]))


def _middle_of(
    maps: Sequence[Any],
    images: Sequence[Any],
    *,
    order: int,
    noise: DetectorNoise | None,
) -> ResidualReport | None:
    shape = images[0].shape[-2:]
    middle = tuple(
        slice(max(size - SIDE, 0) // 2, max(size - SIDE, 0) // 2 + SIDE) for size in shape
    )
    u_y, u_x, transmission, dark_field, window = (_first(one, middle) for one in maps)
    sample, reference = (_first(one, middle) for one in images)
    if min(sample.shape) < LEAST_SIDE:
        return None
    used = window[window > 0]
    found = residual_parts(
        sample,
        reference,
        (u_y, u_x),
        transmission * dark_field,
        window=int(np.median(used)) if used.size else 21,
        order=5 if order == 5 else 3,
        noise=noise,
    )
    return None if found is None else ResidualReport(*found)


def _first(values: Any, middle: tuple[slice, ...]) -> Any:
    first = values[(0,) * (values.ndim - 2) + middle]
    return np.ma.filled(np.ma.asarray(np.asarray(first), np.float64), np.nan)


def residual_attrs(tracking: xr.Dataset, sample: xr.DataArray, reference: xr.DataArray) -> Any:
    """State in attributes what the residual of a tracking in memory is made of, and warn.

    Returns
    -------
    dict
        Empty where too few pixels have a displacement. Also for frames so small that this would
        take a good part of the time of the tracking, unless it was given the noise of the detector.
    """
    small = sample.sizes[Y] * sample.sizes[X] < LEAST_STATED
    if small and DETECTOR_NOISE not in tracking.attrs:
        return {}
    try:
        report = describe_residual(tracking, sample, reference)
    except InputError:
        return {}
    if report.fixed_pattern:
        _logger.warning(
            "track: both images share a pattern of %.1f %% at the same pixels of the detector. Its"
            " pull of the displacement toward zero is taken out where it shows; a better flat field"
            " would leave none",
            100 * report.fixed_pattern,
        )
    report.log("track")
    return report.attrs
