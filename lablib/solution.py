"""What every solver hands back, and how it fails.

A solver that returns numbers without saying how good they are asks to be trusted. Here each one can return a
:class:`SolveInfo`, measured after the fact from the point it returns, and what misses its tolerance raises a
:class:`SolveError` unless asked not to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class SolveInfo:
    """How well ``min_{x in s} f(x)`` was solved, per batch element.

    ``converged``: bool, the residual is within the tolerance. ``iterations``: passes of the search (0 for a formula
    without one). ``residual``: the largest absolute violation of a constraint, rows as given, accumulated in float64.
    ``gap``: an optimality certificate that is 0 exactly at the solution; for a projection x of y it is ``max_{z in s}
    <y - x, z - x>``, which bounds the squared distance to the true projection. ``message``: the same in words.

    Shapes: the batch shape, for every tensor.

    >>> import torch, lablib
    >>> x, info = lablib.Simplex(3).project(torch.tensor([0.5, 0.2, -1.0]), return_info=True)
    >>> bool(info.converged), info.iterations.shape
    (True, torch.Size([]))
    """

    converged: Tensor
    iterations: Tensor
    residual: Tensor
    gap: Tensor
    message: str = ""

    def summary(self) -> str:
        """Say in one line how many problems were solved and how far the worst one is off.

        >>> import torch, lablib
        >>> y = torch.tensor([[2.0, 0.0], [0.0, 0.5]], dtype=torch.float64)
        >>> lablib.Box(0.0, 1.0).project(y, return_info=True)[1].summary()
        '2 of 2 converged; worst residual 0.0e+00, worst gap 0.0e+00, at most 0 passes'
        """
        total = self.converged.numel()
        if total == 0:
            return "0 of 0 converged; the batch is empty"
        text = (
            f"{int(self.converged.sum())} of {total} converged; worst residual {float(self.residual.max()):.1e}, "
            f"worst gap {float(self.gap.max()):.1e}, at most {int(self.iterations.max())} passes"
        )
        return f"{text}; {self.message}" if self.message else text


class SolveError(RuntimeError):
    """A problem that was not solved: the message says which one, how far off it is, and what to try.

    ``info``: the :class:`SolveInfo` reached, where there is one. ``index``: the first batch element (or entry) at
    fault, a tuple. ``certificate``: for an empty set, a tensor that proves it, or None. Where the input is at fault
    it is a ``ValueError`` too.

    >>> import torch, lablib
    >>> try:
    ...     lablib.Simplex(2).project(torch.tensor([[0.0, 1.0], [float("nan"), 0.0]]))
    ... except ValueError as error:
    ...     print(type(error).__mro__[1].__name__, error.index)
    SolveError (1, 0)
    """

    def __init__(
        self,
        message: str,
        *,
        info: SolveInfo | None = None,
        index: tuple[int, ...] | None = None,
        certificate: Any = None,
    ):
        super().__init__(message)
        self.info = info
        self.index = index
        self.certificate = certificate


class InputError(SolveError, ValueError):
    """A problem that cannot be solved because of what was given: a NaN, a wrong shape, an empty set.

    >>> issubclass(InputError, SolveError) and issubclass(InputError, ValueError)
    True
    """


def first_index(mask: Tensor) -> tuple[int, ...]:
    """Return the index of the first true entry of a mask, as a tuple of integers.

    >>> import torch
    >>> first_index(torch.tensor([[False, False], [False, True]]))
    (1, 1)
    """
    return tuple(int(i) for i in torch.nonzero(mask)[0]) if mask.dim() else ()


def looks_every(device: torch.device) -> int:
    """Return after how many passes values are read on the host: on the CPU each time, which costs nothing there."""
    return 1 if device.type == "cpu" else 8
