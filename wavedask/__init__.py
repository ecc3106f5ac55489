"""Speckle-based X-ray wavefront analysis on Dask and xarray."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from wavedask import errors, optics, plot, simulate
from wavedask.accessor import Wave
from wavedask.compute import show_progress
from wavedask.detector import blind_pixels, correct, detector_distortion
from wavedask.export import to_csv, to_nexus, to_tiff
from wavedask.frames import grid, nearest, select, where_motors
from wavedask.io import input_files, mesh, open_scan, refresh
from wavedask.report import write_report
from wavedask.store import StoreReport, open_store, write_store
from wavedask.tracking import (
    DetectorNoise,
    Registration,
    SpeckleReport,
    combine,
    cross_spot,
    describe_residual,
    describe_speckle,
    register,
    self_reference,
    track,
    track_scan,
    visibility_uncertainty,
    why_missing,
)
from wavedask.wavefront import Budget, budget, integrate, surface_uncertainty, wavefront

if TYPE_CHECKING:
    from wavedask.compute import connect

__version__ = version("wavedask")

__all__ = [
    "Budget",
    "DetectorNoise",
    "Registration",
    "SpeckleReport",
    "StoreReport",
    "Wave",
    "blind_pixels",
    "budget",
    "combine",
    "connect",
    "correct",
    "cross_spot",
    "describe_residual",
    "describe_speckle",
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
    "plot",
    "refresh",
    "register",
    "select",
    "self_reference",
    "show_progress",
    "simulate",
    "surface_uncertainty",
    "to_csv",
    "to_nexus",
    "to_tiff",
    "track",
    "track_scan",
    "visibility_uncertainty",
    "wavefront",
    "where_motors",
    "why_missing",
    "write_report",
    "write_store",
]


def __getattr__(name: str) -> Any:
    """Import `connect` at its first use: it needs `distributed`, which is slow to import."""
    if name == "connect":
        from wavedask.compute import connect

        return connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names only."""
    return [*__all__, "__version__"]
