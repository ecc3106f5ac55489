"""Compare two wavefronts: registered difference, and numbers side by side."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import interpolate, optimize

from wavedask.conventions import (
    DIFFERENCE,
    DIFFERENCE_RMS,
    DIFFERENCE_UNCERTAINTY,
    FRAME,
    WAVEFRONT,
    WAVEFRONT_UNCERTAINTY,
    X,
    Y,
    labelled,
)
from wavedask.errors import InputError
from wavedask.optics.surface import check_values, equal_steps, surface_of, without_plane
from wavedask.prefixes import prefixed
from wavedask.tables import Rows, Tabular

Floats = npt.NDArray[np.float64]

LEAST: Final = 64
"""Pixels that two maps must share."""
LEAST_SIDE: Final = 4
"""Pixels along an axis that a cubic interpolation needs."""


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(Tabular):
    """Two wavefronts beside each other.

    Attributes
    ----------
    maps : xarray.Dataset, dims (y, x)
        ``difference``: the first minus the second where both have data, without piston and tilt,
        in m, on the pixels of the first; ``difference_uncertainty`` where both state theirs.
    shift : (float, float)
        By how much (y, x) the second was moved to lie on the first, m.
    pixels : int
        Pixels that both have.
    rms : tuple of float
        Rms of the first, the second and the difference over these pixels, without piston and tilt,
        m.
    ratio : float
        Rms of the difference over its standard error: about 1 where noise explains it. NaN where
        the errors are not stated.
    """

    maps: xr.Dataset
    shift: tuple[float, float]
    pixels: int
    rms: tuple[float, float, float]
    ratio: float

    @property
    def rows(self) -> Rows:
        """Rows of the table."""
        scale, unit = prefixed(max(self.rms), "m")
        rows = [
            (f"rms of the {name}", f"{value * scale:.4g} {unit}")
            for name, value in zip(("first", "second", DIFFERENCE.name), self.rms, strict=True)
        ]
        if np.isfinite(self.ratio):
            rows.append(("difference over its error", f"{self.ratio:.3g}"))
        scale, unit = prefixed(max(map(abs, self.shift)), "m")
        moved = " , ".join(f"{value * scale:.4g}" for value in self.shift).replace(" ,", ",")
        return [
            *rows,
            ("second moved by (y, x)", f"{moved} {unit}"),
            ("pixels", f"{self.pixels:,}"),
        ]


def compare(a: xr.Dataset, b: xr.Dataset, *, register: bool = True) -> Comparison:
    """Compare two wavefronts of one frame each.

    The second is interpolated to the pixels of the first. Piston and tilt are taken out of the
    difference. This function computes both wavefronts.

    Parameters
    ----------
    a, b : xarray.Dataset, dims (y, x)
        Results of `wavefront`.
    register : bool, default True
        Whether to move the second sideways to where the difference is smallest, within a tenth of
        the field. A paraboloid does not tell a shift from a tilt: what is found then rests on the
        figure beyond it.

    Returns
    -------
    Comparison
        `print` shows its table.

    Raises
    ------
    InputError
        More than one frame, or fewer than 64 pixels that both have.

    Examples
    --------
    >>> axis = np.linspace(-1e-3, 1e-3, 41)
    >>> bump = np.exp(-(axis[:, None] ** 2 + axis**2) / 4e-7)
    >>> a = xr.Dataset({"wavefront": (("y", "x"), 2e-9 * bump)}, {"y": axis, "x": axis})
    >>> found = compare(a, a.assign_coords(x=axis + 5e-5))
    >>> print(f"moved by {1e6 * found.shift[1]:.1f} um")
    moved by -50.0 um
    """
    first, second = (_one_map(part, name) for part, name in ((a, "a"), (b, "b")))
    y, x = (np.asarray(first[dim].values, np.float64) for dim in (Y, X))
    heights = np.asarray(first.values, np.float64)
    other = _Interpolated(second)
    shift = (0.0, 0.0)
    if register:
        shift = _best_shift(heights, y, x, other)
    moved = other.at(y - shift[0], x - shift[1])
    both = np.isfinite(heights) & np.isfinite(moved)
    pixels = int(both.sum())
    if pixels < LEAST:
        raise InputError(
            f"the two wavefronts share {pixels} pixels",
            f"They need at least {LEAST} in common: check their axes, or give register=False.",
        )
    parts = [np.where(both, part, np.nan) for part in (heights, moved)]
    flat = [without_plane(part, y, x) for part in (*parts, parts[0] - parts[1])]
    rms = [float(np.sqrt(np.nanmean(np.square(part)))) for part in flat]
    coords = {dim: first[dim] for dim in (Y, X)}
    maps = [labelled(flat[2], DIFFERENCE, dims=(Y, X), coords=coords)]
    ratio = np.nan
    if all(WAVEFRONT_UNCERTAINTY.name in part for part in (a, b)):
        own = np.asarray(_one_map(a, "a", WAVEFRONT_UNCERTAINTY.name).values, np.float64)
        theirs = _Interpolated(_one_map(b, "b", WAVEFRONT_UNCERTAINTY.name))
        error = np.hypot(own, theirs.at(y - shift[0], x - shift[1]))
        maps.append(labelled(error, DIFFERENCE_UNCERTAINTY, dims=(Y, X), coords=coords))
        known = both & np.isfinite(error)
        if known.any():
            ratio = float(np.sqrt(np.mean(flat[2][known] ** 2) / np.mean(error[known] ** 2)))
    dataset = xr.Dataset({str(part.name): part for part in maps})
    dataset[DIFFERENCE_RMS.name] = labelled(rms[2], DIFFERENCE_RMS, dims=())
    return Comparison(dataset, shift, pixels, (rms[0], rms[1], rms[2]), ratio)


def _one_map(wf: xr.Dataset, name: str, variable: str = WAVEFRONT.name) -> xr.DataArray:
    surface = surface_of(wf, variable)
    if surface.ndim != 2:
        raise InputError(
            f"{name} has the dimensions {surface.dims}",
            f"Compare one frame with one frame: give {name}.isel({FRAME}=0), or another.",
        )
    equal_steps(surface)
    sides = surface.sizes[Y], surface.sizes[X]
    if min(sides) < LEAST_SIDE:
        raise InputError(
            f"{name} has {sides[0]} x {sides[1]} pixels",
            f"A comparison needs at least {LEAST_SIDE} along each axis.",
        )
    computed = surface.compute()
    check_values(computed.values, f"{variable} of {name}")
    return computed


class _Interpolated:
    """A map between its pixels; NaN beyond its border, and where a neighbour has no data."""

    def __init__(self, surface: xr.DataArray) -> None:
        y, x = (np.asarray(surface[dim].values, np.float64) for dim in (Y, X))
        values = np.asarray(surface.values, np.float64)
        known = np.isfinite(values)
        # An error is infinite where there is no wavefront.
        filled = np.where(known, values, values[known].mean() if known.any() else 0.0)
        self._spline = interpolate.RectBivariateSpline(y, x, filled)
        self._known = interpolate.RegularGridInterpolator(
            (y, x), known.astype(np.float64), bounds_error=False, fill_value=0.0
        )

    def at(self, y: Floats, x: Floats) -> Floats:
        """Values on the mesh of y and x."""
        known = self._known(tuple(np.meshgrid(y, x, indexing="ij"))) > 1 - 1e-6
        return np.where(known, self._spline(y, x), np.nan)


def _best_shift(heights: Floats, y: Floats, x: Floats, other: _Interpolated) -> tuple[float, float]:
    """Find the move of the other map that leaves the smallest difference."""
    # A coarse net of pixels is enough to place two smooth maps.
    rows, columns = (slice(None, None, max(1, size // 64)) for size in heights.shape)
    coarse, y, x = heights[rows, columns], y[rows], x[columns]
    reach = np.ptp(y) / 10, np.ptp(x) / 10
    total = np.isfinite(coarse).sum()

    def misfit(move: Floats) -> float:
        difference = coarse - other.at(y - move[0] * reach[0], x - move[1] * reach[1])
        left = without_plane(difference, y, x)
        count = max(1, np.isfinite(left).sum())
        # A small overlap is no good match.
        return float(np.nansum(left**2)) * total / count**2 if count >= total / 4 else np.inf

    if not np.isfinite(misfit(np.zeros(2))) or misfit(np.zeros(2)) == 0:
        return 0.0, 0.0
    scale = misfit(np.zeros(2))

    def relative(move: Floats) -> float:
        return misfit(move) / scale

    trials = np.linspace(-1, 1, 7)
    start = min((np.array([a, b]) for a in trials for b in trials), key=relative)
    # Numbers of the order of one, whatever the size of the field.
    found = optimize.minimize(relative, start, method="Nelder-Mead", options={"xatol": 1e-5})
    move = np.asarray(found.x, np.float64)
    return float(move[0] * reach[0]), float(move[1] * reach[1])
