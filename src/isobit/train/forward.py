"""One step of a twin's forward: which of the ways to compute it is taken."""

from __future__ import annotations

from collections.abc import Iterable
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


@dataclass(frozen=True, slots=True)
class Mode:
    """How a whole forward runs.

    training: dropouts act, and batch norms in training mode move. pooling: leave out values that
    only a pool reads, and pool before requantising: the same, and less work. observing: take what
    flows into the moving ranges, which stay as they are for this run. keep: values that are wanted;
    others go when nothing reads them any more.
    """

    training: bool = False
    pooling: bool = False
    observing: bool = False
    keep: tuple[str, ...] | None = None

    def drop(self, values: dict[str, Tensor], names: Iterable[str]) -> None:
        """Drop values that nothing reads any more, unless they are wanted."""
        if self.keep is not None:
            for name in names:
                if name not in self.keep:
                    values.pop(name, None)


PLAIN = Mode()


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
