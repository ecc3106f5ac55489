"""A SLURM of one node on the loopback interface, for the tests: no systemd, no control groups."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.support.needs import debian
from deploy.support.processes import free_ports

START_SECONDS = 60.0
STOP_SECONDS = 15.0

# The processors are oversubscribed: several jobs of one core run side by side on any machine.
CONFIGURATION = """
ClusterName=wavedask
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
ReturnToService=2
KillWait=3
# A minute is the smallest time limit: no grace after it.
OverTimeLimit=0
InactiveLimit=0
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=00:30:00 State=UP
PartitionName=closed Nodes={host} Default=NO MaxTime=00:30:00 State=DOWN
"""


@dataclass(frozen=True)
class Slurm:
    """A running SLURM."""

    folder: Path

    def jobs(self) -> dict[str, str]:
        """Jobs in the queue and their states."""
        lines = self.run("squeue", "--noheader", "--format=%A %T").splitlines()
        return dict(line.split() for line in lines)

    def run(self, *command: str) -> str:
        """Run a command of SLURM, and return what it prints."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def ended(self, job: str, seconds: float) -> str:
        """Wait until a job has left the queue, and return its last state."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.jobs().get(job, "") in ("", "COMPLETED", "TIMEOUT", "FAILED", "CANCELLED"):
                facts = self.run("scontrol", "--oneliner", "show", "job", job).split()
                return dict(fact.split("=", 1) for fact in facts if "=" in fact)["JobState"]
            time.sleep(0.3)
        raise AssertionError(f"job {job} is still there after {seconds:g} s: {self.jobs()}")


@contextmanager
def running_slurm(folder: Path) -> Iterator[Slurm]:
    """Start munged, slurmctld and slurmd; stop them and all jobs at the end."""
    debian(sbatch="slurm-wlm", slurmctld="slurm-wlm", slurmd="slurm-wlm", munged="munge")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    folder.chmod(0o755)  # munged refuses a socket in a folder that others cannot enter
    host = socket.gethostname().split(".")[0]
    controller, daemon = free_ports(2)
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(
            host=host, folder=folder, controller=controller, daemon=daemon, user="root"
        )
    )
    key = folder / "munge.key"
    key.touch(mode=0o400)
    key.write_bytes(os.urandom(1024))
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(configuration)
    slurm = Slurm(folder)
    try:
        slurm.run(
            "munged",
            "--force",
            f"--key-file={key}",
            f"--socket={folder}/munge.socket",
            f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log",
            f"--seed-file={folder}/munge.seed",
            "--num-threads=2",
        )
        slurm.run("slurmctld", "-c", "-f", str(configuration))
        slurm.run("slurmd", "-N", host, "-f", str(configuration))
        _wait_for_node(slurm)
        yield slurm
    finally:
        _stop(slurm)
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before


def _wait_for_node(slurm: Slurm) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        done = subprocess.run(
            ["sinfo", "--noheader", "--partition=main", "--format=%T"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.stdout.startswith("idle"):
            return
        time.sleep(0.2)
    logs = "\n".join(path.read_text() for path in sorted(slurm.folder.glob("slurm*.log")))
    raise AssertionError(f"the node is not idle after {START_SECONDS:g} s: {done.stdout}\n{logs}")


def _stop(slurm: Slurm) -> None:
    """Cancel all jobs, then end the three daemons by their process numbers."""
    with suppress(AssertionError, subprocess.TimeoutExpired):
        slurm.run("scancel", "--user=root")
        deadline = time.monotonic() + STOP_SECONDS
        while slurm.jobs() and time.monotonic() < deadline:
            time.sleep(0.2)
    for daemon in ("slurmd", "slurmctld", "munged"):
        file = slurm.folder / f"{daemon}.pid"
        if not file.exists():
            continue
        number = int(file.read_text())
        with suppress(ProcessLookupError):
            os.kill(number, 15)
            deadline = time.monotonic() + STOP_SECONDS
            while _alive(number) and time.monotonic() < deadline:
                time.sleep(0.1)
            if _alive(number):
                os.kill(number, 9)


def _alive(number: int) -> bool:
    """Whether a process runs; one that has ended stays listed where nobody waits for it."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
