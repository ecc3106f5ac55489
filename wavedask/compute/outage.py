"""Notice a cluster that is lost during a run, and raise an error that says what to do."""

import asyncio
import logging
import time
from collections.abc import KeysView, Sequence
from concurrent.futures import CancelledError, wait
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any, Final

import dask
from dask.utils import format_bytes, parse_timedelta

from wavedask.compute.environment import check_software
from wavedask.compute.lost import AGAIN, address_of, asking, lost_scheduler
from wavedask.compute.memory import needs
from wavedask.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client, Future, as_completed

POLL_SECONDS: Final = 0.01
"""Interval between two checks for finished tasks; the workers have their next tasks already."""
CHECK_SECONDS: Final = 2.0
"""If no task ends for this long, the workers are counted."""
PATIENCE_SECONDS: Final = 300.0
"""How long to wait for workers that are gone: a nanny or a batch system may start new ones."""

SILENT_SECONDS: Final = 120.0
"""How long no worker may send a heartbeat; each does so every second or so."""
ANSWER_SECONDS: Final = 60.0
"""How long the scheduler may take to answer; it may be busy with a large graph."""
CANCEL_SECONDS: Final = 5.0
MEMORY_TOPIC: Final = "worker-restart-memory"
"""Event that a nanny sends to the scheduler when it kills a worker for its memory."""
LOST_IN_A_ROW: Final = 3
"""How often all workers may be lost while no task ends."""
WAIT_SETTING: Final = "wavedask.wait-for-workers"
"""Setting of Dask: how long a run waits for the first worker, which may be queueing."""
WAIT_DEFAULT: Final = "1 hour"

_logger = logging.getLogger("wavedask")


def waiting_seconds() -> float:
    """Return how long a run waits for its first worker.

    Examples
    --------
    >>> with dask.config.set({WAIT_SETTING: "2 minutes"}):
    ...     waiting_seconds()
    120.0
    """
    return float(parse_timedelta(dask.config.get(WAIT_SETTING, WAIT_DEFAULT)))


