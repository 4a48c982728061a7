"""Answers to the lab on the augmented Lagrangian as learners write them, apart from the checkers' own mistakes."""

import torch
from torch.nn.functional import leaky_relu


def five(p, q, a, b, slope, beta, up=1.0, least=0.0, second=None, curve=None, lines=None):
    second = slope if second is None else second
    curve = slope if curve is None else curve
    most = 0.0 if least == 0.0 else torch.inf
    v = p - beta / a
    w = (a * p + b * q).div(a + b if lines is None else lines).clamp(min=least)
    u = ((curve * a * p + b * q) / (curve**2 * a + b)).clamp(max=most)
    return torch.stack(
        [
            torch.stack([v, q + up * beta / b]),
            torch.stack([w, w]),
            torch.stack([v.clamp(min=least), 0 * q]),
            torch.stack([v, q + up * second * beta / b]),
            torch.stack([slope * u, u]),
        ]
    )


def five_right(*args):
    return five(*args)


def five_by_lists(p, q, a, b, slope, beta):
    out = p.new_empty(5, 2, len(p))
    for j in range(len(p)):
        x, y = p[j].item(), q[j].item()
        line = max((a * x + b * y) / (a + b), 0)
        back = min((slope * a * x + b * y) / (slope * slope * a + b), 0)
        pairs = [
            (x - beta / a, y + beta / b),
            (line, line),
            (max(x - beta / a, 0), 0),
            (x - beta / a, y + slope * beta / b),
            (slope * back, back),
        ]
        out[:, :, j] = torch.tensor(pairs)
    return out


def five_down(*args):
    return five(*args, up=-1.0)


def five_unclamped(*args):
    return five(*args, least=-torch.inf)


def five_one_price(*args):
    return five(*args, second=1.0)


def five_one_line(*args):
    return five(*args, curve=1.0)


def five_half(*args):
    return five(*args, lines=2.0 * (args[2] + args[3]))


def best(p, q, a, b, slope, beta, allowed=True, price=True, rows=(0, 1, 2, 3, 4)):
    best_cost = torch.full_like(p, torch.inf)
    best_v, best_u = torch.zeros_like(p), torch.zeros_like(p)
    for i in rows:
        v, u = five(p, q, a, b, slope, beta)[i]
        cost = a / 2 * (v - p) ** 2 + b / 2 * (u - q) ** 2
        if price:
            cost = cost + beta * (v - leaky_relu(u, slope))
        if allowed:
            bad = v < leaky_relu(u, slope) - 1e-6
            bad = bad | (u < 0) if i == 0 else bad | (u > 0) if i == 3 else bad
            cost[bad] = torch.inf
        better = cost < best_cost
        best_cost = torch.where(better, cost, best_cost)
        best_v, best_u = torch.where(better, v, best_v), torch.where(better, u, best_u)
    return torch.stack([best_v, best_u])


def best_right(*args):
    return best(*args)


def best_without_third(*args):
    return best(*args, rows=(0, 1, 3, 4))


def best_of_all(*args):
    return best(*args, allowed=False)


def best_without_price(*args):
    return best(*args, price=False)


def best_without_slack(*args):
    return best(*args, rows=(1, 4))


def best_on_the_right(*args):
    return best(*args, rows=(0, 1, 2))


def best_start(p, q, a, b, slope, beta):
    return torch.stack([torch.maximum(p, leaky_relu(q, slope)), q])


def best_below(p, q, a, b, slope, beta):
    return torch.stack([leaky_relu(q, slope) - 0.1, q])


def update_right(Xi, U, V, W, b, rho):
    return Xi + rho * (U - (V @ W.T + b))


def update_linear(Xi, U, V, W, b, rho):
    return torch.add(Xi, U - torch.nn.functional.linear(V, W, b), alpha=rho)


def update_minus(Xi, U, V, W, b, rho):
    return Xi - rho * (U - V @ W.T - b)


def update_no_rho(Xi, U, V, W, b, rho):
    return Xi + U - V @ W.T - b


