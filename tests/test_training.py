"""What all trainers share: the record, progress, Ctrl-C, the end; and how the Fenchel lifted network behaves in it."""

import signal
import sys
import threading

import pytest
import torch
from torch import nn

from lablib import FenchelLiftedNetwork, History
from lablib import fenchel as module
from lablib.training import Interruption, restore, train

F64 = torch.float64


class Toy(nn.Module):
    """One weight that is halved in each step; a pass is two steps. `at` does something in the midst of a step."""

    def __init__(self, start=8.0, at=None):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start, dtype=F64))
        self.history, self.steps, self.at = History(), 0, at or (lambda step: None)

    def advance(self):
        new = self.w.detach() / 2
        self.at(self.steps)

        def commit():
            restore(self, {"w": new})
            self.steps += 1
            return self.steps % 2 == 0

        return commit

    def fit(self, epochs, tol=0.0, progress=False):
        def measure():
            return {"objective": self.w.item(), "loss": self.w.item()}

        train(self, self.history, self.advance, measure, epochs=epochs, tol=tol, progress=progress)
        return self.history


def interrupt(times=1, at=1):
    def act(step):
        if step == at:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    return act


def test_passes_are_counted_over_calls():
    toy = Toy()
    history = toy.fit(2)
    assert (history.status, history.passes, history.column("loss")) == ("finished", 2, [8.0, 2.0, 0.5])
    toy.fit(1)
    assert history.column("loss") == [8.0, 2.0, 0.5, 0.125] and history.message == "3 passes are done"
    assert history.column("pass") == [0, 1, 2, 3] and history.best["loss"] == 0.125
    seconds = history.column("seconds")
    assert seconds == sorted(seconds)


def test_the_run_stops_where_the_objective_stands_still():
    toy = Toy()
    toy.advance = lambda: lambda: True
    history = toy.fit(50, tol=1e-9)
    assert (history.status, history.passes) == ("converged", 2)
    assert "changed by less than 1e-09 of itself in pass 2" in history.message
    assert Toy().fit(5, tol=0.74).status == "finished"
    assert Toy().fit(5, tol=3.1).status == "converged", "the tolerance is relative: a factor of four is a change by 3"


def test_the_first_ctrl_c_finishes_the_step_and_the_next_call_goes_on():
    toy = Toy(at=interrupt(at=2))
    before = signal.getsignal(signal.SIGINT)
    history = toy.fit(4)
    assert history.status == "interrupted" and toy.steps == 3 and toy.w.item() == 1.0
    assert history.passes == 1 and history.message == "interrupted in pass 2; epochs=3 goes on from here"
    assert signal.getsignal(signal.SIGINT) is before
    toy.fit(3)
    assert (history.status, history.passes, toy.w.item()) == ("finished", 4, 8 / 2**8)


def test_the_second_ctrl_c_undoes_the_step_and_keeps_all_before():
    toy = Toy(at=interrupt(times=2, at=2))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        toy.fit(4)
    assert toy.steps == 2 and toy.w.item() == 2.0 and toy.history.status == "interrupted"
    assert "the step under way was undone" in toy.history.message
    assert signal.getsignal(signal.SIGINT) is before


def test_while_a_step_is_put_into_place_ctrl_c_waits():
    toy = Toy()
    plain = toy.advance

    def advance():
        commit = plain()

        def slow():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            return commit()

        return slow

    toy.advance = advance
    assert toy.fit(4).status == "interrupted" and toy.steps == 1


def test_outside_the_main_thread_training_works_without_signals():
    found = []
    thread = threading.Thread(target=lambda: found.append(Toy().fit(1).status))
    thread.start()
    thread.join()
    assert found == ["finished"]
    with Interruption() as interruption:
        assert not interruption.asked


@pytest.mark.parametrize("bad", [float("nan"), 1e6], ids=["nan", "growth"])
def test_a_run_that_diverges_says_so_and_returns_the_best_weights(bad):
    toy = Toy()
    plain = toy.advance
    toy.advance = lambda: plain() if toy.steps < 4 else (lambda: restore(toy, {"w": torch.tensor(bad)}) or True)
    with pytest.warns(
        RuntimeWarning, match=r"diverged in pass 3: the loss is (nan|1e\+06), and was 8; the weights are"
    ):
        history = toy.fit(10)
    assert history.status == "diverged" and toy.w.item() == 0.5 == history.best["loss"]
    assert history.best["pass"] == 2


def test_a_step_that_is_not_finite_is_not_taken():
    toy = Toy()
    plain = toy.advance

    def advance():
        if toy.steps == 4:
            raise FloatingPointError("a weight is not finite")
        return plain()

    toy.advance = advance
    with pytest.warns(RuntimeWarning, match="diverged in pass 3: a weight is not finite; .* after pass 2"):
        toy.fit(10)
    assert toy.w.item() == 0.5


def test_progress_is_one_line_a_pass_on_stderr_or_a_call(capsys):
    Toy().fit(2, progress=True)
    shown = capsys.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 3
    assert shown.err.splitlines()[2].startswith("pass 2/2: objective 0.5, loss 0.5, ")
    rows = []
    Toy().fit(2, progress=rows.append)
    assert [row["pass"] for row in rows] == [0, 1, 2] and capsys.readouterr().err == ""


