"""A store grows by frames it does not know, finds those it knows again, and refuses the rest."""

from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedask.errors import InputError, StoreExistsError
from wavedask.store import growth, layout
from wavedask.store.integrity import verify
from wavedask.store.places import Place
from wavedask.store.results import StoreReport, open_store, write_store

GROW = {"settings": {"sample": "a", "track": {"window": 21}}, "grow": ["sample"]}
MOTOR = {"units": "mm", "role": "motor"}


def values(number: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(number).standard_normal((6, 5)).astype("f4")


def scan(numbers: Any, *, block: int = 1, never: bool = False, **coords: Any) -> xr.Dataset:
    """Frames by number: what they hold, and where they come from, depends on the number alone."""
    numbers = np.asarray(numbers, np.int64)

    def made(chosen: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        assert not never, "a frame was computed"
        return np.stack([values(int(number)) for number in chosen.ravel()])

    source = da.from_array(numbers[:, None, None], chunks=(block, 1, 1))
    maps = da.map_blocks(
        made,
        source,
        chunks=(source.chunks[0], (6,), (5,)),
        dtype="f4",
        meta=np.empty((0, 0, 0), "f4"),
    )
    files = np.array([f"/raw/{number // 4}.h5" for number in numbers], dtype=object)
    return xr.Dataset(
        {
            "wavefront": (("frame", "y", "x"), maps, {"units": "m"}),
            "turned": (("x", "frame"), maps[:, 0].T),
            "area": (("y", "x"), np.ones((6, 5))),
            "gain": ("frame", numbers * 2.0),
        },
        {
            "source_file": ("frame", files),
            "source_index": ("frame", numbers % 4),
            "lens_x": ("frame", numbers / 10, MOTOR),
            "energy": ((), 17.0, MOTOR),
            "time": ("frame", np.datetime64("2026-11-22T10:00", "ns") + numbers),
            **coords,
        },
    )


def write(path: Path, data: xr.Dataset, **changes: Any) -> StoreReport:
    with dask.config.set(scheduler="threads", num_workers=2):
        return write_store(path, data, **{**GROW, **changes})


def assert_holds(path: Path, numbers: list[int]) -> xr.Dataset:
    stored = open_store(path)
    assert stored.complete.values.all()
    expected = np.stack([values(number) for number in numbers])
    np.testing.assert_array_equal(stored.wavefront, expected)
    np.testing.assert_array_equal(stored.turned, expected[:, 0].T)
    np.testing.assert_array_equal(stored.gain, np.array(numbers) * 2.0)
    np.testing.assert_array_equal(stored.lens_x, np.array(numbers) / 10)
    np.testing.assert_array_equal(stored.source_index, np.array(numbers) % 4)
    np.testing.assert_array_equal(
        stored.time, np.datetime64("2026-11-22T10:00", "ns") + np.array(numbers)
    )
    return stored


def test_new_frames_are_appended_and_known_ones_are_not_computed(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    write(path, scan([0]))
    report = write(path, scan([0, 1, 2]))
    assert (report.frames, report.written, report.kept) == (3, 2, 1)
    # A scan of its own, without the frames that are there.
    report = write(path, scan([7, 5]))
    assert (report.frames, report.written) == (5, 2)
    stored = assert_holds(path, [0, 1, 2, 7, 5])
    assert stored.scan.values.tolist() == [0, 1, 1, 2, 2]
    assert stored.energy.dims == ()
    assert stored.energy.item() == 17.0
    assert stored.energy.attrs == MOTOR
    assert write(path, scan([5, 0, 7, 1, 2], never=True)).written == 0
    # Any other program sees one dataset, too, without knowing of consolidated metadata.
    plain = xr.open_zarr(path, consolidated=False)
    assert plain.sizes == {"frame": 5, "y": 6, "x": 5}


def test_one_setting_that_grows_is_as_good_as_a_list_of_one(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    write(path, scan([0]), grow="sample")
    write(path, scan([1]), grow="sample", settings={"sample": "b", "track": {"window": 21}})
    assert_holds(path, [0, 1])


def test_numbers_that_are_computed_already_grow(tmp_path: Path) -> None:
    path = tmp_path / "lens.zarr"

    def figures(numbers: list[int]) -> xr.Dataset:
        return scan(numbers)[["gain"]]

    reports = [write(path, figures(numbers)) for numbers in ([0, 1], [1, 2, 3], [0, 3])]
    assert [(report.frames, report.written) for report in reports] == [(2, 2), (4, 2), (4, 0)]
    stored = open_store(path)
    assert stored.complete.values.all()
    assert stored.gain.values.tolist() == [0.0, 2.0, 4.0, 6.0]


def test_motors_whose_names_hold_blanks_grow_as_others_do(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    slit = {"slit 1": ((), 3.0, MOTOR)}
    there = {"lens x": ("frame", [0.5, 0.6], MOTOR), **slit}
    here = {"lens x": ("frame", [0.7], MOTOR), **slit, "slit 2": ("frame", [4.0], MOTOR)}
    write(path, scan([0, 1]).assign_coords(there))
    write(path, scan([2]).assign_coords(here))
    stored = open_store(path)
    assert stored["lens x"].values.tolist() == [0.5, 0.6, 0.7]
    assert stored["slit 1"].item() == 3.0
    np.testing.assert_array_equal(stored["slit 2"], [np.nan, np.nan, 4.0])
    assert {"lens x", "slit 1", "slit 2"} <= set(stored.coords)
    assert stored["slit 2"].attrs == MOTOR
    assert stored.wave.query("`slit 2` == 4 and `lens x` > 0.65").sizes["frame"] == 1


@given(
    steps=st.lists(st.lists(st.integers(0, 11), min_size=1, unique=True), min_size=1, max_size=4),
    block=st.integers(1, 4),
)
@settings(max_examples=6, deadline=None)
def test_any_growth_gives_every_frame_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[int]], block: int
) -> None:
    path = tmp_path_factory.mktemp("grow") / "r.zarr"
    expected: list[int] = []
    for step in steps:
        new = [number for number in step if number not in expected]
        assert write(path, scan(step, block=block)).written == len(new)
        expected += new
    assert_holds(path, expected)


def test_a_gap_within_a_chunk_is_filled_without_its_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    write(path, scan(range(6), block=4))
    ledger = zarr.open_array(path, path="complete", mode="r+")
    ledger[:] = [True, False, True, False, True, True]
    array = zarr.open_array(path, path="wavefront", mode="r+")
    array[1] = array[3] = -1
    assert write(path, scan([3, 1])).written == 2
    assert_holds(path, list(range(6)))


def test_what_stood_still_may_move_in_the_next_scan(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    write(path, scan([0, 1], title="night"))
    write(path, scan([2, 3], title="day").assign_coords(energy=("frame", [18.0, 19.0], MOTOR)))
    stored = open_store(path)
    assert stored.energy.values.tolist() == [17.0, 17.0, 18.0, 19.0]
    assert stored.energy.attrs == MOTOR
    assert stored.title.values.tolist() == ["night", "night", "day", "day"]
    assert stored.wave.query("energy > 17 and title == 'day' and scan == 1").sizes["frame"] == 2


def test_a_motor_that_a_scan_lacks_is_unknown_there(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    write(path, scan([0, 1], first=5.0, note=("frame", np.array(["a", "b"], dtype=object))))
    write(
        path,
        scan([1, 2], second=("frame", [1, 2], MOTOR))
        .drop_vars("time")
        .assign_coords(time=scan([1, 2]).time),
    )
    stored = open_store(path)
    np.testing.assert_array_equal(stored["first"], [5.0, 5.0, np.nan])
    assert stored.note.values.tolist() == ["a", "b", ""]
    np.testing.assert_array_equal(stored.second, [np.nan, 1.0, 2.0])
    assert stored.second.attrs == MOTOR
    assert "second" in stored.coords
    assert_holds(path, [0, 1, 2])


def test_the_history_tells_every_run(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    files = [tmp_path / name for name in ("0.h5", "1.h5", "dark.h5")]
    for file in files:
        file.write_text(file.name)
    here = {f"/raw/{k}.h5": str(files[k]) for k in (0, 1)}

    def local(numbers: Any) -> xr.Dataset:
        data = scan(numbers)
        names = [here[name] for name in data.source_file.values]
        return data.assign_coords(source_file=("frame", np.array(names, dtype=object)))

    write(path, local([0, 1]), inputs=[files[2], files[0]])
    other = {"sample": "b", "track": {"window": 21}}
    write(path, local([4]), inputs=[files[2], files[1]], settings=other, record={"command": "run"})
    attributes = open_store(path).attrs
    assert [item["path"] for item in attributes["inputs"]] == [str(files[k]) for k in (2, 0, 1)]
    first, second = attributes["runs"]
    assert (first["scan"], first["frames"], first["settings"]["sample"]) == (0, 2, "a")
    assert (second["scan"], second["frames"], second["settings"]["sample"]) == (1, 3, "b")
    assert second["command"] == "run"
    # A dark frame more is another result; so is a frame whose file has changed.
    before = {f: f.read_bytes() for f in path.rglob("*") if f.is_file()}
    with pytest.raises(StoreExistsError, match=r"dark\.h5"):
        write(path, local([5]), inputs=[files[1]])
    files[2].write_text("changed")
    with pytest.raises(StoreExistsError, match=r"dark\.h5\.size is 7 there and 7|mtime_ns"):
        write(path, local([5]), inputs=[files[2], files[1]])
    assert {f: f.read_bytes() for f in path.rglob("*") if f.is_file()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"sample": "a", "track": {"window": 15}}}, "window is 21 there and 15 here"),
        ({"grow": None}, "frame is 2 there and 3 here|shape"),
    ],
)
def test_other_settings_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    write(path, scan([0, 1]))
    with pytest.raises(StoreExistsError, match=message):
        write(path, scan([0, 1, 2], never=True), **change)
    assert_holds(path, [0, 1])


def test_other_frames_under_the_same_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    write(path, scan([0, 1], count=("frame", [1, 2])))
    moved = scan([0, 1, 2], never=True)

    def refused(data: xr.Dataset) -> str:
        with pytest.raises(StoreExistsError) as caught:
            write(path, data)
        return str(caught.value)

    assert "lens_x has other values" in refused(moved.assign_coords(lens_x=moved.lens_x + 1))
    other_unit = moved.lens_x.assign_attrs(units="um")
    assert "lens_x is in mm there and in um" in refused(moved.assign_coords(lens_x=other_unit))
    assert "count is int64 there and absent here" in refused(moved)
    assert "wavefront.shape.y is 6 there and 5" in refused(moved.isel(y=slice(5)))
    assert "area has other values" in refused(moved.assign(area=moved.area * 2))
    with pytest.raises(InputError, match=r"frame 1 of /raw/0\.h5 is in the dataset twice"):
        write(path, scan([1, 1], never=True))
    assert_holds(path, [0, 1])


@pytest.mark.parametrize("at", ["open_array", "_add_arrays", "commit"])
def test_a_growth_that_is_killed_leaves_the_store_as_it_was(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.zarr"
    write(path, scan([0, 1]))
    calls = 0
    owner: Any = Place if at == "commit" else growth
    real = getattr(owner, at)

    def killed(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4 or at != "open_array":
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    larger = scan([0, 1, 2, 3])
    with monkeypatch.context() as patch:
        patch.setattr(owner, at, killed)
        with pytest.raises(KeyboardInterrupt):
            write(path, larger)
    assert_holds(path, [0, 1])
    # Another growth than the one that was killed: nothing of that one is left.
    write(path, scan([5]))
    assert_holds(path, [0, 1, 5])


@pytest.mark.parametrize("complete", [False, True])
def test_the_first_frames_may_go_on_after_a_growth_that_was_killed(
    complete: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.zarr"
    write(path, scan([0, 1]))
    if not complete:
        zarr.open_array(path, path="complete")[1] = False

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Place, "commit", killed)
        with pytest.raises(KeyboardInterrupt):
            write(path, scan([0, 1, 2, 3]))
    # Lengthened arrays are no frames: neither of the store nor of the report.
    report = write(path, scan([0, 1]))
    assert (report.frames, report.kept) == (2, 2 if complete else 1)
    assert_holds(path, [0, 1])
    xr.open_zarr(path, consolidated=False).close()
    write(path, scan([0, 1, 2, 3]))
    assert_holds(path, [0, 1, 2, 3])


def test_a_result_that_names_its_own_scans_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    write(path, scan([0], scan="1.1"))
    write(path, scan([1], scan="2.1"))
    assert open_store(path).scan.values.tolist() == ["1.1", "2.1"]


def test_attributes_of_the_whole_are_those_of_the_last_run(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    write(path, scan([0, 1]).assign_attrs(unfinished="2 of 4 frames", title="a", settings="mine"))
    write(path, scan([0, 1, 2]).assign_attrs(title="b", settings="mine"))
    attributes = open_store(path).attrs
    assert "unfinished" not in attributes
    assert attributes["title"] == "b"
    assert attributes["settings"] == GROW["settings"]
    # Of a scan of its own they would say nothing about the frames before.
    write(path, scan([5]).assign_attrs(title="c"))
    assert open_store(path).attrs["title"] == "b"


def test_what_all_frames_share_must_stay(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    shared = {"dark": {"/raw/d.h5": {"/1.1/data": "0-9"}}}
    write(path, scan([0]), shared=shared)
    assert write(path, scan([0, 1]), shared=shared).written == 1
    assert open_store(path).attrs["shared"] == shared
    other = {"dark": {"/raw/d.h5": {"/1.1/data": "0-9, 20"}}}
    with pytest.raises(StoreExistsError, match=r"is '0-9' there and '0-9, 20' here") as caught:
        write(path, scan([0, 2], never=True), shared=other)
    assert "Every frame depends on them" in caught.value.remedy
    # Other settings come first: with those, everything may be another.
    with pytest.raises(StoreExistsError, match="window is 21 there") as caught:
        write(path, scan([0]), shared=other, settings={"track": {"window": 15}})
    assert "compute it anew" in caught.value.remedy
    assert_holds(path, [0, 1])


def test_a_ledger_may_grow_beyond_one_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "SMALL_CHUNK", 4)
    path = tmp_path / "r.zarr"
    for known in (2, 7, 13):
        assert write(path, scan(range(known))).frames == known
        assert_holds(path, list(range(known)))
        assert verify(path).sound
    assert len(list((path / "complete" / "c").iterdir())) == 4
