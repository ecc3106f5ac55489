"""A cluster of the Dask operator on Kubernetes: a running one, or a new one from a manifest."""

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import dask

from wavedask.compute.kinds import optional
from wavedask.compute.kinds.address import check_certificate
from wavedask.compute.kinds.manifests import (
    CLUSTER,
    CLUSTER_LABEL,
    COMPONENT_LABEL,
    OPERATOR,
    Resource,
    protocol_of,
    resources_of,
    scheduler_of,
)
from wavedask.compute.kinds.models import KubernetesProfile
from wavedask.compute.outage import WAIT_SETTING
from wavedask.compute.started import Started
from wavedask.errors import ClusterError, InputError

PORT: Final = 8786
"""Port of the scheduler's Service."""
ANSWER_SECONDS: Final = 30.0
"""How long the server of Kubernetes may take to answer."""
READY_SECONDS: Final = 600.0
"""How long to wait for the scheduler, if the profile does not say it."""
LOOK_SECONDS: Final = 1.0
NEVER: Final = ("InvalidImageName", "ErrImageNeverPull")
"""Reasons of a pod that no time cures."""
MESSAGE_LENGTH: Final = 300
NOT_FOUND: Final = 404

_logger = logging.getLogger("wavedask")


@contextmanager
def started(profile: KubernetesProfile, name: str) -> Iterator[Started]:
    """Find the cluster of a profile, or make it from the profile's manifest.

    A cluster that was made here is deleted at the end; one that was found stays. The scheduler is
    waited for by its Deployment: the operator may set ``status.phase`` of the DaskCluster back to
    "Pending" when all pods run. From outside of Kubernetes, its port is forwarded to a free port of
    the loopback interface.

    Parameters
    ----------
    profile : KubernetesProfile
        The address of a scheduler; or name and namespace of a DaskCluster, and a manifest.
    name : str
        Name of the profile.

    Yields
    ------
    Started

    Raises
    ------
    InputError
        The package kr8s is not installed; there are no credentials; there is no such cluster and no
        manifest, or one that cannot be used; or the scheduler needs a certificate.
    ClusterError
        Kubernetes refuses something or does not answer, or the scheduler is not ready in time: the
        message has what Kubernetes says.
    """
    asked = profile.kubernetes
    if asked.address is not None:
        check_certificate(asked.address)
        yield Started(asked.address, first_worker=bool(profile.workers.minimum))
        return
    cluster = _Cluster(profile, name)
    with ExitStack() as stack:
        if not cluster.found():
            stack.callback(cluster.delete)
            cluster.create()
        cluster.wait(profile.wait or float(dask.config.get(WAIT_SETTING, None) or READY_SECONDS))
        yield Started(
            cluster.reached(stack),
            first_worker=bool(profile.workers.minimum),
            said=lambda: cluster.said("worker"),
            hopeless=lambda: cluster.said("worker", only=NEVER),
        )


