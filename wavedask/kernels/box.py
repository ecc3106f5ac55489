"""Sums over boxes of pixels along a row."""

import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.jit import INLINED, njit

Floats = NDArray[np.float32]


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _copy(out: Floats, a: Floats) -> None:
    for i in range(out.size):
        out[i] = a[i]


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _add(out: Floats, a: Floats) -> None:
    for i in range(out.size):
        out[i] += a[i]


@njit(**INLINED)  # type: ignore[untyped-decorator]
def _sum(out: Floats, a: Floats, b: Floats) -> None:
    for i in range(out.size):
        out[i] = a[i] + b[i]


@njit(**INLINED)  # type: ignore[untyped-decorator]
def box_row(values: Floats, side: int, even: Floats, odd: Floats, out: Floats) -> None:
    """``out[i] = sum(values[i : i + side])`` by doubling: log2(side) vector additions.

    A running sum would be one chain of additions, each waiting for the last, and would drift.
    """
    current, spare = values, even
    length, size, offset, rest = values.size, 1, 0, side
    started = False
    while True:
        if rest & 1:
            if started:
                _add(out, current[offset : offset + out.size])
            else:
                _copy(out, current[offset : offset + out.size])
                started = True
            offset += size
        rest >>= 1
        if rest == 0:
            break
        length -= size
        _sum(spare[:length], current[:length], current[size : size + length])
        if size == 1:
            current, spare = even, odd
        else:
            current, spare = spare, current
        size *= 2