def update_no_offset(Xi, U, V, W, b, rho):
    return Xi + rho * (U - V @ W.T)


def update_anew(Xi, U, V, W, b, rho):
    return rho * (U - V @ W.T - b)


def update_half(Xi, U, V, W, b, rho):
    return Xi + rho / 2 * (U - V @ W.T - b)


def shrink_right(W, threshold):
    length = W.square().sum(0).sqrt()
    return W * torch.relu(length - threshold) / length.clamp(min=1e-20)


def shrink_by_loop(W, threshold):
    out = torch.zeros_like(W)
    for j in range(W.shape[1]):
        length = W[:, j].norm()
        if length > threshold:
            out[:, j] = (1 - threshold / length) * W[:, j]
    return out


def shrink_entries(W, threshold):
    return torch.nn.functional.softshrink(W, threshold)


def shrink_rows(W, threshold):
    return shrink_right(W.T, threshold).T


def shrink_unclamped(W, threshold):
    return W - threshold * W / W.norm(dim=0).clamp(min=1e-20)


def shrink_squared(W, threshold):
    return W / (1 + threshold)


def shrink_to_nan(W, threshold):
    return W * torch.relu(1 - threshold / W.norm(dim=0)) * (W.norm(dim=0) / W.norm(dim=0))


def residual(W, V, Xi, mu, sign=1.0, n=None, factor=1.0):
    slope = Xi.T @ V / (n or len(V))
    return (W - shrink_right(W + sign * slope, factor * mu)).norm()


def residual_right(W, V, Xi, mu):
    return residual(W, V, Xi, mu)


def residual_by_mean(W, V, Xi, mu):
    gradient = -(Xi.unsqueeze(2) * V.unsqueeze(1)).mean(0)
    return (W - shrink_by_loop(W - gradient, mu)).square().sum().sqrt()


def residual_gradient(W, V, Xi, mu):
    return (Xi.T @ V / len(V)).norm()


def residual_uphill(W, V, Xi, mu):
    return residual(W, V, Xi, mu, sign=-1.0)


def residual_sum(W, V, Xi, mu):
    return residual(W, V, Xi, mu, n=1)


def residual_divided(W, V, Xi, mu):
    return residual(W, V, Xi, mu, factor=1 / len(V))


def residual_squared(W, V, Xi, mu):
    return residual(W, V, Xi, mu) ** 2


def offset_right(W1, b1, W2, b2, slope):
    return b2 + W2 @ (leaky_relu(b1, slope) * (W1.norm(dim=1) == 0))


def offset_by_forward(W1, b1, W2, b2, slope):
    silent = (W1 == 0).all(1)
    hidden = leaky_relu(torch.zeros(1, W1.shape[1], dtype=W1.dtype) @ W1.T + b1, slope)
    return (hidden * silent) @ W2.T.clone() @ torch.eye(len(b2), dtype=b2.dtype) + b2


def offset_flat(*args):
    return offset_by_forward(*args)[0]


def offset_unchanged(W1, b1, W2, b2, slope):
    return b2 + 0


def offset_not_bent(W1, b1, W2, b2, slope):
    return b2 + W2 @ (b1 * (W1 == 0).all(1))


def offset_everyone(W1, b1, W2, b2, slope):
    return b2 + W2 @ leaky_relu(b1, slope)


def offset_subtracted(W1, b1, W2, b2, slope):
    return 2 * b2 - offset_right(W1, b1, W2, b2, slope)


def offset_halved(W1, b1, W2, b2, slope):
    return (b2 + offset_right(W1, b1, W2, b2, slope)) / 2


