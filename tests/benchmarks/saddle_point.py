"""The multipliers of 2000 patterns, 10 sigmoids and 4 rows each: the published loop, L-BFGS, general solvers, ours.

A tool starts at multipliers 0 and is exact if every row of every pattern is met to 1e-6 in the end. The published loop
stops itself at a bound a hundred thousand times as loose. So it goes on here, in float64, until it is exact too.
"""

import time
from functools import partial

import torch
from torch import Tensor

from ..results import saddle_point_xor as xor
from . import measure
from .area import Area, Pass
from .measure import OWN, of
from .page import figure, table

PUBLISHED, BARE = "published loop", "published loop, bare, step tuned"
LBFGS, LBFGS_ALL = "jaxopt L-BFGS", "torch L-BFGS, all patterns as one"
DOGLEG, HYBRID, CONES = "optimistix Dogleg", "SciPy root", "CVXPY with Clarabel"
SCIPY_LBFGS = "SciPy L-BFGS-B"
TITLES = {"start": "XOR, first step", "end": "XOR, trained", "noise": "noise"}
VIOLATION = 1e-6
GOAL = 10.0  # from the issue, against the published loop at equal violation
STEPS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2)  # fixed steps that the bare loop may choose from, beforehand
MOST = 20_000
GROWTH = {
    "B": (100, 200, 500, 1000, 2000, 5000, 10000),
    "K": (10, 20, 50, 100, 200, 500, 1000),
    "m": (1, 2, 4, 8, 16, 32, 64),
}
PACKAGES = ("scipy", "jaxopt", "optimistix", "jax", "cvxpy", "clarabel")


