"""Dask's performance report of a run, as an HTML file."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wavedask.compute.kinds import optional
from wavedask.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

SAMPLE_SECONDS: Final = 0.5
"""Interval of the samples of memory and CPU, without a cluster."""

_logger = logging.getLogger("wavedask")


def check_report(file: Path) -> None:
    """Check that a report can be written, before anything is started.

    Parameters
    ----------
    file : Path
        The HTML file.

    Raises
    ------
    InputError
        The package bokeh is not installed, or the folder cannot be written.

    Examples
    --------
    >>> try:
    ...     check_report(Path("/nowhere/report.html"))
    ... except InputError as error:
    ...     print(error)
    the report /nowhere/report.html cannot be written. Give a file in a folder of yours.
    """
    optional("bokeh", "report")
    folder = file.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK) or file.is_dir():
        raise InputError(
            f"the report {file} cannot be written", "Give a file in a folder of yours."
        )


@contextmanager
def performance_report(file: Path, client: "Client | None") -> Iterator[None]:
    """Write Dask's report of what is computed while the body runs; call `check_report` before.

    With a cluster: its task stream, transfers and workers. With threads: the profile of tasks, and
    memory and CPU of this process. The report is written also if the body fails.

    Parameters
    ----------
    file : Path
        The HTML file; it is replaced.
    client : distributed.Client or None
        The cluster; None for the threads of this process.
    """
    with _of_threads(file) if client is None else _of_cluster(file):
        yield


@contextmanager
def _of_threads(file: Path) -> Iterator[None]:
    from dask.diagnostics.profile import Profiler, ResourceProfiler
    from dask.diagnostics.profile_visualize import visualize

    began = time.monotonic()
    tasks, resources = Profiler(), ResourceProfiler(dt=SAMPLE_SECONDS)
    try:
        with tasks, resources:
            yield
    finally:
        resources.close()
        if tasks.results:
            profilers = [profiler for profiler in (tasks, resources) if profiler.results]
            visualize(profilers, filename=str(file), show=False, save=True, mode="inline")
        else:
            seconds = time.monotonic() - began
            _logger.warning("no report in %s: nothing was computed in %.1f s", file, seconds)


@contextmanager
def _of_cluster(file: Path) -> Iterator[None]:
    import distributed

    # With its scripts inside: machines of a beamline often have no way out.
    report = distributed.performance_report(filename=str(file), mode="inline")
    report.__enter__()
    try:
        yield
    finally:
        # The error of a run that failed is worth more than one of its report.
        try:
            report.__exit__(None, None, None)
        except Exception as error:
            _logger.warning("no report in %s: %r", file, error)
