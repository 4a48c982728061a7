"""The exercises of the lab on Frank-Wolfe rollouts: cases, properties, typical mistakes and hints.

The set is the weighted l1 ball ``{x : sum_i w_i |x_i| <= t}``, with weights and a limit for each point of a batch. The
references walk over vertices, supports and step lengths one by one, and share no idea with a good answer.
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
from lablib.teaching.exercises.projection_layers import batch, row, tolerance


def rows(function: Callable[..., Tensor], *args: Tensor) -> Tensor:
    """A function of single points, applied to every row of a batch by a plain loop, in float64."""
    shape = torch.broadcast_shapes(*(a.shape for a in args))
    flat = [a.double().expand(shape).reshape(-1, shape[-1]) for a in args]
    out = torch.stack([function(*points) for points in zip(*flat, strict=True)])
    return out.reshape((*shape[:-1], *out.shape[1:])).to(args[0].dtype)


def weights_like(seed: int, *shape: int) -> Tensor:
    """Positive weights, the same on every machine."""
    return 0.5 + batch(seed, *shape).abs()


def norm(x: Tensor, w: Tensor) -> Tensor:
    """The weighted l1 norm."""
    return (w * x.abs()).sum(-1, keepdim=True)


# Exercise 1: the oracle


def vertices(w: Tensor, t: float) -> Tensor:
    """The 2n vertices of the ball, as rows."""
    corners = torch.diag(t / w)
    return torch.cat([corners, -corners])


def lowest_vertex(g: Tensor, w: Tensor, t: float) -> Tensor:
    """The vertex with the smallest product, by walking over all of them."""

    def walk(g, w):
        return min(vertices(w, t), key=lambda v: float(g @ v))

    return rows(walk, g, w)


def oracle_cases() -> list[Case]:
    """Equal and unequal weights, one coordinate, batches with weights of their own, float32."""
    return [
        Case("equal weights", (row(3.0, -4.0), row(1.0, 1.0), 1.0)),
        Case("a heavy joint", (row(3.0, -4.0), row(1.0, 2.0), 1.0)),
        Case("another limit", (row(-1.0, 0.5, 0.2), row(1.0, 0.4, 2.0), 3.0)),
        Case("one coordinate", (row(-2.0), row(0.5), 1.0)),
        Case("a limit of 0", (row(-2.0, 1.0), row(0.5, 1.0), 0.0)),
        Case("a batch of three points", (batch(1, 3, 4), weights_like(2, 3, 4), 0.7)),
        Case("a batch of batches", (batch(3, 2, 2, 5), weights_like(4, 2, 2, 5), 2.0)),
        Case("float32", (row(3.0, -4.0, dtype=torch.float32), row(1.0, 2.0, dtype=torch.float32), 1.0)),
    ]


def is_inside(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """The point obeys the limit."""
    *_, w, t = case.args
    size = norm(answer(*case.copies()).double(), w.double())
    compare(
        exercise,
        "w_1 |v_1| + ... + w_n |v_n| is at most t",
        case,
        size,
        size.clamp(max=t),
        atol=tolerance(case),
        hint="The point breaks the limit. A vertex uses the whole limit on one coordinate: w_i |v_i| = t there.",
    )


def is_lowest(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """No vertex is lower."""
    g = case.args[0].double()
    least = (g * known(exercise, case).double()).sum(-1)
    compare(
        exercise,
        "no point of the ball has a smaller g.v",
        case,
        (g * answer(*case.copies()).double()).sum(-1),
        least,
        atol=tolerance(case),
        event=0,
        hint="There is a lower vertex. The vertex on coordinate i, with the right sign, has g.v = -t |g_i| / w_i.",
    )


def is_the_vertex(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """It is the vertex itself."""
    compare(
        exercise,
        "it is the vertex",
        case,
        answer(*case.copies()),
        known(exercise, case),
        atol=tolerance(case),
        hint="All coordinates but one are 0.",
    )


def at(index: Tensor, value: Tensor, like: Tensor) -> Tensor:
    """Zeros with one value per row, at ``index``."""
    return torch.zeros_like(like).scatter(-1, index, value)


def vertex_by(key: Callable[..., Tensor], sign: float = -1.0, shrink: bool = True) -> Callable[..., Tensor]:
    """An oracle that picks the largest key: mistakes are made of it."""

    def oracle(g, w, t):
        index = key(g, w).argmax(-1, keepdim=True)
        size = t / w.gather(-1, index) if shrink else torch.full_like(index, 1, dtype=g.dtype) * t
        return at(index, sign * g.gather(-1, index).sign() * size, g)

    return oracle


def one_vertex_for_all(g: Tensor, w: Tensor, t: float) -> Tensor:
    """Mistake: one index for the whole batch."""
    index = ((g.abs() / w).reshape(-1, g.shape[-1]).amax(0).argmax()).expand(*g.shape[:-1], 1)
    return at(index, -g.gather(-1, index).sign() * t / w.gather(-1, index), g)


ORACLE = Exercise(
    name="l1-oracle",
    arguments=("g", "w", "t"),
    reference=lowest_vertex,
    library=lambda g, w, t: lablib.L1Ball(g.shape[-1], t, w).lmo(g),
    cases=oracle_cases,
    properties=(runs(lambda case: tuple(case.args[0].shape)), is_inside, is_lowest, is_the_vertex),
    misconceptions=(
        Misconception(
            "largest-g",
            vertex_by(lambda g, w: g.abs()),
            "You pick the largest |g_i|. A heavy coordinate can move less: compare |g_i| / w_i.",
        ),
        Misconception(
            "weight-multiplied",
            vertex_by(lambda g, w: g.abs() * w),
            "You compare |g_i| times w_i. A large weight shortens the step along its coordinate: divide by it.",
        ),
        Misconception(
            "uphill",
            vertex_by(lambda g, w: g.abs() / w, sign=1.0),
            "This is the highest vertex, not the lowest: against the sign of g_i the product falls.",
        ),
        Misconception(
            "smallest-entry",
            vertex_by(lambda g, w: -g / w, sign=-1.0),
            "You look for the smallest g_i / w_i and miss the large positive ones: with the other sign they serve as "
            "well. Compare absolute values.",
        ),
        Misconception(
            "length-t",
            vertex_by(lambda g, w: g.abs() / w, shrink=False),
            "The coordinate is right, the length is t. Its weight counts: w_i |v_i| = t, so |v_i| = t / w_i.",
        ),
        Misconception(
            "all-coordinates",
            lambda g, w, t: -g.sign() * t / w / g.shape[-1],
            "You move every coordinate a little. That is a point of the ball, but no vertex: a linear function is "
            "lowest where the whole limit goes to the best coordinate.",
        ),
        Misconception(
            "one-vertex-for-the-batch",
            one_vertex_for_all,
            "One point is right, a batch is wrong: every row gets the same coordinate. Use argmax(-1, keepdim=True).",
        ),
    ),
    hints=(
        "If the whole limit goes to coordinate i, how long is the vertex, and what is g.v?",
        "The best g.v on coordinate i is -t |g_i| / w_i. Take the i with the largest |g_i| / w_i; scatter the value "
        "-sign(g_i) t / w_i into zeros.",
    ),
    right="It is the lowest vertex in every case, with each row's own weights.",
)

WHICH_VERTEX = Prediction(
    name="which-vertex",
    read=numbers,
    form="a row of two numbers, such as [0, 1]",
    answer=(-1.0, 0.0),
    wrong=(
        ((0.0, 0.5), "|g_2| = 4 is larger, but joint 2 is twice as heavy. Compare |g_i| / w_i: 3 and 2."),
        ((0.0, 1.0), "That point breaks the limit: 2 times 1 is more than 1. And compare |g_i| / w_i: 3 and 2."),
        ((1.0, 0.0), "The coordinate is right. With this sign g.v = 3; with the other it is -3."),
        ((0.0, -0.5), "Along joint 2 the product falls for a positive v_2. And joint 1 gives more: 3 against 2."),
    ),
    otherwise="There are four vertices: (1, 0), (-1, 0), (0, 1/2), (0, -1/2). Which has the smallest 3 v_1 - 4 v_2?",
    hints=("List the four vertices of the ball.", "Compute 3 v_1 - 4 v_2 at (1, 0), (-1, 0), (0, 1/2), (0, -1/2)."),
    right="Joint 2 has the larger slope, but it is twice as heavy.",
)

# Exercise 2: the gap


def gap_cases() -> list[Case]:
    """The origin, a vertex, the solution, batches, float32."""
    w = row(1.0, 2.0)
    many, ws = batch(5, 3, 4), weights_like(6, 3, 4)
    return [
        Case("x is the origin", (row(3.0, -4.0), row(0.0, 0.0), w, 1.0)),
        Case("x is a vertex", (row(3.0, -4.0), row(0.0, -0.5), w, 1.0)),
        Case("x is the best vertex", (row(3.0, -4.0), row(-1.0, 0.0), w, 1.0)),
        Case("the gradient is 0", (row(0.0, 0.0), row(0.1, 0.2), w, 1.0)),
        Case("a batch of three points", (many, batch(7, 3, 4) / 10, ws, 3.0)),
        Case("a batch of batches", (batch(8, 2, 2, 5), batch(9, 2, 2, 5) / 20, weights_like(10, 2, 2, 5), 2.0)),
        Case("float32", (row(3.0, -4.0).float(), row(0.2, 0.1).float(), w.float(), 1.0)),
    ]


def gap_over_vertices(g: Tensor, x: Tensor, w: Tensor, t: float) -> Tensor:
    """The largest g.(x - v) over the vertices, one by one."""
    return rows(lambda g, x, w: max((g * (x - v)).sum() for v in vertices(w, t)), g, x, w)


def gap_is_not_negative(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """At a point of the set the gap is not negative."""
    out = answer(*case.copies())
    compare(
        exercise,
        "it is never negative at a point of the ball",
        case,
        out,
        out.clamp(min=0.0),
        atol=tolerance(case),
        event=0,
        hint="v = x is allowed and gives 0, so the largest product cannot be below 0.",
    )


def gap_is_largest(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """It is the largest product over the vertices."""
    compare(
        exercise,
        "it is the largest g.(x - v) over v in the ball",
        case,
        answer(*case.copies()),
        known(exercise, case),
        atol=tolerance(case),
        event=0,
        hint="The best v is what the oracle returns. Then the gap is the sum of g * (x - v) along the last dimension.",
    )


def dual(g: Tensor, w: Tensor) -> Tensor:
    """The largest |g_i| / w_i."""
    return (g.abs() / w).amax(-1)


GAP = Exercise(
    name="fw-gap",
    arguments=("g", "x", "w", "t"),
    reference=gap_over_vertices,
    library=lambda g, x, w, t: (g * (x - lablib.L1Ball(g.shape[-1], t, w).lmo(g))).sum(-1),
    cases=gap_cases,
    properties=(runs(lambda case: tuple(case.args[0].shape[:-1])), gap_is_not_negative, gap_is_largest),
    misconceptions=(
        Misconception(
            "vertex-alone",
            lambda g, x, w, t: t * dual(g, w),
            "This is -g.v at the best vertex. The gap compares the vertex with where you are: add g.x.",
        ),
        Misconception(
            "other-sign",
            lambda g, x, w, t: -(g * x).sum(-1) - t * dual(g, w),
            "This is g.(v - x). The gap is the other way round, and then it is not negative.",
        ),
        Misconception(
            "x-subtracted",
            lambda g, x, w, t: t * dual(g, w) - (g * x).sum(-1),
            "g.x comes with the wrong sign: g.(x - v) = g.x - g.v, and -g.v = t max |g_i| / w_i.",
        ),
        Misconception(
            "gradient-size",
            lambda g, x, w, t: g.norm(dim=-1),
            "This is the length of the gradient. At a solution on the boundary the gradient is not 0; the gap is.",
        ),
        Misconception(
            "weights-forgotten",
            lambda g, x, w, t: (g * x).sum(-1) + t * g.abs().amax(-1),
            "The weights are missing: the best vertex has -g.v = t max |g_i| / w_i.",
        ),
        Misconception(
            "maximum-over-the-batch",
            lambda g, x, w, t: (g * x).sum(-1) + t * (g.abs() / w).max(),
            "One point is right, a batch is wrong: .max() without dim looks through the whole batch. Use .amax(-1).",
        ),
    ),
    hints=(
        "Ask the oracle for v, then take the product of g with x - v.",
        "g.(x - v) = g.x + t max_i |g_i| / w_i.",
    ),
    right="It is the largest product, 0 where nothing is to be gained.",
)

HOW_LOW = Prediction(
    name="how-low",
    read=number,
    form="one number, such as 0.5",
    answer=0.02,
    wrong=(
        (0.14, "No root here: the gap is compared with values of f, not with a distance."),
        (0.01, "No factor is lost: f(x) - f(best) is at most the gap itself."),
        (0.04, "No factor 2 is needed: f lies above its tangent at x, and the gap is how far the tangent falls."),
        (0.0004, "Nothing is squared: the tangent falls by at most the gap."),
    ),
    otherwise="f lies above its tangent at x. How far can the tangent fall inside the set?",
    hints=("f(best) >= f(x) + g.(best - x).", "g.(x - best) is at most the gap."),
    right="The gap is a certificate in units of f.",
)

# Exercise 3: one step


def step_cases() -> list[Case]:
    """A first step, a step cut off at the vertex, no step at the solution, batches, float32."""
    w = row(1.0, 2.0)
    xs = batch(11, 3, 4) / 20
    return [
        Case("from the origin", (row(0.0, 0.0), row(0.6, 0.4), w, 1.0)),
        Case("the vertex is the end", (row(0.0, 0.0), row(5.0, 0.0), w, 1.0)),
        Case("x is the answer already", (row(0.1, 0.2), row(0.1, 0.2), w, 1.0)),
        Case("x is the best vertex", (row(1.0, 0.0), row(5.0, 0.0), w, 1.0)),
        Case("a batch of three points", (xs, batch(12, 3, 4), weights_like(13, 3, 4), 0.8)),
        Case("a batch of batches", (batch(14, 2, 2, 5) / 40, batch(15, 2, 2, 5), weights_like(16, 2, 2, 5), 2.0)),
        Case("float32", (row(0.1, 0.1).float(), row(0.6, 0.4).float(), w.float(), 1.0)),
    ]


def step_by_search(x: Tensor, y: Tensor, w: Tensor, t: float) -> Tensor:
    """The lowest point between x and the best vertex, by golden section: no derivative is used."""

    def search(x, y, w):
        v = lowest_vertex(x - y, w, t)

        def value(share):
            return float(((x + share * (v - x) - y) ** 2).sum())

        low, high, ratio = 0.0, 1.0, (5**0.5 - 1) / 2
        for _ in range(60):
            a, b = high - ratio * (high - low), low + ratio * (high - low)
            low, high = (low, b) if value(a) <= value(b) else (a, high)
        share = min((0.0, 1.0, (low + high) / 2), key=value)
        return x + share * (v - x)

    return rows(search, x, y, w)


def step_is_lowest(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """It is the lowest point of the segment."""
    compare(
        exercise,
        "it is the lowest point between x and the vertex",
        case,
        answer(*case.copies()),
        known(exercise, case),
        atol=1e-5,
        hint="Go from x towards the oracle's vertex v for g = x - y. The best share is "
        "g.(x - v) / |x - v|^2, between 0 and 1; where x = v it is 0.",
    )


def step_with(share: Callable[[Tensor, Tensor], Tensor], *, clip: bool = True, guard: bool = True, sign: float = 1.0):
    """A step whose share of the way is given: mistakes are made of it."""

    def step(x, y, w, t):
        g = sign * (x - y)
        d = lablib.L1Ball(x.shape[-1], t, w).lmo(g) - x
        gamma = share(g, d)
        gamma = gamma.clamp(0, 1) if clip else gamma
        return x + (torch.nan_to_num(gamma, nan=0.0) if guard else gamma) * d

    return step


def best_share(g: Tensor, d: Tensor) -> Tensor:
    """The share of the way that is best for |x - y|^2 / 2."""
    return -(g * d).sum(-1, keepdim=True) / (d * d).sum(-1, keepdim=True)


def share_of_batch(g: Tensor, d: Tensor) -> Tensor:
    """Mistake: one share for the whole batch."""
    return -(g * d).sum() / (d * d).sum()


STEP = Exercise(
    name="fw-step",
    arguments=("x", "y", "w", "t"),
    reference=step_by_search,
    library=step_with(best_share),
    cases=step_cases,
    properties=(runs(lambda case: tuple(case.args[0].shape)), is_inside, step_is_lowest),
    misconceptions=(
        Misconception(
            "all-the-way",
            step_with(lambda g, d: torch.ones_like(g[..., :1])),
            "You go all the way to the vertex. Stop where f is lowest on the way.",
        ),
        Misconception(
            "half-the-way",
            step_with(lambda g, d: torch.full_like(g[..., :1], 0.5)),
            "You always go half the way. The best share depends on g and on how far the vertex is.",
        ),
        Misconception(
            "not-clipped",
            step_with(best_share, clip=False),
            "Beyond the vertex you leave the ball: clamp the share to at most 1.",
        ),
        Misconception(
            "length-not-squared",
            step_with(lambda g, d: -(g * d).sum(-1, keepdim=True) / d.norm(dim=-1, keepdim=True)),
            "You divide by the length of x - v. The slope at 0 is -g.(x - v) and the curvature |x - v|^2: divide by "
            "the square.",
        ),
        Misconception(
            "zero-by-zero",
            step_with(best_share, guard=False),
            "Where x is the vertex already you divide 0 by 0 and get NaN. Let the step be 0 there.",
        ),
        Misconception(
            "wrong-gradient",
            step_with(lambda g, d: (g * d).sum(-1, keepdim=True) / (d * d).sum(-1, keepdim=True), sign=-1.0),
            "The gradient of |x - y|^2 / 2 is x - y, not y - x: you run away from y.",
        ),
        Misconception(
            "one-share-for-the-batch",
            step_with(share_of_batch),
            "One point is right, a batch is wrong: all rows share one step. Sum along dim=-1 with keepdim=True.",
        ),
    ),
    hints=(
        "Along d = v - x the function is a parabola in the share. Where is its lowest point?",
        "share = (-(g * d).sum(-1, keepdim=True) / (d * d).sum(-1, keepdim=True)).clamp(0, 1), with a care for d = 0.",
    ),
    right="It goes to the lowest point of the segment, and stays put where there is nothing to gain.",
)

INSIDE_STAYS = Prediction(
    name="inside-stays",
    read=one_of("itself", "nearly", "far off"),
    form='one of "itself", "nearly", "far off"',
    answer="far off",
    wrong=(
        (
            "itself",
            "So an exact layer would do. But this one starts at 0, takes ten steps, and each goes towards a point "
            "where a high temperature has given every joint nearly an equal share of the limit.",
        ),
        (
            "nearly",
            "Ten steps sound like many. At this temperature each aims at nearly equal shares, t / (n w_i), so no joint "
            "comes near an action that gives it more.",
        ),
    ),
    otherwise="Look at the two numbers that were printed.",
    hints=(
        "At temperature 10 the softmax weighs all vertices nearly alike.",
        "The mean of vertices with nearly equal weights is short: t / n along each coordinate.",
    ),
    right="A layer that changes what needs no change is not a projection.",
)

COLDER = Prediction(
    name="colder",
    read=one_of("settles", "fades", "explodes"),
    form='one of "settles", "fades", "explodes"',
    answer="explodes",
    wrong=(
        (
            "settles",
            "The answers stay in the ball. Their derivatives do not settle: the softmax of a cold oracle jumps from "
            "vertex to vertex, and each step multiplies what the later ones make of it.",
        ),
        (
            "fades",
            "Between two vertices a cold softmax is flat, and there the gradient fades. But where two vertices nearly "
            "tie, its slope grows like 1 / temperature, and unrolling multiplies a hundred of them.",
        ),
    ),
    otherwise="How steep is a softmax at a tie when its temperature falls?",
    hints=(
        "The slope of a softmax at a tie is its inverse temperature.",
        "A rollout multiplies the slopes of its steps.",
    ),
    right="The answers stay in the ball while the unrolled gradient explodes.",
)

# Exercise 4: the gradient on the face


def vjp_cases() -> list[Case]:
    """A face, a vertex, the inside, a small coordinate, batches, float32."""
    w = row(1.0, 2.0, 0.5)
    ys, ws = batch(17, 3, 4), weights_like(18, 3, 4)
    more, wm = batch(19, 2, 2, 5), weights_like(20, 2, 2, 5)
    return [
        Case("two coordinates on the sphere", (row(0.6, -0.2, 0.0), row(1.0, 0.0, 3.0), w, 1.0)),
        Case("a vertex", (row(0.0, 0.5, 0.0), row(3.0, -1.0, 2.0), w, 1.0)),
        Case("inside the ball", (row(0.1, 0.1, -0.2), row(3.0, -1.0, 2.0), w, 1.0)),
        Case("inside, with a coordinate at 0", (row(0.1, 0.0, 0.0), row(3.0, -1.0, 2.0), w, 1.0)),
        Case("a small coordinate", (row(1 - 2e-6, -1e-6, 0.0), row(2.0, -1.0, 0.5), w, 1.0)),
        Case("a batch of three points", (nearest_in_ball(ys, ws, 0.9), batch(21, 3, 4), ws, 0.9)),
        Case("a batch of batches", (nearest_in_ball(more, wm, 2.0), batch(22, 2, 2, 5), wm, 2.0)),
        Case(
            "float32",
            (row(0.6, -0.2, 0.0).float(), row(1.0, 0.0, 3.0).float(), w.float(), 1.0),
        ),
    ]


def nearest_in_ball(y: Tensor, w: Tensor, t: float) -> Tensor:
    """The projection on the ball, by trying every support."""

    def solve(y, w):
        if (w * y.abs()).sum() <= t:
            return y
        best, least = y, torch.inf
        for support in itertools.product((False, True), repeat=len(y)):
            kept = torch.tensor(support)
            if not kept.any():
                continue
            level = ((w * y.abs())[kept].sum() - t) / (w[kept] ** 2).sum()
            size = torch.where(kept, y.abs() - level * w, 0.0)
            distance = float(((y.sign() * size - y) ** 2).sum())
            if bool((size >= 0).all()) and distance < least:
                best, least = y.sign() * size, distance
        return best

    return rows(solve, y, w)


def on_face(x: Tensor, v: Tensor, w: Tensor, t: float) -> Tensor:
    """The part of v along the face of x, from the matrix of the rows that hold x there."""

    def solve(x, v, w):
        if (w * x.abs()).sum() < t - 1e-9:
            return v
        held = torch.cat([(w * x.sign())[None], torch.eye(len(x), dtype=x.dtype)[x == 0]])
        return v - held.T @ torch.linalg.solve(held @ held.T, held @ v)

    if x.dtype != torch.float64:
        x = x.double() * torch.where(norm(x, w) > t - 1e-5, t / norm(x.double(), w.double()), 1.0)
    return rows(solve, x, v, w).to(v.dtype)


def vjp_agrees(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """It agrees with finite differences of the slow projection; the Jacobian is symmetric, so they serve both ways."""
    x, v, w, t = case.args
    if x.dim() > 1 or x.dtype != torch.float64:
        return
    step = 1e-7
    inside = norm(x, w) < t - 1e-9
    y = torch.where(inside, x, x + 0.3 * w * x.sign() + torch.where(x == 0, 0.1 * w, 0.0))
    if bool(inside):
        y = x
    slope = (nearest_in_ball(y + step * v, w, t) - nearest_in_ball(y - step * v, w, t)) / (2 * step)
    compare(
        exercise,
        "it agrees with finite differences",
        case,
        answer(*case.copies()),
        slope,
        atol=1e-5,
        hint="Inside the ball the layer is the identity. On the sphere the coordinates at 0 stay there, and the others "
        "move so that w_1 |x_1| + ... + w_n |x_n| stays t.",
    )


def vjp_is_the_projector(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    """It projects on the directions of the face."""
    compare(
        exercise,
        "it is v without its part across the face",
        case,
        answer(*case.copies()),
        known(exercise, case),
        atol=tolerance(case),
        hint="With s = w * x.sign(): on the coordinates that are not 0 subtract s (s.v) / (s.s); elsewhere the result "
        "is 0. Inside the ball the result is v, row by row. Is a power of t, but for rounding, taken as inside? "
        "Compare with a tolerance such as 1e-6 t: float32 is tried too.",
    )


def vjp_with(
    s: Callable[[Tensor, Tensor], Tensor],
    *,
    mask: bool = True,
    inside: str = "tell",
    zero: float = 0.0,
) -> Callable[..., Tensor]:
    """A backward rule whose parts can be left out: mistakes are made of it."""

    def rule(x, v, w, t):
        size = norm(x, w)
        sign = x.sign() * (x.abs() > zero)
        row = s(sign, w)
        u = v * sign.abs() if mask else v
        u = u - row * (row * v).sum(-1, keepdim=True) / (row * row).sum(-1, keepdim=True).clamp(min=1e-300)
        if inside == "never":
            return u
        within = size < t - 1e-5
        return torch.where(within.any() if inside == "any" else within, v, u)

    return rule


VJP = Exercise(
    name="l1-vjp",
    arguments=("x", "v", "w", "t"),
    reference=on_face,
    library=lambda x, v, w, t: lablib.L1Ball(x.shape[-1], t, w).face_project(x, v),
    cases=vjp_cases,
    properties=(runs(lambda case: tuple(case.args[0].shape)), vjp_agrees, vjp_is_the_projector),
    misconceptions=(
        Misconception(
            "identity",
            lambda x, v, w, t: v.clone(),
            "You hand v back as it came. That is right inside the ball alone; on the sphere the layer moves its input.",
        ),
        Misconception(
            "never-inside",
            vjp_with(lambda sign, w: w * sign, inside="never"),
            "On the sphere it is right. Inside the ball the layer does nothing, so the gradient comes back whole: ask "
            "whether w_1 |x_1| + ... + w_n |x_n| is less than t.",
        ),
        Misconception(
            "mask-only",
            lambda x, v, w, t: torch.where(norm(x, w) < t - 1e-5, v, v * (x != 0)),
            "The mask is right. The limit is forgotten: the coordinates that move must keep w_1 |x_1| + ... = t.",
        ),
        Misconception(
            "weights-forgotten",
            vjp_with(lambda sign, w: sign),
            "You take the part along sign(x) out. The row that ties the coordinates is w * sign(x).",
        ),
        Misconception(
            "signs-forgotten",
            vjp_with(lambda sign, w: w * sign.abs()),
            "You take the part along w out. A negative coordinate uses the limit as it falls: the row is w * sign(x).",
        ),
        Misconception(
            "mask-forgotten",
            vjp_with(lambda sign, w: w * sign, mask=False),
            "The row is right, but a coordinate that is held at 0 does not move: what comes back there is 0.",
        ),
        Misconception(
            "mask-by-tolerance",
            vjp_with(lambda sign, w: w * sign, zero=1e-4),
            "A coordinate of one millionth is not 0. The layer makes exact zeros: ask x != 0, with no tolerance.",
        ),
    ),
    hints=(
        "What holds x where it is? Coordinates at 0, and on the sphere one row with the entries w_i sign(x_i).",
        "Let s = w * x.sign(). On the sphere: u = v * (x != 0), then u - s (s.u) / (s.s). Inside: v.",
    ),
    right="It agrees with finite differences, on the sphere and inside the ball.",
)

PENALTY_BREAKS = Prediction(
    name="penalty-breaks",
    read=one_of("none", "some", "most"),
    form='one of "none", "some", "most"',
    answer="some",
    wrong=(
        (
            "none",
            "The penalty is 0 just where the limit holds, and the expert's actions lie on the limit itself: a small "
            "error outwards breaks it.",
        ),
        (
            "most",
            "More than half would be most. The tuned weight is large enough to push more than half of them inside.",
        ),
    ),
    otherwise="The expert's actions lie on the limit or inside. On which side do small errors fall?",
    hints=("Where do the expert's actions lie?", "A small error falls inside or outside."),
    right="A penalty bargains: some actions break the limit, whatever its weight.",
)

EXERCISES = (WHICH_VERTEX, ORACLE, HOW_LOW, GAP, STEP, INSIDE_STAYS, COLDER, VJP, PENALTY_BREAKS)
