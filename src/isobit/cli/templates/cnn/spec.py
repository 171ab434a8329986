"""The network that the chip runs. Edit it, then ask `isobit check spec.py` what it needs."""

import isobit
from isobit import nn

net = nn.Sequential(
    nn.Standardize(),  # integer mean, power-of-two scale: a subtraction and a shift on the chip
    nn.Conv2d(1, 8, 3, padding=1),
    nn.BatchNorm2d(8),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(8, 16, 3, padding=1),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(64, 10),
)
model = isobit.Model(net, input=(1, 8, 8), target="cortex-m4", scheme="affine", name="digits")
