"""Polyhedra of every awkward kind, and the rulers that judge an answer without any code of lablib's solver."""

import numpy as np
import torch
from scipy.optimize import nnls

from lablib import Polyhedron

F64 = torch.float64


def rand(*shape, seed=0):
    return torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def problem(kind, seed, n=12, batch=8):
    """Return a polyhedron of one kind and points to be projected, far enough out that many rows hold."""
    A, G, inside = rand(3, n, seed=seed), rand(15, n, seed=seed + 1), rand(n, seed=seed + 2)
    b, h = A @ inside, G @ inside + 0.3 * rand(15, seed=seed + 3).abs()
    y = inside + 3 * rand(batch, n, seed=seed + 4)
    if kind == "rows":
        return Polyhedron(A, b, G, h), y
    if kind == "bounds":
        return Polyhedron(A, b, G, h, lower=inside - 0.5, upper=inside + rand(n, seed=seed + 5).abs()), y
    if kind == "repeated":
        A, b = torch.cat([A, A[:2], 2 * A[:1]]), torch.cat([b, b[:2], 2 * b[:1]])
        G, h = torch.cat([G, G, 3 * G[:5], G[:4]]), torch.cat([h, h, 3 * h[:5], h[:4] + 0.1])
        return Polyhedron(A, b, G, h, lower=inside - 0.5), y
    if kind == "badly scaled":
        s, t = 10.0 ** (4 * rand(15, seed=seed + 5)), 10.0 ** (4 * rand(3, seed=seed + 6))
        return Polyhedron(A * t[:, None], b * t, G * s[:, None], h * s), y
    if kind == "vertex":  # 50 rows meet in one point
        G = torch.cat([G, G + 0.1 * rand(15, n, seed=seed + 5), rand(20, n, seed=seed + 6)])
        return Polyhedron(G=G, h=G @ inside), y
    if kind == "flat":  # no interior, and rows that only together are equalities
        G, h = G[:8], h[:8]
        return Polyhedron(A, b, torch.cat([G, -G[:3], -G[3:4] - G[4:5]]), torch.cat([h, -h[:3], -h[3:4] - h[4:5]])), y
    if kind == "simplex twice":
        eye, one = torch.eye(n, dtype=F64), torch.ones(1, n, dtype=F64)
        return Polyhedron(one, 1.0, torch.cat([eye, -one]), torch.cat([0.5 * one[0], -one[0, :1]]), lower=0.0), y
    if kind == "doubly stochastic":
        eye, one = torch.eye(4, dtype=F64), torch.ones(1, 4, dtype=F64)
        rows = torch.cat([torch.kron(eye, one), torch.kron(one, eye)])
        return Polyhedron(rows, 1.0, lower=0.0), 2 * rand(batch, 16, seed=seed)
    if kind == "many rows":
        G = rand(150, n, seed=seed)
        return Polyhedron(G=G, h=G.norm(dim=1)), y
    if kind == "fixed coordinates":
        upper = inside.clone()
        upper[:6] += 0.3
        return Polyhedron(G=G, h=h, lower=inside, upper=upper), y
    if kind == "nearly parallel":
        return Polyhedron(A, b, torch.cat([G, G + 1e-5 * rand(15, n, seed=11)]), torch.cat([h, h + 1e-6])), y
    assert kind == "per sample"
    A, G = rand(batch, 3, n, seed=seed), rand(batch, 15, n, seed=seed + 1)
    h = G @ inside + 0.3 * rand(batch, 15, seed=seed + 3).abs()
    return Polyhedron(A, A @ inside, G, h, lower=inside - rand(batch, n, seed=1).abs()), y


KINDS = (
    "rows",
    "bounds",
    "repeated",
    "badly scaled",
    "vertex",
    "flat",
    "simplex twice",
    "doubly stochastic",
    "many rows",
    "fixed coordinates",
    "nearly parallel",
    "per sample",
)


def sample(s, i):
    """The set of one sample, where the data are per sample."""
    return s.bind([t[i] if t.dim() > s.ranks[name] else t for name, t in s.data().items()])


def rows_of(s):
    """Equalities and inequalities of one sample, all as normalised rows: A, b, G, h in NumPy."""
    n = s.dim
    get = {k: None if getattr(s, k) is None else np.asarray(torch.as_tensor(getattr(s, k)).double()) for k in s.ranks}
    A = np.zeros((0, n)) if get["A"] is None else get["A"]
    b = np.zeros(0) if get["A"] is None else np.broadcast_to(get["b"], len(A))
    G = [np.zeros((0, n)) if get["G"] is None else get["G"]]
    h = [np.zeros(0) if get["G"] is None else np.broadcast_to(get["h"], len(G[0]))]
    for name, sign in (("lower", -1), ("upper", 1)):
        if get[name] is not None:
            G.append(sign * np.eye(n))
            h.append(sign * np.broadcast_to(get[name], n))
    G, h = np.vstack(G), np.concatenate(h)
    G, h = G[np.isfinite(h)], h[np.isfinite(h)]
    lengths = [np.maximum(np.linalg.norm(M, axis=1), 1e-300) for M in (A, G)]
    return A / lengths[0][:, None], b / lengths[0], G / lengths[1][:, None], h / lengths[1]


def infeasibility(s, x):
    """Largest violation of a normalised row, relative to 1 + |right-hand side|."""
    A, b, G, h = rows_of(s)
    equal, over = np.abs(A @ x - b) / (1 + np.abs(b)), (G @ x - h) / (1 + np.abs(h))
    return max(equal.max(initial=0), over.max(initial=0))


def distance_from_normal_cone(s, y, x):
    """Distance of y - x from the cone of the rows that hold at x, by SciPy's nonnegative least squares, relative."""
    A, _, G, h = rows_of(s)
    near = h - G @ x <= 1e-8 * (1 + np.abs(h) + np.abs(x).max())
    rows = np.vstack([A, -A, G[near]])
    normal = y - x
    left = nnls(rows.T, normal, maxiter=10_000)[1] if len(rows) else np.linalg.norm(normal)
    return left / (1 + np.linalg.norm(normal))


def face_projector(s, x, size):
    """The projector on the directions of the face of x, by a pseudo-inverse of all rows that hold."""
    A, _, G, h = rows_of(s)
    near = np.abs(h - G @ x) <= 1e-10 * (1 + size)
    rows = np.vstack([A, G[near]])
    return np.eye(s.dim) - np.linalg.pinv(rows, rcond=1e-8) @ rows
