"""A discrete-event model of a run on a cluster, from costs that were measured on this machine.

One client makes tasks and collects them, one scheduler hands them out, workers read, compute and
write. Nodes share a file system. Each part serves one after the other; what is slowest decides.
"""

import argparse
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import scale_graph
import scale_speed
import simpy
from scale_rows import Row, value_of

IN_FLIGHT: Final = 16
"""Tasks per worker that the client has submitted, as in `wavedask.compute.progress`."""
CORES: Final = 32
"""Workers of a simulated node."""
NODE_BANDWIDTH: Final = 2.5e9
"""Network of a node, bytes/s (25 Gbit/s, and a fifth for what is not payload)."""
SHARED_BANDWIDTH: Final = 20e9
"""File system that all nodes share, bytes/s."""
SIDE: Final = 2048
READ: Final = 2.0
"""Bytes per pixel of a raw frame."""
MAPS_ALL, MAPS_FEW = 18, 3
"""Maps of a frame that a run writes: all, or the slopes and the wavefront."""
BEAMTIME: Final = 500_000
"""Frames of three days."""
LEAST_TASKS, TASKS_PER_WORKER = 2000, 2
"""Tasks that are simulated. Their middle half counts: the rate of a long run is the same."""


@dataclass(frozen=True)
class Costs:
    """What a frame costs.

    Attributes
    ----------
    compute : float
        Seconds of a worker, reading and writing aside.
    client, scheduler : float
        Seconds of the client and of the scheduler for a task.
    moved : float
        Bytes read and written.
    """

    compute: float
    client: float
    scheduler: float
    moved: float


@dataclass(frozen=True)
class Cluster:
    """A cluster, and how the frames are given to it."""

    nodes: int = 1
    cores: int = CORES
    frames_per_task: int = 1
    schedulers: int = 1
    shared: float = SHARED_BANDWIDTH
    node: float = NODE_BANDWIDTH


@dataclass(frozen=True)
class Outcome:
    """Frames per second, and the share of the time that each part is busy."""

    rate: float
    busy: dict[str, float]

    @property
    def limit(self) -> str:
        """The part that is busiest."""
        return max(self.busy, key=lambda part: self.busy[part])


def simulate(costs: Costs, cluster: Cluster, frames: int) -> Outcome:
    """Run frames through the model.

    Several schedulers, each with its client, are as many runs beside each other: only the shared
    file system knows of the others.
    """
    world = simpy.Environment()
    size = cluster.frames_per_task
    groups = [_Group(world, cluster) for _ in range(cluster.schedulers)]
    tasks = max(1, frames // size // len(groups))
    files = _Server(world)
    networks = [_Server(world) for _ in range(cluster.nodes)]
    ended: list[float] = []

    def task(group: _Group) -> Generator[Any, Any, None]:
        yield group.client.serve(costs.client)
        yield group.scheduler.serve(costs.scheduler)
        node: Any = yield group.free.get()
        yield networks[node].serve(size * costs.moved / cluster.node)
        yield files.serve(size * costs.moved / cluster.shared)
        yield world.timeout(size * costs.compute)
        ended.append(world.now)
        yield group.free.put(node)
        yield group.in_flight.put(1)

    def submit(group: _Group) -> Generator[Any, Any, None]:
        for _ in range(tasks):
            yield group.in_flight.get(1)
            world.process(task(group))

    for number, group in enumerate(groups):
        nodes = range(number, cluster.nodes, cluster.schedulers)
        group.free.items.extend([*nodes] * cluster.cores)
        world.process(submit(group))
    world.run()
    first, last = len(ended) // 4, 3 * len(ended) // 4
    rate = (last - first) / (ended[last] - ended[first])
    per_task = {
        "workers": size * costs.compute / cluster.nodes / cluster.cores,
        "client": costs.client / len(groups),
        "scheduler": costs.scheduler / len(groups),
        "network": size * costs.moved / cluster.node / cluster.nodes,
        "file system": size * costs.moved / cluster.shared,
    }
    return Outcome(rate * size, {part: rate * seconds for part, seconds in per_task.items()})


class _Server:
    """What serves one after the other, in the order in which they come."""

    def __init__(self, world: simpy.Environment) -> None:
        self._world = world
        self._ready = 0.0

    def serve(self, seconds: float) -> simpy.Timeout:
        """Wait for those before, and for the own service."""
        self._ready = max(self._ready, self._world.now) + seconds
        return self._world.timeout(self._ready - self._world.now)


class _Group:
    """A client with its scheduler and workers."""

    def __init__(self, world: simpy.Environment, cluster: Cluster) -> None:
        workers = -(-cluster.nodes // cluster.schedulers) * cluster.cores
        self.client = _Server(world)
        self.scheduler = _Server(world)
        self.free = simpy.Store(world)
        self.in_flight = simpy.Container(world, init=IN_FLIGHT * workers)


def section(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """Check the model on this machine, then ask it about clusters."""
    found = arguments.found
    for name, measure in (
        ("cores", scale_speed.cores_section),
        ("graph", scale_graph.running_section),
    ):
        if name not in found:
            (folder / name).mkdir()
            found[name] = measure(arguments, folder / name)
    workers, side = arguments.workers, arguments.size
    here = Costs(
        value_of(found["cores"], "processor time of a frame"),
        1e-3 * value_of(found["graph"], "client, processor time of a frame that is run"),
        1e-3 * value_of(found["graph"], "scheduler, processor time of a frame"),
        0.0,
    )
    # Against the clock, which contains the other programs of the machine.
    clock = replace(here, compute=value_of(found["cores"], "time of a frame, 1 process"))
    rows = []
    for count, label in ((1, "1 process"), (workers, f"{workers} processes")):
        rate = simulate(clock, Cluster(cores=count), 50 * count).rate
        measured = 1 / value_of(found["cores"], f"time of a frame, {label}")
        rows.append(
            Row(
                f"model over measurement, this machine, {label}",
                100 * rate / measured,
                "%",
                ideal="100",
            )
        )
    pixels = SIDE**2
    there = replace(here, compute=here.compute * pixels / side**2)
    few, every = (replace(there, moved=pixels * (READ + 4 * maps)) for maps in (MAPS_FEW, MAPS_ALL))
    for nodes in arguments.nodes:
        as_it_is = Cluster(nodes)
        # An object store that grows with the cluster.
        larger = replace(as_it_is, shared=nodes * NODE_BANDWIDTH)
        several = replace(larger, schedulers=min(nodes, 10))
        name = f"{nodes} node{'s' * (nodes > 1)}"
        for label, costs, cluster in (
            ("all 18 maps", every, as_it_is),
            ("3 maps", few, as_it_is),
            ("3 maps, object store", few, larger),
            ("3 maps, object store, up to 10 schedulers", few, several),
            (
                "the same, 8 frames per task",
                few,
                replace(several, frames_per_task=8),
            ),
        ):
            outcome = simulate(costs, cluster, sized(cluster))
            ideal = cluster.nodes * cluster.cores / costs.compute
            limit = outcome.limit
            rows.append(
                Row(
                    f"{name}, {label}: {100 * outcome.rate / ideal:.0f} % efficient,"
                    f" limited by {limit}; a beamtime in {BEAMTIME / outcome.rate / 3600:.2g} h",
                    outcome.rate,
                    "frames/s",
                )
            )
    return rows


def sized(cluster: Cluster) -> int:
    """Frames to simulate: enough that begin and end do not matter."""
    tasks = max(LEAST_TASKS, TASKS_PER_WORKER * cluster.nodes * cluster.cores)
    return tasks * cluster.frames_per_task
