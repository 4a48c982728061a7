"""The simplex and the l1 ball: dense and sparse rows, batch 256, float32, forward plus backward.

A peer is loaded when it is asked for; one that is not installed becomes a row that says so. `composed` marks a function
that no package offers but that its parts make at once. The softmax is the floor; it is no projection.
"""

import importlib
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from . import measure, page
from .area import Area, Pass
from .measure import OWN, of
from .page import figure, over_floor, table, times_our_time

FLOOR = "torch.softmax"
BATCH = 256
# A tool counts as exact if it is as right as float32 lets it be. The product may miss by more than the answer, since a
# few of two million entries lie within rounding of the threshold, and each of them is wrong by its whole cotangent.
ANSWER, PRODUCT = 1e-5, 2e-3
# y = DENSE / n times N(0, 1) has a projection with about 80 % of its entries not 0, whatever n is.
DENSE = {"simplex": 1.0, "l1": 1.75}
SETS = {"simplex": "simplex", "l1": "l1 ball"}
PICTURE = "benchmarks-simple_sets.svg"
ALT = (
    "Two log-log plots of milliseconds against row length n, for the simplex and the l1 ball. The curves of lablib lie"
    " between softmax, below, and the peers, above; for sparse answers lablib comes down to softmax as n grows."
)
# From the issue: against the fastest exact peer, one thread, batch 256, float32, forward plus backward.
GOALS = {
    ("simplex", "sparse"): {10: 1.0, 100: 1.0, 1000: 3.0, 10000: 1.5},
    ("simplex", "dense"): {10: 1.0, 100: 1.0, 1000: 3.0, 10000: 5.0},
    ("l1", "sparse"): {1000: 5.0, 10000: 5.0},
    ("l1", "dense"): {1000: 5.0, 10000: 5.0},
}
# With two threads: ours, the floor and torch peers, from n = 1000 on. JAX and the others cannot be held to two.
TWO = (OWN, FLOOR, "plain torch sort", "entmax, k=32", "entmax, bisection")
PACKAGES = ("entmax", "sparsemax", "POT", "optax", "jaxopt", "jax", "cvxpylayers", "diffcp", "proxsuite")

# Tools of the field that are not measured, and what `pip install` or their own text said.
NOT_RUN = (
    (
        "qpth",
        "pip beside numpy 2.4.6: `error: subprocess-exited-with-error` `Getting requirements to build wheel did not run"
        " successfully`; without that pin it takes numpy back to 1.26",
    ),
    ("dQP", "not on PyPI; the package called dqp there is another one, for caching"),
    ("ddn (anucvml)", "not on PyPI; the package called ddn there is another one, for dictionaries"),
    ("moreau", "installs; a solver of quadratic and conic programs, not run here"),
    ("chop-pytorch", "installs; its projections carry no gradient"),
    ("LinSATNet", "installs; entropic, so another map"),
)


@dataclass(frozen=True)
class Tool:
    """One way to project: how it is named, what it can do, and how it is made."""

    name: str
    sets: tuple[str, ...]
    make: object  # (kind, n, y, v, device) -> run
    composed: bool = False
    slow: bool = False  # a general solver, measured at n <= 100 and few times
    largest: int = 10**9


def torch_tool(load):
    """A maker from `load(kind, n)`, which returns a torch function of y."""

    def make(kind: str, n: int, y, v, device: str):
        return measure.both_passes(load(kind, n), y, v, device)

    return make


def plain_simplex(y, total: float = 1.0):
    """The textbook: sort, find the count, shift and clip; autograd does the rest."""
    ordered = y.sort(-1, descending=True).values
    tail = ordered.cumsum(-1) - total
    ranks = torch.arange(1, y.shape[-1] + 1, dtype=y.dtype, device=y.device)
    count = (ordered * ranks > tail).sum(-1, keepdim=True)
    return (y - tail.gather(-1, count - 1) / count).clamp(min=0)


def plain_l1(y, simplex=plain_simplex):
    """The textbook: the simplex of the absolute values, signs put back, rows inside left alone."""
    size = y.abs()
    return torch.where(size.sum(-1, keepdim=True) > 1, y.sign() * simplex(size), y)


