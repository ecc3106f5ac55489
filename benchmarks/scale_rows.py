"""A line of a table of `scale`, and what its sections share."""

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from distributed import Client


class Row(NamedTuple):
    """One line: a value with its unit, and what is wanted of it."""

    label: str
    value: float
    unit: str = ""
    wanted: str = ""

    @property
    def text(self) -> str:
        """Value and unit."""
        value = f"{self.value:,.0f}" if abs(self.value) >= 1000 else f"{self.value:.3g}"
        return f"{value} {self.unit}".strip()


def value_of(rows: Sequence[Row], label: str) -> float:
    """Value of the row with a label."""
    return next(row.value for row in rows if row.label == label)


def peak_memory(process: int | str = "self") -> float:
    """Peak resident memory of a process, MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) / 1024


def resident_memory() -> float:
    """Resident memory of this process now, MiB."""
    status = Path("/proc/self/status").read_text()
    return float(status.partition("VmRSS:")[2].split()[0]) / 1024


def processor_seconds(process: int | str = "self") -> float:
    """Processor time of a process since it began."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Seconds(NamedTuple):
    """Times of a computation: of the clock, of the worker processes, and of their tasks alone."""

    clock: float
    processes: float
    tasks: float


def seconds_of_tasks() -> float:
    """Processor time of the threads that compute the tasks of a worker, since they began."""
    spent = 0
    for thread in threading.enumerate():
        if "Dask-Default-Threads" in thread.name:
            spent += int(
                Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()[0]
            )
    return 1e-9 * spent


def workers_seconds(client: Client) -> Seconds:
    """Read the times of all workers of a client so far."""
    processes, tasks = (
        float(sum(client.run(measure).values()))
        for measure in (time.process_time, seconds_of_tasks)
    )
    return Seconds(time.perf_counter(), processes, tasks)


def workers_peak(client: Client) -> float:
    """Peak memory of the largest worker of a client, MiB."""
    return float(max(client.run(peak_memory).values()))
