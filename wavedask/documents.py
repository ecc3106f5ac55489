"""YAML files that a user writes: read safely, and check against a pydantic model."""

import difflib
import reprlib
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final, get_args

import yaml
from pydantic import BaseModel, ValidationError

from wavedask.errors import WavedaskError
from wavedask.paths import read_regular

LARGEST_FILE: Final = 2**20
"""Bytes of such a file, and values in it, at most."""


NOTHING: Final = "tag:yaml.org,2002:null"
"""What YAML calls a value that is null or left out."""


class _Loader(yaml.SafeLoader):
    """YAML in which a repeated key is an error; YAML itself takes the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value!r} is repeated", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def get_single_node(self) -> Any:
        """Refuse aliases of aliases that stand for more than any file holds."""
        node = super().get_single_node()
        if node is not None and _expanded(node, {}) > LARGEST_FILE:
            raise yaml.MarkedYAMLError(
                problem="its aliases stand for more values than such a file has",
                problem_mark=node.start_mark,
            )
        return node


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values of a YAML node with all aliases written out."""
    if id(node) not in known:
        # A node that holds itself is infinite.
        known[id(node)] = LARGEST_FILE + 1
        inside: list[Any] = []
        if isinstance(node, yaml.SequenceNode):
            inside = node.value
        elif isinstance(node, yaml.MappingNode):
            inside = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_expanded(part, known) for part in inside)
    return known[id(node)]


def read_yaml(file: Path, what: str, kind: type[WavedaskError]) -> Any:
    """Read a YAML file.

    Parameters
    ----------
    file : Path
        The file.
    what : str
        What it is, for messages: ``"experiment file"``.
    kind : type
        Class of the error.

    Returns
    -------
    object
        What the file contains: lists, dicts, strings and numbers.

    Raises
    ------
    WavedaskError
        Of the class `kind`: the file is missing, too large or not YAML, or a key is repeated.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "settings.yaml")
    ...     _ = file.write_text("workers: 2")
    ...     read_yaml(file, "settings", WavedaskError)
    {'workers': 2}
    """
    try:
        text = read_regular(file, largest=LARGEST_FILE).decode()
        # _Loader is a SafeLoader.
        return yaml.load(text, Loader=_Loader)
    except OSError as error:
        raise kind(f"{what} {file} cannot be read: {error.strerror}", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise kind(f"{what} {file} is not text: {error}", "Save it as UTF-8.") from error
    except RecursionError as error:
        raise kind(f"{what} {file} is nested too deeply", "Check the path.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        raise kind(
            f"{what} {file}{place}: {error.problem}",
            "Correct this line or the one before it; indent with spaces.",
        ) from error
    except yaml.YAMLError as error:
        raise kind(f"{what} {file} is not valid YAML: {error}", "Save it as plain text.") from error


def empty_keys(file: Path) -> list[str]:
    r"""List the keys of a YAML file that have nothing behind them, not even ``null``.

    Parameters
    ----------
    file : Path
        A file that `read_yaml` has read: keys and values.

    Returns
    -------
    list of str
        Keys of the file itself, not those of its sections.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "settings.yaml")
    ...     _ = file.write_text("modes:\nlens: null\nfocus: {}")
    ...     empty_keys(file)
    ['modes']
    """
    text = read_regular(file, largest=LARGEST_FILE).decode()
    whole = yaml.compose(text, Loader=_Loader)
    pairs = whole.value if isinstance(whole, yaml.MappingNode) else []
    return [key.value for key, value in pairs if value.value == "" and value.tag == NOTHING]


def mistakes_of(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """List the mistakes that pydantic found: where each is, what is wrong, what would be right.

    Parameters
    ----------
    error : ValidationError
        The mistakes.
    root : type
        The model that was checked. The description of a field is the remedy: what to give.

    Returns
    -------
    list of str
        One line per mistake.

    Examples
    --------
    >>> class Size(BaseModel, extra="forbid"):
    ...     window: int = 21
    >>> try:
    ...     Size.model_validate({"windw": 3})
    ... except ValidationError as error:
    ...     print(*mistakes_of(error, Size))
    windw: unknown key; did you mean 'window'?
    """
    lines: dict[str, str] = {}
    for mistake in error.errors(include_url=False):
        keys, section, description = _place(mistake["loc"], root)
        where = ".".join(keys)
        # Which value of a list; a value that is missing there is told by the list that it lacks in.
        place = "".join(
            f"[{part}]" for part in mistake["loc"][len(keys) :] if isinstance(part, int)
        )
        item = "" if mistake["type"] == "missing" else place
        if mistake["type"] == "extra_forbidden":
            known = list(section.model_fields) if section else []
            nearest = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
            line = f"{where}: unknown key; {hint}"
        elif mistake["type"] == "missing" and not place:
            line = f"{where}: missing; give {description}"
        elif mistake["type"] == "value_error" and section is not None:
            message = mistake["msg"].removeprefix("Value error, ")
            line = f"{where}: {message}" if where else message
        elif description:
            line = f"{where}{item} is {shown(mistake['input'])}: give {description}"
        else:
            line = f"{where}: {mistake['msg']}"
        # If a value fits none of several types, pydantic reports one error per type.
        lines.setdefault(where, line)
    return list(lines.values())


def _place(
    location: tuple[int | str, ...], root: type[BaseModel]
) -> tuple[list[str], type[BaseModel] | None, str]:
    """Keys that lead to a mistake, its section, and a description of the right value.

    Parts of the location behind a plain field (a type of a union, a list index) are left out.
    """
    keys: list[str] = []
    section: type[BaseModel] | None = root
    description = ""
    for part in location:
        if section is None:
            break
        keys.append(str(part))
        field = section.model_fields.get(str(part))
        if field is None:
            return keys, section, ""
        description = field.description or ""
        # A section that may be missing and has a short form is Annotated[Section, ...] | None.
        kinds = [
            getattr(kind, "__origin__", kind)
            for kind in (field.annotation, *get_args(field.annotation))
        ]
        section = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
    return keys, section, description


def shown(value: Any) -> str:
    """Write a value in a message: short, and "nothing" for None.

    Examples
    --------
    >>> shown(None), shown("a" * 100)
    ('nothing', "'aaaaaaaaaaaa...aaaaaaaaaaaaa'")
    """
    return "nothing" if value is None else reprlib.repr(value)
