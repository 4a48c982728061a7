"""Minimise over a set by calling its linear oracle: Frank-Wolfe rollouts, and the layer built on them.

Frank and Wolfe's method solves ``min_{x in s} f(x)`` with the oracle ``lmo`` alone. At x it asks for the vertex ``s =
argmin_{v in s} <grad f(x), v>`` and steps towards it, so that every iterate is a convex combination of points of the
set. The oracle also says how far there is to go: the gap ``<grad f(x), x - s>`` is never less than ``f(x) - min f``.

Two variants also step away from vertices that x was made of (``away``, ``pairwise``): on a polytope with a strongly
convex f they converge linearly. ``softmax`` replaces the vertex by the mean of all vertices under a softmax, so that
the rollout can be differentiated step by step; this is the relaxation of DFWLayer. And where f is a quadratic and the
face of the solution is known, one linear system gives the point and its derivative (``exact``).

Inside, a point is a row: leading dimensions are batch dimensions and the last one is n; matrices are flattened.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .projection import (
    WORKING,
    ConvexSet,
    _data_gradient,
    _match,
    check_search,
    in_a_transform,
    raise_not_finite,
    unchecked,
)
from .sets import L1Ball, Simplex
from .solution import InputError, SolveError, SolveInfo, first_index

__all__ = ["FrankWolfeLayer", "frank_wolfe"]

# Per variant: steps at most, and the gap that ends the search, relative to the size of the terms it is a difference of,
# in float64 and in float32. Vanilla steps converge like 1/k. The softmax has a rule of its own: the relative change of
# the objective, as published.
DEFAULTS = {
    "vanilla": (20_000, 1e-3, 1e-3),
    "away": (20_000, 1e-8, 1e-5),
    "pairwise": (20_000, 1e-8, 1e-5),
    "softmax": (2_000, 1e-4, 1e-4),
    "exact": (20_000, 1e-12, 1e-5),
}
SETTLED = 1e-9  # a projected gradient step that moves less, relative to the point, moves by rounding: float64
SOFT = "the softmax stops on the objective's change; how far from the minimum it is, the gap tells"
SHARE = 0.02  # a gap of a larger share of the linear term's size certifies nothing, whatever the default tolerance
FIRST, ON_FACE = 3, 2  # projected steps before the first Newton rounds, and steps on the face before each of these
FRESH = 64  # after so many steps point and gradient are computed anew, so that rounding does not add up
PART = 1 << 17  # numbers of a matrix that are cast together: they stay in the cache
LOOK = 16  # off the CPU the host looks after so many steps whether all rows are done


def frank_wolfe(
    grad: Callable[[Tensor], Tensor],
    s: ConvexSet,
    x0: Tensor | None = None,
    *,
    variant: str = "pairwise",
    max_steps: int | None = None,
    tol: float | None = None,
    line_search: str | None = None,
    smoothness: float | Tensor | None = None,
    temperature: float = 1.0,
    halve_every: int | None = 30,
    progress: bool | Callable[[int, Tensor], Any] = True,
    return_info: bool = True,
    strict: bool = True,
):
    """Return ``argmin_{x in s} f(x)`` for a convex, smooth f of which only the gradient is given, and its SolveInfo.

    Method: Frank-Wolfe steps, which use the set's linear oracle alone.

    ``grad``: maps points (..., n) (for a set of matrices (..., n, n)) to the gradients of f there; called on the full
    batch. ``s``: any bounded set with an ``lmo``. ``x0``: a point of the set, default a vertex; its shape is that of
    the batch. ``variant``: ``"vanilla"`` steps towards the oracle's vertex; ``"away"`` steps away from the worst vertex
    in use where that promises more; ``"pairwise"`` moves weight from the worst vertex to the best; ``"softmax"`` steps
    towards the mean of the vertices of a Simplex or L1Ball under a softmax, whose ``temperature`` is halved every
    ``halve_every`` steps (None: never). ``line_search``: ``"exact"`` finds the minimum along the step, ``"short"`` uses
    ``<-grad, d> / (smoothness |d|^2)``, ``"open"`` uses 2 / (k + 2) (vanilla only); default ``"exact"``, and
    ``"short"`` for the softmax. ``smoothness``: a Lipschitz constant of grad, a number or one per row (...).

    Stops where the gap ``max_{v in s} <grad f(x), x - v>``, which bounds ``f(x) - min f``, is at most ``tol``: in units
    of f. Default: the range of <grad f, .> over the set at the start, times 1e-8 in float64 and 1e-5 in float32, or
    1e-3 with vanilla steps, which the variants can reach. It is a stop, not a promise: read ``info.gap``.
    The softmax stops as published, where the objective changes by less than ``tol`` (default 1e-4) of what it changed
    since x0, and its SolveInfo still holds the exact oracle's gap. Rows that are done are frozen. ``max_steps``: cap.

    ``progress``: True writes a line to stderr on solves longer than five seconds; a callable gets (step, gap) at each
    look instead; False is silent. Ctrl-C loses nothing: with ``strict=False`` the best iterate is returned, else the
    KeyboardInterrupt carries it as ``.x`` and ``.info``. ``return_info=False``: return x alone. ``strict=False``: never
    raise for a missed tolerance. Not differentiable; use FrankWolfeLayer. On a CUDA device the host reads a number
    every 16 steps, and with ``"exact"`` at every step.

    Raises InputError for an unbounded set, a start outside the set, NaN; SolveError naming the batch index, gap and
    steps where the tolerance is missed.

    Source: Frank and Wolfe 1956; Jaggi 2013; Lacoste-Julien and Jaggi 2015.

    >>> import torch, lablib
    >>> target = torch.tensor([0.9, 0.6, -1.0])
    >>> x, info = frank_wolfe(lambda x: x - target, lablib.Simplex(3))
    >>> [round(v, 4) for v in x.tolist()], bool(info.converged)
    ([0.65, 0.35, 0.0], True)
    """
    if not callable(grad):
        raise TypeError(f"grad is a {type(grad).__name__}: expected a function from points to gradients")
    if not isinstance(s, ConvexSet):
        raise TypeError(f"s is a {type(s).__name__}: expected a set, such as lablib.Simplex(3)")
    if variant == "exact":
        raise InputError("variant is 'exact', which needs P and q: use FrankWolfeLayer(s, variant='exact')(P, q)")
    rule = _Rule(s, variant, max_steps, tol, line_search, smoothness, temperature, halve_every, progress)
    with torch.no_grad():
        s, x, shape = _start(grad, s, x0)
        rule.fit(s, x)
        problem = _BlackBox(grad, shape)
        x, info = _Rollout(problem, s, x, rule).run()
    x = x.reshape(*x.shape[:-1], *shape)
    return _hand_back(x, info, rule, return_info, strict)


class FrankWolfeLayer(nn.Module):
    """The layer ``(P, q) -> argmin_{x in s} 1/2 x'Px + q'x``.

    ``variant``: ``"auto"`` is ``"exact"`` where the set has an exact path (Box, Simplex, L1Ball, BoxBudget), else
    ``"pairwise"``. ``"exact"`` takes projected steps until the face shows, then solves the linear system of
    that face and checks the multipliers. ``"vanilla"``, ``"away"``, ``"pairwise"``, ``"softmax"``: as in
    :func:`frank_wolfe`, with the exact line search of the quadratic.

    ``backward``: ``"implicit"`` differentiates the solution on its face, with the one factor of P there: gradients to
    q, P and the set's tensor data. It supposes that x is the solution: of a softmax that stopped far from it, as its
    gap tells, it is the derivative of nothing. ``"unrolled"`` differentiates the steps one by one, as published for the
    softmax; it is unstable as the temperature falls.

    ``max_steps``, ``tol``, ``smoothness``, ``temperature``, ``halve_every``, ``progress``: as in :func:`frank_wolfe`;
    ``smoothness`` defaults to the largest eigenvalue of P. ``return_info``: return ``(x, SolveInfo)``.
    ``strict=False``: return ``(best iterate, SolveInfo)`` and never raise for a missed tolerance.

    ``forward(P, q, **data)``: P of shape (..., n, n), symmetric and positive semidefinite; q of shape (..., n); data as
    for ``s.with_data``. Half precision is computed in float32. The gradient to P is symmetric. The checks and the
    factor of a P without batch dimensions are kept and used again while P's contents stay the same. Samples that are
    done are dropped from the batch, for which the host reads a number every 16 steps (on the CPU at every step).

    Raises InputError for a P that is not symmetric or not positive semidefinite, NaN, an unbounded set (``"exact"``:
    one along which f falls without end); SolveError naming the sample where the tolerance is missed, and in the
    backward where P is singular on the face of the solution, as there is no derivative then. Twice differentiable with
    ``"implicit"``; under ``torch.compile`` the layer is a graph break.

    >>> import torch, lablib
    >>> layer = FrankWolfeLayer(lablib.Simplex(3))
    >>> q = torch.tensor([-1.5, -1.0, 0.0], requires_grad=True)
    >>> x = layer(2 * torch.eye(3), q)
    >>> x.detach(), torch.autograd.grad(x[0], q)[0][:2]
    (tensor([0.6250, 0.3750, 0.0000]), tensor([-0.2500,  0.2500]))
    """

    def __init__(
        self,
        s: ConvexSet,
        *,
        variant: str = "auto",
        backward: str = "implicit",
        max_steps: int | None = None,
        tol: float | None = None,
        smoothness: float | Tensor | None = None,
        temperature: float = 1.0,
        halve_every: int | None = 30,
        progress: bool | Callable[[int, Tensor], Any] = True,
        return_info: bool = False,
        strict: bool = True,
    ):
        super().__init__()
        if not isinstance(s, ConvexSet):
            raise TypeError(f"s is a {type(s).__name__}: expected a set, such as lablib.Simplex(3)")
        if s.event_dims != 1:
            raise InputError(f"s is a {type(s).__name__}, a set of matrices: use frank_wolfe(grad, s)")
        if variant == "auto":
            variant = "exact" if type(s).frame is not ConvexSet.frame else "pairwise"
        if variant == "exact" and type(s).frame is ConvexSet.frame:
            raise InputError(
                f"variant is 'exact' on a {type(s).__name__}: expected Box, Simplex, L1Ball or BoxBudget; "
                "use 'pairwise', which needs no more than lmo"
            )
        if backward not in ("implicit", "unrolled"):
            raise InputError(f"backward is {backward!r}: expected 'implicit' or 'unrolled'")
        if backward == "unrolled" and variant == "exact":
            raise InputError(
                "backward is 'unrolled' with variant 'exact', which has no steps to unroll: use 'implicit'"
            )
        self.variant, self.backward = variant, backward
        self.return_info, self.strict = return_info, strict
        self._rule = _Rule(s, variant, max_steps, tol, None, smoothness, temperature, halve_every, progress)
        for name, tensor in s.data().items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)
        self._template = s.bind([None] * len(s.names))
        self._kept: list[_Known] = []

    def __getstate__(self):
        return {**self.__dict__, "_kept": []}

    @property
    def set(self) -> ConvexSet:
        """The set with the module's present tensors."""
        return self._template.bind([getattr(self, name) for name in self._template.names])

    def forward(self, P: Tensor, q: Tensor, **data: Any):
        """Minimise; P (..., n, n), q (..., n)."""
        if torch.compiler.is_compiling():  # asked first, since torch.compiler.disable loads the whole compiler
            return torch.compiler.disable(self._minimise)(P, q, **data)
        return self._minimise(P, q, **data)

    def _minimise(self, P: Tensor, q: Tensor, **data: Any):
        """Minimise outside of a compiled graph: the number of steps depends on the values."""
        s = self.set.with_data(**data) if data else self.set
        original = q.dtype if isinstance(q, Tensor) else None
        P, q, s = _check_quadratic(P, q, s)
        rule = self._rule.copy()
        tensors = [getattr(s, name) for name in s.names]
        call = _Call(s, rule, self._kept)
        implicit = self.backward == "implicit"
        apply = _Minimiser.apply if in_a_transform() else _apply_directly
        x = apply(P, q, call, *tensors)[0] if implicit else _solve(P, q, s, rule, call)
        x = x if x.dtype is original else x.to(original)
        if in_a_transform():
            return x
        return _hand_back(x, call.info, rule, self.return_info, self.strict)

    def extra_repr(self) -> str:
        """Show the set, the variant and the backward."""
        return f"{self.set!r}, variant={self.variant!r}, backward={self.backward!r}"


