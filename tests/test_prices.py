"""Returns for the lab: what the model makes, what a file gives, and what a bad file is told."""

import pytest
import torch

from lablib.teaching import prices

GOOD = "day,A,B\n2024-01-02,100,50\n2024-01-03,110,49\n\n2024-01-04,99,49\n"


def test_factor_returns_follow_the_seed_and_the_model():
    r = prices.factor_returns(6, 20_000, factors=2, seed=3)
    assert r.shape == (20_000, 6) and r.dtype == torch.float64
    assert torch.equal(r, prices.factor_returns(6, 20_000, factors=2, seed=3))
    assert not torch.equal(r, prices.factor_returns(6, 20_000, factors=2, seed=4))
    # Two factors: the covariance is two large directions and a floor of 0.36.
    values = torch.linalg.eigvalsh(r.T.cov())
    assert torch.allclose(values[:4], torch.full((4,), 0.36, dtype=r.dtype), atol=0.03)
    assert values[4] > 0.6


@pytest.mark.parametrize("name", ["assets", "days", "factors"])
def test_factor_returns_name_a_count_that_is_none(name):
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
        prices.factor_returns(**{"assets": 2, "days": 2, "factors": 1, name: 0})


def test_a_table_of_prices_becomes_returns(tmp_path):
    path = tmp_path / "closes.csv"
    path.write_text("\ufeff" + GOOD, encoding="utf-8")
    names, returns = prices.returns_from_csv(path)
    assert names == ["A", "B"]
    assert torch.allclose(returns, torch.tensor([[10.0, -2.0], [-10.0, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: expected a line of names"),
        ("day\n2024-01-02\n", "line 1: expected a name for the date and for each asset"),
        ("day,A,\n1,2,3\n", "line 1: expected a name"),
        ("day,A,A\n1,2,3\n", "line 1: the name 'A' stands twice"),
        (GOOD.replace("110,49", "110"), "line 3: expected 3 entries, got 2"),
        (GOOD.replace("110,49", "110,n/a"), "line 3, column B: 'n/a' is not a positive number"),
        (GOOD.replace("110,49", ",49"), "line 3, column A: '' is not a positive number"),
        (GOOD.replace("110,49", "-1,49"), "line 3, column A: '-1' is not a positive number"),
        (GOOD.replace("99,49", "99,inf"), "line 5, column B: 'inf' is not a positive number"),
        ("day,A\n1,2\n", "expected prices of two days at least, got 1"),
    ],
)
def test_a_bad_table_is_told_where(tmp_path, text, message):
    path = tmp_path / "closes.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        prices.returns_from_csv(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv is not there: expected a CSV file"):
        prices.returns_from_csv(tmp_path / "none.csv")
