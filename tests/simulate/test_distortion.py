"""A detector with a known distortion: its inverse, its scan, and its gauge."""

import numpy as np
import pytest

from wavedask.errors import InputError
from wavedask.simulate import Distortion, Feature, mesh_scan

SHAPE = (64, 96)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float64)
BENT = Distortion(SHAPE, barrel=0.8, features=(Feature((20.0, 60.0), (0.3, -0.2), 20.0),))


def test_a_barrel_and_a_feature() -> None:
    f_y, f_x = Distortion(SHAPE, barrel=0.8)(Y, X)
    assert f_y[-1, -1] == pytest.approx(0.8)
    assert f_x[0, 0] == pytest.approx(-0.8)
    with_y, with_x = BENT(Y, X)
    assert with_y[20, 60] - f_y[20, 60] == pytest.approx(0.3)
    assert with_x[20, 70] - f_x[20, 70] == pytest.approx(-0.1)  # half the width from the centre


def test_the_inverse_undoes_it() -> None:
    at_y, at_x = BENT.distorted(Y, X)
    f_y, f_x = BENT(at_y, at_x)
    assert np.abs(at_y + f_y - Y).max() < 1e-9
    assert np.abs(at_x + f_x - X).max() < 1e-9


def test_a_distortion_that_folds_is_refused() -> None:
    with pytest.raises(InputError, match="px per px"):
        Distortion(SHAPE, barrel=20.0)
    with pytest.raises(InputError, match="px per px"):
        Distortion(SHAPE, features=(Feature((9.0, 9.0), (3.0, 0.0), 4.0),))
    with pytest.raises(InputError, match="0 px wide"):
        Distortion(SHAPE, features=(Feature((9.0, 9.0), (3.0, 0.0), 0.0),))


def test_a_feature_of_the_beam_stands_still_at_true_positions() -> None:
    mesh = mesh_scan(BENT, positions=(2, 2), step=(4.0, 6.0), noise=False)
    first, beside = mesh.scan.image.values[:2]
    # What the first frame sees at p, the other sees at p' with p' + f(p') = p + f(p) - move.
    f_y, f_x = BENT(Y, X)
    move = mesh.positions[1] - mesh.positions[0]
    assert move == pytest.approx([0.0, 6.0])
    at_y, at_x = BENT.distorted(Y + f_y - move[0], X + f_x - move[1])
    inside = (at_x > 12) & (at_x < 84) & (at_y > 8) & (at_y < 56)
    from wavedask.kernels.resample import resampled

    again = resampled(beside, at_y, at_x, order=5)
    assert np.abs(again - first)[inside].max() < 1e-3 * first.mean()


def test_motors_and_matrix() -> None:
    scan = mesh_scan(
        Distortion(SHAPE),
        positions=(3, 2),
        step=5.0,
        pixel_size=(2e-6, 1e-6),
        rotation=0.01,
        backward=(False, True),
        jitter=0.3,
        seed=4,
    )
    assert dict(scan.scan.sizes) == {"frame": 6, "y": 64, "x": 96}
    readings = np.stack([scan.scan.dety, scan.scan.detx], axis=1)
    assert scan.scan.dety.units == "m"
    assert np.allclose(readings @ scan.matrix.T, scan.positions)
    assert scan.matrix[0, 0] == pytest.approx(np.cos(0.01) / 2e-6)
    assert scan.matrix[1, 1] == pytest.approx(-np.cos(0.01) / 1e-6)
    blind = mesh_scan(
        Distortion(SHAPE), positions=(3, 2), step=5.0, jitter=0.3, readback=False, noise=False
    )
    missed = blind.positions - np.stack([blind.scan.dety, blind.scan.detx], 1) @ blind.matrix.T
    assert 0.1 < missed.std() < 0.6


def test_frames_in_an_order_of_their_own() -> None:
    all_of_it = mesh_scan(BENT, positions=(2, 2), step=4.0, seed=1)
    some = mesh_scan(BENT, positions=(2, 2), step=4.0, seed=1, frames=[3, 0])
    assert np.array_equal(some.scan.image[0], all_of_it.scan.image[3])
    assert np.array_equal(some.scan.detx, all_of_it.scan.detx[[3, 0]])


def test_the_gauge_has_no_affine_part_and_tells_the_same() -> None:
    mesh = mesh_scan(BENT, positions=(2, 2), step=4.0, noise=False)
    valid = X > 10
    f_y, f_x, matrix = mesh.truth(valid)
    terms = np.stack([Y[valid], X[valid], np.ones(valid.sum())], axis=1)
    for f in (f_y, f_x):
        assert np.abs(np.linalg.lstsq(terms, f[valid], rcond=None)[0]).max() < 1e-12
    # True coordinates of both gauges differ by an affine map, and matrices by its linear part.
    change = matrix @ np.linalg.inv(mesh.matrix)
    g_y, g_x = BENT(Y, X)
    ours = np.stack([Y + f_y, X + f_x])
    theirs = np.einsum("ij,jyx->iyx", change, np.stack([Y + g_y, X + g_x]))
    offset = (ours - theirs).reshape(2, -1)
    assert np.ptp(offset, axis=1).max() < 1e-9
