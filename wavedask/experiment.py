"""The experiment file: what to open, how to correct, track and integrate, where to write."""

import difflib
import glob
import reprlib
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from wavedask.conventions import FRAME
from wavedask.correct import Average
from wavedask.crossspot import Engine, checked_settings
from wavedask.errors import ExperimentError, InputError
from wavedask.integrate import Method
from wavedask.io import mesh
from wavedask.pairing import TrainReference


def _not_truth(value: Any) -> Any:
    """Refuse what YAML makes of ``yes`` or ``on``, and Python would take for 1."""
    if isinstance(value, bool):
        raise ValueError("a number is needed")
    return value


Whole = Annotated[int, BeforeValidator(_not_truth)]
Number = Annotated[float, BeforeValidator(_not_truth)]
Positive = Annotated[Number, Field(gt=0)]
Size = Number | tuple[Number, Number]
Mode = Literal["differential", "absolute"]


def _one_of(choice: Any) -> str:
    return f"one of: {', '.join(map(str, get_args(choice)))}"


class _Section(BaseModel):
    """A part of an experiment file; a key that it does not know is an error.

    The description of a field says what a message about a wrong value should: what to give.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class Mesh(_Section):
    """Motors on an equally spaced mesh, as `wavedask.mesh` takes them."""

    motor_x: str = Field(description="the name of the fast motor")
    motor_y: str = Field(description="the name of the slow motor")
    nx: Whole = Field(description="the number of positions of the fast motor")
    ny: Whole = Field(description="the number of positions of the slow motor")
    step_x: Number = Field(description="the step of the fast motor")
    step_y: Number = Field(description="the step of the slow motor")
    start_x: Number = Field(default=0.0, description="the first position of the fast motor")
    start_y: Number = Field(default=0.0, description="the first position of the slow motor")
    snake: bool = Field(default=False, description="true if every second line runs backward")

    @model_validator(mode="after")
    def _sensible(self) -> "Mesh":
        try:
            self.positions()
        except InputError as error:
            raise ValueError(str(error)) from error
        return self

    def positions(self) -> dict[str, NDArray[np.float64]]:
        """Return the positions by motor, one per frame."""
        return mesh(
            self.motor_x,
            self.motor_y,
            self.nx,
            self.ny,
            self.step_x,
            self.step_y,
            start_x=self.start_x,
            start_y=self.start_y,
            snake=self.snake,
        )


class Frames(_Section):
    """Frames of one role; paths are relative to the experiment file."""

    files: str | Annotated[list[str], Field(min_length=1)] = Field(
        description="a file, a glob, a folder, or a list of those"
    )
    motors: str | dict[str, Number | list[Number]] | None = Field(
        default=None, description="a CSV file, or positions by the name of the motor"
    )
    mesh: Mesh | None = Field(default=None, description="a section: motors on an even mesh")
    units: dict[str, str] = Field(default={}, description="units by the name of the motor")
    scan: str | None = Field(default=None, description="the name of a scan of an HDF5 file")

    @model_validator(mode="before")
    @classmethod
    def _files_alone(cls, value: Any) -> Any:
        return {"files": value} if isinstance(value, str | list) else value

    @model_validator(mode="after")
    def _one_kind_of_motors(self) -> "Frames":
        if self.motors is not None and self.mesh is not None:
            raise ValueError("motors and mesh exclude each other: give one of them")
        return self


class Detector(Frames):
    """Frames of one of the two detectors of absolute mode, and what corrects them."""

    dark: Frames | None = Field(
        default=None, description="files, or a section: frames of this detector without beam"
    )
    flat: Frames | None = Field(
        default=None, description="files, or a section: frames of this detector without membrane"
    )
    distortion: str | None = Field(
        default=None, description="the path of this detector's calibration"
    )


class Correct(_Section):
    """Settings of `wavedask.correct`."""

    average: Average = Field(default="mean", description=_one_of(Average))
    hot_pixels: Number | None = Field(
        default=None, gt=0, description="a positive fraction of the local median, 0.5 say"
    )


class Track(_Section):
    """Settings of `wavedask.track`."""

    over: str | None = Field(
        default=None, description=f"{FRAME}, to match all frames together; or null"
    )
    motors: str | list[str] | None = Field(
        default=None, description="the motor, or a list of motors, by which frames are paired"
    )
    tolerance: Number | list[Number] | None = Field(
        default=None, description="a number in the unit of the motors, or a list of numbers"
    )
    engine: Engine = Field(default="dense", description=_one_of(Engine))
    window: Whole | tuple[Whole, Whole] = Field(
        default=21, description="an odd number of pixels, or a pair [smallest, largest]"
    )
    search: Whole = Field(default=16, description="a whole number of pixels")
    step: Whole | None = Field(
        default=None, description="a whole number of pixels, for engine opencv only"
    )
    order: Literal[3, 5] | None = Field(default=None, description="3 or 5, for engine dense only")
    good: Number = Field(default=0.8, description="a correlation between 0 and 1")
    rigid: Literal["auto"] | tuple[Whole, Whole] | None = Field(
        default="auto", description="auto, a displacement [y, x] in whole pixels, or null"
    )

    @model_validator(mode="after")
    def _sensible(self) -> "Track":
        try:
            checked_settings(
                engine=self.engine,
                window=self.window,
                search=self.search,
                good=self.good,
                step=self.step,
                order=self.order,
            )
        except InputError as error:
            raise ValueError(str(error)) from error
        if self.over not in (None, FRAME):
            raise ValueError(f"over is {self.over!r}: give {FRAME}, or null")
        return self


class Wavefront(_Section):
    """Settings of `wavedask.wavefront`."""

    mode: Mode = Field(default="differential", description=_one_of(Mode))
    distance: Positive | tuple[Number, Number] = Field(
        description="the distance from optic to detector in m, above 0; in absolute mode "
        "[near, far]"
    )
    pixel_size: Number | tuple[Size, Size] = Field(
        description="the pixel size in m, or a pair [y, x]; in absolute mode [near, far]"
    )
    source_distance: Number | None = Field(
        default=None, description="the distance from source to optic in m"
    )
    membrane_distance: Number | None = Field(
        default=None, description="the distance from membrane to detector in m"
    )
    distance_error: Number | tuple[Number, Number] | None = Field(
        default=None, description="a standard error in m; in absolute mode one or [near, far]"
    )
    pixel_size_error: Number | tuple[Size, Size] | None = Field(
        default=None, description="a standard error in m, or a pair"
    )
    distortion_error: Number | tuple[Number, Number] | None = Field(
        default=None, description="a standard error in px, or [near, far]; absolute mode only"
    )
    roi: tuple[tuple[Whole, Whole], tuple[Whole, Whole]] | None = Field(
        default=None, description="pixels [[first_y, end_y], [first_x, end_x]]"
    )
    pupil: tuple[Number, Number, Number] | None = Field(
        default=None, description="a circle [centre_y, centre_x, radius] in px"
    )
    energy: Number | None = Field(default=None, description="the photon energy in keV")
    wavelength: Number | None = Field(default=None, description="the wavelength in m")
    method: Method = Field(default="least_squares", description=_one_of(Method))

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `wavedask.wavefront` but the tracking and its region."""
        return self.model_dump(exclude={"roi"})


