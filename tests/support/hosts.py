"""Hosts of a small network on this machine: each is a network namespace behind one switch.

A namespace lives as long as a process in it. Each host is held by a ``cat`` that reads from this
process: if the tests end, even by ``SIGKILL``, the hosts and everything in them are gone. Nothing
has a name outside of its namespace, so that several networks can exist at one time.
"""

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

SWITCH: Final = "switch"
NETWORK: Final = "10.0.0"
TOOLS: Final = ("ip", "mount", "nsenter", "setpriv", "unshare")
READY_SECONDS: Final = 20.0


def skip_without_namespaces() -> None:
    """Skip a test where the user may not create network namespaces."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: install iproute2 and util-linux")
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "ip", "link", "set", "lo", "up"],
        capture_output=True,
        text=True,
    )
    if tried.returncode:
        pytest.skip(f"no right to create network namespaces: {tried.stderr.strip()}")


class Host:
    """A network namespace with its own mounts, and the processes that were started in it.

    Parameters
    ----------
    stack : ExitStack
        It ends the processes and removes the host.
    number : int
        Last part of the address; the number of the port of the switch.
    scratch : Path
        Folder where this host alone has a file system in memory.
    scratch_size : str
        Size of that file system, as ``mount`` takes it.
    """

    def __init__(self, stack: ExitStack, number: int, scratch: Path, scratch_size: str) -> None:
        self.address = f"{NETWORK}.{number}"
        self.port = f"port{number}"
        self.scratch = scratch
        scratch.mkdir()
        self.processes: list[subprocess.Popen[Any]] = []
        command = (
            f"mount -t tmpfs -o size={scratch_size} tmpfs '{scratch}'"
            " && ip link set lo up && echo ready && exec cat"
        )
        self._holder = stack.enter_context(
            subprocess.Popen(
                ["unshare", "--net", "--mount", "sh", "-c", command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )
        stack.callback(self._holder.kill)
        stack.callback(self.kill)
        assert self._holder.stdout is not None
        if not select.select([self._holder.stdout], [], [], READY_SECONDS)[0]:
            pytest.fail(f"host {self.address} is not there after {READY_SECONDS} s")
        assert self._holder.stdout.readline() == b"ready\n"

    @property
    def namespace(self) -> str:
        """Process whose network namespace is that of the host."""
        return str(self._holder.pid)

    def inside(self, *command: str) -> list[str]:
        """Command line that runs a command on this host, and ends with the tests."""
        enter = ["nsenter", f"--target={self.namespace}", "--net", "--mount"]
        return ["setpriv", "--pdeathsig", "KILL", *enter, *command]

    def run(self, *command: str) -> str:
        """Run a short command on this host; return what it printed."""
        done = subprocess.run(
            self.inside(*command), capture_output=True, text=True, timeout=READY_SECONDS
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, *command: str, log: Path, **environment: str) -> subprocess.Popen[Any]:
        """Start a process on this host that appends its output to a file."""
        with log.open("a") as output:
            process = subprocess.Popen(
                self.inside(*command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **environment},
            )
        self.processes.append(process)
        return process

    def signal(self, number: int) -> None:
        """Send a signal to all processes of this host, and to their children."""
        for process in self.processes:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)

    def kill(self) -> None:
        """Kill all processes of this host."""
        self.signal(signal.SIGKILL)
        for process in self.processes:
            process.wait(READY_SECONDS)
        self.processes.clear()


class Network:
    """Hosts behind one switch.

    Parameters
    ----------
    stack : ExitStack
        It removes the network.
    folder : Path
        Folder for the scratch spaces of the hosts.
    scratch_sizes : sequence of str
        Size of the scratch space of each host.
    """

    def __init__(self, stack: ExitStack, folder: Path, *scratch_sizes: str) -> None:
        self.switch = Host(stack, 254, folder / SWITCH, "64k")
        self.switch.run("ip", "link", "add", "bridge", "type", "bridge")
        self.switch.run("ip", "link", "set", "bridge", "up")
        self.hosts = []
        for number, size in enumerate(scratch_sizes, 1):
            host = Host(stack, number, folder / f"scratch{number}", size)
            peer = ["peer", "name", "eth0", "netns", host.namespace]
            self.switch.run("ip", "link", "add", host.port, "type", "veth", *peer)
            self.switch.run("ip", "link", "set", host.port, "master", "bridge", "up")
            host.run("ip", "address", "add", f"{host.address}/24", "dev", "eth0")
            host.run("ip", "link", "set", "eth0", "up")
            self.hosts.append(host)

    def cut(self, host: Host) -> None:
        """Take the cable of a host out of the switch."""
        self.switch.run("ip", "link", "set", host.port, "down")

    def heal(self, host: Host) -> None:
        """Put the cable back."""
        self.switch.run("ip", "link", "set", host.port, "up")


@contextmanager
def network_in(folder: Path, *scratch_sizes: str) -> Iterator[Network]:
    """Hosts that are removed at the end, with all that runs in them."""
    with ExitStack() as stack:
        yield Network(stack, folder, *scratch_sizes)


def until(true: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until a condition holds, or fail and say what was waited for."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:g} s: {what}")
        time.sleep(0.05)
