"""The doubly stochastic matrices against the general polyhedron, an assignment solver and a pseudo-inverse."""

import copy

import numpy as np
import pytest
import torch
from polyhedra import rand
from scipy.optimize import linear_sum_assignment, linprog
from torch.autograd import gradcheck, gradgradcheck

from lablib import Birkhoff, Polyhedron, ProjectionLayer, SolveError, matrix_sets

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
F64 = torch.float64
SCALES = (0.1, 1.0, 10.0, 1000.0)


def as_polyhedron(n):
    eye, one = torch.eye(n, dtype=F64), torch.ones(1, n, dtype=F64)
    return Polyhedron(torch.cat([torch.kron(eye, one), torch.kron(one, eye)]), 1.0, lower=0.0)


def face_projector(X):
    """By a pseudo-inverse of the sums and of the entries held at 0."""
    n = len(X)
    eye, one = np.eye(n), np.ones((1, n))
    rows = np.vstack([np.kron(eye, one), np.kron(one, eye), np.eye(n * n)[X.ravel() == 0]])
    return np.eye(n * n) - np.linalg.pinv(rows) @ rows


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("n", "batch"), [(1, 2), (2, 20), (4, 4096), (10, 64), (32, 8), (256, 1)])
def test_every_sample_is_feasible_and_certified(n, batch, scale):
    y = scale * rand(batch, n, n, seed=n)
    X = Birkhoff(n).project(y)
    assert float(X.min()) >= 0
    assert float((X.sum(-1) - 1).abs().max()) < 1e-12 and float((X.sum(-2) - 1).abs().max()) < 1e-12
    for one, matrix in list(zip(y.numpy(), X.numpy(), strict=True))[:20]:  # no permutation lies farther along y - X
        normal = one - matrix
        row, column = linear_sum_assignment(-normal)
        assert normal[row, column].sum() - (normal * matrix).sum() < 1e-10 * n * (1 + scale)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_it_is_the_polyhedron_it_says_it_is(n):
    for y in (2 * rand(20, n, n, seed=n), torch.randint(-2, 3, (20, n, n)).double(), torch.eye(n, dtype=F64)[None] * 3):
        expected = as_polyhedron(n).project(y.flatten(-2)).reshape(y.shape)
        torch.testing.assert_close(Birkhoff(n).project(y), expected, rtol=0, atol=1e-10)


def test_inputs_near_a_permutation_and_with_ties():
    for n in (4, 16, 64):
        near = torch.eye(n, dtype=F64)[torch.randperm(n)] + 1e-3 * rand(4, n, n, seed=n)
        ties = torch.randint(-2, 3, (4, n, n)).double()
        for y in (near, ties, 1e6 * ties, torch.zeros(1, n, n, dtype=F64)):
            X = Birkhoff(n).project(y)
            assert float(Birkhoff(n).violation(X).max()) < 1e-9
            assert float(Birkhoff(n).gap(y, X).abs().max()) < 1e-9 * (1 + float(y.abs().max())) * n


@pytest.mark.eq("eq-face-birkhoff")
@pytest.mark.parametrize("n", [1, 3, 6])
@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
def test_the_product_is_the_projector_of_a_pseudo_inverse(n, scale):
    y, v = (scale * rand(6, n, n, seed=n)).requires_grad_(), rand(6, n, n, seed=9)
    X = Birkhoff(n).project(y)
    u = torch.autograd.grad(X, y, v)[0]
    again = Birkhoff(n).face_project(X.detach(), v)
    for i, matrix in enumerate(X.detach().numpy()):
        expected = (face_projector(matrix) @ v[i].numpy().ravel()).reshape(n, n)
        np.testing.assert_allclose(u[i].numpy(), expected, rtol=0, atol=1e-10)
        np.testing.assert_allclose(again[i].numpy(), expected, rtol=0, atol=1e-10)


def test_a_long_path_of_entries_is_projected_exactly():
    """The graph with the smallest eigenvalue: a bidiagonal support, rounded up by its corner."""
    n = 24
    X = 0.5 * (torch.eye(n, dtype=F64) + torch.eye(n, dtype=F64).roll(1, 0))
    X[0, n - 1], X[0, 0], X[1, 0] = 0.0, 1.0, 0.0
    X = torch.where(X > 0, X, 0.0)
    v = rand(n, n, seed=1)
    np.testing.assert_allclose(
        Birkhoff(n).face_project(X, v).numpy().ravel(), face_projector(X.numpy()) @ v.numpy().ravel(), rtol=0, atol=1e-8
    )


