"""The checkers of the labs: every wrong answer is rejected with its own hint, every right one is accepted."""

import importlib.util
from pathlib import Path

import pytest
import torch

from lablib.teaching import checks
from lablib.teaching.exercises import EXERCISES

_spec = importlib.util.spec_from_file_location("wrong_answers", Path(__file__).with_name("wrong_answers.py"))
answers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(answers)

WRONG = [(name, title) for name, cases in answers.WRONG.items() for title in cases]
RIGHT = [(name, title) for name, cases in answers.RIGHT.items() for title in cases]
FUNCTIONS = sorted(name for name, exercise in EXERCISES.items() if isinstance(exercise, checks.Exercise))
PREDICTIONS = sorted(set(EXERCISES) - set(FUNCTIONS))


@pytest.mark.parametrize(("name", "title"), WRONG)
def test_wrong_answer_is_rejected_with_its_hint(name, title):
    answer, words = answers.WRONG[name][title]
    verdict = checks.judge(name, answer)
    assert verdict.answered
    assert not verdict.passed
    assert words in verdict.hint


@pytest.mark.parametrize(("name", "title"), RIGHT)
def test_right_answer_is_accepted(name, title):
    verdict = checks.judge(name, answers.RIGHT[name][title])
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize("name", sorted(EXERCISES))
def test_every_exercise_has_three_wrong_answers_with_hints_of_their_own(name):
    hints = [checks.judge(name, answer).hint for answer, _ in answers.WRONG[name].values()]
    assert len(set(hints)) >= 3
    known = EXERCISES[name]
    texts = [m.hint for m in known.misconceptions] if name in FUNCTIONS else [why for _, why in known.wrong]
    assert len(texts) == len(set(texts))
    assert set(texts) <= set(hints), "a hint that no wrong answer brings out"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_lablib_passes_its_own_check(name):
    verdict = checks.judge(name, EXERCISES[name].library)
    assert verdict.passed, str(verdict)


def raises(*_):
    raise NotImplementedError


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "stub", [raises, lambda *_: None, lambda *_: ..., None, ...], ids=["raises", "None", "...", "no", "dots"]
)
def test_unanswered_exercise_says_so_and_the_lab_goes_on(name, stub, capsys):
    goes_on = checks.check(name, stub)
    assert capsys.readouterr().out == f"{name}: not answered yet.\nThe lab goes on with lablib's version.\n"
    assert goes_on is EXERCISES[name].library


@pytest.mark.parametrize("name", PREDICTIONS)
def test_unanswered_prediction_says_so(name, capsys):
    assert checks.check(name, ...) is None
    assert capsys.readouterr().out == f"{name}: not answered yet.\n"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_forgotten_return_is_an_answer_with_a_hint_of_its_own(name, capsys):
    def forgets(*args):
        x = EXERCISES[name].library(*args)
        x.clamp(min=0)

    assert checks.check(name, forgets) is EXERCISES[name].library
    said = capsys.readouterr().out
    assert said.startswith(f"{name}: not yet right.")
    assert "should begin with return" in said


@pytest.mark.parametrize("name", ["which-vanish", "who-moves"])
def test_indices_counted_from_1_are_recognised(name):
    verdict = checks.judge(name, {index + 1 for index in EXERCISES[name].answer})
    assert verdict.misconception == "counted-from-1"
    assert "count from 1" in verdict.hint


def test_verdict_names_property_input_expected_and_got(capsys):
    goes_on = checks.check("project-simplex", answers.normalise)
    assert goes_on is EXERCISES["project-simplex"].library
    out = capsys.readouterr().out
    assert out.startswith("project-simplex: not yet right.\n  fails ")
    assert "no feasible point is nearer" in out or "sum to 1" in out
    for label in ("  input     y = [0.8, 0.5, 0.1, -0.4] (four coordinates)", "  expected  ", "  got  ", "  hint  "):
        assert label in out


def test_verdict_names_the_row_of_a_batch():
    verdict = checks.judge("project-simplex", answers.bisect_whole_batch)
    assert "of a batch" in verdict.given


def test_right_answer_is_what_the_lab_goes_on_with(capsys):
    assert checks.check("gap", answers.gap_right) is answers.gap_right
    assert "goes on with your function" in capsys.readouterr().out


def test_a_checker_never_raises_whatever_a_function_does():
    def interrupted(*_):
        raise ZeroDivisionError("division by zero")

    for name in FUNCTIONS:
        for strange in (interrupted, lambda: 0, lambda *a: "x", lambda *a: torch.zeros(3, 7), dict, len):
            assert not checks.judge(name, strange).passed


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_strange_prediction_is_answered_with_the_form_that_is_wanted(name):
    for strange in ("?", object(), {"a": 1}, [[1]], torch.eye(2)):
        verdict = checks.judge(name, strange)
        assert not verdict.passed
        assert verdict.hint


def test_hints_come_one_after_another_and_the_last_stays(capsys):
    checks._hints_given.pop("budget-root", None)
    total = len(EXERCISES["budget-root"].hints)
    for _ in range(total + 1):
        checks.hint("budget-root")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        *(f"budget-root, hint {n} of {total}" for n in range(1, total + 1)),
        f"budget-root, hint {total} of {total}",
    ]
    assert len(set(lines)) == total


def test_unknown_exercise_lists_those_there_are():
    with pytest.raises(KeyError, match="project-simplex"):
        checks.check("projekt", ...)


@pytest.mark.parametrize("name", sorted(EXERCISES))
def test_each_exercise_has_graded_hints(name):
    assert len(EXERCISES[name].hints) >= 2
