"""The accessor ``ds.wave``: functions whose first argument is a dataset, as methods."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import xarray as xr

from wavedask.detector import blind_pixels, correct, detector_distortion
from wavedask.export import to_csv, to_nexus, to_tiff
from wavedask.frames import grid, nearest, select, where_motors
from wavedask.io import refresh
from wavedask.optics import (
    compare,
    find_focus,
    fit_lens,
    fit_wavefront,
    kb_pair,
    legendre,
    lens_contributions,
    mirror,
    propagate,
    psd,
    remove,
    stitch,
    table,
    zernike,
)
from wavedask.plot import plot_dataset
from wavedask.report import write_report
from wavedask.tables import Rows, html_table
from wavedask.tracking import (
    combine,
    describe_residual,
    describe_speckle,
    self_reference,
    track,
    track_scan,
    visibility_uncertainty,
    why_missing,
)
from wavedask.wavefront import budget, wavefront

P = ParamSpec("P")
R = TypeVar("R")


def _method(function: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate["Wave", P], R]:
    """Make a method of a function whose first argument is the dataset."""

    @wraps(function)
    def method(self: "Wave", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return function(self._dataset, *args, **kwargs)

    return method


@xr.register_dataset_accessor("wave")  # type: ignore[no-untyped-call] # xarray does not annotate it
class Wave:
    """Functions of wavedask as methods of a dataset, which is their first argument.

    Each method is the function of the same name; `query` is `select`, and `plot` is
    `wavedask.plot.plot_dataset`.

    Examples
    --------
    >>> scan = xr.Dataset(coords={"energy": ("frame", [17.0, 17.5, 18.0])})
    >>> scan.wave.query("energy > 17").energy.values
    array([17.5, 18. ])
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    def __repr__(self) -> str:
        """List the methods, with the first line of their documentation."""
        lines = [f"  {name.ljust(20)} {summary}" for name, summary in _methods()]
        return "\n".join(("wavedask functions of this dataset: ds.wave.NAME(...)", *lines))

    def _repr_html_(self) -> str:
        """List the methods for a notebook."""
        return html_table(_methods(), title="wavedask functions of this dataset: ds.wave.NAME(...)")

    refresh = _method(refresh)
    query = _method(select)
    nearest = _method(nearest)
    grid = _method(grid)
    where_motors = _method(where_motors)
    correct = _method(correct)
    blind_pixels = _method(blind_pixels)
    detector_distortion = _method(detector_distortion)
    describe_speckle = _method(describe_speckle)
    track = _method(track)
    track_scan = _method(track_scan)
    self_reference = _method(self_reference)
    combine = _method(combine)
    visibility_uncertainty = _method(visibility_uncertainty)
    why_missing = _method(why_missing)
    describe_residual = _method(describe_residual)
    wavefront = _method(wavefront)
    budget = _method(budget)
    fit_lens = _method(fit_lens)
    fit_wavefront = _method(fit_wavefront)
    zernike = _method(zernike)
    legendre = _method(legendre)
    remove = _method(remove)
    lens_contributions = _method(lens_contributions)
    mirror = _method(mirror)
    kb_pair = _method(kb_pair)
    find_focus = _method(find_focus)
    propagate = _method(propagate)
    psd = _method(psd)
    stitch = _method(stitch)
    compare = _method(compare)
    table = _method(table)
    plot = _method(plot_dataset)
    write_report = _method(write_report)
    to_nexus = _method(to_nexus)
    to_tiff = _method(to_tiff)
    to_csv = _method(to_csv)


def _methods() -> Rows:
    """Name the methods of the accessor, each with its summary."""
    return [
        (name, (inspect.getdoc(method) or "").partition("\n")[0])
        for name, method in vars(Wave).items()
        if inspect.isfunction(method) and not name.startswith("_")
    ]
