"""Frank-Wolfe over a set: against Clarabel, closed forms, the published loop, and its theory."""

import copy
import math
import pickle
import re

import clarabel
import numpy as np
import pytest
import torch
from scipy import sparse
from test_bad_input import NAN

import lablib
from lablib import Affine, Box, BoxBudget, FrankWolfeLayer, L1Ball, Simplex, SolveError, frank_wolfe, rollouts
from tests.results import dfwlayer as dfw

# torch's forward mode decorates its formulas with torch.jit.script when it is first used, and warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

D = torch.float64
N, B = 6, 4


def quadratics(batch=B, n=N, *, seed=0, shift=0.3, dtype=D):
    g = torch.Generator().manual_seed(seed)
    R = torch.randn(batch, n, n, generator=g, dtype=D)
    return (R.mT @ R / n + shift * torch.eye(n, dtype=D)).to(dtype), torch.randn(batch, n, generator=g, dtype=D).to(
        dtype
    )


def data_of(name, batch=B, n=N):
    g = torch.Generator().manual_seed(1)
    u = torch.rand(4, batch, n, generator=g, dtype=D)
    return {
        "simplex": (lambda total: Simplex(n, total), (0.5 + u[0, :, 0],)),
        "l1": (lambda radius: L1Ball(n, radius), (0.3 + 0.5 * u[0, :, 0],)),
        "weighted": (lambda radius, weights: L1Ball(n, radius, weights), (0.3 + 0.5 * u[0, :, 0], 0.5 + u[1])),
        "inside": (lambda radius, weights: L1Ball(n, radius, weights), (50 + u[0, :, 0], 0.5 + u[1])),
        "box": (lambda lower, upper: Box(lower, upper), (-0.4 * u[0], 0.4 * u[1])),
        "budget": (lambda *data: BoxBudget(*data), (-u[0], u[1], 0.5 + u[2], 0.3 * u[3, :, 0])),
    }[name]


NAMES = ("simplex", "l1", "weighted", "inside", "box", "budget")
every_set = pytest.mark.parametrize("name", NAMES)


def rows_of(s, i, n):
    """The set of sample i as A x = b, G x <= h over (x, and |x| <= u for a ball); plain rows, from its definition."""
    get = {key: np.asarray(t[i] if t.dim() > s.ranks[key] else t) for key, t in s.data().items()}
    eye, zero = np.eye(n), np.zeros((n, n))
    if isinstance(s, Simplex):
        return np.ones((1, n)), [get["total"]], -eye, np.zeros(n)
    if isinstance(s, Box):
        return np.zeros((0, n)), [], np.vstack([eye, -eye]), np.r_[get["upper"], -get["lower"]]
    if isinstance(s, BoxBudget):
        return get["weights"][None], [get["budget"]], np.vstack([eye, -eye]), np.r_[get["upper"], -get["lower"]]
    w = get.get("weights", np.ones(n))
    G = np.block([[eye, -eye], [-eye, -eye], [np.zeros((1, n)), w[None]], [zero, -eye]])
    return np.zeros((0, 2 * n)), [], G, np.r_[np.zeros(2 * n), get["radius"], np.zeros(n)]


def by_clarabel(P, q, s):
    """The minimiser and the multiplier of the budget row (radius, total, budget), sample by sample."""
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    found, multipliers = [], []
    for i in range(len(q)):
        n = q.shape[-1]
        A, b, G, h = rows_of(s, i, n)
        size = G.shape[1]
        H, c = np.zeros((size, size)), np.zeros(size)
        H[:n, :n], c[:n] = P[i].numpy(), q[i].numpy()
        cones = [clarabel.ZeroConeT(len(b)), clarabel.NonnegativeConeT(len(h))]
        rows = sparse.csc_matrix(np.vstack([A, G]))
        solved = clarabel.DefaultSolver(sparse.triu(H, format="csc"), c, rows, np.r_[b, h], cones, settings).solve()
        assert str(solved.status) in ("Solved", "AlmostSolved"), solved.status
        found.append(solved.x[:n])
        multipliers.append(solved.z[2 * n] if isinstance(s, L1Ball) else solved.z[0])
    return torch.tensor(np.array(found)), torch.tensor(np.array(multipliers))


# ---- the answers ----


@every_set
def test_exact_agrees_with_an_interior_point_method(name):
    make, data = data_of(name)
    s, (P, q) = make(*data), quadratics()
    x, info = FrankWolfeLayer(s, return_info=True)(P, q)
    reference, multiplier = by_clarabel(P, q, s)
    torch.testing.assert_close(x, reference, rtol=0, atol=1e-8)
    assert bool(info.converged.all()) and float(info.gap.max()) < 1e-13 and bool(s.contains(x).all())
    if name == "box":
        return
    # The value's derivative by the right-hand side of the row is minus its multiplier.
    right = data[-1 if name == "budget" else 0].clone().requires_grad_()
    key = {"simplex": "total", "budget": "budget"}.get(name, "radius")
    x = FrankWolfeLayer(s)(P, q, **{key: right})
    value = 0.5 * (x * (P @ x.unsqueeze(-1)).squeeze(-1)).sum() + (q * x).sum()
    torch.testing.assert_close(torch.autograd.grad(value, right)[0], -multiplier, rtol=0, atol=1e-7)


@every_set
@pytest.mark.eq("eq-fw-gap", "eq-fw-pairwise", "eq-fw-line-search", "eq-lmo-l1")
@pytest.mark.parametrize("variant", ["vanilla", "away", "pairwise"])
def test_the_gap_certifies_what_a_rollout_returns(name, variant):
    make, data = data_of(name)
    s, (P, q) = make(*data), quadratics()
    best = FrankWolfeLayer(s)(P, q)
    x, info = FrankWolfeLayer(s, variant=variant, return_info=True)(P, q)

    def value(x):
        return 0.5 * (x * (P @ x.unsqueeze(-1)).squeeze(-1)).sum(-1) + (q * x).sum(-1)

    excess = value(x) - value(best)
    assert bool(info.converged.all()) and bool(s.contains(x).all())
    assert bool((excess >= -1e-14).all() and (excess <= info.gap + 1e-14).all())
    g = (P @ x.unsqueeze(-1)).squeeze(-1) + q
    torch.testing.assert_close(info.gap, (g * (x - s.lmo(g))).sum(-1), rtol=1e-6, atol=1e-14)
    if variant != "vanilla":
        assert float((x - best).abs().max()) < 2e-3 * float(best.abs().max())
        assert int(info.iterations.max()) < (2000 if name == "inside" else 400)


