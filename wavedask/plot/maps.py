"""Maps with physical axes, units, and a colour bar."""

import io
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from wavedask.conventions import (
    ABERRATION,
    CURVATURE_X,
    CURVATURE_Y,
    DIMENSIONLESS,
    DISPLACEMENT_X,
    DISPLACEMENT_Y,
    DISTORTION_X,
    DISTORTION_X_RESIDUAL,
    DISTORTION_Y,
    DISTORTION_Y_RESIDUAL,
    FIGURE_ERROR,
    LONG_NAME,
    PHASE,
    PIXEL,
    PIXEL_SIZE_X,
    PIXEL_SIZE_Y,
    RESIDUAL,
    ROTATION,
    SLOPE_X,
    SLOPE_Y,
    UNITS,
    WAVEFRONT,
    X,
    Y,
)
from wavedask.errors import InputError
from wavedask.prefixes import prefixed_values

SIGNED: Final = frozenset(
    quantity.name
    for quantity in (
        DISPLACEMENT_Y,
        DISPLACEMENT_X,
        SLOPE_Y,
        SLOPE_X,
        WAVEFRONT,
        PHASE,
        CURVATURE_Y,
        CURVATURE_X,
        RESIDUAL,
        FIGURE_ERROR,
        ABERRATION,
        DISTORTION_Y,
        DISTORTION_X,
        DISTORTION_Y_RESIDUAL,
        DISTORTION_X_RESIDUAL,
    )
)
"""Variables that are drawn with a diverging colour map centred on zero."""
OUTLYING: Final = 0.1
"""Per cent of the pixels at either end that the colour range leaves out."""
CONTOURS: Final = 9
"""Contour lines of a map, about."""
NO_DATA: Final = "0.75"
"""Grey of pixels without a value; white could be mistaken for zero."""


