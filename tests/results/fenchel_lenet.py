"""LeNet-5 with average pooling on MNIST: Fenchel lifting, Adam and SGD, tuned on validation.

    make results NAME=fenchel-lenet           # 8,000 images, three seeds, two passes: about ten minutes on an idle core

"lifted, published constants" has the multipliers and anchors of the released code.
"""

from __future__ import annotations

from . import fenchel_published as published
from .fenchel_experiment import compare

RATES = {"Adam": (5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2e-2, 3e-2), "SGD": (0.02, 0.05, 0.1, 0.2)}
GRIDS = {
    "Adam": [{"lr": lr} for lr in RATES["Adam"]],
    "SGD": [{"lr": lr, "momentum": m} for lr in RATES["SGD"] for m in (0.0, 0.9)],
    "lifted": [
        {"multipliers": m, "anchors": a, "inertia": i, "x_steps": 5, "w_steps": 1}
        for m, a, i in ((1.0, 1.0, 0.8), (3.0, 1.0, 0.9), (10.0, 1.0, 0.9))
    ],
}
FIXED = {"lifted, published constants": {**published.settings("lenet"), "x_steps": 5, "w_steps": 3}}


def main() -> None:
    """Tune, run and write the record."""
    compare("lenet", "fenchel-lenet", "test", GRIDS, FIXED, passes=2, more=8)
