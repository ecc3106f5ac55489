"""Progress of long work, shown once and rightly under threads and under a Dask cluster."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def progress_bar(
    label: str, total: int, *, show: bool | None = None
) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error while the body runs.

    Parameters
    ----------
    label : str
        What is being done, left of the bar.
    total : int
        Number of steps.
    show : bool, optional
        Whether to show the bar; by default only where standard error is a terminal.

    Yields
    ------
    callable
        ``advance(steps)``, to be called as steps are finished; safe from several threads.

    Examples
    --------
    >>> with progress_bar("reading headers", 3) as advance:
    ...     for _ in range(3):
    ...         advance(1)
    """
    visible = sys.stderr.isatty() if show is None else show
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not visible) as progress:
        task = progress.add_task(label, total=total)
        yield lambda steps: progress.advance(task, steps)
