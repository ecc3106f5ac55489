"""Frames are found by where their motors stood, whatever is asked, and no pixel is read."""

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from support.laziness import forbid_computing
from zarr.storage import LocalStore

import wavedask as wd
from wavedask.errors import InputError, MotorError
from wavedask.frames.queries import nearest, select, where_motors
from wavedask.store.layout import FORMAT, FORMAT_VERSION, create
from wavedask.store.places import place_of


def scan(**coords: Any) -> xr.Dataset:
    """Frames with coordinates along them, and one that stands still."""
    given = {name: ("frame", np.asarray(values)) for name, values in coords.items()}
    return xr.Dataset(coords={**given, "lens_y": 2.0})


ENERGY = scan(energy=[16.0, 17.0, 17.5, 18.0, np.nan], lens_x=[-1, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("condition", "frames"),
    [
        ("energy > 17", [2, 3]),
        ("17 < energy < 18 and lens_x > 0", [2]),
        ("17 <= energy <= 18", [1, 2, 3]),
        ("not energy > 17", [0, 1, 4]),
        ("energy == 16 or lens_x == 4", [0, 4]),
        ("lens_x in [1, 3]", [1, 3]),
        ("lens_x not in (1, 3)", [0, 2, 4]),
        ("abs(lens_x) == 1", [0, 1]),
        ("abs(lens_x - 2) <= 1 and not (lens_x == 2)", [1, 3]),
        ("-lens_x < -2", [3, 4]),
        ("lens_x * 2 + 1 == 5", [2]),
        ("lens_x / 2 > +1", [3, 4]),
        ("energy != energy", [4]),
        ("lens_y == 2", [0, 1, 2, 3, 4]),
        ("lens_y > 2", []),
        ("True", [0, 1, 2, 3, 4]),
        ("lens_x > 0 and lens_y == 2 and energy < 18", [1, 2]),
        ("`lens_x` == 1", [1]),
        ("  lens_x == 1 ", [1]),
    ],
)
def test_conditions_pick_frames(condition: str, frames: list[int]) -> None:
    picked = select(ENERGY.assign_coords(number=("frame", np.arange(5))), condition)
    assert picked.number.values.tolist() == frames
    assert ENERGY.wave.query(condition).sizes == {"frame": len(frames)}


def test_texts_times_and_truth_compare() -> None:
    data = scan(
        sample=np.array(["lens", "none", "lens"], dtype=np.dtypes.StringDType()),
        title=np.array(["a", "b", "c"], dtype=object),
        time=np.datetime64("2026-11-22T10:00", "ns") + np.arange(3) * np.timedelta64(1, "h"),
        complete=[True, False, True],
    ).assign_coords({"2 theta": ("frame", [1.0, 2.0, 3.0])})
    assert select(data, "sample == 'lens' and complete").title.values.tolist() == ["a", "c"]
    assert select(data, "title in ['b', \"c\"] and not complete").title.item() == "b"
    assert select(data, "time >= '2026-11-22T11:00'").title.values.tolist() == ["b", "c"]
    assert select(data, "`2 theta` > 1.5 and title != '`2 theta`'").sizes["frame"] == 2


def test_durations_compare_with_texts() -> None:
    data = scan(since=np.arange(4) * np.timedelta64(30, "s"), number=range(4))
    assert select(data, "since > '45 s'").number.values.tolist() == [2, 3]
    assert select(data, "'00:00:30' <= since < '1 min'").number.values.tolist() == [1]
    for condition in ("since > 45", "since > 'long'", "since + since > '1 s'"):
        with pytest.raises(InputError, match="condition"):
            select(data, condition)


def test_a_time_zone_is_not_guessed() -> None:
    data = scan(time=np.datetime64("2026-11-22T10:00", "ns") + np.arange(3))
    for text in ("2026-11-22T10:00Z", "2026-11-22T10:00:00+01:00", "2026-11-22T10:00-0500"):
        with pytest.raises(InputError, match="time zone"):
            select(data, f"time > '{text}'")
    assert select(data, "time > '2026-11-22'").sizes["frame"] == 3


@pytest.mark.parametrize("name", ["µ", "μ", "Å", "ﬁt"])
def test_names_that_python_spells_anew_are_found(name: str) -> None:
    assert select(scan(**{name: [1.0, 2.0]}), f"{name} > 1.5").sizes["frame"] == 1


def test_a_condition_may_have_several_lines() -> None:
    text = """
        lens_x > 0
        and energy < 18  # keV
    """
    assert select(ENERGY, text).sizes == select(ENERGY, "lens_x > 0 and energy < 18").sizes


@pytest.mark.parametrize("condition", [None, 3, ["lens_x > 0"], b"lens_x > 0"])
def test_a_condition_is_a_text(condition: Any) -> None:
    with pytest.raises(InputError, match="the condition is a"):
        select(ENERGY, condition)


def test_a_message_stays_short() -> None:
    with pytest.raises(InputError) as caught:
        select(ENERGY, "lens_x[" * 300 + "0" + "]" * 300)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("frame > 2", "isel"),
        ("lens_z > 0", "no coordinate 'lens_z'.*[Dd]id you mean 'lens_[xy]'"),
        ("entirely_else > 0", "There are: energy, lens_x, lens_y"),
        ("lens_x = 1", r"Compare with =="),
        ("lens_x > 0 & energy > 17", "Write 'and' and 'or'"),
        ("lens_x", "neither true nor false"),
        ("lens_x and energy", "joins 'lens_x'"),
        ("abs(lens_x > 0) > 0", "calculates with"),
        ("lens_x == 'a'", "compares a number with a text"),
        ("lens_x in 3", "not a list"),
        ("lens_x is 3", "compares with 'is'"),
        ("", "cannot be read"),
        ("lens_x >", "cannot be read"),
        ("lens_x > 0\0", "cannot be read"),
        ("(" * 3000 + "1" + ")" * 3000, "characters"),
        ("-" * 4000 + "1", "cannot be read|too"),
        ("lens_x ** 2 > 1", "not understood"),
        ("__import__('os').system('true')", "not understood"),
        ("lens_x.__class__", "not understood"),
        ("[c for c in (1,)]", "not understood"),
        ("abs(*[1])", "not understood"),
        ("lambda: 1", "not understood"),
        ("f'{lens_x}'", "not understood"),
        ("(lens_x := 1)", "not understood"),
        ("max(lens_x) > 1", "not understood"),
    ],
)
def test_what_is_no_condition_is_refused_and_never_run(condition: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        select(ENERGY, condition)
    assert caught.value.remedy


@given(st.text(max_size=40))
@settings(deadline=None)
def test_any_text_is_a_condition_or_an_error_of_ours(text: str) -> None:
    try:
        select(ENERGY, text)
    except InputError:
        return


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.floats(-5, 5), st.floats(-5, 5))
@settings(deadline=None)
def test_a_range_is_what_numpy_says(values: list[float], low: float, high: float) -> None:
    picked = select(scan(m=values), f"{low} <= m < {high}").m.values
    array = np.array(values)
    np.testing.assert_array_equal(picked, array[(low <= array) & (array < high)])


