"""A cluster of a Dask Gateway."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Final

import dask
from dask.utils import format_time
from distributed.comm.core import connect
from distributed.utils import LoopRunner, sync

from wavedask.compute.kinds import optional
from wavedask.compute.kinds.models import GatewayProfile, Workers
from wavedask.compute.outage import waiting_seconds
from wavedask.compute.started import Started
from wavedask.errors import ClusterError, InputError

ADDRESS: Final = "gateway.address"
"""Setting of Dask: the URL of the gateway."""
SCHEMES: Final = ("http://", "https://")
ANSWER_SECONDS: Final = 20.0
"""How long the gateway may take to answer a request; dask-gateway itself waits for 5 minutes."""
CONNECT_SECONDS: Final = 10.0
"""How long the scheduler may take to answer through the proxy."""
LOOK_SECONDS: Final = 0.5
"""Interval of asking for the state of a cluster."""
CORES: Final = "worker_cores"
MEMORY: Final = "worker_memory"
"""Options of the gateway for the size of a worker, in cores and GiB; deploy/gateway has them."""
LOGIN: Final = (
    "If it wants a password, set gateway.auth.kwargs.password in Dask's configuration, or the "
    "environment variable DASK_GATEWAY__AUTH__KWARGS__PASSWORD. Inside JupyterHub, auth must be "
    "jupyterhub; if it is, stop and start your server: its token may be old."
)

TOLD: Final = "GatewayWarning"
"""Warning of the client that the gateway does less than was asked for."""

_logger = logging.getLogger("wavedask")


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
        The gateway does not answer, refuses the user or the request, or cannot start the cluster
        in time. The message has what the gateway says.
    """
    _package()
    if profile.scratch is not None:
        raise InputError(
            f"profile {name} has scratch {profile.scratch!r}, but the gateway chooses the folder",
            "Leave scratch out.",
        )
    with ExitStack() as opened:
        server = opened.enter_context(_connected(profile, name))
        asked = profile.gateway.cluster
        if asked is None:
            cluster = server.submit(_options(profile, server.options()))
            opened.callback(server.stop, cluster)
        else:
            cluster = asked
        server.wait_for_start(cluster, waiting_seconds())
        reached = server.reached(cluster)
        if asked is None:
            server.scale(cluster, profile.workers)
        yield replace(reached, first_worker=bool(profile.workers.minimum))


def _package() -> Any:
    """Import dask-gateway, and make sure of its defaults in Dask's configuration.

    It adds them when it is imported. If that happens inside of `dask.config.set`, they are gone
    after it.
    """
    package = optional("dask_gateway", "gateway")
    for defaults in dask.config.defaults:
        dask.config.update(dask.config.config, defaults, priority="old")
    return package


@contextmanager
def _connected(profile: GatewayProfile, name: str) -> Iterator["_Server"]:
    """Make the client of a gateway; nothing is sent yet."""
    given = profile.gateway
    address = given.address or dask.config.get(ADDRESS, None)
    if not address:
        raise InputError(
            f"profile {name} has no address of a gateway, and Dask's configuration has none",
            "Give the address in the profile (gateway: address), or set gateway.address in Dask's "
            "configuration or the environment variable DASK_GATEWAY__ADDRESS.",
        )
    if not str(address).startswith(SCHEMES):
        raise InputError(
            f"the address of the gateway is {address!r}",
            "Give the URL of its web server: https://host or http://host:port.",
        )
    runner = LoopRunner()
    runner.start()
    try:
        package = _package()
        try:
            client = package.Gateway(
                given.address,
                given.proxy_address,
                given.public_address,
                given.auth,
                asynchronous=True,
                loop=runner.loop,
            )
        except (ValueError, TypeError, KeyError, ImportError) as error:
            raise InputError(
                f"profile {name} cannot log in to the gateway at {address}: {error}",
                "Set auth to basic, kerberos or jupyterhub (gateway: auth in the profile, or "
                "gateway.auth in Dask's configuration), and give what it needs.",
            ) from error
        server = _Server(client)
        try:
            yield server
        finally:
            server.ask(client.close)
    finally:
        runner.stop()


