"""Project onto any convex polyhedral set, and differentiate through it with one rule.

The projection of y on a closed convex set s is ``x = argmin_{x in s} 1/2 |x - y|^2``. For a polyhedral set x moves,
as y moves a little, inside the face of s that holds x. So the derivative is a projection itself: the orthogonal
projector J on the directions of that face, one element of the HS-Jacobian (Han and Sun 1997; Li, Sun and Toh 2020). J
is symmetric, so backward mode and forward mode are the same product, and constant while the face stays, so
differentiating twice needs no further rule.

The contract. A set is an object with these members; :class:`ConvexSet` supplies all others from them.

``dim``
    n, the length of the last dimension, or None where any length will do.
``solve(y, *, tol, max_steps, element) -> (x, active, steps)``
    The projection, on plain tensors and not differentiated, batched over leading dimensions. ``active`` says which
    face x is on: a tensor, or a tuple of tensors, each with the batch dimensions of y in front and one more behind
    (other numbers of trailing dimensions are named in ``active_ranks``). The solver knows the face; nobody finds it
    again with a tolerance. ``steps``: passes used, an integer or a tensor. Checks of values (NaN, an empty set)
    belong here, so that they run under ``vmap`` too.
``face_project(x, v, active=None)``
    J v, in differentiable torch. ``active=None`` reads the face off x exactly.
``violation(x)``
    The largest absolute violation per point, in float64.

Optional, each with a default that raises or is slower:

``ranks``
    The names of the set's data (attributes), each with its number of trailing dimensions: ``{"A": 2, "b": 1}``. A
    datum is a Python number, which follows the input, or a tensor, which must match it and through which gradients
    flow. The constructor assigns them, ``self.b = b``; that checks them.
``face_map(y, active)``
    The projection of y on the affine hull of the face, which is held fixed, in differentiable torch. It must also be
    differentiable in the data. All derivatives by data come from it, and ``torch.compile`` runs it. Needed only for
    these two.
``data_gradient(y, x, v, active)``
    The vector-Jacobian products by the data, where a formula is faster than differentiating ``face_map``.
``solve_traced(y, element)``
    Like ``solve`` but without reading a value on the host, returning ``(x, active)``; for ``torch.compile``. x may be
    None where ``face_map`` is as exact. Default: ``solve``.
``lmo(g)``, ``sample(*shape)``, ``gap(y, x)``, ``tolerance(x)``
    The linear oracle, random members, the certificate, and the violation that rounding alone can explain.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .solution import InputError, SolveError, SolveInfo, first_index

# What y is computed in: half precision has too few digits for a threshold, so it is widened and the answer narrowed
# again.
WORKING = {
    torch.float64: torch.float64,
    torch.float32: torch.float32,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
}
_OPTIONS = {"return_info", "strict", "tol", "max_steps", "element"}
_PLAIN = (None, None, "lowest", None)  # tol, max_steps, element, where to note the passes


class Projection(torch.autograd.Function):
    """The projection ``argmin_{x in s} 1/2 |x - y|^2`` as one autograd rule, which knows s by its contract alone.

    Method: the set's ``solve`` forwards; the face projector of the set backwards and in forward mode. Outputs: x,
    then the tensors that tell the face. Source: the HS-Jacobian, chapter "Projection layers".
    """

    @staticmethod
    def forward(y, convex_set, call, *tensors):
        """Solve, and hand on the face."""
        if tensors:
            convex_set = convex_set.bind(tensors)
        tol, max_steps, element, note = call
        x, active, steps = convex_set.solve(y, tol=tol, max_steps=max_steps, element=element)
        if note is not None:
            note.append(steps)
        return (x, *active) if isinstance(active, tuple) else (x, active)

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keep the point, the face, and with tensor data also y and the data."""
        y, ctx.convex_set, ctx.call, *tensors = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.faces = len(output) - 1
        saved = (*output, y, *tensors) if tensors else output
        ctx.save_for_backward(*saved)
        ctx.save_for_forward(*saved)

    @staticmethod
    def _recall(ctx):
        x, *rest = ctx.saved_tensors
        active = rest[0] if ctx.faces == 1 else tuple(rest[: ctx.faces])
        tensors = rest[ctx.faces + 1 :]
        if not tensors:
            return ctx.convex_set, x, active, None, tensors
        return ctx.convex_set.bind(tensors), x, active, rest[ctx.faces], tensors

    @staticmethod
    def backward(ctx, v, *_):
        """Return J v for y, and the data's products from the set."""
        convex_set, x, active, y, tensors = Projection._recall(ctx)
        if v is None:
            return (None,) * (3 + len(tensors))
        u = convex_set.face_project(x, v, active) if ctx.needs_input_grad[0] else None
        if not any(ctx.needs_input_grad[3:]):
            return (u, None, None, *[None] * len(tensors))
        return (u, None, None, *_data_gradient(convex_set, y, x, v, active))

    @staticmethod
    def jvp(ctx, dy, _set, _call, *dtensors):
        """Return J dy plus what the data's change moves x by."""
        convex_set, x, active, y, _ = Projection._recall(ctx)
        dx = torch.zeros_like(x) if dy is None else convex_set.face_project(x, dy, active)
        moving = [d is not None for d in dtensors]
        if any(moving):

            def pull(v):
                grads = _data_gradient(convex_set, y, x, v, active)
                return tuple(g for g, m in zip(grads, moving, strict=True) if m)

            # Forward mode by transposing backward mode: v -> pull(v) is linear, and its transpose is the tangent map.
            _, transpose = torch.func.vjp(pull, torch.zeros_like(x))
            dx = dx + transpose(tuple(d for d in dtensors if d is not None))[0]
        return (dx, *[None] * ctx.faces)

    @staticmethod
    def vmap(info, in_dims, y, convex_set, call, *tensors):
        """Make the mapped dimension one more batch dimension: in front, with ones up to the other batch dimensions."""
        y_dim, _, _, *dims = in_dims
        ranks = [convex_set.ranks[name] for name in convex_set.names]
        y = y.expand(info.batch_size, *y.shape) if y_dim is None else y.movedim(y_dim, 0)
        batch = y.dim() - 1
        placed = []
        for t, d, rank in zip(tensors, dims, ranks, strict=True):
            if d is not None:
                t = t.movedim(d, 0)
                t = t.reshape(t.shape[0], *[1] * (batch + rank - t.dim()), *t.shape[1:])
            placed.append(t)
        x, *active = Projection.apply(y, convex_set, call, *placed)
        given = convex_set.active_ranks
        given = given * len(active) if len(given) == 1 else given
        full = [0 if a.dim() - rank == batch else None for a, rank in zip(active, given, strict=True)]
        return (x, *active), (0, *full)


