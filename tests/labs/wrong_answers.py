"""Answers as learners write them: wrong ones with the hint each must get, and right ones in several styles.

The wrong answers are written apart from the misconceptions inside the checkers, in the way a learner arrives at them.
"""

import torch
from torch import Tensor

# Exercise 1


def normalise(y: Tensor) -> Tensor:
    x = torch.relu(y)
    return x / x.sum(dim=-1, keepdim=True)


def normalise_guarded(y: Tensor) -> Tensor:
    x = y * (y > 0)
    return x / (x.sum(-1, keepdim=True) + 1e-12)


def soft(y: Tensor) -> Tensor:
    e = torch.exp(y - y.max(-1, keepdim=True).values)
    return e / e.sum(-1, keepdim=True)


def shift_then_relu(y: Tensor) -> Tensor:
    return torch.relu(y + (1 - y.sum(-1, keepdim=True)) / y.shape[-1])


def only_clamp(y: Tensor) -> Tensor:
    return torch.clamp(y, 0, 1)


def sort_with_wrong_count(y: Tensor) -> Tensor:
    u, _ = torch.sort(y, dim=-1, descending=True)
    c = torch.cumsum(u, -1) - 1
    k = ((u * torch.arange(1, y.shape[-1] + 1)) > c).sum(-1, keepdim=True) - 1
    return torch.relu(y - torch.gather(c, -1, k) / k).to(y.dtype)


def bisect_whole_batch(y: Tensor) -> Tensor:
    low, high = y.min() - 1, y.max()
    for _ in range(100):
        t = (low + high) / 2
        if (y - t).clamp(min=0).sum() > 1:
            low = t
        else:
            high = t
    return (y - t).clamp(min=0)


def bisect_too_short(y: Tensor) -> Tensor:
    high = y.max(-1, keepdim=True).values
    low = high - 1
    for _ in range(9):
        t = (low + high) / 2
        more = (y - t).clamp(min=0).sum(-1, keepdim=True) > 1
        low, high = torch.where(more, t, low), torch.where(more, high, t)
    return (y - t).clamp(min=0)


def threshold_without_clamp(y: Tensor) -> Tensor:
    return y + (1 - y.sum(-1, keepdim=True)) / y.shape[-1]


def positive_inputs_only(y: Tensor) -> Tensor:
    keep = (y > 0).to(y.dtype)
    return keep * (y - ((keep * y).sum(-1, keepdim=True) - 1) / keep.sum(-1, keepdim=True).clamp(min=1))


def in_place(y: Tensor) -> Tensor:
    x = sorted_threshold(y)
    y.clamp_(min=0)
    return x


def always_double(y: Tensor) -> Tensor:
    return sorted_threshold(y.double())


def to_list(y: Tensor) -> list:
    return sorted_threshold(y).tolist()


def wrong_dimension(y: Tensor) -> Tensor:
    return sorted_threshold(y).sum(-1)


def breaks_on_batches(y: Tensor) -> Tensor:
    u = sorted([float(value) for value in y], reverse=True)
    t = max((sum(u[: k + 1]) - 1) / (k + 1) for k in range(len(u)))
    return (y - t).clamp(min=0)


def sorted_threshold(y: Tensor) -> Tensor:
    u = y.sort(-1, descending=True).values
    k = torch.arange(1, y.shape[-1] + 1, dtype=y.dtype)
    t = (u.cumsum(-1) - 1) / k
    count = (u > t).sum(-1, keepdim=True)
    return (y - t.gather(-1, count - 1)).clamp(min=0)


def bisection(y: Tensor) -> Tensor:
    high = y.amax(-1, keepdim=True)
    low = high - 1
    for _ in range(60):
        t = (low + high) / 2
        more = (y - t).clamp(min=0).sum(-1, keepdim=True) > 1
        low, high = torch.where(more, t, low), torch.where(more, high, t)
    return (y - (low + high) / 2).clamp(min=0)


def drop_until_positive(y: Tensor) -> Tensor:
    kept = torch.ones_like(y, dtype=torch.bool)
    for _ in range(y.shape[-1]):
        t = ((y * kept).sum(-1, keepdim=True) - 1) / kept.sum(-1, keepdim=True)
        kept = kept & (y > t)
    return torch.where(kept, y - t, torch.zeros_like(y))


