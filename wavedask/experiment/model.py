"""The experiment file: which files to open, how to process them, where to write the result."""

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from wavedask.documents import empty_keys, mistakes_of, read_yaml, shown
from wavedask.errors import ExperimentError
from wavedask.experiment.optic_sections import (
    AUTO,
    FOR_CURVATURES,
    OPTICS,
    Focus,
    Lens,
    Mirror,
    Modes,
    PupilField,
)
from wavedask.experiment.sections import (
    METHODS,
    Cluster,
    ClusterField,
    Combine,
    Correct,
    Detector,
    Frames,
    Roles,
    Section,
    SelfReference,
    Track,
    TrackScan,
    Wavefront,
    one_of,
)
from wavedask.frames import TrainReference
from wavedask.paths import expanded
from wavedask.report import report_path
from wavedask.store import URL

PARTS = ("sample", "reference", "dark", "flat", "flat_dark")
"""Sections of frames in an experiment with one detector."""


class Experiment(Section):
    """A complete measurement, from raw frames to a result store."""

    scan: Frames | None = Field(
        default=None, description="files, or a section: frames of several roles"
    )
    roles: Roles | None = Field(default=None, description="a section: conditions for each role")
    sample: Frames | None = Field(
        default=None, description="files, or a section: frames with the optic"
    )
    reference: Frames | None = Field(
        default=None, description="files, or a section: frames without the optic"
    )
    train: TrainReference | None = Field(default=None, description=one_of(TrainReference))
    dark: Frames | None = Field(
        default=None, description="files, or a section: frames without beam"
    )
    flat: Frames | None = Field(
        default=None, description="files, or a section: frames without membrane"
    )
    flat_dark: Frames | None = Field(
        default=None,
        description="files, or a section: frames without beam, of the exposure of the flat",
    )
    distortion: str | None = Field(
        default=None, description="the path of the detector's calibration"
    )
    near: Detector | None = Field(
        default=None, description="files, or a section: frames of the near detector"
    )
    far: Detector | None = Field(
        default=None, description="files, or a section: frames of the far detector"
    )
    correct: Correct = Field(default=Correct(), description="a section: keys and values")
    track: Track = Field(default=Track(), description="a section: keys and values")
    track_scan: TrackScan | None = Field(
        default=None, description="a section: the motor of a scan of the membrane, and more"
    )
    self_reference: SelfReference | None = Field(
        default=None, description="a section: step, pixel_size and distance"
    )
    combine: Combine | None = Field(
        default=None, description="a section: keys and values, or {} to combine all frames"
    )
    wavefront: Wavefront | None = Field(default=None, description="a section: keys and values")
    pupil: PupilField | None = Field(
        default=None,
        description="auto, or a section with a circle, rectangle, polygon or mask: the pixels that "
        "lens, modes, mirror and focus use",
    )
    lens: Lens | None = Field(
        default=None, description="a section: material or delta of a lens, or {} for its distances"
    )
    modes: Modes | None = Field(
        default=None, description="a section: basis, order and removed modes, or {} for the usual"
    )
    mirror: Mirror | None = Field(
        default=None, description="a section: axis, theta, shape and distances of a mirror"
    )
    focus: Focus | None = Field(
        default=None, description="a section: keys and values, or {} for the focus of the beam"
    )
    keep: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None, description="a list of maps to keep, such as [slope_y, slope_x]"
    )
    output: str = Field(description="the path of the result store, such as results.zarr")
    durable: bool = Field(
        default=True,
        # Not a setting of the result.
        exclude=True,
        description="false to mark frames before they are on the disk",
    )
    report: bool = Field(
        default=False,
        # Not a setting of the result.
        exclude=True,
        description="true to write a page and a picture for the logbook beside the store after "
        "each run",
    )
    cluster: ClusterField = Field(
        default=Cluster(), description="the name of a cluster profile, or a section"
    )

    @model_validator(mode="after")
    def _complete(self) -> "Experiment":
        """Check that the sections are those of the mode."""
        absolute = self.mode == "absolute"
        one, two = [*PARTS, "train", "distortion", "scan"], ["near", "far"]
        needed, other = (two, one) if absolute else (one[:2], two)
        if not absolute and self.train is not None:
            # The pulses of a train serve as reference for each other.
            needed, other = ["sample"], ["reference", *other]
        if self.track_scan is not None and self.wavefront is None:
            # A scan without a reference is compared with itself.
            needed = needed[:1]
        mistakes = [
            f"{name}: missing; give {type(self).model_fields[name].description}"
            for name in needed
            if not self._has(name)
        ]
        mistakes += [
            f"{name}: not in {'absolute' if absolute else 'differential'} mode"
            f"{'' if self.train is None else ' with a train'}, which has {' and '.join(needed)}"
            + (", each with its own dark, flat and distortion" if absolute else "")
            for name in other
            if self._has(name)
        ]
        if absolute and self.correct.mask is not None:
            mistakes.append("correct.mask: not in absolute mode; give near.mask and far.mask")
        mistakes += [*self._role_mistakes(), *self._method_mistakes(), *self._optic_mistakes()]
        if mistakes:
            raise ValueError("\n  ".join(mistakes))
        return self

    def _has(self, name: str) -> bool:
        """Whether a part is given, by its own section or by conditions in `roles`."""
        named = self.roles is not None and name in self.roles.given
        return named or getattr(self, name) is not None

    def _role_mistakes(self) -> list[str]:
        """List mistakes in `scan` and `roles`, which need each other."""
        if self.roles is None:
            return [] if self.scan is None else ["scan: has no effect without roles; add roles"]
        if self.scan is None and self.mode == "differential":
            return ["roles: has no effect without scan; add the files that hold all roles"]
        return [
            f"{role}: given twice, as a section and in roles; remove one of them"
            for role in self.roles.given
            if getattr(self, role) is not None
        ]

    def _method_mistakes(self) -> list[str]:
        """List mistakes in `track_scan`, `self_reference`, `combine` and `wavefront`."""
        mistakes = []
        given = [name for name in METHODS if getattr(self, name) is not None]
        if "self_reference" in given and "track_scan" in given:
            mistakes.append("self_reference: not with track_scan, which needs no such section")
        if "combine" in given and ("track_scan" in given or self.track.over is not None):
            mistakes.append("combine: the frames are tracked together already; remove combine")
        if self.mode == "absolute" or self.train is not None:
            mode = "in absolute mode" if self.mode == "absolute" else "with a train"
            mistakes += [f"{name}: not {mode}" for name in given if name != "combine"]
        if self.track_scan is not None and self.track != Track():
            mistakes.append("track: not with track_scan, which has settings of its own")
        if self.gives_curvature:
            mistakes += [
                f"{name}: not for a curvature from a self-reference; remove it"
                for name in OPTICS
                if getattr(self, name) is not None and name not in FOR_CURVATURES
            ]
            if self.wavefront is not None:
                mistakes.append("wavefront: the result of a self-reference is a curvature; remove")
            wanted = ["pixel_size", "distance"]
            told = "missing; a scan without reference needs it"
        else:
            if self.wavefront is None:
                mistakes.append("wavefront: missing; give a section: keys and values")
            wanted = ["pixel_size", "distance", "separation"]
            told = "only without a reference; wavefront has the set-up"
        if self.track_scan is not None:
            mistakes += [
                f"track_scan.{name}: {told}"
                for name in wanted
                if (getattr(self.track_scan, name) is None) == self.gives_curvature
            ]
        return mistakes

    def _optic_mistakes(self) -> list[str]:
        """List mistakes in the sections of the optic that concern each other."""
        mistakes = []
        used = [name for name in OPTICS if getattr(self, name) is not None]
        if self.pupil is not None and not used:
            mistakes.append(f"pupil: has no effect without {', '.join(OPTICS)}; add one of them")
        if self.pupil is not None and self.gives_curvature and self.pupil.auto:
            mistakes.append("pupil: auto needs a wavefront; give a circle, rectangle or polygon")
        aperture = self.lens is not None and self.lens.aperture != AUTO
        if self.pupil is not None and aperture:
            mistakes.append("lens.aperture: pupil says where the lens is; remove one of them")
        return mistakes

    @property
    def mode(self) -> str:
        """The mode, ``"differential"`` or ``"absolute"``."""
        return "differential" if self.wavefront is None else self.wavefront.mode

    @property
    def gives_curvature(self) -> bool:
        """Whether the result is the curvature from a self-reference, and no wavefront."""
        scan_alone = self.track_scan is not None and not self._has("reference")
        return scan_alone or self.self_reference is not None

    # Not a setting: the folder of the experiment file, where relative paths start.
    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    def path(self, name: str) -> Path:
        """Return the absolute path of a file that the experiment names."""
        return (self._folder / expanded(name)).absolute()

    def source(self, name: str) -> Path:
        """Return the absolute path, folder or glob of frames that the experiment names."""
        path = self.path(name)
        if path.exists() or expanded(name).is_absolute():
            return path
        # Only the given name is a pattern: escape brackets in the path of the folder.
        return Path(glob.escape(str(self._folder.absolute()))) / name if _is_glob(name) else path

    @property
    def store(self) -> Path | str:
        """The result store: an absolute path, or a URL."""
        return self.output if URL.match(self.output) else self.path(self.output)

    @property
    def page(self) -> Path:
        """The page of the report: beside the store, or in the folder of the experiment file."""
        return report_path(self.store, folder=self.folder)

    @property
    def folder(self) -> Path:
        """Folder where relative paths start."""
        return self._folder.absolute()

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that determine the result: all except the cluster and the output."""
        # A method that is not used is left out, so that stores of earlier versions can be resumed.
        unused = {name for name in (*METHODS, *OPTICS, "pupil") if getattr(self, name) is None}
        found = self.model_dump(mode="json", exclude={"output", "cluster", *unused})
        return {**found, "track": self.track.recorded}


def _is_glob(name: str) -> bool:
    return glob.escape(name) != name


def load_experiment(path: str | Path) -> Experiment:
    """Read an experiment file.

    Parameters
    ----------
    path : path
        A YAML file.

    Returns
    -------
    Experiment

    Raises
    ------
    ExperimentError
        The file is missing or is not YAML, a key is unknown (the message names the nearest valid
        key), missing or repeated, or a value is of the wrong type. Every mistake is listed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "experiment.yaml")
    ...     _ = file.write_text('''
    ... sample: sample_*.edf
    ... reference: reference_*.edf
    ... wavefront: {distance: 1.0, pixel_size: 0.65e-6, energy: 17.0}
    ... output: results.zarr
    ... ''')
    ...     print(load_experiment(file).track.window)
    21
    """
    file = Path(path)
    content = read_yaml(file, "experiment file", ExperimentError)
    if not isinstance(content, dict):
        raise ExperimentError(
            f"experiment file {file} holds {shown(content)}, not keys and values",
            f"Its keys are {', '.join(Experiment.model_fields)}.",
        )
    # YAML reads nothing as null, and null means that the section is not wanted.
    if unclear := [name for name in empty_keys(file) if name in OPTICS]:
        raise ExperimentError(
            f"experiment file {file} has nothing behind {', '.join(unclear)}",
            f"Write '{unclear[0]}: {{}}' for the defaults, or null to leave it out.",
        )
    try:
        experiment = Experiment.model_validate(content)
    except ValidationError as error:
        mistakes = mistakes_of(error, Experiment)
        count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise ExperimentError(
            f"experiment file {file} has {count}", "\n  ".join(["Correct this:", *mistakes])
        ) from error
    experiment._folder = file.absolute().parent
    return experiment


def restored(settings: Mapping[str, Any], *, folder: Path, output: str) -> Experiment:
    """Restore an experiment from the settings of `Experiment.settings`.

    Parameters
    ----------
    settings : mapping
        Settings of an experiment.
    folder : Path
        Folder where its relative paths start.
    output : str
        The result store.

    Raises
    ------
    ExperimentError
        The settings do not fit this version of wavedask.
    """
    try:
        experiment = Experiment.model_validate({**settings, "output": output})
    except ValidationError as error:
        raise ExperimentError(
            "the settings do not fit an experiment file of this version of wavedask",
            "\n  ".join(["Correct this:", *mistakes_of(error, Experiment)]),
        ) from error
    experiment._folder = folder
    return experiment
