"""Returns of assets for the lab: made by a seeded factor model, or read from a reader's own table of prices.

from lablib.teaching import prices
returns = prices.factor_returns(12, 500, seed=0)
names, returns = prices.returns_from_csv("closes.csv")
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["factor_returns", "returns_from_csv"]


def factor_returns(assets: int, days: int, *, factors: int = 3, seed: int = 0) -> Tensor:
    """Return daily returns r = B f + a + e of shape (days, assets), float64, in per cent.

    f: `factors` independent normal factors of standard deviation 0.8; B: normal loadings, fixed by the seed; a: a mean
    for each asset, normal with standard deviation 0.05; e: independent noise of standard deviation 0.6.

    >>> factor_returns(5, 250, seed=1).shape
    torch.Size([250, 5])
    """
    for name, value in (("assets", assets), ("days", days), ("factors", factors)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    loadings, mean = normal(factors, assets), 0.05 * normal(assets)
    return 0.8 * normal(days, factors) @ loadings + mean + 0.6 * normal(days, assets)


def returns_from_csv(path: str | Path) -> tuple[list[str], Tensor]:
    """Read a table of prices and return the assets' names and their returns from line to line, in per cent.

    The file: a first line with a name for each column; then one line for each day, the oldest first: a date (any text)
    and a price for each asset. Shape (days - 1, assets), float64. Raises FileNotFoundError where there is no file, and
    ValueError, naming line and column, where a line has another length, a price is not a positive number, a name
    is missing or stands twice, or fewer than two days are given.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: expected a CSV file with a date and one price per asset a line")
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [(number, line) for number, line in enumerate(csv.reader(file), 1) if "".join(line).strip()]
    if not lines:
        raise ValueError(f"{path} is empty: expected a line of names, then a line of prices for each day")
    names = [cell.strip() for cell in lines[0][1]][1:]
    if not names or "" in names:
        raise ValueError(f"{path}, line 1: expected a name for the date and for each asset, got {lines[0][1]}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path}, line 1: the name {twice[0]!r} stands twice; give each asset its own")
    rows = []
    for number, line in lines[1:]:
        if len(line) != len(names) + 1:
            raise ValueError(f"{path}, line {number}: expected {len(names) + 1} entries, got {len(line)}")
        rows.append([_price(path, number, name, cell) for name, cell in zip(names, line[1:], strict=True)])
    if len(rows) < 2:
        raise ValueError(f"{path}: expected prices of two days at least, got {len(rows)}")
    table = torch.tensor(rows, dtype=torch.float64)
    return names, 100 * (table[1:] / table[:-1] - 1)


def _price(path: Path, line: int, name: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(
            f"{path}, line {line}, column {name}: {cell.strip()!r} is not a positive number; mend it or drop the day"
        )
    return value
