"""The pair's kernel, the group-sparse weights, the network that is trained with them, and its certificate."""

import copy
import io
import itertools
import math
import re
import signal

import pytest
import torch
from scipy.optimize import minimize, minimize_scalar
from sklearn.datasets import load_digits
from sklearn.linear_model import MultiTaskLasso
from torch import nn
from torch.testing import assert_close

from lablib import GroupSparseNetwork, SolveError, activation_step
from lablib.augmented import (
    Design,
    LiftedPoint,
    activation_candidates,
    group_weight_step,
    leaky,
    logits_step,
    shrink_groups,
    spectral_square,
)
from lablib.fenchel import descend

F64 = torch.float64
SLOPES = (0.0, 0.01, 0.3, 0.9)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


# ---- the pair (v, u) ----


def pair_value(v, u, p, q, a, b, slope, penalty):
    return a / 2 * (v - p) ** 2 + b / 2 * (u - q) ** 2 + penalty * (v - leaky(u, slope))


@pytest.mark.parametrize("slope", SLOPES)
def test_no_point_of_a_fine_grid_is_better_than_the_kernel_s(slope):
    step = 0.02
    grid = step * torch.arange(-300, 301, dtype=F64)
    v_grid, u_grid = grid.reshape(-1, 1), grid
    outside = v_grid < leaky(u_grid, slope)
    weights = torch.rand(40, 3, generator=torch.Generator().manual_seed(1), dtype=F64) * 3 + 0.1
    for (p, q), (a, b, penalty) in zip((2 * draw(40, 2)), weights.tolist(), strict=True):
        v, u = activation_step(p, q, a, b, slope, penalty=penalty)
        assert v >= leaky(u, slope) - 1e-15
        values = pair_value(v_grid, u_grid, p, q, a, b, slope, penalty).masked_fill(outside, math.inf)
        above = values.min() - pair_value(v, u, p, q, a, b, slope, penalty)
        near = step * (a * (v - p).abs() + b * (u - q).abs() + 2 * penalty + (a + b) * step)  # to the next grid point
        assert -1e-12 <= above <= near


@pytest.mark.eq("eq-pair-problem")
@pytest.mark.parametrize("slope", SLOPES)
def test_the_kernel_finds_what_a_solver_for_one_number_finds(slope):
    """For a given u the best v is known; on each side of 0 what is left is convex in u, and SciPy minimises it."""
    p, q = 2 * draw(2, 300, seed=3)
    a, b, penalty = torch.rand(3, 300, generator=torch.Generator().manual_seed(4), dtype=F64) * 4 + 0.05
    steps = [activation_step(p[i], q[i], a[i], b[i], slope, penalty=float(penalty[i])) for i in range(len(p))]
    v, u = (torch.stack(parts) for parts in zip(*steps, strict=True))
    ours = pair_value(v, u, p, q, a, b, slope, penalty)
    for i, (p_, q_, a_, b_, beta) in enumerate(torch.stack([p, q, a, b, penalty], 1).tolist()):

        def best(u, p_=p_, q_=q_, a_=a_, b_=b_, beta=beta):
            s = max(u, slope * u)
            v = max(p_ - beta / a_, s)
            return a_ / 2 * (v - p_) ** 2 + b_ / 2 * (u - q_) ** 2 + beta * (v - s)

        far = 20 + 2 * beta / b_ + abs(p_) + abs(q_)
        found = min(
            minimize_scalar(best, bounds=side, method="bounded", options={"xatol": 1e-11}).fun
            for side in ((-far, 0), (0, far))
        )
        assert float(ours[i]) == pytest.approx(found, abs=1e-8)


@pytest.mark.eq("eq-pair-candidates")
def test_four_of_the_five_candidates_win_somewhere_and_each_is_what_its_place_says():
    """The one at u = 0 never wins alone: with v above s(u) the function has a concave kink there."""
    p, q = 3 * draw(2, 4000, seed=5)
    slope, a, b, penalty = 0.2, 1.5, 0.8, 0.7
    v, u, value = activation_candidates(p, q, a, b, slope, penalty=penalty)
    assert v.shape == u.shape == value.shape == (5, 4000)
    winners = value.argmin(0)
    assert sorted(winners.unique().tolist()) == [0, 1, 3, 4]
    assert bool((value[2] >= value.amin(0)).all())
    best_v, best_u = activation_step(p, q, a, b, slope, penalty=penalty)
    assert_close(best_v, v.gather(0, winners.unsqueeze(0))[0])
    assert_close(best_u, u.gather(0, winners.unsqueeze(0))[0])
    feasible = v >= leaky(u, slope) - 1e-12
    assert bool((feasible | (value == math.inf)).all())
    assert_close(v[1], u[1])
    assert u[2].abs().max() == 0
    assert_close(v[4], slope * u[4])
    assert bool((u[0] - q - penalty / b).abs().max() < 1e-12) and bool((v[3] - p + penalty / a).abs().max() < 1e-12)


def test_the_kernel_broadcasts_and_works_in_float32():
    p, q = draw(7, 1), draw(4)
    v, u = activation_step(p, q, torch.tensor(2.0, dtype=F64), 0.5, 0.1)
    assert v.shape == u.shape == (7, 4)
    v32, u32 = activation_step(p.float(), q.float(), torch.tensor(2.0), 0.5, 0.1)
    assert v32.dtype == torch.float32
    assert_close(v32.double(), v, atol=1e-5, rtol=1e-5)
    assert_close(u32.double(), u, atol=1e-5, rtol=1e-5)
    assert not torch.equal(activation_step(p, q, 2.0, 0.5, 0.1, penalty=3.0)[0], v)


# ---- the weights ----


def test_the_spectral_bound_is_certain_and_tight():
    for W in (draw(5, 9), draw(9, 5), draw(1, 4), torch.zeros(3, 2, dtype=F64)):
        norm = torch.linalg.matrix_norm(W, 2) ** 2
        assert norm <= spectral_square(W) <= norm * 1.00001


