"""The exercises of the lab on polyhedra: cases, properties, typical mistakes and hints.

The references are slow on purpose: they try every support, or go entry by entry.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

import lablib
from lablib.teaching.checks import (
    Case,
    Exercise,
    Misconception,
    Prediction,
    compare,
    known,
    number,
    numbers,
    one_of,
    runs,
)
from lablib.teaching.exercises.projection_layers import batch, each_row, row, tolerance

# Exercise 1: a portfolio with a quota


def nearest_with_quota(y: Tensor, group: Tensor, quota: float) -> Tensor:
    """The projection on {x >= 0, sum 1, sum over the group >= quota} by trying every support, quota tight or not."""

    def solve(point: Tensor) -> Tensor:
        best, least = point, torch.inf
        for support in itertools.product((False, True), repeat=len(point)):
            kept = torch.tensor(support)
            for blocks in ([(kept, 1.0)], [(kept & group, quota), (kept & ~group, 1 - quota)]):
                x = torch.zeros_like(point)
                for block, total in blocks:
                    if block.any():
                        x = torch.where(block, point - (point[block].sum() - total) / block.sum(), x)
                fits = x.min() >= 0 and abs(float(x.sum()) - 1) < 1e-9 and float(x[group].sum()) >= quota - 1e-9
                if fits and float(((x - point) ** 2).sum()) < least:
                    best, least = x, float(((x - point) ** 2).sum())
        return best

    return each_row(lambda point: solve(point.double()), y).to(y.dtype)


def simplex(y: Tensor, total: float = 1.0) -> Tensor:
    """The projection on a simplex."""
    return lablib.Simplex(y.shape[-1], total).project(y)


def blocks(y: Tensor, group: Tensor, quota: float) -> Tensor:
    """Two simplices side by side."""
    x = torch.zeros_like(y)
    x[..., group], x[..., ~group] = simplex(y[..., group], quota), simplex(y[..., ~group], 1 - quota)
    return x


def with_quota(y: Tensor, group: Tensor, quota: float) -> Tensor:
    """What the lab goes on with: the simplex alone where it meets the quota, two blocks where it does not."""
    x = simplex(y)
    return torch.where((x * group).sum(-1, keepdim=True) < quota, blocks(y, group, quota), x)


def scaled_blocks(y: Tensor, group: Tensor, quota: float) -> Tensor:
    """Mistake: repair the simplex projection by scaling its two blocks."""
    x = simplex(y)
    share = (x * group).sum(-1, keepdim=True)
    scaled = torch.where(group, x * quota / share, x * (1 - quota) / (1 - share))
    return torch.where(share >= quota, x, scaled)


def shifted_blocks(y: Tensor, group: Tensor, quota: float) -> Tensor:
    """Mistake: spread the shortfall evenly over the group, take it evenly from the rest."""
    x = simplex(y)
    short = (quota - (x * group).sum(-1, keepdim=True)).clamp(min=0)
    return x + torch.where(group, short / group.sum(), -short / (~group).sum())


def quota_for_the_batch(y: Tensor, group: Tensor, quota: float) -> Tensor:
    """Mistake: one decision for the whole batch."""
    x = simplex(y)
    return blocks(y, group, quota) if bool(((x * group).sum(-1) < quota).any()) else x


def quota_cases() -> list[Case]:
    """The quota missed, met, exactly met; batches with both; float32."""
    first, odd = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False, False])
    return [
        Case("the quota is missed", (row(0.2, 0.1, 0.9, 0.3), first, 0.6)),
        Case("the quota is met anyway", (row(0.9, 0.3, 0.2, 0.1), first, 0.6)),
        Case("already feasible", (row(0.4, 0.3, 0.2, 0.1), first, 0.6)),
        Case("far outside", (row(-3.0, 5.0, 9.0, -1.0), first, 0.25)),
        Case("a batch, some meet it", (batch(21, 6, 4), first, 0.5)),
        Case("a batch of batches", (batch(22, 2, 3, 5), odd, 0.4)),
        Case("float32", (row(0.2, 0.1, 0.9, 0.3, dtype=torch.float32), first, 0.6)),
    ]


def keeps_the_rules(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """No negative share, sum one, quota met."""
    out, (_, group, quota) = answer(*case.copies()), case.args
    broken = torch.stack([(-out).amax(-1), (out.sum(-1) - 1).abs(), quota - (out * group).sum(-1)], -1).clamp(min=0)
    compare(
        exercise,
        "shares are not negative, sum to 1, and the group has its quota",
        case,
        broken,
        torch.zeros_like(broken),
        atol=tolerance(case),
        hint="One of the three rules is broken: the numbers say by how much, in this order. Check them after your "
        "last step.",
    )


def is_nearest_portfolio(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """No feasible portfolio is nearer."""
    compare(
        exercise,
        "no feasible portfolio is nearer",
        case,
        answer(*case.copies()),
        known(exercise, case),
        atol=tolerance(case),
        hint="Feasible, but not the nearest. If the quota is missed, what do the two blocks sum to at the answer?",
    )


QUOTA = Exercise(
    name="quota-projection",
    arguments=("y", "group", "quota"),
    reference=nearest_with_quota,
    library=with_quota,
    cases=quota_cases,
    properties=(runs(lambda case: tuple(case.args[0].shape)), keeps_the_rules, is_nearest_portfolio),
    misconceptions=(
        Misconception(
            "no-quota",
            lambda y, group, quota: simplex(y),
            "This is the projection on the simplex: the quota is not used yet. Look at the group's sum.",
        ),
        Misconception(
            "always-two-blocks",
            blocks,
            "You split the budget in every case. If the simplex projection gives the group more than its quota, that "
            "point is already the answer.",
        ),
        Misconception(
            "scaled-blocks",
            scaled_blocks,
            "You scale the two blocks of the simplex projection. That is feasible, but a nearest point is found by "
            "subtracting, and from y, not from a point that has lost entries already.",
        ),
        Misconception(
            "shifted-blocks",
            shifted_blocks,
            "You spread the shortfall evenly. Entries at 0 may go below it, or come back though y does not want them. "
            "Project each block of y again.",
        ),
        Misconception(
            "one-decision-for-the-batch",
            quota_for_the_batch,
            "One point is right, a batch is wrong: each point decides for itself whether it misses the quota. Use "
            "torch.where.",
        ),
    ),
    hints=(
        "First project on the simplex alone. Which points of the batch meet the quota?",
        "For the others the quota is tight: the group sums to the quota, the rest to 1 - quota. What is left are two "
        "projections on simplices, of y itself.",
        "lablib.Simplex(k, total).project works on the last dimension: use it on y[..., group] and y[..., ~group].",
    ),
    right="It keeps the three rules and is nearest on every case, alone and in a batch.",
)

QUOTA_SHARES = Prediction(
    name="quota-shares",
    read=numbers,
    form="four numbers, such as [0.25, 0.25, 0.25, 0.25]",
    answer=(0.35, 0.25, 0.4, 0.0),
    wrong=(
        (
            (0.0, 0.0, 0.8, 0.2),
            "That is the projection on the simplex alone. The first two get nothing; they must get 0.6.",
        ),
        (
            (0.35, 0.25, 0.5, -0.1),
            "The blocks are right, but one share is negative. It stops at 0, and the other takes the rest of the 0.4.",
        ),
        (
            (0.4, 0.2, 0.3, 0.1),
            "You scaled each block. Nearest means that the members of a block move by the same amount.",
        ),
    ),
    otherwise="The first two share 0.6, the last two share 0.4. In each block, subtract one number and stop at 0.",
    hints=(
        "Does the projection on the simplex alone meet the quota? If not, the first two sum to exactly 0.6.",
        "First block: subtract (0.2 + 0.1 - 0.6) / 2 from both. Second block: mind the entry that would go below 0.",
    ),
    right="The two blocks are two projections: total 0.6 and total 0.4.",
)

# Exercise 2: the face of rows that may depend on each other


def free_part(rows: Tensor, v: Tensor) -> Tensor:
    """What of v is orthogonal to all rows, by singular values."""
    _, sizes, right = torch.linalg.svd(rows.double(), full_matrices=False)
    basis = right[sizes > 1e-9]
    return (v.double() - v.double() @ basis.T @ basis).to(v.dtype)


def one_row_at_a_time(rows: Tensor, v: Tensor) -> Tensor:
    """Mistake: one row after the other, once."""
    for r in rows:
        v = v - (v @ r / (r @ r)).unsqueeze(-1) * r
    return v


def face_cases() -> list[Case]:
    """No dependence, a row twice, three rows in a plane, no row, a batch, float32."""
    plane = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]], dtype=torch.float64)
    slanted = torch.tensor([[1.0, 2.0, 0.0, 1.0], [0.0, 1.0, -1.0, 2.0]], dtype=torch.float64)
    return [
        Case("one row", (slanted[:1], row(1.0, 0.0, 2.0, -1.0))),
        Case("two rows at an angle", (slanted, row(1.0, 0.0, 2.0, -1.0))),
        Case("the same row twice", (slanted[[0, 0]], row(1.0, 0.0, 2.0, -1.0))),
        Case("three rows in one plane", (plane, row(1.0, 2.0, 3.0))),
        Case("rows that fix everything", (torch.eye(3, dtype=torch.float64), row(1.0, 2.0, 3.0))),
        Case("a batch of gradients", (slanted, batch(23, 5, 4))),
        Case("float32", (slanted.float(), row(1.0, 0.0, 2.0, -1.0, dtype=torch.float32))),
    ]


def stays_on_the_face(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """No row changes along the answer."""
    rows, _ = case.args
    along = answer(*case.copies()).double() @ rows.double().T
    compare(
        exercise,
        "no row changes along the answer: rows @ u = 0",
        case,
        along,
        torch.zeros_like(along),
        atol=tolerance(case),
        hint="The answer still moves across a row. If two rows are not at a right angle, taking out the second brings "
        "back some of the first; and rows may repeat each other, so that rows @ rows.T has no inverse.",
    )


def keeps_all_it_can(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """It is the orthogonal projection."""
    compare(
        exercise,
        "what is left of v is all that the rows allow",
        case,
        answer(*case.copies()),
        known(exercise, case),
        atol=tolerance(case),
        hint="Along the face, but not the orthogonal projection: v - u must be a combination of the rows.",
    )


FACE = Exercise(
    name="face-of-rows",
    arguments=("rows", "v"),
    reference=free_part,
    library=lambda rows, v: lablib.Affine(rows, torch.zeros_like(rows[:, 0])).project(v),
    cases=face_cases,
    properties=(runs(lambda case: tuple(case.args[1].shape)), stays_on_the_face, keeps_all_it_can),
    misconceptions=(
        Misconception(
            "one-row-at-a-time",
            one_row_at_a_time,
            "You take out one row after the other. That is right only for rows at right angles. Solve for all rows "
            "together, or make them orthogonal first.",
        ),
        Misconception(
            "no-gram-matrix",
            lambda rows, v: v - v @ rows.T @ rows,
            "You subtract rows.T @ rows @ v. That is right only for orthonormal rows. Between the two stands the "
            "inverse of rows @ rows.T, or what takes its place.",
        ),
        Misconception(
            "the-other-part",
            lambda rows, v: v - free_part(rows, v),
            "This is the part that the rows take, the normal part. The layer lets the other one through.",
        ),
        Misconception(
            "damped",
            lambda rows, v: v - v @ rows.T @ torch.linalg.inv(rows @ rows.T + 1e-3 * torch.eye(len(rows)).to(v)) @ rows,
            "You add a multiple of the identity to make the inverse exist. Then the answer leans off the face. Choose "
            "independent rows, or a pseudo-inverse, instead.",
        ),
    ),
    hints=(
        "u = v - rows.T @ m for some numbers m, such that rows @ u = 0. Which linear system is that?",
        "If rows repeat each other the system has many solutions, and all of them give the same u: take any, by "
        "torch.linalg.lstsq(..., driver='gelsd') or torch.linalg.pinv.",
        "torch.linalg.pinv(rows) @ rows projects on what the rows span; v minus that, for each v of a batch.",
    ),
    right="It projects on the face, also where rows repeat or depend on each other.",
)

# Exercise 3: the rows of a matching


def by_entries(n: int) -> Tensor:
    """The rows, entry by entry: first the rows' sums, then the columns'."""
    rows = torch.zeros(2 * n, n * n)
    for i, j in itertools.product(range(n), repeat=2):
        rows[i, i * n + j] = rows[n + j, i * n + j] = 1.0
    return rows


def gives_the_sums(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """Applied to a flattened matrix it gives its sums."""
    (n,) = case.args
    X = torch.arange(1.0, n * n + 1).reshape(n, n).to(torch.get_default_dtype())
    sums = answer(n).to(X) @ X.flatten()
    compare(
        exercise,
        "rows @ X.flatten() gives the n row sums, then the n column sums",
        case,
        sums,
        torch.cat([X.sum(1), X.sum(0)]),
        hint="Entry (i, j) of X stands at place n i + j of X.flatten(). It belongs to row i and to column j.",
    )


MATCHING = Exercise(
    name="matching-rows",
    arguments=("n",),
    reference=by_entries,
    library=by_entries,
    cases=lambda: [Case(f"n = {n}", (n,)) for n in (2, 3, 1, 5)],
    properties=(runs(lambda case: (2 * case.args[0], case.args[0] ** 2)), gives_the_sums),
    misconceptions=(
        Misconception(
            "columns-first",
            lambda n: by_entries(n).roll(n, 0),
            "The two halves have changed places: the row sums come first.",
        ),
        Misconception(
            "rows-twice",
            lambda n: torch.cat([by_entries(n)[:n]] * 2),
            "Both halves give row sums. For the columns every n-th entry is added, beginning with j.",
        ),
        Misconception(
            "sum-of-everything",
            lambda n: torch.ones(2 * n, n * n),
            "Every row of yours adds up the whole matrix. Row i adds up the n entries of row i alone.",
        ),
    ),
    hints=(
        "Write the 4 x 4 case for n = 2 by hand: which places of X.flatten() make the first row sum?",
        "A loop over i and j with two assignments will do. Or: torch.kron(eye, ones) gives one half, torch.kron(ones, "
        "eye) the other.",
    ),
    right="It adds up rows, then columns.",
)

FREE = Prediction(
    name="free-directions",
    read=number,
    form="one number",
    answer=0.0,
    wrong=(
        (
            4.0,
            "That is the dimension of the whole polytope, 9 entries minus 5 independent sums. At a permutation six "
            "entries are 0 as well, and stay 0.",
        ),
        (3.0, "Three entries are positive, but each row sum fixes one of them."),
        (1.0, "Try to find that direction: the three positive entries stand alone in their rows."),
    ),
    otherwise="Directions vanish where X is 0, and have row and column sums 0. What is left for a permutation?",
    hints=(
        "Where are the entries that may move?",
        "There is one positive entry in each row, and the row's sum must stay 1.",
    ),
    right="A permutation is a corner of the polytope: no direction, and so no gradient.",
)

STEPS = Prediction(
    name="how-many-steps",
    read=one_of("tens", "hundreds", "thousands"),
    form='one of "tens", "hundreds", "thousands"',
    answer="thousands",
    wrong=(
        ("tens", "Tens of steps are enough for a blurred answer. Sharp answers, near a permutation, take far longer."),
        (
            "hundreds",
            "Half of them are done by then. But the batch waits for its slowest matrix, and that one takes longer.",
        ),
    ),
    otherwise="Look at the printed table.",
    hints=("The sharper the answer, the slower the iteration.", "The slowest matrix of the batch decides."),
    right="At this sharpness the slowest matrix of the batch takes thousands of steps.",
)

# Exercise 4: mixing by permutations

GAIN = Prediction(
    name="gain-of-a-product",
    read=one_of("below 1", "exactly 1", "above 1"),
    form='one of "below 1", "exactly 1", "above 1"',
    answer="exactly 1",
    wrong=(
        (
            "below 1",
            "Something is not shrunk: what does a matrix with row sums 1 make of the vector of ones, and ten of them?",
        ),
        (
            "above 1",
            "Such a matrix is an average of permutations, and a permutation keeps every length. Can an average of "
            "them stretch?",
        ),
    ),
    otherwise="Try the vector of ones, then think of H as an average of permutations.",
    hints=(
        "What is H times the vector of ones?",
        "An average of permutations stretches nothing, and products of doubly stochastic matrices are doubly "
        "stochastic.",
    ),
    right="The ones stay as they are, and an average of permutations stretches nothing, however many you multiply.",
)


def all_permutations(dtype: torch.dtype) -> Tensor:
    """The 24 permutation matrices, in the order of itertools."""
    return torch.eye(4, dtype=dtype)[torch.tensor(list(itertools.permutations(range(4))))]


def mixed(a: Tensor) -> Tensor:
    """The average of the permutations, weight by weight."""
    weights = a.exp() / a.exp().sum(-1, keepdim=True)
    total = torch.zeros(*a.shape[:-1], 4, 4, dtype=a.dtype)
    for k, P in enumerate(all_permutations(a.dtype)):
        total = total + weights[..., k, None, None] * P
    return total


def sums_are_one(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """Doubly stochastic."""
    out = answer(*case.copies())
    broken = torch.cat([out.sum(-1) - 1, out.sum(-2) - 1, (-out).clamp(min=0).flatten(-2)], -1)
    compare(
        exercise,
        "no entry is negative, rows and columns sum to 1",
        case,
        broken,
        torch.zeros_like(broken),
        atol=tolerance(case),
        hint="An average has weights that are not negative and sum to 1: which function makes such weights of any 24 "
        "numbers?",
    )


def is_the_average(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """The average in the order of itertools."""
    compare(
        exercise,
        "it is the average of the permutations in the order given",
        case,
        answer(*case.copies()),
        known(exercise, case),
        atol=tolerance(case),
        event=2,
        hint="Doubly stochastic, but another average: weight k belongs to PERMUTATIONS[k].",
    )


MIX = Exercise(
    name="permutation-mix",
    arguments=("a",),
    reference=mixed,
    library=lambda a: torch.einsum("...k,kij->...ij", a.softmax(-1), all_permutations(a.dtype).to(a.device)),
    cases=lambda: [
        Case("all weights equal", (torch.zeros(24, dtype=torch.float64),)),
        Case("one large weight", (8.0 * torch.eye(24, dtype=torch.float64)[9],)),
        Case("a batch", (batch(24, 3, 24),)),
        Case("a batch of batches", (batch(25, 2, 2, 24),)),
        Case("float32", (batch(26, 24).float(),)),
    ],
    properties=(runs(lambda case: (*case.args[0].shape[:-1], 4, 4)), sums_are_one, is_the_average),
    misconceptions=(
        Misconception(
            "no-softmax",
            lambda a: torch.einsum("...k,kij->...ij", a, all_permutations(a.dtype)),
            "The raw numbers are no weights: they may be negative and need not sum to 1. A softmax makes weights.",
        ),
        Misconception(
            "softmax-over-the-batch",
            lambda a: torch.einsum("...k,kij->...ij", a.softmax(0), all_permutations(a.dtype)),
            "The softmax runs along the first dimension, over the batch. With dim=-1 each matrix has its own weights.",
        ),
        Misconception(
            "transposed",
            lambda a: mixed(a).mT,
            "Each permutation is turned into its inverse. Sum weight k times PERMUTATIONS[k] as it stands.",
        ),
    ),
    hints=(
        "Turn the 24 numbers into weights that are positive and sum to 1.",
        'torch.einsum("...k,kij->...ij", weights, PERMUTATIONS) forms the average for every batch.',
    ),
    right="Every average of permutations is doubly stochastic, exactly, with no iteration.",
)

EXERCISES = [QUOTA_SHARES, QUOTA, FACE, FREE, MATCHING, STEPS, GAIN, MIX]
