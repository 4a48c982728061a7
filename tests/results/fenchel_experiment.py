"""What the experiments on Fenchel lifting share: the split of MNIST, the rivals, the search, the record."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from lablib.fenchel import FenchelLiftedNetwork
from lablib.teaching import data
from lablib.teaching.status import machine

from . import fenchel_published as published

FOLDER = Path(__file__).resolve().parents[2] / "book" / "_data"
BATCH = {"dense": published.BATCH, "lenet": published.BATCH, "digits": 100}
SEEDS = (0, 1, 2)
_MNIST = "MNIST's test images: the first 8,000 train, 1,000 of them for validation; the last 2,000 test"
DATA = {
    "dense": _MNIST,
    "lenet": _MNIST,
    "digits": "scikit-learn's digits: the first 1,400 train, 175 of them for validation; the last 397 test",
    "sixty": "MNIST: 60,000 training images, 7,500 of them for validation; 10,000 test images",
}
OPTIMISERS = {"Adam": torch.optim.Adam, "SGD": torch.optim.SGD}


def split(kind: str, part: str = "test") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training and test samples with labels: the first 8,000 and the last 2,000 of MNIST's test images.

    With part="train": the 60,000 training images and all test images. LeNet-5 gets 32 x 32 images, padded with zeros.
    kind="digits": scikit-learn's digits, the first 1,400 and the last 397.
    """
    if kind == "digits":
        found = load_digits()
        x, y = torch.tensor(found.data / 16, dtype=torch.float32), torch.tensor(found.target)
        return x[:1400], y[:1400], x[1400:], y[1400:]

    def shaped(images: Tensor) -> Tensor:
        x = images.float() / 255
        return x.flatten(1) if kind == "dense" else pad(x.unsqueeze(1), (2, 2, 2, 2))

    images, labels = data.mnist("test")
    if part == "train":
        return *(f(t) for f, t in zip((shaped, lambda y: y), data.mnist("train"), strict=True)), shaped(images), labels
    return shaped(images[:8000]), labels[:8000], shaped(images[8000:]), labels[8000:]


