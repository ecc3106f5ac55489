"""The place of a store: a folder that all workers see, or the URL of an object store."""

import errno
import glob
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
from wavedask.paths import NOT_THERE, expanded, read_regular
from wavedask.store.durable import DurableStore, write_durably
from wavedask.store.metadata import (
    CHECKSUM,
    CONSOLIDATED,
    CONTENTS,
    DAMAGED,
    LARGEST_METADATA,
    checksum_of,
)

METADATA: Final = "zarr.json"
"""Name of the metadata file of every Zarr group and array."""
LARGEST_OBJECT: Final = 2**32
"""Bytes of any other object; each is read at once."""
COORDINATES: Final = "coordinates"
URL: Final = re.compile(r"[a-z][a-z0-9+.-]+://")
SECRET_URL: Final = re.compile(r"[a-z][a-z0-9+.-]+://[^/]*:[^/]*@")
"""A URL with a user and a password."""
BROKEN_URL: Final = re.compile(r"[a-z][a-z0-9+.-]+:/[^/]")
"""A URL after `pathlib` has removed one of its slashes."""
OBSTORE: Final = ("s3", "s3a", "gs", "az", "abfs", "abfss", "azure")
"""Schemes of object stores that go through obstore, which is several times faster than fsspec."""
RETRIES: Final = {
    "retry_timeout": timedelta(seconds=60),
    # So many that the time is the bound: refused connections fail in milliseconds.
    "max_retries": 600,
    "backoff": {
        "init_backoff": timedelta(seconds=0.1),
        "max_backoff": timedelta(seconds=2),
        "base": 2,
    },
}
"""Each request is repeated for up to a minute: a server may be restarted meanwhile."""


