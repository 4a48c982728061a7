"""Answers to the lab on polyhedra as learners write them, apart from the checkers' own mistakes."""

import itertools

import torch

import lablib

# Exercise 1


def sort_simplex(y, total=1.0):
    u = y.sort(-1, descending=True).values
    c = (u.cumsum(-1) - total) / torch.arange(1, y.shape[-1] + 1)
    k = (u > c).sum(-1, keepdim=True) - 1
    return (y - c.gather(-1, k)).clamp(min=0).to(y.dtype)


def quota_right(y, group, quota):
    x = sort_simplex(y)
    two = torch.zeros_like(x)
    two[..., group], two[..., ~group] = sort_simplex(y[..., group], quota), sort_simplex(y[..., ~group], 1 - quota)
    return torch.where(x[..., group].sum(-1, keepdim=True) < quota, two, x)


def quota_by_a_price(y, group, quota):
    """Raise the group's scores by one price, found by bisection."""
    low, high = torch.zeros_like(y[..., :1]), 4 * y.abs().amax(-1, keepdim=True) + 4
    for _ in range(80):
        price = (low + high) / 2
        short = (sort_simplex(y + price * group) * group).sum(-1, keepdim=True) < quota
        low, high = torch.where(short, price, low), torch.where(short, high, price)
    x = sort_simplex(y)
    return torch.where((x * group).sum(-1, keepdim=True) < quota, sort_simplex(y + high * group), x)


def quota_forgotten(y, group, quota):
    return sort_simplex(y)


def quota_always_tight(y, group, quota):
    x = y.clone()
    x[..., group] = lablib.Simplex(int(group.sum()), quota).project(y[..., group])
    x[..., ~group] = lablib.Simplex(int((~group).sum()), 1 - quota).project(y[..., ~group])
    return x


def quota_rescaled(y, group, quota):
    x = sort_simplex(y)
    inside, outside = x[..., group].sum(-1, keepdim=True), x[..., ~group].sum(-1, keepdim=True)
    factor = torch.where(group, quota / inside, (1 - quota) / outside)
    return torch.where(inside < quota, x * factor, x)


def quota_shared_out(y, group, quota):
    x = sort_simplex(y)
    missing = torch.relu(quota - x[..., group].sum(-1, keepdim=True))
    x = x.clone()
    x[..., group] += missing / group.sum()
    x[..., ~group] -= missing / (~group).sum()
    return x


def quota_one_if(y, group, quota):
    x = sort_simplex(y)
    if (x[..., group].sum(-1) >= quota).all():
        return x
    return quota_always_tight(y, group, quota)


def quota_for_a_single_point(y, group, quota):
    x = sort_simplex(y)
    if x[group].sum() >= quota:
        return x
    return quota_always_tight(y, group, quota)


def quota_sum_forgotten(y, group, quota):
    x = sort_simplex(y).clone()
    short = torch.relu(quota - x[..., group].sum(-1, keepdim=True))
    x[..., group] += short / group.sum()
    return x


# Exercise 2


def face_right(rows, v):
    m = torch.linalg.lstsq(rows.T, v.reshape(-1, v.shape[-1]).T, driver="gelsd").solution
    return (v.reshape(-1, v.shape[-1]).T - rows.T @ m).T.reshape(v.shape)


def face_by_gram_schmidt(rows, v):
    basis = []
    for r in rows:
        for b in basis:
            r = r - (r @ b) * b
        if r.norm() > 1e-5:
            basis.append(r / r.norm())
    for b in basis:
        v = v - (v @ b).unsqueeze(-1) * b
    return v


def face_in_turn(rows, v):
    for r in rows / rows.norm(dim=-1, keepdim=True):
        v = v - (v * r).sum(-1, keepdim=True) * r
    return v


def face_without_inverse(rows, v):
    return v - (v @ rows.mT) @ rows


def face_normal_part(rows, v):
    return v @ (torch.linalg.pinv(rows) @ rows).T


def face_regularised(rows, v):
    gram = rows @ rows.T + 1e-3 * torch.eye(rows.shape[0], dtype=rows.dtype)
    return v - torch.linalg.solve(gram, (v @ rows.T).unsqueeze(-1)).squeeze(-1) @ rows


def face_solve(rows, v):
    return v - torch.linalg.solve(rows @ rows.T, (v @ rows.T).T).T @ rows


def face_zero(rows, v):
    return torch.zeros_like(v)


# Exercise 3


def rows_right(n):
    out = torch.zeros(2 * n, n, n)
    for k in range(n):
        out[k, k, :] = 1
        out[n + k, :, k] = 1
    return out.flatten(1)


def rows_by_kron(n):
    eye, one = torch.eye(n), torch.ones(1, n)
    return torch.vstack([torch.kron(eye, one), torch.kron(one, eye)])


def rows_swapped(n):
    return torch.cat([torch.eye(n).repeat(1, n), torch.eye(n).repeat_interleave(n, 1)])


def rows_only(n):
    half = torch.eye(n).repeat_interleave(n, dim=1)
    return torch.cat([half, half])


def rows_all_ones(n):
    return torch.ones(2 * n, n * n)


def rows_half(n):
    return torch.eye(n).repeat_interleave(n, dim=1)


def rows_shifted_column(n):
    out = rows_right(n)
    return torch.cat([out[:n], out[n:].roll(1, 0)])


