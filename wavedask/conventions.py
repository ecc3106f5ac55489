"""The vocabulary: every dimension and variable name, with its unit and its meaning.

No other module spells one of these names as a literal. The signs are fixed here too:

* ``sample(p) = reference(p - u)``: a feature at ``p`` in the reference is at ``p + u`` in the
  sample. A displacement is positive toward larger index.
* ``slope = grad(wavefront)``; a focusing optic has ``W = -r**2 / 2f`` and deflects toward the axis.
* ``phase = 2 pi W / wavelength``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import xarray as xr

FRAME: Final = "frame"
"""Dimension of a scan: time or motor step."""
Y: Final = "y"
"""Detector rows: pixel numbers until a result is physical, then metres."""
X: Final = "x"
"""Detector columns: pixel numbers until a result is physical, then metres."""
AxisName = Literal["y", "x"]
"""An axis of the detector."""

PAIR: Final = "pair"
"""Dimension of a calibration: pairs of frames."""
PIXEL_AXIS: Final = "pixel_axis"
"""Dimension of a 2x2 matrix: the axes of the detector, rows first."""
MOTOR_AXIS: Final = "motor_axis"
"""Dimension of a 2x2 matrix: the motors that move the detector along them."""
EXPOSURE: Final = "exposure"
"""Dimension of exposures that were combined to fewer frames."""

PLANE: Final = "caustic_plane"
"""Dimension of a caustic: planes along the beam."""
POINT: Final = "caustic_point"
"""Dimension of a caustic: positions across the beam."""
PROPAGATED: Final = "propagated"
"""Attribute of an intensity: distance from the detector to its plane, m."""

MIRROR_POINT: Final = "mirror_point"
"""Dimension of the profiles of a mirror in a store, where each frame has its own positions."""
MODE_PREFIX: Final = "mode_"
"""Begin of the name of a number per frame that is the coefficient of a mode: ``mode_coma_x``."""

PHOTON_ENERGY: Final = "energy"
"""Coordinate or attribute of a scan: photon energy, in keV where it has no unit."""
EXPOSURE_TIME: Final = "exposure_time"
"""Coordinate or attribute of a scan: exposure time of a frame, in s."""
DETECTOR_DISTANCE: Final = "detector_distance"
"""Coordinate or attribute of a scan: distance from the optic to the detector, in m."""
BINNING: Final = "binning"
"""Attribute of a scan: camera pixels in one pixel of the image, along both axes or (y, x)."""
SURE: Final = "sure"
"""Attribute of a result: facts whose values the user confirmed (see `wavedask.facts`)."""
PIXEL_MASK: Final = "pixel_mask"
"""Coordinate of a scan on `y` and `x`: True where its files declare a pixel bad."""
BAD_VALUES: Final = "bad_values"
"""Attribute of raw frames: list of the values that their files declare to be no counts."""
SATURATION_VALUE: Final = "saturation_value"
"""Attribute of raw frames: largest valid count that their files declare."""
UNDERLOAD_VALUE: Final = "underload_value"
"""Attribute of raw frames: smallest valid count that their files declare."""
NOT_READ: Final = "not_read"
"""Attribute of a scan: what its files hold and could not be read, or was not taken."""

SOURCE_FILE: Final = "source_file"
"""Coordinate on `frame`: path of the file that holds the frame."""
SOURCE_INDEX: Final = "source_index"
"""Coordinate on `frame`: number of the frame within its file, from zero."""
SOURCE_DATASET: Final = "source_dataset"
"""Coordinate on `frame`: dataset that holds the frame, in files with several datasets."""
REFERENCE_FILE: Final = "reference_file"
"""Coordinate on `frame` of a tracking: `source_file` of the reference, if there are several."""
REFERENCE_INDEX: Final = "reference_index"
"""Coordinate on `frame` of a tracking: `source_index` of the reference."""
REFERENCE_DATASET: Final = "reference_dataset"
"""Coordinate on `frame` of a tracking: `source_dataset` of the reference."""
COMMON_REFERENCE: Final = "common_reference"
"""Attribute of a tracking: 1 where all its frames were tracked in one reference image."""
SPLINE_ORDER: Final = "spline_order"
"""Attribute of a tracking by engine dense: order of the B-splines, as given or chosen."""
EFFECTIVE_COUNTS: Final = "effective_counts"
"""Attribute of a tracking: photons per pixel of the sample that would make its noise."""
NOISE_BLUR: Final = "noise_blur_px"
"""Attribute of a tracking: full width at half maximum, in pixels, of the light of one photon."""
DECORRELATION: Final = "decorrelation"
"""Attribute of a tracking: part of the speckle that is not the same in sample and reference."""
FIXED_PATTERN: Final = "fixed_pattern"
"""Attribute of a tracking: relative deviation of what both images share at the same pixels."""
DETECTOR_NOISE: Final = "detector_noise"
"""Attribute of a tracking: the noise that the detector is said to have, as JSON."""
RESIDUAL_OVER_NOISE: Final = "residual_over_noise"
"""Attribute of a tracking: variance of its residual over that of the noise of the detector."""
STACK_FRAMES: Final = "stack_frames"
"""Coordinate on `frame` of stacks that are matched together: raw frames of each, as JSON."""

SCAN: Final = "scan"
"""Coordinate on `frame` of a result store: the run that added the frame, from zero.

