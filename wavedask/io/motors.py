"""Motor positions that the user gives: a mesh, a mapping, or a CSV file beside the images."""

import csv
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from wavedask.conventions import MOTOR, UNKNOWN_UNIT
from wavedask.errors import FileError, InputError, MotorError
from wavedask.io.columns import MOST_COLUMNS, Column
from wavedask.io.files import PathLike, check_regular
from wavedask.io.frames import reading
from wavedask.paths import expanded

Motors: TypeAlias = Mapping[str, npt.ArrayLike] | PathLike

LARGEST_TABLE: Final = 2**26
"""Bytes of a CSV file with positions, which is read at once."""
NAME_AND_UNIT = re.compile(r"(?P<name>.*?)\s*(?:\[(?P<unit>[^\]]*)\])?")


def mesh(
    motor_x: str,
    motor_y: str,
    nx: int,
    ny: int,
    step_x: float,
    step_y: float,
    *,
    start_x: float = 0.0,
    start_y: float = 0.0,
    snake: bool = False,
) -> dict[str, npt.NDArray[np.float64]]:
    """Positions of two motors on an equally spaced mesh, one per frame.

    The first motor is the fast one, as in the ``mesh`` of SPEC: it takes all its positions before
    the second one makes a step.

    Parameters
    ----------
    motor_x, motor_y : str
        Names of the fast and of the slow motor.
    nx, ny : int
        Number of positions of each (not of intervals).
    step_x, step_y : float
        Step of each, in the unit of the motor; may be negative.
    start_x, start_y : float, default 0
        First position of each.
    snake : bool, default False
        Whether the fast motor runs backward in every second line.

    Returns
    -------
    dict of str to numpy.ndarray
        Positions of both motors, ``nx * ny`` each, for ``open_scan(..., motors=...)``.

    Raises
    ------
    InputError
        If the motors have one name, a number is below 1, or a step or start is not finite.

    Examples
    --------
    >>> positions = mesh("detx", "dety", 3, 2, 0.1, 0.2)
    >>> positions["detx"]
    array([0. , 0.1, 0.2, 0. , 0.1, 0.2])
    >>> positions["dety"]
    array([0. , 0. , 0. , 0.2, 0.2, 0.2])
    """
    if motor_x == motor_y:
        raise InputError(f"both motors of the mesh are {motor_x!r}", "Give two different motors.")
    if nx < 1 or ny < 1:
        raise InputError(f"a mesh of {nx} x {ny} positions", "Both numbers must be 1 or more.")
    if not np.isfinite([step_x, step_y, start_x, start_y]).all():
        raise InputError(
            f"steps {step_x}, {step_y} from {start_x}, {start_y}", "All four must be finite."
        )
    fast = np.tile(start_x + step_x * np.arange(nx), (ny, 1))
    if snake:
        fast[1::2] = fast[1::2, ::-1]
    return {motor_x: fast.ravel(), motor_y: np.repeat(start_y + step_y * np.arange(ny), nx)}


