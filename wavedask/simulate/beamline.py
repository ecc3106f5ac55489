"""A virtual beamline: wave optics from a source to the frames of its detectors, with the truth.

The parts are a small, partially coherent source at the origin, a random membrane, optics that move
in and out of the beam together, optics that stay, and one or two detectors. Every part has a
`position` along the beam: its distance from the source in m. The lab axes (y, x) are those of the
motors.

>>> from wavedask.simulate import Crl, differential_beamline, REFERENCE, SAMPLE
>>> lens = Crl(40.0, radius=200e-6, delta=1.2e-6)
>>> beamline = differential_beamline(optic=lens, distance=0.5, shape=(64, 64))
>>> frames = beamline.expose([REFERENCE, SAMPLE])  # counts, with motors, as open_scan gives them
>>> dict(frames.sizes), float(frames.optic_x[1])
({'frame': 2, 'y': 64, 'x': 64}, 0.0)
>>> truth = beamline.truth()  # of the sample against the reference
>>> truth.displacement_x.shape
(64, 64)

A `Setting` holds the motor positions during an exposure. `intensity` gives an image without noise,
`expose` gives counts, and `truth` traces rays. Effects of wave optics are in the frames only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from wavedask.conventions import IMAGE, MOTOR, POSITION_X, POSITION_Y, X, Y, labelled
from wavedask.errors import InputError
from wavedask.io import Column, coordinates
from wavedask.simulate.detector import Detector
from wavedask.simulate.elements import Membrane, Source, above_zero
from wavedask.simulate.optics import Optic
from wavedask.simulate.rays import OpticalSystem
from wavedask.simulate.setting import REFERENCE, SAMPLE, Setting
from wavedask.simulate.truth import BeamTruth, View, beam_truth
from wavedask.simulate.waves import Beam
from wavedask.simulate.writers import unit_of

PARKED: Final = -20.0
"""Motor position of a membrane or an optic that is out of the beam, mm."""


@dataclass(frozen=True)
class Beamline:
    """A source, a membrane, optics and detectors.

    Attributes
    ----------
    source : Source
        At the origin.
    detectors : tuple of Detector
        One or more.
    membrane : Membrane, optional
        The membrane that makes the speckle.
    optics : tuple of Optic, default ()
        Optics that are in the beam for sample frames only.
    fixed : tuple of Optic, default ()
        Optics that are always in the beam.
    oversampling : float, default 2.0
        Grid points per pixel of the finest detector.
    max_points : int, default 6144
        Largest number of points of the grid along an axis.

    Raises
    ------
    InputError
        No detector, or one that is not behind all other parts. A setting that cannot be sampled is
        an error when it is simulated.
    """

    source: Source
    detectors: tuple[Detector, ...]
    membrane: Membrane | None = None
    optics: tuple[Optic, ...] = ()
    fixed: tuple[Optic, ...] = ()
    oversampling: float = 2.0
    max_points: int = 6144

    def __post_init__(self) -> None:
        above_zero("oversampling", self.oversampling, "points per pixel")
        if not self.detectors:
            raise InputError("no detector", "Give one or more.")
        last = max((item.position for item in self._items), default=0.0)
        first = min(detector.position for detector in self.detectors)
        if first < last:
            raise InputError(
                f"a detector is at {first} m, before an optic or membrane at {last} m",
                "Put the detectors behind all other parts.",
            )

    def expose(
        self, settings: Sequence[Setting], *, detector: int = 0, first: int = 0
    ) -> xr.DataArray:
        """Take frames.

        Parameters
        ----------
        settings : sequence of Setting
            Positions, one setting per frame.
        detector : int, default 0
            Number of the detector.
        first : int, default 0
            Number of the first frame; the noise depends on it.

        Returns
        -------
        xarray.DataArray
            ``image(frame, y, x)``, uint16 counts, in memory, with the motors of `motors` as
            coordinates.

        Raises
        ------
        InputError
            No settings, or one that cannot be sampled; see `intensity`.
        """
        if not settings:
            raise InputError("no settings", "Give one or more.")
        camera = self._detector(detector).camera
        frames = [
            camera.expose(beam, frame=first + number)
            for number, beam in enumerate(self.intensities(settings, detector=detector))
        ]
        tables = [self.motors(setting, detector=detector) for setting in settings]
        columns = [
            Column(name, MOTOR, np.array([table[name] for table in tables]), unit_of(name))
            for name in tables[0]
        ]
        rows, cols = camera.shape
        coords = {
            **coordinates(columns, n_frames=len(frames), units={}),
            Y: xr.Variable((Y,), np.arange(rows), POSITION_Y.attrs),
            X: xr.Variable((X,), np.arange(cols), POSITION_X.attrs),
        }
        return labelled(np.stack(frames), IMAGE, coords=coords)

    def intensity(self, setting: Setting = SAMPLE, *, detector: int = 0) -> NDArray[np.float32]:
        """Intensity on each pixel of a detector, without noise.

        Parameters
        ----------
        setting : Setting
            Positions during the exposure.
        detector : int, default 0
            Number of the detector.

        Returns
        -------
        ndarray of float32, shape (y, x)
            1 is the beam without membrane and optics, on its axis.

        Raises
        ------
        InputError
            The wave aliases or comes to a focus before the detector, the membrane repeats in the
            beam, or the grid is larger than `max_points`. The message gives the numbers.
        """
        return next(self.intensities([setting], detector=detector))

    def intensities(
        self, settings: Sequence[Setting], *, detector: int = 0
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the `intensity` of one setting after the other.

        Parameters
        ----------
        settings : sequence of Setting
            Positions. Consecutive settings that differ only in the position of the detector or in
            the intensity share one propagation.
        detector : int, default 0
            Number of the detector.

        Yields
        ------
        ndarray of float32, shape (y, x)
            As in `intensity`.

        Raises
        ------
        InputError
            As in `intensity`.
        """
        camera = self._detector(detector)
        for wave_setting, group in groupby(settings, lambda setting: setting.of_the_wave):
            members = list(group)
            if not any(member.intensity for member in members):
                for _ in members:
                    yield np.zeros(camera.shape, np.float32)
                continue
            beam = self._beam(wave_setting)
            grid = beam.grid(
                camera,
                [member.detector_place for member in members],
                oversampling=self.oversampling,
                max_points=self.max_points,
            )
            fan = beam.system.fan(camera.position)
            spacing = (grid.spacing[0] * fan.scale[0], grid.spacing[1] * fan.scale[1])
            coefficients = camera.blurred(
                beam.intensity(grid, camera.position),
                spacing=spacing,
                blur=beam.blur(camera.position),
            )
            origin = (
                fan.chief[0] + fan.scale[0] * grid.y[0],
                fan.chief[1] + fan.scale[1] * grid.x[0],
            )
            for member in members:
                yield np.float32(member.intensity) * camera.sampled(
                    coefficients, origin=origin, spacing=spacing, motors=member.detector_place
                )

    def truth(
        self,
        sample: Setting = SAMPLE,
        reference: Setting = REFERENCE,
        *,
        detector: int = 0,
        reference_detector: int | None = None,
    ) -> BeamTruth:
        """Trace rays to every true pixel of a detector.

        Parameters
        ----------
        sample, reference : Setting
            The two exposures that are compared.
        detector : int, default 0
            Number of the detector of the sample; the truth is given on its pixels.
        reference_detector : int, optional
            Number of the detector of the reference; by default the same one. In absolute mode the
            sample is the far detector, the reference is the near one, and both have the same
            setting.

        Returns
        -------
        BeamTruth

        Raises
        ------
        InputError
            Only one of the exposures has the membrane, or rays cross.
        """
        other = detector if reference_detector is None else reference_detector
        return beam_truth(
            self._view(sample, detector),
            self._view(reference, other),
            marker=self._marker(sample, reference),
        )

    def motors(self, setting: Setting, *, detector: int = 0) -> dict[str, float]:
        """Motor positions, as in the headers of the frames.

        Parameters
        ----------
        setting : Setting
            Positions during the exposure.
        detector : int, default 0
            Number of the detector.

        Returns
        -------
        dict of str to float
            In mm: ``membrane_y``, ``membrane_x``, ``optic_y``, ``optic_x`` (-20 if out of the
            beam), ``dety`` and ``detx`` of the detector, and ``detz``, its distance from the first
            part in the beam. In keV: ``energy``.
        """
        places = {
            "membrane": setting.membrane if self.membrane else None,
            "optic": setting.optic if self.optics else None,
        }
        table = {}
        for name, place in places.items():
            table[f"{name}_y"] = PARKED if place is None else 1e3 * place[0]
            table[f"{name}_x"] = PARKED if place is None else 1e3 * place[1]
        table["dety"] = 1e3 * setting.detector[0]
        table["detx"] = 1e3 * setting.detector[1]
        table["detz"] = 1e3 * (self._detector(detector).position - self._start)
        table["energy"] = self.source.energy
        return table

    @property
    def _items(self) -> list[Membrane | Optic]:
        return [*self.optics, *self.fixed, *([self.membrane] if self.membrane else [])]

    @property
    def _start(self) -> float:
        """Distance from the source to the first part in the beam."""
        return min(
            (item.position for item in self._items),
            default=min(detector.position for detector in self.detectors),
        )

    def _detector(self, number: int) -> Detector:
        if not 0 <= number < len(self.detectors):
            raise InputError(
                f"detector is {number}", f"The beamline has 0 to {len(self.detectors) - 1}."
            )
        return self.detectors[number]

    def _system(self, setting: Setting) -> OpticalSystem:
        placed = [(optic, optic.center) for optic in self.fixed]
        if setting.optic is not None:
            placed += [
                (optic, (optic.center[0] + setting.optic[0], optic.center[1] + setting.optic[1]))
                for optic in self.optics
            ]
        ordered = sorted(placed, key=lambda pair: pair[0].position)
        return OpticalSystem(self._start, setting.source, tuple(ordered))

    def _beam(self, setting: Setting) -> Beam:
        inside = setting.membrane is not None
        return Beam(
            self.source,
            self._system(setting),
            self.membrane if inside else None,
            setting.membrane or (0.0, 0.0),
        )

    def _view(self, setting: Setting, detector: int) -> View:
        return View(
            self._system(setting),
            self._detector(detector),
            setting.detector_place,
            setting.membrane or (0.0, 0.0),
        )

    def _marker(self, sample: Setting, reference: Setting) -> float:
        """Plane whose points are tracked: the membrane, or without one the last optic."""
        inside = [setting.membrane is not None for setting in (sample, reference)]
        if self.membrane is not None and all(inside):
            return self.membrane.position
        if self.membrane is not None and any(inside):
            raise InputError(
                "only one of sample and reference has the membrane in the beam",
                "Give two settings with it, or two without.",
            )
        return max((optic.position for optic in self.optics), default=self._start)
