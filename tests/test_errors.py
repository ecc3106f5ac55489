"""Errors say what is wrong and what to do, and survive the way from a worker."""

import pickle

import pytest

from wavedask import errors
from wavedask.errors import CorruptFileError, FileError, InputError, StoreError, WavedaskError

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, WavedaskError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_has_its_problem_and_its_remedy(kind: type[WavedaskError]) -> None:
    error = kind("window is 20", "Give an odd number.")
    assert str(error) == "window is 20. Give an odd number."
    assert (error.problem, error.remedy) == ("window is 20", "Give an odd number.")
    assert str(kind("window is 20.", "Give an odd number.")) == str(error)
    assert str(kind("window is 20")) == "window is 20"


@pytest.mark.parametrize("kind", KINDS)
def test_errors_travel(kind: type[WavedaskError]) -> None:
    error = pickle.loads(pickle.dumps(kind("a.edf is truncated", "Copy it again.")))
    assert type(error) is kind
    assert str(error) == "a.edf is truncated. Copy it again."
    assert error.remedy == "Copy it again."


def test_the_tree() -> None:
    assert issubclass(CorruptFileError, FileError)
    # So that code which knows nothing of wavedask catches a wrong argument.
    assert issubclass(InputError, ValueError)
    assert not issubclass(StoreError, ValueError)