@pytest.mark.eq("eq-weight-step")
@pytest.mark.parametrize("penalty", [0.3, 6.0])
def test_the_weight_step_reaches_scikit_learn_s_group_lasso_and_never_rises(penalty):
    """Its multi-task lasso has the same groups: one number for each task, together for each input."""
    V, T = draw(40, 12, seed=1) + 2.0, draw(40, 3, seed=2) - 1.0
    T[:, 0] += V[:, 3]
    weight, start = 0.7, draw(3, 12, seed=3)
    design = Design.of(V)

    def cost(W, b):
        return float(weight / 2 * (T - V @ W.mT - b).square().sum() + penalty * W.norm(dim=0).sum())

    path = [cost(*group_weight_step(start, design, T, weight, penalty, steps)) for steps in (1, 2, 3, 5, 9, 20)]
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise([cost(start, (T - V @ start.mT).mean(0)), *path]))
    W, b = group_weight_step(start, design, T, weight, penalty, 3000)
    other = MultiTaskLasso(penalty / weight / len(V), tol=1e-12, max_iter=100_000).fit(V.numpy(), T.numpy())
    assert_close(W, torch.tensor(other.coef_), atol=1e-6, rtol=1e-6)
    assert_close(b, torch.tensor(other.intercept_), atol=1e-6, rtol=1e-6)
    assert torch.equal((W == 0).all(0), torch.tensor((other.coef_ == 0).all(0)))
    assert bool((W == 0).all(0).any()) == (penalty == 6.0)


@pytest.mark.parametrize("start", ["zero", "sparse", "full"])
def test_columns_sit_out_only_where_a_step_leaves_them_at_zero_and_all_come_back_that_must(start):
    """Beside the plain version, accelerated proximal gradient on all columns, and scikit-learn's solution."""
    V, T, weight, penalty = draw(40, 12, seed=1) + 2.0, draw(40, 3, seed=2), 0.7, 6.0
    W = 0.02 * draw(3, 12, seed=3) * {"zero": 0.0, "sparse": torch.arange(12) % 3 == 0, "full": 1.0}[start]
    design, centred = Design.of(V), V - V.mean(0)
    gram, right, threshold = centred.mT @ centred, T.mT @ centred, penalty / weight / design.curvature
    moves = (W != 0).any(0) | (shrink_groups(W - (W @ gram - right) / design.curvature, threshold) != 0).any(0)
    assert bool(moves.all()) == (start == "full") and moves.sum() > 1

    def step(Y, image):
        Y = shrink_groups(Y - (image - right) / design.curvature, threshold) * moves
        return Y, Y @ gram

    def value(Y, image):
        return weight / 2 * (Y * (image - 2 * right)).sum() + penalty * Y.norm(dim=0).sum()

    assert_close(group_weight_step(W, design, T, weight, penalty, 12)[0], descend(step, value, W, W @ gram, 12)[0])
    for _ in range(300):
        W, _ = group_weight_step(W, design, T, weight, penalty, 10)
    other = MultiTaskLasso(penalty / weight / len(V), tol=1e-12, max_iter=100_000).fit(V.numpy(), T.numpy())
    assert_close(W, torch.tensor(other.coef_), atol=1e-6, rtol=1e-6)


def test_inputs_that_never_vary_get_no_weight():
    V = draw(20, 4)
    V[:, 2] = 5.0
    W, _ = group_weight_step(draw(2, 4, seed=1), Design.of(V), draw(20, 2), 1.0, 0.1, 500)
    assert W[:, 2].abs().max() == 0
    W, b = group_weight_step(draw(2, 4, seed=1), Design.of(torch.ones(20, 4, dtype=F64)), V[:, :2], 1.0, 0.1, 5)
    assert W.abs().max() == 0 and torch.equal(b, V[:, :2].mean(0))


@pytest.mark.eq("eq-group-shrink")
def test_shrinking_is_the_proximal_step_of_the_group_norms():
    W = draw(3, 6)
    W[:, 0] = 0

    def cost(X):
        return float((X - W).square().sum() / 2 + 0.9 * X.norm(dim=0).sum())

    best = shrink_groups(W, 0.9)
    assert bool((best == 0).all(0).any()) and bool((best != 0).all(0).any())
    for i in range(50):
        assert cost(best) <= cost(best + 10.0 ** -(i % 5) * draw(3, 6, seed=i)) + 1e-15


def test_the_logits_step_reaches_the_minimum_of_every_row():
    u, q = draw(4, 3), 2 * draw(4, 3, seed=1)
    T = torch.eye(3, dtype=F64)[torch.tensor([0, 1, 2, 0])]

    def cost(y):
        return torch.logsumexp(y, -1) - (T * y).sum(-1) + 0.3 / 2 * (y - q).square().sum(-1)

    found = minimize(
        lambda y: float(cost(torch.tensor(y).reshape(4, 3)).sum()), u.flatten().numpy(), options={"gtol": 1e-9}
    )
    assert_close(logits_step(u, T, q, 0.3, 200), torch.tensor(found.x).reshape(4, 3), atol=1e-5, rtol=1e-5)
    assert bool((cost(logits_step(u, T, q, 0.3, 1)) < cost(u)).all())


# ---- the method ----


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    X, y = torch.tensor(data.data / 16, dtype=F64), torch.tensor(data.target)
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(0))
    return X[order[:200]], y[order[:200]], X[order[200:400]], y[order[200:400]]


def network(hidden=(12,), slope=0.1, group_penalty=1e-3, **options):
    first = options.pop("first", 1.5)
    return GroupSparseNetwork([64, *hidden, 10], slope, group_penalty, first=first, dtype=F64, **options)


