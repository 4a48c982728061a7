"""The published Fenchel lifted training, re-written: what the fast version must reproduce, and be faster than.

For a mini-batch X_0 with labels Y, layers u_l = f_l(X_{l-1}) and ReLU between them, one batch does

1. a forward pass: X_l = max(u_l, 0);
2. for l = L-1, ..., 1:  X_l = argmin_{X >= 0}  c_{l+1} E_{l+1}(X) + |X|^2 - 2 <X, u_l> + |u_l_+|^2;
3. for l = 1, ..., L:    (W_l, b_l) = argmin  E_l + r_l (|W_l - previous|^2 + |b_l - previous|^2),

where E_l is twice the Fenchel gap of layer l summed over the batch, and at the head the summed cross-entropy. Every
argmin is SciPy's L-BFGS-B with its default options, on values and gradients in float32.

The factors c_l stand in step 2 alone, and so it seems that the two steps do not minimise the same function. They do,
with other units: put w_L = 1 and w_l = w_{l+1} / c_{l+1}. Both steps then decrease ``sum_l w_l (E_l + r_l |W_l -
previous|^2)``, since scaling a block's subproblem does not move its argmin. In lablib's units, a mean over n samples
and single gaps, the multipliers are 2 w_l and the anchors 2 w_l r_l / n: `settings` returns them.

Re-written from the description of github.com/beeperman/Fenchel_Lifted_Networks (arXiv:1811.08039), with its constants:
`mnist_batch.py` for the network 784-300-10, `mnist_lenet_batch.py` for LeNet-5 with average pooling.

    make results NAME=fenchel-published      # 784-300-10, 64 batches, three seeds: 12 minutes or more for each
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

BATCH = 500
ANCHORS = {"dense": (10.0, 100.0), "lenet": (1e-4, 1e-2, 1.0, 1.0, 10.0), "digits": (10.0, 100.0)}
"""r_l, layer by layer."""
FACTORS = {"dense": (1.0, 10.0), "lenet": (1.0, 1.0, 5.0, 1.0, 5.0), "digits": (1.0, 10.0)}
"""c_l, layer by layer; that of the first layer is never used."""


RECORD = Path(__file__).resolve().parents[2] / "book" / "_data" / "fenchel-published.json"
REFERENCE = {"batches": 64, "test": 0.9405, "train": 0.9843, "evaluations": 15810}
"""Measured before, with another re-writing of the same code, on the same split."""


def weights(kind: str) -> list[float]:
    """Return w_l, with which both steps decrease one objective."""
    out = [1.0]
    for factor in reversed(FACTORS[kind][1:]):
        out.insert(0, out[0] / factor)
    return out


def settings(kind: str, batch: int = BATCH) -> dict[str, list[float]]:
    """Return the same problem in lablib's units."""
    w = weights(kind)
    anchors = [2 * one * r / batch for one, r in zip(w, ANCHORS[kind], strict=True)]
    return {"multipliers": [2 * one for one in w[:-1]], "anchors": anchors}


def dense(seed: int, widths: tuple[int, ...] = (784, 300, 10)) -> list[nn.Module]:
    """Return the layers of 784-300-10 as they start: Xavier-uniform weights, offsets 0.1."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.constant_(layer.bias, 0.1)
    return layers


def lenet(seed: int) -> list[nn.Module]:
    """Return the layers of LeNet-5 on padded 32 x 32 images: truncated normal and Xavier weights, offsets 0.1."""
    torch.manual_seed(seed)
    pooled = [nn.AvgPool2d(2), nn.Conv2d(6, 16, 5)], [nn.AvgPool2d(2), nn.Flatten(), nn.Linear(400, 120)]
    layers = [nn.Conv2d(1, 6, 5), *(nn.Sequential(*one) for one in pooled), nn.Linear(120, 84), nn.Linear(84, 10)]
    for module in nn.ModuleList(layers).modules():
        if isinstance(module, nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=0.1, a=-0.2, b=0.2)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.constant_(module.bias, 0.1)
    return layers


def digits(seed: int) -> list[nn.Module]:
    """Return the layers of 64-32-10, for scikit-learn's digits."""
    return dense(seed, (64, 32, 10))


STARTS = {"dense": dense, "lenet": lenet, "digits": digits}


def energy(x: Tensor, u: Tensor) -> Tensor:
    """Return twice the ReLU's Fenchel gap, summed: |x|^2 - 2 <x, u> + |u_+|^2."""
    return (x * x - 2 * x * u + u.clamp(min=0).square()).sum()


