"""The layer as a module, the check of a backward, and a set brought by a user."""

import copy
import io
import math
import pickle

import pytest
import torch
from torch import nn

import lablib
from lablib import Affine, Box, BoxBudget, ConvexSet, L1Ball, ProjectionLayer, Simplex, SolveError, check_jacobian

F64 = torch.float64


def rand(*shape, seed=0):
    return torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def layers():
    return {
        "number": ProjectionLayer(Simplex(4)),
        "buffer": ProjectionLayer(Box(-torch.ones(4, dtype=F64), 0.5)),
        "parameter": ProjectionLayer(L1Ball(4, nn.Parameter(torch.tensor(1.0, dtype=F64)))),
        "both": ProjectionLayer(Affine(nn.Parameter(rand(2, 4)), rand(2, seed=1))),
    }


every_layer = pytest.mark.parametrize("name", ["number", "buffer", "parameter", "both"])


# -- the module ----------


@every_layer
def test_copies_pickles_and_states_project_alike(name):
    layer, y = layers()[name], rand(3, 4, seed=2)
    x = layer(y)
    stream = io.BytesIO()
    torch.save(layer, stream)
    stream.seek(0)
    fresh = layers()[name]
    fresh.load_state_dict(layer.state_dict())
    for other in (
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(stream, weights_only=False),
        fresh,
    ):
        assert torch.equal(other(y), x)


@every_layer
def test_to_moves_what_the_set_holds(name):
    layer = layers()[name].to(torch.float32)
    assert layer(rand(3, 4).float()).dtype == torch.float32
    assert all(t.dtype == torch.float32 for t in layer.state_dict().values())


def test_tensors_are_buffers_and_parameters_are_parameters():
    both = layers()["both"]
    assert [n for n, _ in both.named_parameters()] == ["A"] and [n for n, _ in both.named_buffers()] == ["b"]
    assert both.set.A is both.A


def test_an_optimiser_step_reaches_the_set():
    layer, y = layers()["both"], rand(8, 4, seed=2)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        layer(y).square().sum().backward()
        optimiser.step()
        with torch.no_grad():
            assert float(layer.set.violation(layer(y)).max()) < 1e-12, "a stale factor would leave the new rows"


def test_a_copy_has_its_own_tensors():
    layer = layers()["parameter"]
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.radius.fill_(0.25)
    assert layer(rand(4)).abs().sum().item() == pytest.approx(1.0) and other(rand(4)).abs().sum().item() == 0.25


def test_data_of_a_call_replace_those_of_the_set():
    layer, y = layers()["parameter"], rand(2, 4)
    radius = torch.tensor([0.5, 2.0], dtype=F64, requires_grad=True)
    x = layer(y, radius=radius)
    torch.testing.assert_close(x.abs().sum(-1), radius.minimum(y.abs().sum(-1)))
    x.sum().backward()
    assert radius.grad is not None and layer.radius.grad is None
    assert layer(y, radius=0.0).abs().sum().item() == 0


def test_options_of_the_layer_reach_project():
    y = torch.tensor([0.0, 0.5], requires_grad=True)
    for element, expected in (("lowest", [0.0, 1.0]), ("highest", [1.0, 1.0])):
        layer = ProjectionLayer(Box(0.0, 1.0), element=element)
        assert torch.autograd.grad(layer(y).sum(), y)[0].tolist() == expected


def test_layers_compose_and_show_their_set():
    net = nn.Sequential(nn.Linear(3, 4, dtype=F64), layers()["number"])
    assert "Simplex(4, total=1.0)" in repr(net)
    net(rand(5, 3)).square().sum().backward()
    assert net[0].weight.grad.abs().sum() > 0


def test_training_learns_the_radius():
    torch.manual_seed(0)
    layer = ProjectionLayer(L1Ball(4, nn.Parameter(torch.tensor(0.5, dtype=F64))))
    y = rand(64, 4, seed=1) * 3
    target = L1Ball(4, 1.7).project(y)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        (layer(y) - target).square().sum().backward()
        optimiser.step()
    assert layer.radius.item() == pytest.approx(1.7, abs=1e-3)


# -- checking a backward ----------


@every_layer
def test_the_check_finds_no_fault_in_a_layer_of_ours(name):
    assert check_jacobian(layers()[name], 2 * rand(30, 4, seed=3)) < 1e-8


