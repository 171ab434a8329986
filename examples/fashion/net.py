"""Three convolutions, one depthwise, batch norms, a residual add: for images of 28x28 pixels."""

import torch
from torch import Tensor

import isobit
from isobit import nn


class Net(nn.Module):
    """A network with a `forward` of its own: what it says is traced and becomes the C."""

    def __init__(self) -> None:
        super().__init__()
        self.standardize = nn.Standardize()  # mean and power-of-two scale, in integers on the chip
        self.stem = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(16)
        self.wide = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.wide_norm = nn.BatchNorm2d(32)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(32)
        self.pointwise = nn.Conv2d(32, 32, 1, bias=False)
        self.pointwise_norm = nn.BatchNorm2d(32)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(32 * 7 * 7, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, 10] of raw pixels [N, 1, 28, 28]."""
        x = self.standardize(x)
        x = self.pool(self.relu(self.stem_norm(self.stem(x))))
        x = self.pool(self.relu(self.wide_norm(self.wide(x))))
        branch = self.relu(self.depthwise_norm(self.depthwise(x)))
        x = self.relu(x + self.pointwise_norm(self.pointwise(branch)))
        return self.classifier(self.flatten(x))


net = Net().to(memory_format=torch.channels_last)
model = isobit.Model(net, input=(1, 28, 28), target="cortex-m4", scheme="affine", name="fashion")
