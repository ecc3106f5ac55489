"""Long lists of numbers, texts, paths and small objects, held in few bytes."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

OFTEN: Final = 4
"""How often values come on average, from which on each is kept once."""
KINDS: Final = (np.uint8, np.uint16, np.uint32, np.int64)
"""Types of whole numbers; the first is used that has them all."""
SMALLEST: Final = int(np.iinfo(np.int64).min)
LARGEST: Final = int(np.iinfo(np.int64).max)


class _Packed(Sequence[T]):
    """A list that is read as any other; its items are made when they are asked for."""

    __slots__ = ()

    @abstractmethod
    def _item(self, place: int) -> T: ...

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: Any) -> Any:
        # A range counts from the end, and refuses what is not there.
        place = range(len(self))[index]
        return [self._item(at) for at in place] if isinstance(place, range) else self._item(place)


class _Numbers(_Packed[T]):
    """Numbers as Python has them, from an array."""

    __slots__ = ("_values",)

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def _item(self, place: int) -> T:
        number: T = self._values.item(place)
        return number

    def __iter__(self) -> Iterator[T]:
        return iter(self._values.tolist())


class _Coded(_Packed[T]):
    """Values of which each is kept once."""

    __slots__ = ("_codes", "_distinct", "_length")

    def __init__(self, distinct: Sequence[T], codes: Sequence[int]) -> None:
        self._distinct = tuple(distinct)
        self._length = len(codes)
        # Without codes there is but one value.
        self._codes = whole_numbers(codes) if len(self._distinct) > 1 else None

    def __len__(self) -> int:
        return self._length

    def _item(self, place: int) -> T:
        return self._distinct[0 if self._codes is None else self._codes.item(place)]

    def __iter__(self) -> Iterator[T]:
        codes = [0] * self._length if self._codes is None else self._codes.tolist()
        return map(self._distinct.__getitem__, codes)


class _Texts(_Packed[str]):
    """Texts one behind the other, and where each ends."""

    __slots__ = ("_bytes", "_ends")

    def __init__(self, texts: Sequence[str]) -> None:
        # Half a surrogate pair stands for a byte of a name of a file that is no UTF-8.
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        self._bytes = b"".join(encoded)
        self._ends = whole_numbers(list(accumulate(map(len, encoded), initial=0)))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def _item(self, place: int) -> str:
        return self._text(self._ends.item(place), self._ends.item(place + 1))

    def _text(self, begin: int, end: int) -> str:
        return self._bytes[begin:end].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self._text(begin, end) for begin, end in pairwise(self._ends.tolist()))


class _Paths(_Packed[Path]):
    """Paths; each folder is kept once."""

    __slots__ = ("_folders", "_names")

    def __init__(self, paths: Sequence[Path]) -> None:
        texts = list(map(str, paths))
        ends = [text.rfind("/") + 1 for text in texts]
        self._folders = packed([text[:end] for text, end in zip(texts, ends, strict=True)])
        self._names = packed([text[end:] for text, end in zip(texts, ends, strict=True)])

    def __len__(self) -> int:
        return len(self._names)

    def _item(self, place: int) -> Path:
        return Path(self._folders[place] + self._names[place])

    def texts(self) -> Iterator[str]:
        """Return the paths as texts: an object for each takes longer than all else."""
        return map(str.__add__, self._folders, self._names)

    def __iter__(self) -> Iterator[Path]:
        return map(Path, self.texts())


class Rows(_Packed[T], Generic[T]):
    """Small objects, field by field; what they share is kept once.

    Parameters
    ----------
    rows : sequence of dataclass
        The objects; of any classes, and their fields of any values that can be hashed.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Place:
    ...     path: Path
    ...     offset: int
    >>> places = Rows([Place(Path(f"frame_{n}.edf"), 512) for n in range(1000)])
    >>> len(places), places[7]
    (1000, Place(path=PosixPath('frame_7.edf'), offset=512))
    """

    __slots__ = ("_columns", "_kinds")

    def __init__(self, rows: Sequence[T]) -> None:
        self._kinds = packed([type(row) for row in rows])
        names = {name: None for kind in dict.fromkeys(self._kinds) for name in _fields(kind)}
        self._columns = {name: packed([getattr(row, name, None) for row in rows]) for name in names}

    def __len__(self) -> int:
        return len(self._kinds)

    def column(self, name: str) -> Sequence[Any]:
        """Return a field of all objects; None where an object has no such field."""
        return self._columns[name] if len(self) else ()

    def _item(self, place: int) -> T:
        kind = self._kinds[place]
        return kind(*(self._columns[name][place] for name in _fields(kind)))

    def __iter__(self) -> Iterator[T]:
        table = zip(*self._columns.values(), strict=True)
        of_kind = {
            kind: [list(self._columns).index(name) for name in _fields(kind)]
            for kind in set(self._kinds)
        }
        for kind, values in zip(self._kinds, table, strict=True):
            yield kind(*(values[place] for place in of_kind[kind]))


def packed(values: Sequence[T]) -> Sequence[T]:
    """Hold values in few bytes.

    Parameters
    ----------
    values : sequence
        Numbers, texts, paths, or anything else that can be hashed.

    Returns
    -------
    sequence
        The same values: what comes again and again is kept once, numbers are kept as an array, and
        texts one behind the other.

    Examples
    --------
    >>> list(packed([2.5, 2.5, float("nan")])), list(packed(["lens", "", "lens"]))
    ([2.5, 2.5, nan], ['lens', '', 'lens'])
    """
    kinds = set(map(type, values))
    if kinds == {float}:
        numbers = np.array(values, np.float64)
        bits = numbers.view(np.int64)
        # By their bits: no NaN equals another one, and zero equals minus zero.
        if (bits == bits[0]).all():
            return _Coded(values[:1], range(len(values)))
        return _Numbers(numbers)
    if kinds == {type(Path())}:
        return _Paths(values)  # type: ignore[arg-type,return-value]
    # In a mixture, True equals 1, which equals 1.0.
    keys: Sequence[Any] = values if len(kinds) == 1 else [(type(value), value) for value in values]
    first: dict[Any, int] = {}
    codes = [first.setdefault(key, len(first)) for key in keys]
    if len(first) > 1 and len(first) * OFTEN > len(values):
        rare = _of_one_kind(kinds, values)
        if rare is not None:
            return rare
    distinct = first if len(kinds) == 1 else [value for _, value in first]
    return _Coded(list(distinct), codes)


def _of_one_kind(kinds: set[type], values: Sequence[Any]) -> Sequence[Any] | None:
    """Hold values that hardly come again; None if there is no better way than to keep each."""
    if kinds == {int} and min(values) >= SMALLEST and max(values) <= LARGEST:
        return _Numbers(whole_numbers(values))
    if kinds == {str}:
        return _Texts(values)
    return None


def texts_of(paths: Sequence[Path]) -> list[str]:
    """Return paths as texts.

    Examples
    --------
    >>> texts_of([Path("a.edf")])
    ['a.edf']
    """
    return list(paths.texts() if isinstance(paths, _Paths) else map(str, paths))


def whole_numbers(values: Sequence[int]) -> NDArray[Any]:
    """Return an array of the smallest type that holds all `values`, at most of 64 bits.

    Examples
    --------
    >>> whole_numbers([512, 7]).dtype, whole_numbers([-1, 2**40]).dtype
    (dtype('uint16'), dtype('int64'))
    """
    least, most = (min(values), max(values)) if values else (0, 0)
    fitting = (kind for kind in KINDS if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max)
    return np.array(values, next(fitting))


def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
