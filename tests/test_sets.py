"""Each set against its reference, another solver, and the edges where formulas break."""

import math

import numpy as np
import pytest
import torch
from reference import affine, budget, l1, project_by_clarabel, simplex
from scipy.optimize import linprog

from lablib import Affine, Box, BoxBudget, L1Ball, Simplex, SolveError

F64 = torch.float64
N = 6


def rand(*shape, seed=0):
    return torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


A = rand(2, N, seed=1)
LOWER, UPPER = -rand(N, seed=2).abs(), rand(N, seed=3).abs()
WEIGHTS = rand(N, seed=4)
SETS = {
    "box": Box(LOWER, UPPER),
    "box-half-open": Box(-math.inf, UPPER),
    "simplex": Simplex(N, 1.5),
    "l1": L1Ball(N, 1.25),
    "l1-weighted": L1Ball(N, 1.25, WEIGHTS.abs()),
    "budget": BoxBudget(LOWER, UPPER, WEIGHTS, 0.1),
    "capped-simplex": BoxBudget(0.0, 1.0, torch.ones(N, dtype=F64), 2.5),
    "budget-half-open": BoxBudget(0.0, math.inf, WEIGHTS.abs(), 2.0),
    "affine": Affine(A, rand(2, seed=5)),
}
every_set = pytest.mark.parametrize("name", SETS)
devices = pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))],
)


def rows(function, y):
    return torch.tensor(np.stack([function(row) for row in y.numpy()]))


# -- the answer  ----------


@every_set
def test_the_projection_is_that_of_an_independent_solver(name):
    y = 2 * rand(20, N, seed=6)
    expected = rows(lambda row: project_by_clarabel(SETS[name], row), y)
    torch.testing.assert_close(SETS[name].project(y), expected, rtol=0, atol=1e-6)


@pytest.mark.eq("eq-simplex-threshold")
@pytest.mark.parametrize("n", [1, 2, 10, 40, 700])
def test_simplex_is_the_reference(n):
    y = rand(5, n, seed=n) * 2
    torch.testing.assert_close(Simplex(n, 1.5).project(y), rows(lambda r: simplex(r, 1.5), y), rtol=0, atol=1e-12)


@pytest.mark.eq("eq-l1-threshold")
@pytest.mark.parametrize("n", [1, 2, 10, 40, 700])
@pytest.mark.parametrize("weighted", [False, True])
def test_l1_is_the_reference(n, weighted):
    y, w = rand(5, n, seed=n) * 2, rand(n, seed=n + 1).abs() if weighted else None
    expected = rows(lambda r: l1(r, 1.5, None if w is None else w.numpy()), y)
    torch.testing.assert_close(L1Ball(n, 1.5, w).project(y), expected, rtol=0, atol=1e-11)


@pytest.mark.eq("eq-budget-root")
@pytest.mark.parametrize("n", [1, 2, 10, 300])
def test_budget_is_the_reference(n):
    y, a = rand(5, n, seed=n) * 2, rand(n, seed=n + 1)
    lower, upper = -rand(n, seed=2).abs(), rand(n, seed=3).abs()
    c = float((a * (lower + upper) / 2).sum())
    expected = rows(lambda r: budget(r, lower.numpy(), upper.numpy(), a.numpy(), c), y)
    torch.testing.assert_close(BoxBudget(lower, upper, a, c).project(y), expected, rtol=0, atol=1e-10)


@pytest.mark.eq("eq-affine-projection")
def test_affine_is_least_squares():
    y, b = rand(5, N), rand(2, seed=5)
    expected = rows(lambda r: affine(r, A.numpy(), b.numpy()), y)
    torch.testing.assert_close(Affine(A, b).project(y), expected, rtol=0, atol=1e-13)


@pytest.mark.eq("eq-box-projection")
def test_box_clips():
    y = torch.tensor([-3.0, 0.25, 3.0])
    assert Box(-1.0, torch.tensor([1.0, 1.0, 2.0])).project(y).tolist() == [-1.0, 0.25, 2.0]


