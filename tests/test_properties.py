"""What holds for every projection on every set, whatever the numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lablib import Affine, Box, BoxBudget, L1Ball, Simplex

# torch's forward mode decorates its formulas with torch.jit.script when it is first used, and warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

F64 = torch.float64


def rand(*shape, seed=0):
    return torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def make(kind, n, seed):
    """A set of one kind with random data."""
    lower = -rand(n, seed=seed).abs()
    upper, w = rand(n, seed=seed + 1).abs(), rand(n, seed=seed + 2)
    if kind == "box":
        return Box(lower, upper)
    if kind == "simplex":
        return Simplex(n, float(upper[0]))
    if kind == "l1":
        return L1Ball(n, float(upper[0]))
    if kind == "l1-weighted":
        return L1Ball(n, float(upper[0]), w.abs())
    if kind == "budget":
        inside = lower + (upper - lower) * torch.rand(n, dtype=F64, generator=torch.Generator().manual_seed(seed))
        return BoxBudget(lower, upper, w, float((w * inside).sum()))
    rows = rand(max(1, n // 2), n, seed=seed)
    return Affine(rows, rows @ w)


def scaled(s, factor):
    """{factor x : x in s}"""
    keep = ("weights", "A")
    data = {k: v if k in keep else v * factor for k, v in vars(s).items() if k in s.ranks and v is not None}
    return s.with_data(**data)


cases = given(
    kind=st.sampled_from(["box", "simplex", "l1", "l1-weighted", "budget", "affine"]),
    n=st.sampled_from([1, 2, 3, 7, 40]),
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([1e-3, 0.3, 1.0, 10.0, 1e4]),
)
few = settings(max_examples=60)


@few
@cases
def test_the_answer_is_feasible_certified_and_stays(kind, n, seed, scale):
    s, y = make(kind, n, seed), scale * rand(6, n, seed=seed + 3)
    x, info = s.project(y, return_info=True)
    size = float(y.abs().max()) + float(x.abs().max())
    assert bool(s.contains(x).all()) and bool(info.converged.all())
    assert float(info.gap.max()) <= 1e-12 * n * (1 + size) * size
    torch.testing.assert_close(s.project(x), x, rtol=0, atol=1e-13 * n * (1 + size))


@few
@cases
def test_two_answers_are_no_farther_apart_than_the_questions(kind, n, seed, scale):
    s = make(kind, n, seed)
    a, b = scale * rand(6, n, seed=seed + 3), scale * rand(6, n, seed=seed + 4)
    before, after = (a - b).norm(dim=-1), (s.project(a) - s.project(b)).norm(dim=-1)
    assert bool((after <= before * (1 + 1e-12) + 1e-14).all())


@few
@cases
def test_the_jacobian_is_an_orthogonal_projector(kind, n, seed, scale):
    s, y = make(kind, n, seed), scale * rand(n, seed=seed + 3)
    for element in ("lowest", "highest"):
        J = torch.autograd.functional.jacobian(lambda t, e=element: s.project(t, element=e), y)
        torch.testing.assert_close(J, J.T, rtol=0, atol=1e-10)
        torch.testing.assert_close(J @ J, J, rtol=0, atol=1e-10)
        eigenvalues = torch.linalg.eigvalsh(J)
        assert float(torch.minimum(eigenvalues.abs(), (eigenvalues - 1).abs()).max()) < 1e-9


@few
@cases
def test_backward_and_forward_mode_are_the_same_product(kind, n, seed, scale):
    s, y, v = make(kind, n, seed), scale * rand(4, n, seed=seed + 3), rand(4, n, seed=seed + 5)
    x, pull = torch.func.vjp(s.project, y)
    again, pushed = torch.func.jvp(s.project, (y,), (v,))
    assert torch.equal(x, again)
    torch.testing.assert_close(pull(v)[0], pushed, rtol=0, atol=1e-13)
    torch.testing.assert_close(s.face_project(x, s.face_project(x, v)), s.face_project(x, v), rtol=0, atol=1e-11)


@few
@cases
def test_a_batch_is_a_loop(kind, n, seed, scale):
    s, y = make(kind, n, seed), scale * rand(5, n, seed=seed + 3)
    loop = torch.stack([s.project(row) for row in y])
    torch.testing.assert_close(s.project(y), loop, rtol=0, atol=1e-12 * (1 + scale))


@few
@cases
def test_a_scaled_set_scales_the_answer(kind, n, seed, scale):
    s, y = make(kind, n, seed), rand(5, n, seed=seed + 3)
    torch.testing.assert_close(scaled(s, scale).project(scale * y) / scale, s.project(y), rtol=0, atol=1e-11)


@settings(max_examples=40)
@given(
    rows=st.lists(
        st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0]), min_size=4, max_size=4), min_size=1, max_size=4
    )
)
def test_ties_and_boundaries_are_feasible_and_certified(rows):
    y = torch.tensor(rows, dtype=F64)
    ones = torch.ones(4, dtype=F64)
    for s in (Simplex(4), L1Ball(4), L1Ball(4, 1.0, ones), BoxBudget(0.0, 1.0, ones, 2.0), Box(0.0, 1.0)):
        for element in ("lowest", "highest"):
            x, info = s.project(y, return_info=True, element=element)
            assert bool(s.contains(x).all()) and float(info.gap.max()) <= 1e-14


@pytest.mark.parametrize("kind", ["simplex", "l1", "budget"])
def test_the_derivative_integrates_to_the_difference_along_a_path(kind):
    s, a, b = make(kind, 5, 3), 2 * rand(5, seed=1), 2 * rand(5, seed=2)
    t = ((torch.arange(20000, dtype=F64) + 0.5) / 20000).unsqueeze(-1)
    path = a + t * (b - a)
    for element in ("lowest", "highest"):
        _, speed = torch.func.jvp(lambda y, e=element: s.project(y, element=e), (path,), ((b - a).expand_as(path),))
        torch.testing.assert_close(speed.mean(0), s.project(b) - s.project(a), rtol=0, atol=5e-4)
