"""Fenchel gaps, the two block steps, and the network that is trained with them."""

import copy
import io
import itertools
import math
import pickle

import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize, minimize_scalar
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from torch import nn
from torch.testing import assert_close

from lablib import FenchelLiftedNetwork, fenchel_gap
from lablib.fenchel import (
    ACTIVATIONS,
    HIDDEN,
    AffineLayer,
    _leaky,
    descend,
    representation_step,
    weight_step,
)

F64 = torch.float64
SLOPE = 0.2
KINDS = {name: ACTIVATIONS[name] for name in (*HIDDEN, "identity")} | {"leaky_relu": _leaky(SLOPE)}
every_kind = pytest.mark.parametrize("phi", KINDS.values(), ids=KINDS)


def values(phi, *shape, seed=0):
    """Values that the activation can reach, and arguments of all sizes."""
    generator = torch.Generator().manual_seed(seed)
    v, u = (3 * torch.randn(*shape, generator=generator, dtype=F64) for _ in range(2))
    v = {"relu": v.abs(), "sigmoid": torch.sigmoid(v), "tanh": torch.tanh(v)}.get(phi.name, v)
    return v, u


def gap(v, u, name):
    return fenchel_gap(v, u, name, slope=SLOPE)


# ---- the gap ----


@pytest.mark.eq("eq-fenchel-gap-relu")
@every_kind
def test_the_gap_is_what_its_definition_says(phi):
    """G by quadrature of phi, G* as a maximum over u: neither is written down in the library."""
    v, u = values(phi, 12)

    def potential(t):
        return quad(lambda s: float(phi.phi(torch.tensor(s, dtype=F64))), 0, t, points=[0], limit=200)[0]

    for one, other in zip(v.tolist(), u.tolist(), strict=True):
        top = minimize_scalar(lambda t, one=one: potential(t) - one * t, bounds=(-60, 60), options={"xatol": 1e-9})
        expected = potential(other) - one * other - top.fun
        assert gap(torch.tensor(one, dtype=F64), torch.tensor(other, dtype=F64), phi.name) == pytest.approx(
            expected, abs=1e-7
        )


@every_kind
def test_the_gap_is_never_negative_and_zero_exactly_at_the_activation(phi):
    v, u = values(phi, 20_000)
    for dtype, eps in ((F64, 1e-15), (torch.float32, 1e-6)):
        v_, u_ = v.to(dtype), u.to(dtype)
        apart = (v_ - phi.phi(u_)).square() / (2 * phi.lipschitz)
        assert bool((gap(v_, u_, phi.name) >= 0).all())
        assert bool((gap(v_, u_, phi.name) >= apart * (1 - 1e-4) - eps).all()), "so it is 0 only where v = phi(u)"
        assert gap(phi.phi(u_), u_, phi.name).max() <= eps
    if phi.name in ("relu", "identity"):
        assert gap(phi.phi(u), u, phi.name).max() == 0


@every_kind
def test_the_gap_is_convex_in_each_block(phi):
    v, u = values(phi, 5000)
    other_v, other_u = values(phi, 5000, seed=1)
    for t in (0.5, 0.1):
        in_v = t * gap(v, u, phi.name) + (1 - t) * gap(other_v, u, phi.name)
        in_u = t * gap(v, u, phi.name) + (1 - t) * gap(v, other_u, phi.name)
        assert bool((gap(t * v + (1 - t) * other_v, u, phi.name) <= in_v + 1e-12).all())
        assert bool((gap(v, t * u + (1 - t) * other_u, phi.name) <= in_u + 1e-12).all())


