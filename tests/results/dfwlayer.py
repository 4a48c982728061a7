"""The Frank-Wolfe layer as published, its instances, its rival Alt-Diff, and the exact answer to compare with.

The problem, in all of this file, for P (n, n), q and w (n,), t a number:

    x(q) = argmin { 1/2 x'Px + q'x  :  sum_i w_i |x_i| <= t },      loss(q) = sum_i x_i(q)

Re-written from the published code of both methods, with the defects of Alt-Diff's data repaired: its right-hand side
has the sign that makes the problem feasible, and its loops over entries are tensor operations. Everything that decides
a number is kept: float32, the schedule, the step, the stopping rule, the random start of the power iteration.

Source: DFWLayer (arXiv:2308.10806) and its code, github.com/Panda-Shawn/DFWLayer, which holds a port of Alt-Diff.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SEEDS = (100, 200, 300, 400, 500)
SIZES = (100, 300, 500, 1000)
clock = time.process_time
"""Seconds of processor time: what else a machine does while a layer is measured is not the layer's."""
SHARE = 0.3
"""The radius of the active variant, as a share of the weighted l1 norm of the unconstrained minimiser."""


@dataclass
class Instance:
    """One problem in float32, the random state after its draws, and a name."""

    P: Tensor
    q: Tensor
    w: Tensor
    t: float
    state: tuple
    name: str


@dataclass
class Answer:
    """What a method returned: x, the gradient of sum(x) by q, its steps, and seconds for init, forward, backward."""

    x: Tensor
    gradient: Tensor
    steps: int
    seconds: tuple[float, float, float]


def instance(n: int, seed: int, variant: str = "paper") -> Instance:
    """Draw an instance in the order of the published generator: t, P, q, w.

    ``variant``: "paper"; "active", where t is ``SHARE`` of the weighted norm of the unconstrained minimiser, so that
    the constraint holds; "cond100" and "cond10000", where moreover P = R'R + cI has this condition number.
    """
    rng = np.random.RandomState(seed)
    t = float(np.float32(abs(rng.randn(1)[0])))
    gram = rng.randn(n, n)
    gram = gram.T @ gram
    if variant.startswith("cond"):
        kappa, (low, high) = float(variant[4:]), np.linalg.eigvalsh(gram)[[0, -1]]
        P = gram + (high - kappa * low) / (kappa - 1) * np.eye(n)
    elif variant in ("paper", "active"):
        P = gram + n * np.eye(n)
    else:
        raise ValueError(f"variant is {variant!r}: expected paper, active, cond100 or cond10000")
    q, w = rng.randn(n), rng.uniform(0.5, 1.5, n)
    P, q, w = (torch.from_numpy(a).float() for a in (P, q, w))
    if variant != "paper":
        t = float(np.float32(SHARE * slack_norm(P, q, w)))
    return Instance(P, q, w, t, rng.get_state(), f"{variant}, n={n}, seed {seed}")


def slack_norm(P: Tensor, q: Tensor, w: Tensor) -> float:
    """Return the weighted l1 norm of the unconstrained minimiser: the constraint is active where t is smaller."""
    x = torch.linalg.solve(P.double(), -q.double())
    return float((w.double() * x.abs()).sum())


def largest_eigenvalue(P: Tensor, state: tuple) -> float:
    """Estimate the largest eigenvalue as published: power iteration from a random start, until it moves by < 0.01."""
    rng = np.random.RandomState()
    rng.set_state(state)
    matrix = P.numpy()
    v, before = rng.randn(len(matrix)), 0.0
    for _ in range(100):
        v = matrix @ v
        v = v / np.linalg.norm(v)
        now = (v @ matrix @ v) / (v @ v)
        if abs(now - before) < 1e-2:
            break
        before = now
    return float(now)


def published(problem: Instance, threshold: float = 1e-4, cap: int = 2000, keep: list | None = None) -> Answer:
    """Run the published softmax rollout and differentiate it by unrolling.

    Every 30 steps the inverse temperature doubles. It stops where the objective changes by less than ``threshold``
    relative to its last value. ``cap`` is ours, so that a run ends. ``keep`` collects the iterates. Even the order of
    the operations is that of the published code: beyond a threshold of 1e-4 the gradient hangs on rounding.
    """
    P, w, t = problem.P, problem.w, torch.tensor(problem.t)
    q = problem.q.clone().requires_grad_()
    start = clock()
    L = largest_eigenvalue(P, problem.state)
    begun = clock()
    x, beta, steps, values = torch.zeros_like(problem.q), 1.0, 0, [1000.0, -100.0]
    while abs((values[-1] - values[-2]) / values[-2]) > threshold and steps < cap:
        if steps % 30 == 29:
            beta *= 2
        steps += 1
        g = P @ x + q
        scaled = g * t / (w + 1e-8)
        size = (beta * scaled).abs()
        vertex = -t / (w + 1e-8) * torch.sign(scaled) * torch.softmax(size - size.max(), 0)
        d = x - vertex
        gamma = torch.clamp(g @ d / (L * torch.linalg.norm(d) ** 2), 0, 1)
        x = x - gamma * d
        values.append((0.5 * (x @ P @ x) + q @ x).detach().numpy())
        if keep is not None:
            keep.append(x.detach())
    solved = clock()
    x.sum().backward()
    done = clock()
    return Answer(x.detach(), q.grad, steps, (begun - start, solved - begun, done - solved))


