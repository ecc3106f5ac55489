"""The floors of the package as a picture: drawn at each build from the contract and the imports."""

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PACKAGE = "wavedask"
PICTURE = "api/generated/floors.svg"
CONTRACT = "The floors of the package: an import only goes down"

LABELS = 170
"""Width of the column of names, in pixels of the picture."""
CELL = 26
HEADER = 100
"""Height of the names above the columns."""

Edges = Mapping[tuple[str, str], int]


def floors_of(pyproject: Path) -> list[list[str]]:
    """Read the floors from the layers contract, from the top floor down."""
    contracts = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["importlinter"]
    (layers,) = (item["layers"] for item in contracts["contracts"] if item["name"] == CONTRACT)
    return [floor.replace(":", "|").replace(" ", "").split("|") for floor in layers]


def imports_of(package: str) -> Edges:
    """Count the import statements from one wing or module at the root to another."""
    import grimp  # of the docs extra: the tests of the picture do without it

    graph = grimp.build_graph(package)
    edges: Counter[tuple[str, str]] = Counter()
    for module in graph.modules - {package}:
        for imported in graph.find_modules_directly_imported_by(module) - {package}:
            here, there = (name.split(".")[1] for name in (module, imported))
            if here != there:
                details = graph.get_import_details(importer=module, imported=imported)
                edges[here, there] += len(details)
    return edges


def picture(floors: Sequence[Sequence[str]], edges: Edges) -> str:
    """Draw a matrix: a row per importing module, a column per imported one, a square per pair.

    Parameters
    ----------
    floors : sequence of sequences of str
        Modules of each floor, from the top floor down.
    edges : mapping of (str, str) to int
        Number of imports from the first module to the second.

    Returns
    -------
    str
        An SVG element. Lines are in the colour of the text around it.

    Raises
    ------
    ValueError
        If a module is on no floor, or if an import goes up.
    """
    names = [name for floor in floors for name in floor]
    row = {name: index for index, name in enumerate(names)}
    level = {name: index for index, floor in enumerate(floors) for name in floor}
    for here, there in edges:
        if here not in level or there not in level:
            raise ValueError(f"{here} imports {there}, and one of them is on no floor")
        if level[here] > level[there]:
            raise ValueError(f"{here} imports {there}, which is on a floor above it")
    side = CELL * len(names)
    width, height = LABELS + side + 8, HEADER + side + 8
    parts = [
        f'<svg class="floors" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" style="max-width: 100%" role="img" font-size="13"'
        ' font-family="monospace" fill="currentColor">',
        "<title>Imports between the wings: every import goes to a lower floor</title>",
    ]
    top = HEADER
    for index, floor in enumerate(floors):
        tall = CELL * len(floor)
        shade = 0.10 if index % 2 == 0 else 0.03
        parts.append(
            f'<rect x="0" y="{top}" width="{LABELS + side}" height="{tall}"'
            f' fill-opacity="{shade}"/>'
            f'<text x="6" y="{top + tall / 2 + 4}" fill-opacity="0.6">{len(floors) - index}</text>'
        )
        top += tall
    for name, place in row.items():
        middle = HEADER + CELL * place + CELL / 2
        across = LABELS + CELL * place + CELL / 2
        shown = escape(name)
        parts.append(
            f'<text x="{LABELS - 8}" y="{middle + 4}" text-anchor="end">{shown}</text>'
            f'<text transform="translate({across + 4} {HEADER - 8}) rotate(-60)">{shown}</text>'
            f'<rect x="{across - CELL / 2 + 2}" y="{middle - CELL / 2 + 2}" width="{CELL - 4}"'
            f' height="{CELL - 4}" fill-opacity="0.25"/>'
        )
    for (here, there), count in sorted(edges.items()):
        x, y = LABELS + CELL * row[there], HEADER + CELL * row[here]
        parts.append(
            f'<rect x="{x + 2}" y="{y + 2}" width="{CELL - 4}" height="{CELL - 4}"'
            f' fill="#1f77b4" fill-opacity="{min(0.25 + 0.05 * count, 0.95):.2f}">'
            f"<title>{escape(here)} imports {escape(there)}: {count}</title></rect>"
            f'<text x="{x + CELL / 2}" y="{y + CELL / 2 + 4}" text-anchor="middle"'
            f' font-size="11">{count}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def write_picture(app: "Sphinx") -> None:
    """Write the picture where the page on the architecture includes it."""
    floors = floors_of(Path(app.srcdir).parent / "pyproject.toml")
    drawn = Path(app.srcdir, PICTURE)
    drawn.parent.mkdir(parents=True, exist_ok=True)
    drawn.write_text(picture(floors, imports_of(PACKAGE)), encoding="utf-8")


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register what is done at build time."""
    app.connect("builder-inited", write_picture)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
