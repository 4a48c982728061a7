"""Meet a linear constraint on predictions exactly, by solving the dual of the matched loss.

A network predicts ``z = sigma(u)``, and ``A z = b`` must hold. Let phi be convex with gradient sigma. The prediction
nearest to ``sigma(u)`` in the divergence that phi makes, among all that obey, is ``z = sigma(u + A' lam)``, where the
multipliers lam minimise the dual function ``phi(u + A' lam) - b.lam``. So the constraint enters as m more units in
front of the output, with fixed weights A. Source: Rangarajan et al., arXiv 2211.04395; chapter "The saddle-point
Lagrangian".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .projection import WORKING, raise_not_finite, truth
from .solution import InputError, SolveError, SolveInfo, first_index

_TOLERANCE = 1e-8  # of A z - b, for rows of norm 1, relative to 1 + |b|; one more step is taken once it is met
_STEPS = 200
_REDUCTIONS = ("mean", "sum", "none")


# -- the links: an output sigma, its potential phi, the conjugate phi*, and what sigma can reach -----------------------


class Link:
    """An output ``sigma = grad phi`` that acts on each coordinate alone; a subclass gives the formulas.

    ``lower``, ``upper``: the ends of sigma's range. ``attained``: sigma reaches its finite ends at finite u, so that no
    multiplier needs to grow without end. A coordinate may be held at an end: ``at`` is -1 at the lower one, 1 at the
    upper one, 0 where it is free.
    """

    lower, upper, attained = -math.inf, math.inf, False

    def value(self, w: Tensor) -> Tensor:
        """Return phi of each coordinate."""
        raise NotImplementedError

    def sigma(self, w: Tensor) -> Tensor:
        """Return the prediction."""
        raise NotImplementedError

    def slope(self, w: Tensor) -> Tensor:
        """Return the derivative of sigma."""
        raise NotImplementedError

    def conjugate(self, v: Tensor) -> Tensor:
        """Return phi*(v), summed over the coordinates."""
        raise NotImplementedError

    def at_ends(self, w: Tensor, at: Tensor) -> Tensor:
        """Return the prediction with the held coordinates at their ends."""
        z = self.sigma(w)
        if math.isfinite(self.lower):
            z = torch.where(at < 0, self.lower, z)
        return torch.where(at > 0, self.upper, z) if math.isfinite(self.upper) else z

    def phi(self, w: Tensor, at: Tensor) -> Tensor:
        """Return the potential, summed; a held coordinate counts its end times w, the limit of phi on that face."""
        held = at != 0
        safe = torch.where(held, 0.0, w)
        return torch.where(held, self._ends(w, at) * w, self.value(safe)).sum(-1)

    def _ends(self, w: Tensor, at: Tensor) -> Tensor:
        lower = self.lower if math.isfinite(self.lower) else 0.0
        upper = self.upper if math.isfinite(self.upper) else 0.0
        return torch.where(at > 0, upper, lower).to(w.dtype)

    def curve(self, w: Tensor, z: Tensor, at: Tensor, v: Tensor) -> Tensor:
        """Return the Hessian of phi times v."""
        return torch.where(at != 0, 0.0, self.slope(torch.where(at != 0, 0.0, w))) * v

    def gram(self, w: Tensor, z: Tensor, V: Tensor) -> Tensor:
        """Return V D V' for the Hessian D of phi; V is 0 at held coordinates."""
        return (V * self.slope(w).unsqueeze(-2)) @ V.mT

    def free(self, u: Tensor, at: Tensor) -> Tensor:
        """Return u as the solver may use it: finite where it is held, for V is 0 there."""
        return u

    def centre(self, at: Tensor) -> Tensor:
        """Return a member of the affine hull of what is reached, orthogonal to the directions that lie in it."""
        ends = torch.zeros(at.shape, dtype=torch.float64, device=at.device)
        return torch.where(at != 0, self._ends(ends, at), ends)

    def directions(self, V: Tensor, at: Tensor) -> Tensor:
        """Project rows (..., m, K) on the directions in which a prediction can move."""
        return V * (at == 0).unsqueeze(-2)

    def reach(self, a: Tensor, at: Tensor) -> Tensor:
        """Return ``sup a.v`` over all predictions v on the face."""
        top = torch.where(a > 0, a * self.upper, torch.where(a < 0, a * self.lower, 0.0))
        return torch.where(at != 0, self._ends(a, at) * a, top).sum(-1)

    def exposed(self, a: Tensor, at: Tensor, floor: Tensor) -> Tensor:
        """Return ``at`` of the face where a.v is largest; |a| up to ``floor`` counts as 0."""
        return torch.where(at != 0, at, torch.where(a > floor, 1, torch.where(a < -floor, -1, 0)).to(at.dtype))

    def check_target(self, y: Tensor, eps: float) -> None:
        """Raise where phi*(y) is infinite."""
        bad = (y < self.lower) | (y > self.upper)
        if truth(bad):
            index = first_index(bad)
            raise InputError(
                f"y{list(index)} is {y[index].item():.6g}: expected a target in [{self.lower}, {self.upper}], what "
                f"{self.name} can reach",
                index=index,
            )

    @property
    def name(self) -> str:
        """The name by which ``DualHead`` knows it."""
        return type(self).__name__.lower()


