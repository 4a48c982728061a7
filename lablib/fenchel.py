"""Train a network without backpropagation: activations as biconvex constraints, and blocks that are solved in turn.

A nondecreasing activation is an argmin: ``phi(u) = argmin_v G*(v) - u v`` with G an antiderivative of phi and G* its
conjugate. How far v is from phi(u) is measured by the Fenchel gap

    B(v, u) = G*(v) + G(u) - u v  >= 0,      B(v, u) = 0 exactly where v = phi(u),

which is convex in v and in u. The lifted problem takes the hidden values X_l as variables of their own:

    min over X, W   1/n sum_i sum_l lambda_l B_l(X_l, U_l) + decay/2 |W|^2,      U_l = W_l X_{l-1} + b_l,

with X_0 the data, X_L the targets and lambda_L = 1: the loss of a softmax or squared-loss head is a Fenchel gap too.
The problem is convex in each X_l and in each (W_l, b_l), so each is a block that convex optimisation improves with
certainty, and no gradient crosses more than one layer. Weights' blocks do not see each other.

Source: Gu, Askari and El Ghaoui, Fenchel lifted networks (arXiv 1811.08039), its opening and its released code; the
algorithm here is derived in the chapter "Fenchel lifting".
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .solution import InputError
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

# ---- activations ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Activation:
    """A nondecreasing activation phi as a constraint: the Fenchel gap, and the step that the gap asks for.

    ``phi(u)``: the activation. ``gap(v, u)``: ``G*(v) + G(u) - u v`` for a v that phi can reach; for each entry, and
    for softmax summed over the last dimension, which is kept with size 1. ``lower``, ``upper``: the ends of what it can
    reach. ``prox(r, c)``: the x with
    ``x + c phi^-1(x) = r``, which minimises ``1/2 |x - r|^2 + c G*(x)``. ``lipschitz``: a certain bound L on phi', so
    that G has curvature at most L and G* at least 1/L. ``module()``: the activation as a torch module. ``slope``: that
    of a leaky ReLU below 0.
    """

    name: str
    phi: Callable[[Tensor], Tensor]
    gap: Callable[[Tensor, Tensor], Tensor]
    prox: Callable[[Tensor, float], Tensor] | None
    lipschitz: float
    module: Callable[[], nn.Module]
    lower: float = -math.inf
    upper: float = math.inf
    slope: float = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name and the slope, since functions without a name cannot be."""
        return _activation, (self.name, self.slope, (self.name,))


