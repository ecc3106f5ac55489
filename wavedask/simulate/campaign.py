"""A campaign on disk, with files like those of a beamline, and its truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np

from wavedask.errors import InputError
from wavedask.simulate.camera import Camera
from wavedask.simulate.lens import Lens, Truth, lens_truth
from wavedask.simulate.speckle import speckle_field
from wavedask.simulate.writers import Exposure, FrameWriter

FileFormat = Literal["edf", "tiff"]
FILE_FORMATS: Final = ("edf", "tiff")
ROLES: Final = ("dark", "flat", "reference", "sample")

DARKS: Final = 5
FLATS: Final = 5
PARKED: Final = -20.0
"""Position of lens and membrane out of the beam, mm."""


@dataclass(frozen=True)
class Campaign:
    """The files of a simulated campaign and the truth behind them.

    Attributes
    ----------
    folder : pathlib.Path
        Where the files are.
    dark, flat, reference, sample : str
        Glob patterns of the files of each role.
    sidecar : pathlib.Path or None
        CSV file with the motors of the sample frames, where the format has no header.
    lens : Lens
        The optic.
    centers : tuple of (float, float)
        Position (y, x) of the lens for each sample frame, m.
    shape : (int, int)
        Rows and columns of a frame.
    pixel_size, distance, energy : float
        Pixel size and distance from lens to detector in m, photon energy in keV.
    """

    folder: Path
    dark: str
    flat: str
    reference: str
    sample: str
    sidecar: Path | None
    lens: Lens
    centers: tuple[tuple[float, float], ...]
    shape: tuple[int, int]
    pixel_size: float
    distance: float
    energy: float

    @classmethod
    def in_folder(
        cls, folder: str | Path, *, file_format: FileFormat = "edf", **numbers: Any
    ) -> Self:
        """Name the files of a campaign that `write_campaign` wrote with these numbers."""
        target = Path(folder).resolve()
        return cls(
            folder=target,
            dark=str(target / f"dark_*.{file_format}"),
            flat=str(target / f"flat_*.{file_format}"),
            reference=str(target / f"reference_*.{file_format}"),
            sample=str(target / f"sample_*.{file_format}"),
            sidecar=None if file_format == "edf" else target / "sample_motors.csv",
            **numbers,
        )

    def truth(self, frame: int) -> Truth:
        """Slopes and wavefront that the sample frame of this number should give."""
        return lens_truth(
            self.lens,
            shape=self.shape,
            pixel_size=self.pixel_size,
            distance=self.distance,
            center=self.centers[frame],
        )


def write_campaign(
    folder: str | Path,
    *,
    lens: Lens,
    centers: Sequence[tuple[float, float]] = ((0.0, 0.0), (0.0, 20e-6)),
    shape: tuple[int, int] = (512, 512),
    pixel_size: float = 0.65e-6,
    distance: float = 1.0,
    energy: float = 17.0,
    counts: float = 8000.0,
    file_format: FileFormat = "edf",
    seed: int = 0,
) -> Campaign:
    """Simulate a campaign and write its frames: dark, flat, reference and sample.

    Parameters
    ----------
    folder : path
        Folder to write to. It is created, and must not hold files of an earlier campaign.
    lens : Lens
        The optic.
    centers : sequence of (float, float)
        Positions (y, x) of the lens axis from the middle of the detector, m; one per sample
        frame.
    shape : (int, int), default (512, 512)
        Rows and columns of a frame.
    pixel_size : float, default 0.65e-6
        Pixel size, m.
    distance : float, default 1.0
        From lens to detector, m.
    energy : float, default 17.0
        Photon energy, keV; written to the header.
    counts : float, default 8000
        Mean counts of a pixel.
    file_format : "edf" or "tiff", default "edf"
        EDF: one file per frame with SPEC motors in its header, lengths in mm. TIFF: one multi-page
        file per role without motors, and a CSV file with the motors of the sample frames.
    seed : int, default 0
        Seed of the random numbers.

    Returns
    -------
    Campaign

    Raises
    ------
    InputError
        An unknown format, or rays that cross before the detector.
    FileError
        The folder already holds files of a campaign.

    Examples
    --------
    >>> import tempfile
    >>> lens = Lens(radius=50e-6, delta=1.2e-6)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     campaign = write_campaign(folder, lens=lens, shape=(32, 32))
    ...     print(len(list(campaign.folder.glob("sample_*.edf"))))
    2
    """
    if file_format not in FILE_FORMATS:
        raise InputError(
            f"file_format is {file_format!r}", f"Choose one of: {', '.join(FILE_FORMATS)}."
        )
    writer = FrameWriter(folder, file_format=file_format)
    campaign = Campaign.in_folder(
        folder,
        file_format=file_format,
        lens=lens,
        centers=tuple(centers),
        shape=shape,
        pixel_size=pixel_size,
        distance=distance,
        energy=energy,
    )
    exposures = _exposures(campaign, Camera(shape, counts=counts, seed=seed), seed)
    for role in ROLES:
        writer.write(role, exposures[role])
    return campaign


def _exposures(campaign: Campaign, camera: Camera, seed: int) -> dict[str, list[Exposure]]:
    """Frames of each role."""
    truths = [campaign.truth(frame) for frame in range(len(campaign.centers))]
    reach = max(
        float(np.abs([truth.displacement_y, truth.displacement_x]).max()) for truth in truths
    )
    speckle = speckle_field(max(campaign.shape) + 2 * int(np.ceil(reach)), seed=seed)
    y, x = np.mgrid[: campaign.shape[0], : campaign.shape[1]].astype(np.float64)
    beams: list[tuple[str, Any, float, tuple[float, float]]] = []
    out_of_beam = (PARKED, PARKED)
    beams += [("dark", 0.0, PARKED, out_of_beam)] * DARKS
    beams += [("flat", 1.0, PARKED, out_of_beam)] * FLATS
    beams += [("reference", speckle(y, x), 0.0, out_of_beam)]
    for truth, center in zip(truths, campaign.centers, strict=True):
        # The lens concentrates the beam: the flux per area is the Jacobian of the rays.
        (yy, yx), (xy, xx) = (
            np.gradient(origin, campaign.pixel_size) for origin in (truth.origin_y, truth.origin_x)
        )
        moved = speckle(y - truth.displacement_y, x - truth.displacement_x)
        beams.append(
            ("sample", moved * (yy * xx - yx * xy), 0.0, (center[0] * 1e3, center[1] * 1e3))
        )
    exposures: dict[str, list[Exposure]] = {role: [] for role in ROLES}
    for number, (role, beam, membrane, position) in enumerate(beams):
        motors = {
            "energy": campaign.energy,
            "membrane": membrane,
            "lens_y": position[0],
            "lens_x": position[1],
            "detz": campaign.distance * 1e3,
        }
        counters = {"sec": 1.0, "srcur": 200 - 0.01 * len(exposures[role])}
        exposures[role].append(Exposure(camera.expose(beam, frame=number), motors, counters))
    return exposures
