"""What all commands share: errors in one message, options of the cluster, tables."""

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
"""Columns of a table that is not shown on a terminal."""


class Commands(click.Group):
    """Commands whose foreseen errors are one message and no traceback."""

    def invoke(self, context: click.Context) -> Any:
        """Run a command; what went wrong decides the exit code."""
        try:
            return super().invoke(context)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            complain("Stopped.", "What was written is kept; run it again to resume.")
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
                f"{type(error).__name__}: {error}\nThis is not an error that wavedask foresaw: run "
                "it again as 'wavedask --debug ...' and report what it prints.",
            )
            context.exit(FAILED)


def complain(headline: str, message: str) -> None:
    """Print a message where errors go."""
    # As Text, because paths may hold what rich takes for markup.
    line = Text.assemble((headline, "bold red"), " ", message)
    Console(stderr=True).print(line, soft_wrap=True)


def cluster_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say where to compute."""
    command = click.option(
        "--workers", type=click.IntRange(min=1), help="Processes (or threads); one per core."
    )(command)
    return click.option(
        "--address",
        metavar="ADDRESS",
        help="Dask scheduler to use, as tcp://host:8786, or 'threads'; by default a cluster of "
        "processes on this machine.",
    )(command)


def print_rows(title: str, rows: list[tuple[str, str]]) -> None:
    """Print a table of names and values."""
    table = Table(title=Text(title), show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        # As Text, because "[rad]" is not meant as markup.
        table.add_row(Text(name), Text(value))
    # In a file or a pipe a line is as long as it is: what reads it may look for a path.
    Console(width=None if sys.stdout.isatty() else MAX_WIDTH).print(table)
