"""Which inputs matter? A teacher network that says it, and a table of measurements with irrelevant columns added.

Teacher: 50 inputs of which 10 matter, eight leaky-ReLU units, noise; 300 samples train, 200 are for validation. Table:
scikit-learn's breast cancer, its 30 columns and 30 more that are shuffled copies of them, so that nothing but their
order is wrong; 300 samples train, 100 are for validation, 169 test. Five seeds: teacher, first weights, split, shuffle.

Each method has eight penalties and two learning rates (values of rho for ours). All choose by one rule: fewest inputs
among what is within .01 of the best validation score. A column counts as zero below a share of the longest one, and the
share is chosen by the same rule. "exact" is what is chosen with share 0, where only columns that are zero count.

    make results NAME=group-sparse-support      # minutes
"""

from __future__ import annotations

import json
import statistics
import time

import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor

from lablib.augmented import GroupSparseNetwork
from lablib.teaching.status import machine

from .group_sparse_experiment import FOLDER, by_gradient, by_multipliers, f1, grid, start, teacher, thresholded

NAME = "group-sparse-support"
SEEDS = (0, 1, 2, 3, 4)
SLOPE = 0.1
PENALTIES = (0.001, 0.003, 0.006, 0.01, 0.02, 0.04, 0.07, 0.12)
SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
RATES = {"augmented Lagrangian": (1.0, 3.0), "ProxSGD": (0.05, 0.2), "Adam": (0.003, 0.01)}
EPOCHS = {"augmented Lagrangian": 60, "ProxSGD": 150, "Adam": 150}
NEAR = 0.01


def teacher_parts(seed: int) -> tuple[dict, Tensor, tuple[int, ...]]:
    """Return samples, the inputs that matter, and the student's widths."""
    x, y, support = teacher(seed, 1000)
    parts = {"train": (x[:300], y[:300]), "validation": (x[300:500], y[300:500]), "test": (x[500:], y[500:])}
    return parts, support, (50, 16, 1)


def table_parts(seed: int) -> tuple[dict, Tensor, tuple[int, ...]]:
    """Return samples of the table, standardised by the training part; its first 30 columns are real."""
    found = load_breast_cancer()
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.tensor(found.data), torch.tensor(found.target)
    shuffled = torch.stack([column[torch.randperm(len(x), generator=generator)] for column in x.T], 1)
    order = torch.randperm(len(x), generator=generator)
    x, y = torch.cat([x, shuffled], 1)[order], y[order]
    x = (x - x[:300].mean(0)) / x[:300].std(0)
    parts = {"train": (x[:300], y[:300]), "validation": (x[300:400], y[300:400]), "test": (x[400:], y[400:])}
    return parts, torch.arange(30), (60, 16, 2)


SETS = {"teacher": teacher_parts, "table": table_parts}


def candidates(method: str, parts: dict, widths: tuple[int, ...], seed: int) -> list[dict]:
    """Train with all settings; return for each its validation and test scores and the inputs that it found."""
    out = []
    for setting in grid(penalty=PENALTIES, rate=RATES[method]):
        options = {"rho": setting["rate"], "pair_steps": 5} if method == "augmented Lagrangian" else {}
        net = start(widths, seed, 1.0, SLOPE, setting["penalty"], dtype=torch.float64, **options)
        epochs = EPOCHS[method]
        if method == "augmented Lagrangian":
            by_multipliers(net, {"train": parts["train"]}, epochs=epochs, every=epochs)
        else:
            kind, how = ("Adam" if method == "Adam" else "prox"), {"batch": 32, "seed": seed, "every": epochs}
            by_gradient(net, {"train": parts["train"]}, kind=kind, lr=setting["rate"], epochs=epochs, **how)
        for share in SHARES:
            pruned = only(net, thresholded(net, share))
            found = pruned.live_inputs()
            scores = {name: pruned.score(*parts[name]) for name in ("validation", "test")}
            out.append({**setting, "share": share, **scores, "found": found.tolist()})
    return out


def only(net: GroupSparseNetwork, inputs: Tensor) -> GroupSparseNetwork:
    """Return a copy that hears these inputs alone."""
    twin = start(
        [net.layers[0].in_features, *(l.out_features for l in net.layers)], 0, 1.0, SLOPE, 0.0, dtype=torch.float64
    )
    twin.load_state_dict(net.state_dict())
    dead = torch.ones(net.layers[0].in_features, dtype=torch.bool)
    dead[inputs] = False
    with torch.no_grad():
        twin.layers[0].weight[:, dead] = 0
    return twin


def choose(tried: list[dict]) -> dict:
    """Return the setting with the fewest inputs among those within `NEAR` of the best validation score."""
    limit = max(one["validation"] for one in tried) - NEAR
    return min((one for one in tried if one["validation"] >= limit), key=lambda o: (len(o["found"]), -o["validation"]))


def run(name: str, seed: int, methods: tuple[str, ...] = tuple(RATES)) -> dict:
    """Return for each method what it chose, and how well that is the truth."""
    parts, support, widths = SETS[name](seed)
    out = {}
    for method in methods:
        begin = time.process_time()
        tried = candidates(method, parts, widths, seed)
        out[method] = {"seconds": round(time.process_time() - begin, 2)}
        for name_, some in (("thresholded", tried), ("exact", [one for one in tried if one["share"] == 0])):
            chosen = choose(some)
            truth, found = set(support.tolist()), set(chosen["found"])
            scores = {"F1": f1(torch.tensor(chosen["found"]), support), "true": len(found & truth)}
            best = max(f1(torch.tensor(one["found"]), support) for one in some)
            out[method][name_] = {**chosen, **scores, "false": len(found - truth), "best F1 of all settings": best}
    return {"seed": seed, "support": support.tolist(), "methods": out}


def main() -> None:
    """Run both sets and write the record."""
    torch.set_num_threads(1)
    begin = time.monotonic()
    record: dict = {"command": f"make results NAME={NAME}", "seeds": list(SEEDS)}
    for name in SETS:
        runs = [run(name, seed) for seed in SEEDS]
        record[name] = {
            "runs": runs,
            "mean": {
                how: {
                    method: {
                        key: statistics.fmean(one["methods"][method][how][key] for one in runs)
                        for key in ("F1", "best F1 of all settings", "true", "false", "test")
                    }
                    for method in RATES
                }
                for how in ("thresholded", "exact")
            },
        }
        print(name, json.dumps(record[name]["mean"], indent=1), flush=True)
    record |= {"columns": load_breast_cancer().feature_names.tolist(), "machine": machine()}
    record["minutes"] = round((time.monotonic() - begin) / 60, 1)
    (FOLDER / f"{NAME}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
