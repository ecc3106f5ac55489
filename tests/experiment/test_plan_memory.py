"""The memory that a plan states is the memory that a run needs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wavedask.experiment.model import load_experiment
from wavedask.experiment.pipeline import plan
from wavedask.experiment.stages import stages_of
from wavedask.simulate import Lens, write_campaign

SIDE = 512
AT_MOST = 180.0

EXPERIMENT = """
sample: raw/{sample}_*.edf
reference: raw/{reference}_*.edf
dark: raw/dark_*.edf
flat: raw/flat_*.edf
track: {track}
wavefront: {{distance: 1.0, pixel_size: 0.65e-6, energy: 17.0}}
output: results.zarr
"""


MEASURE = """
import os, subprocess, sys
process = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
assert process.returncode == 0
print(used.ru_maxrss)
"""
"""A process begins with the peak of the one that starts it, and that of the tests is large."""


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("campaign")
    write_campaign(folder / "raw", lens=Lens(50e-6, 1.2e-6), shape=(SIDE, SIDE))
    for role in ("sample", "reference"):
        first = min((folder / "raw").glob(f"{role}_*"))
        for number in range(12):
            shutil.copy(first, folder / f"raw/stack{role}_{number:04d}.edf")
    return folder


def peak_of_a_run(file: Path) -> int:
    """Bytes of a process that runs an experiment, at its peak."""
    command = ["-m", "wavedask", "run", "--address", "threads", "--workers", "1", str(file)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command],
        capture_output=True,
        text=True,
        timeout=AT_MOST,
        check=True,
    )
    return int(done.stdout) * 1024


@pytest.mark.parametrize(
    ("prefix", "track"),
    [("", "{window: 21, search: 16}"), ("stack", "{window: 21, search: 16, over: frame}")],
)
def test_the_peak_is_within_a_fifth_of_the_plan(prefix: str, track: str, raw: Path) -> None:
    file = raw / "experiment.yaml"
    shutil.rmtree(raw / "results.zarr", ignore_errors=True)
    roles = {"sample": f"{prefix}sample", "reference": f"{prefix}reference"}
    file.write_text(EXPERIMENT.format(**roles, track=track))
    stated = plan(stages_of(load_experiment(file)))
    expected = stated.bytes_libraries + stated.bytes_per_task
    peak_of_a_run(file)  # compiles the kernels, if nobody has: the plan does not count that
    shutil.rmtree(raw / "results.zarr")
    assert peak_of_a_run(file) == pytest.approx(expected, rel=0.2)
