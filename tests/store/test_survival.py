"""Killed at any moment, a store opens, does not lie, and is finished to the same bits."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.survival import (
    FRAMES,
    Processes,
    assert_finished,
    assert_nothing_left,
    chance,
    complete_frames,
    processes_in,
    spread,
    wait,
)

MOMENTS = 20


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with processes_in(tmp_path_factory.mktemp("logs")) as found:
        yield found


def test_killed_at_random_moments_and_finished(processes: Processes, tmp_path: Path) -> None:
    moments = chance()
    undisturbed = tmp_path / "undisturbed.zarr"
    begin = time.monotonic()
    assert processes.end(processes.run(undisturbed)) == 0
    duration = time.monotonic() - begin
    path = tmp_path / "0.zarr"
    before = 0
    for number, moment in enumerate(spread(moments, MOMENTS, 1.1 * duration)):
        # A run may be killed while it creates the store, or lengthens it, or does neither.
        frames = max(before, moments.choice((FRAMES // 2, FRAMES)))
        run = processes.run(path, frames=frames)
        wait(run, moment)
        os.kill(run, signal.SIGKILL)
        assert processes.end(run) in (-signal.SIGKILL, 0)
        after = complete_frames(path)
        assert after >= before
        before = after
        if moments.random() < 0.2 or after == FRAMES:
            assert processes.end(processes.run(path)) == 0
            assert_finished(path, undisturbed)
            path, before = tmp_path / f"{number + 1}.zarr", 0
    assert processes.end(processes.run(path)) == 0
    assert_finished(path, undisturbed)
    assert_nothing_left(tmp_path)