def alt_diff(problem: Instance, threshold: float = 1e-4, cap: int = 20000) -> Answer:
    """Run Alt-Diff, repaired: ADMM on (x, u) with |w_i x_i| <= u_i and sum u <= t, its Jacobian carried along.

    Two repairs: t has the sign that makes the problem feasible, and the loops over entries are tensor operations. The
    penalty is 1, and the stopping rule that of :func:`published`, as in the port.
    """
    n, w, t = len(problem.q), problem.w, problem.t
    start = clock()
    eye, zero = torch.eye(n), torch.zeros(n, n)
    P = torch.block_diag(problem.P, 1e-8 * eye)
    q = torch.cat([problem.q, torch.full((n,), 1e-8)])
    slope = torch.diag(w + 1e-8)
    G = torch.cat([torch.cat([-slope, -eye], 1), torch.cat([slope, -eye], 1), torch.cat([zero, -eye], 1)])
    G = torch.cat([G, torch.cat([torch.zeros(1, n), torch.ones(1, n)], 1)])
    h = torch.zeros(3 * n + 1)
    h[-1] = t
    R = -torch.linalg.inv(P + G.T @ G)
    begun = clock()
    slack, nu = torch.zeros(3 * n + 1), torch.zeros(3 * n + 1)
    dslack, dnu, unit = torch.zeros(3 * n + 1, 2 * n), torch.zeros(3 * n + 1, 2 * n), torch.eye(2 * n)
    values, steps = [1000.0, -100.0], 0
    while abs((values[-1] - values[-2]) / values[-2]) > threshold and steps < cap:
        steps += 1
        x = R @ (q + G.T @ (nu + slack - h))
        dx = R @ (unit + G.T @ (dnu + dslack))
        slack = (-nu - (G @ x - h)).clamp(min=0)
        dslack = -(slack > 0).float()[:, None] * (dnu + G @ dx)
        nu = nu + G @ x + slack - h
        dnu = dnu + G @ dx + dslack
        values.append(float(0.5 * (x @ (P @ x)) + q @ x))
    done = clock()
    return Answer(x[:n], dx[:n, :n].sum(0), steps, (begun - start, done - begun, 0.0))


def exact(problem: Instance, rounds: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Return x and the gradient of sum(x) by q in float64, both proved by the KKT conditions.

    Without the constraint if that is feasible. Else accelerated projected steps guess the support and the signs; on
    them the bordered linear system gives x and the multiplier mu. The answer is believed only where it passes: on the
    support (Px + q)_i = -mu w_i sign(x_i), off it |Px + q|_i <= mu w_i, mu >= 0, sum w|x| = t.
    """
    P, q, w = (a.double().numpy() for a in (problem.P, problem.q, problem.w))
    t, v = problem.t, np.ones(len(q))
    x = np.linalg.solve(P, -q)
    if w @ np.abs(x) <= t:
        return x, -np.linalg.solve(P, v)
    step, x = 1 / np.linalg.eigvalsh(P)[-1], np.zeros(len(q))
    for _ in range(rounds):
        x = _accelerated(P, q, w, t, x, step, 400)
        S = np.flatnonzero(x)
        sign = w[S] * np.sign(x[S])
        inverse = np.linalg.solve(P[np.ix_(S, S)], np.stack([-q[S], sign, v[S]], 1))
        mu = (sign @ inverse[:, 0] - t) / (sign @ inverse[:, 1])
        found = np.zeros(len(q))
        found[S] = inverse[:, 0] - mu * inverse[:, 1]
        off = np.abs(P @ found + q)
        off[S] = 0
        if mu >= 0 and (found[S] * sign > 0).all() and (off <= mu * w * (1 + 1e-9)).all():
            gradient = np.zeros(len(q))
            gradient[S] = -(inverse[:, 2] - (sign @ inverse[:, 2]) / (sign @ inverse[:, 1]) * inverse[:, 1])
            return found, gradient
    raise RuntimeError(f"{problem.name}: no support passed the KKT conditions in {rounds} rounds")


def _accelerated(P, q, w, t, x, step, count):
    """Take projected gradient steps with momentum, which restarts where the objective would rise."""
    y, momentum = x, 1.0
    for _ in range(count):
        new = _onto_ball(y - step * (P @ y + q), w, t)
        if (y - new) @ (new - x) > 0:
            momentum = 1.0
        later = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        y, x, momentum = new + (momentum - 1) / later * (new - x), new, later
    return x


def _onto_ball(y, w, t):
    if w @ np.abs(y) <= t:
        return y
    order = np.argsort(-np.abs(y) / w)
    tau = (np.cumsum((w * np.abs(y))[order]) - t) / np.cumsum((w**2)[order])
    mu = tau[np.count_nonzero((np.abs(y) / w)[order] > tau) - 1]
    return np.sign(y) * np.maximum(np.abs(y) - mu * w, 0)


def scores(answer: Answer, problem: Instance, reference: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """Compare with the exact answer: relative errors of x and of the gradient, the cosine, the violation."""
    x, gradient = reference
    ours, slope = answer.x.double().numpy(), answer.gradient.double().numpy()
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.linalg.norm(slope)
        return {
            "x": float(np.linalg.norm(ours - x) / np.linalg.norm(x)),
            "gradient": float(np.linalg.norm(slope - gradient) / np.linalg.norm(gradient)),
            "cosine": float(slope @ gradient / (size * np.linalg.norm(gradient))),
            "violation": float(max(problem.w.double().numpy() @ np.abs(ours) - problem.t, 0)),
        }
