"""Export for programs that cannot read Zarr: TIFF maps, a CSV table of scalars, NeXus."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import xarray as xr

from wavedask.conventions import COMPLETE, FRAME, LONG_NAME, UNITS, X, Y
from wavedask.errors import InputError
from wavedask.nexus import to_nexus
from wavedask.pieces import draft, part, pieces, plain
from wavedask.progress import progress_bar
from wavedask.provenance import as_json
from wavedask.queries import select
from wavedask.store import open_store


def to_tiff(
    dataset: xr.Dataset,
    path: str | Path,
    *,
    variables: Sequence[str] | None = None,
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
    variables : sequence of str, optional
        Maps to write; by default all with the dimensions ``y`` and ``x``.
    progress : bool, optional
        Whether to show a bar; by default on a terminal only.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        A variable that is not a map, or no map at all.
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
    maps = {str(name) for name, array in dataset.data_vars.items() if {Y, X} <= {*array.dims}}
    chosen = sorted(maps) if variables is None else list(variables)
    if not chosen or set(chosen) - maps:
        raise InputError(
            f"variables are {chosen}", f"Give maps: {', '.join(sorted(maps)) or 'there are none'}."
        )
    target = Path(path).absolute()
    files = []
    picked = dataset[chosen]
    parts = list(pieces(picked))
    with (
        draft(target) as unfinished,
        progress_bar(f"writing {target.name}", len(parts), show=progress) as advance,
    ):
        unfinished.mkdir()
        for piece in parts:
            computed = part(picked, piece).compute()
            for name, array in computed.data_vars.items():
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
        the frame, coordinates along ``frame`` and with one value for all, and variables along
        ``frame`` alone.

    Raises
    ------
    InputError
        Data without frames.
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
    if not dataset.sizes.get(FRAME):
        raise InputError("the dataset has no frames", "Give a result along frame.")
    scalars = [
        array
        for name, array in [*dataset.coords.items(), *dataset.data_vars.items()]
        if not set(array.dims) - {FRAME} and name != FRAME
    ]
    table = xr.Dataset({array.name: array.variable for array in scalars}).compute()
    columns: dict[str, Any] = {FRAME: np.arange(dataset.sizes[FRAME])}
    for name, variable in table.variables.items():
        unit = str(variable.attrs.get(UNITS, "1"))
        heading = f"{name}" if unit in ("1", "unknown") else f"{name} [{unit}]"
        columns[heading] = np.broadcast_to(plain(variable.values), (dataset.sizes[FRAME],))
    target = Path(path).absolute()
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
        A variable that is not there, or no frames.
    StoreError
        A store that cannot be read, an output that exists or cannot be written.
    """
    chosen = file_format or {".csv": "csv", "": "tiff"}.get(output.suffix.lower(), "nexus")
    data = open_store(store)
    unknown = set(variables) - {*data.data_vars}
    if unknown:
        raise InputError(
            f"{store} has no variable {', '.join(sorted(unknown))}",
            f"It has {', '.join(sorted(map(str, data.data_vars)))}.",
        )
    frames = data.sizes[FRAME]
    data = select(data, f"{COMPLETE.name} and ({where})" if where else COMPLETE.name)
    if not data.sizes[FRAME]:
        raise InputError(
            f"no complete frame of {store} meets the condition {where!r}",
            "'wavedask info' shows frames and ranges of the motors.",
        )
    picked = data[list(variables)] if variables else data
    if chosen == "nexus":
        to_nexus(picked, output)
    elif chosen == "tiff":
        to_tiff(picked, output)
    else:
        to_csv(picked, output)
    return [
        ("frames", f"{data.sizes[FRAME]} of {frames}"),
        ("variables", ", ".join(sorted(map(str, picked.data_vars)))),
        ("format", chosen),
        ("written", str(output.absolute())),
    ]


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
