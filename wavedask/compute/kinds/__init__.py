"""The kinds of clusters: one function per kind, in its own module."""

import importlib
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

from wavedask.errors import InputError

if TYPE_CHECKING:
    from wavedask.compute.started import Started

__all__ = ["optional", "start"]

MODULES: Final = ("local", "address", "slurm", "allocation", "gateway", "kubernetes")
"""Kinds that have workers; the threads of this process are no cluster."""


def start(kind: str, profile: Any, name: str) -> "AbstractContextManager[Started]":
    """Start or find a cluster; the module of its kind is imported only now.

    Parameters
    ----------
    kind : str
        One of `MODULES`.
    profile : Profile
        The profile, of this kind.
    name : str
        Its name, for messages.

    Returns
    -------
    context manager of Started
    """
    module = importlib.import_module(f"wavedask.compute.kinds.{kind}")
    cluster: AbstractContextManager[Started] = module.started(profile, name)
    return cluster


def optional(module: str, extra: str) -> Any:
    """Import a package that only one kind of cluster needs.

    Parameters
    ----------
    module : str
        Name of the module.
    extra : str
        Extra of wavedask that installs it.

    Returns
    -------
    module

    Raises
    ------
    InputError
        It is not installed; the message has the command that installs it.

    Examples
    --------
    >>> optional("distributed", "slurm").__name__
    'distributed'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and not module.startswith(error.name.split(".")[0]):
            raise
        raise InputError(
            f"this cluster needs the package {module.replace('_', '-')}, which is not installed",
            f"Install it: pip install 'wavedask[{extra}]'",
        ) from error
