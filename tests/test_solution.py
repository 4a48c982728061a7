"""What a solver says about its answer, and how it fails."""

import pickle

import pytest
import torch

import lablib
from lablib import SolveError, SolveInfo


def info(converged, residual):
    n = len(converged)
    return SolveInfo(torch.tensor(converged), torch.arange(n), torch.tensor(residual), torch.zeros(n))


def test_the_summary_counts_and_names_the_worst():
    text = info([True, False, True], [0.0, 0.25, 0.0]).summary()
    assert text == "2 of 3 converged; worst residual 2.5e-01, worst gap 0.0e+00, at most 2 passes"


def test_the_summary_ends_with_the_message():
    given = SolveInfo(torch.tensor(True), torch.tensor(1), torch.tensor(0.0), torch.tensor(0.0), "warm start used")
    assert given.summary().endswith("at most 1 passes; warm start used")


def test_the_summary_of_nothing():
    assert "empty" in info([], []).summary()


def test_an_error_carries_what_was_reached():
    with pytest.raises(SolveError) as caught:
        lablib.Simplex(60, 20.0).project(torch.linspace(-3, 3, 60) ** 3, max_steps=1)
    error = caught.value
    assert error.index == ()
    assert not bool(error.info.converged) and float(error.info.residual) > 0
    assert "residual" in str(error) and "max_steps" in str(error)
    assert not isinstance(error, ValueError), "the input was not at fault"


def test_an_error_of_input_is_both_kinds_and_survives_pickling():
    with pytest.raises(ValueError, match="nan") as caught:
        lablib.Simplex(2).project(torch.tensor([[0.0, 0.0], [0.0, float("nan")]]))
    assert isinstance(caught.value, SolveError) and caught.value.index == (1, 1)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and again.index == (1, 1)


def test_info_has_the_shape_of_the_batch():
    _, found = lablib.L1Ball(4).project(torch.randn(2, 3, 4), return_info=True)
    for field in (found.converged, found.iterations, found.residual, found.gap):
        assert field.shape == (2, 3)
    assert found.residual.dtype == found.gap.dtype == torch.float64