def test_a_history_is_kept_whole_by_its_state():
    toy = Toy()
    toy.fit(2)
    toy.history.mark("something else")
    toy.history.steps.append((1, 0, "X1", 0.5))
    other = History()
    other.load_state_dict(toy.history.state_dict())
    assert vars(other) == vars(toy.history)
    other.mark("only here")
    assert len(toy.history.marks) == 1


def test_an_unknown_column_is_named_with_those_there_are():
    with pytest.raises(KeyError, match="no row has 'gap 1'; there are no rows yet"):
        History().column("gap 1")
    with pytest.raises(KeyError, match="no row has 'gap'; there are loss, objective, pass, seconds"):
        Toy().fit(1).column("gap")


def test_a_history_plots_itself(monkeypatch):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    net = FenchelLiftedNetwork([3, 4, 4, 2], dual_step=0.1, dtype=F64)
    X = torch.randn(20, 3, dtype=F64)
    history = net.fit(X, (X[:, 0] > 0).long(), epochs=3, progress=False, validation=(X, (X[:, 0] > 0).long()))
    figure = history.plot()
    drawn = {line.get_label(): list(line.get_ydata()) for axis in figure.axes for line in axis.lines}
    assert drawn["loss"] == history.column("loss") and drawn["gap 2"] == history.column("gap 2")
    assert drawn["validation accuracy"] == history.column("validation accuracy")
    assert len({line.get_linestyle() for line in figure.axes[0].lines[:2]}) == 2
    dotted = [line for line in figure.axes[0].lines if list(line.get_ydata()) == [0, 1]]
    assert [line.get_xdata()[0] for line in dotted] == [1, 2], "the marks of the multipliers"
    _, axes = pyplot.subplots(1, 3)
    assert history.plot(axes) is axes[0].figure
    pyplot.close("all")
    with pytest.raises(RuntimeError, match=r"nothing to plot: .* call fit first"):
        History().plot()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot")
    with pytest.raises(ImportError, match="needs matplotlib: pip install matplotlib"):
        history.plot()


# ---- the Fenchel lifted network in it ----


@pytest.fixture
def moons():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(60, 4, generator=generator, dtype=F64)
    return X, (X[:, 0] * X[:, 1] > 0).long()


def network(**options):
    return FenchelLiftedNetwork([4, 6, 5, 2], dtype=F64, **options)


def parameters(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize(("batch_size", "block"), [(None, 7), (20, 22)])
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_in_the_midst_of_a_block_loses_nothing(moons, monkeypatch, batch_size, block, times):
    """The run that was interrupted, and went on, ends where the other one does, bit for bit."""
    how = {"batch_size": batch_size, "progress": False, "tol": 0.0}
    whole, stopped = network(inertia=0.3), network(inertia=0.3)
    whole.fit(*moons, epochs=5, **how)
    calls = []

    def weight_step(*args):
        calls.append(1)
        if len(calls) == block:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return plain(*args)

    plain = module.weight_step
    monkeypatch.setattr(module, "weight_step", weight_step)
    if times == 2:
        with pytest.raises(KeyboardInterrupt):
            stopped.fit(*moons, epochs=5, **how)
    else:
        stopped.fit(*moons, epochs=5, **how)
    assert stopped.history.status == "interrupted" and len(calls) < 15 * (3 if batch_size else 1)
    done = stopped.history.passes
    assert 0 < done < 5
    other = network(inertia=0.3)
    other.load_state_dict(stopped.state_dict())
    for net in (stopped, other):
        net.fit(*moons, epochs=5 - done, **how)
        assert torch.equal(parameters(net), parameters(whole))
        assert net.history.column("objective") == whole.history.column("objective")


def test_fit_stops_on_its_tolerance(moons):
    history = network().fit(*moons, epochs=500, tol=0.05, progress=False)
    assert history.status == "converged" and history.passes < 500
    objective = history.column("objective")
    assert abs(objective[-1] - objective[-2]) <= 0.05 * objective[-1]
    assert abs(objective[-2] - objective[-3]) > 0.05 * objective[-2]


def test_fit_shows_objective_gaps_and_accuracy_as_it_goes(moons, capsys):
    network().fit(*moons, epochs=2, validation=moons)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    for part in ("objective", "gap 1", "gap 2", "loss", "training accuracy", "validation accuracy"):
        assert part in lines[-1]


@pytest.mark.parametrize("batch_size", [None, 20])
def test_a_diverging_network_returns_its_best_iterate(moons, batch_size):
    X, y = moons
    net = network(anchors=1e-3, inertia=0.999, w_steps=1)
    net.fit(X, y, epochs=1, batch_size=batch_size, progress=False)
    good = net.history.best["loss"]
    huge = 1e180 * X if batch_size is None else X
    with pytest.warns(RuntimeWarning, match="diverged in pass"):
        history = net.fit(
            huge, y if batch_size is None else 1 - y, epochs=200, batch_size=batch_size, tol=0, progress=False
        )
    assert history.status == "diverged" and bool(torch.isfinite(parameters(net)).all())
    assert torch.equal(parameters(net), torch.cat([w.flatten() for w in history.best["weights"].values()]))
    assert history.best["loss"] <= good