@every_set
@pytest.mark.eq("eq-gap")
def test_the_certificate_is_zero_at_the_projection_and_only_there(name):
    s, y = SETS[name], 2 * rand(20, N, seed=6)
    x, info = s.project(y, return_info=True)
    assert bool(info.converged.all())
    assert float(info.gap.abs().max()) < 1e-13
    other = s.sample(20, generator=torch.Generator().manual_seed(0)).double()
    assert bool((s.gap(y, other) >= ((x - other) ** 2).sum(-1) - 1e-12).all()), "the gap bounds the squared error"


@every_set
@pytest.mark.eq("eq-violation")
def test_violation_is_the_largest_row_error(name):
    s = SETS[name]
    assert float(s.violation(s.project(rand(20, N))).max()) < 1e-14
    far = s.violation(10 + rand(20, N) ** 2)
    assert far.shape == (20,) and far.dtype == F64 and bool((far > 0).all())
    assert bool(s.contains(s.project(rand(20, N))).all()) and not bool(s.contains(10 + rand(20, N) ** 2).any())


def test_violation_by_hand():
    x = torch.tensor([0.5, -0.25, 1.5])
    assert float(Box(0.0, 1.0).violation(x)) == 0.5
    assert float(Simplex(3).violation(x)) == 0.75
    assert float(L1Ball(3, 1.0).violation(x)) == 1.25
    assert float(BoxBudget(0.0, 1.0, torch.ones(3), 2.5).violation(x)) == 0.75
    assert float(Affine(torch.ones(1, 3), torch.tensor([0.0])).violation(x)) == 1.75


def test_contains_takes_a_tolerance():
    x = torch.tensor([0.5, 0.501])
    assert not bool(Simplex(2).contains(x)) and bool(Simplex(2).contains(x, atol=2e-3))


# -- the linear oracle  ----------


@pytest.mark.parametrize(
    "name", ["box", "simplex", "l1", "l1-weighted", "budget", "capped-simplex", "budget-half-open"]
)
@pytest.mark.eq("eq-lmo-simplex")
def test_lmo_is_optimal_and_a_member(name):
    s, g = SETS[name], rand(10, N, seed=7)
    if name == "budget-half-open":
        g = g.abs()
    v = s.lmo(g)
    assert bool(s.contains(v).all())
    others = s.sample(500, generator=torch.Generator().manual_seed(1)).double()
    assert bool(((g * v).sum(-1)[:, None] <= g @ others.T + 1e-12).all())


def test_lmo_of_a_budget_is_the_linear_program():
    for seed in range(10):
        g = rand(N, seed=seed)
        ends = torch.stack([LOWER, UPPER], -1).numpy()
        found = linprog(g.numpy(), A_eq=WEIGHTS[None].numpy(), b_eq=[0.1], bounds=ends)
        assert float((g * SETS["budget"].lmo(g)).sum()) == pytest.approx(found.fun, abs=1e-9)


@pytest.mark.parametrize(
    ("s", "g", "ray"),
    [
        (Box(-math.inf, 1.0), [0.0, 1.0], r"-e_1"),
        (Box(0.0, math.inf), [-1.0, 1.0], r"\+e_0"),
        (L1Ball(2, 1.0, torch.tensor([0.0, 1.0])), [2.0, 1.0], r"-e_0"),
        (BoxBudget(0.0, math.inf, torch.tensor([1.0, -1.0]), 0.0), [-1.0, 0.0], r"1 e_0 \+ 1 e_1"),
        (BoxBudget(-math.inf, math.inf, torch.tensor([1.0, 0.0]), 0.0), [0.0, 3.0], r"-e_1"),
        (Affine(torch.tensor([[1.0, 0.0]]), torch.tensor([1.0])), [0.0, 1.0], r"\[-?0.0, -1.0\]"),
    ],
)
def test_lmo_names_the_ray(s, g, ray):
    with pytest.raises(SolveError, match=f"unbounded.*along {ray}"):
        s.lmo(torch.tensor(g))


def test_lmo_without_bounds_where_it_is_bounded():
    s = BoxBudget(-math.inf, math.inf, torch.tensor([1.0, 2.0]), 4.0)
    v = s.lmo(torch.tensor([0.5, 1.0]))
    assert float(s.violation(v)) == 0.0
    s = Affine(torch.tensor([[1.0, 1.0]]), torch.tensor([2.0]))
    torch.testing.assert_close(s.lmo(torch.tensor([3.0, 3.0])), torch.tensor([1.0, 1.0]))


