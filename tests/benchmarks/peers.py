"""The tools that are measured, each as a function of (y, v) that returns the projection, the product with v, and times.

A peer is loaded when it is asked for; one that is not installed becomes a row that says so. `OWN` marks lablib, `FLOOR`
the softmax, which is no projection, and `composed` a function that no package offers but that its parts make at once.
"""

import importlib
import time
from dataclasses import dataclass

import torch

OWN, FLOOR = "lablib", "torch.softmax"

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
    make: object
    package: str = "torch"
    composed: bool = False
    slow: bool = False  # a general solver, measured at n <= 100 and few times
    largest: int = 10**9


def synchronize(device: str) -> None:
    """Wait until the device has done what was asked."""
    if device == "cuda":
        torch.cuda.synchronize()


def torch_tool(function, device: str):
    """Return a timed forward and backward pass of a torch function."""

    def run(y, v):
        synchronize(device)
        start = time.perf_counter()
        x = function(y)
        synchronize(device)
        middle = time.perf_counter()
        (gradient,) = torch.autograd.grad(x, y, v)
        synchronize(device)
        return x.detach(), gradient, middle - start, time.perf_counter() - middle

    return run


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


def make_lablib(kind: str, n: int, device: str):
    """The public layer, its checks of the input included."""
    import lablib

    convex_set = lablib.Simplex(n) if kind == "simplex" else lablib.L1Ball(n)
    return torch_tool(lablib.ProjectionLayer(convex_set), device)


def make_softmax(kind: str, n: int, device: str):
    return torch_tool(lambda y: torch.softmax(y, -1), device)


def make_plain(kind: str, n: int, device: str):
    return torch_tool(plain_simplex if kind == "simplex" else plain_l1, device)


def from_simplex(simplex):
    """A maker for a tool that offers the simplex; its l1 ball is composed."""

    def make(kind: str, n: int, device: str):
        function = simplex()
        return torch_tool(function if kind == "simplex" else lambda y: plain_l1(y, function), device)

    return make


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

    def make(kind: str, n: int, device: str):
        import jax

        projections = importlib.import_module(module)
        project = projections.projection_simplex if kind == "simplex" else projections.projection_l1_ball

        def both(y, v):
            x, back = jax.vjp(jax.vmap(lambda row: project(row, 1.0)), y)
            return x, back(v)[0]

        jitted = jax.jit(both)

        def run(y, v):
            start = time.perf_counter()
            y, v = jax.dlpack.from_dlpack(y.detach()), jax.dlpack.from_dlpack(v)
            middle = time.perf_counter()
            x, gradient = jax.block_until_ready(jitted(y, v))
            after = time.perf_counter()
            x, gradient = torch.from_dlpack(x), torch.from_dlpack(gradient)
            return x, gradient, after - middle, time.perf_counter() - after + middle - start

        return run

    return make


def make_cvxpylayers(kind: str, n: int, device: str):
    import cvxpy
    from cvxpylayers.torch import CvxpyLayer

    x, y = cvxpy.Variable(n), cvxpy.Parameter(n)
    limits = [x >= 0, cvxpy.sum(x) == 1] if kind == "simplex" else [cvxpy.norm(x, 1) <= 1]
    layer = CvxpyLayer(cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(x - y)), limits), parameters=[y], variables=[x])
    return torch_tool(lambda y: layer(y)[0], device)


def make_proxsuite(kind: str, n: int, device: str):
    from proxsuite.torch.qplayer import QPFunction

    double = {"dtype": torch.float64}
    P, one, one_row = torch.eye(n, **double), torch.ones(1, **double), torch.ones(1, n, **double)
    low, high = torch.zeros(n, **double), torch.full((n,), 1e20, **double)
    solve = QPFunction(structural_feasibility=True)
    return torch_tool(lambda y: solve(P, -y.double(), one_row, one, torch.eye(n, **double), low, high)[0].to(y), device)


TOOLS = (
    Tool(OWN, ("simplex", "l1"), make_lablib),
    Tool(FLOOR, ("simplex", "l1"), make_softmax),
    Tool("plain torch sort", ("simplex", "l1"), make_plain),
    Tool("entmax, k=32", ("simplex",), from_simplex(entmax_top), "entmax"),
    Tool("entmax, sort", ("simplex",), from_simplex(entmax_sort), "entmax"),
    Tool("entmax, bisection", ("simplex",), from_simplex(entmax_bisect), "entmax"),
    Tool("entmax, k=32, of |y|", ("l1",), from_simplex(entmax_top), "entmax", composed=True),
    Tool("entmax, bisection, of |y|", ("l1",), from_simplex(entmax_bisect), "entmax", composed=True),
    Tool("sparsemax", ("simplex",), from_simplex(pypi_sparsemax), "sparsemax"),
    Tool("POT", ("simplex",), from_simplex(pot_simplex), "ot"),
    Tool("optax", ("simplex", "l1"), jax_maker("optax.projections"), "optax"),
    Tool("jaxopt", ("simplex", "l1"), jax_maker("jaxopt.projection"), "jaxopt", largest=1000),
    Tool("cvxpylayers (diffcp)", ("simplex", "l1"), make_cvxpylayers, "cvxpylayers", slow=True, largest=100),
    Tool("proxsuite QPLayer", ("simplex",), make_proxsuite, "proxsuite", slow=True, largest=100),
)
