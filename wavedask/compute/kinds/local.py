"""Processes on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask

from wavedask.compute.cluster import SCRATCH, local_cluster
from wavedask.compute.kinds.models import LocalProfile
from wavedask.compute.started import Started


@contextmanager
def started(profile: LocalProfile, name: str) -> Iterator[Started]:
    """Start processes; by default one per core.

    Parameters
    ----------
    profile : LocalProfile
        How many, and how large.
    name : str
        Name of the profile.

    Yields
    ------
    Started

    Raises
    ------
    InputError
        As of `wavedask.compute.local_client`.
    """
    workers = profile.workers
    settings: dict[str, Any] = {} if profile.scratch is None else {SCRATCH: profile.scratch}
    with (
        dask.config.set(settings),
        local_cluster(
            None if workers is None else max(1, workers.minimum),
            threads_per_worker=profile.cores or 1,
            memory_limit=profile.memory or "auto",
            dashboard=profile.dashboard,
        ) as cluster,
    ):
        if workers is not None and not workers.fixed:
            cluster.adapt(minimum=workers.minimum, maximum=workers.maximum)
        yield Started(cluster, own_terminal=True)
