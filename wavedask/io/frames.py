"""Descriptors of frames on disk, and the lazy array made from them."""

import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.base import tokenize

from wavedask.conventions import FRAME, X, Y
from wavedask.errors import (
    CorruptFileError,
    FileError,
    FrameMismatchError,
    InputError,
    WavedaskError,
)
from wavedask.io.packed import Rows, texts_of

Pixels: TypeAlias = npt.NDArray[Any]

SMALL: Final = 2**28
"""Bytes that anything read at once may take, however little of a file it is made of."""
LARGEST_EXPANSION: Final = 2000
"""How many times larger than its bytes in the file something may be; deflate reaches 1032."""
FROM_BEGINNING: Final = 2**16
"""Bytes before the first pixel that are read along, and not skipped: those of a header."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into a `FileError` that names it."""
    try:
        yield
    except WavedaskError:
        raise
    except FileNotFoundError as error:
        raise FileError(f"{path} does not exist", "Was it moved or deleted?") from error
    except (EOFError, zlib.error, struct.error) as error:
        raise CorruptFileError(
            f"{path} is damaged or truncated: {error}", "Copy it again from its source."
        ) from error
    except (OSError, ValueError) as error:
        raise FileError(
            f"{path} cannot be read: {error}",
            "Check that it is whole and what its suffix says, and that you may read it.",
        ) from error


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn whatever a library raises of a file that it cannot decode into a `CorruptFileError`.

    For libraries that do not say which errors they raise: of damaged files these are of any class.
    """
    with reading(path):
        try:
            yield
        except (OSError, EOFError, ValueError, WavedaskError):
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {error}".split("\n", maxsplit=1)[0][:200]
            raise CorruptFileError(
                f"{path} is damaged or truncated: {said}", "Copy it again from its source."
            ) from error


def check_expansion(path: Path, what: str, *, size: int, stored: int) -> None:
    """Refuse what would take much memory, and is made of nearly nothing.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    what : str
        What would be read, for the message.
    size : int
        Bytes that it takes in memory.
    stored : int
        Bytes that the file holds of it.

    Raises
    ------
    CorruptFileError
        It is larger than 256 MiB, and than 2000 times its bytes in the file.

    Examples
    --------
    >>> check_expansion(Path("a.tif"), "page 0", size=2**40, stored=512)
    Traceback (most recent call last):
        ...
    wavedask.errors.CorruptFileError: a.tif: page 0 would take 1024.0 GiB, of 512 bytes in the ...
    """
    if size > SMALL and size > LARGEST_EXPANSION * stored:
        raise CorruptFileError(
            f"{path}: {what} would take {size / 2**30:.1f} GiB, of {stored} bytes in the file",
            "It is damaged, or was made to fill the memory: copy it again from its source.",
        )


class Frame(Protocol):
    """One frame on disk: it knows how to read itself.

    A frozen dataclass, whose fields can be hashed: a scan of many files keeps it field by field.
    """

    @property
    def path(self) -> Path:
        """File that holds the frame."""

    @property
    def index(self) -> int:
        """Number of the frame within its file."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel as stored, byte order included."""

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Pixels of a contiguous region, as stored; may be a view of the file."""


@dataclass(frozen=True, slots=True)
class RawFrame:
    """A frame stored as one plain block of bytes.

    Attributes
    ----------
    path : pathlib.Path
        File that holds the frame.
    index : int
        Number of the frame within its file.
    offset : int
        Where the pixels start, bytes.
    shape : tuple of int
        Rows and columns.
    dtype : numpy.dtype
        Type of a pixel as stored, byte order included.
    """

    path: Path
    index: int
    offset: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def read(self, rows: slice, cols: slice) -> Pixels:
        """Read whole rows at once; of a narrower region, return a view of the mapped file."""
        if cols == slice(0, self.shape[1]):
            pixels = np.empty((rows.stop - rows.start, self.shape[1]), self.dtype)
            self._fill(pixels, rows)
            return pixels
        with reading(self.path):
            pixels = np.memmap(
                self.path, dtype=self.dtype, mode="r", offset=self.offset, shape=self.shape
            )
            return pixels[rows, cols]

    def read_into(self, pixels: Pixels, rows: slice, cols: slice) -> None:
        """Read a contiguous region into an array, without a copy if it is whole rows."""
        if cols == slice(0, self.shape[1]) and pixels.dtype == self.dtype:
            self._fill(pixels, rows)
        else:
            pixels[...] = self.read(rows, cols)

    def _fill(self, pixels: Pixels, rows: slice) -> None:
        """Read whole rows into an array that is contiguous and of the type of the frame."""
        missing = pixels.reshape(-1).view(np.uint8).data
        with reading(self.path), self.path.open("rb", buffering=0) as file:
            start = self.offset + rows.start * self.shape[1] * self.dtype.itemsize
            if start <= FROM_BEGINNING:
                # Read from its beginning, a file comes ahead of time and in large pages; otherwise
                # Linux takes twice as long for it, and again when it comes from the page cache.
                file.read(start)
            file.seek(start)
            # The system gives no more than 2 GiB at once.
            while missing and (count := file.readinto(missing)):
                missing = missing[count:]
        if missing:
            pixels_missing = -(-len(missing) // self.dtype.itemsize)
            raise CorruptFileError(
                f"{self.path} is truncated: {pixels_missing} pixels of frame {self.index} are"
                " missing",
                "It has changed since the scan was opened: open it again.",
            )


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """What a file says about one frame.

    Attributes
    ----------
    frame : Frame
        Where the pixels are.
    motors, counters : mapping of str to float
        Positions and counts by name.
    header : mapping of str to str
        What else the header holds, as written.
    unread : mapping of (str, str) to str
        Motors and counters, by role and name, whose values cannot be read, and why.
    """

    frame: Frame
    motors: Mapping[str, float]
    counters: Mapping[str, float]
    header: Mapping[str, str]
    unread: Mapping[tuple[str, str], str] = field(default_factory=dict)


class Stack(ABC):
    """Frames on disk with the interface of an array (frame, y, x) that dask expects of a source.

    It holds no open file, so that it can be pickled and used from several threads.

    Attributes
    ----------
    shape : tuple of int
        Frames, rows, columns.
    dtype : numpy.dtype
        Type of a pixel, in native byte order.
    ndim : int
        Always 3.
    frames_per_block : int or tuple of int
        Frames that are best read together: more than one, where a chunk of the file holds several;
        of each block, where blocks differ.
    """

    ndim = 3
    frames_per_block: int | tuple[int, ...] = 1

    def __init__(self, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype.newbyteorder("=")

    @property
    @abstractmethod
    def origins(self) -> list[tuple[str, int]]:
        """Path of the file, and number within it, of each frame."""

    @property
    def datasets(self) -> list[str] | None:
        """Dataset of each frame in its file; None where a file holds nothing but these frames."""
        return None

    @abstractmethod
    def read(self, frames: npt.NDArray[np.intp], rows: slice, cols: slice) -> Pixels:
        """Read a contiguous region of some frames, in native byte order."""

    def __getitem__(self, index: Any) -> Pixels:
        index = index if isinstance(index, tuple) else (index,)
        frame, y, x = index + (slice(None),) * (self.ndim - len(index))
        frames = np.arange(self.shape[0])[frame]
        rows, y_within = _cover(y, self.shape[1])
        cols, x_within = _cover(x, self.shape[2])
        # One axis after the other: dask means lists orthogonally, NumPy would pair them up.
        pixels = self.read(np.atleast_1d(frames), rows, cols)[:, :, x_within][:, y_within]
        return pixels if np.ndim(frames) else pixels[0]


def _cover(index: Any, size: int) -> tuple[slice, Any]:
    """Contiguous slice that holds what an index means, and the index within that slice."""
    if isinstance(index, slice):
        steps = range(size)[index]
        if not steps:
            return slice(0, 0), slice(None)
        # The ends, and not min() and max(), which walk through thousands of steps.
        first, last = sorted((steps[0], steps[-1]))
        return slice(first, last + 1), slice(None, None, steps.step)
    positions = np.arange(size)[index]
    if not positions.size:
        return slice(0, 0), positions
    first = int(positions.min())
    return slice(first, int(positions.max()) + 1), positions - first


class FrameStack(Stack):
    """Frames that are read one by one.

    Parameters
    ----------
    frames : sequence of Frame
        The frames in order; at least one.

    Raises
    ------
    FrameMismatchError
        If two frames differ in shape or data type.
    """

    def __init__(self, frames: Sequence[Frame]) -> None:
        rows = frames if isinstance(frames, Rows) else Rows(frames)
        first = rows[0]
        super().__init__((len(rows), *first.shape), first.dtype)
        self._frames = rows
        alike = {(first.shape, first.dtype)}
        for number, kind in enumerate(zip(rows.column("shape"), rows.column("dtype"), strict=True)):
            if kind in alike:
                continue
            shape, dtype = kind
            if shape != first.shape or dtype.newbyteorder("=") != self.dtype:
                raise FrameMismatchError(
                    f"frames differ: {_described(first)}, but {_described(rows[number])}",
                    "Open frames of one camera and one binning as a scan of their own.",
                )
            alike.add(kind)

    @property
    def origins(self) -> list[tuple[str, int]]:
        """Path of the file, and number within it, of each frame."""
        paths = texts_of(self._frames.column("path"))
        return list(zip(paths, self._frames.column("index"), strict=True))

    def read(self, frames: npt.NDArray[np.intp], rows: slice, cols: slice) -> Pixels:
        """Read a contiguous region of some frames, in native byte order."""
        if len(frames) == 1:
            # No second copy, which would take as long as reading from the page cache does.
            only = self._frames[frames[0]].read(rows, cols)
            return np.require(only, self.dtype, ["WRITEABLE", "ENSUREARRAY"])[np.newaxis]
        shape = (len(frames), rows.stop - rows.start, cols.stop - cols.start)
        pixels = np.empty(shape, self.dtype)
        for plane, number in zip(pixels, frames, strict=True):
            frame = self._frames[number]
            if isinstance(frame, RawFrame):
                frame.read_into(plane, rows, cols)
            else:
                plane[...] = frame.read(rows, cols)
        return pixels


def _described(frame: Frame) -> str:
    rows, columns = frame.shape
    return f"{frame.path} (frame {frame.index}) is {rows} x {columns} {frame.dtype.name}"


def lazy(stack: Stack, *, stamp: Any, chunks: Any) -> da.Array:
    """Wrap a stack as a dask array.

    Parameters
    ----------
    stack : Stack
        Where the pixels are.
    stamp : object
        What changes when the files change (size, time of modification); part of the array's name,
        so that equal scans give equal graphs.
    chunks : mapping of str to int, optional
        Chunk size by dimension; by default whole frames, as many as are best read together.

    Returns
    -------
    dask.array.Array
        Frames of shape (frame, y, x).

    Raises
    ------
    InputError
        If `chunks` names no dimension of a scan, or no size.
    """
    wanted: dict[str, Any] = {FRAME: stack.frames_per_block, Y: -1, X: -1}
    if chunks is not None and not isinstance(chunks, Mapping):
        raise InputError(
            f"chunks is {chunks!r}", f"Give a mapping, such as {{{FRAME!r}: 8}}, or nothing."
        )
    unknown = set(chunks or ()) - set(wanted)
    if unknown:
        raise InputError(
            f"chunks names {sorted(unknown)}", f"The dimensions of a scan are {list(wanted)}."
        )
    sizes = tuple((wanted | dict(chunks or {})).values())
    token = tokenize(stamp, stack.origins, sizes)
    try:
        # dask passes a slice on to the source only where this may also get lists of indices.
        frames: da.Array = da.from_array(
            stack,
            chunks=sizes,
            name=f"frames-{token}",
            fancy=True,
            meta=np.empty((0, 0, 0), stack.dtype),
        )
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"chunks is {chunks!r}: {error}", "Give a number of pixels or frames per dimension."
        ) from error
    return frames
