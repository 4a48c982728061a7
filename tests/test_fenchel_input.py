"""What is wrong with an input of the Fenchel lifted network is said: which argument, which index, what was expected."""

import math
import re

import pytest
import torch
from torch import nn

from lablib import FenchelLiftedNetwork, SolveError, fenchel_gap

F64 = torch.float64
X, Y = torch.randn(6, 3, dtype=F64), torch.tensor([0, 1, 0, 1, 1, 0])


def network(widths=(3, 4, 2), activation="relu", **options):
    return FenchelLiftedNetwork(list(widths), activation, dtype=F64, **options)


def changed(t, index, value):
    t = t.clone()
    t[index] = value
    return t


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: network(activation="gelu"), "activation is 'gelu': expected one of relu, leaky_relu, sigmoid, tanh"),
        (lambda: network(activation="softmax"), "activation is 'softmax': expected one of relu"),
        (lambda: network(head="hinge"), "head is 'hinge': expected one of softmax, squared"),
        (lambda: network(activation="leaky_relu", slope=0.0), "slope is 0: expected a number between 0 and 1; for 0"),
        (lambda: network(widths=[3]), r"widths is \[3\]: expected a list of at least two"),
        (lambda: network(widths=[3, 0, 2]), r"widths\[1\] is 0: expected a whole number of at least 1"),
        (lambda: network(widths=[3, 2.0]), r"widths\[1\] is 2.0: expected a whole number"),
        (lambda: network(multipliers=0.0), "multipliers is 0: expected a positive number"),
        (lambda: network((3, 4, 4, 2), multipliers=[1.0, -2.0]), r"multipliers\[1\] is -2: expected a positive number"),
        (lambda: network(multipliers=[1.0, 1.0]), "multipliers has 2 entries: expected one number, or 1 of them"),
        (lambda: network(multipliers=math.nan), "multipliers is nan: expected a positive number"),
        (
            lambda: network(anchors=[0.1, math.inf]),
            r"anchors\[1\] is inf: expected a finite number that is not negative",
        ),
        (lambda: network(decay=-1.0), "decay is -1: expected a finite number that is not negative"),
        (lambda: network(dual_step=-1.0), "dual_step is -1"),
        (lambda: network(anchor_growth=0.0), "anchor_growth is 0: expected a positive number"),
        (lambda: network(inertia=1.0), "inertia is 1: expected a number from 0 up to, but not including, 1"),
        (lambda: network(x_steps=0), "x_steps is 0: expected at least 1"),
        (lambda: fenchel_gap(X, X, "step"), "activation is 'step': expected one of relu, .*, softmax, identity"),
        (lambda: fenchel_gap(X, X[:, :2]), r"v has shape \(6, 3\) and u \(6, 2\): expected ones that broadcast"),
    ],
)
def test_what_cannot_be_built_is_refused_at_once(build, says):
    with pytest.raises(ValueError, match=says) as caught:
        build()
    assert isinstance(caught.value, SolveError)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: network(multipliers="1"), "multipliers is a str: expected a number"),
        (lambda: network(w_steps=2.0), "w_steps is a float: expected a whole number"),
        (lambda: network().fit(X.tolist(), Y), "X is a list: expected a torch tensor"),
        (lambda: network().fit(X, Y.tolist()), "y is a list: expected a torch tensor"),
        (lambda: network().fit(X.float(), Y), r"X is torch.float32 on cpu: expected torch.float64 on cpu, .* \.to\(\)"),
        (lambda: network().fit(X, Y.double()), r"y has dtype torch.float64: expected torch.int64 labels .* \.long\(\)"),
        (lambda: network(head="squared").fit(X, Y), "y has dtype torch.int64: expected torch.float64, like X"),
        (lambda: network().predict(X.float()), "X is torch.float32"),
        (lambda: fenchel_gap(0.5, X), "v is a float: expected a torch tensor"),
        (lambda: network().fit(X, Y, validation=X), r"validation is a Tensor: expected a pair, \(X, y\)"),
    ],
)
def test_a_wrong_type_is_named(build, says):
    with pytest.raises(TypeError, match=says):
        build()


