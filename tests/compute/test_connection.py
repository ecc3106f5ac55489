"""One call to a client: with and without `with`, and what it says when it fails."""

import importlib
import logging
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
import pytest
import yaml
from distributed import LocalCluster, Worker, WorkerPlugin

import wavedask as wd
from wavedask.compute import connection, load_profile
from wavedask.compute.certificates import new_certificate
from wavedask.compute.visible import needed
from wavedask.errors import ClusterError, InputError

SCRIPT = """
import os, sys
import wavedask as wd

if __name__ == "__main__":
    client = wd.connect(workers=1)
    print(*client.run(os.getpid).values())
"""


def gone(process: int) -> bool:
    """Whether a process has ended, or does so now."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_a_client_without_a_with_statement_closes_its_cluster() -> None:
    client = wd.connect("local", workers=1)
    (process,) = client.run(os.getpid).values()
    assert client.submit(sum, [1, 2]).result() == 3
    client.close()
    client.close()  # twice does no harm
    assert gone(process)
    assert client.status == "closed"


def test_the_end_of_the_interpreter_closes_the_cluster(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ended = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=120
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert gone(int(ended.stdout))


def test_threads_without_a_with_statement() -> None:
    threads = wd.connect("threads", workers=2)
    assert dask.config.get("num_workers") == 2
    threads.close()
    assert dask.config.get("scheduler", None) is None


def test_no_more_processes_than_fit_into_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MEMORY_LIMIT", 2 * needed(2**30))
    monkeypatch.setattr(connection, "cores", lambda: 16)
    profile = load_profile().profile
    fitted = connection._fitted(profile, 2**30).workers
    assert fitted is not None
    assert fitted.minimum == 2
    alone = connection._fitted(profile, 2**40).workers
    assert alone is not None
    assert alone.minimum == 1


def test_no_worker_within_the_time() -> None:
    with LocalCluster(
        n_workers=0,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        began = time.monotonic()
        with pytest.raises(ClusterError, match=r"no worker .* within 0\.3 s") as caught:
            wd.connect(cluster.scheduler_address, wait=0.3)
        assert time.monotonic() - began < 10
        assert "--wait" in caught.value.remedy


class EndsOnce(WorkerPlugin):
    """A plugin whose first worker ends during its setup."""

    name = "ends-once"
    idempotent = True

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def setup(self, worker: Worker) -> None:
        """End the process of the first worker that comes here."""
        with suppress(FileExistsError):
            self.mark.touch(exist_ok=False)
            os._exit(1)


def has_plugin(dask_worker: Worker) -> bool:
    return EndsOnce.name in dask_worker.plugins


def test_a_worker_that_ends_while_all_are_set_up(tmp_path: Path) -> None:
    with wd.connect("local", workers=2) as client:
        assert isinstance(client, connection.Connection)
        connection._registered(client, EndsOnce(tmp_path / "mark"))
        client.wait_for_workers(2, timeout=60)
        assert set(client.run(has_plugin).values()) == {True}


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("gateway", "dask_gateway", "wavedask[gateway]"),
        ("kubernetes", "kr8s", "wavedask[kubernetes]"),
        ("slurm", "dask_jobqueue", "wavedask[slurm]"),
    ],
)
def test_a_package_that_is_not_installed(
    name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = importlib.import_module

    def without(wanted: str, package: str | None = None) -> Any:
        if wanted == module:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module.split(".")[0])
        return imported(wanted, package)

    monkeypatch.setattr("importlib.import_module", without)
    monkeypatch.setattr("shutil.which", lambda command: f"/usr/bin/{command}")
    with pytest.raises(InputError, match="which is not installed") as caught:
        wd.connect(name)
    assert extra in caught.value.remedy


def test_slurm_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="no command sbatch"):
        wd.connect("slurm")


def test_an_allocation_outside_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    with pytest.raises(InputError, match="is not a task of one") as caught:
        wd.connect("allocation")
    assert "run.sbatch" in caught.value.remedy


def test_a_cluster_that_is_started_twice_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with LocalCluster(
        n_workers=1,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        # The address of a running cluster: nothing is created.
        settings = {"address": cluster.scheduler_address, "workers": 1}
        with (
            wd.connect("kubernetes", **settings),
            caplog.at_level(logging.WARNING, "wavedask"),
            wd.connect("kubernetes", **settings),
        ):
            pass
    assert any("kubernetes is still open" in message for message in caplog.messages)


def test_a_profile_with_the_files_of_a_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    security = new_certificate(tmp_path)
    profiles = tmp_path / "dask" / "wavedask"
    profiles.mkdir(parents=True)
    monkeypatch.setattr(dask.config, "paths", [str(profiles.parent)])
    with LocalCluster(
        n_workers=1,
        processes=False,
        protocol="tls://",
        security=security,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        section = {
            "address": cluster.scheduler_address,
            "ca_file": str(tmp_path / "ca.pem"),
            "certificate": str(tmp_path / "cert.pem"),
            "key": str(tmp_path / "key.pem"),
        }
        (profiles / "ours.yaml").write_text(yaml.safe_dump({"kind": "address", "address": section}))
        with wd.connect("ours") as client:
            assert client is not None
            assert client.submit(sum, [1, 2]).result() == 3
        # A certificate of somebody else is refused.
        other = tmp_path / "other"
        other.mkdir()
        new_certificate(other)
        with pytest.raises(InputError, match="no Dask scheduler answers"):
            wd.connect(
                "ours",
                timeout=1,
                address={"certificate": str(other / "cert.pem"), "key": str(other / "key.pem")},
            )
