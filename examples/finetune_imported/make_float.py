"""The float model that comes from elsewhere: plain PyTorch, trained on the digits, written as ONNX.

python make_float.py [EPOCHS]; writes build/float.onnx, which takes raw pixels [N, 1, 8, 8].
"""

import sys
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F

from isobit import data  # only the images


class Net(torch.nn.Module):
    """Two convolutions with batch norms and a classifier, on pixels 0..16 scaled to 0..1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm1 = torch.nn.BatchNorm2d(8)
        self.conv2 = torch.nn.Conv2d(8, 16, 3, padding=1, bias=False)
        self.norm2 = torch.nn.BatchNorm2d(16)
        self.classifier = torch.nn.Linear(16 * 2 * 2, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [N, 10] of raw pixels [N, 1, 8, 8]."""
        x = x / 16  # inside the network, so that the file takes what the camera gives
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        return self.classifier(torch.flatten(x, 1))


epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
torch.manual_seed(0)
train, test = data.load("digits")
x, y = torch.from_numpy(train.nchw()).float(), torch.from_numpy(train.labels)
net = Net()
optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
for _ in range(epochs):
    for index in torch.randperm(len(x)).split(64):
        loss = F.cross_entropy(net(x[index]), y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

net.eval()
with torch.no_grad():
    classes = net(torch.from_numpy(test.nchw()).float()).argmax(1)
right = (classes == torch.from_numpy(test.labels)).double().mean()
print(f"{right:.2%} of {len(test)} test images, in float")

Path("build").mkdir(exist_ok=True)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says that it is the older of torch's two exporters
    # The newer one needs onnxscript, which isobit does not install.
    names = {"input_names": ["image"], "output_names": ["logits"]}
    torch.onnx.export(net, (x[:1],), "build/float.onnx", dynamo=False, **names)
print("build/float.onnx")
