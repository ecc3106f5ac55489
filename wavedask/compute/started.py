"""What a kind of cluster hands over once it has started or found one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from distributed import Security
    from distributed.deploy.cluster import Cluster

ENCRYPTED: Final = ("tls://", "wss://", "gateway://")
"""Protocols that need a certificate."""


def _nothing() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Started:
    """A cluster that a kind has started or found, for `wavedask.connect`.

    A kind is one function in its own module of ``wavedask.compute.kinds``: a context manager
    ``started(profile, name)`` that yields such an object and stops at its end what it has started.
    `connect` then makes the client, waits for a worker, checks the software of the workers, and
    sets them up.

    Attributes
    ----------
    where : Cluster or str
        What `distributed.Client` takes: a cluster, or the address of a scheduler.
    security : Security, optional
        Certificates for an address; a cluster has its own.
    first_worker : bool
        Whether to wait for a worker: not if the cluster starts workers only when there are tasks.
    said : callable
        Returns what the batch system or the platform says of the workers, as one line, or ``""``.
    hopeless : callable
        Returns why no worker will ever come, or ``""`` while one may come.
    dashboard : str
        Link to Dask's web page, if the scheduler does not know how a browser reaches it.
    own_terminal : bool
        Whether the workers are children of this process, which a Ctrl-C reaches, too.
    """

    where: "Cluster | str"
    security: "Security | None" = None
    first_worker: bool = True
    said: Callable[[], str] = _nothing
    hopeless: Callable[[], str] = _nothing
    dashboard: str = ""
    own_terminal: bool = False