# Function.apply works out forward's signature at every call, which costs more than projecting a short row. Outside of
# transforms it can be passed by; where torch does not tell, it is not.
_apply_directly = super(torch.autograd.Function, Projection).apply
may_transform = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)


def in_a_transform() -> bool:
    """Tell whether a transform of ``torch.func`` is under way.

    >>> in_a_transform()
    False
    """
    return bool(getattr(torch._C, "_are_functorch_transforms_active", lambda: False)())


def _apply(y: Tensor, convex_set: ConvexSet, call: tuple, tensors: list[Tensor]) -> Tensor:
    apply = Projection.apply if may_transform() else _apply_directly
    return apply(y, convex_set, call, *tensors)[0]


def _data_gradient(convex_set: ConvexSet, y: Tensor, x: Tensor, v: Tensor, active: Any) -> tuple[Tensor, ...]:
    """Ask the set for its data's gradients, and sum each over the dimensions along which the datum was broadcast."""
    grads = []
    for g, t in zip(convex_set.data_gradient(y, x, v, active), convex_set.data().values(), strict=True):
        g = g.sum(tuple(range(g.dim() - t.dim()))) if g.dim() > t.dim() else g
        ones = tuple(i for i, (a, b) in enumerate(zip(g.shape, t.shape, strict=True)) if a != b)
        grads.append(g.sum(ones, keepdim=True) if ones else g)
    return tuple(grads)


def check_finite(y: Tensor) -> None:
    """Raise if y holds a NaN or an infinity: one sum, and a closer look only where that is not finite.

    >>> import torch
    >>> check_finite(torch.zeros(3))
    """
    if not math.isfinite(y.sum().item()):
        raise_not_finite("y", y)


def raise_not_finite(name: str, t: Tensor) -> None:
    """Raise the error that names the first entry of t which is NaN or infinite; return where there is none.

    >>> import torch
    >>> raise_not_finite("y", torch.tensor([3e38, 3e38]))    # the sum overflows, the entries are finite
    >>> raise_not_finite("y", torch.tensor([0.0, float("inf")]))    # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    lablib.solution.InputError: y[1] is inf: expected finite numbers; ...
    """
    bad = ~torch.isfinite(t)
    if bool(bad.any()):
        index = first_index(bad)
        raise InputError(
            f"{name}{list(index) or ''} is {t[index].item()}: expected finite numbers"
            + ("; look for a division or a logarithm before this layer" if name == "y" else ""),
            index=index,
        )


