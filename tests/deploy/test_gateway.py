"""A Dask Gateway that is really running: its limits, its errors, and a worker that is killed."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dask
import pytest
import xarray as xr
import yaml
from dask.distributed import futures_of, wait
from deploy.support.gateway import CONFIG, PASSWORD, SERVER, GatewayServer, gateway_server
from deploy.support.needs import ROOT, install
from deploy.support.processes import descendants, environment, listening

import wavedask as wd
from wavedask.compute.kinds import gateway as kind
from wavedask.errors import ClusterError, InputError

pytestmark = pytest.mark.deploy

KUBERNETES = ROOT / "deploy" / "jupyterhub" / "daskhub-values.yaml"
WORKERS = 2
FILE = "WAVEDASK_GATEWAY_PASSWORD_FILE"
SECONDS = 60
"""How long to wait for anything here, at most."""

LIMITS = (
    "c.UserLimits.clusters_per_user = 1",
    f"c.ClusterConfig.cluster_max_cores = {WORKERS + 1}",
    # One more installation, which a site has removed without saying so.
    "import sys",
    "from dask_gateway_server.options import Options, Select",
    "given = c.Backend.cluster_options",
    "choice = Select('installation', [('here', sys.prefix), ('removed', '/nonexistent')])",
    "c.Backend.cluster_options = Options(*given.fields[:2], choice, handler=given.handler)",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayServer]:
    install("dask-gateway", "dask-gateway-server[local]", "bokeh")
    with gateway_server(tmp_path_factory.mktemp("gateway"), *LIMITS) as running:
        yield running


@contextmanager
def user(name: str, password: str = PASSWORD) -> Iterator[None]:
    """Be a user of the gateway while the body runs."""
    login = {"username": name, "password": password}
    with dask.config.set({"gateway.auth.type": "basic", "gateway.auth.kwargs": login}):
        yield


def connect(server: GatewayServer, **settings: Any) -> Any:
    """Connect as a user does, with a shorter patience."""
    return wd.connect(
        "gateway",
        **{"address": server.address, "workers": WORKERS, "wait": SECONDS, **settings},
    )


def tracking(folder: Path, repeated: int = 1) -> xr.Dataset:
    """Displacements of a small campaign, one block per frame."""
    sample, reference, dark, flat = (
        wd.open_scan(folder / "raw" / f"{name}_*.edf")
        for name in ("sample", "reference", "dark", "flat")
    )
    image, target = (wd.correct(scan, dark=dark, flat=flat) for scan in (sample, reference))
    image = xr.concat([image] * repeated, "frame").chunk(frame=1)
    return wd.track(image, target, window=15, search=8)


def test_a_campaign_has_the_same_bits_as_in_threads_also_when_a_worker_is_killed(
    server: GatewayServer, raw: Path
) -> None:
    work = tracking(raw, repeated=8)
    with wd.connect("threads", workers=2):
        expected = work.compute()
    with user("killed"), connect(server) as client:
        client.wait_for_workers(WORKERS, timeout=SECONDS)
        processes = client.run(os.getpid)
        held = client.persist(work)
        wait(futures_of(held), timeout=SECONDS, return_when="FIRST_COMPLETED")
        victim = _busy(client)
        os.killpg(os.getpgid(processes[victim]), signal.SIGKILL)
        assert not all(future.done() for future in futures_of(held))
        found = held.compute()
        xr.testing.assert_identical(found, expected)
        # The gateway starts another one: its nanny has died, too.
        client.wait_for_workers(WORKERS, timeout=SECONDS)
        assert victim not in client.run(os.getpid)
        name = _name(client)
    assert name not in _clusters(server, "killed")


def _busy(client: Any) -> str:
    """Address of a worker that is computing."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for address, tasks in client.processing().items():
            if tasks:
                return str(address)
    pytest.fail("no worker computes")


