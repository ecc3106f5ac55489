"""Servers of a test: started in a process group of their own, awaited with a bound, and ended."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

END_SECONDS = 15.0
"""Time that a server has to end in order, with what it has started, before it is killed."""


def free_ports(count: int) -> list[int]:
    """Free ports of the loopback interface, all different.

    Another program may take one before the server does. The kernel hands out ephemeral ports at
    random, so this is rare; the server then ends, and the test says what it printed.
    """
    with ExitStack() as stack:
        ports = []
        for _ in range(count):
            one = stack.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            ports.append(one.getsockname()[1])
    return ports


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str],
    ready: Callable[[], bool],
    seconds: float = 60,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server while the body runs; fail with its log if it does not become ready."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=log.parent,
            start_new_session=True,
        ) as process,
    ):
        try:
            deadline = time.monotonic() + seconds
            while not ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    ended = f"ended with {process.poll()}" if process.returncode else "is not ready"
                    pytest.fail(f"{command[0]} {ended}:\n{log.read_text()[-4000:]}")
                time.sleep(0.1)
            yield process
        finally:
            end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a server and everything that it has started, also in other process groups."""
    family = descendants(process.pid)
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    for one in [*family, *descendants(process.pid)]:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(family, timeout=5)
    process.kill()


def descendants(pid: int) -> list[psutil.Process]:
    """Processes that one has started, and those that they have started."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def listening(pid: int) -> dict[str, set[int]]:
    """Addresses, with their ports, on which a process and its descendants accept connections."""
    found: dict[str, set[int]] = {}
    for one in [psutil.Process(pid), *descendants(pid)]:
        with suppress(psutil.NoSuchProcess):
            for connection in one.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    found.setdefault(connection.laddr.ip, set()).add(connection.laddr.port)
    return found


def environment(**changes: str) -> dict[str, str]:
    """Environment of a server: that of the test, without what would point it elsewhere."""
    others = ("DASK_", "JUPYTERHUB_", "WAVEDASK_", "PYTEST_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return kept | changes
