"""What an area of the benchmark supplies, and which areas there are."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# In the order of the book; an area is there when its module is.
ORDER = ("simple_sets", "polyhedra", "frank_wolfe", "saddle_point", "fenchel_lifting", "augmented_lagrangian")


@dataclass(frozen=True)
class Pass:
    """Cases that are measured together, and how: `key` is where their list stands in the record."""

    key: str
    threads: int = 1
    processes: int = 5
    quick: bool = False  # also part of `--quick`, with one process
    cuda: bool = False  # also part of `--device cuda`


@dataclass(frozen=True)
class Area:
    """Everything that the shared code asks of an area."""

    name: str  # of the module, and of the record `book/_data/benchmarks-NAME.json`
    title: str  # of its section
    question: str  # one sentence, which the page's lead puts beside the link
    packages: tuple[str, ...]  # peers whose versions the record names
    not_run: tuple[tuple[str, str], ...]  # peers that were not measured, and why
    passes: tuple[Pass, ...]  # the one with the key "cases" is what goals are set for
    cases: Callable[[str, bool], list[dict]]  # (key of a pass, quick) -> what to measure, as small dictionaries
    measure: Callable[..., dict]  # (case, key, seed=, device=, quick=) -> the case with its "tools"
    label: Callable[[dict], str]  # case -> its name in tables
    goal: Callable[[dict], float | None]  # case -> how many times our time the fastest exact peer shall take
    section: Callable[[dict], list[str]]  # record -> lines of Markdown below the heading of level 2
    draw: Callable[[dict, Path], None] | None = None  # (record, book/_static): its pictures


def names() -> list[str]:
    """Return the areas that are there, in the book's order."""
    return [name for name in ORDER if (Path(__file__).parent / f"{name}.py").is_file()]


def load(name: str) -> Area:
    """Return an area by name."""
    return importlib.import_module(f"{__package__}.{name}").AREA
