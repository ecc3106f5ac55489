"""Fixtures of the tests of the command line."""

from pathlib import Path

import pytest
from support.experiments import copied, write


@pytest.fixture
def folder(raw: Path, tmp_path: Path) -> Path:
    """A campaign and its experiment file, to be changed at will."""
    write(copied(raw, tmp_path))
    return tmp_path
