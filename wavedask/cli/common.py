"""Shared by all commands: error messages, options of the cluster, tables."""

import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wavedask.errors import ClusterError, WavedaskError

if TYPE_CHECKING:
    from distributed import Client

FAILED: Final = 1
BAD_INPUT: Final = 2

MAX_WIDTH: Final = 2000
"""Width of a table that is not shown on a terminal, in characters."""


class Commands(click.Group):
    """Commands that report expected errors as one message without a traceback."""

    def invoke(self, context: click.Context) -> Any:
        """Run a command; the kind of an error gives the exit code."""
        try:
            return super().invoke(context)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            complain(
                "Stopped.",
                "All frames written so far are kept; run the same command again to resume.",
            )
            context.exit(FAILED)
        except Exception as error:
            if context.params.get("debug"):
                traceback.print_exc()
            if isinstance(error, WavedaskError):
                complain("Error:", str(error))
                context.exit(FAILED if isinstance(error, ClusterError) else BAD_INPUT)
            if isinstance(error, OSError):
                complain("Failed:", f"{error}. Check permissions, free space and the path.")
                context.exit(BAD_INPUT if isinstance(error, PermissionError) else FAILED)
            complain(
                "Failed:",
                f"{type(error).__name__}: {error}\nThis is an unexpected error. Run the command "
                "again as 'wavedask --debug ...' and report its output.",
            )
            context.exit(FAILED)


def complain(headline: str, message: str) -> None:
    """Print a message to stderr."""
    # As Text, because rich may take brackets in a path for markup.
    line = Text.assemble((headline, "bold red"), " ", message)
    Console(stderr=True).print(line, soft_wrap=True)


@dataclass(frozen=True)
class Where:
    """Where a command computes: what its options say.

    Attributes
    ----------
    cluster : str or None
        Name of a profile, or an address.
    workers : int or None
        Number of workers.
    wait : str or None
        How long to wait for the first worker.
    report : Path or None
        File for Dask's performance report.
    """

    cluster: str | None = None
    workers: int | None = None
    wait: str | None = None
    report: Path | None = None

    def arguments(self, otherwise: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of `wavedask.connect`.

        Parameters
        ----------
        otherwise : mapping
            Arguments that hold where no option was given. They belong to their profile: an option
            ``--cluster`` replaces them all.
        """
        given = {"profile": self.cluster, "workers": self.workers, "wait": self.wait}
        options = {key: value for key, value in given.items() if value is not None}
        return options if self.cluster is not None else {**otherwise, **options}

    @contextmanager
    def connected(
        self, otherwise: Mapping[str, Any] | None = None, *, per_task: int | None = None
    ) -> "Iterator[Client | None]":
        """Connect while the body runs, and write the report if one is asked for.

        Parameters
        ----------
        otherwise : mapping, optional
            As of `arguments`.
        per_task : int, optional
            Bytes that one task needs.

        Yields
        ------
        distributed.Client or None
        """
        from wavedask.compute import check_report, connect, performance_report

        if self.report is not None:
            check_report(self.report)
        with ExitStack() as stack:
            client = stack.enter_context(
                connect(**self.arguments(otherwise or {}), per_task=per_task)
            )
            if self.report is not None:
                stack.enter_context(performance_report(self.report, client))
            yield client


def _serve(cluster: str | None) -> None:
    """Become the scheduler or a worker, if this is such a task of a SLURM allocation.

    Here, and not only where the command connects: there it has read all headers already.
    """
    if os.environ.get("SLURM_PROCID", "1") == "1" or cluster is None:
        return
    from wavedask.compute import connect, load_profile

    if load_profile(cluster).profile.kind == "allocation":
        connect(cluster)


def cluster_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose where to compute; the command gets them as `where`."""

    @functools.wraps(command)
    def with_where(
        *arguments: Any,
        cluster: str | None,
        address: str | None,
        workers: int | None,
        wait: str | None,
        report: Path | None,
        **given: Any,
    ) -> None:
        if cluster is not None and address is not None:
            raise click.UsageError("--address is the former name of --cluster; give one of them")
        where = Where(address if cluster is None else cluster, workers, wait, report)
        _serve(where.cluster)
        command(*arguments, where=where, **given)

    options = [
        click.option(
            "--cluster",
            metavar="PROFILE",
            help="Where to compute: the name of a profile ('wavedask cluster list'), or a Dask "
            "scheduler, such as tcp://host:8786. By default processes on this machine.",
        ),
        click.option("--address", hidden=True),
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            help="Number of workers; by default as in the profile, or one per core.",
        ),
        click.option(
            "--wait",
            metavar="TIME",
            help="How long to wait for the first worker: seconds, or '10 minutes'.",
        ),
        click.option(
            "--report",
            metavar="FILE.html",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Write Dask's performance report of the computation.",
        ),
    ]
    decorated: Callable[..., None] = with_where
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def print_rows(title: str, rows: list[tuple[str, str]]) -> None:
    """Print a table of names and values."""
    table = Table(title=Text(title), show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        # As Text, because rich may take "[rad]" for markup.
        table.add_row(Text(name), Text(value))
    # Do not wrap lines in a file or a pipe: a program may read paths from them.
    Console(width=None if sys.stdout.isatty() else MAX_WIDTH).print(table)
