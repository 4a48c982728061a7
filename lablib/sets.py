"""The constraint sets with a closed form: Box, Simplex, L1Ball, BoxBudget, Affine.

What a constraint is here: an object with two oracles and one ruler,

    project(y)      argmin_{x in s} 1/2 |x - y|^2     the nearest point
    lmo(g)          argmin_{v in s} <g, v>            the lowest vertex
    violation(x)    how far outside x is              the ruler

The contract behind ``project`` stands at the top of ``projection.py``. Simplex, L1Ball and BoxBudget share one shape
of face: some coordinates are held, and one row a.x = c ties the free ones. Its projector and its derivatives are
written once, in ``_row_project``, ``_row_map`` and ``_row_gradient``. The search for the one unknown number is in
``threshold.py``.

Leading dimensions are batch dimensions, the last one is n. A datum is a number or a tensor; a tensor may carry batch
dimensions of its own (radius (B,), bounds (B, n), A (B, p, n)), which broadcast against those of y.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from . import threshold
from .projection import ConvexSet, check_finite, check_point, raise_not_finite, truth
from .solution import InputError, first_index

__all__ = ["Affine", "Box", "BoxBudget", "L1Ball", "Simplex"]


class Box(ConvexSet):
    """``{x : lower <= x <= upper}``, infinities allowed.

    Projection: clip. Face: the coordinates strictly between their bounds. ``lower``, ``upper``: numbers, or tensors
    (..., n). With two numbers any n will do, unless ``dim`` fixes it. Gradients flow to tensor bounds (to ``lower``
    where both hold). Raises InputError where lower > upper, naming the index.

    >>> import torch
    >>> Box(0.0, 1.0).project(torch.tensor([-1.0, 0.5, 7.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """

    ranks: ClassVar[dict[str, int]] = {"lower": 1, "upper": 1}
    _may_overflow = False
    _required = ("lower", "upper")
    _shown = ("lower", "upper")

    def __init__(self, lower: float | Tensor, upper: float | Tensor, *, dim: int | None = None):
        self._keep(lower=lower, upper=upper)
        self.dim = dim
        self._check_shapes()
        self._check_data()

    def _check_shapes(self) -> None:
        self.dim = _common_dim(self.dim, lower=self.lower, upper=self.upper)

    def _check_data(self) -> None:
        _check_bounds(self.lower, self.upper)

    def solve(self, y, *, tol=None, max_steps=None, element="lowest"):
        """Clip."""
        if not self.names:
            check_finite(y)
        elif not bool(y.sum().isfinite() & _bounds_hold(self.lower, self.upper)):
            raise_not_finite("y", y)
            _check_bounds(self.lower, self.upper)
        return (*self.solve_traced(y, element), 0)

    def solve_traced(self, y, element):
        """Clip, and say which bounds hold."""
        return _clip(y, self.lower, self.upper), _held(y, self.lower, self.upper, element)  # eq: eq-box-projection

    def face_project(self, x, v, active=None):
        """Keep v where no bound holds."""
        low, high = _held(x, self.lower, self.upper, "lowest") if active is None else active
        return v.masked_fill(low | high, 0)  # eq: eq-face-box

    def frame(self, x, active):
        """Return the free coordinates; no row ties them."""
        free = (~(active[0] | active[1])).to(x.dtype)
        return free, torch.zeros_like(free)

    def face_map(self, y, active):
        """Put the held coordinates on their bounds."""
        low, high = active
        return torch.where(low, self.lower, torch.where(high, self.upper, y)).to(y.dtype)

    def data_gradient(self, y, x, v, active):
        """Hand each held coordinate's gradient to the bound that holds it."""
        low, high = active
        grads = {"lower": v * low, "upper": v * (high & ~low)}
        return tuple(grads[name] for name in self.names)

    def violation(self, x):
        """Return the largest of lower - x and x - upper, or 0."""
        check_point(self, "x", x)
        return _outside(x, self.lower, self.upper)

    def lmo(self, g):
        """Return the lowest corner along g; where g is 0, the lower bound (the upper one, or 0, where infinite)."""
        check_point(self, "g", g)
        corner = _corner(g, _full(self.lower, g), _full(self.upper, g))
        if truth(corner.isinf()):
            index = first_index(corner.isinf())
            raise _endless("Box", index[:-1], f"{'-' if g[index] > 0 else '+'}e_{index[-1]}", index)
        return corner

    def gap(self, y, x):
        """Return the certificate, coordinate by coordinate; an infinite bound counts only where y - x is not 0."""
        check_point(self, "y", y)
        check_point(self, "x", x)
        x = x.double()
        normal = y.double() - x
        end = torch.where(normal > 0, _full(self.upper, x).double(), _full(self.lower, x).double())
        return torch.where(normal == 0, 0.0, normal * (end - x)).sum(-1)

    def scale(self, x):
        """Return the largest finite bound in size."""
        return _bound_size(self, x)

    def tolerance(self, x):
        """Allow the rounding of the bounds and of x."""
        return 4 * torch.finfo(x.dtype).eps * (self.scale(x) + _size(x))

    def sample(self, *shape, generator=None):
        """Return points uniform between the bounds, with a tail of exponential law where a bound is infinite."""
        u, like = _uniform(self, shape, generator)
        lower, upper = _full(self.lower, u).double(), _full(self.upper, u).double()
        tail = -torch.log1p(-u)
        x = torch.where(lower.isfinite(), lower + tail, upper - tail)
        x = torch.where(lower.isfinite() & upper.isfinite(), lower + u * (upper - lower), x)
        return torch.where(lower.isfinite() | upper.isfinite(), x, torch.logit(u)).to(like.dtype)


class Simplex(ConvexSet):
    """``{x : x >= 0, sum_i x_i = total}``.

    Projection: ``x_i = max(y_i - tau, 0)`` with the one tau that makes the sum right. Face: the support of x; its
    projector subtracts the mean over the support. ``total``: a number or a tensor (...), not negative; total 0 is {0}.
    Gradients flow to a tensor total. Raises InputError for a negative total.

    Source: Michelot 1986; Condat 2016.

    >>> import torch
    >>> Simplex(3, total=2.0).project(torch.tensor([1.0, 0.0, 5.0]))
    tensor([0., 0., 2.])
    """

    ranks: ClassVar[dict[str, int]] = {"total": 0}
    _may_overflow = False
    _required = ("total",)
    _shown = ("dim", "total")

    def __init__(self, dim: int, total: float | Tensor = 1.0):
        self.dim = _positive_dim(dim)
        self._keep(total=total)
        self._check_data()

    def _check_data(self) -> None:
        _nonnegative("total", self.total)

    def solve(self, y, *, tol=None, max_steps=None, element="lowest"):
        """Search tau."""
        if not self.names:
            check_finite(y)
        elif not bool(y.sum().isfinite() & _are_nonnegative(self.total)):
            raise_not_finite("y", y)
            _nonnegative("total", self.total)
        return _without_x(*threshold.simplex(y, self.total, element=element, max_steps=max_steps))

    def solve_traced(self, y, element):
        """Search tau, which sorts under ``torch.compile``."""
        return _in_full(*threshold.simplex(y, self.total, element=element)[:2])

    def face_project(self, x, v, active=None):
        """Subtract from v its mean over the support, and keep it there."""
        if active is None:
            support = x.sign()
            active = (support, support, support.sum(-1, keepdim=True).clamp(min=1))
        return threshold.face(v, _with_x(x, active))  # eq: eq-face-simplex

    def frame(self, x, active):
        """Return the support, tied by its sum."""
        return threshold.dense(_with_x(x, active), self.dim)

    def face_map(self, y, active):
        """Shift y on the support so that it sums to total."""
        free, row = active[:2]
        x = _row_map(y, free, torch.zeros_like(y), row, self.total)
        return _nan_if_bad(x, y, self.total)

    def data_gradient(self, y, x, v, active):
        """Return the mean of v over the support: what one more unit of total is worth."""
        return (_row_gradient(y, x, v, *threshold.dense(_with_x(x, active), self.dim))[0],)

    def violation(self, x):
        """Return the larger of the most negative entry and the error of the sum."""
        check_point(self, "x", x)
        x = x.double()
        return torch.maximum((-x).clamp(min=0).amax(-1), (x.sum(-1) - _double(self.total)).abs())

    def lmo(self, g):
        """Return total times the unit vector at the smallest entry of g."""
        check_point(self, "g", g)
        return _put_at(g.argmin(-1, keepdim=True), g, _column(self.total))  # eq: eq-lmo-simplex

    def scale(self, x):
        """Return total."""
        return _per_point(self.total, x)

    def tolerance(self, x):
        """Allow the rounding of total and of each entry of x."""
        return _rounding(x) * (self.scale(x) + x.double().abs().sum(-1))

    def sample(self, *shape, generator=None):
        """Return points uniform on the simplex."""
        u, like = _uniform(self, shape, generator)
        e = -torch.log1p(-u)
        return (e / e.sum(-1, keepdim=True) * _double(_column(self.total))).to(like.dtype)


class L1Ball(ConvexSet):
    """``{x : sum_i w_i |x_i| <= radius}``.

    Projection: x = y inside; else ``x_i = sign(y_i) max(|y_i| - tau w_i, 0)`` with the one tau that puts x on the
    sphere. Face: the support and signs of x. ``radius``: a number or a tensor (...), not negative; radius 0 is {0}.
    ``weights``: None (all 1), a number or a tensor (..., n), not negative; a weight 0 leaves its coordinate free (and
    its gradient is then the derivative from above). Gradients flow to tensor data. Raises InputError for a negative
    radius or weight.

    Source: Duchi and others 2008.

    >>> import torch
    >>> L1Ball(2).project(torch.tensor([2.0, -1.5]))
    tensor([ 0.7500, -0.2500])
    """

    ranks: ClassVar[dict[str, int]] = {"radius": 0, "weights": 1}
    _may_overflow = False
    _required = ("radius",)
    _shown = ("dim", "radius", "weights")

    def __init__(self, dim: int, radius: float | Tensor = 1.0, weights: float | Tensor | None = None):
        self.dim = _positive_dim(dim)
        self._keep(radius=radius, weights=weights)
        self._check_shapes()
        self._check_data()

    def _check_shapes(self) -> None:
        _common_dim(self.dim, weights=self.weights)

    def _check_data(self) -> None:
        _nonnegative("radius", self.radius)
        _nonnegative("weights", 1.0 if self.weights is None else self.weights)

    def solve(self, y, *, tol=None, max_steps=None, element="lowest"):
        """Search tau on |y|."""
        if not self.names:
            check_finite(y)
        elif not bool(y.sum().isfinite() & _are_nonnegative(*self.data().values())):
            raise_not_finite("y", y)
            self._check_data()
        if self.weights is None:
            return _without_x(*threshold.l1(y, self.radius, element=element, max_steps=max_steps))
        return self._solve_weighted(y, element, max_steps)

    def solve_traced(self, y, element):
        """Search tau, which sorts under ``torch.compile``."""
        if self.weights is None:
            return _in_full(*threshold.l1(y, self.radius, element=element)[:2])
        return self._solve_weighted(y, element)[:2]

    def _solve_weighted(self, y, element, max_steps=None):
        """Find tau by sorting the ratios |y_i| / w_i.

        Measured from the smallest ratio above tau, not from 0: where y is huge, tau and the ratios agree in all digits,
        and the point is their difference. Largest ratio first, ``used`` is the norm of the point at which tau meets
        each ratio; it grows by what the entries before it gain, so that no digits cancel.
        """
        size, w = y.abs().double(), _full(self.weights, y)
        radius = _per_point(self.radius, y).unsqueeze(-1)
        if torch.float64 in (y.dtype, w.dtype):  # squares of weights may overflow: a power of 2 scales them exactly
            _, power = torch.frexp(w.double().amax(-1, keepdim=True))
            unit = torch.exp2(-power.double().clamp(-1000, 1000))
            w, radius = w * unit, radius * unit
        w = w.double().expand(y.shape)
        ratio = size / w
        tight = ratio < math.inf  # not where w is 0
        ratio = torch.where(tight, ratio, -math.inf)
        norm = (w * size).sum(-1, keepdim=True)
        ranked, order = ratio.sort(-1, descending=True)
        weight = torch.where(tight, w, 0.0).square().gather(-1, order).cumsum(-1)
        steps = weight[..., :-1] * (ranked[..., :-1] - ranked[..., 1:])
        used = torch.nn.functional.pad(steps.cumsum(-1), (1, 0))

        def last(held):
            return (held.sum(-1, keepdim=True) - 1).clamp(min=0)

        place = last(used < radius)
        base = ranked.gather(-1, place)
        rest = (radius - used.gather(-1, place)) / weight.gather(-1, place).clamp(min=torch.finfo(w.dtype).tiny)
        z = torch.where(ratio >= base, w * (ratio - base + rest), 0.0)
        z, passes = torch.where(tight, torch.minimum(z, size), size), 0
        if max_steps is not None:  # a cap asks for a search by passes; where it ends in time, the sort is the answer
            low = torch.zeros_like(size)
            part, passes = _balance(size, w, low, low + math.inf, torch.minimum(radius, norm), max_steps)
            z = part if passes >= max_steps else z
        inside = norm < radius if element == "lowest" else (norm <= radius) & (norm > 0)
        x = torch.where(inside, y, z.clamp(min=0).to(y.dtype) * y.sign())  # eq: eq-l1-threshold
        above = x if element == "lowest" else y * (ratio >= ranked.gather(-1, last(used <= radius)))
        return x, (above.sign().masked_fill(inside, 0), inside), passes

    def _face(self, active):
        """Return the free coordinates, the row that ties them, and its signs."""
        if self.weights is None:
            return *active[:2], active[1]
        sign, inside = active
        w = _full(self.weights, sign)
        return torch.where(inside | (w == 0), 1.0, sign.abs()), sign * w, sign

    def _active(self, x):
        """Read the face off x: its zeros exactly, and the sphere up to rounding."""
        inside = self._norm(x) + self.tolerance(x).unsqueeze(-1) < _double(_column(self.radius))
        sign = x.sign().masked_fill(inside, 0)
        if self.weights is not None:
            return sign, inside
        return torch.where(inside, 1.0, sign.abs()), sign, sign.abs().sum(-1, keepdim=True).clamp(min=1)

    def _norm(self, x):
        size = x.double().abs()
        return (size if self.weights is None else size * _double(self.weights)).sum(-1, keepdim=True)

    def face_project(self, x, v, active=None):
        """Project v on the directions that keep the support, its signs and the norm; inside the ball, return v."""
        active = self._active(x) if active is None else active
        if self.weights is None:
            return threshold.face(v, _with_x(x, active))
        return _row_project(v, *self._face(active)[:2])  # eq: eq-face-l1

    def frame(self, x, active):
        """Return the support, tied by its signed weights; inside the ball, all coordinates and no row."""
        if self.weights is None:
            active = threshold.dense(_with_x(x, active), self.dim)
        return self._face(active)[:2]

    def face_map(self, y, active):
        """Move y along the signed weights of the face onto the sphere; inside the ball, return y."""
        free, row, _ = self._face(active)
        x = _nan_if_bad(_row_map(y, free, torch.zeros_like(y), row, self.radius), y, self.radius)
        return x if self.weights is None else _nan_if_bad(x, y, self.weights, 1)

    def data_gradient(self, y, x, v, active):
        """Return the gradients to radius and weights."""
        if self.weights is None:
            active = threshold.dense(_with_x(x, active), self.dim)
        free, row, sign = self._face(active)
        radius, weights = _row_gradient(y, x, v, free, row)
        grads = {"radius": radius, "weights": sign * weights}
        return tuple(grads[name] for name in self.names)

    def violation(self, x):
        """Return by how much the norm exceeds the radius, or 0."""
        check_point(self, "x", x)
        return (self._norm(x).squeeze(-1) - _double(self.radius)).clamp(min=0)

    def lmo(self, g):
        """Return the vertex -sign(g_j) radius / w_j e_j at the largest |g_j| / w_j.

        Raises InputError where a free coordinate has g_j != 0, naming the ray.
        """
        check_point(self, "g", g)
        radius, w = _column(self.radius), _full(1.0 if self.weights is None else self.weights, g)
        loose = (w == 0) & (g != 0)
        if truth(loose):
            index = first_index(loose)
            raise _endless("L1Ball", index[:-1], f"{'-' if g[index] > 0 else '+'}e_{index[-1]}", index)
        index = torch.where(w == 0, -1.0, g.abs() / w).argmax(-1, keepdim=True)
        w = w.expand(g.shape).gather(-1, index)
        step = torch.where(w == 0, 0.0, radius / w)
        return _put_at(index, g, torch.where(g.gather(-1, index) > 0, -step, step))

    def gap(self, y, x):
        """Return the certificate by the dual norm; a coordinate of weight 0 counts only where y - x is not 0."""
        check_point(self, "y", y)
        check_point(self, "x", x)
        x, w = x.double(), _full(1.0 if self.weights is None else self.weights, x).double()
        normal = y.double() - x
        dual = torch.where(normal == 0, 0.0, normal.abs() / w).amax(-1)
        return torch.where(dual == 0, 0.0, _double(self.radius) * dual) - (normal * x).sum(-1)

    def scale(self, x):
        """Return the radius."""
        return _per_point(self.radius, x)

    def tolerance(self, x):
        """Allow the rounding of the radius and of each entry of x."""
        return _rounding(x) * (self.scale(x) + self._norm(x).squeeze(-1))

    def sample(self, *shape, generator=None):
        """Return points inside the ball with no entry 0: of uniform law where all weights are equal."""
        u, like = _uniform(self, (*shape, 2), generator, extra=1)
        e = -torch.log1p(-u[..., 0, :])
        x = (e / e.sum(-1, keepdim=True))[..., :-1] * _double(_column(self.radius))
        w = _full(1.0 if self.weights is None else self.weights, x).double()
        x = x / torch.where(w == 0, 1.0, w)
        return torch.where(u[..., 1, :-1] < 0.5, -x, x).to(like.dtype)


class BoxBudget(ConvexSet):
    """``{x : lower <= x <= upper, sum_i a_i x_i = budget}``: the capped simplex and its friends.

    Projection: ``x_i = clip(y_i - mu a_i, lower_i, upper_i)`` with a mu that meets the budget. Face: the coordinates
    strictly between their bounds, tied by the row. ``lower``, ``upper``, ``weights``: numbers or tensors (..., n);
    bounds may be infinite, weights may have any sign or be 0. ``budget``: a number or a tensor (...). ``dim`` fixes n
    where no tensor does. Computed in float64. Gradients flow to tensor data; where no free coordinate has a weight,
    nothing is left to balance, and none flows to the budget. Raises InputError where the set is empty, naming the
    interval of budgets that can be met.

    >>> import torch
    >>> BoxBudget(0.0, 1.0, torch.ones(3), 2.0).project(torch.tensor([3.0, 0.5, 0.1]))
    tensor([1.0000, 0.7000, 0.3000])
    """

    ranks: ClassVar[dict[str, int]] = {"lower": 1, "upper": 1, "weights": 1, "budget": 0}
    _required = ("lower", "upper", "weights", "budget")
    _shown = ("lower", "upper", "weights", "budget")

    def __init__(
        self,
        lower: float | Tensor,
        upper: float | Tensor,
        weights: float | Tensor,
        budget: float | Tensor,
        *,
        dim: int | None = None,
    ):
        self._keep(lower=lower, upper=upper, weights=weights, budget=budget)
        self.dim = dim
        self._check_shapes()
        self._check_data()

    def _check_shapes(self) -> None:
        self.dim = _common_dim(self.dim, lower=self.lower, upper=self.upper, weights=self.weights)

    def _check_data(self) -> None:
        if len({t.device for t in self.data().values()}) > 1:
            return  # project says so, once there is an input to compare with
        self._check_numbers()
        if self.dim is not None:
            self._check_reach(_blank(self))

    def _check_values(self, y):
        """Raise if a datum is at fault or no point of the box meets the budget."""
        self._check_numbers()
        self._check_reach(y)

    def _check_numbers(self):
        _check_bounds(self.lower, self.upper)
        _finite("weights", self.weights)
        _finite("budget", self.budget)

    def _check_reach(self, y):
        a, lower, upper, c = self._doubles(y)
        ends = torch.stack([torch.where(a == 0, 0.0, a * lower), torch.where(a == 0, 0.0, a * upper)])
        least, most = ends.amin(0).sum(-1), ends.amax(0).sum(-1)
        slack = 4 * torch.finfo(y.dtype).eps * torch.where(ends.isfinite(), ends.abs(), 0.0).sum((0, -1))
        c = c.squeeze(-1)
        bad = (c < least - slack) | (c > most + slack)
        if truth(bad):
            index = first_index(bad)
            raise InputError(
                f"the set is empty: budget{list(index) or ''} is {float(c[index]):.6g}, but over the box "
                f"the weighted sum reaches only [{float(least[index]):.6g}, {float(most[index]):.6g}]; "
                "expected a budget in this interval; clamp a learned one to it",
                index=index,
                certificate=(float(least[index]), float(most[index])),
            )

    def _doubles(self, like):
        """Return weights, lower and upper of the shape of ``like``, and the budget as a column, in float64."""
        rows = [_full(t, like).double().expand(like.shape) for t in (self.weights, self.lower, self.upper)]
        return (*rows, _per_point(self.budget, like).unsqueeze(-1))

    def solve(self, y, *, tol=None, max_steps=None, element="lowest"):
        """Search mu; where that leaves the budget unmet, find out why."""
        a, lower, upper, c = self._doubles(y)
        z, steps = _balance(y.double(), a, lower, upper, c, max_steps)
        products = a * z.clamp(lower, upper)
        slack = 64 * torch.finfo(torch.float64).eps * (products.abs().sum(-1, keepdim=True) + c.abs())
        error = (products.sum(-1, keepdim=True) - c).abs()
        valid = y.sum().isfinite() & ((error <= slack) & c.isfinite()).all()
        if self.names:
            valid = valid & _bounds_hold(self.lower, self.upper)
        if not bool(valid):
            raise_not_finite("y", y)
            self._check_values(y)
        return (*self._land(y, z, lower, upper, element), steps)

    def solve_traced(self, y, element):
        """Search mu without the checks of values."""
        a, lower, upper, c = self._doubles(y)
        return self._land(y, _balance(y.double(), a, lower, upper, c)[0], lower, upper, element)

    def _land(self, y, z, lower, upper, element):
        return z.clamp(lower, upper).to(y.dtype), _held(z, lower, upper, element)  # eq: eq-budget-root

    def _face(self, active):
        low, high = active
        return (~(low | high)).double(), _full(self.weights, low.double()).double()

    def face_project(self, x, v, active=None):
        """Keep v on the free coordinates and take out its part along the weights there."""
        active = _held(x, self.lower, self.upper, "lowest") if active is None else active
        return _row_project(v.double(), *self._face(active)).to(v.dtype)  # eq: eq-face-budget

    def frame(self, x, active):
        """Return the free coordinates, tied by the weights."""
        free, a = self._face(active)
        return free.to(x.dtype), (free * a).to(x.dtype)

    def face_map(self, y, active):
        """Put the held coordinates on their bounds and balance the others along the weights."""
        low, high = active
        held = torch.where(low, self.lower, torch.where(high, self.upper, torch.zeros_like(y))).double()
        free, a = self._face(active)
        x = _row_map(y.double(), free, held, a, _double(self.budget))
        return self._nan_if_empty(x, y, a).to(y.dtype)

    def _nan_if_empty(self, x, y, a):
        """Under ``torch.compile`` put NaN where y is not finite or the budget is missed, as nothing can raise there."""
        if not torch.compiler.is_compiling():
            return x
        a, lower, upper, c = (t.detach() for t in self._doubles(y))
        least, most = (torch.where(a == 0, 0.0, a * t) for t in (lower, upper))
        least, most = torch.minimum(least, most), torch.maximum(least, most)
        slack = 64 * torch.finfo(y.dtype).eps * ((a * x.detach()).abs().sum(-1, keepdim=True) + c.abs())
        low, high = least.sum(-1, keepdim=True), most.sum(-1, keepdim=True)
        met = (c >= low - slack) & (c <= high + slack) & (lower <= upper).all(-1, keepdim=True)
        return torch.where(met & y.isfinite().all(-1, keepdim=True), x, math.nan)

    def data_gradient(self, y, x, v, active):
        """Return the gradients to the bounds, weights and budget."""
        low, high = active
        free, a = self._face(active)
        budget, weights = _row_gradient(y.double(), x.double(), v.double(), free, a)
        bound = v - (_column(budget) * a)
        grads = {"lower": bound * low, "upper": bound * (high & ~low), "weights": weights, "budget": budget}
        return tuple(grads[name].to(v.dtype) for name in self.names)

    def violation(self, x):
        """Return the largest of the bounds' violations and of |a.x - budget|."""
        check_point(self, "x", x)
        budget = ((x.double() * _double(self.weights)).sum(-1) - _double(self.budget)).abs()
        return torch.maximum(_outside(x, self.lower, self.upper), budget)  # eq: eq-violation

    def scale(self, x):
        """Return the largest of |budget| and the finite bounds in size."""
        return torch.maximum(_bound_size(self, x), _per_point(self.budget, x).abs())

    def tolerance(self, x):
        """Allow the rounding of the bounds, of the budget and of each product a_i x_i."""
        return _rounding(x) * (self.scale(x) + (x.double() * _double(self.weights)).abs().sum(-1))

    def lmo(self, g):
        """Return a vertex lowest along g: coordinates filled in the order of g_i / a_i, as in a fractional knapsack.

        Raises InputError where g falls without end, naming the ray.
        """
        check_point(self, "g", g)
        a = self._doubles(g)[0]
        return self._fill(g.double(), g.double() / a.masked_fill(a == 0, 1)).to(g.dtype)

    def _fill(self, g, ratio):
        """Minimise <g, x> where ``ratio`` is g / a; ties in it are the caller's word, not rounding's."""
        a, lower, upper, c = self._doubles(g)
        none = a == 0
        low, high = torch.minimum(a * lower, a * upper), torch.maximum(a * lower, a * upper)  # of t_i = a_i x_i
        loose = ~none & low.isinf() & high.isinf()
        place = torch.arange(g.shape[-1], device=g.device)
        # Of several coordinates without bounds one takes what is left, the others rest at 0; their ratios must agree.
        taker = loose & (torch.where(loose, 0, 1).argmin(-1, keepdim=True) == place)
        price = torch.where(taker, ratio, 0.0).sum(-1, keepdim=True)
        endless = (loose & (ratio != price)).any(-1, keepdim=True)
        still = none | (loose & ~taker)
        low, high = low.masked_fill(still, 0), high.masked_fill(still, 0)
        # Among equal ratios what has no lower end comes first, and what has no upper end last.
        order = (high.isinf().double() - low.isinf().double()).argsort(stable=True, dim=-1)
        order = order.gather(-1, ratio.gather(-1, order).argsort(stable=True, dim=-1))
        low_sorted, high_sorted = low.gather(-1, order), high.gather(-1, order)
        behind = low_sorted.flip(-1).cumsum(-1).flip(-1)
        after = torch.cat([behind[..., 1:], torch.zeros_like(behind[..., :1])], -1)
        reached = high_sorted.cumsum(-1) + after  # the sum once the first k are full; inf - inf where it has no end
        endless = endless | reached.isnan().any(-1, keepdim=True)
        apart = _corner(g, lower, upper)  # where the row does not look
        endless = endless.squeeze(-1) | (none & apart.isinf()).any(-1)
        if truth(endless):
            index = first_index(endless)
            raise _endless("BoxBudget", index, self._ray(g, ratio, index), index)
        k = (reached < c).sum(-1, keepdim=True).clamp(max=g.shape[-1] - 1)
        rest = c - torch.where(place < k, high_sorted, torch.where(place > k, low_sorted, 0.0)).sum(-1, keepdim=True)
        rank = order.argsort(-1)
        full = torch.where((rank < k) == (a > 0), upper, lower)
        x = torch.where(rank == k, (rest / a.masked_fill(none, 1)).clamp(lower, upper), full)
        return torch.where(none, apart, torch.where(still, 0.0, x))

    def _ray(self, g, ratio, index):
        a, lower, upper, _ = (t[index] for t in self._doubles(g))
        g, ratio = g[index], ratio[index]
        lonely = (a == 0) & _corner(g, lower, upper).isinf()
        if bool(lonely.any()):
            i = first_index(lonely)[0]
            return f"{'-' if g[i] > 0 else '+'}e_{i}"
        rises = torch.where(a > 0, upper, -lower).isinf() & (a != 0)
        falls = torch.where(a > 0, lower, -upper).isinf() & (a != 0)
        i, j = int(torch.where(rises, ratio, math.inf).argmin()), int(torch.where(falls, ratio, -math.inf).argmax())
        return f"{1 / float(a[i]):.4g} e_{i} + {-1 / float(a[j]):.4g} e_{j}"

    def gap(self, y, x):
        """Return the certificate; what differs from mu a by rounding alone is taken as mu a along infinite bounds."""
        check_point(self, "y", y)
        check_point(self, "x", x)
        a, lower, upper, _ = self._doubles(x)
        normal = y.double() - x.double()
        free = a * ((x > lower) & (x < upper))
        square = (free * free).sum(-1, keepdim=True)
        mu = (free * normal).sum(-1, keepdim=True) / square.masked_fill(square == 0, 1)
        noise = 16 * torch.finfo(x.dtype).eps * (y.double().abs() + x.double().abs() + (mu * a).abs())
        near = (normal - mu * a).abs() <= noise
        normal = torch.where(near & (lower.isinf() | upper.isinf()), mu * a, normal)
        ratio = torch.where(near, -mu, -normal / a.masked_fill(a == 0, 1))
        return (normal * (self._fill(-normal, ratio) - x.double())).sum(-1)

    def sample(self, *shape, generator=None):
        """Return points strictly between the bounds where the budget leaves room; far bounds replace infinite ones."""
        u, like = _uniform(self, shape, generator)
        a, lower, upper, c = self._doubles(u)
        sizes = torch.maximum(*(torch.where(t.isfinite(), t.abs(), 0.0) for t in (lower, upper)))
        least = torch.where((a != 0) & (lower.isinf() | upper.isinf()), a.abs(), math.inf).amin(-1, keepdim=True)
        width = 1 + 2 * (c.abs() + (a.abs() * sizes).sum(-1, keepdim=True)) / least
        low = torch.where(lower.isinf(), torch.where(upper.isinf(), 0.0, upper).clamp(max=0) - width, lower)
        high = torch.where(upper.isinf(), torch.where(lower.isinf(), 0.0, lower).clamp(min=0) + width, upper)
        start, end = torch.where(a > 0, low, high), torch.where(a > 0, high, low)
        first, last = (a * start).sum(-1, keepdim=True), (a * end).sum(-1, keepdim=True)
        share = ((c - first) / (last - first).masked_fill(last == first, 1)).clamp(0, 1)
        centre = start + torch.where(a == 0, 0.5, share) * (end - start)
        # Random directions in units of the room to either bound, made orthogonal to the row in those units.
        room = torch.minimum(centre - low, high - centre)
        step = _row_project(2 * u - 1, torch.ones_like(u), a * room)
        return (centre + 0.9 * room * step / step.abs().amax(-1, keepdim=True).clamp(min=1)).to(like.dtype)


class Affine(ConvexSet):
    """``{x : A x = b}``.

    Projection: ``x = y - A'(A A')^{-1}(A y - b)`` by one factor ``A' = Q R``, kept as long as A's contents stay the
    same, and one step of refinement; A A' itself is not formed, for its condition is the square of A's. Face: the whole
    set. ``A``: a tensor (..., p, n); ``b``: a number or a tensor (..., p). Computed in float64 with unit rows. Rows may
    depend on each other: a maximal independent subset is chosen by pivoting. Gradients flow to A and b; with dependent
    rows they are those of the chosen subset, which are right for every change that keeps the rows consistent. Raises
    InputError where dependent rows contradict each other (the set is empty); its ``certificate`` is a vector w with
    A'w = 0 and b.w != 0.

    >>> import torch
    >>> Affine(torch.tensor([[1.0, 1.0]]), torch.tensor([1.0])).project(torch.tensor([1.0, 1.0]))
    tensor([0.5000, 0.5000])
    """

    ranks: ClassVar[dict[str, int]] = {"A": 2, "b": 1}
    _required = ("A", "b")
    active_ranks: ClassVar[tuple[int, ...]] = (1, 2, 2)
    _shown = ("A", "b")

    def __init__(self, A: Tensor, b: float | Tensor):
        if not isinstance(A, Tensor):
            raise TypeError(f"A is a {type(A).__name__}: expected a torch tensor of shape (..., p, n)")
        self._keep(A=A, b=b)
        self._kept: dict[str, Any] = {}
        self._check_shapes()
        self._check_data()

    def _check_data(self) -> None:
        _finite("A", self.A)
        _finite("b", self.b)

    def _check_shapes(self) -> None:
        p, self.dim = self.A.shape[-2:]
        if isinstance(self.b, Tensor) and self.b.shape[-1] != p:
            raise InputError(
                f"b has shape {tuple(self.b.shape)}: expected a last dimension of {p}, one for each row of A"
            )

    def __getstate__(self):
        return {**self.__dict__, "_kept": {}}

    def _factor(self):
        """Return the independent rows, as a mask (..., p), and their factor: Q (..., n, p) and R (..., p, p).

        All are kept beside a copy of A and used again only while A equals that copy, so they cannot be stale.
        """
        A, kept = self.A.detach(), self._kept.get("A")
        fresh = kept is not None and kept.device == A.device and kept.dtype == A.dtype and torch.equal(kept, A)
        if not fresh:
            active = _row_factor(_unit_rows(A.double())[0])
            self._kept.update(A=A.clone(), active=active, independent=bool(active[0].all()))
        return self._kept["active"]

    def solve(self, y, *, tol=None, max_steps=None, element="lowest"):
        """Solve with the kept factor, refine once, and check the rows that the others determine."""
        b = torch.as_tensor(self.b)
        if not bool(y.sum().isfinite() & self.A.sum().isfinite() & b.sum().isfinite()):
            raise_not_finite("y", y)
            raise_not_finite("A", self.A)
            raise_not_finite("b", b)
        active = self._factor()
        x = self._onto(self._onto(y.double(), active), active)
        if not self._kept["independent"]:
            self._check_consistent(y, x, active, tol)
        return x.to(y.dtype), active, 0

    def solve_traced(self, y, element):
        """Choose the rows and factor, without reading a value on the host."""
        return None, _row_factor(_unit_rows(self.A.double())[0])

    def _onto(self, y, active):
        rows, length = _unit_rows(self.A.double())
        mask, Q, R = active
        excess = mask * (_times(rows, y) - _double(self.b) / length)
        return y - _times(Q, _triangular(R.mT, excess, upper=False))  # eq: eq-affine-projection

    def _check_consistent(self, y, x, active, tol):
        rows, length = _unit_rows(self.A.double())
        b = (_double(self.b) / length).expand(*x.shape[:-1], rows.shape[-2])
        error = _times(rows, x) - b
        if tol is None:
            allowed = 16 * _rounding(y) * (b.abs() + _size(x).unsqueeze(-1) + _size(y).unsqueeze(-1))
        else:
            allowed = tol * (1 + b.abs())
        bad = error.abs() > allowed
        if not bool(bad.any()):
            return
        *at, row = index = first_index(bad)
        shapes = ((rows, 2), (length, 1), *zip(active, self.active_ranks, strict=True))
        rows, length, mask, Q, R = (t.expand(*x.shape[:-1], *t.shape[-r:])[tuple(at)] for t, r in shapes)
        w = -(mask * _triangular(R, _times(Q.mT, rows[row]), upper=True))
        w[row] = 1
        raise InputError(
            f"the set is empty{f' at batch index {at}' if at else ''}: row {row} of A is a combination of other "
            f"rows, but b does not follow (off by {float(error[index].abs()):.1e}); the certificate w has "
            "A'w = 0 and b.w != 0; "
            "expected b in the range of A",
            index=index,
            certificate=w / length,
        )

    def face_project(self, x, v, active=None):
        """Take from v its part in the row space."""
        _, Q, _ = self._differentiable(self._factor() if active is None else active)
        w = v.double()
        return (w - _times(Q, _times(Q.mT, w))).to(v.dtype)  # eq: eq-face-affine

    def _differentiable(self, active):
        """Factor anew where a second derivative by A is recorded."""
        if self.A.requires_grad and torch.is_grad_enabled():
            return _factored(_unit_rows(self.A.double())[0], active[0])
        return active

    def face_map(self, y, active):
        """Project y with a factor that is differentiable in A."""
        return self._onto(y.double(), _factored(_unit_rows(self.A.double())[0], active[0])).to(y.dtype)

    def data_gradient(self, y, x, v, active):
        """Return the gradients to A and b; those of rows not chosen are 0."""
        length = _unit_rows(self.A.double())[1]
        mask, Q, R = self._differentiable(active)
        v, x, y = v.double(), x.double(), y.double()
        along, ell = _times(Q.mT, v), _times(Q.mT, y - x)
        eta, ell = (mask * _triangular(R, t, upper=True) / length for t in (along, ell))
        u = v - _times(Q, along)
        grads = {"A": -(_outer(ell, u) + _outer(eta, x)), "b": eta}  # eq: eq-data-cotangent
        return tuple(grads[name] for name in self.names)

    def violation(self, x):
        """Return the largest |A x - b|, rows as given."""
        check_point(self, "x", x)
        error = (_times(self.A.double(), x.double()) - _double(self.b)).abs()
        return error.amax(-1) if error.shape[-1] else error.sum(-1)

    def gap(self, y, x):
        """Return 0 where y - x lies in the row space up to rounding, and infinity elsewhere: the set has no end."""
        check_point(self, "y", y)
        check_point(self, "x", x)
        left = _size(self.face_project(x, y.double() - x.double()))
        return torch.where(left <= 16 * _rounding(x) * (_size(y) + _size(x)), 0.0, math.inf)

    def scale(self, x):
        """Return the largest |b|."""
        b = torch.as_tensor(self.b, dtype=torch.float64, device=x.device).abs()
        return (b.amax(-1) if b.dim() else b).expand(x.shape[:-1])

    def tolerance(self, x):
        """Allow the rounding of b and of each product A_ij x_j."""
        products = _times(self.A.double().abs(), x.double().abs())
        return _rounding(x) * (self.scale(x) + (products.amax(-1) if products.shape[-1] else products.sum(-1)))

    def lmo(self, g):
        """Return the point nearest to 0, where g is in the row space; raises InputError elsewhere, naming the ray."""
        check_point(self, "g", g)
        ray = -self.face_project(None, g.double())
        bad = _size(ray) > 16 * _rounding(g) * _size(g)
        if truth(bad):
            index = first_index(bad)
            raise _endless("Affine", index, str([round(t, 6) for t in ray[index].tolist()]), index)
        return self.project(torch.zeros_like(g)).detach()

    def sample(self, *shape, generator=None):
        """Return the projections of standard normal points."""
        y = torch.randn(*shape, self.dim, generator=generator, dtype=self.A.dtype, device=self.A.device)
        return self.project(y).detach()


# -- one row and held coordinates: the face of Simplex, L1Ball and BoxBudget
# -----------------------------------------------


def _row_project(v: Tensor, free: Tensor, a: Tensor) -> Tensor:
    """Project v on {d : d = 0 where not free, a.d = 0}; where a is 0 on all free coordinates there is no row."""
    a = a * free
    return free * v - a * _along(v, a)


def _along(v: Tensor, a: Tensor) -> Tensor:
    """Return (a.v) / (a.a), shape (..., 1); 0 where a is 0."""
    square = (a * a).sum(-1, keepdim=True)
    return (a * v).sum(-1, keepdim=True) / torch.where(square == 0, 1.0, square)


def _row_map(y: Tensor, free: Tensor, held: Tensor, a: Tensor, c: float | Tensor) -> Tensor:
    """Project y on {x : x = held where not free, a.x = c}, differentiable in y, held, a and c."""
    start = torch.where(free > 0, y, held)
    inside = a * free
    square = (inside * inside).sum(-1, keepdim=True)
    excess = torch.where(square == 0, 0.0, (a * start).sum(-1, keepdim=True) - _column(c))
    return start - inside * excess / torch.where(square == 0, 1.0, square)


def _nan_if_bad(x: Tensor, y: Tensor, size: float | Tensor, rank: int = 0) -> Tensor:
    """Under ``torch.compile`` put NaN where y or a datum is at fault: nothing can raise, but a loss guard sees it.

    The face of such a row is empty, and x would be a plausible 0.
    """
    if not torch.compiler.is_compiling():
        return x
    good = y.isfinite().all(-1, keepdim=True)
    if isinstance(size, Tensor):
        valid = (size >= 0) & size.isfinite()
        good = good & (valid.all(-1, keepdim=True) if rank else valid.unsqueeze(-1))
    return torch.where(good, x, math.nan)


def _row_gradient(y: Tensor, x: Tensor, v: Tensor, free: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients to c and a of the projection x of y with a.x = c, for the gradient v to x."""
    row = a * free
    eta, ell = _along(v, row), _along(y - x, row)
    u = free * v - row * eta
    return eta.squeeze(-1), -(ell * u + eta * x)


def _without_x(x: Tensor, support: tuple[Tensor, ...], passes: int) -> tuple[Tensor, Any, int]:
    """Leave x out of a face that is told by x and a count: the autograd rule keeps x already."""
    return x, support[1:] if support[0] is x else support, passes


def _with_x(x: Tensor, active: Any) -> tuple[Tensor, ...]:
    """Put x back, for ``threshold.face``."""
    active = active if isinstance(active, tuple) else (active,)
    return (x, *active) if len(active) == 1 else active


def _in_full(x: Tensor, support: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Tell a face by the mask of its free coordinates, its normal and their number."""
    free, row = threshold.dense(support, x.shape[-1])
    return x, (free, row, row.abs().sum(-1, keepdim=True).clamp(min=1))


# -- searches
# ---------------------------------------------------------------------------------------------------------------


def _balance(y, a, lower, upper, c, max_steps=None):
    """Return y - mu a, where sum_i a_i clip(y_i - mu a_i, lower_i, upper_i) = c, and the passes used.

    Float64, shapes (..., n), c (..., 1). The search is run again from its own answer, twice at most, which recovers the
    digits that a huge y costs; where the first answer was good it ends at once.
    """
    passes = 0
    for _ in range(3):
        if torch.compiler.is_compiling() or (y.device.type != "cpu" and max_steps is None):  # reads nothing on the host
            mu = _budget_by_sorting(y, a, lower, upper, c)
        else:
            limit = 30 if max_steps is None else min(30, max_steps - passes)
            mu, done, used = _budget_by_newton(y, a, lower, upper, c, limit)
            passes += used
            if used == 0:
                break
            if used == 30 and not bool(done.all()):
                mu = torch.where(done, mu, _budget_by_sorting(y, a, lower, upper, c))
        y = y - mu * a
    return y, passes


def _budget_by_newton(y, a, lower, upper, c, max_steps):
    """Newton's method on the falling function of mu, inside a bracket that halves where a step would leave it."""
    ends = _meetings(y, a, lower, upper, 0.0)
    low, high = ends.amin(-1, keepdim=True), ends.amax(-1, keepdim=True)
    mu, left, right = torch.zeros_like(c), torch.full_like(c, -math.inf), torch.full_like(c, math.inf)
    done = torch.zeros_like(c, dtype=torch.bool)
    for used in range(max_steps):
        slope, excess, noise = _budget_at(mu, y, a, lower, upper, c)
        done = excess.abs() <= noise
        if bool(done.all()):
            return mu, done, used
        left, right = torch.where(excess > 0, mu, left), torch.where(excess < 0, mu, right)
        newton = mu + excess / slope
        middle = (torch.maximum(left, low - 1) + torch.minimum(right, high + 1)) / 2
        mu = torch.where(done, mu, torch.where((newton > left) & (newton < right), newton, middle))
    return mu, done, max_steps


def _budget_by_sorting(y, a, lower, upper, c):
    """The same by halving the sorted meetings with the bounds, between which the function is linear."""
    ends = _meetings(y, a, lower, upper, math.inf).sort(-1).values
    most = ends.shape[-1]
    first = torch.full_like(c, -1, dtype=torch.int64)  # the last meeting known to lie left of the root
    last = torch.full_like(first, most)  # the first one known not to
    for _ in range((most + 1).bit_length()):
        middle = (first + last) // 2
        mu = ends.gather(-1, middle.clamp(0, most - 1))
        left = mu.isfinite() & (_budget_at(torch.where(mu.isfinite(), mu, 0.0), y, a, lower, upper, c)[1] > 0)
        wide = last - first > 1
        first, last = torch.where(wide & left, middle, first), torch.where(wide & ~left, middle, last)
    low = torch.where(first < 0, -math.inf, ends.gather(-1, first.clamp(min=0)))
    high = torch.where(last >= most, math.inf, ends.gather(-1, last.clamp(max=most - 1)))
    inner = torch.where(low.isfinite(), low + 1 + low.abs(), torch.where(high.isfinite(), high - 1 - high.abs(), 0.0))
    inner = torch.where(low.isfinite() & high.isfinite(), (low + high) / 2, inner)
    slope, excess, noise = _budget_at(inner, y, a, lower, upper, c)
    # Flat and off: the two meetings of one coordinate coincide in floating point, and the root hides between them.
    flat = torch.where(excess > noise, high, torch.where(excess < -noise, low, inner))
    return torch.where(slope > 0, inner + excess / torch.where(slope > 0, slope, 1.0), flat)


def _meetings(y, a, lower, upper, otherwise):
    """Return the values of mu at which a coordinate meets a bound, and ``otherwise`` where it never does."""
    safe = torch.where(a == 0, 1.0, a)
    ends = torch.cat([(y - lower) / safe, (y - upper) / safe], -1)
    return torch.where(torch.cat([a == 0, a == 0], -1) | ~ends.isfinite(), otherwise, ends)


def _budget_at(mu, y, a, lower, upper, c):
    """Return minus the slope of a.clip(y - mu a, lower, upper) - c at mu, its value, and the rounding in that."""
    z = y - mu * a
    terms = a * z.clamp(lower, upper)
    free = a * ((z > lower) & (z < upper))
    slope = (free * free).sum(-1, keepdim=True)
    sizes = terms.abs() + free.abs() * (y.abs() + (mu * a).abs())
    noise = 2 * torch.finfo(y.dtype).eps * (sizes.sum(-1, keepdim=True) + c.abs())
    return slope, terms.sum(-1, keepdim=True) - c, noise


# -- rows of A
# --------------------------------------------------------------------------------------------------------------


def _times(A: Tensor, x: Tensor) -> Tensor:
    """Multiply the matrices (..., p, n) with the vectors (..., n): one product where A has no batch."""
    return x @ A.mT if A.dim() == 2 else (A @ x.unsqueeze(-1)).squeeze(-1)


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return a.unsqueeze(-1) * b.unsqueeze(-2)


def _triangular(T: Tensor, r: Tensor, *, upper: bool) -> Tensor:
    """Solve T t = r for vectors r (..., p) and a triangular T (..., p, p): all at once where T has no batch."""
    if T.dim() == 2:
        return torch.linalg.solve_triangular(T, r.reshape(-1, r.shape[-1]).mT, upper=upper).mT.reshape(r.shape)
    return torch.linalg.solve_triangular(T, r.unsqueeze(-1), upper=upper).squeeze(-1)


def _unit_rows(A: Tensor) -> tuple[Tensor, Tensor]:
    """Divide each row by its norm (a zero row by 1), so that badly scaled rows weigh alike; return the norms too.

    The norms are constants of the derivative: a face does not change when its rows are rescaled.
    """
    largest = A.detach().abs().amax(-1, keepdim=True)
    largest = torch.where(largest == 0, 1.0, largest)
    length = largest * torch.linalg.vector_norm(A.detach() / largest, dim=-1, keepdim=True)
    length = torch.where(length == 0, 1.0, length)
    return A / length, length.squeeze(-1)


def _row_factor(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Choose a maximal independent subset of unit rows (..., p, n): its mask (..., p) and factor Q, R.

    Pivoted Gram-Schmidt: each time the row with the largest part outside the span of those chosen, until that is
    rounding.
    """
    p, n = rows.shape[-2:]
    rest = rows.detach()
    mask = torch.zeros(rows.shape[:-1], dtype=torch.bool, device=rows.device)
    floor = 64 * n * torch.finfo(rows.dtype).eps
    for _ in range(min(p, n)):
        length = torch.linalg.vector_norm(rest, dim=-1)
        pivot = length.argmax(-1, keepdim=True)
        longest = length.gather(-1, pivot)
        unit = rest.gather(-2, pivot.unsqueeze(-1).expand(*pivot.shape, n)) / longest.clamp(min=floor).unsqueeze(-1)
        mask = mask | ((torch.arange(p, device=rows.device) == pivot) & (longest > floor))
        for _ in range(2):  # one pass loses digits on rows that nearly agree
            rest = rest - (rest @ unit.mT) * unit
        rest = rest.masked_fill(mask.unsqueeze(-1), 0)
    return _factored(rows, mask)


def _factored(rows: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mask, Q (..., n, p) and R (..., p, p): the chosen rows are Q R transposed, Q has orthonormal columns.

    A row that was not chosen is replaced by a direction outside R^n, where it meets no other: its column of Q is 0.
    """
    outside = torch.diag_embed((~mask).to(rows.dtype))
    Q, R = torch.linalg.qr(torch.cat([(rows * mask.unsqueeze(-1)).mT, outside], -2))
    return mask, Q[..., : rows.shape[-1], :], R


# -- data: numbers and tensors
# ----------------------------------------------------------------------------------------------


def _full(value: float | Tensor, like: Tensor) -> Tensor:
    """Return a datum as a tensor: a number in the shape of ``like``, a tensor as it is."""
    return value if isinstance(value, Tensor) else torch.full_like(like, value)


def _column(value: float | Tensor) -> float | Tensor:
    """Give a datum per sample a last dimension, so that it broadcasts against rows."""
    return value.unsqueeze(-1) if isinstance(value, Tensor) else value


def _double(value: float | Tensor) -> float | Tensor:
    return value.double() if isinstance(value, Tensor) else value


def _per_point(value: float | Tensor, x: Tensor) -> Tensor:
    """Return a datum per sample in float64 and in the batch shape of x."""
    return torch.as_tensor(value, dtype=torch.float64, device=x.device).expand(x.shape[:-1])


def _blank(convex_set: ConvexSet) -> Tensor:
    """Return zeros that have the dtype, device and batch shape of a set's tensors."""
    data = convex_set.data()
    batch = torch.broadcast_shapes(*(t.shape[: t.dim() - convex_set.ranks[name]] for name, t in data.items()))
    return next(iter(data.values()), torch.empty(0)).detach().new_zeros(*batch, convex_set.dim)


def _uniform(convex_set: ConvexSet, shape: tuple[int, ...], generator: Any, extra: int = 0) -> tuple[Tensor, Tensor]:
    """Return float64 numbers inside (0, 1), shape (*shape, n + extra), and a tensor of the answer's dtype."""
    like = next(iter(convex_set.data().values()), torch.empty(0)).detach()
    if convex_set.dim is None:
        raise InputError(f"{convex_set!r} fits any dimension: give a bound as a tensor, or dim=n")
    shape = (*shape, convex_set.dim + extra)
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=like.device).clamp(1e-9, 1 - 1e-9), like


def _positive_dim(dim: int) -> int:
    if isinstance(dim, bool) or not isinstance(dim, int):
        raise TypeError(f"dim is a {type(dim).__name__}: expected an integer, the length of the last dimension")
    if dim < 1:
        raise InputError(f"dim is {dim}: expected at least 1")
    return dim


def _common_dim(dim: int | None, **data: float | Tensor | None) -> int | None:
    """Return the last dimension on which the tensor data agree, or raise naming the one that does not."""
    for name, value in data.items():
        if isinstance(value, Tensor):
            if dim is not None and value.shape[-1] != dim:
                raise InputError(f"{name} has shape {tuple(value.shape)}: expected a last dimension of {dim}")
            dim = value.shape[-1]
    return dim


def _require(bad: Tensor, name: str, value: float | Tensor, expected: str) -> None:
    """Raise the error that names a datum, its first entry at fault, and what was expected."""
    if truth(bad):
        index = first_index(bad)
        value = value.expand(bad.shape)[index].item() if isinstance(value, Tensor) else value
        raise InputError(f"{name}{list(index) or ''} is {value:.6g}: expected {expected}", index=index)


def _finite(name: str, value: float | Tensor) -> None:
    _require(~torch.isfinite(torch.as_tensor(value)), name, value, "a finite number")


def _are_nonnegative(*data: Tensor) -> Tensor:
    return torch.stack([((t >= 0) & torch.isfinite(t)).all() for t in data]).all()


def _nonnegative(name: str, value: float | Tensor) -> None:
    if not isinstance(value, Tensor) and 0 <= value < math.inf:
        return
    t = torch.as_tensor(value)
    remedy = "; a network's output becomes one by softplus" if t.requires_grad or t.dim() else ""
    _require(~((t >= 0) & torch.isfinite(t)), name, value, f"a finite number that is not negative{remedy}")


# -- bounds
# -----------------------------------------------------------------------------------------------------------------


def _clip(y: Tensor, lower: float | Tensor, upper: float | Tensor) -> Tensor:
    if isinstance(lower, Tensor) == isinstance(upper, Tensor):
        return y.clamp(lower, upper)
    return y.clamp(min=lower).clamp(max=upper)


def _held(y: Tensor, lower: float | Tensor, upper: float | Tensor, element: str) -> tuple[Tensor, Tensor]:
    """Say which coordinates a lower bound holds, and which an upper one.

    The lowest element counts a bound that is just met; the highest does not, unless the two bounds leave no room at
    all.
    """
    if element == "lowest":
        return y <= lower, y >= upper
    closed = torch.as_tensor(lower == upper, device=y.device)
    return (y < lower) | (closed & (y <= lower)), (y > upper) | (closed & (y >= upper))


def _bounds_hold(lower: float | Tensor, upper: float | Tensor) -> Tensor:
    """Tell whether lower <= upper, lower < inf and upper > -inf everywhere; NaN never is."""
    return ~_bad_bounds(lower, upper).any()


def _bad_bounds(lower: float | Tensor, upper: float | Tensor) -> Tensor:
    given = next((t for t in (lower, upper) if isinstance(t, Tensor)), torch.empty(0))
    lower, upper = (torch.as_tensor(t, device=given.device) for t in (lower, upper))
    return ~(lower <= upper) | (lower == math.inf) | (upper == -math.inf)


def _check_bounds(lower: float | Tensor, upper: float | Tensor) -> None:
    """Raise naming the first index at which the bounds leave no number between them."""
    tensors = [t for t in (lower, upper) if isinstance(t, Tensor)]
    if len({t.device for t in tensors}) > 1:
        return  # project says so, once there is an input to compare with
    bad = _bad_bounds(lower, upper)
    if truth(bad):
        other = torch.as_tensor(upper).expand(bad.shape)[first_index(bad)].item()
        _require(bad, "lower", lower, f"a number that is at most upper, which is {other:.6g} there")


def _outside(x: Tensor, lower: float | Tensor, upper: float | Tensor) -> Tensor:
    """Return the largest violation of the bounds per point, in float64."""
    x = x.double()
    worst = torch.maximum(_double(lower) - x, x - _double(upper)).clamp(min=0)
    return worst.amax(-1) if x.shape[-1] else worst.sum(-1)


def _corner(g: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return the corner lowest along g; where g is 0 a bound that is finite, or 0."""
    idle = torch.where(lower.isfinite(), lower, torch.where(upper.isfinite(), upper, 0.0))
    return torch.where(g > 0, lower, torch.where(g < 0, upper, idle))


def _endless(name: str, at: tuple[int, ...], ray: str, index: tuple[int, ...]) -> InputError:
    where = f" at batch index {list(at)}" if at else ""
    return InputError(
        f"the linear problem over {name} is unbounded{where}: it falls without end along {ray}; "
        "expected a g that no direction of the set lets fall",
        index=index,
    )


# -- sizes
# ------------------------------------------------------------------------------------------------------------------


def _size(x: Tensor) -> Tensor:
    """Return the largest |x_i| per point, in float64."""
    return x.double().abs().amax(-1) if x.shape[-1] else x.double().sum(-1)


def _bound_size(convex_set: Box | BoxBudget, x: Tensor) -> Tensor:
    """Return the largest finite bound in size, per point."""
    ends = [_full(t, x) for t in (convex_set.lower, convex_set.upper)]
    sizes = [_size(torch.where(t.isfinite(), t, 0.0)) for t in ends]
    return torch.maximum(*sizes).expand(x.shape[:-1])


def _rounding(x: Tensor) -> float:
    """Return the relative error that a sum over a row of x may carry."""
    return 4 * torch.finfo(x.dtype).eps * math.sqrt(max(x.shape[-1], 1))


def _put_at(index: Tensor, like: Tensor, value: float | Tensor) -> Tensor:
    """Return zeros with one value per row, at ``index``."""
    return torch.where(torch.arange(like.shape[-1], device=like.device) == index, value, torch.zeros_like(like))
