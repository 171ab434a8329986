"""One convolution on the digits, 8x8 pixels."""

import isobit
from isobit import nn

net = nn.Sequential(
    nn.Standardize(),  # raw pixels in; mean and power-of-two scale, in integers on the chip
    nn.Conv2d(1, 16, 3, padding=1, bias=False),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(16 * 4 * 4, 10),
)
model = isobit.Model(net, input=(1, 8, 8), target="cortex-m4", scheme="affine", name="digits")
