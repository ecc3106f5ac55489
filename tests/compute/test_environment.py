"""Workers with other software than the driver are refused, before they compute anything."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask.array as da
import pytest
import xarray as xr
from distributed import Client, LocalCluster

import wavedask
from wavedask.compute import environment
from wavedask.compute.connection import connect
from wavedask.compute.environment import SOURCE, check_cache, check_here, check_software, software
from wavedask.errors import ClusterError, InputError
from wavedask.store.results import write_store

AT_MOST = 60.0

WITHOUT = """
import sys
class Hidden:
    # As in an environment that does not have it.
    def find_spec(name, *_):
        if name == "wavedask":
            raise ModuleNotFoundError("No module named 'wavedask'", name=name)
sys.meta_path.insert(0, Hidden)
from distributed.cli.dask_worker import main
main()
"""
WITH = "from distributed.cli.dask_worker import main; main()"


@contextmanager
def scheduler() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=0,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        yield cluster


@contextmanager
def worker(address: str, folder: Path, code: str, path: str | None = None) -> Iterator[None]:
    """A worker process with software of its own."""
    environment = dict(os.environ)
    if path is not None:
        environment["PYTHONPATH"] = path
    options = [address, "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    with (folder / "worker.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *options, "--local-directory", str(folder)],
            stdout=log,
            stderr=log,
            env=environment,
            cwd=folder,  # the current folder comes before PYTHONPATH
        )
        try:
            with Client(address, set_as_default=False) as client:
                client.wait_for_workers(1, timeout=AT_MOST)
            yield
        finally:
            process.kill()
            process.wait()


def package(folder: Path, *, version: str) -> str:
    """A copy of this package with one constant changed; the folder to import it from."""
    shutil.copytree(
        Path(wavedask.__file__).parent,
        folder / "wavedask",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    changed = folder / "wavedask" / "kernels" / "dense" / "lowpass.py"
    before = changed.read_text()
    changed.write_text(before.replace("SIGMA: Final = 1.68", "SIGMA: Final = 3.0"))
    assert changed.read_text() != before
    metadata = folder / "wavedask-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: wavedask\nVersion: {version}\n"
    )
    return str(folder)


def result() -> xr.Dataset:
    slope = da.ones((4, 8, 8), chunks=(1, 8, 8))
    return xr.Dataset({"slope_y": (("frame", "y", "x"), slope)})


def test_a_worker_with_another_version(tmp_path: Path) -> None:
    copy = package(tmp_path / "other", version="0.0.1")
    with scheduler() as cluster, worker(cluster.scheduler_address, tmp_path, WITH, copy):
        with (
            pytest.raises(ClusterError, match=r"has wavedask 0\.0\.1 instead of ") as caught,
            connect(cluster.scheduler_address),
        ):
            pytest.fail("joined")
        assert "install the same versions there" in caught.value.remedy
        # A client that the user made is checked by the run.
        with (
            Client(cluster),
            pytest.raises(ClusterError, match=r"has wavedask 0\.0\.1 instead of "),
        ):
            write_store(tmp_path / "results.zarr", result(), settings={}, progress=False)
        assert not (tmp_path / "results.zarr").exists()


def test_a_worker_with_the_same_version_and_other_code(tmp_path: Path) -> None:
    copy = package(tmp_path / "other", version=software()["wavedask"])
    with (
        scheduler() as cluster,
        worker(cluster.scheduler_address, tmp_path, WITH, copy),
        pytest.raises(ClusterError, match=f"the same version of wavedask with other {SOURCE}"),
        connect(cluster.scheduler_address),
    ):
        pytest.fail("joined")


def test_a_worker_without_wavedask(tmp_path: Path) -> None:
    with (
        scheduler() as cluster,
        worker(cluster.scheduler_address, tmp_path, WITHOUT),
        pytest.raises(ClusterError, match=r"tcp://127\.0\.0\.1:\d+ has no wavedask") as caught,
        connect(cluster.scheduler_address),
    ):
        pytest.fail("joined")
    assert "pip install wavedask==" in caught.value.remedy


def test_a_task_on_a_worker_with_other_software() -> None:
    expected = {**software(), "numpy": "1.0", "zarr": "2.0"}
    with pytest.raises(ClusterError, match=r"numpy .* instead of 1\.0, zarr .* instead of 2\.0"):
        check_here(expected)


def test_a_scheduler_with_other_software(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {**software(), "dask": "0.1"}
    with scheduler() as cluster, Client(cluster) as client:
        # It runs in this process, and answers with what was there before.
        monkeypatch.setattr(environment, "software", lambda: expected)
        monkeypatch.setattr(client, "run_on_scheduler", lambda _, **__: software())
        with pytest.raises(ClusterError, match=r"the scheduler has dask .* instead of 0\.1"):
            check_software(client)


def test_the_software_of_a_local_cluster_is_its_own() -> None:
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        check_software(client)


def test_a_cache_that_others_may_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    tmp_path.chmod(0o777)
    with pytest.raises(InputError, match=r"may be written by others \(mode 777\)"):
        check_cache()
    tmp_path.chmod(0o700)
    check_cache()
    if os.geteuid() == 0:
        os.chown(tmp_path, 65534, -1)
        with pytest.raises(InputError, match="belongs to user 65534"):
            check_cache()
