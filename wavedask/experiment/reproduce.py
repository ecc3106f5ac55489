"""Repeat a result from the record in its store: settings, folder and inputs of every run."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from wavedask.errors import ExperimentError, StoreError
from wavedask.experiment.model import Experiment, restored
from wavedask.store import (
    INPUTS,
    RUNS,
    SETTINGS,
    Place,
    attributes_of,
    changes,
    fingerprints,
    os_errors,
    place_of,
)

COMMAND: Final = "command"
FOLDER: Final = "folder"
RUN: Final = "run"
"""Value of `COMMAND` for a run of an experiment file."""


def recorded(store: str | Path) -> dict[str, Any]:
    """Read the record of how a store was made.

    Parameters
    ----------
    store : str or Path
        A result store, or its URL.

    Returns
    -------
    dict
        The attributes of the store.

    Raises
    ------
    StoreError
        Not a result store.
    """
    place = place_of(store)
    attributes = attributes_of(place)
    if attributes is None:
        with os_errors(f"store {place} cannot be read"):
            what = "is not a wavedask result store" if place.occupied() else "is not there"
        raise StoreError(f"{place} {what}", "Check the path.")
    return attributes


def experiments_of(store: str | Path, *, output: str) -> list[Experiment]:
    """Restore the experiments that made a store, to repeat them with another output.

    Parameters
    ----------
    store : str or Path
        A store that `wavedask run` wrote.
    output : str
        The new store.

    Returns
    -------
    list of Experiment
        One for each run with different settings, in order. A store that grew by further scans has
        several; run one after the other, they make the store again.

    Raises
    ------
    StoreError
        Not a result store, not written by `wavedask run`, or the same path as the output.
    FileError
        An input file is missing.
    ExperimentError
        An input file has changed; the message names it.
    """
    attributes = recorded(store)
    if _is_same(place_of(store), place_of(output)):
        raise StoreError(f"the output {output} is the store itself", "Give another path.")
    runs = [entry for entry in attributes.get(RUNS, []) if entry.get(COMMAND) == RUN]
    if not runs:
        raise StoreError(
            f"{store} was not written by 'wavedask run'",
            f"Repeat the call that wrote it, with the settings {attributes[SETTINGS]}.",
        )
    changed = changes(attributes[INPUTS])
    if changed:
        more = f"; and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise ExperimentError(
            f"inputs of {store} have changed: {'; '.join(changed[:3])}{more}",
            "The result cannot be repeated from other files: restore the original ones.",
        )
    distinct: list[dict[str, Any]] = []
    for entry in runs:
        if all(entry[SETTINGS] != past[SETTINGS] for past in distinct):
            distinct.append(entry)
    return [
        restored(entry[SETTINGS], folder=Path(entry[FOLDER]), output=output) for entry in distinct
    ]


def _is_same(one: Place, other: Place) -> bool:
    if one.remote or other.remote:
        return one.text == other.text
    return os.path.realpath(one.path) == os.path.realpath(other.path)


def check_inputs(store: str | Path, inputs: Sequence[Path]) -> None:
    """Raise an error for inputs that the store does not know, such as new files of a glob.

    Raises
    ------
    ExperimentError
        Some inputs are not among those of the store.
    """
    known = {item["path"] for item in recorded(store)[INPUTS]}
    others = [item["path"] for item in fingerprints(inputs) if item["path"] not in known]
    if others:
        raise ExperimentError(
            f"{store} was not made from {others[0]}"
            + (f" and {len(others) - 1} more new files" if len(others) > 1 else ""),
            "Move them elsewhere, or run the experiment file itself, which includes them.",
        )
