"""A Zarr store that checks each chunk before it is decoded."""

import hashlib
import itertools
import math
import stat
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from typing import Any, Final

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from wavedask.conventions import COMPLETE, DIGEST, FRAME
from wavedask.errors import StoreError
from wavedask.store.metadata import BLOSC, CRC, DAMAGED, LARGEST_METADATA, TEXT, ZSTD, ArrayLayout

LARGEST_TEXT: Final = 2**26
"""Bytes of a decoded chunk of texts."""
CRC_BYTES: Final = 4
BLOSC_HEADER: Final = struct.Struct("<4B3I")
"""Version, version of the format, flags, size of a value; bytes decoded, of a block, encoded."""
LARGEST_HEADER: Final = 32
"""Bytes that the header of a compressed chunk has at most."""
REPAIR: Final = "Compute it again: wavedask run EXPERIMENT --repair. Or copy the store again."


class CheckedStore(WrapperStore[Store]):
    """Refuse chunks that are missing, damaged, or larger than the metadata says.

    Zarr reads a missing chunk as NaN or as empty text, and takes the size of the memory that it
    allocates from the chunk itself. Here a missing chunk of a complete frame is an error, as is
    one with a wrong checksum. Sizes are checked before memory is allocated.

    Parameters
    ----------
    store : zarr.abc.store.Store
        The store to read.
    where : str
        Its place, for messages.
    layouts : mapping of str to ArrayLayout
        Its arrays, as `wavedask.store.metadata.layouts_of` returns them.
    complete : ndarray of bool, optional
        Which frames are complete; chunks of other frames may be missing, and read as NaN.
    contents : mapping of str to str, optional
        Checksums of chunks by key, as far as they are known; another valid chunk in the place of
        one of them is refused.
    """

    def __init__(
        self,
        store: Store,
        where: str,
        layouts: Mapping[str, ArrayLayout],
        complete: NDArray[np.bool_] | None = None,
        contents: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(store)
        self._where = where
        self._layouts = dict(layouts)
        self._complete = complete
        self._contents = dict(contents or {})

    @property
    def layouts(self) -> dict[str, ArrayLayout]:
        """Layout of each array, by name."""
        return self._layouts

    def _with_store(self, store: Store) -> "CheckedStore":
        return CheckedStore(store, self._where, self._layouts, self._complete, self._contents)

    def __reduce__(self) -> Any:
        given = (self._store, self._where, self._layouts, self._complete, self._contents)
        return CheckedStore, given

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CheckedStore) and bool(self._store == other._store)

    __hash__ = None  # type: ignore[assignment]

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read an object; check it if it is a chunk."""
        chunk = chunk_of(key)
        if chunk is None or chunk[0] not in self._layouts or byte_range is not None:
            if problem := self._unreadable(key, LARGEST_METADATA):
                raise StoreError(f"{key} of store {self._where} is damaged: {problem}", DAMAGED)
            return await self._store.get(key, prototype, byte_range)
        name, index = chunk
        layout = self._layouts[name]
        if problem := self._unreadable(key, most_bytes(layout)):
            raise self._error(name, layout, index, f"is damaged: {problem}", REPAIR)
        content = await self._store.get(key, prototype, byte_range)
        if content is None:
            # Older versions did not write chunks that hold only the fill value.
            if layout.summed and not self._unfinished(name, layout, index):
                raise self._error(name, layout, index, "is missing", REPAIR)
            return None
        data = content.as_numpy_array()
        problem = problem_of(data, layout)
        if not problem:
            expected = self._contents.get(key) if layout.summed else None
            if expected is not None and expected != text_of(data[-CRC_BYTES:].tobytes()):
                what = "is another valid chunk than the one that was written there"
                raise self._error(name, layout, index, what, REPAIR)
            return content
        if self._unfinished(name, layout, index):
            # A power cut may leave an empty file. No run has promised more.
            return None
        raise self._error(name, layout, index, f"is damaged: {problem}", REPAIR)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Read parts of objects, or all of them."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]
    ) -> AsyncGenerator[tuple[str, Buffer | None], None]:
        for key, prototype, part in requests:
            yield key, await self.get(key, prototype, part)

    def list(self) -> AsyncIterator[str]:
        """List all keys."""
        return self._store.list()

    def _unreadable(self, key: str, largest: int) -> str:
        """Say why a file must not be read: a pipe does not end, nor does a device."""
        if not isinstance(self._store, LocalStore):
            return ""
        try:
            status = (self._store.root / key).stat()
        except OSError:
            # Reading it gives the error.
            return ""
        if stat.S_ISDIR(status.st_mode):
            return ""
        if not stat.S_ISREG(status.st_mode):
            return "it is a pipe or a device"
        return f"it has {status.st_size} bytes" if status.st_size > largest else ""

    def _unfinished(self, name: str, layout: ArrayLayout, index: tuple[int, ...]) -> bool:
        """Whether a chunk holds no complete frame."""
        if FRAME not in layout.dims or self._complete is None or name == COMPLETE.name:
            return False
        return not self._complete[frames_of(layout, index)].any()

    def _error(
        self, name: str, layout: ArrayLayout, index: tuple[int, ...], what: str, remedy: str
    ) -> StoreError:
        frames = ""
        # What is written at once has known checksums, which older versions did not write.
        at_once = "/".join((name, "c", *map(str, index))) in self._contents
        if self._contents and name not in (COMPLETE.name, DIGEST.name):
            of_frames = not at_once
        else:
            of_frames = len(layout.shape) > 1
        if of_frames and FRAME in layout.dims:
            block = frames_of(layout, index)
            last = min(block.stop, layout.shape[layout.dims.index(FRAME)]) - 1
            frames = f", frame {block.start}" + (f" to {last}" if last > block.start else "")
        else:
            # Coordinates and the ledger belong to all frames.
            remedy = DAMAGED
        return StoreError(f"{name}{frames} of store {self._where} {what}", remedy)


class RecordingStore(WrapperStore[Store]):
    """Keep the checksum of each chunk that is written, until it is asked for.

    The last codec of an array writes the CRC-32C of a chunk behind it: nothing is computed again.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._written: dict[str, bytes] = {}

    def _with_store(self, store: Store) -> "RecordingStore":
        other = RecordingStore(store)
        other._written = self._written
        return other

    def __reduce__(self) -> Any:
        return RecordingStore, (self._store,)

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object, and keep its checksum."""
        await self._store.set(key, value)
        self._written[key] = bytes(memoryview(value.as_buffer_like())[-CRC_BYTES:])

    def contents(self) -> dict[str, str]:
        """Return the checksums of all chunks that this process has written, by key."""
        return {key: text_of(value) for key, value in self._written.items() if chunk_of(key)}

    def digest(self, keys: Iterable[str]) -> int:
        """Combine the checksums of chunks that this process has written, and forget them."""
        return combined({key: self._written.pop(key) for key in keys if key in self._written})


def text_of(checksum: bytes) -> str:
    """Write a checksum as text, for JSON.

    Examples
    --------
    >>> text_of(bytes([1, 2, 254, 255]))
    '0102feff'
    """
    return checksum.hex()


def combined(checksums: Mapping[str, bytes]) -> int:
    """Combine checksums of chunks to one number; their order does not matter.

    Parameters
    ----------
    checksums : mapping of str to bytes
        CRC-32C of chunks, by key.

    Returns
    -------
    int
        32 bits. The numbers of parts combine to that of the whole by exclusive or.

    Examples
    --------
    >>> parts = {"a/c/0": b"1234", "b/c/0": b"5678"}
    >>> one, other = (combined({key: value}) for key, value in parts.items())
    >>> combined(parts) == one ^ other
    True
    """
    total = 0
    for key, checksum in checksums.items():
        # Not a CRC again: these are linear, and would cancel for chunks with equal contents.
        mixed = hashlib.blake2b(key.encode() + b"\0" + checksum, digest_size=4).digest()
        total ^= int.from_bytes(mixed, "little")
    return total


def chunk_of(key: str) -> tuple[str, tuple[int, ...]] | None:
    """Interpret a key as that of a chunk.

    Parameters
    ----------
    key : str
        A key below a store.

    Returns
    -------
    (str, tuple of int) or None
        Array and index of the chunk; None for other objects.

    Examples
    --------
    >>> chunk_of("slope_y/c/3/0/1"), chunk_of("energy/c"), chunk_of("slope_y/zarr.json")
    (('slope_y', (3, 0, 1)), ('energy', ()), None)
    """
    name, *rest = key.split("/")
    if not rest or rest[0] != "c" or not all(part.isdecimal() for part in rest[1:]):
        return None
    return name, tuple(map(int, rest[1:]))


def frames_of(layout: ArrayLayout, index: tuple[int, ...]) -> slice:
    """Return the frames in a chunk of an array along ``frame``."""
    axis = layout.dims.index(FRAME)
    size = layout.chunks[axis]
    return slice(index[axis] * size, (index[axis] + 1) * size)


def chunks_of(layout: ArrayLayout, block: int) -> list[tuple[int, ...]]:
    """List the chunks of an array in one block along the frames."""
    grid = [
        range(-(-size // chunk)) for size, chunk in zip(layout.shape, layout.chunks, strict=True)
    ]
    grid[layout.dims.index(FRAME)] = range(block, block + 1)
    return list(itertools.product(*grid))


def most_bytes(layout: ArrayLayout) -> int:
    """Return how many bytes an encoded chunk may have; what cannot be compressed grows a little."""
    return (layout.chunk_bytes or LARGEST_TEXT) * 9 // 8 + 2**16


def problem_of(content: bytes | NDArray[np.uint8], layout: ArrayLayout) -> str:
    """Say what is wrong with an encoded chunk; nothing is decoded but texts.

    Parameters
    ----------
    content : bytes or ndarray of uint8
        The chunk.
    layout : ArrayLayout
        Its array.

    Returns
    -------
    str
        Empty for a chunk that can be decoded.
    """
    codecs = list(layout.codecs)
    # Views: a chunk may have megabytes.
    data = np.frombuffer(content, np.uint8)
    if codecs[-1] == CRC:
        codecs.pop()
        data, stored = data[:-CRC_BYTES], data[-CRC_BYTES:].tobytes()
        if google_crc32c.value(data).to_bytes(CRC_BYTES, "little") != stored:
            return "its checksum does not match"
    compressor = codecs[1] if len(codecs) > 1 else ""
    size = decoded_size(data[:LARGEST_HEADER].tobytes(), data.size, compressor)
    if size is None:
        return "its header is not valid"
    if codecs[0] != TEXT:
        expected = layout.chunk_bytes
        return "" if size == expected else f"it holds {size} bytes instead of {expected}"
    if size > LARGEST_TEXT or codecs[1:] not in ([], [ZSTD]):
        return f"it holds {size} bytes of text"
    try:
        texts = bytes(Zstd().decode(data)) if codecs[1:] else data.tobytes()
    except RuntimeError as error:
        return str(error)
    return "" if _are_texts(texts, math.prod(layout.chunks)) else "its texts are not valid"


def decoded_size(head: bytes, length: int, compressor: str) -> int | None:
    """Read from the beginning of a compressed chunk how large it becomes; None if it is not valid.

    Parameters
    ----------
    head : bytes
        Its first bytes, with the header.
    length : int
        Bytes of all of it.
    compressor : str
        Name of the codec; empty for none.
    """
    if compressor == BLOSC:
        if len(head) < BLOSC_HEADER.size:
            return None
        *_, decoded, _, encoded = BLOSC_HEADER.unpack_from(head)
        return int(decoded) if encoded == length else None
    if compressor == ZSTD:
        return _zstd_size(head)
    return length


def _zstd_size(content: bytes) -> int | None:
    """Read the size of the content from the header of a Zstandard frame (RFC 8878, 3.1.1)."""
    if len(content) < 6 or content[:4] != b"\x28\xb5\x2f\xfd":
        return None
    descriptor = content[4]
    single_segment, dictionary = descriptor >> 5 & 1, (0, 1, 2, 4)[descriptor & 3]
    width = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
    start = 5 + (not single_segment) + dictionary
    if not width or len(content) < start + width:
        return None
    size = int.from_bytes(content[start : start + width], "little")
    return size + 256 if width == 2 else size


def _are_texts(content: bytes, count: int) -> bool:
    """Whether bytes are as many texts as a chunk holds, each behind its length."""
    if len(content) < 4 or int.from_bytes(content[:4], "little") != count:
        return False
    position = 4
    for _ in range(count):
        if position + 4 > len(content):
            return False
        length = int.from_bytes(content[position : position + 4], "little")
        text = content[position + 4 : position + 4 + length]
        position += 4 + length
        if len(text) < length:
            return False
        try:
            text.decode()
        except UnicodeDecodeError:
            return False
    return position == len(content)