def test_the_check_finds_a_wrong_backward():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return y.clamp(min=0)

        @staticmethod
        def backward(ctx, v):
            return v

    assert check_jacobian(Wrong.apply, rand(5, 3)) == pytest.approx(1.0, abs=1e-6)
    assert check_jacobian(lambda y: Simplex(3).project(y).detach() + 0 * y, rand(5, 3)) > 0.1


def test_the_check_leaves_out_points_at_kinks():
    y = torch.tensor([[0.0, 1.0, 3.0], [0.3, 0.6, 5.0]], dtype=F64)  # the first meets both bounds
    assert check_jacobian(ProjectionLayer(Box(0.0, 1.0)), y) < 1e-8
    with pytest.raises(SolveError, match="kink"):
        check_jacobian(ProjectionLayer(Box(0.0, 1.0)), y[:1])


def test_the_check_steps_back_from_a_kink_nearby():
    y = torch.tensor([[2e-6, 0.5]], dtype=F64)
    assert check_jacobian(ProjectionLayer(Box(0.0, 1.0)), y) < 1e-6
    with pytest.raises(SolveError, match="kink"):
        check_jacobian(ProjectionLayer(Box(0.0, 1.0)), y, step=1.0)


def test_the_check_compresses_long_rows():
    y, seen = rand(2, 200), []

    def layer(t):
        seen.append(1)
        return Simplex(200).project(t)

    assert check_jacobian(layer, y, directions=5) < 1e-7
    assert len(seen) < 60


# -- a set brought along ----------


class Wedge(ConvexSet):
    """{x in R^2 : x_1 - x_2 <= slack}, with slack as a datum."""

    dim, ranks = 2, {"slack": 0}

    def __init__(self, slack=0.0):
        self.slack = slack

    def _excess(self, x):
        return (
            x[..., :1] - x[..., 1:] - (self.slack.unsqueeze(-1) if isinstance(self.slack, torch.Tensor) else self.slack)
        )

    def solve(self, y, *, tol=None, max_steps=None, element="lowest"):
        excess = self._excess(y)
        half = excess.clamp(min=0) / 2
        return y - torch.cat([half, -half], -1), excess >= 0, 1

    def face_project(self, x, v, active=None):
        tight = self._excess(x) >= 0 if active is None else active
        return torch.where(tight, v.mean(-1, keepdim=True), v)

    def face_map(self, y, active):
        half = self._excess(y) / 2
        return torch.where(active, y - torch.cat([half, -half], -1), y)

    def violation(self, x):
        return self._excess(x).clamp(min=0).squeeze(-1).double()


def test_a_set_of_four_methods_gets_the_rest():
    s, y = Wedge(torch.tensor(0.5, dtype=F64)), 3 * rand(20, 2)
    x, info = s.project(y, return_info=True)
    assert float(s.violation(x).max()) < 1e-14
    assert info.iterations.tolist() == [1] * 20 and bool(info.gap.isnan().all()), "no linear oracle, no certificate"
    assert check_jacobian(ProjectionLayer(s), y) < 1e-8
    slack = s.slack.clone().requires_grad_()
    torch.autograd.gradcheck(lambda y, t: Wedge(t).project(y), (y.requires_grad_(), slack))
    torch.testing.assert_close(torch.vmap(s.project)(y), x)
    with pytest.raises(TypeError, match="slack is a str: expected a number or a torch tensor"):
        Wedge("half")


def test_what_a_set_lacks_is_named():
    class Bare(ConvexSet):
        pass

    y = torch.zeros(2)
    for call in (
        lambda: Bare().project(y),
        lambda: Bare().face_project(y, y),
        lambda: Bare().violation(y),
        lambda: Bare().face_map(y, None),
        lambda: Bare().lmo(y),
        lambda: Bare().sample(2),
    ):
        with pytest.raises(NotImplementedError, match="Bare"):
            call()


def test_the_public_names():
    sets = {"Affine", "Box", "BoxBudget", "L1Ball", "Simplex"}
    assert set(lablib.__all__) >= sets | {"ProjectionLayer", "SolveError", "SolveInfo", "check_jacobian"}
    assert all(hasattr(lablib, name) for name in lablib.__all__)
    assert isinstance(BoxBudget(0.0, math.inf, 1.0, 1.0, dim=2).project(torch.zeros(2)), torch.Tensor)
