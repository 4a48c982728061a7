"""The head with a linear constraint: each promise of its docstring, against solvers that do not know the dual."""

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from lablib import Affine, DualHead, InputError, SolveError, saddle_point
from lablib.links import LINKS, Softmax
from lablib.saddle_point import _newton, _orthonormal

D = torch.float64
NAMES = ("identity", "sigmoid", "tanh", "softmax", "relu", "exp")
every_link = pytest.mark.parametrize("link", NAMES)


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=D)


def free(z):
    return torch.zeros(z.shape, dtype=torch.int8)


def problem(link, B=50, m=3, K=8, groups=None, seed=0):
    """A head, logits, and a b that some prediction reaches."""
    head = DualHead(rand(m, K, seed=seed), link, groups=groups)
    inside = rand(B, K, seed=seed + 2)
    return head, 2 * rand(B, K, seed=seed + 1), head._link.at_ends(inside, free(inside)) @ head.A.mT


@every_link
@pytest.mark.parametrize("m", [1, 4, 64, 70])
def test_every_row_is_met_to_eight_digits(link, m):
    head, u, b = problem(link, B=6, m=m, K=150, groups=10 if link == "softmax" else None)
    z, info = head(u, b, True)
    error = (z @ head.A.mT - b).abs() / head.A.norm(dim=1)
    assert (error <= 1e-8 * (1 + b.abs() / head.A.norm(dim=1))).all() and info.converged.all()
    torch.testing.assert_close(info.residual, (z @ head.A.mT - b).abs().amax(-1))


def primal(link, u, A, b, groups):
    """min phi*(z) - u.z with A z = b by SLSQP, one pattern."""
    known = Softmax(groups) if link == "softmax" else LINKS[link]
    ends = (max(known.lower, -50) + 1e-9, min(known.upper, 50) - 1e-9)
    A_, b_ = A.numpy(), b.numpy()
    if link == "softmax":
        blocks = np.zeros((len(groups), len(u)))
        for i, g in enumerate(groups):
            blocks[i, sum(groups[:i]) : sum(groups[:i]) + g] = 1
        A_, b_ = np.vstack([A_, blocks]), np.concatenate([b_, np.ones(len(groups))])

    def value(z):
        return float(known.conjugate(torch.tensor(z))) - float(u.numpy() @ z)

    def slope(z):
        t = torch.tensor(z).requires_grad_()
        return torch.autograd.grad(known.conjugate(t), t)[0].numpy() - u.numpy()

    start = known.at_ends(torch.zeros_like(u), free(u)).numpy().clip(*ends)
    found = minimize(
        value,
        start + (0.3 if link == "relu" else 0),
        jac=slope,
        bounds=[ends] * len(u),
        method="SLSQP",
        constraints={"type": "eq", "fun": lambda z: A_ @ z - b_, "jac": lambda z: A_},
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    return torch.tensor(found.x)


@every_link
def test_the_prediction_is_the_nearest_that_obeys(link):
    groups = [3, 5] if link == "softmax" else None
    head, u, b = problem(link, B=3, m=2, groups=groups)
    z = head(u / 2, b)
    for i in range(3):
        torch.testing.assert_close(z[i], primal(link, u[i] / 2, head.A, b[i], groups), atol=2e-5, rtol=1e-4)


def test_identity_is_the_projection():
    head, u, b = problem("identity")
    torch.testing.assert_close(head(u, b), Affine(head.A, b).project(u))


@every_link
def test_multipliers_are_those_of_a_general_solver(link):
    head, u, b = problem(link, B=3, m=2, groups=[3, 5] if link == "softmax" else None)
    lam, info = head.multipliers(u, b)
    for i in range(3):

        def dual(t, i=i):
            t = torch.tensor(t).requires_grad_()
            value = head._link.phi(u[i] + head.A.mT @ t) - b[i] @ t
            return float(value.detach()), torch.autograd.grad(value, t)[0].numpy()

        found = minimize(dual, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-9})
        torch.testing.assert_close(lam[i], torch.tensor(found.x), atol=1e-4, rtol=1e-4)
    assert info.gap.max() < 1e-7


