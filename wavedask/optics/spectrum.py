"""Power spectral density of a wavefront."""

import logging
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import signal

from wavedask.conventions import (
    FREQUENCY_X,
    FREQUENCY_Y,
    PSD_X,
    PSD_Y,
    WAVEFRONT,
    Quantity,
    X,
    Y,
    labelled,
)
from wavedask.errors import InputError
from wavedask.maps import Output, map_by_map
from wavedask.optics.surface import check_values, equal_steps, surface_of, without_plane
from wavedask.units import relabelled

Floats = npt.NDArray[np.float64]

LEAST: Final = 8
"""Pixels of an axis below which there is no spectrum."""
TAPER: Final = "hann"

logger = logging.getLogger("wavedask")


def psd(wf: xr.Dataset, *, variable: str = WAVEFRONT.name) -> xr.Dataset:
    r"""Compute the power spectral density of a wavefront along y and along x.

    The spectrum of a line of heights W, with the taper w and the step s, is

    .. math:: P(f) = 2 s \, |\sum_j w_j W_j e^{-2 \pi i f s j}|^2 / \sum_j w_j^2,

    summed over all lines before the division. Its integral over the positive frequencies is the
    variance of the heights (Press et al., Numerical Recipes, 3rd ed., section 13.4). Piston and
    tilt are taken out first. Pixels without data have the weight zero.

    Parameters
    ----------
    wf : xarray.Dataset
        Result of `wavefront`.
    variable : str, default "wavefront"
        The map: also ``residual`` or ``figure_error`` of a lens.

    Returns
    -------
    xarray.Dataset
        Lazy if `wf` is: ``psd_y`` along ``frequency_y`` and ``psd_x`` along ``frequency_x``, in m3;
        frequencies in 1/m, from one period in the field to one in two pixels.

    Raises
    ------
    InputError
        No such map, axes with unequal steps, or with fewer than 8 pixels.

    Notes
    -----
    The spectrum of a map without data is NaN, and a warning is logged.

    The taper blurs lines of the spectrum by about two frequencies. Gaps in the map blur it
    more: a strong low frequency leaks into high ones as far as the gaps are sharp.

    Examples
    --------
    >>> x = np.arange(64) * 1e-6
    >>> wave = 1e-9 * np.sin(2 * np.pi * x / 8e-6)
    >>> wf = xr.Dataset({"wavefront": (("y", "x"), np.tile(wave, (64, 1)))}, {"y": x, "x": x})
    >>> spectrum = psd(wf)
    >>> print(f"{1e6 / float(spectrum.psd_x.idxmax()):.1f} um")
    8.0 um
    """
    surface = surface_of(wf, variable)
    step_y, step_x = equal_steps(surface)
    sizes = surface.sizes[Y], surface.sizes[X]
    if min(sizes) < LEAST:
        raise InputError(
            f"{variable} has {sizes[0]} x {sizes[1]} pixels",
            f"A spectrum needs at least {LEAST} along each axis.",
        )
    frequencies = {
        quantity.name: np.fft.rfftfreq(size, step)[1:]
        for quantity, size, step in (
            (FREQUENCY_Y, sizes[0], step_y),
            (FREQUENCY_X, sizes[1], step_x),
        )
    }
    along_y, along_x = map_by_map(
        _spectra,
        surface,
        settings={
            **{dim: np.asarray(surface[dim].values, np.float64) for dim in (Y, X)},
            "steps": (step_y, step_x),
        },
        outputs=[Output((name,)) for name in frequencies],
        sizes={name: line.size for name, line in frequencies.items()},
    )
    coords = {
        quantity.name: labelled(frequencies[quantity.name], quantity, dims=(quantity.name,))
        for quantity in (FREQUENCY_Y, FREQUENCY_X)
    }

    def named(spectrum: xr.DataArray, quantity: Quantity) -> xr.DataArray:
        return relabelled(spectrum.drop_vars([Y, X], errors="ignore"), quantity)

    result = xr.Dataset({PSD_Y.name: named(along_y, PSD_Y), PSD_X.name: named(along_x, PSD_X)})
    return result.assign_coords(coords).assign_attrs(wf.attrs)


def _spectra(
    surface: npt.NDArray[Any], *, y: Floats, x: Floats, steps: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Spectra of one map along y and x, without the frequency zero."""
    heights = np.asarray(surface, np.float64)
    try:
        check_values(heights, "the map")
        if not np.isfinite(heights).any():
            raise InputError("the map has no pixels with data", "Choose another frame or region.")
    except InputError as refusal:
        logger.warning("psd: a map has no spectrum: %s", refusal)
        return np.full(y.size // 2, np.nan), np.full(x.size // 2, np.nan)
    heights = without_plane(heights, y, x)
    known = np.isfinite(heights)
    heights = np.where(known, heights, 0.0)
    return spectrum_of(heights.T, known.T, steps[0]), spectrum_of(heights, known, steps[1])


def spectrum_of(lines: Floats, known: npt.NDArray[np.bool_], step: float) -> Floats:
    """Return the spectrum of lines, mean over them, each weighted by what it has.

    Parameters
    ----------
    lines : ndarray, shape (lines, positions)
        Heights, zero where there are none, m.
    known : ndarray of bool
        Where there are heights.
    step : float
        Step of the positions, m.

    Returns
    -------
    ndarray
        At the frequencies of `numpy.fft.rfftfreq` without zero, m3.

    Examples
    --------
    >>> wave = np.sin(np.arange(64) * np.pi / 4)[None]
    >>> int(spectrum_of(wave, np.ones((1, 64), bool), 1.0).argmax())
    7
    """
    size = lines.shape[-1]
    taper = signal.get_window(TAPER, size, fftbins=False) * known
    power = np.square(np.abs(np.fft.rfft(lines * taper, axis=-1))).sum(axis=0)
    whole = np.square(taper).sum()
    if not whole:
        return np.full(power.size - 1, np.nan)
    density = 2 * step * power / whole
    if size % 2 == 0:
        density[-1] /= 2  # the highest frequency has no negative counterpart
    return np.asarray(density[1:])
