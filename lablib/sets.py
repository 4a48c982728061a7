"""The constraint sets with a closed form: Box, Simplex, L1Ball, BoxBudget, Affine.

What a constraint is here: an object with two oracles and one ruler,

    ``project(y)``    argmin_{x in s} 1/2 |x - y|^2     the nearest point,
    ``lmo(g)``        argmin_{v in s} <g, v>            the lowest vertex,
    ``violation(x)``  how far outside x is              the ruler.

The contract behind ``project`` stands at the top of ``projection.py``. Three of the sets share one shape of face: some coordinates are
held, and one row a.x = c ties the others. Its projector is written once, in :func:`one_row_project`.

Leading dimensions are batch dimensions, the last one is n. A datum is a number or a tensor; a tensor may carry batch dimensions of its
own (radius (B,), bounds (B, n), A (B, p, n)) which broadcast against those of y.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from .projection import ConvexSet, _flag, check_finite, raise_not_finite
from .solution import InputError, first_index

__all__ = ["Affine", "Box", "BoxBudget", "L1Ball", "Simplex"]


def column(value: float | Tensor) -> float | Tensor:
    """Give a datum per sample a last dimension, so that it broadcasts against rows; numbers stay.

    >>> import torch
    >>> column(torch.ones(5)).shape, column(2.0)
    (torch.Size([5, 1]), 2.0)
    """
    return value.unsqueeze(-1) if isinstance(value, Tensor) else value


def double(value: float | Tensor) -> float | Tensor:
    """Return a datum in float64; numbers are already.

    >>> import torch
    >>> double(torch.ones(1)).dtype
    torch.float64
    """
    return value.double() if isinstance(value, Tensor) else value


def require(bad: bool | Tensor, name: str, value: Any, expected: str) -> None:
    """Raise the error that names a datum, the first entry where ``bad`` is true, and what was expected.

    >>> require(True, "radius", -1.0, "a number that is not negative")
    Traceback (most recent call last):
        ...
    lablib.solution.InputError: radius is -1.0: expected a number that is not negative
    """
    if isinstance(bad, Tensor):
        if not _flag(bad):
            return
        index = first_index(bad)
        if isinstance(value, Tensor):
            value = value.expand(bad.shape)[index].item()
        where = list(index) if index else ""
        raise InputError(f"{name}{where} is {value}: expected {expected}", index=index)
    if bad:
        raise InputError(f"{name} is {value}: expected {expected}")


def nonnegative(name: str, value: float | Tensor) -> None:
    """Raise unless a datum is finite and not negative.

    >>> nonnegative("total", 1.0)
    """
    if isinstance(value, Tensor):
        require(~((value >= 0) & torch.isfinite(value)), name, value, "a finite number that is not negative")
    else:
        require(not 0 <= value < math.inf, name, value, "a finite number that is not negative")


def one_row_project(v: Tensor, free: Tensor, a: Tensor) -> Tensor:
    """Project v on {d : d = 0 where not free, a.d = 0}.

    Method: what is not free becomes 0, then the part along a goes; where a is 0 on the free coordinates there is no row. Computed in
    the dtype of ``a``. Shapes: all (..., n).

    >>> import torch
    >>> one_row_project(torch.tensor([3.0, 1.0, 5.0]), torch.tensor([1.0, 1.0, 0.0]), torch.ones(3))
    tensor([ 1., -1.,  0.])
    """
    a = a * free
    square = (a * a).sum(-1, keepdim=True)
    share = (a * v).sum(-1, keepdim=True) / square.masked_fill(square == 0, 1)
    return free * v - a * share


def one_row_map(y: Tensor, free: Tensor, held: Tensor, a: Tensor, c: float | Tensor) -> Tensor:
    """Project y on {x : x = held where not free, a.x = c}, differentiable in y, held, a and c.

    The same face as :func:`one_row_project`, as an affine set. ``held`` counts only where ``free`` is 0.

    >>> import torch
    >>> one_row_map(torch.tensor([3.0, 1.0]), torch.ones(2), torch.zeros(2), torch.ones(2), 2.0)
    tensor([2., 0.])
    """
    start = free * y + (1 - free) * held
    inside = a * free
    square = (inside * inside).sum(-1, keepdim=True)
    excess = ((a * start).sum(-1, keepdim=True) - column(c)) * (square > 0)
    return start - inside * excess / square.masked_fill(square == 0, 1)


class Box(ConvexSet):
    """``{x : lower <= x <= upper}``, infinities allowed.

    Projection: clip. Face: the coordinates strictly between their bounds. ``lower``, ``upper``: numbers, or tensors (..., n). With
    two numbers any n will do, unless ``dim`` fixes it. Gradients flow to tensor bounds (to ``lower`` where both hold).
    Raises InputError where lower > upper, naming the index.

    >>> import torch
    >>> Box(0.0, 1.0).project(torch.tensor([-1.0, 0.5, 7.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """

    ranks: ClassVar[dict[str, int]] = {"lower": 1, "upper": 1}
    _shown = ("lower", "upper")

    def __init__(self, lower: float | Tensor, upper: float | Tensor, *, dim: int | None = None):
        self._keep(lower=lower, upper=upper)
        self.dim = dim
        self._check_shapes()
        check_bounds(self.lower, self.upper)

    def _check_shapes(self) -> None:
        self.dim = common_dim(self.dim, lower=self.lower, upper=self.upper)

    def solve(self, y, *, tol=None, max_steps=None, element="lowest"):
        """Clip."""
        check_finite("y", y)
        if self.names:
            check_bounds(self.lower, self.upper)
        x, active = self.solve_traced(y, element)
        return x, active, 0

    def solve_traced(self, y, element):
        """Clip, and say which bounds hold."""
        lower, upper = self.lower, self.upper
        if element == "lowest":
            active = (y <= lower, y >= upper)
        else:  # a bound met exactly is not needed, unless it leaves no room at all
            tied = torch.as_tensor(lower == upper, device=y.device)
            active = ((y < lower) | (tied & (y <= lower)), (y > upper) | (tied & (y >= upper)))
        return clip(y, lower, upper), active  # eq: eq-box-projection

    def face_project(self, x, v, active=None):
        """Keep v where no bound holds."""
        low, high = (x <= self.lower, x >= self.upper) if active is None else active
        return v.masked_fill(low | high, 0)  # eq: eq-face-box

    def face_map(self, y, active):
        """Put the held coordinates on their bounds."""
        low, high = active
        return torch.where(low, self.lower, torch.where(high, self.upper, y)).to(y.dtype)

    def violation(self, x):
        """Return the largest of lower - x and x - upper, or 0."""
        x = x.double()
        outside = torch.maximum(double(self.lower) - x, x - double(self.upper))
        return outside.clamp(min=0).amax(-1) if x.shape[-1] else outside.sum(-1)

    def lmo(self, g):
        """Return the corner lowest along g; where g is 0, the lower bound (the upper one, or 0, where that is infinite)."""
        lower, upper = full(self.lower, g), full(self.upper, g)
        corner = torch.where(g > 0, lower, upper)
        idle = torch.where(torch.isfinite(lower), lower, torch.where(torch.isfinite(upper), upper, torch.zeros_like(g)))
        corner = torch.where(g == 0, idle, corner)
        ray_error(torch.isinf(corner), g, "Box")
        return corner

    def gap(self, y, x):
        """Return the certificate, coordinate by coordinate; an infinite bound counts only where y - x is not 0."""
        x = x.double()
        normal = y.double() - x
        end = torch.where(normal > 0, full(self.upper, x), full(self.lower, x).double())
        return torch.where(normal == 0, 0.0, normal * (end - x)).sum(-1)

    def scale(self, x):
        """Return the largest finite bound in size."""
        return finite_size(full(self.lower, x), full(self.upper, x))

    def tolerance(self, x):
        """Allow the rounding of the bounds and of x."""
        return 4 * torch.finfo(x.dtype).eps * (self.scale(x) + size(x))

    def sample(self, *shape, generator=None):
        """Return points uniform between the bounds, with tails of exponential law where a bound is infinite."""
        n = known_dim(self)
        like = next(iter(self.data().values()), torch.empty(0))
        u = torch.rand(*shape, n, generator=generator, dtype=torch.float64, device=like.device)
        lower, upper = full(self.lower, u).double(), full(self.upper, u).double()
        low, high = torch.isfinite(lower), torch.isfinite(upper)
        tail = -torch.log1p(-u)
        x = torch.where(low & high, lower + u * (upper - lower), torch.where(low, lower + tail, upper - tail))
        return torch.where(low | high, x, torch.logit(u.clamp(1e-9, 1 - 1e-9))).to(like.dtype)


class Simplex(ConvexSet):
    """``{x : x >= 0, sum_i x_i = total}``.

    Projection: ``x_i = max(y_i - tau, 0)`` with the one tau that makes the sum right. Face: the support of x; its projector subtracts
    the mean over the support. ``total``: a number or a tensor (...), not negative; total 0 is {0}. Gradients flow to a tensor total.

    Source: Michelot 1986; Condat 2016.

    >>> import torch
    >>> Simplex(3, total=2.0).project(torch.tensor([1.0, 0.0, 5.0]))
    tensor([0., 0., 2.])
    """

    ranks: ClassVar[dict[str, int]] = {"total": 0}
    _shown = ("dim", "total")

    def __init__(self, dim: int, total: float | Tensor = 1.0):
        self.dim = positive_dim(dim)
        self._keep(total=total)
        nonnegative("total", self.total)

    def solve(self, y, *, tol=None, max_steps=None, element="lowest"):
        """Search tau by Newton's method from below."""
        check_finite("y", y)
        if self.names:
            nonnegative("total", self.total)
        z = y - y.amax(-1, keepdim=True)  # exact near the top, so that huge entries cost no digits
        tau, steps = newton_threshold(z, column(self.total), max_steps)
        return (*self._cut(z, tau, element), steps)

    def solve_traced(self, y, element):
        """Search tau by sorting, which needs no decision on the host."""
        z = y - y.amax(-1, keepdim=True)
        return self._cut(z, sorted_threshold(z, column(self.total)), element)

    def _cut(self, z, tau, element):
        high = tau.to(z.dtype)  # tau in two parts: its rounding to float32 would be shared by all entries
        x = ((z - high) - (tau - high).to(z.dtype)).clamp(min=0)  # eq: eq-simplex-threshold
        support = x.sign() if element == "lowest" else (z >= tau).to(z.dtype)
        return x, support

    def face_project(self, x, v, active=None):
        """Subtract from v its mean over the support, and keep it there."""
        support = x.sign() if active is None else active
        count = support.sum(-1, keepdim=True).clamp(min=1)
        return support * (v - (support * v).sum(-1, keepdim=True) / count)  # eq: eq-face-simplex

    def face_map(self, y, active):
        """Shift y on the support so that it sums to total."""
        count = active.sum(-1, keepdim=True)
        shift = ((active * y).sum(-1, keepdim=True) - column(self.total)) / count.clamp(min=1)
        return active * (y - shift)

    def violation(self, x):
        """Return the larger of the most negative entry and the error of the sum."""
        x = x.double()
        return torch.maximum((-x).clamp(min=0).amax(-1), (x.sum(-1) - double(self.total)).abs())

    def lmo(self, g):
        """Return total times the unit vector at the smallest entry of g."""
        return put_at(g.argmin(-1, keepdim=True), g, column(self.total))  # eq: eq-lmo-simplex

    def scale(self, x):
        """Return total."""
        return torch.as_tensor(self.total, dtype=torch.float64, device=x.device).expand(x.shape[:-1])

    def tolerance(self, x):
        """Allow the rounding of total and of each entry of x."""
        return rounding(x) * (self.scale(x) + x.double().abs().sum(-1))

    def sample(self, *shape, generator=None):
        """Return points uniform on the simplex."""
        total = column(self.total)
        like = total if isinstance(total, Tensor) else torch.empty(0)
        u = torch.rand(*shape, self.dim, generator=generator, dtype=torch.float64, device=like.device)
        e = -torch.log1p(-u) + 1e-9
        return (e / e.sum(-1, keepdim=True) * double(total)).to(like.dtype)


class L1Ball(ConvexSet):
    """``{x : sum_i w_i |x_i| <= radius}``.

    Projection: x = y inside; else ``x_i = sign(y_i) max(|y_i| - tau w_i, 0)`` with the one tau that puts x on the sphere. Face: the
    support and signs of x. ``radius``: a number or a tensor (...), not negative; radius 0 is {0}. ``weights``: None (all 1), a number
    or a tensor (..., n), not negative; a weight 0 leaves its coordinate free. Gradients flow to tensor data.

    Source: Duchi and others 2008.

    >>> import torch
    >>> L1Ball(2).project(torch.tensor([2.0, -1.5]))
    tensor([ 0.7500, -0.2500])
    """

    ranks: ClassVar[dict[str, int]] = {"radius": 0, "weights": 1}
    _shown = ("dim", "radius", "weights")

    def __init__(self, dim: int, radius: float | Tensor = 1.0, weights: float | Tensor | None = None):
        self.dim = positive_dim(dim)
        self._keep(radius=radius, weights=weights)
        self._check_shapes()
        self._check_values()

    def _check_shapes(self) -> None:
        common_dim(self.dim, weights=self.weights)

    def _check_values(self):
        nonnegative("radius", self.radius)
        if self.weights is not None:
            nonnegative("weights", self.weights)

    def solve(self, y, *, tol=None, max_steps=None, element="lowest"):
        """Search tau on |y|."""
        check_finite("y", y)
        if self.names:
            self._check_values()
        return self._solve(y, max_steps, element, newton_threshold)

    def solve_traced(self, y, element):
        """Search tau on |y| by sorting."""
        return self._solve(y, None, element, lambda z, total, _: (sorted_threshold(z, total), 0))[:2]

    def _solve(self, y, max_steps, element, threshold):
        size_y = y.abs()
        radius = column(self.radius)
        if self.weights is None:
            top = size_y.amax(-1, keepdim=True)
            norm = size_y.sum(-1, keepdim=True, dtype=torch.float64)
            z = size_y - top
            tau, steps = threshold(z, radius, max_steps)
            high = tau.to(z.dtype)
            cut = ((z - high) - (tau - high).to(z.dtype)).clamp(min=0)
            weak = z >= tau
        else:
            w = full(self.weights, y).double()
            norm = (w * size_y).sum(-1, keepdim=True)
            z, steps = clip_search(size_y.double(), w, 0.0, math.inf, double(radius), max_steps)
            cut = z.clamp(min=0).to(y.dtype)
            weak = z >= 0
        inside = norm < radius if element == "lowest" else (norm <= radius) & (torch.as_tensor(radius, device=y.device) > 0)
        x = torch.where(inside, y, cut * y.sign())  # eq: eq-l1-threshold
        sign = x.sign() if element == "lowest" else y.sign() * weak
        return x, (sign.masked_fill(inside, 0), inside), steps

    def _face(self, x, active):
        """Return the free coordinates and the row that ties them."""
        if active is None:
            norm = self._norm(x)
            inside = norm < double(column(self.radius))
            active = (x.sign().masked_fill(inside, 0), inside)
        sign, inside = active
        free = sign.abs() + inside
        if self.weights is None:
            return free, sign
        w = full(self.weights, sign)
        return torch.where(w == 0, torch.ones_like(free), free), sign * w

    def _norm(self, x):
        size_x = x.double().abs()
        return (size_x if self.weights is None else size_x * double(self.weights)).sum(-1, keepdim=True)

    def face_project(self, x, v, active=None):
        """Project v on the directions that keep the support, its signs and the norm; inside the ball, return v."""
        return one_row_project(v, *self._face(x, active))  # eq: eq-face-l1

    def face_map(self, y, active):
        """Move y along the signed weights of the face onto the sphere; inside the ball, return y."""
        free, a = self._face(None, active)
        return one_row_map(y, free, torch.zeros_like(y), a, self.radius)

    def violation(self, x):
        """Return by how much the norm exceeds the radius, or 0."""
        return (self._norm(x).squeeze(-1) - double(self.radius)).clamp(min=0)

    def lmo(self, g):
        """Return the vertex -sign(g_j) radius / w_j e_j at the largest |g_j| / w_j; raises where a free coordinate has g_j != 0."""
        if self.weights is None:
            score, step = g.abs(), column(self.radius)
        else:
            w = full(self.weights, g)
            ray_error((w == 0) & (g != 0), g, "L1Ball")
            score = torch.where(w == 0, -1.0, g.abs() / w)
            step = column(self.radius) / torch.where(w == 0, math.inf, w)
        index = score.argmax(-1, keepdim=True)
        if isinstance(step, Tensor) and step.shape[-1] > 1:
            step = step.expand(g.shape).gather(-1, index)
        return put_at(index, g, torch.where(g.gather(-1, index) > 0, -1.0, 1.0).to(g.dtype) * step)

    def gap(self, y, x):
        """Return the certificate; the free coordinates count only by |y - x| itself."""
        normal = y.double() - x.double()
        inner = (normal * x.double()).sum(-1)
        if self.weights is None:
            return double(self.radius) * normal.abs().amax(-1) - inner
        w = full(self.weights, x).double()
        dual = torch.where(w == 0, 0.0, normal.abs() / w).amax(-1)
        loose = torch.where((w == 0) & (normal != 0), math.inf, 0.0).sum(-1)
        return double(self.radius) * dual + loose - inner

    def scale(self, x):
        """Return the radius."""
        return torch.as_tensor(self.radius, dtype=torch.float64, device=x.device).expand(x.shape[:-1])

    def tolerance(self, x):
        """Allow the rounding of the radius and of each entry of x."""
        return rounding(x) * (self.scale(x) + self._norm(x).squeeze(-1))

    def sample(self, *shape, generator=None):
        """Return points inside the ball with no entry 0."""
        radius, weights = column(self.radius), self.weights
        like = next(iter(self.data().values()), torch.empty(0))
        u = torch.rand(*shape, self.dim + 1, 2, generator=generator, dtype=torch.float64, device=like.device)
        e = -torch.log1p(-u[..., 0]) + 1e-9
        x = (e / e.sum(-1, keepdim=True))[..., :-1] * double(radius) * torch.where(u[..., :-1, 1] < 0.5, -1.0, 1.0)
        if weights is not None:
            w = full(weights, x).double()
            x = x / torch.where(w == 0, 1.0, w)
        return x.to(like.dtype)


class BoxBudget(ConvexSet):
    """``{x : lower <= x <= upper, sum_i a_i x_i = budget}``: the capped simplex and its friends.

    Projection: ``x_i = clip(y_i - mu a_i, lower_i, upper_i)`` with a mu that meets the budget. Face: the coordinates strictly between
    their bounds, tied by the row. ``lower``, ``upper``, ``weights``: numbers or tensors (..., n), bounds may be infinite, weights may
    have any sign or be 0; ``budget``: a number or a tensor (...). ``dim`` is needed where all but the budget are numbers.
    Computed in float64. Gradients flow to tensor data; where no free coordinate has a weight, none flows to the budget.
    Raises InputError where the set is empty, naming the interval of budgets that can be met.

    >>> import torch
    >>> BoxBudget(0.0, 1.0, torch.ones(3), 2.0).project(torch.tensor([3.0, 0.5, 0.1]))
    tensor([1.0000, 0.7000, 0.3000])
    """

    ranks: ClassVar[dict[str, int]] = {"lower": 1, "upper": 1, "weights": 1, "budget": 0}
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
        self._check_values(None)

    def _check_shapes(self) -> None:
        self.dim = common_dim(self.dim, lower=self.lower, upper=self.upper, weights=self.weights)

    def _check_values(self, y):
        check_bounds(self.lower, self.upper)
        for name in ("weights", "budget"):
            value = getattr(self, name)
            bad = ~torch.isfinite(value) if isinstance(value, Tensor) else not math.isfinite(value)
            require(bad, name, value, "a finite number")
        if y is None:
            if self.dim is None:
                return
            y = next(iter(self.data().values()), torch.empty(0))
            y = y.new_zeros(self.dim)
        lowest, highest, slack = self._reach(y)
        budget = torch.as_tensor(self.budget, dtype=torch.float64, device=y.device)
        bad = (budget < lowest - slack) | (budget > highest + slack)
        if _flag(bad):
            index = first_index(bad)
            at = [float(t.expand(bad.shape)[index]) for t in (budget, lowest, highest)]
            where = list(index) if index else ""
            raise InputError(
                f"the set is empty: budget{where} is {at[0]:.6g}, but over the box the weighted sum reaches only "
                f"[{at[1]:.6g}, {at[2]:.6g}]; expected a budget in this interval",
                index=index,
                certificate=(at[1], at[2]),
            )

    def _reach(self, y):
        """Return the least and the largest a.x over the box, and the rounding of either."""
        a, lower, upper = (full(t, y).double() for t in (self.weights, self.lower, self.upper))
        first = torch.where(a == 0, 0.0, torch.where(a > 0, a * lower, a * upper))
        last = torch.where(a == 0, 0.0, torch.where(a > 0, a * upper, a * lower))
        sizes = torch.where(torch.isfinite(first), first.abs(), 0.0) + torch.where(torch.isfinite(last), last.abs(), 0.0)
        eps = torch.finfo(y.dtype).eps
        return first.sum(-1), last.sum(-1), 4 * eps * sizes.sum(-1)

    def solve(self, y, *, tol=None, max_steps=None, element="lowest"):
        """Search mu among the breakpoints where a coordinate meets a bound."""
        check_finite("y", y)
        if self.names or self.dim is None:
            self._check_values(y)
        return self._solve(y, max_steps, element)

    def solve_traced(self, y, element):
        """Search mu without the checks of values."""
        return self._solve(y, None, element)[:2]

    def _solve(self, y, max_steps, element):
        a, lower, upper = (full(t, y).double() for t in (self.weights, self.lower, self.upper))
        z, steps = clip_search(y.double(), a, lower, upper, double(column(self.budget)), max_steps)
        x = z.clamp(lower, upper).to(y.dtype)  # eq: eq-budget-root
        if element == "lowest":
            return x, (z <= lower, z >= upper), steps
        tied = lower == upper
        return x, ((z < lower) | (tied & (z <= lower)), (z > upper) | (tied & (z >= upper))), steps

    def face_project(self, x, v, active=None):
        """Keep v on the free coordinates and take out its part along the weights there."""
        low, high = (x <= self.lower, x >= self.upper) if active is None else active
        free = (~(low | high)).double()
        return one_row_project(v.double(), free, full(self.weights, v).double()).to(v.dtype)  # eq: eq-face-budget

    def face_map(self, y, active):
        """Put the held coordinates on their bounds and balance the others along the weights."""
        low, high = active
        held = torch.where(low, self.lower, torch.where(high, self.upper, torch.zeros_like(y))).double()
        free = (~(low | high)).double()
        return one_row_map(y.double(), free, held, full(self.weights, y).double(), double(self.budget)).to(y.dtype)

    def violation(self, x):
        """Return the largest of the bounds' violations and of |a.x - budget|."""
        x = x.double()
        outside = torch.maximum(double(self.lower) - x, x - double(self.upper)).clamp(min=0).amax(-1)
        return torch.maximum(outside, ((x * double(self.weights)).sum(-1) - double(self.budget)).abs())

    def scale(self, x):
        """Return the largest of |budget| and the finite bounds."""
        bounds = finite_size(full(self.lower, x), full(self.upper, x))
        return torch.maximum(bounds, torch.as_tensor(self.budget, dtype=torch.float64, device=x.device).abs())

    def tolerance(self, x):
        """Allow the rounding of the bounds, of the budget and of each product a_i x_i."""
        products = (x.double() * double(self.weights)).abs().sum(-1)
        return rounding(x) * (self.scale(x) + products)

    def _doubles(self, like):
        """Return weights, lower and upper as float64 tensors of the shape of ``like``, and the budget as a column."""
        parts = [full(t, like).double().expand(like.shape) for t in (self.weights, self.lower, self.upper)]
        return (*parts, double(column(self.budget)))

    def lmo(self, g):
        """Return a vertex lowest along g: the coordinates filled in the order of g_i / a_i, as in a fractional knapsack."""
        a, *_ = self._doubles(g)
        return self._fill(g.double(), g.double() / a.masked_fill(a == 0, 1)).to(g.dtype)

    def _fill(self, g, ratio):
        a, lower, upper, c = self._doubles(g)
        low, high = torch.minimum(a * lower, a * upper), torch.maximum(a * lower, a * upper)  # of t_i = a_i x_i
        none = a == 0
        open_low, open_high = torch.isinf(low) & ~none, torch.isinf(high) & ~none
        free = open_low & open_high
        first = free & (torch.where(free, ratio, math.inf).argmin(-1, keepdim=True) == torch.arange(g.shape[-1], device=g.device))
        price = torch.where(first, ratio, 0.0).sum(-1, keepdim=True)
        still = none | (free & ~first)  # of several free coordinates one takes what is left, the others rest at 0
        low, high = low.masked_fill(still, 0), high.masked_fill(still, 0)
        # Among equal ratios what has no lower end comes first and what has no upper end last.
        order = (open_high.double() - open_low.double()).argsort(stable=True, dim=-1)
        order = order.gather(-1, ratio.gather(-1, order).argsort(stable=True, dim=-1))
        low_s, high_s = low.gather(-1, order), high.gather(-1, order)
        behind = low_s.flip(-1).cumsum(-1).flip(-1)
        after = torch.cat([behind[..., 1:], torch.zeros_like(behind[..., :1])], -1)
        reached = high_s.cumsum(-1) + after
        endless = reached.isnan().any(-1, keepdim=True) | (free & (ratio != price)).any(-1, keepdim=True)
        idle = torch.where(torch.isfinite(lower), lower, torch.where(torch.isfinite(upper), upper, 0.0))
        apart = torch.where(g > 0, lower, torch.where(g < 0, upper, idle))  # where the row does not look
        if _flag(endless | (none & torch.isinf(apart))):
            index = first_index((endless | (none & torch.isinf(apart)).any(-1, keepdim=True)).squeeze(-1))
            raise InputError(
                f"the linear problem over BoxBudget is unbounded at batch index {list(index)}: {self._ray(g, ratio, index)}",
                index=index,
            )
        k = (reached < c).sum(-1, keepdim=True).clamp(max=g.shape[-1] - 1)
        place = torch.arange(g.shape[-1], device=g.device)
        rest = c - torch.where(place < k, high_s, torch.where(place > k, low_s, 0.0)).sum(-1, keepdim=True)
        rank = order.argsort(-1)
        up = (rank < k) == (a > 0)
        at = torch.where(rank == k, (rest / a.masked_fill(none, 1)).clamp(lower, upper), torch.where(up, upper, lower))
        return torch.where(none, apart, torch.where(free & ~first, 0.0, at))

    def _ray(self, g, ratio, index):
        """Name the direction along which the linear problem falls without end."""
        a, lower, upper, _ = (t[index] if t.dim() > 1 else t for t in self._doubles(g))
        g, ratio = g[index], ratio[index]
        for i in torch.nonzero((a == 0) & (((g > 0) & lower.isinf()) | ((g < 0) & upper.isinf()))).flatten().tolist():
            return f"it falls without end along {'-' if g[i] > 0 else '+'}e_{i}"
        rises, falls = torch.where(a > 0, upper, -lower).isinf() & (a != 0), torch.where(a > 0, lower, -upper).isinf() & (a != 0)
        i = int(torch.where(rises, ratio, math.inf).argmin())
        j = int(torch.where(falls, ratio, -math.inf).argmax())
        return f"it falls without end along {1 / float(a[i]):.4g} e_{i} - {1 / float(a[j]):.4g} e_{j}"

    def gap(self, y, x):
        """Return the certificate; along infinite bounds what differs from mu a by rounding alone is taken as mu a."""
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
        """Return points strictly between the bounds wherever the budget leaves room; infinite bounds are replaced by far ones."""
        like = next(iter(self.data().values()), torch.empty(0))
        n = known_dim(self)
        noise = 2 * torch.rand(*shape, n, generator=generator, dtype=torch.float64, device=like.device) - 1
        a, lower, upper, c = self._doubles(noise)
        sizes = torch.where(lower.isfinite(), lower.abs(), 0.0).maximum(torch.where(upper.isfinite(), upper.abs(), 0.0))
        least = torch.where((a != 0) & (lower.isinf() | upper.isinf()), a.abs(), math.inf).amin(-1, keepdim=True)
        width = 1 + 2 * (torch.as_tensor(c).abs() + (a.abs() * sizes).sum(-1, keepdim=True)) / least
        lower, upper = (
            torch.where(lower.isinf(), torch.where(upper.isinf(), 0.0, upper).clamp(max=0) - width, lower),
            torch.where(upper.isinf(), torch.where(lower.isinf(), 0.0, lower).clamp(min=0) + width, upper),
        )
        start, end = torch.where(a > 0, lower, upper), torch.where(a > 0, upper, lower)
        low, high = (a * start).sum(-1, keepdim=True), (a * end).sum(-1, keepdim=True)
        share = ((c - low) / (high - low).masked_fill(high == low, 1)).clamp(0, 1)
        share = torch.where(a == 0, 0.5, share)
        centre = start + share * (end - start)
        room = torch.minimum(centre - lower, upper - centre)
        row = a * room
        noise = one_row_project(noise, torch.ones_like(noise), row)
        noise = 0.9 * noise / noise.abs().amax(-1, keepdim=True).clamp(min=1)
        return (centre + room * noise).to(like.dtype)


def newton_threshold(z: Tensor, total: float | Tensor, max_steps: int | None = None) -> tuple[Tensor, int]:
    """Find tau with ``sum_i max(z_i - tau, 0) = total``, for rows z whose largest entry is 0.

    Method: Newton from the lower bound -total on a convex, piecewise linear function: finitely many steps climb to the root. Returns
    tau in float64, shape (..., 1), from one last sum in float64, and the passes used.

    >>> import torch
    >>> newton_threshold(torch.tensor([0.0, -0.5, -3.0]), 1.0)[0]
    tensor([-0.7500], dtype=torch.float64)
    """
    n = z.shape[-1]
    low = total if isinstance(total, Tensor) else torch.full_like(z[..., :1], total)
    tau = torch.maximum(-low, (z.sum(-1, keepdim=True) - low) / n)
    count = None
    steps = 0
    for steps in range(1, (2 * n + 2 if max_steps is None else max_steps) + 1):
        mask = (z > tau).to(z.dtype)
        now = mask.sum(-1, keepdim=True)
        if count is not None and torch.equal(now, count):
            break
        count = now
        tau = ((mask * z).sum(-1, keepdim=True) - low) / now.clamp(min=1)
    mask = (z > tau).to(z.dtype)
    exact = ((mask * z).sum(-1, keepdim=True, dtype=torch.float64) - double(low)) / mask.sum(-1, keepdim=True).clamp(min=1)
    return (tau.double() if max_steps is not None and steps == max_steps else exact), steps


def sorted_threshold(z: Tensor, total: float | Tensor) -> Tensor:
    """Find the same tau as :func:`newton_threshold` by sorting: n log n, and no decision on the host.

    >>> import torch
    >>> sorted_threshold(torch.tensor([0.0, -0.5, -3.0]), 1.0)
    tensor([-0.7500], dtype=torch.float64)
    """
    ordered = z.double().sort(-1, descending=True).values
    tail = ordered.cumsum(-1) - double(total)
    k = torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=torch.float64)
    count = (ordered * k > tail).sum(-1, keepdim=True).clamp(min=1)
    return tail.gather(-1, count - 1) / count


def clip_search(y, a, lower, upper, c, max_steps=None):
    """Find mu with ``sum_i a_i clip(y_i - mu a_i, lower_i, upper_i) = c`` and return ``y - mu a`` and the passes used.

    Method: the left side falls as mu grows and is linear between breakpoints; bisection over the sorted breakpoints finds the piece,
    which one division solves. All in float64, shapes (..., n) and (..., 1), no decision on the host. It is run again from its own
    answer, which recovers the digits that a huge y costs.

    >>> import torch
    >>> clip_search(torch.tensor([3.0, 0.5]).double(), torch.ones(2).double(), 0.0, 1.0, 1.2)[0]
    tensor([2.7000, 0.2000], dtype=torch.float64)
    """
    passes = math.ceil(math.log2(2 * y.shape[-1] + 1)) + 1
    rounds = 2
    for _ in range(rounds):
        ends = torch.cat([(y - lower) / a, (y - upper) / a], -1)
        ends = ends.masked_fill((torch.cat([a, a], -1) == 0) | ends.isnan(), math.inf).sort(-1).values
        first = torch.full_like(ends[..., :1], -1, dtype=torch.int64)  # the largest index known to be left of the root
        last = torch.full_like(first, ends.shape[-1])  # the smallest index known to be at it or right of it
        for _ in range(passes if max_steps is None else min(passes, max_steps)):
            middle = (first + last) // 2
            mu = ends.gather(-1, middle.clamp(0, ends.shape[-1] - 1))
            excess = (a * (y - mu.nan_to_num(0, 0, 0) * a).clamp(lower, upper)).sum(-1, keepdim=True) - c
            left = ((excess > 0) & mu.isfinite()) | (mu == -math.inf)
            wide = last - first > 1
            first, last = torch.where(wide & left, middle, first), torch.where(wide & ~left, middle, last)
        low = torch.where(first < 0, -math.inf, ends.gather(-1, first.clamp(min=0)))
        high = torch.where(last >= ends.shape[-1], math.inf, ends.gather(-1, last.clamp(max=ends.shape[-1] - 1)))
        mu = between(low, high)
        slope, excess = clip_piece(y, mu, a, lower, upper, c)
        mu = mu + torch.where(slope > 0, excess / slope.masked_fill(slope == 0, 1), torch.zeros_like(mu))
        # Where nothing is left to balance, many mu are roots: take the middle one, at which no coordinate sits on a breakpoint.
        flat = between(high, torch.where(ends > high, ends, math.inf).amin(-1, keepdim=True))
        slope, excess = clip_piece(y, flat, a, lower, upper, c)
        size_c = (a * (y - flat * a).clamp(lower, upper)).abs().sum(-1, keepdim=True)
        mu = torch.where(high.isfinite() & (slope == 0) & (excess.abs() <= 4e-16 * size_c), flat, mu)
        y = y - mu * a
    return y, passes * rounds


def between(low, high):
    """Return a number strictly between two numbers of which either may be infinite.

    >>> import torch
    >>> between(torch.tensor([0.0, 3.0, -math.inf]), torch.tensor([1.0, math.inf, math.inf]))
    tensor([0.5000, 7.0000, 0.0000])
    """
    a, b = low.nan_to_num(0, 0, 0), high.nan_to_num(0, 0, 0)
    return torch.where(
        low.isfinite() & high.isfinite(),
        (a + b) / 2,
        torch.where(low.isfinite(), a + 1 + a.abs(), torch.where(high.isfinite(), b - 1 - b.abs(), 0.0)),
    )


def clip_piece(y, mu, a, lower, upper, c):
    """Return minus the slope and the value of ``a.clip(y - mu a, lower, upper) - c`` as a function of mu.

    >>> import torch
    >>> clip_piece(torch.tensor([3.0, 0.5]), 0.0, torch.ones(2), 0.0, 1.0, 1.2)
    (tensor([1.]), tensor([0.3000]))
    """
    z = y - mu * a
    free = a * ((z > lower) & (z < upper))
    return (free * free).sum(-1, keepdim=True), (a * z.clamp(lower, upper)).sum(-1, keepdim=True) - c


class Affine(ConvexSet):
    """``{x : A x = b}``.

    Projection: ``x = y - A'(A A')^{-1}(A y - b)`` with one Cholesky factor, kept as long as A's contents stay the same, and one step of
    refinement. Face: the whole set. ``A``: a tensor (..., p, n), ``b``: a number or a tensor (..., p). Computed in float64 with the rows
    normalised. Dependent rows are allowed: a maximal independent subset is used, chosen by pivoting. Gradients flow to A and b; with
    dependent rows they are those of the independent subset, which agree with every change that keeps the rows consistent.
    Raises InputError where dependent rows disagree (the set is empty), with a certificate w: A'w = 0, b.w != 0.

    >>> import torch
    >>> Affine(torch.tensor([[1.0, 1.0]]), torch.tensor([1.0])).project(torch.tensor([1.0, 1.0]))
    tensor([0.5000, 0.5000])
    """

    ranks: ClassVar[dict[str, int]] = {"A": 2, "b": 1}
    active_ranks: ClassVar[tuple[int, ...]] = (1, 2)
    _shown = ("A", "b")

    def __init__(self, A: Tensor, b: float | Tensor):
        if not isinstance(A, Tensor):
            raise TypeError(f"A is a {type(A).__name__}: expected a torch tensor of shape (..., p, n)")
        self._keep(A=A, b=b)
        self._factors: dict = {}
        self._check_shapes()
        for name in self.names:
            value = getattr(self, name)
            require(~torch.isfinite(value), name, value, "finite numbers")

    def _check_shapes(self) -> None:
        self.dim = self.A.shape[-1]
        p = self.A.shape[-2]
        if isinstance(self.b, Tensor) and self.b.shape[-1] != p:
            raise InputError(f"b has shape {tuple(self.b.shape)}: expected a last dimension of {p}, the rows of A")

    def __getstate__(self):
        return {**self.__dict__, "_factors": {}}

    def _factor(self):
        """Return the independent rows, as a mask (..., p), and the Cholesky factor of their scaled Gram matrix.

        The factor is kept beside a copy of A and used again only while A equals that copy, so it cannot be stale.
        """
        A = self.A.detach()
        kept = self._factors.get("A")
        if kept is None or kept.shape != A.shape or kept.device != A.device or kept.dtype != A.dtype or not torch.equal(kept, A):
            rows = unit_rows(A.double())[0]
            mask = independent_rows(rows)
            self._factors.update(A=A.clone(), mask=mask, L=gram_factor(rows, mask), all=bool(mask.all()))
        return self._factors["mask"], self._factors["L"]

    def solve(self, y, *, tol=None, max_steps=None, element="lowest"):
        """Solve with the kept factor, refine once, and check the rows that the others determine."""
        check_finite("y", y)
        check_finite("A", self.A)
        if isinstance(self.b, Tensor):
            check_finite("b", self.b)
        mask, L = self._factor()
        active = (mask, L)
        x = self._onto(y.double(), active)
        x = self._onto(x, active)
        if not self._factors["all"]:
            self._check_consistent(x, y, mask, L, tol)
        return x.to(y.dtype), active, 0

    def solve_traced(self, y, element):
        """Choose the rows and factor without reading a value on the host."""
        rows = unit_rows(self.A.double())[0]
        mask = independent_rows(rows)
        return y, (mask, gram_factor(rows, mask))

    def _rows(self):
        """Return A with unit rows and b scaled alike, in float64."""
        rows, size_a = unit_rows(self.A.double())
        return rows, double(self.b) / size_a

    def _onto(self, y, active):
        mask, L = active
        rows, b = self._rows()
        eta = factor_solve(L, mask * (times(rows, y) - b))
        return y - times(rows.mT, eta)  # eq: eq-affine-projection

    def _check_consistent(self, x, y, mask, L, tol):
        rows, b = self._rows()
        error = (times(rows, x) - b) * ~mask
        eps = torch.finfo(y.dtype).eps * math.sqrt(self.dim) * 16 if tol is None else tol
        allowed = eps * (1 + b.abs() + (tol is None) * x.abs().amax(-1, keepdim=True))
        bad = error.abs() > allowed
        if not bool(bad.any()):
            return
        index = first_index(bad)
        row = index[-1]
        rows, mask, L = (t.expand(*x.shape[:-1], *t.shape[-r:])[index[:-1]] for t, r in ((rows, 2), (mask, 1), (L, 2)))
        w = -factor_solve(L, mask * times(rows, rows[row]))
        w[row] = 1
        w = w / unit_rows(self.A.double().expand(*x.shape[:-1], *self.A.shape[-2:])[index[:-1]])[1]
        at = list(index[:-1])
        raise InputError(
            f"the set is empty{f' at batch index {at}' if at else ''}: row {row} of A is a combination of other rows, but b[{row}] is "
            f"not that of theirs (off by {float(error[index].abs()):.1e}); the certificate w has A'w = 0 and b.w != 0; "
            "expected a consistent b",
            index=index,
            certificate=w,
        )

    def face_project(self, x, v, active=None):
        """Take from v its part in the row space."""
        rows = unit_rows(self.A.double())[0]
        mask, L = self._factor() if active is None else active
        if self.A.requires_grad and torch.is_grad_enabled():
            L = gram_factor(rows, mask)  # differentiable in A, for double backward
        w = v.double()
        eta = factor_solve(L, mask * times(rows, w))
        return (w - times(rows.mT, eta)).to(v.dtype)  # eq: eq-face-affine

    def face_map(self, y, active):
        """Project y with a factor that is differentiable in A."""
        mask, _ = active
        rows = unit_rows(self.A.double())[0]
        return self._onto(y.double(), (mask, gram_factor(rows, mask))).to(y.dtype)

    def violation(self, x):
        """Return the largest |A x - b|, rows as given."""
        error = (times(self.A.double(), x.double()) - double(self.b)).abs()
        return error.amax(-1) if error.shape[-1] else error.sum(-1)

    def gap(self, y, x):
        """Return 0 where y - x lies in the row space up to rounding, and infinity elsewhere."""
        normal = y.double() - x.double()
        left = size(self.face_project(x, normal))
        allowed = 64 * torch.finfo(x.dtype).eps * math.sqrt(self.dim) * (size(y) + size(x))
        return torch.where(left <= allowed, 0.0, math.inf)

    def scale(self, x):
        """Return the largest |b|."""
        b = torch.as_tensor(self.b, dtype=torch.float64, device=x.device)
        return (b.abs().amax(-1) if b.dim() else b.abs()).expand(x.shape[:-1])

    def tolerance(self, x):
        """Allow the rounding of b and of each product A_ij x_j."""
        products = times(self.A.double().abs(), x.double().abs())
        return rounding(x) * (self.scale(x) + (products.amax(-1) if products.shape[-1] else products.sum(-1)))

    def lmo(self, g):
        """Return the point nearest to 0 where g is in the row space; raises elsewhere, naming the ray."""
        ray = self.face_project(None, g.double())
        bad = size(ray) > 64 * torch.finfo(g.dtype).eps * math.sqrt(self.dim) * size(g)
        if _flag(bad):
            index = first_index(bad)
            raise InputError(
                f"the linear problem is unbounded at batch index {list(index)}: g falls without end along "
                f"{[round(t, 6) for t in (-ray[index]).tolist()]}, which A maps to 0; expected g in the row space of A",
                index=index,
                certificate=-ray[index],
            )
        return self.project(torch.zeros_like(g)).detach()

    def sample(self, *shape, generator=None):
        """Return the projections of standard normal points."""
        A = self.A.detach()
        y = torch.randn(*shape, self.dim, generator=generator, dtype=A.dtype, device=A.device)
        return self.project(y).detach()


def times(A: Tensor, x: Tensor) -> Tensor:
    """Multiply the matrices (..., p, n) with the vectors (..., n); one product where A has no batch.

    >>> import torch
    >>> times(torch.eye(2), torch.ones(3, 2)).shape
    torch.Size([3, 2])
    """
    return x @ A.mT if A.dim() == 2 else (A @ x.unsqueeze(-1)).squeeze(-1)


def factor_solve(L: Tensor, r: Tensor) -> Tensor:
    """Solve ``L L' eta = r`` for vectors r (..., p).

    >>> import torch
    >>> factor_solve(2 * torch.eye(2), torch.ones(2))
    tensor([0.2500, 0.2500])
    """
    if L.dim() == 2 and r.dim() > 1:
        return torch.cholesky_solve(r.reshape(-1, r.shape[-1]).mT, L).mT.reshape(r.shape)
    return torch.cholesky_solve(r.unsqueeze(-1), L).squeeze(-1)


def unit_rows(A: Tensor) -> tuple[Tensor, Tensor]:
    """Divide each row of A by its norm (a zero row by 1), and return the norms too; badly scaled rows then weigh alike.

    >>> import torch
    >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))[1]
    tensor([5., 1.])
    """
    largest = A.detach().abs().amax(-1) if A.shape[-1] else A.sum(-1)
    scaled = A / largest.masked_fill(largest == 0, 1).unsqueeze(-1)
    square = (scaled * scaled).sum(-1)
    norm = square.masked_fill(largest == 0, 1).sqrt()
    return scaled / norm.unsqueeze(-1), (norm * largest.masked_fill(largest == 0, 1)).detach()


def independent_rows(rows: Tensor) -> Tensor:
    """Choose a maximal independent subset of unit rows (..., p, n): the mask (..., p).

    Method: pivoted Gram-Schmidt; each time the row with the largest part outside the span of those chosen, until that is rounding.

    >>> import torch
    >>> independent_rows(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    tensor([ True, False,  True])
    """
    p, n = rows.shape[-2:]
    rest = rows
    chosen = torch.zeros(rows.shape[:-1], dtype=torch.bool, device=rows.device)
    floor = 64 * n * torch.finfo(rows.dtype).eps
    for _ in range(min(p, n)):
        length = torch.linalg.vector_norm(rest, dim=-1)
        pivot = length.argmax(-1, keepdim=True)
        new = length.gather(-1, pivot) > floor
        unit = rest.gather(-2, pivot.unsqueeze(-1).expand(*pivot.shape, n))
        unit = torch.where(new.unsqueeze(-1), unit / length.gather(-1, pivot).clamp(min=floor).unsqueeze(-1), 0.0)
        chosen = chosen.scatter(-1, pivot, chosen.gather(-1, pivot) | new)
        for _ in range(2):  # twice is enough: one pass loses digits on rows that nearly agree
            rest = rest - (rest @ unit.mT) * unit
        rest = rest.masked_fill(chosen.unsqueeze(-1), 0)
    return chosen


def gram_factor(rows: Tensor, mask: Tensor) -> Tensor:
    """Return the Cholesky factor of the Gram matrix of the chosen rows, with 1 on the diagonal for the others.

    >>> import torch
    >>> gram_factor(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([True, False]))
    tensor([[1., 0.],
            [0., 1.]])
    """
    kept = rows * mask.unsqueeze(-1)
    return torch.linalg.cholesky_ex(kept @ kept.mT + torch.diag_embed((~mask).to(rows.dtype)))[0]


def full(value: float | Tensor, like: Tensor) -> Tensor:
    """Return a datum as a tensor in the dtype and shape of ``like``, where it is a number; a tensor stays.

    >>> import torch
    >>> full(2.0, torch.zeros(2))
    tensor([2., 2.])
    """
    return value if isinstance(value, Tensor) else torch.full_like(like, value)


def clip(y: Tensor, lower: float | Tensor, upper: float | Tensor) -> Tensor:
    """Clip y, where each bound is a number or a tensor.

    >>> import torch
    >>> clip(torch.tensor([3.0, -1.0]), 0.0, torch.tensor([2.0, 2.0]))
    tensor([2., 0.])
    """
    if isinstance(lower, Tensor) == isinstance(upper, Tensor):
        return y.clamp(lower, upper)
    return y.clamp(min=lower).clamp(max=upper)


def put_at(index: Tensor, like: Tensor, value: float | Tensor) -> Tensor:
    """Return zeros with one value per row, at ``index``.

    >>> import torch
    >>> put_at(torch.tensor([[1]]), torch.zeros(1, 3), 2.0)
    tensor([[0., 2., 0.]])
    """
    hit = torch.arange(like.shape[-1], device=like.device) == index
    return torch.where(hit, value, torch.zeros_like(like))


def size(x: Tensor) -> Tensor:
    """Return the largest |x_i| per point, in float64.

    >>> import torch
    >>> size(torch.tensor([1.0, -3.0]))
    tensor(3., dtype=torch.float64)
    """
    return x.double().abs().amax(-1) if x.shape[-1] else x.double().sum(-1)


def finite_size(*bounds: Tensor) -> Tensor:
    """Return the largest finite entry in size, per point, in float64.

    >>> import torch
    >>> finite_size(torch.tensor([1.0, math.inf]), torch.tensor([-2.0, math.inf]))
    tensor(2., dtype=torch.float64)
    """
    sizes = [size(torch.where(torch.isfinite(t), t, torch.zeros_like(t))) for t in bounds]
    return torch.stack(torch.broadcast_tensors(*sizes)).amax(0)


def rounding(x: Tensor) -> float:
    """Return the relative error that a sum over a row of x may carry.

    >>> import torch
    >>> rounding(torch.zeros(4)) / torch.finfo(torch.float32).eps
    8.0
    """
    return 4 * torch.finfo(x.dtype).eps * math.sqrt(max(x.shape[-1], 1))


def positive_dim(dim: int) -> int:
    """Return a dimension, or raise unless it is a positive integer.

    >>> positive_dim(3)
    3
    """
    if isinstance(dim, bool) or not isinstance(dim, int):
        raise TypeError(f"dim is a {type(dim).__name__}: expected an integer, the length of the last dimension")
    require(dim < 1, "dim", dim, "at least 1")
    return dim


def common_dim(dim: int | None, **data: float | Tensor | None) -> int | None:
    """Return the last dimension on which the tensor data agree, or raise naming the one that does not.

    >>> import torch
    >>> common_dim(None, lower=torch.zeros(3), upper=1.0)
    3
    """
    for name, value in data.items():
        if isinstance(value, Tensor):
            if dim is not None and value.shape[-1] != dim:
                raise InputError(f"{name} has shape {tuple(value.shape)}: expected a last dimension of {dim}")
            dim = value.shape[-1]
    return dim


def known_dim(convex_set: ConvexSet) -> int:
    """Return the dimension of a set, or raise where any would do.

    >>> known_dim(Simplex(3))
    3
    """
    if convex_set.dim is None:
        raise InputError(f"{convex_set!r} fits any dimension: give a bound as a tensor, or dim=n")
    return convex_set.dim


def check_bounds(lower: float | Tensor, upper: float | Tensor) -> None:
    """Raise unless lower <= upper everywhere, naming the first entry where it is not; NaN never is.

    >>> import torch
    >>> check_bounds(torch.tensor([0.0, 2.0]), 1.0)
    Traceback (most recent call last):
        ...
    lablib.solution.InputError: lower[1] is 2.0: expected at most upper, which is 1.0 there
    """
    if not isinstance(lower, Tensor) and not isinstance(upper, Tensor):
        require(not lower <= upper or lower == math.inf or upper == -math.inf, "lower", lower, f"at most upper, which is {upper} there")
        return
    if isinstance(lower, Tensor) and isinstance(upper, Tensor) and (lower.dtype != upper.dtype or lower.device != upper.device):
        return  # said better when y is there to compare with
    bad = torch.as_tensor(~(lower <= upper) if isinstance(lower <= upper, Tensor) else False)
    if _flag(bad | (torch.as_tensor(lower, device=bad.device) == math.inf) | (torch.as_tensor(upper, device=bad.device) == -math.inf)):
        bad = bad | (torch.as_tensor(lower, device=bad.device) == math.inf) | (torch.as_tensor(upper, device=bad.device) == -math.inf)
        index = first_index(bad)
        other = upper.expand(bad.shape)[index].item() if isinstance(upper, Tensor) else upper
        require(bad, "lower", lower, f"at most upper, which is {other} there")


def ray_error(bad: Tensor, g: Tensor, name: str) -> None:
    """Raise where the linear problem falls without end, naming the coordinate along which it does.

    >>> import torch
    >>> ray_error(torch.tensor([False, True]), torch.tensor([0.0, 2.0]), "Box")
    Traceback (most recent call last):
        ...
    lablib.solution.InputError: the linear problem over Box is unbounded: it falls without end along -e_1 (index [1], where g is 2.0)
    """
    if _flag(bad):
        index = first_index(bad.expand(g.shape))
        value = g[index].item()
        raise InputError(
            f"the linear problem over {name} is unbounded: it falls without end along {'-' if value > 0 else '+'}e_{index[-1]} "
            f"(index {list(index)}, where g is {value})",
            index=index,
        )
