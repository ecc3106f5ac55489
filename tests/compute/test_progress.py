"""Tasks run and are reported alike on every scheduler."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import nbformat
import pytest
from dask.base import compute
from dask.delayed import Delayed, delayed
from distributed import Client
from nbclient import NotebookClient

from wavedask.compute import progress_bar, show_progress
from wavedask.compute.connection import connect
from wavedask.compute.progress import IN_FLIGHT_PER_THREAD, current_client, run_each
from wavedask.errors import CorruptFileError


@pytest.fixture(params=["synchronous", "threads", "cluster"], scope="module")
def scheduler(request: pytest.FixtureRequest) -> Iterator[str]:
    where: AbstractContextManager[Any]
    if request.param == "cluster":
        where = connect(None, workers=2)
    else:
        where = dask.config.set(scheduler=request.param, num_workers=2)
    with where:
        yield request.param


def collected(tasks: list[Delayed]) -> dict[int, Any]:
    results: dict[int, Any] = {}

    def on_done(index: int, result: Any) -> None:
        assert index not in results
        results[index] = result

    run_each(tasks, label="testing", on_done=on_done)
    return results


def touch(path: Path) -> None:
    path.touch()


def appears(path: Path) -> bool:
    for _ in range(1000):
        if path.exists():
            return True
        time.sleep(0.02)
    return False


def fail_after(_: Any) -> None:
    raise CorruptFileError("a.edf is truncated", "Copy it again.")


def log(path: Path, line: str, seconds: float = 0) -> str:
    time.sleep(seconds)
    with path.open("a") as file:
        file.write(f"{line}\n")
    return line


def test_each_task_is_reported_once_with_its_own_result(scheduler: str) -> None:
    tasks = [delayed(pow)(n, 2) for n in range(50)]
    assert collected(tasks) == {n: n**2 for n in range(50)}


def test_plain_values_and_a_task_given_twice(scheduler: str) -> None:
    task = delayed(pow)(3, 2)
    assert collected([delayed(7), task, task]) == {0: 7, 1: 9, 2: 9}


def test_no_tasks(scheduler: str) -> None:
    assert collected([]) == {}


def test_reported_when_it_ends_not_when_all_have_ended(scheduler: str, tmp_path: Path) -> None:
    if scheduler == "synchronous":
        pytest.skip("one task at a time: there is no other to wait for")
    flag = tmp_path / "first is reported"
    seen: dict[int, Any] = {}

    def on_done(index: int, result: Any) -> None:
        seen[index] = result
        if index == 0:
            flag.touch()

    run_each([delayed(pow)(2, 5), delayed(appears)(flag)], label="", on_done=on_done)
    assert seen == {0: 32, 1: True}


def test_a_failure_arrives_as_itself_after_what_had_ended(scheduler: str, tmp_path: Path) -> None:
    done = delayed(log)(tmp_path / "log", "done")
    tasks = [done, delayed(fail_after)(done)]
    # Far more than a window: what has not begun must not begin. Each takes a while: on a busy
    # machine, the news of a failure does, too.
    tasks += [delayed(log)(tmp_path / "log", f"late {n}", 0.02) for n in range(500)]
    reported: list[int] = []
    with pytest.raises(CorruptFileError, match="truncated") as caught:
        run_each(tasks, label="", on_done=lambda index, _: reported.append(index))
    assert caught.value.remedy == "Copy it again."
    assert 0 in reported
    if scheduler == "cluster":
        assert len(reported) < len(tasks) / 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_in_on_done_cancels_the_rest(
    scheduler: str, error: type[BaseException], tmp_path: Path
) -> None:
    tasks = [delayed(log)(tmp_path / "log", f"{n}") for n in range(500)]

    def on_done(index: int, result: Any) -> None:
        raise error

    with pytest.raises(error):
        run_each(tasks, label="", on_done=on_done)
    time.sleep(0.3)
    assert len((tmp_path / "log").read_text().split()) < len(tasks) / 2
    # And the scheduler is fit for the next.
    assert collected([delayed(pow)(2, 2)]) == {0: 4}


def test_what_tasks_share_is_computed_once(scheduler: str, tmp_path: Path) -> None:
    shared = delayed(log)(tmp_path / "log", "flat")
    tasks = [delayed(lambda text, n: f"{text} {n}")(shared, n) for n in range(60)]
    assert collected(tasks)[59] == "flat 59"
    assert (tmp_path / "log").read_text() == "flat\n"


def test_what_tasks_share_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    get: Any = Client.get

    def counted(client: Client, graph: dict[Any, Any], *given: Any, **options: Any) -> Any:
        sent.extend(graph)
        return get(client, graph, *given, **options)

    monkeypatch.setattr(Client, "get", counted)
    shared = delayed(pow)(7, 2)
    tasks = [delayed(pow)(shared, n) for n in range(100)]
    with connect(None, workers=1):
        assert collected(tasks) == {n: 49**n for n in range(100)}
    assert sent.count(shared.key) == 1
    assert len(sent) == 101


def test_threads_are_quiet_after_a_failure() -> None:
    begun = threading.Event()
    ended = threading.Event()

    def slow() -> None:
        begun.set()
        time.sleep(0.3)
        ended.set()

    def fail() -> None:
        begun.wait(10)
        raise RuntimeError

    with dask.config.set(scheduler="threads", num_workers=2), pytest.raises(RuntimeError):
        run_each([delayed(slow)(), delayed(fail)()], label="", on_done=lambda *_: None)
    assert ended.is_set()


def test_a_cluster_holds_a_bounded_number_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    in_flight = 0
    most = 0
    submit: Any = Client.get

    def counted(self: Any, graph: Any, keys: list[Any], **options: Any) -> Any:
        nonlocal in_flight, most
        in_flight += len(keys)
        most = max(most, in_flight)
        return submit(self, graph, keys, **options)

    def on_done(index: int, result: Any) -> None:
        nonlocal in_flight
        in_flight -= 1

    with connect(None, workers=1):
        monkeypatch.setattr(Client, "get", counted)
        tasks = [delayed(pow)(n, 3) for n in range(10 * IN_FLIGHT_PER_THREAD)]
        run_each(tasks, label="", on_done=on_done)
    assert most == IN_FLIGHT_PER_THREAD
    assert in_flight == 0


def test_current_client_is_the_one_dask_would_use() -> None:
    before = current_client()
    with connect(None, workers=1) as client:
        assert current_client() is client
        with dask.config.set(scheduler="threads"):
            assert current_client() is None
    assert current_client() is before


def test_the_bar_is_shown_on_request_only(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("reading", 3, show=True) as advance:
        advance(3)
    shown = capsys.readouterr()
    assert "reading" in shown.err
    assert "3/3" in shown.err
    assert not shown.out
    with progress_bar("reading", 3) as advance:
        advance(3)
    assert not capsys.readouterr().err


def test_a_bar_for_any_computation(scheduler: str, capfd: pytest.CaptureFixture[str]) -> None:
    ones = da.ones((8, 2), chunks=(2, 2))
    with show_progress("adding", show=True):
        assert (current_client() is None) == (scheduler != "cluster")
        parts = compute(*(ones[2 * part : 2 * part + 2].sum() for part in range(4)))
    assert parts == (4.0,) * 4
    shown = capfd.readouterr().err
    assert "adding" in shown
    total, count = re.findall(r"(\d+)/(\d+)", shown)[-1]
    assert total == count
    assert int(total) >= 4
    with show_progress("failing"), pytest.raises(CorruptFileError, match="truncated"):
        delayed(fail_after)(0).compute()
    with show_progress("nothing"):
        pass
    assert not capfd.readouterr().err


NOTEBOOK = (
    """
