"""Another method, then the augmented Lagrangian for long: a low objective at the accuracy of the first?

It begins at the solutions of ProxSGD, and at those of Adam tuned for accuracy, of `group-sparse-mnist` (made again
here, with the settings in that record). The first rho and the number of outer iterations are chosen on the first seed:
the lowest objective among all whose accuracy on the validation images is within two points of the start. Then all three
seeds. The rule is the aim itself, with validation images for test images. The grid of rho, and Adam as a second start,
were taken up after runs in which test accuracies were seen.

    make results NAME=group-sparse-combination      # minutes; after make results NAME=group-sparse-mnist
"""

from __future__ import annotations

import json
import time

import torch

from lablib.augmented import GroupSparseNetwork
from lablib.teaching.status import machine

from .group_sparse_experiment import FOLDER, MNIST, by_multipliers, certificate, grid, mnist_split
from .group_sparse_mnist import METHODS, PENALTY, SEEDS, full, run, say

NAME = "group-sparse-combination"
RHO = grid(rho=(0.03, 0.06, 0.1, 0.2, 0.3, 1.0, 3.0))
LONG, EVERY, NEAR = 160, 20, 0.02
STARTS = {"ProxSGD": "ProxSGD", "Adam, tuned for accuracy": "Adam"}
"""Settings in that record to start with, and whose they are."""


def go_on(net: GroupSparseNetwork, options: dict, parts: dict, epochs: int) -> tuple:
    """Go on from a solution with the augmented Lagrangian; return network and rows."""
    twin = GroupSparseNetwork.from_modules(full(net), PENALTY, **options)
    return twin, by_multipliers(twin, parts, epochs=epochs, every=EVERY)


def choose(tried: list[dict], before: dict) -> dict:
    """Return the lowest objective among what is nearly as accurate as before, on validation images."""
    return min(
        (one for one in tried if one["validation"] >= before["validation"] - NEAR), key=lambda one: one["objective"]
    )


def main() -> None:
    """Train by each method, tune, go on, and write the record."""
    torch.set_num_threads(1)
    begin = time.monotonic()
    parts = mnist_split()
    hidden = {name: part for name, part in parts.items() if name != "test"}
    settings = json.loads((FOLDER / "group-sparse-mnist.json").read_text(encoding="utf-8"))["tuned"]
    record: dict = {"command": f"make results NAME={NAME}", "data": MNIST, "seeds": list(SEEDS), "machine": machine()}
    record |= {"clock": "seconds of the processor, one thread, without those of the start", "tuned": {}, "runs": {}}
    for name, method in STARTS.items():
        epochs = METHODS[method]["epochs"]
        starts = [run(method, settings[name]["options"], seed, parts, epochs, epochs) for seed in SEEDS]
        tried = []
        for one in RHO:
            for row in go_on(starts[0][0], one, hidden, LONG)[1][1:]:
                tried.append({"options": one, **{key: row[key] for key in ("epoch", "objective", "validation")}})
            say(name, tried[-1])
        chosen, runs = choose(tried, starts[0][1][-1]), []
        for seed, (net, before) in zip(SEEDS, starts, strict=True):
            net, rows = go_on(net, chosen["options"], parts, chosen["epoch"])
            at = {point: certificate(net, parts["train"], point) for point in ("network", "iterate")}
            runs.append({"seed": seed, "before": before[-1], "rows": rows, "certificates": at})
            say(name, seed, before[-1], rows[-1])
        record["tuned"][name], record["runs"][name] = {"chosen": chosen, "tried": tried}, runs
    record["minutes"] = round((time.monotonic() - begin) / 60, 1)
    (FOLDER / f"{NAME}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
