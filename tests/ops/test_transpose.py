from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import Tensor

from isobit import Model, nn
from isobit.core.errors import BadAttribute, NotTraceable
from isobit.core.types import Pow2
from isobit.ops import sampling
from isobit.ops.transpose.op import Transpose, TransposeAttrs, TransposeInputs
from ops.end_to_end import SCHEMES, Function, assert_moves_as_torch, assert_same_bits


class PermuteThenLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3)
        self.linear = nn.Linear(60, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.conv(x).permute(0, 2, 3, 1).flatten(1))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_permute_then_linear_has_the_same_bits(scheme: str) -> None:
    assert_same_bits(PermuteThenLinear(), (2, 6, 5), scheme)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_flatten_as_output_has_the_same_bits_in_torchs_order(scheme: str) -> None:
    net = nn.Sequential(nn.Conv2d(2, 5, 3), nn.Flatten(), nn.ReLU6())
    graph = assert_same_bits(net, (2, 6, 5), scheme)
    assert [n.op for n in graph.nodes][-3:] == ["reshape", "transpose", "reshape"]


@pytest.mark.parametrize("dims", list(permutations((1, 2, 3))))
def test_permutations_are_torchs(dims: tuple[int, ...]) -> None:
    for shape in ((2, 3, 4), (1, 3, 4), (2, 1, 4), (1, 1, 4)):
        assert_moves_as_torch(Function(lambda x: x.permute(0, *dims)), shape)
        assert_moves_as_torch(Function(lambda x: torch.permute(x, (0, *dims)).flatten(1)), shape)
        assert_moves_as_torch(Function(lambda x: x.transpose(dims[0], dims[1] - 4)), shape)


def test_flatten_is_in_torchs_order_wherever_it_goes() -> None:
    for shape in ((2, 3, 4), (1, 3, 4), (5, 1, 1)):
        for function in (
            lambda x: x.flatten(1),
            lambda x: torch.relu(x.flatten(1)),
            lambda x: torch.flatten(x.flatten(1), 1),
            lambda x: x.flatten(1) + x.flatten(1),
            lambda x: torch.relu(torch.relu(x).flatten(1)),
        ):
            assert_moves_as_torch(Function(function), shape)


def test_one_flattened_value_may_have_readers_of_both_orders() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(24, 24)

        def forward(self, x: Tensor) -> Tensor:
            flat = torch.relu(x).flatten(1)
            return torch.cat([flat, self.linear(flat), flat], 1)

    assert_same_bits(Both(), (2, 3, 4), "affine", cores=("host",))


def test_flatten_before_linear_costs_no_transpose() -> None:
    net = nn.Sequential(nn.Conv2d(2, 5, 3), nn.Flatten(), nn.ReLU(), nn.Linear(60, 3))
    ops = [n.op for n in Model(net, input=(2, 6, 5)).export(untrained=True).nodes]
    assert "transpose" not in ops


def test_a_move_of_nothing_is_no_node() -> None:
    graph = Model(Function(lambda x: torch.relu(x).permute(0, 2, 3, 1)), input=(7, 1, 1)).export(
        untrained=True
    )
    assert "transpose" not in [n.op for n in graph.nodes]


@pytest.mark.parametrize(
    "function",
    [lambda x: x.permute(1, 0, 2, 3), lambda x: x.transpose(0, 1), lambda x: x.permute(0, 1)],
)
def test_moving_the_batch_is_refused(function) -> None:
    with pytest.raises(NotTraceable, match="dims"):
        Model(Function(function), input=(4, 3, 3))


def test_perm_must_be_a_permutation() -> None:
    x = TransposeInputs(sampling.kind((1, 5, 2), Pow2((3,))))
    for perm in ((0, 1), (1, 0, 2), (0, 1, 1)):
        with pytest.raises(BadAttribute):
            Transpose.infer(TransposeAttrs(perm), x)