def test_the_gap_is_not_convex_in_both_blocks_together():
    ends = fenchel_gap(torch.tensor([0.0, 1.0]), torch.tensor([-2.0, -1.0]))
    assert fenchel_gap(torch.tensor(0.5), torch.tensor(-1.5)) > ends.mean() + 0.1


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "softmax"])
def test_what_the_activation_cannot_reach_has_an_infinite_gap(name):
    bad = {"relu": -0.1, "sigmoid": 1.1, "tanh": -1.1, "softmax": -0.1}[name]
    v = torch.tensor([bad, 1 - bad], dtype=F64) if name == "softmax" else torch.tensor(bad, dtype=F64)
    assert fenchel_gap(v, torch.zeros_like(v), name) == math.inf
    ends = {"relu": [0.0], "sigmoid": [0.0, 1.0], "tanh": [-1.0, 1.0], "softmax": [0.0, 1.0]}[name]
    v = torch.tensor(ends, dtype=F64)
    assert bool(torch.isfinite(fenchel_gap(v, torch.zeros_like(v), name)).all())


def test_the_softmax_gap_at_labels_is_the_cross_entropy_and_convex_in_each_block():
    generator = torch.Generator().manual_seed(0)
    u, w = (3 * torch.randn(200, 5, generator=generator, dtype=F64) for _ in range(2))
    y = torch.randint(5, (200,), generator=generator)
    one_hot = nn.functional.one_hot(y, 5).to(F64)
    assert_close(fenchel_gap(one_hot, u, "softmax"), nn.functional.cross_entropy(u, y, reduction="none"))
    p, q = torch.softmax(w, -1), torch.softmax(u, -1)
    assert fenchel_gap(q, u, "softmax").max() < 1e-14
    assert bool((fenchel_gap(p, u, "softmax") >= (p - q).square().sum(-1) - 1e-15).all())
    half = (fenchel_gap(p, u, "softmax") + fenchel_gap(one_hot, u, "softmax")) / 2
    assert bool((fenchel_gap((p + one_hot) / 2, u, "softmax") <= half + 1e-12).all())
    half = (fenchel_gap(p, u, "softmax") + fenchel_gap(p, w, "softmax")) / 2
    assert bool((fenchel_gap(p, (u + w) / 2, "softmax") <= half + 1e-12).all())


def test_the_bounds_on_the_curvature_are_certain_and_met():
    u = torch.linspace(-4, 4, 8001, dtype=F64)
    for name, phi in KINDS.items():
        slopes = phi.phi(u).diff() / u.diff()
        assert 0.999 * phi.lipschitz < slopes.max() < phi.lipschitz * (1 + 1e-9), name
    largest = 0.0
    for u in torch.randn(2000, 3, generator=torch.Generator().manual_seed(0), dtype=F64):
        p = torch.softmax(4 * u, 0)
        largest = max(largest, float(torch.linalg.eigvalsh(torch.diag(p) - torch.outer(p, p))[-1]))
    assert 0.48 < largest <= ACTIVATIONS["softmax"].lipschitz


@pytest.mark.eq("eq-fenchel-prox")
@every_kind
@pytest.mark.parametrize("c", [1e-4, 0.3, 20.0])
def test_the_proximal_step_solves_its_equation(phi, c):
    """x minimises 1/2 |x - r|^2 + c G*(x); with the gap at u = 0 in place of G*, up to a constant."""
    r = torch.linspace(-3, 4, 1401, dtype=F64)
    x = phi.prox(r, c)

    def cost(t):
        return (t - r).square() / 2 + c * gap(t, torch.zeros_like(t), phi.name)

    assert bool(torch.isfinite(cost(x)).all())
    for shift in (1e-4, -1e-4):
        assert bool((cost(x) <= cost(x + shift) + 1e-14).all())


# ---- affine layers ----

