"""Clusters start, keep to one thread per task, and leave nothing behind."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import dask
import pytest
import zarr
from dask.delayed import delayed
from distributed import Client, LocalCluster, Security, Worker

from wavedask.compute.cluster import ZARR_LIMITS, cores, limit_threads, local_client
from wavedask.compute.connection import connect
from wavedask.errors import InputError


def threads_inside() -> tuple[int, int, int, str]:
    import numba

    concurrency = zarr.config.get("async.concurrency")
    lock = os.environ["HDF5_USE_FILE_LOCKING"]
    return cv2.getNumThreads(), numba.get_num_threads(), concurrency, lock


def test_tasks_have_one_thread_on_loopback_workers_of_one_thread() -> None:
    with local_client(2) as client:
        assert client.submit(threads_inside).result() == (1, 1, 4, "FALSE")
        workers = client.scheduler_info(n_workers=-1)["workers"]
        assert len(workers) == 2
        assert all(address.startswith("tls://127.0.0.1:") for address in workers)
        assert set(client.nthreads().values()) == {1}


def test_the_environment_of_this_process_stays_as_it_was() -> None:
    before = dict(os.environ)
    with local_client(1):
        pass
    with (
        LocalCluster(
            n_workers=1, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
        ) as cluster,
        connect(cluster.scheduler_address) as client,
    ):
        assert client is not None
        client.wait_for_workers(1, timeout=30)
    assert dict(os.environ) == before


def test_threads_per_worker() -> None:
    with local_client(1, threads_per_worker=2) as client:
        assert list(client.nthreads().values()) == [2]


def test_a_worker_that_joins_later_is_limited_too() -> None:
    with local_client(1) as client:
        assert isinstance(client.cluster, LocalCluster)
        client.cluster.scale(2)
        client.wait_for_workers(2, timeout=30)
        assert set(client.run(cv2.getNumThreads).values()) == {1}


def test_no_process_is_left_when_the_body_fails() -> None:
    def raise_inside() -> None:
        with local_client(1) as client:
            pids.extend(client.run(os.getpid).values())
            raise KeyboardInterrupt

    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        raise_inside()
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(ValueError, match="client"):
        Client.current()


def test_a_script_ends_without_noise_or_warning(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from wavedask.compute import connect\n"
        "if __name__ == '__main__':\n"
        "    with connect(workers=2) as client:\n"
        "        print(sum(client.gather(client.map(abs, range(-4, 0)))))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=120
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "10\n", "")


def test_limits_are_lifted_afterwards() -> None:
    threads = cv2.getNumThreads()
    before = {name: zarr.config.get(name) for name in ZARR_LIMITS}
    with limit_threads():
        assert cv2.getNumThreads() == 1
        assert {name: zarr.config.get(name) for name in ZARR_LIMITS} == ZARR_LIMITS
    assert cv2.getNumThreads() == threads
    assert {name: zarr.config.get(name) for name in ZARR_LIMITS} == before


def test_threads_of_this_process() -> None:
    with connect("threads", workers=3) as client:
        assert client is None
        assert dask.config.get("scheduler") == "threads"
        assert dask.config.get("num_workers") == 3
        assert delayed(os.getpid)().compute() == os.getpid()
        assert delayed(cv2.getNumThreads)().compute() == 1
    assert dask.config.get("scheduler", None) is None
    with connect("threads"):
        assert dask.config.get("num_workers") == cores()


def test_a_running_scheduler_is_joined_and_left_running() -> None:
    with (
        LocalCluster(
            n_workers=1,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as owner,
    ):
        address = owner.scheduler_info()["address"]
        with connect(address) as guest:
            assert guest is not None
            assert guest.submit(cv2.getNumThreads).result() == 1
        assert owner.submit(sum, [1, 2]).result() == 3
        assert list(owner.run(lambda dask_worker: type(dask_worker)).values()) == [Worker]


def test_a_scheduler_with_tls_needs_a_certificate() -> None:
    with local_client(1) as owner:
        address = owner.scheduler_info()["address"]
        with pytest.raises(InputError, match="needs a certificate") as caught, connect(address):
            pytest.fail("connected")
    assert "distributed.comm.tls.client.cert" in caught.value.remedy


def test_a_certificate_that_is_not_whole_is_refused(
    tmp_path: Path,
) -> None:
    here, lost = tmp_path / "here.pem", tmp_path / "lost.pem"
    here.write_text("")
    for files, words in (
        ({"ca_file": here}, "profile tls://127.0.0.1:1 has ca_file, and no certificate"),
        ({"certificate": here, "key": here}, "has certificate and key, and no ca_file"),
        ({"ca_file": here, "certificate": here, "key": lost}, f"key of profile .* is {lost}"),
    ):
        options: Any = {name: str(file) for name, file in files.items()}
        with pytest.raises(InputError, match=words), connect("tls://127.0.0.1:1", **options):
            pytest.fail("connected")


def test_a_scheduler_with_tls_is_joined_with_a_certificate(tmp_path: Path) -> None:
    own = Security.temporary()
    parts = {
        "ca-file": own.tls_ca_file,
        "client.cert": own.tls_client_cert,
        "client.key": own.tls_client_key,
    }
    settings = {}
    for name, text in parts.items():
        (tmp_path / name).write_text(text)
        settings[f"distributed.comm.tls.{name}"] = str(tmp_path / name)
    with (
        LocalCluster(
            n_workers=1,
            processes=False,
            protocol="tls://",
            host="127.0.0.1",
            security=own,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        dask.config.set(settings),
        connect(cluster.scheduler_address) as client,
    ):
        assert client is not None
        assert client.submit(sum, [1, 2]).result() == 3


def test_a_scheduler_that_does_not_answer() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{held.getsockname()[1]}"
        # Bound but not listening: nobody else can take the port, and nobody answers.
        with pytest.raises(InputError, match=address) as caught, connect(address, timeout=0.5):
            pytest.fail("connected to nothing")
    assert "dask scheduler" in caught.value.remedy


@pytest.mark.parametrize("address", ["localhost", "http://127.0.0.1:8787", "processes", ""])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(InputError, match="tcp://host:8786"), connect(address):
        pytest.fail("connected to nothing")


def test_numbers_of_workers_that_cannot_be() -> None:
    with pytest.raises(InputError, match="workers is 0"), local_client(0):
        pytest.fail("started")
    with pytest.raises(InputError, match="workers is -1"), connect("threads", workers=-1):
        pytest.fail("started")
    with pytest.raises(InputError, match="threads_per_worker is 0"):
        local_client(1, threads_per_worker=0).__enter__()
    with pytest.raises(InputError, match="has its own"), connect("tcp://127.0.0.1:1", workers=2):
        pytest.fail("started")


def test_a_scratch_folder_that_cannot_be_used() -> None:
    with (
        dask.config.set({"temporary-directory": "/proc/none"}),
        pytest.raises(InputError, match="temporary-directory is /proc/none") as caught,
        local_client(1),
    ):
        pytest.fail("started")
    assert "DASK_TEMPORARY_DIRECTORY" in caught.value.remedy


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_cores_respect_the_affinity_mask() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from wavedask.compute.cluster import cores; print(cores())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "1\n"
