"""The sections of an experiment file on the optic: pupil, lens, modes, mirror, focus."""

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from wavedask.conventions import AxisName
from wavedask.experiment.sections import Number, Positive, Section, Whole, one_of
from wavedask.optics import LensShape, MirrorShape, ModeIndex

Basis = Literal["zernike", "legendre"]
Free = Literal["p", "q", "theta"]
Power = Literal["measured", "uniform"]
Point = tuple[Number, Number]

AUTO: Final = "auto"
"""Value of `pupil`: the region where the optic is."""
OPTICS: Final = ("lens", "modes", "mirror", "focus")
"""Sections of what is fitted to each wavefront."""
FOR_CURVATURES: Final = ("mirror", "pupil")
"""Those that a curvature without a wavefront can have, too."""


class Pupil(Section):
    """The part of each map that lens, modes, mirror and focus use."""

    auto: Literal[True] | None = Field(
        default=None, description="true, to search for the region of the optic"
    )
    circle: tuple[Number, Number, Positive] | None = Field(
        default=None, description="a circle [centre_y, centre_x, radius] in m"
    )
    rectangle: tuple[Number, Number, Positive, Positive] | None = Field(
        default=None,
        description="a rectangle [centre_y, centre_x, half_height, half_width] in m",
    )
    polygon: Annotated[list[Point], Field(min_length=3)] | None = Field(
        default=None, description="three corners or more, [[y, x], [y, x], ...] in m"
    )
    mask: str | None = Field(
        default=None,
        description="the path of an image that is not zero inside of the pupil (TIFF, EDF, HDF5, "
        ".npy); in an HDF5 file with several, mask.h5::/path",
    )

    @model_validator(mode="after")
    def _one_shape(self) -> "Pupil":
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            known = ", ".join(name for name in type(self).model_fields if name != AUTO)
            raise ValueError(
                f"{' and '.join(given) or 'no shape'} given: give auto, or one of {known}"
            )
        return self


def _auto(value: Any) -> Any:
    """Read the word auto as a section."""
    return {AUTO: True} if value == AUTO else value


PupilField = Annotated[
    Pupil, BeforeValidator(_auto, json_schema_input_type=Pupil | Literal["auto"])
]


class Lens(Section):
    """Settings of `wavedask.optics.fit_lens`."""

    shape: LensShape = Field(default="paraboloid", description=one_of(LensShape))
    aperture: Literal["auto"] | tuple[Number, Number, Positive] | None = Field(
        default="auto", description="auto, a circle [centre_y, centre_x, radius] in m, or null"
    )
    azimuth: Number | None = Field(
        default=None, description="the direction in which a cylinder is curved, in rad"
    )
    geometric_aperture: Positive | None = Field(
        default=None,
        le=0.1,
        description="the width of the lens in m, up to 0.1, to compare with the aperture",
    )
    material: str | None = Field(
        default=None, description="a chemical formula or name, such as Be or kapton"
    )
    delta: Positive | None = Field(
        default=None, description="a refractive index decrement, instead of material"
    )
    density: Positive | None = Field(
        default=None, description="the density of the material in g/cm3; by default that of xraydb"
    )
    lenses: Whole = Field(default=1, ge=1, description="the number of lenses in the stack")
    surfaces: Whole = Field(default=2, ge=1, description="the curved surfaces of each lens")


class Modes(Section):
    """Settings of `wavedask.optics.zernike` and `wavedask.optics.legendre`."""

    basis: Basis = Field(default="zernike", description=one_of(Basis))
    order: Whole = Field(
        default=4, ge=1, le=40, description="the highest order of the modes, from 1 to 40"
    )
    index: ModeIndex = Field(default="noll", description=one_of(ModeIndex))
    orthonormal: bool = Field(
        default=False, description="true for modes that are orthonormal over the pixels with data"
    )
    remove: tuple[str, ...] | None = Field(
        default=None,
        description="a list of names of modes, such as [tilt x, tilt y]; by default tilts and "
        "defocus (Legendre: curvatures)",
    )

    @model_validator(mode="after")
    def _sensible(self) -> "Modes":
        # By its value: the settings in a store name every key.
        if self.basis == "legendre" and self.index != type(self).model_fields["index"].default:
            raise ValueError("index: Legendre modes have one order of numbers; remove index")
        return self


class Mirror(Section):
    """Settings of `wavedask.optics.mirror`."""

    axis: AxisName = Field(
        description="y or x: the axis of the detector along which the mirror reflects"
    )
    theta: Number = Field(
        ge=1e-4, le=1.0, description="the grazing angle in rad, from 0.0001 to 1, such as 3.0e-3"
    )
    shape: MirrorShape = Field(default="ellipse", description=one_of(MirrorShape))
    p: Positive | None = Field(
        default=None,
        description="the distance from source to mirror in m (.inf for a parallel beam); by "
        "default wavefront.source_distance",
    )
    q: Number | None = Field(
        default=None,
        ge=1e-3,
        le=1e5,
        description="the distance from mirror to focus in m, from 0.001 to 100000",
    )
    free: tuple[Free, ...] = Field(
        default=("q",), description="the numbers of the ellipse that are fitted: of p, q, theta"
    )
    distance: Positive | None = Field(
        default=None,
        description="the distance from mirror to detector in m; by default wavefront.distance",
    )
    center: Number | None = Field(
        default=None,
        description="the position on the detector of the ray from the middle of the mirror, in m",
    )
    sign: Literal[1, -1] = Field(
        default=1, description="1 if the downstream end of the mirror is at larger positions, or -1"
    )

    @model_validator(mode="after")
    def _sensible(self) -> "Mirror":
        if len({*self.free}) != len(self.free):
            raise ValueError(f"free is {[*self.free]}: name each number once")
        free = type(self).model_fields["free"].default
        if self.shape != "ellipse" and (self.q is not None or self.free != free):
            raise ValueError(f"q and free are numbers of an ellipse, and shape is {self.shape}")
        return self


class Focus(Section):
    """Settings of `wavedask.optics.find_focus`."""

    source_distance: Positive | None = Field(
        default=None,
        description="the distance from source to optic in m; by default "
        "wavefront.source_distance, or else a parallel beam",
    )
    intensity: Power = Field(
        default="measured",
        description="measured (the transmission, where there is one) or uniform: the intensity of "
        "the beam",
    )
