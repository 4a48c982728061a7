"""Slow answers to be checked by eye: one row at a time, in float64, by bisection, algebra or another solver."""

import clarabel
import numpy as np
import torch
from scipy import sparse

from lablib import Affine, Box, BoxBudget, L1Ball, Simplex


def bisect(falling, low, high):
    """The root of a falling function between two numbers, to the last digit."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def simplex(y, total=1.0):
    tau = bisect(lambda t: np.maximum(y - t, 0).sum() - total, y.max() - total - 1, y.max())
    return np.maximum(y - tau, 0)


def l1(y, radius=1.0, weights=None):
    w = np.ones_like(y) if weights is None else weights
    if (w * np.abs(y)).sum() <= radius:
        return y.copy()
    top = np.max(np.abs(y[w > 0]) / w[w > 0])
    tau = bisect(lambda t: (w * np.maximum(np.abs(y) - t * w, 0)).sum() - radius, 0.0, top)
    return np.sign(y) * np.maximum(np.abs(y) - tau * w, 0)


def budget(y, lower, upper, weights, c):
    mu = bisect(lambda m: weights @ np.clip(y - m * weights, lower, upper) - c, -1e4, 1e4)
    return np.clip(y - mu * weights, lower, upper)


def affine(y, A, b):
    return y - np.linalg.lstsq(A, A @ y - b, rcond=None)[0]


def quadratic_program(P, q, A, b, G, h):
    """min 1/2 x'Px + q'x, A x = b, G x <= h, by Clarabel's interior point method."""
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    cones = [clarabel.ZeroConeT(len(b)), clarabel.NonnegativeConeT(len(h))]
    rows, ends = sparse.csc_matrix(np.vstack([A, G])), np.concatenate([b, h])
    found = clarabel.DefaultSolver(sparse.csc_matrix(P), q, rows, ends, cones, settings).solve()
    assert str(found.status) == "Solved", found.status
    return np.array(found.x)


def project_by_clarabel(convex_set, y):
    """The projection of one row, from the set's definition alone."""
    n = len(y)
    eye, none = np.eye(n), (np.zeros((0, n)), np.zeros(0))
    get = {name: np.asarray(value) for name, value in vars(convex_set).items() if name in convex_set.ranks}
    if isinstance(convex_set, Simplex):
        return quadratic_program(eye, -y, np.ones((1, n)), np.atleast_1d(get["total"]), -eye, np.zeros(n))
    if isinstance(convex_set, Affine):
        return quadratic_program(eye, -y, get["A"], get["b"], *none)
    if isinstance(convex_set, L1Ball):  # |x_i| <= t_i and w.t <= radius, in the variables (x, t)
        w = np.ones(n) if convex_set.weights is None else get["weights"]
        zero = np.zeros((n, n))
        P = np.block([[eye, zero], [zero, zero]])
        G = np.vstack([np.hstack([eye, -eye]), np.hstack([-eye, -eye]), np.concatenate([np.zeros(n), w])])
        h = np.concatenate([np.zeros(2 * n), np.atleast_1d(get["radius"])])
        return quadratic_program(P, np.concatenate([-y, np.zeros(n)]), np.zeros((0, 2 * n)), np.zeros(0), G, h)[:n]
    lower, upper = (np.broadcast_to(get[k], n) for k in ("lower", "upper"))
    finite_low, finite_high = np.isfinite(lower), np.isfinite(upper)
    G, h = np.vstack([-eye[finite_low], eye[finite_high]]), np.concatenate([-lower[finite_low], upper[finite_high]])
    if isinstance(convex_set, Box):
        return quadratic_program(eye, -y, *none, G, h)
    assert isinstance(convex_set, BoxBudget)
    a = np.broadcast_to(get["weights"], n)
    return quadratic_program(eye, -y, a[None], np.atleast_1d(get["budget"]), G, h)


def difference_jacobian(function, y, step=1e-6):
    """Central differences of a function of one vector; exact up to rounding where it is linear."""
    columns = []
    for i in range(y.numel()):
        e = torch.zeros_like(y)
        e.view(-1)[i] = step
        columns.append((function(y + e) - function(y - e)).reshape(-1) / (2 * step))
    return torch.stack(columns, -1)


def row_projector(normals):
    """I - M M^+ for the rows of a matrix: the face projector by a pseudo-inverse, as the definition has it."""
    M = normals.T
    return np.eye(normals.shape[1]) - M @ np.linalg.pinv(M)
