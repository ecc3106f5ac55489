"""Where the work is done: Dask clusters, progress, memory, outages."""

from typing import TYPE_CHECKING, Any

from wavedask.compute.environment import check_here, check_software, software
from wavedask.compute.memory import (
    LIBRARIES,
    M_MMAP_THRESHOLD,
    M_TRIM_THRESHOLD,
    keep_freed_memory,
    needs,
    task_needs,
)
from wavedask.compute.progress import current_client, progress_bar, run_each

if TYPE_CHECKING:
    from wavedask.compute.cluster import connect, cores, local_client

__all__ = [
    "LIBRARIES",
    "M_MMAP_THRESHOLD",
    "M_TRIM_THRESHOLD",
    "check_here",
    "check_software",
    "connect",
    "cores",
    "current_client",
    "keep_freed_memory",
    "local_client",
    "needs",
    "progress_bar",
    "run_each",
    "software",
    "task_needs",
]


def __getattr__(name: str) -> Any:
    """Import what needs `distributed` at its first use: the import takes a quarter of a second."""
    if name in ("connect", "cores", "local_client"):
        from wavedask.compute import cluster

        return getattr(cluster, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