def numbers(kind: str, B: int, K: int, m: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits u (B, K), targets y (B, K) and A (m, K) in float64; b is A y."""
    if kind == "noise":
        generator = torch.Generator().manual_seed(seed)
        u, y, A = (torch.randn(*shape, generator=generator).double() for shape in ((B, K), (B, K), (m, K)))
        return u, torch.sigmoid(y), A
    p = xor.problem(seed)
    if kind == "start":
        generator = torch.Generator().manual_seed(1000 + seed)
        weights, bias = xor.layer(2, 5, generator)
        top, shift = torch.randn(5, K, generator=generator), torch.randn(K, generator=generator)
        u = (torch.sigmoid(p.x @ weights + bias) @ top + shift).detach()
    else:
        u = xor.train(p, xor.exact(p.A), seed).u
    rows = torch.randperm(xor.PATTERNS, generator=torch.Generator().manual_seed(seed))[:B]  # from all four boxes
    return u[rows].double(), p.y[rows].double(), p.A.double()


def timed(work):
    """Return a `run` that times `work`."""

    def run():
        begin = time.perf_counter()
        answer = work()
        return answer, {"solve": time.perf_counter() - begin}

    return run


def own(u: Tensor, y: Tensor, A: Tensor):
    """The public layer as it comes, its checks of the input included."""
    import lablib

    head, b = lablib.DualHead(A), y @ A.T
    return timed(lambda: head.multipliers(u, b)[0])


def worst(gradient: Tensor) -> float:
    """Return the largest violation of a row."""
    return float(gradient.abs().max())


def published(u: Tensor, y: Tensor, A: Tensor):
    """The published loop, its line search included, from its bound on to ours."""
    start = torch.zeros(len(u), len(A), dtype=u.dtype)
    return timed(lambda: xor.published(u, y, A, start, error=worst, tolerance=VIOLATION, most=MOST).multipliers)


def descend(u: Tensor, y: Tensor, A: Tensor, step: float, most: int) -> tuple[Tensor, int]:
    """Do the loop without its line search: gradient steps of one length until all is met."""
    multipliers, steps = torch.zeros(len(u), len(A), dtype=u.dtype), 0
    gradient = (torch.sigmoid(u) - y) @ A.T
    while not worst(gradient) <= VIOLATION and steps < most:
        multipliers = multipliers - step * gradient
        gradient = (torch.sigmoid(u + multipliers @ A) - y) @ A.T
        steps += 1
    return multipliers, steps


def bare(u: Tensor, y: Tensor, A: Tensor):
    """The loop without its line search, with the fixed step of those listed that ends first."""
    best, most = STEPS[0], MOST
    for step in STEPS:
        _, steps = descend(u, y, A, step, most)
        if steps < most:
            best, most = step, steps
    return timed(lambda: descend(u, y, A, best, MOST)[0])


def torch_lbfgs(u: Tensor, y: Tensor, A: Tensor):
    """One L-BFGS for the sum of all patterns' duals, with strong Wolfe steps."""

    def work():
        lam = torch.zeros(len(u), len(A), dtype=u.dtype, requires_grad=True)
        solver = torch.optim.LBFGS(
            [lam], max_iter=2000, tolerance_grad=VIOLATION, tolerance_change=0, line_search_fn="strong_wolfe"
        )

        def value():
            solver.zero_grad()
            s = u + lam @ A
            loss = (torch.nn.functional.softplus(s) - y * s).sum()
            loss.backward()
            return loss

        solver.step(value)
        return lam.detach()

    return timed(work)


def jax_tool(load):
    """A maker for a JAX solver, mapped over the patterns and compiled; tensors go in and come out by DLPack."""

    def make(u: Tensor, y: Tensor, A: Tensor):
        import jax

        jax.config.update("jax_enable_x64", True)
        solve = jax.jit(jax.vmap(load(), in_axes=(0, 0, None)))

        def work():
            handed = [jax.dlpack.from_dlpack(t.contiguous()) for t in (u, y, A)]
            return torch.from_dlpack(jax.block_until_ready(solve(*handed)))

        return timed(work)

    return make


def jaxopt_lbfgs():
    import jax
    import jax.numpy as jnp
    import jaxopt

    def value(lam, u, y, A):
        s = u + lam @ A
        return (jax.nn.softplus(s) - y * s).sum()

    solver = jaxopt.LBFGS(value, maxiter=500, tol=VIOLATION)
    return lambda u, y, A: solver.run(jnp.zeros(len(A)), u, y, A).params


def optimistix_dogleg():
    import jax
    import jax.numpy as jnp
    import optimistix

    solver = optimistix.Dogleg(rtol=1e-9, atol=1e-9)

    def residual(lam, rest):
        u, y, A = rest
        return A @ (jax.nn.sigmoid(u + lam @ A) - y)

    return lambda u, y, A: (
        optimistix.root_find(residual, solver, jnp.zeros(len(A)), (u, y, A), max_steps=500, throw=False).value
    )


def pattern_by_pattern(solve):
    """A maker for a solver that takes one pattern at a time, in NumPy."""

    def make(u: Tensor, y: Tensor, A: Tensor):
        one, data = solve(A.numpy()), list(zip(u.numpy(), y.numpy(), strict=True))
        return timed(lambda: torch.stack([torch.as_tensor(one(*pair)) for pair in data]))

    return make


def scipy_root(A):
    import numpy as np
    from scipy.optimize import root
    from scipy.special import expit

    def one(u, y):
        def both(lam):
            z = expit(u + lam @ A)
            return A @ (z - y), (A * (z * (1 - z))) @ A.T

        return root(both, np.zeros(len(A)), jac=True, method="hybr", tol=1e-10).x

    return one


def scipy_lbfgs(A):
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import expit

    def one(u, y):
        def both(lam):
            s = u + lam @ A
            return (np.logaddexp(0, s) - y * s).sum(), A @ (expit(s) - y)

        options = {"gtol": VIOLATION, "ftol": 0, "maxiter": 1000}
        return minimize(both, np.zeros(len(A)), jac=True, method="L-BFGS-B", options=options).x

    return one


def cvxpy_cones(A):
    import cvxpy

    K = A.shape[1]
    z, u, b = cvxpy.Variable(K), cvxpy.Parameter(K), cvxpy.Parameter(len(A))
    rows = A @ z == b
    entropy = cvxpy.sum(cvxpy.entr(z) + cvxpy.entr(1 - z))
    program = cvxpy.Problem(cvxpy.Minimize(-entropy - u @ z), [rows])

    def one(logits, y):
        u.value, b.value = logits, A @ y
        program.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
        return -rows.dual_value

    return one


BATCHED = {
    OWN: own,
    PUBLISHED: published,
    BARE: bare,
    LBFGS_ALL: torch_lbfgs,
    LBFGS: jax_tool(jaxopt_lbfgs),
    DOGLEG: jax_tool(optimistix_dogleg),
}
ONE_BY_ONE = {
    OWN: own,
    SCIPY_LBFGS: pattern_by_pattern(scipy_lbfgs),
    HYBRID: pattern_by_pattern(scipy_root),
    CONES: pattern_by_pattern(cvxpy_cones),
}


def check(multipliers: Tensor, u: Tensor, y: Tensor, A: Tensor) -> dict:
    """Return the largest violation of a row, from its definition; all is met exactly at the dual's minimum."""
    error = worst((torch.sigmoid(u + multipliers.double() @ A) - y) @ A.T)
    return {"violation": error, "exact": error <= VIOLATION}


def cases(key: str, quick: bool) -> list[dict]:
    """Return what a pass measures."""
    size = {"B": 2000, "K": 10, "m": 4}
    if quick:
        return [{"kind": "noise", **size, "B": 50}]
    if key == "growth":
        base = {"kind": "noise", "B": 500, "K": 100, "m": 4}
        return [base | {"grows": name, name: n} for name, sizes in GROWTH.items() for n in sizes]
    return [{"kind": kind, **size, "B": 2000 if key == "cases" else 50} for kind in TITLES]


def measure_case(case: dict, key: str, *, seed: int, device: str, quick: bool) -> dict:
    """Measure the tools of a pass on one problem."""
    u, y, A = numbers(case["kind"], case["B"], case["K"], case["m"], seed)
    tools = {"cases": BATCHED, "one_by_one": ONE_BY_ONE, "growth": {OWN: own}}[key]
    entries = []
    for name, make in tools.items():
        row = {"name": name} | ({"composed": True} if name == BARE else {})  # nobody published it: no rival
        entries.append(measure.Entry(row, partial(make, u, y, A), partial(check, u=u, y=y, A=A)))
    return case | {"tools": measure.in_turns(entries, 0.05 if quick else {"growth": 0.2}.get(key, 1.0))}


def label(case: dict) -> str:
    """Return a case's name in tables."""
    return f"{TITLES[case['kind']]}, B = {case['B']}, K = {case['K']}, m = {case['m']}"


def goal(case: dict) -> float | None:
    """Return a case's goal against the published loop."""
    return GOAL


def field(record: dict, key: str) -> list[str]:
    """Return milliseconds, times our time, and the violation reached, for every tool of a pass."""
    rows = []
    for case in record[key]:
        for tool in case["tools"]:
            if "step_ms" in tool:
                ratio = figure(measure.lower_quartile(tool["ratios"])) if "ratios" in tool else "1"
                star = "" if tool["exact"] else "\\*"
                shown = [figure(tool["step_ms"]), ratio + star, f"{tool['violation']:.0e}"]
                rows.append([tool["name"], TITLES[case["kind"]], *shown])
    return table(["tool", "case", "milliseconds", "times our time", "worst row"], rows)


def growth(record: dict) -> list[str]:
    """Return the fitted exponents of our time."""
    rows = []
    for name, sizes in GROWTH.items():
        chosen = [case for case in record["growth"] if case["grows"] == name]
        times = [of(case, OWN)["step_ms"] for case in chosen]
        shown = (times[0], times[-1], measure.slope(sizes, times))
        rows.append([f"{name}, {sizes[0]} to {sizes[-1]}", *map(figure, shown)])
    return table(["grows", "ms at the first", "ms at the last", "exponent"], rows)


def section(record: dict) -> list[str]:
    """Return the section's text and tables."""
    loop = [measure.lower_quartile(of(case, BARE)["ratios"]) for case in record["cases"]]
    goals = [
        [one["case"], figure(one["ratio"]), f"{one['goal']:g}", "met" if one["ratio"] >= one["goal"] else "**not met**"]
        for one in record["summary"]
    ]
    return [
        "### What was measured",
        "",
        "For each of $B$ patterns, the multipliers of $A \\sigma(u + A^\\top \\lambda) = b$ are wanted, from"
        " $\\lambda = 0$ on, until every row of every pattern is met to $10^{-6}$: $K$ sigmoids, $m$ rows, $b = A y$,"
        " all in float64, on one thread. *XOR* is the published experiment, with the logits of a network before its"
        " first step and after training. *Noise* draws $u$, $A$ and the logits of $y$ from $N(0, 1)$. `lablib` runs as"
        " it comes, to $10^{-8}$, its checks of the input included. The goals and the first table of the field come"
        f" from {record['processes']} processes, the rest from one.",
        "",
        "### The goals",
        "",
        "They were set before the code was written, against the published inner loop at equal violation. Its own bound"
        " is looser by far, so here it goes on until $10^{-6}$ is reached, with its step and its line search.",
        "",
        *table(["case", "times faster", "goal", "verdict"], goals),
        "Much of that is not the method. The loop asks for the loss twice in every iteration, for a line search that"
        " hardly ever acts. *Bare* leaves it out, and takes the best of nine fixed steps, chosen beforehand and not"
        f" counted: that takes {figure(min(loop))} to {figure(max(loop))} times our time. Nobody published it, so no"
        " goal is set against it.",
        "",
        "### The field, one by one",
        "",
        "All patterns in one call. \\* marks a tool that does not reach $10^{-6}$. Both JAX tools are mapped over the"
        " patterns and compiled; that is not counted, handing tensors over is.",
        "",
        *field(record, "cases"),
        "Solvers that take one pattern at a time, on 50 patterns:",
        "",
        *field(record, "one_by_one"),
        "### How the time grows",
        "",
        "Noise, with $B = 500$, $K = 100$, $m = 4$ but for what grows. An exponent of 1 means: ten times the size, ten"
        " times the time.",
        "",
        *growth(record),
        "### What it means for choosing",
        "",
        "- **Small batches** cost the calls, not the patterns: see the first column of the last table.",
        "- **Moderate accuracy on easy problems**: gradient steps of a good fixed length are no worse. The length has"
        " to be found anew for every $A$.",
        "- **Logits far from the constraint**, rows at the edge of reach, a batch in which one pattern is hard: here"
        " Newton's steps pay, and each pattern stops by itself.",
        "",
    ]


AREA = Area(
    name="saddle_point",
    title="Saddle-point multipliers",
    question="What does it cost to meet a linear constraint on predictions, beside the published loop?",
    packages=PACKAGES,
    not_run=(("the released code", "asks for a GPU by name; its loop is re-written here, with its constants"),),
    passes=(
        Pass("cases", quick=True),
        Pass("one_by_one", processes=1),
        Pass("growth", processes=1),
    ),
    cases=cases,
    measure=measure_case,
    label=label,
    goal=goal,
    section=section,
    rival=PUBLISHED,
)
