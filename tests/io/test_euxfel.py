"""Runs of the European XFEL: cameras and motors on the same trains, through extra_data."""

import builtins
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from wavedask.errors import CorruptFileError, FileError, InputError
from wavedask.io import open_scan

CAMERA = "SPB_EHC/CAM/ZYLA:daqOutput"
MOTOR = "SPB_LENS/MOTOR/X"
TRAINS = np.arange(10_000, 10_010, dtype="u8")
FRAMES = np.random.default_rng(2).integers(0, 60000, (10, 6, 7)).astype("uint16")


def write_file(path: Path, trains: slice, *, without: tuple[int, ...] = ()) -> None:
    """Write one sequence file as the DAQ does: format 1.0, a camera and a motor."""
    ids = TRAINS[trains]
    seen = np.array([number not in without for number in range(10)[trains]])
    counts = seen.astype("u8")
    firsts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype("u8")
    with h5py.File(path, "w") as file:
        file["METADATA/dataFormatVersion"] = [b"1.0"]
        sources = file.create_group("METADATA/dataSources")
        roots = [("INSTRUMENT", f"{CAMERA}/data"), ("CONTROL", MOTOR)]
        sources["dataSourceId"] = [f"{root}/{name}".encode() for root, name in roots]
        sources["root"] = [root.encode() for root, _ in roots]
        sources["deviceId"] = [name.encode() for _, name in roots]
        file["INDEX/trainId"] = ids
        file["INDEX/timestamp"] = ids
        file["INDEX/flag"] = np.ones(len(ids), "i4")
        file["INDEX/origin"] = np.full(len(ids), -1, "i4")
        for name, first, count in (
            (f"{CAMERA}/data", firsts, counts),
            (MOTOR, np.arange(len(ids), dtype="u8"), np.ones(len(ids), "u8")),
        ):
            file[f"INDEX/{name}/first"] = first
            file[f"INDEX/{name}/count"] = count
        data = file.create_group(f"INSTRUMENT/{CAMERA}/data")
        data["trainId"] = ids[seen]
        data["image/pixels"] = FRAMES[trains][seen]
        data["image/dims"] = np.ones((seen.sum(), 2), "u8")
        motor = file.create_group(f"CONTROL/{MOTOR}")
        motor["actualPosition/value"] = 0.5 * np.arange(10)[trains]
        motor["actualPosition/value"].attrs["unitSymbol"] = "m"
        motor["actualPosition/value"].attrs["metricPrefixSymbol"] = "m"
        motor["actualPosition/timestamp"] = ids
        file[f"RUN/{MOTOR}/actualPosition/value"] = [0.0]
        file[f"RUN/{MOTOR}/actualPosition/timestamp"] = [0]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Write a run of two files, with a train that has no frame."""
    folder = tmp_path / "r0012"
    folder.mkdir()
    write_file(folder / "RAW-R0012-DA01-S00000.h5", slice(0, 6), without=(2,))
    write_file(folder / "RAW-R0012-DA01-S00001.h5", slice(6, 10))
    return folder


KEPT = [0, 1, 3, 4, 5, 6, 7, 8, 9]


def test_camera_and_motors_meet_on_the_train(run: Path) -> None:
    scan = open_scan(run)
    np.testing.assert_array_equal(scan.image, FRAMES[KEPT])
    np.testing.assert_array_equal(scan.trainId, TRAINS[KEPT])
    lens = scan["SPB_LENS_MOTOR_X"]
    assert lens.values.tolist() == [0.5 * number for number in KEPT]
    assert lens.units == "mm"
    files = [name[-8:] for name in scan.source_file.values.tolist()]
    assert files == ["00000.h5"] * 5 + ["00001.h5"] * 4
    assert scan.source_index.values.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert scan.attrs["camera"] == f"{CAMERA}[data.image.pixels]"


def test_regions_lists_and_steps_are_read(run: Path) -> None:
    image = open_scan(run).image
    np.testing.assert_array_equal(image[[7, 0, 4], 1:4, ::-2], FRAMES[KEPT][[7, 0, 4], 1:4, ::-2])


def test_a_lazy_run_travels_to_a_worker(run: Path) -> None:
    image = pickle.loads(pickle.dumps(open_scan(run).image))
    np.testing.assert_array_equal(image[5], FRAMES[6])


def test_motors_are_named_by_source_and_key(run: Path) -> None:
    scan = open_scan(
        run, image=CAMERA, motors={"lens_x": f"{MOTOR}[actualPosition]", "energy": 9.0}
    )
    assert scan.lens_x.values[2] == 1.5
    assert float(scan.energy) == 9.0
    assert "SPB_LENS_MOTOR_X" not in scan.coords


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": "SPB/NO:daqOutput"}, r"names no source of the run.*SPB_EHC/CAM/ZYLA"),
        ({"image": f"{CAMERA}[data.image.pixel]"}, r"has no key 'data\.image\.pixel'.*pixels"),
        ({"image": f"{CAMERA}[data.image.dims]"}, r"9 entries of shape \(2,\).*rows and columns"),
        ({"motors": {"a": f"{CAMERA}[data.image.pixels]"}}, r"\(6, 7\) values per train"),
        ({"scan": "1.1"}, r"scan='1\.1' with a run of the European XFEL"),
    ],
)
def test_what_is_not_there_is_said(run: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_scan(run, **options)


def test_a_damaged_file_of_a_run_is_not_passed_over(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, last = sorted(run.iterdir())
    damaged = run / "RAW-R0012-DA01-S00002.h5"
    damaged.write_bytes(last.read_bytes()[:-500])
    with pytest.raises(CorruptFileError, match=r"S00002\.h5 is truncated"):
        open_scan(run)
    with h5py.File(damaged, "w") as file:
        file["1.1/instrument/pco/image"] = FRAMES
    with pytest.raises(FileError, match=r"S00002\.h5 cannot be read as a file of a run"):
        open_scan(run)
    around = run / ".." / run.name / last.name
    assert open_scan([first, around]).sizes["frame"] == len(FRAMES) - 1
    capsys.readouterr()


def test_without_the_package_a_run_says_what_to_install(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "extra_data":
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=r"extra_data.*pip install 'wavedask\[euxfel\]'"):
        open_scan(run)
