"""Workers as jobs of SLURM, by dask-jobqueue."""

import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import dask
from distributed.deploy.spec import ProcessInterface

from wavedask.compute.certificates import new_certificate
from wavedask.compute.cluster import LOOPBACK, WORKER_ENVIRONMENT, worker_config
from wavedask.compute.kinds import optional
from wavedask.compute.kinds.models import SlurmProfile, seconds_of
from wavedask.compute.started import Started
from wavedask.errors import InputError
from wavedask.kernels.jit import NODE_CACHE
from wavedask.paths import expanded

LOOK_SECONDS: Final = 10.0
"""Interval of asking SLURM for the jobs, while a worker is missing."""
AGAIN_SECONDS: Final = 300.0
"""Interval of submitting jobs again, if all before have failed."""
ANSWER_SECONDS: Final = 30.0
"""How long a command of SLURM may take."""
DEATH_SECONDS: Final = 120.0
"""How long a worker looks for its scheduler before it ends its job."""
FAILED_IN_A_ROW: Final = 3
"""How many jobs may fail, one after the other, before others are submitted less often."""
PROVEN_SECONDS: Final = 30.0
"""A job whose worker has been there for so long has not failed, however it ends."""
SHARE_OF_WALLTIME: Final = (0.9, 0.08)
"""Lifetime of a worker and its stagger, as shares of the wall time."""
LOG_LINES: Final = 3
"""Last lines of a job's log in a message."""
JOB_NAME: Final = "wavedask"


@contextmanager
def started(profile: SlurmProfile, name: str) -> Iterator[Started]:
    """Start a scheduler in this process, and submit the jobs of its workers.

    A job that ends (cancelled, failed, at its wall time) is replaced by a new one.

    Parameters
    ----------
    profile : SlurmProfile
        Partition, wall time and more.
    name : str
        Name of the profile.

    Yields
    ------
    Started

    Raises
    ------
    InputError
        The package dask-jobqueue or the command ``sbatch`` is missing, or the folder of the logs
        cannot be used.
    """
    jobqueue = slurm_library()
    workers = profile.workers
    folder = private_logs(profile.slurm.log_directory, "slurm.log_directory")
    with (
        # Of mode 700: only this user, and so its jobs, can read the certificate.
        tempfile.TemporaryDirectory(prefix="certificate-", dir=folder) as private,
        dask.config.set(worker_config(dashboard=profile.dashboard)),
        jobqueue.SLURMCluster(
            job_cls=_job_class(jobqueue),
            security=new_certificate(Path(private)) if profile.slurm.tls else None,
            **_options(profile, folder),
        ) as cluster,
    ):
        jobs = Jobs(cluster, profile, folder)
        with jobs.watched():
            if workers.fixed:
                cluster.scale(workers.minimum)
            else:
                cluster.adapt(minimum=workers.minimum, maximum=workers.maximum)
            yield Started(
                cluster,
                first_worker=bool(workers.minimum),
                said=jobs.said,
                hopeless=jobs.hopeless,
            )


