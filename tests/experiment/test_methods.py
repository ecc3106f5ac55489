"""Methods that an experiment may use: a scan of the membrane, a self-reference, averages."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml

import wavedask as wd
from wavedask.errors import ExperimentError, StoreExistsError
from wavedask.experiment.images import corrected_frame
from wavedask.experiment.model import Experiment, load_experiment
from wavedask.experiment.pages import write_page
from wavedask.experiment.pipeline import plan, run
from wavedask.experiment.stages import Stages, stages_of
from wavedask.simulate import (
    REFERENCE,
    SAMPLE,
    BeamlineCampaign,
    Crl,
    Lens,
    differential_beamline,
    membrane_scan,
    pulse_train,
    write_beamline_campaign,
    write_campaign,
)

pytestmark = pytest.mark.usefixtures("threads")

SIDE = 72
PIXEL = 0.65e-6
DISTANCE = 0.4
SOURCE = 40.0
STEP = 1e-6
CENTERS = [0.0, 20e-6, 0.0, 0.0]
"""Positions of the lens in four exposures: two settings."""


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> BeamlineCampaign:
    """Scans of the membrane with and without a lens, and a step of it."""
    lens = Crl(SOURCE, radius=60e-6, delta=1.2e-6)
    beamline = differential_beamline(optic=lens, distance=DISTANCE, shape=(SIDE, SIDE))
    step = membrane_scan(1, 2, 4e-6, base=REFERENCE)
    scans = {
        "reference": membrane_scan(1, 16, STEP, base=REFERENCE),
        "sample": membrane_scan(1, 16, STEP, base=SAMPLE),
        "before": step[:1],
        "after": step[1:],
        "train": pulse_train(3, distance=SOURCE, pointing_jitter=1e-6),
    }
    folder = tmp_path_factory.mktemp("methods")
    return write_beamline_campaign(folder / "raw", beamline, scans)


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four exposures at two positions of a lens."""
    folder = tmp_path_factory.mktemp("repeated")
    write_campaign(
        folder / "raw",
        lens=Lens(radius=50e-6, delta=1.2e-6),
        centers=[(0.0, x) for x in CENTERS],
        shape=(128, 128),
    )
    return folder


def frames(name: str) -> dict[str, Any]:
    """Section of the frames of a scan; EDF headers hold no units."""
    return {"files": f"raw/{name}*.edf", "units": {"membrane_x": "mm"}}


def experiment(folder: Path, **content: Any) -> Experiment:
    whole = {
        "sample": "raw/sample_*.edf",
        "reference": "raw/reference_*.edf",
        "dark": "raw/dark_*.edf",
        "flat": "raw/flat_*.edf",
        "wavefront": {"distance": DISTANCE, "pixel_size": PIXEL, "source_distance": SOURCE},
        "output": "results.zarr",
        **content,
    }
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump({k: v for k, v in whole.items() if v is not None}))
    return load_experiment(file)


def staged(folder: Path, **content: Any) -> Stages:
    return stages_of(experiment(folder, **content))


def same(found: xr.Dataset, expected: xr.Dataset, names: list[str]) -> None:
    for name in names:
        np.testing.assert_array_equal(found[name].values, expected[name].values, err_msg=name)


def pictures(page: Path) -> list[tuple[str, str]]:
    """The pictures of a report: data, and what each shows."""
    return re.findall(r'<img src="([^"]*)" alt="([^"]*)"', page.read_text())


