"""784-300-10 on the 60,000 training images of MNIST: the same search and comparison as in `fenchel_mnist`.

make results NAME=fenchel-mnist-60000     # needs all four files of MNIST; hours
"""

from __future__ import annotations

from .fenchel_experiment import compare
from .fenchel_mnist import FIXED, GRIDS


def main() -> None:
    """Tune, run and write the record."""
    compare("dense", "fenchel-mnist-60000", "train", GRIDS, FIXED, passes=20, more=60)
