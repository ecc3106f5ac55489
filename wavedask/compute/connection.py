"""One call to compute anywhere: threads, this machine, SLURM, a gateway, Kubernetes, an address."""

import atexit
import logging
import os
import time
import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Literal, overload

import dask
from distributed import Client, WorkerPlugin
from distributed.comm.core import CommClosedError
from distributed.system import MEMORY_LIMIT

from wavedask.compute import kinds
from wavedask.compute.cluster import (
    IgnoreInterrupts,
    WorkerSetup,
    check_count,
    cores,
    environment_restored,
    limit_threads,
)
from wavedask.compute.environment import check_cache, check_software
from wavedask.compute.kinds.models import (
    AddressProfile,
    LocalProfile,
    Profile,
    ThreadsProfile,
    Workers,
)
from wavedask.compute.lost import asking, lost_scheduler
from wavedask.compute.memory import keep_freed_memory
from wavedask.compute.outage import WAIT_SETTING, waiting_seconds
from wavedask.compute.profiles import load_profile
from wavedask.compute.started import ENCRYPTED, Started
from wavedask.compute.visible import needed
from wavedask.errors import ClusterError, InputError, WavedaskError

THREADS: Final = "threads"
"""Scheduler of Dask that computes in the threads of this process."""
REGISTRATIONS: Final = 5
"""How often to set up all workers, if one of them ends meanwhile."""
LOOK_SECONDS: Final = 0.25
"""Interval of looking for the first worker."""
SAY_SECONDS: Final = 30.0
"""Interval of saying why there is none yet."""

_logger = logging.getLogger("wavedask")
_open: "weakref.WeakSet[Connection]" = weakref.WeakSet()


class Connection(Client):
    """A Dask client that closes its cluster, too; `connect` makes it.

    Parameters
    ----------
    name : str
        Name of the profile, or an address.
    profile : Profile
        What the profile says.
    started : Started
        The cluster.
    opened : ExitStack
        What to close after the client.
    timeout : float
        Seconds to wait for the scheduler.

    Examples
    --------
    >>> with connect("local", workers=1) as client:
    ...     client.submit(sum, [1, 2, 3]).result()
    6
    """

    def __init__(
        self, name: str, profile: Profile, started: Started, opened: ExitStack, timeout: float
    ) -> None:
        self.profile_name = name
        self.cluster_profile = profile
        self.started = started
        self._opened = opened
        super().__init__(  # type: ignore[no-untyped-call]  # distributed has no types
            started.where, security=started.security, timeout=timeout
        )

    @property
    def dashboard_link(self) -> str | None:
        """Link to Dask's web page, as a browser reaches it."""
        return self.started.dashboard or super().dashboard_link

    def close(self, *arguments: Any, **options: Any) -> Any:
        """Close the client, and stop the cluster if it was started for this client."""
        try:
            return super().close(*arguments, **options)  # type: ignore[no-untyped-call]  # as above
        finally:
            self._opened.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close; an error of the body that means a lost scheduler becomes a `ClusterError`."""
        # A broken connection may be known here before the client knows it.
        lost = isinstance(error, Exception) and (
            isinstance(error, (CancelledError, CommClosedError)) or self.status != "running"
        )
        with ExitStack() as quiet:
            if lost:
                # A client that is closed while it looks for its scheduler logs a page of
                # tracebacks.
                quiet.enter_context(_without(logging.getLogger("distributed.client")))
            super().__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]  # as above
        if lost and not isinstance(error, WavedaskError):
            where = self.started.where
            named = f"at {where}" if isinstance(where, str) else f"of cluster {self.profile_name}"
            raise lost_scheduler(named) from error


class Threads:
    """The threads of this process, as Dask's scheduler until `close` is called.

    As a context manager it yields None: there is no client.

    Parameters
    ----------
    workers : int
        Number of threads.

    Examples
    --------
    >>> with Threads(2) as client:
    ...     print(client, dask.config.get("num_workers"))
    None 2
    """

    def __init__(self, workers: int) -> None:
        keep_freed_memory()
        with ExitStack() as opened:
            opened.enter_context(limit_threads())
            opened.enter_context(dask.config.set(scheduler=THREADS, num_workers=workers))
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Set Dask back to the scheduler that it had."""
        self._opened.close()

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self.close()


@overload
def connect(
    profile: Literal["threads"],
    *,
    workers: int | Mapping[str, int] | None = None,
    wait: float | str | None = None,
    timeout: float = 10,
    per_task: int | None = None,
    **settings: Any,
) -> Threads: ...


