"""Speckle scanning: delays between the signals of two pixels along a scan."""

from wavedask.kernels.scan.scanspace import LEAST_OVERLAP, ScanMatch

__all__ = [
    "LEAST_OVERLAP",
    "ScanMatch",
]
