"""Runs as tables: the plan before a run."""

from wavedask.cli.words import counted, file_size
from wavedask.experiment import Stages, plan
from wavedask.tables import Rows


def describe_plan(prepared: Stages) -> Rows:
    """Describe the size of a run before it starts.

    Parameters
    ----------
    prepared : Stages
        As from `wavedask.experiment.stages_of`.

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
        ("output", f"{file_size(asked.bytes_output)} before compression"),
        ("variables", ", ".join(map(str, prepared.result.data_vars))),
    ]