@pytest.mark.parametrize("condition", [5.0, 1e2, 1e4])
def test_float32_keeps_five_digits_of_x_and_four_of_the_gradient(condition):
    n = 60
    basis = torch.linalg.qr(torch.randn(5, n, n, dtype=D))[0]
    P = (basis * torch.logspace(0, math.log10(condition), n, dtype=D)) @ basis.mT
    P, q, w = ((P + P.mT) / 2).float(), torch.randn(5, n), 0.5 + torch.rand(5, n)
    free = torch.linalg.solve(P.double(), -q.double())
    radius = (torch.tensor([0.05, 0.3, 0.9, 0.999, 2.0]) * (w * free).abs().sum(-1)).float()
    shaped = [
        (L1Ball(n, radius, w), L1Ball(n, radius.double(), w.double())),
        (Simplex(n, radius), Simplex(n, radius.double())),
        (Box(-w / 20, w / 10), Box(-w.double() / 20, w.double() / 10)),
    ]
    for s, wide in shaped:
        answers = []
        for layer, matrix, linear in ((s, P, q), (wide, P.double(), q.double())):
            leaf = linear.clone().requires_grad_()
            x = FrankWolfeLayer(layer)(matrix, leaf)
            loss = (x * torch.linspace(-1, 1, n, dtype=x.dtype)).sum()
            answers.append((x.detach().double(), torch.autograd.grad(loss, leaf)[0].double()))
        (x, gradient), (x_wide, gradient_wide) = answers
        assert float(((x - x_wide).norm(dim=-1) / x_wide.norm(dim=-1)).max()) < 1e-5
        size = gradient_wide.norm(dim=-1)
        assert bool(((gradient - gradient_wide).norm(dim=-1) <= 1e-4 * size).all()) and int((size > 0).sum()) >= 4


def test_the_exact_path_solves_on_the_gathered_face_with_one_factor(monkeypatch):
    sizes = []
    factor = torch.linalg.cholesky_ex
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda M: sizes.append(M.shape[-1]) or factor(M))
    n = 64
    P, q = quadratics(3, n)
    x = FrankWolfeLayer(L1Ball(n, 0.2))(P, q.requires_grad_())
    assert sizes[0] == n and max(sizes[1:]) < n / 2
    before = len(sizes)
    x.sum().backward()
    assert len(sizes) == before


def test_an_ill_conditioned_problem_needs_the_accelerated_steps_and_max_steps_ends_them():
    n = 60
    basis = torch.linalg.qr(torch.randn(n, n, dtype=D))[0]
    P = (basis * torch.logspace(0, 4, n, dtype=D)) @ basis.mT
    P, q, s = (P + P.mT) / 2, torch.randn(3, n, dtype=D), L1Ball(n, 0.05)
    x, info = FrankWolfeLayer(s, return_info=True)(P, q)
    assert int(info.iterations.max()) > 8 and float(info.gap.max()) < 1e-11
    with pytest.raises(SolveError, match=r"\(exact\) missed its tolerance at batch index \[\d\] after 2 steps"):
        FrankWolfeLayer(s, max_steps=2)(P, q)
    x, info = FrankWolfeLayer(s, max_steps=2, strict=False)(P, q)
    assert not bool(info.converged.all()) and bool(s.contains(x).all())
    loose = FrankWolfeLayer(s, tol=10.0, return_info=True)(P, q)[1]
    assert bool(loose.converged.all()) and float(loose.gap.max()) > 1e-6
    assert int(loose.iterations.max()) == rollouts.FIRST  # done at the first look


# ---- what a default tolerance may not hide ----


@pytest.mark.parametrize("variant", ["vanilla", "pairwise"])
def test_a_slope_that_is_infinite_at_the_corners_ends_no_search(variant):
    """-sum c log x on the simplex has its minimum at c; at every corner the gradient is infinite."""
    c = torch.tensor([0.5, 0.3, 0.2], dtype=D)
    for start in (torch.full((3,), 1 / 3, dtype=D), torch.tensor([0.2, 0.2, 0.6], dtype=D)):
        x, info = frank_wolfe(lambda x: -c / x, Simplex(3), start, variant=variant, tol=1e-6)
        torch.testing.assert_close(x, c, rtol=0, atol=2e-3)
        assert 0 < int(info.iterations) < 60
    with pytest.raises(SolveError, match=r"the gradient at the start\[1\] is -inf: .*; give an x0"):
        frank_wolfe(lambda x: -c / x, Simplex(3))


def test_what_the_points_of_a_set_share_does_not_widen_the_tolerance():
    target = torch.tensor([0.9, 0.6, -1.0, 0.55], dtype=D)
    exact = Simplex(4).project(target)
    for offset, accuracy in ((0.0, 1e-4), (1e6, 1e-4), (1e10, 1e-2)):
        x, _ = frank_wolfe(lambda x, offset=offset: x - target + offset, Simplex(4, torch.ones((), dtype=D)))
        torch.testing.assert_close(x, exact, rtol=0, atol=accuracy)


def test_a_gap_as_large_as_the_objective_is_no_convergence():
    problem = dfw.instance(100, 500, "cond10000")
    layer = FrankWolfeLayer(L1Ball(100, problem.t, problem.w), variant="pairwise", max_steps=300, progress=False)
    with pytest.raises(SolveError, match=r"missed its tolerance after 300 steps: the gap is \S+, accepted"):
        layer(problem.P, problem.q)


