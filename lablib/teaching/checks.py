"""Check a learner's answer: say which property fails, on which input, and what to try next.

``check("project-simplex", my_projection)`` runs the exercise's property tests on the learner's function and prints a
verdict of a few lines. It never raises on a wrong answer, so that a lab always runs from top to bottom. It returns the
function that the lab goes on with: the learner's own when it is right, lablib's otherwise.

The exercises are data, one module for each lab in ``lablib.teaching.exercises``. An exercise holds the cases that an
answer is tried on, the properties that it must have, and the misconceptions that its checker knows: each of these makes
a typical mistake on purpose. A learner whose results equal that mistake's is told so.
"""

from __future__ import annotations

import dis
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["Case", "Exercise", "Misconception", "Prediction", "Verdict", "Wrong", "check", "hint", "judge"]


@dataclass(frozen=True)
class Case:
    """One input on which an answer is tried, with a name that a learner understands."""

    name: str
    args: tuple[Any, ...]

    def copies(self) -> tuple[Any, ...]:
        """Fresh copies of the arguments, so that an answer that writes into its input spoils nothing."""
        return tuple(a.clone() if isinstance(a, Tensor) else a for a in self.args)


class Wrong(Exception):
    """A property that an answer lacks: which one, on which input, what was expected and what came."""

    def __init__(self, prop: str, *, given: str = "", expected: str = "", got: str = "", hint: str = "") -> None:
        super().__init__(prop)
        self.prop, self.given, self.expected, self.got, self.hint = prop, given, expected, got, hint


Property = Callable[["Exercise", Callable[..., Tensor], Case], None]


@dataclass(frozen=True)
class Misconception:
    """A typical mistake: a function that makes it on purpose, and the hint for those who make it unawares."""

    name: str
    imitate: Callable[..., Tensor]
    hint: str


@dataclass(frozen=True)
class Exercise:
    """A function to be written: its arguments, cases, properties, known misconceptions and graded hints.

    Each case in turn, the simplest first, goes through ``properties``: they raise ``Wrong``, and the first of them is
    ``runs(...)``. ``reference`` is a slow way to the right result. ``library`` is what the lab goes on with when the
    answer is missing or wrong.
    """

    name: str
    arguments: tuple[str, ...]
    reference: Callable[..., Tensor]
    library: Callable[..., Tensor]
    cases: Callable[[], list[Case]]
    properties: Sequence[Property]
    misconceptions: Sequence[Misconception]
    hints: Sequence[str]
    right: str


@dataclass(frozen=True)
class Prediction:
    """A guess to be made before a computation: how to read it, the right one, and a hint for each typical wrong one."""

    name: str
    read: Callable[[Any], Any]
    form: str
    answer: Any
    wrong: Sequence[tuple[Any, str]]
    otherwise: str
    hints: Sequence[str]
    right: str


@dataclass(frozen=True)
class Verdict:
    """What ``judge`` found: whether there is an answer, whether it is right, if not what is wrong and what to try."""

    exercise: str
    answered: bool
    passed: bool
    prop: str = ""
    given: str = ""
    expected: str = ""
    got: str = ""
    hint: str = ""
    misconception: str = ""
    goes_on: str = ""
    remark: str = field(default="", repr=False)

    def __str__(self) -> str:
        if not self.answered:
            head = f"{self.exercise}: not answered yet."
        elif self.passed:
            head = f"{self.exercise}: right. {self.remark}"
        else:
            head = f"{self.exercise}: not yet right."
        rows = [
            ("fails", self.prop),
            ("input", self.given),
            ("expected", self.expected),
            ("got", self.got),
            ("hint", self.hint),
        ]
        lines = [head] + [f"  {label:<9} {text}" for label, text in rows if text and self.answered and not self.passed]
        if self.goes_on:
            lines.append(f"The lab goes on with {self.goes_on}.")
        return "\n".join(lines)