class Cluster(_Section):
    """Where to compute: arguments of `wavedask.cluster.connect`."""

    address: str | None = Field(
        default=None, description="the address of a Dask scheduler (tcp://host:8786), or threads"
    )
    workers: Whole | None = Field(default=None, ge=1, description="a number of at least 1")


class Experiment(_Section):
    """A whole measurement, from raw frames to a result store."""

    sample: Frames | None = Field(
        default=None, description="files, or a section: frames with the optic"
    )
    reference: Frames | None = Field(
        default=None, description="files, or a section: frames without the optic"
    )
    train: TrainReference | None = Field(default=None, description=_one_of(TrainReference))
    dark: Frames | None = Field(
        default=None, description="files, or a section: frames without beam"
    )
    flat: Frames | None = Field(
        default=None, description="files, or a section: frames without membrane"
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
    wavefront: Wavefront = Field(description="a section: keys and values")
    output: str = Field(description="the path of the result store, such as results.zarr")
    cluster: Cluster = Field(default=Cluster(), description="a section: keys and values")

    @model_validator(mode="after")
    def _complete(self) -> "Experiment":
        """Check that the sections are those of the mode."""
        absolute = self.wavefront.mode == "absolute"
        one, two = ["sample", "reference", "train", "dark", "flat", "distortion"], ["near", "far"]
        needed, other = (two, one) if absolute else (one[:2], two)
        if not absolute and self.train is not None:
            # The pulses of a train are the references of each other.
            needed, other = ["sample"], ["reference", *other]
        mistakes = [
            f"{name}: missing; give {type(self).model_fields[name].description}"
            for name in needed
            if getattr(self, name) is None
        ]
        mistakes += [
            f"{name}: not in {'absolute' if absolute else 'differential'} mode"
            f"{'' if self.train is None else ' with a train'}, which has {' and '.join(needed)}"
            + (", each with its own dark, flat and distortion" if absolute else "")
            for name in other
            if getattr(self, name) is not None
        ]
        if mistakes:
            raise ValueError("\n  ".join(mistakes))
        return self

    # Not a setting: where the experiment file is. Relative paths start there.
    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    def path(self, name: str) -> Path:
        """Return the absolute path of a file that the experiment names."""
        return (self._folder / Path(name).expanduser()).absolute()

    def source(self, name: str) -> Path:
        """Return the absolute path, folder or glob of frames that the experiment names."""
        path = self.path(name)
        if path.exists() or Path(name).expanduser().is_absolute():
            return path
        # Only the name is a pattern; brackets in the name of the folder are its own.
        return Path(glob.escape(str(self._folder.absolute()))) / name if _is_glob(name) else path

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the numbers of the result: all but where it is computed and written."""
        return self.model_dump(mode="json", exclude={"output", "cluster"})


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
        A file that is missing or no YAML, an unknown key (the message names the nearest valid
        one), a key that is missing or stands twice, or a value of the wrong kind; every mistake
        is listed.

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
    content = _read(file)
    if not isinstance(content, dict):
        raise ExperimentError(
            f"experiment file {file} holds {_shown(content)}, not keys and values",
            f"Its keys are {', '.join(Experiment.model_fields)}.",
        )
    try:
        experiment = Experiment.model_validate(content)
    except ValidationError as error:
        mistakes = _mistakes(error)
        count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise ExperimentError(
            f"experiment file {file} has {count}", "\n  ".join(["Correct this:", *mistakes])
        ) from error
    experiment._folder = file.absolute().parent
    return experiment


class _Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, and not the last of the two."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read(file: Path) -> Any:
    try:
        # _Loader is a SafeLoader.
        return yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ExperimentError(
            f"experiment file {file} cannot be read: {error.strerror}", "Check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise ExperimentError(
            f"experiment file {file} is not text: {error}", "Save it as UTF-8."
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        raise ExperimentError(
            f"experiment file {file}{place}: {error.problem}",
            "Correct the line, or the one before it; indent with blanks.",
        ) from error
    except yaml.YAMLError as error:
        raise ExperimentError(
            f"experiment file {file} is not valid YAML: {error}", "Save it as plain text."
        ) from error


def _mistakes(error: ValidationError) -> list[str]:
    """Each mistake as a line: where, what, and what would be right."""
    lines: dict[str, str] = {}
    for mistake in error.errors(include_url=False):
        keys, section, description = _place(mistake["loc"])
        where = ".".join(keys)
        if mistake["type"] == "extra_forbidden":
            known = list(section.model_fields) if section else []
            nearest = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
            line = f"{where}: unknown key; {hint}"
        elif mistake["type"] == "missing":
            line = f"{where}: missing; give {description}"
        elif mistake["type"] == "value_error" and section is not None:
            message = mistake["msg"].removeprefix("Value error, ")
            line = f"{where}: {message}" if where else message
        elif description:
            line = f"{where} is {_shown(mistake['input'])}: give {description}"
        else:
            line = f"{where}: {mistake['msg']}"
        # Of a value that is none of several kinds, pydantic complains once for each kind.
        lines.setdefault(where, line)
    return list(lines.values())


def _place(location: tuple[int | str, ...]) -> tuple[list[str], type[BaseModel] | None, str]:
    """Keys that lead to a mistake, the section it is in or is, and what belongs there.

    What follows a field that is no section (the kinds of a union, the place in a list) is left out.
    """
    keys: list[str] = []
    section: type[BaseModel] | None = Experiment
    description = ""
    for part in location:
        if section is None:
            break
        keys.append(str(part))
        field = section.model_fields.get(str(part))
        if field is None:
            return keys, section, ""
        description = field.description or ""
        kinds = (field.annotation, *get_args(field.annotation))
        section = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
    return keys, section, description


def _shown(value: Any) -> str:
    return "nothing" if value is None else reprlib.repr(value)