@pytest.mark.parametrize("variant", ["vanilla", "away", "pairwise"])
def test_a_rollout_of_no_steps_has_the_derivative_0(variant):
    q = torch.tensor([5.0, -9.0, 3.0], dtype=D, requires_grad=True)
    x = FrankWolfeLayer(Simplex(3), variant=variant, backward="unrolled")(torch.eye(3, dtype=D), q)
    assert x.tolist() == [0.0, 1.0, 0.0]
    assert torch.autograd.grad(x[1], q)[0].tolist() == [0.0, 0.0, 0.0]


def test_an_objective_that_falls_without_end_is_named_at_once():
    P = torch.diag(torch.tensor([1.0, 0.0, 1.0], dtype=D))
    q = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 1.0]], dtype=D)
    says = r"over Box is unbounded at batch index \[1\]: the set has no end along \[0.0, 1.0, 0.0\], P is 0 there"
    with pytest.raises(ValueError, match=says) as caught:
        FrankWolfeLayer(Box(torch.zeros(3, dtype=D), math.inf))(P, q)
    assert caught.value.index == (1,)


# ---- the theory ----


def test_the_classical_rate_holds_for_each_line_search():
    P, q = quadratics(6, 10)
    s = L1Ball(10, 0.7)
    best = FrankWolfeLayer(s)(P, q)
    L = torch.linalg.eigvalsh(P).amax(-1)

    def grad(x):
        return (P @ x.unsqueeze(-1)).squeeze(-1) + q

    def value(x):
        return (0.5 * (grad(x) + q) * x).sum(-1)

    ends = {}
    for search in ("open", "short", "exact"):
        for k in (1, 3, 10, 100):
            options = {
                "variant": "vanilla",
                "line_search": search,
                "smoothness": L,
                "max_steps": k,
                "tol": 0.0,
                "strict": False,
            }
            x, info = frank_wolfe(grad, s, s.lmo(q), **options)
            excess = value(x) - value(best)
            assert bool((excess <= 2 * L * (2 * 0.7) ** 2 / (k + 2)).all()), (search, k)
            assert int(info.iterations.max()) == k
        ends[search] = float(excess.max())
    assert len(set(ends.values())) == 3


def test_away_and_pairwise_steps_converge_linearly_and_vanilla_steps_do_not():
    P, q = quadratics(8, 12)
    gaps = {}
    for variant in ("vanilla", "away", "pairwise"):
        _, info = FrankWolfeLayer(L1Ball(12, 0.7), variant=variant, max_steps=300, tol=1e-13, strict=False)(P, q)
        gaps[variant] = float(info.gap.max())
    assert gaps["vanilla"] > 1e-5 and max(gaps["away"], gaps["pairwise"]) < 1e-12


@pytest.mark.eq("eq-softmax-lmo")
def test_the_softmax_oracle_is_off_by_at_most_log_n_over_beta():
    n, s = 50, L1Ball(50, 2.0, 0.5 + torch.rand(50, dtype=D))
    q = torch.randn(20, n, dtype=D)
    for temperature in (1.0, 0.1, 0.001):
        # From 0, with P = 0 and a short step of length 1, x is the oracle's answer for q.
        x, _ = FrankWolfeLayer(
            s, variant="softmax", temperature=temperature, smoothness=1e-9, max_steps=1, halve_every=None, strict=False
        )(torch.zeros(n, n, dtype=D), q)
        error = (q * (x - s.lmo(q))).sum(-1)
        assert bool((error >= -1e-15).all()) and float(error.max()) <= math.log(2 * n) * temperature
        assert temperature > 0.01 or float(error.max()) < 1e-2


# ---- the published relaxation ----


@pytest.mark.parametrize("seed", [100, 500])
@pytest.mark.eq("eq-fw-short-step")
def test_softmax_unrolled_repeats_the_published_layer(seed):
    problem = dfw.instance(100, seed)
    reference = dfw.published(problem)
    L = dfw.largest_eigenvalue(problem.P, problem.state)
    layer = FrankWolfeLayer(
        L1Ball(100, problem.t, problem.w), variant="softmax", backward="unrolled", smoothness=L, return_info=True
    )
    q = problem.q.clone().requires_grad_()
    x, info = layer(problem.P, q)
    gradient = torch.autograd.grad(x.sum(), q)[0]
    x = x.detach()
    assert abs(int(info.iterations) - reference.steps) <= 1
    assert float((x - reference.x).norm() / reference.x.norm()) < 1e-3
    assert float((gradient - reference.gradient).norm() / reference.gradient.norm()) < 2e-2
    # The certificate is the exact oracle's gap, whatever rule ended the rollout.
    g = problem.P @ x + problem.q
    ball = L1Ball(100, problem.t, problem.w)
    torch.testing.assert_close(float(info.gap), float((g * (x - ball.lmo(g))).sum()), rtol=1e-3, atol=1e-6)
    assert float(info.gap) > 1e-3


def test_the_unrolled_gradient_explodes_as_the_temperature_falls_and_the_implicit_one_does_not():
    problem = dfw.instance(100, 500)
    norms = {}
    for backward in ("unrolled", "implicit"):
        for tol in (1e-4, 1e-6):
            q = problem.q.clone().requires_grad_()
            layer = FrankWolfeLayer(
                L1Ball(100, problem.t, problem.w), variant="softmax", backward=backward, tol=tol, return_info=True
            )
            norms[backward, tol] = float(torch.autograd.grad(layer(problem.P, q)[0].sum(), q)[0].norm())
    assert norms["unrolled", 1e-6] > 1e6 * norms["unrolled", 1e-4]
    assert norms["implicit", 1e-6] < 10 * norms["unrolled", 1e-4]


