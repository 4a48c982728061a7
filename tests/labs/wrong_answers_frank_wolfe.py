"""Answers to the lab on Frank-Wolfe rollouts, as students write them: each with a word of the hint that it must get."""

import torch

from lablib.teaching import checks
from lablib.teaching.exercises import frank_wolfe_rollouts


def oracle(g, w, t):
    index = (g.abs() / w).argmax(-1)
    chosen = torch.arange(g.shape[-1]) == index[..., None]
    return torch.where(chosen, -t * torch.sign(g) / w, 0.0)


def oracle_by_gradient(g, w, t):
    index = torch.argmax(torch.abs(g), dim=-1)
    chosen = torch.nn.functional.one_hot(index, g.shape[-1])
    return -chosen * torch.sign(g) * t / w


def oracle_by_product(g, w, t):
    index = torch.argmax(w * torch.abs(g), dim=-1, keepdim=True)
    return torch.zeros_like(g).scatter(-1, index, (-t * g.sign() / w).gather(-1, index))


def oracle_uphill(g, w, t):
    return -oracle(g, w, t)


def oracle_by_minimum(g, w, t):
    slope = g / w
    index = slope.argmin(-1, keepdim=True)
    return torch.zeros_like(g).scatter(-1, index, (-t * g.sign() / w).gather(-1, index))


def oracle_too_long(g, w, t):
    index = (g.abs() / w).argmax(-1, keepdim=True)
    return torch.zeros_like(g).scatter(-1, index, -t * g.gather(-1, index).sign())


def oracle_for_all(g, w, t):
    return -t / (g.shape[-1] * w) * torch.sign(g)


def oracle_of_batch(g, w, t):
    price = (g.abs() / w).reshape(-1, g.shape[-1])
    best = int(price.max(0).values.argmax())
    v = torch.zeros_like(g)
    v[..., best] = -t * g[..., best].sign() / w[..., best]
    return v


def gap(g, x, w, t):
    return torch.sum(g * (x - oracle(g, w, t)), -1)


def gap_without_x(g, x, w, t):
    return -torch.sum(g * oracle(g, w, t), -1)


def gap_backwards(g, x, w, t):
    return torch.sum(g * (oracle(g, w, t) - x), -1)


def gap_with_minus(g, x, w, t):
    v = oracle(g, w, t)
    return -(g * v).sum(-1) - (g * x).sum(-1)


def gap_as_gradient(g, x, w, t):
    return torch.sqrt((g**2).sum(-1))


def gap_of_plain_ball(g, x, w, t):
    v = oracle(g, torch.ones_like(w), t)
    return (g * (x - v)).sum(-1)


def gap_of_batch(g, x, w, t):
    return (g * x).sum(-1) + t * torch.max(g.abs() / w)


def along(x, y, w, t):
    """The gradient and the way to the vertex."""
    return x - y, oracle(x - y, w, t) - x


def step(x, y, w, t):
    g, d = along(x, y, w, t)
    length = (d**2).sum(-1, keepdim=True)
    share = torch.where(length > 0, -(g * d).sum(-1, keepdim=True) / length.clamp(min=1e-30), 0.0)
    return x + share.clamp(0, 1) * d


def step_to_vertex(x, y, w, t):
    return oracle(x - y, w, t)


def step_to_middle(x, y, w, t):
    return (x + oracle(x - y, w, t)) / 2


def step_beyond(x, y, w, t):
    g, d = along(x, y, w, t)
    return x - (g * d).sum(-1, keepdim=True) / (d * d).sum(-1, keepdim=True).clamp(min=1e-12) * d


def step_by_length(x, y, w, t):
    g, d = along(x, y, w, t)
    share = -(g * d).sum(-1, keepdim=True) / torch.linalg.norm(d, dim=-1, keepdim=True).clamp(min=1e-12)
    return x + share.clamp(0, 1) * d


def step_with_nan(x, y, w, t):
    g, d = along(x, y, w, t)
    return x + (-(g * d).sum(-1, keepdim=True) / (d * d).sum(-1, keepdim=True)).clamp(0, 1) * d


def step_from_y(x, y, w, t):
    g = y - x
    d = oracle(g, w, t) - x
    return x + ((g * d).sum(-1, keepdim=True) / (d * d).sum(-1, keepdim=True).clamp(min=1e-12)).clamp(0, 1) * d


def step_of_batch(x, y, w, t):
    g, d = along(x, y, w, t)
    return x + (-(g * d).sum() / (d * d).sum().clamp(min=1e-12)).clamp(0, 1) * d


def vjp(x, v, w, t):
    s = w * torch.sign(x)
    free = torch.where(x == 0, 0.0, v)
    part = (s * free).sum(-1, keepdim=True) / (s**2).sum(-1, keepdim=True).clamp(min=1e-30) * s
    limit_holds = (w * x.abs()).sum(-1, keepdim=True) > t - 1e-6 * t
    return torch.where(limit_holds, free - part, v)


