"""What the tests of the deployments need: installed by name, or a failure that says why not."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

PROXY = "configurable-http-proxy"
ROOT = Path(__file__).parents[3]
INSTALL_SECONDS = 300


def install(*names: str) -> None:
    """Install packages of Python into the running environment, those that are not there."""
    with FileLock(Path(sys.prefix, "wavedask-deploy.lock"), timeout=INSTALL_SECONDS):
        missing = [name for name in names if not _is_installed(name.partition("[")[0])]
        if missing:
            _run([sys.executable, "-m", "pip", "install", "--quiet", *missing])


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
    with FileLock(Path(sys.prefix, "wavedask-deploy.lock"), timeout=INSTALL_SECONDS):
        if not command.exists():
            npm = shutil.which("npm")
            if npm is None:
                pytest.fail("npm is missing: install Node.js (apt-get install npm)")
            _run([npm, "install", "--silent", "--prefix", str(prefix), PROXY])
    return command


def _run(command: list[str]) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALL_SECONDS, env=environment
    )
    if done.returncode:
        pytest.fail(f"{' '.join(command)} failed:\n{(done.stderr or done.stdout)[-3000:]}")
