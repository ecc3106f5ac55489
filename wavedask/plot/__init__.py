"""Pictures: maps, calibrations, and the picture that suits a dataset."""

from wavedask.plot.frames import plot_frames
from wavedask.plot.maps import Picture, plot_calibration, plot_map, plot_maps
from wavedask.plot.optics import PICTURES, plot_caustic, plot_mirror, plot_modes
from wavedask.plot.pictures import KINDS, kinds_of, plot_dataset
from wavedask.plot.reasons import plot_reasons
from wavedask.plot.sketch import setup_sketch

__all__ = [
    "KINDS",
    "PICTURES",
    "Picture",
    "kinds_of",
    "plot_calibration",
    "plot_caustic",
    "plot_dataset",
    "plot_frames",
    "plot_map",
    "plot_maps",
    "plot_mirror",
    "plot_modes",
    "plot_reasons",
    "setup_sketch",
]
