"""Clusters of the Dask operator: found, made, waited for, deleted, and what goes wrong."""

import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from support.kubernetes_api import Resource, Server, serving

from wavedask.compute.kinds import start
from wavedask.compute.profiles import load_profile
from wavedask.compute.started import Started
from wavedask.errors import ClusterError, InputError

MANIFEST = Path(__file__).parents[2] / "deploy" / "kubernetes" / "daskcluster.yaml"
LABELS = {"dask.org/cluster-name": "beam"}
ADDRESS = {"name": "DASK_SCHEDULER_ADDRESS", "value": "tcp://beam-scheduler:8786"}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Return a server of Kubernetes that KUBECONFIG names."""
    with serving() as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
        yield server


def started(wait: float = 20, **settings: Any) -> AbstractContextManager[Started]:
    workers = settings.pop("workers", None)
    named = load_profile("kubernetes", wait=wait, workers=workers, name="beam", **settings)
    return start("kubernetes", named.profile, named.name)


def add_cluster(server: Server, address: Resource = ADDRESS) -> None:
    spec = {"spec": {"containers": [{"name": "scheduler", "env": [address]}]}}
    server.add("DaskCluster", "beam", {}, spec={"scheduler": spec}, metadata_uid="1")


def add_scheduler(server: Server, **status: Any) -> None:
    labels = {**LABELS, "dask.org/component": "scheduler"}
    server.add("Deployment", "beam-scheduler", labels, status=status)
    selector = {"ports": [{"port": 8786}], "selector": labels, "type": "ClusterIP"}
    server.add("Service", "beam-scheduler", labels, spec=selector)


def resolvable(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Let a name be known, as inside of Kubernetes."""
    real = socket.getaddrinfo

    def known(name: Any, *others: Any, **options: Any) -> Any:
        return real("127.0.0.1" if name == host else name, *others, **options)

    monkeypatch.setattr(socket, "getaddrinfo", known)


def test_an_address_is_used_without_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/does/not/exist")
    with started(address="tcp://10.0.0.1:8786") as found:
        assert found.where == "tcp://10.0.0.1:8786"


def test_a_running_cluster_is_found_and_left(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_cluster(server)
    add_scheduler(server, readyReplicas=1)
    host = f"beam-scheduler.{server.namespace}"
    resolvable(monkeypatch, host)
    with started() as found:
        assert found.where == f"tcp://{host}:8786"
        assert found.said() == found.hopeless() == ""
    assert server.names("DaskCluster") == ["beam"]


def test_outside_of_kubernetes_the_port_is_forwarded_to_loopback(server: Server) -> None:
    add_cluster(server)
    add_scheduler(server, readyReplicas=1)
    with started() as found:
        protocol, _, place = str(found.where).partition("://")
        host, _, port = place.partition(":")
        assert (protocol, host) == ("tcp", "127.0.0.1")
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((host, int(port)))


def test_a_cluster_with_tls_needs_a_certificate(server: Server) -> None:
    add_cluster(server, {**ADDRESS, "value": "tls://beam-scheduler:8786"})
    add_scheduler(server, readyReplicas=1)
    with pytest.raises(InputError, match="needs a certificate"), started():
        pass


def test_a_cluster_is_made_from_the_manifest_and_deleted(server: Server) -> None:
    add_scheduler(server, readyReplicas=1)
    changes: dict[str, Any] = {
        "image": "registry.example/wavedask:2",
        "workers": {"minimum": 1, "maximum": 5},
        "cores": 2,
        "memory": "8 GiB",
        "env": {"EXTRA": "yes"},
    }
    with started(manifest=str(MANIFEST), **changes):
        [cluster] = [each for each in server.resources if each["kind"] == "DaskCluster"]
        [scaler] = [each for each in server.resources if each["kind"] == "DaskAutoscaler"]
        policies = [each for each in server.resources if each["kind"] == "NetworkPolicy"]
        owned = [scaler, *policies]
        assert cluster["metadata"]["name"] == "beam"
        assert cluster["metadata"]["labels"]["app.kubernetes.io/instance"] == "beam"
        worker = cluster["spec"]["worker"]
        assert worker["replicas"] == 1
        [container] = worker["spec"]["containers"]
        assert container["image"] == "registry.example/wavedask:2"
        assert "--nthreads=2" in container["args"]
        size = container["resources"]
        assert size["requests"] == size["limits"]
        assert size["limits"] == {"cpu": "2", "memory": str(8 * 2**30), "ephemeral-storage": "20Gi"}
        variables = {each["name"]: each["value"] for each in container["env"]}
        assert variables["DASK_SCHEDULER_ADDRESS"] == "tcp://beam-scheduler:8786"
        assert variables["EXTRA"] == "yes"
        service = cluster["spec"]["scheduler"]["service"]
        assert service["selector"]["dask.org/cluster-name"] == "beam"
        assert scaler["spec"] == {"cluster": "beam", "minimum": 1, "maximum": 5}
        assert sorted(server.names("NetworkPolicy")) == [
            "beam-egress",
            "beam-scheduler",
            "beam-workers",
        ]
        for policy in policies:
            selected = policy["spec"]["podSelector"]["matchLabels"]
            assert selected["dask.org/cluster-name"] == "beam"
        for each in owned:
            [owner] = each["metadata"]["ownerReferences"]
            assert owner["uid"] == cluster["metadata"]["uid"]
        assert "wavedask-scheduler" not in str(server.resources)
    assert server.names("DaskCluster") == []


def test_what_is_half_made_is_deleted(server: Server) -> None:
    server.refused["POST", "NetworkPolicy"] = (403, 'User "me" cannot create networkpolicies')
    with (
        pytest.raises(ClusterError, match=r"Kubernetes says: User .me. cannot create"),
        started(manifest=str(MANIFEST)),
    ):
        pass
    assert server.names("DaskCluster") == []


TROUBLES: list[tuple[str, Resource, str]] = [
    (
        "Pod",
        {
            "containerStatuses": [
                {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
            ]
        },
        "ImagePullBackOff: no such image",
    ),
    (
        "Pod",
        {
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": "0/3 nodes are available: 3 Insufficient memory.",
                }
            ]
        },
        "Unschedulable: 0/3 nodes are available: 3 Insufficient memory.",
    ),
    (
        "Pod",
        {
            "containerStatuses": [
                {
                    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                    "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
                }
            ]
        },
        "OOMKilled: exit code 137",
    ),
    (
        "Deployment",
        {
            "conditions": [
                {
                    "type": "ReplicaFailure",
                    "status": "True",
                    "reason": "FailedCreate",
                    "message": "exceeded quota: beamtime",
                }
            ]
        },
        "FailedCreate: exceeded quota: beamtime",
    ),
]


