"""Derivatives of every order and mode, by y and by the data, against differences and against each other."""

import numpy as np
import pytest
import torch
from reference import difference_jacobian, row_projector
from torch.autograd import gradcheck, gradgradcheck

from lablib import Affine, Box, BoxBudget, ConvexSet, L1Ball, Simplex

# torch's forward mode decorates its formulas with torch.jit.script when it is first used, and warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

F64 = torch.float64
B, N = 3, 5


def rand(*shape, seed=0):
    return torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def positive(*shape, seed=0):
    return rand(*shape, seed=seed).abs() + 0.5


LOWER, UPPER, A = -positive(N, seed=1), positive(N, seed=2), rand(2, N, seed=3)
# name: what builds the set from its data, and the data
CASES = {
    "box": (Box, (LOWER, UPPER)),
    "simplex": (lambda t: Simplex(N, t), (positive(B),)),
    "l1": (lambda r: L1Ball(N, r), (positive(B),)),
    "l1-weighted": (lambda r, w: L1Ball(N, r, w), (positive(), positive(N, seed=1))),
    "l1-weighted-batch": (lambda r, w: L1Ball(N, r, w), (positive(B), positive(B, N, seed=1))),
    "budget": (BoxBudget, (LOWER, UPPER, rand(N, seed=4), torch.tensor(0.1, dtype=F64))),
    "budget-batch": (BoxBudget, (LOWER, positive(B, N, seed=2), rand(N, seed=4), 0.1 * positive(B))),
    "affine": (Affine, (A, rand(2, seed=5))),
    "affine-batch": (Affine, (rand(B, 2, N, seed=6), rand(B, 2, seed=5))),
}
Y = 2 * rand(B, N, seed=7)
every_case = pytest.mark.parametrize("name", CASES)


def setting(name):
    build, data = CASES[name]
    inputs = tuple(t.clone().requires_grad_() for t in (Y, *data))
    return lambda y, *data: build(*data).project(y), inputs


@every_case
def test_first_derivatives_by_y_and_data_in_both_modes(name):
    project, inputs = setting(name)
    gradcheck(project, inputs, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)


@every_case
def test_second_derivatives_by_y_and_data(name):
    project, inputs = setting(name)
    gradgradcheck(project, inputs)


