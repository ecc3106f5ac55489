"""Where a block is still to be refined, as few rectangles of nodes."""

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Rectangle = tuple[int, int, int, int]
"""Top, bottom, start and stop: rows and columns of nodes."""


def rectangles(active: Mask, *, side: int, longest: int) -> list[Rectangle]:
    """Cover the active nodes of a block by rectangles.

    The block is cut into squares; those with an active node are joined, along rows and then down
    columns, for the windows of a rectangle reach beyond its border and are summed there in vain.

    Parameters
    ----------
    active : ndarray of bool, shape (rows, columns)
        Nodes to cover.
    side : int
        Nodes along the side of a square.
    longest : int
        Nodes along the longest side of a rectangle, about: the buffers of one fit into a cache.

    Returns
    -------
    list of (int, int, int, int)
        Disjoint rectangles (top, bottom, start, stop), which cover whole squares.

    Examples
    --------
    >>> active = np.zeros((6, 8), np.bool_)
    >>> active[1, 1:5] = active[5, 0] = True
    >>> rectangles(active, side=3, longest=6)
    [(0, 3, 0, 6), (3, 6, 0, 3)]
    """
    squares = max(longest // side, 1)
    found: list[Rectangle] = []
    above: dict[tuple[int, int], Rectangle] = {}
    for top in range(0, active.shape[0], side):
        bottom = min(top + side, active.shape[0])
        busy = [
            bool(active[top:bottom, start : start + side].any())
            for start in range(0, active.shape[1], side)
        ]
        here: dict[tuple[int, int], Rectangle] = {}
        for first, last in _runs(busy, squares):
            ends = first * side, min(last * side, active.shape[1])
            upper = above.get(ends)
            grows = upper is not None and bottom - upper[0] <= squares * side
            here[ends] = (upper[0] if upper is not None and grows else top, bottom, *ends)
        found += [old for ends, old in above.items() if ends not in here or here[ends][0] == top]
        above = here
    return found + list(above.values())


def _runs(busy: list[bool], longest: int) -> list[tuple[int, int]]:
    """First and end of each run of true values, cut where it is too long."""
    runs: list[tuple[int, int]] = []
    for k, there in enumerate(busy):
        if not there:
            continue
        if runs and runs[-1][1] == k and k - runs[-1][0] < longest:
            runs[-1] = (runs[-1][0], k + 1)
        else:
            runs.append((k, k + 1))
    return runs
