"""Find the one number behind the projection on a simplex or an l1 ball, exactly and fast.

Both projections lower all entries by one tau and cut at zero; tau is the root of a convex, piecewise linear function:

    simplex    x_i = max(y_i - tau, 0)                  with  sum_i x_i = total
    l1 ball    x_i = sign(y_i) max(|y_i| - tau, 0)      with  sum_i |x_i| = radius, or x = y where y is inside

Newton's method from below climbs to the root and meets it exactly, as soon as the set of entries above tau stays the
same. What this file does is to make that cheap. Short rows are sorted instead. Long rows with few entries above tau are
first cut down to these, by the threshold of block maxima, which can only be too low. The others start from the
threshold of a sample, and every pass over them works in place. What decides the sum is added in float64.

The interface. Leading dimensions are batch dimensions, the last one is the row. The tensors are float32 or float64,
finite and plain: nothing here but ``face`` is to be differentiated.

    x, support, passes = simplex(y, total)
    x, support, passes = l1(y, radius)
    u = face(v, support)                    the cotangent v projected on the directions of the face that x is on

``total`` and ``radius`` are floats, or tensors that broadcast against the batch shape ``y.shape[:-1]``. ``support``
says which face x is on. It is a tuple of tensors, each with the batch dimensions of ``y`` and one more, so it may be
mapped over; hand it on as it is. Its forms, where q is a normal of entries -1, 0, 1 and k counts those that are not 0:

    (x, k)           q = sign(x)                                                       u = |q| v - q (q.v) / k
    (index, q, k)    the same for the columns ``index`` alone (padding has q = 0)      u is 0 in the other columns
    (free, q, k)     with a mask of the entries that may move (all, inside a ball)     u = free v - q (q.v) / k

``dense(support, n)`` gives (free, q), of row length n, whichever form it is. ``passes`` counts the passes of a search
and is 0 after a sort. ``element="lowest"`` leaves weakly active entries (y_i = tau) out of the support, ``"highest"``
takes them in. ``max_steps`` caps the passes of the search; the sum is then too large. Under ``torch.compile`` all rows
are sorted, which needs no decision on the host.

Sources: Michelot, "A finite algorithm for finding the projection of a point onto the canonical simplex of R^n" (1986);
Condat, "Fast projection onto the simplex and the l1 ball" (2016). The cut by block maxima is this project's own.
"""

from __future__ import annotations

import threading
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .projection import may_transform

# Rows up to SORT_ROWS long, and batches of up to SORT_ALL numbers: there a sort costs less than the passes of a search.
SORT_ROWS, SORT_ALL = 128, 32768
# From either of these on, rows or all numbers, numpy sorts several times faster than torch on the processor.
NUMPY_ROWS, NUMPY_ALL = 32, 4096
# Rows from CUT_ROWS long, in batches from CUT_ALL numbers: there it pays to look whether few entries can hold support.
CUT_ROWS, CUT_ALL = 256, 32768
# Numbers that are worked on together, so that what a pass writes is still in the cache when the next one reads it.
CHUNK = 1 << 19
_kept = threading.local()

Support = tuple[Tensor, ...]


def simplex(
    y: Tensor, total: float | Tensor = 1.0, *, element: str = "lowest", max_steps: int | None = None
) -> tuple[Tensor, Support, int]:
    """Project the rows of ``y`` on ``{x >= 0, sum x = total}``; returns x, its support and the passes used.

    >>> import torch
    >>> x, support, _ = simplex(torch.tensor([0.75, 0.5, -1.0]), 1.0)
    >>> x
    tensor([0.6250, 0.3750, 0.0000])
    >>> face(torch.tensor([1.0, 0.0, 5.0]), support)
    tensor([ 0.5000, -0.5000, -0.0000])
    """
    x, support, _, passes = _search(y, _column(total, y), False, element, max_steps)
    return x, support, passes


def simplex_threshold(y: Tensor) -> Tensor:
    """Return tau (..., 1) alone: the projection of the rows of y on ``{x >= 0, sum x = 1}`` is max(y - tau, 0).

    >>> import torch
    >>> simplex_threshold(torch.tensor([0.75, 0.5, -1.0], dtype=torch.float64))
    tensor([0.1250], dtype=torch.float64)
    """
    if y.shape[-1] > SORT_ROWS:
        return _search(y, 1.0, False, "lowest", None)[2]
    top = y.amax(-1, True)
    return _sorted_threshold(y - top, 1.0).add_(top)