@every_link
def test_gradients_to_u_b_and_the_matrix_and_their_gradients(link):
    head, u, b = problem(link, B=2, m=2, K=5, groups=[2, 3] if link == "softmax" else None)
    inputs = [t.clone().requires_grad_() for t in (u, b, head.A)]

    def predict(u, b, A):
        return head(u, b, A=A)

    def multipliers(u, b, A):
        return head.multipliers(u, b, A=A)[0]

    assert torch.autograd.gradcheck(predict, inputs)
    assert torch.autograd.gradgradcheck(predict, inputs)
    if link != "relu":  # b may be met by several multipliers where too few outputs are above 0
        assert torch.autograd.gradcheck(multipliers, inputs)
    y = head._link.at_ends(rand(2, 5, seed=9), free(u))

    def loss(u, b, A):
        return head.loss(u, y, b, A=A)

    assert torch.autograd.gradcheck(loss, inputs)
    assert torch.autograd.gradgradcheck(loss, inputs)


def test_gradients_above_64_rows_come_from_conjugate_gradients():
    head, u, b = problem("sigmoid", B=1, m=66, K=90)
    v = rand(1, 90, seed=5)
    leaf = u.clone().requires_grad_()
    (got,) = torch.autograd.grad(head(leaf, b), leaf, v)
    z = head(u, b)
    slope = z * (1 - z)
    eta = torch.linalg.solve((head.A * slope) @ head.A.mT, head.A @ (slope * v).squeeze(0))
    torch.testing.assert_close(got, slope * (v - eta @ head.A), atol=1e-8, rtol=1e-6)


def test_dependent_rows_give_one_prediction_and_the_least_multipliers():
    base, u, b = problem("sigmoid", m=2)
    mix = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, -3.0]], dtype=D)
    A = mix @ base.A
    head, goal = DualHead(A), (b @ mix.mT).requires_grad_()
    z = head(u, goal)
    torch.testing.assert_close(z, base(u, b), atol=1e-9, rtol=0)
    lam, _ = head.multipliers(u, goal)
    kernel = torch.tensor([2.0, -3.0, -1.0], dtype=D)
    assert (lam @ kernel).abs().max() < 1e-9
    (to_b,) = torch.autograd.grad(z.square().sum(), goal)
    assert (to_b @ kernel).abs().max() < 1e-9  # the projection on the range of A
    with pytest.raises(InputError, match="cannot be reached by sigmoid") as caught:
        head(u, goal.detach() + torch.tensor([0.0, 0.0, 0.1], dtype=D))
    d = caught.value.certificate
    assert (d @ A).abs().max() < 1e-9 and d @ (goal[0] + torch.tensor([0.0, 0.0, 0.1], dtype=D)) > 1e-3


@every_link
@pytest.mark.parametrize("way", [1e-8, 1e-10, 1e-12])
def test_rows_that_nearly_depend_on_each_other_are_met_and_differentiated(link, way):
    """The multipliers are then as large as 1e12, and A' lam has lost their digits."""
    A = rand(4, 8)
    A[3] = A[0] - A[1] + way * A[3]
    head = DualHead(A, link, groups=4 if link == "softmax" else None)
    u, y = rand(50, 8, seed=1), rand(50, 8, seed=2)
    y = y.abs() if link == "relu" else y  # else b is at its boundary, and its rounding, over way, puts it beyond
    b = head._link.at_ends(y, free(A[:1])) @ A.mT
    exact = A.numpy().astype(np.longdouble)
    last = (exact[3] - exact[0] + exact[1]) / way  # the same rows, far apart
    z, info = head(u, b, True)
    assert info.converged.all()
    assert ((z @ A.mT - b).abs() <= 1e-8 * (A.norm(dim=1) + b.abs())).all()
    v = rand(8, seed=5)
    for i in range(3):
        leaf = u[i].clone().requires_grad_()
        (got,) = torch.autograd.grad(head(leaf, b[i]), leaf, v)
        slope = torch.stack([head._link.curve(logits(link, z[i]), z[i], e) for e in torch.eye(8, dtype=D)])
        basis = torch.linalg.svd(torch.stack([*A[:3], torch.tensor(last.astype(float))])).Vh[:4]
        if link == "softmax":
            basis = basis - basis.unflatten(-1, (2, 4)).mean(-1).repeat_interleave(4, -1)
        eta = torch.linalg.pinv(basis @ slope @ basis.mT) @ basis @ slope @ v
        torch.testing.assert_close(got, slope @ (v - eta @ basis), atol=max(1e-7, 1e-14 / way), rtol=1e-5)


def logits(link, z):
    """Undo a link, up to what it forgets."""
    return {"sigmoid": torch.logit, "tanh": torch.atanh, "softmax": torch.log, "exp": torch.log}.get(link, torch.clone)(
        z
    )


