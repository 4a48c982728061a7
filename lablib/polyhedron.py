"""The general polyhedron ``{x : A x = b, G x <= h, lower <= x <= upper}``: projected exactly, in batches.

The closed forms of ``sets.py`` end where rows meet in no simple way. Here the rows are stacked, divided by their norms,
and the equalities taken out by one factor, which leaves

    min 1/2 |x - y|^2   with   low <= C x <= high,    rows of C of norm 1 and orthogonal to those of A.

The search for the rows that hold is in ``active_set.py``. The Cholesky factor that it leaves is the one that the
backward pass solves with.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import linprog, nnls
from torch import Tensor

from . import banded, single
from .active_set import EPS, DenseRows, Problem, back, pull, search, times
from .projection import ConvexSet, check_point, in_a_transform, raise_not_finite, truth
from .sets import (
    _bounds_hold,
    _check_bounds,
    _common_dim,
    _double,
    _factored,
    _finite,
    _outer,
    _outside,
    _require,
    _rounding,
    _row_factor,
    _size,
    _triangular,
    _unit_rows,
)
from .solution import InputError, SolveError, first_index

__all__ = ["Polyhedron"]


class _Geometry(NamedTuple):
    """What depends on A and G alone; shapes may carry batch dimensions in front.

    ``mask``, ``R``: independent rows of A and their factor, A' = Q R. ``rows``: G and the identity, of norm 1, (r, n).
    C: their parts orthogonal to A, of norm 1 again; ``share``: the norm before, 0 for a row that A fixes. ``W``: Q' and
    C, one under the other, as most products are with both. ``K``: C C', or None where it would be too large.
    ``length_A``, ``length_G``: norms of the rows as given.
    """

    mask: Tensor
    W: Tensor
    R: Tensor
    length_A: Tensor
    length_G: Tensor
    rows: Tensor
    share: Tensor
    K: Tensor | None
    pull: Tensor | None  # what the first guess multiplies with

    @property
    def across(self) -> Tensor:
        """Q', the orthonormal rows that span those of A."""
        return self.W[..., : self.mask.shape[-1], :]

    @property
    def C(self) -> Tensor:
        """The rows orthogonal to A."""
        return self.W[..., self.mask.shape[-1] :, :]


