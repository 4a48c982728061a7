"""Exact, batched, differentiable constraint layers: the library side of *Constraints in Neural Networks*."""

from .projection import ConvexSet, ProjectionLayer, check_jacobian
from .saddle_point import DualHead
from .sets import Affine, Box, BoxBudget, L1Ball, Simplex
from .solution import InputError, SolveError, SolveInfo

__version__ = "0.1.0"

__all__ = [
    "Affine",
    "Box",
    "BoxBudget",
    "ConvexSet",
    "DualHead",
    "InputError",
    "L1Ball",
    "ProjectionLayer",
    "Simplex",
    "SolveError",
    "SolveInfo",
    "check_jacobian",
]