@overload
def connect(
    profile: Literal["local", "slurm", "allocation", "gateway", "kubernetes"] | None = None,
    *,
    workers: int | Mapping[str, int] | None = None,
    wait: float | str | None = None,
    timeout: float = 10,
    per_task: int | None = None,
    **settings: Any,
) -> Connection: ...


@overload
def connect(
    profile: str | None = None,
    *,
    workers: int | Mapping[str, int] | None = None,
    wait: float | str | None = None,
    timeout: float = 10,
    per_task: int | None = None,
    **settings: Any,
) -> Connection | Threads: ...


def connect(
    profile: str | None = None,
    *,
    workers: int | Mapping[str, int] | None = None,
    wait: float | str | None = None,
    timeout: float = 10,
    per_task: int | None = None,
    **settings: Any,
) -> Connection | Threads:
    """Choose where Dask computes: one call for every kind of cluster.

    The result is a context manager that yields a client::

        with wd.connect("slurm") as client: ...

    In a notebook it is the client itself::

        client = wd.connect("slurm")
        ...
        client.close()

    Closing it also stops what was started for it: the processes, the jobs, the cluster of the
    gateway. This happens at the end of the interpreter, too. Every worker, also one that joins
    later, gets the same set-up: one thread per task, a few threads of Zarr, compiled kernels, freed
    memory kept for the next task.

    Parameters
    ----------
    profile : str, optional
        Name of a profile, as ``wavedask cluster list`` prints them: ``"local"`` (the default:
        processes on this machine), ``"threads"`` (threads of this process), ``"slurm"``,
        ``"gateway"``, ``"kubernetes"``, or one of your site. Or the address of a running scheduler:
        ``"tcp://host:8786"`` or ``"tls://host:8786"``.
    workers : int or mapping, optional
        Number of workers (processes; or threads for ``"threads"``), or
        ``{"minimum": 1, "maximum": 8}`` for as many as there is work for. By default as in the
        profile; for ``"local"`` and ``"threads"`` one per core. Not for a running scheduler, which
        has the workers that it has.
    wait : float or str, optional
        How long to wait for the first worker, which may be queueing: seconds, or a text such as
        ``"10 minutes"``. By default as in the profile, or else an hour.
    timeout : float, default 10
        Seconds to wait for the scheduler.
    per_task : int, optional
        Bytes that one task needs, as of `wavedask.experiment.plan`: on this machine no more
        processes are started than fit into its memory.
    **settings
        Other keys of the profile: ``cores``, ``memory``, ``scratch``, ``dashboard``, and the keys
        of the section of its kind, such as ``partition="wide"`` for SLURM.

    Returns
    -------
    Connection or Threads
        A `distributed.Client`, which is the current one; for ``"threads"`` an object that has only
        ``close()``, and yields None in a ``with`` statement.

    Raises
    ------
    InputError
        An unknown profile (the message has the nearest names), a wrong setting, a package that is
        not installed, or a scheduler that does not answer or needs a certificate.
    ClusterError
        No worker within the time, with what the batch system says; workers with other software than
        this process; or, at the end of the body, a scheduler that was lost.

    Examples
    --------
    >>> with connect("threads", workers=2) as client:
    ...     print(client, dask.config.get("num_workers"))
    None 2
    >>> client = connect("local", workers=1)
    >>> client.submit(sum, [1, 2, 3]).result()
    6
    >>> client.close()
    """
    check_cache()
    if isinstance(workers, int):
        check_count(workers)
    named = load_profile(profile, workers=workers, wait=wait, **settings)
    if isinstance(named.profile, ThreadsProfile):
        threads = named.profile.workers
        return Threads(cores() if threads is None else threads.maximum)
    chosen = _fitted(named.profile, per_task)
    _tell_if_another(named.name, chosen)
    client = _opened(named.name, chosen, timeout)
    try:
        _ready(client)
    except BaseException:
        client.close()
        raise
    _open.add(client)
    return client


