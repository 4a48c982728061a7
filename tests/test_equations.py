"""The three-way tie of equations, on a small tree that is right and on the same tree with one thing wrong."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lablib.teaching import equations

ROOT = Path(__file__).resolve().parents[1]

CHAPTER = r"""# Chapter

$$
x = \max(y, 0)
$$ (eq-clip)

```{math}
:label: eq-mean
m = \frac1n \sum_i x_i
```

$$ 1 + 1 = 2 $$ (not-implemented)
"""
PACKAGE = '''"""A package."""


def clip(y):
    """A mark in a docstring is none: # eq: eq-nothing."""
    return y.clamp_min(0)  # eq: eq-clip


class Mean:
    """The mean."""

    def of(self, x):
        def inner():
            # eq: eq-mean
            # A comment between the mark and the line.
            return (
                x.sum()
                / len(x)
            )
        return inner()
'''
TESTS = """import pytest


@pytest.mark.eq("eq-clip")
def test_clip():
    pass


@pytest.mark.parametrize("case", [pytest.param(1, marks=pytest.mark.eq("eq-mean"))])
def test_mean(case):
    pass
"""


@pytest.fixture
def tree(tmp_path):
    """A tree whose book, package and tests agree."""
    cells = [
        {"cell_type": "markdown", "source": CHAPTER.splitlines(keepends=True)},
        {"cell_type": "code", "source": ["'$$x$$ (eq-in-code)'"]},
    ]
    for name, text in {
        "book/chapter.ipynb": json.dumps({"cells": cells}),
        "book/api.md": "```{eval-rst}\n.. automodule:: lablib.rooms\n   :members:\n```\n",
        "lablib/rooms.py": PACKAGE,
        "tests/test_rooms.py": TESTS,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def change(path, old, new):
    """Replace what occurs once in a file."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def run(tree, *arguments):
    """Run the command on a tree."""
    return equations.main([*arguments, "--root", str(tree)])


def test_a_tree_that_agrees(tree, capsys):
    assert run(tree) == 0
    assert run(tree, "--check") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 equations: each in the book, in lablib and in a test"


def test_the_page_shows_formula_line_and_test(tree):
    run(tree)
    page = (tree / "book" / "equations.md").read_text(encoding="utf-8")
    assert r"x = \max(y, 0)" in page
    assert "{eq}`eq-clip`" in page
    assert "{py:func}`lablib.rooms.clip`" in page
    assert "return y.clamp_min(0)\n" in page
    assert "{py:meth}`lablib.rooms.Mean.of`" in page
    assert "return (\n    x.sum()\n    / len(x)\n)" in page
    assert "`test_mean` in `tests/test_rooms.py`" in page
    assert "not-implemented" not in page


def test_where_the_lines_stand(tree):
    clip, mean = equations.in_package(tree)
    assert (clip.file, clip.number, clip.function) == ("lablib/rooms.py", 6, "clip")
    assert (mean.number, mean.function) == (16, "Mean.of")


def test_a_function_is_linked_where_the_reference_describes_it(tree):
    clip = equations.in_package(tree)[0]
    known = equations.documented(tree)
    assert known == {"lablib.rooms.clip", "lablib.rooms.Mean"}
    assert equations.reference(clip, known) == "{py:func}`lablib.rooms.clip`"
    assert equations.reference(clip, set()) == "`clip` of `lablib/rooms.py`"
    change(tree / "lablib" / "rooms.py", "def of", "def _of")
    assert equations.reference(equations.in_package(tree)[1], known) == "`_of` of {py:class}`lablib.rooms.Mean`"


@pytest.mark.parametrize(
    ("option", "exported", "expected"),
    [
        (":members: Mean", "", {"Mean"}),
        (":members:", '__all__ = ["clip"]', {"clip"}),
        (":members:", "", {"clip", "Mean"}),
    ],
)
def test_what_the_reference_describes(tree, option, exported, expected):
    change(tree / "book" / "api.md", ":members:", option)
    change(tree / "lablib" / "rooms.py", '"""A package."""', f'"""A package."""\n{exported}')
    assert equations.documented(tree) == {f"lablib.rooms.{name}" for name in expected}


FAULTS = {
    "the book lost one": ("book/chapter.ipynb", "eq-mean", "mean", "eq-mean stands in lablib .*, but no page gives"),
    "lablib lost one": ("lablib/rooms.py", "# eq: eq-clip", "", "eq-clip stands in the book .*, but no line of lablib"),
    "the tests lost one": ("tests/test_rooms.py", '"eq-mean"', '"eq-clip"', "eq-mean stands .*, but no test is marked"),
    "a misspelt mark": ("lablib/rooms.py", "# eq: eq-clip", "# eq: clip", "'clip' is no label"),
    "a label used twice": ("book/chapter.ipynb", "(not-implemented)", "(eq-clip)", "eq-clip labels 2 equations"),
    "a page that is stale": ("lablib/rooms.py", "clamp_min(0)", "relu()", "book/equations.md is stale"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(tree, capsys, name):
    run(tree)
    file, old, new, says = FAULTS[name]
    change(tree / file, old, new)
    capsys.readouterr()
    assert run(tree, "--check") == 1
    assert re.search(says, capsys.readouterr().err)


def test_the_page_is_not_a_source_of_its_own(tree):
    run(tree)
    assert run(tree) == 0


def test_the_command_ends_with_an_error(tree):
    change(tree / "tests" / "test_rooms.py", '@pytest.mark.eq("eq-clip")', "")
    done = subprocess.run(
        [sys.executable, "-m", "lablib.teaching.equations", "--check", "--root", str(tree)], capture_output=True
    )
    assert done.returncode == 1
