"""HDF5 files of BLISS, NeXus, DECTRIS, Data Exchange, and any other with paths given."""

from wavedask.io.hdf5.listing import ScanSummary, list_scans
from wavedask.io.hdf5.reader import UNFINISHED, Hdf5Scan, read_hdf5
from wavedask.io.hdf5.several import join_files, read_files

__all__ = [
    "UNFINISHED",
    "Hdf5Scan",
    "ScanSummary",
    "join_files",
    "list_scans",
    "read_files",
    "read_hdf5",
]
