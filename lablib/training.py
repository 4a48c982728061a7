"""What every trainer shares: the record of a run, its progress, its interruption and its end, and the checks of input.

A trainer works in steps, a step being what must be done whole: a batch, or one sweep over all data. It supplies two
functions. ``advance()`` computes a step without changing anything and returns a function that puts it into place;
``measure()`` describes where the network stands. :func:`train` does the rest, once for all trainers.
"""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .projection import raise_not_finite
from .solution import InputError, first_index

DIVERGED = 10.0
"""A run whose loss is this many times the loss it began with has diverged."""


class History:
    """What a run did: a row for each pass over the data, and marks for what changed on the way.

    ``rows``: dictionaries with "pass" (0 is the start), "objective" (what the steps decrease), "loss" (the network's
    own objective, at the outputs that it really computes), "seconds" since the run began, and what else the trainer
    measures. ``steps``: where a trainer was asked to trace, ``(pass, step, block, objective)`` after each block step.
    ``marks``: ``(pass, text)`` for changes that move the objective itself, such as new multipliers. ``status``: "not
    started", "running", "finished", "converged", "interrupted" or "diverged"; ``message`` says it in words. ``best``:
    the pass with the lowest loss, with that loss and those weights.

    >>> history = History()
    >>> history.record({"objective": 2.0, "loss": 2.0})
    >>> history.record({"objective": 0.5, "loss": 0.7})
    >>> history.passes, history.column("loss"), history
    (1, [2.0, 0.7], History(1 passes, not started, loss 2 -> 0.7))
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.steps: list[tuple[int, int, str, float]] = []
        self.marks: list[tuple[int, str]] = []
        self.best: dict[str, Any] = {}
        self.status = "not started"
        self.message = ""

    @property
    def passes(self) -> int:
        """The number of whole passes over the data."""
        return max(len(self.rows) - 1, 0)

    def column(self, name: str) -> list[float]:
        """Return one quantity, pass by pass; NaN where a row lacks it. KeyError if none has it."""
        if not any(name in row for row in self.rows):
            known = sorted({key for row in self.rows for key in row})
            raise KeyError(f"no row has {name!r}; there are {', '.join(known) or 'no rows yet'}")
        return [row.get(name, math.nan) for row in self.rows]

    def record(self, row: dict[str, float]) -> None:
        """Append a row; its "pass" is its number."""
        self.rows.append({"pass": len(self.rows), **row})

    def mark(self, text: str) -> None:
        """Note what is changed after the last row."""
        self.marks.append((self.passes, text))

    def __repr__(self) -> str:
        """Say how far the run came."""
        losses = [row["loss"] for row in self.rows]
        tail = f", loss {losses[0]:.3g} -> {losses[-1]:.3g}" if losses else ""
        return f"History({self.passes} passes, {self.status}{tail})"

    def state_dict(self) -> dict[str, Any]:
        """Return everything, as plain numbers, strings, lists and tensors."""
        return {key: (list(value) if isinstance(value, list) else value) for key, value in vars(self).items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take everything from what :meth:`state_dict` returned."""
        for key in vars(self):
            value = state[key]
            setattr(self, key, list(value) if isinstance(value, list) else value)

    def plot(self, axes: Any = None) -> Any:
        """Draw objective and loss, gaps, and accuracy, over the passes; return the figure.

        ``axes``: three matplotlib axes to draw into; made if None. Marks are dotted vertical lines. Raises ImportError
        where matplotlib is missing, RuntimeError where there is nothing to draw.
        """
        if not self.rows:
            raise RuntimeError("there is nothing to plot: the history has no rows yet; call fit first")
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise ImportError("History.plot needs matplotlib: pip install matplotlib") from error
        if axes is None:
            _, axes = pyplot.subplots(1, 3, figsize=(9, 2.8), layout="constrained")
        keys = [key for key in dict.fromkeys(key for row in self.rows for key in row) if key not in ("pass", "seconds")]
        panels = (
            ("objective", [key for key in keys if key in ("objective", "loss")]),
            ("gap", [key for key in keys if key.startswith("gap")]),
            ("accuracy", [key for key in keys if key.endswith(("accuracy", "R2"))]),
        )
        # Okabe and Ito's colours, each with a dash and a marker of its own.
        looks = (("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", "-.", "^"), ("#CC79A7", ":", "D"))
        passes = self.column("pass")
        for axis, (title, names) in zip(axes, panels, strict=True):
            for i, name in enumerate(names):
                color, dash, marker = looks[i % len(looks)]
                axis.plot(passes, self.column(name), color=color, ls=dash, marker=marker, ms=3, label=name)
            for where, _ in self.marks:
                axis.axvline(where, color="grey", lw=0.6, ls=":")
            positive = [v for name in names for v in self.column(name) if v > 0]
            if title != "accuracy" and positive:
                axis.set_yscale("log", nonpositive="mask")
            axis.set(title=title, xlabel="pass")
            if names:
                axis.legend(fontsize=8)
        return axes[0].figure


