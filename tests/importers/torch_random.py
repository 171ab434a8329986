"""Random networks of torch for quantisers, from a seed: some values are left real in between."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGE = (4, 5, 6)
STEPS = 6
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "clamp": lambda x: x.clamp(-0.7, 0.9),
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
    "mish": F.mish,
    "elu": F.elu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softmax": lambda x: x.softmax(1),
    "average": lambda x: F.avg_pool2d(x, 3, 1, 1),
    "largest": lambda x: F.max_pool2d(x, 3, 1, 1),
    "pad": lambda x: F.pad(x, (1, 0, 0, 1), value=0.37)[:, :, 1:, :-1],
    "flip": lambda x: x.flip(1),
    "permute": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "reshape": lambda x: x.view(1, 2, 2, 5, 6).transpose(1, 2).contiguous().view(1, 4, 5, 6),
    "halves": lambda x: torch.cat([x[:, 2:], x[:, :2]], 1),
    "chunks": lambda x: torch.cat(list(x.chunk(2, 1))[::-1], 1),
    "centred": lambda x: x - x.mean((2, 3), keepdim=True),
    "pooled": lambda x: x + F.adaptive_avg_pool2d(x, 1),
    "rows": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "sum": lambda x: x * 0.5 + x.sum(2, keepdim=True) * 0.25,
    "number": lambda x: x + 0.3,
    "factor": lambda x: x * -0.4,
}
PAIRS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "cat": lambda a, b: torch.cat([a[:, 1:3], b[:, :2]], 1),
    "stack": lambda a, b: torch.stack([a, b], 2).amax(2),
    "add and relu": lambda a, b: F.relu(a + b),
}
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Conv2d(4, 4, 3, padding=1),
    "pointwise": lambda: nn.Conv2d(4, 4, 1),
    "depthwise": lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4),
    "conv and relu": lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()),
    "conv and hardswish": lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.Hardswish()),
    "conv and norm": lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
    "transposed": lambda: nn.ConvTranspose2d(4, 4, 3, padding=1),
    "linear": lambda: nn.Linear(6, 6),
}
FINAL = {
    "none": lambda: nn.Identity(),
    "conv": lambda: nn.Conv2d(4, 3, 1),
    "classes": lambda: nn.Sequential(nn.Flatten(), nn.Linear(120, 3)),
}


class RandomNet(nn.Module):
    """Up to `STEPS` operators on values of one shape; `operators` says which, in order."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        self.layers = nn.ModuleDict()
        self.plan: list[tuple[str, tuple[int, ...]]] = []
        names = ([*LAYERS] * 3, [*FUNCTIONS], [*PAIRS] * 2)
        for step in range(STEPS):
            pool = names[int(rng.choice(3, p=(0.4, 0.35, 0.25)))]
            name = pool[int(rng.integers(len(pool)))]
            # The newest value most of the time: what is left behind has several readers.
            first = step if rng.random() < 0.7 else int(rng.integers(step + 1))
            self.plan.append((name, (first, int(rng.integers(step + 1)))))
            if name in LAYERS:
                self.layers[str(step)] = LAYERS[name]()
        used, alive = {STEPS}, []
        for step in reversed(range(STEPS)):  # quantisers fail on what nothing reads
            name, (a, b) = self.plan[step]
            if step + 1 in used:
                alive.append(step)
                used |= {a, b} if name in PAIRS else {a}
        self.alive = alive[::-1]
        self.final = FINAL[[*FINAL][int(rng.integers(len(FINAL)))]]()

    @property
    def operators(self) -> list[str]:
        """Return what is computed, in order."""
        return [self.plan[step][0] for step in self.alive]

    def forward(self, x: Tensor) -> Tensor:
        values = {0: x}
        for step in self.alive:
            name, (a, b) = self.plan[step]
            if name in LAYERS:
                values[step + 1] = self.layers[str(step)](values[a])
            elif name in PAIRS:
                values[step + 1] = PAIRS[name](values[a], values[b])
            else:
                values[step + 1] = FUNCTIONS[name](values[a])
        result: Tensor = self.final(values[STEPS])
        return result
