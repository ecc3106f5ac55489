"""The sections of an experiment file: their keys and the allowed values."""

from typing import Annotated, Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from wavedask.conventions import FRAME, X, Y
from wavedask.detector import Average
from wavedask.errors import InputError
from wavedask.io import mesh
from wavedask.tracking import Engine, checked_settings
from wavedask.wavefront import Method


def _not_truth(value: Any) -> Any:
    """Reject a boolean: YAML makes one of ``yes`` and ``on``, and Python takes it for 1."""
    if isinstance(value, bool):
        raise ValueError("a number is needed")
    return value


Whole = Annotated[int, BeforeValidator(_not_truth)]
Number = Annotated[float, BeforeValidator(_not_truth)]
Positive = Annotated[Number, Field(gt=0)]
Size = Number | tuple[Number, Number]
Mode = Literal["differential", "absolute"]
# From left to right, because YAML reads 1e-3 as a string.
LEFT_TO_RIGHT = Field(union_mode="left_to_right")
Role = str | dict[str, Annotated[Number | str, LEFT_TO_RIGHT]]
PlaceInFile = Annotated[str, Field(pattern=r"[/\[]")]
Positions = Annotated[Number | list[Number] | PlaceInFile, LEFT_TO_RIGHT]
CONDITION = (
    "a condition such as '17 < energy < 18', or a section with values (a number, or a text with * "
    "and ?) by name: a header item, a motor, image_key or files; where takes a condition"
)

MASK_FILE = (
    "the path of an image of the bad pixels, which are not zero in it (TIFF, EDF, HDF5, .npy); "
    "in an HDF5 file with several, mask.h5::/path"
)


def one_of(choice: Any) -> str:
    """Describe the values that a literal type allows.

    Examples
    --------
    >>> one_of(Literal["mean", "median"])
    'one of: mean, median'
    """
    return f"one of: {', '.join(map(str, get_args(choice)))}"


class Section(BaseModel):
    """A part of an experiment file; an unknown key is an error.

    The description of a field is the remedy in a message about a wrong value: what to give.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class Mesh(Section):
    """Motors on an equally spaced mesh: arguments of `wavedask.mesh`."""

    motor_x: str = Field(description="the name of the fast motor")
    motor_y: str = Field(description="the name of the slow motor")
    nx: Whole = Field(description="the number of positions of the fast motor")
    ny: Whole = Field(description="the number of positions of the slow motor")
    step_x: Number = Field(description="the step of the fast motor")
    step_y: Number = Field(description="the step of the slow motor")
    start_x: Number = Field(default=0.0, description="the first position of the fast motor")
    start_y: Number = Field(default=0.0, description="the first position of the slow motor")
    snake: bool = Field(default=False, description="true if every second line is scanned backward")

    @model_validator(mode="after")
    def _sensible(self) -> "Mesh":
        try:
            self.positions()
        except InputError as error:
            raise ValueError(str(error)) from error
        return self

    def positions(self) -> dict[str, NDArray[np.float64]]:
        """Return the positions of each motor, one per frame."""
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


class Roles(Section):
    """The roles of the frames of one scan, by conditions on their motors and headers."""

    sample: Role | None = Field(default=None, description=f"{CONDITION}; for frames with the optic")
    reference: Role | None = Field(
        default=None, description=f"{CONDITION}; for frames without the optic"
    )
    dark: Role | None = Field(default=None, description=f"{CONDITION}; for frames without beam")
    flat: Role | None = Field(default=None, description=f"{CONDITION}; for frames without membrane")
    flat_dark: Role | None = Field(
        default=None,
        description=f"{CONDITION}; for frames without beam of the exposure of the flat",
    )

    @property
    def given(self) -> dict[str, Role]:
        """Conditions by role, without the roles that have none."""
        return {role: conditions for role, conditions in self if conditions is not None}


class Frames(Section):
    """Frames of one role; paths are relative to the experiment file."""

    files: str | Annotated[list[str], Field(min_length=1)] = Field(
        description="a file, a glob, a folder, or a list of those"
    )
    motors: str | dict[str, Positions] | None = Field(
        default=None,
        description="a CSV file, or positions (or their path in an HDF5 file) by name of the motor",
    )
    mesh: Mesh | None = Field(default=None, description="a section: motors on an even mesh")
    units: dict[str, str] = Field(default={}, description="units by the name of the motor")
    scan: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None,
        description="the name of a scan of an HDF5 file, in quotes: '1.1', or a list of those",
    )
    image: str | None = Field(
        default=None, description="the path of the frames in an HDF5 file of no known layout"
    )

    @model_validator(mode="before")
    @classmethod
    def _files_alone(cls, value: Any) -> Any:
        return {"files": value} if isinstance(value, str | list) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Allow the short form, files alone, in the JSON schema."""
        section = handler(schema)
        whole = handler.resolve_ref_schema(section)
        files = whole["properties"]["files"]["anyOf"]
        return {"anyOf": [*files, section]}

    @model_validator(mode="after")
    def _one_kind_of_motors(self) -> "Frames":
        if self.motors is not None and self.mesh is not None:
            raise ValueError("motors and mesh exclude each other: give only one of them")
        return self