class Identity(Link):
    """``sigma(u) = u``, ``phi(u) = 1/2 u^2``: the head is the projection on A z = b."""

    def value(self, w):
        return w * w / 2

    def sigma(self, w):
        return w

    def slope(self, w):
        return torch.ones_like(w)

    def conjugate(self, v):
        return (v * v).sum(-1) / 2


class Sigmoid(Link):
    """``sigma(u) = 1 / (1 + e^-u)``, ``phi(u) = log(1 + e^u)``."""

    lower, upper = 0.0, 1.0

    def value(self, w):
        return F.softplus(w, threshold=1e9)

    def sigma(self, w):
        return torch.sigmoid(w)

    def slope(self, w):
        return torch.sigmoid(w) * torch.sigmoid(-w)

    def conjugate(self, v):
        return (torch.xlogy(v, v) + torch.xlogy(1 - v, 1 - v)).sum(-1)


class Tanh(Link):
    """``sigma(u) = tanh u``, ``phi(u) = log cosh u``."""

    lower, upper = -1.0, 1.0

    def value(self, w):
        return w.abs() + torch.log1p(torch.exp(-2 * w.abs())) - math.log(2)

    def sigma(self, w):
        return torch.tanh(w)

    def slope(self, w):
        return 4 * torch.sigmoid(2 * w) * torch.sigmoid(-2 * w)

    def conjugate(self, v):
        return (torch.xlogy(1 + v, 1 + v) + torch.xlogy(1 - v, 1 - v)).sum(-1) / 2


class ReLU(Link):
    """``sigma(u) = max(u, 0)``, ``phi(u) = 1/2 max(u, 0)^2``."""

    lower, attained = 0.0, True

    def value(self, w):
        return torch.relu(w) ** 2 / 2

    def sigma(self, w):
        return torch.relu(w)

    def slope(self, w):
        return (w > 0).to(w.dtype)

    def conjugate(self, v):
        return (v * v).sum(-1) / 2


class Exp(Link):
    """``sigma(u) = phi(u) = e^u``."""

    lower = 0.0

    def value(self, w):
        return torch.exp(w)

    def sigma(self, w):
        return torch.exp(w)

    def slope(self, w):
        return torch.exp(w)

    def conjugate(self, v):
        return (torch.xlogy(v, v) - v).sum(-1)


class Softmax(Link):
    """A softmax over each block of coordinates: ``phi(u) = sum over blocks of log sum e^u``.

    A coordinate can be held only at 0. What is left of its block still sums to 1.
    """

    lower, upper = 0.0, 1.0

    def __init__(self, sizes: Sequence[int]):
        self.sizes = tuple(sizes)
        self.width = max(sizes)
        self.equal = min(sizes) == self.width
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        total = sum(sizes)
        padded = [[s + j if j < k else total for j in range(self.width)] for s, k in zip(starts, sizes, strict=True)]
        back = [i * self.width + j for i, k in enumerate(sizes) for j in range(k)]
        self._padded, self._back = torch.tensor(padded), torch.tensor(back)

    def _split(self, t: Tensor, fill: float) -> Tensor:
        """Return t (..., K) in blocks (..., groups, width), filled up where blocks are uneven."""
        if self.equal:
            return t.unflatten(-1, (len(self.sizes), self.width))
        return F.pad(t, (0, 1), value=fill)[..., self._padded.to(t.device)]

    def _join(self, t: Tensor) -> Tensor:
        return t.flatten(-2) if self.equal else t.flatten(-2)[..., self._back.to(t.device)]

    def sigma(self, w):
        return self._join(torch.softmax(self._split(w, -math.inf), -1))

    def at_ends(self, w, at):
        return self.sigma(self.free(w, at))

    def phi(self, w, at):
        return torch.logsumexp(self._split(self.free(w, at), -math.inf), -1).sum(-1)

    def curve(self, w, z, at, v):
        return z * (v - self._mean(z, v))

    def _mean(self, z: Tensor, v: Tensor) -> Tensor:
        """Return for each coordinate the mean of v over its block, weighted by z."""
        mean = self._split(z * v, 0.0).sum(-1, keepdim=True)
        return self._join(mean.expand(*mean.shape[:-1], self.width))

    def gram(self, w, z, V):
        z = z.unsqueeze(-2)
        centred = V - self._mean(z, V)  # V diag(z) V' - (V z)(V z)' would cancel where z is nearly one-hot
        return (centred * z) @ centred.mT

    def conjugate(self, v):
        return torch.xlogy(v, v).sum(-1)

    def free(self, u, at):
        return torch.where(at != 0, -math.inf, u)

    def _even(self, at: Tensor) -> Tensor:
        left = (at == 0).double()
        return left / self._join(self._split(left, 0.0).sum(-1, keepdim=True).expand(*at.shape[:-1], -1, self.width))

    def centre(self, at):
        return self._even(at)

    def directions(self, V, at):
        even = self._even(at).unsqueeze(-2)
        return (V - self._mean(even, V)) * (at == 0).unsqueeze(-2)

    def reach(self, a, at):
        return self._split(torch.where(at != 0, -math.inf, a), -math.inf).amax(-1).sum(-1)

    def exposed(self, a, at, floor):
        a = torch.where(at != 0, -math.inf, a)
        top = self._split(a, -math.inf).amax(-1, keepdim=True)
        top = self._join(top.expand(*top.shape[:-1], self.width))
        return torch.where(a < top - floor, -1, 0).to(at.dtype)

    def check_target(self, y, eps):
        super().check_target(y, eps)
        totals = self._split(y, 0.0).sum(-1)
        bad = (totals - 1).abs() > 8 * eps * self.width
        if truth(bad):
            index = first_index(bad)
            raise InputError(
                f"y sums to {totals[index].item():.9g} over block {index[-1]}"
                f"{f' at batch index {list(index[:-1])}' if index[:-1] else ''}: expected 1, a softmax's total",
                index=index,
            )