@every_case
@pytest.mark.eq("eq-data-cotangent")
def test_the_data_rule_is_the_derivative_of_the_frozen_face(name):
    build, data = CASES[name]
    s, v = build(*data), rand(B, N, seed=8)
    x, active = s.solve_traced(Y, "lowest")
    if name.startswith("affine"):
        x = s.project(Y)
    by_rule = [g.sum_to_size(t.shape) for g, t in zip(s.data_gradient(Y, x, v, active), data, strict=True)]
    by_map = ConvexSet.data_gradient(s, Y, x, v, active)
    for a, b in zip(by_rule, by_map, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@every_case
def test_jacobians_of_both_modes_agree(name):
    project, inputs = setting(name)
    inputs = [t.detach() for t in inputs]
    every = tuple(range(len(inputs)))
    for a, b in zip(
        torch.func.jacrev(project, every)(*inputs), torch.func.jacfwd(project, every)(*inputs), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@every_case
def test_vmap_is_a_loop(name):
    project, (y, *data) = setting(name)
    y, data = y.detach(), [t.detach() for t in data]
    many = torch.stack([y, 0.5 * y, rand(B, N, seed=9)], 1)
    scaled = [torch.stack([t * (1 + 0.05 * rand(*t.shape, seed=i)) for i in range(3)], -1) for t in data]
    out = torch.vmap(project, in_dims=(1, *[None] * len(data)))(many, *data)
    torch.testing.assert_close(out, torch.stack([project(many[:, i], *data) for i in range(3)]))
    out = torch.vmap(project, in_dims=(None, *[-1] * len(data)))(y, *scaled)
    torch.testing.assert_close(out, torch.stack([project(y, *(t[..., i] for t in scaled)) for i in range(3)]))


@every_case
def test_vmap_of_gradients_is_a_loop(name):
    project, (y, *data) = setting(name)
    y, data = y.detach(), [t.detach() for t in data]
    every = tuple(range(len(data) + 1))
    gradient = torch.func.grad(lambda *inputs: project(*inputs).sin().sum(), every)
    many = torch.stack([y, 0.5 * y])
    together = torch.vmap(gradient, in_dims=(0, *[None] * len(data)))(many, *data)
    for i in range(2):
        for a, b in zip(gradient(many[i], *data), together, strict=True):
            torch.testing.assert_close(a, b[i], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "element", "backend"),
    [
        *[(name, "lowest", "eager") for name in ("box", "simplex", "l1", "l1-weighted", "budget", "affine")],
        ("simplex", "highest", "aot_eager"),
        ("affine", "lowest", "aot_eager"),
    ],
)
def test_compiled_in_one_graph_gives_the_same(name, element, backend):
    build, _ = CASES[name]

    def project(y, *data):
        return build(*data).project(y, element=element)

    _, inputs = setting(name)
    torch.compiler.reset()
    compiled = torch.compile(project, fullgraph=True, backend=backend)
    v = rand(B, N, seed=8)
    plain, fast = project(*inputs), compiled(*inputs)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(out, inputs, v) for out in (plain, fast)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


FACES = {
    "box": (Box(LOWER, UPPER), lambda x: np.eye(N)[(x == LOWER.numpy()) | (x == UPPER.numpy())]),
    "simplex": (Simplex(N), lambda x: np.vstack([np.ones(N), np.eye(N)[x == 0]])),
    "l1": (L1Ball(N), lambda x: np.vstack([np.sign(x), np.eye(N)[x == 0]])),
    "l1-weighted": (
        L1Ball(N, 1.0, positive(N, seed=1)),
        lambda x: np.vstack([np.sign(x) * positive(N, seed=1).numpy(), np.eye(N)[x == 0]]),
    ),
    "budget": (
        BoxBudget(LOWER, UPPER, rand(N, seed=4), 0.1),
        lambda x: np.vstack([rand(N, seed=4).numpy(), np.eye(N)[(x == LOWER.numpy()) | (x == UPPER.numpy())]]),
    ),
    "affine": (Affine(A, rand(2, seed=5)), lambda x: A.numpy()),
}


@pytest.mark.parametrize("name", FACES)
@pytest.mark.eq("eq-face-box")
@pytest.mark.eq("eq-face-simplex")
@pytest.mark.eq("eq-face-l1")
@pytest.mark.eq("eq-face-budget")
@pytest.mark.eq("eq-face-affine")
def test_the_face_projector_is_that_of_the_active_rows(name):
    s, normals = FACES[name]
    for seed in range(8):
        y = 2 * rand(N, seed=seed)
        x, v = s.project(y), rand(N, seed=100 + seed)
        expected = row_projector(normals(x.numpy())) @ v.numpy()
        torch.testing.assert_close(s.face_project(x, v), torch.tensor(expected), rtol=0, atol=1e-12)
        jacobian = torch.autograd.functional.jacobian(s.project, y)
        torch.testing.assert_close(jacobian @ v, torch.tensor(expected), rtol=0, atol=1e-12)
        torch.testing.assert_close(difference_jacobian(s.project, y), jacobian, rtol=0, atol=1e-8)


def test_the_gradient_by_a_weight_that_is_zero_is_the_one_from_above():
    weights = torch.tensor([0.0, 1.0, 1.0], dtype=F64, requires_grad=True)
    y, v = torch.tensor([3.0, 2.0, -1.5], dtype=F64), rand(3)
    (gradient,) = torch.autograd.grad(L1Ball(3, 1.0, weights).project(y), weights, v)
    h = 1e-7
    ahead = L1Ball(3, 1.0, weights.detach() + torch.tensor([h, 0, 0])).project(y)
    slope = float(((ahead - L1Ball(3, 1.0, weights.detach()).project(y)) * v).sum()) / h
    assert float(gradient[0]) == pytest.approx(slope, abs=1e-5)


def test_dependent_rows_give_right_gradients_along_consistent_changes():
    base, mix = rand(2, N, seed=1), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -2.0]], dtype=F64)
    y, v, t = rand(3, N, seed=2), rand(3, N, seed=3), rand(2, seed=4).requires_grad_()
    dependent = torch.autograd.grad(Affine(mix @ base, mix @ t).project(y), t, v)[0]
    independent = torch.autograd.grad(Affine(base, t).project(y), t, v)[0]
    torch.testing.assert_close(dependent, independent, rtol=0, atol=1e-12)
    b = (mix @ t).detach().requires_grad_()
    chosen = torch.autograd.grad(Affine(mix @ base, b).project(y), b, v)[0]
    assert int((chosen == 0).sum()) == 1, "an independent subset of the rows carries the gradient"


