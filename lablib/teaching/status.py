"""Make the status page: what is finished, every claim with its value, papers' figures beside ours, measured ratios.

    python -m lablib.teaching.status                  take the claims of the last run (LABLIB_CLAIMS), write the page
    python -m lablib.teaching.status --claims FILE    take the claims of that record instead
    python -m lablib.teaching.status --check          write nothing; fail if the page, or a claim behind it, is not true
    python -m lablib.teaching.status --minutes        run every chapter and lab once and note how long it took

`make status` runs the notebooks and then the first of these. What the page is made from lies in `book/_data`:
`parts.toml` (the plan), `claims.json` (from a run), `papers.toml` (what papers print), `benchmarks-AREA.json` (from
`make bench`) and `minutes.json` (`--minutes`).
"""

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

from .claims import OPERATORS, Stated, in_notebooks

ROOT = Path(__file__).resolve().parents[2]
DATA = Path("book") / "_data"
PAGE = Path("book") / "status.md"
MINUTES = DATA / "minutes.md"
KINDS = (("chapter", "book"), ("lab", "labs"))


def number(value: bool | float | str) -> str:
    """Return a value in as few characters as three digits allow.

    >>> number(1.23456e-9), number(0.5), number(1234567), number(True)
    ('1.23e-09', '0.5', '1.23e+06', 'true')
    """
    if value == 0 and not isinstance(value, bool):
        return "0"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) or (isinstance(value, int) and abs(value) < 10**6):
        return str(value)
    return f"{value:.3g}"


def machine() -> dict[str, str]:
    """Return what a number was measured on: the processor and the versions that matter."""
    import numpy
    import torch

    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "numpy": numpy.__version__,
    }


def read_json(path: Path) -> dict:
    """Return a JSON file's content; an empty dictionary where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def read_record(path: Path) -> dict[str, dict]:
    """Return the claims of a record, by id; of a claim that was run twice, the last."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {one["id"]: one for one in map(json.loads, filter(None, lines))}


