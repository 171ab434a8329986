from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from isobit import Model, nn
from isobit.core.errors import BadAttribute, BadShape, BadWeights, NotTraceable, SeveralProblems
from isobit.core.types import Affine, Pow2
from isobit.ops import sampling
from isobit.ops.concat.op import Concat, ConcatAttrs, ConcatInputs
from isobit.run.golden import run_golden
from ops.end_to_end import SCHEMES, Function, assert_moves_as_torch, assert_same_bits, trained


class Joined(nn.Module):
    def __init__(self, *, sigmoid: bool) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.b = nn.Conv2d(3, 4, 1)
        self.c = nn.Conv2d(10, 4, 3, padding=1)
        self.sigmoid = sigmoid

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.relu(self.a(x)), self.b(x)
        joined = torch.cat([a, torch.sigmoid(b) if self.sigmoid else b], 1)
        return torch.cat([joined, self.c(joined)], dim=-3)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_concat_of_branches_has_the_same_bits(scheme: str) -> None:
    graph = assert_same_bits(Joined(sigmoid=True), (3, 5, 4), scheme)
    assert [n.op for n in graph.nodes].count("requantize") == 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_free_producers_share_one_range_without_a_node(scheme: str) -> None:
    model, _ = trained(Joined(sigmoid=False), (3, 5, 4), scheme)
    graph = model.export()
    assert [n.op for n in graph.nodes] == ["conv2d", "conv2d", "concat", "conv2d", "concat"]
    encodings = {v.type.encoding for n in graph.nodes for v in n.outputs}
    assert len(encodings) == 1  # ties are transitive


@pytest.mark.parametrize("scheme", SCHEMES)
def test_shared_range_holds_every_producer(scheme: str) -> None:
    net = Joined(sigmoid=False)
    with torch.no_grad():
        net.b.weight.mul_(20)
    model, x = trained(net, (3, 5, 4), scheme)
    with torch.no_grad():
        assert (model(x) - net(x)).abs().max() < 0.05 * net(x).abs().max()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_batch_norm_after_a_shared_range_learns_from_right_codes(scheme: str) -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.join = Joined(sigmoid=False)
            self.conv, self.norm = nn.Conv2d(14, 6, 1), nn.BatchNorm2d(6)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.norm(self.conv(self.join(x))))

    net = Normed()
    with torch.no_grad():
        net.join.b.weight.mul_(20)
    assert_same_bits(net, (3, 5, 4), scheme, cores=())


def test_untrained_network_can_be_exported() -> None:
    for scheme in SCHEMES:
        Model(Joined(sigmoid=True), input=(3, 5, 4), scheme=scheme).export(untrained=True)


class Cancelling(nn.Module):
    """`d` is large, `c` subtracts two equal channels of it: a small range that only coarse steps
    can be shifted to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.a, self.d, self.c = nn.Linear(3, 4), nn.Linear(3, 2), nn.Linear(2, 1)
        with torch.no_grad():
            self.d.weight.copy_(torch.full((2, 3), 1000.0))
            self.d.bias.zero_()
            self.c.weight.copy_(torch.tensor([[50.0, -50.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x), self.c(self.d(x))], 1)


def test_pow2_tie_takes_the_coarsest_step_that_a_member_needs() -> None:
    model, x = trained(Cancelling(), (3,), "pow2")
    graph = model.export()
    types = graph.type_map()
    limit = types["d"].encoding.frac[0] + types["c.w"].encoding.frac[0]
    assert types["a"].encoding == types["c"].encoding == types["cat"].encoding == Pow2((limit,))
    golden = run_golden(graph, model.quantize_input(x))
    for name, values in model.trace(x).items():
        np.testing.assert_array_equal(values, golden[name], err_msg=name)


def test_pow2_tie_without_any_common_step_is_refused() -> None:
    net = Joined(sigmoid=False)
    with torch.no_grad():
        net.c.weight.fill_(1000.0)
    with pytest.raises(BadWeights, match="share an encoding"):
        Model(net, input=(3, 5, 4), scheme="pow2")


def test_training_reaches_every_branch() -> None:
    model = Model(Joined(sigmoid=True), input=(3, 5, 4))
    model.train()
    model(torch.randn(4, 3, 5, 4)).square().sum().backward()
    for name, parameter in model.net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_dims_are_torchs() -> None:
    for dim in (1, 2, 3, -1, -2, -3):
        assert_moves_as_torch(Function(lambda x, d=dim: torch.cat((x, x, x), d)), (2, 3, 4))
    assert_moves_as_torch(Function(lambda x: torch.concat([x, x], dim=1)), (5,))


def test_concat_of_flattened_images_is_in_torchs_order() -> None:
    flat = Function(lambda x: torch.cat([x.flatten(1), torch.flatten(torch.relu(x), 1)], 1))
    assert_moves_as_torch(flat, (2, 3, 4))


def test_concat_along_the_batch_is_refused() -> None:
    with pytest.raises(NotTraceable, match="batch"):
        Model(Function(lambda x: torch.cat([x, x])), input=(4,))


def test_inputs_of_two_encodings_are_refused() -> None:
    kinds = tuple(sampling.kind((1, 4), e) for e in (Affine((0.1,), 0), Affine((0.1,), 1)))
    with pytest.raises(BadShape, match="requantize"):
        Concat.infer(ConcatAttrs(1), ConcatInputs(kinds))


def test_every_mismatched_shape_is_reported() -> None:
    kinds = tuple(sampling.kind(s, Pow2((3,))) for s in ((1, 4, 2), (1, 3, 3), (1, 2)))
    with pytest.raises(SeveralProblems) as caught:
        Concat.infer(ConcatAttrs(1), ConcatInputs(kinds))
    assert len(caught.value.problems) == 2
    with pytest.raises(BadAttribute):
        Concat.infer(ConcatAttrs(0), ConcatInputs(kinds[:1]))
    with pytest.raises(BadShape):
        Concat.infer(ConcatAttrs(1), ConcatInputs(()))
