"""Faults of a cluster of four hosts: a run gives the right bits, or says why not and resumes.

The hosts are network namespaces: one has the scheduler and drives the run, three have one worker
each. Dask waits for shorter times than by default, as a site may set them; apart from that, a run
is the command of a user.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import pytest
import xarray as xr
from support.experiments import assert_equal, copied, load, write
from support.hosts import Host, Network, skip_without_namespaces, until

from wavedask.compute import connect
from wavedask.experiment import run as run_here
from wavedask.kernels.warm import warm
from wavedask.simulate import Lens, write_campaign
from wavedask.store import open_store

pytestmark = pytest.mark.deploy

FRAMES: Final = 24
SIDE: Final = 128
TRACK: Final[dict[str, Any]] = {"engine": "opencv", "step": 1, "window": 15, "search": 8}
"""A loop of template matches: there is time for a fault."""
AT_MOST: Final = 120.0
"""Limit of every wait, in seconds; on an idle machine the longest takes a tenth of it."""

SHORT: Final = {
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s",
    # Dask refuses less than 11 s.
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s",
}
"""Settings of the cluster and of the command, as a site may have them."""
SPILL_AT_ONCE: Final = {"DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": "0.000001"}
"""Share of the memory above which a worker moves results to its scratch disk."""
HOG: Final = """
import sys
from distributed import Client

async def hog(dask_worker):
    dask_worker.hog = bytearray(b"1") * 2**30

with Client(sys.argv[1], timeout=30) as client:
    address, = (a for a, w in client.scheduler_info(n_workers=-1)["workers"].items()
                if w["name"] == sys.argv[2])
    client.run(hog, workers=[address], wait=False)
    client.sync(client.scheduler.identity)  # the message is on its way
"""
"""Another user of the cluster, who takes 1 GiB of the memory of a worker and keeps it."""
IMPATIENT: Final = """
from wavedask.compute import outage
outage.ANSWER_SECONDS = 3.0
from wavedask.cli import main
main()
"""
"""The command of a user, except for the time that it waits for an answer of the scheduler."""


class Site:
    """A scheduler, three workers with nannies, and the command that drives a run."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network = network
        self.head, *self.nodes = network.hosts
        self.address = f"tcp://{self.head.address}:8786"
        self._folder = folder
        self._settings: dict[str, str] = {}

    def log(self, host: Host) -> str:
        """Return what the processes of a host have said."""
        file = self._folder / f"{host.address}.log"
        return file.read_text() if file.exists() else ""

    def workers(self) -> set[str]:
        """Addresses of the workers that the scheduler has, from its log."""
        present: set[str] = set()
        for word, address in re.findall(
            r"(Register|Remove) worker addr: (\S+)", self.log(self.head)
        ):
            (present.add if word == "Register" else present.discard)(address)
        return present

    def has(self, node: Host) -> bool:
        """Whether the scheduler has a worker of a host."""
        return any(f"//{node.address}:" in worker for worker in self.workers())

    def start(self, settings: Mapping[str, str] | None = None, memory: str = "0") -> None:
        """Start what is missing; give the worker of the last node settings of its own."""
        if not self.head.processes or self.head.processes[0].poll() is not None:
            self.head.kill()
            command = ["dask", "scheduler", "--host", self.head.address, "--no-dashboard"]
            self._begin(self.head, command, SHORT)
        if settings is not None:
            self.nodes[-1].kill()
            until(lambda: not self.has(self.nodes[-1]), "a killed worker is not removed", AT_MOST)
        for node in self.nodes:
            if node.processes and node.processes[0].poll() is None:
                continue
            node.kill()
            own = node is self.nodes[-1]
            options = ["--host", node.address, "--nthreads", "1", "--no-dashboard"]
            options += ["--local-directory", str(node.scratch), "--name", node.address]
            options += ["--memory-limit", memory if own else "0"]
            environment = {**SHORT, **((settings or {}) if own else {})}
            self._begin(node, ["dask", "worker", self.address, *options], environment)
        until(lambda: len(self.workers()) == 3, "three workers have not joined", AT_MOST)

    def _begin(self, host: Host, command: list[str], environment: Mapping[str, str]) -> None:
        log = self._folder / f"{host.address}.log"
        host.start(sys.executable, "-m", *command, log=log, **environment)


