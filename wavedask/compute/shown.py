"""A progress bar for any computation of Dask, such as ``compute()`` of a dataset."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import dask
from dask.callbacks import Callback

from wavedask.compute.bars import INTERVAL, progress_bar
from wavedask.compute.progress import current_client

if TYPE_CHECKING:
    from distributed import Client


@contextmanager
def show_progress(label: str = "computing", *, show: bool | None = None) -> Iterator[None]:
    """Show a progress bar for each computation of Dask in the body.

    Functions that compute by themselves, such as `write_store`, have a bar anyway. This one is for
    ``compute()``, ``load()``, ``values`` and ``plot()`` of lazy results.

    Parameters
    ----------
    label : str, default "computing"
        What is being done, left of the bar.
    show : bool, optional
        Whether to show the bar; by default where standard error is a terminal, and in a notebook
        for work of more than half a second.

    Notes
    -----
    The bar counts the tasks of the graph, on a local scheduler and on the cluster of the current
    :class:`distributed.Client`.

    Examples
    --------
    >>> import dask.array as da
    >>> with show_progress("adding"):
    ...     print(da.ones((4, 4), chunks=2).sum().compute())
    16.0
    """
    client = current_client()
    if client is None:
        with _Tasks(label, show):
            yield
    else:
        with dask.config.set(scheduler=_Shown(client, label, show)):
            yield


class _Tasks(Callback):
    """A bar that counts the tasks of a local scheduler."""

    def __init__(self, label: str, show: bool | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # dask does not annotate it
        self._label, self._show = label, show
        self._stack = ExitStack()
        self._advance: Callable[[int], None] = lambda steps: None
        self._running = 0

    def _start_state(self, _graph: Any, state: Any) -> None:
        # A task that computes something itself is one task of the computation that is shown.
        if not self._running:
            total = len(state["ready"]) + len(state["waiting"])
            self._advance = self._stack.enter_context(
                progress_bar(self._label, total, show=self._show)
            )
        self._running += 1

    def _posttask(self, *_: Any) -> None:
        if self._running == 1:
            self._advance(1)

    def _finish(self, *_: Any) -> None:
        self._running -= 1
        if not self._running:
            self._stack.close()


class _Shown:
    """The scheduler of a client, with a bar that counts the tasks of a computation.

    `__self__` is the client, as for its own method ``get``: so `current_client` finds it.
    """

    def __init__(self, client: "Client", label: str, show: bool | None) -> None:
        self.__self__ = client
        self._label, self._show = label, show

    def __call__(self, graph: Any, keys: Any, **options: Any) -> Any:
        """Compute, as ``Client.get``."""
        from distributed import futures_of

        client = self.__self__
        packed = client.get(graph, keys, sync=False, **options)
        futures = futures_of(packed)
        try:
            with dask.config.set(scheduler=client.get):
                self._watch(client, futures)
                return client.gather(packed)
        except BaseException:
            client.cancel(futures)
            raise

    def _watch(self, client: "Client", futures: Sequence[Any]) -> None:
        """Show a bar until the futures have a result or one has failed."""
        from distributed.diagnostics.progressbar import ProgressBar

        counts = [0, 0]

        class Counted(ProgressBar):
            def _draw_bar(self, *, remaining: int, all: int, **_: Any) -> None:  # noqa: A002
                counts[:] = all - remaining, all

        # Any: distributed annotates none of these.
        bar: Any = Counted
        of: Any = client
        counting = bar(futures, of.scheduler.address).listen()
        listening = asyncio.run_coroutine_threadsafe(counting, of.loop.asyncio_loop)
        with ExitStack() as stack:
            advance: Callable[[int], None] | None = None
            drawn, running = 0, True
            # Drawn in this thread: a notebook knows the cell of an output by its thread.
            while running:
                running = bool(wait([listening], timeout=INTERVAL).not_done)
                done, total = counts
                if advance is None and total:
                    advance = stack.enter_context(progress_bar(self._label, total, show=self._show))
                if advance is not None:
                    advance(done - drawn)
                    drawn = done
