"""One point at a time: the arrays' answer is the batch's, and where they leave a doubt the batch's search answers.

That the batch's answers are right is for ``test_polyhedron.py`` to say; it also projects every kind alone.
"""

import pytest
import torch
from polyhedra import KINDS, problem, rand, sample

from lablib import Polyhedron, ProjectionLayer, SolveError, check_jacobian, single

F64 = torch.float64


@pytest.fixture
def answers(monkeypatch):
    """Whether the arrays answered, call by call."""
    given, project = [], single.project

    def noted(s, y):
        found = project(s, y)
        given.append(found is not None)
        return found

    monkeypatch.setattr(single, "project", noted)
    return given


def product(s, y, v, **options):
    y = y.clone().requires_grad_()
    x = s.project(y, **options)
    return x.detach(), torch.autograd.grad(x, y, v)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_one_point_is_answered_as_in_a_batch(kind):
    for seed in range(5):
        s, y = problem(kind, seed)
        v = rand(*y.shape, seed=seed + 50)
        x, u = product(s, y, v)
        for i in range(len(y)):
            alone = product(sample(s, i), y[i], v[i])
            torch.testing.assert_close(alone, (x[i], u[i]), rtol=0, atol=1e-8)
            torch.testing.assert_close(product(sample(s, i), y[i : i + 1], v[i : i + 1])[1][0], u[i], rtol=0, atol=1e-8)


def test_general_position_needs_nothing_else(answers):
    s, y = problem("rows", 3)
    for row in y:
        s.project(row)
    assert len(answers) == len(y) and all(answers)


@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_it_keeps_shape_and_dtype(answers, dtype):
    A, G = rand(2, 7, seed=1), rand(5, 7, seed=2)
    s = Polyhedron(A, 0.0, G, 1.0, lower=-1.0, upper=1.0).to(dtype)
    y = (3 * rand(7, seed=3)).to(dtype)
    for shape in ((7,), (1, 7), (1, 1, 7)):
        x, u = product(s, y.reshape(shape), torch.ones(shape, dtype=dtype))
        assert x.shape == u.shape == shape and x.dtype == u.dtype == dtype
        assert s.violation(x).max() < (1e-12 if dtype is F64 else 1e-6)
    assert all(answers) and len(answers) == 3


def test_bounds_hold_exactly(answers):
    s, y = Polyhedron(rand(2, 6, seed=4), 0.0, lower=-0.1, upper=0.1), rand(6, seed=5)
    x = s.project(y)
    assert answers == [True]
    assert int((x.abs() == 0.1).sum()) >= 2 and bool((x.abs() <= 0.1).all())


def test_no_rows_and_no_row_that_holds(answers):
    y = rand(4, seed=6)
    plane = Polyhedron(torch.ones(1, 4, dtype=F64), 1.0)
    torch.testing.assert_close(plane.project(y), y + (1 - y.sum()) / 4)
    inside = Polyhedron(G=torch.eye(4, dtype=F64), h=10.0)
    assert torch.equal(inside.project(y), y)
    assert torch.equal(product(inside, y, y)[1], y)
    assert all(answers)


@pytest.mark.parametrize(
    ("y", "why"),
    [
        ([2.0, 2.0], "the third row is met without a push"),
        ([2.0, 1.0], "a row touches"),
        ([1e9, 2.5], "a huge y costs digits"),
    ],
)
def test_a_doubt_is_left_to_the_search(answers, y, why):
    G = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=F64)
    s, y = Polyhedron(G=G, h=torch.tensor([1.0, 1.0, 2.0], dtype=F64)), torch.tensor(y, dtype=F64)
    expected = product(s, y.expand(2, 2), torch.ones(2, 2, dtype=F64))
    found = product(s, y, torch.ones(2, dtype=F64))
    assert answers == [False], why
    torch.testing.assert_close(found, tuple(t[0] for t in expected), rtol=0, atol=1e-12)


def test_an_empty_set_is_still_proved_empty(answers):
    s = Polyhedron(G=torch.tensor([[1.0], [-1.0]]), h=torch.tensor([0.0, -1.0]))
    with pytest.raises(SolveError, match="the set is empty"):
        s.project(torch.zeros(1))
    assert answers == [False]


def test_new_data_are_seen():
    G, h, y = rand(4, 3, seed=7), torch.ones(4, dtype=F64), 5 * rand(3, seed=8)
    s = Polyhedron(G=G, h=h)
    s.project(y)
    h.fill_(0.5)
    assert s.violation(s.project(y)) < 1e-12
    G.mul_(3)
    assert s.violation(s.project(y)) < 1e-12


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # inside torch's forward mode
def test_every_way_to_differentiate():
    s, y = problem("rows", 1)
    y = y[0].clone().requires_grad_()
    assert torch.autograd.gradcheck(s.project, y)
    assert torch.autograd.gradgradcheck(s.project, y)
    J = torch.func.jacrev(s.project)(y.detach())
    torch.testing.assert_close(J, torch.func.jacfwd(s.project)(y.detach()), rtol=0, atol=1e-12)
    check_jacobian(ProjectionLayer(s), y.detach())
    h = s.h.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda h: s.with_data(h=h).project(y.detach()), h)