def test_the_softmax_listens_to_its_arguments():
    P, q = quadratics(3, 20, shift=0.05)
    s = L1Ball(20, 2.0)
    plain = {"variant": "softmax", "temperature": 0.3, "halve_every": 10, "max_steps": 80, "tol": 0.0, "strict": False}
    base = FrankWolfeLayer(s, **plain)(P, q)[0]
    for change in ({"temperature": 0.01}, {"halve_every": 5}, {"halve_every": None}, {"smoothness": 50.0}):
        assert float((FrankWolfeLayer(s, **(plain | change))(P, q)[0] - base).abs().max()) > 1e-4, change
    stops = [int(FrankWolfeLayer(s, **(plain | {"tol": t}))(P, q)[1].iterations.max()) for t in (1e-2, 1e-3)]
    assert stops[0] < stops[1] < 80
    # On a simplex, from its centre.
    x = FrankWolfeLayer(Simplex(20), variant="softmax", temperature=0.01, tol=1e-5)(P, q)
    assert bool(Simplex(20).contains(x).all())


def test_unrolled_steps_are_differentiated_as_they_were_taken():
    P, q = quadratics(2, 5)
    for s, options in (
        (L1Ball(5, 0.7), {"variant": "softmax", "temperature": 0.5, "max_steps": 6, "tol": 0.0}),
        (Simplex(5), {"variant": "pairwise", "max_steps": 4, "tol": 0.0}),
        (L1Ball(5, 0.7), {"variant": "away", "max_steps": 4, "tol": 0.0}),
        (Box(-0.3, 0.4, dim=5), {"variant": "vanilla", "max_steps": 4, "tol": 0.0}),
    ):
        layer = FrankWolfeLayer(s, backward="unrolled", strict=False, smoothness=5.0, **options)
        assert torch.autograd.gradcheck(
            lambda q, P, layer=layer: layer((P + P.mT) / 2, q)[0], (q.clone().requires_grad_(), P.requires_grad_())
        )


# ---- gradients ----


@every_set
@pytest.mark.eq("eq-qp-linear-gradient", "eq-qp-matrix-gradient", "eq-fw-face-system")
def test_implicit_gradients_agree_with_finite_differences(name):
    make, data = data_of(name, 1, 4)
    P, q = quadratics(1, 4)

    def solve(P, q, *data):
        s = make(*(t.detach() for t in data))
        return FrankWolfeLayer(s)((P + P.mT) / 2, q, **dict(zip(s.names, data, strict=True)))

    leaves = [t.clone().requires_grad_() for t in (P, q, *data)]
    assert torch.autograd.gradcheck(solve, leaves, eps=1e-6, atol=1e-7, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(solve, leaves, eps=1e-6, atol=1e-6)


@every_set
@pytest.mark.parametrize("variant", ["pairwise", "away"])
def test_a_rollout_has_the_gradients_of_the_exact_path(name, variant):
    make, data = data_of(name)
    P, q = quadratics()
    grads = []
    for options in ({"variant": "exact"}, {"variant": variant, "tol": 1e-12}):
        s = make(*data)
        leaves = [t.clone().requires_grad_() for t in (P, q, *data)]
        x = FrankWolfeLayer(s, **options)(leaves[0], leaves[1], **dict(zip(s.names, leaves[2:], strict=True)))
        grads.append(torch.autograd.grad((x * torch.arange(1.0, N + 1, dtype=D)).sum(), leaves))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_gradient_on_an_l1_ball_is_the_bordered_formula():
    """With a = M^{-1} v, b = M^{-1} sigma, eta = sigma.a / sigma.b: q gets -(a - eta b), the radius eta."""
    n = 8
    P, q = quadratics(1, n)
    w, radius = 0.5 + torch.rand(n, dtype=D), torch.tensor(1.2, dtype=D)
    leaves = [t.clone().requires_grad_() for t in (P, q, radius, w)]
    x = FrankWolfeLayer(L1Ball(n, radius, w))(leaves[0], leaves[1], radius=leaves[2], weights=leaves[3])
    v = torch.randn(n, dtype=D)
    got = torch.autograd.grad((x * v).sum(), leaves)
    x = x.detach()[0]
    S = x != 0
    assert 1 < int(S.sum()) < n
    M, sigma = P[0][S][:, S], w[S] * x[S].sign()
    a, b = torch.linalg.solve(M, v[S]), torch.linalg.solve(M, sigma)
    eta, mu = (sigma @ a) / (sigma @ b), -(P[0] @ x + q[0])[S] / sigma
    to_q, to_w = torch.zeros(n, dtype=D), torch.zeros(n, dtype=D)
    to_q[S] = -(a - eta * b)
    to_w[S] = mu * x[S].sign() * to_q[S] - eta * x[S].abs()
    to_P = (torch.outer(to_q, x) + torch.outer(x, to_q)) / 2
    for mine, theirs in zip(got, (to_P[None], to_q[None], eta, to_w), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)


def test_a_set_that_tells_its_face_by_products_alone_is_differentiated_too():
    """A polytope with no frame: the rule needs solve, face_project and lmo, and finds the same."""

    class Plain(Simplex):
        frame = lablib.ConvexSet.frame

    P, q = quadratics()
    total = torch.tensor(1.2, dtype=D)
    grads = []
    for kind in (Simplex, Plain):
        leaves = [t.clone().requires_grad_() for t in (P, q, total)]
        layer = FrankWolfeLayer(kind(N, total), tol=None if kind is Simplex else 1e-12)
        assert layer.variant == ("exact" if kind is Simplex else "pairwise")
        x = layer(leaves[0], leaves[1], total=leaves[2])
        grads.append(torch.autograd.grad((x * torch.arange(1.0, N + 1, dtype=D)).sum(), leaves))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    with pytest.raises(SolveError, match="'exact' on a Plain: expected Box, Simplex, L1Ball or BoxBudget"):
        FrankWolfeLayer(Plain(N), variant="exact")


def test_where_p_is_singular_on_the_face_the_backward_names_the_sample():
    P = torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=D))
    q = torch.tensor([[-3.0, 0, 0.5, 0.5], [-0.5, -0.5, 0, 0]], dtype=D, requires_grad=True)
    layer = FrankWolfeLayer(Box(torch.full((4,), -1.0, dtype=D), 1.0), strict=False)
    x, _ = layer(P, q)
    torch.testing.assert_close(x[:, :2], torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=D))
    with pytest.raises(SolveError, match=r"P is singular on the face of the solution of sample \[1\]") as caught:
        x.sum().backward(retain_graph=True)
    assert caught.value.index == (1,)
    torch.testing.assert_close(
        torch.autograd.grad(x[0].sum(), q)[0], torch.tensor([[0, -1.0, 0, 0], [0, 0, 0, 0]], dtype=D)
    )
    # A linear objective has its solution at a vertex, where nothing moves.
    x = FrankWolfeLayer(Simplex(4))(torch.zeros(4, 4, dtype=D), q)
    assert x.tolist() == [[1.0, 0, 0, 0], x[1].tolist()]
    assert float(torch.autograd.grad(x[0].sum(), q)[0].abs().max()) == 0