def _fitted(profile: Profile, per_task: int | None) -> Profile:
    """Choose the number of processes on this machine by its cores and its memory."""
    if not isinstance(profile, LocalProfile) or profile.workers is not None:
        return profile
    threads = profile.cores or 1
    count = max(1, cores() // threads)
    if per_task is not None:
        count = max(1, min(count, MEMORY_LIMIT // needed(per_task, threads)))
    return profile.model_copy(update={"workers": Workers(minimum=count, maximum=count)})


def _tell_if_another(name: str, profile: Profile) -> None:
    """Warn if a notebook has started the same cluster before: its jobs would run on unused."""
    if profile.kind in ("slurm", "gateway", "kubernetes") and any(
        client.profile_name == name and client.status == "running" for client in _open
    ):
        _logger.warning(
            "another client of the cluster %s is still open, and keeps its workers: close it with "
            "its close()",
            name,
        )


def _opened(name: str, profile: Profile, timeout: float) -> Connection:
    """Start or find the cluster, and connect to its scheduler."""
    with ExitStack() as opening:
        if profile.wait is not None:
            opening.enter_context(dask.config.set({WAIT_SETTING: profile.wait}))
        started = opening.enter_context(kinds.start(profile.kind, profile, name))
        opening.enter_context(
            _without(logging.getLogger("distributed.client"), "Failed to reconnect")
        )
        opened = opening.pop_all()
    try:
        client = Connection(name, profile, started, opened, timeout)
    except BaseException as error:
        opened.close()
        if isinstance(error, (OSError, ValueError)) and isinstance(profile, AddressProfile):
            raise InputError(
                f"no Dask scheduler answers at {started.where} within {timeout:g} s: {error}",
                "Start one with 'dask scheduler', look at the address it prints, and check that "
                "this machine can reach it.",
            ) from error
        raise
    return client


def _ready(client: Connection) -> None:
    """Wait for a worker, check the software of all, and set them up."""
    with asking(client, "its workers were set up"):
        _tell_if_open(str(client.scheduler_info()["address"]))
        if client.started.first_worker:
            _wait_for_worker(client, waiting_seconds())
        # First: without wavedask a worker cannot take the plugin.
        check_software(client)
        environment = dict(os.environ)
        _registered(client, WorkerSetup())
        if client.started.own_terminal:
            with environment_restored(environment):
                _registered(client, IgnoreInterrupts())


def _registered(client: Connection, plugin: WorkerPlugin) -> None:
    """Register a plugin on all workers, again if a worker ends while it is sent to all."""
    for _ in range(REGISTRATIONS):
        try:
            client.register_plugin(plugin)
        except OSError as error:
            failed = error
            # The scheduler knows the plugin now, and would not send it to the others again.
            plugin.idempotent = False
            if client.status != "running":
                raise  # not the workers: the scheduler is lost
            if client.started.first_worker:
                _wait_for_worker(client, waiting_seconds())
        else:
            return
    raise ClusterError(
        f"the workers of the cluster {client.profile_name} cannot be set up: {failed}",
        "Look into their logs: they end, or lose the connection, as soon as they have started.",
    ) from failed


def _wait_for_worker(client: Connection, seconds: float) -> None:
    """Wait until a worker has joined, and say why there is none.

    Raises
    ------
    ClusterError
        None in time, or it is known that none will come.
    """
    began = time.monotonic()
    said_at = began
    dask_client: Client = client
    while not dask_client.nthreads():
        started = client.started
        hopeless = started.hopeless()
        if hopeless:
            raise ClusterError(
                f"the cluster {client.profile_name} cannot start workers: {hopeless}",
                f"Correct the profile ('wavedask cluster show {client.profile_name}').",
            )
        now = time.monotonic()
        if now - began > seconds:
            said = started.said()
            raise ClusterError(
                f"no worker of the cluster {client.profile_name} has started within "
                f"{seconds:g} s" + (f": {said}" if said else ""),
                "Wait longer (wait, or --wait), ask for less, or choose another cluster.",
            )
        if now - said_at > SAY_SECONDS:
            said_at = now
            _logger.warning(
                "waiting for the first worker of the cluster %s since %.0f s: %s",
                client.profile_name,
                now - began,
                started.said() or "nothing is known of it",
            )
        time.sleep(LOOK_SECONDS)


@lru_cache
def _tell_if_open(address: str) -> None:
    """Log once, for each scheduler without TLS, who may use it."""
    if not address.startswith(ENCRYPTED):
        _logger.warning(
            "the Dask scheduler at %s has no authentication: everybody who can reach this address "
            "can run code as you. Keep it inside a trusted network, or use TLS (docs: Security)",
            address,
        )


@contextmanager
def _without(logger: logging.Logger, beginning: str = "") -> Iterator[None]:
    """Drop the messages of a logger that begin so, or all: an error says the same."""

    def wanted(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(beginning)

    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)


@atexit.register
def _close_all() -> None:
    """Close what a notebook has left open, before Dask forgets its clients."""
    for client in list(_open):
        client.close()