def test_a_scan_of_the_membrane_gives_the_wavefront(
    scanned: BeamlineCampaign, tmp_path: Path
) -> None:
    folder = scanned.folder.parent
    scan = {"motor": "membrane_x", "window": 5}
    files = {"sample": frames("sample"), "reference": frames("reference")}
    asked = experiment(folder, **files, track_scan=scan, output=str(tmp_path / "scan.zarr"))
    prepared = stages_of(asked)
    assert plan(prepared).frames == 1
    report = run(asked, prepared=prepared)
    stored = wd.open_store(report.store.path)
    assert dict(stored.sizes) == {"frame": 1, "y": SIDE, "x": SIDE}
    assert stored.delay_x.units == "m"
    assert "units" not in stored.attrs
    truth = scanned.truth()
    inner = np.s_[8:-8, 12:-12]
    error = (stored.slope_x.values[0] - truth.difference_slope_x)[inner]
    known = np.isfinite(error)
    assert known.mean() > 0.9
    # A twentieth of a pixel.
    assert error[known].std() < 0.05 * PIXEL / DISTANCE
    assert stored.slope_x.values[0][inner][known].std() > 0.1 * PIXEL / DISTANCE
    assert "sample_0015.edf" in "".join(stored.stack_frames.values)
    image, reason = corrected_frame(report.store.path)
    assert image is not None, reason
    np.testing.assert_array_equal(image, prepared.image[0])
    page = run(experiment(folder, **files, track_scan=scan, report=True, output=asked.output)).page
    assert page is not None
    assert pictures(page)[0][1].startswith("intensity relative")
    assert run(asked).store.written == 0
    fewer = experiment(
        folder,
        track_scan=scan,
        sample=frames("sample_000"),
        reference=frames("reference_000"),
        output=asked.output,
    )
    with pytest.raises(StoreExistsError):
        run(fewer)


def test_a_scan_without_a_reference_gives_the_curvature(scanned: BeamlineCampaign) -> None:
    folder = scanned.folder.parent
    scan: dict[str, Any] = {
        "motor": "membrane_x",
        "pixel_size": PIXEL,
        "distance": DISTANCE,
    }
    prepared = staged(
        folder, sample=frames("sample"), track_scan=scan, reference=None, wavefront=None
    )
    assert dict(prepared.result.sizes) == {"frame": 1, "y": SIDE, "x": SIDE}
    direct = wd.track_scan(prepared.image, **scan).expand_dims("frame")
    same(prepared.result, direct, ["curvature_x", "curvature_uncertainty_x", "x"])
    assert np.isfinite(direct.curvature_x.values).mean() > 0.5


def test_a_step_of_the_membrane_gives_the_curvature(scanned: BeamlineCampaign) -> None:
    folder = scanned.folder.parent
    own = {"step": [0, 4e-6], "pixel_size": PIXEL, "distance": DISTANCE}
    prepared = staged(
        folder,
        sample=frames("after"),
        reference=frames("before"),
        track={"window": 21, "search": 4},
        self_reference=own,
        wavefront=None,
    )
    assert prepared.result.sizes["frame"] == 1
    assert "source_file" in prepared.result.coords
    assert isinstance(prepared.reference, xr.DataArray)
    tracking = wd.track(prepared.image, prepared.reference, window=21, search=4)
    direct = wd.self_reference(tracking, step=(0, 4e-6), pixel_size=PIXEL, distance=DISTANCE)
    same(prepared.result, direct, ["curvature_x", "x"])
    # The beam of a source at a distance.
    curvature = float(np.nanmedian(prepared.result.curvature_x))
    assert curvature == pytest.approx(1 / (SOURCE + DISTANCE), rel=0.1)


