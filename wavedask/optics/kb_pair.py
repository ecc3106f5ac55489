"""The two mirrors of a Kirkpatrick-Baez pair, from one wavefront."""

from dataclasses import asdict, dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
import xarray as xr

from wavedask.conventions import (
    ASTIGMATIC_DIFFERENCE,
    ASTIGMATIC_DIFFERENCE_UNCERTAINTY,
    ELLIPSE_Q,
    ELLIPSE_Q_UNCERTAINTY,
    FOCUS_DISTANCE_UNCERTAINTY_X,
    FOCUS_DISTANCE_UNCERTAINTY_Y,
    FOCUS_DISTANCE_X,
    FOCUS_DISTANCE_Y,
    METRE,
    AxisName,
    X,
    Y,
)
from wavedask.errors import InputError
from wavedask.optics.mirror import mirror
from wavedask.units import DISTANCE, SOURCE_DISTANCE, in_range, number_of, relabelled

ELLIPSE: Final = "ellipse"
SHARED: Final = (DISTANCE, SOURCE_DISTANCE)
"""Attributes that a wavefront has once, and a pair twice."""


@dataclass(frozen=True, slots=True)
class KBMirror:
    """One mirror of a pair: the arguments of `mirror`.

    Attributes
    ----------
    theta : float
        Grazing angle at the middle of the mirror, rad.
    p : float
        Distance from the source to the middle of this mirror, m.
    distance : float
        From the middle of this mirror to the detector, m.
    q : float, optional
        Distance from the mirror to the focus, m.
    free : tuple of str, default ("q",)
        Numbers of the ellipse that are fitted: of "p", "q", "theta".
    center : float, optional
        Position on the detector of the ray from the middle of the mirror, m.
    sign : 1 or -1, default 1
        1 if rays of the downstream end of the mirror, close behind it, lie at larger positions.
    """

    theta: float
    p: float
    distance: float
    q: float | None = None
    free: tuple[str, ...] = ("q",)
    center: float | None = None
    sign: Literal[1, -1] = 1


class KBPair(NamedTuple):
    """The mirrors of a pair.

    Attributes
    ----------
    vertical, horizontal : xarray.Dataset
        Results of `mirror`: of the mirror that focuses along y, and of the one along x.
    foci : xarray.Dataset
        ``focus_distance_y`` and ``focus_distance_x``, from the detector to the foci of the best
        ellipses, positive downstream; ``astigmatic_difference``, the first minus the second; and
        their standard errors, all in m.
    """

    vertical: xr.Dataset
    horizontal: xr.Dataset
    foci: xr.Dataset


def kb_pair(wf: xr.Dataset, *, vertical: KBMirror, horizontal: KBMirror) -> KBPair:
    """Compute the figure of both mirrors of a Kirkpatrick-Baez pair from one wavefront.

    Each mirror turns rays along one axis of the detector alone, so that the slopes along y show the
    vertically focusing mirror, and those along x the other. The mirrors stand one behind the other:
    each has distances of its own to source and detector, and these count, whatever `wf` states.

    Parameters
    ----------
    wf : xarray.Dataset
        As of `mirror`, with slopes or curvatures along both axes.
    vertical, horizontal : KBMirror
        The mirror that focuses along y, and the one that focuses along x.

    Returns
    -------
    KBPair
        Lazy if `wf` is, except that `mirror` computes the first frame.

    Raises
    ------
    InputError
        As of `mirror`; or mirrors whose distances contradict each other by more than half the
        distance between them: p + distance is that from the source to the detector.

    See Also
    --------
    mirror : one mirror.
    find_focus : the focus of the pair by diffraction.

    Examples
    --------
    Two perfect ellipses with a common focus, 0.4 m behind the detector:

    >>> x = np.linspace(-1e-4, 1e-4, 101)
    >>> wf = xr.Dataset(
    ...     {
    ...         "slope_y": (("y", "x"), np.tile(-x[:, None] / 0.4, (1, 101))),
    ...         "slope_x": (("y", "x"), np.tile(-x / 0.4, (101, 1))),
    ...     },
    ...     {"y": x, "x": x},
    ...     {"mode": "absolute"},
    ... )
    >>> pair = kb_pair(
    ...     wf,
    ...     vertical=KBMirror(theta=3e-3, p=40.0, distance=0.3),
    ...     horizontal=KBMirror(theta=3e-3, p=40.2, distance=0.1),
    ... )
    >>> print(f"q = {float(pair.vertical.ellipse_q):.3f}, {float(pair.horizontal.ellipse_q):.3f} m")
    q = 0.700, 0.500 m
    """
    found = []
    plain = wf.copy(deep=False)
    plain.attrs = {name: value for name, value in wf.attrs.items() if name not in SHARED}
    _check_distances(vertical, horizontal)
    axes: tuple[tuple[str, AxisName, KBMirror], ...] = (
        ("vertical", Y, vertical),
        ("horizontal", X, horizontal),
    )
    for name, axis, one in axes:
        try:
            found.append(mirror(plain, axis=axis, shape=ELLIPSE, **asdict(one)))
        except InputError as error:
            raise InputError(f"{name} mirror: {error.problem}", error.remedy) from error
    along_y, along_x = (
        part[ELLIPSE_Q.name] - one.distance
        for part, one in zip(found, (vertical, horizontal), strict=True)
    )
    errors = [part[ELLIPSE_Q_UNCERTAINTY.name] for part in found]
    numbers = (
        relabelled(along_y, FOCUS_DISTANCE_Y),
        relabelled(errors[0], FOCUS_DISTANCE_UNCERTAINTY_Y),
        relabelled(along_x, FOCUS_DISTANCE_X),
        relabelled(errors[1], FOCUS_DISTANCE_UNCERTAINTY_X),
        relabelled(along_y - along_x, ASTIGMATIC_DIFFERENCE),
        relabelled((errors[0] ** 2 + errors[1] ** 2) ** 0.5, ASTIGMATIC_DIFFERENCE_UNCERTAINTY),
    )
    foci = xr.Dataset({str(number.name): number for number in numbers}, attrs=wf.attrs)
    return KBPair(found[0], found[1], foci)


def _check_distances(vertical: KBMirror, horizontal: KBMirror) -> None:
    """Refuse mirrors that do not stand in one beam: the nearer to the source is the farther off."""
    for name, one in (("vertical", vertical), ("horizontal", horizontal)):
        in_range(f"distance of the {name} mirror", one.distance, low=1e-3, high=1e4, unit=METRE)
        number_of(f"p of the {name} mirror", one.p, unit=METRE)
    if not np.isfinite([vertical.p, horizontal.p]).all():
        return
    apart = abs(vertical.distance - horizontal.distance)
    whole = vertical.p + vertical.distance, horizontal.p + horizontal.distance
    if abs(whole[0] - whole[1]) > apart / 2 + 1e-3:
        raise InputError(
            f"p + distance is {whole[0]:g} m of the vertical and {whole[1]:g} m of the horizontal "
            "mirror",
            "Both are the distance from the source to the detector: give p and distance of each"
            " mirror from its own middle.",
        )