@pytest.mark.parametrize(("kind", "status", "said"), TROUBLES, ids=[said for *_, said in TROUBLES])
def test_a_scheduler_that_does_not_start_is_explained(
    server: Server, kind: str, status: Resource, said: str
) -> None:
    add_cluster(server)
    add_scheduler(server)
    labels = {**LABELS, "dask.org/component": "scheduler"}
    if kind == "Pod":
        server.add("Pod", "beam-scheduler-1", labels, status=status)
    else:
        server.resources[1]["status"] = status
    began = time.monotonic()
    with pytest.raises(ClusterError) as caught, started(wait=1):
        pass
    assert "is not ready after 1 s" in str(caught.value)
    assert said in str(caught.value)
    assert "describe pods --selector dask.org/cluster-name=beam" in str(caught.value)
    assert time.monotonic() - began < 60


def test_an_image_that_can_never_start_is_told_at_once(server: Server) -> None:
    add_cluster(server)
    add_scheduler(server, readyReplicas=1)
    waiting = {"reason": "InvalidImageName", "message": "couldn't parse image reference"}
    status = {"containerStatuses": [{"state": {"waiting": waiting}}]}
    labels = {**LABELS, "dask.org/component": "worker"}
    for number in range(2):
        server.add("Pod", f"beam-worker-{number}", labels, status=status)
    with started() as found:
        assert found.hopeless() == "2 pods: InvalidImageName: couldn't parse image reference"
    for pod in server.resources[-2:]:
        pod["metadata"]["labels"]["dask.org/component"] = "scheduler"
    server.resources[1]["status"] = {}
    began = time.monotonic()
    with pytest.raises(ClusterError, match="InvalidImageName"), started(wait=1000):
        pass
    assert time.monotonic() - began < 60


def test_without_the_operator_nothing_is_waited_for_in_vain(server: Server) -> None:
    add_cluster(server)
    with pytest.raises(ClusterError, match="operator has not made it"), started(wait=1):
        pass
    missing = "the server could not find the requested resource"
    server.refused["GET", "DaskCluster"] = (404, missing)
    with pytest.raises(ClusterError, match="Kubernetes knows no DaskCluster"), started():
        pass


def test_a_cluster_that_does_not_exist_is_named(server: Server) -> None:
    with pytest.raises(InputError) as caught, started():
        pass
    assert f"the DaskCluster beam in the namespace {server.namespace} does not" in str(caught.value)
    assert "kubernetes: manifest" in str(caught.value)


def test_what_kubernetes_refuses_is_said(server: Server) -> None:
    message = 'daskclusters is forbidden: User "me" cannot list resource'
    server.refused["GET", "DaskCluster"] = (403, message)
    with pytest.raises(ClusterError) as caught, started():
        pass
    assert message in str(caught.value)


def test_a_server_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
    began = time.monotonic()
    with pytest.raises(ClusterError, match="cannot"), started(namespace="gone"):
        pass
    assert time.monotonic() - began < 60


def test_without_credentials_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match="credentials") as caught, started(namespace="none"):
        pass
    assert "kubernetes: address" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("a: [", "cannot be read"),
        ("kind: Secret\n", "resources of other kinds: Secret"),
        ("just text\n", "resources of other kinds: None"),
        ("kind: NetworkPolicy\n", "0 resources of the kind DaskCluster"),
        ("kind: DaskCluster\n---\nkind: DaskCluster\n", "2 resources of the kind DaskCluster"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(
    server: Server, tmp_path: Path, content: str | None, said: str
) -> None:
    file = tmp_path / "cluster.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError) as caught, started(manifest=str(file)):
        pass
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
