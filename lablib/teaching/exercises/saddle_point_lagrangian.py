"""The exercises of the lab on the saddle-point Lagrangian: cases, properties, typical mistakes and hints.

The references go another way than a good answer: differences of the dual function, an inverse by columns, a loop.
"""

from __future__ import annotations

import torch
from torch import Tensor

import lablib
from lablib.teaching.checks import Case, Exercise, Misconception, Prediction, compare, known, number, one_of, runs
from lablib.teaching.exercises.projection_layers import batch, row, tolerance

ROWS = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]], dtype=torch.float64)


def equals(prop: str, hint: str, event: int = 1, slack: float = 1.0):
    """The property that the answer is the reference, with a hint where no known mistake fits."""

    def check(exercise, answer, case):
        compare(
            exercise,
            prop,
            case,
            answer(*case.copies()),
            known(exercise, case),
            atol=slack * tolerance(case),
            event=event,
            hint=hint,
        )

    return check


def _spread(t: Tensor, A: Tensor) -> Tensor:
    """A' times vectors (..., m)."""
    return t @ A


# Exercise 1: the slope of the dual function


def dual_cases() -> list[Case]:
    """One pattern, one row, a batch, float32."""
    u, lam, b = row(0.5, -1.0, 0.2, 2.0), row(0.3, -0.4), row(1.2, 0.7)
    return [
        Case("one pattern", (lam, u, ROWS, b)),
        Case("no multipliers yet", (torch.zeros(2, dtype=torch.float64), u, ROWS, b)),
        Case("a batch of three patterns", (batch(1, 3, 2), batch(2, 3, 4), ROWS, batch(3, 3, 2).exp())),
        Case("float32", (lam.float(), u.float(), ROWS.float(), b.float())),
    ]


def dual_differences(lam: Tensor, u: Tensor, A: Tensor, b: Tensor) -> Tensor:
    """The slope of ``sum log(1 + e^w) - b.lam`` by central differences, in float64."""
    lam, u, A, b = (t.double() for t in (lam, u, A, b))

    def dual(t):
        return torch.nn.functional.softplus(u + t @ A).sum(-1) - (b * t).sum(-1)

    steps = 1e-5 * torch.eye(lam.shape[-1], dtype=torch.float64)
    return torch.stack([(dual(lam + e) - dual(lam - e)) / 2e-5 for e in steps], -1)


def residual(lam: Tensor, u: Tensor, A: Tensor, b: Tensor) -> Tensor:
    """What lablib's head drives to 0."""
    return torch.sigmoid(u + lam @ A) @ A.mT - b


RESIDUAL = Exercise(
    name="dual-residual",
    arguments=("lam", "u", "A", "b"),
    reference=lambda *args: dual_differences(*args).to(args[1].dtype),
    library=residual,
    cases=dual_cases,
    properties=(
        runs(lambda case: tuple(case.args[0].shape)),
        equals(
            "it is the slope of the dual function",
            "Shift the logits, predict, and compare with b: A sigmoid(u + A' lam) - b. For a batch, A' lam is lam @ A, "
            "and A z is z @ A.T.",
        ),
    ),
    misconceptions=(
        Misconception(
            "wrong-sign",
            lambda lam, u, A, b: b - torch.sigmoid(u + lam @ A) @ A.mT,
            "This is b - A z: the slope with the wrong sign. A step against it would climb. The dual has the term "
            "-b.lam, so its slope has -b.",
        ),
        Misconception(
            "no-shift",
            lambda lam, u, A, b: (torch.sigmoid(u) @ A.mT - b).expand_as(lam),
            "The multipliers do not appear. They shift the logits first: predict from u + A' lam.",
        ),
        Misconception(
            "no-link",
            lambda lam, u, A, b: (u + lam @ A) @ A.mT - b,
            "You put the shifted logits into the constraint. The constraint is on the prediction: apply the sigmoid "
            "first.",
        ),
        Misconception(
            "shift-after",
            lambda lam, u, A, b: (torch.sigmoid(u) + lam @ A) @ A.mT - b,
            "You shift the prediction. Then it may leave the interval from 0 to 1: shift the logits, inside the "
            "sigmoid.",
        ),
        Misconception(
            "no-b",
            lambda lam, u, A, b: torch.sigmoid(u + lam @ A) @ A.mT,
            "This is A z alone. The slope is 0 where the constraint holds: subtract b.",
        ),
    ),
    hints=(
        "The derivative of log(1 + e^w) is sigmoid(w). What is the derivative of w = u + A' lam by lam?",
        "By the chain rule the first term gives A sigmoid(u + A' lam). The second term gives -b.",
    ),
    right="It agrees with differences of the dual function, for one pattern and for a batch.",
)

