from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch import nn as torch_nn

from isobit import nn
from isobit.core.errors import BadShape
from isobit.ops.base import Scheme
from isobit.ops.depthwise_conv2d.op import DepthwiseConv2d
from oracles import oracle

from .nets import assert_float_equal, assert_same_bits


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 12, (3, 2), stride=2, groups=4, bias=False),
        nn.Conv2d(4, 8, 3, padding="same", dilation=2, groups=4),
    ],
    ids=["same", "multiplier 3", "dilated"],
)
def test_layer_means_torch(layer: torch_nn.Module) -> None:
    graph = assert_float_equal(layer, (4, 9, 8))
    assert [node.op for node in graph.nodes] == ["depthwise_conv2d"]


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (4, 2)], ids=["one channel", "groups"])
def test_other_groups_stay_conv2d(channels: int, groups: int) -> None:
    graph = assert_float_equal(nn.Conv2d(channels, 8, 3, groups=groups), (channels, 6, 5))
    assert [node.op for node in graph.nodes] == ["conv2d"]


def test_is_conv2d_with_a_group_per_channel() -> None:
    """Every sample against the oracle of conv2d: w [KH,KW,O] as [O,KH,KW,1], groups = C."""
    for sample in DepthwiseConv2d.samples():
        attrs, x, types = sample.attrs, sample.inputs, sample.types
        plain = {
            "stride": attrs.stride,
            "pad": attrs.pad,
            "dilation": attrs.dilation,
            "groups": x.x.shape[3],
            "clamp": attrs.clamp,
            "round": attrs.round.value,
        }
        inputs = {
            "x": x.x,
            "w": x.w.transpose(2, 0, 1)[..., None],
            "b": x.b,
            "mult": x.mult,
            "shift": x.shift,
        }
        zeros = {name: getattr(types.inputs, name).zero for name in ("x", "w")}
        zeros["y"] = types.output.zero
        want = oracle("conv2d")(inputs, plain, zeros)
        assert np.array_equal(DepthwiseConv2d.integer(attrs, types, x), want), sample.label


def test_channels_that_are_no_multiple_are_refused() -> None:
    sample = next(DepthwiseConv2d.samples())
    x = sample.types.inputs.x
    types = type(sample.types.inputs)(x=x.with_shape((1, 6, 5, 3)), w=sample.types.inputs.w)
    with pytest.raises(BadShape, match="multiple of the 3 input channels"):
        DepthwiseConv2d.infer(sample.attrs, types)


class Inverted(torch_nn.Module):
    """MobileNet's inverted residuals: expand, depthwise, project, add; then one with stride 2."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Standardize()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.first = self._block(4, 4, 1)
        self.second = self._block(4, 6, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(6, 5)

    @staticmethod
    def _block(inputs: int, outputs: int, stride: int) -> torch_nn.Module:
        return nn.Sequential(
            nn.Conv2d(inputs, 12, 1),
            nn.ReLU6(),
            nn.Conv2d(12, 12, 3, stride=stride, padding=1, groups=12),
            nn.ReLU6(),
            nn.Conv2d(12, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(self.start(x)))
        x = x + self.first(x)
        return self.head(self.pool(self.second(x)).flatten(1))


@pytest.mark.parametrize("scheme", Scheme)
def test_mobile_network_has_the_same_bits_everywhere(scheme: Scheme) -> None:
    torch.manual_seed(0)
    graph = assert_same_bits(Inverted(), (3, 12, 11), scheme)
    assert [node.op for node in graph.nodes].count("depthwise_conv2d") == 2
