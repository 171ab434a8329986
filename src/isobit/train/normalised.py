"""The batch norm of a step: its parameters, its statistics, and what it makes of the weights.

Free functions over a `Twin`, as `export` is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isobit.ops.schemes import Scheme
from isobit.train import channels
from isobit.train.builder import place_of
from isobit.train.numbers import Numbers
from isobit.train.steps import Step

if TYPE_CHECKING:
    from isobit.train.twin import Twin


def weight_factor(twin: Twin, step: Step) -> Tensor:
    """Return what multiplies the weights before they are quantised, per output channel.

    gamma / sigma in `pow2`, the sign of gamma in `affine`.
    """
    assert step.norm is not None
    if twin.scheme is Scheme.POW2:
        return slope(twin, step)
    gamma = twin.parameter(step.norm.gamma).detach()
    return torch.where(gamma < 0, -1.0, 1.0)


def slope(twin: Twin, step: Step) -> Tensor:
    """Return gamma / sigma of the running statistics [C]."""
    assert step.norm is not None
    own = step.norm
    return twin.parameter(own.gamma) / (twin.parameter(own.var) + own.eps).sqrt()


def learned(twin: Twin, step: Step) -> channels.Affine:
    """Return gamma, beta and the layer's own bias."""
    assert step.norm is not None
    inputs: Any = step.inputs
    gamma, beta = twin.parameter(step.norm.gamma), twin.parameter(step.norm.beta)
    bias = torch.zeros_like(beta) if inputs.b is None else twin.parameter(inputs.b)
    return channels.Affine(gamma, beta, bias, step.norm.eps)


def running(twin: Twin, step: Step) -> channels.Statistics:
    """Return the running statistics; on the CPU they move with the module's."""
    assert step.norm is not None
    mean, var = twin.parameter(step.norm.mean), twin.parameter(step.norm.var)
    return channels.Statistics(channels.host(mean), channels.host(var))


def module(twin: Twin, step: Step) -> Any:
    """Return the user's batch-norm module."""
    assert step.norm is not None
    return place_of(twin.net, twin.traced.bindings[step.norm.mean].path)[0]


def folded(twin: Twin, step: Step, numbers: Numbers) -> channels.Folded:
    """Return the frozen multiplier, shift and bias of an `affine` batch norm, from its running
    statistics.
    """
    sizes, y_step = numbers.sum_step(step), numbers.step_of(step.name)
    own = channels.gains(learned(twin, step).arrays, sizes, y_step)
    return channels.fold(own, running(twin, step))
