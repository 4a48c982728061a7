"""The exercises of the lab on Fenchel lifting: cases, properties, typical mistakes and hints.

The references go another way than a good answer: a conjugate by search, a minimum by search, a slope by autograd.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from lablib.fenchel import fenchel_gap
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
    one_of,
    runs,
    show,
)
from lablib.teaching.exercises.projection_layers import batch, row, tolerance
from lablib.teaching.exercises.saddle_point_lagrangian import equals

# Exercise 1: the gap

VALUE = Prediction(
    name="gap-value",
    read=number,
    form="one number, such as 1.5",
    answer=4.0,
    wrong=(
        (2.0, "This is half the squared distance from v to phi(u). B is more: the product u v counts too."),
        (0.0, "Mind the sign: u v is -2, and it is subtracted."),
        (4.5, "This is half the squared distance from v to u. It would not be 0 where v = phi(u) and u is negative."),
        (6.0, "G*(2) is half of 2^2: both squares have a factor 1/2, the product has none."),
    ),
    otherwise="Put the three terms side by side: G*(2) = 2^2 / 2, G(-1) = 0, and the product of v and u.",
    hints=("G(-1) = 0, since ReLU is 0 there.", "B = 2 + 0 - (-1) (2)."),
    right="Half of it is the squared distance to phi(u); the other half is the price of a negative u.",
)


def gap_cases() -> list[Case]:
    """One pair, the curve, both signs, a v that ReLU never gives, a batch, float32."""
    v, u = batch(61, 3, 4).abs(), batch(62, 3, 4, scale=2.0)
    return [
        Case("one pair", (row(2.0), row(-1.0))),
        Case("both are positive", (row(0.5, 3.0), row(2.0, 1.0))),
        Case("on the curve", (row(0.0, 1.5, 0.0), row(-2.0, 1.5, 0.0))),
        Case("a v that ReLU never gives", (row(-0.5, 1.0), row(1.0, 1.0))),
        Case("a batch of three rows", (v, u)),
        Case("float32", (v.float(), u.float())),
    ]


def gap_by_search(v: Tensor, u: Tensor) -> Tensor:
    """The largest ``w v - G(w)`` over w, found by cutting an interval in three; plus ``G(u) - u v``."""

    def integral(w: Tensor) -> Tensor:
        return w * w.clamp(min=0) / 2  # the area of a triangle

    a, b = v.double(), u.double()
    low, high = torch.full_like(a, -99.0), torch.full_like(a, 99.0)
    for _ in range(120):
        first, second = low + (high - low) / 3, high - (high - low) / 3
        left = first * a - integral(first) >= second * a - integral(second)
        low, high = torch.where(left, low, first), torch.where(left, second, high)
    conjugate = torch.where((low < -98.9) & (a < 0), torch.inf, low * a - integral(low))
    return (conjugate + integral(b) - b * a).to(v.dtype)


def relu_gap(v: Tensor, u: Tensor) -> Tensor:
    """The gap of ReLU from its formula, finite everywhere."""
    return v**2 / 2 + u.clamp(min=0) ** 2 / 2 - u * v


def _gap_is_right(exercise: Exercise, answer, case: Case) -> None:
    got, wanted = answer(*case.copies()), known(exercise, case)
    finite = wanted.isfinite()
    if not finite.all() and bool(got[~finite].isfinite().any()):
        raise Wrong(
            "B is infinite where ReLU cannot give v",
            given=describe(exercise, case),
            expected=show(wanted),
            got=show(got),
            hint="G* is the conjugate of G, and for a negative v it is infinite: ReLU never gives that v. torch.where "
            "chooses.",
        )
    settled = torch.where(finite, got, 0.0)
    hint = "Add the three terms: G*(v) = v^2 / 2, G(u) = max(u, 0)^2 / 2, and subtract u v."
    compare(
        exercise,
        "it is G*(v) + G(u) - u v",
        case,
        settled,
        torch.where(finite, wanted, 0.0),
        atol=tolerance(case),
        event=1,
        hint=hint,
    )


def _fenced(v: Tensor, value: Tensor) -> Tensor:
    """A gap that knows where v may be."""
    return torch.where(v < 0, torch.inf, value)


GAP = Exercise(
    name="fenchel-gap",
    arguments=("v", "u"),
    reference=gap_by_search,
    library=lambda v, u: fenchel_gap(v, u, "relu"),
    cases=gap_cases,
    properties=(runs(lambda case: tuple(case.args[0].shape)), _gap_is_right),
    misconceptions=(
        Misconception(
            "squared-violation",
            lambda v, u: _fenced(v, (v - u.clamp(min=0)) ** 2 / 2),
            "This is half the squared distance from v to phi(u). It is 0 at the right place, but it is not convex in "
            "u. Build B from its three terms.",
        ),
        Misconception(
            "distance-to-u",
            lambda v, u: _fenced(v, (v - u) ** 2 / 2),
            "You take G(u) = u^2 / 2, so this is the distance to u itself. Then v = 0 and u = -2 cost something, "
            "though 0 = phi(-2). G is the integral of phi: it stays 0 for negative u.",
        ),
        Misconception(
            "plus-product",
            lambda v, u: _fenced(v, v**2 / 2 + u.clamp(min=0) ** 2 / 2 + u * v),
            "The product is subtracted: where v and u agree, B must be 0.",
        ),
        Misconception(
            "no-integral",
            lambda v, u: _fenced(v, v**2 / 2 - u * v),
            "G(u) is missing, and B comes out negative on the curve. Add max(u, 0)^2 / 2.",
        ),
        Misconception(
            "no-halves",
            lambda v, u: _fenced(v, 2 * relu_gap(v, u)),
            "This is 2 B: each square has a factor 1/2, and the product has a factor 1.",
        ),
    ),
    hints=(
        "Three terms: G*(v), G(u), and the product. Which of them knows that u is negative?",
        "G(u) = max(u, 0)^2 / 2. For v >= 0, G*(v) = v^2 / 2; for v < 0 it is infinite.",
        "torch.where(v < 0, torch.inf, ...) keeps the shape of v and u.",
    ),
    right="It is never negative, 0 on the curve, and infinite where ReLU cannot give v.",
)

# Exercise 2: a block step on hidden values

PULL = Prediction(
    name="strong-pull",
    read=one_of("r", "phi(u)", "halfway"),
    form='one of "r", "phi(u)", "halfway"',
    answer="phi(u)",
    wrong=(
        ("r", "At r the first term is 0, but the gap is not, and the gap is weighed with a huge c."),
        ("halfway", "Halfway is where both terms weigh the same. Here c grows without end."),
    ),
    otherwise="Which of the two terms does a huge c make important?",
    hints=("A huge c makes the first term negligible.", "Where is B(x, u) = 0?"),
    right="Only the gap counts then, and its one zero is phi(u): the step becomes a forward pass.",
)


def step_cases() -> list[Case]:
    """A pull up, one that ends at 0, a strong and a weak one, a batch, float32."""
    r, u = batch(63, 3, 4), batch(64, 3, 4, scale=2.0)
    return [
        Case("u pulls up", (row(1.0), row(3.0), 1.0)),
        Case("r and u disagree in sign", (row(2.0, -1.0), row(-1.0, 2.0), 0.5)),
        Case("both are negative", (row(-1.0, -0.2), row(-2.0, -0.1), 2.0)),
        Case("a batch of three rows", (r, u, 4.0)),
        Case("float32", (r.float(), u.float(), 0.25)),
    ]


def step_by_search(r: Tensor, u: Tensor, c: float) -> Tensor:
    """The minimiser over x >= 0, found by cutting an interval in three."""
    a, b = r.double(), u.double()
    low, high = torch.zeros_like(a), torch.full_like(a, 50.0)

    def value(x: Tensor) -> Tensor:
        return (x - a) ** 2 / 2 + c * relu_gap(x, b)

    for _ in range(120):
        first, second = low + (high - low) / 3, high - (high - low) / 3
        left = value(first) <= value(second)
        low, high = torch.where(left, low, first), torch.where(left, second, high)
    return low.to(r.dtype)


def gap_step(r: Tensor, u: Tensor, c: float) -> Tensor:
    """The minimiser from its formula."""
    return ((r + c * u) / (1 + c)).clamp(min=0)


STEP = Exercise(
    name="gap-step",
    arguments=("r", "u", "c"),
    reference=step_by_search,
    library=gap_step,
    cases=step_cases,
    properties=(
        runs(lambda case: tuple(case.args[0].shape)),
        equals(
            "no x >= 0 is better",
            "Set the slope (x - r) + c (x - u) to 0, solve for x, and replace a negative x by 0.",
        ),
    ),
    misconceptions=(
        Misconception(
            "no-clamp",
            lambda r, u, c: (r + c * u) / (1 + c),
            "Some of your x are negative, where the gap is infinite. Clamp at 0: the function is convex, so its least "
            "feasible point is the nearest one.",
        ),
        Misconception(
            "phi-of-u",
            lambda r, u, c: ((r + c * u.clamp(min=0)) / (1 + c)).clamp(min=0),
            "You pull towards phi(u). That is the step of the squared distance. The slope of B in x is x - u: a "
            "negative u pulls x down, further than to 0 if it could.",
        ),
        Misconception(
            "explicit",
            lambda r, u, c: (r - c * (r - u)).clamp(min=0),
            "This is a gradient step: it takes the slope at r. The minimiser takes it at the new x: solve for x.",
        ),
        Misconception(
            "not-divided",
            lambda r, u, c: (r + c * u).clamp(min=0),
            "The factor 1 / (1 + c) is missing: x - r + c (x - u) = 0 has two terms with x.",
        ),
        Misconception(
            "weights-swapped",
            lambda r, u, c: ((c * r + u) / (1 + c)).clamp(min=0),
            "The weights are exchanged: c belongs to u, so that a large c leads to phi(u).",
        ),
    ),
    hints=(
        "Away from 0 the minimum is where the slope is 0. The slope of B(x, u) by x is x - u.",
        "(x - r) + c (x - u) = 0 gives x = (r + c u) / (1 + c). What if that is negative?",
    ),
    right="It is the minimiser on every case: a mean of r and u, cut off at 0.",
)

# Exercise 3: a block step on weights

DEAD = Prediction(
    name="slope-of-a-dead-unit",
    read=number,
    form="one number, such as 1.5",
    answer=-0.5,
    wrong=(
        (0.0, "That is what backpropagation says: it multiplies with the slope of ReLU, which is 0 there. B has none."),
        (0.5, "The sign: the slope of G is phi(u), and v is subtracted from it."),
        (-1.5, "You took u - v. The slope of G at u is phi(u), and phi(-1) = 0."),
    ),
    otherwise="B(v, u) = G*(v) + G(u) - u v. Differentiate by u: the slope of G is phi.",
    hints=("The slope of G(u) is phi(u).", "phi(-1) - 0.5"),
    right="A unit that is off still feels the pull. Behind a ReLU, backpropagation would be silent.",
)


def layer_cases() -> list[Case]:
    """Two units, more data, units that are off, float32; the last column of A is the offset's."""

    def problem(seed: int, n: int, d: int, k: int, shift: float = 0.0, anchor: float = 1.0) -> tuple:
        A = torch.cat([batch(seed, n, d), torch.ones(n, 1, dtype=torch.float64)], 1)
        W = batch(seed + 1, d + 1, k)
        W[-1] += shift
        return W, A, batch(seed + 2, n, k).clamp(min=0) + 0.1, anchor

    wide = problem(77, 8, 3, 2)
    return [
        Case("five samples, two units", problem(71, 5, 3, 2)),
        Case("a light anchor", problem(74, 9, 3, 2, anchor=0.01)),
        Case("units that are off", problem(77, 6, 2, 2, shift=-4.0)),
        Case("float32", (*(t.float() for t in wide[:3]), 1.0)),
    ]