def given_columns(motors: Any, *, n_frames: int) -> list[Column]:
    """Columns of the motors that the user gives.

    Parameters
    ----------
    motors : mapping of str to array_like, or path
        One value, or one per frame, by name; or a CSV file with a row of names and one row per
        frame. A name may carry its unit: ``detx [mm]``.
    n_frames : int
        Frames of the scan.

    Returns
    -------
    list of Column
        One per motor.

    Raises
    ------
    FileError
        If the CSV file cannot be read.
    MotorError
        If there is neither one value nor one per frame, or something is not a number.
    """
    if isinstance(motors, str | os.PathLike):
        return _sidecar_columns(expanded(motors), n_frames)
    if not hasattr(motors, "items"):
        raise MotorError(
            f"motors is {motors!r}",
            "Give positions by name, {'lens_x': [0.0, 0.5]}, or a CSV file of positions.",
        )
    columns = []
    for name, given in motors.items():
        try:
            values = np.array(given, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise MotorError(
                f"motors={{{name!r}: ...}} holds what is no number: {error}",
                "Give one number, or one per frame.",
            ) from error
        if values.ndim > 1 or (values.ndim == 1 and values.size != n_frames):
            raise MotorError(
                f"motors={{{name!r}: ...}} has {_counted(values)} values, but the scan has"
                f" {n_frames} frames",
                "Give one number, or one per frame in the order of the files.",
            )
        columns.append(titled_column(name, values))
    return columns


def _counted(values: npt.NDArray[np.float64]) -> str:
    return " x ".join(str(size) for size in values.shape)


def titled_column(title: str, values: npt.NDArray[np.float64]) -> Column:
    """Make a column of positions under a title such as ``detx`` or ``detx [mm]``.

    Parameters
    ----------
    title : str
        Name of the motor, perhaps with its unit in brackets.
    values : numpy.ndarray
        The positions.

    Returns
    -------
    Column

    Raises
    ------
    MotorError
        If the title is no name.

    Examples
    --------
    >>> titled_column("detx [mm]", np.array(0.5)).units
    'mm'
    """
    match = NAME_AND_UNIT.fullmatch(str(title).strip())
    if match is None or not match["name"]:
        raise MotorError(f"{title!r} is no name of a motor", "Write 'detx' or 'detx [mm]'.")
    return Column(match["name"], MOTOR, values, match["unit"] or UNKNOWN_UNIT)


def _sidecar_columns(path: Path, n_frames: int) -> list[Column]:
    names, lines = _sidecar_rows(path)
    if len(lines) != n_frames:
        raise MotorError(
            f"{path} has {len(lines)} rows of positions, but the scan has {n_frames} frames",
            "Write one row per frame, in the order of the files, below the row of names.",
        )
    table = np.array([_numbers(row, names, line, path) for line, row in lines])
    return [titled_column(name, values) for name, values in zip(names, table.T, strict=True)]


def _sidecar_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Names in the first row of a CSV file, and its other rows with their line numbers."""
    check_regular(path)
    with reading(path):
        size = path.stat().st_size
    if size > LARGEST_TABLE:
        raise FileError(f"{path} has {size} bytes", "Is it a table of positions? Check the path.")
    # A spreadsheet begins its UTF-8 with a byte-order mark.
    with reading(path), path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, skipinitialspace=True)
        try:
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
        except csv.Error as error:
            raise FileError(
                f"{path}, line {reader.line_num}: {error}", "Save it as plain CSV."
            ) from error
    rows = [(line, row) for line, row in rows if any(row) and not row[0].startswith("#")]
    if not rows:
        raise FileError(f"{path} is empty", "Write a row of names and one row per frame.")
    (line, names), *others = rows
    if len(names) > MOST_COLUMNS:
        raise MotorError(
            f"{path} names {len(names)} motors, more than {MOST_COLUMNS}",
            "Keep the columns of the motors that matter.",
        )
    if any(_is_number(name) for name in names) or len(set(names)) < len(names):
        raise MotorError(
            f"{path}, line {line}: {', '.join(names)} are not names of different motors",
            "The first row names the motors, each once: 'detx [mm], dety [mm]'.",
        )
    return names, others


def _numbers(row: list[str], names: list[str], line: int, path: Path) -> list[float]:
    if len(row) != len(names):
        raise MotorError(
            f"{path}, line {line}: {len(row)} values for {len(names)} motors",
            f"Each row has one value for each of {', '.join(names)}.",
        )
    wrong = [(name, text) for name, text in zip(names, row, strict=True) if not _is_number(text)]
    if wrong:
        name, text = wrong[0]
        raise MotorError(
            f"{path}, line {line}: the position of {name!r} is {text!r}, which is no number",
            "Correct the line; a decimal point is a point.",
        )
    return [float(text) for text in row]


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
