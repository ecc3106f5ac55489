"""What a speckle image shows: grains, visibility, noise, and the settings they ask for."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import fft, ndimage

from wavedask.conventions import IMAGE
from wavedask.errors import InputError
from wavedask.frames import image_of
from wavedask.kernels.spline import Order

Floats = NDArray[np.float64]

FWHM: Final = math.sqrt(8 * math.log(2))
"""Full width at half maximum of a Gaussian over its standard deviation."""
BACKGROUND: Final = 8.0
"""Standard deviation, in grains, of the Gaussian beyond which intensity is no speckle..."""
LEAST_BACKGROUND: Final = 32.0
"""... and in pixels, at least."""
LEAST_SIDE: Final = 48
"""Pixels along a side that an image needs."""
CORNER: Final = (0.56, 0.64)
"""Frequencies, in cycles per pixel, beyond those of any grain that pixels sample."""
NOISE_START: Final = 0.36
"""Frequency from which noise is looked for, where the grains are coarse."""
HIDDEN: Final = 0.05
"""Part of the noise that the pattern must fall below before noise is looked for."""
LEAST_NOISE: Final = 1e-9
"""Noise over the variance of the pattern, at least: an image without noise, or so blurred."""
RINGS: Final = 10
"""Rings into which a band of frequencies is cut."""
BROAD: Final = 2.5
"""Blur in pixels from which noise falls too fast to be seen in this band."""
DROWNED: Final = 0.02
"""Part of the variance that speckle must have: with less, there is none."""
SATURATED: Final = 1e-4
"""Share of pixels at the largest value from which an image is saturated."""
PERIODIC: Final = 0.5
"""Correlation of the pattern with itself, shifted, from which it is periodic."""
GRAINS: Final = 4.0
"""Grains along the side of a window: fewer, and windows are found in several places."""
PRECISION: Final = 0.02
"""Standard error in pixels that the recommended window reaches, noise permitting."""
WINDOWS: Final = (9, 61)
"""Smallest and largest window that is recommended."""
FINE: Final = 3.0
"""Grains in pixels below which a quintic spline is worth its time."""
ORDER_SIDE: Final = 512
"""Pixels along the sides of the middle of an image, by which the order is chosen."""
SEARCH: Final = 16
"""Default search range of the tracker, in pixels."""


@dataclass(frozen=True, slots=True)
class SpeckleReport:
    """What an image shows, and the settings for `track` that follow; `print` shows it.

    Attributes
    ----------
    grain_y, grain_x : float
        Full width at half maximum of a grain in pixels: that of the autocorrelation of the pattern
        without its noise, over the square root of two.
    visibility : float
        Standard deviation of the pattern over its mean, without noise.
    mean : float
        Mean intensity, in the unit of the image.
    counts : float
        Photons per pixel that would make the noise that there is, if it were of photons only; NaN
        where the noise does not show.
    blur : float
        Full width at half maximum, in pixels, over which noise is correlated; 0 for white noise,
        and NaN where it does not show.
    saturated, missing : float
        Share of the pixels at the largest value, where they are many, and without a value.
    period : float
        Shortest distance in pixels at which the pattern repeats itself; infinite if it does not.
    window, search, order : int
        What to give to `track`. The search range is the default one, unless the pattern repeats
        within it: how far it is displaced, an image does not tell.
    precision : float
        Standard error in pixels that such a window is expected to reach: the photon limit.
    reasons : tuple of str
        Why these, and what is wrong with the image.
    """

    grain_y: float
    grain_x: float
    visibility: float
    mean: float
    counts: float
    blur: float
    saturated: float
    missing: float
    period: float
    window: int
    search: int
    order: int
    precision: float
    reasons: tuple[str, ...]

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Names and values, for a table."""
        unseen = "does not show"
        found = [
            ("grain", f"{self.grain_y:.1f} x {self.grain_x:.1f} px (y, x)"),
            ("visibility", f"{100 * self.visibility:.1f} %"),
            ("mean", f"{self.mean:.4g}"),
            ("counts", unseen if math.isnan(self.counts) else f"{self.counts:.3g} photons a pixel"),
            ("blur of noise", unseen if math.isnan(self.blur) else f"{self.blur:.1f} px"),
            ("saturated", f"{100 * self.saturated:.2f} %"),
            ("missing", f"{100 * self.missing:.2f} %"),
            (
                "recommended",
                f"window={self.window}, search={self.search}, order={self.order}"
                + ("" if math.isnan(self.precision) else f": {self.precision:.2g} px at best"),
            ),
        ]
        return found + [("because", reason) for reason in self.reasons]

    def __str__(self) -> str:
        """Draw the table."""
        width = max(len(name) for name, _ in self.rows)
        return "\n".join(f"{name.ljust(width)}  {value}" for name, value in self.rows)

    __repr__ = __str__


