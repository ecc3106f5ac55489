"""Fixtures of the tests of deployments."""

import os

import pytest
from deploy.support.kubernetes import Tools

# It runs in the environment of the Dask operator, which is not that of the tests.
collect_ignore = ["support/operator_objects.py"]


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """Helm, validators, linters and the Dask operator, installed once for all processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return Tools(shared / "kubernetes-tools").installed()