@every_link
@pytest.mark.parametrize("way", [1e-4, 1e-6, 1e-8])
def test_float32_rows_that_depend_on_each_other_by_rounding_are_met_within_it(link, way):
    A = rand(4, 8)
    A[3] = A[0] - A[1] + way * A[3]
    A = A.float()
    head = DualHead(A, link, groups=4 if link == "softmax" else None)
    b = head._link.at_ends(rand(200, 8, seed=2).float(), free(A[:1])) @ A.mT
    info = head(rand(200, 8, seed=1).float(), b, True)[1]
    assert (info.residual <= 16 * 1.2e-7 * 8**0.5 * (1 + b.abs().amax(-1)) * A.norm(dim=1).max()).all()


def test_the_total_of_a_softmax_may_be_a_row():
    A = torch.cat([torch.ones(1, 6, dtype=D), rand(1, 6)])
    u = rand(20, 6, seed=1)
    b = rand(20, 6, seed=2).softmax(-1) @ A.mT
    z = DualHead(A, "softmax")(u, b)
    torch.testing.assert_close(z, DualHead(A[1:], "softmax")(u, b[:, 1:]), atol=1e-9, rtol=0)
    with pytest.raises(InputError, match="cannot be reached by softmax"):
        DualHead(A, "softmax")(u, b + torch.tensor([0.01, 0.0], dtype=D))


def test_a_count_of_zero_holds_its_coordinates_and_stops_their_gradient():
    A = torch.eye(3, dtype=D).repeat(1, 4)
    head = DualHead(A, "softmax", groups=3)
    u = rand(2, 12).requires_grad_()
    b = torch.tensor([[4.0, 0.0, 0.0], [1.0, 3.0, 0.0]], dtype=D)
    z, info = head(u, b, True)
    assert z[0].tolist() == [1.0, 0.0, 0.0] * 4 and (z[1, 2::3] == 0).all()
    assert info.message == "b forces 12 coordinates in 2 patterns, where the gradient is 0"
    torch.testing.assert_close(z[1] @ A.mT, b[1])
    (grad,) = torch.autograd.grad(z.square().sum(), u)
    assert (grad[0] == 0).all() and (grad[1, 2::3] == 0).all() and (grad[1, ::3] != 0).all()
    rest = DualHead(torch.eye(2, dtype=D).repeat(1, 4), "softmax", groups=2)
    left = u.detach()[1].unflatten(-1, (4, 3))[:, :2].flatten()
    torch.testing.assert_close(z[1].unflatten(-1, (4, 3))[:, :2].flatten(), rest(left, b[1, :2]), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("link", "low", "high"), [("sigmoid", 0.0, 1.0), ("tanh", -1.0, 1.0)])
def test_a_slanted_face_is_found_by_the_growth_of_the_multipliers(link, low, high):
    A = rand(2, 6, seed=3)
    inside, d = 2, torch.stack([-A[1, 2], A[0, 2]])  # d is at right angles to column 2, which stays free
    vertex = torch.where(d @ A > 0, high, low).to(D)
    vertex[inside] = low + 0.3 * (high - low)
    z, info = DualHead(A, link)(rand(1, 6), (A @ vertex).unsqueeze(0), True)
    torch.testing.assert_close(z[0], vertex, atol=1e-8, rtol=0)
    held = torch.arange(6) != inside
    assert z[0][held].tolist() == vertex[held].tolist()
    assert info.message.startswith("b forces 5 coordinates in 1 patterns")


def on_slanted_faces(link, m, K, B, groups, seed=None, stretch=(1, 1)):
    """B patterns, each with a matrix of its own and a b on a face that no single row shows; and the sides of the face.

    d.(A z) is made largest there: columns at right angles to d stay free; for a softmax, those that tie for the most.
    ``stretch``: of the logits of the prediction that makes b, and of u.
    """
    generator = torch.Generator().manual_seed(10 * m + K if seed is None else seed)
    A = torch.randn(B, m, K, generator=generator, dtype=D)
    d = torch.nn.functional.normalize(torch.randn(B, m, generator=generator, dtype=D), dim=-1)
    share = torch.rand(B, 1, generator=generator, dtype=D)
    loose = torch.rand(B, K, generator=generator, dtype=D) < share
    a = (d.unsqueeze(-2) @ A).squeeze(-2)
    if link == "softmax":
        loose[:, ::groups] = True
        wanted = torch.where(loose, a.unflatten(-1, (-1, groups)).amax(-1).repeat_interleave(groups, -1) + 0.3, a)
        at = torch.where(loose, 0, -1)
    elif link == "sigmoid" or link == "tanh":
        wanted, at = torch.where(loose, 0.0, a), torch.where(loose, 0.0, a.sign())
    else:
        wanted, at = torch.where(loose, 0.0, -a.abs()), torch.where(loose, 0, -1)
    A = A + d.unsqueeze(-1) * (wanted - a).unsqueeze(-2)
    at = at.to(torch.int8)
    head = DualHead(A, link, groups=groups if link == "softmax" else None)
    z = head._link.at_ends(stretch[0] * torch.randn(B, K, generator=generator, dtype=D), at)
    u = stretch[1] * torch.randn(B, K, generator=generator, dtype=D)
    return head, u, (A @ z.unsqueeze(-1)).squeeze(-1), at


