"""The exercises of the lab on the augmented Lagrangian: cases, properties, typical mistakes and hints.

The references go another way than a good answer: minima by search, gradients by autograd, sums by loops.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lablib.augmented import activation_candidates, activation_step, leaky, shrink_groups
from lablib.teaching.checks import (
    Case,
    Exercise,
    Misconception,
    Prediction,
    Wrong,
    compare,
    describe,
    known,
    number,
    one_of,
    runs,
    show,
)
from lablib.teaching.exercises.projection_layers import batch, row, tolerance
from lablib.teaching.exercises.saddle_point_lagrangian import equals

# Exercise 1: the five candidates

WINNER = Prediction(
    name="where-u-goes",
    read=number,
    form="one number, such as 1.5",
    answer=0.75,
    wrong=(
        (-0.25, "That is where the layer below wants u. There the slack v - s(u) is 1, and each unit of it costs 1."),
        (0.875, "This is the best point without slack. It costs 1.266; there is one with a little slack for 1.25."),
        (0.0, "At the kink it costs 1.53. Moving u further to the right makes the slack smaller still."),
    ),
    otherwise="To the right of 0 the cost falls while u - q < 1: a step in u costs u - q and saves 1 of slack.",
    hints=("Try v = p - 1 = 1. How does the cost depend on u > 0?", "(u + 1/4)^2 / 2 + (1 - u): set its slope to 0."),
    right="u crosses the kink, although the layer below wants it negative. The slack that is left is 1/4.",
)


def pair_cases() -> list[Case]:
    """A winner of each kind, other weights, a batch, float32; no ties."""
    p, q = batch(101, 12, scale=2.0), batch(102, 12, scale=2.0)
    return [
        Case("one pair", (row(2.0), row(-0.25), 1.0, 1.0, 0.0, 1.0)),
        Case("both are above the line", (row(3.0, 3.0), row(1.0, -1.5), 1.0, 1.0, 0.2, 1.0)),
        Case("v is wanted too low", (row(-2.0, 0.0, -1.0), row(1.0, 2.0, -1.0), 1.0, 1.0, 0.2, 1.0)),
        Case("unequal weights", (row(1.5, -1.0, 2.5), row(-1.0, 0.5, 1.0), 4.0, 0.5, 0.3, 0.5)),
        Case("twelve pairs", (p, q, 2.0, 0.7, 0.1, 0.6)),
        Case("float32", (p.float(), q.float(), 1.0, 2.0, 0.25, 1.0)),
    ]


def _lowest(value: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """The minimiser of convex functions of one number, found by cutting intervals in three."""
    for _ in range(130):
        first, second = low + (high - low) / 3, high - (high - low) / 3
        left = value(first) <= value(second)
        low, high = torch.where(left, low, first), torch.where(left, second, high)
    return (low + high) / 2


def pair_cost(v: Tensor, u: Tensor, p: Tensor, q: Tensor, a: float, b: float, slope: float, beta: float) -> Tensor:
    """The cost of (v, u), wherever it is."""
    return a / 2 * (v - p) ** 2 + b / 2 * (u - q) ** 2 + beta * (v - leaky(u, slope))


def candidates_by_search(p: Tensor, q: Tensor, a: float, b: float, slope: float, beta: float) -> Tensor:
    """Each candidate by its own search; shape (5, 2, n)."""
    x, y = p.double(), q.double()
    zero, far = torch.zeros_like(x), torch.full_like(x, 60.0)

    def free(k: float) -> tuple[Tensor, Tensor]:
        v = _lowest(lambda v: a / 2 * (v - x) ** 2 + beta * v, -far, far)
        return v, _lowest(lambda u: b / 2 * (u - y) ** 2 - beta * k * u, -far, far)

    def line(k: float, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        u = _lowest(lambda u: a / 2 * (k * u - x) ** 2 + b / 2 * (u - y) ** 2, low, high)
        return k * u, u

    kink = _lowest(lambda v: a / 2 * (v - x) ** 2 + beta * v, zero, far), zero
    pairs = [free(1.0), line(1.0, zero, far), kink, free(slope), line(slope, -far, zero)]
    return torch.stack([torch.stack(pair) for pair in pairs]).to(p.dtype)


def _five(p, q, a, b, slope, beta, *, down=1.0, clamped=True, back=None, curve=None) -> Tensor:
    """The candidates from their formulas, with places for mistakes."""

    def clamp(t: Tensor, **ends: float) -> Tensor:
        return t.clamp(**ends) if clamped else t

    back, curve = slope if back is None else back, slope if curve is None else curve
    low = p - beta / a
    line = clamp((a * p + b * q) / (a + b), min=0)
    left = clamp((curve * a * p + b * q) / (curve * curve * a + b), max=0)
    pairs = (
        (low, q + down * beta / b),
        (line, line),
        (clamp(low, min=0), torch.zeros_like(q)),
        (low, q + down * back * beta / b),
        (slope * left, left),
    )
    return torch.stack([torch.stack(pair) for pair in pairs])


SAYS = (
    "To the right of 0, with no border in the way: a (v - p) + beta = 0 and b (u - q) - beta = 0.",
    "On v = u the slack is 0. Minimise a/2 (u - p)^2 + b/2 (u - q)^2 over u >= 0.",
    "At u = 0 only v is left: a/2 (v - p)^2 + beta v over v >= 0.",
    "To the left of 0 the slack is v - slope u: b (u - q) - slope beta = 0.",
    "Put v = slope u into the squares: slope a (slope u - p) + b (u - q) = 0, over u <= 0.",
)


def _each_candidate(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    got, wanted = answer(*case.copies()), known(exercise, case)
    for i, hint in enumerate(SAYS):
        compare(
            exercise,
            f"candidate {i + 1} is the best of its kind",
            case,
            got[i],
            wanted[i],
            atol=10 * tolerance(case),
            event=2,
            hint=hint,
        )


FIVE = Exercise(
    name="five-candidates",
    arguments=("p", "q", "a", "b", "slope", "beta"),
    reference=candidates_by_search,
    library=lambda p, q, a, b, slope, beta: torch.stack(
        activation_candidates(p, q, a, b, slope, penalty=beta)[:2], dim=1
    ),
    cases=pair_cases,
    properties=(runs(lambda case: (5, 2, *case.args[0].shape)), _each_candidate),
    misconceptions=(
        Misconception(
            "slack-pushes-u-down",
            lambda *args: _five(*args, down=-1.0),
            "Your free u move down. The slack is v - s(u): a larger u makes it smaller, so the price pushes u up.",
        ),
        Misconception(
            "no-clamp",
            lambda *args: _five(*args, clamped=False),
            "Candidates 2, 3 and 5 may leave their side. A line ends at the kink: clamp there.",
        ),
        Misconception(
            "one-price-for-both-sides",
            lambda *args: _five(*args, back=1.0),
            "Candidate 4 is on the left, where s(u) = slope u: its u feels only slope times the price.",
        ),
        Misconception(
            "one-line-for-both-sides",
            lambda *args: _five(*args, curve=1.0),
            "Candidate 5 lies on v = slope u. You found the best u for the line v = u.",
        ),
    ),
    hints=(
        "Two of them are where a gradient is 0, two lie on a line, one lies at u = 0.",
        "Candidate 1 has v = p - beta / a and u = q + beta / b. Candidate 4 has the same v; what pushes its u?",
        "On the line v = k u: u = (k a p + b q) / (k^2 a + b), then clamp to the side of the line.",
    ),
    right="All five agree with a search of their own.",
)

# Exercise 2: the best allowed one

JUMP = Prediction(
    name="size-of-the-jump",
    read=number,
    form="one number, such as 1.5",
    answer=0.8,
    wrong=(
        (0.0, "Try it in the widget: move q slowly from -0.65 to -0.55 and look at the winner."),
        (1.0, "That would be a slope of 0. To the left the price pushes u too, by slope beta / b."),
        (0.2, "This is how far candidate 4 is from q. The jump is the distance from candidate 4 to candidate 1."),
        (1.2, "Both candidates lie to the right of q. Take the difference of the two shifts."),
    ),
    otherwise="Candidate 1 is at q + beta / b, candidate 4 at q + slope beta / b. Subtract.",
    hints=("The winner changes from candidate 4 to candidate 1.", "(1 - slope) beta / b"),
    right="The solution jumps over the ridge. No gradient step sees that; comparing costs does.",
)


def pair_by_search(p: Tensor, q: Tensor, a: float, b: float, slope: float, beta: float) -> Tensor:
    """For each u the best v is known; u is searched for on each side of 0. Knows of no candidates."""
    x, y = p.double(), q.double()

    def best_v(u: Tensor) -> Tensor:
        return torch.maximum(leaky(u, slope), x - beta / a)

    def value(u: Tensor) -> Tensor:
        return pair_cost(best_v(u), u, x, y, a, b, slope, beta)

    zero, far = torch.zeros_like(x), torch.full_like(x, 60.0)
    right, left = _lowest(value, zero, far), _lowest(value, -far, zero)
    u = torch.where(value(right) <= value(left), right, left)
    return torch.stack([best_v(u), u]).to(p.dtype)


def _winner(*args, allowed=True, price=True, among=range(5)) -> Tensor:
    """The best candidate, with places for mistakes."""
    p, q, a, b, slope, beta = args
    points = _five(*args)[list(among)]
    v, u = points[:, 0], points[:, 1]
    cost = pair_cost(v, u, p, q, a, b, slope, beta if price else 0.0)
    if allowed:
        side = torch.tensor([1.0, 0.0, 0.0, -1.0, 0.0])[list(among)].unsqueeze(1)
        outside = (v < leaky(u, slope) - 1e-6) | (side * u < 0)
        cost = torch.where(outside, torch.inf, cost)
    best = cost.argmin(0)
    return torch.stack([v.gather(0, best[None])[0], u.gather(0, best[None])[0]])


def _pair_is_allowed(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    v, u = answer(*case.copies()).double()
    below = leaky(u, case.args[4]) - v
    if not float(below.max()) <= 10 * tolerance(case):
        raise Wrong(
            "v >= s(u)",
            given=describe(exercise, case),
            expected="no v below s(u)",
            got=f"s(u) - v = {show(below)}",
            hint="One of your points is not allowed. Give candidates with v < s(u) an infinite cost, then compare.",
        )


def _no_pair_is_cheaper(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
    p, q, *rest = case.args
    costs = [
        pair_cost(*point.double(), p.double(), q.double(), *rest)
        for point in (answer(*case.copies()), known(exercise, case))
    ]
    compare(
        exercise,
        "no allowed pair is cheaper (shown are the costs)",
        case,
        *costs,
        atol=10 * tolerance(case),
        hint="Compute a/2 (v - p)^2 + b/2 (u - q)^2 + beta (v - s(u)) for every allowed candidate, and take the least, "
        "for each pair by itself.",
    )  # fmt: skip


BEST = Exercise(
    name="best-pair",
    arguments=("p", "q", "a", "b", "slope", "beta"),
    reference=pair_by_search,
    library=lambda p, q, a, b, slope, beta: torch.stack(activation_step(p, q, a, b, slope, penalty=beta)),
    cases=pair_cases,
    properties=(runs(lambda case: (2, *case.args[0].shape)), _pair_is_allowed, _no_pair_is_cheaper),
    misconceptions=(
        Misconception(
            "all-allowed",
            lambda *args: _winner(*args, allowed=False),
            "You compare all five, also those below s(u) or on the wrong side of 0. Their cost is no cost: make it "
            "infinite.",
        ),
        Misconception(
            "no-price",
            lambda *args: _winner(*args, price=False),
            "You compare the two squares alone. The slack has its price too: beta (v - s(u)).",
        ),
        Misconception(
            "no-slack",
            lambda *args: _winner(*args, among=(1, 4)),
            "You return the best point without slack. Some slack may be worth its price: candidates 1 and 4.",
        ),
        Misconception(
            "right-half",
            lambda *args: _winner(*args, among=(0, 1, 2)),
            "Your u is never negative. The left half of the plane has candidates too: 4 and 5.",
        ),
    ),
    hints=(
        "Three steps: the costs of all five, infinite where not allowed, then the least for each pair.",
        "Allowed: v >= s(u), and u >= 0 for candidate 1, u <= 0 for candidate 4. 2, 3 and 5 are always allowed.",
        "cost.argmin(0) says which; points.gather, or torch.where in a loop over the five, picks it.",
    ),
    right="No allowed pair is cheaper, found by a search that knows nothing of candidates.",
)

# Exercise 3: multipliers

STALL = Prediction(
    name="without-multipliers",
    read=one_of("goes to 0", "gets stuck", "explodes"),
    form='one of "goes to 0", "gets stuck", "explodes"',
    answer="gets stuck",
    wrong=(
        ("goes to 0", "A squared price never closes a gap: near 0 it costs next to nothing, and the loss still gains."),
        ("explodes", "Each block step lowers one and the same function. Nothing can explode."),
    ),
    otherwise="The residual costs rho/2 R^2, whose slope at R = 0 is 0. The loss pulls with a slope that is not 0.",
    hints=("At rest, the pull of the loss and rho R balance.", "So R = pull / rho, not 0."),
    right="The pull of the loss and rho R balance at an R that is not 0. The multiplier takes over the pull.",
)


def update_cases() -> list[Case]:
    """Layers of several shapes, and a point that is feasible."""

    def layer(seed: int, n: int, d: int, k: int, rho: float) -> tuple:
        return (batch(seed, n, k), batch(seed + 1, n, k), batch(seed + 2, n, d), batch(seed + 3, k, d),
                batch(seed + 4, k), rho)  # fmt: skip

    Xi, _, V, W, b, rho = layer(125, 4, 3, 2, 0.7)
    wide = layer(130, 6, 5, 3, 1.7)
    return [
        Case("five samples, three units", layer(110, 5, 4, 3, 0.3)),
        Case("a square layer", layer(120, 4, 4, 4, 2.5)),
        Case("a feasible point", (Xi, V @ W.mT + b, V, W, b, rho)),
        Case("float32", (*(t.float() for t in wide[:5]), wide[5])),
    ]


def update_by_autograd(Xi: Tensor, U: Tensor, V: Tensor, W: Tensor, b: Tensor, rho: float) -> Tensor:
    """The gradient of <Xi, R> + rho/2 |R|^2 by U."""
    leaf = U.double().clone().requires_grad_()
    R = leaf - torch.einsum("nd,kd->nk", V.double(), W.double()) - b.double()
    (gradient,) = torch.autograd.grad((Xi.double() * R).sum() + rho / 2 * (R * R).sum(), leaf)
    return gradient.to(Xi.dtype)


def _updated(Xi, U, V, W, b, rho, *, sign=1.0, offset=1.0) -> Tensor:
    return Xi + sign * rho * (U - V @ W.mT - offset * b)


UPDATE = Exercise(
    name="multiplier-update",
    arguments=("Xi", "U", "V", "W", "b", "rho"),
    reference=update_by_autograd,
    library=_updated,
    cases=update_cases,
    properties=(
        runs(lambda case: tuple(case.args[0].shape)),
        equals("it is the slope of <Xi, R> + rho/2 |R|^2 by R", "R = U - V W' - b; add rho R to Xi.", event=2),
    ),
    misconceptions=(
        Misconception(
            "minus",
            lambda *args: _updated(*args, sign=-1.0),
            "The sign: multipliers go uphill. They must come to hold what the squares hold now, Xi + rho R.",
        ),
        Misconception(
            "no-rho",
            lambda Xi, U, V, W, b, rho: _updated(Xi, U, V, W, b, 1.0),
            "rho is missing: the slope of rho/2 R^2 is rho R.",
        ),
        Misconception(
            "no-offset",
            lambda *args: _updated(*args, offset=0.0),
            "The offsets b are missing in R: at a feasible point your multipliers still move.",
        ),
        Misconception(
            "starts-anew",
            lambda Xi, U, V, W, b, rho: _updated(torch.zeros_like(Xi), U, V, W, b, rho),
            "You forget the old multipliers. They are what holds the constraint once R is 0.",
        ),
    ),
    hints=("What is the derivative of <Xi, R> + rho/2 |R|^2 by R?", "Samples are rows: V W' is V @ W.mT."),
    right="It is the slope that the squares and the multipliers have together, by autograd.",
)

# Exercise 4: columns that vanish

VANISH = Prediction(
    name="when-a-column-vanishes",
    read=number,
    form="one number, such as 1.5",
    answer=5.0,
    wrong=(
        (3.0, "That would be an entry on its own. A group has one length, for all its entries together."),
        (4.0, "That would be the largest entry on its own. A group has one length, for all its entries together."),
        (7.0, "This is the sum of the entries. The length is the root of the sum of squares."),
        (25.0, "This is the squared length. The price is on the length itself."),
    ),
    otherwise="The column shrinks by the threshold in length. When is nothing left?",
    hints=("Its length falls by the threshold, until nothing is left.", "The length of (3, 4)?"),
    right="The whole column vanishes at its length, not one entry after the other.",
)


def shrink_cases() -> list[Case]:
    """Long and short columns, one that is zero, none that vanishes, a wide matrix, float32."""
    W = batch(141, 4, 6)
    gone = W.clone()
    gone[:, 2] = 0.0
    return [
        Case("two columns", (torch.tensor([[3.0, 0.3], [4.0, 0.4]]).double(), 1.0)),
        Case("a column that is zero", (gone, 0.8)),
        Case("a large threshold", (W, 2.2)),
        Case("no threshold", (W, 0.0)),
        Case("float32", (batch(142, 2, 7).float(), 1.2)),
    ]


def shrink_by_search(W: Tensor, threshold: float) -> Tensor:
    """For each column the best length along it, found by search."""
    out = torch.zeros_like(W)
    for j, column in enumerate(W.double().unbind(1)):
        length = column.square().sum().sqrt()
        if length > 0:
            best = _lowest(lambda t, l=length: (t - l) ** 2 / 2 + threshold * t, torch.zeros(1).double(), 2 * length)
            out[:, j] = (best / length * column).to(W.dtype)
    return out


def _shrunk(W: Tensor, threshold: float, dim: int = 0) -> Tensor:
    return W * (1 - threshold / W.norm(dim=dim, keepdim=True).clamp(min=1e-30)).clamp(min=0)


def _unclamped(W: Tensor, threshold: float) -> Tensor:
    return W * (1 - threshold / W.norm(dim=0).clamp(min=1e-30))


SHRINK = Exercise(
    name="shrink-columns",
    arguments=("W", "threshold"),
    reference=shrink_by_search,
    library=shrink_groups,
    cases=shrink_cases,
    properties=(
        runs(lambda case: tuple(case.args[0].shape)),
        equals(
            "each column has the best length",
            "Scale each column by max(0, 1 - threshold / length). A column that is zero stays zero: mind 0 / 0.",
            event=2,
        ),
    ),
    misconceptions=(
        Misconception(
            "entries",
            lambda W, threshold: W.sign() * (W.abs() - threshold).clamp(min=0),
            "You shrink each entry by itself. Then single weights vanish, and hardly ever a whole pixel.",
        ),
        Misconception(
            "rows",
            lambda W, threshold: _shrunk(W, threshold, dim=1),
            "You shrink rows. A column holds the weights by which all units listen to one input.",
        ),
        Misconception(
            "no-clamp",
            _unclamped,
            "Short columns turn round and grow: the factor is negative. Clamp it at 0.",
        ),
        Misconception(
            "squared-length",
            lambda W, threshold: W / (1 + threshold),
            "This is the step for a squared norm. It makes all columns shorter, and none of them zero.",
        ),
    ),
    hints=(
        "The direction of a column stays. Only its length is open.",
        "W.norm(dim=0) has the lengths of the columns.",
        "W * (1 - threshold / length).clamp(min=0), with length.clamp(min=1e-30) below the line.",
    ),
    right="Each column keeps its direction and has the best length; short ones are exactly zero.",
)

# Exercise 5: the certificate

SILENT = Prediction(
    name="silent-pixel",
    read=one_of("yes", "no", "it depends"),
    form='one of "yes", "no", "it depends"',
    answer="yes",
    wrong=(
        ("no", "At a kink a slope need not be 0. A unit of length gains 0.0006 at most. What does it cost?"),
        ("it depends", "All that counts is there: what a unit of length gains at best, and what it costs."),
    ),
    otherwise="Compare what one unit of length gains with what it costs.",
    hints=("A column of length t costs 0.001 t.", "It gains at most 0.0006 t, to first order."),
    right="A zero column is right as long as its gradient is no longer than the penalty.",
)  # fmt: skip


def certificate_cases() -> list[Case]:
    """Weights with zero columns, a penalty that holds all, none at all, float32."""
    W, V, Xi = batch(151, 3, 5), batch(152, 8, 5), batch(153, 8, 3)
    W[:, 1], W[:, 4] = 0.0, 0.0
    return [
        Case("two columns are zero", (W, V, Xi, 0.4)),
        Case("the penalty holds all columns", (torch.zeros_like(W), V, 0.1 * Xi, 3.0)),
        Case("no penalty", (W, V, Xi, 0.0)),
        Case("more samples", (W, batch(154, 30, 5), batch(155, 30, 3), 0.05)),
        Case("float32", (W.float(), V.float(), Xi.float(), 0.2)),
    ]


def _moved(W, V, Xi, mu, *, sign=-1.0, share=None, proximal=True) -> Tensor:
    gradient = sign * Xi.mT @ V / (len(V) if share is None else share)
    return ((W - _shrunk(W - gradient, mu)) if proximal else gradient).norm()


def certificate_by_autograd(W: Tensor, V: Tensor, Xi: Tensor, mu: float) -> Tensor:
    """The gradient of the mean of <xi, -W v> by autograd; the columns one by one, with a search for their length."""
    leaf = W.double().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(-(Xi.double() * (V.double() @ leaf.mT)).sum() / len(V), leaf)
    return (W.double() - shrink_by_search(W.double() - gradient, mu)).square().sum().sqrt().to(W.dtype)


CERTIFICATE = Exercise(
    name="weights-residual",
    arguments=("W", "V", "Xi", "mu"),
    reference=certificate_by_autograd,
    library=_moved,
    cases=certificate_cases,
    properties=(
        runs(lambda case: ()),
        equals(
            "it is how far a proximal gradient step moves W",
            "The gradient is -Xi' V / n. Step to W - gradient, shrink its columns by mu, measure how far W moved.",
            event=0,
        ),
    ),
    misconceptions=(
        Misconception(
            "gradient-alone",
            lambda *args: _moved(*args, proximal=False),
            "This is the length of the gradient. At a solution with kinks it is not 0: zero columns hold against it.",
        ),
        Misconception(
            "uphill",
            lambda *args: _moved(*args, sign=1.0),
            "The sign: the multipliers stand before U - V W' - b, so the gradient by W is -Xi' V / n.",
        ),
        Misconception(
            "sum-not-mean",
            lambda *args: _moved(*args, share=1),
            "You sum over samples. The objective is a mean: divide by n.",
        ),
        Misconception(
            "threshold-divided",
            lambda W, V, Xi, mu: _moved(W, V, Xi, mu / len(V)),
            "Your threshold is mu / n. The penalty stands outside of the mean: columns shrink by mu.",
        ),
    ),
    hints=(
        "At a solution a proximal gradient step does not move W. So measure how far it moves.",
        "gradient = -Xi.mT @ V / len(V); then shrink the columns of W - gradient by mu.",
        "(W - shrunk).norm() is one number, of shape ().",
    ),
    right="It is 0 exactly where the condition holds, kinks or not.",
)

# Exercise 6: pruning

SIZE = Prediction(
    name="numbers-that-stay",
    read=number,
    form="one number, such as 100",
    answer=502.0,
    wrong=(
        (1510.0, "That is the whole network, before anything is cut."),
        (480.0, "You counted the weights. The offsets are numbers too: one for each unit and each output."),
        (910.0, "The dead pixels are still in: the first layer needs 30 columns, not 64."),
    ),
    otherwise="Two layers: weights are outputs times inputs, and there is one offset for each output.",
    hints=("The first layer: 12 units, 30 pixels.", "12 x 30 + 12, and 10 x 12 + 10."),
    right="A third of the 1,510 numbers, and they say the same.",
)


def prune_cases() -> list[Case]:
    """Constant units with offsets of both signs, none, all of them, float32."""

    def network(seed: int, d: int, h: int, k: int, dead: list[int], slope: float) -> tuple:
        W1 = batch(seed, h, d)
        W1[dead] = 0.0
        return W1, batch(seed + 1, h), batch(seed + 2, k, h), batch(seed + 3, k), slope

    last = network(185, 3, 4, 3, [1, 2], 0.2)
    return [
        Case("two of five units hear nothing", network(161, 4, 5, 3, [1, 3], 0.1)),
        Case("every unit hears something", network(165, 3, 4, 2, [], 0.1)),
        Case("no unit hears anything", network(171, 3, 4, 2, [0, 1, 2, 3], 0.3)),
        Case("ReLU", network(175, 5, 6, 3, [0, 2, 5], 0.0)),
        Case("float32", (*(t.float() for t in last[:4]), last[4])),
    ]


def offset_by_loop(W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor, slope: float) -> Tensor:
    """What the network says if only the silent units speak."""
    out = [float(x) for x in b2]
    for j in range(len(b1)):
        if not any(float(x) for x in W1[j]):
            value = float(b1[j])
            value = value if value > 0 else slope * value
            out = [x + float(W2[i, j]) * value for i, x in enumerate(out)]
    return torch.tensor(out, dtype=b2.dtype)


def _offset(W1, b1, W2, b2, slope, *, bent=True, everyone=False, sign=1.0) -> Tensor:
    dead = torch.ones_like(b1, dtype=torch.bool) if everyone else (W1 == 0).all(1)
    says = leaky(b1[dead], slope) if bent else b1[dead]
    return b2 + sign * W2[:, dead] @ says


OFFSET = Exercise(
    name="offset-after-the-cut",
    arguments=("W1", "b1", "W2", "b2", "slope"),
    reference=offset_by_loop,
    library=_offset,
    cases=prune_cases,
    properties=(
        runs(lambda case: tuple(case.args[3].shape)),
        equals(
            "the outputs stay as they were",
            "A unit whose row of W1 is zero has the value s(b1), whatever the input. Add W2 times that to b2.",
        ),
    ),
    misconceptions=(
        Misconception(
            "unchanged",
            lambda W1, b1, W2, b2, slope: b2.clone(),
            "You cut the units and forget what they said. A unit that hears nothing still says s(b1).",
        ),
        Misconception(
            "not-bent",
            lambda *args: _offset(*args, bent=False),
            "A silent unit says s(b1), not b1: its offset goes through the activation.",
        ),
        Misconception(
            "everyone",
            lambda *args: _offset(*args, everyone=True),
            "You moved the offsets of all units. Only units whose row of W1 is zero are constant.",
        ),
        Misconception(
            "subtracted",
            lambda *args: _offset(*args, sign=-1.0),
            "The sign: what the unit said must now be said by b2, so it is added.",
        ),
    ),
    hints=(
        "What is the value of a unit whose row of W1 is zero?",
        "silent = (W1 == 0).all(1); the values are s(b1[silent]).",
        "b2 + W2[:, silent] @ those values.",
    ),
    right="What constant units said is now said by the offset.",
)

EXERCISES = (WINNER, FIVE, JUMP, BEST, STALL, UPDATE, VANISH, SHRINK, SILENT, CERTIFICATE, SIZE, OFFSET)
