"""Tables of names and values, as text for a terminal and as HTML for a notebook."""

from collections.abc import Sequence
from html import escape

Rows = list[tuple[str, str]]
"""Rows of a table: a name and a value."""


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Align the cells of a table; the first column is aligned to the left.

    Examples
    --------
    >>> print(text_table([("frames", "3"), ("time", "1.5 s")]))
    frames      3
    time    1.5 s
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def html_table(rows: Sequence[Sequence[str]], *, title: str = "", header: bool = False) -> str:
    """Write a table as HTML; texts are escaped.

    Parameters
    ----------
    rows : sequence of sequence of str
        Cells by row; the first cell of a row is its name.
    title : str, optional
        Caption of the table.
    header : bool, default False
        Whether the first row names the columns.

    Returns
    -------
    str

    Examples
    --------
    >>> html_table([("a", "<b>")])
    '<table><tbody><tr><th>a</th><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    head = ""
    if header:
        names, *rows = rows
        cells = "".join(f"<th>{escape(name)}</th>" for name in names)
        head = f"<thead><tr>{cells}</tr></thead>"
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    lines = (
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for name, *cells in rows
    )
    return f"<table>{caption}{head}<tbody>{''.join(lines)}</tbody></table>"


def titled_table(title: str, rows: Rows) -> str:
    """Write names and values as text under a title.

    Examples
    --------
    >>> print(titled_table("Report", [("frames", "3"), ("time", "1.5 s")]))
    Report
      frames  3
      time    1.5 s
    """
    width = max(len(name) for name, _ in rows)
    return "\n".join((title, *(f"  {name.ljust(width)}  {value}".rstrip() for name, value in rows)))


class Tabular:
    """A result that shows itself as a table: in a terminal, by `print`, and in a notebook.

    A subclass has the property ``rows``. A dataclass among them needs ``repr=False``.
    """

    __slots__ = ()

    @property
    def rows(self) -> Rows:
        """Rows of the table: names and values."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """Write the table as text, under the name of the class."""
        return titled_table(type(self).__name__, self.rows)

    def _repr_html_(self) -> str:
        """Write the table for a notebook."""
        return html_table(self.rows, title=type(self).__name__)