# ---- how it is called ----


def test_batches_shared_matrices_and_transforms_agree():
    P, q = quadratics()
    layer = FrankWolfeLayer(L1Ball(N, 0.7))
    x = layer(P, q)
    torch.testing.assert_close(torch.stack([layer(P[i], q[i]) for i in range(B)]), x)
    torch.testing.assert_close(layer(P.view(2, 2, N, N), q.view(2, 2, N)).view(B, N), x)
    torch.testing.assert_close(layer(P, q[0])[0], x[0])
    torch.testing.assert_close(torch.vmap(layer)(P, q), x)
    torch.testing.assert_close(torch.vmap(layer, in_dims=(None, 0))(P[0], q), layer(P[0], q))
    torch.testing.assert_close(torch.compile(layer, backend="eager")(P, q), x)
    leaf = q[0].clone().requires_grad_()
    jacobian = torch.autograd.functional.jacobian(lambda q: layer(P[0], q), leaf)
    torch.testing.assert_close(torch.func.jacrev(lambda q: layer(P[0], q))(q[0]), jacobian)
    torch.testing.assert_close(torch.func.jacfwd(lambda q: layer(P[0], q))(q[0]), jacobian)
    each = torch.vmap(torch.func.grad(lambda P, q: layer(P, q)[0]))(P, q)
    leaf = P.clone().requires_grad_()
    torch.testing.assert_close(each, torch.autograd.grad(layer(leaf, q)[:, 0].sum(), leaf)[0])
    shared = P[0].clone().requires_grad_()
    torch.testing.assert_close(
        torch.autograd.grad(layer(shared, q).sum(), shared)[0],
        sum(torch.autograd.grad(layer(shared, q[i]).sum(), shared)[0] for i in range(B)),
    )
    assert layer(P[:0], q[:0]).shape == (0, N)
    for variant in ("vanilla", "pairwise", "softmax"):
        assert FrankWolfeLayer(L1Ball(N, 0.7), variant=variant)(P[:0], q[:0]).shape == (0, N)


@pytest.mark.parametrize("variant", ["vanilla", "away", "pairwise", "softmax", "exact"])
def test_finished_samples_are_dropped_and_change_nothing(variant, monkeypatch):
    P, q = quadratics(16, 10, shift=0.05)
    w = 0.5 + torch.rand(16, 10, dtype=D)
    options = {"variant": variant, "return_info": True, "strict": False}
    x, info = FrankWolfeLayer(L1Ball(10, 1.0, w), **options)(P, q)
    steps = info.iterations.tolist()
    for i in (steps.index(min(steps)), steps.index(max(steps))):
        alone, its = FrankWolfeLayer(L1Ball(10, 1.0, w[i]), **options)(P[i], q[i])
        assert abs(int(its.iterations) - steps[i]) <= 0.05 * steps[i]
        torch.testing.assert_close(alone, x[i], rtol=0, atol=1e-6)
    sizes = []
    times = rollouts._times
    monkeypatch.setattr(rollouts, "_times", lambda P, x: sizes.append(len(x)) or times(P, x))
    FrankWolfeLayer(L1Ball(10, 1.0, w), **options)(P, q)
    assert variant == "exact" or (max(sizes) == 16 and min(sizes) <= 8)


def test_grad_is_called_on_the_full_batch_and_finished_rows_are_frozen():
    target = torch.tensor([[5.0, 0.0, 0.0, 0.0], [0.3, 0.28, 0.22, 0.2], [0.5, 0.3, 0.4, -1.0]], dtype=D)
    seen = []

    def grad(x):
        seen.append(x.clone())
        return x - target

    x, info = frank_wolfe(grad, Simplex(4, torch.ones(3, dtype=D)), tol=1e-12)
    torch.testing.assert_close(x, Simplex(4).project(target), rtol=0, atol=1e-6)
    assert all(points.shape == (3, 4) for points in seen)
    assert int(info.iterations[0]) < int(info.iterations.max())
    assert torch.equal(seen[-1][0], x[0]) and torch.equal(seen[-3][0], x[0])


def test_a_function_that_is_no_quadratic_is_minimised_by_its_gradient():
    """-sum log(x + c) on the simplex is water filling: the minimiser is the projection of -c."""
    c = torch.tensor([[0.1, 0.5, 1.0, 0.2], [0.3, 0.1, 0.2, 5.0]], dtype=D)
    for variant in ("away", "pairwise"):
        x, info = frank_wolfe(lambda x: -1 / (x + c), Simplex(4, torch.ones(2, dtype=D)), variant=variant, tol=1e-11)
        torch.testing.assert_close(x, Simplex(4).project(-c), rtol=0, atol=1e-5)
        assert bool(info.converged.all()) and int(info.iterations.max()) < 60


