"""The experiments on Fenchel lifting in small, on scikit-learn's digits: what the checks run again.

make results NAME=fenchel-digits          # seconds
"""

from __future__ import annotations

from . import fenchel_published as published
from .fenchel_experiment import BATCH, compare, split

GRIDS = {
    "Adam": [{"lr": lr} for lr in (1e-3, 1e-2, 3e-2)],
    "SGD": [{"lr": lr, "momentum": 0.9} for lr in (0.03, 0.1, 0.3)],
    "lifted": [
        {"multipliers": 1.0, "anchors": a, "inertia": 0.8, "decay": 1e-3, "x_steps": 5, "w_steps": 1}
        for a in (0.1, 0.3, 1.0)
    ],
}
FIXED = {"lifted, published constants": {**published.settings("digits", BATCH["digits"]), "x_steps": 20, "w_steps": 15}}
BATCHES = 14


def published_run(seed: int = 0) -> list[dict]:
    """Return the published algorithm's run of one pass."""
    return published.train("digits", seed, BATCHES, split("digits"), BATCH["digits"])


def main() -> None:
    """Tune, run and write the record."""
    extra = {"published": published.entry(0, published_run(), at=(7, 14))}
    compare("digits", "fenchel-digits", "test", GRIDS, FIXED, passes=6, more=12, extra=extra)