class Detector(Frames):
    """Frames of one of the two detectors of absolute mode, and their corrections."""

    dark: Frames | None = Field(
        default=None, description="files, or a section: frames of this detector without beam"
    )
    flat: Frames | None = Field(
        default=None, description="files, or a section: frames of this detector without membrane"
    )
    flat_dark: Frames | None = Field(
        default=None,
        description="files, or a section: frames of this detector without beam, of the exposure of "
        "the flat",
    )
    mask: str | None = Field(default=None, description=MASK_FILE)
    distortion: str | None = Field(
        default=None, description="the path of this detector's calibration"
    )
    roles: Roles | None = Field(
        default=None, description="a section: conditions for sample, dark and flat in these files"
    )

    @model_validator(mode="after")
    def _one_place_for_each_role(self) -> "Detector":
        given = {} if self.roles is None else self.roles.given
        if given and "sample" not in given:
            raise ValueError("roles.sample: missing; give conditions for the frames to track")
        if "reference" in given:
            raise ValueError("roles.reference: the reference is the near detector; remove it")
        for name in ("dark", "flat", "flat_dark"):
            if name in given and getattr(self, name) is not None:
                raise ValueError(
                    f"{name}: given twice, as a section and in roles; remove one of them"
                )
        return self


class Correct(Section):
    """Settings of `wavedask.correct`."""

    average: Average = Field(default="mean", description=one_of(Average))
    hot_pixels: Number | None = Field(
        default=None, gt=0, description="a positive fraction of the local median, such as 0.5"
    )
    mask: str | None = Field(default=None, description=MASK_FILE)
    saturation: Positive | None = Field(
        default=None, description="the count from which a pixel is saturated, above 0"
    )
    bad: list[Number] | Literal[False] | None = Field(
        default=None,
        description="a list of counts that mark a masked pixel, such as [-1, 4294967295]; or "
        "false, to search for none",
    )


class StatedNoise(Section):
    """Noise of the detector: arguments of `wavedask.DetectorNoise`."""

    gain: Positive = Field(description="the counts per photon, above 0")
    readout: Annotated[Number, Field(ge=0)] = Field(
        default=0.0, description="the standard deviation of the readout in counts, from 0 up"
    )
    psf: Annotated[Number | list[list[Number]], LEFT_TO_RIGHT] = Field(
        default=0.0,
        description="the full width at half maximum of the spot of a photon in pixels, or its"
        " values as a list of rows",
    )


