"""Speckle tracking: crossSpot, XST, XSVT, XSS, two detectors, averages of exposures."""

from wavedask.kernels.dense import DetectorNoise
from wavedask.tracking.averages import combine
from wavedask.tracking.crossspot import cross_spot
from wavedask.tracking.labelled import track
from wavedask.tracking.matching import ENGINES, Engine, Rigid, checked_settings
from wavedask.tracking.missing import MissingReport, why_missing
from wavedask.tracking.registration import (
    Registration,
    check_scale,
    is_registered,
    register,
    registration_of,
)
from wavedask.tracking.residual import ResidualReport, describe_residual, first_residual
from wavedask.tracking.speckle import SpeckleReport, describe_speckle
from wavedask.tracking.visibility import visibility_uncertainty
from wavedask.tracking.xss import self_reference, track_scan

__all__ = [
    "ENGINES",
    "DetectorNoise",
    "Engine",
    "MissingReport",
    "Registration",
    "ResidualReport",
    "Rigid",
    "SpeckleReport",
    "check_scale",
    "checked_settings",
    "combine",
    "cross_spot",
    "describe_residual",
    "describe_speckle",
    "first_residual",
    "is_registered",
    "register",
    "registration_of",
    "self_reference",
    "track",
    "track_scan",
    "visibility_uncertainty",
    "why_missing",
]
