"""Answers to the lab on the saddle-point Lagrangian as learners write them, apart from the checkers' own mistakes."""

import torch


def residual_right(lam, u, A, b):
    z = torch.sigmoid(u + lam @ A)
    return z @ A.T - b


def residual_by_autograd(lam, u, A, b):
    lam = lam.clone().requires_grad_()
    dual = torch.log1p(torch.exp(u + lam @ A)).sum() - (b * lam).sum()
    return torch.autograd.grad(dual, lam)[0]


def residual_flipped(lam, u, A, b):
    return b - (A @ torch.sigmoid(u + lam @ A).unsqueeze(-1)).squeeze(-1)


def residual_unshifted(lam, u, A, b):
    return torch.sigmoid(u) @ A.T - b + 0 * lam


def residual_of_logits(lam, u, A, b):
    w = u + lam @ A
    return w @ A.T - b


def residual_shifts_z(lam, u, A, b):
    z = torch.sigmoid(u)
    return (z + lam @ A) @ A.T - b


def residual_without_b(lam, u, A, b):
    return (A @ torch.sigmoid(u + lam @ A).unsqueeze(-1)).squeeze(-1)


def weighted(A, D):
    return torch.einsum("ik,...k,jk->...ij", A, D, A)


def step_right(lam, u, A, b):
    z = torch.sigmoid(u + lam @ A)
    return torch.linalg.solve(weighted(A, z * (1 - z)), b - z @ A.T)


def step_by_cholesky(lam, u, A, b):
    z = torch.sigmoid(u + lam @ A)
    L = torch.linalg.cholesky(weighted(A, z - z * z))
    return torch.cholesky_solve((b - z @ A.T).unsqueeze(-1), L).squeeze(-1)


def step_uphill(lam, u, A, b):
    z = torch.sigmoid(u + lam @ A)
    return torch.linalg.solve(weighted(A, z * (1 - z)), z @ A.T - b)


def step_without_slopes(lam, u, A, b):
    r = b - torch.sigmoid(u + lam @ A) @ A.T
    return r @ torch.linalg.inv(A @ A.T)


def step_weighed_by_z(lam, u, A, b):
    z = torch.sigmoid(u + lam @ A)
    return torch.linalg.solve(weighted(A, z), b - z @ A.T)


def step_of_descent(lam, u, A, b):
    return -residual_right(lam, u, A, b)


def step_for_all(lam, u, A, b):
    z = torch.sigmoid(u + lam @ A)
    D = z * (1 - z)
    D = D if D.dim() == 1 else D.mean(0)
    return (b - z @ A.T) @ torch.linalg.inv(weighted(A, D))


def back_right(z, A, v):
    D = z * (1 - z)
    eta = torch.linalg.solve(weighted(A, D), (D * v) @ A.T)
    return D * v - D * (eta @ A)


def back_by_inverse(z, A, v):
    D = z - z**2
    P = torch.diag_embed(D) - D.unsqueeze(-1) * (A.T @ torch.linalg.inv(weighted(A, D)) @ A) * D.unsqueeze(-2)
    return (P @ v.unsqueeze(-1)).squeeze(-1)


def back_sigmoid(z, A, v):
    return v * z * (1 - z)


def back_euclidean(z, A, v):
    return v - (v @ A.T) @ torch.linalg.inv(A @ A.T) @ A


def back_slope_forgotten(z, A, v):
    D = z * (1 - z)
    return v - torch.linalg.solve(weighted(A, D), (D * v) @ A.T) @ A


def back_added(z, A, v):
    D = z * (1 - z)
    return D * (v + torch.linalg.solve(weighted(A, D), (D * v) @ A.T) @ A)


def step_and_multipliers(lam, u, A, b):
    return lam + step_right(lam, u, A, b)


def step_by_diag(lam, u, A, b):
    z = torch.sigmoid(u + lam @ A)
    return torch.linalg.solve(A @ torch.diag(z * (1 - z)) @ A.mT, b - A @ z)


def step_with_double_ridge(lam, u, A, b):
    z = torch.sigmoid(u + lam @ A)
    return torch.linalg.solve(weighted(A, z * (1 - z)) + 1e-9 * torch.eye(2, dtype=torch.float64), b - z @ A.T)


