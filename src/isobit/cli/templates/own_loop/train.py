"""Train with a loop of your own: an `isobit.Model` is a `torch.nn.Module`. `python train.py
[EPOCHS]`.
"""

import sys

import torch
import torch.nn.functional as F

import isobit
from isobit import nn

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
torch.manual_seed(0)
train, test = isobit.data.load("digits")
x, y = torch.from_numpy(train.nchw()), torch.from_numpy(train.labels)

net = nn.Sequential(
    nn.Standardize(),
    nn.Conv2d(1, 8, 3, padding=1),
    nn.BatchNorm2d(8),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(128, 10),
)
model = isobit.Model(net, input=(1, 8, 8), target="cortex-m4", scheme="affine", name="digits")
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

for epoch in range(epochs):
    model.train()
    model.freeze(0 < epoch == epochs - 1)  # the last epoch trains the exported integers
    order = torch.randperm(len(x))
    for start in range(0, len(x), 64):
        batch = order[start : start + 64]
        loss = F.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's backward is untyped
        optimizer.step()
    model.eval()
    with torch.no_grad():
        right = model(torch.from_numpy(test.nchw())).argmax(1) == torch.from_numpy(test.labels)
    print(
        f"epoch {epoch + 1}: {right.double().mean():.2%} on the test images, in the chip's integers"
    )

model.save("m.isobit")
