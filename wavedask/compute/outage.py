"""Notice a cluster that is lost during a run, and raise an error that says what to do."""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from wavedask.compute.environment import check_software
from wavedask.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client, Future, as_completed

POLL_SECONDS: Final = 0.01
"""Interval between two checks for finished tasks; the workers have their next tasks already."""
CHECK_SECONDS: Final = 2.0
"""If no task ends for this long, the workers are counted."""
PATIENCE_SECONDS: Final = 300.0
"""How long to wait for workers that are gone: a nanny or a batch system may start new ones."""

AGAIN: Final = "run the same command again: the store keeps the complete frames."

_logger = logging.getLogger("wavedask")


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

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Raise `ClusterError` if the scheduler is lost while the body talks to it.

        Not for code of a task or of a caller: an error of their disk looks the same.
        """
        try:
            yield
        except Exception as error:
            lost = isinstance(error, (OSError, CancelledError))
            if not lost and self._client.status == "running":
                raise
            raise self._lost() from error

    def threads(self) -> int:
        """Count the threads of all workers, and remember since when there are none.

        Raises
        ------
        ClusterError
            The scheduler is lost, all workers have been gone for five minutes, or a worker has
            other software than this process.
        """
        with self.asking():
            threads_of = dict(self._client.nthreads())
        found = sum(threads_of.values())
        joined = threads_of.keys() - self._checked
        if joined:
            with self.asking():
                check_software(self._client, joined)
            self._checked |= joined
        now = time.monotonic()
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
                f"{self._doing}, and none has come back in {PATIENCE_SECONDS:g} s",
                f"Look at what ended them in their logs, start others, then {AGAIN}",
            )
        return int(found)

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
                self.threads()
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
                self.threads()
                check = time.monotonic() + CHECK_SECONDS
            time.sleep(POLL_SECONDS)
        found: list[Future[Any]] = completed.next_batch(block=False)
        return found

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
            raise ClusterError(
                f"{error.allowed_failures + 1} workers, one after the other, were killed by the "
                f"same task while {self._doing}; the last was {error.last_worker.address}",
                "The usual reason is memory: give workers more of it, or fewer threads ('wavedask "
                f"run --plan' says what a task needs). Then {AGAIN}",
            ) from error
        except Exception as error:
            if isinstance(error, CancelledError) or future.status == "cancelled":
                raise self._lost() from error
            raise

    def _lost(self) -> ClusterError:
        return ClusterError(
            f"the Dask scheduler at {self._address()} was lost while {self._doing}",
            f"Start a cluster, then {AGAIN}",
        )

    def _address(self) -> str:
        scheduler: Any = self._client.scheduler
        return str(scheduler.addr if scheduler else "an unknown address")
