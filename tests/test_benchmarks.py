"""The benchmark runs, and its page and its verdicts say what its record says. Times are never asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.benchmarks import area as areas
from tests.benchmarks import fenchel_lifting, measure, page, polyhedra, saddle_point, simple_sets

ROOT = Path(__file__).resolve().parents[1]
ALL = areas.names()


def test_every_module_is_an_area_or_shared():
    modules = {path.stem for path in (ROOT / "tests" / "benchmarks").glob("*.py")}
    assert modules - {"__init__", "__main__", "area", "measure", "page"} == set(ALL)
    assert [areas.load(name).name for name in ALL] == ALL


@pytest.mark.parametrize("name", ALL)
def test_a_quick_run_measures_and_finds_our_answers_right(name, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", name, "--quick", "--out", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / page.record_of(ROOT, name).name).read_text())
    area = areas.load(name)
    assert len(record["cases"]) == len(area.cases("cases", True)) > 0
    for case in record["cases"]:
        assert measure.of(case, measure.OWN)["exact"], case
        assert all(tool["step_ms"] > 0 for tool in case["tools"] if not {"missing", "failed"} & tool.keys())
    assert {one["peer"] for one in record["summary"]} <= {t["name"] for case in record["cases"] for t in case["tools"]}


def test_the_textbook_is_exact():
    case = simple_sets.measure_case({"set": "l1", "case": "sparse", "n": 20}, "cases", seed=0, device="cpu", quick=True)
    assert measure.of(case, "plain torch sort")["exact"]


@pytest.mark.parametrize("kind", ["simplex", "l1"])
@pytest.mark.parametrize("case", ["sparse", "dense"])
def test_the_cases_are_what_they_are_called(kind, case):
    y, v = simple_sets.numbers(kind, case, 1000, seed=3)
    x, _ = simple_sets.reference(kind, y, v)
    share = float((x != 0).double().mean())
    assert share < 0.01 if case == "sparse" else 0.7 < share < 0.9


@pytest.mark.parametrize("kind", ["simplex", "l1"])
def test_the_check_refuses_a_wrong_answer_and_a_wrong_gradient(kind):
    y, v = simple_sets.numbers(kind, "sparse", 20, seed=0)
    right = simple_sets.reference(kind, y, v)
    said = simple_sets.check(kind, right, right)
    assert said["error"] == 0 == said["product_error"]
    assert said["violation"] < 1e-12
    assert said["exact"]
    wrong = simple_sets.check(kind, (right[0] * 1.01, right[1]), right)
    assert wrong["error"] > simple_sets.ANSWER
    assert wrong["violation"] > 1e-3
    assert not wrong["exact"]
    flat = simple_sets.check(kind, (right[0], torch.zeros_like(v)), right)
    assert flat["product_error"] == 1
    assert not flat["exact"]


def test_the_check_refuses_a_batch_that_is_not_solved():
    layers, x, labels = fenchel_lifting.problem([64, 32, 10], 100, seed=0)
    start, after, values = fenchel_lifting.own_batch(layers, x, labels)()[0]
    known = fenchel_lifting.value(start, after, values, labels)
    assert fenchel_lifting.check((start, after, values), labels, known)["exact"]
    said = fenchel_lifting.check((start, start, values), labels, known)
    assert said["above"] > 0.1
    assert not said["exact"]


def test_the_check_refuses_multipliers_that_miss_a_row_of_one_pattern():
    u, y, A = saddle_point.numbers("noise", 20, 10, 4, seed=0)
    right = saddle_point.own(u, y, A)()[0]
    assert saddle_point.check(right, u, y, A)["exact"]
    wrong = right.clone()
    wrong[7, 2] += 1e-4
    said = saddle_point.check(wrong, u, y, A)
    assert said["violation"] > saddle_point.VIOLATION
    assert not said["exact"]


def test_the_published_loop_goes_on_to_the_violation_that_is_compared():
    u, y, A = saddle_point.numbers("noise", 50, 10, 4, seed=0)
    for make in (saddle_point.published, saddle_point.bare):
        assert saddle_point.check(make(u, y, A)()[0], u, y, A)["exact"]
    loose = saddle_point.xor.published(u, y, A, torch.zeros(50, 4).double()).multipliers
    assert not saddle_point.check(loose, u, y, A)["exact"]


@pytest.mark.parametrize(
    "data", [polyhedra.polyhedron(20, 3, 10, 2, 0), polyhedra.birkhoff(4, 2, 0)], ids=["rows", "4"]
)
def test_the_check_refuses_a_wrong_projection_and_a_wrong_product(data):
    v = polyhedra.cotangent(data["y"], 0)
    right = polyhedra.reference(data, v)
    x, product = map(torch.tensor, right)
    assert polyhedra.check((x, product), right, v)["exact"]
    assert not polyhedra.check((x + 1e-5, product), right, v)["exact"]
    assert not polyhedra.check((x, v), right, v)["exact"], "the cotangent itself is no projection of it"


def test_an_inexact_or_composed_tool_is_never_the_fastest_peer():
    def tool(name, ratio, **more):
        return {"name": name, "ratios": [ratio] * 5, **more}

    tools = [{"name": "lablib", "exact": True}, tool("wrong", 0.5, exact=False), tool("torch.softmax", 0.1)]
    tools += [tool("made up", 2.0, exact=True, composed=True), tool("right", 4.0, exact=True)]
    tools += [tool("slower", 9.0, exact=True)]
    case = {"tools": tools}
    (one,) = measure.summarize([case], lambda case: "a case", lambda case: 3.0)
    assert (one["case"], one["peer"], one["ratio"], one["goal"]) == ("a case", "right", 4.0, 3.0)
    assert measure.summarize([case], lambda case: "a case", lambda case: None) == []
    (one,) = measure.summarize([case], lambda case: "a case", lambda case: 3.0, "slower")
    assert (one["peer"], one["ratio"]) == ("slower", 9.0)
    tools[0]["exact"] = False
    assert measure.summarize([case], lambda case: "a case", lambda case: 3.0)[0]["ratio"] == 0


def test_a_tool_that_is_missing_or_fails_keeps_a_row_that_says_so():
    def missing():
        raise ImportError("No module named 'gone'")

    def fails():
        return lambda: 1 / 0

    def works():
        return lambda: (2, {"forward": 1e-3, "backward": 2e-3})

    check = {"check": lambda answer: {"exact": answer == 2}}
    entries = [
        measure.Entry({"name": name}, make, **check) for name, make in (("a", missing), ("b", fails), ("c", works))
    ]
    a, b, c = measure.in_turns(entries, 0.0)
    assert a == {"name": "a", "missing": "No module named 'gone'"}
    assert b == {"name": "b", "failed": "ZeroDivisionError: division by zero"}
    assert c["exact"]
    assert [c["forward_ms"], c["backward_ms"], c["step_ms"]] == pytest.approx([1, 2, 3])


def test_several_processes_give_medians_largest_errors_and_ratios_of_their_own():
    def one(own, rival, error, exact):
        row = {"name": "rival", "step_ms": rival, "error": error, "exact": exact, "turns": 3}
        return [{"n": 7, "tools": [{"name": "lablib", "step_ms": own, "exact": True}, row]}]

    (case,) = measure.together([one(1.0, 4.0, 1e-9, True), one(2.0, 4.0, 3e-9, False), one(1.0, 5.0, 2e-9, True)])
    assert case["n"] == 7
    assert case["tools"][0] == {"name": "lablib", "step_ms": 1.0, "exact": True}
    rival = {"name": "rival", "step_ms": 4.0, "error": 3e-9, "exact": False, "ratios": [2.0, 4.0, 5.0]}
    assert case["tools"][1] == rival


def test_the_figure_is_the_lower_quartile_and_the_slope_is_fitted():
    assert measure.lower_quartile([5.0, 1.0, 4.0, 2.0, 3.0]) == 2.0
    assert measure.slope([10, 100, 1000], [2.0, 20.0, 200.0]) == pytest.approx(1.0)


def test_page_and_records_agree():
    records = page.read_records(ROOT)
    assert list(records) == ALL, "each area has a record: make bench AREA=..."
    text = (ROOT / page.PAGE).read_text(encoding="utf-8")
    assert text == page.text(records), "python -m tests.benchmarks --page writes it again"
    summaries = [one for record in records.values() for one in record["summary"]]
    assert text.count("**not met**") == sum(one["ratio"] < one["goal"] for one in summaries)


@pytest.mark.parametrize("name", ALL)
def test_a_record_is_whole_right_and_not_about_somebodys_machine(name):
    text = page.record_of(ROOT, name).read_text(encoding="utf-8")
    record, area = json.loads(text), areas.load(name)
    assert (record["area"], record["title"]) == (name, area.title)
    assert record["summary"] == measure.summarize(record["cases"], area.label, area.goal, area.rival)
    planned = area.cases("cases", False)
    measured = zip(planned, record["cases"], strict=True)
    assert [{key: case[key] for key in wanted} for wanted, case in measured] == planned
    assert all(measure.of(case, measure.OWN)["exact"] for case in record["cases"])
    assert len(record["summary"]) == sum(area.goal(case) is not None for case in planned) > 0
    assert record["environment"]["versions"]["torch"]
    assert record["environment"]["processor"]
    assert record["processes"] == 5
    assert not any(sign in text for sign in ("/home", "/root", "/tmp", "/work", "://"))
