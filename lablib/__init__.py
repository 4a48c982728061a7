"""Exact, batched, differentiable constraint layers: the library side of *Constraints in Neural Networks*."""

from .matrix_sets import Birkhoff
from .polyhedron import Polyhedron
from .projection import ConvexSet, ProjectionLayer, check_jacobian
from .sets import Affine, Box, BoxBudget, L1Ball, Simplex
from .solution import InputError, SolveError, SolveInfo

__version__ = "0.1.0"

__all__ = [
    "Affine",
    "Birkhoff",
    "Box",
    "BoxBudget",
    "ConvexSet",
    "InputError",
    "L1Ball",
    "Polyhedron",
    "ProjectionLayer",
    "Simplex",
    "SolveError",
    "SolveInfo",
    "check_jacobian",
]
