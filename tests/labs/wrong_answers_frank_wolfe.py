"""Answers to the lab on Frank-Wolfe rollouts: each mistake that a checker knows, imitated, and the right ones."""

from lablib.teaching import checks
from lablib.teaching.exercises import frank_wolfe_rollouts

WRONG, RIGHT = {}, {}
for known in frank_wolfe_rollouts.EXERCISES:
    if isinstance(known, checks.Exercise):
        WRONG[known.name] = {mistake.name: (mistake.imitate, mistake.hint) for mistake in known.misconceptions}
        RIGHT[known.name] = {"library": known.library, "reference": known.reference}
    else:
        other = "none of these" if isinstance(known.answer, str) else 10**6
        cases = [*known.wrong, (other, known.otherwise if isinstance(known.answer, (int, float)) else known.form)]
        WRONG[known.name] = {str(value): (value, why) for value, why in cases}
        RIGHT[known.name] = {"answer": known.answer}
