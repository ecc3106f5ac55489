"""Shared by the tests of survival: processes to kill, moments to kill them, checks afterwards."""

import json
import os
import random
import re
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from support.survivor import SIDE, frame

from wavedask.errors import StoreError
from wavedask.store.integrity import lost_frames
from wavedask.store.results import open_store

FRAMES = 40
BLOCK_SECONDS = 0.02
SEED = "WAVEDASK_TEST_SEED"
"""Environment variable with the seed of a failed test, to repeat its moments."""
AT_MOST = 60.0
"""Time limit of every wait on a busy machine, in seconds."""


class Processes:
    """Forks of one process that has imported everything, so that they start in milliseconds."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        script = str(Path(__file__).with_name("survivor.py"))
        self.folder = folder
        self._error = folder / "error.txt"
        self._server = stack.enter_context(
            subprocess.Popen(
                [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
        # Its children end with it.
        stack.callback(self._server.kill)
        # To be ready, it may have to compile what is cached afterwards.
        self._answer("start", 4 * AT_MOST)

    def _ask(self, **what: Any) -> int:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(what) + "\n")
        self._server.stdin.flush()
        return self._answer(what, AT_MOST)

    def _answer(self, what: Any, seconds: float) -> int:
        assert self._server.stdout is not None
        if not select.select([self._server.stdout], [], [], seconds)[0]:
            pytest.fail(f"no answer within {seconds} s to {what}")
        return int(self._server.stdout.readline())

    def begin(self, role: str, **arguments: Any) -> int:
        """Start a process; return its id."""
        return self._ask(role=role, log=str(self.folder / f"{role}.log"), arguments=arguments)

    def run(
        self,
        path: Path,
        *,
        frames: int = FRAMES,
        where: str = "threads",
        seconds: float = BLOCK_SECONDS,
        patience: float = 300,
        **of_result: Any,
    ) -> int:
        """Start a run; return the id of its process."""
        self._error.unlink(missing_ok=True)
        given = {"where": where, "patience": patience, "frames": frames, "seconds": seconds}
        given |= of_result
        return self.begin("run", path=str(path), error_file=str(self._error), **given)

    def said(self) -> str:
        """Message of the error that ended the last run."""
        return self._error.read_text() if self._error.exists() else ""

    def end(self, number: int) -> int:
        """Wait for a process; return its exit code, or minus the signal that ended it."""
        return self._ask(wait=number)

    def kill(self, number: int) -> int:
        """Kill a process; return how it ended."""
        os.kill(number, signal.SIGKILL)
        return self.end(number)


class Cluster:
    """``dask scheduler`` and two ``dask worker`` on free ports of the loopback interface."""

    def __init__(self, processes: Processes, *, nanny: bool = False) -> None:
        self._processes = processes
        self._folder = processes.folder
        self._nanny = "--nanny" if nanny else "--no-nanny"
        self.scheduler = 0
        self.address = ""
        self.workers: list[int] = []

    def start(self) -> None:
        """Start the parts that are missing, and wait until they are ready."""
        if not self.scheduler:
            # A name of its own: a file that is there already has the address of a dead one.
            file = self._folder / f"scheduler-{uuid.uuid4().hex}.json"
            options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
            self.scheduler = self._processes.begin(
                "scheduler", arguments=[*options, "--scheduler-file", str(file)]
            )
            self.address = self._appears(file, r'"address": "(.*?)"', 1)[0]
        log = self._folder / "worker.log"
        before = len(re.findall("Registered to", log.read_text())) if log.exists() else 0
        missing = 2 - len(self.workers)
        for _ in range(missing):
            options = ["--host", "127.0.0.1", "--no-dashboard", "--nthreads", "1", self._nanny]
            options += ["--local-directory", str(self._folder), "--memory-limit", "0"]
            self.workers.append(self._processes.begin("worker", arguments=[*options, self.address]))
        self._appears(log, "(Registered to)", before + missing)

    @staticmethod
    def _appears(file: Path, pattern: str, times: int) -> list[str]:
        """Wait until a file contains a text a number of times."""
        deadline = time.monotonic() + AT_MOST
        while time.monotonic() < deadline:
            found = re.findall(pattern, file.read_text()) if file.exists() else []
            if len(found) >= times:
                return found
            time.sleep(0.01)
        pytest.fail(f"{file} does not hold {pattern!r} {times} times")

    def kill_worker(self, which: int) -> None:
        """Kill a worker; with a nanny, kill the worker process, which the nanny replaces."""
        number = self.workers[which]
        if self._nanny == "--nanny":
            for child in worked_by(number):
                os.kill(child, signal.SIGKILL)
        else:
            self._processes.kill(self.workers.pop(which))

    def kill(self) -> None:
        """Kill the scheduler and its workers, which would otherwise search for it."""
        if self.scheduler:
            self._processes.kill(self.scheduler)
        for number in self.workers:
            self._processes.kill(number)
        self.scheduler, self.workers = 0, []


def worked_by(nanny: int) -> list[int]:
    """Worker processes of the nannies."""
    children = Path(f"/proc/{nanny}/task/{nanny}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


@contextmanager
def processes_in(folder: Path) -> Iterator[Processes]:
    """Processes that are stopped at the end."""
    with ExitStack() as stack:
        yield Processes(stack, folder)


def chance() -> random.Random:
    """Random numbers with a seed that is shown if the test fails."""
    seed = int(os.environ.get(SEED) or random.SystemRandom().randrange(2**32))
    print(f"to repeat the moments: {SEED}={seed}")
    return random.Random(seed)


def wait(run: int, moment: float) -> None:
    """Wait, but not after a run has ended."""
    deadline = time.monotonic() + moment
    # The third field, behind the name in brackets.
    while Path(f"/proc/{run}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        left = deadline - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(left, 0.02))


def spread(moments: random.Random, count: int, duration: float) -> list[float]:
    """Random moments of a run, one in each of equal parts of it, in random order."""
    found = [duration * (number + moments.random()) / count for number in range(count)]
    moments.shuffle(found)
    return found


def complete_frames(path: Path) -> int:
    """Check a store after a kill; return the number of complete frames."""
    if not path.exists():
        # Killed before there was one: nothing is taken for a store that is none.
        with pytest.raises(StoreError, match="there is no store"):
            open_store(path)
        return 0
    stored = open_store(path)
    assert stored.sizes["frame"] <= FRAMES
    complete = np.flatnonzero(stored.complete.values)
    expected = np.array([frame(int(number)) for number in complete]).reshape(-1, SIDE, SIDE)
    for name, factor in (("slope_y", 1), ("slope_x", 2)):
        np.testing.assert_array_equal(stored[name].values[complete], factor * expected)
    # A sum of blocks is rounded otherwise.
    np.testing.assert_allclose(stored["sum"].values[complete], expected.sum((1, 2), dtype="f8"))
    np.testing.assert_array_equal(stored["corner"].values[complete], expected[:, 0, :3])
    np.testing.assert_array_equal(stored.lens_x, np.arange(stored.sizes["frame"]) / 8)
    # Any other reader of Zarr opens it as well.
    xr.open_zarr(path).close()
    return complete.size


def assert_finished(path: Path, undisturbed: Path) -> None:
    """Check that a store is complete, with the same pixel files as another, bit for bit."""
    assert complete_frames(path) == FRAMES
    assert lost_frames(path) == {}
    for name in ("slope_y", "slope_x"):
        there, here = (
            {str(f.relative_to(store)): f.read_bytes() for f in (store / name / "c").glob("*/*/*")}
            for store in (undisturbed, path)
        )
        assert len(here) == FRAMES
        assert here == there


def assert_nothing_left(folder: Path) -> None:
    """Check that a killed run left only hidden files, and no lock."""
    left = {file.name for file in folder.iterdir() if file.name.startswith(".")}
    assert all(name.endswith((".draft", ".lock")) for name in left), left
