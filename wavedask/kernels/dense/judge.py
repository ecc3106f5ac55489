"""How good a solution is: which nodes can be believed, their uncertainty, the window to take."""

from dataclasses import dataclass, fields
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from wavedask.kernels.dense import refine as rf
from wavedask.kernels.dense.fixed import Pull
from wavedask.kernels.dense.noise import Noise, spread_of
from wavedask.kernels.fields import Reason
from wavedask.kernels.uncertainty import FREE_PARAMETERS, TINY

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Codes = NDArray[np.uint8]

LEAST_COVER: Final = 0.25
"""Fraction of a window that must have data."""
LEAST_CORRELATION: Final = 0.15
"""Correlation below which a window and its match have nothing in common."""
CHANCE: Final = np.float32(0.5)
"""Correlation that a refined match may have by chance, where grains are large."""
ALIKE: Final = np.float32(0.7)
"""Correlation, over the mean of that of known matches around, of one that is as strong."""
FARTHEST: Final = 0.25
"""A node whose last step is longer than this, in pixels, ..."""
FARTHEST_ERRORS: Final = 2.0
"""... and than so many of its standard errors has not settled."""
AT_BORDER: Final = 1.4
"""Part by which standard errors are larger in the last row of pixels (measured, white noise)."""
NOISE_STEPS: Final = 0.75
"""Mean square of the steps that noise makes over the square of its standard error: 0.4, and up to
0.75 by chance..."""
MISFIT: Final = 3.5
"""... and square of the error over what goes beyond that: 2 for waves, 5 beside a jump."""
MISFIT_AT_BORDER: Final = 12.0
"""Part by which that is larger in the last row of pixels: beside the border a field can go wrong
without a step (measured, waves of two to four windows)."""
LOBE: Final = 0.4
"""Standard deviation of the main lobe of the low-pass over that of its Gaussian."""
INTERPOLATION: Final = np.float32(4e-4)
"""Standard error, in pixels, of a match without any noise: what the splines leave."""
PRECISE: Final = 0.1
"""Standard error, in pixels, above which a larger window is used if there is one."""


@dataclass(frozen=True, slots=True)
class Level:
    """Result of one window at the nodes; every array has the shape (node rows, node columns).

    Attributes
    ----------
    u_y, u_x : ndarray of float32
        Displacement in pixels, low-passed; defined everywhere.
    error_y, error_x : ndarray of float32
        Standard error in pixels.
    correlation, gain, mean : ndarray of float32
        Correlation at the solution, gain, and mean of the displaced reference.
    mean_s : ndarray of float32
        Mean of the sample.
    reason : ndarray of uint8
        Why the node has no match, a value of `Reason`; 0 where it has data, a pattern and a settled
        match.
    drowned : ndarray of bool
        Whether noise could explain the pattern in some direction.
    """

    u_y: Floats
    u_x: Floats
    error_y: Floats
    error_x: Floats
    correlation: Floats
    gain: Floats
    mean: Floats
    mean_s: Floats
    reason: Codes
    drowned: Mask

    @property
    def valid(self) -> Mask:
        """Whether the node has data, a pattern and a settled match."""
        return np.asarray(self.reason == Reason.MATCHED)


def unusable_nodes(statistics: Floats, *, images: int, window: int) -> Codes:
    """Tell which windows lack data, or a pattern with structure in both directions.

    Returns
    -------
    ndarray of uint8, shape (node rows, node columns)
        `Reason.MASKED`, `Reason.NO_STRUCTURE`, or 0 where the node can be used.
    """
    h_yy, h_yx, h_xx = statistics[rf.H_YY], statistics[rf.H_YX], statistics[rf.H_XX]
    mean, spread = (h_yy + h_xx) / 2, np.hypot((h_yy - h_xx) / 2, h_yx)
    enough = statistics[rf.COUNT] >= LEAST_COVER * images * window**2
    # Images have unit variance: what is flat to a ten thousandth of that has no pattern.
    patterned = (statistics[rf.VAR_S] > 1e-4) & (mean - spread > 1e-2 * (mean + spread))
    structure = patterned & (mean - spread > 1e-5)
    flat = np.where(structure, Reason.MATCHED, Reason.NO_STRUCTURE)
    return np.where(enough, flat, Reason.MASKED).astype(np.uint8)


def _shared(errors: Floats, reliable: Mask, sigma: float) -> Floats:
    """Average variances over the nodes that the low-pass mixes, given as standard errors.

    The windows of such nodes overlap, so that their errors are not independent.
    """
    weight = reliable.astype(np.float32)
    total, share = (
        cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
        for values in (np.where(reliable, errors**2, np.float32(0)), weight)
    )
    return np.where(reliable, np.sqrt(total / np.maximum(share, np.float32(1e-6))), errors)


