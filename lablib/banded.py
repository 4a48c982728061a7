"""Sparse rows whose Gram matrix is banded, such as the chain |x_{i+1} - x_i| <= 1: the search's rows, on the host.

SciPy orders the rows so that C C' has its entries near the diagonal (reverse Cuthill-McKee) and factors the rows that
hold by a banded Cholesky: time and memory grow with the number of rows times the width of the band. One set of rows
serves the batch; its samples are solved one by one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor

from .active_set import DEPENDENT

LARGEST = 100_000_000  # numbers in a banded factor


def entries(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places (2, k) and values (k,) of a sparse tensor, on the host.

    >>> import torch
    >>> entries(torch.eye(2).to_sparse())[1]
    tensor([1., 1.])
    """
    t = t.detach().cpu().to_sparse_coo().coalesce()
    return t.indices(), t.values()


def from_torch(t: Tensor) -> sparse.csr_matrix:
    """Return a sparse tensor as a SciPy matrix in float64.

    >>> import torch
    >>> from_torch(torch.eye(2).to_sparse()).toarray().tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    places, values = entries(t)
    return sparse.csr_matrix((values.double().numpy(), tuple(places.numpy())), shape=tuple(t.shape))


class BandedRows:
    """Unit rows C (r, n), sparse, and C C' in an order that makes it banded."""

    pull = None

    def __init__(self, C: sparse.csr_matrix):
        self.C, self.K = C, (C @ C.T).tocsr()
        self.order = reverse_cuthill_mckee(self.K, symmetric_mode=True)
        where = np.empty_like(self.order)
        where[self.order] = np.arange(len(where), dtype=where.dtype)
        entries = self.K.tocoo()
        apart = np.abs(where[entries.row].astype(np.int64) - where[entries.col])
        self.width = int(apart.max(initial=0))
        self.last: tuple[Tensor, BandedFactor] | None = None  # the sides of the last answer, and their factor

    def some(self, which: Tensor) -> BandedRows:
        """Return the rows of the samples ``which``: they share them."""
        return self

    def values(self, x: Tensor) -> Tensor:
        """Return C x for points (B, n)."""
        return torch.from_numpy((self.C @ x.numpy().T).T.copy())

    def spread(self, m: Tensor) -> Tensor:
        """Return C'm for multipliers (B, r)."""
        return torch.from_numpy((self.C.T @ m.numpy().T).T.copy())

    def product(self, m: Tensor) -> Tensor:
        """Return C C'm."""
        return torch.from_numpy((self.K @ m.numpy().T).T.copy())

    def factor(self, side: Tensor, ridge: Tensor | None = None) -> BandedFactor:
        """Factor C_S C_S' + ridge for the rows with a side; that of the last answer is kept for the backward."""
        if ridge is None and self.last is not None and torch.equal(self.last[0], side):
            return self.last[1]
        ridges = [0.0] * len(side) if ridge is None else ridge.flatten().tolist()
        pairs = [self._one(row.numpy() != 0, add) for row, add in zip(side, ridges, strict=True)]
        return BandedFactor(*zip(*pairs, strict=True)) if pairs else BandedFactor((), ())

    def _one(self, held: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray | None]:
        places = self.order[held[self.order]]
        block = self.K[places][:, places].tocoo()
        below = block.row >= block.col
        i, j = block.row[below], block.col[below]
        band = np.zeros((int((i - j).max(initial=0)) + 1, len(places)))
        band[i - j, j] = block.data[below]
        band[0] += ridge
        try:
            return places, cholesky_banded(band, lower=True, overwrite_ab=True, check_finite=False)
        except LinAlgError:
            return places, None

    def face(self, wanted: Tensor, m: Tensor, strong: Tensor, fixed: Tensor) -> BandedFactor:
        """Choose independent rows that span the wanted ones, in the order of the band."""
        pairs = []
        for row in wanted:
            held = row.numpy().copy()
            places, band = self._one(held, DEPENDENT / 100)
            held[places[band[0] ** 2 <= DEPENDENT]] = False
            pairs.append(self._one(held, 0.0))
        return BandedFactor(*zip(*pairs, strict=True))


