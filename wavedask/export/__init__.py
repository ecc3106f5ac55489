"""Export of results for other programs: NeXus, TIFF and CSV."""

from wavedask.export.files import export_store, to_csv, to_tiff
from wavedask.export.nexus import to_nexus

__all__ = [
    "export_store",
    "to_csv",
    "to_nexus",
    "to_tiff",
]
