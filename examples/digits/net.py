"""The digits' network: three small convolutions on images of 8x8 pixels."""

import isobit
from isobit import nn

net = nn.Sequential(
    nn.Standardize(),  # mean and power-of-two scale, in integers on the chip
    nn.Conv2d(1, 16, 3, padding=1, bias=False),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.Conv2d(16, 24, 3, padding=1, bias=False),
    nn.BatchNorm2d(24),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(24, 32, 3, padding=1, bias=False),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(32 * 2 * 2, 10),
)
model = isobit.Model(net, input=(1, 8, 8), target="cortex-m4", scheme="affine", name="digits")
