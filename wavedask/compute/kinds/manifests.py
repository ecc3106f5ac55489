"""The manifest of a cluster of the Dask operator, with what a profile changes in it."""

import copy
from collections.abc import Mapping
from typing import Any, Final

import yaml

from wavedask.compute.kinds.models import KubernetesProfile
from wavedask.errors import InputError
from wavedask.paths import expanded

CLUSTER: Final = "DaskCluster"
AUTOSCALER: Final = "DaskAutoscaler"
OPERATOR: Final = "kubernetes.dask.org/v1"
"""API version of the operator's resources."""
CLUSTER_LABEL: Final = "dask.org/cluster-name"
COMPONENT_LABEL: Final = "dask.org/component"
KINDS: Final = (CLUSTER, AUTOSCALER, "NetworkPolicy")
"""What a manifest may hold: everything else is not created for a user by the way."""
NAMED_BY: Final = (CLUSTER_LABEL, "app.kubernetes.io/instance", "cluster")
"""Keys whose value is the name of the cluster."""

Resource = dict[str, Any]


def scheduler_of(name: str) -> str:
    """Name that the operator gives the scheduler's Deployment and Service.

    Examples
    --------
    >>> scheduler_of("beam")
    'beam-scheduler'
    """
    return f"{name}-scheduler"


def resources_of(profile: KubernetesProfile, name: str) -> list[Resource]:
    """Read the manifest of a profile, and change in it what the profile says.

    Parameters
    ----------
    profile : KubernetesProfile
        A profile with a manifest: its name, image, environment and workers replace those of the
        manifest.
    name : str
        Name of the profile, for messages.

    Returns
    -------
    list of dict
        The DaskCluster first.

    Raises
    ------
    InputError
        The manifest cannot be read, has not exactly one DaskCluster, or resources of other kinds.
    """
    file = expanded(str(profile.kubernetes.manifest))
    try:
        found = [each for each in yaml.safe_load_all(file.read_text()) if each]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"the manifest {file} of profile {name} cannot be read: {error}",
            "Give a YAML file (kubernetes: manifest), such as deploy/kubernetes/daskcluster.yaml.",
        ) from error
    kinds = [each.get("kind") if isinstance(each, Mapping) else None for each in found]
    other = [str(kind) for kind in kinds if kind not in KINDS]
    if other or kinds.count(CLUSTER) != 1:
        raise InputError(
            f"the manifest {file} of profile {name} has "
            + (f"resources of other kinds: {', '.join(other)}" if other else "")
            + (f"{kinds.count(CLUSTER)} resources of the kind {CLUSTER}" if not other else ""),
            f"Give a file with one {CLUSTER}; beside it, it may have: {', '.join(KINDS[1:])}.",
        )
    found.sort(key=lambda each: KINDS.index(each["kind"]))
    old = str(found[0]["metadata"]["name"])
    renamed = [_renamed(each, old, profile.kubernetes.name) for each in found]
    _change(renamed[0], profile)
    if not profile.workers.fixed:
        renamed = [each for each in renamed if each["kind"] != AUTOSCALER]
        renamed.append(_autoscaler(profile))
    return renamed


def protocol_of(cluster: Resource) -> str:
    """Find whether a cluster talks by TLS: its containers have the address of its scheduler.

    Examples
    --------
    >>> variable = {"name": "DASK_SCHEDULER_ADDRESS", "value": "tls://beam-scheduler:8786"}
    >>> protocol_of({"spec": {"scheduler": {"spec": {"containers": [{"env": [variable]}]}}}})
    'tls'
    """
    for container in cluster["spec"]["scheduler"]["spec"]["containers"]:
        for variable in container.get("env", []):
            if variable["name"] == "DASK_SCHEDULER_ADDRESS":
                return str(variable["value"]).partition("://")[0]
    return "tcp"


def _renamed(resource: Resource, old: str, new: str) -> Resource:
    """Copy a resource of a cluster for a cluster with another name."""

    def inside(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: inside(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [inside(each) for each in value]
        if key in NAMED_BY and value == old:
            return new
        if isinstance(value, str):
            return value.replace(f"//{scheduler_of(old)}:", f"//{scheduler_of(new)}:")
        return value

    copied: Resource = inside(copy.deepcopy(resource))
    name = str(copied["metadata"]["name"])
    copied["metadata"]["name"] = new + name[len(old) :] if name.startswith(old) else f"{new}-{name}"
    return copied


def _change(cluster: Resource, profile: KubernetesProfile) -> None:
    """Write what the profile says into the DaskCluster."""
    asked = profile.kubernetes
    spec = cluster["spec"]
    spec["worker"]["replicas"] = profile.workers.minimum
    for role in ("scheduler", "worker"):
        for container in spec[role]["spec"]["containers"]:
            if asked.image is not None:
                container["image"] = asked.image
            given = [each for each in container.get("env", []) if each["name"] not in asked.env]
            added = [{"name": key, "value": value} for key, value in asked.env.items()]
            container["env"] = [*given, *added]
    size = {
        key: str(value)
        for key, value in {"cpu": profile.cores, "memory": profile.memory}.items()
        if value is not None
    }
    for container in spec["worker"]["spec"]["containers"]:
        for bound in ("requests", "limits"):
            container.setdefault("resources", {}).setdefault(bound, {}).update(size)
        if profile.cores is not None:
            container["args"] = [
                f"--nthreads={profile.cores}" if str(word).startswith("--nthreads=") else word
                for word in container["args"]
            ]


def _autoscaler(profile: KubernetesProfile) -> Resource:
    name = profile.kubernetes.name
    limits = profile.workers
    return {
        "apiVersion": OPERATOR,
        "kind": AUTOSCALER,
        "metadata": {"name": name},
        "spec": {"cluster": name, "minimum": limits.minimum, "maximum": limits.maximum},
    }
