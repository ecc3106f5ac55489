"""Pictures: maps, calibrations, and the picture that suits a dataset."""

from wavedask.plot.maps import Picture, plot_calibration, plot_map, plot_maps
from wavedask.plot.pictures import KINDS, plot_dataset

__all__ = ["KINDS", "Picture", "plot_calibration", "plot_dataset", "plot_map", "plot_maps"]