def vjp_identity(x, v, w, t):
    return v + 0 * x


def vjp_without_inside(x, v, w, t):
    s = w * torch.sign(x)
    u = v * (x != 0)
    return u - s * (s * u).sum(-1, keepdim=True) / (s * s).sum(-1, keepdim=True).clamp(min=1e-30)


def vjp_mask(x, v, w, t):
    tight = (w * x.abs()).sum(-1, keepdim=True) >= t * (1 - 1e-6)
    return torch.where(tight & (x == 0), 0.0, v)


def tight_vjp(x, v, w, t, s, u):
    """Take out the part along s where the limit holds."""
    u = u - s * (s * v).sum(-1, keepdim=True) / (s * s).sum(-1, keepdim=True).clamp(min=1e-30)
    return torch.where((w * x.abs()).sum(-1, keepdim=True) >= t * (1 - 1e-6), u, v)


def vjp_signs_alone(x, v, w, t):
    return tight_vjp(x, v, w, t, torch.sign(x), v * (x != 0))


def vjp_weights_alone(x, v, w, t):
    return tight_vjp(x, v, w, t, w * (x != 0), v * (x != 0))


def vjp_without_mask(x, v, w, t):
    return tight_vjp(x, v, w, t, w * torch.sign(x), v)


def vjp_small_is_zero(x, v, w, t):
    on = x.abs() > 1e-3
    return tight_vjp(x, v, w, t, w * torch.sign(x) * on, v * on)


def vjp_exact_comparison(x, v, w, t):
    s = w * torch.sign(x)
    u = v * (x != 0)
    u = u - s * (s * u).sum(-1, keepdim=True) / (s * s).sum(-1, keepdim=True).clamp(min=1e-30)
    return torch.where((w * x.abs()).sum(-1, keepdim=True) >= t, u, v)


WRONG = {
    "l1-oracle": {
        "largest gradient": (oracle_by_gradient, "compare |g_i| / w_i"),
        "gradient times weight": (oracle_by_product, "divide by it"),
        "uphill": (oracle_uphill, "the highest vertex"),
        "minimum without a sign": (oracle_by_minimum, "Compare absolute values"),
        "as long as the limit": (oracle_too_long, "|v_i| = t / w_i"),
        "every coordinate": (oracle_for_all, "but no vertex"),
        "one index for the batch": (oracle_of_batch, "argmax(-1, keepdim=True)"),
    },
    "fw-gap": {
        "vertex alone": (gap_without_x, "add g.x"),
        "the other way round": (gap_backwards, "The gap is the other way round"),
        "minus x": (gap_with_minus, "g.x comes with the wrong sign"),
        "length of the gradient": (gap_as_gradient, "the length of the gradient"),
        "no weights": (gap_of_plain_ball, "weights are missing"),
        "maximum of the batch": (gap_of_batch, "Use .amax(-1)"),
    },
    "fw-step": {
        "to the vertex": (step_to_vertex, "Stop where f is lowest"),
        "to the middle": (step_to_middle, "half the way"),
        "beyond the vertex": (step_beyond, "clamp the share"),
        "length, not its square": (step_by_length, "divide by the square"),
        "0 / 0": (step_with_nan, "0 by 0"),
        "gradient y - x": (step_from_y, "not y - x"),
        "one share for the batch": (step_of_batch, "keepdim=True"),
    },
    "l1-vjp": {
        "nothing": (vjp_identity, "hand v back"),
        "no inside": (vjp_without_inside, "is less than t"),
        "mask alone": (vjp_mask, "The limit is forgotten"),
        "signs alone": (vjp_signs_alone, "is w * sign(x)"),
        "weights alone": (vjp_weights_alone, "A negative coordinate uses the limit"),
        "no mask": (vjp_without_mask, "does not move"),
        "small is 0": (vjp_small_is_zero, "with no tolerance"),
        "exact comparison": (vjp_exact_comparison, "float32 is tried too"),
    },
}
RIGHT = {
    "l1-oracle": {"by where": oracle},
    "fw-gap": {"by the oracle": gap},
    "fw-step": {"guarded": step},
    "l1-vjp": {"by where": vjp},
}
for known in frank_wolfe_rollouts.EXERCISES:
    if isinstance(known, checks.Exercise):
        RIGHT[known.name] |= {"library": known.library, "reference": known.reference}
        continue
    other = "none of these" if isinstance(known.answer, str) else 10**6
    cases = [*known.wrong, (other, known.otherwise if isinstance(known.answer, (int, float)) else known.form)]
    WRONG[known.name] = {str(value): (value, why) for value, why in cases}
    RIGHT[known.name] = {"answer": known.answer}