def describe_speckle(image: xr.DataArray | xr.Dataset | NDArray[Any]) -> SpeckleReport:
    """Measure the speckle of an image and recommend settings for `track`.

    The image is computed here.

    Parameters
    ----------
    image : xarray.DataArray, Dataset or numpy.ndarray, shape (y, x)
        One image of the membrane, without dark signal; NaN where pixels are missing. Of several
        frames the first is taken.

    Returns
    -------
    SpeckleReport

    Raises
    ------
    InputError
        An image that is too small, empty or without any pattern.

    Notes
    -----
    Intensity that varies over more than eight grains is divided out. Noise is what the spectrum
    has beyond the frequencies of the grains: its level gives the counts, its fall the blur. Grains
    of less than 3 px reach into these frequencies, so that the blur is not told, and blur of more
    than 2.5 px hides the noise there: then the counts are not told either, and grain and visibility
    include the noise.

    Examples
    --------
    >>> from wavedask.simulate import displaced_pair
    >>> report = describe_speckle(displaced_pair((256, 256), grain=5.0, seed=1).reference)
    >>> print(f"grain {report.grain_x:.0f} px, visibility {100 * report.visibility:.0f} %")
    grain 5 px, visibility 26 %
    >>> report.window, report.order
    (21, 3)
    """
    values = _one_image(image)
    known = np.isfinite(values)
    if not known.any():
        raise InputError("the image has no pixel with a value", "Give an image with data.")
    mean = float(values[known].mean())
    if not mean > 0:
        raise InputError(
            f"the mean of the image is {mean:g}", "Give intensities, above zero on average."
        )
    top = values[known].max()
    at_top = float(np.mean(values[known] == top))
    pattern, correlation, noise = _taken_apart(values, known, LEAST_BACKGROUND)
    grain = _grain(correlation)
    if BACKGROUND * max(grain) > LEAST_BACKGROUND:
        pattern, correlation, noise = _taken_apart(values, known, BACKGROUND * max(grain))
        grain = _grain(correlation)
    return _recommended(
        grain=grain,
        visibility=math.sqrt(pattern),
        mean=mean,
        noise=noise,
        shares=(at_top if at_top > SATURATED else 0.0, float(1 - known.mean())),
        period=_period(correlation, max(grain)),
    )


def measured_order(images: NDArray[Any] | da.Array) -> Order:
    """Choose the order of the B-spline by the grain of the speckle.

    Parameters
    ----------
    images : ndarray or dask.array.Array, shape (y, x) or (frame, y, x)
        Images of the membrane. The middle of the first is computed here.

    Returns
    -------
    3 or 5
        5 where grains are finer than `FINE` px along y or x; 3 where no speckle is to be seen.

    Examples
    --------
    >>> from wavedask.simulate import displaced_pair
    >>> [
    ...     measured_order(displaced_pair((128, 128), grain=grain, seed=1).reference)
    ...     for grain in (2.2, 5.0)
    ... ]
    [5, 3]
    """
    first = images[(0,) * (images.ndim - 2)]
    middle = first[tuple(_middle(size) for size in first.shape)]
    try:
        order = describe_speckle(np.asarray(middle)).order
    except InputError:
        return 3
    return 5 if order == 5 else 3


