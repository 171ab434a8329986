"""A training loop of your own: `model` is a torch.nn.Module. `python train.py [EPOCHS]`."""

import sys

import torch
import torch.nn.functional as F

from isobit import data

torch.manual_seed(0)
from net import model  # noqa: E402  # importing it draws the first weights, after the seed

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
train, test = data.load("digits")
x, y = torch.from_numpy(train.nchw()), torch.from_numpy(train.labels)
images, labels = torch.from_numpy(test.nchw()), torch.from_numpy(test.labels)
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
for epoch in range(epochs):
    model.train()
    model.freeze(0 < epoch == epochs - 1)  # the last trains the exported integers
    for index in torch.randperm(len(x)).split(64):
        loss = F.cross_entropy(model(x[index]), y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        right = (model(images).argmax(1) == labels).double().mean()
    print(f"epoch {epoch + 1}: {right:.2%} of the test images, in the chip's integers")
model.deploy("build/digits", samples=images[:20])  # with torch's values, to be compared as well