def border_inflation(
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    shape: tuple[int, int],
    *,
    reach: int,
    part: float,
) -> Floats:
    """Factor by which something is larger near the border.

    Parameters
    ----------
    rows, columns : ndarray of int, shapes (n,) and (m,)
        Pixel coordinates of the nodes.
    shape : (int, int)
        Rows and columns of the block in pixels.
    reach : int
        Pixels from the border beyond which the factor is one.
    part : float
        What is added in the last row of pixels.

    Returns
    -------
    ndarray of float32, shape (n, m)

    Examples
    --------
    >>> line = np.array([0, 5, 10])
    >>> print(border_inflation(line, np.array([50]), (101, 101), reach=10, part=1.4).ravel())
    [2.4 1.7 1. ]
    """
    away = [
        np.minimum(line, length - 1 - line)
        for line, length in zip((rows, columns), shape, strict=True)
    ]
    distance = np.minimum(away[0][:, None], away[1][None])
    return (1 + part * np.maximum(1 - distance / reach, 0)).astype(np.float32)


def _with_misfit(
    error: Floats, step: Floats, reliable: Mask, reach: float, inflation: Floats
) -> Floats:
    """Count steps that are longer than those of noise into the uncertainty."""
    weight = reliable.astype(np.float32)
    steps, noise, share = (
        cv2.GaussianBlur(values, (0, 0), reach, borderType=cv2.BORDER_REFLECT)
        for values in (weight * step**2, weight * error**2, weight)
    )
    excess = np.maximum(steps - NOISE_STEPS * noise, 0) / np.maximum(share, np.float32(1e-6))
    return np.sqrt(error**2 + MISFIT * inflation * excess)


def _solved(hessian: tuple[Floats, Floats, Floats], right: Floats) -> Floats:
    """Solve ``H u = right`` at every node, shape (2, node rows, node columns)."""
    h_yy, h_yx, h_xx = hessian
    determinant = np.maximum(h_yy * h_xx - h_yx**2, TINY)
    return np.stack(
        [
            (h_xx * right[0] - h_yx * right[1]) / determinant,
            (h_yy * right[1] - h_yx * right[0]) / determinant,
        ]
    ).astype(np.float32)


def judged(
    u: Floats,
    change: Floats,
    out: Floats,
    statistics: Floats,
    unusable: Codes,
    *,
    noise: Noise,
    pull: Pull | None,
    inflation: tuple[Floats, Floats],
    passes: float,
    lobe: float,
    reach: float,
) -> Level:
    """Attach uncertainty and validity to a solution.

    Where the field has detail that the window and the low-pass cannot follow (a wave of few
    windows, a jump, an edge of the transmission), Gauss-Newton asks for steps that the low-pass
    holds back again and again. Their mean square around a node, beyond what noise makes, measures
    the misfit, and is counted into the uncertainty. What a fixed pattern pulls is taken out of the
    displacement. `inflation` holds the factors near the border: of the standard error of the noise,
    and of the square of the misfit.
    """
    reliable = unusable == Reason.MATCHED
    count = np.maximum(statistics[rf.COUNT], FREE_PARAMETERS + 1)
    rho = out[rf.RHO]
    spread = spread_of(
        rho,
        statistics[rf.VAR_S],
        count,
        (statistics[rf.H_YY], statistics[rf.H_YX], statistics[rf.H_XX]),
        noise,
        excess=None if pull is None else pull.gradient,
    )
    # Where the last iteration still moved a node, it is not known better than that.
    error_y, error_x = (
        np.sqrt(
            (passes * inflation[0] * _shared(error, reliable, lobe)) ** 2
            + still**2
            + INTERPOLATION**2
        )
        for error, still in zip((spread.error_y, spread.error_x), change, strict=True)
    )
    error_y, error_x = (
        _with_misfit(error, step, reliable, reach, inflation[1])
        for error, step in ((error_y, out[rf.STEP_Y]), (error_x, out[rf.STEP_X]))
    )
    if pull is not None:
        along, off = (_solved(spread.hessian, part) for part in (pull.force, pull.error))
        u = np.where(reliable, u - along, u)
        error_y, error_x = np.hypot(error_y, off[0]), np.hypot(error_x, off[1])
    # Where the noise is large, so is what the low-pass holds back of each step.
    farthest = np.maximum(FARTHEST, FARTHEST_ERRORS * np.maximum(error_y, error_x))
    settled = np.maximum(np.abs(out[rf.STEP_Y]), np.abs(out[rf.STEP_X])) < farthest
    return Level(
        u[0],
        u[1],
        error_y,
        error_x,
        rho,
        out[rf.GAIN],
        out[rf.MEAN_W],
        statistics[rf.MEAN_S],
        np.where(
            reliable,
            np.where(
                rho > LEAST_CORRELATION,
                np.where(settled, Reason.MATCHED, Reason.NOT_CONVERGED),
                Reason.UNCORRELATED,
            ),
            unusable,
        ).astype(np.uint8),
        spread.drowned,
    )


