"""What tiles cost: pixels that are tracked for their halo, and bytes that are copied on the way."""

from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask.callbacks import Callback
from numpy.typing import NDArray

import wavedask as wd
from wavedask.kernels.dense import Dense
from wavedask.kernels.fields import Fields
from wavedask.kernels.tile import Tile
from wavedask.tracking import crossspot, matching, moving

USUAL_TILE = crossspot.LEAST_TILE
ROWS, COLUMNS = 5120, 2048
OPTIONS: dict[str, Any] = {"window": 21, "search": 8}
HALO = Dense((21,), 8, 0.8, 3).halo


class Copied(Callback):
    """Bytes of the arrays that tasks made, rather than passed on or sliced."""

    def __init__(self) -> None:
        super().__init__(posttask=self.count)  # type: ignore[no-untyped-call]
        self.bytes: int = 0

    def count(self, key: Any, result: Any, *rest: Any) -> None:
        """Add what the task made."""
        if isinstance(result, np.ndarray) and result.base is None:
            self.bytes += result.nbytes


@pytest.fixture
def tracked_pixels(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pixels of the blocks that are tracked: by a tracker that finds the reference in its place."""
    pixels: list[int] = []

    def track(
        self: Dense, samples: NDArray[Any], references: NDArray[Any], tile: Tile
    ) -> NDArray[np.float32]:
        assert samples.shape == references.shape
        pixels.append(samples.size)
        inner = (slice(None), *tile.inner)
        found = np.empty((len(Fields._fields), *samples[inner].shape[1:]), np.float32)
        found[:] = samples[inner][0] != references[inner][0]
        return found

    monkeypatch.setattr(Dense, "track", track)
    monkeypatch.setattr(crossspot, "LEAST_TILE", USUAL_TILE)
    return pixels


def pair_of(chunks: Any) -> list[da.Array]:
    """Images of numbered pixels, the reference moved by (3, -4); no pixel is in the graph."""

    def numbered(block: NDArray[np.float32], block_info: Any = None) -> NDArray[np.float32]:
        (top, _), (left, _) = block_info[None]["array-location"]
        rows, columns = np.ogrid[: block.shape[0], : block.shape[1]]
        return np.asarray((top + rows) * COLUMNS + left + columns, np.float32)

    blank = da.zeros((ROWS, COLUMNS), chunks=chunks, dtype=np.float32)
    sample = blank.map_blocks(numbered, dtype=np.float32, meta=np.empty((0, 0), np.float32))
    return [sample, sample + np.float32(3 * COLUMNS - 4)]


@pytest.mark.parametrize(
    ("chunks", "most"),
    [(512, 1.3), (1536, 1.3), ((256, COLUMNS), 1.2), ((ROWS // 2, COLUMNS), 1.05)],
)
def test_few_pixels_are_tracked_for_the_halo(
    chunks: Any, most: float, tracked_pixels: list[int]
) -> None:
    sample, reference = pair_of(chunks)
    fields = wd.cross_spot(sample, reference, rigid=(3, -4), **OPTIONS)
    assert fields.displacement_y.chunks == sample.chunks
    reason = fields.reason.compute(scheduler="synchronous")
    # The part of the reference is that which the shift says, in every tile.
    assert not reason[3:, :-4].any()
    assert ROWS * COLUMNS < sum(tracked_pixels) < most * ROWS * COLUMNS
    # A task needs no more memory than the chunks promise, if they are not small.
    largest = max(chunks, USUAL_TILE) if isinstance(chunks, int) else max(chunks)
    assert max(tracked_pixels) <= (largest + 2 * HALO) ** 2


def test_stacks_in_small_chunks_stay_in_small_tiles(tracked_pixels: list[int]) -> None:
    sample, reference = (
        da.stack([image[:1024, :1024]] * 16).rechunk((-1, 256, 256)) for image in pair_of(512)
    )
    joint = wd.cross_spot(sample, reference, rigid=None, joint=True, **OPTIONS)
    joint.reason.compute(scheduler="synchronous")
    assert len(tracked_pixels) == 16


def copied_by(work: Callable[[], Any]) -> int:
    """Bytes that tasks made; those of tasks that were fused count where they are handed on."""
    copied = Copied()
    with copied, dask.config.set(scheduler="synchronous"):
        work()
    return copied.bytes


@pytest.mark.parametrize("rigid", ["auto", (3, -4), None])
def test_images_are_copied_for_their_halo_only(
    rigid: Any, tracked_pixels: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both images once with their halo, the reference as far as a shift may reach, too."""
    monkeypatch.setattr(matching.Matching, "shift", lambda *_: (3, -4))
    sample, reference = pair_of(1024)
    made = copied_by(lambda: (sample.max() + reference.max()).compute())
    fields = wd.cross_spot(sample, reference, rigid=rigid, **OPTIONS)
    copied = copied_by(fields.displacement_y.compute) - made
    image = sample.nbytes
    result = (len(Fields._fields) + 1 + 1) * image  # the tiles, one field with the shift, the frame
    tiles = ROWS // 1024
    wide = 0.0
    for far in (HALO, HALO + moving.REACH * (rigid is not None)):
        around = (1 + 2 * far * (tiles - 1) / ROWS) * (1 + 2 * far / COLUMNS) - 1
        wide += (
            1 + 2 * around
        ) * image  # Dask cuts what is around a tile, and joins it to the tile
    middle = 2 * 4 * moving.MIDDLE**2 if rigid == "auto" else 0
    assert copied < 1.03 * (result + wide + middle)