class Interruption:
    """Turn Ctrl-C into a request: the first one lets the step finish, the second one undoes it.

    Use it as a context. ``asked`` tells whether Ctrl-C came. While ``undoable`` is True, a second Ctrl-C raises
    KeyboardInterrupt at once; otherwise it waits for the step to be in place. Outside the main thread, where Python
    delivers no signals, it does nothing.

    >>> with Interruption() as interruption:
    ...     signal.raise_signal(signal.SIGINT)
    ...     interruption.asked
    True
    """

    def __init__(self) -> None:
        self.asked = False
        self.undoable = False

    def __enter__(self) -> Interruption:
        """Take over Ctrl-C."""
        self._before = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        """Give Ctrl-C back."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: object) -> None:
        if self.asked and self.undoable:
            raise KeyboardInterrupt
        self.asked = True


def train(
    network: nn.Module,
    history: History,
    advance: Callable[[], Callable[[], bool]],
    measure: Callable[[], dict[str, float]],
    *,
    epochs: int,
    tol: float,
    progress: bool | Callable[[dict[str, float]], Any],
) -> None:
    """Take steps until ``epochs`` more passes are whole, the objective stands still, Ctrl-C comes, or the run diverges.

    ``advance()``: computes a step, changes nothing, returns ``commit``; ``commit()`` puts it into place and returns
    True when a pass is whole. It raises FloatingPointError if the step holds a number that is not finite.
    ``measure()``: a row for the history, with "objective" and "loss". ``tol``: stop where the objective changes by
    less than ``tol`` times itself over a pass. ``progress``: True writes a line to stderr after each pass, a callable
    gets each row.

    On divergence the network gets its best weights back, and a RuntimeWarning says so. A second Ctrl-C, in the midst of
    a step, undoes the step and raises KeyboardInterrupt; all steps before it are kept.
    """
    history.status, history.message = "running", ""
    begin = time.perf_counter() - (history.rows[-1]["seconds"] if history.rows else 0.0)
    wanted = history.passes + epochs

    def note() -> dict[str, float]:
        history.record({**measure(), "seconds": time.perf_counter() - begin})
        row = history.rows[-1]
        if not history.best or row["loss"] < history.best["loss"]:
            weights = {name: p.detach().clone() for name, p in network.named_parameters()}
            history.best = {"pass": row["pass"], "loss": row["loss"], "weights": weights}
        if callable(progress):
            progress(row)
        elif progress:
            sys.stderr.write(line(row, wanted) + "\n")
        return row

    with Interruption() as interruption:
        if not history.rows:
            note()
        try:
            while history.passes < wanted and not interruption.asked:
                commit, interruption.undoable = None, True
                commit = advance()
                interruption.undoable = False
                if not commit():
                    continue
                row, before = note(), history.rows[-2]
                if not row["loss"] <= DIVERGED * history.rows[0]["loss"]:
                    raise FloatingPointError(f"the loss is {row['loss']:.3g}, and was {history.rows[0]['loss']:.3g}")
                if abs(before["objective"] - row["objective"]) <= tol * abs(row["objective"]) and row["pass"] > 1:
                    history.status = "converged"
                    history.message = f"the objective changed by less than {tol:g} of itself in pass {row['pass']}"
                    break
            else:
                if history.passes < wanted:
                    left = wanted - history.passes
                    history.status = "interrupted"
                    history.message = f"interrupted in pass {history.passes + 1}; epochs={left} goes on from here"
                else:
                    history.status, history.message = "finished", f"{history.passes} passes are done"
        except KeyboardInterrupt:
            history.status = "interrupted"
            history.message = f"interrupted in pass {history.passes + 1}; the step under way was undone"
            raise
        except FloatingPointError as error:
            restore(network, history.best["weights"])
            history.status = "diverged"
            history.message = (
                f"diverged in pass {history.passes + (commit is None)}: {error}; the weights are those after pass "
                f"{history.best['pass']}, whose loss was {history.best['loss']:.3g}"
            )
            warnings.warn(history.message, RuntimeWarning, stacklevel=3)


def restore(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Put weights back into the parameters of a network.

    >>> layer = nn.Linear(1, 1)
    >>> restore(layer, {"weight": torch.ones(1, 1)})
    >>> layer.weight.item()
    1.0
    """
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)


