"""Error budget: the effect of each error of the set-up on radius of curvature and wavefront."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import (
    METRE,
    PIXEL,
    RADIAN,
    SLOPE_UNCERTAINTY_X,
    SLOPE_UNCERTAINTY_Y,
    SLOPE_X,
    SLOPE_Y,
    WAVEFRONT,
    WINDOW,
    X,
    Y,
)
from wavedask.errors import InputError
from wavedask.geometry import Errors, Geometry, radius_effects
from wavedask.kernels.surface import mean_window, surface_noise
from wavedask.optics import fitted_lens
from wavedask.prefixes import prefixed, prefixed_values
from wavedask.tables import html_table, text_table
from wavedask.units import (
    DISTANCE,
    MEMBRANE_DISTANCE,
    MODE,
    PIXEL_SIZE,
    SOURCE_DISTANCE,
)
from wavedask.wavefront.differential import slope_per_length

Floats = NDArray[np.float64]

NEEDED: Final = (WAVEFRONT.name, SLOPE_Y.name, SLOPE_X.name)
"""Maps without which there is no budget."""
ASSUMED: Final = 1e-4
"""Relative error that is assumed where none was given."""
ASSUMED_DISTORTION: Final = 0.05
"""Error of undistorted positions that is assumed where none was given, px."""
STATED: Final = (SLOPE_UNCERTAINTY_Y, SLOPE_UNCERTAINTY_X)
"""Errors of matching, where they are known."""
DETECTORS: Final = ("near", "far")


@dataclass(frozen=True, slots=True)
class Contribution:
    """One line of a budget.

    Attributes
    ----------
    source : str
        Where the error comes from.
    size : float
        Its standard error, in `unit`.
    unit : str
        ``m``, ``px`` or ``rad``.
    radius_y, radius_x : float
        Effect on the radius of curvature, as a fraction of it.
    wavefront : float
        Effect on the wavefront, rms over the pixels with data, m.
    given : bool
        Whether the error is known. An unknown error is shown with an assumed size, and does not
        count in the total.
    """

    source: str
    size: float
    unit: str
    radius_y: float
    radius_x: float
    wavefront: float
    given: bool = True


@dataclass(frozen=True, slots=True)
class Budget:
    """The errors of a wavefront, one line each; `print` shows the table.

    Attributes
    ----------
    radius_of_curvature_y, radius_of_curvature_x : float
        Radii of the fitted wavefront, m, from which `fit_lens` computes a focal length.
    wavefront_rms : float
        Root mean square of the wavefront, m.
    contributions : tuple of Contribution
        Sorted by their effect on the radius, largest first; assumed errors last.
    """

    radius_of_curvature_y: float
    radius_of_curvature_x: float
    wavefront_rms: float
    contributions: tuple[Contribution, ...]

    @property
    def total(self) -> Contribution:
        """Sum of all known errors, taken as independent."""
        known = [part for part in self.contributions if part.given]
        return Contribution(
            "total",
            math.nan,
            "",
            math.hypot(*(part.radius_y for part in known)),
            math.hypot(*(part.radius_x for part in known)),
            math.hypot(*(part.wavefront for part in known)),
        )

    @property
    def _headline(self) -> str:
        height = prefixed_values(self.wavefront_rms, METRE)
        return (
            f"radius of curvature {self.radius_of_curvature_y:.5g} m (y), "
            f"{self.radius_of_curvature_x:.5g} m (x); wavefront {height.values:.4g} "
            f"{height.unit} rms"
        )

    @property
    def _table(self) -> list[tuple[str, ...]]:
        parts = (*self.contributions, self.total)
        _, unit, scale = prefixed_values([part.wavefront for part in parts], METRE)
        return [
            ("source of error", "size", "radius y [%]", "radius x [%]", f"wavefront [{unit}]"),
            *(_cells(part, scale) for part in parts),
        ]

    @property
    def _remarks(self) -> list[str]:
        remarks = []
        if not all(part.given for part in self.contributions):
            remarks.append("* not given: the effect of an error of this size; not in the total")
        return remarks

    def __str__(self) -> str:
        """Write the table as text."""
        return "\n".join((self._headline, text_table(self._table), *self._remarks))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Write the table for a notebook."""
        below = "".join(f"<p>{escape(remark)}</p>" for remark in self._remarks)
        return html_table(self._table, title=self._headline, header=True) + below


