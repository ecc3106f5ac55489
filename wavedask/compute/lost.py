"""Tell a scheduler that is lost while it is asked something, as an error that says what to do."""

from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from wavedask.errors import ClusterError, WavedaskError

if TYPE_CHECKING:
    from distributed import Client

AGAIN: Final = "run the same command again: the store keeps the complete frames."


@contextmanager
def asking(client: "Client", doing: str = "") -> Iterator[None]:
    """Raise `ClusterError` if the scheduler is lost while the body talks to it.

    Not for code of a task or of a caller: an error of their disk looks the same.

    Parameters
    ----------
    client : distributed.Client
        The cluster.
    doing : str, optional
        What it is asked for, for the message.

    Raises
    ------
    ClusterError
        The connection broke, or the client has been closed.

    Examples
    --------
    >>> from wavedask.compute import local_client
    >>> with local_client(1) as client, asking(client, "counting"):
    ...     len(client.nthreads())
    1
    """
    try:
        yield
    except WavedaskError:
        raise
    except Exception as error:
        if not isinstance(error, (OSError, CancelledError)) and client.status == "running":
            raise
        raise lost_scheduler(f"at {address_of(client)}", doing) from error


def lost_scheduler(named: str, doing: str = "") -> ClusterError:
    """Make the error for a scheduler that is lost.

    Parameters
    ----------
    named : str
        Which one, such as ``"at tcp://host:8786"``.
    doing : str, optional
        What was being done.

    Returns
    -------
    ClusterError
        With what to do.

    Examples
    --------
    >>> lost_scheduler("at tcp://host:8786", "squaring").problem
    'the Dask scheduler at tcp://host:8786 was lost while squaring'
    """
    return ClusterError(
        f"the Dask scheduler {named} was lost" + (f" while {doing}" if doing else ""),
        f"Start a cluster, then {AGAIN}",
    )


def address_of(client: "Client") -> str:
    """Say where the scheduler of a client is, or was.

    Parameters
    ----------
    client : distributed.Client
        The cluster.

    Returns
    -------
    str
        Its address; a client that was closed knows none.

    Examples
    --------
    >>> from wavedask.compute import local_client
    >>> with local_client(1) as client:
    ...     address_of(client).startswith("t")
    True
    """
    scheduler: Any = client.scheduler
    return str(scheduler.addr if scheduler else "an unknown address")