def show(value: Any) -> str:
    """A tensor or number in light text: four significant digits, long rows cut; a small matrix in full."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        if value.dim() == 2 and value.shape[0] <= 4 and value.shape[1] <= 8:
            rows = [", ".join(f"{x:.4g}" for x in row) for row in value.tolist()]
            return "[" + ", ".join(f"[{row}]" for row in rows) + "]"
        if value.dim() > 1:
            return f"a tensor of shape {tuple(value.shape)}"
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        shown = [show(v) for v in value[:6]] + (["..."] if len(value) > 6 else [])
        return "[" + ", ".join(shown) + "]"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def describe(exercise: Exercise, case: Case, row: tuple[int, ...] | None = None) -> str:
    """Name a case and show its arguments, or the row of them that went wrong."""
    parts = []
    for name, value in zip(exercise.arguments, case.args, strict=True):
        if row is not None and isinstance(value, Tensor) and value.dim() == len(row) + 1:
            value = value[row]
        parts.append(f"{name} = {show(value)}")
    where = f" in row {list(row)} of a batch" if row else ""
    return f"{', '.join(parts)} ({case.name}{where})"


def compare(
    exercise: Exercise,
    prop: str,
    case: Case,
    got: Tensor,
    expected: Tensor,
    *,
    atol: float = 1e-6,
    hint: str = "",
    event: int = 1,
) -> None:
    """Raise ``Wrong`` for the worst row of a result; ``event`` says how many of the last dimensions form one row."""
    error = (got.detach().double() - expected.double()).abs()
    error = torch.where(error.isnan(), torch.inf, error)
    scale = expected.double().abs().clamp(min=1.0)
    ratio = error / scale
    per_row = ratio.flatten(-event).amax(-1) if event else ratio
    if per_row.numel() == 0 or float(per_row.max()) <= atol:
        return
    row = tuple(int(i) for i in torch.unravel_index(per_row.argmax(), per_row.shape)) if per_row.dim() else ()
    raise Wrong(prop, given=describe(exercise, case, row), expected=show(expected[row]), got=show(got[row]), hint=hint)


def advice(error: Exception, batched: bool) -> str:
    """What to look at after an error: types of numbers, else the batch where there is one."""
    if "dtype" in str(error):
        return "Two types of numbers met: make new tensors like the input, as in torch.eye(m, dtype=z.dtype)."
    if batched:
        return (
            "A batch has leading dimensions: work on the last one, with dim=-1 and keepdim=True; instead of "
            "torch.diag(d) scale columns, A * d.unsqueeze(-2)."
        )
    return ""


def runs(shape: Callable[[Case], tuple[int, ...]]) -> Property:
    """The property that comes first: it runs, gives a tensor of the right shape and dtype, spares its input."""

    def prop(exercise: Exercise, answer: Callable[..., Tensor], case: Case) -> None:
        given, args = describe(exercise, case), case.copies()
        try:
            out = answer(*args)
        except Exception as error:  # whatever a learner's code can raise is a finding, not a crash
            raise Wrong(
                "it runs",
                given=given,
                expected="a tensor",
                got=" ".join([f"{type(error).__name__}:", *str(error).splitlines()[:1]]),
                hint="Call your function yourself on this input and read the last line of the error. "
                + advice(error, batched=len(shape(case)) > 1),
            ) from error
        if out is None:
            raise Wrong(
                "it returns a tensor",
                given=given,
                expected="a torch tensor",
                got="None",
                hint="Your function computes something and hands nothing back: its last line should begin with return.",
            )
        if not isinstance(out, Tensor):
            raise Wrong(
                "it returns a tensor",
                given=given,
                expected="a torch tensor",
                got=type(out).__name__,
                hint="Stay in torch from the first line to the last: no float(), .item() or numpy.",
            )
        if tuple(out.shape) != shape(case):
            raise Wrong(
                "shape",
                given=given,
                expected=f"shape {shape(case)}",
                got=f"shape {tuple(out.shape)}",
                hint="The last dimension holds one point and the dimensions before it are a batch: reduce with "
                "dim=-1 only."
                if out.dim() <= len(shape(case))
                else "There is a dimension too many. One matrix for each pattern times one vector for each is "
                "(M @ v.unsqueeze(-1)).squeeze(-1).",
            )
        first = case.args[0]
        if isinstance(first, Tensor) and out.dtype != first.dtype:
            raise Wrong(
                "dtype",
                given=given,
                expected=str(first.dtype),
                got=str(out.dtype),
                hint="Make new tensors from the input (torch.zeros_like, y.new_tensor), so that float32 stays float32.",
            )
        for name, before, after in zip(exercise.arguments, case.args, args, strict=True):
            if isinstance(before, Tensor) and not torch.equal(before, after):
                raise Wrong(
                    "it leaves its input alone",
                    given=given,
                    expected=f"{name} unchanged",
                    got=f"{name} = {show(after)}",
                    hint=f"An operation with a trailing underscore, or an assignment into {name}, changed the "
                    f"caller's tensor. "
                    "Work on a new one.",
                )

    return prop


def same(first: Any, second: Any) -> bool:
    """Whether two results are equal up to rounding, shapes included; nan counts as equal to nan."""
    return (
        isinstance(first, Tensor)
        and isinstance(second, Tensor)
        and first.shape == second.shape
        and torch.allclose(first.detach().double(), second.detach().double(), rtol=1e-5, atol=1e-6, equal_nan=True)
    )


def attempt(function: Callable[..., Any], case: Case) -> Any:
    """The function's result on a case, or None where it stops with an error."""
    try:
        return function(*case.copies())
    except Exception:  # a learner's function or an imitation of one may stop anywhere
        return None


