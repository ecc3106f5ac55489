"""A real Dask Gateway server, with the configuration of deploy/gateway, for tests."""

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.support.needs import ROOT
from deploy.support.processes import environment, free_ports, running

CONFIG = ROOT / "deploy" / "gateway" / "dask_gateway_config.py"
PASSWORD = "loopback-only-password"
SERVER = Path(sys.prefix, "bin", "dask-gateway-server")


@dataclass(frozen=True)
class GatewayServer:
    """Where a server is, and what it has printed."""

    address: str
    pid: int
    log: Path


def answers(url: str) -> bool:
    """Say whether a web server answers without an error."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def gateway_server(folder: Path, *settings: str) -> Iterator[GatewayServer]:
    """Run a server with one password while the body runs; `settings` are lines of configuration."""
    password = folder / "password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o600)
    config = folder / "config.py"
    lines = ["c = get_config()", f"load_subconfig({str(CONFIG)!r})", *settings]
    config.write_text("\n".join(lines) + "\n")
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    with running(
        [SERVER, "-f", config],
        log=folder / "gateway.log",
        environment=environment(
            WAVEDASK_GATEWAY_ADDRESS=f"127.0.0.1:{port}",
            WAVEDASK_GATEWAY_PASSWORD_FILE=str(password),
            PYTHONPATH=str(ROOT),
            PATH=os.pathsep.join([str(SERVER.parent), os.environ["PATH"]]),
        ),
        ready=lambda: answers(f"{address}/api/health"),
    ) as process:
        yield GatewayServer(address, process.pid, folder / "gateway.log")
