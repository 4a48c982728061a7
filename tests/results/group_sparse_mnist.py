"""784-200-10 on 1,000 images: the augmented Lagrangian beside ProxSGD, Adam and proximal gradient, and with ProxSGD.

All minimise the released script's objective, with ReLU in both layers and its r_w = 1. Each method is tuned, with the
learning rate (rho for ours) and the scale of the first weights, in two ways: for the lowest objective, and for the best
accuracy on 500 validation images. Then three seeds. The combinations start from the solutions of lowest objective, and
are tuned on validation.

    make results NAME=group-sparse-mnist      # about twenty minutes on an idle core
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from lablib.augmented import GroupSparseNetwork
from lablib.teaching.status import machine

from .group_sparse_experiment import (
    FOLDER,
    MNIST,
    by_gradient,
    by_multipliers,
    certificate,
    grid,
    mnist_split,
    start,
)

NAME = "group-sparse-mnist"
WIDTHS, SLOPE, PENALTY = (784, 200, 10), 0.0, 1 / 2000
SEEDS = (0, 1, 2)
FIRST = (0.28, 1.0)
"""Standard deviations .01 and .036 for the first layer: the released script's, and one over the root of the inputs."""

METHODS = {
    "augmented Lagrangian": {"grid": grid(rho=(0.1, 0.3, 1.0, 3.0), first=FIRST), "search": 20, "epochs": 240},
    "ProxSGD": {
        "grid": grid(lr=(0.02, 0.05, 0.1, 0.2, 0.3, 0.5), first=FIRST),
        "fixed": {"kind": "prox", "batch": 64},
        "search": 60,
        "epochs": 600,
    },
    "Adam": {
        "grid": grid(lr=(3e-4, 1e-3, 3e-3, 1e-2), first=FIRST),
        "fixed": {"kind": "Adam", "batch": 64},
        "search": 60,
        "epochs": 300,
    },
    "proximal gradient": {
        "grid": grid(lr=(0.03, 0.1, 0.2, 0.4), first=FIRST),
        "fixed": {"kind": "prox", "batch": None},
        "search": 200,
        "epochs": 1000,
    },
}
FINISH = grid(lr=(0.02, 0.05, 0.1, 0.2))
"""Learning rates of the ProxSGD that ends the combination, 100 epochs."""
AGAIN = grid(rho=(0.3, 1.0, 3.0))
"""First rho of the augmented Lagrangian that starts from ProxSGD, 20 outer iterations."""


def run(method: str, options: dict, seed: int, parts: dict, epochs: int, every: int) -> tuple[GroupSparseNetwork, list]:
    """Train by one method from its first weights; return network and rows."""
    options = dict(options)
    first = options.pop("first")
    if method == "augmented Lagrangian":
        net = start(WIDTHS, seed, first, SLOPE, PENALTY, **options)
        return net, by_multipliers(net, parts, epochs=epochs, every=every)
    net = start(WIDTHS, seed, first, SLOPE, PENALTY)
    fixed = METHODS[method]["fixed"]
    return net, by_gradient(net, parts, seed=seed, epochs=epochs, every=every, **fixed, **options)


def finished(net: GroupSparseNetwork, options: dict, seed: int, parts: dict) -> tuple[GroupSparseNetwork, list]:
    """Go on from a solution with ProxSGD."""
    twin = GroupSparseNetwork.from_modules(full(net), PENALTY)
    return twin, by_gradient(twin, parts, kind="prox", batch=64, epochs=100, every=20, seed=seed, **options)


def again(net: GroupSparseNetwork, options: dict, seed: int, parts: dict) -> tuple[GroupSparseNetwork, list]:
    """Go on from a solution with the augmented Lagrangian; nothing in it is random."""
    twin = GroupSparseNetwork.from_modules(full(net), PENALTY, **options)
    return twin, by_multipliers(twin, parts, epochs=20, every=5)


def full(net: GroupSparseNetwork) -> list[torch.nn.Module]:
    """Return the layers of a network with all units."""
    return [module for layer in net.layers for module in (layer, torch.nn.ReLU())]


def best(tried: list[dict]) -> dict:
    """Return the setting with the best validation accuracy, and of equals the one with the lowest objective."""
    return max(tried, key=lambda one: (one["validation"], -one["objective"]))


