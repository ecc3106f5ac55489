"""The drawing of the set-up says each distance, and is well-formed."""

from xml.etree import ElementTree

import pytest

from wavedask.errors import InputError
from wavedask.plot import setup_sketch

DIFFERENTIAL = {"mode": "differential", "distance": 1.0, "pixel_size": [6.5e-7, 6.6e-7]}
ABSOLUTE = {
    "mode": "absolute",
    "distance": 1.25,
    "near_distance": 0.4,
    "pixel_size": 6.5e-7,
    "near_pixel_size": [3e-7, 3e-7],
    "energy_keV": 17.0,
}


def words(drawing: str) -> list[str]:
    root = ElementTree.fromstring(drawing)
    return [str(e.text) for e in root.iter() if e.tag.endswith("}text")]


@pytest.mark.parametrize(
    ("attrs", "there", "absent"),
    [
        (DIFFERENTIAL, ["d = 1 m", "pixel 650 x 660 nm", "beam", "membrane"], ["source"]),
        ({**DIFFERENTIAL, "source_distance": 40.0}, ["L = 40 m", "source"], ["beam"]),
        ({**DIFFERENTIAL, "source_distance": float("inf")}, ["beam"], ["source"]),
        ({**DIFFERENTIAL, "membrane_distance": 0.4}, ["m = 400 mm"], []),
        ({**DIFFERENTIAL, "membrane_distance": 3.0}, ["d = 1 m"], ["m = 3 m"]),
        (ABSOLUTE, ["d₁ = 400 mm", "d₂ = 1.25 m", "17 keV", "near detector"], ["detector"]),
        ({"mode": "absolute"}, ["d₁", "d₂"], []),
    ],
)
def test_distances_stand_on_it(
    attrs: dict[str, object], there: list[str], absent: list[str]
) -> None:
    said = words(setup_sketch(attrs))
    assert set(there) <= set(said)
    assert not set(absent) & set(said)


def test_a_membrane_downstream_is_drawn_downstream() -> None:
    def place(drawing: str, word: str) -> float:
        root = ElementTree.fromstring(drawing)
        (found,) = (e for e in root.iter() if e.text == word)
        return float(found.attrib["x"])

    upstream = setup_sketch(DIFFERENTIAL)
    downstream = setup_sketch({**DIFFERENTIAL, "membrane_distance": 0.4})
    assert place(upstream, "membrane") < place(upstream, "optic")
    assert place(downstream, "optic") < place(downstream, "membrane")


@pytest.mark.parametrize("kind", ["scanning", "self-reference"])
def test_a_scanned_membrane_is_told(kind: str) -> None:
    assert "membrane, scanned" in words(setup_sketch({"distance": 1.0}, kind=kind))  # type: ignore[arg-type] # of a table


def test_an_unknown_kind() -> None:
    with pytest.raises(InputError, match="kind is 'sideways'"):
        setup_sketch({}, kind="sideways")  # type: ignore[arg-type] # the mistake
