"""A cluster of a Dask Gateway."""

from collections.abc import Iterator
from contextlib import contextmanager

from wavedask.compute.kinds import optional
from wavedask.compute.profiles import GatewayProfile
from wavedask.compute.started import Started
from wavedask.errors import ClusterError, InputError


@contextmanager
def started(profile: GatewayProfile, name: str) -> Iterator[Started]:
    """Ask the gateway for a new cluster, or find one of this user that is running.

    Parameters
    ----------
    profile : GatewayProfile
        The gateway; by default that of Dask's configuration.
    name : str
        Name of the profile.

    Yields
    ------
    Started

    Raises
    ------
    InputError
        The package dask-gateway is not installed, no gateway is known, or it has no such option.
    ClusterError
        The gateway does not answer, refuses the user, or cannot start the cluster.
    """
    client = optional("dask_gateway", "gateway")
    asked = profile.gateway
    try:
        gateway = client.Gateway(
            asked.address, asked.proxy_address, asked.public_address, asked.auth
        )
    except ValueError as error:
        raise InputError(
            f"profile {name} cannot reach a gateway: {error}",
            "Give its address in the profile (gateway: address), or in Dask's configuration "
            "(gateway.address).",
        ) from error
    try:
        cluster = (
            gateway.connect(asked.cluster)
            if asked.cluster
            else gateway.new_cluster(shutdown_on_close=True, **asked.options)
        )
    except TypeError as error:
        gateway.close()
        raise InputError(
            f"the gateway does not know an option of profile {name}: {error}",
            "Correct 'options' in the profile.",
        ) from error
    except Exception as error:
        gateway.close()
        raise ClusterError(
            f"the gateway at {gateway.address} gives no cluster: {error}",
            "Check the address, the user, and the limits of the gateway.",
        ) from error
    try:
        workers = profile.workers
        if not asked.cluster:
            if workers.fixed:
                cluster.scale(workers.minimum)
            else:
                cluster.adapt(minimum=workers.minimum, maximum=workers.maximum)
        yield Started(cluster, first_worker=bool(workers.minimum))
    finally:
        cluster.close()
        gateway.close()