class Polyhedron(ConvexSet):
    """``{x : A x = b, G x <= h, lower <= x <= upper}``: any part may be left out.

    Projection: an active-set search in float64, as the top of this module tells; float32 is that answer rounded. Face:
    the rows that hold with equality; its projector solves with one Cholesky factor, k x k for k such rows. ``A``: a
    tensor (..., p, n), ``b``: a number or a tensor (..., p); ``G``: (..., m, n), ``h``: a number or (..., m), +inf for
    no limit; ``lower``, ``upper``: numbers or (..., n), infinities allowed. Each may be shared or per sample. ``dim``
    fixes n where no tensor does. Rows may be redundant, repeated, of any scale; the set may be flat.

    Sparse ``A`` and ``G`` (tensors of a sparse layout, shared by the batch, without gradients) stay sparse. Their rows
    are ordered into a band and solved on the host by SciPy, sample by sample (``banded.py``), wherever y lives.
    Gradients flow to y, b, h and the bounds; where active rows depend on each other, to those of an independent set
    that spans them, which need not be one that carries the multiplier. A layer does not list them in ``state_dict``.

    Gradients flow to all tensor data. Where active rows depend on each other those of an independent index set of the
    Han-Sun family are returned: first rows that carry a multiplier (an extreme one, so they are independent), then
    others until all active rows are spanned. They are right for every change of the data that keeps these rows active.
    ``element="highest"`` keeps only the rows that carry an extreme multiplier, whose support holds no smaller one, so
    fewer directions of y are lost.

    Raises InputError where the set is empty; its ``certificate`` is a dict of multipliers (b, h, lower, upper) that
    proves it: ``A'b + G'h - lower + upper = 0`` and yet ``b.w_b + h.w_h - lower.w_l + upper.w_u < 0``. ``lmo``,
    ``sample``, ``gap`` and that proof call SciPy on the host, sample by sample.

    >>> import torch
    >>> wedge = Polyhedron(G=torch.tensor([[1.0, 1.0], [1.0, -1.0]]), h=torch.tensor([1.0, 0.0]), lower=0.0)
    >>> wedge.project(torch.tensor([2.0, 0.0]))
    tensor([0.5000, 0.5000])
    """

    ranks: ClassVar[dict[str, int]] = {"A": 2, "b": 1, "G": 2, "h": 1, "lower": 1, "upper": 1}
    # places, sides, factor; then what A and G give: mask, W, R, share
    active_ranks: ClassVar[tuple[int, ...]] = (1, 1, 2, 1, 2, 2, 1)
    _shown = ("A", "b", "G", "h", "lower", "upper")
    _lenient = False

    def __init__(
        self,
        A: Tensor | None = None,
        b: float | Tensor | None = None,
        G: Tensor | None = None,
        h: float | Tensor | None = None,
        lower: float | Tensor | None = None,
        upper: float | Tensor | None = None,
        *,
        dim: int | None = None,
    ):
        for name, value, partner, end in (("A", A, "b", b), ("G", G, "h", h)):
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(f"{name} is a {type(value).__name__}: expected a torch tensor of shape (..., rows, n)")
            if (value is None) != (end is None):
                missing, given = (name, partner) if value is None else (partner, name)
                raise InputError(f"{given} is given without {missing}: expected both or neither")
        self.dim = dim
        self._keep(A=A, b=b, G=G, h=h, lower=lower, upper=upper)
        self._kept: dict[str, Any] = {}
        self._check_shapes()
        self._check_data()

    def _check_shapes(self) -> None:
        self.dim = _common_dim(self.dim, A=self.A, G=self.G, lower=self.lower, upper=self.upper)
        if self.dim is None:
            raise InputError("the dimension is not known: give A, G or a bound as a tensor, or dim=n")
        for name, rows in (("b", self.A), ("h", self.G)):
            end = getattr(self, name)
            if isinstance(end, Tensor) and end.shape[-1] != rows.shape[-2]:
                of = "A" if name == "b" else "G"
                raise InputError(
                    f"{name} has shape {tuple(end.shape)}: expected a last dimension of {rows.shape[-2]}, one for each "
                    f"row of {of}"
                )

    @property
    def _sparse(self) -> bool:
        """Tell whether A or G is sparse; then they are no data through which gradients flow."""
        return any(t is not None and t.layout is not torch.strided for t in (self.A, self.G))

    def _keep(self, **data: Any) -> None:
        ConvexSet._keep(self, **data)
        self.active_ranks = (1,) if self._sparse else Polyhedron.active_ranks
        if not self._sparse:
            return
        for name in ("A", "G"):
            t = getattr(self, name)
            if t is not None and (t.layout is torch.strided or t.dim() != 2 or t.requires_grad):
                raise InputError(
                    f"{name} has layout {t.layout}, shape {tuple(t.shape)} and requires_grad={t.requires_grad}: where"
                    " one of A and G is sparse, expected both sparse, of two dimensions and without gradients"
                )
            if t is not None:  # one layout, which can also be copied
                self.__dict__[name] = t.detach().to_sparse_coo().coalesce()
        self.names = tuple(name for name in self.names if name not in ("A", "G"))

    def _check_data(self) -> None:
        for name in ("A", "b", "G"):
            t = getattr(self, name)
            if t is not None and (isinstance(t, float) or t.layout is torch.strided):
                _finite(name, t)
            elif t is not None:
                _finite(f"the values of {name}, ", banded.entries(t)[1])
        if self.h is not None:
            _require(~(torch.as_tensor(self.h) > -math.inf), "h", self.h, "a number, or inf for no limit")
        _check_bounds(*self._bounds())

    def __getstate__(self):
        return {**self.__dict__, "_kept": {}}

    def to(self, *args: Any, **kwargs: Any) -> ConvexSet:
        """Return the set with its tensors moved or cast, sparse ones too."""
        other = ConvexSet.to(self, *args, **kwargs)
        for name in ("A", "G") if self._sparse else ():
            t = getattr(self, name)
            other.__dict__[name] = None if t is None else t.to(*args, **kwargs)
        return other

    def _bounds(self) -> tuple[float | Tensor, float | Tensor]:
        lower = -math.inf if self.lower is None else self.lower
        return lower, math.inf if self.upper is None else self.upper

    # -- the geometry -------------------------------------------------------------------------------------------------

    def _geometry(self) -> _Geometry:
        """Return the factors, kept beside copies of A and G and used again only while those agree."""
        key = (self.lower is None and self.upper is None, self.A is None, self.G is None)
        given = [t.detach() for t in (self.A, self.G) if t is not None]
        if not self._still("rows", key, given):
            g = self._measure()
            regular = bool(g.mask.all()) and bool((g.share > 0).all())
            self._kept.update(rows=(key, [t.clone() for t in given]), geometry=g, regular=regular, data=None)
        return self._kept["geometry"]

    def _still(self, name: str, key: tuple, given: list[Tensor]) -> bool:
        """Tell whether what was kept under a name belongs to these tensors; a NaN never agrees."""
        kept = self._kept.get(name)
        return (
            kept is not None
            and kept[0] == key
            and len(kept[1]) == len(given)
            and all(
                k.shape == t.shape and k.device == t.device and k.dtype == t.dtype and torch.equal(k, t)
                for k, t in zip(kept[1], given, strict=True)
            )
        )

    def _measure(self, mask: Tensor | None = None) -> _Geometry:
        """Make the geometry, differentiable in A and G where ``mask`` names the independent rows of A."""
        n, plain = self.dim, mask is None
        device = next(iter(self.data().values()), torch.empty(0)).device
        none = torch.zeros(0, n, dtype=torch.float64, device=device)
        A, G = (none if t is None else (t.detach() if plain else t).double() for t in (self.A, self.G))
        unit_A, length_A = _unit_rows(A)
        mask, Q, R = _row_factor(unit_A) if plain else _factored(unit_A, mask)
        rows, length_G = _unit_rows(G)
        if self.lower is not None or self.upper is not None:
            eye = torch.eye(n, dtype=torch.float64, device=device)
            rows = torch.cat([rows, eye.expand(*rows.shape[:-2], n, n)], -2)
        C = rows
        for _ in range(2):  # one pass loses digits on rows that A nearly fixes
            C = C - (C @ Q) @ Q.mT
        share = torch.linalg.vector_norm(C.detach(), dim=-1)
        share = torch.where(share > 64 * n * EPS, share, 0.0)
        C = torch.where(share.unsqueeze(-1) > 0, C / torch.where(share > 0, share, 1.0).unsqueeze(-1), 0.0)
        K = C @ C.mT if plain and C.shape[-2] <= max(1024, n // 2) else None
        lead = torch.broadcast_shapes(Q.shape[:-2], C.shape[:-2])
        W = torch.cat([Q.mT.expand(*lead, Q.shape[-1], n), C.expand(*lead, C.shape[-2], n)], -2)
        return _Geometry(mask, W, R, length_A, length_G, rows, share, K, None)

    def _ends(self, g: _Geometry) -> tuple[Tensor, Tensor, Tensor]:
        """Return Q'x for the x with A x = b, and the ends of the rows of C; differentiable in b, h and the bounds."""
        tied = g.R.new_zeros(g.R.shape[-1])
        if tied.shape[-1]:
            tied = _triangular(g.R.mT, g.mask * (_double(self.b) / g.length_A), upper=False)
        low, high = self._raw_ends(g)
        free = g.share == 0
        start, share = times(g.rows, back(g.across, tied)), torch.where(free, 1.0, g.share)
        return (
            tied,
            torch.where(free, -math.inf, (low - start) / share),
            torch.where(free, math.inf, (high - start) / share),
        )

    def _raw_ends(self, g: _Geometry) -> tuple[Tensor, Tensor]:
        """Return the ends of G's normalised rows and of the bounds."""
        h = (torch.as_tensor(0.0 if self.h is None else _double(self.h)) / g.length_G) if self.G is not None else None
        low, high = ([], []) if h is None else ([torch.full_like(h, -math.inf)], [h])
        if self.lower is not None or self.upper is not None:
            for ends, end in zip((low, high), self._bounds(), strict=True):
                end = torch.as_tensor(_double(end), dtype=torch.float64, device=g.rows.device)
                ends.append(end if end.dim() else end.expand(self.dim))
        return (_joined(low), _joined(high)) if low else (g.share.new_zeros(0), g.share.new_zeros(0))

    # -- the projection -----------------------------------------------------------------------------------------------

    def project(self, y, return_info=False, *, strict=True, tol=None, max_steps=None, element="lowest"):
        """Project as every set does; with ``strict=False`` the search itself does not raise either."""
        convex_set = self
        if strict is False and not self._lenient:
            convex_set = self.bind([getattr(self, name) for name in self.names])
            convex_set._lenient = True
        return ConvexSet.project(
            convex_set, y, return_info, strict=strict, tol=tol, max_steps=max_steps, element=element
        )

    def solve(self, y, *, tol=None, max_steps=None, element="lowest"):
        """Search the rows that hold."""
        batch, dtype = y.shape[:-1], y.dtype
        if not bool(y.sum().isfinite()):
            raise_not_finite("y", y)
        if self._sparse:
            return self._solve_banded(y, max_steps, element)
        g, ends, bad, large = self._prepared(y)
        if max_steps is None and batch.numel() == 1 and _on_the_host(y):
            found = self._solve_one(g, ends, bad, large, y)
            if found is not None:
                return found
        x, side, factor, off, steps = self._search(g, ends, large, y, max_steps, element)
        for _ in range(2):
            # Digits that a huge y costs come back from a nearer point with the same projection, on the way from x to y.
            near = x.reshape(*batch, self.dim)
            huge = _size(y) > 1e5 * (_size(near) + large)
            if max_steps is not None or not bool(huge.any()):
                break
            y = torch.where(huge.unsqueeze(-1), near + 1e-5 * (y - near), y)
            x, side, factor, off, more = self._search(g, ends, large, y, max_steps, element)
            steps += more
        off = off.reshape(batch) if bad is None else off.reshape(batch) | bad.expand(batch)
        if max_steps is None and not self._lenient:
            self._check_met(off, batch, steps)
        x = self._onto_bounds(x, side, batch)
        active = (factor.index, side.gather(-1, factor.index) * factor.real, factor.lower)
        active = tuple(t.reshape(*batch, *t.shape[1:]) for t in active)
        return x.to(dtype).reshape(*batch, self.dim), (*active, g.mask, g.W, g.R, g.share), steps

    def _solve_one(self, g, ends, bad, large, y):
        """Return what ``solve`` does for one point and a shared set, by arrays; None where those leave a doubt."""
        if "one" not in self._kept:
            shared = g.K is not None and g.K.dim() == 2 and all(t.dim() == 1 for t in ends) and large.dim() == 0
            shared = shared and (bad is None or not bool(bad))
            arrays = [t.contiguous().numpy() for t in (g.W, g.K, pull(g.K).double(), *ends)] if shared else None
            self._kept["one"] = arrays and single.Arrays(*arrays, float(large))
        if self._kept["one"] is None:
            return None
        found = single.project(self._kept["one"], y.detach().double().numpy().ravel())
        if found is None:
            return None
        batch = y.shape[:-1]
        x, index, side, lower = (torch.from_numpy(t.reshape(*batch, *t.shape)) for t in found[:4])
        if self.lower is not None or self.upper is not None:
            held = x.new_zeros(1, g.K.shape[-1]).scatter_(-1, index.reshape(1, -1), side.reshape(1, -1))
            x = self._onto_bounds(x.reshape(1, -1), held, batch).reshape(x.shape)
        return x.to(y.dtype), (index, side, lower, g.mask, g.W, g.R, g.share), found.steps

    def _rows(self) -> tuple[banded.BandedRows, Tensor]:
        """Return the sparse rows, of norm 1 and in a band, and their lengths before; kept while the rows stay."""
        key = (self.lower is None and self.upper is None, self.A is None, self.G is None)
        given = [t for M in (self.A, self.G) if M is not None for t in (*banded.entries(M), torch.tensor(M.shape))]
        if not self._still("rows", key, given):
            parts = [banded.from_torch(t) for t in (self.A, self.G) if t is not None]
            if not key[0]:
                parts.append(sparse.identity(self.dim, format="csr"))
            C = sparse.vstack(parts, format="csr")
            length = _lengths(C)
            band = banded.BandedRows(_scaled(C, length))
            if (band.width + 1) * C.shape[0] > banded.LARGEST:
                raise InputError(
                    f"the sparse rows make a band of width {band.width} with {C.shape[0]} rows, too large to factor: "
                    "expected rows that couple near neighbours; give dense tensors"
                )
            self._kept.update(rows=(key, [t.clone() for t in given]), band=(band, torch.from_numpy(length)))
        return self._kept["band"]

    def _banded_ends(self) -> tuple[Tensor, Tensor]:
        """Return the ends of the sparse rows as given: A, then G, then the bounds."""
        low, high = [], []
        if self.A is not None:
            b = torch.as_tensor(_double(self.b), dtype=torch.float64)
            b = b if b.dim() else b.expand(self.A.shape[-2])
            low, high = [b], [b]
        if self.G is not None:
            h = torch.as_tensor(_double(self.h), dtype=torch.float64)
            h = h if h.dim() else h.expand(self.G.shape[-2])
            low, high = [*low, torch.full_like(h, -math.inf)], [*high, h]
        if self.lower is not None or self.upper is not None:
            for ends, end in zip((low, high), self._bounds(), strict=True):
                end = torch.as_tensor(_double(end), dtype=torch.float64)
                ends.append(end if end.dim() else end.expand(self.dim))
        return _joined(low), _joined(high)

    def _solve_banded(self, y, max_steps, element):
        """Search as for dense rows, with the equalities among the rows."""
        batch, dtype = y.shape[:-1], y.dtype
        band, length = self._rows()
        self._check_data()
        low, high = (_flat(t / length, batch, 1) for t in self._banded_ends())
        x = y.detach().cpu().double().reshape(-1, self.dim)
        size = _size(x).unsqueeze(-1)
        size = torch.where(size == 0, 1.0, size)
        t = band.values(x)
        problem = Problem(band, t, low.expand(t.shape), high.expand(t.shape), size)
        face, steps = search(problem, max_steps, element)
        x = x - band.spread(face.m)
        value = band.values(x)
        far = (problem.over(value).abs() > self._allowed(dtype) * size).any(-1).reshape(batch)
        x = x - band.spread(face.factor.solve(problem.excess(value, face.side)))
        if max_steps is None and not self._lenient:
            self._check_met(far, batch, steps)
        if self.lower is not None or self.upper is not None:
            x = self._onto_bounds(x, face.side[:, -self.dim :], batch)
        band.last = face.side, face.factor
        side = face.side.reshape(*batch, face.side.shape[-1]).to(y.device)
        return x.to(y.device, dtype).reshape(*batch, self.dim), side, steps

    def _prepared(self, y):
        """Return the geometry, the ends and where a row that the equalities fix is not met; kept while the data are."""
        ends = ("b", "h", "lower", "upper")
        key = tuple(None if name in self.names else getattr(self, name) for name in ends)
        given = [getattr(self, name).detach() for name in ends if name in self.names]
        g = self._geometry() if self._kept.get("data") and self._still("data", key, given) else None
        if g is None or self._kept["data"] is None:  # new data, or new rows under the old ends
            self._check_values()
            g = self._geometry()
            tied, low, high = found = self._ends(g)
            start = back(g.across, tied)
            bad = None if self._kept["regular"] else self._off(g, start, y.dtype)
            large = sum(_size(torch.where(t.isfinite(), t, 0.0)) for t in (low, high)) + _size(start)
            self._kept.update(data=(key, [t.clone() for t in given]), ends=(found, bad, large))
            self._kept.pop("one", None)
        if g.pull is None and g.K is not None and g.K.dim() == 2 and y.shape[:-1].numel() > 1:
            g = self._kept["geometry"] = g._replace(pull=pull(g.K))
        return g, *self._kept["ends"]

    def _search(self, g, ends, large, y, max_steps, element):
        """Return x, the sides of the rows, their factor, which samples miss a row by far, and the passes."""
        batch, dtype, p = y.shape[:-1], y.dtype, g.mask.shape[-1]
        W, K = (_flat(t, batch, 2) for t in (g.W, g.K))
        tied, low, high, large = (_flat(t, batch, rank) for t, rank in zip((*ends, large), (1, 1, 1, 0), strict=True))
        y = y.reshape(-1, self.dim).double()
        size = (_size(y) + large).unsqueeze(-1)
        size = torch.where(size == 0, 1.0, size)
        along = times(W, y)
        t = along[:, p:]
        rows = DenseRows(W[..., p:, :], K, g.pull if len(t) > 1 else None)
        problem = Problem(rows, t, low.expand(t.shape), high.expand(t.shape), size)
        face, steps = search(problem, max_steps, element)
        x = y - back(W, torch.cat([along[:, :p] - tied, face.m], -1))
        along = times(W, x)
        value = along[:, p:]
        far = (problem.over(value).abs() > self._allowed(dtype) * size).any(-1)
        excess, off = problem.excess(value, face.side), along[:, :p] - tied
        error = torch.cat([off, excess], -1).abs().amax(-1) if along.shape[-1] else size[:, 0] * 0
        if bool((error > 2 * EPS * math.sqrt(self.dim) * _size(x)).any()):  # once more from x: a huge y costs digits
            x = x - back(W, torch.cat([off, face.factor.solve(excess)], -1))
        return x, face.side, face.factor, far, steps

    def _off(self, g, start, dtype):
        """Tell where a row that the equalities fix is not met."""
        x, size = start, _size(start).unsqueeze(-1)
        allowed = self._allowed(dtype)
        bad = torch.zeros((), dtype=torch.bool, device=start.device)
        if self.A is not None:
            b = torch.as_tensor(_double(self.b)) / g.length_A
            error = times(_unit_rows(self.A.detach().double())[0], x) - b
            bad = bad | (error.abs() > allowed * (size + b.abs())).any(-1)
        if g.share.shape[-1]:
            low, high = self._raw_ends(g)
            value = times(g.rows, x)
            over = torch.maximum(value - high, low - value)
            bad = bad | ((g.share == 0) & (over > allowed * (size + value.abs()))).any(-1)
        return bad

    def _allowed(self, dtype):
        """Return the relative error of a row that may stand: rows given in float32 need not agree any better."""
        return 1e-9 if dtype is torch.float64 else 64 * torch.finfo(dtype).eps * math.sqrt(self.dim)

    def solve_traced(self, y, element):
        """Search outside of the graph: the number of passes depends on the values."""
        return torch.compiler.disable(ConvexSet.solve_traced)(self, y, element)

    def _check_values(self):
        valid = torch.ones((), dtype=torch.bool)
        for t in (self.A, self.b, self.G):
            if isinstance(t, Tensor):
                valid = valid.to(t.device) & t.sum().isfinite()
        if isinstance(self.h, Tensor):
            valid = valid.to(self.h.device) & (self.h > -math.inf).all()
        if isinstance(self.lower, Tensor) or isinstance(self.upper, Tensor):
            held = _bounds_hold(*self._bounds())
            valid = valid.to(held.device) & held
        if not bool(valid):
            self._check_data()

    def _onto_bounds(self, x, side, batch):
        """Put the coordinates that a bound holds exactly on it, and the others inside."""
        if self.lower is None and self.upper is None:
            return x
        lower, upper = (
            _flat(torch.as_tensor(_double(t), dtype=x.dtype, device=x.device), batch, 1) for t in self._bounds()
        )
        x = x.clamp(lower, upper)
        hold = side[:, -self.dim :]
        return torch.where(hold > 0, upper, torch.where(hold < 0, lower, x))

    def _check_met(self, bad, batch, steps):
        """Prove the set empty where the search ended off it; else say that it was not solved."""
        if not bool(bad.any()):
            return
        index = first_index(bad)
        self._prove_empty(index, batch)
        raise SolveError(
            f"projection on Polyhedron was not found at batch index {list(index)} in {steps} passes; its rows may be "
            "too nearly dependent for float64: rescale or thin them, or pass strict=False for the best iterate",
            index=index,
        )

    def _prove_empty(self, index: tuple[int, ...], batch) -> None:
        """Raise with a certificate if the set of one sample is empty: the least violation is a linear program."""
        A, b, G, h, lower, upper = (None if t is None else t for t in self._arrays(index, batch))
        n = self.dim
        rows, ends, names = [], [], []
        eye = sparse.identity(n, format="csr") if self._sparse else np.eye(n)
        for M, e, name in ((A, b, "b"), (G, h, "h"), (-eye, -lower, "lower"), (eye, upper, "upper")):
            keep = np.isfinite(e)
            rows.append(M[keep])
            ends.append(e[keep])
            names.append((name, keep))
        length = [_lengths(M) for M in rows]
        rows = [_scaled(M, s) for M, s in zip(rows, length, strict=True)]
        ends = [e / s for e, s in zip(ends, length, strict=True)]
        # max -ends.w with rows' w = 0, |w|_1 <= 1, w >= 0 (equalities twice): positive just where the set is empty.
        p = len(ends[0])
        M = _stacked([rows[0], -rows[0], *rows[1:]])
        e = np.concatenate([ends[0], -ends[0], *ends[1:]])
        found = linprog(
            e, A_ub=np.ones((1, len(e))), b_ub=[1.0], A_eq=M.T, b_eq=np.zeros(n), bounds=(0, None), method="highs"
        )
        if found.status != 0:
            return
        w = found.x
        if not (e @ w < -1e-9 * (1 + np.abs(e[w > 0]).max(initial=0)) and np.abs(M.T @ w).max() <= 1e-9):
            return
        parts = np.split(np.concatenate([w[:p] - w[p : 2 * p], w[2 * p :]]), np.cumsum([len(t) for t in ends])[:-1])
        certificate = {}
        for (name, keep), part, s in zip(names, parts, length, strict=True):
            whole = np.zeros(len(keep))
            whole[keep] = part / s
            certificate[name] = torch.from_numpy(whole)
        used = ", ".join(
            f"{name}[{i}]" for name, part in certificate.items() for i in torch.nonzero(part.abs() > 1e-9).flatten()[:4]
        )
        at = f" at batch index {list(index)}" if index else ""
        raise InputError(
            f"the set is empty{at}: the rows of {used} contradict each other (every point violates one of the "
            f"normalised rows by {-(e @ w):.1e} or more); the certificate holds multipliers that prove it; expected "
            "data that leave a point",
            index=index,
            certificate=certificate,
        )

    def _arrays(self, index: tuple[int, ...], batch) -> tuple[np.ndarray, ...]:
        """Return A, b, G, h, lower and upper of one sample as float64 arrays."""
        n = self.dim
        sizes = {"A": (0, n), "b": (0,), "G": (0, n), "h": (0,), "lower": (n,), "upper": (n,)}
        if self.A is not None:
            sizes["A"], sizes["b"] = self.A.shape[-2:], self.A.shape[-2:-1]
        if self.G is not None:
            sizes["G"], sizes["h"] = self.G.shape[-2:], self.G.shape[-2:-1]
        out = []
        for name, default in (
            ("A", 0.0),
            ("b", 0.0),
            ("G", 0.0),
            ("h", 0.0),
            ("lower", -math.inf),
            ("upper", math.inf),
        ):
            value = getattr(self, name)
            if isinstance(value, Tensor) and value.layout is not torch.strided:
                out.append(banded.from_torch(value))
                continue
            t = torch.as_tensor(default if value is None else value).detach().cpu().double()
            out.append(t.expand(*batch, *sizes[name])[index].numpy())
        return tuple(out)

    # -- the derivative -----------------------------------------------------------------------------------------------

    def face_project(self, x, v, active=None):
        """Project v on the directions along which every row that holds stays as it is."""
        if self._sparse:
            side = self._banded_face(x) if active is None else active
            return banded.Pull.apply(v.double().cpu(), side.cpu(), self._rows()[0])[0].to(v)
        active = self._face(x) if active is None else active
        index, side, factor, mask, W, *_ = active
        if v.shape[:-1].numel() == index.shape[:-1].numel() == 1 and W.dim() == 2 and _on_the_host(v):
            W, index, side, factor, given = (t.detach().numpy() for t in (W, index, side, factor, v.double()))
            factor = factor.reshape(factor.shape[-2:])
            u = single.face_project(W, index.ravel(), side.ravel(), factor, given.ravel(), mask.shape[-1])
            return torch.from_numpy(u.reshape(v.shape)).to(v.dtype)
        return self._pull(v.double(), active)[0].to(v.dtype)

    def _banded_face(self, x):
        """Read the face off a point, for sparse rows."""
        band, length = self._rows()
        batch = x.shape[:-1]
        low, high = (_flat(t / length, batch, 1) for t in self._banded_ends())
        point = x.detach().cpu().double().reshape(-1, self.dim)
        side = _nearest(band.values(point), low, high, 64 * _rounding(x) * _size(point).unsqueeze(-1))
        side = side * band.face(side != 0, side, side != 0, side != 0).mask(side)
        return side.reshape(*batch, side.shape[-1])

    def _pull(self, v, active):
        """Return u = J v and the multipliers of the rows of C, (..., r): v = u + C'eta + a part in the rows of A."""
        index, side, factor, mask, W, _, share = active
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (self.A, self.G)):
            g = self._measure(mask)
            W, factor = g.W, _gram_factor(g.C, index, side)
        along, p = times(W, v), mask.shape[-1]
        eta = torch.zeros_like(along[..., :1]).expand(*along.shape[:-1], share.shape[-1])
        if index.shape[-1]:
            held = torch.where(side != 0, _take(along[..., p:], index), 0.0)
            eta = _put(eta, index, torch.cholesky_solve(held.unsqueeze(-1), factor).squeeze(-1))
        return v - back(W, torch.cat([along[..., :p], eta], -1)), eta  # eq: eq-face-polyhedron

    def _face(self, x):
        """Read the face off a point: the rows that hold up to rounding, of which an independent set is chosen."""
        batch = x.shape[:-1]
        g = self._geometry()
        C, K = (_flat(t, batch, 2) for t in (g.C, g.K))
        low, high = (_flat(t, batch, 1) for t in self._ends(g)[1:])
        point = x.detach().reshape(-1, self.dim).double()
        value = times(C, point)
        near = 64 * _rounding(x) * _size(point).unsqueeze(-1)
        up, down = value >= high - near, value <= low + near
        none = torch.zeros_like(value)
        factor = DenseRows(C, K).face(up | down, none, up & down, up & down)
        side = (up.double() * 2 - 1).gather(-1, factor.index) * factor.real
        active = tuple(t.reshape(*batch, *t.shape[1:]) for t in (factor.index, side, factor.lower))
        return (*active, g.mask, g.W, g.R, g.share)

    def face_map(self, y, active):
        """Project y on the affine hull of the face, differentiable in y and in the data."""
        index, side, _, mask, *_ = active
        g = self._measure(mask)
        tied, low, high = self._ends(g)
        x = y.double()
        x = x - back(g.across, times(g.across, x) - tied)
        if index.shape[-1]:
            end = torch.where(side > 0, _take(high, index), _take(low, index))
            excess = torch.where(side != 0, _take(times(g.C, x), index) - end, 0.0)
            eta = torch.cholesky_solve(excess.unsqueeze(-1), _gram_factor(g.C, index, side)).squeeze(-1)
            zero = torch.zeros_like(x[..., :1]).expand(*x.shape[:-1], g.share.shape[-1])
            x = x - back(g.C, _put(zero, index, eta))
        return x.to(y.dtype)

    def data_gradient(self, y, x, v, active):
        """Return the gradients to the data: multipliers of v, and with A or G also those of y - x, row by row."""
        if self._sparse:
            return self._banded_gradient(v, active)
        index, side, _, mask, W, R, share = active
        x, y, v = x.double(), y.double(), v.double()
        unit, length = _unit_rows(self.G.double()) if self.G is not None else (None, share[..., :0])
        m = length.shape[-1]

        def multipliers(total):
            u, eta = self._pull(total, active)
            eta = eta / torch.where(share == 0, 1.0, share)
            if self.A is None or not self.A.shape[-2]:
                return u, eta, total[..., :0]
            rows, length_A = _unit_rows(self.A.double())
            Q_A, R_A = W[..., : mask.shape[-1], :].mT, R
            if rows.requires_grad and torch.is_grad_enabled():
                _, Q_A, R_A = _factored(rows, mask)
            own, bound = _parted(eta, m)
            rest = total - u
            rest = rest - back(unit, own) if m else rest
            rest = rest - bound if bound.shape[-1] else rest
            return u, eta, mask * _triangular(R_A, back(Q_A, rest), upper=True) / length_A

        u, eta, eta_A = multipliers(v)
        eta_G, bound = _parted(eta, m)
        eta_G = eta_G / length
        out = {"b": eta_A, "h": eta_G}
        if "A" in self.names or "G" in self.names:
            _, ell, ell_A = multipliers(y - x)
            if "A" in self.names:
                out["A"] = -(_outer(ell_A, u) + _outer(eta_A, x))
            if "G" in self.names:
                out["G"] = -(_outer(_parted(ell, m)[0] / length, u) + _outer(eta_G, x))
        if bound.shape[-1]:
            held = _parted(_put(torch.zeros_like(eta), index, side), m)[1]
            out["upper"], out["lower"] = bound * (held > 0), bound * (held < 0)
        return tuple(out[name].to(getattr(self, name).dtype) for name in self.names)

    def _banded_gradient(self, v, side):
        """Return the multipliers of v, each to the end that it belongs to."""
        band, length = self._rows()
        eta = banded.Pull.apply(v.double().cpu(), side.cpu(), band)[1] / length
        p, m = (0 if t is None else t.shape[-2] for t in (self.A, self.G))
        bound, held = eta[..., p + m :], side.cpu()[..., p + m :]
        out = {"b": eta[..., :p], "h": eta[..., p : p + m], "upper": bound * (held > 0), "lower": bound * (held < 0)}
        return tuple(out[name].to(getattr(self, name)) for name in self.names)

    # -- the rulers ---------------------------------------------------------------------------------------------------

    def violation(self, x):
        """Return the largest of |A x - b|, G x - h and the bounds' violations, rows as given."""
        check_point(self, "x", x)
        x = x.double()
        worst = [_outside(x, *self._bounds())]
        if self.A is not None and self.A.shape[-2]:
            worst.append((self._apply(self.A, x) - _double(self.b)).abs().amax(-1))
        if self.G is not None and self.G.shape[-2]:
            worst.append((self._apply(self.G, x) - _double(self.h)).clamp(min=0).amax(-1))
        return torch.stack(torch.broadcast_tensors(*worst)).amax(0)

    @staticmethod
    def _apply(M: Tensor, x: Tensor, size: bool = False) -> Tensor:
        """Return M x, or |M| x, for a dense or a sparse M."""
        M = M.double().abs() if size else M.double()
        if M.layout is torch.strided:
            return times(M, x)
        flat = x.reshape(-1, x.shape[-1]).mT
        return torch.sparse.mm(M, flat).mT.reshape(*x.shape[:-1], M.shape[-2])

    def scale(self, x):
        """Return the largest finite right-hand side in size."""
        sizes = [x.new_zeros(x.shape[:-1], dtype=torch.float64)]
        for name in ("b", "h", "lower", "upper"):
            end = getattr(self, name)
            if end is not None:
                end = torch.as_tensor(end, dtype=torch.float64, device=x.device).abs()
                end = torch.where(end.isfinite(), end, 0.0)
                sizes.append(end.amax(-1) if end.dim() and end.shape[-1] else end.sum(-1) if end.dim() else end)
        return torch.stack(torch.broadcast_tensors(*sizes)).amax(0)

    def tolerance(self, x):
        """Allow the rounding of each product A_ij x_j and G_ij x_j, of b and of x."""
        x = x.double() if x.dtype is torch.float64 else x
        size = _size(x)
        for M in (self.A, self.G):
            if M is not None and M.shape[-2]:
                size = torch.maximum(size, self._apply(M, x.double().abs(), size=True).amax(-1))
        if isinstance(self.b, Tensor) and self.b.shape[-1]:
            size = torch.maximum(size, self.b.double().abs().amax(-1))
        return 4 * _rounding(x) * size

    # -- the oracles, on the host -------------------------------------------------------------------------------------

    def lmo(self, g):
        """Return a vertex lowest along g, by SciPy's HiGHS on the host, sample by sample.

        Raises InputError where the problem is unbounded, naming the ray, or where the set is empty.
        """
        check_point(self, "g", g)
        batch = self._batch(g)
        flat = g.detach().cpu().double().expand(*batch, self.dim)
        out = np.empty((*batch, self.dim))
        for index in np.ndindex(*batch):
            out[index] = self._lowest(flat[index].numpy(), index, batch)
        return torch.from_numpy(out).to(g)

    def _batch(self, x):
        data = [t.shape[: t.dim() - self.ranks[name]] for name, t in self.data().items()]
        return torch.broadcast_shapes(x.shape[:-1], *data)

    def _lowest(self, g, index, batch):
        A, b, G, h, lower, upper = self._arrays(index, batch)
        keep = np.isfinite(h)
        rows = {"A_ub": G[keep], "b_ub": h[keep], "A_eq": A, "b_eq": b}
        options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
        found = linprog(g, **rows, bounds=np.stack([lower, upper], 1), method="highs-ds", options=options)
        if found.status == 0:
            return found.x
        self._prove_empty(index, batch)
        # A direction in which the set has no end: every row stays as it is or falls.
        box = np.stack([np.where(np.isfinite(lower), 0, -1), np.where(np.isfinite(upper), 0, 1)], 1)
        rows.update(b_ub=np.zeros(keep.sum()), b_eq=np.zeros(len(b)))
        ray = linprog(g, **rows, bounds=box, method="highs-ds")
        if ray.status == 0 and ray.fun < -1e-12 * np.abs(g).max(initial=0):
            at = f" at batch index {list(index)}" if index else ""
            raise InputError(
                f"the linear problem over Polyhedron is unbounded{at}: it falls without end along "
                f"{[round(float(t), 6) for t in ray.x]}; expected a g that no direction of the set lets fall",
                index=index,
            )
        raise SolveError(
            f"the linear problem at batch index {list(index)} was not solved: {found.message}", index=index
        )

    def gap(self, y, x):
        """Return the certificate: from multipliers where they reproduce y - x to rounding, else by ``lmo``.

        With y - x = sum of multipliers times rows it is the sum of multipliers times slacks, by duality. Where no
        multipliers do, x is not the projection and a linear program says how far the bound is: infinity where the set
        has no end that way. On the host, sample by sample (SciPy's nnls and HiGHS).
        """
        check_point(self, "y", y)
        check_point(self, "x", x)
        batch = torch.broadcast_shapes(self._batch(x), y.shape[:-1])
        normal = (y.double() - x.double()).detach().expand(*batch, self.dim)
        point = x.detach().double().expand(*batch, self.dim)
        if truth(~normal.isfinite()):
            raise_not_finite("y - x", normal)
        sizes = (16 * _rounding(x) * (_size(x) + _size(y))).expand(batch).cpu().numpy()
        normal, point = normal.cpu().numpy(), point.cpu().numpy()
        out = np.empty(batch)
        for index in np.ndindex(*batch):
            out[index] = self._certificate(normal[index], point[index], sizes[index], index, batch)
        return torch.from_numpy(out).to(x.device) if batch else torch.tensor(float(out), dtype=torch.float64)

    def _certificate(self, normal, x, noise, index, batch):
        A, _, G, h, lower, upper = self._arrays(index, batch)
        if self._sparse:
            return self._banded_certificate(normal, x, noise, index, batch)
        eye = np.eye(self.dim)
        rows, slack = np.vstack([G, -eye, eye]), np.concatenate([h - G @ x, x - lower, upper - x])
        length = _lengths(rows)
        slack = slack / length
        near = slack <= 1e-6 * (1 + np.abs(x).max(initial=0))
        held = np.vstack([A, -A, rows[near] / length[near][:, None]])
        weights, left = nnls(held.T, normal, maxiter=50 * len(held) + 50) if len(held) else ([], np.linalg.norm(normal))
        if left <= noise * math.sqrt(self.dim):
            return float(np.maximum(slack[near], 0) @ weights[2 * len(A) :]) if len(held) else 0.0
        try:
            return float(normal @ (self._lowest(-normal, index, batch) - x))
        except InputError:
            return math.inf

    def _banded_certificate(self, normal, x, noise, index, batch):
        """Do the same for sparse rows, with the multipliers that solve for the rows near x."""
        band, length = self._rows()
        low, high = (_flat(t / length, batch, 1).expand(batch.numel(), len(length)) for t in self._banded_ends())
        place = int(np.ravel_multi_index(index, batch)) if batch else 0
        value = band.values(torch.from_numpy(x)[None])
        side = _nearest(value, low[place][None], high[place][None], 1e-6 * (1 + np.abs(x).max(initial=0)))
        side = side * band.face(side != 0, side, side != 0, side != 0).mask(side)
        m = band.factor(side).solve(band.values(torch.from_numpy(normal)[None]))
        left = float((torch.from_numpy(normal) - band.spread(m)).norm())
        slack = torch.where(side > 0, high[place] - value, torch.where(side < 0, low[place] - value, 0.0))
        pulls = float((-m * side).masked_fill((low == high)[place], 0).max())
        if left <= noise * math.sqrt(self.dim) and pulls <= noise * math.sqrt(self.dim):
            return float((m * slack).clamp(min=0).sum())
        try:
            return float(normal @ (self._lowest(-normal, index, batch) - x))
        except InputError:
            return math.inf

    def sample(self, *shape, generator=None):
        """Return points around one that holds no row which can be free: random directions, cut at the rows.

        The centre is a linear program for each member of the data's batch, on the host.
        """
        blank = next(iter(self.data().values()), torch.empty(0)).detach()
        batch = self._batch(blank.new_zeros(self.dim))
        whole = torch.broadcast_shapes((*shape,), batch) if batch else tuple(shape)
        centre = np.stack([self._centre(index, batch) for index in np.ndindex(*batch)]).reshape(*batch, self.dim)
        centre = torch.from_numpy(centre).to(blank.device)
        if self._sparse:
            step = torch.randn(*whole, self.dim, generator=generator, dtype=torch.float64)
            u = torch.rand(*whole, 1, generator=generator, dtype=torch.float64)
            return (centre + 0.9 * u * (self.project(centre + step) - centre)).to(blank.dtype)
        g = self._geometry()
        _, low, high = self._ends(g)
        step = torch.randn(*whole, self.dim, generator=generator, dtype=torch.float64, device=blank.device)
        value = times(g.C, centre)
        room_up, room_down = high - value, value - low
        flat = (torch.minimum(room_up, room_down) <= 1e-9 * (1 + value.abs())).double()
        step = step - back(g.across, times(g.across, step))
        if bool(flat.any()):  # rows that hold everywhere: stay along them
            _, Q, _ = _row_factor(g.C * flat.unsqueeze(-1))
            step = step - times(Q, back(Q, step))
        speed = times(g.C, step)
        room = torch.where(speed > 0, room_up, room_down) / speed.abs()
        room = torch.where((flat > 0) | (speed == 0), math.inf, room)
        reach = room.amin(-1, keepdim=True).clamp(max=1.0) if room.shape[-1] else torch.ones_like(step[..., :1])
        u = torch.rand(*whole, 1, generator=generator, dtype=torch.float64, device=blank.device)
        return (centre + 0.9 * u * reach * step).to(blank.dtype)

    def _centre(self, index, batch):
        """Maximise the number of rows with room, up to a common factor: a point of the relative interior."""
        A, b, G, h, lower, upper = self._arrays(index, batch)
        n = self.dim
        eye = sparse.identity(n, format="csr") if self._sparse else np.eye(n)
        M, e = _stacked([G, -eye, eye]), np.concatenate([h, -lower, upper])
        keep = np.isfinite(e)
        M, e = M[keep], e[keep]
        length = _lengths(M)
        M, e = _scaled(M, length), e / length
        r, p = len(e), len(b)
        beside, none, some = np.hstack, np.zeros((p, r)), np.eye(r)
        if self._sparse:
            beside, none, some = sparse.hstack, sparse.csr_matrix((p, r)), sparse.identity(r)
        # Unknowns z, room t and factor f >= 1 with x = z / f: M z + t <= e f, A z = b f, 0 <= t <= 1.
        found = linprog(
            np.concatenate([np.zeros(n), -np.ones(r), [1e-3]]),
            A_ub=beside([M, some, -e[:, None]]),
            b_ub=np.zeros(r),
            A_eq=beside([A, none, -b[:, None]]) if p else None,
            b_eq=np.zeros(p) if p else None,
            bounds=[(None, None)] * n + [(0, 1)] * r + [(1, None)],
            method="highs",
            options={"primal_feasibility_tolerance": 1e-10},
        )
        if found.status != 0:
            self._prove_empty(index, batch)
            raise SolveError(f"no point was found at batch index {list(index)}: {found.message}", index=index)
        return found.x[:n] / found.x[-1]


