"""Claims: what holds, what fails, what is recorded; and those of the notebooks."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lablib.teaching import claim, claims

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def record(tmp_path, monkeypatch):
    """Keep these claims out of the book's record."""
    path = tmp_path / "claims.jsonl"
    monkeypatch.setenv("LABLIB_CLAIMS", str(path))
    return path


HOLDS = [
    (1e-9, "<", 1e-8),
    (2, "<=", 2),
    (torch.tensor(0.5), ">", 0),
    (torch.tensor([3.0]), ">=", 3),
    (np.float32(0.25), "==", 0.25),
    (np.int64(4), "!=", 5),
    (np.array(1.0), "<", 2),
    (True, "==", True),
    (torch.tensor(False), "!=", True),
    (np.bool_(True), "==", True),
    (1e-9, "<", torch.tensor(1.0)),
]


@pytest.mark.parametrize(("value", "op", "bound"), HOLDS)
def test_holds(value, op, bound, record):
    claim("one", value, op, bound)
    (line,) = record.read_text().splitlines()
    assert json.loads(line)["holds"] is True


FALSE = [
    (1e-8, "<", 1e-8),
    (2.5, "<=", 2),
    (0, ">", 0),
    (torch.tensor(2.9), ">=", 3),
    (0.1 + 0.2, "==", 0.3),
    (5, "!=", 5),
    (False, "==", True),
    *((float("nan"), op, 1) for op in claims.OPERATORS),
    (torch.tensor(float("nan")), "<", 1),
    (float("inf"), ">", 3),
    (float("-inf"), "<", 3),
]


@pytest.mark.parametrize(("value", "op", "bound"), FALSE)
def test_false(value, op, bound, record, capsys):
    with pytest.raises(AssertionError, match=r"claim one is false: value .* is not") as raised:
        claim("one", value, op, bound)
    assert repr(claims.plain(value, "")) in str(raised.value)
    assert repr(bound) in str(raised.value)
    assert json.loads(record.read_text())["holds"] is False
    assert capsys.readouterr().out == ""


def test_prints_the_bound_and_not_the_value(capsys):
    claim("hs-matches-fd", 1.2345e-9, "<", 1e-8)
    assert capsys.readouterr().out == "claim hs-matches-fd: value < 1e-08 holds\n"


NO_CLAIM = [
    (("Upper", 1, "<", 2), ValueError, "lower-case words"),
    (("under_score", 1, "<", 2), ValueError, "lower-case words"),
    (("double--hyphen", 1, "<", 2), ValueError, "lower-case words"),
    (("one", 1, "~", 2), ValueError, "operator must be one of"),
    (("one", torch.ones(3), "<", 2), TypeError, "the value must be one number.*got 3 elements"),
    (("one", np.ones(0), "<", 2), TypeError, "got 0 elements"),
    (("one", "1", "<", 2), TypeError, "the value must be one number"),
    (("one", None, "==", 2), TypeError, "the value must be one number"),
    (("one", 1 + 0j, "==", 1), TypeError, "the value must be one number"),
    (("one", 1, "<", "2"), TypeError, "the bound must be one number"),
    (("one", 1, "<", float("nan")), ValueError, "the bound must be finite"),
    (("one", 1, "<", float("inf")), ValueError, "the bound must be finite"),
    (("one", True, ">", 0), TypeError, "compared with == or !="),
    (("one", 1, "<", True), TypeError, "compared with == or !="),
]


@pytest.mark.parametrize(("arguments", "kind", "says"), NO_CLAIM)
def test_no_claim_at_all(arguments, kind, says, record):
    with pytest.raises(kind, match=says):
        claim(*arguments)
    assert not record.exists()


def test_record_keeps_value_operator_and_bound(record):
    claim("one", 0.5, "<", 1)
    claim("two", torch.tensor(True), "==", True)
    assert [json.loads(line) for line in record.read_text().splitlines()] == [
        {"id": "one", "value": 0.5, "op": "<", "bound": 1, "holds": True},
        {"id": "two", "value": True, "op": "==", "bound": True, "holds": True},
    ]


def test_record_of_a_value_that_is_no_number_is_json(record):
    with pytest.raises(AssertionError):
        claim("one", float("nan"), "<", 1)
    assert json.loads(record.read_text())["value"] == "nan"


def test_no_record_without_the_variable(monkeypatch, tmp_path):
    monkeypatch.delenv("LABLIB_CLAIMS")
    monkeypatch.chdir(tmp_path)
    claim("one", 1, "<", 2)
    assert list(tmp_path.iterdir()) == []


# Claims in notebooks


def write(root, name, *sources):
    """Write a notebook whose code cells hold the given sources."""
    cells = [
        {"cell_type": "code", "id": f"cell-{i}", "source": text.splitlines(True)} for i, text in enumerate(sources)
    ]
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(json.dumps({"cells": cells}))


def test_found_in_notebooks(tmp_path):
    write(tmp_path, "book/one.ipynb", 'claim("a", x, "<", 1)\nteaching.claim("b", x, op=">", bound=1)', "x = 1")
    write(
        tmp_path,
        "labs/one.ipynb",
        'try:\n    pass\nexcept ImportError:\n    %pip install x\n!ls\nclaim("c", 1, "==", 1)',
    )
    write(tmp_path, "labs/masters/one.ipynb", 'claim("a", x, "<", 1)')
    found = claims.in_notebooks(tmp_path)
    assert [(one.id, one.op, one.notebook, one.cell) for one in found] == [
        ("a", "<", "book/one.ipynb", "cell-0"),
        ("b", ">", "book/one.ipynb", "cell-0"),
        ("c", "==", "labs/one.ipynb", "cell-0"),
    ]


def test_an_id_stands_once(tmp_path):
    write(tmp_path, "book/one.ipynb", 'claim("a", x, "<", 1)')
    write(tmp_path, "labs/one.ipynb", 'claim("a", y, "<", 1)')
    with pytest.raises(ValueError, match=r"a stands more than once: book/one.ipynb, cell cell-0; labs/one.ipynb"):
        claims.in_notebooks(tmp_path)


@pytest.mark.parametrize("source", ['claim(name, x, "<", 1)', 'claim(f"a-{i}", x, "<", 1)', 'claim("a", x, op, 1)'])
def test_an_id_and_an_operator_are_written_out(tmp_path, source):
    write(tmp_path, "book/one.ipynb", source)
    with pytest.raises(ValueError, match="plain strings"):
        claims.in_notebooks(tmp_path)


def test_claims_of_this_book():
    found = claims.in_notebooks(ROOT)
    assert found, "no notebook states a claim"
    assert all(claims.ID.fullmatch(one.id) and one.op in claims.OPERATORS for one in found)


# The package's own names


def test_functions_stay_functions_whatever_is_imported_first():
    for first in ("import lablib.teaching.doctor", "import lablib.teaching.checks", "pass"):
        names = "check, claim, doctor"
        program = f"{first}\nfrom lablib.teaching import {names}\nassert all(map(callable, ({names})))"
        subprocess.run([sys.executable, "-c", program], check=True)


def test_importing_the_package_is_light():
    program = "import sys, lablib.teaching as t; assert 'matplotlib' not in sys.modules and 'claim' in dir(t)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_name_is_refused_with_those_there_are():
    import lablib.teaching

    with pytest.raises(AttributeError, match=r"has no 'clam'; it has .*claim"):
        lablib.teaching.clam  # noqa: B018
