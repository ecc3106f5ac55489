"""A campaign of the virtual beamline on disk, with its truth."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import xarray as xr

from wavedask.errors import InputError
from wavedask.simulate.beamline import Beamline
from wavedask.simulate.setting import DARK, FLAT, REFERENCE, Setting
from wavedask.simulate.truth import BeamTruth
from wavedask.simulate.writers import Exposure, FileFormat, FrameWriter, Recording

FRAMES_PER_SETTING: Final = 5
"""Number of dark and of flat frames, unless the caller gives some."""
STREAM: Final = 1_000_000
"""Offset of the frame numbers between two scans, so that every frame has its own noise."""


@dataclass(frozen=True)
class BeamlineCampaign:
    """Scans of a virtual beamline on disk.

    Attributes
    ----------
    folder : pathlib.Path
        Where the files are.
    beamline : Beamline
        The beamline that took the frames.
    settings : mapping of str to tuple of Setting
        Settings of every frame, by name of the scan.
    recordings : mapping of (str, int) to Recording
        The files, by name of the scan and number of the detector.
    """

    folder: Path
    beamline: Beamline
    settings: Mapping[str, tuple[Setting, ...]]
    recordings: Mapping[tuple[str, int], Recording]

    def open(self, name: str, *, detector: int = 0, **options: Any) -> xr.Dataset:
        """Open a scan with `wavedask.open_scan`.

        Parameters
        ----------
        name : str
            Name of the scan.
        detector : int, default 0
            Number of the detector.
        **options
            Passed to `wavedask.open_scan`.

        Returns
        -------
        xarray.Dataset
            As in `wavedask.open_scan`.

        Raises
        ------
        InputError
            No scan has this name.
        """
        return self._recording(name, detector).open(**options)

    def truth(
        self,
        frame: int = 0,
        *,
        scan: str = "sample",
        reference: Setting = REFERENCE,
        **numbers: Any,
    ) -> BeamTruth:
        """Trace the truth of a frame of a scan.

        Parameters
        ----------
        frame : int, default 0
            Number of the frame.
        scan : str, default "sample"
            Name of the scan.
        reference : Setting
            Setting that the frame is compared with; by default the optics are out of the beam.
        **numbers
            Detector numbers, as in `Beamline.truth`.

        Returns
        -------
        BeamTruth

        Raises
        ------
        InputError
            No scan has this name, or rays cross.
        """
        self._recording(scan, 0)
        return self.beamline.truth(self.settings[scan][frame], reference, **numbers)

    def _recording(self, name: str, detector: int) -> Recording:
        try:
            return self.recordings[name, detector]
        except KeyError as error:
            known = ", ".join(f"{scan!r} of {number}" for scan, number in self.recordings)
            raise InputError(
                f"there is no scan {name!r} of detector {detector}", f"There are: {known}."
            ) from error


def write_beamline_campaign(
    folder: str | Path,
    beamline: Beamline,
    scans: Mapping[str, Sequence[Setting]],
    *,
    file_format: FileFormat = "edf",
) -> BeamlineCampaign:
    """Record scans with every detector of a virtual beamline and write them to disk.

    Dark and flat frames are added, five each, unless `scans` names them.

    Parameters
    ----------
    folder : path
        Folder to write to. It is created, and must not hold files of that format.
    beamline : Beamline
        The beamline that takes the frames.
    scans : mapping of str to sequence of Setting
        Settings of each scan by its name: ``{"reference": [REFERENCE], "sample": [SAMPLE]}``, a
        `membrane_scan`, a `detector_mesh`, a `pulse_train`.
    file_format : "edf", "tiff" or "hdf5", default "edf"
        EDF and TIFF: the file names hold the scan, and the detector if there are two. HDF5: one
        BLISS file per detector. Motors are those of `Beamline.motors`; the counter ``monitor``
        holds the intensity.

    Returns
    -------
    BeamlineCampaign

    Raises
    ------
    InputError
        An unknown format, a scan without frames, or a setting that cannot be sampled.
    FileError
        The folder already holds files.

    Examples
    --------
    >>> import tempfile
    >>> from wavedask.simulate import Crl, SAMPLE, differential_beamline
    >>> lens = Crl(40.0, radius=200e-6, delta=1.2e-6)
    >>> beamline = differential_beamline(optic=lens, shape=(32, 32), distance=0.3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     campaign = write_beamline_campaign(
    ...         folder, beamline, {"reference": [REFERENCE], "sample": [SAMPLE]}, file_format="hdf5"
    ...     )
    ...     sample = campaign.open("sample")
    ...     print(dict(sample.sizes), float(sample.optic_x), sample.optic_x.units)
    {'frame': 1, 'y': 32, 'x': 32} 0.0 mm
    """
    wanted: dict[str, tuple[Setting, ...]] = {
        "dark": (DARK,) * FRAMES_PER_SETTING,
        "flat": (FLAT,) * FRAMES_PER_SETTING,
        **{name: tuple(settings) for name, settings in scans.items()},
    }
    recordings = {}
    for detector in range(len(beamline.detectors)):
        prefix = f"detector{detector}_" if len(beamline.detectors) > 1 else ""
        writer = FrameWriter(
            folder, file_format=file_format, prefix=prefix, detector=f"detector{detector}"
        )
        for stream, (name, settings) in enumerate(wanted.items()):
            exposures = _exposures(beamline, settings, detector, stream * STREAM)
            recordings[name, detector] = writer.write(name, exposures)
    return BeamlineCampaign(Path(folder).resolve(), beamline, wanted, recordings)


def _exposures(
    beamline: Beamline, settings: Sequence[Setting], detector: int, first: int
) -> Iterator[Exposure]:
    camera = beamline.detectors[detector].camera
    beams = beamline.intensities(settings, detector=detector)
    for number, (setting, beam) in enumerate(zip(settings, beams, strict=True)):
        yield Exposure(
            camera.expose(beam, frame=first + number),
            beamline.motors(setting, detector=detector),
            {"monitor": setting.intensity},
        )
