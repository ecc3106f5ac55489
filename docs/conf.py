"""Sphinx configuration: all pages, the reference and the notebooks; needs no network."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx

from wavedask.conventions import QUANTITIES
from wavedask.plot import setup_sketch

project = "wavedask"
author = "the wavedask developers"
copyright = author
release = version_of("wavedask")
version = release

sys.path.insert(0, str(Path(__file__).parent))
extensions = [
    "floors",
    "mathml",
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
]
GENERATED = "api/generated"
QUANTITY_TABLE = f"{GENERATED}/quantities.md"
exclude_patterns = ["_build", "figures", QUANTITY_TABLE, "jupyter_execute", "**/.ipynb_checkpoints"]
templates_path = ["_templates"]
suppress_warnings = ["config.cache"]

# A single backtick in a docstring is a reference where it names something, else plain code.
default_role = "py:obj"
add_module_names = False
python_maximum_signature_line_length = 88
autosummary_generate = True
autosummary_imported_members = False
autodoc_typehints = "none"  # the docstrings give types, shapes and units
autodoc_preserve_defaults = True
# The members of a class have pages of their own, or are listed by its docstring.
numpydoc_show_class_members = False

myst_enable_extensions = ["deflist", "dollarmath", "smartquotes"]
myst_heading_anchors = 3

# Executed at each build: a stored output would hide a change of the package.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_show_tb = True
nb_merge_streams = True

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "wavedask"
html_static_path = ["_static"]
html_css_files = ["wavedask.css"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "navbar_center": [],  # the side bar has all pages, in the four parts of the front page
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
}
html_sidebars = {"**": ["parts.html"]}


def write_quantity_table(app: Sphinx) -> None:
    """Write the table of all quantities, as the code has them."""
    lines = ["| name | meaning | unit |", "|---|---|---|"]
    for quantity in QUANTITIES.values():
        lines.append(f"| `{quantity.name}` | {quantity.long_name} | {quantity.units} |")
    table = Path(app.srcdir, QUANTITY_TABLE)
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw_setups(app: Sphinx) -> None:
    """Draw the set-up of each mode, as the report of a result does."""
    numbers = {
        "differential": {"source_distance": 40.0, "distance": 1.0, "energy_keV": 17.0},
        "absolute": {"near_distance": 0.5, "distance": 1.0, "energy_keV": 17.0},
        "scanning": {"distance": 1.0, "energy_keV": 17.0},
    }
    for kind, attrs in numbers.items():
        drawing = Path(app.srcdir, GENERATED, f"setup_{kind}.svg")
        drawing.parent.mkdir(parents=True, exist_ok=True)
        drawing.write_text(setup_sketch(attrs, kind=kind), encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register what is done at build time."""
    app.connect("builder-inited", draw_setups)
    app.connect("builder-inited", write_quantity_table)