def test_derivatives_of_both_modes_and_orders():
    s, y = Birkhoff(3), rand(2, 3, 3, seed=4).requires_grad_()
    gradcheck(s.project, y, check_forward_ad=True, check_batched_grad=True)
    gradgradcheck(s.project, y)
    y = y.detach()
    J = torch.func.jacrev(s.project)(y[0]).reshape(9, 9)
    torch.testing.assert_close(torch.func.jacfwd(s.project)(y[0]).reshape(9, 9), J, rtol=0, atol=1e-12)
    torch.testing.assert_close(J @ J, J, rtol=0, atol=1e-10)
    torch.testing.assert_close(torch.vmap(s.project)(y), s.project(y))
    torch.testing.assert_close(torch.vmap(torch.func.jacrev(s.project))(y)[0].reshape(9, 9), J, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.compile(s.project, backend="eager")(y), s.project(y))


@pytest.mark.parametrize("element", ["lowest", "highest"])
def test_the_derivative_integrates_along_a_path(element):
    s, a, b = Birkhoff(4), 2 * rand(4, 4, seed=1), 2 * rand(4, 4, seed=2)
    t = ((torch.arange(4000, dtype=F64) + 0.5) / 4000).reshape(-1, 1, 1)
    path = (a + t * (b - a)).requires_grad_()
    X, v = s.project(path, element=element), rand(4, 4, seed=3)
    assert len({tuple(m.flatten().tolist()) for m in X.detach() > 0}) >= 4
    slope = (torch.autograd.grad(X, path, v.expand_as(X))[0] * (b - a)).sum((-2, -1)).mean()
    torch.testing.assert_close(slope, ((s.project(b) - s.project(a)) * v).sum(), rtol=0, atol=2e-3)


def test_the_highest_element_frees_entries_without_a_multiplier():
    def rank(element, y):
        J = torch.autograd.functional.jacobian(lambda t: Birkhoff(3).project(t, element=element), y).reshape(9, 9)
        torch.testing.assert_close(J @ J, J, rtol=0, atol=1e-9)
        return int(torch.linalg.matrix_rank(J))

    # The projection meets zeros without pushing: y is already doubly stochastic.
    inside = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]], dtype=F64)
    assert rank("lowest", inside) == 1 and rank("highest", inside) == 4


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_the_highest_element_is_an_extreme_multiplier(pieces):
    """By a linear program: prices exist that push on no freed entry, and the rows of the others are independent."""
    n = 5
    blocks = torch.block_diag(*(torch.ones(k, k, dtype=F64) for k in {1: (5,), 2: (2, 3), 5: (1,) * 5}[pieces]))
    y = 3 * blocks + 0.1 * rand(4, n, n, seed=pieces)
    X, (free, _), _ = Birkhoff(n).solve(y, element="highest")
    eye, one = np.eye(n), np.ones((1, n))
    rows = np.vstack([np.kron(eye, one), np.kron(one, eye)])  # row sums, column sums
    for point, matrix, mask in zip(y.numpy(), X.numpy(), free.numpy().ravel().reshape(4, -1) > 0, strict=True):
        normal = (point - matrix).ravel()
        assert mask[matrix.ravel() > 0].all()
        assert np.linalg.matrix_rank(rows[:, mask]) == 2 * n - 1, "the rows that hold are independent"
        noise = 1e-8
        found = linprog(
            np.zeros(2 * n),
            np.vstack([-rows.T, rows.T[mask]]),
            np.concatenate([noise - normal, noise + normal[mask]]),
            bounds=(None, None),
        )
        assert found.status == 0, "prices that explain y - X"


def test_batches_dtypes_and_copies():
    s, y = Birkhoff(4), rand(2, 3, 4, 4, seed=1)
    X = s.project(y)
    loop = torch.stack([s.project(one) for one in y.flatten(0, 1)]).reshape(y.shape)
    torch.testing.assert_close(X, loop, rtol=0, atol=1e-12)
    assert torch.equal(s.project(y.float()), s.project(y.float().double()).float())
    assert s.project(y.half()).dtype is torch.float16 and s.project(y[:0]).shape == (0, 3, 4, 4)
    assert torch.equal(copy.deepcopy(ProjectionLayer(s))(y), X)
    x, info = s.project(y, return_info=True)
    assert bool(info.converged.all()) and info.residual.shape == (2, 3) and float(info.gap.max()) < 1e-12
    assert bool(s.contains(x).all()) and not bool(s.contains(x + 1e-3).any())