def _bernoulli(p: Tensor, u: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of sigmoid(u) from p."""
    entropy = torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)
    # The three terms cancel near p = sigmoid(u), where rounding could leave -1e-17.
    return (entropy - p * F.logsigmoid(u) - (1 - p) * F.logsigmoid(-u)).clamp(min=0)


def _relu_gap(v: Tensor, u: Tensor) -> Tensor:
    return (v - u.clamp(min=0)).square() / 2 - v * u.clamp(max=0)  # eq: eq-fenchel-gap-relu


def _leaky_gap(v: Tensor, u: Tensor, slope: float) -> Tensor:
    over, under, up, down = v.clamp(min=0), v.clamp(max=0), u.clamp(min=0), u.clamp(max=0)
    return (over - up).square() / 2 + (under - slope * down).square() / (2 * slope) - up * under - down * over


def _softmax_gap(v: Tensor, u: Tensor) -> Tensor:
    return (torch.xlogy(v, v) - v * F.log_softmax(u, -1)).sum(-1, keepdim=True).clamp(min=0)


def _solve(phi: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor], r: Tensor, c: float) -> Tensor:
    """Return x = phi(s) with ``phi(s) + c s = r``, for a phi with its inflection at 0.

    Newton from s = 0: on the root's side phi is concave where the root is above and convex where it is below, so the
    iterates come up to the root and never pass it. Twenty of them reach rounding for c >= 1e-8.
    """
    s = torch.zeros_like(r)
    for _ in range(20):
        x = phi(s)
        s = s - (x + c * s - r) / (slope(x) + c)
    return phi(s)


def _leaky(slope: float) -> Activation:
    return Activation(
        "leaky_relu",
        lambda u: F.leaky_relu(u, slope),
        lambda v, u: _leaky_gap(v, u, slope),
        lambda r, c: r.clamp(min=0) / (1 + c) + r.clamp(max=0) / (1 + c / slope),
        1.0,
        lambda: nn.LeakyReLU(slope),
        slope=slope,
    )


ACTIVATIONS = {
    one.name: one
    for one in (
        Activation("relu", torch.relu, _relu_gap, lambda r, c: r.clamp(min=0) / (1 + c), 1.0, nn.ReLU, 0.0),
        _leaky(0.01),
        Activation(
            "sigmoid",
            torch.sigmoid,
            _bernoulli,
            lambda r, c: _solve(torch.sigmoid, lambda x: x * (1 - x), r, c),
            0.25,
            nn.Sigmoid,
            0.0,
            1.0,
        ),
        Activation(
            "tanh",
            torch.tanh,
            lambda v, u: _bernoulli((1 + v) / 2, 2 * u),  # since tanh(u) = 2 sigmoid(2 u) - 1
            lambda r, c: _solve(torch.tanh, lambda x: 1 - x * x, r, c),
            1.0,
            nn.Tanh,
            -1.0,
            1.0,
        ),
        Activation("softmax", lambda u: torch.softmax(u, -1), _softmax_gap, None, 0.5, lambda: nn.Softmax(-1), 0.0),
        Activation(
            "identity", lambda u: u, lambda v, u: (v - u).square() / 2, lambda r, c: r / (1 + c), 1.0, nn.Identity
        ),
    )
}
HIDDEN = ("relu", "leaky_relu", "sigmoid", "tanh")
HEADS = {"softmax": "softmax", "squared": "identity"}


def _activation(name: str, slope: float, allowed: Sequence[str], argument: str = "activation") -> Activation:
    if name not in allowed:
        raise InputError(f"{argument} is {name!r}: expected one of {', '.join(allowed)}")
    if name == "leaky_relu":
        if not 0 < slope < 1:
            raise InputError(f"slope is {slope:g}: expected a number between 0 and 1; for 0 take activation='relu'")
        return _leaky(slope)
    return ACTIVATIONS[name]


def fenchel_gap(v: Tensor, u: Tensor, activation: str = "relu", *, slope: float = 0.01) -> Tensor:
    """Return ``B(v, u) = G*(v) + G(u) - u v``: how far v is from phi(u), as a function convex in v and in u.

    Method: closed forms, for ReLU and leaky ReLU without a difference of large terms. ``v``, ``u``: tensors that
    broadcast; the result has their shape, but for softmax, which sums over the last dimension. ``activation``: relu,
    leaky_relu (with ``slope``), sigmoid, tanh, softmax or identity. Where phi cannot reach v the gap is inf. With L the
    Lipschitz constant of phi (1; sigmoid 1/4, softmax 1/2), ``|v - phi(u)|^2 / (2 L) <= B``. Raises InputError for an
    unknown activation and for shapes that do not broadcast, TypeError for what is no tensor. Source: chapter "Fenchel
    lifting".

    >>> fenchel_gap(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([-3.0, -3.0, 1.0])).tolist()
    [0.0, 3.5, 0.0]
    """
    phi = _activation(activation, slope, tuple(ACTIVATIONS))
    for name, t in (("v", v), ("u", u)):
        if not isinstance(t, Tensor):
            raise TypeError(f"{name} is a {type(t).__name__}: expected a torch tensor; torch.as_tensor makes one")
    try:
        torch.broadcast_shapes(v.shape, u.shape)
    except RuntimeError:
        raise InputError(f"v has shape {tuple(v.shape)} and u {tuple(u.shape)}: expected ones that broadcast") from None
    gap, outside = phi.gap(v, u), (v < phi.lower) | (v > phi.upper)
    if activation == "softmax":
        gap = gap.squeeze(-1)
        outside = outside.any(-1) | ((v.sum(-1) - 1).abs() > 1e-4)
    return torch.where(outside, math.inf, gap)


# ---- layers ---------------------------------------------------------------------------------------------------------


class AffineLayer(nn.Module):
    """An affine map ``x -> core(before(x))``: pooling and flattening, then a Linear or a Conv2d.

    Its weights are handled as one matrix W of shape (inputs + 1, outputs), the offsets in the last row, so that every
    layer is ``rows(U) = design(x) W``. A convolution's design has a row for each place.
    """

    def __init__(self, before: Sequence[nn.Module], core: nn.Linear | nn.Conv2d):
        super().__init__()
        self.before = nn.Sequential(*before)
        self.core = core

    def forward(self, x: Tensor) -> Tensor:
        """Return U for the layer's own weights."""
        return self.core(self.before(x))

    @property
    def is_conv(self) -> bool:
        """Whether the core is a convolution."""
        return isinstance(self.core, nn.Conv2d)

    def matrix(self) -> Tensor:
        """Return the weights as one matrix."""
        return torch.cat([self.core.weight.detach().flatten(1), self.core.bias.detach().unsqueeze(1)], 1).T

    def put(self, W: Tensor) -> None:
        """Store a matrix as weights."""
        with torch.no_grad():
            self.core.weight.copy_(W[:-1].T.reshape(self.core.weight.shape))
            self.core.bias.copy_(W[-1])

    def _kernel(self, W: Tensor) -> Tensor:
        return W[:-1].T.reshape(self.core.weight.shape)

    def apply_with(self, x: Tensor, W: Tensor) -> Tensor:
        """Return U for the weights W."""
        x = self.before(x)
        if self.is_conv:
            return F.conv2d(x, self._kernel(W), W[-1], self.core.stride, self.core.padding)
        return torch.addmm(W[-1], x, W[:-1])

    def adjoint(self, r: Tensor, W: Tensor, x: Tensor) -> Tensor:
        """Return the transpose of the linear part times r, in the shape of x."""
        if not self.is_conv:
            r = r @ W[:-1].T
        else:
            shape = self.before(x.to("meta")).shape
            r = nn.grad.conv2d_input(shape, self._kernel(W), r, self.core.stride, self.core.padding)
        return torch.func.vjp(self.before, x)[1](r)[0] if len(self.before) else r

    def norm(self, W: Tensor, x: Tensor) -> Tensor:
        """Return a bound on the spectral norm that is certain: exact for Linear, up to rounding.

        A convolution is part of the one on a torus, whose singular values are those of its Fourier coefficients.
        """
        if self.is_conv:
            size = self.before(x[:1].to("meta")).shape[-2:]
            size = [s + 2 * p for s, p in zip(size, self.core.padding, strict=True)]
            K = torch.fft.rfft2(self._kernel(W).double(), s=size).movedim((0, 1), (-2, -1))
        else:
            K = W[:-1].double()
        gram = K @ K.mH if K.shape[-2] < K.shape[-1] else K.mH @ K
        largest = torch.linalg.eigvalsh(gram).amax().clamp(min=0).sqrt()
        for module in self.before:
            if isinstance(module, nn.AvgPool2d):
                largest = largest / math.sqrt(math.prod(nn.modules.utils._pair(module.kernel_size)))
        return largest * (1 + 1e-6)

    def design(self, x: Tensor) -> Tensor:
        """Return the rows that W is applied to, each with a 1 at its end."""
        x = self.before(x)
        if self.is_conv:
            c = self.core
            x = F.unfold(x, c.kernel_size, padding=c.padding, stride=c.stride).mT.flatten(0, 1)
        return torch.cat([x, x.new_ones(len(x), 1)], 1)

    def rows(self, t: Tensor) -> Tensor:
        """Return what has the shape of U as rows of outputs."""
        return t.movedim(1, -1).flatten(0, -2) if self.is_conv else t


# ---- the two block steps ---------------------------------------------------------------------------------------------


def _spread(flag: Tensor, t: Tensor) -> Tensor:
    """Give a value for each sample the dimensions of t; a single value stays."""
    return flag.reshape(-1, *[1] * (t.dim() - 1)) if flag.dim() else flag


def descend(
    step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    value: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    u: Tensor,
    steps: int,
    ratio: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Minimise a convex function by accelerated steps that never raise it; return x and its image u.

    Method: Nesterov's extrapolation, with the function's value as a judge. Where a step would raise it, x stays and the
    momentum starts anew; from there a step without momentum descends by construction. ``step(x, u)``: such a step, and
    its image. ``u`` is affine in x, so an extrapolated u costs no product. ``value(x, u)``: the function, one number,
    or shape (n,) for n samples that do not see each other. ``ratio``: a lower bound on the strong convexity relative to
    the step's curvature; it limits the momentum.
    """
    best = value(x, u)
    count = torch.zeros_like(best)
    most = (1 - math.sqrt(ratio)) / (1 + math.sqrt(ratio))
    y, w = x, u
    for _ in range(steps):
        x_new, u_new = step(y, w)
        new = value(x_new, u_new)
        better = new <= best
        best = torch.where(better, new, best)
        count = torch.where(better, count + 1, 0.0)
        momentum = (count / (count + 3)).clamp(max=most).to(x.dtype)
        x_new = torch.where(_spread(better, x), x_new, x)
        u_new = torch.where(_spread(better, u), u_new, u)
        y = torch.lerp(x, x_new, 1 + _spread(momentum, x))  # x_new + momentum (x_new - x)
        w = torch.lerp(u, u_new, 1 + _spread(momentum, u))
        x, u = x_new, u_new
    return x, u


def representation_step(
    x: Tensor,
    u: Tensor,
    phi: Activation,
    multiplier: float,
    above: AffineLayer,
    W: Tensor,
    target: Tensor,
    phi_above: Activation,
    multiplier_above: float,
    steps: int,
) -> Tensor:
    """Improve hidden values x: ``min_x multiplier B(x, u) + multiplier_above B_above(target, above(x))``.

    Method: accelerated proximal gradient, each sample on its own. The gap of x stays whole, in a proximal step that has
    a closed form or Newton's; the layer above is smooth in x, and its gradient step is ``1 / c`` with the certain bound
    ``c = multiplier_above L_above |W|^2`` on its curvature. ``x``, ``u``: the layer's values, samples first. Returns
    the new x; no sample's value is above its old one. Source: chapter "Fenchel lifting".
    """
    norm = float(above.norm(W, x))
    curvature = max(multiplier_above * phi_above.lipschitz * norm * norm, 1e-9 * multiplier)  # eq: eq-fenchel-curvature
    weight = multiplier / curvature
    strong = multiplier / phi.lipschitz

    def step(y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        slope = above.adjoint(phi_above.phi(w) - target, W, y)
        y = phi.prox(y - multiplier_above / curvature * slope + weight * u, weight)  # eq: eq-fenchel-prox
        return y, above.apply_with(y, W)

    def value(y: Tensor, w: Tensor) -> Tensor:
        upper = phi_above.gap(target, w).flatten(1).sum(1)
        return multiplier * phi.gap(y, u).flatten(1).sum(1) + multiplier_above * upper

    return descend(step, value, x, above.apply_with(x, W), steps, strong / (curvature + strong))[0]


def weight_step(
    W: Tensor,
    held: Tensor,
    A: Tensor,
    target: Tensor,
    phi: Activation,
    multiplier: float,
    samples: int,
    anchor: float,
    decay: float,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """Improve the weights W of a layer; return them and ``A W``.

        min_W  multiplier / samples sum B(target, A W) + anchor / 2 |W - held|^2 + decay / 2 |W without offsets|^2

    Method: majorise and minimise. The gap's curvature in u is at most L, so ``M = multiplier L / samples A'A + anchor +
    decay`` majorises in every point, and each step solves with the one Cholesky factor of M, accelerated by
    :func:`descend`. Where there is an anchor and A (rows, inputs + 1) is wider than it is long, the factor is that of
    the dual, which has the size of the rows: ``W = centre + R^-1 A'D`` with R the quadratic's diagonal.
    ``target``: (rows, outputs). The value is not above the one at W. Source: chapter "Fenchel lifting".
    """
    share = multiplier / samples
    R = torch.full((len(W), 1), anchor + decay, dtype=W.dtype, device=W.device)
    R[-1] = anchor
    centre = held if not decay else torch.where(R > 0, anchor * held / R.clamp(min=torch.finfo(W.dtype).tiny), held)

    def gaps(U: Tensor) -> Tensor:
        return share * phi.gap(target, U).sum(dtype=torch.float64)

    def pull(U: Tensor) -> Tensor:
        return share * (phi.phi(U) - target)

    if len(A) < A.shape[1] and anchor > 0:
        K = (A / R.T) @ A.T
        scale = 1 / (share * phi.lipschitz)
        S = _factor(K + scale * torch.eye(len(A), dtype=A.dtype, device=A.device))
        inverse = torch.cholesky_inverse(S).to(A.dtype)  # each step is then one product
        U = A @ W
        U_centre = U if centre is W else A @ centre

        def step(D: Tensor, U: Tensor) -> tuple[Tensor, Tensor]:
            right = torch.sub(U, pull(U), alpha=scale) - U_centre
            D = inverse @ right  # eq: eq-fenchel-dual
            return D, torch.sub(U_centre + right, D, alpha=scale)  # U_centre + K D, since (K + scale) D = right

        def value(D: Tensor, U: Tensor) -> Tensor:
            return gaps(U) + (D * (U - U_centre)).sum(dtype=torch.float64) / 2

        D, U = step(U, U)  # from W, which may lie outside of what a D can reach
        D, U = descend(step, value, D, U, steps - 1)
        return centre + (A.T @ D) / R, U

    M = share * phi.lipschitz * (A.T @ A)  # eq: eq-fenchel-majoriser
    M.diagonal().add_(R.squeeze(1) + 10 * torch.finfo(M.dtype).eps * M.diagonal().sum())  # what rounding may take
    C = _factor(M).to(M.dtype)

    def step(V: Tensor, U: Tensor) -> tuple[Tensor, Tensor]:
        V = V - torch.cholesky_solve(A.T @ pull(U) + R * (V - centre), C)
        return V, A @ V

    def value(V: Tensor, U: Tensor) -> Tensor:
        return gaps(U) + (R * (V - centre).square()).sum(dtype=torch.float64) / 2

    return descend(step, value, W, A @ W, steps)


def _factor(M: Tensor) -> Tensor:
    """Return the lower Cholesky factor of a positive definite matrix, in float64."""
    C, failed = torch.linalg.cholesky_ex(M.double())
    if bool(failed):
        raise FloatingPointError("the matrix of a weight step is not positive definite in floating point")
    return C


# ---- the network -----------------------------------------------------------------------------------------------------


class FenchelLiftedNetwork(nn.Module):
    """A feed-forward network that is trained by block coordinate descent on Fenchel gaps, without backpropagation.

        min over X, W   1/n sum_i sum_l lambda_l B_l(X_l, W_l X_{l-1} + b_l)  +  decay / 2 |W|^2

    ``widths``: inputs, hidden widths, outputs. ``activation``: relu, leaky_relu (with ``slope``), sigmoid or tanh.
    ``head``: "softmax" for labels (the loss is cross-entropy) or "squared" for real targets (half the squared error).
    ``multipliers``: lambda, one number or one for each hidden layer, positive; the loss has 1. ``dual_step``: after
    each pass every multiplier grows by this times its mean gap, the dual ascent step; it changes the objective, and
    the history marks it. ``decay``: on the weights, not on the offsets.

    With all data at once (full batch), the hidden values stay from sweep to sweep, and every block step of the whole
    run decreases the objective while the multipliers stay. With mini-batches the hidden values start anew at the
    forward pass, where every gap is 0, and the weights are held by ``anchors / 2 |W - W before|^2``, one number or one
    for each layer; every block step decreases this batch's anchored objective. ``anchor_growth``: the anchors' factor
    from pass to pass; as they grow the method turns into stochastic gradient descent with the step 1 / anchor.
    ``inertia``: "W before" and the start of a batch lie this share of the last change further on (0: at W itself).
    ``x_steps``, ``w_steps``: inner steps for a block. ``alternations``: sweeps over the blocks for a batch. ``seed``:
    for the first weights (Glorot's uniform law) and the order of the batches.

    Raises InputError or TypeError, naming the argument, for what cannot be. Source: Gu, Askari and El Ghaoui (arXiv
    1811.08039); chapter "Fenchel lifting".

    >>> X = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    >>> y = torch.tensor([0, 1, 1, 0])
    >>> net = FenchelLiftedNetwork([2, 8, 2], seed=1, dtype=torch.float64)
    >>> history = net.fit(X, y, epochs=200, progress=False)
    >>> net.score(X, y)
    1.0
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str = "relu",
        *,
        head: str = "softmax",
        slope: float = 0.01,
        seed: int = 0,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        **options: Any,
    ):
        if not isinstance(widths, Sequence) or len(widths) < 2:
            raise InputError(f"widths is {widths!r}: expected a list of at least two numbers, inputs and outputs")
        for i, width in enumerate(widths):
            if not isinstance(width, int) or isinstance(width, bool) or width < 1:
                raise InputError(f"widths[{i}] is {width!r}: expected a whole number of at least 1", index=(i,))
        phi = _activation(activation, slope, HIDDEN)
        layers = []
        generator = torch.Generator().manual_seed(seed)
        for inputs, outputs in itertools.pairwise(widths):
            core = nn.Linear(inputs, outputs, dtype=dtype, device=device)
            bound = math.sqrt(6 / (inputs + outputs))
            with torch.no_grad():
                core.weight.copy_(
                    bound * (2 * torch.rand(outputs, inputs, generator=generator, dtype=torch.float64) - 1)
                )
                core.bias.zero_()
            layers.append(AffineLayer([], core))
        self._build(layers, [phi] * (len(layers) - 1), head, seed=seed, **options)

    @classmethod
    def from_modules(
        cls, modules: nn.Sequential | Sequence[nn.Module], *, head: str = "softmax", **options: Any
    ) -> FenchelLiftedNetwork:
        """Take over the layers of an ordinary network, with copies of their weights; options as in the constructor.

        Understood: Linear, Conv2d, AvgPool2d and Flatten as affine parts, and ReLU, LeakyReLU, Sigmoid and Tanh between
        layers. Raises TypeError for another module, by its index.

        >>> lenet = nn.Sequential(
        ...     nn.Conv2d(1, 6, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2),
        ...     nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))
        >>> len(FenchelLiftedNetwork.from_modules(lenet).layers)
        5
        """
        self = cls.__new__(cls)
        self._build(*_parse(list(modules)), head, **options)
        return self

    def _build(
        self,
        layers: list[AffineLayer],
        activations: list[Activation],
        head: str,
        *,
        multipliers: float | Sequence[float] = 0.2,
        dual_step: float = 0.0,
        decay: float = 0.0,
        anchors: float | Sequence[float] | None = None,
        anchor_growth: float = 1.0,
        inertia: float = 0.0,
        x_steps: int = 10,
        w_steps: int = 5,
        alternations: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if head not in HEADS:
            raise InputError(f"head is {head!r}: expected one of {', '.join(HEADS)}")
        self.layers = nn.ModuleList(layers)
        self.head = head
        self.activations = (*activations, ACTIVATIONS[HEADS[head]])
        self.multipliers = numbers("multipliers", multipliers, len(layers) - 1, positive=True)
        self.anchors = None if anchors is None else numbers("anchors", anchors, len(layers), positive=False)
        (self.decay,) = numbers("decay", decay, 1, positive=False)
        (self.dual_step,) = numbers("dual_step", dual_step, 1, positive=False)
        (self.anchor_growth,) = numbers("anchor_growth", anchor_growth, 1, positive=True)
        (self.inertia,) = numbers("inertia", inertia, 1, positive=False)
        if self.inertia >= 1:
            raise InputError(f"inertia is {inertia:g}: expected a number from 0 up to, but not including, 1")
        for name, value in (("x_steps", x_steps), ("w_steps", w_steps), ("alternations", alternations)):
            whole(name, value)
        self.x_steps, self.w_steps, self.alternations = x_steps, w_steps, alternations
        self.history = History()
        self._generator = torch.Generator().manual_seed(seed).get_state()
        self._order: Tensor | None = None
        self._position = 0
        self._sums: list[float] = []
        self._previous: list[Tensor] | None = None
        self._representations: list[Tensor] | None = None
        self._data: list[tuple[float, float, float]] = []  # tells whether the next call of fit brings the same data
        self._raised = 0

    # -- the network as such ------------------------------------------------------------------------------------------

    def forward(self, X: Tensor) -> Tensor:
        """Return the outputs before the head: logits for softmax, predictions for squared.

        Gradients flow to X and not to the weights, which :meth:`fit` trains without them; :meth:`export` gives a module
        whose weights backpropagation can train.
        """
        return self._forward(X, [layer.matrix() for layer in self.layers])[1][-1]

    def _forward(self, x: Tensor, weights: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the values of the hidden layers at which every gap is 0, and every layer's U."""
        xs, us = [], []
        for layer, W, phi in zip(self.layers, weights, self.activations, strict=True):
            us.append(layer.apply_with(x, W))
            x = phi.phi(us[-1])
            xs.append(x)
        return xs[:-1], us

    def predict(self, X: Tensor) -> Tensor:
        """Return the most probable class of each sample (int64), or the outputs of a squared-loss head."""
        U = self(self._samples("X", X))
        return U.argmax(-1) if self.head == "softmax" else U

    def score(self, X: Tensor, y: Tensor) -> float:
        """Return the accuracy, or R^2 for real targets."""
        X, T = self._checked(X, y)
        return self._score(self(X), T)

    def _score(self, U: Tensor, T: Tensor) -> float:
        if self.head == "softmax":
            return float((U.argmax(-1) == T.argmax(-1)).double().mean())
        spread = (T - T.mean(0)).square().sum()
        return float(1 - (U - T).square().sum() / spread)

    def objective(self, X: Tensor, y: Tensor) -> float:
        """Return the mean loss plus the decay's term at the forward pass, where all gaps of hidden layers are 0."""
        X, T = self._checked(X, y)
        weights = [layer.matrix() for layer in self.layers]
        xs, _ = self._forward(X, weights)
        return self.lifted_objective([X, *xs, T], weights)[0]

    def lifted_objective(
        self,
        values: list[Tensor],
        weights: list[Tensor] | None = None,
        anchored_at: list[Tensor] | None = None,
    ) -> tuple[float, list[float]]:
        """Return the lifted objective, computed from its definition, and the mean gap of each layer.

        ``values``: X_0 (data), X_1, ..., X_L (targets: one-hot rows for softmax). ``weights``: one matrix for each
        layer, the offsets in the last row; None for the network's own. ``anchored_at``: the weights that a batch's
        anchors hold on to; None without anchors.
        """
        weights = [layer.matrix() for layer in self.layers] if weights is None else weights
        gaps, total = [], 0.0
        for layer, W, phi, x, above, multiplier in zip(
            self.layers, weights, self.activations, values, values[1:], [*self.multipliers, 1.0], strict=False
        ):
            gap = phi.gap(above, layer.apply_with(x, W)).sum(dtype=torch.float64) / len(x)
            gaps.append(float(gap))
            square = float(W[:-1].square().sum(dtype=torch.float64))
            total += multiplier * gaps[-1] + self.decay / 2 * square  # eq: eq-fenchel-objective
        if anchored_at is not None:
            for anchor, W, W_before in zip(self._anchors(), weights, anchored_at, strict=True):
                total += anchor / 2 * float((W - W_before).square().sum(dtype=torch.float64))
        return total, gaps

    def export(self) -> nn.Sequential:
        """Return an ordinary network of torch modules with copies of the weights; its output is that of ``forward``.

        >>> FenchelLiftedNetwork([2, 3, 1], "tanh", head="squared").export()
        Sequential(
          (0): Linear(in_features=2, out_features=3, bias=True)
          (1): Tanh()
          (2): Linear(in_features=3, out_features=1, bias=True)
        )
        """
        modules = []
        for layer, phi in zip(self.layers, self.activations, strict=True):
            modules += [*copy.deepcopy(list(layer.before)), copy.deepcopy(layer.core), phi.module()]
        return nn.Sequential(*modules[:-1])

    # -- training -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Tensor,
        y: Tensor,
        *,
        epochs: int = 10,
        batch_size: int | None = None,
        tol: float = 1e-6,
        validation: tuple[Tensor, Tensor] | None = None,
        progress: bool | Callable[[dict[str, float]], Any] = True,
        trace: bool = False,
        workers: int = 1,
    ) -> History:
        """Train for ``epochs`` passes over the data, going on from where the last call stopped; return the history.

        ``X``: samples first, of the network's dtype. ``y``: labels (int64) for softmax, else real targets. A pass is a
        sweep over all blocks (``batch_size=None``) or over all mini-batches. ``tol``: stop where the objective changes
        by less than this share of itself in a pass. ``validation``: (X, y) whose score is shown too. ``progress``: True
        writes a line to stderr after each pass, with the objective, the mean gap of each hidden layer, the loss of the
        head, and the scores; a callable gets each row. ``trace``: also record the objective after each block step.
        ``workers``: threads among which the layers' weight steps are divided; the result is the same.

        The first Ctrl-C lets the step finish and returns; a second one undoes the step and raises KeyboardInterrupt.
        Either way everything is kept, and the next call goes on. A run that diverges (a number that is not finite, or a
        loss ten times the first) warns, and leaves the best weights in place.
        """
        X, T = self._checked(X, y)
        if validation is not None and not (isinstance(validation, Sequence) and len(validation) == 2):
            raise TypeError(f"validation is a {type(validation).__name__}: expected a pair, (X, y)")
        held_out = None if validation is None else self._checked(*validation, name="validation")
        whole("epochs", epochs)
        whole("workers", workers)
        if batch_size is not None:
            whole("batch_size", batch_size)
        numbers("tol", tol, 1, positive=False)
        data = [*_fingerprint(X), *_fingerprint(T), (len(X), 0.0, 0.0), (batch_size or 0, 0.0, 0.0)]
        if not _same(data, self._data):
            if self._data:
                self.history.mark("other data or batches")
            self._data, self._representations, self._order, self._sums = data, None, None, []

        def advance() -> Callable[[], bool]:
            if self.dual_step and self._raised < self.history.passes:
                return self._raise_multipliers
            if batch_size is None:
                return self._sweep(X, T, trace, workers)
            return self._batch(X, T, batch_size, trace, workers)

        def measure() -> dict[str, float]:
            return self._measure(X, T, held_out)

        try:
            train(self, self.history, advance, measure, epochs=epochs, tol=tol, progress=progress)
        finally:
            if self.history.status == "diverged":
                self._representations = self._order = self._previous = None
                self._sums = []
        return self.history

    def step(self, X: Tensor, y: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return X_0, ..., X_L and the weights after a mini-batch's block steps from here, and change nothing."""
        X, T = self._checked(X, y)
        weights = [layer.matrix() for layer in self.layers]
        values = [X, *self._forward(X, weights)[0], T]
        return self._blocks(values, weights, self._anchors(), True, False, 1)[:2]

    def _anchors(self, full: bool = False) -> list[float]:
        """Return the anchors of the pass under way; without any given, none for a full batch."""
        anchors = self.anchors or [0.0 if full else 0.02] * len(self.layers)
        return [a * self.anchor_growth**self.history.passes for a in anchors]

    def _blocks(
        self,
        values: list[Tensor],
        before: list[Tensor],
        anchors: list[float],
        anchored: bool,
        trace: bool,
        workers: int,
    ) -> tuple[list[Tensor], list[Tensor], list[tuple[str, float]]]:
        """Go through all blocks from the top, and change nothing: return new values, new weights, and the trace."""
        weights = before
        multipliers = [*self.multipliers, 1.0]
        notes: list[tuple[str, float]] = []

        def note(block: str) -> None:
            if trace:
                notes.append((block, self.lifted_objective(values, weights, before if anchored else None)[0]))

        def improve(l: int) -> tuple[Tensor, Tensor]:
            layer, x, target = self.layers[l], values[l], values[l + 1]
            return weight_step(
                weights[l],
                before[l],
                layer.design(x),
                layer.rows(target),
                self.activations[l],
                multipliers[l],
                len(x),
                anchors[l],
                self.decay,
                self.w_steps,
            )

        note("start")
        for _ in range(self.alternations):
            for l in reversed(range(len(self.layers) - 1)):
                x = representation_step(
                    values[l + 1],
                    self.layers[l].apply_with(values[l], weights[l]),
                    self.activations[l],
                    multipliers[l],
                    self.layers[l + 1],
                    weights[l + 1],
                    values[l + 2],
                    self.activations[l + 1],
                    multipliers[l + 1],
                    self.x_steps,
                )
                values = [*values[: l + 1], x, *values[l + 2 :]]
                note(f"X{l + 1}")
            if workers > 1:
                with ThreadPoolExecutor(workers) as pool:
                    improved = list(pool.map(improve, range(len(self.layers))))
            else:
                improved = [improve(l) for l in range(len(self.layers))]
            for l, (W, _) in enumerate(improved):
                weights = [*weights[:l], W, *weights[l + 1 :]]
                note(f"W{l + 1}")
        if not all(bool(torch.isfinite(W).all()) for W in weights):
            raise FloatingPointError("a weight is not finite")
        return values, weights, notes

    def _sweep(self, X: Tensor, T: Tensor, trace: bool, workers: int) -> Callable[[], bool]:
        """Compute a full-batch sweep; return what puts it into place."""
        before, xs = [layer.matrix() for layer in self.layers], self._representations
        if xs is None:
            xs = self._forward(X, before)[0]
        values, weights, notes = self._blocks([X, *xs, T], before, self._anchors(full=True), False, trace, workers)

        def commit() -> bool:
            self._representations = values[1:-1]
            self._sums = []
            self._put(weights, notes)
            return True

        return commit

    def _batch(self, X: Tensor, T: Tensor, size: int, trace: bool, workers: int) -> Callable[[], bool]:
        """Compute the next mini-batch; return what puts it into place, True after the pass's last one."""
        order, position, generator = self._order, self._position, self._generator
        if order is None:
            source = torch.Generator()
            source.set_state(generator)
            order, position = torch.randperm(len(X), generator=source), 0
            generator = source.get_state()
        rows = order[position : position + size].to(X.device)
        x, target, now = X[rows], T[rows], [layer.matrix() for layer in self.layers]
        before = [W + self.inertia * (W - old) for W, old in zip(now, self._previous or now, strict=True)]
        xs = self._forward(x, before)[0]
        values, weights, notes = self._blocks([x, *xs, target], before, self._anchors(), True, trace, workers)
        objective, gaps = self.lifted_objective(values, weights, before)

        def commit() -> bool:
            last = position + size >= len(X)
            self._order, self._position, self._generator = (None if last else order), position + size, generator
            self._previous = now if self.inertia else None
            ones = [objective, *gaps, 1.0]
            self._sums = ones if position == 0 else [a + b for a, b in zip(self._sums, ones, strict=True)]
            self._put(weights, notes)
            return last

        return commit

    def _put(self, weights: list[Tensor], notes: list[tuple[str, float]]) -> None:
        for layer, W in zip(self.layers, weights, strict=True):
            layer.put(W)
        number = self.history.steps[-1][1] + 1 if self.history.steps else 0
        self.history.steps += [(self.history.passes + 1, number, *one) for one in notes]

    def _raise_multipliers(self) -> bool:
        """Take the dual step: each multiplier grows by its mean gap in the pass before."""
        gaps = [self.history.rows[-1][f"gap {l + 1}"] for l in range(len(self.multipliers))]
        pairs = zip(self.multipliers, gaps, strict=True)
        self.multipliers = [m + self.dual_step * g for m, g in pairs]  # eq: eq-fenchel-ascent
        self._raised = self.history.passes
        self.history.mark(f"multipliers {', '.join(f'{m:.4g}' for m in self.multipliers)}")
        return False

    def _measure(self, X: Tensor, T: Tensor, held_out: tuple[Tensor, Tensor] | None) -> dict[str, float]:
        """Return the row of the pass that is whole."""
        weights = [layer.matrix() for layer in self.layers]
        xs, us = self._forward(X, weights)
        loss = self.lifted_objective([X, *xs, T], weights)[0]
        objective, gaps = loss, [0.0] * len(xs)
        if self._sums:
            objective, *gaps = [total / self._sums[-1] for total in self._sums[:-1]]
        elif self._representations is not None:
            objective, gaps = self.lifted_objective([X, *self._representations, T], weights)
        row = {"objective": objective, **{f"gap {l + 1}": g for l, g in enumerate(gaps[: len(xs)])}, "loss": loss}
        name = "accuracy" if self.head == "softmax" else "R2"
        row[f"training {name}"] = self._score(us[-1], T)
        if held_out is not None:
            row[f"validation {name}"] = self._score(self(held_out[0]), held_out[1])
        return row

    # -- resumption ----------------------------------------------------------------------------------------------------

    def _apply(self, move: Callable[[Tensor], Tensor], recurse: bool = True) -> FenchelLiftedNetwork:
        """Take the hidden values and the weights before along, where ``to`` and its kin move the parameters."""
        for name in ("_representations", "_previous"):
            if getattr(self, name, None) is not None:
                setattr(self, name, [move(t) for t in getattr(self, name)])
        return super()._apply(move, recurse)

    _resumed = (
        "multipliers",
        "_generator",
        "_order",
        "_position",
        "_sums",
        "_previous",
        "_representations",
        "_data",
        "_raised",
    )

    def get_extra_state(self) -> dict[str, Any]:
        """Return what resuming needs beside the weights; ``state_dict`` calls it."""
        return {**{name: getattr(self, name) for name in self._resumed}, "history": self.history.state_dict()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`get_extra_state` returned; ``load_state_dict`` calls it."""
        for name in self._resumed:
            setattr(self, name, state[name])
        self.history.load_state_dict(state["history"])
        device = self.layers[0].core.weight.device
        for name in ("_representations", "_previous"):
            if getattr(self, name) is not None:
                setattr(self, name, [t.to(device) for t in getattr(self, name)])
        self._generator = self._generator.cpu()

    # -- input ---------------------------------------------------------------------------------------------------------

    def _samples(self, name: str, X: Tensor) -> Tensor:
        """Return X if the network can take it; raise the error that says why not."""
        first = self.layers[0]
        check_tensor(name, X, first.core.weight)
        if not first.is_conv and not len(first.before):
            check_width(name, X, first.core.in_features)
        try:
            x = X[:1].to("meta")
            for layer in self.layers:
                x = copy.deepcopy(layer).to("meta")(x)
        except (RuntimeError, IndexError) as error:
            raise InputError(f"{name} has shape {tuple(X.shape)}, which the layers cannot take: {error}") from None
        return check_samples(name, X)

    def _checked(self, X: Tensor, y: Tensor, name: str = "") -> tuple[Tensor, Tensor]:
        """Return X and the targets as rows; raise the error that names what does not fit."""
        names = (f"{name} X", f"{name} y") if name else ("X", "y")
        self._samples(names[0], X)
        outputs = self.layers[-1].core.out_features
        check_rows(names, X, y)
        if self.head == "squared":
            if y.dtype != X.dtype:
                raise TypeError(
                    f"{names[1]} has dtype {y.dtype}: expected {X.dtype}, like {names[0]}, for head='squared'"
                )
            return X, check_targets(names[1], y, outputs)
        if y.dtype != torch.int64:
            raise TypeError(
                f"{names[1]} has dtype {y.dtype}: expected torch.int64 labels for head='softmax'; call .long()"
            )
        return X, labels_as_rows(names[1], y, outputs, X.dtype)


def _parse(modules: list[nn.Module]) -> tuple[list[AffineLayer], list[Activation]]:
    """Group the modules of an ordinary network into affine layers and the activations between them."""
    layers, activations, before, core = [], [], [], None
    for i, module in enumerate(modules):
        kind = type(module)
        if kind in (nn.Linear, nn.Conv2d):
            if core is not None:
                raise TypeError(f"modules[{i}] is {module}: expected an activation between it and the layer before")
            if module.bias is None:
                raise TypeError(f"modules[{i}] is {module}: expected bias=True")
            if kind is nn.Conv2d and (
                module.groups != 1
                or set(module.dilation) != {1}
                or isinstance(module.padding, str)
                or module.padding_mode != "zeros"
            ):
                raise TypeError(
                    f"modules[{i}] is {module}: expected groups=1, dilation=1 and padding with zeros, in numbers"
                )
            core = module
        elif kind in (nn.AvgPool2d, nn.Flatten):
            if core is not None:
                raise TypeError(f"modules[{i}] is {module}: expected it after the activation, not before")
            if kind is nn.AvgPool2d and (
                module.stride != module.kernel_size or module.padding or module.ceil_mode or module.divisor_override
            ):
                raise TypeError(f"modules[{i}] is {module}: expected a stride equal to the kernel, and no padding")
            before.append(module)
        elif kind in (nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh):
            if core is None:
                raise TypeError(f"modules[{i}] is {module}: expected a Linear or a Conv2d before it")
            names = {nn.ReLU: "relu", nn.LeakyReLU: "leaky_relu", nn.Sigmoid: "sigmoid", nn.Tanh: "tanh"}
            activations.append(_activation(names[kind], getattr(module, "negative_slope", 0.01), HIDDEN))
            layers.append(AffineLayer(copy.deepcopy(before), copy.deepcopy(core)))
            before, core = [], None
        else:
            hint = "; average pooling is linear, maximum pooling is not" if "MaxPool" in kind.__name__ else ""
            raise TypeError(
                f"modules[{i}] is {module}: expected Linear, Conv2d, AvgPool2d, Flatten, ReLU, LeakyReLU, Sigmoid or "
                f"Tanh{hint}"
            )
    if not isinstance(core, nn.Linear):
        raise TypeError("the last module must be a Linear: its outputs are what the head gets")
    return [*layers, AffineLayer(copy.deepcopy(before), copy.deepcopy(core))], activations


def _fingerprint(t: Tensor) -> list[tuple[float, float, float]]:
    """Return two sums that tell samples from others, also in another order; each with its size and its dtype's eps."""
    t = t.flatten(1)
    place = torch.linspace(1, 2, t.shape[1], dtype=torch.float64, device=t.device)
    sums, sizes = torch.cat(
        [torch.stack([part @ place, part.abs() @ place]) for part in map(Tensor.double, t.split(4096))], 1
    )
    order, size = torch.linspace(1, 2, len(t), dtype=torch.float64, device=t.device), float(sizes.sum())
    return [(float(s), size, torch.finfo(t.dtype).eps) for s in (sums.sum(), sums @ order)]


def _same(data: list[tuple[float, float, float]], old: list[tuple[float, float, float]]) -> bool:
    """Whether two fingerprints agree: up to the conversion's rounding where the dtype changed, else to 1e-14."""
    return len(data) == len(old) and all(
        abs(a - b) <= 2 * max(size, other) * (1e-14 if eps == was else max(eps, was))
        for (a, size, eps), (b, other, was) in zip(data, old, strict=True)
    )
