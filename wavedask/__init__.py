"""Speckle-based X-ray wavefront analysis on Dask and xarray."""

from importlib.metadata import version

from wavedask import errors, optics, simulate
from wavedask.accessor import Wave
from wavedask.budget import Budget, budget
from wavedask.combine import combine
from wavedask.correct import blind_pixels, correct
from wavedask.crossspot import cross_spot
from wavedask.distortion import detector_distortion
from wavedask.export import to_csv, to_tiff
from wavedask.integrate import integrate
from wavedask.io import input_files, mesh, open_scan, refresh
from wavedask.nexus import to_nexus
from wavedask.queries import nearest, select, where_motors
from wavedask.registration import Registration, register
from wavedask.regrid import grid
from wavedask.store import StoreReport, open_store, write_store
from wavedask.track import track
from wavedask.wavefront import wavefront
from wavedask.xss import self_reference, track_scan

__version__ = version("wavedask")

__all__ = [
    "Budget",
    "Registration",
    "StoreReport",
    "Wave",
    "blind_pixels",
    "budget",
    "combine",
    "correct",
    "cross_spot",
    "detector_distortion",
    "errors",
    "grid",
    "input_files",
    "integrate",
    "mesh",
    "nearest",
    "open_scan",
    "open_store",
    "optics",
    "refresh",
    "register",
    "select",
    "self_reference",
    "simulate",
    "to_csv",
    "to_nexus",
    "to_tiff",
    "track",
    "track_scan",
    "wavefront",
    "where_motors",
    "write_store",
]