def _lengths(rows) -> np.ndarray:
    """Return the norms of the rows of a matrix, dense or sparse; 1 for a row of zeros."""
    squares = rows.multiply(rows).sum(1) if sparse.issparse(rows) else (rows * rows).sum(1)
    length = np.sqrt(np.asarray(squares).ravel())
    return np.where(length == 0, 1.0, length)


def _scaled(rows, length: np.ndarray):
    """Divide the rows of a matrix, dense or sparse."""
    return (sparse.diags(1 / length) @ rows).tocsr() if sparse.issparse(rows) else rows / length[:, None]


def _stacked(parts: list):
    """Put matrices one under the other; sparse where one is."""
    return sparse.vstack(parts, format="csr") if any(map(sparse.issparse, parts)) else np.vstack(parts)


# -- batches and rows --------------------------------------------------------------------------------------------------


def _flat(t: Tensor | None, batch: torch.Size, rank: int) -> Tensor | None:
    """Give t one batch dimension, of the size of ``batch``, or none where it is shared."""
    if t is None or t.dim() <= rank:
        return t
    tail = t.shape[t.dim() - rank :]
    return t.expand(*batch, *tail).reshape(-1, *tail)


def _on_the_host(t: Tensor) -> bool:
    """Tell whether t may be handed to NumPy: plain values on the CPU, of which no gradient is recorded."""
    return t.device.type == "cpu" and not torch.is_grad_enabled() and not in_a_transform()


