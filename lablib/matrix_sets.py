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
# The shares of a step that are tried, some together while their matrices hold no more numbers than this.
SHARES = torch.cat([torch.tensor([0.75]), 0.5 ** torch.arange(1, 42)]).double()
TOGETHER = 1 << 16


class Birkhoff(ConvexSet):
    """``{X : X >= 0, X 1 = 1, X' 1 = 1}``: the doubly stochastic matrices of one size, whose vertices are permutations.

    Projection: ``X_ij = max(Y_ij - a_i - b_j, 0)``. For given prices b of the columns each row is a projection on a
    simplex, which fixes the prices a of the rows, and the other way round: a few turns give a start. Newton's method on
    both makes the sums right, with a line search whose step gains at least half of what the best one would. Face: the
    support E of X; its projector is ``E * (V - a 1' - 1 b')``, where a and b solve the Laplacian of the bipartite graph
    that E is, reduced to the columns. ``size``: n. Input (..., n, n). Computed in float64, from float32 too. The graph
    may fall apart, at a permutation into n pieces; the projector is still right. ``element="highest"`` also frees the
    entries that are 0 without a multiplier, after the prices of separate pieces have been moved until they join: an
    extreme multiplier. ``lmo`` and ``gap`` call SciPy's assignment solver on the host.

    Source: Li, Sun and Toh 2020.

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
        """Search the prices, batched; then solve once more on the support that they leave."""
        check_finite(y)
        n = self.size
        Y = y.reshape(-1, n, n).double()
        X, b, steps, left = _search(Y, 500 if max_steps is None else max_steps)
        if max_steps is None and bool(left.any()):
            index = first_index(left.reshape(y.shape[:-2]))
            raise SolveError(
                f"projection on Birkhoff was not found at batch index {list(index)} in {steps} passes: subtract a "
                "constant from y or scale it down, if its entries are huge",
                index=index,
            )
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


def _excess(Y: Tensor, prices: Tensor) -> tuple[Tensor, Tensor]:
    """Return X at prices (..., 2 n) of the rows and then the columns, and by how much the sums of both exceed 1."""
    n = Y.shape[-1]
    X = (Y - prices[..., :n].unsqueeze(-1)).sub_(prices[..., n:].unsqueeze(-2)).clamp_(min=0)
    return X, torch.cat([X.sum(-1), X.sum(-2)], -1).sub_(1)


def _search(Y: Tensor, limit: int) -> tuple[Tensor, Tensor, int, Tensor]:
    """Return X, the column prices, the passes, and which samples (B,) have sums that are not 1.

    The dual in the prices is convex and piecewise quadratic; minus its gradient is the excess, its Hessian is the
    signless Laplacian of the support. A little of the identity is added to it, less as the excess falls: so much that
    prices of pieces that are apart may run about as far in a step as entries of Y differ.
    """
    columns = Y.mean(-2) - Y.mean((-2, -1)).unsqueeze(-1)  # their prices if X could have any sign
    for _ in range(4):  # best prices of the rows for those of the columns, and back: that joins most of the support
        rows = _best(Y - columns.unsqueeze(-2))
        columns = _best(Y.mT - rows.unsqueeze(-2))
    prices = torch.cat([rows, columns], -1)
    where = torch.arange(len(Y), device=Y.device)
    stride = looks_every(Y.device)  # at a look what is done leaves the batch
    high, low = Y.amax((-2, -1)), Y.amin((-2, -1))
    tol = 256 * torch.finfo(Y.dtype).eps * (1 + torch.maximum(high, -low))
    spread = 2 * (high - low).clamp(min=torch.finfo(Y.dtype).tiny)
    X, excess = _excess(Y, prices)
    all_X, all_prices = X.clone(), prices.clone()
    for step in range(limit + 1):
        worst = excess.abs().amax(-1)
        # An entry that is 0 up to rounding may come and go for ever: late passes ask for fewer digits, 1e-9 at worst.
        going = worst > tol * 2.0 ** min(max(step - 20, 0), 10)
        if step % stride == 0 or step == limit:
            keep = torch.nonzero(going).squeeze(-1)
            if 2 * len(keep) <= len(where) or step == limit:  # to copy them costs about as much as half a pass
                all_X[where], all_prices[where] = X, prices
                if not len(keep) or step == limit:
                    break
                where, Y, X, prices, tol, spread, excess, worst, going = (
                    t[keep] for t in (where, Y, X, prices, tol, spread, excess, worst, going)
                )
        d = _newton(X.sign(), (3 * worst / spread).clamp(1e-12, 0.1), excess)
        # Where the support falls apart the damped step runs far off; no price need go farther than the entries spread.
        size = d.abs()
        share = going * (spread / size.amax(-1).clamp(min=torch.finfo(d.dtype).tiny)).clamp(max=1)
        prices, X, excess = _line_search(Y, prices, d * share.unsqueeze(-1), excess, tol * share * size.sum(-1))
    left = torch.zeros(len(all_X), dtype=torch.bool, device=Y.device)
    left[where[keep]] = True
    return all_X, all_prices[:, Y.shape[-1] :], step, left


def _best(Z: Tensor) -> Tensor:
    """Return the thresholds of the rows of Z: the simplex has max(Z - threshold, 0)."""
    return threshold.simplex_threshold(Z).squeeze(-1)


def _newton(E: Tensor, extra: Tensor, excess: Tensor) -> Tensor:
    """Solve (H + extra I) d = excess for the signless Laplacian H of the support E, by its part for the columns."""
    n = E.shape[-1]
    degree = E.sum(-1) + extra.unsqueeze(-1)
    rows = excess[:, :n] / degree
    left = excess[:, n:] - (E.mT @ rows.unsqueeze(-1)).squeeze(-1)
    columns = torch.cholesky_solve(left.unsqueeze(-1), _laplacian_factor(E, extra)).squeeze(-1)
    return torch.cat([rows - (E @ columns.unsqueeze(-1)).squeeze(-1) / degree, columns], -1)


def _line_search(Y: Tensor, prices: Tensor, d: Tensor, excess: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Go the whole step d, or the first of SHARES of it that does not lead beyond the lowest point of the dual.

    The slope rises along d, and from share to share it is at most half as far: so what a step gains is at least half of
    what the best one would, and steps cannot go round. ``noise`` is what rounding makes of a slope.
    """
    unread = looks_every(Y.device) > 1
    X, after = _excess(Y, prices + d)
    lowest = -1e-3 * (excess * d).sum(-1) - noise
    beyond = (after * d).sum(-1) < lowest
    if not unread and not bool(beyond.any()):
        return prices + d, X, after
    t = torch.ones_like(lowest)
    which = torch.arange(len(t), device=t.device)
    part = tuple(e.unsqueeze(1) for e in (Y, prices, d, lowest))
    done, most = 0, len(SHARES) // 2 if unread else len(SHARES)
    while done < most:
        if not unread:  # those that have arrived leave
            keep = torch.nonzero(beyond).squeeze(-1)
            if not len(keep):
                break
            which, beyond, part = which[keep], beyond[keep], tuple(e[keep] for e in part)
        y, start, along, floor = part
        tried = SHARES[done : done + max(1, min(7, TOGETHER // y.numel()))].to(y.device)
        done += len(tried)
        after = _excess(y, start + tried.unsqueeze(-1) * along)[1]
        too_far = ((after * along).sum(-1) < floor).sum(-1)
        t[which] = torch.where(beyond, tried[too_far.clamp(max=len(tried) - 1)], t[which])
        beyond = beyond & (too_far == len(tried))
    prices = prices + t.unsqueeze(-1) * d
    return prices, *_excess(Y, prices)


# -- the graph of a support --------------------------------------------------------------------------------------------


def _laplacian_factor(E: Tensor, extra: Tensor | float = 1e-10) -> Tensor:
    """Return the Cholesky factor of D - E' R^-1 E, where D = diag(E' 1) and R = diag(E 1), each plus ``extra`` I.

    Its null vectors are constant on each piece of the graph; they do not reach the answer. The one that is constant
    everywhere is lifted.
    """
    more = extra.unsqueeze(-1) if isinstance(extra, Tensor) else extra
    S = (E.mT @ (E / (E.sum(-1) + more).unsqueeze(-1))).neg_().add_(1 / E.shape[-1])
    diagonal = torch.diagonal(S, 0, -2, -1)
    diagonal += E.sum(-2) + more
    return torch.linalg.cholesky_ex(S)[0]


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
