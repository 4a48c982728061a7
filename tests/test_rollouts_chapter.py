"""The chapter on Frank-Wolfe rollouts: its code from scratch, its theorems by numbers, and its widget beside lablib."""

from pathlib import Path

import clarabel
import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import lambertw

import lablib
from lablib.teaching import rollout

CHAPTER = Path(__file__).resolve().parents[1] / "book" / "frank-wolfe-rollouts.ipynb"


def problem(seed, n=6, share=0.4):
    rng = np.random.default_rng(seed)
    R = rng.normal(size=(n, n))
    P, q, w = R.T @ R / n + 0.5 * np.eye(n), rng.normal(size=n), rng.uniform(0.5, 1.5, n)
    return P, q, w, share * float(w @ np.abs(np.linalg.solve(P, q)))


def solve(P, q, w, t):
    """Minimise 1/2 x'Px + q'x over sum w|x| <= t by an interior-point method, in the variables (x+, x-)."""
    n = len(q)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-13
    split = sparse.csc_matrix(np.triu(np.block([[P, -P], [-P, P]])))
    rows = sparse.csc_matrix(np.vstack([np.concatenate([w, w])[None], -np.eye(2 * n)]))
    cones = [clarabel.NonnegativeConeT(2 * n + 1)]
    upper = np.concatenate([[t], np.zeros(2 * n)])
    z = np.array(clarabel.DefaultSolver(split, np.concatenate([q, -q]), rows, upper, cones, settings).solve().x)
    return z[:n] - z[n:]


def tensors(*arrays):
    return [torch.tensor(a, dtype=torch.float64) for a in arrays]


@pytest.mark.parametrize("variant", ["away", "pairwise"])
@pytest.mark.parametrize("seed", range(4))
def test_scratch_variants_reach_the_minimum(scratch, seed, variant):
    P, q, w, t = problem(seed)
    path, _ = scratch["frank_wolfe"](*tensors(P, q), scratch["corners_of"](*tensors(w, t)), variant, 400)
    np.testing.assert_allclose(path[-1].numpy(), solve(P, q, w, t), atol=2e-6)
    assert max(np.abs(path.numpy()) @ w) < t * (1 + 1e-12)


def test_scratch_vanilla_and_softmax_come_near(scratch):
    P, q, w, t = problem(1)
    best = solve(P, q, w, t)
    path, _ = scratch["frank_wolfe"](*tensors(P, q), scratch["corners_of"](*tensors(w, t)), "vanilla", 2000)
    soft = scratch["softmax_rollout"](*tensors(P, q, w), t, 400, beta=4.0)
    assert np.linalg.norm(path[-1].numpy() - best) < 0.05 * np.linalg.norm(best)
    assert np.linalg.norm(soft.numpy() - best) < 0.05 * np.linalg.norm(best)


@pytest.mark.parametrize("seed", range(3))
def test_scratch_gradients_are_the_slopes_of_the_solution(scratch, seed):
    """Differences of the interior-point solution, in every datum."""
    P, q, w, t = problem(seed)
    v = np.random.default_rng(seed + 50).normal(size=6)
    x = solve(P, q, w, t)
    x[np.abs(x) < 1e-6] = 0
    on = x != 0
    mu = float(np.mean(-(P @ x + q)[on] / (w * np.sign(x))[on]))
    to_q, to_P, to_r, to_w = scratch["gradients"](*tensors(P, w, x, v), mu)

    def slope(change, step=1e-4):
        ahead, behind = (solve(*(a + s * step * b for a, b in zip((P, q, w, t), change, strict=True))) for s in (1, -1))
        return v @ (ahead - behind) / (2 * step)

    rng = np.random.default_rng(seed)
    for _ in range(3):
        dP, dq, dw, dt = rng.normal(size=(6, 6)), rng.normal(size=6), rng.normal(size=6), rng.normal()
        dP = dP + dP.T
        zero = (0 * dP, 0 * dq, 0 * dw, 0.0)
        for i, (given, mine) in enumerate(
            ((dP, (to_P.numpy() * dP).sum()), (dq, to_q.numpy() @ dq), (dw, to_w.numpy() @ dw), (dt, float(to_r) * dt))
        ):
            change = [*zero[:i], given, *zero[i + 1 :]]
            assert slope(change) == pytest.approx(mine, rel=2e-3, abs=2e-4), i


# -- the theorems ------------------------------------------------------------------------------------------------------


def test_gap_is_primal_minus_dual():
    """With the conjugate of a quadratic and the support function of the ball, both in closed form."""
    P, q, w, t = problem(3)
    for seed in range(20):
        x = lablib.L1Ball(6, t, torch.tensor(w)).sample(generator=torch.Generator().manual_seed(seed)).numpy()
        u = P @ x + q
        conjugate = 0.5 * (u - q) @ np.linalg.solve(P, u - q)
        dual = -conjugate - t * np.max(np.abs(u) / w)
        gap = u @ x + t * np.max(np.abs(u) / w)
        assert 0.5 * x @ P @ x + q @ x - dual == pytest.approx(gap)
        best = solve(P, q, w, t)
        assert dual <= 0.5 * best @ P @ best + q @ best + 1e-9


@pytest.mark.parametrize("corners", [2, 3, 5, 9])
def test_softmax_error_is_largest_at_lambert(corners):
    """Search the largest error by a solver; it is W((N - 1)/e), and below log N."""

    def minus_error(b):
        b = np.append(np.abs(b), 0.0)
        weight = np.exp(-b)
        return -(b @ weight) / weight.sum()

    starts = np.random.default_rng(corners).uniform(0, 4, size=(8, corners - 1))
    found = max(
        -minimize(
            minus_error, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 20000}
        ).fun
        for start in starts
    )
    bound = float(lambertw((corners - 1) / np.e).real)
    assert found == pytest.approx(bound, abs=1e-6)
    assert bound < np.log(corners)