class Watch:
    """Wait for tasks of a cluster, and notice if the cluster is lost.

    A Dask client alone waits for ever if all workers are gone. If the scheduler is gone, it only
    says that its futures were cancelled.

    Parameters
    ----------
    client : distributed.Client
        The cluster.
    doing : str
        What the cluster is used for; messages say it.

    Examples
    --------
    >>> from distributed import as_completed
    >>> from wavedask.compute.cluster import local_client
    >>> with local_client(1) as client:
    ...     watch = Watch(client, "squaring")
    ...     future = client.submit(pow, 3, 2)
    ...     ended = watch.ended(as_completed([future]))
    ...     watch.threads(), watch.gathered(ended)
    (1, [9])
    """

    def __init__(self, client: "Client", doing: str) -> None:
        self._client = client
        self._doing = doing
        self._had_workers = False
        self._gone_since: float | None = None
        self._checked: set[str] = set()
        self._present: set[str] = set()
        self._lost_in_a_row: set[str] = set()
        self._most = 1
        self._memory = 0
        self._threads = 1
        self._seen: dict[str, tuple[float, float]] = {}

    def asking(self) -> AbstractContextManager[None]:
        """Raise `ClusterError` if the scheduler is lost while the body talks to it, as `asking`."""
        return asking(self._client, self._doing)

    def threads(self) -> int:
        """Count the threads of all workers, and remember since when there are none.

        Raises
        ------
        ClusterError
            The scheduler is lost, all workers have been gone for five minutes, or a worker has
            other software than this process.
        """
        threads_of = dict(self._asked("ncores"))
        found = sum(threads_of.values())
        joined = threads_of.keys() - self._checked
        if joined:
            check_software(self._client, joined)
            self._checked |= joined
        self._count_lost(threads_of.keys())
        now = time.monotonic()
        if not found:
            self._give_up_if_hopeless()
        if found:
            self._had_workers = True
            self._gone_since = None
        elif self._gone_since is None:
            self._gone_since = now
            _logger.warning(
                "%s: the cluster has no worker%s; waiting",
                self._doing,
                " any more" if self._had_workers else " yet",
            )
        elif self._had_workers and now - self._gone_since > PATIENCE_SECONDS:
            raise ClusterError(
                f"all workers of the cluster at {self._address()} were lost while "
                f"{self._doing}, and none has come back in {PATIENCE_SECONDS:g} s{self._said()}",
                self._more_memory()
                if self._killed_for_memory()
                else f"Look at what ended them in their logs, start others, then {AGAIN}",
            )
        elif not self._had_workers and now - self._gone_since > waiting_seconds():
            raise ClusterError(
                f"the cluster at {self._address()} has had no worker for {waiting_seconds():g} s, "
                f"and {self._doing} has not begun{self._said()}",
                f"Start workers ('dask worker {self._address()}'), or wait longer: the setting "
                f"{WAIT_SETTING!r} of Dask. Then {AGAIN}",
            )
        return int(found)

    def _give_up_if_hopeless(self) -> None:
        """Raise `ClusterError` if no worker will ever come: all jobs have failed."""
        started = getattr(self._client, "started", None)
        problem = "" if started is None else started.hopeless()
        if problem:
            raise ClusterError(
                f"the cluster at {self._address()} has no worker while {self._doing}, and cannot "
                f"start one: {problem}",
                f"Correct its profile, then {AGAIN}",
            )

    def _said(self) -> str:
        """Say what a batch system knows of the workers, if this process has asked for them."""
        started = getattr(self._client, "started", None)
        said = "" if started is None else started.said()
        return f" ({said})" if said else ""

    def look(self) -> None:
        """Check that the scheduler and at least one worker still answer.

        A worker that is suspended, or whose machine is gone, sends no heartbeat. Dask gives its
        tasks to others after five minutes; if all are silent there are no others.

        Raises
        ------
        ClusterError
            As of `threads`, or no worker has sent a heartbeat for too long.
        """
        if not self.threads():
            return
        workers = self._asked("identity", n_workers=-1)["workers"]
        now = time.monotonic()
        # No clocks are compared: only whether the time of the last heartbeat has changed.
        seen = {name: worker["last_seen"] for name, worker in workers.items()}
        self._seen = {
            name: self._seen[name] if self._seen.get(name, (None,))[0] == last else (last, now)
            for name, last in seen.items()
        }
        limits = [
            (worker["memory_limit"], worker["nthreads"])
            for worker in workers.values()
            if worker["memory_limit"]
        ]
        self._memory, self._threads = min(limits, default=(self._memory, self._threads))
        silent = min((now - since for _, since in self._seen.values()), default=0.0)
        if silent > SILENT_SECONDS:
            raise ClusterError(
                f"no worker of the cluster at {self._address()} has sent a heartbeat for "
                f"{silent:.0f} s while {self._doing}",
                "They are suspended, or their machines are gone: resume or restart them, then "
                f"{AGAIN}",
            )

    def _asked(self, what: str, **given: Any) -> Any:
        """Ask the scheduler, and wait for no longer than it may take."""
        client: Any = self._client
        try:
            with self.asking():
                return client.sync(
                    getattr(client.scheduler, what), callback_timeout=ANSWER_SECONDS, **given
                )
        except ClusterError as error:
            if isinstance(error.__cause__, TimeoutError) and client.status == "running":
                raise ClusterError(
                    f"the Dask scheduler at {self._address()} has not answered for "
                    f"{ANSWER_SECONDS:g} s while {self._doing}",
                    f"It is suspended, or its machine is gone: resume or restart it, then {AGAIN}",
                ) from error
            raise

    def _count_lost(self, present: "KeysView[str]") -> None:
        """Count workers that are lost one after the other while no task ends."""
        self._lost_in_a_row |= self._present - present
        self._present = set(present)
        self._most = max(self._most, len(present))
        if len(self._lost_in_a_row) > LOST_IN_A_ROW * self._most:
            raise ClusterError(
                f"{len(self._lost_in_a_row)} workers were lost one after the other while "
                f"{self._doing}, and no task has ended",
                self._more_memory(),
            )

    def _more_memory(self) -> str:
        """Say what a worker needs, and what it has if that is known."""
        killed = self._killed_for_memory()
        reason = "They were killed for their memory. " if killed else "The usual reason is memory. "
        has = f"A worker has {format_bytes(self._memory)}. It" if self._memory else "A worker"
        return (
            f"{reason}{has} needs {needs(threads=self._threads)}. Give workers more memory, or "
            f"fewer threads, then {AGAIN}"
        )

    def _killed_for_memory(self) -> int:
        """Return how much memory the last worker had that a nanny killed for it; 0 for none."""
        with suppress(ClusterError):
            events = self._asked("events", topic=MEMORY_TOPIC)
            if events:
                return int(events[-1][1]["rss"])
        return 0

    def gathered(self, futures: "Sequence[Future[Any]]") -> list[Any]:
        """Collect the results of finished futures.

        If a worker has died since it finished a task, another worker computes the task again.

        Raises
        ------
        ClusterError
            As of `threads`.
        """
        # The client alone would wait for that other worker for ever.
        client: Any = self._client
        waiting = asyncio.run_coroutine_threadsafe(
            client.gather(list(futures), asynchronous=True), client.loop.asyncio_loop
        )
        try:
            while not wait([waiting], CHECK_SECONDS).done:
                self.look()
            if not waiting.cancelled() and waiting.exception() is not None:
                # A task that is computed again may fail, or kill its worker.
                for future in futures:
                    self.check(future)
            with self.asking():
                found: list[Any] = waiting.result()
        finally:
            waiting.cancel()
        return found

    def ended(self, completed: "as_completed") -> "list[Future[Any]]":
        """Wait until some tasks have ended, and return their futures.

        Raises
        ------
        ClusterError
            As of `threads`.
        """
        check = time.monotonic() + CHECK_SECONDS
        while not completed.has_ready():
            if time.monotonic() > check:
                self.look()
                check = time.monotonic() + CHECK_SECONDS
            time.sleep(POLL_SECONDS)
        found: list[Future[Any]] = completed.next_batch(block=False)
        self._lost_in_a_row.clear()
        return found

    def cancel(self, futures: "Sequence[Future[Any]]") -> None:
        """Ask the scheduler to cancel tasks; do not wait for one that does not answer."""
        client: Any = self._client
        if client.status == "running":
            with suppress(OSError):
                client.sync(
                    lambda: client.cancel(futures, asynchronous=True),
                    callback_timeout=CANCEL_SECONDS,
                )

    def check(self, future: "Future[Any]") -> None:
        """Raise the exception of a task that has failed.

        Raises
        ------
        ClusterError
            The scheduler was lost, or the task killed several workers, one after the other.
        """
        from distributed.scheduler import KilledWorker

        if future.status not in ("error", "cancelled"):
            return
        try:
            future.result()
        except KilledWorker as error:
            worker = error.last_worker
            self._memory, self._threads = worker.memory_limit or self._memory, worker.nthreads
            used = self._killed_for_memory()
            memory = f"ran out of memory in the same task while {self._doing}; the last used "
            raise ClusterError(
                f"{error.allowed_failures + 1} workers, one after the other, "
                + (
                    f"{memory}{format_bytes(used)}"
                    if used
                    else f"were killed by the same task while {self._doing}; the last was "
                    f"{worker.address}"
                ),
                self._more_memory(),
            ) from error
        except Exception as error:
            if isinstance(error, CancelledError) or future.status == "cancelled":
                raise lost_scheduler(f"at {self._address()}", self._doing) from error
            raise

    def _address(self) -> str:
        return address_of(self._client)