# -- the arguments
# -------------------------------------------------------------------------------------------------------


class _Rule:
    """How to step and when to stop: the checked arguments of a rollout."""

    def __init__(self, s, variant, max_steps, tol, line_search, smoothness, temperature, halve_every, progress):
        if variant not in DEFAULTS:
            raise InputError(f"variant is {variant!r}: expected one of {', '.join(map(repr, DEFAULTS))}")
        if variant == "softmax" and not isinstance(s, (Simplex, L1Ball)):
            raise InputError(
                f"variant is 'softmax' on a {type(s).__name__}: expected a Simplex or an L1Ball, whose vertices the "
                "softmax weighs; use 'pairwise'"
            )
        searches = ("exact", "short", "open")
        if line_search is None:
            line_search = "short" if variant == "softmax" else "exact"
        if line_search not in searches:
            raise InputError(f"line_search is {line_search!r}: expected one of {', '.join(map(repr, searches))}")
        if line_search == "open" and variant != "vanilla":
            raise InputError(f"line_search is 'open' with variant {variant!r}: expected 'vanilla', whose steps it fits")
        check_search(tol, max_steps)
        _check_positive("temperature", temperature)
        if smoothness is not None:
            _check_positive("smoothness", smoothness)
        if halve_every is not None and (
            isinstance(halve_every, bool) or not isinstance(halve_every, int) or halve_every < 1
        ):
            raise InputError(f"halve_every is {halve_every!r}: expected a positive integer, or None for never")
        if not callable(progress) and not isinstance(progress, bool):
            raise TypeError(f"progress is a {type(progress).__name__}: expected True, False or a function")
        self.variant, self.line_search = variant, line_search
        self.tol, self.max_steps = tol, DEFAULTS[variant][0] if max_steps is None else max_steps
        self.smoothness, self.temperature, self.halve_every = smoothness, float(temperature), halve_every
        self.progress = progress
        self.interrupted = False

    def copy(self) -> _Rule:
        other = object.__new__(_Rule)
        other.__dict__.update(self.__dict__)
        return other

    def fit(self, s: ConvexSet, x: Tensor) -> None:
        """Check what depends on the data, and give smoothness the batch of x."""
        if self.line_search == "short" and self.smoothness is None:
            raise InputError(
                "smoothness is None with line_search 'short': give a Lipschitz constant of grad, such as the largest "
                "eigenvalue of the Hessian"
            )
        if self.smoothness is not None:
            given = torch.as_tensor(self.smoothness, dtype=x.dtype, device=x.device)
            try:
                self.smoothness = given.expand(x.shape[:-1])
            except RuntimeError:
                raise InputError(
                    f"smoothness has shape {tuple(given.shape)}: expected one that broadcasts to the batch "
                    f"{tuple(x.shape[:-1])}"
                ) from None

    def relative(self, dtype: torch.dtype) -> float:
        """Return the default tolerance, relative to the size of the gap's terms."""
        return DEFAULTS[self.variant][1 if dtype is torch.float64 else 2]


def _check_positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, Tensor)):
        raise TypeError(f"{name} is a {type(value).__name__}: expected a number")
    if not isinstance(value, Tensor) and 0 < value < math.inf:
        return
    t = torch.as_tensor(value)
    bad = ~((t > 0) & t.isfinite())
    if bool(bad.any()):
        index = first_index(bad)
        raise InputError(f"{name}{list(index) or ''} is {t[index].item():.6g}: expected a positive number", index=index)


def _start(grad, s: ConvexSet, x0: Tensor | None) -> tuple[ConvexSet, Tensor, tuple[int, ...]]:
    """Return the set, the start as rows and the shape of one point."""
    if x0 is None:
        like = next(iter(s.data().values()), torch.empty(0))
        if s.dim is None:
            raise InputError(f"{s!r} fits any dimension: give x0, a bound as a tensor, or dim=n")
        batch = torch.broadcast_shapes(*(t.shape[: t.dim() - s.ranks[name]] for name, t in s.data().items()))
        dtype = WORKING[like.dtype]
        point = (s.dim,) * s.event_dims
        zero = torch.zeros((*batch, *point), dtype=dtype, device=like.device)
        x = s.lmo(zero)
        g = _call(grad, x)
        if g.shape != x.shape:  # grad knows of a batch that the set does not
            if g.shape[g.dim() - s.event_dims :] != point:
                _call(grad, x, expected=tuple(x.shape))
            x = x.expand(g.shape)
    else:
        if not isinstance(x0, Tensor):
            raise TypeError(f"x0 is a {type(x0).__name__}: expected a torch tensor")
        raise_not_finite("x0", x0)
        outside = ~s.contains(x0)
        if bool(outside.any()):
            index = first_index(outside)
            raise InputError(
                f"x0{list(index) or ''} is outside {type(s).__name__}, by {float(s.violation(x0)[index]):.1e}: "
                "expected a point of the set; project it first",
                index=index,
            )
        x = x0.detach().to(WORKING[x0.dtype])
    if s.event_dims == 1:
        s, x = _match(s, x, "x0")
    shape = tuple(x.shape[x.dim() - s.event_dims :])
    return s, x.reshape(*x.shape[: x.dim() - len(shape)], -1), shape


def _call(grad, x: Tensor, expected: tuple[int, ...] | None = None) -> Tensor:
    """Call grad, and check what it returns."""
    g = grad(x)
    if not isinstance(g, Tensor):
        raise TypeError(f"grad returned a {type(g).__name__}: expected a torch tensor")
    if expected is not None and tuple(g.shape) != expected:
        raise InputError(f"grad returned shape {tuple(g.shape)}: expected that of its input, {expected}")
    return g.detach()


def _check_quadratic(P: Tensor, q: Tensor, s: ConvexSet) -> tuple[Tensor, Tensor, ConvexSet]:
    """Check types, shapes, values and symmetry; return P and q in the working dtype, q with the full batch."""
    for name, t, least in (("P", P, 2), ("q", q, 1)):
        if not isinstance(t, Tensor):
            raise TypeError(f"{name} is a {type(t).__name__}: expected a torch tensor")
        if t.dtype not in WORKING:
            raise TypeError(f"{name} has dtype {t.dtype}: expected a floating point tensor; call .float() on it")
        if t.dim() < least:
            raise InputError(f"{name} has shape {tuple(t.shape)}: expected at least {least} dimension(s)")
    n = q.shape[-1]
    if s.dim is not None and n != s.dim:
        raise InputError(f"q has shape {tuple(q.shape)}: {type(s).__name__} expected a last dimension of {s.dim}")
    if P.shape[-2:] != (n, n):
        raise InputError(f"P has shape {tuple(P.shape)}: expected last dimensions of {n} and {n}, as q has {n}")
    if P.dtype != q.dtype or P.device != q.device:
        raise InputError(
            f"P is {P.dtype} on {P.device} and q {q.dtype} on {q.device}: expected one dtype and one device; "
            "move one with .to()"
        )
    try:
        batch = torch.broadcast_shapes(P.shape[:-2], q.shape[:-1])
    except RuntimeError:
        raise InputError(
            f"P has batch shape {tuple(P.shape[:-2])} and q {tuple(q.shape[:-1])}: expected shapes that broadcast"
        ) from None
    s, q = _match(s, q.expand(*batch, n), "q")
    batch = q.shape[:-1]
    P, q = P.to(WORKING[P.dtype]), q.to(WORKING[q.dtype])
    if P.dim() > 2:
        P = P.reshape(n, n) if P.shape[:-2].numel() == 1 else P.expand(*batch, n, n)
    return P, q, s


