"""The published algorithm, re-written, is the one whose figures are known; and the stored results are what they say."""

import itertools
import json

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lablib import FenchelLiftedNetwork
from tests.results import fenchel_digits, fenchel_published
from tests.results.fenchel_experiment import FOLDER, run, split, table


def stored(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def mean(runs, key):
    return sum(key(one) for one in runs) / len(runs)


# ---- the published algorithm ----


def test_the_re_written_algorithm_reproduces_the_known_figures():
    """One seed, 64 batches of 500: .9405 on 2,000 test images, whose standard error is .005."""
    record = stored("fenchel-published")
    known, found = record["reference"], record["runs"][0]["rows"][-1]
    assert found["batch"] == known["batches"] == 64
    assert found["test"] == pytest.approx(known["test"], abs=0.003)
    assert found["train"] == pytest.approx(known["train"], abs=0.002)
    assert found["evaluations"] == pytest.approx(known["evaluations"], rel=0.02)
    assert mean(record["runs"], lambda one: one["rows"][-1]["test"]) == pytest.approx(known["test"], abs=0.003)


@pytest.fixture(scope="module")
def short_run():
    return fenchel_digits.published_run()


def test_a_short_part_of_it_runs_as_stored(short_run):
    """How often the line search asks hangs on rounding: another processor asked 973 times where this record has 802."""
    expected = {row["batch"]: row for row in stored("fenchel-digits")["published"]["rows"]}
    for batch, row in expected.items():
        now = short_run[batch - 1]
        assert now["train"] == pytest.approx(row["train"], abs=0.01)
        assert now["test"] == pytest.approx(row["test"], abs=0.02)
        assert now["evaluations"] == pytest.approx(row["evaluations"], rel=0.3)


FOUR = {"anchors": (10.0, 5.0, 20.0, 100.0), "factors": (1.0, 3.0, 0.5, 10.0)}


def as_lifted(layers, anchors, factors, monkeypatch, **options):
    """Return our network with the same weights, and the published problem in our units."""
    monkeypatch.setitem(fenchel_published.ANCHORS, "here", anchors)
    monkeypatch.setitem(fenchel_published.FACTORS, "here", factors)
    modules = [module for layer in layers for module in (layer, nn.ReLU())][:-1]
    given = fenchel_published.settings("here", 100)
    return FenchelLiftedNetwork.from_modules(modules, **given, **options)


def test_with_other_units_the_published_algorithm_decreases_one_objective(monkeypatch):
    """Its factors stand in one of its two steps only, and still both decrease the objective that `settings` names."""
    x, y = (t[:100] for t in split("digits")[:2])
    layers = fenchel_published.dense(0, (64, 20, 15, 12, 10))
    start = as_lifted(layers, **FOUR, monkeypatch=monkeypatch)
    before, target = [layer.matrix() for layer in start.layers], nn.functional.one_hot(y, 10).float()
    values = []

    def watch(xs):
        weights = [torch.cat([layer.weight, layer.bias.unsqueeze(1)], 1).detach().T for layer in layers]
        values.append(start.lifted_objective([*xs, target], weights, before)[0])

    fenchel_published.train_batch(layers, x, y, **FOUR, watch=watch)
    assert len(values) == 1 + 3 + 4
    assert all(b < a for a, b in itertools.pairwise(values)), values
    assert values[-1] < 0.7 * values[0]


def test_ours_solves_the_published_problem(monkeypatch):
    """After one batch, with many inner steps, our weights are those of L-BFGS-B."""
    x, y = (t[:100] for t in split("digits")[:2])
    layers = fenchel_published.digits(0)
    problem = {"anchors": fenchel_published.ANCHORS["digits"], "factors": fenchel_published.FACTORS["digits"]}
    net = as_lifted(layers, **problem, monkeypatch=monkeypatch, x_steps=300, w_steps=300)
    before = [layer.matrix() for layer in net.layers]
    net.fit(x, y, epochs=1, batch_size=100, progress=False)
    fenchel_published.train_batch(layers, x, y, **problem)
    for layer, other, old in zip(net.layers, layers, before, strict=True):
        moved = (layer.core.weight - other.weight).norm() / (layer.core.weight - old[:-1].T).norm()
        assert moved < 0.02
        assert_close(layer.core.bias, other.bias, rtol=0.02, atol=2e-3)


# ---- the experiments ----


@pytest.mark.parametrize("method", ["Adam", "SGD", "lifted", "lifted, published constants"])
def test_a_short_part_of_the_experiment_runs_as_stored(method):
    record = stored("fenchel-digits")
    torch.set_num_threads(1)
    now = run(method, "digits", 0, split("digits"), record["passes"], record["chosen"][method])
    then = record["runs"][method][0]
    assert now["train"] == pytest.approx(then["train"], abs=0.02)
    for passes in (1, record["passes"]):
        assert now["test"][passes - 1] == pytest.approx(then["test"][passes - 1], abs=0.03)


@pytest.mark.parametrize("name", ["fenchel-digits", "fenchel-mnist", "fenchel-lenet"])
def test_a_record_is_complete_and_its_choice_is_the_best_on_validation(name):
    if not (FOLDER / f"{name}.json").is_file():
        pytest.fail(f"no record: make results NAME={name}")
    record = stored(name)
    assert record["command"] == f"make results NAME={name}" and record["minutes"] >= 0 and record["machine"]["torch"]
    for method, tuned in record["tuned"].items():
        best = max(tuned["tried"], key=lambda one: one["validation"])
        assert tuned["options"] == best["options"] == record["chosen"][method]
    if name != "fenchel-digits":
        assert len(record["tuned"]["Adam"]["tried"]) >= 8 <= len(record["tuned"]["SGD"]["tried"])
    for runs in record["runs"].values():
        assert [one["seed"] for one in runs] == record["seeds"] == [0, 1, 2]
        assert all(len(one["test"]) >= record["passes"] for one in runs)


def test_equal_time_counts_the_last_whole_pass():
    ours = [{"test": [0.5, 0.6], "seconds": [5.0, 10.0]}] * 2
    quick = [{"test": [0.1, 0.2, 0.3], "seconds": [4.0, 8.0, 12.0]}] * 2
    rows = table({"runs": {"lifted": ours, "SGD": quick}}, (1, 2))
    assert rows[1]["equal time"][0] == 0.2 and rows[0]["equal time"][0] == 0.6
    assert rows[0]["2 passes"][0] == 0.6 and rows[1]["seconds per pass"] == 4.0


def test_ours_is_as_accurate_as_the_published_solver_after_64_batches():
    """With the published constants, over three seeds, within 0.3 points."""
    published = mean(stored("fenchel-published")["runs"], lambda one: one["rows"][-1]["test"])
    ours = mean(stored("fenchel-mnist")["runs"]["lifted, published constants"], lambda one: one["test"][3])
    assert abs(ours - published) <= 0.003