This name is not reserved: a result with a coordinate of this name keeps it.
"""

UNITS: Final = "units"
"""Attribute that holds the unit of a variable."""
LONG_NAME: Final = "long_name"
"""Attribute that describes a variable."""
REGION: Final = "region"
"""Attribute of a number of each frame: the part of the map that it is of, if not all of it."""
PUPIL: Final = "pupil"
"""The region that an experiment file names."""
ROLE: Final = "role"
"""Attribute of a coordinate of a scan: the origin of its values (one of the roles below)."""

MASKED_BY: Final = "masked_by"
"""Attribute of images: by what their masked pixels were found, in words."""
MASKED: Final = "masked"
"""Attribute of images: fraction of the pixels that are masked; only where it is known."""
DARK_SUBTRACTED: Final = "dark_subtracted"
"""Attribute of images from which a dark was subtracted: which one, in words."""
FLAT_DIVIDED: Final = "flat_divided"
"""Attribute of images that were divided by a flat field: by which one, in words."""
HOT_PIXELS_REPLACED: Final = "hot_pixels_replaced"
"""Attribute of images whose hot pixels were replaced: the fraction beyond which a pixel is hot."""
UNDISTORTED: Final = "undistorted"
"""Attribute of images on undistorted pixels: how they were resampled, in words."""

FLAG_VALUES: Final = "flag_values"
"""Attribute of a variable of codes: its values (CF conventions)."""
FLAG_MEANINGS: Final = "flag_meanings"
"""Attribute of a variable of codes: what the values mean, one word each (CF conventions)."""
SEARCH: Final = "search"
"""Attribute of `REASON`: pixels (steps, of a scan) that were searched on either side."""
FLAGS: Final = (FLAG_VALUES, FLAG_MEANINGS, SEARCH)
"""Attributes of a variable of codes that go with it."""

MOTOR: Final = "motor"
"""Role of a coordinate that is the position of a motor."""
COUNTER: Final = "counter"
"""Role of a coordinate that is the reading of a counter."""
HEADER: Final = "header"
"""Role of a coordinate from a header item that differs between frames."""

UNKNOWN_UNIT: Final = "unknown"
"""Unit of a motor or counter if its file gives none."""
PIXEL: Final = "px"
COUNTS: Final = "counts"
METRE: Final = "m"
RADIAN: Final = "rad"
DIMENSIONLESS: Final = "1"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A named physical quantity.

    Attributes
    ----------
    name : str
        Name of the variable in a dataset.
    units : str
        Unit of its values.
    long_name : str
        Description; the label of an axis or a colour bar.
    """

    name: str
    units: str
    long_name: str

    @property
    def attrs(self) -> dict[str, str]:
        """Attributes ``units`` and ``long_name``, as a new dictionary."""
        return {UNITS: self.units, LONG_NAME: self.long_name}


