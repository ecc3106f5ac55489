"""Shared by all commands: error messages, options of the cluster, tables."""

import sys
import traceback
from collections.abc import Callable
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wavedask.errors import ClusterError, WavedaskError

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


def cluster_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose where to compute."""
    command = click.option(
        "--workers",
        type=click.IntRange(min=1),
        help="Number of processes (or threads); by default one per core.",
    )(command)
    return click.option(
        "--address",
        metavar="ADDRESS",
        help="Dask scheduler, such as tcp://host:8786, or 'threads'. By default a cluster of "
        "processes on this machine.",
    )(command)


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
