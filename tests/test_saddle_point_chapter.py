"""The chapter's theorems and its code from scratch, against solvers that know nothing of them; the XOR experiment."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import lablib
from tests.results import saddle_point_xor as xor

ROOT = Path(__file__).resolve().parents[1]
CHAPTER = ROOT / "book" / "saddle-point-lagrangian.ipynb"
pytestmark = pytest.mark.usefixtures("double")
LINKS = ("identity", "sigmoid", "tanh", "softmax", "relu", "exp")


def conjugate(link, v):
    """Return phi*, written down once more; v is inside its domain."""
    v = np.asarray(v)
    match link:
        case "identity" | "relu":
            return (v**2).sum() / 2
        case "sigmoid":
            return (v * np.log(v) + (1 - v) * np.log(1 - v)).sum()
        case "tanh":
            return ((1 + v) * np.log1p(v) + (1 - v) * np.log1p(-v)).sum() / 2
        case "softmax":
            return (v * np.log(v)).sum()
        case "exp":
            return (v * np.log(v) - v).sum()


BOUNDS = {
    "identity": (None, None),
    "sigmoid": (1e-9, 1 - 1e-9),
    "tanh": (-1 + 1e-9, 1 - 1e-9),
    "softmax": (1e-9, 1),
    "relu": (0, None),
    "exp": (1e-9, None),
}


def problem(scratch, link, seed, K=5, m=2):
    generator = torch.Generator().manual_seed(seed)
    u, A = torch.randn(K, generator=generator), torch.randn(m, K, generator=generator)
    sigma = torch.func.grad(scratch["POTENTIALS"][link])
    inside = sigma(torch.randn(K, generator=generator).abs())
    return u, A, A @ inside, sigma


@pytest.mark.parametrize("link", LINKS)
def test_scratch_is_the_nearest_feasible_prediction(scratch, link):
    """Theorem 3: a general solver on the primal, min phi*(v) - u.v with A v = b, in the link's range."""
    for seed in range(3):
        u, A, b, sigma = problem(scratch, link, seed)
        lam, _ = scratch["solve"](scratch["POTENTIALS"][link], u, A, b)
        ours = sigma(u + A.T @ lam).numpy()
        rows, right = A.numpy(), b.numpy()
        if link == "softmax":
            rows, right = np.vstack([rows, np.ones(5)]), np.append(right, 1)
        primal = minimize(
            lambda v, u=u, link=link: conjugate(link, v) - u.numpy() @ v,
            np.full(5, 0.3),
            method="SLSQP",
            bounds=[BOUNDS[link]] * 5,
            constraints={"type": "eq", "fun": lambda v, A=rows, b=right: A @ v - b},
            options={"maxiter": 500, "ftol": 1e-14},
        )
        assert primal.success
        np.testing.assert_allclose(ours, primal.x, atol=2e-5)
        assert conjugate(link, ours) - u.numpy() @ ours <= primal.fun + 1e-8


