"""Sets of matrices: a point is a matrix (..., n, n), so the last two dimensions are its own."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from .projection import WORKING, ConvexSet, raise_not_finite, truth
from .solution import InputError

__all__ = ["Spectraplex"]

# From this size on, the lowest eigenvector is searched alone; below, all of them cost no more.
LANCZOS_FROM = 256


class Spectraplex(ConvexSet):
    """``{X : X symmetric positive semidefinite, trace X = 1}``, the convex hull of the matrices v v' with |v| = 1.

    ``size``: n, for matrices (..., n, n). Its linear oracle needs one eigenvector, where a projection needs all of
    them. It is not a polyhedron: there is no face projector, hence no ``project``; use ``frank_wolfe``.

    Source: Jaggi 2013.

    >>> import torch
    >>> Spectraplex(2).lmo(torch.tensor([[2.0, 0.0], [0.0, 1.0]])).abs()
    tensor([[0., 0.],
            [0., 1.]])
    """

    event_dims: ClassVar[int] = 2
    _shown = ("dim",)

    def __init__(self, size: int):
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"size is a {type(size).__name__}: expected an integer, the number of rows")
        if size < 1:
            raise InputError(f"size is {size}: expected at least 1")
        self.dim = size

    def _check(self, name: str, X: Tensor) -> torch.dtype:
        """Check type and shape, and of a direction that it is finite; return the dtype to compute in."""
        if not isinstance(X, Tensor):
            raise TypeError(f"{name} is a {type(X).__name__}: expected a torch tensor")
        if X.dtype not in WORKING:
            raise TypeError(f"{name} has dtype {X.dtype}: expected a floating point tensor; call .float() on it")
        if X.dim() < 2 or X.shape[-2:] != (self.dim, self.dim):
            raise InputError(
                f"{name} has shape {tuple(X.shape)}: Spectraplex expected last dimensions of {self.dim} and {self.dim}"
            )
        if name == "g" and truth(~torch.isfinite(X)):
            raise_not_finite(name, X)
        return WORKING[X.dtype]

    def lmo(self, g: Tensor) -> Tensor:
        """Return v v' for a unit eigenvector v to the smallest eigenvalue of the symmetric part of g."""
        dtype = self._check("g", g)
        G = g.to(dtype)
        G = (G + G.mT) / 2
        v = _lowest_eigenvector(G) if self.dim >= LANCZOS_FROM else torch.linalg.eigh(G).eigenvectors[..., 0]
        return (v.unsqueeze(-1) * v.unsqueeze(-2)).to(g.dtype)  # eq: eq-lmo-spectraplex

    def violation(self, x: Tensor) -> Tensor:
        """Return the largest of the asymmetry, minus the smallest eigenvalue, and the trace's distance from 1."""
        self._check("x", x)
        X = x.double()
        skew = (X - X.mT).abs().amax((-2, -1))
        lowest = torch.linalg.eigvalsh((X + X.mT) / 2)[..., 0]
        trace = (X.diagonal(dim1=-2, dim2=-1).sum(-1) - 1).abs()
        return torch.stack([skew, -lowest, trace]).amax(0).clamp(min=0)

    def tolerance(self, x: Tensor) -> Tensor:
        """Allow the rounding of the entries, whose squares sum to 1 at most, and of the trace."""
        return torch.full(x.shape[:-2], 8 * torch.finfo(x.dtype).eps * self.dim**0.5, dtype=torch.float64).to(x.device)

    def scale(self, x: Tensor) -> Tensor:
        """Return the trace, 1."""
        return x.new_ones(x.shape[:-2], dtype=torch.float64)

    def contains(self, x: Tensor, atol: float | None = None) -> Tensor:
        """Tell per matrix whether it is in the set, up to ``atol``; by default up to rounding.

        >>> import torch
        >>> Spectraplex(2).contains(torch.eye(2) / 2), Spectraplex(2).contains(torch.eye(2))
        (tensor(True), tensor(False))
        """
        self._check("x", x)
        return self.violation(x) <= (self.tolerance(x) if atol is None else atol)

    def sample(self, *shape: int, generator: torch.Generator | None = None) -> Tensor:
        """Return random members of full rank, of shape ``(*shape, n, n)``: A A' / trace for a Gaussian A."""
        A = torch.randn(*shape, self.dim, self.dim, generator=generator, dtype=torch.float64)
        X = A @ A.mT
        return (X / X.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]).to(torch.get_default_dtype())

    def project(self, *_args: Any, **_options: Any):
        """Raise: the set is no polyhedron, so the rule that differentiates a projection does not hold."""
        raise NotImplementedError(
            "Spectraplex has no differentiable projection: it is not a polyhedron; minimise over it with "
            "frank_wolfe(grad, Spectraplex(n))"
        )


def _lowest_eigenvector(G: Tensor) -> Tensor:
    """Return a unit eigenvector of the symmetric G (..., n, n) to its smallest eigenvalue, by Lanczos' method.

    The Krylov basis is kept orthogonal in full and restarted from its best vector, until the residual is at rounding or
    the restarts are used up; rows are done together. The start is fixed, so that the answer is too.
    """
    n, batch = G.shape[-1], G.shape[:-2]
    width = min(n, 40)
    seed = torch.Generator().manual_seed(0)
    random = torch.randn(width, n, generator=seed, dtype=torch.float64).to(G)
    v = random[0].expand(*batch, n)
    small = 8 * torch.finfo(G.dtype).eps * G.abs().sum(-1).amax(-1)[..., None]
    for _ in range(12):
        v = v / torch.linalg.vector_norm(v, dim=-1, keepdim=True)
        basis = [v]
        image = [(G @ v.unsqueeze(-1)).squeeze(-1)]
        for other in random[1:]:
            Q = torch.stack(basis, -1)
            w = _apart(image[-1], Q)
            # Where the image brings nothing new, the space is invariant: look further, in a direction of its own.
            stuck = torch.linalg.vector_norm(w, dim=-1, keepdim=True) <= small
            w = _apart(torch.where(stuck, other, w), Q)
            basis.append(w / torch.linalg.vector_norm(w, dim=-1, keepdim=True))
            image.append((G @ basis[-1].unsqueeze(-1)).squeeze(-1))
        Q, Z = torch.stack(basis, -1), torch.stack(image, -1)
        H = Q.mT @ Z
        values, vectors = torch.linalg.eigh((H + H.mT) / 2)
        first = vectors[..., :1]
        v = (Q @ first).squeeze(-1)
        residual = torch.linalg.vector_norm((Z @ first).squeeze(-1) - values[..., :1] * v, dim=-1)
        if not truth(residual > 8 * torch.finfo(G.dtype).eps * n**0.5 * values.abs().amax(-1)):
            break
    return v / torch.linalg.vector_norm(v, dim=-1, keepdim=True)


def _apart(w: Tensor, Q: Tensor) -> Tensor:
    """Take from w its part in the span of the orthonormal columns of Q."""
    return w - (Q @ (Q.mT @ w.unsqueeze(-1))).squeeze(-1)