class _Cluster:
    """A DaskCluster, as the server of Kubernetes shows it."""

    def __init__(self, profile: KubernetesProfile, name: str) -> None:
        self._kr8s = optional("kr8s", "kubernetes")
        self._objects = optional("kr8s.objects", "kubernetes")
        self._profile, self._profile_name = profile, name
        self._name = profile.kubernetes.name
        self._kind = self._objects.new_class(CLUSTER, OPERATOR, asyncio=False)
        with self._explained("find the server of Kubernetes"):
            # kr8s keeps one client per set of arguments, whatever the environment says later.
            self._api = self._kr8s.api(
                namespace=profile.kubernetes.namespace, kubeconfig=os.environ.get("KUBECONFIG")
            )
            self._api.timeout = ANSWER_SECONDS
        self._namespace = profile.kubernetes.namespace or str(self._api.namespace)
        self._spec: Resource = {}
        self._made = False

    @property
    def _what(self) -> str:
        return f"the DaskCluster {self._name} in the namespace {self._namespace}"

    def found(self) -> bool:
        """Whether the cluster exists."""
        try:
            with self._explained(f"look for {self._what}"):
                there = self._get(self._kind, self._name)
        except ClusterError as error:
            cause = error.__cause__
            if getattr(getattr(cause, "response", None), "status_code", None) == NOT_FOUND:
                raise ClusterError(
                    f"Kubernetes knows no {CLUSTER}: {cause}",
                    "Ask who runs it to install the Dask operator (docs: Kubernetes).",
                ) from cause
            raise
        if there:
            self._spec = there[0]
        elif self._profile.kubernetes.manifest is None:
            raise InputError(
                f"{self._what} does not exist, and the profile {self._profile_name} has no "
                "manifest to make it from",
                "Install it with the Helm chart in deploy/kubernetes, correct kubernetes: name and "
                "namespace, or give kubernetes: manifest.",
            )
        return bool(there)

    def create(self) -> None:
        """Make the cluster and what belongs to it, which is deleted with it."""
        resources = resources_of(self._profile, self._profile_name)
        owner: Resource = {}
        for resource in resources:
            metadata = resource["metadata"]
            metadata["namespace"] = self._namespace
            if owner:
                metadata["ownerReferences"] = [owner]
            with self._explained(f"create the {resource['kind']} {metadata['name']}"):
                made = self._objects.object_from_spec(
                    resource, api=self._api, allow_unknown_type=True
                )
                made.create()
            self._made = True
            if not owner:
                self._spec = resource
                owner = {
                    "apiVersion": OPERATOR,
                    "kind": CLUSTER,
                    "name": self._name,
                    "uid": made.metadata["uid"],
                }

    def wait(self, seconds: float) -> None:
        """Wait for the scheduler: its Deployment has a ready pod, and its Service exists."""
        end = time.monotonic() + seconds
        scheduler = scheduler_of(self._name)
        while True:
            with self._explained(f"look for the scheduler of {self._what}"):
                deployments = self._get(self._objects.Deployment, scheduler)
                services = self._get(self._objects.Service, scheduler)
            ready = [each for each in deployments if each.get("status", {}).get("readyReplicas")]
            if ready and services:
                return
            never = self.said("scheduler", only=NEVER)
            if never or time.monotonic() > end:
                said = never or self.said("scheduler")
                if not deployments:
                    said = "the Dask operator has not made it; it may not be running"
                raise ClusterError(
                    f"the scheduler of {self._what} is not ready"
                    + ("" if never else f" after {seconds:g} s")
                    + (f": {said}" if said else ""),
                    f"Look at it: kubectl --namespace {self._namespace} describe pods --selector "
                    f"{CLUSTER_LABEL}={self._name}; and at the log of the operator.",
                )
            time.sleep(LOOK_SECONDS)

    def reached(self, stack: ExitStack) -> str:
        """Find an address of the scheduler that this process can connect to."""
        protocol = protocol_of(self._spec)
        scheduler = scheduler_of(self._name)
        host = f"{scheduler}.{self._namespace}"
        check_certificate(f"{protocol}://{host}:{PORT}")
        try:
            socket.getaddrinfo(host, PORT)
        except OSError:
            with self._explained(f"forward the port of the Service {scheduler}"):
                [service] = self._api.get(
                    self._objects.Service, scheduler, namespace=self._namespace
                )
                port = stack.enter_context(service.portforward(PORT, local_port="auto"))
            return f"{protocol}://127.0.0.1:{port}"
        return f"{protocol}://{host}:{PORT}"

    def said(self, component: str, *, only: tuple[str, ...] = ()) -> str:
        """Say what Kubernetes says of the pods of a component that do not run."""
        labels = {CLUSTER_LABEL: self._name, COMPONENT_LABEL: component}
        try:
            with self._explained("ask Kubernetes for the pods"):
                deployments = self._get(self._objects.Deployment, labels=labels)
                pods = self._get(self._objects.Pod, labels=labels)
        except ClusterError as error:
            return "" if only else str(error)
        found = Counter(
            f"{reason}: {message}"[:MESSAGE_LENGTH].rstrip(": ")
            for reason, message in [
                *(each for one in deployments for each in _refusals(one)),
                *(each for one in pods for each in _troubles(one)),
            ]
            if not only or reason in only
        )
        return "; ".join(
            (f"{number} pods: " if number > 1 else "") + text
            for text, number in found.most_common(3)
        )

    def delete(self) -> None:
        """Delete the cluster; the operator's and our objects go with it."""
        if not self._made:
            return
        try:
            with self._explained(f"delete {self._what}"):
                for cluster in self._api.get(self._kind, self._name, namespace=self._namespace):
                    cluster.delete()
        except ClusterError as error:
            _logger.warning("%s", error)

    def _get(self, kind: Any, *names: str, labels: dict[str, str] | None = None) -> list[Resource]:
        asked = {"namespace": self._namespace, "label_selector": labels}
        found = self._api.get(kind, *names, raw=True, **asked)
        return [dict(each) for each in found]

    @contextmanager
    def _explained(self, wish: str) -> Iterator[None]:
        """Turn what the client of Kubernetes raises into an error of ours."""
        kr8s = self._kr8s
        try:
            yield
        except (kr8s.ServerError, kr8s.APITimeoutError, kr8s.ConnectionClosedError) as error:
            raise ClusterError(
                f"cannot {wish}: Kubernetes says: {error}",
                "Try it with kubectl. What you may do: kubectl auth can-i --list.",
            ) from error
        except OSError as error:
            raise ClusterError(
                f"cannot {wish}: {error}", "Check the network, and the server in your kubeconfig."
            ) from error
        except Exception as error:
            # httpx has errors of its own; a missing kubeconfig is a ValueError.
            if type(error).__module__.partition(".")[0] in ("httpx", "httpcore"):
                raise ClusterError(
                    f"cannot {wish}: the server does not answer: {error}",
                    "Check the network, and the server in your kubeconfig.",
                ) from error
            if isinstance(error, (ValueError, KeyError)):
                raise InputError(
                    f"cannot {wish}: {error}",
                    "Give credentials (KUBECONFIG, ~/.kube/config), or the address of a running "
                    "scheduler (kubernetes: address), which needs none.",
                ) from error
            raise


def _refusals(deployment: Resource) -> Iterator[tuple[str, str]]:
    """Why a Deployment has no pods: a quota, or a rule of security."""
    for condition in deployment.get("status", {}).get("conditions", []):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            yield condition.get("reason", ""), condition.get("message", "")


def _troubles(pod: Resource) -> Iterator[tuple[str, str]]:
    """Why a pod does not run."""
    status = pod.get("status", {})
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield condition.get("reason", ""), condition.get("message", "")
    containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    for container in containers:
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in ("ContainerCreating", "PodInitializing"):
            yield waiting.get("reason", ""), waiting.get("message", "")
        last = container.get("lastState", {}).get("terminated")
        if last:
            yield last.get("reason", ""), f"exit code {last.get('exitCode')}"
