"""Polyhedra of every awkward kind against SciPy, Clarabel and a pseudo-inverse; what is empty is proved empty."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from polyhedra import (
    KINDS,
    distance_from_normal_cone,
    face_projector,
    infeasibility,
    problem,
    rand,
    rows_of,
    sample,
)
from reference import quadratic_program
from scipy.optimize import linprog

from lablib import BoxBudget, Polyhedron, ProjectionLayer, Simplex, SolveError, active_set, check_jacobian

F64 = torch.float64
every_kind = pytest.mark.parametrize("kind", KINDS)
devices = pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))],
)


# -- the answer ----------


@every_kind
@pytest.mark.parametrize("seed", [0, 300])
def test_the_answer_is_feasible_optimal_and_the_same_alone(kind, seed):
    s, y = problem(kind, seed)
    x = s.project(y)
    for i, (row, point) in enumerate(zip(y.numpy(), x.numpy(), strict=True)):
        one = sample(s, i)
        assert infeasibility(one, point) < 1e-9
        assert distance_from_normal_cone(one, row, point) < 1e-8
        np.testing.assert_allclose(one.project(y[i]).numpy(), point, rtol=0, atol=1e-9)


def test_small_integer_polyhedra_of_random_scales():
    """Rows of -1, 0, 1: ties, repeats, contradictions and flat sets are frequent. SciPy judges all of it."""
    empty = flat = 0
    for seed in range(40):
        g = torch.Generator().manual_seed(seed)
        n, m, p = 4, 9, seed % 3
        A, G = (torch.randint(-1, 2, (k, n), generator=g).double() for k in (p, m))
        b, h = (torch.randint(-1, 3, (k,), generator=g).double() for k in (p, m))
        y = torch.randint(-4, 5, (n,), generator=g).double()
        scale = 10.0 ** torch.randint(-3, 4, (m,), generator=g)
        s = Polyhedron(A, b, scale[:, None] * G, scale * h, upper=2.0)
        rows, ends = np.vstack([G, np.eye(n)]), np.concatenate([h, 2 * np.ones(n)])
        equal = (A.numpy(), b.numpy()) if p else (None, None)
        if linprog(np.zeros(n), rows, ends, *equal, bounds=(None, None)).status == 2:
            with pytest.raises(SolveError, match="the set is empty") as caught:
                s.project(y)
            assert proves_empty(s, caught.value.certificate), seed
            empty += 1
            continue
        x, v = s.project(y.requires_grad_()), rand(n, seed=seed)
        y, x, u = y.detach().numpy(), x.detach().numpy(), torch.autograd.grad(x, y, v)[0].numpy()
        assert infeasibility(s, x) < 1e-9 and distance_from_normal_cone(s, y, x) < 1e-8, seed
        J = face_projector(s, x, np.abs(y).max())
        np.testing.assert_allclose(u, J @ v.numpy(), rtol=0, atol=1e-8, err_msg=str(seed))
        flat += np.trace(J) < 0.5
    assert empty > 3 and flat > 3


@pytest.mark.parametrize("kind", ["rows", "bounds", "doubly stochastic", "many rows"])
def test_the_answer_is_that_of_an_interior_point_solver(kind):
    s, y = problem(kind, 7, batch=4)
    A, b, G, h = rows_of(s)
    expected = [quadratic_program(np.eye(s.dim), -row, A, b, G, h) for row in y.numpy()]
    torch.testing.assert_close(s.project(y), torch.tensor(np.array(expected)), rtol=0, atol=1e-6)


def test_it_agrees_with_the_closed_forms():
    n, y = 6, 2 * rand(10, 6, seed=1)
    one = torch.ones(1, n, dtype=F64)
    torch.testing.assert_close(Polyhedron(one, 1.5, lower=0.0).project(y), Simplex(n, 1.5).project(y))
    w, low, high = rand(n, seed=2), -rand(n, seed=3).abs(), rand(n, seed=4).abs()
    box = BoxBudget(low, high, w, 0.1).project(y)
    torch.testing.assert_close(Polyhedron(w[None], 0.1, lower=low, upper=high).project(y), box)
    cover = torch.zeros(1, n, dtype=F64)
    cover[0, :2] = -1  # the first two hold at least 0.6: two simplices where that binds
    x = Polyhedron(one, 1.0, cover, -0.6, lower=0.0).project(y)
    plain = Simplex(n).project(y)
    parts = torch.cat([Simplex(2, 0.6).project(y[:, :2]), Simplex(n - 2, 0.4).project(y[:, 2:])], -1)
    torch.testing.assert_close(x, torch.where(plain[:, :2].sum(-1, keepdim=True) >= 0.6, plain, parts))


def broken(p):
    """The sides of the rows that the raw points break."""
    return (p.t > p.high).double() - (p.t < p.low).double()


def test_the_guess_only_saves_passes(monkeypatch):
    s, y = problem("rows", 0, batch=40)
    with_guess = s.project(y)
    monkeypatch.setattr(active_set, "guess", broken)
    torch.testing.assert_close(s.project(y), with_guess, rtol=0, atol=1e-12)


@every_kind
def test_the_safeguard_alone_finds_the_answer(kind, monkeypatch):
    s, y = problem(kind, 0)
    expected = s.project(y)
    monkeypatch.setattr(active_set, "PASSES", 1)
    monkeypatch.setattr(active_set, "guess", lambda p: -broken(p))
    torch.testing.assert_close(s.project(y), expected, rtol=0, atol=1e-8)


def test_a_search_without_looking_is_the_same(monkeypatch):
    """Off the CPU the passes run in blocks; the same code, run here in blocks, gives the same answer."""
    s, y = problem("bounds", 0)
    x, active, _ = s.solve(y, element="lowest")
    for length in (3, 8):
        monkeypatch.setattr(active_set, "looks_every", lambda device, n=length: n)
        blocks, again, _ = s.solve(y, element="lowest")
        torch.testing.assert_close(blocks, x, rtol=0, atol=1e-12)
        v = rand(*y.shape, seed=9)
        torch.testing.assert_close(s.face_project(x, v, again), s.face_project(x, v, active), rtol=0, atol=1e-10)


@devices
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_dtype_and_device_are_kept_and_float32_is_the_rounded_answer(device, dtype):
    s, y = problem("bounds", 0)
    s, y = s.to(torch.float32), y.float()
    exact = s.to(F64).project(y.double())
    x = s.to(device, dtype).project(y.to(device, dtype))
    assert x.dtype is dtype and x.device.type == device
    if dtype is torch.float32:
        assert torch.equal(x.cpu(), exact.float())
        assert bool(s.contains(x.cpu()).all())


def test_huge_and_tiny_inputs():
    s, y = problem("rows", 0)
    for scale in (1e-6, 1e6, 1e9):
        t = s.with_data(b=s.b * scale, h=s.h * scale)
        torch.testing.assert_close(t.project(y * scale) / scale, s.project(y), rtol=0, atol=1e-10)
    s, y = problem("bounds", 0)
    x = s.project(1e9 * y)
    assert max(infeasibility(s, row) for row in x.numpy()) < 1e-9, "the digits that a huge y costs are recovered"


def test_parts_may_be_left_out():
    y = torch.tensor([3.0, -2.0])
    assert torch.equal(Polyhedron(dim=2).project(y), y)
    assert Polyhedron(lower=0.0, dim=2).project(y).tolist() == [3.0, 0.0]
    assert Polyhedron(upper=torch.ones(2)).project(y).tolist() == [1.0, -2.0]
    assert Polyhedron(torch.ones(1, 2), 1.0).project(y).tolist() == [3.0, -2.0]
    assert Polyhedron(torch.ones(0, 2), torch.ones(0), torch.ones(0, 2), torch.ones(0)).project(y).tolist() == [3, -2]
    assert Polyhedron(G=torch.ones(1, 2), h=math.inf).project(y).tolist() == [3.0, -2.0], "no limit"
    assert Polyhedron(G=torch.zeros(1, 2), h=0.0).project(y).tolist() == [3.0, -2.0], "a row that says nothing"
    assert Polyhedron(lower=1.0, upper=1.0, dim=2).project(y).tolist() == [1.0, 1.0]


def test_bounds_hold_to_the_last_bit():
    s, y = problem("doubly stochastic", 3, batch=50)
    x = s.project(y)
    assert int((x == 0).sum()) > 200 and float(x.min()) == 0.0
    x = s.to(torch.float32).project(y.float())
    assert int((x == 0).sum()) > 200 and float(x.min()) == 0.0


def test_batches_of_any_shape():
    s, y = problem("rows", 0, batch=6)
    x = s.project(y)
    torch.testing.assert_close(s.project(y.reshape(2, 3, -1)).reshape(6, -1), x, rtol=0, atol=1e-12)
    assert s.project(y[:0]).shape == (0, 12) and s.project(y[0]).shape == (12,)
    per = Polyhedron(s.A, s.b.expand(2, 1, -1), s.G.expand(1, 3, -1, -1), s.h)
    torch.testing.assert_close(per.project(y.reshape(2, 3, -1)).reshape(6, -1), x, rtol=0, atol=1e-12)


# -- the derivative ----------


@every_kind
@pytest.mark.eq("eq-face-polyhedron")
def test_the_product_is_the_projector_of_a_pseudo_inverse(kind):
    s, y = problem(kind, 0)
    y.requires_grad_()
    x, v = s.project(y), rand(*y.shape, seed=1)
    u = torch.autograd.grad(x, y, v)[0]
    again = s.face_project(x.detach(), v)
    for i, point in enumerate(x.detach().numpy()):
        J = face_projector(sample(s, i), point, float(y[i].detach().abs().max()))
        np.testing.assert_allclose(u[i].numpy(), J @ v[i].numpy(), rtol=0, atol=1e-7)
        if kind != "nearly parallel":  # which of two rows that nearly agree holds, the point alone does not tell
            np.testing.assert_allclose(again[i].numpy(), J @ v[i].numpy(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", ["rows", "bounds", "many rows", "per sample"])
def test_the_backward_is_that_of_differences(kind):
    s, y = problem(kind, 3, batch=3)
    assert check_jacobian(ProjectionLayer(s), y) < 1e-7


@pytest.mark.parametrize("kind", ["rows", "doubly stochastic", "repeated"])
@pytest.mark.parametrize("element", ["lowest", "highest"])
def test_the_derivative_integrates_along_a_path_across_faces(kind, element):
    s, y = problem(kind, 5, batch=2)
    a, b = y
    t = ((torch.arange(2000, dtype=F64) + 0.5) / 2000).unsqueeze(-1)
    path = (a + t * (b - a)).requires_grad_()
    x = s.project(path, element=element)
    v = rand(s.dim, seed=2)
    slope = (torch.autograd.grad(x, path, v.expand_as(x))[0] @ (b - a)).mean()
    faces = len(
        {tuple(row) for row in (torch.tensor(rows_of(s)[2]) @ x.detach().T - s_ends(s)).abs().T.lt(1e-9).tolist()}
    )
    assert faces >= 4, "the path should cross several faces"
    torch.testing.assert_close(slope, (s.project(b) - s.project(a)) @ v, rtol=0, atol=1e-2)


def s_ends(s):
    return torch.tensor(rows_of(s)[3]).unsqueeze(-1)


def test_the_highest_element_frees_rows_without_a_multiplier():
    G = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=F64)
    s = Polyhedron(G=G, h=torch.zeros(3, dtype=F64))
    y = torch.tensor([1.0, 0.0], dtype=F64)  # x = 0: the first row carries y - x, the others touch
    J = {
        e: torch.autograd.functional.jacobian(lambda t, e=e: s.project(t, element=e), y) for e in ("lowest", "highest")
    }
    assert J["lowest"].tolist() == [[0, 0], [0, 0]] and J["highest"].tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("pull", [(3.0, 1.0), (1.0, 3.0)], ids=str)
def test_a_corner_of_three_rows_is_held_by_two_that_push(order, pull):
    G = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=F64)[list(order)]
    s = Polyhedron(G=G, h=torch.zeros(3, dtype=F64).requires_grad_())
    y, v = torch.tensor(pull, dtype=F64), rand(2)  # (3, 1) = 2 (1, 0) + (1, 1) = 3 (1, 0) + (0, 1)
    gradient = torch.autograd.grad(s.project(y), s.h, v)[0]
    held = [i for i in range(3) if gradient[i] != 0]
    assert len(held) == 2, "two rows of three are independent"
    weights = np.linalg.solve(G[held].T.numpy(), y.numpy())
    assert (weights >= 0).all(), "and they carry the multiplier"
    # The derivative along a change that keeps the three rows active is right, whichever two were chosen.
    direction = G @ rand(2, seed=4)
    step = 1e-6
    moved = [Polyhedron(G=G, h=t * direction).project(y) @ v for t in (step, -step)]
    assert float(gradient @ direction) == pytest.approx(float(moved[0] - moved[1]) / (2 * step), abs=1e-8)
    pinv = np.linalg.pinv(G.numpy()).T @ v.numpy()
    assert not np.allclose(pinv, gradient.numpy()), "the pseudo-inverse spreads it over all three"


@pytest.mark.parametrize("equal", [0, 2])
def test_any_multiplier_is_reduced_to_an_extreme_one(equal):
    """Eight rows of R^4 push at once; those that are kept are independent, push as much together, and none pulls."""
    C = torch.nn.functional.normalize(rand(20, 8, 4, seed=1), dim=-1)
    m = 0.1 + rand(20, 8, seed=2).abs()
    m[:, :equal] = rand(20, equal, seed=3)  # fixed rows may push either way
    all_, fixed = torch.ones(20, 8, dtype=torch.bool), (torch.arange(8) < equal).expand(20, 8)
    factor = active_set.DenseRows(C, C @ C.mT).face(all_, m, all_, fixed)
    for rows, push, index, real in zip(C.numpy(), m.numpy(), factor.index.numpy(), factor.real.numpy(), strict=True):
        held = index[real > 0]
        assert np.linalg.matrix_rank(rows[held]) == len(held) == 4
        weights = np.linalg.solve(rows[held].T, rows.T @ push)
        assert (weights[held >= equal] > -1e-9).all()


def test_dependent_rows_give_right_gradients_along_consistent_changes():
    s, y = problem("repeated", 0)
    base = Polyhedron(s.A[:3], s.b[:3], s.G[:15], s.h[:15], lower=s.lower)
    v, t = rand(*y.shape, seed=3), s.h[:15].clone().requires_grad_()
    h = torch.cat([t, t, 3 * t[:5], t[:4] + 0.1])
    many = torch.autograd.grad(s.with_data(h=h).project(y), t, v)[0]
    few = torch.autograd.grad(base.with_data(h=t).project(y), t, v)[0]
    torch.testing.assert_close(many, few, rtol=0, atol=1e-10)


# -- what is empty ----------


def proves_empty(s, certificate):
    """Check by hand: nonnegative multipliers whose combination of the rows reads 0 <= a negative number."""
    get = {k: None if getattr(s, k) is None else torch.as_tensor(getattr(s, k)).double() for k in s.ranks}
    total, end = torch.zeros(s.dim, dtype=F64), 0.0
    for rows, name, sign in (("A", "b", 1), ("G", "h", 1), (None, "lower", -1), (None, "upper", 1)):
        w = certificate[name]
        assert name == "b" or float(w.min() if len(w) else 0) >= 0
        if get[name] is None:
            assert not bool(w.any())
            continue
        used = w != 0
        M = get[rows] if rows else sign * torch.eye(s.dim, dtype=F64)
        total += M.T @ w
        end += float((w * sign * get[name].expand(w.shape))[used].sum())
    return float(total.abs().max()) < 1e-9 and end < -1e-9


EMPTY = {
    "rows": lambda: Polyhedron(G=torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), h=torch.tensor([1.0, -2.0])),
    "bounds and a row": lambda: Polyhedron(torch.ones(1, 3), 5.0, lower=0.0, upper=1.0),
    "equalities": lambda: Polyhedron(torch.tensor([[1.0, 1.0], [2.0, 2.0]]), torch.tensor([1.0, 3.0])),
    "fixed by equalities": lambda: Polyhedron(torch.eye(2), torch.ones(2), torch.ones(1, 2), 1.0),
    "zero row": lambda: Polyhedron(G=torch.zeros(1, 2), h=-1.0),
    "three half-planes": lambda: Polyhedron(
        G=torch.tensor([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]]), h=torch.tensor([-1.0, -1.0, -1.0])
    ),
    "far and badly scaled": lambda: Polyhedron(
        G=torch.tensor([[1e-4, 1e-4], [-1e5, -1e5]], dtype=F64), h=torch.tensor([1e-4, -1.001e5], dtype=F64)
    ),
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_set_is_proved_empty(name):
    s = EMPTY[name]()
    dtype = next(iter(s.data().values())).dtype
    with pytest.raises(SolveError, match=r"the set is empty at batch index \[0\].*certificate") as caught:
        s.project(torch.zeros(3, s.dim, dtype=dtype))
    assert isinstance(caught.value, ValueError) and caught.value.index == (0,)
    assert proves_empty(s, caught.value.certificate)
    x, info = s.project(torch.zeros(3, s.dim, dtype=dtype), strict=False)
    assert not bool(info.converged.any()) and float(info.residual.min()) > 1e-9 and bool(x.isfinite().all())
    with pytest.raises(SolveError, match="empty"):
        s.lmo(torch.ones(s.dim, dtype=dtype))
    with pytest.raises(SolveError, match="empty"):
        s.sample(2)


def test_the_empty_one_of_a_batch_is_named():
    h = torch.tensor([[1.0, 0.0], [1.0, -2.0], [1.0, 0.0]])
    s = Polyhedron(G=torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), h=h)
    with pytest.raises(SolveError, match=r"empty at batch index \[1\]: the rows of h\[0\], h\[1\]") as caught:
        s.project(torch.zeros(3, 2))
    assert caught.value.index == (1,)
    good, info = s.project(torch.ones(3, 2), strict=False)
    assert info.converged.tolist() == [True, False, True]
    torch.testing.assert_close(good[[0, 2]], torch.full((2, 2), 0.5))


def test_a_set_that_is_nearly_empty_is_not():
    for gap in (0.0, 1e-6):
        G, h = torch.tensor([[1.0, 2.0], [-1.0, -2.0]], dtype=F64), torch.tensor([1.0, -1.0 + gap], dtype=F64)
        x = Polyhedron(G=G, h=h).project(torch.zeros(2, dtype=F64))
        assert float(G[0] @ x) == pytest.approx(1.0 - gap, abs=1e-12)


# -- options ----------


def test_max_steps_caps_the_search():
    s, y = problem("rows", 0)
    x, info = s.project(y, max_steps=1, strict=False)
    assert int(info.iterations.max()) == 1 and not bool(info.converged.all())
    with pytest.raises(SolveError, match="missed its tolerance at batch index"):
        s.project(y, max_steps=1)
    more = s.project(y, max_steps=200)
    torch.testing.assert_close(more, s.project(y))
    assert float((x - more).abs().max()) > 1e-3


def test_tol_decides_what_is_accepted():
    s, y = problem("rows", 0)
    x, info = s.project(y, max_steps=1, strict=False)
    worst = float(info.residual.max())
    size = float(s.scale(x).max())
    assert torch.equal(s.project(y, max_steps=1, tol=1.01 * worst), x)
    with pytest.raises(SolveError, match="missed its tolerance"):
        s.project(y, max_steps=1, tol=0.5 * worst / (1 + size))


@every_kind
def test_the_certificate_is_zero_at_the_projection_and_only_there(kind):
    s, y = problem(kind, 0, batch=4)
    x, info = s.project(y, return_info=True)
    size = float(y.abs().max()) ** 2
    assert bool(info.converged.all()) and float(info.gap.abs().max()) < 1e-9 * size
    assert bool(s.contains(x).all()) and not bool(s.contains(x + 1.0).all())
    if kind != "vertex":
        assert float(s.gap(y, s.project(-y)).max()) > 1e-3


# -- oracles ----------


@pytest.mark.parametrize("kind", ["bounds", "doubly stochastic", "simplex twice", "per sample"])
def test_lmo_is_optimal_and_a_member(kind):
    s, _ = problem(kind, 0, batch=4)
    if kind == "per sample":
        s = Polyhedron(s.A, s.b, s.G, s.h, s.lower, upper=5.0)
    g = rand(4, s.dim, seed=1)
    v = s.lmo(g)
    assert v.dtype is F64 and float(s.violation(v).max()) < 1e-8
    for i in range(4):
        A, b, G, h = rows_of(sample(s, i))
        best = linprog(g[i].numpy(), G, h, A, b, bounds=(None, None), method="highs-ipm").fun
        assert float(g[i] @ v[i]) == pytest.approx(best, abs=1e-6)


def test_lmo_names_the_ray():
    s = Polyhedron(G=torch.tensor([[1.0, -1.0]]), h=0.0, lower=0.0)
    assert s.lmo(torch.tensor([1.0, 1.0])).tolist() == [0.0, 0.0]
    with pytest.raises(SolveError, match=r"unbounded at batch index \[1\]: it falls without end along \[0.0, 1.0\]"):
        s.lmo(torch.tensor([[1.0, 1.0], [0.5, -1.0]]))


@every_kind
def test_samples_are_members_near_the_relative_interior_and_repeat(kind):
    s, _ = problem(kind, 0)
    shape = (5, 8) if kind == "per sample" else (40,)
    x = s.sample(*shape, generator=torch.Generator().manual_seed(3))
    assert x.shape == (*shape, s.dim) and float(s.violation(x).max()) < 1e-7
    assert torch.equal(x, s.sample(*shape, generator=torch.Generator().manual_seed(3)))
    if kind not in ("vertex", "flat"):
        assert float(x.flatten(0, -2).std(0).max()) > 1e-3


def test_a_flat_set_is_sampled_along_itself():
    G = torch.tensor([[1.0, 1.0, 0.0], [-1.0, -1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], dtype=F64)
    x = Polyhedron(G=G, h=torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=F64)).sample(200)
    assert float((x[:, :2].sum(-1) - 1).abs().max()) < 1e-9 and float(x[:, 2].std()) > 0.1


def test_violation_by_hand():
    s = Polyhedron(torch.ones(1, 2), 1.0, torch.tensor([[1.0, 0.0]]), 0.25, lower=0.0, upper=1.0)
    x = torch.tensor([[0.2, 0.8], [0.5, 0.5], [-0.5, 1.5], [0.0, 0.0]])
    torch.testing.assert_close(s.violation(x), torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=F64), rtol=0, atol=1e-7)


# -- data ----------


def test_factors_are_kept_while_the_rows_stay_and_never_stale(monkeypatch):
    s, y = problem("rows", 0)
    measured = []
    measure = Polyhedron._measure
    monkeypatch.setattr(Polyhedron, "_measure", lambda self, mask=None: measured.append(1) or measure(self, mask))
    s.project(y)
    other = s.with_data(h=s.h + 0.1)
    x = other.project(y)
    assert len(measured) == 1, "new ends leave the factors as they are"
    torch.testing.assert_close(x, Polyhedron(s.A, s.b, s.G, s.h + 0.1).project(y))
    with torch.no_grad():
        s.h += 0.1
        torch.testing.assert_close(s.project(y), x), "ends changed in place"
        s.G[0] *= -1
        torch.testing.assert_close(s.project(y), Polyhedron(s.A, s.b, s.G.clone(), s.h).project(y))
    number = Polyhedron(G=s.G, h=1.0)
    torch.testing.assert_close(number.with_data(h=2.0).project(y), Polyhedron(G=s.G, h=2.0).project(y))


def test_copies_pickles_and_layers_project_alike():
    s, y = problem("bounds", 0)
    x = s.project(y)
    for other in (copy.deepcopy(s), pickle.loads(pickle.dumps(s)), ProjectionLayer(s)):
        assert torch.equal(other(y) if isinstance(other, ProjectionLayer) else other.project(y), x)
    layer = ProjectionLayer(s)
    assert sorted(layer.state_dict()) == ["A", "G", "b", "h", "lower", "upper"]
    torch.testing.assert_close(layer(y, h=s.h + 1), s.with_data(h=s.h + 1).project(y))


def test_training_learns_the_ends():
    s, y = problem("rows", 0, batch=24)
    target = s.project(y)
    h = torch.nn.Parameter(s.h + 0.3)
    layer = ProjectionLayer(Polyhedron(s.A, s.b, s.G, h))
    optimiser = torch.optim.Adam([h], lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        (layer(y) - target).square().sum().backward()
        optimiser.step()
    with torch.no_grad():
        assert float((layer(y) - target).square().sum()) < 1e-2 * float((layer(y, h=s.h + 0.3) - target).square().sum())


def test_repr_reads_like_the_constructor():
    s = Polyhedron(torch.ones(1, 3), 1.0, lower=0.0)
    assert repr(s) == "Polyhedron(A=tensor(1, 3), b=1.0, G=None, h=None, lower=0.0, upper=None)"


@pytest.mark.parametrize(("n", "m"), [(300, 300), (120, 1500)])
def test_larger_dense_problems(n, m):
    G, y = rand(m, n, seed=1), 3 * rand(3, n, seed=2)
    s = Polyhedron(G=G, h=G.norm(dim=1), lower=-0.2)
    x = s.project(y)
    for row, point in zip(y.numpy(), x.numpy(), strict=True):
        assert infeasibility(s, point) < 1e-9 and distance_from_normal_cone(s, row, point) < 1e-8


def test_two_thousand_unknowns_and_rows():
    """The largest dense size asked for: in the set, and SciPy's linear program finds nothing farther along y - x."""
    n, p, m = 2000, 400, 2000
    A, G, inside = rand(p, n, seed=0), rand(m, n, seed=1), rand(n, seed=2)
    s = Polyhedron(A, A @ inside, G, G @ inside + rand(m, seed=3).abs())
    y = inside + rand(n, seed=4)
    x, info = s.project(y, return_info=True)
    held = s.h - G @ x < 1e-9
    assert 300 < int(held.sum()) < m and float(info.residual) < 1e-11 and abs(float(info.gap)) < 1e-9
    v = rand(n, seed=5)
    u = s.face_project(x, v)
    tied = torch.cat([A, G[held]])
    assert float((tied @ u).abs().max()) < 1e-9  # along the face, and what was taken away is across it
    across = torch.linalg.lstsq(tied.mT, (v - u).unsqueeze(-1)).solution
    torch.testing.assert_close((tied.mT @ across).squeeze(-1), v - u, rtol=0, atol=1e-9)
