"""Registration of real speckle: a membrane moved by a stage, an object in the beam, a scale."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

import wavedask as wd

PIXEL = 6.5e-6
DataDir = Callable[[str], Path]


@pytest.mark.parametrize(("step", "expected"), [(1, 31.94), (3, 95.78)])
def test_a_membrane_moved_by_a_stage(
    fourrod: tuple[xr.DataArray, xr.DataArray], step: int, expected: float
) -> None:
    reference, _ = fourrod
    found = wd.register(reference[step], reference[0], pixel_size=(PIXEL, PIXEL))
    middle = np.array(reference.shape[1:]) / 2
    moved = found.matrix @ middle + found.offset - middle
    np.testing.assert_allclose(moved, [0.0, -expected], atol=0.1)
    np.testing.assert_allclose(found.matrix, np.eye(2), atol=5e-4)
    assert found.residual < 0.05


def test_edges_of_an_object_do_not_hold_the_registration(
    fourrod: tuple[xr.DataArray, xr.DataArray],
) -> None:
    """Rods with bright edges stand still, where the membrane behind them has moved."""
    reference, sample = fourrod
    found = wd.register(sample[3], reference[0], pixel_size=(PIXEL, PIXEL))
    middle = np.array(sample.shape[1:]) / 2
    moved = found.matrix @ middle + found.offset - middle
    np.testing.assert_allclose(moved, [0.0, -95.78], atol=0.3)
    assert found.matches > 0.7 * found.points


def test_real_speckle_turned_and_scaled(fourrod: tuple[xr.DataArray, xr.DataArray]) -> None:
    reference, _ = fourrod
    angle, scale, offset = np.deg2rad(-1.2), 0.93, np.array([30.0, 200.0])
    matrix = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    # Another exposure than the one it is looked for in, and another position of the membrane.
    other = ndimage.affine_transform(
        reference.values[1], matrix, offset=offset, output_shape=(400, 1800), order=5
    )
    found = wd.register(xr.DataArray(other, dims=("y", "x")), reference[0])
    np.testing.assert_allclose(found.matrix, matrix, atol=5e-5)
    np.testing.assert_allclose(found.offset, offset - [0.0, 31.94], atol=0.1)
    assert found.rotation == pytest.approx(angle, abs=1e-4)