@pytest.mark.parametrize("link", LINKS)
def test_scratch_gradient_matches_differences(scratch, link):
    u, A, b, _ = problem(scratch, link, 7)
    inputs = tuple(t.clone().requires_grad_() for t in (u, A, b))

    def call(u, A, b):
        return scratch["ConstrainedPrediction"].apply(u, A, b, link)

    assert torch.autograd.gradcheck(call, inputs, eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("link", LINKS)
def test_matched_loss_is_a_divergence(scratch, link):
    """Theorem 1, on random targets: never negative, zero at y = sigma(u), slope sigma(u) - y."""
    phi = scratch["POTENTIALS"][link]
    sigma = torch.func.grad(phi)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        u, y = torch.randn(4, generator=generator), sigma(torch.randn(4, generator=generator).abs())
        entropy = conjugate(link, y.numpy())

        def loss(u, y=y, constant=entropy):
            return phi(u) - y @ u + constant

        assert loss(u) >= 0
        own = sigma(u.abs())
        assert abs(loss(u.abs(), own, conjugate(link, own.numpy()))) < 1e-12
        torch.testing.assert_close(torch.func.grad(loss)(u), sigma(u) - y)


def test_joint_problem_falls_along_the_ray_that_the_proof_names():
    """Theorem 8: shift the bias by -A'mu and all multipliers by mu; the sum changes by -delta.mu, nothing else does."""
    generator = torch.Generator().manual_seed(2)
    u, A = torch.randn(30, 4, generator=generator), torch.randn(2, 4, generator=generator)
    y = torch.rand(30, 4, generator=generator)
    b = torch.rand(30, 4, generator=generator) @ A.T
    lam = torch.randn(30, 2, generator=generator)

    def joint(u, lam):
        return torch.logaddexp(torch.zeros(()), u + lam @ A).sum() - (y * u).sum() - (b * lam).sum()

    delta = (b - y @ A.T).sum(0)
    for mu in (delta, torch.randn(2, generator=generator)):
        torch.testing.assert_close(joint(u - mu @ A, lam + mu) - joint(u, lam), -delta @ mu)


# -- the equations of the chapter in the library -----------------------------------------------------------------------


def potential(link, s):
    return {
        "identity": lambda: (s * s).sum(-1) / 2,
        "sigmoid": lambda: torch.logaddexp(torch.zeros_like(s), s).sum(-1),
        "tanh": lambda: (torch.logaddexp(s, -s) - np.log(2)).sum(-1),
        "softmax": lambda: s.logsumexp(-1),
        "relu": lambda: (s.clamp(min=0) ** 2).sum(-1) / 2,
        "exp": lambda: s.exp().sum(-1),
    }[link]()


@pytest.mark.eq("eq-dual")
@pytest.mark.eq("eq-dual-gradient")
@pytest.mark.eq("eq-dual-hessian")
@pytest.mark.parametrize("link", LINKS)
def test_multipliers_minimise_the_dual_and_do_so_quadratically(scratch, link):
    """No derivative is used here: a downhill simplex from the answer finds nothing lower. And Newton's end is short."""
    u, A, b, _ = problem(scratch, link, 3)
    lam, info = lablib.DualHead(A, link).multipliers(u, b)

    def dual(t):
        t = torch.as_tensor(t)
        return float(potential(link, u + A.T @ t) - b @ t)

    found = minimize(dual, lam.numpy() + 0.1, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13})
    assert dual(lam) <= found.fun + 1e-10
    assert int(info.iterations) <= 12
    assert float(info.residual) < 1e-10


@pytest.mark.eq("eq-shifted")
@pytest.mark.eq("eq-dual-adjoint")
@pytest.mark.parametrize("link", LINKS)
def test_library_prediction_and_its_gradients_are_those_of_the_page(scratch, link):
    """Value against the code from scratch; gradients by u, b and A against finite differences."""
    u, A, b, sigma = problem(scratch, link, 5)
    head = lablib.DualHead(A, link)
    lam, _ = scratch["solve"](scratch["POTENTIALS"][link], u, A, b)
    torch.testing.assert_close(head(u, b), sigma(u + A.T @ lam), atol=1e-9, rtol=1e-9)
    inputs = tuple(t.clone().requires_grad_() for t in (u, A, b))
    assert torch.autograd.gradcheck(lambda u, A, b: head(u, b, A=A), inputs, eps=1e-6, atol=1e-5)