def l1(
    y: Tensor, radius: float | Tensor = 1.0, *, element: str = "lowest", max_steps: int | None = None
) -> tuple[Tensor, Support, int]:
    """Project the rows of ``y`` on ``{x: sum |x_i| <= radius}``; returns x, its support and the passes used.

    >>> import torch
    >>> l1(torch.tensor([[0.75, -0.5, 0.0], [0.25, 0.5, 0.0]]))[0]
    tensor([[ 0.6250, -0.3750,  0.0000],
            [ 0.2500,  0.5000,  0.0000]])
    """
    radius = _column(radius, y)
    x, support, tau, passes = _search(y, radius, True, element, max_steps)
    if not torch.compiler.is_compiling() and (y.numel() == 0 or float(tau.amin()) > 0):
        return x, support, passes
    # On the sphere itself (tau = 0) the lowest element counts the constraint as active. Radius 0 has no inside.
    inside = (tau < 0 if element == "lowest" else tau <= 0) & (torch.as_tensor(radius, device=y.device) > 0)
    free, q = dense(support, y.shape[-1])
    return torch.where(inside, y, x), (free.masked_fill(inside, 1.0), q.masked_fill(inside, 0.0), support[-1]), passes


def face(v: Tensor, support: Support) -> Tensor:
    """Project ``v`` on the directions of the face: linear in v, and differentiable."""
    if len(support) == 2:
        x, k = support
        return _across(v, x.sign(), k)
    first, q, k = support
    if first.is_floating_point():
        return first * v - q * ((q * v).sum(-1, keepdim=True) / k)
    return torch.zeros_like(v).scatter_add_(-1, first, _across(v.gather(-1, first), q, k))


def dense(support: Support, n: int) -> tuple[Tensor, Tensor]:
    """Return the mask of the entries that may move and the normal q, each of row length n.

    >>> import torch
    >>> dense(l1(torch.tensor([0.5, -3.0]))[1], 2)
    (tensor([0., 1.]), tensor([ 0., -1.]))
    """
    if len(support) == 2:
        q = support[0].sign()
        return q.abs(), q
    first, q, _ = support
    if first.is_floating_point():
        return first, q
    q = q.new_zeros((*q.shape[:-1], n)).scatter_add_(-1, first, q)
    return q.abs(), q


