"""The outputs of a network, each with the convex potential that it is the gradient of.

An output ``z = sigma(u)`` with ``sigma = grad phi`` for a convex phi has one loss that fits it, ``phi(u) - y.u +
phi*(y)``, the matched loss: it is convex in u, never negative, and 0 exactly where ``y = sigma(u)``. phi* is the convex
conjugate, finite on the closure of sigma's range. A constraint ``A z = b`` asks more: what the range can reach along a
direction, and which of its faces a direction touches.

Tensors have the shape (..., K). A coordinate may be held at an end of its range: ``at`` (int8) is -1 at the lower
end, 1 at the upper one, and 0 where the coordinate is free. Source: chapter "The saddle-point Lagrangian".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .projection import truth
from .solution import InputError, first_index


class Link:
    """An output ``sigma = grad phi`` that acts on each coordinate alone.

    ``value``, ``sigma``, ``slope``: phi, its derivative and its second derivative, for each coordinate. ``conjugate``:
    phi*, for each coordinate. ``lower``, ``upper``: the ends of sigma's range. ``attained``: sigma reaches its finite
    ends at finite u, so that no multiplier need grow without end.

    >>> import torch
    >>> u, y = torch.tensor([0.3]), torch.tensor([0.9])
    >>> matched = LINKS["tanh"].phi(u) - (y * u).sum(-1) + LINKS["tanh"].conjugate(y)
    >>> bool(matched > 0), LINKS["tanh"].reach(torch.tensor([2.0, -1.0]), torch.tensor([0, 1], dtype=torch.int8))
    (True, tensor(1.))
    """

    def __init__(
        self,
        name: str,
        value: Callable[[Tensor], Tensor],
        sigma: Callable[[Tensor], Tensor],
        slope: Callable[[Tensor], Tensor],
        conjugate: Callable[[Tensor], Tensor],
        lower: float = -math.inf,
        upper: float = math.inf,
        attained: bool = False,
    ):
        self.name, self.value, self.sigma, self.slope, self._conjugate = name, value, sigma, slope, conjugate
        self.lower, self.upper, self.attained = lower, upper, attained

    def conjugate(self, v: Tensor) -> Tensor:
        """Return phi*(v), summed."""
        return self._conjugate(v).sum(-1)

    def at_ends(self, w: Tensor, at: Tensor) -> Tensor:
        """Return the prediction with the held coordinates at their ends."""
        z = self.sigma(w)
        if math.isfinite(self.lower):
            z = torch.where(at < 0, self.lower, z)
        return torch.where(at > 0, self.upper, z) if math.isfinite(self.upper) else z

    def phi(self, w: Tensor, at: Tensor | None = None) -> Tensor:
        """Return the potential, summed; a held coordinate counts its end times w, the limit of phi on that face."""
        if at is None:
            return self.value(w).sum(-1)
        held = at != 0
        safe = torch.where(held, 0.0, w)
        return torch.where(held, self._ends(w, at) * w, self.value(safe)).sum(-1)

    def _ends(self, w: Tensor, at: Tensor) -> Tensor:
        lower = self.lower if math.isfinite(self.lower) else 0.0
        upper = self.upper if math.isfinite(self.upper) else 0.0
        return torch.where(at > 0, upper, lower).to(w.dtype)

    def curve(self, w: Tensor, z: Tensor, v: Tensor, at: Tensor | None = None) -> Tensor:
        """Return the Hessian of phi times v."""
        if at is None:
            return self.slope(w) * v
        return torch.where(at != 0, 0.0, self.slope(torch.where(at != 0, 0.0, w))) * v

    def gram(self, w: Tensor, z: Tensor, V: Tensor) -> Tensor:
        """Return V D V' for the Hessian D of phi; V is 0 at held coordinates."""
        return (V * self.slope(w).unsqueeze(-2)) @ V.mT

    def free(self, u: Tensor, at: Tensor) -> Tensor:
        """Return u with the held coordinates out of the way: those of a softmax at -inf, others at 0."""
        return torch.where(at != 0, 0.0, u)

    def moving(self, w: Tensor, z: Tensor) -> Tensor:
        """Return how far each coordinate is from the ends of its range: near 0 there."""
        return self.slope(w)

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