# Exercise 4

PERMUTATIONS = [torch.eye(4)[list(p)] for p in itertools.permutations(range(4))]


def mix_right(a):
    w = torch.softmax(a, -1)
    return sum(w[..., k, None, None] * P.to(a) for k, P in enumerate(PERMUTATIONS))


def mix_by_matmul(a):
    flat = torch.stack(PERMUTATIONS).to(a).flatten(1)
    return (a.softmax(-1) @ flat).unflatten(-1, (4, 4))


def mix_raw(a):
    return (a @ torch.stack(PERMUTATIONS).to(a).flatten(1)).unflatten(-1, (4, 4))


def mix_wrong_dim(a):
    return (torch.softmax(a, 0) @ torch.stack(PERMUTATIONS).to(a).flatten(1)).unflatten(-1, (4, 4))


def mix_columns(a):
    w = a.softmax(-1)
    out = torch.zeros(*a.shape[:-1], 4, 4, dtype=a.dtype)
    for k, p in enumerate(itertools.permutations(range(4))):
        for i, j in enumerate(p):
            out[..., j, i] += w[..., k]
    return out


def mix_divided(a):
    w = a / a.sum(-1, keepdim=True)
    return (w @ torch.stack(PERMUTATIONS).to(a).flatten(1)).unflatten(-1, (4, 4))


def mix_backwards(a):
    return (a.softmax(-1).flip(-1) @ torch.stack(PERMUTATIONS).to(a).flatten(1)).unflatten(-1, (4, 4))


WRONG = {
    "quota-shares": {
        "simplex alone": ([0, 0, 0.8, 0.2], "The first two get nothing"),
        "a negative share": ([0.35, 0.25, 0.5, -0.1], "one share is negative"),
        "scaled": ([0.4, 0.2, 0.3, 0.1], "You scaled each block"),
        "even": ([0.3, 0.3, 0.2, 0.2], "subtract one number and stop at 0"),
        "a word": ("the third", "Write four numbers"),
    },
    "quota-projection": {
        "simplex alone": (quota_forgotten, "the quota is not used yet"),
        "always two blocks": (quota_always_tight, "You split the budget in every case"),
        "scales": (quota_rescaled, "You scale the two blocks"),
        "spreads": (quota_shared_out, "You spread the shortfall evenly"),
        "one if for all": (quota_one_if, "each point decides for itself"),
        "one point only": (quota_for_a_single_point, "A batch has leading dimensions"),
        "the rest keeps its share": (quota_sum_forgotten, "One of the three rules is broken"),
    },
    "face-of-rows": {
        "one after the other": (face_in_turn, "You take out one row after the other"),
        "no inverse": (face_without_inverse, "right only for orthonormal rows"),
        "normal part": (face_normal_part, "the part that the rows take"),
        "regularised": (face_regularised, "the answer leans off the face"),
        "an inverse that is not there": (face_solve, "read the last line of the error"),
        "nothing moves": (face_zero, "v - u must be a combination of the rows"),
    },
    "free-directions": {
        "whole polytope": (4, "the dimension of the whole polytope"),
        "positive entries": (3, "each row sum fixes one of them"),
        "one": (1, "stand alone in their rows"),
        "all entries": (9, "What is left for a permutation?"),
    },
    "matching-rows": {
        "columns first": (rows_swapped, "the row sums come first"),
        "rows twice": (rows_only, "Both halves give row sums"),
        "everything": (rows_all_ones, "adds up the whole matrix"),
        "one half": (rows_half, "reduce with dim=-1 only"),
        "columns from the second on": (rows_shifted_column, "It belongs to row i and to column j"),
    },
    "how-many-steps": {
        "tens": ("tens", "enough for a blurred answer"),
        "hundreds": ("Hundreds", "waits for its slowest matrix"),
        "a number": (2000, 'Write one of "tens", "hundreds", "thousands"'),
    },
    "gain-of-a-product": {
        "below": ("below 1", "what does a matrix with row sums 1 make of the vector of ones"),
        "above": ("Above 1", "Can an average of them stretch?"),
        "a number": (1, 'Write one of "below 1", "exactly 1", "above 1"'),
    },
    "permutation-mix": {
        "raw numbers": (mix_raw, "The raw numbers are no weights"),
        "softmax over the batch": (mix_wrong_dim, "runs along the first dimension"),
        "inverse permutations": (mix_columns, "turned into its inverse"),
        "divided by the sum": (mix_divided, "which function makes such weights"),
        "in reverse order": (mix_backwards, "weight k belongs to PERMUTATIONS[k]"),
    },
}

RIGHT = {
    "quota-shares": {"list": [0.35, 0.25, 0.4, 0], "tensor": torch.tensor([0.35, 0.25, 0.4, 0.0])},
    "quota-projection": {"two blocks": quota_right, "a price by bisection": quota_by_a_price},
    "face-of-rows": {"least squares": face_right, "Gram and Schmidt": face_by_gram_schmidt},
    "free-directions": {"int": 0, "float": 0.0},
    "matching-rows": {"cubes": rows_right, "kron": rows_by_kron},
    "how-many-steps": {"word": "thousands", "capital": "Thousands "},
    "gain-of-a-product": {"words": "exactly 1", "capital": "Exactly 1"},
    "permutation-mix": {"sum": mix_right, "matrix product": mix_by_matmul},
}