@pytest.mark.parametrize(("m", "K"), [(2, 6), (5, 30), (10, 20)])
@pytest.mark.parametrize("link", ["sigmoid", "tanh", "softmax", "relu", "exp"])
def test_hundreds_of_slanted_faces_are_met_and_held(link, m, K):
    groups = {6: 6, 30: 30, 20: 5}[K]
    head, u, b, at = on_slanted_faces(link, m, K, 100, groups)
    z, info = head(u, b, True)
    torch.testing.assert_close((head.A @ z.unsqueeze(-1)).squeeze(-1), b, atol=3e-8, rtol=1e-7)
    assert info.converged.all()
    if link == "relu":
        return  # reaches its ends at finite multipliers
    held = at != 0
    assert ((z == head._link.lower) | (z == head._link.upper))[held].all()
    invert = {"sigmoid": torch.logit, "tanh": torch.atanh}.get(link, torch.log)
    blocks = torch.eye(K // groups, dtype=D).repeat_interleave(groups, 1)
    for i in range(100):  # the nearest of its face: its logits differ from u by a combination of rows
        loose = ~held[i] & (invert(z[i]).abs() < 12)
        rows = torch.cat([head.A[i], blocks]) if link == "softmax" else head.A[i]
        change = invert(z[i, loose]) - u[i, loose]
        fit = torch.linalg.lstsq(rows[:, loose].mT, change.unsqueeze(-1), driver="gelsd").solution
        torch.testing.assert_close((rows[:, loose].mT @ fit).squeeze(-1), change, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("m", "K", "seed"), [(10, 20, 10020), (10, 20, 10021), (5, 30, 5030), (5, 30, 5032)])
@pytest.mark.parametrize("link", ["sigmoid", "tanh", "softmax", "relu", "exp"])
def test_slanted_faces_with_predictions_of_all_sizes_are_met(link, m, K, seed):
    for stretch in ((5, 1), (5, 5)):  # an exp's predictions then lie between 1e-7 and 1e7
        head, u, b, _ = on_slanted_faces(link, m, K, 200, {20: 5, 30: 30}[K], seed, stretch)
        z, info = head(u, b, True)
        missed = ((head.A @ z.unsqueeze(-1)).squeeze(-1) - b).abs()
        assert info.converged.all() and (missed <= 1.1e-8 * (head.A.norm(dim=-1) + b.abs())).all()
        again = head(u, b)  # what the first call found out of faces must not change the factor that is kept
        torch.testing.assert_close(again, z, atol=0, rtol=0)


@pytest.mark.parametrize("link", ["sigmoid", "tanh", "softmax", "exp"])
@pytest.mark.parametrize("way", [1e-4, 1e-8])
def test_near_a_slanted_face_nothing_is_held_inside_and_beyond_is_proved(link, way):
    head, u, b, at = on_slanted_faces(link, 5, 30, 50, 30)
    inner = (head.A @ head._link.at_ends(rand(50, 30), free(at)).unsqueeze(-1)).squeeze(-1)
    info = head(u, b + way * (inner - b), True)[1]
    assert info.converged.all() and info.message == ""
    info = head(u, b - way * (inner - b), strict=False)[1]
    slanted = (at != 0).any(-1)
    assert not info.converged[slanted].any()
    i = int(slanted.nonzero()[0])
    with pytest.raises(InputError, match="cannot be reached") as caught:
        DualHead(head.A[i], link)(u[i], (b - way * (inner - b))[i])
    d = caught.value.certificate
    a = d @ head.A[i]
    a = torch.where(a.abs() < 1e-9, 0.0, a)
    assert d @ (b - way * (inner - b))[i] > head._link.reach(a, free(at[i]))


def test_the_linear_program_knows_the_face_and_its_direction():
    head, u, b, at = on_slanted_faces("sigmoid", 5, 30, 20, 30)
    face, ray, goal = saddle_point._program(head._link, head.A, b, torch.zeros_like(at), 2e-16)
    assert (face == at).all() and (ray == 0).all()
    torch.testing.assert_close(goal, b, atol=1e-12, rtol=0)
    inner = (head.A @ head._link.at_ends(rand(20, 30), free(at)).unsqueeze(-1)).squeeze(-1)
    beyond = b - 1e-3 * (inner - b)
    _, ray, _ = saddle_point._program(head._link, head.A, beyond, free(at), 2e-16)
    assert (at != 0).any(-1).all()
    for d, A, goal in zip(ray / ray.norm(dim=-1, keepdim=True), head.A, beyond, strict=True):
        assert d @ goal > head._link.reach(d @ A, free(at[0])) + 1e-7
    _, ray, goal = saddle_point._program(head._link, head.A, beyond, free(at), 1e-2)
    assert (ray == 0).all() and head(u, goal, True)[1].converged.all()  # within such rounding: b is moved


@pytest.mark.parametrize("link", ["sigmoid", "tanh", "softmax", "relu", "exp"])
def test_b_out_of_reach_is_named_with_a_direction_that_proves_it(link):
    head, u, _ = problem(link, B=3, m=2, K=6)
    if head._link.upper < float("inf"):
        d = torch.tensor([0.6, -0.8], dtype=D)
        goal = (head._link.reach(d @ head.A, free(u[0])) + 0.05) * d
    else:  # a cone in a half plane; its opposite is out of reach
        head = DualHead(torch.cat([rand(1, 6), rand(1, 6).abs() + 0.1]), link)
        goal = torch.tensor([0.3, -1.0], dtype=D)
    _, _, b = head, u, head._link.at_ends(u, free(u)) @ head.A.mT
    b[1] = goal
    with pytest.raises(InputError, match=r"b at batch index \[1\] cannot be reached") as caught:
        head(u, b)
    proof = caught.value.certificate
    a = proof @ head.A
    assert caught.value.index == (1,)
    assert proof @ goal > head._link.reach(torch.where(a.abs() < 1e-9, 0.0, a), free(a))
    z, info = head(u, b, strict=False)
    assert info.converged.tolist() == [True, False, True] and z.isfinite().all()


@pytest.mark.parametrize("link", ["sigmoid", "tanh", "softmax", "relu", "exp"])
def test_a_pattern_that_is_let_pass_unsolved_has_gradient_zero_and_harms_no_other(link):
    head, _, _ = problem(link, B=2, m=1, K=3)
    head.A.abs_()
    u, b = rand(2, 3).requires_grad_(), torch.tensor([[-30.0], [1.0]], dtype=D)
    b[1] = head._link.at_ends(rand(3, seed=8), free(u[0])) @ head.A[0]
    z, info = head(u, b, strict=False)
    assert info.converged.tolist() == [False, True]
    (grad,) = torch.autograd.grad(z.square().sum(), u)
    alone = u.detach()[1].requires_grad_()
    (right,) = torch.autograd.grad(head(alone, b[1]).square().sum(), alone)
    torch.testing.assert_close(grad, torch.stack([torch.zeros(3, dtype=D), right]))
    lam, _ = head.multipliers(u, b, strict=False)
    (grad,) = torch.autograd.grad(lam.sum(), u)
    assert (grad[0] == 0).all() and grad[1].isfinite().all()


@every_link
def test_rows_that_contradict_each_other_are_proved_to(link):
    A = torch.cat([rand(2, 6), torch.zeros(1, 6, dtype=D)])
    A[2] = A[0] + A[1]
    y = torch.softmax(rand(6), -1)
    b = A @ y + torch.tensor([0.0, 0.0, 1e-6], dtype=D)
    with pytest.raises(InputError, match=r"rows of A contradict each other.*project b on it") as caught:
        DualHead(A, link)(rand(6), b)
    w = caught.value.certificate
    assert (w @ A).abs().max() < 1e-12 and w @ b > 1e-7


def test_the_dtype_of_the_logits_does_not_excuse_a_wrong_b():
    A, u = torch.ones(2, 3, dtype=D), torch.zeros(3)
    with pytest.raises(InputError, match="contradict"):
        DualHead(A)(u, torch.tensor([1.0, 1.0 + 1e-6], dtype=D))
    assert DualHead(A.float())(u, torch.tensor([1.0, 1.0 + 1e-6], dtype=D)).shape == (3,)


def test_the_matched_loss_refuses_a_target_that_b_forbids():
    head = DualHead(torch.ones(1, 3, dtype=D))
    u, y = rand(2, 3).requires_grad_(), torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.0, 0.0]], dtype=D)
    with pytest.raises(InputError, match=r"y\[1, 0\] is 0\.2 and b forces that prediction to 0") as caught:
        head.loss(u, y, torch.zeros(2, 1, dtype=D), objective="matched")
    assert caught.value.index == (1, 0)
    (grad,) = torch.autograd.grad(head.loss(u, y, torch.zeros(2, 1, dtype=D), reduction="sum"), u)
    torch.testing.assert_close(grad, -y)