def say(*words: object) -> None:
    """Report progress."""
    print(*words, file=sys.stderr, flush=True)


CHOICES = {"objective": "", "validation": ", tuned for accuracy"}
"""What a setting is chosen for, and what a method tuned for it is called."""


def search(method: str, parts: dict, kept: Path) -> list[dict]:
    """Return what all settings of a method scored; found ones are kept in a file, so that a stopped search goes on."""
    known = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    scored = {json.dumps(one["options"]): one for one in known if one["method"] == method}
    tried = []
    for options in METHODS[method]["grid"]:
        key = json.dumps(options)
        if key not in scored:
            epochs = METHODS[method]["search"]
            row = run(method, options, 0, parts, epochs, epochs)[1][-1]
            one = {"method": method, "options": options, "objective": row["objective"], "validation": row["validation"]}
            scored[key] = one
            kept.parent.mkdir(parents=True, exist_ok=True)
            with kept.open("a") as file:
                file.write(json.dumps(one) + "\n")
        tried.append({name: scored[key][name] for name in ("options", "objective", "validation")})
        say(method, tried[-1])
    return tried


def combine(name: str, source: list, choices: list[dict], go_on, parts: dict, hidden: dict) -> tuple[dict, list[dict]]:
    """Go on from another method's solutions: tune on the first seed's validation images, then run all seeds."""
    tried = []
    for options in choices:
        row = go_on(source[0], options, 0, hidden)[1][-1]
        tried.append({"options": options, **{key: row[key] for key in ("objective", "validation")}})
        say(name, tried[-1])
    chosen, runs = best(tried)["options"], []
    for seed, net in zip(SEEDS, source, strict=True):
        net, rows = go_on(net, chosen, seed, parts)
        runs.append({"seed": seed, "rows": rows, "certificate": certificate(net, parts["train"])})
        say(name, seed, rows[-1])
    return {"options": chosen, "tried": tried}, runs


def main() -> None:
    """Tune, run, combine and write the record."""
    torch.set_num_threads(1)
    begin = time.monotonic()
    parts = mnist_split()
    hidden = {name: part for name, part in parts.items() if name != "test"}
    kept = FOLDER.parents[1] / "_build" / "results" / f"{NAME}.jsonl"
    record: dict = {"command": f"make results NAME={NAME}", "data": MNIST, "seeds": list(SEEDS)}
    record |= {"machine": machine(), "clock": "seconds of the processor, one thread", "tuned": {}, "runs": {}}
    nets: dict[str, list] = {}

    def save() -> None:
        record["minutes"] = round((time.monotonic() - begin) / 60, 1)
        (FOLDER / f"{NAME}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    tried = {method: search(method, hidden, kept) for method in METHODS}
    chosen = {
        "objective": {method: min(all_, key=lambda one: one["objective"])["options"] for method, all_ in tried.items()},
        "validation": {method: best(all_)["options"] for method, all_ in tried.items()},
    }
    record["tuned"] = {method: {"epochs": METHODS[method]["search"], "tried": tried[method]} for method in METHODS}
    for aim, ending in CHOICES.items():
        for method, plan in METHODS.items():
            name, runs = method + ending, []
            nets[name] = []
            for seed in SEEDS:
                net, rows = run(method, chosen[aim][method], seed, parts, plan["epochs"], plan["epochs"] // 20)
                nets[name].append(net)
                one = {"seed": seed, "rows": rows, "certificate": certificate(net, parts["train"])}
                if method == "augmented Lagrangian":
                    one["certificate of the iterate"] = certificate(net, parts["train"], "iterate")
                runs.append(one)
                say(name, seed, rows[-1], one["certificate"])
            record["runs"][name] = runs
            record["tuned"][name] = record["tuned"].get(name, {}) | {"options": chosen[aim][method]}
            save()
        if aim == "objective":
            for name, source, choices, go_on in (
                ("augmented Lagrangian, then ProxSGD", "augmented Lagrangian", FINISH, finished),
                ("ProxSGD, then augmented Lagrangian", "ProxSGD", AGAIN, again),
            ):
                found = combine(name, nets[source], choices, go_on, parts, hidden)
                record["tuned"][name], record["runs"][name] = found
                save()
    kept.unlink(missing_ok=True)