def own(kind: str, n: int):
    """The public layer, its checks of the input included."""
    import lablib

    convex_set = lablib.Simplex(n) if kind == "simplex" else lablib.L1Ball(n)
    return lablib.ProjectionLayer(convex_set)


def softmax(kind: str, n: int):
    return lambda y: torch.softmax(y, -1)


def plain(kind: str, n: int):
    return plain_simplex if kind == "simplex" else plain_l1


def from_simplex(simplex):
    """A maker for a tool that offers the simplex; its l1 ball is composed."""

    def load(kind: str, n: int):
        function = simplex()
        return function if kind == "simplex" else lambda y: plain_l1(y, function)

    return torch_tool(load)


def entmax_top():
    from entmax import sparsemax

    return lambda y: sparsemax(y, -1, 32)


def entmax_sort():
    from entmax import sparsemax

    return lambda y: sparsemax(y, -1)


def entmax_bisect():
    from entmax import sparsemax_bisect

    return lambda y: sparsemax_bisect(y, -1)


def pypi_sparsemax():
    from sparsemax import Sparsemax

    return Sparsemax(dim=-1)


def pot_simplex():
    from ot.utils import proj_simplex

    return lambda y: proj_simplex(y.T).T


def jax_maker(module: str):
    """A maker for optax and jaxopt: torch tensors in and out by DLPack, as for all; one jitted call does both passes.

    The first time is that of the call, the second that of handing tensors over.
    """

    def make(kind: str, n: int, y, v, device: str):
        import jax

        projections = importlib.import_module(module)
        project = projections.projection_simplex if kind == "simplex" else projections.projection_l1_ball

        def both(y, v):
            x, back = jax.vjp(jax.vmap(lambda row: project(row, 1.0)), y)
            return x, back(v)[0]

        jitted = jax.jit(both)

        def run():
            start = time.perf_counter()
            handed = jax.dlpack.from_dlpack(y.detach()), jax.dlpack.from_dlpack(v)
            middle = time.perf_counter()
            answer = jax.block_until_ready(jitted(*handed))
            after = time.perf_counter()
            answer = tuple(map(torch.from_dlpack, answer))
            exchange = time.perf_counter() - after + middle - start
            return answer, {"forward": after - middle, "backward": exchange}

        return run

    return make


def cvxpylayers(kind: str, n: int):
    import cvxpy
    from cvxpylayers.torch import CvxpyLayer

    x, y = cvxpy.Variable(n), cvxpy.Parameter(n)
    limits = [x >= 0, cvxpy.sum(x) == 1] if kind == "simplex" else [cvxpy.norm(x, 1) <= 1]
    layer = CvxpyLayer(cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(x - y)), limits), parameters=[y], variables=[x])
    return lambda y: layer(y)[0]


def proxsuite(kind: str, n: int):
    from proxsuite.torch.qplayer import QPFunction

    double = {"dtype": torch.float64}
    P, one, one_row = torch.eye(n, **double), torch.ones(1, **double), torch.ones(1, n, **double)
    low, high = torch.zeros(n, **double), torch.full((n,), 1e20, **double)
    solve = QPFunction(structural_feasibility=True)
    return lambda y: solve(P, -y.double(), one_row, one, torch.eye(n, **double), low, high)[0].to(y)


TOOLS = (
    Tool(OWN, ("simplex", "l1"), torch_tool(own)),
    Tool(FLOOR, ("simplex", "l1"), torch_tool(softmax)),
    Tool("plain torch sort", ("simplex", "l1"), torch_tool(plain)),
    Tool("entmax, k=32", ("simplex",), from_simplex(entmax_top)),
    Tool("entmax, sort", ("simplex",), from_simplex(entmax_sort)),
    Tool("entmax, bisection", ("simplex",), from_simplex(entmax_bisect)),
    Tool("entmax, k=32, of |y|", ("l1",), from_simplex(entmax_top), composed=True),
    Tool("entmax, bisection, of |y|", ("l1",), from_simplex(entmax_bisect), composed=True),
    Tool("sparsemax", ("simplex",), from_simplex(pypi_sparsemax)),
    Tool("POT", ("simplex",), from_simplex(pot_simplex)),
    Tool("optax", ("simplex", "l1"), jax_maker("optax.projections")),
    Tool("jaxopt", ("simplex", "l1"), jax_maker("jaxopt.projection"), largest=1000),
    Tool("cvxpylayers (diffcp)", ("simplex", "l1"), torch_tool(cvxpylayers), slow=True, largest=100),
    Tool("proxsuite QPLayer", ("simplex",), torch_tool(proxsuite), slow=True, largest=100),
)


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


