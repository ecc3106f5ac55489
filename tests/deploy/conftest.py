"""Fixtures of the tests of deployments."""

import os

import pytest
from deploy.support.kubernetes import Tools

# It runs in the environment of the Dask operator, which is not that of the tests.
collect_ignore = ["support/operator_objects.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let a socket that Dask left open be no error of the test that runs when it is collected.

    Once in each run of all deployments, one is found that belongs to a connection of an earlier
    test to a server that has ended. Forced collections after every test do not show which.
    """
    for item in items:
        if item.get_closest_marker("deploy"):
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"))


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """Helm, validators, linters and the Dask operator, installed once for all processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return Tools(shared / "kubernetes-tools").installed()
