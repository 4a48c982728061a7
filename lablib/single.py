"""One point on one polyhedron on the CPU: the search of ``active_set.py`` in NumPy.

With a single point most of the time of torch's operations is their start: microseconds for a product that takes one.
Here the same iteration runs on arrays, and answers only where it is right beyond doubt: each row that holds pushes, no
other is met or touched, and the rows that hold are independent. Everything else is left to ``active_set.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs

from .active_set import DEPENDENT, EPS, NEAR, NOISE, PASSES, RELAXED

GUESSES = 6  # Douglas-Rachford steps: a pass more is cheaper here than many of them


class Arrays(NamedTuple):
    """The data of a set.

    Q' and C, one under the other (p + r, n); C C' and the matrix of ``pull`` (r, r); Q'x where A x = b (p,); the ends
    of C x (r,); the size of all that.
    """

    W: np.ndarray
    K: np.ndarray
    pull: np.ndarray
    tied: np.ndarray
    low: np.ndarray
    high: np.ndarray
    large: float


class Found(NamedTuple):
    """A projection (n,), the rows that hold (k,), their sides (k,), the factor of their Gram matrix, the passes."""

    x: np.ndarray
    index: np.ndarray
    side: np.ndarray
    lower: np.ndarray
    steps: int


def project(s: Arrays, y: np.ndarray) -> Found | None:
    """Return the projection of y (n,), or None where there is a doubt.

    >>> one = np.eye(2)
    >>> s = Arrays(one, one, 0 * one, np.zeros(0), np.full(2, -np.inf), np.ones(2), 1.0)
    >>> project(s, np.array([3.0, 0.5])).x.tolist()
    [1.0, 0.5]
    """
    p = len(s.tied)
    along = s.W @ y
    t = along[p:]
    size = float(np.abs(y).max(initial=0)) + s.large or 1.0
    tiny = NOISE * size
    far, near = s.low - t, s.high - t
    guess = _steps(s, far, near, np.zeros(len(t)), GUESSES)
    up, down = guess > near, guess < far
    steps = 0
    while True:
        steps += 1
        if steps > PASSES:
            return None
        index = np.flatnonzero(up | down)
        side = np.where(up[index], 1.0, -1.0)
        gram = s.K[index[:, None], index].T  # symmetric, and now in LAPACK's own order
        lower, failed = dpotrf(gram, lower=1, clean=1, overwrite_a=1) if len(index) else (gram, 0)
        if failed:  # more rows than can be independent: guess better
            guess = _steps(s, far, near, guess, 4 * GUESSES)
            up, down = guess > near, guess < far
            continue
        end = np.where(side > 0, s.high[index], s.low[index])
        pushes = _solve(lower, t[index] - end)
        value = t - s.K[:, index] @ pushes
        holds = pushes * side > -tiny
        above, below = value - s.high, s.low - value
        above[index] = below[index] = -np.inf
        if holds.all() and above.max(initial=-1.0) <= tiny and below.max(initial=-1.0) <= tiny:
            break
        kept = side * holds
        up, down = above > tiny, below > tiny
        up[index], down[index] = kept > 0, kept < 0
    room = -max(above.max(initial=-np.inf), below.max(initial=-np.inf))
    pivot = lower.diagonal().min(initial=1.0) ** 2
    if not (min(room, (pushes * side).min(initial=np.inf)) > NEAR * size and pivot > 10 * DEPENDENT):
        return None
    m = np.zeros(len(along))
    m[:p] = along[:p] - s.tied
    m[p + index] = pushes
    x = y - m @ s.W
    if float(np.abs(x).max(initial=0)) * 1e5 < size:
        return None  # a huge y costs digits
    off = s.W @ x
    m[:p], m[p + index] = off[:p] - s.tied, off[p + index] - end
    if np.abs(m).max(initial=0) > 2 * EPS * np.sqrt(len(x)) * np.abs(x).max(initial=0):  # once more from x
        m[p + index] = _solve(lower, m[p + index])
        x = x - m @ s.W
    return Found(x, index, side, lower, steps)


def _steps(s: Arrays, low: np.ndarray, high: np.ndarray, p: np.ndarray, steps: int) -> np.ndarray:
    """Return p after Douglas-Rachford steps as in ``active_set.guess``."""
    for _ in range(steps):
        z = np.minimum(np.maximum(p, low), high)
        z += z
        z -= p
        p = (1 - RELAXED / 2) * p + s.pull @ z
    return p


def face_project(W: np.ndarray, index: np.ndarray, side: np.ndarray, lower: np.ndarray, v: np.ndarray, p: int):
    """Return v (n,) less its part in the rows Q', the first p of W, and in those of C at index.

    >>> face_project(np.eye(2), np.array([1]), np.array([1.0]), np.eye(1), np.array([3.0, 4.0]), 0).tolist()
    [3.0, 0.0]
    """
    along = W @ v
    m = np.zeros(len(along))
    m[:p] = along[:p]
    held = side != 0  # the others are padding
    m[p + index[held]] = _solve(lower, along[p + index] * held)[held]
    return v - m @ W


def _solve(lower: np.ndarray, right: np.ndarray) -> np.ndarray:
    return dpotrs(lower, right, lower=1)[0] if len(right) else right