def _hand_back(x, info, rule, return_info, strict):
    """Return x, with its SolveInfo where asked, or raise for the first row that missed its tolerance."""
    if rule.interrupted and strict:
        stop = KeyboardInterrupt(f"interrupted; .x holds the best iterate, .info says: {info.summary()}")
        stop.x, stop.info = x, info
        raise stop
    if strict and not bool(info.converged.all()):
        worst = first_index(~info.converged)
        at = f" at batch index {list(worst)}" if worst else ""
        advice = "" if rule.variant in ("pairwise", "exact") else "try variant 'pairwise', "
        if rule.variant == "softmax":
            what = f"the objective still changes by more than {rule.allowed:.1e} of itself"
        else:
            what = f"the gap is {float(info.gap[worst]):.1e}, accepted was {float(rule.allowed[worst]):.1e}"
        raise SolveError(
            f"Frank-Wolfe ({rule.variant}) missed its tolerance{at} after {int(info.iterations[worst])} steps: {what}; "
            f"raise max_steps or tol, {advice}or pass strict=False",
            info=info,
            index=worst,
        )
    return (x, info) if return_info or not strict else x


# -- the two kinds of objective
# ------------------------------------------------------------------------------------------


class _BlackBox:
    """An f of which only the gradient is known."""

    def __init__(self, grad, shape):
        self.grad, self.shape = grad, shape

    def value(self, x, g):
        """Return f relative to the start."""
        return torch.zeros_like(x[..., :1])

    def gradient(self, x):
        full = (*x.shape[:-1], *self.shape)
        return _call(self.grad, x.reshape(full), expected=full).reshape(x.shape)

    def search(self, x, g, d, slope, most):
        """Return the step to the minimum along d, at most ``most``, and the gradient there.

        The derivative along d rises. Secants find its root, at once for a quadratic; the root stays bracketed.
        """
        low, high = torch.zeros_like(most), most
        below, above = slope, _dot(self.gradient(x + most * d), d)
        step = most
        done = (above <= 0) | (slope >= 0) | (most == 0)
        for _ in range(40):
            secant = low - below * (high - low) / torch.where(above > below, above - below, 1.0)
            # An end where f has no finite slope, as -log at 0, is uphill, and is halved away from.
            secant = torch.where(above.isfinite(), secant, (low + high) / 2)
            step = torch.where(done, step, secant.clamp(low, high))
            g = self.gradient(x + step * d)
            value = _dot(g, d)
            done = done | (value.abs() <= 0.01 * slope.abs())
            if bool(done.all()):
                break
            left = value < 0
            # The end that stays counts half (the Illinois rule), or one end would never move.
            low, high = torch.where(left, step, low), torch.where(left, high, step)
            below, above = torch.where(left, value, below / 2), torch.where(left, above / 2, value)
        bad = ~value.isfinite()
        if bool(bad.any()):
            step = torch.where(bad, low, step)
            g = self.gradient(x + step * d)
        return torch.where(slope >= 0, 0.0, step), g


class _Quadratic:
    """``f(x) = 1/2 x'Px + q'x``, with P (n, n) or (B, n, n) and q (B, n)."""

    def __init__(self, P, q):
        self.P, self.q = P, q

    def gradient(self, x):
        return _times(self.P, x) + self.q

    def value(self, x, g):
        return 0.5 * _dot(g + self.q, x)

    def search(self, x, g, d, slope, most):
        """Return the step to the minimum along d, at most ``most``, and the gradient there."""
        Pd = _times(self.P, d)
        curvature = _dot(d, Pd)
        best = -slope / torch.where(curvature > 0, curvature, 1.0)
        step = torch.where(slope < 0, torch.where(curvature > 0, torch.minimum(best, most), most), 0.0)
        return step, g + step * Pd  # eq: eq-fw-line-search

    def take(self, rows):
        return _Quadratic(self.P if self.P.dim() == 2 else self.P[rows], self.q[rows])


def _times(P: Tensor, x: Tensor) -> Tensor:
    """Multiply symmetric matrices with vectors, as rows: ten times faster on a CPU than the product with columns."""
    if P.dtype is not x.dtype:
        return _times_in_parts(P, x)
    return x @ P if P.dim() == 2 else (x.unsqueeze(-2) @ P).squeeze(-2)