def layer_by_autograd(W: Tensor, A: Tensor, target: Tensor, anchor: float) -> Tensor:
    """The slope of the summed gaps by autograd, times an explicit inverse."""
    leaf, B = W.double().requires_grad_(), A.double()
    (slope,) = torch.autograd.grad(fenchel_gap(target.double(), B @ leaf, "relu").sum(), leaf)
    M = torch.stack([B.mT @ column for column in B.unbind(1)], 1) + anchor * torch.eye(len(W), dtype=torch.float64)
    return (leaf.detach() - torch.linalg.inv(M) @ slope).to(W.dtype)


def _solve(A: Tensor, slope: Tensor, anchor: float) -> Tensor:
    return torch.linalg.solve(A.mT @ A + anchor * torch.eye(A.shape[1], dtype=A.dtype, device=A.device), slope)


def layer_step(W: Tensor, A: Tensor, target: Tensor, anchor: float) -> Tensor:
    """The step from its formula."""
    return W - _solve(A, A.mT @ ((A @ W).clamp(min=0) - target), anchor)


LAYER = Exercise(
    name="layer-step",
    arguments=("W", "A", "target", "anchor"),
    reference=layer_by_autograd,
    library=layer_step,
    cases=layer_cases,
    properties=(
        runs(lambda case: tuple(case.args[0].shape)),
        equals(
            "it minimises the quadratic that lies above the gaps",
            "The slope of the gaps by W is A'(phi(A W) - target). Solve (A'A + anchor I) S = slope and return W - S.",
            event=2,
        ),
    ),
    misconceptions=(
        Misconception(
            "through-relu",
            lambda W, A, target, anchor: (
                W - _solve(A, A.mT @ (((A @ W).clamp(min=0) - target) * (A @ W > 0).to(W.dtype)), anchor)
            ),
            "You multiply with the slope of ReLU. That is backpropagation through the squared distance. The slope of B "
            "by u is phi(u) - v, with no further factor.",
        ),
        Misconception(
            "no-activation",
            lambda W, A, target, anchor: W - _solve(A, A.mT @ (A @ W - target), anchor),
            "You use A W - target: least squares for a linear layer. The slope of B by u is phi(u) - v.",
        ),
        Misconception(
            "uphill",
            lambda W, A, target, anchor: 2 * W - layer_step(W, A, target, anchor),
            "This goes uphill: subtract the step.",
        ),
        Misconception(
            "gradient",
            lambda W, A, target, anchor: W - A.mT @ ((A @ W).clamp(min=0) - target),
            "This is a gradient step of length 1. Divide by the curvature: solve with A'A + anchor I.",
        ),
        Misconception(
            "decay",
            lambda W, A, target, anchor: W - _solve(A, A.mT @ ((A @ W).clamp(min=0) - target) + anchor * W, anchor),
            "Your anchor pulls to 0: that is weight decay. It holds W where it is, so it has no slope there.",
        ),
    ),
    hints=(
        "First the slope of B(v, u) by u, then the chain rule for u = A W.",
        "The slope is A'(phi(A W) - target), of the shape of W.",
        "torch.linalg.solve(M, slope) takes the whole matrix: one factor serves all units.",
    ),
    right="It is the step on every case, also for units that are off.",
)

