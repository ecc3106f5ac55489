"""Runs as tables: the plan before a run, and its report."""

from wavedask.cli.words import Rows, counted, file_size
from wavedask.experiment import Stages, plan
from wavedask.store import StoreReport


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


def store_rows(report: StoreReport, *middle: tuple[str, str]) -> Rows:
    """Describe a written store: frames first, path last, other rows between them."""
    computed = f"{report.written} computed now, {report.kept} kept"
    return [
        ("frames", f"{report.frames} ({computed})"),
        *middle,
        ("result store", str(report.path)),
    ]
