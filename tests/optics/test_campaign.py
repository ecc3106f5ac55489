"""The table of a campaign has a row for each frame, with motors, numbers and errors."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.delayed import delayed

from wavedask.errors import InputError
from wavedask.optics import fit_lens, table, zernike

RADII = np.array([3.0, 4.0, 5.0])


def wavefronts() -> xr.Dataset:
    axis = np.linspace(-1e-4, 1e-4, 41)
    square = axis[:, None] ** 2 + axis**2
    dims = ("frame", "y", "x")
    slopes = {
        f"slope_{name}": (dims, -np.broadcast_to(p, (41, 41)) / RADII[:, None, None])
        for name, p in (("y", axis[:, None]), ("x", axis))
    }
    return xr.Dataset(
        {"wavefront": (dims, -square / (2 * RADII[:, None, None])), **slopes},
        {"y": axis, "x": axis, "lens_x": ("frame", [0.0, 1.0, 2.0], {"units": "mm"})},
        {"distance": 1.0},
    ).chunk({"frame": 1})


def test_a_campaign_of_lenses() -> None:
    found = fit_lens(wavefronts(), delta=1e-6, aperture=None)
    rows = table(found)
    assert list(rows.columns[:3]) == ["lens_x", "focal_length", "focal_length_uncertainty"]
    np.testing.assert_allclose(rows["focal_length"], RADII + 1)
    assert rows.attrs["units"]["lens_x"] == "mm"
    assert rows.attrs["units"]["radius"] == "m"
    assert "residual" not in rows


def test_modes_have_columns_of_their_own_and_maps_are_not_computed() -> None:
    found = zernike(wavefronts(), order=2)

    def fail() -> None:
        raise AssertionError("a map was computed")

    map_of_frames = da.from_delayed(delayed(fail)(), (3, 41, 41), float)
    rows = table(found.assign(residual=(("frame", "y", "x"), map_of_frames)))
    assert rows["mode_defocus"].is_monotonic_increasing
    assert "mode_defocus_uncertainty" in rows
    one = table(found.isel(frame=0))
    assert one["mode_defocus"].tolist() == rows["mode_defocus"].tolist()[:1]


def test_maps_alone_are_no_campaign() -> None:
    with pytest.raises(InputError, match="no number of a frame"):
        table(wavefronts())
