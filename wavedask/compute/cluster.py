"""Workers on this machine, and what is set in every worker: one thread per task."""

import asyncio
import importlib
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import cv2
import dask
import zarr
from dask.system import cpu_count
from dask.utils import format_bytes, parse_bytes
from distributed import Client, LocalCluster, Security, Worker, WorkerPlugin
from tornado.ioloop import PeriodicCallback

from wavedask.compute.environment import check_cache
from wavedask.compute.memory import LIBRARIES, give_back_freed_memory, keep_freed_memory
from wavedask.errors import InputError
from wavedask.kernels.warm import warm

LOOPBACK: Final = "127.0.0.1"

WORKER_ENVIRONMENT: Final = {
    # The acquisition of a facility stops if a reader holds a lock on its file.
    "HDF5_USE_FILE_LOCKING": "FALSE",
    # Numba reads its number of threads when it is imported: set this before.
    "NUMBA_NUM_THREADS": "1",
}
"""Environment of a worker process before it imports anything."""

PROFILER: Final = "distributed.worker.profile.enabled"
"""Setting of Dask: whether workers sample what they run."""


def worker_config(*, dashboard: bool = False) -> dict[str, Any]:
    """Return the Dask configuration of a cluster that is started here.

    Parameters
    ----------
    dashboard : bool, default False
        Whether its web pages are wanted.

    Returns
    -------
    dict of str to object
        Settings for `dask.config.set`.

    Examples
    --------
    >>> sorted(worker_config(dashboard=True))
    ['distributed.scheduler.allowed-failures']
    """
    # A task that has killed three workers, usually by its memory, is not given to a fourth.
    settings: dict[str, Any] = {"distributed.scheduler.allowed-failures": 2}
    if dashboard:
        return settings
    return settings | {
        # The statistical profiler interrupts the running task a hundred times per second. It costs
        # six per cent of a loop of template matches, for a dashboard that nobody has open.
        PROFILER: False,
        # The web pages of Dask have no password, and show code, paths and logs to every user.
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
    }


SCRATCH: Final = "temporary-directory"
"""Setting of Dask: the folder of the workers' files."""

KEPT_SHARE: Final = 0.65
"""Share of a worker's memory limit above which freed memory is not kept.

Dask writes results to the disk above 0.7, and starts no task above 0.8. Less would cost time: a
large tile in a worker of 2 GB takes more than half of it, and would get new pages all the time.
"""
WATCH_MILLISECONDS: Final = 500

ZARR_LIMITS: Final = {"async.concurrency": 4, "threading.max_workers": 4}
"""Concurrent requests and codec threads of Zarr in one process; Zarr's default is 10 per task."""


def cores() -> int:
    """Count the cores that this process may use.

    Returns
    -------
    int
        Cores of the machine that the affinity mask and the control group (a container, a batch job)
        leave to this process.

    Examples
    --------
    >>> cores() >= 1
    True
    """
    return int(cpu_count())


@contextmanager
def limit_threads() -> Iterator[None]:
    """Keep OpenCV to one thread and Zarr to a few while the body runs.

    Dask owns the cores: it runs one task per core, and a library that starts threads of its own
    inside each task only makes them wait for each other. Numba needs no limit here, because the
    kernels of this package are compiled without ``parallel=True``.

    Examples
    --------
    >>> with limit_threads():
    ...     cv2.getNumThreads()
    1
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with zarr.config.set(ZARR_LIMITS):
            yield
    finally:
        cv2.setNumThreads(before)


class WorkerSetup(WorkerPlugin):
    """Apply :func:`limit_threads` and `keep_freed_memory` inside the workers of a cluster.

    Once it is registered on a client, it runs on all workers, also on those that join later.

    Examples
    --------
    >>> with Client(processes=False, n_workers=1, dashboard_address=":0") as client:
    ...     _ = client.register_plugin(WorkerSetup())
    ...     client.submit(cv2.getNumThreads).result()
    1
    """

    name = "wavedask-worker-setup"
    # Several clients may share a cluster: the plugin of the first one stays.
    idempotent = True

    async def setup(self, worker: Worker) -> None:
        """Set the limits of threads and memory when a worker starts, and load the kernels."""
        check_cache()
        # Filters of HDF5: the readers of wavedask load them, tasks of others do not.
        with suppress(ImportError):
            importlib.import_module("hdf5plugin")
        self._limits = ExitStack()
        for variable, value in WORKER_ENVIRONMENT.items():
            if variable not in os.environ:
                os.environ[variable] = value
                self._limits.callback(os.environ.pop, variable, None)
        self._limits.enter_context(limit_threads())
        if keep_freed_memory() and worker.memory_manager.memory_limit:
            watch = PeriodicCallback(lambda: _relieve(worker), WATCH_MILLISECONDS)
            watch.start()
            self._limits.callback(watch.stop)
        # On a busy machine this takes minutes if kernels must be compiled. A worker that sends no
        # heartbeat meanwhile is restarted, and begins again.
        await asyncio.to_thread(warm)

    def teardown(self, worker: Worker) -> None:
        """Remove the limits when it ends: it may have run in the user's own process."""
        self._limits.close()


def _relieve(worker: Worker) -> None:
    """Return kept memory to the system before Dask spills results or pauses the worker."""
    limit = worker.memory_manager.memory_limit
    if limit and worker.monitor.get_process_memory() > KEPT_SHARE * limit:
        give_back_freed_memory()


