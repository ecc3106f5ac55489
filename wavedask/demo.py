"""The demonstration: a campaign on disk with known truth, and the pipeline on its files."""

import json
import logging
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
import xraydb
import yaml

from wavedask.conventions import (
    FRAME,
    RADIUS,
    SLOPE_X,
    SLOPE_Y,
    WAVEFRONT,
    X,
    Y,
    labelled,
    Quantity,
    METRE,
)
from wavedask.errors import FileError
from wavedask.experiment import Experiment, load_experiment
from wavedask.optics import fit_lens
from wavedask.pipeline import Plan, RunReport, plan, run, stages
from wavedask.plot import plot_maps
from wavedask.simulate import Campaign, Lens, write_campaign
from wavedask.store import open_store

logger = logging.getLogger(__name__)

ENERGY: Final = 17.0
DISTANCE: Final = 1.0
PIXEL_SIZE: Final = 0.65e-6
RADIUS_TRUE: Final = 50e-6
MATERIAL: Final = "Be"
POSITIONS: Final = 3
STEP: Final = 20e-6
"""Lens positions, and the distance between them in m."""
FIGURE: Final = ((0, 0, 0, 1.5e-6), (0, 1.0e-6, 0, 0), (0, 0, 0, 0), (-2.0e-6, 0, 0, 0))
"""Thickness error of the lens in m: products of Legendre polynomials over the frame."""

EXPERIMENT: Final = "experiment.yaml"
RAW: Final = "raw"
TRUTH: Final = "truth.json"
STORE: Final = "results.zarr"
PICTURE: Final = "demo.png"

DEVIATION: Final = Quantity("residual", METRE, "measured minus true wavefront")
