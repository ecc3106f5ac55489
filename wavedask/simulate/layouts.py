"""Beamlines for the two ways to measure: one detector behind an optic, or two behind a membrane."""

import numpy as np

from wavedask.errors import InputError
from wavedask.simulate.beamline import Beamline
from wavedask.simulate.camera import Camera
from wavedask.simulate.detector import Detector
from wavedask.simulate.elements import Membrane, Pair, Source
from wavedask.simulate.optics import Optic
from wavedask.simulate.propagation import both


def differential_beamline(
    *,
    optic: Optic | None = None,
    source_distance: float = 40.0,
    distance: float = 1.0,
    membrane_distance: float = 0.0,
    shape: tuple[int, int] = (512, 512),
    pixel_size: float | Pair = 0.65e-6,
    source: Source | None = None,
    membrane: Membrane | None = None,
    counts: float = 8000.0,
    seed: int = 0,
) -> Beamline:
    """Set up one detector behind an optic, for differential measurements.

    Parameters
    ----------
    optic : Optic, optional
        Optic that is in the beam for sample frames only.
    source_distance : float, default 40.0
        Distance from source to membrane, m; used if neither an optic nor a membrane is given.
    distance : float, default 1.0
        Distance from the optic (without one: from the membrane) to the detector, m.
    membrane_distance : float, default 0.0
        Distance of the membrane behind the optic, m; negative if it is before the optic.
    shape : (int, int), default (512, 512)
        Rows and columns of the detector.
    pixel_size : float or (float, float), default 0.65e-6
        Pixel size, m.
    source : Source, optional
        By default 17 keV, 15 x 40 um (y, x) rms.
    membrane : Membrane, optional
        By default a phase membrane with grains of 6 um and 0.4 rad rms, as wide as the beam.
    counts : float, default 8000
        Counts of a pixel without membrane and optic.
    seed : int, default 0
        Seed of membrane and camera.

    Returns
    -------
    Beamline

    Raises
    ------
    InputError
        Distances that are not possible.

    Examples
    --------
    >>> beamline = differential_beamline(shape=(32, 32), distance=0.3)
    >>> beamline.intensity().shape
    (32, 32)
    """
    if optic is not None:
        place = optic.position
    else:
        place = source_distance if membrane is None else membrane.position
    detector = _detector(place + distance, pixel_size, shape, counts=counts, seed=seed)
    return Beamline(
        source or Source(size=(15e-6, 40e-6)),
        (detector,),
        membrane
        or Membrane(place + membrane_distance, size=_membrane_size((detector,)), seed=seed),
        () if optic is None else (optic,),
    )


def absolute_beamline(
    *,
    optic: Optic | None = None,
    source_distance: float = 40.0,
    distances: Pair = (0.3, 0.8),
    shape: tuple[int, int] = (512, 512),
    pixel_sizes: tuple[float | Pair, float | Pair] = (1.6e-6, 1.6e-6),
    source: Source | None = None,
    membrane: Membrane | None = None,
    counts: float = 8000.0,
    seed: int = 0,
) -> Beamline:
    """Set up two detectors behind a membrane, for absolute measurements.

    Detector 0 is the near one and detector 1 the far one.

    Parameters
    ----------
    optic : Optic, optional
        Optic that is in the beam for sample frames only.
    source_distance : float, default 40.0
        Distance from source to membrane, m; used if no membrane is given.
    distances : (float, float), default (0.3, 0.8)
        Distances from the membrane to the near and the far detector, m.
    shape : (int, int), default (512, 512)
        Rows and columns of both.
    pixel_sizes : pair of float or (float, float), default (1.6e-6, 1.6e-6)
        Pixel sizes of the near and the far detector, m.
    source, counts, seed
        As in `differential_beamline`.
    membrane : Membrane, optional
        By default a membrane of grains of 12 um that absorbs more than it shifts the phase. Finer
        grains, and grains that only shift the phase, change by diffraction between the detectors,
        and a tracker takes that for displacement.

    Returns
    -------
    Beamline

    Raises
    ------
    InputError
        Distances that are not possible.

    Examples
    --------
    >>> beamline = absolute_beamline(shape=(32, 32), pixel_sizes=(1.6e-6, 1.7e-6))
    >>> [detector.position for detector in beamline.detectors]
    [40.3, 40.8]
    """
    if not 0 < distances[0] < distances[1]:
        raise InputError(
            f"distances are {distances} m",
            "Give two positive distances, that of the near detector first.",
        )
    place = source_distance if membrane is None else membrane.position
    detectors = tuple(
        _detector(place + distance, size, shape, counts=counts, seed=seed + number)
        for number, (distance, size) in enumerate(zip(distances, pixel_sizes, strict=True))
    )
    return Beamline(
        source or Source(size=(15e-6, 40e-6)),
        detectors,
        membrane
        or Membrane(
            place,
            grain=12e-6,
            phase=0.1,
            absorption=0.2,
            size=_membrane_size(detectors),
            seed=seed,
        ),
        () if optic is None else (optic,),
    )


def _detector(
    position: float,
    pixel_size: float | Pair,
    shape: tuple[int, int],
    *,
    counts: float,
    seed: int,
) -> Detector:
    """Make a detector with a realistic camera and a point spread of a third of a pixel."""
    return Detector(
        position,
        pixel_size,
        camera=Camera(shape, counts=counts, structure=0.02, vignetting=0.0, seed=seed),
        psf=0.3 * min(both(pixel_size)),
    )


def _membrane_size(detectors: tuple[Detector, ...]) -> float:
    """Size of a membrane that covers the field of the detectors, with a margin for scans."""
    width = max(
        max(np.multiply(detector.shape, both(detector.pixel_size))) for detector in detectors
    )
    return 1.5 * float(width) + 3e-4