SIGN = Prediction(
    name="multiplier-sign",
    read=one_of("positive", "negative", "zero"),
    form='one of "positive", "negative", "zero"',
    answer="positive",
    wrong=(
        (
            "negative",
            "A negative multiplier lowers all three logits, and the sum of the predictions falls. It has to rise.",
        ),
        ("zero", "With a multiplier of 0 nothing is shifted: the predictions still sum to 1.2."),
    ),
    otherwise="The multiplier is added to every logit of the row. Which way must the predictions go?",
    hints=("The sum is too small.", "Adding a positive number to a logit raises its prediction."),
    right="The sum must grow, so every logit is raised by the same positive number.",
)

# Exercise 2: Newton's step


def newton_reference(lam: Tensor, u: Tensor, A: Tensor, b: Tensor) -> Tensor:
    """The step from a Hessian of differences, one pattern at a time."""
    flat = [t.double().reshape(-1, t.shape[-1]) for t in (lam, u, b)]
    A = A.double()
    out = []
    for t, v, c in zip(*flat, strict=True):
        eye = 1e-5 * torch.eye(len(t), dtype=torch.float64)
        H = torch.stack([(residual(t + e, v, A, c) - residual(t - e, v, A, c)) / 2e-5 for e in eye], -1)
        out.append(torch.linalg.inv(H) @ -residual(t, v, A, c))
    return torch.stack(out).reshape(lam.shape).to(u.dtype)


def _hessian(z: Tensor, A: Tensor) -> Tensor:
    return (A * (z * (1 - z)).unsqueeze(-2)) @ A.mT


def newton(lam: Tensor, u: Tensor, A: Tensor, b: Tensor) -> Tensor:
    """The step, from the formula."""
    z = torch.sigmoid(u + lam @ A)
    return torch.linalg.solve(_hessian(z, A), b - z @ A.mT)


def whole_batch_newton(lam: Tensor, u: Tensor, A: Tensor, b: Tensor) -> Tensor:
    """Mistake: one Hessian for the batch."""
    z = torch.sigmoid(u + lam @ A)
    D = (z * (1 - z)).reshape(-1, z.shape[-1]).mean(0)
    return torch.linalg.solve((A * D) @ A.mT, (b - z @ A.mT).unsqueeze(-1)).squeeze(-1)


NEWTON = Exercise(
    name="newton-step",
    arguments=("lam", "u", "A", "b"),
    reference=newton_reference,
    library=newton,
    cases=dual_cases,
    properties=(
        runs(lambda case: tuple(case.args[0].shape)),
        equals(
            "it solves H step = -(A z - b)",
            "Build H = A D A' with D = diag(z (1 - z)) for each pattern, and solve H step = -(A z - b) with "
            "torch.linalg.solve.",
            slack=100.0,
        ),
    ),
    misconceptions=(
        Misconception(
            "new-multipliers",
            lambda lam, *rest: lam + newton(lam, *rest),
            "You returned lam + step. Return the step alone; the loop adds it.",
        ),
        Misconception(
            "uphill",
            lambda *args: -newton(*args),
            "The step goes uphill: solve with -(A z - b) on the right side.",
        ),
        Misconception(
            "no-curvature",
            lambda lam, u, A, b: (
                torch.linalg.solve(A @ A.mT, b - torch.sigmoid(u + lam @ A) @ A.mT, left=True)
                if lam.dim() == 1
                else torch.linalg.solve(A @ A.mT, (b - torch.sigmoid(u + lam @ A) @ A.mT).unsqueeze(-1)).squeeze(-1)
            ),
            "You solve with A A'. That is right for the identity. For a sigmoid every output has a slope of its own: "
            "put z (1 - z) between A and A'.",
        ),
        Misconception(
            "slope-of-z",
            lambda lam, u, A, b: torch.linalg.solve(
                (A * torch.sigmoid(u + lam @ A).unsqueeze(-2)) @ A.mT, b - torch.sigmoid(u + lam @ A) @ A.mT
            ),
            "You weigh with z. The slope of the sigmoid is z (1 - z).",
        ),
        Misconception(
            "gradient",
            lambda lam, u, A, b: -residual(lam, u, A, b),
            "This is a step of gradient descent with length 1. Newton's step divides by the curvature: solve with H.",
        ),
        Misconception(
            "batch-mean",
            whole_batch_newton,
            "One pattern is right, a batch is wrong: all patterns share one D. Give each its own, with "
            "(A * D.unsqueeze(-2)) @ A.T.",
        ),
    ),
    hints=(
        "The slope is A sigmoid(u + A' lam) - b. Differentiate it once more by lam.",
        "H = A diag(z (1 - z)) A', one for each pattern: (A * D.unsqueeze(-2)) @ A.T.",
        "torch.linalg.solve(H, r) takes a batch of vectors r when H has the same batch dimensions.",
    ),
    right="It is the Newton step on every case, and each pattern has its own curvature.",
)

