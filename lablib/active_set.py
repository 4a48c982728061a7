"""Which rows hold: the search behind ``polyhedron.py``, for a batch of problems

    min 1/2 |x - y|^2   with   low <= C x <= high,    the rows of C of norm 1.

The dual has one multiplier for each row: positive where ``high`` holds, negative where ``low`` does, else 0. With the
values t = C y of the rows at y,

    x = y - C'm,    C x = t - C C'm,

so the search needs C C' alone. If the rows that hold were known, S, a linear system would give their multipliers,
``(C_S C_S') m_S = t_S - end_S``. Three parts find S:

    guess         Douglas-Rachford steps, which share one factor
    iterate       drop the rows whose multiplier has the wrong sign, add those that are violated, until none changes
                  (the primal-dual active set method of Hintermueller, Ito and Kunisch 2002); nearly always enough
    multipliers   what that does not settle: the method of multipliers, whose subproblems Newton's method with an exact
                  line search solves; it cannot cycle and needs no independent rows

``settle`` then chooses the rows that tell the face, and factors them: the backward pass solves with that factor.

Rows come as an object with ``product(m)`` (C C'm), ``factor(side, ridge)``, ``face(...)`` and ``some(which)``:
:class:`DenseRows` here, ``BandedRows`` in ``banded.py``. A side is +1 where ``high`` holds, -1 where ``low`` does, 0
elsewhere. Shapes: values, ends, sides and multipliers (B, r); everything in float64. On the CPU a sample leaves the
batch when it is done; on other devices nothing is read inside a block of passes, and all samples stay.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .solution import looks_every

EPS = torch.finfo(torch.float64).eps
NOISE = 64 * EPS  # what rounding explains, relative to the size of a sample
NEAR = 1e-11  # a row nearer than this touches, a multiplier below it does not push; relative to the size of a sample
DEPENDENT = 1e-11  # a pivot of a Gram matrix below this: rows nearer than 3e-6 to the span of others belong to it
PART = 50_000  # numbers of Gram matrices gathered at once on the CPU
GUESSES = 14  # Douglas-Rachford steps
RELAXED = 1.8  # of a step: the longer ones need half as many
PASSES = 12  # of the iteration before the method of multipliers takes over
NEWTON = 300  # steps of the method of multipliers, all subproblems together
ROUNDS = 30  # subproblems of a sample before it is given up


def times(A: Tensor, x: Tensor) -> Tensor:
    """Multiply the matrices (..., p, n) with the vectors (..., n): one product where A has no batch.

    >>> import torch
    >>> times(torch.tensor([[1.0, 2.0]]), torch.ones(3, 2)).shape
    torch.Size([3, 1])
    """
    return torch.nn.functional.linear(x, A) if A.dim() == 2 else (A @ x.unsqueeze(-1)).squeeze(-1)


def back(A: Tensor, m: Tensor) -> Tensor:
    """Multiply the transposed matrices with the vectors (..., p).

    >>> import torch
    >>> back(torch.tensor([[1.0, 2.0]]), torch.ones(3, 1)).shape
    torch.Size([3, 2])
    """
    return m @ A if A.dim() == 2 else (m.unsqueeze(-2) @ A).squeeze(-2)


class DenseRows:
    """Rows C, shared (r, n) or per sample (B, r, n), with C C' kept where it is not too large."""

    def __init__(self, C: Tensor, K: Tensor | None, pull: Tensor | None = None):
        self.C, self.K, self.pull = C, K, pull

    def some(self, which: Tensor) -> DenseRows:
        """Return the rows of the samples ``which``."""
        if self.C.dim() == 2:
            return self
        return DenseRows(self.C[which], None if self.K is None else self.K[which])

    def product(self, m: Tensor) -> Tensor:
        """Return C C'm."""
        return times(self.K, m) if self.K is not None else times(self.C, back(self.C, m))

    def gram(self, index: Tensor, real: Tensor) -> Tensor:
        """Return C_S C_S' for the places S = ``index`` (B, k), with the identity in the padding."""
        if self.K is not None:
            r = self.K.shape[-1]
            row = index * r
            if self.K.dim() > 2:
                row = row + torch.arange(len(index), device=index.device).unsqueeze(-1) * (r * r)
            if self.K.numel() < 2**31:
                row, index = row.int(), index.int()
            places = row.unsqueeze(-1) + index.unsqueeze(-2)
            block = self.K.reshape(-1).index_select(0, places.reshape(-1)).reshape(places.shape)
        else:
            n = self.C.shape[-1]
            rows = self.C[index] if self.C.dim() == 2 else self.C.gather(1, index.unsqueeze(-1).expand(-1, -1, n))
            block = rows @ rows.mT
        block = block.mul_(real.unsqueeze(-1)).mul_(real.unsqueeze(-2))
        torch.diagonal(block, 0, -2, -1).add_(1 - real)
        return block

    def factor(self, side: Tensor, ridge: Tensor | None = None) -> DenseFactor:
        """Factor C_S C_S' + ridge for the rows with a side."""
        index, real = pack(side != 0)
        B, k = index.shape
        step = max(1, PART // (k * k + 1)) if index.device.type == "cpu" else B
        if step >= B or ridge is not None or self.K is None or self.K.dim() > 2:
            block = self.gram(index, real)
            if ridge is not None:
                torch.diagonal(block, 0, -2, -1).add_(ridge)
            lower, failed = torch.linalg.cholesky_ex(block)
            return DenseFactor(index, real, lower, failed != 0)
        # Part by part, so that what is gathered stays in the cache.
        lower, failed = real.new_empty(B, k, k).mT, torch.empty(B, dtype=torch.int32)
        for i in range(0, B, step):
            some = slice(i, i + step)
            torch.linalg.cholesky_ex(self.gram(index[some], real[some]), out=(lower[some], failed[some]))
        return DenseFactor(index, real, lower, failed != 0)

    def face(self, wanted: Tensor, m: Tensor, strong: Tensor, fixed: Tensor) -> DenseFactor:
        """Choose independent rows that span the ``wanted`` ones, beginning with the support of an extreme multiplier.

        ``m``: multipliers, of which the ``strong`` rows carry one; ``fixed`` rows may carry either sign.
        """
        # Places in the order of choice: strong rows first.
        rank = torch.where(wanted, torch.where(strong, 0, 1), 2)
        rank, index = rank.to(torch.uint8).sort(dim=-1, stable=True)
        k = int((rank < 2).sum(-1).max())
        index, real, strong = index[:, :k], (rank[:, :k] < 2).to(m.dtype), rank[:, :k] == 0
        block = self.gram(index, real)
        small, fixed = m.gather(-1, index) * real, fixed.gather(-1, index)
        chosen = _spanning(block, real, strong)
        tied = (strong & (chosen == 0)).any(-1)
        if k and bool(tied.any()):
            which = torch.nonzero(tied).squeeze(-1)
            excess = (strong & (chosen == 0)).sum(-1)[which]
            kept = _extreme(block[which], small[which], strong[which], fixed[which], excess)
            order = torch.where(kept, 0, 1).to(torch.uint8).sort(dim=-1, stable=True).indices
            index = index.index_copy(0, which, index[which].gather(-1, order))
            # What an extreme multiplier dropped may still be active: it comes after the rows that carry one.
            real = real.index_copy(0, which, real[which].gather(-1, order))
            strong = strong.index_copy(0, which, kept.gather(-1, order))
            block = self.gram(index, real)
            chosen = _spanning(block, real, strong)
        return DenseFactor(index, chosen, *_restricted(block, chosen))


def _restricted(block: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Factor the chosen rows of Gram matrices, with the identity elsewhere; return also where that failed."""
    block = block * chosen.unsqueeze(-1) * chosen.unsqueeze(-2)
    torch.diagonal(block, 0, -2, -1).add_(1 - chosen)
    lower, failed = torch.linalg.cholesky_ex(block)
    return lower, failed != 0


def _spanning(block: Tensor, real: Tensor, strong: Tensor) -> Tensor:
    """Return 1 for rows that are independent and span all: in order, each that is not in the span of those before it.

    One Cholesky with a small ridge tells them; where rows are so placed that it cannot, pivots are chosen one by one.
    """
    ridged = block.clone()
    torch.diagonal(ridged, 0, -2, -1).add_(DEPENDENT / 100)
    pivots = torch.diagonal(torch.linalg.cholesky_ex(ridged)[0], 0, -2, -1).square()
    chosen = real * (pivots > DEPENDENT)
    lower, failed = _restricted(block, chosen)
    if not lower.shape[-1]:
        return chosen
    poor = failed | ~(torch.diagonal(lower, 0, -2, -1).amin(-1).square() > DEPENDENT / 10)
    if bool(poor.any()):
        which = torch.nonzero(poor).squeeze(-1)
        chosen = chosen.index_copy(0, which, _pivoted(block[which], real[which], strong[which]))
    return chosen


def _pivoted(rest: Tensor, real: Tensor, strong: Tensor) -> Tensor:
    """Return 1 for independent rows that span all: strong ones first, then the longest remainder."""
    chosen = torch.zeros_like(real)
    for _ in range(rest.shape[-1]):
        left = torch.diagonal(rest, 0, -2, -1) * real * (1 - chosen)
        pivot = (left + (strong & (left > DEPENDENT))).argmax(-1, keepdim=True)
        best = left.gather(-1, pivot)
        good = best > DEPENDENT
        if not bool(good.any()):
            break
        column = rest.gather(-1, pivot.unsqueeze(-2).expand(*rest.shape[:-1], 1)).squeeze(-1)
        column = column * (good / best.clamp(min=DEPENDENT).sqrt())
        rest = rest - column.unsqueeze(-1) * column.unsqueeze(-2)
        chosen = chosen.scatter(-1, pivot, 1.0) * good + chosen * ~good
    return chosen


def _extreme(block: Tensor, m: Tensor, strong: Tensor, fixed: Tensor, excess: Tensor) -> Tensor:
    """Return which rows carry an extreme multiplier: move m along a null vector until one is 0, and again.

    ``excess`` (B,): how many of the strong rows are too many. Each round drops one of them from each sample. The null
    vector is what is left of some vector after three solves with a small ridge, which damp all that is not null.
    """
    k, ridge = block.shape[-1], DEPENDENT / 10
    some = torch.sin(1 + 12.9898 * torch.arange(k, dtype=block.dtype, device=block.device))
    for turn in range(int(excess.max())):
        inside = strong.to(block.dtype)
        gram = block * inside.unsqueeze(-1) * inside.unsqueeze(-2)
        torch.diagonal(gram, 0, -2, -1).add_(1 - inside + ridge)
        lower = torch.linalg.cholesky_ex(gram)[0]
        z = inside * some
        for _ in range(3):
            z = inside * torch.cholesky_solve(z.unsqueeze(-1), lower).squeeze(-1)
            z = z / z.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(z.dtype).tiny)
        z = torch.where(z.abs() > 1e-7, z, 0.0)
        growth = torch.where(fixed, 0.0, z * m.sign())  # of |m| along z
        turned = torch.where(growth.amin(-1, keepdim=True) < 0, 1.0, -1.0)
        z, growth = turned * z, turned * growth
        step, first = torch.where(growth < 0, m.abs() / -growth, math.inf).min(-1, keepdim=True)
        # Fixed rows alone depend on each other: any of them will do.
        free = step.isinf()
        first = torch.where(free, z.abs().argmax(-1, keepdim=True), first)
        going = (excess > turn).unsqueeze(-1)
        drop = torch.zeros_like(strong).scatter_(-1, first, True) & going
        m = torch.where(going, m + torch.where(free, 0.0, step) * z, m).masked_fill(drop, 0)
        strong = strong & ~drop
    return strong


class DenseFactor(NamedTuple):
    """Places of rows (B, k), 1 where they are real (B, k), their Cholesky factor (B, k, k), where that failed (B,)."""

    index: Tensor
    real: Tensor
    lower: Tensor
    failed: Tensor

    def solve(self, r: Tensor) -> Tensor:
        """Return the multipliers (B, r) whose rows on the face have the values r (B, r), 0 elsewhere."""
        part = self.real * r.gather(-1, self.index)
        found = torch.cholesky_solve(part.unsqueeze(-1), self.lower).squeeze(-1)
        return torch.zeros_like(r).scatter_add_(-1, self.index, found)  # 0 in the padding, as its right side was

    def pivot(self) -> Tensor:
        """Return the smallest pivot of each sample."""
        pivots = torch.diagonal(self.lower, 0, -2, -1)
        return pivots.amin(-1).square() if pivots.shape[-1] else pivots.new_ones(len(pivots))

    def mask(self, like: Tensor) -> Tensor:
        """Return 1 where a row is on the face, (B, r)."""
        return torch.zeros_like(like).scatter_add_(-1, self.index, self.real)

    def some(self, which: Tensor) -> DenseFactor:
        """Return the factors of the samples ``which``."""
        return DenseFactor(*(t[which] for t in self))

    def put(self, which: Tensor, other: DenseFactor) -> DenseFactor:
        """Return this with the samples ``which`` replaced, padded where they need more places."""
        own, new = self.index.shape[-1], other.index.shape[-1]
        index, real, lower = self.index, self.real, self.lower
        if new > own:
            index, real = (torch.nn.functional.pad(e, (0, new - own)) for e in (index, real))
            lower = torch.nn.functional.pad(lower, (0, new - own, 0, new - own))
            torch.diagonal(lower, 0, -2, -1)[:, own:] = 1
        else:
            index, real, lower = index.clone(), real.clone(), lower.clone()
            real[which, new:], lower[which, new:] = 0, 0
            torch.diagonal(lower, 0, -2, -1)[which, new:] = 1
        index[which, :new], real[which, :new], lower[which, :new, :new] = other.index, other.real, other.lower
        return DenseFactor(index, real, lower, self.failed.index_copy(0, which, other.failed))


def pack(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places of the true entries (..., k), and 1 where they are real; off the CPU k is the whole row.

    >>> import torch
    >>> pack(torch.tensor([[True, False, True], [False, False, True]]))
    (tensor([[0, 2],
            [2, 0]]), tensor([[1., 1.],
            [1., 0.]], dtype=torch.float64))
    """
    k = mask.shape[-1]
    if mask.device.type == "cpu":
        k = int(mask.sum(-1).max()) if mask.numel() else 0
    real, index = mask.to(torch.uint8).sort(dim=-1, descending=True, stable=True)
    return index[..., :k], real[..., :k].double()


class Problem(NamedTuple):
    """A batch: the rows, their values t at the points to be projected, their ends, the size of each sample (B, 1)."""

    rows: DenseRows
    t: Tensor
    low: Tensor
    high: Tensor
    size: Tensor

    def some(self, which: Tensor) -> Problem:
        """Return the problems ``which``."""
        return Problem(self.rows.some(which), *(e[which] for e in self[1:]))

    def excess(self, value: Tensor, side: Tensor) -> Tensor:
        """Return by how much the rows with a side exceed their end; 0 for the others."""
        end = torch.where(side > 0, self.high, self.low)
        return torch.where(side == 0, 0.0, value - end)

    def over(self, value: Tensor) -> Tensor:
        """Return value - clip(value, low, high)."""
        return value - value.clamp(self.low, self.high)


class Face(NamedTuple):
    """The rows that hold: their sides and multipliers (B, r), and the factor of their Gram matrix."""

    side: Tensor
    m: Tensor
    factor: DenseFactor

    def some(self, which: Tensor) -> Face:
        """Return the faces of the samples ``which``."""
        return Face(self.side[which], self.m[which], self.factor.some(which))

    def put(self, which: Tensor, other: Face) -> Face:
        """Return this with the samples ``which`` replaced."""
        side, m = (old.index_copy(0, which, new) for old, new in ((self.side, other.side), (self.m, other.m)))
        return Face(side, m, self.factor.put(which, other.factor))


def search(problem: Problem, max_steps: int | None, element: str) -> tuple[Face, int]:
    """Return the face of every sample and the passes used."""
    t, low, high = problem.t, problem.low, problem.high
    if not t.numel():
        return Face(t, t, problem.rows.factor(t)), 0
    side = (t > high).double() - (t < low).double() if problem.rows.pull is None else guess(problem)
    if max_steps is not None:
        return with_care(problem, torch.where(low == high, 1.0, side), max_steps, element)
    face, clear = attempt(problem, side)
    if bool(clear.all()):
        return face, 1
    rest = torch.nonzero(~clear).squeeze(-1)
    part = problem.some(rest)
    again, steps = with_care(part, torch.where(part.low == part.high, 1.0, face.side[rest]), math.inf, element)
    return face.put(rest, again), 1 + steps


def attempt(problem: Problem, side: Tensor) -> tuple[Face, Tensor]:
    """Solve for the rows with a side; return the face, and for which samples it is right beyond doubt.

    That is where each of these rows pushes, no other row is met or touched, and the rows are independent. Then nothing
    has to be chosen. Rows with low = high may pull: they are left to the search with care.
    """
    factor = problem.rows.factor(side)
    free = side == 0
    end = torch.where(side > 0, problem.high, problem.low)
    m = factor.solve((problem.t - end).masked_fill_(free, 0))
    value = problem.t - problem.rows.product(m)
    room = torch.minimum(problem.high - value, value - problem.low)
    least = torch.where(free, room, m * side).amin(-1, keepdim=True)
    clear = (least > NEAR * problem.size).squeeze(-1) & (factor.pivot() > 10 * DEPENDENT) & ~factor.failed
    return Face(side, m, factor), clear


def with_care(problem: Problem, side: Tensor, limit: float, element: str) -> tuple[Face, int]:
    """Search from the given sides until nothing is left to doubt: rows that touch, rows that depend on each other."""
    face, left, steps = iterate(problem, side, min(PASSES, limit))
    rough = torch.zeros(len(side), dtype=torch.bool, device=side.device)
    if left is not None and steps < limit:
        part = problem.some(left)
        m, used = multipliers(part, limit - steps)
        again, rest, more = iterate(part, m.sign(), 4)
        steps += used + more
        if rest is not None:
            again = again._replace(m=again.m.index_copy(0, rest, m[rest]))
            rough = rough.index_fill(0, left[rest], True)
        face = face.put(left, again)
    return settle(problem, face, rough, element), steps


def guess(problem: Problem) -> Tensor:
    """Return the sides of the rows after a few Douglas-Rachford steps, which share one factor.

    With ``P = K (1 + K)^-1`` and z = clip(q), a step leads from q to ``q + RELAXED (t - P t + P (2 z - q) - z)``. For
    p = q - t, and z less t too, that is ``p' = (2 z - p) M + (1 - RELAXED / 2) p`` with M as of :func:`pull`. In
    float32, as a guess needs no more.
    """
    low, high = (problem.low - problem.t).float(), (problem.high - problem.t).float()
    p = torch.zeros_like(low)
    for _ in range(GUESSES):
        p = torch.addmm(p, p.clamp(low, high).mul_(2).sub_(p), problem.rows.pull, beta=1 - RELAXED / 2)
    return (p > high).double() - (p < low).double()


def pull(K: Tensor) -> Tensor:
    """Return the matrix of :func:`guess`, made once for a set.

    >>> import torch
    >>> pull(torch.eye(2, dtype=torch.float64))
    tensor([[0., 0.],
            [0., 0.]])
    """
    one = torch.eye(K.shape[-1], dtype=K.dtype, device=K.device)
    return (RELAXED / 2 * one - RELAXED * torch.linalg.inv(one + K)).float()


def iterate(problem: Problem, side: Tensor, passes: int) -> tuple[Face, Tensor | None, int]:
    """Solve for the rows with a side, drop those of the wrong sign, add those violated, until none changes.

    Returns the face as far as it came, the samples (or None) that are not settled, and the passes.
    """
    part, number, face, stuck = problem, None, None, []
    fixed = problem.low == problem.high
    stride = looks_every(side.device)
    step = 0
    while True:
        factor = part.rows.factor(side)
        end = torch.where(side > 0, part.high, part.low)
        free = side == 0
        m = factor.solve(torch.where(free, 0.0, part.t - end))
        value = part.t - part.rows.product(m)
        tiny = NOISE * part.size
        over = part.over(value)
        new = torch.where(
            free,
            torch.where(over.abs() > tiny, over.sign(), 0.0),
            torch.where((m * side > -tiny) | fixed, side, 0.0),
        )
        error = torch.where(free, 0.0, value - end).abs().amax(-1, keepdim=True)
        sound = ((error <= 1e-9 * part.size) & ~factor.failed.unsqueeze(-1)).squeeze(-1)
        moving = (new != side).any(-1)
        step += 1
        last = step >= passes
        if step % stride and not last:
            side = torch.where((moving & sound).unsqueeze(-1), new, side)
            continue
        on = moving & sound
        goes = not last and bool(on.any())
        if goes and bool(on.all()):
            side = new
            continue
        found = Face(side, m, factor)
        face = found if face is None else face.put(number, found)
        left = torch.nonzero(~sound if goes else ~sound | on).squeeze(-1)
        stuck.append(left if number is None else number[left])
        if not goes:
            break
        keep = torch.nonzero(on).squeeze(-1)
        number = keep if number is None else number[keep]
        part, fixed, side = part.some(keep), fixed[keep], new[keep]
    left = torch.cat(stuck)
    return face, left if len(left) else None, step


def multipliers(problem: Problem, limit: float) -> tuple[Tensor, int]:
    """Return multipliers by the method of multipliers, and the passes; needs no independent rows.

    The subproblem ``min_x 1/2 |x - y|^2 + s/2 dist(C x + u / s, [low, high])^2`` is piecewise quadratic, and Newton's
    method with an exact line search ends on it. Then u becomes its multipliers and s ten times itself. Each sample goes
    at its own pace, and is given up when it stands still at the largest s: its set is empty, or float64 too short.
    """
    part = problem
    number = torch.arange(len(part.t), device=part.t.device)
    m = torch.zeros_like(part.t)
    out, u, s, rounds = m.clone(), m, torch.full_like(part.size, 10.0), torch.zeros_like(part.size)
    before = torch.full_like(part.size, math.inf)
    held, still = torch.full_like(m, math.nan), torch.zeros_like(part.size, dtype=torch.bool)
    stride = looks_every(m.device)
    used = 0
    while True:
        value = part.t - part.rows.product(m)
        solved = still | (part.over(value + u / s).sign() == held).all(-1, keepdim=True)
        error = part.over(value).abs().amax(-1, keepdim=True)
        done = solved & ((error <= 1e-13 * part.size) | (rounds >= ROUNDS))
        u, s = torch.where(solved & ~done, m, u), torch.where(solved & ~done, (10 * s).clamp(max=1e8), s)
        # Where s is at its largest and a round gains next to nothing, few are left.
        rounds = rounds + solved * (1 + 5.0 * ((s == 1e8) & (error > 0.5 * before)))
        before = torch.where(solved, error, before)
        last = used >= min(limit, NEWTON)
        if used % stride == 0 or last:
            out[number] = m
            keep = torch.nonzero(~done.squeeze(-1)).squeeze(-1)
            if last or not len(keep):
                return out, used
            if len(keep) < len(number):
                part, number = part.some(keep), number[keep]
                m, u, s, rounds, before, value, done = (e[keep] for e in (m, u, s, rounds, before, value, done))
        q = value + u / s
        over = part.over(q)
        held = over.sign()
        factor = part.rows.factor(held, 1 / s)
        new = factor.solve(part.excess(part.t, held) + torch.where(held != 0, u / s, 0.0))
        d = new - m
        speed = part.rows.product(d)
        still = speed.abs().amax(-1, keepdim=True) <= NOISE * part.size  # x stays where it is
        step = line_search(part, m, d, q, speed, s)
        held = torch.where(step == 1, held, math.nan)
        m = torch.where(done, m, torch.where(step == 1, new, m + step * d))
        used += 1


def line_search(part: Problem, m: Tensor, d: Tensor, q: Tensor, speed: Tensor, s: Tensor) -> Tensor:
    """Return the step in [0, 1] where the subproblem is least along d: the slope rises, so halving finds its root."""

    def slope(a):
        return ((m + a * d) * speed - s * part.over(q - a * speed) * speed).sum(-1, keepdim=True)

    one = torch.ones_like(part.size)
    whole = slope(one) <= 1e-12 * (s * speed * speed).sum(-1, keepdim=True)
    if m.device.type == "cpu" and bool(whole.all()):
        return one
    low, high = torch.zeros_like(one), one
    for _ in range(50):
        middle = (low + high) / 2
        falls = slope(middle) <= 0
        low, high = torch.where(falls, middle, low), torch.where(falls, high, middle)
    return torch.where(whole, one, high)


def settle(problem: Problem, face: Face, rough: Tensor, element: str) -> Face:
    """Choose which rows tell the face: take care where rows touch without a multiplier, or depend on each other."""
    value = problem.t - problem.rows.product(face.m)
    width = NEAR * problem.size
    fixed = problem.low == problem.high
    strong = (face.m.abs() > width) | fixed
    wanted = strong
    if element == "lowest":
        wanted = strong | (value >= problem.high - width) | (value <= problem.low + width)
    care = rough | ((face.side != 0) != wanted).any(-1) | face.factor.failed | (face.factor.pivot() < 10 * DEPENDENT)
    if not bool(care.any()):
        return face
    which = torch.nonzero(care).squeeze(-1)
    part, m, value = problem.some(which), face.m[which], value[which]
    factor = part.rows.face(wanted[which], m, strong[which], fixed[which])
    near = torch.where((part.high - value).abs() <= (value - part.low).abs(), 1.0, -1.0).to(m.dtype)
    side = near * factor.mask(m)
    return face.put(which, Face(side, m, factor))