LAYERS = {
    "linear": (AffineLayer([], nn.Linear(7, 4)), (7,)),
    "convolution": (AffineLayer([], nn.Conv2d(2, 3, 3)), (2, 6, 6)),
    "strided": (AffineLayer([], nn.Conv2d(2, 3, 3, stride=2, padding=1)), (2, 7, 6)),
    "pooled": (AffineLayer([nn.AvgPool2d(2)], nn.Conv2d(2, 5, 3)), (2, 9, 8)),
    "flattened": (AffineLayer([nn.AvgPool2d(2), nn.Flatten()], nn.Linear(2 * 3 * 2, 4)), (2, 6, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_design_times_its_weights_and_knows_its_transpose_and_norm(name):
    layer, shape = LAYERS[name]
    layer = layer.to(F64)
    x = torch.randn(5, *shape, dtype=F64)
    W = layer.matrix()
    U = layer(x).detach()
    assert_close(layer.apply_with(x, W), U)
    assert_close(layer.design(x) @ W, layer.rows(U))
    r, zero = torch.randn_like(U), layer(torch.zeros_like(x)).detach()
    assert_close((layer.adjoint(r, W, x) * x).sum(), (r * (U - zero)).sum())
    jacobian = torch.func.jacrev(lambda one: layer(one.unsqueeze(0)).flatten())(x[0]).flatten(1)
    norm, bound = torch.linalg.matrix_norm(jacobian, 2), layer.norm(W, x)
    assert norm <= bound < norm * (1.00001 if name in ("linear", "flattened") else 2)
    layer.put(2 * W)
    assert_close(layer.matrix(), 2 * W)
    layer.put(W)


# ---- block steps ----


def test_descent_is_never_given_up_for_speed():
    """On an ill-conditioned quadratic the value falls in every step, and far faster than without momentum."""
    eigenvalues = torch.logspace(-4, 0, 30, dtype=F64)
    start = torch.ones(30, dtype=F64)

    def run(steps, gradient_factor=1.0, ratio=0.0):
        def step(x, u):
            x = x - gradient_factor * u
            return x, eigenvalues * x

        x, _ = descend(step, lambda x, u: (x * u).sum() / 2, start, eigenvalues * start, steps, ratio)
        return float((eigenvalues * x * x).sum() / 2)

    path = [run(k) for k in range(0, 120)]
    assert all(b <= a for a, b in itertools.pairwise(path))
    plain = float((eigenvalues * (1 - eigenvalues) ** 240).sum() / 2)
    assert path[-1] < plain / 5
    assert run(60, ratio=0.5) != run(60), "the ratio limits the momentum"
    assert run(5, gradient_factor=3.0) == run(0), "a step that would raise the value is not taken"


def problem(phi, seed=0):
    """A layer below, a layer above, and values that fit neither."""
    generator = torch.Generator().manual_seed(seed)
    x, u = values(phi, 6, 5, seed=seed)
    layer = AffineLayer([], nn.Linear(5, 4)).to(F64)
    with torch.no_grad():
        layer.core.weight.copy_(torch.randn(4, 5, generator=generator, dtype=F64))
        layer.core.bias.copy_(torch.randn(4, generator=generator, dtype=F64))
    return x, u, layer


@pytest.mark.eq("eq-fenchel-curvature")
@pytest.mark.parametrize(
    ("name", "above"),
    [
        ("relu", "relu"),
        ("relu", "softmax"),
        ("leaky_relu", "sigmoid"),
        ("sigmoid", "sigmoid"),
        ("tanh", "softmax"),
        ("identity", "relu"),
    ],
)
def test_the_representation_step_reaches_the_minimum_and_never_rises(name, above):
    phi = KINDS[name]
    x, u, layer = problem(phi)
    phi_above = ACTIVATIONS[above]
    W = layer.matrix()
    target = torch.softmax(torch.randn(6, 4, dtype=F64), -1)

    def cost(x):
        upper = phi_above.gap(target, layer.apply_with(x, W)).flatten(1).sum(1)
        return 0.3 * phi.gap(x, u).sum(1) + 1.7 * upper

    def improved(steps):
        return representation_step(x, u, phi, 0.3, layer, W, target, phi_above, 1.7, steps)

    path = torch.stack([cost(improved(k)) for k in (1, 2, 3, 4, 6, 9, 14, 22)])
    assert bool((path.diff(dim=0) <= 1e-13).all()) and bool((path[0] <= cost(x)).all())
    assert bool((path[0] < cost(x) - 1e-3).any())

    ends = {"relu": (0, None), "sigmoid": (1e-12, 1 - 1e-12), "tanh": (-1 + 1e-12, 1 - 1e-12)}.get(phi.name)

    def flat(values):
        free = torch.tensor(values, dtype=F64, requires_grad=True)
        total = cost(free.reshape(6, 5)).sum()
        return total.item(), torch.autograd.grad(total, free)[0].numpy()

    found = minimize(
        flat,
        x.flatten().numpy(),
        jac=True,
        method="L-BFGS-B",
        bounds=[ends] * 30 if ends else None,
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 5000},
    )
    assert float(cost(improved(600)).sum()) == pytest.approx(found.fun, abs=1e-7)


def test_one_sample_that_needs_many_steps_does_not_hold_up_another():
    phi = ACTIVATIONS["relu"]
    x, u, layer = problem(phi)
    args = (phi, 0.3, layer, layer.matrix(), torch.softmax(torch.randn(6, 4, dtype=F64), -1), ACTIVATIONS["softmax"])
    together = representation_step(x, u, *args, 1.7, 12)
    alone = [
        representation_step(x[i : i + 1], u[i : i + 1], *args[:4], args[4][i : i + 1], args[5], 1.7, 12)
        for i in range(6)
    ]
    assert_close(together, torch.cat(alone), rtol=1e-12, atol=1e-12)


@pytest.mark.eq("eq-fenchel-majoriser")
@pytest.mark.eq("eq-fenchel-dual")
@pytest.mark.parametrize("rows", [9, 40])
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("name", [*KINDS, "softmax"])
def test_the_weight_step_is_one_majorised_newton_step_and_reaches_the_minimum(name, rows, decay):
    """Nine rows and 13 columns take the dual, forty rows the primal."""
    phi = KINDS.get(name, ACTIVATIONS["softmax"])
    generator = torch.Generator().manual_seed(1)
    A = torch.cat([torch.randn(rows, 12, generator=generator, dtype=F64), torch.ones(rows, 1, dtype=F64)], 1)
    start, held = (torch.randn(13, 4, generator=generator, dtype=F64) for _ in range(2))
    target = torch.softmax(3 * torch.randn(rows, 4, generator=generator, dtype=F64), -1)
    anchor, multiplier, samples = 0.05, 0.7, 5
    no_offsets = torch.ones(13, 1, dtype=F64)
    no_offsets[-1] = 0

    def cost(W):
        quadratic = anchor / 2 * (W - held).square().sum() + decay / 2 * (no_offsets * W).square().sum()
        return multiplier / samples * phi.gap(target, A @ W).sum() + quadratic

    def improved(steps):
        return weight_step(start, held, A, target, phi, multiplier, samples, anchor, decay, steps)

    gradient = torch.func.grad(cost)(start)
    M = multiplier * phi.lipschitz / samples * A.T @ A + torch.diag((anchor + decay * no_offsets).squeeze(1))
    expected = start - torch.linalg.solve(M, gradient)
    if rows < 13 or bool(cost(expected) <= cost(start)):
        W, U = improved(1)
        assert_close(W, expected, rtol=1e-7, atol=1e-9)
        assert_close(U, A @ W)

    path = [float(cost(improved(k)[0])) for k in (1, 2, 3, 4, 6, 9, 14, 22)]
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise([float(cost(start)), *path]))

    def flat(values):
        free = torch.tensor(values, dtype=F64)
        slope, value = torch.func.grad_and_value(cost)(free.reshape(13, 4))
        return value.item(), slope.flatten().numpy()

    found = minimize(flat, start.flatten().numpy(), jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10})
    assert float(cost(improved(1000)[0])) == pytest.approx(found.fun, abs=1e-8)


