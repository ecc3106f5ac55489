"""Profiles of clusters: YAML files that say what to start, checked by the model of their kind.

The files of this package lie in ``wavedask/compute/shipped``. A site or a user adds files
``wavedask/NAME.yaml`` in a folder of Dask's configuration, for example
``~/.config/dask/wavedask/slurm.yaml`` or ``/etc/dask/wavedask/slurm.yaml``. The name of the file is
the name of the profile. A file of a later folder of ``dask.config.paths`` replaces one of the same
name in an earlier folder, and both replace ours.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dask
from pydantic import ValidationError

from wavedask.compute.kinds.models import KINDS, SCHEMES, Profile, Settings
from wavedask.documents import mistakes_of, read_yaml
from wavedask.errors import InputError

SHIPPED: Final = Path(__file__).parent / "shipped"
"""Folder of the profiles of this package."""
SITE_FOLDER: Final = "wavedask"
"""Folder of profiles below each folder of Dask's configuration."""

ADDRESS: Final = re.compile(r"[^/\s]+:\d+")
"""A host and a port, without the scheme of an address."""

DEFAULT: Final = "local"
"""Profile that is used where none is named."""


@dataclass(frozen=True, slots=True)
class Named:
    """A profile with its name and the file that it is from.

    Attributes
    ----------
    name : str
        Name of the profile, or the address of a scheduler.
    profile : Profile
        What it says.
    file : Path or None
        The file; None for an address.
    """

    name: str
    profile: Profile
    file: Path | None


def profile_files() -> dict[str, Path]:
    """Find the file of every profile.

    Returns
    -------
    dict of str to Path
        Name and file; a file of a site replaces ours of the same name.

    Examples
    --------
    >>> {"local", "threads", "slurm", "gateway", "kubernetes"} <= set(profile_files())
    True
    """
    folders = [SHIPPED, *(Path(path) / SITE_FOLDER for path in dask.config.paths)]
    return {
        file.stem: file
        for folder in folders
        if folder.is_dir()
        for file in sorted(folder.glob("*.yaml"))
    }


def load_profile(name: str | None = None, /, **settings: Any) -> Named:
    """Read a profile, or make one of the address of a scheduler.

    Parameters
    ----------
    name : str, optional
        Name of a profile, or an address such as ``"tcp://host:8786"``; ``"local"`` by default.
    **settings
        Keys of the profile with other values. A key of the section of its kind may be given alone:
        ``partition="wide"`` means ``slurm={"partition": "wide"}``.

    Returns
    -------
    Named

    Raises
    ------
    InputError
        An unknown profile (the message has the nearest names), or a file or a setting that is
        wrong.

    Examples
    --------
    >>> load_profile("slurm", partition="wide", workers=4).profile.slurm.partition
    'wide'
    """
    name = DEFAULT if name is None else name
    if name.startswith(SCHEMES):
        content: Any = {"kind": "address", "address": {"address": name}}
        return Named(name, _checked(content, settings, f"cluster {name}"), None)
    files = profile_files()
    if name not in files:
        near = difflib.get_close_matches(name, files, n=3, cutoff=0.5)
        if ADDRESS.fullmatch(name):
            near = [f"{SCHEMES[0]}{name}"]
        hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise InputError(
            f"there is no cluster profile {name!r}",
            f"{hint}The profiles are {', '.join(sorted(files))} ('wavedask cluster list'). Or give "
            "the address of a running scheduler: 'tcp://host:8786'.",
        )
    what = "profile"
    content = read_yaml(files[name], what, InputError)
    if not isinstance(content, dict):
        raise InputError(f"{what} {files[name]} holds no keys and values", "It needs 'kind'.")
    return Named(name, _checked(content, settings, f"{what} {files[name]}"), files[name])


def _checked(content: dict[str, Any], settings: Mapping[str, Any], what: str) -> Profile:
    """Check what a profile and further settings say, against the model of its kind."""
    kind = content.get("kind")
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise InputError(
            f"{what} has the kind {kind!r}" if kind else f"{what} has no kind",
            f"Give one of {', '.join(KINDS)}.",
        )
    try:
        return model.model_validate(_merged(content, _sorted_in(model, settings)))
    except ValidationError as error:
        mistakes = mistakes_of(error, model)
        changed = [key for key, value in settings.items() if value is not None]
        # The mistake may be in an option of a command, and not in the file.
        what += f" with {', '.join(changed)} as given" if changed else ""
        count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise InputError(
            f"{what} has {count}", "\n  ".join(["Correct this:", *mistakes])
        ) from error


def _sorted_in(model: type[Profile], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Put settings that belong to the section of the kind into it."""
    name, section = _section(model) or ("", Settings)
    inside = section.model_fields
    sorted_in: dict[str, Any] = {}
    for key, value in settings.items():
        if value is None:
            continue
        # A key with a mistake goes where the nearest valid one is, for a message that names it.
        near = difflib.get_close_matches(key, [*model.model_fields, *inside], n=1, cutoff=0.5)
        belongs = key if key in model.model_fields or key in inside else "".join(near)
        there = belongs in inside and belongs not in model.model_fields
        sorted_in = _merged(sorted_in, {name: {key: value}} if there else {key: value})
    return sorted_in


def _section(model: type[Profile]) -> tuple[str, type[Settings]] | None:
    """Name and model of the section of a kind."""
    for key, field in model.model_fields.items():
        kind = field.annotation
        if key not in Profile.model_fields and isinstance(kind, type):
            return key, kind
    return None


def _merged(base: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two nested mappings; the second one wins, except that `workers` is replaced."""
    merged = dict(base)
    for key, value in above.items():
        inside = merged.get(key)
        if key != "workers" and isinstance(inside, Mapping) and isinstance(value, Mapping):
            merged[key] = _merged(inside, value)
        else:
            merged[key] = value
    return merged
