"""Meet a linear constraint on predictions exactly, by solving the dual of the matched loss.

A network predicts ``z = sigma(u)``, and ``A z = b`` must hold. Let phi be convex with gradient sigma. The prediction
nearest to ``sigma(u)`` in the divergence that phi makes, among all that obey, is ``z = sigma(u + A' lam)``, where the
multipliers lam minimise the dual function ``phi(u + A' lam) - b.lam``. So the constraint enters as m more units in
front of the output, with fixed weights A. Source: Rangarajan et al., arXiv 2211.04395; chapter "The saddle-point
Lagrangian".

What is where: the rows of A are made orthonormal once (``Rows``), Newton's method minimises the dual for a flat batch
in float64 (``_newton``), b on the boundary of what can be reached is met by holding coordinates (``_bind``,
``_expose``), the implicit function theorem gives the derivative (``Multipliers``), and ``DualHead`` is the layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import linprog, nnls
from torch import Tensor, nn

from .links import LINKS, Link, Softmax
from .projection import WORKING, check_search, in_a_transform, raise_not_finite, truth
from .solution import InputError, SolveError, SolveInfo, first_index

_DENSE = 64  # rows up to which Newton's equation is factored; above, conjugate gradients


# -- the rows, made orthonormal ----------------------------------------------------------------------------------------


class Rows(NamedTuple):
    """Orthonormal rows V that span what A's rows can move of a prediction, and the way between their multipliers.

    ``V``: (..., r, K); a row is 0 where A has fewer independent ones. ``lift``: (..., m, r), multipliers of A from
    those of V, of least norm. ``lower``: (..., r, m), its inverse on its range: multipliers of V from those of A.
    ``span``: (..., m, r), an orthonormal basis of the unit rows' range. ``values``: (..., r), their singular values.
    """

    V: Tensor
    lift: Tensor
    lower: Tensor
    span: Tensor
    values: Tensor


def _unit(A: Tensor) -> Tensor:
    """Return the norms of A's rows, 1 for a zero row."""
    length = torch.linalg.vector_norm(A, dim=-1)
    return torch.where(length == 0, 1.0, length)


def _orthonormal(A: Tensor, link: Link, at: Tensor, eps: float) -> Rows:
    """Factor A's rows on the face ``at`` by one singular value decomposition, of rows scaled to norm 1.

    Newton's method does not change when rows are combined; its rounding does, and so does the rank that it sees: a
    combination counts as 0 that the rounding of A's entries can make.
    """
    length = _unit(A)
    moved = link.directions(A / length.unsqueeze(-1), at)
    U, values, V = torch.linalg.svd(moved, full_matrices=False)
    noise = max(4 * eps * math.sqrt(A.shape[-2]), 8 * torch.finfo(A.dtype).eps * max(A.shape[-2:]))
    floor = noise * values[..., :1].clamp(min=1.0)
    kept = values > floor
    values = torch.where(kept, values, 0.0)
    V, U = V * kept.unsqueeze(-1), U * kept.unsqueeze(-2)
    inverse = torch.where(kept, 1 / torch.where(kept, values, 1.0), 0.0)
    basis, _ = torch.linalg.qr(length.unsqueeze(-1) * U)  # of the range, in A's own scale; its first columns
    basis = basis * kept.unsqueeze(-2)
    lift = basis @ (basis.mT @ (U / length.unsqueeze(-1) * inverse.unsqueeze(-2)))
    return Rows(V, lift, values.unsqueeze(-1) * (U * length.unsqueeze(-1)).mT, U, values)


def _on_faces(A: Tensor, link: Link, at: Tensor, eps: float) -> Rows:
    """Factor A's rows for each pattern on a face of its own; one matrix is factored once for each face that occurs."""
    if A.dim() == 3:
        return _orthonormal(A, link, at, eps)
    faces, which = torch.unique(at, dim=0, return_inverse=True)
    return Rows(*(t[which] for t in _orthonormal(A.expand(faces.shape[0], *A.shape), link, faces, eps)))


def _dot(M: Tensor, x: Tensor) -> Tensor:
    """Return M x for vectors x (B, k) and one matrix (j, k) or one for each (B, j, k)."""
    return x @ M.mT if M.dim() == 2 else (M @ x.unsqueeze(-1)).squeeze(-1)


# -- Newton's method on the dual ---------------------------------------------------------------------------------------


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1)


def _solve_spd(link: Link, w: Tensor, z: Tensor, V: Tensor, g: Tensor, ridge: Tensor, accuracy: Tensor) -> Tensor:
    """Solve ``(V D V' + ridge I) x = g`` with D the Hessian of phi: by Cholesky, by conjugate gradients from 65 rows
    on.

    ``ridge``: (B, r), or one for all. ``accuracy`` of conjugate gradients, relative: (B,).
    """
    if g.shape[-1] <= _DENSE:
        H = link.gram(w, z, V) + torch.diag_embed(ridge.expand_as(g))  # eq: eq-dual-hessian
        return torch.cholesky_solve(g.unsqueeze(-1), torch.linalg.cholesky_ex(H)[0]).squeeze(-1)

    def times(x):
        return _dot(V, link.curve(w, z, _dot(V.mT, x))) + ridge * x

    x, r, square = torch.zeros_like(g), g, (g * g).sum(-1)
    p, goal = r, (accuracy**2) * square
    for _ in range(2 * g.shape[-1]):
        open_ = square > goal
        if not torch.compiler.is_compiling() and g.device.type == "cpu" and not truth(open_):
            break
        Hp = times(p)
        bend = (p * Hp).sum(-1)
        length = torch.where(open_ & (bend > 0), square / torch.where(bend > 0, bend, 1.0), 0.0)
        x, r = x + length.unsqueeze(-1) * p, r - length.unsqueeze(-1) * Hp
        new = (r * r).sum(-1)
        p = r + torch.where(open_, new / torch.where(open_, square, 1.0), 0.0).unsqueeze(-1) * p
        square = torch.where(open_, new, square)
    return x


def _step(link: Link, w: Tensor, z: Tensor, g: Tensor, V: Tensor) -> Tensor:
    """Return Newton's step; its ridge falls with the residual g, and from 0.1 on with its square.

    So the end is quadratic, a flat start is not lost, and near the boundary, where the curvature along one direction
    falls as the residual does, steps stay long.
    """
    size = _norm(g)
    steepest = link.moving(w, z).amax(-1)  # V is orthonormal, so that V D V' is at most this
    ridge = 0.1 * torch.minimum(size * (10 * size).clamp(max=1.0), steepest.clamp(min=1.0)) + 1e-15 * steepest + 1e-200
    return -_solve_spd(link, w, z, V, g, ridge.unsqueeze(-1), size.clamp(max=0.1))


class _Work(NamedTuple):
    """The patterns still at work, a line for each: the problem, the point reached, the next step and its length."""

    row: Tensor
    u: Tensor
    c: Tensor
    allowed: Tensor
    mu: Tensor
    w: Tensor
    z: Tensor
    f: Tensor
    g: Tensor
    length: Tensor
    steps: Tensor
    met: Tensor
    left: Tensor