# ---- the network ----


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    X, y = torch.tensor(data.data / 16, dtype=F64), torch.tensor(data.target)
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(0))
    return X[order[:400]], y[order[:400]], X[order[400:800]], y[order[400:800]]


def network(**options):
    return FenchelLiftedNetwork([64, 12, 9, 10], **{"dtype": F64, "x_steps": 4, "w_steps": 3, **options})


def falls(values, slack=1e-12):
    return all(b <= a + slack * abs(a) for a, b in itertools.pairwise(values))


@pytest.mark.parametrize("head", ["softmax", "squared"])
@pytest.mark.parametrize("name", HIDDEN)
def test_every_block_step_of_a_full_batch_run_decreases_one_objective(digits, name, head):
    X, y = digits[:2]
    T = y if head == "softmax" else nn.functional.one_hot(y, 10).to(F64) + 0.1
    net = network(activation=name, slope=SLOPE, head=head, decay=1e-3)
    history = net.fit(X, T, epochs=8, progress=False, trace=True)
    steps = [value for *_, value in history.steps]
    assert [block for _, _, block, _ in history.steps[:6]] == ["start", "X2", "X1", "W1", "W2", "W3"]
    assert len(steps) == 8 * 6 and falls(steps) and steps[-1] < 0.8 * steps[0]
    assert not history.marks
    values = [X, *net._representations, y if head == "softmax" else T]
    if head == "softmax":
        values[-1] = nn.functional.one_hot(y, 10).to(F64)
    assert net.lifted_objective(values)[0] == pytest.approx(steps[-1]) == history.rows[-1]["objective"]


