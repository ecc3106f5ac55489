"""Scans, stores and plans in words: rows of a name and a value, for tables."""

from pathlib import Path

import numpy as np
import xarray as xr

from wavedask.conventions import (
    COMPLETE,
    COUNTER,
    FRAME,
    IMAGE,
    LONG_NAME,
    MOTOR,
    ROLE,
    UNITS,
    UNKNOWN_UNIT,
    X,
    Y,
)
from wavedask.pipeline import Stages, plan
from wavedask.store import open_store

Rows = list[tuple[str, str]]


def is_store(path: str | Path) -> bool:
    """Whether a path is a Zarr group rather than raw frames.

    Examples
    --------
    >>> is_store("sample_0000.edf")
    False
    """
    return (Path(path) / "zarr.json").is_file()


def describe_scan(scan: xr.Dataset, *, everything: bool = False) -> Rows:
    """Describe raw frames: how many, how large, which motors moved, how they are chunked.

    Parameters
    ----------
    scan : xarray.Dataset
        As of `wavedask.open_scan`.
    everything : bool, default False
        Whether to list the motors that stand still, too.

    Returns
    -------
    list of (str, str)

    Examples
    --------
    >>> import tempfile
    >>> from wavedask.simulate import Lens, write_campaign
    >>> from wavedask.io import open_scan
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     campaign = write_campaign(folder, lens=Lens(50e-6, 1.2e-6), shape=(32, 32))
    ...     dict(describe_scan(open_scan(campaign.sample)))["lens_x"]
    '0 … 0.02 (2 values)'
    """
    image = scan[IMAGE.name]
    frames, rows, columns = image.shape
    block = image.data.chunksize
    size = image.dtype.itemsize
    described: Rows = [
        ("frames", str(frames)),
        ("frame", f"{rows} x {columns} px, {image.dtype.name}"),
        ("size", _bytes(image.nbytes)),
        (
            "chunks",
            f"{image.data.npartitions} of {' x '.join(map(str, block))} "
            f"({FRAME}, {Y}, {X}), {_bytes(int(np.prod(block)) * size)} each",
        ),
    ]
    moving = [
        (str(name), coord)
        for name, coord in scan.coords.items()
        if coord.attrs.get(ROLE) in (MOTOR, COUNTER) and coord.dims == (FRAME,)
    ]
    still = [
        (str(name), coord)
        for name, coord in scan.coords.items()
        if coord.attrs.get(ROLE) == MOTOR and coord.ndim == 0
    ]
    motors = [item for item in moving if item[1].attrs[ROLE] == MOTOR]
    described.append(("motors that moved", str(len(motors))))
    described += [(name, _range(coord)) for name, coord in motors]
    counters = [name for name, coord in moving if coord.attrs[ROLE] == COUNTER]
    if counters:
        described.append(("counters that changed", ", ".join(counters)))
    described.append(("motors that stood still", str(len(still))))
    if everything:
        described += [(name, f"{float(coord):g}{_unit(coord)}") for name, coord in still]
    return described


def describe_store(path: str | Path) -> Rows:
    """Describe a result store: frames, what is complete, variables, motors, origin.

    Parameters
    ----------
    path : path
        The store.

    Returns
    -------
    list of (str, str)

    Raises
    ------
    StoreError
        Not a result store.
    """
    stored = open_store(path)
    complete = int(stored[COMPLETE.name].sum())
    described: Rows = [
        ("frames", f"{stored.sizes[FRAME]} ({complete} complete)"),
        ("written by", f"wavedask {stored.attrs['wavedask_version']}, {stored.attrs['created']}"),
        ("input files", str(len(stored.attrs["inputs"]))),
    ]
    for name, variable in stored.data_vars.items():
        dims = " x ".join(f"{dim} {size}" for dim, size in variable.sizes.items())
        label = variable.attrs.get(LONG_NAME, "")
        described.append((str(name), f"{label}{_unit(variable)}; {dims}"))
    described += [
        (str(name), _range(coord))
        for name, coord in stored.coords.items()
        if coord.attrs.get(ROLE) == MOTOR and coord.dims == (FRAME,)
    ]
    return described


def describe_plan(prepared: Stages) -> Rows:
    """Describe what a run will take, before it starts.

    Parameters
    ----------
    prepared : Stages
        As of `wavedask.pipeline.stages`.

    Returns
    -------
    list of (str, str)
    """
    asked = plan(prepared.result, prepared.image)
    return [
        ("frames", f"{asked.frames} of {asked.shape[0]} x {asked.shape[1]} px"),
        ("input", f"{_bytes(asked.bytes_input)} in {len(prepared.inputs)} files"),
        ("blocks", f"{asked.blocks} of {' x '.join(map(str, asked.block_shape))}"),
        ("tasks", f"about {asked.tasks:,}"),
        ("memory", f"about {_bytes(asked.bytes_per_task)} per block at work, one per worker"),
        ("output", f"{_bytes(asked.bytes_output)} before compression"),
        ("variables", ", ".join(map(str, prepared.result.data_vars))),
    ]


def _unit(array: xr.DataArray) -> str:
    unit = array.attrs.get(UNITS, UNKNOWN_UNIT)
    return "" if unit in (UNKNOWN_UNIT, "1") else f" {unit}"


def _range(coord: xr.DataArray) -> str:
    values = np.unique(coord.values[np.isfinite(coord.values)])
    if not values.size:
        return "no number"
    return f"{values[0]:g} … {values[-1]:g}{_unit(coord)} ({values.size} values)"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