@dataclass(frozen=True)
class Place:
    """A folder or a URL where a store is or will be, with what is needed to access it.

    Attributes
    ----------
    text : str
        Absolute path, or URL.
    options : mapping
        Options of a URL, such as credentials.
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
        """The folder or prefix that contains it."""
        if self.remote:
            return Place(self.text.rstrip("/").rpartition("/")[0], self.options)
        return Place(str(self.path.parent))

    def open(self, *, read_only: bool = False) -> Any:
        """Open it as a Zarr store.

        Raises
        ------
        StoreError
            A URL that no installed package can open.
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

    def read(self, key: str, *, largest: int = LARGEST_OBJECT) -> bytes | None:
        """Read an object below it; None if it is not there.

        Raises
        ------
        OSError
            A file that cannot be read, has more than `largest` bytes, or is a pipe or a device.
        """
        if not self.remote:
            file = self.path / key
            return _content(file, LARGEST_METADATA if file.name == METADATA else largest)
        found = sync(self.open(read_only=True).get(key, default_buffer_prototype()))
        return None if found is None else bytes(found.to_bytes())

    def write(self, key: str, content: bytes, *, new: bool = False) -> None:
        """Write an object below it in one step; with `new` only if it does not exist."""
        if not self.remote and not new:
            write_durably(self.path / key, content)
            return
        store = self.open()
        buffer = default_buffer_prototype().buffer.from_bytes(content)
        sync((store.set_if_not_exists if new else store.set)(key, buffer))

    @property
    def conditional(self) -> bool:
        """Whether the server compares before it writes, so that one of several writers wins."""
        return self.remote and self.text.partition("://")[0] in OBSTORE

    def replace(self, key: str, content: bytes, *, seen: bytes) -> bool:
        """Replace an object below it if its content is still `seen`; return whether it was.

        If several writers replace the same object at once and `conditional` is true, one succeeds:
        the request names the version that was seen (``If-Match``). Elsewhere all may succeed.
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
            # Perhaps the answer to a first attempt was lost, and the retry met its own object.
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
        """Whether anything exists there, for a folder also a file or a broken link."""
        if not self.remote:
            return self.path.exists() or self.path.is_symlink()

        async def any_object() -> bool:
            async for _ in self.open(read_only=True).list_prefix(""):
                return True
            return False

        return bool(sync(any_object()))

    def document(self) -> dict[str, Any] | None:
        """Return the metadata of the group; None if there is no group."""
        try:
            content = self.read(METADATA)
            found = None if content is None else json.loads(content)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or found.get("node_type") != "group":
            return None
        return found if isinstance(found.get("attributes", {}), dict) else None

    def commit(
        self,
        attributes: Mapping[str, Any],
        arrays: Sequence[str],
        *,
        coordinates: Sequence[str] = (),
        contents: Mapping[str, str] | None = None,
    ) -> None:
        """Replace the attributes and the consolidated metadata of the group, in one step.

        Arrays may be lengthened one by one before. A reader of the consolidated metadata sees them
        as they were before, or as they are now. Without `contents` the known checksums of chunks
        stay.
        """
        document = self.document() or {"zarr_format": 3, "node_type": "group"}
        # Here xarray keeps the names of coordinates that no variable refers to.
        before = document.get("attributes", {})
        known = str(before.get(COORDINATES, "")).split()
        document["attributes"] = dict(attributes)
        if contents is None:
            contents = before.get(CONTENTS)
        if contents is not None:
            document["attributes"][CONTENTS] = dict(contents)
        if known or coordinates:
            document["attributes"][COORDINATES] = " ".join(dict.fromkeys([*known, *coordinates]))
        document[CONSOLIDATED] = {
            "kind": "inline",
            "must_understand": False,
            "metadata": {name: self.metadata_of(name) for name in arrays},
        }
        document["attributes"][CHECKSUM] = checksum_of(document)
        self.write(METADATA, json.dumps(document, indent=2).encode())

    def roll_back(self) -> None:
        """Set the lengths of the arrays to those in the consolidated metadata of the group.

        They differ after a growth that was killed before its commit. Another commit would show
        frames that have no coordinates yet.
        """
        consolidated = (self.document() or {}).get(CONSOLIDATED, {})
        for name, metadata in consolidated.get("metadata", {}).items():
            if self.metadata_of(name) != metadata:
                self.write(f"{name}/{METADATA}", json.dumps(metadata, indent=2).encode())

    def contents(self) -> dict[str, str] | None:
        """Return the known checksums of chunks, by key; None in a store of an older version."""
        found = (self.document() or {}).get("attributes", {}).get(CONTENTS)
        return dict(found) if isinstance(found, dict) else None

    def array_names(self) -> list[str]:
        """List the arrays in the consolidated metadata of the group."""
        consolidated = (self.document() or {}).get(CONSOLIDATED, {})
        return list(consolidated.get("metadata", {}))

    def objects(self) -> list[str]:
        """List the keys of all objects below it."""

        async def listed() -> list[str]:
            return [key async for key in self.open(read_only=True).list_prefix("")]

        return list(sync(listed()))

    def files(self) -> list[Path]:
        """List all files of a folder."""
        return [self.path / key for key in self.objects()]

    def remove_drafts(self) -> None:
        """Remove what killed runs have left beside a folder while they created it.

        Only for the holder of the lock: a draft of another run may be in use.
        """
        if not self.remote:
            pattern = f".{glob.escape(self.name)}.{'[0-9a-f]' * 32}.draft"
            for draft in self.path.parent.glob(pattern):
                shutil.rmtree(draft, ignore_errors=True)

    def metadata_of(self, name: str) -> Any:
        """Read the metadata of one array."""
        content = self.read(f"{name}/{METADATA}")
        if content is None:
            raise StoreError(f"store {self} has lost its array {name!r}", "Compute it anew.")
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise StoreError(
                f"store {self} has damaged metadata of the array {name!r}: {error}", DAMAGED
            ) from error

    def group(self, *, durable: bool = False) -> zarr.Group:
        """Open the group for writing, with the metadata of each array.

        With `durable` each object in a folder is on the disk when it is written.
        """
        store = DurableStore(self.path) if durable and not self.remote else self.open()
        return zarr.open_group(store, mode="r+", use_consolidated=False)


def place_of(path: str | Path, options: Mapping[str, Any] | None = None) -> Place:
    """Interpret a path or a URL.

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
        Options for a folder, a URL that is not a text, or one that holds a password.

    Examples
    --------
    >>> place_of("s3://bucket/a/results.zarr").name, place_of("/data/results.zarr").remote
    ('results.zarr', False)
    """
    if isinstance(path, str) and URL.match(path):
        if SECRET_URL.match(path):
            scheme, _, rest = path.partition("://")
            raise InputError(
                f"the URL {scheme}://***@{rest.rpartition('@')[2]} holds a password",
                "URLs are stored with results and printed: give credentials as environment "
                "variables or storage_options.",
            )
        return Place(path.rstrip("/"), dict(options or {}))
    if options:
        raise InputError(f"storage_options with the folder {path}", "They belong to a URL.")
    return Place(str(local_path(path)))


def local_path(path: str | Path) -> Path:
    """Return the absolute path of a file or a folder; ``~`` is the home folder.

    Raises
    ------
    InputError
        A URL, also one that `pathlib` has changed: nobody means a folder called ``s3:``. A home
        folder of an unknown user.

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


def _content(file: Path, largest: int) -> bytes | None:
    """Read a file that others may replace at the same time; None if it does not exist."""
    try:
        try:
            return read_regular(file, largest=largest)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            # On NFS another machine replaced the file after we opened it.
            return read_regular(file, largest=largest)
    except NOT_THERE:
        return None


def _first_line(error: Exception) -> str:
    """Return the message of an object store without its debugging output."""
    return str(error).strip().split("\n", maxsplit=1)[0][:300]
