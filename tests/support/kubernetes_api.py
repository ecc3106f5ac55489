"""A server on loopback that answers as the API server of Kubernetes does, for one namespace.

It keeps what is created, lists it by name and by labels, and refuses what it is told to refuse, and
what the Role of deploy/kubernetes does not allow. There is no operator and no node behind it: a
test writes their part.
"""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Resource = dict[str, Any]

ROLE = Path(__file__).parents[2] / "deploy" / "kubernetes" / "user-role.yaml"
VERBS = {"GET": "list", "POST": "create", "DELETE": "delete"}

PLURALS = {
    "daskclusters": "DaskCluster",
    "daskautoscalers": "DaskAutoscaler",
    "networkpolicies": "NetworkPolicy",
    "deployments": "Deployment",
    "services": "Service",
    "pods": "Pod",
}


@dataclass
class Server:
    """What the server has, and what it refuses.

    Parameters
    ----------
    refused : dict
        Status and message by method and kind, such as ``("POST", "NetworkPolicy")``.
    """

    namespace: str = "beamline"
    url: str = ""
    resources: list[Resource] = field(default_factory=list)
    refused: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)

    def add(self, kind: str, name: str, labels: dict[str, str], **content: Any) -> Resource:
        """Add a resource as the operator or a node would."""
        metadata = {"name": name, "namespace": self.namespace, "labels": labels}
        resource = {"kind": kind, "metadata": metadata, **content}
        self.resources.append(resource)
        return resource

    def names(self, kind: str) -> list[str]:
        """Names of the resources of a kind."""
        return [each["metadata"]["name"] for each in self.resources if each["kind"] == kind]

    def kubeconfig(self, folder: Path) -> Path:
        """Write a kubeconfig for this server."""
        file = folder / "kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {"token": "secret"}}],
            "contexts": [
                {
                    "name": "here",
                    "context": {"cluster": "here", "user": "me", "namespace": self.namespace},
                }
            ],
        }
        file.write_text(yaml.safe_dump(content))
        file.chmod(0o600)
        return file

    def _allowed(self, group: str, plural: str, verb: str) -> bool:
        rules = yaml.safe_load(ROLE.read_text())["rules"]
        return any(
            group in rule["apiGroups"] and plural in rule["resources"] and verb in rule["verbs"]
            for rule in rules
        )

    def answer(self, method: str, target: str, body: Resource) -> tuple[int, Resource]:
        """Answer a request."""
        address = urlsplit(target)
        parts = address.path.strip("/").split("/")
        if parts[-1] == "version":
            return 200, {"major": "1", "minor": "35", "gitVersion": "v1.35.0"}
        here = parts.index("namespaces") + 2
        assert parts[here - 1] == self.namespace, target
        kind = PLURALS[parts[here]]
        group = "" if parts[0] == "api" else parts[1]
        if not self._allowed(group, parts[here], VERBS[method]):
            return 403, {"kind": "Status", "message": f"the role forbids {method} {kind}"}
        if (method, kind) in self.refused:
            status, message = self.refused[method, kind]
            return status, {"kind": "Status", "message": message, "code": status}
        if method == "POST":
            body["metadata"]["uid"] = str(uuid.uuid4())
            self.resources.append(body)
            return 201, body
        if method == "DELETE":
            self.resources = [
                each for each in self.resources if each["metadata"]["name"] != parts[here + 1]
            ]
            return 200, {"kind": "Status", "status": "Success"}
        query = parse_qs(address.query)
        wanted = [each for each in self.resources if each["kind"] == kind and _fits(each, query)]
        return 200, {"kind": f"{kind}List", "items": wanted, "metadata": {}}


def _fits(resource: Resource, query: dict[str, list[str]]) -> bool:
    metadata = resource["metadata"]
    known = {"metadata.name": metadata["name"], **metadata.get("labels", {})}
    selectors = [*query.get("fieldSelector", []), *query.get("labelSelector", [])]
    wanted = [each.partition("=") for selector in selectors for each in selector.split(",") if each]
    return all(known.get(key) == value for key, _, value in wanted)


@contextmanager
def serving() -> Iterator[Server]:
    """Run such a server while the body runs."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            status, content = server.answer(self.command, self.path, body)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self._respond()

        def do_POST(self) -> None:
            self._respond()

        def do_DELETE(self) -> None:
            self._respond()

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join(10)
