"""The exercises of the lab on projection layers: cases, properties, typical mistakes and hints.

The references are slow on purpose and share no idea with a good answer: they try every face of the set and keep the
nearest feasible point. The mistakes are written as a learner would write them.
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
    Wrong,
    compare,
    describe,
    indices,
    known,
    number,
    numbers,
    one_of,
    runs,
    show,
)


def row(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """One point."""
    return torch.tensor(values, dtype=dtype)


def batch(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """A batch of random points, the same on every machine."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def tolerance(case: Case) -> float:
    """What rounding may cost in the case's dtype."""
    return 1e-6 if case.args[0].dtype == torch.float64 else 1e-4


def each_row(function: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """A function of one point, applied to every point of a batch by a plain loop."""
    rows = [function(point) for point in points.reshape(-1, points.shape[-1])]
    return torch.stack(rows).reshape(*points.shape[:-1], *rows[0].shape)


def nearest_on_simplex(y: Tensor) -> Tensor:
    """The projection on the simplex by trying every support."""

    def solve(point: Tensor) -> Tensor:
        point, best, least = point.double(), None, torch.inf
        for support in itertools.product((False, True), repeat=len(point)):
            kept = torch.tensor(support)
            if not kept.any():
                continue
            x = torch.where(kept, point - (point[kept].sum() - 1) / kept.sum(), 0.0)
            distance = float(((x - point) ** 2).sum())
            if bool((x >= 0).all()) and distance < least:
                best, least = x, distance
        return best

    return each_row(solve, y).to(y.dtype)


def nearest_on_budget(y: Tensor, upper: Tensor, price: Tensor, budget: float) -> Tensor:
    """The projection on a box with a budget by trying every pattern of lower, upper and free coordinates."""

    def solve(point: Tensor) -> Tensor:
        point, best, least = point.double(), None, torch.inf
        cap, cost = upper.double(), price.double()
        for pattern in itertools.product((0, 1, 2), repeat=len(point)):
            state = torch.tensor(pattern)
            x, free = torch.where(state == 1, cap, 0.0), state == 2
            if free.any():
                spent = (cost * x).sum() + (cost[free] * point[free]).sum()
                x = torch.where(free, point - (spent - budget) / (cost[free] ** 2).sum() * cost, x)
            misses = float(torch.stack([-x.min(), (x - cap).max(), ((cost * x).sum() - budget).abs()]).max())
            distance = float(((x - point) ** 2).sum())
            if misses < 1e-9 and distance < least:
                best, least = x, distance
        return best

    return each_row(solve, y).to(y.dtype)


# Exercise 1: the projection on the simplex


def simplex_cases() -> list[Case]:
    """Points inside and outside, ties, one coordinate, large numbers, batches, float32."""
    return [
        Case("four coordinates", (row(0.8, 0.5, 0.1, -0.4),)),
        Case("already on the simplex", (row(0.2, 0.3, 0.5),)),
        Case("all coordinates negative", (row(-1.0, -2.0, -3.5),)),
        Case("equal coordinates", (row(0.4, 0.4, 0.4, 0.4),)),
        Case("one coordinate", (row(7.0),)),
        Case("large numbers", (row(1e6, 1e6 - 0.5, 0.0),)),
        Case("a batch of three points", (batch(1, 3, 4),)),
        Case("a batch of batches", (batch(2, 2, 2, 5),)),
        Case("float32", (row(0.8, 0.5, 0.1, -0.4, dtype=torch.float32),)),
    ]


def is_nonnegative(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """No coordinate is negative."""
    out = answer(*case.copies())
    compare(
        exercise,
        "no coordinate is negative",
        case,
        out,
        out.clamp(min=0.0),
        atol=tolerance(case),
        hint="The constraint x >= 0 is broken. Something is subtracted after the clamp, or nothing is clamped.",
    )


def sums_to_one(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """The coordinates of each point sum to one."""
    out = answer(*case.copies())
    total = out.double().sum(-1)
    miss = (total - 1).abs().nan_to_num(nan=torch.inf)
    if float(miss.max()) > tolerance(case):
        worst = torch.unravel_index(miss.argmax(), miss.shape) if miss.dim() else ()
        near = 0 < float(miss.max()) < 1e-2
        raise Wrong(
            "the coordinates sum to 1",
            given=describe(exercise, case, tuple(int(i) for i in worst)),
            expected="sum 1",
            got=f"sum {float(total[worst]):.6g}",
            hint="The sum is nearly 1. If you bisect, halve about 60 times, from a bracket that is as wide as "
            "the input."
            if near
            else "Subtract one threshold t from every coordinate, then clamp at 0. The right t is the one for "
            "which what is left sums to 1.",
        )


def is_nearest(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """No feasible point is nearer."""
    compare(
        exercise,
        "no feasible point is nearer",
        case,
        answer(*case.copies()),
        known(exercise, case),
        atol=tolerance(case),
        hint="Your point is feasible but not the nearest. At the nearest one, all coordinates that stay positive "
        "have moved by the same amount.",
    )


def clip_and_normalise(y: Tensor) -> Tensor:
    """Mistake: scale after the clamp."""
    return y.clamp(min=0.0) / y.clamp(min=0.0).sum(-1, keepdim=True)


def shift_and_clip(y: Tensor) -> Tensor:
    """Mistake: the mean shift of all coordinates, then the clamp."""
    return (y - (y.sum(-1, keepdim=True) - 1) / y.shape[-1]).clamp(min=0.0)


def clip_only(y: Tensor) -> Tensor:
    """Mistake: no threshold at all."""
    return y.clamp(0.0, 1.0)


def threshold_of_batch(y: Tensor) -> Tensor:
    """Mistake: one threshold for the whole batch."""
    low, high = y.min() - 1, y.max()
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if (y - middle).clamp(min=0.0).sum() > 1 else (low, middle)
    return (y - high).clamp(min=0.0)


def count_from_zero(y: Tensor) -> Tensor:
    """Mistake: divide by the position counted from zero."""
    falling = y.sort(-1, descending=True).values
    place = torch.arange(1, y.shape[-1] + 1, dtype=y.dtype)
    excess = falling.cumsum(-1) - 1
    last = (falling > excess / place).sum(-1, keepdim=True) - 1
    return (y - excess.gather(-1, last) / last).clamp(min=0.0)


def use_every_coordinate(y: Tensor) -> Tensor:
    """Mistake: keep the positive inputs as the support, without asking whether they stay positive."""
    kept = y > 0
    count = kept.sum(-1, keepdim=True).clamp(min=1)
    return torch.where(kept, y - ((y * kept).sum(-1, keepdim=True) - 1) / count, 0.0)


PROJECT = Exercise(
    name="project-simplex",
    arguments=("y",),
    reference=nearest_on_simplex,
    library=lambda y: lablib.Simplex(y.shape[-1]).project(y),
    cases=simplex_cases,
    properties=(runs(lambda case: tuple(case.args[0].shape)), is_nonnegative, sums_to_one, is_nearest),
    misconceptions=(
        Misconception(
            "clip-and-normalise",
            clip_and_normalise,
            "You clamp, then divide by the sum. That is feasible, but a division moves large coordinates more than "
            "small ones. "
            "The nearest point moves all the survivors by the same amount: subtract.",
        ),
        Misconception(
            "softmax",
            lambda y: y.softmax(-1),
            "This is softmax. It is feasible, but no coordinate is ever 0 and a point of the simplex does not stay "
            "where it is. "
            "Look for a threshold to subtract.",
        ),
        Misconception(
            "shift-and-clip",
            shift_and_clip,
            "You shift all coordinates to sum 1 and clamp afterwards. The clamp adds mass again. "
            "Choose the shift so that the sum is 1 after the clamp.",
        ),
        Misconception(
            "clip-only",
            clip_only,
            "You clip each coordinate by itself. That is the projection on a box: the constraint on the sum is not "
            "used yet.",
        ),
        Misconception(
            "positive-inputs-kept",
            use_every_coordinate,
            "You keep every coordinate that comes in positive. A small positive one can fall below 0 when the "
            "threshold is "
            "subtracted: then it leaves, and the threshold changes.",
        ),
        Misconception(
            "one-threshold-for-the-batch",
            threshold_of_batch,
            "One point is right, a batch is wrong: the whole batch shares one threshold. "
            "Sort, sum and count along dim=-1, with keepdim=True, so that each point has its own.",
        ),
        Misconception(
            "count-from-zero",
            count_from_zero,
            "The index of the last survivor is one less than the number of survivors: indices begin at 0. Divide by "
            "the number.",
        ),
    ),
    hints=(
        "Let t be a number. What is the sum of (y - t).clamp(min=0) for a very small t, for a very large t? Does it "
        "fall in between?",
        "Either halve an interval that holds t about 60 times, from y.max() - 1 to y.max(); or sort: with k survivors, "
        "t = (sum of the k largest - 1) / k.",
        "With the coordinates sorted from large to small, k is the number of places where the coordinate is larger "
        "than "
        "(sum of the coordinates so far - 1) / place, places counted from 1.",
    ),
    right="It is feasible and nearest on every case, alone and in a batch.",
)

WHICH_VANISH = Prediction(
    name="which-vanish",
    read=indices,
    form="a set of indices, such as {0, 3}",
    answer=frozenset({2, 3}),
    wrong=(
        (
            frozenset({3}),
            "Only the negative one? The sum is 1 already without it, but then 0.8 + 0.5 + 0.1 is too much: what "
            "must be subtracted from "
            "each of the three, and what is left of 0.1?",
        ),
        (
            frozenset(),
            "None at all? That is how softmax behaves. A projection lands on the boundary: here two coordinates "
            "become exactly 0.",
        ),
        (
            frozenset({1, 2, 3}),
            "Is the whole unit given to the largest? The corner (1, 0, 0, 0) is further away than (0.65, 0.35, 0, "
            "0): compare the distances.",
        ),
    ),
    otherwise="Subtract the same t from all four and clamp at 0. For which t does the rest sum to 1?",
    hints=(
        "Try the threshold for the two largest coordinates first.",
        "With two survivors, t = (0.8 + 0.5 - 1) / 2 = 0.15. Which coordinates are below 0.15?",
    ),
    right="The threshold is 0.15, and 0.1 falls below it although it came in positive.",
)

# Exercise 2: the certificate


def gap_cases() -> list[Case]:
    """The projection itself, feasible points that are not it, batches, float32."""
    y = row(0.8, 0.5, 0.1, -0.4)
    many, more = batch(3, 3, 4), batch(4, 2, 2, 5)
    return [
        Case("x is the projection", (y, row(0.65, 0.35, 0.0, 0.0))),
        Case("x is the centre", (y, row(0.25, 0.25, 0.25, 0.25))),
        Case("x is a corner", (y, row(0.0, 0.0, 0.0, 1.0))),
        Case("y is feasible and x = y", (row(0.2, 0.3, 0.5), row(0.2, 0.3, 0.5))),
        Case("a batch of three points", (many, batch(5, 3, 4).softmax(-1))),
        Case("a batch of batches", (more, batch(6, 2, 2, 5).softmax(-1))),
        Case("a batch of projections", (many, nearest_on_simplex(many))),
        Case("float32", (y.float(), row(0.25, 0.25, 0.25, 0.25, dtype=torch.float32))),
    ]


def largest_over_corners(y: Tensor, x: Tensor) -> Tensor:
    """The gap by walking over the corners one by one."""
    best = torch.full(y.shape[:-1], -torch.inf, dtype=y.dtype)
    for corner in torch.eye(y.shape[-1], dtype=y.dtype):
        best = torch.maximum(best, ((y - x) * (corner - x)).sum(-1))
    return best


def zero_at_projection(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """The gap vanishes at the projection."""
    if "projection" in case.name:
        out = answer(*case.copies())
        compare(
            exercise,
            "it is 0 at the projection",
            case,
            out,
            torch.zeros_like(out),
            event=0,
            hint="At the projection, y - x makes no acute angle with any direction z - x into the set: the largest "
            "product is 0, at z = x.",
        )


def never_negative(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """The gap of a feasible point is not negative."""
    out = answer(*case.copies())
    compare(
        exercise,
        "it is never negative at a feasible x",
        case,
        out,
        out.clamp(min=0.0),
        atol=tolerance(case),
        event=0,
        hint="z = x is allowed and gives 0, so the maximum cannot be below 0. Is the product of (y - x) with x "
        "subtracted?",
    )


def equals_corner_maximum(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """The gap is the maximum over the corners."""
    compare(
        exercise,
        "it is the largest (y - x).(z - x) over z in the simplex",
        case,
        answer(*case.copies()),
        known(exercise, case),
        atol=tolerance(case),
        event=0,
        hint="A linear function is largest at a corner. Write r = y - x: the corner e_i gives r_i - r.x.",
    )


GAP = Exercise(
    name="gap",
    arguments=("y", "x"),
    reference=largest_over_corners,
    library=lambda y, x: ((y - x) * (lablib.Simplex(y.shape[-1]).lmo(x - y) - x)).sum(-1),
    cases=gap_cases,
    properties=(
        runs(lambda case: tuple(case.args[0].shape[:-1])),
        zero_at_projection,
        never_negative,
        equals_corner_maximum,
    ),
    misconceptions=(
        Misconception(
            "distance",
            lambda y, x: (y - x).norm(dim=-1),
            "This is the distance from y to x. It is not 0 at the projection, so it cannot tell the projection from "
            "any other point.",
        ),
        Misconception(
            "squared-distance",
            lambda y, x: ((y - x) ** 2).sum(-1),
            "This is the squared distance from y to x. Take the product of y - x with z - x, not with itself.",
        ),
        Misconception(
            "wrong-sign",
            lambda y, x: (x - y).amax(-1) - ((x - y) * x).sum(-1),
            "The residual points the wrong way: it is y - x, from the projection to the raw point.",
        ),
        Misconception(
            "x-not-subtracted",
            lambda y, x: (y - x).amax(-1),
            "You have the largest product with z. It must be with z - x: subtract the product of y - x with x.",
        ),
        Misconception(
            "smallest-corner",
            lambda y, x: (y - x).amin(-1) - ((y - x) * x).sum(-1),
            "This is the smallest product over the corners. The certificate asks for the worst case: the largest.",
        ),
        Misconception(
            "maximum-over-the-batch",
            lambda y, x: (y - x).max() - ((y - x) * x).sum(-1),
            "One point is right, a batch is wrong: .max() without dim looks through the whole batch. Use .amax(-1).",
        ),
    ),
    hints=(
        "Let r = y - x. You want the largest value of r.(z - x) over the simplex, and this is linear in z.",
        "A linear function on the simplex is largest at a corner e_i, where r.z = r_i. The part r.x does not depend "
        "on z.",
    ),
    right="It is 0 at the projection and positive at every other feasible point that was tried.",
)

HOW_FAR = Prediction(
    name="how-far",
    read=number,
    form="one number, such as 0.5",
    answer=0.1,
    wrong=(
        (0.01, "The gap is a product of two lengths, so it bounds a squared distance. Take the root."),
        (0.0001, "You squared it. The squared distance is at most the gap: take the root instead."),
        (0.02, "No factor 2 is needed, and a root is. Add the two inequalities in the text once more."),
        (0.005, "No factor is lost: the squared distance itself is at most the gap. Take the root of the gap."),
    ),
    otherwise="The text shows that the squared distance is at most the gap.",
    hints=("The squared distance is at most the gap.", "What is the root of 0.01?"),
    right="The distance is at most the root of the gap.",
)

# Exercise 3: the backward rule on the face


def face_cases() -> list[Case]:
    """A face, a corner, the inside, a tiny positive share, batches, float32."""
    many, more = nearest_on_simplex(batch(7, 3, 4)), nearest_on_simplex(batch(8, 2, 2, 5))
    return [
        Case("two positive shares", (row(0.65, 0.35, 0.0, 0.0), row(1.0, 0.0, 0.0, 0.0))),
        Case("a corner", (row(0.0, 1.0, 0.0), row(3.0, -1.0, 2.0))),
        Case("all shares positive", (row(0.2, 0.3, 0.5), row(1.0, 2.0, 6.0))),
        Case("a tiny positive share", (row(1e-6, 0.4, 0.6 - 1e-6, 0.0), row(2.0, -1.0, 0.5, 4.0))),
        Case("a batch of three points", (many, batch(9, 3, 4))),
        Case("a batch of batches", (more, batch(10, 2, 2, 5))),
        Case("float32", (row(0.65, 0.35, 0.0, 0.0, dtype=torch.float32), row(1.0, 0.0, 2.0, 0.0, dtype=torch.float32))),
    ]


def face_projector(x: Tensor, v: Tensor) -> Tensor:
    """The projection of v on the directions of x's face, from the matrix of the rows that hold x there."""

    def solve(both: Tensor) -> Tensor:
        point, direction = both.double().chunk(2)
        rows = torch.cat([torch.ones(1, len(point), dtype=torch.float64), torch.eye(len(point)).double()[point == 0]])
        return direction - rows.T @ torch.linalg.solve(rows @ rows.T, rows @ direction)

    return each_row(solve, torch.cat([x, v], -1)).to(v.dtype)


def stays_on_face(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """What comes back is zero off the face and sums to zero on it."""
    x, out = case.args[0], answer(*case.copies())
    compare(
        exercise,
        "it is 0 where x is 0",
        case,
        out,
        torch.where(x > 0, out, 0.0),
        atol=tolerance(case),
        hint="A coordinate that the projection holds at 0 does not move when y moves a little, so nothing flows "
        "back through it.",
    )
    total = out.double().sum(-1)
    compare(
        exercise,
        "its coordinates sum to 0",
        case,
        total,
        torch.zeros_like(total),
        atol=tolerance(case),
        event=0,
        hint="The sum of x is always 1, so a change of x sums to 0. Subtract the mean over the positive shares "
        "from those shares; in a batch each row has a mean of its own, and v[x > 0] mixes the rows.",
    )


def equals_differences(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """It agrees with finite differences of the slow projection; the Jacobian is symmetric, so they serve both ways."""
    x, v = case.args
    if x.dim() > 1 or x.dtype != torch.float64:
        return
    step = 1e-7
    y = torch.where(x > 0, x, -0.1)
    slope = (nearest_on_simplex(y + step * v) - nearest_on_simplex(y - step * v)) / (2 * step)
    compare(
        exercise,
        "it agrees with finite differences",
        case,
        answer(*case.copies()),
        slope,
        atol=1e-5,
        hint="Move y by a small multiple of v and look at how the projection moves: only the positive shares do, "
        "and their sum stays.",
    )


def equals_face_projector(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """It projects on the directions of the face."""
    compare(
        exercise,
        "it is v without its part across the face",
        case,
        answer(*case.copies()),
        known(exercise, case),
        atol=tolerance(case),
        hint="Two steps: the mean of v over the positive shares is subtracted there; elsewhere the result is 0.",
    )


def masked_mean(x: Tensor, v: Tensor) -> Tensor:
    """The mean of v over the positive shares."""
    kept = (x > 0).to(v)
    return (v * kept).sum(-1, keepdim=True) / kept.sum(-1, keepdim=True)


VJP = Exercise(
    name="simplex-vjp",
    arguments=("x", "v"),
    reference=face_projector,
    library=lambda x, v: lablib.Simplex(x.shape[-1]).face_project(x, v),
    cases=face_cases,
    properties=(
        runs(lambda case: tuple(case.args[0].shape)),
        stays_on_face,
        equals_differences,
        equals_face_projector,
    ),
    misconceptions=(
        Misconception(
            "identity",
            lambda x, v: v.clone(),
            "You hand v back as it came, as if the layer were not there. That is the gradient of the identity, "
            "not of the projection.",
        ),
        Misconception(
            "mask-only",
            lambda x, v: v * (x > 0),
            "The mask is right. The sum is forgotten: the positive shares cannot all grow, since they sum to 1. "
            "Subtract their mean of v.",
        ),
        Misconception(
            "mean-of-all",
            lambda x, v: v - v.mean(-1, keepdim=True),
            "You subtract the mean over all coordinates. That is right only where all shares are positive: "
            "those held at 0 neither move nor count.",
        ),
        Misconception(
            "mean-of-all-then-mask",
            lambda x, v: (v - v.mean(-1, keepdim=True)) * (x > 0),
            "The mean runs over all coordinates. Take it over the positive shares only, then mask.",
        ),
        Misconception(
            "mean-divided-by-n",
            lambda x, v: (v - (v * (x > 0)).mean(-1, keepdim=True)) * (x > 0),
            "You sum v over the positive shares but divide by the number of all coordinates. Divide by the number "
            "of positive shares.",
        ),
        Misconception(
            "mask-forgotten-at-the-end",
            lambda x, v: v - masked_mean(x, v),
            "The mean is right, but it is subtracted everywhere. Where x is 0 the result is 0.",
        ),
        Misconception(
            "mask-by-tolerance",
            lambda x, v: torch.where(
                x > 1e-4, v - (v * (x > 1e-4)).sum(-1, keepdim=True) / (x > 1e-4).sum(-1, keepdim=True), 0.0
            ),
            "A share of one millionth is positive, and you treat it as 0. The projection makes exact zeros: ask x > "
            "0, with no tolerance.",
        ),
    ),
    hints=(
        "Make the mask x > 0. Which coordinates of x can move at all?",
        "On the mask, subtract the mean of v over the mask: (v * mask).sum(-1, keepdim=True) / mask.sum(-1, "
        "keepdim=True). Off it, 0.",
    ),
    right="It agrees with finite differences, and keeps to the face in every case.",
)

COMES_BACK = Prediction(
    name="comes-back",
    read=numbers,
    form="a row of four numbers, such as [1, 0, 0, 0]",
    answer=(0.5, -0.5, 0.0, 0.0),
    wrong=(
        (
            (1.0, 0.0, 0.0, 0.0),
            "If the first share could grow alone, the sum would no longer be 1. Which share must pay for it?",
        ),
        (
            (0.75, -0.25, -0.25, -0.25),
            "The last two shares are held at 0. A small change of y does not move them, so they cannot pay for the "
            "first.",
        ),
        (
            (1.0, -1.0, 0.0, 0.0),
            "The direction is right, the length is not: it is the part of (1, 0, 0, 0) along (1, -1, 0, 0).",
        ),
        (
            (0.0, 0.0, 0.0, 0.0),
            "Nothing comes back at a corner. Here two shares are positive, and they can trade with each other.",
        ),
    ),
    otherwise="Only the first two shares can move, and their sum cannot change.",
    hints=("Which shares can move?", "The result sums to 0 over the first two, and is the nearest such vector to v."),
    right="The first two shares can only trade with each other.",
)

# Exercise 4: a box with a budget


def budget_cases() -> list[Case]:
    """Money short, money left, nothing to spend, everything bought, batches, float32."""
    caps, prices = row(0.6, 0.6, 0.6, 0.6), row(1.0, 2.0, 3.0, 1.0)
    return [
        Case("y asks for too much", (row(0.9, 0.7, 0.2, 0.4), caps, prices, 1.5)),
        Case("y asks for too little", (row(0.1, 0.1, 0.2), row(1.0, 1.0, 1.0), row(1.0, 1.0, 2.0), 2.0)),
        Case("equal prices", (row(0.9, 0.3, -0.1), row(0.5, 0.5, 0.5), row(1.0, 1.0, 1.0), 1.0)),
        Case("nothing to spend", (row(0.9, 0.3, -0.1), row(0.5, 0.5, 0.5), row(1.0, 1.0, 2.0), 0.0)),
        Case("everything can be bought", (row(0.9, 0.3, -0.1), row(0.5, 0.5, 0.5), row(1.0, 1.0, 2.0), 2.0)),
        Case("y is far away", (row(50.0, -30.0, 20.0), row(0.5, 0.5, 0.5), row(1.0, 1.0, 2.0), 1.2)),
        Case("a batch of three points", (batch(11, 3, 4), caps, prices, 1.5)),
        Case("a batch of batches", (batch(12, 2, 2, 4), caps, prices, 2.5)),
        Case("float32", (row(0.9, 0.7, 0.2, 0.4).float(), caps.float(), prices.float(), 1.5)),
    ]


def keeps_bounds(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """Every coordinate lies between 0 and its cap."""
    out = answer(*case.copies())
    compare(
        exercise,
        "every coordinate lies between 0 and its cap",
        case,
        out,
        torch.minimum(out.clamp(min=0.0), case.args[1]),
        atol=tolerance(case),
        hint="Clip last: x = clip(y - mu * price, 0, upper) obeys the bounds for every mu, so that only the "
        "budget is left to meet.",
    )


def spends_budget(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """The budget is spent exactly."""
    price, budget = case.args[2], case.args[3]
    spent = (answer(*case.copies()).double() * price.double()).sum(-1)
    near = float((spent - budget).abs().max()) < 1e-2
    compare(
        exercise,
        "price . x is the budget",
        case,
        spent,
        torch.full_like(spent, budget),
        atol=tolerance(case),
        event=0,
        hint="The budget is nearly met: halve the bracket about 60 times."
        if near
        else "What is spent falls as mu grows. The bracket must hold the root: at its left end everything is at "
        "the cap, "
        "at its right end everything is 0. If too much is spent, mu is too small.",
    )


def is_nearest_in_budget(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """No point within the bounds and the budget is nearer."""
    compare(
        exercise,
        "no point within bounds and budget is nearer",
        case,
        answer(*case.copies()),
        known(exercise, case),
        atol=tolerance(case),
        hint="Your point is feasible but not the nearest. The nearest one is clip(y - mu * price, 0, upper) for "
        "a single number mu.",
    )


def halve(spent: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, budget: float, steps: int = 80) -> Tensor:
    """Bisection for the mu at which the budget is met, where ``spent`` falls as mu grows."""
    for _ in range(steps):
        middle = (low + high) / 2
        much = spent(middle).sum(-1, keepdim=True) > budget
        low, high = torch.where(much, middle, low), torch.where(much, high, middle)
    return (low + high) / 2


def shift_without_price(y: Tensor, upper: Tensor, price: Tensor, budget: float) -> Tensor:
    """Mistake: the same shift for every coordinate, whatever its price."""
    edge = torch.full_like(y[..., :1], 100.0)
    mu = halve(lambda m: price * torch.minimum((y - m).clamp(min=0.0), upper), -edge, edge, budget)
    return torch.minimum((y - mu).clamp(min=0.0), upper)


def clip_and_rescale(y: Tensor, upper: Tensor, price: Tensor, budget: float) -> Tensor:
    """Mistake: clip, then scale until the budget is met."""
    x = torch.minimum(y.clamp(min=0.0), upper)
    return x * budget / (price * x).sum(-1, keepdim=True)


def plane_and_clip(y: Tensor, upper: Tensor, price: Tensor, budget: float) -> Tensor:
    """Mistake: project on the plane of the budget, then clip."""
    x = y - price * ((price * y).sum(-1, keepdim=True) - budget) / (price * price).sum()
    return torch.minimum(x.clamp(min=0.0), upper)


def clip_and_plane(y: Tensor, upper: Tensor, price: Tensor, budget: float) -> Tensor:
    """Mistake: clip, then project on the plane of the budget."""
    x = torch.minimum(y.clamp(min=0.0), upper)
    return x - price * ((price * x).sum(-1, keepdim=True) - budget) / (price * price).sum()


def positive_mu_only(y: Tensor, upper: Tensor, price: Tensor, budget: float) -> Tensor:
    """Mistake: a bracket that begins at 0."""
    edge = torch.full_like(y[..., :1], 100.0)
    mu = halve(
        lambda m: price * torch.minimum((y - m * price).clamp(min=0.0), upper), torch.zeros_like(edge), edge, budget
    )
    return torch.minimum((y - mu * price).clamp(min=0.0), upper)


def no_caps(y: Tensor, upper: Tensor, price: Tensor, budget: float) -> Tensor:
    """Mistake: the caps are forgotten."""
    edge = torch.full_like(y[..., :1], 100.0)
    mu = halve(lambda m: price * (y - m * price).clamp(min=0.0), -edge, edge, budget)
    return (y - mu * price).clamp(min=0.0)


BUDGET = Exercise(
    name="budget-root",
    arguments=("y", "upper", "price", "budget"),
    reference=nearest_on_budget,
    library=lambda y, upper, price, budget: lablib.BoxBudget(torch.zeros_like(upper), upper, price, budget).project(y),
    cases=budget_cases,
    properties=(runs(lambda case: tuple(case.args[0].shape)), keeps_bounds, spends_budget, is_nearest_in_budget),
    misconceptions=(
        Misconception(
            "shift-without-price",
            shift_without_price,
            "You subtract the same mu from every coordinate. The nearest point takes more from what costs more: "
            "subtract mu * price.",
        ),
        Misconception(
            "clip-and-rescale",
            clip_and_rescale,
            "You clip, then scale until the budget is met. Scaling can lift a coordinate over its cap, and it is "
            "not the nearest point.",
        ),
        Misconception(
            "plane-and-clip",
            plane_and_clip,
            "You meet the budget first and clip afterwards. The clip changes what is spent. Find the mu that meets "
            "the budget after the clip.",
        ),
        Misconception(
            "clip-and-plane",
            clip_and_plane,
            "You clip first and meet the budget afterwards. The second step leaves the box again. Both must hold at "
            "once: one mu inside the clip.",
        ),
        Misconception(
            "positive-mu-only",
            positive_mu_only,
            "It works where y asks for too much, not where it asks for too little: there mu is negative. Let the "
            "bracket begin below 0.",
        ),
        Misconception(
            "no-caps",
            no_caps,
            "The upper bounds are not used. Clip at upper as well as at 0, inside the search for mu.",
        ),
    ),
    hints=(
        "Write x(mu) = clip(y - mu * price, 0, upper). How does price . x(mu) change when mu grows?",
        "A bracket that always holds the root: mu = ((y - upper) / price).min() puts all at the cap, mu = (y / "
        "price).max() puts all at 0; "
        "both along dim=-1.",
        "Halve 60 times: with mu in the middle, where more than the budget is spent the left end moves to mu, "
        "elsewhere the right end does.",
    ),
    right="It obeys the caps, spends the budget exactly and is the nearest such point.",
)

WHO_MOVES = Prediction(
    name="who-moves",
    read=indices,
    form="a set of indices, such as {0, 3}",
    answer=frozenset({2, 3}),
    wrong=(
        (
            frozenset({0, 1, 2, 3}),
            "All of them? The first is held at 0 and the second at its cap: a tiny change does not free them.",
        ),
        (
            frozenset({3}),
            "The cheapest alone? That would be so for the best buy. The nearest point spreads the change over all "
            "that are free.",
        ),
        (frozenset({1, 2, 3}), "The second is at its cap of 0.6, so it cannot take more."),
        (
            frozenset({0, 2, 3}),
            "The first is held at 0: the raw point would like it lower still, so a tiny sum does not lift it.",
        ),
    ),
    otherwise="Those strictly between 0 and their cap are free to move.",
    hints=(
        "A coordinate at a bound stays there under a tiny change.",
        "Which of the four lie strictly between 0 and 0.6?",
    ),
    right="Only those strictly between their bounds move, each in proportion to its price.",
)

# Exercise 5: a penalty


def penalty_cases() -> list[Case]:
    """Feasible points, a wrong sum, a negative share, both, batches, float32."""
    return [
        Case("sum too large", (row(0.8, 0.5, 0.1),)),
        Case("feasible", (row(0.2, 0.3, 0.5),)),
        Case("a negative share, sum 1", (row(1.2, -0.3, 0.1),)),
        Case("sum too small", (row(0.1, 0.2, 0.0),)),
        Case("both broken", (row(0.8, 0.5, 0.1, -0.4),)),
        Case("a batch of three points", (batch(13, 3, 4),)),
        Case("a batch of batches", (batch(14, 2, 2, 5),)),
        Case("float32", (row(0.8, 0.5, 0.1, -0.4).float(),)),
    ]


def penalty(y: Tensor) -> Tensor:
    """The squared violation of the sum plus those of the signs."""
    return (y.sum(-1) - 1) ** 2 + (y.clamp(max=0.0) ** 2).sum(-1)


def equals_penalty(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """It is the sum of the squared violations."""
    compare(
        exercise,
        "it is the sum of the squared violations",
        case,
        answer(*case.copies()),
        known(exercise, case),
        atol=tolerance(case),
        event=0,
        hint="Add two parts for each point: the square of (sum - 1), and the squares of the coordinates below 0.",
    )


def penalty_has_gradient(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """Its gradient reaches the raw prediction."""
    y = case.args[0].clone().requires_grad_()
    out = answer(y)
    if not out.requires_grad:
        raise Wrong(
            "a gradient reaches y",
            given=describe(exercise, case),
            expected="a result that depends on y for autograd",
            got="a constant",
            hint="Something cuts the graph: .detach(), .item(), torch.tensor(...) or torch.no_grad().",
        )
    (got,) = torch.autograd.grad(out.sum(), y)
    expected = 2 * (case.args[0].sum(-1, keepdim=True) - 1) + 2 * case.args[0].clamp(max=0.0)
    compare(
        exercise,
        "its gradient is that of the squared violations",
        case,
        got,
        expected,
        atol=tolerance(case),
        hint="The value is right and its slope is not: a part of the sum is cut off from y.",
    )


PENALTY = Exercise(
    name="penalty",
    arguments=("y",),
    reference=penalty,
    library=penalty,
    cases=penalty_cases,
    properties=(runs(lambda case: tuple(case.args[0].shape[:-1])), equals_penalty, penalty_has_gradient),
    misconceptions=(
        Misconception(
            "sum-only",
            lambda y: (y.sum(-1) - 1) ** 2,
            "The sum is there, the signs are not: (1.2, -0.3, 0.1) sums to 1 and should still cost something.",
        ),
        Misconception(
            "signs-only",
            lambda y: (y.clamp(max=0.0) ** 2).sum(-1),
            "The negative shares cost, a wrong sum does not: add (sum - 1) ** 2.",
        ),
        Misconception(
            "wrong-side",
            lambda y: (y.sum(-1) - 1) ** 2 + (y.clamp(min=0.0) ** 2).sum(-1),
            "You punish the positive shares. A violation of y >= 0 is the part below 0: clamp(max=0).",
        ),
        Misconception(
            "not-squared",
            lambda y: (y.sum(-1) - 1).abs() + (-y).clamp(min=0.0).sum(-1),
            "You add the violations themselves. This exercise asks for their squares, whose slope is 0 at the set.",
        ),
        Misconception(
            "squared-after-adding",
            lambda y: (y.sum(-1) - 1) ** 2 + y.clamp(max=0.0).sum(-1) ** 2,
            "Square each negative share first, then add them up.",
        ),
    ),
    hints=(
        "A point can break two kinds of constraint. Measure each one by itself, square, then add.",
        "The part of y below 0 is y.clamp(max=0); the violation of the sum is y.sum(-1) - 1.",
    ),
    right="It is 0 on the simplex, positive off it, and smooth.",
)

HOW_MANY_BREAK = Prediction(
    name="how-many-break",
    read=one_of("none", "some", "most"),
    form='one of "none", "some", "most"',
    answer="most",
    wrong=(
        (
            "none",
            "A penalty is paid in the same coin as the error: where a small violation buys a smaller error, the "
            "network takes it.",
        ),
        (
            "some",
            "Meeting an equation to three digits by luck is rare. A finite weight makes violations small, not zero.",
        ),
    ),
    otherwise="Look at the table.",
    hints=("How likely is a sum of exactly 1 if nothing forces it?", "A finite price is paid whenever it is worth it."),
    right="A finite weight makes violations small, and almost never zero.",
)

# Exercise 6: starvation and its mend


def rescue_cases() -> list[Case]:
    """Raw points and their projections, one at rest, batches, float32."""
    points = [
        ("held at a corner", row(11.0, 0.2, -0.3)),
        ("on an edge", row(0.8, 0.5, 0.1, -0.4)),
        ("already feasible", row(0.2, 0.3, 0.5)),
        ("a batch of three points", batch(15, 3, 4, scale=2.0)),
        ("a batch of batches", batch(16, 2, 2, 5)),
        ("float32", row(11.0, 0.2, -0.3).float()),
    ]
    return [Case(name, (y, nearest_on_simplex(y))) for name, y in points]


def squared_distance(y: Tensor, x: Tensor) -> Tensor:
    """The squared distance from raw to projected."""
    return ((y - x) ** 2).sum(-1)


def equals_squared_distance(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """It is the squared distance from raw to projected."""
    compare(
        exercise,
        "it is the squared distance between y and x",
        case,
        answer(*case.copies()),
        known(exercise, case),
        atol=tolerance(case),
        event=0,
        hint="For each point: subtract, square, sum over the last dimension.",
    )


def pulls_raw_point(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """Its gradient reaches the raw prediction and points back to the set."""
    y = case.args[0].clone().requires_grad_()
    x = lablib.Simplex(y.shape[-1]).project(y)
    out = answer(y, x)
    expected = 2 * (case.args[0] - case.args[1])
    if not out.requires_grad:
        raise Wrong(
            "a gradient reaches y",
            given=describe(exercise, case),
            expected=f"gradient {show(expected)}",
            got="no gradient at all",
            hint="The graph is cut: no .detach() on y, no .item(), no torch.no_grad().",
        )
    (got,) = torch.autograd.grad(out.sum(), y, allow_unused=True)
    got = torch.zeros_like(expected) if got is None else got
    cut = float(got.abs().max()) <= tolerance(case) < float(expected.abs().max())
    compare(
        exercise,
        "its gradient in y is 2 (y - x)",
        case,
        got,
        expected,
        atol=tolerance(case),
        hint="y is detached, so the pull can only go through x. There it is lost: y - x stands across the face "
        "and the layer "
        "stops exactly that part."
        if cut
        else "The pull must go from y straight to x. Let y keep its gradient; x may be detached or not.",
    )


RESCUE = Exercise(
    name="rescue",
    arguments=("y", "x"),
    reference=squared_distance,
    library=squared_distance,
    cases=rescue_cases,
    properties=(runs(lambda case: tuple(case.args[0].shape[:-1])), equals_squared_distance, pulls_raw_point),
    misconceptions=(
        Misconception(
            "root-taken",
            lambda y, x: (y - x).norm(dim=-1),
            "You take the root. The root has no slope at 0, so a point that is already feasible can turn the "
            "gradient into nan. "
            "Leave the distance squared.",
        ),
        Misconception(
            "mean-taken",
            lambda y, x: ((y - x) ** 2).mean(-1),
            "You average over the coordinates. Sum them, so that the strength does not depend on how many casks "
            "there are.",
        ),
        Misconception(
            "absolute-values",
            lambda y, x: (y - x).abs().sum(-1),
            "You add absolute values. Their slope has the same size however far away the point is; the square pulls "
            "harder from afar.",
        ),
        Misconception(
            "raw-size",
            lambda y, x: (y**2).sum(-1),
            "You pull y to 0. The pull should stop as soon as y is feasible: measure from x.",
        ),
    ),
    hints=(
        "What is the distance between what the network said and what the layer made of it?",
        "((y - x) ** 2).sum(-1), with y attached to the graph.",
    ),
    right="It is 0 at feasible points, and its gradient is 2 (y - x), the part that the layer stops.",
)

STUCK = Prediction(
    name="stuck",
    read=one_of("not at all", "a little", "as usual"),
    form='one of "not at all", "a little", "as usual"',
    answer="not at all",
    wrong=(
        (
            "a little",
            "At a corner the face is a single point. What does mask and mean make of v with one positive share?",
        ),
        ("as usual", "The optimiser only sees what the layer lets through. How much is that at a corner?"),
    ),
    otherwise="Work out mask and mean with one positive share.",
    hints=(
        "With one positive share, what is v minus its mean over that share?",
        "It is 0, for each blend and in each step.",
    ),
    right="At a corner mask and mean leave 0 of every gradient, so the weights never change.",
)

EXERCISES = (
    WHICH_VANISH,
    PROJECT,
    HOW_FAR,
    GAP,
    COMES_BACK,
    VJP,
    WHO_MOVES,
    BUDGET,
    HOW_MANY_BREAK,
    PENALTY,
    STUCK,
    RESCUE,
)