def test_out_of_reach_on_a_face_is_proved_on_the_whole_set():
    A = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]], dtype=D)
    b = torch.tensor([0.0, 1.5], dtype=D)  # the first row holds z1 at 0, and then z3 would be 1.5
    with pytest.raises(InputError) as caught:
        DualHead(A)(torch.zeros(3, dtype=D), b)
    d = caught.value.certificate
    assert d @ b > (d @ A).clamp(min=0).sum()


def test_warm_starts_survive_shuffling():
    head, u, b = problem("sigmoid", B=60, m=4)
    y = torch.sigmoid(rand(60, 8, seed=2))
    memory = torch.zeros(60, 4, dtype=D)
    for index in torch.randperm(60).split(20):
        cold = head(u[index], b[index], True, warm_start=(memory, index))[1]
    torch.testing.assert_close(memory, head.multipliers(u, b)[0])
    for index in torch.randperm(60).split(15):
        info = head(u[index], b[index], True, warm_start=(memory, index))[1]
        assert info.iterations.max() <= 1 < cold.iterations.min()
        assert head.multipliers(u[index], b[index], (memory, index))[1].iterations.max() <= 1
        head.loss(u[index], y[index], b[index], warm_start=(memory, index))
        assert head(u[index], b[index], True, warm_start=memory[index])[1].iterations.max() <= 1
    fresh = torch.zeros(60, 4, dtype=D)
    index = torch.tensor([5, 50])
    head.loss(u[index], y[index], b[index], warm_start=(fresh, index))
    assert (fresh != 0).any(-1).nonzero().flatten().tolist() == [5, 50]