def _middle(size: int) -> slice:
    first = max((size - ORDER_SIDE) // 2, 0)
    return slice(first, first + ORDER_SIDE)


def _taken_apart(
    values: Floats, known: NDArray[np.bool_], background: float
) -> tuple[float, Floats, "_Noise"]:
    """Tell pattern and noise apart: variance and autocorrelation of the one, and the other."""
    pattern = _flattened(values, known, background)
    total = float(np.square(pattern[known]).mean())
    if total == 0:
        raise InputError("the image is flat: all pixels are equal", "Give an image of speckle.")
    power = _spectrum(pattern, known)
    frequency = _frequency(power.shape)
    noise = _Noise(float(_levels(power, frequency, CORNER[0])[1].mean()), math.nan)
    for _ in range(2):
        signal = power - noise.at(frequency)
        variance = float(signal.mean())
        correlation = fft.ifft2(signal, workers=1).real / max(variance, 1e-30)
        noise = _noise(power, frequency, variance, _grain(correlation))
    if variance < DROWNED * total:
        raise InputError(
            f"the image has no speckle: its pattern is {100 * max(variance, 0) / total:.1f} % of"
            " its variance, and the rest is noise",
            "Give an image of the membrane, of longer exposure or the mean of several.",
        )
    return variance, correlation, noise


def _grain(correlation: Floats) -> tuple[float, float]:
    """Full width of a grain (y, x): its square, the autocorrelation, is wider by a root of two."""
    along_y, along_x = (
        _half_width(line) * math.sqrt(2) for line in (correlation[:, 0], correlation[0])
    )
    return along_y, along_x


def _one_image(image: Any) -> Floats:
    """Take the first image, as numbers."""
    if isinstance(image, xr.DataArray | xr.Dataset):
        image = image_of(image, IMAGE.name).data
    shape = np.shape(image)
    if len(shape) < 2 or min(shape[-2:]) < LEAST_SIDE or 0 in shape:
        raise InputError(
            f"the image has the shape {shape}", f"Give (y, x), {LEAST_SIDE} pixels or more a side."
        )
    return np.asarray(image[(0,) * (len(shape) - 2)], np.float64)


def _flattened(values: Floats, known: NDArray[np.bool_], background: float) -> Floats:
    """Divide by what varies slowly, take one away, and put zero where nothing is known."""
    filled = np.where(known, values, 0.0)
    slow, share = (
        ndimage.gaussian_filter(part, background, mode="reflect")
        for part in (filled, known.astype(np.float64))
    )
    safe = np.where(slow > 0, slow, 1.0)
    pattern = np.where(known & (slow > 0), filled * share / safe - 1, 0.0)
    return np.asarray(pattern - pattern[known].mean() * known)


def _frequency(shape: tuple[int, int]) -> Floats:
    return np.asarray(np.hypot(fft.fftfreq(shape[0])[:, None], fft.fftfreq(shape[1])))


def _spectrum(pattern: Floats, known: NDArray[np.bool_]) -> Floats:
    """Spectral density, whose mean is the variance; the border fades out."""
    taper = np.outer(*(np.hanning(size + 2)[1:-1] for size in pattern.shape)) * known
    return np.asarray(np.abs(fft.fft2(pattern * taper, workers=1)) ** 2 / np.square(taper).sum())


class _Noise(NamedTuple):
    """Spectral density of noise: ``level * exp(-fall f^2)``, NaN where it does not show."""

    level: float
    fall: float

    def at(self, frequency: Floats) -> Floats:
        """Evaluate at frequencies in cycles per pixel; zero where it does not show."""
        if math.isnan(self.level):
            return np.zeros_like(frequency)
        return np.asarray(self.level * np.exp(-np.nan_to_num(self.fall) * frequency**2))

    @property
    def blur(self) -> float:
        """Full width in pixels of the light of one photon."""
        return FWHM * math.sqrt(self.fall) / (2 * math.pi)


def _levels(power: Floats, frequency: Floats, start: float) -> tuple[Floats, Floats]:
    """Squared frequencies and levels of rings from a frequency to the corner of the spectrum.

    The medians of rings, for lines of fringes and fixed patterns do not belong to the noise.
    """
    bounds = np.linspace(start, CORNER[1], RINGS + 1)
    rings = [(frequency >= low) & (frequency < high) for low, high in pairwise(bounds)]
    # The median of an exponential distribution is log 2 of its mean.
    levels = np.array([np.median(power[ring]) for ring in rings]) / math.log(2)
    return ((bounds[:-1] + bounds[1:]) / 2) ** 2, np.maximum(levels, 1e-30)


def _noise(power: Floats, frequency: Floats, variance: float, grain: tuple[float, float]) -> _Noise:
    """Find the noise beyond the frequencies of the grains."""
    corner = float(_levels(power, frequency, CORNER[0])[1].mean())
    if corner < LEAST_NOISE * variance:
        return _Noise(math.nan, math.nan)
    sigma = min(grain) / FWHM
    # A Gaussian grain has the density variance 4 pi sigma^2 exp(-(2 pi sigma f)^2).
    octaves = math.log(max(variance, 1e-30) * 4 * math.pi * sigma**2 / (HIDDEN * corner))
    start = max(math.sqrt(max(octaves, 0.0)) / (2 * math.pi * sigma), NOISE_START)
    if start > CORNER[0] - 0.1:
        return _Noise(corner, math.nan)
    square, levels = _levels(power, frequency, start)
    slope, origin = np.polyfit(square, np.log(levels), 1)
    noise = _Noise(math.exp(float(origin)), max(-float(slope), 0.0))
    if noise.fall and noise.blur > BROAD:
        return _Noise(math.nan, math.nan)
    return noise if noise.fall else _Noise(float(levels.mean()), 0.0)


def _half_width(line: Floats) -> float:
    """Lag at which an autocorrelation falls to one half."""
    below = np.flatnonzero(line[: line.size // 2] < 0.5)
    if not below.size:
        return line.size / 2
    k = int(below[0])
    return k - 1 + float((line[k - 1] - 0.5) / (line[k - 1] - line[k]))


def _period(correlation: Floats, grain: float) -> float:
    """Shortest lag, beyond the grain, at which the pattern is like itself."""
    rows, columns = (fft.fftfreq(size, 1 / size) for size in correlation.shape)
    lag = np.hypot(rows[:, None], columns)
    highest = ndimage.maximum_filter(correlation, 3, mode="wrap") == correlation
    near = min(correlation.shape) / 4
    again = highest & (correlation > PERIODIC) & (lag > 1.5 * grain) & (lag < near)
    return float(lag[again].min()) if again.any() else math.inf


def _recommended(
    *,
    grain: tuple[float, float],
    visibility: float,
    mean: float,
    noise: _Noise,
    shares: tuple[float, float],
    period: float,
) -> SpeckleReport:
    """Choose settings, and say why."""
    largest = max(grain)
    sigma = math.sqrt(grain[0] * grain[1]) / FWHM
    counts, blur = 1 / noise.level, noise.blur
    shows = not math.isnan(counts)
    reasons = []
    # The photon limit of a window: both images have the noise, grains are Gaussian.
    wanted = 2 * sigma / (visibility * PRECISION * math.sqrt(counts)) if shows else 0.0
    window = _odd(max(wanted, GRAINS * largest))
    if wanted > GRAINS * largest:
        reasons.append(
            f"window {window}: noise asks for it, {PRECISION} px are to be reached"
            if window >= wanted
            else f"window {window}: no larger one is useful, and noise asks for {wanted:.0f} px"
        )
    else:
        reasons.append(f"window {window}: {GRAINS:.0f} grains along its side")
    precision = 2 * sigma / (visibility * window * math.sqrt(counts))
    order = 5 if min(grain) < FINE else 3
    reasons.append(
        f"order {order}: grains of {min(grain):.1f} px are "
        + ("so fine that a cubic spline is biased" if order == 5 else "coarse enough for a cubic")
    )
    search = SEARCH
    if period / 2 < SEARCH:
        search = max(1, math.ceil(period / 2) - 1)
        reasons.append(
            f"search {search}: the pattern repeats every {period:.1f} px, and displacements beyond"
            " half of that are ambiguous"
        )
    if min(grain) < 2:
        reasons.append(f"grains of {min(grain):.1f} px are hardly sampled: use smaller pixels")
    if blur > 1:
        reasons.append(f"noise is correlated over {blur:.1f} px, as a scintillator makes it")
    if visibility < 0.03:
        reasons.append(f"visibility {100 * visibility:.1f} % is low: move the detector back")
    if shares[0]:
        reasons.append(f"{100 * shares[0]:.2f} % of the pixels are saturated: expose less")
    return SpeckleReport(
        *grain, visibility, mean, counts, blur, *shares, period,
        window, search, order, precision, tuple(reasons),
    )  # fmt: skip


def _odd(size: float) -> int:
    """Nearest odd number above, within the windows that are recommended."""
    return int(np.clip(2 * math.ceil((size - 1) / 2) + 1, *WINDOWS))
