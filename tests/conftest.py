"""Fixtures that every test module may use."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Callable[[str], Path]:
    """Folder of real measurements by name; skips the test where there is none."""

    def folder(name: str) -> Path:
        root = os.environ.get("WAVEDASK_TEST_DATA")
        if not root:
            pytest.skip("WAVEDASK_TEST_DATA is not set: no real measurements to read")
        path = Path(root).resolve() / name
        if not path.is_dir():
            pytest.skip(f"WAVEDASK_TEST_DATA has no folder {name!r}")
        return path

    return folder
