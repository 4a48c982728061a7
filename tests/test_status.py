"""The status page: true of the data that it is made from, and stale or false where something is."""

import json
import re
from pathlib import Path

import pytest

from lablib.teaching import status

ROOT = Path(__file__).resolve().parents[1]
RECORD = [
    {"id": "two-is-small", "value": 2.00012345, "op": "<", "bound": 3, "holds": True},
    {"id": "it-is-so", "value": True, "op": "==", "bound": True, "holds": True},
    {"id": "of-another-book", "value": 9, "op": "<", "bound": 3, "holds": False},
]
SOURCE = 'claim("two-is-small", 2, "<", 3)\nclaim("it-is-so", True, "==", True)'


def lines(record):
    """Write a record as a run of the notebooks does."""
    return "".join(json.dumps(one) + "\n" for one in record)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A tree with one chapter, its record, and a page that is fresh."""
    monkeypatch.delenv("LABLIB_CLAIMS", raising=False)
    cells = [
        {"cell_type": "markdown", "id": "a", "source": ["# A chapter\n"]},
        {"cell_type": "code", "id": "b", "source": SOURCE.splitlines(True)},
    ]
    for name, text in {
        "book/one.ipynb": json.dumps({"cells": cells}),
        "book/_data/parts.toml": '[[part]]\ntitle = "One"\nsubject = "x"\nchapter = "one"\nlab = "one"\n',
        "book/_data/papers.toml": (
            'preface = "P"\n[[paper]]\ntitle = "T"\nverdict = "V"\nwhat = "n"\ntheirs = "them"\nours = "us"\n'
            '[[paper.row]]\nwhat = "1"\ntheirs = "3"\nclaim = "two-is-small"\nverdict = "less"\n'
        ),
        "book/_data/minutes.json": json.dumps(
            {
                "command": "c",
                "machine": {"processor": "p", "python": "3", "torch": "2"},
                "seconds": {"book/one.ipynb": 1.2},
            }
        ),
        "record.jsonl": lines(RECORD),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert run(tmp_path, "--claims", str(tmp_path / "record.jsonl")) == 0
    return tmp_path


def run(tree, *arguments):
    """Run the command on a tree."""
    return status.main([*arguments, "--root", str(tree)])


def read(tree, name="book/status.md"):
    return (tree / name).read_text(encoding="utf-8")


def test_a_fresh_page_passes(tree):
    assert run(tree, "--check") == 0
    assert run(tree, "--check", "--claims", str(tree / "record.jsonl")) == 0


def test_the_page_shows_value_bound_and_verdict(tree):
    page = read(tree)
    assert "| `two-is-small` | 2 | < 3 | holds |" in page
    assert "| `it-is-so` | true | == true | holds |" in page
    assert "of-another-book" not in page
    assert "| **One**: x | [chapter](/book/one.ipynb) | planned |" in page
    assert "[A chapter](/book/one.ipynb)" in page
    assert "| 1 | 3 | 2 | less |" in page


def test_ratios_stand_beside_their_goals(tree):
    assert "No measurement is recorded yet" in read(tree)
    rows = [{"case": "a", "peer": "p", "ratio": 3.456, "goal": 3}, {"case": "b", "peer": "q", "ratio": 0.9, "goal": 1}]
    for area, row in zip(("one", "two"), rows, strict=True):
        record = {"title": f"Area {area}", "summary": [row]}
        (tree / f"book/_data/benchmarks-{area}.json").write_text(json.dumps(record))
    assert run(tree, "--check") == 1
    assert run(tree) == 0
    assert read(tree).index("### Area one") < read(tree).index("### Area two")
    assert "| a | p | 3.46 | 3 | met |" in read(tree)
    assert "| b | q | 0.90 | 1 | **missed** |" in read(tree)


def test_times_are_rounded_up(tree):
    assert "| [A chapter](/book/one.ipynb) | 2 |" in read(tree, "book/_data/minutes.md")


def test_the_record_may_be_named_by_the_environment(tree, monkeypatch):
    changed = [{**RECORD[0], "value": 1.5}, RECORD[1]]
    (tree / "record.jsonl").write_text(lines(changed))
    monkeypatch.setenv("LABLIB_CLAIMS", str(tree / "record.jsonl"))
    assert run(tree) == 0
    assert "| `two-is-small` | 1.5 | < 3 | holds |" in read(tree)


def test_another_value_of_a_true_claim_is_no_fault(tree):
    (tree / "record.jsonl").write_text(lines([{**RECORD[0], "value": 1.0}, RECORD[1]]))
    before = read(tree)
    assert run(tree, "--check", "--claims", str(tree / "record.jsonl")) == 0
    assert read(tree) == before


RECORDS = {
    "a claim that did not run": ([RECORD[0]], "claim it-is-so .* did not run"),
    "a claim that is false now": ([{**RECORD[0], "value": 4.0, "holds": False}, RECORD[1]], "is false in the last run"),
    "a verdict that its value belies": ([{**RECORD[0], "value": 4.0}, RECORD[1]], "4.0 is not < 3"),
    "a value that is no number": ([{**RECORD[0], "value": "nan"}, RECORD[1]], "nan is not < 3"),
    "another bound": ([{**RECORD[0], "bound": 5}, RECORD[1]], "another bound"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_run_that_disagrees_is_named(tree, capsys, name):
    record, says = RECORDS[name]
    (tree / "record.jsonl").write_text(lines(record))
    assert run(tree, "--check", "--claims", str(tree / "record.jsonl")) == 1
    assert re.search(says, capsys.readouterr().err)


CHANGES = {
    "a page edited by hand": ("book/status.md", "| 2 | < 3 |", "| 1 | < 3 |", "book/status.md differs"),
    "times edited by hand": ("book/_data/minutes.md", "| 2 |", "| 1 |", "minutes.md differs"),
    "a notebook not timed": ("book/_data/minutes.json", "book/one", "book/two", "has no time for book/one.ipynb"),
    "a new claim": ("book/one.ipynb", 'claim(\\"it-is', 'claim(\\"that-is', "claim that-is-so .* has no record"),
    "a claim gone": (
        "book/one.ipynb",
        'claim(\\"it-is',
        'claim(\\"that-is',
        "holds it-is-so, which no notebook",
    ),
    "an operator changed": ("book/one.ipynb", '\\"<\\"', '\\"<=\\"', "was changed or moved"),
    "a value that is false": ("book/_data/claims.json", '"value": 2.0', '"value": 3.0', "recorded as false"),
    "a verdict that is false": (
        "book/_data/claims.json",
        '"bound": 3,\n   "holds": true',
        '"bound": 3,\n   "holds": false',
        "recorded as false",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_fault_is_named(tree, capsys, name):
    file, old, new, says = CHANGES[name]
    text = read(tree, file)
    assert text.count(old) == 1
    (tree / file).write_text(text.replace(old, new), encoding="utf-8")
    assert run(tree, "--check") == 1
    said = capsys.readouterr().err
    assert re.search(says, said)
    assert "make status" in said


def test_a_figure_of_ours_is_never_typed_in(tree):
    text = read(tree, "book/_data/papers.toml").replace('claim = "two-is-small"', 'ours = "1"')
    (tree / "book/_data/papers.toml").write_text(text)
    with pytest.raises(KeyError):
        run(tree)


def test_a_record_that_is_not_there_is_an_error(tree):
    with pytest.raises(SystemExit):
        run(tree, "--claims", str(tree / "missing.jsonl"))
