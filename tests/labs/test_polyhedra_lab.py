"""The lab on polyhedra with a reader's own prices: its first part runs on them, and refuses too short a file."""

from pathlib import Path

import matplotlib
import nbformat
import pytest
import torch

from lablib.teaching import prices

LAB = Path(__file__).resolve().parents[2] / "labs" / "polyhedra.ipynb"


@pytest.fixture
def run():
    """Run the lab from its imports up to a cell, with the name of a file of prices put in."""
    dtype, drawn = torch.get_default_dtype(), dict(matplotlib.rcParams)
    backend = matplotlib.get_backend()
    matplotlib.use("agg")

    def upto(last: str, path: Path) -> dict:
        names = {}
        code = [cell for cell in nbformat.read(LAB, as_version=4).cells if cell.cell_type == "code"]
        ids = [cell.id for cell in code]
        for cell in code[ids.index("doctor") : ids.index(last) + 1]:
            source = cell.source.replace("MY_PRICES = None", f"MY_PRICES = {str(path)!r}")
            exec(compile(source, cell.id, "exec"), names)
        return names

    yield upto
    torch.set_default_dtype(dtype)
    matplotlib.rcParams.update(drawn)
    matplotlib.use(backend)


def table(path: Path, days: int) -> Path:
    """A CSV file of prices of four assets that the factor model moves."""
    closes = 100 * (1 + prices.factor_returns(4, days, seed=5) / 100).cumprod(0)
    lines = ["day,Ash,Beech,Cedar,Elm"]
    lines += [f"{day}," + ",".join(f"{price:.4f}" for price in row) for day, row in enumerate(closes.tolist())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_portfolios_of_a_readers_own_prices(run, tmp_path, capsys):
    names = run("portfolio-picture", table(tmp_path / "closes.csv", 121))
    assert "assets: Ash, Beech, Cedar, Elm" in capsys.readouterr().out
    assert names["returns"].shape == (1, 120, 4)
    assert names["green"].tolist() == [True, False, False, False]
    for name, x in names["plans"].items():
        repaired = names["by_quota"](x)
        assert x.shape == (1, 4)
        assert float(repaired[0, 0]) >= 0.4 - 1e-9, name
        assert (
            float(names["worth"](repaired, names["past"]))
            <= float(names["worth"](names["plans"]["exact"], names["past"])) + 1e-9
        ), name


def test_a_file_that_is_too_short_is_told_so(run, tmp_path):
    with pytest.raises(ValueError, match="4 assets, 60 days: this lab wants 3 assets and 90 days at least"):
        run("returns", table(tmp_path / "closes.csv", 61))
