"""Each method of ds.wave is the function of its name, on the dataset."""

import inspect

import numpy as np
import pytest
import xarray as xr

import wavedask as wd
from wavedask.accessor import Wave

METHODS = sorted(
    name for name, value in vars(Wave).items() if inspect.isfunction(value) and name[0] != "_"
)
OPTICS = {
    *("fit_lens", "fit_wavefront", "zernike", "legendre", "remove", "lens_contributions"),
    *("mirror", "kb_pair", "find_focus", "propagate", "psd", "stitch", "compare", "table"),
}
RENAMED = {
    "query": wd.select,
    "plot": wd.plot.plot_dataset,
    **{name: getattr(wd.optics, name) for name in OPTICS},
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_the_function_on_the_dataset(name: str) -> None:
    function = RENAMED.get(name) or getattr(wd, name)
    method = getattr(Wave, name)
    assert method.__wrapped__ is function
    assert method.__doc__ == function.__doc__
    first = next(iter(inspect.signature(function).parameters.values()))
    assert first.kind is not first.KEYWORD_ONLY


def test_every_function_that_takes_a_dataset_first_is_a_method() -> None:
    takes_data = {
        name
        for name in wd.__all__
        if inspect.isfunction(function := getattr(wd, name))
        and any(
            kind in str(next(iter(inspect.signature(function).parameters.values())).annotation)
            for kind in ("Dataset", "Labelled")
        )
    }
    renamed = {"select": "query"}
    # The others take images before and after: input_files and register are about those.
    assert {renamed.get(name, name) for name in takes_data} - {"input_files", "register"} <= {
        *METHODS
    }


def test_every_function_of_optics_that_takes_a_result_is_a_method() -> None:
    takes_data = {
        name
        for name in wd.optics.__all__
        if inspect.isfunction(function := getattr(wd.optics, name))
        and next(iter(inspect.signature(function).parameters.values())).annotation is xr.Dataset
    }
    assert takes_data == OPTICS


def test_chained_on_a_scan() -> None:
    image = np.random.default_rng(0).uniform(1, 2, (3, 8, 8))
    scan = xr.Dataset(
        {"image": (("frame", "y", "x"), image, {"units": "counts"})},
        {"energy": ("frame", [16.0, 17.0, 18.0])},
    )
    corrected = scan.wave.query("energy > 16").wave.correct()
    np.testing.assert_allclose(corrected, image[1:].astype("f4"))
