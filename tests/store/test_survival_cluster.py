"""Driver, workers or scheduler of a cluster killed at any moment: no wrong frame, no lost run."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from support.survival import (
    AT_MOST,
    FRAMES,
    Cluster,
    Processes,
    assert_finished,
    assert_nothing_left,
    chance,
    complete_frames,
    processes_in,
    spread,
    wait,
)
from support.survivor import TOLD

import wavedask as wd
from wavedask.compute import check_paths
from wavedask.errors import ClusterError
from wavedask.store.results import open_store


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with processes_in(tmp_path_factory.mktemp("logs")) as found:
        yield found


class Trial:
    """Runs on one cluster: one that is undisturbed, and then others that are not."""

    def __init__(self, processes: Processes, folder: Path, *, nanny: bool = False) -> None:
        self.processes = processes
        self.cluster = Cluster(processes, nanny=nanny)
        self.chance = chance()
        self._folder = folder
        self._stores = 0
        self._undisturbed = folder / "undisturbed.zarr"
        self.path = self._undisturbed
        self._before = 0
        self.cluster.start()
        begin = time.monotonic()
        self.finish(self.cluster.address)
        self._duration = time.monotonic() - begin

    def finish(self, where: str) -> None:
        """Run to the end what was killed, compare it, and go on to another store."""
        ended = self.processes.end(self.processes.run(self.path, where=where))
        assert ended == 0, self.processes.said()
        assert_finished(self.path, self._undisturbed)
        self._before = 0
        self._stores += 1
        self.path = self._folder / f"{self._stores}.zarr"

    def moments(self, count: int) -> list[float]:
        """Moments to kill at, from the first thing that a run does to a little after its end."""
        return spread(self.chance, count, 1.1 * self._duration)

    def disturb(self, kill: Callable[[int], None], *, patience: float = AT_MOST) -> int:
        """Begin or continue a run, kill something, and check the store; how the run ended."""
        self.cluster.start()
        # A run may be killed while it creates the store, or lengthens it, or does neither.
        frames = max(self._before, self.chance.choice((FRAMES // 2, FRAMES)))
        address = self.cluster.address
        run = self.processes.run(self.path, where=address, frames=frames, patience=patience)
        kill(run)
        ended = self.processes.end(run)
        after = complete_frames(self.path)
        assert after >= self._before
        self._before = after
        return ended

    def go_on(self, others: tuple[str, ...] = ()) -> None:
        """Finish the store of the last run, or leave it to the next one."""
        if self.chance.random() < 0.5 or self._before == FRAMES:
            self.finish(self.chance.choice(("threads", *others)))


@contextmanager
def trial(processes: Processes, folder: Path, *, nanny: bool = False) -> Iterator[Trial]:
    found = Trial(processes, folder, nanny=nanny)
    try:
        yield found
        found.finish("threads")
        assert_nothing_left(folder)
    finally:
        found.cluster.kill()


def test_the_driver(processes: Processes, tmp_path: Path) -> None:
    with trial(processes, tmp_path) as runs:
        for moment in runs.moments(7):

            def kill(run: int, moment: float = moment) -> None:
                wait(run, moment)
                os.kill(run, signal.SIGKILL)

            assert runs.disturb(kill) in (-signal.SIGKILL, 0)
            runs.go_on((runs.cluster.address,))


def test_a_worker_that_outlives_its_driver(processes: Processes, tmp_path: Path) -> None:
    path, gate = tmp_path / "r.zarr", tmp_path / "gate"
    cluster = Cluster(processes)
    cluster.start()
    try:
        # The last of its blocks has two frames, where the store will have four.
        given: Any = {"frames": FRAMES - 10, "together": 4, "gate": str(gate)}
        run = processes.run(path, where=cluster.address, **given)
        until(Path(f"{gate}.reached").exists)
        processes.kill(run)
        assert processes.end(processes.run(path, together=4)) == 0, processes.said()
        with Client(cluster.address, set_as_default=False) as client:

            def busy() -> bool:
                running = client.run(lambda dask_worker: len(dask_worker.state.all_running_tasks))
                return any(running.values())

            assert busy()
            gate.touch()
            until(lambda: not busy())
        assert complete_frames(path) == FRAMES
    finally:
        cluster.kill()


def until(true: Callable[[], bool]) -> None:
    """Wait for something."""
    deadline = time.monotonic() + AT_MOST
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("nanny", "count"), [(False, 5), (True, 2)])
def test_a_worker(nanny: bool, count: int, processes: Processes, tmp_path: Path) -> None:
    with trial(processes, tmp_path, nanny=nanny) as runs:
        for moment in runs.moments(count):

            def kill(run: int, moment: float = moment) -> None:
                wait(run, moment)
                runs.cluster.kill_worker(runs.chance.randrange(2))

            # The other one goes on.
            assert runs.disturb(kill) == 0, processes.said()
            runs.go_on((runs.cluster.address,))


def test_all_workers(processes: Processes, tmp_path: Path) -> None:
    with trial(processes, tmp_path) as runs:

        def kill(_: int) -> None:
            deadline = time.monotonic() + AT_MOST
            while time.monotonic() < deadline:
                if runs.path.exists() and open_store(runs.path).complete.any():
                    break
            for _ in range(2):
                runs.cluster.kill_worker(0)

        if runs.disturb(kill, patience=0.5):
            assert "all workers of the cluster at tcp://127.0.0.1" in processes.said()
            assert "run the same command again" in processes.said()


def test_the_scheduler(processes: Processes, tmp_path: Path) -> None:
    with trial(processes, tmp_path) as runs:
        for moment in runs.moments(6):

            def kill(run: int, moment: float = moment) -> None:
                wait(run, moment)
                runs.cluster.kill()

            ended = runs.disturb(kill)
            if ended:
                assert ended == TOLD, processes.said()
                assert "Dask scheduler" in processes.said()
            runs.go_on()


@pytest.fixture
def cluster(processes: Processes) -> Iterator[Cluster]:
    found = Cluster(processes)
    found.start()
    yield found
    found.kill()


def kill_before(asked: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill the scheduler in the moment in which a client asks it something."""
    ask = getattr(Client, asked)

    def kill_and_ask(client: Client, *given: Any, **options: Any) -> Any:
        client._timeout = 0.5  # how long it looks for its scheduler
        cluster.kill()
        return ask(client, *given, **options)

    monkeypatch.setattr(Client, asked, kill_and_ask)


@pytest.mark.parametrize(
    "asked", ["scheduler_info", "nthreads", "run", "run_on_scheduler", "register_plugin"]
)
def test_the_scheduler_while_the_workers_are_set_up(
    asked: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_before(asked, cluster, monkeypatch)
    with pytest.raises(ClusterError, match=rf"scheduler at {cluster.address} was lost") as caught:
        wd.connect(cluster.address, wait=60)
    assert "Start a cluster" in caught.value.remedy


@pytest.mark.parametrize("asked", ["scheduler_info", "run"])
def test_the_scheduler_while_the_workers_look_at_files(
    asked: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with wd.connect(cluster.address) as client:
        assert client is not None
        kill_before(asked, cluster, monkeypatch)
        with pytest.raises(ClusterError, match=rf"scheduler at {cluster.address} was lost"):
            check_paths(client, inputs=[Path(__file__)])


def test_the_scheduler_in_a_body(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def body() -> None:
        with wd.connect(cluster.address) as client:
            assert client is not None
            kill_before("run", cluster, monkeypatch)
            # The client itself may not know yet that the connection is broken.
            client.run(os.getpid)

    with pytest.raises(ClusterError, match=rf"scheduler at {cluster.address} was lost"):
        body()
