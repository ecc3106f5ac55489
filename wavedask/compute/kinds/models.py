"""What the profile of each kind of cluster may say: one model per kind."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from dask.utils import format_bytes, parse_bytes, parse_timedelta
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

SCHEMES: Final = ("tcp://", "tls://", "ws://", "wss://", "ucx://", "ucxx://")
"""How the address of a running scheduler may begin."""


def _seconds(value: Any) -> Any:
    """Read a duration such as 600 or "10 minutes", in seconds."""
    try:
        seconds = float(parse_timedelta(value)) if isinstance(value, (str, int, float)) else value
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{value!r} is no duration; give seconds, or a text: 10 minutes"
        ) from error
    if isinstance(value, bool) or not seconds >= 0:
        raise ValueError(f"{value!r} is no duration; give seconds, or a text: 10 minutes")
    return seconds


def _bytes(value: Any) -> Any:
    """Read a size such as "4 GiB", in bytes."""
    try:
        if isinstance(value, bool):
            raise ValueError
        size = int(parse_bytes(value)) if isinstance(value, (str, int, float)) else value
    except (ValueError, KeyError) as error:
        raise ValueError(f"{value!r} is no size of memory; give a text: 4 GiB") from error
    if size <= 0:
        raise ValueError(f"{value!r} is no size of memory; give a text: 4 GiB")
    return size


Seconds = Annotated[float, BeforeValidator(_seconds, json_schema_input_type=float | str)]
Memory = Annotated[
    int,
    BeforeValidator(_bytes, json_schema_input_type=int | str),
    PlainSerializer(format_bytes, when_used="json"),
]


class Settings(BaseModel):
    """A part of a profile; an unknown key is an error.

    The description of a field is the remedy in a message about a wrong value: what to give.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class Workers(Settings):
    """How many workers: as many as there is work for, between two limits.

    A plain number in the file stands for equal limits: a fixed number of workers.
    """

    minimum: int = Field(ge=0, description="a number of workers, 0 or more")
    maximum: int = Field(ge=1, description="a number of workers, 1 or more")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum is {self.minimum}, above the maximum of {self.maximum}")
        return self

    @property
    def fixed(self) -> bool:
        """Whether the number never changes."""
        return self.minimum == self.maximum

    def __str__(self) -> str:
        return str(self.minimum) if self.fixed else f"{self.minimum} to {self.maximum}"


def _workers(value: Any) -> Any:
    """Read a number of workers as two equal limits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return {"minimum": value, "maximum": value}
    return value


WORKERS: Final = "a number, or {minimum: 1, maximum: 8}"
WorkersField = Annotated[
    Workers,
    BeforeValidator(_workers, json_schema_input_type=int | Workers),
    PlainSerializer(
        lambda given: (
            given.minimum if given.fixed else {"minimum": given.minimum, "maximum": given.maximum}
        ),
        when_used="json",
    ),
]


class Profile(Settings):
    """What the profiles of all kinds may say."""

    kind: str = Field(
        description="one of local, threads, slurm, allocation, gateway, kubernetes, address"
    )
    description: str = Field(default="", description="one line of text")
    workers: WorkersField | None = Field(default=None, description=WORKERS)
    cores: int | None = Field(
        default=None, ge=1, description="the threads of one worker, 1 or more"
    )
    memory: Memory | None = Field(
        default=None, description="the memory of one worker, such as 4 GiB"
    )
    wait: Seconds | None = Field(
        default=None, description="how long to wait for the first worker: seconds, or 10 minutes"
    )
    scratch: str | None = Field(
        default=None, description="a folder on a local disk of the workers' machine"
    )
    dashboard: bool = Field(
        default=False, description="true for Dask's web page, on loopback and without a password"
    )


class LocalProfile(Profile):
    """Processes on this machine."""

    kind: Literal["local"] = Field(default="local", description="local")


class ThreadsProfile(Profile):
    """Threads of this process."""

    kind: Literal["threads"] = Field(default="threads", description="threads")


class SlurmSettings(Settings):
    """How to submit the jobs of the workers to SLURM."""

    partition: str | None = Field(default=None, description="the name of a partition (sinfo)")
    account: str | None = Field(default=None, description="the name of an account")
    walltime: str = Field(
        default="01:00:00",
        pattern=r"^(\d+|\d+-\d+|(\d+-)?\d+:\d+(:\d+)?)$",
        description="the wall time of one job, such as 01:30:00, in quotation marks",
    )
    interface: str | None = Field(
        default=None, description="the network interface of scheduler and workers, such as ib0"
    )
    workers_per_job: int = Field(default=1, ge=1, description="a number of at least 1")
    python: str | None = Field(
        default=None, description="the Python on the nodes; by default the one that runs now"
    )
    prologue: list[str] = Field(
        default=[], description="a list of shell lines that run before the workers"
    )
    job_extra_directives: list[str] = Field(
        default=[], description="a list of further options of sbatch, such as [--exclusive]"
    )
    log_directory: str = Field(
        default="~/.cache/wavedask/slurm",
        description="a folder that all nodes see, for the logs of jobs and the certificates",
    )
    lifetime: Seconds | None = Field(
        default=None,
        description="after what time a worker ends in order; by default before the wall time",
    )
    lifetime_stagger: Seconds | None = Field(
        default=None, description="by how much these times differ at random"
    )
    tls: bool = Field(default=True, description="false to talk without encryption")


class SlurmProfile(Profile):
    """Workers as jobs of SLURM."""

    kind: Literal["slurm"] = Field(default="slurm", description="slurm")
    workers: WorkersField = Field(default=Workers(minimum=1, maximum=1), description=WORKERS)
    cores: int = Field(default=1, ge=1, description="the threads of one worker, 1 or more")
    memory: Memory = Field(default=4 * 2**30, description="the memory of one worker, such as 4 GiB")
    slurm: SlurmSettings = Field(
        default=SlurmSettings(), description="a section: partition, walltime and more"
    )


class AllocationSettings(Settings):
    """How the tasks of one SLURM allocation find each other."""

    interface: str | None = Field(
        default=None, description="the network interface of scheduler and workers, such as ib0"
    )
    folder: str = Field(
        default="~/.cache/wavedask/slurm",
        description="a folder that all nodes see, for the address and the certificates",
    )
    tls: bool = Field(default=True, description="false to talk without encryption")


class AllocationProfile(Profile):
    """Scheduler, driver and workers as the tasks of one SLURM allocation."""

    kind: Literal["allocation"] = Field(default="allocation", description="allocation")
    allocation: AllocationSettings = Field(
        default=AllocationSettings(), description="a section: interface, folder and tls"
    )

    @model_validator(mode="after")
    def _has_its_tasks(self) -> Self:
        if self.workers is not None:
            raise ValueError(
                f"workers is {self.workers}, but an allocation has as many as it has tasks; give "
                "sbatch --ntasks, two more than workers"
            )
        return self


class GatewaySettings(Settings):
    """Which Dask Gateway to ask; by default the one of Dask's configuration."""

    address: str | None = Field(default=None, description="the URL of the gateway")
    proxy_address: str | None = Field(default=None, description="the address of its proxy")
    public_address: str | None = Field(
        default=None, description="the URL of its web pages, as a browser reaches it"
    )
    auth: Literal["basic", "kerberos", "jupyterhub"] | None = Field(
        default=None, description="basic, kerberos or jupyterhub"
    )
    cluster: str | None = Field(
        default=None, description="the name of a running cluster, to use that one"
    )
    options: dict[str, Any] = Field(
        default={}, description="keys and values: the cluster options of this gateway"
    )


