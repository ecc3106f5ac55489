"""Progress bars: on a terminal, and in a notebook."""

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

DELAY: Final = 0.5
"""Seconds after which a notebook shows a bar: short work leaves none in the document."""
INTERVAL: Final = 0.2
"""Seconds between two updates of the bar in a notebook."""


@contextmanager
def progress_bar(
    label: str, total: int, *, show: bool | None = None
) -> Iterator[Callable[[int], None]]:
    """Show a bar while the body runs: on standard error, or below the cell of a notebook.

    Parameters
    ----------
    label : str
        What is being done, left of the bar.
    total : int
        Number of steps.
    show : bool, optional
        Whether to show the bar; by default where standard error is a terminal, and in a notebook
        for work of more than half a second.

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
    notebook = in_notebook()
    visible = (notebook or sys.stderr.isatty()) if show is None else show
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    progress = Progress(*columns, console=console, disable=not visible or notebook)
    task = progress.add_task(label, total=total)
    if visible and notebook:
        cell = _Cell(progress)
        try:
            yield lambda steps: cell.advance(task, steps)
        finally:
            cell.finish()
        return
    with progress:
        yield lambda steps: progress.advance(task, steps)


def in_notebook() -> bool:
    """Tell whether this process is the kernel of a notebook.

    Returns
    -------
    bool

    Examples
    --------
    >>> in_notebook()
    False
    """
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class _Cell:
    """A bar below a cell of a notebook, drawn by rich and updated in place.

    The live display of rich itself needs the package `ipywidgets` and an extension of the notebook
    server; to update an output needs neither.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._next = time.monotonic() + DELAY
        self._shown: Any = None

    def advance(self, task: Any, steps: int) -> None:
        """Count steps, and draw the bar if the last drawing is old enough."""
        self._progress.advance(task, steps)
        if time.monotonic() >= self._next:
            self._draw()

    def finish(self) -> None:
        """Draw the last state of a bar that is shown."""
        self._progress.stop()
        if self._shown is not None:
            self._draw()

    def _draw(self) -> None:
        from IPython.display import display

        self._next = time.monotonic() + INTERVAL
        picture = self._progress.get_renderable()
        if self._shown is None:
            self._shown = display(_Rendered(picture), display_id=True)  # type: ignore[no-untyped-call] # IPython does not annotate it
        else:
            self._shown.update(_Rendered(picture))


class _Rendered:
    """A picture of rich that a notebook displays as HTML, and as text where it has none."""

    def __init__(self, picture: Any) -> None:
        console = Console(record=True, width=80, file=io.StringIO(), force_jupyter=False)
        console.print(picture)
        self._html = console.export_html(
            inline_styles=True,
            clear=False,
            code_format='<pre style="margin:0;line-height:normal">{code}</pre>',
        )
        self._text = console.export_text()

    def __repr__(self) -> str:
        return self._text.rstrip()

    def _repr_html_(self) -> str:
        return self._html