@pytest.mark.parametrize(
    "options", [{}, {"inertia": 0.9, "anchor_growth": 1.5, "alternations": 2}], ids=["plain", "all"]
)
@pytest.mark.parametrize("name", HIDDEN)
def test_every_block_step_decreases_the_batch_s_anchored_objective(digits, name, options):
    net = network(activation=name, decay=1e-3, anchors=[0.02, 0.03, 0.05], **options)
    history = net.fit(*digits[:2], epochs=2, batch_size=150, progress=False, trace=True)
    batches = [list(steps) for _, steps in itertools.groupby(history.steps, lambda one: one[1])]
    assert len(batches) == 6, "150, 150 and 100 samples, twice"
    for steps in batches:
        values = [value for *_, value in steps]
        assert falls(values) and values[-1] < values[0]


@pytest.mark.eq("eq-fenchel-objective")
def test_the_objective_at_the_forward_pass_is_the_ordinary_loss(digits):
    X, y = digits[:2]
    net = network(decay=0.1)
    squares = sum(layer.core.weight.square().sum() for layer in net.layers)
    assert net.objective(X, y) == pytest.approx((nn.functional.cross_entropy(net(X), y) + 0.05 * squares).item())
    net = network(head="squared")
    T = torch.randn(400, 10, dtype=F64)
    assert net.objective(X, T) == pytest.approx(((net(X) - T).square().sum(1).mean() / 2).item())
    r2 = 1 - ((net(X) - T).square().sum() / (T - T.mean(0)).square().sum()).item()
    assert net.score(X, T) == pytest.approx(r2)
    assert_close(net.predict(X), net(X))


def test_without_hidden_layers_it_is_logistic_regression_and_ridge(digits):
    X, y = digits[:2]
    net = FenchelLiftedNetwork([64, 10], decay=0.01, w_steps=100, dtype=F64)
    history = net.fit(X, y, epochs=40, tol=1e-13, progress=False)
    assert history.status == "converged"
    other = LogisticRegression(C=1 / (0.01 * len(X)), tol=1e-10, max_iter=5000).fit(X.numpy(), y.numpy())
    assert_close(net.layers[0].core.weight.detach(), torch.tensor(other.coef_), rtol=1e-3, atol=1e-4)
    T = torch.randn(400, 3, dtype=F64)
    net = FenchelLiftedNetwork([64, 3], head="squared", decay=0.01, w_steps=50, dtype=F64)
    net.fit(X, T, epochs=5, progress=False)
    other = Ridge(alpha=0.01 * len(X)).fit(X.numpy(), T.numpy())
    assert_close(net.layers[0].core.weight.detach(), torch.tensor(other.coef_), rtol=1e-5, atol=1e-6)