LINKS = {link.__name__.lower(): link for link in (Identity, Sigmoid, Tanh, ReLU, Exp)}


# -- the rows, made orthonormal ----------------------------------------------------------------------------------------


class Rows(NamedTuple):
    """Orthonormal rows V that span what A's rows can move of a prediction, and the way between their multipliers.

    ``V``: (..., r, K); a row is 0 where A has fewer independent ones. ``lift``: (..., m, r), multipliers of A from those
    of V, of least norm. ``lower``: (..., r, m), its inverse on its range: multipliers of V from those of A.
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

    Newton's method does not change when rows are combined; its rounding does, and so does the rank that it sees.
    """
    length = _unit(A)
    moved = link.directions(A / length.unsqueeze(-1), at)
    U, values, V = torch.linalg.svd(moved, full_matrices=False)
    floor = eps * max(A.shape[-2:]) * values[..., :1].clamp(min=1.0)
    kept = values > floor
    values = torch.where(kept, values, 0.0)
    V, U = V * kept.unsqueeze(-1), U * kept.unsqueeze(-2)
    inverse = torch.where(kept, 1 / torch.where(kept, values, 1.0), 0.0)
    basis, _ = torch.linalg.qr(length.unsqueeze(-1) * U)  # of the range, in A's own scale; its first columns
    basis = basis * kept.unsqueeze(-2)
    lift = basis @ (basis.mT @ (U / length.unsqueeze(-1) * inverse.unsqueeze(-2)))
    return Rows(V, lift, values.unsqueeze(-1) * (U * length.unsqueeze(-1)).mT, U, values)


def _take(rows: Rows, index: Tensor) -> Rows:
    """Take some patterns' rows, where each has its own."""
    return rows if rows.V.dim() == 2 else Rows(*(t[index] for t in rows))


def _dot(M: Tensor, x: Tensor) -> Tensor:
    """Return M x for vectors x (B, k) and one matrix (j, k) or one for each (B, j, k)."""
    return x @ M.mT if M.dim() == 2 else (M @ x.unsqueeze(-1)).squeeze(-1)


# -- the solver --------------------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """What the solver hands back, for a flat batch of B patterns, in float64."""

    multipliers: Tensor  # (B, m)
    at: Tensor  # (B, K), int8: the held coordinates
    V: Tensor  # (r, K) or (B, r, K)
    lift: Tensor  # (m, r) or (B, m, r)
    steps: Tensor  # (B,)
    outside: Tensor  # (B,), b cannot be reached
    ray: Tensor  # (B, m), the direction that proves it
    slack: Tensor  # (B,), how far b was moved, within the rounding of its dtype, to be consistent


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1)


def _newton_step(link: Link, w: Tensor, z: Tensor, g: Tensor, V: Tensor) -> Tensor:
    """Solve ``(V D V' + r I) step = -g``; r falls with g, so that the end is quadratic and a flat start is not lost."""
    H = link.gram(w, z, V)
    size = torch.diagonal(H, dim1=-2, dim2=-1).amax(-1)
    ridge = 0.1 * torch.minimum(_norm(g), size.clamp(min=1.0)) + 1e-15 * size + 1e-200
    H = H + torch.diag_embed(ridge.unsqueeze(-1).expand_as(g))
    factor, _ = torch.linalg.cholesky_ex(H)
    return -torch.cholesky_solve(g.unsqueeze(-1), factor).squeeze(-1)


class _State(NamedTuple):
    """Where Newton's method stands, one line per pattern still at work."""

    row: Tensor
    mu: Tensor
    w: Tensor
    z: Tensor
    f: Tensor
    g: Tensor
    step: Tensor
    t: Tensor
    steps: Tensor
    met: Tensor
    left: Tensor


