"""HDF5 files of BLISS, NeXus, Data Exchange, and any other with paths given."""

from wavedask.io.hdf5.reader import Hdf5Scan, ScanSummary, list_scans, read_hdf5

__all__ = ["Hdf5Scan", "ScanSummary", "list_scans", "read_hdf5"]
