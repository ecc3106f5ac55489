"""Another user of the machine, who uses a store in a folder that everybody may write.

Called with the user's number and the path of a store; everything is imported before the user
changes, since that user may not be able to read the installation. Prints what came of it, as JSON.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import xarray as xr

import wavedask as wd
from wavedask.errors import WavedaskError
from wavedask.store import verify


def result() -> xr.Dataset:
    """Four frames of ones."""
    ones = da.ones((4, 8, 8), chunks=(1, 8, 8))
    return xr.Dataset({"slope": (("frame", "y", "x"), ones)})


def write(path: Path, **options: Any) -> Any:
    """Write these frames."""
    return wd.write_store(path, result(), settings={}, progress=False, **options).written


def outcome(act: Any) -> Any:
    """What an act returns, or the error that it ends with."""
    try:
        return act()
    except WavedaskError as error:
        return f"{type(error).__name__}: {error}"


def main(user: int, path: Path) -> None:
    """Change the user, and use the store."""
    with dask.config.set(scheduler="synchronous"):
        with tempfile.TemporaryDirectory() as folder:
            # Much is imported at its first use only.
            write(Path(folder, "r.zarr"))
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        acts = {
            "read": lambda: int(wd.open_store(path).load().complete.sum()),
            "verify": lambda: verify(path, progress=False).sound,
            "write": lambda: write(path),
            "repair": lambda: write(path, repair=True),
            "beside": lambda: write(path.with_name("beside.zarr")),
            "locked": lambda: write(path.with_name("locked.zarr")),
        }
        print(json.dumps({name: outcome(act) for name, act in acts.items()}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
