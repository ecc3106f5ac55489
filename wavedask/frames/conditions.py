"""Conditions on the coordinates of frames: texts that are parsed, and never executed."""

import ast
import difflib
import numbers
import operator
import re
import unicodedata
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import FRAME
from wavedask.errors import InputError, MotorError
from wavedask.scalars import scalars

Values = NDArray[Any]
Mask = NDArray[np.bool_]

LONGEST: Final = 4096
"""Longest condition that is read, in characters."""

COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
ARITHMETIC: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
ALLOWED: Final = (
    "Give comparisons (<, <=, ==, !=, >, >=, in), and, or, not, + - * /, abs(), numbers, texts, "
    "and names of coordinates; other names in backquotes: `2theta`."
)
SHOWN: Final = 200
"""Characters of a condition that a message repeats."""
ZONE: Final = re.compile(r"\d(Z|[+-]\d\d:?\d\d)$")
"""Time zone at the end of a time."""
NANOSECONDS: Final[Mapping[str, int | Fraction]] = {
    "D": 86400 * 10**9,
    "h": 3600 * 10**9,
    "m": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
    "us": 10**3,
    "ns": 1,
    "ps": Fraction(1, 10**3),
    "fs": Fraction(1, 10**6),
    "as": Fraction(1, 10**9),
}
"""Units of NumPy's times."""
DECIMALS: Final = re.compile(r"(.*:\d\d)\.(\d+)")
"""Time with decimals of a second."""
QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"|`([^`]+)`")
"""Texts, which stay as they are, and names in backquotes."""


def frames_where(data: xr.Dataset | xr.DataArray, condition: str) -> tuple[Mask, set[str]]:
    """Find the frames for which a condition holds, as a mask.

    Parameters
    ----------
    data : xarray.Dataset or xarray.DataArray
        Data with the dimension ``frame`` and coordinates.
    condition : str
        As of `wavedask.select`.

    Returns
    -------
    mask : ndarray of bool, shape (frames,)
        True where it holds.
    names : set of str
        Names of the coordinates in the condition.

    Raises
    ------
    InputError
        A condition that cannot be read, or two sides that cannot be compared.
    MotorError
        An unknown coordinate.

    Examples
    --------
    >>> scan = xr.Dataset(coords={"lens_x": ("frame", [1.0, 2.0])})
    >>> mask, names = frames_where(scan, "lens_x > 1.5")
    >>> mask.tolist(), names
    ([False, True], {'lens_x'})
    """
    parsed = _Condition(condition, data)
    mask = np.asarray(parsed.value())
    if mask.dtype != bool:
        raise InputError(f"condition {condition!r} is neither true nor false", ALLOWED)
    return np.broadcast_to(mask, (data.sizes[FRAME],)), parsed.used


def coordinate_of(data: xr.Dataset | xr.DataArray, name: str) -> xr.DataArray:
    """Find a coordinate or a variable that has one value per frame, or one for all frames.

    Raises
    ------
    MotorError
        Nothing of this name: the message names the most similar one.
    InputError
        A coordinate or a variable along another dimension.
    """
    everything: Mapping[Any, xr.DataArray] = data.coords
    if isinstance(data, xr.Dataset):
        # Numbers per frame, such as the radius of a lens or the coefficient of a mode.
        everything = {**data.data_vars, **scalars(data), **data.coords}
    known = [str(key) for key, array in everything.items() if not set(array.dims) - {FRAME}]
    if name in known:
        return everything[name]
    if name in everything:
        raise InputError(
            f"{name!r} lies along {everything[name].dims}, not along {FRAME!r}",
            "A condition picks frames: give coordinates and numbers of frames.",
        )
    if name == FRAME:
        raise MotorError(
            f"there is no coordinate {name!r}",
            f"A condition is about motors; by number, pick frames with isel({FRAME}=...).",
        )
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(sorted(known))}."
    raise MotorError(f"there is no coordinate {name!r}", hint)


