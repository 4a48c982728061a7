"""Train a network that switches off its own inputs and units: the inexact augmented Lagrangian, block by block.

    min over W, b   1/n sum_i loss(V_L, Y)  +  sum_l penalty_l sum_j |column j of W_l|,     V_l = s(W_l V_{l-1} + b_l),

with V_0 the data, s(u) = max(u, slope u), and a column of W_l the weights by which layer l listens to unit j: where it
is zero, nobody does. Nothing in this is smooth. So U_l = W_l V_{l-1} + b_l and V_l become variables of their own. The
affine equation gets a multiplier Xi_l; the activation becomes the inequality V >= s(U), whose slack is paid for:

    1/n [ loss(V_L, Y) + beta sum (V_l - s(U_l)) + sum <Xi_l, R_l> + rho/2 |R_l|^2 ] + group norms,     V_l >= s(U_l),

with R_l = U_l - W_l V_{l-1} - b_l. Each pair (v, u) then has a minimiser in closed form, one of five candidates, and
the weights of a layer are a group lasso on their Gram matrix. Every block step decreases this function.

Source: Liu, Liu and Chen, An inexact augmented Lagrangian algorithm for training leaky ReLU neural network with group
sparsity (arXiv 2205.05428, JMLR 24, 2023), its abstract and its released code; the algorithm here is derived in the
chapter "Augmented Lagrangian".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .fenchel import descend
from .projection import raise_not_finite
from .solution import InputError, first_index
from .training import (
    History,
    check_rows,
    check_samples,
    check_targets,
    check_tensor,
    check_width,
    labels_as_rows,
    numbers,
    train,
    whole,
)

LOSSES = ("squared", "cross_entropy")
CERTAIN = 1 + 1e-6
"""What rounding may take from a spectral norm, so that a bound stays one."""

MOST, BOUND, NEGLIGIBLE = 1e3, 1e6, 1e-3
"""Safeguards: where rho and beta stop to grow, what multiplier means divergence, and which residuals are small."""

# ---- the pair (v, u) ------------------------------------------------------------------------------------------------


def leaky(u: Tensor, slope: float) -> Tensor:
    """Return ``s(u) = max(u, slope u)`` for a slope in [0, 1).

    >>> leaky(torch.tensor([-2.0, 3.0]), 0.5)
    tensor([-1.,  3.])
    """
    return torch.maximum(u, slope * u)


def _candidates(
    p: Tensor, q: Tensor, a: Tensor | float, b: Tensor | float, slope: float, penalty: float
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield the five candidates for (v, u), each with where it is feasible (None: everywhere)."""
    low = p - penalty / a
    zero = torch.zeros_like(q)
    u = q + penalty / b
    yield low, u, (u >= 0) & (low >= u)
    u = ((a * p + b * q) / (a + b)).clamp(min=0)
    yield u, u, None
    yield low.clamp(min=0), zero, None
    u = q + slope * penalty / b
    yield low, u, (u <= 0) & (low >= slope * u)
    u = ((slope * a * p + b * q) / (slope * slope * a + b)).clamp(max=0)
    yield slope * u, u, None  # eq: eq-pair-candidates


def _pair_value(
    v: Tensor, u: Tensor, p: Tensor, q: Tensor, a: Tensor | float, b: Tensor | float, slope: float, penalty: float
) -> Tensor:
    return a / 2 * (v - p).square() + b / 2 * (u - q).square() + penalty * (v - leaky(u, slope))  # eq: eq-pair-problem


