"""Freed memory is used again: counted in page faults, in processes as Dask starts its workers."""

import ctypes
import inspect
import os
import resource
import subprocess
import sys
import time

import dask
import pytest
from distributed import get_worker

from wavedask.compute.cluster import KEPT_SHARE, WATCH_MILLISECONDS, local_client
from wavedask.compute.connection import connect
from wavedask.compute.memory import M_MMAP_THRESHOLD, keep_freed_memory

SIZE = 16 * 2**20
PAGES = SIZE // resource.getpagesize()

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="only the GNU C library has mallopt"
)


def faults_of_the_next_array() -> int:
    """Count the pages that the system clears for an array, when one like it was just freed."""
    import resource

    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        bytearray(b"1") * (16 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_workers_use_freed_memory_again() -> None:
    environment = dask.config.get("distributed.nanny.pre-spawn-environ")
    assert environment["MALLOC_TRIM_THRESHOLD_"] == 65536, "there is nothing to mend any more"
    with local_client(1) as client:
        assert client.submit(faults_of_the_next_array).result() < PAGES / 10


def fill(share: float) -> float:
    """Take memory up to a share of the worker's limit, free it, and tell the share taken."""
    worker = get_worker()
    limit = worker.memory_manager.memory_limit or 0
    blocks = []
    while worker.monitor.get_process_memory() < share * limit:
        blocks.append(bytearray(b"1") * 2**22)
    # What lies above them stays: the heap cannot shrink.
    vars(worker)["above"] = bytearray(b"1") * 100_000
    # Measured before the memory is free: from then on, the worker may give it back at any time.
    return float(worker.monitor.get_process_memory() / limit)


def test_a_worker_close_to_its_limit_gives_it_back() -> None:
    with local_client(1, memory_limit="1 GiB") as client:
        taken = client.submit(fill, 0.86).result()
        # Dask starts no task above 0.8, and kills the worker above 0.95.
        assert 0.8 < taken < 0.95
        time.sleep(1)  # it looks ten times a second
        assert client.submit(pow, 2, 3).result(timeout=60) == 8


def share_in_use() -> float:
    """Tell the share of the worker's limit that the process has."""
    worker = get_worker()
    return float(worker.monitor.get_process_memory() / (worker.memory_manager.memory_limit or 1))


def test_a_worker_of_which_a_task_takes_more_than_half_keeps_it() -> None:
    with local_client(1, memory_limit="1 GiB") as client:
        taken = client.submit(fill, 0.58).result()
        assert 0.55 < taken < KEPT_SHARE, "the worker was nearly as large before"
        time.sleep(3 * WATCH_MILLISECONDS / 1000)
        assert client.submit(share_in_use).result() > taken - 0.02


def test_so_do_the_threads_of_a_process() -> None:
    lines = [
        inspect.getsource(faults_of_the_next_array),
        f"from {connect.__module__} import connect",
        "print(faults_of_the_next_array())",
        "with connect('threads'):",
        "    print(faults_of_the_next_array())",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        env={**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert before >= PAGES
    assert after < PAGES / 10


def test_a_c_library_that_takes_less_gets_less(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[int, int] = {}

    class Older:
        """The limit of older GNU C libraries: half of the heap of a thread."""

        def __init__(self, name: None) -> None:
            pass

        def mallopt(self, name: int, value: int) -> int:
            if name == M_MMAP_THRESHOLD and value > 2**25:
                return 0
            taken[name] = value
            return 1

    monkeypatch.setattr(ctypes, "CDLL", Older)
    assert keep_freed_memory()
    assert taken[M_MMAP_THRESHOLD] == 2**25
    assert len(taken) == 3