class Jobs:
    """The jobs of a cluster: what SLURM says of them, and new ones for those that have ended.

    dask-jobqueue does not submit a job again that was cancelled or that reached its wall time.

    Parameters
    ----------
    cluster : dask_jobqueue.SLURMCluster
        The cluster; its jobs are of the class that `_job_class` makes.
    profile : SlurmProfile
        Its profile.
    logs : Path
        Folder of the jobs' logs.
    """

    def __init__(self, cluster: Any, profile: SlurmProfile, logs: Path) -> None:
        self._cluster = cluster
        self._logs = logs
        workers = profile.workers
        per_job = profile.slurm.workers_per_job
        self._fixed = math.ceil(workers.minimum / per_job) if workers.fixed else None
        self._most_failures = max(FAILED_IN_A_ROW, math.ceil(workers.maximum / per_job))
        self._since: dict[str, float] = {}
        self._proven: set[str] = set()
        self._failed_in_a_row = 0
        self._accepted = False
        self._problem = ""
        self._not_before = 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Replace jobs that end while the body runs."""
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(LOOK_SECONDS):
                self._look()

        thread = threading.Thread(target=watch, name="wavedask-slurm-jobs", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(ANSWER_SECONDS)

    def said(self) -> str:
        """Say what SLURM says of the jobs.

        Returns
        -------
        str
            States with their reasons, or why a job has ended; empty if there is nothing to say.
        """
        listed = _squeue(self._ids())
        if not listed:
            return self._problem
        counts = Counter(listed.values())
        states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        return f"SLURM has {states}" + (f"; {self._problem}" if self._problem else "")

    def hopeless(self) -> str:
        """Say why no worker will come.

        Returns
        -------
        str
            What sbatch answered, or how jobs ended; empty while a job waits or runs.
        """
        refused = [job.refused for job in self._jobs().values() if job.refused]
        if any(job.job_id for job in self._jobs().values()):
            self._accepted = True
            if self._failed_in_a_row < self._most_failures or _squeue(self._ids()):
                return ""
        elif refused and not self._accepted:
            return str(refused[-1])
        return self._problem if self._failed_in_a_row >= self._most_failures else ""

    def _jobs(self) -> dict[str, Any]:
        return dict(self._cluster.workers)

    def _ids(self) -> list[str]:
        return [job.job_id for job in self._jobs().values() if job.job_id]

    def _look(self) -> None:
        """Find jobs that have ended, and let the cluster start others."""
        jobs = self._jobs()
        # Of the scheduler itself: what the cluster knows of it may be cut to five workers.
        present = {str(worker.name) for worker in list(self._cluster.scheduler.workers.values())}
        joined = {name for name in jobs if _has_worker(name, present)}
        now = time.monotonic()
        for name in joined:
            if (
                now - self._since.setdefault(name, now) > PROVEN_SECONDS
                and name not in self._proven
            ):
                self._proven.add(name)
                self._failed_in_a_row = 0
                self._problem = ""
        absent = {name: job for name, job in jobs.items() if name not in joined}
        wanted = len(self._cluster.worker_spec) if self._fixed is None else self._fixed
        if not absent and len(jobs) >= wanted:
            return
        listed = _squeue([job.job_id for job in absent.values() if job.job_id])
        if listed is None:
            # SLURM did not answer: nothing is known of the jobs.
            return
        ended = [name for name, job in absent.items() if job.job_id not in listed]
        for name in ended:
            if name not in self._proven:
                self._failed_in_a_row += 1
                self._problem = absent[name].refused or self._why(absent[name].job_id)
        if ended or len(jobs) < wanted:
            self._cluster.loop.add_callback(self._replace, ended)

    def _replace(self, ended: list[str]) -> None:
        """Forget jobs that have ended, and submit others; runs in the event loop of the cluster."""
        for name in ended:
            self._cluster.workers.pop(name, None)
            self._cluster.worker_spec.pop(name, None)
        if self._failed_in_a_row >= self._most_failures and time.monotonic() < self._not_before:
            return
        # Not more often than this while jobs keep on failing.
        self._not_before = time.monotonic() + AGAIN_SECONDS
        # An adaptive cluster asks by itself for as many as it needs.
        jobs = len(self._cluster.worker_spec) if self._fixed is None else self._fixed
        self._cluster.scale(jobs=jobs)

    def _why(self, job_id: str) -> str:
        """Say how a job ended: its state, and the end of its log."""
        answer = _command("scontrol", "--oneliner", "show", "job", job_id)
        facts = dict(re.findall(r"(JobState|Reason|ExitCode)=(\S+)", answer.stdout))
        state = facts.get("JobState", "ended")
        reason = facts.get("Reason", "None")
        lines = [
            line
            for file in sorted(self._logs.glob(f"{JOB_NAME}-{job_id}*.err"))
            for line in file.read_text(errors="replace").splitlines()
            if line.strip()
        ]
        return (
            f"job {job_id} ended early ({state}"
            + ("" if reason == "None" else f", {reason}")
            + ")"
            + (f", and its log ends with: {' | '.join(lines[-LOG_LINES:])}" if lines else "")
        )


def _has_worker(job: str, present: set[str]) -> bool:
    """Whether a worker of a job has joined; several workers of one job have a number more."""
    return job in present or any(name.startswith(f"{job}-") for name in present)


def slurm_library() -> Any:
    """Import dask-jobqueue; it takes over Ctrl-C when it is imported, which is taken back.

    Returns
    -------
    module

    Raises
    ------
    InputError
        There is no SLURM here, dask-jobqueue is not installed, or this is not the main thread.
    """
    if shutil.which("sbatch") is None:
        raise InputError(
            "there is no command sbatch here",
            "Start from a login node of the SLURM cluster, or load its module.",
        )
    if threading.current_thread() is not threading.main_thread():
        # Elsewhere the import would fail at once: only the main thread may set a handler.
        if "dask_jobqueue" not in sys.modules:
            raise InputError(
                "dask_jobqueue can be imported in the main thread only",
                "Import it there first: import dask_jobqueue",
            )
        return sys.modules["dask_jobqueue"]
    before = signal.getsignal(signal.SIGINT)
    try:
        return optional("dask_jobqueue", "slurm")
    finally:
        signal.signal(signal.SIGINT, before)


def _job_class(jobqueue: Any) -> Any:
    """Make the class of a job that keeps what sbatch answered."""

    class Job(jobqueue.slurm.SLURMJob):  # type: ignore[misc]  # has no types
        """A job that remembers why sbatch refused it."""

        refused = ""

        async def start(self) -> None:
            """Submit the job; a refusal is kept, and `Jobs` decides what follows."""
            try:
                await super().start()
            except (OSError, RuntimeError, ValueError) as error:
                self.refused = _answer_in(str(error))
                # Without this the cluster would take the failure for one of its own.
                await ProcessInterface.start(self)

    return Job


def _answer_in(error: str) -> str:
    """Find what sbatch wrote in the error message of dask-jobqueue."""
    lines = [line.strip() for line in error.splitlines()]
    said = [line.removeprefix("sbatch: error: ") for line in lines if line.startswith("sbatch: ")]
    return "sbatch says: " + "; ".join(said or [" ".join(lines)])


def _options(profile: SlurmProfile, folder: Path) -> dict[str, Any]:
    """Translate a profile to the arguments of `SLURMCluster`."""
    asked = profile.slurm
    count = asked.workers_per_job
    walltime = seconds_of(asked.walltime)
    lifetime = walltime * SHARE_OF_WALLTIME[0] if asked.lifetime is None else asked.lifetime
    stagger = (
        walltime * SHARE_OF_WALLTIME[1]
        if asked.lifetime_stagger is None
        else asked.lifetime_stagger
    )
    scratch = None if profile.scratch is None else str(profile.scratch)
    options = {
        "queue": asked.partition,
        "account": asked.account,
        "interface": asked.interface,
        "python": asked.python,
        "local_directory": scratch,
    }
    return {
        **{key: value for key, value in options.items() if value is not None},
        "job_name": JOB_NAME,
        "walltime": asked.walltime,
        "cores": profile.cores * count,
        "processes": count,
        "memory": f"{profile.memory * count} B",
        "protocol": "tls://" if asked.tls else "tcp://",
        "log_directory": str(folder),
        "death_timeout": int(DEATH_SECONDS),
        "job_extra_directives": list(asked.job_extra_directives),
        "job_script_prologue": [*_environment(profile), *asked.prologue],
        "worker_extra_args": [
            *("--lifetime", f"{lifetime:.0f}s", "--lifetime-stagger", f"{stagger:.0f}s"),
            "--no-dashboard",
        ],
        "scheduler_options": {
            "dashboard_address": f"{LOOPBACK}:0",
            "dashboard": profile.dashboard,
        },
    }


def _environment(profile: SlurmProfile) -> list[str]:
    """Shell lines that set the environment of the workers."""
    scratch = '"${TMPDIR:-/tmp}"' if profile.scratch is None else shlex.quote(profile.scratch)
    config = worker_config(dashboard=profile.dashboard)
    return [
        *(f"export {name}={shlex.quote(value)}" for name, value in WORKER_ENVIRONMENT.items()),
        *(
            f"export DASK_{name.replace('.', '__').replace('-', '_').upper()}="
            f"{shlex.quote(str(value))}"
            for name, value in config.items()
        ),
        f"export {NODE_CACHE}={scratch}",
    ]


def private_logs(given: str, key: str) -> Path:
    """Make the folder of logs and certificates, for this user alone.

    Parameters
    ----------
    given : str
        Its path, as in the profile.
    key : str
        The key of the profile, for the message.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        It cannot be made or written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     private_logs(f"{folder}/logs", "slurm.log_directory").name
    'logs'
    """
    folder = expanded(given).absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        problem = "" if os.access(folder, os.W_OK | os.X_OK) else "it may not be written"
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise InputError(
            f"{key} is {folder}, which cannot be used: {problem}",
            "Give a folder that you can write and that all nodes see.",
        )
    return folder


def _squeue(ids: list[str]) -> dict[str, str] | None:
    """Ask SLURM for jobs: identifier and state with its reason; None if it does not answer."""
    if not ids:
        return {}
    # Without --jobs, which is an error if SLURM has forgotten one of them.
    answer = _command("squeue", "--me", "--noheader", "--format=%A|%T|%r")
    if answer.returncode:
        return None
    rows = [line.split("|") for line in answer.stdout.splitlines() if line.count("|") == 2]
    return {
        job: state if reason in ("None", "") else f"{state} ({reason})"
        for job, state, reason in rows
        if job in ids
    }


def _command(*command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of SLURM; one that takes too long counts as failed."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))
