"""A cluster of the Dask operator on Kubernetes."""

from collections.abc import Iterator
from contextlib import contextmanager

from wavedask.compute.kinds import optional
from wavedask.compute.profiles import KubernetesProfile
from wavedask.compute.started import Started
from wavedask.errors import ClusterError


@contextmanager
def started(profile: KubernetesProfile, name: str) -> Iterator[Started]:
    """Join the cluster at an address, or let the operator create one.

    Parameters
    ----------
    profile : KubernetesProfile
        The address of a running cluster, or image, namespace and number of workers.
    name : str
        Name of the profile.

    Yields
    ------
    Started

    Raises
    ------
    InputError
        The package dask-kubernetes is not installed.
    ClusterError
        The operator does not start the cluster.
    """
    asked = profile.kubernetes
    workers = profile.workers
    if asked.address is not None:
        yield Started(asked.address, first_worker=bool(workers.minimum))
        return
    operator = optional("dask_kubernetes.operator", "kubernetes")
    size = {
        key: str(value)
        for key, value in {"cpu": profile.cores, "memory": profile.memory}.items()
        if value is not None
    }
    options = {} if asked.image is None else {"image": asked.image}
    try:
        cluster = operator.KubeCluster(
            name=asked.name,
            namespace=asked.namespace,
            n_workers=workers.minimum,
            env=asked.env,
            resources={"requests": size, "limits": size},
            worker_command=["dask", "worker"],
            **options,
        )
    except Exception as error:
        raise ClusterError(
            f"the operator does not start the cluster of profile {name}: {error}",
            "Look at the pods ('kubectl get pods'), and at the log of the operator.",
        ) from error
    try:
        if not workers.fixed:
            cluster.adapt(minimum=workers.minimum, maximum=workers.maximum)
        yield Started(cluster, first_worker=bool(workers.minimum))
    finally:
        cluster.close()