class BandedFactor(NamedTuple):
    """For each sample the places of its rows and their banded Cholesky factor, None where that failed."""

    places: tuple[np.ndarray, ...]
    bands: tuple[np.ndarray | None, ...]

    @property
    def failed(self) -> Tensor:
        """Tell which samples have dependent rows."""
        return torch.tensor([band is None for band in self.bands], dtype=torch.bool)

    def solve(self, r: Tensor) -> Tensor:
        """Return the multipliers (B, r) whose rows on the face have the values r (B, r), 0 elsewhere."""
        out = torch.zeros_like(r)
        for row, one, places, band in zip(out.numpy(), r.numpy(), self.places, self.bands, strict=True):
            if band is not None and len(places):
                row[places] = cho_solve_banded((band, True), one[places], check_finite=False)
        return out

    def pivot(self) -> Tensor:
        """Return the smallest pivot of each sample."""
        least = [0.0 if band is None else float((band[0] ** 2).min(initial=1.0)) for band in self.bands]
        return torch.tensor(least, dtype=torch.float64)

    def mask(self, like: Tensor) -> Tensor:
        """Return 1 where a row is on the face, (B, r)."""
        out = torch.zeros_like(like)
        for row, places in zip(out.numpy(), self.places, strict=True):
            row[places] = 1
        return out

    def some(self, which: Tensor) -> BandedFactor:
        """Return the factors of the samples ``which``."""
        return BandedFactor(*(tuple(part[i] for i in which.tolist()) for part in self))

    def put(self, which: Tensor, other: BandedFactor) -> BandedFactor:
        """Return this with the samples ``which`` replaced."""
        places, bands = list(self.places), list(self.bands)
        for i, place, band in zip(which.tolist(), *other, strict=True):
            places[i], bands[i] = place, band
        return BandedFactor(tuple(places), tuple(bands))


class Pull(torch.autograd.Function):
    """The projector ``u = v - C_S'eta`` and ``eta = (C_S C_S')^-1 C_S v``: linear in v, so its own derivative.

    v (..., n), side (..., r), rows; both on the CPU, in float64. The answers are u and eta.
    """

    @staticmethod
    def forward(v, side, rows):
        """Factor the rows of each sample, unless they are those of the last call, and solve."""
        batch = torch.broadcast_shapes(v.shape[:-1], side.shape[:-1])
        flat = v.expand(*batch, v.shape[-1]).reshape(-1, v.shape[-1])
        held = side.expand(*batch, side.shape[-1]).reshape(-1, side.shape[-1])
        eta = rows.factor(held).solve(rows.values(flat))
        return (flat - rows.spread(eta)).reshape(*batch, v.shape[-1]), eta.reshape(*batch, side.shape[-1])

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keep which rows hold."""
        _, side, ctx.rows = inputs
        ctx.save_for_backward(side)
        ctx.save_for_forward(side)

    @staticmethod
    def backward(ctx, du, deta):
        """Transpose: J is symmetric, and that of the multipliers is J's other part, C_S'(C_S C_S')^-1."""
        (side,) = ctx.saved_tensors
        u = Pull.apply(du, side, ctx.rows)[0]
        return u + Spread.apply(deta, side, ctx.rows), None, None

    @staticmethod
    def jvp(ctx, dv, _side, _rows):
        """Do the same to the tangent."""
        return Pull.apply(dv, ctx.saved_tensors[0], ctx.rows)

    @staticmethod
    def vmap(info, in_dims, v, side, rows):
        """Make the mapped dimension one more batch dimension."""
        return Pull.apply(*_in_front(info, in_dims, v, side), rows), (0, 0)


class Spread(torch.autograd.Function):
    """The transpose of v -> eta of :class:`Pull`: ``C_S'(C_S C_S')^-1 w``; linear in w."""

    @staticmethod
    def forward(w, side, rows):
        """Solve with the same factor."""
        flat, held = w.reshape(-1, w.shape[-1]), side.expand(w.shape).reshape(-1, w.shape[-1])
        return rows.spread(rows.factor(held).solve(flat)).reshape(*w.shape[:-1], rows.C.shape[1])

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keep which rows hold."""
        _, side, ctx.rows = inputs
        ctx.save_for_backward(side)
        ctx.save_for_forward(side)

    @staticmethod
    def backward(ctx, v):
        """Return the multipliers of v."""
        return Pull.apply(v, ctx.saved_tensors[0], ctx.rows)[1], None, None

    @staticmethod
    def jvp(ctx, dw, _side, _rows):
        """Do the same to the tangent."""
        return Spread.apply(dw, ctx.saved_tensors[0], ctx.rows)

    @staticmethod
    def vmap(info, in_dims, w, side, rows):
        """Make the mapped dimension one more batch dimension."""
        return Spread.apply(*_in_front(info, in_dims, w, side), rows), 0


def _in_front(info, in_dims, *tensors: Tensor) -> list[Tensor]:
    """Move the mapped dimensions to the front, with a dimension of 1 where there is none."""
    moved = [t.unsqueeze(0) if d is None else t.movedim(d, 0) for t, d in zip(tensors, in_dims, strict=False)]
    most = max(t.dim() for t in moved)
    moved = [t.reshape(t.shape[0], *[1] * (most - t.dim()), *t.shape[1:]) for t in moved]
    return [moved[0].expand(info.batch_size, *moved[0].shape[1:]), *moved[1:]]
