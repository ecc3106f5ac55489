"""What the tests of the deployments need: installed by name, or a failure that says why not."""

import fcntl
import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROXY = "configurable-http-proxy"
ROOT = Path(__file__).parents[3]
INSTALL_SECONDS = 300


def install(*names: str) -> None:
    """Install packages of Python into the running environment, those that are not there."""
    with _alone():
        missing = [name for name in names if not _is_installed(name.partition("[")[0])]
        if missing:
            _run([sys.executable, "-m", "pip", "install", "--quiet", *missing])
            importlib.invalidate_caches()


@contextmanager
def _alone() -> Iterator[None]:
    """Let no other process of the tests install at the same time."""
    with Path(sys.prefix, "wavedask-deploy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def debian(**packages: str) -> None:
    """Install the packages of Debian whose commands are missing: ``debian(sbatch="slurm-wlm")``."""
    with _alone():
        missing = sorted({package for name, package in packages.items() if not shutil.which(name)})
        if not missing:
            return
        command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
        if subprocess.run(command, capture_output=True, timeout=INSTALL_SECONDS).returncode:
            # Its lists of packages may be missing or old.
            _run(["apt-get", "update"])
            _run(command)


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def http_proxy() -> Path:
    """JupyterHub's proxy, a program of Node.js; kept in the environment of Python."""
    prefix = Path(sys.prefix, "share", PROXY)
    command = prefix / "node_modules" / ".bin" / PROXY
    debian(npm="npm")
    with _alone():
        if not command.exists():
            _run(["npm", "install", "--silent", "--prefix", str(prefix), PROXY])
    return command


def _run(command: list[str]) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALL_SECONDS, env=environment
    )
    if done.returncode:
        pytest.fail(f"{' '.join(command)} failed:\n{(done.stderr or done.stdout)[-3000:]}")
