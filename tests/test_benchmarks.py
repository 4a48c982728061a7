"""The benchmark runs, and its page and its verdicts say what its record says. Times are never asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.benchmarks import __main__ as main
from tests.benchmarks import measure, page, peers

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "book" / "_data" / "benchmarks.json"


def test_a_quick_run_measures_and_finds_the_answers_right(tmp_path):
    out = tmp_path / "record.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--quick", "--out", str(out)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert len(record["cases"]) == 8
    for case in record["cases"]:
        rows = {tool["name"]: tool for tool in case["tools"]}
        assert rows["lablib"]["exact"], rows["lablib"]
        assert rows["plain torch sort"]["exact"], rows["plain torch sort"]
        assert all(tool["step_ms"] > 0 for tool in case["tools"] if not {"missing", "failed"} & tool.keys())
    assert {one["peer"] for one in record["summary"]} <= {tool.name for tool in peers.TOOLS}


@pytest.mark.parametrize("kind", ["simplex", "l1"])
@pytest.mark.parametrize("case", ["sparse", "dense"])
def test_the_cases_are_what_they_are_called(kind, case):
    y, v = measure.numbers(kind, case, 1000, seed=3)
    x, _ = measure.reference(kind, y, v)
    share = float((x != 0).double().mean())
    assert share < 0.01 if case == "sparse" else 0.7 < share < 0.9


@pytest.mark.parametrize("kind", ["simplex", "l1"])
def test_the_check_refuses_a_wrong_answer_and_a_wrong_gradient(kind):
    y, v = measure.numbers(kind, "sparse", 20, seed=0)
    right = measure.reference(kind, y, v)
    error, violation, product = measure.check(kind, *right, right)
    assert error == 0 == product
    assert violation < 1e-12
    assert measure.check(kind, right[0] * 1.01, right[1], right)[0] > measure.ANSWER
    assert measure.check(kind, right[0] * 1.01, right[1], right)[1] > 1e-3
    assert measure.check(kind, right[0], torch.zeros_like(v), right)[2] == 1


def test_an_inexact_or_composed_tool_is_never_the_fastest_peer():
    def tool(name, ratio, **more):
        return {"name": name, "ratios": [ratio] * 5, **more}

    tools = [{"name": "lablib", "exact": True}, tool("wrong", 0.5, exact=False), tool("torch.softmax", 0.1)]
    tools += [tool("made up", 2.0, exact=True, composed=True), tool("right", 4.0, exact=True)]
    tools += [tool("slower", 9.0, exact=True)]
    case = {"set": "simplex", "case": "dense", "n": 1000, "tools": tools}
    (one,) = main.summarize([case])
    assert (one["peer"], one["ratio"], one["goal"]) == ("right", 4.0, 3.0)
    tools[0]["exact"] = False
    assert main.summarize([case])[0]["ratio"] == 0


def test_the_figure_is_the_lower_quartile_and_the_slope_is_fitted():
    assert main.lower_quartile([5.0, 1.0, 4.0, 2.0, 3.0]) == 2.0
    assert measure.slope([10, 100, 1000], [2.0, 20.0, 200.0]) == pytest.approx(1.0)


@pytest.mark.skipif(not RECORD.exists(), reason="no record yet")
def test_page_and_record_agree():
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    text = (ROOT / page.PAGE).read_text(encoding="utf-8")
    assert text == page.text(record), "python -m tests.benchmarks --page writes it again"
    assert record["summary"] == main.summarize(record["cases"])
    assert all(tool["exact"] for case in record["cases"] for tool in case["tools"] if tool["name"] == peers.OWN)
    assert len(record["summary"]) == sum(map(len, main.GOALS.values()))
    missed = sum(one["ratio"] < one["goal"] for one in record["summary"])
    assert text.count("**not met**") == missed
    assert (ROOT / page.PICTURE).is_file()


@pytest.mark.skipif(not RECORD.exists(), reason="no record yet")
def test_the_record_says_where_it_was_made_but_not_on_whose_machine():
    text = RECORD.read_text(encoding="utf-8")
    record = json.loads(text)
    assert record["environment"]["versions"]["torch"]
    assert record["environment"]["processor"]
    assert record["processes"] == 5
    assert not any(sign in text for sign in ("/home", "/root", "/tmp", "/work", "://"))