_known: dict[tuple[str, str, str], Tensor] = {}


def known(exercise: Exercise, case: Case, mistake: Misconception | None = None) -> Tensor:
    """What the slow reference, or a misconception, gives on a case; computed once, since cases never change."""
    key = (exercise.name, case.name, mistake.name if mistake else "")
    if key not in _known:
        _known[key] = attempt(mistake.imitate if mistake else exercise.reference, case)
    return _known[key]


def recognise(exercise: Exercise, answer: Callable[..., Tensor], cases: list[Case]) -> Misconception | None:
    """The misconception that an answer shows: equal results on most of the cases where the mistake matters."""
    results = [(case, out) for case in cases if isinstance(out := attempt(answer, case), Tensor)]
    best, best_share = None, 0.5
    for mistake in exercise.misconceptions:
        telling = [
            same(out, known(exercise, case, mistake))
            for case, out in results
            if not same(known(exercise, case, mistake), known(exercise, case))
        ]
        share = sum(telling) / max(len(telling), 1)
        if share > best_share:
            best, best_share = mistake, share
    return best


def blank(answer: Any) -> bool:
    """Whether an answer is still what a learner finds: None or ``...``."""
    return answer is None or answer is Ellipsis


def does_nothing(function: Callable[..., Any]) -> bool:
    """Whether a function's body holds no more than a docstring and ``...``.

    >>> does_nothing(lambda y: ...), does_nothing(lambda y: y + 1)
    (True, False)
    """
    code = getattr(function, "__code__", None)
    idle = {"RESUME", "NOP", "LOAD_CONST", "POP_TOP", "RETURN_CONST", "RETURN_VALUE", "COPY_FREE_VARS"}
    return code is not None and {step.opname for step in dis.get_instructions(code)} <= idle


def unanswered(answer: Any, cases: list[Case]) -> bool:
    """Whether a function is still the stub it was handed out as; one that works and forgets ``return`` is not."""
    if blank(answer):
        return True
    if not callable(answer):
        return False
    try:
        return blank(answer(*cases[0].copies())) and does_nothing(answer)
    except NotImplementedError:
        return True
    except Exception:  # an answer that stops with an error is an answer; the property "it runs" reports it
        return False


def judge(name: str, answer: Any) -> Verdict:
    """Judge an answer without printing: what ``check`` shows, as an object."""
    exercise = find(name)
    if isinstance(exercise, Prediction):
        return judge_prediction(exercise, answer)
    cases = exercise.cases()
    if unanswered(answer, cases):
        return Verdict(name, answered=False, passed=False, goes_on="lablib's version")
    if not callable(answer):
        return Verdict(
            name,
            answered=True,
            passed=False,
            prop="it is a function",
            expected=f"a function of ({', '.join(exercise.arguments)})",
            got=type(answer).__name__,
            hint="Hand over the function itself, without calling it: its name with no brackets.",
            goes_on="lablib's version",
        )
    try:
        for case in cases:
            for prop in exercise.properties:
                prop(exercise, answer, case)
    except Wrong as wrong:
        mistake = None if prop is exercise.properties[0] else recognise(exercise, answer, cases)
        return Verdict(
            name,
            answered=True,
            passed=False,
            prop=wrong.prop,
            given=wrong.given,
            expected=wrong.expected,
            got=wrong.got,
            hint=mistake.hint if mistake else wrong.hint,
            misconception=mistake.name if mistake else "",
            goes_on="lablib's version",
        )
    return Verdict(name, answered=True, passed=True, remark=exercise.right, goes_on="your function")


