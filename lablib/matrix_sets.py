"""Sets of matrices: Birkhoff, the doubly stochastic ones, and Spectraplex. The last two dimensions are the matrix."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from . import threshold
from .projection import WORKING, ConvexSet, check_finite, check_point, raise_not_finite, truth
from .solution import InputError, SolveError, first_index, looks_every

__all__ = ["Birkhoff", "Spectraplex"]

# From this size on, the lowest eigenvector is searched alone; below, all of them cost no more.
LANCZOS_FROM = 256


class Birkhoff(ConvexSet):
    """``{X : X >= 0, X 1 = 1, X' 1 = 1}``: the doubly stochastic matrices of one size, whose vertices are permutations.

    Projection: ``X_ij = max(Y_ij - a_i - b_j, 0)``. For given column prices b each row is a projection on a simplex,
    which fixes a; Newton's method on b makes the columns right, with a line search that halves the interval in which
    the slope changes sign. Face: the support E of X; its projector is ``E * (V - a 1' - 1 b')``, where a and b solve
    the Laplacian of the bipartite graph that E is, reduced to the columns. ``size``: n. Input (..., n, n). Computed in
    float64, from float32 too. The graph may fall apart, at a permutation into n pieces; the projector is still right.
    ``element="highest"`` also frees the entries that are 0 without a multiplier, after the prices of separate pieces
    have been moved until they join: an extreme multiplier. ``lmo`` and ``gap`` call SciPy's assignment solver on the
    host.

    Source: Li, Sun and Toh 2020 (their Newton method works on both prices).

    >>> import torch
    >>> Birkhoff(2).project(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    tensor([[1., 0.],
            [0., 1.]])
    """

    # A matrix has one dimension more than a vector, beyond those that the rule counts: the support, its factor.
    active_ranks: ClassVar[tuple[int, ...]] = (1,)
    event_dims: ClassVar[int] = 2
    _shown = ("size",)

    def __init__(self, size: int):
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"size is a {type(size).__name__}: expected an integer, the number of rows")
        if size < 1:
            raise InputError(f"size is {size}: expected at least 1")
        self.size = self.dim = size

    def __repr__(self) -> str:
        return f"Birkhoff({self.size})"

    def _check_square(self, name: str, x: Tensor) -> None:
        check_point(self, name, x)
        if x.dim() < 2 or x.shape[-2] != self.size:
            raise InputError(f"{name} has shape {tuple(x.shape)}: expected matrices, (..., {self.size}, {self.size})")

    # -- the projection -----------------------------------------------------------------------------------------------

    def project(self, y, return_info=False, *, strict=True, tol=None, max_steps=None, element="lowest"):
        """Return the nearest doubly stochastic matrix to y, shape (..., n, n); options as for every set."""
        self._check_square("y", y)
        return ConvexSet.project(self, y, return_info, strict=strict, tol=tol, max_steps=max_steps, element=element)

    def solve(self, y, *, tol=None, max_steps=None, element="lowest"):
        """Search the column prices, batched; then solve once more on the support that they leave."""
        check_finite(y)
        n = self.size
        Y = y.reshape(-1, n, n).double()
        b, steps, left = _prices(Y, 500 if max_steps is None else max_steps)
        if max_steps is None and bool(left.any()):
            index = first_index(left.reshape(y.shape[:-2]))
            raise SolveError(
                f"projection on Birkhoff was not found at batch index {list(index)} in {steps} passes: subtract a "
                "constant from y or scale it down, if its entries are huge",
                index=index,
            )
        X = _rows(Y, b)
        E = X.sign()
        factor = _laplacian_factor(E)
        left = _spread(E, factor, X.sum(-1) - 1, X.sum(-2) - 1)
        X = (X - E * left).clamp(min=0)
        if element == "highest":
            E = _freed(Y, X, b)
            factor = _laplacian_factor(E)
        return X.to(y.dtype).reshape(y.shape), (E.reshape(y.shape), factor.reshape(y.shape)), steps

    def solve_traced(self, y, element):
        """Search outside of the graph: the number of passes depends on the values."""
        return torch.compiler.disable(ConvexSet.solve_traced)(self, y, element)

    def face_project(self, x, v, active=None):
        """Take from v on the support what changes the sum of a row or of a column."""
        if active is None:
            E = x.detach().double().sign()
            active = E, _laplacian_factor(E)
        E, factor = active
        V = E * v.double()
        return (V - E * _spread(E, factor, V.sum(-1), V.sum(-2))).to(v.dtype)  # eq: eq-face-birkhoff

    def face_map(self, y, active):
        """Project y on the matrices with this support, of any sign, and with rows and columns that sum to 1."""
        E, factor = active
        Y = E * y.double()
        return (Y - E * _spread(E, factor, Y.sum(-1) - 1, Y.sum(-2) - 1)).to(y.dtype)

    # -- the rulers ---------------------------------------------------------------------------------------------------

    def violation(self, x):
        """Return the largest of the negative entries and the errors of the sums of rows and columns."""
        self._check_square("x", x)
        x = x.double()
        sums = torch.maximum((x.sum(-1) - 1).abs().amax(-1), (x.sum(-2) - 1).abs().amax(-1))
        return torch.maximum((-x).clamp(min=0).amax((-2, -1)), sums)

    def scale(self, x):
        """Return 1, what each row and column sums to."""
        return x.new_ones(x.shape[:-2], dtype=torch.float64)

    def tolerance(self, x):
        """Allow the rounding of each entry of x."""
        rows = x.double().abs().sum(-1).amax(-1) + 1
        return 4 * torch.finfo(x.dtype).eps * math.sqrt(self.size) * rows

    def lmo(self, g):
        """Return the permutation matrix lowest along g: an assignment problem, on the host, sample by sample."""
        self._check_square("g", g)
        costs = g.detach().cpu().double().numpy().reshape(-1, self.size, self.size)
        out = np.zeros_like(costs)
        for cost, one in zip(costs, out, strict=True):
            one[linear_sum_assignment(cost)] = 1
        return torch.from_numpy(out).to(g).reshape(g.shape)

    def gap(self, y, x):
        """Return the certificate, by an assignment problem for y - x."""
        self._check_square("y", y)
        self._check_square("x", x)
        normal = y.double() - x.double()
        raise_not_finite("y - x", normal)
        return (normal * (self.lmo(-normal) - x.double())).sum((-2, -1))

    def sample(self, *shape, generator=None):
        """Return random matrices with every entry positive."""
        y = torch.randn(*shape, self.size, self.size, generator=generator, dtype=torch.float64)
        return ((self.project(y) + 1 / self.size) / 2).float()


# -- prices ------------------------------------------------------------------------------------------------------------


def _rows(Y: Tensor, b: Tensor) -> Tensor:
    """Project each row of Y - 1 b' on the simplex."""
    Z = Y - b.unsqueeze(-2)
    return Z.sub_(_best(Z).unsqueeze(-1)).clamp_min_(0)


def _prices(Y: Tensor, limit: int) -> tuple[Tensor, int, Tensor]:
    """Return column prices at which the columns sum to 1, the passes, and which samples (B,) are not there.

    The dual in b alone is convex and piecewise quadratic with gradient 1 - column sums; its Hessian is the Laplacian of
    the support, reduced to the columns. A little of the identity is added to it, less as the error falls: so much that
    prices of pieces that are apart may run about as far in a step as entries of Y differ.
    """
    rest = Y.mean(-2) - Y.mean((-2, -1)).unsqueeze(-1)  # the prices if X could have any sign
    b = rest
    for _ in range(2):  # best prices of the rows for those of the columns, and back: that joins most of the support
        a = _best(Y - b.unsqueeze(-2))
        b = _best(Y.mT - a.unsqueeze(-2))
    where = torch.arange(len(Y), device=Y.device)
    stride = looks_every(Y.device)  # at a look what is done leaves the batch
    tol = 64 * torch.finfo(Y.dtype).eps * (1 + (Y - rest.unsqueeze(-2)).abs().amax((-2, -1)))
    spread = 2 * (Y.amax((-2, -1)) - Y.amin((-2, -1))).clamp(min=torch.finfo(Y.dtype).tiny)
    X = _rows(Y, b)
    out = b.clone()
    for step in range(limit + 1):
        error = X.sum(-2) - 1
        worst = error.abs().amax(-1)
        # An entry that is 0 up to rounding may come and go for ever: late passes ask for fewer digits, 1e-9 at worst.
        going = worst > tol * 2.0 ** min(max(step - 20, 0), 12)
        if step % stride == 0 or step == limit:
            out[where] = b
            keep = torch.nonzero(going).squeeze(-1)
            if not len(keep) or step == limit:
                break
            if 2 * len(keep) <= len(where):  # to copy them costs about as much as half a pass
                where, Y, X, b, tol, spread, error, worst, going = (
                    t[keep] for t in (where, Y, X, b, tol, spread, error, worst, going)
                )
        factor = _laplacian_factor(X.sign(), (3 * worst / spread).clamp(1e-12, 0.1))
        d = torch.cholesky_solve(error.unsqueeze(-1), factor).squeeze(-1).where(going.unsqueeze(-1), 0.0)
        # Where the support falls apart the damped step runs far off; no price need go farther than the entries spread.
        d = d * (spread / d.abs().amax(-1).clamp(min=torch.finfo(d.dtype).tiny)).clamp(max=1).unsqueeze(-1)
        b, X = _line_search(Y, b, d, error, tol * d.abs().sum(-1))
    left = torch.zeros(len(out), dtype=torch.bool, device=Y.device)
    left[where[keep]] = True
    return out, step, left


def _best(Z: Tensor) -> Tensor:
    """Return the thresholds of the rows of Z: the simplex has max(Z - threshold, 0)."""
    return threshold.simplex_threshold(Z).squeeze(-1)


def _line_search(Y: Tensor, b: Tensor, d: Tensor, error: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Go along d until the slope has fallen enough and not below 0: it falls, so an interval always halves.

    A full step is taken unless it leads beyond the lowest point, where the dual may rise and steps go round. What
    rounding makes of a slope, ``noise``, is not searched for.
    """
    first = (error * d).sum(-1)
    unread = looks_every(Y.device) > 1
    X = _rows(Y, b + d)
    now = ((X.sum(-2) - 1) * d).sum(-1)
    search = now < -1e-3 * first - noise
    if not unread and not bool(search.any()):
        return b + d, X
    t = torch.ones_like(first)
    low, high, at_low, at_high = torch.zeros_like(t), t.clone(), first, now
    which = torch.arange(len(t), device=t.device)
    part = Y, b, d, first, noise
    for turn in range(20 if unread else 60):
        if not unread:  # those that have arrived leave
            keep = torch.nonzero(search).squeeze(-1)
            if not len(keep):
                break
            if 2 * len(keep) <= len(which):
                which, search, low, high, at_low, at_high = (
                    e[keep] for e in (which, search, low, high, at_low, at_high)
                )
                part = tuple(e[keep] for e in part)
        y, start, along, fall, slack = part
        # The chord and the middle in turns: the first is fast, the second sure.
        chord = low + (high - low) * (at_low / (at_low - at_high)).clamp(0.05, 0.95)
        try_ = torch.where(search, chord if turn % 2 == 0 else (low + high) / 2, t[which])
        found = _rows(y, start + try_.unsqueeze(-1) * along)
        now = ((found.sum(-2) - 1) * along).sum(-1)
        t[which], X[which] = try_, found
        rises = now > 0
        low, at_low = torch.where(search & rises, try_, low), torch.where(search & rises, now, at_low)
        high, at_high = torch.where(search & ~rises, try_, high), torch.where(search & ~rises, now, at_high)
        search = search & ((now > 0.3 * fall + slack) | (now < -1e-3 * fall - slack))
    return b + t.unsqueeze(-1) * d, X


# -- the graph of a support --------------------------------------------------------------------------------------------


def _laplacian_factor(E: Tensor, extra: Tensor | float = 1e-10) -> Tensor:
    """Return the Cholesky factor of D - E' diag(E 1)^-1 E, D = diag(E' 1), plus ``extra`` times the identity.

    Its null vectors are constant on each piece of the graph; they do not reach the answer. The one that is constant
    everywhere is lifted.
    """
    n = E.shape[-1]
    S = -(E.mT @ (E / E.sum(-1, keepdim=True)))
    diagonal = torch.diagonal(S, 0, -2, -1)
    diagonal += E.sum(-2) + (extra.unsqueeze(-1) if isinstance(extra, Tensor) else extra)
    return torch.linalg.cholesky_ex(S + 1 / n)[0]


def _spread(E: Tensor, factor: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Return a 1' + 1 b' whose part on the support E has the given sums of rows and columns; refined once."""
    degree, count = E.sum(-1), E.sum(-2)

    def reduced(row, column):
        return column - (E.mT @ (row / degree).unsqueeze(-1)).squeeze(-1)

    goal = reduced(row, column)
    b = torch.zeros_like(goal)
    for _ in range(2):
        left = goal - count * b + (E.mT @ ((E @ b.unsqueeze(-1)).squeeze(-1) / degree).unsqueeze(-1)).squeeze(-1)
        b = b + torch.cholesky_solve(left.unsqueeze(-1), factor).squeeze(-1)
    a = (row - (E @ b.unsqueeze(-1)).squeeze(-1)) / degree
    return a.unsqueeze(-1) + b.unsqueeze(-2)


def _freed(Y: Tensor, X: Tensor, b: Tensor) -> Tensor:
    """Return the entries without a multiplier, at an extreme multiplier: pieces are joined until the graph is one.

    Raising the price of a whole piece's rows and lowering that of its columns changes nothing on its support, and
    lowers the multipliers of the entries that lead into its columns from other rows until one is 0.
    """
    n = X.shape[-1]
    best = X.argmax(-1, keepdim=True)
    a = (Y - b.unsqueeze(-2) - X).gather(-1, best)
    z = (a + b.unsqueeze(-2) - Y).clamp(min=0).masked_fill(X > 0, 0)
    tiny = 1e-11 * (1 + Y.abs().amax((-2, -1), keepdim=True))
    for _ in range(n):
        E = (z <= tiny).double()
        joined = _reached(E)  # rows in the piece of row 0
        columns = (joined.unsqueeze(-2) @ E).squeeze(-2) > 0
        rows = joined > 0
        into = ~rows.unsqueeze(-1) & columns.unsqueeze(-2)
        out = rows.unsqueeze(-1) & ~columns.unsqueeze(-2)
        least = z.masked_fill(~into, math.inf).amin((-2, -1), keepdim=True)
        if bool(rows.all()):
            break
        least = torch.where(least.isinf(), 0.0, least)
        z = torch.where(into, z - least, torch.where(out, z + least, z)).clamp(min=0)
    return (z <= tiny).double()


def _reached(E: Tensor) -> Tensor:
    """Return 1 for the rows that row 0 reaches along the graph."""
    step = (E @ E.mT).clamp(max=1)
    for _ in range(max(1, (E.shape[-1] - 1).bit_length())):
        step = (step @ step).clamp(max=1)
    return (step[..., 0, :] > 0).double()


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
