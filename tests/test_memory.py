"""Freed memory is used again: counted in page faults, in processes as Dask starts its workers."""

import ctypes
import inspect
import os
import resource
import subprocess
import sys

import dask
import pytest

from wavedask.cluster import connect, local_client

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
        check=True,
    )
    before, after = map(int, done.stdout.split())
    assert before >= PAGES
    assert after < PAGES / 10