@every_link
def test_loss_is_the_matched_loss_at_shifted_logits_iff_b_is_that_of_y(link):
    groups = [3, 5] if link == "softmax" else None
    head, u, b = problem(link, groups=groups)
    y = head._link.at_ends(rand(50, 8, seed=7), free(u))
    for goal, equal in ((y @ head.A.mT, True), (b, False)):
        lam, _ = head.multipliers(u, goal)
        w = u + lam @ head.A
        shifted = head._link.phi(w) - (y * w).sum(-1) + head._link.conjugate(y)
        saddle = head.loss(u, y, goal, reduction="none")
        assert torch.allclose(saddle, shifted, atol=1e-8) is equal
        torch.testing.assert_close(head.loss(u, y, goal, reduction="none", objective="matched"), shifted)
        torch.testing.assert_close(head.loss(u, y, goal), saddle.mean())
        torch.testing.assert_close(head.loss(u, y, goal, reduction="sum"), saddle.sum())
    leaf = u.clone().requires_grad_()
    (grad,) = torch.autograd.grad(head.loss(leaf, y, b, reduction="sum"), leaf)
    torch.testing.assert_close(grad, head(u, b) - y)


def test_a_bias_lowers_the_saddle_without_end_where_b_and_y_disagree_and_not_the_matched_loss():
    head, u, _ = problem("sigmoid")
    y = torch.sigmoid(rand(50, 8, seed=7))
    b = y @ head.A.mT + 0.1 * torch.ones(3, dtype=D)
    ray = head.A.mT @ (b - y @ head.A.mT).mean(0)
    saddle = [float(head.loss(u + t * ray, y, b)) for t in (0.0, 100.0, 200.0)]
    rate = float((ray @ y.mean(0)) - (b.mean(0) @ (b - y @ head.A.mT).mean(0)))
    assert rate < 0 or saddle[1] > saddle[2] or saddle[0] > saddle[1]
    falling = [float(head.loss(u - t * ray, y, b)) for t in (0.0, 100.0, 200.0)]
    lowest = min(saddle, falling, key=lambda s: s[-1])
    assert lowest[0] - lowest[1] == pytest.approx(lowest[1] - lowest[2], rel=1e-3) and lowest[2] < 0
    for t in (-200.0, 0.0, 200.0):
        assert head.loss(u + t * ray, y, b, objective="matched") >= 0


