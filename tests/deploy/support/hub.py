"""A real JupyterHub, with the configuration of deploy/jupyterhub, and what a browser does there."""

import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from deploy.support.accounts import GROUP, Account, in_namespace, make_accounts
from deploy.support.gateway import answers
from deploy.support.needs import ROOT
from deploy.support.processes import environment, free_ports, running
from numba.core.caching import InTreeCacheLocator
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from wavedask.kernels.warm import warm

if TYPE_CHECKING:
    import httpx  # installed by the tests, after the modules were collected

CONFIG = ROOT / "deploy" / "jupyterhub" / "jupyterhub_config.py"
READY_SECONDS = 90
CELL_SECONDS = 300
CLOSE_SECONDS = 20


@dataclass(frozen=True)
class Hub:
    """Where a hub is, and its users."""

    url: str
    gateway: str
    pid: int
    accounts: dict[str, Account]


@contextmanager
def hub(proxy: Path, passwords: dict[str, str], members: set[str]) -> Iterator[Hub]:
    """Run a hub with its proxy and gateway, for accounts that exist only inside of it."""
    folder = Path(tempfile.mkdtemp(prefix="hub-"))
    try:
        folder.chmod(0o755)  # the users look for their homes in it
        cache = folder / "kernels"
        cache.mkdir()
        accounts = make_accounts(folder, passwords, members)
        for account in accounts.values():
            give_kernels(cache, account)
        public, private, api, gateway = free_ports(4)
        config = folder / "config.py"
        config.write_text(
            f"c = get_config()\nload_subconfig({str(CONFIG)!r})\n"
            f"c.JupyterHub.hub_bind_url = 'http://127.0.0.1:{private}'\n"
            f"c.ConfigurableHTTPProxy.api_url = 'http://127.0.0.1:{api}'\n"
        )
        url = f"http://127.0.0.1:{public}"
        command: list[str | Path] = [sys.executable, "-m", "jupyterhub", "-f", config]
        node = Path(shutil.which("node") or "/usr/bin/node").resolve()
        needed = [Path(sys.prefix), Path(sys.base_prefix), ROOT, node.parents[1]]
        with running(
            in_namespace(command, folder, needed),
            log=folder / "hub.log",
            environment=environment(
                WAVEDASK_HUB_URL=url,
                WAVEDASK_HUB_GROUP=GROUP,
                WAVEDASK_HUB_STATE=str(folder / "state"),
                WAVEDASK_HUB_PROXY=str(proxy),
                WAVEDASK_NODE_CACHE=str(cache),
                WAVEDASK_GATEWAY_ADDRESS=f"127.0.0.1:{gateway}",
                PYTHONPATH=str(ROOT),
            ),
            ready=lambda: (
                answers(f"{url}/hub/health") and answers(f"http://127.0.0.1:{gateway}/api/health")
            ),
            seconds=READY_SECONDS,
        ) as process:
            yield Hub(url, f"http://127.0.0.1:{gateway}", process.pid, accounts)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def give_kernels(root: Path, account: Account) -> None:
    """Give a user the kernels that are compiled already: the tests need not wait for that."""
    warm()
    folder = root / f"wavedask-kernels-{account.number}"
    for file in (ROOT / "wavedask").rglob("__pycache__/*.nb[ci]"):
        source = file.parents[1] / "any.py"
        name = InTreeCacheLocator.get_suitable_cache_subpath(str(source))
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, place)
    for one in (folder, *folder.rglob("*")):
        os.chown(one, account.number, account.number)
    folder.chmod(0o700)


class Browser:
    """The requests of one user's browser: cookies, the login form, redirects."""

    def __init__(self, url: str) -> None:
        import httpx

        self.url = url
        self.http = httpx.Client(base_url=url, timeout=30, follow_redirects=True)

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def login(self, name: str, password: str) -> "httpx.Response":
        """Fill in the form of the hub."""
        page = self.http.get("/hub/login")
        found = re.search(r'name="_xsrf" value="([^"]*)"', page.text)
        assert found, page.text
        form = {"username": name, "password": password, "_xsrf": found[1]}
        return self.http.post("/hub/login", data=form, follow_redirects=False)

    def token(self, name: str) -> str:
        """Make a token as on the hub's token page, which a program can use."""
        page = self.http.get("/hub/token")
        found = re.search(r'xsrf_token: "([^"]*)"', page.text)
        assert found, page.text
        answer = self.http.post(
            f"/hub/api/users/{name}/tokens",
            json={"note": "test", "expires_in": 600},
            headers={"X-XSRFToken": found[1]},
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])