import time
import dask.array as da
import wavedask as wd

def slow(part):
    time.sleep(0.4)
    return part

work = da.ones((6, 2), chunks=(2, 2)).map_blocks(slow, meta=da.ones(1)._meta)
""",
    """
with wd.connect("threads", workers=1), wd.show_progress("waiting"):
    print(work.compute().sum())
""",
    """
with wd.show_progress("short"):
    print(da.ones(1).compute().sum())
""",
)


def test_a_notebook_shows_a_bar_in_place() -> None:
    """In a real kernel; short work leaves no bar."""
    notebook: Any = nbformat.from_dict(  # type: ignore[no-untyped-call] # nbformat does not annotate it
        {
            "cells": [
                {"cell_type": "code", "metadata": {}, "source": cell, "outputs": []}
                for cell in NOTEBOOK
            ],
            "metadata": {},
            "nbformat": 4,
            "nbformat_minor": 4,
        }
    )
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    shown = [
        [output.data for output in cell.outputs if output.output_type == "display_data"]
        for cell in notebook.cells
    ]
    assert [len(bars) for bars in shown] == [0, 1, 0]
    (bar,) = shown[1]
    assert re.search(r"waiting.* (\d)/\1 ", bar["text/plain"])
    assert "<pre" in bar["text/html"]
