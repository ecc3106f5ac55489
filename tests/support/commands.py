"""The command line, called in this process or in one of its own."""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wavedask.cli import main

THREADS = ["--address", "threads", "--workers", "2"]


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def rows(output: str) -> dict[str, str]:
    """Cells of a table by the text in their first column."""
    cells = (re.split("[│|]", line)[1:3] for line in output.splitlines() if line[:1] in "│|")
    return {name.strip(): value.strip() for name, value in filter(None, cells)}


def refused(*arguments: str | Path, code: int = 2) -> str:
    """Message of a command that must fail on its input, and say so in the right place."""
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def succeeded(*arguments: str | Path) -> dict[str, str]:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return rows(result.stdout)


def python_m(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "wavedask", *map(str, arguments)]


def until(condition: Callable[[], bool], *, seconds: float = 120) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail("it did not happen")
        time.sleep(0.01)