@pytest.mark.eq("eq-saddle")
@pytest.mark.eq("eq-envelope")
@pytest.mark.parametrize("link", LINKS)
def test_library_loss_is_the_saddle_point_loss_and_its_gradient_is_z_minus_y(scratch, link):
    """With a target that does not satisfy the constraint; where it does, the matched loss at the shifted logits."""
    u, A, b, sigma = problem(scratch, link, 6)
    head = lablib.DualHead(A, link)
    lam, _ = scratch["solve"](scratch["POTENTIALS"][link], u, A, b)
    shifted, other = u + A.T @ lam, sigma(torch.randn(5, generator=torch.Generator().manual_seed(9)).abs())
    for y in (other, sigma(u.abs())):
        expected = potential(link, shifted) - y @ u - b @ lam + conjugate(link, y.numpy())
        leaf = u.clone().requires_grad_()
        loss = head.loss(leaf, y, b)
        torch.testing.assert_close(loss.detach(), expected, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(torch.autograd.grad(loss, leaf)[0], sigma(shifted) - y, atol=1e-9, rtol=1e-9)
    own = A @ other
    lam, _ = scratch["solve"](scratch["POTENTIALS"][link], u, A, own)
    matched = potential(link, u + A.T @ lam) - other @ (u + A.T @ lam) + conjugate(link, other.numpy())
    torch.testing.assert_close(head.loss(u, other, own), matched, atol=1e-9, rtol=1e-9)


@pytest.mark.eq("eq-dual-ray")
def test_certificate_proves_that_b_is_out_of_reach():
    """w.b exceeds w.A v for every corner v of the cube, and along w the dual falls without end."""
    A = torch.tensor([[1.0, 2.0, -1.0], [0.5, -1.0, 1.0]])
    with pytest.raises(lablib.SolveError) as raised:
        lablib.DualHead(A)(torch.zeros(2, 3), torch.tensor([[0.5, 0.1], [2.0, 2.0]]))
    w = raised.value.certificate
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    b = torch.tensor([2.0, 2.0])
    assert raised.value.index == (1,)
    assert float(w @ b) > float((corners @ A.T @ w).max()) + 1e-6
    values = [float(potential("sigmoid", t * A.T @ w) - t * b @ w) for t in (10.0, 100.0, 1000.0)]
    assert values[2] < values[1] < values[0] and values[2] - values[1] < 5 * (values[1] - values[0])


def test_logits_of_any_size_are_met():
    """A saturated start is flat; its potential must neither overflow nor stop the search."""
    u = 1000 * torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    z = lablib.DualHead(torch.ones(1, 4))(u, torch.tensor([1.7]))
    assert float((z.sum(-1) - 1.7).abs().max()) < 1e-7


# -- the released experiment -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def record():
    return json.loads(xor.RECORD.read_text(encoding="utf-8"))


def test_rewritten_loop_reproduces_the_stored_statistics_of_the_authors(record):
    """Total inner iterations within the authors' range; every final batch stops as published or at the cap; inert."""
    runs = [run["published"] for run in record["runs"]]
    totals = np.array([run["iterations"] for run in runs])
    theirs = xor.AUTHORS
    assert len(runs) == 10 and record["seeds"] == list(range(10))
    assert theirs["iterations_least"] <= totals.min() and totals.max() <= theirs["iterations_most"]
    assert abs(totals.mean() - theirs["iterations_mean"]) < theirs["iterations_sd"]
    assert all(run["error_final_max"] < xor.TOLERANCE for run in runs if not run["capped"])
    assert sum(run["capped"] for run in runs) / (10 * 2020) < 0.002
    per_batch = np.mean([run["iterations_per_batch"] for run in runs], 0)
    ratio = per_batch / np.array(theirs["iterations_per_batch"])
    assert ratio.min() > 0.5 and ratio.max() < 2
    assert max(run["evaluations"] / run["iterations"] for run in runs) < 1.35


def test_one_pattern_may_carry_the_whole_published_tolerance():
    """A batch that passes the published stop, with one pattern off by nearly 0.1."""
    y = torch.full((100, 10), 0.5)
    A = torch.zeros(4, 10)
    A[0, 0] = 1.0
    u = torch.zeros(100, 10)
    u[0, 0] = torch.logit(torch.tensor(0.5995))
    found = xor.published(u, y, A, torch.zeros(100, 4))
    assert (found.iterations, found.capped) == (0, False)
    u[0, 0] = torch.logit(torch.tensor(0.6005))
    assert xor.published(u, y, A, torch.zeros(100, 4)).iterations > 0


def test_published_search_halves_where_the_loss_rises_and_only_there():
    """With A large the step 0.1 overshoots; with the released sizes it does not."""
    generator = torch.Generator().manual_seed(0)
    u, y = torch.randn(100, 10, generator=generator), torch.rand(100, 10, generator=generator)
    A = torch.randn(4, 10, generator=generator)
    tame = xor.published(u, y, A, torch.zeros(100, 4))
    wild = xor.published(u, y, 6 * A, torch.zeros(100, 4))
    assert tame.evaluations == tame.iterations > 0
    assert wild.evaluations > 1.5 * wild.iterations


def test_a_short_part_of_the_record_is_made_again(record):
    """Stage 1 of seed 1 and two epochs of stage 2, with both solvers: the record's first two epochs."""
    stored = record["runs"][1]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        p = xor.problem(1)
        for name, solve in (("published", xor.published), ("ours", xor.exact(p.A))):
            run = xor.train(p, solve, 1, epochs=2)
            for epoch in (0, 1):
                batches = slice(20 * epoch, 20 * epoch + 20)
                again = np.mean(run.iterations[batches]), np.mean(run.loss[batches])
                assert again[0] == pytest.approx(stored[name]["iterations_per_batch"][epoch], rel=0.05)
                assert again[1] == pytest.approx(stored[name]["loss_per_epoch"][epoch], rel=0.02)
            assert max(run.worst) < (1e-8 if name == "ours" else 0.1)
    finally:
        torch.set_default_dtype(before)
    assert p.accuracy == pytest.approx(stored["accuracy_first_stage"], abs=0.01)
