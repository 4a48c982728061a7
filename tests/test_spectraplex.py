"""The matrices that are positive semidefinite with trace 1: against eigenvalues, and minimised over by Frank-Wolfe."""

import pytest
import torch

from lablib import Simplex, SolveError, Spectraplex, frank_wolfe, matrix_sets

D = torch.float64


def symmetric(*shape, n):
    A = torch.randn(*shape, n, n, dtype=D)
    return (A + A.mT) / 2


def project(Y):
    """The nearest point: project the eigenvalues on the simplex."""
    values, vectors = torch.linalg.eigh(Y)
    return vectors * Simplex(Y.shape[-1]).project(values).unsqueeze(-2) @ vectors.mT


@pytest.mark.eq("eq-lmo-spectraplex")
@pytest.mark.parametrize("n", [1, 5, matrix_sets.LANCZOS_FROM])
def test_the_oracle_attains_the_smallest_eigenvalue(n):
    s, G = Spectraplex(n), symmetric(2, n=n)
    V = s.lmo(G)
    torch.testing.assert_close((G * V).sum((-2, -1)), torch.linalg.eigvalsh(G)[..., 0], rtol=1e-10, atol=1e-12)
    assert bool(s.contains(V).all()) and torch.linalg.matrix_rank(V, hermitian=True, tol=1e-9).tolist() == [1, 1]
    skew = torch.triu(torch.ones(n, n, dtype=D), 1)
    torch.testing.assert_close(s.lmo(G + skew - skew.mT), V)  # only the symmetric part of g counts
    low = s.lmo(G.float())
    assert low.dtype is torch.float32
    excess = (G * low.double()).sum((-2, -1)) - torch.linalg.eigvalsh(G)[..., 0]
    assert float(excess.abs().max()) < 1e-4


def test_the_search_for_one_eigenvector_copes_with_ties_and_zero():
    n = matrix_sets.LANCZOS_FROM
    s = Spectraplex(n)
    basis = torch.linalg.qr(torch.randn(n, n, dtype=D))[0]
    tied = (basis * torch.cat([torch.full((5,), -2.0, dtype=D), torch.linspace(-1.99, 3, n - 5, dtype=D)])) @ basis.mT
    for G, lowest in ((tied, -2.0), (torch.zeros(n, n, dtype=D), 0.0), (torch.eye(n, dtype=D), 1.0)):
        V = s.lmo(G)
        assert abs(float((G * V).sum()) - lowest) < 1e-9 and bool(s.contains(V))


def test_violation_is_the_largest_of_three():
    s = Spectraplex(2)
    X = torch.tensor(
        [[[0.5, 0.0], [0.0, 0.5]], [[0.5, 0.3], [0.1, 0.5]], [[1.5, 0.0], [0.0, -0.5]], [[1.0, 0], [0, 1.0]]]
    )
    torch.testing.assert_close(s.violation(X), torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=D), rtol=0, atol=1e-7)
    assert s.contains(X).tolist() == [True, False, False, False]
    assert s.contains(X, atol=0.3).tolist() == [True, True, False, False]
    for n in (3, 40):
        sample = Spectraplex(n).sample(4, 2, generator=torch.Generator().manual_seed(0))
        assert sample.shape == (4, 2, n, n) and bool(Spectraplex(n).contains(sample).all())
        assert int(torch.linalg.matrix_rank(sample[0, 0].double(), hermitian=True)) == n


@pytest.mark.parametrize("variant", ["vanilla", "away", "pairwise"])
def test_frank_wolfe_finds_the_projection(variant):
    n, s = 8, Spectraplex(8)
    Y = symmetric(3, n=n) / 3
    X, info = frank_wolfe(
        lambda X: X - Y, s, torch.eye(n, dtype=D).expand(3, n, n) / n, variant=variant, tol=1e-4, max_steps=20_000
    )
    assert X.shape == Y.shape and bool(s.contains(X, atol=1e-12).all()) and info.gap.shape == (3,)
    # The gap bounds half the squared distance to the minimiser, as f is 1-strongly convex.
    distance = (X - project(Y)).square().sum((-2, -1))
    assert bool((distance / 2 <= info.gap).all()) and float(info.gap.max()) <= 1e-4
    assert bool((info.iterations > 1).any())


def test_a_start_is_found_where_none_is_given():
    target = torch.diag(torch.tensor([2.0, 0.0, 0.0]))
    X, info = frank_wolfe(lambda X: X - target, Spectraplex(3), tol=1e-6)
    torch.testing.assert_close(X, torch.diag(torch.tensor([1.0, 0, 0])), rtol=0, atol=1e-3)
    assert bool(info.converged)


def test_what_is_wrong_is_said():
    s = Spectraplex(3)
    with pytest.raises(TypeError, match="size is a float: expected an integer"):
        Spectraplex(3.0)
    with pytest.raises(SolveError, match="size is 0: expected at least 1"):
        Spectraplex(0)
    with pytest.raises(SolveError, match=r"g has shape \(3,\): Spectraplex expected last dimensions of 3 and 3"):
        s.lmo(torch.ones(3))
    with pytest.raises(SolveError, match=r"x has shape \(2, 3, 4\)"):
        s.violation(torch.ones(2, 3, 4))
    with pytest.raises(TypeError, match=r"x has dtype torch\.int64"):
        s.contains(torch.ones(3, 3, dtype=torch.int64))
    with pytest.raises(SolveError, match=r"g\[1, 2\] is nan: expected finite numbers"):
        s.lmo(torch.ones(3, 3).index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(float("nan"))))
    with pytest.raises(NotImplementedError, match="no differentiable projection: it is not a polyhedron"):
        s.project(torch.eye(3))
    with pytest.raises(SolveError, match=r"x0\[1\] is outside Spectraplex, by 2\.0e\+00"):
        frank_wolfe(lambda X: X, s, torch.stack([torch.eye(3) / 3, torch.eye(3)]))
    assert repr(s) == "Spectraplex(3)"
