"""A real SLURM of one node: campaigns whose jobs are cancelled, end, or never start."""

import os
import shlex
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import dask
import pytest
import xarray as xr
import yaml
from deploy.support.slurm import Slurm, running_slurm
from distributed import Client
from support.experiments import assert_equal, content

import wavedask as wd
from wavedask.errors import ClusterError
from wavedask.experiment import load_experiment, run
from wavedask.simulate import Lens, write_campaign

pytestmark = pytest.mark.deploy

ROOT = Path(__file__).parents[2]
FRAMES = 32
SIDE = 144
BOUND_SECONDS = 240.0
SCRIPTS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with running_slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a campaign long enough to disturb it."""
    folder = tmp_path_factory.mktemp("campaign")
    write_campaign(
        folder / "raw",
        lens=Lens(radius=50e-6, delta=1.2e-6),
        centers=[(0.0, 1e-6 * frame) for frame in range(FRAMES)],
        shape=(SIDE, SIDE),
    )
    return folder


def experiment(raw: Path, output: str) -> Path:
    """Write an experiment file beside the raw frames, with a result of its own."""
    file = raw / f"{output}.yaml"
    whole = content(output=f"{output}.zarr", track={"window": 21, "search": 12}, cluster=None)
    file.write_text(yaml.safe_dump(whole))
    return file


@pytest.fixture(scope="module")
def expected(raw: Path) -> xr.Dataset:
    """The result without a cluster."""
    with wd.connect("threads", workers=2):
        run(load_experiment(experiment(raw, "expected")), progress=False)
    return wd.open_store(raw / "expected.zarr").compute()


def stored_frames(store: Path) -> int:
    """Count the complete frames of a store, which may not exist yet."""
    return int(wd.open_store(store).complete.values.sum()) if store.exists() else 0


@contextmanager
def when_frames_are_stored(store: Path, action: Callable[[], Any]) -> Iterator[threading.Event]:
    """Do something in another thread as soon as the first frames of a run are stored."""
    done = threading.Event()
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            if stored_frames(store):
                action()
                done.set()
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="module")
def settings(slurm: Slurm) -> dict[str, Any]:
    """Settings of the profile for this SLURM."""
    return {
        "interface": "lo",
        "memory": "1 GiB",
        "walltime": "00:20:00",
        "wait": BOUND_SECONDS,
        "scratch": str(slurm.folder / "scratch"),
        "log_directory": str(slurm.folder / "logs"),
        # The kernels are compiled already, beside the package.
        "prologue": ["unset WAVEDASK_NODE_CACHE"],
    }


@pytest.fixture(scope="module")
def too_short(slurm: Slurm, raw: Path, expected: xr.Dataset) -> Iterator[str]:
    """A run in an allocation whose wall time ends: submitted now, looked at by the last test."""
    job = submitted(slurm, raw, "again", minutes=10)

    def halt() -> None:
        # Its steps compute no more, and the clock of SLURM runs on. A minute is its least time.
        slurm.run("scancel", "--signal=STOP", job)
        slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=1")

    with when_frames_are_stored(raw / "again.zarr", halt):
        yield job


def submitted(slurm: Slurm, raw: Path, output: str, minutes: int) -> str:
    """Submit the script of deploy/slurm with three workers and a driver; return the job."""
    profiles = raw / "dask" / "wavedask"
    profiles.mkdir(parents=True, exist_ok=True)
    profile = {
        "kind": "allocation",
        "wait": BOUND_SECONDS,
        "allocation": {"interface": "lo", "folder": str(slurm.folder / "logs")},
    }
    (profiles / "allocation.yaml").write_text(yaml.safe_dump(profile))
    done = subprocess.run(
        [
            *("sbatch", "--parsable", f"--time={minutes}", "--ntasks=4", "--mem-per-cpu=1G"),
            *(f"--output={slurm.folder}/{output}-%j.log", ROOT / "deploy/slurm/run.sbatch"),
            experiment(raw, output),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={
            **os.environ,
            "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
            "DASK_CONFIG": str(raw / "dask"),
            "SCRATCH_OF_NODE": str(slurm.folder / "scratch"),
            "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", ""),
        },
    )
    return done.stdout.strip()


def log(slurm: Slurm, output: str, job: str) -> str:
    return (slurm.folder / f"{output}-{job}.log").read_text()


def test_a_partition_that_does_not_exist(slurm: Slurm, settings: dict[str, Any]) -> None:
    began = time.monotonic()
    with pytest.raises(ClusterError, match="invalid partition specified: nowhere"):
        wd.connect("slurm", workers=1, partition="nowhere", **settings)
    assert time.monotonic() - began < 30
    assert not slurm.jobs()


def test_jobs_that_wait_in_the_queue(slurm: Slurm, settings: dict[str, Any]) -> None:
    with pytest.raises(ClusterError, match=r"within 5 s: SLURM has 1 PENDING \(PartitionDown\)"):
        wd.connect("slurm", workers=1, partition="closed", **{**settings, "wait": 5})


def test_a_campaign_survives_a_cancelled_job(
    slurm: Slurm, raw: Path, expected: xr.Dataset, settings: dict[str, Any], too_short: str
) -> None:
    logs = Path(settings["log_directory"])
    with wd.connect("slurm", workers=2, **settings) as client:
        assert client is not None
        client.wait_for_workers(2, timeout=BOUND_SECONDS)
        info = client.scheduler_info(n_workers=-1)
        assert all(
            address.startswith("tls://127.0.0.1") for address in [info["address"], *info["workers"]]
        )
        keys = list(logs.glob("certificate-*/*.pem"))
        assert len(keys) == 3
        assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
        assert stat.S_IMODE(keys[0].parent.stat().st_mode) == 0o700
        assert set(client.run(cv2.getNumThreads).values()) == {1}
        environment = client.run(lambda: dict(os.environ))
        assert {found["NUMBA_NUM_THREADS"] for found in environment.values()} == {"1"}

        jobs = {found["SLURM_JOB_ID"] for found in environment.values()}
        cancelled = min(jobs)
        with when_frames_are_stored(
            raw / "cancelled.zarr", lambda: slurm.run("scancel", cancelled)
        ) as done:
            report = run(load_experiment(experiment(raw, "cancelled")), progress=False)
            assert done.is_set()
        assert report.store.written == FRAMES
        assert_equal(wd.open_store(raw / "cancelled.zarr").compute(), expected)

        # SLURM gets a new job for the one that was cancelled, and its worker is set up, too.
        client.wait_for_workers(2, timeout=BOUND_SECONDS)
        found = client.run(lambda: (os.environ["SLURM_JOB_ID"], cv2.getNumThreads()))
        now, threads = zip(*found.values(), strict=True)
        assert cancelled not in now
        assert len({*now}) == 2
        assert {*threads} == {1}
    ended(slurm, {*now})
    assert not list(logs.glob("certificate-*"))


def ended(slurm: Slurm, jobs: set[str]) -> None:
    """Wait until the jobs of a cluster that was closed have left the queue."""
    deadline = time.monotonic() + 30
    while jobs & slurm.jobs().keys():
        assert time.monotonic() < deadline, slurm.jobs()
        time.sleep(0.2)


def test_an_adaptive_cluster_follows_the_work(
    slurm: Slurm, raw: Path, expected: xr.Dataset, settings: dict[str, Any]
) -> None:
    limits = {"minimum": 0, "maximum": 2}
    # Several calls of Dask's own clock, so that it takes no minute.
    with (
        dask.config.set({"distributed.adaptive.interval": "500ms"}),
        wd.connect("slurm", workers=limits, **settings) as client,
    ):
        assert client is not None
        report = run(load_experiment(experiment(raw, "adaptive")), progress=False)
        assert report.store.written == FRAMES
        deadline = time.monotonic() + BOUND_SECONDS
        while client.scheduler_info(n_workers=-1)["workers"]:
            assert time.monotonic() < deadline, "workers that have nothing to do stay"
            time.sleep(0.2)
    assert_equal(wd.open_store(raw / "adaptive.zarr").compute(), expected)


def test_jobs_of_two_workers_that_end_by_themselves(
    slurm: Slurm, raw: Path, expected: xr.Dataset, settings: dict[str, Any]
) -> None:
    per_job: dict[str, Any] = {
        "workers": 2,
        "workers_per_job": 2,
        "lifetime": "25 s",
        "lifetime_stagger": "5 s",
    }
    with wd.connect("slurm", **per_job, **settings) as client:
        assert client is not None
        client.wait_for_workers(2, timeout=BOUND_SECONDS)
        first = jobs_of(client)
        assert len(first) == 1
        deadline = time.monotonic() + BOUND_SECONDS
        runs = 0
        # Workers end at any moment of these runs.
        while not jobs_of(client) - first:
            assert time.monotonic() < deadline, "the job that has ended was not submitted again"
            report = run(load_experiment(experiment(raw, f"ending{runs}")), progress=False)
            assert report.store.written == FRAMES
            runs += 1
    for number in range(runs):
        assert_equal(wd.open_store(raw / f"ending{number}.zarr").compute(), expected)


def jobs_of(client: Client) -> set[str]:
    """Ask the workers for the identifiers of their jobs."""
    answers = client.run(os.getenv, "SLURM_JOB_ID", on_error="return")
    return {found for found in answers.values() if isinstance(found, str)}


def test_workers_that_do_not_see_the_data(
    slurm: Slurm, raw: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    # A node that does not mount the folder: the worker runs in a mount namespace of its own.
    python = tmp_path / "python"
    inside = f'mount -t tmpfs none {shlex.quote(str(raw))} && exec {sys.executable} "$@"'
    python.write_text(f'#!/bin/sh\nexec unshare --mount sh -c {shlex.quote(inside)} sh "$@"\n')
    python.chmod(0o755)
    with (
        pytest.raises(ClusterError, match=rf"workers do not see the data: .*there is no .*{raw}"),
        wd.connect("slurm", workers=1, python=str(python), **settings),
    ):
        run(load_experiment(experiment(raw, "unseen")), progress=False)
    assert not (raw / "unseen.zarr").exists()


def test_workers_without_wavedask(slurm: Slurm, settings: dict[str, Any], tmp_path: Path) -> None:
    package = tmp_path / "wavedask"
    package.mkdir()
    (package / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'wavedask'\", name='wavedask')\n"
    )
    # Python looks into the folder where it starts, too.
    path = shlex.quote(str(tmp_path))
    prologue = [*settings["prologue"], f"export PYTHONPATH={path}", f"cd {path}"]
    with pytest.raises(ClusterError, match="has no wavedask") as caught:
        wd.connect("slurm", workers=1, **{**settings, "prologue": prologue})
    assert "pip install wavedask==" in caught.value.remedy


def test_the_wall_time_ends_and_a_second_submission_resumes(
    slurm: Slurm, raw: Path, expected: xr.Dataset, too_short: str
) -> None:
    assert slurm.ended(too_short, BOUND_SECONDS) == "TIMEOUT", log(slurm, "again", too_short)
    before = stored_frames(raw / "again.zarr")
    assert 0 < before < FRAMES
    job = submitted(slurm, raw, "again", minutes=10)
    assert slurm.ended(job, BOUND_SECONDS) == "COMPLETED", log(slurm, "again", job)
    assert_equal(wd.open_store(raw / "again.zarr").compute(), expected)
    words = log(slurm, "again", job)
    assert f"{FRAMES} (" in words
    assert f"({FRAMES} computed now" not in words