def test_exposures_are_combined_by_their_setting(repeated: Path, tmp_path: Path) -> None:
    setup = {"wavefront": {"distance": 1.0, "pixel_size": PIXEL}, "track": {"window": 15}}
    by = {"by": "lens_x", "tolerance": 1e-3}
    asked = experiment(repeated, **setup, combine=by, output=str(tmp_path / "mean.zarr"))
    stored = wd.open_store(run(asked).store.path)
    assert stored.sizes["frame"] == len(set(CENTERS))
    np.testing.assert_allclose(stored.lens_x, [0.0, 0.02])
    exposures = stored.exposures.max(("y", "x")).values
    assert exposures.tolist() == [3, 1]
    assert stored.drift_x.dims == ("frame", "exposure")
    assert np.isfinite(stored.drift_x).sum("exposure").values.tolist() == [3, 1]
    assert np.isposinf(stored.drift_uncertainty_x[1, 1:]).all()
    image, reason = corrected_frame(tmp_path / "mean.zarr", 1)
    assert image is not None, reason
    assert str(image.source_file.values).endswith("sample_0001.edf")
    assert "sample_0003.edf" in stored.stack_frames.values[0]
    assert "sample_0001.edf" in stored.stack_frames.values[1]
    page = run(experiment(repeated, **setup, combine=by, report=True, output=asked.output)).page
    assert page is not None
    shown = pictures(page)
    assert shown[0][1].startswith("intensity relative")
    assert shown == pictures(write_page(tmp_path / "mean.zarr", tmp_path / "again.html"))
    single = staged(repeated, **setup).result
    inner = {"y": slice(20, -20), "x": slice(20, -20)}
    # Each of them has measured its own noise, in a single cell of so small a frame.
    alone = single.uncertainty_x[np.equal(CENTERS, 0)].mean("frame")
    ratio = float((stored.uncertainty_x[0][inner] / alone[inner]).mean())
    # Half of the variance is that of the reference, which all exposures share.
    assert ratio == pytest.approx(np.sqrt((1 / 3 + 1) / 2), rel=0.05)
    assert run(asked).store.written == 0


def test_all_exposures_are_combined_to_one(repeated: Path) -> None:
    setup = {"wavefront": {"distance": 1.0, "pixel_size": PIXEL}, "track": {"window": 15}}
    still = {"sample": ["raw/sample_0000.edf", "raw/sample_0002.edf"]}
    prepared = staged(repeated, **setup, **still, combine={})
    single = staged(repeated, **setup, **still)
    assert isinstance(single.reference, xr.DataArray)
    tracking = wd.track(single.image, single.reference, window=15)
    mean = wd.combine(tracking)
    same(prepared.result.isel(frame=0), mean, ["displacement_x", "uncertainty_x", "chi2"])
    np.testing.assert_array_equal(prepared.result.drift_x.values[0], mean.drift_x.values)
    assert prepared.result.drift_x.chunks is not None
    assert "slope_x" in prepared.result


def test_pulses_of_a_train_are_combined(scanned: BeamlineCampaign) -> None:
    folder = scanned.folder.parent
    setup = {"track": {"window": 15, "search": 4}, "train": "first", "reference": None}
    prepared = staged(folder, sample="raw/train_*.edf", **setup, combine={})
    assert prepared.result.sizes["frame"] == 1
    assert prepared.result.exposures.max().compute() == 2
    assert "slope_x" in prepared.result


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"track_scan": {}}, "track_scan.motor: missing; give the motor"),
        ({"track_scan": {"motor": "m", "axis": "z"}}, "axis is 'z': give y or x"),
        ({"track_scan": {"motor": "m"}, "track": {"window": 9}}, "track: not with track_scan"),
        (
            {"track_scan": {"motor": "m", "distance": 1.0}},
            "track_scan.distance: only without a reference",
        ),
        (
            {"track_scan": {"motor": "m"}, "reference": None, "wavefront": None},
            "track_scan.pixel_size: missing; a scan without reference needs it",
        ),
        ({"track_scan": {"motor": "m"}, "reference": None}, "reference: missing; give files"),
        ({"track_scan": {"motor": "m"}, "combine": {}}, "combine: the frames are tracked together"),
        ({"track": {"over": "frame"}, "combine": {}}, "combine: the frames are tracked together"),
        ({"combine": {"by": "lens_x"}}, "combine: by and tolerance need each other"),
        (
            {"self_reference": {"step": [0, 1e-5], "pixel_size": 1e-6, "distance": 1.0}},
            "wavefront: the result of a self-reference is a curvature; remove",
        ),
        ({"wavefront": None}, "wavefront: missing; give a section"),
        (
            {"train": "first", "reference": None, "track_scan": {"motor": "m"}},
            "track_scan: not with a train",
        ),
    ],
)
def test_sections_that_do_not_go_together(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ExperimentError) as caught:
        experiment(tmp_path, **changes)
    assert said in str(caught.value)
