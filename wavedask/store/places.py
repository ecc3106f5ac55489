"""Where a store is: a folder that all workers see, or the URL of an object store."""

import errno
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore

from wavedask.errors import InputError, StoreError
from wavedask.paths import NOT_THERE, expanded

METADATA: Final = "zarr.json"
"""File that every Zarr group and array has."""
COORDINATES: Final = "coordinates"
URL: Final = re.compile(r"[a-z][a-z0-9+.-]+://")
BROKEN_URL: Final = re.compile(r"[a-z][a-z0-9+.-]+:/[^/]")
"""What `pathlib` makes of a URL."""
OBSTORE: Final = ("s3", "s3a", "gs", "az", "abfs", "abfss", "azure")
"""Schemes of object stores that are spoken to by obstore, several times faster than by fsspec."""
RETRIES: Final = {"max_retries": 5, "retry_timeout": timedelta(seconds=30)}
"""A server that is restarted is waited for; one that is gone is an error within half a minute."""


@dataclass(frozen=True)
class Place:
    """A folder or a URL at which a store is, or will be.

    Attributes
    ----------
    text : str
        Absolute path, or URL.
    options : mapping
        Credentials and the like of a URL.
    """

    text: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return self.text

    @property
    def remote(self) -> bool:
        """Whether it is a URL."""
        return URL.match(self.text) is not None

    @property
    def path(self) -> Path:
        """The folder."""
        return Path(self.text)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.text.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> "Place":
        """Where it lies."""
        if self.remote:
            return Place(self.text.rstrip("/").rpartition("/")[0], self.options)
        return Place(str(self.path.parent))

    def open(self, *, read_only: bool = False) -> Any:
        """Open it as Zarr does.

        Raises
        ------
        StoreError
            A URL that nothing installed here can open.
        """
        if not self.remote:
            return LocalStore(self.path, read_only=read_only)
        scheme = self.text.partition("://")[0]
        if scheme not in OBSTORE:
            try:
                return FsspecStore.from_url(
                    self.text, storage_options=dict(self.options), read_only=read_only
                )
            except (ImportError, ValueError) as error:
                raise StoreError(
                    f"{self.text} cannot be opened: {error}",
                    f"Install the fsspec package for {scheme}://, or give a folder or s3:// URL.",
                ) from error
        try:
            from obstore.exceptions import BaseError

            from wavedask.store.objects import Objects
        except ImportError as error:
            raise StoreError(
                f"{self.text} needs the package obstore", "Install it: pip install 'wavedask[s3]'."
            ) from error
        try:
            options = {"retry_config": RETRIES, **self.options}
            return Objects(self.text, options, read_only=read_only)
        except BaseError as error:
            raise StoreError(
                f"{self.text} cannot be opened: {_first_line(error)}",
                "Check the URL and its options.",
            ) from error

    def read(self, key: str) -> bytes | None:
        """Read an object below it; None if it is not there."""
        if not self.remote:
            return _content(self.path / key)
        found = sync(self.open(read_only=True).get(key, default_buffer_prototype()))
        return None if found is None else bytes(found.to_bytes())

    def write(self, key: str, content: bytes, *, new: bool = False) -> None:
        """Write an object below it at once; with `new` only if there is none."""
        store = self.open()
        buffer = default_buffer_prototype().buffer.from_bytes(content)
        sync((store.set_if_not_exists if new else store.set)(key, buffer))

    @property
    def conditional(self) -> bool:
        """Whether the server itself compares before it writes, so that one of several wins."""
        return self.remote and self.text.partition("://")[0] in OBSTORE

    def replace(self, key: str, content: bytes, *, seen: bytes) -> bool:
        """Replace an object below it if it is still what was `seen`; whether it was.

        Of several that replace the same at once, one succeeds where `conditional` is true: the
        server is told the version that was seen (``If-Match``). Elsewhere all may.
        """
        if not self.conditional:
            if self.read(key) != seen:
                return False
            self.write(key, content)
            return True
        import obstore
        from obstore.exceptions import NotFoundError, PreconditionError

        client = self.open().client
        try:
            found = obstore.get(client, key)
            if bytes(found.bytes()) != seen:
                return False
            version: Any = {
                name: value
                for name in ("e_tag", "version")
                if (value := found.meta.get(name)) is not None
            }
            obstore.put(client, key, content, mode=version)
        except (NotFoundError, FileNotFoundError):
            return False
        except PreconditionError:
            # Or the answer to the first of two attempts was lost, and the second met its own.
            return self.read(key) == content
        return True

    def delete(self, key: str) -> None:
        """Remove an object below it."""
        sync(self.open().delete(key))

    def clear(self) -> None:
        """Remove everything below it."""
        if self.remote:
            sync(self.open().delete_dir(""))
        else:
            shutil.rmtree(self.path, ignore_errors=True)

    def occupied(self) -> bool:
        """Whether anything is there: for a folder also a file, or a link to nowhere."""
        if not self.remote:
            return self.path.exists() or self.path.is_symlink()

        async def any_object() -> bool:
            async for _ in self.open(read_only=True).list_prefix(""):
                return True
            return False

        return bool(sync(any_object()))

    def document(self) -> dict[str, Any] | None:
        """Metadata of the group that is there; None if there is no group."""
        try:
            content = self.read(METADATA)
            found = None if content is None else json.loads(content)
        except ValueError:
            return None
        is_group = isinstance(found, dict) and found.get("node_type") == "group"
        return found if is_group else None

    def commit(
        self,
        attributes: Mapping[str, Any],
        arrays: Sequence[str],
        *,
        coordinates: Sequence[str] = (),
    ) -> None:
        """Replace attributes and consolidated metadata of the group, both in one step.

        Who reads the consolidated metadata sees the arrays as they were before, or as they are
        now: arrays may be lengthened one by one before.
        """
        document = self.document() or {"zarr_format": 3, "node_type": "group"}
        # Where xarray keeps the names of coordinates that no variable names.
        known = str(document.get("attributes", {}).get(COORDINATES, "")).split()
        document["attributes"] = dict(attributes)
        if known or coordinates:
            document["attributes"][COORDINATES] = " ".join(dict.fromkeys([*known, *coordinates]))
        document["consolidated_metadata"] = {
            "kind": "inline",
            "must_understand": False,
            "metadata": {name: self._metadata(name) for name in arrays},
        }
        self.write(METADATA, json.dumps(document, indent=2).encode())

    def roll_back(self) -> None:
        """Give arrays the lengths that the consolidated metadata of the group has of them.

        They differ where a growth was killed before its commit; a commit of something else would
        make frames visible that nobody has described yet.
        """
        consolidated = (self.document() or {}).get("consolidated_metadata", {})
        for name, metadata in consolidated.get("metadata", {}).items():
            if self._metadata(name) != metadata:
                self.write(f"{name}/{METADATA}", json.dumps(metadata, indent=2).encode())

    def _metadata(self, name: str) -> Any:
        """Metadata of one array."""
        content = self.read(f"{name}/{METADATA}")
        if content is None:
            raise StoreError(f"store {self} has lost its array {name!r}", "Compute it anew.")
        return json.loads(content)

    def group(self) -> zarr.Group:
        """Open the group that is there for writing, by the metadata of each array."""
        return zarr.open_group(self.open(), mode="r+", use_consolidated=False)


