"""The compiled correlation against that of OpenCV, and images of even contrast."""

import numpy as np
import pytest

from wavedask.kernels.fields import Reason
from wavedask.kernels.start.correlation import Areas, correlate_compiled, correlate_opencv
from wavedask.kernels.start.images import MaskedImage
from wavedask.kernels.start.rigid import EVEN, _flattened
from wavedask.simulate import displaced_pair


@pytest.mark.parametrize(("window", "search", "images"), [(11, 4, 1), (21, 9, 1), (15, 3, 3)])
def test_both_correlations_find_the_same_peaks(window: int, search: int, images: int) -> None:
    side = 120
    random = np.random.default_rng(window)
    pairs = []
    for seed in range(images):
        pair = displaced_pair((side, side), displacement_y=1.3, displacement_x=-2.6, seed=seed)
        sample, reference = (np.array(image, np.float32) for image in (pair.sample, pair.reference))
        sample[80:, :40] = random.random((40, 40)) * 500  # nothing there to find
        sample[60:72, 60:72] = 1000  # flat
        reference[:50, 70:] = np.tile(reference[:50, 70:76], (1, 9))[:, :50]  # periodic
        sample[:50, 70:] = np.roll(reference[:50, 70:], 1, 0)
        reference[50:75, 90:100] = np.nan
        reference[random.random((side, side)) < 0.02] = np.nan
        pairs.append(
            (
                MaskedImage(sample, margin=window // 2, window=window),
                MaskedImage(reference, margin=window + search, window=window),
            )
        )
    line = np.arange(0, side, 7)
    at_y, at_x = (grid.ravel() for grid in np.meshgrid(line, line, indexing="ij"))
    shift = window + search - window // 2 - search
    areas = Areas(window, search, 0.1 * window**2, True, at_y, at_x, at_y + shift, at_x + shift)
    areas.area_tops[:3] = -1
    expected, found = correlate_opencv(pairs, areas), correlate_compiled(pairs, areas)
    clear = expected.patches[:, 1, 1] > 0.5
    np.testing.assert_array_equal(found.reasons, expected.reasons)
    np.testing.assert_array_equal(found.offsets[clear], expected.offsets[clear])
    np.testing.assert_allclose(found.patches, expected.patches, atol=2e-5)
    met = {Reason(code) for code in expected.reasons}
    assert met >= {Reason.BORDER, Reason.SEARCH_LIMIT, Reason.AMBIGUOUS, Reason.NOT_CONVERGED}


def test_contrast_is_made_even_from_what_is_known_around_a_pixel() -> None:
    random = np.random.default_rng(2)
    image = (6e4 + 50 * random.standard_normal((70, 90)) * np.linspace(1, 5, 90)).astype(np.float32)
    half = EVEN // 2
    for missing in (0, 0.1):
        known = random.random(image.shape) >= missing
        values = np.where(known, image, np.float32(np.nan))

        def box(field: np.ndarray, y: int, x: int) -> np.ndarray:
            return field[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]

        def mean(field: np.ndarray) -> np.ndarray:
            rows, columns = field.shape
            return np.array(
                [[np.nanmean(box(field, y, x)) for x in range(columns)] for y in range(rows)]
            )

        departure = values.astype(np.float64) - mean(values.astype(np.float64))
        expected = np.nan_to_num(departure / np.sqrt(mean(departure**2)))
        np.testing.assert_allclose(_flattened(values), expected, atol=2e-3)
    assert not _flattened(np.full((40, 40), 7.0)).any()