IMAGE: Final = Quantity("image", COUNTS, "intensity")
DISPLACEMENT_Y: Final = Quantity("displacement_y", PIXEL, "vertical displacement")
DISPLACEMENT_X: Final = Quantity("displacement_x", PIXEL, "horizontal displacement")
UNCERTAINTY_Y: Final = Quantity(
    "uncertainty_y", PIXEL, "standard error of the vertical displacement"
)
UNCERTAINTY_X: Final = Quantity(
    "uncertainty_x", PIXEL, "standard error of the horizontal displacement"
)
DRIFT_Y: Final = Quantity("drift_y", PIXEL, "vertical drift of the rigid shift")
DRIFT_X: Final = Quantity("drift_x", PIXEL, "horizontal drift of the rigid shift")
DRIFT_UNCERTAINTY_Y: Final = Quantity(
    "drift_uncertainty_y", PIXEL, "standard error of the vertical drift"
)
DRIFT_UNCERTAINTY_X: Final = Quantity(
    "drift_uncertainty_x", PIXEL, "standard error of the horizontal drift"
)
CHI2: Final = Quantity("chi2", DIMENSIONLESS, "reduced chi-squared of the exposures")
EXPOSURES: Final = Quantity("exposures", DIMENSIONLESS, "number of exposures combined")
SETTING: Final = Quantity("setting", DIMENSIONLESS, "frame to which an exposure was combined")
DELAY_Y: Final = Quantity("delay_y", METRE, "vertical delay along a scan of the membrane")
DELAY_X: Final = Quantity("delay_x", METRE, "horizontal delay along a scan of the membrane")
DELAY_UNCERTAINTY_Y: Final = Quantity(
    "delay_uncertainty_y", METRE, "standard error of the vertical delay"
)
DELAY_UNCERTAINTY_X: Final = Quantity(
    "delay_uncertainty_x", METRE, "standard error of the horizontal delay"
)
CORRELATION: Final = Quantity("correlation", DIMENSIONLESS, "zero-normalised cross-correlation")
WINDOW: Final = Quantity("window", PIXEL, "side of the matching window")
TRANSMISSION: Final = Quantity("transmission", DIMENSIONLESS, "transmission")
DARK_FIELD: Final = Quantity("dark_field", DIMENSIONLESS, "dark field (ratio of visibilities)")
TRANSMISSION_UNCERTAINTY: Final = Quantity(
    "transmission_uncertainty", DIMENSIONLESS, "standard error of the transmission"
)
DARK_FIELD_UNCERTAINTY: Final = Quantity(
    "dark_field_uncertainty", DIMENSIONLESS, "standard error of the dark field"
)
REASON: Final = Quantity("reason", DIMENSIONLESS, "why a pixel has no displacement")
SLOPE_Y: Final = Quantity("slope_y", RADIAN, "vertical wavefront slope")
SLOPE_X: Final = Quantity("slope_x", RADIAN, "horizontal wavefront slope")
SLOPE_UNCERTAINTY_Y: Final = Quantity(
    "slope_uncertainty_y", RADIAN, "standard error of the vertical wavefront slope"
)
SLOPE_UNCERTAINTY_X: Final = Quantity(
    "slope_uncertainty_x", RADIAN, "standard error of the horizontal wavefront slope"
)
WAVEFRONT: Final = Quantity("wavefront", METRE, "wavefront (path length)")
WAVEFRONT_UNCERTAINTY: Final = Quantity(
    "wavefront_uncertainty", METRE, "standard error of the wavefront"
)
MATCHED: Final = Quantity(
    "matched_share", DIMENSIONLESS, "fraction of the pixels that have a displacement"
)
WAVEFRONT_RMS: Final = Quantity("wavefront_rms", METRE, "rms wavefront")
WAVEFRONT_PV: Final = Quantity("wavefront_pv", METRE, "wavefront, largest minus smallest value")
PHASE: Final = Quantity("phase", RADIAN, "phase")
CURVATURE_Y: Final = Quantity("curvature_y", "1/m", "vertical wavefront curvature")
CURVATURE_X: Final = Quantity("curvature_x", "1/m", "horizontal wavefront curvature")
CURVATURE_UNCERTAINTY_Y: Final = Quantity(
    "curvature_uncertainty_y", "1/m", "standard error of the vertical wavefront curvature"
)
CURVATURE_UNCERTAINTY_X: Final = Quantity(
    "curvature_uncertainty_x", "1/m", "standard error of the horizontal wavefront curvature"
)
TILT_Y: Final = Quantity("tilt_y", RADIAN, "vertical tilt, taken out of the slopes")
TILT_X: Final = Quantity("tilt_x", RADIAN, "horizontal tilt, taken out of the slopes")
DETECTOR_ROTATION: Final = Quantity(
    "detector_rotation", RADIAN, "rotation of the near detector against the far one"
)
RADIUS_OF_CURVATURE_Y: Final = Quantity(
    "radius_of_curvature_y", METRE, "vertical radius of curvature of the wavefront"
)
RADIUS_OF_CURVATURE_X: Final = Quantity(
    "radius_of_curvature_x", METRE, "horizontal radius of curvature of the wavefront"
)
RADIUS_OF_CURVATURE_UNCERTAINTY_Y: Final = Quantity(
    "radius_of_curvature_uncertainty_y",
    METRE,
    "standard error of the vertical radius of curvature",
)
RADIUS_OF_CURVATURE_UNCERTAINTY_X: Final = Quantity(
    "radius_of_curvature_uncertainty_x",
    METRE,
    "standard error of the horizontal radius of curvature",
)
FOCAL_LENGTH: Final = Quantity("focal_length", METRE, "focal length")
RADIUS: Final = Quantity("radius", METRE, "apex radius of curvature of one lens surface")
RADIUS_Y: Final = Quantity("radius_y", METRE, "apex radius of one lens surface, vertical")
RADIUS_X: Final = Quantity("radius_x", METRE, "apex radius of one lens surface, horizontal")
CENTER_Y: Final = Quantity("center_y", METRE, "vertical position of the optical axis")
CENTER_X: Final = Quantity("center_x", METRE, "horizontal position of the optical axis")
RESIDUAL: Final = Quantity("residual", METRE, "wavefront without the fitted lens")
RESIDUAL_RMS: Final = Quantity("residual_rms", METRE, "rms wavefront without the fitted lens")
FOCAL_LENGTH_UNCERTAINTY: Final = Quantity(
    "focal_length_uncertainty", METRE, "standard error of the focal length"
)
RADIUS_UNCERTAINTY: Final = Quantity(
    "radius_uncertainty", METRE, "standard error of the apex radius of one lens surface"
)
RADIUS_UNCERTAINTY_Y: Final = Quantity(
    "radius_uncertainty_y", METRE, "standard error of the vertical apex radius"
)
RADIUS_UNCERTAINTY_X: Final = Quantity(
    "radius_uncertainty_x", METRE, "standard error of the horizontal apex radius"
)
CENTER_UNCERTAINTY_Y: Final = Quantity(
    "center_uncertainty_y", METRE, "standard error of the vertical position of the optical axis"
)
CENTER_UNCERTAINTY_X: Final = Quantity(
    "center_uncertainty_x", METRE, "standard error of the horizontal position of the optical axis"
)
RESIDUAL_NOISE: Final = Quantity(
    "residual_noise", METRE, "rms noise of matching in the wavefront without the fitted lens"
)
RESIDUAL_RMS_UNCERTAINTY: Final = Quantity(
    "residual_rms_uncertainty",
    METRE,
    "standard error of the rms wavefront without the fitted lens",
)
FOCAL_LENGTH_Y: Final = Quantity("focal_length_y", METRE, "focal length along the axis near y")
FOCAL_LENGTH_X: Final = Quantity("focal_length_x", METRE, "focal length along the axis near x")
FOCAL_LENGTH_UNCERTAINTY_Y: Final = Quantity(
    "focal_length_uncertainty_y", METRE, "standard error of the focal length along y"
)
FOCAL_LENGTH_UNCERTAINTY_X: Final = Quantity(
    "focal_length_uncertainty_x", METRE, "standard error of the focal length along x"
)
AZIMUTH: Final = Quantity("azimuth", RADIAN, "angle of the axis of the lens, from x toward y")
AZIMUTH_UNCERTAINTY: Final = Quantity(
    "azimuth_uncertainty", RADIAN, "standard error of the angle of the axis of the lens"
)
RESIDUAL_RANGE: Final = Quantity(
    "residual_range", METRE, "peak to valley of the wavefront without the fitted lens"
)
RESIDUAL_RANGE_UNCERTAINTY: Final = Quantity(
    "residual_range_uncertainty",
    METRE,
    "standard error of the peak to valley without the fitted lens",
)
EXPLAINED_VARIANCE: Final = Quantity(
    "explained_variance", DIMENSIONLESS, "part of the variance of the slopes that the lens explains"
)
VERDICT: Final = Quantity("verdict", DIMENSIONLESS, "whether the fit can be a lens")
APERTURE: Final = Quantity("aperture", DIMENSIONLESS, "pixels to which the lens was fitted")
APERTURE_CENTER_Y: Final = Quantity(
    "aperture_center_y", METRE, "vertical middle of the fitted pixels"
)
APERTURE_CENTER_X: Final = Quantity(
    "aperture_center_x", METRE, "horizontal middle of the fitted pixels"
)
APERTURE_WIDTH_Y: Final = Quantity(
    "aperture_width_y", METRE, "vertical extent of the fitted pixels"
)
APERTURE_WIDTH_X: Final = Quantity(
    "aperture_width_x", METRE, "horizontal extent of the fitted pixels"
)
THICKNESS: Final = Quantity("thickness", METRE, "thickness of the lens above its apex")
FIGURE_ERROR_RMS: Final = Quantity("figure_error_rms", METRE, "rms of the excess thickness")
FIGURE_ERROR_RMS_UNCERTAINTY: Final = Quantity(
    "figure_error_rms_uncertainty", METRE, "standard error of the rms of the excess thickness"
)
FIGURE_ERROR_RANGE: Final = Quantity(
    "figure_error_range", METRE, "peak to valley of the excess thickness"
)
FIGURE_ERROR_RANGE_UNCERTAINTY: Final = Quantity(
    "figure_error_range_uncertainty",
    METRE,
    "standard error of the peak to valley of the excess thickness",
)
FIGURE_ERROR: Final = Quantity("figure_error", METRE, "excess thickness of the lens")
COEFFICIENT: Final = Quantity("coefficient", METRE, "rms that a mode adds to the wavefront")
COEFFICIENT_UNCERTAINTY: Final = Quantity(
    "coefficient_uncertainty", METRE, "standard error of the coefficient of a mode"
)
COEFFICIENT_COVARIANCE: Final = Quantity(
    "coefficient_covariance", "m2", "covariance of the coefficients of modes"
)
MODE_NUMBER: Final = Quantity("mode_number", DIMENSIONLESS, "number of a mode")
OTHER_MODE: Final = Quantity("other_mode", DIMENSIONLESS, "number of the other mode")
MODE_DEGREE: Final = Quantity(
    "mode_degree", DIMENSIONLESS, "radial order, or degree in y, of a mode"
)
MODE_ORDER: Final = Quantity(
    "mode_order", DIMENSIONLESS, "azimuthal frequency, or degree in x, of a mode"
)
MODE_NAME: Final = Quantity("mode_name", DIMENSIONLESS, "name of a mode")
TILT_MODES: Final = ("tilt x", "tilt y")
"""Names of modes that are a matter of the set-up, and no aberration."""
FOCUSING_MODES: Final = ("defocus", "curvature y", "curvature x")
"""Names of modes that are usually far larger than the others."""
MODE_MIX: Final = Quantity(
    "mode_mix", DIMENSIONLESS, "coefficients of the polynomials in an orthonormal mode"
)
COEFFICIENT_WAVES: Final = Quantity(
    "coefficient_waves", DIMENSIONLESS, "coefficient of a mode in wavelengths"
)
COEFFICIENT_WAVES_UNCERTAINTY: Final = Quantity(
    "coefficient_waves_uncertainty",
    DIMENSIONLESS,
    "standard error of the coefficient of a mode in wavelengths",
)
FREQUENCY_Y: Final = Quantity("frequency_y", "1/m", "vertical spatial frequency")
FREQUENCY_X: Final = Quantity("frequency_x", "1/m", "horizontal spatial frequency")
PSD_Y: Final = Quantity("psd_y", "m3", "power spectral density along y")
PSD_X: Final = Quantity("psd_x", "m3", "power spectral density along x")
DIFFERENCE: Final = Quantity("difference", METRE, "difference of two wavefronts")
DIFFERENCE_UNCERTAINTY: Final = Quantity(
    "difference_uncertainty", METRE, "standard error of the difference of two wavefronts"
)
DIFFERENCE_RMS: Final = Quantity("difference_rms", METRE, "rms difference of two wavefronts")
MODES_RESIDUAL_RMS: Final = Quantity(
    "modes_residual_rms", METRE, "rms of the wavefront without all fitted modes"
)
ABERRATION: Final = Quantity("aberration", METRE, "wavefront without the removed modes")
ABERRATION_RMS: Final = Quantity(
    "aberration_rms", METRE, "rms of the wavefront without the removed modes"
)
ABERRATION_PV: Final = Quantity(
    "aberration_pv", METRE, "peak to valley of the wavefront without the removed modes"
)
COVERAGE: Final = Quantity("coverage", DIMENSIONLESS, "fields that were joined at a position")
STITCHING_PISTON: Final = Quantity(
    "stitching_piston", METRE, "piston that was taken out of a field to join it"
)
STITCHING_TILT_Y: Final = Quantity(
    "stitching_tilt_y", RADIAN, "vertical tilt that was taken out of a field to join it"
)
STITCHING_TILT_X: Final = Quantity(
    "stitching_tilt_x", RADIAN, "horizontal tilt that was taken out of a field to join it"
)
STITCHING_MISFIT: Final = Quantity(
    "stitching_misfit", METRE, "rms by which a field differs from the joined ones"
)
FOCUS_DISTANCE_Y: Final = Quantity(
    "focus_distance_y", METRE, "distance from the detector to the vertical focus"
)
FOCUS_DISTANCE_X: Final = Quantity(
    "focus_distance_x", METRE, "distance from the detector to the horizontal focus"
)
ASTIGMATIC_DIFFERENCE: Final = Quantity(
    "astigmatic_difference", METRE, "distance of the vertical focus behind the horizontal one"
)
FOCUS_FWHM_Y: Final = Quantity(
    "focus_fwhm_y", METRE, "vertical full width at half maximum of the focus"
)
FOCUS_FWHM_X: Final = Quantity(
    "focus_fwhm_x", METRE, "horizontal full width at half maximum of the focus"
)
FOCUS_RMS_Y: Final = Quantity("focus_rms_y", METRE, "vertical rms width of the focus")
FOCUS_RMS_X: Final = Quantity("focus_rms_x", METRE, "horizontal rms width of the focus")
FOCUS_WIDTH_Y: Final = Quantity("focus_width_y", METRE, "vertical width with 80 % of the power")
FOCUS_WIDTH_X: Final = Quantity("focus_width_x", METRE, "horizontal width with 80 % of the power")
FOCUS_DEPTH_Y: Final = Quantity("focus_depth_y", METRE, "depth of the vertical focus")
FOCUS_DEPTH_X: Final = Quantity("focus_depth_x", METRE, "depth of the horizontal focus")
STREHL: Final = Quantity("strehl", DIMENSIONLESS, "Strehl ratio")
FOCUS_DISTANCE_UNCERTAINTY_Y: Final = Quantity(
    "focus_distance_uncertainty_y", METRE, "standard error of the distance of the vertical focus"
)
FOCUS_DISTANCE_UNCERTAINTY_X: Final = Quantity(
    "focus_distance_uncertainty_x", METRE, "standard error of the distance of the horizontal focus"
)
ASTIGMATIC_DIFFERENCE_UNCERTAINTY: Final = Quantity(
    "astigmatic_difference_uncertainty", METRE, "standard error of the astigmatic difference"
)
FOCUS_FWHM_UNCERTAINTY_Y: Final = Quantity(
    "focus_fwhm_uncertainty_y", METRE, "standard error of the vertical full width at half maximum"
)
FOCUS_FWHM_UNCERTAINTY_X: Final = Quantity(
    "focus_fwhm_uncertainty_x", METRE, "standard error of the horizontal full width at half maximum"
)
FOCUS_RMS_UNCERTAINTY_Y: Final = Quantity(
    "focus_rms_uncertainty_y", METRE, "standard error of the vertical rms width"
)
FOCUS_RMS_UNCERTAINTY_X: Final = Quantity(
    "focus_rms_uncertainty_x", METRE, "standard error of the horizontal rms width"
)
FOCUS_WIDTH_UNCERTAINTY_Y: Final = Quantity(
    "focus_width_uncertainty_y",
    METRE,
    "standard error of the vertical width with 80 % of the power",
)
FOCUS_WIDTH_UNCERTAINTY_X: Final = Quantity(
    "focus_width_uncertainty_x",
    METRE,
    "standard error of the horizontal width with 80 % of the power",
)
STREHL_UNCERTAINTY: Final = Quantity(
    "strehl_uncertainty", DIMENSIONLESS, "standard error of the Strehl ratio"
)
CAUSTIC_Y: Final = Quantity("caustic_y", "1/m", "vertical profile of the power near the focus")
CAUSTIC_X: Final = Quantity("caustic_x", "1/m", "horizontal profile of the power near the focus")
CAUSTIC_DISTANCE_Y: Final = Quantity(
    "caustic_distance_y", METRE, "distance from the detector to a plane near the vertical focus"
)
CAUSTIC_DISTANCE_X: Final = Quantity(
    "caustic_distance_x", METRE, "distance from the detector to a plane near the horizontal focus"
)
CAUSTIC_POSITION_Y: Final = Quantity(
    "caustic_position_y", METRE, "vertical position across the caustic"
)
CAUSTIC_POSITION_X: Final = Quantity(
    "caustic_position_x", METRE, "horizontal position across the caustic"
)
INTENSITY: Final = Quantity("intensity", "1/m2", "power per area, of a total power of 1")
MIRROR_POSITION: Final = Quantity(
    "mirror_position", METRE, "position along the mirror, downstream of its middle"
)
MIRROR_SLOPE: Final = Quantity("mirror_slope", RADIAN, "slope of the surface along the mirror")
MIRROR_HEIGHT: Final = Quantity("mirror_height", METRE, "height of the surface along the mirror")
SLOPE_ERROR: Final = Quantity("slope_error", RADIAN, "slope of the surface without its shape")
SLOPE_ERROR_UNCERTAINTY: Final = Quantity(
    "slope_error_uncertainty", RADIAN, "standard error of the slope error of the surface"
)
HEIGHT_ERROR: Final = Quantity("height_error", METRE, "height of the surface without its shape")
LOCAL_RADIUS: Final = Quantity("local_radius", METRE, "local radius of curvature of the surface")
SLOPE_ERROR_RMS: Final = Quantity("slope_error_rms", RADIAN, "rms slope error of the surface")
HEIGHT_ERROR_RMS: Final = Quantity("height_error_rms", METRE, "rms height error of the surface")
HEIGHT_ERROR_PV: Final = Quantity(
    "height_error_pv", METRE, "height error of the surface, largest minus smallest"
)
MIRROR_RADIUS: Final = Quantity("mirror_radius", METRE, "radius of the best circle")
MIRROR_RADIUS_UNCERTAINTY: Final = Quantity(
    "mirror_radius_uncertainty", METRE, "standard error of the radius of the best circle"
)
ELLIPSE_P: Final = Quantity("ellipse_p", METRE, "distance from source to mirror, best ellipse")
ELLIPSE_Q: Final = Quantity("ellipse_q", METRE, "distance from mirror to focus, best ellipse")
ELLIPSE_THETA: Final = Quantity("ellipse_theta", RADIAN, "grazing angle of the best ellipse")
ELLIPSE_P_UNCERTAINTY: Final = Quantity(
    "ellipse_p_uncertainty", METRE, "standard error of the distance from source to mirror"
)
ELLIPSE_Q_UNCERTAINTY: Final = Quantity(
    "ellipse_q_uncertainty", METRE, "standard error of the distance from mirror to focus"
)
ELLIPSE_THETA_UNCERTAINTY: Final = Quantity(
    "ellipse_theta_uncertainty", RADIAN, "standard error of the grazing angle"
)
MIRROR_FREQUENCY: Final = Quantity("mirror_frequency", "1/m", "spatial frequency along the mirror")
PSD_HEIGHT: Final = Quantity("psd_height", "m3", "power spectral density of the height error")
DISTORTION_Y: Final = Quantity("distortion_y", PIXEL, "vertical distortion of the detector")
DISTORTION_X: Final = Quantity("distortion_x", PIXEL, "horizontal distortion of the detector")
DISTORTION_Y_ERROR: Final = Quantity(
    "distortion_y_error", PIXEL, "standard error of the vertical distortion"
)
DISTORTION_X_ERROR: Final = Quantity(
    "distortion_x_error", PIXEL, "standard error of the horizontal distortion"
)
DISTORTION_Y_RESIDUAL: Final = Quantity(
    "distortion_y_residual", PIXEL, "mean vertical misfit of the pairs"
)
DISTORTION_X_RESIDUAL: Final = Quantity(
    "distortion_x_residual", PIXEL, "mean horizontal misfit of the pairs"
)
PIXEL_SIZE_Y: Final = Quantity("pixel_size_y", METRE, "effective pixel size along y")
PIXEL_SIZE_X: Final = Quantity("pixel_size_x", METRE, "effective pixel size along x")
PIXEL_SIZE_Y_ERROR: Final = Quantity(
    "pixel_size_y_error", METRE, "standard error of the pixel size along y"
)
PIXEL_SIZE_X_ERROR: Final = Quantity(
    "pixel_size_x_error", METRE, "standard error of the pixel size along x"
)
ROTATION: Final = Quantity("rotation", RADIAN, "rotation of the motor axes against the pixel axes")
ROTATION_ERROR: Final = Quantity("rotation_error", RADIAN, "standard error of the rotation")
SHEAR: Final = Quantity("shear", RADIAN, "departure of the motor axes from a right angle")
SHEAR_ERROR: Final = Quantity("shear_error", RADIAN, "standard error of the shear")
MOTOR_MATRIX: Final = Quantity(
    "motor_matrix", "px/m", "pixels that the detector moves per metre of each motor"
)
STAGE_ERROR_Y: Final = Quantity(
    "stage_error_y", PIXEL, "vertical error of the stage against its motors"
)
STAGE_ERROR_X: Final = Quantity(
    "stage_error_x", PIXEL, "horizontal error of the stage against its motors"
)
PAIR_SAMPLE: Final = Quantity("pair_sample", DIMENSIONLESS, "frame tracked")
PAIR_REFERENCE: Final = Quantity("pair_reference", DIMENSIONLESS, "frame it was tracked in")
PAIR_STEP_Y: Final = Quantity("pair_step_y", PIXEL, "vertical move of the detector in the pair")
PAIR_STEP_X: Final = Quantity("pair_step_x", PIXEL, "horizontal move of the detector in the pair")
PAIR_CORRELATION: Final = Quantity(
    "pair_correlation", DIMENSIONLESS, "median correlation of the pair"
)
PAIR_MATCHED: Final = Quantity(
    "pair_matched", DIMENSIONLESS, "fraction of the overlap that was matched"
)
PAIR_RESIDUAL: Final = Quantity("pair_residual", PIXEL, "rms misfit of the pair")
PAIR_STATUS: Final = Quantity("pair_status", DIMENSIONLESS, "whether the pair was used")
COMPLETE: Final = Quantity("complete", DIMENSIONLESS, "frame has been written whole")
DIGEST: Final = Quantity("digest", DIMENSIONLESS, "checksum of all chunks of the frame")
FRAME_NUMBER: Final = Quantity("frame_number", DIMENSIONLESS, "frame at a position of a mesh")
FRAME_COUNT: Final = Quantity("frame_count", DIMENSIONLESS, "frames at a position of a mesh")