def _options(profile: GatewayProfile, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the cluster; refuse those that the gateway does not have."""
    wanted = dict(profile.gateway.options)
    if profile.cores is not None:
        wanted.setdefault(CORES, profile.cores)
    if profile.memory is not None:
        wanted.setdefault(MEMORY, profile.memory / 2**30)
    unknown = sorted(wanted.keys() - known.keys())
    if unknown:
        have = ", ".join(f"{key} (default {known[key]!r})" for key in known) or "none"
        raise InputError(
            f"the gateway has no option {' and no option '.join(unknown)}",
            f"Its options are: {have}.",
        )
    return wanted


class _Server:
    """A gateway, with a bound on the time of every answer.

    Parameters
    ----------
    client : dask_gateway.Gateway
        An asynchronous client.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.address: str = client.address
        self._looked: tuple[float, str] = (-LOOK_SECONDS, "")

    def ask(self, request: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Send a request, and translate what may come back into our errors."""
        aiohttp = optional("aiohttp", "gateway")
        package = _package()
        where = f"the gateway at {self.address}"
        try:
            return sync(
                self.client.loop, request, *arguments, callback_timeout=ANSWER_SECONDS, **options
            )
        except TimeoutError as error:
            raise ClusterError(
                f"{where} has not answered within {ANSWER_SECONDS:g} s",
                "Check the address, and whether the server is well.",
            ) from error
        except aiohttp.ContentTypeError as error:
            raise _not_a_gateway(where) from error
        except aiohttp.ClientResponseError as error:
            if error.status == 401:
                raise ClusterError(f"{where} refuses the user: {error.message}", LOGIN) from error
            if error.status == 403:
                raise ClusterError(
                    f"{where} does not allow this to this user: {error.message}",
                    "Use a cluster of your own.",
                ) from error
            raise ClusterError(
                f"{where} cannot answer: {error.status} {error.message}", "Try again later."
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ClusterError(
                f"{where} does not answer: {error}",
                "Check the address, that the server is running, and that this machine reaches it.",
            ) from error
        except package.GatewayServerError as error:
            raise ClusterError(f"{where} has failed: {error}", LOGIN) from error
        except (package.GatewayClusterError, ValueError) as error:
            if "<html" in str(error).lower():
                raise _not_a_gateway(where) from error
            raise ClusterError(
                f"{where} refuses the request: {error}",
                "Ask for less or for something else (workers, options), or close a cluster first.",
            ) from error

    def options(self) -> Mapping[str, Any]:
        """Return the options of a cluster, with their default values."""
        found: Mapping[str, Any] = self.ask(self.client.cluster_options, use_local_defaults=False)
        return found

    def submit(self, options: Mapping[str, Any]) -> str:
        """Ask for a cluster; return its name."""
        return str(self.ask(self.client.submit, **options))

    def stop(self, cluster: str) -> None:
        """Stop a cluster; it may have ended already, and its server, too."""
        try:
            self.ask(self.client.stop_cluster, cluster)
        except ClusterError as error:
            _logger.warning("cluster %s was not stopped: %s", cluster, error)

    def state(self, cluster: str) -> str:
        """Return the state of a cluster in one word; ask at most every `LOOK_SECONDS`."""
        when, state = self._looked
        if time.monotonic() - when > LOOK_SECONDS:
            state = str(self.ask(self.client.get_cluster, cluster).status.name).lower()
            self._looked = (time.monotonic(), state)
        return state

    def why_ended(self, cluster: str) -> str:
        """Say that a cluster has ended, or will; an empty text while it runs."""
        state = self.state(cluster)
        if state in ("pending", "running"):
            return ""
        return (
            f"the gateway says that cluster {cluster} is {state}. The log of the gateway has the "
            "reason, for example that its workers could not start"
        )

    def wait_for_start(self, cluster: str, seconds: float) -> None:
        """Wait until the scheduler of a cluster runs."""
        end = time.monotonic() + seconds
        while self.state(cluster) != "running":
            ended = self.why_ended(cluster)
            if ended:
                raise ClusterError(
                    f"the cluster has not started: {ended}", "Ask the operator of the gateway."
                )
            if time.monotonic() > end:
                raise ClusterError(
                    f"cluster {cluster} of the gateway at {self.address} has not started within "
                    f"{format_time(seconds)}",
                    "Wait longer (wait, or --wait), or ask the operator of the gateway.",
                )
            time.sleep(LOOK_SECONDS)

    def scale(self, cluster: str, workers: Workers) -> None:
        """Ask for workers.

        Raises
        ------
        ClusterError
            A fixed number of workers above the limit of the gateway.
        """

        async def asked() -> list[str]:
            # The client tells by a warning that the server gives fewer workers.
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                if workers.fixed:
                    await self.client.scale_cluster(cluster, workers.minimum)
                else:
                    await self.client.adapt_cluster(cluster, workers.minimum, workers.maximum)
            return [str(one.message) for one in told if one.category.__name__ == TOLD]

        said = " ".join(self.ask(asked))
        if said and workers.fixed:
            raise ClusterError(
                f"the gateway does not give {workers} workers: {said}",
                "Ask for as many as it gives (workers).",
            )
        if said:
            _logger.warning("the gateway gives fewer workers: %s", said)

    def reached(self, cluster: str) -> Started:
        """Connect once to the scheduler of a running cluster; say how a client does.

        Raises
        ------
        ClusterError
            The scheduler cannot be reached through the proxy.
        """
        report = self.ask(self.client.get_cluster, cluster)
        security = report.security

        async def tried() -> None:
            arguments = security.get_connection_args("client")
            comm = await connect(report.scheduler_address, CONNECT_SECONDS, **arguments)
            await comm.close()

        try:
            sync(self.client.loop, tried)
        except (OSError, TimeoutError) as error:
            raise ClusterError(
                f"the scheduler of cluster {cluster} cannot be reached at "
                f"{report.scheduler_address} within {CONNECT_SECONDS:g} s: {error}",
                "Give the address of the gateway's proxy for schedulers (gateway: proxy_address "
                "in the profile, or gateway.proxy-address in Dask's configuration).",
            ) from error
        return Started(
            report.scheduler_address,
            security,
            dashboard=report.dashboard_link or "",
            said=lambda: f"the gateway says that cluster {cluster} is {self.state(cluster)}",
            hopeless=lambda: self.why_ended(cluster),
        )


def _not_a_gateway(where: str) -> ClusterError:
    return ClusterError(
        f"what answers as {where} is another web server",
        "Give the URL of the gateway, with the path under which it is served, if there is one.",
    )