def test_targets_at_the_ends_are_stable_and_those_outside_raise():
    y = (rand(20, 8) > 0).to(D)
    head = DualHead(torch.ones(1, 8, dtype=D))
    u, b = (30 * rand(20, 8, seed=1)).requires_grad_(), y.sum(-1, keepdim=True)
    loss = head.loss(u, y, b)
    (grad,) = torch.autograd.grad(loss, u)
    assert loss.isfinite() and grad.isfinite().all()
    assert float(head.loss(u.detach(), torch.zeros_like(y), 0 * b)) == pytest.approx(0, abs=1e-12)
    for link, bad in (("sigmoid", 1.5), ("tanh", -1.5), ("relu", -0.5), ("exp", -0.5), ("softmax", -0.5)):
        wrong = torch.full((2, 8), 0.125, dtype=D)
        wrong[1, 3] = bad
        with pytest.raises(InputError, match=rf"y\[1, 3\] is {bad}: expected a target in") as caught:
            DualHead(torch.ones(1, 8, dtype=D), link).loss(u[:2], wrong, b[:2])
        assert caught.value.index == (1, 3)
    with pytest.raises(InputError, match=r"y sums to 1\.6 over block 0 at batch index"):
        DualHead(torch.ones(1, 8, dtype=D), "softmax").loss(u[:2], torch.full((2, 8), 0.2, dtype=D), 0 * b[:2] + 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_narrow_dtypes_come_back_as_they_were(dtype):
    head = DualHead(torch.ones(1, 6, dtype=dtype))
    u = rand(9, 6).to(dtype)
    z, info = head(u, torch.tensor([2.5], dtype=dtype), True)
    assert z.dtype == dtype and info.residual.max() < 1e-8  # before rounding
    exact = DualHead(torch.ones(1, 6, dtype=D))(u.double(), torch.tensor([2.5], dtype=D))
    torch.testing.assert_close(z, exact.to(dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(head(u, torch.tensor([2.5], dtype=dtype)), z)


def test_float32_sums_on_the_boundary_are_met_within_their_rounding():
    A = torch.eye(3).repeat(1, 5)
    b = torch.tensor([[5.0000005, 0.0, 0.0]])
    z, info = DualHead(A, "softmax", groups=3)(rand(1, 15).float(), b, True)
    assert z[0, ::3].tolist() == [1.0] * 5 and info.residual < 1e-6
    with pytest.raises(InputError):
        DualHead(A.double(), "softmax", groups=3)(rand(1, 15), torch.tensor([[5.0000005, 0.0, 0.0]], dtype=D))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # inside torch's forward mode
def test_transforms_compile_copies_and_pickles():
    head, u, b = problem("sigmoid", B=4, m=2, K=5)
    torch.testing.assert_close(torch.vmap(head)(u, b), head(u, b))
    back, forward = torch.func.jacrev(head)(u[0], b[0]), torch.func.jacfwd(head)(u[0], b[0])
    torch.testing.assert_close(back, forward)
    torch.testing.assert_close(torch.vmap(torch.func.jacrev(head))(u, b)[0], back)
    by_rows = torch.func.jacfwd(lambda A: head(u[0], b[0], A=A))(head.A)
    torch.testing.assert_close(by_rows, torch.func.jacrev(lambda A: head(u[0], b[0], A=A))(head.A))
    with pytest.raises(InputError, match="not available inside"):
        torch.vmap(lambda u, b: head(u, b, True))(u, b)
    torch.testing.assert_close(torch.compile(head, backend="eager")(u, b), head(u, b))
    for other in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        torch.testing.assert_close(other(u, b), head(u, b))
    head.A.mul_(2)
    torch.testing.assert_close(head(u, 2 * b), DualHead(head.A)(u, 2 * b))  # the kept factor is not stale


def test_each_pattern_may_have_its_own_matrix_and_a_parameter_is_trained():
    _, u, b = problem("sigmoid", B=5, m=2)
    A = rand(5, 2, 8, seed=4)
    b = (A @ torch.sigmoid(rand(5, 8, seed=3)).unsqueeze(-1)).squeeze(-1)
    z = DualHead(A)(u, b)
    for i in range(5):
        torch.testing.assert_close(z[i], DualHead(A[i])(u[i], b[i]))
    head = DualHead(torch.nn.Parameter(A[0]))
    head(u[0], b[0]).square().sum().backward()
    assert list(head.state_dict()) == ["A"] and (head.A.grad != 0).all()
    assert DualHead(A[0])(u[:0], b[:0]).shape == (0, 8)


def test_a_pattern_that_is_met_is_left_alone():
    head, u, b = problem("sigmoid", B=3, m=2)
    lam, _ = head.multipliers(u[:1], b[:1])
    start = torch.cat([lam, torch.zeros(2, 2, dtype=D)])
    info = head(u, b, True, warm_start=start)[1]
    assert info.iterations[0] == 1 < info.iterations[1:].min()


def test_scales_and_units_do_not_matter():
    head, u, b = problem("sigmoid", m=2)
    scale = torch.tensor([1e6, 1e-6], dtype=D)
    other = DualHead(scale.unsqueeze(-1) * head.A)
    torch.testing.assert_close(other(u, scale * b), head(u, b), atol=1e-8, rtol=0)
    far = DualHead(torch.ones(1, 2, dtype=D))(torch.tensor([-60.0, -70.0], dtype=D), torch.tensor([1.0], dtype=D))
    assert float(far.sum()) == pytest.approx(1, abs=1e-9)


def test_the_budget_of_passes_is_kept_and_what_is_missed_is_said():
    head, u, b = problem("sigmoid", m=2)
    short = DualHead(head.A, max_steps=1)
    with pytest.raises(SolveError, match=r"A z = b is missed at batch index \[0\]: residual .* after 1 passes"):
        short(u, b)
    assert not short(u, b, strict=False)[1].converged.all()
    loose = DualHead(head.A, tol=1e-1)(u, b, True)[1]
    assert loose.iterations.sum() < head(u, b, True)[1].iterations.sum()
    rows = _orthonormal(head.A, LINKS["sigmoid"], torch.zeros(8, dtype=torch.int8), 2e-16)
    torch.testing.assert_close(rows.V @ rows.V.mT, torch.eye(2, dtype=D))
    assert (
        _newton(LINKS["sigmoid"], u, rows, torch.zeros(50, 2, dtype=D), torch.zeros(50, 2, dtype=D), b.abs(), 3)[
            1
        ].max()
        <= 3
    )


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: DualHead([[1.0]]), TypeError, "A is a list: expected a torch tensor"),
        (lambda: DualHead(torch.ones(2, 3, dtype=torch.int64)), TypeError, "A has dtype torch.int64"),
        (lambda: DualHead(torch.ones(3)), InputError, r"A has shape \(3,\): expected \(..., m, K\)"),
        (lambda: DualHead(torch.tensor([[1.0, float("nan")]])), InputError, r"A\[0, 1\] is nan"),
        (lambda: DualHead(torch.ones(1, 3), "logit"), InputError, "link is 'logit': expected one of 'identity'"),
        (lambda: DualHead(torch.ones(1, 3), groups=3), InputError, "groups is given with link='sigmoid'"),
        (lambda: DualHead(torch.ones(1, 3), "softmax", groups=2), InputError, "a size that divides 3"),
        (lambda: DualHead(torch.ones(1, 3), "softmax", groups=[1, 1]), InputError, "that sum to 3"),
        (lambda: DualHead(torch.ones(1, 3), "softmax", groups="ab"), TypeError, "groups is a str"),
        (lambda: DualHead(torch.ones(1, 3), tol=-1.0), InputError, "tol is -1.0"),
        (lambda: DualHead(torch.ones(1, 3).requires_grad_()), TypeError, "no optimiser would see it"),
        (lambda: DualHead(torch.ones(1, 3))(torch.ones(4), torch.ones(1)), InputError, "one for each column of A"),
        (lambda: DualHead(torch.ones(1, 3))(torch.ones(3), torch.ones(2)), InputError, "one for each row of A"),
        (
            lambda: DualHead(torch.ones(1, 3))(torch.ones(2, 3), torch.tensor([[1.0], [float("nan")]])),
            InputError,
            r"b\[1, 0\] is nan: expected finite numbers",
        ),
        (lambda: DualHead(torch.ones(1, 3))([1.0], torch.ones(1)), TypeError, "u is a list"),
        (lambda: DualHead(torch.ones(1, 3))(torch.ones(2, 3), torch.ones(5, 1)), InputError, "shapes that broadcast"),
        (
            lambda: DualHead(torch.ones(1, 3))(torch.ones(2, 3), torch.ones(1), warm_start=torch.ones(3, 1)),
            InputError,
            r"warm_start has shape \(3, 1\): expected \(2, 1\)",
        ),
        (
            lambda: DualHead(torch.ones(1, 3)).loss(torch.ones(3), torch.ones(3), torch.ones(1), reduction="max"),
            InputError,
            "reduction is 'max'",
        ),
        (
            lambda: DualHead(torch.ones(1, 3)).loss(torch.ones(3), torch.ones(3), torch.ones(1), objective="kl"),
            InputError,
            "objective is 'kl'",
        ),
    ],
)
def test_bad_input_is_named(call, error, says):
    with pytest.raises(error, match=says):
        call()