def test_limits_are_said():
    s, y = Birkhoff(10), 10 * rand(4, 10, 10)
    x, info = s.project(y, max_steps=1, strict=False)
    assert not bool(info.converged.all()) and int(info.iterations.max()) == 1
    with pytest.raises(SolveError, match="missed its tolerance"):
        s.project(y, max_steps=1)
    assert torch.equal(s.project(y, max_steps=1, tol=float(info.residual.max()) + 1e-9), x)


def test_oracles():
    s, g = Birkhoff(5), rand(3, 5, 5)
    P = s.lmo(g)
    assert bool(((P == 0) | (P == 1)).all()) and float(s.violation(P).max()) == 0
    assert bool(((g * P).sum((-2, -1)) <= (g * s.sample(3)).sum((-2, -1))).all())
    x = s.sample(20, generator=torch.Generator().manual_seed(0))
    assert x.shape == (20, 5, 5) and float(x.min()) > 0 and bool(s.contains(x).all())
    assert torch.equal(x, s.sample(20, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Birkhoff(0), r"size is 0: expected at least 1"),
        (lambda: Birkhoff(3).project(torch.zeros(3)), r"y has shape \(3,\): expected matrices, \(..., 3, 3\)"),
        (lambda: Birkhoff(3).project(torch.zeros(2, 3)), r"y has shape \(2, 3\): expected matrices"),
        (lambda: Birkhoff(3).project(torch.zeros(3, 4)), r"y has shape \(3, 4\)"),
        (lambda: Birkhoff(2).project(torch.tensor([[0.0, float("nan")], [0.0, 0.0]])), r"y\[0, 1\] is nan"),
    ],
)
def test_bad_input_is_named(build, says):
    with pytest.raises(ValueError, match=says):
        build()
    with pytest.raises(TypeError, match="size is a float: expected an integer"):
        Birkhoff(3.0)


@pytest.mark.parametrize("together", [1, 1 << 16])
@pytest.mark.parametrize("length", [1, 8])
def test_a_step_gains_half_of_the_best_one(length, together, monkeypatch):
    """Along steps short and far too long; with samples that leave and, as on a card, without; one share or seven."""
    monkeypatch.setattr(matrix_sets, "looks_every", lambda device: length)
    monkeypatch.setattr(matrix_sets, "TOGETHER", together)
    Y, prices = rand(24, 8, 8, seed=1), rand(24, 16, seed=2)
    excess = matrix_sets._excess(Y, prices)[1]
    d = excess * torch.logspace(-2, 3, 24, dtype=F64).unsqueeze(-1)
    new, *after = matrix_sets._line_search(Y, prices, d, excess, torch.zeros(24, dtype=F64))
    for value, expected in zip(after, matrix_sets._excess(Y, new), strict=True):
        torch.testing.assert_close(value, expected)

    def dual(p):
        return (Y - p[:, :8, None] - p[:, None, 8:]).clamp(min=0).square().sum((-2, -1)) / 2 + p.sum(-1)

    shares = torch.cat([torch.logspace(-6, 0, 1500, dtype=F64), torch.linspace(0, 1, 500, dtype=F64)])
    best = dual(prices) - torch.stack([dual(prices + t * d) for t in shares]).amin(0)
    taken = ((new - prices) * d).sum(-1) / d.square().sum(-1)
    assert (dual(prices) - dual(new) >= 0.49 * best).all()
    assert (taken > 0.999).any() and (taken < 0.1).any()


@pytest.mark.parametrize("length", [1, 8])
def test_one_matrix_takes_few_looks(length, monkeypatch):
    """Where all samples search, or none may leave, as on a card: the same answers, and alone after a few turns."""
    looks, excess = [], matrix_sets._excess
    matrices = [rand(20, n, n, seed=n) for n in (4, 10, 30)]
    answers = [Birkhoff(y.shape[-1]).project(y) for y in matrices]
    monkeypatch.setattr(matrix_sets, "looks_every", lambda device: length)
    monkeypatch.setattr(matrix_sets, "_excess", lambda Y, p: looks.append(len(Y)) or excess(Y, p))
    for y, x in zip(matrices, answers, strict=True):
        s = Birkhoff(y.shape[-1])
        torch.testing.assert_close(s.project(y), x, rtol=0, atol=1e-12)
        for one, expected in zip(y, x, strict=True):
            looks.clear()
            torch.testing.assert_close(s.project(one), expected, rtol=0, atol=1e-12)
            assert length > 1 or len(looks) < 20