def test_a_condition_needs_frames_and_coordinates_of_frames() -> None:
    with pytest.raises(InputError, match="no dimension 'frame'"):
        select(ENERGY.isel(frame=0), "lens_x > 0")
    with pytest.raises(InputError, match=r"'y' lies along \('y',\)"):
        select(ENERGY.assign_coords(y=[1.0, 2.0]), "y > 0")


def test_the_nearest_frame_is_found_within_a_tolerance() -> None:
    data = scan(lens_x=[0.0, 0.101, 0.2, 0.101], lens_z=[0.0, 0.0, 0.0, 1.0])
    assert nearest(data, lens_x=0.1, lens_z=0.9).lens_z.item() == 1.0
    assert nearest(data, lens_x=0.1, tolerance=0.01).lens_z.item() == 0.0
    assert data.wave.nearest(lens_x=0.19, lens_y=2).lens_x.item() == 0.2
    with pytest.raises(MotorError, match=r"within.*0\.0005") as caught:
        nearest(data, lens_x=0.1, tolerance=0.0005)
    assert "frame 1 at (lens_x 0.101)" in caught.value.remedy
    # By name: far along one is near where its tolerance is large.
    either = nearest(data, lens_x=0.19, lens_z=1.0, tolerance={"lens_x": 1.0, "lens_z": 0.1})
    assert either.lens_z.item() == 1.0


def test_motors_of_other_units_count_by_their_range() -> None:
    mm, deg = {"units": "mm"}, {"units": "deg"}
    data = xr.Dataset(
        coords={"x": ("frame", [0.0, 0.001], mm), "angle": ("frame", [0.0, 100.0], deg)}
    )
    assert nearest(data, x=0.001, angle=40.0).angle.item() == 100.0


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "nearest to nothing"),
        ({"gone": 1.0}, "no coordinate 'gone'"),
        ({"name": 1.0}, "not a number"),
        ({"m": 1.0, "tolerance": 0.0}, "tolerance is 0"),
        ({"m": 1.0, "tolerance": {"n": 1.0}}, "tolerance is"),
        ({"lost": 1.0}, "no position in any frame"),
    ],
)
def test_what_cannot_be_nearest(asked: dict[str, Any], message: str) -> None:
    data = scan(m=[1.0, 2.0], lost=[np.nan, np.nan], name=np.array(["a", "b"], dtype=object))
    with pytest.raises(InputError, match=message):
        nearest(data, **asked)


