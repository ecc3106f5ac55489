"""Speckle-based X-ray wavefront analysis on Dask and xarray."""

from importlib.metadata import version

from wavedask import errors, optics, simulate
from wavedask.budget import Budget, budget
from wavedask.combine import combine
from wavedask.correct import blind_pixels, correct
from wavedask.crossspot import cross_spot
from wavedask.distortion import detector_distortion
from wavedask.integrate import integrate
from wavedask.io import input_files, mesh, open_scan
from wavedask.registration import Registration, register
from wavedask.store import StoreReport, open_store, write_store
from wavedask.track import track
from wavedask.wavefront import wavefront
from wavedask.xss import self_reference, track_scan

__version__ = version("wavedask")

__all__ = [
    "Budget",
    "Registration",
    "StoreReport",
    "blind_pixels",
    "budget",
    "combine",
    "correct",
    "cross_spot",
    "detector_distortion",
    "errors",
    "input_files",
    "integrate",
    "mesh",
    "open_scan",
    "open_store",
    "optics",
    "register",
    "self_reference",
    "simulate",
    "track",
    "track_scan",
    "wavefront",
    "write_store",
]
