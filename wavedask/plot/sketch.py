"""A drawing of the set-up with its distances and signs, as SVG."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from xml.sax.saxutils import escape

from wavedask.conventions import X, Y
from wavedask.errors import InputError
from wavedask.prefixes import prefixed
from wavedask.units import (
    DISTANCE,
    ENERGY,
    MEMBRANE_DISTANCE,
    MODE,
    NEAR_DISTANCE,
    NEAR_PIXEL_SIZE,
    PIXEL_SIZE,
    SOURCE_DISTANCE,
)

Kind = Literal["differential", "absolute", "scanning", "self-reference"]
KINDS: Final = ("differential", "absolute", "scanning", "self-reference")

WIDTH: Final = 760
HEIGHT: Final = 318
AXIS: Final = 110
"""Height of the optical axis in the drawing, px from the top."""
HALF: Final = 48
"""Half the height of an element, px."""
SOURCE, UPSTREAM, OPTIC, DOWNSTREAM, DETECTOR = 60, 210, 320, 450, 640
"""Places of the elements along the axis, px. The drawing is not to scale."""
FIRST_LINE: Final = AXIS + HALF + 50
LINE_STEP: Final = 32

NAME: Final = "wavedask-setup"
"""Class of the drawing: its styles hold for nothing else on a page."""
RULES: Final = {
    "text": "font:13px sans-serif;fill:currentColor",
    ".small": "font-size:11.5px",
    ".line": "stroke:currentColor;fill:none;stroke-width:1.3",
    ".axis": "stroke:currentColor;stroke-dasharray:2 4;opacity:.6",
    ".beam": "fill:#f0a30a;opacity:.28",
    ".bent": "fill:#d1495b;opacity:.28",
    ".optic": "fill:#3a7ca5;fill-opacity:.55;stroke:currentColor",
    ".screen": "fill:currentColor;fill-opacity:.25;stroke:currentColor",
    ".grain": "fill:currentColor",
}
STYLE: Final = "".join(f".{NAME} {selector}{{{rule}}}" for selector, rule in RULES.items())


@dataclass(frozen=True, slots=True)
class _Place:
    """An element of the drawing: its name and its place along the axis."""

    name: str
    at: float


def setup_sketch(attrs: Mapping[Any, Any], *, kind: Kind | None = None) -> str:
    """Draw the set-up of a measurement: source, membrane, optic, detectors, distances, signs.

    The drawing is not to scale. It uses the text colour of the page, so that it also suits a dark
    page.

    Parameters
    ----------
    attrs : mapping
        Attributes of a result of `wavefront`, or numbers of the same names: ``distance``,
        ``near_distance``, ``source_distance`` and ``membrane_distance`` in m, ``pixel_size`` and
        ``near_pixel_size`` in m (one number or two, y and x), ``energy_keV``. A distance that is
        missing is drawn with its symbol alone.
    kind : str, optional
        ``"differential"``, ``"absolute"``, ``"scanning"`` (the membrane moves) or
        ``"self-reference"`` (frames of a scan are compared with each other). By default the
        attribute ``mode``, or else ``"differential"``.

    Returns
    -------
    str
        An ``<svg>`` element.

    Raises
    ------
    InputError
        An unknown kind.

    Examples
    --------
    >>> drawing = setup_sketch({"mode": "differential", "distance": 1.0, "source_distance": 40.0})
    >>> drawing[:4], "d = 1 m" in drawing, "L = 40 m" in drawing
    ('<svg', True, True)
    """
    chosen = str(attrs.get(MODE, KINDS[0])) if kind is None else kind
    if chosen not in KINDS:
        raise InputError(f"kind is {chosen!r}", f"Choose from {', '.join(KINDS)}.")
    parts = [_beam(chosen, attrs), *_elements(chosen, attrs), *_dimensions(chosen, attrs)]
    parts += _signs(chosen)
    said = f"Set-up, {chosen}: not to scale"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{NAME}" role="img" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'aria-label="{said}" style="max-width:{WIDTH}px;width:100%"><style>{STYLE}</style>'
        f"<title>{said}</title>{''.join(parts)}</svg>"
    )


def _downstream(attrs: Mapping[Any, Any]) -> bool:
    """Whether the membrane is between the optic and the detector."""
    membrane, distance = _number(attrs, MEMBRANE_DISTANCE), _number(attrs, DISTANCE)
    return None not in (membrane, distance) and membrane < distance  # type: ignore[operator]


def _number(attrs: Mapping[Any, Any], name: str) -> float | None:
    """Read a distance; None where it is missing or infinite."""
    value = attrs.get(name)
    return None if value is None or not math.isfinite(float(value)) else float(value)


def _length(symbol: str, value: float | None) -> str:
    if value is None:
        return symbol
    scale, unit = prefixed(abs(value), "m")
    return f"{symbol} = {value * scale:.4g} {unit}"


def _near(kind: str) -> float:
    """Place of the near detector."""
    return (OPTIC + DETECTOR) / 2 - 10 if kind == "absolute" else DETECTOR


def _beam(kind: str, attrs: Mapping[Any, Any]) -> str:
    """Draw the beam: from a point where the source is known, parallel where it is not."""
    point = _number(attrs, SOURCE_DISTANCE) is not None
    start = 2 if point else HALF * 0.62
    at_optic = HALF * 0.62
    end = at_optic * 0.55 if kind in ("differential", "absolute") else at_optic * 0.8

    def band(css: str, x1: float, h1: float, x2: float, h2: float) -> str:
        points = f"{x1},{AXIS - h1} {x2},{AXIS - h2} {x2},{AXIS + h2} {x1},{AXIS + h1}"
        return f'<polygon class="{css}" points="{points}"/>'

    axis = f'<path class="line axis" d="M{SOURCE - 25} {AXIS}H{DETECTOR + 40}"/>'
    return (
        band("beam", SOURCE, start, OPTIC, at_optic)
        + band("bent", OPTIC, at_optic, DETECTOR, end)
        + axis
    )


def _label(x: float, y: float, text: str, *, css: str = "", anchor: str = "middle") -> str:
    return f'<text class="{css}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def _elements(kind: str, attrs: Mapping[Any, Any]) -> list[str]:
    """Draw source, membrane, optic and detectors."""
    known = _number(attrs, SOURCE_DISTANCE) is not None
    drawn = [
        f'<circle class="grain" cx="{SOURCE}" cy="{AXIS}" r="4"/>' if known else "",
        _label(SOURCE, AXIS - HALF - 12, "source" if known else "beam"),
    ]
    if (energy := _number(attrs, ENERGY)) is not None:
        drawn.append(_label(SOURCE, AXIS + HALF + 8, f"{energy:g} keV", css="small"))
    membrane = DOWNSTREAM if _downstream(attrs) else UPSTREAM
    if kind == "absolute":
        membrane = UPSTREAM
    drawn.append(_membrane(membrane, moves=kind in ("scanning", "self-reference")))
    drawn.append(
        f'<ellipse class="optic" cx="{OPTIC}" cy="{AXIS}" rx="9" ry="{HALF * 0.8:g}"/>'
        + _label(OPTIC, AXIS - HALF - 12, "optic")
    )
    if kind == "absolute":
        drawn.append(_screen(_near(kind), "near detector", _pixel(attrs, NEAR_PIXEL_SIZE)))
        drawn.append(_screen(DETECTOR, "far detector", _pixel(attrs, PIXEL_SIZE)))
    else:
        drawn.append(_screen(DETECTOR, "detector", _pixel(attrs, PIXEL_SIZE)))
    return drawn


def _membrane(x: float, *, moves: bool) -> str:
    """Draw a sheet with grains; with an arrow where it is scanned."""
    grains = "".join(
        f'<circle class="grain" cx="{x + 3 * (-1) ** row:g}" cy="{AXIS - HALF + 8 + 10 * row:g}" '
        f'r="{1.4 + 0.5 * (row % 3):g}"/>'
        for row in range(9)
    )
    sheet = (
        f'<path class="line" d="M{x - 6} {AXIS - HALF}V{AXIS + HALF}M{x + 6} {AXIS - HALF}'
        f'V{AXIS + HALF}"/>'
    )
    arrow = ""
    if moves:
        arrow = _arrow(x + 18, AXIS - 20, x + 18, AXIS + 20) + _arrow(
            x + 18, AXIS + 20, x + 18, AXIS - 20
        )
    name = "membrane, scanned" if moves else "membrane"
    return sheet + grains + arrow + _label(x, AXIS - HALF - 12, name)


def _screen(x: float, name: str, pixel: str) -> str:
    box = f'<rect class="screen" x="{x:g}" y="{AXIS - HALF}" width="9" height="{2 * HALF}"/>'
    text = _label(x + 4, AXIS - HALF - 12, name)
    return box + text + (_label(x + 4, AXIS + HALF + 16, pixel, css="small") if pixel else "")


def _pixel(attrs: Mapping[Any, Any], name: str) -> str:
    """Write a pixel size: one number where both axes have the same."""
    given = attrs.get(name)
    if given is None:
        return ""
    sizes = [float(size) for size in given] if hasattr(given, "__len__") else [float(given)]
    scale, unit = prefixed(max(sizes), "m")
    return (
        "pixel " + " x ".join(f"{size * scale:.4g}" for size in dict.fromkeys(sizes)) + f" {unit}"
    )


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """Draw a line with a head at its end."""
    length = math.hypot(x2 - x1, y2 - y1)
    ux, uy = (x2 - x1) / length, (y2 - y1) / length
    left = f"{x2 - 7 * ux + 3.5 * uy:g} {y2 - 7 * uy - 3.5 * ux:g}"
    right = f"{x2 - 7 * ux - 3.5 * uy:g} {y2 - 7 * uy + 3.5 * ux:g}"
    return f'<path class="line" d="M{x1:g} {y1:g}L{x2:g} {y2:g}M{left}L{x2:g} {y2:g}L{right}"/>'


def _dimensions(kind: str, attrs: Mapping[Any, Any]) -> list[str]:
    """Draw a line with arrows for each distance, one below the other."""
    distance = _number(attrs, DISTANCE)
    if kind == "absolute":
        near = _Place("near detector", _near(kind))
        spans = [
            (OPTIC, near.at, _length("d₁", _number(attrs, NEAR_DISTANCE))),
            (OPTIC, DETECTOR, _length("d₂", distance)),
        ]
    else:
        spans = [(OPTIC, DETECTOR, _length("d", distance))]
        if _downstream(attrs):
            lever = _number(attrs, MEMBRANE_DISTANCE)
            spans.insert(0, (DOWNSTREAM, DETECTOR, _length("m", lever)))
    drawn = []
    source = _number(attrs, SOURCE_DISTANCE)
    if source is not None:
        drawn += _span(SOURCE, OPTIC, FIRST_LINE, _length("L", source))
    for row, (start, end, text) in enumerate(spans):
        drawn += _span(start, end, FIRST_LINE + LINE_STEP * row, text)
    return drawn


def _span(start: float, end: float, y: float, text: str) -> list[str]:
    middle = (start + end) / 2
    return [
        f'<path class="line" style="opacity:.5" d="M{start:g} {y - 9}V{y + 5}M{end:g} {y - 9}'
        f'V{y + 5}"/>',
        _arrow(middle, y, start + 1, y),
        _arrow(middle, y, end - 1, y),
        _label(middle, y - 5, text),
    ]


def _signs(kind: str) -> list[str]:
    """Say the signs beside the axes of a frame as a detector records it."""
    x, y = SOURCE - 15, FIRST_LINE + LINE_STEP + 12
    axes = [
        _arrow(x, y, x + 36, y),
        _arrow(x, y, x, y + 36),
        _label(x + 46, y + 4, X, css="small", anchor="start"),
        _label(x, y + 50, Y, css="small"),
    ]
    said = {
        "absolute": "slope = (p₂ s₂ − p₁ s₁) / (d₂ − d₁), p and s: place and pixel size of each",
        "scanning": "delay τ > 0: the pattern appears at a larger motor position in the sample",
        "self-reference": "result: curvature, the derivative of the slope",
    }.get(kind, "sample(p) = reference(p − u): u > 0 moves speckle to larger pixel numbers")
    return [
        *axes,
        _label(x + 70, y + 22, said, css="small", anchor="start"),
        _label(
            x + 70,
            y + 40,
            "slope = ∇W; a focusing optic has W = −r²/2q and bends rays toward the axis",
            css="small",
            anchor="start",
        ),
    ]
