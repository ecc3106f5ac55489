"""Experiments of every kind grow by frames, and by frames alone: what all share must stay."""

import os
import shutil
from pathlib import Path
from typing import Any

import fabio
import h5py
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from support.experiments import FRAMES, assert_equal, content, copied, load, tree

import wavedask as wd
from wavedask.errors import StoreExistsError
from wavedask.experiment.model import Experiment
from wavedask.experiment.pipeline import run
from wavedask.simulate import (
    REFERENCE,
    absolute_beamline,
    write_beamline_campaign,
)

pytestmark = pytest.mark.usefixtures("threads")


def stored(experiment: Experiment) -> xr.Dataset:
    return wd.open_store(experiment.store)


def refused(experiment: Experiment) -> str:
    """Message of a run that must leave the store as it is."""
    before = tree(Path(experiment.store))
    with pytest.raises(StoreExistsError) as caught:
        run(experiment)
    assert tree(Path(experiment.store)) == before
    return str(caught.value)


def files(*numbers: int, folder: str = "raw") -> dict[str, Any]:
    return {"files": [f"{folder}/sample_{n:04d}.edf" for n in numbers]}


# Trains.


@pytest.mark.parametrize(("against", "before"), [("first", [0, 0]), ("previous", [0, 1])])
def test_a_train_grows_by_its_later_pulses(
    against: str, before: list[int], raw: Path, tmp_path: Path
) -> None:
    folder = copied(raw, tmp_path)
    train: dict[str, Any] = {"reference": None, "train": against}
    assert run(load(folder, sample=files(0, 1), **train)).store.written == 1
    longer = load(folder, sample=files(0, 1, 2), **train)
    report = run(longer)
    assert (report.store.written, report.store.frames) == (1, FRAMES - 1)
    at_once = load(folder, sample=files(0, 1, 2), output="at_once.zarr", **train)
    run(at_once)
    assert_equal(stored(longer), stored(at_once))
    if against == "previous":
        names = [Path(path).name for path in stored(longer).reference_file.values]
        assert names == [f"sample_{n:04d}.edf" for n in before]
    # A pulse in between, or another one at the beginning, changes what others are tracked in.
    message = refused(load(folder, sample=files(1, 0, 2), **train))
    assert ("shared.reference" if against == "first" else "reference_file has other") in message
    if against == "first":
        assert "sample_0000.edf is '0' there and absent here" in message
        assert "in the same order" in message


def test_a_train_against_its_mean_says_why_it_does_not_grow(raw: Path, tmp_path: Path) -> None:
    folder = copied(raw, tmp_path)
    train: dict[str, Any] = {"reference": None, "train": "mean"}
    run(load(folder, sample=files(0, 1), **train))
    assert run(load(folder, sample=files(0, 1), **train)).store.written == 0
    message = refused(load(folder, sample=files(0, 1, 2), **train))
    assert (
        "Each pulse is tracked in the mean of all pulses, which a new pulse would change" in message
    )
    assert "give another path" in message


# Stacks.


def test_stacks_are_added_one_by_one(raw: Path, tmp_path: Path) -> None:
    folder = copied(raw, tmp_path)
    stack = {"over": "frame", "search": 8}
    for numbers in ((0, 1), (2, 1)):
        assert run(load(folder, sample=files(*numbers), track=stack)).store.written == 1
    both = load(folder, sample=files(0, 1), track=stack)
    assert run(both).store.written == 0
    found = stored(both)
    assert found.sizes["frame"] == 2
    assert found.scan.values.tolist() == [0, 1]
    for k, numbers in enumerate(((0, 1), (2, 1))):
        alone = load(folder, sample=files(*numbers), track=stack, output="alone.zarr")
        run(alone)
        assert_equal(found.isel(frame=[k]), stored(alone))
        assert all(f"sample_{n:04d}" in found.stack_frames.values[k] for n in numbers)
        shutil.rmtree(alone.store)
    # The same first frame, and another second one, is neither this stack nor another one.
    message = refused(load(folder, sample=files(0, 2), track=stack))
    assert "sample_0001.edf is '0' there and absent here" in message


# References of their own.


