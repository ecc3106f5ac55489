"""Files of a beamline, opened as a labelled, lazy scan."""

from wavedask.io.columns import Column, coordinates
from wavedask.io.euxfel import is_run_file
from wavedask.io.files import Format, format_of
from wavedask.io.hdf5 import UNFINISHED, ScanSummary, list_scans
from wavedask.io.hdf5.access import files_behind_each
from wavedask.io.maskfile import read_mask, split_mask
from wavedask.io.motors import Motors, mesh
from wavedask.io.packed import packed
from wavedask.io.scan import input_files, open_scan, refresh

__all__ = [
    "UNFINISHED",
    "Column",
    "Format",
    "Motors",
    "ScanSummary",
    "coordinates",
    "files_behind_each",
    "format_of",
    "input_files",
    "is_run_file",
    "list_scans",
    "mesh",
    "open_scan",
    "packed",
    "read_mask",
    "refresh",
    "split_mask",
]
