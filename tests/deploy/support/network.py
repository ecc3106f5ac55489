"""Which connections the NetworkPolicies of a namespace allow, by the rules of Kubernetes."""

from dataclasses import dataclass
from typing import Any

Policy = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """A pod: its labels, and its namespace."""

    labels: dict[str, str]
    namespace: str = "default"


def allowed(policies: list[Policy], source: Peer, target: Peer, port: str) -> bool:
    """Whether a pod may open a connection to a named port of a pod in the policies' namespace."""
    chosen = [
        policy["spec"]
        for policy in policies
        if "Ingress" in policy["spec"]["policyTypes"]
        and _selects(policy["spec"]["podSelector"], target.labels)
    ]
    if not chosen:
        return True
    return any(
        _port_fits(rule, port) and any(_is_peer(peer, source) for peer in rule["from"])
        for spec in chosen
        for rule in spec.get("ingress", [])
    )


def _port_fits(rule: dict[str, Any], port: str) -> bool:
    return "ports" not in rule or any(each["port"] == port for each in rule["ports"])


def _is_peer(peer: dict[str, Any], source: Peer, own: str = "default") -> bool:
    if "namespaceSelector" in peer:
        # Kubernetes itself gives each namespace this label.
        labels = {"kubernetes.io/metadata.name": source.namespace}
        if not _selects(peer["namespaceSelector"], labels):
            return False
    elif source.namespace != own:
        return False
    return _selects(peer.get("podSelector", {}), source.labels)


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for each in selector.get("matchExpressions", []):
        inside = labels.get(each["key"]) in each["values"]
        if inside != {"In": True, "NotIn": False}[each["operator"]]:
            return False
    return True
