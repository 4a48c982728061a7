"""Sparse rows: the answers of dense ones, chains of 100,000 links with a certificate, and what cannot be sparse."""

import copy
import pickle

import numpy as np
import pytest
import torch
from polyhedra import F64, distance_from_normal_cone, infeasibility, rand
from torch.autograd import gradcheck

from lablib import Polyhedron, ProjectionLayer, SolveError, banded

pytestmark = [
    pytest.mark.filterwarnings("ignore:Sparse (CSR|invariant):UserWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]
elements = pytest.mark.parametrize("element", ["lowest", "highest"])


def steps(n):
    """x_{i+1} - x_i as a sparse matrix."""
    i = torch.arange(n - 1)
    values = torch.cat([-torch.ones(n - 1, dtype=F64), torch.ones(n - 1, dtype=F64)])
    return torch.sparse_coo_tensor(torch.stack([torch.cat([i, i]), torch.cat([i, i + 1])]), values, (n - 1, n))


def chain(n, **more):
    """|x_{i+1} - x_i| <= 1."""
    D = steps(n)
    return Polyhedron(G=torch.cat([D, -D]), h=more.pop("h", 1.0), **more)


def pair(kind, seed=0):
    """The same set with sparse and with dense rows, and points around it."""
    n = 24
    inside = torch.cumsum(0.4 * rand(n, seed=seed), -1)
    D = steps(n).to_dense()
    A, G = torch.zeros(0, n, dtype=F64), torch.cat([D, -D, 3 * (D[1:] + D[:-1])])
    if kind == "equations":
        A = torch.stack([torch.eye(n, dtype=F64)[i] - 2 * torch.eye(n, dtype=F64)[i + 2] for i in (1, 8, 15)])
    if kind == "repeated":
        G = torch.cat([G, 1e3 * G[:10], G[5:6]])
    h = (G @ inside) + 0.3 * rand(len(G), seed=seed + 1).abs() * G.norm(dim=1)
    if kind == "repeated":
        h[-11:] = torch.cat([1e3 * h[:10], h[5:6]])
    ends = {"h": h, "b": A @ inside} if len(A) else {"h": h}
    if kind == "bounds":
        ends |= {"lower": inside - 0.3, "upper": inside + rand(n, seed=seed + 2).abs()}
    y = inside + 2 * rand(5, n, seed=seed + 3)
    dense = Polyhedron(A=A if len(A) else None, G=G, **ends)
    return Polyhedron(A=A.to_sparse() if len(A) else None, G=G.to_sparse_csr(), **ends), dense, y


KINDS = ("chain", "equations", "bounds", "repeated")


@elements
@pytest.mark.parametrize("kind", KINDS)
def test_sparse_rows_answer_as_dense_ones(kind, element):
    s, dense, y = pair(kind)
    y.requires_grad_()
    x, v = s.project(y, element=element), rand(*y.shape, seed=9)
    same = dense.project(y, element=element)
    torch.testing.assert_close(x, same, rtol=0, atol=1e-11)
    for row, point in zip(y.detach().numpy(), x.detach().numpy(), strict=True):
        assert infeasibility(dense, point) < 1e-9 and distance_from_normal_cone(dense, row, point) < 1e-8
    expected = torch.autograd.grad(same, y, v)[0]
    torch.testing.assert_close(torch.autograd.grad(x, y, v)[0], expected, rtol=0, atol=1e-9)
    if element == "lowest":
        torch.testing.assert_close(s.face_project(x.detach(), v), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [1.0, 3.0])
def test_a_chain_of_a_hundred_thousand_links_is_projected_and_certified(size):
    """The multipliers are a running sum of y - x, so NumPy alone proves the answer and the product."""
    n = 100_000
    s, y = chain(n), (size * rand(n, seed=1)).requires_grad_()
    x, v = s.project(y), rand(n, seed=2)
    u = torch.autograd.grad(x, y, v)[0].numpy()
    point, normal = x.detach().numpy(), (y - x).detach().numpy()
    step, force = np.diff(point), -np.cumsum(normal)
    scale = 1 + np.abs(normal).max()
    assert np.abs(step).max() <= 1 + 1e-9
    assert abs(force[-1]) < 1e-8 * scale * np.sqrt(n)
    held = np.abs(np.abs(step) - 1) < 1e-9
    assert np.abs(force[:-1][~held]).max() < 1e-8 * scale and (force[:-1] * np.sign(step))[held].min() > -1e-8 * scale
    assert held.mean() > 0.1
    # Along held links all coordinates move together: the product is the mean of v over each run of them.
    run = np.concatenate([[0], np.cumsum(~held)])
    mean = np.bincount(run, v.numpy()) / np.bincount(run)
    np.testing.assert_allclose(u, mean[run], rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", ["equations", "bounds"])
def test_gradients_of_both_modes_and_in_transforms(kind):
    s, dense, y = pair(kind)
    ends = [getattr(s, name).clone().requires_grad_() for name in s.names]

    def project(y, *ends):
        return s.with_data(**dict(zip(s.names, ends, strict=True))).project(y)

    assert set(s.names) == set(dense.names) - {"A", "G"}
    gradcheck(project, (y[:2].clone().requires_grad_(), *ends), check_forward_ad=True, fast_mode=True)
    J = torch.func.jacrev(s.project)(y[0])
    torch.testing.assert_close(torch.func.jacfwd(s.project)(y[0]), J, rtol=0, atol=1e-10)
    torch.testing.assert_close(torch.func.jacrev(dense.project)(y[0]), J, rtol=0, atol=1e-9)
    torch.testing.assert_close(torch.vmap(s.project)(y), s.project(y), rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.vmap(torch.func.jacrev(s.project))(y)[0], J, rtol=0, atol=1e-10)


def test_the_factor_serves_the_backward_too(monkeypatch):
    s, y = chain(50), (3 * rand(4, 50)).requires_grad_()
    x = s.project(y)
    made = []
    one = banded.BandedRows._one
    monkeypatch.setattr(banded.BandedRows, "_one", lambda self, *a: made.append(1) or one(self, *a))
    x.sum().backward()
    assert not made


def test_batches_dtypes_copies_and_new_rows():
    s, dense, y = pair("bounds")
    x = s.project(y)
    torch.testing.assert_close(torch.stack([s.project(row) for row in y]), x, rtol=0, atol=1e-12)
    torch.testing.assert_close(s.project(y[:4].reshape(2, 2, -1)).reshape(4, -1), x[:4], rtol=0, atol=1e-12)
    assert s.project(y[:0]).shape == (0, 24)
    single = s.to(torch.float32)
    torch.testing.assert_close(single.project(y.float()), dense.to(torch.float32).project(y.float()), rtol=0, atol=1e-6)
    for other in (copy.deepcopy(s), pickle.loads(pickle.dumps(s)), ProjectionLayer(s)):
        assert torch.equal(other(y) if isinstance(other, ProjectionLayer) else other.project(y), x)
    G = 2.0 * s.G.to_dense()
    torch.testing.assert_close(
        s.with_data(G=G.to_sparse()).project(y), dense.with_data(G=G).project(y), rtol=0, atol=1e-11
    )
    torch.testing.assert_close(s.with_data(G=G).project(y), dense.with_data(G=G).project(y), rtol=0, atol=1e-11)


def test_oracles_and_rulers():
    s, dense, y = pair("bounds")
    x, info = s.project(y, return_info=True)
    assert bool(info.converged.all()) and float(info.gap.abs().max()) < 1e-8
    assert bool(s.contains(x).all()) and float(s.gap(y, s.project(-y)).max()) > 1e-3
    torch.testing.assert_close(s.violation(y), dense.violation(y))
    torch.testing.assert_close((s.lmo(y) * y).sum(-1), (dense.lmo(y) * y).sum(-1))
    z = s.sample(30, generator=torch.Generator().manual_seed(0)).double()
    assert float(s.violation(z).max()) < 1e-6 and float(z.std(0).max()) > 1e-3


def test_an_empty_set_is_proved_empty():
    D = steps(6)
    s = Polyhedron(G=torch.cat([D, -D]), h=torch.tensor([1.0] * 5 + [-2.0] * 5, dtype=F64))
    with pytest.raises(SolveError, match="the set is empty") as caught:
        s.project(torch.zeros(6, dtype=F64))
    w = caught.value.certificate["h"]
    assert float(w.min()) >= 0 and float((s.G.to_dense().T @ w).abs().max()) < 1e-9 and float(s.h @ w) < -1e-9
    x, info = s.project(torch.zeros(6, dtype=F64), strict=False)
    assert not bool(info.converged) and bool(x.isfinite().all())


def test_what_cannot_be_sparse_is_said():
    D = steps(5)
    with pytest.raises(ValueError, match=r"A has layout torch.strided.*expected both sparse"):
        Polyhedron(A=torch.ones(1, 5, dtype=F64), b=1.0, G=D, h=1.0)
    with pytest.raises(ValueError, match=r"requires_grad=True.*without gradients"):
        Polyhedron(G=D.clone().requires_grad_(), h=1.0)
    with pytest.raises(ValueError, match=r"the values of G, \[2\] is nan"):
        bad = D.clone().coalesce()
        bad.values()[2] = float("nan")
        Polyhedron(G=bad, h=1.0)


def test_a_band_too_wide_is_refused(monkeypatch):
    monkeypatch.setattr(banded, "LARGEST", 100)
    s = Polyhedron(G=rand(12, 12).to_sparse(), h=1.0)
    with pytest.raises(ValueError, match=r"band of width 11 with 12 rows, too large to factor.*give dense tensors"):
        s.project(torch.zeros(12, dtype=F64))