def clusters(hub: Hub, token: str) -> list[str]:
    """Names of the clusters that the gateway shows to the owner of a token."""
    import httpx

    headers = {"Authorization": f"jupyterhub {token}"}
    answer = httpx.get(f"{hub.gateway}/api/v1/clusters/", headers=headers, timeout=20)
    answer.raise_for_status()
    return list(answer.json())


@asynccontextmanager
async def web_socket(
    request: HTTPRequest, protocols: Sequence[str] = ()
) -> AsyncIterator[WebSocketClientConnection]:
    """Open a web socket, and wait at the end until its connection is closed.

    `close` only begins to close it: both sides say so. An event loop that ends before leaves the
    socket open until the garbage collector finds it, in the middle of any later test.
    """
    socket = await websocket_connect(request, subprotocols=list(protocols) or None)
    try:
        yield socket
    finally:
        socket.close()

        async def ended() -> None:
            while await socket.read_message() is not None:
                pass

        await asyncio.wait_for(ended(), CLOSE_SECONDS)


class Server:
    """The API of a user's notebook server, behind the hub's proxy."""

    def __init__(self, url: str, name: str, token: str) -> None:
        import httpx

        self.url, self.name, self.token = url, name, token
        self.headers = {"Authorization": f"token {token}"}
        self.http = httpx.Client(base_url=url, timeout=30, headers=self.headers)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def start(self) -> None:
        """Ask the hub for the server, and wait for it."""
        answer = self.http.post(f"/hub/api/users/{self.name}/server", json={})
        assert answer.status_code in (201, 202), answer.text
        deadline = time.monotonic() + READY_SECONDS
        while not self.http.get(f"/hub/api/users/{self.name}").json()["servers"][""]["ready"]:
            if time.monotonic() > deadline:
                pytest.fail(f"the server of {self.name} is not ready")
            time.sleep(0.2)

    def notebook(self, path: str) -> list[str]:
        """Code cells of a notebook in the user's home."""
        answer = self.http.get(f"/user/{self.name}/api/contents/{path}")
        assert answer.status_code == 200, answer.text
        cells = answer.json()["content"]["cells"]
        return [cell["source"] for cell in cells if cell["cell_type"] == "code"]

    def run(self, path: str, cells: list[str]) -> list[str]:
        """Run cells in a new kernel; return what each has printed and shown."""
        session = {"path": path, "type": "notebook", "name": path, "kernel": {"name": "python3"}}
        answer = self.http.post(f"/user/{self.name}/api/sessions", json=session)
        assert answer.status_code == 201, answer.text
        return asyncio.run(self._run(answer.json()["kernel"]["id"], cells))

    def end_kernels(self) -> None:
        """Close all notebooks."""
        for kernel in self.http.get(f"/user/{self.name}/api/kernels").json():
            self.http.delete(f"/user/{self.name}/api/kernels/{kernel['id']}").raise_for_status()

    async def _run(self, kernel: str, cells: list[str]) -> list[str]:
        address = self.url.replace("http://", "ws://")
        place = f"{address}/user/{self.name}/api/kernels/{kernel}/channels"
        request = HTTPRequest(place, headers=self.headers, connect_timeout=30)
        async with web_socket(request) as socket:
            return [await self._cell(socket, code) for code in cells]

    async def _cell(self, socket: Any, code: str) -> str:
        header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "version": "5.3"}
        header |= {"username": self.name, "session": "test", "date": ""}
        content = {"code": code, "silent": False, "store_history": True, "stop_on_error": True}
        content |= {"user_expressions": {}, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        await socket.write_message(json.dumps({**message, "channel": "shell", "buffers": []}))
        said = ""
        deadline = time.monotonic() + CELL_SECONDS
        while True:
            left = deadline - time.monotonic()
            text = await asyncio.wait_for(socket.read_message(), max(left, 0.1))
            assert text is not None, f"the kernel's connection was closed in:\n{code}"
            answer = json.loads(text)
            if answer["parent_header"].get("msg_id") != header["msg_id"]:
                continue
            kind, found = answer["msg_type"], answer["content"]
            if kind == "stream":
                said += found["text"]
            elif kind == "execute_result":
                said += found["data"]["text/plain"]
            elif kind == "error":
                pytest.fail(f"{code}\n{said}\n" + "\n".join(found["traceback"]))
            elif kind == "status" and found["execution_state"] == "idle":
                return said