class GatewayProfile(Profile):
    """A cluster of a Dask Gateway."""

    kind: Literal["gateway"] = Field(default="gateway", description="gateway")
    workers: WorkersField = Field(default=Workers(minimum=1, maximum=1), description=WORKERS)
    gateway: GatewaySettings = Field(
        default=GatewaySettings(), description="a section: address, auth, options and more"
    )


class KubernetesSettings(Settings):
    """Which cluster of the Dask operator to use, or to create."""

    address: str | None = Field(
        default=None,
        description="the address of the scheduler's Service of a running cluster",
    )
    manifest: str | None = Field(
        default=None,
        description="a YAML file with the DaskCluster to create if there is none of this name",
    )
    name: str = Field(default="wavedask", description="the name of the DaskCluster")
    namespace: str | None = Field(default=None, description="a namespace")
    image: str | None = Field(
        default=None, description="the container image of scheduler and workers"
    )
    env: dict[str, str] = Field(
        default={}, description="keys and values: environment variables of the pods"
    )


class KubernetesProfile(Profile):
    """A cluster of the Dask operator on Kubernetes."""

    kind: Literal["kubernetes"] = Field(default="kubernetes", description="kubernetes")
    workers: WorkersField = Field(default=Workers(minimum=1, maximum=1), description=WORKERS)
    kubernetes: KubernetesSettings = Field(
        default=KubernetesSettings(), description="a section: namespace, image and more"
    )


class AddressSettings(Settings):
    """A running scheduler, and the certificate for it."""

    address: str = Field(description="the address of the scheduler, such as tls://host:8786")
    ca_file: str | None = Field(default=None, description="the path of the certificate authority")
    certificate: str | None = Field(default=None, description="the path of the certificate")
    key: str | None = Field(default=None, description="the path of the key of the certificate")

    @model_validator(mode="after")
    def _is_address(self) -> Self:
        if not self.address.startswith(SCHEMES):
            raise ValueError(
                f"address {self.address!r} names no protocol; give tcp://host:8786 or "
                "tls://host:8786"
            )
        return self


class AddressProfile(Profile):
    """A Dask scheduler that is already running."""

    kind: Literal["address"] = Field(default="address", description="address")
    address: AddressSettings = Field(description="a section: address, and its certificate")

    @model_validator(mode="after")
    def _has_its_own(self) -> Self:
        if self.workers is not None:
            raise ValueError(
                f"workers is {self.workers}, but the scheduler at {self.address.address} has its "
                "own; leave workers out, or scale that cluster"
            )
        return self


KINDS: Final[Mapping[str, type[Profile]]] = {
    "local": LocalProfile,
    "threads": ThreadsProfile,
    "slurm": SlurmProfile,
    "allocation": AllocationProfile,
    "gateway": GatewayProfile,
    "kubernetes": KubernetesProfile,
    "address": AddressProfile,
}
"""Model of each kind of cluster."""


def seconds_of(walltime: str) -> float:
    """Read a wall time of SLURM.

    Parameters
    ----------
    walltime : str
        ``minutes``, ``minutes:seconds``, ``hours:minutes:seconds``, ``days-hours``, and
        ``days-hours:minutes[:seconds]``.

    Returns
    -------
    float
        Seconds.

    Examples
    --------
    >>> seconds_of("90"), seconds_of("01:30:00"), seconds_of("1-12")
    (5400.0, 5400.0, 129600.0)
    """
    days, dash, rest = walltime.rpartition("-")
    parts = [float(part) for part in rest.split(":")]
    # "minutes" and "minutes:seconds" without days; all else begins with hours.
    first = [0.0] if not dash and len(parts) < 3 else []
    hours, minutes, seconds = [*first, *parts, 0.0, 0.0][:3]
    return ((float(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
