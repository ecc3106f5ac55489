"""Several stacks of frames and their columns, concatenated to one scan."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wavedask.conventions import HEADER, MOTOR, UNKNOWN_UNIT
from wavedask.errors import FrameMismatchError, MotorError
from wavedask.io.columns import Column, latest_columns, parsed_texts
from wavedask.io.frames import Pixels, Stack


class JoinedStack(Stack):
    """Frames of several stacks in the order of these.

    Parameters
    ----------
    stacks : sequence of Stack
        The stacks; at least one, and none without frames.

    Raises
    ------
    FrameMismatchError
        If frames of two stacks differ in shape or data type.
    """

    def __init__(self, stacks: Sequence[Stack]) -> None:
        first = stacks[0]
        for other in stacks[1:]:
            if (other.shape[1:], other.dtype) != (first.shape[1:], first.dtype):
                raise FrameMismatchError(
                    f"frames differ: {_described(first)}, but {_described(other)}",
                    "Open frames of one camera and one binning as a scan of their own.",
                )
        counts = [stack.shape[0] for stack in stacks]
        super().__init__((sum(counts), *first.shape[1:]), first.dtype)
        self._stacks = tuple(stacks)
        self._starts = np.cumsum([0, *counts])
        # No block spans two files: each would read a part of a chunk that it shares.
        blocks = tuple(chain.from_iterable(map(_blocks, stacks)))
        self.frames_per_block = 1 if set(blocks) == {1} else blocks

    @property
    def origins(self) -> list[tuple[str, int]]:
        """Path of the file, and number within it, of each frame."""
        return [origin for stack in self._stacks for origin in stack.origins]

    @property
    def datasets(self) -> list[str] | None:
        """Dataset of each frame in its file; None where no file says it."""
        found = [stack.datasets for stack in self._stacks]
        return None if None in found else [name for names in found for name in names or ()]

    def read(self, frames: npt.NDArray[np.intp], rows: slice, cols: slice) -> Pixels:
        """Read a contiguous region of some frames, in native byte order."""
        parts = np.searchsorted(self._starts, frames, side="right") - 1
        if len(frames) and (parts == parts[0]).all():
            # No second copy of what one file holds.
            only = int(parts[0])
            return self._stacks[only].read(frames - int(self._starts[only]), rows, cols)
        shape = (len(frames), rows.stop - rows.start, cols.stop - cols.start)
        pixels = np.empty(shape, self.dtype)
        for part in np.unique(parts).tolist():
            mine = parts == part
            within = frames[mine] - int(self._starts[part])
            pixels[mine] = self._stacks[part].read(within, rows, cols)
        return pixels


@dataclass(frozen=True, slots=True)
class Part:
    """What one file adds to a scan of several.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    frames : int
        Number of its frames.
    columns : list of Column
        Motors, counters and header items.
    constants : dict of str to str
        Texts that are the same for all its frames.
    """

    path: Path
    frames: int
    columns: list[Column]
    constants: Mapping[str, str]


def joined_columns(
    parts: Sequence[Part], *, replaced: Collection[str] = ()
) -> tuple[list[Column], dict[str, str]]:
    """Put what is known of the frames of several files one behind the other.

    Parameters
    ----------
    parts : sequence of Part
        The files in order.
    replaced : collection of str
        Motors whose positions are given otherwise, so that those of the files do not matter.

    Returns
    -------
    columns : list of Column
        One value per frame: what a file has once holds for all its frames. A header item that a
        file lacks is NaN there, or an empty text.
    constants : dict of str to str
        Texts that are the same in all files; those that differ are columns.

    Raises
    ------
    MotorError
        If a motor or a counter is in some of the files only, has another number of values than
        its file has frames, or has another unit in another file.
    """
    tables = [latest_columns(part.columns) for part in parts]
    columns = []
    for role, name in dict.fromkeys(chain.from_iterable(tables)):
        found = [table.get((role, name)) for table in tables]
        given = role == MOTOR and name in replaced
        columns.append(_joined(role, name, parts, found, given))
    constants = {}
    for name in dict.fromkeys(chain.from_iterable(part.constants for part in parts)):
        texts = [part.constants.get(name) for part in parts]
        if texts[0] is not None and len(set(texts)) == 1:
            constants[name] = texts[0]
        else:
            repeated = [[text] * part.frames for text, part in zip(texts, parts, strict=True)]
            columns.append(Column(name, HEADER, parsed_texts(list(chain.from_iterable(repeated)))))
    return columns, constants


def _joined(
    role: str, name: str, parts: Sequence[Part], found: Sequence[Column | None], replaced: bool
) -> Column:
    """Join one column; one that is replaced keeps its unit and nothing else."""
    known = [(part, column) for part, column in zip(parts, found, strict=True) if column]
    (first_part, first), *_ = known
    agreed = {column.units for _, column in known} == {first.units}
    if replaced:
        return Column(name, role, np.array(np.nan), first.units if agreed else UNKNOWN_UNIT)
    for part, column in known:
        if column.units != first.units:
            raise MotorError(
                f"{role} {name!r} is in {first.units} in {first_part.path}, but in {column.units}"
                f" in {part.path}",
                f"Give motors={{'{name} [unit]': values}} with one value per frame of all files, or"
                " open them separately.",
            )
        if column.values.shape not in ((), (part.frames,)):
            raise MotorError(
                f"{role} {name!r} of {part.path} has {column.values.size} values, but the scan"
                f" there has {part.frames} frames",
                f"Give motors={{{name!r}: values}} with one value per frame of all files.",
            )
    if len(known) < len(parts) and role != HEADER:
        without = next(part for part, column in zip(parts, found, strict=True) if not column)
        raise MotorError(
            f"{role} {name!r} is in {first_part.path}, but not in {without.path}",
            "Open the files of one scan only.",
        )
    values = [
        np.broadcast_to(np.nan if column is None else column.values, part.frames)
        for part, column in zip(parts, found, strict=True)
    ]
    return Column(name, role, np.concatenate(values), first.units)


def _blocks(stack: Stack) -> tuple[int, ...]:
    """Frames of each block of a stack."""
    size = stack.frames_per_block
    if isinstance(size, tuple):
        return size
    full, rest = divmod(stack.shape[0], size)
    return (size,) * full + ((rest,) if rest else ())


def _described(stack: Stack) -> str:
    rows, columns = stack.shape[1:]
    return f"{stack.origins[0][0]} has {rows} x {columns} {stack.dtype.name}"