def check(kind: str, answer, right) -> dict:
    """Return the largest error of x, its largest violation, the relative error of the product, and the verdict."""
    x, product = (part.double().cpu() for part in answer)
    error = float((x - right[0]).abs().max())
    total = x.sum(-1) if kind == "simplex" else x.abs().sum(-1)
    violation = float((total - 1).abs().max() if kind == "simplex" else (total - 1).clamp(min=0).max())
    if kind == "simplex":
        violation = max(violation, float((-x).max()))
    missed = float((product - right[1]).norm() / right[1].norm())
    exact = error <= ANSWER and missed <= PRODUCT
    return {"error": error, "violation": violation, "product_error": missed, "exact": exact}


def cases(key: str, quick: bool) -> list[dict]:
    """Return what a pass measures."""
    sizes = {"cases": (10, 100, 1000, 10000), "two_threads": (1000, 10000), "general": (10, 100)}
    sizes["growth"] = (100, 200, 500, 1000, 2000, 5000, 10000)
    chosen = [(kind, "sparse") for kind in SETS] if key == "general" else GOALS
    return [{"set": kind, "case": case, "n": n} for n in ((10, 64) if quick else sizes[key]) for kind, case in chosen]


def measure_case(case: dict, key: str, *, seed: int, device: str, quick: bool) -> dict:
    """Measure all tools that can do this case."""
    kind, n = case["set"], case["n"]
    y, v = numbers(kind, case["case"], n, seed, device)
    right = reference(kind, y, v)

    def wanted(tool: Tool) -> bool:
        if kind not in tool.sets or n > tool.largest:
            return False
        if tool.name in (OWN, FLOOR):
            return True
        return {"cases": not tool.slow, "two_threads": tool.name in TWO, "general": tool.slow, "growth": False}[key]

    entries = []
    for tool in filter(wanted, TOOLS):
        row = {"name": tool.name} | ({"composed": True} if tool.composed else {})
        make = partial(tool.make, kind, n, y, v, device)
        entries.append(measure.Entry(row, make, None if tool.name == FLOOR else partial(check, kind, right=right)))
    long = {"cases": 0.6 if n < 10000 else 1.5, "two_threads": 0.6 if n < 10000 else 1.5, "general": 2, "growth": 0.2}
    rows = measure.in_turns(entries, 0.05 if quick else long[key])
    support = float((right[0] != 0).sum()) / BATCH
    return case | {"support": round(support, 1), "tools": rows}


def label(case: dict) -> str:
    """Return a case's name in tables."""
    return f"{SETS[case['set']]}, n = {case['n']}, {case['case']}"


def goal(case: dict) -> float | None:
    """Return a case's goal, if it has one."""
    return GOALS[case["set"], case["case"]].get(case["n"])


def ordered(record: dict, key: str = "cases"):
    """Go through the cases, by set, then case, then length."""
    return sorted(record[key], key=lambda one: (one["set"] != "simplex", one["case"] != "sparse", one["n"]))


def floors(record: dict, key: str = "cases") -> list[str]:
    """Return our times beside the softmax's."""
    rows = []
    for case in ordered(record, key):
        own, floor = of(case, OWN), of(case, FLOOR)
        times = [figure(own[part]) for part in ("forward_ms", "backward_ms", "step_ms")]
        rows.append([label(case), f"{case['support']:g}", *times, figure(floor["step_ms"]), figure(over_floor(floor))])
    return table(["case", "support", "forward", "backward", "both", "softmax", "ratio"], rows)


def field(record: dict, kind: str) -> list[str]:
    """Return how many times our time each tool takes, for one set."""
    chosen = [case for case in ordered(record) if case["set"] == kind]
    names = [tool["name"] for tool in chosen[0]["tools"] if tool["name"] not in (OWN, FLOOR)]
    rows = [[name, *(times_our_time(of(case, name)) for case in chosen)] for name in names]
    head = ["times our time", *[f"{case['n']} {case['case']}" for case in chosen]]
    return table(head, rows)


