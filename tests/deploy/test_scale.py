"""The measurements of `benchmarks/scale.py`, on a few small frames."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.deploy

FOLDER = Path(__file__).parents[2] / "benchmarks"


PROGRAM = """
import json, sys
import scale
found = scale.main(sys.argv[1:])
rows = [[section, row.label, row.value] for section, rows in found.items() for row in rows]
print("rows", json.dumps(rows))
"""


def test_scale_is_measured_from_all_sides(tmp_path: Path) -> None:
    small = ["--size", "128", "--frames", "4", "--repeat", "1", "--counts", "10", "200"]
    small += [
        "--files",
        "10",
        "40",
        "--scheduled",
        "100",
        "--tasks",
        "50",
        "200",
        "--many",
        "20",
        "60",
    ]
    small += ["--large", "512", "--tile", "256", "--pulses", "20", "--nodes", "1", "4"]
    small += ["--only", "cores", "graph", "memory", "large", "train", "model"]
    small += ["--folder", str(tmp_path), "--write", str(tmp_path)]
    # In a process of its own: it starts and ends clusters, as a user's call does.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *small],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(FOLDER), *sys.path])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("rows "))
    rows = json.loads(line.removeprefix("rows "))
    for section in {section for section, _, _ in rows}:
        table = (tmp_path / f"scale_{section}.md").read_text()
        assert table.count("\n|") == 3 + sum(section == one for one, _, _ in rows)
    value = {label: number for _, label, number in rows}
    # One writes a frame. So few frames have one each that counts its pixels and reads its numbers.
    assert value["tasks of the scheduler"] < 3.2
    assert value["sent to the scheduler"] < 2000
    assert value["growth from the first to the largest"] < 10
    assert value["pixels tracked"] > 99
    assert value["rms error over that of the small pairs"] == pytest.approx(1, abs=0.2)
    assert value["largest error of the median displacement"] < 0.005
    assert value["model over measurement, this machine, 1 process"] == pytest.approx(100, abs=5)
