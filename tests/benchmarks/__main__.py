"""Run the benchmark: `make bench`, or in an environment with the peers `python -m tests.benchmarks`.

python -m tests.benchmarks                    # about ten minutes; writes the record and the page
python -m tests.benchmarks --quick            # seconds: small cases, nothing is written unless --out is given
python -m tests.benchmarks --device cuda      # on a card; writes a record of its own
python -m tests.benchmarks --page             # writes the page again from the committed record
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "book" / "_data" / "benchmarks.json"
PROCESSES = 5
SIZES = (10, 100, 1000, 10000)
# With two threads: ours, the floor and torch peers, from n = 1000 on. JAX and the others cannot be held to two.
TWO = ("lablib", "torch.softmax", "plain torch sort", "entmax, k=32", "entmax, bisection")
GROWTH = (100, 200, 500, 1000, 2000, 5000, 10000)
# From the issue: against the fastest exact peer, one thread, batch 256, float32, forward plus backward.
GOALS = {
    ("simplex", "sparse"): {10: 1.0, 100: 1.0, 1000: 3.0, 10000: 1.5},
    ("simplex", "dense"): {10: 1.0, 100: 1.0, 1000: 3.0, 10000: 5.0},
    ("l1", "sparse"): {1000: 5.0, 10000: 5.0},
    ("l1", "dense"): {1000: 5.0, 10000: 5.0},
}
PEERS = ("entmax", "sparsemax", "POT", "optax", "jaxopt", "jax", "cvxpylayers", "diffcp", "proxsuite")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def child(arguments) -> None:
    """Measure in this process and print the cases as JSON."""
    import torch

    from . import measure, peers

    measure.quiet()
    torch.set_num_threads(arguments.threads)
    cases, growth = [], []
    if arguments.slow:
        for kind in ("simplex", "l1"):
            names = {peers.OWN, peers.FLOOR} | {tool.name for tool in peers.TOOLS if tool.slow}
            for n in (10, 100):
                cases.append(
                    measure.measure(kind, "sparse", n, seed=0, device="cpu", seconds=2, names=names, slow=True)
                )
        print(json.dumps({"cases": cases, "growth": []}))
        return
    names = TWO if arguments.threads == 2 else None
    for n in (10, 64) if arguments.quick else SIZES if names is None else SIZES[2:]:
        for kind, case in GOALS:
            seconds = 0.05 if arguments.quick else 0.6 if n < 10000 else 1.5
            one = measure.measure(
                kind, case, n, seed=arguments.seed, device=arguments.device, seconds=seconds, names=names
            )
            cases.append(one)
    if arguments.threads == 1 and not arguments.quick:
        for n in GROWTH:
            for kind, case in GOALS:
                names = {peers.OWN, peers.FLOOR}
                one = measure.measure(
                    kind, case, n, seed=arguments.seed, device=arguments.device, seconds=0.2, names=names
                )
                growth.append({"set": kind, "case": case, "n": n, "tools": one["tools"]})
    print(json.dumps({"cases": cases, "growth": growth}))


def start(arguments, threads: int, seed: int, *more: str) -> dict:
    """Measure in a new process, held to as many processors as it has threads, as JAX and others take all they see."""
    command = [sys.executable, "-m", "tests.benchmarks", "--child", "--threads", str(threads), "--seed", str(seed)]
    command += ["--device", arguments.device, *more] + (["--quick"] if arguments.quick else [])
    processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    chosen = {processors[(seed + i) % len(processors)] for i in range(threads)} if processors else set()
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        preexec_fn=(lambda: os.sched_setaffinity(0, chosen)) if chosen else None,
    )
    return json.loads(done.stdout.splitlines()[-1])


def together(runs: list[list[dict]]) -> list[dict]:
    """One list of cases from the lists of several processes: medians of times, and ratios to ours by process."""
    merged = []
    for same in zip(*runs, strict=True):
        case = {key: same[0][key] for key in ("set", "case", "n", "support") if key in same[0]}
        tools = []
        for name in [tool["name"] for tool in same[0]["tools"]]:
            rows = [next(tool for tool in one["tools"] if tool["name"] == name) for one in same]
            row = {"name": name} | ({"composed": True} if rows[0].get("composed") else {})
            if any("step_ms" not in one for one in rows):
                bad = next(one for one in rows if "step_ms" not in one)
                tools.append(row | {key: bad[key] for key in ("missing", "failed") if key in bad})
                continue
            for key in ("forward_ms", "backward_ms", "step_ms"):
                row[key] = round(statistics.median(one[key] for one in rows), 4)
            for key in ("error", "violation", "product_error"):
                if key in rows[0]:
                    row[key] = float(f"{max(one[key] for one in rows):.1e}")
            if "exact" in rows[0]:
                row["exact"] = all(one["exact"] for one in rows)
            if name != "lablib":
                ours = [next(tool for tool in one["tools"] if tool["name"] == "lablib")["step_ms"] for one in same]
                row["ratios"] = sorted(round(one["step_ms"] / own, 3) for one, own in zip(rows, ours, strict=True))
            tools.append(row)
        merged.append(case | {"tools": tools})
    return merged


def lower_quartile(values: list[float]) -> float:
    """The second smallest of five."""
    return sorted(values)[len(values) // 4]


def summarize(cases: list[dict]) -> list[dict]:
    """For each case with a goal: the fastest exact peer, and the lower quartile of how many times it takes our time."""
    out = []
    for case in cases:
        goal = GOALS[case["set"], case["case"]].get(case["n"])
        peers = [
            tool
            for tool in case["tools"]
            if tool.get("exact") and tool["name"] != "lablib" and not tool.get("composed") and "ratios" in tool
        ]
        if goal is None or not peers:
            continue
        best = min(peers, key=lambda tool: lower_quartile(tool["ratios"]))
        name = {"simplex": "simplex", "l1": "l1 ball"}[case["set"]]
        label = f"{name}, n = {case['n']}, {case['case']}"
        # A wrong answer of ours is worth nothing, however fast.
        right = next(tool for tool in case["tools"] if tool["name"] == "lablib").get("exact")
        ratio = lower_quartile(best["ratios"]) if right else 0.0
        out.append({"case": label, "peer": best["name"], "ratio": ratio, "goal": goal})
    return out


def environment(arguments) -> dict:
    """What the figures depend on; no name of the machine and no path."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    versions = {}
    for name in ("torch", "numpy", *PEERS):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    device = "CPU"
    if arguments.device == "cuda":
        import torch

        device = torch.cuda.get_device_name()
    return {
        "device": device,
        "processor": model,
        "processors": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions,
    }