def _newton(link: Link, u: Tensor, rows: Rows, c: Tensor, mu: Tensor, allowed: Tensor, budget: int):
    """Minimise ``phi(u + V' mu) - c.mu`` for each pattern; return mu, passes, and whether its rows are met.

    A pass tries one step for all patterns. A pattern that gains too little keeps its point and shortens its next step;
    one whose slope has hardly changed doubles it. Once its rows are met, within ``allowed`` for A's unit rows, a
    pattern takes one more step and is left alone; so is one whose logits have moved beyond all sense. Reads one value
    on the host in each pass on a CPU, to leave early, and one in 16 passes elsewhere.
    """
    V, weigh = rows.V, rows.span * rows.values.unsqueeze(-2)  # weigh: from a residual of V's rows to A's unit rows
    far = math.inf if link.attained else 1e5 + 2 * u.nan_to_num(0.0, 0.0, 0.0).abs().amax(-1)

    def look(mu, u, c, V):
        w = u + _dot(V.mT, mu)
        z = link.sigma(w)
        return w, z, link.phi(w) - (c * mu).sum(-1), _dot(V, z) - c  # eq: eq-dual, eq-dual-gradient

    w, z, f, g = look(mu, u, c, V)
    row = torch.arange(u.shape[0], device=u.device)
    met = (_dot(weigh, g).abs() <= allowed).all(-1)
    s = _Work(row, u, c, allowed, mu, w, z, f, g, torch.ones_like(f), torch.zeros_like(row), met, torch.ones_like(met))
    out = [mu.clone(), torch.zeros_like(row), met.clone()]
    for k in range(budget):
        step = _step(link, s.w, s.z, s.g, V)
        mu = s.mu + s.length.unsqueeze(-1) * step
        w, z, f, g = look(mu, s.u, s.c, V)
        before, after = (s.g * step).sum(-1), (g * step).sum(-1)  # slopes along the step
        noise = 1e-13 * (1 + s.f.abs() + (s.c * s.mu).abs().sum(-1))
        smaller = _norm(g) < _norm(s.g)
        gains = (f <= s.f + 1e-4 * s.length * before) | ((f <= s.f + noise) & smaller)  # where f is rounding, g decides
        good = torch.where(s.met, smaller, gains) & f.isfinite() & s.left
        cut = (before / (before - after)).nan_to_num(0.1).clamp(0.1, 0.5)
        length = torch.where(good, torch.where(after < 0.3 * before, 2 * s.length, 1.0), cut * s.length)
        mu, w, z, g = (torch.where(good.unsqueeze(-1), a, b) for a, b in ((mu, s.mu), (w, s.w), (z, s.z), (g, s.g)))
        f = torch.where(good, f, s.f)
        now = (_dot(weigh, g).abs() <= s.allowed).all(-1)
        lost = _dot(V.mT, mu).abs().amax(-1) > (far if link.attained else far[s.row])
        left = s.left & ~s.met & ~lost & (length > 1e-14)
        s = _Work(s.row, s.u, s.c, s.allowed, mu, w, z, f, g, length, s.steps + s.left, s.met | now, left)
        last = k == budget - 1
        if last or u.device.type == "cpu" or k % 16 == 15:
            keep = left.nonzero().squeeze(-1)
            if last or keep.numel() < s.row.numel():
                for to, new in zip(out, (s.mu, s.steps, s.met), strict=True):
                    to[s.row] = new
                if keep.numel() == 0:
                    break
                s = _Work(*(t[keep] for t in s))
                V, weigh = (V, weigh) if V.dim() == 2 else (V[keep], weigh[keep])
    return out


# -- b on the boundary of what can be reached, and beyond --------------------------------------------------------------


def _rounding(link: Link, A: Tensor, d: Tensor, b: Tensor) -> Tensor:
    """Return the size of the numbers in ``d.b`` and ``d.A z`` that rounding acts on, for d (B, m): (B,)."""
    ends = max((abs(x) for x in (link.lower, link.upper) if math.isfinite(x)), default=0.0)
    return (d * b).abs().sum(-1) + ends * _dot(A.abs().mT, d.abs()).sum(-1)


