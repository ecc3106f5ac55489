"""Runs as tables: the plan before a run."""

from typing import TYPE_CHECKING

from wavedask.cli.words import counted, file_size
from wavedask.compute import needed
from wavedask.experiment import Stages, plan
from wavedask.tables import Rows

if TYPE_CHECKING:
    from wavedask.compute import Profile


def describe_plan(prepared: Stages, profile: "Profile | None" = None) -> Rows:
    """Describe the size of a run before it starts.

    Parameters
    ----------
    prepared : Stages
        As from `wavedask.experiment.stages_of`.
    profile : Profile, optional
        The cluster for it.

    Returns
    -------
    list of (str, str)
    """
    asked = plan(prepared)
    return [
        ("frames", f"{asked.frames} of {asked.shape[0]} x {asked.shape[1]} px"),
        ("input", f"{file_size(asked.bytes_input)} in {counted(asked.files, 'file')}"),
        ("blocks", f"{asked.blocks} of {' x '.join(map(str, asked.block_shape))}"),
        ("tasks", f"about {asked.tasks:,}"),
        (
            "memory",
            f"about {file_size(asked.bytes_per_task)} per block at work, one per worker, and "
            f"{file_size(asked.bytes_libraries)} for the libraries of each process",
        ),
        *_room(asked.bytes_per_task, profile),
        ("output", f"{file_size(asked.bytes_output)} before compression"),
        ("variables", ", ".join(map(str, prepared.result.data_vars))),
    ]


def _room(per_task: int, profile: "Profile | None") -> Rows:
    """Say whether the workers of a profile are large enough."""
    if profile is None or profile.memory is None:
        return []
    least = needed(per_task, profile.cores or 1)
    enough = "enough" if profile.memory >= least else f"too small: {file_size(least)} are needed"
    return [("workers", f"{file_size(profile.memory)} each, {enough}")]
