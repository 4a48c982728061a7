"""A sentence of the book that can be false: checked where it stands, recorded for the status page."""

import ast
import json
import math
import operator
import os
import re
from dataclasses import dataclass
from pathlib import Path

OPERATORS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def plain(number: object, what: str) -> bool | int | float:
    """Return a Python number from a number, a NumPy scalar or a tensor with one element.

    >>> import torch
    >>> plain(torch.tensor(2.5), "the value")
    2.5
    """
    size = getattr(number, "size", 1)
    if callable(size):
        size = number.numel()
    if hasattr(number, "item") and size == 1:
        number = number.item()
    if not isinstance(number, bool | int | float):
        found = f"{size} elements" if size != 1 else repr(number)
        raise TypeError(f"{what} must be one number, or True or False; got {found}. Reduce it first, e.g. with .max().")
    return number


def claim(id: str, value: object, op: str, bound: object) -> None:
    """Check that `value op bound` holds, print the verdict, and stop the notebook where it does not.

    Write it in a cell beside the sentence it stands for. The printed line names the bound and never the value, so
    that it is the same on every machine; the value goes to the file that the environment variable `LABLIB_CLAIMS`
    names, one line of JSON for each claim, from which the status page is made.

    `id` is lower case with hyphens and is used once in the whole book. `value` and `bound` are numbers, NumPy scalars
    or tensors of one element; True and False go with `==` and `!=` alone. A value that is NaN or infinite fails.

    Raises `AssertionError`, with value and bound, when the claim is false; `TypeError` or `ValueError` when it is not
    a claim at all.

    >>> claim("two-is-small", 2.0, "<", 3)
    claim two-is-small: value < 3 holds
    >>> claim("two-is-large", 2.0, ">", 3)
    Traceback (most recent call last):
    AssertionError: claim two-is-large is false: value 2.0 is not > 3
    """
    if not isinstance(id, str) or not ID.fullmatch(id):
        raise ValueError(f"a claim's id is lower-case words joined by hyphens, e.g. hs-matches-fd; got {id!r}")
    if op not in OPERATORS:
        raise ValueError(f"claim {id}: the operator must be one of {' '.join(OPERATORS)}; got {op!r}")
    value, bound = plain(value, f"claim {id}: the value"), plain(bound, f"claim {id}: the bound")
    if not math.isfinite(bound):
        raise ValueError(f"claim {id}: the bound must be finite; got {bound}")
    if op not in ("==", "!=") and (isinstance(value, bool) or isinstance(bound, bool)):
        raise TypeError(f"claim {id}: True and False are compared with == or !=; got {value} {op} {bound}")
    holds = math.isfinite(value) and OPERATORS[op](value, bound)
    record(id, value, op, bound, holds)
    if not holds:
        raise AssertionError(f"claim {id} is false: value {value!r} is not {op} {bound!r}")
    print(f"claim {id}: value {op} {bound!r} holds")


def record(id: str, value: bool | int | float, op: str, bound: bool | int | float, holds: bool) -> None:
    """Append one line of JSON to the file that `LABLIB_CLAIMS` names, if it names one."""
    path = os.environ.get("LABLIB_CLAIMS")
    if not path:
        return
    stored = value if math.isfinite(value) else str(value)
    line = json.dumps({"id": id, "value": stored, "op": op, "bound": bound, "holds": holds})
    # One write of one line: several notebooks may run at once.
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")


@dataclass(frozen=True)
class Stated:
    """A claim as a notebook states it: its id and operator, and where it stands."""

    id: str
    op: str
    notebook: str
    cell: str


def python(source: str) -> ast.Module:
    """Parse a code cell; a line of IPython's own (`%pip`, `!ls`) counts as `pass`."""
    return ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.MULTILINE))


def in_notebooks(root: Path) -> list[Stated]:
    """Return every claim of `root`'s notebooks in `book/` and `labs/`, in reading order.

    Raises `ValueError` where an id or an operator is not written out, or where an id stands twice.
    """
    found: list[Stated] = []
    for path in sorted([*(root / "book").glob("*.ipynb"), *(root / "labs").glob("*.ipynb")]):
        name = path.relative_to(root).as_posix()
        for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            if cell["cell_type"] == "code":
                where = cell.get("id", f"number {number}")
                found += [
                    Stated(*pair, name, where) for pair in in_cell("".join(cell["source"]), f"{name}, cell {where}")
                ]
    for one in found:
        places = [f"{other.notebook}, cell {other.cell}" for other in found if other.id == one.id]
        if len(places) > 1:
            raise ValueError(f"the claim {one.id} stands more than once: {'; '.join(places)}")
    return found


def in_cell(source: str, where: str) -> list[tuple[str, str]]:
    """Return the id and the operator of each call of `claim` in a cell's source, from top to bottom."""
    calls = [
        node
        for node in ast.walk(python(source))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", None)) == "claim"
    ]
    found = []
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        given = dict(zip(("id", "value", "op", "bound"), call.args, strict=False))
        given |= {word.arg: word.value for word in call.keywords}
        texts = [getattr(given.get(name), "value", None) for name in ("id", "op")]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{where}: write the claim's id and operator out as plain strings: {ast.unparse(call)}")
        found.append((texts[0], texts[1]))
    return found