@pytest.mark.eq("eq-fenchel-ascent")
def test_the_dual_step_raises_the_multipliers_by_the_gaps_and_is_marked(digits):
    net = network(multipliers=[0.5, 0.4], dual_step=2.0)
    history = net.fit(*digits[:2], epochs=3, progress=False, trace=True)
    first = [history.rows[k]["gap 1"] for k in (1, 2)]
    assert net.multipliers[0] == pytest.approx(0.5 + 2 * sum(first)) and net.multipliers[0] > 0.5
    assert [where for where, _ in history.marks] == [1, 2] and "multipliers" in history.marks[0][1]
    for number in range(3):
        assert falls([value for _, k, _, value in history.steps if k == number]), "between the marks it falls"


def test_weight_steps_can_run_side_by_side_with_the_same_result(digits):
    one, other = network(), network()
    one.fit(*digits[:2], epochs=2, progress=False)
    other.fit(*digits[:2], epochs=2, progress=False, workers=3)
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_step_is_what_fit_does_to_a_batch_and_changes_nothing(digits):
    X, y = digits[0], digits[1]
    net = network()
    before = [layer.matrix() for layer in net.layers]
    values, weights = net.step(X, y)
    assert all(torch.equal(layer.matrix(), W) for layer, W in zip(net.layers, before, strict=True))
    history = net.fit(X, y, epochs=1, batch_size=len(X), progress=False)
    assert net.lifted_objective(values, weights, before)[0] == pytest.approx(history.rows[1]["objective"], rel=1e-9)
    for layer, W in zip(net.layers, weights, strict=True):
        assert_close(layer.matrix(), W)


def same(one, other):
    """Compare two networks and their histories bit for bit, but for the seconds."""
    for (name, p), (_, q) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(p, q), name
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in net.history.rows] for net in (one, other)]
    assert rows[0] == rows[1]
    assert one.history.marks == other.history.marks and one.multipliers == other.multipliers


@pytest.mark.parametrize("batch_size", [None, 150])
def test_four_passes_saved_and_loaded_and_six_more_are_ten(digits, batch_size):
    X, y, X_held, y_held = digits
    options = {"inertia": 0.5, "anchor_growth": 1.1, "dual_step": 0.1, "seed": 3}
    how = {"batch_size": batch_size, "validation": (X_held, y_held), "progress": False, "tol": 0.0}
    whole, first, second = (network(**options) for _ in range(3))
    whole.fit(X, y, epochs=10, **how)
    first.fit(X, y, epochs=4, **how)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    second.fit(X, y, epochs=6, **how)
    same(whole, second)
    assert whole.history.passes == 10 and len(whole.history.rows) == 11


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
@pytest.mark.parametrize("name", HIDDEN)
def test_a_copy_goes_on_as_the_network_does(digits, name, copied):
    net = network(activation=name, slope=0.3)
    net.fit(*digits[:2], epochs=1, progress=False)
    other = copied(net)
    for one in (net, other):
        one.fit(*digits[:2], epochs=2, tol=0.0, progress=False)
    same(net, other)
    assert not other.history.marks, "the copy knows its data"


def test_a_network_that_is_moved_takes_its_hidden_values_along(digits):
    net = network(inertia=0.5)
    net.fit(*digits[:2], epochs=1, progress=False)
    net.to(torch.float32)
    assert {x.dtype for x in net._representations} == {torch.float32}
    net.fit(digits[0].float(), digits[1], epochs=1, progress=False)
    assert net.history.passes == 2


def test_the_same_samples_in_another_dtype_are_the_same_data(digits):
    X, y = digits[0] / 3, digits[1]  # thirds: float32 rounds them
    net = network()
    net.fit(X, y, epochs=1, progress=False)
    net.to(torch.float32).fit(X.float(), y, epochs=1, progress=False)
    assert not net.history.marks
    net.to(torch.float64).fit(1.001 * X, y, epochs=1, progress=False)
    assert net.history.marks == [(2, "other data or batches")]


