"""Experiment files of both modes: two detectors, calibrations, stacks, trains, regions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml
from click.testing import CliRunner
from numpy.typing import NDArray
from support.experiments import campaign, content

import wavedask as wd
from wavedask.cli import main
from wavedask.errors import ExperimentError, FrameMismatchError, InputError, StoreError
from wavedask.experiment.model import load_experiment
from wavedask.experiment.pipeline import run
from wavedask.experiment.stages import Stages, stages_of
from wavedask.simulate import (
    REFERENCE,
    SAMPLE,
    BeamlineCampaign,
    Crl,
    absolute_beamline,
    differential_beamline,
    membrane_scan,
    pulse_train,
    write_beamline_campaign,
)

SIDE = 192
SOURCE = 40.0
NEAR, FAR = 0.3, 0.8
PIXEL = 1.6e-6


pytestmark = pytest.mark.usefixtures("threads")


def staged(folder: Path, changes: dict[str, Any]) -> Stages:
    return stages_of(load_experiment(write(folder, changes)))


def write(folder: Path, whole: dict[str, Any]) -> Path:
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump({"output": "results.zarr", **whole}))
    return file


@pytest.fixture(scope="module")
def two_detectors(tmp_path_factory: pytest.TempPathFactory) -> BeamlineCampaign:
    beamline = absolute_beamline(
        source_distance=SOURCE, distances=(NEAR, FAR), shape=(SIDE, SIDE), pixel_sizes=(PIXEL,) * 2
    )
    folder = tmp_path_factory.mktemp("absolute")
    return write_beamline_campaign(folder / "raw", beamline, {"sample": [REFERENCE, REFERENCE]})


def absolute(**changes: Any) -> dict[str, Any]:
    def detector(number: int) -> dict[str, Any]:
        prefix = f"raw/detector{number}_"
        return {
            "files": f"{prefix}sample_*.edf",
            "dark": f"{prefix}dark_*.edf",
            "flat": f"{prefix}flat_*.edf",
        }

    return {
        "near": detector(0),
        "far": detector(1),
        "track": {"window": 31, "search": 8},
        "wavefront": {
            "mode": "absolute",
            "distance": [NEAR, FAR],
            "pixel_size": [PIXEL, PIXEL],
            "pixel_size_error": [1e-10, 1e-10],
            "energy": 17.0,
        },
        **changes,
    }


def test_two_detectors_measure_the_beam(two_detectors: BeamlineCampaign) -> None:
    folder = two_detectors.folder.parent
    report = run(load_experiment(write(folder, absolute())))
    stored = wd.open_store(report.store.path)
    assert stored.sizes["frame"] == report.store.frames == 2
    assert stored.radius_of_curvature_y.dims == ("frame",)
    # Noise of a small frame; how near it comes on a large one, tests of the mode show.
    found, error = stored.radius_of_curvature_x.values, stored.radius_of_curvature_uncertainty_x
    assert (np.abs(found - (SOURCE + FAR)) < 4 * error).all()
    assert found == pytest.approx(SOURCE + FAR, rel=0.1)
    assert stored.attrs["mode"] == "absolute"
    assert len(stored.attrs["inputs"]) == 2 * (2 + 5 + 5)
    again = run(load_experiment(write(folder, absolute())))
    assert again.store.written == 0


def test_exposures_of_two_detectors_are_combined(two_detectors: BeamlineCampaign) -> None:
    folder = two_detectors.folder.parent
    result = staged(folder, absolute(combine={})).result
    assert result.sizes["frame"] == 1
    found = result[["radius_of_curvature_x", "radius_of_curvature_uncertainty_x"]].compute()
    radius, error = (float(found[name][0]) for name in found)
    assert abs(radius - (SOURCE + FAR)) < 4 * error


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"far": None}, "far: missing; give files"),
        ({"sample": "a.edf"}, "sample: not in absolute mode, which has near and far"),
        ({"dark": "a.edf"}, "dark: not in absolute mode.*each with its own dark"),
        ({"train": "first"}, "train: not in absolute mode"),
        ({"track": {"over": "y"}}, "track: over is .y.: give frame"),
        ({"near": {"files": "a.edf", "drak": "b.edf"}}, "near.drak: unknown key; did you mean"),
    ],
)
def test_sections_of_another_mode(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    whole = {key: value for key, value in absolute(**changes).items() if value is not None}
    with pytest.raises(ExperimentError, match=words):
        load_experiment(write(tmp_path, whole))


def test_a_differential_experiment_has_one_detector(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="near: not in differential mode"):
        load_experiment(write(tmp_path, content(near="a.edf")))
    with pytest.raises(ExperimentError, match="reference: not in differential mode with a train"):
        load_experiment(write(tmp_path, content(train="first")))


@pytest.fixture(scope="module")
def one_detector(tmp_path_factory: pytest.TempPathFactory) -> BeamlineCampaign:
    lens = Crl(SOURCE, radius=100e-6, delta=1.2e-6)
    beamline = differential_beamline(optic=lens, distance=0.4, shape=(SIDE, SIDE))
    scans = {
        "reference": membrane_scan(1, 3, 20e-6, base=REFERENCE),
        "sample": membrane_scan(1, 3, 20e-6, base=SAMPLE)[::-1],
        "train": pulse_train(3, distance=SOURCE, pointing_jitter=1e-6, intensity_jitter=0.1),
    }
    folder = tmp_path_factory.mktemp("differential")
    return write_beamline_campaign(folder / "raw", beamline, scans)


def differential(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "sample": "raw/sample_*.edf",
        "reference": "raw/reference_*.edf",
        "dark": "raw/dark_*.edf",
        "flat": "raw/flat_*.edf",
        "track": {"window": 21, "search": 8},
        "wavefront": {"distance": 0.4, "pixel_size": 0.65e-6, "source_distance": SOURCE},
        **changes,
    }
    return {key: value for key, value in whole.items() if value is not None}


def slope_error(result: xr.Dataset, truth: NDArray[np.float64]) -> float:
    inner = np.s_[30:-30, 30:-30]
    error = result.slope_x.values[0][inner] - truth[inner]
    return float(np.sqrt(np.nanmean((error - np.nanmean(error)) ** 2)))


def test_a_stack_is_paired_by_its_motors(one_detector: BeamlineCampaign) -> None:
    folder = one_detector.folder.parent
    stack = {"window": 11, "search": 8, "over": "frame", "motors": "membrane_x", "tolerance": 1e-4}
    result = staged(folder, differential(track=stack)).result
    assert result.sizes["frame"] == 1
    truth = one_detector.truth()
    # A hundredth of a pixel or two.
    assert slope_error(result.compute(), truth.difference_slope_x) < 0.03 * 0.65e-6 / 0.4
    wrong = {**stack, "tolerance": 1e-9, "motors": "optic_x"}
    with pytest.raises(InputError, match="optic_x"):
        staged(folder, differential(track=wrong))


@pytest.mark.parametrize(("against", "frames"), [("first", 2), ("previous", 2), ("mean", 3)])
def test_a_train_is_its_own_reference(
    one_detector: BeamlineCampaign, against: str, frames: int
) -> None:
    folder = one_detector.folder.parent
    asked = differential(sample="raw/train_*.edf", reference=None, train=against)
    prepared = staged(folder, asked)
    assert prepared.result.sizes["frame"] == frames
    moved = prepared.result.displacement_x.median(("y", "x")).compute()
    assert np.isfinite(moved).all()
    assert np.abs(moved).max() > 0.05  # pulses point here and there


def test_a_region_is_cut_out_with_its_place(one_detector: BeamlineCampaign) -> None:
    folder = one_detector.folder.parent
    setup = differential()["wavefront"]
    whole = staged(folder, differential()).result
    part = staged(folder, differential(wavefront={**setup, "roi": [[40, 120], [50, 140]]})).result
    assert (part.sizes["y"], part.sizes["x"]) == (80, 90)
    assert part.x.values == pytest.approx(whole.x.values[50:140])
    assert np.array_equal(
        part.displacement_x.compute(), whole.displacement_x[:, 40:120, 50:140].compute(), True
    )
    for roi in ([[400, 420], [50, 140]], [[0, 1000], [50, 140]], [[-9, 40], [50, 140]]):
        with pytest.raises(
            InputError, match=r"wavefront\.roi is .*, and the frames have the pixels"
        ):
            staged(folder, differential(wavefront={**setup, "roi": roi}))


def test_a_calibration_is_applied_and_remembered(tmp_path: Path) -> None:
    campaign(tmp_path)
    x = np.arange(128) - 63.5
    zero = xr.DataArray(np.zeros((128, 128)), dims=("y", "x"), attrs={"units": "px"})
    bent = zero + 0.5 * np.sin(x / 20)
    calibrations = {
        name: xr.Dataset({"distortion_y": zero, "distortion_x": map_.assign_attrs(units="px")})
        for name, map_ in (("none", zero), ("bent", bent))
    }
    for name, calibration in calibrations.items():
        frames = calibration.assign(frame_error=("frame", [0.0]))
        wd.write_store(tmp_path / f"{name}.zarr", frames, settings={}, inputs=[])
    plain = staged(tmp_path, content())
    same = staged(tmp_path, content(distortion="none.zarr"))
    other = staged(tmp_path, content(distortion="bent.zarr"))
    inner = np.s_[0, 10:-10, 10:-10]
    assert np.allclose(same.image.compute()[inner], plain.image.compute()[inner], atol=1e-4)
    assert not np.allclose(other.image.compute()[inner], plain.image.compute()[inner], atol=1e-2)
    assert tmp_path / "bent.zarr" / "zarr.json" in other.inputs
    with pytest.raises(StoreError, match="no store"):
        staged(tmp_path, content(distortion="lost.zarr"))
    small = calibrations["none"].isel(y=slice(64)).assign(frame_error=("frame", [0.0]))
    wd.write_store(tmp_path / "small.zarr", small, settings={}, inputs=[])
    with pytest.raises(FrameMismatchError):
        staged(tmp_path, content(distortion="small.zarr"))


def test_the_command_shows_the_errors_of_an_absolute_radius(
    two_detectors: BeamlineCampaign,
) -> None:
    file = write(two_detectors.folder.parent, absolute(output="shown.zarr"))
    done = CliRunner().invoke(main, ["run", str(file), "--address", "threads"])
    assert done.exit_code == 0, done.output
    lines = [" ".join(line.split()) for line in done.output.splitlines()]
    assert any(line.startswith("radius of curvature") for line in lines)
    assert any(line.startswith("pixel size, near detector 100 pm") for line in lines), done.output
    told = CliRunner().invoke(main, ["info", str(file.with_name("shown.zarr"))])
    assert "rotation" in told.output
    assert "magnification" in told.output


def test_roles_of_one_scan_give_what_files_of_their_own_give(tmp_path: Path) -> None:
    folder = campaign(tmp_path)
    own = staged(folder, content())
    names = {role: f"{role}_*.edf" for role in ("sample", "reference", "dark", "flat")}
    changes = dict.fromkeys(names)
    whole = content(
        **changes,
        scan={"files": "raw/*.edf", "units": {"lens_x": "mm"}},
        roles={role: {"files": name} for role, name in names.items()},
    )
    common = staged(folder, whole)
    # A header item that differs between roles only stays a coordinate.
    headers = set(common.image.coords) - set(own.image.coords)
    assert headers <= {"prefix"}
    xr.testing.assert_identical(common.image.drop_vars(headers).compute(), own.image.compute())
    assert list(common.inputs) == list(dict.fromkeys(common.inputs))
    assert set(common.inputs) == set(own.inputs)
    # YAML takes 1e-3 for a text; here it is a number.
    file = write(folder, whole)
    file.write_text(file.read_text().replace("files: dark_*.edf", "lens_x: 1e-3"))
    with pytest.raises(InputError, match=r"roles\.dark\.lens_x is 0\.001, which no frame fits"):
        stages_of(load_experiment(file))
    # One role may have files of its own.
    whole = content(
        sample=None, scan="raw/sample_*.edf", roles={"sample": "abs(lens_x - 0.005) < 1e-4"}
    )
    one = staged(folder, whole)
    np.testing.assert_array_equal(one.image, own.image[1:2])


def test_roles_of_each_detector(two_detectors: BeamlineCampaign) -> None:
    folder = two_detectors.folder.parent
    separate = staged(folder, absolute())
    whole = absolute()
    for name in ("near", "far"):
        section = whole[name]
        roles = {"sample": section["files"], "dark": section["dark"], "flat": section["flat"]}
        whole[name] = {
            "files": list(roles.values()),
            "roles": {role: {"files": Path(files).name} for role, files in roles.items()},
        }
    together = staged(folder, whole)
    np.testing.assert_array_equal(together.image, separate.image)
    np.testing.assert_array_equal(together.reference, separate.reference)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scan": "raw/*.edf"}, "scan: has no effect without roles"),
        ({"roles": {"dark": {"files": "d*"}}, "dark": None}, "roles: has no effect without scan"),
        (
            {"scan": "raw/*.edf", "roles": {"dark": {"files": "d*"}}},
            "dark: given twice, as a section and in roles",
        ),
        ({"scan": "raw/*.edf", "roles": {"drak": {}}}, "roles.drak: unknown key.*'dark'"),
        (
            {"scan": "raw/*.edf", "roles": {"sample": {"lens_x": [1, 2, 3]}}, "sample": None},
            r"roles\.sample.*a condition such as '17 < energy < 18', or a section with values",
        ),
        ({"sample": None}, "sample: missing"),
    ],
)
def test_roles_that_cannot_be(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ExperimentError, match=said):
        load_experiment(write(tmp_path, content(**changes)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"roles": {"dark": {"files": "d*"}}}, r"near: roles\.sample: missing"),
        (
            {"roles": {"sample": {"a": 1}, "reference": {"a": 2}}},
            r"near: roles\.reference: the ref",
        ),
        ({"roles": {"sample": {"a": 1}, "dark": {"a": 2}}}, "near: dark: given twice"),
    ],
)
def test_roles_of_a_detector_that_cannot_be(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    whole = absolute()
    whole["near"] |= changes
    with pytest.raises(ExperimentError, match=said):
        load_experiment(write(tmp_path, whole))


def test_the_set_up_comes_from_the_files_where_they_state_it(tmp_path: Path) -> None:
    campaign(tmp_path)
    whole = {**content(), "wavefront": {"distance": 1.0, "pixel_size": 0.65e-6}}
    assert "phase" in staged(tmp_path, whole).result
    other = {"distance": 1.0, "pixel_size": 0.65e-6, "energy": 12.0}
    with pytest.raises(InputError, match="energy is 12 keV as given and 17 keV in coordinate"):
        staged(tmp_path, {**whole, "wavefront": other})
    with pytest.raises(InputError, match=r"wavefront: .*, set wavefront.sure to \[energy\]\.$"):
        staged(tmp_path, {**whole, "wavefront": other})
    confirmed = staged(tmp_path, {**whole, "wavefront": {**other, "sure": ["energy"]}}).result
    assert confirmed.attrs["energy_keV"] == 12.0
    assert confirmed.attrs["sure"] == ["energy"]
    with pytest.raises(InputError, match="distance is not given, and the tracking does not state"):
        staged(tmp_path, {**whole, "wavefront": {"pixel_size": 0.65e-6}})
    with pytest.raises(InputError, match=r"sure is \('enrgy',\). Name some of: .*energy"):
        staged(tmp_path, {**whole, "wavefront": {**other, "sure": ["enrgy"]}})