def for_search(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the same without the test samples: the last eighth of the training samples is for validation."""
    x, y = parts[:2]
    cut = len(x) - len(x) // 8
    return x[:cut], y[:cut], x[cut:], y[cut:]


def plain(kind: str, seed: int) -> nn.Sequential:
    """Return the network as all methods start it."""
    modules: list[nn.Module] = []
    for layer in published.STARTS[kind](seed):
        modules += [*(layer if isinstance(layer, nn.Sequential) else [layer]), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def lifted(kind: str, seed: int, parts: tuple[Tensor, ...], passes: int, options: dict) -> dict:
    """Train our network; return its scores pass by pass, with the processor's seconds so far."""
    x, y, x_test, y_test = parts
    net = FenchelLiftedNetwork.from_modules(plain(kind, seed), seed=seed, **options)
    scores, seconds, spent = [], [], 0.0
    for _ in range(passes):
        begin = time.process_time()
        history = net.fit(x, y, epochs=1, batch_size=BATCH[kind], tol=0.0, progress=False)
        spent += time.process_time() - begin  # with the measuring of loss and accuracy that fit does
        scores.append(net.score(x_test, y_test))
        seconds.append(round(spent, 2))
    return {"seed": seed, "test": scores, "seconds": seconds, "train": history.rows[-1]["training accuracy"]}


def rival(name: str, kind: str, seed: int, parts: tuple[Tensor, ...], passes: int, options: dict) -> dict:
    """Train the same network by backpropagation, on the same batches in the same order."""
    x, y, x_test, y_test = parts
    net = plain(kind, seed)
    decay = options.get("decay", 0.0)
    optimiser = OPTIMISERS[name](net.parameters(), **{key: value for key, value in options.items() if key != "decay"})
    generator = torch.Generator().manual_seed(seed)
    matrices = [p for p in net.parameters() if p.dim() > 1]

    def score(a: Tensor, b: Tensor) -> float:
        with torch.no_grad():
            return float((net(a).argmax(1) == b).double().mean())

    scores, seconds, spent = [], [], 0.0
    for _ in range(passes):
        begin = time.process_time()
        for rows in torch.randperm(len(x), generator=generator).split(BATCH[kind]):
            optimiser.zero_grad()
            loss = cross_entropy(net(x[rows]), y[rows])
            if decay:
                loss = loss + decay / 2 * sum(p.square().sum() for p in matrices)
            loss.backward()
            optimiser.step()
        spent += time.process_time() - begin
        scores.append(score(x_test, y_test))
        seconds.append(round(spent, 2))
    return {"seed": seed, "test": scores, "seconds": seconds, "train": score(x, y)}


def run(name: str, kind: str, seed: int, parts: tuple[Tensor, ...], passes: int, options: dict) -> dict:
    """Train by the method of this name."""
    if name in OPTIMISERS:
        return rival(name, kind, seed, parts, passes, options)
    return lifted(kind, seed, parts, passes, options)


def search(name: str, kind: str, parts: tuple[Tensor, ...], passes: int, grid: list[dict], kept: Path) -> dict:
    """Return the setting with the best validation accuracy after so many passes (seed 0), and what all scored.

    What is found is also written to `kept`, line by line, so that a search that was stopped goes on.
    """
    known = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    scored = {json.dumps(one["options"]): one["validation"] for one in known if one["method"] == name}
    tried = []
    for options in grid:
        key = json.dumps(options)
        if key not in scored:
            scored[key] = run(name, kind, 0, for_search(parts), passes, options)["test"][-1]
            kept.parent.mkdir(parents=True, exist_ok=True)
            with kept.open("a") as file:
                file.write(json.dumps({"method": name, "options": options, "validation": scored[key]}) + "\n")
        tried.append({"options": options, "validation": scored[key]})
        print(kind, name, tried[-1], file=sys.stderr, flush=True)
    best = max(tried, key=lambda one: one["validation"])
    return {"options": best["options"], "validation": best["validation"], "tried": tried}


def compare(
    kind: str,
    name: str,
    part: str,
    grids: dict[str, list[dict]],
    fixed: dict[str, dict],
    passes: int,
    more: int,
    extra: dict | None = None,
) -> None:
    """Tune each method, run it with three seeds, and write the record `name`.

    `fixed`: methods that are not tuned. `passes`: for which all are tuned, and which ours does. `more`: how many passes
    the rivals do, so that they have as much time as ours.
    """
    torch.set_num_threads(1)
    begin = time.monotonic()
    parts = split(kind, part)
    kept = FOLDER.parents[1] / "_build" / "results" / f"{name}.jsonl"
    tuned = {method: search(method, kind, parts, passes, grid, kept) for method, grid in grids.items()}
    chosen = {**{method: found["options"] for method, found in tuned.items()}, **fixed}
    runs: dict[str, list[dict]] = {}
    for method, options in chosen.items():
        count = more if method in OPTIMISERS else passes
        runs[method] = [run(method, kind, seed, parts, count, options) for seed in SEEDS]
        print(kind, method, [one["test"][passes - 1] for one in runs[method]], file=sys.stderr, flush=True)
    record = {
        "command": f"make results NAME={name}",
        "data": DATA["sixty" if part == "train" else kind],
        "seeds": list(SEEDS),
        "batch": BATCH[kind],
        "passes": passes,
        "minutes": round((time.monotonic() - begin) / 60, 1),
        "machine": machine(),
        "clock": "seconds of the processor, one thread",
        "chosen": chosen,
        "tuned": tuned,
        "runs": runs,
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(record | (extra or {}), indent=1) + "\n", encoding="utf-8")
    kept.unlink(missing_ok=True)


def table(record: dict, at: tuple[int, ...]) -> list[dict]:
    """Return, for each method, mean and standard deviation of the test accuracy after so many passes and in equal time.

    Equal time: the mean seconds that ours, tuned, took for all its passes; of each method the last whole pass counts.
    """
    limit = statistics.fmean(one["seconds"][-1] for one in record["runs"]["lifted"])
    rows = []
    for method, runs in record["runs"].items():
        row: dict = {"method": method}
        for passes in at:
            scores = [one["test"][passes - 1] for one in runs]
            row[f"{passes} passes"] = (statistics.fmean(scores), statistics.stdev(scores))
        within = [max([i for i, s in enumerate(one["seconds"]) if s <= 1.02 * limit], default=0) for one in runs]
        scores = [one["test"][i] for one, i in zip(runs, within, strict=True)]
        row["equal time"] = (statistics.fmean(scores), statistics.stdev(scores))
        row["seconds per pass"] = statistics.fmean(one["seconds"][-1] / len(one["seconds"]) for one in runs)
        rows.append(row)
    return rows
