"""A polyhedron of 100 unknowns, 20 equations and 50 inequalities; doubly stochastic matrices; dQP's simplex and chains.

One call projects a batch in float64 and pulls a random cotangent back to the points. All sets are shared by the batch,
and what can be made once for a set (a factor, a program, a solver's object) is not counted, for anybody, but for daqp
as dQP calls it, which starts anew for each sample; it has a second row without that.
"""

import math
import time
from functools import partial

import numpy as np
import torch
from scipy import sparse

from . import measure, page
from .area import Area, Pass
from .measure import OWN, of
from .page import figure, table

N, P, M = 100, 20, 50
BATCHES = (1, 32, 256)
SIZES = {4: 64, 10: 64, 50: 4}  # of doubly stochastic matrices, with the batch
EXACT = 1e-6  # in x and in the gradient, largest relative error of a sample
GOALS = {
    ("polyhedron", 1): 1.0,
    ("polyhedron", 32): 3.0,
    ("polyhedron", 256): 6.0,
    ("birkhoff", 10): 3.0,
    ("birkhoff", 50): 3.0,
}
PREPARED = "daqp, set up once"
GENERAL = "lablib.Polyhedron"
# dQP's tables: one point, N(0, 1), forward plus backward, milliseconds on an Apple M2.
SIMPLEX = {20: 1.63, 100: 1.92, 450: 3.13, 1000: 5.06, 4600: 18.5, 10000: 49.0, 100000: 477.0}
CHAIN = {1000: 26.2, 10000: 225.0, 100000: 2433.0}
GROWTH = {
    "n": (30, 60, 120, 250, 500, 1000, 2000),
    "m": (15, 30, 60, 120, 250, 500, 1000, 2000),
    "batch": (1, 4, 16, 64, 256, 1024),
}
PACKAGES = ("daqp", "moreau", "cvxpylayers", "diffcp", "clarabel", "scs", "proxsuite", "qpth", "jaxopt")
NOT_RUN = (
    ("dQP", "not on PyPI; its rule is written again here around daqp, with a smaller linear system"),
    ("cvxpylayers at 256 points", "a step takes seconds; shown at 1 and 32 points"),
)
F64 = torch.float64


# -- the problems ------------------------------------------------------------------------------------------------------


def polyhedron(n: int, p: int, m: int, batch: int, seed: int) -> dict:
    """Normal rows through and around a normal point, and points around it: two fifths of the inequalities hold."""
    g = torch.Generator().manual_seed(seed)
    A, G, inside = (torch.randn(*shape, generator=g, dtype=F64) for shape in ((p, n), (m, n), (n,)))
    room = math.sqrt(n) * torch.rand(m, generator=g, dtype=F64) / 2
    y = inside + torch.randn(batch, n, generator=g, dtype=F64)
    return {"A": A, "b": A @ inside, "G": G, "h": G @ inside + room, "y": y, "lower": None}


