"""The chapter's derivations and its code from scratch, against an independent solver and against brute force."""

import itertools
import json
from pathlib import Path

import clarabel
import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import linprog

from lablib.teaching import figures

CHAPTER = Path(__file__).resolve().parents[1] / "book" / "projection-layers.ipynb"
BOUND = 30.0  # stands for "no bound" where a solver wants one


def nearest(y, A, b, G, h):
    """Return the nearest point of {Ax = b, Gx <= h} by an interior-point method that knows nothing of this book."""
    n = len(y)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    cones = [clarabel.ZeroConeT(len(b)), clarabel.NonnegativeConeT(len(h))]
    rows = sparse.csc_matrix(np.vstack([A, G]))
    solver = clarabel.DefaultSolver(sparse.eye(n, format="csc"), -y, rows, np.concatenate([b, h]), cones, settings)
    return np.array(solver.solve().x)[:n]


def random(seed, n=6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=n) * 2, rng.uniform(0.2, 2, size=n), rng


def close(ours, reference):
    np.testing.assert_allclose(ours.numpy(), reference, atol=2e-6)


@pytest.mark.parametrize("seed", range(5))
def test_scratch_simplex_is_the_nearest_point(scratch, seed):
    y, _, _ = random(seed)
    ones, eye = np.ones((1, 6)), np.eye(6)
    close(scratch["simplex"](torch.tensor(y), 1.5), nearest(y, ones, np.array([1.5]), -eye, np.zeros(6)))


@pytest.mark.parametrize("seed", range(5))
def test_scratch_affine_is_the_nearest_point(scratch, seed):
    y, _, rng = random(seed)
    A, b = rng.normal(size=(2, 6)), rng.normal(size=2)
    ours = scratch["affine"](torch.tensor(y), torch.tensor(A), torch.tensor(b))
    close(ours, nearest(y, A, b, np.eye(6), np.full(6, BOUND)))


@pytest.mark.parametrize("radius", [0.5, 3.0, 100.0])
@pytest.mark.parametrize("seed", range(3))
def test_scratch_l1_ball_is_the_nearest_point(scratch, seed, radius):
    y, w, _ = random(seed, 4)
    signs = np.array(list(itertools.product((-1, 1), repeat=4)))
    ours = scratch["l1_ball"](torch.tensor(y), torch.tensor(w), radius)
    close(ours, nearest(y, np.zeros((0, 4)), np.zeros(0), signs * w, np.full(16, radius)))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_scratch_box_budget_is_the_nearest_point(scratch, seed, share):
    y, a, rng = random(seed)
    lower, upper = -rng.uniform(size=6), rng.uniform(size=6)
    c = (1 - share) * a @ lower + share * a @ upper
    ours = scratch["box_budget"](*map(torch.tensor, (y, lower, upper, a)), c)
    eye = np.eye(6)
    close(ours, nearest(y, a[None], np.array([c]), np.vstack([eye, -eye]), np.concatenate([upper, -lower])))


def test_scratch_gradient_matches_differences(scratch):
    y = torch.tensor(random(7)[0], requires_grad=True)
    assert torch.autograd.gradcheck(scratch["SimplexProjection"].apply, (y,), eps=1e-7, atol=1e-6)


# -- the theorems, on small polyhedra that are as degenerate as they come ----------------------------------------------


def degenerate(seed):
    """Return rows, right-hand sides and a point of {Gx <= h} in R^3 where up to five rows meet; one is not active."""
    rng = np.random.default_rng(seed)
    G = rng.integers(-1, 2, size=(6, 3)).astype(float)
    G = G[np.abs(G).sum(1) > 0]
    h = np.zeros(len(G))
    h[-1] = 1.0
    return G, h, np.zeros(3)


