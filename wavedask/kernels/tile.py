"""Where a block lies in its frame."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tile:
    """Where a block with its halo lies in the frame.

    Attributes
    ----------
    top, left : int
        Frame coordinates of the block's first pixel, halo included.
    inner : tuple of slice
        The block without its halo, in coordinates of the block.
    shift : (int, int)
        Rigid shift (y, x) of the pair: the pixels by which its references were moved.
    """

    top: int
    left: int
    inner: tuple[slice, slice]
    shift: tuple[int, int] = (0, 0)

    @classmethod
    def whole(cls, shape: tuple[int, ...]) -> "Tile":
        """Return the tile that is the frame, of the given rows and columns.

        Examples
        --------
        >>> Tile.whole((3, 4)).inner
        (slice(0, 3, None), slice(0, 4, None))
        """
        return cls(0, 0, (slice(0, shape[-2]), slice(0, shape[-1])))