# Exercise 3: the backward rule


def backward_cases() -> list[Case]:
    """A prediction and a gradient that comes in; batches; float32."""
    z, v = row(0.6, 0.3, 0.5, 0.9), row(1.0, 0.0, 0.0, 0.0)
    return [
        Case("one output is pulled", (z, ROWS, v)),
        Case("a gradient along the rows", (z, ROWS, row(0.5, 1.5, 1.0, 1.0))),
        Case("a batch of three patterns", (batch(4, 3, 4).sigmoid(), ROWS, batch(5, 3, 4))),
        Case("float32", (z.float(), ROWS.float(), v.float())),
    ]


def backward_by_head(z: Tensor, A: Tensor, v: Tensor) -> Tensor:
    """The gradient through lablib's head, from logits that predict z already."""
    A, z = A.double(), z.double()
    u = torch.logit(z).requires_grad_()
    head = lablib.DualHead(A)
    (out,) = torch.autograd.grad(head(u, (z @ A.mT).detach()), u, v.double())
    return out.to(v.dtype)


def pull(z: Tensor, A: Tensor, v: Tensor) -> Tensor:
    """The backward rule from the formula."""
    D = z * (1 - z)
    eta = torch.linalg.solve((A * D.unsqueeze(-2)) @ A.mT, (D * v) @ A.mT)
    return D * (v - _spread(eta, A))


def euclidean_pull(z: Tensor, A: Tensor, v: Tensor) -> Tensor:
    """Mistake: the projector of the identity link."""
    return v - torch.linalg.solve(A @ A.mT, (v @ A.mT).unsqueeze(-1)).squeeze(-1) @ A


BACKWARD = Exercise(
    name="head-backward",
    arguments=("z", "A", "v"),
    reference=backward_by_head,
    library=pull,
    cases=backward_cases,
    properties=(
        runs(lambda case: tuple(case.args[0].shape)),
        equals(
            "it is the gradient that reaches u",
            "Write D = z (1 - z). Solve (A D A') eta = A D v, then return D (v - A' eta).",
        ),
    ),
    misconceptions=(
        Misconception(
            "no-constraint",
            lambda z, A, v: z * (1 - z) * v,
            "This is the backward rule of the sigmoid alone. When u moves, the multipliers move with it: subtract "
            "D A' eta.",
        ),
        Misconception(
            "no-slope",
            euclidean_pull,
            "This is the rule for the identity, where every slope is 1. For a sigmoid put D = z (1 - z) into it.",
        ),
        Misconception(
            "slope-once",
            lambda z, A, v: (
                v - torch.linalg.solve((A * (z * (1 - z)).unsqueeze(-2)) @ A.mT, (z * (1 - z) * v) @ A.mT) @ A
            ),
            "The last factor D is missing: the gradient leaves through the slopes of the sigmoid, D (v - A' eta).",
        ),
        Misconception(
            "no-slope-before",
            lambda z, A, v: (
                z * (1 - z) * (v - torch.linalg.solve((A * (z * (1 - z)).unsqueeze(-2)) @ A.mT, v @ A.mT) @ A)
            ),
            "The right side of the solve is A v. It is A D v: the gradient has passed the slopes of the sigmoid first.",
        ),
        Misconception(
            "plus",
            lambda z, A, v: 2 * z * (1 - z) * v - pull(z, A, v),
            "The correction has the wrong sign: D v - D A' eta.",
        ),
    ),
    hints=(
        "A z = b stays true while u moves: A D (du + A' dlam) = 0. What is dlam?",
        "dlam = -(A D A')^-1 A D du, so dz = D du - D A' (A D A')^-1 A D du. This matrix is symmetric.",
    ),
    right="It agrees with the gradient through lablib's head, and a gradient along the rows comes out as 0.",
)

# Exercise 4: the rows that count a bag


def bag_cases() -> list[Case]:
    """Which places of a padded bag are filled."""
    return [
        Case("a full bag of three", (torch.ones(3, dtype=torch.float64), 2)),
        Case("two of three places are filled", (row(1.0, 1.0, 0.0), 2)),
        Case("three classes", (row(1.0, 0.0), 3)),
        Case("a batch of two bags", (torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64), 2)),
    ]


