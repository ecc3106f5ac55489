"""The demonstration finds what it simulated, resumes, and touches nothing that is not its own."""

from pathlib import Path

import dask
import numpy as np
import pytest
from matplotlib.image import imread
from support.experiments import assert_equal, tree

import wavedask as wd
from wavedask.cli.demo import DemoReport, demo_campaign, run_demo
from wavedask.errors import FileError
from wavedask.experiment.model import load_experiment

SIDE = 256
POSITIONS = 2


pytestmark = pytest.mark.usefixtures("threads")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoReport]:
    folder = tmp_path_factory.mktemp("home") / "demo"
    with dask.config.set(scheduler="threads", num_workers=2):
        return folder, run_demo(folder, side=SIDE, positions=POSITIONS)


def test_it_finds_the_lens(demo: tuple[Path, DemoReport]) -> None:
    report = demo[1]
    assert report.shape == (SIDE, SIDE)
    assert report.points == SIDE**2
    assert report.radius_true == 50e-6
    assert report.radius_found == pytest.approx(report.radius_true, rel=0.01)
    assert report.radius_here == pytest.approx(report.radius_true, rel=0.01)
    assert abs(report.radius_found - report.radius_here) < 4 * report.radius_error
    assert 0 < report.radius_error < 0.0005 * report.radius_true
    assert 0 < report.error_rms < 2e-3 * report.wavefront_range
    assert 0 < report.marked < 0.3
    assert report.run.store.written == POSITIONS


def test_the_error_is_measured_against_the_truth(demo: tuple[Path, DemoReport]) -> None:
    """Once more, by hand, from the files."""
    folder, report = demo
    campaign = demo_campaign(folder, side=SIDE, positions=POSITIONS, seed=0)
    stored = wd.open_store(folder / "results.zarr")
    np.testing.assert_allclose(stored.lens_x, [center[1] * 1e3 for center in campaign.centers])
    squares = []
    for frame in range(POSITIONS):
        measured = stored.wavefront[frame].values
        difference = measured - campaign.truth(frame).wavefront
        squares.append(((difference - np.nanmean(difference)) ** 2).ravel())
    # Of the map of all frames, as many values as there are valid pixels.
    assert report.error_rms == pytest.approx(np.sqrt(np.nanmean(np.concatenate(squares))), rel=1e-3)
    assert report.marked == pytest.approx(float(stored.wavefront.isnull().mean()))


def test_the_files_are_where_it_says(demo: tuple[Path, DemoReport]) -> None:
    folder, report = demo
    assert sorted(entry.name for entry in folder.iterdir()) == [
        *("demo.png", "experiment.yaml", "raw", "results.zarr")
    ]
    assert report.picture == folder / "demo.png"
    assert report.run.store.path == folder / "results.zarr"
    assert len(list((folder / "raw").glob("sample_*.edf"))) == POSITIONS
    experiment = load_experiment(folder / "experiment.yaml")
    assert wd.open_store(folder / "results.zarr").attrs["settings"] == experiment.settings


def test_the_picture_is_one(demo: tuple[Path, DemoReport]) -> None:
    picture = imread(demo[1].picture)[..., :3]
    rows, columns = picture.shape[:2]
    assert rows >= 700
    assert columns >= 1200
    # Six maps: in each sixth there is something to be seen.
    for part in np.array_split(picture, 2):
        for map_ in np.array_split(part, 3, axis=1):
            assert map_.std() > 0.1


def test_a_second_run_computes_nothing_and_finds_the_same(demo: tuple[Path, DemoReport]) -> None:
    folder, first = demo
    before = tree(folder)
    second = run_demo(folder, side=SIDE, positions=POSITIONS)
    assert (second.run.store.written, second.run.store.kept) == (0, POSITIONS)
    for name in ("radius_found", "radius_error", "error_rms", "wavefront_range", "marked"):
        assert getattr(second, name) == getattr(first, name)
    assert second.run.blind_pixels == first.run.blind_pixels
    after = tree(folder)
    assert {name for name in before if before[name] != after[name]} <= {"demo.png"}
    assert set(after) == set(before)


@pytest.mark.parametrize(
    ("numbers", "difference"),
    [
        ({"side": 320}, "shape is [256, 256] there and [320, 320] here"),
        ({"positions": 3}, "centers is "),
        ({"seed": 1}, "seed is 0 there and 1 here"),
    ],
)
def test_other_numbers_are_refused(
    numbers: dict[str, int], difference: str, demo: tuple[Path, DemoReport]
) -> None:
    folder = demo[0]
    before = tree(folder)
    with pytest.raises(FileError) as caught:
        run_demo(
            folder,
            side=numbers.get("side", SIDE),
            positions=numbers.get("positions", POSITIONS),
            seed=numbers.get("seed", 0),
        )
    assert difference in caught.value.problem
    assert "Choose another folder" in caught.value.remedy
    assert tree(folder) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "sample_0000.edf").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(FileError, match="holds no demonstration") as caught:
        run_demo(tmp_path, side=SIDE, positions=POSITIONS)
    assert str(tmp_path) in str(caught.value)
    assert tree(tmp_path) == before


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("mine")
    with pytest.raises(FileError, match="is a file"):
        run_demo(tmp_path / "demo", side=SIDE, positions=POSITIONS)
    assert (tmp_path / "demo").read_text() == "mine"


def test_a_simulation_that_was_stopped_is_begun_anew(
    demo: tuple[Path, DemoReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_halfway(folder: Path, **numbers: object) -> None:
        folder.mkdir(parents=True)
        (folder / "sample_0000.edf").write_bytes(b"half a frame")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("wavedask.cli.demo.write_campaign", stop_halfway)
        with pytest.raises(KeyboardInterrupt):
            run_demo(tmp_path, side=SIDE, positions=POSITIONS)
    assert [entry.name[0] for entry in tmp_path.iterdir()] == ["."]
    report = run_demo(tmp_path, side=SIDE, positions=POSITIONS)
    assert report.run.store.written == POSITIONS
    # The same seed: the same frames, and the same result to the bit.
    expected = wd.open_store(demo[0] / "results.zarr")
    assert_equal(wd.open_store(tmp_path / "results.zarr"), expected)
