from __future__ import annotations

import pytest
import torch
from torch import Tensor

from isobit import Model, nn
from isobit.core.errors import BadAttribute, NotTraceable
from isobit.core.types import Pow2
from isobit.ops import sampling
from isobit.ops.split.op import Split, SplitAttrs, SplitInputs
from ops.end_to_end import SCHEMES, Function, assert_moves_as_torch, assert_same_bits


class Parts(nn.Module):
    """Channels split three ways; one part is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 9, 3)
        self.second = nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, _, c = torch.split(self.first(x), [4, 2, 3], dim=1)
        return torch.cat([torch.relu(self.second(a)), c], 1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_split_has_the_same_bits(scheme: str) -> None:
    graph = assert_same_bits(Parts(), (2, 6, 5), scheme)
    assert [n.op for n in graph.nodes] == ["conv2d", "split", "conv2d", "concat"]


@pytest.mark.parametrize("shape", [(5, 6, 7), (7,)])
def test_slices_are_torchs(shape: tuple[int, ...]) -> None:
    for dim in range(1, len(shape) + 1):
        for size in (1, 2, 3, 7):
            for k in (0, -1):
                net = Function(lambda x, s=size, d=dim, k=k: torch.split(x, s, d)[k])
                assert_moves_as_torch(net, shape)
                net = Function(lambda x, s=size, d=dim, k=k: x.chunk(s, dim=d)[k])
                assert_moves_as_torch(net, shape)
    net = Function(lambda x: torch.chunk(input=x, chunks=2, dim=-1)[1])
    assert_moves_as_torch(net, shape)
    net = Function(lambda x: x.split(split_size=3, dim=-1)[1])
    assert_moves_as_torch(net, shape)


def test_split_of_a_flattened_image_is_in_torchs_order() -> None:
    assert_moves_as_torch(Function(lambda x: x.flatten(1).split([5, 19], 1)[1]), (2, 3, 4))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: x[:, 0], "indexing"),
        (lambda x: torch.split(x, 2), "batch"),
        (lambda x: x.chunk(2, 1)[2], "results"),
        (lambda x: x.split(0, 1)[0], "split size"),
        (lambda x: x.split([1, 1], 1)[0], "sizes"),
    ],
)
def test_what_cannot_be_split_is_refused(function, words: str) -> None:
    with pytest.raises((NotTraceable, BadAttribute), match=words):
        Model(Function(function), input=(4, 3, 3))


def test_sizes_must_fill_the_axis() -> None:
    x = SplitInputs(sampling.kind((1, 5), Pow2((3,))))
    for attrs in (SplitAttrs(1, (2, 2)), SplitAttrs(1, (5, 0)), SplitAttrs(0, (1,))):
        with pytest.raises(BadAttribute):
            Split.infer(attrs, x)
