"""The result store: one Zarr dataset along ``frame``, written frame by frame, resumable."""

from wavedask.store.faults import os_errors
from wavedask.store.integrity import Soundness, verify
from wavedask.store.layout import (
    COMPRESSOR,
    CREATED,
    FORMAT,
    FORMAT_VERSION,
    INPUTS,
    RUNS,
    SETTINGS,
    VERSION,
    VERSIONS,
    attributes_of,
    create,
)
from wavedask.store.places import METADATA, URL, Place, local_path, place_of
from wavedask.store.provenance import as_json, changes, differences, fingerprints, versions
from wavedask.store.results import StoreReport, open_store, write_store

__all__ = [
    "COMPRESSOR",
    "CREATED",
    "FORMAT",
    "FORMAT_VERSION",
    "INPUTS",
    "METADATA",
    "RUNS",
    "SETTINGS",
    "URL",
    "VERSION",
    "VERSIONS",
    "Place",
    "Soundness",
    "StoreReport",
    "as_json",
    "attributes_of",
    "changes",
    "create",
    "differences",
    "fingerprints",
    "local_path",
    "open_store",
    "os_errors",
    "place_of",
    "verify",
    "versions",
    "write_store",
]