def place_of(path: str | Path, options: Mapping[str, Any] | None = None) -> Place:
    """Find out what a path or URL means.

    Parameters
    ----------
    path : str or Path
        A folder, or a URL such as ``s3://bucket/results.zarr``.
    options : mapping, optional
        Options of a URL: for ``s3://``, ``gs://`` and ``az://`` what `obstore.store.from_url`
        takes, for others what fsspec takes.

    Returns
    -------
    Place

    Raises
    ------
    InputError
        Options with a folder, or a URL that is no text any more.

    Examples
    --------
    >>> place_of("s3://bucket/a/results.zarr").name, place_of("/data/results.zarr").remote
    ('results.zarr', False)
    """
    if isinstance(path, str) and URL.match(path):
        return Place(path.rstrip("/"), dict(options or {}))
    if options:
        raise InputError(f"storage_options with the folder {path}", "They belong to a URL.")
    return Place(str(local_path(path)))


def local_path(path: str | Path) -> Path:
    """Return the absolute path of a file or a folder; ``~`` is the home folder.

    Raises
    ------
    InputError
        A URL, or what `pathlib` made of one: a folder called ``s3:`` is not what was meant. The
        home folder of a user who is not known.

    Examples
    --------
    >>> str(local_path("/data/out.h5"))
    '/data/out.h5'
    >>> local_path(Path("s3://bucket/out.h5"))
    Traceback (most recent call last):
        ...
    wavedask.errors.InputError: s3:/bucket/out.h5 is a URL. Give a file or a folder; ...
    """
    if URL.match(str(path)) or BROKEN_URL.match(str(path)):
        raise InputError(
            f"{path} is a URL",
            "Give a file or a folder; a result store may be a URL, as text and not as Path.",
        )
    return expanded(path).absolute()


def _content(file: Path) -> bytes | None:
    """Read a file that others may replace meanwhile; None if it is not there."""
    try:
        try:
            return file.read_bytes()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            # On NFS another machine has replaced it between our opening and our reading it.
            return file.read_bytes()
    except NOT_THERE:
        return None


def _first_line(error: Exception) -> str:
    """Say what an object store said, without its debugging output."""
    return str(error).strip().split("\n", maxsplit=1)[0][:300]