def test_the_same_samples_with_other_labels_are_other_data(digits):
    X, y = digits[:2]
    swapped = y.clone()
    first, second = 0, int((y != y[0]).nonzero()[0])
    swapped[[first, second]] = y[[second, first]]
    net = network()
    net.fit(X, y, epochs=1, progress=False)
    net.fit(X, swapped, epochs=1, progress=False)
    assert net.history.marks == [(1, "other data or batches")]


def test_other_data_start_their_own_hidden_values_and_are_marked(digits):
    X, y, X_other, y_other = digits
    net = network()
    net.fit(X, y, epochs=1, progress=False)
    net.fit(X_other[:300], y_other[:300], epochs=1, progress=False)
    assert net.history.marks == [(1, "other data or batches")] and len(net._representations[0]) == 300


@pytest.mark.parametrize("name", HIDDEN)
def test_it_learns_the_digits_and_exports_an_ordinary_network(digits, name):
    X, y, X_held, y_held = digits
    net = FenchelLiftedNetwork([64, 30, 10], name, dtype=F64)
    history = net.fit(X, y, epochs=6, batch_size=100, validation=(X_held, y_held), progress=False)
    assert history.rows[-1]["validation accuracy"] == net.score(X_held, y_held) > 0.88
    assert history.rows[0]["validation accuracy"] < 0.3
    plain = net.export()
    assert type(plain) is nn.Sequential and not any(isinstance(m, AffineLayer) for m in plain.modules())
    assert_close(plain(X_held), net(X_held))
    assert torch.equal(plain(X_held).argmax(1), net.predict(X_held))
    plain[0].weight.data.zero_()
    assert net.score(X_held, y_held) > 0.88, "the export holds copies"


def small_lenet():
    return nn.Sequential(
        *(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.1)),
        *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 10)),
    ).to(F64)


@pytest.mark.parametrize("batch_size", [None, 100])
def test_a_convolutional_network_is_trained_the_same_way(digits, batch_size):
    X, y = digits[0].reshape(-1, 1, 8, 8), digits[1]
    modules = small_lenet()
    net = FenchelLiftedNetwork.from_modules(modules, multipliers=0.5)
    assert_close(net(X), modules(X))
    assert [phi.name for phi in net.activations] == ["relu", "leaky_relu", "tanh", "softmax"]
    history = net.fit(X, y, epochs=4, batch_size=batch_size, progress=False, trace=True)
    for _, steps in itertools.groupby(history.steps, lambda one: one[1]):
        assert falls([value for *_, value in steps])
    assert history.rows[-1]["objective"] < 0.8 * history.rows[0]["objective"]
    assert_close(net.export()(X), net(X))
    assert_close(modules(X), FenchelLiftedNetwork.from_modules(modules)(X)), "the modules given keep their weights"


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "leaky_relu", "slope": 0.3},
        {"multipliers": 0.4},
        {"decay": 0.01},
        {"anchors": 0.1},
        {"anchor_growth": 2.0},
        {"inertia": 0.5},
        {"x_steps": 5},
        {"w_steps": 4},
        {"alternations": 2},
        {"seed": 1},
        {"dual_step": 1.0},
    ],
    ids=lambda change: list(change)[-1],
)
def test_each_argument_changes_the_result(digits, change):
    base = {"activation": "leaky_relu"} if "slope" in change else {}
    losses = []
    for options in (base, change):
        net = network(**options)
        losses.append(net.fit(*digits[:2], epochs=2, batch_size=200, progress=False).rows[-1]["loss"])
    assert abs(losses[0] - losses[1]) > 1e-6


def test_float32_works_as_float64_does(digits):
    X, y = digits[:2]
    single, double = network(dtype=torch.float32), network()
    a = single.fit(X.float(), y, epochs=3, progress=False, trace=True)
    b = double.fit(X, y, epochs=3, progress=False)
    assert single(X.float()).dtype == torch.float32
    assert falls([value for *_, value in a.steps], slack=1e-6)
    assert a.rows[-1]["objective"] == pytest.approx(b.rows[-1]["objective"], rel=1e-2)
