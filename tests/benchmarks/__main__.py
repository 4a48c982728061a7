"""Run the benchmark: `make bench`, or in an environment with the peers `python -m tests.benchmarks`.

python -m tests.benchmarks                    # all areas; writes their records and the page
python -m tests.benchmarks simple_sets        # one area, about ten minutes
python -m tests.benchmarks --quick            # seconds: small cases, nothing is written unless --out is given
python -m tests.benchmarks --device cuda      # on a card; writes records of their own
python -m tests.benchmarks --page             # writes the page again from the committed records
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from . import area as areas
from . import measure
from .page import record_of, write_page

ROOT = Path(__file__).resolve().parents[2]


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def child(name: str, arguments) -> None:
    """Measure one pass of an area in this process and print the cases as JSON."""
    import torch

    measure.quiet()
    torch.set_num_threads(arguments.threads)
    area, key, quick = areas.load(name), arguments.child, arguments.quick
    how = {"seed": arguments.seed, "device": arguments.device, "quick": quick}
    print(json.dumps([area.measure(case, key, **how) for case in area.cases(key, quick)]))


def start(name: str, one: areas.Pass, seed: int, arguments) -> list[dict]:
    """Measure in a new process, held to as many processors as it has threads, as JAX and others take all they see."""
    command = [sys.executable, "-m", "tests.benchmarks", name, "--child", one.key, "--seed", str(seed)]
    command += ["--threads", str(one.threads), "--device", arguments.device]
    command += ["--quick"] if arguments.quick else []
    processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    chosen = {processors[(seed + i) % len(processors)] for i in range(one.threads)} if processors else set()
    environment = os.environ | {"OMP_NUM_THREADS": str(one.threads), "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        preexec_fn=(lambda: os.sched_setaffinity(0, chosen)) if chosen else None,
    )
    return json.loads(done.stdout.splitlines()[-1])


def run(area: areas.Area, arguments) -> dict:
    """Measure an area in several processes and return its record."""
    begin = time.monotonic()
    main = next(one for one in area.passes if one.key == "cases")
    record = {
        "area": area.name,
        "title": area.title,
        "processes": 1 if arguments.quick else main.processes,
        "environment": measure.environment(arguments.device, area.packages),
    }
    for one in area.passes:
        if (arguments.quick and not one.quick) or (arguments.device == "cuda" and not one.cuda):
            continue
        times, parts = 1 if arguments.quick else one.processes, []
        for seed in range(times):
            parts.append(start(area.name, one, seed, arguments))
            done = f"{area.name}, {one.key}, process {seed + 1} of {times}"
            say(f"{done}: {time.monotonic() - begin:.0f} s")
        record[one.key] = measure.together(parts)
    record["summary"] = measure.summarize(record["cases"], area.label, area.goal)
    record["not_run"] = [{"name": name, "message": message} for name, message in area.not_run]
    record["minutes"] = round((time.monotonic() - begin) / 60, 1)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("areas", nargs="*", metavar="AREA", help=f"of {', '.join(areas.names())}; all if none is named")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="small cases and one process")
    parser.add_argument("--out", type=Path, help="a folder for the records, instead of the book's data")
    parser.add_argument("--page", action="store_true", help="only write the page from the records")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    for name in ("--threads", "--seed"):
        parser.add_argument(name, type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.areas) - set(areas.names()):
        parser.error(f"no such area: {', '.join(sorted(unknown))}; there are {', '.join(areas.names())}")
    wanted = arguments.areas or areas.names()
    if arguments.child:
        child(wanted[0], arguments)
        return
    for area in map(areas.load, [] if arguments.page else wanted):
        record = run(area, arguments)
        text = json.dumps(record, indent=1, sort_keys=True) + "\n"
        if arguments.quick and not arguments.out:
            say(text)
        else:
            out = record_of(ROOT, area.name, arguments.device)
            out = arguments.out / out.name if arguments.out else out
            out.write_text(text, encoding="utf-8")
            say(f"The record is in {out.name}; it took {record['minutes']} minutes.")
        for one in record["summary"]:
            say(f"{one['case']}: {one['ratio']:.2f} times faster than {one['peer']} (goal {one['goal']})")
    if arguments.page or not (arguments.quick or arguments.out or arguments.device != "cpu"):
        write_page(ROOT, wanted)


if __name__ == "__main__":
    main()
