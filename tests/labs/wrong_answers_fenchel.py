"""Answers to the lab on Fenchel lifting as learners write them, apart from the checkers' own mistakes."""

import torch
from torch.nn.functional import relu


def gap_right(v, u):
    return torch.where(v >= 0, 0.5 * v * v + 0.5 * relu(u).square() - u * v, float("inf"))


def gap_factored(v, u):
    value = (v - relu(u)) ** 2 / 2 + v * relu(-u)
    return value.masked_fill(v < 0, float("inf"))


def gap_squared(v, u):
    value = 0.5 * (v - relu(u)).square()
    return value.masked_fill(v < 0, float("inf"))


def gap_of_u(v, u):
    value = 0.5 * v**2 + 0.5 * u**2 - u * v
    return value.masked_fill(v < 0, float("inf"))


def gap_plus(v, u):
    return torch.where(v >= 0, 0.5 * v**2 + 0.5 * relu(u) ** 2 + u * v, torch.inf)


def gap_without_integral(v, u):
    return torch.where(v >= 0, 0.5 * v**2 - u * v, torch.inf)


def gap_doubled(v, u):
    return torch.where(v >= 0, v**2 + relu(u) ** 2 - 2 * u * v, torch.inf)


def gap_finite(v, u):
    return 0.5 * v * v + 0.5 * relu(u).square() - u * v


def gap_of_size(v, u):
    return gap_right(v, u) + 0.1


def step_right(r, u, c):
    return relu(r + c * u) / (1 + c)


def step_by_prox(r, u, c):
    from lablib.fenchel import ACTIVATIONS

    return ACTIVATIONS["relu"].prox(r + c * u, c)


def step_unclamped(r, u, c):
    return r / (1 + c) + c / (1 + c) * u


def step_to_phi(r, u, c):
    return relu(r + c * relu(u)) / (1 + c)


def step_explicit(r, u, c):
    return relu((1 - c) * r + c * u)


def step_undivided(r, u, c):
    return relu(r + c * u)


def step_swapped(r, u, c):
    return relu(c * r + u) / (c + 1)


def step_halved(r, u, c):
    return relu(r + c * u) / (2 + c)


def metric(A, anchor):
    return A.T @ A + anchor * torch.eye(A.shape[1], dtype=A.dtype)


def layer_right(W, A, target, anchor):
    return W - torch.linalg.solve(metric(A, anchor), A.T @ (relu(A @ W) - target))


def layer_by_cholesky(W, A, target, anchor):
    factor = torch.linalg.cholesky(metric(A, anchor))
    return W + torch.cholesky_solve(A.T @ (target - relu(A @ W)), factor)


def layer_through_relu(W, A, target, anchor):
    U = A @ W
    return W - torch.linalg.inv(metric(A, anchor)) @ A.T @ ((relu(U) - target) * (U > 0))


def layer_linear(W, A, target, anchor):
    return torch.linalg.solve(metric(A, anchor), A.T @ target + anchor * W)


def layer_uphill(W, A, target, anchor):
    return W + torch.linalg.solve(metric(A, anchor), A.T @ (relu(A @ W) - target))


def layer_gradient(W, A, target, anchor):
    return W - A.T @ (relu(A @ W) - target)


def layer_decayed(W, A, target, anchor):
    return W - torch.linalg.solve(metric(A, anchor), A.T @ (relu(A @ W) - target) + anchor * W)


def layer_half(W, A, target, anchor):
    return (W + layer_right(W, A, target, anchor)) / 2


def hidden(x, u, W, T, multiplier, louder=1.0, longer=1.0):
    ones = torch.ones(len(x), 1, dtype=x.dtype)
    bend = louder / 2 * torch.linalg.svdvals(W[:-1])[0] ** 2
    slope = louder * (torch.softmax(torch.cat([x, ones], 1) @ W, -1) - T) @ W[:-1].T
    step = longer / bend
    return step_right(x - step * slope, u, step * multiplier)


def break_louder(*args):
    return hidden(*args, louder=20.0)


def break_longer(*args):
    return hidden(*args, longer=100.0)


def break_nothing(*args):
    return hidden(*args)


def break_idle(x, u, W, T, multiplier):
    return x + 0


def break_twice(*args):
    return hidden(*args, longer=2.0)


def break_shorter(*args):
    return hidden(*args, longer=0.1)


def break_below_zero(x, u, W, T, multiplier):
    return x - 1


def break_mildly(*args):
    return (args[0] + hidden(*args)) / 2


def trust_right(gaps, share):
    total = gaps.sum(1)
    kept = len(total) - int(share * len(total))
    weights = torch.zeros_like(total)
    weights[total.topk(kept, largest=False).indices] = 1
    return weights


def trust_by_rank(gaps, share):
    rank = gaps.sum(-1).argsort().argsort()
    return (rank < len(gaps) - int(share * len(gaps))).to(gaps.dtype)


def trust_reversed(gaps, share):
    return 1 - trust_right(gaps, share)


