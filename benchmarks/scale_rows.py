"""A line of a table of `scale`, and what its sections share."""

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from distributed import Client


class Row(NamedTuple):
    """One line: a value with its unit, and what is wanted of it.

    Attributes
    ----------
    label : str
        What was measured.
    value : float
        The value.
    unit : str
        Its unit.
    below, at_least : float or None
        A bar, in this unit.
    ideal : str
        What would be best, where there is no bar.
    """

    label: str
    value: float
    unit: str = ""
    below: float | None = None
    at_least: float | None = None
    ideal: str = ""

    @property
    def text(self) -> str:
        """Value and unit."""
        value = f"{self.value:,.0f}" if abs(self.value) >= 1000 else f"{self.value:.3g}"
        return f"{value} {self.unit}".strip()

    @property
    def wanted(self) -> str:
        """The bar, or what would be best."""
        if self.below is not None:
            return f"below {self.below:,g} {self.unit}".strip()
        if self.at_least is not None:
            return f"at least {self.at_least:,g} {self.unit}".strip()
        return self.ideal

    @property
    def verdict(self) -> str:
        """Whether the value meets the bar; empty without one."""
        if self.below is None and self.at_least is None:
            return ""
        met = (self.below is None or self.value < self.below) and (
            self.at_least is None or self.value >= self.at_least
        )
        return "pass" if met else "missed"


def value_of(rows: Sequence[Row], label: str) -> float:
    """Value of the row with a label."""
    return next(row.value for row in rows if row.label == label)


def peak_memory(process: int | str = "self") -> float:
    """Peak resident memory of a process, MB."""
    return _memory(process, "VmHWM:")


def forget_peak() -> None:
    """Let the peak of the memory of this process begin at what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def resident_memory(process: int | str = "self") -> float:
    """Resident memory of a process now, MB."""
    return _memory(process, "VmRSS:")


def _memory(process: int | str, field: str) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return float(status.partition(field)[2].split()[0]) * 1024 / 1e6


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
    """Peak memory of the largest worker of a client, MB."""
    return float(max(client.run(peak_memory).values()))