def update(root: Path, record: dict[str, dict], stated: list[Stated]) -> None:
    """Write `claims.json` from a run's record: the claims that the notebooks state, in their order."""
    kept = []
    for one in stated:
        if one.id in record:
            ran = record[one.id]
            value = ran["value"]
            if isinstance(value, float) and math.isfinite(value):
                value = float(f"{value:.3g}")
            kept.append({**ran, "value": value, "notebook": one.notebook})
    data = {"command": "make status", "machine": machine(), "claims": kept}
    (root / DATA / "claims.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def claim_faults(stated: list[Stated], committed: dict[str, dict], record: dict[str, dict] | None) -> list[str]:
    """Say which claims are not what the page says of them; an empty list when all is true.

    `record` is the record of a fresh run, or None where there was none: then the committed values alone are judged.
    """
    said = []
    for one in stated:
        where = f"claim {one.id} ({one.notebook}, cell {one.cell})"
        if one.id not in committed:
            said.append(f"{where} has no record in {DATA.as_posix()}/claims.json")
            continue
        kept = committed[one.id]
        if kept["notebook"] != one.notebook or kept["op"] != one.op:
            said.append(f"{where} was changed or moved since it was recorded")
        if not true(kept):
            said.append(f"{where} is recorded as false: {kept['value']} is not {kept['op']} {kept['bound']}")
        if record is None:
            continue
        if one.id not in record:
            said.append(f"{where} did not run in the last run of the notebooks")
        elif not true(record[one.id]):
            ran = record[one.id]
            said.append(f"{where} is false in the last run: {ran['value']} is not {ran['op']} {ran['bound']}")
        elif not math.isclose(record[one.id]["bound"], kept["bound"], rel_tol=1e-6):
            said.append(f"{where} was checked against another bound than the one recorded")
    known = {one.id for one in stated}
    said += [
        f"{DATA.as_posix()}/claims.json holds {id}, which no notebook states" for id in committed if id not in known
    ]
    return said


def true(kept: dict) -> bool:
    """Judge a recorded claim again by its own value, operator and bound."""
    value = kept["value"]
    return bool(kept["holds"]) and not isinstance(value, str) and OPERATORS[kept["op"]](value, kept["bound"])


def heading(root: Path, notebook: str) -> str:
    """Return a notebook's title."""
    for cell in json.loads((root / notebook).read_text(encoding="utf-8"))["cells"]:
        for line in "".join(cell["source"]).splitlines():
            if cell["cell_type"] == "markdown" and line.startswith("# "):
                return line[2:].strip()
    return notebook


def link(root: Path, notebook: str) -> str:
    """Return a link from the status page to a notebook's page."""
    return f"[{heading(root, notebook)}](/{notebook})"


def parts_section(root: Path) -> list[str]:
    """Return the table of planned chapters and labs; a part is there when its notebook is."""
    out = ["## What is there", "", "| part | chapter | lab |", "| --- | --- | --- |"]
    for part in tomllib.loads((root / DATA / "parts.toml").read_text(encoding="utf-8"))["part"]:
        cells = []
        for kind, folder in KINDS:
            file = f"{folder}/{part.get(kind)}.ipynb"
            cells.append("–" if kind not in part else f"[{kind}](/{file})" if (root / file).is_file() else "planned")
        out.append(f"| **{part['title']}**: {part['subject']} | {' | '.join(cells)} |")
    return [*out, ""]


def claims_section(root: Path, data: dict) -> list[str]:
    """Return the claims of each notebook with value and bound."""
    claims = data.get("claims", [])
    out = ["## Claims", ""]
    if not claims:
        return [*out, "No notebook states a claim yet.", ""]
    on = data["machine"]
    out += [
        "A sentence of fact in this book is checked by a cell beside it.",
        f"There are {len(claims)} such claims. Each held in the run that gave these values: `{data['command']}`, with",
        f"Python {on['python']}, torch {on['torch']} and NumPy {on['numpy']}.",
        "`make test` runs them all again. A value may differ in its digits on another machine; the verdict may not.",
        "",
    ]
    for notebook in dict.fromkeys(one["notebook"] for one in claims):
        out += [
            f"### {link(root, notebook)}",
            "",
            "| claim | value | must be | verdict |",
            "| --- | ---: | ---: | --- |",
        ]
        for one in claims:
            if one["notebook"] == notebook:
                verdict = "holds" if true(one) else "**false**"
                out.append(
                    f"| `{one['id']}` | {number(one['value'])} | {one['op']} {number(one['bound'])} | {verdict} |"
                )
        out.append("")
    return out


def papers_section(root: Path, claims: dict[str, dict]) -> list[str]:
    """Return what papers print beside what we measured; where there is nothing to compare, why."""
    out = ["## Papers' figures beside ours", ""]
    data = tomllib.loads((root / DATA / "papers.toml").read_text(encoding="utf-8"))
    out += [data["preface"].strip(), ""]
    for paper in data["paper"]:
        out += [f"### {paper['title']}", "", paper["verdict"].strip(), ""]
        rows = paper.get("row", [])
        if rows:
            out += [
                f"| {paper['what']} | {paper['theirs']} | {paper['ours']} | verdict |",
                "| --- | ---: | ---: | --- |",
            ]
            for row in rows:
                out.append(f"| {row['what']} | {row['theirs']} | {ours(row, claims)} | {row['verdict']} |")
            out.append("")
    return out


def ours(row: dict, claims: dict[str, dict]) -> str:
    """Return our figure of a row: the value of the claim that it names, and never one typed in."""
    return number(claims[row["claim"]]["value"])


def benchmarks_section(records: list[dict]) -> list[str]:
    """Return the measured ratios to the peer that a goal is set against, from each record's `summary`."""
    out = ["## Speed", ""]
    if not records:
        return [*out, "No measurement is recorded yet. `make bench` makes one.", ""]
    out += [
        "How many times faster than a peer in the same run, measured by `make bench`: the fastest exact one, unless the"
        " goal was set against another.",
        "",
    ]
    for record in records:
        out += [f"### {record['title']}", ""]
        out += ["| case | peer | times faster | goal | verdict |", "| --- | --- | ---: | ---: | --- |"]
        for one in record["summary"]:
            verdict = "met" if one["ratio"] >= one["goal"] else "**missed**"
            out.append(f"| {one['case']} | {one['peer']} | {one['ratio']:.2f} | {number(one['goal'])} | {verdict} |")
        out.append("")
    return out


def page(root: Path) -> str:
    """Return the status page, in MyST Markdown, from the committed data."""
    data = read_json(root / DATA / "claims.json")
    claims = {one["id"]: one for one in data.get("claims", [])}
    benchmarks = [read_json(path) for path in sorted((root / DATA).glob("benchmarks-*.json"))]
    out = [
        "---",
        "myst:",
        "  html_meta:",
        '    description: "What is finished, every tested claim with its value, what papers print beside what we'
        ' measured, and speed ratios."',
        "---",
        "",
        f"<!-- Made by `make status` from {DATA.as_posix()}. Do not edit. -->",
        "",
        "# Status",
        "",
        "What is finished, what was checked, and with which result. Everything on this page is generated from",
        "committed data, and `make test` fails if the page and the data differ.",
        "",
        *parts_section(root),
        *claims_section(root, data),
        *papers_section(root, claims),
        *benchmarks_section(benchmarks),
    ]
    return "\n".join(out).rstrip() + "\n"


def notebooks(root: Path) -> list[str]:
    """Return the chapters and labs of the plan that are there, as paths from the root."""
    parts = tomllib.loads((root / DATA / "parts.toml").read_text(encoding="utf-8"))["part"]
    planned = [f"{folder}/{part[kind]}.ipynb" for kind, folder in KINDS for part in parts if kind in part]
    return [name for name in planned if (root / name).is_file()]


def processor_seconds() -> float:
    """Return the processor's time in the programs that this one has run: other work on the machine does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(root: Path) -> None:
    """Run each chapter and lab once in a fresh kernel, on one thread, and note the processor's seconds."""
    seconds = {}
    for name in notebooks(root):
        command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute", "--stdout", name]
        start = processor_seconds()
        subprocess.run(
            command,
            cwd=root,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        seconds[name] = round(processor_seconds() - start, 1)
        print(f"{name}: {seconds[name]} s")
    how = {"command": "python -m lablib.teaching.status --minutes", "threads": 1, "machine": machine()}
    text = json.dumps({**how, "seconds": seconds}, indent=1) + "\n"
    (root / DATA / "minutes.json").write_text(text, encoding="utf-8")


def minutes(root: Path) -> str:
    """Return the table of run times that the teachers' page includes."""
    data = read_json(root / DATA / "minutes.json")
    if not data:
        return "No run was timed yet.\n"
    on = data["machine"]
    out = ["| notebook | seconds, top to bottom |", "| --- | ---: |"]
    for name, seconds in data["seconds"].items():
        if (root / name).is_file():
            out.append(f"| {link(root, name)} | {math.ceil(seconds)} |")
    out += [
        "",
        f"Measured by `{data['command']}` on one thread: the time of one core of an {on['processor']}, start of the",
        f"kernel included (Python {on['python']}, torch {on['torch']}).",
    ]
    return "\n".join(out) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or check it; the exit code is 1 where something is not true."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page or a claim is not true")
    parser.add_argument(
        "--claims", type=Path, metavar="FILE", help="the record of a run; default: what LABLIB_CLAIMS names"
    )
    parser.add_argument("--minutes", action="store_true", help="first run every chapter and lab, and time them")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository's folder")
    options = parser.parse_args(arguments)
    root = options.root
    if options.claims and not options.claims.is_file():
        parser.error(f"there is no record {options.claims}")
    if options.minutes:
        measure(root)
    named = options.claims or Path(os.environ.get("LABLIB_CLAIMS") or os.devnull)
    record = read_record(named) if named.is_file() else None
    try:
        stated = in_notebooks(root)
    except ValueError as fault:
        print(fault, file=sys.stderr)
        return 1
    if record is not None and not options.check:
        update(root, record, stated)
    committed = {one["id"]: one for one in read_json(root / DATA / "claims.json").get("claims", [])}
    faults = claim_faults(stated, committed, record)
    timed = read_json(root / DATA / "minutes.json").get("seconds", {})
    faults += [
        f"{DATA.as_posix()}/minutes.json has no time for {name}" for name in notebooks(root) if name not in timed
    ]
    for path, text in ((PAGE, page(root)), (MINUTES, minutes(root))):
        file = root / path
        if not options.check:
            file.write_text(text, encoding="utf-8")
        elif not file.is_file() or file.read_text(encoding="utf-8") != text:
            faults.append(f"{path.as_posix()} differs from what its data give")
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        print("Run `make status`; for times, `python -m lablib.teaching.status --minutes`.", file=sys.stderr)
        return 1
    print(f"{len(stated)} claims: each recorded, each true")
    return 0


if __name__ == "__main__":
    sys.exit(main())
