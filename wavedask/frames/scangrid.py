"""The grid of a mesh scan, found from the readings of its motors."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from wavedask.errors import MotorError

Floats = NDArray[np.float64]

SPLIT: Final = 0.3
"""Readings that are farther apart than this fraction of the widest gap are on different lines."""
LARGEST_MISS: Final = 0.25
"""Largest distance of a reading from its line, as a fraction of the step."""
LEAST_FILLED: Final = 0.5
"""Fraction of the positions of a grid that must have a frame."""


@dataclass(frozen=True, slots=True)
class ScanGrid:
    """Positions of the frames of a scan on an equally spaced grid.

    Attributes
    ----------
    shape : (int, int)
        Lines along the motors (y, x).
    places : ndarray of int, shape (frames, 2)
        Line (y, x) of each frame.
    step : (float, float)
        Step along both motors, in their unit.
    missing : tuple of (int, int)
        Positions of the grid without a frame.
    repeated : tuple of int
        Frames at a position that already has an earlier frame.
    disordered : tuple of int
        Frames that break the order of the scan: line by line, in one direction or in a snake.
    """

    shape: tuple[int, int]
    places: NDArray[np.intp]
    step: tuple[float, float]
    missing: tuple[tuple[int, int], ...]
    repeated: tuple[int, ...]
    disordered: tuple[int, ...]

    def neighbours(self, axis: int) -> list[tuple[int, int]]:
        """Pairs of frames one step apart along an axis: (the farther one, the nearer one)."""
        at: dict[tuple[int, int], list[int]] = {}
        for frame, (line_y, line_x) in enumerate(self.places.tolist()):
            at.setdefault((line_y, line_x), []).append(frame)
        step = (1, 0) if axis == 0 else (0, 1)
        return [
            (farther, nearer)
            for place in sorted(at)
            for nearer in at[place]
            for farther in at.get((place[0] + step[0], place[1] + step[1]), [])
        ]


def scan_grid(motors: Floats, *, names: tuple[str, str]) -> ScanGrid:
    """Find the grid of positions at which frames were taken.

    Parameters
    ----------
    motors : ndarray, shape (frames, 2)
        Readings of the motors (y, x), with encoder noise, in any order.
    names : (str, str)
        Names of the motors, for the message.

    Returns
    -------
    ScanGrid

    Raises
    ------
    MotorError
        Readings that are not an equally spaced grid of at least 2 x 2 positions.

    Examples
    --------
    >>> grid = scan_grid(np.array([[0, 0], [0, 1.01], [2, 1], [1.99, 0]]), names=("dety", "detx"))
    >>> grid.shape, grid.places.tolist()
    ((2, 2), [[0, 0], [0, 1], [1, 1], [1, 0]])
    >>> grid.neighbours(1)
    [(1, 0), (2, 3)]
    """
    if not np.isfinite(motors).all():
        frame, axis = np.argwhere(~np.isfinite(motors))[0].tolist()
        raise MotorError(
            f"motor {names[axis]!r} has no position in frame {frame}",
            "Leave that frame out, or give its position.",
        )
    lines, steps = zip(*(_lines(motors[:, axis], names[axis]) for axis in (0, 1)), strict=True)
    places = np.stack(lines, axis=1)
    rows, columns = (int(line.max()) + 1 for line in lines)
    if rows < 2 or columns < 2:
        raise MotorError(
            f"the mesh has {rows} x {columns} positions of {names[0]!r} and {names[1]!r}",
            "A calibration needs at least 2 x 2: two motors that move.",
        )
    taken = {(y, x) for y, x in places.tolist()}
    missing = tuple((y, x) for y in range(rows) for x in range(columns) if (y, x) not in taken)
    if len(taken) < LEAST_FILLED * rows * columns:
        raise MotorError(
            f"{names[0]!r} and {names[1]!r} take {len(taken)} of the {rows} x {columns} positions"
            " of a grid",
            "Give a scan over an equally spaced grid, along the two motors that it used.",
        )
    seen: set[tuple[int, int]] = set()
    repeated = []
    for frame, (y, x) in enumerate(places.tolist()):
        if (y, x) in seen:
            repeated.append(frame)
        seen.add((y, x))
    return ScanGrid(
        (rows, columns), places, (steps[0], steps[1]), missing, tuple(repeated), _disordered(places)
    )


def lines(readings: Floats, *, apart: float) -> NDArray[np.intp]:
    """Find the line of each reading, from zero in order of position.

    Parameters
    ----------
    readings : ndarray, shape (frames,)
        Readings of a motor, with encoder noise, in any order.
    apart : float
        Neighbouring readings that are farther apart than this belong to different lines.

    Returns
    -------
    ndarray of int, shape (frames,)

    Examples
    --------
    >>> lines(np.array([0.0, 1.0, 0.01, 1.02]), apart=0.1).tolist()
    [0, 1, 0, 1]
    """
    order = np.argsort(readings, kind="stable")
    line = np.zeros(readings.size, np.intp)
    line[order[1:]] = np.cumsum(np.diff(readings[order]) > apart)
    return line


def _lines(readings: Floats, name: str) -> tuple[NDArray[np.intp], float]:
    """Find the line of each reading, from zero, and the step between lines."""
    widest = float(np.diff(np.sort(readings)).max(initial=0.0))
    if widest == 0:
        return np.zeros(readings.size, np.intp), 0.0
    group = lines(readings, apart=SPLIT * widest)
    centers = np.bincount(group, readings) / np.bincount(group)
    # A missing line leaves a gap of two steps.
    step = float(np.diff(centers).min())
    number = np.rint((centers - centers[0]) / step)
    step, first = np.polyfit(number, centers, 1).tolist()
    miss = readings - (first + step * number[group])
    worst = int(np.abs(miss).argmax())
    if abs(miss[worst]) > LARGEST_MISS * step:
        raise MotorError(
            f"motor {name!r} is not on an equally spaced grid: frame {worst} is at"
            f" {readings[worst]:g}, {abs(miss[worst]):.3g} from the nearest of {centers.size} lines"
            f" {step:.3g} apart",
            "Give a scan over an equally spaced grid, or leave out the frames that are not on it.",
        )
    return number[group].astype(np.intp), step


def _disordered(places: NDArray[np.intp]) -> tuple[int, ...]:
    """Find the frames that break the order of the mesh, for the best of the usual orders."""
    shape = places.max(0) + 1
    best: tuple[int, ...] | None = None
    for slow, fast in ((0, 1), (1, 0)):
        for flip_slow in (False, True):
            for flip_fast in (False, True):
                for snake in (False, True):
                    line = places[:, slow] if not flip_slow else shape[slow] - 1 - places[:, slow]
                    along = places[:, fast] if not flip_fast else shape[fast] - 1 - places[:, fast]
                    if snake:
                        along = np.where(line % 2 == 1, shape[fast] - 1 - along, along)
                    number = line * shape[fast] + along
                    wrong = tuple((np.flatnonzero(np.diff(number) < 0) + 1).tolist())
                    if best is None or len(wrong) < len(best):
                        best = wrong
    return best or ()
