"""Exact, batched, differentiable constraint layers: the library side of *Constraints in Neural Networks*."""

from .augmented import GroupSparseNetwork, activation_step
from .fenchel import FenchelLiftedNetwork, fenchel_gap
from .matrix_sets import Birkhoff, Spectraplex
from .polyhedron import Polyhedron
from .projection import ConvexSet, ProjectionLayer, check_jacobian
from .rollouts import FrankWolfeLayer, frank_wolfe
from .saddle_point import DualHead
from .sets import Affine, Box, BoxBudget, L1Ball, Simplex
from .solution import InputError, SolveError, SolveInfo
from .training import History

__version__ = "0.1.0"

__all__ = [
    "Affine",
    "Birkhoff",
    "Box",
    "BoxBudget",
    "ConvexSet",
    "DualHead",
    "FenchelLiftedNetwork",
    "FrankWolfeLayer",
    "GroupSparseNetwork",
    "History",
    "InputError",
    "L1Ball",
    "Polyhedron",
    "ProjectionLayer",
    "Simplex",
    "SolveError",
    "SolveInfo",
    "Spectraplex",
    "activation_step",
    "check_jacobian",
    "fenchel_gap",
    "frank_wolfe",
]