POSITION_Y: Final = Quantity(Y, PIXEL, "detector row")
POSITION_X: Final = Quantity(X, PIXEL, "detector column")

QUANTITIES: Final[Mapping[str, Quantity]] = {
    quantity.name: quantity
    for quantity in (
        IMAGE,
        DISPLACEMENT_Y,
        DISPLACEMENT_X,
        UNCERTAINTY_Y,
        UNCERTAINTY_X,
        DRIFT_Y,
        DRIFT_X,
        DRIFT_UNCERTAINTY_Y,
        DRIFT_UNCERTAINTY_X,
        CHI2,
        EXPOSURES,
        SETTING,
        DELAY_Y,
        DELAY_X,
        DELAY_UNCERTAINTY_Y,
        DELAY_UNCERTAINTY_X,
        CORRELATION,
        WINDOW,
        TRANSMISSION,
        DARK_FIELD,
        TRANSMISSION_UNCERTAINTY,
        DARK_FIELD_UNCERTAINTY,
        REASON,
        SLOPE_Y,
        SLOPE_X,
        SLOPE_UNCERTAINTY_Y,
        SLOPE_UNCERTAINTY_X,
        WAVEFRONT,
        WAVEFRONT_UNCERTAINTY,
        MATCHED,
        WAVEFRONT_RMS,
        WAVEFRONT_PV,
        PHASE,
        CURVATURE_Y,
        CURVATURE_X,
        CURVATURE_UNCERTAINTY_Y,
        CURVATURE_UNCERTAINTY_X,
        TILT_Y,
        TILT_X,
        DETECTOR_ROTATION,
        RADIUS_OF_CURVATURE_Y,
        RADIUS_OF_CURVATURE_X,
        RADIUS_OF_CURVATURE_UNCERTAINTY_Y,
        RADIUS_OF_CURVATURE_UNCERTAINTY_X,
        FOCAL_LENGTH,
        RADIUS,
        RADIUS_Y,
        RADIUS_X,
        CENTER_Y,
        CENTER_X,
        RESIDUAL,
        RESIDUAL_RMS,
        FOCAL_LENGTH_UNCERTAINTY,
        RADIUS_UNCERTAINTY,
        RADIUS_UNCERTAINTY_Y,
        RADIUS_UNCERTAINTY_X,
        CENTER_UNCERTAINTY_Y,
        CENTER_UNCERTAINTY_X,
        RESIDUAL_NOISE,
        RESIDUAL_RMS_UNCERTAINTY,
        FOCAL_LENGTH_Y,
        FOCAL_LENGTH_X,
        FOCAL_LENGTH_UNCERTAINTY_Y,
        FOCAL_LENGTH_UNCERTAINTY_X,
        AZIMUTH,
        AZIMUTH_UNCERTAINTY,
        RESIDUAL_RANGE,
        RESIDUAL_RANGE_UNCERTAINTY,
        EXPLAINED_VARIANCE,
        VERDICT,
        APERTURE,
        APERTURE_CENTER_Y,
        APERTURE_CENTER_X,
        APERTURE_WIDTH_Y,
        APERTURE_WIDTH_X,
        THICKNESS,
        FIGURE_ERROR_RMS,
        FIGURE_ERROR_RMS_UNCERTAINTY,
        FIGURE_ERROR_RANGE,
        FIGURE_ERROR_RANGE_UNCERTAINTY,
        FIGURE_ERROR,
        COEFFICIENT,
        COEFFICIENT_UNCERTAINTY,
        COEFFICIENT_COVARIANCE,
        MODE_NUMBER,
        OTHER_MODE,
        MODE_DEGREE,
        MODE_ORDER,
        MODE_NAME,
        MODE_MIX,
        COEFFICIENT_WAVES,
        COEFFICIENT_WAVES_UNCERTAINTY,
        MODES_RESIDUAL_RMS,
        ABERRATION,
        ABERRATION_RMS,
        ABERRATION_PV,
        COVERAGE,
        STITCHING_PISTON,
        STITCHING_TILT_Y,
        STITCHING_TILT_X,
        STITCHING_MISFIT,
        FOCUS_DISTANCE_Y,
        FOCUS_DISTANCE_X,
        ASTIGMATIC_DIFFERENCE,
        FOCUS_FWHM_Y,
        FOCUS_FWHM_X,
        FOCUS_RMS_Y,
        FOCUS_RMS_X,
        FOCUS_WIDTH_Y,
        FOCUS_WIDTH_X,
        FOCUS_DEPTH_Y,
        FOCUS_DEPTH_X,
        STREHL,
        FOCUS_DISTANCE_UNCERTAINTY_Y,
        FOCUS_DISTANCE_UNCERTAINTY_X,
        ASTIGMATIC_DIFFERENCE_UNCERTAINTY,
        FOCUS_FWHM_UNCERTAINTY_Y,
        FOCUS_FWHM_UNCERTAINTY_X,
        FOCUS_RMS_UNCERTAINTY_Y,
        FOCUS_RMS_UNCERTAINTY_X,
        FOCUS_WIDTH_UNCERTAINTY_Y,
        FOCUS_WIDTH_UNCERTAINTY_X,
        STREHL_UNCERTAINTY,
        CAUSTIC_Y,
        CAUSTIC_X,
        CAUSTIC_DISTANCE_Y,
        CAUSTIC_DISTANCE_X,
        CAUSTIC_POSITION_Y,
        CAUSTIC_POSITION_X,
        INTENSITY,
        MIRROR_POSITION,
        MIRROR_SLOPE,
        MIRROR_HEIGHT,
        SLOPE_ERROR,
        SLOPE_ERROR_UNCERTAINTY,
        HEIGHT_ERROR,
        LOCAL_RADIUS,
        SLOPE_ERROR_RMS,
        HEIGHT_ERROR_RMS,
        HEIGHT_ERROR_PV,
        MIRROR_RADIUS,
        MIRROR_RADIUS_UNCERTAINTY,
        ELLIPSE_P,
        ELLIPSE_Q,
        ELLIPSE_THETA,
        ELLIPSE_P_UNCERTAINTY,
        ELLIPSE_Q_UNCERTAINTY,
        ELLIPSE_THETA_UNCERTAINTY,
        MIRROR_FREQUENCY,
        PSD_HEIGHT,
        FREQUENCY_Y,
        FREQUENCY_X,
        PSD_Y,
        PSD_X,
        DIFFERENCE,
        DIFFERENCE_UNCERTAINTY,
        DIFFERENCE_RMS,
        DISTORTION_Y,
        DISTORTION_X,
        DISTORTION_Y_ERROR,
        DISTORTION_X_ERROR,
        DISTORTION_Y_RESIDUAL,
        DISTORTION_X_RESIDUAL,
        PIXEL_SIZE_Y,
        PIXEL_SIZE_X,
        PIXEL_SIZE_Y_ERROR,
        PIXEL_SIZE_X_ERROR,
        ROTATION,
        ROTATION_ERROR,
        SHEAR,
        SHEAR_ERROR,
        MOTOR_MATRIX,
        STAGE_ERROR_Y,
        STAGE_ERROR_X,
        PAIR_SAMPLE,
        PAIR_REFERENCE,
        PAIR_STEP_Y,
        PAIR_STEP_X,
        PAIR_CORRELATION,
        PAIR_MATCHED,
        PAIR_RESIDUAL,
        PAIR_STATUS,
        COMPLETE,
        DIGEST,
        FRAME_NUMBER,
        FRAME_COUNT,
    )
}
"""Every quantity that may be a variable of a dataset, by name."""


