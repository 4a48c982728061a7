"""Find the one number behind a projection: the fast scalar searches for the simplex, the l1 ball and the box with a budget.

Each of these projections is a clip of y whose only unknown is a number, the root of a piecewise linear monotone function:

    simplex          x_i = max(y_i - tau, 0)                    with  sum_i x_i = total
    weighted l1      x_i = sign(y_i) max(|y_i| - tau w_i, 0)    with  sum_i w_i |x_i| = radius
    box and budget   x_i = clip(y_i - mu a_i, l_i, u_i)         with  sum_i a_i x_i = budget

Newton's method from a lower bound climbs to the root of a convex piecewise linear function and meets it exactly, after finitely many
steps, as soon as the set of entries above the threshold stays the same (Michelot 1986 has the simplex, Condat 2016 the field). What is
done here is to make a step cheap: short rows are sorted; long rows with few entries above the threshold are first cut down to those
entries, by the exact threshold of block maxima, which can only be too low; the others start from a sample, and every pass is in place.

The interface. Leading dimensions are batch dimensions, the last one is the row; tensors are finite and not differentiated here.

    x, support = simplex(y, total)                 x, support = l1(y, radius, weights)
    u = face(v, support)                           u = face(v, support)

    x, support, mu = budget(y, lower, upper, weights, total)
    u = face(v, support)

``total`` and ``radius`` are floats, or tensors of any shape that broadcasts against the batch shape ``y.shape[:-1]``; ``weights``,
``lower`` and ``upper`` broadcast against ``y``. ``support`` is a tuple of one, two or three tensors which says on which face x lies. It is
opaque, has the batch dimensions of ``y`` in front (so it may be mapped over), and is to be handed on to ``face`` as it is:

    (q,)            rows of one normal q with entries -1, 0, 1:       face = q (q v - mean of q v over the entries of q)
    (m, q)          a mask m (0 or 1) and a normal q:                 face = m v - q (q.v) / (q.q)
    (index, q)      the same as (q,), only for the columns ``index`` (integers, padded by entries with q = 0); the others are 0

``dense(support, n)`` gives the pair (m, q) of the second form whichever form it is; m is the mask of the entries that are free to move.
``element="highest"`` puts weakly active entries (y_i = tau exactly) into the support, ``"lowest"`` leaves them out.
"""

import torch
from torch import Tensor

# Rows up to this length are sorted: below it a sort costs less than the passes of a search.
SORT_UP_TO = 32
# Rows from this length on may be cut down to the entries that can be above the threshold.
CUT_FROM = 256


def simplex(y: Tensor, total: float | Tensor = 1.0, *, element: str = "lowest") -> tuple[Tensor, tuple[Tensor, ...]]:
    """Project the rows of ``y`` on ``{x >= 0, sum x = total}``; returns ``x`` and its support."""
    total = _batch_column(total, y)
    x, q, index, _ = _simplex(y, total, element)
    return x, (q,) if index is None else (index, q)


