"""A run ends with its cluster, says so, and goes on when workers come back."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dask
import pytest
from dask.delayed import delayed
from distributed import Client, LocalCluster
from distributed.client import FutureCancelledError

from wavedask.compute import outage
from wavedask.compute.cluster import connect
from wavedask.compute.progress import run_each
from wavedask.errors import ClusterError


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