UNCERTAINTY: Final = "_uncertainty"
"""What the name of a standard error has behind that of its variable, before an axis."""


def uncertainty_name(name: str) -> str | None:
    """Return the name of the standard error of a variable; None where there is none.

    Examples
    --------
    >>> uncertainty_name("radius"), uncertainty_name("center_y"), uncertainty_name("matched_share")
    ('radius_uncertainty', 'center_uncertainty_y', None)
    >>> uncertainty_name("mode_coma_x")
    'mode_coma_x_uncertainty'
    """
    if name.startswith(MODE_PREFIX) and name not in QUANTITIES:
        return None if name.endswith(UNCERTAINTY) else f"{name}{UNCERTAINTY}"
    stem, axis = (name[:-2], name[-2:]) if name[-2:] in (f"_{Y}", f"_{X}") else (name, "")
    error = f"{stem}{UNCERTAINTY}{axis}"
    return error if error in QUANTITIES else None


RESERVED_NAMES: Final = frozenset(
    {
        *(FRAME, EXPOSURE, Y, X, PAIR, PIXEL_AXIS, MOTOR_AXIS, PLANE, POINT),
        *(SOURCE_FILE, SOURCE_INDEX, SOURCE_DATASET, PIXEL_MASK),
        *(REFERENCE_FILE, REFERENCE_INDEX, REFERENCE_DATASET, STACK_FRAMES, MIRROR_POINT),
        *QUANTITIES,
    }
)
"""Names that a motor, a counter or a header item cannot have; it is renamed."""