def line(row: dict[str, float], wanted: int) -> str:
    """Return a row of the history as one line of progress.

    >>> line({"pass": 3, "objective": 0.5, "gap 1": 0.01, "seconds": 2.0}, 10)
    'pass 3/10: objective 0.5, gap 1 0.01, 2.0 s'
    """
    parts = [f"{name} {value:.4g}" for name, value in row.items() if name not in ("pass", "seconds")]
    return f"pass {row['pass']}/{wanted}: " + ", ".join([*parts, f"{row['seconds']:.1f} s"])


# ---- input -----------------------------------------------------------------------------------------------------------


def numbers(name: str, value: float | Sequence[float], count: int, *, positive: bool) -> list[float]:
    """Return ``count`` numbers from one or as many; raise the error that names the one that cannot be."""
    several = isinstance(value, Sequence) and not isinstance(value, str)
    numbers = list(value) if several else [value] * count
    if len(numbers) != count:
        raise InputError(f"{name} has {len(numbers)} entries: expected one number, or {count} of them")
    for i, number in enumerate(numbers):
        where = f"{name}[{i}]" if several else name
        if not isinstance(number, (int, float)) or isinstance(number, bool):
            raise TypeError(f"{where} is a {type(number).__name__}: expected a number")
        if not math.isfinite(number) or number < 0 or (positive and number == 0):
            kind = "a positive number" if positive else "a finite number that is not negative"
            raise InputError(f"{where} is {number:g}: expected {kind}", index=(i,) if several else None)
    return [float(number) for number in numbers]


def whole(name: str, value: int) -> None:
    """Raise the error that says why a value is no whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is a {type(value).__name__}: expected a whole number")
    if value < 1:
        raise InputError(f"{name} is {value}: expected at least 1")


def check_tensor(name: str, X: Tensor, weight: Tensor) -> None:
    """Raise the error that says why samples do not go with a network that has this weight."""
    if not isinstance(X, Tensor):
        raise TypeError(f"{name} is a {type(X).__name__}: expected a torch tensor; torch.as_tensor makes one")
    if X.dtype != weight.dtype or X.device != weight.device:
        raise TypeError(
            f"{name} is {X.dtype} on {X.device}: expected {weight.dtype} on {weight.device}, as the network is; "
            "call .to() on one of them"
        )


def check_width(name: str, X: Tensor, inputs: int) -> None:
    """Raise the error that says which shape a first layer with so many inputs expects."""
    if X.dim() != 2 or X.shape[1] != inputs:
        raise InputError(
            f"{name} has shape {tuple(X.shape)}: expected (samples, {inputs}), the inputs of the first layer"
        )


def check_samples(name: str, X: Tensor) -> Tensor:
    """Return samples; raise the error that says that there are none, or which number is not finite."""
    if len(X) == 0:
        raise InputError(f"{name} has no samples: expected at least one")
    if not math.isfinite(float(X.sum())):
        raise_not_finite(name, X)
    return X


def check_rows(names: tuple[str, str], X: Tensor, y: Tensor) -> None:
    """Raise the error that says why targets do not go with the samples."""
    if not isinstance(y, Tensor):
        raise TypeError(f"{names[1]} is a {type(y).__name__}: expected a torch tensor; torch.as_tensor makes one")
    if y.dim() == 0:
        raise InputError(f"{names[1]} is one number: expected {len(X)} rows, one for each sample of {names[0]}")
    if len(y) != len(X):
        raise InputError(f"{names[1]} has {len(y)} rows: expected {len(X)}, one for each sample of {names[0]}")


def labels_as_rows(name: str, y: Tensor, outputs: int, dtype: torch.dtype) -> Tensor:
    """Return int64 labels as rows of 0 and 1; raise the error that names the one that is no label."""
    if y.dim() != 1:
        raise InputError(f"{name} has shape {tuple(y.shape)}: expected one label for each sample, ({len(y)},)")
    bad = (y < 0) | (y >= outputs)
    if bool(bad.any()):
        index = first_index(bad)
        raise InputError(
            f"{name}{list(index)} is {y[index].item()}: expected a label from 0 to {outputs - 1}, since the network "
            f"has {outputs} outputs",
            index=index,
        )
    return F.one_hot(y, outputs).to(dtype)


def check_targets(name: str, y: Tensor, outputs: int) -> Tensor:
    """Return targets of a squared loss; raise the error that says which shape or number was expected."""
    if y.shape != (len(y), outputs):
        raise InputError(f"{name} has shape {tuple(y.shape)}: expected {(len(y), outputs)}")
    raise_not_finite(name, y)
    return y
