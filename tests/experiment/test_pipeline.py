"""An experiment goes from raw files to a store: lazily, resumably, alike on every scheduler."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import fabio
import h5py
import numpy as np
import pytest
import xarray as xr
from dask.utils import format_bytes
from support.experiments import FRAMES, SIDE, assert_equal, copied, load, tree
from support.laziness import forbid_computing

import wavedask as wd
from wavedask.compute.connection import connect
from wavedask.compute.memory import needs
from wavedask.conventions import QUANTITIES
from wavedask.errors import ClusterError, FileError, InputError, StoreError, StoreExistsError
from wavedask.experiment import pipeline
from wavedask.experiment.model import Experiment
from wavedask.experiment.pipeline import KERNELS, WORK_ARRAYS, RunReport, plan, run
from wavedask.experiment.stages import stages_of
from wavedask.io.frames import FrameStack, RawFrame
from wavedask.wavefront import frame_numbers

MAPS = {
    *("displacement_y", "displacement_x", "uncertainty_y", "uncertainty_x"),
    *("correlation", "window", "slope_y", "slope_x", "wavefront", "phase"),
    *("curvature_y", "curvature_x", "transmission", "dark_field", "reason"),
    *("slope_uncertainty_y", "slope_uncertainty_x", "wavefront_uncertainty"),
}
NUMBERS = {"matched_share", "wavefront_rms", "wavefront_pv"}
VARIABLES = MAPS | NUMBERS


pytestmark = pytest.mark.usefixtures("threads")


@pytest.fixture(scope="module")
def finished(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, RunReport]:
    folder = copied(raw, tmp_path_factory.mktemp("finished"))
    experiment = load(folder)
    with dask.config.set(scheduler="threads", num_workers=2):
        return experiment, run(experiment)


def test_nothing_is_computed_before_the_run(raw: Path) -> None:
    with forbid_computing():
        prepared = stages_of(load(raw))
        asked = plan(prepared)
    assert set(map(str, prepared.result.data_vars)) == VARIABLES
    for variable in prepared.result.data_vars.values():
        assert variable.chunks is not None
    assert [path.name for path in prepared.inputs[:4]] == [
        *(f"sample_{n:04d}.edf" for n in range(FRAMES)),
        "reference_0000.edf",
    ]
    assert asked.frames == FRAMES


def test_the_plan_counts_what_is_there(raw: Path) -> None:
    prepared = stages_of(load(raw))
    asked = plan(prepared)
    pixels = SIDE * SIDE
    assert asked.shape == (SIDE, SIDE)
    assert asked.blocks == FRAMES
    assert asked.block_shape == (1, SIDE, SIDE)
    assert asked.bytes_input == sum(path.stat().st_size for path in raw.glob("raw/*.edf"))
    bytes_per_pixel = 4 * (len(MAPS) - 1) + 1  # reasons take one byte
    assert asked.bytes_output == FRAMES * pixels * bytes_per_pixel
    work = WORK_ARRAYS * pixels * 4
    assert asked.bytes_per_task == KERNELS + 2 * pixels * bytes_per_pixel + work
    (whole,) = dask.base.optimize(prepared.result)
    assert asked.tasks == pytest.approx(len(dict(whole.__dask_graph__())), rel=0.1)


def test_only_what_is_kept_is_computed_and_stored(raw: Path, tmp_path: Path) -> None:
    folder = copied(raw, tmp_path)
    wanted = ["slope_y", "slope_x"]
    everything, kept = (stages_of(load(folder, **keys)) for keys in ({}, {"keep": wanted}))
    assert list(kept.result.data_vars) == wanted
    assert plan(kept).tasks < plan(everything).tasks
    report = run(load(folder, keep=wanted))
    stored = wd.open_store(report.store.path)
    assert set(stored.data_vars) == set(wanted)
    whole = everything.result.compute()
    for name in wanted:
        np.testing.assert_array_equal(stored[name], whole[name])
    # Downstream: what was not kept comes of what was.
    surface = wd.integrate(stored.slope_y, stored.slope_x)
    assert surface.chunks is not None
    np.testing.assert_allclose(
        surface - surface.mean(("y", "x")),
        whole.wavefront - whole.wavefront.mean(("y", "x")),
        atol=1e-12,
    )


def test_a_map_to_keep_that_there_is_not(raw: Path) -> None:
    with pytest.raises(InputError, match=r"keep names slop_y.*slope_y"):
        stages_of(load(raw, keep=["slop_y", "wavefront"]))


def test_there_is_no_plan_for_what_is_computed(raw: Path) -> None:
    prepared = stages_of(load(raw))
    with pytest.raises(InputError, match="not lazy"):
        plan(replace(prepared, result=xr.zeros_like(prepared.result).compute()))


def test_the_store_holds_everything_with_its_meaning(
    finished: tuple[Experiment, RunReport], raw: Path
) -> None:
    experiment, report = finished
    assert (report.store.frames, report.store.written, report.store.kept) == (FRAMES, FRAMES, 0)
    assert report.store.path == experiment.path("results.zarr")
    stored = wd.open_store(report.store.path)
    assert set(map(str, stored.data_vars)) == VARIABLES
    for name, variable in stored.data_vars.items():
        quantity = QUANTITIES[str(name)]
        assert variable.attrs["units"] == quantity.units
        assert variable.attrs["long_name"] == quantity.long_name
        assert variable.dims == (("frame",) if name in NUMBERS else ("frame", "y", "x"))
        assert variable.shape == (FRAMES, SIDE, SIDE)[: variable.ndim]
        assert np.isfinite(variable).any()
    for dim in ("y", "x"):
        assert stored[dim].attrs["units"] == "m"
        np.testing.assert_allclose(np.diff(stored[dim]), 0.65e-6)
    np.testing.assert_allclose(stored.lens_x, [0.0, 0.005, 0.010])
    assert stored.lens_x.attrs["units"] == "mm"
    assert stored.lens_x.attrs["role"] == "motor"
    assert stored.energy.ndim == 0


def test_the_displacement_is_that_of_the_lens(finished: tuple[Experiment, RunReport]) -> None:
    stored = wd.open_store(finished[1].store.path).isel(frame=0)
    lens = wd.optics.fit_lens(stored, delta=1.2e-6)
    assert float(lens.radius) == pytest.approx(50e-6, rel=0.05)
    assert float(stored.curvature_x.compute().median()) < 0  # focusing: W = -r²/2q


def test_the_store_tells_its_origin(finished: tuple[Experiment, RunReport]) -> None:
    experiment, report = finished
    attributes = wd.open_store(report.store.path).attrs
    assert attributes["settings"] == experiment.settings
    assert attributes["settings"]["track"]["search"] == 8
    files = sorted(experiment.path("raw").glob("*.edf"))
    assert {item["path"] for item in attributes["inputs"]} == {str(path) for path in files}
    for item in attributes["inputs"]:
        status = Path(item["path"]).stat()
        assert (item["size"], item["mtime_ns"]) == (status.st_size, status.st_mtime_ns)
    assert attributes["wavedask_version"] == wd.__version__
    assert attributes["versions"]["numpy"] == np.__version__
    assert attributes["distance"] == 1.0
    assert attributes["energy_keV"] == pytest.approx(17.0)
    # Of the first frame, it tells what the match leaves; nothing was stated of the detector.
    assert attributes["effective_counts"] > 100
    assert attributes["noise_blur_px"] < 1
    assert 0 <= attributes["fixed_pattern"] < 0.02
    assert "residual_over_noise" not in attributes
    assert "detector_noise" not in attributes["settings"]["track"]
    assert "photons a pixel" in dict(report.rows)["first frame, effective counts"]


def test_blind_pixels_are_counted(finished: tuple[Experiment, RunReport]) -> None:
    experiment, report = finished
    flat, dark = (
        np.mean([fabio.open(p).data for p in experiment.path("raw").glob(f"{role}_*.edf")], axis=0)
        for role in ("flat", "dark")
    )
    assert report.blind_pixels == np.count_nonzero(flat <= dark)
    assert wd.open_store(report.store.path).attrs["blind_pixels"] == report.blind_pixels


def test_without_a_flat_there_are_no_blind_pixels(raw: Path, tmp_path: Path) -> None:
    report = run(load(copied(raw, tmp_path), flat=None, sample="raw/sample_0000.edf"))
    assert report.blind_pixels == 0
    assert report.store.frames == 1


def never(*_: Any, **__: Any) -> None:
    raise AssertionError("pixels were read")


def test_a_second_run_reads_no_pixel(
    finished: tuple[Experiment, RunReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, first = finished
    before = tree(Path(first.store.path))
    monkeypatch.setattr(FrameStack, "read", never)
    report = run(experiment)
    assert (report.store.written, report.store.kept) == (0, FRAMES)
    assert report.blind_pixels == first.blind_pixels
    assert tree(Path(first.store.path)) == before


def refused(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> str:
    """Message of a run that must leave the store as it is."""
    store = experiment.path("results.zarr")
    before = tree(store)
    monkeypatch.setattr(FrameStack, "read", never)
    with pytest.raises(StoreExistsError) as caught:
        run(experiment)
    assert tree(store) == before
    assert str(store) in str(caught.value)
    assert "left as it is" in caught.value.remedy
    return str(caught.value)


def test_another_setting_is_refused_by_name(
    finished: tuple[Experiment, RunReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished[0].path(".").resolve()
    message = refused(load(folder, track={"search": 9}), monkeypatch)
    assert "settings.track.search is 8 there and 9 here" in message
    message = refused(load(folder, wavefront={"energy": 17.001}), monkeypatch)
    assert "settings.wavefront.energy is 17.0 there and 17.001 here" in message


def test_one_more_dark_frame_is_refused(
    finished: tuple[Experiment, RunReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished[0].path(".").resolve()
    added = folder / "raw" / "dark_9999.edf"
    shutil.copy(folder / "raw" / "dark_0000.edf", added)
    try:
        assert added.name in refused(finished[0], monkeypatch)
    finally:
        added.unlink()
    assert run(finished[0]).store.kept == FRAMES


def test_one_more_sample_frame_is_appended(raw: Path, tmp_path: Path) -> None:
    folder = copied(raw, tmp_path)
    last = folder / "raw" / "sample_0002.edf"
    last.rename(folder / "later")
    assert run(load(folder)).store.frames == FRAMES - 1
    (folder / "later").rename(last)
    report = run(load(folder))
    assert (report.store.written, report.store.frames) == (1, FRAMES)
    stored = wd.open_store(report.store.path)
    assert stored.scan.values.tolist() == [0, 0, 1]
    # The same from another place: the frames of a further folder, by another experiment file.
    (folder / "more").mkdir()
    shutil.copy(last, folder / "more" / "again.edf")
    more = load(folder, sample={"files": "more/*.edf"})
    assert run(more).store.written == 1
    stored = wd.open_store(report.store.path)
    np.testing.assert_array_equal(stored.wavefront[3], stored.wavefront[2])
    assert len(stored.attrs["runs"]) == 3


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_else_stands_there_is_left_alone(kind: str, raw: Path, tmp_path: Path) -> None:
    experiment = load(copied(raw, tmp_path))
    target = tmp_path / "results.zarr"
    if kind == "folder":
        target.mkdir()
    (target / "thesis.tex" if kind == "folder" else target).write_text("years of work")
    before = tree(tmp_path)
    with pytest.raises(StoreExistsError, match="is not a wavedask result store"):
        run(experiment)
    assert tree(tmp_path) == before


def test_processes_give_what_threads_give(
    finished: tuple[Experiment, RunReport], raw: Path, tmp_path: Path
) -> None:
    experiment = load(copied(raw, tmp_path))
    with connect(None, workers=2):
        report = run(experiment)
        # No worker shares the memory of this process.
        elsewhere = experiment.model_copy(update={"output": "memory://elsewhere/results.zarr"})
        with pytest.raises(ClusterError, match="workers do not reach memory://elsewhere/"):
            run(elsewhere)
    assert report.store.written == FRAMES
    expected = wd.open_store(finished[1].store.path)
    assert_equal(wd.open_store(report.store.path), expected)


def test_tiles_give_what_frames_give(finished: tuple[Experiment, RunReport]) -> None:
    prepared = stages_of(finished[0])
    tile = {"frame": 1, "y": 48, "x": 64}
    settings = finished[0].track
    assert isinstance(prepared.reference, xr.DataArray)
    tracked = wd.track(prepared.image.chunk(tile), prepared.reference.chunk(tile), **dict(settings))
    assert tracked.displacement_y.data.numblocks == (FRAMES, 3, 2)
    setup = finished[0].wavefront
    assert setup is not None
    physical = wd.wavefront(tracked, **dict(setup))
    found = tracked.assign_coords({dim: physical[dim] for dim in ("y", "x")})
    found = found.assign(physical.data_vars)
    found = found.assign(frame_numbers(found)).compute()
    assert_equal(found, wd.open_store(finished[1].store.path), rtol=1e-6)


def test_a_run_that_failed_is_finished_to_the_same_bits(
    finished: tuple[Experiment, RunReport],
    raw: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = copied(raw, tmp_path)
    experiment = load(folder)
    read = RawFrame.read

    samples: set[str] = set()

    def fail_at_the_last(frame: RawFrame, rows: slice, cols: slice) -> Any:
        samples.update({frame.path.name} if frame.path.name.startswith("sample") else ())
        if len(samples) == FRAMES:
            raise FileError(f"{frame.path} does not exist", "Was it moved or deleted?")
        return read(frame, rows, cols)

    with dask.config.set(scheduler="synchronous"), monkeypatch.context() as patch:
        patch.setattr(RawFrame, "read", fail_at_the_last)
        with pytest.raises(FileError, match="does not exist"):
            run(experiment)
    begun = wd.open_store(folder / "results.zarr")
    kept = int(begun.complete.sum())
    assert 0 < kept < FRAMES
    report = run(experiment)
    assert (report.store.written, report.store.kept) == (FRAMES - kept, kept)
    expected = wd.open_store(finished[1].store.path)
    assert_equal(wd.open_store(report.store.path), expected)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"sample": "raw/none_*.edf"}, FileError, ["none_*.edf", "pattern"]),
        ({"reference": "raw/none.edf"}, FileError, ["none.edf", "does not exist"]),
        ({"dark": "."}, FileError, ["holds no frames"]),
        ({"sample": {"scan": "1.1"}}, InputError, ["scan='1.1'", "HDF5"]),
        ({"sample": {"motors": "none.csv"}}, FileError, ["none.csv"]),
        ({"sample": {"motors": {"a": [1.0, 2.0]}}}, InputError, ["2", str(FRAMES)]),
        ({"wavefront": {"energy": 17000.0}}, InputError, ["energy is 17000 keV", "1000 keV"]),
        ({"wavefront": {"pixel_size": 0.65}}, InputError, ["pixel_size is 0.65 m", "unit"]),
        ({"wavefront": {"distance": 1e6}}, InputError, ["distance is 1e+06 m", "unit"]),
        (
            {"wavefront": {"wavelength": 1e-10}},
            InputError,
            ["energy is 17 keV", "by the wavelength"],
        ),
    ],
)
def test_input_that_cannot_be_used(
    changes: dict[str, Any], kind: type[Exception], words: list[str], raw: Path
) -> None:
    with forbid_computing(), pytest.raises(kind) as caught:
        stages_of(load(raw, **changes))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("role", ["reference", "dark", "flat"])
def test_frames_of_another_shape(role: str, raw: Path, tmp_path: Path) -> None:
    folder = copied(raw, tmp_path)
    for path in (folder / "raw").glob(f"{role}_*.edf"):
        image = fabio.open(path)
        image.data = image.data[:, :-8].copy()
        image.write(str(path))
    with forbid_computing(), pytest.raises(InputError) as caught:
        stages_of(load(folder))
    message = str(caught.value)
    assert role in message
    assert str((SIDE, SIDE)) in message
    assert str((SIDE, SIDE - 8)) in message


def test_a_mesh_and_a_sidecar_name_the_motors(raw: Path, tmp_path: Path) -> None:
    mesh = {"motor_x": "dx", "motor_y": "dy", "nx": 3, "ny": 1, "step_x": 0.5, "step_y": 1.0}
    prepared = stages_of(load(raw, sample={"mesh": mesh, "units": {"dx": "mm"}}))
    assert prepared.result.dx.values.tolist() == [0.0, 0.5, 1.0]
    assert prepared.result.dx.attrs["units"] == "mm"
    folder = copied(raw, tmp_path)
    (folder / "positions.csv").write_text("dx [mm]\n1\n2\n4\n")
    prepared = stages_of(load(folder, sample={"motors": "positions.csv"}))
    assert prepared.result.dx.values.tolist() == [1.0, 2.0, 4.0]


def test_a_store_that_cannot_be_written(raw: Path, tmp_path: Path) -> None:
    folder = copied(raw, tmp_path)
    (folder / "file").touch()
    with pytest.raises(StoreError, match="file"):
        run(load(folder, output="file/results.zarr"))


def test_samples_in_several_hdf5_files_grow_by_one_more(raw: Path, tmp_path: Path) -> None:
    copied(raw, tmp_path)
    frames = wd.open_scan(tmp_path / "raw" / "sample_*.edf")

    def write(number: int) -> None:
        with h5py.File(tmp_path / f"lens_{number}.h5", "w") as file:
            file["1.1/title"] = f"ct {number}"
            file["1.1/instrument/pco/data"] = frames.image[number : number + 1].values
            file["1.1/instrument/positioners/lens_x"] = float(frames.lens_x[number])
            file["1.1/instrument/positioners/lens_x"].attrs["units"] = "mm"

    write(0)
    sample = {"files": "lens_*.h5", "scan": "1.1", "units": {}}
    run(load(tmp_path, sample=sample))
    for number in (1, 2):
        write(number)
    report = run(load(tmp_path, sample=sample))
    assert (report.store.kept, report.store.written) == (1, 2)
    grown = wd.open_store(tmp_path / "results.zarr")
    np.testing.assert_array_equal(grown.lens_x, frames.lens_x)
    # With one file the title was an attribute: what the store did not have is filled in.
    assert grown.title.values.tolist() == ["ct 0", "ct 1", "ct 2"]
    whole = run(load(tmp_path, sample={"files": "raw/sample_*.edf"}, output="edf.zarr"))
    assert_equal(grown, wd.open_store(whole.store.path))


def test_a_run_knows_what_a_block_needs(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the error of a worker that has less."""

    class ReachedError(Exception):
        pass

    def stop(*_: Any, **__: Any) -> Any:
        raise ReachedError(needs())

    monkeypatch.setattr(pipeline, "write_store", stop)
    experiment = load(copied(raw, tmp_path))
    with pytest.raises(ReachedError) as caught:
        run(experiment)
    size = plan(stages_of(experiment)).bytes_per_task
    assert str(caught.value).endswith(f"and {format_bytes(size)} for the block")
    assert "--plan" in needs()