@pytest.mark.parametrize("position", [None, [0.1, 0.2], float("nan"), float("inf"), "far"])
def test_a_position_is_one_finite_number(position: Any) -> None:
    with pytest.raises(InputError, match="lens_x is"):
        nearest(ENERGY, lens_x=position)


@pytest.mark.parametrize("tolerance", ["wide", (0.1, 0.1), {"lens_x": None}])
def test_a_tolerance_is_a_number(tolerance: Any) -> None:
    with pytest.raises(InputError, match="tolerance is"):
        nearest(ENERGY, lens_x=1.0, tolerance=tolerance)


def test_one_frame_has_no_nearest() -> None:
    with pytest.raises(InputError, match="no dimension 'frame'"):
        nearest(ENERGY.isel(frame=0), lens_x=1.0)


def test_a_frame_without_a_position_is_never_the_nearest() -> None:
    assert nearest(scan(m=[np.nan, 5.0]), m=0.0).m.item() == 5.0


def test_motors_are_listed_with_their_ranges() -> None:
    attrs = {"units": "mm", "role": "motor"}
    data = xr.Dataset(
        coords={
            "still": ((), 2.0, attrs),
            "lens_x": ("frame", [0.2, 0.0, 0.2], attrs),
            "current": ("frame", [1, 2, 3], {"role": "counter"}),
            "lost": ("frame", [np.nan] * 3, attrs),
            "name": ("frame", ["a", "b", "c"], {"role": "motor"}),
            "y": ("y", [0.0]),
        }
    )
    table = where_motors(data)
    assert list(table.index) == ["current", "lens_x", "lost", "still"]
    assert table.T["lens_x"].tolist() == ["mm", "motor", 0.2, 0.2, 0.0, 0.2, 2]
    assert table["values"].to_numpy().tolist() == [3, 2, 0, 1]
    assert table["lowest"].isna().tolist() == [False, False, True, False]
    assert data.wave.where_motors().equals(table)
    assert where_motors(xr.Dataset()).empty


def test_a_query_stays_lazy() -> None:
    image = da.zeros((4, 8, 8), chunks=(1, 8, 8))
    data = scan(lens_x=[0.0, 1.0, 2.0, 3.0]).assign(image=(("frame", "y", "x"), image))
    with forbid_computing():
        picked = select(data, "lens_x != 1")
        one = nearest(data, lens_x=1)
    assert picked.image.shape == (3, 8, 8)
    assert one.image.chunks == ((8,), (8,))
    array = select(data.image, "lens_x > 1")
    assert isinstance(array, xr.DataArray)
    assert array.shape == (2, 8, 8)


def test_a_query_of_ten_thousand_large_frames_reads_no_pixel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, side = 10_000, 2048
    rng = np.random.default_rng(0)
    maps = da.zeros((frames, side, side), chunks=(1, side, side), dtype="f4")
    motor = {"units": "mm", "role": "motor"}
    result = xr.Dataset(
        {str(name): (("frame", "y", "x"), maps) for name in list(wd.conventions.QUANTITIES)[:16]},
        {name: ("frame", rng.uniform(-1, 1, frames), motor) for name in ("energy", "lens_x")},
    )
    # The store of a run that was killed before its first frame: it has everything but pixels.
    lazy = {str(name): array.variable for name, array in result.data_vars.items()}
    place = place_of(tmp_path / "large.zarr")
    create(place, result.drop_vars([*lazy]), lazy, {FORMAT: FORMAT_VERSION}, frames=frames)
    reads: list[str] = []
    get = LocalStore.get

    async def counted(self: Any, key: str, *args: Any, **kwargs: Any) -> Any:
        reads.append(key)
        return await get(self, key, *args, **kwargs)

    monkeypatch.setattr(LocalStore, "get", counted)
    stored = wd.open_store(tmp_path / "large.zarr")
    reads.clear()
    found = stored.wave.query("-0.5 < energy < 0.5 and lens_x > 0")
    assert 2300 < found.sizes["frame"] < 2700
    assert stored.wave.nearest(energy=0.5, lens_x=0.5).image.shape == (side, side)
    assert not reads
    found.image[0].compute()
    assert len(reads) == 1
    assert reads[0].startswith("image/c/")


