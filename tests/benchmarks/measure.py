"""What all areas share: tools take turns in one process, answers are checked before times are believed."""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

OWN = "lablib"


@dataclass(frozen=True)
class Entry:
    """One tool in one case.

    `make()` loads and prepares it, and returns `run`; `run()` returns an answer and the seconds of each of its parts,
    as `{"forward": ..., "backward": ...}` or what parts there are. `check(answer)` returns errors by name, and under
    "exact" whether the answer is right. A floor, which answers another question, has no check.
    """

    row: dict  # {"name": ...}, and "composed": True for a function that no package offers
    make: Callable[[], Callable[[], tuple]]
    check: Callable[[object], dict] | None = None


def in_turns(entries: list[Entry], seconds: float) -> list[dict]:
    """Measure the tools in turns for about so many seconds; return a row for each, medians in milliseconds.

    A tool that is not installed, or that fails, keeps its row, which says so.
    """
    rows, ready = [], []
    for entry in entries:
        row = dict(entry.row)
        rows.append(row)
        try:
            run = entry.make()
            answer, _ = run()  # also the warm-up, which compiles what is to be compiled
        except ImportError as error:
            row["missing"] = str(error)
            continue
        except Exception as error:
            row["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            continue
        if entry.check is not None:
            row.update(entry.check(answer))
        ready.append((run, [], row))
    turns, start = 0, time.perf_counter()
    while turns < 3 or time.perf_counter() - start < seconds:
        for run, times, _ in ready:
            last = sum(times[-1].values()) if times else math.inf
            # What takes a tenth of a second is asked three times, the first not counted; the others go on in turns.
            if len(times) >= 3 and last > 0.1:
                continue
            # A turn is 3 ms or one call; its first call finds the caches full of another tool, and does not count.
            for call in range(1 + max(1, min(20, int(0.003 / last)))):
                one = run()[1]
                if call or last > 0.01:
                    times.append(one)
                if last > 0.01:
                    break
        turns += 1
    for _, times, row in ready:
        counted = times[1:]
        row["turns"] = len(counted)
        for part in counted[0]:
            row[f"{part}_ms"] = 1e3 * statistics.median(one[part] for one in counted)
        row["step_ms"] = 1e3 * statistics.median(sum(one.values()) for one in counted)
    return rows


def synchronize(device: str) -> None:
    """Wait until the device has done what was asked."""
    if device == "cuda":
        torch.cuda.synchronize()


def both_passes(function, y, v, device: str):
    """Return a `run` that times x = function(y) and the product of its Jacobian with v; the answer is (x, product)."""

    def run():
        synchronize(device)
        start = time.perf_counter()
        x = function(y)
        synchronize(device)
        middle = time.perf_counter()
        (product,) = torch.autograd.grad(x, y, v)
        synchronize(device)
        return (x.detach(), product), {"forward": middle - start, "backward": time.perf_counter() - middle}

    return run


def together(runs: list[list[dict]]) -> list[dict]:
    """Return one list of cases from the lists of several processes.

    Times are medians, errors the largest, `exact` holds if it held in all, and `ratios` are those to our time, process
    by process.
    """
    merged = []
    for same in zip(*runs, strict=True):
        tools = []
        for name in [tool["name"] for tool in same[0]["tools"]]:
            rows = [of(one, name) for one in same]
            row = {key: value for key, value in rows[0].items() if key in ("name", "composed")}
            if bad := next((one for one in rows if "step_ms" not in one), None):
                tools.append(row | {key: bad[key] for key in ("missing", "failed") if key in bad})
                continue
            for key in rows[0].keys() - row.keys() - {"turns"}:
                values = [one[key] for one in rows]
                if key.endswith("_ms"):
                    row[key] = round(statistics.median(values), 4)
                else:
                    row[key] = all(values) if isinstance(values[0], bool) else float(f"{max(values):.1e}")
            if name != OWN:
                ours = [of(one, OWN)["step_ms"] for one in same]
                row["ratios"] = sorted(round(one["step_ms"] / own, 3) for one, own in zip(rows, ours, strict=True))
            tools.append(row)
        merged.append({key: value for key, value in same[0].items() if key != "tools"} | {"tools": tools})
    return merged


def of(case: dict, name: str) -> dict:
    """Return a tool's row; empty where it was not measured."""
    return next((tool for tool in case["tools"] if tool["name"] == name), {})


def lower_quartile(values: list[float]) -> float:
    """The second smallest of five."""
    return sorted(values)[len(values) // 4]


def summarize(cases: list[dict], label, goal) -> list[dict]:
    """For each case with a goal: the fastest exact peer, and the lower quartile of how many times it takes our time."""
    out = []
    for case in cases:
        peers = [
            tool
            for tool in case["tools"]
            if tool.get("exact") and tool["name"] != OWN and not tool.get("composed") and "ratios" in tool
        ]
        if goal(case) is None or not peers:
            continue
        best = min(peers, key=lambda tool: lower_quartile(tool["ratios"]))
        # A wrong answer of ours is worth nothing, however fast.
        ratio = lower_quartile(best["ratios"]) if of(case, OWN).get("exact") else 0.0
        out.append({"case": label(case), "peer": best["name"], "ratio": ratio, "goal": goal(case)})
    return out


def slope(sizes, times) -> float:
    """Return the exponent of time in n, fitted on logarithms."""
    a, b = [math.log(s) for s in sizes], [math.log(t) for t in times]
    middle = statistics.fmean(a)
    return sum((p - middle) * q for p, q in zip(a, b, strict=True)) / sum((p - middle) ** 2 for p in a)


def environment(device: str, packages: tuple[str, ...]) -> dict:
    """What the figures depend on; no name of the machine and no path."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    versions = {}
    for name in ("torch", "numpy", *packages):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "processor": model,
        "processors": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions,
    }


def quiet() -> None:
    """Peers may warn about themselves; that is not what is measured."""
    warnings.simplefilter("ignore")