def l1(
    y: Tensor, radius: float | Tensor = 1.0, weights: Tensor | None = None, *, element: str = "lowest"
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Project the rows of ``y`` on ``{x: sum_i w_i |x_i| <= radius}`` (w = 1 if not given); returns ``x`` and its support."""
    radius = _batch_column(radius, y)
    size = y.abs()
    if weights is None:
        x, q, index, tau = _simplex(size, radius, element)
        sign = y.sign() if index is None else y.gather(-1, index).sign()
        outside = tau > 0 if element == "highest" else tau >= 0
        # A row of radius 0 is the single point 0, whatever its tau.
        outside = outside | (radius == 0)
        q = q * sign
        if index is None:
            x = x * sign
        else:
            x = torch.zeros_like(y).scatter_add_(-1, index, x.gather(-1, index) * sign)
        if not torch.compiler.is_compiling() and bool(outside.all()):
            return x, (q,) if index is None else (index, q)
        if index is not None:
            q = torch.zeros_like(y).scatter_add_(-1, index, q)
        free = q.abs()
    else:
        w = torch.broadcast_to(weights, y.shape).double()
        tau, above = _weighted_threshold(size.double(), w, radius, element)
        sign = y.sign()
        x = (size.double() - tau * w).clamp_min_(0).to(y.dtype) * sign
        outside = tau > 0 if element == "highest" else tau >= 0
        outside = outside | (radius == 0)
        q = (above * w).to(y.dtype) * sign
        free = (above.bool() | (w == 0)).to(y.dtype)
    x = torch.where(outside, x, y)
    free = torch.where(outside, free, 1.0)
    q = torch.where(outside, q, 0.0)
    return x, (free, q)


def budget(
    y: Tensor, lower: Tensor, upper: Tensor, weights: Tensor, total: float | Tensor, *, element: str = "lowest"
) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
    """Project the rows of ``y`` on ``{lower <= x <= upper, weights . x = total}``; returns ``x``, its support and ``mu``.

    ``mu`` (batch shape + (1,), float64) is the multiplier of the budget: ``x = clip(y - mu weights, lower, upper)``. The set must not be
    empty: where it is, x is a corner of the box that comes nearest to the budget.
    """
    total = _batch_column(total, y)
    z, a = y.double(), torch.broadcast_to(weights, y.shape).double()
    low, high = torch.broadcast_to(lower, y.shape).double(), torch.broadcast_to(upper, y.shape).double()
    if torch.compiler.is_compiling() or y.is_cuda:
        mu = _budget_by_breakpoints(z, low, high, a, total)
    else:
        mu, done = _budget_by_newton(z, low, high, a, total)
        if not bool(done.all()):
            mu = torch.where(done, mu, _budget_by_breakpoints(z, low, high, a, total))
    moved = z - mu * a
    x = torch.minimum(torch.maximum(moved, low), high).to(y.dtype)
    if element == "highest":
        free = (moved >= low) & (moved <= high) & (low < high)
    else:
        free = (moved > low) & (moved < high)
    free = free.to(y.dtype)
    return x, (free, free * a.to(y.dtype)), mu


def face(v: Tensor, support: tuple[Tensor, ...]) -> Tensor:
    """Project ``v`` on the directions of the face that ``support`` describes (see the module's text); linear in ``v``."""
    if len(support) == 1:
        (q,) = support
        return _along(v, q)
    first, q = support
    if not first.is_floating_point():
        index = first.expand(v.shape[:-1] + first.shape[-1:])
        return torch.zeros_like(v).scatter_add(-1, index, _along(v.gather(-1, index), q))
    square = (q * q).sum(-1, keepdim=True)
    slope = (q * v).sum(-1, keepdim=True) / torch.where(square == 0, 1.0, square)
    return first * v - q * slope


def dense(support: tuple[Tensor, ...], n: int) -> tuple[Tensor, Tensor]:
    """The mask of the free entries and the normal on them, both of row length ``n``, whatever the form of ``support``."""
    if len(support) == 1:
        return support[0].abs(), support[0]
    first, q = support
    if not first.is_floating_point():
        q = q.new_zeros(q.shape[:-1] + (n,)).scatter_add_(-1, first, q)
        return q.abs(), q
    return first, q


def all_finite(y: Tensor) -> bool:
    """Whether no entry is NaN or infinite, by one sum; the entries are looked at one by one only where the sum is not finite."""
    return bool(torch.isfinite(y.sum())) or bool(torch.isfinite(y).all())


def _along(v: Tensor, q: Tensor) -> Tensor:
    """The part of v on the support of q (entries -1, 0, 1) that is orthogonal to q."""
    count = q.abs().sum(-1, keepdim=True).clamp_min_(1.0)
    along = v * q
    return (along - along.sum(-1, keepdim=True) / count) * q


def _batch_column(value: float | Tensor, y: Tensor) -> float | Tensor:
    """A number per row as a column in float64; a float stays one."""
    if not isinstance(value, Tensor):
        return float(value)
    return torch.broadcast_to(value, y.shape[:-1]).double().unsqueeze(-1)


def _simplex(y: Tensor, total: float | Tensor, element: str):
    """x, the mask of the support, its columns (None: all) and the threshold."""
    n = y.shape[-1]
    if n <= SORT_UP_TO or torch.compiler.is_compiling() or y.numel() == 0:
        top = y.amax(-1, keepdim=True) if y.numel() else y.new_zeros(y.shape[:-1] + (1,))
        return _finish(y, top, total, element, _sorted_threshold)
    rows = y.reshape(-1, n)
    if isinstance(total, Tensor):
        total = total.reshape(-1, 1)
    top = rows.amax(-1, keepdim=True)
    x, q, index, tau = _finish(rows, top, total, element, _newton_threshold)
    shape = y.shape[:-1]
    return x.view(y.shape), q.view(y.shape), index, tau.view(shape + (1,))


def _finish(y: Tensor, top: Tensor, total: float | Tensor, element: str, search):
    shifted = (y - top).double()
    tau = search(shifted, total)
    x = (shifted - tau).clamp_min_(0).to(y.dtype)
    q = (shifted >= tau).to(y.dtype) if element == "highest" else x.sign()
    if element == "highest":
        q = torch.where(torch.as_tensor(total, device=y.device) > 0, q, 0.0)
    return x, q, None, tau + top


def _sorted_threshold(y: Tensor, total: float | Tensor) -> Tensor:
    """The threshold of each row: of all the lower bounds (sum of the k largest - total) / k the largest one."""
    largest = torch.sort(y, dim=-1, descending=True)[0]
    ranks = torch.arange(1, y.shape[-1] + 1, dtype=y.dtype, device=y.device)
    return largest.cumsum(-1).sub_(total).div_(ranks).amax(-1, keepdim=True)


def _newton_threshold(y: Tensor, total: float | Tensor) -> Tensor:
    """The threshold of each row (largest entry 0) by Newton's method from a lower bound."""
    n = y.shape[-1]
    tau = (
        ((y.sum(-1, keepdim=True) - total) / n).clamp_min_(0.0 - total)
        if not isinstance(total, Tensor)
        else torch.maximum((y.sum(-1, keepdim=True) - total) / n, -total)
    )
    before = None
    for _ in range(n + 2):
        above = (y > tau).double()
        count = above.sum(-1, keepdim=True)
        if before is not None and torch.equal(count, before):
            break
        step = ((y * above).sum(-1, keepdim=True) - total) / count.clamp_min(1.0)
        tau = torch.where(count > 0, torch.maximum(tau, step), tau)
        before = count
    return tau


def _weighted_threshold(size: Tensor, w: Tensor, radius: float | Tensor, element: str) -> tuple[Tensor, Tensor]:
    """The root tau of sum_i w_i (size_i - tau w_i)_+ = radius for each row, and the mask of size_i > tau w_i with w_i > 0."""
    square = w * w
    weighted = size * w
    best = torch.where(w > 0, (weighted - radius) / torch.where(w > 0, square, 1.0), -torch.inf).amax(-1, keepdim=True)
    everything = square.sum(-1, keepdim=True)
    tau = torch.maximum(best, (weighted.sum(-1, keepdim=True) - radius) / torch.where(everything > 0, everything, 1.0))
    compiling = torch.compiler.is_compiling()
    if compiling:
        return _weighted_by_sorting(size, w, radius, element)
    before = None
    for _ in range(size.shape[-1] + 2):
        above = ((size > tau * w) & (w > 0)).double()
        count = above.sum(-1, keepdim=True)
        if before is not None and torch.equal(count, before):
            break
        slope = (square * above).sum(-1, keepdim=True)
        step = ((weighted * above).sum(-1, keepdim=True) - radius) / torch.where(slope > 0, slope, 1.0)
        tau = torch.where(slope > 0, torch.maximum(tau, step), tau)
        before = count
    above = ((size >= tau * w) if element == "highest" else (size > tau * w)) & (w > 0)
    return tau, above.double()


def _weighted_by_sorting(size: Tensor, w: Tensor, radius: float | Tensor, element: str) -> tuple[Tensor, Tensor]:
    """The same by sorting the breakpoints: the largest of the lower bounds that the k largest ratios give."""
    ratio = torch.where(w > 0, size / torch.where(w > 0, w, 1.0), -torch.inf)
    order = ratio.argsort(-1, descending=True)
    w_sorted, size_sorted = w.gather(-1, order), size.gather(-1, order)
    slope = (w_sorted * w_sorted).cumsum(-1)
    bound = ((w_sorted * size_sorted).cumsum(-1) - radius) / torch.where(slope > 0, slope, 1.0)
    tau = torch.where(slope > 0, bound, -torch.inf).amax(-1, keepdim=True)
    above = ((size >= tau * w) if element == "highest" else (size > tau * w)) & (w > 0)
    return tau, above.double()


def _balance(mu: Tensor, y: Tensor, low: Tensor, high: Tensor, a: Tensor, total: float | Tensor):
    """What the budget lacks at mu: h(mu) - total, its rate -h'(mu), and the size of the terms in it."""
    moved = y - mu * a
    terms = torch.minimum(torch.maximum(moved, low), high) * a
    free = ((moved > low) & (moved < high)).double()
    return terms.sum(-1, keepdim=True) - total, (a * a * free).sum(-1, keepdim=True), terms.abs().sum(-1, keepdim=True)


def _budget_by_newton(y: Tensor, low: Tensor, high: Tensor, a: Tensor, total: float | Tensor) -> tuple[Tensor, Tensor]:
    """Newton's method in a shrinking bracket; ``done`` says in which rows it met the root."""
    mu = y.new_zeros(y.shape[:-1] + (1,))
    left, right = torch.full_like(mu, -torch.inf), torch.full_like(mu, torch.inf)
    done = torch.zeros_like(mu, dtype=torch.bool)
    eps = 4 * torch.finfo(torch.float64).eps
    for _ in range(40):
        excess, rate, scale = _balance(mu, y, low, high, a, total)
        done = excess.abs() <= eps * scale
        if bool(done.all()):
            break
        left, right = torch.where(excess > 0, mu, left), torch.where(excess < 0, mu, right)
        step = mu + excess / rate
        middle = (left + right) / 2
        inside = (step > left) & (step < right)
        mu = torch.where(done, mu, torch.where(inside, step, middle))
        mu = torch.where(mu.isfinite(), mu, 0.0)
    return mu, done


def _budget_by_breakpoints(y: Tensor, low: Tensor, high: Tensor, a: Tensor, total: float | Tensor) -> Tensor:
    """The root by halving the sorted breakpoints of h: a number of passes that depends on the row length alone."""
    n = y.shape[-1]
    safe = torch.where(a == 0, 1.0, a)
    points = torch.cat([(y - low) / safe, (y - high) / safe], -1)
    points = torch.where(torch.cat([a == 0, a == 0], -1) | ~points.isfinite(), torch.inf, points).sort(-1)[0]
    # The root lies in [points[first], points[last]], where -1 and 2n stand for the infinities.
    first = torch.full(y.shape[:-1] + (1,), -1, dtype=torch.int64, device=y.device)
    last = torch.full_like(first, 2 * n)
    for _ in range((2 * n).bit_length()):
        middle = (first + last) // 2
        at = points.gather(-1, middle.clamp(0, 2 * n - 1))
        excess, _, _ = _balance(torch.where(at.isfinite(), at, 0.0), y, low, high, a, total)
        right_of = at.isfinite() & (excess >= 0) & (last - first > 1)
        first = torch.where(right_of, middle, first)
        last = torch.where(right_of | (last - first <= 1), last, middle)
    left = torch.where(first < 0, -torch.inf, points.gather(-1, first.clamp(0, 2 * n - 1)))
    right = torch.where(last >= 2 * n, torch.inf, points.gather(-1, last.clamp(0, 2 * n - 1)))
    start = torch.where(
        left.isfinite(),
        torch.where(right.isfinite(), (left + right) / 2, left + 1),
        torch.where(right.isfinite(), right - 1, 0.0),
    )
    excess, rate, _ = _balance(start, y, low, high, a, total)
    root = start + excess / torch.where(rate > 0, rate, 1.0)
    return torch.minimum(torch.maximum(torch.where(rate > 0, root, start), left), right)