def loop_over_rows(y: Tensor) -> Tensor:
    rows = []
    for row in y.reshape(-1, y.shape[-1]):
        u = sorted(row.tolist(), reverse=True)
        best = [(sum(u[: k + 1]) - 1) / (k + 1) for k in range(len(u)) if u[k] > (sum(u[: k + 1]) - 1) / (k + 1)][-1]
        rows.append((row - best).clamp(min=0))
    return torch.stack(rows).reshape(y.shape)


# Exercise 2


def gap_distance(y: Tensor, x: Tensor) -> Tensor:
    return torch.sqrt(((y - x) ** 2).sum(-1))


def gap_squared(y: Tensor, x: Tensor) -> Tensor:
    return (y - x).pow(2).sum(-1)


def gap_reversed(y: Tensor, x: Tensor) -> Tensor:
    r = x - y
    return r.max(-1).values - (r * x).sum(-1)


def gap_forgets_x(y: Tensor, x: Tensor) -> Tensor:
    return (y - x).max(-1).values


def gap_smallest(y: Tensor, x: Tensor) -> Tensor:
    r = y - x
    return r.min(-1).values - (r * x).sum(-1)


def gap_batch_maximum(y: Tensor, x: Tensor) -> Tensor:
    r = y - x
    return torch.max(r) - (r * x).sum(-1)


def gap_adds_x(y: Tensor, x: Tensor) -> Tensor:
    r = y - x
    return r.amax(-1) + (r * x).sum(-1)


def gap_right(y: Tensor, x: Tensor) -> Tensor:
    r = y - x
    return r.amax(-1) - (r * x).sum(-1)


def gap_by_corner(y: Tensor, x: Tensor) -> Tensor:
    r = y - x
    z = torch.nn.functional.one_hot(r.argmax(-1), r.shape[-1]).to(r)
    return torch.einsum("...i,...i->...", r, z - x)


def gap_all_corners(y: Tensor, x: Tensor) -> Tensor:
    corners = torch.eye(y.shape[-1], dtype=y.dtype)
    return ((y - x).unsqueeze(-2) * (corners - x.unsqueeze(-2))).sum(-1).max(-1)[0]


# Exercise 3


def vjp_identity(x: Tensor, v: Tensor) -> Tensor:
    return v + 0


def vjp_mask(x: Tensor, v: Tensor) -> Tensor:
    return torch.where(x > 0, v, torch.zeros_like(v))


def vjp_mean_of_all(x: Tensor, v: Tensor) -> Tensor:
    return v - v.sum(-1, keepdim=True) / v.shape[-1]


def vjp_mean_of_all_masked(x: Tensor, v: Tensor) -> Tensor:
    return (x > 0) * (v - v.mean(-1, keepdim=True))


def vjp_divides_by_n(x: Tensor, v: Tensor) -> Tensor:
    m = (x > 0).to(v.dtype)
    return m * (v - torch.mean(m * v, -1, keepdim=True))


def vjp_unmasked(x: Tensor, v: Tensor) -> Tensor:
    m = (x > 0).to(v.dtype)
    return v - (m * v).sum(-1, keepdim=True) / m.sum(-1, keepdim=True)


def vjp_tolerance(x: Tensor, v: Tensor) -> Tensor:
    m = (x > 1e-4).to(v.dtype)
    return m * (v - (m * v).sum(-1, keepdim=True) / m.sum(-1, keepdim=True))


def vjp_weighted(x: Tensor, v: Tensor) -> Tensor:
    return x * (v - (x * v).sum(-1, keepdim=True))


def vjp_right(x: Tensor, v: Tensor) -> Tensor:
    m = (x > 0).to(v.dtype)
    return m * (v - (m * v).sum(-1, keepdim=True) / m.sum(-1, keepdim=True))


def vjp_nanmean(x: Tensor, v: Tensor) -> Tensor:
    inside = torch.where(x > 0, v, torch.nan)
    return (v - inside.nanmean(-1, keepdim=True)).masked_fill(x == 0, 0.0)


def vjp_by_rows(x: Tensor, v: Tensor) -> Tensor:
    out = torch.zeros_like(v)
    for xi, vi, oi in zip(*(t.reshape(-1, x.shape[-1]) for t in (x, v, out)), strict=True):
        support = xi.nonzero().flatten()
        oi[support] = vi[support] - vi[support].mean()
    return out


# Exercise 4


def root(spent, low: Tensor, high: Tensor, budget: float, steps: int = 80) -> Tensor:
    for _ in range(steps):
        mu = (low + high) / 2
        more = spent(mu) > budget
        low, high = torch.where(more, mu, low), torch.where(more, high, mu)
    return (low + high) / 2


