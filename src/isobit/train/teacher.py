"""A network that another one learns from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from isobit.data import Dataset
from isobit.train.evaluate import Scores
from isobit.train.examples import pixels
from isobit.train.twin import Twin

SAMPLES = 512
"""Images that ranges are set from, of a teacher that has none."""


class Teacher(nn.Module):
    """A model as a teacher: its logits [N, classes], in eval mode and without gradients.

    train: images that it will see; a model without ranges takes them from the first `SAMPLES`.
    channels_last: whether the student takes images as [N, H, W, C] and not as [N, C, H, W].
    """

    def __init__(self, model: Twin, train: Dataset, *, channels_last: bool) -> None:
        super().__init__()
        if model.missing_ranges():
            images = pixels(train.subset(slice(0, SAMPLES)), model)
            model.calibrate(torch.from_numpy(images))
        self.scores = Scores(model)
        self.order: tuple[int, ...] | None = None
        if model.channels_last != channels_last:
            self.order = (0, 3, 1, 2) if channels_last else (0, 2, 3, 1)
        self.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return logits of raw values in the student's order of axes."""
        swaps = self.order is not None and x.dim() == 4
        logits: Tensor = self.scores(x.permute(*self.order) if swaps and self.order else x)
        return logits
