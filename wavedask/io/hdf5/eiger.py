"""Masters of DECTRIS detectors (Eiger, Pilatus4): one scan whose frames are in files beside it."""

import re
from pathlib import Path
from typing import Final

import h5py

from wavedask.errors import FileError
from wavedask.io.hdf5.access import holds_frames, is_numeric, resolved
from wavedask.io.hdf5.layout import Camera
from wavedask.io.hdf5.nexus import NexusEntry

DATA: Final = "data"
"""Group of a master whose members are the frames, or links to them."""
BLOCK: Final = re.compile(r"data_(?P<number>\d+)")
"""Name of one block of frames."""
SPECIFIC: Final = "instrument/detector/detectorSpecific"
"""Group with the settings of the detector."""


class EigerEntry(NexusEntry):
    """The scan of a master; what is known of its frames is as in other NeXus files."""

    @staticmethod
    def recognise(group: h5py.Group, path: Path, name: str) -> "EigerEntry | None":
        """Return the scan, if this is one: its frames are in numbered blocks."""
        blocks = group.get(DATA)
        is_one = isinstance(blocks, h5py.Group) and any(map(BLOCK.fullmatch, blocks))
        return EigerEntry(group, path, name) if is_one else None

    def cameras(self) -> list[Camera]:
        """Return the one camera: all blocks in the order of their numbers."""
        blocks = self.group[DATA]
        numbers = {name: match for name in blocks if (match := BLOCK.fullmatch(name))}
        name = f"{self.name}/{DATA}"
        found = {}
        for block in sorted(numbers, key=lambda block: int(numbers[block]["number"])):
            item = resolved(blocks, block, self.path)
            if not holds_frames(item):
                raise FileError(
                    f"{self.path}: {name}/{block} holds no frames",
                    "It is damaged, or still being written; open the whole blocks by their path:"
                    f" image='{name}/<block>'.",
                )
            found[f"{name}/{block}"] = item
        return [Camera(name, found)]

    def unfinished(self, camera: Camera) -> str:
        """Say how many of the frames that were asked for there are, where some are not."""
        asked = self._asked
        if asked is None or camera.frames >= asked or camera.name != f"{self.name}/{DATA}":
            return super().unfinished(camera)
        return f"{camera.frames} of {asked} frames that were asked for"

    @property
    def _asked(self) -> int | None:
        """Number of frames that the detector was told to take, where the master says so."""
        images, triggers = (
            int(item[()]) if is_numeric(item) and item.shape == () else None
            for item in (self.group.get(f"{SPECIFIC}/{name}") for name in ("nimages", "ntrigger"))
        )
        return None if images is None else images * (triggers or 1)