def test_the_start_may_be_given_and_is_otherwise_shaped_by_grad():
    target = torch.randn(3, 2, 4, dtype=torch.float32)
    x, _ = frank_wolfe(lambda x: x - target, Simplex(4))
    torch.testing.assert_close(x, Simplex(4).project(target), rtol=0, atol=2e-3)
    start = Simplex(4).project(target.double())
    for variant in ("vanilla", "away", "pairwise"):  # a start at the optimum
        x, info = frank_wolfe(lambda x: x - target.double(), Simplex(4), start, variant=variant, tol=1e-12)
        torch.testing.assert_close(x, start)
        assert int(info.iterations.max()) == 0
    inside = L1Ball(4, 3.0).sample(5).double()
    x, info = frank_wolfe(lambda x: x - inside, L1Ball(4, 3.0), inside)
    torch.testing.assert_close(x, inside)
    assert int(info.iterations.max()) == 0 and bool(info.converged.all())
    y = torch.randn(5, 3, dtype=D)
    for s in (Box(-0.5, 0.7, dim=3), BoxBudget(-1.0, 1.0, torch.ones(3, dtype=D), 0.5), L1Ball(3, 0.8)):
        x, _ = frank_wolfe(lambda x: x - y, s, s.project(torch.zeros(5, 3, dtype=D)), tol=1e-10)
        torch.testing.assert_close(x, s.project(y), rtol=0, atol=1e-4)


def test_ties_radius_0_and_a_zero_direction_give_the_right_answer():
    zero, eye = torch.zeros(2, 3, dtype=D), torch.eye(3, dtype=D)
    tie = torch.full((2, 3), -2.0, dtype=D)
    for variant in ("exact", "vanilla", "away", "pairwise", "softmax"):
        options = {"variant": variant, "strict": False}
        for s, q, answer in (
            (L1Ball(3, 0.0), tie, 0.0),
            (Simplex(3, 0.0), tie, 0.0),
            (L1Ball(3, 0.9), zero, 0.0),
            (Simplex(3, 3.0), tie, 1.0),
            (L1Ball(3, 3.0), tie, 1.0),
            (Simplex(1, 2.0), tie[:, :1], 2.0),
            (L1Ball(1, 2.0), -3 * torch.ones(2, 1, dtype=D), 2.0),
        ):
            leaf = q.clone().requires_grad_()
            n = q.shape[-1]
            x, info = FrankWolfeLayer(s, **options)(eye[:n, :n], leaf)
            accuracy = {"vanilla": 0.1, "softmax": 0.05 if s.dim == 3 else 1e-9}.get(variant, 1e-4)
            torch.testing.assert_close(x.detach(), torch.full_like(x, answer), rtol=0, atol=accuracy)
            assert bool(torch.isfinite(torch.autograd.grad(x.sum(), leaf)[0]).all() & info.gap.isfinite().all())


def test_unbounded_coordinates_are_solved_exactly_where_p_holds_them():
    P, q = quadratics()
    w = torch.ones(N, dtype=D)
    w[0] = 0.0
    x, info = FrankWolfeLayer(L1Ball(N, 0.1, w), return_info=True)(P, q)
    g = (P @ x.unsqueeze(-1)).squeeze(-1) + q
    assert float(g[:, 0].abs().max()) < 1e-12 and bool(info.converged.all()) and bool(info.gap.isfinite().all())
    x, info = FrankWolfeLayer(Box(torch.zeros(N, dtype=D), math.inf), return_info=True)(P, q)
    g = (P @ x.unsqueeze(-1)).squeeze(-1) + q
    assert float((x * g).abs().max()) < 1e-12 and float(g.min()) > -1e-12 and bool(info.gap.isfinite().all())


def test_the_layer_owns_its_tensors():
    radius = torch.nn.Parameter(torch.tensor(0.7, dtype=D))
    layer = FrankWolfeLayer(L1Ball(N, radius, torch.ones(N, dtype=D)))
    assert set(layer.state_dict()) == {"radius", "weights"} and [p is radius for p in layer.parameters()] == [True]
    P, q = quadratics()
    layer(P, q).sum().backward()
    assert radius.grad is not None
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(other(P, q), layer(P, q))
    assert layer.float()(P.float(), q.float()).dtype is torch.float32
    assert "variant='exact'" in repr(layer)
    half = FrankWolfeLayer(Simplex(N))(P.bfloat16(), q.bfloat16())
    assert (
        half.dtype is torch.bfloat16 and float((half.double() - FrankWolfeLayer(Simplex(N))(P, q)).abs().max()) < 0.05
    )


def test_the_loop_reads_nothing_on_the_host_between_two_looks(monkeypatch):
    """Off the CPU the host looks every LOOK steps; here the CPU plays such a device, and each read is counted."""
    monkeypatch.setattr(rollouts._Clock, "looks", lambda self, x, k: k % rollouts.LOOK == 0)
    P, q = quadratics(4, 30)
    counts = {}
    for s in (L1Ball(30, 0.7), Box(-0.2, 0.2, dim=30)):
        for variant in ("vanilla", "pairwise", "softmax"):
            if variant == "softmax" and isinstance(s, Box):
                continue
            reads = []
            with monkeypatch.context() as patch:
                for name in ("__bool__", "__int__", "__float__", "item", "tolist"):
                    held = getattr(torch.Tensor, name)
                    patch.setattr(
                        torch.Tensor, name, lambda t, held=held, reads=reads: reads.append(1) or held(t), raising=False
                    )
                for steps in (LONG := 8 * rollouts.LOOK, 2 * LONG):
                    del reads[:]
                    FrankWolfeLayer(s, variant=variant, max_steps=steps, tol=0.0, strict=False, progress=False)(P, q)
                    counts[steps] = len(reads)
            # Eight more looks of at most four reads each, not a read a step (the atoms of a box double a few times).
            assert counts[2 * LONG] - counts[LONG] <= 8 * 4 + 8, (s, variant, counts)


# ---- long solves ----


