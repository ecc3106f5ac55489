"""What headers say becomes coordinates with units, roles and names of their own."""

from pathlib import Path

import numpy as np
import pytest

from wavedask.conventions import COUNTER, HEADER, MOTOR, RESERVED_NAMES
from wavedask.errors import InputError, MotorError
from wavedask.io.columns import Column, coordinates, gather
from wavedask.io.frames import FrameRecord, RawFrame

FILE = Path("scan/f_0.edf")


def record(
    index: int,
    motors: dict[str, float] | None = None,
    counters: dict[str, float] | None = None,
    **header: str,
) -> FrameRecord:
    frame = RawFrame(Path(f"f_{index}.edf"), 0, 0, (2, 2), np.dtype("u2"))
    return FrameRecord(frame, motors or {}, counters or {}, header)


def test_headers_are_gathered_by_role() -> None:
    columns, constants = gather(
        [
            record(0, {"m": 1}, {"c": 5}, a="1", b="x", d="p_1", e="1_0"),
            record(1, {"m": 2}, {"c": 5}, a="2e1", b="x", d="q", e="2_0"),
        ]
    )
    found = {column.name: (column.role, column.values.tolist()) for column in columns}
    assert found == {
        "m": (MOTOR, [1.0, 2.0]),
        "c": (COUNTER, [5.0, 5.0]),
        "a": (HEADER, [1.0, 20.0]),
        "d": (HEADER, ["p_1", "q"]),
        "e": (HEADER, ["1_0", "2_0"]),
    }
    assert constants == {"b": "x"}


def test_a_header_item_that_a_frame_lacks_is_empty_text() -> None:
    columns, constants = gather([record(0, a="1"), record(1)])
    assert columns[0].values.tolist() == ["1", ""]
    assert constants == {}


@pytest.mark.parametrize("role", [MOTOR, COUNTER])
@pytest.mark.parametrize("lacking", [0, 1])
def test_positions_that_a_frame_lacks(role: str, lacking: int) -> None:
    tables: list[dict[str, float]] = [{"m": 1.0}, {"m": 1.0}]
    tables[lacking] = {}
    records = [
        record(i, table) if role == MOTOR else record(i, None, table)
        for i, table in enumerate(tables)
    ]
    with pytest.raises(
        MotorError, match=rf"{role} 'm' is .* f_{1 - lacking}\.edf .* but not of f_{lacking}\.edf"
    ):
        gather(records)
    if role == MOTOR:
        assert gather(records, replaced={"m"})[0] == []


def test_what_stands_still_is_a_scalar() -> None:
    columns = [
        Column("moves", MOTOR, np.array([1.0, 2.0, 1.0])),
        Column("stands", MOTOR, np.array([4.0, 4.0, 4.0]), "mm"),
        Column("unknown", COUNTER, np.full(3, np.nan)),
    ]
    found = coordinates(columns, n_frames=3, units={"moves": "um"}, where=FILE)
    assert found["moves"].dims == ("frame",)
    assert found["stands"].dims == ()
    assert found["stands"].values == 4.0
    assert found["unknown"].dims == ()
    assert found["moves"].attrs == {"units": "um", "long_name": "motor moves", "role": "motor"}
    assert found["stands"].attrs["units"] == "mm"


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_a_motor_with_a_name_of_ours_is_renamed(name: str) -> None:
    column = Column(name, MOTOR, np.array(1.0))
    found = coordinates([column], n_frames=1, units={name: "mm"}, where=FILE)
    assert set(found) == {f"motor_{name}"}
    assert found[f"motor_{name}"].attrs["units"] == "mm"


def test_counters_and_header_items_make_way_for_motors() -> None:
    columns = [
        Column("mono", HEADER, np.array([1.0, 2.0])),
        Column("mono", COUNTER, np.array([3.0, 4.0])),
        Column("mono", MOTOR, np.array([5.0, 6.0])),
        Column("a/b", MOTOR, np.array([5.0, 6.0])),
    ]
    found = coordinates(columns, n_frames=2, units={"counter_mono": "A"}, where=FILE)
    assert {name: variable.values.tolist() for name, variable in found.items()} == {
        "mono": [5.0, 6.0],
        "a_b": [5.0, 6.0],
        "counter_mono": [3.0, 4.0],
        "header_mono": [1.0, 2.0],
    }
    assert found["counter_mono"].attrs["units"] == "A"
    assert found["mono"].attrs["units"] == "unknown"


@pytest.mark.parametrize("name", ["lens x", "lens/x", "lens\tx"])
def test_names_can_be_stored_and_asked_for(name: str) -> None:
    column = Column(name, MOTOR, np.array([1.0, 2.0]))
    found = coordinates([column], n_frames=2, units={name: "mm"}, where=FILE)
    assert found["lens_x"].attrs["units"] == "mm"


def test_the_later_column_counts_and_keeps_a_unit_that_only_the_file_knows() -> None:
    columns = [
        Column("lens", MOTOR, np.array([1.0, 2.0]), "mm"),
        Column("lens", MOTOR, np.array([3.0, 4.0])),
    ]
    lens = coordinates(columns, n_frames=2, units={}, where=FILE)["lens"]
    assert (lens.values.tolist(), lens.attrs["units"]) == ([3.0, 4.0], "mm")


def test_wrong_number_of_values() -> None:
    said = r"f_0\.edf: motor 'lens' has 3 values, but the scan has 2 frames\. Give motors="
    with pytest.raises(MotorError, match=said):
        coordinates([Column("lens", MOTOR, np.zeros(3))], n_frames=2, units={}, where=FILE)
    with pytest.raises(MotorError, match=r"'lens' has 1 x 2 values"):
        coordinates([Column("lens", MOTOR, np.zeros((1, 2)))], n_frames=2, units={}, where=FILE)
    with pytest.raises(MotorError, match=r"header 'image_key' has 3 values.* damaged"):
        coordinates([Column("image_key", HEADER, np.zeros(3))], n_frames=2, units={}, where=FILE)


def test_units_of_what_is_not_there() -> None:
    with pytest.raises(InputError, match=r"units names \['lenz'\].*It has: lens"):
        coordinates(
            [Column("lens", MOTOR, np.array(1.0))], n_frames=1, units={"lenz": "mm"}, where=FILE
        )