def test_inexact_rate_and_floor():
    """The softmax rollout on the simplex, short steps, temperature falling: the bound at every step."""
    rng = np.random.default_rng(0)
    n = 12
    R = rng.normal(size=(n, n))
    P, q = R.T @ R / n, rng.normal(size=n)
    L, D2 = np.linalg.eigvalsh(P)[-1], 2.0
    best = lablib.FrankWolfeLayer(lablib.Simplex(n))(*tensors(P + 1e-13 * np.eye(n), q)).numpy()
    least = 0.5 * best @ P @ best + q @ best
    x, errors = np.full(n, 1 / n), []
    for k in range(400):
        if k:
            share = 2 * (np.arange(k) + 1) / (k * (k + 1))
            assert share.sum() == pytest.approx(1)
            assert 0.5 * x @ P @ x + q @ x - least <= 2 * L * D2 / (k + 2) + share @ errors
        g = P @ x + q
        beta = 2.0 ** (k // 40)
        s = np.exp(-beta * (g - g.min()))
        s /= s.sum()
        errors.append(g @ s - g.min())
        assert errors[-1] <= lambertw((n - 1) / np.e).real / beta
        d = s - x
        if g @ x - g.min() > lambertw((n - 1) / np.e).real / beta:
            assert g @ d < 0  # above the floor the direction goes down
        x = x + np.clip(-(g @ d) / (L * (d @ d) + 1e-300), 0, 1) * d


@pytest.mark.parametrize("seed", range(3))
def test_away_rate_on_the_simplex(seed):
    """Quadratics that are not round: the bound of the theorem holds at every step."""
    rng = np.random.default_rng(seed)
    n = 8
    R = rng.normal(size=(n, n))
    P, q = tensors(R.T @ R / n + 0.3 * np.eye(n), rng.normal(size=n))
    low, high = np.linalg.eigvalsh(P)[[0, -1]]
    values = []
    for k in range(60):
        options = {"max_steps": k, "tol": 0.0, "strict": False, "progress": False}
        x, _ = lablib.FrankWolfeLayer(lablib.Simplex(n), variant="away", **options)(P, q)
        values.append(float(0.5 * x @ P @ x + q @ x))
    best = lablib.FrankWolfeLayer(lablib.Simplex(n))(P, q)
    error = np.array(values) - float(0.5 * best @ P @ best + q @ best)
    assert (error <= (1 - low / (2 * n * high)) ** (np.arange(60) / 2) * error[0] + 1e-12).all()
    assert error[-1] < 1e-8


@pytest.mark.parametrize("beta", [1.0, 16.0, 256.0])
def test_step_jacobian_has_the_eigenvalues_of_the_theorem(beta):
    """Autograd through one step near a solution, where scores tie: the step length held, and following a rule."""
    P, q, w, t = problem(5, n=8)
    x = torch.tensor(solve(P, q, w, t) + 1e-3)
    P, q, b = *tensors(P, q), torch.tensor(t / w)

    def gamma(x):
        return 0.3 + 0.2 * torch.tanh(x.sum() + 3 * x[0])

    def step(x, held=None):
        g = P @ x + q
        d = -b * g.sign() * torch.softmax(beta * b * g.abs(), 0) - x
        return x + (gamma(x) if held is None else held) * d

    now = float(gamma(x))
    M = torch.autograd.functional.jacobian(lambda z: step(z, now), x).numpy()
    A = torch.autograd.functional.jacobian(step, x).numpy()
    g = P @ x + q
    pi, S = torch.softmax(beta * b * g.abs(), 0).numpy(), np.diag((b * g.sign()).numpy())
    values, vectors = np.linalg.eigh(P.numpy())
    root = vectors * np.sqrt(values) @ vectors.T
    mu = np.linalg.eigvalsh(root @ S @ (np.diag(pi) - np.outer(pi, pi)) @ S @ root)[::-1]
    assert mu[0] <= 0.5 * values[-1] * float(b.max()) ** 2
    found = np.linalg.eigvals(M)
    assert np.abs(found.imag).max() < 1e-8
    np.testing.assert_allclose(np.sort(found.real), np.sort(1 - now - now * beta * mu), atol=1e-8)
    stretch = np.linalg.norm(root @ A @ np.linalg.inv(root), 2)
    second = now * (1 + beta * mu[1]) - 1
    assert beta < 256 or second > 1, "the coldest is the case that the theorem is about"
    assert second <= 1 or stretch >= second


# -- the widget beside the library ------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["vanilla", "away"])
def test_widget_walks_as_the_library_does(variant):
    """On a polygon, through the weights of its corners; the library's search along the line is for any function."""
    corners, y, stretch = torch.tensor(rollout.CORNERS["pentagon"], dtype=torch.float64), (1.25, -0.5), 3.0
    u, v = (torch.tensor(a, dtype=torch.float64) for a in (rollout.LONG, rollout.SHORT))
    P = stretch * torch.outer(u, u) + torch.outer(v, v)

    def gradient(weights):
        return (weights @ corners - torch.tensor(y, dtype=torch.float64)) @ P @ corners.T

    start = torch.eye(5, dtype=torch.float64)[0]
    for k in (1, 2, 3, 6):
        options = {"max_steps": k, "tol": 0.0, "strict": False, "progress": False}
        weights, info = lablib.frank_wolfe(gradient, lablib.Simplex(5), start, variant=variant, **options)
        state = rollout.roll("pentagon", variant, y, k, 4, stretch)
        np.testing.assert_allclose((weights @ corners).numpy(), state["x"], atol=1e-6)
        assert float(info.gap) == pytest.approx(state["gap"], abs=1e-5)
