"""Derivatives of the projection on a polyhedron: by every kind of data, in both modes, of both orders, transformed."""

import pytest
import torch
from polyhedra import problem, rand, sample
from torch.autograd import gradcheck, gradgradcheck

from lablib import Polyhedron

F64 = torch.float64
TRACED = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
pytestmark = TRACED


def small(per_sample):
    """A, b, G, h, lower, upper and y: rows of each kind hold firmly, and two directions or more stay free."""
    n, batch, seed = 6, 2, 37 if per_sample else 9
    lead = (batch,) if per_sample else ()
    A, G = rand(*lead, 1, n, seed=seed), rand(*lead, 2, n, seed=100 + seed)
    inside = 0.2 * rand(n, seed=3)
    b, h = A @ inside, G @ inside + 0.1
    lower, upper = (inside + t * torch.ones(*lead, n, dtype=F64) for t in (-0.7, 0.8))
    return [t.requires_grad_() for t in (A, b, G, h, lower, upper, 1.5 * rand(batch, n, seed=4 + seed))]


@pytest.mark.parametrize("per_sample", [False, True], ids=["shared", "per sample"])
def test_all_data_have_their_gradients(per_sample):
    """Against differences: A, b, G, h, both bounds and y at once; each kind of row holds somewhere."""
    *data, y = small(per_sample)
    s = Polyhedron(*data)
    x = s.project(y).detach()
    assert bool((x == s.lower).any()) and bool((x == s.upper).any())
    held = ((s.G @ x.unsqueeze(-1)).squeeze(-1) - s.h).abs() < 1e-12
    assert bool(held.any(-1).all())
    gradcheck(lambda *t: Polyhedron(*t[:-1]).project(t[-1]), (*data, y), check_forward_ad=True, fast_mode=True)


def test_gradients_of_the_second_order():
    """The layer is flat in y, but a product of y and its data is not."""
    A, b, G, h, _, _, y = small(False)
    gradgradcheck(lambda A, G, h, y: Polyhedron(A, b.detach(), G, h).project(y[:1]), (A, G, h, y))


@pytest.mark.parametrize("kind", ["bounds", "per sample", "vertex"])
def test_transforms_agree_with_the_loop(kind):
    s, y = problem(kind, 0, batch=3)
    v = rand(*y.shape, seed=8)
    one = sample(s, 0)
    J = torch.func.jacrev(one.project)(y[0])
    torch.testing.assert_close(torch.func.jacfwd(one.project)(y[0]), J, rtol=0, atol=1e-10)
    torch.testing.assert_close(J @ J, J, rtol=0, atol=1e-8)
    torch.testing.assert_close(J, J.T, rtol=0, atol=1e-8)
    pushed = torch.func.jvp(s.project, (y,), (v,))[1]
    pulled = torch.func.vjp(s.project, y)[1](v)[0]
    torch.testing.assert_close(pushed, pulled, rtol=0, atol=1e-10)
    torch.testing.assert_close(pulled[0], J @ v[0], rtol=0, atol=1e-8)
    if kind != "per sample":
        torch.testing.assert_close(torch.vmap(s.project)(y), s.project(y), rtol=0, atol=1e-10)
        torch.testing.assert_close(torch.vmap(torch.func.jacrev(s.project))(y)[0], J, rtol=0, atol=1e-8)
        return
    each = torch.vmap(lambda A, b, G, h, lower, p: Polyhedron(A, b, G, h, lower).project(p))
    torch.testing.assert_close(each(s.A, s.b, s.G, s.h, s.lower, y), s.project(y), rtol=0, atol=1e-10)


def test_jacobian_by_the_right_hand_sides():
    """By reverse and by forward mode, and by differences."""
    s, y = problem("rows", 3, batch=1)
    whole = torch.func.jacrev(lambda b, h: s.with_data(b=b, h=h).project(y[0]), argnums=(0, 1))(s.b, s.h)
    ahead = torch.func.jacfwd(lambda b, h: s.with_data(b=b, h=h).project(y[0]), argnums=(0, 1))(s.b, s.h)
    step = 1e-6
    for back, front, name in zip(whole, ahead, ("b", "h"), strict=True):
        torch.testing.assert_close(front, back, rtol=0, atol=1e-9)
        end = getattr(s, name)
        columns = [
            (s.with_data(**{name: end + e}).project(y[0]) - s.with_data(**{name: end - e}).project(y[0])) / (2 * step)
            for e in step * torch.eye(len(end), dtype=F64)
        ]
        torch.testing.assert_close(torch.stack(columns, -1), back, rtol=0, atol=1e-7)


# After a graph break PyTorch's compiler looks at the gradient of what it goes on with, and warns of itself.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_layer_is_the_same():
    s, y = problem("bounds", 0, batch=3)
    y.requires_grad_()
    v = rand(*y.shape, seed=1)
    plain, compiled = s.project(y), torch.compile(s.project, backend="eager")(y)
    torch.testing.assert_close(compiled, plain)
    torch.testing.assert_close(torch.autograd.grad(compiled, y, v), torch.autograd.grad(plain, y, v))
