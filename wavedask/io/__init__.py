"""Files of a beamline, opened as a labelled, lazy scan."""

from wavedask.io.motors import mesh
from wavedask.io.scan import input_files, open_scan, refresh

__all__ = ["input_files", "mesh", "open_scan", "refresh"]