# Exercise 4: break it

LOUDER = Prediction(
    name="louder-above",
    read=one_of("falls", "may rise", "always rises"),
    form='one of "falls", "may rise", "always rises"',
    answer="may rise",
    wrong=(
        (
            "falls",
            "The step lowers another function, in which the layer above weighs ten times as much. What does that "
            "promise for ours?",
        ),
        (
            "always rises",
            "Both functions want a smaller loss and small gaps. At the start one step may well lower both.",
        ),
    ),
    otherwise="Which function does the step minimise now, and is it the one that we write down?",
    hints=("The two kinds of block no longer minimise the same function.", "A promise about one says nothing here."),
    right="The step minimises another function, so ours has no promise. The code released with the paper does this.",
)


def one_more(x: Tensor) -> Tensor:
    """Values with a column of ones, for the offsets."""
    return torch.cat([x, x.new_ones(len(x), 1)], 1)


def lifted(x: Tensor, u: Tensor, W: Tensor, T: Tensor, multiplier: float) -> Tensor:
    """The part of the objective that a hidden layer's values change."""
    loss = -(T * (one_more(x) @ W).log_softmax(-1)).sum()
    return multiplier * fenchel_gap(x, u, "relu").sum() + loss


def hidden_step(
    x: Tensor, u: Tensor, W: Tensor, T: Tensor, multiplier: float, louder: float = 1.0, longer: float = 1.0
) -> Tensor:
    """A proximal gradient step on hidden values; ``louder`` weighs the layer above, ``longer`` stretches the step."""
    curvature = louder * torch.linalg.matrix_norm(W[:-1], 2) ** 2 / 2
    slope = louder * ((one_more(x) @ W).softmax(-1) - T) @ W[:-1].mT
    return gap_step(x - longer / curvature * slope, u, longer * multiplier / curvature)


