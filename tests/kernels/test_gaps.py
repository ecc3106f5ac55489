"""Images without single wrong pixels, of zero mean and unit deviation."""

import cv2
import numpy as np
import pytest

from wavedask.kernels.gaps import LEAST_USUAL, SAMPLED, SPIKE, SURROUNDINGS, centred, without_spikes


def spikes_by_full_passes(image: np.ndarray) -> np.ndarray:
    """Find spikes as their definition says, with the surroundings of every pixel."""
    known = np.isfinite(image)
    values = np.where(known, image, np.float32(image[known].mean(dtype=np.float64)))
    away = np.where(known, np.abs(values - cv2.medianBlur(values, 3)), 0).astype(np.float64)
    away /= away[::SAMPLED, ::SAMPLED].mean()
    square = np.square(np.minimum(away, SPIKE))
    around = cv2.blur(square, (SURROUNDINGS, SURROUNDINGS))
    return np.square(away) > SPIKE**2 * np.maximum(around, LEAST_USUAL**2)


@pytest.mark.parametrize("shape", [(40, 70), (131, 90), (20, 33)])
@pytest.mark.parametrize("share", [0.001, 0.03])
@pytest.mark.parametrize("gaps", [False, True])
def test_spikes_are_those_of_their_definition(
    shape: tuple[int, int], share: float, gaps: bool
) -> None:
    random = np.random.default_rng(shape[0])
    image = random.poisson(100 + 60 * np.sin(np.arange(shape[1]) / 9), shape).astype(np.float32)
    hot = random.random(shape) < share
    hot[0, 0] = hot[-1, -2] = True
    image[hot] += random.uniform(30, 900, hot.sum()).astype(np.float32)
    if gaps:
        image[random.random(shape) < 0.02] = np.nan
        image[:, -4:] = -np.inf
    expected = spikes_by_full_passes(image)
    found = without_spikes(image)
    assert expected.any()
    assert np.array_equal(np.isnan(found), np.isnan(image) | expected)
    assert np.array_equal(found[~expected], image[~expected], equal_nan=True)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_images_are_centred_and_their_gaps_filled(scale: float) -> None:
    random = np.random.default_rng(1)
    images = (scale * (6e4 + 200 * random.standard_normal((2, 50, 60)))).astype(np.float32)
    images[0, 20, 30] = np.nan
    known = np.isfinite(images)
    out, offset, unit = centred(images, known)
    there = out[known].astype(np.float64)
    assert offset == pytest.approx(scale * 6e4, rel=1e-3)
    assert unit == pytest.approx(scale * 200, rel=0.05)
    assert (there.mean(), there.std()) == pytest.approx((0, 1), abs=1e-4)
    assert abs(out[0, 20, 30]) < 4
    flat, _, one = centred(np.full((1, 5, 5), 7, np.float32), np.ones((1, 5, 5), np.bool_))
    assert not flat.any()
    assert one == 1
