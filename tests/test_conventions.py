"""One vocabulary: spelt in one place, complete, and on every result."""

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import wavedask as wd
from wavedask.conventions import (
    FRAME,
    LONG_NAME,
    QUANTITIES,
    RESERVED_NAMES,
    SLOPE_Y,
    UNITS,
    Quantity,
    labelled,
)
from wavedask.simulate import Distortion, displaced_pair, mesh_scan

PACKAGE = Path(wd.__file__).parent

EXCEPTIONS = {
    ("__init__.py", "wavefront"),  # the function
    ("wavefront/__init__.py", "wavefront"),
    ("wavefront/integration.py", "slope_y"),  # the argument, in messages
    ("wavefront/integration.py", "slope_x"),
    ("io/hdf5/bliss.py", "image"),  # the name under which a BLISS file keeps the frames of a camera
    ("io/hdf5/detector.py", "pixel_mask"),  # names of NeXus
    ("io/hdf5/detector.py", "pixel_size_y"),
    ("io/hdf5/detector.py", "pixel_size_x"),
    ("io/hdf5/nexus.py", "image"),
    ("io/euxfel.py", "image"),  # the argument of open_scan, in messages
    ("compute/kinds/kubernetes.py", "reason"),  # keys of Kubernetes
    ("compute/kinds/manifests.py", "image"),
    ("optics/lens_frames.py", "y"),  # arguments of a function that xarray calls
    ("optics/lens_frames.py", "x"),
}
"""Where such a word is not a name of this package, by file and word."""


