"""The augmented Lagrangian chapter's code from scratch: the pair's block alone, and a block step of a whole network."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

CHAPTER = Path(__file__).resolve().parents[1] / "book" / "augmented-lagrangian.ipynb"


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def least(p, q, a, b, alpha, beta):
    """The minimum by a solver that knows no candidates: for each u the best v is plain, then u is searched."""

    def at(u):
        s = max(u, alpha * u)
        v = max(p - beta / a, s)
        return a / 2 * (v - p) ** 2 + b / 2 * (u - q) ** 2 + beta * (v - s)

    reach = 2 + abs(p) + abs(q) + beta / b + beta / a
    cuts = np.linspace(-reach, reach, 81)
    ends = [*itertools.pairwise(cuts)]
    return min(minimize_scalar(at, bounds=pair, method="bounded", options={"xatol": 1e-10}).fun for pair in ends)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.9])
def test_scratch_pair_is_feasible_and_the_least(scratch, alpha):
    p, q = 1.5 * drawn(2, 25, seed=1)
    a, b, beta = 0.7, 1.6, 0.9
    v, u = scratch["pair_step"](p, q, a, b, alpha, beta)
    s = torch.maximum(u, alpha * u)
    assert bool((v >= s - 1e-15).all())
    ours = a / 2 * (v - p) ** 2 + b / 2 * (u - q) ** 2 + beta * (v - s)
    for i in range(len(p)):
        assert float(ours[i]) == pytest.approx(least(float(p[i]), float(q[i]), a, b, alpha, beta), abs=1e-8)


def lagrangian(W, b, U, V, Xi, X, Y, alpha, beta, rho, mu):
    total = (V[-1] - Y).square().sum() / 2
    for l in range(len(W)):
        residual = U[l] - (V[l - 1] if l else X) @ W[l].T - b[l]
        total = total + (Xi[l] * residual).sum() + rho / 2 * residual.square().sum()
        total = total + beta * (V[l] - torch.maximum(U[l], alpha * U[l])).sum() + len(X) * mu * W[l].norm(dim=0).sum()
    return float(total)


def begin(seed):
    W = [drawn(n, m, seed=10 * seed + m) for m, n in ((6, 12), (12, 9), (9, 3))]
    b = [drawn(len(w), seed=seed) for w in W]
    U = [drawn(40, len(w), seed=seed + len(w)) for w in W]
    V = [torch.maximum(u, 0.2 * u) + drawn(*u.shape, seed=seed).abs() for u in U]
    return W, b, U, V, [drawn(*u.shape, seed=seed + 40) for u in U]


@pytest.mark.parametrize("seed", range(3))
def test_scratch_pairs_alone_never_raise_the_augmented_lagrangian(scratch, seed):
    """Many steps at the same weights and multipliers: a majoriser that is a guess overshoots."""
    W, b, U, V, Xi = begin(seed)
    settings = (drawn(40, 6, seed=2), drawn(40, 3, seed=3), 0.2, 0.3, 0.5, 1e-3)
    values = [lagrangian(W, b, U, V, Xi, *settings)]
    for _ in range(40):
        scratch["iteration"](list(W), list(b), U, V, list(Xi), *settings)
        values.append(lagrangian(W, b, U, V, Xi, *settings))
    assert all(new <= old + 1e-12 * abs(old) for old, new in itertools.pairwise(values)), "pairs rise"
    assert values[-1] < values[0] - 10


def test_scratch_weights_never_raise_the_augmented_lagrangian(scratch):
    W, b, U, V, Xi = begin(0)
    settings = (drawn(40, 6, seed=2), drawn(40, 3, seed=3), 0.2, 0.3, 0.5, 1e-3)
    for _ in range(6):
        old = [list(part) for part in (W, b, Xi)]
        scratch["iteration"](W, b, U, V, Xi, *settings)
        held = lagrangian(*old[:2], U, V, old[2], *settings)
        assert lagrangian(W, b, U, V, old[2], *settings) < held, "weights rise"
