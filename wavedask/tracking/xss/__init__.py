"""Speckle scanning (XSS): delays along a scan of the membrane, and self-reference."""

from wavedask.tracking.xss.scanning import track_scan
from wavedask.tracking.xss.selfreference import self_reference

__all__ = ["self_reference", "track_scan"]
