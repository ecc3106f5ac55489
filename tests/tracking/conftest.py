"""What the tests of tracking share."""

import pytest

from wavedask.tracking import crossspot


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of small test images become tiles, and are not merged to blocks of usual size."""
    monkeypatch.setattr(crossspot, "LEAST_TILE", 1)