def family(G, h, x, y):
    """List the Han-Sun family at y, whose projection is x: by trying every index set and asking for multipliers."""
    active = np.flatnonzero(np.abs(G @ x - h) < 1e-7)
    found = []
    for size in range(len(active) + 1):
        for K in itertools.combinations(active, size):
            rows = G[list(K)]
            if np.linalg.matrix_rank(rows) < size:
                continue
            if size == 0:
                fits = np.abs(y - x).max() < 1e-7
            else:
                fits = np.linalg.norm(rows.T @ (ell := np.linalg.lstsq(rows.T, y - x, rcond=None)[0]) - (y - x)) < 1e-7
                fits = fits and ell.min() > -1e-7
            if fits:
                found.append(frozenset(int(k) for k in K))
    return active, set(found)


def projector(rows, n=3):
    return np.eye(n) - np.linalg.pinv(rows) @ rows if len(rows) else np.eye(n)


def push(G, h, seed):
    """Return a y whose projection is 0, pushed by some of the active rows."""
    rng = np.random.default_rng(100 + seed)
    forces = rng.integers(0, 3, size=len(G)).astype(float)
    forces[h > 0] = 0
    return G.T @ forces


@pytest.mark.parametrize("seed", range(12))
def test_all_active_rows_give_an_element(seed):
    G, h, x = degenerate(seed)
    y = push(G, h, seed)
    active, sets = family(G, h, x, y)
    J0 = projector(G[active])
    assert sets, "the family is never empty"
    assert any(np.allclose(projector(G[sorted(K)]), J0) for K in sets)
    assert all(np.trace(projector(G[sorted(K)])) > np.trace(J0) - 1e-9 for K in sets)


@pytest.mark.parametrize("seed", range(12))
def test_families_shrink_and_explain_the_change(seed):
    G, h, x = degenerate(seed)
    y = push(G, h, seed)
    _, sets = family(G, h, x, y)
    rng = np.random.default_rng(seed)
    for _ in range(4):
        near = y + 1e-3 * rng.normal(size=3)
        moved = nearest(near, np.zeros((0, 3)), np.zeros(0), G, h)
        _, smaller = family(G, h, moved, near)
        assert smaller and smaller <= sets
        for K in smaller:
            np.testing.assert_allclose(projector(G[sorted(K)]) @ (near - y), moved - x, atol=1e-6)


def test_multipliers_of_the_exercise_form_the_segment_it_says():
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    ends = [linprog([0, 0, sign], A_eq=rows.T, b_eq=[3, 1]).x for sign in (1, -1)]
    np.testing.assert_allclose(ends, [[3, 1, 0], [2, 0, 1]], atol=1e-9)
    _, sets = family(rows, np.zeros(3), np.zeros(2), np.array([3.0, 1.0]))
    assert sets == {frozenset({0, 1}), frozenset({0, 2})}


def test_two_rows_hold_the_tip_of_the_l1_ball_and_leave_a_direction_free():
    cells = json.loads(CHAPTER.read_text(encoding="utf-8"))["cells"]
    (source,) = ["".join(cell["source"]) for cell in cells if cell["id"] == "more-elements"]
    names = {"torch": torch}
    exec(source.splitlines()[0], names)
    facets = np.array(list(itertools.product((1.0, -1.0), repeat=3)))
    x, y = np.array([1.0, 0.0, 0.0]), np.array([3.0, 0.0, 0.0])
    active, sets = family(facets, np.ones(8), x, y)
    K = frozenset(int(np.flatnonzero((facets == row).all(1))[0]) for row in names["two"].numpy())
    assert len(active) == 4
    assert K in sets, "the rows of the chapter can push alone"
    assert np.trace(projector(facets[sorted(K)])) == pytest.approx(1)


# -- figures -----------------------------------------------------------------------------------------------------------


def test_series_differ_without_colour():
    looks = [figures.line(i) for i in range(5)]
    assert len({str(look["linestyle"]) for look in looks}) == 5
    assert len({look["marker"] for look in looks}) == 5
    assert len({look["color"] for look in looks}) == 5
    assert {look["color"] for look in looks} <= set(figures.PALETTE.values())
