"""Fixtures that every test module may use."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Where several processes test, the threads of their linear algebra would wait for one another with
# the processors busy: it took six times the processor time. NumPy and SciPy read this when they are
# imported. A single process keeps the threads: some results are compared with those of workers,
# which have one.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import dask
import numpy as np
import pytest
import xarray as xr

import wavedask as wd

# Without this, a failed assertion in a support module shows no values. It must come before the
# import of these modules.
pytest.register_assert_rewrite("support")

from support.experiments import campaign  # noqa: E402


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


@pytest.fixture(scope="session")
def fourrod(data_dir: Callable[[str], Path]) -> tuple[xr.DataArray, xr.DataArray]:
    """Reference and sample speckle at four positions of a membrane, flat-corrected."""
    folder = data_dir("xray_fourrod")
    flat = wd.open_scan(folder / "Flatfield.tif")
    position = {"membrane [um]": 207.5 * np.arange(4)}
    reference, sample = (
        wd.correct(wd.open_scan(folder / f"{name}_*.tif", motors=position), flat=flat).compute()
        for name in ("ReferenceSpeckle", "SamplePlusSpeckle")
    )
    return reference, sample


def _current_client() -> Any:
    """Return the Dask client on which a computation would run now, if there is one."""
    client = sys.modules.get("distributed.client")
    return None if client is None else client._get_global_client()


@pytest.fixture(autouse=True)
def _no_client_left() -> Iterator[None]:
    """Fail a test that leaves a Dask client behind: later tests would compute on its cluster."""
    before = _current_client()
    yield
    left = _current_client()
    if left is not None and left is not before:
        left.close(timeout=5)
        pytest.fail(f"the test has left {left!r}")


@pytest.fixture
def threads() -> Iterator[None]:
    """Compute on two threads of this process."""
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small campaign. Copy it before you change a file."""
    return campaign(tmp_path_factory.mktemp("campaign"))