def count_by_loop(present: Tensor, classes: int) -> Tensor:
    """The matrix, entry by entry."""
    flat = present.reshape(-1, present.shape[-1])
    A = torch.zeros(flat.shape[0], classes, flat.shape[1] * classes, dtype=present.dtype)
    for i, bag in enumerate(flat):
        for place, here in enumerate(bag):
            for k in range(classes):
                A[i, k, place * classes + k] = here
    return A.reshape(*present.shape[:-1], classes, -1)


def count_rows(present: Tensor, classes: int) -> Tensor:
    """The matrix by an outer product."""
    eye = torch.eye(classes, dtype=present.dtype)
    return (present[..., None, :, None] * eye[:, None, :]).flatten(-2)


COUNT = Exercise(
    name="count-rows",
    arguments=("present", "classes"),
    reference=count_by_loop,
    library=count_rows,
    cases=bag_cases,
    properties=(
        runs(lambda case: (*case.args[0].shape[:-1], case.args[1], case.args[0].shape[-1] * case.args[1])),
        equals(
            "row k counts class k over the filled places",
            "Entry (k, place * classes + j) is 1 where j = k and the place is filled, and 0 elsewhere.",
            event=2,
        ),
    ),
    misconceptions=(
        Misconception(
            "class-first",
            lambda present, classes: (
                torch.eye(classes, dtype=present.dtype)[:, :, None] * present[..., None, None, :]
            ).flatten(-2),
            "The columns are in another order: here the classes of the first place come first, then those of the "
            "second.",
        ),
        Misconception(
            "empty-places-counted",
            lambda present, classes: count_rows(torch.ones_like(present), classes),
            "An empty place is counted too. Multiply by present, so that its columns are 0.",
        ),
        Misconception(
            "mean",
            lambda present, classes: count_rows(present / present.sum(-1, keepdim=True), classes),
            "These rows give proportions. The ledger has counts: do not divide by the number of filled places.",
        ),
    ),
    hints=(
        "The prediction of a bag is a row: the classes of place 0, then those of place 1, and so on.",
        "For a full bag the matrix is identity matrices side by side. An empty place has zeros instead.",
    ),
    right="Each row counts one class, and empty places count nowhere.",
)

FORCED = Prediction(
    name="what-a-zero-forces",
    read=one_of("exactly 0", "nearly 0", "nothing"),
    form='one of "exactly 0", "nearly 0", "nothing"',
    answer="exactly 0",
    wrong=(
        (
            "nearly 0",
            "Probabilities are not negative, and these sum to 0. Nearly 0 in one place would need a negative "
            "probability in another.",
        ),
        ("nothing", "The count of the class is a sum of probabilities, none of them negative. When is such a sum 0?"),
    ),
    otherwise="A sum of numbers that are not negative is 0. What are the numbers?",
    hints=("The count is a sum over the bag.", "None of its terms is negative."),
    right="Each term is 0. No finite multiplier gives that, so the head holds these coordinates.",
)

# Exercise 5: tomography

RANK = Prediction(
    name="how-many-rows",
    read=number,
    form="one number, such as 12",
    answer=15.0,
    wrong=(
        (16.0, "Add the eight row sums, then add the eight column sums. Both are the sum of all pixels."),
        (8.0, "The column sums do not follow from the row sums: two images with equal row sums can differ in columns."),
        (64.0, "There are 64 pixels, but only 16 measurements."),
        (14.0, "Only one relation ties the measurements together: both totals agree."),
    ),
    otherwise="How many of the 16 sums could be left out, because the others determine them?",
    hints=("Compare the total of the row sums with the total of the column sums.", "One sum follows from the others."),
    right="One relation ties the sixteen: the row sums and the column sums have the same total.",
)

MISS = Prediction(
    name="how-many-miss",
    read=one_of("none", "some", "most"),
    form='one of "none", "some", "most"',
    answer="most",
    wrong=(
        (
            "none",
            "A penalty is paid in the same coin as the loss. Does the last digit of a sum pay?",
        ),
        ("some", "Sixteen sums have to be right at once, on images that the network has not seen."),
    ),
    otherwise="The penalty acts while training. Nothing holds a new image to its sums.",
    hints=("Think of images that were not trained on.", "Sixteen equations, each to two digits."),
    right="Nearly every image misses. The weight with the best loss hardly moves the sums, and 100 steps are few for "
    "more.",
)

EXERCISES = (SIGN, RESIDUAL, NEWTON, BACKWARD, COUNT, FORCED, RANK, MISS)