def birkhoff(n: int, batch: int, seed: int) -> dict:
    """The set as rows, one column's sum left out, and normal points."""
    eye, one = torch.eye(n, dtype=F64), torch.ones(1, n, dtype=F64)
    A = torch.cat([torch.kron(eye, one), torch.kron(one, eye)])[:-1]
    y = torch.randn(batch, n * n, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return {"A": A, "b": torch.ones(2 * n - 1, dtype=F64), "G": None, "h": None, "y": y, "lower": 0.0, "size": n}


def rows(data: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Return G and h with the bounds as rows."""
    if data["lower"] is None:
        return data["G"], data["h"]
    n = data["y"].shape[-1]
    return -torch.eye(n, dtype=F64), torch.zeros(n, dtype=F64)


def reference(data: dict, v: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The projections and the products, by an interior-point method whose active rows are solved for once more.

    What is returned has no negative multiplier and breaks no row, which proves it.
    """
    import clarabel

    A, b = data["A"].numpy(), data["b"].numpy()
    G, h = (t.numpy() for t in rows(data))
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    stacked, cones = (
        sparse.csc_matrix(np.vstack([A, G])),
        [clarabel.ZeroConeT(len(b)), clarabel.NonnegativeConeT(len(h))],
    )
    eye, answers = sparse.eye(A.shape[1], format="csc"), []
    for y, pull in zip(data["y"].numpy(), v.numpy(), strict=True):
        found = clarabel.DefaultSolver(eye, -y, stacked, np.concatenate([b, h]), cones, settings).solve()
        held = np.array(found.z)[len(b) :] > np.array(found.s)[len(b) :]
        for _ in range(20):  # near a kink the interior point does not tell which rows hold: drop and add
            x, pushes, inside = on_face(A, b, G, h, held, y, bounds=data["lower"] is not None)
            after = np.where(held, pushes > -1e-12, G @ x - h > 1e-12)
            if (after == held).all():
                break
            held = after
        else:
            raise ArithmeticError("the reference was not found: which rows hold keeps changing")
        answers.append((x, inside(pull)))
    return tuple(np.stack(part) for part in zip(*answers, strict=True))


def on_face(A, b, G, h, held, y, bounds: bool):
    """Project y on the plane of the rows that are held; return also their multipliers, and that plane's projector."""
    free = ~held if bounds and len(y) > 500 else np.ones(len(y), dtype=bool)  # bounds held at 0: their columns go
    B, ends = (A, b) if not free.all() else (np.vstack([A, G[held]]), np.concatenate([b, h[held]]))
    Q, sizes, _ = np.linalg.svd(B[:, free].T, full_matrices=False)
    Q = Q[:, sizes > 1e-10 * sizes[0]]

    def inside(v):
        out = np.zeros_like(v)
        out[free] = v[free] - Q @ (Q.T @ v[free])
        return out

    start = np.zeros_like(y)
    start[free] = np.linalg.lstsq(B[:, free], ends, rcond=None)[0]
    x = start + inside(y - start)
    weights = np.linalg.lstsq(B[:, free].T, (y - x)[free], rcond=None)[0]
    pushes = np.zeros(len(h))
    pushes[held] = weights[len(b) :] if free.all() else (A.T @ weights - (y - x))[held]
    return x, pushes, inside


def check(answer, right, v) -> dict:
    """Return the largest error of a sample in x, relative to x, and in the product, relative to v; and the verdict."""

    def error(found, true, to) -> float:
        found = found.detach().double().numpy().reshape(true.shape)
        return float((np.linalg.norm(found - true, axis=-1) / np.linalg.norm(to, axis=-1)).max())

    x, product = error(answer[0], right[0], right[0]), error(answer[1], right[1], v.numpy())
    return {"error": x, "gradient_error": product, "exact": max(x, product) <= EXACT}


# -- the tools: each takes the data and returns a function of y --------------------------------------------------------


def own(data: dict):
    import lablib

    if "size" in data:
        n, layer = data["size"], lablib.ProjectionLayer(lablib.Birkhoff(data["size"]))
        return lambda y: layer(y.unflatten(-1, (n, n))).flatten(-2)
    return lablib.ProjectionLayer(general(data))


def general(data: dict):
    import lablib

    return lablib.Polyhedron(**{name: data[name] for name in ("A", "b", "G", "h", "lower")})


class _ActiveSet(torch.autograd.Function):
    """Solve sample by sample, keep which rows hold, and solve with them in the backward: dQP's rule for H = I."""

    @staticmethod
    def forward(ctx, y, solve, data, independent):
        found = [solve(-one) for one in y.detach().numpy()]
        ctx.held, ctx.rule = [held for _, held in found], (data, independent)
        return torch.from_numpy(np.stack([x for x, _ in found]))

    @staticmethod
    def backward(ctx, v):
        out = [on_held(*ctx.rule, held, one) for held, one in zip(ctx.held, v.numpy(), strict=True)]
        return torch.from_numpy(np.stack(out)), None, None, None


def on_held(data: dict, independent: bool, held: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Project v on the plane of the rows that hold; where they are bounds, their columns go."""
    B, free = data["A"].numpy(), slice(None)
    if data["lower"] is None:
        B = np.concatenate([B, data["G"].numpy()[held]])
    else:
        free, B = ~held, B[:, ~held]
    out = np.zeros_like(v)
    weights = np.linalg.solve(B @ B.T, B @ v[free]) if independent else np.linalg.lstsq(B.T, v[free], rcond=None)[0]
    out[free] = v[free] - B.T @ weights
    return out


def daqp(data: dict, once: bool = False):
    import daqp as package

    n, (A, b) = data["y"].shape[-1], (data[name].numpy() for name in ("A", "b"))
    bounds = n if data["lower"] is not None else 0
    G, h = (t.numpy() for t in rows(data))
    C = np.ascontiguousarray(A if bounds else np.vstack([A, G]))
    none, far = np.zeros(bounds), np.full(n if bounds else len(h), 1e30)
    upper = np.concatenate([far, b]) if bounds else np.concatenate([b, h])
    lower = np.concatenate([none, b]) if bounds else np.concatenate([b, -far])
    sense = np.array([0] * bounds + [5] * len(b) + [0] * (len(upper) - bounds - len(b)), dtype=np.int32)
    H = np.eye(n)
    part = slice(0, n) if bounds else slice(len(b), None)
    options = {"primal_tol": 1e-9}
    model = package.Model()
    if once:
        model.setup(H, np.zeros(n), C, upper, lower, sense)
        model.settings = options

    def solve(f):
        if once:
            model.update(f=f)
            x, _, flag, info = model.solve()
        else:
            x, _, flag, info = package.solve(H, f, C, upper, lower, sense, **options)
        if flag != 1:
            raise ArithmeticError(f"daqp ended with flag {flag}")
        return x.copy(), info["lam"][part] != 0

    return lambda y: _ActiveSet.apply(y, solve, data, True)  # its rows are independent


def clarabel(data: dict):
    import clarabel as package

    (A, b), (G, h) = (data[name].numpy() for name in ("A", "b")), (t.numpy() for t in rows(data))
    settings = package.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    eye, lines = sparse.eye(A.shape[1], format="csc"), sparse.csc_matrix(np.vstack([A, G]))
    ends, cones = np.concatenate([b, h]), [package.ZeroConeT(len(b)), package.NonnegativeConeT(len(h))]

    def solve(f):
        found = package.DefaultSolver(eye, f, lines, ends, cones, settings).solve()
        if str(found.status) != "Solved":
            raise ArithmeticError(f"Clarabel ended with {found.status}")
        return np.array(found.x), np.array(found.z)[len(b) :] > np.array(found.s)[len(b) :]

    return lambda y: _ActiveSet.apply(y, solve, data, False)


def qpth(data: dict):
    from qpth.qp import QPFunction

    eye, solve = torch.eye(data["y"].shape[-1], dtype=F64), QPFunction(verbose=-1)
    return lambda y: solve(eye, -y, *rows(data), data["A"], data["b"])


def proxsuite(data: dict):
    from proxsuite.torch.qplayer import QPFunction

    solve, (G, h) = QPFunction(structural_feasibility=True, eps=1e-9), rows(data)
    eye, low = torch.eye(data["y"].shape[-1], dtype=F64), torch.full((len(h),), -1e20, dtype=F64)
    return lambda y: solve(eye, -y, data["A"], data["b"], G, low, h)[0]


def moreau(data: dict):
    import moreau as package
    from moreau.torch import Solver

    n, (G, h) = data["y"].shape[-1], rows(data)
    P, C = (t.to_sparse_csr() for t in (torch.eye(n, dtype=F64), torch.cat([data["A"], G])))
    cones = package.Cones(num_zero_cones=len(data["b"]), num_nonneg_cones=len(h))
    where = (P.crow_indices(), P.col_indices(), C.crow_indices(), C.col_indices())
    batch, ends = len(data["y"]), torch.cat([data["b"], h])
    settings = package.Settings(device="cpu", enable_grad=True, batch_size=batch)
    solver = Solver(n, len(ends), *where, cones=cones, settings=settings)
    values = P.values().expand(batch, -1), C.values().expand(batch, -1)
    return lambda y: solver.solve(*values, -y, ends.expand(batch, -1)).x


def cvxpylayers(data: dict, method: str):
    import cvxpy
    from cvxpylayers.torch import CvxpyLayer

    n, (G, h) = data["y"].shape[-1], (t.numpy() for t in rows(data))
    x, y = cvxpy.Variable(n), cvxpy.Parameter(n)
    limits = [data["A"].numpy() @ x == data["b"].numpy(), G @ x <= h]
    layer = CvxpyLayer(cvxpy.Problem(cvxpy.Minimize(0.5 * cvxpy.sum_squares(x) - y @ x), limits), [y], [x])
    return lambda y: layer(y, solver_args={"solve_method": method})[0]


def jaxopt(data: dict):
    import jax

    jax.config.update("jax_enable_x64", True)
    from jaxopt.projection import projection_birkhoff

    n = data["size"]

    def one(y):
        return projection_birkhoff(y.reshape(n, n), use_semi_dual=False).reshape(-1)

    forward = jax.jit(jax.vmap(one))
    whole = jax.jit(lambda y, v: jax.vjp(jax.vmap(one), y)[1](v)[0])
    return forward, whole


TOOLS = {
    OWN: own,
    GENERAL: general,
    "daqp, dQP's rule": daqp,
    PREPARED: partial(daqp, once=True),
    "Clarabel, dQP's rule": clarabel,
    "moreau": moreau,
    "proxsuite QPLayer": proxsuite,
    "qpth": qpth,
    "cvxpylayers, Clarabel": partial(cvxpylayers, method="Clarabel"),
    "cvxpylayers, SCS": partial(cvxpylayers, method="SCS"),
    "jaxopt, dual": jaxopt,
}
SLOW = ("proxsuite QPLayer", "qpth", "daqp, dQP's rule", PREPARED, GENERAL)
"""Not measured at n = 50: their dense matrices have 2500 columns."""


def tools(case: dict, quick: bool) -> list[str]:
    """Return who takes part in a case: whoever can, and does not need minutes."""
    chosen = [
        name for name in TOOLS if (name != GENERAL and not name.startswith("jaxopt")) or case["set"] == "birkhoff"
    ]
    if case["set"] == "birkhoff" and case["n"] > 10:
        chosen = [name for name in chosen if name not in SLOW and not name.startswith("cvxpylayers")]
    if case["batch"] > 32:
        chosen = [name for name in chosen if not name.startswith("cvxpylayers")]
    if quick:
        chosen = [name for name in chosen if not name.startswith(("cvxpylayers", "jaxopt"))]
    return chosen


def runs(make, data: dict, v: torch.Tensor):
    """Return a `run` for a tool."""
    function = make(data)
    y = data["y"].clone().requires_grad_()
    if isinstance(function, tuple):  # JAX: the second function is the whole step, the forward included
        return both_in_jax(*function, data["y"], v)
    return measure.both_passes(getattr(function, "project", function), y, v, "cpu")


def both_in_jax(forward, whole, y, v):
    """Time the step that holds both; the forward alone gives its share."""
    y, v = y.numpy(), v.numpy()

    def run():
        start = time.perf_counter()
        x = np.asarray(forward(y))
        middle = time.perf_counter()
        product = np.asarray(whole(y, v))
        end = time.perf_counter()
        answer = torch.tensor(x), torch.tensor(product)
        return answer, {"forward": middle - start, "backward": max(0.0, (end - middle) - (middle - start))}

    return run


# -- what is measured --------------------------------------------------------------------------------------------------


def cases(key: str, quick: bool) -> list[dict]:
    """Return what is measured."""
    if key == "cases":
        batches, sizes = (BATCHES[:2], (4,)) if quick else (BATCHES, SIZES)
        return [{"set": "polyhedron", "n": N, "batch": batch} for batch in batches] + [
            {"set": "birkhoff", "n": n, "batch": SIZES[n]} for n in sizes
        ]
    if key == "tables":
        return [{"set": name, "n": n} for name, sizes in (("simplex", SIMPLEX), ("chain", CHAIN)) for n in sizes]
    return [{"grows": name, "size": size} for name, sizes in GROWTH.items() for size in sizes]


def cotangent(y: torch.Tensor, seed: int) -> torch.Tensor:
    return torch.randn(y.shape, generator=torch.Generator().manual_seed(1000 + seed), dtype=F64)


def measure_case(case: dict, key: str, *, seed: int, device: str, quick: bool) -> dict:
    """Measure one case."""
    if key == "tables":
        return case | {"tools": one_point(case, seed)}
    if key == "growth":
        sizes = {"n": 200, "m": 50, "batch": 32} | {case["grows"]: case["size"]}
        data = polyhedron(sizes["n"], min(P, sizes["n"] // 4), sizes["m"], sizes["batch"], seed)
        v = cotangent(data["y"], seed)
        (row,) = measure.in_turns([measure.Entry({"name": OWN}, partial(runs, own, data, v))], 0.2)
        return case | {"tools": [row | {"kept": kept(own(data), data["y"])}]}
    data = (
        polyhedron(N, P, M, case["batch"], seed)
        if case["set"] == "polyhedron"
        else birkhoff(case["n"], case["batch"], seed)
    )
    v = cotangent(data["y"], seed)
    verdict = partial(check, right=reference(data, v), v=v)
    entries = [
        measure.Entry(
            {"name": name} | ({"composed": True} if name in (PREPARED, GENERAL) else {}),
            partial(runs, TOOLS[name], data, v),
            verdict,
        )
        for name in tools(case, quick)
    ]
    found = measure.in_turns(entries, 0.05 if quick else 1.0)
    found[0]["kept"] = kept(own(data), data["y"])
    return case | {"tools": found}


def kept(function, y: torch.Tensor) -> float:
    """Return the bytes that one call keeps for its backward, shared factors included."""
    seen = {}

    def count(t: torch.Tensor) -> torch.Tensor:
        seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
        function(y.clone().requires_grad_())
    return float(sum(seen.values()))


def one_point(case: dict, seed: int) -> list[dict]:
    """dQP's tables: one point, whose coordinates are normal."""
    import lablib

    n = case["n"]
    y = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=F64)
    if case["set"] == "simplex":
        makers = {OWN: lambda: lablib.Simplex(n)}
        if n <= 1000:
            makers[GENERAL] = lambda: lablib.Polyhedron(torch.ones(1, n, dtype=F64), 1.0, lower=0.0)
    else:
        makers = {OWN: lambda: chain(n)}
    entries = [
        measure.Entry(
            {"name": name} | ({"composed": True} if name == GENERAL else {}),
            lambda make=make: measure.both_passes(
                make().project, y.clone().requires_grad_(), cotangent(y, seed), "cpu"
            ),
            lambda answer, make=make: feasible(make(), answer[0]),
        )
        for name, make in makers.items()
    ]
    return measure.in_turns(entries, 0.5)


def chain(n: int):
    """|x_{i+1} - x_i| <= 1, as sparse rows."""
    import lablib

    step = torch.arange(n - 1)
    where = torch.stack([torch.cat([step, step]), torch.cat([step, step + 1])])
    values = torch.cat([torch.full((n - 1,), -1.0), torch.ones(n - 1)]).double()
    D = torch.sparse_coo_tensor(where, values, (n - 1, n))
    return lablib.Polyhedron(G=torch.cat([D, -D]), h=1.0)


def feasible(convex_set, x: torch.Tensor) -> dict:
    """The rows tell whether x is in the set; that it is the nearest point, tests show."""
    violation = float(convex_set.violation(x).max())
    return {"violation": violation, "exact": violation <= 1e-9}


def label(case: dict) -> str:
    """Return a case's name in tables."""
    if case["set"] == "polyhedron":
        return f"polyhedron, {case['batch']} point{'s' if case['batch'] > 1 else ''}"
    return f"doubly stochastic, n = {case['n']}"


def goal(case: dict) -> float | None:
    """Return a case's goal against the fastest exact peer."""
    return GOALS.get((case["set"], case["batch"] if case["set"] == "polyhedron" else case["n"]))


# -- the page ----------------------------------------------------------------------------------------------------------


def section(record: dict) -> list[str]:
    """Return the section's text and tables."""
    return [
        "### What was measured",
        "",
        f"The polyhedron is $\\{{x: Ax=b,\\ Gx\\le h\\}}$ with {N} unknowns, {P} equations and {M} inequalities, all"
        " normal numbers; about two fifths of the inequalities hold at the answers. The set is shared, the points"
        " differ. A doubly stochastic matrix is the nearest to a matrix of normal numbers. All in float64, one thread.",
        "",
        "A tool is exact if $x$ and the pulled-back cotangent are right to $10^{-6}$ for each point, against an"
        " interior-point solution whose active rows were solved for again, and whose multipliers were checked.",
        "",
        *([record["note"], ""] if "note" in record else []),
        "### The goals",
        "",
        *page.verdicts(record),
        *no_peer(record),
        "On a CPU daqp, a compiled active-set solver called point by point, wins for single points and for the smallest"
        " matrices: `lablib` runs some hundred tensor operations whatever the batch is. It gains as the batch grows."
        " Choose daqp there if you need no more than its gradient to the point; `lablib` for large batches, gradients"
        " to all data, float32 networks and proofs of emptiness.",
        "",
        "### One by one",
        "",
        "Milliseconds, forward and backward; *ratio* is the whole step to that of `lablib`; a star marks what is not"
        " exact. *daqp, dQP's rule* solves each point from the start, as dQP does. *set up once* keeps daqp's own"
        " object and changes the point alone: nobody offers it as a layer, so it is no rival in the goals, but it is"
        " what a reader can build in twenty lines. *Clarabel, dQP's rule* is an interior-point method on sparse rows,"
        " at a tolerance of $10^{-11}$, with the same backward.",
        "",
        *one_by_one(record),
        "### The tables of dQP",
        "",
        "One point, normal coordinates, forward plus backward. The second column is printed in dQP's paper, measured on"
        " an Apple M2 with Gurobi inside: another machine, so no ratio is given. The simplex has a closed form here;"
        " the general set is shown beside it up to $n=1000$. The chain is $|x_{i+1}-x_i|\\le1$, given as sparse rows.",
        "",
        *published(record),
        "### Growth and memory",
        "",
        *growth(record),
    ]


def no_peer(record: dict) -> list[str]:
    """Say which cases have no exact rival, and what the nearest one does."""
    out = []
    for case in record["cases"]:
        rivals = [t for t in case["tools"] if t["name"] != OWN and not t.get("composed") and "step_ms" in t]
        if not rivals or any(t["exact"] for t in rivals):
            continue
        best = min(rivals, key=lambda t: max(t["error"], t["gradient_error"]))
        out += [
            f"{label(case).capitalize()}: no rival that was run is exact. The most exact, {best['name']}, is off by"
            f" {best['error']:.0e} in $x$ and {best['gradient_error']:.0e} in the gradient, and takes"
            f" {figure(measure.lower_quartile(best['ratios']))} times our time. The goal of 3 cannot be judged.",
            "",
        ]
    return out


def one_by_one(record: dict) -> list[str]:
    out = []
    for case in record["cases"]:
        lines = []
        for tool in case["tools"]:
            if "step_ms" not in tool:
                continue
            ratio = "1" if tool["name"] == OWN else figure(measure.lower_quartile(tool["ratios"]))
            times = [figure(tool[part]) for part in ("forward_ms", "backward_ms")]
            errors = [f"{tool[part]:.0e}" for part in ("error", "gradient_error")]
            lines.append([tool["name"], *times, ratio + ("" if tool["exact"] else "\\*"), *errors])
        out += [f"**{label(case).capitalize()}**", ""]
        out += table(["tool", "forward", "backward", "ratio", "x", "gradient"], lines)
    return out


def published(record: dict) -> list[str]:
    lines = []
    for case in record["tables"]:
        printed = (SIMPLEX if case["set"] == "simplex" else CHAIN)[case["n"]]
        whole = of(case, GENERAL)
        lines.append(
            [
                case["set"],
                str(case["n"]),
                figure(printed),
                figure(of(case, OWN)["step_ms"]),
                figure(whole["step_ms"]) if whole else "-",
                f"{abs(of(case, OWN)['violation']):.0e}",
            ]
        )
    return table(["set", "n", "dQP, printed", "lablib", "Polyhedron", "violation"], lines)


def growth(record: dict) -> list[str]:
    """Return the fitted growth of time and of memory, and the sizes behind it."""
    lines = []
    for name, sizes in GROWTH.items():
        chosen = [case["tools"][0] for case in record["growth"] if case["grows"] == name]
        times, memory = [row["step_ms"] for row in chosen], [row["kept"] / 1e6 for row in chosen]
        half = len(sizes) // 2
        lines.append(
            [
                {"n": "unknowns", "m": "inequalities", "batch": "batch"}[name],
                f"{sizes[0]} to {sizes[-1]}",
                f"{figure(times[0])} to {figure(times[-1])}",
                figure(measure.slope(sizes[half:], times[half:])),
                f"{figure(memory[0])} to {figure(memory[-1])}",
            ]
        )
    return [
        "Ours alone: 200 unknowns, 20 equations, 50 inequalities and 32 points, with one of the four numbers changed."
        " The exponent is fitted to the upper half of the sizes. Memory is what a call keeps for its backward, the"
        " factors that are shared included.",
        "",
        *table(["what grows", "sizes", "milliseconds", "exponent", "megabytes kept"], lines),
    ]


AREA = Area(
    name="polyhedra",
    title="Polyhedra and doubly stochastic matrices",
    question="What does an exact projection on any polyhedron cost, beside layers for quadratic programs?",
    packages=PACKAGES,
    not_run=NOT_RUN,
    passes=(Pass("cases", quick=True), Pass("tables", processes=1), Pass("growth", processes=1)),
    cases=cases,
    measure=measure_case,
    label=label,
    goal=goal,
    section=section,
)