def run(arguments) -> dict:
    """Measure in several processes and return the record."""
    begin = time.monotonic()
    count = 1 if arguments.quick else PROCESSES
    record = {"batch": 256, "dtype": "float32", "processes": count, "environment": environment(arguments)}
    for threads in (1,) if arguments.quick or arguments.device != "cpu" else (1, 2):
        parts = []
        times = count if threads == 1 else 3
        for seed in range(times):
            parts.append(start(arguments, threads, seed))
            say(f"{threads} thread(s), process {seed + 1} of {times}: {time.monotonic() - begin:.0f} s")
        record["cases" if threads == 1 else "two_threads"] = together([part["cases"] for part in parts])
        if parts[0]["growth"]:
            record["growth"] = together([part["growth"] for part in parts])
    if not arguments.quick and arguments.device == "cpu":
        record["general"] = together([start(arguments, 1, 0, "--slow")["cases"]])
    record["summary"] = summarize(record["cases"])
    from .peers import NOT_RUN

    record["not_run"] = [{"name": name, "message": message} for name, message in NOT_RUN]
    record["minutes"] = round((time.monotonic() - begin) / 60, 1)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="small cases and one process")
    parser.add_argument("--out", type=Path, help="where to write the record instead of the book's data")
    parser.add_argument("--page", action="store_true", help="only write the page from the record")
    for name in ("--child", "--slow"):
        parser.add_argument(name, action="store_true", help=argparse.SUPPRESS)
    for name in ("--threads", "--seed"):
        parser.add_argument(name, type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    from .page import write_page

    if not arguments.page:
        record = run(arguments)
        out = arguments.out or (RECORD if arguments.device == "cpu" else RECORD.with_name("benchmarks-cuda.json"))
        text = json.dumps(record, indent=1, sort_keys=True) + "\n"
        if arguments.quick and not arguments.out:
            say(text)
        else:
            out.write_text(text, encoding="utf-8")
            say(f"The record is in {out.name}; it took {record['minutes']} minutes.")
        for one in record["summary"]:
            say(f"{one['case']}: {one['ratio']:.2f} times faster than {one['peer']} (goal {one['goal']})")
    if not arguments.quick and not arguments.out and arguments.device == "cpu":
        write_page(ROOT)


if __name__ == "__main__":
    main()