def _times_in_parts(P: Tensor, x: Tensor) -> Tensor:
    """Multiply in the dtype of x, where P has another, P (n, n) or (B, n, n) and x (B, n).

    P is cast in parts: to be handed out memory for the whole of it in float64 takes longer than to multiply.
    """
    n = x.shape[-1]
    groups, of = (P.unsqueeze(0), x.unsqueeze(0)) if P.dim() == 2 else (P, x.unsqueeze(-2))
    size = PART if x.device.type == "cpu" else groups.numel() + 1
    some = min(len(groups), max(1, size // (n * n + 1)))
    rows = min(n, max(1, size // (some * n + 1)))
    out, kept = torch.zeros_like(of), x.new_empty(some, rows, n)
    for i in range(0, len(groups), some):
        for j in range(0, n, rows):
            part = groups[i : i + some, j : j + rows]
            part = kept[: part.shape[0], : part.shape[1]].copy_(part)
            out[i : i + some].baddbmm_(of[i : i + some, :, j : j + rows], part)
    return out.view(x.shape)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return <a, b> as a column, shape (..., 1)."""
    return (a * b).sum(-1, keepdim=True)


# -- the vertices in use
# ------------------------------------------------------------------------------------------------


class _Units:
    """The vertices of a Simplex, total e_i, or of an L1Ball, (radius / w_i) e_i and their negatives, by number."""

    def __init__(self, s, x):
        n = x.shape[-1]
        self.signed = isinstance(s, L1Ball)
        size = s.radius if self.signed else s.total
        size = torch.as_tensor(size, dtype=x.dtype, device=x.device).unsqueeze(-1)
        weights = torch.ones((), dtype=x.dtype, device=x.device)
        if self.signed and s.weights is not None:
            weights = torch.as_tensor(s.weights, dtype=x.dtype, device=x.device)
            free = weights == 0
            if bool(free.any()):
                *at, i = first_index(free.expand(*free.shape[:-1], n))
                raise InputError(
                    f"L1Ball is unbounded{f' at batch index {at}' if at else ''}: weights[{i}] is 0, so e_{i} is a "
                    "ray; expected positive weights, or FrankWolfeLayer with variant 'exact'",
                    index=(*at, i),
                )
        self.scale = (size / weights).expand(x.shape)
        share = x / torch.where(self.scale == 0, 1.0, self.scale)
        if self.signed:
            rest = _unused(share.abs()) / 2
            share = torch.cat([share.clamp(min=0), (-share).clamp(min=0)], -1)
            spread = torch.zeros_like(share)
            spread[..., 0:1], spread[..., n : n + 1] = rest, rest  # what is left cancels on one pair
            share = share + spread
        else:
            spread = torch.zeros_like(share)
            spread[..., 0:1] = _unused(share)  # total 0
            share = share + spread
        self.weights = share

    def _scores(self, g):
        a = self.scale * g
        return torch.cat([a, -a], -1) if self.signed else a

    def _vertex(self, key):
        n = self.scale.shape[-1]
        column = key % n
        value = self.scale.gather(-1, column)
        value = torch.where(key >= n, -value, value)
        return torch.where(torch.arange(n, device=key.device) == column, value, 0.0)

    def lowest(self, g):
        """Return the vertex that the oracle names, and its number."""
        key = self._scores(g.detach()).argmin(-1, keepdim=True)  # eq: eq-lmo-l1
        return self._vertex(key), key

    def highest(self, g):
        """Return the worst vertex in use, its number and its weight."""
        scores = self._scores(g.detach()).masked_fill(self.weights <= 0, -math.inf)
        key = scores.argmax(-1, keepdim=True)
        return self._vertex(key), key, self.weights.gather(-1, key)

    def shift(self, keep, up_key, up, down_key, down, dropped):
        """Scale all weights by ``keep``, add ``up`` at one vertex and take ``down`` from another."""
        self.weights = _less(keep * self.weights, down_key, down, dropped).scatter_add(-1, up_key, up)

    def point(self):
        """Return x, and its weights made to sum to 1."""
        weights = self.weights / self.weights.sum(-1, keepdim=True)
        if not self.signed:
            return self.scale * weights, weights
        up, down = weights.chunk(2, -1)
        return self.scale * (up - down), weights

    def take(self, rows):
        """Leave out the other rows."""
        self.scale, self.weights = self.scale[rows], self.weights[rows]


def _unused(share):
    """Return what the shares leave of 1; what rounding leaves is nothing, or a step would be spent on moving it."""
    rest = 1 - share.sum(-1, keepdim=True)
    return torch.where(rest > 8 * share.shape[-1] * torch.finfo(share.dtype).eps, rest, 0.0)


class _Atoms:
    """The points that x is a mean of, for any set: stored as they are met, with their weights."""

    def __init__(self, oracle, x):
        self.oracle = oracle
        self.points = x.unsqueeze(-2)
        self.weights = torch.ones_like(x[..., :1])
        self.spare = 0  # slots that are surely free in every row

    def lowest(self, g):
        """Return the oracle's vertex; its slot is found when weight goes to it."""
        s = self.oracle(g)
        return s, s

    def highest(self, g):
        """Return the worst point in use, its slot and its weight."""
        scores = (self.points @ g.detach().unsqueeze(-1)).squeeze(-1).masked_fill(self.weights <= 0, -math.inf)
        key = scores.argmax(-1, keepdim=True)
        point = self.points.gather(-2, key.unsqueeze(-1).expand(*key.shape, self.points.shape[-1])).squeeze(-2)
        return point, key, self.weights.gather(-1, key)

    def shift(self, keep, s, up, down_key, down, dropped):
        """Scale all weights by ``keep``, add ``up`` at the point s and take ``down`` from a slot."""
        self.weights = _less(keep * self.weights, down_key, down, dropped)
        if self.spare == 0:
            self._make_room()
        self.spare -= 1
        same = (self.points == s.unsqueeze(-2)).all(-1) & (self.weights > 0)
        # The first slot that holds s, else the lightest one, which is free.
        slot = torch.where(same, -1.0, self.weights.detach()).argmin(-1, keepdim=True)
        new = (torch.arange(self.weights.shape[-1], device=s.device) == slot) & (up > 0)
        self.points = torch.where(new.unsqueeze(-1), s.unsqueeze(-2), self.points)
        self.weights = self.weights.scatter_add(-1, slot, up)

    def _make_room(self):
        """Order the slots by weight, and keep as many free ones as used ones."""
        used = int((self.weights > 0).sum(-1).amax()) if self.weights.numel() else 1
        size = max(8, 2 * used)
        order = self.weights.detach().argsort(dim=-1, descending=True)[..., :used]
        wide = order.unsqueeze(-1).expand(*order.shape, self.points.shape[-1])
        self.weights = torch.nn.functional.pad(self.weights.gather(-1, order), (0, size - used))
        self.points = torch.nn.functional.pad(self.points.gather(-2, wide), (0, 0, 0, size - used))
        self.spare = size - used

    def point(self):
        """Return x, and make its weights sum to 1."""
        weights = self.weights / self.weights.sum(-1, keepdim=True)
        return (weights.unsqueeze(-2) @ self.points).squeeze(-2), weights

    def take(self, rows):
        """Leave out the other rows."""
        self.points, self.weights = self.points[rows], self.weights[rows]


def _less(weights, key, down, dropped):
    """Take ``down`` from the weight at ``key``; where ``dropped`` leave exactly 0."""
    weights = weights.scatter_add(-1, key, -down)
    there = torch.arange(weights.shape[-1], device=weights.device) == key
    return torch.where(dropped & there, 0.0, weights).clamp(min=0)


# -- the rollout
# --------------------------------------------------------------------------------------------------------


class _Rollout:
    """The steps of one batch from x: state, one step, and the loop with its stops."""

    def __init__(self, problem, s, x, rule):
        self.problem, self.s, self.x, self.rule = problem, s, x, rule
        self.whole, self.full = (problem, s), None  # the full batch, and what of it is done
        self.unrolled = torch.is_grad_enabled()
        drops = isinstance(problem, _Quadratic) and not self.unrolled
        self.rows = torch.arange(x.shape[0], device=x.device) if drops else None
        self.clock = _Clock(rule)
        self.k = 0
        self.g = problem.gradient(x)
        try:
            raise_not_finite("the gradient at the start", self.g)
        except InputError as error:
            raise InputError(f"{error}; give an x0 where grad is finite, inside the set", index=error.index) from None
        if rule.variant in ("away", "pairwise"):
            self.atoms = _Units(s, x) if isinstance(s, (Simplex, L1Ball)) else _Atoms(self._oracle, x)
        elif rule.variant == "softmax":
            self.atoms = _Units(s, x)
            self.temperature, self.value, self.change = rule.temperature, None, None
        else:
            self.atoms = _Atoms(self._oracle, x)
        first = self._oracle(self.g, checked=True)
        terms, width = self._terms(self.g, x, first)
        far_terms, far_width = self._terms(problem.gradient(first), x, first)
        self.size = torch.maximum(width, far_width)
        if rule.variant == "softmax":
            self.allowed = rule.relative(x.dtype) if rule.tol is None else rule.tol
        elif rule.tol is None:
            noise = 4 * torch.finfo(x.dtype).eps * torch.maximum(terms, far_terms)
            self.allowed = torch.maximum(rule.relative(x.dtype) * self.size, noise)
        else:
            self.allowed = torch.full_like(self.size, rule.tol)
        self.done = torch.zeros_like(self.size, dtype=torch.bool)
        self.steps = torch.zeros_like(self.size, dtype=torch.int64)
        self.gap = torch.full_like(self.size, math.inf)

    def _terms(self, g, x, s):
        """Return the size of the terms of <g, x - s>, 0 where g is not finite; and that, or g's range over the set.

        The range is less where all points of the set have something in common, as with a multiple of 1 in g on a
        simplex: that is no size of f.
        """
        g = g.detach()
        g = torch.where(g.isfinite().all(-1, keepdim=True), g, 0.0)
        terms = _dot(g.abs(), x.detach().abs() + s.abs())
        reach = _dot(g, self._oracle(-g) - self._oracle(g))
        return terms, torch.minimum(terms, torch.where(reach.isfinite(), reach, math.inf))

    def _oracle(self, g, checked=False):
        """Return the vertex; values are checked at the first call and at each look, and nothing is read otherwise."""
        g = g.detach()
        shape = (*g.shape[:-1], *[self.s.dim] * self.s.event_dims) if self.s.event_dims > 1 else g.shape
        if checked:
            return self.s.lmo(g.reshape(shape)).reshape(g.shape)
        with unchecked():
            return self.s.lmo(g.reshape(shape)).reshape(g.shape)

    def run(self):
        """Step until every row is done, or the limit; return x and its SolveInfo."""
        try:
            while True:
                claim = self._measure()
                if self.clock.looks(self.x, self.k):
                    if bool(claim.any()):
                        self._freshen(claim)
                        self._measure(final=True)
                    self.clock.tell(self)
                    if bool(self.done.all()):
                        break
                    self._drop()
                if self.k >= self.rule.max_steps:
                    break
                self._step()
                self.k += 1
        except KeyboardInterrupt:
            self.rule.interrupted = True
        return self._finish()

    def _drop(self):
        """Leave out the rows that are done, once they are half of the batch: nobody but us holds P and q."""
        if self.rows is None or 2 * int(self.done.sum()) < self.done.numel():
            return
        self._store()
        stay = (~self.done).squeeze(-1).nonzero().squeeze(-1)
        self.rows = self.rows[stay]
        for name in ("x", "g", "size", "done", "steps", "gap", "allowed", "vertex", "key", "value", "change"):
            held = getattr(self, name, None)
            if isinstance(held, Tensor):
                setattr(self, name, held[stay])
        self.problem, self.s = self.problem.take(stay), _take(self.s, stay)
        if isinstance(self.rule.smoothness, Tensor):
            self.rule.smoothness = self.rule.smoothness[stay]
        self.atoms.take(stay)

    def _store(self):
        """Write the present rows into the full batch."""
        if self.full is None:
            self.full = [self.x.detach().clone(), self.done.clone(), self.steps.clone(), self.allowed]
        x, done, steps, _ = self.full
        x[self.rows], done[self.rows] = self.x.detach(), self.done
        steps[self.rows] = torch.where(self.done, self.steps, self.k)

    def _measure(self, final=False):
        """Find the vertex and the gap; tell which rows claim to be done, and where ``final`` freeze these."""
        if self.rule.variant == "softmax":
            claim = torch.zeros_like(self.done) if self.change is None else self.change <= self.allowed
        else:
            atoms = self.rule.variant in ("away", "pairwise")
            self.vertex, self.key = self.atoms.lowest(self.g) if atoms else (self._oracle(self.g), None)
            self.gap = torch.where(self.done, self.gap, _dot(self.g, self.x - self.vertex).detach())  # eq: eq-fw-gap
            claim = self.gap <= self.allowed
        claim = claim & ~self.done
        if final:
            if self.rule.tol is None and isinstance(self.problem, _Quadratic) and self.rule.variant != "softmax":
                cap = SHARE * self._worth()
                self.allowed = torch.where(claim, torch.minimum(self.allowed, cap), self.allowed)
                claim = claim & (self.gap <= self.allowed)
            self.steps = torch.where(claim, self.k, self.steps)
            self.done = self.done | claim
        return claim

    def _worth(self):
        """Return the size of a quadratic's linear term at hand, infinite where there is none.

        Where P is ill-conditioned, f is so large at the start that a small share of its terms there may exceed f here.
        """
        size = _dot(self.problem.q.detach().abs(), self.x.detach().abs() + self.vertex.abs())
        return torch.where(size > 0, size, math.inf)

    def _freshen(self, rows):
        """Compute point and gradient of some rows anew, so that rounding that has added up ends no search."""
        if self.unrolled:  # the steps stay as they were taken
            return
        if self.rule.variant in ("away", "pairwise"):
            x, weights = self.atoms.point()
            self.x = torch.where(rows, x, self.x)
            self.atoms.weights = torch.where(rows, weights, self.atoms.weights)
        if self.rule.variant != "softmax":
            self.g = torch.where(rows, self.problem.gradient(self.x), self.g)

    def _step(self):
        """Take one step in every row that is not done."""
        if self.k % FRESH == FRESH - 1:
            self._freshen(~self.done)
        if self.rule.variant == "softmax":
            self._soft_step()
            return
        if self.rule.variant == "vanilla":
            self._move(self.vertex - self.x, torch.ones_like(self.size))
            return
        worst, low, weight = self.atoms.highest(self.g)
        one = torch.ones_like(self.size)
        if self.rule.variant == "pairwise":
            step, limit = self._move(self.vertex - worst, weight), weight  # eq: eq-fw-pairwise
            self.atoms.shift(one, self.key, step, low, step, (step >= limit) & ~self.done)
            return
        back = _dot(self.g, worst - self.x) > self.gap
        limit = torch.where(back, weight / (1 - weight).clamp(min=torch.finfo(weight.dtype).tiny), 1.0)
        step = self._move(torch.where(back, self.x - worst, self.vertex - self.x), limit)
        forth, out = torch.where(back, 0.0, step), torch.where(back, step, 0.0)
        dropped = back & (step >= limit) & ~self.done
        self.atoms.shift(one - forth + out, self.key, forth, low, out, dropped)

    def _move(self, d, most):
        """Move x by the line search's step along d, at most ``most``; return the step."""
        slope = _dot(self.g, d)
        most = torch.where(self.done, 0.0, most)
        if self.rule.line_search == "exact":
            step, g = self.problem.search(self.x, self.g, d, slope, most)
            self.x, self.g = self.x + step * d, g
            return step
        if self.rule.line_search == "open":
            step = torch.full_like(most, 2 / (self.k + 2)).minimum(most)
        else:
            square = _dot(d, d)
            best = -slope / torch.where(square > 0, self.rule.smoothness.unsqueeze(-1) * square, 1.0)
            step = torch.where(square > 0, torch.minimum(best.clamp(min=0), most), 0.0)  # eq: eq-fw-short-step
        self.x = self.x + step * d
        self.g = self.problem.gradient(self.x)
        return step

    def _soft_step(self):
        """Step towards the mean of the vertices under a softmax: DFWLayer's step."""
        if self.rule.halve_every and self.k % self.rule.halve_every == self.rule.halve_every - 1:
            self.temperature = self.temperature / 2
        scale = self.atoms.scale
        if self.atoms.signed:
            share = torch.softmax(scale * self.g.abs() / self.temperature, -1)  # eq: eq-softmax-lmo
            s = -scale * self.g.sign() * share
        else:
            s = scale * torch.softmax(-scale * self.g / self.temperature, -1)
        x, g = self.x, self.g
        self._move(s - x, torch.ones_like(self.size))
        before = self.value
        start = self.problem.value(x, g) if before is None else before
        # The objective's change from the gradients at both ends: exact for a quadratic, the trapezoid rule otherwise.
        self.value = (start + 0.5 * _dot(self.g + g, self.x - x)).detach()
        if before is not None:
            self.change = (self.value - before).abs() / torch.where(before == 0, 1.0, before.abs())

    @torch.no_grad()
    def _finish(self):
        """Measure what is handed back, with the exact oracle."""
        if self.rule.variant in ("away", "pairwise"):
            self._freshen(~self.done)
        if self.full is not None:
            self._store()
            self.x, self.done, self.steps, self.allowed = self.full
            self.problem, self.s = self.whole
        else:
            self.steps = torch.where(self.done, self.steps, self.k)
        point = self.x.detach()
        g = self.problem.gradient(point)
        raise_not_finite("the gradient at the last iterate", g)
        gap = _dot(g, point - self._oracle(g, checked=True))
        self.rule.allowed = self.allowed if self.rule.variant == "softmax" else self.allowed.squeeze(-1)
        if self.s.event_dims > 1:
            point = point.reshape(*point.shape[:-1], self.s.dim, self.s.dim)
        info = SolveInfo(
            self.done.squeeze(-1),
            self.steps.squeeze(-1),
            self.s.violation(point),
            gap.squeeze(-1).double(),
            "interrupted" if self.rule.interrupted else SOFT if self.rule.variant == "softmax" else "",
        )
        return self.x, info


class _Clock:
    """When the host looks, and what it tells on a long solve."""

    def __init__(self, rule):
        self.rule, self.begun, self.told = rule, time.monotonic(), time.monotonic()

    def looks(self, x, k):
        return x.device.type == "cpu" or k % LOOK == 0 or k >= self.rule.max_steps

    def count(self, k, rows):
        """Tell of a solve that has no gap at hand: the step, and how many rows are open."""
        if callable(self.rule.progress):
            self.rule.progress(k, torch.full((rows,), math.nan))
        elif self.rule.progress and time.monotonic() - self.told >= 5:
            self.told = time.monotonic()
            sys.stderr.write(
                f"Frank-Wolfe ({self.rule.variant}): {self.told - self.begun:.0f} s, step {k} of at most "
                f"{self.rule.max_steps}, {rows} rows open\n"
            )

    def tell(self, roll):
        if callable(self.rule.progress):
            self.rule.progress(roll.k, roll.gap.detach().squeeze(-1))
            return
        now = time.monotonic()
        if not self.rule.progress or now - self.told < 5:
            return
        self.told = now
        worst = float(roll.gap.max())
        sys.stderr.write(
            f"Frank-Wolfe ({self.rule.variant}): {now - self.begun:.0f} s, step {roll.k} of at most "
            f"{self.rule.max_steps}, {int((~roll.done).sum())} of {roll.done.numel()} rows open, "
            f"worst gap {worst:.1e}\n"
        )


def _flat(s: ConvexSet, batch: tuple[int, ...]) -> ConvexSet:
    """Return the set with its batched data expanded to ``batch`` and flattened to one dimension."""
    tensors = []
    for name, t in s.data().items():
        point = t.shape[t.dim() - s.ranks[name] :]
        tensors.append(t.expand(*batch, *point).reshape(-1, *point) if t.dim() > len(point) else t)
    return s.bind(tensors)


def _take(s: ConvexSet, rows: Tensor) -> ConvexSet:
    """Return the set with the data of some rows of a flat batch."""
    return s.bind([t[rows] if t.dim() > s.ranks[name] else t for name, t in s.data().items()])


# -- a quadratic, solved on the face of its solution
# -----------------------------------------------------------------------


class _Face:
    """The faces of a batch of points, each with the one factor of P that its polish and its derivative need.

    On a face some coordinates are held and one row a ties the free ones F. The direction u of the face that minimises
    ``1/2 u'Pu - v'u`` solves ``P_FF u_F + eta a_F = v_F``, ``a_F.u_F = 0``. Adding a multiple of a a' to P changes no
    such u, and makes the matrix positive definite just where P is so along the face. Rows of about the same size are
    padded to the largest of them, and solved by one Cholesky factor each.
    """

    def __init__(self, P: Tensor, free: Tensor, row: Tensor, factor: Tensor | None = None):
        self.P, self.groups = P, []
        free, row = free.to(P.dtype), row.to(P.dtype)
        self.singular = torch.zeros(free.shape[:-1], dtype=torch.bool, device=free.device)
        n = free.shape[-1]
        sizes = torch.where(_is_plain(free, row), 2 * n, free.sum(-1)).long().tolist()
        left = sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True)
        while left and (size := sizes[left[0]]):
            group = [i for i in left if 4 * sizes[i] > 3 * size]
            left = left[len(group) :]
            every = len(group) == len(sizes)
            rows = None if every else torch.tensor(sorted(group), device=free.device)
            parts = (free, row) if every else (free[rows], row[rows])
            self._group(rows, *parts, min(size, n), factor if size > n else None)

    def _group(self, rows, free, row, size, factor):
        """Factor the faces of some rows, None for all; ``factor`` is that of all of P, where that is wanted."""
        n, tied = free.shape[-1], False
        if size == n:
            index, M = None, self.P if self.P.dim() == 2 else _some(self.P, rows)
        else:
            index = free.argsort(dim=-1, descending=True, stable=True)[:, :size]
            M = self._gather(rows, index)
            free, row = free.gather(-1, index), row.gather(-1, index)
        if factor is None:
            M = M.expand(len(free), size, size).clone() if index is None else M
            if bool((free == 0).any()):
                M.mul_(free.unsqueeze(-1)).mul_(free.unsqueeze(-2)).diagonal(dim1=-2, dim2=-1).add_(1 - free)
            row = row * free
            square = _dot(row, row)
            tied = bool((square > 0).any())
            if tied:
                mean = _dot(M.diagonal(dim1=-2, dim2=-1), free) / free.sum(-1, keepdim=True)
                lift = (torch.where(mean > 0, mean, 1.0) / torch.where(square > 0, square, 1.0)).sqrt() * row
                M.baddbmm_(lift.unsqueeze(-1), lift.unsqueeze(-2))
            factor = torch.linalg.cholesky_ex(M)[0]
        else:
            factor = factor if factor.dim() == 2 else _some(factor, rows)
        # A pivot that is rounding, or NaN after a pivot that was not positive, tells that P is singular on the face.
        pivot, largest = factor.diagonal(dim1=-2, dim2=-1).square(), M.diagonal(dim1=-2, dim2=-1).amax(-1)
        bad = ~(pivot.amin(-1) > 8 * size * torch.finfo(factor.dtype).eps * largest)
        if bool(bad.any()):
            self.singular[slice(None) if rows is None else rows] = bad
            factor = torch.where(bad[..., None, None], torch.eye(size).to(factor), factor)
        normal = _solved(row, factor) if tied else None
        self.groups.append((rows, index, free, row, factor, normal))

    def _gather(self, rows, index):
        """Return the entries of P at ``index`` in both dimensions: whole rows first, which are copied fast."""
        count, size = index.shape
        n = self.P.shape[-1]
        at = index
        if self.P.dim() == 3:
            offset = torch.arange(len(self.P), device=index.device) if rows is None else rows
            at = index + n * offset.unsqueeze(-1)
        picked = self.P.reshape(-1, n).index_select(0, at.reshape(-1)).view(count, size, n)
        return picked.gather(-1, index.unsqueeze(-2).expand(count, size, size))

    def refined(self, v: Tensor) -> Tensor:
        """Return ``solve(v)``, for float32 corrected by a residual in float64: that gives digits back to a poor P."""
        if v.dtype is torch.float64:
            return self.solve(v)
        wide = v.double()
        u = self.solve(wide)
        return (u + self.solve(wide - _times(self.P, u))).to(v.dtype)

    def solve(self, v: Tensor) -> Tensor:
        """Return the u of each row of v, shape (B, n); 0 off the face and where P is singular on it.

        A float64 v over a float32 factor is solved once: whoever has the residual in float64 asks again.
        """
        out = torch.zeros_like(v)
        for rows, index, free, row, factor, normal in self.groups:
            r = v if rows is None else v[..., rows, :]
            place = None if index is None else index.expand(*r.shape[:-1], index.shape[-1])
            r = r if index is None else r.gather(-1, place)
            if normal is not None:  # across the face v may be large: in float32 its rounding would hide what is along
                r = r - row * (_dot(row, r) / _dot(row, row).clamp(min=torch.finfo(row.dtype).tiny))
            r = free * r
            u = _on_row(r.to(factor.dtype), row, factor, normal)
            u = (free * u).to(v.dtype)
            if index is None and rows is None:
                out = u
                break
            if index is not None:
                u = (out if rows is None else torch.zeros_like(out[..., rows, :])).scatter(-1, place, u)
            out = u if rows is None else out.index_copy(-2, rows, u)
        return torch.where(self.singular.unsqueeze(-1), 0.0, out) if bool(self.singular.any()) else out

    def take(self, kept: Tensor, names: Tensor) -> list:
        """Return the groups of the rows ``kept`` alone, a mask, under the names that they have in the full batch.

        Where most of a group is kept the others stay with a u of 0, which the groups taken later write over.
        """
        groups = []
        for rows, *parts in self.groups:
            rows = torch.arange(len(kept), device=kept.device) if rows is None else rows
            here = kept[rows]
            if bool(here.any()):
                index, free, row, factor, normal = parts
                if factor.dim() == 3 and 2 * int(here.sum()) >= len(here):  # cheaper than to copy the matrices
                    groups.append((names[rows], index, free * here.unsqueeze(-1), *parts[2:]))
                    continue
                index, free, row, normal = (None if t is None else t[here] for t in (index, free, row, normal))
                factor = factor if factor.dim() == 2 else _some(factor, here)
                groups.append((names[rows[here]], index, free, row, factor, normal))
        return groups


def _distance(x: Tensor, z: Tensor, q: Tensor, L: Tensor) -> Tensor:
    """Return the largest |x_i - z_i| of each row, relative to the size of z and of a gradient step."""
    size = _dot(z, z).sqrt() + q.abs().amax(-1, keepdim=True) / L
    return ((x - z).abs() / size.clamp(min=torch.finfo(z.dtype).tiny)).amax(-1)


def _is_plain(free: Tensor, row: Tensor) -> Tensor:
    """Tell which faces are the whole space: nothing is held, and no row ties."""
    return (free.sum(-1) == free.shape[-1]) & (row == 0).all(-1)


def _some(matrices: Tensor, rows: Tensor | None) -> Tensor:
    """Return some matrices of a batch, in the order of entries that LAPACK wrote them in."""
    return matrices if rows is None else matrices.mT[rows].mT


def _solved(r: Tensor, factor: Tensor) -> Tensor:
    """Solve M u = r for rows r (..., B, n), from one factor of M for all of them, or one for each."""
    shared = factor.dim() == 2
    columns = r.reshape(-1, r.shape[-1]).mT if shared else r.unsqueeze(-1)
    half = torch.linalg.solve_triangular(factor, columns, upper=False)  # copies no factor, as cholesky_solve would
    u = torch.linalg.solve_triangular(factor.mT, half, upper=True)
    return u.mT.reshape(r.shape) if shared else u.squeeze(-1)


def _on_row(r, row, factor, normal):
    """Solve M u + eta row = r, row.u = 0 from the factor of M and ``normal`` = M^{-1} row."""
    u = _solved(r, factor)
    if normal is None:
        return u
    return u - _dot(row, u) / _dot(row, normal).clamp(min=torch.finfo(r.dtype).tiny) * normal  # eq: eq-fw-face-system


class _FaceSearch:
    """Minimise ``1/2 x'Px + q'x`` over a set with faces of one row, by searching the face of the solution.

    A few projected steps guess the face. Newton rounds: minimise on the face of x, first on the whole space; take a
    gradient step from there and project, which gives the next face. When a point projects to itself it is the solution.
    These rounds end after one or two where P is well conditioned; else they may go in circles, so that accelerated
    projected steps (FISTA, restarted where it turns uphill) go on from the lowest point so far, and rounds are tried
    again every few steps. Points are corrected and judged in float64, so that rounding hides no multiplier of the wrong
    sign; the factors are of the dtype of P.
    """

    def __init__(self, P, q, s, factor, rule):
        self.rule, self.whole_batch = rule, (_Quadratic(P, q), s)
        self.P, self.q, self.s, self.factor = P, q, s, factor
        self.names = torch.arange(len(q), device=q.device)
        self.open = torch.ones_like(self.names, dtype=torch.bool)
        self.groups = []
        self.x = self.answers = self.z = None  # the points and their faces, of the full batch; the steps' last point
        self.done = torch.zeros(len(q), dtype=torch.bool, device=q.device)
        self.singular, self.steps = torch.zeros_like(self.done), torch.zeros_like(self.names)
        self.allowed = torch.zeros(len(q), dtype=torch.float64, device=q.device)
        mean = P.diagonal(dim1=-2, dim2=-1).mean(-1)
        self.L = torch.where(mean > 0, mean, 1.0).expand(len(q)).unsqueeze(-1)

    def run(self):
        """Search until every row is done, or the limit; return the points, their faces, factors and the SolveInfo."""
        rule, clock = self.rule, _Clock(self.rule)
        k = look = min(FIRST, rule.max_steps)
        try:
            self._without_the_set()
            if len(self.names):
                self._approach(k)
            while True:
                if k == look or k >= rule.max_steps or len(self.names) == 0:
                    self._rounds(k)
                    clock.count(k, int(self.open.sum()))
                    if len(self.names) == 0 or k >= rule.max_steps:
                        break
                    look = k + max(8, k // 2)
                self._accelerate()
                k += 1
        except KeyboardInterrupt:
            rule.interrupted = True
        if len(self.names) or self.x is None:
            if self.z is None:  # interrupted before there was a point, or no rows
                self.z, self.active = self.s.solve_traced(torch.zeros_like(self.q), "lowest")
            free, row = self.s.frame(self.z, self.active)
            self._retire(self.open, self.z, self._face(free, row), self.active, k, solved=False)
        problem, s = self.whole_batch
        face = object.__new__(_Face)
        face.P, face.groups, face.singular = problem.P, self.groups, self.singular
        g = problem.gradient(self.x)
        gap = s.gap(self.x - g, self.x)
        if bool(gap.isinf().any()):  # rounding of g along a direction without end
            noise = 64 * torch.finfo(g.dtype).eps * (_times(problem.P.abs(), self.x.abs()) + problem.q.abs())
            gap = torch.where(gap.isinf(), s.gap(self.x - g.masked_fill(g.abs() <= noise, 0), self.x), gap)
        rule.allowed = self.allowed
        message = "interrupted" if rule.interrupted else ""
        return self.x, self.answers, face, SolveInfo(self.done, self.steps, s.violation(self.x), gap, message)

    def _rounds(self, k):
        """Take Newton rounds while they make progress; retire the rows that they solve.

        A round costs one factor in the dtype of P. Its point is corrected and judged in float64.
        """
        x, Px, active, before = self.z, self.Pz, self.active, None
        for _ in range(8 if len(self.names) else 0):
            _, s, L = self._terms()
            face = self._face(*self.s.frame(x, active))
            z = (x + face.solve(-(Px + self.q))).double()
            z, g = self._corrected(s.face_map(z, _cast(active, z.dtype)), face, self.open & ~face.singular)
            far, now = s.solve_traced(z - g / L, "lowest")
            off = _distance(far, z, self.q, L)
            worth = off <= 1 if before is None else off <= 0.5 * before
            stay = self._retire(self.open & ~face.singular & (off <= SETTLED), z, face, active, k)
            if len(self.names) == 0:
                return
            x, active, before, worth = far[stay].to(self.q.dtype), _pick(now, stay), off[stay], worth[stay]
            active = _cast(active, self.q.dtype)
            if not bool((worth & self.open).any()):
                break
            Px = _times(self.P, x)
        if len(self.names):
            self._go_on_from(x.double(), k)

    def _approach(self, count):
        """Go near the face of the solution, ``count`` times: conjugate gradients on the face of z, a projected step.

        They cost less than the Newton rounds that they spare. What they find is kept where it lowers f.
        """
        z, Pz, active = self.z, self.Pz, self.active
        tiny = torch.finfo(z.dtype).tiny
        for _ in range(count):
            free, row = self.s.frame(z, active)
            across = row / _dot(row, row).clamp(min=tiny)
            g = Pz + self.q
            r = across * _dot(row, g) - free * g
            p, square = r, _dot(r, r)
            for last in range(ON_FACE - 1, -1, -1):
                Pp = _times(self.P, p)
                step = square / torch.maximum(_dot(p, Pp), 1e-4 * self.L * square + tiny)
                z, Pz = z + step * p, Pz + step * Pp
                if last:
                    r = r - step * (free * Pp - across * _dot(row, Pp))
                    before, square = square, _dot(r, r)
                    p = r + square / before.clamp(min=tiny) * p
            z, active = self.s.solve_traced(z - (Pz + self.q) / self.L, "lowest")
            Pz = _times(self.P, z)
        lower = _dot(Pz + 2 * self.q, z) < _dot(self.Pz + 2 * self.q, self.z)
        self._restart(lower, z, Pz)
        self.active = _chosen(lower, active, self.active)

    def _face(self, free, row):
        """Return the faces of the open rows."""
        return _Face(self.P, free * self.open.unsqueeze(-1), row)

    def _without_the_set(self):
        """Retire the rows whose unconstrained minimiser is inside the set; the others begin at its projection."""
        free = torch.ones_like(self.q)
        face = _Face(self.P, free, 0 * free, self.factor)
        z = face.solve(-self.q)
        x, self.active = self.s.solve_traced(z, "lowest")
        Px = _times(self.P, x)
        self._restart(torch.ones_like(self.L, dtype=torch.bool), x, Px)
        g = Px + self.q
        Pg = _times(self.P, g)
        curve = _dot(g, Pg)
        steep = 1.1 * _dot(Pg, Pg) / torch.where(curve > 0, curve, 1.0)  # a mean of eigenvalues, most of large ones
        self.L = torch.maximum(self.L, torch.where(steep.isfinite(), steep, 0.0))
        inside = _is_plain(*self.s.frame(x, self.active)) & ~face.singular
        if not bool(inside.any()):
            return
        _, s, L = self._terms()
        z, g = self._corrected(z.double(), face, inside)
        off = _distance(z - g / L, z, self.q, L)
        inside = inside & (off <= SETTLED) & (s.violation(z) == 0)
        self._retire(inside, z, face, self.active, 0)

    def _corrected(self, z, face, rows):
        """Return z, corrected along its face until the next correction would be nothing, and the gradient there."""
        q = self.q.double()
        g = _times(self.P, z) + q
        for _ in range(3):
            u = torch.where(rows.unsqueeze(-1), face.solve(-g), 0.0)
            z = z + u
            # The factor's relative error is that of u to the point; the square of it is left.
            if bool((u.abs() <= 3e-5 * z.abs().amax(-1, keepdim=True)).all()):
                return z, g + _times(self.P, u.to(self.P.dtype))  # of so small a u a rounded product is enough
            g = _times(self.P, z) + q
        return z, g

    def _terms(self):
        """Return the objective, the set and L of the open rows, for points in float64."""
        return _Quadratic(self.P, self.q.double()), self.s.to(torch.float64), self.L.double()

    def _go_on_from(self, x, k):
        """Begin the steps where they ended or at x, whichever is lower; retire rows within the tolerance."""
        wide, s, L = self._terms()
        here = self.z.double()
        g, before = wide.gradient(x), wide.gradient(here)
        lower = wide.value(x, g) < wide.value(here, before)
        here, g = torch.where(lower, x, here), torch.where(lower, g, before)
        near = here.to(self.q.dtype)
        self._restart(lower, near, _times(self.P, near))
        gap, size = s.gap(here - g, here), (g.abs() * here.abs() + wide.q.abs() * here.abs()).sum(-1)
        limit = self.rule.tol
        limit = self.rule.relative(self.q.dtype) * size if limit is None else torch.full_like(gap, limit)
        self.allowed[self.names] = limit
        if bool(gap.isinf().any()):
            self._find_endless(here, L, gap)
        close = gap <= limit
        self.active = s.solve_traced(here - g / L, "lowest")[1]
        if bool((close & self.open).any()):
            self._retire(close & self.open, here, self._face(*self.s.frame(near, self.active)), self.active, k)

    def _find_endless(self, x, L, gap):
        """Raise for a row with a direction of the set along which f falls without end: P d = 0 and q.d < 0."""
        wide, s, _ = self._terms()
        values, vectors = torch.linalg.eigh(wide.P.double())
        null = vectors * (values.abs() <= 1e-12 * values.abs().amax(-1, keepdim=True)).unsqueeze(-2)
        down = -_times(null @ null.mT, wide.q)
        far = 1e9 * (1 + x.abs().amax(-1, keepdim=True))  # seen from so far away a set is its cone of directions
        d = s.solve_traced(far * down, "lowest")[0] / far
        size = _dot(d, d).sqrt()
        flat = _dot(_times(wide.P, d).abs(), torch.ones_like(d)) <= 1e-6 * L * size
        bad = (flat & (_dot(d, wide.q) < -1e-6 * size * wide.q.abs().amax(-1, keepdim=True))).squeeze(-1)
        bad = bad & gap.isinf() & self.open
        if bool(bad.any()):
            row = int(self.names[bad][0])
            at = f" at batch index [{row}]" if len(self.done) > 1 else ""
            ray = [round(v, 4) + 0.0 for v in d[bad][0][:4].tolist()]
            raise InputError(
                f"the minimum over {type(s).__name__} is unbounded{at}: the set has no end along {ray}"
                f"{'...' if d.shape[-1] > 4 else ''}, P is 0 there and q falls; expected a bounded set, or a P that is "
                "positive definite where the set has no end",
                index=(row,),
            )

    def _restart(self, where, x, Px):
        """Begin the accelerated steps anew from x in some rows."""
        if self.z is None:
            self.z, self.Pz, self.y, self.Py, self.age = x, Px, x, Px, torch.zeros_like(self.L)
        self.z, self.Pz = torch.where(where, x, self.z), torch.where(where, Px, self.Pz)
        self.y, self.Py = torch.where(where, x, self.y), torch.where(where, Px, self.Py)
        self.age = torch.where(where, 0.0, self.age)

    def _retire(self, over, x, face, active, k, solved=True):
        """Keep the answers of the rows ``over`` with their faces; return which of the present rows stay.

        Rows that are done leave once they are half of the present ones, as every cut copies the matrices of the rest.
        """
        whole = slice(None)
        if len(over) and not bool(over.any()):
            return whole
        parts = _cast(active if isinstance(active, tuple) else (active,), self.q.dtype)
        names = self.names[over]
        if len(names) == len(self.done):  # all at once
            self.x, self.answers, self.groups, self.singular = x.to(self.q.dtype), parts, face.groups, face.singular
        else:
            if self.x is None:
                self.x = torch.zeros_like(self.whole_batch[0].q)
                self.answers = tuple(t.new_zeros(len(self.x), *t.shape[1:]) for t in parts)
            self.x[names], self.singular[names] = x[over].to(self.q.dtype), face.singular[over]
            for answer, part in zip(self.answers, parts, strict=True):
                answer[names] = part[over]
            self.groups += face.take(over, self.names)
        self.done[names], self.steps[names] = solved, k
        self.open = self.open & ~over
        left = int(self.open.sum())
        if 2 * left > len(self.names):
            return whole
        stay, self.open = self.open, self.open[self.open]
        self.names = self.names[stay]
        if left == 0:
            return stay
        self.s, self.q, self.L = _take(self.s, stay), self.q[stay], self.L[stay]
        if self.P.dim() == 3:
            self.P = self.P[stay]
        for name in ("z", "Pz", "y", "Py", "age"):
            setattr(self, name, getattr(self, name)[stay])
        self.active = _pick(self.active, stay)
        return stay

    def _accelerate(self):
        """Take one step of FISTA with the largest curvature met so far as L."""
        z, active = self.s.solve_traced(self.y - (self.Py + self.q) / self.L, "lowest")
        Pz = _times(self.P, z)
        d, move = z - self.y, z - self.z
        square, curve = _dot(d, d), _dot(d, Pz - self.Py)
        age = torch.where(_dot(d, move) < 0, 0.0, self.age)
        beta = age / (age + 3)
        new = {"y": z + beta * move, "Py": Pz + beta * (Pz - self.Pz), "z": z, "Pz": Pz, "age": age + 1}
        steep = curve > self.L * square * (1 + 1e-3)
        if z.device.type != "cpu" or bool(steep.any()):
            # Where L was too small the step does not count: go again from y with the larger one.
            steep = steep & (curve > self.L * square + torch.finfo(z.dtype).eps * _dot(z.abs(), Pz.abs()))
            self.L = torch.where(steep, 1.2 * curve / torch.where(square > 0, square, 1.0), self.L)
            new = {name: torch.where(steep, getattr(self, name), value) for name, value in new.items()}
            active = _chosen(steep, self.active, active)
        self.__dict__.update(new, active=active)


def _chosen(where, active, other):
    """Return the faces ``active`` in some rows, a column, and the other ones elsewhere."""
    if isinstance(active, tuple):
        return tuple(torch.where(where, a, b) for a, b in zip(active, other, strict=True))
    return torch.where(where, active, other)


def _pick(active, rows):
    """Return the faces of some rows."""
    return tuple(a[rows] for a in active) if isinstance(active, tuple) else active[rows]


def _cast(active, dtype):
    """Return faces with their numbers in another dtype."""
    if isinstance(active, tuple):
        return tuple(_cast(a, dtype) for a in active)
    return active.to(dtype) if active.is_floating_point() else active


# -- the solution and its derivative
# ---------------------------------------------------------------------------------------


class _Call:
    """What one call of the layer hands from the forward pass to the backward."""

    def __init__(self, s: ConvexSet, rule: _Rule, kept: list[_Known]):
        self.set, self.rule, self.kept = s.bind([None] * len(s.names)), rule, kept
        self.face = self.active = self.info = None


def _solve(P: Tensor, q: Tensor, s: ConvexSet, rule: _Rule, call: _Call):
    """Minimise over the full batch; return x, and note its SolveInfo and the faces in ``call``."""
    batch, n = q.shape[:-1], q.shape[-1]
    P, q, s = (P.reshape(-1, n, n) if P.dim() > 2 else P), q.reshape(-1, n), _flat(s, batch)
    raise_not_finite("q", q)
    known = _Known.of(P, batch, call.kept)
    s._check_data()
    face = None
    if rule.variant == "exact":
        x, call.active, face, info = _FaceSearch(P, q, s, known.factor, rule).run()
    else:
        if rule.smoothness is None and rule.line_search == "short":
            rule.smoothness = torch.linalg.eigvalsh(P.detach()).amax(-1)
        x = _first_point(s, q, rule.variant)
        rule.fit(s, x)
        x, info = _Rollout(_Quadratic(P, q), s, x, rule).run()
        if torch.is_grad_enabled() and not x.requires_grad:  # no step was taken: a derivative of 0, and not none
            x = x + 0 * (q + P.diagonal(dim1=-2, dim2=-1))
    call.face, call.info = face, _reshaped(info, batch)
    if rule.variant != "softmax":
        rule.allowed = rule.allowed.reshape(batch)
    return x.reshape(*batch, n)


def _reshaped(info, batch):
    parts = (t.reshape(batch) for t in (info.converged, info.iterations, info.residual, info.gap))
    return SolveInfo(*parts, info.message)


def _first_point(s, q, variant):
    """Return where a rollout starts: 0 in an l1 ball and the centre of a simplex for the softmax, else a vertex."""
    if variant != "softmax":
        return s.lmo(q.detach())
    if isinstance(s, L1Ball):
        return torch.zeros_like(q)
    total = torch.as_tensor(s.total, dtype=q.dtype, device=q.device)
    return (total.unsqueeze(-1) / q.shape[-1]).expand(q.shape)


class _Known:
    """What is known of a P that passed the checks: its factor, where it is definite.

    A layer keeps that of the last P without batch dimensions, and uses it again only while P equals the copy, so it
    cannot be stale.
    """

    def __init__(self, P: Tensor, batch: tuple[int, ...]):
        self.factor = _check_matrix(P, batch)
        self.P = P.clone() if P.dim() == 2 else None

    @staticmethod
    def of(P: Tensor, batch: tuple[int, ...], kept: list[_Known]) -> _Known:
        """Return what is kept of this P, or find it out and keep it."""
        P = P.detach()
        if P.dim() != 2:
            return _Known(P, batch)
        for known in kept:
            if known.P.dtype is P.dtype and known.P.device == P.device and torch.equal(known.P, P):
                return known
        kept[:] = [_Known(P, batch)]
        return kept[0]


def _check_matrix(P: Tensor, batch: tuple[int, ...]) -> Tensor:
    """Check that P is finite, symmetric and positive semidefinite; return its Cholesky factor, of use where definite.

    A matrix with a NaN does not equal its transpose, and one with an infinity has no finite factor: on the hot path
    one comparison and the factor that is wanted anyway are all.
    """
    n = P.shape[-1]
    part = max(1, n // 4)  # of each four rows only what is right of the first: no pair of entries is compared twice
    if not all(torch.equal(P[..., i : i + part, i:], P.mT[..., i : i + part, i:]) for i in range(0, n, part)):
        _check_symmetric(P, batch)
    factor, failed = torch.linalg.cholesky_ex(P)
    definite = (failed == 0) & factor.diagonal(dim1=-2, dim2=-1).isfinite().all(-1)
    if not bool(definite.all()):
        raise_not_finite("P", P)
        values = torch.linalg.eigvalsh(P.reshape(-1, n, n)[(~definite).reshape(-1)])
        lowest, allowed = values.amin(-1), 8 * n * torch.finfo(P.dtype).eps * values.abs().amax(-1)
        if bool((lowest < -allowed).any()):
            which = int((lowest < -allowed).nonzero()[0])
            row = int((~definite).reshape(-1).nonzero()[which])
            at = f"P{_place((row,), batch)}" if P.dim() == 3 else "P"
            raise InputError(
                f"{at} has the eigenvalue {float(lowest[which]):.3g}: expected a positive semidefinite matrix",
                index=(row,) if P.dim() == 3 else (),
            )
    return factor


def _check_symmetric(P: Tensor, batch: tuple[int, ...]) -> None:
    """Raise if P is not finite, or not symmetric beyond rounding."""
    raise_not_finite("P", P)
    size = P.diagonal(dim1=-2, dim2=-1).abs().amax()  # no entry of a psd matrix is larger
    off = (P - P.mT).abs()
    if bool(off.amax() > 64 * math.sqrt(P.shape[-1]) * torch.finfo(P.dtype).eps * size):
        index = first_index(off == off.amax())
        flipped = (*index[:-2], index[-1], index[-2])
        raise InputError(
            f"P is not symmetric: P{_place(index, batch)} is {P[index].item():.6g} and P{_place(flipped, batch)} is "
            f"{P[flipped].item():.6g}; expected equal entries, as in (P + P.mT) / 2",
            index=index,
        )


def _place(index: tuple[int, ...], batch: tuple[int, ...]) -> list[int]:
    """Return an index of the flat batch as one of the batch's own shape."""
    if len(index) == 2 or len(batch) <= 1:
        return list(index)
    first, *rest = index
    place = []
    for size in reversed(batch):
        place.append(first % size)
        first //= size
    return [*reversed(place), *rest]


class _Minimiser(torch.autograd.Function):
    """``argmin_{x in s} 1/2 x'Px + q'x`` as an autograd rule: the solution differentiated on its face.

    x is the projection of x - (Px + q) on the set; differentiating this on the face gives, for a cotangent v, the u in
    the directions of the face with J P u = J v: the gradients are -u to q and -(u x' + x u') / 2 to P, and the set's
    data get what its own projection gives them for the cotangent v - P u + u.
    """

    @staticmethod
    def forward(P, q, call, *tensors):
        """Solve, and tell the face: that of the projection of a gradient step."""
        s = call.set.bind(tensors)
        x = _solve(P, q, s, call.rule, call)
        if type(s).solve is ConvexSet.solve:
            return (x,)
        if call.active is not None:
            active = tuple(t.reshape(*x.shape[:-1], *t.shape[1:]) for t in call.active)
            call.active = None
            return (x, *active)
        scale = P.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
        y = x - (_times(P, x) + q) / torch.where(scale > 0, scale, 1.0)
        active = s.solve_traced(y, "lowest")[1]
        return (x, *active) if isinstance(active, tuple) else (x, active)

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keep the solution, its face, the data, and the factor of the face."""
        P, q, ctx.call, *tensors = inputs
        ctx.face, ctx.faces = ctx.call.face, len(output) - 1
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(P, q, *output, *tensors)
        ctx.save_for_forward(P, q, *output, *tensors)

    @staticmethod
    def backward(ctx, v, *_):
        """Return the gradients to P, q and the set's tensors."""
        wanted = ctx.needs_input_grad
        if v is None:
            return (None,) * len(wanted)
        to_P, to_q, data = _pull(ctx, v, wanted[0], any(wanted[3:]))
        return (to_P, to_q, None, *data)

    @staticmethod
    def jvp(ctx, dP, dq, _call, *dtensors):
        """Return the tangent of x, by transposing the backward."""
        moving = [d is not None for d in dtensors]

        def pull(v):
            to_P, to_q, data = _pull(ctx, v, dP is not None, any(moving))
            parts = ([to_P] if dP is not None else []) + ([to_q] if dq is not None else [])
            return (*parts, *(g for g, m in zip(data, moving, strict=True) if m))

        _, transpose = torch.func.vjp(pull, torch.zeros_like(ctx.saved_tensors[2]))
        return (transpose(tuple(d for d in (dP, dq, *dtensors) if d is not None))[0], *[None] * ctx.faces)

    @staticmethod
    def vmap(info, in_dims, P, q, call, *tensors):
        """Make the mapped dimension one more batch dimension, in front."""
        P_dim, q_dim, _, *dims = in_dims
        q = q.expand(info.batch_size, *q.shape) if q_dim is None else q.movedim(q_dim, 0)
        batch, n = q.shape[:-1], q.shape[-1]

        def placed(t, d, rank):
            if d is None:
                return t
            t = t.movedim(d, 0)
            return t.reshape(t.shape[0], *[1] * (len(batch) + rank - t.dim()), *t.shape[1:])

        P = placed(P, P_dim, 2)
        P = P if P.dim() == 2 else P.expand(*batch, n, n)
        ranks = [call.set.ranks[name] for name in call.set.names]
        tensors = [placed(t, d, rank) for t, d, rank in zip(tensors, dims, ranks, strict=True)]
        x, *active = _Minimiser.apply(P, q, call, *tensors)
        given = call.set.active_ranks
        given = given * len(active) if len(given) == 1 else given
        full = [0 if a.dim() - rank == len(batch) else None for a, rank in zip(active, given, strict=True)]
        return (x, *active), (0, *full)


# Function.apply works out forward's signature at every call; outside of transforms it can be passed by.
_apply_directly = super(torch.autograd.Function, _Minimiser).apply


def _pull(ctx, v, to_matrix, to_data):
    """Return the products of v with the derivatives of x by P, q and the set's tensors."""
    P, q, x, *rest = ctx.saved_tensors
    active, tensors = rest[: ctx.faces], rest[ctx.faces :]
    active = active[0] if len(active) == 1 else tuple(active)
    s, n = ctx.call.set.bind(tensors), x.shape[-1]
    if ctx.faces == 0:
        raise NotImplementedError(
            f"{type(s).__name__} must define solve and face_project for backward='implicit'; use backward='unrolled'"
        )
    recorded = torch.is_grad_enabled() and any(t.requires_grad for t in (v, x, P, *tensors))
    framed = type(s).frame is not ConvexSet.frame
    if recorded or not framed or in_a_transform():
        u = _solve_densely(P, _directions(s, x, active), v)
    else:
        if ctx.face is None:
            free, row = (t.reshape(-1, n) for t in s.frame(x, active))
            ctx.face = _Face(P.reshape(-1, n, n) if P.dim() > 2 else P, free, row)
        _check_regular(ctx.face.singular.reshape(x.shape[:-1]), v)
        u = ctx.face.refined(v.reshape(-1, n)).reshape(v.shape)
    to_P = None
    if to_matrix:
        half = u.reshape(-1, n).mT @ x.reshape(-1, n) if P.dim() == 2 else u.unsqueeze(-1) * x.unsqueeze(-2)
        to_P = -(half + half.mT) / 2  # eq: eq-qp-matrix-gradient
    data = (None,) * len(tensors)
    if to_data:
        data = _data_gradient(s, x - (_times(P, x) + q), x, v - _times(P, u) + u, active)
    return to_P, -u, data  # eq: eq-qp-linear-gradient


def _directions(s, x, active):
    """Return the projector on the directions of the face as a matrix, differentiable in the set's tensors."""
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    return torch.stack([s.face_project(x, e.expand(x.shape), active) for e in eye], -1)


def _solve_densely(P, J, v):
    """Solve J P J u = J v for u in the range of the projector J, in differentiable torch."""
    eye = torch.eye(P.shape[-1], dtype=P.dtype, device=P.device)
    lift = P.detach().diagonal(dim1=-2, dim2=-1).abs().mean(-1)[..., None, None]
    M = J @ P @ J + torch.where(lift > 0, lift, 1.0) * (eye - J)
    factor, failed = torch.linalg.cholesky_ex(M)
    pivot = factor.detach().diagonal(dim1=-2, dim2=-1).square()
    eps = torch.finfo(M.dtype).eps
    bad = (failed > 0) | ~(pivot.amin(-1) > 8 * M.shape[-1] * eps * M.detach().diagonal(dim1=-2, dim2=-1).amax(-1))
    _check_regular(bad, v)
    return torch.cholesky_solve((J @ v.unsqueeze(-1)), factor).squeeze(-1)


def _check_regular(singular, v):
    """Raise for the first sample with a gradient to its solution and no derivative to hand it to."""
    asked = singular & (v != 0).any(-1)
    if not in_a_transform() and bool(asked.any()):
        index = first_index(asked)
        raise SolveError(
            f"P is singular on the face of the solution{f' of sample {list(index)}' if index else ''}: the solution is "
            "not unique there, or not to rounding, and has no derivative; add a small multiple of the identity to P, "
            "or leave this sample out of the loss",
            index=index,
        )
