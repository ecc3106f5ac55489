"""A cluster that is lost during a run: noticed, and told as an error that says what to do."""

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
"""Time between two looks at what has ended; the workers have their next tasks already."""
CHECK_SECONDS: Final = 2.0
"""Time without an end of a task after which the workers are counted."""
PATIENCE_SECONDS: Final = 300.0
"""How long workers that are gone are waited for: a nanny or a batch system may start others."""

AGAIN: Final = "run the same again: a store keeps the frames that are complete."

_logger = logging.getLogger("wavedask")


class Watch:
    """Wait for the tasks of a cluster, for as long as there is one.

    By itself, a client waits without end for tasks of a cluster whose workers are gone, and says
    of a scheduler that is gone that its futures were cancelled.

    Parameters
    ----------
    client : distributed.Client
        The cluster.
    doing : str
        What it is used for, as it stands in messages.

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
        """Raise a `ClusterError` if the scheduler is lost while the body talks with it.

        Not for what runs code of a task or of a caller: their errors of a disk look the same.
        """
        try:
            yield
        except Exception as error:
            lost = isinstance(error, (OSError, CancelledError))
            if not lost and self._client.status == "running":
                raise
            raise self._lost() from error

    def threads(self) -> int:
        """Count the threads of the workers, and note since when there are none.

        Raises
        ------
        ClusterError
            The scheduler is lost, or the workers there were have been gone for five minutes.
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
        """Results of futures that have finished.

        Those of a worker that has died since are computed again by another one.

        Raises
        ------
        ClusterError
            As of `threads`.
        """
        # By itself it would wait for that other worker without end.
        client: Any = self._client
        waiting = asyncio.run_coroutine_threadsafe(
            client.gather(list(futures), asynchronous=True), client.loop.asyncio_loop
        )
        try:
            while not wait([waiting], CHECK_SECONDS).done:
                self.threads()
            if not waiting.cancelled() and waiting.exception() is not None:
                # Computed again, a task may have failed, or killed its worker.
                for future in futures:
                    self.check(future)
            with self.asking():
                found: list[Any] = waiting.result()
        finally:
            waiting.cancel()
        return found

    def ended(self, completed: "as_completed") -> "list[Future[Any]]":
        """Wait until tasks have ended; which ones.

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
        """Raise what the task of a future has raised, if it has.

        Raises
        ------
        ClusterError
            The scheduler was lost, or the workers that ran the task, one after the other.
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
