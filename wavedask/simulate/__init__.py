"""A virtual beamline with known truth: speckle, a lens, a camera, a campaign on disk.

The geometric mode: speckle is evaluated, not resampled, at the coordinates that the rays of a lens
reach, so the true displacement of every pixel is known to a few parts in a million.
"""

from wavedask.simulate.camera import Camera
from wavedask.simulate.campaign import Campaign, write_campaign
from wavedask.simulate.lens import Lens, Truth, lens_truth
from wavedask.simulate.speckle import Pair, SpeckleField, displaced_pair, speckle_field

__all__ = [
    "Camera",
    "Campaign",
    "Lens",
    "Pair",
    "SpeckleField",
    "Truth",
    "displaced_pair",
    "lens_truth",
    "speckle_field",
    "write_campaign",
]
