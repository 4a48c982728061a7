"""Measure the tools: the same numbers for all, in turns, in one process; answers first, times after."""

import math
import statistics
import time
import warnings

import torch

from . import peers

BATCH = 256
# A tool counts as exact if it is as right as float32 lets it be. The product may miss by more than the answer, since a
# few of two million entries lie within rounding of the threshold, and each of them is wrong by its whole cotangent.
ANSWER, PRODUCT = 1e-5, 2e-3
# y = DENSE / n times N(0, 1) has a projection with about 80 % of its entries not 0, whatever n is.
DENSE = {"simplex": 1.0, "l1": 1.75}


def numbers(kind: str, case: str, n: int, seed: int, device: str = "cpu"):
    """Return y and v, 256 rows of N(0, 1); for the dense case y is scaled down until about 80 % of x is not 0."""
    generator = torch.Generator().manual_seed(1000 * seed + n)
    y = torch.randn(BATCH, n, generator=generator)
    v = torch.randn(BATCH, n, generator=generator)
    if case == "dense":
        y = y * (DENSE[kind] / n)
    return y.to(device).requires_grad_(), v.to(device)


def reference(kind: str, y, v):
    """Return the projection and the product in float64, by sorting, with nothing of lablib in it."""
    y, v = y.detach().double().cpu(), v.double().cpu()
    size = y.abs() if kind == "l1" else y
    ordered = size.sort(-1, descending=True).values
    ranks = torch.arange(1, y.shape[-1] + 1, dtype=y.dtype)
    tau = ((ordered.cumsum(-1) - 1) / ranks).amax(-1, keepdim=True)
    x = (size - tau).clamp(min=0)
    q = x.sign()
    if kind == "l1":
        x, q = x * y.sign(), q * y.sign()
    product = q.abs() * v - q * (q * v).sum(-1, keepdim=True) / (q * q).sum(-1, keepdim=True)
    if kind == "l1":
        inside = size.sum(-1, keepdim=True) <= 1
        x, product = torch.where(inside, y, x), torch.where(inside, v, product)
    return x, product


def check(kind: str, x, gradient, right):
    """Return the largest error of x, its largest violation, and the relative error of the product."""
    x, gradient = x.double().cpu(), gradient.double().cpu()
    error = float((x - right[0]).abs().max())
    total = x.sum(-1) if kind == "simplex" else x.abs().sum(-1)
    violation = float((total - 1).abs().max() if kind == "simplex" else (total - 1).clamp(min=0).max())
    if kind == "simplex":
        violation = max(violation, float((-x).max()))
    return error, violation, float((gradient - right[1]).norm() / right[1].norm())


def measure(kind: str, case: str, n: int, *, seed: int, device: str, seconds: float, names=None, slow: bool = False):
    """Measure all tools that can do this case, in turns, for about so many seconds; return the case."""
    y, v = numbers(kind, case, n, seed, device)
    right = reference(kind, y, v)
    tools, rows = {}, []
    for tool in peers.TOOLS:
        if kind not in tool.sets or n > tool.largest or (tool.slow and not slow) or (names and tool.name not in names):
            continue
        row = {"name": tool.name, "composed": tool.composed}
        try:
            run = tool.make(kind, n, device)
            first = time.perf_counter()
            answer = run(y, v)  # also the warm-up, which compiles what is to be compiled
            first = time.perf_counter() - first
        except ImportError as error:
            rows.append(row | {"missing": str(error)})
            continue
        except Exception as error:
            rows.append(row | {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:200]})
            continue
        if tool.name != peers.FLOOR:
            row["error"], row["violation"], row["product_error"] = check(kind, *answer[:2], right)
            row["exact"] = row["error"] <= ANSWER and row["product_error"] <= PRODUCT
        rows.append(row)
        tools[tool.name] = run, [], row
    turns, start = 0, time.perf_counter()
    while turns < 3 or time.perf_counter() - start < seconds:
        for run, times, _ in tools.values():
            last = sum(times[-1]) if times else math.inf
            # What takes a tenth of a second is asked three times, the first not counted; the others go on in turns.
            if len(times) >= 3 and last > 0.1:
                continue
            # A turn is 3 ms or one call; its first call finds the caches full of another tool, and does not count.
            for call in range(1 + max(1, min(20, int(0.003 / last)))):
                one = run(y, v)[2:]
                if call or last > 0.01:
                    times.append(one)
                if last > 0.01:
                    break
        turns += 1
    for _, times, row in tools.values():
        times = times[1:]
        row["turns"] = len(times)
        row["forward_ms"] = 1e3 * statistics.median(a for a, _ in times)
        row["backward_ms"] = 1e3 * statistics.median(b for _, b in times)
        row["step_ms"] = 1e3 * statistics.median(a + b for a, b in times)
    support = float((right[0] != 0).sum()) / BATCH
    return {"set": kind, "case": case, "n": n, "support": round(support, 1), "tools": rows}


def slope(sizes, times) -> float:
    """Return the exponent of time in n, fitted on logarithms."""
    a, b = [math.log(s) for s in sizes], [math.log(t) for t in times]
    middle = statistics.fmean(a)
    return sum((p - middle) * q for p, q in zip(a, b, strict=True)) / sum((p - middle) ** 2 for p in a)


def quiet() -> None:
    """Peers may warn about themselves; that is not what is measured."""
    warnings.simplefilter("ignore")