class _Condition:
    """A condition on the coordinates of some data, evaluated node by node of its syntax tree."""

    def __init__(self, text: str, data: xr.Dataset | xr.DataArray) -> None:
        self._text = text
        self._data = data
        self._names: dict[str, str] = {}
        self.used: set[str] = set()

    def value(self) -> Any:
        """Parse and evaluate."""
        if not isinstance(self._text, str):
            raise InputError(
                f"the condition is a {type(self._text).__name__}", "Give a text: 'lens_x > 0'."
            )
        if len(self._text) > LONGEST:
            raise InputError(
                f"the condition has {len(self._text)} characters", f"Give at most {LONGEST}."
            )
        text = QUOTED.sub(self._stand_in, self._text.strip())
        if "\n" in text:
            # Parentheses join several lines.
            text = f"({text}\n)"
        try:
            tree = ast.parse(text, mode="eval")
            with np.errstate(all="ignore"):
                return self._of(tree.body)
        except SyntaxError as error:
            hint = "Compare with ==. " if "==" in str(error.msg) or "=" in self._text else ""
            raise self._problem(f"cannot be read: {error.msg}", hint) from None
        except ZeroDivisionError:
            raise self._problem("divides by zero") from None
        except (RecursionError, MemoryError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise self._problem(f"cannot be read: {error}") from None

    def _stand_in(self, match: re.Match[str]) -> str:
        """Replace a name in backquotes by a word."""
        if match[1] is None:
            return match[0]
        word = f"_quoted_{len(self._names)}"
        self._names[word] = match[1]
        return word

    def _spelled(self, word: str) -> str:
        """Coordinate that a word means: Python's parser normalises some letters, such as µ."""
        names = list(map(str, self._data.coords))
        alike = [name for name in names if unicodedata.normalize("NFKC", name) == word]
        return word if word in names or not alike else alike[0]

    def _problem(self, problem: str, hint: str = "") -> InputError:
        more = "..." if len(self._text) > SHOWN else ""
        return InputError(
            f"condition {self._text[:SHOWN] + more!r} {problem}"[: 3 * SHOWN], hint + ALLOWED
        )

    def _of(self, node: ast.expr) -> Any:
        """Value of one node: a number, a text, a truth, or an array of those along frame."""
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                # Python's own numbers, and not arrays of them, take the precision of a coordinate:
                # a motor in single precision at 0.1 is at the 0.1 of the condition.
                return value
            case ast.Name(id=word):
                name = self._names.get(word) or self._spelled(word)
                self.used.add(name)
                return self._values(name)
            case ast.BoolOp(op=op, values=parts):
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return join.reduce(np.broadcast_arrays(*map(self._truth, parts)))
            case ast.UnaryOp(op=ast.Not(), operand=part):
                return np.logical_not(self._truth(part))
            case ast.UnaryOp(op=ast.USub(), operand=part):
                return -self._number(part)
            case ast.UnaryOp(op=ast.UAdd(), operand=part):
                return self._number(part)
            case ast.BinOp(op=op, left=left, right=right) if type(op) in ARITHMETIC:
                return ARITHMETIC[type(op)](self._number(left), self._number(right))
            case ast.Call(func=ast.Name(id="abs"), args=[part], keywords=[]):
                return np.abs(self._number(part))
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                sides = [left, *comparators]
                links = [
                    self._compared(op, *pair)
                    for op, *pair in zip(ops, sides, sides[1:], strict=False)
                ]
                return np.logical_and.reduce(np.broadcast_arrays(*links))
        hint = ""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr):
            hint = "Write 'and' and 'or' for & and |. "
        raise self._problem(f"holds {ast.unparse(node)!r}, which is not understood", hint)

    def _values(self, name: str) -> Values:
        """Values of a coordinate that compare; categories as what they stand for."""
        coord = coordinate_of(self._data, name)
        if getattr(coord.dtype, "tz", None) is not None:
            raise self._problem(f"names the coordinate {name!r}, whose times have a time zone")
        values = coord.to_numpy()
        if values.dtype.kind == "O":
            known = [value for value in values.ravel() if not pd.isna(value)]
            if any(getattr(value, "tzinfo", None) is not None for value in known):
                raise self._problem(
                    f"names the coordinate {name!r}, whose times have a time zone",
                    "Give them without: assign_coords of times in UTC, as datetime64. ",
                )
            if known and all(isinstance(value, numbers.Real) for value in known):
                return values.astype(np.float64)
        elif values.dtype.kind not in "biufSUMm" and values.dtype.kind != "T":
            raise self._problem(f"names the coordinate {name!r} of data type {values.dtype}")
        return values

    def _truth(self, node: ast.expr) -> Values:
        value = np.asarray(self._of(node))
        if value.dtype != bool:
            raise self._problem(f"joins {ast.unparse(node)!r}, which is neither true nor false")
        return value

    def _number(self, node: ast.expr) -> Any:
        value = self._of(node)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        array = np.asarray(value)
        if array.dtype.kind not in "iuf":
            raise self._problem(f"calculates with {ast.unparse(node)!r}, which is not a number")
        # In floating point, because an unsigned counter has no negative.
        return array if array.dtype.kind == "f" else array.astype(np.float64)

    def _compared(self, op: ast.cmpop, left: ast.expr, right: ast.expr) -> Values:
        """Truth of one link of a comparison."""
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple) or not right.elts:
                raise self._problem("looks in what is not a list of values, as in [1, 2]")
            found = np.logical_or.reduce(
                np.broadcast_arrays(*(self._compared(ast.Eq(), left, one) for one in right.elts))
            )
            return np.asarray(found if isinstance(op, ast.In) else ~found)
        if type(op) not in COMPARISONS:
            raise self._problem("compares with 'is'")
        one, other = self._alike(_array(self._of(left)), _array(self._of(right)))
        return np.asarray(COMPARISONS[type(op)](one, other), bool)

    def _alike(self, one: Values, other: Values) -> tuple[Values, Values]:
        """Bring two sides to kinds that compare."""
        kinds = [_kind(one), _kind(other)]
        if set(kinds) == {"number"}:
            one, other = _of_one_precision(one, other)
        elif set(kinds) <= {"time", "text"} and "time" in kinds:
            one, other = (self._times(side) for side in (one, other))
        elif set(kinds) == {"duration", "text"}:
            one, other = (_durations(side) for side in (one, other))
        elif set(kinds) == {"text"}:
            one, other = (side.astype(object) for side in (one, other))
        elif kinds[0] != kinds[1]:
            raise self._problem(f"compares a {kinds[0]} with a {kinds[1]}")
        return one, other

    def _times(self, side: Values) -> Values:
        """Take texts for times, where they are texts."""
        if _kind(side) == "text" and any(ZONE.search(str(text)) for text in side.ravel()):
            raise self._problem(
                "holds a time with a time zone, and times of frames have none",
                "Leave the zone out; give the time as it stands there. ",
            )
        if side.dtype.kind == "M":
            return _nanoseconds(side)
        try:
            parsed = [_nanoseconds_of(str(text)) for text in side.ravel()]
        except ValueError:
            words = ", ".join(repr(str(text)) for text in side.ravel()[:3])
            hint = "Write times as 2026-03-29T12:00. "
            raise self._problem(f"compares a time with {words}", hint) from None
        return np.array(parsed, dtype=object).reshape(side.shape)


