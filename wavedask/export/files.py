"""Export for programs that cannot read Zarr: TIFF maps, a CSV table of scalars, NeXus."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import tifffile
import xarray as xr

from wavedask.compute import progress_bar
from wavedask.conventions import (
    COEFFICIENT,
    COEFFICIENT_UNCERTAINTY,
    COEFFICIENT_WAVES,
    COEFFICIENT_WAVES_UNCERTAINTY,
    COMPLETE,
    FRAME,
    LONG_NAME,
    UNITS,
    X,
    Y,
)
from wavedask.errors import InputError
from wavedask.export.nexus import to_nexus
from wavedask.export.pieces import computed, draft, pieces, plain
from wavedask.frames import dataset_of, select
from wavedask.scalars import mode_scalars, scalars
from wavedask.store import as_json, local_path, open_store

NEXUS: Final = "nexus"
TIFF: Final = "tiff"
CSV: Final = "csv"
"""Formats of an export."""
ENDINGS: Final = {
    "": TIFF,
    ".csv": CSV,
    **dict.fromkeys((".h5", ".hdf5", ".hdf", ".nxs", ".nx"), NEXUS),
}
"""Formats by the ending of what is written; TIFF files go into a folder."""
MODE_VARIABLES: Final = (
    COEFFICIENT.name,
    COEFFICIENT_UNCERTAINTY.name,
    COEFFICIENT_WAVES.name,
    COEFFICIENT_WAVES_UNCERTAINTY.name,
)
"""Variables that a table holds as one column for each mode."""


def to_tiff(
    dataset: xr.Dataset,
    path: str | Path,
    *,
    variables: str | Sequence[str] | None = None,
    progress: bool | None = None,
) -> list[Path]:
    """Write maps as TIFF files of 32-bit floating-point numbers, one per variable and frame.

    Units, long name, and the coordinates of the frame are the description of the image, as JSON.

    Parameters
    ----------
    dataset : xarray.Dataset
        A result or a scan.
    path : str or Path
        A folder; it must not exist. Files are called ``wavefront_0003.tif``.
    variables : str or sequence of str, optional
        Maps to write; by default all with the dimensions ``y`` and ``x``.
    progress : bool, optional
        Whether to show a bar; by default on a terminal and in a notebook.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        No dataset, a variable that is not a map, no map at all, or no frames.
    StoreError
        A folder that exists or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> wf = xr.Dataset({"wavefront": (("frame", "y", "x"), np.zeros((1, 4, 5)))})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [file.name for file in to_tiff(wf, f"{folder}/maps")]
    ['wavefront_0000.tif']
    """
    arrays = dataset_of(dataset).data_vars.items()
    maps = {str(name) for name, array in arrays if {Y, X} <= {*array.dims}}
    named = [variables] if isinstance(variables, str) else variables
    chosen = sorted(maps) if named is None else list(named)
    if not chosen or set(chosen) - maps:
        raise InputError(
            f"variables are {chosen}", f"Give maps: {', '.join(sorted(maps)) or 'there are none'}."
        )
    if not all(dataset[chosen].sizes.values()):
        raise InputError(f"the maps have sizes {dict(dataset[chosen].sizes)}", "Give some frames.")
    target = local_path(path)
    files = []
    picked = dataset[chosen]
    parts = list(pieces(picked))
    with (
        draft(target) as unfinished,
        progress_bar(f"writing {target.name}", len(parts), show=progress) as advance,
    ):
        unfinished.mkdir()
        for piece in parts:
            for name, array in computed(picked, piece).data_vars.items():
                files += _write_maps(unfinished, str(name), array, piece)
            advance(1)
    return [target / name for name in dict.fromkeys(files)]


def to_csv(dataset: xr.Dataset, path: str | Path) -> Path:
    """Write everything that is one value per frame as a table, a row per frame.

    Parameters
    ----------
    dataset : xarray.Dataset
        A result or a scan with the dimension ``frame``.
    path : str or Path
        The file; it must not exist.

    Returns
    -------
    Path
        The file, as an absolute path. Its first row names the columns, with units:
        ``lens_x [mm]``, as `wavedask.open_scan` takes them for motors. Columns are the number of
        the frame, coordinates along ``frame`` and with one value for all, variables along
        ``frame`` alone, and the coefficients of named modes: ``mode_coma_x [m]`` and,
        where the photon energy is known, ``mode_coma_x_waves``.

    Raises
    ------
    InputError
        No dataset, or one without frames.
    StoreError
        A file that exists or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> lens = xr.Dataset(
    ...     {"radius": ("frame", [5e-5, 4.9e-5], {"units": "m"})}, {"lens_x": ("frame", [0.0, 0.5])}
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(to_csv(lens, f"{folder}/lens.csv").read_text())
    frame,lens_x,radius [m]
    0,0.0,5e-05
    1,0.5,4.9e-05
    """
    if not dataset_of(dataset).sizes.get(FRAME):
        raise InputError("the dataset has no frames", "Give a result along frame.")
    columns_of: dict[str, xr.DataArray] = {
        **{str(name): coord for name, coord in dataset.coords.items() if _is_column(coord)},
        **scalars(dataset, waves=True),
    }
    table = xr.Dataset(
        {name: array.variable for name, array in columns_of.items() if name != FRAME}
    ).compute()
    columns: dict[str, Any] = {FRAME: np.arange(dataset.sizes[FRAME])}
    for name, variable in table.variables.items():
        unit = str(variable.attrs.get(UNITS, "1"))
        heading = f"{name}" if unit in ("1", "unknown") else f"{name} [{unit}]"
        columns[heading] = np.broadcast_to(plain(variable.values), (dataset.sizes[FRAME],))
    target = local_path(path)
    with draft(target) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    return target


def export_store(
    store: str,
    output: Path,
    *,
    file_format: str | None = None,
    where: str | None = None,
    variables: Sequence[str] = (),
) -> list[tuple[str, str]]:
    """Export a result store, or some of it; frames that are not complete are left out.

    Parameters
    ----------
    store : str
        A result store, or its URL.
    output : Path
        What to write; it must not exist.
    file_format : str, optional
        ``"nexus"``, ``"tiff"`` or ``"csv"``; by default by the ending of `output`.
    where : str, optional
        Condition on the coordinates of frames, see `wavedask.select`.
    variables : sequence of str, optional
        Variables to export; by default all.

    Returns
    -------
    list of (str, str)
        What was written, as rows of a table.

    Raises
    ------
    InputError
        A variable that is not there or that the format does not hold, no frames, or an ending
        that names no format.
    StoreError
        A store that cannot be read, an output that exists or cannot be written.
    """
    chosen = file_format or _format_of(output)
    stored = open_store(store)
    if chosen == CSV:
        # Modes can be named one by one.
        stored = stored.assign(mode_scalars(stored, waves=True))
        stored = stored.drop_vars(MODE_VARIABLES, errors="ignore")
    unknown = set(variables) - {*stored.data_vars}
    if unknown:
        raise InputError(
            f"{store} has no variable {', '.join(sorted(unknown))}",
            f"It has {', '.join(sorted(map(str, stored.data_vars)))}.",
        )
    data = select(stored, COMPLETE.name)
    if where is not None:
        # By itself: a part of a longer condition could mean something else there.
        data = select(data, where)
    if not data.sizes[FRAME]:
        raise InputError(
            f"no complete frame of {store}" + (f" meets the condition {where!r}" if where else ""),
            "'wavedask info' shows frames and ranges of the motors.",
        )
    held = _held(data, chosen)
    if set(variables) - set(held):
        raise InputError(
            f"{', '.join(sorted(set(variables) - set(held)))} cannot be exported as {chosen}",
            "TIFF holds maps, CSV what is one number per frame, NeXus everything.",
        )
    written = [name for name in held if not variables or name in variables]
    picked = data[list(variables)] if variables else data
    if chosen == NEXUS:
        to_nexus(picked, output)
    elif chosen == TIFF:
        to_tiff(picked, output)
    else:
        to_csv(picked, output)
    return [
        ("frames", f"{data.sizes[FRAME]} of {stored.sizes[FRAME]}"),
        ("variables", ", ".join(sorted(written)) or "none, only coordinates"),
        ("format", chosen),
        ("written", str(output.absolute())),
    ]


def _format_of(output: Path) -> str:
    """Format that the ending of a path names."""
    ending = output.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(
            f"the ending of {output} names no format",
            "Give .h5 or .nxs for NeXus, .csv for a table, a folder without an ending for TIFF "
            "maps, or --format.",
        )
    return ENDINGS[ending]


def _held(data: xr.Dataset, file_format: str) -> list[str]:
    """Variables that a format can hold."""
    if file_format == NEXUS:
        return [str(name) for name in data.data_vars]
    return [
        str(name)
        for name, array in data.data_vars.items()
        if (_is_column(array) if file_format == CSV else {Y, X} <= {*array.dims})
    ]


def _is_column(array: xr.DataArray) -> bool:
    """Whether there is one value per frame, or one for all."""
    return not set(array.dims) - {FRAME}


def _write_maps(folder: Path, name: str, array: xr.DataArray, piece: dict[str, slice]) -> list[str]:
    """Write the maps of one variable in a piece; return the names of the files."""
    files = []
    others = [str(dim) for dim in array.dims if dim not in (Y, X)]
    for index in np.ndindex(*(array.sizes[dim] for dim in others)):
        one = array.isel(dict(zip(others, index, strict=True)))
        numbers = [f"_{piece[dim].start + k:04d}" for dim, k in zip(others, index, strict=True)]
        description = {
            **{key: array.attrs[key] for key in (UNITS, LONG_NAME) if key in array.attrs},
            **{str(key): plain(c.values).tolist() for key, c in one.coords.items() if not c.dims},
        }
        files.append(f"{name}{''.join(numbers)}.tif")
        tifffile.imwrite(
            folder / files[-1],
            one.transpose(Y, X).values.astype(np.float32),
            description=json.dumps(as_json(description, where=name)),
            metadata=None,
        )
    return files
