"""Dark field without the bias of photon noise."""

import numpy as np
import pytest

import wavedask as wd
from wavedask.kernels.visibility import noise_share, visibility_gain
from wavedask.simulate import displaced_pair, speckle_field

INSIDE = np.s_[30:-30, 30:-30]


@pytest.mark.parametrize(("counts", "share"), [(20.0, 0.444), (200.0, 0.074), (8000.0, 0.002)])
def test_the_share_of_the_noise(counts: float, share: float) -> None:
    image = displaced_pair((160, 160), counts=counts, seed=4).reference
    centred = ((image - image.mean()) / image.std())[None]
    line = np.arange(30, 130, 4)
    found = noise_share(centred, np.ones_like(centred), window=41, rows=line, columns=line)
    assert np.mean(found) == pytest.approx(share, rel=0.08, abs=0.002)


def test_gaps_are_no_noise() -> None:
    image = displaced_pair((160, 160), counts=2000.0, seed=4).reference
    centred = ((image - image.mean()) / image.std())[None]
    known = np.ones_like(centred)
    known[0, ::9, ::7] = 0
    line = np.arange(160)
    whole, cut = (
        noise_share(centred * there, there, window=41, rows=line, columns=line)
        for there in (np.ones_like(known), known)
    )
    assert np.mean(cut[INSIDE]) == pytest.approx(np.mean(whole[INSIDE]), rel=0.15)
    # A window at the border holds less, and no other share of noise.
    assert np.mean(cut) == pytest.approx(np.mean(cut[INSIDE]), rel=0.1)


def test_a_match_worse_than_noise_explains_keeps_its_gain() -> None:
    """Speckle that decorrelates is no photon noise: it lowers the dark field."""
    one = np.ones(1, np.float32)
    zero = 0 * one
    without = visibility_gain(0.7 * one, 0.7 * one, zero, (one, one), (zero, zero), order=3)
    np.testing.assert_allclose(without, 0.7)
    # And noise cannot be more than the match allows.
    most = visibility_gain(0.7 * one, 0.7 * one, one, (one, one), (zero, zero), order=3)
    np.testing.assert_allclose(most, 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("counts", "contrast"), [(8000.0, 0.25), (2000.0, 0.06), (200.0, 0.25), (50.0, 0.25)]
)
def test_the_dark_field_of_nothing_is_one(counts: float, contrast: float) -> None:
    """It was 0.91 at a contrast of 0.06, and 0.74 at 50 counts."""
    found = []
    for seed in range(2):
        pair = displaced_pair(
            (200, 200), displacement_x=0.4, counts=counts, contrast=contrast, seed=seed
        )
        result = wd.cross_spot(pair.sample, pair.reference, window=21, search=4)
        found.append(np.nanmean(result.dark_field[INSIDE]))
        assert np.nanmean(result.transmission[INSIDE]) == pytest.approx(1, abs=0.005)
    assert np.mean(found) == pytest.approx(1, abs=0.02)


def test_the_dark_field_of_a_scattering_absorber() -> None:
    speckle = speckle_field(220, seed=2)
    y, x = np.mgrid[:200, :200].astype(float)
    rng = np.random.default_rng(0)
    sample = rng.poisson(150 * 0.6 * (1 + 0.5 * (speckle(y, x - 0.3) - 1))).astype(np.float32)
    reference = rng.poisson(150 * speckle(y, x)).astype(np.float32)
    result = wd.cross_spot(sample, reference, window=21, search=4)
    assert np.nanmean(result.dark_field[INSIDE]) == pytest.approx(0.5, abs=0.02)
    assert np.nanmean(result.transmission[INSIDE]) == pytest.approx(0.6, abs=0.005)