def lbfgs(function: Callable[[], Tensor], variables: list[Tensor], nonnegative: bool) -> int:
    """Minimise over the variables in place; return how often the function was evaluated."""
    shapes = [v.shape for v in variables]
    flat = torch.cat([v.detach().reshape(-1) for v in variables]).double().numpy()

    def put(vector) -> None:
        parts = torch.from_numpy(vector).float().split([shape.numel() for shape in shapes])
        for variable, part in zip(variables, parts, strict=True):
            variable.data = part.reshape(variable.shape)

    def evaluate(vector):
        put(vector)
        value = function()
        gradients = torch.autograd.grad(value, variables)
        return value.item(), torch.cat([g.reshape(-1) for g in gradients]).double().numpy()

    bounds = [(0, None)] * len(flat) if nonnegative else None
    done = minimize(evaluate, flat, jac=True, method="L-BFGS-B", bounds=bounds)
    put(done.x)
    return done.nfev


def train_batch(layers: list[nn.Module], x: Tensor, labels: Tensor, anchors, factors, watch=lambda xs: None) -> int:
    """Do one batch of the published algorithm in place; return the evaluations of all its L-BFGS-B calls.

    `watch` gets the values of all layers, the data first, at the start and after each block.
    """
    count = len(layers)
    with torch.no_grad():
        xs = [x]
        for layer in layers[:-1]:
            xs.append(layer(xs[-1]).clamp(min=0))

    def term(l: int, below: Tensor) -> Tensor:
        u = layers[l](below)
        return cross_entropy(u, labels, reduction="sum") if l == count - 1 else energy(xs[l + 1], u)

    evaluations = 0
    watch(xs)
    for l in reversed(range(1, count)):
        with torch.no_grad():
            u = layers[l - 1](xs[l - 1])
        free = xs[l].clone().requires_grad_()
        evaluations += lbfgs(
            lambda l=l, u=u, free=free: factors[l] * term(l, free) + energy(free, u), [free], nonnegative=True
        )
        xs[l] = free.detach()
        watch(xs)
    for l, layer in enumerate(layers):
        weights = list(layer.parameters())
        before = [w.detach().clone() for w in weights]
        evaluations += lbfgs(
            lambda l=l, weights=weights, before=before: (
                term(l, xs[l]) + anchors[l] * sum((w - b).square().sum() for w, b in zip(weights, before, strict=True))
            ),
            weights,
            nonnegative=False,
        )
        watch(xs)
    return evaluations


@torch.no_grad()
def accuracy(layers: list[nn.Module], x: Tensor, labels: Tensor) -> float:
    """Return the share of labels that the network gets right."""
    for layer in layers[:-1]:
        x = layer(x).clamp(min=0)
    return float((layers[-1](x).argmax(1) == labels).double().mean())


def train(kind: str, seed: int, count: int, data: tuple[Tensor, ...], size: int = BATCH) -> list[dict]:
    """Train on `count` batches; return what the network scores after each, with evaluations and seconds so far."""
    x, labels, x_test, labels_test = data
    layers = STARTS[kind](seed)
    generator = torch.Generator().manual_seed(seed)
    rows, spent, evaluations = [], 0.0, 0
    while len(rows) < count:
        for batch in torch.randperm(len(x), generator=generator).split(size):
            begin = time.perf_counter()
            evaluations += train_batch(layers, x[batch], labels[batch], ANCHORS[kind], FACTORS[kind])
            spent += time.perf_counter() - begin
            test, fitted = accuracy(layers, x_test, labels_test), accuracy(layers, x, labels)
            rows.append(
                {"batch": len(rows) + 1, "test": test, "train": fitted, "seconds": spent, "evaluations": evaluations}
            )
            print(kind, seed, rows[-1], file=sys.stderr, flush=True)
            if len(rows) == count:
                break
    return rows


def entry(seed: int, rows: list[dict], at: tuple[int, ...] = (16, 32, 48, 64)) -> dict:
    """Return the part of a run that the record keeps."""
    kept = [row for row in rows if row["batch"] in at]
    return {"seed": seed, "rows": [{**row, "seconds": round(row["seconds"])} for row in kept]}


def write(runs: list[dict]) -> None:
    """Write the record."""
    from lablib.teaching.status import machine

    minutes = round(sum(run["rows"][-1]["seconds"] for run in runs) / 60)
    record = {
        "command": "make results NAME=fenchel-published",
        "data": "MNIST's test images: the first 8,000 train, the last 2,000 test",
        "seeds": [run["seed"] for run in runs],
        "minutes": minutes,
        "clock": "wall clock of one thread on a machine that others used too",
        "machine": machine(),
        "reference": REFERENCE,
        "runs": runs,
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run the published algorithm with three seeds and write the record."""
    from . import fenchel_experiment

    torch.set_num_threads(1)
    data = fenchel_experiment.split("dense")
    write([entry(seed, train("dense", seed, 64, data)) for seed in (0, 1, 2)])
