"""Which pixels of a result have no displacement, and why."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.compute import compute_blocks
from wavedask.conventions import (
    COMPLETE,
    DISPLACEMENT_X,
    DISPLACEMENT_Y,
    FLAG_MEANINGS,
    FLAG_VALUES,
    FRAME,
    REASON,
    SEARCH,
    SLOPE_X,
    SLOPE_Y,
    X,
    Y,
)
from wavedask.errors import InputError
from wavedask.frames import pick_frames
from wavedask.kernels.fields import Reason
from wavedask.tables import Rows, Tabular

MUCH: Final = 1 / 3
"""Part of the pixels without a displacement that is worth a warning."""
MANY: Final = 0.03
"""Part of the pixels at the limit of the search that is worth a warning."""
NODES: Final = 64
"""Points along an axis of the map from which the needed search is estimated."""
MARGIN: Final = 1.15
"""The estimate over the largest displacement that a smooth continuation of the field reaches."""
LEAST: Final = 1.25
LONGEST: Final = 4.0
"""The estimate is from `LEAST` to `LONGEST` times the search that was used."""
DISPLACEMENTS: Final = (DISPLACEMENT_Y.name, DISPLACEMENT_X.name)
SLOPES: Final = (SLOPE_Y.name, SLOPE_X.name)
BEYOND: Final = (
    Reason.SEARCH_LIMIT,
    Reason.AMBIGUOUS,
    Reason.NOT_CONVERGED,
    Reason.UNCORRELATED,
    Reason.OUTLIER,
)
"""Reasons that a displacement beyond the search can have."""
MEANINGS: Final[Mapping[Reason, str]] = {
    Reason.MATCHED: "matched",
    Reason.BORDER: "beyond the border of the frame",
    Reason.MASKED: "masked",
    Reason.NO_STRUCTURE: "no structure",
    Reason.SEARCH_LIMIT: "at the limit of the search",
    Reason.AMBIGUOUS: "ambiguous",
    Reason.NOT_CONVERGED: "not converged",
    Reason.UNCORRELATED: "uncorrelated",
    Reason.OUTLIER: "outlier",
    Reason.OUTSIDE_PUPIL: "outside of the pupil",
}

logger = logging.getLogger("wavedask")


def reason_attrs(search: int) -> dict[str, Any]:
    """Attributes of a variable of reasons: the codes, and the search that was used.

    Parameters
    ----------
    search : int
        Pixels that were searched on either side, beyond a rigid shift.

    Returns
    -------
    dict

    Examples
    --------
    >>> reason_attrs(16)["flag_meanings"].split()[:4]
    ['matched', 'border', 'masked', 'no_structure']
    """
    return {
        FLAG_VALUES: [int(reason) for reason in Reason],
        FLAG_MEANINGS: " ".join(reason.name.lower() for reason in Reason),
        SEARCH: int(search),
    }


def is_lazy(result: xr.Dataset) -> bool:
    """Tell whether a variable of a dataset waits to be computed."""
    return any(variable.chunks is not None for variable in result.variables.values())


@dataclass(frozen=True, slots=True, repr=False)
class MissingReport(Tabular):
    """How many pixels of a result have a displacement, and why the others have none.

    `print` and a notebook show its table.

    Attributes
    ----------
    counts : mapping of Reason to int
        Pixels by reason, over all frames. Pixels outside of a pupil do not count anywhere else.
    empty_frames : tuple of int
        Frames without any displacement; empty for a single map.
    frames : int
        Number of frames.
    search : int
        Search that was used, in pixels; 0 where it is not known.
    needed : int
        Search that would probably do, in pixels; 0 where the search is no problem.
    """

    counts: Mapping[Reason, int]
    empty_frames: tuple[int, ...]
    frames: int
    search: int
    needed: int

    @property
    def pixels(self) -> int:
        """Pixels that could have a displacement: all but those outside of a pupil."""
        return sum(n for reason, n in self.counts.items() if reason != Reason.OUTSIDE_PUPIL)

    @property
    def matched(self) -> int:
        """Pixels with a displacement."""
        return self.counts.get(Reason.MATCHED, 0)

    @property
    def share(self) -> float:
        """Part of the pixels that has a displacement, 0 to 1."""
        return self.matched / self.pixels if self.pixels else 0.0

    @property
    def rows(self) -> Rows:
        """Rows of a table: what, and how many."""
        rows = [("pixels with a displacement", f"{self.matched:,} ({_percent(self.share)})")]
        lost = [
            (reason, n)
            for reason, n in self.counts.items()
            if n and reason not in (Reason.MATCHED, Reason.OUTSIDE_PUPIL)
        ]
        if lost:
            parts = [
                f"{MEANINGS[reason]} {_percent(n / self.pixels)}"
                for reason, n in sorted(lost, key=lambda item: -item[1])
            ]
            rows.append(("pixels without one", ", ".join(parts)))
        if self.empty_frames:
            rows.append(("frames without any", _listed(self.empty_frames, self.frames)))
        return rows

    @property
    def warnings(self) -> list[str]:
        """Sentences about what is wrong; empty where nothing is."""
        if not self.pixels:
            return ["no pixel lies inside of the pupil"]
        said = []
        if not self.matched:
            said.append("no pixel has a displacement")
        elif 1 - self.share > MUCH:
            said.append(f"{_percent(1 - self.share)} of the pixels have no displacement")
        elif self.empty_frames:
            said.append(f"frames without a displacement: {_listed(self.empty_frames, self.frames)}")
        if said:
            said[0] += f" ({self.rows[1][1]})" if len(self.rows) > 1 else ""
        if self.needed:
            limit = self.counts.get(Reason.SEARCH_LIMIT, 0)
            said.append(
                f"{_percent(limit / self.pixels)} of the pixels lie at the limit of the search "
                f"({self.search} px): try search={self.needed}"
            )
        return said

    def log(self, what: str) -> None:
        """Log the counts: as a warning where something is wrong, or else as information.

        Parameters
        ----------
        what : str
            What made the result, for the first word of the message.
        """
        warnings = self.warnings
        if warnings:
            logger.warning("%s: %s", what, "; ".join(warnings))
        else:
            logger.info("%s: %s", what, "; ".join(f"{name}: {text}" for name, text in self.rows))


def why_missing(result: xr.Dataset, *, progress: bool | None = None) -> MissingReport:
    """Count the pixels of a result that have no displacement, by the reason.

    Parameters
    ----------
    result : xarray.Dataset, dims ([frame], y, x)
        As of `track`, `track_scan` or `wavefront`, or an opened result store, with the variable
        ``reason``. A lazy one is computed, frame by frame. Frames that a store does not have yet
        are not counted.
    progress : bool, optional
        Whether to show a progress bar for a lazy result; by default on a terminal and in a
        notebook.

    Returns
    -------
    MissingReport
        With the properties ``rows`` (of a table), ``share`` and ``warnings``.

    Raises
    ------
    InputError
        A result without the variable ``reason``.

    Examples
    --------
    >>> from wavedask.simulate import displaced_pair
    >>> from wavedask.tracking import track
    >>> pair = displaced_pair((96, 96), displacement_x=2.3, seed=1)
    >>> pair.sample[:, :40] = np.nan
    >>> sample, reference = (
    ...     xr.DataArray(image, dims=("y", "x")) for image in (pair.sample, pair.reference)
    ... )
    >>> report = why_missing(track(sample, reference, window=15, search=4))
    >>> worst = max(report.counts, key=lambda reason: reason > 0 and report.counts[reason])
    >>> print(f"{report.share:.1f} matched, most of the others {worst.name.lower()}")
    0.6 matched, most of the others masked
    """
    if REASON.name not in result:
        raise InputError(
            f"the result has no {REASON.name!r}; it has {', '.join(map(str, result))}",
            "Give the result of track, or a store that was written by this version.",
        )
    done = _written(result)
    reason = result[REASON.name]
    stack = reason.expand_dims(FRAME) if FRAME not in reason.dims else reason
    numbers = np.flatnonzero(done) if FRAME in reason.dims else np.arange(1)
    if numbers.size < stack.sizes[FRAME]:
        stack = pick_frames(stack, numbers)
    table = _table(stack.transpose(FRAME, Y, X), progress)
    totals = dict(zip(Reason, table.sum(0).tolist(), strict=True))
    empty = numbers[table[:, Reason.MATCHED] == 0] if FRAME in reason.dims else ()
    search = int(reason.attrs.get(SEARCH, 0))
    report = MissingReport(totals, tuple(map(int, empty)), len(numbers), search, 0)
    if not search or totals[Reason.SEARCH_LIMIT] <= MANY * report.pixels:
        return report
    worst = int(numbers[table[:, Reason.SEARCH_LIMIT].argmax()])
    frame = result.isel({FRAME: worst}) if FRAME in reason.dims else result
    needed = _needed_search(frame, search)
    return MissingReport(totals, report.empty_frames, report.frames, search, needed)


def _written(result: xr.Dataset) -> NDArray[np.bool_]:
    """Frames that are there: all, but in a store that is not complete."""
    frames = result.sizes.get(FRAME, 1)
    complete = result.get(COMPLETE.name)
    if complete is None:
        return np.ones(frames, np.bool_)
    return np.asarray(complete.values, np.bool_)


def _table(stack: xr.DataArray, progress: bool | None) -> NDArray[np.int64]:
    """Count the pixels of each frame by their reason."""
    if not stack.size:
        return np.zeros((stack.sizes[FRAME], len(Reason)), np.int64)
    if stack.chunks is None:
        return _counts(stack.values)
    frames, rows, columns = stack.chunks
    if len(rows) == len(columns) == 1:
        counts = stack.data.map_blocks(
            _counts,
            dtype=np.int64,
            drop_axis=[1, 2],
            new_axis=1,
            chunks=(frames, (len(Reason),)),
            meta=np.empty((0, 0), np.int64),
        )
    else:
        counts = stack.data.map_blocks(
            _counts_of_tile,
            dtype=np.int64,
            new_axis=3,
            chunks=(frames, (1,) * len(rows), (1,) * len(columns), (len(Reason),)),
            meta=np.empty((0,) * 4, np.int64),
        ).sum((1, 2))
    (table,) = compute_blocks([counts], [0], label="counting pixels", show=progress)
    return np.asarray(table, np.int64)


def _counts(reasons: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the codes of each frame of a block, shape (frames, reasons)."""
    counts = [np.bincount(frame.ravel(), minlength=len(Reason)) for frame in np.asarray(reasons)]
    return np.array([one[: len(Reason)] for one in counts], np.int64)