# -- members  ----------


@every_set
def test_samples_are_members_of_full_support_and_repeat(name):
    s = SETS[name]
    x = s.sample(7, 3, generator=torch.Generator().manual_seed(3))
    assert x.shape == (7, 3, N) and bool(s.contains(x).all())
    assert torch.equal(x, s.sample(7, 3, generator=torch.Generator().manual_seed(3)))
    assert not torch.equal(x, s.sample(7, 3, generator=torch.Generator().manual_seed(4)))
    free = s.face_project(x.double(), rand(7, 3, N))
    assert bool((free.abs() > 0).all()), "a sample lies on no bound, so every coordinate can move"


def test_a_box_of_numbers_needs_a_dimension_to_sample():
    with pytest.raises(ValueError, match="dim=n"):
        Box(0.0, 1.0).sample(3)
    assert Box(0.0, 1.0, dim=4).sample(3).shape == (3, 4)


# -- shapes, dtypes, devices  ----------


@every_set
@devices
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_dtype_and_device_of_the_input_are_kept(name, dtype, device):
    s = SETS[name].to(device, torch.float64 if dtype == torch.float64 else torch.float32)
    y = (2 * rand(9, N)).to(device, dtype).requires_grad_()
    x = s.project(y)
    assert x.dtype == dtype and x.device.type == device
    exact = SETS[name].project(y.detach().double().cpu())
    tolerance = 40 * torch.finfo(dtype).eps
    torch.testing.assert_close(x.double().cpu(), exact, rtol=tolerance, atol=tolerance)
    x.sum().backward()
    assert y.grad.dtype == dtype


@every_set
def test_float32_is_feasible_to_its_own_rounding(name):
    s = SETS[name].to(torch.float32)
    y = 100 * rand(200, N).float()
    x, info = s.project(y, return_info=True)
    assert bool(info.converged.all()) and bool(s.contains(x).all())


@pytest.mark.parametrize("n", [10, 1000, 10000])
def test_float32_sums_are_right_in_float64(n):
    y = rand(8, n).float()
    for s in (Simplex(n, 3.0), L1Ball(n, 3.0), BoxBudget(0.0, 1.0, torch.ones(n), 3.0)):
        total = s.project(y).double().abs().sum(-1)
        assert float((total - 3).abs().max()) < 1e-6


def test_autocast_is_computed_in_float32():
    s = L1Ball(8, torch.tensor(1.0))
    y = rand(3, 8).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(s.project(y), s.project(y))
        half = s.project(y.bfloat16())
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, s.project(y.bfloat16().float()).bfloat16()), "float32 data serve half precision input"


@every_set
def test_empty_batches_and_strides(name):
    s = SETS[name]
    assert s.project(torch.zeros(0, N, dtype=F64)).shape == (0, N)
    assert s.project(torch.zeros(2, 0, N, dtype=F64), return_info=True)[0].shape == (2, 0, N)
    y = rand(N, 5, 4).permute(2, 1, 0)
    assert not y.is_contiguous()
    torch.testing.assert_close(s.project(y), s.project(y.contiguous()))


PER_SAMPLE = {
    "simplex": lambda d: Simplex(N, d["r"]),
    "l1": lambda d: L1Ball(N, d["r"]),
    "l1-weighted": lambda d: L1Ball(N, d["r"], d["w"]),
    "box": lambda d: Box(-d["w"], d["w"] + 1),
    "budget": lambda d: BoxBudget(-d["w"], d["w"] + 1, d["w"], d["r"] * 0.1),
    "affine": lambda d: Affine(d["A"], d["b"]),
}


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_data_per_sample_broadcast(name):
    B = 4
    data = {
        "r": rand(B).abs() + 0.1,
        "w": rand(B, N, seed=1).abs(),
        "A": rand(B, 2, N, seed=2),
        "b": rand(B, 2, seed=3),
    }
    y = rand(B, N, seed=4)
    got = PER_SAMPLE[name](data).project(y)
    one = torch.stack([PER_SAMPLE[name]({k: v[i] for k, v in data.items()}).project(y[i]) for i in range(B)])
    torch.testing.assert_close(got, one, rtol=0, atol=1e-13)
    shared = PER_SAMPLE[name](data).project(y[0])
    assert shared.shape == (B, N), "one input meets the data of every sample"
    outer = PER_SAMPLE[name](data).project(rand(3, B, N, seed=5))
    assert outer.shape == (3, B, N)


