"""The numbers of all frames of a result in a few lines: median, first, last, worst."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from wavedask.compute import compute_blocks
from wavedask.conventions import (
    ABERRATION_PV,
    ABERRATION_RMS,
    COMPLETE,
    DIMENSIONLESS,
    ELLIPSE_P,
    ELLIPSE_Q,
    ELLIPSE_THETA,
    EXPLAINED_VARIANCE,
    FIGURE_ERROR_RMS,
    FLAG_MEANINGS,
    FLAG_VALUES,
    FOCAL_LENGTH,
    FOCUS_DISTANCE_X,
    FOCUS_DISTANCE_Y,
    FOCUS_FWHM_X,
    FOCUS_FWHM_Y,
    FRAME,
    HEIGHT_ERROR_PV,
    HEIGHT_ERROR_RMS,
    LONG_NAME,
    MATCHED,
    METRE,
    MIRROR_RADIUS,
    MODE_PREFIX,
    RADIUS,
    REGION,
    RESIDUAL_RMS,
    SLOPE_ERROR_RMS,
    STREHL,
    TILT_MODES,
    UNCERTAINTY,
    VERDICT,
    WAVEFRONT_PV,
    WAVEFRONT_RMS,
    Quantity,
    uncertainty_name,
)
from wavedask.prefixes import prefixed
from wavedask.scalars import mode_scalars, scalar_name
from wavedask.tables import Rows
from wavedask.tracking import MissingReport, why_missing
from wavedask.units import WAVELENGTH
from wavedask.wavefront import frame_numbers

Floats = npt.NDArray[np.float64]

FEW: Final = 3
"""Frames of which each number is written; of more the median, first, last and worst are."""


MOST_MODES: Final = 4
"""Modes that the summary names: the strongest ones."""
DOUBTS: Final = {
    "defocusing": "it spreads the beam (are sample and reference interchanged?)",
    "poor_fit": "it explains less than 90 % of the slopes (is the aperture, or the shape, right?)",
    "too_wide": "the aperture is wider than the lens",
    "not_fitted": "there is no fit",
}
"""What the summary says of a verdict, by its name in the flags of the variable."""
TILTS: Final = tuple(map(scalar_name, TILT_MODES))


class Headline(NamedTuple):
    """A number per frame that the summary shows.

    Attributes
    ----------
    variable : str
        Variable along ``frame``.
    unit : str
        Its unit.
    name : str
        What the summary calls it.
    worst : callable
        Picks the frame that deserves a look from the values: the smallest, the largest, or the one
        farthest from the median.
    in_waves : bool
        Whether it is told in waves, too.
    """

    variable: str
    unit: str
    name: str
    worst: Callable[[Floats], int]
    in_waves: bool = False


def _smallest(values: Floats) -> int:
    return int(np.nanargmin(values))


def _largest(values: Floats) -> int:
    return int(np.nanargmax(values))


def _strongest(values: Floats) -> int:
    return int(np.nanargmax(np.abs(values)))


def _farthest(values: Floats) -> int:
    return int(np.nanargmax(np.abs(values - np.nanmedian(values))))


def _line(
    quantity: Quantity, name: str, worst: Callable[[Floats], int], *, in_waves: bool = False
) -> Headline:
    return Headline(quantity.name, quantity.units, name, worst, in_waves)


HEADLINES: Final = (
    _line(MATCHED, "pixels matched", _smallest),
    _line(WAVEFRONT_RMS, "wavefront, rms", _largest, in_waves=True),
    _line(WAVEFRONT_PV, "wavefront, peak to valley", _largest, in_waves=True),
    _line(RADIUS, "lens radius", _farthest),
    _line(FOCAL_LENGTH, "focal length", _farthest),
    _line(RESIDUAL_RMS, "residual of the lens, rms", _largest),
    _line(FIGURE_ERROR_RMS, "figure error, rms", _largest),
    _line(EXPLAINED_VARIANCE, "explained by the lens", _smallest),
    _line(ABERRATION_RMS, "aberrations, rms", _largest, in_waves=True),
    _line(ABERRATION_PV, "aberrations, peak to valley", _largest, in_waves=True),
    _line(SLOPE_ERROR_RMS, "mirror, slope error, rms", _largest),
    _line(HEIGHT_ERROR_RMS, "mirror, height error, rms", _largest),
    _line(HEIGHT_ERROR_PV, "mirror, height error, peak to valley", _largest),
    _line(MIRROR_RADIUS, "mirror, radius", _farthest),
    _line(ELLIPSE_P, "mirror, source distance p", _farthest),
    _line(ELLIPSE_Q, "mirror, focus distance q", _farthest),
    _line(ELLIPSE_THETA, "mirror, grazing angle", _farthest),
    _line(FOCUS_DISTANCE_Y, "focus along y, behind the detector", _farthest),
    _line(FOCUS_DISTANCE_X, "focus along x, behind the detector", _farthest),
    _line(FOCUS_FWHM_Y, "focus along y, full width at half maximum", _largest),
    _line(FOCUS_FWHM_X, "focus along x, full width at half maximum", _largest),
    _line(STREHL, "Strehl ratio", _smallest),
)
"""Numbers of the summary, in its order."""


def headlines(numbers: xr.Dataset) -> list[Headline]:
    """List the numbers of the summary that a result has, with its strongest modes.

    Parameters
    ----------
    numbers : xarray.Dataset
        As of `numbers_of_frames`.

    Returns
    -------
    list of Headline
        Modes come in the order of their rms over the frames. Tilts are left out.

    Examples
    --------
    >>> values = {"wavefront_rms": 9e-9, "mode_tilt_x": 8e-9, "mode_defocus": 2e-9}
    >>> numbers = xr.Dataset({name: ("frame", [value]) for name, value in values.items()})
    >>> [line.name for line in headlines(numbers)]
    ['wavefront, rms', 'mode, defocus']
    """
    found = [_located(line, numbers) for line in HEADLINES if _has(numbers, line.variable)]
    strength = {}
    for name in map(str, numbers.data_vars):
        is_mode = name.startswith(MODE_PREFIX) and not name.endswith(UNCERTAINTY)
        if is_mode and name not in TILTS and _has(numbers, name):
            values = np.asarray(numbers[name].values, np.float64)
            if np.isfinite(values).any():
                strength[name] = float(np.nanmean(values**2))
    for name in sorted(strength, key=lambda name: -strength[name])[:MOST_MODES]:
        told = str(numbers[name].attrs.get(LONG_NAME, name.removeprefix(MODE_PREFIX)))
        told = "mode, " + told.removeprefix("coefficient of ")
        found.append(Headline(name, METRE, told, _strongest, in_waves=True))
    return found


def _located(line: Headline, numbers: xr.Dataset) -> Headline:
    """Say of which part of the map a number is, if not of all of it."""
    region = numbers[line.variable].attrs.get(REGION)
    if region is None:
        return line
    subject, *rest = line.name.split(", ")
    return line._replace(name=", ".join([f"{subject} in the {region}", *rest]))


def _has(numbers: xr.Dataset, name: str) -> bool:
    return name in numbers and numbers[name].dims == (FRAME,)


def numbers_of_frames(result: xr.Dataset, *, progress: bool | None = None) -> xr.Dataset:
    """Return the numbers per frame of a result, computed, for the frames that are complete.

    Parameters
    ----------
    result : xarray.Dataset
        A result store as `wavedask.open_store` opens it, or any result of this package. Numbers
        that a run wrote are read; what is missing is computed from the maps.
    progress : bool, optional
        Whether to show a progress bar; by default on a terminal and in a notebook.

    Returns
    -------
    xarray.Dataset
        Variables along ``frame``, with the motors and other coordinates along it. Coefficients of
        named modes are variables, too: ``mode_coma_x``.

    Examples
    --------
    >>> result = xr.Dataset({"wavefront": (("frame", "y", "x"), [[[0.0, 2e-9]]])})
    >>> [float(value) for value in numbers_of_frames(result).wavefront_rms]
    [1e-09]
    """
    stack = result if FRAME in result.dims else result.expand_dims(FRAME)
    if COMPLETE.name in stack:
        known = np.flatnonzero(stack[COMPLETE.name].values)
        if known.size < stack.sizes[FRAME]:
            stack = stack.isel({FRAME: known}).assign_coords({FRAME: known})
    modes = mode_scalars(stack)
    own = stack.drop_vars([name for name, a in stack.data_vars.items() if a.dims != (FRAME,)])
    own = own.assign({name: mode for name, mode in modes.items() if name not in own})
    more = frame_numbers(stack.drop_vars([name for name in own if name in stack]))
    missing = more.drop_vars([name for name in more if name in own])
    return _computed(own.assign(missing.data_vars), progress)


def _computed(numbers: xr.Dataset, progress: bool | None) -> xr.Dataset:
    """Compute numbers along the frames; those with the same blocks together."""
    alike: dict[Any, list[Any]] = {}
    for name, variable in numbers.variables.items():
        if variable.chunks is not None and variable.dims == (FRAME,):
            alike.setdefault(variable.chunks, []).append(name)
    found = numbers.copy()
    for names in alike.values():
        arrays = [numbers[name].data for name in names]
        values = compute_blocks(
            arrays, [0] * len(names), label="numbers of the frames", show=progress
        )
        for name, own in zip(names, values, strict=True):
            found[name].data = own
    return found.compute()


def summary_rows(numbers: xr.Dataset) -> Rows:
    """Write the numbers of all frames in a few lines.

    Parameters
    ----------
    numbers : xarray.Dataset
        As of `numbers_of_frames`.

    Returns
    -------
    list of (str, str)
        A row per number. Of up to three frames every value; of more the median, the first, the last
        and the worst with the number of its frame.

    Examples
    --------
    >>> numbers = xr.Dataset({"wavefront_rms": ("frame", [1e-9, 2e-9, 1e-9, 4e-9])})
    >>> summary_rows(numbers)
    [('wavefront, rms', 'median 1.5 nm, first 1 nm, last 4 nm, worst 4 nm (frame 3)')]
    """
    wavelength = numbers.attrs.get(WAVELENGTH)
    return [
        *(
            (line.name, _sentence(numbers, line, wavelength if line.in_waves else None))
            for line in headlines(numbers)
        ),
        *_doubts(numbers),
    ]


def _doubts(numbers: xr.Dataset) -> Rows:
    """Say which frames have a fit that cannot be a lens; nothing if there is none."""
    if not _has(numbers, VERDICT.name):
        return []
    verdict = numbers[VERDICT.name]
    names = str(verdict.attrs.get(FLAG_MEANINGS, "")).split()
    codes = np.atleast_1d(verdict.attrs.get(FLAG_VALUES, [])).tolist()
    told = []
    for code, name in zip(codes, names, strict=False):
        frames = np.flatnonzero(verdict.values == code)
        if name in DOUBTS and frames.size:
            first = _number(numbers, int(frames[0]))
            where = (
                "in all frames"
                if frames.size == verdict.size
                else f"in {frames.size} of {verdict.size} frames, first {first}"
            )
            told.append(f"{DOUBTS[name]} {where}")
    return [("doubt about the lens", "; ".join(told))] if told else []


def _sentence(numbers: xr.Dataset, line: Headline, wavelength: float | None) -> str:
    """Write the values of a number: all of few frames, the telling ones of many."""
    values = np.asarray(numbers[line.variable].values, np.float64)
    if np.isnan(values).all():
        return "– (in no frame)"
    own = uncertainty_name(line.variable)
    errors = None
    if own is not None and _has(numbers, own):
        errors = np.asarray(numbers[own].values, np.float64)

    def written(number: int) -> str:
        error = None if errors is None else float(errors[number])
        return value_text(float(values[number]), line.unit, error=error, wavelength=wavelength)

    measured = errors is not None and bool((errors > 0).any())
    known = np.flatnonzero(~np.isnan(values))
    lost = values.size - known.size
    missing = f"; none in {lost} of {values.size} frames" if lost else ""
    if values.size > 1 and (values[known] == values[known[0]]).all() and not measured:
        # A number that was given, such as the distance of the source.
        return f"{written(known[0])} in all frames" if not lost else written(known[0]) + missing
    if values.size <= FEW:
        return ", ".join(map(written, range(values.size)))
    worst = line.worst(values)
    typical = None
    if errors is not None and np.isfinite(errors).any():
        typical = float(np.nanmedian(errors))
    median = value_text(
        float(np.nanmedian(values)), line.unit, digits=typical, wavelength=wavelength
    )
    return (
        f"median {median}, first {written(0)}, last {written(values.size - 1)}, "
        f"worst {written(worst)} (frame {_number(numbers, worst)})" + missing
    )


def _number(numbers: xr.Dataset, place: int) -> int:
    """Return the number of a frame in its result, of which some frames may be incomplete."""
    return int(numbers[FRAME][place]) if FRAME in numbers.coords else place


def matched_rows(result: xr.Dataset, numbers: xr.Dataset, missing: MissingReport) -> Rows:
    """Write which part of the pixels was matched, and why the others were not.

    Parameters
    ----------
    result : xarray.Dataset, dims (frame, y, x)
        The frames of `numbers`, or all frames of their store, with the variable ``reason``.
    numbers : xarray.Dataset
        As of `numbers_of_frames`.
    missing : MissingReport
        The same for all frames together.

    Returns
    -------
    list of (str, str)
        The counts of all frames; of several frames also the share of each, and the reasons of the
        worst one, which is computed for this.

    Examples
    --------
    >>> reason = np.zeros((2, 4, 4), np.uint8)
    >>> reason[1, 0] = 1
    >>> result = xr.Dataset({"reason": (("frame", "y", "x"), reason)})
    >>> rows = matched_rows(result, numbers_of_frames(result), why_missing(result))
    >>> for name, text in rows[1:]:
    ...     print(f"{name}: {text}")
    pixels without one: beyond the border of the frame 12.5 %
    matched by frame: 100.0 %, 75.0 %
    lost in frame 1, the worst: beyond the border of the frame 25.0 %
    """
    rows = [*missing.rows]
    if not _has(numbers, MATCHED.name) or numbers.sizes[FRAME] < 2:
        return rows
    shares = np.asarray(numbers[MATCHED.name].values, np.float64)
    if not np.isfinite(shares).any():
        return rows
    rows.append(("matched by frame", _sentence(numbers, HEADLINES[0], None)))
    worst = _smallest(shares)
    place = worst if result.sizes[FRAME] == shares.size else _number(numbers, worst)
    lost = dict(why_missing(result.isel({FRAME: [place]})).rows).get(rows[1][0])
    if shares[worst] < 1 and lost is not None:
        rows.append((f"lost in frame {_number(numbers, worst)}, the worst", lost))
    return rows


def value_text(
    value: float,
    unit: str,
    *,
    error: float | None = None,
    digits: float | None = None,
    wavelength: float | None = None,
) -> str:
    """Write a value with its unit and error, as many digits as the error leaves.

    Parameters
    ----------
    value : float
        The value.
    unit : str
        Its unit; lengths and angles get a prefix, a fraction becomes per cent.
    error : float, optional
        Its standard error, in the same unit.
    digits : float, optional
        An error that says how many digits are written, and is not written itself.
    wavelength : float, optional
        To write a length in waves, too, m.

    Returns
    -------
    str

    Examples
    --------
    >>> value_text(5.000123e-5, "m", error=2.7e-8), value_text(0.936, "1")
    ('50.001 ± 0.027 µm', '93.6 %')
    >>> value_text(5.02e-5, "m", digits=2.7e-8)
    '50.200 µm'
    >>> value_text(1e-9, "m", wavelength=1e-10)
    '1 nm (10 waves)'
    >>> value_text(float("inf"), "m"), value_text(float("nan"), "m")
    ('infinite', '–')
    """
    if np.isinf(value):
        return "infinite"
    if np.isnan(value):
        return "–"
    if unit == DIMENSIONLESS:
        return f"{100 * value:.1f} %"
    scale, shown = prefixed(abs(value), unit)
    known = digits if error is None else error
    if known is None or not np.isfinite(known) or known <= 0:
        text = f"{value * scale:.4g} {shown}"
    else:
        # Two digits of the error; more than eight digits behind the point are not readable.
        places = min(max(1 - int(np.floor(np.log10(known * scale))), 0), 8)
        told = "" if error is None else f" ± {error * scale:.{places}f}"
        text = f"{value * scale:.{places}f}{told} {shown}"
    return text if wavelength is None else f"{text} ({value / wavelength:.3g} waves)"


def chosen_frames(count: int, most: int) -> Sequence[int]:
    """Choose frames to show of many: the first, the last, and evenly between.

    Examples
    --------
    >>> chosen_frames(3, 10), chosen_frames(101, 5)
    ([0, 1, 2], [0, 25, 50, 75, 100])
    """
    if count <= most:
        return list(range(count))
    return np.unique(np.linspace(0, count - 1, most).round().astype(int)).tolist()  # type: ignore[no-any-return]
