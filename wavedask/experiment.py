"""The experiment file: what to open, how to correct, track and integrate, where to write."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from wavedask.correct import Average
from wavedask.crossspot import CrossSpotSettings
from wavedask.errors import ExperimentError, InputError
from wavedask.integrate import Method
from wavedask.io import mesh
from wavedask.track import Engine


class _Section(BaseModel):
    """A part of an experiment file; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Mesh(_Section):
    """Motors on an equally spaced mesh, as `wavedask.mesh` takes them."""

    motor_x: str
    motor_y: str
    nx: int
    ny: int
    step_x: float
    step_y: float
    start_x: float = 0.0
    start_y: float = 0.0
    snake: bool = False

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
    """Frames of one role.

    Attributes
    ----------
    files : str or list of str
        A file, a glob, a folder, or a list of those; relative to the experiment file.
    motors : str or mapping, optional
        Sidecar CSV file, or positions by name.
    mesh : Mesh, optional
        Motors on an equally spaced mesh.
    units : mapping of str to str
        Units of motors whose file names none.
    scan : str, optional
        Scan of an HDF5 file.
    """

    files: str | list[str]
    motors: str | dict[str, float | list[float]] | None = None
    mesh: Mesh | None = None
    units: dict[str, str] = {}
    scan: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _files_alone(cls, value: Any) -> Any:
        return {"files": value} if isinstance(value, str | list) else value

    @model_validator(mode="after")
    def _one_kind_of_motors(self) -> "Frames":
        if self.motors is not None and self.mesh is not None:
            raise ValueError("motors and mesh exclude each other: give one of them")
        return self


class Correct(_Section):
    """Settings of `wavedask.correct`."""

    average: Average = "mean"
    hot_pixels: float | None = Field(default=None, gt=0)


class Track(_Section):
    """Settings of `wavedask.track`."""

    engine: Engine = "opencv"
    window: int | tuple[int, int] = 21
    search: int = 16
    step: int = 4
    good: float = 0.8
    rigid: Literal["auto"] | tuple[int, int] | None = "auto"

    @model_validator(mode="after")
    def _sensible(self) -> "Track":
        try:
            CrossSpotSettings.checked(
                window=self.window, search=self.search, step=self.step, good=self.good
            )
        except InputError as error:
            raise ValueError(str(error)) from error
        return self


class Wavefront(_Section):
    """Settings of `wavedask.wavefront`."""

    mode: Literal["differential"] = "differential"
    distance: float = Field(gt=0)
    pixel_size: float | tuple[float, float]
    energy: float | None = None
    wavelength: float | None = None
    method: Method = "least_squares"


class Cluster(_Section):
    """Where to compute: arguments of `wavedask.cluster.connect`."""

    address: str | None = None
    workers: int | None = Field(default=None, ge=1)


class Experiment(_Section):
    """A whole measurement, from raw frames to a result store.

    Attributes
    ----------
    sample, reference : Frames
        Speckle with and without the optic.
    dark, flat : Frames, optional
        Frames without beam, and without membrane.
    correct, track, wavefront, cluster
        Settings of the stages.
    output : str
        The result store; relative to the experiment file.
    """

    sample: Frames
    reference: Frames
    dark: Frames | None = None
    flat: Frames | None = None
    correct: Correct = Correct()
    track: Track = Track()
    wavefront: Wavefront
    output: str
    cluster: Cluster = Cluster()

    # Not a setting: where the experiment file is. Relative paths start there.
    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    def path(self, name: str) -> Path:
        """Return the absolute path of a file that the experiment names."""
        return (self._folder / name).absolute()

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the numbers of the result: all but where it is computed and written."""
        return self.model_dump(mode="json", exclude={"output", "cluster"})


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
        one), a missing key, or a value of the wrong kind; every mistake is listed.

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
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(
            f"experiment file {file} cannot be read: {error}", "Check the path."
        ) from error
    except yaml.YAMLError as error:
        raise ExperimentError(
            f"experiment file {file} is not valid YAML: {error}",
            "Look at the line named above; mind the indentation.",
        ) from error
    if not isinstance(content, dict):
        raise ExperimentError(
            f"experiment file {file} holds {type(content).__name__}, not keys and values",
            f"It has the keys {', '.join(_keys(Experiment))}.",
        )
    try:
        experiment = Experiment.model_validate(content)
    except ValidationError as error:
        mistakes = "\n".join(f"  {line}" for line in _mistakes(error))
        raise ExperimentError(
            f"experiment file {file}:\n{mistakes}", "Correct these entries."
        ) from error
    experiment._folder = file.absolute().parent
    return experiment


def _keys(section: type[BaseModel]) -> list[str]:
    return list(section.model_fields)


def _mistakes(error: ValidationError) -> Iterator[str]:
    """Each mistake as a line: where, what, and what would be right."""
    for mistake in error.errors(include_url=False):
        location = [part for part in mistake["loc"] if isinstance(part, str)]
        where = ".".join(str(part) for part in mistake["loc"])
        if mistake["type"] == "extra_forbidden":
            section = _section_at(location[:-1])
            known = _keys(section)
            nearest = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
            yield f"{where}: unknown key; {hint}"
        elif mistake["type"] == "missing":
            yield f"{where}: missing"
        else:
            message = mistake["msg"].removeprefix("Value error, ")
            yield f"{where}: {message} (it is {mistake['input']!r})"


def _section_at(location: list[str]) -> type[BaseModel]:
    """Model of the section at a location; alternatives of a union are passed through."""
    section: type[BaseModel] = Experiment
    for name in location:
        field = section.model_fields.get(name)
        if field is None:
            continue
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                section = kind
    return section
