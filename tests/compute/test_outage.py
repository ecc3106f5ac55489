"""A run ends with its cluster, says so, and goes on when workers come back."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import pytest
from dask.delayed import delayed
from distributed import Client, LocalCluster
from distributed.client import FutureCancelledError

from wavedask.compute import outage
from wavedask.compute.cluster import local_client
from wavedask.compute.connection import connect
from wavedask.compute.memory import task_needs
from wavedask.compute.progress import run_each
from wavedask.errors import ClusterError, InputError


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(outage, "PATIENCE_SECONDS", 0.5)


@contextmanager
def cluster(workers: int, **options: Any) -> Iterator[tuple[LocalCluster, Client]]:
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=False,
            protocol="tcp",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            **options,
        ) as made,
        Client(made) as client,
    ):
        yield made, client


@contextmanager
def meanwhile(act: Callable[[], Any]) -> Iterator[None]:
    """Act a little after the body has begun."""
    timer = threading.Timer(0.4, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def slow(number: int) -> int:
    time.sleep(0.1)
    return number


def computed(count: int) -> dict[int, Any]:
    found: dict[int, Any] = {}
    tasks = [delayed(slow, pure=False)(number) for number in range(count)]
    run_each(tasks, label="counting", on_done=lambda index, result: found.update({index: result}))
    return found


def test_workers_that_do_not_come_back() -> None:
    with cluster(1) as (made, _), meanwhile(lambda: made.scale(0)):
        with pytest.raises(ClusterError, match="all workers of the cluster at") as caught:
            computed(20)
        assert "while counting" in caught.value.problem
        assert "run the same command again" in caught.value.remedy


def test_workers_that_come_late_or_come_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "PATIENCE_SECONDS", 30)

    def exchange() -> None:
        made.scale(1)
        time.sleep(0.8)
        made.scale(0)
        time.sleep(0.4)
        made.scale(1)

    with cluster(0) as (made, _), meanwhile(exchange):
        # Results of the worker that left are gone with it, whether collected or not.
        assert computed(20) == {number: number for number in range(20)}
    assert "counting: the cluster has no worker yet; waiting" in caplog.messages


def test_a_task_that_kills_its_workers() -> None:
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as made,
        Client(made),
        pytest.raises(ClusterError, match="were killed by the same task while counting") as caught,
    ):
        run_each([delayed(die)()], label="counting", on_done=lambda *_: None)
    assert "memory" in caught.value.remedy


def test_a_task_that_needs_more_memory_than_a_worker_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A nanny really kills three workers."""
    monkeypatch.setattr(outage, "PATIENCE_SECONDS", 300)

    def hoard() -> int:
        import time

        blocks = []
        for _ in range(24):
            blocks.append(bytearray(b"1") * 2**26)
            time.sleep(0.02)
        time.sleep(60)
        return len(blocks)

    with (
        local_client(1, memory_limit="640 MiB") as client,
        task_needs(3 * 2**29),
        pytest.raises(ClusterError) as caught,
    ):
        run_each([delayed(hoard)()], label="counting", on_done=lambda *_: None)
    assert client.status == "closed"
    assert caught.value.problem.startswith(
        "3 workers, one after the other, ran out of memory in the same task while counting; the "
        "last used "
    )
    assert caught.value.remedy == (
        "They were killed for their memory. A worker has 640.00 MiB. It needs 1.79 GiB: 300.00 MiB "
        "for its libraries, and 1.50 GiB for the block. Give workers more memory, or fewer "
        "threads, then run the same command again: the store keeps the complete frames."
    )


def test_a_scheduler_that_ends() -> None:
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), cluster(1) as (made, client):
        scheduler: Any = made.scheduler

        def close() -> None:
            client.sync(scheduler.close)

        with meanwhile(close), pytest.raises(ClusterError, match="scheduler at") as caught:
            computed(20)
    assert "Start a cluster" in caught.value.remedy


