"""The chapter on polyhedra: its search from scratch against an interior-point method and a linear program."""

from pathlib import Path

import numpy as np
import pytest
import torch
from polyhedra import rand
from reference import quadratic_program
from scipy.optimize import linprog

CHAPTER = Path(__file__).resolve().parents[1] / "book" / "polyhedra.ipynb"


@pytest.mark.parametrize("equations", [0, 2])
@pytest.mark.parametrize("seed", range(4))
def test_scratch_search_finds_the_projection(scratch, seed, equations):
    n, m = 6, 14
    A, G, inside = rand(equations, n, seed=seed), rand(m, n, seed=10 + seed), rand(n, seed=20 + seed)
    b, h, y = A @ inside, G @ inside + 0.3 * rand(m, seed=30 + seed).abs(), inside + 3 * rand(n, seed=40 + seed)
    x, held, force = scratch["active_set"](y, A, b, G, h)
    rows = (A.numpy(), b.numpy()) if equations else (np.zeros((0, n)), np.zeros(0))
    np.testing.assert_allclose(x, quadratic_program(np.eye(n), -y.numpy(), *rows, G.numpy(), h.numpy()), atol=1e-7)
    assert 0 < len(held) <= n - equations and float(force.min()) >= 0
    assert all(force[i] == 0 for i in range(m) if i not in held)


def test_scratch_search_proves_what_a_linear_program_calls_empty(scratch):
    empty = 0
    for seed in range(60):
        G, h = torch.sign(rand(7, 3, seed=seed)), torch.round(2 * rand(7, seed=100 + seed))
        found = linprog(np.zeros(3), G.numpy(), h.numpy(), bounds=(None, None))
        none = torch.zeros(0, 3), torch.zeros(0)
        if found.status == 0:
            x = scratch["active_set"](rand(3, seed=200 + seed), *none, G, h)[0]
            assert float((G @ x - h).max()) < 1e-9
            continue
        with pytest.raises(ValueError, match="the set is empty") as caught:
            scratch["active_set"](rand(3, seed=200 + seed), *none, G, h)
        w = caught.value.args[1]
        assert float(w.min()) >= -1e-9 and float((G.T @ w).abs().max()) < 1e-9 and float(h @ w) < -1e-3
        empty += 1
    assert 10 < empty < 50
