"""Run many tasks on any Dask scheduler, and show the progress."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

import dask
import dask.threaded
from dask._task_spec import DataNode
from dask.base import get_scheduler
from dask.callbacks import Callback
from dask.core import get_dependencies
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.optimization import cull
from dask.system import CPU_COUNT

from wavedask.compute.bars import progress_bar
from wavedask.compute.outage import Watch

if TYPE_CHECKING:
    from distributed import Client

IN_FLIGHT_PER_THREAD: Final = 16
"""Tasks that wait or run on a cluster at one time, per thread of its workers.

This is enough that no thread waits for the driver. It is few enough that the scheduler holds some
dozens of tasks of a scan, and not ten thousand.
"""

Report = Callable[[int, Any], None]


def run_each(
    tasks: Sequence[Delayed],
    *,
    label: str,
    on_done: Callable[[int, Any], None],
    show: bool | None = None,
) -> None:
    """Compute independent tasks and report each one as it ends.

    The tasks run where Dask is configured to run them: on the cluster of the current
    :class:`distributed.Client`, or else on the local scheduler. Intermediate results that several
    tasks share are computed once. The graphs are executed as they are: optimise them before.

    Parameters
    ----------
    tasks : sequence of Delayed
        The tasks. Their results are sent to this process, and must be small.
    label : str
        What is being done, left of the progress bar.
    on_done : callable
        ``on_done(index, result)`` is called in this process, in the calling thread, once for each
        task in the order in which they end. If it raises, the remaining tasks are cancelled.
    show : bool, optional
        Whether to show the bar; by default as in `progress_bar`.

    Raises
    ------
    ClusterError
        The scheduler is lost, or all workers are lost and none comes back.
    Exception
        The exception of the first task that fails, as the task raised it. Tasks that ended before
        are reported first, and tasks that have not begun are cancelled. With the threaded scheduler
        no task is running when this function returns or raises. A cluster may still finish tasks
        that it had begun.

    Examples
    --------
    >>> from dask import delayed
    >>> squares = {}
    >>> run_each(
    ...     [delayed(pow)(n, 2) for n in range(4)],
    ...     label="squaring",
    ...     on_done=lambda index, result: squares.update({index: result}),
    ... )
    >>> sorted(squares.items())
    [(0, 0), (1, 1), (2, 4), (3, 9)]
    """
    with progress_bar(label, len(tasks), show=show) as advance:

        def report(index: int, result: Any) -> None:
            on_done(index, result)
            advance(1)

        client = current_client()
        if client is None:
            _run_locally(tasks, report)
        else:
            with _seceded():
                _run_on_cluster(client, tasks, report, Watch(client, label))


def current_client() -> "Client | None":
    """Return the client of the cluster on which Dask would compute now.

    Returns
    -------
    distributed.Client or None
        None where Dask would compute on a local scheduler.

    Examples
    --------
    >>> with dask.config.set(scheduler="threads"):
    ...     print(current_client())
    None
    """
    # Imported here: the import takes half a second, and a local run never needs it.
    from distributed import Client

    owner = getattr(get_scheduler(), "__self__", None)
    return owner if isinstance(owner, Client) else None


@contextmanager
def _seceded() -> Iterator[None]:
    """Inside a task of a cluster, give the thread of the task free while the body runs.

    The body waits for other tasks of the same cluster. On a cluster with one thread these would
    never begin. Outside of a task this does nothing.
    """
    from distributed import rejoin, secede

    try:
        secede()
    except ValueError:
        # This thread runs no task.
        yield
        return
    try:
        yield
    finally:
        rejoin()


def _run_locally(tasks: Sequence[Delayed], report: Report) -> None:
    """Run `tasks` on the local scheduler that Dask is configured to use."""
    graph = _merged_graph(tasks)
    index_of = {task.key: index for index, task in enumerate(tasks)}
    reported = set()

    def posttask(key: Any, result: Any, *_: Any) -> None:
        if key in index_of:
            reported.add(index_of[key])
            report(index_of[key], result)

    get = get_scheduler(collections=tasks)
    if get is None:
        return
    with ExitStack() as stack:
        options = {}
        if get is dask.threaded.get and dask.config.get("pool", None) is None:
            # Our own pool is closed only when its running tasks have ended: after a failure nothing
            # is written in the background.
            threads = dask.config.get("num_workers", None) or CPU_COUNT
            options["pool"] = stack.enter_context(ThreadPoolExecutor(threads))
        stack.enter_context(Callback(posttask=posttask))
        results = get(graph, [task.key for task in tasks], **options)
    # A task that is a plain value is not executed, and a task that is given twice runs once.
    for index, result in enumerate(results):
        if index not in reported:
            report(index, result)


def _run_on_cluster(
    client: "Client", tasks: Sequence[Delayed], report: Report, watch: Watch
) -> None:
    """Run `tasks` on a cluster, a bounded number of them at a time."""
    from distributed import as_completed

    graph = _merged_graph(tasks)
    indices: dict[Any, list[int]] = {}
    for index, task in enumerate(tasks):
        indices.setdefault(task.key, []).append(index)
    waiting = list(indices)
    last_user = _last_users(graph, waiting)
    submitted = 0
    in_flight: dict[Any, Any] = {}
    shared: dict[Any, Any] = {}
    completed = as_completed(loop=client.loop)

    def submit() -> None:
        nonlocal submitted
        limit = IN_FLIGHT_PER_THREAD * max(1, watch.threads())
        # Half a window at a time: each submission is a message to the scheduler.
        if submitted == len(waiting) or len(in_flight) > limit // 2:
            return
        keys = waiting[submitted : submitted + limit - len(in_flight)]
        submitted += len(keys)
        # What the cluster has is not sent again: it may be larger than all tasks of a window.
        there = shared.keys() - set(keys)
        window, _ = cull(graph | {key: DataNode(key, None) for key in there}, keys)
        window = {key: task for key, task in window.items() if key not in there}
        # The cluster deletes a result that no submitted task needs: keep those that later tasks
        # need.
        held = [key for key in window if last_user.get(key, -1) >= submitted]
        with watch.asking():
            # First come, first served: otherwise Dask mixes the windows of a minute, and a task may
            # wait for all that are submitted after it.
            futures = client.get(window, keys + held, sync=False, fifo_timeout=0)
        in_flight.update(zip(keys, futures, strict=False))
        completed.update(futures[: len(keys)])
        shared.update(zip(held, futures[len(keys) :], strict=True))
        for key in [key for key in shared if last_user[key] < submitted]:
            del shared[key]

    def collect() -> None:
        done = [key for key, future in in_flight.items() if future.status == "finished"]
        if not done:
            # An empty request, too, would go to the scheduler, and wait for a lost one.
            return
        results = watch.gathered([in_flight[key] for key in done])
        for key, result in zip(done, results, strict=True):
            del in_flight[key]
            for index in indices[key]:
                report(index, result)

    try:
        submit()
        while in_flight:
            ended = watch.ended(completed)
            collect()
            for future in ended:
                watch.check(future)
                if future.key in in_flight:
                    # It finished, and its worker was lost before the result was collected.
                    completed.add(future)
            submit()
    except BaseException:
        watch.cancel([*in_flight.values(), *shared.values()])
        raise


def _last_users(graph: Mapping[Any, Any], roots: Sequence[Any]) -> dict[Any, int]:
    """Find the keys that several `roots` need, with the position of the last root that needs them.

    Of a shared chain only its last key is listed.
    """
    first_user: dict[Any, int] = {}
    last_user: dict[Any, int] = {}
    for position, root in enumerate(roots):
        stack = [root]
        while stack:
            key = stack.pop()
            if key not in first_user:
                first_user[key] = position
                stack.extend(get_dependencies(graph, key))
            elif first_user[key] != position:
                last_user[key] = position
    return last_user


def _merged_graph(tasks: Sequence[Delayed]) -> dict[Any, Any]:
    """Merge the graphs of all `tasks`; a layer that they share is merged once."""
    graphs = {id(task.__dask_graph__()): task.__dask_graph__() for task in tasks}
    layers = {
        id(layer): layer
        for graph in graphs.values()
        for layer in (graph.layers.values() if isinstance(graph, HighLevelGraph) else (graph,))
    }
    merged: dict[Any, Any] = {}
    for layer in layers.values():
        merged.update(layer)
    return merged