class Track(Section):
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
    engine: Engine = Field(default="dense", description=one_of(Engine))
    window: Whole | tuple[Whole, Whole] = Field(
        default=21, description="an odd number of pixels, or a pair [smallest, largest]"
    )
    search: Whole = Field(default=16, description="a whole number of pixels")
    step: Whole | None = Field(
        default=None, description="a whole number of pixels, for engine opencv only"
    )
    order: Literal[3, 5, "auto"] | None = Field(
        default=None, description="3, 5, or auto (by the grain), for engine dense only"
    )
    good: Number = Field(default=0.8, description="a correlation between 0 and 1")
    rigid: Literal["auto"] | tuple[Whole, Whole] | None = Field(
        default="auto", description="auto, a displacement [y, x] in whole pixels, or null"
    )
    detector_noise: StatedNoise | None = Field(
        default=None,
        description="gain, readout and psf of the detector, for engine dense only; or null",
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
                detector_noise=self.options["detector_noise"],
            )
        except InputError as error:
            raise ValueError(str(error)) from error
        if self.over not in (None, FRAME):
            raise ValueError(f"over is {self.over!r}: give {FRAME}, or null")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `wavedask.track`."""
        noise = self.detector_noise
        return {**dict(self), "detector_noise": None if noise is None else dict(noise)}

    @property
    def recorded(self) -> dict[str, Any]:
        """Settings that a store keeps; without `detector_noise`, as in earlier versions."""
        unused = {"detector_noise"} if self.detector_noise is None else set()
        return self.model_dump(mode="json", exclude=unused)


class TrackScan(Section):
    """Settings of `wavedask.track_scan`, in place of `Track`."""

    motor: str | tuple[str, str] = Field(
        description="the motor that moved the membrane, or the motors [y, x] of a mesh"
    )
    axis: str | None = Field(
        default=None, description=f"{Y} or {X}: the axis of the detector along one motor"
    )
    window: Whole | tuple[Whole, Whole] = Field(
        default=3, description="an odd number of pixels, or a pair [rows, columns]"
    )
    search: Whole | tuple[Whole, Whole] | None = Field(
        default=None, description="a whole number of steps, or a pair [y, x]"
    )
    magnification: Positive = Field(
        default=1.0, description="the magnification of the membrane on the detector, above 0"
    )
    direction: Whole | tuple[Whole, Whole] = Field(
        default=1, description="1 or -1, or a pair [y, x]: the direction of the motors"
    )
    tolerance: Number | tuple[Number, Number] | None = Field(
        default=None, description="a distance in the unit of the motors, or a pair [y, x]"
    )
    least: Number = Field(default=0.5, description="a correlation between 0 and 1")
    pixel_size: Size | None = Field(
        default=None, description="the pixel size in m, or a pair [y, x]; without reference only"
    )
    distance: Positive | None = Field(
        default=None,
        description="the distance from membrane to detector in m; without reference only",
    )
    separation: Whole | None = Field(
        default=None, description="an even number of pixels; without reference only"
    )

    @model_validator(mode="after")
    def _sensible(self) -> "TrackScan":
        if self.axis not in (None, Y, X):
            raise ValueError(f"axis is {self.axis!r}: give {Y} or {X}, or null")
        return self


class SelfReference(Section):
    """Settings of `wavedask.self_reference`."""

    step: tuple[Number, Number] = Field(
        description="the step of the membrane from reference to sample, [y, x] in m, one of them 0"
    )
    pixel_size: Size = Field(description="the pixel size in m, or a pair [y, x]")
    distance: Positive = Field(description="the distance from membrane to detector in m, above 0")
    magnification: Positive = Field(
        default=1.0, description="the magnification of the membrane on the detector, above 0"
    )


class Combine(Section):
    """Settings of `wavedask.combine`."""

    by: str | list[str] | None = Field(
        default=None, description="a motor or a list of motors: combine frames at equal positions"
    )
    tolerance: Number | list[Number] | None = Field(
        default=None, description="a distance in the unit of the motors, or one for each motor"
    )
    remove_drift: bool = Field(default=True, description="true or false")

    @model_validator(mode="after")
    def _sensible(self) -> "Combine":
        if (self.by is None) != (self.tolerance is None):
            raise ValueError("by and tolerance need each other: give both, or none")
        return self


class Wavefront(Section):
    """Settings of `wavedask.wavefront`."""

    mode: Mode = Field(default="differential", description=one_of(Mode))
    distance: Positive | tuple[Number, Number] | None = Field(
        default=None,
        description="the distance from optic to detector in m, above 0; in absolute mode "
        "[near, far]; by default that of the files",
    )
    pixel_size: Number | tuple[Size, Size] | None = Field(
        default=None,
        description="the pixel size in m, or a pair [y, x]; in absolute mode [near, far]; by "
        "default that of the calibration or the files",
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
    energy: Number | None = Field(
        default=None, description="the photon energy in keV; by default that of the files"
    )
    wavelength: Number | None = Field(default=None, description="the wavelength in m")
    method: Method = Field(default="least_squares", description=one_of(Method))
    sure: tuple[str, ...] = Field(
        default=(),
        description="names of values that are right although they are unusual or the files state "
        "others, such as [distance]",
    )

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `wavedask.wavefront`, without the tracking and its region."""
        return self.model_dump(exclude={"roi"})


class Cluster(Section):
    """Where to compute: arguments of `wavedask.connect`."""

    profile: str | None = Field(
        default=None, description="the name of a profile ('wavedask cluster list'), or an address"
    )
    address: str | None = Field(
        default=None, description="the address of a Dask scheduler (tcp://host:8786), or threads"
    )
    workers: Annotated[Whole, Field(ge=1)] | dict[Literal["minimum", "maximum"], Whole] | None = (
        Field(default=None, description="a number of at least 1, or {minimum: 1, maximum: 8}")
    )
    cores: Whole | None = Field(default=None, ge=1, description="the threads of one worker")
    memory: str | None = Field(default=None, description="the memory of one worker, as 4 GiB")
    wait: float | str | None = Field(
        default=None, description="how long to wait for a worker: seconds, or 10 minutes"
    )
    scratch: str | None = Field(default=None, description="a folder on a disk of the workers")
    slurm: dict[str, Any] | None = Field(
        default=None, description="keys and values: those of this section of a profile"
    )
    gateway: dict[str, Any] | None = Field(
        default=None, description="keys and values: those of this section of a profile"
    )
    kubernetes: dict[str, Any] | None = Field(
        default=None, description="keys and values: those of this section of a profile"
    )

    @model_validator(mode="after")
    def _one_place(self) -> "Cluster":
        if self.profile is not None and self.address is not None:
            raise ValueError("profile and address are the same thing; give one of them")
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of `wavedask.connect`."""
        given = self.model_dump(exclude={"profile", "address"}, exclude_none=True)
        return {"profile": self.profile or self.address, **given}


def _named(value: Any) -> Any:
    """Read a text as the name of a profile."""
    return {"profile": value} if isinstance(value, str) else value


ClusterField = Annotated[Cluster, BeforeValidator(_named, json_schema_input_type=Cluster | str)]


METHODS: Final = ("track_scan", "self_reference", "combine")
"""Sections of methods that an experiment may use."""
