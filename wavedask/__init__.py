"""Speckle-based X-ray wavefront analysis on Dask and xarray."""

from importlib.metadata import version

from wavedask import errors, optics, simulate
from wavedask.correct import blind_pixels, correct
from wavedask.crossspot import cross_spot
from wavedask.integrate import integrate
from wavedask.io import input_files, mesh, open_scan
from wavedask.store import StoreReport, open_store, write_store
from wavedask.track import track
from wavedask.wavefront import wavefront

__version__ = version("wavedask")

__all__ = [
    "StoreReport",
    "blind_pixels",
    "correct",
    "cross_spot",
    "errors",
    "input_files",
    "integrate",
    "mesh",
    "open_scan",
    "open_store",
    "optics",
    "simulate",
    "track",
    "wavefront",
    "write_store",
]