def _name(client: Any) -> str:
    """Name of the cluster, which the address of its scheduler ends with."""
    return str(client.started.where).rpartition("/")[2]


def _clusters(server: GatewayServer, name: str) -> list[str]:
    """Names of the clusters of a user that have not ended."""
    login = b64encode(f"{name}:{PASSWORD}".encode()).decode()
    request = urllib.request.Request(f"{server.address}/api/v1/clusters/")
    request.add_header("Authorization", f"Basic {login}")
    with urllib.request.urlopen(request, timeout=20) as answer:
        return list(json.load(answer))


def test_a_user_has_one_cluster_and_its_pages_are_seen_only_through_the_proxy(
    server: GatewayServer,
) -> None:
    with user("settled"), connect(server, workers=1) as client:
        name = _name(client)
        page = f"{server.address}/clusters/{name}/status"
        assert client.dashboard_link == page
        with urllib.request.urlopen(page, timeout=20) as answer:
            assert "Dask Diagnostic UI" in answer.read().decode()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(page.replace(name, "0" * 32), timeout=20)
        # Nothing of scheduler and workers can be reached from another machine.
        assert set(listening(server.pid)) == {"127.0.0.1"}

        with pytest.raises(ClusterError, match=rf"settled has 1 of 1 allowed clusters \({name}\)"):
            connect(server)
        with connect(server, cluster=name) as second:
            assert second.submit(sum, [1, 2]).result(timeout=SECONDS) == 3
        with user("nosy"), pytest.raises(ClusterError, match="does not allow"):
            connect(server, cluster=name)
        assert client.submit(sum, [1, 2, 3]).result(timeout=SECONDS) == 6
    end = time.monotonic() + SECONDS
    while len(descendants(server.pid)) > 1 and time.monotonic() < end:
        time.sleep(0.1)
    assert [one.name() for one in descendants(server.pid)] == ["dask-gateway-proxy"]
    with pytest.raises(urllib.error.HTTPError, match=r"404|502"):
        urllib.request.urlopen(page, timeout=20)


def test_a_wrong_password_is_refused(server: GatewayServer) -> None:
    with (
        user("eve", "a guess"),
        pytest.raises(ClusterError, match=r"refuses the user.*GATEWAY__AUTH__KWARGS__PASSWORD"),
    ):
        connect(server)


def test_limits_of_workers_hold(server: GatewayServer) -> None:
    with user("greedy"):
        with pytest.raises(
            ClusterError, match=r"does not give 3 workers: .* resource limit of 2 workers"
        ):
            connect(server, workers=WORKERS + 1)
        with pytest.raises(ClusterError, match=r"worker_cores must be <= 4\.0*, got 64"):
            connect(server, cores=64)
        with pytest.raises(ClusterError, match=r"worker_memory must be <= 16\.0*, got 1024"):
            connect(server, memory="1 TiB")
        with pytest.raises(InputError, match=r"no option wrker_cores.*worker_cores \(default 1\)"):
            connect(server, options={"wrker_cores": 1})
    assert _clusters(server, "greedy") == []


def test_a_cluster_that_cannot_start_is_told_at_once(server: GatewayServer) -> None:
    start = time.monotonic()
    with (
        user("unlucky"),
        pytest.raises(ClusterError, match=r"has not started: the gateway says that .* is failed"),
    ):
        connect(server, options={"installation": "removed"})
    assert time.monotonic() - start < SECONDS / 2