def docstrings(tree: ast.AST) -> Iterator[ast.expr]:
    """Texts that stand alone: docstrings of modules, classes, functions and constants."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            yield node.value


def spelt(source: str) -> set[tuple[int, str]]:
    """Lines and names of the vocabulary that stand in a source as literals."""
    tree = ast.parse(source)
    words = {id(text) for text in docstrings(tree)}
    return {
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value in RESERVED_NAMES
        and id(node) not in words
    }


def test_a_literal_is_found_where_it_counts() -> None:
    source = '"""frame"""\nds["slope_y"]\nds.sel(frame=0)\ndef f():\n    "y"\n    return {"x": 1}\n'
    assert spelt(source) == {(2, "slope_y"), (6, "x")}


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_other_module_spells_a_name(path: Path) -> None:
    name = path.relative_to(PACKAGE).as_posix()
    if name == "conventions.py":
        pytest.skip("this is where they are spelt")
    found = spelt(path.read_text(encoding="utf-8"))
    assert not {(line, word) for line, word in found if (name, word) not in EXCEPTIONS}


def test_no_exception_outlives_its_reason() -> None:
    for name, word in EXCEPTIONS:
        assert word in {word for _, word in spelt((PACKAGE / name).read_text(encoding="utf-8"))}


@pytest.mark.parametrize("quantity", QUANTITIES.values(), ids=list(QUANTITIES))
def test_every_quantity_is_described(quantity: Quantity) -> None:
    assert quantity.name.isidentifier()
    assert quantity.units == quantity.units.strip() != ""
    assert quantity.long_name == quantity.long_name.strip() != ""


def test_names_and_meanings_are_unique() -> None:
    assert [quantity.name for quantity in QUANTITIES.values()] == list(QUANTITIES)
    assert len({quantity.long_name for quantity in QUANTITIES.values()}) == len(QUANTITIES)
    assert {FRAME, "y", "x", "source_file", "source_index"} <= RESERVED_NAMES


def test_attributes_are_a_copy() -> None:
    SLOPE_Y.attrs["units"] = "m"
    assert SLOPE_Y.attrs["units"] == "rad"


def test_labels_replace_those_of_the_input() -> None:
    array = labelled(
        np.zeros((1, 2, 3)), SLOPE_Y, attrs={"units": "px", "long_name": "u", "camera": "pco"}
    )
    assert array.dims == ("frame", "y", "x")
    assert array.name == "slope_y"
    assert array.attrs == {
        "units": "rad",
        "long_name": "vertical wavefront slope",
        "camera": "pco",
    }
    assert labelled(np.zeros((1, 2, 3)), SLOPE_Y, units="mrad").attrs["units"] == "mrad"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, xr.Dataset]:
    """What each public function that returns labelled data gives, by name."""
    pair = displaced_pair((96, 96), displacement_x=1.3, seed=1)
    sample, reference = (
        xr.DataArray(
            image[None].astype("f4"),
            dims=("frame", "y", "x"),
            coords={"lens_x": ("frame", [0.5], {"units": "mm", "long_name": "lens_x"})},
            attrs={"units": "counts", "long_name": "raw"},
        )
        for image in (pair.sample, pair.reference)
    )
    # Without `lens_x`, which would be the same motor at another position.
    reference = reference.drop_vars("lens_x")
    corrected = wd.correct(sample, flat=reference * 0 + 100)
    tracked = wd.track(sample, reference, window=15, search=4)
    physical = wd.wavefront(tracked, distance=1.0, pixel_size=1e-6, energy=17.0)
    surface = wd.integrate(physical.slope_y, physical.slope_x)
    error = wd.surface_uncertainty(
        physical.slope_uncertainty_y, physical.slope_uncertainty_x, window=15
    )
    lens = wd.optics.fit_lens(physical, delta=1e-6)
    moved = np.stack([np.roll(pair.reference, k, axis=1)[:24, :24] for k in range(10)])
    membrane = {"m_x": ("frame", np.arange(10.0), {"units": "um", "long_name": "m_x"})}
    steps = xr.DataArray(moved, dims=("frame", "y", "x"), coords=membrane)
    scanned = wd.track_scan(steps, steps, motor="m_x", pixel_size=1e-6, search=2)
    one = tracked.isel(frame=0)
    curved = wd.self_reference(one, step=(0, 1e-6), pixel_size=1e-6, distance=1.0)
    store = tmp_path_factory.mktemp("labels") / "r.zarr"
    wd.write_store(store, physical.chunk({"frame": 1}), settings={})
    scan = mesh_scan(Distortion((96, 96)), positions=(2, 2), step=8.0).scan
    calibration = wd.detector_distortion(scan, motor_y="dety", motor_x="detx", window=15)
    return {
        "detector_distortion": calibration,
        "blind_pixels": wd.blind_pixels(reference).to_dataset(name="blind"),
        "combine": wd.combine(tracked),
        "correct": corrected.to_dataset(name="image"),
        "grid": wd.grid(scan, "dety", "detx"),
        "integrate": surface.to_dataset(name="wavefront"),
        "open_store": wd.open_store(store),
        "optics": lens,
        "self_reference": curved,
        "surface_uncertainty": error.to_dataset(),
        "track": tracked,
        "track_scan": scanned,
        "visibility_uncertainty": wd.visibility_uncertainty(tracked, sample),
        "wavefront": physical,
    }


UNLABELLED = {
    "Budget",
    "Wave",
    "nearest",
    "select",
    "to_csv",
    "to_nexus",
    "to_tiff",
    "where_motors",
    "Registration",
    "budget",
    "connect",
    "register",
    "CrossSpot",
    "DetectorNoise",
    "SpeckleReport",
    "StoreReport",
    "cross_spot",
    "describe_residual",
    "describe_speckle",
    "errors",
    "input_files",
    "mesh",
    "open_scan",
    "plot",
    "refresh",
    "show_progress",
    "simulate",
    "why_missing",
    "write_report",
    "write_store",
}
"""Public names that return no labelled result, or frames as they are; open_scan is tested."""

LABELLED = sorted(set(wd.__all__) - UNLABELLED)


@pytest.mark.parametrize("function", LABELLED)
def test_results_say_what_they_are(function: str, outputs: dict[str, xr.Dataset]) -> None:
    result = outputs[function]
    assert result.data_vars
    for name, variable in result.variables.items():
        assert variable.attrs.get(UNITS), f"{name} of {function} has no units"
        assert variable.attrs.get(LONG_NAME), f"{name} of {function} has no long_name"
        quantity = QUANTITIES.get(str(name))
        if quantity is not None and name != "image":
            assert variable.attrs[UNITS] == quantity.units
            assert variable.attrs[LONG_NAME] == quantity.long_name
