"""Speckle-based X-ray wavefront analysis on Dask and xarray."""

from wavedask.correct import blind_pixels, correct
from wavedask.crossspot import CrossSpot, cross_spot
from wavedask.track import track

__all__ = ["CrossSpot", "blind_pixels", "correct", "cross_spot", "track"]