class IgnoreInterrupts(WorkerPlugin):
    """Let only the process that drives the run handle Ctrl-C.

    A terminal sends the signal to all processes of a command. The workers would end with
    tracebacks; the driver stops them in order.
    """

    name = "wavedask-ignore-interrupts"
    idempotent = True

    def setup(self, worker: Worker) -> None:
        """Ignore the signal, if this is the thread that handles signals."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def local_cluster(
    workers: int | None = None,
    *,
    threads_per_worker: int = 1,
    memory_limit: str | int = "auto",
    dashboard: bool = False,
) -> Iterator[LocalCluster]:
    """Start worker processes on this machine; they are stopped when the body ends.

    Parameters
    ----------
    workers, threads_per_worker, memory_limit
        As of `local_client`.
    dashboard : bool, default False
        Whether to serve Dask's web pages, on a free port of the loopback interface.

    Yields
    ------
    distributed.LocalCluster

    Raises
    ------
    InputError
        As of `local_client`.

    Examples
    --------
    >>> with local_cluster(1) as cluster:
    ...     len(cluster.workers)
    1
    """
    if threads_per_worker < 1:
        raise InputError(
            f"threads_per_worker is {threads_per_worker}", "Give a number of at least 1."
        )
    if workers is None:
        workers = max(1, cores() // threads_per_worker)
    check_count(workers)
    check_memory(memory_limit)
    check_scratch()
    warm()  # compile once, here: the workers load it from the disk
    environment = dict(os.environ)
    with (
        environment_restored(environment),
        dask.config.set(worker_config(dashboard=dashboard)),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads_per_worker,
            memory_limit=memory_limit,
            processes=True,
            host=LOOPBACK,
            # Other users of this machine can reach the ports. Scheduler, workers and client know
            # each other by a certificate that exists only in their memory.
            security=Security.temporary(),
            # None would still take the port 8787, for an HTTP server without pages.
            dashboard_address=f"{LOOPBACK}:0",
            scheduler_kwargs={"dashboard": dashboard},
            # A worker that is told to stop may still say that it lost its scheduler.
            silence_logs=logging.CRITICAL,
            env=WORKER_ENVIRONMENT,
        ) as cluster,
    ):
        yield cluster


@contextmanager
def local_client(
    workers: int | None = None,
    *,
    threads_per_worker: int = 1,
    memory_limit: str | int = "auto",
) -> Iterator[Client]:
    """Start worker processes on this machine and yield a client of them.

    Scheduler and workers listen on free ports of the loopback interface only. They talk by TLS with
    a temporary certificate, so that no other user of the machine can connect; there is no web page.
    They are stopped when the body ends, also by an exception. The workers are spawned: a script
    that calls this needs the guard ``if __name__ == "__main__":``.

    Parameters
    ----------
    workers : int, optional
        Number of processes; by default enough to use all cores.
    threads_per_worker : int, default 1
        Tasks that run at a time in one process.
    memory_limit : str or int, default "auto"
        Memory of one worker, as bytes or as a text such as ``"4 GiB"``; by default its share of the
        memory of the machine.

    Yields
    ------
    distributed.Client
        The client; it is the current one inside the body.

    Raises
    ------
    InputError
        A number of workers or threads below one, too little memory for a worker, or a scratch
        folder of Dask that cannot be used.

    Examples
    --------
    >>> with local_client(1) as client:
    ...     client.submit(sum, [1, 2, 3]).result()
    6
    """
    environment = dict(os.environ)
    with (
        local_cluster(
            workers, threads_per_worker=threads_per_worker, memory_limit=memory_limit
        ) as cluster,
        Client(cluster) as client,
    ):
        with environment_restored(environment):
            client.register_plugin(WorkerSetup())
            client.register_plugin(IgnoreInterrupts())
        yield client


@contextmanager
def environment_restored(before: Mapping[str, str]) -> Iterator[None]:
    """Restore the environment of this process at the end: a nanny sets that of its workers here.

    Examples
    --------
    >>> with environment_restored(dict(os.environ)):
    ...     os.environ["NUMBA_NUM_THREADS"] = "64"
    >>> os.environ.get("NUMBA_NUM_THREADS") == "64"
    False
    """
    try:
        yield
    finally:
        for variable in os.environ.keys() - before.keys():
            del os.environ[variable]
        os.environ.update(before)


def check_count(workers: int) -> None:
    """Check a number of workers.

    Raises
    ------
    InputError
        It is below one.

    Examples
    --------
    >>> check_count(1)
    """
    if workers < 1:
        raise InputError(f"workers is {workers}", "Give a number of at least 1.")


def check_memory(limit: str | int) -> None:
    """Check that a worker has more memory than its libraries need: Dask would restart it for ever.

    Parameters
    ----------
    limit : str or int
        Memory of a worker; zero means no limit, and ``"auto"`` a share of the machine.

    Raises
    ------
    InputError
        It is too little.

    Examples
    --------
    >>> check_memory("1 GiB")
    """
    if limit == "auto" or not limit:
        return
    given = parse_bytes(limit)
    least = LIBRARIES * 5 // 4
    if given < least:
        raise InputError(
            f"memory_limit is {format_bytes(given)}",
            f"Give a worker at least {format_bytes(least)} for its libraries, and in addition what "
            "'wavedask run --plan' says for a block.",
        )


def check_scratch() -> None:
    """Check the folder in which the workers put what does not fit into memory.

    Raises
    ------
    InputError
        It cannot be created or written.

    Examples
    --------
    >>> check_scratch()
    """
    given = dask.config.get(SCRATCH, None) or tempfile.gettempdir()
    folder = Path(given)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        problem = "" if os.access(folder, os.W_OK | os.X_OK) else "it may not be written"
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise InputError(
            f"Dask's {SCRATCH} is {given}, which cannot be used: {problem}",
            "Create the folder, or name another one: the environment variable "
            "DASK_TEMPORARY_DIRECTORY, or 'temporary-directory' in ~/.config/dask/*.yaml.",
        )