def judge_prediction(exercise: Prediction, answer: Any) -> Verdict:
    """Judge a prediction: read it, compare it, and answer a typical wrong one with its own hint."""
    if blank(answer):
        return Verdict(exercise.name, answered=False, passed=False)
    try:
        value = exercise.read(answer)
    except (TypeError, ValueError):
        return Verdict(
            exercise.name,
            answered=True,
            passed=False,
            prop="it can be read",
            expected=exercise.form,
            got=show(answer),
            hint=f"Write {exercise.form}.",
        )
    if value == exercise.answer:
        return Verdict(exercise.name, answered=True, passed=True, remark=exercise.right)
    if isinstance(exercise.answer, frozenset) and value == frozenset(index + 1 for index in exercise.answer):
        hint = "You count from 1. The first coordinate has the index 0: subtract 1 from each."
        return Verdict(
            exercise.name, answered=True, passed=False, got=show(answer), hint=hint, misconception="counted-from-1"
        )
    for number, (wrong, why) in enumerate(exercise.wrong):
        if value == wrong:
            return Verdict(
                exercise.name,
                answered=True,
                passed=False,
                got=show(answer),
                hint=why,
                misconception=f"{exercise.name}-{number}",
            )
    return Verdict(exercise.name, answered=True, passed=False, got=show(answer), hint=exercise.otherwise)


def check(name: str, answer: Any) -> Callable[..., Tensor] | None:
    """Judge a learner's answer, print the verdict, and return the function that the lab goes on with.

    Args:
        name: the exercise's name, as the lab prints it.
        answer: the learner's function, or for a prediction the learner's guess. A function that raises
            ``NotImplementedError`` or returns None, and a guess that is still ``...``, count as not answered.

    Returns:
        The answer itself when it is right, lablib's version when it is wrong or missing, None for a prediction.

    Raises:
        KeyError: no exercise has this name; the message lists those there are.

    >>> check("which-vanish", ...)
    which-vanish: not answered yet.
    """
    exercise = find(name)
    verdict = judge(name, answer)
    print(verdict)
    if isinstance(exercise, Prediction):
        return None
    return answer if verdict.passed else exercise.library


_hints_given: dict[str, int] = {}


def hint(name: str) -> None:
    """Print the next hint of an exercise: each call gives one more, from a nudge to nearly the answer.

    Args:
        name: the exercise's name.

    >>> hint("which-vanish")
    which-vanish, hint 1 of 2: Try the threshold for the two largest coordinates first.
    """
    hints = find(name).hints
    number = min(_hints_given.get(name, 0), len(hints) - 1)
    _hints_given[name] = number + 1
    print(f"{name}, hint {number + 1} of {len(hints)}: {hints[number]}")


def find(name: str) -> Exercise | Prediction:
    """The exercise of this name; the error lists the names there are."""
    from lablib.teaching.exercises import EXERCISES

    if name not in EXERCISES:
        raise KeyError(f"there is no exercise {name!r}; there are {', '.join(sorted(EXERCISES))}")
    return EXERCISES[name]


def indices(answer: Any) -> frozenset[int]:
    """Read a set of indices; a single index will do."""
    if isinstance(answer, (int, Tensor)):
        answer = [answer] if isinstance(answer, int) else answer.flatten().tolist()
    if not isinstance(answer, Iterable) or isinstance(answer, str) or any(int(i) != i for i in answer):
        raise TypeError("not a set of indices")
    return frozenset(int(i) for i in answer)


def number(answer: Any) -> float:
    """Read one number, to three significant digits."""
    value = float(answer)
    return float(f"{value:.3g}") if math.isfinite(value) else value


def numbers(answer: Any) -> tuple[float, ...]:
    """Read a row of numbers, each to three significant digits."""
    if isinstance(answer, Tensor):
        answer = answer.flatten().tolist()
    if isinstance(answer, (str, dict, set)):
        raise TypeError("not a row of numbers")
    return tuple(number(v) + 0.0 for v in answer)


def one_of(*words: str) -> Callable[[Any], str]:
    """Read one of a few words."""

    def read(answer: Any) -> str:
        word = answer.strip().lower() if isinstance(answer, str) else ""
        if word not in words:
            raise ValueError(f"not one of {words}")
        return word

    return read