@pytest.mark.parametrize(
    ("fit", "says", "index"),
    [
        (lambda n: n.fit(X, changed(Y, 4, 2)), r"y\[4\] is 2: expected a label from 0 to 1, .* has 2 outputs", (4,)),
        (lambda n: n.fit(X, changed(Y, 3, -1)), r"y\[3\] is -1: expected a label from 0 to 1", (3,)),
        (lambda n: n.fit(changed(X, (2, 1), math.nan), Y), r"X\[2, 1\] is nan: expected finite numbers", (2, 1)),
        (lambda n: n.fit(changed(X, (0, 2), math.inf), Y), r"X\[0, 2\] is inf: expected finite numbers", (0, 2)),
        (lambda n: n.fit(X[:, :2], Y), r"X has shape \(6, 2\): expected \(samples, 3\), the inputs of the first", None),
        (lambda n: n.fit(X[:0], Y[:0]), "X has no samples: expected at least one", None),
        (lambda n: n.fit(X, Y[:4]), "y has 4 rows: expected 6, one for each sample of X", None),
        (
            lambda n: n.fit(X, Y.reshape(6, 1)),
            r"y has shape \(6, 1\): expected one label for each sample, \(6,\)",
            None,
        ),
        (lambda n: n.fit(X, Y, validation=(X, Y + 1)), r"validation y\[1\] is 2: expected a label", (1,)),
        (lambda n: n.fit(X, Y, epochs=0), "epochs is 0: expected at least 1", None),
        (lambda n: n.fit(X, Y, batch_size=0), "batch_size is 0: expected at least 1", None),
        (lambda n: n.fit(X, Y, workers=0), "workers is 0: expected at least 1", None),
        (lambda n: n.fit(X, Y, tol=-1.0), "tol is -1: expected a finite number that is not negative", None),
        (lambda n: n.score(X, Y + 1), r"y\[1\] is 2: expected a label", (1,)),
        (lambda n: n.objective(changed(X, (0, 0), math.nan), Y), r"X\[0, 0\] is nan", (0, 0)),
    ],
)
def test_data_that_do_not_fit_are_named_and_nothing_is_trained(fit, says, index):
    net = network()
    before = {name: p.clone() for name, p in net.named_parameters()}
    with pytest.raises(ValueError, match=says) as caught:
        fit(net)
    assert caught.value.index == index
    assert not net.history.rows and all(torch.equal(p, before[name]) for name, p in net.named_parameters())


def test_real_targets_are_checked_too():
    net = network(head="squared")
    with pytest.raises(ValueError, match=r"y has shape \(6, 3\): expected \(6, 2\)"):
        net.fit(X, X)
    with pytest.raises(ValueError, match=r"y\[1, 0\] is nan"):
        net.fit(X, changed(X[:, :2], (1, 0), math.nan))


def test_an_image_that_the_layers_cannot_take_is_named():
    net = FenchelLiftedNetwork.from_modules([nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)])
    with pytest.raises(ValueError, match=r"X has shape \(5, 1, 5, 5\), which the layers cannot take: .*8"):
        net.fit(torch.zeros(5, 1, 5, 5), torch.zeros(5, dtype=torch.int64))


LINEAR, RELU = nn.Linear(4, 4), nn.ReLU()


@pytest.mark.parametrize(
    ("modules", "says"),
    [
        ([LINEAR, nn.GELU(), LINEAR], "modules[1] is GELU(approximate='none'): expected Linear, Conv2d"),
        ([nn.MaxPool2d(2), LINEAR], "average pooling is linear, maximum pooling is not"),
        ([LINEAR, LINEAR], "modules[1] is Linear(in_features=4, out_features=4, bias=True): expected an activation"),
        ([RELU, LINEAR], "modules[0] is ReLU(): expected a Linear or a Conv2d before it"),
        ([LINEAR, nn.Flatten(), RELU, LINEAR], "modules[1] is Flatten(start_dim=1, end_dim=-1): expected it after the"),
        ([LINEAR, RELU], "the last module must be a Linear"),
        (
            [nn.Linear(4, 4, bias=False), RELU, LINEAR],
            "modules[0] is Linear(in_features=4, out_features=4, bias=False): ",
        ),
        ([nn.Conv2d(2, 2, 3, groups=2), RELU, LINEAR], "expected groups=1, dilation=1 and padding with zeros"),
        ([nn.Conv2d(2, 2, 3, padding="same"), RELU, LINEAR], "expected groups=1, dilation=1 and padding with zeros"),
        ([nn.AvgPool2d(3, stride=1), LINEAR], "expected a stride equal to the kernel, and no padding"),
    ],
)
def test_a_module_that_is_not_understood_is_named_by_its_index(modules, says):
    with pytest.raises(TypeError, match=re.escape(says)):
        FenchelLiftedNetwork.from_modules(modules)
