"""Compose the page "Benchmarks" from the committed records, one section an area; every number comes from there."""

import json
import statistics
from pathlib import Path

from . import area as areas
from . import measure
from .measure import OWN, lower_quartile, of

PAGE = Path("book") / "benchmarks.md"


def record_of(root: Path, name: str, device: str = "cpu") -> Path:
    """Return the path of an area's record."""
    return root / "book" / "_data" / f"benchmarks-{name}{'' if device == 'cpu' else '-' + device}.json"


def figure(value: float) -> str:
    """Three digits at most, as a person would write them."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return a Markdown table with words to the left and numbers to the right."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    words = [any(row[i][:1].isalpha() for row in rows) for i in range(len(head))]
    return [
        "| " + " | ".join(row) + " |" for row in (cells[0], ["---" if w else "---:" for w in words], *cells[1:])
    ] + [""]


def times_our_time(row: dict) -> str:
    """Return how many times our time a tool takes, with a star where it is not exact, or a dash."""
    return figure(lower_quartile(row["ratios"])) + ("" if row.get("exact") else "\\*") if "ratios" in row else "-"


def over_floor(row: dict) -> float:
    """Return the median of how many times the time of the floor, whose row this is, we take."""
    return 1 / statistics.median(row["ratios"])


def verdicts(record: dict) -> list[str]:
    """Return the goals and what became of them."""
    rows = []
    for one in record["summary"]:
        met = "met" if one["ratio"] >= one["goal"] else "**not met**"
        rows.append([one["case"], one["peer"], figure(one["ratio"]), f"{one['goal']:g}", met])
    count = sum(one["ratio"] >= one["goal"] for one in record["summary"])
    return [
        "Goals were set before the code was written. A ratio of 3 means: the fastest exact peer takes 3 times our"
        " time.",
        "",
        *table(["case", "fastest exact peer", "times faster", "goal", "verdict"], rows),
        f"{count} of {len(rows)} goals are met.",
        "",
    ]


def growth(record: dict, sizes: dict[str, tuple[int, ...]], floor: str, beside: str) -> list[str]:
    """Return the fitted exponents of our time and the floor's, for each size that grows."""
    rows = []
    for name, grown in sizes.items():
        chosen = [case for case in record["growth"] if case["grows"] == name]
        fitted = [measure.slope(grown, [of(case, tool)["step_ms"] for case in chosen]) for tool in (OWN, floor)]
        ends = [figure(of(case, OWN)["step_ms"]) for case in (chosen[0], chosen[-1])]
        rows.append([name, f"{grown[0]} to {grown[-1]}", *ends, *map(figure, fitted)])
    return table(["grows", "from, to", "ms at the first", "ms at the last", "our exponent", beside], rows)


def not_run(record: dict) -> list[str]:
    """Return the peers that were not measured, with what they said; nothing if there are none."""
    rows = [[one["name"], one["message"]] for one in record["not_run"]]
    tools = [tool for case in record["cases"] for tool in case["tools"]]
    rows += sorted(
        map(list, {(t["name"], t.get("missing") or t["failed"]) for t in tools if {"missing", "failed"} & t.keys()})
    )
    return ["### What was not run", "", *table(["tool", "why"], rows)] if rows else []


def machine(record: dict) -> list[str]:
    """Return what the record was measured on, and how long that took."""
    env = record["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(env["versions"].items()) if version)
    return [
        f"This record took {record['minutes']:g} minutes on: {env['processor']}, {env['processors']} processors,"
        f" {env['system']}, Python {env['python']}, {versions}.",
        "",
    ]


def text(records: dict[str, dict]) -> str:
    """Return the page, from the records by area."""
    found = {name: areas.load(name) for name in records}
    lead = [f"- [{area.title}](#benchmarks-{name.replace('_', '-')}). {area.question}" for name, area in found.items()]
    sections = []
    for name, area in found.items():
        sections += [f"(benchmarks-{name.replace('_', '-')})=", "", f"## {area.title}", "", area.question, ""]
        sections += [*area.section(records[name]), *not_run(records[name]), *machine(records[name])]
    return "\n".join(
        [
            "---",
            "myst:",
            "  html_meta:",
            "    description: \"Measured times of lablib's layers beside their public peers and beside a floor, with"
            ' verdicts."',
            "---",
            "",
            "<!-- Made by `make bench` from book/_data/benchmarks-*.json. Do not edit. -->",
            "",
            "# Benchmarks",
            "",
            "What does a constraint cost, and is there a faster tool? Each section asks it of one method:",
            "",
            *lead,
            "",
            "In all of them, rival tools get the same tensors, in the same process, in turns. No time is believed"
            " before the answer is: each tool's answer, and its gradient where it has one, is compared with a"
            " reference that has nothing of lablib in it. A tool that fails this is not exact, is marked \\*, and does"
            " not count as the fastest.",
            "",
            "The whole is run in several processes. In each, a tool's time is a median. The ratio of two tools is taken"
            " within a process, and of the ratios the lower quartile is printed.",
            "",
            *sections,
            "## Run it again",
            "",
            "`make bench` makes an environment with the peers, measures, and writes the records and this page."
            " `make bench AREA=simple_sets` measures one section again. Without make:",
            "",
            "```",
            "python3 -m venv .bench-venv",
            ".bench-venv/bin/pip install -r requirements-bench.txt",
            ".bench-venv/bin/python -m tests.benchmarks",
            "```",
            "",
            "Add `--quick` for a try of seconds that writes nothing. No figure here is from a GPU: `make bench"
            " DEVICE=cuda` measures one and writes records of its own.",
            "",
        ]
    )


def read_records(root: Path) -> dict[str, dict]:
    """Return the committed records by area, in the book's order."""
    paths = {name: record_of(root, name) for name in areas.names()}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.is_file()}


def write_page(root: Path, redrawn: list[str]) -> None:
    """Write the page from all records, and draw the pictures of these areas."""
    records = read_records(root)
    (root / PAGE).write_text(text(records), encoding="utf-8")
    for name in redrawn:
        if name in records and (draw := areas.load(name).draw):
            draw(records[name], root / "book" / "_static")
