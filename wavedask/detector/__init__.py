"""Correction of images: dark, flat, hot pixels, and the distortion of the detector."""

from wavedask.detector.averaging import Average
from wavedask.detector.correction import blind_pixels, correct
from wavedask.detector.distortion import METHODS, Method, detector_distortion

__all__ = [
    "METHODS",
    "Average",
    "Method",
    "blind_pixels",
    "correct",
    "detector_distortion",
]