def _bind(link: Link, A: Tensor, b: Tensor, eps: float) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Hold the coordinates that one row of A with its b forces, again and again until no more is forced.

    Row i forces when b_i is the largest or the smallest value of ``a_i.z``; beyond it, by more than the rounding of b's
    dtype, b cannot be reached. Returns the held coordinates (B, K), the rays ``+-e_i`` (B, m) of the patterns out of
    reach (else 0), and for each round the directions that touched. Reads one value on the host in each round.
    """
    B, K = b.shape[0], A.shape[-1]
    at = torch.zeros(B, K, dtype=torch.int8, device=b.device)
    ray, touched = torch.zeros_like(b), []
    work, held = torch.arange(B, device=b.device), at.new_zeros(1, 1, K)
    slack = max(16 * eps, 1e-12)
    while True:
        lines, goal = A if A.dim() == 2 else A[work], b[work]
        high, low = link.reach(lines, held), -link.reach(-lines, held)
        above, below = goal - high, low - goal
        sizes = [goal.abs() + torch.where(end.isfinite(), end.abs(), 0.0) for end in (high, low)]
        beyond = torch.maximum(above - slack * sizes[0], below - slack * sizes[1])
        worst, row = beyond.max(-1, keepdim=True)
        sign = torch.where(above.gather(-1, row) > below.gather(-1, row), 1.0, -1.0)
        ray[work] = torch.zeros_like(goal).scatter(-1, row, torch.where(worst > 0, sign, 0.0).to(b.dtype))
        wide = high - low > 1e-12 * (sizes[0] + sizes[1])
        tight = [wide & (over >= -1e-15 * size) for over, size in zip((above, below), sizes, strict=True)]
        pick = ((tight[0] | tight[1]).any(-1) & (worst <= 0).squeeze(-1)).nonzero().squeeze(-1)
        if link.attained or pick.numel() == 0:
            return at, ray, touched
        work, tight = work[pick], [t[pick] for t in tight]
        lines, old = A if A.dim() == 2 else A[work], at[work]
        floor = 1e-12 * lines.abs().amax(-1, keepdim=True)
        new = torch.zeros_like(old)
        for side, on in ((1, tight[0]), (-1, tight[1])):
            face = link.exposed(side * lines, old.unsqueeze(-2), floor) * on.unsqueeze(-1)
            new = torch.where(new != 0, new, face.sum(-2).sign().to(at.dtype))
        new = torch.where(old != 0, old, new)
        touched.append(torch.zeros_like(b).index_put((work,), tight[0].to(b.dtype) - tight[1].to(b.dtype)))
        moved = (new != old).any(-1)
        at[work] = new
        work, held = work[moved], new[moved].unsqueeze(-2)
        if work.numel() == 0:
            return at, ray, touched


class _Wall(NamedTuple):
    """What a direction d proves of each pattern: b is beyond it, or on the face that it touches, or neither."""

    face: Tensor  # (B, K), int8: the held coordinates, with those of the new face
    ray: Tensor  # (B, m): d where ``d.b`` is above ``sup d.A z``, else 0
    normal: Tensor  # (B, m): d where the two are equal and coordinates are held, else 0


def _try(link: Link, A: Tensor, b: Tensor, at: Tensor, moving: Tensor, d: Tensor, eps: float) -> _Wall:
    """Take from d (B, m) what moves the coordinates in ``moving`` (B, K), and check what is left of it.

    ``d.b`` above ``sup d.A z`` by more than rounding puts b out of reach; ``d.b`` equal to it puts b on the face that d
    touches, if b is consistent there: where d is not exact, its face may hold a coordinate too many.
    """
    length = _unit(A)
    lines = A.expand(b.shape[0], *A.shape[-2:])
    still = torch.where((at == 0) & ~moving, -1, at.long()).to(at.dtype)
    span = _orthonormal(lines, link, still, torch.finfo(b.dtype).eps).span
    d = d * length
    for _ in range(2):  # once more for the digits that the first time cancels
        d = d - _dot(span, _dot(span.mT, d))
    d = d / length
    d = d / _norm(d).clamp(min=1e-300).unsqueeze(-1)
    a = _dot(lines.mT, d)
    size = _rounding(link, lines, d, b)
    slack = max(16 * eps, 1e-12) * size
    floor = 1e-10 * a.abs().amax(-1, keepdim=True) + 4 * slack.unsqueeze(-1)
    over = (d * b).sum(-1) - link.reach(a if math.isfinite(link.upper) else torch.where(a > floor, a, 0.0), at)
    new = link.exposed(a, at, floor)
    beyond = (over > slack).unsqueeze(-1)
    new = torch.where((over >= -1e-12 * size).unsqueeze(-1) & ~beyond, new, at)
    changed = (new != at).any(-1).nonzero().squeeze(-1)
    touches = torch.zeros_like(beyond)
    if changed.numel():
        on, to, face = lines[changed], b[changed], new[changed]
        _, off, slack = _miss(link, on, to, face, _orthonormal(on, link, face, torch.finfo(b.dtype).eps), eps)
        touches[changed, 0] = off.abs().amax(-1) <= slack
    zero = torch.zeros_like(d)
    return _Wall(torch.where(touches, new, at), torch.where(beyond, d, zero), torch.where(touches, d, zero))


def _expose(link: Link, w: Tensor, A: Tensor, b: Tensor, at: Tensor, lam: Tensor, eps: float) -> _Wall:
    """Read off multipliers that have grown which coordinates b forces, or that b is out of reach.

    They grow along a direction d with ``(A' d)_k = 0`` where the prediction still moves. So d is what is left of lam
    outside the span of the moving coordinates' columns, for some guess which those are, and what d says is checked.
    """
    found = _Wall(at.clone(), torch.zeros_like(b), torch.zeros_like(b))
    left = torch.arange(b.shape[0], device=b.device)
    for moving in _guesses(link, w, A, at, lam):
        if left.numel() == 0:
            break
        wall = _try(link, A if A.dim() == 2 else A[left], b[left], at[left], moving[left], lam[left], eps)
        for to, new in zip(found, wall, strict=True):
            to[left] = new
        left = left[(wall.ray == 0).all(-1) & (wall.normal == 0).all(-1)]
    return found


def _guesses(link: Link, w: Tensor, A: Tensor, at: Tensor, lam: Tensor) -> list[Tensor]:
    """Guess which coordinates still move, from how far they are from their ends and how hard lam pulls them."""
    pull = torch.where(at != 0, 0.0, _dot(A.mT, lam))
    w = link.free(w, at)
    room = torch.where(at != 0, 0.0, link.moving(w, link.at_ends(w, at)))
    room = room / room.amax(-1, keepdim=True).clamp(min=1e-300)
    guesses = [] if link.attained else [room > tau for tau in (1e-2, 1e-4, 1e-6)]
    if not isinstance(link, Softmax):
        longest = pull.abs().amax(-1, keepdim=True)
        guesses += [pull.abs() < tau * longest for tau in (1e-1, 1e-3, 0.0)]
    return guesses


def _program(link: Link, A: Tensor, b: Tensor, at: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Decide which coordinates b forces: return the face (B, K), the ray where b is out of reach, and b within reach.

    Write ``z = lower + x`` and, where there is an upper end, ``z = upper - y``. Nonnegative least squares finds one
    ``x, y >= 0`` with ``A x = b - A lower`` and ``x + y = upper - lower``; for a softmax, x sums to 1 over each block.
    What they miss is the ray, or, where it is no more than the rounding of b's dtype, is taken from b. What is positive
    is off its end. Of all directions d at right angles to its columns that pull no other column up, a linear program
    takes one that pushes the most of them down: these coordinates are forced. b is not in the program, for a prediction
    may be 1e10 times another. On the host, for each pattern.
    """
    face, ray, goals = at.clone(), torch.zeros_like(b), b.clone()
    two = math.isfinite(link.upper) and not isinstance(link, Softmax)
    for i in range(b.shape[0]):
        rows, free = A if A.dim() == 2 else A[i], at[i] == 0
        length, n = _unit(rows), int(free.sum())
        lines = (rows[:, free] / length.unsqueeze(-1)).cpu().numpy()
        goal = ((b[i] - rows @ link._ends(b[i], at[i])) / length).cpu().numpy()
        if two:
            M = np.block([[lines, np.zeros_like(lines)], [np.eye(n), np.eye(n)]])
            ties = np.full(n, link.upper - link.lower)
        elif isinstance(link, Softmax):
            blocks = np.repeat(np.eye(len(link.sizes)), link.sizes, axis=1)[:, free.cpu().numpy()]
            M, ties = np.vstack([lines, blocks[blocks.any(1)]]), np.ones(int(blocks.any(1).sum()))
        else:
            M, ties = lines, np.ones(0)
        size = np.linalg.norm(M, axis=0)
        size = np.where(size > 0, size, 1.0)
        x, positive, missed = _off_end(M / size, np.append(goal, ties))
        if np.abs(missed).max() > max(16 * eps, 1e-12) * max(np.abs(goal).max(), *ties, 0.0):
            ray[i] = torch.as_tensor(missed[: len(goal)], device=b.device) / length
            continue
        x = x / size
        for tie, total in zip(M[len(goal) :] != 0, ties, strict=True):
            x[tie] *= total / x[tie].sum()
        goals[i] -= torch.as_tensor(goal - M[: len(goal)] @ x, device=b.device) * length
        moves = torch.as_tensor(_push(M / size, positive), device=b.device)
        face[i, free] = torch.where(moves[:n], 0, -1).to(at.dtype)
        if two:
            face[i, free] += torch.where(moves[n:], 0, 1).to(at.dtype)
    return face, ray, goals


def _off_end(M: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find ``x >= 0`` with ``M x`` nearest to the goal; return x, where it is positive, and what is missed.

    What rounding makes of x is that of the goal times a row of the pseudoinverse: less does not count as positive.
    """
    x, _ = nnls(M, goal, maxiter=30 * M.shape[1])
    positive = x > 0
    noise = np.linalg.norm(np.linalg.pinv(M[:, positive]), axis=1)
    positive[positive] = x[positive] > 4e-15 * np.abs(goal).max() * noise
    return x, positive, goal - M @ x


def _push(M: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Say which k have ``d.M_k = 0`` for every d that has it where ``positive`` and ``d.M_k <= 0`` elsewhere."""
    left, values, _ = np.linalg.svd(M[:, positive])
    across = left[:, int((values > 1e-12 * max(M.shape)).sum()) :]  # all d at right angles to what is positive
    turn = across.T @ M
    turn = np.where(np.abs(turn) > 1e-11, turn, 0.0)
    moves, (q, n) = positive | (turn == 0).all(0), turn.shape
    turn = turn[:, ~moves]
    if turn.size == 0:
        return np.ones(n, dtype=bool)
    most = turn.shape[1]
    found = linprog(
        np.append(np.zeros(q), -np.ones(most)),  # the sum of the pushes, each counted up to 1
        A_ub=np.hstack([turn.T, np.eye(most)]),
        b_ub=np.zeros(most),
        bounds=[(None, None)] * q + [(0, 1)] * most,
        method="highs",
    )
    if found.status != 0:
        return np.ones(n, dtype=bool)
    moves[~moves] = found.x[q:] < 0.5
    return moves


class Found(NamedTuple):
    """What the solver hands back, for a flat batch of B patterns, in float64."""

    multipliers: Tensor  # (B, m)
    shift: Tensor  # (B, K): A' lam where the coordinate is free (for a softmax up to a constant on each block), from V
    product: Tensor  # (B,): b.lam, as far as it does not come from held coordinates
    at: Tensor  # (B, K), int8: the held coordinates
    V: Tensor  # (r, K) or (B, r, K)
    lift: Tensor  # (m, r) or (B, m, r)
    steps: Tensor  # (B,)
    ray: Tensor  # (B, m): not 0 where b is out of reach, and then the direction that proves it on the last face
    touched: list[Tensor]  # (B, m) each: the directions that held coordinates, first to last
    slack: Tensor  # (B, m): how far b was moved, within the rounding of its dtype, to be consistent


class _Part(NamedTuple):
    """What Newton's method finds on given faces: fields of Found, and whether the rows are met there."""

    multipliers: Tensor
    shift: Tensor
    product: Tensor
    steps: Tensor
    met: Tensor
    ray: Tensor
    slack: Tensor


def _miss(link, A, b, at, rows, eps):
    """Return b's part in what the rows can move on the face ``at``, the rest, and how much of that is rounding.

    All are for A's rows scaled to norm 1, and counted from the middle of the face.
    """
    length, centre = _unit(A), link.centre(at)
    goal = (b - _dot(A, centre)) / length
    along = _dot(rows.span.mT, goal)
    off = goal - _dot(rows.span, along)  # what no prediction on the face can change
    size = b.abs().div(length).amax(-1) + _dot(A.abs(), centre.abs()).div(length).amax(-1)
    return along, off, max(16 * eps * math.sqrt(A.shape[-1]), 1e-11) * size


def _on_face(link, u, b, A, at, rows, start, eps, tol, budget):
    """Solve on the face ``at``; return the fields of Found, without what concerns faces.

    Where rows nearly depend on each other lam is large and A' lam loses digits, so the shift is made from V.
    """
    length = _unit(A)
    along, off, slack = _miss(link, A, b, at, rows, eps)
    missed = off.abs().amax(-1) > slack
    across = off / _norm(off).clamp(min=1e-300).unsqueeze(-1)
    across = across - _dot(rows.span, _dot(rows.span.mT, across))  # once more for the digits that off has lost
    ray = torch.where(missed.unsqueeze(-1), across / length, 0.0)
    c = torch.where(rows.values > 0, along / torch.where(rows.values > 0, rows.values, 1.0), 0.0)
    if link.name == "identity":
        mu = c - _dot(rows.V, u)
        steps, met = torch.zeros(u.shape[0], dtype=torch.int64, device=u.device), torch.ones_like(missed)
    else:
        mu = torch.zeros_like(c) if start is None else _dot(rows.lower, start).nan_to_num(0.0, 0.0, 0.0)
        allowed = tol * (1 + (b / length).abs())
        mu, steps, met = _newton(link, link.free(u, at), rows, c, mu, allowed, budget)
    short = (rows.values == 0).any(-1) | (rows.values.shape[-1] < length.shape[-1])  # some rows depend on others
    slack = torch.where(short, slack, 0.0).unsqueeze(-1) * length
    return _Part(_dot(rows.lift, mu), _dot(rows.V.mT, mu), (c * mu).sum(-1), steps, met, ray, slack)


def _suspect(link: Link, u: Tensor, b: Tensor, A: Tensor, at: Tensor, part: _Part, tol: float) -> Tensor:
    """Say for each pattern whether b may force coordinates, or be out of reach, (B,).

    It may where the rows are not met. It may too where they are, but the multipliers have driven a coordinate so near
    its end that the rest of the way weighs no more than what the rows still miss: on a face, d.(b - A z) is made of
    nothing else. Away from all faces Newton's last step leaves rounding only.
    """
    out = (part.ray != 0).any(-1)
    if link.attained:
        return ~part.met & ~out
    w = link.free(u + part.shift, at)
    z = link.at_ends(w, at)
    room, before = link.moving(w, z), link.moving(link.free(u, at), link.at_ends(u, at))
    length = _unit(A)
    missed = ((_dot(A, z) - b) / length).abs()
    missed = torch.where(missed > 1e-4 * tol * (1 + (b / length).abs()), missed, 0.0).amax(-1, keepdim=True)
    weight = room * (A.abs() / length.unsqueeze(-1)).amax(-2)  # what is left of the way, in unit rows
    driven = (at == 0) & (room < 1e-4) & (room < 0.1 * before) & (1e-3 * weight < missed)
    return (~part.met | driven.any(-1)) & ~out


def solve(link, u, b, A, start, rows, eps, tol, budget) -> Found:
    """Minimise ``phi(u + A' lam) - b.lam`` over lam for each pattern of a flat batch, in float64; not differentiated.

    ``u``: (B, K). ``b``: (B, m). ``A``: (m, K) or (B, m, K); ``rows`` is its factor. ``start``: (B, m) or None.
    ``eps``: the rounding of the dtype that u, b and A came in; b may be off by that and still count as consistent.
    """
    at, ray, touched = _bind(link, A, b, eps)
    V, lift = rows.V, rows.lift
    if truth(at != 0):
        rows = _on_faces(A, link, at, eps)
        V, lift = rows.V, rows.lift
    now = _on_face(link, u, b, A, at, rows, start, eps, tol, budget)
    now.ray.copy_(torch.where((ray != 0).any(-1, keepdim=True), ray, now.ray))
    if link.name == "identity":
        return Found(now.multipliers, now.shift, now.product, at, V, lift, now.steps, now.ray, touched, now.slack)
    first, rounds = at.clone(), len(touched)

    def move(work, face, goal, eps):
        """Solve for the patterns in ``work`` on other faces."""
        nonlocal V, lift
        lines = A if A.dim() == 2 else A[work]
        rows = _on_faces(lines, link, face, eps)
        if V.dim() == 2:
            V, lift = V.repeat(u.shape[0], 1, 1), lift.repeat(u.shape[0], 1, 1)
        V, lift = V.index_copy(0, work, rows.V), lift.index_copy(0, work, rows.lift)  # a factor is kept: not in place
        part = _on_face(link, u[work], goal, lines, face, rows, None, eps, tol, budget)
        part = part._replace(steps=now.steps[work] + part.steps, slack=part.slack + (b[work] - goal).abs())
        at[work] = face
        for to, new in zip(now, part, strict=True):
            to[work] = new
        return _suspect(link, u[work], goal, lines, face, part, tol)

    suspect = _suspect(link, u, b, A, at, now, tol)
    work = suspect.nonzero().squeeze(-1)
    while work.numel():
        lines = A if A.dim() == 2 else A[work]
        wall = _expose(link, u[work] + now.shift[work], lines, b[work], at[work], now.multipliers[work], eps)
        now.ray[work] = wall.ray
        touched.append(torch.zeros_like(b).index_put((work,), wall.normal))
        suspect[work] = (wall.ray == 0).all(-1)
        held = (wall.face != at[work]).any(-1)
        work, face = work[held], wall.face[held]
        if work.numel():
            suspect[work] = move(work, face, b[work], eps)
            work = work[suspect[work]]
    wrong = (~now.met | (now.ray != 0).any(-1)) & (at != first).any(-1)  # a guess was
    work = (suspect | wrong).nonzero().squeeze(-1)
    if work.numel():
        face, ray, goal = _program(link, A if A.dim() == 2 else A[work], b[work], first[work], eps)
        for normal in touched[rounds:]:
            normal[work] = 0.0
        other = wrong[work] | (face != at[work]).any(-1)
        if eps > 1e-12:  # b may have moved
            other |= ~now.met[work]
        other &= (ray == 0).all(-1)
        now.ray[work] = ray
        out = (ray != 0).any(-1)
        at[work[out]] = first[work[out]]
        if truth(other):
            move(work[other], face[other], goal[other], torch.finfo(b.dtype).eps)
    return Found(now.multipliers, now.shift, now.product, at, V, lift, now.steps, now.ray, touched, now.slack)


def _along(d: Tensor, A: Tensor) -> Tensor:
    """Return ``A'd`` for one d, with 0 where it is rounding."""
    a = d @ A
    return torch.where(a.abs() <= 1e-13 * A.shape[0] * (d.abs() @ A.abs()), 0.0, a)


def _certificate(link: Link, A: Tensor, b: Tensor, ray: Tensor, touched: list[Tensor]) -> Tensor | None:
    """Return d with ``d.b > sup d.A z`` over all predictions, for one pattern that ``ray`` excludes on its face.

    The directions that led to the face are added, the first with the largest weight, until d excludes b everywhere.
    """
    free = torch.zeros(A.shape[-1], dtype=torch.int8, device=A.device)
    chain = [n for n in touched if bool((n != 0).any())]
    for weight in (0.0, *(4.0**k for k in range(16))):
        d = ray.clone()
        for k, n in enumerate(reversed(chain)):
            d = d + weight ** (k + 1) * _norm(ray) * n
        d = d / _norm(d)
        if float(link.reach(_along(d, A), free)) < float(d @ b):  # eq: eq-dual-ray
            return d
    return None


# -- the derivative ----------------------------------------------------------------------------------------------------


class Multipliers(torch.autograd.Function):
    """``argmin_lam phi(u + A' lam) - b.lam`` as one autograd rule, by differentiating ``A sigma(u + A' lam) = b``.

    With D the Hessian of phi at the solution and ``H = A D A'``: ``d lam = H^+ (db - dA z - A D (du + dA' lam))``.
    Inputs: u (B, K), b (B, m), A (m, K) or (B, m, K), then what is not differentiated. Outputs: lam and the shift ``A'
    lam``, then what is not differentiated: b.lam, the held coordinates, and the rows and the lift of the factor.
    """

    @staticmethod
    def forward(u, b, A, start, call):
        """Solve."""
        return call.solve(u, b, A, start)[:6]

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keep what the rule needs."""
        u, _, A, _, ctx.call = inputs
        lam, shift, product, *face = output
        ctx.mark_non_differentiable(product, *face)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(u, A, lam, shift, *face)
        ctx.save_for_forward(u, A, lam, shift, *face)

    @staticmethod
    def backward(ctx, v, s, *_):
        """Return the products of v, for lam, and s, for the shift, with the derivatives by u, b and A."""
        if v is None and s is None:
            return (None,) * 5
        u, A, lam, shift, at, V, lift = ctx.saved_tensors
        link, solved = ctx.call.link, ctx.call.solved
        w = u + shift
        z, C = link.at_ends(w, at), _moving_rows(A, at, V, lift)
        v = (0.0 if v is None else _dot(lift.mT, v)) + (0.0 if s is None else _dot(C, s))
        x = _pull(link, w, z, C, at, v)  # eq: eq-dual-adjoint
        x = x if solved is None else torch.where(solved, x, 0.0)
        p, q = _dot(lift, x), -link.curve(w, z, _dot(C.mT, x), at)
        q = q if solved is None else torch.where(solved, q, 0.0)
        if not ctx.needs_input_grad[2]:
            return q, p, None, None, None
        return q, p, _outer(lam, q if s is None else q + s, A) - _outer(p, z, A), None, None

    @staticmethod
    def jvp(ctx, du, db, dA, _start, _call):
        """Return the change of lam and of the shift."""
        u, A, lam, shift, at, V, lift = ctx.saved_tensors
        link, solved = ctx.call.link, ctx.call.solved
        w = u + shift
        z, C = link.at_ends(w, at), _moving_rows(A, at, V, lift)
        dw = torch.zeros_like(u) if du is None else du
        right = torch.zeros_like(lam) if db is None else db
        turned = torch.zeros_like(u) if dA is None else _dot(dA.mT, lam)
        if dA is not None:
            dw, right = dw + turned, right - _dot(dA, z)
        x = _pull(link, w, z, C, at, _dot(lift.mT, right) - _dot(C, link.curve(w, z, dw, at)))
        x = x if solved is None else torch.where(solved, x, 0.0)
        return _dot(lift, x), turned + _dot(C.mT, x), None, None, None, None

    @staticmethod
    def vmap(info, in_dims, u, b, A, start, call):
        """Make the mapped dimension part of the batch."""
        u_dim, b_dim, A_dim, start_dim, _ = in_dims
        N, B = info.batch_size, u.shape[1 if u_dim == 0 else 0]

        def flat(t, dim, rank):
            t = t.expand(N, *t.shape) if dim is None else t.movedim(dim, 0)
            t = t if t.dim() == rank + 2 else t.unsqueeze(1).expand(N, B, *t.shape[1:])
            return t.reshape(N * B, *t.shape[2:])

        if A_dim is not None or A.dim() == 3:
            A = flat(A, A_dim, 2)
        start = None if start is None else flat(start, start_dim, 1)
        out = Multipliers.apply(flat(u, u_dim, 1), flat(b, b_dim, 1), A, start, call)
        dims = (0, 0, 0, 0, *[None if out[4].dim() == 2 else 0] * 2)
        return tuple(t if d is None else t.unflatten(0, (N, B)) for t, d in zip(out, dims, strict=True)), dims


def _outer(a: Tensor, x: Tensor, A: Tensor) -> Tensor:
    """Return the products a x' in the shape of A: for each pattern, or summed where all share one matrix."""
    return a.mT @ x if A.dim() == 2 else a.unsqueeze(-1) * x.unsqueeze(-2)


def _moving_rows(A: Tensor, at: Tensor, V: Tensor, lift: Tensor) -> Tensor:
    """Return V as a differentiable combination of A's rows: the lift is a constant, A is not."""
    C = torch.where((V != 0).any(-1, keepdim=True), lift.mT @ A, 0.0) * (at == 0).unsqueeze(-2)
    return V + (C - C.detach()) if C.requires_grad else V.expand(C.shape)


def _pull(link: Link, w: Tensor, z: Tensor, C: Tensor, at: Tensor, r: Tensor) -> Tensor:
    """Return ``(C D C')^+ r``, in differentiable torch."""
    w = link.free(w, at)
    if link.attained:  # D is 0 at some coordinates, and may leave fewer directions than A has rows
        H = link.gram(w, z, C)
        values, basis = torch.linalg.eigh(H.detach())
        basis = basis * (values > 1e-11).unsqueeze(-2)
        H = basis.mT @ H @ basis + torch.diag_embed((values <= 1e-11).to(H.dtype))
        x = torch.cholesky_solve(_dot(basis.mT, r).unsqueeze(-1), torch.linalg.cholesky_ex(H)[0]).squeeze(-1)
        return _dot(basis, x)
    idle = (C.detach() == 0).all(-1).to(r.dtype)
    tiny = 1e-15 * link.moving(w, z).detach().amax(-1, keepdim=True)  # where all but some coordinates stand at an end
    return _solve_spd(link, w, z, C, r, idle + tiny, torch.full_like(r[:, 0], 1e-13))


class _Call:
    """What one call of the solver needs beside tensors, and what it learnt."""

    def __init__(self, head: DualHead, batch: torch.Size, eps: float, strict: bool):
        self.head, self.link, self.batch, self.eps, self.strict = head, head._link, batch, eps, strict
        self.info: SolveInfo | None = None
        self.solved: Tensor | None = None  # (B, 1), where some pattern was not solved and that is let pass

    def solve(self, u: Tensor, b: Tensor, A: Tensor, start: Tensor | None) -> Found:
        """Solve, measure, and raise where the tolerance is missed."""
        head, link = self.head, self.link
        found = solve(link, u, b, A, start, head._factor(A, self.eps), self.eps, head.tol, head.max_steps)
        lam, at = found.multipliers, found.at
        z = link.at_ends(u + found.shift, at)
        error = _dot(A, z) - b
        fine = (error.abs() <= head.tol * (_unit(A) + b.abs()) + found.slack).all(-1)
        fine = fine & z.isfinite().all(-1) & (found.ray == 0).all(-1)
        shape = self.batch if math.prod(self.batch) == u.shape[0] else u.shape[:1]
        parts = (fine, found.steps, error.abs().amax(-1), (lam * error).sum(-1).abs())
        self.info = SolveInfo(*(t.reshape(shape) for t in parts), _say(found))
        if truth(~fine):
            if self.strict:
                self._fail(found, b, A, z)
            self.solved = fine.unsqueeze(-1)
        return found

    def _fail(self, found: Found, b: Tensor, A: Tensor, z: Tensor) -> None:
        info, link = self.info, self.link
        index = first_index(~info.converged)
        flat = int(torch.nonzero(~info.converged.reshape(-1))[0])
        where = f" at batch index {list(index)}" if index else ""
        b, rows = b[flat], A if A.dim() == 2 else A[flat]
        d = None
        if bool((found.ray[flat] != 0).any()):
            d = _certificate(link, rows, b, found.ray[flat], [n[flat] for n in found.touched])
        if d is not None:
            largest = [i for i in d.abs().argsort(descending=True)[:6].tolist() if abs(float(d[i])) > 1e-4]
            shown = ", ".join(f"{float(d[i]):.4g} at row {i}" for i in sorted(largest))
            shown += ", ..." if int((d.abs() > 1e-4).sum()) > len(largest) else ""
            most = float(link.reach(_along(d, rows), torch.zeros_like(rows[0], dtype=torch.int8)))
            excess = f"w.b is {float(d @ b):.6g}, which is {float(d @ b) - most:.2g} above"
            if bool((_along(d, rows) == 0).all()):
                proof = f"rows of A contradict each other. Their combination w = ({shown}) is 0, and {excess} that"
                advice = "a b in the range of A; project b on it, or drop a row"
            else:
                proof = f"along w = ({shown}), {excess} the most that w.A z can be, {most:.6g}"
                advice = "b = A z for a z in the range of the link"
            raise InputError(
                f"b{where} cannot be reached by {link.name}: {proof}; expected {advice} (strict=False returns the "
                "nearest found)",
                info=info,
                index=index,
                certificate=d,
            )
        if not bool(z[flat].isfinite().all()):
            raise SolveError(
                f"{link.name} overflows{where}: expected u for which its value is a finite number; make u smaller",
                info=info,
                index=index,
            )
        edge = bool((found.ray[flat] != 0).any()) or bool((found.at[flat] != 0).any())
        near = "b is at the boundary of what can be reached, to within rounding; " if edge else ""
        near += "give A and b in float64, or " if self.eps > 1e-12 else ""
        raise SolveError(
            f"A z = b is missed{where}: residual {float(info.residual[index]):.1e} after "
            f"{int(info.iterations[index])} passes; accepted was tol={self.head.tol:.1e} for rows of norm 1 and "
            f"relative to 1 + |b|; {near}raise tol or max_steps, give a warm_start, or pass strict=False",
            info=info,
            index=index,
        )


def _say(found: Found) -> str:
    """Say how many coordinates are held."""
    if not truth(found.at != 0):
        return ""
    held = (found.at != 0).sum(-1)
    return f"b forces {int(held.sum())} coordinates in {int((held > 0).sum())} patterns, where the gradient is 0"


# -- the layer ---------------------------------------------------------------------------------------------------------


class DualHead(nn.Module):
    """The head ``z = sigma(u + A' lam)`` with ``A z = b``: the prediction nearest to ``sigma(u)`` that obeys.

    It solves ``min_z phi*(z) - u.z`` subject to ``A z = b``, where ``sigma = grad phi`` and phi* is the conjugate of
    phi. Method: the dual ``min_lam phi(u + A' lam) - b.lam`` by Newton's method in float64, each pattern with its own
    step length and its own end, the system factored for up to 64 rows and solved by conjugate gradients for more;
    backwards and in forward mode the implicit function theorem.

    ``A``: (m, K), or (..., m, K) with a matrix for each pattern; a Parameter is trained. ``link``: ``"identity"``,
    ``"sigmoid"``, ``"tanh"``, ``"softmax"``, ``"relu"`` or ``"exp"``. ``groups``: for softmax, the size of each block
    (a number), or the sizes of all (a sequence that sums to K); by default one block. ``tol``: of ``A z - b`` before z
    is rounded to u's dtype, for rows of norm 1 and relative to ``1 + |b_i|``. Where rows depend on each other, or b is
    at the edge of reach, b may be off by more: by some 16 roundings of the coarser dtype of A and b, so give both in
    float64 where a wrong b must not pass. ``max_steps``: passes of Newton's method.

    Rows may depend on each other, or on what the link fixes (a softmax's total): b must then be consistent, z is unique
    all the same, the multipliers are those of least norm, and the gradient by b is its projection on the range of A. A
    coordinate that b forces to an end of the link's range is held there; its gradient is 0, and ``SolveInfo`` says so.
    Where b is out of reach the error has a ``certificate`` w with ``w.b > w.A z`` for every prediction z.

    Half precision is computed as float32, and all of it in float64. ``vmap``, ``jacrev``, ``jacfwd`` and
    differentiating twice work (twice by A only where its rows are independent); under ``torch.compile`` the solver runs
    outside of the graph. The host reads a few values a call, and those that ``_newton`` names. Source: Rangarajan et
    al., arXiv 2211.04395; chapter "The saddle-point Lagrangian".

    >>> import torch
    >>> head = DualHead(torch.ones(1, 3), link="sigmoid")      # exactly two of three labels, in expectation
    >>> z = head(torch.tensor([2.0, 0.0, -1.0]), torch.tensor([2.0]))
    >>> z, z.sum()
    (tensor([0.9335, 0.6551, 0.4114]), tensor(2.))
    """

    def __init__(
        self,
        A: Tensor,
        link: str = "sigmoid",
        *,
        groups: int | Sequence[int] | None = None,
        tol: float = 1e-8,
        max_steps: int = 200,
    ):
        super().__init__()
        _check_matrix(A)
        if link != "softmax" and link not in LINKS:
            raise InputError(f"link is {link!r}: expected one of {', '.join(map(repr, (*LINKS, 'softmax')))}")
        if groups is not None and link != "softmax":
            raise InputError(f"groups is given with link={link!r}: expected link='softmax', which alone has blocks")
        check_search(tol, max_steps)
        self.link, self.groups, self.tol, self.max_steps = link, groups, tol, max_steps
        self._blocks = Softmax(_sizes(groups, A.shape[-1])) if link == "softmax" else None
        self._kept: dict[str, Any] = {}
        if isinstance(A, nn.Parameter):
            self.A = A
        elif A.requires_grad and A.is_leaf:
            raise TypeError(
                "A is a plain tensor that requires a gradient: no optimiser would see it in the head; wrap it in "
                "torch.nn.Parameter, or pass it in the call, head(u, b, A=...)"
            )
        else:
            self.register_buffer("A", A)

    def __getstate__(self):
        return {**super().__getstate__(), "_kept": {}}

    @property
    def _link(self) -> Link:
        return self._blocks or LINKS[self.link]

    def extra_repr(self) -> str:
        """Show the sizes, the link and the blocks."""
        m, K = self.A.shape[-2:]
        blocks = f", groups={self.groups}" if self.groups is not None else ""
        return f"{m} rows, {K} outputs, link={self.link!r}{blocks}"

    def forward(
        self,
        u: Tensor,
        b: Tensor,
        return_info: bool = False,
        *,
        warm_start: Any = None,
        strict: bool = True,
        A: Tensor | None = None,
    ):
        """Return the prediction z with ``A z = b``, differentiable in u, b and A.

        ``u``: (..., K). ``b``: (..., m). ``return_info``, ``strict=False``: return ``(z, SolveInfo)``; without
        ``strict`` nothing is raised for a pattern that was not solved: ``converged`` is false there, and its gradient
        is 0. ``warm_start``: multipliers to start from, (..., m); or a pair ``(memory, index)``: a tensor (N, m) with
        the multipliers of all N patterns of a data set, and the indices (...) of those in this batch. Their lines are
        read, and what was found is written back, so that reshuffled mini-batches start where each pattern ended.
        ``A``: another matrix for this call, (m, K) or (..., m, K).

        Shapes and dtypes: z is (..., K) in u's dtype; batch dimensions broadcast. Raises InputError for b out of reach.

        >>> import torch
        >>> head = DualHead(torch.ones(1, 2), link="exp")
        >>> memory = torch.zeros(100, 1)
        >>> u, index = torch.zeros(2, 2), torch.tensor([7, 3])
        >>> z, info = head(u, torch.tensor([[4.0], [2.0]]), True, warm_start=(memory, index))
        >>> memory[7], torch.tensor(2.0).log()
        (tensor([0.6931]), tensor(0.6931))
        """
        *_, z, info, batch = self._solve(u, b, A, warm_start, strict, return_info or not strict)
        z = z.reshape(*batch, z.shape[-1]).to(u.dtype)
        return (z, info) if return_info or not strict else z

    def multipliers(
        self, u: Tensor, b: Tensor, warm_start: Any = None, *, strict: bool = True, A: Tensor | None = None
    ) -> tuple[Tensor, SolveInfo]:
        """Return ``argmin_lam phi(u + A' lam) - b.lam``, (..., m), of least norm, and its SolveInfo.

        Arguments as in ``forward``; differentiable in u, b and A. Where b forces coordinates to their ends no minimiser
        exists: lam is then that of the other coordinates.

        >>> import torch
        >>> lam, info = DualHead(torch.ones(1, 2), "identity").multipliers(torch.zeros(2), torch.tensor([3.0]))
        >>> lam
        tensor([1.5000])
        """
        lam, *_, info, batch = self._solve(u, b, A, warm_start, strict, True)
        return lam.reshape(*batch, lam.shape[-1]).to(u.dtype), info

    def loss(
        self,
        u: Tensor,
        y: Tensor,
        b: Tensor,
        *,
        reduction: str = "mean",
        objective: str = "saddle",
        warm_start: Any = None,
        A: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of the constrained prediction z against targets y, (..., K).

        ``objective="saddle"``: ``min_lam phi(u + A' lam) - y.u - b.lam + phi*(y)``; its gradient by u is ``z - y``,
        without a derivative of lam (the envelope theorem). It is the matched loss at the shifted logits where ``b = A
        y``. Where b and A y disagree on average a bias can lower it without end; then take ``objective="matched"``:
        ``phi(w) - y.w + phi*(y)`` at ``w = u + A' lam``, the divergence of y from z, which is never negative.

        ``reduction``: ``"mean"`` or ``"sum"`` over the patterns, or ``"none"``. ``warm_start``, ``A``: as in
        ``forward``. Targets at the ends of the link's range are fine; those outside raise InputError. So does the
        matched objective, infinite there, where b forces a coordinate to an end that y is not at. The saddle objective
        has the gradient ``z - y`` at forced coordinates too. A pattern that cannot be solved raises; find it beforehand
        by ``head(u, b, strict=False)``.

        >>> import torch
        >>> head = DualHead(torch.ones(1, 2))
        >>> u, y = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0])
        >>> head.loss(u, y, torch.tensor([1.0])), head.loss(u, y, torch.tensor([1.0]), objective="matched")
        (tensor(0.9482), tensor(0.9482))
        """
        if reduction not in ("mean", "sum", "none"):
            raise InputError(f"reduction is {reduction!r}: expected 'mean', 'sum' or 'none'")
        if objective not in ("saddle", "matched"):
            raise InputError(f"objective is {objective!r}: expected 'saddle' or 'matched'")
        target = _check_target(self._link, y, u)
        lam, wide, goal, lines, shift, product, at, w, z, _, batch = self._solve(u, b, A, warm_start, True, False)
        target = target.expand(*batch, -1).reshape(wide.shape)
        if objective == "saddle":
            value = Saddle.apply(wide, goal, lines, lam, shift, product, at, self._link)
            value = value - (target * wide).sum(-1)  # eq: eq-saddle
        else:
            held = at != 0
            value = self._link.phi(torch.where(held, 0.0, w), at) - (torch.where(held, 0.0, target) * w).sum(-1)
            self._refuse_held(held & (z.detach() != target), target, z.detach(), batch)
        value = (value + self._link.conjugate(target)).reshape(batch).to(u.dtype)
        return value if reduction == "none" else value.mean() if reduction == "mean" else value.sum()

    def _refuse_held(self, bad: Tensor, target: Tensor, z: Tensor, batch: torch.Size) -> None:
        """Raise where the matched loss is infinite."""
        if truth(bad):
            row, k = first_index(bad)
            index = (*map(int, np.unravel_index(row, batch)), k) if batch else (k,)
            raise InputError(
                f"y{list(index)} is {target[row, k].item():.6g} and b forces that prediction to {z[row, k].item():g}, "
                "so that the matched loss is infinite: expected a y with A y = b, or objective='saddle'",
                index=index,
            )

    def _solve(self, *arguments: Any):
        """Solve outside of a compiled graph: the number of passes depends on the values."""
        if torch.compiler.is_compiling():  # asked first, since torch.compiler.disable loads the whole compiler
            return torch.compiler.disable(self._solve_eagerly)(*arguments)
        return self._solve_eagerly(*arguments)

    def _solve_eagerly(self, u: Tensor, b: Tensor, A: Tensor | None, warm_start: Any, strict: bool, info: bool):
        """Check, flatten the batch, solve in float64; return what the public functions are made of."""
        if A is None:
            A = self.A
        else:
            _check_matrix(A)
            if A.shape[-1] != self.A.shape[-1]:
                raise InputError(f"A has shape {tuple(A.shape)}: expected {self.A.shape[-1]} columns, as in the head")
        if (info or isinstance(warm_start, tuple)) and in_a_transform():
            raise InputError(
                "multipliers, return_info, strict=False and a memory as warm_start are not available inside a "
                "transform of torch.func: drop them there"
            )
        batch = _match(u, b, A)
        m, K = A.shape[-2:]
        eps = max(torch.finfo(WORKING[t.dtype]).eps for t in (b, A))  # what they may be off by, as u cannot be
        wide = u.double().expand(*batch, K).reshape(-1, K)
        goal = b.double().expand(*batch, m).reshape(-1, m)
        lines = A.double() if A.dim() == 2 else A.double().expand(*batch, m, K).reshape(-1, m, K)
        start = _recall(warm_start, batch, m)
        call = _Call(self, batch, eps, strict)
        lam, shift, product, at, _, _ = Multipliers.apply(wide, goal, lines, start, call)
        w = wide + shift
        if call.solved is not None:
            w = torch.where(call.solved, w, w.detach())
        z = self._link.at_ends(w, at)  # eq: eq-shifted
        if isinstance(warm_start, tuple):
            memory, index = warm_start
            good = call.info.converged.reshape(-1, 1)
            with torch.no_grad():
                memory[index] = torch.where(good, lam, start).reshape(*batch, m).to(memory.dtype)
        return lam, wide, goal, lines, shift, product, at, w, z, call.info, batch

    def _factor(self, A: Tensor, eps: float) -> Rows:
        """Return A's rows made orthonormal; kept beside a copy of A and used again only while A equals that copy."""
        kept = self._kept.get("A")
        same = kept is not None and self._kept["eps"] == eps and kept.device == A.device and kept.shape == A.shape
        if not (same and torch.equal(kept, A)):
            free = torch.zeros(1, A.shape[-1], dtype=torch.int8, device=A.device)
            rows = _orthonormal(A, self._link, free[0] if A.dim() == 2 else free, eps)
            self._kept = {"A": A.clone(), "eps": eps, "rows": rows}
        return self._kept["rows"]


class Saddle(torch.autograd.Function):
    """``min_lam phi(u + A' lam) - b.lam`` at its minimum: by the envelope theorem lam counts as a constant."""

    @staticmethod
    def forward(u, b, A, lam, shift, product, at, link):
        """Return the value per pattern."""
        return link.phi(u + shift, at) - product

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keep the point; lam keeps its own graph, so that differentiating twice sees it move."""
        u, _, A, lam, shift, _, at, ctx.link = inputs
        ctx.save_for_backward(u, A, lam, shift, at)
        ctx.save_for_forward(u, A, lam, shift, at)

    @staticmethod
    def backward(ctx, v):
        """Return z, -lam and lam z', each times v."""
        u, A, lam, shift, at = ctx.saved_tensors
        z = ctx.link.at_ends(u + shift, at) * v.unsqueeze(-1)  # eq: eq-envelope
        return z, -lam * v.unsqueeze(-1), _outer(lam, z, A) if ctx.needs_input_grad[2] else None, *(None,) * 5

    @staticmethod
    def jvp(ctx, du, db, dA, *_):
        """Return z.(du + dA' lam) - lam.db."""
        u, _, lam, shift, at = ctx.saved_tensors
        dw = torch.zeros_like(u) if du is None else du
        dw = dw if dA is None else dw + _dot(dA.mT, lam)
        change = (ctx.link.at_ends(u + shift, at) * dw).sum(-1)
        return change if db is None else change - (lam * db).sum(-1)

    @staticmethod
    def vmap(info, in_dims, *inputs):
        """Map each pattern's value by the same formula."""
        *tensors, link = inputs
        return torch.vmap(lambda *t: Saddle.apply(*t, link), in_dims=in_dims[:7])(*tensors), 0


# -- checks ------------------------------------------------------------------------------------------------------------


def _check_matrix(A: Any) -> None:
    if not isinstance(A, Tensor):
        raise TypeError(f"A is a {type(A).__name__}: expected a torch tensor of shape (..., m, K)")
    if A.dtype not in WORKING:
        raise TypeError(f"A has dtype {A.dtype}: expected a floating point tensor; call .float() on it")
    if A.dim() < 2 or 0 in A.shape[-2:]:
        raise InputError(f"A has shape {tuple(A.shape)}: expected (..., m, K) with m and K at least 1")
    if truth(~A.isfinite()):
        raise_not_finite("A", A)


def _sizes(groups: int | Sequence[int] | None, K: int) -> list[int]:
    """Return the sizes of a softmax's blocks."""
    if groups is None:
        return [K]
    if isinstance(groups, int) and not isinstance(groups, bool):
        if groups < 1 or K % groups:
            raise InputError(f"groups is {groups}: expected a size that divides {K}, the columns of A")
        return [groups] * (K // groups)
    if isinstance(groups, str) or not isinstance(groups, Sequence):
        raise TypeError(f"groups is a {type(groups).__name__}: expected a number or a sequence of numbers")
    sizes = [int(size) for size in groups]
    if min(sizes, default=0) < 1 or sum(sizes) != K:
        raise InputError(f"groups is {sizes}: expected sizes of at least 1 that sum to {K}, the columns of A")
    return sizes


def _match(u: Tensor, b: Tensor, A: Tensor) -> torch.Size:
    """Check u, b and A against each other; return the batch shape."""
    m, K = A.shape[-2:]
    for name, t, size in (("u", u, K), ("b", b, m)):
        if not isinstance(t, Tensor):
            raise TypeError(f"{name} is a {type(t).__name__}: expected a torch tensor")
        if t.dtype not in WORKING:
            raise TypeError(f"{name} has dtype {t.dtype}: expected a floating point tensor; call .float() on it")
        if t.device != A.device:
            raise InputError(f"{name} is on {t.device} and A on {A.device}: expected one device; move it with .to()")
        if not t.shape or t.shape[-1] != size:
            what = "one for each column of A" if name == "u" else "one for each row of A"
            raise InputError(f"{name} has shape {tuple(t.shape)}: expected a last dimension of {size}, {what}")
        if truth(~t.sum().isfinite()):
            raise_not_finite(name, t)
    try:
        return torch.broadcast_shapes(u.shape[:-1], b.shape[:-1], A.shape[:-2])
    except RuntimeError:
        raise InputError(
            f"u, b and A have batch shapes {tuple(u.shape[:-1])}, {tuple(b.shape[:-1])} and {tuple(A.shape[:-2])}: "
            "expected shapes that broadcast"
        ) from None


def _recall(warm_start: Any, batch: torch.Size, m: int) -> Tensor | None:
    """Return the multipliers to start from, (B, m) in float64."""
    if warm_start is None:
        return None
    if isinstance(warm_start, tuple):
        memory, index = warm_start
        if memory.dim() != 2 or memory.shape[-1] != m:
            raise InputError(f"the memory in warm_start has shape {tuple(memory.shape)}: expected (N, {m})")
        if index.shape != batch:
            raise InputError(f"the index in warm_start has shape {tuple(index.shape)}: expected {tuple(batch)}")
        warm_start = memory[index]
    elif warm_start.shape != (*batch, m):
        raise InputError(f"warm_start has shape {tuple(warm_start.shape)}: expected {(*batch, m)}")
    return warm_start.detach().double().reshape(-1, m)


def _check_target(link: Link, y: Tensor, u: Tensor) -> Tensor:
    """Check the targets; return them in float64."""
    if not isinstance(y, Tensor):
        raise TypeError(f"y is a {type(y).__name__}: expected a torch tensor")
    if y.dtype not in WORKING:
        raise TypeError(f"y has dtype {y.dtype}: expected a floating point tensor; call .float() on it")
    if y.shape[-1:] != u.shape[-1:]:
        raise InputError(f"y has shape {tuple(y.shape)}: expected a last dimension of {u.shape[-1]}, as u has")
    if truth(~y.isfinite()):
        raise_not_finite("y", y)
    link.check_target(y, torch.finfo(y.dtype).eps)
    return y.double()
