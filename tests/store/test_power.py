"""The power fails: what the ledger says is on the disk, and a rerun finishes the store."""

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
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
SIZE = 64 * 2**20
EXT4_IOC_SHUTDOWN = 0x8004587D
"""Request of ext4 to stop at once, as if the machine had lost its power."""
FLAGS = {"journal written": 1, "journal lost": 2}
"""Whether names and sizes of the last seconds are on the disk, the contents not being there."""
AT_MOST = 30.0


class Disk:
    """An ext4 file system in a file, whose power can be cut."""

    def __init__(self, folder: Path) -> None:
        self._image = folder / "image"
        self.folder = folder / "mounted"
        self.folder.mkdir()
        with self._image.open("wb") as file:
            file.truncate(SIZE)
        run("mkfs.ext4", "-q", "-F", str(self._image))
        self.mount()

    def mount(self) -> None:
        run("mount", "-o", "loop", str(self._image), str(self.folder))

    def unmount(self) -> None:
        deadline = time.monotonic() + AT_MOST
        while os.path.ismount(self.folder):
            try:
                run("umount", str(self.folder))
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def cut(self, flag: int) -> None:
        """Lose everything that is not on the disk."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", flag))
        finally:
            os.close(descriptor)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=AT_MOST)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with processes_in(tmp_path_factory.mktemp("logs")) as found:
        yield found


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        found = Disk(tmp_path)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or b""
        pytest.skip(f"no right to mount an ext4 image here: {error} {said.decode().strip()}")
    try:
        yield found
    finally:
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
