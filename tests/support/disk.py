"""A disk whose power can be cut. As a script: mount one in a folder, and be killed."""

import fcntl
import os
import signal
import struct
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

SIZE = 64 * 2**20
EXT4_IOC_SHUTDOWN = 0x8004587D
"""Request of ext4 to stop at once, as if the machine had lost its power."""
AT_MOST = 30.0


LET_GO = 'cat; while umount --lazy "$1" 2>"$0"; do :; done'
"""What a guard does at the end of the tests, even by ``SIGKILL``: a folder that stays mounted
cannot be removed, by whoever cleans up next."""


class Disk:
    """An ext4 file system in a file, whose power can be cut."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._image = folder / "image"
        self.folder = folder / "mounted"
        self.folder.mkdir()
        guard = subprocess.Popen(
            ["sh", "-c", LET_GO, os.devnull, str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        stack.enter_context(guard)
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


if __name__ == "__main__":
    Disk(ExitStack(), Path(sys.argv[1]))
    os.kill(os.getpid(), signal.SIGKILL)
