"""The benchmarks run, small, and show what they are for."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def test_tracking_shows_points_per_second(
    benchmark_main: Callable[[str], Callable[..., Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = benchmark_main("track")(
        ["--size", "128", "--frames", "2", "--step", "8", "--repeat", "1", "--workers", "2"]
    )
    assert [row.workers for row in rows] == [1, 2]
    assert all(row.points_per_second > 0 for row in rows)
    assert rows[0].efficiency == 1
    assert "points / s" in capsys.readouterr().out
