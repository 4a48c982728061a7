"""Write the page "Benchmarks" and its picture from the committed record; every number on the page comes from there."""

import json
import statistics
from pathlib import Path

from .measure import slope

PAGE = Path("book") / "benchmarks.md"
PICTURE = Path("book") / "_static" / "benchmarks.svg"
SETS = {"simplex": "simplex", "l1": "l1 ball"}
ALT = (
    "Two log-log plots of milliseconds against row length n, for the simplex and the l1 ball. The curves of lablib lie"
    " between softmax, below, and the peers, above; for sparse answers lablib comes down to softmax as n grows."
)


def of(case: dict, name: str) -> dict:
    """Return a tool's row; empty where it was not measured."""
    return next((tool for tool in case["tools"] if tool["name"] == name), {})


def quartile(row: dict) -> float:
    """Return the second smallest of five ratios."""
    return row["ratios"][len(row["ratios"]) // 4]


def middle(floor: dict) -> float:
    """Return the median of how many times the softmax's time we take."""
    return 1 / statistics.median(floor["ratios"])


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


def cases(record: dict, key: str = "cases"):
    """Go through the cases, by set, then case, then length."""
    return sorted(record[key], key=lambda one: (one["set"] != "simplex", one["case"] != "sparse", one["n"]))


def verdicts(record: dict) -> list[str]:
    """Return the goals and what became of them."""
    rows = []
    for one in record["summary"]:
        met = "met" if one["ratio"] >= one["goal"] else "**not met**"
        rows.append([one["case"], one["peer"], figure(one["ratio"]), f"{one['goal']:g}", met])
    count = sum(one["ratio"] >= one["goal"] for one in record["summary"])
    return [
        *table(["case", "fastest exact peer", "times faster", "goal", "verdict"], rows),
        f"{count} of {len(rows)} goals are met.",
        "",
    ]


def floors(record: dict, key: str = "cases") -> list[str]:
    """Return our times beside the softmax's."""
    rows = []
    for case in cases(record, key):
        own, floor = of(case, "lablib"), of(case, "torch.softmax")
        name = f"{SETS[case['set']]}, n = {case['n']}, {case['case']}"
        times = [figure(own[part]) for part in ("forward_ms", "backward_ms", "step_ms")]
        rows.append([name, f"{case['support']:g}", *times, figure(floor["step_ms"]), figure(middle(floor))])
    return table(["case", "support", "forward", "backward", "both", "softmax", "ratio"], rows)


def field(record: dict, kind: str) -> list[str]:
    """Return how many times our time each tool takes, for one set."""
    chosen = [case for case in cases(record) if case["set"] == kind]
    names = [tool["name"] for tool in chosen[0]["tools"] if tool["name"] not in ("lablib", "torch.softmax")]
    rows = []
    for name in names:
        cells = []
        for case in chosen:
            row = of(case, name)
            mark = "" if row.get("exact") else "\\*"
            cells.append(figure(quartile(row)) + mark if "ratios" in row else "-")
        rows.append([name, *cells])
    head = ["times our time", *[f"{case['n']} {case['case']}" for case in chosen]]
    return table(head, rows)


def general(record: dict) -> list[str]:
    """Return the general solvers, which can do far more and are measured at small n."""
    rows = []
    for case in cases(record, "general"):
        own = of(case, "lablib")
        for tool in case["tools"]:
            if tool["name"] in ("lablib", "torch.softmax"):
                continue
            name = f"{tool['name']}, {SETS[case['set']]}, n = {case['n']}"
            if "step_ms" not in tool:
                rows.append([name, "-", "-", tool.get("missing") or tool.get("failed", "")])
                continue
            error = f"{tool['error']:.0e}"
            rows.append([name, figure(tool["step_ms"]), f"{tool['step_ms'] / own['step_ms']:.0f}", error])
    return table(["solver", "milliseconds", "times our time", "largest error of x"], rows)


def slopes(record: dict) -> list[str]:
    """Return the fitted growth of our time with n."""
    rows = []
    for kind in SETS:
        for case in ("sparse", "dense"):
            chosen = [one for one in cases(record, "growth") if (one["set"], one["case"]) == (kind, case)]
            sizes = [one["n"] for one in chosen]
            fitted = [
                slope(sizes, [of(one, name)["step_ms"] for one in chosen]) for name in ("lablib", "torch.softmax")
            ]
            rows.append([f"{SETS[kind]}, {case}", *map(figure, fitted)])
    return table(["case", "our exponent", "softmax"], rows)


def picture(record: dict, path: Path) -> None:
    """Draw time against n, ours, the floor and the fastest peers."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from lablib.teaching import figures

    figures.style()
    plt.rcParams["svg.hashsalt"] = "benchmarks"
    shown = {
        "simplex": ("plain torch sort", "entmax, k=32", "entmax, bisection"),
        "l1": ("plain torch sort", "optax"),
    }
    fig, axes = plt.subplots(1, 2, figsize=(9.2, 4.4), sharey=True)
    for ax, kind in zip(axes, SETS, strict=True):
        series = {}
        for case in ("sparse", "dense"):
            for one in cases(record, "growth"):
                if (one["set"], one["case"]) == (kind, case):
                    series.setdefault(f"lablib, {case}", []).append((one["n"], of(one, "lablib")["step_ms"]))
                    if case == "sparse":
                        series.setdefault("torch.softmax", []).append((one["n"], of(one, "torch.softmax")["step_ms"]))
        for name in shown[kind]:
            for one in cases(record):
                if (one["set"], one["case"]) == (kind, "sparse") and one["n"] >= 100 and "step_ms" in of(one, name):
                    series.setdefault(f"{name}, sparse", []).append((one["n"], of(one, name)["step_ms"]))
        for index, (name, points) in enumerate(series.items()):
            ax.loglog(*zip(*points, strict=True), label=name, **figures.line(index))
        ax.set(title=f"{SETS[kind]}, batch {record['batch']}, one thread", xlabel="row length n")
        ax.legend(fontsize=8.5)
    axes[0].set_ylabel("forward + backward, ms")
    fig.savefig(path, metadata={"Date": None})
    plt.close(fig)


def text(record: dict) -> str:
    """Return the page."""
    env = record["environment"]
    best = {(one["case"]): one["ratio"] for one in record["summary"]}
    versions = ", ".join(f"{name} {version}" for name, version in sorted(env["versions"].items()) if version)
    not_run = [[one["name"], one["message"]] for one in record["not_run"]]
    missing = sorted(
        {(t["name"], t["missing"]) for case in record["cases"] for t in case["tools"] if "missing" in t}
        | {(t["name"], t["failed"]) for case in record["cases"] for t in case["tools"] if "failed" in t}
    )
    not_run += [list(one) for one in missing]
    large = [of(case, "torch.softmax") for case in record["cases"] if case["n"] >= 1000]
    ratios = [middle(row) for row in large]
    ten = next(case for case in record["cases"] if case["n"] == 10)
    small, jax = of(ten, "lablib")["step_ms"], of(ten, "jaxopt")
    return "\n".join(
        [
            "---",
            "myst:",
            "  html_meta:",
            '    description: "Measured times of the simplex and l1-ball layers beside their public peers and beside'
            ' softmax, with verdicts."',
            "---",
            "",
            "<!-- Made by `make bench` from book/_data/benchmarks.json. Do not edit. -->",
            "",
            "# Benchmarks",
            "",
            "Is an exact projection too slow for a layer? This page measures it for the simplex and the l1 ball.",
            "",
            "## What was measured",
            "",
            f"A batch of {record['batch']} rows of length $n$ goes through `lablib.ProjectionLayer`, its checks of the"
            " input included, and a random cotangent comes back. The time is that of both passes, in float32, on one"
            " thread. Rival tools get the same tensors, in the same process, in turns.",
            "",
            "Two kinds of rows show two kinds of work. *Sparse*: $y$ is normal noise of size 1, so that few entries of"
            " the projection are not 0. *Dense*: $y$ is scaled down until four in five entries are not 0.",
            "",
            "No time is believed before the answer is. Each tool's projection is compared with a float64 reference to"
            " $10^{-5}$, and its gradient to $2 \\cdot 10^{-3}$: a few of two million entries lie within"
            " rounding of the threshold. A tool that fails this is not exact, is marked \\*, and does not count as the"
            " fastest.",
            "",
            f"The whole was run in {record['processes']} processes. In each, a tool's time is a median. The ratio of"
            " two tools is taken within a process, and of the ratios the lower quartile is printed.",
            "",
            "## The goals",
            "",
            "Goals were set before the code was written. A ratio of 3 means: the fastest exact peer takes 3 times our"
            " time.",
            "",
            *verdicts(record),
            "## How far from the floor",
            "",
            "A softmax gives every row one sum and one pass. It is no projection, but nothing of this kind can be much"
            f" faster. From $n = 1000$ on our layers take {figure(min(ratios))} to {figure(max(ratios))} times the"
            " softmax's time. Times are in milliseconds; *support* is the mean number of entries that are not"
            " 0, *ratio* the median of our time over the softmax's.",
            "",
            *floors(record),
            f"```{{figure}} _static/{PICTURE.name}",
            f":alt: {ALT}",
            ":name: fig-benchmarks",
            "",
            "Time of forward and backward pass against $n$. Peers are drawn on sparse rows.",
            "```",
            "",
            "Straight lines in this picture are powers of $n$. Fitted over seven lengths from 100 to 10000:",
            "",
            *slopes(record),
            "A line with exponent 1 takes ten times as long for ten times as many entries. Ours grow more slowly: at"
            " the left end the fixed cost of the calls still counts.",
            "",
            "## The field, one by one",
            "",
            "How many times our time each tool takes on the simplex, by length and kind of row:",
            "",
            *field(record, "simplex"),
            "On the l1 ball. The rows *of |y|* are no functions of entmax: they are its simplex, applied to $|y|$ with"
            " the signs put back, and do not count as peers.",
            "",
            *field(record, "l1"),
            "The tools from JAX are handed torch tensors and hand torch tensors back, as a layer in a torch network"
            f" must. The exchange is part of their time: of jaxopt's {figure(jax['step_ms'])} ms on sparse simplex rows"
            f" of length 10 it is {figure(jax['backward_ms'])} ms. Inside JAX the call takes"
            f" {figure(jax['forward_ms'])} ms, where our layer takes {figure(small)} ms.",
            "",
            "Solvers for general problems can do far more than these two sets. At small $n$, on sparse rows:",
            "",
            *general(record),
            "## What it means for choosing",
            "",
            f"- **Short rows**, $n \\le 30$: everything is the cost of calling torch, {figure(small)} ms here. Choose"
            " by what you need, not by speed.",
            "- **Sparse answers** on long rows: entries far below the threshold are read once and never again. This is"
            " where an exact projection comes nearest to softmax.",
            "- **Dense answers** on long rows: no top-k method helps, as nearly all entries are in the support."
            f" On the simplex of 10000 the fastest exact peer takes"
            f" {figure(best.get('simplex, n = 10000, dense', float('nan')))} times our time.",
            "- **Other sets**, or rows that share constraints: these searches do not apply, and a general solver's"
            " price is the table above.",
            "",
            "With two threads, medians of three processes. This machine has two processors, and other work held both."
            " Each operation then waits for the slower thread, so these times say more about the machine than about"
            " the code. The peers' times rise too, unevenly, and in some rows a peer is ahead there.",
            "",
            *floors(record, "two_threads"),
            "## What was not run",
            "",
            *table(["tool", "why"], not_run),
            "No figure here is from a GPU. `make bench DEVICE=cuda` measures one and writes a record of its own.",
            "",
            "## Run it again",
            "",
            "`make bench` makes an environment with the peers, measures, and writes the record and this page. It took"
            f" {record['minutes']:g} minutes. Without make:",
            "",
            "```",
            "python3 -m venv .bench-venv",
            ".bench-venv/bin/pip install -r requirements-bench.txt",
            ".bench-venv/bin/python -m tests.benchmarks",
            "```",
            "",
            "Add `--quick` for a try of seconds that writes nothing.",
            "",
            f"This record: {env['processor']}, {env['processors']} processors, {env['system']}, Python {env['python']},"
            f" {versions}.",
            "",
        ]
    )


def write_page(root: Path) -> None:
    """Write the page and the picture from the record."""
    record = json.loads((root / "book" / "_data" / "benchmarks.json").read_text(encoding="utf-8"))
    (root / PAGE).write_text(text(record), encoding="utf-8")
    picture(record, root / PICTURE)
