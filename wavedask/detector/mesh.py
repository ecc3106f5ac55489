"""Tracking of the pairs of a mesh scan: one task per pair, which returns values on a lattice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed
from numpy.typing import NDArray

from wavedask.compute import run_each
from wavedask.errors import InputError, MotorError
from wavedask.frames import ScanGrid
from wavedask.kernels.mesh import Lattice, TrackedPair
from wavedask.kernels.spline import Order
from wavedask.tracking import Rigid, cross_spot

Singles = NDArray[np.float32]
Floats = NDArray[np.float64]

ACCEPTED, UNMATCHED, UNLIKE, MISFITTING = range(4)
STATUS: Final = ("accepted", "too_few_matches", "low_correlation", "large_misfit")
"""Status of a pair, by its code."""

LEAST_STEP: Final = 2.0
"""Shortest step in pixels: over less, the distortion changes by less than the noise."""
LEAST_OVERLAP: Final = 0.1
"""Fraction of the frame that neighbours must share."""
LEAST_MATCHED: Final = 0.25
"""Fraction of the overlap that must be matched for a pair to be used."""
RIM: Final = 3.0
"""Factor on the standard errors where a part of the window has no data: they are too small."""
TRIES: Final = 3
"""Pairs along an axis that are tried to find the first step."""
FIRST_SEARCH: Final = 16
"""Pixels searched around the rigid shift of the first pair."""


@dataclass(frozen=True, slots=True)
class PairQuality:
    """How well a pair was matched.

    Attributes
    ----------
    matched : float
        Number of matched points, relative to the expected overlap.
    correlation : float
        Median correlation of the matched points; NaN if there are none.
    """

    matched: float
    correlation: float


@dataclass(frozen=True, slots=True)
class MeshTracker:
    """How the pairs of a mesh scan are tracked.

    Attributes
    ----------
    images : dask.array.Array, shape (frame, y, x)
        The frames.
    lattice : Lattice
        Points at which displacements are kept.
    window, search, order
        As in `cross_spot`.
    least_correlation : float
        A pair is used if its median correlation is at least this.
    """

    images: da.Array
    lattice: Lattice
    window: int
    search: int
    order: Order | None
    least_correlation: float

    def _frames(self) -> list[Delayed]:
        # All frames in one graph: tasks that they share, such as a dark field, run once.
        blocks = self.images.rechunk({0: 1, 1: -1, 2: -1}).to_delayed()
        return list(blocks.ravel())

    def _task(self, sample: Delayed, reference: Delayed, rigid: Rigid, search: int) -> Delayed:
        track: Callable[..., Delayed] = delayed(_tracked)
        return track(sample, reference, rigid, self.window, search, self.order, self.lattice)

    def first_move(self, pairs: Sequence[tuple[int, int]], axis_name: str) -> Floats:
        """Find by how much the detector moves between neighbours along an axis, (y, x) in px.

        Raises
        ------
        InputError
            No match in any of a few pairs, or a step that is too short or too long.
        """
        frames = self._frames()
        chosen = dict.fromkeys(
            pairs[index] for index in np.linspace(0, len(pairs) - 1, TRIES).astype(int)
        )
        for sample, reference in chosen:
            search = max(FIRST_SEARCH, self.search)
            found = self._task(frames[sample], frames[reference], "auto", search).compute()
            u = found[:2, np.isfinite(found[0])]
            if u.size and np.median(found[3, np.isfinite(found[0])]) >= self.least_correlation:
                move = np.asarray(-np.median(u, axis=1), np.float64)
                self._check_move(move, axis_name)
                return move
        raise InputError(
            f"neighbouring frames along {axis_name!r} do not match: tried frames "
            + ", ".join(f"{sample} in {reference}" for sample, reference in chosen),
            "Take shorter steps, so that neighbours share most of the frame, with the membrane in"
            " the beam, and give frames corrected for dark and flat.",
        )

    def _check_move(self, move: Floats, axis_name: str) -> None:
        length = float(np.hypot(*move))
        if length < LEAST_STEP:
            raise InputError(
                f"a step of {axis_name!r} moves the speckle by {length:.2f} px",
                f"Take steps of more than {LEAST_STEP:g} px, better 20 px. If they were longer,"
                " the fixed pattern of the detector was matched: correct for dark and flat.",
            )
        if self._overlap(move) < LEAST_OVERLAP:
            raise InputError(
                f"a step of {axis_name!r} moves the speckle by {length:.0f} px on frames of"
                f" {self.lattice.frame}: less than {LEAST_OVERLAP:.0%} of it remains in view",
                "Take smaller steps.",
            )

    def _overlap(self, move: Floats) -> float:
        """Compute the fraction of the frame that a pair shares."""
        parts = [
            max(0.0, 1 - abs(step) / length)
            for step, length in zip(move.tolist(), self.lattice.frame, strict=True)
        ]
        return float(parts[0] * parts[1])

    def _at_rim(self, u: Singles) -> NDArray[np.bool_]:
        """Find the points whose window, in either frame, reaches beyond the border."""
        half = self.window // 2
        points = np.ix_(self.lattice.coordinates(0), self.lattice.coordinates(1))
        cut = np.zeros(self.lattice.shape, np.bool_)
        for at, shift, length in zip(points, u, self.lattice.frame, strict=True):
            for place in (at + 0 * shift, at - shift):
                cut |= (place < half) | (place > length - 1 - half)
        return cut

    def track(
        self,
        pairs: Sequence[tuple[int, int]],
        moves: Floats,
        *,
        show: bool | None = None,
    ) -> tuple[list[TrackedPair], list[PairQuality]]:
        """Track pairs (sample, reference), given the approximate moves of the detector in px."""
        frames = self._frames()
        tasks = [
            self._task(
                frames[sample],
                frames[reference],
                tuple(np.rint(-move).astype(int).tolist()),
                self.search,
            )
            for (sample, reference), move in zip(pairs, moves, strict=True)
        ]
        found: dict[int, Singles] = {}
        run_each(tasks, label="tracking pairs", on_done=partial(_keep, found), show=show)
        tracked, qualities = [], []
        for index, ((sample, reference), move) in enumerate(zip(pairs, moves, strict=True)):
            u, error, correlation = found[index][:2], found[index][2], found[index][3]
            there = np.isfinite(u[0])
            error[self._at_rim(u)] *= RIM
            error[~there] = np.inf
            tracked.append(TrackedPair(sample, reference, u, error))
            expected = self._overlap(move) * there.size
            qualities.append(
                PairQuality(
                    float(np.count_nonzero(there)) / max(expected, 1.0),
                    float(np.median(correlation[there])) if there.any() else np.nan,
                )
            )
        return tracked, qualities


def _keep(found: dict[int, Singles], index: int, result: Singles) -> None:
    found[index] = result


def _tracked(
    sample: NDArray[Any],
    reference: NDArray[Any],
    rigid: Rigid,
    window: int,
    search: int,
    order: Order | None,
    lattice: Lattice,
) -> Singles:
    """Track a pair; return displacement, standard error and correlation on the lattice."""
    fields = cross_spot(
        sample[0], reference[0], rigid=rigid, window=window, search=search, order=order
    )
    points = np.ix_(lattice.coordinates(0), lattice.coordinates(1))
    u_y, u_x, error_y, error_x, correlation = (np.asarray(field)[points] for field in fields[:5])
    error = np.hypot(error_y, error_x) / np.float32(np.sqrt(2))
    return np.stack([u_y, u_x, error, correlation]).astype(np.float32)


@dataclass(slots=True)
class MeshPairs:
    """Pairs of a mesh, with their displacements and their status.

    Attributes
    ----------
    axis : ndarray of int, shape (pairs,)
        Axis along which the two frames are neighbours.
    tracked : list of TrackedPair
        Displacements.
    quality : list of PairQuality
        Quality of each match.
    moves : ndarray, shape (pairs, 2)
        Expected move (y, x) of the detector from reference to sample, px.
    status : ndarray of int8, shape (pairs,)
        Status of each, an index of `STATUS`.
    residual : ndarray, shape (pairs,)
        Misfit in px; NaN if not known.
    """

    axis: NDArray[np.intp]
    tracked: list[TrackedPair]
    quality: list[PairQuality]
    moves: Floats
    status: NDArray[np.int8]
    residual: Floats

    def accepted(self, axis: int | None = None) -> list[int]:
        """List the pairs that are used, along one axis or along both."""
        good = self.status == ACCEPTED
        return np.flatnonzero(good if axis is None else good & (self.axis == axis)).tolist()

    def check(self, names: tuple[str, str]) -> None:
        """Check that pairs are left along both axes."""
        for axis, name in enumerate(names):
            if not self.accepted(axis):
                raise InputError(
                    f"none of the {np.count_nonzero(self.axis == axis)} pairs along {name!r} can be"
                    f" used: {'; '.join(self.rejections())}",
                    "Check the frames, their overlap, and the readings of the motors.",
                )

    def rejections(self) -> list[str]:
        """Say for each rejected pair why it was rejected."""
        reasons = {
            UNMATCHED: "{0.matched:.0%} of the overlap matched",
            UNLIKE: "correlation {0.correlation:.2f}",
            MISFITTING: "misfit {1:.3f} px",
        }
        return [
            f"frame {pair.sample} in {pair.reference}: "
            + reasons[int(status)].format(quality, residual)
            for pair, quality, status, residual in zip(
                self.tracked, self.quality, self.status, self.residual, strict=True
            )
            if status != ACCEPTED
        ]


def tracked_pairs(
    tracker: MeshTracker,
    grid: ScanGrid,
    motors: Floats,
    names: tuple[str, str],
    progress: bool | None,
) -> MeshPairs:
    """Track all neighbours, and mark the pairs that do not match."""
    by_axis = [grid.neighbours(axis) for axis in (0, 1)]
    for name, some in zip(names, by_axis, strict=True):
        if not some:
            raise MotorError(
                f"no two frames of the mesh are neighbours along {name!r}",
                "Too many frames are missing: give the whole scan.",
            )
    matrix = np.empty((2, 2))
    for axis, (name, some) in enumerate(zip(names, by_axis, strict=True)):
        matrix[:, axis] = tracker.first_move(some, name) / grid.step[axis]
    # Line by line, pairs along x and y together: a frame is in memory for two lines of the mesh.
    pairs = sorted(by_axis[0] + by_axis[1], key=lambda pair: (min(pair), pair))
    ends = np.array(pairs)
    moves = (motors[ends[:, 0]] - motors[ends[:, 1]]) @ matrix.T
    tracked, quality = tracker.track(pairs, moves, show=progress)
    status = np.array(
        [
            UNMATCHED
            if found.matched < LEAST_MATCHED
            else ACCEPTED
            if found.correlation >= tracker.least_correlation
            else UNLIKE
            for found in quality
        ],
        np.int8,
    )
    vertical = set(by_axis[0])
    axis_of = np.array([0 if pair in vertical else 1 for pair in pairs])
    found_pairs = MeshPairs(axis_of, tracked, quality, moves, status, np.full(len(pairs), np.nan))
    found_pairs.check(names)
    return found_pairs
