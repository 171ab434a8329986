"""Ranges of activations and weights: observed as moving statistics, frozen between updates.

This is the quantisation block of KANJI (moving min/max of what flows, a step derived from it,
frozen for some steps), with three ways to turn observations into a range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
import torch.distributed as dist
from torch import Tensor, nn

from isobit.core.arguments import Arguments
from isobit.core.dtypes import DType
from isobit.core.types import Encoding, TensorType, scale_of
from isobit.ops.schemes import Scheme, activation, wide_activation
from isobit.train.ste import quantize_real


class RangeMethod(Enum):
    """How a range follows from what was observed."""

    MINMAX = "minmax"
    """The moving minimum and maximum."""
    PERCENTILE = "percentile"
    """Cut the outermost 0.01 % of the observed values on each side."""
    MSE = "mse"
    """The range, among shrunken ones, whose quantisation error is smallest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeOptions:
    """When and how ranges follow what is observed.

    method: a `RangeMethod` or its name. momentum: weight of a new batch in the moving range, above
    0 and at most 1. update_every: training steps a range stays frozen, observe_every: training
    steps from one observed batch to the next, both at least 1. tail: fraction of the values that
    `PERCENTILE` cuts on each side, above 0 and below 0.5. Raises `BadArgument` for every wrong one.
    """

    method: RangeMethod | str = RangeMethod.MINMAX
    momentum: float = 0.1
    update_every: int = 10
    observe_every: int = 10
    tail: float = 1e-4

    def __post_init__(self) -> None:
        given = Arguments("RangeOptions")
        found = {
            "method": given.member("method", self.method, RangeMethod),
            "momentum": given.number("momentum", self.momentum, above=0, at_most=1),
            "update_every": given.integer("update_every", self.update_every, at_least=1),
            "observe_every": given.integer("observe_every", self.observe_every, at_least=1),
            "tail": given.number("tail", self.tail, above=0, below=0.5),
        }
        given.check()
        for name, value in found.items():
            object.__setattr__(self, name, value)  # frozen for everyone else


Restore = Callable[[Tensor, Tensor, Tensor], Tensor]
"""What is left of values (float64) after codes of the range (low, high)."""


def in_steps(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """`Restore` of 255 steps from low to high, which `affine` moves by less than a step."""
    step = ((high - low) / 255).clamp_min(1e-30)
    return ((values.clamp(low, high) - low) / step).round() * step + low


def in_powers(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """`Restore` of `pow2`."""
    return _in_codes(values, DType.S8, activation(Scheme.POW2, float(low), float(high)))


def in_wide_codes(scheme: Scheme, values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """`Restore` of 16 bits."""
    return _in_codes(values, DType.S16, wide_activation(scheme, float(low), float(high)))


def _in_codes(values: Tensor, carrier: DType, encoding: Encoding) -> Tensor:
    kind = TensorType((), carrier, encoding)
    return (quantize_real(values, kind) - kind.zero) * float(scale_of(encoding)[0])


class RangeObserver(nn.Module):
    """Moving range of one tensor, in real units, and the frozen copy that encodings are made
    from. restore: of `RangeMethod.MSE`, whose error is that of these codes.
    """

    low: Tensor
    high: Tensor
    seen: Tensor
    frozen_low: Tensor
    frozen_high: Tensor
    frozen: Tensor

    def __init__(self, options: RangeOptions, restore: Restore = in_steps) -> None:
        super().__init__()
        self.options = options
        self.restore = restore
        for name, start in (("low", -1.0), ("high", 1.0)):
            self.register_buffer(name, torch.tensor(start, dtype=torch.float64))
            self.register_buffer(f"frozen_{name}", torch.tensor(start, dtype=torch.float64))
        for name in ("seen", "frozen"):
            self.register_buffer(name, torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def freeze(self) -> None:
        """Make what was observed so far the range in force; without observations nothing
        changes.
        """
        if bool(self.seen):
            self.frozen_low.copy_(self.low)
            self.frozen_high.copy_(self.high)
            self.frozen.fill_(True)

    @torch.no_grad()
    def forget(self) -> None:
        """Let the next batch replace the moving range; the one in force stays."""
        self.seen.fill_(False)

    @torch.no_grad()
    def observe(
        self, values: Tensor, scale: float, *, freeze: bool = False, holds: Sequence[float] = ()
    ) -> None:
        """Take `values * scale` (scale > 0) into the moving range.

        `freeze`: a range that was never frozen is frozen now. `holds`: real numbers that the range
        must have whatever the method. With several processes all see the widest range.
        """
        low, high = self._batch_range(values, scale)
        if holds:
            low, high = low.clamp(max=min(holds)), high.clamp(min=max(holds))
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(low, dist.ReduceOp.MIN)
            dist.all_reduce(high, dist.ReduceOp.MAX)
        low, high = low.to(self.low), high.to(self.high)
        if bool(
            self.seen
        ):  # a range grows at once and shrinks slowly: clipped values cannot be learned from
            low = torch.minimum(low, self.low.lerp(low, self.options.momentum))
            high = torch.maximum(high, self.high.lerp(high, self.options.momentum))
        self.low.copy_(low)
        self.high.copy_(high)
        self.seen.fill_(True)
        if freeze and not bool(self.frozen):
            self.freeze()

    def _batch_range(self, values: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        if self.options.method is RangeMethod.PERCENTILE:
            flat = values.detach().flatten()
            rank = max(1, round(flat.numel() * self.options.tail))
            low = flat.kthvalue(rank).values
            high = flat.kthvalue(flat.numel() - rank + 1).values
        else:
            low, high = torch.aminmax(values.detach())
        if self.options.method is RangeMethod.MSE:
            low, high = _least_error(values.detach(), low, high, self.restore)
        return low.double() * scale, high.double() * scale


def _least_error(
    values: Tensor, low: Tensor, high: Tensor, restore: Restore
) -> tuple[Tensor, Tensor]:
    """Try shrinking the range in steps of 5 % down to 40 %; O(13 n)."""
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        return low, high  # of training that diverged, which the caller says
    sample = values.flatten()[:: max(1, values.numel() // 65536)].double()
    best, result = None, (low, high)
    for percent in range(100, 35, -5):
        a, b = low.double() * percent / 100, high.double() * percent / 100
        error = (restore(sample, a, b) - sample).square().mean()
        if best is None or error < best:
            best, result = error, (a, b)
    return result
