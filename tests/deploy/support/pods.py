"""Containers of manifests as processes: command, environment and volumes are the manifest's.

A container becomes a process in a mount namespace of its own. Its root file system is read-only,
its folders are those that the manifest mounts, its user has no capabilities and can get none. What
must differ from Kubernetes: folders and ports have other names, and everything listens on loopback.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import wavedask

LOOPBACK: Final = "127.0.0.1"
SERVERS: Final = (["dask", "scheduler"], ["dask", "worker"])
"""Beginning of the commands that listen."""

SANDBOX: Final = """
set -eu
readonly=$1 writable=$2
shift 2
for folder in $writable; do mount --bind "$folder" "$folder"; done
for folder in $readonly; do
    mount --bind "$folder" "$folder"
    mount -o remount,bind,ro "$folder"
done
mount -o remount,bind,ro /
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
"""
"""Makes the root file system read-only, but for the folders in $2, and drops all capabilities."""


def free_port() -> int:
    """Return a port of loopback that nobody uses now."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])


@dataclass
class Pod:
    """A container of a manifest that runs as a process.

    Parameters
    ----------
    container : dict
        The container.
    names : mapping
        What to write instead of parts of arguments and of environment variables.
    folders : mapping
        Folder of this machine of each mounted path.
    log : Path
        File of its output.
    """

    container: dict[str, Any]
    names: Mapping[str, str]
    folders: Mapping[str, Path]
    log: Path
    ports: dict[str, int] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def environment(self) -> dict[str, str]:
        """Environment of the container: the manifest's, and where the programs are."""
        given = {each["name"]: each["value"] for each in self.container.get("env", [])}
        programs = os.pathsep.join((str(Path(sys.executable).parent), os.defpath))
        code = Path(wavedask.__file__).parents[1]
        return {"PATH": programs, "PYTHONPATH": str(code)} | {
            name: self._translated(value) for name, value in given.items()
        }

    def command(self) -> list[str]:
        """Return the arguments, as Kubernetes expands them, with the names of this machine."""
        environment = self.environment
        words = [
            re.sub(r"\$\((\w+)\)", lambda match: environment[match[1]], self._translated(word))
            for word in self.container["args"]
        ]
        return [*words, f"--host={LOOPBACK}"] if words[:2] in SERVERS else words

    def _translated(self, text: str) -> str:
        for path, folder in self.folders.items():
            text = re.sub(rf"(^|=){re.escape(path)}(?=/|$)", rf"\g<1>{folder}", text)
        for name, other in self.names.items():
            text = text.replace(name, other)
        for port in self.container.get("ports", []):
            number = port["containerPort"]
            own = self.ports.setdefault(port["name"], free_port())
            text = re.sub(rf"=:{number}$", f"={LOOPBACK}:{own}", text)
            text = re.sub(rf"={number}$", f"={own}", text)
        return text

    def sandboxed(self, command: list[str]) -> list[str]:
        """Return a command that runs as this container would run it."""
        mounts = {mount["mountPath"]: mount for mount in self.container["volumeMounts"]}
        readonly, writable = (
            " ".join(
                str(self.folders[path])
                for path, mount in mounts.items()
                if bool(mount.get("readOnly")) is wanted
            )
            for wanted in (True, False)
        )
        unshare = ["unshare", "--mount", "--propagation=private", "--"]
        return [*unshare, "sh", "-c", SANDBOX, "sandbox", readonly, writable, *command]

    def run(self, command: list[str], *, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
        """Run another command in this container, and wait for its end."""
        return subprocess.run(
            self.sandboxed(command),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, entrypoint: Path, **environment: str) -> None:
        """Start the container by the entry point of the image."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.sandboxed(["sh", str(entrypoint), *self.command()]),
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ended(self, *, seconds: float) -> int:
        """Wait for the end of the container; return its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:g} s:\n{self.said()}") from None

    def said(self) -> str:
        """Output of the container until now."""
        return self.log.read_text(errors="replace")

    def url(self, port: str, path: str) -> str:
        """Address of a page of the container."""
        return f"http://{LOOPBACK}:{self.ports[port]}{path}"

    def until_ready(self, *, seconds: float = 120) -> None:
        """Wait as Kubernetes does: until the readiness probe succeeds."""
        probe = self.container["readinessProbe"]["httpGet"]
        assert self.process is not None
        end = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(self.url(probe["port"], probe["path"]), timeout=5):
                    return  # any other status than 200 raises
            except OSError as error:
                state = self.process.poll()
                if state is not None or time.monotonic() > end:
                    raise AssertionError(f"{error}; exit code {state}\n{self.said()}") from None
            time.sleep(0.1)

    def stop(self, *, seconds: float) -> int:
        """End the container as Kubernetes does; return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.ended(seconds=seconds)

    def kill(self) -> None:
        """End whatever of the container is left."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)


@contextmanager
def cleaned(pods: list[Pod]) -> Iterator[None]:
    """Leave none of these containers behind."""
    with ExitStack() as stack:
        for pod in pods:
            stack.callback(pod.kill)
        yield