def _cells(part: Contribution, height_scale: float) -> tuple[str, ...]:
    """Format the cells of one row."""
    size = ""
    if part.unit:
        scale, unit = (1.0, PIXEL) if part.unit == PIXEL else prefixed(part.size, part.unit)
        size = f"{part.size * scale:.3g} {unit}"
    return (
        part.source + ("" if part.given else " *"),
        size,
        *(f"{100 * value:.3f}" for value in (part.radius_y, part.radius_x)),
        f"{part.wavefront * height_scale:.3g}",
    )


class _Surface(NamedTuple):
    """Wavefront over the pixels with data, and the fit of its slopes: m, rad.

    `sigma` is that of the slopes, and `error` that of the curvatures.
    """

    y: Floats
    x: Floats
    height: Floats
    radius: tuple[float, float]
    spread: tuple[float, float]
    sigma: tuple[float, float]
    error: tuple[float, float]
    window: float

    @property
    def bowl(self) -> tuple[float, float]:
        """Rms of y^2 / 2 and x^2 / 2 without their means: the effect of a curvature of 1/m."""
        return float(np.std(self.y**2)) / 2, float(np.std(self.x**2)) / 2


def budget(wf: xr.Dataset, *, window: float | None = None) -> Budget:
    r"""Compute the effect of each error of the set-up on the wavefront.

    An error of a pixel size, of a distance or of undistorted positions changes all pixels together;
    averaging does not reduce it. Where no error was given to `wavefront`, the line shows the effect
    of a relative error of 1e-4 (0.05 px for positions), marked by a star.

    In absolute mode the radius of curvature R follows from how much smaller the pattern is on the
    near detector, ``1 - gap / R``: an error of a pixel size enters enlarged by ``|R / gap - 1|``.
    With the detectors 0.5 m apart, 1e-4 of a pixel size is 0.8 % of a radius of 40 m.

    This function computes the wavefront.

    Parameters
    ----------
    wf : xarray.Dataset
        Result of `wavefront`, of one frame.
    window : float, optional
        Side of the tracker's window in pixels. Errors of matching are correlated within it. By
        default the mean of ``window`` of `wf`.

    Returns
    -------
    Budget

    Raises
    ------
    InputError
        Data that is not one frame of a result of `wavefront`, that has no pixels with data, or that
        has uncertainties whose window is not known.

    Notes
    -----
    Matching: radius and error are those of `fit_lens` on the whole map. Give ``wf.where(lens.
    aperture)`` for the budget of a lens that does not fill it. The error of the wavefront is the
    rms of `surface_uncertainty`; in absolute mode without the tilt, which is taken out.
    Distortion: how an error of the undistorted positions varies over the field is not known. The
    worst case is a change of scale, which is assumed. In differential mode the error cancels,
    except for its change over the displacement, and is left out.

    Examples
    --------
    >>> y = np.linspace(-3e-4, 3e-4, 61)[:, None]
    >>> slope = ("y", "x"), np.broadcast_to(y / 40.0, (61, 61))
    >>> wf = xr.Dataset(
    ...     {
    ...         "slope_y": slope,
    ...         "slope_x": (("x", "y"), slope[1]),
    ...         "wavefront": (("y", "x"), (y**2 + y.T**2) / 80.0),
    ...     },
    ...     {"y": y[:, 0], "x": y[:, 0]},
    ...     {
    ...         "mode": "absolute",
    ...         "distance": 1.0,
    ...         "near_distance": 0.5,
    ...         "pixel_size": [1e-6, 1e-6],
    ...         "near_pixel_size": [1e-6, 1e-6],
    ...         "pixel_size_error": [1e-10, 1e-10, 0.0, 0.0],
    ...     },
    ... )
    >>> part = budget(wf).contributions[0]
    >>> print(f"{part.source}: {part.size:.1e} {part.unit}, {100 * part.radius_y:.2f} %")
    pixel size, near detector: 1.0e-10 m, 0.79 %
    """
    surface = _surface(wf, window)
    parts = [*_matching(surface, wf)]
    errors = Errors.from_attrs(wf.attrs)
    if wf.attrs[MODE] == "absolute":
        parts += _absolute(surface, Geometry.from_attrs(wf.attrs), errors)
    else:
        parts += _differential(surface, wf.attrs, errors)
    parts.sort(key=lambda part: (not part.given, -max(part.radius_y, part.radius_x)))
    rms = float(np.std(surface.height))
    return Budget(*surface.radius, rms, tuple(parts))


