"""Bias correction: what rounding the weights shifts on average goes back into the bias.

Rounding errors of one output channel's weights do not average out over inputs whose mean is not 0,
so the quantised layer is off by a constant on top of noise. The constant is measured on calibration
data, against the float network, layer by layer: each layer sees the integers that the corrected
layers before it compute (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and
Bias Correction", appendix D, empirical bias correction).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isobit.core.types import AnyArray, FloatArray
from isobit.ops.weighted import WeightedOp
from isobit.train.calibration import last_readers, real_output, require_filled
from isobit.train.guards import raw_values
from isobit.train.numbers import NumberBuilder
from isobit.train.ranges import RangeObserver
from isobit.train.steps import Step

if TYPE_CHECKING:
    from isobit.train.twin import Twin


@torch.no_grad()
def correct_biases(twin: Twin, x: Tensor | AnyArray, means: Mapping[str, FloatArray]) -> None:
    """Move every bias by the mean error of its channel, and set all ranges anew.

    x: raw values [N, *input]. means: by step name the mean of every output channel [C] in the float
    network, real units, before any activation. The twin has ranges already.

    A layer is corrected twice: before its range is set, so that the range is that of corrected
    values, and after it, because in `affine` the range decides the weights' grid and with it their
    rounding.
    """
    for observer in twin.observers.values():
        assert isinstance(observer, RangeObserver)
        observer.forget()
    build = NumberBuilder(twin, twin.numbers.finest if twin.ties else None)
    (source,) = twin.traced.graph.inputs
    raw = raw_values(twin, x)
    numbers = twin.filled
    _observe(twin, source.name, raw, numbers)
    build.input()
    values = {source.name: twin.carriers(raw, build.numbers.types[source.name])}
    values.update(twin.stored_carriers(build.numbers, len(raw)))
    dead = last_readers(twin.steps)
    for step in twin.steps:
        wanted = means.get(step.name) if _bias(twin, step) is not None else None
        if twin.observer(step.name) is not None:
            real = real_output(twin, step, build, values)
            if wanted is not None:
                real = real + _correct(twin, step, real, wanted)
            _observe(twin, step.name, real.clamp(step.low, step.high), numbers)
        build.decide(step)
        if wanted is not None:
            operands: Any = twin.operands(step, build.numbers, values)
            real = step.op.estimate(step.attrs, build.numbers.around(step), operands)
            _correct(twin, step, real, wanted)
        twin.run_step(step, build.numbers, values)
        for name in dead.get(step.name, ()):
            values.pop(name, None)
    twin.update_ranges()
    require_filled(twin)


def _observe(twin: Twin, name: str, real: Tensor, numbers: Mapping[str, Sequence[float]]) -> None:
    observer = twin.observer(name)
    if observer is not None:
        observer.observe(real, 1.0, holds=numbers.get(name, ()))
        observer.freeze()


def _bias(twin: Twin, step: Step) -> Tensor | None:
    """Return the parameter behind a step's bias, `None` where it has none of its own."""
    if not issubclass(step.op, WeightedOp) or step.norm is not None:
        return None
    inputs: Any = step.inputs
    return None if inputs.b is None else twin.parameter(inputs.b)


def _correct(twin: Twin, step: Step, real: Tensor, wanted: FloatArray) -> Tensor:
    """Add the mean error of `real` [N,...,C] to the bias; return it, float32 [C]."""
    bias = _bias(twin, step)
    assert bias is not None
    own = real.reshape(-1, real.shape[-1]).double().mean(0)
    error = (torch.as_tensor(wanted, device=real.device) - own).float()
    bias += error
    return error