def labelled(
    data: Any,
    quantity: Quantity,
    *,
    dims: tuple[str, ...] = (FRAME, Y, X),
    coords: Mapping[Any, Any] | None = None,
    units: str | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Give an array its name, dimensions, unit and long name.

    xarray keeps the attributes of its inputs by default, so that a product of two lengths would
    still have the unit ``m``. Every result of this package gets its attributes here instead.

    Parameters
    ----------
    data : numpy.ndarray or dask.array.Array
        Values, one axis per name in `dims`.
    quantity : Quantity
        Quantity that the values are.
    dims : tuple of str, default ("frame", "y", "x")
        Names of the axes.
    coords : mapping, optional
        Coordinates.
    units : str, optional
        Unit, if it is not the unit of the quantity (a corrected image is dimensionless).
    attrs : mapping, optional
        Further attributes.

    Returns
    -------
    xarray.DataArray
        `data` with its labels; lazy if `data` is.

    Examples
    --------
    >>> import numpy as np
    >>> labelled(np.zeros((2, 3)), SLOPE_Y, dims=("y", "x")).attrs["units"]
    'rad'
    """
    own = quantity.attrs if units is None else {**quantity.attrs, UNITS: units}
    return xr.DataArray(
        data, dims=dims, coords=coords, name=quantity.name, attrs={**(attrs or {}), **own}
    )
