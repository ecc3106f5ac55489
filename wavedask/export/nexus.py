"""NeXus/HDF5 export for viewers that cannot read Zarr, with a default plot."""

import json
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import xarray as xr

from wavedask.compute import progress_bar
from wavedask.conventions import (
    FRAME,
    IMAGE,
    LONG_NAME,
    MOTOR,
    PHASE,
    QUANTITIES,
    ROLE,
    SLOPE_X,
    UNITS,
    WAVEFRONT,
    X,
    Y,
)
from wavedask.errors import InputError
from wavedask.export.pieces import computed, draft, pieces, plain
from wavedask.export.sink import HDF5Sink
from wavedask.frames import dataset_of
from wavedask.store import as_json, local_path, versions

PLOTTED_FIRST: Final = (WAVEFRONT.name, PHASE.name, SLOPE_X.name)
"""What a viewer shows when it opens a file, the first of these that is there."""


def to_nexus(
    dataset: xr.Dataset,
    path: str | Path,
    *,
    compression: str | None = None,
    progress: bool | None = None,
) -> Path:
    """Write a result as a NeXus file that silx, h5web and other viewers open plotted.

    Every variable with dimensions becomes an ``NXdata`` group of its own, with its signal, axes,
    units and long name; motors along ``frame`` are further axes of it. The default plot is the
    wavefront, or else the phase, a slope, or the first map. Motors are also in
    ``instrument/positioners``, settings, versions and inputs in ``process``. The frames of a scan
    are also in ``instrument/detector``, where `wavedask.open_scan` finds them again.

    Lazy variables are computed block of frames by block of frames, all variables together: memory
    is bounded by one block. A file is there in full or not at all.

    Parameters
    ----------
    dataset : xarray.Dataset
        A result or a scan.
    path : str or Path
        The file, by habit ``.h5`` or ``.nxs``; it must not exist.
    compression : str, optional
        ``"gzip"`` to compress. Maps of noisy floating-point numbers become a tenth smaller, and
        take several times as long.
    progress : bool, optional
        Whether to show a bar; by default on a terminal and in a notebook.

    Returns
    -------
    Path
        The file, as an absolute path.

    Raises
    ------
    InputError
        No dataset, nothing to plot, a compression that is not known, or a dimension without a
        size.
    StoreError
        A file that exists or cannot be written.

    Examples
    --------
    >>> import h5py, tempfile
    >>> wf = xr.Dataset({"wavefront": (("y", "x"), np.zeros((4, 5)), {"units": "m"})})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with h5py.File(to_nexus(wf, f"{folder}/wf.h5")) as file:
    ...         file["entry"].attrs["default"], file["entry/wavefront"].attrs["signal"]
    ('wavefront', 'wavefront')
    """
    maps = _plottable(dataset_of(dataset))
    if compression not in (None, "gzip"):
        raise InputError(f"compression is {compression!r}", "Give 'gzip', or None.")
    target = local_path(path)
    with draft(target) as unfinished, HDF5Sink(unfinished) as sink:
        file = sink.file
        file.attrs.update(NX_class="NXroot", default="entry")
        entry = _group(file, "entry", "NXentry")
        entry.attrs["default"] = maps[0]
        entry["title"] = str(dataset.attrs.get("title", target.stem))
        _write_process(entry, dataset)
        _write_positioners(entry, dataset)
        signals = {
            name: _write_data(entry, dataset[name], compression=compression) for name in maps
        }
        if IMAGE.name in signals:
            # Where programs look for frames, this one among them.
            detector = _group(entry["instrument"], "detector", "NXdetector")
            detector["data"] = signals[IMAGE.name]
        parts = list(pieces(dataset))
        with progress_bar(f"writing {target.name}", len(parts), show=progress) as advance:
            for piece in parts:
                _write_piece(signals, dataset, piece)
                sink.check()
                advance(1)
    return target


def _plottable(dataset: xr.Dataset) -> list[str]:
    """Variables with dimensions, what is plotted first in front."""
    names = [
        str(name)
        for name, array in dataset.data_vars.items()
        if array.ndim and array.dtype.kind in "biuf"
    ]
    if not names or not all(dataset.sizes.values()):
        raise InputError(
            f"there is nothing to plot: dimensions {dict(dataset.sizes)}, variables {names}",
            "Give a result with at least one frame and one map.",
        )
    order = [*PLOTTED_FIRST, *QUANTITIES]
    places = {name: place for place, name in reversed(list(enumerate(order)))}
    maps_first = {name: not {Y, X} <= {*dataset[name].dims} for name in names}
    return sorted(names, key=lambda name: (maps_first[name], places.get(name, len(order)), name))


