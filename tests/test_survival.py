"""Killed at any moment, a store opens, does not lie, and is finished to the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from survivor import BLOCK_SECONDS, frame

from wavedask.errors import StoreError
from wavedask.store import open_store

FRAMES = 60
MOMENTS = 20
SLOWLY = 0.2
"""Seconds of a frame that leave time to see how far a run is, on a busy machine, too."""


class Runs:
    """Runs in processes of their own, one at a time."""

    def __init__(self, stack: ExitStack) -> None:
        script = str(Path(__file__).with_name("survivor.py"))
        self._server = stack.enter_context(
            subprocess.Popen(
                [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
        stack.callback(self._server.kill)

    def _ask(self, line: str) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(line + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def begin(
        self,
        path: Path,
        *,
        frames: int = FRAMES,
        where: str = "threads",
        seconds: float = BLOCK_SECONDS,
    ) -> int:
        """Begin a run; the number of its process."""
        asked = {"path": str(path), "frames": frames, "where": where, "seconds": seconds}
        return self._ask(json.dumps(asked))

    def end(self) -> int:
        """Wait for the run; its exit code, or the signal that ended it, negative."""
        return self._ask("wait")


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    with ExitStack() as stack:
        yield Runs(stack)


def complete_frames(path: Path, *, frames: int = FRAMES) -> int:
    """Check a store that may have been killed; how many of its frames are complete."""
    if not path.exists():
        # Killed before there was one: nothing is taken for a store that is none.
        with pytest.raises(StoreError, match="there is no store"):
            open_store(path)
        return 0
    stored = open_store(path)
    assert stored.sizes["frame"] <= frames
    complete = np.flatnonzero(stored.complete.values)
    expected = np.array([frame(int(number)) for number in complete]).reshape(-1, 48, 48)
    for name, factor in (("slope_y", 1), ("slope_x", 2)):
        np.testing.assert_array_equal(stored[name].values[complete], factor * expected)
    np.testing.assert_array_equal(stored.lens_x, np.arange(stored.sizes["frame"]) / 8)
    # Any other reader of Zarr opens it as well.
    xr.open_zarr(path).close()
    return complete.size


def test_killed_at_random_moments_and_finished(runs: Runs, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # shown if it fails
    moments = random.Random(seed)
    duration = 0.35 + FRAMES * BLOCK_SECONDS / 2
    path = tmp_path / "0.zarr"
    seen = set()
    for number in range(MOMENTS):
        # Now and then the run that is killed is one that appends.
        frames = FRAMES // 2 if number % 3 == 0 else FRAMES
        before = complete_frames(path)
        frames = max(frames, before)
        child = runs.begin(path, frames=frames)
        time.sleep(moments.uniform(0, duration))
        os.kill(child, signal.SIGKILL)
        ended = runs.end()
        assert ended in (-signal.SIGKILL, 0)
        after = complete_frames(path)
        assert after >= before
        seen.add(0 < after < FRAMES)
        if after == FRAMES:
            path = tmp_path / f"{number + 1}.zarr"
    runs.begin(path)
    assert runs.end() == 0
    assert complete_frames(path) == FRAMES
    assert True in seen
    left = {file.name for file in tmp_path.iterdir() if not file.name.endswith(".zarr")}
    assert all(name.endswith((".draft", ".lock")) for name in left), left


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, list["subprocess.Popen[bytes]"]]]:
    """A scheduler and two workers without anyone who restarts them."""
    address = folder / "scheduler.json"
    with ExitStack() as stack:

        def start(*words: str) -> "subprocess.Popen[bytes]":
            process = subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_" + words[0], *words[1:]],
                stderr=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=folder,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        place = f"--scheduler-file={address}"
        host = ("--host", "127.0.0.1", "--no-dashboard")
        processes = [start("scheduler", place, *host, "--port", "0")]
        processes += [
            start("worker", place, *host, "--no-nanny", "--nthreads", "1") for _ in range(2)
        ]
        deadline = time.monotonic() + 30
        while not address.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield json.loads(address.read_text())["address"], processes


def kill_when_under_way(runs: Runs, path: Path, pid: int | None, child: int, more: int) -> int:
    """Kill a process (by default the run) when so many more frames are complete; the exit code."""
    wanted = complete_frames(path) + more
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and int(open_store(path).complete.sum()) >= wanted:
            break
        time.sleep(0.02)
    os.kill(child if pid is None else pid, signal.SIGKILL)
    return runs.end()


def test_driver_worker_and_scheduler_killed_on_a_cluster(runs: Runs, tmp_path: Path) -> None:
    first, second = tmp_path / "first.zarr", tmp_path / "second.zarr"
    with cluster(tmp_path) as (address, processes):
        child = runs.begin(first, where=address, seconds=SLOWLY)
        assert kill_when_under_way(runs, first, None, child, 8) == -signal.SIGKILL
        assert 8 <= complete_frames(first) < FRAMES
        # Continued on the same cluster, with one worker less after a while: the other one goes on.
        child = runs.begin(first, where=address, seconds=SLOWLY)
        assert kill_when_under_way(runs, first, processes[1].pid, child, 4) == 0
        assert complete_frames(first) == FRAMES
        child = runs.begin(second, where=address, seconds=SLOWLY)
        assert kill_when_under_way(runs, second, processes[0].pid, child, 8) == 2
    assert "run the same again" in (tmp_path / "second.zarr.error").read_text()
    assert 8 <= complete_frames(second) < FRAMES
    runs.begin(second)
    assert runs.end() == 0
    assert complete_frames(second) == FRAMES
