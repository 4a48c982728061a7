"""What the experiments on group sparsity share: data, the rivals, and the rows that all are described by."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lablib.augmented import GroupSparseNetwork, shrink_groups
from lablib.teaching import data

FOLDER = Path(__file__).resolve().parents[2] / "book" / "_data"
MNIST = (
    "MNIST's test images, rounded to 0 and 1 as in the released script: of the first 8,000 the first 100 of each digit"
    " train and the next 50 of each are for validation; of the last 2,000 the first 20 of each digit test"
)


def mnist_split(dtype: torch.dtype = torch.float32) -> dict[str, tuple[Tensor, Tensor]]:
    """Return 1,000 training, 500 validation and 200 test images with labels."""
    images, labels = data.mnist("test")
    x = (images.flatten(1).to(dtype) / 255).round()

    def rows(begin: int, end: int, first: int, count: int) -> Tensor:
        found = [(labels[begin:end] == digit).nonzero()[first : first + count, 0] + begin for digit in range(10)]
        return torch.cat(found).sort().values

    chosen = {"train": rows(0, 8000, 0, 100), "validation": rows(0, 8000, 100, 50), "test": rows(8000, 10000, 0, 20)}
    return {name: (x[index], labels[index]) for name, index in chosen.items()}


def start(
    widths: Sequence[int], seed: int, first: float, slope: float, penalty: float, **options
) -> GroupSparseNetwork:
    """Return a network as all methods start it."""
    dtype = options.pop("dtype", torch.float32)
    return GroupSparseNetwork(widths, slope, penalty, seed=seed, first=first, dtype=dtype, **options)


def one_hot(net: GroupSparseNetwork, y: Tensor) -> Tensor:
    """Return targets as rows."""
    return (
        nn.functional.one_hot(y, net.layers[-1].out_features).to(net.layers[0].weight) if y.dtype == torch.int64 else y
    )


def describe(net: GroupSparseNetwork, parts: dict[str, tuple[Tensor, Tensor]], seconds: float) -> dict:
    """Return a row: objective, scores on each part, zero groups, KKT residual, the processor's seconds."""
    scores = {name: net.score(*part) for name, part in parts.items()}
    return {
        "objective": net.objective(*parts["train"]),
        **scores,
        "zero": net.zero_groups(),
        "residual": net.kkt_residual(*parts["train"]).largest,
        "seconds": round(seconds, 2),
    }


def certificate(net: GroupSparseNetwork, part: tuple[Tensor, Tensor], at: str = "network") -> dict:
    """Return the components of the KKT residual."""
    return vars(net.kkt_residual(*part, at=at))


def by_gradient(
    net: GroupSparseNetwork,
    parts: dict[str, tuple[Tensor, Tensor]],
    *,
    kind: str,
    lr: float,
    batch: int | None,
    epochs: int,
    seed: int,
    every: int,
) -> list[dict]:
    """Train by ProxSGD, proximal gradient (``batch=None``) or Adam with subgradients of the norms; return rows."""
    x, y = parts["train"]
    T = one_hot(net, y)
    generator = torch.Generator().manual_seed(seed)
    parameters = list(net.parameters())
    optimiser = torch.optim.Adam(parameters, lr=lr) if kind == "Adam" else torch.optim.SGD(parameters, lr=lr)
    rows, spent = [describe(net, parts, 0.0)], 0.0
    for epoch in range(1, epochs + 1):
        begin = time.process_time()
        order = torch.randperm(len(x), generator=generator)
        for index in order.split(batch) if batch else [slice(None)]:
            optimiser.zero_grad()
            loss = (net(x[index]) - T[index]).square().sum() / (2 * len(T[index]))
            if kind == "Adam":
                norms = [torch.linalg.vector_norm(layer.weight, dim=0).sum() for layer in net.layers]
                loss = loss + sum(p * norm for p, norm in zip(net.group_penalty, norms, strict=True))
            loss.backward()
            optimiser.step()
            if kind != "Adam":
                with torch.no_grad():
                    for layer, penalty in zip(net.layers, net.group_penalty, strict=True):
                        layer.weight.copy_(shrink_groups(layer.weight, lr * penalty))
        spent += time.process_time() - begin
        if epoch % every == 0 or epoch == epochs:
            rows.append({"epoch": epoch, **describe(net, parts, spent)})
            if not math.isfinite(rows[-1]["objective"]):
                break
    return rows


def by_multipliers(
    net: GroupSparseNetwork, parts: dict[str, tuple[Tensor, Tensor]], *, epochs: int, every: int = 1
) -> list[dict]:
    """Train by the augmented Lagrangian; return rows for the network that would be returned, the best so far."""
    rows, spent, epoch = [describe(net, parts, 0.0)], 0.0, 0
    while epoch < epochs:
        more = min(every, epochs - epoch)
        begin = time.process_time()
        net.fit(*parts["train"], epochs=more, tol=0.0, progress=False)
        spent += time.process_time() - begin
        epoch += more
        rows.append({"epoch": epoch, **describe(net, parts, spent)})
    return rows


def teacher(seed: int, n: int, inputs: int = 50, live: int = 10, hidden: int = 8, noise: float = 0.1) -> tuple:
    """Return inputs, targets and which inputs matter: a leaky-ReLU network of known support, with noise."""
    generator = torch.Generator().manual_seed(1000 + seed)
    x = torch.randn(n, inputs, generator=generator, dtype=torch.float64)
    support = torch.randperm(inputs, generator=generator)[:live].sort().values
    W = torch.randn(hidden, live, generator=generator, dtype=torch.float64) / math.sqrt(live)
    V = torch.randn(1, hidden, generator=generator, dtype=torch.float64).abs() / math.sqrt(hidden)
    u = nn.functional.leaky_relu(x[:, support] @ W.mT + 0.5, 0.1) @ V.mT + 0.5
    y = nn.functional.leaky_relu(u, 0.1)
    return x, y + noise * torch.randn(y.shape, generator=generator, dtype=torch.float64), support


def f1(found: Tensor, support: Tensor) -> float:
    """Return the F1 score of a set of inputs against the true one."""
    hits = len(set(found.tolist()) & set(support.tolist()))
    return 2 * hits / max(len(found) + len(support), 1)


def thresholded(net: GroupSparseNetwork, share: float) -> Tensor:
    """Return the inputs whose columns are longer than a share of the longest."""
    lengths = torch.linalg.vector_norm(net.layers[0].weight.detach(), dim=0)
    return (lengths > share * lengths.max()).nonzero().squeeze(1)


def grid(**lists: Sequence) -> list[dict]:
    """Return all combinations."""
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