# -- edges  ----------


def test_sets_that_are_a_point():
    y = torch.tensor([[3.0, -1.0], [0.0, 0.0]], requires_grad=True)
    for s in (Simplex(2, 0.0), L1Ball(2, 0.0), Simplex(2, torch.zeros(2)), L1Ball(2, 0.0, torch.ones(2))):
        for element in ("lowest", "highest"):
            x, info = s.project(y, return_info=True, element=element)
            assert x.abs().sum() == 0 and bool(info.converged.all())
            assert torch.autograd.grad(x.sum(), y)[0].abs().sum() == 0


def test_one_coordinate():
    y = torch.tensor([[-2.0], [0.25], [5.0]])
    assert Simplex(1, 2.0).project(y).flatten().tolist() == [2.0, 2.0, 2.0]
    assert L1Ball(1, 1.0).project(y).flatten().tolist() == [-1.0, 0.25, 1.0]
    assert BoxBudget(0.0, 4.0, torch.tensor([2.0]), 3.0).project(y).flatten().tolist() == [1.5, 1.5, 1.5]


def test_weight_zero_leaves_a_coordinate_free():
    y = torch.tensor([7.0, 2.0, -2.0], requires_grad=True)
    x = L1Ball(3, 1.0, torch.tensor([0.0, 1.0, 1.0])).project(y)
    assert x.tolist() == [7.0, 0.5, -0.5]
    torch.testing.assert_close(
        torch.autograd.grad(x, y, torch.tensor([1.0, 1.0, 0.0]))[0], torch.tensor([1.0, 0.5, 0.5])
    )
    assert L1Ball(3, 1.0, 0.0).project(y).tolist() == y.tolist()
    assert L1Ball(3, 0.0, torch.tensor([0.0, 1.0, 1.0])).project(y).tolist() == [7.0, 0.0, 0.0]


@pytest.mark.parametrize("scale", [1e30, 1e-30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_and_tiny_inputs(scale, dtype):
    y = (rand(10, 5) * scale).to(dtype)
    w, ones = torch.tensor([0.5, 1.0, 2.0, 3.0, 0.25], dtype=dtype), torch.ones(5, dtype=dtype)
    for s in (Simplex(5), L1Ball(5), L1Ball(5, 1.0, w), BoxBudget(0.0, 1.0, ones, 2.5), BoxBudget(-1.0, 1.0, -w, 0.5)):
        x, info = s.project(y, return_info=True)
        assert bool(info.converged.all()), (repr(s), info.summary())
        assert bool(s.contains(x).all())
    for s in (Simplex(5, scale), L1Ball(5, scale), L1Ball(5, scale, w), BoxBudget(-scale, scale, w, scale / 2)):
        x = s.project(y)
        unit = s.with_data(
            **{k: v / scale for k, v in vars(s).items() if k in s.ranks and k != "weights" and v is not None}
        )
        torch.testing.assert_close(x / scale, unit.project(y / scale), rtol=1e-5, atol=1e-5)


def test_budget_with_nothing_left_to_balance():
    s = BoxBudget(0.0, 1.0, torch.tensor([1.0, 1.0, 0.0]), torch.tensor(2.0, requires_grad=True))
    y = torch.tensor([3.0, -5.0, 0.5], requires_grad=True)
    x = s.project(y)
    assert x.tolist() == [1.0, 1.0, 0.5]
    gy, gc = torch.autograd.grad(x, (y, s.budget), torch.ones(3))
    assert gy.tolist() == [0.0, 0.0, 1.0] and float(gc) == 0.0


def test_budget_that_the_bounds_fix():
    s = BoxBudget(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0]), 2.5)
    y = torch.tensor([9.0, 9.0], requires_grad=True)
    for element in ("lowest", "highest"):
        x = s.project(y, element=element)
        assert x.tolist() == [0.5, 2.0]
        assert torch.autograd.grad(x.sum(), y)[0].tolist() == [0.0, 0.0]