def _surface(wf: xr.Dataset, window: float | None) -> _Surface:
    missing = [name for name in NEEDED if name not in wf]
    if missing or MODE not in wf.attrs:
        raise InputError(
            f"wf has no {', '.join(map(repr, missing)) or f'attribute {MODE!r}'}",
            "Give the result of wavefront.",
        )
    maps = [wf[name].transpose(..., Y, X).to_numpy() for name in NEEDED]
    if maps[0].ndim != 2:
        raise InputError(
            f"wf has the dimensions {wf[WAVEFRONT.name].dims}",
            "A budget is that of one frame: give wf.isel(frame=0), or another.",
        )
    heights, *slopes = (values.astype(np.float64) for values in maps)
    down, across = (wf[dim].to_numpy().astype(np.float64) for dim in (Y, X))
    sigma, side = None, math.nan
    if all(quantity.name in wf for quantity in STATED):
        sigma_y, sigma_x = (
            wf[quantity.name].transpose(Y, X).to_numpy().astype(np.float64) for quantity in STATED
        )
        if (np.isfinite(sigma_y) & np.isfinite(sigma_x)).any():
            sigma, side = (sigma_y, sigma_x), _window(wf, window)
    try:
        lens, *_ = fitted_lens(
            heights,
            (slopes[0], slopes[1]),
            y=down,
            x=across,
            sigma=sigma,
            window=1.0 if sigma is None else side,
        )
    except InputError as error:
        raise InputError(
            f"wf has no pixels with data that can be fitted: {error.problem}",
            "Look at its slopes.",
        ) from error
    with np.errstate(divide="ignore"):
        radius = 1 / np.array([lens.curvature_y, lens.curvature_x])
    valid = np.isfinite(maps).all(0)
    rows, columns = np.nonzero(valid)
    y, x = down[rows], across[columns]
    noise = [math.nan, math.nan]
    if sigma is not None:
        # Weighted, because pixels at the border hardly contribute.
        variance = np.square([part[valid] for part in sigma])
        weights = 1 / np.maximum(variance.sum(axis=0), np.finfo(np.float32).tiny)
        noise = [float(np.sqrt(np.average(part, weights=weights))) for part in variance]
    return _Surface(
        y - y.mean(),
        x - x.mean(),
        heights[valid] - heights[valid].mean(),
        (float(radius[0]), float(radius[1])),
        (lens.spread_y, lens.spread_x),
        (noise[0], noise[1]),
        (lens.curvature_y_error, lens.curvature_x_error),
        side,
    )


def _matching(surface: _Surface, wf: xr.Dataset) -> Iterator[Contribution]:
    """Compute the effect of the tracker's noise, where it is known."""
    if not np.isfinite(surface.sigma).all():
        return
    radius_y, radius_x = (
        abs(radius) * error for radius, error in zip(surface.radius, surface.error, strict=True)
    )
    sigma = math.hypot(*surface.sigma) / math.sqrt(2)
    heights = _height_noise(wf, surface.window)
    yield Contribution("matching", sigma, RADIAN, radius_y, radius_x, heights)


def _window(wf: xr.Dataset, given: float | None) -> float:
    """Side of the window within which errors are one."""
    window = math.nan if given is None else given
    if given is None and WINDOW.name in wf:
        maps = (
            wf[quantity.name].transpose(Y, X).to_numpy()
            for quantity in (WINDOW, SLOPE_UNCERTAINTY_Y)
        )
        window = mean_window(*maps)
    if not window >= 1:
        raise InputError(
            f"the window of the tracker is {window:g} px",
            f"Give window, its side in pixels; or the result of wavefront from a tracking with"
            f" {WINDOW.name!r}.",
        )
    return window