SINGLE = scan(lens_x=np.array([0.0, 0.1, 0.2, 0.3], "f4"), half=np.array([0, 0.1, 0.2, 0.3], "f2"))


@pytest.mark.parametrize(
    ("condition", "frames"),
    [
        ("lens_x == 0.1", [1]),
        ("lens_x > 0.1", [2, 3]),
        ("lens_x <= 0.1", [0, 1]),
        ("lens_x in [0.1, 0.3]", [1, 3]),
        ("0.1 <= lens_x < 0.3", [1, 2]),
        ("-lens_x == -0.1", [1]),
        ("lens_x * 2 == 0.2", [1]),
        ("lens_x + 0.1 == 0.2", [1]),
        ("half == 0.1", [1]),
        ("half == lens_x", [0, 1, 2, 3]),
        ("lens_x < 1e300", [0, 1, 2, 3]),
    ],
)
def test_a_literal_has_the_precision_of_the_motor(condition: str, frames: list[int]) -> None:
    data = SINGLE.assign_coords(number=("frame", np.arange(4)))
    assert select(data, condition).number.values.tolist() == frames


def test_whole_numbers_compare_exactly() -> None:
    large = 2**53
    data = scan(train=np.array([large, large + 1], np.uint64))
    assert select(data, f"train == {large + 1}").train.values.tolist() == [large + 1]
    assert select(data, "train > -1").sizes["frame"] == 2
    assert select(data, f"train < {10**30}").sizes["frame"] == 2


@pytest.mark.parametrize("unit", ["ns", "us", "s", "h", "D"])
@pytest.mark.parametrize(
    ("condition", "frames"),
    [
        ("time < '9999-12-31'", 3),
        ("time < '2300-01-01T12:00'", 3),
        ("time > '1500-01-01'", 3),
        ("time > '1601'", 3),
        ("time > '-0044-03-15'", 3),
        ("time == '2026-03-30'", 1),
        ("'2026-03-29' < time <= '2026-03-31T00:00:00.000000000'", 2),
        ("time > '2026-03-30T23:59:59.999999999999'", 1),
        ("time != '2026-03-30'", 2),
        ("time == time", 3),
    ],
)
def test_times_of_any_year_compare(condition: str, frames: int, unit: str) -> None:
    days = np.array(["2026-03-29", "2026-03-30", "2026-03-31"], f"M8[{unit}]")
    assert select(xr.Dataset(coords={"time": ("frame", days)}), condition).sizes["frame"] == frames


def test_a_frame_without_a_time_meets_no_condition_but_another() -> None:
    times = np.array(["2026-03-29", "NaT", "3000-01-01"], "M8[s]")
    data = scan(number=range(3)).assign_coords(time=("frame", times))
    assert select(data, "time < '2999-01-01'").number.values.tolist() == [0]
    assert select(data, "time > '2999-01-01'").number.values.tolist() == [2]
    assert select(data, "time != '2026-03-29'").number.values.tolist() == [1, 2]
    with pytest.raises(InputError, match=r"compares a time with 'noon'.*2026-03-29T12:00"):
        select(data, "time > 'noon'")


def test_zones_and_types_that_do_not_compare_are_named() -> None:
    zoned = pd.date_range("2026-01-01", periods=2, tz="Europe/Paris")
    objects = np.array([*zoned], dtype=object)
    for times in (zoned, objects):
        data = xr.Dataset(coords={"time": ("frame", times)})
        with pytest.raises(InputError, match="'time', whose times have a time zone"):
            select(data, "time > '2026-01-01'")
    with pytest.raises(InputError, match="'wave' of data type complex128"):
        select(scan(wave=[1j, 2j]), "wave == 1")


def test_categories_compare_as_what_they_stand_for() -> None:
    words = xr.Dataset(coords={"optic": ("frame", pd.Categorical(["lens", "none", "lens"]))})
    assert select(words, "optic == 'lens'").sizes["frame"] == 2
    numbers = xr.Dataset(coords={"slot": ("frame", pd.Categorical([1.5, 2.5, 1.5]))})
    assert select(numbers, "slot > 2").sizes["frame"] == 1


def test_a_division_by_zero_is_an_error_of_ours() -> None:
    with pytest.raises(InputError, match="divides by zero"):
        select(SINGLE, "lens_x > 1 / 0")


def test_the_nearest_of_single_precision_is_found_within_a_fine_tolerance() -> None:
    assert nearest(SINGLE, lens_x=0.1, tolerance=1e-9).lens_x.item() == np.float32(0.1)