class Softmax(Link):
    """A softmax over each block of coordinates: ``phi(u) = sum over blocks of log sum e^u``.

    A coordinate can be held only at 0. What is left of its block still sums to 1.
    """

    name, lower, upper, attained = "softmax", 0.0, 1.0, False

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
        """Return the softmax of each block."""
        return self._join(torch.softmax(self._split(w, -math.inf), -1))

    def at_ends(self, w, at):
        """Return the softmax over what is free."""
        return self.sigma(self.free(w, at))

    def phi(self, w, at=None):
        """Return ``log sum e^w`` over what is free, summed over the blocks."""
        w = w if at is None else self.free(w, at)
        return torch.logsumexp(self._split(w, -math.inf), -1).sum(-1)

    def moving(self, w, z):
        """Return z relative to the largest of its block."""
        top = self._split(z, 0.0).amax(-1, keepdim=True)
        return z / self._join(top.expand(*top.shape[:-1], self.width))

    def curve(self, w, z, v, at=None):
        """Return ``(diag(z) - z z') v`` for each block."""
        return z * (v - self._mean(z, v))

    def _mean(self, z: Tensor, v: Tensor) -> Tensor:
        """Return for each coordinate the mean of v over its block, weighted by z."""
        mean = self._split(z * v, 0.0).sum(-1, keepdim=True)
        return self._join(mean.expand(*mean.shape[:-1], self.width))

    def gram(self, w, z, V):
        """Return V D V', from rows centred on each block, for ``V diag(z) V' - (V z)(V z)'`` would cancel."""
        z = z.unsqueeze(-2)
        centred = V - self._mean(z, V)
        return (centred * z) @ centred.mT

    def conjugate(self, v):
        """Return ``sum v log v``."""
        return torch.xlogy(v, v).sum(-1)

    def free(self, u, at):
        """Return u with the held coordinates at -inf."""
        return torch.where(at != 0, -math.inf, u)

    def _even(self, at: Tensor) -> Tensor:
        left = (at == 0).double()
        total = self._split(left, 0.0).sum(-1, keepdim=True).clamp(min=1.0)  # all of a block may be held
        return left / self._join(total.expand(*at.shape[:-1], -1, self.width))

    def centre(self, at):
        """Return the uniform prediction on what is free."""
        return self._even(at)

    def directions(self, V, at):
        """Take from rows their mean over what is free of each block, which no prediction can change."""
        even = self._even(at).unsqueeze(-2)
        return (V - self._mean(even, V)) * (at == 0).unsqueeze(-2)

    def reach(self, a, at):
        """Return the largest a of each block, summed."""
        return self._split(torch.where(at != 0, -math.inf, a), -math.inf).amax(-1).sum(-1)

    def exposed(self, a, at, floor):
        """Hold at 0 what is less than the largest a of its block."""
        a = torch.where(at != 0, -math.inf, a)
        top = self._split(a, -math.inf).amax(-1, keepdim=True)
        top = self._join(top.expand(*top.shape[:-1], self.width))
        return torch.where(a < top - floor, -1, 0).to(at.dtype)

    def check_target(self, y, eps):
        """Raise where y is no distribution on each block."""
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


LINKS = {
    link.name: link
    for link in (
        Link("identity", lambda w: w * w / 2, lambda w: w, torch.ones_like, lambda v: v * v / 2),
        Link(
            "sigmoid",
            lambda w: torch.logaddexp(torch.zeros_like(w), w),  # log(1 + e^w) would overflow
            torch.sigmoid,
            lambda w: torch.sigmoid(w) * torch.sigmoid(-w),  # z (1 - z) would lose its digits where z is nearly 1
            lambda v: torch.xlogy(v, v) + torch.xlogy(1 - v, 1 - v),
            lower=0.0,
            upper=1.0,
        ),
        Link(
            "tanh",
            lambda w: w.abs() + torch.log1p(torch.exp(-2 * w.abs())) - math.log(2),  # log cosh w
            torch.tanh,
            lambda w: 4 * torch.sigmoid(2 * w) * torch.sigmoid(-2 * w),
            lambda v: (torch.xlogy(1 + v, 1 + v) + torch.xlogy(1 - v, 1 - v)) / 2,
            lower=-1.0,
            upper=1.0,
        ),
        Link(
            "relu",
            lambda w: torch.relu(w) ** 2 / 2,
            torch.relu,
            lambda w: (w > 0).to(w.dtype),
            lambda v: v * v / 2,
            lower=0.0,
            attained=True,
        ),
        Link("exp", torch.exp, torch.exp, torch.exp, lambda v: torch.xlogy(v, v) - v, lower=0.0),
    )
}