def test_a_long_solve_tells_how_far_it_is(monkeypatch, capsys):
    P, q = quadratics(3, 20, shift=0.01)
    told, q = [], q / 10
    options = {"variant": "vanilla", "tol": 0.0, "max_steps": 40, "strict": False}
    FrankWolfeLayer(L1Ball(20), progress=lambda k, gap: told.append((k, gap.shape)), **options)(P, q)
    assert told[0] == (0, (3,)) and told[-1][0] == 40 and len(told) == 41
    hours = iter(range(0, 100_000, 2))
    monkeypatch.setattr(rollouts.time, "monotonic", lambda: next(hours))
    FrankWolfeLayer(L1Ball(20), progress=False, **options)(P, q)
    assert capsys.readouterr().err == ""
    FrankWolfeLayer(L1Ball(20), **options)(P, q)
    assert re.match(
        r"Frank-Wolfe \(vanilla\): 8 s, step 2 of at most 40, 3 of 3 rows open, worst gap \d\.\de",
        capsys.readouterr().err,
    )
    FrankWolfeLayer(L1Ball(20), variant="exact", max_steps=200)(P, q)


@pytest.mark.parametrize("variant", ["vanilla", "pairwise", "softmax"])
def test_an_interruption_loses_nothing(variant):
    target, calls = torch.randn(4, 6, dtype=D), []

    def grad(x):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return x - target

    s = L1Ball(6, torch.ones(4, dtype=D))
    options = {"variant": variant, "tol": 0.0, "smoothness": 20.0, "temperature": 0.3}
    with pytest.raises(KeyboardInterrupt, match=r"interrupted; \.x holds the best iterate") as caught:
        frank_wolfe(grad, s, **options)
    x = caught.value.x
    assert bool(s.contains(x).all()) and caught.value.info.message == "interrupted"
    calls.clear()
    again, info = frank_wolfe(grad, s, strict=False, **options)
    assert torch.equal(again, x) and info.message == "interrupted"
    assert int(info.iterations.max()) > 1 and float(info.gap.max()) > 0


# ---- bad input ----

EYE = torch.eye(3)
ONE = torch.ones(3)


