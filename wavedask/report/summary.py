"""The numbers of all frames of a result in a few lines: median, first, last, worst."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from wavedask.conventions import (
    COMPLETE,
    DIMENSIONLESS,
    EXPLAINED_VARIANCE,
    FIGURE_ERROR_RMS,
    FIGURE_ERROR_RMS_UNCERTAINTY,
    FOCAL_LENGTH,
    FOCAL_LENGTH_UNCERTAINTY,
    FRAME,
    MATCHED,
    RADIUS,
    RADIUS_UNCERTAINTY,
    RESIDUAL_RMS,
    RESIDUAL_RMS_UNCERTAINTY,
    WAVEFRONT_PV,
    WAVEFRONT_RMS,
    Quantity,
)
from wavedask.prefixes import prefixed
from wavedask.tables import Rows
from wavedask.units import WAVELENGTH
from wavedask.wavefront import frame_numbers

Floats = npt.NDArray[np.float64]

FEW: Final = 3
"""Frames of which each number is written; of more the median, first, last and worst are."""


class Headline(NamedTuple):
    """A number per frame that the summary shows.

    Attributes
    ----------
    quantity : Quantity
        Variable along ``frame``.
    error : Quantity or None
        Variable of its standard error.
    name : str
        What the summary calls it.
    worst : callable
        Picks the frame that deserves a look from the values: the smallest, the largest, or the one
        farthest from the median.
    """

    quantity: Quantity
    error: Quantity | None
    name: str
    worst: Callable[[Floats], int]


def _smallest(values: Floats) -> int:
    return int(np.nanargmin(values))


def _largest(values: Floats) -> int:
    return int(np.nanargmax(values))


def _farthest(values: Floats) -> int:
    return int(np.nanargmax(np.abs(values - np.nanmedian(values))))


HEADLINES: Final = (
    Headline(MATCHED, None, "pixels matched", _smallest),
    Headline(WAVEFRONT_RMS, None, "wavefront, rms", _largest),
    Headline(WAVEFRONT_PV, None, "wavefront, peak to valley", _largest),
    Headline(RADIUS, RADIUS_UNCERTAINTY, "lens radius", _farthest),
    Headline(FOCAL_LENGTH, FOCAL_LENGTH_UNCERTAINTY, "focal length", _farthest),
    Headline(RESIDUAL_RMS, RESIDUAL_RMS_UNCERTAINTY, "residual, rms", _largest),
    Headline(FIGURE_ERROR_RMS, FIGURE_ERROR_RMS_UNCERTAINTY, "figure error, rms", _largest),
    Headline(EXPLAINED_VARIANCE, None, "explained by the lens", _smallest),
)
"""Numbers of the summary, in its order."""


def numbers_of_frames(result: xr.Dataset) -> xr.Dataset:
    """Return the numbers per frame of a result, computed, for the frames that are complete.

    Parameters
    ----------
    result : xarray.Dataset
        A result store as `wavedask.open_store` opens it, or any result of this package. Numbers
        that a run wrote are read; what is missing is computed from the maps.

    Returns
    -------
    xarray.Dataset
        Variables along ``frame``, with the motors and other coordinates along it.

    Examples
    --------
    >>> result = xr.Dataset({"wavefront": (("frame", "y", "x"), [[[0.0, 2e-9]]])})
    >>> [float(value) for value in numbers_of_frames(result).wavefront_rms]
    [1e-09]
    """
    stack = result if FRAME in result.dims else result.expand_dims(FRAME)
    if COMPLETE.name in stack:
        stack = stack.isel({FRAME: np.flatnonzero(stack[COMPLETE.name].values)})
    own = stack.drop_vars([name for name, a in stack.data_vars.items() if a.dims != (FRAME,)])
    more = frame_numbers(stack.drop_vars([*own.data_vars]))
    missing = more.drop_vars([name for name in more if name in own])
    return own.assign(missing.data_vars).compute()


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
    rows = []
    wavelength = numbers.attrs.get(WAVELENGTH)
    for line in HEADLINES:
        if line.quantity.name not in numbers or numbers[line.quantity.name].dims != (FRAME,):
            continue
        values = np.asarray(numbers[line.quantity.name].values, np.float64)
        if not np.isfinite(values).any():
            continue
        errors = None
        if line.error is not None and line.error.name in numbers:
            errors = np.asarray(numbers[line.error.name].values, np.float64)
        waves = wavelength if line.quantity in (WAVEFRONT_RMS, WAVEFRONT_PV) else None
        rows.append((line.name, _sentence(values, errors, line, waves)))
    return rows


def _sentence(
    values: Floats, errors: Floats | None, line: Headline, wavelength: float | None
) -> str:
    """Write the values of a number: all of few frames, the telling ones of many."""
    unit = line.quantity.units

    def written(number: int) -> str:
        error = None if errors is None else float(errors[number])
        return value_text(float(values[number]), unit, error=error, wavelength=wavelength)

    if values.size <= FEW:
        return ", ".join(map(written, range(values.size)))
    worst = line.worst(values)
    median = value_text(float(np.nanmedian(values)), unit, wavelength=wavelength)
    return (
        f"median {median}, first {written(0)}, last {written(values.size - 1)}, "
        f"worst {written(worst)} (frame {worst})"
    )


def value_text(
    value: float, unit: str, *, error: float | None = None, wavelength: float | None = None
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
    wavelength : float, optional
        To write a length in waves, too, m.

    Returns
    -------
    str

    Examples
    --------
    >>> value_text(5.000123e-5, "m", error=2.7e-8), value_text(0.936, "1")
    ('50.001 ± 0.027 µm', '93.6 %')
    >>> value_text(1e-9, "m", wavelength=1e-10)
    '1 nm (10 waves)'
    """
    if not np.isfinite(value):
        return "–"
    if unit == DIMENSIONLESS:
        return f"{100 * value:.1f} %"
    scale, shown = prefixed(abs(value), unit)
    if error is None or not np.isfinite(error) or error <= 0:
        text = f"{value * scale:.4g} {shown}"
    else:
        # Two digits of the error; more than eight digits behind the point are not readable.
        digits = min(max(1 - int(np.floor(np.log10(error * scale))), 0), 8)
        text = f"{value * scale:.{digits}f} ± {error * scale:.{digits}f} {shown}"
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
