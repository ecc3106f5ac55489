"""A JupyterHub that is really running: accounts, notebooks, workers on its gateway, dashboards."""

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from deploy.support.hub import CONFIG, Browser, Hub, Server, clusters, hub, web_socket
from deploy.support.needs import debian, http_proxy, install
from deploy.support.processes import listening
from support.commands import until
from tornado.httpclient import HTTPRequest

pytestmark = [
    pytest.mark.deploy,
    pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0,
        reason="the hub changes to the accounts of its users, which only root may do",
    ),
]

PASSWORDS = {"alice": "a lens of beryllium", "bob": "a sheet of sandpaper", "carol": "no beamtime"}
MEMBERS = {"alice", "bob"}
NOTEBOOK = "first_light.ipynb"
SMALL = ("side, pixel_size = 384,", "side, pixel_size = 192,")
"""Cells of the notebook compute on a quarter of the pixels here."""


@dataclass(frozen=True)
class Session:
    """What several tests share: a user with a running server."""

    hub: Hub
    browser: Browser
    server: Server


@pytest.fixture(scope="module")
def running() -> Iterator[Hub]:
    install("jupyterhub", "jupyterlab", "jupyter-server-proxy", "jupytext", "ipykernel", "bokeh")
    install("dask-gateway", "dask-gateway-server[local]", "httpx")
    debian(openssl="openssl", unshare="util-linux")
    with hub(http_proxy(), PASSWORDS, MEMBERS) as found:
        yield found


@pytest.fixture(scope="module")
def alice(running: Hub) -> Iterator[Session]:
    with Browser(running.url) as browser:
        answer = browser.login("alice", PASSWORDS["alice"])
        assert answer.headers["location"] == "/hub/spawn"
        with Server(running.url, "alice", browser.token("alice")) as server:
            server.start()
            yield Session(running, browser, server)


def test_only_the_password_of_a_member_opens_the_hub(running: Hub) -> None:
    with Browser(running.url) as browser:
        assert browser.http.get("/user/alice/lab").url.path == "/hub/login"
        assert browser.login("alice", PASSWORDS["bob"]).status_code == 403
        assert browser.login("carol", PASSWORDS["carol"]).status_code == 403
        assert browser.http.get("/hub/home").url.path == "/hub/login"


def test_a_notebook_runs_on_the_gateway_and_its_dashboard_needs_the_login(
    alice: Session,
) -> None:
    account = alice.hub.accounts["alice"]
    cells = alice.server.notebook(f"wavedask/{NOTEBOOK}")
    assert cells[1].startswith('client = wd.connect("gateway")')
    small = [cell.replace(*SMALL) for cell in cells]
    assert small != cells
    where = (
        "import os\nprint(client.dashboard_link, os.getuid(), set(client.run(os.getuid).values()))"
    )
    said = alice.server.run(f"wavedask/{NOTEBOOK}", [*small, where])

    # The notebook wrote a store of three frames, computed by processes of this user.
    assert any("3 frames, 3 computed now" in one for one in said)
    page, user, workers = said[-1].split()
    assert (user, workers) == (str(account.number), f"{{{account.number}}}")
    assert (account.home / "wavedask" / NOTEBOOK).stat().st_uid == account.number

    assert page.startswith("/user/alice/proxy/")
    seen = alice.browser.http.get(page)
    assert (seen.status_code, seen.url.path) == (200, page)
    assert "Dask Diagnostic UI" in seen.text
    assert asyncio.run(_streams(alice, page))
    with Browser(alice.hub.url) as nobody:
        assert nobody.http.get(page).url.path == "/hub/login"
        assert nobody.http.get(page.replace("/user/alice/proxy", "/proxy")).status_code == 404
    with Browser(alice.hub.url) as bob:
        bob.login("bob", PASSWORDS["bob"])
        assert bob.http.get(page).status_code == 403
        # The gateway knows who asks.
        assert clusters(alice.hub, bob.token("bob")) == []
    assert len(clusters(alice.hub, alice.server.token)) == 1
    # Hub, proxies, servers, schedulers and workers: none can be reached from another machine.
    assert set(listening(alice.hub.pid)) == {"127.0.0.1"}

    # The notebook has not closed its client: the end of the kernel stops the workers.
    alice.server.end_kernels()
    until(lambda: clusters(alice.hub, alice.server.token) == [], seconds=60)


async def _streams(alice: Session, page: str) -> bool:
    """Say whether the plots of a dashboard get their data: it comes by a web socket."""
    place = f"{alice.hub.url.replace('http', 'ws', 1)}{page}/ws"
    request = HTTPRequest(place, headers=alice.server.headers, connect_timeout=20)
    async with web_socket(request, ["bokeh", _bokeh_token(alice, page)]) as socket:
        first = await asyncio.wait_for(socket.read_message(), 20)
        return first is not None and json.loads(first)["msgtype"] == "ACK"


def _bokeh_token(alice: Session, page: str) -> str:
    text = alice.browser.http.get(page).text
    return str(text.split('"token":"', 1)[1].split('"', 1)[0])


def test_the_server_of_another_user_is_out_of_reach_and_a_false_token_is_refused(
    alice: Session,
) -> None:
    import httpx

    with Browser(alice.hub.url) as browser:
        browser.login("bob", PASSWORDS["bob"])
        assert browser.http.get("/user/alice/lab").status_code == 403
        assert browser.http.get("/user/alice/api/contents").status_code == 403
        assert browser.http.get("/hub/api/users/alice").status_code in (403, 404)
        with Server(alice.hub.url, "alice", browser.token("bob")) as foreign:
            assert foreign.http.get("/user/alice/api/contents").status_code in (403, 404)
            assert foreign.http.post("/hub/api/users/alice/server").status_code in (403, 404)
    # The gateway asks the hub, which refuses.
    with pytest.raises(httpx.HTTPStatusError, match="500"):
        clusters(alice.hub, "0123456789abcdef")
    assert httpx.get(f"{alice.hub.gateway}/api/v1/clusters/").status_code == 401


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nobody could log in"),
        ({"WAVEDASK_HUB_GROUP": "no-such-group"}, "this system has no such group"),
        (
            {"WAVEDASK_HUB_GROUP": "root", "WAVEDASK_HUB_URL": "http://0.0.0.0:0"},
            "would send passwords in plain text",
        ),
        (
            {"WAVEDASK_HUB_GROUP": "root", "WAVEDASK_HUB_URL": "https://0.0.0.0:0"},
            "needs WAVEDASK_HUB_CERTIFICATE and WAVEDASK_HUB_KEY",
        ),
    ],
)
def test_the_configuration_refuses_what_is_unsafe(
    settings: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install("traitlets")
    from traitlets.config.loader import PyFileConfigLoader

    for name, value in {**settings, "WAVEDASK_HUB_STATE": str(tmp_path / "state")}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=message):
        PyFileConfigLoader(str(CONFIG)).load_config()
    assert not (tmp_path / "state").exists()
