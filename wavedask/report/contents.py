"""The tables of a report: result, set-up, numbers of the frames, settings, provenance."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import xarray as xr

from wavedask.conventions import (
    COMPLETE,
    DIMENSIONLESS,
    FRAME,
    LONG_NAME,
    MATCHED,
    MOTOR,
    ROLE,
    UNCERTAINTY,
    UNITS,
    UNKNOWN_UNIT,
    X,
    Y,
    uncertainty_name,
)
from wavedask.errors import WavedaskError
from wavedask.prefixes import prefixed, prefixed_values
from wavedask.report.summary import chosen_frames, headlines, summary_rows
from wavedask.store import CREATED, RUNS, SETTINGS, VERSIONS
from wavedask.tables import Rows
from wavedask.units import DISTANCE, ENERGY, MODE, WAVELENGTH
from wavedask.wavefront import NEEDED, Budget, budget

Cells = list[tuple[str, float]]
"""Cells of a row: the text, and the number to sort by."""

MOST_ROWS: Final = 2000
"""Frames of the table; of more, evenly chosen ones are listed."""
PRINTED: Final = 6
"""Columns beside the first one that a printed page has room for."""
MOST_INPUTS: Final = 40
"""Input files that are listed; of more, the first and the last."""


def result_rows(numbers: xr.Dataset, matched: Rows, *, complete: int, total: int) -> Rows:
    """Write the numbers that tell whether the measurement is good.

    Parameters
    ----------
    numbers : xarray.Dataset
        As of `numbers_of_frames`.
    matched : list of (str, str)
        As of `matched_rows`; empty where the result does not say why pixels have no displacement.
    complete, total : int
        Frames of the result that are written, and all.

    Returns
    -------
    list of (str, str)

    Examples
    --------
    >>> numbers = xr.Dataset({"wavefront_rms": ("frame", [1e-9])})
    >>> result_rows(numbers, [], complete=1, total=2)
    [('frames', '1 complete of 2'), ('wavefront, rms', '1 nm')]
    """
    rows = [("frames", f"{complete}" if complete == total else f"{complete} complete of {total}")]
    if matched:
        numbers = numbers.drop_vars(MATCHED.name, errors="ignore")
    return [*rows, *matched, *summary_rows(numbers)]


def setup_rows(result: xr.Dataset) -> Rows:
    """Write energy, distances, axes and motors of a result.

    Examples
    --------
    >>> setup_rows(xr.Dataset(attrs={"mode": "differential", "distance": 1.0, "energy_keV": 17.0}))
    [('mode', 'differential'), ('photon energy', '17 keV'), ('distance', '1 m')]
    """
    rows: Rows = []
    attrs = result.attrs
    if MODE in attrs:
        rows.append(("mode", str(attrs[MODE])))
    if ENERGY in attrs:
        rows.append(("photon energy", f"{float(attrs[ENERGY]):.6g} keV"))
    if WAVELENGTH in attrs:
        scale, unit = prefixed(float(attrs[WAVELENGTH]), "m")
        rows.append(("wavelength", f"{float(attrs[WAVELENGTH]) * scale:.5g} {unit}"))
    rows += [
        (name.replace("_", " "), _length(attrs[name]))
        for name in attrs
        if str(name).endswith(DISTANCE) and np.isscalar(attrs[name])
    ]
    for dim in (Y, X):
        if dim in result.coords:
            unit = str(result[dim].attrs.get(UNITS, UNKNOWN_UNIT))
            line = prefixed_values(result[dim], unit)
            ends = f"{line.values[0]:.4g} to {line.values[-1]:.4g} {line.unit}"
            rows.append((f"axis {dim}", f"{ends}, {line.values.size} px"))
    for name, coord in result.coords.items():
        if coord.attrs.get(ROLE) == MOTOR and coord.dtype.kind in "fiu":
            rows.append((f"motor {name}", _range(coord)))
    return rows


def _length(value: Any) -> str:
    number = float(value)
    if not math.isfinite(number):
        return str(number)
    scale, unit = prefixed(abs(number), "m")
    return f"{number * scale:.6g} {unit}"


def _unit(array: xr.DataArray) -> str:
    unit = str(array.attrs.get(UNITS, UNKNOWN_UNIT))
    return "" if unit in (UNKNOWN_UNIT, DIMENSIONLESS) else unit


def _range(coord: xr.DataArray) -> str:
    values = np.unique(np.atleast_1d(coord.values))
    unit = _unit(coord)
    if values.size == 1:
        return f"{values[0]:g} {unit}".rstrip()
    return f"{values[0]:g} to {values[-1]:g} {unit}".rstrip() + f" ({values.size} values)"


def budget_of(single: xr.Dataset) -> Budget | None:
    """Compute the error budget of one frame; None where it has none.

    Examples
    --------
    >>> budget_of(xr.Dataset()) is None
    True
    """
    if not {*NEEDED} <= {*single.data_vars}:
        return None
    try:
        return budget(single)
    except WavedaskError:
        # A frame without pixels has no budget, and the page says why they are missing.
        return None


def frame_table(
    numbers: xr.Dataset, known: Sequence[int]
) -> tuple[list[tuple[str, str]], list[Cells]]:
    """List motors and numbers by frame.

    Parameters
    ----------
    numbers : xarray.Dataset
        As of `numbers_of_frames`.
    known : sequence of int
        Numbers of its frames in the result.

    Returns
    -------
    head : list of (str, str)
        Label and meaning of each column.
    rows : list of list of (str, float)
        Cells by frame: the text, and the number to sort by.

    Examples
    --------
    >>> head, rows = frame_table(xr.Dataset({"matched_share": ("frame", [0.5])}), [7])
    >>> [label for label, meaning in head], rows
    (['frame', 'matched_share [%]'], [[('7', 7.0), ('50', 50.0)]])
    """
    columns: list[tuple[str, xr.DataArray]] = [
        (str(name), coord)
        for name, coord in numbers.coords.items()
        if coord.dims == (FRAME,) and coord.attrs.get(ROLE) == MOTOR and coord.dtype.kind in "fiu"
    ]
    names = [str(name) for name, array in numbers.data_vars.items() if array.dtype.kind == "f"]
    # The numbers of the summary come first, each before its error.
    first = [line.variable for line in headlines(numbers)]
    ordered = dict.fromkeys(
        part
        for name in (*first, *names)
        for part in (name, uncertainty_name(name))
        if part in names and name != COMPLETE.name
    )
    columns += [(name, numbers[name]) for name in map(str, ordered)]
    scaled = []
    for name, array in columns:
        values, unit, _ = prefixed_values(array, _unit(array))
        if name == MATCHED.name:
            values, unit = 100 * values, "%"
        label = f"{name} [{unit}]" if unit else name
        scaled.append((label, str(array.attrs.get(LONG_NAME, name)), values))
    head = [(FRAME, "number of the frame"), *((label, meaning) for label, meaning, _ in scaled)]
    rows: list[Cells] = []
    for place in chosen_frames(len(known), MOST_ROWS):
        row = [(f"{known[place]}", float(known[place]))]
        row += [
            (f"{values[place]:.5g}" if np.isfinite(values[place]) else "–", float(values[place]))
            for _, _, values in scaled
        ]
        rows.append(row)
    return head, rows


def narrow_tables(
    head: Sequence[tuple[str, str]], rows: Sequence[Cells], *, columns: int = PRINTED
) -> list[tuple[list[str], list[list[str]]]]:
    """Divide a wide table into tables that fit on a printed page, each with the first column.

    A number and its standard error stay together.

    Examples
    --------
    >>> head = [(name, "") for name in ("frame", "a", "b", "c")]
    >>> rows = [[("0", 0.0), ("1", 1.0), ("2", 2.0), ("3", 3.0)]]
    >>> narrow_tables(head, rows, columns=2)
    [(['frame', 'a', 'b'], [['0', '1', '2']]), (['frame', 'c'], [['0', '3']])]
    >>> head[3] = ("b_uncertainty", "")
    >>> [names for names, rows in narrow_tables(head, rows, columns=2)]
    [['frame', 'a'], ['frame', 'b', 'b_uncertainty']]
    """
    groups: list[list[int]] = []
    start = 1
    while start < len(head):
        stop = min(start + columns, len(head))
        if stop < len(head) and stop > start + 1 and UNCERTAINTY in head[stop][0]:
            stop -= 1
        groups.append([0, *range(start, stop)])
        start = stop
    return [
        ([head[place][0] for place in group], [[row[place][0] for place in group] for row in rows])
        for group in groups
    ]


def settings_rows(settings: Mapping[str, Any], prefix: str = "") -> Rows:
    """Write settings one by one; what was not set is left out.

    Examples
    --------
    >>> settings_rows({"track": {"window": 21, "over": None}})
    [('track.window', '21')]
    """
    rows: Rows = []
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows += settings_rows(value, f"{name}.")
        elif value not in (None, [], ""):
            rows.append((name, str(value)))
    return rows


def provenance_rows(result: xr.Dataset, title: str) -> Rows:
    """Write when and by what a result was made, and how to repeat it.

    Examples
    --------
    >>> provenance_rows(xr.Dataset(attrs={"created": "2026-11-29"}), "results.zarr")
    [('created', '2026-11-29')]
    """
    attrs = result.attrs
    rows: Rows = []
    if CREATED in attrs:
        rows.append(("created", str(attrs[CREATED])))
    for number, run in enumerate(attrs.get(RUNS, [])):
        rows.append((f"run {number}", f"{run.get('started', '')}, {run.get('frames', '?')} frames"))
    versions = attrs.get(VERSIONS, {})
    if versions:
        rows.append(
            ("versions", ", ".join(f"{name} {number}" for name, number in versions.items()))
        )
    if SETTINGS in attrs:
        rows.append(("show the history", f"wavedask history {title}"))
        rows.append(("repeat", f"wavedask run --from {title} --output again.zarr"))
        rows.append(("check", f"wavedask history --verify {title}"))
    return rows


def input_rows(inputs: Sequence[Mapping[str, Any]]) -> tuple[Rows, int]:
    """List the input files, and count those that are left out.

    Examples
    --------
    >>> input_rows([{"path": "a.edf", "size": 9}])
    ([('a.edf', '9 bytes')], 0)
    """
    half = MOST_INPUTS // 2
    listed = inputs if len(inputs) <= MOST_INPUTS else [*inputs[:half], *inputs[-half:]]
    rows = [
        (
            str(item["path"]),
            f"{item['size']} bytes" + (f", sha256 {item['sha256']}" if "sha256" in item else ""),
        )
        for item in listed
    ]
    return rows, len(inputs) - len(listed)
