"""Exact, batched, differentiable constraint layers: the library side of *Constraints in Neural Networks*."""

from .fenchel import FenchelLiftedNetwork, fenchel_gap
from .projection import ConvexSet, ProjectionLayer, check_jacobian
from .sets import Affine, Box, BoxBudget, L1Ball, Simplex
from .solution import InputError, SolveError, SolveInfo
from .training import History

__version__ = "0.1.0"

__all__ = [
    "Affine",
    "Box",
    "BoxBudget",
    "ConvexSet",
    "FenchelLiftedNetwork",
    "History",
    "InputError",
    "L1Ball",
    "ProjectionLayer",
    "Simplex",
    "SolveError",
    "SolveInfo",
    "check_jacobian",
    "fenchel_gap",
]
