"""Start the notebook server of a user: put the notebooks into the home folder, then be the server.

JupyterHub runs this as the user (`c.Spawner.cmd`), so no file is written with the rights of root.
A notebook that is already there is left as it is: it may hold the user's own changes.
"""

import os
import sys
from pathlib import Path

import jupytext
from nbformat.v4 import new_code_cell, new_markdown_cell

FOLDER = "wavedask"
SAYS = """## Dask workers

The next cell starts workers on the Dask Gateway of this hub. What follows computes there. The link
shows what the workers do. `client.close()`, or the end of the kernel, stops them."""
CONNECT = 'client = wd.connect("gateway")\nclient'


def with_workers(source: Path) -> object:
    """Read a notebook; add the cells that start the workers, after its imports."""
    notebook = jupytext.read(source)
    imports = "import wavedask as wd"
    places = [i for i, cell in enumerate(notebook.cells) if imports in cell.source]
    if places:
        cells = [new_markdown_cell(SAYS), new_code_cell(CONNECT)]
        notebook.cells[places[0] + 1 : places[0] + 1] = cells
    return notebook


def copy_notebooks(source: Path, folder: Path) -> None:
    """Write the notebooks that are not there yet."""
    folder.mkdir(exist_ok=True)
    for file in sorted(source.glob("*.md")):
        place = folder / f"{file.stem}.ipynb"
        if not place.exists():
            jupytext.write(with_workers(file), place)


if __name__ == "__main__":
    try:
        copy_notebooks(Path(os.environ["WAVEDASK_HUB_NOTEBOOKS"]), Path.home() / FOLDER)
    except OSError as error:  # a full disk, for example: the user needs the server to clear it
        print(f"the notebooks were not copied: {error}", file=sys.stderr)
    os.execv(sys.executable, [sys.executable, "-m", "jupyterhub.singleuser", *sys.argv[1:]])
