"""The power fails: what the ledger says is on the disk, and a rerun finishes the store."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import support.disk
from support.disk import Disk
from support.survival import (
    FRAMES,
    Processes,
    assert_finished,
    chance,
    complete_frames,
    processes_in,
    spread,
    wait,
)

CUTS = 20
FLAGS = {"journal written": 1, "journal lost": 2}
"""Whether names and sizes of the last seconds are on the disk, the contents not being there."""
AT_MOST = 30.0


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with processes_in(tmp_path_factory.mktemp("logs")) as found:
        yield found


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with ExitStack() as stack:
        try:
            found = Disk(stack, tmp_path)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", b"") or b""
            pytest.skip(f"no right to mount an ext4 image here: {error} {said.decode().strip()}")
        yield found
        found.unmount()


def test_what_is_complete_survives_a_power_cut(
    processes: Processes, disk: Disk, tmp_path: Path
) -> None:
    moments = chance()
    undisturbed = tmp_path / "undisturbed.zarr"
    begin = time.monotonic()
    assert processes.end(processes.run(undisturbed)) == 0
    duration = time.monotonic() - begin
    number = before = 0
    for moment in spread(moments, CUTS, 1.2 * duration):
        path = disk.folder / f"{number}.zarr"
        # Some runs create the store, others lengthen or finish it.
        driver = processes.run(path, frames=max(before, moments.choice((FRAMES // 2, FRAMES))))
        wait(driver, moment)
        disk.cut(moments.choice(list(FLAGS.values())))
        processes.kill(driver)
        disk.unmount()
        disk.mount()
        after = complete_frames(path)
        assert after >= before
        before = after
        if after == FRAMES or moments.random() < 0.2:
            assert processes.end(processes.run(path)) == 0, processes.said()
            assert_finished(path, undisturbed)
            number, before = number + 1, 0
    path = disk.folder / f"{number}.zarr"
    assert processes.end(processes.run(path)) == 0, processes.said()
    assert_finished(path, undisturbed)


def test_a_killed_test_leaves_nothing_mounted(disk: Disk, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    killed = subprocess.run([sys.executable, str(Path(support.disk.__file__)), str(folder)])
    assert killed.returncode == -signal.SIGKILL
    deadline = time.monotonic() + AT_MOST
    while str(folder) in Path("/proc/mounts").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert (folder / "mounted").is_dir()
    assert os.path.ismount(disk.folder)