def _counts_of_tile(reasons: NDArray[np.uint8]) -> NDArray[np.int64]:
    return _counts(reasons)[:, None, None]


def _needed_search(result: xr.Dataset, search: int) -> int:
    """Estimate the search that would do, from the field where it is known.

    A quadratic surface through the known part leads on to the pixels that are lost. Of slopes only
    the ratio of what is lost to what was reached is used.
    """
    reason = result[REASON.name].transpose(Y, X)
    steps = {dim: slice(None, None, max(1, reason.sizes[dim] // NODES)) for dim in (Y, X)}
    codes = np.asarray(reason.isel(steps).values)
    known, lost = codes == Reason.MATCHED, np.isin(codes, BEYOND)
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in codes.shape), indexing="ij")
    terms = np.stack([np.ones_like(y), y, x, y * y, y * x, x * x], axis=-1)
    if np.count_nonzero(known) < 2 * terms.shape[-1]:
        return 2 * search
    physical = not any(name in result for name in DISPLACEMENTS)
    reached = wanted = 0.0
    for name in SLOPES if physical else DISPLACEMENTS:
        if name not in result:
            continue
        values = np.asarray(result[name].transpose(Y, X).isel(steps).values, np.float64)
        fit = np.linalg.lstsq(terms[known], values[known], rcond=None)[0]
        # The search goes beyond a rigid shift, if one was taken out: then values are larger.
        middle = float(np.median(values[known]))
        if not physical and abs(middle) <= search:
            middle = 0.0
        reached = max(reached, float(np.abs(values[known] - middle).max()))
        wanted = max(wanted, float(np.abs(terms[lost] @ fit - middle).max(initial=0.0)))
    needed = wanted if not physical else search * wanted / max(reached, np.finfo(float).tiny)
    return int(np.ceil(min(max(MARGIN * needed, LEAST * search), LONGEST * search)))


def _percent(share: float) -> str:
    """Write a share in per cent; neither everything nor nothing is rounded away."""
    if 0 < share < 0.001:
        return "below 0.1 %"
    if 0.999 < share < 1:
        return "above 99.9 %"
    return f"{100 * share:.1f} %"


def _listed(frames: Sequence[int], total: int) -> str:
    """Name some frames of many."""
    shown = ", ".join(map(str, frames[:5])) + (", ..." if len(frames) > 5 else "")
    return f"{len(frames)} of {total} ({shown})"