class Run:
    """The command ``wavedask run`` on the host of the scheduler."""

    def __init__(self, site: Site, folder: Path, python: tuple[str, ...]) -> None:
        self.store = folder / "results.zarr"
        command = [*python, "run", str(folder / "experiment.yaml"), "--cluster", site.address]
        self._process = subprocess.Popen(
            site.head.inside(sys.executable, *command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, **SHORT},
        )

    def complete(self) -> int:
        """Count the complete frames."""
        return int(open_store(self.store).complete.sum()) if self.store.exists() else 0

    def check_under_way(self) -> None:
        """Check that the command has not ended yet."""
        if self._process.poll() is not None:
            pytest.fail(f"the run has ended: {self.end()}")

    def wait_for_frames(self) -> None:
        """Wait until some more frames are complete."""
        before = self.complete()

        def some() -> bool:
            self.check_under_way()
            return self.complete() >= before + 2

        until(some, f"no more than {before} frames are complete", AT_MOST)

    def end(self) -> tuple[int, str]:
        """Wait for the command; return its exit code and what it printed."""
        try:
            output, _ = self._process.communicate(timeout=AT_MOST)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the run hangs: {self.kill()}")
        return self._process.returncode, output

    def kill(self) -> str:
        """End the command; return what it printed."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return str(self._process.communicate()[0])


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("campaign")
    centers = [(0.0, 1e-6 * frame) for frame in range(FRAMES)]
    lens = Lens(radius=50e-6, delta=1.2e-6)
    write_campaign(folder / "raw", lens=lens, centers=centers, shape=(SIDE, SIDE))
    return folder


@pytest.fixture(scope="module")
def truth(raw: Path) -> xr.Dataset:
    """The result of threads of this process."""
    with connect("threads"):
        return open_store(run_here(load(raw, track=TRACK)).store.path).load()


@pytest.fixture(scope="module")
def site(truth: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    skip_without_namespaces()
    warm()  # once, here: the workers load the kernels from the disk
    folder = tmp_path_factory.mktemp("site")
    with ExitStack() as stack:
        yield Site(Network(stack, folder, "64k", "8m", "8m", "256k"), folder)


Begin = Callable[..., Run]


@pytest.fixture
def begin(site: Site, raw: Path, tmp_path: Path) -> Iterator[Begin]:
    """Start or continue a run of the campaign, and wait until it has written some frames."""
    write(copied(raw, tmp_path), track=TRACK)
    runs = []

    def begun(*python: str) -> Run:
        run = Run(site, tmp_path, python or ("-W", "error", "-m", "wavedask"))
        runs.append(run)
        run.wait_for_frames()
        return run

    yield begun
    for run in runs:
        run.kill()


def assert_right(run: Run, truth: xr.Dataset) -> None:
    """Check that a run succeeds, and compare its store with the truth, to the bit."""
    code, output = run.end()
    assert code == 0, output
    found = open_store(run.store)
    assert found.complete.all()
    assert_equal(found, truth)


def test_a_worker_that_is_killed(site: Site, begin: Begin, truth: xr.Dataset) -> None:
    site.start()
    run = begin()
    site.nodes[0].kill()
    run.check_under_way()
    assert_right(run, truth)
    assert not site.has(site.nodes[0])


def test_a_host_that_is_cut_off_and_healed(site: Site, begin: Begin, truth: xr.Dataset) -> None:
    site.start()
    run = begin()
    lost, shaken, _ = site.nodes
    site.network.cut(shaken)
    time.sleep(2)
    site.network.heal(shaken)
    site.network.cut(lost)
    run.check_under_way()
    # Other workers compute its frames as soon as the scheduler gives it up.
    assert_right(run, truth)
    assert not site.has(lost)
    assert site.has(shaken)
    site.network.heal(lost)
    worker = lost.processes[0]
    until(
        lambda: site.has(lost) or worker.poll() is not None,
        "the healed worker neither joins nor ends",
        AT_MOST,
    )


def test_a_worker_out_of_memory(site: Site, begin: Begin, truth: xr.Dataset) -> None:
    site.start({}, memory="1GiB")
    run = begin()
    small = site.nodes[-1]
    site.head.run(sys.executable, "-c", HOG, site.address, small.address)
    run.check_under_way()
    assert_right(run, truth)
    assert "exceeded 95% memory budget" in site.log(small)


def test_a_full_scratch_disk(site: Site, begin: Begin, truth: xr.Dataset) -> None:
    site.start(SPILL_AT_ONCE, memory="4GiB")
    full = site.nodes[-1]
    filled = subprocess.run(
        full.inside("dd", "if=/dev/zero", f"of={full.scratch}/filled", "bs=4k"),
        capture_output=True,
        text=True,
    )
    assert "No space left on device" in filled.stderr
    assert_right(begin(), truth)
    assert "Spill to disk failed" in site.log(full)


def test_a_scheduler_that_is_suspended(site: Site, begin: Begin, truth: xr.Dataset) -> None:
    site.start({})
    run = begin("-W", "error", "-c", IMPATIENT)
    site.head.signal(signal.SIGSTOP)
    run.check_under_way()
    code, output = run.end()
    site.head.signal(signal.SIGCONT)
    assert code == 1, output
    told = " ".join(output.split())
    assert f"Dask scheduler at {site.address} has not answered for 3 s while writing" in told
    assert "resume or restart it, then run the same command again" in told
    assert 2 <= run.complete() < FRAMES
    # The workers have kept their connections; this time it comes back soon enough.
    run = begin()
    site.head.signal(signal.SIGSTOP)
    time.sleep(5)
    site.head.signal(signal.SIGCONT)
    run.check_under_way()
    assert_right(run, truth)
