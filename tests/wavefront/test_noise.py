"""Standard errors of integrated surfaces: kinds of arrays, windows, and the size of the graph."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.blockwise import Blockwise
from numpy.typing import NDArray

import wavedask as wd

FRAMES, ROWS, COLUMNS = 3, 64, 56


def sigmas() -> NDArray[np.float32]:
    """Errors of slopes, with a gap in the second frame and none at all in the last."""
    found = np.random.default_rng(5).uniform(1e-7, 2e-7, (FRAMES, ROWS, COLUMNS))
    found[1, 5:9, 3:8] = np.inf
    found[2] = np.inf
    return found.astype(np.float32)


@pytest.mark.parametrize("dims", [("frame", "y", "x"), ("y", "frame", "x")])
def test_window_pixel_by_pixel_is_its_mean_where_there_are_data(dims: tuple[str, ...]) -> None:
    sigma = xr.DataArray(sigmas(), dims=("frame", "y", "x"))
    pixels = xr.DataArray(np.random.default_rng(6).uniform(1, 5, sigma.shape), dims=sigma.dims)
    each = pixels.where(np.isfinite(sigma)).mean(("y", "x"))
    by_frame = wd.surface_uncertainty(sigma, sigma, window=each)
    by_pixel = wd.surface_uncertainty(sigma, sigma, window=pixels.transpose(*dims))
    xr.testing.assert_allclose(by_pixel, by_frame, rtol=1e-6)
    assert np.isfinite(by_frame.values).any(axis=(1, 2)).tolist() == [True, True, False]
    for frame in range(FRAMES):
        one = wd.surface_uncertainty(
            sigma[frame].values, sigma[frame].values, window=float(each[frame].fillna(1))
        )
        np.testing.assert_allclose(by_frame[frame], one, rtol=1e-6)


def test_lazy_errors_equal_those_in_memory_with_weights_too() -> None:
    sigma = sigmas()
    weights = np.random.default_rng(7).uniform(0.5, 1, (ROWS, COLUMNS)).astype(np.float32)
    expected = wd.surface_uncertainty(sigma, sigma, window=3, weights=weights)
    lazy = da.from_array(sigma, chunks=(2, 7, 9))
    found = wd.surface_uncertainty(lazy, lazy, window=3, weights=weights)
    assert isinstance(found, da.Array)
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found.compute(), expected)


def test_a_wavefront_has_no_layer_with_a_task_for_each_frame() -> None:
    frames = 50
    maps = da.ones((frames, 8, 8), chunks=(1, 8, 8), dtype=np.float32)
    names = ("displacement_y", "displacement_x", "uncertainty_y", "uncertainty_x", "window")
    tracking = xr.Dataset(dict.fromkeys(names, (("frame", "y", "x"), maps)))
    result = wd.wavefront(tracking, distance=1.0, pixel_size=1e-6, energy=17.0)
    assert "wavefront_uncertainty" in result
    for variable in result.data_vars.values():
        for layer in variable.data.dask.layers.values():
            assert isinstance(layer, Blockwise) or len(layer) < frames
