"""Masters of DECTRIS detectors (Eiger, Pilatus4): one scan whose frames are in files beside it."""

import re
from functools import cached_property
from pathlib import Path
from typing import Final

import h5py

from wavedask.errors import FileError
from wavedask.io.hdf5.access import holds_frames, is_numeric
from wavedask.io.hdf5.layout import Camera
from wavedask.io.hdf5.links import follow
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
        link = group.get(DATA, getlink=True)
        blocks = group[DATA] if isinstance(link, h5py.HardLink) else None
        is_one = isinstance(blocks, h5py.Group) and any(map(BLOCK.fullmatch, blocks))
        return EigerEntry(group, path, name) if is_one else None

    def cameras(self) -> list[Camera]:
        """Return the one camera: all blocks in the order of their numbers.

        Blocks that are missing at the end are those of an acquisition that was stopped.
        """
        found: dict[str, h5py.Dataset] = {}
        missing: tuple[str, FileError] | None = None
        for block in self._blocks:
            place = f"/{self._camera}/{block}"
            try:
                item = follow(self.group[DATA], block)
            except FileError as error:
                missing = missing or (place, error)
                continue
            if not holds_frames(item):
                self.obstacles[place] = FileError(
                    f"{self.path}: {place[1:]} holds no frames",
                    "It is damaged, or still being written; open the whole blocks by their path:"
                    f" image='{self._camera}/<block>'.",
                )
                return []
            if missing:
                break
            found[place[1:]] = item
        else:
            if found:
                return [Camera(self._camera, found)]
        if missing:
            # A file between others was not copied: without it, frames would be lost in silence.
            self.obstacles[missing[0]] = missing[1]
        return []

    def planned(self, camera: Camera) -> int:
        """Count the frames that the detector was told to take."""
        whole = camera.name == self._camera
        return max(camera.frames, (self._asked or 0) if whole else 0)

    def unfinished(self, camera: Camera) -> str:
        """Say how many of the frames that were asked for there are, where some are not."""
        if camera.name != self._camera:
            return super().unfinished(camera)
        asked = self._asked
        if asked is not None and camera.frames < asked:
            return f"{camera.frames} of {asked} frames that were asked for"
        there, blocks = len(camera.datasets), len(self._blocks)
        if there < blocks:
            return f"{camera.frames} frames in {there} of {blocks} files"
        return super().unfinished(camera)

    @property
    def _camera(self) -> str:
        return f"{self.name}/{DATA}"

    @cached_property
    def _blocks(self) -> list[str]:
        """Names of the blocks, in the order of their numbers."""
        # A name that is no UTF-8 comes as bytes.
        names = [name for name in self.group[DATA] if isinstance(name, str)]
        numbers = {name: match for name in names if (match := BLOCK.fullmatch(name))}
        return sorted(numbers, key=lambda name: int(numbers[name]["number"]))

    @property
    def _asked(self) -> int | None:
        """Number of frames that the detector was told to take, where the master says so."""
        images, triggers = (
            int(item[()]) if is_numeric(item) and item.shape == () else None
            for item in (self.get(f"{SPECIFIC}/{name}") for name in ("nimages", "ntrigger"))
        )
        return None if images is None else images * (triggers or 1)
