"""What the start of the dense tracker is found from."""

import cv2
import numpy as np

from wavedask.kernels.start.coarse import PATCHED, patched


def test_lone_gaps_get_the_gaussian_mean_around_them_and_wide_ones_stay() -> None:
    random = np.random.default_rng(3)
    image = random.poisson(60_000, (40, 50)).astype(np.float32)
    image[random.random(image.shape) < 0.05] = np.nan
    image[10:20, 30:40] = np.nan
    image[:, -2:] = -np.inf
    known = np.isfinite(image)
    level = image[known].mean(dtype=np.float64)
    weight = known.astype(np.float64)
    mean = cv2.GaussianBlur(np.where(known, image - level, 0), (5, 5), 1.0)
    mean = level + mean / np.maximum(cv2.GaussianBlur(weight, (5, 5), 1.0), 1e-6)
    alone = ~known & (cv2.blur(weight, (5, 5)) >= PATCHED)
    assert alone.sum() > 50
    before = image.copy()
    (found,) = patched(image[None])
    inner = (slice(2, -2),) * 2  # OpenCV mirrors the image at its border
    np.testing.assert_array_equal(np.isfinite(found)[inner], (known | alone)[inner])
    np.testing.assert_allclose(found[inner][alone[inner]], mean[inner][alone[inner]], rtol=1e-5)
    np.testing.assert_array_equal(found[known], before[known])
    np.testing.assert_array_equal(image, before)


def test_images_without_gaps_are_not_copied() -> None:
    images = np.ones((2, 5, 5), np.float32)
    assert patched(images) is images


def test_a_gap_in_a_corner_is_filled_from_what_lies_in_the_frame() -> None:
    images = np.full((1, 6, 6), 7, np.float32)
    images[0, 0, 0] = np.nan
    np.testing.assert_allclose(patched(images), 7, rtol=1e-6)