def test_box_where_both_bounds_agree():
    y = torch.tensor([0.5, 1.0, 3.0], requires_grad=True)
    for element in ("lowest", "highest"):
        x = Box(1.0, torch.tensor([1.0, 1.0, 2.0])).project(y, element=element)
        assert x.tolist() == [1.0, 1.0, 2.0]
        assert torch.autograd.grad(x.sum(), y)[0].tolist() == [0.0, 0.0, 0.0]


# -- Affine  ----------


def test_dependent_zero_and_badly_scaled_rows():
    base = rand(3, 8, seed=1)
    A = torch.cat([base, base[:1] * 1e8 - base[1:2], torch.zeros(1, 8, dtype=F64), base[2:] * 1e-9])
    b = A @ rand(8, seed=2)
    y = rand(5, 8, seed=3)
    x, info = Affine(A, b).project(y, return_info=True)
    assert bool(info.converged.all())
    torch.testing.assert_close(x, Affine(base, b[:3]).project(y), rtol=0, atol=1e-10)


def test_rows_of_any_length_weigh_alike():
    base, b, y = rand(3, 8, seed=1), rand(3, seed=2), rand(5, 8, seed=3)
    length = torch.tensor([1.0, 1e-20, 1e12], dtype=F64)
    s = Affine(length[:, None] * base, length * b)
    torch.testing.assert_close(s.project(y), Affine(base, b).project(y), rtol=0, atol=1e-12)


def test_inconsistent_rows_are_an_empty_set_with_a_certificate():
    A = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0], [1.0, 3.0, 1.0]], dtype=F64)
    b = torch.tensor([[1.0, 1.0, 2.0], [1.0, 1.0, 2.5]], dtype=F64)
    with pytest.raises(SolveError, match=r"empty.*batch index \[1\]") as caught:
        Affine(A, b).project(rand(2, 3))
    w = caught.value.certificate
    assert float((A.T @ w).abs().max()) < 1e-14 and abs(float(b[1] @ w)) > 0.1
    with pytest.raises(ValueError, match="empty"):
        Affine(torch.zeros(1, 3), torch.tensor([1.0])).project(torch.zeros(3))


def test_the_factor_is_never_stale():
    A = torch.nn.Parameter(rand(2, N))
    s, y = Affine(A, rand(2, seed=1)), rand(3, N, seed=2)
    s.project(y)
    with torch.no_grad():
        A[0] += 1
    torch.testing.assert_close(s.project(y), Affine(A.detach().clone(), s.b).project(y), rtol=0, atol=1e-14)
    other = s.with_data(A=rand(2, N, seed=9))
    torch.testing.assert_close(other.project(y), Affine(rand(2, N, seed=9), s.b).project(y), rtol=0, atol=1e-14)
    torch.testing.assert_close(s.project(y), Affine(A.detach().clone(), s.b).project(y), rtol=0, atol=1e-14)


def test_the_factor_is_kept_while_the_rows_stay(monkeypatch):
    import lablib.sets

    count, original = [], lablib.sets._row_factor
    monkeypatch.setattr(lablib.sets, "_row_factor", lambda rows: count.append(1) or original(rows))
    s = Affine(rand(2, N), rand(2))
    for b in range(3):
        s.with_data(b=rand(2, seed=b)).project(rand(3, N))
    assert len(count) == 1


# -- arguments  ----------


@pytest.mark.parametrize(
    "s", [Simplex(60, 20.0), L1Ball(60, 20.0), L1Ball(60, 20.0, torch.linspace(1, 2, 60, dtype=F64))]
)
def test_max_steps_caps_the_search(s):
    y = rand(3, 60) ** 3
    exact, full = s.project(y, return_info=True, max_steps=100)
    assert bool(full.converged.all()) and int(full.iterations.max()) > 1
    short, info = s.project(y, return_info=True, strict=False, max_steps=1)
    assert not bool(info.converged.all()) and int(info.iterations.max()) == 1 and not torch.allclose(short, exact)
    torch.testing.assert_close(exact, s.project(y), rtol=0, atol=1e-12)
    with pytest.raises(SolveError, match="max_steps"):
        s.project(y, max_steps=1)