def test_frames_with_references_of_their_own_grow_in_pairs(raw: Path, tmp_path: Path) -> None:
    folder = copied(raw, tmp_path)
    for number in (1, 2):
        image = fabio.open(folder / "raw" / "reference_0000.edf")
        image.data = image.data + number
        image.write(str(folder / "raw" / f"reference_{number:04d}.edf"))

    def pairs(*numbers: int, references: tuple[int, ...] | None = None, **changes: Any) -> Any:
        names = [f"raw/reference_{n:04d}.edf" for n in references or numbers]
        return load(folder, sample=files(*numbers), reference={"files": names}, **changes)

    first = pairs(0, 1)
    assert run(first).store.written == 2
    assert run(pairs(0, 1, 2)).store.written == 1
    whole = pairs(0, 1, 2, output="whole.zarr")
    run(whole)
    assert_equal(stored(first), stored(whole))
    assert "reference_file has other values" in refused(pairs(0, 1, references=(1, 2)))


# Two detectors.

SIDE = 192


@pytest.fixture(scope="module")
def two_detectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    beamline = absolute_beamline(
        source_distance=40.0, distances=(0.3, 0.8), shape=(SIDE, SIDE), pixel_sizes=(1.6e-6,) * 2
    )
    folder = tmp_path_factory.mktemp("absolute")
    write_beamline_campaign(folder / "raw", beamline, {"sample": [REFERENCE] * 3})
    return folder


def absolute(folder: Path, *numbers: int, **changes: Any) -> Experiment:
    def detector(number: int) -> dict[str, Any]:
        prefix = f"raw/detector{number}_"
        return {
            "files": [f"{prefix}sample_{n:04d}.edf" for n in numbers],
            "dark": f"{prefix}dark_*.edf",
            "flat": f"{prefix}flat_*.edf",
        }

    whole = {
        **dict.fromkeys(("sample", "reference", "dark", "flat")),
        "near": detector(0),
        "far": detector(1),
        "track": {"window": 31, "search": 8},
        "wavefront": {"mode": "absolute", "distance": [0.3, 0.8], "pixel_size": [1.6e-6] * 2},
    }
    for name in ("near", "far"):
        whole[name] = {**whole[name], **changes.pop(name, {})}  # type: ignore[dict-item]
    return load(folder, **{**whole, **changes})


def test_two_detectors_grow_by_pairs(two_detectors: Path, tmp_path: Path) -> None:
    folder = copied(two_detectors, tmp_path)
    assert run(absolute(folder, 0, 1)).store.written == 2
    longer = absolute(folder, 0, 1, 2)
    report = run(longer)
    assert (report.store.written, report.store.frames) == (1, 3)
    at_once = absolute(folder, 0, 1, 2, output="at_once.zarr")
    run(at_once)
    assert_equal(stored(longer), stored(at_once))
    near, far = (stored(longer)[name].values for name in ("reference_file", "source_file"))
    for k in range(3):
        assert Path(near[k]).name == f"detector0_sample_{k:04d}.edf"
        assert Path(far[k]).name == f"detector1_sample_{k:04d}.edf"
    # Other first frames: the detectors would be registered anew.
    message = refused(absolute(folder, 1, 0, 2))
    assert "shared.far.registration" in message
    assert "detector1_sample_0001.edf" in message
    # The same far frames with other near ones.
    swapped = {"files": [f"raw/detector0_sample_000{k}.edf" for k in (0, 2, 1)]}
    assert "reference_file has other values" in refused(absolute(folder, 0, 1, 2, near=swapped))
    # A dark of one detector; the other one is as it was.
    added = folder / "raw" / "detector0_dark_9999.edf"
    shutil.copy(folder / "raw" / "detector0_dark_0000.edf", added)
    message = refused(absolute(folder, 0, 1, 2))
    assert f"shared.near.dark.{added} is absent there and '0' here" in message
    added.unlink()
    flat = {"flat": "raw/detector1_flat_0000.edf"}
    assert "settings.far.flat.files is" in refused(absolute(folder, 0, 1, 2, far=flat))


# What all frames share.


