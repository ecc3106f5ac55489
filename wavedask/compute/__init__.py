"""Where the work is done: Dask clusters, progress, memory, outages."""

import importlib
from typing import TYPE_CHECKING, Any

from wavedask.compute.blocks import BlockGraph
from wavedask.compute.environment import check_here, check_software, software
from wavedask.compute.memory import (
    LIBRARIES,
    M_MMAP_THRESHOLD,
    M_TRIM_THRESHOLD,
    keep_freed_memory,
    task_needs,
)
from wavedask.compute.progress import current_client, progress_bar, run_each

if TYPE_CHECKING:
    from wavedask.compute.cluster import cores, local_client
    from wavedask.compute.connection import Connection, Threads, connect
    from wavedask.compute.profiles import Named, load_profile, profile_files

__all__ = [
    "LIBRARIES",
    "M_MMAP_THRESHOLD",
    "M_TRIM_THRESHOLD",
    "BlockGraph",
    "Connection",
    "Named",
    "Threads",
    "check_here",
    "check_software",
    "connect",
    "cores",
    "current_client",
    "keep_freed_memory",
    "load_profile",
    "local_client",
    "profile_files",
    "progress_bar",
    "run_each",
    "software",
    "task_needs",
]


_AT_FIRST_USE = {
    "Connection": "connection",
    "Named": "profiles",
    "Threads": "connection",
    "connect": "connection",
    "cores": "cluster",
    "load_profile": "profiles",
    "local_client": "cluster",
    "profile_files": "profiles",
}
"""Modules that need `distributed` or `pydantic`, whose imports take a quarter of a second."""


def __getattr__(name: str) -> Any:
    """Import what needs `distributed` at its first use."""
    if name in _AT_FIRST_USE:
        module = importlib.import_module(f"wavedask.compute.{_AT_FIRST_USE[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
