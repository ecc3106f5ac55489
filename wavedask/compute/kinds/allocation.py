"""Scheduler, driver and workers as the tasks of one SLURM allocation, by dask-jobqueue's runner.

``srun wavedask run experiment.yaml --cluster allocation`` starts the same command once per task of
the allocation. Task 0 becomes the scheduler, task 1 goes on as the driver, and the others become
workers; only the driver returns from here.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import dask
from distributed import Security
from distributed.core import rpc

from wavedask.compute.certificates import certificate, new_certificate
from wavedask.compute.cluster import LOOPBACK, WORKER_ENVIRONMENT, worker_config
from wavedask.compute.kinds.models import AllocationProfile
from wavedask.compute.kinds.slurm import DEATH_SECONDS, private_logs, slurm_library
from wavedask.compute.started import Started
from wavedask.errors import ClusterError, InputError
from wavedask.kernels.jit import NODE_CACHE

DRIVER: Final = "1"
"""Number of the task that goes on with the program."""
LEAST: Final = 3
"""Tasks: scheduler, driver, and a worker."""
IDLE: Final = "30 minutes"
"""After this time without a task the scheduler ends: the driver was killed."""
POLL_SECONDS: Final = 0.2
END_SECONDS: Final = 30.0
"""How long workers may take to end."""
GOODBYE_SECONDS: Final = 1.0


@contextmanager
def started(profile: AllocationProfile, name: str) -> Iterator[Started]:
    """Take the role of this task; only the driver gets a scheduler, the others end here.

    Parameters
    ----------
    profile : AllocationProfile
        Interface, scratch and memory.
    name : str
        Name of the profile.

    Yields
    ------
    Started

    Raises
    ------
    InputError
        This process is not a task of an allocation, or the allocation has fewer than three tasks.
    ClusterError
        The scheduler does not start.
    """
    tasks = int(os.environ.get("SLURM_NTASKS", 0))
    if "SLURM_PROCID" not in os.environ or tasks < LEAST:
        raise InputError(
            f"the cluster {name} needs an allocation of at least {LEAST} tasks, and this process "
            f"{'is not a task of one' if not tasks else f'is one of {tasks}'}",
            "Start it with srun in a job, as deploy/slurm/run.sbatch does.",
        )
    with dask.config.set(worker_config(dashboard=profile.dashboard)):
        folder = _folder(profile)
        runner = _runner(slurm_library(), profile, folder)
        with runner:
            try:
                yield Started(runner.scheduler_address, runner.security)
            finally:
                # Workers that lose their scheduler look for it, and complain.
                with suppress(OSError, TimeoutError):
                    runner.sync(_end_workers, runner.scheduler_comm, callback_timeout=END_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


async def _end_workers(scheduler: Any) -> None:
    """Let all workers end in order."""
    known = await scheduler.identity(n_workers=-1)
    await scheduler.retire_workers(workers=list(known["workers"]), close_workers=True, remove=True)
    # The message to a worker must arrive before the scheduler is gone.
    await asyncio.sleep(GOODBYE_SECONDS)


def _folder(profile: AllocationProfile) -> Path:
    """Make the folder where the tasks of this allocation find the scheduler."""
    asked = profile.allocation
    job = os.environ["SLURM_JOB_ID"]
    # A job that SLURM has started again has the same number, and the files of its first start.
    again = os.environ.get("SLURM_RESTART_COUNT", "0")
    folder = private_logs(asked.folder, "allocation.folder") / f"allocation-{job}-{again}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _runner(library: Any, profile: AllocationProfile, folder: Path) -> Any:
    """Start the scheduler, a worker, or nothing, by the number of this task."""
    asked = profile.allocation
    if os.environ["SLURM_PROCID"] != DRIVER:
        # The runner ends the scheduler and the workers by this signal.
        signal.signal(signal.SIGINT, lambda *_: sys.exit())

    class Runner(library.slurm.SLURMRunner):  # type: ignore[misc]  # has no types
        """The runner of dask-jobqueue, with TLS and with a limit for waiting."""

        security: Security | None = None

        async def before_scheduler_start(self) -> None:
            if asked.tls:
                self.security = self.scheduler_options["security"] = new_certificate(folder)

        async def before_worker_start(self) -> None:
            await self.get_scheduler_address()
            self.worker_options["security"] = certificate(folder) if asked.tls else None

        async def before_client_start(self) -> None:
            if asked.tls:
                self.security = certificate(folder)
                self.scheduler_comm = rpc(
                    self.scheduler_address,
                    connection_args=self.security.get_connection_args("client"),
                )

        async def get_scheduler_address(self) -> str:
            deadline = time.monotonic() + DEATH_SECONDS
            while time.monotonic() < deadline:
                try:
                    return str(json.loads(Path(self.scheduler_file).read_text())["address"])
                except (OSError, ValueError):  # not there yet, or half of it
                    await asyncio.sleep(POLL_SECONDS)
            raise ClusterError(
                f"the scheduler of this allocation has not started within {DEATH_SECONDS:g} s",
                f"Look into the log of the job. All tasks must see the folder {asked.folder} "
                "(allocation: folder).",
            )

    scratch = profile.scratch or tempfile.gettempdir()
    return Runner(
        scheduler_file=str(folder / "scheduler.json"),
        scheduler_options={
            "interface": asked.interface,
            "protocol": "tls://" if asked.tls else "tcp://",
            "dashboard": profile.dashboard,
            "dashboard_address": f"{LOOPBACK}:0",
            "idle_timeout": IDLE,
        },
        worker_class="distributed.Nanny",
        worker_options={
            "interface": asked.interface,
            "nthreads": profile.cores or int(os.environ.get("SLURM_CPUS_PER_TASK", 1)),
            "memory_limit": profile.memory or memory_of_task(os.environ) or "auto",
            "local_directory": scratch,
            "death_timeout": DEATH_SECONDS,
            "env": {**WORKER_ENVIRONMENT, NODE_CACHE: scratch},
        },
    )


def memory_of_task(environment: Any) -> int | None:
    """Return the share of one task in the memory of its job.

    Parameters
    ----------
    environment : mapping
        Variables of SLURM.

    Returns
    -------
    int or None
        Bytes; None if the job has no limit.

    Examples
    --------
    >>> memory_of_task({"SLURM_MEM_PER_NODE": "8192", "SLURM_STEP_TASKS_PER_NODE": "4(x2),3"})
    2147483648
    >>> memory_of_task({"SLURM_MEM_PER_CPU": "1024", "SLURM_CPUS_PER_TASK": "2"})
    2147483648
    """
    if "SLURM_MEM_PER_CPU" in environment:
        cpus = int(environment.get("SLURM_CPUS_PER_TASK", 1))
        return int(environment["SLURM_MEM_PER_CPU"]) * cpus * 2**20
    whole = int(environment.get("SLURM_MEM_PER_NODE", 0))
    counts = re.findall(r"(\d+)(?:\(x\d+\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", "1"))
    return whole * 2**20 // max(map(int, counts)) or None
