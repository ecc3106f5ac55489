"""The house: every wing has a door, and nobody reaches past it for what is private."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import wavedask as wd

PACKAGE = Path(wd.__file__).parent
WINGS = sorted(
    ".".join(door.parent.relative_to(PACKAGE.parent).parts)
    for door in PACKAGE.rglob("__init__.py")
    if door.parent != PACKAGE
)
TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "architecture.md"


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Get the module that draws the floors when the documentation is built."""
    monkeypatch.syspath_prepend(str(PAGE.parent))
    return importlib.import_module("floors")


def imports(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Module and names of each ``from wavedask... import ...`` of a file."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wavedask"):
            yield str(node.module), [alias.name for alias in node.names]


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_says_what_lives_there_and_hands_on_names_that_exist(wing: str) -> None:
    door = importlib.import_module(wing)
    assert inspect.getdoc(door)
    assert all(hasattr(door, name) for name in getattr(door, "__all__", []))
    if wing not in ("wavedask.kernels", "wavedask.cli"):
        assert door.__all__


def test_no_wing_imports_a_private_name_of_another() -> None:
    private = [
        (str(file.relative_to(PACKAGE)), module, name)
        for file in PACKAGE.rglob("*.py")
        for module, names in imports(file)
        for name in names
        if name.startswith("_") and name != "__version__"
    ]
    assert not private


def test_wings_are_entered_by_their_doors() -> None:
    top = {wing.split(".")[1] for wing in WINGS} - {"kernels"}
    past = [
        (str(file.relative_to(PACKAGE)), module)
        for file in PACKAGE.rglob("*.py")
        for module, _ in imports(file)
        if len(parts := module.split(".")) > 2
        and parts[1] in top
        and parts[1] != file.relative_to(PACKAGE).parts[0]
    ]
    assert not past


def test_tests_lie_in_the_wing_of_what_they_test() -> None:
    folders = {path.parent.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}
    rooms = {path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")}
    # What deploy/ contains is no part of the package.
    assert folders <= rooms | {Path("deploy")}


def test_floors_of_the_page_are_those_of_the_contract(drawing: Any) -> None:
    rows = re.findall(r"^\| (\d+) \| ([^|]*) \|", PAGE.read_text(), re.MULTILINE)
    floors = [(number, re.findall(r"`(\w+)`", wings)) for number, wings in rows]
    floors = [floor for floor in floors if floor[1]]
    contract = drawing.floors_of(TESTS.parent / "pyproject.toml")
    assert floors == [(str(len(contract) - index), floor) for index, floor in enumerate(contract)]


def test_files_that_the_page_names_exist() -> None:
    named = re.findall(r"`((?:wavedask|tests|benchmarks|docs)/[\w/.]+)`", PAGE.read_text())
    assert len(named) > 20
    assert not [name for name in named if not (TESTS.parent / name).exists()]


def test_picture_of_the_floors_has_every_wing_and_refuses_an_import_that_goes_up(
    drawing: Any,
) -> None:
    floors = [["cli"], ["io", "store"], ["errors"]]
    picture = drawing.picture(floors, {("cli", "io"): 3, ("io", "errors"): 1})
    texts = [element.text for element in ElementTree.fromstring(picture).iter()]
    assert {"cli", "io", "store", "errors", "3"} <= set(texts)
    with pytest.raises(ValueError, match="errors imports cli, which is on a floor above"):
        drawing.picture(floors, {("errors", "cli"): 1})
    with pytest.raises(ValueError, match="on no floor"):
        drawing.picture(floors, {("cli", "plot"): 1})