def test_without_an_address_or_with_a_wrong_one_the_error_says_what_to_give(
    monkeypatch: pytest.MonkeyPatch, server: GatewayServer
) -> None:
    with dask.config.set({"gateway.address": None}):
        with pytest.raises(InputError, match="DASK_GATEWAY__ADDRESS"):
            wd.connect("gateway")
        with pytest.raises(InputError, match=r"'gateway\.facility'.*http://host:port"):
            wd.connect("gateway", address="gateway.facility")
    with pytest.raises(ClusterError, match=r"http://127\.0\.0\.1:1 does not answer"):
        wd.connect("gateway", address="http://127.0.0.1:1")
    monkeypatch.setattr(kind, "ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ClusterError, match=r"has not answered within 0\.5 s"):
            wd.connect("gateway", address=address)
    with _web_server() as address, pytest.raises(ClusterError, match="another web server"):
        wd.connect("gateway", address=address)


@contextmanager
def _web_server() -> Iterator[str]:
    """Run a web server that is no gateway."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()
        thread.join()


def test_a_scheduler_that_the_proxy_does_not_show_is_told(
    monkeypatch: pytest.MonkeyPatch, server: GatewayServer
) -> None:
    monkeypatch.setattr(kind, "CONNECT_SECONDS", 1.0)
    with (
        user("lost"),
        pytest.raises(ClusterError, match=r"cannot be reached.*proxy_address"),
    ):
        connect(server, proxy_address="tls://127.0.0.1:1")
    assert _clusters(server, "lost") == []


def test_inside_a_hub_without_its_token_the_error_names_the_token(
    monkeypatch: pytest.MonkeyPatch, server: GatewayServer
) -> None:
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN", raising=False)
    with dask.config.set({"gateway.auth.kwargs": {}}):
        with pytest.raises(InputError, match="JUPYTERHUB_API_TOKEN"):
            connect(server, auth="jupyterhub")
        with pytest.raises(InputError, match="give basic, kerberos or jupyterhub"):
            connect(server, auth="token")


def test_the_settings_for_kubernetes_hold_on_a_server_of_this_machine(tmp_path: Path) -> None:
    install("dask-gateway", "dask-gateway-server[local]")
    values = yaml.safe_load(KUBERNETES.read_text())
    code = values["dask-gateway"]["gateway"]["extraConfig"]["wavedask"]
    # The chart sets the backend before this code runs: Kubernetes there, processes here.
    chosen = "c.DaskGateway.backend_class = 'dask_gateway_server.backends.local.UnsafeLocalBackend'"
    some = {"workers": {"minimum": 0, "maximum": 4}}
    with gateway_server(tmp_path, chosen, code) as here, user("alice"):
        with (
            connect(here, **some, options={"image": "wavedask:0.1.0"}),
            connect(here, **some),
            pytest.raises(ClusterError, match="alice has 2 of 2 allowed clusters"),
        ):
            connect(here, **some)
        with pytest.raises(ClusterError, match="worker_cores must be <= 4"):
            connect(here, cores=5)


def secret(folder: Path, text: str = PASSWORD, mode: int = 0o600) -> dict[str, str]:
    """Write a file with a password; return the variable that names it."""
    file = folder / "password"
    file.write_text(text)
    file.chmod(mode)
    return {FILE: str(file)}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (lambda _: {}, "nobody could log in"),
        (lambda folder: secret(folder, mode=0o640), "others may use the password file"),
        (lambda folder: secret(folder, "secret"), "fewer than 12 characters"),
        (lambda folder: {FILE: str(folder / "none")}, "cannot be read"),
    ],
)
def test_the_configuration_refuses_what_is_unsafe(
    variables: Callable[[Path], dict[str, str]],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    install("dask-gateway-server[local]")
    from traitlets.config.loader import PyFileConfigLoader

    monkeypatch.delenv("JUPYTERHUB_API_TOKEN", raising=False)
    for name, value in variables(tmp_path).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=message):
        PyFileConfigLoader(str(CONFIG)).load_config()


def test_a_server_that_others_reach_does_not_start_without_tls(tmp_path: Path) -> None:
    install("dask-gateway-server[local]")
    given = {**secret(tmp_path), "WAVEDASK_GATEWAY_ADDRESS": "0.0.0.0:0"}
    done = subprocess.run(
        [SERVER, "-f", CONFIG],
        env=environment(PYTHONPATH=str(ROOT), **given),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert "TLS is off" in done.stderr + done.stdout
