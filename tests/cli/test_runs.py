"""What a run will take and what it gave, in words."""

from pathlib import Path

from support.experiments import FRAMES, SIDE, load
from support.laziness import forbid_computing

from wavedask.cli.runs import describe_plan
from wavedask.experiment.stages import stages_of


def test_a_plan_in_words(raw: Path) -> None:
    with forbid_computing():
        rows = dict(describe_plan(stages_of(load(raw))))
    assert rows["frames"] == f"{FRAMES} of {SIDE} x {SIDE} px"
    assert rows["input"].endswith(" KiB in 14 files")
    assert rows["blocks"] == f"{FRAMES} of 1 x {SIDE} x {SIDE}"
    per_pixel = 17 * 4 + 1  # maps of float32, and the reasons
    assert rows["output"] == f"{per_pixel * FRAMES * SIDE**2 / 2**20:.1f} MiB before compression"
    assert rows["memory"].startswith("about 84.7 MiB per block")
    assert "wavefront" in rows["variables"]