def ends(y: Tensor, upper: Tensor, price: Tensor) -> tuple[Tensor, Tensor]:
    return ((y - upper) / price).amin(-1, keepdim=True), (y / price).amax(-1, keepdim=True)


def clip(x: Tensor, upper: Tensor) -> Tensor:
    return torch.minimum(torch.relu(x), upper)


def budget_same_shift(y, upper, price, budget):
    low, high = (y - upper).amin(-1, keepdim=True), y.amax(-1, keepdim=True)
    mu = root(lambda m: (price * clip(y - m, upper)).sum(-1, keepdim=True), low, high, budget)
    return clip(y - mu, upper)


def budget_rescale(y, upper, price, budget):
    x = clip(y, upper)
    return x / (price * x).sum(-1, keepdim=True) * budget


def budget_plane_first(y, upper, price, budget):
    mu = (y @ price - budget) / (price @ price)
    return clip(y - mu.unsqueeze(-1) * price, upper)


def budget_plane_last(y, upper, price, budget):
    x = clip(y, upper)
    mu = (x @ price - budget) / (price @ price)
    return x - mu.unsqueeze(-1) * price


def budget_mu_from_zero(y, upper, price, budget):
    _, high = ends(y, upper, price)
    high = high.clamp(min=1.0)
    mu = root(lambda m: (price * clip(y - m * price, upper)).sum(-1, keepdim=True), 0 * high, high, budget)
    return clip(y - mu * price, upper)


def budget_without_caps(y, upper, price, budget):
    mu = root(
        lambda m: (price * torch.relu(y - m * price)).sum(-1, keepdim=True),
        torch.full_like(y[..., :1], -1000.0),
        torch.full_like(y[..., :1], 1000.0),
        budget,
    )
    return torch.relu(y - mu * price)


def budget_few_steps(y, upper, price, budget):
    low, high = ends(y, upper, price)
    mu = root(lambda m: (price * clip(y - m * price, upper)).sum(-1, keepdim=True), low, high, budget, steps=12)
    return clip(y - mu * price, upper)


def budget_narrow_bracket(y, upper, price, budget):
    edge = torch.full_like(y[..., :1], 0.01)
    mu = root(lambda m: (price * clip(y - m * price, upper)).sum(-1, keepdim=True), -edge, edge, budget)
    return clip(y - mu * price, upper)


def budget_right(y, upper, price, budget):
    low, high = ends(y, upper, price)
    mu = root(lambda m: (price * clip(y - m * price, upper)).sum(-1, keepdim=True), low, high, budget)
    return clip(y - mu * price, upper)


def budget_wide_bracket(y, upper, price, budget):
    low, high = -1e3, 1e3
    low, high = y.new_full((*y.shape[:-1], 1), low), y.new_full((*y.shape[:-1], 1), high)
    for _ in range(200):
        middle = 0.5 * (low + high)
        x = torch.clamp(y - middle * price, min=torch.zeros_like(upper), max=upper)
        enough = (x * price).sum(dim=-1, keepdim=True) <= budget
        high = torch.where(enough, middle, high)
        low = torch.where(enough, low, middle)
    return torch.clamp(y - high * price, min=torch.zeros_like(upper), max=upper)


def budget_by_breakpoints(y, upper, price, budget):
    points = torch.cat([(y - upper) / price, y / price], -1).sort(-1).values
    spent = (price * clip(y.unsqueeze(-2) - points.unsqueeze(-1) * price, upper)).sum(-1)
    after = (spent > budget).sum(-1, keepdim=True).clamp(1, points.shape[-1] - 1)
    left, right = points.gather(-1, after - 1), points.gather(-1, after)
    s_left, s_right = spent.gather(-1, after - 1), spent.gather(-1, after)
    part = torch.where(s_left > s_right, (s_left - budget) / (s_left - s_right).clamp(min=1e-30), 0.0)
    return clip(y - (left + part * (right - left)) * price, upper)


# Exercise 5


def penalty_sum(y):
    return (1 - y.sum(-1)).square()


def penalty_signs(y):
    return torch.relu(-y).square().sum(-1)


def penalty_wrong_side(y):
    return (y.sum(-1) - 1).square() + torch.relu(y).square().sum(-1)


