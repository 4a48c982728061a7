"""The chapter on Fenchel lifting: its theorems and its code from scratch, against what knows nothing of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize
from torch import nn
from torch.nn.functional import cross_entropy, one_hot
from torch.testing import assert_close

from lablib import FenchelLiftedNetwork, fenchel_gap

CHAPTER = Path(__file__).resolve().parents[1] / "book" / "fenchel-lifting.ipynb"
pytestmark = pytest.mark.usefixtures("double")
SLOPE = 0.2
PHI = {
    "relu": torch.relu,
    "leaky_relu": lambda u: nn.functional.leaky_relu(u, SLOPE),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
LIPSCHITZ = {"relu": 1.0, "leaky_relu": 1.0, "sigmoid": 0.25, "tanh": 1.0}
every_activation = pytest.mark.parametrize("name", PHI)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def solve(function, start, lower=None):
    """Minimise over a tensor with SciPy's L-BFGS-B; return the minimiser and the value."""

    def flat(vector):
        slope, value = torch.func.grad_and_value(function)(torch.tensor(vector).reshape(start.shape))
        return value.item(), slope.flatten().numpy()

    bounds = None if lower is None else [(lower, None)] * start.numel()
    options = {"ftol": 1e-15, "gtol": 1e-11, "maxiter": 20_000, "maxfun": 50_000}
    found = minimize(flat, start.flatten().numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return torch.tensor(found.x).reshape(start.shape), found.fun


def relu_gap(v, u):
    """Return G*(v) + G(u) - u v, term by term."""
    return v.square() / 2 + u.clamp(min=0).square() / 2 - u * v


# -- the code from scratch -------------------------------------------------------------------------------------------


def test_scratch_hidden_step_ends_where_a_general_solver_ends(scratch):
    X, U, W = random(6, 5).abs(), random(6, 5, seed=1), random(6, 4, seed=2)
    target = torch.softmax(random(6, 4, seed=3), 1)

    def cost(x):
        logits = x @ W[:-1] + W[-1]
        return 0.3 * relu_gap(x, U).sum() + 1.7 * (logits.logsumexp(1) - (target * logits).sum(1)).sum()

    expected, value = solve(cost, X, lower=0.0)
    for _ in range(1000):
        X = scratch["x_step"](X, U, W, target, 0.3, 1.7, scratch["softmax"], 0.5)
    assert cost(X) <= value + 1e-10
    assert_close(X, expected, atol=1e-5, rtol=1e-5)


def test_scratch_weight_step_ends_where_a_general_solver_ends(scratch):
    X, target, held, W = random(9, 5), random(9, 4, seed=1).abs(), random(6, 4, seed=2), random(6, 4, seed=3)

    def cost(W):
        return 0.7 / 9 * relu_gap(target, X @ W[:-1] + W[-1]).sum() + 0.1 / 2 * (W - held).square().sum()

    expected, value = solve(cost, W)
    for _ in range(600):
        W = scratch["w_step"](W, held, X, target, 0.7, 0.1, torch.relu, 1.0)
    assert cost(W) <= value + 1e-10
    assert_close(W, expected, atol=1e-5, rtol=1e-5)


# -- the theorems ----------------------------------------------------------------------------------------------------


@every_activation
def test_the_activation_is_the_argmin_and_the_gap_s_slope_is_their_difference(name):
    u = random(200, seed=4).mul(3).requires_grad_()
    at = PHI[name](u.detach())
    for shift in (1e-3, -1e-3):
        moved = fenchel_gap(at + shift, u, name, slope=SLOPE)
        assert bool((moved > fenchel_gap(at, u, name, slope=SLOPE)).all())
    v = PHI[name](random(200, seed=5))
    (slope,) = torch.autograd.grad(fenchel_gap(v, u, name, slope=SLOPE).sum(), u)
    assert_close(slope, at - v)


@every_activation
def test_a_moved_value_costs_little(name):
    """B(phi(u + s), u) <= s (phi(u + s) - phi(u)), the exercise on which the text on multipliers rests."""
    u, s = 3 * random(2, 5000, seed=6)
    cost = fenchel_gap(PHI[name](u + s), u, name, slope=SLOPE)
    assert bool((cost <= s * (PHI[name](u + s) - PHI[name](u)) + 1e-12).all())


@pytest.mark.parametrize(("name", "inverse"), [("sigmoid", torch.logit), ("tanh", torch.atanh)])
def test_lpom_s_penalty_is_the_gap_up_to_a_constant(name, inverse):
    """Both integrals by quadrature, from points of their own."""

    def penalty(x, u):
        f = quad(lambda s: float(inverse(torch.tensor(s))) - s, 0.4, x)[0]
        g = quad(lambda s: float(PHI[name](torch.tensor(s))) - s, 0.1, u)[0]
        return f + g + (x - u) ** 2 / 2

    points = [(0.2, -1.0), (0.7, 2.0), (0.5, 0.0), (0.9, -3.0)]
    apart = [penalty(x, u) - float(fenchel_gap(torch.tensor(x), torch.tensor(u), name)) for x, u in points]
    assert max(apart) - min(apart) < 1e-8


def small(multiplier):
    """A network with one hidden layer, data, and the ordinary loss of each sample as a function of hidden values."""
    net = FenchelLiftedNetwork([3, 4, 3], multipliers=multiplier, seed=1, dtype=torch.float64)
    X, labels = random(8, 3, seed=7), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    W1, W2 = (layer.matrix() for layer in net.layers)
    U = X @ W1[:-1] + W1[-1]
    return net, X, labels, U, lambda x: cross_entropy(x @ W2[:-1] + W2[-1], labels, reduction="none")


def test_the_relaxation_is_below_the_loss_concave_and_within_the_theorem_s_distance():
    multipliers, values, gaps = (0.1, 0.5, 2.0, 10.0, 60.0), [], []
    for m in multipliers:
        net, X, labels, U, losses = small(m)
        start = U.clamp(min=0)

        def relaxed(x, m=m, U=U, losses=losses):
            return m * relu_gap(x, U).sum(1).mean() + losses(x).mean()

        best, value = solve(relaxed, start, 0.0)
        slope = torch.func.grad(lambda x, losses=losses: losses(x).sum())(start)
        values.append(value)
        gaps.append(float(relu_gap(best, U).sum(1).mean()))
        loss = net.objective(X, labels)
        assert loss - slope.square().sum(1).mean() / (2 * m) <= value + 1e-10
        assert value < loss
    for i, m in enumerate(multipliers):  # the gap is a supergradient
        for j, other in enumerate(multipliers):
            assert values[j] <= values[i] + (other - m) * gaps[i] + 1e-9


def test_without_decay_scaling_makes_the_multiplier_meaningless():
    """W_1 = 0, hidden values x / t, last weights t W: the loss stays and the gap dies."""
    x, W = random(20, 4).abs(), random(4, 3, seed=1)
    for t in (10.0, 1000.0):
        assert_close((x / t) @ (t * W), x @ W)
        assert float(relu_gap(x / t, torch.zeros(20, 4)).sum()) <= float(x.square().sum()) / (2 * t * t) * (1 + 1e-12)


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_signals_become_those_of_backpropagation(name):
    """With hidden blocks solved from the top, S_l -> delta_l at a linear rate; two hidden layers."""
    X, labels = random(30, 6), torch.arange(30) % 4
    apart = []
    for ratio in (1e-2, 1e-3):
        multipliers = [ratio**-2, 1 / ratio]
        net = FenchelLiftedNetwork([6, 5, 5, 4], name, multipliers=multipliers, x_steps=300, dtype=torch.float64)
        new = net.step(X, labels)[0]
        us, x = [], X
        for layer in net.layers:
            us.append(layer(x).detach().requires_grad_())
            x = PHI[name](us[-1])
        # backpropagation, layer by layer, from the definition
        weights = [layer.matrix() for layer in net.layers]
        delta = torch.softmax(us[-1].detach(), 1) - one_hot(labels, 4)
        for l in (1, 0):
            (slope,) = torch.autograd.grad(PHI[name](us[l]).sum(), us[l])
            delta = slope * (delta @ weights[l + 1][:-1].T)
            below = X if l == 0 else new[1]
            signal = multipliers[l] * (PHI[name](below @ weights[l][:-1] + weights[l][-1]) - new[l + 1])
            if l == 0:
                apart.append(float((signal - delta).norm() / delta.norm()))
    assert apart[0] < 0.1 and apart[1] == pytest.approx(apart[0] / 10, rel=0.3)


@pytest.mark.eq("eq-fenchel-objective")
def test_the_objective_is_the_sum_of_its_gaps_at_any_values():
    """With hidden values that fit nothing, multipliers that differ, decay and anchors."""
    net = FenchelLiftedNetwork([3, 4, 4, 2], multipliers=[0.3, 2.0], decay=0.1, anchors=[1.0, 2.0, 3.0])
    values = [random(5, 3), random(5, 4, seed=1).abs(), random(5, 4, seed=2).abs(), one_hot(torch.arange(5) % 2, 2)]
    values[-1] = values[-1].double()
    weights = [random(a + 1, b, seed=3 + a + b) for a, b in ((3, 4), (4, 4), (4, 2))]
    held = [W + 1 for W in weights]
    us = [x @ W[:-1] + W[-1] for x, W in zip(values, weights, strict=False)]
    expected = 0.3 * relu_gap(values[1], us[0]).sum(1).mean() + 2.0 * relu_gap(values[2], us[1]).sum(1).mean()
    expected += cross_entropy(us[2], values[3].argmax(1))
    expected += 0.05 * sum(W[:-1].square().sum() for W in weights)
    assert net.lifted_objective(values, weights)[0] == pytest.approx(float(expected))
    expected += sum(a / 2 * W.numel() for a, W in zip((1.0, 2.0, 3.0), weights, strict=True))
    assert net.lifted_objective(values, weights, held)[0] == pytest.approx(float(expected))


def test_the_fixed_point_swings_where_the_proximal_step_solves():
    """One ReLU, identity head, u = 1, y = 1, multiplier 1: the iteration needs w^2 < 1."""

    def iterate(w, x=0.5):
        for _ in range(500):
            x, before = max(1.0 - w * (w * x - 1.0), 0.0), x
        return x, abs(x - before)

    solution = {w: (1.0 + w) / (1 + w * w) for w in (0.9, 1.1)}
    assert iterate(0.9)[0] == pytest.approx(solution[0.9]) and iterate(1.1)[1] > 0.1
    found = minimize(lambda x: (x[0] - 1.0) ** 2 / 2 + (1.1 * x[0] - 1.0) ** 2 / 2, np.array([0.5]), bounds=[(0, None)])
    assert found.x[0] == pytest.approx(solution[1.1], abs=1e-6)
