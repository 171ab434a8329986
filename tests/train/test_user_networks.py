"""Networks as a plain torch user writes them, with the layers of `isobit.nn`: the same integers in
torch and in the golden model, in both schemes, trained and exported.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from isobit import nn
from isobit.ops.schemes import Scheme

from .nets import SCHEMES, assert_equals_export, digits, make_twin, take_steps


class BasicBlock(nn.Module):
    """He et al. 2016, with the projection of option B."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = self.shortcut(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return F.relu(out)


class ResNet8(nn.Module):
    """Three stages of one block, as in MLPerf Tiny."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.layers = nn.Sequential(BasicBlock(4, 4), BasicBlock(4, 6, 2), BasicBlock(6, 8, 2))
        self.fc = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.stem(x)))
        x = self.layers(x)
        x = F.adaptive_avg_pool2d(x, 1)
        x = x.view(x.size(0), -1)
        y: Tensor = self.fc(x)
        return y


class DSCNN(nn.Module):
    """Zhang et al. 2017: depthwise separable convolutions, dropout, average pool."""

    def __init__(self, classes: int = 10, width: int = 6, depth: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, (5, 3), stride=(2, 1), padding=(2, 1)),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(0.2)
        blocks = []
        for _ in range(depth):
            blocks += [
                nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AvgPool2d((4, 8))
        self.head = nn.Linear(width, classes)

    def forward(self, features: Tensor) -> Tensor:
        x = self.dropout(self.stem(features))
        x = self.pool(self.blocks(x))
        y: Tensor = self.head(x.flatten(1))
        return y


class InvertedResidual(nn.Module):
    """Sandler et al. 2018."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        layers: list[torch.nn.Module] = []
        if expand != 1:
            layers += [
                nn.Conv2d(inputs, hidden, 1, bias=False),
                nn.BatchNorm2d(hidden),
                nn.ReLU6(inplace=True),
            ]
        layers += [
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.use_res_connect = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        if self.use_res_connect:
            y: Tensor = x + self.conv(x)
            return y
        z: Tensor = self.conv(x)
        return z


class MobileNetV2(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, 1, 1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU6(inplace=True),
            InvertedResidual(4, 4, 1, 1),
            InvertedResidual(4, 6, 2, 3),
            InvertedResidual(6, 6, 1, 3),
            nn.Conv2d(6, 12, 1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU6(inplace=True),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(12, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = x.mean([2, 3])
        y: Tensor = self.classifier(x)
        return y


class SqueezeExcitation(nn.Module):
    """Howard et al. 2019: a hard sigmoid of the channels' means scales the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, 4, 1)
        self.fc2 = nn.Conv2d(4, channels, 1)
        self.activation = nn.ReLU()
        self.scale_activation = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale = F.adaptive_avg_pool2d(x, output_size=1)
        scale = self.activation(self.fc1(scale))
        scale = self.scale_activation(self.fc2(scale))
        return scale * x


class LinearSqueezeExcitation(nn.Module):
    """The other common spelling: linear layers and two views."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, 4, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(4, channels, bias=False),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        y = self.avg_pool(x).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return x * y


class MobileNetV3(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 6, 3, 1, 1, bias=False), nn.BatchNorm2d(6), nn.Hardswish(inplace=True)
        )
        self.depthwise = nn.Conv2d(6, 6, 5, 2, 2, groups=6, bias=False)
        self.bn = nn.BatchNorm2d(6)
        self.se1, self.se2 = SqueezeExcitation(6), LinearSqueezeExcitation(6)
        self.project = nn.Sequential(nn.Conv2d(6, 6, 1, bias=False), nn.BatchNorm2d(6))
        self.classifier = nn.Sequential(
            nn.Linear(6, 12),
            nn.Hardswish(),
            nn.Dropout(p=0.2, inplace=True),
            nn.Linear(12, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.se1(F.hardswish(self.bn(self.depthwise(x))))
        x = self.se2(self.project(x) + x)
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        y: Tensor = self.classifier(x)
        return y


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.value)
@pytest.mark.parametrize("network", [ResNet8, DSCNN, MobileNetV2, MobileNetV3])
def test_plain_torch_code_has_the_same_bits(
    network: Callable[[], torch.nn.Module], scheme: Scheme
) -> None:
    torch.manual_seed(4)
    net = network()
    twin = make_twin(net, scheme)
    take_steps(twin, 2, rate=0.02)
    twin.update_ranges()
    twin.eval()
    x, _ = digits(24, start=500)
    assert_equals_export(twin, x, twin.trace(x))
    with torch.no_grad():
        want, got = net.eval()(x), twin(x)
    assert got.shape == want.shape
    # Rounding of a dozen 8-bit layers; another order of features or a lost layer is far off.
    assert (got - want).abs().mean() < 0.2 * want.std()
