"""A full disk, a read-only folder, a vanished input: a clear error, and no frame that is wrong."""

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.experiments import FRAMES as SAMPLES
from support.experiments import assert_equal, campaign, copied, load, write
from support.survival import AT_MOST, FRAMES, Cluster, Processes, complete_frames, processes_in
from support.survivor import TOLD

import wavedask as wd
from wavedask.compute.connection import connect
from wavedask.errors import FileError
from wavedask.experiment.pipeline import run
from wavedask.store import results
from wavedask.store.layout import create
from wavedask.store.results import open_store

SLOWLY = 0.05


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with processes_in(tmp_path_factory.mktemp("logs")) as found:
        yield found


@pytest.fixture(scope="module")
def cluster(processes: Processes) -> Iterator[Cluster]:
    found = Cluster(processes)
    found.start()
    yield found
    found.kill()


@pytest.fixture(params=["threads", "cluster"])
def where(request: pytest.FixtureRequest) -> str:
    if request.param == "threads":
        return "threads"
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.address


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return campaign(tmp_path_factory.mktemp("campaign"))


def wait_for_frames(path: Path) -> None:
    """Wait until a run is under way."""
    deadline = time.monotonic() + AT_MOST
    while not (path.exists() and open_store(path).complete.any()):
        assert time.monotonic() < deadline, "no frame is complete"
        time.sleep(0.02)


def allow(process: int, size: int) -> None:
    """Let the disk refuse files of a process that are larger, as a quota would."""
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def assert_partial_and_finish(processes: Processes, path: Path, where: str) -> None:
    assert 0 < complete_frames(path) < FRAMES
    assert processes.end(processes.run(path, where=where)) == 0, processes.said()
    assert complete_frames(path) == FRAMES


def test_a_disk_that_fills_up(
    where: str, processes: Processes, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path = tmp_path / "results.zarr"
    driver = processes.run(path, where=where, seconds=SLOWLY)
    wait_for_frames(path)
    writers = [driver]
    if where != "threads":
        writers = request.getfixturevalue("cluster").workers
    for writer in writers:
        allow(writer, 4000)
    try:
        assert processes.end(driver) == TOLD
    finally:
        for writer in set(writers) - {driver}:
            allow(writer, resource.RLIM_INFINITY)
    assert f"cannot be written to {path}: [Errno 27] File too large" in processes.said()
    assert "free space and quota" in processes.said()
    assert_partial_and_finish(processes, path, where)


def test_a_disk_that_is_full_for_the_driver_alone(
    cluster: Cluster, processes: Processes, tmp_path: Path
) -> None:
    path = tmp_path / "results.zarr"
    driver = processes.run(path, where=cluster.address, seconds=SLOWLY)
    wait_for_frames(path)
    allow(driver, 10)
    assert processes.end(driver) == TOLD
    assert f"the ledger of store {path} cannot be written" in processes.said()
    assert_partial_and_finish(processes, path, cluster.address)


def test_a_folder_that_is_read_only(where: str, processes: Processes, tmp_path: Path) -> None:
    path = tmp_path / "results.zarr"
    tmp_path.chmod(0o555)
    try:
        assert processes.end(processes.run(path, where=where)) == TOLD
    finally:
        tmp_path.chmod(0o755)
    assert "Permission denied" in processes.said()
    assert str(path) in processes.said()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_becomes_read_only(where: str, processes: Processes, tmp_path: Path) -> None:
    path = tmp_path / "results.zarr"
    driver = processes.run(path, where=where, seconds=SLOWLY)
    wait_for_frames(path)
    (path / "slope_x" / "c").chmod(0o555)
    ended = processes.end(driver)
    (path / "slope_x" / "c").chmod(0o755)
    assert ended == TOLD
    assert f"of 'slope_x' cannot be written to {path}: [Errno 13]" in processes.said()
    assert_partial_and_finish(processes, path, where)


def test_an_input_that_vanishes(
    where: str, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "folder"
    for each in (whole, folder):
        each.mkdir()
        copied(raw, each)
    last = folder / "raw" / f"sample_{SAMPLES - 1:04d}.edf"

    def created(*arguments: Any, **options: Any) -> None:
        create(*arguments, **options)
        last.rename(tmp_path / "away")

    with connect(where):
        undisturbed = run(load(whole))
        experiment = load(folder)
        with monkeypatch.context() as patch:
            patch.setattr(results, "create", created)
            with pytest.raises(FileError) as caught:
                run(experiment)
        assert str(caught.value) == f"{last} does not exist. Was it moved or deleted?"
        begun = wd.open_store(folder / "results.zarr")
        expected = wd.open_store(undisturbed.store.path)
        complete = np.flatnonzero(begun.complete)
        assert SAMPLES - 1 not in complete
        assert_equal(begun.isel(frame=complete), expected.isel(frame=complete))
        (tmp_path / "away").rename(last)
        again = run(experiment)
    assert_equal(wd.open_store(again.store.path), expected)


def test_the_command_says_that_its_scheduler_is_lost(
    processes: Processes, raw: Path, tmp_path: Path
) -> None:
    file = write(copied(raw, tmp_path), track={"engine": "opencv", "step": 1}, dark=None)
    cluster = Cluster(processes)
    cluster.start()
    command = [sys.executable, "-W", "error", "-m", "wavedask", "run", str(file)]
    with subprocess.Popen(
        [*command, "--address", cluster.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            deadline = time.monotonic() + AT_MOST
            while not (tmp_path / "results.zarr").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            cluster.kill()
            output, message = process.communicate(timeout=AT_MOST)
        finally:
            process.kill()
    assert (process.returncode, output) == (1, ""), message
    assert message.endswith(
        f"Error: the Dask scheduler at {cluster.address} was lost while writing results.zarr. "
        "Start a cluster, then run the same command again: the store keeps the complete frames.\n"
    )
