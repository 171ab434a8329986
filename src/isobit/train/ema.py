"""A moving average of the weights: what is exported need not be the last step's.

After update number n, counted from 1, with weights w:

    a = d a + (1 - d) w,   d = min(decay, (1 + n) / (10 + n))

so that the average forgets the initial weights in short runs too, where decay^n would not (the
schedule of TensorFlow's ExponentialMovingAverage). Averages of weights: Polyak and Juditsky, 1992.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from isobit.core.arguments import Arguments
from isobit.core.errors import BadCheckpoint
from isobit.train.twin import Twin


class Ema:
    """The averaged float32 weights of a module, beside it.

    Only parameters that want a gradient are averaged. Everything else in a module is not averaged
    but used as it is when the average is: observed ranges and batch-norm statistics move with
    averages of their own already, and flags and counters have no mean. The largest weight per
    channel, which weights are quantised by, is taken anew from the averaged weights.

    decay: in (0, 1). Raises `BadArgument`.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        given = Arguments("Ema")
        self.decay = given.number("decay", decay, above=0, below=1)
        self.updates = 0
        self.weights: dict[str, Tensor] = {}
        if given.instance("module", module, nn.Module, "a torch module"):
            self.weights = {name: p.detach().clone() for name, p in _trained(module).items()}
            if not self.weights:
                given.refuse("module", "parameters to train", "none that requires a gradient")
        given.check()

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the weights after a step into the average. The module is not changed."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        own = _trained(module)
        current = [own[name].detach() for name in self.weights]
        get_ema_multi_avg_fn(decay)(list(self.weights.values()), current, self.updates)  # type: ignore[no-untyped-call]  # torch's

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Make the average the weights of the module, for good.

        A twin's weight ranges follow, as `update_ranges` does it; its activations keep the ranges
        that were observed.
        """
        own = _trained(module)
        for name, average in self.weights.items():
            own[name].copy_(average)
        if isinstance(module, Twin) and not module.missing_ranges():
            module.update_ranges()

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Let the module have the average inside the block, e.g. to validate, and afterwards every
        bit of its state that it had before.
        """
        before = {name: value.clone() for name, value in module.state_dict().items()}
        try:
            self.copy_to(module)
            yield
        finally:
            module.load_state_dict(before)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes: numbers and tensors only, no copies."""
        return {"decay": self.decay, "updates": self.updates, "weights": dict(self.weights)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the state of another `Ema` of the same module and decay.

        Raises `BadCheckpoint` where it is not; then nothing was changed.
        """
        shapes = {name: tuple(w.shape) for name, w in self.weights.items()}
        stored = state.get("weights", {})
        other = {name: tuple(w.shape) for name, w in stored.items()}
        if state.get("decay") != self.decay or shapes != other:
            different = sorted(
                n for n in shapes.keys() | other.keys() if shapes.get(n) != other.get(n)
            )
            raise BadCheckpoint(
                where="Ema",
                what="average of the weights",
                want=f"one with decay {self.decay} of this network",
                got=f"decay {state.get('decay')}, other weights: {', '.join(different) or 'none'}",
                fix="Resume with the same recipe, or start without resume.",
            )
        self.updates = int(state["updates"])
        for name, weight in self.weights.items():
            weight.copy_(stored[name])


def _trained(module: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}