_silent = threading.local()


@contextmanager
def unchecked():
    """Leave out the checks of values, and so the reading on the host, in a loop that has checked them before.

    >>> import torch, lablib
    >>> with unchecked():
    ...     lablib.Simplex(2).lmo(torch.tensor([float("nan"), 1.0])).tolist()
    [1.0, 0.0]
    """
    before, _silent.on = getattr(_silent, "on", False), True
    try:
        yield
    finally:
        _silent.on = before


def truth(mask: Tensor) -> bool:
    """Tell on the host whether any entry is true; False where nothing can be read (in a transform, on the meta device).

    >>> import torch
    >>> truth(torch.tensor([False, True]))
    True
    """
    if torch.compiler.is_compiling() or getattr(_silent, "on", False):
        return False
    try:
        return bool(mask.any())
    except RuntimeError:
        return False


class ConvexSet:
    """A closed convex set s of R^n with ``project``: ``argmin_{x in s} 1/2 |x - y|^2``. Subclass it to bring your own.

    Define ``dim``, ``solve``, ``face_project`` and ``violation`` (see the top of this module); the rest follows from
    them.

    >>> import torch
    >>> class HalfLine(ConvexSet):
    ...     dim = 1
    ...     def solve(self, y, *, tol=None, max_steps=None, element="lowest"):
    ...         return y.clamp(min=0), (y > 0).to(y.dtype), 0
    ...     def face_project(self, x, v, active=None):
    ...         return v * ((x > 0) if active is None else active)
    ...     def violation(self, x):
    ...         return (-x.double()).clamp(min=0).amax(-1)
    >>> HalfLine().project(torch.tensor([[-1.0], [2.0]]))
    tensor([[0.],
            [2.]])
    """

    ranks: ClassVar[dict[str, int]] = {}
    active_ranks: ClassVar[tuple[int, ...]] = (1,)
    _may_overflow: ClassVar[bool] = True  # an answer may be larger than y and the data, so each one is looked at
    _required: ClassVar[tuple[str, ...]] = ()  # the data that may not be None
    names: tuple[str, ...] = ()  # the data that are tensors, in the order of ``ranks``
    dim: int | None = None
    event_dims: ClassVar[int] = 1  # trailing dimensions of one point: 2 for a set of matrices

    # -- the data -----------------------------------------------------------------------------------------------------

    def _keep(self, **data: Any) -> None:
        """Store the data given to a constructor: numbers as floats, tensors as they are."""
        for name, value in data.items():
            if isinstance(value, Tensor):
                if value.dtype not in WORKING:
                    raise TypeError(
                        f"{name} has dtype {value.dtype}: expected a floating point tensor; call .float() on it"
                    )
                rank = self.ranks[name]
                if value.dim() < rank:
                    raise InputError(f"{name} has shape {tuple(value.shape)}: expected at least {rank} dimension(s)")
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                value = float(value)
            elif value is not None or name in self._required:
                kind = "None" if value is None else f"a {type(value).__name__}"
                raise TypeError(f"{name} is {kind}: expected a number or a torch tensor")
            self.__dict__[name] = value
        self.names = tuple(name for name in self.ranks if isinstance(self.__dict__.get(name), Tensor))

    def data(self) -> dict[str, Tensor]:
        """Return the data that are tensors, through which gradients flow.

        >>> import torch, lablib
        >>> lablib.Simplex(3, total=torch.tensor(2.0)).data()
        {'total': tensor(2.)}
        """
        return {name: getattr(self, name) for name in self.names}

    def bind(self, tensors) -> ConvexSet:
        """Return this set with other tensors in place of its own, in the order of ``names``, without any check.

        >>> import torch, lablib
        >>> lablib.Simplex(3, total=torch.tensor(2.0)).bind([torch.tensor(5.0)])
        Simplex(3, total=5.0)
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.__dict__.update(zip(self.names, tensors, strict=True))
        return other

    def with_data(self, **tensors: Any) -> ConvexSet:
        """Return the same set with other data, numbers or tensors; factors that still hold are kept.

        Raises TypeError for a name that the set does not have.

        >>> import lablib
        >>> lablib.Simplex(3).with_data(total=2.0)
        Simplex(3, total=2.0)
        """
        unknown = sorted(set(tensors) - set(self.ranks))
        if unknown:
            known = ", ".join(self.ranks) or "none"
            raise TypeError(f"{type(self).__name__} has no data named {', '.join(unknown)}: it has {known}")
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._keep(**{name: tensors.get(name, getattr(self, name)) for name in self.ranks})
        other._check_shapes()
        if any(not isinstance(value, Tensor) for value in tensors.values()):
            other._check_data()  # solve looks at tensors only
        return other

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a datum is checked, and one that is replaced is checked like one given to ``with_data``."""
        if name not in self.ranks:
            object.__setattr__(self, name, value)
        elif name in self.__dict__:
            self.__dict__.update(self.with_data(**{name: value}).__dict__)
        else:
            self._keep(**{name: value})

    def _check_shapes(self) -> None:
        """Raise if the data do not fit each other; a subclass may say more."""

    def _check_data(self) -> None:
        """Raise if a datum has a value that the set cannot take; a subclass may say more."""

    def to(self, *args: Any, **kwargs: Any) -> ConvexSet:
        """Return the set with its tensors moved or cast, as ``Tensor.to`` does; numbers stay numbers.

        >>> import torch, lablib
        >>> lablib.Box(torch.zeros(2), 1.0).to(torch.float64).lower.dtype
        torch.float64
        """
        tensors = [getattr(self, name).to(*args, **kwargs) for name in self.names]
        for name, t in zip(self.names, tensors, strict=True):
            if t.dtype not in WORKING:
                raise TypeError(f"{name} cannot be cast to {t.dtype}: expected a floating point dtype")
        return self.bind(tensors)

    def __repr__(self) -> str:
        parts = [str(self.dim)] if "dim" in self._shown else []
        for name in self._shown:
            if name != "dim":
                parts.append(f"{name}={_show(getattr(self, name))}")
        return f"{type(self).__name__}({', '.join(parts)})"

    _shown: ClassVar[tuple[str, ...]] = ()

    # -- what a set must define ---------------------------------------------------------------------------------------

    def solve(self, y: Tensor, *, tol: float | None, max_steps: int | None, element: str) -> tuple[Tensor, Any, Any]:
        """Return ``(x, active, steps)``: the projection of plain tensors, its face, and the passes used."""
        raise NotImplementedError(f"{type(self).__name__} must define solve(y, *, tol, max_steps, element)")

    def face_project(self, x: Tensor, v: Tensor, active: Any = None) -> Tensor:
        """Return the projection of v on the directions of the face of x."""
        raise NotImplementedError(f"{type(self).__name__} must define face_project(x, v, active=None)")

    def violation(self, x: Tensor) -> Tensor:
        """Return the largest absolute violation per point, in float64."""
        raise NotImplementedError(f"{type(self).__name__} must define violation(x)")

    # -- what it may define -------------------------------------------------------------------------------------------

    def face_map(self, y: Tensor, active: Any) -> Tensor:
        """Return the projection of y on the affine hull of the face, differentiable in y and in the data."""
        raise NotImplementedError(
            f"{type(self).__name__} must define face_map(y, active) to be differentiated by its data or compiled"
        )

    def frame(self, x: Tensor, active: Any) -> tuple[Tensor, Tensor]:
        """Return ``(free, row)`` where the face is {d : d = 0 where not free, row.d = 0}, 0 rows for none.

        Only for sets whose faces have this form: it lets a quadratic be solved exactly on the face.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define frame(x, active)")

    def lmo(self, g: Tensor) -> Tensor:
        """Return ``argmin_{v in s} <g, v>``, a vertex."""
        raise NotImplementedError(f"{type(self).__name__} does not define lmo(g)")

    def sample(self, *shape: int, generator: torch.Generator | None = None) -> Tensor:
        """Return random members of shape ``(*shape, n)``."""
        raise NotImplementedError(f"{type(self).__name__} does not define sample(*shape)")

    def data_gradient(self, y: Tensor, x: Tensor, v: Tensor, active: Any) -> tuple[Tensor, ...]:
        """Return the products of v with the derivatives by the data, in the order of ``names``.

        They need not be summed over broadcast dimensions. Default: ``face_map`` is differentiated.
        """
        _, pull = torch.func.vjp(lambda *tensors: self.bind(tensors).face_map(y, active), *self.data().values())
        return pull(v)

    def solve_traced(self, y: Tensor, element: str) -> tuple[Tensor, Any]:
        """Return ``(x, active)`` without reading a value on the host."""
        x, active, _ = self.solve(y, tol=None, max_steps=None, element=element)
        return x, active

    def gap(self, y: Tensor, x: Tensor) -> Tensor:
        """Return the certificate ``max_{z in s} <y - x, z - x>`` per point, in float64: 0 just at the projection of y.

        It bounds the error: ``|x - P(y)|^2 <= gap`` for x in the set.

        >>> import torch, lablib
        >>> lablib.Simplex(2).gap(torch.tensor([2.0, 0.0]), torch.tensor([0.5, 0.5]))
        tensor(1., dtype=torch.float64)
        """
        check_point(self, "y", y)
        check_point(self, "x", x)
        normal = y.double() - x.double()
        farthest = self.lmo((-normal).to(x.dtype)).double()
        return (normal * (farthest - x.double())).sum(-1)  # eq: eq-gap

    def tolerance(self, x: Tensor) -> Tensor:
        """Return the violation per point that rounding in x's dtype can explain, in float64."""
        eps = torch.finfo(x.dtype).eps
        return 4 * eps * math.sqrt(x.shape[-1] or 1) * x.double().abs().amax(-1) if x.shape[-1] else x.sum(-1).double()

    def scale(self, x: Tensor) -> Tensor:
        """Return the largest |right-hand side| per point, in float64: what ``tol`` is relative to, beside 1."""
        return x.new_zeros(x.shape[:-1], dtype=torch.float64)

    def contains(self, x: Tensor, atol: float | None = None) -> Tensor:
        """Tell per point whether x is in the set, up to ``atol``; by default up to the rounding of dtype, n and scale.

        >>> import torch, lablib
        >>> lablib.Simplex(2).contains(torch.tensor([[0.3, 0.7], [0.3, 0.8]]))
        tensor([ True, False])
        """
        check_point(self, "x", x)
        return self.violation(x) <= (self.tolerance(x) if atol is None else atol)

    # -- what follows -------------------------------------------------------------------------------------------------

    def project(
        self,
        y: Tensor,
        return_info: bool = False,
        *,
        strict: bool = True,
        tol: float | None = None,
        max_steps: int | None = None,
        element: str = "lowest",
    ):
        """Return ``argmin_{x in s} 1/2 |x - y|^2``, differentiable in y and in the set's tensor data.

        Method: the set's own solver; backwards and in forward mode the projector on the directions of x's face (the
        HS-Jacobian).

        ``y``: shape (..., n), any floating dtype; half precision is computed in float32. ``return_info``: return
        ``(x, SolveInfo)``. ``strict=False``: do not raise, return the best iterate and its info. ``tol``: the largest
        violation accepted, relative to 1 + |right-hand side| (default: what rounding explains). ``max_steps``: cap on
        the passes of the search. ``element``: at a kink, where several Jacobians are right, ``"lowest"`` keeps weakly
        active constraints in the face (the smallest face that holds x) and ``"highest"`` frees them.

        With none of ``return_info``, ``strict=False``, ``tol`` and ``max_steps`` the residual is not measured: the
        closed forms are exact up to rounding. These four are not available under ``torch.compile`` and inside the
        transforms of ``torch.func``. Checks of values read one number on the host; they are off under
        ``torch.compile``, where the closed forms answer a row at fault with NaN.

        Raises SolveError (a ValueError too where the input is at fault) naming argument, index and what was expected;
        TypeError for tensors of integers.

        >>> import torch, lablib
        >>> lablib.Simplex(3).project(torch.tensor([1.0, 0.5, -2.0]))
        tensor([0.7500, 0.2500, 0.0000])
        """
        dtype = _check_input(self, y)
        if element != "lowest" and element != "highest":
            raise InputError(f"element is {element!r}: expected 'lowest' or 'highest'")
        convex_set, original = self, y
        if self.names:
            convex_set, y = _match(self, y)
        if dtype is not y.dtype:
            y = y.to(dtype)
        if torch.compiler.is_compiling():
            if return_info:
                raise InputError(
                    "return_info is not available under torch.compile: measure with violation and gap outside"
                )
            if not strict or tol is not None or max_steps is not None:
                raise InputError("strict=False, tol and max_steps are not available under torch.compile: drop them")
            x = _traced(convex_set, y, element)
            return x if x.dtype is original.dtype else x.to(original.dtype)
        tensors = [getattr(convex_set, name) for name in convex_set.names]
        if not return_info and strict and tol is None and max_steps is None:
            x = _apply(y, convex_set, _PLAIN if element == "lowest" else (None, None, element, None), tensors)
            fits = x.dtype is original.dtype and not self._may_overflow
            return x if fits else _narrow(self, x, original.dtype)
        check_search(tol, max_steps)
        if in_a_transform():
            raise InputError(
                "return_info, strict=False, tol and max_steps are not available inside a transform of torch.func: "
                "drop them there, and measure with violation and gap outside"
            )
        note: list = []
        x = _apply(y, convex_set, (tol, max_steps, element, note), tensors)
        info = _certify(convex_set, y.detach(), x.detach(), note[0], tol, original.dtype)
        if strict and not bool(info.converged.all()):
            worst = first_index(~info.converged)
            if not bool(x[worst].to(original.dtype).isfinite().all() & info.residual[worst].isfinite()):
                raise SolveError(
                    f"projection on {type(self).__name__} overflows {original.dtype} at batch index {list(worst)}: "
                    "expected a point that this dtype can hold; use a wider one, or pass strict=False",
                    info=info,
                    index=worst,
                )
            limit = "what rounding explains" if tol is None else f"tol={tol:.1e} relative to 1 + |right-hand side|"
            raise SolveError(
                f"projection on {type(self).__name__} missed its tolerance at batch index {list(worst)}: "
                f"residual {float(info.residual[worst]):.1e} after {int(info.iterations[worst])} passes; "
                f"accepted was {limit}; raise max_steps or tol, or pass strict=False",
                info=info,
                index=worst,
            )
        x = x if x.dtype is original.dtype else x.to(original.dtype)
        return (x, info) if return_info or not strict else x


