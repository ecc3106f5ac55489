"""Where the work is done: Dask clusters, progress, memory, outages."""

import importlib
from typing import TYPE_CHECKING, Any

from wavedask.compute.bars import progress_bar
from wavedask.compute.blocks import BlockGraph, compute_blocks
from wavedask.compute.environment import check_here, check_software, software
from wavedask.compute.memory import (
    LIBRARIES,
    M_MMAP_THRESHOLD,
    M_TRIM_THRESHOLD,
    keep_freed_memory,
    needs,
    task_needs,
)
from wavedask.compute.progress import current_client, run_each
from wavedask.compute.shown import show_progress
from wavedask.compute.visible import (
    check_memory_of_workers,
    check_paths,
    check_url,
    invisible,
    needed,
)

if TYPE_CHECKING:
    from wavedask.compute.cluster import cores, local_client
    from wavedask.compute.connection import Connection, Threads, connect
    from wavedask.compute.kinds.models import Profile
    from wavedask.compute.profiles import Named, load_profile, profile_files
    from wavedask.compute.reporting import check_report, performance_report

__all__ = [
    "LIBRARIES",
    "M_MMAP_THRESHOLD",
    "M_TRIM_THRESHOLD",
    "BlockGraph",
    "Connection",
    "Named",
    "Profile",
    "Threads",
    "check_here",
    "check_memory_of_workers",
    "check_paths",
    "check_report",
    "check_software",
    "check_url",
    "compute_blocks",
    "connect",
    "cores",
    "current_client",
    "invisible",
    "keep_freed_memory",
    "load_profile",
    "local_client",
    "needed",
    "needs",
    "performance_report",
    "profile_files",
    "progress_bar",
    "run_each",
    "show_progress",
    "software",
    "task_needs",
]


_AT_FIRST_USE = {
    "Connection": "connection",
    "Named": "profiles",
    "Profile": "kinds.models",
    "Threads": "connection",
    "check_report": "reporting",
    "connect": "connection",
    "cores": "cluster",
    "load_profile": "profiles",
    "local_client": "cluster",
    "performance_report": "reporting",
    "profile_files": "profiles",
}
"""Modules that need `distributed` or `pydantic`, whose imports take a quarter of a second."""


def __getattr__(name: str) -> Any:
    """Import what needs `distributed` at its first use."""
    if name in _AT_FIRST_USE:
        module = importlib.import_module(f"wavedask.compute.{_AT_FIRST_USE[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