def trust_smallest(gaps, share):
    return trust_right(-gaps, share)


def trust_largest_entry(gaps, share):
    return trust_right(gaps.max(-1, keepdim=True).values, share)


def trust_of_largest(gaps, share):
    total = gaps.sum(-1)
    return (total <= (1 - share) * total.max()).to(gaps.dtype)


def trust_all(gaps, share):
    return torch.ones_like(gaps[:, 0])


WRONG = {
    "gap-value": {
        "squared": (2, "half the squared distance from v to phi(u)"),
        "sign": (0, "Mind the sign"),
        "to u": (4.5, "half the squared distance from v to u"),
        "no half": (6, "half of 2^2"),
        "word": ("two", "Write one number"),
    },
    "fenchel-gap": {
        "squared distance": (gap_squared, "it is not convex in u"),
        "u squared": (gap_of_u, "the distance to u itself"),
        "plus": (gap_plus, "The product is subtracted"),
        "two terms": (gap_without_integral, "G(u) is missing"),
        "no halves": (gap_doubled, "This is 2 B"),
        "finite": (gap_finite, "for a negative v it is infinite"),
        "shifted": (gap_of_size, "Add the three terms"),
    },
    "strong-pull": {
        "stays": ("r", "but the gap is not"),
        "halfway": ("Halfway", "both terms weigh the same"),
        "not a choice": ("u", "Write one of"),
    },
    "gap-step": {
        "no clamp": (step_unclamped, "Some of your x are negative"),
        "to phi": (step_to_phi, "You pull towards phi(u)"),
        "explicit": (step_explicit, "This is a gradient step"),
        "not divided": (step_undivided, "The factor 1 / (1 + c) is missing"),
        "swapped": (step_swapped, "The weights are exchanged"),
        "another divisor": (step_halved, "Set the slope"),
    },
    "slope-of-a-dead-unit": {
        "silent": (0, "That is what backpropagation says"),
        "sign": (0.5, "v is subtracted from it"),
        "no phi": (-1.5, "You took u - v"),
        "word": ("none", "Write one number"),
    },
    "layer-step": {
        "through ReLU": (layer_through_relu, "backpropagation through the squared distance"),
        "linear": (layer_linear, "least squares for a linear layer"),
        "uphill": (layer_uphill, "This goes uphill"),
        "gradient": (layer_gradient, "Divide by the curvature"),
        "decay": (layer_decayed, "Your anchor pulls to 0"),
        "half": (layer_half, "The slope of the gaps by W"),
    },
    "louder-above": {
        "falls": ("falls", "The step lowers another function"),
        "always": ("always rises", "one step may well lower both"),
        "not a choice": ("rises", "Write one of"),
    },
    "break-it": {
        "honest": (break_nothing, "This is the honest step"),
        "idle": (break_idle, "Your step moves nothing"),
        "twice": (break_twice, "Twice as long still falls"),
        "shorter": (break_shorter, "A shorter step falls too"),
        "below zero": (break_below_zero, "find a quieter way"),
        "mildly": (break_mildly, "Your step still lowers the objective"),
    },
    "move-together": {
        "neighbour too": ({2, 3, 4}, "If both move"),
        "neighbour": ({2}, "X2 is the one that must wait"),
        "one": ({3}, "X4 shares no gap"),
        "none": (set(), "Only neighbours do"),
        "itself": ({1}, "Which X stand in no gap with X1"),
    },
    "threads-change": {
        "close": ("close", "No sum is shared"),
        "different": ("different", "does the step for W2 read anything"),
        "not a choice": ("faster", "Write one of"),
    },
    "trust": {
        "reversed": (trust_reversed, "You keep the suspects"),
        "smallest": (trust_smallest, "You strike out the smallest gaps"),
        "largest entry": (trust_largest_entry, "the largest gap of a single unit"),
        "of the largest": (trust_of_largest, "a share of the largest gap"),
        "all": (trust_all, "Sum the gaps of each sample"),
    },
    "gap-or-loss": {
        "more": ("many more", "because the loss pulls at them"),
        "fewer": ("far fewer", "A wrong label pulls hard"),
        "not a choice": ("more", "Write one of"),
    },
}

RIGHT = {
    "gap-value": {"number": 4, "tensor": torch.tensor(4.0)},
    "fenchel-gap": {"three terms": gap_right, "factored": gap_factored},
    "strong-pull": {"word": "phi(u)"},
    "gap-step": {"clamp first": step_right, "lablib's prox": step_by_prox},
    "slope-of-a-dead-unit": {"number": -0.5},
    "layer-step": {"solve": layer_right, "Cholesky": layer_by_cholesky},
    "louder-above": {"words": "may rise"},
    "break-it": {"louder": break_louder, "longer": break_longer},
    "move-together": {"set": {3, 4}, "list": [4, 3]},
    "threads-change": {"word": "Identical"},
    "trust": {"topk": trust_right, "rank": trust_by_rank},
    "gap-or-loss": {"words": "about as many"},
}