def penalty_absolute(y):
    return (y.sum(-1) - 1).abs() + torch.relu(-y).sum(-1)


def penalty_late_square(y):
    return (y.sum(-1) - 1) ** 2 + torch.relu(-y).sum(-1) ** 2


def penalty_detached(y):
    return (y.detach().sum(-1) - 1) ** 2 + (torch.relu(-y.detach()) ** 2).sum(-1)


def penalty_half_detached(y):
    return (y.sum(-1) - 1) ** 2 + (torch.relu(-y.detach()) ** 2).sum(-1)


def penalty_one_number(y):
    return ((y.sum(-1) - 1) ** 2).sum() + (torch.relu(-y) ** 2).sum()


def penalty_right(y):
    return (y.sum(-1) - 1) ** 2 + (y.clamp(max=0) ** 2).sum(-1)


def penalty_where(y):
    return torch.where(y < 0, y * y, torch.zeros_like(y)).sum(-1) + (1 - y.sum(-1)).pow(2)


# Exercise 6


def rescue_root(y, x):
    return torch.linalg.vector_norm(y - x, dim=-1)


def rescue_mean(y, x):
    return (y - x).pow(2).mean(-1)


def rescue_absolute(y, x):
    return (x - y).abs().sum(-1)


def rescue_raw(y, x):
    return y.square().sum(-1)


def rescue_detached(y, x):
    return ((y.detach() - x) ** 2).sum(-1)


def rescue_constant(y, x):
    return ((y - x) ** 2).sum(-1).detach()


def rescue_right(y, x):
    return ((y - x) ** 2).sum(-1)


def rescue_target_fixed(y, x):
    return torch.sum((x.detach() - y).square(), dim=-1)