def _write_data(entry: Any, array: xr.DataArray, *, compression: str | None) -> Any:
    """Write an NXdata group but for its signal; return the empty signal."""
    group = _group(entry, str(array.name), "NXdata")
    group.attrs["signal"] = str(array.name)
    chunks = tuple(1 if dim not in (Y, X) else size for dim, size in array.sizes.items())
    signal = group.create_dataset(
        str(array.name),
        shape=array.shape,
        dtype=np.int8 if array.dtype.kind == "b" else array.dtype,
        chunks=chunks if array.ndim > 2 or compression else None,
        compression=compression,
        shuffle=compression is not None,
    )
    _describe(signal, array.attrs, str(array.name))
    axes = []
    for number, dim in enumerate(map(str, array.dims)):
        axes.append(_axis(array, dim))
        for name, coord in array.coords.items():
            if coord.dims == (dim,) and coord.dtype.kind in "biufM":
                _write_axis(group, str(name), coord.values, coord.attrs, number)
        if axes[-1] == dim and dim not in array.coords:
            what = {UNITS: "1", LONG_NAME: f"number of the {dim}"}
            _write_axis(group, dim, np.arange(array.sizes[dim]), what, number)
    group.attrs["axes"] = axes
    return signal


def _axis(array: xr.DataArray, dim: str) -> str:
    """Coordinate against which a dimension is plotted: along frame the only motor that moved."""
    if dim != FRAME or dim in array.coords:
        return dim
    moved = [
        str(name)
        for name, coord in array.coords.items()
        if coord.dims == (dim,) and coord.attrs.get(ROLE) == MOTOR
    ]
    if len(moved) != 1:
        return dim
    steps = np.diff(array[moved[0]].values)
    return moved[0] if (steps > 0).all() or (steps < 0).all() else dim


def _write_axis(group: Any, name: str, values: Any, attrs: Any, number: int) -> None:
    if name in group:  # a coordinate that is called like its variable
        return
    _put(group, name, values, attrs)
    group.attrs[f"{name}_indices"] = number


def _write_positioners(entry: Any, dataset: xr.Dataset) -> None:
    group = _group(_group(entry, "instrument", "NXinstrument"), "positioners", "NXcollection")
    for name, coord in dataset.coords.items():
        if not set(coord.dims) - {FRAME}:
            _put(group, str(name), coord.values, coord.attrs)


def _write_process(entry: Any, dataset: xr.Dataset) -> None:
    """Write what a result was made of."""
    group = _group(entry, "process", "NXprocess")
    group["program"] = "wavedask"
    group["version"] = versions()["wavedask"]
    note = _group(group, "provenance", "NXnote")
    note["type"] = "application/json"
    note["data"] = json.dumps(as_json(dict(dataset.attrs), where="attributes"), indent=1)


def _write_piece(signals: dict[str, Any], dataset: xr.Dataset, piece: dict[str, slice]) -> None:
    """Compute and write one piece of all variables that have its dimensions."""
    values = computed(dataset[list(signals)], piece)
    for name, signal in signals.items():
        if name in values:
            where = tuple(piece.get(str(dim), slice(None)) for dim in dataset[name].dims)
            signal[where] = values[name].values


def _group(parent: Any, name: str, kind: str) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = kind
    return group


def _put(group: Any, name: str, values: Any, attrs: Any) -> None:
    """Write a small array with its unit."""
    written = plain(values)
    text = h5py.string_dtype() if written.dtype.kind == "O" else None
    _describe(group.create_dataset(name, data=written, dtype=text), attrs, name)


def _describe(node: Any, attrs: Any, name: str) -> None:
    node.attrs["units"] = str(attrs.get(UNITS, ""))
    node.attrs["long_name"] = f"{attrs.get(LONG_NAME, name)}" + (
        f" [{attrs[UNITS]}]" if attrs.get(UNITS) not in (None, "", "1") else ""
    )
