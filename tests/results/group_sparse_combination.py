"""ProxSGD, then the augmented Lagrangian for long: a low objective at the accuracy of the first?

It begins at ProxSGD's solutions of `group-sparse-mnist` (made again here, with the settings in that record). The first
rho is chosen on validation images after 20 outer iterations; then 160 of them, for three seeds.

    make results NAME=group-sparse-combination      # minutes; after make results NAME=group-sparse-mnist
"""

from __future__ import annotations

import json
import time

import torch

from lablib.augmented import GroupSparseNetwork
from lablib.teaching.status import machine

from .group_sparse_experiment import FOLDER, MNIST, by_multipliers, certificate, grid, mnist_split
from .group_sparse_mnist import METHODS, PENALTY, SEEDS, best, full, run, say

NAME = "group-sparse-combination"
RHO = grid(rho=(0.3, 1.0, 3.0))
SEARCH, LONG = 20, 160


def go_on(net: GroupSparseNetwork, options: dict, parts: dict, epochs: int, every: int) -> tuple:
    """Go on from a solution with the augmented Lagrangian; return network and rows."""
    twin = GroupSparseNetwork.from_modules(full(net), PENALTY, **options)
    return twin, by_multipliers(twin, parts, epochs=epochs, every=every)


def main() -> None:
    """Train by ProxSGD, tune, go on, and write the record."""
    torch.set_num_threads(1)
    begin = time.monotonic()
    parts = mnist_split()
    hidden = {name: part for name, part in parts.items() if name != "test"}
    options = json.loads((FOLDER / "group-sparse-mnist.json").read_text(encoding="utf-8"))["tuned"]["ProxSGD"][
        "options"
    ]
    epochs = METHODS["ProxSGD"]["epochs"]
    sources = [run("ProxSGD", options, seed, parts, epochs, epochs) for seed in SEEDS]
    tried = []
    for one in RHO:
        row = go_on(sources[0][0], one, hidden, SEARCH, SEARCH)[1][-1]
        tried.append({"options": one, **{key: row[key] for key in ("objective", "validation")}})
        say(tried[-1])
    chosen, runs = best(tried)["options"], []
    for seed, (net, before) in zip(SEEDS, sources, strict=True):
        net, rows = go_on(net, chosen, parts, LONG, LONG // 8)
        at = {name: certificate(net, parts["train"], name) for name in ("network", "iterate")}
        runs.append({"seed": seed, "before": before[-1], "rows": rows, "certificates": at})
        say(seed, before[-1], rows[-1])
    record = {
        "command": f"make results NAME={NAME}",
        "data": MNIST,
        "seeds": list(SEEDS),
        "minutes": round((time.monotonic() - begin) / 60, 1),
        "machine": machine(),
        "clock": "seconds of the processor, one thread, without those of ProxSGD",
        "tuned": {"options": chosen, "epochs": SEARCH, "tried": tried},
        "runs": runs,
    }
    (FOLDER / f"{NAME}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