def break_cases() -> list[Case]:
    """Small networks; the values have gone five honest steps already."""
    found = []
    for seed, (n, h, k) in ((81, (6, 4, 3)), (85, (12, 5, 4))):
        u, W = batch(seed, n, h), batch(seed + 1, h + 1, k, scale=2.0)
        T = torch.nn.functional.one_hot(torch.arange(n) % k, k).double()
        x = u.clamp(min=0)
        for _ in range(5):
            x = hidden_step(x, u, W, T, 1.0)
        found.append(Case(f"{n} samples, {h} hidden units", (x, u, W, T, 1.0)))
    return found


def _breaks(exercise: Exercise, answer, case: Case) -> None:
    x, u, W, T, multiplier = case.copies()
    trace = [float(lifted(x, u, W, T, multiplier))]
    for _ in range(10):
        x = answer(x, u.clone(), W.clone(), T.clone(), multiplier)
        trace.append(float(lifted(x, u, W, T, multiplier)))
        if trace[-1] == float("inf") or trace[-1] != trace[-1]:
            raise Wrong(
                "the values stay where the objective is finite",
                given=describe(exercise, case),
                expected="values that ReLU can give",
                got="a value below 0, or one that is not finite",
                hint="A negative value makes the gap infinite. That is a rise, but nobody would overlook it. Keep x "
                ">= 0 and find a quieter way.",
            )
    if not any(after > before + 1e-6 * (1 + abs(before)) for before, after in itertools.pairwise(trace)):
        raise Wrong(
            "the objective rises in one of ten steps",
            given=describe(exercise, case),
            expected="a rise",
            got=f"{trace[0]:.4g} falls to {trace[-1]:.4g}",
            hint="Your step still lowers the objective. Change what it minimises, for example by weighing the layer "
            "above more, or walk much farther than 1 / curvature.",
        )


