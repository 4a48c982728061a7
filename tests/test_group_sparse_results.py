"""The released schedule, re-written, is the one whose figures are known; and the stored results are what they say."""

import json
import statistics

import pytest
import torch
from sklearn.datasets import load_digits

from tests.results import group_sparse_experiment as shared
from tests.results import group_sparse_published as published
from tests.results import group_sparse_support
from tests.results.group_sparse_combination import EVERY, LONG, RHO, choose
from tests.results.group_sparse_mnist import CHOICES, METHODS, best, run

RECORDS = ("group-sparse-published", "group-sparse-mnist", "group-sparse-combination", "group-sparse-support")


def stored(name):
    return json.loads((shared.FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def mean(runs, key):
    return statistics.fmean(one["rows"][-1][key] for one in runs)


@pytest.fixture(scope="module")
def digits():
    found = load_digits()
    x, y = torch.tensor(found.data / 16, dtype=torch.float32).round(), torch.tensor(found.target)
    return {"train": (x[:500], y[:500]), "validation": (x[500:700], y[500:700]), "test": (x[700:900], y[700:900])}


# ---- the released schedule ----


def test_the_re_written_schedule_reproduces_the_known_figures():
    """The subset of MNIST is drawn by the same rule from other files, and the first weights are others."""
    known, rows = stored("group-sparse-published")["reference"], stored("group-sparse-published")["runs"][0]["rows"]
    at = {str(row["k"]): row for row in rows} | {"last": rows[-1]}
    for k in ("5", "10", "20"):
        assert at[k]["fit"] == pytest.approx(known["fit"][k], rel=0.12)
    for k in ("50", "100"):
        assert at[k]["fit"] == pytest.approx(known["fit"][k], abs=1e-3)
    for k, accuracy in known["train"].items():
        assert at[k]["train"] == pytest.approx(accuracy, abs=0.01)
    for k, accuracy in known["test"].items():
        assert at[k]["test"] == pytest.approx(accuracy, abs=0.03)  # 200 images: a standard error is .025
    assert len(rows) == pytest.approx(known["outer iterations"], abs=8)
    assert at["last"]["zero"] == pytest.approx(known["zero groups"], abs=10)
    assert at["last"]["objective"] == pytest.approx(known["objective"]["last"], rel=0.15)
    assert at["last"]["objective"] > 1.05 * min(row["objective"] for row in rows), "it does not return its best"


def test_the_released_closed_form_is_feasible_and_not_always_the_minimum():
    p, q = 2 * torch.randn(2, 50_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    from lablib import activation_step

    def value(v, u, a, b):
        return a / 2 * (v - p).square() + b / 2 * (u - q).square() + v - u.clamp(min=0)

    for a, b, share in ((2.0, 1.0, 1.45e-3), (5.0, 0.2, 1.3e-2), (1.0, 1.0, 2e-4)):
        v, u = published.pair(p, q, a, b)
        assert bool((v >= u.clamp(min=0)).all())
        worse = value(v, u, a, b) > value(*activation_step(p, q, a, b), a, b) + 1e-9
        assert 0.2 * share < float(worse.double().mean()) < 5 * share
        assert bool((value(*activation_step(p, q, a, b), a, b) <= value(v, u, a, b) + 1e-9).all())


def test_ours_reaches_a_lower_objective_than_the_re_written_schedule_on_digits(digits):
    x, y = digits["train"]
    rows = published.run(0, (x, y, *digits["test"]), most=60)["rows"]
    net = shared.start((64, 200, 10), 0, 0.28, 0.0, 1 / (2 * len(x)), rho=0.3)
    net.fit(x, y, epochs=25, tol=0.0, progress=False)
    assert rows[0]["objective"] > 2 * rows[-1]["objective"]
    assert net.objective(x, y) < min(row["objective"] for row in rows)


# ---- the experiment ----


def test_every_method_decreases_the_same_objective(digits):
    for kind, lr, batch in (("prox", 0.1, 64), ("Adam", 1e-3, 64), ("prox", 0.1, None)):
        net = shared.start((64, 20, 10), 0, 1.0, 0.0, 1e-3)
        before = net.objective(*digits["train"])
        rows = shared.by_gradient(net, digits, kind=kind, lr=lr, batch=batch, epochs=8, seed=0, every=4)
        assert rows[0]["objective"] == before > rows[1]["objective"] > rows[2]["objective"]
        assert rows[-1]["objective"] == net.objective(*digits["train"])
    rows = shared.by_multipliers(shared.start((64, 20, 10), 0, 1.0, 0.0, 1e-3), digits, epochs=4)
    assert [row["objective"] for row in rows] == sorted((row["objective"] for row in rows), reverse=True)


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_says_how_it_is_made_again(name):
    record = stored(name)
    assert record["command"] == f"make results NAME={name}"
    assert record["minutes"] > 0 and record["machine"]["torch"] and record["seeds"]


def test_the_choices_of_the_record_are_the_best_of_what_was_tried():
    tuned = stored("group-sparse-mnist")["tuned"]
    for method, plan in METHODS.items():
        tried = tuned[method]["tried"]
        assert [one["options"] for one in tried] == plan["grid"] and len(tried) >= 8
        assert tuned[method]["options"] == min(tried, key=lambda one: one["objective"])["options"]
        other = tuned.get(method + CHOICES["validation"])
        assert other is None or other["options"] == best(tried)["options"]


def test_who_wins_at_what_is_as_the_chapter_says():
    """Ours has the lowest objective, the most zero groups and the smallest residual; the others are more accurate."""
    runs = stored("group-sparse-mnist")["runs"]
    ours, rivals = runs["augmented Lagrangian"], [runs[name] for name in ("ProxSGD", "Adam", "proximal gradient")]
    for rival in rivals:
        assert mean(ours, "objective") < min(one["rows"][-1]["objective"] for one in rival)
        assert mean(ours, "test") < max(one["rows"][-1]["test"] for one in rival)
    zeros = [statistics.fmean(sum(one["rows"][-1]["zero"]) for one in some) for some in (ours, *rivals)]
    assert zeros[0] > max(zeros[1:])
    residuals = [statistics.fmean(one["certificate"]["weights"] for one in some) for some in (ours, *rivals)]
    assert residuals[0] < min(residuals[1:])
    assert all([one["seed"] for one in some] == [0, 1, 2] for some in runs.values())


def test_the_combination_lowers_the_objective_and_reaches_the_aim_on_one_seed():
    """The aim was an objective below .031 at a test accuracy within two points of ProxSGD's best."""
    record, rival = stored("group-sparse-combination"), stored("group-sparse-mnist")["runs"]["ProxSGD"]
    best_start = max(round(200 * one["rows"][-1]["test"]) for one in rival)
    for start, runs in record["runs"].items():
        tuned = record["tuned"][start]
        assert choose(tuned["tried"], runs[0]["before"]) == tuned["chosen"]
        assert [one["options"]["rho"] for one in tuned["tried"][:: LONG // EVERY]] == [one["rho"] for one in RHO]
        assert all(one["rows"][-1]["objective"] < 0.8 * one["before"]["objective"] for one in runs)
        assert all(sum(one["rows"][-1]["zero"]) > 1.4 * sum(one["before"]["zero"]) for one in runs)
        rows = [one["rows"][-1] for one in runs]
        hits = [row["objective"] < 0.031 and round(200 * row["test"]) >= best_start - 4 for row in rows]
        assert hits.count(True) == (1 if start == "ProxSGD" else 0)


def test_the_choice_of_the_combination_is_the_aim_itself():
    tried = [{"objective": o, "validation": v} for o, v in ((0.02, 0.7), (0.03, 0.89), (0.04, 0.95))]
    assert choose(tried, {"validation": 0.9}) == tried[1]


def test_the_choice_of_the_support_is_the_fewest_inputs_near_the_best_score():
    tried = [{"validation": v, "found": [0] * k} for v, k in ((0.9, 9), (0.895, 4), (0.892, 4), (0.88, 1))]
    assert group_sparse_support.choose(tried) == tried[1]


def test_support_is_recovered_with_a_threshold_and_not_by_zeros_alone():
    mean = stored("group-sparse-support")["teacher"]["mean"]
    ours = {how: mean[how]["augmented Lagrangian"]["F1"] for how in mean}
    assert ours["thresholded"] > 0.85 and ours["exact"] < 0.6
    assert all(ours["exact"] > mean["exact"][rival]["F1"] + 0.1 for rival in ("ProxSGD", "Adam"))


def test_a_short_part_of_the_experiment_runs_as_its_method_says(digits, monkeypatch):
    from tests.results import group_sparse_mnist

    monkeypatch.setattr(group_sparse_mnist, "WIDTHS", (64, 20, 10))
    monkeypatch.setattr(group_sparse_mnist, "PENALTY", 1e-3)
    for method in METHODS:
        options = METHODS[method]["grid"][0]
        net, rows = run(method, options, 1, digits, 4, 2)
        again, same = run(method, options, 1, digits, 4, 2)
        assert [row["objective"] for row in rows] == [row["objective"] for row in same], "a seed decides all"
        assert net.zero_groups() == again.zero_groups() == rows[-1]["zero"] and len(rows) == 3


# ---- support ----


def test_the_teacher_says_which_inputs_matter():
    x, y, support = shared.teacher(3, 400, noise=0.0)
    assert len(support) == 10 and y.shape == (400, 1)
    again = shared.teacher(3, 400, noise=0.0)
    assert torch.equal(again[1], y)
    others = [i for i in range(50) if i not in support.tolist()]
    centred = x - x.mean(0)
    gain = (centred.mT @ (y - y.mean())).abs().squeeze(1)
    assert gain[support].mean() > 3 * gain[others].mean()


def test_f1_counts_hits_against_both_sides():
    assert shared.f1(torch.tensor([1, 2, 3]), torch.tensor([2, 3, 4])) == pytest.approx(2 / 3)
    assert shared.f1(torch.tensor([], dtype=torch.int64), torch.tensor([2])) == 0