def back_without_first_slope(z, A, v):
    D = z * (1 - z)
    return D * (v - torch.linalg.solve(weighted(A, D), v @ A.T) @ A)


def back_by_matrices(z, A, v):
    D = z * (1 - z)
    M = torch.diag_embed(D) - (A * D.unsqueeze(-2)).mT @ torch.linalg.solve(weighted(A, D), A * D.unsqueeze(-2))
    return v @ M


def rows_right(present, classes):
    blocks = [torch.eye(classes, dtype=present.dtype) * here[..., None, None] for here in present.unbind(-1)]
    return torch.cat(blocks, -1)


def rows_einsum(present, classes):
    return torch.einsum("...p,kj->...kpj", present, torch.eye(classes, dtype=present.dtype)).flatten(-2)


def rows_class_first(present, classes):
    return torch.einsum("...p,kj->...kjp", present, torch.eye(classes, dtype=present.dtype)).flatten(-2)


def rows_all_places(present, classes):
    return rows_right(torch.ones_like(present), classes)


def rows_of_shares(present, classes):
    return rows_right(present, classes) / present.sum(-1)[..., None, None]


WRONG = {
    "multiplier-sign": {
        "negative": ("negative", "It has to rise"),
        "zero": ("Zero", "nothing is shifted"),
        "not a choice": ("up", "Write one of"),
    },
    "dual-residual": {
        "b first": (residual_flipped, "the slope with the wrong sign"),
        "no multipliers": (residual_unshifted, "The multipliers do not appear"),
        "logits": (residual_of_logits, "apply the sigmoid first"),
        "z shifted": (residual_shifts_z, "You shift the prediction"),
        "no b": (residual_without_b, "This is A z alone"),
        "half": (lambda *a: residual_right(*a) / 2, "Shift the logits, predict, and compare with b"),
    },
    "newton-step": {
        "uphill": (step_uphill, "The step goes uphill"),
        "no slopes": (step_without_slopes, "You solve with A A'"),
        "z as slope": (step_weighed_by_z, "You weigh with z"),
        "descent": (step_of_descent, "gradient descent with length 1"),
        "one for all": (step_for_all, "all patterns share one D"),
        "new multipliers": (step_and_multipliers, "Return the step alone"),
        "diag": (step_by_diag, "instead of torch.diag"),
        "float64 inside": (step_with_double_ridge, "Two types of numbers met"),
    },
    "head-backward": {
        "sigmoid": (back_sigmoid, "the sigmoid alone"),
        "identity": (back_euclidean, "the rule for the identity"),
        "one slope": (back_slope_forgotten, "The last factor D is missing"),
        "plus": (back_added, "The correction has the wrong sign"),
        "no first slope": (back_without_first_slope, "It is A D v"),
        "a batch of matrices": (back_by_matrices, "There is a dimension too many"),
    },
    "count-rows": {
        "class first": (rows_class_first, "The columns are in another order"),
        "all places": (rows_all_places, "An empty place is counted too"),
        "shares": (rows_of_shares, "do not divide by the number of filled places"),
    },
    "what-a-zero-forces": {
        "nearly": ("nearly 0", "would need a negative probability"),
        "nothing": ("nothing", "When is such a sum 0"),
        "not a choice": ("all", "Write one of"),
    },
    "how-many-rows": {
        "all": (16, "Both are the sum of all pixels"),
        "eight": (8, "do not follow from the row sums"),
        "pixels": (64, "only 16 measurements"),
        "two less": (14, "Only one relation"),
    },
    "how-many-miss": {
        "none": ("none", "the same coin"),
        "some": ("some", "Sixteen sums"),
        "not a choice": ("all", "Write one of"),
    },
}

RIGHT = {
    "multiplier-sign": {"word": "positive", "capital": "Positive"},
    "dual-residual": {"formula": residual_right, "autograd": residual_by_autograd},
    "newton-step": {"solve": step_right, "Cholesky": step_by_cholesky},
    "head-backward": {"solve": back_right, "matrix": back_by_inverse},
    "count-rows": {"blocks": rows_right, "einsum": rows_einsum},
    "what-a-zero-forces": {"words": "exactly 0"},
    "how-many-rows": {"number": 15, "tensor": torch.tensor(15.0)},
    "how-many-miss": {"word": "most"},
}