def _height_noise(wf: xr.Dataset, window: float) -> float:
    """Take the rms standard error of the wavefront from matching."""
    sigma_y, sigma_x = (
        wf[quantity.name].transpose(Y, X).to_numpy().astype(np.float64)
        for quantity in (SLOPE_UNCERTAINTY_Y, SLOPE_UNCERTAINTY_X)
    )
    pixel_y, pixel_x = (float(size) for size in wf.attrs[PIXEL_SIZE])
    noise = surface_noise(sigma_y, sigma_x, window=window, spacing=(pixel_y, pixel_x))
    if noise is None:
        return math.nan
    if wf.attrs[MODE] == "absolute":
        noise = noise.without(np.stack([np.ones_like(noise.y), noise.y, noise.x], axis=1))
    return noise.rms


def _absolute(surface: _Surface, setup: Geometry, errors: Errors) -> Iterator[Contribution]:
    """Compute the effects of the errors of two detectors; errors not given are assumed."""
    pixels = (setup.pixel_near, setup.pixel_far)
    distances = errors.distance or (ASSUMED * setup.gap,) * 2
    sizes = errors.pixel_size or tuple((ASSUMED * y, ASSUMED * x) for y, x in pixels)
    distortions = errors.distortion or (ASSUMED_DISTORTION,) * 2
    looked_at = Errors(distances, sizes, distortions)
    on_y, on_x = (
        radius_effects(radius, spread, axis=axis, setup=setup, errors=looked_at)
        for axis, (radius, spread) in enumerate(zip(surface.radius, surface.spread, strict=True))
    )
    bowls = [bowl / abs(radius) for bowl, radius in zip(surface.bowl, surface.radius, strict=True)]
    for detector, name in enumerate(DETECTORS):
        for kind, size, unit, given in (
            ("distance", distances[detector], METRE, errors.distance),
            ("pixel size", math.hypot(*sizes[detector]) / math.sqrt(2), METRE, errors.pixel_size),
            ("distortion", distortions[detector], PIXEL, errors.distortion),
        ):
            radius_y, radius_x = on_y[kind, detector], on_x[kind, detector]
            if kind == "distance":
                height = radius_y * float(np.std(surface.height))
            else:
                height = math.hypot(radius_y * bowls[0], radius_x * bowls[1])
            yield Contribution(
                f"{kind}, {name} detector",
                size,
                unit,
                radius_y,
                radius_x,
                height,
                given is not None,
            )


def _differential(
    surface: _Surface, attrs: Mapping[Any, Any], errors: Errors
) -> Iterator[Contribution]:
    """Compute the effects of the errors of one detector; errors not given are assumed."""
    distance = float(attrs[DISTANCE])
    source = float(attrs.get(SOURCE_DISTANCE, math.inf))
    membrane = attrs.get(MEMBRANE_DISTANCE)
    rms = float(np.std(surface.height))
    error = errors.distance[0] if errors.distance else ASSUMED * distance
    # An error of the distance moves the detector, and changes the membrane's distance by as much.
    low, high = (
        slope_per_length(
            distance + step,
            source_distance=source,
            membrane_distance=None if membrane is None else membrane + step,
        )
        for step in (-error / 2, error / 2)
    )
    change = 2 * abs(high - low) / (high + low)
    yield Contribution(
        "distance", error, METRE, change, change, change * rms, errors.distance is not None
    )
    pixel_y, pixel_x = (float(size) for size in attrs[PIXEL_SIZE])
    size_y, size_x = (
        errors.pixel_size[0] if errors.pixel_size else (ASSUMED * pixel_y, ASSUMED * pixel_x)
    )
    # Angles and lengths scale together, so the radius does not change.
    height = math.sqrt(2) * math.hypot(size_y / pixel_y, size_x / pixel_x) * rms
    size = math.hypot(size_y, size_x) / math.sqrt(2)
    yield Contribution("pixel size", size, METRE, 0.0, 0.0, height, errors.pixel_size is not None)
