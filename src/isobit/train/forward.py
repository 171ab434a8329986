"""One step of a twin's forward: which of the ways to compute it is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from isobit.core.torch_sums import NOTHING, Between
from isobit.ops.dynamic import DynamicOp
from isobit.ops.weighted import WeightedInputs, WeightedOp
from isobit.train import norm_training
from isobit.train.numbers import Numbers
from isobit.train.steps import Step

if TYPE_CHECKING:
    from isobit.train.twin import Twin


@dataclass(frozen=True, slots=True)
class How:
    """What a step does beside its own arithmetic.

    last: the step whose output is wanted: the one behind it where that selects among its values. It
    then selects among its sums (`between`) before they are requantised, which is the same and less
    work. this: of a training forward.
    """

    last: Step
    between: Between = NOTHING
    this: norm_training.Pass | None = None


def run_step(
    twin: Twin, step: Step, numbers: Numbers, values: dict[str, Tensor], how: How | None = None
) -> None:
    """Add the outputs of a step, and only those of `how.last`, to `values`: carriers, channels
    last.
    """
    how = how or How(step)
    this = how.this
    if step.norm is not None and this is not None:
        if issubclass(step.op, DynamicOp):
            both = norm_training.run_dynamic(step, values, this)
            values.update(zip((value.name for value in step.outputs), both, strict=True))
            return
        values[how.last.name] = norm_training.run(step, values, how.between, this)
        return
    inputs = twin.operands(step, numbers, values, {} if this is None else this.w)
    attrs, q = numbers.attrs[step.name], numbers.around(step)
    if issubclass(step.op, WeightedOp) and len(step.outputs) == 1:
        assert isinstance(inputs, WeightedInputs)
        values[how.last.name] = step.op.surrogate(attrs, q, inputs, how.between)
        return
    result = step.op.surrogate(attrs, q, inputs)
    results = result if isinstance(result, tuple) else (result,)
    for value, tensor in zip(step.outputs, results, strict=True):
        values[value.name] = tensor