BREAK = Exercise(
    name="break-it",
    arguments=("x", "u", "W", "T", "multiplier"),
    reference=lambda *args: hidden_step(*args, louder=10.0),
    library=lambda *args: hidden_step(*args, louder=10.0),
    cases=break_cases,
    properties=(runs(lambda case: tuple(case.args[0].shape)), _breaks),
    misconceptions=(
        Misconception(
            "honest",
            hidden_step,
            "This is the honest step. It lowers the objective from every start, so it breaks nothing: change louder or "
            "longer.",
        ),
        Misconception(
            "idle",
            lambda x, u, W, T, multiplier: x.clone(),
            "Your step moves nothing, so nothing rises. Call hidden_step, with something changed.",
        ),
        Misconception(
            "twice",
            lambda *args: hidden_step(*args, longer=2.0),
            "Twice as long still falls. A step of 1 / curvature is safe by a factor of 2, and the bound on the "
            "curvature is careful. Go much farther.",
        ),
        Misconception(
            "shorter",
            lambda *args: hidden_step(*args, longer=0.1),
            "A shorter step falls too, only slowly. A step breaks the promise when it is too long.",
        ),
    ),
    hints=(
        "hidden_step has two knobs: louder and longer. Each is honest at 1.",
        "Try return hidden_step(x, u, W, T, multiplier, louder=10).",
    ),
    right="Each block looks sensible, and the objective rises. Now look at a whole run.",
)

# Exercise 5: side by side

TOGETHER = Prediction(
    name="move-together",
    read=indices,
    form="a set of numbers, such as {1, 5}",
    answer=frozenset({3, 4}),
    wrong=(
        (
            frozenset({2, 3, 4}),
            "X2 = phi(W2 X1): the gap between them holds both. If both move, neither sees the other.",
        ),
        (frozenset({2}), "X2 is the one that must wait: it shares a gap with X1. Which share none?"),
        (frozenset({3}), "X3 is right. X4 shares no gap with X1 either."),
        (frozenset(), "Which values stand together in one gap? Only neighbours do."),
    ),
    otherwise="The gap of layer l holds X_l and X_(l-1), and no others. Which X stand in no gap with X1?",
    hints=("Write the gaps down: B(X1, W1 X0), B(X2, W2 X1), and so on.", "X1 stands in two of them."),
    right="X1 stands in two gaps: its own and that of X2. All others are free to move meanwhile.",
)

THREADS = Prediction(
    name="threads-change",
    read=one_of("identical", "close", "different"),
    form='one of "identical", "close", "different"',
    answer="identical",
    wrong=(
        ("close", "Rounding depends on the order of a sum. No sum is shared: each layer has its own arithmetic."),
        ("different", "With all X held, does the step for W2 read anything that the step for W1 writes?"),
    ),
    otherwise="With all X held, which numbers does the weight step of a layer read?",
    hints=("Each weight stands in one gap.", "The steps read the X and their own W, and write their own W."),
    right="Each weight stands in one gap alone, so its step reads nothing that another writes.",
)

