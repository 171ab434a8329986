"""What a classifier says of examples, and how often it is right."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from isobit.core.arguments import Arguments, shown
from isobit.core.types import AnyArray
from isobit.train.examples import (
    Examples,
    check_classes,
    device_of,
    evaluating,
    read_examples,
)
from isobit.train.guards import as_reals
from isobit.train.twin import Twin

AT_ONCE = 256
"""Examples of one forward pass: bounds memory, changes nothing."""
MODULE = "an isobit.Model or another torch module"


class Scores(nn.Module):
    """What cross entropy takes, of a module: what its forward returns, as in torch.

    Classifiers of other tools end in a softmax: a second one inside the loss would hardly train, so
    of an imported network these are what goes into it. exact: whether a twin computes its integers,
    or as the float network that it was made of.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.exact = True

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, classes] of raw values x [N, *input]."""
        if isinstance(self.model, Twin) and not self.exact:
            scores = self.model.net(x)
        elif isinstance(self.model, Twin) and self.model.channels_last:
            scores = self.model.logits(x)
        else:
            scores = self.model(x)
        assert isinstance(scores, Tensor)  # check_classes asked for one output
        return scores


def predict(model: nn.Module, x: Tensor | AnyArray, batch_size: int = AT_ONCE) -> Tensor:
    """Return the arg-max class of every example of x [N, *input], in eval mode, without gradients.

    batch_size: at least 1. Raises `BadArgument`, `BadRunInput`.
    """
    given = Arguments("predict")
    values = None
    if given.instance("model", model, nn.Module, MODULE):
        values = as_reals(x, device_of(model))
    batch_size = given.integer("batch_size", batch_size, at_least=1)
    if values is None or values.dim() == 0 or len(values) == 0:
        given.refuse("x", "a tensor or NumPy array [N, *input] of real numbers, N > 0", shown(x))
        values = torch.zeros(0)
    given.check()
    return classes(model, values, batch_size)


def accuracy(model: nn.Module, examples: Examples) -> float:
    """Return the fraction of examples classified right. Raises `BadArgument`, `BadRunInput`."""
    given = Arguments("accuracy")
    x, y = torch.zeros(0), torch.zeros(0)
    if given.instance("model", model, nn.Module, MODULE):
        x, y = read_examples(given, "examples", examples, model)
        check_classes(given, model, {"examples": (x, y)})
    given.check()
    return float((classes(model, x) == y).double().mean())


def classes(model: nn.Module, x: Tensor, batch_size: int = AT_ONCE) -> Tensor:
    """Return what `predict` returns, of checked arguments."""
    with torch.no_grad(), evaluating(model):
        parts = [model(x[i : i + batch_size]).argmax(1) for i in range(0, len(x), batch_size)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64, device=x.device)
