"""The metadata of a store: only what this package writes is accepted, before a chunk is decoded."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import google_crc32c

from wavedask.conventions import COMPLETE, FRAME
from wavedask.errors import StoreError

CHECKSUM: Final = "wavedask_checksum"
"""Attribute of a store: the CRC-32C of the rest of its metadata."""
CONTENTS: Final = "wavedask_contents"
"""Attribute of a store: the CRC-32C of each chunk that is not written block by block, by key.

A valid chunk in the place of another one, such as the positions of another motor, is noticed.
"""
CONSOLIDATED: Final = "consolidated_metadata"

BYTES: Final = "bytes"
TEXT: Final = "vlen-utf8"
BLOSC: Final = "blosc"
ZSTD: Final = "zstd"
CRC: Final = "crc32c"
"""Names of the codecs of a store."""
CODECS: Final = {
    (serializer, *compressor, *checksum)
    for serializer in (BYTES, TEXT)
    for compressor in ((), (BLOSC,), (ZSTD,))
    for checksum in ((), (CRC,))
}
"""Lists of codecs that a store may have; stores of older versions have no checksum."""

ITEM_SIZES: Final = {
    "bool": 1,
    **{f"{sign}int{8 * size}": size for sign in ("", "u") for size in (1, 2, 4, 8)},
    **{f"float{8 * size}": size for size in (2, 4, 8)},
    **{f"complex{8 * size}": size for size in (8, 16)},
}
"""Bytes of a value by data type; text has no fixed size."""
STRING: Final = "string"

LARGEST_METADATA: Final = 2**26
"""Bytes of a file with metadata, which is read at once."""
LARGEST_CHUNK: Final = 2**31
"""Bytes of a decoded chunk; Blosc takes no more."""
LARGEST_COORDINATE: Final = 2**29
"""Bytes of a coordinate, which is read into memory when a store is opened."""

DAMAGED: Final = (
    "Copy the store again, or compute it anew into another one: wavedask run EXPERIMENT."
)


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """How one array of a store is divided into chunks, and how these are encoded.

    Attributes
    ----------
    dims : tuple of str
        Its dimensions.
    shape, chunks : tuple of int
        Sizes along them, of the array and of a chunk.
    item_size : int
        Bytes of a value; 0 for text.
    codecs : tuple of str
        Names of the codecs, in the order of encoding.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    item_size: int
    codecs: tuple[str, ...]

    @property
    def summed(self) -> bool:
        """Whether each chunk has a checksum."""
        return self.codecs[-1] == CRC

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk; 0 for text."""
        return math.prod(self.chunks) * self.item_size


def checksum_of(document: Mapping[str, Any]) -> str:
    """Compute the checksum of the metadata of a group, without the checksum that it holds.

    Parameters
    ----------
    document : mapping
        The metadata, as JSON.

    Returns
    -------
    str
        CRC-32C, in hexadecimal digits.

    Examples
    --------
    >>> checksum_of({"attributes": {}}) == checksum_of({"attributes": {CHECKSUM: "0"}})
    True
    """
    attributes = {k: v for k, v in document.get("attributes", {}).items() if k != CHECKSUM}
    content = json.dumps({**document, "attributes": attributes}, sort_keys=True)
    return f"{google_crc32c.value(content.encode()):08x}"


def check_document(document: Mapping[str, Any], where: object) -> None:
    """Check the metadata of a group against the checksum in it; older stores have none.

    Raises
    ------
    StoreError
        It has been changed or damaged.
    """
    attributes = document.get("attributes")
    if not isinstance(attributes, dict):
        raise _refused(where, "its attributes are not a dictionary")
    contents = attributes.get(CONTENTS, {})
    if not (isinstance(contents, dict) and all(isinstance(one, str) for one in contents.values())):
        raise _refused(where, f"its attribute {CONTENTS!r} is not a dictionary of texts")
    if CHECKSUM in attributes and attributes[CHECKSUM] != checksum_of(document):
        raise _refused(where, "its checksum does not match")


def layouts_of(documents: Mapping[str, Any], where: object) -> dict[str, ArrayLayout]:
    """Check the metadata of all arrays of a store, and return what reading needs of it.

    Parameters
    ----------
    documents : mapping of str to object
        Metadata of each array, by name.
    where : object
        The store, for messages.

    Returns
    -------
    dict of str to ArrayLayout

    Raises
    ------
    StoreError
        Something that this package does not write: another Zarr version, codec or data type, a
        name with a slash, a chunk or a coordinate that is too large, or arrays whose sizes
        disagree.
    """
    found = {}
    for name, document in documents.items():
        if "/" in name or name in ("", ".", ".."):
            raise _refused(where, f"it has an array called {name!r}")
        found[name] = _layout(name, document, where)
    ledger = found.get(COMPLETE.name)
    if ledger is None or ledger.dims != (FRAME,) or ledger.item_size != 1:
        raise _refused(where, f"it has no ledger {COMPLETE.name!r} along {FRAME}")
    _check_sizes(found, where)
    return found


def _layout(name: str, given: Any, where: object) -> ArrayLayout:
    """Check the metadata of one array."""

    def refuse_unless(condition: bool, what: str) -> None:
        if not condition:
            raise _refused(where, f"array {name!r} has {what}")

    refuse_unless(isinstance(given, dict), "no metadata")
    document: dict[str, Any] = given
    kind = (document.get("zarr_format"), document.get("node_type"))
    refuse_unless(kind == (3, "array"), f"zarr_format and node_type {kind}")
    refuse_unless(not document.get("storage_transformers"), "storage transformers")
    refuse_unless(isinstance(document.get("attributes"), dict), "no attributes")
    grid, encoding = (_named(document.get(key)) for key in ("chunk_grid", "chunk_key_encoding"))
    refuse_unless(grid[0] == "regular", f"chunk grid {grid[0]!r}")
    refuse_unless(encoding == ("default", {"separator": "/"}), f"chunk keys {encoding[0]!r}")
    shape: Any = document.get("shape")
    chunks: Any = grid[1].get("chunk_shape")
    refuse_unless(_are_sizes(shape) and _are_sizes(chunks), f"shape {shape!r}, chunks {chunks!r}")
    dims = document.get("dimension_names") or []
    refuse_unless(
        isinstance(dims, list)
        and all(isinstance(dim, str) for dim in dims)
        and len(set(dims)) == len(dims) == len(shape) == len(chunks),
        f"dimensions {dims!r}, shape {shape}, chunks {chunks}",
    )
    data_type: Any = document.get("data_type")
    known = isinstance(data_type, str) and (data_type == STRING or data_type in ITEM_SIZES)
    refuse_unless(known, f"data type {str(data_type)[:80]!r}")
    listed = document.get("codecs")
    names = tuple(_named(codec)[0] for codec in listed) if isinstance(listed, list) else ()
    refuse_unless(names in CODECS, f"codecs {str(names)[:80]}")
    refuse_unless((names[0] == TEXT) == (data_type == STRING), f"codec {names[0]} of {data_type}")
    found = ArrayLayout(
        tuple(dims), tuple(shape), tuple(chunks), ITEM_SIZES.get(data_type, 0), names
    )
    refuse_unless(found.chunk_bytes < LARGEST_CHUNK, f"chunks of {found.chunk_bytes} bytes")
    return found


def _check_sizes(found: Mapping[str, ArrayLayout], where: object) -> None:
    """Check that arrays agree in the sizes of their dimensions, and fit into memory."""
    sizes: dict[str, tuple[int, str]] = {}
    for name, layout in found.items():
        for dim, size in zip(layout.dims, layout.shape, strict=True):
            before = sizes.setdefault(dim, (size, name))
            if before[0] != size:
                raise _refused(
                    where, f"{dim} has {before[0]} values in {before[1]!r} and {size} in {name!r}"
                )
        # What has fewer than two dimensions is read at once.
        size = math.prod(layout.shape) * (layout.item_size or 8)
        if len(layout.shape) < 2 and size > LARGEST_COORDINATE:
            raise _refused(where, f"array {name!r} has {size} bytes")


def _are_sizes(given: Any) -> bool:
    return isinstance(given, list) and all(
        isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**40 for size in given
    )


def _named(given: Any) -> tuple[Any, dict[str, Any]]:
    """Return the name and the configuration of an entry of the metadata."""
    if not isinstance(given, dict):
        return None, {}
    configuration = given.get("configuration", {})
    return given.get("name"), configuration if isinstance(configuration, dict) else {}


def _refused(where: object, what: str) -> StoreError:
    return StoreError(
        f"store {where} is damaged, or was changed by another program: {what}", DAMAGED
    )


def names_of(keys: Iterable[str], file: str) -> list[str]:
    """List the arrays of a store without consolidated metadata, from the keys of its objects."""
    parts = (key.split("/") for key in keys)
    return sorted(part[0] for part in parts if len(part) == 2 and part[1] == file)