def _narrow(convex_set: ConvexSet, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return x in the dtype of the answer, which may be too small for it: a budget of 1e5 does not fit into float16."""
    narrow = x.to(dtype)
    if not in_a_transform() and truth(narrow.isinf()):
        index = first_index(narrow.isinf())
        raise SolveError(
            f"projection on {type(convex_set).__name__} overflows {dtype} at entry {list(index)}, which is "
            f"{float(x[index]):.6g}: use a wider dtype, or a smaller set",
            index=index,
        )
    return narrow


def _show(value: Any) -> str:
    if not isinstance(value, Tensor):
        return str(value)
    if value.dim() == 0 and not _is_traced(value):
        return f"{value.item():.6g}" if value.item() != int(value.item()) else str(float(value.item()))
    return f"tensor{tuple(value.shape)}"


def _is_traced(value: Tensor) -> bool:
    return value.device.type == "meta"


def check_point(convex_set: ConvexSet, name: str, x: Tensor) -> None:
    """Check type and shape of the argument of an oracle, and of a direction g that it is finite.

    >>> import torch, lablib
    >>> check_point(lablib.Simplex(2), "x", torch.zeros(2))
    """
    _check_input(convex_set, x, name)
    if name == "g" and truth(~torch.isfinite(x)):
        raise_not_finite(name, x)


def _check_input(convex_set: ConvexSet, y: Tensor, name: str = "y") -> torch.dtype:
    """Check type and shape of y; return the dtype to compute in."""
    if not isinstance(y, Tensor):
        raise TypeError(f"{name} is a {type(y).__name__}: expected a torch tensor")
    dtype = WORKING.get(y.dtype)
    if dtype is None:
        kind = "16 bits or more" if y.is_floating_point() else "a floating point tensor"
        raise TypeError(f"{name} has dtype {y.dtype}: expected {kind}; call .float() on it")
    if y.layout is not torch.strided:
        raise TypeError(f"{name} has layout {y.layout}: expected a dense tensor; call .to_dense() on it")
    shape = y.shape
    dim = convex_set.dim
    if not shape or (dim is not None and shape[-1] != dim):
        expected = "at least one dimension" if dim is None else f"a last dimension of {dim}"
        raise InputError(f"{name} has shape {tuple(shape)}: {type(convex_set).__name__} expected {expected}")
    return dtype


def check_search(tol: Any, max_steps: Any) -> None:
    """Check the arguments that steer a search."""
    if tol is not None:
        if isinstance(tol, bool) or not isinstance(tol, (int, float)):
            raise TypeError(f"tol is a {type(tol).__name__}: expected a number")
        if not tol >= 0:
            raise InputError(f"tol is {tol}: expected a number that is not negative")
    if max_steps is not None:
        if isinstance(max_steps, bool) or not isinstance(max_steps, int):
            raise TypeError(f"max_steps is a {type(max_steps).__name__}: expected an integer")
        if max_steps < 0:
            raise InputError(f"max_steps is {max_steps}: expected at least 0")


def _match(convex_set: ConvexSet, y: Tensor, called: str = "y") -> tuple[ConvexSet, Tensor]:
    """Check the data against y, called so, widen half precision data, and give y the batch dimensions of the data."""
    dtype = WORKING[y.dtype]
    tensors, widened, batch = [], False, y.shape[:-1]
    for name in convex_set.names:
        t = getattr(convex_set, name)
        if t.device != y.device:
            raise InputError(
                f"{name} is on {t.device} and {called} on {y.device}: expected one device; "
                f"move the set with .to({str(y.device)!r})"
            )
        if t.dtype is not dtype:
            if t.dtype is not y.dtype:
                raise InputError(
                    f"{name} has dtype {t.dtype} and {called} {y.dtype}: expected one dtype; "
                    f"cast the set with .to({y.dtype})"
                )
            t, widened = t.to(dtype), True
        tensors.append(t)
        lead = t.shape[: t.dim() - convex_set.ranks[name]]
        if lead and lead != batch:
            try:
                batch = torch.broadcast_shapes(batch, lead)
            except RuntimeError:
                raise InputError(
                    f"{name} has batch shape {tuple(lead)} and {called} {tuple(batch)}: expected shapes that broadcast"
                ) from None
    if batch != y.shape[:-1]:
        if any(size != 1 for size in y.shape[:-1]):
            name, lead = next(
                (name, lead)
                for name, t in zip(convex_set.names, tensors, strict=True)
                for lead in [t.shape[: t.dim() - convex_set.ranks[name]]]
                if torch.broadcast_shapes(y.shape[:-1], lead) != y.shape[:-1]
            )
            raise InputError(
                f"{name} has batch shape {tuple(lead)}, which would enlarge that of {called}, {tuple(y.shape[:-1])}: "
                "expected one that broadcasts into it; drop a last 1 with .squeeze(-1), or give "
                f"{called} a dimension with {called}[:, None]"
            )
        y = y.expand(*batch, y.shape[-1])
    return (convex_set.bind(tensors) if widened else convex_set), y


def _traced(convex_set: ConvexSet, y: Tensor, element: str) -> Tensor:
    """Project with plain torch operations, for ``torch.compile``: search without gradients, then the face's formula."""
    with torch.no_grad():
        frozen = convex_set.bind([getattr(convex_set, name).detach() for name in convex_set.names])
        x, active = frozen.solve_traced(y.detach(), element)
    on_face = convex_set.face_map(y, active)
    # The formula's derivative, at the search's own point: where y is large, the formula cancels all digits.
    return on_face if x is None else x + (on_face - on_face.detach())


def _certify(
    convex_set: ConvexSet, y: Tensor, x: Tensor, steps: Any, tol: float | None, dtype: torch.dtype
) -> SolveInfo:
    """Measure what was returned: violation, certificate, and whether the violation is within tolerance.

    ``dtype``: that of the answer, which may be narrower than x and overflow.
    """
    if convex_set.names:
        convex_set = convex_set.bind([getattr(convex_set, name).detach() for name in convex_set.names])
    residual = convex_set.violation(x)
    try:
        gap = convex_set.gap(y, x)
    except (NotImplementedError, InputError):  # no linear oracle, or y - x is not finite: there is no certificate
        gap = torch.full_like(residual, math.nan)
    allowed = convex_set.tolerance(x) if tol is None else tol * (1 + convex_set.scale(x))
    iterations = torch.as_tensor(steps, device=x.device)
    held = residual.isfinite() & x.to(dtype).isfinite().flatten(residual.dim()).all(-1)
    return SolveInfo((residual <= allowed) & held, iterations.expand(residual.shape), residual, gap)


class ProjectionLayer(nn.Module):
    """The layer ``y -> argmin_{x in s} 1/2 |x - y|^2``.

    The set's tensors become the module's own: buffers, or parameters where they are ``nn.Parameter``. So ``.to``,
    ``state_dict``, pickling, deep copies and optimiser steps all reach them. ``layer(y, **data)`` projects on
    ``s.with_data(**data)``. Keyword arguments of the constructor are passed on to ``project``.

    >>> import torch, lablib
    >>> layer = ProjectionLayer(lablib.L1Ball(2, radius=torch.nn.Parameter(torch.tensor(1.0))))
    >>> layer(torch.tensor([3.0, 0.0]), radius=2.0).tolist(), list(layer.state_dict())
    ([2.0, 0.0], ['radius'])
    """

    def __init__(self, convex_set: ConvexSet, **options: Any):
        super().__init__()
        if not isinstance(convex_set, ConvexSet):
            raise TypeError(f"convex_set is a {type(convex_set).__name__}: expected a set, such as lablib.Simplex(3)")
        unknown = sorted(set(options) - _OPTIONS)
        if unknown and type(convex_set).project is ConvexSet.project:
            raise TypeError(f"project has no option {', '.join(unknown)}: it has {', '.join(sorted(_OPTIONS))}")
        self.options = options
        for name, tensor in convex_set.data().items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            elif tensor.requires_grad:
                kind = "a plain tensor that" if tensor.is_leaf else "the result of a computation, which"
                raise TypeError(
                    f"{name} is {kind} requires a gradient: no optimiser would see it in the layer; make it a "
                    f"torch.nn.Parameter, or pass it in the call, layer(y, {name}=...)"
                )
            else:
                self.register_buffer(name, tensor)
        # The module's tensors are the only ones: the template holds none that could grow stale.
        self._template = convex_set.bind([None] * len(convex_set.names))

    @property
    def set(self) -> ConvexSet:
        """The set with the module's present tensors."""
        template = self._template
        return template.bind([getattr(self, name) for name in template.names]) if template.names else template

    def forward(self, y: Tensor, **data: Any):
        """Project y, shape (..., n)."""
        template = self._template
        convex_set = template if not template.names else self.set
        if data:
            options = sorted(_OPTIONS.intersection(data).difference(template.ranks))
            if options:
                raise TypeError(f"{', '.join(options)}: options of project go to the constructor of the layer")
            convex_set = convex_set.with_data(**data)
        return convex_set.project(y, **self.options)

    def extra_repr(self) -> str:
        """Show the set."""
        return repr(self.set)


def check_jacobian(
    layer: Callable[[Tensor], Tensor], x: Tensor, *, step: float | None = None, directions: int = 64
) -> float:
    """Return the largest relative difference between a layer's backward and finite differences, away from kinks.

    Compares, per point of the batch, the Jacobian J assembled from backward passes with central differences, as ``max
    |J - D| / max(1, max |D|)``; beyond ``directions`` coordinates both are compressed to that many random directions.
    A point at which the two one-sided differences disagree is near a kink, where no derivative exists: a smaller step
    is tried, twice, and then the point is left out. ``x``: shape (..., n), float64 for a sharp answer; the points of
    a batch must not influence each other. ``step``: of the differences, default ``eps^(1/3)`` times the size of x.

    Raises SolveError if every point is near a kink.

    >>> import torch, lablib
    >>> y = torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> check_jacobian(lablib.ProjectionLayer(lablib.Simplex(4)), y) < 1e-8
    True
    """
    x = x.detach()
    n = x.shape[-1]
    if n <= directions:
        basis = torch.eye(n, dtype=x.dtype, device=x.device)
    else:
        normal = torch.randn(n, directions, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        basis = torch.linalg.qr(normal)[0].mT.to(x)
    leaf = x.clone().requires_grad_()
    out = layer(leaf)
    rows = [torch.autograd.grad(out, leaf, d.expand(out.shape), retain_graph=True)[0] for d in basis]
    exact = torch.stack(rows, -2) @ basis.mT  # (..., cotangent, direction)
    eps = torch.finfo(x.dtype).eps
    length = (eps ** (1 / 3) if step is None else step) * x.abs().amax(-1, keepdim=True).clamp(min=1)
    worst = torch.full(x.shape[:-1], math.nan, dtype=torch.float64, device=x.device)
    with torch.no_grad():
        middle = layer(x)
        for _ in range(3):
            ahead = torch.stack([(layer(x + length * d) - middle) / length for d in basis], -1)
            behind = torch.stack([(middle - layer(x - length * d)) / length for d in basis], -1)
            central = basis @ (ahead + behind) / 2
            size = central.abs().amax((-2, -1)).clamp(min=1)
            kinked = (ahead - behind).abs().amax((-2, -1)) > max(1e-3, 100 * eps ** (1 / 3)) * size
            error = ((central - exact).abs().amax((-2, -1)) / size).double()
            worst = torch.where(worst.isnan() & ~kinked, error, worst)
            length = length / 8
    if bool(worst.isnan().all()):
        raise SolveError(
            "every point lies near a kink, where no derivative exists; move x a little, or pass a smaller step"
        )
    return float(worst[~worst.isnan()].max())
