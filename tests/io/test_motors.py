"""Motor positions that the user gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from wavedask.conventions import UNKNOWN_UNIT
from wavedask.errors import FileError, InputError, MotorError
from wavedask.io.motors import given_columns, mesh
from wavedask.io.scan import open_scan

COUNTS = st.integers(1, 12)
STEPS = st.floats(-1e3, 1e3)


@given(nx=COUNTS, ny=COUNTS, step_x=STEPS, step_y=STEPS, snake=st.booleans())
def test_mesh_visits_every_node_once_the_first_motor_fastest(
    nx: int, ny: int, step_x: float, step_y: float, snake: bool
) -> None:
    positions = mesh("detx", "dety", nx, ny, step_x, step_y, start_x=5.0, start_y=-2.0, snake=snake)
    fast = positions["detx"].reshape(ny, nx)
    slow = positions["dety"].reshape(ny, nx)
    line = 5.0 + step_x * np.arange(nx)
    np.testing.assert_array_equal(slow, np.repeat((-2.0 + step_y * np.arange(ny))[:, None], nx, 1))
    np.testing.assert_array_equal(fast[0::2], np.tile(line, (len(fast[0::2]), 1)))
    np.testing.assert_array_equal(
        fast[1::2], np.tile(line[::-1] if snake else line, (len(fast[1::2]), 1))
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a", "a", 2, 2, 1.0, 1.0), "both motors"),
        (("a", "b", 0, 2, 1.0, 1.0), "0 x 2"),
        (("a", "b", 2, 2, np.nan, 1.0), "finite"),
    ],
)
def test_impossible_mesh(arguments: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        mesh(*arguments)


def test_mapping_of_one_value_or_one_per_frame() -> None:
    lens, energy = given_columns({"lens [mm]": [1, 2, 3], "energy": 17}, n_frames=3)
    assert (lens.name, lens.units, lens.values.tolist()) == ("lens", "mm", [1.0, 2.0, 3.0])
    assert (energy.name, energy.units, energy.values.tolist()) == ("energy", UNKNOWN_UNIT, 17.0)


def test_motors_without_names() -> None:
    with pytest.raises(MotorError, match=r"motors is \[1\.0, 2\.0\]\. .*by name"):
        given_columns([1.0, 2.0], n_frames=2)
    (numbered,) = given_columns({7: 1.0}, n_frames=2)
    assert numbered.name == "7"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0, 2.0], r"'lens'.* has 2 values, but the scan has 3 frames"),
        ([[1.0, 2.0, 3.0]], r"'lens'.* has 1 x 3 values"),
        (["a", "b", "c"], r"'lens'.* no number"),
    ],
)
def test_positions_that_do_not_fit_the_scan(values: Any, said: str) -> None:
    with pytest.raises(MotorError, match=said):
        given_columns({"lens": values}, n_frames=3)


def test_sidecar_with_units_comments_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "positions.csv"
    path.write_text(
        "\ufeff# a comment\n\ndetx [mm], lens x\n1.5, -2\n\n# more, of it\n2.5, 1e3\n", "utf-8"
    )
    detx, lens = given_columns(path, n_frames=2)
    assert (detx.name, detx.units, detx.values.tolist()) == ("detx", "mm", [1.5, 2.5])
    assert (lens.name, lens.units, lens.values.tolist()) == ("lens x", UNKNOWN_UNIT, [-2.0, 1e3])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n", r"positions\.csv has 1 rows of positions, but the scan has 2 frames"),
        ("a,b\n1,2\n3,4\n5,6\n", r"positions\.csv has 3 rows"),
        ("a,b\n1,2\n\n3,x\n", r"positions\.csv, line 4: the position of 'b' is 'x'"),
        ("a,b\n1,2\n3\n", r"positions\.csv, line 3: 1 values for 2 motors"),
        ("1,2\n3,4\n5,6\n", r"line 1: 1, 2 are not names"),
        ("a,a\n3,4\n5,6\n", r"line 1: a, a are not names"),
        ("a,\n3,4\n5,6\n", r"'' is no name"),
    ],
)
def test_sidecar_that_does_not_fit(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "positions.csv"
    path.write_text(content)
    with pytest.raises(MotorError, match=said):
        given_columns(str(path), n_frames=2)


def test_sidecar_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none\.csv does not exist"):
        given_columns(tmp_path / "none.csv", n_frames=2)
    path = tmp_path / "positions.csv"
    path.write_bytes(b"\n# nothing\n")
    with pytest.raises(FileError, match=r"positions\.csv is empty"):
        given_columns(path, n_frames=2)
    path.write_bytes(b"\xff\xfe\x00d")
    with pytest.raises(FileError, match=r"positions\.csv cannot be read"):
        given_columns(path, n_frames=2)


def test_a_table_that_is_no_table(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "0.tif", np.ones((4, 5), "u2"))
    with (tmp_path / "motors.csv").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(FileError, match=r"motors\.csv has 1000000000000 bytes"):
        open_scan(tmp_path / "0.tif", motors=tmp_path / "motors.csv")