def activation_candidates(
    p: Tensor, q: Tensor, a: Tensor | float, b: Tensor | float, slope: float = 0.0, *, penalty: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the five candidates for :func:`activation_step`: v, u and the value, each of shape (5, ...).

    In order: v and u both free, with u >= 0; on the line v = u; at u = 0; both free, with u <= 0; on the line
    v = slope u. The value is inf where a candidate is not feasible. The third is never better than all others. Shapes
    and source: as there.

    >>> one = torch.tensor(1.0)
    >>> v, u, value = activation_candidates(one, -one, 1.0, 1.0)
    >>> v.tolist(), u.tolist(), value.tolist()
    ([0.0, 0.0, 0.0, 0.0, -0.0], [0.0, 0.0, 0.0, -1.0, -1.0], [1.0, 1.0, 1.0, 0.5, 0.5])
    """
    p, q = torch.broadcast_tensors(p, q)
    rows = []
    for v, u, allowed in _candidates(p, q, a, b, slope, penalty):
        value = _pair_value(v, u, p, q, a, b, slope, penalty)
        rows.append((v, u, value if allowed is None else torch.where(allowed, value, math.inf)))
    v, u, value = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return v, u, value


def activation_step(
    p: Tensor, q: Tensor, a: Tensor | float, b: Tensor | float, slope: float = 0.0, *, penalty: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return the (v, u) that ``min a/2 (v - p)^2 + b/2 (u - q)^2 + penalty (v - s(u))  subject to  v >= s(u)``.

    Method: the function is quadratic on each side of u = 0, and so the minimiser is one of five points; the best of
    those that are feasible is exact, although the problem is not convex. ``p``, ``q``: centres, tensors that broadcast.
    ``a``, ``b``: positive weights, numbers or tensors. ``slope``: of s(u) = max(u, slope u), in [0, 1). ``penalty``:
    not negative. No branch and no loop over entries. Raises InputError or TypeError, naming the argument, for numbers
    out of range or not finite, and for shapes and dtypes that do not fit.
    Source: chapter "Augmented Lagrangian"; the released code has a closed form too, which is not always the minimum.

    >>> v, u = activation_step(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, -1.0, 0.5]), 1.0, 1.0)
    >>> v.tolist(), u.tolist()
    ([0.5, 0.0, 1.25], [0.5, -1.0, 1.25])
    """
    _slope(slope)
    for name, centre in (("p", p), ("q", q)):
        if not isinstance(centre, Tensor):
            raise TypeError(f"{name} is a {type(centre).__name__}: expected a torch tensor; torch.as_tensor makes one")
        raise_not_finite(name, centre)
    if not p.is_floating_point() or p.dtype != q.dtype:
        raise TypeError(f"p has dtype {p.dtype} and q {q.dtype}: expected one floating dtype for both")
    _positive("a", a)
    _positive("b", b)
    shapes = [tuple(t.shape) for t in (p, q, a, b) if isinstance(t, Tensor)]
    try:
        torch.broadcast_shapes(*shapes)
    except RuntimeError:
        raise InputError(f"p, q, a and b have the shapes {shapes}: expected shapes that broadcast") from None
    (penalty,) = numbers("penalty", penalty, 1, positive=False)
    return _pair(p, q, a, b, slope, penalty)


def _pair(
    p: Tensor, q: Tensor, a: Tensor | float, b: Tensor | float, slope: float, penalty: float
) -> tuple[Tensor, Tensor]:
    p, q = torch.broadcast_tensors(p, q)
    best = best_v = best_u = None
    for i, (v, u, allowed) in enumerate(_candidates(p, q, a, b, slope, penalty)):
        if i == 2:
            continue  # never the only winner: at u = 0 < v the function has a concave kink, and (0, 0) is on both lines
        value = _pair_value(v, u, p, q, a, b, slope, penalty)
        if allowed is not None:
            value = torch.where(allowed, value, math.inf)
        if best is None:
            best, best_v, best_u = value, v, u
        else:
            better = value < best
            best, best_v, best_u = (
                torch.where(better, new, old) for new, old in ((value, best), (v, best_v), (u, best_u))
            )
    return best_v, best_u


# ---- the weights of a layer -----------------------------------------------------------------------------------------


def shrink_groups(W: Tensor, threshold: Tensor | float) -> Tensor:
    """Return the minimiser of ``1/2 |X - W|^2 + threshold sum_j |column j of X|``: columns grow shorter, or vanish.

    >>> shrink_groups(torch.tensor([[3.0, 0.3], [4.0, 0.4]]), 1.0)
    tensor([[2.4000, 0.0000],
            [3.2000, 0.0000]])
    """
    length = torch.linalg.vector_norm(W, dim=0).clamp(min=torch.finfo(W.dtype).tiny)
    return W * (1 - threshold / length).clamp(min=0)  # eq: eq-group-shrink


def largest_eigenvalue(gram: Tensor) -> Tensor:
    """Return a bound on the largest eigenvalue of a Gram matrix that is certain, in float64; FloatingPointError if not.

    LAPACK's own error for numbers that are not finite does not say so.
    """
    if not math.isfinite(float(gram.sum())):
        raise FloatingPointError("the iterate is not finite")
    return torch.linalg.eigvalsh(gram.double()).amax().clamp(min=0) * CERTAIN


def spectral_square(W: Tensor) -> Tensor:
    """Return a bound on the squared spectral norm of W that is certain: exact up to rounding, from its Gram matrix."""
    W = W.double()
    return largest_eigenvalue(W @ W.mT if W.shape[0] < W.shape[1] else W.mT @ W)


@dataclass(frozen=True)
class Design:
    """What a layer's weight step needs of its inputs V (n, d): their mean, V without it, its Gram matrix and norm.

    The offsets are eliminated: at their minimum they take up the means, so the weights see centred inputs alone. An
    input that never varies is left out: the offset does its work for nothing.
    """

    varying: Tensor
    mean: Tensor
    centred: Tensor
    gram: Tensor
    curvature: Tensor

    @classmethod
    def of(cls, V: Tensor) -> Design:
        """Return the design of inputs V."""
        varying = (V.amax(0) > V.amin(0)).nonzero().squeeze(1)
        varying = varying if len(varying) else varying.new_zeros(1)  # an empty matrix has no norm
        V = V[:, varying]
        mean = V.mean(0)
        centred = V - mean
        gram = centred.mT @ centred
        curvature = largest_eigenvalue(gram).clamp(min=torch.finfo(V.dtype).tiny).to(V.dtype)
        return cls(varying, mean, centred, gram, curvature)


def group_weight_step(
    W: Tensor, design: Design, T: Tensor, weight: float, penalty: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Improve W in ``min_{W,b} weight/2 |T - V W' - b|^2 + penalty sum_j |column j of W|``; return W and its best b.

    Method: proximal gradient on the Gram matrix, accelerated by :func:`~lablib.fenchel.descend`, which never raises the
    value; the offsets are eliminated. A column that is zero, and still would be after a step of proximal gradient, sits
    out this call: a step costs outputs x moving inputs^2, whatever the number of samples. ``W``: (outputs, inputs).
    ``design``: of V, (samples, inputs). ``T``: targets, (samples, outputs). Source: chapter "Augmented Lagrangian".
    """
    right = T.mT @ design.centred
    length = 1 / design.curvature
    threshold = penalty / weight * length
    start = W[:, design.varying]
    image = start @ design.gram
    wanted = torch.linalg.vector_norm(right - image, dim=0) > penalty / weight
    moves = ((start != 0).any(0) | wanted).nonzero().squeeze(1)
    gram = design.gram
    if len(moves) < len(gram):
        start, image, right, gram = start[:, moves], image[:, moves], right[:, moves], gram[moves][:, moves]

    def step(Y: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        Y = shrink_groups(Y - length * (image - right), threshold)  # eq: eq-weight-step
        return Y, Y @ gram

    def value(Y: Tensor, image: Tensor) -> Tensor:
        fit = (Y * (image - 2 * right)).sum(dtype=torch.float64)
        return weight / 2 * fit + penalty * torch.linalg.vector_norm(Y, dim=0).sum(dtype=torch.float64)

    found, _ = descend(step, value, start, image, steps)
    inputs = design.varying[moves]
    W = torch.zeros_like(W)
    W[:, inputs] = found
    return W, T.mean(0) - found @ design.mean[moves]


# ---- the lifted point and its certificate ---------------------------------------------------------------------------


@dataclass(frozen=True)
class LiftedPoint:
    """Weights (outputs, inputs), offsets, and for each layer U, V and the multipliers Xi, all (samples, outputs).

    With cross-entropy the outputs are linear: the last V is the last U. ``first``: ``X W_1' + b_1`` where it is known;
    with many inputs it is the costliest product, and often asked for.
    """

    weights: tuple[Tensor, ...]
    offsets: tuple[Tensor, ...]
    us: tuple[Tensor, ...]
    vs: tuple[Tensor, ...]
    multipliers: tuple[Tensor, ...]
    first: Tensor | None = None

    def parts(self) -> dict[str, tuple[Tensor, ...]]:
        """Return the five lists by name."""
        return {name: part for name, part in vars(self).items() if name != "first"}

    def to(self, other: torch.dtype | Tensor) -> LiftedPoint:
        """Return the point in another dtype, or in a tensor's dtype and on its device."""
        return LiftedPoint(*(tuple(t.to(other) for t in part) for part in self.parts().values()))

    def put(self, name: str, l: int, value: Tensor) -> LiftedPoint:
        """Return the point with one tensor of a list changed."""
        old = getattr(self, name)
        first = None if l == 0 and name in ("weights", "offsets") else self.first
        return replace(self, **{name: (*old[:l], value, *old[l + 1 :]), "first": first})

    def only(self, units: Sequence[Tensor]) -> LiftedPoint:
        """Return the point without all but some hidden units, given by their indices in each hidden layer."""
        keep = [slice(None), *units, slice(None)]
        weights = tuple(W[:, below][above] for W, below, above in zip(self.weights, keep, keep[1:], strict=False))
        rows = [tuple(t[..., own] for t, own in zip(part, keep[1:], strict=True)) for part in self._rows()]
        return LiftedPoint(weights, *rows, None if self.first is None else self.first[:, keep[1]])

    def with_units(self, part: LiftedPoint, units: Sequence[Tensor]) -> LiftedPoint:
        """Return the point with what :meth:`only` took from it changed; the other units hear and say nothing."""
        keep = [slice(None), *units, slice(None)]
        weights, rows = [], []
        for old, new, below, above in zip(self.weights, part.weights, keep, keep[1:], strict=False):
            W = new.new_zeros(len(old), new.shape[1])
            W[above] = new
            weights.append(torch.zeros_like(old))
            weights[-1][:, below] = W
        for old_part, new_part in zip(self._rows(), part._rows(), strict=True):
            rows.append([])
            for old, new, own in zip(old_part, new_part, keep[1:], strict=True):
                rows[-1].append(old.clone())
                rows[-1][-1][..., own] = new
        first = None
        if part.first is not None:
            first = self.offsets[0].repeat(len(part.first), 1)
            first[:, keep[1]] = part.first
        return LiftedPoint(tuple(weights), *(tuple(one) for one in rows), first)

    def _rows(self) -> tuple[tuple[Tensor, ...], ...]:
        return self.offsets, self.us, self.vs, self.multipliers

    def affine(self, X: Tensor, l: int) -> Tensor:
        """Return ``V_{l-1} W_l' + b_l``."""
        if l == 0 and self.first is not None:
            return self.first
        return torch.addmm(self.offsets[l], self.vs[l - 1] if l else X, self.weights[l].mT)

    def pull(self, l: int) -> Tensor:
        """Return ``Xi_{l+1} W_{l+1}``: minus the slope of the layers above in V_l."""
        return self.multipliers[l + 1] @ self.weights[l + 1]


@dataclass(frozen=True)
class KKTResidual:
    """How far a point is from a Karush-Kuhn-Tucker point; each number is 0 there.

    ``affine``: root mean square over samples of ``U - W V - b``. ``activation``: of ``V - s(U)``, the slack that the
    penalty has to close. ``violation``: the largest ``s(U) - V``. ``weights``: ``|W - prox(W - gradient)|``, all layers
    together, with the proximal map of the group norms. ``offsets``: the gradient in b. ``values``: for the pairs (v, u)
    how far a small proximal step of the exact kernel moves them, divided by the step. ``kinks``: at u = 0 that measure
    can miss a way down, since -s is concave there; this is the steepest of the directional derivatives at exact kinks.
    """

    affine: float
    activation: float
    violation: float
    weights: float
    offsets: float
    values: float
    kinks: float

    @property
    def largest(self) -> float:
        """The largest of the components."""
        return max(vars(self).values())


# ---- the network ----------------------------------------------------------------------------------------------------


class GroupSparseNetwork(nn.Module):
    """A leaky-ReLU network with group-sparse weights, trained by an inexact augmented Lagrangian method.

        min over W, b   1/n sum_i 1/2 |V_L - Y|^2  +  sum_l group_penalty_l sum_j |column j of W_l|

    ``widths``: inputs, hidden widths, outputs. ``slope``: of s(u) = max(u, slope u) in [0, 1); all layers have it, the
    last one too. ``group_penalty``: one number, or one for each layer, not negative. The released code's r_w is
    ``2 n group_penalty``. ``loss``: "squared", for real targets or for labels, which become one-hot rows; or
    "cross_entropy" for labels, with linear outputs, which stands outside of the paper.

    ``rho``: the first weight of the squared residuals; ``activation_penalty``: the first beta. Both grow, by
    ``growth``, where the residual that they answer for does not fall; all is for sums over samples. ``sweeps``: over
    all blocks, for each update of the multipliers. ``pair_steps``, ``w_steps``: inner steps for a block. ``patience``:
    a hidden unit that nobody hears for so many sweeps in a row is put to rest, for good, and costs nothing any more; a
    small number is fast, and may end in a worse point. ``seed``: for the first weights (normal, of standard deviation
    ``first`` over the square root of the inputs).

    Limits: the problem is not convex, and what is found depends on the start. All samples take part in each step, and
    U, V and the multipliers are kept for all of them, so memory grows as samples times units. No convergence is proved;
    :meth:`kkt_residual` says how near a run came.

    The network's own weights are always the best that a run has met, measured by the objective at the forward pass,
    where all constraints hold. The iterate of the method lives beside them. Raises InputError or TypeError, naming the
    argument, for what cannot be. Source: Liu, Liu and Chen (arXiv 2205.05428); chapter "Augmented Lagrangian".

    >>> generator = torch.Generator().manual_seed(0)
    >>> X = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    >>> y = (X[:, :1] - X[:, 1:2]).abs()            # three of the five inputs do not matter
    >>> net = GroupSparseNetwork([5, 8, 1], 0.1, 0.05, dtype=torch.float64)
    >>> history = net.fit(X, y, epochs=60, progress=False)
    >>> net.zero_groups()[0], net.live_inputs().tolist()
    (3, [0, 1])
    """

    def __init__(
        self,
        widths: Sequence[int],
        slope: float = 0.01,
        group_penalty: float | Sequence[float] = 1e-3,
        *,
        seed: int = 0,
        first: float = 1.0,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        **options: Any,
    ):
        if not isinstance(widths, Sequence) or isinstance(widths, str) or len(widths) < 2:
            raise InputError(f"widths is {widths!r}: expected a list of at least two numbers, inputs and outputs")
        for i, width in enumerate(widths):
            if not isinstance(width, int) or isinstance(width, bool) or width < 1:
                raise InputError(f"widths[{i}] is {width!r}: expected a whole number of at least 1", index=(i,))
        (first,) = numbers("first", first, 1, positive=True)
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise TypeError(f"seed is a {type(seed).__name__}: expected a whole number")
        generator = torch.Generator().manual_seed(seed)
        layers = []
        for inputs, outputs in itertools.pairwise(widths):
            layer = nn.Linear(inputs, outputs, dtype=dtype, device=device)
            with torch.no_grad():
                noise = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
                layer.weight.copy_(first / math.sqrt(inputs) * noise)
                layer.bias.zero_()
            layers.append(layer)
        self._build(layers, slope, group_penalty, **options)

    @classmethod
    def from_modules(
        cls,
        modules: nn.Sequential | Sequence[nn.Module],
        group_penalty: float | Sequence[float] = 1e-3,
        **options: Any,
    ) -> GroupSparseNetwork:
        """Take over an ordinary network, with copies of its weights; options as in the constructor.

        Understood: Linear, and after each one LeakyReLU or ReLU, all of one slope; the last activation is absent for
        ``loss="cross_entropy"``. Raises TypeError for another module or dtype, and InputError for widths that do not
        fit, by the module's index.

        >>> plain = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.2), nn.Linear(4, 2), nn.LeakyReLU(0.2))
        >>> GroupSparseNetwork.from_modules(plain, 0.01).slope
        0.2
        """
        if not isinstance(modules, (nn.Sequential, Sequence)):
            raise TypeError(f"modules is a {type(modules).__name__}: expected an nn.Sequential, or a list of modules")
        modules = list(modules)
        layers, slopes = [], set()
        for i, module in enumerate(modules):
            expected = nn.Linear if i % 2 == 0 else (nn.LeakyReLU, nn.ReLU)
            if not isinstance(module, expected) or (i % 2 == 0 and module.bias is None):
                what = "Linear with bias=True" if i % 2 == 0 else "LeakyReLU or ReLU"
                raise TypeError(f"modules[{i}] is {module}: expected {what}")
            if i % 2 == 0:
                if layers and module.in_features != layers[-1].out_features:
                    raise InputError(
                        f"modules[{i}] has {module.in_features} inputs: expected {layers[-1].out_features}, the "
                        f"outputs of modules[{i - 2}]",
                        index=(i,),
                    )
                if layers and module.weight.dtype != layers[-1].weight.dtype:
                    raise TypeError(
                        f"modules[{i}] has dtype {module.weight.dtype}: expected {layers[-1].weight.dtype}, like "
                        f"modules[{i - 2}]"
                    )
                layer = nn.Linear(
                    module.in_features, module.out_features, dtype=module.weight.dtype, device=module.weight.device
                )
                layer.load_state_dict(module.state_dict())
                layers.append(layer)
            else:
                slopes.add(getattr(module, "negative_slope", 0.0))
        last = options.get("loss", "squared") == "squared"
        if not layers or (len(modules) % 2 == 0) != last:
            raise TypeError(
                "modules must end with an activation for loss='squared', and with a Linear for loss='cross_entropy'"
            )
        if len(slopes) > 1:
            raise InputError(f"modules have the slopes {sorted(slopes)}: expected one slope for all activations")
        self = cls.__new__(cls)
        self._build(layers, slopes.pop() if slopes else 0.0, group_penalty, **options)
        return self

    def _build(
        self,
        layers: list[nn.Linear],
        slope: float,
        group_penalty: float | Sequence[float],
        *,
        loss: str = "squared",
        rho: float = 1.0,
        activation_penalty: float = 1.0,
        growth: float = 1.2,
        sweeps: int = 3,
        pair_steps: int = 1,
        w_steps: int = 10,
        patience: int = 30,
    ) -> None:
        super().__init__()
        _slope(slope)
        if loss not in LOSSES:
            raise InputError(f"loss is {loss!r}: expected one of {', '.join(LOSSES)}")
        self.layers = nn.ModuleList(layers)
        self.slope = float(slope)
        self.loss = loss
        self.group_penalty = numbers("group_penalty", group_penalty, len(layers), positive=False)
        (self.rho,) = numbers("rho", rho, 1, positive=True)
        (self.activation_penalty,) = numbers("activation_penalty", activation_penalty, 1, positive=True)
        (self.growth,) = numbers("growth", growth, 1, positive=True)
        if self.growth < 1:
            raise InputError(f"growth is {self.growth:g}: expected a number of at least 1")
        counts = {"sweeps": sweeps, "pair_steps": pair_steps, "w_steps": w_steps, "patience": patience}
        for name, value in counts.items():
            whole(name, value)
            setattr(self, name, value)
        self.history = History()
        self._point: LiftedPoint | None = None
        self._idle: list[Tensor] = []  # for each hidden unit the sweeps in a row in which nobody heard it
        self._residuals: list[float] = []
        self._data: list[float] = []  # tells whether the next call of fit brings the same data

    # -- the network as such ------------------------------------------------------------------------------------------

    def forward(self, X: Tensor) -> Tensor:
        """Return the outputs: V_L for the squared loss, logits for cross-entropy."""
        for l, layer in enumerate(self.layers):
            X = layer(X)
            if self._activated(l):
                X = leaky(X, self.slope)
        return X

    def _activated(self, l: int) -> bool:
        return l < len(self.layers) - 1 or self.loss == "squared"

    def predict(self, X: Tensor) -> Tensor:
        """Return the outputs of a squared loss, or the most probable class of each sample (int64)."""
        with torch.no_grad():
            outputs = self(self._samples("X", X))
        return outputs.argmax(-1) if self.loss == "cross_entropy" else outputs

    def score(self, X: Tensor, y: Tensor) -> float:
        """Return the accuracy where y are labels (int64), else R^2."""
        X, T = self._checked(X, y)
        with torch.no_grad():
            return self._score(self(X), T, y.dtype == torch.int64)

    def _score(self, outputs: Tensor, T: Tensor, labels: bool) -> float:
        if labels:
            return float((outputs.argmax(-1) == T.argmax(-1)).double().mean())
        return float(1 - (outputs - T).square().sum() / (T - T.mean(0)).square().sum())

    def objective(self, X: Tensor, y: Tensor) -> float:
        """Return the mean loss plus the group norms, at the outputs that the network really computes."""
        X, T = self._checked(X, y)
        with torch.no_grad():
            return self._objective(self(X), T, [layer.weight for layer in self.layers])

    def _objective(self, outputs: Tensor, T: Tensor, weights: Sequence[Tensor]) -> float:
        mean = float(self._losses(outputs, T).sum(dtype=torch.float64)) / len(T)
        return mean + self._group_norms(weights)  # eq: eq-group-objective

    def _losses(self, outputs: Tensor, T: Tensor) -> Tensor:
        if self.loss == "squared":
            return (outputs - T).square().sum(-1) / 2
        return -(T * F.log_softmax(outputs, -1)).sum(-1)

    def _group_norms(self, weights: Sequence[Tensor]) -> float:
        total = 0.0
        for penalty, W in zip(self.group_penalty, weights, strict=True):
            total += penalty * float(torch.linalg.vector_norm(W.double(), dim=0).sum())
        return total

    def zero_groups(self) -> list[int]:
        """Return for each layer how many of its inputs it does not listen to: columns that are exactly zero."""
        return [int((layer.weight == 0).all(0).sum()) for layer in self.layers]

    def live_inputs(self) -> Tensor:
        """Return the indices of the inputs on which an output can depend, in order (int64)."""
        return self._reduced()[2]

    def export(self, *, drop_inputs: bool = False) -> nn.Sequential:
        """Return an ordinary network of torch modules without the hidden units that nobody listens to.

        Its output is that of ``forward`` up to rounding. A unit that hears nothing itself is a constant, which goes
        into the offsets above. At least one unit stays in each layer. ``drop_inputs``: leave out dead inputs as well;
        the result then takes ``X[:, net.live_inputs()]``.

        >>> net = GroupSparseNetwork([2, 3, 1], 0.1)
        >>> with torch.no_grad():
        ...     net.layers[1].weight[:, 1] = 0.0
        >>> net.export()
        Sequential(
          (0): Linear(in_features=2, out_features=2, bias=True)
          (1): LeakyReLU(negative_slope=0.1)
          (2): Linear(in_features=2, out_features=1, bias=True)
          (3): LeakyReLU(negative_slope=0.1)
        )
        """
        weights, offsets, live = self._reduced()
        if drop_inputs:
            live = live if len(live) else live.new_zeros(1)  # one input stays; its weights are zero
            weights[0] = weights[0][:, live]
        modules: list[nn.Module] = []
        for l, (W, b) in enumerate(zip(weights, offsets, strict=True)):
            layer = nn.Linear(W.shape[1], W.shape[0], dtype=W.dtype, device=W.device)
            with torch.no_grad():
                layer.weight.copy_(W)
                layer.bias.copy_(b)
            modules.append(layer)
            if self._activated(l):
                modules.append(nn.LeakyReLU(self.slope) if self.slope else nn.ReLU())
        return nn.Sequential(*modules)

    def _reduced(self) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Return weights and offsets without dead units, and the inputs that are live."""
        weights = [layer.weight.detach() for layer in self.layers]
        offsets = [layer.bias.detach() for layer in self.layers]
        changed = True
        while changed:  # a unit that goes may leave another one dead, above or below
            changed = False
            for l in range(len(weights) - 1):
                above, own = weights[l + 1], weights[l]
                constant = (own == 0).all(1)
                heard = (above != 0).any(0)
                keep = heard & ~constant
                keep[0] |= ~keep.any()
                if bool(keep.all()):
                    continue
                offsets[l + 1] = offsets[l + 1] + above[:, ~keep] @ leaky(offsets[l][~keep], self.slope)
                weights[l + 1], weights[l], offsets[l] = above[:, keep], own[keep], offsets[l][keep]
                changed = True
        live = (weights[0] != 0).any(0)
        if any(not bool((W != 0).any()) for W in weights):
            live = torch.zeros_like(live)  # some layer hears nothing at all: the outputs are constant
        return weights, offsets, live.nonzero().squeeze(1)

    # -- the lifted point ---------------------------------------------------------------------------------------------

    def lift(self, X: Tensor, y: Tensor) -> LiftedPoint:
        """Return the feasible point at the network's weights: U and V by the forward pass, multipliers backwards.

        ``Xi_L = -s'(U_L) (V_L - Y)`` and ``Xi_l = s'(U_l) Xi_{l+1} W_{l+1}``: these are the only multipliers for which
        the pairs (v, u) can be stationary where no u is 0. A stationary network is so a fixed point of the method.
        """
        return self._lift(*self._checked(X, y))

    def _lift(self, X: Tensor, T: Tensor) -> LiftedPoint:
        weights = tuple(layer.weight.detach().to(X.dtype, copy=True) for layer in self.layers)
        offsets = tuple(layer.bias.detach().to(X.dtype, copy=True) for layer in self.layers)
        us, vs, v = [], [], X
        for l, (W, b) in enumerate(zip(weights, offsets, strict=True)):
            us.append(torch.addmm(b, v, W.mT))
            v = leaky(us[-1], self.slope) if self._activated(l) else us[-1]
            vs.append(v)
        pull = T - v if self.loss == "squared" else T - torch.softmax(v, -1)
        multipliers: list[Tensor] = []
        for l in reversed(range(len(weights))):
            if self._activated(l):
                pull = torch.where(us[l] > 0, pull, self.slope * pull)
            multipliers.insert(0, pull)
            pull = pull @ weights[l]  # eq: eq-backward-multipliers
        return LiftedPoint(weights, offsets, tuple(us), tuple(vs), tuple(multipliers))

    def lagrangian(self, point: LiftedPoint, X: Tensor, y: Tensor) -> float:
        """Return the augmented Lagrangian at a point, from its definition, in float64."""
        return self._lagrangian(point, *self._checked(X, y))

    def _lagrangian(self, point: LiftedPoint, X: Tensor, T: Tensor) -> float:
        total = self._losses(point.vs[-1].double(), T.double()).sum()
        for l in range(len(point.us)):
            residual = (point.us[l] - point.affine(X, l)).double()
            total += (point.multipliers[l].double() * residual).sum() + self.rho / 2 * residual.square().sum()
            if self._activated(l):
                slack = point.vs[l].double() - leaky(point.us[l].double(), self.slope)
                total += self.activation_penalty * slack.sum()
        return float(total) / len(X) + self._group_norms(point.weights)  # eq: eq-augmented

    def kkt_residual(self, X: Tensor, y: Tensor, *, at: str = "network", step: float = 1e-3) -> KKTResidual:
        """Return how far the network, or the iterate of the method, is from a Karush-Kuhn-Tucker point.

        ``at="network"``: the feasible point of :meth:`lift`, so that any network with such layers can be measured,
        however it was trained; beta is as large as its exactness asks for. ``at="iterate"``: the point of the method
        with its own multipliers, after a ``fit`` on the same data. ``step``: of the proximal step on the pairs (v, u).
        Everything is computed in float64. Source: chapter "Augmented Lagrangian".
        """
        X, T = self._checked(X, y)
        if at not in ("network", "iterate"):
            raise InputError(f"at is {at!r}: expected 'network' or 'iterate'")
        (step,) = numbers("step", step, 1, positive=True)
        point = self._lift(X.double(), T.double()) if at == "network" else self._point
        if point is None:
            raise InputError("at is 'iterate': expected a network that fit was called on")
        if len(point.us[0]) != len(X):
            raise InputError(f"X has {len(X)} samples: expected the {len(point.us[0])} that fit was called on")
        return self._residual(point, X, T, exact=at == "network", step=step)

    def _residual(self, point: LiftedPoint, X: Tensor, T: Tensor, *, exact: bool, step: float) -> KKTResidual:
        X, T = X.double(), T.double()
        point = point.to(torch.float64)
        n = len(X)
        affine = activation = weights = offsets = values = 0.0
        violation = kinks = 0.0
        for l, W in enumerate(point.weights):
            u, v, xi = point.us[l], point.vs[l], point.multipliers[l]
            below = point.vs[l - 1] if l else X
            affine += float((u - point.affine(X, l)).square().sum()) / n
            gradient = -(xi.mT @ below) / n
            moved = W - shrink_groups(W - gradient, self.group_penalty[l])  # eq: eq-kkt-weights
            weights += float(moved.square().sum())
            offsets += float((xi.sum(0) / n).square().sum())
            if not self._activated(l):
                values += float((torch.softmax(u, -1) - T + xi).square().sum()) / n
                continue
            slack = v - leaky(u, self.slope)
            activation += float(slack.square().sum()) / n
            violation = max(violation, -float(slack.min()))
            top = l == len(point.weights) - 1
            pull = T - v if top else point.pull(l)
            beta = max(self.activation_penalty, float(pull.max())) if exact else self.activation_penalty
            a = 1 / step + top
            p = (v / step + (T if top else pull)) / a
            v_new, u_new = _pair(p, u - step * xi, a, 1 / step, self.slope, beta)
            values += float((v_new - v).square().sum() + (u_new - u).square().sum()) / (step * step * n)
            ways = torch.stack([beta - pull, xi - pull, self.slope * pull - xi])  # eq: eq-kkt-kink
            kink = (u == 0) & (v == 0)
            kinks = max(kinks, -float(torch.where(kink, ways, 0.0).min()))
        return KKTResidual(
            math.sqrt(affine), math.sqrt(activation), violation, math.sqrt(weights), math.sqrt(offsets),
            math.sqrt(values), kinks,
        )  # fmt: skip

    # -- training -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Tensor,
        y: Tensor,
        *,
        epochs: int = 100,
        tol: float = 1e-6,
        validation: tuple[Tensor, Tensor] | None = None,
        progress: bool | Callable[[dict[str, float]], Any] = True,
        trace: bool = False,
    ) -> History:
        """Train for ``epochs`` outer iterations, going on from where the last call stopped; return the history.

        An outer iteration is ``sweeps`` sweeps over all blocks with all data, which decrease the augmented Lagrangian,
        and then one step of the multipliers. ``X``: (samples, inputs), of the network's dtype. ``y``: labels (int64),
        or real targets (samples, outputs) for the squared loss. ``tol``: stop where the augmented Lagrangian changes by
        less than this share of itself in an outer iteration. ``validation``: (X, y) whose score is shown too.
        ``progress``: True writes a line to stderr after each outer iteration, a callable gets each row. ``trace``: also
        record the augmented Lagrangian after each block step.

        A row has "objective" (the augmented Lagrangian), "loss" (the network's own objective, so the best so far),
        "iterate loss" (that of the iterate's weights), "gap affine" and "gap activation" (root mean squares of
        U - W V - b and V - s(U)), "zero groups" and the training score of the iterate. The first call starts at the
        network's own weights, and so does a call after they were changed from outside, or with other data.

        The first Ctrl-C lets the iteration finish and returns; a second one undoes it and raises KeyboardInterrupt.
        Either way everything is kept, and the next call goes on. A run that diverges (a number that is not finite, or a
        multiplier beyond all measure) warns, and leaves the best weights in place.
        """
        labels = isinstance(y, Tensor) and y.dtype == torch.int64
        X, T = self._checked(X, y)
        held_out = None
        if validation is not None:
            if not isinstance(validation, Sequence) or len(validation) != 2:
                raise TypeError(f"validation is a {type(validation).__name__}: expected a pair (X, y)")
            held_out = (*self._checked(*validation, name="validation"), validation[1])
        whole("epochs", epochs)
        numbers("tol", tol, 1, positive=False)
        for name, parameter in self.named_parameters():
            raise_not_finite(name, parameter.detach())
        try:
            design = Design.of(X)  # the first layer's inputs never change
        except FloatingPointError:
            largest = float(X.abs().max())
            raise InputError(
                f"X reaches {largest:.3g}: expected inputs whose squares have a finite sum in {X.dtype}; scale them"
            ) from None
        with torch.no_grad():
            self._start(X, T)

        def advance() -> Callable[[], bool]:
            with torch.no_grad():
                return self._iteration(X, T, design, trace)

        def measure() -> dict[str, float]:
            with torch.no_grad():
                return self._measure(X, T, labels, held_out)

        try:
            train(self, self.history, advance, measure, epochs=epochs, tol=tol, progress=progress)
        finally:
            if self.history.status == "diverged":
                self._point = None
        return self.history

    def _start(self, X: Tensor, T: Tensor) -> None:
        """Lift the network's weights, unless the iterate belongs to them and to these data."""
        data = [float(X.sum(dtype=torch.float64)), float(T.sum(dtype=torch.float64)), len(X)]
        if self._point is not None and (self._point.us[0].dtype, self._point.us[0].device) != (X.dtype, X.device):
            self._point = self._point.to(X)  # the network was moved by .to()
            self.history.best["weights"] = {name: t.to(X) for name, t in self.history.best["weights"].items()}
        best = self.history.best.get("weights", {})
        same = bool(best) and all(torch.equal(p, best[name]) for name, p in self.named_parameters())
        if self._point is not None and same and data == self._data:
            return
        if self.history.rows:
            self.history.mark("other data" if data != self._data else "other weights")
            loss = self._objective(self(X), T, [layer.weight for layer in self.layers])
            weights = {name: p.detach().clone() for name, p in self.named_parameters()}
            self.history.best = {"pass": self.history.passes, "loss": loss, "weights": weights}
        self._point, self._data, self._residuals = self._lift(X, T), data, []
        self._idle = [torch.zeros(len(b), dtype=torch.int64) for b in self._point.offsets[:-1]]

    def _iteration(self, X: Tensor, T: Tensor, design: Design, trace: bool) -> Callable[[], bool]:
        """Compute an outer iteration, change nothing, and return what puts it into place."""
        last = len(self.layers) - 1
        idle = [count.to(X.device) for count in self._idle]
        whole, units = self._awake(replace(self._point, first=None), idle)  # as a saved run does, for the same bits
        point = whole.only(units)
        point = replace(point, first=point.affine(X, 0))
        notes: list[tuple[str, float]] = []

        def note(block: str) -> None:
            if trace:
                notes.append((block, self._lagrangian(whole.with_units(point, units), X, T)))

        if trace:
            notes.append(("start", self._lagrangian(self._point, X, T)))
        for _ in range(self.sweeps):
            for l in range(last, -1, -1):
                for _ in range(self.pair_steps if l < last else 1):
                    point = self._pair_step(point, X, T, l)
                note(f"V{l + 1}")
            for l in range(last + 1):
                inputs = design if l == 0 else Design.of(point.vs[l - 1])
                target = point.us[l] + point.multipliers[l] / self.rho
                penalty = len(X) * self.group_penalty[l]
                W, b = group_weight_step(point.weights[l], inputs, target, self.rho, penalty, self.w_steps)
                point = point.put("weights", l, W).put("offsets", l, b)
                if l == 0:
                    point = replace(point, first=point.affine(X, 0))
                else:
                    unheard = torch.ones_like(idle[l - 1])
                    unheard[units[l - 1]] = (W == 0).all(0).long()
                    idle[l - 1] = (idle[l - 1] + 1) * unheard
                note(f"W{l + 1}")
            if any(bool((count[own] >= self.patience).any()) for count, own in zip(idle, units, strict=True)):
                whole, units = self._awake(whole.with_units(point, units), idle)
                point = whole.only(units)
        point = whole.with_units(point, units)
        for l in range(last + 1):
            residual = point.us[l] - point.affine(X, l)
            point = point.put("multipliers", l, point.multipliers[l] + self.rho * residual)  # eq: eq-multiplier-update
        if not all(bool(torch.isfinite(t).all()) for part in point.parts().values() for t in part):
            raise FloatingPointError("the iterate is not finite")
        largest = max(float(xi.abs().max()) for xi in point.multipliers)
        if largest > BOUND:
            raise FloatingPointError(f"a multiplier is {largest:.3g}: try a larger rho, or inputs of a smaller scale")

        def commit() -> bool:
            self._point, self._idle = point, idle
            number = self.history.steps[-1][1] + 1 if self.history.steps else 0
            self.history.steps += [(self.history.passes + 1, number, *one) for one in notes]
            self._adapt(X)
            return True

        return commit

    def _awake(self, point: LiftedPoint, idle: list[Tensor]) -> tuple[LiftedPoint, list[Tensor]]:
        """Return the point with the units at rest at their best, and in each hidden layer the indices of the others."""
        units = []
        for l, count in enumerate(idle):
            still = count >= self.patience
            if bool(still.any()):
                point = self._rest(point, l, still)
            still[0] &= ~still.all()  # one unit stays, so that no layer is empty
            units.append((~still).nonzero().squeeze(1))
        return point, units

    def _rest(self, point: LiftedPoint, l: int, still: Tensor) -> LiftedPoint:
        """Minimise over all that is the own of units which nobody hears: their weights become zero, U and V the best.

        The multipliers are zero after their next step, and then no block step moves such a unit: it need not be looked
        at again.
        """
        W, u, v = (t.clone() for t in (point.weights[l], point.us[l], point.vs[l]))
        W[still] = 0.0
        u[:, still] = point.offsets[l][still] - point.multipliers[l][:, still] / self.rho  # eq: eq-rest
        v[:, still] = leaky(u[:, still], self.slope)
        first = point.first
        point = point.put("weights", l, W).put("us", l, u).put("vs", l, v)
        if l == 0 and first is not None:
            first = first.clone()
            first[:, still] = point.offsets[0][still]
            point = replace(point, first=first)
        return point

    def _pair_step(self, point: LiftedPoint, X: Tensor, T: Tensor, l: int) -> LiftedPoint:
        """Improve U_l and V_l together; exactly at the top, by a majoriser of the layer above elsewhere."""
        q = point.affine(X, l) - point.multipliers[l] / self.rho
        if not self._activated(l):
            u = logits_step(point.us[l], T, q, self.rho)
            return point.put("us", l, u).put("vs", l, u)
        if l == len(self.layers) - 1:
            v, u = _pair(T, q, 1.0, self.rho, self.slope, self.activation_penalty)
        else:
            W = point.weights[l + 1]
            least = torch.finfo(W.dtype).eps ** 0.5  # where W is zero any positive number majorises
            gamma = self.rho * spectral_square(W).clamp(min=least).to(W.dtype)
            residual = point.us[l + 1] - point.affine(X, l + 1)
            p = point.vs[l] + (point.multipliers[l + 1] + self.rho * residual) @ W / gamma  # eq: eq-majoriser
            v, u = _pair(p, q, gamma, self.rho, self.slope, self.activation_penalty)
        return point.put("us", l, u).put("vs", l, v)

    def _gaps(self, point: LiftedPoint, X: Tensor) -> tuple[float, float]:
        """Return the root mean squares over samples of ``U - W V - b`` and of ``V - s(U)``."""
        affine = activation = 0.0
        for l, (u, v) in enumerate(zip(point.us, point.vs, strict=True)):
            affine += float((u - point.affine(X, l)).square().sum(dtype=torch.float64))
            if self._activated(l):
                activation += float((v - leaky(u, self.slope)).square().sum(dtype=torch.float64))
        return math.sqrt(affine / len(X)), math.sqrt(activation / len(X))

    def _adapt(self, X: Tensor) -> None:
        """Let rho grow where the affine residual is not below all of the last ones, beta where the slack dominates."""
        affine, activation = self._gaps(self._point, X)
        window = self._residuals[-2 * len(self.layers) :]
        full = len(window) == 2 * len(self.layers) and self.growth > 1
        if full and affine >= max(window) and affine > NEGLIGIBLE and self.rho < MOST:
            self.rho = min(MOST, self.growth * self.rho)
            self.history.mark(f"rho {self.rho:.4g}")
            window = []  # so that the new rho has time to show what it does
        dominates = activation**2 > 10 * affine**2 and activation > NEGLIGIBLE
        if dominates and self.growth > 1 and self.activation_penalty < MOST:
            self.activation_penalty = min(MOST, self.growth * self.activation_penalty)
            self.history.mark(f"beta {self.activation_penalty:.4g}")
        self._residuals = [*window, affine]

    def _measure(
        self, X: Tensor, T: Tensor, labels: bool, held_out: tuple[Tensor, Tensor, Tensor] | None
    ) -> dict[str, float]:
        """Return the row of the outer iteration that is whole, and keep its weights if they are the best."""
        point = self._point
        v = X
        for l, (W, b) in enumerate(zip(point.weights, point.offsets, strict=True)):
            v = point.affine(X, 0) if l == 0 else torch.addmm(b, v, W.mT)
            v = leaky(v, self.slope) if self._activated(l) else v
        here = self._objective(v, T, point.weights)
        best = min(here, self.history.best.get("loss", math.inf))
        if best == here:
            for layer, W, b in zip(self.layers, point.weights, point.offsets, strict=True):
                layer.weight.copy_(W)
                layer.bias.copy_(b)
        affine, activation = self._gaps(point, X)
        row = {"objective": self._lagrangian(point, X, T), "loss": best, "iterate loss": here}
        row |= {"gap affine": affine, "gap activation": activation}
        row["zero groups"] = sum(int((W == 0).all(0).sum()) for W in point.weights)
        name = "accuracy" if labels else "R2"
        row[f"training {name}"] = self._score(v, T, labels)
        if held_out is not None:
            outputs, labelled = self(held_out[0]), held_out[2].dtype == torch.int64
            row["validation accuracy" if labelled else "validation R2"] = self._score(outputs, held_out[1], labelled)
        return row

    # -- resumption ---------------------------------------------------------------------------------------------------

    _resumed = ("rho", "activation_penalty", "_idle", "_residuals", "_data")

    def get_extra_state(self) -> dict[str, Any]:
        """Return what resuming needs beside the weights; ``state_dict`` calls it."""
        point = None if self._point is None else {name: list(part) for name, part in self._point.parts().items()}
        return {
            **{name: getattr(self, name) for name in self._resumed},
            "point": point,
            "history": self.history.state_dict(),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`get_extra_state` returned; ``load_state_dict`` calls it."""
        for name in self._resumed:
            setattr(self, name, state[name])
        self.history.load_state_dict(state["history"])
        point = state["point"]
        if point is not None:
            point = LiftedPoint(**{name: tuple(part) for name, part in point.items()}).to(self.layers[0].weight)
        self._point = point

    # -- input --------------------------------------------------------------------------------------------------------

    def _samples(self, name: str, X: Tensor) -> Tensor:
        """Return X if the network can take it; raise the error that says why not."""
        weight = self.layers[0].weight
        check_tensor(name, X, weight)
        check_width(name, X, weight.shape[1])
        return check_samples(name, X)

    def _checked(self, X: Tensor, y: Tensor, name: str = "") -> tuple[Tensor, Tensor]:
        """Return X and the targets as rows; raise the error that names what does not fit."""
        names = (f"{name} X", f"{name} y") if name else ("X", "y")
        self._samples(names[0], X)
        outputs = self.layers[-1].out_features
        check_rows(names, X, y)
        if y.dtype == torch.int64:
            return X, labels_as_rows(names[1], y, outputs, X.dtype)
        if self.loss == "cross_entropy":
            raise TypeError(
                f"{names[1]} has dtype {y.dtype}: expected torch.int64 labels for loss='cross_entropy'; call .long()"
            )
        if y.dtype != X.dtype:
            raise TypeError(
                f"{names[1]} has dtype {y.dtype}: expected {X.dtype}, like {names[0]}, or torch.int64 labels"
            )
        return X, check_targets(names[1], y, outputs)


def logits_step(u: Tensor, T: Tensor, q: Tensor, rho: float, steps: int = 20) -> Tensor:
    """Improve logits u in ``min_u log sum exp(u) - <T, u> + rho/2 |u - q|^2``, each row on its own.

    Method: accelerated gradient with the certain bound ``1/2 + rho`` on the curvature; no row's value rises.
    """
    curvature = 0.5 + rho

    def step(y: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        y = y - (torch.softmax(y, -1) - T + rho * (y - q)) / curvature
        return y, y

    def value(y: Tensor, _: Tensor) -> Tensor:
        return torch.logsumexp(y, -1) - (T * y).sum(-1) + rho / 2 * (y - q).square().sum(-1)

    return descend(step, value, u, u, steps, rho / curvature)[0]


# ---- input ----------------------------------------------------------------------------------------------------------


def _slope(slope: float) -> None:
    if not isinstance(slope, (int, float)) or isinstance(slope, bool):
        raise TypeError(f"slope is a {type(slope).__name__}: expected a number")
    if not 0 <= slope < 1:
        raise InputError(f"slope is {slope:g}: expected a number from 0 up to, but not including, 1")


def _positive(name: str, value: Tensor | float) -> None:
    if isinstance(value, Tensor):
        bad = ~((value > 0) & (value < math.inf))
        if bool(bad.any()):
            index = first_index(bad)
            raise InputError(
                f"{name}{list(index) or ''} is {value[index].item():g}: expected a positive number", index=index
            )
    else:
        numbers(name, value, 1, positive=True)