@pytest.mark.eq("eq-majoriser")
@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
@pytest.mark.parametrize("slope", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("hidden", [(), (12,), (12, 9), (9, 8, 7)], ids=str)
def test_every_block_step_of_a_whole_run_decreases_the_augmented_lagrangian(digits, hidden, slope, loss):
    net = network(hidden, slope, loss=loss, pair_steps=2, w_steps=4)
    net.fit(*digits[:2], epochs=12, tol=0.0, progress=False, trace=True)
    layers = len(hidden) + 1
    runs = [list(steps) for _, steps in itertools.groupby(net.history.steps, lambda one: one[1])]
    blocks = [f"V{l + 1}" for l in reversed(range(layers))] + [f"W{l + 1}" for l in range(layers)]
    assert [block for *_, block, _ in runs[0]] == ["start", *(3 * blocks)] and len(runs) == 12
    for steps in runs:
        values = [value for *_, value in steps]
        assert all(b <= a + 1e-12 * abs(a) for a, b in itertools.pairwise(values))
    assert runs[0][-1][-1] < runs[0][0][-1] - 1e-3
    X, y = digits[:2]
    assert net.history.rows[-1]["objective"] == pytest.approx(net.lagrangian(net._point, X, y), rel=1e-12)


def dying(hidden=(20, 15), **options):
    """A network whose units go to rest, one after the other."""
    return network(hidden, **{"group_penalty": 4e-3, "rho": 0.3, "patience": 4} | options)


@pytest.mark.eq("eq-rest")
def test_going_to_rest_is_the_least_that_the_lagrangian_can_be_in_what_the_unit_owns(digits):
    X, y = digits[:2]
    net = dying()
    net.fit(X, y, epochs=3, tol=0.0, progress=False)
    point = net.lift(X, y)
    point = point.put("weights", 1, point.weights[1] * (torch.arange(20) > 4))  # five units that nobody hears
    point = point.put("multipliers", 0, draw(200, 20))
    still = torch.arange(20) < 5
    rested = net._rest(point, 0, still)
    least = net.lagrangian(rested, X, y)
    assert least < net.lagrangian(point, X, y) - 1e-3
    assert rested.weights[0][still].abs().sum() == 0
    back = rested.put("weights", 0, torch.where(still[:, None], point.weights[0], rested.weights[0]))
    for name in ("us", "vs"):
        back = back.put(name, 0, torch.where(still, getattr(point, name)[0], getattr(rested, name)[0]))
    for ours, other in zip(back.parts().values(), point.parts().values(), strict=True):
        assert all(torch.equal(one, two) for one, two in zip(ours, other, strict=True)), "nothing else moves"
    for seed in range(40):
        size = 10.0 ** -(seed % 4)
        W, u = rested.weights[0].clone(), rested.us[0].clone()
        if seed % 3 != 1:
            W[still] += size * draw(5, 64, seed=seed)
        if seed % 3 != 2:
            u[:, still] += size * draw(200, 5, seed=seed)
        v = torch.where(still, leaky(u, net.slope), rested.vs[0])
        if seed % 3 == 0:
            v = v + size * still * draw(200, 20, seed=seed).abs()
        other = rested.put("weights", 0, W).put("us", 0, u).put("vs", 0, v)
        assert net.lagrangian(other, X, y) >= least


def test_units_at_rest_are_left_out_of_an_iteration_and_change_nothing_in_it(digits):
    """The same iterations, of the network without them."""
    X, y = digits[:2]
    net = dying()
    net.fit(X, y, epochs=20, tol=0.0, progress=False)
    point, units = net._awake(net._point, net._idle)
    kept = [len(own) for own in units]
    assert 0 < kept[0] < 20 and 0 < kept[1] < 15
    small = dying(kept)
    small.rho, small.activation_penalty = net.rho, net.activation_penalty
    small._point, small._data = point.only(units), net._data
    small._idle = [count[own] for count, own in zip(net._idle, units, strict=True)]
    small.history.best = {"loss": math.inf, "weights": {n: p.detach().clone() for n, p in small.named_parameters()}}
    for one in (net, small):
        one.growth = 1.0
        one.fit(X, y, epochs=3, tol=0.0, progress=False, trace=True)
    for ours, other in zip(net._point.only(units).parts().values(), small._point.parts().values(), strict=True):
        for one, two in zip(ours, other, strict=True):
            assert_close(one, two, atol=1e-9, rtol=1e-9)
    values = [[value for *_, value in one.history.steps][1:] for one in (net, small)]
    assert_close(*(torch.tensor(one) for one in values), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(("loss", "near"), [("squared", 1e-12), ("cross_entropy", 1e-6)])
def test_sweeps_over_all_units_leave_those_at_rest_where_they_are(digits, loss, near):
    """The theorem: leaving them out is the same as not leaving them out, entry by entry.

    The step on logits compares values, and they cannot tell points apart that are nearer than the root of a rounding
    error. So there the two runs are only so near; the units at rest move no more than elsewhere.
    """
    X, y = digits[:2]
    short = dying(loss=loss)
    short.fit(X, y, epochs=20, tol=0.0, progress=False)
    short._point, units = short._awake(short._point, short._idle)
    assert all(0 < len(own) < width for own, width in zip(units, (20, 15), strict=True))
    rest = [torch.tensor([i not in own.tolist() for i in range(w)]) for own, w in zip(units, (20, 15), strict=True)]
    short.growth, short.patience = 1.0, 1000
    full = copy.deepcopy(short)
    short._idle = [torch.where(still, 1000, 0) for still in rest]
    full._idle = [torch.zeros_like(count) for count in full._idle]
    for net in (short, full):
        net.fit(X, y, epochs=3, tol=0.0, progress=False)
    for ours, other in zip(short._point.parts().values(), full._point.parts().values(), strict=True):
        for one, two in zip(ours, other, strict=True):
            assert_close(one, two, atol=near, rtol=near)
    for part in ("offsets", "us", "vs", "multipliers"):
        pairs = zip(getattr(short._point, part)[:2], getattr(full._point, part)[:2], rest, strict=True)
        for one, two, still in pairs:
            assert_close(two[..., still], one[..., still], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_block_steps_decrease_while_units_go_to_rest(digits, loss):
    net = dying(loss=loss, patience=2)
    net.fit(*digits[:2], epochs=25, tol=0.0, progress=False, trace=True)
    for _, steps in itertools.groupby(net.history.steps, lambda one: one[1]):
        values = [value for *_, value in steps]
        assert all(b <= a + 1e-12 * abs(a) for a, b in itertools.pairwise(values))
    assert min(net.zero_groups()[1:]) > 3
    still = net._idle[0] > 5  # a step of the multipliers ago at the least
    assert bool(still.any()) and net._point.weights[1][:, still].abs().sum() == 0
    assert net._point.weights[0][still].abs().sum() == 0
    assert net._point.multipliers[0][:, still].abs().max() < 1e-12


def test_a_unit_goes_to_rest_after_as_many_sweeps_unheard_as_patience_says(digits):
    X, y = digits[:2]
    rows = {}
    for patience in (1, 4, 1000):
        net = dying(patience=patience)
        rows[patience] = []
        for _ in range(8):
            net.fit(X, y, epochs=1, tol=0.0, progress=False)
            unheard = (net._point.weights[1] == 0).all(0)
            deaf = (net._point.weights[0] == 0).all(1)
            assert torch.equal(net._idle[0] > 0, unheard)
            assert bool((deaf | (net._idle[0] < patience)).all())
            rows[patience].append(int((deaf & unheard).sum()))
    assert 0 <= rows[4][1] < rows[1][1] and rows[4][-1] > 0 == max(rows[1000])


def test_a_run_saved_while_units_wait_for_their_rest_goes_on_with_the_same_bits(digits):
    X, y = digits[:2]
    whole, begun = dying(), dying()
    whole.fit(X, y, epochs=8, tol=0.0, progress=False)
    begun.fit(X, y, epochs=3, tol=0.0, progress=False)
    assert any(bool(((count > 0) & (count < 4)).any()) for count in begun._idle), "some wait"
    other = dying(seed=5)
    other.load_state_dict(begun.state_dict())
    other.fit(X, y, epochs=5, tol=0.0, progress=False)
    for ours, theirs in zip(other._point.parts().values(), whole._point.parts().values(), strict=True):
        assert all(torch.equal(one, two) for one, two in zip(ours, theirs, strict=True))
    assert all(torch.equal(one, two) for one, two in zip(other._idle, whole._idle, strict=True))


def test_units_that_nobody_hears_at_first_get_their_chance(digits):
    net = network((12,))
    with torch.no_grad():
        net.layers[1].weight.zero_()
    before = net.objective(*digits[:2])
    net.fit(*digits[:2], epochs=20, tol=0.0, progress=False)
    assert net.zero_groups()[1] < 6 and net.objective(*digits[:2]) < 0.5 * before


def test_a_point_is_put_together_again_from_its_parts():
    widths, n = (4, 6, 5, 2), 7
    weights = tuple(draw(b, a, seed=a) for a, b in itertools.pairwise(widths))
    rows = [tuple(draw(n, b, seed=b + i) for b in widths[1:]) for i in range(3)]
    point = LiftedPoint(weights, tuple(draw(b, seed=b) for b in widths[1:]), *rows)
    units = [torch.tensor([0, 2, 5]), torch.tensor([1, 4])]
    small = point.only(units)
    assert [W.shape for W in small.weights] == [(3, 4), (2, 3), (2, 2)]
    assert_close(small.weights[1], point.weights[1][[1, 4]][:, [0, 2, 5]])
    whole = point.with_units(small, units)
    for name in ("offsets", "us", "vs", "multipliers"):
        assert all(torch.equal(a, b) for a, b in zip(getattr(whole, name), getattr(point, name), strict=True))
    assert torch.equal(whole.only(units).weights[1], small.weights[1])
    assert whole.weights[1][:, [1, 3, 4]].abs().sum() == whole.weights[1][[0, 2, 3]].abs().sum() == 0


@pytest.mark.eq("eq-augmented")
@pytest.mark.eq("eq-group-objective")
def test_the_lagrangian_is_what_its_definition_says(digits):
    X, y = digits[0][:7], digits[1][:7]
    net = network((5,), slope=0.2, group_penalty=[0.1, 0.3], rho=0.7, activation_penalty=1.3)
    point = net.lift(X, y)
    assert net.lagrangian(point, X, y) == pytest.approx(net.objective(X, y), rel=1e-14)
    point = point.put("us", 0, draw(7, 5)).put("multipliers", 0, draw(7, 5, seed=1)).put("vs", 0, 2 + draw(7, 5).abs())
    T, total = nn.functional.one_hot(y, 10), 0.0
    total += float((point.vs[1] - T).square().sum()) / 2
    for l, below in enumerate((X, point.vs[0])):
        R = point.us[l] - below @ point.weights[l].mT - point.offsets[l]
        s = torch.where(point.us[l] > 0, point.us[l], 0.2 * point.us[l])
        total += float((point.multipliers[l] * R).sum() + 0.35 * R.square().sum() + 1.3 * (point.vs[l] - s).sum())
    groups = 0.1 * point.weights[0].norm(dim=0).sum() + 0.3 * point.weights[1].norm(dim=0).sum()
    assert net.lagrangian(point, X, y) == pytest.approx(total / 7 + float(groups), rel=1e-13)


@pytest.mark.eq("eq-backward-multipliers")
@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_the_multipliers_of_a_feasible_point_are_those_of_backpropagation(digits, loss):
    X, y = digits[:2]
    net = network((9, 8), loss=loss)
    point = net.lift(X, y)
    x, us = X, []
    for l, layer in enumerate(net.layers):
        us.append(layer(x).detach().requires_grad_())
        x = us[-1] + (layer(x) - layer(x).detach())
        x = leaky(x, net.slope) if l < 2 or loss == "squared" else x
    if loss == "squared":
        value = (x - nn.functional.one_hot(y, 10)).square().sum() / 2
    else:
        value = nn.functional.cross_entropy(x, y, reduction="sum")
    for xi, gradient in zip(point.multipliers, torch.autograd.grad(value, us), strict=True):
        assert_close(xi, -gradient)


def by_proximal_gradient(net, X, y, steps=20_000, rate=0.05):
    """Minimise the network's own objective without multipliers: the certificate of another method's end."""
    T = nn.functional.one_hot(y, net.layers[-1].out_features).to(X.dtype) if y.dtype == torch.int64 else y
    for _ in range(steps):
        if net.loss == "squared":
            loss = (net(X) - T).square().sum() / (2 * len(X))
        else:
            loss = nn.functional.cross_entropy(net(X), y)
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for p, g in zip(net.parameters(), gradients, strict=True):
                p -= rate * g
            for layer, penalty in zip(net.layers, net.group_penalty, strict=True):
                layer.weight.copy_(shrink_groups(layer.weight, rate * penalty))


@pytest.mark.eq("eq-multiplier-update")
def test_the_residual_of_the_iterate_falls_to_zero_and_no_descent_is_left():
    """On a small problem the run ends at a KKT point, by its certificate; proximal gradient finds no way down.

    Some pairs end at the kink u = 0. There the multipliers of backpropagation are one choice among many, and not the
    method's: so the network's own residual stays, although the point is stationary.
    """
    X = draw(40, 4)
    y = (X[:, 0] * X[:, 1] > 0).long()
    net = GroupSparseNetwork([4, 6, 2], 0.2, 0.02, first=1.0, pair_steps=3, dtype=F64)
    first = net.kkt_residual(X, y)
    assert first.affine < 1e-14 and first.activation == 0 and first.weights > 0.05
    net.fit(X, y, epochs=400, tol=0.0, progress=False)
    last = net.kkt_residual(X, y, at="iterate")
    assert last.largest < 1e-4, last
    assert last.largest == max(vars(last).values())
    at_kinks = sum(int((u.abs() < 1e-4).sum()) for u in net.lift(X, y).us)
    assert (at_kinks > 0) == (net.kkt_residual(X, y).weights > 1e-3)
    before = net.objective(X, y)
    by_proximal_gradient(net, X, y, steps=300, rate=1e-3)
    assert net.objective(X, y) >= before - 1e-6


def test_the_certificate_measures_the_end_of_another_method_too():
    X = draw(40, 4)
    y = (X[:, :1] - X[:, 1:2]).abs() + 1
    net = GroupSparseNetwork([4, 5, 1], 0.2, 0.02, first=1.0, dtype=F64)
    residuals = []
    for steps in (300, 1200):
        residuals.append(net.kkt_residual(X, y).weights)
        by_proximal_gradient(net, X, y, steps=steps)
    last = net.kkt_residual(X, y)
    assert residuals[0] > residuals[1] > 3 * last.weights and last.affine < 1e-14 and last.activation == 0


def test_a_stationary_network_is_a_fixed_point():
    """With only positive arguments the network is linear, and its optimum an elastic one that scikit-learn knows."""
    X = draw(60, 5) + 1.0
    y = (X @ draw(5, 2, seed=1)) + 20
    other = MultiTaskLasso(0.3, tol=1e-13, max_iter=100_000).fit(X.numpy(), y.numpy())
    net = GroupSparseNetwork([5, 2], 0.1, 0.3, dtype=F64)
    with torch.no_grad():
        net.layers[0].weight.copy_(torch.tensor(other.coef_))
        net.layers[0].bias.copy_(torch.tensor(other.intercept_))
    assert bool((net(X) > 0).all()) and net.kkt_residual(X, y).largest < 1e-6
    history = net.fit(X, y, epochs=3, tol=0.0, progress=False)
    assert_close(net.layers[0].weight.detach(), torch.tensor(other.coef_), atol=1e-5, rtol=1e-5)
    assert history.column("loss")[-1] == pytest.approx(history.column("loss")[0], rel=1e-9)


@pytest.mark.eq("eq-kkt-weights")
def test_each_component_of_the_residual_answers_for_its_own_condition(digits):
    X, y = digits[:2]
    net = network((5,))
    net.fit(X, y, epochs=2, progress=False)
    net._point = point = net.lift(X, y)
    base = net.kkt_residual(X, y, at="iterate")
    assert base.affine < 1e-14 and base.activation == base.violation == 0

    def moved(name, l, by):
        net._point = point.put(name, l, getattr(point, name)[l] + by)
        return net.kkt_residual(X, y, at="iterate")

    assert moved("offsets", 1, 0.3).affine == pytest.approx(0.3 * math.sqrt(10))
    assert moved("vs", 0, 0.2).activation == pytest.approx(0.2 * math.sqrt(5))
    assert moved("vs", 0, -0.2).violation == pytest.approx(0.2)
    assert moved("multipliers", 0, 0.1).offsets != base.offsets and moved("multipliers", 0, 0.1).weights != base.weights
    assert moved("multipliers", 0, 0.1).values > base.values
    assert net.kkt_residual(X, y, at="iterate", step=0.5).values != moved("multipliers", 0, 0.1).values


@pytest.mark.eq("eq-kkt-kink")
def test_a_concave_kink_is_no_hiding_place():
    """At u = v = 0 the pair looks stationary to the small step, or nearly; the directional derivative tells."""
    X, y = torch.ones(1, 1, dtype=F64), torch.ones(1, 1, dtype=F64)
    net = GroupSparseNetwork([1, 1], 0.0, 0.0, dtype=F64)
    with torch.no_grad():
        net.layers[0].weight.zero_()  # the output is 0, the target 1: upwards the loss falls with slope 1
    found = net.kkt_residual(X, y)
    assert found.weights == found.offsets == 0 and found.kinks == pytest.approx(1.0)
    with torch.no_grad():
        net.layers[0].bias.fill_(1e-6)
    slope = (net.objective(X, y) - 0.5) / 1e-6
    assert -found.kinks == pytest.approx(slope, abs=1e-5)
    y = -y
    with torch.no_grad():
        net.layers[0].bias.zero_()
    assert net.kkt_residual(X, y).largest < 1e-12, "downwards a ReLU cannot follow: nothing is to be gained"


def same(one, other):
    """Compare two networks and their histories bit for bit, but for the seconds."""
    for (name, p), (_, q) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(p, q), name
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in net.history.rows] for net in (one, other)]
    assert rows[0] == rows[1]
    assert one.history.marks == other.history.marks
    assert (one.rho, one.activation_penalty) == (other.rho, other.activation_penalty)


@pytest.mark.parametrize("dtype", [F64, torch.float32], ids=["double", "single"])
def test_four_passes_saved_and_loaded_and_six_more_are_ten(digits, dtype):
    X, y, X_held, y_held = digits
    how = {"validation": (X_held.to(dtype), y_held), "progress": False, "tol": 0.0}
    whole, first, second = (network((9, 8), seed=3, activation_penalty=0.05).to(dtype) for _ in range(3))
    whole.fit(X.to(dtype), y, epochs=10, **how)
    first.fit(X.to(dtype), y, epochs=4, **how)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    second.fit(X.to(dtype), y, epochs=6, **how)
    same(whole, second)
    assert whole.history.passes == 10 and whole.history.marks, "rho or beta grew, so that their state matters"


def test_ctrl_c_lets_the_iteration_finish_and_the_next_call_goes_on(digits):
    whole, halted = network(), network()
    whole.fit(*digits[:2], epochs=5, tol=0.0, progress=False)
    history = halted.fit(
        *digits[:2], epochs=5, tol=0.0, progress=lambda row: row["pass"] == 2 and signal.raise_signal(signal.SIGINT)
    )
    assert history.status == "interrupted" and history.passes == 2
    halted.fit(*digits[:2], epochs=3, tol=0.0, progress=False)
    same(whole, halted)


def test_a_second_ctrl_c_undoes_the_iteration_under_way(digits, monkeypatch):
    whole, halted = network(), network()
    whole.fit(*digits[:2], epochs=3, tol=0.0, progress=False)
    halted.fit(*digits[:2], epochs=1, tol=0.0, progress=False)
    with monkeypatch.context() as patched:

        def interrupted(*args):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

        patched.setattr("lablib.augmented.group_weight_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            halted.fit(*digits[:2], epochs=2, tol=0.0, progress=False)
    halted.fit(*digits[:2], epochs=2, tol=0.0, progress=False)
    same(whole, halted)


def test_the_network_has_the_best_weights_of_the_run_not_the_last_ones(digits):
    X, y = digits[:2]
    net = network(rho=0.05)
    history = net.fit(X, y, epochs=2, tol=0.0, progress=False)
    losses = history.column("iterate loss")
    assert losses[-1] > 1.001 * min(losses), "the run is one where it matters"
    assert history.column("loss") == list(itertools.accumulate(losses, min))
    assert net.objective(X, y) == pytest.approx(min(losses), rel=1e-12) == history.best["loss"]
    assert history.best["pass"] == losses.index(min(losses))


def test_other_data_and_other_weights_start_from_the_network(digits):
    X, y, X_other, y_other = digits
    net = network()
    net.fit(X, y, epochs=2, progress=False)
    net.fit(X_other[:150], y_other[:150], epochs=1, progress=False)
    assert net.history.marks[-1][1] == "other data" or (2, "other data") in net.history.marks
    assert len(net._point.us[0]) == 150
    with torch.no_grad():
        net.layers[0].weight.mul_(1.01)
    loss = net.objective(X_other[:150], y_other[:150])
    net.fit(X_other[:150], y_other[:150], epochs=1, progress=False)
    assert (3, "other weights") in net.history.marks and net.history.best["loss"] <= loss


def test_a_run_goes_on_after_the_network_was_moved(digits):
    X, y = digits[:2]
    net = network()
    net.fit(X, y, epochs=3, tol=0.0, progress=False)
    net.float().fit(X.float(), y, epochs=3, tol=0.0, progress=False)
    whole = network()
    whole.fit(X, y, epochs=6, tol=0.0, progress=False)
    assert not [text for _, text in net.history.marks if text.startswith("other weights")]
    assert net.history.rows[-1]["loss"] == pytest.approx(whole.history.rows[-1]["loss"], rel=1e-3)
    assert net._point.us[0].dtype == torch.float32


def test_rho_and_beta_grow_where_their_residuals_do_not_fall(digits):
    net = network(rho=0.03, growth=2.0)
    net.fit(*digits[:2], epochs=25, tol=0.0, progress=False)
    assert net.rho > 0.03 and any(text.startswith("rho") for _, text in net.history.marks)
    fixed = network(rho=0.03, growth=1.0)
    fixed.fit(*digits[:2], epochs=25, tol=0.0, progress=False)
    assert (
        fixed.rho == 0.03
        and not fixed.history.marks
        and fixed.history.rows[-1]["gap affine"] > 2 * net.history.rows[-1]["gap affine"]
    )
    slack = network(activation_penalty=0.01, growth=2.0)
    slack.fit(*digits[:2], epochs=12, tol=0.0, progress=False)
    assert slack.activation_penalty > 0.01 and any(text.startswith("beta") for _, text in slack.history.marks)


def test_a_run_that_diverges_says_so_and_leaves_the_best_weights(digits, monkeypatch):
    X, y = digits[:2]
    net = network()
    net.fit(X, y, epochs=3, progress=False)
    best, objective = {n: p.clone() for n, p in net.named_parameters()}, net.objective(X, y)
    with monkeypatch.context() as patched:
        patched.setattr("lablib.augmented.group_weight_step", lambda W, *_: (W * math.nan, W.sum(1)))
        with pytest.warns(RuntimeWarning, match="diverged in pass 4: the iterate is not finite; the weights are those"):
            history = net.fit(X, y, epochs=3, progress=False)
    assert history.status == "diverged"
    assert all(torch.equal(p, best[n]) for n, p in net.named_parameters())
    net.fit(X, y, epochs=2, progress=False)
    assert net.objective(X, y) <= objective, "and the next call goes on from them"


# ---- what a user gets ----


@pytest.fixture(scope="module")
def sparse(digits):
    net = network((20, 15), group_penalty=4e-3)
    net.fit(*digits[:2], epochs=60, tol=0.0, progress=False)
    return net


@pytest.mark.parametrize("drop", [False, True], ids=["inputs kept", "inputs dropped"])
def test_the_export_is_smaller_and_says_the_same(digits, sparse, drop):
    X = digits[2]
    plain, zero = sparse.export(drop_inputs=drop), sparse.zero_groups()
    live = sparse.live_inputs()
    assert 0 < len(live) < 64 and zero[1] > 0 and zero[0] > 0
    assert type(plain) is nn.Sequential and [type(m) for m in plain] == [nn.Linear, nn.LeakyReLU] * 3
    assert plain[0].out_features <= 20 - zero[1] and plain[0].in_features == (len(live) if drop else 64)
    assert_close(plain(X[:, live] if drop else X), sparse(X), atol=1e-6, rtol=0)
    other = X.clone()
    dead = torch.ones(64, dtype=torch.bool)
    dead[live] = False
    other[:, dead] = 9.0
    assert torch.equal(sparse(other), sparse(X)), "dead inputs do not matter"


def test_the_export_follows_death_up_and_down_and_folds_constants():
    net = GroupSparseNetwork([4, 5, 5, 2], 0.1, 0.0, first=2.0, dtype=F64)
    with torch.no_grad():
        for layer in net.layers:
            layer.bias.copy_(draw(layer.out_features, seed=layer.out_features))
        net.layers[2].weight[:, 1:] = 0  # one unit of the second layer is heard
        net.layers[1].weight[0, :3] = 0  # it hears two units of the first,
        net.layers[0].weight[3] = 0  # of which one is a constant
        net.layers[0].weight[4, 1:] = 0  # and the other hears one input
    X = draw(30, 4)
    plain = net.export()
    assert [plain[0].out_features, plain[2].out_features] == [1, 1] and net.live_inputs().tolist() == [0]
    assert_close(plain(X), net(X))
    assert_close(net.export(drop_inputs=True)(X[:, :1]), net(X))
    with torch.no_grad():
        net.layers[1].weight.zero_()
    assert_close(net.export()(X), net(X))
    assert net.live_inputs().tolist() == [] and [m.out_features for m in net.export() if hasattr(m, "out_features")][
        :2
    ] == [1, 1]
    assert_close(net.export(drop_inputs=True)(X[:, :1]), net(X))


def test_a_relu_network_and_logits_are_exported_as_such(digits):
    net = network(slope=0.0, loss="cross_entropy")
    net.fit(*digits[:2], epochs=40, tol=0.0, progress=False)
    plain = net.export()
    assert [type(m) for m in plain] == [nn.Linear, nn.ReLU, nn.Linear]
    assert torch.equal(plain(digits[2]).argmax(1), net.predict(digits[2]))
    assert net.score(*digits[2:]) > 0.85
    again = GroupSparseNetwork.from_modules(plain, 1e-3, loss="cross_entropy")
    assert_close(again(digits[2]), net(digits[2]))
    plain[0].weight.data.zero_()
    assert again.score(*digits[2:]) > 0.85, "both hold copies"


def test_it_learns_the_digits_and_a_larger_penalty_leaves_fewer_groups(digits):
    X, y, X_held, y_held = digits
    zeros = []
    for penalty in (5e-4, 2e-3, 5e-3):
        net = GroupSparseNetwork([64, 20, 10], 0.01, penalty, dtype=F64)
        history = net.fit(X, y, epochs=40, validation=(X_held, y_held), progress=False)
        zeros.append(sum(net.zero_groups()))
        assert history.rows[-1]["training accuracy"] > 0.85
        assert history.rows[-1]["validation accuracy"] == net.score(X_held, y_held) > 0.75
    assert zeros[0] < zeros[1] < zeros[2]


def test_real_targets_are_scored_by_r2_and_predicted_as_outputs():
    X = draw(80, 4)
    y = (X[:, :1] - X[:, 1:2]).abs()
    net = GroupSparseNetwork([4, 8, 1], 0.1, 1e-3, first=1.0, dtype=F64)
    history = net.fit(X, y, epochs=150, progress=False)
    assert net.score(X, y) > 0.9 and "training R2" in history.rows[-1]
    assert_close(net.predict(X), net(X).detach())
    assert net.score(X, y) == pytest.approx(
        1 - float((net.predict(X) - y).square().sum() / (y - y.mean()).square().sum())
    )


@pytest.mark.parametrize(
    "change",
    [
        {"slope": 0.4},
        {"group_penalty": 2e-3},
        {"group_penalty": [1e-3, 3e-3]},
        {"loss": "cross_entropy"},
        {"rho": 0.5},
        {"activation_penalty": 0.02},
        {"growth": 1.5},
        {"sweeps": 2},
        {"pair_steps": 3},
        {"w_steps": 5},
        {"seed": 1},
        {"first": 0.4},
    ],
    ids=str,
)
def test_each_argument_changes_the_result(digits, change):
    objectives = []
    base = {"activation_penalty": 0.02} if "growth" in change else {}
    for options in (base, base | change):
        net = network(**options)
        objectives.append(net.fit(*digits[:2], epochs=9, tol=0.0, progress=False).rows[-1]["loss"])
    assert abs(objectives[0] - objectives[1]) > 1e-6


def test_tol_ends_a_run_and_progress_shows_it(digits, capsys):
    history = network().fit(*digits[:2], epochs=50, tol=0.1, progress=True)
    assert history.status == "converged" and 1 < history.passes < 50
    written = capsys.readouterr().err.splitlines()
    assert len(written) == history.passes + 1 and "pass 1/50: objective" in written[1] and "gap affine" in written[1]


def test_float32_works_as_float64_does(digits):
    X, y = digits[:2]
    single, double = network((9,)).float(), network((9,))
    a = single.fit(X.float(), y, epochs=6, tol=0.0, progress=False, trace=True)
    b = double.fit(X, y, epochs=6, tol=0.0, progress=False)
    for _, steps in itertools.groupby(a.steps, lambda one: one[1]):
        values = [value for *_, value in steps]
        assert all(y <= x + 2e-6 * abs(x) for x, y in itertools.pairwise(values))
    assert a.rows[-1]["loss"] == pytest.approx(b.rows[-1]["loss"], rel=2e-2)
    assert single(X.float()).dtype == torch.float32 and single.export()(X.float()).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_agrees_with_the_processor(digits):
    X, y = digits[:2]
    one, other = dying(patience=1), dying(patience=1).cuda()
    one.fit(X, y, epochs=3, progress=False)
    other.fit(X.cuda(), y.cuda(), epochs=3, progress=False)
    assert other.objective(X.cuda(), y.cuda()) == pytest.approx(one.objective(X, y), rel=1e-6)


# ---- bad input ----

X3, Y3 = draw(6, 3), torch.tensor([0, 1, 0, 1, 1, 0])


def small(widths=(3, 4, 2), slope=0.1, group_penalty=1e-3, **options):
    return GroupSparseNetwork(list(widths), slope, group_penalty, dtype=F64, **options)


def spoilt(net):
    with torch.no_grad():
        net.layers[1].weight[0, 1] = math.nan
    return net


def changed(t, index, value):
    t = t.clone()
    t[index] = value
    return t


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: small(slope=1.0), "slope is 1: expected a number from 0 up to, but not including, 1"),
        (lambda: small(slope=-0.1), "slope is -0.1: expected a number from 0"),
        (lambda: small(slope=math.nan), "slope is nan: expected a number from 0"),
        (lambda: small(group_penalty=-1e-3), "group_penalty is -0.001: expected a finite number that is not negative"),
        (lambda: small(group_penalty=math.nan), "group_penalty is nan: expected a finite number"),
        (lambda: small(group_penalty=[1.0, -2.0]), r"group_penalty\[1\] is -2: expected a finite number"),
        (lambda: small(group_penalty=[1.0]), "group_penalty has 1 entries: expected one number, or 2 of them"),
        (lambda: small(loss="hinge"), "loss is 'hinge': expected one of squared, cross_entropy"),
        (lambda: small(widths=[3]), r"widths is \[3\]: expected a list of at least two"),
        (lambda: small(widths=[3, 0, 2]), r"widths\[1\] is 0: expected a whole number of at least 1"),
        (lambda: small(rho=0.0), "rho is 0: expected a positive number"),
        (lambda: small(activation_penalty=0.0), "activation_penalty is 0: expected a positive number"),
        (lambda: small(growth=0.5), "growth is 0.5: expected a number of at least 1"),
        (lambda: small(sweeps=0), "sweeps is 0: expected at least 1"),
        (lambda: small(first=0.0), "first is 0: expected a positive number"),
        (lambda: small().fit(X3, changed(Y3, 4, 2)), r"y\[4\] is 2: expected a label from 0 to 1, .* has 2 outputs"),
        (lambda: small().fit(X3, changed(Y3, 0, -1)), r"y\[0\] is -1: expected a label from 0 to 1"),
        (lambda: small().fit(changed(X3, (2, 1), math.nan), Y3), r"X\[2, 1\]"),
        (lambda: small().fit(X3, changed(draw(6, 2), (5, 0), math.inf)), r"y\[5, 0\]"),
        (lambda: small().fit(X3[:, :2], Y3), r"X has shape \(6, 2\): expected \(samples, 3\)"),
        (lambda: small().fit(X3, Y3[:5]), "y has 5 rows: expected 6, one for each sample of X"),
        (lambda: small().fit(X3, draw(6, 3)), r"y has shape \(6, 3\): expected \(6, 2\)"),
        (lambda: small().fit(X3, Y3.reshape(6, 1)), r"y has shape \(6, 1\): expected one label for each sample"),
        (lambda: small().fit(X3[:0], Y3[:0]), "X has no samples"),
        (lambda: small().fit(X3, Y3, validation=(X3[:2], Y3)), "validation y has 6 rows: expected 2"),
        (lambda: small().fit(X3, Y3, epochs=0), "epochs is 0: expected at least 1"),
        (lambda: small().fit(X3, Y3, tol=-1.0), "tol is -1: expected a finite number"),
        (lambda: small().kkt_residual(X3, Y3, at="here"), "at is 'here': expected 'network' or 'iterate'"),
        (lambda: small().kkt_residual(X3, Y3, at="iterate"), "at is 'iterate': expected a network that fit was called"),
        (lambda: activation_step(X3, X3, 0.0, 1.0), "a is 0: expected a positive number"),
        (lambda: activation_step(X3, X3, 1.0, changed(X3.abs(), (1, 2), -1.0)), r"b\[1, 2\] is -1: expected"),
        (lambda: activation_step(X3, X3, 1.0, 1.0, 1.5), "slope is 1.5: expected a number from 0"),
        (lambda: activation_step(X3, X3, 1.0, 1.0, penalty=-1.0), "penalty is -1: expected a finite number"),
        (lambda: activation_step(X3, X3, 1.0, 1.0, penalty=math.nan), "penalty is nan: expected a finite number"),
        (lambda: activation_step(changed(X3, (3, 0), math.nan), X3, 1.0, 1.0), r"p\[3, 0\] is nan"),
        (lambda: activation_step(X3, changed(X3, (0, 2), math.inf), 1.0, 1.0), r"q\[0, 2\] is inf"),
        (lambda: activation_step(X3, X3, math.inf, 1.0), "a is inf: expected a positive number"),
        (lambda: activation_step(X3, X3, 1.0, torch.tensor([1.0, math.inf, 1.0])), r"b\[1\] is inf: expected"),
        (lambda: activation_step(X3, draw(6, 2), 1.0, 1.0), r"have the shapes \[\(6, 3\), \(6, 2\)\]: expected"),
        (lambda: small(patience=0), "patience is 0: expected at least 1"),
        (lambda: small().fit(X3, Y3[0]), "y is one number: expected 6 rows"),
        (lambda: small().fit(1e200 * X3, Y3), r"X reaches .*e\+200: expected inputs whose squares have a finite sum"),
        (lambda: small().fit(X3, Y3, validation=(X3[:, :2], Y3)), r"validation X has shape \(6, 2\): expected"),
        (lambda: spoilt(small()).fit(X3, Y3), r"layers.1.weight\[0, 1\] is nan"),
        (
            lambda: GroupSparseNetwork.from_modules([nn.Linear(3, 4), nn.ReLU(), nn.Linear(5, 2), nn.ReLU()]),
            r"modules\[2\] has 5 inputs: expected 4, the outputs of modules\[0\]",
        ),
        (
            lambda: GroupSparseNetwork.from_modules([nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), nn.LeakyReLU(0.1)]),
            r"modules have the slopes \[0.0, 0.1\]: expected one slope",
        ),
    ],
    ids=itertools.count(),
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_name_and_index(build, says):
    with pytest.raises(ValueError, match=says) as caught:
        build()
    assert isinstance(caught.value, SolveError)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: small(slope="0.1"), "slope is a str: expected a number"),
        (lambda: small(group_penalty="1"), "group_penalty is a str: expected a number"),
        (lambda: small(seed=1.0), "seed is a float: expected a whole number"),
        (lambda: small(w_steps=2.0), "w_steps is a float: expected a whole number"),
        (lambda: small().fit(X3.tolist(), Y3), "X is a list: expected a torch tensor"),
        (lambda: small().fit(X3, Y3.tolist()), "y is a list: expected a torch tensor"),
        (lambda: small().fit(X3.float(), Y3), r"X is torch.float32 on cpu: expected torch.float64 on cpu, .* \.to\(\)"),
        (lambda: small().fit(X3, draw(6, 2).float()), "y has dtype torch.float32: expected torch.float64, like X"),
        (lambda: small(loss="cross_entropy").fit(X3, draw(6, 2)), r"expected torch.int64 labels .* call \.long\(\)"),
        (lambda: GroupSparseNetwork.from_modules([nn.Linear(2, 2), nn.Tanh()]), r"modules\[1\] is Tanh\(\): expected"),
        (lambda: activation_step([1.0], X3, 1.0, 1.0), "p is a list: expected a torch tensor"),
        (lambda: activation_step(X3, X3.float(), 1.0, 1.0), "p has dtype torch.float64 and q torch.float32: exp"),
        (lambda: small().fit(X3, Y3, validation=X3), r"validation is a Tensor: expected a pair \(X, y\)"),
        (lambda: GroupSparseNetwork.from_modules(nn.Linear(2, 2)), "modules is a Linear: expected an nn.Sequential"),
        (
            lambda: GroupSparseNetwork.from_modules(
                [nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2, dtype=F64), nn.ReLU()]
            ),
            r"modules\[2\] has dtype torch.float64: expected torch.float32, like modules\[0\]",
        ),
        (lambda: GroupSparseNetwork.from_modules([nn.Linear(2, 2)]), "modules must end with an activation"),
        (lambda: GroupSparseNetwork.from_modules([nn.Linear(2, 2, bias=False)]), r"modules\[0\] is .*bias=True"),
    ],
    ids=itertools.count(),
)  # fmt: skip
def test_a_wrong_type_is_named(build, says):
    with pytest.raises(TypeError, match=says):
        build()


def test_the_certificate_of_the_iterate_asks_for_the_data_of_the_run():
    net = small()
    net.fit(X3, Y3, epochs=1, progress=False)
    with pytest.raises(ValueError, match=re.escape("X has 4 samples: expected the 6 that fit was called on")):
        net.kkt_residual(X3[:4], Y3[:4], at="iterate")