def test_dependent_rows_in_a_batch_choose_per_sample():
    base = torch.stack([torch.tensor([[1.0, 0, 0], [1, 0, 0]]), torch.tensor([[1.0, 0, 0], [0, 1, 0]])]).double()
    s = Affine(base, torch.ones(2, 2, dtype=F64))
    y = rand(2, 3).requires_grad_()
    x = s.project(y)
    torch.testing.assert_close(x[0, 1:], y[0, 1:])
    torch.testing.assert_close(x[1, :2], torch.ones(2, dtype=F64))
    assert torch.autograd.grad(x.sum(), y)[0].tolist() == [[0, 1, 1], [0, 0, 1]]


def test_the_gradient_does_not_depend_on_how_many_ask_for_it():
    radius = torch.tensor(1.0, dtype=F64, requires_grad=True)
    y = Y.clone().requires_grad_()
    x = L1Ball(N, radius).project(y)
    v = rand(B, N, seed=8)
    both = torch.autograd.grad(x, (y, radius), v, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(x, radius, v)[0], both[1])
    torch.testing.assert_close(torch.autograd.grad(L1Ball(N, 1.0).project(y), y, v)[0], both[0])


def test_compiled_rows_at_fault_are_nan_and_the_others_as_before():
    y = rand(3, 3, seed=4)
    spoilt, w = y.clone(), torch.ones(3, dtype=F64)
    spoilt[0, 1], spoilt[2, 0] = float("nan"), float("inf")
    data = torch.tensor([-1.0, 1.0, -2.0], dtype=F64)
    sets = [Simplex(3), L1Ball(3, 0.1), L1Ball(3, 0.1, w), BoxBudget(0.0, 1.0, w, 1.0)]
    cases = [(s, spoilt) for s in sets]
    cases += [(Simplex(3).with_data(total=data), y), (L1Ball(3).with_data(radius=data), y)]
    cases += [(BoxBudget(0.0, 1.0, w, 1.0).with_data(budget=data), y)]
    for s, given in cases:
        good = s.bind([t[1] if t.dim() == 1 and t is data else t for t in s.data().values()])
        out = torch.compile(s.project, backend="eager", fullgraph=True)(given)
        assert out[[0, 2]].isnan().all()
        torch.testing.assert_close(out[1], good.project(y[1]))


def test_compiled_keeps_the_digits_that_the_formula_would_cancel():
    torch.compiler.reset()
    y = torch.tensor([[1e25, 1.0, 2.0, -3.0], [3.0, 0.0, 0.0, 0.0]])
    for s in (L1Ball(4), Simplex(4), L1Ball(4, 1.0, torch.ones(4))):
        assert torch.compile(s.project, backend="eager", fullgraph=True)(y).tolist() == s.project(y).tolist()