def touched(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


@pytest.mark.parametrize("role", ["dark", "flat", "reference"])
def test_every_correction_is_known_by_its_frames_and_their_files(
    role: str, raw: Path, tmp_path: Path
) -> None:
    folder = copied(raw, tmp_path)
    run(load(folder, sample=files(0)))
    larger = load(folder, sample=files(0, 1))
    names = sorted(folder.glob(f"raw/{role}_*.edf"))
    added = names[0].with_name(f"{role}_9999.edf")
    shutil.copy(names[0], added)
    message = refused(larger)
    if role == "reference":
        # As many as samples: each has one of its own, and none is for all.
        assert f"shared.reference.{names[0]} is '0' there and absent here" in message
    else:
        assert f"shared.{role}.{added} is absent there and '0' here" in message
    assert "Every frame depends on them" in message
    added.unlink()
    # The same frames, in a file that has changed.
    kept = names[0].stat()
    touched(names[0])
    assert f"inputs.{names[0]}.mtime_ns" in refused(larger)
    os.utime(names[0], ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert run(larger).store.written == 1


def test_a_calibration_is_known_by_its_file(raw: Path, tmp_path: Path) -> None:
    folder = copied(raw, tmp_path)
    zero = xr.DataArray(np.zeros((128, 128)), dims=("y", "x"), attrs={"units": "px"})
    table = xr.Dataset({"distortion_y": zero, "distortion_x": zero, "e": ("frame", [0.0])})
    for name in ("a.zarr", "b.zarr"):
        wd.write_store(folder / name, table, settings={})
    run(load(folder, sample=files(0), distortion="a.zarr"))
    larger = load(folder, sample=files(0, 1), distortion="a.zarr")
    assert "settings.distortion" in refused(load(folder, sample=files(0), distortion="b.zarr"))
    shutil.rmtree(folder / "a.zarr")
    wd.write_store(folder / "a.zarr", table + 1, settings={})
    assert f"inputs.{folder / 'a.zarr' / 'zarr.json'}." in refused(larger)


def test_a_frame_that_has_changed_since_is_refused(raw: Path, tmp_path: Path) -> None:
    folder = copied(raw, tmp_path)
    run(load(folder, sample=files(0, 1)))
    touched(folder / "raw" / "sample_0001.edf")
    for numbers in ((0, 1), (0, 1, 2)):
        message = refused(load(folder, sample=files(*numbers)))
        assert f"inputs.{folder / 'raw' / 'sample_0001.edf'}.mtime_ns is" in message
    # Frames that are not in question are not looked at.
    assert run(load(folder, sample=files(0, 2))).store.written == 1


# A scan that is being written.

KINDS = {"dark": 0.0, "flat": 1.0, "reference": 2.0, "sample": 3.0}
ROLES = {kind: f"kind == {number:g}" for kind, number in KINDS.items()}


class Scan:
    """A scan of BLISS that is still running: frames of all kinds in one file."""

    def __init__(self, path: Path, raw: Path, number: str = "1.1") -> None:
        self.path, self.number = path, number
        self._raw = raw
        with h5py.File(path, "a") as file:
            entry = file.create_group(number)
            entry["title"] = "fscan"
            entry["start_time"] = "2026-11-22T10:00:00"
            for name in ("kind", "lens_x"):
                entry[f"instrument/positioners_start/{name}"] = 0.0
                entry[f"instrument/positioners/{name}"] = 0.0
                entry.create_dataset(f"measurement/{name}", (0,), "f8", maxshape=(None,))
            entry.create_dataset(
                "instrument/pco/data", (0, 128, 128), "u2", maxshape=(None, 128, 128)
            )

    def take(self, kind: str, *numbers: int) -> None:
        for number in numbers:
            image = fabio.open(self._raw / "raw" / f"{kind}_{number:04d}.edf").data
            with h5py.File(self.path, "r+") as file:
                entry = file[self.number]
                self._add(entry["instrument/pco/data"], image)
                self._add(entry["measurement/kind"], KINDS[kind])
                self._add(entry["measurement/lens_x"], 0.005 * number)

    def end(self) -> None:
        with h5py.File(self.path, "r+") as file:
            file[f"{self.number}/end_time"] = "2026-11-22T10:10:00"

    @staticmethod
    def _add(dataset: h5py.Dataset, value: NDArray[Any] | float) -> None:
        dataset.resize(dataset.shape[0] + 1, axis=0)
        dataset[-1] = value


def of_scan(folder: Path, scan: Scan, **changes: Any) -> Experiment:
    return load(
        folder,
        **dict.fromkeys(KINDS),
        **{
            "scan": {"files": str(scan.path), "scan": scan.number, "units": {"lens_x": "mm"}},
            "roles": ROLES,
            **changes,
        },
    )


@pytest.fixture
def running(raw: Path, tmp_path: Path) -> Scan:
    scan = Scan(tmp_path / "run.h5", raw)
    for kind, numbers in {"dark": [0, 1], "flat": [0, 1], "reference": [0], "sample": [0]}.items():
        scan.take(kind, *numbers)
    return scan


def test_a_running_scan_with_roles_reruns_only_new_frames(
    running: Scan, raw: Path, tmp_path: Path
) -> None:
    assert run(of_scan(tmp_path, running)).store.written == 1
    assert "unfinished" in stored(of_scan(tmp_path, running)).attrs
    running.take("sample", 1)
    assert run(of_scan(tmp_path, running)).store.written == 1
    running.take("sample", 2)
    running.end()
    experiment = of_scan(tmp_path, running)
    assert run(experiment).store.written == 1
    found = stored(experiment)
    assert "unfinished" not in found.attrs
    assert found.scan.values.tolist() == [0, 1, 2]
    assert found.lens_x.values.tolist() == [0.0, 0.005, 0.01]
    # The same as of separate files, and all of it told by the history.
    names = {kind: [f"raw/{kind}_000{k}.edf" for k in (0, 1)] for kind in ("dark", "flat")}
    separate = load(copied(raw, tmp_path / "own"), **names, sample={"files": "raw/sample_*.edf"})
    run(separate)
    assert_equal(found, stored(separate))
    (entry,) = found.attrs["inputs"]
    assert entry["size"] == running.path.stat().st_size
    assert run(experiment).store.written == 0


def test_a_dark_that_is_added_later_is_refused_and_can_be_left_out(
    running: Scan, tmp_path: Path
) -> None:
    run(of_scan(tmp_path, running))
    running.take("dark", 2)
    running.take("sample", 1)
    message = refused(of_scan(tmp_path, running))
    assert "shared.dark" in message
    assert "is '0-1' there and '0-1, 6' here" in message
    assert "source_index < 10" in message
    # The condition may be narrowed: the darks are those that they were.
    roles = {**ROLES, "dark": "kind == 0 and source_index < 6"}
    assert run(of_scan(tmp_path, running, roles=roles)).store.written == 1


def test_scans_of_one_file_are_not_taken_for_each_other(
    running: Scan, raw: Path, tmp_path: Path
) -> None:
    folder = copied(raw, tmp_path)

    def of(scan: Scan) -> Experiment:
        source = {"files": str(scan.path), "scan": scan.number, "motors": None}
        return load(folder, sample={**content()["sample"], **source})

    second = Scan(running.path, raw, "2.1")
    # As many frames at the same positions, but of others.
    second.take("flat", 0, 1)
    second.take("dark", 0, 1)
    second.take("sample", 2, 0)
    assert run(of(running)).store.written == 6
    assert run(of(second)).store.written == 6
    found = stored(of(second)).source_dataset.values.tolist()
    assert found == ["/1.1/instrument/pco/data"] * 6 + ["/2.1/instrument/pco/data"] * 6
    assert run(of(running)).store.written == 0


def test_a_file_that_became_shorter_is_refused(running: Scan, raw: Path, tmp_path: Path) -> None:
    run(of_scan(tmp_path, running))
    running.path.unlink()
    again = Scan(running.path, raw)
    for kind in ("dark", "flat"):
        again.take(kind, 0)
    again.take("reference", 0)
    again.take("sample", 0)
    assert "shared.dark" in refused(of_scan(tmp_path, again))


def test_a_folder_that_fills_grows_by_its_samples(raw: Path, tmp_path: Path) -> None:
    folder = copied(raw, tmp_path)
    (folder / "raw" / "sample_0002.edf").rename(folder / "later.edf")
    roles: dict[str, Any] = {kind: {"files": f"{kind}_*.edf"} for kind in KINDS}
    scan: dict[str, Any] = {"files": "raw/*.edf", "units": {"lens_x": "mm"}}
    experiment = load(folder, **dict.fromkeys(KINDS), scan=scan, roles=roles)
    assert run(experiment).store.written == 2
    (folder / "later.edf").rename(folder / "raw" / "sample_0002.edf")
    assert run(experiment).store.written == 1
    shutil.copy(folder / "raw" / "flat_0000.edf", folder / "raw" / "flat_0900.edf")
    assert "flat_0900.edf is absent there and '0' here" in refused(experiment)
