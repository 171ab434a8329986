"""The CIFAR-10 network of CMSIS-NN (Lai et al. 2018, arXiv 1801.06601, table 2): 32-32-64."""

import isobit
from isobit import nn
from isobit.train.ranges import RangeOptions

net = nn.Sequential(
    nn.Standardize(),  # mean and power-of-two scale, in integers on the chip
    nn.Conv2d(3, 32, 5, padding=2),
    nn.MaxPool2d(3, 2, ceil_mode=True),
    nn.ReLU(),
    nn.Conv2d(32, 32, 5, padding=2),
    nn.ReLU(),
    nn.MaxPool2d(3, 2, ceil_mode=True),
    nn.Conv2d(32, 64, 5, padding=2),
    nn.ReLU(),
    nn.MaxPool2d(3, 2, ceil_mode=True),
    nn.Flatten(),
    nn.Linear(64 * 4 * 4, 10),
)
model = isobit.Model(
    net,
    input=(3, 32, 32),
    target="nucleo-l4r5zi",
    scheme="affine",
    name="cifar10",
    ranges=RangeOptions(method="mse"),  # finer steps, which clip a little: pow2 gains most
)