@pytest.mark.parametrize(
    ("call", "kind", "says"),
    [
        (lambda: FrankWolfeLayer(Simplex(3))(EYE + torch.ones(3, 3).triu(1), ONE), ValueError,
         r"P is not symmetric: P\[0, 1\] is 1 and P\[1, 0\] is 0; expected equal entries"),
        (lambda: FrankWolfeLayer(Simplex(3))(torch.stack([EYE, -EYE]), ONE), ValueError,
         r"P\[1\] has the eigenvalue -1: expected a positive semidefinite matrix"),
        (lambda: FrankWolfeLayer(Simplex(3), variant="pairwise")(-EYE, ONE), ValueError, "P has the eigenvalue -1"),
        (lambda: FrankWolfeLayer(Simplex(3))(EYE * torch.tensor([1, NAN, 1]), ONE), ValueError, r"P\[0, 1\] is nan"),
        (lambda: FrankWolfeLayer(Simplex(3))(EYE, ONE * NAN), ValueError, r"q\[0, 0\] is nan: expected finite"),
        (lambda: FrankWolfeLayer(L1Ball(3))(EYE, ONE, radius=torch.tensor(-1.0)), ValueError, "radius is -1"),
        (lambda: FrankWolfeLayer(L1Ball(3))(EYE, ONE, weights=-ONE), ValueError, r"weights\[0\] is -1"),
        (lambda: FrankWolfeLayer(Simplex(3))(EYE, ONE, total=-1.0), ValueError, "total is -1"),
        (lambda: FrankWolfeLayer(Simplex(3))(EYE[:2, :2], ONE), ValueError, r"P has shape \(2, 2\): expected .* 3 and"),
        (lambda: FrankWolfeLayer(Simplex(3))(EYE, torch.ones(4)), ValueError, r"q has shape \(4,\): Simplex expected"),
        (lambda: FrankWolfeLayer(Simplex(3))(EYE.double(), ONE), ValueError, r"P is torch\.float64 .* and q torch"),
        (lambda: FrankWolfeLayer(Simplex(3))(EYE.long(), ONE), TypeError, "P has dtype torch.int64: expected a float"),
        (lambda: FrankWolfeLayer(Simplex(3))([1.0], ONE), TypeError, "P is a list: expected a torch tensor"),
        (lambda: FrankWolfeLayer(Simplex(3))(EYE.expand(2, 3, 3), torch.ones(4, 3)), ValueError,
         r"P has batch shape \(2,\) and q \(4,\): expected shapes that broadcast"),
        (lambda: FrankWolfeLayer(L1Ball(3, ONE.double()[0]))(EYE, ONE), ValueError,
         "radius has dtype torch.float64 and q torch.float32"),
        (lambda: FrankWolfeLayer(Simplex), TypeError, "s is a type: expected a set"),
        (lambda: FrankWolfeLayer(Simplex(3), variant="newton"), ValueError, "variant is 'newton': expected one of"),
        (lambda: FrankWolfeLayer(Simplex(3), backward="both"), ValueError, "backward is 'both': expected 'implicit'"),
        (lambda: FrankWolfeLayer(Simplex(3), backward="unrolled"), ValueError, "'exact', which has no steps to unroll"),
        (lambda: FrankWolfeLayer(Box(0.0, 1.0), variant="softmax"), ValueError,
         "'softmax' on a Box: expected a Simplex or an L1Ball"),
        (lambda: FrankWolfeLayer(Affine(EYE, ONE), variant="exact"), ValueError, "'exact' on a Affine: expected Box"),
        (lambda: FrankWolfeLayer(lablib.Spectraplex(3)), ValueError, "a set of matrices: use frank_wolfe"),
        (lambda: FrankWolfeLayer(Box(0.0, math.inf, dim=3), variant="pairwise")(EYE, -ONE), ValueError,
         r"over Box is unbounded at batch index \[0\]: it falls without end along \+e_0"),
        (lambda: FrankWolfeLayer(L1Ball(3, 1.0, ONE * torch.tensor([1, 0, 1])), variant="pairwise")(EYE, 0 * ONE),
         ValueError, r"L1Ball is unbounded.*: weights\[1\] is 0, so e_1 is a ray"),
        (lambda: frank_wolfe(lambda x: x - 5, Box(0.0, math.inf, dim=3), ONE), ValueError, "Box is unbounded"),
        (lambda: frank_wolfe(lambda x: x - 5, Affine(EYE[:1], ONE[:1]), EYE[0]), ValueError, "Affine is unbounded"),
        (lambda: frank_wolfe(ONE, Simplex(3)), TypeError, "grad is a Tensor: expected a function"),
        (lambda: frank_wolfe(lambda x: 1.0, Simplex(3)), TypeError, "grad returned a float: expected a torch tensor"),
        (lambda: frank_wolfe(lambda x: x[..., :2], Simplex(3)), ValueError, r"grad returned shape \(2,\): expected"),
        (lambda: frank_wolfe(lambda x: x * NAN, Simplex(3)), ValueError, r"the gradient at the start\[0\] is nan"),
        (lambda: frank_wolfe(lambda x: x, Simplex(3), 2 * ONE), ValueError, "x0 is outside Simplex, by 5.0e"),
        (lambda: frank_wolfe(lambda x: x, Simplex(3), ONE * NAN), ValueError, r"x0\[0\] is nan"),
        (lambda: frank_wolfe(lambda x: x, Box(0.0, 1.0)), ValueError, "fits any dimension: give x0"),
        (lambda: frank_wolfe(lambda x: x, Simplex(3), variant="exact"), ValueError, "needs P and q: use FrankWolfe"),
        (lambda: frank_wolfe(lambda x: x, Simplex(3), variant="softmax"), ValueError, "smoothness is None with line"),
        (lambda: frank_wolfe(lambda x: x, Simplex(3), line_search="open"), ValueError, "'open' with variant 'pairw"),
        (lambda: frank_wolfe(lambda x: x, Simplex(3), line_search="armijo"), ValueError, "line_search is 'armijo'"),
        (lambda: frank_wolfe(lambda x: x, Simplex(3), smoothness=-1.0), ValueError, "smoothness is -1: expected a pos"),
        (lambda: frank_wolfe(lambda x: x, Simplex(3), smoothness=torch.ones(7), line_search="short"), ValueError,
         r"smoothness has shape \(7,\): expected one that broadcasts to the batch \(\)"),
        (lambda: frank_wolfe(lambda x: x, Simplex(3), temperature=0.0), ValueError, "temperature is 0: expected a pos"),
        (lambda: frank_wolfe(lambda x: x, Simplex(3), halve_every=0), ValueError, "halve_every is 0: expected a posit"),
        (lambda: frank_wolfe(lambda x: x, Simplex(3), tol=-1.0), ValueError, "tol is -1"),
        (lambda: frank_wolfe(lambda x: x, Simplex(3), max_steps=1.5), TypeError, "max_steps is a float"),
        (lambda: frank_wolfe(lambda x: x, Simplex(3), progress=3), TypeError, "progress is a int"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(call, kind, says):
    with pytest.raises(kind, match=says) as caught:
        call()
    assert kind is TypeError or isinstance(caught.value, SolveError)


def test_a_step_limit_names_the_row_its_gap_and_what_to_try():
    P, q = quadratics(3, 20, shift=0.01)
    q = torch.cat([q[:1] * 0 - torch.eye(20, dtype=D)[:1] * 50, q[1:]])
    layer = FrankWolfeLayer(L1Ball(20, 3.0), variant="vanilla", max_steps=5, tol=1e-6)
    says = (
        r"\(vanilla\) missed its tolerance at batch index \[1\] after 5 steps: the gap is .*, accepted was 1.0e-06; "
        "raise max_steps or tol, try variant 'pairwise'"
    )
    with pytest.raises(SolveError, match=says) as caught:
        layer(P, q)
    assert caught.value.index == (1,) and caught.value.info.converged.tolist() == [True, False, False]
    with pytest.raises(SolveError, match=r"softmax.* the objective still changes by more than 1.0e-09 of itself"):
        FrankWolfeLayer(L1Ball(20), variant="softmax", temperature=0.01, max_steps=5, tol=1e-9)(P, q)


@pytest.mark.parametrize("variant", ["vanilla", "away", "pairwise"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_default_tolerances_are_within_reach(variant, dtype):
    for seed, n in ((0, 5), (1, 50)):
        P, q = quadratics(6, n, seed=seed, dtype=dtype)
        for s in (Simplex(n), L1Ball(n, 0.8), Box(-0.1, 0.2, dim=n)):
            info = FrankWolfeLayer(s, variant=variant, return_info=True)(P, q)[1]
            assert bool(info.converged.all()) and int(info.iterations.max()) < 3000


def test_the_factor_of_a_shared_matrix_is_kept_and_never_stale(monkeypatch):
    calls = []
    factor = torch.linalg.cholesky_ex
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda M: calls.append(M.shape) or factor(M))
    P, q = quadratics(3, 8)
    P, layer = P[0].clone(), FrankWolfeLayer(L1Ball(8, 50.0))
    first = layer(P, q)
    assert len(calls) == 1
    torch.testing.assert_close(layer(P.clone(), q), first)
    assert len(calls) == 1 and not copy.deepcopy(layer)._kept
    P[0, 0] += 1
    torch.testing.assert_close(layer(P, q), torch.linalg.solve(P, -q.mT).mT)
    assert len(calls) == 2
    P[0, 1] += 1
    with pytest.raises(SolveError, match="P is not symmetric"):
        layer(P, q)
    with pytest.raises(SolveError, match="has the eigenvalue"):
        layer(-P.mT @ P, q)
