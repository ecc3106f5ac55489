"""The distortion of a detector from a mesh scan."""

from wavedask.kernels.mesh.control import ControlGrid
from wavedask.kernels.mesh.gauge import without_affine
from wavedask.kernels.mesh.gradient import gradient_distortion
from wavedask.kernels.mesh.motor_axes import fit_matrix, motor_axes, motor_axes_errors
from wavedask.kernels.mesh.points import Lattice, TrackedPair, covered, mean_map
from wavedask.kernels.mesh.solve import MeshSolution, solve_mesh

__all__ = [
    "ControlGrid",
    "Lattice",
    "MeshSolution",
    "TrackedPair",
    "covered",
    "fit_matrix",
    "gradient_distortion",
    "mean_map",
    "motor_axes",
    "motor_axes_errors",
    "solve_mesh",
    "without_affine",
]