def _joined(parts: list[Tensor]) -> Tensor:
    """Concatenate along the last dimension, broadcasting the others."""
    lead = torch.broadcast_shapes(*(t.shape[:-1] for t in parts))
    return torch.cat([t.expand(*lead, t.shape[-1]) for t in parts], -1)


def _parted(t: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """Split the last dimension after m; a whole slice would have no batching rule."""
    r = t.shape[-1]
    return (t[..., :m] if m < r else t), (t[..., m:] if m else t)


def _take(t: Tensor, index: Tensor) -> Tensor:
    """Gather along the last dimension of a t that may lack batch dimensions; an index past the end reads the last."""
    if not t.shape[-1]:
        return torch.zeros_like(index, dtype=t.dtype)
    index = index.clamp(max=t.shape[-1] - 1)
    if t.shape[:-1] != index.shape[:-1]:
        lead = torch.broadcast_shapes(t.shape[:-1], index.shape[:-1])
        t, index = t.expand(*lead, t.shape[-1]), index.expand(*lead, index.shape[-1])
    return t.gather(-1, index)


def _put(zero: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """Add values at index along the last dimension; padding carries the value 0."""
    if not zero.shape[:-1] == index.shape[:-1] == values.shape[:-1]:
        lead = torch.broadcast_shapes(zero.shape[:-1], index.shape[:-1], values.shape[:-1])
        zero, index, values = (e.expand(*lead, e.shape[-1]) for e in (zero, index, values))
    return zero.scatter_add(-1, index, values)


def _gram_factor(C: Tensor, index: Tensor, side: Tensor) -> Tensor:
    """Return the Cholesky factor of C_S C_S', differentiable in C. Index (..., k)."""
    lead = torch.broadcast_shapes(C.shape[:-2], index.shape[:-1])
    index = index.expand(*lead, index.shape[-1]).unsqueeze(-1)
    rows = C.expand(*lead, *C.shape[-2:]).gather(-2, index.expand(*index.shape[:-1], C.shape[-1]))
    mask = (side != 0).to(C.dtype)
    rows = rows * mask.unsqueeze(-1)
    return torch.linalg.cholesky(rows @ rows.mT + torch.diag_embed(1 - mask))


def _nearest(value: Tensor, low: Tensor, high: Tensor, near: Tensor | float) -> Tensor:
    """Return 1 where a value is at its high end up to ``near``, -1 at the low one, 0 elsewhere."""
    return torch.where(value >= high - near, 1.0, torch.where(value <= low + near, -1.0, 0.0)).double()