def _descend(link, u, V, c, mu, weigh, allowed, budget):
    """Minimise ``phi(u + V' mu) - c.mu`` for each pattern by Newton's method with a step length of its own.

    A pass tries one step for all. A pattern that gains too little keeps its point and shortens its next step; one whose
    slope has hardly changed doubles it. A pattern whose rows are met takes one more step, and is then left alone.
    ``weigh``: (..., m, r), from the residual of V's rows to that of A's unit rows, which must be within ``allowed``.
    Reads no value on the host, except on a CPU to leave early, elsewhere once in 16 passes.
    """
    free = torch.zeros((), dtype=torch.int8, device=u.device)

    def look(mu, u, V, c):
        w = u + _dot(V.mT, mu)
        z = link.sigma(w)
        f = link.phi(w, free) - (c * mu).sum(-1)
        return w, z, f, _dot(V, z) - c

    def finished(g, row):
        weights = weigh if weigh.dim() == 2 else weigh[row]
        return (_dot(weights, g).abs() <= allowed[row]).all(-1)

    B = u.shape[0]
    row = torch.arange(B, device=u.device)
    w, z, f, g = look(mu, u, V, c)
    one = torch.ones(B, dtype=u.dtype, device=u.device)
    met = finished(g, row)
    state = _State(
        row, mu, w, z, f, g, _newton_step(link, w, z, g, V), one, torch.zeros_like(row), met, one > 0
    )
    out_mu, out_steps, out_met = mu.clone(), torch.zeros_like(row), met.clone()
    on_host = u.device.type == "cpu"
    for k in range(budget):
        s = state
        lines = V if V.dim() == 2 else V[s.row]
        trial = s.mu + s.t.unsqueeze(-1) * s.step
        w, z, f, g = look(trial, u[s.row], lines, c[s.row])
        slope, slope_now = (s.g * s.step).sum(-1), (g * s.step).sum(-1)
        noise = 1e-13 * (1 + s.f.abs() + (c[s.row] * s.mu).abs().sum(-1))
        gain = f <= s.f + 1e-4 * s.t * slope
        level = (f <= s.f + noise) & (_norm(g) < _norm(s.g))  # where f is rounding, the gradient decides
        good = torch.where(s.met, _norm(g) < _norm(s.g), gain | level) & f.isfinite() & s.left
        cut = (slope / (slope - slope_now)).nan_to_num(0.1).clamp(0.1, 0.5)
        t = torch.where(good, torch.where(slope_now < 0.3 * slope, 2 * s.t, 1.0), s.t * cut)
        pick = good.unsqueeze(-1)
        mu, w, z, g = (torch.where(pick, a, b) for a, b in ((trial, s.mu), (w, s.w), (z, s.z), (g, s.g)))
        f = torch.where(good, f, s.f)
        now = finished(g, s.row)
        left = s.left & ~(s.met | (s.t < 1e-12))
        steps = s.steps + s.left.to(s.steps.dtype)
        state = _State(s.row, mu, w, z, f, g, _newton_step(link, w, z, g, lines), t, steps, s.met | now, left)
        if on_host or k % 16 == 15 or k == budget - 1:
            done = ~left
            if bool(done.any()) or k == budget - 1:
                out_mu[state.row], out_steps[state.row], out_met[state.row] = mu, steps, state.met
                keep = left.nonzero().squeeze(-1)
                if keep.numel() == 0:
                    break
                state = _State(*(t[keep] for t in state))
    return out_mu, out_steps, out_met


def _multiply(a: Tensor, x: Tensor) -> Tensor:
    """Return a x, where 0 times infinity is 0."""
    return torch.where(a == 0, 0.0, a * x)


