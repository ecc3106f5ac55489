"""An object store as a Zarr store, without threads that outlive the interpreter."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import obstore
from obstore.exceptions import AlreadyExistsError, NotSupportedError
from obstore.store import from_url
from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype

from wavedask.paths import NOT_THERE

CONNECTIONS: Final = 32
"""Simultaneous requests of a process; for each one a thread waits."""
ENVIRONMENT: Final = ("AWS_", "AZURE_", "GOOGLE_")
"""Prefixes of the environment variables from which obstore takes credentials."""

_threads: Final = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="objects")


class Objects(Store):
    """The objects below the URL of an object store.

    Zarr's own `zarr.storage.ObjectStore` awaits the futures of obstore. A Rust thread sets their
    results, and needs the interpreter for a moment longer. If the process ends in that moment,
    Python before 3.14 ends the thread in a way that Rust takes for a crash: the process ends with
    SIGABRT after all work is done (2 of 100 short processes on busy cores). Here Python threads
    wait for the answers, and Python waits for its threads.

    Parameters
    ----------
    url : str The prefix of the objects.
    options : mapping
        What `obstore.store.from_url` takes: credentials, endpoint.
    read_only : bool, optional
        Whether the store refuses to write.

    Examples
    --------
    >>> import numpy as np
    >>> import zarr
    >>> group = zarr.create_group(Objects("memory:///", {}))
    >>> group.create_array("wavefront", data=np.arange(3.0))[1:]
    array([1., 2.])
    """

    def __init__(self, url: str, options: Mapping[str, Any], read_only: bool = False) -> None:
        super().__init__(read_only=read_only)
        self._given = (url, dict(options))
        environment = {k: v for k, v in os.environ.items() if k.startswith(ENVIRONMENT)}
        self.client = _client(_Access(*self._given, environment))

    def with_read_only(self, read_only: bool = False) -> "Objects":
        """Return the same, writable or not."""
        return Objects(*self._given, read_only)

    def __reduce__(self) -> Any:
        return Objects, (*self._given, self.read_only)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Objects) and self.__reduce__() == other.__reduce__()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        # The options may hold credentials.
        return f"Objects({self._given[0]!r})"

    supports_writes = True
    supports_deletes = True
    supports_listing = True

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read an object, or a part of it; None if it is not there."""
        content = await _waited(_read, self.client, key, byte_range)
        return None if content is None else prototype.buffer.from_bytes(content)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Read parts of objects, all at once."""
        return await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges))

    async def exists(self, key: str) -> bool:
        """Whether an object exists."""
        try:
            await _waited(obstore.head, self.client, key)
        except NOT_THERE:
            return False
        return True

    async def getsize(self, key: str) -> int:
        """Size of an object in bytes."""
        return int((await _waited(obstore.head, self.client, key))["size"])

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object."""
        self._check_writable()
        await _waited(obstore.put, self.client, key, value.as_buffer_like())

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write an object unless it exists."""
        self._check_writable()
        with suppress(AlreadyExistsError):
            await _waited(obstore.put, self.client, key, value.as_buffer_like(), mode="create")

    async def delete(self, key: str) -> None:
        """Remove an object if it exists."""
        self._check_writable()
        with suppress(FileNotFoundError):
            await _waited(obstore.delete, self.client, key)

    async def delete_dir(self, prefix: str) -> None:
        """Remove every object below a prefix."""
        self._check_writable()
        keys = [key async for key in self.list_prefix(_folder(prefix))]
        await asyncio.gather(*(self.delete(key) for key in keys))

    def list(self) -> AsyncIterator[str]:
        """Yield the key of every object."""
        return self.list_prefix("")

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys below a prefix."""
        batches = iter(obstore.list(self.client, prefix or None))
        while (batch := await _waited(next, batches, None)) is not None:
            for found in batch:
                yield found["path"]

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names in a folder: of its objects, and of its folders."""
        folder = _folder(prefix)
        found = await _waited(obstore.list_with_delimiter, self.client, folder or None)
        for path in (*found["common_prefixes"], *(one["path"] for one in found["objects"])):
            yield path.removeprefix(folder).strip("/")


async def _waited(call: Callable[..., Any], *args: Any, **given: Any) -> Any:
    """Run a blocking call in a thread, and await it."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads, lambda: call(*args, **given))


@dataclass(frozen=True)
class _Access:
    """Everything that decides how a client connects to a server."""

    url: str
    options: Mapping[str, Any] = field(hash=False, repr=False)
    environment: Mapping[str, str] = field(hash=False, repr=False)


@lru_cache(maxsize=64)
def _client(access: _Access) -> Any:
    """Make a client; all tasks of a process share it and its connections."""
    return from_url(access.url, **access.options)


def _folder(prefix: str) -> str:
    return prefix and prefix.rstrip("/") + "/"


def _read(client: Any, key: str, part: ByteRequest | None) -> Any:
    """Read an object, or a part of it; None if it is not there."""
    try:
        match part:
            case None:
                return obstore.get(client, key).bytes()
            case RangeByteRequest(start, end):
                return obstore.get_range(client, key, start=start, end=end)
            case OffsetByteRequest(offset):
                return obstore.get(client, key, options={"range": {"offset": offset}}).bytes()
            case SuffixByteRequest(suffix):
                return _read_end(client, key, suffix)
    except NOT_THERE:
        return None


def _read_end(client: Any, key: str, suffix: int) -> Any:
    """Read the last bytes of an object."""
    try:
        return obstore.get(client, key, options={"range": {"suffix": suffix}}).bytes()
    except NotSupportedError:
        # Azure counts from the beginning only.
        size = obstore.head(client, key)["size"]
        return obstore.get_range(client, key, start=max(0, size - suffix), end=size)