def test_a_scheduler_that_is_lost_outside_of_a_run() -> None:
    with cluster(1) as (made, _):

        def cancelled() -> None:
            raise FutureCancelledError("sum-1", "scheduler-connection-lost")

        address = made.scheduler_address
        with (
            pytest.raises(ClusterError, match=f"scheduler at {address} was lost"),
            connect(address),
        ):
            cancelled()
        # What has nothing to do with it stays as it is.
        with pytest.raises(ZeroDivisionError), connect(address):
            _ = 1 // 0


@contextmanager
def suspended(process: int) -> Iterator[None]:
    """Suspend a process while the body runs."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_workers_that_are_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "SILENT_SECONDS", 3.0)
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as made,
        Client(made) as client,
    ):
        process = next(iter(client.run(os.getpid).values()))
        # Every worker has been checked; what it does then is not foreseen.
        monkeypatch.setattr(outage, "check_software", lambda *_: None)
        with suspended(process), pytest.raises(ClusterError, match="heartbeat for") as caught:
            computed(20)
        assert "while counting" in caught.value.problem
        assert "suspended" in caught.value.remedy


def test_a_scheduler_that_is_suspended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    options = [
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--no-dashboard",
        "--scheduler-file",
        str(file),
    ]
    code = "from distributed.cli.dask_scheduler import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not (file.exists() and file.read_text().strip()) and time.monotonic() < deadline:
                time.sleep(0.05)
            with Client(scheduler_file=str(file), timeout=30, set_as_default=False) as client:
                watch = outage.Watch(client, "counting")
                assert watch.threads() == 0
                monkeypatch.setattr(outage, "ANSWER_SECONDS", 1.0)
                with (
                    suspended(process.pid),
                    pytest.raises(ClusterError, match="has not answered for 1 s while counting"),
                ):
                    watch.threads()
        finally:
            process.kill()


def test_workers_that_never_come() -> None:
    with (
        dask.config.set({outage.WAIT_SETTING: "1 s"}),
        cluster(0),
        pytest.raises(ClusterError, match="has had no worker for 1 s") as caught,
    ):
        computed(1)
    assert outage.WAIT_SETTING in caught.value.remedy


def test_workers_that_die_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under a nanny that kills each for its memory, before it has done anything."""
    found = iter(range(1, 100))

    def asked(what: str, **_: Any) -> Any:
        return {f"tcp://127.0.0.1:{next(found)}": 1} if what == "ncores" else ()

    monkeypatch.setattr(outage, "check_software", lambda *_: None)
    with cluster(1) as (_, client):
        watch = outage.Watch(client, "counting")
        monkeypatch.setattr(watch, "_asked", asked)
        for _ in range(4):
            watch.threads()
        with pytest.raises(ClusterError, match="4 workers were lost one after the other") as caught:
            watch.threads()
    assert "memory" in caught.value.remedy


def test_workers_that_were_killed_for_their_memory_and_do_not_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outage, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(outage, "check_software", lambda *_: None)
    answers = iter([{"tcp://127.0.0.1:1": 1}, {}, {}])

    def asked(what: str, **_: Any) -> Any:
        return next(answers) if what == "ncores" else [(0.0, {"rss": 2**30})]

    with cluster(1) as (_, client), task_needs(2**30):
        watch = outage.Watch(client, "counting")
        monkeypatch.setattr(watch, "_asked", asked)
        watch.threads()
        watch.threads()
        with pytest.raises(ClusterError, match="none has come back") as caught:
            watch.threads()
    assert "killed for their memory. A worker needs 1.29 GiB" in caught.value.remedy


def test_a_worker_with_less_memory_than_its_libraries_need() -> None:
    with (
        pytest.raises(InputError, match=r"memory_limit is 150\.00 MiB") as caught,
        local_client(1, memory_limit="150 MiB"),
    ):
        pytest.fail("started")
    assert "at least 375.00 MiB" in caught.value.remedy