def _array(value: Any) -> Values:
    """Array of a side; of a whole number that no integer type holds, in floating point."""
    array = np.asarray(value)
    return array.astype(np.float64) if array.dtype.kind == "O" and array.ndim == 0 else array


def _of_one_precision(one: Values, other: Values) -> tuple[Values, Values]:
    """Round two sides to the coarser of their floating-point types, if one has any."""
    kinds = [side.dtype for side in (one, other) if side.dtype.kind == "f"]
    if not kinds:
        return one, other
    coarsest = min(kinds, key=lambda kind: np.finfo(kind).nmant)
    return one.astype(coarsest), other.astype(coarsest)


def _nanoseconds(times: Values) -> Values:
    """Nanoseconds since 1970 as Python's whole numbers, which hold every time; NaN for no time.

    NumPy's 64 bits of nanoseconds end in 2262, and wrap round without a word.
    """
    if np.isnat(times).all():
        return np.full(times.shape, np.nan, object)
    if np.datetime_data(times.dtype)[0] in "YMW":
        times = times.astype("datetime64[D]")
    unit, steps = np.datetime_data(times.dtype)
    scale = NANOSECONDS[unit] * steps
    whole = times.astype(np.int64).astype(object)
    known = ~np.isnat(times)
    return np.where(known, whole * scale, np.nan)


def _nanoseconds_of(text: str) -> Any:
    """Read a time of ISO 8601 with as many decimals of a second as it has."""
    match = DECIMALS.fullmatch(text)
    whole, decimals = (match[1], match[2]) if match else (text, "")
    seconds = np.datetime64(whole, "s")
    if np.isnat(seconds):
        return np.nan
    return int(seconds.astype(np.int64)) * 10**9 + Fraction(
        int(decimals or 0) * 10**9, 10 ** len(decimals)
    )


def _durations(side: Values) -> Values:
    """Take texts for durations, where they are texts."""
    if side.dtype.kind == "m":
        return side
    return pd.to_timedelta(side.ravel().astype(object)).to_numpy().reshape(side.shape)


def _kind(values: Values) -> str:
    """Name the kind of values."""
    if values.dtype.kind in "biuf":
        return "number"
    return {"M": "time", "m": "duration"}.get(values.dtype.kind, "text")