def blended(
    levels: list[Level], windows: list[int], *, good: float, step: int
) -> tuple[Level, Floats]:
    """Take from each node the smallest window that is good enough, without seams.

    Parameters
    ----------
    levels : list of Level
        Results by window, the smallest first.
    windows : list of int
        The windows.
    good : float
        Correlation that is good enough.
    step : int
        Pixels between nodes.

    Returns
    -------
    level : Level
        The blend.
    window : ndarray of float32, shape (node rows, node columns)
        Side of the window used, in pixels.
    """
    if len(levels) == 1:
        return levels[0], np.full(levels[0].u_y.shape, windows[0], np.float32)
    enough = np.stack(
        [
            level.valid
            & (level.correlation >= good)
            & (np.maximum(level.error_y, level.error_x) <= PRECISE)
            for level in levels
        ]
    )
    enough[-1] = True
    wanted = enough.argmax(axis=0).astype(np.float32)
    sigma = windows[0] / (2 * step)
    wanted = cv2.GaussianBlur(wanted, (0, 0), max(sigma, 0.5), borderType=cv2.BORDER_REFLECT)
    below = np.clip(np.floor(wanted).astype(int), 0, len(levels) - 2)
    share = wanted - below

    def pick(values: list[Floats]) -> Floats:
        stack = np.stack(values)
        low = np.take_along_axis(stack, below[None], 0)[0]
        high = np.take_along_axis(stack, below[None] + 1, 0)[0]
        return np.asarray((1 - share) * low + share * high, np.float32)

    reasons = np.stack([level.reason for level in levels])
    low, high = (np.take_along_axis(reasons, below[None] + k, 0)[0] for k in (0, 1))
    used = np.interp(wanted, np.arange(len(windows)), windows).astype(np.float32)
    level = Level(
        u_y=pick([level.u_y for level in levels]),
        u_x=pick([level.u_x for level in levels]),
        error_y=pick([level.error_y for level in levels]),
        error_x=pick([level.error_x for level in levels]),
        correlation=pick([level.correlation for level in levels]),
        gain=pick([level.gain for level in levels]),
        mean=pick([level.mean for level in levels]),
        mean_s=pick([level.mean_s for level in levels]),
        reason=np.maximum(np.where(share > 0.5, 0, low), np.where(share < 0.5, 0, high)),
        drowned=np.take_along_axis(
            np.stack([level.drowned for level in levels]), np.rint(wanted).astype(int)[None], 0
        )[0],
    )
    return level, used


def merged(part: Level, whole: Level, nodes: tuple[slice, slice], where: Mask) -> Level:
    """Put the nodes of a part, where told, in the place of those of a solution.

    Parameters
    ----------
    part, whole : Level
        The solutions.
    nodes : (slice, slice)
        Where the part lies in the whole, in nodes.
    where : ndarray of bool, of the shape of the part
        Nodes to take.

    Returns
    -------
    Level
    """
    found = {}
    for name in (one.name for one in fields(Level)):
        values = np.array(getattr(whole, name))
        values[nodes] = np.where(where, getattr(part, name), values[nodes])
        found[name] = values
    return Level(**found)


def like_neighbours(correlation: Floats, known: Mask, *, reach: float) -> Mask:
    """Tell which matches are about as strong as the known ones around them.

    Parameters
    ----------
    correlation : ndarray of float32, shape (node rows, node columns)
        Of the matches.
    known : ndarray of bool, shape (node rows, node columns)
        Matches that are right.
    reach : float
        Nodes over which these are averaged.

    Returns
    -------
    ndarray of bool, shape (node rows, node columns)

    Examples
    --------
    >>> correlation = np.full((9, 9), 0.7, np.float32)
    >>> correlation[4, 4:6] = 0.65, 0.4
    >>> known = correlation > 0.68
    >>> like_neighbours(correlation, known, reach=2)[4, 3:7].tolist()
    [True, True, False, True]
    """
    total, share = (
        cv2.GaussianBlur(values, (0, 0), reach, borderType=cv2.BORDER_REFLECT)
        for values in (np.where(known, correlation, np.float32(0)), known.astype(np.float32))
    )
    least = ALIKE * total / np.maximum(share, np.float32(1e-6))
    return np.asarray(correlation >= np.maximum(least, CHANCE), np.bool_)


def without_islands(valid: Mask, *, weak: Mask, side: int) -> Mask:
    """Drop weak matches that are not part of a square of so many nodes.

    A template finds something everywhere, but chance starts do not agree with their neighbours.
    """
    # Beyond the border of the block lies more of the same, for all that is known.
    wide = np.pad(valid, side, mode="edge")
    square = np.ones((side, side), np.uint8)
    opened = cv2.morphologyEx(wide.astype(np.uint8), cv2.MORPH_OPEN, square)
    return np.asarray(valid & (~weak | (opened[side:-side, side:-side] > 0)), np.bool_)