def _across(v: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """The part of v on the support of q that is orthogonal to q, for entries -1, 0, 1."""
    along = v * q
    return along.sub_(along.sum(-1, True).div_(k)).mul_(q)


def _column(value: float | Tensor, y: Tensor) -> float | Tensor:
    """A number per row, as a float64 column; a float stays one."""
    if not isinstance(value, Tensor):
        return value
    return torch.broadcast_to(value, y.shape[:-1]).double().unsqueeze(-1)


def _search(y: Tensor, total: float | Tensor, signed: bool, element: str, max_steps: int | None):
    """Project |y| (or y) on the simplex and give the signs back; returns x, its support, tau and the passes."""
    n = y.shape[-1]
    unread = torch.compiler.is_compiling() or y.device.type != "cpu"  # only sorting reads no value on the host
    if max_steps is None and (n <= SORT_ROWS or y.numel() <= SORT_ALL or unread):
        return _by_sorting(y, total, signed, element)
    rows = y.reshape(-1, n)
    if isinstance(total, Tensor):
        total = total.reshape(-1, 1)
    found = None
    if max_steps is None and n >= CUT_ROWS and y.numel() >= CUT_ALL:
        rows = rows.contiguous()
        found = _by_cutting(rows, total, signed, element)
    x, support, tau, passes = found or _by_climbing(rows, total, signed, element, max_steps)
    if y.dim() != 2:
        batch = y.shape[:-1]
        flat, x, tau = x, x.view(y.shape), tau.view(*batch, 1)
        support = tuple(x if t is flat else t.view(*batch, -1) for t in support)
    return x, support, tau, passes


@lru_cache(maxsize=64)
def _ranks(n: int, device: torch.device) -> Tensor:
    return torch.arange(1, n + 1, dtype=torch.float64, device=device)


def _sorted_threshold(y: Tensor, total: float | Tensor) -> Tensor:
    """The largest of the lower bounds (sum of the k largest entries - total) / k, which is the threshold itself."""
    # A traced tensor must not stay in the cache.
    plain = type(y) is Tensor and not torch.compiler.is_compiling()
    ranks = (_ranks if plain else _ranks.__wrapped__)(y.shape[-1], y.device)
    by_numpy = plain and y.device.type == "cpu" and (y.shape[-1] >= NUMPY_ROWS or y.numel() >= NUMPY_ALL)
    if by_numpy and not may_transform():
        largest = torch.from_numpy(np.sort(y.numpy(), -1)).flip(-1)
    else:
        largest = torch.sort(y, -1, True)[0]
    bounds = largest.double().cumsum(-1).sub_(total).div_(ranks)
    return bounds.amax(-1, True)  # eq: eq-simplex-threshold


def _weak(x: Tensor, above: Tensor, total: float | Tensor, sign: Tensor | None) -> Support:
    """The support with weakly active entries in it; where the total is 0 the set is a point, and nothing may move."""
    free = above.to(x.dtype) * (total > 0)
    return free, free if sign is None else free * sign, free.sum(-1, keepdim=True).clamp_min_(1.0)


def _by_sorting(y: Tensor, total: float | Tensor, signed: bool, element: str):
    size = y.abs() if signed else y
    if y.numel() == 0:
        nothing = y.sum(-1, keepdim=True)
        return size.clone(), (size.clone(), size.clone(), nothing), nothing, 0
    top = size.amax(-1, True)
    size = size - top
    tau = _sorted_threshold(size, total)
    weak = None if element == "lowest" else size >= tau
    x = size.sub_(tau).clamp_min_(0)
    k = x.sign().sum(-1, True).clamp_min_(1.0)
    if signed:
        x.mul_(y.sign())
    support = (x, k) if weak is None else _weak(x, weak, total, y.sign() if signed else None)
    return x, support, tau + top if signed else tau, 0


def _by_cutting(y: Tensor, total: float | Tensor, signed: bool, element: str):
    """Long rows with few entries above tau: one pass over y finds them, the rest is small. None where they are many.

    A block is the set of columns that agree modulo ``width``. The threshold of the block maxima is at most that of all
    entries, so where the maximum of a block lies below it, the block holds no support.
    """
    rows, n = y.shape
    depth = max(4, round(n**0.5 / 6))
    width = -(-n // depth)
    full = width * (n // width)
    lines, rest = y[:, :full].unflatten(1, (n // width, width)), y[:, full:]
    peak = lines.amax(1)
    if signed:
        peak = torch.maximum(peak, lines.amin(1).neg_())
    # Where width does not divide n, the first blocks have one entry more than the others.
    start = peak[:, : n - full]
    torch.maximum(start, rest.abs() if signed else rest, out=start)
    top = peak.amax(-1, keepdim=True)
    peak.sub_(top)
    spare = torch.empty_like(peak)
    low = torch.zeros_like(top).sub_(total)
    for _ in range(2):
        excess = torch.sub(peak, low, out=spare).clamp_min_(0).sum(-1, keepdim=True).sub_(total)
        count = spare.sign_().sum(-1, keepdim=True)
        low.add_(excess.div_(count.clamp_min(1.0)))
    if float(count.sum()) * depth * 8 > y.numel():
        return None
    low.sub_(1e-5 * total)  # rounding must not lift the bound above the threshold
    block = (peak >= low).view(-1).nonzero().squeeze(1)
    row = block // width
    line = torch.arange(n // width + (full < n), device=y.device) * width
    column = block - row * width
    place = ((row * n + column).unsqueeze(1) + line).clamp_(max=y.numel() - 1)
    value = y.view(-1).index_select(0, place.view(-1)).view_as(place)
    bound = torch.cat([top, low], 1).index_select(0, row)
    if signed:
        value.abs_()
    held = value.sub_(bound[:, :1]) >= bound[:, 1:]
    if full < n:
        held[:, -1].logical_and_(column < n - full)
    place, value = place.masked_select(held), value.masked_select(held)
    # The entries that are left, row by row, into a matrix as wide as the row that has most of them.
    row = place // n
    counts = torch.bincount(row, minlength=rows)
    most = max(int(counts.max()), 1)
    first = torch.arange(rows, device=y.device) * most - counts.cumsum(0) + counts
    slot = torch.arange(row.shape[0], device=y.device) + first.index_select(0, row)
    index = torch.zeros(rows * most, dtype=torch.int64, device=y.device)
    index = index.scatter_(0, slot, place - row * n).view(rows, most)
    near = torch.full((rows * most,), -torch.inf, dtype=y.dtype, device=y.device)
    near = near.scatter_(0, slot, value).view(rows, most)
    tau = _sorted_threshold(near, total)
    sign = y.gather(1, index).sign_() if signed else None
    weak = None if element == "lowest" else near >= tau
    part = near.sub_(tau).clamp_min_(0)
    if weak is None:
        q = part.sign()
        support = (q if sign is None else q * sign, q.sum(-1, keepdim=True).clamp_min_(1.0))
    else:
        support = _weak(part, weak, total, sign)[1:]
    x = torch.zeros_like(y).scatter_add_(1, index, part if sign is None else part.mul_(sign))
    return x, (index, *support), tau + top, 2


def _by_climbing(y: Tensor, total: float | Tensor, signed: bool, element: str, max_steps: int | None):
    """Newton's method on whole rows, a block of rows at a time so that it works in the processor's cache."""
    x = torch.empty(y.shape, dtype=y.dtype, device=y.device)
    size = max(1, CHUNK // y.shape[-1])
    done = []
    for at in range(0, y.shape[0], size):
        rows = slice(at, at + size)
        share = total[rows] if isinstance(total, Tensor) else total
        done.append(_climb(y[rows], share, signed, element, max_steps, x[rows]))
    counts, weaks, taus, passes = zip(*done, strict=True)
    support = (x, torch.cat(counts)) if element == "lowest" else tuple(map(torch.cat, zip(*weaks, strict=True)))
    return x, support, torch.cat(taus), max(passes)


def _climb(y: Tensor, total: float | Tensor, signed: bool, element: str, max_steps: int | None, x: Tensor):
    """Newton's method, in place; masks are numbers, as a product with a bool tensor is slow on a CPU.

    A step from anywhere lands at or below the root, and from there on each one climbs. Sets above a threshold are
    nested: where their count stays the same they do, and then the last step was exact.
    """
    # Short rows are searched in float64; long ones in their own dtype, which moves half the memory.
    short = y.shape[-1] < CUT_ROWS
    size = y.double() if short else torch.abs(y, out=x) if signed else y
    if short and signed:
        size = size.abs()
    origin = _first_guess(size, total)
    size = torch.sub(size, origin, out=None if short else x)
    spare = _scratch(size)
    tau = torch.zeros_like(origin, dtype=torch.float64)
    count, before, step, moved, passes = None, None, tau, short, 0
    while max_steps is None or passes < max_steps:
        at = tau.to(size.dtype)
        count = torch.gt(size, at, out=spare).sum(-1, keepdim=True)
        if before is not None and torch.equal(count, before):
            if moved or float((count.clamp_min(1.0) * (at.abs() + step.abs()) - total).max()) <= 0:
                break
            # The guess was poor, or the last step long. Measured from the root itself, rounding weighs nothing.
            size.sub_(at)
            origin, tau = origin + at, tau - at
            before, moved = None, True
            continue
        step = _sum64(torch.sub(size, at, out=spare).clamp_min_(0)).sub_(total).div_(count.clamp_min(1.0))
        tau = at + (step if before is None else step.clamp_min_(0))
        before = count
        passes += 1
    at = tau.to(size.dtype)
    weak = None if element == "lowest" else size >= at
    torch.sub(size, at, out=spare).clamp_min_(0)
    torch.copysign(spare, y, out=x) if signed else x.copy_(spare)
    if count is None or max_steps is not None:
        count = torch.sign(spare).sum(-1, keepdim=True)
    count = count.to(x.dtype).clamp_min_(1.0)
    return count, weak if weak is None else _weak(x, weak, total, y.sign() if signed else None), tau + origin, passes


def _scratch(like: Tensor) -> Tensor:
    """Memory for passing results, kept by each thread: to ask the system for it anew takes as long as two passes."""
    if like.is_cuda or like.numel() > CHUNK or like.dtype != torch.float32:
        return torch.empty_like(like)
    if not hasattr(_kept, "memory"):
        with torch.inference_mode(False):
            _kept.memory = torch.empty(CHUNK)
    return _kept.memory[: like.numel()].view(like.shape)


def _first_guess(y: Tensor, total: float | Tensor) -> Tensor:
    """Near the threshold: of short rows the better of two lower bounds, of long rows the threshold of a sample."""
    n = y.shape[-1]
    if n < CUT_ROWS:
        depth = min(8, n)
        peak = y[:, : n // depth * depth].unflatten(1, (depth, n // depth)).amax(1).double()
        mean = (y.sum(-1, keepdim=True, dtype=torch.float64) - total) / n
        return torch.maximum(mean, _sorted_threshold(peak, total))
    sample = y[:, :: max(1, n // 128)].clone(memory_format=torch.contiguous_format)
    top = sample.amax(-1, keepdim=True)
    sample.sub_(top)
    size = sample.shape[-1]
    share = total * (size / n)
    tau = torch.maximum((sample.sum(-1, keepdim=True) - share) / size, torch.zeros_like(top) - share).to(y.dtype)
    spare = torch.empty_like(sample)
    for _ in range(3):
        excess = torch.sub(sample, tau, out=spare).clamp_min_(0).sum(-1, keepdim=True) - share
        tau = tau + (excess / spare.sign_().sum(-1, keepdim=True).clamp_min_(1.0)).to(y.dtype)
    return tau + top


def _sum64(y: Tensor) -> Tensor:
    """Row sums in float64; of long float32 rows eight entries at a time are added in float32, four times faster."""
    n = y.shape[-1]
    if n < CUT_ROWS or n % 8 or y.dtype == torch.float64:
        return y.sum(-1, keepdim=True, dtype=torch.float64)
    return y.view(-1, 8, n // 8).sum(1).sum(-1, keepdim=True, dtype=torch.float64)