def _bind(link: Link, A: Tensor, b: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Hold the coordinates that one row of A with its b forces, again and again until no more is forced.

    Row i forces when b_i is the largest or the smallest value of ``a_i.z``. Returns the held coordinates (B, K), and
    where b_i is beyond those values, the ray ``+-e_i`` (B, m); else 0. Reads one value on the host in each round.
    """
    B, (m, K) = b.shape[0], A.shape[-2:]
    at = torch.zeros(B, K, dtype=torch.int8, device=b.device)
    ray = torch.zeros_like(b)
    work, held = torch.arange(B, device=b.device), at.new_zeros(1, 1, K)
    while True:
        lines, goal = A if A.dim() == 2 else A[work], b[work]
        high, low = link.reach(lines, held), -link.reach(-lines, held)
        ends = torch.where(high.isfinite(), high.abs(), 0.0) + torch.where(low.isfinite(), low.abs(), 0.0)
        near = 16 * eps * (goal.abs() + ends)
        above, below = goal - high, low - goal
        beyond = torch.maximum(above - near, below - near)
        worst, row = beyond.max(-1, keepdim=True)
        sign = torch.where(above.gather(-1, row) > below.gather(-1, row), 1.0, -1.0)
        ray[work] = torch.zeros_like(goal).scatter(-1, row, torch.where(worst > 0, sign, 0.0).to(b.dtype))
        at_top, at_bottom = above.abs() <= near, below.abs() <= near
        pick = ((at_top | at_bottom).any(-1) & (worst <= 0).squeeze(-1)).nonzero().squeeze(-1)
        if link.attained or pick.numel() == 0:
            return at, ray
        lines = (lines if lines.dim() == 2 else lines[pick]).expand(pick.numel(), m, K)
        work, old = work[pick], at[work[pick]]
        floor = 64 * eps * lines.abs().amax(-1, keepdim=True)
        exposed = [
            link.exposed(side * lines, old.unsqueeze(-2), floor) * on[pick].unsqueeze(-1)
            for side, on in ((1, at_top), (-1, at_bottom))
        ]
        new = torch.cat(exposed, -2).sum(-2).sign().to(at.dtype)
        new = torch.where(old != 0, old, new)
        moved = (new != old).any(-1)
        work, held = work[moved], new[moved].unsqueeze(-2)
        if work.numel() == 0:
            return at, ray
        at[work] = new[moved]


def solve(link: Link, u: Tensor, b: Tensor, A: Tensor, start: Tensor | None, rows: Rows, eps: float, tol: float, budget):
    """Minimise ``phi(u + A' lam) - b.lam`` over lam for each pattern of a flat batch, in float64; not differentiated.

    ``u``: (B, K). ``b``: (B, m). ``A``: (m, K) or (B, m, K), with ``rows`` its factor on the whole range. ``start``:
    (B, m) or None. ``eps``: the rounding of b's dtype, which b may be off by and still count as consistent.
    """
    B, K = u.shape
    m = b.shape[-1]
    length = _unit(A)
    at, ray = _bind(link, A, b, eps)
    outside = (ray != 0).any(-1)
    forced = truth(at != 0)
    if forced:
        rows = _orthonormal(A if A.dim() == 3 else A.expand(B, m, K), link, at, eps)
    centre = link.centre(at if forced else at[:1])
    unit_b = (b - _dot(A, centre)) / length
    inside = _dot(rows.span, _dot(rows.span.mT, unit_b))
    off = unit_b - inside
    size = unit_b.abs().amax(-1, keepdim=True) + _dot(A.abs(), centre.abs()).div(length).amax(-1, keepdim=True)
    excess = off.abs() > 64 * eps * math.sqrt(K) * size
    missed = excess.any(-1) & ~outside
    ray = torch.where(missed[:, None], off / length, ray)
    outside = outside | missed
    inverse = torch.where(rows.values > 0, 1 / torch.where(rows.values > 0, rows.values, 1.0), 0.0)
    c = _dot(rows.span.mT, unit_b) * inverse
    mu = torch.zeros_like(c) if start is None else _dot(rows.lower, start)
    mu = torch.where(mu.isfinite(), mu, 0.0)
    free = link.free(u, at) if forced else u
    if isinstance(link, Identity):
        mu, steps = c - _dot(rows.V, u), torch.zeros(B, dtype=torch.int64, device=u.device)
    else:
        weigh = rows.span * rows.values.unsqueeze(-2)
        allowed = tol * (1 + (b / length).abs())
        mu, steps, _ = _descend(link, free, rows.V, c, mu, weigh, allowed, budget)
    lam = _dot(rows.lift, mu)
    return Found(lam, at, rows.V, rows.lift, steps, outside, ray, (off * length).abs().amax(-1))


# -- the derivative ----------------------------------------------------------------------------------------------------


class Multipliers(torch.autograd.Function):
    """``argmin_lam phi(u + A' lam) - b.lam`` as one autograd rule, by differentiating ``A sigma(u + A' lam) = b``.

    With ``D`` the Hessian of phi at the solution and ``H = A D A'``: ``d lam = H^+ (db - dA z - A D (du + dA' lam))``.
    Inputs: u (B, K), b (B, m), A (m, K) or (B, m, K), then what is not differentiated. Outputs: lam, the held
    coordinates, and the factor that the rule uses.
    """

    @staticmethod
    def forward(u, b, A, start, call):
        """Solve."""
        found = call.solve(u, b, A, start)
        return found.multipliers, found.at, found.V, found.lift

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keep what the rule needs."""
        u, b, A, _, ctx.call = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(u, A, *output)
        ctx.save_for_forward(u, A, *output)

    @staticmethod
    def backward(ctx, v, *_):
        """Return the products of v with the derivatives by u, b and A."""
        if v is None:
            return (None,) * 5
        u, A, lam, at, V, lift = ctx.saved_tensors
        link = ctx.call.link
        w = u + _dot(A.mT, lam)
        z = link.at_ends(w, at)
        p = _pull(link, w, z, A, at, V, lift, v)  # eq: eq-dual-adjoint
        q = -link.curve(w, z, at, _dot(A.mT, p))
        shared = A.dim() == 2
        gA = None
        if ctx.needs_input_grad[2]:
            gA = lam.mT @ q - p.mT @ z if shared else lam.unsqueeze(-1) * q.unsqueeze(-2) - p.unsqueeze(-1) * z.unsqueeze(-2)
        return q, p, gA, None, None

    @staticmethod
    def jvp(ctx, du, db, dA, _start, _call):
        """Return the multipliers' change."""
        u, A, lam, at, V, lift = ctx.saved_tensors
        link = ctx.call.link
        w = u + _dot(A.mT, lam)
        z = link.at_ends(w, at)
        dw = torch.zeros_like(u) if du is None else du
        right = torch.zeros_like(lam) if db is None else db
        if dA is not None:
            dw, right = dw + _dot(dA.mT, lam), right - _dot(dA, z)
        right = right - _dot(A, link.curve(w, z, at, dw))
        return _pull(link, w, z, A, at, V, lift, right), None, None, None

    @staticmethod
    def vmap(info, in_dims, u, b, A, start, call):
        """Make the mapped dimension part of the batch."""
        u_dim, b_dim, A_dim, start_dim, _ = in_dims
        N, B = info.batch_size, u.shape[u.dim() - 2 if u_dim is None else (1 if u_dim == 0 else 0)]

        def flat(t, dim, rank):
            t = t.expand(N, *t.shape) if dim is None else t.movedim(dim, 0)
            t = t if t.dim() == rank + 2 else t.unsqueeze(1).expand(N, B, *t.shape[1:])
            return t.reshape(N * B, *t.shape[2:])

        if A_dim is not None or A.dim() == 3:
            A = flat(A, A_dim, 2)
        start = None if start is None else flat(start, start_dim, 1)
        lam, at, V, lift = Multipliers.apply(flat(u, u_dim, 1), flat(b, b_dim, 1), A, start, call)
        dims = (0, 0, *[None if V.dim() == 2 else 0] * 2)
        return tuple(t if d is None else t.unflatten(0, (N, B)) for t, d in zip((lam, at, V, lift), dims)), dims


