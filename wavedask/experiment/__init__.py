"""The experiment file, its stages and the run: from raw files to a result store."""

from wavedask.experiment.calibration import calibrate, describe_calibration
from wavedask.experiment.draft import SCHEMA, Draft, draft_experiment
from wavedask.experiment.model import Experiment, load_experiment
from wavedask.experiment.pages import write_page
from wavedask.experiment.pipeline import BLIND_PIXELS, RunReport, bytes_at_work, plan, run
from wavedask.experiment.reproduce import check_inputs, experiments_of, recorded
from wavedask.experiment.sections import (
    Cluster,
    Combine,
    Frames,
    SelfReference,
    StatedNoise,
    Track,
    TrackScan,
    Wavefront,
)
from wavedask.experiment.stages import REGISTRATION, Stages, stages_of

__all__ = [
    "BLIND_PIXELS",
    "REGISTRATION",
    "SCHEMA",
    "Cluster",
    "Combine",
    "Draft",
    "Experiment",
    "Frames",
    "RunReport",
    "SelfReference",
    "Stages",
    "StatedNoise",
    "Track",
    "TrackScan",
    "Wavefront",
    "bytes_at_work",
    "calibrate",
    "check_inputs",
    "describe_calibration",
    "draft_experiment",
    "experiments_of",
    "load_experiment",
    "plan",
    "recorded",
    "run",
    "stages_of",
    "write_page",
]
