"""A virtual beamline with known truth: speckle, optics, detectors, a campaign on disk.

Two modes. Geometric: speckle is evaluated, not resampled, at the coordinates that the rays of a
lens reach, so the true displacement of every pixel is known to a few parts in a million. Wave
optics: a source, a membrane, optics and detectors (`Beamline`), with the truth from ray tracing.
"""

from wavedask.simulate.beamline import Beamline
from wavedask.simulate.camera import Camera
from wavedask.simulate.campaign import Campaign, write_campaign
from wavedask.simulate.detector import Detector
from wavedask.simulate.distortion import Distortion, Feature, MeshScan, mesh_scan
from wavedask.simulate.elements import Membrane, Source
from wavedask.simulate.layouts import absolute_beamline, differential_beamline
from wavedask.simulate.lens import Lens, Truth, lens_truth
from wavedask.simulate.optics import Crl, Mirror, Optic, Rod
from wavedask.simulate.propagation import propagate
from wavedask.simulate.recording import BeamlineCampaign, write_beamline_campaign
from wavedask.simulate.setting import (
    DARK,
    FLAT,
    REFERENCE,
    SAMPLE,
    Setting,
    detector_mesh,
    membrane_scan,
)
from wavedask.simulate.speckle import Pair, SpeckleField, displaced_pair, speckle_field
from wavedask.simulate.train import pulse_train
from wavedask.simulate.truth import BeamTruth

__all__ = [
    "DARK",
    "FLAT",
    "REFERENCE",
    "SAMPLE",
    "BeamTruth",
    "Beamline",
    "BeamlineCampaign",
    "Camera",
    "Campaign",
    "Crl",
    "Detector",
    "Distortion",
    "Feature",
    "Lens",
    "Membrane",
    "MeshScan",
    "Mirror",
    "Optic",
    "Pair",
    "Rod",
    "Setting",
    "Source",
    "SpeckleField",
    "Truth",
    "absolute_beamline",
    "detector_mesh",
    "differential_beamline",
    "displaced_pair",
    "lens_truth",
    "membrane_scan",
    "mesh_scan",
    "propagate",
    "pulse_train",
    "speckle_field",
    "write_beamline_campaign",
    "write_campaign",
]