def _pull(link, w, z, A, at, V, lift, v):
    """Return ``H^+ v`` for ``H = A D A'``."""
    r = _dot(lift.mT, v)
    C = torch.where((V != 0).any(-1, keepdim=True), lift.mT @ A, 0.0) * (at == 0).unsqueeze(-2)
    H = link.gram(torch.where(at != 0, 0.0, w), z, C)
    if link.attained:  # D is 0 at some coordinates, and may leave fewer directions than A has rows
        values, basis = torch.linalg.eigh(H.detach())
        basis = basis * (values > 1e-11).unsqueeze(-2)
        H, r, lift = basis.mT @ H @ basis, _dot(basis.mT, r), lift @ basis
    idle = (H.detach() == 0).all(-1).to(H.dtype)
    factor, _ = torch.linalg.cholesky_ex(H + torch.diag_embed(idle))
    return _dot(lift, torch.cholesky_solve(r.unsqueeze(-1), factor).squeeze(-1))


class _Call:
    """What one call of the solver needs beside tensors, and where it notes what it found."""

    def __init__(self, head: DualHead, eps: float, tol: float, budget: int):
        self.link, self.head, self.eps, self.tol, self.budget = head.link_, head, eps, tol, budget
        self.found: Found | None = None

    def solve(self, u, b, A, start):
        """Solve, and keep the answer for the certificate."""
        rows = self.head.factor(A, self.eps)
        self.found = solve(self.link, u, b, A, start, rows, self.eps, self.tol, self.budget)
        return self.found


def _names(link: str) -> str:
    return f"link is {link!r}: expected one of " + ", ".join(repr(name) for name in (*LINKS, "softmax"))


