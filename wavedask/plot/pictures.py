"""The picture that suits a dataset: raw frames, displacements, a wavefront, numbers per frame."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from wavedask.conventions import (
    CORRELATION,
    CURVATURE_UNCERTAINTY_X,
    CURVATURE_UNCERTAINTY_Y,
    CURVATURE_X,
    CURVATURE_Y,
    DARK_FIELD,
    DIMENSIONLESS,
    DISPLACEMENT_X,
    DISPLACEMENT_Y,
    DISTORTION_X,
    DISTORTION_Y,
    FIGURE_ERROR,
    FRAME,
    IMAGE,
    LONG_NAME,
    MOTOR,
    PHASE,
    RESIDUAL,
    ROLE,
    SLOPE_UNCERTAINTY_X,
    SLOPE_UNCERTAINTY_Y,
    SLOPE_X,
    SLOPE_Y,
    TRANSMISSION,
    UNCERTAINTY_X,
    UNCERTAINTY_Y,
    UNITS,
    UNKNOWN_UNIT,
    WAVEFRONT,
    WINDOW,
    Quantity,
    X,
    Y,
    uncertainty_name,
)
from wavedask.errors import InputError
from wavedask.plot.maps import Picture, plot_calibration, plot_maps
from wavedask.plot.optics import NEEDED as NEEDED_OF_OPTICS
from wavedask.plot.optics import PICTURES
from wavedask.prefixes import prefixed_values
from wavedask.scalars import mode_scalars
from wavedask.units import whole_number

CALIBRATION: Final = "calibration"
QUALITY: Final = "quality"
MAPS: Final[Mapping[str, tuple[Quantity, ...]]] = {
    "lens": (WAVEFRONT, RESIDUAL, FIGURE_ERROR),
    WAVEFRONT.name: (WAVEFRONT, SLOPE_Y, SLOPE_X),
    "displacement": (DISPLACEMENT_Y, DISPLACEMENT_X, CORRELATION),
    "curvature": (CURVATURE_Y, CURVATURE_X, CORRELATION),
    IMAGE.name: (IMAGE,),
    "contrast": (TRANSMISSION, DARK_FIELD, PHASE),
    QUALITY: (
        CORRELATION,
        WINDOW,
        UNCERTAINTY_Y,
        UNCERTAINTY_X,
        SLOPE_UNCERTAINTY_Y,
        SLOPE_UNCERTAINTY_X,
        CURVATURE_UNCERTAINTY_Y,
        CURVATURE_UNCERTAINTY_X,
    ),
}
"""Maps of each kind of picture, of which those that a dataset has are drawn."""
SERIES: Final = "series"
LISTED: Final = 8
"""Variables that a message names."""
KINDS: Final = (CALIBRATION, *MAPS, *PICTURES, SERIES)
"""Kinds of pictures, the most telling first."""
NEEDED: Final[Mapping[str, tuple[Quantity, ...]]] = {
    CALIBRATION: (DISTORTION_Y, DISTORTION_X),
    "lens": (RESIDUAL,),
    WAVEFRONT.name: (WAVEFRONT,),
    "displacement": (DISPLACEMENT_Y, DISPLACEMENT_X),
    IMAGE.name: (IMAGE,),
    **NEEDED_OF_OPTICS,
}
"""Variables that a kind needs; the others need any of their maps."""


def plot_dataset(
    dataset: xr.Dataset,
    *,
    kind: str | None = None,
    frame: int = 0,
    against: str | None = None,
) -> Figure:
    """Draw the picture that suits a dataset: a scan, a tracking, a wavefront, a calibration.

    Parameters
    ----------
    dataset : xarray.Dataset
        A scan, or any result of this package. Only the maps that are drawn are computed.
    kind : str, optional
        Kind of the picture: ``"calibration"`` (distortion of a detector), ``"lens"`` (wavefront and
        residual of a lens fit), ``"wavefront"`` (wavefront and slopes), ``"displacement"``,
        ``"curvature"``, ``"image"`` (raw or corrected frame), ``"contrast"`` (transmission, dark
        field and phase), ``"quality"`` (correlation and standard errors), ``"modes"`` (coefficients
        with standard errors), ``"mirror"`` (profile of a mirror), ``"focus"`` (caustic), or
        ``"series"`` (numbers per frame against a motor). By default the first of these that fits
        the dataset.
    frame : int, default 0
        Number of the frame; negative numbers count from the end. No effect on a series.
    against : str, optional
        Coordinate of a series. By default the first motor that moved, or the number of the frame.

    Returns
    -------
    matplotlib.figure.Figure
        A notebook displays it; ``figure.savefig("picture.png")`` saves it (also .svg and .pdf).

    Raises
    ------
    InputError
        An unknown kind, a dataset without the variables of the kind, or a frame that it does not
        have. The message lists the kinds that fit.

    Examples
    --------
    >>> maps = {
    ...     name: (("frame", "y", "x"), np.eye(4)[None], {"units": unit})
    ...     for name, unit in (("wavefront", "m"), ("slope_y", "rad"), ("slope_x", "rad"))
    ... }
    >>> figure = plot_dataset(xr.Dataset(maps))
    >>> [axes.get_title() for axes in figure.axes[::2]]
    ['wavefront', 'slope_y', 'slope_x']
    """
    fitting = kinds_of(dataset)
    chosen = next(iter(fitting), "") if kind is None else kind
    if chosen not in fitting:
        wanted = "there is nothing to draw" if kind is None else f"kind is {kind!r}"
        names = [*map(str, dataset.data_vars)]
        if len(names) > LISTED:
            names[LISTED:] = [f"{len(names) - LISTED} more"]
        raise InputError(
            f"{wanted}: the dataset has {', '.join(names) or 'no variables'}",
            f"Kinds that fit it: {', '.join(fitting) or 'none'}. All kinds: {', '.join(KINDS)}.",
        )
    if chosen == CALIBRATION:
        return plot_calibration(dataset)
    if chosen == SERIES:
        return _series(dataset, against)
    frames = dataset.sizes.get(FRAME)
    if frames == 0:
        raise InputError("there is nothing to draw: the dataset has no frames", "Select others.")
    if frames is not None:
        remedy = f"The dataset has the frames 0 to {frames - 1}."
        frame = whole_number(FRAME, frame, remedy=remedy)
        if not -frames <= frame < frames:
            raise InputError(f"frame is {frame}", remedy)
    single = dataset if frames is None else dataset.isel({FRAME: frame})
    if chosen in PICTURES:
        return PICTURES[chosen](single)
    title = None if frames is None else f"{FRAME} {frame % frames} of {frames}"
    return plot_maps(_maps(single, chosen), title=title)


def kinds_of(dataset: xr.Dataset) -> list[str]:
    """List the kinds of pictures that fit a dataset, the most telling first.

    Examples
    --------
    >>> kinds_of(xr.Dataset({"image": (("frame", "y", "x"), np.zeros((1, 2, 2)))}))
    ['image']
    """
    fitting = []
    for kind in KINDS:
        needed = [quantity.name for quantity in NEEDED.get(kind, ())]
        there = _numbers(dataset) if kind == SERIES else _maps(dataset, kind)
        if kind in PICTURES:
            there = [dataset[name] for name in needed if name in dataset]
        if kind != QUALITY:
            # A correlation alone says nothing of the kinds that show it beside other maps.
            there = [field for field in there if field.name != CORRELATION.name]
        if (there or kind == CALIBRATION) and {*needed} <= {*map(str, dataset.data_vars)}:
            fitting.append(kind)
    return fitting


def _maps(dataset: xr.Dataset, kind: str) -> list[xr.DataArray]:
    """Select the maps of a kind that a dataset has."""
    return [
        dataset[quantity.name]
        for quantity in MAPS.get(kind, ())
        if quantity.name in dataset and {*dataset[quantity.name].dims} - {FRAME} == {Y, X}
    ]


def _numbers(dataset: xr.Dataset) -> list[xr.DataArray]:
    """Variables of one number per frame, for two frames or more."""
    return [
        variable
        for variable in dataset.data_vars.values()
        if variable.dims == (FRAME,) and variable.dtype.kind in "fiu" and variable.size > 1
    ]


def _series(dataset: xr.Dataset, against: str | None) -> Figure:
    """Draw numbers per frame against a coordinate, each in axes of its own, with error bars."""
    dataset = dataset.assign({k: v for k, v in mode_scalars(dataset).items() if k not in dataset})
    numbers = _numbers(dataset)
    motors = [
        str(name)
        for name, coord in dataset.coords.items()
        if coord.dims == (FRAME,) and coord.attrs.get(ROLE) == MOTOR
    ]
    name = next(iter(motors), FRAME) if against is None else against
    if name == FRAME and FRAME not in dataset.coords:
        places, label = np.arange(dataset.sizes[FRAME]), FRAME
    elif name in dataset.coords and dataset[name].dims == (FRAME,):
        places, label = dataset[name].values, _label(dataset[name])
    else:
        raise InputError(
            f"against is {name!r}",
            f"Give a coordinate along {FRAME}: {', '.join(motors) or FRAME}.",
        )
    names = {str(variable.name) for variable in numbers}
    errors = {name: own for name in names if (own := uncertainty_name(name)) in names}
    drawn = [variable for variable in numbers if variable.name not in errors.values()]
    columns = 2 if len(drawn) > 3 else 1
    rows = -(-len(drawn) // columns)
    figure = Picture(figsize=(6 * columns, 2.2 * rows + 0.6), layout="constrained")
    order = np.argsort(places, kind="stable")
    for number, variable in enumerate(drawn, 1):
        axes = figure.add_subplot(rows, columns, number)
        values = np.asarray(variable.values, np.float64)[order]
        values, unit, scale = prefixed_values(values, str(variable.attrs.get(UNITS, "")))
        error = errors.get(str(variable.name))
        bars = None if error is None else scale * np.asarray(dataset[error].values)[order]
        axes.errorbar(places[order], values, bars, fmt="o-", markersize=4, capsize=3)
        axes.set_ylabel(_label(variable.assign_attrs({UNITS: unit or UNKNOWN_UNIT})))
        axes.set_title(str(variable.attrs.get(LONG_NAME, variable.name)), fontsize="medium")
        axes.ticklabel_format(axis=Y, useOffset=False)
        axes.grid(alpha=0.3)
        axes.set_xlabel(label)
    return figure


def _label(array: xr.DataArray) -> str:
    unit = str(array.attrs.get(UNITS, UNKNOWN_UNIT))
    return str(array.name) if unit in (UNKNOWN_UNIT, DIMENSIONLESS) else f"{array.name} [{unit}]"