WRONG = {
    # exercise: {name: (answer, words of the hint that it must get)}
    "which-vanish": {
        "only the negative one": ({3}, "Only the negative one"),
        "none": (set(), "how softmax behaves"),
        "all but the largest": ([1, 2, 3], "given to the largest"),
        "another guess": ({0}, "Subtract the same t"),
    },
    "project-simplex": {
        "clamp, then divide": (normalise, "You clamp, then divide"),
        "the same, guarded": (normalise_guarded, "You clamp, then divide"),
        "softmax": (soft, "This is softmax"),
        "shift, then clamp": (shift_then_relu, "The clamp adds mass again"),
        "clamp alone": (only_clamp, "projection on a box"),
        "count from zero": (sort_with_wrong_count, "indices begin at 0"),
        "one threshold for a batch": (bisect_whole_batch, "the whole batch shares one threshold"),
        "bisection stopped early": (bisect_too_short, "halve about 60 times"),
        "no clamp": (threshold_without_clamp, "nothing is clamped"),
        "positive inputs": (positive_inputs_only, "then it leaves, and the threshold changes"),
        "writes into its input": (in_place, "changed the caller's tensor"),
        "always float64": (always_double, "so that float32 stays float32"),
        "a list": (to_list, "Stay in torch"),
        "a sum too many": (wrong_dimension, "reduce with dim=-1 only"),
        "no batches": (breaks_on_batches, "read the last line of the error"),
        "a number": (3.0, "Hand over the function itself"),
    },
    "how-far": {
        "the gap": (0.01, "Take the root"),
        "its square": (0.0001, "You squared it"),
        "twice": (0.02, "No factor 2 is needed"),
        "half": (0.005, "No factor is lost"),
        "another guess": (3, "The text shows"),
        "words": ("far", "Write one number"),
    },
    "gap": {
        "distance": (gap_distance, "This is the distance"),
        "squared distance": (gap_squared, "This is the squared distance"),
        "other sign": (gap_reversed, "points the wrong way"),
        "without x": (gap_forgets_x, "It must be with z - x"),
        "smallest": (gap_smallest, "This is the smallest product"),
        "maximum of the batch": (gap_batch_maximum, ".max() without dim"),
        "x added": (gap_adds_x, "the largest product is 0, at z = x"),
    },
    "comes-back": {
        "as it came": ((1, 0, 0, 0), "Which share must pay"),
        "mean of all": ([0.75, -0.25, -0.25, -0.25], "cannot pay for the first"),
        "too long": (torch.tensor([1.0, -1.0, 0.0, 0.0]), "the length is not"),
        "nothing": ([0, 0, 0, 0], "Here two shares are positive"),
        "another guess": ([2, 0, 0, 0], "their sum cannot change"),
    },
    "simplex-vjp": {
        "as it came": (vjp_identity, "as if the layer were not there"),
        "mask alone": (vjp_mask, "The sum is forgotten"),
        "mean of all": (vjp_mean_of_all, "those held at 0 neither move nor count"),
        "mean of all, masked": (vjp_mean_of_all_masked, "The mean runs over all coordinates"),
        "divided by n": (vjp_divides_by_n, "divide by the number of all coordinates"),
        "no mask at the end": (vjp_unmasked, "subtracted everywhere"),
        "mask by tolerance": (vjp_tolerance, "with no tolerance"),
        "softmax's rule": (vjp_weighted, "Move y by a small multiple of v"),
    },
    "who-moves": {
        "all": ({0, 1, 2, 3}, "All of them?"),
        "the cheapest": (3, "The cheapest alone?"),
        "the capped one too": ({1, 2, 3}, "it cannot take more"),
        "the one at 0 too": ({0, 2, 3}, "a tiny sum does not lift it"),
        "another guess": ({0}, "strictly between 0 and their cap"),
    },
    "budget-root": {
        "same shift": (budget_same_shift, "subtract mu * price"),
        "rescaled": (budget_rescale, "Scaling can lift a coordinate over its cap"),
        "plane, then clip": (budget_plane_first, "The clip changes what is spent"),
        "clip, then plane": (budget_plane_last, "The second step leaves the box again"),
        "mu from 0": (budget_mu_from_zero, "Let the bracket begin below 0"),
        "no caps": (budget_without_caps, "The upper bounds are not used"),
        "few steps": (budget_few_steps, "The budget is nearly met"),
        "narrow bracket": (budget_narrow_bracket, "The bracket must hold the root"),
    },
    "how-many-break": {
        "none": ("none", "paid in the same coin"),
        "some": ("Some", "Meeting an equation to three digits"),
        "not a choice": ("half", "Write one of"),
        "a number": (0.5, "Write one of"),
    },
    "penalty": {
        "sum alone": (penalty_sum, "the signs are not"),
        "signs alone": (penalty_signs, "a wrong sum does not"),
        "wrong side": (penalty_wrong_side, "You punish the positive shares"),
        "absolute": (penalty_absolute, "You add the violations themselves"),
        "square at the end": (penalty_late_square, "Square each negative share first"),
        "cut off": (penalty_detached, "Something cuts the graph"),
        "half cut off": (penalty_half_detached, "a part of the sum is cut off"),
        "one number": (penalty_one_number, "reduce with dim=-1 only"),
    },
    "stuck": {
        "a little": ("a little", "At a corner the face is a single point"),
        "as usual": ("as usual", "only sees what the layer lets through"),
        "not a choice": ("never", "Write one of"),
    },
    "rescue": {
        "root": (rescue_root, "You take the root"),
        "mean": (rescue_mean, "You average over the coordinates"),
        "absolute": (rescue_absolute, "You add absolute values"),
        "raw size": (rescue_raw, "You pull y to 0"),
        "y detached": (rescue_detached, "y is detached"),
        "all detached": (rescue_constant, "The graph is cut"),
    },
}

RIGHT = {
    "which-vanish": {"set": {2, 3}, "list": [3, 2], "tensor": torch.tensor([2, 3])},
    "project-simplex": {
        "sorting": sorted_threshold,
        "bisection": bisection,
        "dropping": drop_until_positive,
        "a loop": loop_over_rows,
    },
    "how-far": {"number": 0.1, "root": 0.01**0.5, "tensor": torch.tensor(0.1)},
    "gap": {"plain": gap_right, "best corner": gap_by_corner, "all corners": gap_all_corners},
    "comes-back": {"list": [0.5, -0.5, 0, 0], "tensor": torch.tensor([0.5, -0.5, 0.0, -0.0])},
    "simplex-vjp": {"mask and mean": vjp_right, "nanmean": vjp_nanmean, "a loop": vjp_by_rows},
    "who-moves": {"set": {2, 3}, "tuple": (2, 3)},
    "budget-root": {
        "bisection": budget_right,
        "wide bracket": budget_wide_bracket,
        "breakpoints": budget_by_breakpoints,
    },
    "how-many-break": {"word": "most", "capital": "Most "},
    "penalty": {"clamp": penalty_right, "where": penalty_where},
    "stuck": {"words": "not at all"},
    "rescue": {"plain": rescue_right, "x detached": rescue_target_fixed},
}