# Exercise 6: wrong labels


def trust_cases() -> list[Case]:
    """Gaps of samples (rows) and units (columns)."""
    return [
        Case(
            "four samples, one suspect", (torch.tensor([[0.1, 0.0], [0.9, 0.8], [0.0, 0.3], [0.2, 0.2]]).double(), 0.25)
        ),
        Case(
            "many small gaps outweigh a large one", (torch.tensor([[0.6, 0.6], [1.0, 0.0], [0.1, 0.0]]).double(), 0.34)
        ),
        Case("nobody is suspect", (batch(91, 5, 3).abs(), 0.1)),
        Case("a third of nine", (batch(92, 9, 4).abs(), 0.34)),
        Case("float32", (batch(93, 10, 4).abs().float(), 0.3)),
    ]


def trust_by_loop(gaps: Tensor, share: float) -> Tensor:
    """Strike the largest sum out, again and again."""
    sums, weights = [float(sum(line)) for line in gaps], [1.0] * len(gaps)
    for _ in range(int(share * len(gaps))):
        worst = max((i for i in range(len(sums)) if weights[i]), key=lambda i: sums[i])
        weights[worst] = 0.0
    return torch.tensor(weights, dtype=gaps.dtype)


def struck(score: Tensor, share: float) -> Tensor:
    """Weight 0 for the share with the largest scores, 1 for the others."""
    weights = torch.ones_like(score)
    weights[score.argsort(descending=True)[: int(share * len(score))]] = 0
    return weights


TRUST = Exercise(
    name="trust",
    arguments=("gaps", "share"),
    reference=trust_by_loop,
    library=lambda gaps, share: struck(gaps.sum(-1), share),
    cases=trust_cases,
    properties=(
        runs(lambda case: (len(case.args[0]),)),
        equals(
            "weight 0 for the share with the largest total gap, 1 for the others",
            "Sum the gaps of each sample with sum(-1). Give the int(share * n) samples with the largest sums the "
            "weight 0, and all others 1.",
        ),
    ),
    misconceptions=(
        Misconception(
            "reversed",
            lambda gaps, share: 1 - struck(gaps.sum(-1), share),
            "You keep the suspects and strike out the others: 0 is for the largest gaps.",
        ),
        Misconception(
            "smallest",
            lambda gaps, share: struck(-gaps.sum(-1), share),
            "You strike out the smallest gaps. A large gap is the sign of a label that does not fit.",
        ),
        Misconception(
            "largest-entry",
            lambda gaps, share: struck(gaps.amax(-1), share),
            "You judge by the largest gap of a single unit. The objective counts the sum over all units of a sample.",
        ),
        Misconception(
            "share-of-the-largest",
            lambda gaps, share: (gaps.sum(-1) <= (1 - share) * gaps.sum(-1).max()).to(gaps.dtype),
            "You compare with a share of the largest gap. The share is one of the samples: sort them and count.",
        ),
    ),
    hints=(
        "Two steps: one number for each sample, then the places of the largest.",
        "gaps.sum(-1).argsort(descending=True)[: int(share * n)] are the suspects.",
    ),
    right="The samples that are hardest to explain get the weight 0.",
)

FINDS = Prediction(
    name="gap-or-loss",
    read=one_of("many more", "about as many", "far fewer"),
    form='one of "many more", "about as many", "far fewer"',
    answer="about as many",
    wrong=(
        (
            "many more",
            "The gaps of the hidden layer open because the loss pulls at them. Can they know much more than the loss?",
        ),
        ("far fewer", "A wrong label pulls hard, and the hidden values give way. That shows in their gaps."),
    ),
    otherwise="What makes the gap of a hidden layer open: the labels, through the loss.",
    hints=("Nothing but the label tells the hidden layer that something is wrong.", "The gap hears it from the loss."),
    right="Both read the same disagreement. The gap is a second witness to it, not a better one.",
)

EXERCISES = (VALUE, GAP, PULL, STEP, DEAD, LAYER, LOUDER, BREAK, TOGETHER, THREADS, TRUST, FINDS)