def general(record: dict) -> list[str]:
    """Return the general solvers, which can do far more and are measured at small n."""
    rows = []
    for case in ordered(record, "general"):
        own = of(case, OWN)
        for tool in case["tools"]:
            if tool["name"] in (OWN, FLOOR):
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
            chosen = [one for one in ordered(record, "growth") if (one["set"], one["case"]) == (kind, case)]
            sizes = [one["n"] for one in chosen]
            fitted = [measure.slope(sizes, [of(one, name)["step_ms"] for one in chosen]) for name in (OWN, FLOOR)]
            rows.append([f"{SETS[kind]}, {case}", *map(figure, fitted)])
    return table(["case", "our exponent", "softmax"], rows)


def draw(record: dict, folder: Path) -> None:
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
            for one in ordered(record, "growth"):
                if (one["set"], one["case"]) == (kind, case):
                    series.setdefault(f"lablib, {case}", []).append((one["n"], of(one, OWN)["step_ms"]))
                    if case == "sparse":
                        series.setdefault(FLOOR, []).append((one["n"], of(one, FLOOR)["step_ms"]))
        for name in shown[kind]:
            for one in ordered(record):
                if (one["set"], one["case"]) == (kind, "sparse") and one["n"] >= 100 and "step_ms" in of(one, name):
                    series.setdefault(f"{name}, sparse", []).append((one["n"], of(one, name)["step_ms"]))
        for index, (name, points) in enumerate(series.items()):
            ax.loglog(*zip(*points, strict=True), label=name, **figures.line(index))
        ax.set(title=f"{SETS[kind]}, batch {BATCH}, one thread", xlabel="row length n")
        ax.legend(fontsize=8.5)
    axes[0].set_ylabel("forward + backward, ms")
    fig.savefig(folder / PICTURE, metadata={"Date": None})
    plt.close(fig)


def section(record: dict) -> list[str]:
    """Return the section's text and tables."""
    best = {one["case"]: one["ratio"] for one in record["summary"]}
    ratios = [over_floor(of(case, FLOOR)) for case in record["cases"] if case["n"] >= 1000]
    ten = next(case for case in record["cases"] if case["n"] == 10)
    small, jax = of(ten, OWN)["step_ms"], of(ten, "jaxopt")
    return [
        "### What was measured",
        "",
        f"A batch of {BATCH} rows of length $n$ goes through `lablib.ProjectionLayer`, its checks of the"
        " input included, and a random cotangent comes back. The time is that of both passes, in float32, on one"
        f" thread, in {record['processes']} processes.",
        "",
        "Two kinds of rows show two kinds of work. *Sparse*: $y$ is normal noise of size 1, so that few entries of"
        " the projection are not 0. *Dense*: $y$ is scaled down until four in five entries are not 0.",
        "",
        "A tool is exact if its projection agrees with a float64 reference to $10^{-5}$ and its gradient to"
        " $2 \\cdot 10^{-3}$: a few of two million entries lie within rounding of the threshold.",
        "",
        "### The goals",
        "",
        *page.verdicts(record),
        "### How far from the floor",
        "",
        "A softmax gives every row one sum and one pass. It is no projection, but nothing of this kind can be much"
        f" faster. From $n = 1000$ on our layers take {figure(min(ratios))} to {figure(max(ratios))} times the"
        " softmax's time. Times are in milliseconds; *support* is the mean number of entries that are not"
        " 0, *ratio* the median of our time over the softmax's.",
        "",
        *floors(record),
        f"```{{figure}} _static/{PICTURE}",
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
        "### The field, one by one",
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
        "### What it means for choosing",
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
    ]


AREA = Area(
    name="simple_sets",
    title="Simplex and l1 ball",
    question="Is an exact projection too slow for a layer?",
    packages=PACKAGES,
    not_run=NOT_RUN,
    passes=(
        Pass("cases", quick=True, cuda=True),
        Pass("growth", cuda=True),
        Pass("two_threads", threads=2, processes=3),
        Pass("general", processes=1),
    ),
    cases=cases,
    measure=measure_case,
    label=label,
    goal=goal,
    section=section,
    draw=draw,
)
