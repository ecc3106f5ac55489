"""Nobody but its owner can use a cluster that is started here."""

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster, Security

from wavedask.compute.cluster import local_client
from wavedask.compute.connection import connect

NOBODY = 65534
AT_MOST = 240.0

root_only = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be another user"
)


def tried(user: int, address: str, ports: list[int]) -> dict[str, Any]:
    """What a user could do with the cluster at an address."""
    script = Path(__file__).parents[1] / "support" / "intruder.py"
    ended = subprocess.run(
        [sys.executable, str(script), str(user), address, *map(str, ports)],
        capture_output=True,
        text=True,
        timeout=AT_MOST,
        check=True,
    )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def listening_ports(processes: list[int]) -> list[int]:
    """TCP ports on which processes listen."""
    sockets = set()
    for process in processes:
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            try:
                target = str(descriptor.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    listening = "0A"
    return sorted(
        {int(f[1].split(":")[1], 16) for f in fields if f[3] == listening and f[9] in sockets}
    )


@root_only
def test_another_user_cannot_use_the_cluster() -> None:
    with local_client(1) as client:
        address = client.scheduler_info()["address"]
        assert address.startswith("tls://127.0.0.1:")
        worker = next(iter(client.run(os.getpid).values()))
        ports = listening_ports([os.getpid(), worker])
        assert len(ports) >= 3
        found = tried(NOBODY, address, ports)
        assert found["pages"] == []
        for attempt in ("plain", "own certificate", "no certificate"):
            assert isinstance(found[attempt], str), f"{attempt}: ran as user {found[attempt]}"
        # The key is in memory alone: not in an argument list, not in an environment.
        for process in (os.getpid(), worker):
            for where in ("cmdline", "environ"):
                assert b"PRIVATE KEY" not in Path(f"/proc/{process}/{where}").read_bytes()
        assert client.submit(sum, [1, 2]).result(timeout=AT_MOST) == 3


@root_only
def test_the_same_attempt_succeeds_where_nothing_is_protected() -> None:
    with (
        LocalCluster(
            n_workers=1,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        ports = [cluster.scheduler.http_server.port]
        found = tried(NOBODY, client.scheduler_info()["address"], ports)
        # The scheduler runs the code of that user as its own.
        assert found["plain"] == os.getuid()
        assert found["pages"]


def test_a_certificate_is_made_fast() -> None:
    Security.temporary()  # the first one imports cryptography
    taken = []
    for _ in range(5):
        begin = time.process_time()
        Security.temporary()
        taken.append(time.process_time() - begin)
    assert min(taken) < 0.3


def test_a_scheduler_without_authentication_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with LocalCluster(
        n_workers=0,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        with caplog.at_level(logging.WARNING, "wavedask"):
            for _ in range(2):
                with connect(cluster.scheduler_address):
                    pass
        told = [record.getMessage() for record in caplog.records if record.name == "wavedask"]
        assert len(told) == 1
        assert "has no authentication" in told[0]
        assert cluster.scheduler_address in told[0]