def test_max_steps_caps_the_search_for_a_budget():
    s, y = SETS["budget"], 3 * rand(20, N, seed=8)
    with pytest.raises(SolveError, match="missed its tolerance"):
        s.project(y, max_steps=1)
    torch.testing.assert_close(s.project(y, max_steps=50), s.project(y))


def test_tol_decides_what_is_accepted():
    s, y = Simplex(60, 20.0), rand(60) ** 3
    with pytest.raises(SolveError):
        s.project(y, max_steps=1, tol=1e-9)
    assert s.project(y, max_steps=1, tol=1e9).shape == (60,)


def test_tol_decides_which_dependent_rows_agree():
    A, y = torch.ones(2, 3, dtype=F64), rand(3)
    b = torch.tensor([1.0, 1.0 + 1e-6], dtype=F64)
    with pytest.raises(SolveError, match="empty"):
        Affine(A, b).project(y)
    assert Affine(A, b).project(y, tol=1e-4).shape == (3,)


def test_strict_false_returns_the_info():
    x, info = Simplex(3).project(rand(3), strict=False)
    assert x.shape == (3,) and bool(info.converged)


@pytest.mark.parametrize(
    ("s", "y", "lowest", "highest"),
    [
        (Box(0.0, 1.0), [0.0, 0.5, 1.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0]),
        (Simplex(3), [1.0, 0.0, -1.0], [0.0, 0.0, 0.0], [0.5, -0.5, 0.0]),
        (L1Ball(3), [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]),
        (L1Ball(3, 1.0, torch.ones(3)), [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]),
        (L1Ball(3), [2.0, -1.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.5, 0.0]),
        (BoxBudget(0.0, 2.0, torch.ones(3), 2.0), [2.0, 0.0, -1.0], [0.0, 0.0, 0.0], [0.5, -0.5, 0.0]),
    ],
)
def test_element_chooses_at_a_kink(s, y, lowest, highest):
    v = torch.tensor([1.0, 0.0, 0.0]) if not isinstance(s, Box) else torch.ones(3)
    for element, expected in (("lowest", lowest), ("highest", highest)):
        t = torch.tensor(y, requires_grad=True)
        assert torch.autograd.grad(s.project(t, element=element), t, v)[0].tolist() == expected


# -- objects  ----------


def test_repr_reads_like_the_constructor():
    assert repr(Simplex(3)) == "Simplex(3, total=1.0)"
    assert repr(L1Ball(3, torch.tensor(2.5))) == "L1Ball(3, radius=2.5, weights=None)"
    assert repr(Box(0.0, torch.ones(4))) == "Box(lower=0.0, upper=tensor(4,))"
    assert repr(Affine(torch.ones(2, 3), 1.0)) == "Affine(A=tensor(2, 3), b=1.0)"


@every_set
def test_with_data_and_to(name):
    s = SETS[name]
    assert s.to(torch.float32).project(rand(N).float()).dtype == torch.float32
    for key, value in s.data().items():
        changed = s.with_data(**{key: value * 1.0})
        torch.testing.assert_close(changed.project(rand(N)), s.project(rand(N)))
    with pytest.raises(TypeError, match="no data named hue"):
        s.with_data(hue=1.0)


@pytest.mark.parametrize("tilt", [1e-3, 1e-6, 1e-8, 1e-10, 1e-12])
def test_affine_rows_that_nearly_agree_are_met_to_rounding(tilt):
    """Forming A A' would square the condition: a factor of it fails from a tilt of 1e-8 on."""
    rows = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, tilt]], dtype=torch.float64)
    s = Affine(rows, rows @ torch.tensor([0.5, 0.5, 1.0], dtype=torch.float64))
    y = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, info = s.project(y, return_info=True)
    assert s.violation(x).max() < 1e-14
    assert bool(info.converged.all()) and not info.gap.any()
    # The rows pin x_3 and the sum; the difference of the other two must not move, up to rounding times the condition.
    assert ((x[:, 0] - x[:, 1]) - (y[:, 0] - y[:, 1])).abs().max() < 10 * torch.finfo(x.dtype).eps / tilt
