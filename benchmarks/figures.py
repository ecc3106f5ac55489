"""Tables of figures: printed to the terminal, and written as Markdown for the docs."""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

Rows = Sequence[Sequence[str]]


def _file(text: str) -> Path:
    """Refuse a folder now, not after minutes of measuring."""
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no file in a folder that exists")
    return path


def add_write_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that every benchmark has."""
    parser.add_argument(
        "--write", type=_file, metavar="FILE.md", help="also write the table as Markdown"
    )


def show(title: str, headings: Sequence[str], rows: Rows, *, write: Path | None) -> None:
    """Print a table, and write it as Markdown if a file is given; the first column is text."""
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    # Do not wrap lines in a file or a pipe.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    if write is not None:
        machine = (
            f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
        )
        lines = [
            f"{title} ({machine}).",
            "",
            f"| {' | '.join(headings)} |",
            f"|{'|'.join(['---'] + ['---:'] * (len(headings) - 1))}|",
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
        write.write_text("\n".join(lines) + "\n", encoding="utf-8")