class Picture(Figure):
    """A figure that a notebook displays by itself, without the global state of pyplot."""

    def _repr_png_(self) -> bytes:
        """Draw for a notebook."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def plot_map(
    field: xr.DataArray,
    *,
    axes: Axes | None = None,
    signed: bool | None = None,
    contours: bool = False,
) -> AxesImage:
    """Draw one map.

    Parameters
    ----------
    field : xarray.DataArray, dims (y, x)
        The map; a lazy map is computed. The axes come from its coordinates, the labels from
        ``units`` and ``long_name``; lengths and angles get a suitable SI prefix.
    axes : matplotlib.axes.Axes, optional
        Axes to draw on; by default in a new figure.
    signed : bool, optional
        Whether to use a diverging colour map centred on zero; by default true for displacements,
        slopes, wavefronts, phases, curvatures, residuals and figure errors.
    contours : bool, default False
        Whether to draw contour lines, negative ones dashed: a print without colours then shows the
        sign.

    Returns
    -------
    matplotlib.image.AxesImage
        Its attribute ``figure`` is displayed by a notebook, and saved with
        ``figure.savefig(path)``.

    Raises
    ------
    InputError
        Not a single map.

    Examples
    --------
    >>> import numpy as np
    >>> field = xr.DataArray(
    ...     np.eye(3) * 2e-6, dims=("y", "x"), name="slope_x", attrs={"units": "rad"}
    ... )
    >>> plot_map(field).colorbar.ax.get_ylabel()
    'slope_x [µrad]'
    """
    if set(field.dims) != {Y, X}:
        raise InputError(
            f"{field.name} has dimensions {field.dims}",
            f"Choose one map of dimensions ({Y}, {X}), such as field.isel(frame=0).",
        )
    if axes is None:
        axes = Picture(figsize=(6, 5), layout="constrained").add_subplot()
    image = field.transpose(Y, X)
    values = np.asarray(image.values, np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    unit = str(image.attrs.get(UNITS, ""))
    values, label, _ = prefixed_values(values, unit)
    low, high = _limits(values)
    if field.name in SIGNED if signed is None else signed:
        bound = max(abs(low), abs(high)) or 1.0
        low, high, colours = -bound, bound, "RdBu_r"
    else:
        colours = "viridis"
    extent, unit_y, unit_x = edges_of(image)
    drawn = axes.imshow(values, cmap=colours, vmin=low, vmax=high, extent=extent)
    if contours and high > low:
        _draw_contours(axes, values, extent, (low, high))
    name = str(image.attrs.get(LONG_NAME, field.name))
    axes.set_facecolor(NO_DATA)
    axes.set_title(name, fontsize="medium")
    axes.set_xlabel(f"{X} [{unit_x}]")
    axes.set_ylabel(f"{Y} [{unit_y}]")
    bar = axes.get_figure().colorbar(drawn, ax=axes, shrink=0.8)  # type: ignore[union-attr]
    bar.set_label(
        f"{field.name} [{label}]" if label not in ("", DIMENSIONLESS) else str(field.name)
    )
    return drawn


def plot_maps(
    fields: Sequence[xr.DataArray], *, title: str | None = None, columns: int = 3
) -> Figure:
    """Draw several maps in one figure.

    Parameters
    ----------
    fields : sequence of xarray.DataArray, dims (y, x)
        The maps, as in `plot_map`.
    title : str, optional
        Title of the figure.
    columns : int, default 3
        Number of maps per row.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        No maps, or an array that is not a single map.

    Examples
    --------
    >>> import numpy as np
    >>> field = xr.DataArray(np.eye(3), dims=("y", "x"), name="correlation")
    >>> len(plot_maps([field, field], title="two").axes)  # two maps, two colour bars
    4
    """
    if not fields:
        raise InputError("no maps to draw", "Give at least one.")
    columns = min(columns, len(fields))
    rows = math.ceil(len(fields) / columns)
    figure = Picture(figsize=(4.6 * columns, 3.9 * rows), layout="constrained")
    for number, field in enumerate(fields, 1):
        plot_map(field, axes=figure.add_subplot(rows, columns, number))
    if title:
        figure.suptitle(title)
    return figure


def plot_calibration(calibration: xr.Dataset) -> Figure:
    """Draw the distortion of a detector, and below it the residual of the pairs.

    Parameters
    ----------
    calibration : xarray.Dataset
        Result of `wavedask.detector_distortion`.

    Returns
    -------
    matplotlib.figure.Figure
        The two distortion maps; for ``method="global"`` also the two residual maps.

    Raises
    ------
    InputError
        The dataset is not a calibration.

    Examples
    --------
    >>> import numpy as np
    >>> field = (("y", "x"), np.eye(3), {"units": "px"})
    >>> names = ("distortion_y", "distortion_x")
    >>> scalars = dict.fromkeys(("pixel_size_y", "pixel_size_x", "rotation"), 1e-6)
    >>> figure = plot_calibration(xr.Dataset(dict.fromkeys(names, field) | scalars))
    >>> len(figure.axes)  # two maps, two colour bars
    4
    """
    needed = [item.name for item in (DISTORTION_Y, DISTORTION_X, PIXEL_SIZE_Y, PIXEL_SIZE_X)]
    missing = [name for name in (*needed, ROTATION.name) if name not in calibration]
    if missing:
        raise InputError(
            f"the calibration has no {', '.join(missing)}",
            "Give a result of detector_distortion().",
        )
    maps = [*needed[:2], DISTORTION_Y_RESIDUAL.name, DISTORTION_X_RESIDUAL.name]
    pitch_y, pitch_x = (1e6 * float(calibration[name]) for name in needed[2:])
    return plot_maps(
        [calibration[name] for name in maps if name in calibration],
        title=f"pixel size {pitch_y:.6g} x {pitch_x:.6g} µm (y, x), rotation "
        f"{1e3 * float(calibration[ROTATION.name]):.4g} mrad",
        columns=2,
    )


def _draw_contours(
    axes: Axes,
    values: NDArray[np.float64],
    extent: tuple[float, float, float, float],
    limits: tuple[float, float],
) -> None:
    """Draw lines of equal height, at round values; a line of negative height is dashed."""
    levels = MaxNLocator(CONTOURS).tick_values(*limits)
    axes.contour(
        values, levels=levels, colors="black", linewidths=0.6, extent=extent, origin="upper"
    )


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    low, high = np.percentile(known, [OUTLYING, 100 - OUTLYING])
    return float(low), float(high)


def edges_of(image: xr.DataArray) -> tuple[tuple[float, float, float, float], str, str]:
    """Return the edges of a picture and the units of its axes.

    Row 0 is at the top, as on the detector.

    Parameters
    ----------
    image : xarray.DataArray, dims (y, x)
        The map.

    Returns
    -------
    (float, float, float, float), str, str
        Left, right, bottom and top edge, as `imshow` takes them; units of y and of x.

    Examples
    --------
    >>> edges_of(xr.DataArray(np.zeros((2, 3)), dims=("y", "x")))
    ((-0.5, 2.5, 1.5, -0.5), 'px', 'px')
    """
    edges, units = [], []
    for dim in (Y, X):
        size = image.sizes[dim]
        positions = np.arange(size, dtype=np.float64)
        unit = PIXEL
        if dim in image.coords:
            positions = np.asarray(image[dim].values, np.float64)
            unit = str(image[dim].attrs.get(UNITS, PIXEL))
        positions, unit, _ = prefixed_values(positions, unit)
        first, last = positions[0], positions[-1]
        # A single pixel has no step.
        half = (last - first) / (2 * (size - 1)) if size > 1 else 0.5
        edges.append((float(first - half), float(last + half)))
        units.append(unit)
    (top, bottom), (left, right) = edges
    return (left, right, bottom, top), units[0], units[1]