class DualHead(nn.Module):
    """The head ``z = sigma(u + A' lam)`` with ``A z = b``, the prediction nearest to ``sigma(u)`` that obeys.

    It solves ``min_z phi*(z) - u.z`` subject to ``A z = b``, where phi* is the conjugate of the potential phi of the
    link, ``sigma = grad phi``. Method: the dual ``min_lam phi(u + A' lam) - b.lam`` by Newton's method in float64, each
    pattern with its own step length and its own end; backwards by the implicit function theorem.

    ``A``: (m, K), or (..., m, K) with a matrix for each pattern; a Parameter is trained. ``link``: ``"identity"``,
    ``"sigmoid"``, ``"tanh"``, ``"softmax"``, ``"relu"`` or ``"exp"``. ``groups``: for softmax, the size of each block (a
    number), or the sizes of all (a sequence that sums to K); by default one block. ``tol``: of ``A z - b`` before the
    answer is rounded to u's dtype, for rows of norm 1 and relative to ``1 + |b_i|``; ``max_steps``: passes of Newton's
    method.

    Rows may depend on each other, or on what the link fixes (a softmax's total): b must then be consistent, z is unique
    all the same, and the multipliers are those of least norm. A coordinate that b forces to an end of the link's range
    is held there, and its gradient is 0.

    >>> import torch
    >>> head = DualHead(torch.ones(1, 3), link="sigmoid")
    >>> z = head(torch.tensor([2.0, 0.0, -1.0]), torch.tensor([2.0]))
    >>> round(float(z.sum()), 5)
    2.0
    """

    def __init__(
        self,
        A: Tensor,
        link: str = "sigmoid",
        *,
        groups: int | Sequence[int] | None = None,
        tol: float = _TOLERANCE,
        max_steps: int = _STEPS,
    ):
        super().__init__()
        if not isinstance(A, Tensor):
            raise TypeError(f"A is a {type(A).__name__}: expected a torch tensor of shape (..., m, K)")
        if A.dtype not in WORKING:
            raise TypeError(f"A has dtype {A.dtype}: expected a floating point tensor; call .float() on it")
        if A.dim() < 2 or 0 in A.shape[-2:]:
            raise InputError(f"A has shape {tuple(A.shape)}: expected (..., m, K) with m and K at least 1")
        raise_not_finite("A", A.detach())
        if link not in LINKS and link != "softmax":
            raise InputError(_names(link))
        if groups is not None and link != "softmax":
            raise InputError(f"groups is given with link={link!r}: expected link='softmax', which alone has blocks")
        self.link, self.groups, self.tol, self.max_steps = link, groups, tol, max_steps
        self.link_ = Softmax(_sizes(groups, A.shape[-1])) if link == "softmax" else LINKS[link]()
        if isinstance(A, nn.Parameter):
            self.A = A
        elif A.requires_grad and A.is_leaf:
            raise TypeError(
                "A is a plain tensor that requires a gradient: no optimiser would see it in the head; wrap it in "
                "torch.nn.Parameter, or pass it in the call, head(u, b, A=...)"
            )
        else:
            self.register_buffer("A", A)
        self._kept: dict[str, Any] = {}

    def __getstate__(self):
        return {**super().__getstate__(), "_kept": {}}

    def extra_repr(self) -> str:
        """Show the sizes, the link and the blocks."""
        m, K = self.A.shape[-2:]
        blocks = f", groups={self.groups}" if self.groups is not None else ""
        return f"{m} rows, {K} outputs, link={self.link!r}{blocks}"

    def factor(self, A: Tensor, eps: float) -> Rows:
        """Return A's rows made orthonormal; kept beside a copy of A and used again only while A equals that copy."""
        kept = self._kept.get("A")
        same = kept is not None and kept.device == A.device and self._kept["eps"] == eps and kept.shape == A.shape
        if not (same and torch.equal(kept, A)):
            free = torch.zeros(1, A.shape[-1], dtype=torch.int8, device=A.device)
            rows = _orthonormal(A, self.link_, free[0] if A.dim() == 2 else free, eps)
            self._kept = {"A": A.clone(), "eps": eps, "rows": rows}
        return self._kept["rows"]

    def _solve(self, u: Tensor, b: Tensor, A: Tensor | None, warm_start: Any, strict: bool):
        """Check, flatten, solve and certify; return what the three public functions are made of."""
        A = self.A if A is None else A
        batch = _match(self.link_, u, b, A)
        m, K = A.shape[-2:]
        eps = max(torch.finfo(t.dtype).eps for t in (u, b, A))
        wide = u.double().expand(*batch, K).reshape(-1, K)
        goal = b.double().expand(*batch, m).reshape(-1, m)
        lines = A.double()
        lines = lines.expand(*batch, m, K).reshape(-1, m, K) if A.dim() > 2 else lines
        memory, index, start = _recall(warm_start, batch, m, u.device)
        call = _Call(self, eps, self.tol, self.max_steps)
        lam, at, _, _ = Multipliers.apply(wide, goal, lines, start, call)
        w = wide + _dot(lines.mT, lam)
        z = self.link_.at_ends(w, at)
        info = self._certify(call.found, wide, goal, lines, lam, at, z, batch, strict)
        if memory is not None:
            good = info.converged.reshape(-1, 1)
            memory[index.reshape(-1)] = torch.where(good, lam.detach(), start).to(memory.dtype)
        return wide, goal, lines, lam, at, w, z, info, batch

    def _certify(self, found, u, b, A, lam, at, z, batch, strict) -> SolveInfo:
        """Measure the answer, and raise where it misses its tolerance."""
        u, b, A, lam, z = (t.detach() for t in (u, b, A, lam, z))
        error = (_dot(A, z) - b).abs()
        gap = (lam * error).sum(-1).abs()
        allowed = self.tol * (_unit(A) + b.abs()) + found.slack.unsqueeze(-1)
        fine = (error <= allowed).all(-1) & ~found.outside & z.isfinite().all(-1)
        info = SolveInfo(
            fine.reshape(batch), found.steps.reshape(batch), error.amax(-1).reshape(batch), gap.reshape(batch),
            _say(at),
        )
        if strict and truth(~fine):
            self._fail(info, found, b, A, at)
        return info

    def _fail(self, info, found, b, A, at):
        index = first_index(~info.converged)
        flat = int(torch.nonzero(~info.converged.reshape(-1))[0])
        where = f" at batch index {list(index)}" if index else ""
        if bool(found.outside[flat]):
            d = found.ray[flat]
            rows = A if A.dim() == 2 else A[flat]
            free = torch.zeros(rows.shape[-1], dtype=torch.int8, device=d.device)
            most = float(self.link_.reach(d @ rows, free))
            raise InputError(
                f"b{where} cannot be reached by {self.link}: along the direction d = "
                f"{[round(x, 6) for x in d.tolist()]}, d.b is {float(d @ b[flat]):.9g} and d.A z at most {most:.9g}; "
                "expected b = A z for some z inside the link's range (strict=False returns the best found)",
                info=info,
                index=index,
                certificate=d,
            )
        raise SolveError(
            f"A z = b is missed{where}: residual {float(info.residual[index]):.1e} after "
            f"{int(info.iterations[index])} passes, accepted was tol={self.tol:.1e} for rows of norm 1 relative to "
            "1 + |b|; raise max_steps or tol, give a warm_start, or pass strict=False",
            info=info,
            index=index,
        )

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
        """Return z, (..., K), in u's dtype, with ``A z = b``; with ``return_info`` or ``strict=False`` also its SolveInfo.

        ``u``: (..., K). ``b``: (..., m) or (m,). ``warm_start``: multipliers to start from, (..., m); or a pair
        ``(memory, index)`` of a tensor (N, m) that holds those of all patterns and the (...) indices of the ones in
        this batch: the lines are read, and overwritten with what was found. ``A``: another matrix for this call.
        """
        *_, z, info, batch = self._solve(u, b, A, warm_start, strict)
        z = z.reshape(*batch, -1).to(u.dtype)
        return (z, info) if return_info or not strict else z

    def multipliers(self, u: Tensor, b: Tensor, warm_start: Any = None, *, strict: bool = True, A: Tensor | None = None):
        """Return the multipliers lam, (..., m), and their SolveInfo; arguments as in ``forward``."""
        _, _, _, lam, _, _, _, info, batch = self._solve(u, b, A, warm_start, strict)
        return lam.reshape(*batch, -1).to(u.dtype), info

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
        """Return the loss of the constrained prediction against targets y, (..., K).

        ``objective="saddle"``: ``min_lam phi(u + A' lam) - y.u - b.lam + phi*(y)``, whose gradient by u is ``z - y``. It
        equals the matched loss at the shifted logits where ``b = A y``; elsewhere it is not bounded below in u.
        ``objective="matched"``: ``phi(w) - y.w + phi*(y)`` at ``w = u + A' lam(u)``, the divergence of y from z, which
        is never negative. ``reduction``: ``"mean"`` or ``"sum"`` over the patterns, or ``"none"``.
        """
        if reduction not in _REDUCTIONS:
            raise InputError(f"reduction is {reduction!r}: expected 'mean', 'sum' or 'none'")
        if objective not in ("saddle", "matched"):
            raise InputError(f"objective is {objective!r}: expected 'saddle' or 'matched'")
        wide, goal, lines, lam, at, w, _, _, batch = self._solve(u, b, A, warm_start, True)
        target = _check_target(self.link_, y, u, batch)
        if objective == "saddle":
            value = Saddle.apply(wide, goal, lines, lam, at, self.link_) - (target * wide).sum(-1)  # eq: eq-saddle
        else:
            held = at != 0
            apart = held & (self.link_.at_ends(w.detach(), at) != target)
            value = self.link_.phi(torch.where(held, 0.0, w), at) - (torch.where(held, 0.0, target) * w).sum(-1)
            value = torch.where(apart.any(-1), math.inf, value)
        value = (value + self.link_.conjugate(target)).to(u.dtype).reshape(batch)
        return value if reduction == "none" else value.mean() if reduction == "mean" else value.sum()


