"""The benchmarks run, small, and show what they are for."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark_main(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Callable[..., Any]]:
    """Get the ``main`` of a benchmark by name, with its folder importable as when it is run."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def main(name: str) -> Callable[..., Any]:
        specification = importlib.util.spec_from_file_location(
            f"benchmark_{name}", FOLDER / f"{name}.py"
        )
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        found: Callable[..., Any] = module.main
        return found

    return main


def test_integration_shows_the_accuracy(
    benchmark_main: Callable[[str], Callable[..., Any]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    figures = tmp_path / "figures.md"
    rows = benchmark_main("integrate")(["--size", "200", "--repeat", "1", "--write", str(figures)])
    errors = {row.label: row.rms_error for row in rows}
    assert "rms error" in capsys.readouterr().out
    assert figures.read_text().count("\n|") == 2 + len(rows)
    # The target at 2048 x 2048 and an amplitude of 30, here on 100 times fewer pixels.
    assert errors["least_squares"] < 2.6e-5
    assert errors["least_squares, circular pupil"] < 4e-5
    assert errors["grad2surf"] < 1e-4
    assert errors["frankot_chellappa"] > 1.0


def test_workers_show_points_per_second(
    benchmark_main: Callable[[str], Callable[..., Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = benchmark_main("workers")(
        ["--size", "128", "--frames", "2", "--repeat", "1", "--workers", "2"]
    )
    assert [row.workers for row in rows] == [1, 1, 2] * 2
    assert all(row.points_per_second > 0 for row in rows)
    assert [row.engine for row in rows if row.efficiency == 1] == ["dense", "opencv"]
    assert "points / s" in capsys.readouterr().out


def test_accuracy_stands_beside_the_photon_limit(
    benchmark_main: Callable[[str], Callable[..., Any]], tmp_path: Path
) -> None:
    figures = tmp_path / "accuracy.md"
    rows = benchmark_main("accuracy")(["--size", "160", "--patterns", "1", "--write", str(figures)])
    assert figures.read_text().count("\n|") == 2 + len(rows)
    for row in rows:
        # Without noise there is no bound, and the report's tracker takes no stacks: NaN.
        assert row.marked == 0, row.label
        assert not row.rms > 1.3 * row.bound, row.label
        assert not row.rms > row.opencv_rms, row.label
    found = {row.label: row for row in rows}
    # Grains are Gaussian: the mean square gradient is contrast^2 / (2 sigma^2).
    gradient = 0.25**2 * 8 * np.log(2) / (2 * 4.0**2)
    for label, counts in (("rigid (0.37, -1.62) px", 8000), ("rigid, 500 counts", 500)):
        limit = np.sqrt(2 / counts / (15**2 * gradient))
        assert found[label].bound == pytest.approx(limit, rel=0.1)
    assert found["rigid, without noise"].rms < 0.002
    assert found["rigid, 0 to 0.9 px, without noise"].bias < 0.001


def test_fine_waves_pass_the_dense_tracker(
    benchmark_main: Callable[[str], Callable[..., Any]], tmp_path: Path
) -> None:
    figures = tmp_path / "resolution.md"
    rows = benchmark_main("resolution")(["--size", "208", "--write", str(figures)])
    assert figures.read_text().count("\n|") == 2 + len(rows)
    dense, opencv = ({row.period: getattr(row, e)[1] for row in rows} for e in ("dense", "opencv"))
    assert dense[2.2] > 0.9
    assert dense[1.0] < 0.1
    assert all(dense[period] > opencv[period] for period in (2.0, 2.2, 2.5, 3.0, 4.0))


def test_tracking_on_one_core_is_measured_from_all_sides(
    benchmark_main: Callable[[str], Callable[..., Any]], tmp_path: Path
) -> None:
    figures = tmp_path / "speed.md"
    # All but the start, which compiles everything for twenty seconds.
    parts = ["trackers", "scaling", "task", "roofline"]
    rows = benchmark_main("track")(
        ["--size", "256", "--calls", "1", "--parts", *parts, "--write", str(figures)]
    )
    assert figures.read_text().count("\n|") == 2 + len(rows)
    by_label = {row.label: row for row in rows}
    # A hundred times, where the frame is large and the machine quiet.
    assert by_label["opencv, 256 x 256 px of it"].ratio > 5
    assert by_label["dense, window 21"].ratio == 1
    assert len([label for label in by_label if label.startswith("time per pixel, window")]) == 5
    memory = by_label["peak memory beyond input and output"].value
    assert 0 < float(memory.split()[0]) < 1000
    bounds = [row.ratio for row in rows if row.label.startswith("its ")]
    assert len(bounds) == 2
    assert all(0 < bound < 1 for bound in bounds)


def test_frames_of_the_beamline_follow_its_rays(
    benchmark_main: Callable[[str], Callable[..., Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {row.label: row for row in benchmark_main("beamline")(["--size", "128"])}
    assert "rms error" in capsys.readouterr().out
    assert all(row.rms_error < 0.08 for row in rows.values())
    assert rows["membrane moved"].rms_error < 0.005
    assert rows["source moved"].reach == pytest.approx(90e-6 * 0.8 / 40 / 0.65e-6, rel=1e-3)


def test_scanning_shows_a_calibrated_error(
    benchmark_main: Callable[[str], Callable[..., Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (row,) = benchmark_main("scanning")(["--size", "64", "--cases", "1"])
    assert "rms / step" in capsys.readouterr().out
    assert row.error < 0.02
    assert 0.8 < row.quotient < 1.25


def test_two_detectors_measure_a_beam_and_a_lens(
    benchmark_main: Callable[[str], Callable[..., Any]], tmp_path: Path
) -> None:
    figures, table = tmp_path / "absolute.md", tmp_path / "budget.md"
    rows = benchmark_main("absolute")(
        ["--size", "160", "--write", str(figures), "--write-budget", str(table)]
    )
    assert figures.read_text().count("\n|") == 2 + len(rows)
    assert "pixel size, near detector" in table.read_text()
    one, nine, wrong, bent, calibrated, single, lens = rows
    assert abs(one.beam_error) < 0.02
    assert abs(bent.beam_error) > 0.2
    assert abs(calibrated.beam_error) < 3 * calibrated.stated < 0.15
    assert abs(nine.beam_error) < 0.015
    # The pixel size that is wrong by 1e-4, enlarged by radius over gap.
    assert wrong.beam_error - nine.beam_error == pytest.approx(0.008, abs=5e-4)
    assert abs(lens.lens_error) < 0.01
    assert lens.figure_error < single.figure_error


def test_calibrations_show_both_methods(
    benchmark_main: Callable[[str], Callable[..., Any]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    figures = tmp_path / "figures.md"
    rows = benchmark_main("distortion")(
        ["--size", "256", "--positions", "3", "--write", str(figures)]
    )
    assert "stated" in capsys.readouterr().out
    assert figures.read_text().count("\n|") == 2 + len(rows)
    every_frame, mean_derivatives, stage_unread = rows
    assert every_frame.error < 0.005
    assert mean_derivatives.error > 3 * every_frame.error
    assert abs(every_frame.pixel_size) < 1e-4
    assert stage_unread.error < 0.005
    assert stage_unread.pixel_size_stated > 1e-3


def test_the_store_is_measured_from_all_sides(
    benchmark_main: Callable[[str], Callable[..., Any]], tmp_path: Path
) -> None:
    figures = tmp_path / "store.md"
    small = ["--size", "128", "--frames", "3", "--run", "20", "--repeat", "1", "--stored", "50"]
    rows = benchmark_main("store")([*small, "--write", str(figures)])
    assert figures.read_text().count("\n|") == 2 + len(rows)
    found = {row.label: row for row in rows}
    assert found["whole frames, lz4 (the store)"].size < found["whole frames, no compression"].size
    assert found["tiles of a quarter side, lz4"].files > 16
    short, long = (found[f"peak memory of {n} frames / MiB"].value for n in (20, 200))
    assert long < 1.1 * short


def test_reading_stands_beside_the_plain_readers(
    benchmark_main: Callable[[str], Callable[..., Any]], tmp_path: Path
) -> None:
    figures = tmp_path / "reading.md"
    small = ["--files", "20", "--size", "128", "--frames", "8", "--repeat", "1"]
    rows = benchmark_main("reading")([*small, "--folder", str(tmp_path), "--write", str(figures)])
    assert figures.read_text().count("\n|") == 2 + len(rows)
    assert len(rows) == 1 + 2 * 5 + 5 + 4
    plain = [row for row in rows if row.ratio == 1]
    assert [row.label.rpartition(", ")[2] for row in plain] == ["numpy.fromfile"] * 2 + ["h5py"] * 2
    assert all(row.seconds > 0 for row in rows)
    assert list(tmp_path.iterdir()) == [figures]


def test_trust_compares_errors_with_what_is_stated(
    benchmark_main: Callable[[str], Callable[..., Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("WAVEDASK_TEST_DATA", raising=False)
    figures = tmp_path / "trust.md"
    wanted = ["white", "blur 3", "edge", "outline, jump 3"]
    rows = benchmark_main("trust")(
        ["--size", "160", "--patterns", "2", "--only", *wanted, "--write", str(figures)]
    )
    assert figures.read_text().count("\n|") == 2 + len(rows)
    found = {row.label: row for row in rows}
    assert found["white noise, rigid shift"].ratio == pytest.approx(1, abs=0.25)
    divided = found["absorbing edge, divided by the true T"]
    assert divided.ratio == pytest.approx(1, abs=0.3)
    assert divided.marked == 0
    # Two ways to make a scene that share no code agree about what the tracker does on it.
    for drawn, by_rays in (
        ("scintillator blur 3.0 px", "blur 3.0 px, by rays"),
        ("absorbing edge", "absorbing edge, by rays"),
    ):
        assert found[drawn].ratio == pytest.approx(found[by_rays].ratio, rel=0.35)
        assert found[drawn].rms == pytest.approx(found[by_rays].rms, rel=0.5)


def test_safety_is_measured_with_and_without(
    benchmark_main: Callable[[str], Callable[..., Any]], tmp_path: Path
) -> None:
    figures = tmp_path / "durability.md"
    small = ["--size", "128", "--frames", "2", "--small", "200", "--repeat", "1"]
    rows = benchmark_main("durability")(
        [*small, "--folder", str(tmp_path), "--write", str(figures)]
    )
    assert [row.unit for row in rows] == ["s", "MiB/s", "s", "s", "ms", "s"]
    assert all(row.given > 0 for row in rows)
    assert figures.read_text().count("\n|") == 2 + len(rows)


def test_trust_goes_on_behind_the_tracker(
    benchmark_main: Callable[[str], Callable[..., Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WAVEDASK_TEST_DATA", raising=False)
    few = ["--size", "160", "--patterns", "1", "--first-seed", "3000"]
    rows = benchmark_main("trust")([*few, "--only", "downstream"])
    found = {row.label: row.ratio for row in rows}
    assert all(np.isfinite(ratio) for ratio in found.values())
    assert 0.5 < found["wavefront, white noise"] < 1.7
    assert 0.6 < found["Zernike modes of the slopes, white noise"] < 1.5
    assert 0.7 < found["mean of 12 exposures, common reference"] < 1.35
    assert found["dark field (true 1), 50 counts, contrast 0.25"] == pytest.approx(1, abs=0.03)


def test_the_model_of_a_cluster_knows_its_limits(
    benchmark_main: Callable[[str], Callable[..., Any]],
) -> None:
    pytest.importorskip("simpy")
    benchmark_main("scale")  # its folder is importable now
    from scale_model import Cluster, Costs, simulate

    costs = Costs(compute=0.3, client=1e-4, scheduler=1e-3, moved=0.0)
    # Workers alone: each computes one frame after the other.
    assert simulate(costs, Cluster(cores=2), 200).rate == pytest.approx(2 / 0.3, rel=0.01)
    # A scheduler with a millisecond for a task hands out a thousand tasks per second.
    many = Cluster(nodes=20)
    found = simulate(costs, many, 4000)
    assert found.limit == "scheduler"
    assert found.rate == pytest.approx(1000, rel=0.1)
    larger = simulate(costs, replace(many, frames_per_task=4), 16_000)
    assert larger.limit == "workers"
    assert larger.rate > 1.7 * found.rate
    shared = simulate(replace(costs, moved=1e9), many, 400)
    assert shared.limit == "file system"
    assert shared.rate == pytest.approx(many.shared / 1e9, rel=0.05)


def test_a_frame_more_costs_the_client_below_2_kb(
    benchmark_main: Callable[[str], Callable[..., Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    pytest.importorskip("simpy")
    benchmark_main("scale")  # its folder is importable now
    import scale_graph

    # Smaller frames have the same graph, and are calibrated sooner.
    monkeypatch.setattr(scale_graph, "SIDE", scale_graph.SMALL_SIDE)
    # The first run loads code, too: it does not count.
    counts = (10, 10, 2000, 20_000)
    bytes_of = []
    for number, count in enumerate(counts):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = scale_graph.experiment_without_pixels(folder, count)
        bytes_of.append(scale_graph.traced_memory(path))
    slopes = np.diff(bytes_of[1:]) / np.diff(counts[1:])
    # Each frame has at least its flag and its digest.
    assert np.all((slopes > 5) & (slopes < 2000)), slopes


def test_a_bar_of_scale_is_met_or_missed(
    benchmark_main: Callable[[str], Callable[..., Any]],
) -> None:
    pytest.importorskip("simpy")
    benchmark_main("scale")  # its folder is importable now
    from scale_rows import Row

    assert Row("time", 0.4, "ms", below=1).verdict == "pass"
    assert Row("time", 1.0, "ms", below=1).verdict == "missed"
    assert Row("scaling", 91.9, "%", at_least=92).verdict == "missed"
    assert Row("scaling", 92, "%", at_least=92).wanted == "at least 92 %"
    assert Row("time", float("nan"), "ms", below=1).verdict == "missed"
    assert not Row("ratio", 2, ideal="1").verdict
