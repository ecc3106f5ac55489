"""The measurements of `benchmarks/scale.py`, on a few small frames."""

import importlib
from pathlib import Path

import pytest

pytestmark = pytest.mark.deploy

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_scale_is_measured_from_all_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    small = ["--size", "128", "--frames", "4", "--repeat", "1", "--counts", "10", "200"]
    small += ["--scheduled", "100", "--large", "512", "--tile", "256", "--pulses", "20"]
    small += ["--nodes", "1", "4", "--folder", str(tmp_path), "--write", str(tmp_path)]
    found = importlib.import_module("scale").main(small)
    for section, rows in found.items():
        table = (tmp_path / f"scale_{section}.md").read_text()
        assert table.count("\n|") == 2 + len(rows)
    value = {row.label: row.value for rows in found.values() for row in rows}
    assert value["tasks of the scheduler"] < 1.2
    assert value["sent to the scheduler"] < 2000
    assert value["growth"] < 10
    assert value["pixels tracked"] > 99
    assert value["rms error over that of the small pair"] == pytest.approx(1, abs=0.2)
    assert value["largest error of the median displacement"] < 0.005
    assert value["model over measurement, this machine, 1 process"] == pytest.approx(100, abs=5)