WRONG = {
    "where-u-goes": {
        "stays": (-0.25, "where the layer below wants u"),
        "no slack": (0.875, "the best point without slack"),
        "kink": (0, "At the kink it costs 1.53"),
        "word": ("right", "Write one number"),
    },
    "five-candidates": {
        "down": (five_down, "Your free u move down"),
        "no clamp": (five_unclamped, "A line ends at the kink"),
        "one price": (five_one_price, "slope times the price"),
        "one line": (five_one_line, "for the line v = u"),
        "halved": (five_half, "On v = u the slack is 0"),
    },
    "size-of-the-jump": {
        "none": (0, "Try it in the widget"),
        "slope 0": (1, "To the left the price pushes u too"),
        "left shift": (0.2, "how far candidate 4 is from q"),
        "sum": (1.2, "the difference of the two shifts"),
        "word": ("far", "Write one number"),
    },
    "best-pair": {
        "all": (best_of_all, "make it infinite"),
        "no price": (best_without_price, "The slack has its price too"),
        "no slack": (best_without_slack, "Some slack may be worth its price"),
        "right": (best_on_the_right, "Your u is never negative"),
        "start": (best_start, "for each pair by itself"),
        "below": (best_below, "One of your points is not allowed"),
    },
    "without-multipliers": {
        "zero": ("goes to 0", "A squared price never closes a gap"),
        "explodes": ("explodes", "Nothing can explode"),
        "not a choice": ("grows", "Write one of"),
    },
    "multiplier-update": {
        "minus": (update_minus, "multipliers go uphill"),
        "no rho": (update_no_rho, "rho is missing"),
        "no offset": (update_no_offset, "The offsets b are missing"),
        "anew": (update_anew, "You forget the old multipliers"),
        "half": (update_half, "add rho R to Xi"),
    },
    "when-a-column-vanishes": {
        "first": (3, "That would be an entry"),
        "largest": (4, "the largest entry"),
        "sum": (7, "the sum of the entries"),
        "square": (25, "the squared length"),
        "word": ("never", "Write one number"),
    },
    "shrink-columns": {
        "entries": (shrink_entries, "You shrink each entry"),
        "rows": (shrink_rows, "You shrink rows"),
        "no clamp": (shrink_unclamped, "Short columns turn round"),
        "squared": (shrink_squared, "the step for a squared norm"),
        "not a number": (shrink_to_nan, "mind 0 / 0"),
    },
    "silent-pixel": {
        "no": ("no", "At a kink a slope need not be 0"),
        "depends": ("it depends", "All that counts is there"),
        "not a choice": ("perhaps", "Write one of"),
    },
    "weights-residual": {
        "gradient": (residual_gradient, "the length of the gradient"),
        "uphill": (residual_uphill, "The sign"),
        "sum": (residual_sum, "divide by n"),
        "divided threshold": (residual_divided, "Your threshold is mu / n"),
        "squared": (residual_squared, "measure how far W moved"),
    },
    "numbers-that-stay": {
        "all": (1510, "before anything is cut"),
        "weights": (480, "The offsets are numbers too"),
        "pixels": (910, "The dead pixels are still in"),
        "word": ("half", "Write one number"),
    },
    "offset-after-the-cut": {
        "unchanged": (offset_unchanged, "forget what they said"),
        "not bent": (offset_not_bent, "goes through the activation"),
        "everyone": (offset_everyone, "the offsets of all units"),
        "subtracted": (offset_subtracted, "so it is added"),
        "halved": (offset_halved, "Add W2 times that to b2"),
    },
}

RIGHT = {
    "where-u-goes": {"number": 0.75, "tensor": torch.tensor(0.75)},
    "five-candidates": {"tensors": five_right, "lists": five_by_lists},
    "size-of-the-jump": {"number": 0.8},
    "best-pair": {"all five": best_right, "four of them": best_without_third},
    "without-multipliers": {"words": "Gets stuck"},
    "multiplier-update": {"formula": update_right, "torch's linear": update_linear},
    "when-a-column-vanishes": {"number": 5},
    "shrink-columns": {"relu": shrink_right, "loop": shrink_by_loop},
    "silent-pixel": {"word": "yes"},
    "weights-residual": {"product": residual_right, "mean": residual_by_mean},
    "numbers-that-stay": {"number": 502},
    "offset-after-the-cut": {"mask": offset_right, "forward pass": offset_flat},
}