class Saddle(torch.autograd.Function):
    """``min_lam phi(u + A' lam) - b.lam`` at its minimum: by the envelope theorem lam counts as a constant."""

    @staticmethod
    def forward(u, b, A, lam, at, link):
        """Return the value per pattern."""
        return link.phi(u + _dot(A.mT, lam), at) - (b * lam).sum(-1)

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keep the point; lam keeps its own graph, so that differentiating twice sees it move."""
        u, _, A, lam, at, ctx.link = inputs
        ctx.save_for_backward(u, A, lam, at)

    @staticmethod
    def backward(ctx, v):
        """Return z, -lam and lam z'."""
        u, A, lam, at = ctx.saved_tensors
        z = ctx.link.at_ends(u + _dot(A.mT, lam), at) * v.unsqueeze(-1)  # eq: eq-envelope
        gA = lam.mT @ z if A.dim() == 2 else lam.unsqueeze(-1) * z.unsqueeze(-2)
        return z, -lam * v.unsqueeze(-1), gA, None, None, None


def _sizes(groups: int | Sequence[int] | None, K: int) -> list[int]:
    """Return the sizes of a softmax's blocks."""
    if groups is None:
        return [K]
    if isinstance(groups, int) and not isinstance(groups, bool):
        if groups < 1 or K % groups:
            raise InputError(f"groups is {groups}: expected a size that divides the {K} columns of A")
        return [groups] * (K // groups)
    sizes = [int(g) for g in groups]
    if min(sizes, default=0) < 1 or sum(sizes) != K:
        raise InputError(f"groups is {sizes}: expected sizes of at least 1 that sum to {K}, the columns of A")
    return sizes


def _match(link: Link, u: Tensor, b: Tensor, A: Tensor) -> torch.Size:
    """Check u, b and A against each other; return the batch shape."""
    for name, t in (("u", u), ("b", b), ("A", A)):
        if not isinstance(t, Tensor):
            raise TypeError(f"{name} is a {type(t).__name__}: expected a torch tensor")
        if t.dtype not in WORKING:
            raise TypeError(f"{name} has dtype {t.dtype}: expected a floating point tensor; call .float() on it")
        if t.device != u.device:
            raise InputError(f"{name} is on {t.device} and u on {u.device}: expected one device; move it with .to()")
    m, K = A.shape[-2:]
    for name, t, size in (("u", u, K), ("b", b, m)):
        if not t.shape or t.shape[-1] != size:
            raise InputError(f"{name} has shape {tuple(t.shape)}: expected a last dimension of {size}")
        if truth(~torch.isfinite(t.sum())):
            raise_not_finite(name, t)
    try:
        return torch.broadcast_shapes(u.shape[:-1], b.shape[:-1], A.shape[:-2])
    except RuntimeError:
        raise InputError(
            f"u, b and A have batch shapes {tuple(u.shape[:-1])}, {tuple(b.shape[:-1])} and {tuple(A.shape[:-2])}: "
            "expected shapes that broadcast"
        ) from None


def _recall(warm_start: Any, batch: torch.Size, m: int, device: torch.device):
    """Return the memory, the index and the multipliers to start from, (B, m) in float64."""
    if warm_start is None:
        return None, None, None
    memory, index = warm_start if isinstance(warm_start, tuple) else (None, None)
    start = warm_start if memory is None else memory[index]
    if start.shape != (*batch, m):
        raise InputError(f"warm_start has shape {tuple(start.shape)}: expected {(*batch, m)}")
    return memory, index, start.detach().to(device, torch.float64).reshape(-1, m)


def _check_target(link: Link, y: Tensor, u: Tensor, batch: torch.Size) -> Tensor:
    if y.shape[-1:] != u.shape[-1:]:
        raise InputError(f"y has shape {tuple(y.shape)}: expected a last dimension of {u.shape[-1]}")
    link.check_target(y, torch.finfo(y.dtype).eps)
    return y.double().expand(*batch, y.shape[-1]).reshape(-1, y.shape[-1])


def _say(at: Tensor) -> str:
    """Say how many coordinates are held."""
    if not truth(at != 0):
        return ""
    held = (at != 0).sum(-1)
    return f"b forces {int(held.sum())} coordinate(s) in {int((held > 0).sum())} pattern(s); their gradient is 0"
